"""Chunks of archive: which files are to be read, and together; what a killed ingest left undone.

A chunk is what is committed at a time. Where the names of files tell the night, files of one night
are in one chunk.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.archive.reading import ztf
from ampel_spark.archive.reading.files import ArchiveFile, fits, hash_files, sizes_of
from ampel_spark.archive.reading.readers import name_patterns
from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.errors import ArchiveError
from ampel_spark.lake.commits import restore
from ampel_spark.lake.log import newest_version
from ampel_spark.lake.reading import read
from ampel_spark.lake.tables import TABLES
from ampel_spark.store import place

if TYPE_CHECKING:
    from ampel_spark.lake.lake import Lake

__all__ = [
    "CHUNK_BYTES",
    "CHUNK_TABLES",
    "Chunk",
    "Pinned",
    "bad_before",
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
    """Versions of the archive's tables that belong together.

    Records of older runs do not name that of ``sightings``: None.
    """

    alerts: int
    datapoints: int
    quarantine: int
    archive_files: int
    sightings: int | None = None


def pinned(lake: str | Path, version: int | None = None) -> Pinned:
    """Return the versions that the newest complete chunk names, without Spark.

    Parameters
    ----------
    lake : path
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
        if version is not None:
            raise ArchiveError(
                f"lake {lake} held no alerts at version {version} of archive_files; "
                f"the newest is {newest_version(place(lake) / 'archive_files')}"
            )
        raise ArchiveError(
            f"lake {lake} holds no alerts yet; ingest an archive first (ampel-spark ingest PATH)"
        )
    newest = newest_version(place(lake) / "archive_files") if version is None else version
    return Pinned(**marks, archive_files=newest or 0)


def _marks(lake: str | Path, version: int | None = None) -> dict[str, int] | None:
    """Return the version of each table that the newest marker names."""
    if newest_version(place(lake) / "archive_files") is None:
        return None
    names = [f"{name}_version" for name in CHUNK_TABLES]
    table = read(lake, "archive_files", names, version=version)
    if not len(table):
        return None
    # Versions only grow, and a marker names those that belong together.
    return {name: max(table[f"{name}_version"].to_pylist()) for name in CHUNK_TABLES}


def undo_unfinished(lake: Lake, run_id: str) -> list[str]:
    """Bring the tables back to the newest complete chunk, and return what was undone.

    A chunk without its marker was killed half-way. Readers do not see it, but the next marker would
    name versions that hold it. The lock "archive" must be held.
    """
    marks = _marks(lake.root) or dict.fromkeys(CHUNK_TABLES, 0)
    undone: list[str] = []
    for name in CHUNK_TABLES:
        for commit in lake.commits(name, marks[name]):
            if "undone" in commit:
                break  # what is older was undone before
            if "chunk" in commit:
                table = ztf.alerts_table() if name == "alerts" else TABLES[name]
                info = {"run_id": run_id, "undone": commit["chunk"]}
                restore(lake, table, marks[name], info)
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


def to_read(
    lake: Lake,
    files: Sequence[ArchiveFile],
    replace: bool,
    survey: Survey,
    *,
    retry: bool = False,
) -> list[Chunk]:
    """Return what is to be read of `files`: one chunk of replaced ones, if any, and one of others.

    Files read before are left out, told by their hash, and so are copies among `files`. One without
    a hash (see `looked_at`) is neither.

    Parameters
    ----------
    lake : Lake
    files : sequence of ArchiveFile
    replace : bool
        Whether what changed since it was read gives way.
    survey : Survey
        Whose files they are.
    retry : bool, optional
        Read files again of which nothing could be taken.

    Raises
    ------
    ArchiveError
        If a file changed since it was read, and `replace` is false; or if one that must be read
        with it is gone, changed, or another survey's.
    """
    lake.ensure(TABLES["archive_files"])
    columns = ["path", "sha256", "bytes", "survey", "stored", "duplicate", "alerts_version"]
    rows = lake.arrow("archive_files", columns).to_pylist()
    known = {row["sha256"]: row for row in sorted(rows, key=lambda row: row["alerts_version"])}
    in_vain = {
        content for content, row in known.items() if retry and not row["stored"] + row["duplicate"]
    }
    contents: dict[str, list[str]] = {}  # a name may have had several, one after the other
    for content, row in known.items():
        contents.setdefault(row["path"], []).append(content)
    replaced, gone = _giving_way(files, known, contents, in_vain, replace)
    new: dict[str, ArchiveFile] = {}
    for file in files:
        if file.sha256 not in known or file.sha256 in in_vain:
            new.setdefault(file.sha256 or file.path, file)
    if not replaced:
        return [Chunk(list(new.values()))] if new else []
    # A packet that was a duplicate of one that goes is to be stored now: read its file again; and
    # so with content that a file has now and was read from another, which may have shared it.
    paths = replaced | _sharing(lake, known, survey)
    paths |= {
        known[file.sha256]["path"]
        for file in files
        if file.path in replaced and file.sha256 in known and file.sha256 not in in_vain
    }
    while True:
        wanted = sorted({content for path in paths for content in contents.get(path, ())} - gone)
        again = [_source(known[content], files, survey) for content in wanted]
        more = {file.path for file in again} - paths
        if not more:
            break
        paths |= more  # what was read under this name gives way, too
    first = [*(f for f in new.values() if f.path in paths or f.sha256 in in_vain), *again]
    rest = [file for file in new.values() if file not in first]
    return [Chunk(first, sorted(paths)), *([Chunk(rest)] if rest else [])]


def bad_before(lake: Lake, files: Sequence[ArchiveFile]) -> Iterator[tuple[bool, str]]:
    """Yield what was wrong with files that were read before.

    Parameters
    ----------
    lake : Lake
    files : sequence of ArchiveFile
        Those whose hash is not known are left out.

    Yields
    ------
    bool
        Whether nothing of the file could be taken.
    str
        What to say of it.
    """
    paths = {file.sha256: file.path for file in files if file.sha256 is not None}
    columns = ["path", "sha256", "stored", "duplicate", "quarantined", "broken"]
    known = lake.arrow("archive_files", columns).to_pylist() if paths else []
    rows = [row for row in known if row["sha256"] in paths]
    rows = [
        r for r in rows if r["broken"] or (r["quarantined"] and not r["stored"] + r["duplicate"])
    ]
    if not rows:
        return
    noted = lake.arrow("quarantine", ["file", "member", "detail"]).to_pylist()
    why = {row["file"]: row["detail"] for row in noted if row["member"] is None}
    for row in rows:
        in_vain = not row["stored"] + row["duplicate"]
        if row["broken"]:
            said = f"broken: {paths[row['sha256']]}: {why.get(row['path'], 'see quarantine')}"
        else:
            said = f"and nothing taken: {paths[row['sha256']]}: {row['quarantined']} quarantined"
        yield in_vain, said


def _giving_way(
    files: Sequence[ArchiveFile],
    known: Mapping[str, Mapping[str, Any]],
    contents: Mapping[str, Sequence[str]],
    in_vain: set[str],
    replace: bool,
) -> tuple[set[str], set[str]]:
    """Return paths whose rows give way to what their files are now, and contents that go."""
    present = {file.sha256 for file in files}
    replaced: set[str] = set()
    gone: set[str] = set()
    for file in files:
        was = contents.get(file.path, [""])[-1]
        if was and was != file.sha256 and was not in present:
            if not replace:
                raise _changed(file, known[was])
            replaced.add(file.path)
            gone.add(was)
        if file.sha256 in in_vain:
            replaced.add(known[file.sha256]["path"])
            gone.add(str(file.sha256))
    return replaced, gone


def _changed(file: ArchiveFile, was: Mapping[str, Any]) -> ArchiveError:
    how = f"{was['bytes']} bytes then, {file.size} now"
    if file.sha256 is not None:
        how = f"sha256 {was['sha256'][:12]}… then, {file.sha256[:12]}… now"
    return ArchiveError(
        f"{file.path} changed since it was read ({how}); restore it, read it with "
        "--replace-file, or give the new file another name: packets stored before then "
        "count as duplicates"
    )


def _sharing(lake: Lake, known: Mapping[str, Mapping[str, Any]], survey: Survey) -> set[str]:
    """Return the files of a survey that have packets in common with others."""
    mine = [row for row in known.values() if row["survey"] == survey.label]
    found = {row["path"] for row in mine if row["duplicate"]}
    if lake.has("quarantine"):
        bad = lake.arrow("quarantine", ["file", "reason"]).to_pylist()
        found |= {row["file"] for row in bad if row["reason"] == "conflict"}
    return found & {row["path"] for row in mine}


def _source(row: Mapping[str, Any], files: Sequence[ArchiveFile], survey: Survey) -> ArchiveFile:
    """Return the file from which content that was read is to be read again."""
    path, content = row["path"], row["sha256"]
    if row["survey"] != survey.label:
        raise ArchiveError(
            f"{path} was read as one of {row['survey']}, and a file of {survey.label} has the same "
            "content now: take that file away"
        )
    named = [file for file in files if file.sha256 == content]
    if named:
        return next((file for file in named if file.path == path), named[0])
    patterns = name_patterns(survey)
    if not Path(path).is_file():
        trouble = "is gone"
    elif not fits(Path(path).name, patterns):
        trouble = f"is not called as files of {survey.name} are ({', '.join(patterns)})"
    else:
        (file,) = hash_files(sizes_of([Path(path)]))
        if file.sha256 == content:
            return file
        trouble = "has other content now"
    raise ArchiveError(
        f"{path} {trouble}, and what was read of it (sha256 {content[:12]}…) must be read again "
        "to replace a file with which it may have packets in common; name the file that has it"
    )


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
