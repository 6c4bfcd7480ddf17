"""Archive files: found, and read member by member.

An archive is a directory, one file, or a glob of nightly tar files (plain or gzip) of Avro
packets, or of single ``.avro`` files. Reading streams: memory holds one member at a time.
"""

from __future__ import annotations

import fnmatch
import glob
import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, cast

from ampel_spark.errors import ArchiveError

__all__ = [
    "PATTERNS",
    "SUFFIXES",
    "ArchiveFile",
    "Broken",
    "Member",
    "find_files",
    "hash_files",
    "read_members",
]

#: What an archive file may be called.
SUFFIXES = (".tar.gz", ".tgz", ".tar", ".avro")

#: The same as patterns of names.
PATTERNS = tuple(f"*{suffix}" for suffix in SUFFIXES)

_BLOCK = 512


@dataclass(frozen=True)
class ArchiveFile:
    """A file of an archive, its size in bytes and its SHA-256."""

    path: str
    size: int
    sha256: str


class Member(NamedTuple):
    """A member of an archive file: its name (None for a file that is one packet) and its bytes."""

    name: str
    data: bytes


class Broken(NamedTuple):
    """The end of a file that could not be read to its end: reason in one word, and detail."""

    reason: str
    detail: str


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


def hash_files(paths: Sequence[Path]) -> list[ArchiveFile]:
    """Return size and SHA-256 of `paths`, in their order."""

    def one(path: Path) -> ArchiveFile:
        with path.open("rb") as stream:
            return ArchiveFile(
                str(path), path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()
            )

    with ThreadPoolExecutor(4) as pool:  # hashing releases the interpreter lock
        return list(pool.map(one, paths))


def read_members(path: str | Path) -> Iterator[Member | Broken]:
    """Yield the members of an archive file, and at last a `Broken` if its end is missing.

    Directories and links inside a tar are no members. What the members hold is not looked at.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            head = raw.read(2)
            raw.seek(0)
            if path.name.endswith(".avro"):
                yield Member(path.name, raw.read())
                return
            if head == b"\x1f\x8b":
                with gzip.open(raw) as stream:
                    yield from _tar_members(cast(IO[bytes], stream))
            else:
                yield from _tar_members(raw)
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            yield Broken("broken_archive", f"gzip: {error}")
        else:
            yield Broken("broken_archive", f"{type(error).__name__}: {error.strerror or error}")
    except (EOFError, zlib.error) as error:
        yield Broken("broken_archive", f"gzip: {error}")


class _Tail(io.RawIOBase):
    """A forward-only stream that remembers its last chunks, to see how a tar ended."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._chunks: list[tuple[int, bytes]] = []
        self.position = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        if data:
            self._chunks = [*self._chunks[-2:], (self.position, data)]
            self.position += len(data)
        return data

    def since(self, offset: int) -> bytes:
        """Return all remembered bytes from `offset` on."""
        return b"".join(
            data[max(0, offset - start) :]
            for start, data in self._chunks
            if start + len(data) > offset
        )


def _tar_members(stream: IO[bytes]) -> Iterator[Member | Broken]:
    tail = _Tail(stream)
    try:
        with tarfile.open(fileobj=tail, mode="r|") as tar:
            for info in tar:
                if info.isfile():
                    data = tar.extractfile(info)
                    assert data is not None  # isfile() says so
                    yield Member(info.name, data.read())
            end = tar.offset
    except tarfile.ReadError as error:
        if tail.position == 0:
            yield Broken("empty_archive", "the file is empty")
        else:
            yield Broken("broken_archive", f"tar: {error}")
        return
    except tarfile.TarError as error:
        yield Broken("broken_archive", f"tar: {error}")
        return
    # tarfile takes a damaged or missing header for the end: the end proper is blocks of zeros.
    rest = tail.since(end)
    while chunk := stream.read(1 << 20):  # to the end, so that gzip checks its sum
        rest = (rest + chunk)[: 1 << 20] if not any(rest) else rest
    if any(rest):
        yield Broken("broken_archive", f"tar: no valid header at byte {end}")
    elif len(rest) < _BLOCK:
        yield Broken(
            "broken_archive", f"tar: cut off at byte {end}, without an end-of-archive block"
        )
    elif end == 0:
        yield Broken("empty_archive", "the tar has no member")
