"""Maintenance of a lake: compaction of small files, and removal of files that nothing needs.

Runs read their inputs by version, so tables have an endless retention: plain ``VACUUM`` removes
nothing, and ``VACUUM … RETAIN 0`` removes too much. `plan_removal` finds files that no commit names
(left by a killed writer), and files that no needed version holds. Needed are the newest version,
those of pins, and those that commits of the archive name (for ``--as-of vN``). `remove` first notes
in the lake which versions lose files; to read one of these is then a clear error.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ampel_spark.errors import LakeError
from ampel_spark.lake.compaction import MONTHLY, compact_files, compact_months
from ampel_spark.lake.log import actions_of, file_of
from ampel_spark.lake.pins import PINNING, live_pins
from ampel_spark.lake.reading import GONE, open_table, read, removed_versions, table_names

if TYPE_CHECKING:
    from ampel_spark.lake.lake import Lake

__all__ = ["Removal", "compact", "needed", "plan_removal", "remove"]

#: Tables that are read by version, and the column of `archive_files` that names the version.
_MARKED = {
    "alerts": "alerts_version",
    "datapoints": "datapoints_version",
    "quarantine": "quarantine_version",
    "sightings": "sightings_version",
}
#: The columns by which large tables are clustered: the rows of one object lie close together.
_CLUSTERED = {
    "decisions": ("set_id", "accepted", "stock", "jd"),
    "states": ("stock",),
}


@dataclass(frozen=True)
class Removal:
    """The files of one table that can be removed.

    Attributes
    ----------
    table : str
        The table's name.
    files : tuple of Path
        The files, sorted.
    bytes : int
        Their size in all.
    versions : tuple of int
        The versions that cannot be read without these files.
    """

    table: str
    files: tuple[Path, ...]
    bytes: int
    versions: tuple[int, ...]


def compact(
    lake: Lake, tables: Sequence[str] | None = None, out: Callable[[str], None] = print
) -> None:
    """Replace small files by fewer and larger ones; rows and older versions stay as they are.

    Without `tables`, all are compacted; `out` prints a line for each. Tables that are read by
    object are ordered by object. The archive's tables are compacted month by month, when a month is
    past.
    """
    for name in tables or table_names(lake.root):
        with ExitStack() as locks:
            # An ingest looks at the archive's tables once for several commits, under its lock.
            if name in _MARKED or name == "archive_files":
                locks.enter_context(lake.lock("archive"))
            before = len(open_table(lake.root, name).file_uris())
            if before < 2:
                continue
            if name in MONTHLY:
                compact_months(lake, name)
            else:
                compact_files(lake, name, _CLUSTERED.get(name, ()))
            after = len(open_table(lake.root, name).file_uris())
        out(f"compact: {name}: {before} files, now {after}, version {lake.version(name)}")


def needed(lake: str | Path, name: str, pins: Sequence[Mapping[str, object]]) -> set[int]:
    """Return the versions of a table that must stay readable, given the pins of `live_pins`."""
    versions = {int(str(row["version"])) for row in pins if row["table"] == name}
    newest = open_table(lake, name).version()
    versions.add(newest)
    if name == "archive_files":
        versions.update(range(newest + 1))  # ``--as-of vN`` reads any of them
    elif name in _MARKED and "archive_files" in table_names(lake):
        versions |= set(read(lake, "archive_files", [_MARKED[name]])[0].to_pylist())
    return versions


def plan_removal(lake: Lake, older_than: float = 86_400.0) -> list[Removal]:
    """Return the files that can be removed, table by table.

    Files stay for `older_than` seconds after they were written without a commit, or were removed by
    one: their writer, or a reader of the version before, may be at work. Raise `LakeError` if the
    log of a table is not complete.
    """
    pins, now = live_pins(lake), time.time()
    plans = (
        _removable(lake.root, name, needed(lake.root, name, pins), now - older_than)
        for name in table_names(lake.root)
    )
    return [removal for removal in plans if removal.files]


def _removable(root: Path, name: str, keep: set[int], before: float) -> Removal:
    """Return the files of a table that no version to keep has held since a time [s]."""
    lives = _lives(root, name)
    files: list[Path] = []
    lost: set[int] = set()
    for path in _data_files(root / name):
        spans = lives.get(path, [])
        if any(span.begin <= version < span.end for version in keep for span in spans):
            continue
        since = max((span.until for span in spans), default=path.stat().st_mtime)
        if since <= before:
            files.append(path)
            lost.update(v for span in spans for v in range(span.begin, span.end))
    size = sum(path.stat().st_size for path in files)
    return Removal(name, tuple(sorted(files)), size, tuple(sorted(lost)))


def remove(lake: Lake, removals: Sequence[Removal]) -> None:
    """Note the versions that lose files, and then remove the files of a plan of `plan_removal`.

    Raise `LakeError`, and remove nothing, if a version that is needed by now would lose a file.
    """
    with ExitStack() as locks:
        # The archive's lock is first, as in every process that takes more than one.
        for name in ("archive", PINNING):
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
    """The versions that hold a file, `begin` <= version < `end`, and its time of removal [s]."""

    begin: int
    end: int
    until: float


def _lives(root: Path, name: str) -> dict[Path, list[_Span]]:
    """Return the versions of a table that hold each data file."""
    newest = open_table(root, name).version()
    found: dict[Path, list[_Span]] = {}
    since: dict[Path, int] = {}
    for version in range(newest + 1):
        try:
            actions = actions_of(root / name, version)
        except FileNotFoundError as error:
            lacking = Path(error.filename).name
            raise LakeError(
                f"the log of table {name} lacks {lacking}: the needed files are not known"
            ) from None
        for action in actions:
            if "remove" in action:
                removed = action["remove"]
                path = file_of(root / name, removed["path"])
                if path in since:
                    span = _Span(since.pop(path), version, removed["deletionTimestamp"] / 1e3)
                    found.setdefault(path, []).append(span)
            elif "add" in action:
                path = file_of(root / name, action["add"]["path"])
                since.setdefault(path, version)
    for path, version in since.items():
        found.setdefault(path, []).append(_Span(version, newest + 1, math.inf))
    return found


def _data_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.parquet")):
        if not path.relative_to(folder).parts[0].startswith("_"):
            yield path
