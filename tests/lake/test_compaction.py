"""Months that are over are put together by object, and no row is another for it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from pyspark.sql import SparkSession

from ampel_spark.lake.commits import add_parts
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.maintenance import compact
from ampel_spark.lake.parts import PartWriter, arrow_schema
from ampel_spark.lake.tables import TABLES

TABLE = TABLES["datapoints"]
NIGHTS = (2458300.5, 2458301.5, 2458331.5, 2458335.5, 2458362.5, 2458363.5)  # of three months


def ordered(table: pa.Table) -> pa.Table:
    return table.sort_by([("stock", "ascending"), ("jd", "ascending")]).combine_chunks()


@pytest.mark.spark
def test_files_of_a_month_that_is_over_become_one_in_order_of_object(
    spark: SparkSession, lake_path: Path
) -> None:
    lake = Lake(spark, lake_path)
    lake.ensure(TABLE)
    schema = arrow_schema(TABLE)
    for jd in NIGHTS:
        rows = [
            {"stock": stock, "jd": jd + stock * 1e-3, "flux": [None, 1.5][stock % 2]}
            for stock in range(5)
        ]
        writer = PartWriter(lake.path(TABLE.name), schema, ("stock", "jd"))
        writer.write(pa.Table.from_pylist(rows, schema))
        add_parts(lake, TABLE, [writer.close()], {})
    before = lake.arrow(TABLE.name)
    lines: list[str] = []
    compact(lake, [TABLE.name], out=lines.append)
    assert lines == ["compact: datapoints: 6 files, now 4, version 8"]
    assert ordered(lake.arrow(TABLE.name)).equals(ordered(before))
    assert lake.read(TABLE.name).count() == len(before)
    assert ordered(lake.arrow(TABLE.name, version=6)).equals(ordered(before))
    # files are still told apart by their days, and in each objects are in order
    (month,) = lake.files_between(TABLE.name, "jd", NIGHTS[2], NIGHTS[3])
    stocks = parquet.read_table(month)["stock"].to_pylist()
    assert stocks == sorted(stocks)
    assert len(stocks) == 10
    compact(lake, [TABLE.name], out=lines.append)
    assert lake.version(TABLE.name) == 8  # there is nothing left to do


@pytest.mark.spark
@pytest.mark.parametrize("name", ["quarantine", "archive_files", "datapoints", "decisions"])
def test_tables_of_the_archive_are_put_together_while_no_ingest_is_at_work(
    spark: SparkSession, lake_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lake = Lake(spark, lake_path)
    lake.ensure(TABLES[name])
    held: list[str] = []
    real = lake.lock

    def lock(name: str) -> contextlib.AbstractContextManager[None]:
        held.append(name)
        return real(name)

    monkeypatch.setattr(lake, "lock", lock)
    compact(lake, [name], out=lambda line: None)
    assert held == ([] if name == "decisions" else ["archive"])
