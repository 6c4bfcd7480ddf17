"""Archive files: found, and read member by member.

An archive is a directory, one file, or a glob of nightly tar files (plain or gzip) of Avro
packets, or of single ``.avro`` files. Reading streams: memory holds one member at a time. The bytes
of a file are hashed on the way, so that it is read once.
"""

from __future__ import annotations

import fnmatch
import glob
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ampel_spark.archive.tars import Broken, Member, members_of, pieces_of, unpacked
from ampel_spark.errors import ArchiveError

__all__ = [
    "PATTERNS",
    "SUFFIXES",
    "ArchiveFile",
    "Broken",
    "Digest",
    "Member",
    "find_files",
    "hash_files",
    "read_members",
    "sizes_of",
]

#: What an archive file may be called.
SUFFIXES = (".tar.gz", ".tgz", ".tar", ".avro")

#: The same as patterns of names.
PATTERNS = tuple(f"*{suffix}" for suffix in SUFFIXES)


@dataclass(frozen=True)
class ArchiveFile:
    """A file of an archive, its size in bytes and, where it was hashed, its SHA-256."""

    path: str
    size: int
    sha256: str | None = None


class Digest:
    """SHA-256 and number of the bytes of a file, as they are read."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    def take(self, data: bytes) -> None:
        """Count the next bytes in."""
        self._hash.update(data)
        self.size += len(data)

    def take_file(self, path: str | Path) -> None:
        """Count a whole file in."""
        with Path(path).open("rb") as stream:
            while data := stream.read(1 << 18):
                self.take(data)

    def hexdigest(self) -> str:
        """Return the SHA-256 of what was taken so far."""
        return self._hash.hexdigest()


def find_files(archives: Iterable[str | Path], patterns: Sequence[str] = PATTERNS) -> list[Path]:
    """Return the files of `archives`, sorted by name then path, each once.

    Parameters
    ----------
    archives : iterable of path
        Directories (searched to any depth), files, or globs.
    patterns : sequence of str
        What the names of files in directories look like.

    Raises
    ------
    ArchiveError
        If one of them does not exist or holds no archive file.
    """
    found: set[Path] = set()
    for archive in archives:
        path = Path(archive)
        if path.is_dir():
            files = [
                p
                for p in path.rglob("*")
                if any(fnmatch.fnmatchcase(p.name, pattern) for pattern in patterns) and p.is_file()
            ]
        elif path.is_file():
            files = [path]
        else:
            files = [Path(p) for p in glob.glob(str(archive), recursive=True) if Path(p).is_file()]
        if not files:
            what = (
                "holds no archive file" if path.is_dir() else "does not exist and matches no file"
            )
            raise ArchiveError(
                f"archive {str(archive)!r} {what} "
                f"(a directory, a file or a glob of {', '.join(patterns)})"
            )
        found.update(p.resolve() for p in files)
    return sorted(found, key=lambda p: (p.name, str(p)))


def sizes_of(paths: Iterable[Path]) -> list[ArchiveFile]:
    """Return the sizes of `paths`, in their order."""
    return [ArchiveFile(str(path), path.stat().st_size) for path in paths]


def hash_files(files: Sequence[ArchiveFile]) -> list[ArchiveFile]:
    """Return `files` with their SHA-256, in their order.

    Raises
    ------
    ArchiveError
        If the size of one is another by now.
    """

    def one(file: ArchiveFile) -> ArchiveFile:
        digest = Digest()
        digest.take_file(file.path)
        if digest.size != file.size:
            raise ArchiveError(
                f"{file.path} is being written: it had {file.size} bytes and has {digest.size} now;"
                " ingest it when it is complete"
            )
        return replace(file, sha256=digest.hexdigest())

    with ThreadPoolExecutor(4) as pool:  # hashing releases the interpreter lock
        return list(pool.map(one, files))


def read_members(path: str | Path, digest: Digest | None = None) -> Iterator[Member | Broken]:
    """Yield the members of an archive file, and at last a `Broken` if its end is missing.

    Directories and links inside a tar are no members. What the members hold is not looked at.

    Parameters
    ----------
    path : path
    digest : Digest, optional
        Takes the bytes of the file: all of them before a `Broken` is given out, and by the end.
    """
    path = Path(path)
    broken: Broken | None = None
    try:
        with path.open("rb") as raw:
            pieces = pieces_of(raw) if digest is None else _taken(pieces_of(raw), digest)
            try:
                for item in _members(path, raw, pieces):
                    if isinstance(item, Broken):
                        broken = item
                    else:
                        yield item
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                broken = Broken("broken_archive", f"gzip: {error}")
            if digest is not None:
                for _ in pieces:  # what lies behind a break belongs to the file, too
                    pass
    except OSError as error:
        broken = Broken("broken_archive", f"{type(error).__name__}: {error.strerror or error}")
    if broken is not None:
        yield broken


def _members(path: Path, raw: IO[bytes], pieces: Iterator[bytes]) -> Iterator[Member | Broken]:
    if path.name.endswith(".avro"):
        yield Member(path.name, b"".join(pieces))
        return
    head = raw.read(2)
    raw.seek(0)
    yield from members_of(unpacked(pieces) if head == b"\x1f\x8b" else pieces)


def _taken(pieces: Iterable[bytes], digest: Digest) -> Iterator[bytes]:
    for piece in pieces:
        digest.take(piece)
        yield piece
