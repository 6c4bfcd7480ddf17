"""Runs without Spark: a lake of small nights, and a context whose T0 is plain Python.

Everything but Spark's part is the package's own: sets, parts, commits, gathering, states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampel_spark.archive.committing.chunks import Pinned
from ampel_spark.archive.reading.ztf import alerts_table
from ampel_spark.calibration.release import RAW, Release
from ampel_spark.job.execution import deciding
from ampel_spark.job.execution.tiers import Context
from ampel_spark.lake.changes import files_at
from ampel_spark.lake.commits import add_parts
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.log import newest_version, replace_files
from ampel_spark.lake.parts import Part, PartWriter, arrow_schema
from ampel_spark.lake.tables import TABLES, Table
from ampel_spark.t0.parts import write_decisions
from ampel_spark.t0.selection import ChannelFilter
from ampel_spark.t0.sets import Plan, looks_around
from ampel_spark.t1.states import ALL

#: A few of the columns of alerts: a hundred more would be most of these tests' time.
_COLUMNS = ("survey", "stock", "name", "alert_id", "jd", "programid", "datapoint_ids", "forced_ids",
            "datapoint_programids", "n_detections", "content_hash", "magpsf")  # fmt: skip
_WHOLE = alerts_table()
ALERTS = Table("alerts", _WHOLE.comment, [c for c in _WHOLE.columns if c.name in _COLUMNS],
               _WHOLE.key, ("stock", "alert_id", "jd", "programid"))  # fmt: skip
POINTS = TABLES["datapoints"]
JD = 2459000.5


class PlainLake(Lake):
    """A lake without a JVM."""

    def __init__(self, root: Path) -> None:
        context = SimpleNamespace(defaultParallelism=2, statusTracker=lambda: None)
        super().__init__(SimpleNamespace(sparkContext=context), root)  # type: ignore[arg-type]


def written(lake: Lake, table: Table, rows: Sequence[Mapping[str, Any]]) -> Part:
    """Write rows as the ingest does, in order of object, by small row groups."""
    made = pa.Table.from_pylist([*rows], arrow_schema(table)).sort_by("stock")
    lake.ensure(table)
    writer = PartWriter(lake.path(table.name), arrow_schema(table), table.extremes)
    for start in range(0, len(made), 4):
        writer.write(made.slice(start, 4))
    return writer.close()


def alert(number: int, stock: int, day: float, mag: float, programid: int = 1) -> dict[str, Any]:
    """Return an alert of an object, with a point of its own."""
    return {
        "survey": "ztf", "stock": stock, "name": f"ZTF{stock}", "alert_id": number,
        "jd": JD + day, "programid": programid, "magpsf": mag, "content_hash": number,
    }  # fmt: skip


def add_night(lake: Lake, alerts: Sequence[dict[str, Any]]) -> Pinned:
    """Take a night's alerts: each shows its own point, and those of the object before it."""
    known = pq_rows(lake, "alerts")
    rows, points = [], []
    for one in alerts:
        before = [
            a for a in (*known, *alerts) if a["stock"] == one["stock"] and a["jd"] <= one["jd"]
        ]
        shown = sorted({a["alert_id"]: a for a in before}.values(), key=lambda a: -a["jd"])
        rows.append(
            one
            | {"datapoint_ids": [a["alert_id"] for a in shown], "n_detections": len(shown),
               "datapoint_programids": [a["programid"] for a in shown]}
        )  # fmt: skip
        points.append(
            {"survey": "ztf", "stock": one["stock"], "datapoint_id": one["alert_id"], "revision": 0,
             "kind": "detection", "jd": one["jd"], "band": "ztfg", "mag": one["magpsf"],
             "magerr": 0.1, "sign": 1, "zpsys": "ab", "programid": one["programid"],
             "field": 500, "rcid": one["alert_id"] % 4, "first_alert_jd": one["jd"],
             "first_alert_id": one["alert_id"]}
        )  # fmt: skip
    add_parts(lake, POINTS, [written(lake, POINTS, points)] if points else [], {})
    add_parts(lake, ALERTS, [written(lake, ALERTS, rows)] if rows else [], {})
    return pinned(lake)


def pinned(lake: Lake) -> Pinned:
    alerts, points = (newest_version(lake.path(name)) for name in ("alerts", "datapoints"))
    assert alerts is not None
    assert points is not None
    return Pinned(alerts, points, 0, 0)


def put_together(lake: Lake, name: str) -> None:
    """Compact a table: one file has all rows."""
    version = newest_version(lake.path(name))
    assert version is not None
    table = {"alerts": ALERTS, "datapoints": POINTS}[name]
    old = [Path(path).name for path in files_at(lake.path(name), version)]
    part = written(lake, table, pq_rows(lake, name))
    replace_files(lake.path(name), [part.as_file()], old, version, {})


def take_away(lake: Lake, stock: int) -> None:
    """Remove the alerts of an object, as a file that is replaced does."""
    version = newest_version(lake.path("alerts"))
    assert version is not None
    old = [Path(path).name for path in files_at(lake.path("alerts"), version)]
    rows = [row for row in pq_rows(lake, "alerts") if row["stock"] != stock]
    part = written(lake, ALERTS, rows)
    replace_files(lake.path("alerts"), [part.as_file()], old, version, {}, changes=True)


def pq_rows(lake: Lake, name: str, version: int | None = None) -> list[dict[str, Any]]:
    if not lake.has(name):
        return []
    newest = lake.version(name) if version is None else version
    assert newest is not None
    files = files_at(lake.path(name), newest)
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    return sorted(rows, key=lambda row: (row["jd"], row.get("alert_id") or row.get("datapoint_id")))


@dataclass(frozen=True)
class Bright:
    """A filter of one cut: fainter than `limit` is rejected."""

    limit: float = 19.0
    judges: ClassVar[bool] = False

    def cuts(self) -> list[Any]:
        return [SimpleNamespace(name="too_faint", needs_stars=False)]


@dataclass(frozen=True)
class Channel:
    """What `decide` asks of a `ChannelFilter`."""

    channel: str
    filter: Bright = field(default_factory=Bright)
    access: frozenset[int] | None = None
    on_stock_match: str = "none"
    history: str = "packet"

    @property
    def trace_id(self) -> str:
        return f"{self.filter} {self.access} {self.on_stock_match} {self.history}"

    def cuts(self) -> list[Any]:
        return self.filter.cuts()


def verdicts(alerts: Sequence[Mapping[str, Any]], judged: Channel) -> list[dict[str, Any]]:
    """Return the decisions on alerts, by a plain loop in order of (jd, alert_id)."""
    found, accepted_before = [], set[int]()
    for a in sorted(alerts, key=lambda a: (a["jd"], a["alert_id"])):
        if judged.access is not None and a["programid"] not in judged.access:
            continue
        good = a["magpsf"] <= judged.filter.limit
        known = judged.on_stock_match == "bypass" and a["stock"] in accepted_before
        if good:
            accepted_before.add(a["stock"])
        found.append(
            {name: a[name] for name in ("survey", "stock", "name", "alert_id", "jd")}
            | {"channel": judged.channel, "accepted": good or known, "bypassed": known,
               "group": None, "cut": None if good or known else "too_faint",
               "value": None if good else a["magpsf"], "threshold": judged.filter.limit,
               "trace_id": judged.trace_id}
        )  # fmt: skip
    return found


class Judge:
    """Takes the place of Spark in `decide`; counts the alerts that it judged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.judged = 0
        monkeypatch.setattr(deciding, "_judge", self)

    def __call__(
        self, context: Context, plans: Sequence[Plan], folder: Path
    ) -> dict[str, deciding._Judged]:
        found: dict[str, deciding._Judged] = {}
        for each in plans:
            rows = self._rows(context, each)
            self.judged += len(rows)
            names = [
                n for n in arrow_schema(TABLES["decisions"]).names if n not in ("set_id", "part")
            ]
            schema = pa.schema([arrow_schema(TABLES["decisions"]).field(n) for n in names])
            schema = schema.append(pa.field("again", pa.bool_()))
            batches = pa.Table.from_pylist(rows, schema).to_batches(max_chunksize=3)
            sets = {each.judged.channel: (each.set_id, each.part)}
            for told in write_decisions(str(folder), sets, batches):
                deciding.take_report(found, told.to_pylist()[0]["report"])
        return found

    def _rows(self, context: Context, each: Plan) -> list[dict[str, Any]]:
        channel: Any = each.judged
        covered = each.covers
        alerts = [
            a
            for a in pq_rows(context.lake, "alerts", covered.version)
            if a["jd"] <= (ALL if covered.until is None else covered.until)
        ]
        more = {"run_id": context.run_id, "again": False}
        if each.growth is None:
            return [row | more for row in verdicts(alerts, channel)]
        since = each.growth.since
        old = {
            a["alert_id"]
            for a in pq_rows(context.lake, "alerts", since.version)
            if a["jd"] <= (ALL if since.until is None else since.until)
        }
        new = {a["alert_id"] for a in alerts} - old
        assert self._named(each, alerts, since) == new
        if not looks_around(channel):
            return [
                row | more for row in verdicts([a for a in alerts if a["alert_id"] in new], channel)
            ]
        first: dict[int, tuple[float, int]] = {}
        for a in alerts:
            if a["alert_id"] in new:
                at = (a["jd"], a["alert_id"])
                first[a["stock"]] = min(at, first.get(a["stock"], at))
        mine = [a for a in alerts if a["stock"] in first]
        return [
            row | more | {"again": row["alert_id"] not in new}
            for row in verdicts(mine, channel)
            if (row["jd"], row["alert_id"]) >= first[row["stock"]]
        ]

    @staticmethod
    def _named(each: Plan, alerts: Sequence[Mapping[str, Any]], since: Any) -> set[int]:
        """Return the new alerts that the plan names: by files, by ids, and by time."""
        growth = each.growth
        assert growth is not None
        found = {a["alert_id"] for a in alerts if a["jd"] > since.end}
        if growth.came.ids is not None:
            return found | {*growth.came.ids.tolist()}
        for path in growth.came.files:
            rows = pq.read_table(path, columns=["alert_id", "jd"]).to_pylist()
            found |= {r["alert_id"] for r in rows if r["jd"] <= min(since.end, growth.to.end)}
        return found


def context(
    lake: Lake,
    folder: Path,
    run_id: str,
    versions: Pinned,
    *,
    as_of: float | None = None,
    channels: Sequence[str] = ("A",),
    access: tuple[int, ...] = (1,),
    mode: str = "latest",
    times: Sequence[float] = (),
    points: Sequence[str] = ("detection",),
    release: Release = RAW,
    dry: bool = False,
) -> Context:
    """Return the context of a run."""
    job: Any = SimpleNamespace(
        survey=SimpleNamespace(label="ztf", columns=SimpleNamespace(alerts={}, points={})),
        filters=(), units=(), selections=(),
        resolved={"survey": "ztf"}, calibration=release,
        channels={c: SimpleNamespace(name=c, programids=access) for c in channels},
        states=SimpleNamespace(mode=mode, as_of=times, points=points),
    )  # fmt: skip
    folder.mkdir()
    return Context(lake, job, run_id, versions, str(folder), as_of, lambda line: None, dry)


def rows_of(lake: Lake, made: Context) -> dict[str, list[dict[str, Any]]]:
    """Return the decisions that a run refers to, by channel, without what tells runs apart."""
    table = lake.arrow("decisions").to_pylist() if lake.has("decisions") else []
    apart = ("run_id", "set_id", "part", "trace_id")
    return {
        channel: sorted(
            ({k: v for k, v in row.items() if k not in apart} for row in ref.chosen(table)),
            key=lambda row: row["alert_id"],
        )
        for channel, ref in made.decisions.items()
    }


def as_filters(*channels: Channel) -> list[ChannelFilter]:
    made: Any = [*channels]
    return made
