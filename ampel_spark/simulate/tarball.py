"""Nightly tar.gz files, written fast and with reproducible bytes.

The packets of a night share long pieces: the header of their Avro container with the schema, and
their cutouts. A deflate stream can consist of independent parts (zlib's full flush), so a shared
piece is compressed once, and its compressed bytes are written for every packet. The result is an
ordinary gzip file of one member; a test reads it with the standard library.
"""

from __future__ import annotations

import struct
import tarfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["PackedPart", "Tarball"]

_LEVEL = 3
_BLOCK = 512
# Magic, deflate, no flags, no time, fastest-to-middling, system unknown.
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


class PackedPart:
    """A piece of data that is compressed once and can be written many times."""

    def __init__(self, data: bytes, level: int = _LEVEL) -> None:
        self.data = data
        squeeze = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        self.deflated = squeeze.compress(data) + squeeze.flush(zlib.Z_FULL_FLUSH)


class Tarball:
    """A tar.gz file, as a context manager that writes to a temporary name and renames at the end.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(path.name + ".part")

    def __enter__(self) -> Self:
        self._file = self._temporary.open("wb")
        self._file.write(_GZIP_HEAD)
        self._squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._crc, self._size = 0, 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._file.close()
            self._temporary.unlink()
            return
        self._write(bytes(2 * _BLOCK))
        self._file.write(self._squeeze.flush(zlib.Z_FINISH))
        self._file.write(struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))
        self._file.close()
        self._temporary.rename(self._path)

    def add(self, name: str, pieces: list[bytes | PackedPart]) -> None:
        """Add a member that consists of pieces in this order."""
        size = sum(len(piece.data if isinstance(piece, PackedPart) else piece) for piece in pieces)
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o644
        self._write(info.tobuf(tarfile.USTAR_FORMAT))
        for piece in pieces:
            if isinstance(piece, PackedPart):
                self._put(piece)
            else:
                self._write(piece)
        self._write(bytes(-size % _BLOCK))

    def _write(self, data: bytes) -> None:
        self._file.write(self._squeeze.compress(data))
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)

    def _put(self, part: PackedPart) -> None:
        self._file.write(self._squeeze.flush(zlib.Z_FULL_FLUSH))
        self._file.write(part.deflated)
        self._crc = zlib.crc32(part.data, self._crc)
        self._size += len(part.data)
