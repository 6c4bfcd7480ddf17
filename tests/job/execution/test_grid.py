"""Variations in one pass: the same states, results and candidates as so many runs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from ampel_spark.job.configuration.load import load_recorded
from ampel_spark.job.configuration.model import ResolvedJob
from ampel_spark.job.execution import grid
from ampel_spark.job.execution.grid import ResultSample, fits, run_grid
from ampel_spark.job.execution.inputs import recorded
from ampel_spark.job.execution.run import run_job
from ampel_spark.lake.comparison import first_difference
from ampel_spark.lake.log import newest_version
from ampel_spark.lake.reading import read
from ampel_spark.lake.runs import FAILED, Run, find_run, runs

RELEASES = {
    "fainter": "rules:\n- {select: {band: ztfg}, zero_point: 0.01}\n",
    "quadrants": "rules:\n- {select: {rcid: [1, 2, 3, 4, 5, 6, 7, 8]}, error: {floor: 0.02}}\n"
    "- {select: {rcid: [9, 10]}, mask: true}\n",
}
#: What each variation changes: its release, and settings.
VARIATIONS: Sequence[tuple[str | None, Sequence[str]]] = (
    ("fainter", ()),
    ("quadrants", ("t2.salt_fit.config.dust.scale=0.95",)),
    (None, ("t2.salt_fit.config.zero_points.ztfr=0.01", "t2.salt_fit.config.band_shifts.ztfg=10")),
)
SAMPLE = ResultSample("SN", "salt_fit", np.zeros(0, np.int64), ("status", "x0", "c"))
TABLES = {
    "states": ("state_id",),
    "state_channels": ("run_id", "channel", "stock", "state_id"),
    "candidates": ("run_id", "selection", "rank"),
    **{
        f"t2_{unit}": ("state_id", "trace_id", "input_hash")
        for unit in ("light_curve_summary", "milky_way_dust", "host", "salt_fit")
    },
}


@pytest.fixture(scope="module")
def varied(quick_lake: Path, spark: SparkSession) -> tuple[Run, list[ResolvedJob]]:
    """A run of the quickstart, and the jobs of its variations."""
    parent = find_run(quick_lake)
    jobs = []
    for release, settings in VARIATIONS:
        if release is not None:
            file = quick_lake.parent / f"{release}.yml"
            file.write_text(f"name: {release}\n{RELEASES[release]}")
            release = str(file)
        jobs.append(load_recorded(parent, (*settings, "report=false"), release, quick_lake))
    return parent, jobs


@pytest.fixture(scope="module")
def in_one_pass(varied: Any, quick_lake: Path, tmp_path_factory: Any) -> tuple[Path, list[Any]]:
    """A lake in which the variations went through one pass, and what came of them."""
    return _pass(varied, quick_lake, tmp_path_factory.mktemp("pass"))


def _pass(varied: Any, quick_lake: Path, folder: Path) -> tuple[Path, list[Any]]:
    lake = folder / "lake"
    shutil.copytree(quick_lake, lake)
    return lake, _run(varied, lake)


def _run(varied: Any, lake: Path) -> list[Any]:
    parent, jobs = varied
    assert all(fits(load_recorded(parent, lake=lake), job) for job in jobs)
    stocks = np.unique(read(lake, "t2_salt_fit", ["stock"])["stock"].to_numpy())
    sample = replace(SAMPLE, stocks=stocks)
    return run_grid(parent, jobs, lake, sample, out=lambda line: None)


def _tables(lake: Path, ids: Sequence[str]) -> dict[str, pa.Table]:
    """Return the tables of a lake; the ids of runs are the numbers of these."""
    found = {}
    for name in TABLES:
        table = read(lake, name)
        if "run_id" in TABLES[name]:
            number = pc.index_in(table["run_id"], value_set=pa.array(ids))
            table = table.set_column(table.column_names.index("run_id"), "run_id", number)
            table = table.filter(pc.is_valid(table["run_id"]))
        found[name] = table
    return found


def _differences(a: dict[str, pa.Table], b: dict[str, pa.Table]) -> list[Any]:
    return [
        lost
        for name, key in TABLES.items()
        if (lost := first_difference(name, a[name], b[name].select(a[name].column_names), key))
    ]


def _counts(run: Run) -> dict[str, Any]:
    """Return the counts of a run's record, without times."""
    counts = run.counts.to_json()
    del counts["seconds"]
    for tier in counts["t2"].values():
        del tier["seconds"], tier["median_ms"]
    return counts


def test_a_pass_leaves_what_runs_one_after_the_other_leave(
    varied: Any, in_one_pass: Any, quick_lake: Path, tmp_path: Path
) -> None:
    parent, jobs = varied
    lake, made = in_one_pass
    other = tmp_path / "lake"
    shutil.copytree(quick_lake, other)
    alone = [
        run_job(job, other, inputs=recorded(parent), out=lambda line: None).run_id for job in jobs
    ]
    together = [outcome.run_id for outcome, _ in made]
    assert _differences(_tables(other, alone), _tables(lake, together)) == []
    # the release of some quadrants leaves states as they were, and settings of a fit all of them
    tiers = [find_run(lake, run_id).counts.t2["light_curve_summary"] for run_id in together]
    assert tiers[0]["computed"] == tiers[0]["wanted"]
    assert 0 < tiers[1]["computed"] < tiers[1]["wanted"]
    assert tiers[2]["computed"] == 0
    for one, two in zip(alone, together, strict=True):
        first, second = find_run(other, one), find_run(lake, two)
        assert _counts(first) == _counts(second)
        assert first.traces == second.traces
        assert replace(first.inputs, commits={}) == replace(second.inputs, commits={})
        assert first.decisions == second.decisions
        assert (first.job_hash, first.status) == (second.job_hash, second.status)
        assert second.parent_run_id == parent.run_id


def test_a_variation_that_changes_nothing_is_the_run_itself(
    varied: Any, in_one_pass: Any, quick_lake: Path
) -> None:
    """States, keys and candidates of the pass are those that Spark made."""
    parent, _ = varied
    lake, _ = in_one_pass
    same = load_recorded(parent, ["report=false"], lake=lake)
    ((outcome, _),) = run_grid(parent, [same], lake, SAMPLE, out=lambda line: None)
    run = find_run(lake, outcome.run_id)
    assert [tier["computed"] for tier in run.counts.t2.values()] == [0, 0, 0, 0]
    assert run.counts.t1["new"] == 0
    assert run.counts.t3 == parent.counts.t3
    first, second = (_tables(lake, [one]) for one in (parent.run_id, outcome.run_id))
    assert _differences(first, second) == []


def test_the_sample_has_the_results_of_its_objects(in_one_pass: Any) -> None:
    lake, made = in_one_pass
    for outcome, rows in made:
        run = find_run(lake, outcome.run_id)
        trace = run.traces.t2["salt_fit"].trace_id
        links = read(lake, "state_channels", filters=pc.field("run_id") == run.run_id)
        mine = links.filter(pc.equal(links["channel"], "SN"))["state_id"]
        results = read(lake, "t2_salt_fit", filters=pc.field("trace_id") == trace)
        results = results.filter(pc.is_in(results["state_id"], value_set=mine.combine_chunks()))
        columns = ["stock", "status", "x0", "c"]
        assert len(rows) > 5
        assert rows.select(columns).sort_by("stock") == results.select(columns).sort_by("stock")


def test_the_same_again_computes_nothing(varied: Any, in_one_pass: Any) -> None:
    lake, _ = in_one_pass
    names = [name for name in TABLES if name not in ("state_channels", "candidates")]
    before = {name: newest_version(lake / name) for name in names}
    again = _run(varied, lake)
    assert {name: newest_version(lake / name) for name in names} == before
    for outcome, _ in again:
        counts = outcome.counts
        assert all(tier["computed"] == 0 for tier in counts.t2.values())
        assert counts.t1["new"] == 0


def test_a_pass_that_breaks_leaves_nothing_wrong_and_the_next_one_ends(
    varied: Any, in_one_pass: Any, quick_lake: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """States and the results of one unit are committed, then it breaks."""
    whole, made = in_one_pass
    lake = tmp_path / "lake"
    shutil.copytree(quick_lake, lake)
    committed: list[str] = []

    def breaks(place: Any, table: Any, *args: Any) -> Any:
        if len(committed) == 2:
            raise KeyboardInterrupt
        committed.append(table.name)
        return real(place, table, *args)

    real = grid.insert_parts
    monkeypatch.setattr(grid, "insert_parts", breaks)
    with pytest.raises(KeyboardInterrupt):
        _run(varied, lake)
    monkeypatch.undo()
    assert committed == ["states", "t2_light_curve_summary"]
    assert [run.status for run in runs(lake)[: len(VARIATIONS)]] == [FAILED] * len(VARIATIONS)
    assert not [*(lake / "_staging").iterdir()]
    after = _run(varied, lake)
    ids = [[outcome.run_id for outcome, _ in each] for each in (made, after)]
    assert _differences(_tables(whole, ids[0]), _tables(lake, ids[1])) == []


def test_what_changes_t0_or_the_units_themselves_does_not_fit(
    varied: Any, quick_lake: Path
) -> None:
    parent, _ = varied
    nominal = load_recorded(parent, lake=quick_lake)
    for settings in (
        ["t0.SN.config.min_ndet=4"],
        ["t1.points=[detection]"],
        ["t2.salt_fit.config.bands=[ztfg]"],
        ["t2.salt_fit.config.redshift={fit: [0.01, 0.2]}"],
    ):
        assert not fits(nominal, load_recorded(parent, settings, lake=quick_lake)), settings
    assert fits(nominal, load_recorded(parent, ["t2.salt_fit.config.min_points=8"]))
