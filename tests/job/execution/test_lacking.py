"""Rows that were read before a column was declared are counted, those of other surveys are not."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from ampel_spark.job.execution.lacking import counts_of


def test_what_lacks_a_value_is_told_apart_from_what_lacks_the_column(tmp_path: Path) -> None:
    before = pa.table({"survey": ["ls4", "ls4", "ztf"], "jd": [1.0, 2.0, 3.0]})
    values = pa.array([{"rb": 0.5}, {"rb": None}, None], pa.struct([("rb", pa.float32())]))
    after = pa.table({"survey": ["ls4", "ls4", "ztf"], "ls4": values})
    for name, table in (("a", before), ("b", after)):
        parquet.write_table(table, tmp_path / f"{name}.parquet")
    paths = [str(tmp_path / f"{name}.parquet") for name in "ab"]
    assert counts_of(paths, "ls4", "rb") == (4, 3, 2)
    assert counts_of(paths, "ls4", "rb", nulls=False) == (4, 2, 2)
    assert counts_of(paths, "ls4", "other") == (4, 4, 4)
    assert counts_of([], "ls4", "rb") == (0, 0, 0)
