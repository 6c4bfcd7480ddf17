"""Compaction of tables that grow night by night: the files of a month that is over, by object.

A look-up of a night reads files of the same days, and one of an object reads row groups that have
it: files of a month, in order of object, serve both. One file of all years would have every night
read all of it.
"""

from __future__ import annotations

import functools
import json
import math
from typing import TYPE_CHECKING

import numpy as np

from ampel_spark.lake.log import replace_files
from ampel_spark.lake.parts import Part, write_part
from ampel_spark.lake.tasks import TOLD

if TYPE_CHECKING:
    from ampel_spark.lake.lake import Lake

__all__ = ["FILE_BYTES", "MONTHLY", "compact_months"]

#: Tables that are compacted so.
MONTHLY = ("alerts", "datapoints", "sightings")

#: Size of a file that is aimed at.
FILE_BYTES = 128 << 20

_GROUP = 64_000


def compact_months(lake: Lake, name: str) -> None:
    """Write the files of each month that is over together.

    Parameters
    ----------
    lake : Lake
        Whose locks "archive" and of the table are held.
    name : str
        One of `MONTHLY`. A file is of the month of its newest row.
    """
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

    version, files = lake.version(name), lake.files(name)
    if "max.jd" not in files.column_names or not len(files):
        return
    days = np.floor(files["max.jd"].to_numpy() - 2440587.5).astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    paths, sizes = files["path"].to_pylist(), files["size_bytes"].to_numpy()
    schema = lake.read(name).schema
    arrow = to_arrow_schema(schema)
    told = [c[4:] for c in files.column_names if c.startswith("min.")]
    for month in np.unique(months[months < months.max()]):
        mine = np.flatnonzero(months == month)
        wanted = math.ceil(sizes[mine].sum() / FILE_BYTES)
        if len(mine) <= wanted:
            continue
        old = [paths[i] for i in mine]
        rows = lake.spark.read.schema(schema).parquet(*(f"{lake.path(name)}/{p}" for p in old))
        rows = rows.repartitionByRange(wanted, "stock").sortWithinPartitions("stock", "jd")
        write = functools.partial(write_part, lake.path(name), arrow, told, _GROUP)
        parts = [
            Part(**json.loads(row["told"]))
            for row in rows.mapInArrow(write, from_arrow_schema(TOLD)).collect()
        ]
        if sum(part.rows for part in parts) != int(files["num_records"].to_numpy()[mine].sum()):
            raise AssertionError(f"{name}: rows of {month} were lost as they were written anew")
        new = [part.as_file() for part in parts]
        version = replace_files(lake.path(name), new, old, version, {})
