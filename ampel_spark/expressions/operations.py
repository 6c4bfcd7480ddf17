"""The table of the language: every operation, with its form for Spark and for numpy.

This table is the whole language. What is not in it cannot be written, so no expression reaches
anything but the columns that it names.

Values and the unknown
----------------------
A real number is a double; NaN counts as null. An integer keeps all its digits where it is compared,
and is a double in arithmetic and functions; there an integer of more than 53 bits is unknown. Null
is *unknown* and spreads through arithmetic, functions and comparisons; ``and`` and ``or`` follow
SQL (``unknown or True`` is true, ``unknown and False`` is false). An operation that has no number
as its answer gives unknown too: a division or a remainder by zero, the square root of a negative
number, the logarithm or the magnitude of a number that is not positive, a power that is no finite
number. `isnull`, `notnull`, `ifnull` and ``or missing`` alone look at the unknown itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ampel_spark.expressions import sql, values
from ampel_spark.expressions.kinds import BOOLEAN, NUMBER, OTHER, STRING

__all__ = ["COMPARISONS", "FUNCTIONS", "OPERATIONS", "Operation"]


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes
    ----------
    takes : tuple of str
        Kinds that its arguments may have; all of them must be of one kind.
    gives : str or None
        Kind of its result; None: the kind of its arguments.
    arity : tuple of int and int
        Fewest and most arguments.
    spark : callable
        Takes and returns an `ampel_spark.expressions.sql.Term`.
    plain : callable
        Takes and returns `ampel_spark.expressions.values.Values`.
    meaning : str
        For the documents.
    """

    takes: tuple[str, ...]
    gives: str | None
    arity: tuple[int, int]
    spark: Callable[..., sql.Term]
    plain: Callable[..., values.Values]
    meaning: str = ""


_ORDERED = (NUMBER, STRING)
_EQUAL = (NUMBER, STRING, BOOLEAN)
_ANY = (NUMBER, STRING, BOOLEAN, OTHER)


def _number(
    template: str,
    plain: Callable[..., values.Array],
    meaning: str = "",
    arity: int = 1,
    *,
    nan: bool = True,
) -> Operation:
    spark = sql.arithmetic(template, nan=nan)
    return Operation((NUMBER,), NUMBER, (arity, arity), spark, values.strict(plain), meaning)


def _comparison(
    takes: tuple[str, ...], operator: str, plain: Callable[..., values.Array]
) -> Operation:
    return Operation(takes, BOOLEAN, (2, 2), sql.comparison(operator), values.compare(plain))


def _truth(template: str) -> Callable[[sql.Term], sql.Term]:
    return lambda term: sql.Term(template.format(term.sql), BOOLEAN)


def _isnull(a: values.Values) -> values.Values:
    return ~a[1], np.ones_like(a[1])


def _notnull(a: values.Values) -> values.Values:
    return a[1], np.ones_like(a[1])


_ABOVE_0 = "unknown at 0 and below"

#: Functions that can be called by name.
FUNCTIONS: dict[str, Operation] = {
    "abs": _number("abs({})", np.abs, "its size without sign", nan=False),
    "sqrt": _number("sqrt({})", np.sqrt, "the square root; unknown below 0"),
    "exp": _number("exp({})", np.exp, "e to this power", nan=False),
    "log": _number(
        "ln({})", values.positive(np.log), f"the natural logarithm; {_ABOVE_0}", nan=False
    ),
    "log10": _number(
        "log10({})", values.positive(np.log10), f"the decimal logarithm; {_ABOVE_0}", nan=False
    ),
    "mag": _number(
        "(-2.5D * log10({}))", values.positive(lambda a: -2.5 * np.log10(a)),
        f"the magnitude of a flux, -2.5 log10; {_ABOVE_0}", nan=False,
    ),
    "min": Operation(
        (NUMBER,), NUMBER, (2, 9), sql.smallest, values.strict(values.many(np.minimum)),
        "the smallest of 2 to 9 numbers; unknown where one of them is",
    ),
    "max": Operation(
        (NUMBER,), NUMBER, (2, 9), sql.largest, values.strict(values.many(np.maximum)),
        "the largest of 2 to 9 numbers; unknown where one of them is",
    ),
    "isnull": Operation(
        _ANY, BOOLEAN, (1, 1), _truth("({} IS NULL)"), _isnull, "whether it is unknown"
    ),
    "notnull": Operation(
        _ANY, BOOLEAN, (1, 1), _truth("({} IS NOT NULL)"), _notnull, "whether it is known"
    ),
    "ifnull": Operation(
        _EQUAL, None, (2, 2), sql.ifnull, values.ifnull,
        "the first value, and the second where the first is unknown",
    ),
}  # fmt: skip

#: Comparisons of two values.
COMPARISONS: dict[str, Operation] = {
    "<": _comparison(_ORDERED, "<", np.less),
    "<=": _comparison(_ORDERED, "<=", np.less_equal),
    ">": _comparison(_ORDERED, ">", np.greater),
    ">=": _comparison(_ORDERED, ">=", np.greater_equal),
    "==": _comparison(_EQUAL, "=", np.equal),
    "!=": _comparison(_EQUAL, "!=", np.not_equal),
}

_OR = Operation((BOOLEAN,), BOOLEAN, (2, 999), sql.joined("OR"), values.any_of)

#: Functions and operators.
OPERATIONS: dict[str, Operation] = {
    **FUNCTIONS,
    "+": _number("({} + {})", np.add, arity=2),
    "-": _number("({} - {})", np.subtract, arity=2),
    "*": _number("({} * {})", np.multiply, arity=2),
    "/": _number(
        "try_divide({}, {})", lambda a, b: np.divide(a, np.where(b == 0, np.nan, b)), arity=2
    ),
    "%": Operation((NUMBER,), NUMBER, (2, 2), sql.remainder, values.strict(values.remainder)),
    "**": Operation((NUMBER,), NUMBER, (2, 2), sql.power, values.strict(values.power)),
    "negative": _number("(- {})", np.negative, nan=False),
    **COMPARISONS,
    "in": Operation(_EQUAL, BOOLEAN, (2, 999), sql.is_one_of, values.is_one_of),
    "not": Operation(
        (BOOLEAN,), BOOLEAN, (1, 1), _truth("(NOT {})"), values.strict(np.logical_not)
    ),
    "and": Operation((BOOLEAN,), BOOLEAN, (2, 999), sql.joined("AND"), values.all_of),
    "or": _OR,
    "or missing": _OR,
}
