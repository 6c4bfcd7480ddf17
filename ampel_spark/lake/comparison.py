"""Tables compared bit for bit, in the columns that can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.lake.tables import INCOMPARABLE

__all__ = ["RowDifference", "first_difference"]


@dataclass(frozen=True)
class RowDifference:
    """The first place where two tables differ.

    Attributes
    ----------
    table : str
    rows : tuple of int
        How many rows the two have.
    key : dict
        Of the row.
    column : str
        Column that differs; empty where only one of the two has the row.
    values : tuple
        What the two have there.
    """

    table: str
    rows: tuple[int, int]
    key: Mapping[str, Any]
    column: str = ""
    values: tuple[Any, Any] = (None, None)

    def __str__(self) -> str:
        place = ", ".join(f"{name} {value}" for name, value in self.key.items())
        if not self.column:
            return f"{self.table}: {self.rows[0]} rows against {self.rows[1]}; only one has {place}"
        a, b = self.values
        return f"{self.table}: {place}: {self.column} is {a!r} against {b!r}"


def first_difference(
    name: str, a: pa.Table, b: pa.Table, key: Sequence[str], skip: Sequence[str] = ()
) -> RowDifference | None:
    """Compare two tables whatever the order of their rows; None where they are equal.

    Numbers are compared by their bits: a null is not NaN, and 0.0 is not -0.0.

    Parameters
    ----------
    name : str
        What the difference calls the table.
    a, b : Table
        With the same columns.
    key : sequence of str
        Columns under which a row stands once, in both.
    skip : sequence of str, optional
        Columns that may differ, beside `INCOMPARABLE`.
    """
    order = [(column, "ascending") for column in key]
    a, b = a.sort_by(order).combine_chunks(), b.sort_by(order).combine_chunks()
    keys_a, keys_b = a.select(key).to_pylist(), b.select(key).to_pylist()
    if keys_a != keys_b:
        texts_a = {repr(row): row for row in keys_a}
        texts_b = {repr(row): row for row in keys_b}
        alone = sorted(texts_a.keys() ^ texts_b.keys())
        row = (texts_a | texts_b)[alone[0]] if alone else next(
            x for x, y in zip(keys_a, keys_b, strict=False) if x != y
        )  # fmt: skip
        return RowDifference(name, (len(a), len(b)), row)
    for column in a.column_names:
        if column in INCOMPARABLE or column in skip:
            continue
        left, right = _array(a.column(column)), _array(b.column(column))
        different = _different(left, right)
        if different.any():
            i = int(np.argmax(different))
            values = (left[i].as_py(), right[i].as_py())
            return RowDifference(name, (len(a), len(b)), keys_a[i], column, values)
    return None


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _different(a: pa.Array, b: pa.Array) -> npt.NDArray[np.bool_]:
    """Say for each row whether it differs."""
    if a.type != b.type:
        return np.ones(len(a), bool)
    null_a, null_b = (np.asarray(pc.is_null(x)) for x in (a, b))
    different: npt.NDArray[np.bool_] = null_a != null_b
    both = ~null_a & ~null_b
    if pa.types.is_list(a.type) or pa.types.is_large_list(a.type):
        lengths = [np.asarray(pc.fill_null(pc.list_value_length(x), 0)) for x in (a, b)]
        different |= both & (lengths[0] != lengths[1])
        if different.any():
            return different
        inside = _different(a.flatten(), b.flatten())
        rows = np.repeat(np.arange(len(a)), lengths[0])
        different[rows[inside]] = True
        return different
    if pa.types.is_struct(a.type):
        for i in range(a.type.num_fields):
            different |= both & _different(a.field(i), b.field(i))
        return different
    if pa.types.is_floating(a.type):
        whole = np.int64 if a.type.bit_width == 64 else np.int32
        bits = [np.asarray(pc.fill_null(x, 0.0)).view(whole) for x in (a, b)]
        return different | (both & (bits[0] != bits[1]))
    equal = np.asarray(pc.fill_null(pc.equal(a, b), True))
    return different | (both & ~equal)
