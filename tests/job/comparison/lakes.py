"""Lakes made by hand, without Spark: runs whose every difference is known."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from ampel_spark.lake.parts import arrow_type
from ampel_spark.lake.tables import TABLES, Table, TableColumn, result_table
from ampel_spark.lake.ties import key_hash

__all__ = [
    "AFTER",
    "AGAIN",
    "BEFORE",
    "OTHER_DUST",
    "Object",
    "add_run",
    "empty_lake",
    "fit",
    "make_lake",
]

BEFORE, AFTER, OTHER_DUST, AGAIN = (
    f"job-2024010{i}T000000-{letter * 4}" for i, letter in enumerate("abcd", start=1)
)

_FIT = (
    TableColumn("x1", "double", "stretch"),
    TableColumn("x1_err", "double", "error of x1"),
    TableColumn("c", "double", "colour [mag]"),
    TableColumn("c_err", "double", "error of c [mag]"),
    TableColumn("model", "string", "model"),
)
_EBV = {"ebv": 0.1}
_DUST = (TableColumn("ebv", "double", "E(B-V) [mag]"),)
SELECT = "fit.status == 0 and abs(fit.x1) < 3 and fit.c < 0.5"


@dataclass(frozen=True)
class Object:
    """What one run has of an object; what is None it does not have.

    Attributes
    ----------
    stock : int
    state : str or None
    points : sequence of int
        Datapoint ids of the state.
    rules : sequence of int
        Rules of the release that changed the state.
    fit, dust : mapping or None
        Results that this run computed; ``status`` 0 unless they say another.
    alerts : sequence of tuple
        Alerts judged: id, jd, and the cut, value and threshold that rejected it, or nothing.
    of : int or None
        Alert that the state is of.
    """

    stock: int
    state: str | None = None
    points: Sequence[int] = (1, 2, 3)
    rules: Sequence[int] = ()
    fit: Mapping[str, Any] | None = None
    dust: Mapping[str, Any] | None = None
    alerts: Sequence[tuple[Any, ...]] | None = None
    of: int | None = None


def job(**changes: Any) -> dict[str, Any]:
    """Return a resolved job; keys are ``min_ndet``, ``select``, ``rank``, ``limit``, ``phase``."""
    ask = {"min_ndet": 3, "select": SELECT, "rank": "fit.x1_err", "limit": 6, "phase": 30} | changes
    return {
        "name": "job",
        "survey": "ztf",
        "calibration": "raw",
        "channel": [{"name": "SN", "access": ["ZTF_PUB"]}],
        "t0": [
            {
                "channel": "SN",
                "filter": "SimpleDecentFilter",
                "config": {"min_ndet": ask["min_ndet"]},
            }
        ],
        "t1": {"states": "latest", "points": ["detection"]},
        "t2": [
            {"unit": "milky_way_dust", "name": "dust", "channel": ["SN"], "config": {}},
            {
                "unit": "my:Fit",
                "name": "fit",
                "channel": ["SN"],
                "config": {"dust": {"unit": "dust"}, "phase": ask["phase"]},
            },
        ],
        "t3": [
            {
                "name": "best",
                "channel": "SN",
                "select": ask["select"],
                "rank": ask["rank"],
                "columns": {"x1": "fit.x1", "x1_err": "fit.x1_err", "c": "fit.c"},
                "limit": ask["limit"],
                "export": [],
            }
        ],
    }


def traces(t0: str = "t0", dust: str = "map 1", phase: int = 30) -> dict[str, Any]:
    """Return the traces of a run."""
    return {
        "t0": {"SN": t0},
        "t2": {
            "dust": {"trace_id": f"dust {dust}", "files": [{"name": "map", "sha256": dust}]},
            "fit": {"trace_id": f"fit {phase}", "parameters": {"phase": phase},
                    "code": {"my": "c0de"}, "libraries": {"numpy": "2.4"}},
        },
    }  # fmt: skip


def add_run(
    lake: Path,
    run_id: str,
    objects: Sequence[Object],
    candidates: Sequence[tuple[int, str]],
    *,
    asked: Mapping[str, Any] | None = None,
    traced: Mapping[str, Any] | None = None,
    calibration: str = "raw",
    inputs: Mapping[str, Any] | None = None,
    version: int = 0,
    status: str = "good",
) -> None:
    """Write all that a run leaves in a lake: its record, decisions, states, results, candidates.

    Parameters
    ----------
    lake : Path
    run_id : str
    objects : sequence of Object
    candidates : sequence of (int, str)
        Stock and state of the candidates, by rank.
    """
    trace = traced or traces()
    decisions, links, states = [], [], []
    results: dict[str, list[dict[str, Any]]] = {"fit": [], "dust": []}
    for o in objects:
        base = {"survey": "ztf", "stock": o.stock, "name": f"SN{o.stock}", "run_id": run_id}
        own = o.alerts if o.alerts is not None else [(10 * o.stock, 2460000.5 + o.stock)]
        for alert_id, jd, *cut in own:
            said = dict(zip(("cut", "value", "threshold"), cut, strict=False))
            decisions.append(
                base
                | {"channel": "SN", "alert_id": alert_id, "jd": jd, "accepted": not cut}
                | {"bypassed": False, "trace_id": trace["t0"]["SN"], "set_id": run_id, "part": 0}
                | said
            )
        if o.state is None:
            continue
        links.append(
            {"channel": "SN", "stock": o.stock, "state_id": o.state, "calibration": calibration,
             "access": "1", "points": "detection", "datapoints_version": version,
             "alerts_version": 0, "alert_id": o.of, "rules": list(o.rules), "run_id": run_id}
        )  # fmt: skip
        states.append(
            base
            | {"state_id": o.state, "link": 1, "n_detections": len(o.points), "n_upper_limits": 0}
            | {"n_forced": 0, "jd_first": 2460000.5, "jd_last": 2460020.5}
            | {"datapoint_ids": sorted(o.points)}
        )
        for unit, values in (("fit", o.fit), ("dust", o.dust)):
            if values is not None:
                results[unit].append(
                    {"state_id": o.state, "stock": o.stock, "name": f"SN{o.stock}",
                     "trace_id": trace["t2"][unit]["trace_id"], "status": 0, "duration_ms": 1.0,
                     "input_hash": _hash(o, trace) if unit == "fit" else "",
                     "run_id": run_id, **values}
                )  # fmt: skip
    _write(lake, TABLES["decisions"], decisions)
    # a state stands once, whichever run makes it again
    known = _known(lake)
    _write(lake, TABLES["states"], [row for row in states if row["state_id"] not in known])
    _write(lake, TABLES["state_channels"], links)
    _write(lake, result_table("fit", _FIT), results["fit"])
    _write(lake, result_table("dust", _DUST), results["dust"])
    rows = [
        {"channel": "SN", "selection": "best", "stock": stock, "name": f"SN{stock}",
         "state_id": state, "rank": rank, "run_id": run_id}
        for rank, (stock, state) in enumerate(candidates, start=1)
    ]  # fmt: skip
    _write(lake, TABLES["candidates"], rows)
    started = datetime.datetime(2024, 1, int(run_id.split("-")[1][6:8]), tzinfo=datetime.UTC)
    record = {
        "run_id": run_id, "job": "job", "job_hash": "0" * 64, "job_text": "", "status": status,
        "job_resolved": json.dumps(job(**(asked or {}))), "calibration": calibration,
        "inputs": json.dumps({"alerts": 0, "datapoints": version} | dict(inputs or {})),
        "outputs": "{}", "traces": json.dumps(trace), "counts": "{}",
        "decisions": json.dumps({"SN": {"set_id": run_id, "part": 0, "until_jd": None}}),
        "software": json.dumps({"numpy": "2.4"}), "git_commit": "abc", "started": started,
        "ended": started + datetime.timedelta(seconds=60),
    }  # fmt: skip
    _write(lake, TABLES["runs"], [record])


def fit(x1: float, x1_err: float, c: float = 0.0, **more: Any) -> dict[str, Any]:
    """Return a result of the unit ``fit``."""
    return {"x1": x1, "x1_err": x1_err, "c": c, "c_err": 0.05, "model": "salt3"} | more


def make_lake(folder: Path) -> Path:
    """Write a lake of four runs.

    ``BEFORE``; ``AFTER`` with another cut, release, unit, select and limit; ``AGAIN``, which is
    ``BEFORE`` once more; ``OTHER_DUST``, in which what the fits are tied to is another.
    """
    lake = empty_lake(folder)
    point = {"stock": 12, "datapoint_id": 3, "revision": 0, "first_alert_jd": 2460001.5}
    for revision in (0, 1):
        _write(lake, TABLES["datapoints"], [point | {"revision": revision}])
    first = {
        1: fit(0.5, 0.1), 2: fit(0.5, 0.2), 3: fit(0.5, 0.3), 4: fit(2.5, 0.4, -0.1),
        5: fit(0.1, 0.5), 6: fit(0.2, 0.6, 0.4),
        # not selected: x1 too large, no state, too late
        7: fit(3.5, 0.15), 9: fit(0.0, 0.7), 12: fit(4.0, 0.9),
    }  # fmt: skip
    rejected = (80, 2460008.5, "max_fwhm", 6.0, 5.5)
    before = [
        *(Object(stock, f"s{stock}", fit=values, dust=_EBV) for stock, values in first.items()),
        Object(8, alerts=[rejected, (81, 2460009.5, "min_ndet", 2.0, 3.0)]),
    ]
    add_run(lake, BEFORE, before, [(s, f"s{s}") for s in (1, 2, 3, 4, 5, 6)])
    after = [
        Object(1, "s1", fit=fit(0.55, 0.18)),
        # its first accepted alert is rejected now, as is the one after
        Object(2, alerts=[(20, 2460002.5, "min_ndet", 4.0, 5.0), (21, 2460003.5, "rb", 0.1, 0.3)]),
        Object(3, "s3", fit=fit(None, None, None, status=3, message="phases not covered")),
        Object(4, "s4b", (1, 2, 4, 5), (2,), fit=fit(3.2, 0.4, -0.1), dust=_EBV),
        Object(5, "s5", fit=fit(0.1, 0.65)),
        Object(6, "s6", fit=fit(0.2, 0.6, 0.4)),
        Object(7, "s7", fit=fit(2.9, 0.15)),
        Object(8, "s8", fit=fit(0.0, 0.2), dust=_EBV, alerts=[(80, 2460008.5)]),
        Object(9, "s9", fit=fit(0.0, 0.45)),
        Object(12, "s12b", fit=fit(4.1, 0.9), dust=_EBV),
    ]
    add_run(
        lake, AFTER, after, [(7, "s7"), (1, "s1"), (8, "s8"), (9, "s9")],
        inputs={"calibration zp": "cafe"},
        asked={"min_ndet": 5, "select": SELECT.replace("0.5", "0.3"), "limit": 4, "phase": 20},
        traced=traces("other", phase=20), calibration="zp", version=1,
    )  # fmt: skip
    rules = [(1, "grey"), (2, "faint end")]
    _write(
        lake,
        TABLES["calibrations"],
        [{"release": "zp", "content_hash": "cafe", "rule": n, "name": name} for n, name in rules],
    )
    dusty = [
        Object(
            stock,
            f"s{stock}",
            fit=values | {"c": values["c"] - 0.02},
            dust={"ebv": 0.2},
        )
        for stock, values in first.items()
    ]
    add_run(
        lake, OTHER_DUST, dusty, [(s, f"s{s}") for s in (1, 2, 3, 4, 5, 6)],
        traced=traces(dust="map 2"),
    )  # fmt: skip
    again = [Object(stock, f"s{stock}") for stock in first]
    add_run(lake, AGAIN, again, [(s, f"s{s}") for s in (1, 2, 3, 4, 5, 6)])
    return lake


def empty_lake(folder: Path) -> Path:
    """Make a lake without a table."""
    lake = folder / "lake"
    lake.mkdir(parents=True)
    (lake / "_ampel_spark.json").write_text('{"format": 3}\n')
    return lake


def _hash(o: Object, trace: Mapping[str, Any]) -> str:
    dust = {"trace_id": trace["t2"]["dust"]["trace_id"], "state_id": o.state, "status": 0}
    return key_hash({"dust": dust})


def _known(lake: Path) -> set[str]:
    from ampel_spark.lake.reading import read

    if not (lake / "states").exists():
        return set()
    return set(read(lake, "states", ["state_id"])["state_id"].to_pylist())


def _write(lake: Path, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    fields = [
        pa.field(
            c.name,
            pa.timestamp("us", "UTC") if c.type == "timestamp" else arrow_type(c.type),
            metadata={"comment": c.comment},
        )
        for c in table.columns
    ]
    data = pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(fields))
    write_deltalake(str(lake / table.name), data, mode="append")
