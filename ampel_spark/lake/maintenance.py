"""Care of a lake: fewer and larger files, and files removed that nothing needs any more.

Tables are made with a retention that never ends, because a run reads its inputs by version; plain
``VACUUM`` removes nothing then, and ``VACUUM … RETAIN 0`` too much. Here a file goes if no commit
names it (what a killed writer left), or if none of these versions needs it: the newest, those that
pins hold, and those that commits of the archive name (what ``--as-of vN`` reads). Versions that
lose files are noted in the lake first, and reading one is a clear error from then on.
"""

from __future__ import annotations

import json
import math
import os
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ampel_spark.errors import LakeError
from ampel_spark.lake.months import MONTHLY, compact_months
from ampel_spark.lake.pins import PINNING, live_pins
from ampel_spark.lake.reading import GONE, open_table, read, removed_versions, table_names

if TYPE_CHECKING:
    from ampel_spark.lake.lake import Lake

__all__ = ["Removal", "compact", "needed", "plan_removal", "remove"]

#: Tables that readers take by version, and the column of `archive_files` that names it.
_MARKED = {
    "alerts": "alerts_version",
    "datapoints": "datapoints_version",
    "quarantine": "quarantine_version",
    "sightings": "sightings_version",
}
#: By what the big tables are read: rows of one object close together.
_CLUSTERED = {
    "decisions": ("stock",),
    "states": ("stock",),
}


@dataclass(frozen=True)
class Removal:
    """What can go of one table.

    Attributes
    ----------
    table : str
    files : tuple of Path
    bytes : int
    versions : tuple of int
        Those that cannot be read afterwards.
    """

    table: str
    files: tuple[Path, ...]
    bytes: int
    versions: tuple[int, ...]


def compact(
    lake: Lake, tables: Sequence[str] | None = None, out: Callable[[str], None] = print
) -> None:
    """Write small files together; tables that are read by object are ordered by object.

    Tables of the archive are put together month by month, when a month is over. What was there
    stays readable by its version. Rows stay as they are.
    """
    from delta.tables import DeltaTable

    for name in tables or table_names(lake.root):
        with ExitStack() as locks:
            # An ingest commits to the archive's tables under its own lock alone.
            of_archive = name in _MARKED or name == "archive_files"
            for lock in (*(["archive"] if of_archive else []), name):
                locks.enter_context(lake.lock(lock))
            before = len(open_table(lake.root, name).file_uris())
            if before < 2:
                continue
            if name in MONTHLY:
                compact_months(lake, name)
            else:
                optimizer = DeltaTable.forPath(lake.spark, lake.path(name)).optimize()
                if name in _CLUSTERED:
                    optimizer.executeZOrderBy(*_CLUSTERED[name])
                else:
                    optimizer.executeCompaction()
            after = len(open_table(lake.root, name).file_uris())
        out(f"compact: {name}: {before} files, now {after}, version {lake.version(name)}")


def needed(lake: str | Path, name: str, pins: Sequence[Mapping[str, object]]) -> set[int]:
    """Return the versions of a table that stay readable whatever is removed.

    Parameters
    ----------
    lake : path
    name : str
        The table.
    pins : sequence of mapping
        Those that hold; see `ampel_spark.lake.pins.live_pins`.
    """
    versions = {int(str(row["version"])) for row in pins if row["table"] == name}
    newest = open_table(lake, name).version()
    versions.add(newest)
    if name == "archive_files":
        versions.update(range(newest + 1))  # by which ``--as-of vN`` goes
    elif name in _MARKED and "archive_files" in table_names(lake):
        versions |= set(read(lake, "archive_files", [_MARKED[name]])[0].to_pylist())
    return versions


def plan_removal(lake: Lake, older_than: float = 86_400.0) -> list[Removal]:
    """Return what can go, table by table.

    Parameters
    ----------
    lake : Lake
    older_than : float
        Seconds for which a file stays that no commit names, whose writer may be at work, or that a
        commit has taken out of the table: who reads the version before may be at work, too.
    """
    pins, now = live_pins(lake), time.time()
    found = []
    for name in table_names(lake.root):
        keep = needed(lake.root, name, pins)
        lives = _lives(lake.root, name)
        gone: list[Path] = []
        lost: set[int] = set()
        for path in _data_files(lake.root / name):
            spans = lives.get(path, [])
            if any(span.begin <= version < span.end for version in keep for span in spans):
                continue
            since = max((span.until for span in spans), default=path.stat().st_mtime)
            if now - since >= older_than:
                gone.append(path)
                lost.update(v for span in spans for v in range(span.begin, span.end))
        if gone:
            size = sum(path.stat().st_size for path in gone)
            found.append(Removal(name, tuple(sorted(gone)), size, tuple(sorted(lost))))
    return found


def remove(lake: Lake, removals: Sequence[Removal]) -> None:
    """Remove files, after a note of the versions that lose some.

    Raises
    ------
    LakeError
        If a version that something needs by now would lose a file.
    """
    with ExitStack() as locks:
        # The archive's first, as everyone takes them who needs more than one.
        for name in ("archive", PINNING, *sorted(r.table for r in removals)):
            locks.enter_context(lake.lock(name))
        pins = live_pins(lake)
        for removal in removals:
            keep = needed(lake.root, removal.table, pins)
            if spoiled := sorted(keep & set(removal.versions)):
                raise LakeError(
                    f"version {spoiled[0]} of table {removal.table} is needed by now: "
                    "nothing was removed; plan anew"
                )
        noted = removed_versions(lake.root)
        for removal in removals:
            noted[removal.table] = sorted({*noted.get(removal.table, ()), *removal.versions})
        partial = lake.root / f"{GONE}.{os.getpid()}"
        partial.write_text(json.dumps({k: v for k, v in noted.items() if v}, sort_keys=True) + "\n")
        partial.replace(lake.root / GONE)
        for removal in removals:
            for path in removal.files:
                path.unlink(missing_ok=True)


class _Span(NamedTuple):
    """Versions that hold a file, from `begin` to before `end`; when it was taken out [s]."""

    begin: int
    end: int
    until: float


def _lives(root: Path, name: str) -> dict[Path, list[_Span]]:
    """Return which versions of a table each data file belongs to.

    Raises
    ------
    LakeError
        If the log is not whole.
    """
    newest = open_table(root, name).version()
    found: dict[Path, list[_Span]] = {}
    since: dict[Path, int] = {}
    for version in range(newest + 1):
        commit = root / name / "_delta_log" / f"{version:020d}.json"
        try:
            lines = commit.read_text().splitlines()
        except FileNotFoundError:
            raise LakeError(
                f"the log of table {name} lacks {commit.name}: which files it needs cannot be told"
            ) from None
        for action in map(json.loads, lines):
            if "remove" in action:
                removed = action["remove"]
                path = root / name / urllib.parse.unquote(removed["path"])
                if path in since:
                    span = _Span(since.pop(path), version, removed["deletionTimestamp"] / 1e3)
                    found.setdefault(path, []).append(span)
            elif "add" in action:
                path = root / name / urllib.parse.unquote(action["add"]["path"])
                since.setdefault(path, version)
    for path, version in since.items():
        found.setdefault(path, []).append(_Span(version, newest + 1, math.inf))
    return found


def _data_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.parquet")):
        if not path.relative_to(folder).parts[0].startswith("_"):
            yield path
