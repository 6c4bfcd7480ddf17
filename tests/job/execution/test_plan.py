"""The plan says what would be done, on which versions, and starts nothing."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from ampel_spark.job.configuration.load import load_job
from ampel_spark.job.execution.inputs import Inputs
from ampel_spark.job.execution.plan import plan
from ampel_spark.lake.marker import MARKER
from tests.conftest import PROJECT


@pytest.fixture(autouse=True)
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMPEL_SPARK_ARCHIVES", str(tmp_path / "archives"))


def test_the_plan_of_the_quickstart_names_every_step(tmp_path: Path) -> None:
    job = load_job(PROJECT / "jobs" / "quickstart.yml")
    lines = list(plan(job, tmp_path / "lake", Inputs()))
    text = "\n".join(lines)
    assert f"{tmp_path / 'lake'} holds no tables yet" in text
    assert "simulated, 6000 alerts in 75 nights" in text
    assert "(to be made)" in text
    assert any(
        line.startswith("  T0: channel SN: DecentFilter on history packet") for line in lines
    )
    assert any(line.startswith("  T2: salt_fit: ") and "tied to host" in line for line in lines)
    assert not (tmp_path / "lake").exists()


def test_versions_new_files_and_cuts_that_are_off_are_said(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    (lake / MARKER).write_text('{"format": 3}')
    for _ in range(2):
        write_deltalake(str(lake / "alerts"), pa.table({"a": [1]}), mode="append")
    known = tmp_path / "a.tar.gz"
    for name in ("a.tar.gz", "b.tar.gz"):
        (tmp_path / name).write_bytes(b"x")
    write_deltalake(str(lake / "archive_files"), pa.table({"path": [str(known)]}))
    job = load_job(PROJECT / "jobs" / "quickstart.yml", archive=[str(tmp_path)])
    text = "\n".join(plan(job, lake, Inputs(until=2460400.5)))
    assert "  alerts: version 1\n" in text
    assert "archive: 2 files, 1 of them new by their path" in text
    assert "as of JD 2460400.50000: later alerts do not count" in text
    assert "catalogue hosts is off" in text
    assert "no star catalogue is named (gaia:): no veto by Gaia stars" in text
