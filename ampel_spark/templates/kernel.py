"""Fits of one light curve with many templates: compiled code.

The amplitude is linear and so eliminated: what is left is chi-square as a function of t0 and, where
it is free, the redshift.

`_scan`
    chi-square on a grid of times (and redshifts): its lowest minima are starting points;
`_refine`
    Levenberg-Marquardt in t0 (and z) with the amplitude following; a step counts only if
    chi-square falls.

The evidence is that of all minima found, each by Laplace's approximation, under flat priors in t0
and z within their ranges and in the logarithm of the amplitude, over `LOG_RANGE`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ampel_spark.compiled import compiled, entry_point
from ampel_spark.templates.tables import TemplateTables

__all__ = ["TemplateOutput", "TemplatePoints", "TemplateTargets", "fit_range", "make_output"]

Array = NDArray[np.float64]

#: Minima that are refined, steps of each, and what the last one promises at most.
N_MINIMA, N_STEPS, TOLERANCE = 4, 40, 1e-4
#: Redshifts of a scan, at most, and their distance in ln(1 + z).
N_REDSHIFTS, REDSHIFT_STEP = 128, 0.01
#: Largest number of times of a scan.
N_TIMES = 20000
#: Width of the amplitude's prior: ten magnitudes.
LOG_RANGE = 4.0 * math.log(10.0)
#: Two ends of descents are one minimum if t0 (days) and z are this near.
SAME_T, SAME_Z = 0.05, 0.001
#: Rows of the points of one object, and of a minimum.
TIME, FLUX, WEIGHT, M, MT, MZ = range(6)
CHISQ, Z, T0, AMPLITUDE = range(4)


class TemplatePoints(NamedTuple):
    """Photometry of a batch: flat arrays, points of object i are ``offsets[i]:offsets[i + 1]``.

    In an object they are in order of band, then time; fluxes have the zero point of the tables.
    """

    offsets: NDArray[np.int64]
    time: Array
    flux: Array
    fluxerr: Array
    band: NDArray[np.int64]


class TemplateTargets(NamedTuple):
    """What differs from object to object."""

    #: (n,) range of the redshift (one value: it is held), and E(B-V) of the Milky Way.
    z_low: Array
    z_high: Array
    ebv: Array


class TemplateOutput(NamedTuple):
    """Results: (n objects, T templates) each; see `result.TemplateResult`."""

    chisq: Array
    parameters: Array
    errors: Array
    log_evidence: Array
    converged: NDArray[np.bool_]
    #: (n,) points used, and (N,) which these are.
    n_points: NDArray[np.int32]
    used: NDArray[np.bool_]


def make_output(n: int, n_templates: int, n_points: int) -> TemplateOutput:
    """Return empty results."""
    return TemplateOutput(
        chisq=np.full((n, n_templates), np.nan),
        parameters=np.full((n, n_templates, 3), np.nan),
        errors=np.full((n, n_templates, 3), np.nan),
        log_evidence=np.full((n, n_templates), np.nan),
        converged=np.zeros((n, n_templates), np.bool_),
        n_points=np.zeros(n, np.int32),
        used=np.zeros(n_points, np.bool_),
    )


@compiled
def _load(
    tables: TemplateTables,
    t: int,
    bands: NDArray[np.int64],
    n_bands: int,
    z: float,
    ebv: float,
    rows: Array,
) -> None:
    """Values and slopes of a template in the object's bands, at a redshift, behind dust."""
    s = (z - tables.z_start) / tables.z_step
    i = min(max(math.floor(s), 1), tables.flux.shape[2] - 3)
    s -= i
    a0 = -s * (s - 1.0) * (s - 2.0) / 6.0
    a1 = (s + 1.0) * (s - 1.0) * (s - 2.0) / 2.0
    a2 = -(s + 1.0) * s * (s - 2.0) / 2.0
    a3 = (s + 1.0) * s * (s - 1.0) / 6.0
    size = 2 * tables.n_phases[t]
    for b in range(n_bands):
        out = rows[b]
        factor = math.exp(-ebv * tables.depth[bands[b]])
        for r in range(size):
            out[r] = 0.0
        for q in range(tables.flux.shape[3]):
            if q > 0 and ebv == 0.0:
                break
            f = tables.flux[t, bands[b]]
            f0, f1, f2, f3 = f[i - 1, q], f[i, q], f[i + 1, q], f[i + 2, q]
            e0, e1, e2, e3 = factor * a0, factor * a1, factor * a2, factor * a3
            for r in range(size):
                out[r] += e0 * f0[r] + e1 * f1[r] + e2 * f2[r] + e3 * f3[r]
            factor *= -ebv


@compiled
def _columns(
    tables: TemplateTables,
    t: int,
    rows: Array,
    starts: NDArray[np.int64],
    n_bands: int,
    z: float,
    t0: float,
    points: Array,
    slopes: bool,
) -> None:
    """The template at the points, for amplitude 1, and its derivative by t0."""
    phases, n = tables.phases[t], tables.n_phases[t]
    a = 1.0 / (1.0 + z)
    linear, zero_before = tables.linear[t], tables.zero_before[t]
    for b in range(n_bands):
        row = rows[b]
        j = 0
        for k in range(starts[b], starts[b + 1]):
            p = (points[TIME, k] - t0) * a
            if p <= phases[0]:
                points[M, k] = 0.0 if zero_before and p < phases[0] else row[0]
                points[MT, k] = 0.0
                continue
            if p >= phases[n - 1]:
                points[M, k] = row[2 * n - 2]
                points[MT, k] = 0.0
                continue
            while phases[j + 1] < p:
                j += 1
            h = phases[j + 1] - phases[j]
            u = (p - phases[j]) / h
            v0, v1 = row[2 * j], row[2 * j + 2]
            if linear:
                points[M, k] = v0 + u * (v1 - v0)
                points[MT, k] = -a * (v1 - v0) / h
                continue
            d0, d1 = h * row[2 * j + 1], h * row[2 * j + 3]
            c2 = 3.0 * (v1 - v0) - 2.0 * d0 - d1
            c3 = d0 + d1 - 2.0 * (v1 - v0)
            points[M, k] = v0 + u * (d0 + u * (c2 + u * c3))
            if slopes:
                points[MT, k] = -a * (d0 + u * (2.0 * c2 + u * 3.0 * c3)) / h


@compiled
def _profile(points: Array, n: int, null: float) -> tuple[float, float]:
    """Return chi-square and the best amplitude, which is not below zero."""
    square, product = 0.0, 0.0
    for k in range(n):
        weighted = points[WEIGHT, k] * points[M, k]
        square += weighted * points[M, k]
        product += weighted * points[FLUX, k]
    if not (product > 0.0 and square > 0.0):
        return null, 0.0
    return null - product * product / square, product / square


@compiled
def _insert(found: Array, n_found: int, chisq: float, z: float, t0: float) -> int:
    """Add a starting point, best first; of too many the worst is dropped. Return their number."""
    i = n_found
    if i == len(found):
        i -= 1
        if chisq >= found[i, CHISQ]:
            return n_found
    else:
        n_found += 1
    while i > 0 and found[i - 1, CHISQ] > chisq:
        for c in range(found.shape[1]):
            found[i, c] = found[i - 1, c]
        i -= 1
    found[i, CHISQ], found[i, Z], found[i, T0] = chisq, z, t0
    return n_found


@compiled
def _scan(
    tables: TemplateTables,
    t: int,
    rows: Array,
    bands: NDArray[np.int64],
    starts: NDArray[np.int64],
    n_bands: int,
    n: int,
    points: Array,
    null: float,
    z_low: float,
    z_high: float,
    ebv: float,
    first: float,
    last: float,
    found: Array,
    best: Array,
) -> int:
    """Find the lowest minima of chi-square over times and redshifts; return their number.

    Of each redshift the lowest two count if they are lowest among neighbouring redshifts too.
    """
    n_found = 0
    phases = tables.phases[t]
    end = phases[tables.n_phases[t] - 1]
    n_z = 1
    if z_high > z_low:
        n_z = min(
            math.ceil(math.log((1.0 + z_high) / (1.0 + z_low)) / REDSHIFT_STEP) + 1, N_REDSHIFTS
        )
    for m in range(n_z):
        z = z_low + (z_high - z_low) * m / max(n_z - 1, 1)
        _load(tables, t, bands, n_bands, z, ebv, rows)
        low, high = first - end * (1.0 + z), last - phases[0] * (1.0 + z)
        steps = min(math.ceil((high - low) / (tables.scan_step[t] * (1.0 + z))), N_TIMES) + 1
        before, now = np.inf, np.inf
        best[m, 0], best[m, 1], best[m, 2] = np.inf, z, low
        for i in range(steps + 1):
            score = np.inf
            if i < steps:
                t0 = low + (high - low) * i / max(steps - 1, 1)
                _columns(tables, t, rows, starts, n_bands, z, t0, points, False)
                score = _profile(points, n, null)[0]
            if i > 0 and now < before and now <= score and now < null:
                at = low + (high - low) * (i - 1) / max(steps - 1, 1)
                if n_z == 1:
                    n_found = _insert(found, n_found, now, z, at)
                elif now < best[m, 0]:
                    best[m, 0], best[m, 2] = now, at
            before, now = now, score
    if n_z > 1:
        for m in range(n_z):
            below = m == 0 or best[m, 0] < best[m - 1, 0]
            below = below and (m == n_z - 1 or best[m, 0] <= best[m + 1, 0])
            # Where the time jumps from one redshift to the next, a valley ends.
            if m > 0 and abs(best[m, 2] - best[m - 1, 2]) > 10.0 * tables.scan_step[t]:
                below = True
            if below and best[m, 0] < np.inf:
                n_found = _insert(found, n_found, best[m, 0], best[m, 1], best[m, 2])
    return n_found


@compiled
def _refine(
    tables: TemplateTables,
    t: int,
    rows: Array,
    beside: Array,
    bands: NDArray[np.int64],
    starts: NDArray[np.int64],
    n_bands: int,
    n: int,
    points: Array,
    null: float,
    z_low: float,
    z_high: float,
    ebv: float,
    low: float,
    high: float,
    at: Array,
    errors: Array,
    near: Array,
) -> tuple[bool, float]:
    """Go down from `at`, in place; return whether it converged, and ln det of the covariance.

    `errors` become those of z, t0 and amplitude.
    """
    free = z_high > z_low
    step_z = 2e-4
    damping = 1e-3
    z, t0 = at[Z], at[T0]
    chisq, amplitude = np.inf, 0.0
    trial_z, trial_t = z, t0
    h = near[3]
    g0, g1 = 0.0, 0.0
    converged = False
    for i in range(N_STEPS):
        if i == 0 or trial_z != z or free:
            _load(tables, t, bands, n_bands, trial_z, ebv, rows)
        _columns(tables, t, rows, starts, n_bands, trial_z, trial_t, points, True)
        there, scale = _profile(points, n, null)
        if there < chisq:
            damping = max(0.1 * damping, 1e-9)
            z, t0, chisq, amplitude = trial_z, trial_t, there, scale
            for k in range(n):
                points[MZ, k] = 0.0
            if free:
                # A difference in z at fixed times.
                side = step_z if z + step_z <= tables.z_max else -step_z
                _load(tables, t, bands, n_bands, z + side, ebv, beside)
                for k in range(n):
                    points[MZ, k] = points[M, k]
                    points[JT, k] = points[MT, k]
                _columns(tables, t, beside, starts, n_bands, z + side, t0, points, False)
                for k in range(n):
                    here = points[MZ, k]
                    points[MZ, k] = (points[M, k] - here) / side
                    points[M, k] = here
                    points[MT, k] = points[JT, k]
            for c in range(6):
                h[c] = 0.0
            g0, g1 = 0.0, 0.0
            for k in range(n):
                w, m = points[WEIGHT, k], points[M, k]
                residual = points[FLUX, k] - amplitude * m
                d0, d1 = amplitude * points[MT, k], amplitude * points[MZ, k]
                g0 += w * residual * d0
                g1 += w * residual * d1
                h[0] += w * d0 * d0
                h[1] += w * d0 * d1
                h[2] += w * d1 * d1
                h[3] += w * d0 * m
                h[4] += w * d1 * m
                h[5] += w * m * m
        else:
            damping = max(10.0 * damping, 1e-3)
            if damping > 1e9:
                break
        if not h[5] > 0.0:
            break
        # The amplitude follows.
        a = h[0] - h[3] * h[3] / h[5]
        b = h[1] - h[3] * h[4] / h[5]
        d = h[2] - h[4] * h[4] / h[5]
        stay_z = not free or not d > 0.0
        stay_z = stay_z or (z <= z_low and g1 <= 0.0) or (z >= z_high and g1 >= 0.0)
        stay_t = not a > 0.0 or (t0 <= low and g0 <= 0.0) or (t0 >= high and g0 >= 0.0)
        p, q = a * (1.0 + damping), d * (1.0 + damping)
        dt, dz = 0.0, 0.0
        if stay_z and not stay_t:
            dt = g0 / p
        elif stay_t and not stay_z:
            dz = g1 / q
        elif not stay_t:
            det = p * q - b * b
            dt, dz = (q * g0 - b * g1) / det, (p * g1 - b * g0) / det
        promise = dt * g0 + dz * g1
        if (promise < TOLERANCE and damping <= 1e-2) or promise < 1e-3 * TOLERANCE:
            converged = True
            break
        shrink = min(1.0, 20.0 * tables.scan_step[t] / max(abs(dt), 1e-300))
        shrink = min(shrink, 0.05 / max(abs(dz), 1e-300))
        trial_t = min(max(t0 + shrink * dt, low), high)
        trial_z = min(max(z + shrink * dz, z_low), z_high)
    at[CHISQ], at[Z], at[T0], at[AMPLITUDE] = chisq, z, t0, amplitude
    for c in range(3):
        errors[c] = np.nan
    if not h[5] > 0.0 or not amplitude > 0.0:
        return converged, -np.inf
    # Second derivatives of half the profiled chi-square; first ones squared where those are none.
    a = h[0] - h[3] * h[3] / h[5]
    b = h[1] - h[3] * h[4] / h[5]
    d = h[2] - h[4] * h[4] / h[5]
    e = min(0.3 / math.sqrt(a), tables.scan_step[t]) if a > 0.0 else 0.1 * tables.scan_step[t]
    f = min(0.3 / math.sqrt(d), 0.003) if d > 0.0 else 0.0
    z_at = min(max(z, tables.z_min + f), tables.z_max - f)
    for i in range(3):
        if i != 1 and (not free or f == 0.0):
            continue
        if free:
            _load(tables, t, bands, n_bands, z_at + (i - 1) * f, ebv, beside)
        here = beside if free else rows
        if not free:
            _load(tables, t, bands, n_bands, z, ebv, rows)
        for j in range(3):
            _columns(
                tables,
                t,
                here,
                starts,
                n_bands,
                z_at + (i - 1) * f if free else z,
                t0 + (j - 1) * e,
                points,
                False,
            )
            near[i, j] = 0.5 * _profile(points, n, null)[0]
    a2 = (near[1, 0] + near[1, 2] - 2.0 * near[1, 1]) / (e * e)
    if free and f > 0.0:
        d2 = (near[0, 1] + near[2, 1] - 2.0 * near[1, 1]) / (f * f)
        b2 = (near[2, 2] + near[0, 0] - near[2, 0] - near[0, 2]) / (4.0 * e * f)
        if a2 > 0.0 and a2 * d2 - b2 * b2 > 1e-9 * a2 * d2 and d2 > 0.0:
            a, b, d = a2, b2, d2
    elif a2 > 0.0:
        a = a2
    det = a * d - b * b if free else a
    if not (a > 0.0 and det > 1e-12 * (a * d if free else a)):
        return converged, -np.inf
    errors[1] = math.sqrt(d / det) if free else math.sqrt(1.0 / a)
    errors[0] = math.sqrt(a / det) if free else 0.0
    # d amplitude / d (t0, z) along the minimum.
    s, r = -h[3] / h[5], -h[4] / h[5]
    variance = 1.0 / h[5] + s * s * errors[1] ** 2
    if free:
        variance += r * r * errors[0] ** 2 - 2.0 * s * r * b / det
    errors[2] = math.sqrt(max(variance, 1.0 / h[5]))
    return converged, -math.log(det) - math.log(h[5])


#: Room for the derivative by t0 while that by z is made.
JT = 6


@compiled
def _covered(tables: TemplateTables, band: int, z_low: float, z_high: float) -> bool:
    """Whether all templates cover a band at both redshifts."""
    for t in range(len(tables.model_min)):
        for z in (z_low, z_high):
            if tables.band_min[band] < tables.model_min[t] * (1.0 + z):
                return False
            if tables.band_max[band] > tables.model_max[t] * (1.0 + z):
                return False
    return True


@entry_point
def fit_range(
    tables: TemplateTables,
    targets: TemplateTargets,
    points: TemplatePoints,
    min_points: int,
    begin: int,
    end: int,
    out: TemplateOutput,
) -> None:
    """Fit objects `begin` to `end` with all templates, into `out`."""
    n_bands_all = len(tables.band_min)
    size = 1
    for i in range(begin, end):
        size = max(size, points.offsets[i + 1] - points.offsets[i])
    rows = np.zeros((n_bands_all, tables.flux.shape[4]))
    beside = np.zeros((n_bands_all, tables.flux.shape[4]))
    own = np.zeros((7, size))
    bands = np.zeros(n_bands_all, np.int64)
    starts = np.zeros(n_bands_all + 1, np.int64)
    found = np.zeros((N_MINIMA, 4))
    best = np.zeros((N_REDSHIFTS, 3))
    errors = np.zeros(3)
    kept = np.zeros((N_MINIMA, 2))
    near = np.zeros((4, 6))
    for i in range(begin, end):
        z_low, z_high = targets.z_low[i], targets.z_high[i]
        if not (tables.z_min <= z_low <= z_high <= tables.z_max):
            continue
        n, n_bands, last_band = 0, 0, -1
        first, last, null = np.inf, -np.inf, 0.0
        origin = np.inf
        for k in range(points.offsets[i], points.offsets[i + 1]):
            origin = min(origin, points.time[k])
        for k in range(points.offsets[i], points.offsets[i + 1]):
            b = points.band[k]
            if b < 0 or not _covered(tables, b, z_low, z_high):
                continue
            if b != last_band:
                bands[n_bands], starts[n_bands] = b, n
                n_bands += 1
                last_band = b
            own[TIME, n] = points.time[k] - origin
            own[FLUX, n] = points.flux[k]
            own[WEIGHT, n] = points.fluxerr[k] ** -2.0
            null += own[FLUX, n] ** 2 * own[WEIGHT, n]
            first, last = min(first, own[TIME, n]), max(last, own[TIME, n])
            out.used[k] = True
            n += 1
        starts[n_bands] = n
        out.n_points[i] = n
        if n < max(min_points, 1):
            continue
        for t in range(len(tables.model_min)):
            n_found = _scan(
                tables,
                t,
                rows,
                bands,
                starts,
                n_bands,
                n,
                own,
                null,
                z_low,
                z_high,
                targets.ebv[i],
                first,
                last,
                found,
                best,
            )
            if n_found == 0:
                out.chisq[i, t] = null
                continue
            phases = tables.phases[t]
            lowest = np.inf
            n_kept = 0
            duration = phases[tables.n_phases[t] - 1]
            low, high = first - duration * (1.0 + z_low), last - phases[0] * (1.0 + z_high)
            low = min(low, first - duration * (1.0 + z_high))
            high = max(high, last - phases[0] * (1.0 + z_low))
            # Of the amplitude's prior and the ranges of t0 and z.
            prior = math.log(max(high - low, 1e-300)) + math.log(LOG_RANGE)
            dimensions = 2.0
            if z_high > z_low:
                prior += math.log(z_high - z_low)
                dimensions = 3.0
            total, top = 0.0, -np.inf
            for m in range(n_found):
                converged, volume = _refine(
                    tables,
                    t,
                    rows,
                    beside,
                    bands,
                    starts,
                    n_bands,
                    n,
                    own,
                    null,
                    z_low,
                    z_high,
                    targets.ebv[i],
                    low,
                    high,
                    found[m],
                    errors,
                    near,
                )
                if not found[m, AMPLITUDE] > 0.0:
                    continue
                same = False
                for j in range(n_kept):
                    same = same or (
                        abs(kept[j, 0] - found[m, T0]) < SAME_T
                        and abs(kept[j, 1] - found[m, Z]) < SAME_Z
                    )
                if not same:
                    kept[n_kept, 0], kept[n_kept, 1] = found[m, T0], found[m, Z]
                    n_kept += 1
                    part = -0.5 * found[m, CHISQ] + 0.5 * volume - prior
                    part += 0.5 * dimensions * math.log(2.0 * math.pi)
                    part -= math.log(found[m, AMPLITUDE])
                    if part > top:
                        total = total * math.exp(top - part) + 1.0
                        top = part
                    elif part > -np.inf:
                        total += math.exp(part - top)
                if found[m, CHISQ] < lowest:
                    lowest = found[m, CHISQ]
                    out.chisq[i, t] = lowest
                    out.parameters[i, t, 0] = found[m, Z]
                    out.parameters[i, t, 1] = found[m, T0] + origin
                    out.parameters[i, t, 2] = found[m, AMPLITUDE]
                    out.converged[i, t] = converged
                    for c in range(3):
                        out.errors[i, t, c] = errors[c]
            out.log_evidence[i, t] = top + math.log(total) if total > 0.0 else -0.5 * null
