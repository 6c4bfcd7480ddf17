"""Members of a tar, from a stream that is read once.

A nightly file is thousands of ordinary members in a row, over each of which `tarfile` and `gzip`
spend more time in Python than zlib does unpacking it. Here ordinary members are read directly; from
the first header on that is anything else, a tar is left to `tarfile`. `members_plainly` does so
from the start: the plain twin of `members_of`.
"""

from __future__ import annotations

import io
import math
import re
import tarfile
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple, cast

from ampel_spark.bounds import TooLargeError, cure, limit

__all__ = ["Broken", "Member", "Unread", "members_of", "members_plainly"]


_BLOCK = 512

# Mode, owners, size, time, sum and type of an ordinary file or folder, and its device numbers.
_NUMBERS = re.compile(rb"(?:[0-7]{7}[\0 ]){3}([0-7]{11})[\0 ][0-7]{11}[\0 ]([0-7]{6})\0 ([0\0]|5)")
_DEVICES = re.compile(rb"(?:\0{8}|[0-7]{7}[\0 ]){2}\0")

_FOLDER = -1


class Unread(bytes):
    """Stands in the place of a member that is too large: its header in a tar, and why."""

    why: str

    @classmethod
    def of(cls, header: bytes, size: int) -> Unread:
        """Return what stands for a member of `size` bytes."""
        made = cls(header)
        made.why = f"it has {size} bytes: {cure('packet')}"
        return made


class Member(NamedTuple):
    """A member of an archive file: its name (None for a file that is one packet) and its bytes."""

    name: str
    data: bytes


class Broken(NamedTuple):
    """The end of a file that could not be read to its end: reason in one word, and detail."""

    reason: str
    detail: str


class _Stream(io.RawIOBase):
    """Pieces of bytes as a stream that gives as many as are asked for, and goes forward only."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = b""
        self._at = 0
        self.position = 0

    def skip(self, size: int) -> int:
        """Pass over `size` bytes; return how many there were."""
        there = 0
        while there < size and (piece := self.read(min(size - there, 1 << 20))):
            there += len(piece)
        return there

    def read(self, size: int = -1) -> bytes:
        """Return `size` bytes; fewer only at the end."""
        at, held = self._at, self._held
        if len(held) - at < size:
            parts = [held[at:]]
            there = len(parts[0])
            while there < size:
                piece = next(self._pieces, b"")
                if not piece:
                    break
                parts.append(piece)
                there += len(piece)
            self._held = held = b"".join(parts)
            at = 0
        data = held[at : at + size]
        self._at = at + len(data)
        self.position += len(data)
        return data

    def put_back(self, data: bytes) -> None:
        """Take back the bytes that were read last."""
        self._held, self._at = data + self._held[self._at :], 0
        self.position -= len(data)


class _Tail(io.RawIOBase):
    """A forward-only stream that remembers its last reads, to see how a tar ended."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._chunks: list[tuple[int, bytes]] = []
        #: Where what is read has to end: headers may say that they are of any size.
        self.end: float = math.inf

    def read(self, size: int = -1) -> bytes:
        start = self._stream.position
        if start > self.end:
            raise TooLargeError(f"headers before byte {start} are too large: {cure('header')}")
        data = self._stream.read(size)
        if data:
            self._chunks = [*self._chunks[-2:], (start, data)]
        return data

    def since(self, offset: int) -> bytes:
        """Return all remembered bytes from `offset` on."""
        return b"".join(
            data[max(0, offset - start) :]
            for start, data in self._chunks
            if start + len(data) > offset
        )


def members_of(pieces: Iterable[bytes]) -> Iterator[Member | Broken]:
    """Yield the members of a tar, and at last a `Broken` if its end is missing.

    Directories and links are no members. What the members hold is not looked at.

    Parameters
    ----------
    pieces : iterable of bytes
        The tar, some bytes at a time; what this raises passes through.
    """
    stream = _Stream(pieces)
    while True:
        begin = stream.position
        header = stream.read(_BLOCK)
        size = _size_of_ordinary(header)
        if size == _FOLDER:
            continue
        if size is None:
            if begin and not _is_header(header):
                yield from _end(stream, begin, header)
            else:
                stream.put_back(header)
                yield from _by_tarfile(stream)
            return
        if size > limit("packet"):
            data: bytes = Unread.of(header, size)
            there = stream.skip(size)
        else:
            data = stream.read(size)
            there = len(data)
        if there < size:
            yield Broken("broken_archive", "tar: unexpected end of data")
            return
        yield Member(header[: header.index(b"\0")].decode("ascii"), data)
        padding = -size % _BLOCK
        if len(stream.read(padding)) < padding:
            yield Broken("broken_archive", "tar: unexpected end of data")
            return


def members_plainly(pieces: Iterable[bytes]) -> Iterator[Member | Broken]:
    """Do what `members_of` does, by `tarfile` alone."""
    yield from _by_tarfile(_Stream(pieces))


def _size_of_ordinary(header: bytes) -> int | None:
    """Return the size of the file that a header is of, or `_FOLDER`; None if anything is odd."""
    if len(header) < _BLOCK or header[345] or header[99]:
        return None
    numbers = _NUMBERS.match(header, 100)
    if numbers is None or not _DEVICES.match(header, 329):
        return None
    name = header[: header.index(b"\0")]
    if not name or not name.isascii():
        return None
    # The sum is over the header with blanks in the place of the sum.
    if int(numbers[2], 8) != sum(header) - sum(header[148:156]) + 8 * 32:
        return None
    if numbers[3] == b"5":
        return _FOLDER
    return None if name.endswith(b"/") else int(numbers[1], 8)


def _is_header(header: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _by_tarfile(stream: _Stream) -> Iterator[Member | Broken]:
    begin = stream.position
    tail = _Tail(stream)
    try:
        tail.end = begin + limit("header")
        with tarfile.open(fileobj=cast(IO[bytes], tail), mode="r|") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # which it keeps for ever
                tail.end = math.inf
                if info.isfile():
                    yield Member(info.name, _content(tar, info))
                tail.end = begin + tar.offset + limit("header")
            end = begin + tar.offset
    except tarfile.ReadError as error:
        if stream.position == 0:
            yield Broken("empty_archive", "the file is empty")
        else:
            yield Broken("broken_archive", f"tar: {error}")
        return
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        yield Broken("broken_archive", f"tar: {error}")
        return
    yield from _end(stream, end, tail.since(end))


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    """Return the bytes of a member; `Unread` where they are too many, also of one with gaps."""
    if info.size > limit("packet"):
        return Unread.of(info.name.encode("utf-8", "replace"), info.size)
    data = tar.extractfile(info)
    assert data is not None  # the member is a file
    return data.read()


def _end(stream: _Stream, end: int, rest: bytes) -> Iterator[Broken]:
    """Say what is wrong with the end of a tar; `rest` was read of it."""
    # A damaged or missing header looks like the end; the end proper is blocks of zeros.
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
