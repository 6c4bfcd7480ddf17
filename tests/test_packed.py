"""Compressed files are known by their first bytes, and unpacked to the last byte or not at all."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from ampel_spark.packed import PackedError, content_of, described, opened, packing_of, plain_name

DATA = bytes(range(256)) * 500
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstandard": zstd.compress
}  # fmt: skip


def unpacked(data: bytes, size: int = 1000) -> bytes:
    return b"".join(opened(data[i : i + size] for i in range(0, len(data), size)))


@pytest.mark.parametrize("kind", PACK)
def test_files_are_unpacked_whatever_they_are_called(kind: str, tmp_path: Path) -> None:
    packed = PACK[kind](DATA)
    assert packing_of(packed[:32]) == kind
    # several in a row are one file
    for size in (1, 7, 1000, 1 << 20):
        assert unpacked(packed + PACK[kind](b"more"), size) == DATA + b"more"
    (tmp_path / "table.dat").write_bytes(packed)
    assert content_of(tmp_path / "table.dat") == DATA
    (tmp_path / "plain.gz").write_bytes(DATA)
    assert content_of(tmp_path / "plain.gz") is None
    assert unpacked(DATA) == DATA


@pytest.mark.parametrize("kind", PACK)
def test_a_file_that_is_cut_off_gives_what_came_before_and_says_so(kind: str) -> None:
    packed = PACK[kind](DATA)
    for cut in (len(packed) - 1, len(packed) // 2, 20):
        got: list[bytes] = []
        with pytest.raises(PackedError, match=f"^{kind}: "):
            got.extend(opened([packed[:cut]]))
        assert DATA.startswith(b"".join(got))
    with pytest.raises(PackedError, match=f"gzip: it is compressed twice, with {kind} in it"):
        unpacked(gzip.compress(packed))


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b'<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">', "a web page, perhaps an error"),
        (b"\n <html><head>", "a web page"),
        (b"PK\x03\x04", "a zip archive; unpack it before"),
        (b"\x04\x22\x4d\x18", "compressed with lz4"),
        (b"BZh91AY&SY", "compressed with bzip2"),
        (b"Obj\x01", "an Avro container"),
        (b"name,mjd", None),
        (b"BZhang 1", None),
    ],
)
def test_other_files_are_called_what_they_are(head: bytes, said: str | None) -> None:
    found = described(head)
    assert found == said if said is None else (found or "").startswith(said)


def test_names_are_compared_without_case_and_compression() -> None:
    assert plain_name("ZTF_PUBLIC.TAR.GZ") == "ztf_public.tar"
    assert plain_name("a.csv.bz2") == "a.csv"
    assert plain_name("a.csv") == "a.csv"
