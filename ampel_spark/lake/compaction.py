"""Compaction of tables: many small files become few large ones, with the same rows.

Tables of the archive grow night by night, and are compacted month by month. The look-up of a night
reads the files of its days; the look-up of an object reads the row groups that hold it. Files of a
month in order of object serve both. If files spanned all years, every night would have to read all
of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ampel_spark.lake.log import replace_files
from ampel_spark.lake.parts import Part, PartWriter, parts_of, write_part
from ampel_spark.lake.reading import dataset

if TYPE_CHECKING:
    import pyarrow as pa

    from ampel_spark.lake.lake import Lake

__all__ = ["FILE_BYTES", "MONTHLY", "compact_files", "compact_months"]

#: The tables that are compacted by month.
MONTHLY = ("alerts", "datapoints", "sightings")

#: The intended size of a file.
FILE_BYTES = 128 << 20

#: The size up to which files are put together in this process: a job would cost more.
_HERE = 32 << 20

_GROUP = 64_000


def compact_months(lake: Lake, name: str) -> None:
    """Replace the files of each past month by fewer and larger ones.

    Parameters
    ----------
    lake : Lake
        The lake; the caller holds its lock "archive".
    name : str
        A table of `MONTHLY`. A file belongs to the month of its newest row.
    """
    version, files = lake.version(name), lake.files(name)
    if "max.jd" not in files.column_names or not len(files):
        return
    days = np.floor(files["max.jd"].to_numpy() - 2440587.5).astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    for month in np.unique(months[months < months.max()]):
        mine = np.flatnonzero(months == month)
        version = _together(lake, name, version, files.take(mine), ("stock", "jd"))


def compact_files(lake: Lake, name: str, order: Sequence[str] = ()) -> None:
    """Replace the files of a table that are smaller than half of `FILE_BYTES` by larger ones.

    Parameters
    ----------
    lake : Lake
    name : str
    order : sequence of str, optional
        Columns in whose order the rows lie afterwards.

    Raises
    ------
    LakeError
        If something was committed to the table meanwhile.
    """
    version, files = lake.version(name), lake.files(name)
    small = np.flatnonzero(files["size_bytes"].to_numpy() < FILE_BYTES // 2)
    _together(lake, name, version, files.take(small), order)


def _together(
    lake: Lake, name: str, version: int | None, files: pa.Table, order: Sequence[str]
) -> int | None:
    """Put some of a version's files together, and return the new version."""
    size = int(files["size_bytes"].to_numpy().sum())
    wanted = math.ceil(size / FILE_BYTES)
    if len(files) <= wanted:
        return version
    old = files["path"].to_pylist()
    noted = [c[4:] for c in files.column_names if c.startswith("min.")]
    paths = [f"{lake.path(name)}/{path}" for path in old]
    if size <= _HERE:
        parts = _joined(lake, name, paths, noted, order)
    else:
        parts = _sorted(lake, name, paths, noted, wanted, order)
    if sum(part.rows for part in parts) != int(files["num_records"].to_numpy().sum()):
        raise AssertionError(f"{name}: rows were lost as they were written anew")
    new = [part.as_file() for part in parts]
    return replace_files(lake.path(name), new, old, version, {})


def _joined(
    lake: Lake, name: str, paths: Sequence[str], noted: Sequence[str], order: Sequence[str]
) -> list[Part]:
    """Write the rows of small files as one part, in this process."""
    import pyarrow.dataset as ds

    schema = dataset(lake.root, name).schema
    rows = ds.dataset(list(paths), schema=schema, format="parquet").to_table()
    if order:
        rows = rows.sort_by([(column, "ascending") for column in order])
    writer = PartWriter(lake.path(name), schema, noted)
    for begin in range(0, len(rows), _GROUP):
        writer.write(rows.slice(begin, _GROUP))
    return [writer.close()]


def _sorted(
    lake: Lake,
    name: str,
    paths: Sequence[str],
    noted: Sequence[str],
    wanted: int,
    order: Sequence[str],
) -> list[Part]:
    """Write the rows of files as parts, by tasks."""
    from pyspark.sql.pandas.types import to_arrow_schema

    schema = lake.read(name).schema
    rows = lake.spark.read.schema(schema).parquet(*paths)
    if order:
        # The last column only orders rows within what the others name, as an object.
        by = order[:-1] or order
        rows = rows.repartitionByRange(wanted, *by).sortWithinPartitions(*order)
    else:
        rows = rows.repartition(wanted)
    write = functools.partial(write_part, lake.path(name), to_arrow_schema(schema), noted, _GROUP)
    return parts_of(rows, write)
