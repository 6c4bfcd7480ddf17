"""Care of a lake: fewer and larger files, and files removed that nothing needs any more.

Tables are made with a retention that never ends, because a run reads its inputs by version; plain
``VACUUM`` removes nothing then, and ``VACUUM … RETAIN 0`` too much. Here a file goes if no commit
names it (what a killed writer left), or if none of these versions needs it: the newest, those that
pins hold, and those that commits of the archive name (what ``--as-of vN`` reads). Versions that
lose files are noted in the lake first, and reading one is a clear error from then on.
"""

from __future__ import annotations

import json
import os
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ampel_spark.errors import LakeError
from ampel_spark.lake.months import MONTHLY, compact_months
from ampel_spark.lake.pins import live_pins
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
            for lock in (*(["archive"] if name in MONTHLY else []), name):
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
    versions.add(open_table(lake, name).version())
    if name in _MARKED and "archive_files" in table_names(lake):
        versions |= set(read(lake, "archive_files", [_MARKED[name]])[0].to_pylist())
    return versions


def plan_removal(lake: Lake, older_than: float = 86_400.0) -> list[Removal]:
    """Return what can go, table by table.

    Parameters
    ----------
    lake : Lake
    older_than : float
        Age in seconds below which a file that no commit names stays: its writer may be at work.
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
            if any(begin <= version < end for version in keep for begin, end in spans):
                continue
            if spans or now - path.stat().st_mtime >= older_than:
                gone.append(path)
                lost.update(version for begin, end in spans for version in range(begin, end))
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
        for name in sorted({"archive", "pins", *(r.table for r in removals)}):
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


def _lives(root: Path, name: str) -> dict[Path, list[tuple[int, int]]]:
    """Return from which version to before which one each data file belongs to a table.

    Raises
    ------
    LakeError
        If the log is not whole.
    """
    newest = open_table(root, name).version()
    found: dict[Path, list[tuple[int, int]]] = {}
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
                path = root / name / urllib.parse.unquote(action["remove"]["path"])
                if path in since:
                    found.setdefault(path, []).append((since.pop(path), version))
            elif "add" in action:
                path = root / name / urllib.parse.unquote(action["add"]["path"])
                since.setdefault(path, version)
    for path, version in since.items():
        found.setdefault(path, []).append((version, newest + 1))
    return found


def _data_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.parquet")):
        if not path.relative_to(folder).parts[0].startswith("_"):
            yield path
