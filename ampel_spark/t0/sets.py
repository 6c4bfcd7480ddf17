"""Which decision set a channel's filter has, what of it is there, and what is left to judge.

A set is called by survey, channel, trace and the alerts that its first part covered: a version of
``alerts``, up to a time. A later part covers what came since. A set serves a run if one of its
parts covers the run's version, at least up to the run's time. Otherwise it grows, if all alerts
that it covers are still there. Else a new set is made.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampel_spark.lake.changes import Changes, changes, notes
from ampel_spark.lake.commits import insert
from ampel_spark.lake.decisions import DecisionRef
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.tables import TABLES
from ampel_spark.t0.selection import ChannelFilter
from ampel_spark.trace import trace_id_of

__all__ = ["Came", "Coverage", "Growth", "Plan", "looks_around", "parts_of", "plan"]

_KEY = ("alert_id", "content_hash")


@dataclass(frozen=True)
class Coverage:
    """The alerts that a set covers: a version of ``alerts``, up to a time [JD] (None: all)."""

    version: int
    until: float | None = None

    @property
    def end(self) -> float:
        """The time as a number."""
        return math.inf if self.until is None else self.until


@dataclass(frozen=True, eq=False)
class Came:
    """Alerts that came to a version of ``alerts``; none of the earlier ones went.

    Attributes
    ----------
    files : tuple of str
        Files of the alerts that came, if nothing else changed.
    ids : ndarray of int64 or None
        The ids of the alerts that came, if files were written anew.
    """

    files: tuple[str, ...] = ()
    ids: npt.NDArray[np.int64] | None = None

    def __bool__(self) -> bool:
        return bool(self.files) or self.ids is not None


@dataclass(frozen=True, eq=False)
class Growth:
    """What a set lacks to cover more alerts.

    Attributes
    ----------
    since, to : Coverage
        What it covers, and what it is to cover.
    came : Came
        The alerts that came up to the set's time.
    """

    since: Coverage
    to: Coverage
    came: Came


@dataclass(frozen=True)
class Plan:
    """What becomes of a channel: its set, the part that the run uses, and what is to be judged.

    Attributes
    ----------
    judged : ChannelFilter
        The channel and its filter.
    set_id : str
        Its decision set.
    part : int
        The last part that the run uses; one that `growth` or `whole` makes, if there is one.
    parts : sequence of mapping
        The rows of ``decision_sets`` up to that part that are there.
    growth : Growth or None
        What the set has to grow by.
    whole : Coverage or None
        The alerts to be judged for a new set.
    """

    judged: ChannelFilter
    set_id: str
    part: int
    parts: Sequence[Mapping[str, Any]] = field(default=())
    growth: Growth | None = None
    whole: Coverage | None = None

    @property
    def is_there(self) -> bool:
        """Whether nothing has to be judged."""
        return self.growth is None and self.whole is None

    @property
    def covers(self) -> Coverage:
        """The alerts that the set covers with the part that the run uses."""
        made = self.growth.to if self.growth is not None else self.whole
        return made or _coverage(self.parts[-1])

    def ref(self, until: float | None) -> DecisionRef:
        """Return how a run that counts alerts up to a time refers to the set."""
        return DecisionRef(self.set_id, self.part, until)


def looks_around(judged: ChannelFilter) -> bool:
    """Say whether a decision on an alert depends on other alerts of the object.

    That of a `judge` does: a point has the values that alerts up to this one have shown.
    """
    reads = judged.filter.judges and judged.filter.reads_history
    return reads or judged.on_stock_match != "none" or judged.history == "archive"


def parts_of(lake: Lake) -> list[dict[str, Any]]:
    """Return the rows of ``decision_sets``, the oldest first; those of a killed run are added.

    The commit that brings decisions has the rows of their sets in its notes. So a set is never
    without them, wherever a run was killed.
    """
    table = TABLES["decision_sets"]
    rows = lake.arrow(table.name).to_pylist() if lake.has(table.name) else []
    last = max((row["decisions_version"] for row in rows), default=-1)
    known = {(row["set_id"], row["part"]) for row in rows}
    lost = [
        row | {"decisions_version": version}
        for version, note in notes(lake.path("decisions"), last)
        for row in note.get("sets", ())
        if (row["set_id"], row["part"]) not in known
    ]
    if lost:
        insert(lake, table, pa.Table.from_pylist(lost, arrow_schema(table)), {})
    return sorted(rows + lost, key=lambda row: (row["decisions_version"], row["set_id"]))


def plan(lake: Lake, survey: str, filters: Sequence[ChannelFilter], wanted: Coverage) -> list[Plan]:
    """Return the plan of each channel.

    Parameters
    ----------
    lake : Lake
        The lake.
    survey : str
        The survey of the alerts.
    filters : sequence of ChannelFilter
        The channels.
    wanted : Coverage
        The alerts that the run sees.
    """
    rows = parts_of(lake)
    return [_plan(lake, survey, judged, rows, wanted) for judged in filters]


def _plan(
    lake: Lake,
    survey: str,
    judged: ChannelFilter,
    rows: Sequence[Mapping[str, Any]],
    wanted: Coverage,
) -> Plan:
    sets: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if (row["survey"], row["channel"], row["trace_id"]) == (
            survey, judged.channel, judged.trace_id,
        ):  # fmt: skip
            sets.setdefault(row["set_id"], []).append(row)
    whole = [sorted(parts, key=lambda row: row["part"]) for parts in reversed(sets.values())]
    if (there := _that_serves(lake, whole, wanted)) is not None:
        return Plan(judged, there[0]["set_id"], there[-1]["part"], there)
    for parts in whole:
        if (growth := _growth(lake, _coverage(parts[-1]), wanted)) is not None:
            return Plan(judged, parts[0]["set_id"], parts[-1]["part"] + 1, parts, growth)
    content = {"survey": survey, "channel": judged.channel, "trace": judged.trace_id,
               "alerts": wanted.version, "until": wanted.until}  # fmt: skip
    return Plan(judged, trace_id_of(content), 0, whole=wanted)


def _coverage(part: Mapping[str, Any]) -> Coverage:
    return Coverage(part["alerts_version"], part["until_jd"])


def _that_serves(
    lake: Lake, sets: Sequence[Sequence[Mapping[str, Any]]], wanted: Coverage
) -> Sequence[Mapping[str, Any]] | None:
    """Return the parts of a set that cover what is wanted, up to the last that is needed."""
    for parts in sets:
        for n, part in enumerate(parts, start=1):
            there = _coverage(part)
            if there.version == wanted.version and there.end >= wanted.end:
                return parts[:n]
    for parts in sets:
        there = _coverage(parts[-1])
        came = _came(lake.path("alerts"), there, wanted.version)
        if came is not None and not came and there.end >= wanted.end:
            return parts
    return None


def _growth(lake: Lake, there: Coverage, wanted: Coverage) -> Growth | None:
    """Return what a set lacks; None if alerts that it covers are gone."""
    came = _came(lake.path("alerts"), there, wanted.version)
    if came is None:
        return None
    longest = max((there, wanted), key=lambda each: each.end)
    return Growth(there, Coverage(wanted.version, longest.until), came)


@functools.lru_cache(maxsize=64)
def _came(alerts: str, there: Coverage, version: int) -> Came | None:
    """Return what came to alerts that are covered; None if alerts are gone."""
    found = changes(alerts, there.version, version)
    if found is None:
        return None
    if not found.removed:
        return Came(found.added)
    return _rewritten(found, there.end)


def _rewritten(found: Changes, end: float) -> Came | None:
    """Return the ids of alerts that are in files that came, and not in files that went."""
    keys, signs = [], []
    for paths, sign in ((found.added, 1), (found.removed, -1)):
        for path in paths:
            rows = pq.read_table(path, columns=[*_KEY, "jd"], partitioning=None)
            rows = rows.filter(np.asarray(rows["jd"]) <= end)
            # a null hash is of a packet of an old lake
            columns = [pc.fill_null(rows[name], 0).to_numpy() for name in _KEY]
            keys.append(np.stack(columns, axis=1))
            signs.append(np.full(len(rows), sign))
    each, place = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    sums = np.bincount(place.ravel(), np.concatenate(signs), len(each))
    if (sums < 0).any():
        return None
    new = each[sums > 0, 0]
    return Came(ids=new if len(new) else None)
