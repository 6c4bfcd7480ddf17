"""Packets without their schema are called what they are, and read where the schema is at hand."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

from ampel_spark.archive.reading.packets import read_batches
from ampel_spark.archive.reading.wire import read_schema, records
from ampel_spark.archive.reading.ztf import BadPacket
from ampel_spark.errors import ConfigError
from tests.archive.conftest import SCHEMA

FORMS = ("schemaless", "confluent", "single object")


@pytest.fixture
def forms(make: Any) -> dict[str, bytes]:
    """One packet as it is sent."""
    stream = io.BytesIO()
    packet = make.packet(make.detection(7, 2459000.5))
    fastavro.schemaless_writer(stream, fastavro.parse_schema(SCHEMA), packet)
    own = int(fingerprint(to_parsing_canonical_form(SCHEMA), "CRC-64-AVRO"), 16)
    heads = (b"", b"\x00" + (704).to_bytes(4, "big"), b"\xc3\x01" + own.to_bytes(8, "little"))
    return {name: head + stream.getvalue() for name, head in zip(FORMS, heads, strict=True)}


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("schemaless", "perhaps a schemaless record: the schema is not in the file"),
        ("confluent", "Confluent header, schema id 704: the schema is not in the file"),
        ("single object", "single-object encoding, schema fingerprint "),
    ],
)
def test_what_has_no_schema_says_so_and_is_read_with_one(
    forms: dict[str, bytes], form: str, said: str
) -> None:
    ((_, bad),) = records("a", forms[form])
    assert isinstance(bad, BadPacket)
    assert said in str(bad)
    assert "--schema FILE" in str(bad)
    ((name, record),) = records("a", forms[form], json.dumps(SCHEMA))
    assert (name, record["candid"], record["objectId"]) == ("a", 7, "ZTF18aaaaaab")


def test_another_schema_is_never_taken_for_the_right_one(forms: dict[str, bytes]) -> None:
    other = json.dumps({"type": "record", "name": "r", "fields": [{"name": "a", "type": "string"}]})
    for form, said in (("schemaless", "bytes are left"), ("single object", "another fingerprint")):
        ((_, bad),) = records("a", forms[form], other)
        assert isinstance(bad, BadPacket)
        assert bad.reason == "wrong_schema"
        assert said in str(bad)
    for data in (forms["confluent"][:-3], forms["schemaless"] + b"x", b"\x00\x00\x00\x00\x01"):
        ((_, bad),) = records("a", data, json.dumps(SCHEMA))
        assert isinstance(bad, BadPacket)


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "xz", "bzip2", "zstandard"])
def test_containers_of_every_codec_are_read(make: Any, codec: str) -> None:
    data = make.avro(make.packet(make.detection(7, 2459000.5)), codec=codec)
    ((_, record),) = records("a", data)
    assert record["candid"] == 7


def test_packets_of_an_archive_are_read_with_a_schema(
    forms: dict[str, bytes], make: Any, tmp_path: Path
) -> None:
    """The form of Rubin's alert archive: gzip about Confluent's header."""
    path = tmp_path / "1.avro.gz"
    path.write_bytes(gzip.compress(forms["confluent"]))
    for schema, row in ((None, "bad"), (json.dumps(SCHEMA), "packet")):
        (batch,) = read_batches([str(path)], schema)
        assert sorted(r["row"] for r in batch.to_pylist()) == sorted([row, "end"])


def test_a_schema_is_taken_from_avsc_or_from_a_container(make: Any, tmp_path: Path) -> None:
    (tmp_path / "a.avsc").write_text(json.dumps(SCHEMA))
    (tmp_path / "a.avro").write_bytes(make.avro(make.packet(make.detection(7, 2459000.5))))
    for name in ("a.avsc", "a.avro"):
        schema = json.loads(read_schema(tmp_path / name))
        assert [f["name"] for f in schema["fields"]] == [f["name"] for f in SCHEMA["fields"]]
    (tmp_path / "no.avsc").write_text('{"type": "recrod"}')
    for name, said in (("none.avsc", "cannot be read"), ("no.avsc", "is no Avro schema")):
        with pytest.raises(ConfigError, match=rf"--schema .*{name}: {said}"):
            read_schema(tmp_path / name)


def test_containers_one_behind_the_other_are_read_and_an_empty_one_is_an_empty_file(
    make: Any, tmp_path: Path
) -> None:
    one, other = (make.avro(make.packet(make.detection(n, 2459000.5))) for n in (7, 8))
    found = dict(records("a", one + other))
    assert {name: record["candid"] for name, record in found.items()} == {"a": 7, "a#2": 8}
    cut = dict(records("a", one + other[:-20]))
    assert (cut["a"]["candid"], cut["a#2"].reason) == (7, "truncated")
    stream = io.BytesIO()
    fastavro.writer(stream, SCHEMA, [])
    (tmp_path / "none.avro").write_bytes(stream.getvalue())
    (tmp_path / "two.avro").write_bytes(one + other)
    rows = {
        name: [row for b in read_batches([str(tmp_path / name)]) for row in b.to_pylist()]
        for name in ("none.avro", "two.avro")
    }
    assert [(r["row"], r["reason"]) for r in rows["none.avro"]] == [
        ("broken", "empty_archive"), ("end", None)
    ]  # fmt: skip
    assert [r["alert_id"] for r in rows["two.avro"] if r["row"] == "packet"] == [7, 8]
