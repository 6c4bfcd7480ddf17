"""Archive files: found, and read member by member.

An archive is a directory, one file, or a glob of nightly tar files (plain or gzip) of Avro
packets, or of single ``.avro`` files. Reading streams: memory holds one member at a time.
"""

from __future__ import annotations

import fnmatch
import glob
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ampel_spark.archive.tars import Broken, Member, members_of, pieces_of, unpacked
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


@dataclass(frozen=True)
class ArchiveFile:
    """A file of an archive, its size in bytes and its SHA-256."""

    path: str
    size: int
    sha256: str


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
            pieces = pieces_of(raw)
            yield from members_of(unpacked(pieces) if head == b"\x1f\x8b" else pieces)
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            yield Broken("broken_archive", f"gzip: {error}")
        else:
            yield Broken("broken_archive", f"{type(error).__name__}: {error.strerror or error}")
    except (EOFError, zlib.error) as error:
        yield Broken("broken_archive", f"gzip: {error}")
