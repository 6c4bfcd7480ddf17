"""Numbers as text for people: sensible digits, a value with its error, a true minus sign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

__all__ = [
    "ABSENT",
    "aligned",
    "count",
    "date_of",
    "degrees",
    "number",
    "percent",
    "sexagesimal",
    "with_error",
]

#: The text for no value.
ABSENT = "–"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: Any, digits: int = 4) -> str:
    """Return a value as text: integers as they are, real numbers with `digits` significant digits.

    Real numbers from 1000 have two decimals, so that dates in JD stay readable. Numbers below 1e-3
    or from 1e8 have a power of ten. None and NaN are a dash; lists are joined.

    Examples
    --------
    >>> [number(value) for value in (3, -0.123456, 2460000.5, None, True, [1, 2])]
    ['3', '−0.1235', '2460000.50', '–', 'yes', '1, 2']
    """
    if value is None or value is pd.NA:
        return ABSENT
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value)}".replace("-", "−")
    if isinstance(value, Real):
        return _real(float(value), digits)
    if isinstance(value, str):
        return value or ABSENT
    if hasattr(value, "__len__"):
        return _list(list(value), digits)
    return str(value)


def aligned(values: Sequence[Any], digits: int = 4) -> list[str]:
    """Return the numbers of a column with the same number of decimals, so that points align.

    Whole numbers have no decimals. If numbers span more than six decades, or one would become zero,
    each is written as `number` does.

    Examples
    --------
    >>> aligned([17.5, 0.25, None])
    ['17.50', '0.25', '–']
    """
    known = np.array([float(value) for value in values if _finite(value)])
    if not len(known) or (np.all(known == np.round(known)) and np.abs(known).max() < 1e15):
        return [number(int(value) if _finite(value) else value) for value in values]
    sizes = np.abs(known[known != 0])
    largest = math.floor(math.log10(sizes.max()))
    places = 2 if largest >= 3 else digits - 1 - largest
    wide = largest - math.log10(sizes.min()) > 6 or sizes.min() < 0.5 * 10.0**-places
    if wide or largest < -3 or largest > 7:
        return [number(value, digits) for value in values]
    return [
        f"{value:.{places}f}".replace("-", "−") if _finite(value) else number(value)
        for value in values
    ]


def count(n: int) -> str:
    """Return a count with separated thousands, as 12,345."""
    return f"{n:,}"


def percent(part: int, whole: int) -> str:
    """Return a share as text, never rounded to 0 or 100 %.

    Examples
    --------
    >>> percent(43, 100), percent(1, 1_000_000), percent(999_999, 1_000_000)
    ('43 %', '0.1 %', '99.9 %')
    """
    if not whole:
        return ABSENT
    share = 100 * part / whole
    if share in (0, 100):
        return f"{share:.0f} %"
    return f"{min(max(share, 0.1), 99.9):.1f} %" if share < 1 or share > 99 else f"{share:.0f} %"


def with_error(value: Any, error: Any) -> str:
    """Return ``value ± error`` with two digits of the error, and the value to the same place.

    Examples
    --------
    >>> with_error(0.0312345, 0.00123), with_error(12.5, None)
    ('0.0312 ± 0.0012', '12.50')
    """
    if not (_finite(value) and _finite(error) and error > 0):
        return number(value)
    value, error = float(value), float(error)
    exponent = math.floor(math.log10(max(abs(value), error)))
    # a date of 2 458 000 ± 0.1 needs no power of ten, but a flux of 3e7 ± 1e6 does
    power = exponent if exponent < -3 or (exponent >= 6 and error >= 1000) else 0
    scale = 10.0**-power
    places = max(0, 1 - math.floor(math.log10(error * scale)))
    text = f"{value * scale:.{places}f} ± {error * scale:.{places}f}".replace("-", "−")
    return f"({text})\u00a0×\u00a010{str(power).translate(_SUPERSCRIPTS)}" if power else text


def degrees(value: float, places: int = 5) -> str:
    """Return an angle (degrees) with a fixed number of decimals."""
    return f"{value:.{places}f}".replace("-", "−") if _finite(value) else ABSENT


def sexagesimal(ra: float, dec: float) -> str:
    """Return a position (degrees) as hours and degrees.

    Examples
    --------
    >>> sexagesimal(162.8185, 22.47761)
    '10:51:16.44 +22:28:39.4'
    """
    if not (_finite(ra) and _finite(dec)):
        return ABSENT
    hundredths = round(ra % 360 / 15 * 360000) % 8640000
    tenths = round(abs(dec) * 36000)
    hours = (
        f"{hundredths // 360000:02}:{hundredths // 6000 % 60:02}:{hundredths % 6000 / 100:05.2f}"
    )
    sign = "−" if dec < 0 else "+"
    return f"{hours} {sign}{tenths // 36000:02}:{tenths // 600 % 60:02}:{tenths % 600 / 10:04.1f}"


def date_of(jd: float) -> str:
    """Return the UTC date of a Julian date, as 2018-06-01."""
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=jd - 2440587.5):%Y-%m-%d}"


def _finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _real(value: float, digits: int) -> str:
    size = abs(value)
    if math.isnan(value):
        return ABSENT
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if size < 1e-3 or size >= 1e8:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa}\u00a0×\u00a010{str(int(power)).translate(_SUPERSCRIPTS)}"
    elif size >= 1000:
        text = f"{value:.2f}"
    else:
        text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"
    return text.replace("-", "−")


def _list(values: list[Any], digits: int) -> str:
    if not values:
        return ABSENT
    if len(values) > 6:
        return f"{len(values)} values"
    return ", ".join(number(value, digits) for value in values)
