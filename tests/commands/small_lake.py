"""A lake made without Spark: two runs of one job, two channels, two objects, by hand."""

# ruff: noqa: E501  (rows are easier to read whole)
from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from ampel_spark.archive.reading.ztf import alerts_table
from ampel_spark.job.configuration.load import load_job
from ampel_spark.lake.marker import FORMAT
from ampel_spark.lake.parts import arrow_type
from ampel_spark.lake.tables import TABLES, Table, TableColumn, result_table

__all__ = ["ALERTS", "JOB", "RUNS", "STOCK", "change_run", "make_lake"]

STOCK, OTHER = 360504273, 367159587  # ZTF18abxhyqv and ZTF20abyfpze, by AMPEL's rule
RUNS = ("small-20240101T000000-aaaa", "small-20240102T000000-bbbb")
STATE = "00112233445566778899aabbccddeeff"

JOB = """\
name: small
channel:
- {name: SN, access: [ZTF_PUB]}
- {name: Team, access: [ZTF_PUB, ZTF_PRIV]}
t0:
- channel: SN
  filter: SimpleDecentFilter
  config: {min_ndet: 2, min_tspan: 0.5}
- channel: Team
  filter: Conditions
  config: {conditions: [rb >= 0.5, abs(gal_lat) > 14, drb >= 0.9 or missing]}
  history: archive
t2:
- unit: light_curve_summary
  name: summary
t3:
- {name: best, channel: SN, select: summary.n_detections >= 2, columns: [summary.peak_mag]}
"""

_CANDIDATE = {
    "fid": 1, "magpsf": 18.5, "sigmapsf": 0.05, "isdiffpos": "t", "rb": 0.9, "drb": 0.99, "fwhm": 2.0,
    "elong": 1.1, "magdiff": 0.1, "nbad": 0, "ssdistnr": -999.0, "distpsnr1": 5.0, "sgscore1": 0.3,
    "distpsnr2": 9.0, "sgscore2": 0.5, "distpsnr3": 12.0, "sgscore3": 0.5, "jdstarthist": 2458800.5,
    "jdendhist": 2458820.5, "ra": 180.0, "dec": 30.0, "run_id": "ingest", "survey": "ztf",
}  # fmt: skip


def _alert(
    alert_id: int, jd: float, points: Sequence[tuple[int, float, int]], **more: Any
) -> dict[str, Any]:
    """Return an alert whose packet shows `points`: id, jd, programid; its own candidate first."""
    detections = [jd for identity, jd, _ in points if identity > 0]
    row = _CANDIDATE | {"stock": STOCK, "name": "ZTF18abxhyqv", "alert_id": alert_id, "jd": jd}
    row |= {
        "datapoint_ids": [p[0] for p in points],
        "datapoint_jds": [p[1] for p in points],
        "datapoint_programids": [p[2] for p in points],
        "programid": points[0][2],
        "n_detections": len(detections),
        "n_upper_limits": len(points) - len(detections),
        "jd_first": min(detections),
        "jd_last": max(detections),
    }
    return row | more


_LIMIT, _FIRST, _PRIVATE, _LAST = (
    (-5, 2458809.5, 1),
    (11, 2458810.5, 1),
    (12, 2458812.5, 2),
    (13, 2458815.5, 1),
)
#: The object's alerts: the second belongs to the partnership, and so does a point of the third's history.
ALERTS = [
    _alert(11, 2458810.5, [_FIRST, _LIMIT], fwhm=9.0),
    _alert(12, 2458812.5, [_PRIVATE, _FIRST, _LIMIT]),
    _alert(13, 2458815.5, [_LAST, _FIRST, _PRIVATE, _LIMIT], magpsf=18.0, drb=None),
    _alert(21, 2458811.5, [(21, 2458811.5, 2)], stock=OTHER, name="ZTF20abyfpze"),
]


def make_lake(folder: Path) -> Path:
    """Write the lake into `folder`, and return its root."""
    lake = folder / "lake"
    lake.mkdir()
    (lake / "_ampel_spark.json").write_text(json.dumps({"format": FORMAT}) + "\n")
    file = folder / "small.yml"
    file.write_text(JOB)
    job = load_job(file)
    _write(lake, alerts_table(), ALERTS[:1])
    _write(lake, alerts_table(), ALERTS[1:])
    for run in RUNS:
        _write(
            lake,
            TABLES["decisions"],
            [
                d | {"run_id": run, "set_id": f"{run} {d['channel']}", "part": 0}
                for d in _decisions()
            ],
        )
    _write(lake, TABLES["states"], [_state()])
    _write(lake, TABLES["state_channels"], [_link(run) for run in RUNS])
    summary = Table("t2_summary", "results", (*result_table("summary", _COLUMNS).columns,))
    _write(lake, summary, [_result("old", 17.0), _result("now", 18.0)])
    base = TABLES["candidates"]
    columns = (*base.columns, TableColumn("summary_peak_mag", "double", "brightest [mag]"))
    candidate = {
        "channel": "SN",
        "selection": "best",
        "stock": STOCK,
        "name": "ZTF18abxhyqv",
        "state_id": STATE,
    }
    _write(lake, Table("candidates", base.comment, columns),
           [candidate | {"rank": 1, "run_id": RUNS[1], "summary_peak_mag": 18.0}])  # fmt: skip
    for n, run in enumerate(RUNS):
        _write(lake, TABLES["runs"], [_run(run, n, job.hash, job.text, job.canonical)])
    return lake


def change_run(lake: Path, run_id: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Write a run's record again, with another resolved job."""
    from deltalake import DeltaTable

    table = DeltaTable(str(lake / "runs"))
    rows = table.to_pyarrow_table()
    changed = []
    for row in rows.to_pylist():
        job = json.loads(row["job_resolved"])
        if row["run_id"] == run_id:
            change(job)
        changed.append(row | {"job_resolved": json.dumps(job)})
    data = pa.Table.from_pylist(changed, schema=rows.schema)
    write_deltalake(str(lake / "runs"), data, mode="overwrite")


_COLUMNS = (
    TableColumn("n_detections", "int", "detections"),
    TableColumn("peak_mag", "double", "brightest detection [mag]"),
    TableColumn("bands", "array<string>", "bands"),
)


def _write(lake: Path, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    fields = [
        pa.field(
            c.name,
            pa.timestamp("us", "UTC") if c.type == "timestamp" else arrow_type(c.type),
            metadata={"comment": c.comment},
        )
        for c in table.columns
    ]
    data = pa.Table.from_pylist(list(rows), schema=pa.schema(fields))
    write_deltalake(str(lake / table.name), data, mode="append", description=table.comment)


def _decisions() -> list[dict[str, Any]]:
    base = {
        "survey": "ztf",
        "stock": STOCK,
        "name": "ZTF18abxhyqv",
        "bypassed": False,
        "trace_id": "t0",
    }
    return [
        base | {"channel": "SN", "alert_id": 11, "jd": 2458810.5, "accepted": False, "cut": "min_ndet", "value": 1.0, "threshold": 2.0},
        base | {"channel": "SN", "alert_id": 13, "jd": 2458815.5, "accepted": True},
        base | {"channel": "Team", "alert_id": 11, "jd": 2458810.5, "accepted": True},
        base | {"channel": "Team", "alert_id": 12, "jd": 2458812.5, "accepted": True},
        base | {"channel": "Team", "alert_id": 13, "jd": 2458815.5, "accepted": True, "bypassed": True},
    ]  # fmt: skip


def _state() -> dict[str, Any]:
    return {
        "state_id": STATE, "link": 7, "survey": "ztf", "stock": STOCK, "name": "ZTF18abxhyqv", "n_detections": 2,
        "n_upper_limits": 1, "n_forced": 0, "jd_first": 2458810.5, "jd_last": 2458815.5,
        "datapoint_ids": [-5, 11, 13], "run_id": RUNS[0],
    }  # fmt: skip


def _link(run: str) -> dict[str, Any]:
    return {
        "channel": "SN", "stock": STOCK, "state_id": STATE, "calibration": "raw", "access": "1",
        "points": "detection,upper_limit", "datapoints_version": 4, "alerts_version": 1, "run_id": run,
    }  # fmt: skip


def _result(trace: str, peak: float) -> dict[str, Any]:
    return {
        "state_id": STATE, "stock": STOCK, "name": "ZTF18abxhyqv", "trace_id": trace, "input_hash": "", "status": 0,
        "duration_ms": 0.5, "run_id": RUNS[0], "n_detections": 2, "peak_mag": peak, "bands": ["ztfg"],
    }  # fmt: skip


def _run(run: str, n: int, job_hash: str, text: str, resolved: str) -> dict[str, Any]:
    started = datetime.datetime(2024, 1, 1 + n, tzinfo=datetime.UTC)
    cuts = [["min_ndet", 1], ["min_tspan", 0]]
    counts = {
        "t0": {"SN": {"alerts": 2, "accepted": 1, "bypassed": 0, "objects": 1, "cuts": cuts}},
        "t1": {"states": 1, "new": 1 - n, "channels": {"SN": {"states": 1, "objects": 1}}},
        "t2": {
            "summary": {
                "wanted": 1,
                "present": n,
                "computed": 1 - n,
                "statuses": {"0": 1},
                "median_ms": 0.5,
            }
        },
        "t3": {"best": {"channel": "SN", "states": 1, "candidates": n}},
    }
    return {
        "run_id": run, "job": "small", "job_hash": job_hash, "job_text": text, "job_resolved": resolved,
        "calibration": "raw", "inputs": json.dumps({"alerts": 1, "datapoints": 4}),
        "outputs": json.dumps({"decisions": n}), "traces": json.dumps({"t0": {"SN": "t0"}, "t2": {"summary": {"trace_id": "now"}}}),
        "counts": json.dumps(counts), "software": "{}", "git_commit": "abc", "started": started,
        "decisions": json.dumps({c: {"set_id": f"{run} {c}", "part": 0, "until_jd": None} for c in ("SN", "Team")}),
        "ended": started + datetime.timedelta(seconds=90), "status": "good",
    }  # fmt: skip
