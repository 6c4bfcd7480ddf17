"""Dry runs, reruns on the versions that a run read, time travel, pins, and reproduction."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ampel_spark.archive.committing.chunks import pinned
from ampel_spark.errors import ConfigError, LakeError
from ampel_spark.job.configuration.load import load_job, load_recorded
from ampel_spark.job.execution.inputs import Inputs, as_of, recorded
from ampel_spark.job.execution.reproduce import compare, reproduce
from ampel_spark.job.execution.run import forecast, run_job
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.log import newest_version, replace_files
from ampel_spark.lake.maintenance import compact, plan_removal, remove
from ampel_spark.lake.parts import PartWriter
from ampel_spark.lake.pins import live_pins, pin, release
from ampel_spark.lake.reading import open_table, read
from ampel_spark.lake.runs import Run, find_run, runs
from ampel_spark.lake.tables import result_table
from tests.conftest import PROJECT, QUICK

JOB = PROJECT / "jobs" / "quickstart.yml"
#: The quickstart without the slow fits.
LIGHT = (
    *QUICK,
    "t2=[{unit: light_curve_summary}, {unit: milky_way_dust, config: {map: quickstart}}]",
    't3=[{name: few, channel: SN, select: "light_curve_summary.n_detections >= 5",'
    " columns: {seen: light_curve_summary.n_detections, peak: light_curve_summary.peak_mag}}]",
    "report=false",
)


@pytest.fixture(scope="module")
def grown(spark: SparkSession, quick_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that took half of the archive, ran, took the rest, and ran again."""
    (archive,) = quick_lake.parent.glob("simulated-*")
    files = [str(path) for path in sorted(archive.glob("*.tar.gz"))]
    lake = tmp_path_factory.mktemp("grown") / "lake"
    catalogs = (
        "catalog.stars={file: " + str(archive / "stars.parquet") + "}",
        "catalog.hosts={file: " + str(archive / "hosts.parquet") + ", columns: [z, z_err]}",
    )
    for part in (files[: len(files) // 2], files):
        job = load_job(JOB, (*LIGHT, *catalogs), archive=part)
        run_job(job, lake, out=lambda line: None)
    return lake


def told(job: Any, lake: Path, inputs: Inputs) -> str:
    lines: list[str] = []
    forecast(job, lake, inputs=inputs, out=lines.append)
    return "\n".join(lines)


def outputs(lake: Path, run: Run) -> set[tuple[str, str]]:
    rows = read(lake, "state_channels").to_pylist()
    return {(r["channel"], r["state_id"]) for r in rows if r["run_id"] == run.run_id}


def test_a_recorded_job_is_the_job(grown: Path) -> None:
    run = find_run(grown)
    again = load_recorded(run)
    assert again.hash == run.job_hash
    assert list(again.selections[0].columns) == ["seen", "peak"]  # as an export has them
    changed = load_recorded(run, ["t0.SN.config.min_ndet=7"])
    assert changed.resolved["t0"][0]["config"]["min_ndet"] == 7
    with pytest.raises(ConfigError, match=r"--set calibration=\"rau\".*did you mean 'raw'"):
        load_recorded(run, ['calibration="rau"'])


def test_a_rerun_reads_what_its_run_read_though_the_lake_has_grown(grown: Path) -> None:
    second, first = runs(grown)[:2]
    assert outputs(grown, first) != outputs(grown, second)
    again = run_job(load_recorded(first), grown, inputs=recorded(first), out=lambda line: None)
    run = find_run(grown, again.run_id)
    assert run.parent_run_id == first.run_id
    assert outputs(grown, run) == outputs(grown, first)
    assert {name: unit["computed"] for name, unit in again.counts.t2.items()} == {
        "light_curve_summary": 0,
        "milky_way_dust": 0,
    }
    rows, differences = compare(grown, first, grown, run)
    assert not differences
    assert rows["decisions"] > 100
    assert rows["t2_light_curve_summary"] > 5
    # the lake as it stood when only the first half was in
    version = first.inputs.tables["archive_files"]
    past = as_of(f"v{version}", load_recorded(first).survey)
    old = run_job(load_recorded(first), grown, inputs=past, out=lambda line: None)
    assert outputs(grown, find_run(grown, old.run_id)) == outputs(grown, first)


def test_a_dry_run_counts_what_is_stale_and_writes_nothing(grown: Path) -> None:
    tables = [log.parent.name for log in grown.glob("*/_delta_log")]
    versions = {name: open_table(grown, name).version() for name in tables}
    last = runs(grown)[0]
    n = last.counts.t2["light_curve_summary"]["wanted"]
    same = told(load_recorded(last), grown, recorded(last))
    assert f"T2: light_curve_summary: {n} states wanted, {n} present, 0 to compute" in same
    assert "T2: about 0 s in all" in same
    other = load_recorded(last, ["t2.milky_way_dust.name=dust_again"])
    text = told(other, grown, recorded(last))
    assert f"T2: dust_again: {n} states wanted, 0 present, {n} to compute" in text
    assert "no run has timed dust_again yet" in text
    assert versions == {name: open_table(grown, name).version() for name in tables}
    assert not (grown / "t2_dust_again").exists()


def test_a_channel_that_judges_calibrated_photometry_has_its_report(
    grown: Path, tmp_path: Path
) -> None:
    path = tmp_path / "lake"
    shutil.copytree(grown, path)
    parent = runs(path)[0]
    job = load_recorded(
        parent, ["t0.0.photometry=calibrated", "report={candidates: 2}"], "zp_g_10mmag", path
    )
    outcome = run_job(job, path, inputs=recorded(parent), out=lambda line: None)
    (page,) = (path / "reports").glob(f"*{outcome.run_id}*.html")
    assert "masked" in page.read_text()
    # the release makes other states; what looks at no photometry is not computed again
    dust, summary = (outcome.counts.t2[k] for k in ("milky_way_dust", "light_curve_summary"))
    assert (dust["computed"], dust["present"]) == (0, summary["wanted"])
    assert summary["computed"] > 0
    rows = read(path, "t2_milky_way_dust").to_pylist()
    assert outcome.run_id not in {row["run_id"] for row in rows}
    states = {state for _, state in outputs(path, find_run(path, outcome.run_id))}
    assert states <= {row["state_id"] for row in rows}
    assert len({(row["stock"], row["subject_id"], row["ebv"]) for row in rows}) == len(
        {row["subject_id"] for row in rows}
    )


def test_a_run_reproduced_in_a_new_lake_is_equal_in_every_table(
    grown: Path, tmp_path: Path
) -> None:
    first = runs(grown)[-1]
    made = reproduce(grown, first.run_id, tmp_path / "again", out=lambda line: None)
    assert made.differences == ()
    judged = [channel["alerts"] for channel in first.counts.t0.values()]
    assert made.rows["decisions"] == sum(judged) > 0
    assert made.rows["t2_milky_way_dust"] == first.counts.t1["states"]
    assert made.software == ()
    # one bit changed is one difference found
    (file, *_) = map(Path, open_table(tmp_path / "again", "t2_milky_way_dust").file_uris())
    rows = pq.ParquetFile(file).read()
    ebv = rows["ebv"].to_pylist()
    changed = pa.array([math.nextafter(ebv[0], 1.0), *ebv[1:]])
    other = rows.set_column(rows.column_names.index("ebv"), "ebv", changed)
    writer = PartWriter(file.parent, other.schema, result_table("", ()).extremes)
    writer.write(other)
    since = newest_version(file.parent)
    replace_files(file.parent, [writer.close().as_file()], [file.name], since, {}, changes=True)
    again = find_run(tmp_path / "again", made.run_id)
    _, (difference,) = compare(grown, first, tmp_path / "again", again)
    assert (difference.table, difference.column) == ("t2_milky_way_dust", "ebv")
    assert difference.key["state_id"] == rows["state_id"][0].as_py()


def test_maintenance_keeps_what_pins_hold_and_removes_what_nothing_needs(
    grown: Path, spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "lake"
    shutil.copytree(grown, path)
    lake = Lake(spark, path)
    first = runs(path)[-1]
    orphan = path / "datapoints" / "part-killed.parquet"
    orphan.write_bytes(b"left by a killed writer")
    compact(lake, out=lambda line: None)
    # what was put together just now may be read still
    assert plan_removal(lake) == []
    # versions that commits of the archive name stay; of other tables only the newest does
    found = {r.table: r for r in plan_removal(lake, older_than=0)}
    assert orphan in found["datapoints"].files
    assert first.inputs.tables["datapoints"] not in found["datapoints"].versions
    assert found["state_channels"].versions[0] == 1
    remove(lake, list(found.values()))
    assert not orphan.exists()
    assert plan_removal(lake, older_than=0) == []
    with pytest.raises(LakeError, match="cannot be read any more"):
        pin(lake, "late", {"state_channels": 1})
    assert "late" not in {row["run_id"] for row in live_pins(lake)}
    version = first.inputs.tables["datapoints"]
    there = read(grown, "datapoints", version=version).num_rows
    assert lake.read("datapoints", version).count() == there
    for reading in (lake.read, lambda name, version: read(path, name, version=version)):
        with pytest.raises(LakeError, match=r"version 1 of table 'state_channels' .* be read any"):
            reading("state_channels", 1)
    assert lake.read("state_channels").count() == read(grown, "state_channels").num_rows
    # every chunk of archive is there as it stood
    for mark in range(1, lake.version("archive_files") or 0):
        assert pinned(lake.root, mark).alerts <= pinned(lake.root).alerts
        assert lake.read("alerts", pinned(lake.root, mark).alerts).count() > 0


def test_pins_are_listed_and_let_go(grown: Path, spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "lake"
    shutil.copytree(grown, path)
    lake = Lake(spark, path)
    first = runs(path)[-1]
    mine = [row for row in live_pins(lake) if row["run_id"] == first.run_id]
    assert {row["table"]: row["version"] for row in mine} == {
        name: first.inputs.tables[name]
        for name in ("alerts", "datapoints", "quarantine", "archive_files", "sightings")
    }
    assert release(lake, [first.run_id]) == 5
    assert first.run_id not in {row["run_id"] for row in live_pins(lake)}
    with pytest.raises(LakeError, match="holds no pin"):
        release(lake, [first.run_id])
