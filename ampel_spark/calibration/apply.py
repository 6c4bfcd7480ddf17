"""A calibration release applied to points: one pure function on flat arrays.

In this order, whatever the order of the rules: points are masked; photometry is replaced (by the
last rule that has the point); magnitudes are moved by zero point, slope and non-linearity; fluxes
are scaled; errors are scaled and get their floors. Rules select by values as issued. A zero point
of +0.010 makes points 0.010 mag fainter: magnitudes and limits are m + 0.010, forced fluxes are
multiplied by 10**(-0.4 * 0.010) at their zero point, and signs stay.
`calibrated` in `tests/calibration/plain.py` does the same for one point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.calibration.cells import Cells, sort_into_cells, values_in
from ampel_spark.calibration.release import Release, Replacement
from ampel_spark.calibration.tables import load_replacement
from ampel_spark.lightcurve import FORCED, UPPER_LIMIT

__all__ = ["LN10_04", "Applied", "apply", "replaced_rows"]

Array = npt.NDArray[Any]
Points = dict[str, Array]

#: Relative error of a flux for an error of 1 mag.
LN10_04 = 0.4 * float(np.log(10.0))

# Corrections are taken to 1e-9 mag: a correction and its inverse are none, bit for bit.
_NANO = 1e9


@dataclass(frozen=True, eq=False)
class Applied:
    """What a release made of points.

    Attributes
    ----------
    points : dict of arrays with shape (N,)
        Calibrated; masked points are in it as they were.
    kept : ndarray of bool with shape (N,)
        False: masked.
    group, rule : ndarray of int64
        Light curves, and numbers of the rules that changed or masked a point of them, sorted.
    """

    points: Points
    kept: Array
    group: Array
    rule: Array


@dataclass(frozen=True, eq=False)
class _Effect:
    """What all rules together do to the points of each cell, arrays with shape (U,).

    Points move by ``shift + slope * mag - offset`` [mag].
    """

    masked: Array
    shift: Array
    slope: Array
    offset: Array
    scale: Array
    floor: Array
    acts: Array


def apply(
    release: Release, points: Mapping[str, Array], group: Array, survey: Array, stock: Array
) -> Applied:
    """Apply a calibration release to points.

    Parameters
    ----------
    release : Release
    points : mapping of arrays with shape (N,)
        The fields of `ampel_spark.lightcurve.POINT_FIELDS`, as issued; missing floats are NaN.
    group : ndarray of int64 with shape (N,)
        Light curve of each point, in order.
    survey, stock : ndarray of str and int64 with shape (M,)
        Of each light curve.
    """
    out = dict(points)
    n = len(group)
    none = np.zeros(0, np.int64)
    if not release.rules or not n:
        return Applied(out, np.ones(n, bool), none, none)
    cells = sort_into_cells(release, points, group, survey, stock)
    effect = _effect(release, cells, points)
    kept = ~effect.masked[cells.of]
    base = len(release.rules) + 1
    touched = [_touched(effect.acts, cells.of, group)]
    for rule, matches in zip(release.rules, cells.matches, strict=True):
        if rule.replace is not None:
            changed = _replace(rule.replace, out, matches[cells.of] & kept, stock[group])
            touched.append(_distinct(group[changed]) * base + rule.number)
    _move(out, effect, cells.of)
    _widen(out, effect, cells.of)
    groups, rules = np.divmod(_distinct(np.concatenate(touched)), base)
    return Applied(out, kept, groups, rules)


def replaced_rows(table: Mapping[str, Array], ids: Array, stocks: Array) -> Array:
    """Return the row of a replacement that each datapoint has; -1 where it has none.

    Parameters
    ----------
    table : mapping of arrays
        From `ampel_spark.calibration.tables.load_replacement`.
    ids, stocks : ndarray of int64 with shape (N,)
    """
    named, number = np.unique(table["datapoint_id"], return_inverse=True)
    place = np.minimum(np.searchsorted(named, ids), len(named) - 1)
    there = named[place] == ids
    objects, which = np.unique(table["stock"], return_inverse=True)
    if len(objects) == 1 and objects[0] == -1:
        return np.where(there, place, -1)  # a row an id: rows are in order of ids
    at = np.minimum(np.searchsorted(objects, stocks), len(objects) - 1)
    there &= objects[at] == stocks
    keys = number.astype(np.int64) * len(objects) + which
    mine = place.astype(np.int64) * len(objects) + at
    row = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
    return np.where(there & (keys[row] == mine), row, -1)


def _effect(release: Release, cells: Cells, points: Mapping[str, Array]) -> _Effect:
    n = len(cells.first)
    shift, slope, offset, floor = (np.zeros(n) for _ in range(4))
    scale = np.ones(n)
    limit = points["kind"][cells.first] == UPPER_LIMIT
    masked = np.zeros(n, bool)
    for rule, matches in zip(release.rules, cells.matches, strict=True):
        if rule.mask:
            masked |= matches
    acts = np.zeros((len(release.rules), n), bool)
    for k, (rule, matches) in enumerate(zip(release.rules, cells.matches, strict=True)):
        if rule.mask:
            acts[k] = matches
            continue
        mine = np.flatnonzero(matches & ~masked)
        if rule.table is not None:
            row = values_in(rule.table, points, cells.first[mine])
            mine, row = mine[row >= 0], row[row >= 0]
            mag, err, add = (values[row] for values in _table_values(rule.table.values))
            moved = mag != 0
        else:
            mag = np.full(len(mine), rule.zero_point - 2.5 * np.log10(rule.flux_scale))
            if rule.slope:
                bands = points["band"][cells.first[mine]]
                mag += [rule.slope.get(band, 0.0) for band in bands.tolist()]
            err = np.full(len(mine), rule.error_scale)
            add = np.full(len(mine), _floor(rule.error_floor, rule.flux_floor))
            bent = rule.nonlinearity[0] != 0
            moved = (mag != 0) | bool(rule.zero_point or rule.flux_scale != 1.0 or bent)
            slope[mine] += rule.nonlinearity[0]
            offset[mine] += rule.nonlinearity[0] * rule.nonlinearity[1]
        shift[mine] += mag
        scale[mine] *= err
        floor[mine] += add
        acts[k, mine] = moved | (((err != 1.0) | (add > 0)) & ~limit[mine])
    return _Effect(masked, shift, slope, offset, np.rint(scale * _NANO) / _NANO, floor, acts)


def _table_values(values: Mapping[str, Array]) -> tuple[Array, Array, Array]:
    """Return shift [mag], factor on errors, and squared floor [mag^2] of each row."""
    n = len(next(iter(values.values())))
    zero, one = np.zeros(n), np.ones(n)
    mag = values.get("zero_point", zero) - 2.5 * np.log10(values.get("flux_scale", one))
    floor = _floor(values.get("error_floor", zero), values.get("flux_floor", zero))
    return mag, values.get("error_scale", one), floor


def _floor(mag: Any, fraction: Any) -> Any:
    """Return the squared floor of an error [mag^2]."""
    return mag**2 + (fraction / LN10_04) ** 2


def _touched(acts: Array, cell: Array, group: Array) -> Array:
    """Return light curve * (rules + 1) + rule number wherever a rule acts on a point."""
    acted: Array = np.asarray(acts.any(axis=0))
    some = acted[cell]
    u = acts.shape[1]
    pairs = _distinct(group[some].astype(np.int64) * u + cell[some])
    rule, where = np.nonzero(acts)
    order = np.argsort(where, kind="stable")
    rule, counts = rule[order], np.bincount(where, minlength=u)
    starts = np.cumsum(counts) - counts
    groups, cells = np.divmod(pairs, u)
    n = counts[cells]
    within = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    rules = rule[np.repeat(starts[cells], n) + within] + 1
    keys: Array = np.repeat(groups, n) * (len(acts) + 1) + rules
    return keys


def _distinct(keys: Array) -> Array:
    """Return the keys that occur, sorted: np.unique hashes, which is slower here."""
    keys = np.sort(keys)
    kept: Array = keys[np.diff(keys, prepend=keys[:1] - 1) != 0]
    return kept


def _replace(replacement: Replacement, out: Points, selected: Array, stock: Array) -> Array:
    """Replace values of the points selected; return which of them changed."""
    table = load_replacement(replacement.path, replacement.content_hash)
    row = replaced_rows(table, out["datapoint_id"], stock)
    changed = np.zeros(len(row), bool)
    for name, column in table.items():
        if name in ("datapoint_id", "stock"):
            continue
        old, new = out[name], np.where(row >= 0, column[row], np.nan)
        # Only what a point has is replaced: an upper limit gets no magnitude.
        given = selected & ~np.isnan(new) & ((old != 0) if name == "sign" else ~np.isnan(old))
        changed |= given & (new != old)
        out[name] = np.where(given, new, old).astype(old.dtype)
    return changed


def _move(out: Points, effect: _Effect, cell: Array) -> None:
    """Add to magnitudes and limits, and scale forced fluxes."""
    # Slopes that cancel leave what their pivots are apart.
    bent = bool(effect.slope.any() or effect.offset.any())
    if not (effect.shift.any() or bent):
        return
    shift = effect.shift[cell]
    slope, offset = effect.slope[cell], effect.offset[cell]

    def moved_by(mag: Array) -> Array:
        # Where there is no magnitude there is nothing to bend.
        there = np.isfinite(mag)
        bend = np.where(there, slope * np.where(there, mag, 0.0) - offset, 0.0) if bent else 0.0
        by: Array = np.rint((shift + bend) * _NANO) / _NANO
        return by

    forced = np.flatnonzero(out["kind"] == FORCED)
    for name in ("mag", "limit_mag"):
        out[name] = out[name] + moved_by(out[name])
    if len(forced):
        by = moved_by(_flux_mag(out, forced))[forced] if bent else moved_by(shift)[forced]
        factor = 10.0 ** (-0.4 * by)
        for name in ("flux", "fluxerr"):
            out[name] = out[name].copy()
            out[name][forced] *= factor


def _flux_mag(out: Points, forced: Array) -> Array:
    """Return magnitudes of forced fluxes, where these are below their error that of the error."""
    flux, fluxerr, zp = (out[name][forced] for name in ("flux", "fluxerr", "zp"))
    size = np.fmax(np.abs(flux), fluxerr)
    mag = np.full(len(out["kind"]), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        mag[forced] = zp - 2.5 * np.log10(size)
    return mag


def _widen(out: Points, effect: _Effect, cell: Array) -> None:
    """Scale errors, and add their floors in quadrature."""
    wide = np.logical_or(effect.scale != 1.0, effect.floor > 0)[cell]
    if not wide.any():
        return
    some = np.flatnonzero(wide)
    scale, floor = effect.scale[cell[some]], effect.floor[cell[some]]
    out["magerr"], out["fluxerr"] = out["magerr"].copy(), out["fluxerr"].copy()
    out["magerr"][some] = np.sqrt((scale * out["magerr"][some]) ** 2 + floor)
    forced = out["kind"][some] == FORCED
    some, scale, floor = some[forced], scale[forced], floor[forced]
    fraction = LN10_04 * out["flux"][some]
    out["fluxerr"][some] = np.sqrt((scale * out["fluxerr"][some]) ** 2 + floor * fraction**2)
