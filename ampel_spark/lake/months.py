"""Compaction of tables that grow night by night: each past month becomes a few files by object.

The look-up of a night reads the files of its days; the look-up of an object reads the row groups
that hold it. Files of a month in order of object serve both. If files spanned all years, every
night would have to read all of them.
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

#: The tables that are compacted by month.
MONTHLY = ("alerts", "datapoints", "sightings")

#: The intended size of a file.
FILE_BYTES = 128 << 20

_GROUP = 64_000


def compact_months(lake: Lake, name: str) -> None:
    """Replace the files of each past month by fewer and larger ones.

    Parameters
    ----------
    lake : Lake
        The lake; the caller holds its locks "archive" and that of the table.
    name : str
        A table of `MONTHLY`. A file belongs to the month of its newest row.
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
    noted = [c[4:] for c in files.column_names if c.startswith("min.")]
    for month in np.unique(months[months < months.max()]):
        mine = np.flatnonzero(months == month)
        wanted = math.ceil(sizes[mine].sum() / FILE_BYTES)
        if len(mine) <= wanted:
            continue
        old = [paths[i] for i in mine]
        rows = lake.spark.read.schema(schema).parquet(*(f"{lake.path(name)}/{p}" for p in old))
        rows = rows.repartitionByRange(wanted, "stock").sortWithinPartitions("stock", "jd")
        write = functools.partial(write_part, lake.path(name), arrow, noted, _GROUP)
        parts = [
            Part(**json.loads(row["report"]))
            for row in rows.mapInArrow(write, from_arrow_schema(TOLD)).collect()
        ]
        if sum(part.rows for part in parts) != int(files["num_records"].to_numpy()[mine].sum()):
            raise AssertionError(f"{name}: rows of {month} were lost as they were written anew")
        new = [part.as_file() for part in parts]
        version = replace_files(lake.path(name), new, old, version, {})
