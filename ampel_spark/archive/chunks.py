"""Chunks of archive: which files are to be read, and together; what a killed ingest left undone.

A chunk is what is committed at a time. Where the names of files tell the night, files of one night
are in one chunk.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ampel_spark.archive.files import ArchiveFile, hash_files, sizes_of
from ampel_spark.errors import ArchiveError
from ampel_spark.lake.tables import TABLES

if TYPE_CHECKING:
    from ampel_spark.lake.lake import Lake

__all__ = [
    "CHUNK_BYTES",
    "CHUNK_TABLES",
    "Chunk",
    "Pinned",
    "chunks",
    "looked_at",
    "night_of",
    "pinned",
    "to_read",
    "undo_unfinished",
]

#: Compressed bytes per chunk: what is staged, decoded, at a time.
CHUNK_BYTES = 2 << 30

#: Tables that a chunk is committed to, in this order, before its marker in ``archive_files``.
CHUNK_TABLES = ("sightings", "datapoints", "alerts", "quarantine")

_NIGHT = re.compile(r"(?<!\d)20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)")


@dataclass(frozen=True)
class Chunk:
    """Files that are read together, and paths whose rows give way to them."""

    files: list[ArchiveFile]
    replaced: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pinned:
    """Versions of the archive's tables that belong together."""

    alerts: int
    datapoints: int
    quarantine: int
    archive_files: int


def pinned(lake: Lake, version: int | None = None) -> Pinned:
    """Return the versions that the newest complete chunk names.

    Parameters
    ----------
    lake : Lake
    version : int, optional
        Version of ``archive_files`` to go by: the lake as it stood then.

    Raises
    ------
    ArchiveError
        If nothing was ingested yet.
    LakeError
        If there is no such version.
    """
    marks = _marks(lake, version)
    if marks is None:
        if version:
            raise ArchiveError(
                f"lake {lake.root} held no alerts at version {version} of archive_files; "
                f"the newest is {lake.version('archive_files')}"
            )
        raise ArchiveError(
            f"lake {lake.root} holds no alerts yet; "
            "ingest an archive first (ampel-spark ingest PATH)"
        )
    newest = lake.version("archive_files") if version is None else version
    return Pinned(marks["alerts"], marks["datapoints"], marks["quarantine"], newest or 0)


def _marks(lake: Lake, version: int | None = None) -> dict[str, int] | None:
    """Return the version of each table that the newest marker names."""
    if not lake.has("archive_files"):
        return None
    table = lake.arrow("archive_files", [f"{name}_version" for name in CHUNK_TABLES], version)
    if not len(table):
        return None
    # Versions only grow, and a marker names those that belong together.
    return {name: max(table[f"{name}_version"].to_pylist()) for name in CHUNK_TABLES}


def undo_unfinished(lake: Lake, run_id: str) -> list[str]:
    """Bring the tables back to the newest complete chunk, and return what was undone.

    A chunk without its marker was killed half-way. Readers do not see it, but the next marker would
    name versions that hold it. The lock "archive" must be held.
    """
    marks = _marks(lake) or dict.fromkeys(CHUNK_TABLES, 0)
    undone: list[str] = []
    for name in CHUNK_TABLES:
        for commit in lake.commits(name, marks[name]):
            if "undone" in commit:
                break  # what is older was undone before
            if "chunk" in commit:
                lake.restore(name, marks[name], {"run_id": run_id, "undone": commit["chunk"]})
                undone.append(str(commit["chunk"]))
                break
    return list(dict.fromkeys(undone))


def looked_at(lake: Lake, files: Sequence[ArchiveFile]) -> list[ArchiveFile]:
    """Hash those of `files` that may have been read before, or be copies of each other.

    These are as large as one that was read, or as another of them. Nothing else needs to be known
    of a file before it is read: its hash is taken from the same bytes as its packets.
    """
    sizes = collections.Counter(file.size for file in files)
    if lake.has("archive_files"):
        sizes.update(lake.arrow("archive_files", ["bytes"])["bytes"].to_pylist())
    alike = [file for file in files if file.sha256 is None and sizes[file.size] > 1]
    hashed = {file.path: file for file in hash_files(alike)}
    return [hashed.get(file.path, file) for file in files]


def to_read(lake: Lake, files: Sequence[ArchiveFile], replace: bool) -> list[Chunk]:
    """Return what is to be read of `files`: one chunk of replaced ones, if any, and one of others.

    Files read before are left out, told by their hash, and so are copies among `files`. One without
    a hash (see `looked_at`) is neither.

    Raises
    ------
    ArchiveError
        If a file changed since it was read, and `replace` is false; or if one that must be read
        with it is gone.
    """
    lake.ensure(TABLES["archive_files"])
    table = lake.arrow("archive_files", ["path", "sha256", "bytes", "duplicate"])
    known = set(table["sha256"].to_pylist())
    by_path = dict(zip(table["path"].to_pylist(), table["sha256"].to_pylist(), strict=True))
    sizes = dict(zip(table["path"].to_pylist(), table["bytes"].to_pylist(), strict=True))
    present = {file.sha256 for file in files}
    replaced: list[str] = []
    new: dict[str, ArchiveFile] = {}
    for file in files:
        was = by_path.get(file.path)
        if was is not None and was != file.sha256 and was not in present:
            if not replace:
                how = f"{sizes[file.path]} bytes then, {file.size} now"
                if file.sha256 is not None:
                    how = f"sha256 {was[:12]}… then, {file.sha256[:12]}… now"
                raise ArchiveError(
                    f"{file.path} changed since it was read ({how}); restore it, read it with "
                    "--replace-file, or give the new file another name: packets stored before then "
                    "count as duplicates"
                )
            replaced.append(file.path)
        if file.sha256 not in known:
            new.setdefault(file.sha256 or file.path, file)
    if not replaced:
        return [Chunk(list(new.values()))] if new else []
    # A packet that was a duplicate of one that goes is to be stored now: read its file again.
    sharing = {
        path
        for path, n in zip(table["path"].to_pylist(), table["duplicate"].to_pylist(), strict=True)
        if n
    }
    if lake.has("quarantine"):
        bad = lake.arrow("quarantine", ["file", "reason"]).to_pylist()
        sharing |= {row["file"] for row in bad if row["reason"] == "conflict"}
    again = _read_again(sorted(sharing - set(replaced)), by_path)
    paths = [*replaced, *(file.path for file in again)]
    first = [*(file for file in new.values() if file.path in replaced), *again]
    rest = [file for file in new.values() if file.path not in replaced]
    return [Chunk(first, paths), *([Chunk(rest)] if rest else [])]


def _read_again(paths: list[str], by_path: dict[str, str]) -> list[ArchiveFile]:
    cure = "it has packets in common with others, and must be read again to replace a file"
    for path in paths:
        if not Path(path).is_file():
            raise ArchiveError(f"{path} is gone: {cure}")
    again = hash_files(sizes_of(Path(path) for path in paths))
    for file in again:
        if file.sha256 != by_path[file.path]:
            raise ArchiveError(f"{file.path} changed since it was read: {cure}; name it as well")
    return again


def night_of(path: str) -> str | None:
    """Return the night in a file's name, YYYYMMDD; None where it has none."""
    found = _NIGHT.search(Path(path).name)
    return found[0] if found else None


def chunks(
    files: Sequence[ArchiveFile], chunk_bytes: int = CHUNK_BYTES, nightly: bool = False
) -> Iterator[list[ArchiveFile]]:
    """Cut files into chunks, in order of their nights.

    Parameters
    ----------
    files : sequence of ArchiveFile
    chunk_bytes : int
        Size of a chunk; a night that is larger is a chunk of its own.
    nightly : bool
        Make every night a chunk of its own, however small.
    """
    nights: dict[tuple[str, str], list[ArchiveFile]] = {}
    for file in files:
        night = night_of(file.path)
        name = Path(file.path).name
        # A file without a night in its name is by itself; it keeps its place by name.
        nights.setdefault((night, "") if night else (name, file.path), []).append(file)
    chunk: list[ArchiveFile] = []
    size = 0
    for _, night_files in sorted(nights.items()):
        more = sum(file.size for file in night_files)
        if chunk and (nightly or size + more > chunk_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.extend(night_files)
        size += more
    if chunk:
        yield chunk
