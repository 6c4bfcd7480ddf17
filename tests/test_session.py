"""The settings of Spark, and the session that starts with them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyspark
import pytest
from pyspark.sql import SparkSession

from ampel_spark import settings as settings_module
from ampel_spark.daemon import drop_archives
from ampel_spark.errors import ConfigError, SetupError
from ampel_spark.session import default_master, get_session
from ampel_spark.settings import check_java, check_packages, settings, share_dir

MASTERS = ["local[*]", "local-cluster[2,1,1536]", "spark://host:7077", "yarn", "k8s://https://host"]


@pytest.mark.parametrize("master", MASTERS)
def test_every_kind_of_master_has_settings_with_nothing_left_to_fill_in(master: str) -> None:
    found = settings(master)

    assert found["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension"
    assert found["spark.pyspark.python"] == sys.executable
    assert all(Path(jar).is_file() for jar in found["spark.jars"].split(","))
    assert not [key for key, value in found.items() if "${" in value]


def test_an_unknown_master_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"'mesos://host'.*local\[\*\].*yarn"):
        settings("mesos://host")


def test_properties_of_ones_own_win_over_the_master_s_and_those_over_the_common_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spark").mkdir()
    (tmp_path / "spark" / "common.conf").write_text("a 1\nb 1\nc ${cores} cores\n\n# a comment\n")
    (tmp_path / "spark" / "local.conf").write_text("b 2\nd 2\n")
    (tmp_path / "own.conf").write_text("d 3\n")
    monkeypatch.setenv("AMPEL_SPARK_CONF", str(tmp_path))
    monkeypatch.setenv("AMPEL_SPARK_PROPERTIES", str(tmp_path / "own.conf"))

    expected = {"a": "1", "b": "2", "c": f"{os.cpu_count()} cores", "d": "3"}
    assert settings("local[2]") == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [("spark.alone", "expected 'key value'"), ("key ${moon}", r"'\$\{moon\}'.*known:.*\$\{jars\}")],
)
def test_a_bad_line_is_named_with_its_file_and_number(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.conf"
    own.write_text(f"# mine\n{line}\n")
    monkeypatch.setenv("AMPEL_SPARK_PROPERTIES", str(own))

    with pytest.raises(ConfigError, match=rf"own\.conf:2: .*{message}"):
        settings("local[2]")


def test_a_missing_file_of_properties_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMPEL_SPARK_PROPERTIES", "/nowhere/own.conf")
    with pytest.raises(SetupError, match=r"/nowhere/own\.conf: No such file"):
        settings("local[2]")


def test_missing_jars_are_named_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMPEL_SPARK_JARS", str(tmp_path))
    with pytest.raises(SetupError, match=rf"no delta-spark 4\S+ jar in {tmp_path}: run ./setup.sh"):
        settings("local[2]")


def test_driver_memory_is_what_is_asked_for_or_between_1_and_8_gb(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AMPEL_SPARK_DRIVER_MEMORY", "3g")
    assert settings("local")["spark.driver.memory"] == "3g"

    monkeypatch.delenv("AMPEL_SPARK_DRIVER_MEMORY")
    chosen = settings("local")["spark.driver.memory"]
    assert chosen.endswith("m")
    assert 1024 <= int(chosen[:-1]) <= 8192

    monkeypatch.setenv("AMPEL_SPARK_DRIVER_MEMORY", "lots")
    with pytest.raises(ConfigError, match=r"AMPEL_SPARK_DRIVER_MEMORY is 'lots'.*4g"):
        settings("local")


def test_the_master_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER", raising=False)
    assert default_master() == "local[*]"
    monkeypatch.setenv("MASTER", "spark://host:7077")
    assert default_master() == "spark://host:7077"


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a ``JAVA_HOME`` whose java tells the version that one gives."""

    def make(told: str) -> Path:
        java = tmp_path / "bin" / "java"
        java.parent.mkdir()
        java.write_text(f"#!/bin/sh\necho '{told}' >&2\n")
        java.chmod(0o755)
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))
        return java

    return make


@pytest.mark.parametrize("version", ["17.0.15", "17", "21.0.2"])
def test_a_supported_java_is_taken(version: str, fake_java: Callable[[str], Path]) -> None:
    fake_java(f'openjdk version "{version}" 2025-04-15')
    check_java()


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ('java version "1.8.0_392"', "8"),
        ('openjdk version "11.0.2" 2019-01-15', "11"),
        ('openjdk version "25" 2025-09-16', "25"),
        ("no version at all", "of an unknown version"),
    ],
)
def test_an_unsupported_java_is_named_with_the_cure(
    told: str, version: str, fake_java: Callable[[str], Path]
) -> None:
    java = fake_java(told)
    with pytest.raises(SetupError, match=rf"{java} is Java {version}, .* install OpenJDK 17 or 21"):
        check_java()


def test_a_java_home_without_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(SetupError, match=rf"no Java in JAVA_HOME, {tmp_path}: install"):
        check_java()


def test_other_versions_than_the_pinned_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_packages()
    monkeypatch.setattr(settings_module.metadata, "version", lambda _: "3.5.0")
    with pytest.raises(SetupError, match=r"pyspark is 3.5.0, where setup.cfg pins 4.*setup.sh"):
        check_packages()


def test_a_delta_table_is_written_and_read(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    spark.range(10).write.format("delta").save(path)
    spark.range(5).write.format("delta").mode("append").save(path)

    assert spark.read.format("delta").load(path).count() == 15
    assert spark.read.format("delta").option("versionAsOf", 0).load(path).count() == 10


def test_the_session_is_one_and_runs_in_utc_and_ansi(spark: SparkSession) -> None:
    assert get_session("other", master="local[7]") is spark
    assert spark.sparkContext.master == "local[2]"
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.conf.get("spark.sql.ansi.enabled") == "true"


def _look(batches: Iterator[Any]) -> Iterator[Any]:
    """What a worker sees of itself."""
    import os
    import sys
    import zipimport

    import pyarrow as pa
    import pyspark

    for _ in batches:
        seen = {
            "python": sys.executable,
            "pyspark": pyspark.__file__,
            "preloaded": str("pandas" in sys.modules),
            "threads": os.environ["OMP_NUM_THREADS"],
            "models": os.environ["SNCOSMO_DATA_DIR"],
            "archives": str(
                sum(
                    isinstance(finder, zipimport.zipimporter) and "pyspark" in finder.archive
                    for finder in sys.path_importer_cache.values()
                )
            ),
        }
        yield pa.RecordBatch.from_pylist([seen])


_LOOK = (
    "python string, pyspark string, preloaded string, threads string, models string,"
    " archives string"
)


def test_workers_run_the_same_python_with_one_thread_and_no_archives_to_reread(
    spark: SparkSession, sncosmo_data: Path
) -> None:
    seen = spark.range(8).mapInArrow(_look, _LOOK).distinct().collect()

    assert [row.asDict() for row in seen] == [
        {
            "python": sys.executable,
            "pyspark": pyspark.__file__,
            "preloaded": "True",
            "threads": "1",
            "models": str(sncosmo_data),
            "archives": "0",
        }
    ]


def test_only_archives_of_the_installed_pyspark_leave_the_path(tmp_path: Path) -> None:
    site, other = tmp_path / "site", tmp_path / "other"
    for folder in (site, other):
        archive = folder / "pyspark" / "python" / "lib" / "pyspark.zip"
        archive.parent.mkdir(parents=True)
        archive.touch()
    (site / "pyspark" / "daemon.py").touch()
    own, foreign = (str(d / "pyspark/python/lib/pyspark.zip") for d in (site, other))

    assert drop_archives(["", own, foreign, str(site)]) == ["", foreign, str(site)]
    # without an installed pyspark the archive is all there is
    assert drop_archives([own, str(tmp_path)]) == [own, str(tmp_path)]


_DOUBLE = """
def double(batches):
    import pyarrow as pa, pyspark
    for batch in batches:
        yield pa.RecordBatch.from_pydict(
            {"id": [2 * i for i in batch.column(0).to_pylist()], "path": [pyspark.__file__] * 5}
        )
"""
_PLAIN = """
import sys
from ampel_spark.session import get_session

session = get_session("plain", master="local[1]", conf={
    "spark.python.daemon.module": "pyspark.daemon",
    "spark.driver.memory": "1g", "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
})
rows = session.range(0, 5, 1, 1).mapInArrow(double, "id long, path string").collect()
print([row.asDict() for row in rows])
"""


# A session of its own for a rare choice.
@pytest.mark.long
@pytest.mark.slow
def test_the_plain_daemon_can_be_chosen_and_answers_the_same(
    spark: SparkSession, tmp_path: Path
) -> None:
    script = tmp_path / "plain.py"
    script.write_text(_DOUBLE + _PLAIN)
    plain = _run([sys.executable, str(script)]).stdout.strip()

    scope: dict[str, Any] = {}
    exec(_DOUBLE, scope)  # the same source in both, without a module that workers would import
    rows = spark.range(0, 5, 1, 1).mapInArrow(scope["double"], "id long, path string").collect()

    assert [row.id for row in rows] == [0, 2, 4, 6, 8]
    archive = rows[0].path.replace(
        "/pyspark/__init__", "/pyspark/python/lib/pyspark.zip/pyspark/__init__"
    )
    assert plain == str([row.asDict() | {"path": archive} for row in rows])


_JOB = """
import sys
from ampel_spark.session import get_session

session = get_session("submitted", master="local[7]")
print(session.sparkContext.master, session.range(3).count())
sys.exit(3)
"""


@pytest.fixture
def job(tmp_path: Path, quick_jvm: None) -> Path:
    """A script to submit."""
    script = tmp_path / "job.py"
    script.write_text(_JOB)
    return script


@pytest.mark.slow
@pytest.mark.parametrize("master", ["local[1]", "local-cluster[1,1,1024]"])
def test_a_submitted_job_runs_on_the_chosen_master_quietly_and_its_exit_code_comes_through(
    master: str, job: Path
) -> None:
    done = _run([sys.executable, "-m", "ampel_spark.session", "submit", str(job)], MASTER=master)

    assert done.stdout.strip() == f"{master} 3"
    assert done.returncode == 3
    assert done.stderr.strip() == "WARNING: Using incubator modules: jdk.incubator.vector"


@pytest.mark.slow
def test_spark_submit_without_the_project_s_settings_is_refused(job: Path) -> None:
    home = Path(pyspark.__file__).parent
    done = _run(
        [str(home / "bin" / "spark-submit"), "--master", "local[1]", str(job)],
        SPARK_HOME=str(home),
        PYSPARK_PYTHON=sys.executable,
    )
    assert done.returncode == 1
    assert "submit jobs with ./spark-submit.sh" in done.stdout


def test_a_submission_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ampel_spark.session", "submit", "job.py"]
    done = _run(command, AMPEL_SPARK_JARS=str(tmp_path))

    assert done.returncode == 2
    assert done.stderr.startswith("ampel_spark: no delta-spark")
    assert len(done.stderr.splitlines()) == 1


def test_the_share_folder_lies_in_the_environment_of_this_python() -> None:
    assert share_dir() == Path(sys.prefix, "share", "ampel_spark")


def _run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_a_worker_whose_jvm_hung_up_ends_quietly_and_is_not_used_again() -> None:
    from ampel_spark.daemon import hangs_up_quietly

    def broken(*args: object) -> int:
        raise BrokenPipeError

    assert hangs_up_quietly(broken)("socket", True) == 1
    assert hangs_up_quietly(lambda *args: 0)("socket", True) == 0
