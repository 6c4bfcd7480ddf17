"""What commits changed in a table, from its log alone: files that came and went, and their notes.

Compaction writes rows anew and changes none of them: its commits say so, and are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampel_spark.lake.log import actions_of, file_of
from ampel_spark.store import delta_table, place

__all__ = ["Changes", "changes", "files_at", "notes"]


@dataclass(frozen=True)
class Changes:
    """The difference between two versions of a table.

    The rows of the later version are those of the earlier one, less the rows of the files
    `removed`, and with the rows of the files `added`. A row may stand in both.

    Attributes
    ----------
    added, removed : tuple of str
        Paths of files, sorted.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def changes(table: str | Path, since: int, until: int) -> Changes | None:
    """Return what changed from one version of a table to a later one.

    Parameters
    ----------
    table : path
        The table's folder.
    since, until : int
        The versions.

    Returns
    -------
    Changes or None
        None if it cannot be known: `until` is the earlier version, the log lacks a commit, or a
        file is no longer there.
    """
    if until < since:
        return None
    added, removed = set[str](), set[str]()
    for version in range(since + 1, until + 1):
        try:
            lines = actions_of(table, version)
        except FileNotFoundError:
            return None
        for action in lines:
            _apply(table, action, added, removed)
    if not all(place(path).is_file() for path in (*added, *removed)):
        return None
    return Changes(tuple(sorted(added)), tuple(sorted(removed)))


def _apply(table: str | Path, action: dict[str, Any], added: set[str], removed: set[str]) -> None:
    """Take the change of one action of a commit into the sums."""
    for name, mine, other in (("add", added, removed), ("remove", removed, added)):
        about = action.get(name)
        if about is None or not about.get("dataChange", True):
            continue
        path = str(file_of(table, about["path"]))
        if path in other:
            other.discard(path)
        else:
            mine.add(path)


def notes(table: str | Path, since: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield version and user metadata of a table's commits after a version, the oldest first.

    Parameters
    ----------
    table : path
        The table's folder.
    since : int
        A version; -1: from the beginning.
    """
    version = since + 1
    while True:
        try:
            lines = actions_of(table, version)
        except FileNotFoundError:
            return
        about: dict[str, Any] = next((a["commitInfo"] for a in lines if "commitInfo" in a), {})
        yield version, json.loads(about.get("userMetadata") or "{}")
        version += 1


def files_at(table: str | Path, version: int) -> list[str]:
    """Return the paths of the files of a table at a version, sorted.

    A clone of a table names files in the folder of another one.
    """
    found = delta_table(table, version).get_add_actions(flatten=True)
    return sorted(str(file_of(table, path)) for path in found.column("path").to_pylist())
