"""Rows that are looked for in a file are found, whatever row groups are passed over."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import parquet

from ampel_spark.lake import scan as scanning
from ampel_spark.lake.scan import groups_with, scan


@pytest.fixture
def rows(tmp_path: Path) -> tuple[str, pa.Table]:
    """A file of ten row groups, in order of stock; some times are null or no number."""
    draw = random.Random(3)
    times = [draw.choice((draw.random() * 9, None, float("nan"))) for _ in range(1000)]
    table = pa.table({"stock": sorted(draw.randrange(300) for _ in range(1000)), "jd": times,
                      "ids": [[i, i] for i in range(1000)], "n": range(1000)})  # fmt: skip
    path = tmp_path / "rows.parquet"
    parquet.write_table(table, path, row_group_size=100)
    return str(path), table


@pytest.mark.parametrize("small", [0, 10_000])
def test_rows_are_those_of_a_plain_filter(
    rows: tuple[str, pa.Table], small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "_SMALL", small)
    path, table = rows
    for stocks in ([5, 7, 299], [], [1000], list(range(300))):
        values = pa.array(stocks, pa.int64())
        for span in (None, (2.0, 3.0), (20.0, 30.0)):
            mine = pc.is_in(table["stock"], value_set=values)
            if span:
                after = pc.greater_equal(table["jd"], span[0])
                mine = pc.and_(mine, pc.and_(after, pc.less_equal(table["jd"], span[1])))
            between = ("jd", *span) if span else None
            found = list(scan(path, ["n", "ids"], ("stock", values), between))
            expected = table.filter(mine).select(["n", "ids"]).to_pylist()
            assert [row for part in found for row in part.to_pylist()] == expected


def test_row_groups_that_cannot_have_a_value_are_passed_over(rows: tuple[str, pa.Table]) -> None:
    path, table = rows
    with parquet.ParquetFile(path) as file:
        for stock in (0, 150, 299, 1000):
            groups = list(groups_with(file, {"stock": (stock, stock)}))
            there = {i // 100 for i, each in enumerate(table["stock"].to_pylist()) if each == stock}
            assert there <= set(groups)
            assert len(groups) <= 2
