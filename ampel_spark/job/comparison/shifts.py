"""Shifts of a number from one analysis to another: arrays in, a summary out.

Means are not given: a few fits that hop to another minimum spoil every one of them. Median and
robust width stand instead, and `changed_minimum` says which objects hopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["HOP", "Shift", "changed_minimum", "robust", "shift_of"]

Array = npt.NDArray[Any]

#: Shifts farther than this many robust widths from the median are another minimum.
HOP = 5.0


@dataclass(frozen=True)
class Shift:
    """What became of one number, over all objects that have it both times.

    Attributes
    ----------
    n : int
        Objects with a finite number before and after.
    changed : int
        Those whose number is not equal, bit for bit.
    median, robust_sd : float
        Of after − before; the width is 1.4826 times the median absolute deviation. NaN for none.
    largest : float
        The shift that is largest by its size, with its sign.
    at : int or None
        Where it is in the arrays.
    beyond : int or None
        Shifts beyond one error; None without errors.
    """

    n: int
    changed: int
    median: float
    robust_sd: float
    largest: float
    at: int | None
    beyond: int | None


def robust(values: npt.ArrayLike) -> tuple[float, float]:
    """Return median and robust standard deviation (1.4826 MAD) of what is finite, else NaN."""
    array = np.asarray(values, float)
    array = array[np.isfinite(array)]
    if not len(array):
        return np.nan, np.nan
    middle = float(np.median(array))
    return middle, 1.4826 * float(np.median(np.abs(array - middle)))


def shift_of(
    before: npt.ArrayLike, after: npt.ArrayLike, error: npt.ArrayLike | None = None
) -> Shift:
    """Summarise the shifts of one number.

    Parameters
    ----------
    before, after : array-like with shape (N,)
        One element an object; NaN where it has none.
    error : array-like with shape (N,), optional
        1-sigma error of `before`.
    """
    delta = np.asarray(after, float) - np.asarray(before, float)
    known = np.isfinite(delta)
    middle, width = robust(delta)
    at = int(np.argmax(np.where(known, np.abs(delta), -1.0))) if known.any() else None
    beyond = None
    if error is not None:
        with np.errstate(invalid="ignore"):
            beyond = int(np.sum(known & (np.abs(delta) > np.asarray(error, float))))
    return Shift(
        n=int(known.sum()),
        changed=int(np.sum(known & (delta != 0))),
        median=middle,
        robust_sd=width,
        largest=np.nan if at is None else float(delta[at]),
        at=at,
        beyond=beyond,
    )


def changed_minimum(
    deltas: Mapping[str, npt.ArrayLike], errors: Mapping[str, npt.ArrayLike]
) -> npt.NDArray[np.bool_]:
    """Return which objects were fitted into another minimum.

    One is where a fitted parameter moved, relative to the median shift of all objects, by more than
    its own error and by more than `HOP` robust widths. Numbers without an error say nothing here.

    Parameters
    ----------
    deltas : mapping of str to array-like with shape (N,)
        Shifts, after − before, by parameter.
    errors : mapping of str to array-like with shape (N,)
        1-sigma errors before, by parameter.

    Returns
    -------
    ndarray of bool with shape (N,)
    """
    length = len(np.asarray(next(iter(deltas.values()), ())))
    hopped = np.zeros(length, bool)
    for name, given in deltas.items():
        if name not in errors:
            continue
        delta = np.asarray(given, float)
        middle, width = robust(delta)
        away = np.abs(delta - middle)
        with np.errstate(invalid="ignore"):
            hopped |= (away > np.asarray(errors[name], float)) & (away > HOP * width)
    return hopped
