"""Filters and units of T3 in Python in a job: each decides and makes what it does by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from ampel_spark import cli
from ampel_spark.interface.run_view import RunView
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

SAMPLES = """
from ampel_spark.t3 import File, Message, Plot, Rows, T3Unit


class Counted(T3Unit):
    "Says how many detections there are."

    what: str

    def reads(self):
        return [self.what]

    def process(self, sample):
        n = sample.values(self.what)
        known = [curve.results["light_curve_summary"] for curve in sample.light_curves()]
        assert [row["n_detections"] + 1 for row in known] == n.tolist()
        results = sample.results("light_curve_summary")["n_detections"].to_pylist()
        assert [r + 1 for r in results] == n.tolist()
        yield Message(f"{len(sample)} candidates of run {sample.run.run_id}")
        yield Rows({"name": sample.names, "n": n}, meanings={"n": "detections and one"})
        yield Plot("counted", lambda figure: figure.add_subplot().plot(n), "How many there are")
        yield File("names.txt", "\\n".join(sample.names))


class Fails(T3Unit):
    def process(self, sample):
        raise KeyError("no such thing")
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
t3:
- name: rising
  channel: Packet
  columns: {n: light_curve_summary.n_detections}
  export: [csv, fits]
- {unit: own.py:Counted, config: {what: n + 1}}
- {unit: own.py:Fails}
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
    spark: SparkSession, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(examples / "lake", lake)
    (tmp_path / "own.py").write_text(FILTERS + SAMPLES)
    (tmp_path / "helpers.py").write_text(HELPERS)
    (tmp_path / "job.yml").write_text(JOB)
    lines: list[str] = []
    outcome = run_job(load_job(tmp_path / "job.yml"), lake, out=lines.append)
    run = find_run(lake, "latest")

    found = {channel: decided(lake, run, channel) for channel in run.filters}
    for channel, decisions in found.items():
        verdicts = by_hand(lake, run, tmp_path, channel)
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
                    known = verdict.value is not None
                    assert row["value"] == (pytest.approx(verdict.value) if known else None)
                    assert row["threshold"] == verdict.threshold
    # each way of rejecting is there, and in the loss table
    cuts = dict(outcome.counts.t0["Packet"]["cuts"])
    assert min(cuts[name] for name in ("min_rb", "seen twice", "min_rise")) > 0
    assert sum(cuts.values()) == sum(not row["accepted"] for row in found["Packet"].values())
    assert any(row["bypassed"] for row in found["Archive"].values())

    # what a filter raises costs its alerts, and the run says so
    lost = dict(outcome.counts.t0["Odd"]["cuts"])["judge raised ValueError"]
    assert outcome.status == "partial"
    assert [line for line in lines if "counted failed" in line] == []
    assert run.message == f"filters raised exceptions for {lost} alerts, fails of t3 failed"
    assert any(f"judge raised ValueError for {lost} alerts" in line for line in lines)
    assert "min_rise" in (lake / "reports" / "latest.html").read_text()
    red = next(i for i, row in found["Odd"].items() if row["cut"] == "judge raised ValueError")
    assert cli.main(["explain", str(red), "--channel", "Odd", "--lake", str(lake)]) == 0
    assert "no red alerts, please" in capsys.readouterr().out

    # a unit of T3 has the candidates, their results and light curves; one that fails costs no other
    names = read(lake, "candidates", filters=pc.field("run_id") == run.run_id)["name"].to_pylist()
    rows = read(lake, "t3_counted").to_pylist()
    assert [row["name"] for row in rows] == names
    assert {row["run_id"] for row in rows} == {run.run_id}
    exports = lake / "exports" / run.run_id
    assert (exports / "counted" / "names.txt").read_text().split() == names
    assert {"counted", "rising.csv", "rising.fits"} <= {path.name for path in exports.iterdir()}
    report = (lake / "reports" / "latest.html").read_text()
    assert "How many there are" in report
    assert f"{len(names)} candidates of run {run.run_id}" in report
    assert "KeyError: &#39;no such thing&#39;" in report
    assert {*run.traces.t3} == {"counted", "fails"}
    sample = RunView(lake, run).sample("rising")
    assert sample.names == names
    assert sample.light_curve(0).name == names[0]

    # `explain` shows the value that was decided by
    late = next(i for i, row in found["Packet"].items() if row["cut"] == "min_rise")
    args = ["explain", str(late), "--channel", "Packet", "--lake", str(lake)]
    assert cli.main([*args, "--format", "json"]) == 0
    last = json.loads(capsys.readouterr().out)[-1]
    assert last["value"] == pytest.approx(found["Packet"][late]["value"])
    assert (last["cut"], last["passed"]) == ("min_rise", False)

    # what is decided stays decided, until the code changes: then of the filters that use it alone
    assert judged_by(lake, tmp_path) == {"Packet": 0, "Archive": 0, "Odd": 0}
    (tmp_path / "helpers.py").write_text(HELPERS.replace("0.5", "0.6"))
    (tmp_path / "own.py").write_text(FILTERS.replace('"Alerts', '"The alerts') + SAMPLES)
    again = judged_by(lake, tmp_path)
    assert again["Packet"] == again["Archive"] == len(found["Packet"])


def judged_by(lake: Path, folder: Path) -> dict[str, int]:
    job = load_job(folder / "job.yml", ["report=false", "t2=[]", "t3=[]"])
    outcome = run_job(job, lake, out=lambda line: None)
    return {channel: tier["judged"] for channel, tier in outcome.counts.t0.items()}


def decided(lake: Path, run: Run, channel: str) -> dict[int, dict[str, Any]]:
    found: pa.Table = decisions_of(lake, run, [channel])
    return {row["alert_id"]: row for row in found.to_pylist()}
