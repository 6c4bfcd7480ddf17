"""The fast tar.gz writer, held to the standard library."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from ampel_spark.simulate.tarball import PackedPart, Tarball

RANDOM = np.random.default_rng(4)
TEXT = b"a schema that repeats " * 1500
NOISE = RANDOM.bytes(20_000)
MEMBERS: list[tuple[str, list[bytes | PackedPart]]] = [
    ("1.avro", [PackedPart(TEXT), b"one", PackedPart(NOISE, level=0), b""]),
    ("2.avro", [PackedPart(TEXT), PackedPart(NOISE, level=0), b"two" * 5000]),
    ("3.avro", [b""]),
    ("4.avro", [b"x" * 512]),
]


def plain(pieces: list[bytes | PackedPart]) -> bytes:
    return b"".join(piece.data if isinstance(piece, PackedPart) else piece for piece in pieces)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "night.tar.gz"
    with Tarball(path) as tarball:
        for name, pieces in MEMBERS:
            tarball.add(name, pieces)
    return path


def test_members_are_read_back_by_tarfile(written: Path) -> None:
    with tarfile.open(written) as tar:
        found = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
        assert {(member.mtime, member.mode) for member in tar} == {(0, 0o644)}
    assert found == [(name, plain(pieces)) for name, pieces in MEMBERS]


def test_it_holds_the_tar_that_tarfile_writes(written: Path) -> None:
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, pieces in MEMBERS:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(plain(pieces)), 0o644
            tar.addfile(info, io.BytesIO(plain(pieces)))
    data = gzip.decompress(written.read_bytes())
    # tarfile fills up to records of 20 blocks; the end of a tar is two empty blocks.
    assert expected.getvalue().startswith(data)
    assert not expected.getvalue()[len(data) :].strip(b"\0")
    assert data.endswith(bytes(1024))


def test_it_is_one_gzip_member(written: Path) -> None:
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    inflate.decompress(written.read_bytes())
    assert inflate.eof
    assert inflate.unused_data == b""


def test_shared_parts_are_compressed(written: Path) -> None:
    assert written.stat().st_size < 2 * len(NOISE) + 4000


def test_a_file_that_is_not_finished_is_not_there(tmp_path: Path) -> None:
    def stop_half_way() -> None:
        with Tarball(tmp_path / "night.tar.gz") as tarball:
            tarball.add("1.avro", [b"one"])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop_half_way()
    assert list(tmp_path.iterdir()) == []
