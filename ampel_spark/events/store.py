"""Events of a lake: the table ``events``, one row for each revision, which is only added to.

The newest revision of an event counts; where it is a retraction there is no event. So what a job
read is named by the version of the table. The table is written and read without Spark.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.errors import LakeError, nearest
from ampel_spark.events.event import RETRACTION, Event
from ampel_spark.lake.commits import Change, commit, written
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.log import newest_version
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.reading import read
from ampel_spark.lake.tables import TABLES
from ampel_spark.sky.healpix import SKY, in_ranges
from ampel_spark.sky.skymaps import DEG2

__all__ = ["EVENTS", "Added", "EventTable", "add", "compare", "folder_of", "hash_of", "is_stored"]

#: The table's name, by which a job's catalogue names it too.
EVENTS = "events"

#: Columns of a row that are large.
_ARRAYS = ("uniq", "density", "distmu", "distsigma", "distnorm")


@dataclass(frozen=True)
class Added:
    """What `add` did.

    Attributes
    ----------
    version : int
        Version of ``events`` that holds all of them.
    new, known : list of Event
        Revisions that were added, and those that were there already.
    left_out : list of str
        What was not added, with the reason in a sentence each.
    """

    version: int
    new: list[Event]
    known: list[Event]
    left_out: list[str]


@dataclass(frozen=True, eq=False)
class EventTable:
    """A version of the events of a lake.

    Attributes
    ----------
    lake : Path
    version : int
    """

    lake: Path
    version: int

    @classmethod
    def open(cls, lake: str | Path, version: int | None = None) -> EventTable:
        """Open the events of a lake, at a version where one is given.

        Raises
        ------
        LakeError
            If the lake has no events, or no such version.
        """
        newest = newest_version(folder_of(lake))
        if newest is None:
            raise LakeError(f"lake {lake} has no events; `ampel-spark event add FILE` adds some")
        if version is not None and not 0 <= version <= newest:
            raise LakeError(f"the events of lake {lake} have no version {version}: they have 0 to "
                            f"{newest}")  # fmt: skip
        return cls(Path(lake), newest if version is None else version)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """All revisions without the pixels of maps, in order of event and revision."""
        names = [name for name in TABLES[EVENTS].names if name not in _ARRAYS]
        found = read(self.lake, EVENTS, names, version=self.version).to_pylist()
        return sorted(found, key=lambda row: (row["event"], row["revision"]))

    @property
    def current(self) -> list[dict[str, Any]]:
        """The newest revision of each event, retracted ones left out, in order of time."""
        newest = {row["event"]: row for row in self.rows}
        found = [row for row in newest.values() if row["type"] != RETRACTION]
        return sorted(found, key=lambda row: (row["jd"], row["event"]))

    @cached_property
    def events(self) -> list[Event]:
        """The events of `current`, with their maps."""
        return self._events([(row["event"], row["revision"]) for row in self.current])

    @property
    def content_hash(self) -> str:
        """Hash of what counts: 32 hexadecimal digits."""
        keys = ("event", "revision", "content_hash")
        return hash_of(tuple(row[k] for k in keys) for row in self.current)

    def event(self, name: str, revision: int | None = None) -> Event:
        """Return one revision of an event, by default the newest.

        Raises
        ------
        LakeError
            If there is none.
        """
        mine = [row["revision"] for row in self.rows if row["event"] == name]
        if not mine:
            known = {row["event"] for row in self.rows}
            raise LakeError(f"lake {self.lake} has no event {name!r}{nearest(name, known)}")
        if revision is not None and revision not in mine:
            raise LakeError(f"event {name} has no revision {revision}: it has "
                            f"{', '.join(map(str, mine))}")  # fmt: skip
        return self._events([(name, mine[-1] if revision is None else revision)])[0]

    def _events(self, keys: Sequence[tuple[str, int]]) -> list[Event]:
        table = read(self.lake, EVENTS, version=self.version)
        wanted = set(keys)
        keyed = zip(*(table[name].to_pylist() for name in ("event", "revision")), strict=True)
        mask = [key in wanted for key in keyed]
        rows = pc.filter(table, pa.array(mask, pa.bool_())).to_pylist()
        found = {(row["event"], row["revision"]): Event.of_row(row) for row in rows}
        return [found[key] for key in keys]


def folder_of(lake: str | Path) -> Path:
    """Return the folder of the events of a lake."""
    return Path(lake) / EVENTS


def hash_of(events: Iterable[tuple[str, int | None, str]]) -> str:
    """Return a hash of events: of their names, revisions and content."""
    return hashlib.blake2b(repr([*events]).encode(), digest_size=16).hexdigest()


def is_stored(path: str | Path) -> bool:
    """Return whether a path is the folder of the events of a lake."""
    return Path(path).name == EVENTS and (Path(path) / "_delta_log").is_dir()


def add(lake: str | Path, events: Sequence[Event]) -> Added:
    """Add revisions of events to a lake.

    A revision without a number is the next one. What is there already is not added again: the same
    content, sent at the same time, or with no time in between. One that was sent before the newest
    revision is left out, and so is another content under a number that is there.

    Parameters
    ----------
    lake : path
        The lake's folder; made where it is absent or empty.
    events : sequence of Event
        In any order; they are taken in the order in which they were sent.

    Raises
    ------
    LakeError
        If `lake` is something else than a lake of this format.
    """
    table = TABLES[EVENTS]
    there = Lake(None, lake)
    found: list[Added] = []

    def look(version: int) -> Change | None:
        found[:] = [_sorted_out(EventTable(there.root, version), events)]
        new = found[0].new
        if not new:
            return None
        now = datetime.datetime.now(datetime.UTC)
        rows = [event.row() | {"added": now} for event in new]
        return Change(written(there, table, pa.Table.from_pylist(rows, arrow_schema(table))))

    version = commit(there, table, look, {"events": sorted({e.event for e in events})})
    return replace(found[0], version=version)


def compare(before: EventTable, after: EventTable) -> list[dict[str, Any]]:
    """Return how events differ between two versions.

    Returns
    -------
    list of dict
        ``event``, ``what`` (gained, lost or changed), the revisions ``before`` and ``after``, the
        areas of both [deg²], and the part ``shared`` [deg²] where both are sky maps.
    """
    sides = [{row["event"]: row for row in table.current} for table in (before, after)]
    rows: list[dict[str, Any]] = []
    for name in sorted({*sides[0], *sides[1]}):
        one, two = (side.get(name) for side in sides)
        if one is not None and two is not None and one["revision"] == two["revision"]:
            continue
        what = "gained" if one is None else "lost" if two is None else "changed"
        row = {
            "event": name, "what": what,
            "before": one and one["revision"], "after": two and two["revision"],
            "area_before": one and one["area"], "area_after": two and two["area"],
            "shared": None,
        }  # fmt: skip
        if one is not None and two is not None and one["shape"] == two["shape"] == "map":
            row["shared"] = _shared(before.event(name, one["revision"]),
                                    after.event(name, two["revision"]))  # fmt: skip
        rows.append(row)
    return rows


def _sorted_out(table: EventTable, events: Sequence[Event]) -> Added:
    """Return which revisions are new in a version of the table, with their numbers."""
    known: dict[str, list[dict[str, Any]]] = {}
    for row in table.rows:
        known.setdefault(row["event"], []).append(row)
    added = Added(table.version, [], [], [])
    for event in sorted(events, key=_when):
        mine = known.setdefault(event.event, [])
        same = [row for row in mine if row["content_hash"] == event.content_hash]
        if any(_is_again(event, row, mine) for row in same):
            added.known.append(event)
            continue
        reason = _refused(event, mine)
        if reason is not None:
            added.left_out.append(f"{event.source}: {reason}")
            continue
        number = mine[-1]["revision"] + 1 if mine else 0
        event = event.numbered(number if event.revision is None else event.revision)
        added.new.append(event)
        mine.append({"revision": event.revision, "content_hash": event.content_hash,
                     "sent": event.sent})  # fmt: skip
        mine.sort(key=lambda row: int(row["revision"]))
    return added


def _when(event: Event) -> tuple[float, int]:
    return (-1.0 if event.sent is None else event.sent, event.revision or 0)


def _is_again(event: Event, row: dict[str, Any], mine: Sequence[dict[str, Any]]) -> bool:
    if event.revision is not None:
        return event.revision == int(row["revision"])
    return row is mine[-1] or (event.sent is not None and event.sent == row["sent"])


def _refused(event: Event, mine: Sequence[dict[str, Any]]) -> str | None:
    """Return why a revision cannot be added beside those that are there; None if it can."""
    numbers = [row["revision"] for row in mine]
    if event.revision is not None:
        if event.revision in numbers:
            return (f"event {event.event} has a revision {event.revision} with another content: "
                    "give --revision")  # fmt: skip
        return None
    sent = [row["sent"] for row in mine if row["sent"] is not None]
    if event.sent is not None and sent and event.sent < max(sent):
        return (f"event {event.event}: revision {numbers[-1]} was sent later; give --revision to "
                "put it in all the same")  # fmt: skip
    return None


def _shared(one: Event, two: Event) -> float:
    """Return the area that the 90 % regions of two maps have in common, square degrees."""
    maps = [event.skymap for event in (one, two) if event.skymap is not None]
    ranges = [skymap.ranges(0.9) for skymap in maps]
    edges = np.unique(np.concatenate([r.ravel() for r in ranges]))
    both = in_ranges(edges, ranges[0]) & in_ranges(edges, ranges[1])
    width = np.diff(edges, append=edges[-1:])
    return float(width[both].sum() / SKY * 4 * np.pi * DEG2)
