"""What somebody hands over is bounded: small files that say that they are large cost little."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ampel_spark import bounds
from ampel_spark.archive.reading.files import Broken, Digest, read_members
from ampel_spark.archive.reading.packets import read_batches
from ampel_spark.archive.reading.values import BadPacket
from ampel_spark.archive.reading.wire import records
from ampel_spark.bounds import LIMITS, Loader, limit
from ampel_spark.dialects import DialectError, read_delimited
from ampel_spark.document import DocumentError, parse_document, read_document, read_value
from ampel_spark.errors import ConfigError
from ampel_spark.packed import content_of
from ampel_spark.t3.stamps import pixels
from ampel_spark.tabular import read_file

MB = 1 << 20


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bombs be small: what counts is that they are refused before they go off."""
    monkeypatch.setenv("AMPEL_SPARK_LIMITS", "packet=1 file=2 image=1 table=1")


# YAML


def laughs(levels: int = 9, width: int = 9) -> str:
    """Return a text of some hundred bytes that is ``width ** levels`` values."""
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (laughs(), "job.yml:6: .* more than 4,194,304 characters once its aliases are written out"),
        ("a: " + "[" * 900 + "]" * 900, "job.yml:1: .* more than 50 lists and mappings"),
        ("a: " + "{a: " * 900 + "}" * 900, "job.yml:1: .* more than 50 lists and mappings"),
        ("\n".join(" " * i + "a:" for i in range(900)), "job.yml:50: .* more than 50 lists"),
        ("a: &a {" + ", ".join(f"k{i}: 1" for i in range(900)) + "}\n"
         "b: &b [" + ", ".join(["*a"] * 300) + "]\nc: {<<: *b}", "job.yml:2: .* its aliases"),
        ("a: 1\n" + "#" * MB, "characters are too many: at most 1 MB are read"),
    ],
    ids=["laughs", "lists", "mappings", "blocks", "merges", "comment"],
)  # fmt: skip
def test_yaml_that_becomes_large_or_deep_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_document("job.yml", text)
    assert "\n" not in str(caught.value)


def test_yaml_of_very_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_VALUE", 500)
    with pytest.raises(ConfigError, match=r"job\.yml:1: .* more than 2,097 keys and values"):
        parse_document("job.yml", "a: [" + "1," * 2500 + "]")


def test_a_file_of_yaml_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "job.yml"
    file.write_text("a: 1\n" + "#\n" * MB)
    with pytest.raises(ConfigError, match=r"job\.yml is too large for YAML: at most 1 MB"):
        read_document(file)


def test_yaml_is_that_of_1_2_whatever_its_tags() -> None:
    assert read_value("[010, 0o17, 0x1F, yes, 1_000, 12:30, -0, !!str 5, !!float 3]") == [
        10, 15, 31, "yes", "1_000", "12:30", 0, "5", 3.0,
    ]  # fmt: skip


def test_tags_that_do_not_fit_are_problems_of_the_file_with_their_line() -> None:
    text = (
        'a: !!bool maybe\nb: !!timestamp abc\nc: !!int ""\nd: !!float x\ne: !!null 1\nf: !own 1\n'
    )
    with pytest.raises(DocumentError) as caught:
        parse_document("job.yml", text).check()
    assert [problem["line"] for problem in caught.value.problems] == [1, 2, 3, 4, 5, 6]
    assert "job.yml:1: a: cannot be read as YAML (it is no bool of YAML 1.2), value 'maybe'" in str(
        caught.value
    )


def test_aliases_that_a_person_writes_are_well_within_the_bounds() -> None:
    text = "a: &a {x: 1, y: [1, 2]}\nb: [*a, *a]\nc: {<<: *a, x: 3}\n"
    content = parse_document("job.yml", text).content
    assert content["c"] == {"x": 3, "y": [1, 2]}


def test_the_head_of_an_ecsv_is_bounded_too() -> None:
    head = "\n".join(f"# {line}" for line in ["%ECSV 1.0", "---", *laughs().splitlines()])
    with pytest.raises(DialectError, match="aliases"):
        read_delimited(f"{head}\na b\n1 2\n".encode(), ())


def test_a_bound_is_raised_by_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMPEL_SPARK_LIMITS", "packet=64, table=20000")
    assert limit("packet") == 64 * MB
    assert limit("image") == LIMITS["image"] * MB
    for wrong in ("packets=3", "packet", "packet=0", "packet=1e3"):
        monkeypatch.setenv("AMPEL_SPARK_LIMITS", wrong)
        with pytest.raises(ConfigError, match="give NAME=MB, as packet=64"):
            limit("packet")


# Archives


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def named(name: str, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def packet(**fields: Any) -> bytes:
    schema = {
        "type": "record", "name": "p",
        "fields": [{"name": name, "type": "bytes"} for name in fields],
    }  # fmt: skip
    out = io.BytesIO()
    fastavro.writer(out, schema, [fields], codec="deflate")
    return out.getvalue()


def members(path: Path) -> list[tuple[str, str]]:
    """Return names of members and what a reader makes of them; of what is broken, the detail."""
    found = []
    for item in read_members(path, Digest()):
        if isinstance(item, Broken):
            found.append((item.reason, item.detail))
            continue
        for name, record in records(item.name, item.data):
            found.append((name, str(record) if isinstance(record, BadPacket) else "good"))
    return found


def sparse(name: str, real: int) -> bytes:
    """Return an old GNU header of a member that is one gap of `real` bytes."""
    block = bytearray(named(name).tobuf(tarfile.GNU_FORMAT))
    block[156:157] = tarfile.GNUTYPE_SPARSE
    block[483:495] = b"\x80" + real.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def test_a_packet_above_its_bound_is_quarantined_by_its_header_and_the_others_are_read(
    tmp_path: Path,
) -> None:
    good = packet(a=b"x")
    large = bytes(2 * MB)
    path = tmp_path / "night.tar"
    path.write_bytes(
        tar_of(
            (named("1.avro", len(good)), good),
            (named("2.avro", len(large)), large),
            (named("picture.fits", len(large)), large),
            (named("3.avro", len(good)), good),
        )
    )
    one, two, three = members(path)
    assert one == ("1.avro", "good")
    assert three == ("3.avro", "good")
    assert two[0] == "2.avro"
    assert "it has 2097152 bytes: at most 1 MB are read; AMPEL_SPARK_LIMITS='packet=2'" in two[1]
    rows = [row for batch in read_batches([str(path)]) for row in batch.to_pylist()]
    assert [row["reason"] for row in rows if row["member"] == "2.avro"] == ["too_large"]
    assert [row["seen"] for row in rows if row["row"] == "end"] == [3]


def test_a_member_with_a_gap_of_a_terabyte_costs_one_row(tmp_path: Path) -> None:
    good = packet(a=b"x")
    path = tmp_path / "night.tar"
    path.write_bytes(sparse("gap.avro", 1 << 40) + tar_of((named("1.avro", len(good)), good)))
    gap, one = members(path)
    assert gap[0] == "gap.avro"
    assert "1099511627776 bytes" in gap[1]
    assert one == ("1.avro", "good")


def zeros_after(head: bytes, count: int) -> bytes:
    """Return gzip of `head` and then `count` zeros."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as stream:
        stream.write(head)
        for _ in range(count // MB):
            stream.write(bytes(MB))
    return out.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = named(name, size)
    info.type = kind
    return info.tobuf(tarfile.GNU_FORMAT)


def test_a_member_and_a_header_that_say_4_gb_cost_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "night.tar.gz"
    path.write_bytes(zeros_after(header("1.avro", 4 << 30), 8 * MB))
    assert members(path) == [("broken_archive", "tar: unexpected end of data")]
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        path.write_bytes(zeros_after(header("x", 4 << 30, kind), 8 * MB))
        ((reason, detail),) = members(path)
        assert reason == "broken_archive"
        assert "headers before byte" in detail
        assert "at most 1 MB are read" in detail


def test_a_chain_of_headers_is_one_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "night.tar"
    path.write_bytes((header("x", 1, tarfile.XHDTYPE) + bytes(512)) * 1500)
    ((reason, _),) = members(path)
    assert reason == "broken_archive"


def test_packets_that_are_packed_small_are_bounded(tmp_path: Path) -> None:
    bomb = packet(a=bytes(8 * MB))  # 8 kB
    path = tmp_path / "night.tar"
    path.write_bytes(tar_of((named("1.avro", len(bomb)), bomb), (named("2.avro.gz", 0), b"")))
    assert "at most 1 MB are read" in dict(members(path))["1.avro"]
    squeezed = gzip.compress(packet(a=bytes(range(256)) * 40000), 1)
    path.write_bytes(tar_of((named("1.avro.gz", len(squeezed)), squeezed)))
    assert len(members(path)) == 1
    single = tmp_path / "one.avro.gz"
    single.write_bytes(zeros_after(b"Obj\x01", 64 * MB))
    ((reason, detail),) = members(single)
    assert reason == "broken_archive"
    assert "at most 1 MB are read" in detail


@pytest.mark.parametrize(
    "items",
    [
        "null",
        {"type": "fixed", "name": "f", "size": 0},
        {"type": "record", "name": "r", "fields": []},
    ],
    ids=["null", "fixed", "record"],
)
def test_a_list_that_has_no_end_is_refused(items: Any) -> None:
    schema = {"type": "record", "name": "p", "fields": [
        {"name": "a", "type": {"type": "array", "items": items}}]}  # fmt: skip
    count = b"\xfe\xff\xff\xff\xff\xff\xff\xff\x3f"  # of 2**61 items
    meta = {"avro.schema": json.dumps(schema), "avro.codec": "null"}
    head = io.BytesIO()
    fastavro.writer(head, schema, [])
    data = head.getvalue()
    sync = data[-16:]
    ((_, found),) = records(
        "1", data + b"\x02" + bytes([2 * (len(count) + 1)]) + count + b"\0" + sync
    )
    assert isinstance(found, BadPacket), meta
    assert "no end" in str(found)


# Images and tables


def test_an_image_that_is_packed_small_is_none() -> None:
    card = "SIMPLE  =                    T".ljust(80) + "BITPIX  =                    8".ljust(80)
    card += "NAXIS   =                    2".ljust(80) + "NAXIS1  =                 4096".ljust(80)
    card += "NAXIS2  =                 4096".ljust(80) + "END".ljust(80)
    fits = card.ljust(2880).encode() + bytes(4096 * 4096)
    assert pixels(gzip.compress(fits, 1)) is None


def test_tables_that_are_packed_small_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(zeros_after(b"a,b\n", 64 * MB))
    with pytest.raises(ValueError, match=r"become more than .* unpacked: at most 1 MB"):
        content_of(path)
    with pytest.raises(DialectError, match="at most 1 MB"):
        read_file(path, "csv")


def as_parquet(path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(np.zeros(20 * MB, np.int8), pa.array([1.0]))
    parquet.write_table(pa.table({"a": column}), path, compression="zstd")


def test_tables_whose_heads_say_that_they_are_huge_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    column = pa.DictionaryArray.from_arrays(np.zeros(20 * MB, np.int8), pa.array([1.0]))
    parquet.write_table(pa.table({"a": column}), path, compression="zstd")
    with pytest.raises(DialectError, match=r"it says that it has .* values in .* at most 1 MB"):
        read_file(path, "parquet")


def test_a_map_whose_head_says_that_it_is_huge_is_refused(tmp_path: Path) -> None:
    from ampel_spark.sky.dust import DustMap

    cards = ["SIMPLE  =                    T", "BITPIX  =                    8",
             "NAXIS   =                    0", "END"]  # fmt: skip
    table = ["XTENSION= 'BINTABLE'", "BITPIX  =                    8",
             "NAXIS   =                    2", "NAXIS1  =                    8",
             f"NAXIS2  = {8 * MB:20d}", "PCOUNT  =                    0",
             "GCOUNT  =                    1", "TFIELDS =                    1",
             "TFORM1  = 'D'", "TTYPE1  = 'a'", "END"]  # fmt: skip
    heads = ["".join(card.ljust(80) for card in each).ljust(2880) for each in (cards, table)]
    path = tmp_path / "map.fits.gz"
    path.write_bytes(zeros_after("".join(heads).encode(), 64 * MB))
    with pytest.raises(ConfigError, match="it says that it has 67108864 bytes of data"):
        DustMap.read(path)


def test_the_loader_leaves_other_yaml_alone() -> None:
    import yaml

    assert yaml.load("a: [1, {b: yes}]", Loader=Loader) == {"a": [1, {"b": True}]}
