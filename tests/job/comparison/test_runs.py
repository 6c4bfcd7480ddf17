"""Real runs compared: the reasons against pandas over the tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from ampel_spark.job.comparison.changes import Comparison
from ampel_spark.job.comparison.compare import compare
from ampel_spark.job.configuration.load import load_job
from ampel_spark.job.execution.run import run_job
from ampel_spark.lake.reading import read
from tests.conftest import PROJECT, QUICK

#: More detections asked for, without sparing anyone; nearer hosts; another select; fewer of it.
CHANGES = (
    "t0.0.config.min_ndet=20",
    "t0.0.on_stock_match=none",
    "t2.2.config.radius=0.6",
    "t3.0.select=salt_fit.status == 0 and abs(salt_fit.c) < 0.2 and salt_fit.x1_err < 0.6",
    "t3.1.limit=3",
)


@pytest.fixture(scope="module")
def found(
    spark: SparkSession, quick_lake: Path, tmp_path_factory: pytest.TempPathFactory
) -> Comparison:
    lake = tmp_path_factory.mktemp("compared") / "lake"
    shutil.copytree(quick_lake, lake)
    job = load_job(PROJECT / "jobs" / "quickstart.yml", (*QUICK, *CHANGES, "report=false"))
    assert run_job(job, lake, out=lambda line: None).code == 0
    return _compared(lake)


def _compared(lake: Path) -> Comparison:
    runs = read(lake, "runs", ["run_id", "started"]).to_pandas().sort_values("started")
    return compare(lake, *runs["run_id"])


def table(found: Comparison, name: str, run: str) -> pd.DataFrame:
    run_id = (found.a if run == "a" else found.b).run_id
    frame: pd.DataFrame = read(found.lake_a, name, filters=pc.field("run_id") == run_id).to_pandas()
    return frame


def fits(found: Comparison, run: str) -> pd.DataFrame:
    """Return the fits of a run by object: what it computed, else what the run before it had."""
    rows = table(found, "t2_salt_fit", "a").set_index("stock")
    if run == "b":
        computed = table(found, "t2_salt_fit", "b").set_index("stock")
        rows = pd.concat([computed, rows.drop(computed.index)])
    links = table(found, "state_channels", run)
    return rows.loc[links.loc[links["channel"] == "SN", "stock"]]


def test_gained_and_lost_are_the_differences_of_the_tables(found: Comparison) -> None:
    sets = [
        {n: set(f["stock"]) for n, f in table(found, "candidates", run).groupby("selection")}
        for run in "ab"
    ]
    for selection in found.selections:
        a, b = (mine.get(selection.selection, set()) for mine in sets)
        rows = found.changes[found.changes["selection"] == selection.selection]
        assert set(rows.loc[rows["change"] == "lost", "stock"]) == a - b
        assert set(rows.loc[rows["change"] == "gained", "stock"]) == b - a
        assert (selection.before, selection.after) == (len(a), len(b))
    assert sum(s.lost for s in found.selections) > 2


def test_nothing_is_left_without_a_reason(found: Comparison) -> None:
    assert len(found.changes)
    assert not (found.changes["reason"].isin(["", "unexplained"])).any()
    assert {"cut", "limit"} <= set(found.changes["reason"])


def test_objects_lost_at_t0_have_no_accepted_alert_and_the_cut_of_the_first(
    found: Comparison,
) -> None:
    a, b = (table(found, "decisions", run) for run in "ab")
    a, b = a[a["channel"] == "SN"], b[b["channel"] == "SN"]
    cut = found.changes[found.changes["reason"] == "cut"]
    assert len(cut)
    for _, row in cut.iterrows():
        mine = b[b["stock"] == row["stock"]]
        assert not mine["accepted"].any()
        accepted = a[(a["stock"] == row["stock"]) & a["accepted"]].sort_values("jd")
        assert row["alert_id"] == accepted["alert_id"].iloc[0]
        (decision,) = mine[mine["alert_id"] == row["alert_id"]].to_dict("records")
        assert (row["what"], row["value_b"]) == (decision["cut"], decision["value"])
        assert row["threshold"] == decision["threshold"] == 20
        assert "min_ndet 3 → 20" in row["cause"]


def test_a_condition_that_decided_is_false_in_the_run_that_lacks_the_object(
    found: Comparison,
) -> None:
    rows = found.changes[found.changes["what"] == "salt_fit.x1_err < 0.6"]
    assert len(rows)
    for _, row in rows.iterrows():
        values = [fits(found, run).loc[row["stock"], "x1_err"] for run in "ab"]
        assert [row["value_a"], row["value_b"]] == values
        assert row["change"] == "lost"
        assert values[1] >= row["threshold"] == 0.6
        if values[0] >= 0.6:
            assert row["reason"] == "expression"
            assert row["cause"] == "select: salt_fit.x1_err < 1 → salt_fit.x1_err < 0.6"


def test_shifts_are_those_of_the_tables(found: Comparison) -> None:
    a, b = fits(found, "a"), fits(found, "b")
    both = a.index[a["status"] == 0].intersection(b.index[b["status"] == 0])
    shifts = {s.column: s.summary for s in found.shifts}
    for name in ("t0", "x1", "c", "chisq"):
        delta = (b.loc[both, name] - a.loc[both, name]).to_numpy()
        summary = shifts[f"salt_fit.{name}"]
        assert summary.n == len(both) > 3
        assert summary.median == np.median(delta)
        assert abs(summary.largest) == np.abs(delta).max()
        if name != "chisq":
            assert summary.beyond == np.sum(np.abs(delta) > a.loc[both, f"{name}_err"])
    assert shifts["salt_fit.c"].changed > 0


def test_reuse_is_what_the_run_itself_counted(found: Comparison) -> None:
    for record, letter in ((found.a, "a"), (found.b, "b")):
        counted = record.counts.t2
        told = {r.unit: (r.wanted, r.reused, r.computed) for r in found.reuse if r.run == letter}
        assert told == {
            unit: (c["wanted"], c["present"], c["computed"]) for unit, c in counted.items()
        }
    reused = {r.unit for r in found.reuse if r.run == "b" and r.computed == 0}
    assert reused == {"light_curve_summary", "milky_way_dust"}


def test_the_tie_is_named_where_a_fit_read_another_host(found: Comparison) -> None:
    rows = found.changes[found.changes["reason"].isin(["condition", "status", "rank"])]
    mine = rows[rows["selection"] == "sn_ia"]
    assert len(mine)
    a, b = fits(found, "a"), fits(found, "b")
    for _, row in mine.iterrows():
        differ = a.loc[row["stock"], "input_hash"] != b.loc[row["stock"], "input_hash"]
        assert ("salt_fit reads host: parameter radius 5.0 → 0.6" in row["cause"]) == differ
