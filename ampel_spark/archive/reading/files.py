"""Archive files: found, and read member by member.

An archive is a directory, one file, or a glob of nightly tar files of Avro packets, or of single
``.avro`` files, plain or compressed (`ampel_spark.packed`). Reading streams: memory holds one
member at a time. The bytes of a file are hashed on the way, so that it is read once.
"""

from __future__ import annotations

import collections
import fnmatch
import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ampel_spark.archive.reading.tars import Broken, Member, Unread, members_of
from ampel_spark.bounds import TooLargeError, cure, joined, limit, most_unpacked
from ampel_spark.errors import ArchiveError
from ampel_spark.packed import (
    ENDINGS,
    PackedError,
    Pieces,
    described,
    opened,
    packing_of,
    pieces_of,
    plain_name,
)
from ampel_spark.tabular import beside

__all__ = [
    "EMPTY",
    "SETTINGS",
    "PATTERNS",
    "SUFFIXES",
    "ArchiveFile",
    "Broken",
    "Digest",
    "Member",
    "find_files",
    "fits",
    "hash_files",
    "left_out",
    "read_members",
    "sizes_of",
]

#: What an archive file may be called, before the ending of its compression, in any case.
SUFFIXES = (".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst", ".avro")

#: Reason of a file in which there is nothing to take: a night without alerts, a table without rows.
EMPTY = "empty_archive"

#: Reason of a file-level row that stands for an error of the survey's settings.
SETTINGS = "settings"

_AVRO = b"Obj\x01"

#: The same as patterns of names.
PATTERNS = tuple(f"*{suffix}" for suffix in SUFFIXES)


# What simulations write beside their archives.
_SIMULATED = frozenset({"simulation.json", "truth.parquet", "hosts.parquet", "stars.parquet"})


@dataclass(frozen=True)
class ArchiveFile:
    """A file of an archive, its size in bytes and, where it was hashed, its SHA-256."""

    path: str
    size: int
    sha256: str | None = None


class Digest:
    """SHA-256 and number of the bytes of a file, as they are read; its members that are no packets.

    Attributes
    ----------
    size : int
        Bytes that were taken.
    asides : list of str
        Names of members of a tar that are no packets.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0
        self.asides: list[str] = []

    def take(self, data: bytes) -> None:
        """Count the next bytes in."""
        self._hash.update(data)
        self.size += len(data)

    def take_file(self, path: str | Path) -> None:
        """Count a whole file in."""
        with Path(path).open("rb") as stream:
            while data := stream.read(1 << 18):
                self.take(data)

    @property
    def aside(self) -> str | None:
        """What to say of members that are no packets; None where there are none."""
        if not self.asides:
            return None
        names = ", ".join(self.asides[:3]) + (", …" if len(self.asides) > 3 else "")
        return f"{len(self.asides)} members that are no packets ({names})"

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
            files = [p for p in _within(path) if fits(p.name, patterns) and p.is_file()]
        elif path.is_file():
            files = [path]
        else:
            files = [Path(p) for p in glob.glob(str(archive), recursive=True) if Path(p).is_file()]
        if not files:
            what = (
                "holds no archive file" if path.is_dir() else "does not exist and matches no file"
            )
            there = "".join(f"; {line}" for line in left_out([archive], patterns))
            raise ArchiveError(
                f"archive {str(archive)!r} {what} "
                f"(a directory, a file or a glob of {', '.join(patterns)}, plain or compressed: "
                f"{' '.join(ENDINGS)}){there}"
            )
        found.update(p.resolve() for p in files)
    return sorted(found, key=lambda p: (p.name, str(p)))


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Say whether a file's name fits one of `patterns`, in any case, compressed or not.

    Hidden files fit none.
    """
    if name.startswith("."):
        return False
    names = (name.lower(), plain_name(name))
    return any(fnmatch.fnmatchcase(n, p.lower()) for n in names for p in patterns)


def left_out(archives: Iterable[str | Path], patterns: Sequence[str] = PATTERNS) -> list[str]:
    """Return a line on each directory of `archives` that says which files in it are not read.

    Parameters
    ----------
    archives : iterable of path
        As for `find_files`; files and globs are what somebody named, and leave nothing out.
    patterns : sequence of str
        What the names of files look like that are read.
    """
    lines = []
    for archive in archives:
        if not Path(archive).is_dir():
            continue
        kinds: dict[str, list[str]] = collections.defaultdict(list)
        there = sorted(_within(Path(archive)))
        kinds["links to nothing"] = [path.name for path in there if not path.exists()]
        files = [path for path in there if path.is_file()]
        read_with = {beside(path) for path in files if fits(path.name, patterns)}
        for path in files:
            if path not in read_with and not fits(path.name, patterns):
                hidden = path.name.startswith(".")
                kinds["hidden" if hidden else path.suffix.lower() or "no ending"].append(path.name)
        if any(kinds.values()):
            found = ", ".join(
                f"{len(names)} {kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
                for kind, names in sorted(kinds.items())
                if names
            )
            lines.append(
                f"left out of {archive} by their names: {found}; what is read is called "
                f"{', '.join(patterns)} (also compressed): name a file itself to have it read"
            )
    return lines


def _within(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder, to any depth; folders that are linked count, each once.

    The truth of a simulated archive, and its catalogues, are no part of what was observed.

    Raises
    ------
    ArchiveError
        If a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise ArchiveError(f"folder {error.filename} cannot be listed: {error.strerror}") from None

    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        known = _SIMULATED if "simulation.json" in names else frozenset()
        yield from (Path(place, name) for name in names if name not in known)


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

    Directories and links inside a tar are no members; members that are compressed are unpacked.

    Parameters
    ----------
    path : path
    digest : Digest, optional
        Takes the bytes of the file: all of them before a `Broken` is given out, and by the end; and
        the names of members that are no packets, as a Mac's sidecars, texts and checksums.
    """
    path = Path(path)
    digest = digest or Digest()
    broken: Broken | None = None
    found = unlike = 0
    try:
        with path.open("rb") as raw:
            pieces = _taken(pieces_of(raw), digest)
            try:
                for item in _members(path.name, opened(pieces), digest):
                    if isinstance(item, Broken):
                        broken = item
                    elif item.data[:4] != _AVRO and _is_aside(item.name, item.data):
                        digest.asides.append(item.name)
                        unlike += not _is_note(item.name, item.data)
                    else:
                        found += 1
                        is_plain = item.data[:4] == _AVRO or isinstance(item.data, Unread)
                        yield item if is_plain else Member(item.name, _unpacked(item.data))
            except (PackedError, TooLargeError) as error:
                broken = Broken("broken_archive", str(error))
            for _ in pieces:  # what lies behind a break belongs to the file, too
                pass
    except OSError as error:
        broken = Broken("broken_archive", f"{type(error).__name__}: {error.strerror or error}")
    if broken is None and not found:
        broken = Broken(EMPTY, "there is no packet in the tar")
        if unlike:
            broken = Broken("broken_archive", f"{digest.aside}: name what is in it by itself")
    if broken is not None:
        yield broken


def _members(name: str, pieces: Pieces, digest: Digest) -> Iterator[Member | Broken]:
    head = pieces.head()
    if head[:4] == _AVRO or (head and plain_name(name).endswith(".avro") and not _is_tar(head)):
        yield Member(name, _whole(pieces, digest))
        return
    what = described(head)
    if not head:
        for _ in pieces:  # raises what is wrong, if it is not emptiness
            pass
        yield Broken("broken_archive", "the file has no content: 0 bytes; download it again")
    elif what is not None and not _is_tar(head):
        yield Broken("broken_archive", f"no tar, but {what}")
    elif not _is_tar(head) and _is_text(head):
        begin = " ".join(head[:60].decode(errors="replace").split())
        yield Broken("broken_archive", f"no tar, but text: {begin!r} …")
    else:
        yield from members_of(pieces)


def _whole(pieces: Pieces, digest: Digest) -> bytes:
    """Return a file that is one container of packets; `digest` says of how many bytes it comes."""
    size, held = 0, []
    for piece in pieces:
        size += len(piece)
        if size > min(limit("file"), most_unpacked("packet", digest.size)):
            raise TooLargeError(
                f"{digest.size} bytes of it become more than {size}: {cure('packet')}, or"
                f" {limit('file') >> 20} of a file ('file')"
            )
        held.append(piece)
    return b"".join(held)


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _is_aside(name: str, data: bytes) -> bool:
    """Say whether a member of a tar is something else than a packet: sidecar, text, checksums."""
    last = name.rsplit("/", 1)[-1]
    if last.startswith(".") or "__MACOSX/" in name:
        return True
    if re.search(r"\.[a-z]\w*$", plain_name(last)):
        return not plain_name(last).endswith(".avro")
    return _is_text(data)


def _is_note(name: str, data: bytes) -> bool:
    """Say whether a member that is no packet is no data either: hidden, or a text."""
    return name.rsplit("/", 1)[-1].startswith(".") or "__MACOSX/" in name or _is_text(data)


def _is_text(data: bytes) -> bool:
    is_read = bool(data) and not isinstance(data, Unread)
    return is_read and re.search(rb"[^\t\n\r\x20-\x7e]", data[:1000]) is None


def _unpacked(data: bytes) -> bytes:
    """Return a member unpacked; as it is where it is not compressed, or damaged."""
    if packing_of(data[:16]) is None:
        return data
    try:
        return joined(opened([data]), "packet", 0)
    except TooLargeError:
        return Unread.of(data[:16], limit("packet") + 1)
    except PackedError:
        return data  # which who decodes it says


def _taken(pieces: Iterable[bytes], digest: Digest) -> Iterator[bytes]:
    for piece in pieces:
        digest.take(piece)
        yield piece
