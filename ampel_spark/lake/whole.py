"""Whether a table is whole as it is opened: its commits as they were written, its files as large.

This costs some thousandths of a second a table. `ampel_spark.lake.check` looks at everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ampel_spark.errors import LakeError
from ampel_spark.lake.log import (
    commit_hash,
    commit_path,
    is_as_written,
    newest_version,
    uncovered,
)
from ampel_spark.lake.lost import check_whole, misfits

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["ARCHIVE", "Named", "check_commits", "check_sizes", "cure", "unlike"]

#: Tables that are made of the archive alone; ``archive_files`` names versions of the first four.
ARCHIVE = ("sightings", "datapoints", "alerts", "quarantine", "archive_files")


@dataclass(frozen=True)
class Named:
    """A version of a table that something in the lake names.

    Attributes
    ----------
    table : str
    version : int
    hash : str or None
        Of its commit; None where whoever names it does not say.
    by : str
        Who names it, as messages say it.
    """

    table: str
    version: int
    hash: str | None
    by: str


def cure(root: Path, name: str) -> str:
    """Return how a table that has lost something is mended."""
    again = f"copy {root / name} again from where the lake came from"
    if name in ARCHIVE:
        return f"{again}, or ingest the archive into a new lake (`ampel-spark ingest`)"
    if name.startswith("t2_"):
        return f"{again}, or move it away: the next `ampel-spark run` computes its results anew"
    if name.startswith("catalogs/"):
        folder = root / "/".join(name.split("/")[:2])
        return f"copy {folder} again, or move it away and add the catalogue again"
    if name in ("runs", "pins"):
        return again
    return f"{again}, or move it away: `ampel-spark run` of the same jobs writes what is missing"


def check_commits(root: Path, name: str) -> None:
    """Refuse a table whose log lacks a commit since its last checkpoint, or has one damaged.

    Raises
    ------
    LakeError
        If it has.
    """
    before: bytes | None = None
    for version in uncovered(root / name):
        path = commit_path(root / name, version)
        good, what = False, f"commit {version} is damaged"
        try:
            data = path.read_bytes()
            good, before = is_as_written(data, before), data
        except FileNotFoundError:
            what = f"it has lost _delta_log/{path.name}"
        except (ValueError, AttributeError):
            pass
        if not good:
            raise LakeError(
                f"table {name!r} of lake {root} cannot be read: {what}; {cure(root, name)}"
            )


def check_sizes(root: Path, name: str, table: DeltaTable) -> None:
    """Refuse a version of a table of which a file is absent, or of another size.

    Raises
    ------
    LakeError
        If there is one.
    """
    for file, there, size in misfits(root / name, table):
        check_whole(root / name)  # which says how it is mended
        what = "is not there" if there is None else f"has {there} bytes, and {size} were written"
        raise LakeError(
            f"table {name!r} of lake {root} cannot be read: {file.name} {what}; {cure(root, name)}"
        )


def unlike(root: Path, each: Iterable[Named]) -> dict[str, str]:
    """Return what is wrong with tables, by their names, given the versions that are named.

    A table that is not there at all is no fault where runs make it anew: somebody took it away.
    """
    newest: dict[str, int | None] = {}
    seen: dict[tuple[str, int], str | None] = {}
    wrong: dict[str, tuple[int, str]] = {}
    for one in each:
        if one.table not in newest:
            newest[one.table] = newest_version(root / one.table)
        last = newest[one.table]
        if last is None and one.table not in (*ARCHIVE, "runs", "pins"):
            continue
        if last is None or last < one.version:
            what = "is not there" if last is None else f"ends with version {last}"
            said = f"{what}, and {one.by} names version {one.version}: its last commits are lost"
        else:
            key = (one.table, one.version)
            if one.hash is not None and key not in seen:
                seen[key] = commit_hash(root / one.table, one.version)
            if one.hash in (None, seen.get(key)):
                continue
            said = (
                f"has another version {one.version} than {one.by} names: commits were lost, and"
                " their numbers taken again"
                if seen[key]
                else f"lacks its commit {one.version}, which {one.by} names"
            )
        if one.table not in wrong or wrong[one.table][0] > one.version:
            wrong[one.table] = (one.version, said)
    return {name: said for name, (_, said) in sorted(wrong.items())}
