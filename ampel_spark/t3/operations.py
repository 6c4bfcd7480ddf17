"""What an expression can do: each operation for Spark and, as its plain twin, for numpy.

This table is the whole language. What is not in it cannot be written, so no expression reaches
anything but the columns it names.

Values and the unknown
----------------------
A number is a double; NaN counts as null. Null is *unknown* and spreads through arithmetic,
functions and comparisons; ``and`` and ``or`` follow SQL (``unknown or True`` is true, ``unknown and
False`` is false). Unknown also is what has no number for an answer: a division or a remainder by
zero, the square root of a negative number, the logarithm or the magnitude of a number that is not
positive, a power that is no finite number. `isnull`, `notnull` and `ifnull` alone look
at the unknown itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyspark.sql import Column
from pyspark.sql import functions as sf

__all__ = [
    "BOOLEAN",
    "FUNCTIONS",
    "NUMBER",
    "OPERATIONS",
    "OTHER",
    "STRING",
    "Operation",
    "Values",
    "kind_of",
    "literal",
    "read_column",
    "values_of",
]

Array = npt.NDArray[Any]
#: The plain form of a column: values, and which of them are known.
Values = tuple[Array, npt.NDArray[np.bool_]]

NUMBER, STRING, BOOLEAN, OTHER = "number", "string", "boolean", "other"
_FILLER = {
    NUMBER: (0.0, np.float64),
    STRING: ("", object),
    BOOLEAN: (False, np.bool_),
    OTHER: (None, object),
}
_NUMBERS = ("tinyint", "smallint", "int", "bigint", "float", "double")


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes
    ----------
    takes : tuple of str
        Kinds that its arguments may have; all of them must be of one kind.
    gives : str or None
        Kind of its result; None for the kind of its arguments.
    arity : tuple of int and int
        Fewest and most arguments.
    spark : callable of Columns
    plain : callable of Values
    """

    takes: tuple[str, ...]
    gives: str | None
    arity: tuple[int, int]
    spark: Callable[..., Column]
    plain: Callable[..., Values]


def kind_of(spark_type: str) -> str:
    """Return the kind (number, string, boolean, other) of a Spark SQL type name."""
    name = spark_type.lower()
    if name in _NUMBERS or name.startswith("decimal"):
        return NUMBER
    return name if name in (STRING, BOOLEAN) else OTHER


def read_column(column: Column, kind: str) -> Column:
    """Return a table's column as an expression sees it: numbers as doubles, NaN as null."""
    return _not_nan(column.cast("double")) if kind == NUMBER else column


def values_of(array: Any, kind: str) -> Values:
    """Return the plain form of an array, masked array or pandas Series of this `kind`."""
    masked = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else False
    data = np.asarray(array)
    known = np.asarray(~(masked | pd.isna(data)))
    filler, dtype = _FILLER[kind]
    values: Array = np.full(data.shape, filler, dtype=dtype)
    values[known] = data[known]
    return values, known


def literal(value: float | str | bool) -> Values:
    """Return the plain form of a literal."""
    return np.array(value, dtype=object if isinstance(value, str) else None), np.array(True)


def _not_nan(column: Column) -> Column:
    return sf.nanvl(column, sf.lit(None).cast("double"))


def _once(column: Column, function: Callable[[Column], Column]) -> Column:
    """Apply a function that names its argument twice, and evaluate the argument once.

    Written out, nested expressions would double in size with every level.
    """
    return sf.transform(sf.array(column), function)[0]


def _finite(column: Column) -> Column:
    return _once(column, lambda v: sf.when(sf.abs(v) < float("inf"), v))


def _least(*columns: Column) -> Column:
    """Return the smallest; unlike Spark's ``least``, null where any of them is null."""
    rest = sf.array(*columns[1:])
    return sf.aggregate(rest, columns[0], lambda a, v: sf.when(v < a, v).when(v >= a, a))


def _greatest(*columns: Column) -> Column:
    rest = sf.array(*columns[1:])
    return sf.aggregate(rest, columns[0], lambda a, v: sf.when(v > a, v).when(v <= a, a))


def _remainder(a: Column, b: Column) -> Column:
    divisor = _once(sf.abs(b), lambda v: sf.when((v > 0) & (v < float("inf")), v))
    return sf.pmod(a, divisor)


def _plain_remainder(a: Array, b: Array) -> Array:
    divisor = np.where(np.isfinite(b) & (b != 0), np.abs(b), np.nan)
    rest = np.fmod(a, divisor)
    return np.where(rest < 0, np.fmod(rest + divisor, divisor), rest)


def _plain_power(a: Array, b: Array) -> Array:
    power = np.power(a, np.where(np.isfinite(b), b, np.nan))
    return np.where(np.isfinite(power) & np.isfinite(b), power, np.nan)


def _positive(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda a: function(np.where(a > 0, a, np.nan))


def _strict(function: Callable[..., Array]) -> Callable[..., Values]:
    """Make a function of arrays one of `Values`: unknown where an argument or the answer is."""

    def plain(*arguments: Values) -> Values:
        known = reduce(and_, (k for _, k in arguments))
        with np.errstate(all="ignore"):
            values = np.asarray(function(*(v for v, _ in arguments)))
        if values.dtype.kind == "f":
            known = known & ~np.isnan(values)
        return values, known

    return plain


def _plain_and(*arguments: Values) -> Values:
    false = reduce(or_, (k & ~v for v, k in arguments))
    known = reduce(and_, (k for _, k in arguments))
    return known & ~false, known | false


def _plain_or(*arguments: Values) -> Values:
    true = reduce(or_, (k & v for v, k in arguments))
    known = reduce(and_, (k for _, k in arguments))
    return true, known | true


def _plain_ifnull(a: Values, b: Values) -> Values:
    return np.where(a[1], a[0], b[0]), a[1] | b[1]


def _arithmetic(
    spark: Callable[..., Column], plain: Callable[..., Array], arity: int = 2
) -> Operation:
    return Operation(
        (NUMBER,), NUMBER, (arity, arity), lambda *c: _not_nan(spark(*c)), _strict(plain)
    )


def _comparison(takes: tuple[str, ...], function: Callable[..., Any]) -> Operation:
    return Operation(takes, BOOLEAN, (2, 2), function, _strict(function))


_ORDERED = (NUMBER, STRING)
_EQUAL = (NUMBER, STRING, BOOLEAN)
_ANY = (NUMBER, STRING, BOOLEAN, OTHER)


def _one_of(first: Array, *others: Array) -> Array:
    return reduce(or_, (np.equal(first, other) for other in others))


def _plain_isnull(a: Values) -> Values:
    return ~a[1], np.ones_like(a[1])


def _plain_notnull(a: Values) -> Values:
    return a[1], np.ones_like(a[1])


def _many(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda *arguments: reduce(function, arguments)


#: Functions that can be called by name.
FUNCTIONS: dict[str, Operation] = {
    "abs": _arithmetic(sf.abs, np.abs, 1),
    "sqrt": _arithmetic(sf.sqrt, np.sqrt, 1),
    "exp": _arithmetic(sf.exp, np.exp, 1),
    "log": _arithmetic(sf.ln, _positive(np.log), 1),
    "log10": _arithmetic(sf.log10, _positive(np.log10), 1),
    "mag": _arithmetic(lambda c: -2.5 * sf.log10(c), _positive(lambda a: -2.5 * np.log10(a)), 1),
    "min": Operation((NUMBER,), NUMBER, (2, 9), _least, _strict(_many(np.minimum))),
    "max": Operation((NUMBER,), NUMBER, (2, 9), _greatest, _strict(_many(np.maximum))),
    "isnull": Operation(_ANY, BOOLEAN, (1, 1), lambda c: c.isNull(), _plain_isnull),
    "notnull": Operation(_ANY, BOOLEAN, (1, 1), lambda c: c.isNotNull(), _plain_notnull),
    "ifnull": Operation(_EQUAL, None, (2, 2), lambda a, b: sf.coalesce(a, b), _plain_ifnull),
}

#: Functions and operators.
OPERATIONS: dict[str, Operation] = FUNCTIONS | {
    "+": _arithmetic(lambda a, b: a + b, np.add),
    "-": _arithmetic(lambda a, b: a - b, np.subtract),
    "*": _arithmetic(lambda a, b: a * b, np.multiply),
    "/": _arithmetic(sf.try_divide, lambda a, b: np.divide(a, np.where(b == 0, np.nan, b))),
    "%": _arithmetic(_remainder, _plain_remainder),
    "**": _arithmetic(lambda a, b: _finite(sf.pow(a, _finite(b))), _plain_power),
    "negative": _arithmetic(lambda a: -a, np.negative, 1),
    "<": _comparison(_ORDERED, lambda a, b: a < b),
    "<=": _comparison(_ORDERED, lambda a, b: a <= b),
    ">": _comparison(_ORDERED, lambda a, b: a > b),
    ">=": _comparison(_ORDERED, lambda a, b: a >= b),
    "==": _comparison(_EQUAL, lambda a, b: a == b),
    "!=": _comparison(_EQUAL, lambda a, b: a != b),
    "in": Operation(_EQUAL, BOOLEAN, (2, 999), lambda c, *o: c.isin(*o), _strict(_one_of)),
    "not": Operation((BOOLEAN,), BOOLEAN, (1, 1), lambda c: ~c, _strict(np.logical_not)),
    "and": Operation((BOOLEAN,), BOOLEAN, (2, 999), _many(and_), _plain_and),
    "or": Operation((BOOLEAN,), BOOLEAN, (2, 999), _many(or_), _plain_or),
}
