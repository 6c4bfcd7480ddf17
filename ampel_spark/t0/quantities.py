"""Spark SQL text for the quantities that cuts compare, and for the comparisons.

Text, because a filter has hundreds of operations: Spark parses them at once, while each operation
on a Column is several calls to the JVM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from pyspark.sql.types import DoubleType, FloatType, StringType, StructType

from ampel_spark.t0.cuts import Comparison, Operand, inner_column
from ampel_spark.t0.galactic import galactic_latitude_sql

__all__ = ["Quantities", "holds", "literal"]

_NONE = "CAST(NULL AS DOUBLE)"


class Quantities:
    """SQL expressions for quantities, by name; null where the quantity is missing.

    Parameters
    ----------
    schema : StructType
        Of the alerts; says which columns can be NaN.
    made : mapping of str to str
        Expressions of quantities that the caller has made itself: the history, the Gaia stars.
    """

    def __init__(self, schema: StructType, made: Mapping[str, str]) -> None:
        self._types = {field.name: field.dataType for field in schema.fields}
        self._made = made

    def __getitem__(self, quantity: str) -> str:
        """Return the expression of a quantity."""
        if quantity in self._made:
            return self._made[quantity]
        if quantity in _DERIVED:
            return _DERIVED[quantity](self)
        inner = inner_column(quantity)
        if inner is not None:
            return f"abs({self[inner]})"
        name = f"`{quantity}`"
        if isinstance(self._types[quantity], FloatType | DoubleType):
            return f"nanvl(CAST({name} AS DOUBLE), {_NONE})"
        return name

    def number(self, quantity: str | float | None) -> str:
        """Return a quantity or a constant as double, null for None and for strings."""
        if isinstance(quantity, str) and not isinstance(self._types.get(quantity), StringType):
            return f"CAST({self[quantity]} AS DOUBLE)"
        return literal(float(quantity)) if isinstance(quantity, float | int) else _NONE


def holds(comparison: Comparison, quantities: Quantities) -> str:
    """Return whether a comparison holds: never null, false where the quantity is missing."""
    left, op, right = quantities[comparison.quantity], comparison.op, comparison.operand
    if op == "is missing":
        return f"({left} IS NULL)"
    if op == "is present":
        return f"({left} IS NOT NULL)"
    if isinstance(right, tuple):
        return f"coalesce({left} {op.upper()} ({', '.join(map(literal, right))}), false)"
    return f"coalesce({left} {op} {literal(right)}, false)"


def literal(value: Operand) -> str:
    """Return a number or a string as Spark SQL writes it."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    if isinstance(value, int):
        return f"({value}L)"
    if isinstance(value, float):
        # Spark reads a bare 0.3 as a decimal
        return f"({value!r}D)" if math.isfinite(value) else f"CAST('{value}' AS DOUBLE)"
    raise TypeError(f"no literal for {value!r}")


def _sign(q: Quantities) -> str:
    flag = q["isdiffpos"]
    return f"CASE WHEN {flag} IN ('f', '0') THEN -1.0D WHEN {flag} IS NOT NULL THEN 1.0D END"


def _latitude(q: Quantities) -> str:
    # NaN is asked for once, not in each of the sines.
    there = f"{q['ra']} IS NOT NULL AND {q['dec']} IS NOT NULL"
    return f"CASE WHEN {there} THEN {galactic_latitude_sql('`ra`', '`dec`')} END"


def _largest(*values: str) -> str:
    # `greatest` skips nulls; here one missing number makes the whole missing.
    there = " AND ".join(f"{v} IS NOT NULL" for v in values)
    return f"CASE WHEN {there} THEN greatest({', '.join(values)}) END"


_DERIVED: dict[str, Callable[[Quantities], str]] = {
    "tspan": lambda q: f"({q['jd_last']} - {q['jd_first']})",
    "archive_tspan": lambda q: f"({q['jdendhist']} - {q['jdstarthist']})",
    "gal_lat": _latitude,
    "sign": _sign,
    "ps1_distance_max": lambda q: _largest(*(q[f"distpsnr{i}"] for i in (1, 2, 3))),
    "ps1_sg_offset_max": lambda q: _largest(
        *(f"abs({q[f'sgscore{i}']} - 0.5D)" for i in (1, 2, 3))
    ),
}
