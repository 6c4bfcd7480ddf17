"""Versions of tables that a lake itself names, and whether its tables still have them.

A copy that broke off, a restored backup, or a disk that lost its last writes leaves a table whose
log ends early. It reads like an older table, and the next commit takes a number that was taken
before. But ``archive_files`` and the records of runs name versions by number and by the hash of the
commit (`ampel_spark.lake.log.commit_hash`), and pins name them by number. `check_known` holds the
tables to that, at the start of whatever writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampel_spark.errors import LakeError
from ampel_spark.lake.log import commit_hash, commit_path, newest_version
from ampel_spark.lake.reading import read
from ampel_spark.lake.runs import runs

__all__ = ["ARCHIVE", "HASHES", "Named", "check_known", "cure", "hashes", "named", "unlike"]

#: Tables that are made of the archive alone; ``archive_files`` names versions of the first four.
ARCHIVE = ("sightings", "datapoints", "alerts", "quarantine", "archive_files")

#: Key of a commit's metadata: the hashes of the commits that it names, by table.
HASHES = "commits"


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


def hashes(root: Path, versions: Mapping[str, int]) -> dict[str, tuple[int, str | None]]:
    """Return the numbers and hashes of commits, by table, as a marker has them."""
    return {name: (number, commit_hash(root / name, number)) for name, number in versions.items()}


def named(root: Path) -> Iterator[Named]:
    """Yield the versions that markers, records and pins of a lake name."""
    yield from _by_markers(root)
    yield from _by_records(root)
    if newest_version(root / "pins") is not None:
        for row in read(root, "pins").to_pylist():
            if row["released"] is None:
                yield Named(row["table"], row["version"], None, f"the pin of run {row['run_id']}")


def _by_markers(root: Path) -> Iterator[Named]:
    newest = newest_version(root / "archive_files")
    if newest is None:
        return
    columns = {f"{name}_version": name for name in ARCHIVE[:-1]}
    rows = read(root, "archive_files", [*columns])
    for column, name in columns.items():
        if len(rows):
            yield Named(name, max(rows[column].to_pylist()), None, "archive_files")
    for version in range(newest, -1, -1):  # compaction and the like say nothing
        metadata = _metadata(root / "archive_files", version)
        if HASHES in metadata:
            for name, (number, digest) in metadata[HASHES].items():
                yield Named(name, number, digest, f"version {version} of archive_files")
            return


def _metadata(table: Path, version: int) -> dict[str, Any]:
    try:
        with commit_path(table, version).open() as stream:
            info = json.loads(stream.readline())["commitInfo"]
        found: dict[str, Any] = json.loads(info.get("userMetadata") or "{}")
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # `ampel_spark.lake.check` says what is wrong with the log
    return found


def _by_records(root: Path) -> Iterator[Named]:
    for run in runs(root):
        by = f"the record of run {run.run_id}"
        known = run.inputs.commits
        for versions in (run.inputs.tables, run.outputs):
            for name, version in versions.items():
                if isinstance(version, int):
                    yield Named(name, version, known.get(f"{name} {version}"), by)


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


def cure(root: Path, name: str) -> str:
    """Return how a table that has lost something is mended."""
    again = f"copy {root / name} again from where the lake came from"
    if name in ARCHIVE:
        return f"{again}, or ingest the archive into a new lake (`ampel-spark ingest`)"
    if name.startswith("t2_"):
        return f"{again}, or move it away: the next `ampel-spark run` computes its results anew"
    if name in ("runs", "pins"):
        return again
    return f"{again}, or move it away: `ampel-spark run` of the same jobs writes what is missing"


def check_known(lake: str | Path) -> None:
    """Refuse a lake whose tables lack, or have otherwise, what the lake itself names.

    Raises
    ------
    LakeError
        If there is such a table.
    """
    root = Path(lake).expanduser()
    wrong = unlike(root, named(root))
    for name, said in wrong.items():
        more = f" (and so it is with {', '.join([*wrong][1:])})" if len(wrong) > 1 else ""
        raise LakeError(
            f"table {name!r} of lake {root} {said}{more}; nothing was started: {cure(root, name)}"
        )
