"""Operations on numpy arrays, the plain twins of those of `ampel_spark.expressions.sql`."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import and_, or_
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from ampel_spark.expressions.kinds import BOOLEAN, INTEGER, NUMBER, STRING

__all__ = [
    "Values",
    "all_of",
    "any_of",
    "compare",
    "ifnull",
    "is_one_of",
    "literal",
    "many",
    "number",
    "positive",
    "power",
    "remainder",
    "strict",
    "values_of",
]

Array = npt.NDArray[Any]
#: A column: values, and which of them are known.
Values = tuple[Array, npt.NDArray[np.bool_]]

_EXACT = 2**53
_FILLER: dict[str, tuple[Any, Any]] = {
    INTEGER: (0, np.int64),
    NUMBER: (0.0, np.float64),
    STRING: ("", object),
    BOOLEAN: (False, np.bool_),
}


def values_of(array: Any, kind: str) -> Values:
    """Return an array, masked array, pandas Series or Arrow array of a kind; NaN is unknown."""
    filler, dtype = _FILLER.get(kind, (None, object))
    if isinstance(array, pa.Array | pa.ChunkedArray):
        known = array.is_valid().to_numpy(zero_copy_only=False)
        if kind in (INTEGER, BOOLEAN) and known.any():  # to numpy, nulls would make them floats
            array = array.fill_null(filler)
        data: Array = array.to_numpy(zero_copy_only=False)
    else:
        masked = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else False
        data, known = np.asarray(array), ~np.asarray(masked)
    known = np.asarray(known & ~pd.isna(data))
    values: Array = np.full(data.shape, filler, dtype=dtype)
    values[known] = data[known]
    return values, known


def literal(value: float | str | bool) -> Values:
    """Return a constant."""
    return np.array(value, dtype=object if isinstance(value, str) else None), np.array(True)


def number(values: Values) -> Values:
    """Return numbers as doubles; an integer that no double holds exactly is unknown."""
    array, known = values
    if array.dtype.kind != "i":
        return values
    return array.astype(np.float64), known & (array >= -_EXACT) & (array <= _EXACT)


def strict(function: Callable[..., Array]) -> Callable[..., Values]:
    """Make a function of arrays one of `Values`: unknown where an argument or the answer is."""

    def plain(*arguments: Values) -> Values:
        arguments = tuple(map(number, arguments))
        known = reduce(and_, (k for _, k in arguments))
        with np.errstate(all="ignore"):
            values = np.asarray(function(*(v for v, _ in arguments)))
        if values.dtype.kind == "f":
            known = known & ~np.isnan(values)
        return values, known

    return plain


def compare(function: Callable[[Array, Array], Array]) -> Callable[[Values, Values], Values]:
    """Make a comparison of arrays one of `Values`, exact between integers and real numbers."""

    def plain(a: Values, b: Values) -> Values:
        known, kinds = a[1] & b[1], {a[0].dtype.kind, b[0].dtype.kind}
        if kinds != {"i", "f"}:
            return np.asarray(function(a[0], b[0]), bool), known
        real = a[0] if a[0].dtype.kind == "f" else b[0]
        fits = (real >= -(2.0**63)) & (real < 2.0**63)
        # a large one is a whole number too; what has more than 64 bits is as good as infinite
        exact = (np.where(fits, v, 0).astype(np.int64) for v in (a[0], b[0]))
        scale = np.where(fits, 1.0, 2.0)
        rounded = (v * scale if v is real else v.astype(np.float64) for v in (a[0], b[0]))
        large = fits & (np.abs(real) >= _EXACT)
        with np.errstate(over="ignore"):
            return np.where(large, function(*exact), function(*rounded)), known

    return plain


def is_one_of(first: Values, *others: Values) -> Values:
    """Return whether a value is one of a list."""
    return any_of(*(compare(np.equal)(first, other) for other in others))


def all_of(*conditions: Values) -> Values:
    """Return whether all conditions are true: false where one is, whatever is unknown."""
    false = reduce(or_, (k & ~v for v, k in conditions))
    known = reduce(and_, (k for _, k in conditions))
    return known & ~false, known | false


def any_of(*conditions: Values) -> Values:
    """Return whether a condition is true: true where one is, whatever is unknown."""
    true = reduce(or_, (k & v for v, k in conditions))
    known = reduce(and_, (k for _, k in conditions))
    return true, known | true


def ifnull(a: Values, b: Values) -> Values:
    """Return the second value where the first is null."""
    null = ~a[1]
    if a[0].dtype.kind != b[0].dtype.kind:
        a, b = number(a), number(b)
    return np.where(null, b[0], a[0]), np.where(null, b[1], a[1])


def many(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    """Make a function of two arrays one of several."""
    return lambda *arrays: reduce(function, arrays)


def positive(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return a function that is NaN where its argument is not positive."""
    return lambda a: function(np.where(a > 0, a, np.nan))


def remainder(a: Array, b: Array) -> Array:
    """Return the remainder, from 0 to the divisor's size."""
    divisor = np.where(np.isfinite(b) & (b != 0), np.abs(b), np.nan)
    rest = np.fmod(a, divisor)
    return np.where(rest < 0, np.fmod(rest + divisor, divisor), rest)


def power(a: Array, b: Array) -> Array:
    """Return a power that is finite."""
    raised = np.power(a, np.where(np.isfinite(b), b, np.nan))
    return np.where(np.isfinite(raised) & np.isfinite(b), raised, np.nan)
