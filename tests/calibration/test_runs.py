"""A run under a release makes new exactly those states whose photometry the release changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from ampel_spark.calibration.load import load_release
from ampel_spark.job.configuration.load import load_job
from ampel_spark.job.execution.run import forecast, run_job
from tests.conftest import PROJECT, QUICK

pytestmark = [pytest.mark.spark, pytest.mark.slow]

SMALL = (*QUICK, "t2=[{unit: light_curve_summary}]", "t3=[]", "report=false")


def table(lake: Path, name: str) -> Any:
    return DeltaTable(str(lake / name)).to_pandas()


def run(lake: Path, folder: Path, rules: str) -> tuple[dict[str, Any], Any, list[str]]:
    """Run the quickstart under a release; return its counts, its states, and what was told."""
    file = folder / "mine.yml"
    file.write_text(f"name: mine\nrules:\n{rules}")
    lines: list[str] = []
    job = load_job(PROJECT / "jobs" / "quickstart.yml", SMALL, calibration=str(file))
    assert run_job(job, lake, out=lines.append).code == 0, lines
    last = table(lake, "runs").sort_values("started").iloc[-1]
    assert json.loads(last.inputs)["calibration mine"] == load_release(file).content_hash
    links = table(lake, "state_channels")
    return json.loads(last.counts), links[links.run_id == last.run_id], lines


def test_a_release_makes_new_what_it_touches_and_leaves_the_rest(
    spark: SparkSession, quick_lake: Path, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(quick_lake, lake)
    first = table(lake, "runs").sort_values("started").iloc[0].run_id
    raw = table(lake, "state_channels")
    raw = raw[raw.run_id == first].set_index(["channel", "stock"])
    assert raw.rules.map(len).sum() == 0

    counts, states, lines = run(
        lake, tmp_path,
        "- {name: chips, select: {band: ztfr, ccd: [1, 2, 3, 4, 5, 6, 7, 8]}, zero_point: 0.01}\n"
        "- {select: {time: {first: 2030-01-01}}, zero_point: 0.5}\n",
    )  # fmt: skip
    states = states.set_index(["channel", "stock"])
    points = table(lake, "datapoints")
    met = points[(points.band == "ztfr") & (points.rcid < 32)]
    meant = met[met.kind != "forced"]  # the job's states have none of these
    ids = table(lake, "states").set_index("state_id").datapoint_ids
    keys = set(zip(meant.stock, meant.datapoint_id, strict=True))
    touched = {
        key for key, state in raw.state_id.items()
        if any((key[1], i) in keys for i in ids[state])
    }  # fmt: skip
    assert 0 < len(touched) < len(raw)
    assert set(states.index) == set(raw.index)
    moved = {key for key in raw.index if raw.state_id[key] != states.state_id[key]}
    assert moved == touched
    assert {key for key, rules in states.rules.items() if list(rules) == [1]} == touched
    assert all(len(rules) == 0 for key, rules in states.rules.items() if key not in touched)
    changed = len({raw.state_id[key] for key in touched})
    assert counts["t1"]["new"] == changed
    assert counts["t2"]["light_curve_summary"]["computed"] == changed
    assert counts["calibration"]["rules"] == [[1, len(met)], [2, 0]]
    (warning,) = [line for line in lines if line.startswith("warning: ")]
    assert "rule 2 selects nothing: it begins at JD 2462502.50 (2030-01-01)" in warning
    kept = table(lake, "calibrations").sort_values("rule")
    assert kept.changes.tolist() == ['{"zero_point":0.01}', '{"zero_point":0.5}']

    # and back: a correction with its inverse is none
    counts, states, _ = run(
        lake, tmp_path, "- {zero_point: 0.01}\n- {zero_point: -0.01, adds: true}\n"
    )
    states = states.set_index(["channel", "stock"])
    assert states.state_id.to_dict() == raw.state_id.to_dict()
    assert counts["t1"]["new"] == 0
    assert counts["t2"]["light_curve_summary"]["computed"] == 0

    # a plan tells the same without Spark
    job = load_job(PROJECT / "jobs" / "quickstart.yml", SMALL, calibration="faint_end_2019_11")
    told: list[str] = []
    forecast(job, lake, out=told.append)
    assert any(line.startswith("  calibration: rule 1 (faint end) acts on ") for line in told), told
