"""Compressed files: known by their first bytes, unpacked some bytes at a time.

gzip, bzip2, xz and zstandard are read, whatever the file is called; of other kinds of file
`described` says what they are.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from ampel_spark.bounds import joined

__all__ = ["ENDINGS", "INFLATE", "PackedError", "Pieces", "content_of", "described", "opened",
           "packing_of", "pieces_of", "plain_name", "unpacked"]  # fmt: skip

#: Endings of the names of compressed files.
ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".zstd")


def _fastest() -> Any:
    try:
        return importlib.import_module("zlib_ng.zlib_ng")
    except ImportError:  # not on every platform
        return zlib


#: What unpacks gzip: zlib-ng is half as fast again as zlib, and gives the same bytes.
INFLATE = _fastest()

# Compressed bytes taken at a time, and bytes that they may become at a time.
_PIECE, _MOST = 1 << 20, 1 << 24

_MAGIC = {
    "gzip": rb"\x1f\x8b",
    "bzip2": rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)",
    "xz": rb"\xfd7zXZ\0",
    "zstandard": rb"(?:\x28\xb5|[\x50-\x5f]\x2a)(?:\x2f\xfd|\x4d\x18)",
}
# What else a file may be; the cure follows the name.
_OTHERS = (
    (rb"\s*<(?i:!doctype html|html)", "a web page, perhaps an error message; download it again"),
    (rb"version https://git-lfs", "a pointer of Git LFS; fetch the file itself (git lfs pull)"),
    (rb"\s*<\?xml", "XML"),
    (rb"\s*[\[{]", "JSON"),
    (rb"PK\x03\x04", "a zip archive; unpack it before"),
    (rb"7z\xbc\xaf", "a 7z archive; unpack it before"),
    (rb"Rar!", "a RAR archive; unpack it before"),
    (rb"\x04\x22\x4d\x18", "compressed with lz4; unpack it before"),
    (rb"\x1f[\x9d\xa0]", "compressed with compress (.Z); unpack it before"),
    (rb"SIMPLE  =", "a FITS file"),
    (rb"PAR1", "a Parquet file"),
    (rb"Obj\x01", "an Avro container"),
)


class PackedError(ValueError):
    """A compressed file that is damaged, cut off, or compressed twice."""


def packing_of(head: bytes) -> str | None:
    """Return how a file is compressed that begins with `head`; None if it is not."""
    return next((kind for kind, magic in _MAGIC.items() if re.match(magic, head)), None)


def described(head: bytes) -> str | None:
    """Return what a file is that begins with `head`, with the cure; None if nobody knows."""
    packing = packing_of(head)
    if packing:
        return f"compressed with {packing}"
    return next((what for magic, what in _OTHERS if re.match(magic, head)), None)


def plain_name(name: str) -> str:
    """Return the name of a file in lower case, without the ending of its compression."""
    name = name.lower()
    return next((name.removesuffix(end) for end in ENDINGS if name.endswith(end)), name)


class Pieces:
    """The bytes of a file, some at a time; the first ones can be seen before they are taken."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held: list[bytes] = []
        self._error: Exception | None = None

    def head(self, size: int = 512) -> bytes:
        """Return the first `size` bytes; fewer if the file has fewer before its end or damage."""
        try:
            while sum(map(len, self._held)) < size and (piece := next(self._pieces, b"")):
                self._held.append(piece)
        except Exception as error:  # raised when it is come to
            self._error = error
        return b"".join(self._held)[:size]

    def __iter__(self) -> Iterator[bytes]:
        while self._held:
            yield self._held.pop(0)
        if self._error is not None:
            raise self._error
        yield from self._pieces


def pieces_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a file, some at a time."""
    while piece := stream.read(_PIECE):
        yield piece


def opened(pieces: Iterable[bytes]) -> Pieces:
    """Return the bytes of a file, unpacked if they are compressed.

    Raises
    ------
    PackedError
        As they are taken: if they cannot be unpacked to their end, or are compressed twice.
    """
    raw = Pieces(pieces)
    packing = packing_of(raw.head())
    return raw if packing is None else Pieces(_checked(packing, raw))


def content_of(path: Path) -> bytes | None:
    """Return what is in a compressed file; None if the file is not compressed.

    Raises
    ------
    PackedError
        If it cannot be unpacked to its end, or is compressed twice.
    TooLargeError
        If it becomes very large.
    """
    with path.open("rb") as stream:
        if packing_of(stream.read(32)) is None:
            return None
        stream.seek(0)
        return joined(opened(pieces_of(stream)), "table", path.stat().st_size)


def _checked(packing: str, packed: Pieces) -> Iterator[bytes]:
    made = Pieces(unpacked(packed) if packing == "gzip" else _by_frames(packing, packed))
    try:
        twice = packing_of(made.head())
        if twice:
            raise PackedError(f"it is compressed twice, with {twice} in it; unpack it once before")
        yield from made
    except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise PackedError(f"{packing}: {error}") from None


def _by_frames(packing: str, packed: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack what Python's classes unpack frame by frame."""
    frame = _frame(packing)
    for piece in packed:
        rest = piece
        while rest or not (frame.needs_input or frame.eof):
            if frame.eof:
                frame = _frame(packing)
            try:
                made = frame.decompress(rest, _MOST)
            except Exception as error:  # each library has an error of its own
                raise PackedError(str(error)) from None
            if made:
                yield made
            rest = frame.unused_data if frame.eof else b""
            if packing == "xz" and frame.eof:
                rest = rest.lstrip(b"\0")  # padding between streams
    if not frame.eof:
        raise PackedError("Compressed file ended before the end-of-stream marker was reached")


def _frame(packing: str) -> Any:
    if packing == "bzip2":
        return bz2.BZ2Decompressor()
    if packing == "xz":
        return lzma.LZMADecompressor()
    from backports import zstd  # few files want it

    return zstd.ZstdDecompressor()


def unpacked(packed: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack gzip, some bytes at a time, to the last one before an error.

    Raises
    ------
    EOFError, zlib.error, gzip.BadGzipFile
        As `gzip` does.
    """
    inflate = INFLATE.decompressobj(31)
    begun = False
    for piece in packed:
        rest = piece
        while rest:
            if inflate.eof:
                # Another gzip file may follow, after zeros.
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                inflate, begun = INFLATE.decompressobj(31), False
            if not begun and not b"\x1f\x8b".startswith(rest[:2]):
                raise gzip.BadGzipFile(f"Not a gzipped file ({rest[:2]!r})")
            begun = True
            before = inflate.copy()
            try:
                made = inflate.decompress(rest, _MOST)
            except INFLATE.error as error:
                yield from _to_the_error(before, rest)
                raise zlib.error(str(error)) from None
            if made:
                yield made
            rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
    if not inflate.eof:
        raise EOFError("Compressed file ended before the end-of-stream marker was reached")


def _to_the_error(inflate: Any, packed: bytes) -> Iterator[bytes]:
    """Yield what can be had of bytes somewhere in which there is an error."""
    for i in range(len(packed)):
        try:
            made = inflate.decompress(packed[i : i + 1])
        except INFLATE.error:
            return
        if made:
            yield made
