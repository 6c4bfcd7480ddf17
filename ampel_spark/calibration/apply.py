"""Application of a calibration release to points: one pure function on flat arrays.

The order of steps does not depend on the order of the rules. `apply` masks points, replaces
photometry (the last rule that has the point counts), moves magnitudes by zero point, slope and
non-linearity, scales fluxes, and last scales errors and adds their floors. Rules select by values
as issued. A zero point of +0.010 makes points 0.010 mag fainter: magnitudes and limits become
m + 0.010, forced fluxes are multiplied by 10**(-0.4 * 0.010) at their zero point, and signs stay.
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

# Corrections are rounded to 1e-9 mag, so that a correction and its inverse cancel exactly.
_NANO = 1e9


@dataclass(frozen=True, eq=False)
class Applied:
    """The points after a release.

    Attributes
    ----------
    points : dict of arrays with shape (N,)
        The calibrated points; masked points stay in it with their values as issued.
    kept : ndarray of bool with shape (N,)
        False for masked points.
    group, rule : ndarray of int64 with shape (P,)
        Sorted pairs of a light curve and the number of a rule that changed or masked one of its
        points.
    """

    points: Points
    kept: Array
    group: Array
    rule: Array


@dataclass(frozen=True, eq=False)
class _Effect:
    """The effect of all rules on the points of each cell, as arrays with shape (U,).

    Magnitudes move by ``shift + slope * mag - offset`` [mag].
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
        The rules to apply.
    points : mapping of arrays with shape (N,)
        The fields of `ampel_spark.lightcurve.POINT_FIELDS`, as issued; missing floats are NaN.
    group : ndarray of int64 with shape (N,)
        The number of each point's light curve, ascending from 0.
    survey, stock : ndarray of str and int64 with shape (M,)
        The survey and object of each light curve.

    Raises
    ------
    ConfigError
        If a table of replaced photometry has changed since the release was read.

    Examples
    --------
    >>> import numpy as np
    >>> from ampel_spark.calibration.release import Release, Rule
    >>> from ampel_spark.lightcurve import LightCurve
    >>> fainter = Release("fainter", rules=(Rule(1, zero_point=0.01),))
    >>> curve = LightCurve.of(jd=[1.0, 2.0], mag=[18.0, 19.0], magerr=0.1, band="ztfg")
    >>> found = apply(fainter, curve.points, np.zeros(2, int), np.array(["ZTF"]), np.array([7]))
    >>> found.points["mag"].tolist()
    [18.01, 19.01]
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
    """Return the row of a table of replaced photometry for each datapoint, or -1 for no row.

    Parameters
    ----------
    table : mapping of arrays
        A table that `ampel_spark.calibration.tables.load_replacement` returned.
    ids, stocks : ndarray of int64 with shape (N,)
        The id and the object of each datapoint.
    """
    named, number = np.unique(table["datapoint_id"], return_inverse=True)
    place = np.minimum(np.searchsorted(named, ids), len(named) - 1)
    there = named[place] == ids
    objects, which = np.unique(table["stock"], return_inverse=True)
    if len(objects) == 1 and objects[0] == -1:
        return np.where(there, place, -1)  # one row for each id, and rows are in order of ids
    at = np.minimum(np.searchsorted(objects, stocks), len(objects) - 1)
    there &= objects[at] == stocks
    keys = number.astype(np.int64) * len(objects) + which
    mine = place.astype(np.int64) * len(objects) + at
    row = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
    return np.where(there & (keys[row] == mine), row, -1)


def _effect(release: Release, cells: Cells, points: Mapping[str, Array]) -> _Effect:
    """Return what the release does to the points of each cell; masked cells do not change."""
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
    """Return the shift [mag], the factor on errors and the squared floor [mag^2] of each row."""
    n = len(next(iter(values.values())))
    zero, one = np.zeros(n), np.ones(n)
    mag = values.get("zero_point", zero) - 2.5 * np.log10(values.get("flux_scale", one))
    floor = _floor(values.get("error_floor", zero), values.get("flux_floor", zero))
    return mag, values.get("error_scale", one), floor


def _floor(mag: Any, fraction: Any) -> Any:
    """Return the squared floor of an error [mag^2]."""
    return mag**2 + (fraction / LN10_04) ** 2


def _touched(acts: Array, cell: Array, group: Array) -> Array:
    """Return ``light curve * (rules + 1) + rule number`` for each rule that acts on a point."""
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
    """Return the distinct keys, sorted; `numpy.unique` hashes them, which is slower here."""
    keys = np.sort(keys)
    kept: Array = keys[np.diff(keys, prepend=keys[:1] - 1) != 0]
    return kept


def _replace(replacement: Replacement, out: Points, selected: Array, stock: Array) -> Array:
    """Replace values of the selected points in `out`, and return which points changed."""
    table = load_replacement(replacement.path, replacement.content_hash)
    row = replaced_rows(table, out["datapoint_id"], stock)
    changed = np.zeros(len(row), bool)
    for name, column in table.items():
        if name in ("datapoint_id", "stock"):
            continue
        old, new = out[name], np.where(row >= 0, column[row], np.nan)
        # A value replaces only a value that the point has: an upper limit gets no magnitude.
        given = selected & ~np.isnan(new) & ((old != 0) if name == "sign" else ~np.isnan(old))
        changed |= given & (new != old)
        out[name] = np.where(given, new, old).astype(old.dtype)
    return changed


def _move(out: Points, effect: _Effect, cell: Array) -> None:
    """Move magnitudes and limits, and scale forced fluxes."""
    # Two slopes that cancel still leave an offset where their pivots differ.
    bent = bool(effect.slope.any() or effect.offset.any())
    if not (effect.shift.any() or bent):
        return
    shift = effect.shift[cell]
    slope, offset = effect.slope[cell], effect.offset[cell]

    def moved_by(mag: Array) -> Array:
        # A point without a magnitude has no bend.
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
    """Return the magnitude of each forced flux, or of its error where the error is larger."""
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
