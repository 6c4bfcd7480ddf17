"""Cells of points: the same rules select all points of a cell.

The conditions of all rules divide survey, band, field, readout channel, kind, time, magnitude and
objects into a few classes each. A point's cell is its combination of classes. Each rule is then
compared with some hundred cells instead of millions of points.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.calibration.release import Release, Rule, RuleTable
from ampel_spark.lightcurve import DETECTION, FORCED, UPPER_LIMIT

__all__ = ["KINDS", "Cells", "issued_mag", "sort_into_cells", "values_in"]

Array = npt.NDArray[Any]

#: Codes of kinds, by name.
KINDS = {"detection": DETECTION, "upper_limit": UPPER_LIMIT, "forced": FORCED}

# Up to this number of classes a table has an entry for each; above, only for those that occur.
_DENSE = 1 << 20


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of some points.

    Attributes
    ----------
    of : ndarray of int64 with shape (N,)
        The cell of each point.
    first : ndarray of int64 with shape (U,)
        The index of one point of each cell.
    matches : ndarray of bool with shape (R, U)
        True where the conditions of a rule select a cell; the rows of its table are not considered.
    """

    of: Array
    first: Array
    matches: Array


@dataclass(frozen=True, eq=False)
class _Axis:
    """The classes of one quantity.

    Attributes
    ----------
    classes : int
        The number of classes.
    code : callable
        Takes points, group, surveys and stocks; returns the class of each point.
    meets : ndarray of bool with shape (R, classes)
        True where a class meets a rule's condition.
    """

    classes: int
    code: Callable[[Mapping[str, Array], Array, Array, Array], Array]
    meets: Array


def sort_into_cells(
    release: Release, points: Mapping[str, Array], group: Array, survey: Array, stock: Array
) -> Cells:
    """Sort points into the cells of a release.

    Parameters
    ----------
    release : Release
        The release whose conditions make the cells.
    points : mapping of arrays with shape (N,)
        The points as issued.
    group : ndarray of int64 with shape (N,)
        The number of each point's light curve.
    survey, stock : ndarray of str and int64 with shape (M,)
        The survey and object of each light curve.
    """
    n = len(group)
    code, size = np.zeros(n, np.int64), 1
    kept: list[tuple[_Axis, Array]] = []
    for axis in _axes(release):
        mine = axis.code(points, group, survey, stock)
        kept.append((axis, mine))
        if size * axis.classes > _DENSE:
            code, size = _compact(code, size)
        code, size = code * axis.classes + mine, size * axis.classes
    code, size = _compact(code, size)
    first = np.zeros(size, np.int64)
    first[code] = np.arange(n)
    matches = np.ones((len(release.rules), size), bool)
    for axis, mine in kept:
        matches &= axis.meets[:, mine[first]]
    return Cells(code, first, matches)


def values_in(table: RuleTable, points: Mapping[str, Array], first: Array) -> Array:
    """Return the row of a rule's table for each cell, or -1 for no row.

    Parameters
    ----------
    table : RuleTable
        The table, with its rows in order of its keys.
    points : mapping of arrays with shape (N,)
        The points as issued.
    first : ndarray of int64 with shape (U,)
        The index of one point of each cell, as in `Cells`.
    """
    rows = np.zeros(len(first), np.int64)
    keys = np.zeros(len(next(iter(table.keys.values()))), np.int64)
    found = np.ones(len(first), bool)
    for name, column in table.keys.items():
        named, mine = np.unique(column, return_inverse=True)
        code = _classes(points[name][first], named)
        found &= code < len(named)
        rows = rows * (len(named) + 1) + code
        keys = keys * (len(named) + 1) + mine
    place = np.searchsorted(keys, rows)  # rows of a table are in order of its keys
    place[place == len(keys)] = 0
    return np.where(found & (keys[place] == rows), place, -1)


def issued_mag(points: Mapping[str, Array]) -> Array:
    """Return the magnitude of each point: a limit's own, and that of abs(flux) if forced."""
    kind = points["kind"]
    mag = np.where(kind == UPPER_LIMIT, points["limit_mag"], points["mag"])
    forced = kind == FORCED
    if forced.any():
        with np.errstate(divide="ignore", invalid="ignore"):
            flux = points["zp"][forced] - 2.5 * np.log10(np.abs(points["flux"][forced]))
        mag[forced] = flux
    return mag


@functools.lru_cache(maxsize=8)
def _axes(release: Release) -> tuple[_Axis, ...]:
    """Return the axes of all quantities on which a rule has a condition, and of the kind."""
    rules = release.rules
    kinds = np.array([[r.select.kind is None or k in r.select.kind for k in KINDS] for r in rules])
    axes = (
        _Axis(len(KINDS), lambda p, g, s, o: p["kind"].astype(np.int64), kinds),
        *(_names(rules, name) for name in ("survey", "band", "field", "rcid")),
        *(_ranges(rules, name) for name in ("jd", "mag")),
        _objects(rules),
    )
    return tuple(axis for axis in axes if axis is not None)


def _names(rules: Sequence[Rule], name: str) -> _Axis | None:
    """Return the axis whose classes are the values that rules name, and one for all others."""
    conditions = [getattr(r.select, name) for r in rules]
    keys = [r.table.keys[name] for r in rules if r.table is not None and name in r.table.keys]
    slopes = [tuple(r.slope) for r in rules if r.slope and name == "band"]
    given = [c for c in (*conditions, *keys, *slopes) if c is not None]
    if not given:
        return None
    every = sorted({value for values in given for value in values})
    named = np.array(every, object if every and isinstance(every[0], str) else np.int64)
    meets = _meets(conditions, every)
    if name == "survey":
        return _Axis(len(named) + 1, lambda p, g, s, o: _classes(s, named)[g], meets)
    return _Axis(len(named) + 1, lambda p, g, s, o: _classes(p[name], named), meets)


def _meets(conditions: Sequence[tuple[Any, ...] | None], every: Sequence[Any]) -> Array:
    """Return which values, and which others, meet each condition, shape (R, len(every) + 1)."""
    meets = np.ones((len(conditions), len(every) + 1), bool)
    for row, condition in zip(meets, conditions, strict=True):
        if condition is not None:
            mine = frozenset(condition)
            row[:] = [*(value in mine for value in every), False]
    return meets


def _classes(values: Array, named: Array) -> Array:
    """Return the place of each value in `named`, or the place after the last for no place."""
    if values.dtype.kind not in "iuf":
        code = np.full(len(values), len(named), np.int64)
        for k, word in enumerate(named.tolist()):
            code[values == word] = k
        return code
    place = np.searchsorted(named, values)
    inside = np.minimum(place, len(named) - 1)
    return np.where(named[inside] == values, inside, len(named))


def _ranges(rules: Sequence[Rule], name: str) -> _Axis | None:
    """Return the axis whose classes lie between the bounds of rules, and one for missing values."""
    ranges = [getattr(r.select, name) for r in rules]
    edges = np.unique([x for pair in ranges for x in pair if np.isfinite(x)])
    if not len(edges):
        return None
    n = len(edges) + 1  # the class of missing values

    def code(p: Mapping[str, Array], g: Array, s: Array, o: Array) -> Array:
        values = p["jd"] if name == "jd" else issued_mag(p)
        return np.where(np.isnan(values), n, np.searchsorted(edges, values, side="right"))

    meets = np.ones((len(ranges), n + 1), bool)
    for row, (low, high) in zip(meets, ranges, strict=True):
        if np.isfinite(low):
            row[: np.searchsorted(edges, low) + 1] = False
        if np.isfinite(high):
            row[np.searchsorted(edges, high) + 1 :] = False
        row[n] = not (np.isfinite(low) or np.isfinite(high))
    return _Axis(n + 1, code, meets)


def _objects(rules: Sequence[Rule]) -> _Axis | None:
    """Return the axis whose classes are the objects that the same rules name, and all others."""
    lists = [r.select.stocks for r in rules]
    named = [x for x in lists if x is not None]
    if not named:
        return None
    stocks = np.unique(np.concatenate(named))
    member = np.array([np.ones(len(stocks), bool) if x is None else np.isin(stocks, x)
                       for x in lists])  # fmt: skip
    signatures, signature = np.unique(member, axis=1, return_inverse=True)
    signature = np.append(signature.reshape(-1), signatures.shape[1])
    other = np.array([[x is None] for x in lists])
    return _Axis(
        signatures.shape[1] + 1,
        lambda p, g, s, o: signature[_classes(o, stocks)][g],
        np.concatenate([signatures, other], axis=1),
    )


def _compact(code: Array, size: int) -> tuple[Array, int]:
    """Number the codes that occur, in order, without gaps."""
    if size > max(_DENSE, 4 * len(code)):
        named, dense = np.unique(code, return_inverse=True)
        return dense.reshape(-1), len(named)
    there = np.bincount(code, minlength=size) > 0
    number = np.cumsum(there) - 1
    return number[code], int(there.sum())
