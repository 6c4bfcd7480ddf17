"""Fixtures for all tests: one Spark session, a fresh lake, the shared real data, model data."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ampel_spark.session import get_session
from ampel_spark.settings import sncosmo_data_dir

PROJECT = Path(__file__).resolve().parents[1]

# No time for the JVM's second compiler. Without it the cache of compiled code is 48 MB, unless told
# otherwise: too small for a thousand queries, which would be compiled again and again.
QUICK_JVM = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"

# Tables of a few rows on two cores: a test waits for the driver, which plans, compiles and commits.
SMALL = {
    "spark.driver.memory": "1200m",
    # workers import the functions of test modules, wherever pytest was started
    "spark.executorEnv.PYTHONPATH": str(PROJECT),
    "spark.driver.extraJavaOptions": QUICK_JVM,
    # Spark's own interpreter of expressions, for Java code compiled for each of a thousand queries
    # costs more than it saves. That both answer the same is Spark's promise, and is held by the run
    # on two executors (tests/job/execution/test_run.py), with the settings of the project.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures that they ask for, and put the long modules first.

    The module that takes longest comes first, then all that need Spark: two processes that go
    through the list end at about the same time where the last modules are short.
    """
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "spark" in fixtures:
            item.add_marker(pytest.mark.spark)
        if "shared_data" in fixtures:
            item.add_marker(pytest.mark.real_data)
    with_spark = {item.path for item in items if item.get_closest_marker("spark")}
    items.sort(
        key=lambda item: (
            not item.nodeid.startswith("tests/job/execution/test_run.py"),
            item.path not in with_spark,
        )
    )


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The one session of the test run."""
    session = get_session("tests", master="local[2]", conf=SMALL)
    yield session
    session.stop()


@pytest.fixture
def quick_jvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the JVMs of a test's own spark-submit be small, and ready soon."""
    given = os.environ.get("AMPEL_SPARK_PROPERTIES")
    text = Path(given).read_text() if given else ""
    for who in ("driver", "executor"):
        text += f"\nspark.{who}.extraJavaOptions {QUICK_JVM}\n"
    file = tmp_path / "quick_jvm.conf"
    file.write_text(text)
    monkeypatch.setenv("AMPEL_SPARK_PROPERTIES", str(file))
    monkeypatch.setenv("AMPEL_SPARK_DRIVER_MEMORY", "1g")


@pytest.fixture
def lake_path(tmp_path: Path) -> Path:
    """The root of a lake that does not exist yet."""
    return tmp_path / "lake"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real survey data beside the checkout; skips where it is absent."""
    path = Path(os.environ.get("AMPEL_SPARK_TEST_DATA") or PROJECT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no real data: {path} is absent, and AMPEL_SPARK_TEST_DATA names no folder")
    return path


@pytest.fixture(scope="session")
def packed_data(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed sets of the real data, unpacked: ``sncosmo_data``, ``jla``, ``packets_full``."""
    unpack = shared_data / "unpack"
    if not unpack.exists():
        pytest.skip(f"no packed data: {unpack} is absent")
    target = tmp_path_factory.mktemp("packed_data")
    subprocess.run([unpack, target], check=True, capture_output=True)
    return target


@pytest.fixture(scope="session", autouse=True)
def sncosmo_data() -> Path:
    """sncosmo's data folder: ``SNCOSMO_DATA_DIR``, else the model data that the set-up fetched."""
    path = sncosmo_data_dir()
    if not path.is_dir():
        pytest.fail(f"no model data in {path}: run ./setup.sh")
    os.environ["SNCOSMO_DATA_DIR"] = str(path)
    return path


#: The quickstart, smaller: what the fixture `quick_lake` is a run of.
QUICK = ("archive.simulate.alerts=900", "archive.simulate.nights=45")


@pytest.fixture(scope="session")
def quickstart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a smaller quickstart: its archive, and the ``lake`` that it left.

    One of pytest's processes makes it, for all: with ``-n``, each has a folder of its own in one
    that they share.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "quickstart"
    os.environ.setdefault("AMPEL_SPARK_ARCHIVES", str(folder))
    with (shared / "quickstart.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "log.txt").exists():
            request.getfixturevalue("spark")
            shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
            _run_quickstart(folder)
    return folder


def _run_quickstart(folder: Path) -> None:
    from ampel_spark.job.configuration.load import load_job
    from ampel_spark.job.execution.run import run_job

    lines: list[str] = []
    job = load_job(PROJECT / "jobs" / "quickstart.yml", QUICK)
    outcome = run_job(job, folder / "lake", out=lines.append)
    assert outcome.code == 0, lines
    (folder / "log.txt").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def quick_lake(quickstart: Path, request: pytest.FixtureRequest) -> Path:
    """The lake that a smaller quickstart leaves, beside its archive: a copy for each module."""
    lake = quickstart / f"lake-{request.module.__name__}"
    shutil.copytree(quickstart / "lake", lake)
    return lake


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``lake``, that of three small quickstarts, to be read and not written."""
    from ampel_spark.lake.upgrade import upgrade
    from tests.old_lakes import unpack_format_1

    folder = tmp_path_factory.mktemp("examples")
    upgrade(unpack_format_1(folder), out=lambda line: None)
    return folder
