"""The fast Avro encoder, held to fastavro."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampel_spark.simulate.avro import (
    alert_schema,
    container_head,
    encode_rows,
    record,
    string,
    varint,
)

COUNT = 7
RANDOM = np.random.default_rng(3)


def written(schema: Any, value: Any) -> bytes:
    """What fastavro makes of a value."""
    file = io.BytesIO()
    fastavro.schemaless_writer(file, fastavro.parse_schema(schema), value)
    return file.getvalue()


def schema_of(name: str) -> dict[str, Any]:
    """The schema of a record in the packet."""
    (found,) = (field["type"] for field in alert_schema()["fields"] if field["name"] == name)
    return found if isinstance(found, dict) else found[1]["items"]


def column(type_: str) -> Any:
    """Values of a type, small and large, as arrays and lists."""
    if type_ in ("float", "double"):
        return RANDOM.normal(size=COUNT) * 10.0 ** RANDOM.integers(-5, 6, COUNT)
    if type_ == "string":
        return [f"text {i} é" * i for i in range(COUNT)]
    return RANDOM.integers(-(10**9), 10**9 if type_ == "int" else 10**18, COUNT)


@pytest.mark.parametrize("name", ["candidate", "prv_candidates", "fp_hists"])
@pytest.mark.parametrize("nulls", [False, True])
def test_rows_are_encoded_as_fastavro_encodes_them(name: str, nulls: bool) -> None:
    fields = record(name)
    columns = {
        field: None if nulls and nullable and i % 3 else column(type_)
        for i, (field, type_, nullable) in enumerate(fields)
    }
    rows = [
        {
            field: None
            if values is None
            else values[i]
            if isinstance(values, list)
            else values[i].item()
            for field, values in columns.items()
        }
        for i in range(COUNT)
    ]
    expected = [written(schema_of(name), row) for row in rows]
    assert encode_rows(fields, columns, COUNT) == expected


def test_one_value_stands_for_all_rows_and_what_is_left_out_is_null() -> None:
    fields = (
        ("a", "int", False),
        ("b", "string", True),
        ("c", "float", True),
        ("d", "float", True),
    )
    rows = encode_rows(fields, {"a": -3, "b": "x", "c": 2.5}, 2)
    types = [{"name": n, "type": ["null", t] if null else t} for n, t, null in fields]
    expected = written(
        {"type": "record", "name": "r", "fields": types}, {"a": -3, "b": "x", "c": 2.5, "d": None}
    )
    assert rows == [expected, expected]


def test_what_must_not_be_null_is_an_error() -> None:
    with pytest.raises(ValueError, match="jd must not be null"):
        encode_rows(record("candidate"), {}, 1)


@given(st.integers(-(2**63), 2**63 - 1), st.text())
def test_numbers_and_texts_are_fastavros(number: int, text: str) -> None:
    assert varint(number) == written("long", number)
    assert string(text) == written("string", text)


def test_the_schema_is_one_that_fastavro_accepts() -> None:
    parsed = fastavro.parse_schema(alert_schema())
    assert parsed["name"] == "ztf.alert"
    assert alert_schema()["version"] == "4.02"


def test_a_container_is_an_avro_file() -> None:
    head, sync = container_head()
    body = written(alert_schema(), minimal_packet())
    data = head + varint(1) + varint(len(body)) + body + sync
    reader = fastavro.reader(io.BytesIO(data))
    (packet,) = reader
    assert reader.codec == "null"
    assert packet["objectId"] == "ZTF18aaaaaaa"
    assert (
        fastavro.block_reader(io.BytesIO(data)).metadata["avro.schema"]
        == reader.metadata["avro.schema"]
    )


def minimal_packet() -> dict[str, Any]:
    """A packet with as little in it as the schema allows."""
    zero = {"int": 0, "long": 0, "float": 0.0, "double": 0.0, "string": ""}
    fields = record("candidate")
    candidate = {name: None if nullable else zero[type_] for name, type_, nullable in fields}
    return {
        "schemavsn": "4.02",
        "publisher": "",
        "objectId": "ZTF18aaaaaaa",
        "candid": 0,
        "candidate": candidate,
    }
