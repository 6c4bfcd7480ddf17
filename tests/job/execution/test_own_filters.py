"""Filters in Python in a job: every decision is the one that the filter makes by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from ampel_spark import cli
from ampel_spark.job.configuration.load import load_job
from ampel_spark.job.execution.run import run_job
from ampel_spark.lake.decisions import decisions_of
from ampel_spark.lake.reading import read
from ampel_spark.lake.runs import Run, find_run
from ampel_spark.t0 import Alert
from ampel_spark.t0.explain import history_of
from ampel_spark.t0.filters import make_filter
from ampel_spark.t1.pasts import ALERT_COLUMNS, pasts
from ampel_spark.t1.states import POINT_COLUMNS

pytestmark = [pytest.mark.spark, pytest.mark.slow]

FILTERS = """
from helpers import rise_of
from ampel_spark.t0 import Filter, Verdict


class Rising(Filter):
    "Alerts brighter than the object was before."

    min_rise: float = 0.05
    "Least rise [mag/d]."

    def cuts(self):
        return [self.keep("rb >= 0.5", "min_rb"), self.keep("n_detections >= 2", "seen twice")]

    def judge(self, alert):
        rise = rise_of(alert.light_curve)
        return Verdict(rise >= self.min_rise, "min_rise", rise, self.min_rise)


class Odd(Filter):
    "Takes alerts by their own columns, and fails for some."

    reads_history = False

    def judge(self, alert):
        assert alert.light_curve is None
        if alert.fid == 2:
            raise ValueError("no red alerts, please")
        return alert.magpsf < 19
"""

HELPERS = """
def rise_of(curve):
    d = curve.detections
    d = d.where(d.band == d.band[-1])
    return (d.mag[0] - d.mag[-1]) / max(d.jd[-1] - d.jd[0], 0.5)
"""

JOB = """
name: own_filters
channel:
- {name: Packet, access: [ZTF_PUB]}
- {name: Archive, access: [ZTF_PUB]}
- {name: Odd, access: [ZTF_PUB]}
t0:
- {channel: Packet, filter: own.py:Rising}
- channel: Archive
  filter: own.py:Rising
  config: {min_rise: 0.02}
  history: archive
  on_stock_match: overrule
- {channel: Odd, filter: own.py:Odd}
t2: [{unit: light_curve_summary}]
t3: [{name: rising, channel: Packet, columns: [light_curve_summary.n_detections]}]
"""


def by_hand(lake: Path, run: Run, folder: Path, channel: str) -> dict[int, Any]:
    """Return what the filter of a channel says of each alert, in plain Python."""
    step = run.filters[channel]
    judged = make_filter(step["filter"], step["config"], folder)
    public = frozenset({1})
    points = read(lake, "datapoints", [*POINT_COLUMNS])
    alerts = read(lake, "alerts").sort_by([("jd", "ascending"), ("alert_id", "ascending")])
    seen = alerts.select([*ALERT_COLUMNS])
    rows = [row for row in alerts.to_pylist() if row["programid"] == 1]
    packet = step["history"] == "packet"
    curves: Any = None
    if judged.reads_history:
        curves = pasts(rows, points, seen, None, packet, public)
    found = {}
    for i, row in enumerate(rows):
        earlier = [other for other in rows[:i] if other["stock"] == row["stock"]]
        history = history_of(row, earlier, public, step["history"])
        alert = Alert({**row, **history}, curves[i] if curves else None)
        try:
            found[row["alert_id"]] = judged.verdict(alert)
        except ValueError:
            found[row["alert_id"]] = None
    return found


def test_a_job_decides_as_its_filters_do_by_hand(
    spark: SparkSession, quick_lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.py").write_text(FILTERS)
    (tmp_path / "helpers.py").write_text(HELPERS)
    (tmp_path / "job.yml").write_text(JOB)
    lines: list[str] = []
    outcome = run_job(load_job(tmp_path / "job.yml"), quick_lake, out=lines.append)
    run = find_run(quick_lake, "latest")

    found = {channel: decided(quick_lake, run, channel) for channel in run.filters}
    for channel, decisions in found.items():
        verdicts = by_hand(quick_lake, run, tmp_path, channel)
        assert decisions.keys() == verdicts.keys()
        accepted = {i for i, v in verdicts.items() if v is not None and v.accept}
        assert accepted
        for alert_id, row in decisions.items():
            verdict = verdicts[alert_id]
            if verdict is None:
                assert (row["accepted"], row["cut"]) == (False, "judge raised ValueError")
            elif not row["bypassed"]:
                assert (row["accepted"], row["cut"]) == (verdict.accept, verdict.cut)
                if not verdict.accept:
                    assert row["value"] == pytest.approx(verdict.value, rel=1e-6)
                    assert row["threshold"] == verdict.threshold
    # each way of rejecting is there, and in the loss table
    cuts = dict(outcome.counts.t0["Packet"]["cuts"])
    assert min(cuts[name] for name in ("min_rb", "seen twice", "min_rise")) > 0
    assert sum(cuts.values()) == sum(not row["accepted"] for row in found["Packet"].values())
    assert any(row["bypassed"] for row in found["Archive"].values())

    # what a filter raises costs its alerts, and the run says so
    lost = dict(outcome.counts.t0["Odd"]["cuts"])["judge raised ValueError"]
    assert outcome.status == "partial"
    assert run.message == f"filters raised exceptions for {lost} alerts"
    assert any(f"judge raised ValueError for {lost} alerts" in line for line in lines)
    assert "min_rise" in (quick_lake / "reports" / "latest.html").read_text()
    red = next(i for i, row in found["Odd"].items() if row["cut"] == "judge raised ValueError")
    assert cli.main(["explain", str(red), "--channel", "Odd", "--lake", str(quick_lake)]) == 0
    assert "no red alerts, please" in capsys.readouterr().out

    # `explain` shows the value that was decided by
    late = next(i for i, row in found["Packet"].items() if row["cut"] == "min_rise")
    args = ["explain", str(late), "--channel", "Packet", "--lake", str(quick_lake)]
    assert cli.main([*args, "--format", "json"]) == 0
    last = json.loads(capsys.readouterr().out)[-1]
    assert last["value"] == pytest.approx(found["Packet"][late]["value"])
    assert (last["cut"], last["passed"]) == ("min_rise", False)

    # what is decided stays decided, until the code changes: then of the filters that use it alone
    assert judged_by(quick_lake, tmp_path) == {"Packet": 0, "Archive": 0, "Odd": 0}
    (tmp_path / "helpers.py").write_text(HELPERS.replace("0.5", "0.6"))
    (tmp_path / "own.py").write_text(FILTERS.replace('"Alerts', '"The alerts'))
    again = judged_by(quick_lake, tmp_path)
    assert again["Packet"] == again["Archive"] == len(found["Packet"])


def judged_by(lake: Path, folder: Path) -> dict[str, int]:
    job = load_job(folder / "job.yml", ["report=false", "t2=[]", "t3=[]"])
    outcome = run_job(job, lake, out=lambda line: None)
    return {channel: tier["judged"] for channel, tier in outcome.counts.t0.items()}


def decided(lake: Path, run: Run, channel: str) -> dict[int, dict[str, Any]]:
    found: pa.Table = decisions_of(lake, run, [channel])
    return {row["alert_id"]: row for row in found.to_pylist()}
