"""Rows of Parquet files, without Spark: only the row groups that may have what is looked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet

__all__ = ["groups_with", "objects", "scan"]

# Rows that are read at once: looking at some of their columns first would save nothing.
_SMALL = 10_000


def scan(
    path: str,
    columns: Sequence[str],
    among: tuple[str, pa.Array],
    between: tuple[str, float, float] | None = None,
) -> Iterator[pa.Table]:
    """Yield rows of a file, those of a row group at a time.

    Parameters
    ----------
    path : str
    columns : sequence of str
        Those that a file lacks are null.
    among : (str, Arrow array)
        A column of numbers, and the values of it that are looked for.
    between : (str, float, float), optional
        A column, and its least and largest value.
    """
    name, values = among
    ends = pc.min_max(values)
    wanted = {name: (ends["min"].as_py(), ends["max"].as_py())}
    if not len(values):
        return
    if between is not None:
        wanted[between[0]] = between[1:]
    with parquet.ParquetFile(path, page_checksum_verification=True) as file:
        for group in groups_with(file, wanted):
            small = file.metadata.row_group(group).num_rows <= _SMALL
            first = [*wanted, *columns] if small else [*wanted]
            rows = file.read_row_group(group, columns=list(dict.fromkeys(first)))
            mine = pc.is_in(rows[name], value_set=values)
            if between is not None:
                by, low, high = between
                within = pc.and_(pc.greater_equal(rows[by], low), pc.less_equal(rows[by], high))
                mine = pc.and_(mine, within)
            if pc.any(mine).as_py():
                if not small:
                    rows = file.read_row_group(group, columns=list(columns))
                yield _with_nulls(rows.filter(mine), columns)


def _with_nulls(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    for name in columns:
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.nulls(len(rows)))
    return rows.select(list(columns))


def groups_with(
    file: parquet.ParquetFile, wanted: Mapping[str, tuple[float, float]]
) -> Iterator[int]:
    """Yield the row groups that may have rows within some ranges, by what a file notes of them.

    Parameters
    ----------
    file : ParquetFile
    wanted : mapping of str to (float, float)
        By column: the least and the largest value looked for.
    """
    metadata = file.metadata
    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    columns = {names.index(name): ends for name, ends in wanted.items()}
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if all(_may_have(group.column(i).statistics, *ends) for i, ends in columns.items()):
            yield number


def _may_have(known: Any, low: float, high: float) -> bool:
    return known is None or not known.has_min_max or (known.max >= low and known.min <= high)


def objects(
    path: str,
    columns: Sequence[str],
    stocks: npt.NDArray[np.int64],
    perhaps: Sequence[str] = (),
) -> Iterator[pa.Table]:
    """Yield the rows of some objects, those of a row group at a time.

    Of a row group that has none of them, no column but ``stock`` is read, or nothing.

    Parameters
    ----------
    path : str
        A file with a column ``stock``.
    columns : sequence of str
        The columns to read.
    stocks : ndarray of int64
        The objects, sorted.
    perhaps : sequence of str, optional
        Columns to read as well if the file has them.
    """
    if not len(stocks):
        return
    with parquet.ParquetFile(path) as file:
        names = [*columns, *(n for n in perhaps if n in file.schema_arrow.names)]
        ends = {"stock": (int(stocks[0]), int(stocks[-1]))}
        for group in groups_with(file, ends):
            own = file.read_row_group(group, columns=["stock"])["stock"].to_numpy()
            near = stocks[slice(*np.searchsorted(stocks, [own.min(), own.max() + 1]))]
            if not len(near):
                continue
            place = np.minimum(np.searchsorted(near, own), len(near) - 1)
            mine = near[place] == own
            if mine.any():
                rows = file.read_row_group(group, columns=names)
                yield rows.select(names).filter(pa.array(mine))
