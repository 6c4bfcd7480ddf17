"""The set-up script, run on a copy of the project with stand-ins for pip, Ivy and Java."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]

# A Python that makes environments of itself and notes what pip is asked for. Whatever else it is
# given, the real Python runs.
_PYTHON = """#!/bin/bash
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip --version") ;;
    "-m pip install "*)
        echo "install ${*: -1}" >>"$CALLS"
        sleep "${SLEEP:-0}"
        mkdir -p "${0%/bin/python}/lib/python3.11/site-packages/pyspark-$SPARK.dist-info"
        ;;
    "-m pip download "*)
        echo "download" >>"$CALLS"
        while [ "$1" != --dest ]; do shift; done
        mkdir -p "$2" && cp "$WHEEL" "$2"
        ;;
    "-m ampel_spark.warmup") echo "compile" >>"$CALLS.kernels"; exit "${COMPILED:-0}" ;;
    "-c import os, pyspark"*) echo "$SPARK_STANDIN" ;;
    *) exec "$REAL" "$@" ;;
esac
"""

_SUBMIT = """#!/bin/bash
echo "resolve $*" >>"$CALLS"
mkdir -p jars && echo "$JAR" >jars/delta.jar
"""

_JAVA = """#!/bin/sh
echo 'openjdk version "'"${JAVA_VERSION:-17.0.1}"'"' >&2
"""


class Machine:
    """A fresh machine with a copy of the project, which notes what the set-up fetches."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "a project"
        self.venv = self.project / ".venv"
        self.share = self.venv / "share" / "ampel_spark"
        self.bin = folder / "bin"
        self._calls = folder / "calls"
        (self.project / "ampel_spark").mkdir(parents=True)
        (self.project / "conf").mkdir()
        for name in ("setup.sh", "spark-submit.sh", "setup.cfg", "pyproject.toml"):
            shutil.copy(PROJECT / name, self.project)
        for name in ("__init__", "errors", "session", "settings"):
            shutil.copy(PROJECT / "ampel_spark" / f"{name}.py", self.project / "ampel_spark")
        for name in ("ivysettings.xml", "model-data.txt"):
            shutil.copy(PROJECT / "conf" / name, self.project / "conf")
        digest = hashlib.sha256(b"a jar\n").hexdigest()
        (self.project / "conf" / "jars.sha256").write_text(f"{digest}  delta.jar\n")
        self.install("python3.11", _PYTHON)
        self.install("java", _JAVA)
        self.install("standin/bin/spark-submit", _SUBMIT)
        self.environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "HOME": str(folder),
            "REAL": sys.executable,
            "CALLS": str(self._calls),
            "SPARK": "4.1.1",
            "SPARK_STANDIN": str(self.bin / "standin"),
            "JAR": "a jar",
            "WHEEL": str(_wheel(folder)),
        }

    def install(self, name: str, script: str) -> None:
        path = self.bin / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)

    def append(self, name: str, line: str) -> None:
        path = self.project / name
        path.write_text(f"{path.read_text()}{line}\n")

    def start(self, *extras: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.project / "setup.sh"), *extras],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def set_up(self, *extras: str, **environment: str) -> tuple[int, str]:
        """Run the set-up; return its exit code and what it said."""
        process = self.start(*extras, **environment)
        out, err = process.communicate(timeout=240)
        assert out == "", "the set-up speaks on standard error only"
        return process.returncode, err

    @property
    def calls(self) -> list[str]:
        """What has been fetched so far, one word each."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [line.split()[0] for line in lines]

    @property
    def compilations(self) -> int:
        """How often the kernels have been compiled, beside what is fetched."""
        path = self._calls.with_suffix(".kernels")
        return len(path.read_text().splitlines()) if path.exists() else 0

    @property
    def last_call(self) -> str:
        return self._calls.read_text().splitlines()[-1]


def _wheel(folder: Path) -> Path:
    import zipfile

    path = folder / "models-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("models/salt3/template.dat", "models/salt3/._template.dat", "bands/.DS_Store"):
            archive.writestr(f"package/sncosmo-modelfiles/{name}", "1 2 3")
        archive.writestr("package/__init__.py", "")
    return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_first_start_sets_everything_up_and_the_second_does_nothing_at_once(
    machine: Machine,
) -> None:
    code, said = machine.set_up()

    assert code == 0, said
    steps = [line.split(" … ")[0].strip() for line in said.splitlines()]
    assert steps[0] == f"ampel_spark: setting up {machine.venv}"
    assert [step.removeprefix("ampel_spark:").strip() for step in steps[1:-1]] == [
        "environment",
        "packages",
        "jars",
        "model data",
    ]
    assert machine.calls == ["install", "resolve", "download"]
    assert machine.compilations == 1
    assert [path.name for path in (machine.share / "jars").iterdir()] == ["delta.jar"]
    models = machine.share / "sncosmo_data"
    files = [str(path.relative_to(models)) for path in models.rglob("*") if path.is_file()]
    assert files == ["models/salt3/template.dat"]

    begin = time.perf_counter()
    assert machine.set_up() == (0, "")
    assert time.perf_counter() - begin < 1.0  # 0.1 s on an idle machine
    assert len(machine.calls) == 3
    assert machine.compilations == 1


def test_kernels_that_cannot_be_compiled_stop_the_set_up_and_are_tried_again(
    machine: Machine,
) -> None:
    code, said = machine.set_up(COMPILED="1")
    assert code == 1
    assert said.endswith(
        f"could not set up the kernels; the whole log is {machine.share}/setup.log\n"
    )
    assert machine.set_up()[0] == 0
    assert machine.compilations == 2
    assert machine.calls == ["install", "resolve", "download"]


def test_extras_are_installed_once_each(machine: Machine) -> None:
    machine.set_up()
    machine.set_up("test")
    assert machine.calls == ["install", "resolve", "download", "install"]
    assert machine.last_call == f"install {machine.project}[test]"

    assert machine.set_up("test") == (0, "")
    machine.set_up("test", "dev")
    assert machine.last_call == f"install {machine.project}[dev]"


@pytest.mark.parametrize(
    ("change", "fetched"),
    [
        (lambda m: m.append("setup.cfg", "# a comment"), ["install"]),
        (lambda m: shutil.rmtree(m.share / "jars"), ["resolve"]),
        (lambda m: shutil.rmtree(m.share / "sncosmo_data"), ["download"]),
        (lambda m: shutil.rmtree(m.venv / "lib"), ["install"]),
        (lambda m: m.append("conf/model-data.txt", "# a comment"), ["download"]),
        (lambda m: shutil.rmtree(m.venv), ["install", "resolve", "download"]),
    ],
    ids=["setup.cfg", "jars lost", "models lost", "packages lost", "new models", "all lost"],
)
def test_only_what_changed_or_went_missing_is_fetched_again(
    change: Callable[[Machine], object], fetched: list[str], machine: Machine
) -> None:
    machine.set_up()
    change(machine)
    code, _ = machine.set_up()

    assert code == 0
    assert machine.calls[3:] == fetched
    assert machine.set_up() == (0, "")


def test_a_new_version_of_delta_asks_for_its_jars(machine: Machine) -> None:
    machine.set_up()
    config = machine.project / "setup.cfg"
    config.write_text(config.read_text().replace("delta-spark==4.4.0", "delta-spark==4.9.9"))
    machine.set_up()

    assert machine.calls[3:] == ["install", "resolve"]
    assert "io.delta:delta-spark_4.1_2.13:4.9.9,org.apache.spark:spark-avro_2.13:4.1.1" in (
        machine.last_call
    )


def test_own_model_data_are_taken_and_none_fetched(machine: Machine, tmp_path: Path) -> None:
    code, said = machine.set_up(SNCOSMO_DATA_DIR=str(tmp_path))
    assert code == 0
    assert "model data" not in said
    assert machine.calls == ["install", "resolve"]


def test_jars_that_are_not_the_listed_ones_stop_the_set_up(machine: Machine) -> None:
    code, said = machine.set_up(JAR="another jar")

    assert code == 1
    assert "the jars are not those of" in said
    assert said.endswith(f"could not set up the jars; the whole log is {machine.share}/setup.log\n")
    assert not (machine.share / "jars").exists()

    code, _ = machine.set_up()
    assert code == 0
    assert machine.calls == ["install", "resolve", "resolve", "download"]


def test_a_set_up_that_was_killed_half_way_is_taken_up_again(machine: Machine) -> None:
    process = machine.start(SLEEP="30")
    while not machine.calls:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    code, said = machine.set_up()
    assert code == 0, said
    assert machine.calls == ["install", "install", "resolve", "download"]


def test_two_set_ups_at_once_do_the_work_once(machine: Machine) -> None:
    first = machine.start(SLEEP="1")
    while not machine.calls:
        time.sleep(0.05)
    code, said = machine.set_up()

    assert code == 0
    assert said == "ampel_spark: waits for another set-up to end\n"
    assert first.wait(timeout=120) == 0
    first.communicate()
    assert machine.calls == ["install", "resolve", "download"]


@pytest.mark.parametrize("script", ["setup.sh", "spark-submit.sh"])
def test_without_a_fit_python_one_line_says_what_to_do(script: str, machine: Machine) -> None:
    old = "#!/bin/sh\ncase $2 in *version_info*) exit 1;; *) echo '; found /old 3.9.2';; esac\n"
    for name in ("python3.11", "python3.12", "python3.13", "python3"):
        machine.install(name, old)
    done = _run(machine, script, "job.yml")

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert "install python3.11 and python3.11-venv" in done.stderr
    assert "found /old 3.9.2" in done.stderr
    assert not machine.venv.exists()


def test_a_newer_python_is_found_where_3_11_is_missing(machine: Machine) -> None:
    machine.install("python3.11", "#!/bin/sh\nexit 127\n")
    machine.install("python3.12", _PYTHON)
    code, said = machine.set_up()
    assert code == 0, said


@pytest.mark.parametrize("script", ["setup.sh", "spark-submit.sh"])
def test_with_an_old_java_one_line_says_what_to_do(script: str, machine: Machine) -> None:
    done = _run(machine, script, "job.yml", JAVA_VERSION="11.0.2")

    assert done.returncode == 2
    assert done.stderr == (
        f"ampel_spark: {machine.bin}/java is Java 11, which Spark does not support:"
        " install OpenJDK 17 or 21 and put it on the PATH, or name it by JAVA_HOME\n"
    )
    assert machine.calls == []


def test_java_home_goes_before_the_path(machine: Machine, tmp_path: Path) -> None:
    home = tmp_path / "nowhere"
    code, said = machine.set_up(JAVA_HOME=str(home))
    assert code == 2
    assert said.startswith(f"ampel_spark: there is no Java in JAVA_HOME, {home}: install")


def test_spark_submit_without_a_job_explains_itself(machine: Machine) -> None:
    without, asked = _run(machine, "spark-submit.sh"), _run(machine, "spark-submit.sh", "--help")

    assert (without.returncode, asked.returncode) == (2, 0)
    assert without.stdout == asked.stdout
    assert asked.stdout.startswith("Runs a job with Spark")
    assert "MASTER" in asked.stdout
    assert machine.calls == []


def _run(
    machine: Machine, script: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(machine.project / script), *arguments],
        env=machine.environment | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
