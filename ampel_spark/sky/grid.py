"""The match as compiled code: rows in zones of declination, in order of right ascension in each.

A circle meets few zones; in each, its rows are a stretch on both sides of the position. The search
goes outwards from the position and stops where nothing nearer can come, so that a clump of rows
costs no more than its own neighbours, and poles and right ascension 0 are nothing special. A zone
is about as high as rows are apart.

`ampel_spark.sky.matching` has the same in plain numpy, to the last bit of every distance.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ampel_spark.compiled import compiled, entry_point
from ampel_spark.sky.angles import (
    ARC_P,
    ARC_Q,
    ARCSEC,
    COSINE,
    DEGREE,
    HALF_PI,
    HALF_PI_LOW,
    SINE,
)

__all__ = ["Zones", "build", "search"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Degrees by which zones and windows are taken wider than they are, against rounding.
_PAD = 1e-10
_S1, _S2, _S3, _S4, _S5, _S6 = SINE
_C1, _C2, _C3, _C4, _C5, _C6 = COSINE
_P0, _P1, _P2, _P3, _P4, _P5 = ARC_P
_Q1, _Q2, _Q3, _Q4 = ARC_Q


class Zones(NamedTuple):
    """Rows in order of zone, then right ascension, then number.

    Attributes
    ----------
    low, height : float
        Declination at which the first zone begins, and how high each is, degrees.
    start : ndarray of int64 with shape (Z + 1,)
        First row of each zone.
    ra, dec, cosine : ndarray of float64 with shape (N,)
        Right ascension from 0 to 360.
    row, key : ndarray of int64 with shape (N,)
        Number of the row in the table, and what decides between rows at one distance.
    """

    low: float
    height: float
    start: Integers
    ra: Floats
    dec: Floats
    cosine: Floats
    row: Integers
    key: Integers


@compiled
def _sine(x: float) -> float:
    if x <= 0.5 * HALF_PI:
        return _sine_of(x)
    return _cosine_of((HALF_PI - x) + HALF_PI_LOW)


@compiled
def _sine_of(x: float) -> float:
    z = x * x
    return x + (z * x) * (_S1 + z * (_S2 + z * (_S3 + z * (_S4 + z * (_S5 + z * _S6)))))


@compiled
def _cosine_of(x: float) -> float:
    z = x * x
    r = z * (_C1 + z * (_C2 + z * (_C3 + z * (_C4 + z * (_C5 + z * _C6)))))
    half = 0.5 * z
    w = 1.0 - half
    return w + (((1.0 - w) - half) + z * r)


@compiled
def _cosine(dec: float) -> float:
    x = abs(dec)
    if x <= 45.0:
        return _cosine_of(x * DEGREE)
    return _sine_of((90.0 - x) * DEGREE)


@compiled
def _separation(dra: float, ddec: float, cosines: float) -> float:
    dra = dra - 360.0 * math.floor(dra / 360.0 + 0.5)
    ns = _sine(abs(ddec) * (0.5 * DEGREE))
    ew = _sine(abs(dra) * (0.5 * DEGREE))
    hav = ns * ns + cosines * (ew * ew)
    x = math.sqrt(min(hav, 1.0))
    small = x < 0.5
    t = x * x if small else 0.5 * (1.0 - x)
    s = x if small else math.sqrt(t)
    p = t * (_P0 + t * (_P1 + t * (_P2 + t * (_P3 + t * (_P4 + t * _P5)))))
    q = 1.0 + t * (_Q1 + t * (_Q2 + t * (_Q3 + t * _Q4)))
    angle = s + s * (p / q)
    if not small:
        angle = (HALF_PI - 2.0 * angle) + HALF_PI_LOW
    return angle * (2.0 / ARCSEC)


@entry_point
def build(
    ra: Floats, dec: Floats, row: Integers, key: Integers, low: float, height: float, n: int
) -> Zones:
    """Put rows into zones.

    Parameters
    ----------
    ra, dec : ndarray with shape (N,)
        Degrees, 0 to 360 and -90 to 90.
    row, key : ndarray of int64 with shape (N,)
        Their numbers, ascending, and what decides between rows at one distance.
    low, height : float
        Degrees.
    n : int
        Number of zones; what lies above is in the last.
    """
    start = np.zeros(n + 1, np.int64)
    zone = np.empty(len(ra), np.int64)
    for i in range(len(ra)):
        z = min(max(int((dec[i] - low) / height), 0), n - 1)
        zone[i] = z
        start[z + 1] += 1
    for z in range(n):
        start[z + 1] += start[z]
    free = start[:-1].copy()
    by_zone = np.empty(len(ra), np.int64)
    for i in range(len(ra)):
        by_zone[free[zone[i]]] = i
        free[zone[i]] += 1
    for z in range(n):
        a, b = start[z], start[z + 1]
        if b - a > 24:
            mine = by_zone[a:b].copy()
            by_zone[a:b] = mine[np.argsort(ra[mine], kind="mergesort")]
        else:
            for j in range(a + 1, b):
                one = by_zone[j]
                k = j
                while k > a and ra[by_zone[k - 1]] > ra[one]:
                    by_zone[k] = by_zone[k - 1]
                    k -= 1
                by_zone[k] = one
    cosines = np.empty(len(ra))
    for j in range(len(ra)):
        cosines[j] = _cosine(dec[by_zone[j]])
    return Zones(low, height, start, ra[by_zone], dec[by_zone], cosines, row[by_zone], key[by_zone])


@compiled
def _window(dec: float, radius: float) -> float:
    if abs(dec) + radius >= 90.0 - 1e-9:
        return 180.0
    ratio = radius * DEGREE / _cosine(dec)
    if ratio < 0.5:
        # not below the arc sine, and a tenth of its cost
        return ratio * (1.0 + 0.21 * ratio * ratio) / DEGREE * (1 + 1e-12) + _PAD
    ratio = math.sin(radius * DEGREE) / math.cos(dec * DEGREE)
    return math.asin(min(ratio, 1.0)) / DEGREE * (1 + 1e-12) + _PAD


@compiled
def _before(d1: float, key1: int, row1: int, d2: float, key2: int, row2: int) -> bool:
    """Say whether the first of two rows is the nearer one."""
    if d1 != d2:
        return d1 < d2
    return key1 < key2 if key1 != key2 else row1 < row2


@entry_point
def search(
    zones: Zones, ra: Floats, dec: Floats, inner: Floats, outer: Floats, k: int, count: bool
) -> tuple[Integers, Integers, Floats, Integers]:
    """Find the rows near positions.

    Parameters
    ----------
    zones : Zones
    ra, dec : ndarray with shape (M,)
        Degrees, 0 to 360 and -90 to 90.
    inner, outer : ndarray with shape (M,)
        Smallest and largest distance of a row, arcsec, both included.
    k : int
        Most rows of a position, the nearest; 0: all of them.
    count : bool
        Whether to count all rows between the two, even if `k` is fewer; else the count is of those
        that are returned.

    Returns
    -------
    n : ndarray of int64 with shape (M,)
        Rows returned for each position.
    row : ndarray of int64 with shape (P,)
    distance : ndarray of float64 with shape (P,)
        Arcsec; for each position in order of distance, then key, then row.
    within : ndarray of int64 with shape (M,)
    """
    m = len(ra)
    n, within = np.zeros(m, np.int64), np.zeros(m, np.int64)
    out_row = np.empty(m if k == 0 else m * k, np.int64)
    out_distance = np.empty(len(out_row))
    found = 0
    near = np.empty(max(k, 16))
    near_row, near_key = np.empty(len(near), np.int64), np.empty(len(near), np.int64)
    n_zones = len(zones.start) - 1
    for i in range(m):
        cosine = _cosine(dec[i])
        bound = outer[i]
        window = _window(dec[i], bound / 3600.0)
        held, seen = 0, 0
        here = min(max(int((dec[i] - zones.low) / zones.height), 0), n_zones - 1)
        step = 0
        up = down = True
        while up or down:
            for side in range(2 if step else 1):
                z = here + step if side == 0 else here - step
                if (side == 0 and not up) or (side == 1 and not down):
                    continue
                if z < 0 or z >= n_zones:
                    if side == 0:
                        up = False
                    else:
                        down = False
                    continue
                reach = bound / 3600.0 + _PAD
                bottom = zones.low + z * zones.height
                if side == 0 and z > here and bottom > dec[i] + reach:
                    up = False
                    continue
                if side == 1 and bottom + zones.height < dec[i] - reach:
                    down = False
                    continue
                a, b = zones.start[z], zones.start[z + 1]
                if a == b:
                    continue
                first, last = a, b
                while first < last:
                    middle = (first + last) // 2
                    if zones.ra[middle] < ra[i]:
                        first = middle + 1
                    else:
                        last = middle
                whole = window >= 180.0
                for way in range(1 if whole else 2):
                    for c in range(b - a):
                        j = first + c if way == 0 else first - 1 - c
                        if j >= b:
                            j -= b - a
                        elif j < a:
                            j += b - a
                        if not whole:
                            gap = zones.ra[j] - ra[i] if way == 0 else ra[i] - zones.ra[j]
                            if gap < 0.0 or (way == 1 and gap == 0.0):
                                gap += 360.0  # beyond the end; equal ones are on the first way
                            if gap > window:
                                break
                        if abs(zones.dec[j] - dec[i]) > reach:
                            continue
                        d = _separation(
                            ra[i] - zones.ra[j], dec[i] - zones.dec[j], cosine * zones.cosine[j]
                        )
                        if not (inner[i] <= d <= outer[i]):
                            continue
                        seen += 1
                        row, key = zones.row[j], zones.key[j]
                        if k == 0:
                            if held == len(near):
                                near = np.concatenate((near, np.empty(held)))
                                near_row = np.concatenate((near_row, np.empty(held, np.int64)))
                                near_key = np.concatenate((near_key, np.empty(held, np.int64)))
                            near[held] = d
                            near_row[held] = row
                            near_key[held] = key
                            held += 1
                            continue
                        if held == k:
                            if _before(near[k - 1], near_key[k - 1], near_row[k - 1], d, key, row):
                                continue
                        else:
                            held += 1
                        p = held - 1
                        while p > 0 and _before(
                            d, key, row, near[p - 1], near_key[p - 1], near_row[p - 1]
                        ):
                            near[p] = near[p - 1]
                            near_row[p] = near_row[p - 1]
                            near_key[p] = near_key[p - 1]
                            p -= 1
                        near[p] = d
                        near_row[p] = row
                        near_key[p] = key
                        if held == k and not count and near[k - 1] < bound:
                            bound = near[k - 1]
                            if not whole:
                                window = _window(dec[i], bound / 3600.0)
                            reach = bound / 3600.0 + _PAD
            step += 1
        if found + held > len(out_row):
            more = found + held
            out_row = np.concatenate((out_row, np.empty(more, np.int64)))
            out_distance = np.concatenate((out_distance, np.empty(more)))
        if k == 0 and held > 1:
            # the least important first, each time stably
            order = np.argsort(near_row[:held], kind="mergesort")
            order = order[np.argsort(near_key[:held][order], kind="mergesort")]
            order = order[np.argsort(near[:held][order], kind="mergesort")]
            out_row[found : found + held] = near_row[:held][order]
            out_distance[found : found + held] = near[:held][order]
        else:
            for p in range(held):
                out_row[found + p] = near_row[p]
                out_distance[found + p] = near[p]
        found += held
        n[i] = held
        within[i] = seen if count or k == 0 else held
    return n, out_row[:found], out_distance[:found], within
