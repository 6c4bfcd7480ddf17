"""From a batch's flat arrays to the sorted points of one object: compiled code."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.kernel import (
    ALL_START,
    BAND,
    DENSE,
    DUST,
    FLUX,
    N_ALL,
    N_BANDS,
    N_USED,
    SCALE,
    SLOT,
    START,
    TIME,
    VAR,
    Work,
)
from ampel_spark.salt.maths import compiled
from ampel_spark.salt.options import Settings, Targets
from ampel_spark.salt.records import (
    BAD_POINTS,
    BAND_DROPPED,
    NO_SIGNAL,
    UNKNOWN_BAND,
    Output,
    Points,
)
from ampel_spark.salt.tables import REFERENCE_ZP, Tables

__all__ = ["activate", "gather", "inside"]

Array = NDArray[np.float64]

#: Errors whose square is not an ordinary number are no errors.
SMALLEST, LARGEST = 1e-140, 1e140


@compiled
def inside(tables: Tables, band: int, z_low: float, z_high: float) -> bool:
    """Whether the model covers a band at both redshifts (sncosmo's rule: strictly)."""
    return (
        tables.band_min[band] > tables.model_min * (1.0 + z_low)
        and tables.band_min[band] > tables.model_min * (1.0 + z_high)
        and tables.band_max[band] < tables.model_max * (1.0 + z_low)
        and tables.band_max[band] < tables.model_max * (1.0 + z_high)
    )


@compiled
def _usable(points: Points, k: int) -> bool:
    err = points.fluxerr[k]
    return (
        math.isfinite(points.time[k])
        and math.isfinite(points.flux[k])
        and SMALLEST < err < LARGEST
        and abs(points.flux[k] / err) < LARGEST
        and abs(points.zp[k]) < 100.0
    )


@compiled
def gather(
    tables: Tables,
    settings: Settings,
    targets: Targets,
    points: Points,
    work: Work,
    i: int,
    z_low: float,
    z_high: float,
    out: Output,
) -> float:
    """Bring the usable points of object `i` into `work`; return the earliest time.

    Counts in `out` what is left out, and why. Times in `work` count from the earliest one.
    """
    begin, end = points.offsets[i], points.offsets[i + 1]
    n_bands = len(tables.band_min)
    slot = work.layout[SLOT]
    for b in range(n_bands):
        slot[b] = 0
    stretch = 1.0 if settings.phase_observer else 1.0 + z_low
    cut_phase = settings.has_phase_range and not settings.phase_iterative
    zero = np.inf
    max_snr = -np.inf
    for k in range(begin, end):
        b = points.band[k]
        if b < 0:
            out.counts[i, 4] += 1
            continue
        if not _usable(points, k):
            out.counts[i, 3] += 1
            continue
        if not inside(tables, b, z_low, z_high):
            out.counts[i, 5] += 1
            out.dropped_bands[i, b] = True
            continue
        snr = points.flux[k] / points.fluxerr[k]
        if not snr > settings.snr_cut:
            out.counts[i, 6] += 1
            continue
        if cut_phase:
            phase = (points.time[k] - targets.phase_reference[i]) / stretch
            if not settings.phase_min < phase < settings.phase_max:
                out.counts[i, 6] += 1
                continue
        zero = min(zero, points.time[k])
        max_snr = max(max_snr, snr)
        out.used[k] = True
        slot[b] += 1
    work.number[N_BANDS] = 0
    n = 0
    for b in range(n_bands):
        if slot[b] > 0:
            m = work.number[N_BANDS]
            work.layout[BAND, m] = b
            work.layout[ALL_START, m] = n
            n += slot[b]
            slot[b] = work.layout[ALL_START, m]
            work.number[N_BANDS] = m + 1
    work.layout[ALL_START, work.number[N_BANDS]] = n
    work.number[N_ALL] = n
    last_zp = np.nan
    zp_scale = 1.0
    every = work.all_points
    for k in range(begin, end):
        if not out.used[k]:
            continue
        b = points.band[k]
        j = slot[b]
        slot[b] += 1
        if points.zp[k] != last_zp:
            last_zp = points.zp[k]
            zp_scale = 10.0 ** (0.4 * (REFERENCE_ZP - last_zp))
        scale = zp_scale * points.system_ratio[b, points.system[k]]
        flux = points.flux[k] * scale
        every[TIME, j] = points.time[k] - zero
        every[FLUX, j] = flux
        every[SCALE, j] = scale
        every[VAR, j] = (
            (points.fluxerr[k] * scale) ** 2
            + settings.floor**2
            + (settings.fractional_floor * flux) ** 2
        )
        work.all_order[j] = k
    for b in range(work.number[N_BANDS]):
        _sort(work, work.layout[ALL_START, b], work.layout[ALL_START, b + 1])
    for b in range(work.number[N_BANDS]):
        for q in range(work.nodes.shape[2]):
            magnitudes = targets.ebv[i] * targets.law[targets.law_row[i], work.layout[BAND, b], q]
            work.nodes[DUST, b, q] = 10.0 ** (-0.4 * magnitudes)
    if n > 0:
        out.max_snr[i] = max_snr
        if not max_snr > settings.min_snr:
            out.flags[i] |= NO_SIGNAL
    if out.counts[i, 3] > 0:
        out.flags[i] |= BAD_POINTS
    if out.counts[i, 4] > 0:
        out.flags[i] |= UNKNOWN_BAND
    if out.counts[i, 5] > 0:
        out.flags[i] |= BAND_DROPPED
    return zero


@compiled
def _after(work: Work, j: int, k: int) -> bool:
    """Whether point j comes after point k: by time, then flux, then error."""
    every = work.all_points
    if every[TIME, j] != every[TIME, k]:
        return every[TIME, j] > every[TIME, k]
    if every[FLUX, j] != every[FLUX, k]:
        return every[FLUX, j] > every[FLUX, k]
    return every[VAR, j] > every[VAR, k]


@compiled
def _swap(work: Work, j: int, k: int) -> None:
    for row in range(4):
        value = work.all_points[row, j]
        work.all_points[row, j] = work.all_points[row, k]
        work.all_points[row, k] = value
    index = work.all_order[j]
    work.all_order[j] = work.all_order[k]
    work.all_order[k] = index


@compiled
def _sort(work: Work, begin: int, end: int) -> None:
    """Heapsort, unless sorted: no memory, and no worst case for a million points."""
    ordered = True
    for k in range(begin + 1, end):
        if _after(work, k - 1, k):
            ordered = False
            break
    if ordered:
        return
    n = end - begin
    start = n // 2
    while n > 1:
        if start > 0:
            start -= 1
        else:
            n -= 1
            _swap(work, begin, begin + n)
        root = start
        child = 2 * root + 1
        while child < n:
            if child + 1 < n and _after(work, begin + child + 1, begin + child):
                child += 1
            if not _after(work, begin + child, begin + root):
                break
            _swap(work, begin + root, begin + child)
            root = child
            child = 2 * root + 1


@compiled
def activate(settings: Settings, points: Points, work: Work, i: int, z: float, t0: float) -> bool:
    """Use all points or, with a `t0` that is a number, those in the phase range about it.

    Returns whether the set of points changed.
    """
    stretch = 1.0 if settings.phase_observer else 1.0 + z
    changed = False
    n = 0
    for b in range(work.number[N_BANDS]):
        work.layout[START, b] = n
        for k in range(work.layout[ALL_START, b], work.layout[ALL_START, b + 1]):
            if not math.isnan(t0):
                phase = (work.all_points[TIME, k] - t0) / stretch
                if not settings.phase_min < phase < settings.phase_max:
                    continue
            if n >= work.number[N_USED] or work.order[n] != work.all_order[k]:
                changed = True
            for row in range(4):
                work.points[row, n] = work.all_points[row, k]
            work.order[n] = work.all_order[k]
            n += 1
    changed = changed or n != work.number[N_USED]
    work.layout[START, work.number[N_BANDS]] = n
    work.number[N_USED] = n
    work.number[DENSE] = 0
    if len(points.cov_offsets) > 0 and points.cov_offsets[i + 1] > points.cov_offsets[i]:
        _dense_covariance(points, work, i)
    return changed


@compiled
def _dense_covariance(points: Points, work: Work, i: int) -> None:
    """Bring the given covariance of the points in use above the diagonal of `factor`."""
    begin = points.offsets[i]
    size = points.offsets[i + 1] - begin
    work.number[DENSE] = 1
    for m in range(work.number[N_USED]):
        row = points.cov_offsets[i] + (work.order[m] - begin) * size - begin
        for k in range(m, work.number[N_USED]):
            value = points.cov[row + work.order[k]]
            value *= work.points[SCALE, m] * work.points[SCALE, k]
            if k > m:
                work.factor[m, k] = value
            else:
                # Floors come on top of the covariance as they do of the errors.
                error = points.fluxerr[work.order[m]] * work.points[SCALE, m]
                work.points[VAR, m] = value + max(work.points[VAR, m] - error * error, 0.0)
