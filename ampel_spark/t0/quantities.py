"""Spark columns for the quantities that cuts compare."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as f
from pyspark.sql.types import DoubleType, FloatType, StringType, StructType

from ampel_spark.t0.cuts import DERIVED, Comparison, inner_column
from ampel_spark.t0.galactic import galactic_latitude_column

__all__ = ["Quantities", "holds"]


class Quantities:
    """Columns for quantities, by name.

    Parameters
    ----------
    schema : StructType
        Of the alerts; says which columns can be NaN.
    columns : mapping of str to Column
        Quantities that the caller has made itself: the history, the Gaia stars.
    """

    def __init__(self, schema: StructType, columns: Mapping[str, Column]) -> None:
        self._types = {field.name: field.dataType for field in schema.fields}
        self._columns = columns

    def __getitem__(self, quantity: str) -> Column:
        """Return the column of a quantity, null where it is missing."""
        if quantity in self._columns:
            return self._columns[quantity]
        if quantity in DERIVED:
            return _DERIVED[quantity](self)
        inner = inner_column(quantity)
        if inner is not None:
            return f.abs(self[inner].cast("double"))
        kind = self._types[quantity]
        column = f.col(quantity)
        if isinstance(kind, FloatType | DoubleType):
            return f.nanvl(column.cast("double"), f.lit(None).cast("double"))
        return column

    def having(self, columns: Mapping[str, Column]) -> Quantities:
        """Return these quantities and more."""
        more = copy.copy(self)
        more._columns = {**self._columns, **columns}
        return more

    def number(self, quantity: str | float | None) -> Column:
        """Return a quantity or a constant as double, null for None and for strings."""
        if quantity is None or isinstance(quantity, float):
            return f.lit(quantity).cast("double")
        if isinstance(self._types.get(quantity), StringType):
            return f.lit(None).cast("double")
        return self[quantity].cast("double")


def holds(comparison: Comparison, quantities: Quantities) -> Column:
    """Return whether a comparison holds; null where the quantity is missing."""
    left: Column = quantities[comparison.quantity]
    right: Any = comparison.operand
    if comparison.op not in _OPERATORS:
        raise ValueError(f"no operator {comparison.op!r}")
    return _OPERATORS[comparison.op](left, right)


_OPERATORS: dict[str, Callable[[Column, Any], Column]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "in": lambda left, right: left.isin(*right),
    "not in": lambda left, right: ~left.isin(*right),
    "is missing": lambda left, _: left.isNull(),
    "is present": lambda left, _: left.isNotNull(),
}


def _sign(q: Quantities) -> Column:
    flag = q["isdiffpos"]
    return f.when(flag.isin("f", "0"), f.lit(-1.0)).when(flag.isNotNull(), f.lit(1.0))


def _latitude(q: Quantities) -> Column:
    # NaN is asked for once, not in each of the sines.
    both = q["ra"].isNotNull() & q["dec"].isNotNull()
    return f.when(both, galactic_latitude_column(f.col("ra"), f.col("dec")))


def _largest(*columns: Column) -> Column:
    # `greatest` skips nulls; here one missing number makes the whole missing.
    every = reduce(lambda a, b: a & b, (c.isNotNull() for c in columns))
    return f.when(every, f.greatest(*columns))


_DERIVED: dict[str, Callable[[Quantities], Column]] = {
    "tspan": lambda q: q["jd_last"] - q["jd_first"],
    "archive_tspan": lambda q: q["jdendhist"] - q["jdstarthist"],
    "gal_lat": _latitude,
    "sign": _sign,
    "ps1_distance_max": lambda q: _largest(*(q[f"distpsnr{i}"] for i in (1, 2, 3))),
    "ps1_sg_offset_max": lambda q: _largest(*(f.abs(q[f"sgscore{i}"] - 0.5) for i in (1, 2, 3))),
}
