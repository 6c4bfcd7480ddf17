"""Parts of tables that tasks write."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ampel_spark.lake.parts import Part, write_part

SCHEMA = pa.schema([("name", pa.string()), ("n", pa.int32()), ("x", pa.float64())])


def batch(names: list[str | None], n: list[int]) -> pa.RecordBatch:
    """Rows of three columns."""
    columns = [pa.array(names, pa.string()), pa.array(n, pa.int32()), pa.array([0.5] * len(n))]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def test_a_task_writes_one_part_in_row_groups_and_tells_its_extremes(tmp_path: Path) -> None:
    batches = [batch(["b", None], [3, 1]), batch([], []), batch(["a"], [2]), batch(["c"], [7])]
    (told,) = write_part(tmp_path, SCHEMA, ("name", "n"), 3, iter(batches))
    part = Part(**json.loads(told.column("report")[0].as_py()))
    assert [path.name for path in tmp_path.iterdir()] == [part.name]
    assert (part.rows, part.size) == (4, (tmp_path / part.name).stat().st_size)
    assert part.least == {"name": "a", "n": 1}
    assert part.most == {"name": "c", "n": 7}
    assert part.nulls == {"name": 1, "n": 0}
    file = pq.ParquetFile(tmp_path / part.name)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [3, 1]
    assert file.read()["n"].to_pylist() == [3, 1, 2, 7]


def test_a_task_without_rows_writes_nothing(tmp_path: Path) -> None:
    assert list(write_part(tmp_path, SCHEMA, ("n",), 3, iter([batch([], [])]))) == []
    assert list(tmp_path.iterdir()) == []
