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

from ampel_spark.salt.cost import full_cost, log_determinant, outside_cost
from ampel_spark.salt.doubt import find_errors, in_doubt, last_phase
from ampel_spark.salt.gather import GAP, activate, activate_about, enclose
from ampel_spark.salt.kernel import (
    FLUX,
    HELD,
    HELD_T,
    HELD_Z,
    KNOWN,
    LOWER,
    N_ALL,
    N_FOUND,
    N_REDSHIFTS,
    N_USED,
    PC,
    PT,
    PX1,
    PZ,
    S_ERRORS,
    TIME,
    UPPER,
    V_BEST,
    V_CROSSING,
    V_OTHER,
    V_SIDE,
    V_VALLEY,
    VAR,
    WEIGHT,
    Work,
    collapse,
    copy,
    freeze_covariance,
    load_tables,
    normal_equations,
)
from ampel_spark.salt.maths import compiled
from ampel_spark.salt.options import Settings
from ampel_spark.salt.records import NO_SIGNAL, Output, Points
from ampel_spark.salt.search import descend, evaluate, insert, scan
from ampel_spark.salt.tables import Tables

__all__ = ["RIVAL", "beside", "find_starts", "search", "settle"]

Array = NDArray[np.float64]

#: Starts of an object in doubt beside its best minimum so far: the first ones in t0.
N_BESIDE, N_TIMES = 4, 2
#: Rounds after which a phase range and its t0 are taken not to agree.
ROUNDS = 8
#: Step in t0 of the profile of an object in doubt, rest-frame days.
TIME_STEP = 4.0
#: Another minimum is a rival of the lowest one where it costs more by less than this: odds of 90 to
#: 1 for two likelihoods.
RIVAL = 9.0
#: So many errors of t0 from the minimum a time should cost more than that.
FAR = 4.0


@compiled
def settle(
    tables: Tables,
    settings: Settings,
    points: Points,
    work: Work,
    i: int,
    par: Array,
    limits: Array,
) -> tuple[float, int, bool]:
    """Descend from `par` and, with an iterative phase range, to where range and t0 agree.

    Where they do not agree, a point enters as t0 moves away from it and leaves as t0 comes back:
    then t0 stays on the side of this jump that costs less.

    Returns the cost (`ampel_spark.salt.cost`), steps, convergence. The points in use are those in
    the range about `par`.
    """
    if not (settings.has_phase_range and settings.phase_iterative):
        return descend(tables, settings, work, par, limits)
    n_steps = 0
    activate(settings, points, work, i, par[PZ], par[PT])
    for _ in range(min(settings.max_rounds, ROUNDS)):
        if work.number[N_USED] < settings.min_points or not freeze_covariance(tables, work, par):
            return np.inf, n_steps, False
        chisq, n, converged = descend(tables, settings, work, par, limits)
        n_steps += n
        # A descent that was given up stays so, whatever points another range has.
        if work.number[KNOWN] and not converged and chisq > work.known[0]:
            return np.inf, n_steps, False
        if not activate(settings, points, work, i, par[PZ], par[PT]):
            return full_cost(tables, settings, work, par, limits), n_steps, converged
    if not settings.fitted[PT]:
        return np.inf, n_steps, False
    cost, n, side = _stay_in_range(tables, settings, points, work, i, par, limits)
    n_steps += n
    if side != 0.0:
        best = work.vectors[V_SIDE]
        copy(par, best)
        par[PT] += side
        other, n, _ = _stay_in_range(tables, settings, points, work, i, par, limits)
        n_steps += n
        if not other < cost:
            copy(best, par)
            activate(settings, points, work, i, par[PZ], par[PT])
            freeze_covariance(tables, work, par)
        cost = min(cost, other)
    return cost, n_steps, cost < np.inf


@compiled
def _stay_in_range(
    tables: Tables,
    settings: Settings,
    points: Points,
    work: Work,
    i: int,
    par: Array,
    limits: Array,
) -> tuple[float, int, float]:
    """Descend among the t0 about which the phase range has the points that it has about `par`.

    Returns the cost, steps, and a step in t0 that leads out of these where the descent ended
    at one of their ends, else zero. A redshift is held.
    """
    activate(settings, points, work, i, par[PZ], par[PT])
    if work.number[N_USED] < settings.min_points or not freeze_covariance(tables, work, par):
        return np.inf, 0, 0.0
    low, high = limits[LOWER, PT], limits[UPPER, PT]
    held, known = work.number[HELD], work.number[KNOWN]
    enclose(settings, work, par, limits)
    if settings.fitted[PZ]:
        load_tables(tables, work, par[PZ], False)
    work.number[HELD], work.number[KNOWN] = HELD_Z, 0
    _, n_steps, _ = descend(tables, settings, work, par, limits)
    cost = full_cost(tables, settings, work, par, limits)
    side = 0.0
    if par[PT] <= limits[LOWER, PT] and limits[LOWER, PT] > low:
        side = -3.0 * GAP
    elif par[PT] >= limits[UPPER, PT] and limits[UPPER, PT] < high:
        side = 3.0 * GAP
    work.number[HELD], work.number[KNOWN] = held, known
    limits[LOWER, PT], limits[UPPER, PT] = low, high
    return cost, n_steps, side


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
    out: Output,
) -> None:
    """Starting points for an object in doubt: minima of chi-square against the redshift.

    At each of a row of redshifts t0 and c are sought from the scan's best t0, and from the best of
    the redshifts beside it.
    """
    z_low, z_high = limits[LOWER, PZ], limits[UPPER, PZ]
    profile = work.profile
    n_z = min(max(math.ceil(math.log((1.0 + z_high) / (1.0 + z_low)) / 0.02), 2), N_REDSHIFTS - 1)
    first, last = _scan_phases(tables, settings, z_low)
    par = work.vectors[V_CROSSING]
    best = work.vectors[V_BEST]
    work.number[HELD] = HELD_Z
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
        chisq, n_steps, _ = settle(tables, settings, points, work, i, par, limits)
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
        chisq, n_steps, _ = settle(tables, settings, points, work, i, par, limits)
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
def _profile_times(
    tables: Tables,
    settings: Settings,
    points: Points,
    work: Work,
    i: int,
    limits: Array,
    found: Array,
    out: Output,
) -> int:
    """Starting points for an object in doubt: minima of the cost against t0, c the best at each.

    The scan has one colour alone, and where there is nothing before the maximum a wrong colour
    finds a wrong time. Times at which no significant point is within the model are left out.
    Returns the number of times in `work.profile`.
    """
    first, last = _scan_phases(tables, settings, limits[LOWER, PZ])
    best, par = work.vectors[V_BEST], work.vectors[V_CROSSING]
    stretch = 1.0 + best[PZ]
    cut = settings.has_phase_range and settings.phase_iterative
    low, high = np.inf, -np.inf
    for k in range(work.number[N_ALL]):
        if work.all_points[FLUX, k] > settings.min_snr * math.sqrt(work.all_points[VAR, k]):
            low = min(low, work.all_points[TIME, k])
            high = max(high, work.all_points[TIME, k])
    low = max(low - last * stretch, limits[LOWER, PT])
    high = min(high - first * stretch, limits[UPPER, PT])
    if not low < high:
        return 0
    n = max(min(math.ceil((high - low) / (TIME_STEP * stretch)), len(work.profile) - 1), 1)
    work.number[HELD], work.number[KNOWN], work.number[N_FOUND] = HELD_T, 0, 0
    if not cut:
        activate(settings, points, work, i, 0.0, np.nan)
        freeze_covariance(tables, work, best)
    profile = work.profile
    copy(best, par)
    # Forth, and back where the neighbour's colour is another one.
    for step in range(2 * n + 1):
        m = step if step <= n else 2 * n - step
        par[PT] = low + (high - low) * m / n
        if step > n:
            if abs(profile[m + 1, 3] - profile[m, 3]) < 0.1:
                continue
            par[PC] = profile[m + 1, 3]
        else:
            profile[m, 0] = np.inf
            if not limits[LOWER, PC] < par[PC] < limits[UPPER, PC]:
                par[PC] = best[PC]
            profile[m, 3] = par[PC]
        if cut:
            activate(settings, points, work, i, par[PZ], par[PT])
            if work.number[N_USED] < settings.min_points:
                continue
            if not freeze_covariance(tables, work, par):
                continue
        cost, n_steps, _ = descend(tables, settings, work, par, limits)
        out.counts[i, 9] += n_steps
        if cut:
            cost = full_cost(tables, settings, work, par, limits)
        if cost < profile[m, 0]:
            profile[m, 0], profile[m, 2], profile[m, 3] = cost, par[PT], par[PC]
    work.number[HELD] = 0
    for m in range(n + 1):
        below = m == 0 or profile[m, 0] < profile[m - 1, 0]
        if below and (m == n or profile[m, 0] <= profile[m + 1, 0]) and profile[m, 0] < np.inf:
            insert(work, found, profile[m, 0], par[PZ], profile[m, 2], profile[m, 3])
    return n + 1


@compiled
def _far(par: Array, other: Array) -> bool:
    """Whether two ends of descents are two minima."""
    return (
        abs(par[PT] - other[PT]) > 1.0 + other[PZ]
        or abs(par[PC] - other[PC]) > 0.1
        or abs(par[PX1] - other[PX1]) > 0.5
        or abs(par[PZ] - other[PZ]) > 0.005
    )


@compiled
def _is_odd(
    tables: Tables, settings: Settings, work: Work, par: Array, cost: float, start: float
) -> bool:
    """Whether the end of the first descent is not what the scan promised, or no good fit."""
    if abs(par[PT] - start) > 4.0 * (1.0 + par[PZ]) or abs(par[PC]) > 0.3:
        return True
    outside, excess = outside_cost(tables, settings, work, par)
    # A poor fit, or light outside the phase range that is not this supernova's.
    return cost - outside > 10.0 + 3.0 * work.number[N_USED] or excess > 3.0


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
    """Descend from one starting point, or from several in doubt; leave the best in `par`.

    The lowest of the other minima is left in `work` (V_OTHER, its cost in `known`).
    """
    best, other = work.vectors[V_BEST], work.vectors[V_OTHER]
    copy(par, best)
    best_cost = np.inf
    best_converged = False
    work.known[2] = work.known[3] = work.known[4] = np.inf
    doubt = not settings.fitted[PT]
    n_found = work.number[N_FOUND]
    n_starts, n_rows = 0, 0
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
        work.number[KNOWN] = 1 if best_cost < np.inf else 0
        n_starts += 1
        start = par[PT]
        cost, n_steps, converged = settle(tables, settings, points, work, i, par, limits)
        out.counts[i, 9] += n_steps
        # Lower by more than rounding, so that ties stay with the first. One that came to the best
        # so far ended before its minimum.
        lower = cost < best_cost - 1e-9 * (1.0 + abs(cost))
        if lower and (converged or not best_converged or cost < best_cost - 0.1):
            if best_converged and best_cost < work.known[3] and _far(par, best):
                copy(best, other)
                work.known[3] = best_cost
            best_cost, best_converged = cost, converged
            chisq = cost - outside_cost(tables, settings, work, par)[0]
            if settings.has_phase_range and settings.phase_iterative:
                chisq -= log_determinant(work)
            work.known[0] = cost + (2.0 * RIVAL + chisq if settings.model_covariance else RIVAL)
            work.known[1], work.known[2] = chisq, cost
            copy(par, best)
        elif converged and cost < work.known[3] and _far(par, best):
            copy(par, other)
            work.known[3] = cost
        if n_starts == 1 and settings.fitted[PT]:
            doubt = not cost < np.inf or in_doubt(tables, settings, work, par, limits)
            doubt = doubt or _is_odd(tables, settings, work, par, cost, start)
            # Noise has minima without end, and none that means anything.
            doubt = doubt and out.flags[i] & NO_SIGNAL == 0
            if doubt:
                if settings.fitted[PZ]:
                    _profile_redshifts(tables, settings, points, work, i, limits, found, out)
                    profiled = True
                else:
                    n_rows = _profile_times(tables, settings, points, work, i, limits, found, out)
                n_found = work.number[N_FOUND]
                k = -1
    work.number[KNOWN] = 0
    out.counts[i, 7] = n_starts
    copy(best, par)
    if n_rows > 0:
        _find_valley(tables, settings, points, work, i, limits, n_rows)
    return best_cost, best_converged


@compiled
def _find_valley(
    tables: Tables,
    settings: Settings,
    points: Points,
    work: Work,
    i: int,
    limits: Array,
    n_rows: int,
) -> None:
    """Leave the far end of a valley without a barrier in `work`, where there is one.

    That is the best of the times that cost hardly more than the minimum, though they are several
    errors from it: errors from the second derivatives are then too small.
    """
    best, profile = work.vectors[V_BEST], work.profile
    at = work.vectors[V_CROSSING]
    copy(best, at)
    activate_about(settings, points, work, i, at)
    freeze_covariance(tables, work, at)
    evaluate(tables, settings, work, at, limits)
    normal_equations(settings, work, at, limits)
    errors = work.matrices[S_ERRORS]
    away = 1.0
    if find_errors(settings, work, work.equations, errors):
        away = max(1.0, FAR * math.sqrt(errors[PT, PT]))
    lowest, m = work.known[2] + RIVAL, -1
    for k in range(n_rows):
        if abs(profile[k, 2] - best[PT]) > away and profile[k, 0] < lowest:
            lowest, m = profile[k, 0], k
    if m >= 0:
        at[PT], at[PC] = profile[m, 2], profile[m, 3]
        activate_about(settings, points, work, i, at)
        freeze_covariance(tables, work, at)
        evaluate(tables, settings, work, at, limits)
        copy(at, work.vectors[V_VALLEY])
        work.known[4] = max(lowest, work.known[2])
