"""Starting points of a fit, and descents from them.

A single descent finds a wrong minimum for light curves that leave t0 open (rise or decline only,
few points) and where points lie at an edge of the model, beyond which its flux is zero. Such an
object, in doubt after the first descent, is given more starts: the scan's other minima, and t0 and
colour to either side of the best minimum so far.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.doubt import in_doubt, last_phase
from ampel_spark.salt.gather import activate
from ampel_spark.salt.kernel import (
    FLUX,
    HELD,
    KNOWN,
    LOWER,
    N_FOUND,
    N_USED,
    PC,
    PT,
    PZ,
    UPPER,
    V_BEST,
    V_CROSSING,
    VAR,
    WEIGHT,
    Work,
    collapse,
    copy,
    freeze_covariance,
    load_tables,
)
from ampel_spark.salt.maths import compiled
from ampel_spark.salt.options import Settings
from ampel_spark.salt.records import NO_SIGNAL, Output, Points
from ampel_spark.salt.search import descend, insert, scan
from ampel_spark.salt.tables import Tables

__all__ = ["beside", "find_starts", "search"]

Array = NDArray[np.float64]

#: Starts of an object in doubt beside its best minimum so far: the first ones in t0.
N_BESIDE, N_TIMES = 4, 2


@compiled
def _null_chisq(work: Work) -> float:
    """Chi-square of the points in use if there were no model flux, errors independent."""
    s = 0.0
    for k in range(work.number[N_USED]):
        s += work.points[FLUX, k] ** 2 / work.points[VAR, k]
    return s


@compiled
def _settle(
    tables: Tables,
    settings: Settings,
    points: Points,
    work: Work,
    i: int,
    par: Array,
    limits: Array,
    null: float,
) -> tuple[float, int, bool]:
    """Descend from `par` and, with an iterative phase range, to where range and t0 agree.

    Returns chi-square with points outside the range as without model flux, steps, convergence.
    """
    cut = settings.has_phase_range and settings.phase_iterative
    n_steps = 0
    chisq = np.inf
    converged = False
    if cut:
        activate(settings, points, work, i, par[PZ], par[PT])
    for _ in range(settings.max_rounds):
        if work.number[N_USED] < settings.min_points:
            return np.inf, n_steps, False
        if cut and not freeze_covariance(tables, work, par):
            return np.inf, n_steps, False
        if work.number[KNOWN]:
            work.known[0] = work.known[1]
            if cut:
                work.known[0] -= null - _null_chisq(work)
        chisq, n, converged = descend(tables, settings, work, par, limits)
        n_steps += n
        # A descent that was given up stays so, whatever points another range has.
        if not cut or (work.number[KNOWN] and not converged and chisq > work.known[0]):
            break
        if not activate(settings, points, work, i, par[PZ], par[PT]):
            break
        converged = False
    if cut:
        if work.number[N_USED] < settings.min_points or not freeze_covariance(tables, work, par):
            return np.inf, n_steps, False
        chisq += null - _null_chisq(work)
    return chisq, n_steps, converged


@compiled
def _scan_phases(tables: Tables, settings: Settings, z_low: float) -> tuple[float, float]:
    """First and last phase of a scan."""
    first, last = tables.phase_start, last_phase(tables)
    if settings.has_phase_range and settings.phase_iterative:
        stretch = 1.0 + z_low if settings.phase_observer else 1.0
        first = max(first, settings.phase_min / stretch)
        last = min(last, settings.phase_max / stretch)
    return first, last


@compiled
def find_starts(
    tables: Tables, settings: Settings, work: Work, par: Array, limits: Array, found: Array
) -> None:
    """Starting points for all of the object's points: minima of scans in t0, over redshifts."""
    for k in range(work.number[N_USED]):
        work.points[WEIGHT, k] = 1.0 / work.points[VAR, k]
    z_low, z_high = limits[LOWER, PZ], limits[UPPER, PZ]
    n_z = 1
    if settings.fitted[PZ]:
        n_z = min(max(math.ceil(math.log((1.0 + z_high) / (1.0 + z_low)) / 0.04), 1), 8)
    first, last = _scan_phases(tables, settings, z_low)
    work.number[N_FOUND] = 0
    for m in range(n_z):
        z = par[PZ]
        if settings.fitted[PZ]:
            z = z_low + (z_high - z_low) * (m + 0.5) / n_z
        load_tables(tables, work, z, False)
        if settings.fitted[PT]:
            collapse(work, par[PC], False)
            scan(tables, settings, work, z, par, limits, first, last, found)
        else:
            found[m, 0] = 0.0
            found[m, 1] = z
            found[m, 2] = par[PT]
            found[m, 3] = par[PC]
            work.number[N_FOUND] = m + 1
    # Where the scan sees no signal at all, there is no minimum: any time is as good.
    if work.number[N_FOUND] == 0:
        found[0, 1] = 0.5 * (z_low + z_high)
        found[0, 2] = 0.5 * (limits[LOWER, PT] + limits[UPPER, PT])
        found[0, 3] = par[PC]
        work.number[N_FOUND] = 1


@compiled
def _profile_redshifts(
    tables: Tables,
    settings: Settings,
    points: Points,
    work: Work,
    i: int,
    limits: Array,
    found: Array,
    null: float,
    out: Output,
) -> None:
    """Starting points for an object in doubt: minima of chi-square against the redshift.

    At each of a row of redshifts t0 and c are sought from the scan's best t0, and from the best of
    the redshifts beside it.
    """
    z_low, z_high = limits[LOWER, PZ], limits[UPPER, PZ]
    profile = work.profile
    n_z = min(max(math.ceil(math.log((1.0 + z_high) / (1.0 + z_low)) / 0.02), 2), len(profile) - 1)
    first, last = _scan_phases(tables, settings, z_low)
    par = work.vectors[V_CROSSING]
    best = work.vectors[V_BEST]
    work.number[HELD] = 1
    work.number[KNOWN] = 0
    for m in range(n_z + 1):
        z = z_low + (z_high - z_low) * m / n_z
        load_tables(tables, work, z, False)
        copy(best, par)
        collapse(work, par[PC], False)
        if settings.has_phase_range and settings.phase_iterative:
            activate(settings, points, work, i, 0.0, np.nan)
        for k in range(work.number[N_USED]):
            work.points[WEIGHT, k] = 1.0 / work.points[VAR, k]
        work.number[N_FOUND] = 0
        scan(tables, settings, work, z, par, limits, first, last, found)
        profile[m, 1] = z
        freeze_covariance(tables, work, par)
        copy(best, par)
        par[PZ] = z
        if work.number[N_FOUND] > 0:
            par[PT] = found[0, 2]
        chisq, n_steps, _ = _settle(tables, settings, points, work, i, par, limits, null)
        out.counts[i, 9] += n_steps
        profile[m, 0], profile[m, 2], profile[m, 3] = chisq, par[PT], par[PC]
    # Neighbours in one valley have nearly the same t0 and c: where not, from one to the next.
    for k in range(2 * n_z):
        m, side = (k + 1, k) if k < n_z else (2 * n_z - 1 - k, 2 * n_z - k)
        if (
            abs(profile[side, 2] - profile[m, 2]) < 1.0
            and abs(profile[side, 3] - profile[m, 3]) < 0.1
        ):
            continue
        copy(best, par)
        par[PZ], par[PT], par[PC] = profile[m, 1], profile[side, 2], profile[side, 3]
        load_tables(tables, work, par[PZ], False)
        chisq, n_steps, _ = _settle(tables, settings, points, work, i, par, limits, null)
        out.counts[i, 9] += n_steps
        if chisq < profile[m, 0]:
            profile[m, 0], profile[m, 2], profile[m, 3] = chisq, par[PT], par[PC]
    work.number[HELD] = 0
    work.number[N_FOUND] = 0
    for m in range(n_z + 1):
        below = m == 0 or profile[m, 0] < profile[m - 1, 0]
        if below and (m == n_z or profile[m, 0] <= profile[m + 1, 0]):
            insert(work, found, profile[m, 0], profile[m, 1], profile[m, 2], profile[m, 3])


@compiled
def beside(best: Array, side: int, limits: Array, par: Array) -> None:
    """Put a start beside the best minimum so far: in t0, and in colour."""
    copy(best, par)
    if side < N_TIMES:
        par[PT] += (10.0 * side - 5.0) * (1.0 + best[PZ])
    else:
        par[PC] += 0.5 - (side - N_TIMES)
    for p in (PT, PC):
        par[p] = min(max(par[p], limits[LOWER, p]), limits[UPPER, p])


@compiled
def search(
    tables: Tables,
    settings: Settings,
    points: Points,
    work: Work,
    i: int,
    par: Array,
    limits: Array,
    found: Array,
    out: Output,
) -> tuple[float, bool]:
    """Descend from one starting point, or from several in doubt; leave the best in `par`."""
    best = work.vectors[V_BEST]
    copy(par, best)
    best_chisq = np.inf
    best_converged = False
    null = _null_chisq(work)
    doubt = not settings.fitted[PT]
    n_found = work.number[N_FOUND]
    n_starts = 0
    profiled = False
    k = -1
    while n_starts < settings.max_starts:
        k += 1
        # With the redshift free each descent is long, and most lead to the same valley.
        if settings.fitted[PZ] and n_starts >= (8 if doubt else 3):
            break
        if k < n_found:
            # The scan's minima: the first always; the others in doubt, or where nearly as good.
            far = found[k, 0] > found[0, 0] * 0.97 + 10.0 or out.flags[i] & NO_SIGNAL != 0
            if k > 0 and not doubt and far:
                continue
            # Of neighbouring redshifts, the valley that the best minimum is in.
            near = abs(found[k, 1] - best[PZ]) < 0.05 and not profiled
            near = near and abs(found[k, 2] - best[PT]) < 8.0 * (1.0 + best[PZ])
            if k > 0 and settings.fitted[PZ] and settings.fitted[PT] and near:
                continue
            par[PZ], par[PT], par[PC] = found[k, 1], found[k, 2], found[k, 3]
        elif doubt and k < n_found + N_BESIDE:
            beside(best, k - n_found, limits, par)
        else:
            break
        # A later start may end where it comes to the best so far.
        work.number[KNOWN] = 0 if n_starts == 0 else 1
        n_starts += 1
        chisq, n_steps, converged = _settle(tables, settings, points, work, i, par, limits, null)
        out.counts[i, 9] += n_steps
        # Lower by more than rounding, so that ties stay with the first.
        if chisq < best_chisq - 1e-9 * (1.0 + abs(chisq)):
            best_chisq, best_converged = chisq, converged
            work.known[1] = chisq
            copy(par, best)
        if n_starts == 1 and settings.fitted[PT]:
            doubt = not chisq < np.inf or in_doubt(tables, settings, work, par, limits)
            # Noise has minima without end, and none that means anything.
            doubt = doubt and out.flags[i] & NO_SIGNAL == 0
            if doubt and settings.fitted[PZ]:
                _profile_redshifts(tables, settings, points, work, i, limits, found, null, out)
                n_found = work.number[N_FOUND]
                profiled = True
                k = -1
    work.number[KNOWN] = 0
    out.counts[i, 7] = n_starts
    copy(best, par)
    return best_chisq, best_converged
