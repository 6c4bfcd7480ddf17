"""Exports: they read back as they were, and the same candidates give the same bytes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from ampel_spark.errors import ConfigError
from ampel_spark.t3.export import export, write_csv, write_parquet

TABLE = pa.table(
    {
        "rank": pa.array([1, 2, 3], pa.int32()),
        "stock": pa.array([2**53 + 1, 5, 6], pa.int64()),
        "name": ["ZTF18aabsyqp", 'a "b", c\nd', "é"],
        "x1": [0.1 + 0.2, None, float("nan")],
        "ndof": pa.array([52, None, 7], pa.int64()),
        "good": [True, False, None],
        "bands": [["ztfg", "ztfr"], [], None],
    }
)
ABOUT: dict[str, Any] = {
    "run_id": "run-7",
    "units": {"x1": "", "ndof": "", "jd": "d"},
    "descriptions": {"x1": "stretch"},
}


def test_a_csv_is_plain_and_exact(tmp_path: Path) -> None:
    path = tmp_path / "new" / "candidates.csv"
    write_csv(path, TABLE, **ABOUT)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        TABLE.column_names,
        [
            "1",
            str(2**53 + 1),
            "ZTF18aabsyqp",
            "0.30000000000000004",
            "52",
            "true",
            '["ztfg", "ztfr"]',
        ],
        ["2", "5", 'a "b", c\nd', "", "", "false", "[]"],
        ["3", "6", "é", "", "7", "", ""],
    ]
    assert pd.read_csv(path, float_precision="round_trip").x1[0] == 0.1 + 0.2
    assert len(Table.read(path, format="ascii.csv")) == 3
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "candidates.csv",
        "candidates.csv-metadata.json",
    ]


def test_the_metadata_of_a_csv_say_run_units_and_types(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "a.csv", TABLE, run_id="run-7", units={"x1": "d"}, descriptions={"x1": "stretch"}
    )
    metadata = json.loads((tmp_path / "a.csv-metadata.json").read_text())
    columns = {column.pop("name"): column for column in metadata["tableSchema"]["columns"]}
    assert metadata["dc:source"] == "run-7"
    assert metadata["url"] == "a.csv"
    assert list(columns) == TABLE.column_names
    assert columns["x1"] == {
        "datatype": "double",
        "schema:unitText": "d",
        "dc:description": "stretch",
    }
    types = [column["datatype"] for column in columns.values()]
    assert types == ["integer", "integer", "string", "double", "integer", "boolean", "json"]


def test_parquet_keeps_types_values_and_carries_run_and_units(tmp_path: Path) -> None:
    path = tmp_path / "candidates.parquet"
    write_parquet(path, TABLE, run_id="run-7", units={"x1": "d"}, descriptions={"x1": "stretch"})
    table = pq.read_table(path)
    assert table.schema.metadata == {b"run_id": b"run-7"}
    assert table.field("x1").metadata[b"unit"] == b"d"
    assert table.field("x1").metadata[b"description"] == b"stretch"
    assert table.drop_columns("x1").equals(TABLE.drop_columns("x1"))
    np.testing.assert_array_equal(table["x1"].to_pandas(), TABLE["x1"].to_pandas())
    assert pd.read_parquet(path).stock[0] == 2**53 + 1


@pytest.mark.parametrize(("write", "suffix"), [(write_csv, "csv"), (write_parquet, "parquet")])
def test_the_same_candidates_give_the_same_bytes(tmp_path: Path, write: Any, suffix: str) -> None:
    contents = []
    for name in ("a", "b", "a"):
        path = tmp_path / name / f"candidates.{suffix}"
        write(path, TABLE, **ABOUT)
        contents.append(b"".join(p.read_bytes() for p in sorted(path.parent.iterdir())))
    assert len(set(contents)) == 1


def test_pandas_will_do_as_well(tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": ["a", "b"], "x1": [1.5, np.nan]}, index=[7, 9])
    write_csv(tmp_path / "a.csv", frame, run_id="r")
    assert (tmp_path / "a.csv").read_text() == "name,x1\na,1.5\nb,\n"
    write_parquet(tmp_path / "a.parquet", frame, run_id="r")
    assert pq.read_table(tmp_path / "a.parquet").column_names == ["name", "x1"]


def test_no_candidates_make_a_table_with_a_header(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", TABLE.slice(0, 0), run_id="r")
    assert (tmp_path / "a.csv").read_text() == ",".join(TABLE.column_names) + "\n"


def test_an_export_is_asked_for_by_its_kind(tmp_path: Path) -> None:
    assert export(TABLE, tmp_path / "a.csv", "csv", run_id="r") == tmp_path / "a.csv"
    assert pq.read_schema(export(TABLE, tmp_path / "b", "parquet", run_id="r")).metadata
    with pytest.raises(ConfigError, match="did you mean 'parquet'"):
        export(TABLE, tmp_path / "c", "parqet", run_id="r")


def test_unknown_numbers_in_a_list_are_null_in_json(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", pa.table({"a": [[1.5, float("nan"), None]]}), run_id="r")
    assert (tmp_path / "a.csv").read_text() == 'a\n"[1.5, null, null]"\n'
