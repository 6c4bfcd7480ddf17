"""Matches of positions to rows: all rows within a radius, the nearest, or the k nearest.

Three engines give the same result to the last bit: ``grid``, compiled code
(`ampel_spark.sky.grid`); ``tree``, scipy's k-d tree; and ``plain``, a few lines of numpy that a
reader can check. Rows at the same distance are in order of their keys, so a result does not depend
on the order, division or storage of rows and positions.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.sky.angles import (
    ARCSEC,
    DEGREE,
    good_positions,
    moved,
    separation,
    unit_vectors,
    window,
)

__all__ = [
    "ENGINES",
    "How",
    "Motion",
    "Pairs",
    "engine_for",
    "first_of_each",
    "match",
    "within_counts",
]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: The rows within the radius that a match returns.
How: TypeAlias = Literal["nearest", "all", "any", "k"]
ENGINES = ("grid", "tree", "plain")
_HOWS = ("nearest", "all", "any", "k")

# Stars that move more than this (arcsec) between the epochs are searched for separately, as one of
# them would widen the search for all.
_FAST = 5.0
# Where more rows than this have the same right ascension, the search leaves out duplicates.
_MANY = 256


class Pairs(NamedTuple):
    """Pairs of a position and a row, in order of position, distance and the row's key.

    Attributes
    ----------
    left : ndarray of int64 with shape (P,)
        The number of the position.
    row : ndarray of int64 with shape (P,)
        The row of the catalogue.
    distance : ndarray of float64 with shape (P,)
        Separation, arcsec.
    """

    left: Integers
    row: Integers
    distance: Floats


@dataclass(frozen=True, eq=False)
class Motion:
    """Proper motions of a catalogue's rows.

    Attributes
    ----------
    pmra, pmdec : ndarray of float64 with shape (R,)
        Proper motions, mas/yr; `pmra` includes cos(dec). NaN stands for no motion.
    epoch : ndarray of float64 with shape (R,)
        Epoch of the positions, Julian years; a row with NaN does not move.
    """

    pmra: Floats
    pmdec: Floats
    epoch: Floats

    def take(self, rows: Integers) -> Motion:
        """Return the motions of some rows."""
        return Motion(self.pmra[rows], self.pmdec[rows], self.epoch[rows])


def match(
    ra: ArrayLike,
    dec: ArrayLike,
    rows_ra: ArrayLike,
    rows_dec: ArrayLike,
    radius: ArrayLike,
    *,
    how: How = "nearest",
    k: int = 1,
    min_radius: ArrayLike = 0.0,
    key: Integers | None = None,
    motion: Motion | None = None,
    epoch: ArrayLike | None = None,
    engine: str = "grid",
) -> Pairs:
    """Match positions to the rows of a catalogue.

    Parameters
    ----------
    ra, dec : array-like with shape (N,)
        Positions, degrees ICRS. One that is not finite or beyond a pole matches nothing.
    rows_ra, rows_dec : array-like with shape (R,)
        The catalogue's positions, likewise.
    radius, min_radius : float or array-like with shape (N,)
        Largest and smallest distance, arcsec, both included.
    how : str
        ``nearest``; ``all``; ``k`` for the `k` nearest; or ``any``, which returns the same pairs as
        ``nearest``.
    k : int
        The number of rows for ``how="k"``.
    key : ndarray of int64 with shape (R,), optional
        The rows' ids, which order rows at the same distance; by default the rows' numbers.
    motion : Motion, optional
        Proper motions, which move each row to the epoch of the position.
    epoch : float or array-like with shape (N,), optional
        Epoch of the positions, Julian years; for a position with NaN, rows do not move.
    engine : str
        ``grid``, ``tree`` or ``plain``.

    Raises
    ------
    ConfigError
        If a radius is out of range, or `how`, `k` or `engine` is unknown.

    Examples
    --------
    >>> pairs = match([10.0, 20.0], [0.0, 0.0], [10.001, 10.0, 30.0], [0.0, 0.0, 0.0], 5.0,
    ...               how="all", engine="plain")
    >>> pairs.left.tolist(), pairs.row.tolist(), pairs.distance.round(3).tolist()
    ([0, 0], [1, 0], [0.0, 3.6])
    """
    if how not in _HOWS:
        raise ConfigError(f"how = {how!r}{nearest(how, _HOWS)}")
    if engine not in ENGINES:
        raise ConfigError(f"engine = {engine!r}{nearest(engine, ENGINES)}")
    if how == "k" and k < 1:
        raise ConfigError(f"k = {k}: the k nearest rows are 1 or more")
    ra_, dec_, outer, inner = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(v, np.float64)) for v in (ra, dec, radius, min_radius))
    )
    for name, values in (("radius", outer), ("min_radius", inner)):
        bad = ~((values >= 0) & (values < 180 * 3600.0))
        if bad.any():
            raise ConfigError(
                f"{name} {values[bad][0]} is not within 0 to 180 degrees (it is in arcsec)"
            )
    ra_ = _turned(ra_)
    rows_ra, rows_dec = (np.atleast_1d(np.asarray(v, np.float64)) for v in (rows_ra, rows_dec))
    rows = _Rows(
        _turned(rows_ra), rows_dec, np.arange(len(rows_ra)) if key is None else np.asarray(key)
    )
    most = {"all": 0, "nearest": 1, "any": 1, "k": k}[how]
    if motion is not None and epoch is not None:
        years = np.broadcast_to(np.asarray(epoch, np.float64), ra_.shape)
        pairs = _moving(ra_, dec_, rows, inner, outer, motion, years, engine)
        return first_of_each(pairs, most)
    return _still(ra_, dec_, rows, inner, outer, most, engine)


def engine_for(n: int, rows: int) -> str:
    """Return the fastest engine for `n` positions and `rows` rows; numba is slow to import."""
    return "plain" if n * rows < 10_000_000 else "grid"


def first_of_each(pairs: Pairs, most: int) -> Pairs:
    """Return the first `most` pairs of each position; 0 stands for all."""
    if most == 0 or not len(pairs.left):
        return pairs
    begins = np.flatnonzero(np.diff(pairs.left, prepend=-1))
    rank = np.arange(len(pairs.left)) - np.repeat(begins, np.diff(begins, append=len(pairs.left)))
    keep = rank < most
    return Pairs(pairs.left[keep], pairs.row[keep], pairs.distance[keep])


def within_counts(pairs: Pairs, n: int) -> Integers:
    """Return the number of pairs of each of `n` positions."""
    return np.bincount(pairs.left, minlength=n).astype(np.int64)


class _Rows(NamedTuple):
    """Positions of a catalogue and the keys of its rows."""

    ra: Floats
    dec: Floats
    key: Integers

    def take(self, rows: Integers) -> _Rows:
        return _Rows(self.ra[rows], self.dec[rows], self.key[rows])


def _still(
    ra: Floats, dec: Floats, rows: _Rows, inner: Floats, outer: Floats, most: int, engine: str
) -> Pairs:
    left, ra, dec = _usable(ra, dec)
    row, rows_ra, rows_dec = _usable(rows.ra, rows.dec)
    if not len(left) or not len(row):
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    inner, outer = inner[left], outer[left]
    run = {"grid": _grid, "tree": _tree, "plain": _plain}[engine]
    key = np.ascontiguousarray(rows.key[row], np.int64)
    found = run(ra, dec, _Rows(rows_ra, rows_dec, key), inner, outer, most)
    return Pairs(left[found.left], row[found.row], found.distance)


def _moving(
    ra: Floats,
    dec: Floats,
    rows: _Rows,
    inner: Floats,
    outer: Floats,
    motion: Motion,
    years: Floats,
    engine: str,
) -> Pairs:
    """Return all pairs, with the rows moved to each position's epoch."""
    speed = np.hypot(np.nan_to_num(motion.pmra), np.nan_to_num(motion.pmdec)) / 1e3
    epochs = motion.epoch[np.isfinite(motion.epoch)]
    known = years[np.isfinite(years)]
    longest = (
        max(abs(known.max() - epochs.min()), abs(known.min() - epochs.max()))
        if len(epochs) and len(known)
        else 0.0
    )
    # A straight line in space covers less than this angle; the last factor allows for rounding.
    reach = speed * longest * (1 + 1e-9)
    none = np.empty(0, np.int64)
    parts = [Pairs(none, none, np.empty(0))]
    for group in (np.flatnonzero(reach <= _FAST), np.flatnonzero(reach > _FAST)):
        if not len(group):
            continue
        pad = reach[group].max() + 1e-6
        wide = np.minimum(outer + pad, 180 * 3600.0 - 1.0)
        near = _still(ra, dec, rows.take(group), np.zeros_like(wide), wide, 0, engine)
        left, row = near.left, group[near.row]
        at = motion.take(row)
        row_ra, row_dec = moved(
            rows.ra[row], rows.dec[row], at.pmra, at.pmdec, years[left] - at.epoch
        )
        distance = separation(ra[left], dec[left], row_ra, row_dec)
        keep = (inner[left] <= distance) & (distance <= outer[left])
        parts.append(Pairs(left[keep], row[keep], distance[keep]))
    left, row, distance = (np.concatenate(values) for values in zip(*parts, strict=True))
    return _sorted(left, row, distance, rows.key)


def _usable(ra: Floats, dec: Floats) -> tuple[Integers, Floats, Floats]:
    """Return the numbers and coordinates of good positions."""
    at = np.flatnonzero(good_positions(ra, dec))
    if len(at) < len(ra):
        ra, dec = ra[at], dec[at]
    return at, np.ascontiguousarray(ra), np.ascontiguousarray(dec)


def _turned(ra: Floats) -> Floats:
    """Return right ascensions from 0 to 360, with numbers in that range unchanged."""
    inside = (ra >= 0.0) & (ra < 360.0)
    if inside.all():
        return ra
    with np.errstate(invalid="ignore"):
        turned = np.mod(ra, 360.0)
    # a tiny negative number is rounded up to 360
    return np.where(inside, ra, np.where(turned >= 360.0, 0.0, turned))


def _grid(ra: Floats, dec: Floats, rows: _Rows, inner: Floats, outer: Floats, most: int) -> Pairs:
    from ampel_spark.sky import grid

    low, high = float(rows.dec.min()), float(rows.dec.max())
    width = float(np.ptp(rows.ra))
    band = (np.sin(high * DEGREE) - np.sin(low * DEGREE)) / DEGREE
    apart = float(np.sqrt(max(width, 1e-9) * max(band, 1e-9) / len(rows.ra)))
    height = max(apart, outer.max() / 3600.0) if most == 0 else apart
    height = max(height, (high - low) / len(rows.ra), 1e-9)
    n = int((high - low) / height) + 1
    row = np.arange(len(rows.ra), dtype=np.int64)
    zones = grid.build(rows.ra, rows.dec, row, rows.key, low, height, n)
    if most and _longest_run(zones.ra) > _MANY:
        kept = _without_spares(rows, most)
        few = rows.take(kept)
        zones = grid.build(few.ra, few.dec, kept, few.key, low, height, n)
    number, row, distance, _ = grid.search(
        zones, ra, dec, np.ascontiguousarray(inner), np.ascontiguousarray(outer), most, False
    )
    return Pairs(np.repeat(np.arange(len(ra)), number), row, distance)


def _longest_run(values: Floats) -> int:
    changes = np.flatnonzero(np.diff(values))
    return int(np.diff(changes, prepend=-1, append=len(values) - 1).max())


def _without_spares(rows: _Rows, most: int) -> Integers:
    """Return the first `most` rows of each place, in order of their keys."""
    ra, dec, key = rows
    order = np.lexsort((key, dec, ra))
    new = (np.diff(ra[order], prepend=-1.0) != 0) | (np.diff(dec[order], prepend=-99.0) != 0)
    begins = np.flatnonzero(new)
    rank = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
    return np.sort(order[rank < most])


def _tree(ra: Floats, dec: Floats, rows: _Rows, inner: Floats, outer: Floats, most: int) -> Pairs:
    from scipy.spatial import cKDTree

    # Slightly more than the chord, as rounding moves a separation by up to 2e-10 arcsec.
    chord = 2.0 * np.sin(0.5 * ARCSEC * outer.max()) * (1 + 1e-12) + 1e-14
    found = cKDTree(unit_vectors(ra, dec)).sparse_distance_matrix(
        cKDTree(unit_vectors(rows.ra, rows.dec)), chord, output_type="ndarray"
    )
    left, row = found["i"].astype(np.int64), found["j"].astype(np.int64)
    return _exact(ra, dec, rows, inner, outer, most, left, row)


def _plain(ra: Floats, dec: Floats, rows: _Rows, inner: Floats, outer: Floats, most: int) -> Pairs:
    """Compare each position with the rows in a band of declination and right ascension."""
    order = np.argsort(rows.dec, kind="stable")
    reach = outer / 3600.0 + 1e-10
    first = np.searchsorted(rows.dec[order], dec - reach, "left")
    last = np.searchsorted(rows.dec[order], dec + reach, "right")
    n = last - first
    parts = []
    for begin, end in _chunks(n, 5_000_000):
        left = np.repeat(np.arange(begin, end), n[begin:end])
        before = np.cumsum(n[begin:end]) - n[begin:end]
        steps = np.arange(len(left)) - np.repeat(before, n[begin:end])
        row = order[first[left] + steps]
        beside = np.abs(ra[left] - rows.ra[row])
        near = np.minimum(beside, 360.0 - beside) <= window(dec, outer / 3600.0)[left]
        parts.append(_exact(ra, dec, rows, inner, outer, most, left[near], row[near]))
    return Pairs(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _chunks(n: Integers, most: int) -> list[tuple[int, int]]:
    """Split positions with `n` candidates each into ranges of about `most` candidates."""
    part = (np.cumsum(n) - 1) // most
    cuts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(n)]
    return list(itertools.pairwise(cuts))


def _exact(
    ra: Floats,
    dec: Floats,
    rows: _Rows,
    inner: Floats,
    outer: Floats,
    most: int,
    left: Integers,
    row: Integers,
) -> Pairs:
    """Return the candidate pairs between the radii, in order, the first `most` of each."""
    distance = separation(ra[left], dec[left], rows.ra[row], rows.dec[row])
    keep = (inner[left] <= distance) & (distance <= outer[left])
    return first_of_each(_sorted(left[keep], row[keep], distance[keep], rows.key), most)


def _sorted(left: Integers, row: Integers, distance: Floats, key: Integers) -> Pairs:
    order = np.lexsort((row, key[row], distance, left))
    return Pairs(left[order], row[order], distance[order])
