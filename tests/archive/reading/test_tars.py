"""Members are read as `tarfile` reads them, and gzip is unpacked as `gzip` does, damaged or not."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zlib
from collections.abc import Callable, Iterator

import pytest

from ampel_spark import packed
from ampel_spark.archive.reading.tars import Broken, Member, members_of, members_plainly
from ampel_spark.packed import unpacked


def pieces(data: bytes, size: int = 1000) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def tar_of(kind: int = tarfile.GNU_FORMAT, *others: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
        for i in range(6):
            for info in (
                [*others, tarfile.TarInfo(f"{i}.avro")]
                if i == 3
                else [tarfile.TarInfo(f"{i}.avro")]
            ):
                data = bytes([i]) * (0 if info.type != tarfile.REGTYPE else 511 + i)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def odd(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    return info


def folder() -> bytes:
    info = odd("./", tarfile.DIRTYPE)
    return info.tobuf(tarfile.GNU_FORMAT)


TARS: dict[str, Callable[[], bytes]] = {
    "GNU": tar_of,
    "ustar": lambda: tar_of(tarfile.USTAR_FORMAT),
    "pax": lambda: tar_of(tarfile.PAX_FORMAT),
    "long names": lambda: tar_of(tarfile.GNU_FORMAT, odd("n" * 99), odd("n" * 100), odd("n" * 300)),
    "long pax names": lambda: tar_of(tarfile.PAX_FORMAT, odd("n" * 300), odd("é.avro")),
    "prefixes": lambda: tar_of(tarfile.USTAR_FORMAT, odd("/".join(["folder"] * 20))),
    "folders and links": lambda: tar_of(
        tarfile.GNU_FORMAT, odd("a", tarfile.DIRTYPE), odd("b", tarfile.SYMTYPE), odd("é.avro")
    ),
    "folder first": lambda: folder() + tar_of(),
    "no end": lambda: tar_of().rstrip(b"\0"),
    "nothing": lambda: b"",
    "zeros": lambda: bytes(10240),
    "words": lambda: b"no tar at all" * 100,
}


@pytest.mark.parametrize("kind", TARS)
def test_members_are_those_that_tarfile_finds(kind: str) -> None:
    data = TARS[kind]()
    found = list(members_of(pieces(data)))
    assert found == list(members_plainly(pieces(data, 77)))
    if not kind.startswith(("no", "zeros", "words")):
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            files = [info for info in tar if info.isfile()]
            assert found == [Member(i.name, tar.extractfile(i).read()) for i in files]


def test_damaged_tars_are_read_as_tarfile_reads_them() -> None:
    draw = random.Random(1)
    tars = [make() for kind, make in TARS.items() if kind not in ("nothing", "zeros")]
    for _ in range(1500):
        data = bytearray(draw.choice(tars))
        for _ in range(draw.choice((1, 1, 2))):
            at = draw.randrange(len(data)) // 512 * 512 + draw.randrange(512)  # headers more often
            if at < len(data):
                data[at] = draw.choice((0, 0x20, 0x30, 0x31, 0xFF, draw.randrange(256)))
            if draw.random() < 0.3:
                del data[draw.randrange(len(data)) :]
                data = data or bytearray(b"x")
            header = draw.randrange(0, len(data), 512)
            if draw.random() < 0.5 and len(data) >= header + 512:  # whose sum is right again
                block = data[header : header + 512]
                block[draw.randrange(100, 500)] = draw.choice((0, 0x20, 0x30, 0x35, 0x4C, 0x78))
                block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
                data[header : header + 512] = block
        fast, plain = (
            # of what is wrong with the end, tarfile has words of its own
            [
                part.reason if isinstance(part, Broken) else part
                for part in read(pieces(bytes(data)))
            ]
            for read in (members_of, members_plainly)
        )
        assert fast == plain


def gunzipped(data: bytes) -> tuple[bytes, bool]:
    """Return what `gzip` makes of data, byte by byte, and whether it came to the end."""
    made = bytearray()
    with gzip.open(io.BytesIO(data)) as stream:
        try:
            while byte := stream.read(1):
                made += byte
        except (OSError, EOFError, zlib.error):
            return bytes(made), False
    return bytes(made), True


def our_gunzipped(data: bytes, size: int) -> tuple[bytes, bool]:
    made = bytearray()
    try:
        for piece in unpacked(pieces(data, size)):
            made += piece
    except (OSError, EOFError, zlib.error):
        return bytes(made), False
    return bytes(made), True


@pytest.fixture(params=["zlib", "zlib_ng.zlib_ng"])
def inflate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpack with zlib, and with what is taken in its place where it is installed."""
    monkeypatch.setattr(packed, "INFLATE", pytest.importorskip(request.param))


@pytest.mark.usefixtures("inflate")
def test_gzip_is_unpacked_to_the_last_byte_before_an_error() -> None:
    draw = random.Random(2)
    content = draw.randbytes(300) + b"z" * 5000 + draw.randbytes(300)
    whole = gzip.compress(content[:2000]) + bytes(9) + gzip.compress(content[2000:]) + bytes(3)
    assert our_gunzipped(whole, 10) == our_gunzipped(whole, 1 << 20) == (content, True)
    assert our_gunzipped(whole + b"end", 100)[1] is False
    for _ in range(120):
        data = bytearray(whole)
        if draw.random() < 0.5:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        else:
            del data[draw.randrange(2, len(data)) :]
        (made, fine), (ours, we) = gunzipped(bytes(data)), our_gunzipped(bytes(data), 100)
        assert we == fine
        assert ours == made if fine else ours.startswith(made)
        assert our_gunzipped(bytes(data), 1 << 20) == (ours, we)


def test_damaged_gzip_gives_the_same_bytes_whatever_unpacks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = pytest.importorskip("zlib_ng.zlib_ng")
    draw = random.Random(4)
    words = [draw.choice((draw.randbytes(90), b"candidate", bytes(40))) for _ in range(90)]
    content = b"".join(words)
    for level in (1, 6, 9):
        whole = gzip.compress(content, level)
        for _ in range(100):
            data = bytearray(whole)
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            found = []
            for module in (zlib, other):
                monkeypatch.setattr(packed, "INFLATE", module)
                found.append(our_gunzipped(bytes(data), 10_000))
            assert found[0] == found[1]
