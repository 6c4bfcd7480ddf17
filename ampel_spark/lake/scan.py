"""Rows of Parquet files, without Spark: only the row groups that may have what is looked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet

__all__ = ["may_have", "scan"]


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
    with parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            if not may_have(file.metadata.row_group(group), wanted):
                continue
            where = file.read_row_group(group, columns=list(wanted))
            mine = pc.is_in(where[name], value_set=values)
            if between is not None:
                by, low, high = between
                within = pc.and_(pc.greater_equal(where[by], low), pc.less_equal(where[by], high))
                mine = pc.and_(mine, within)
            if pc.any(mine).as_py():
                rows = file.read_row_group(group, columns=list(columns))
                yield rows.filter(mine).select(list(columns))


def may_have(group: Any, wanted: Mapping[str, tuple[float, float]]) -> bool:
    """Say whether a row group may have rows within some ranges, by what its file notes of it.

    Parameters
    ----------
    group : RowGroupMetaData
    wanted : mapping of str to (float, float)
        By column: the least and the largest value looked for.
    """
    for i in range(group.num_columns):
        column = group.column(i)
        known = column.statistics
        if column.path_in_schema in wanted and known is not None and known.has_min_max:
            low, high = wanted[column.path_in_schema]
            if known.max < low or known.min > high:
                return False
    return True
