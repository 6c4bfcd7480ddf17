"""run, validate and units."""
# ruff: noqa: E501  (lines are compared as they are printed)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from ampel_spark.archive.reading.surveys import as_of_jd
from ampel_spark.job.configuration.load import load_job
from ampel_spark.job.execution.inputs import Inputs
from ampel_spark.job.execution.run import Outcome
from tests.commands.conftest import Command
from tests.commands.small_lake import JOB, make_lake
from tests.conftest import PROJECT


@pytest.fixture
def job(tmp_path: Path) -> Path:
    file = tmp_path / "small.yml"
    file.write_text(JOB)
    return file


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put a record of what it is called with in the place of the run itself."""
    calls: dict[str, Any] = {"code": 0}

    def run_job(job: Any, lake: Path, **given: Any) -> Outcome:
        calls.update(given, job=job, lake=lake, dry_run=False)
        given["out"]("it runs")
        return Outcome("r", "partial" if calls["code"] else "good", {})

    def forecast(job: Any, lake: Path, **given: Any) -> None:
        calls.update(given, job=job, lake=lake, dry_run=True)
        given["out"]("it tells")

    monkeypatch.setattr("ampel_spark.job.execution.run.run_job", run_job)
    monkeypatch.setattr("ampel_spark.job.execution.run.forecast", forecast)
    return calls


def test_run_hands_the_resolved_job_on(job: Path, command: Command, ran: dict[str, Any]) -> None:
    code, out, err = command(
        "run", job, "--lake", job.parent / "lake", "--set", "t0.SN.config.min_ndet=5", "--as-of", "2020-01-31",
        "--report", "r.html",
    )  # fmt: skip
    assert (code, out, err) == (0, "it runs\n", "")
    assert ran["lake"] == job.parent / "lake"
    assert (ran["inputs"], ran["report"]) == (Inputs(until=as_of_jd("2020-01-31")), Path("r.html"))
    assert not ran["dry_run"]
    assert ran["job"].resolved["t0"][0]["config"]["min_ndet"] == 5


def test_run_takes_archives_instead_of_the_jobs(
    job: Path, command: Command, ran: dict[str, Any], tmp_path: Path
) -> None:
    for name in ("a.tar.gz", "b.tar.gz", "c.avro"):
        (tmp_path / name).touch()
    command(
        "run",
        job,
        "--archive",
        tmp_path / "a.tar.gz",
        tmp_path / "b.tar.gz",
        "--archive",
        tmp_path / "c.avro",
    )
    assert ran["job"].archive == tuple(
        str(tmp_path / name) for name in ("a.tar.gz", "b.tar.gz", "c.avro")
    )


def test_a_dry_run_only_tells(job: Path, command: Command, ran: dict[str, Any]) -> None:
    assert command("run", job, "--as-of", "v3", "--dry-run") == (0, "it tells\n", "")
    assert (ran["inputs"], ran["dry_run"]) == (Inputs(chunk=3), True)


def test_runs_exit_code_is_the_jobs(job: Path, command: Command, ran: dict[str, Any]) -> None:
    ran["code"] = 3
    assert command("run", job)[0] == 3


def test_the_lake_of_the_job_is_relative_to_it(
    job: Path, command: Command, ran: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AMPEL_SPARK_LAKE", raising=False)
    job.write_text(f"lake: lakes/one\n{JOB}")
    command("run", job)
    assert ran["lake"] == job.parent / "lakes" / "one"


def test_a_time_that_is_none_is_told_before_anything_starts(
    job: Path, command: Command, ran: dict[str, Any]
) -> None:
    code, out, err = command("run", job, "--as-of", "v3.5")
    assert (code, out) == (2, "")
    assert err == (
        "ampel-spark: --as-of 'v3.5' is neither a JD (such as 2458849.5) nor a night (YYYY-MM-DD), "
        "nor a version of the lake (v and the version of archive_files, as `ampel-spark tables` tells it)\n"
    )
    assert "job" not in ran


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_version_that_the_lake_has_not_got_is_told_before_the_plan(
    job: Path, tmp_path: Path, command: Command, more: tuple[str, ...]
) -> None:
    lake = make_lake(tmp_path)
    write_deltalake(lake / "archive_files", pa.table({"path": pa.array([], pa.string())}))
    words = ("run", job, "--lake", lake, *more, "--as-of")
    begin = f"ampel-spark: --as-of v99: lake {lake} has no version 99 of archive_files; "
    assert command(*words, "v99") == (2, "", f"{begin}it holds no alerts yet\n")
    for name in ("a.tar", "b.tar"):
        write_deltalake(lake / "archive_files", pa.table({"path": [name]}), mode="append")
    assert command(*words, "v99") == (2, "", f"{begin}there are v1 to v2\n")
    code, out, err = command(*words, "v0")
    assert (code, out) == (2, "")
    assert err.endswith(" has nothing at version 0 of archive_files; there are v1 to v2\n")
    code, out, err = command("run", job, "--lake", job.parent / "none", *more, "--as-of", "v3")
    assert (code, out) == (2, "")
    assert err.endswith(f"--as-of v3: lake {job.parent / 'none'} holds no alerts yet\n")


@pytest.mark.parametrize("name", ["rerun", "reproduce"])
def test_a_run_to_run_again_that_is_not_there_is_a_matter_of_usage(
    name: str, small_lake: Path, tmp_path: Path, command: Command
) -> None:
    code, out, err = command(name, "nope", "--lake", small_lake)
    assert (code, out) == (2, "")
    assert err.startswith(f"ampel-spark: lake {small_lake} has no run 'nope'; its newest: small-")
    code, _, err = command(name, "latest", "--lake", tmp_path / "none")
    assert code == 2
    assert err.startswith(f"ampel-spark: there is no lake at {tmp_path / 'none'}: ")


def test_a_bad_job_is_told_and_nothing_is_started(
    job: Path, command: Command, ran: dict[str, Any]
) -> None:
    code, out, err = command("run", job, "--set", "t0.SN.config.min_ndett=3", "--set", "chanel=x")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "--set chanel=x: chanel: unknown key, value 'x'; did you mean 'channel'?",
        "--set t0.SN.config.min_ndett=3: t0[0].config.min_ndett: unknown parameter, value 3; did you mean 'min_ndet'?",
        "ampel-spark: 2 problems; nothing was started",
    ]
    assert "job" not in ran


def test_validate_tells_of_every_job(job: Path, command: Command) -> None:
    bad = job.with_name("bad.yml")
    bad.write_text("name: bad\n")
    code, out, err = command("validate", job, bad, job.with_name("none.yml"))
    assert code == 2
    assert out == f"{job}: good: job small, sha256 {load_job(job).hash[:12]}\n"
    assert err.splitlines() == [
        f"{bad}:1: required keys 'channel', 't0' are missing",
        f"{job.with_name('none.yml')} is not there; known: bad.yml, small.yml",
    ]
    assert command("validate", job)[0] == 0


def test_validate_tells_what_is_wrong_with_a_variation(command: Command) -> None:
    """As `systematics` does before it starts."""
    job = PROJECT / "jobs" / "quickstart.yml"
    wrong = "{selection: sn_ia, variations: [{name: a, set: {t1.state: latest}}]}"
    code, _, err = command("validate", job, "--set", f"systematics={wrong}")
    assert code == 2
    assert "t1.state: unknown key, value 'latest'; did you mean 'states'?" in err


def test_validate_as_json_has_the_problems_apart(job: Path, command: Command) -> None:
    code, out, err = command("validate", job, "--set", "calibration=rau", "--format", "json")
    assert (code, err) == (2, "")
    (row,) = json.loads(out)
    assert list(row) == ["file", "good", "job", "hash", "problems"]
    assert row["good"] is False
    (problem,) = row["problems"]
    assert problem["file"] == "--set calibration=rau"
    assert (problem["line"], problem["path"]) == (None, "calibration")
    code, out, _ = command("validate", job, "--format", "json")
    assert json.loads(out)[0] == {
        "file": str(job), "good": True, "job": "small", "hash": load_job(job).hash, "problems": [],
    }  # fmt: skip
    assert code == 0


def test_units_are_listed_with_what_they_do(command: Command) -> None:
    rows = json.loads(command("units", "--format", "json")[1])
    assert {"light_curve_summary", "milky_way_dust", "catalog_match", "salt_fit"} <= {
        r["unit"] for r in rows
    }
    assert all(row["summary"].endswith(".") for row in rows)
    code, out, _ = command("units")
    assert code == 0
    assert out.split("\n")[0].split() == ["unit", "tier", "summary"]
    assert {r["unit"]: r["tier"] for r in rows}["DecentFilter"] == "T0"


def test_a_filter_is_shown_with_its_parameters(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = command("units", "DecentFilter")
    assert code == 0
    assert "filter   DecentFilter" in out
    assert "gaia_rs" in out
    assert "columns" not in out
    (tmp_path / "mine.py").write_text(
        'from ampel_spark.t0 import Filter\n\n\nclass Named(Filter):\n    """By name."""\n\n    beginning: str\n'
        '    "How it begins."\n\n    def judge(self, alert):\n        return alert.name.startswith(self.beginning)\n'
    )
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("units", "mine.py:Named")
    assert code == 0
    assert "beginning  str   required  How it begins." in out


def test_columns_that_conditions_and_selections_may_name_are_listed(
    tmp_path: Path, command: Command
) -> None:
    rows = json.loads(command("columns", "--format", "json")[1])
    about = {row["column"]: row for row in rows}
    assert {"rb", "tspan", "gal_lat", "magpsf", "n_detections"} <= about.keys()
    assert not {"hpx", "datapoint_ids", "gaia_distance"} & about.keys()
    assert about["gal_lat"] == {
        "in": "t0",
        "column": "gal_lat",
        "type": "double",
        "comment": "galactic latitude [deg]",
    }
    lsst = {
        row["column"]
        for row in json.loads(command("columns", "--survey", "lsst", "--format", "json")[1])
    }
    assert "reliability" in lsst
    assert "rb" not in lsst
    job = tmp_path / "job.yml"
    job.write_text(
        "name: j\nchannel: [{name: SN, access: [ZTF_PUB]}]\nt0: [{channel: SN, filter: All}]\nt2: [{unit: light_curve_summary, name: s}]\n"
    )
    rows = json.loads(command("columns", job, "--format", "json")[1])
    assert {"s.n_detections", "s.status", "jd_last"} <= {
        r["column"] for r in rows if r["in"] == "t3"
    }


def test_a_unit_is_told_with_parameters_and_columns(command: Command) -> None:
    code, out, _ = command("units", "milky_way_dust")
    assert code == 0
    assert "parameters (config):" in out
    assert "map            Path             required  Name of a map in conf/dust" in out
    assert "columns of t2_milky_way_dust:" in out
    assert "ebv     double  mag   E(B-V)" in out
    (unit,) = json.loads(command("units", "milky_way_dust", "--format", "json")[1])
    assert list(unit) == ["unit", "summary", "libraries", "parameters", "columns"]
    assert unit["parameters"][0]["parameter"] == "map"
    assert unit["columns"][0] == {
        "column": "ebv", "type": "double", "unit": "mag", "description": "E(B-V) of the Milky Way, in steps of 1e-6",
    }  # fmt: skip


def test_a_unit_of_ones_own_is_told_too(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        'from ampel_spark.t2 import Unit\n\n\nclass Nothing(Unit):\n    """Nothing at all."""\n\n'
        "    def process(self, light_curve):\n        return {}\n"
    )
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("units", "mine.py:Nothing")
    assert code == 0
    assert "summary  Nothing at all." in out
    assert "parameters (config):\nnone" in out


def test_a_unit_that_is_not_there_is_told_with_the_nearest(command: Command) -> None:
    code, _, err = command("units", "salt_fitt")
    assert code == 2
    assert err.startswith("ampel-spark: no unit 'salt_fitt'; did you mean 'salt_fit'?")
