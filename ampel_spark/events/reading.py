"""Events as units and jobs read them: those of a lake at a version, or a file of notices."""

from __future__ import annotations

import functools
from pathlib import Path

from ampel_spark.errors import ConfigError
from ampel_spark.events.event import RETRACTION, Event
from ampel_spark.events.matching import EventIndex
from ampel_spark.events.notices import is_json, read_notices
from ampel_spark.events.store import EventTable, hash_of, is_stored
from ampel_spark.files import stamp

__all__ = ["content_hash", "holds_events", "index_of", "open_events"]


def holds_events(path: Path) -> bool:
    """Return whether a path is the events of a lake, or a file of notices (JSON)."""
    return is_stored(path) or is_json(path)


def open_events(path: Path, version: int | None = None) -> tuple[Event, ...]:
    """Return the events that count: the newest revision of each, in order of time.

    Parameters
    ----------
    path : Path
        The folder ``events`` of a lake; or a file of notices (JSON), of which all have to be right.
        A table without rows stands for no events.
    version : int, optional
        Version of the lake's events; by default the newest.

    Raises
    ------
    ConfigError
        If the path is neither, or a notice is wrong.
    LakeError
        If there is no such version.
    """
    if is_stored(path):
        table = EventTable.open(path.parent, version)
        return _of_lake(path.parent, table.version)
    return _of_file(path, stamp(path))


def content_hash(path: Path, version: int | None = None) -> str:
    """Return a hash of the events that count: 32 hexadecimal digits."""
    return hash_of((e.event, e.revision, e.content_hash) for e in open_events(path, version))


def index_of(path: Path, version: int | None, level: float | None, rectangle: bool) -> EventIndex:
    """Return events that are ready to be matched; a process makes them ready once."""
    return _index(open_events(path, version), level, rectangle)


@functools.lru_cache(maxsize=8)
def _index(events: tuple[Event, ...], level: float | None, rectangle: bool) -> EventIndex:
    return EventIndex(events, level, rectangle)


@functools.lru_cache(maxsize=8)
def _of_lake(lake: Path, version: int) -> tuple[Event, ...]:
    return tuple(EventTable.open(lake, version).events)


@functools.lru_cache(maxsize=8)
def _of_file(path: Path, known_by: tuple[int, ...]) -> tuple[Event, ...]:
    if not holds_events(path):
        import pyarrow.parquet as pq

        if path.suffix == ".parquet" and pq.read_metadata(path).num_rows == 0:
            return ()
        raise ConfigError(
            f"{path} is no file of notices (.json): `ampel-spark event add` takes tables and sky "
            "maps into a lake, whose events a job names by 'lake: events'"
        )
    read = read_notices([path])
    if read.left_out:
        raise ConfigError("; ".join(read.left_out))
    newest: dict[str, Event] = {}
    counts: dict[str, int] = {}
    for event in sorted(read.events, key=lambda e: (e.sent or 0.0, e.revision or 0)):
        number = counts.get(event.event, -1) + 1
        counts[event.event] = number if event.revision is None else event.revision
        newest[event.event] = event.numbered(counts[event.event])
    found = [event for event in newest.values() if event.type != RETRACTION]
    return tuple(sorted(found, key=lambda e: (e.jd, e.event)))
