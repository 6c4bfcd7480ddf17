"""Versions of tables that a lake itself names, and whether its tables still have them.

A copy that broke off, a restored backup, or a disk that lost its last writes leaves a table whose
log ends early. It reads like an older table, and the next commit takes a number that was taken
before. But ``archive_files`` and the records of runs name versions by number and by the hash of the
commit (`ampel_spark.lake.log.commit_hash`), and pins name them by number. `check_known` holds the
tables to that, at the start of whatever writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ampel_spark.errors import LakeError
from ampel_spark.lake.log import commit_hash, metadata_of, newest_version
from ampel_spark.lake.reading import open_table, read
from ampel_spark.lake.runs import named_by, runs
from ampel_spark.lake.whole import ARCHIVE, Named, check_sizes, cure, unlike
from ampel_spark.store import place

__all__ = ["HASHES", "Named", "check_known", "hashes", "marked", "named", "unlike"]

#: Key of a commit's metadata: the hashes of the commits that it names, by table.
HASHES = "commits"


def hashes(root: Path, versions: Mapping[str, int]) -> dict[str, tuple[int, str | None]]:
    """Return the numbers and hashes of commits, by table, as a marker has them."""
    return {name: (number, commit_hash(root / name, number)) for name, number in versions.items()}


def named(root: Path) -> Iterator[Named]:
    """Yield the versions that markers, records and pins of a lake name."""
    yield from _by_markers(root)
    for run in runs(root):
        yield from named_by(run)
    if newest_version(root / "pins") is not None:
        for row in read(root, "pins").to_pylist():
            if row["released"] is None:
                yield Named(row["table"], row["version"], None, f"the pin of run {row['run_id']}")


def marked(root: Path, version: int | None = None) -> dict[str, int]:
    """Return the versions of tables that the newest marker of the archive names, by table.

    Parameters
    ----------
    root : Path
    version : int, optional
        Of ``archive_files``: the marker that was the newest then.

    Notes
    -----
    A lake that an earlier ``reproduce`` cloned has the markers of another, which name none of its
    own versions.
    """
    newest = newest_version(root / "archive_files")
    if newest is None or any("cloned" in metadata_of(root / "archive_files", v) for v in (0, 1)):
        return {}
    columns = {f"{name}_version": name for name in ARCHIVE[:-1]}
    rows = read(root, "archive_files", [*columns], version=version)
    return {name: max(rows[column].to_pylist()) for column, name in columns.items() if len(rows)}


def _by_markers(root: Path) -> Iterator[Named]:
    numbers = marked(root)
    if not numbers:
        return
    for name, number in numbers.items():
        yield Named(name, number, None, "archive_files")
    for version in range(newest_version(root / "archive_files") or 0, -1, -1):
        metadata = metadata_of(root / "archive_files", version)
        if HASHES in metadata:  # compaction and the like say nothing
            for name, (number, digest) in metadata[HASHES].items():
                yield Named(name, number, digest, f"version {version} of archive_files")
            return


def check_known(lake: str | Path) -> None:
    """Refuse a lake whose tables lack, or have otherwise, what the lake itself names.

    Raises
    ------
    LakeError
        If there is such a table.
    """
    root = place(lake)
    each = [*named(root)]
    wrong = unlike(root, each)
    for name, said in wrong.items():
        more = f" (and so it is with {', '.join([*wrong][1:])})" if len(wrong) > 1 else ""
        raise LakeError(
            f"table {name!r} of lake {root} {said}{more}; nothing was started: {cure(root, name)}"
        )
    for name in sorted({one.table for one in each}):
        if newest_version(root / name) is not None:
            check_sizes(root, name, open_table(root, name))
