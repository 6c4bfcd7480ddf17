"""From raw arrays to fitted parameters, object by object: compiled code.

Each object is fitted by itself, from its own points alone, in one thread: its result does not
depend on the batch it is in, nor on the number of threads, bit for bit.

Order of work for one object: usable points, sorted by band and time; starting points
(`search.scan`); descents from them with the errors of the data alone, and with an iterative phase
range each to the point where range and t0 agree; then rounds with the model's covariance, frozen
at the last round's parameters; then the matrix of second derivatives and, with it, one last Newton
step.

A single descent finds a wrong minimum for light curves that leave t0 open (rise or decline only,
few points) and where points lie at an edge of the model, beyond which its flux is zero. Such an
object, in doubt after the first descent, is given more starts: the scan's other minima, and t0 and
colour to either side of the best minimum so far.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.cache import compiled, entry_point
from ampel_spark.salt.gather import activate, gather, inside
from ampel_spark.salt.kernel import (
    BAND,
    DENSE,
    DUST,
    FLUX,
    GRADIENT,
    HELD,
    I_FITTED,
    KNOWN,
    LOWER,
    M0,
    M1,
    MEAN,
    MODEL_ERROR,
    N_ALL,
    N_BANDS,
    N_FOUND,
    N_USED,
    PC,
    PRIOR,
    PT,
    PX0,
    PX1,
    PZ,
    S_EQUATIONS,
    S_ERRORS,
    S_HESSIAN,
    S_SCALED,
    S_SCALED_INVERSE,
    START,
    TIME,
    UPPER,
    V_BEST,
    V_CROSSED,
    V_CROSSING,
    V_LAST,
    V_NEWTON,
    V_NORM,
    V_PAR,
    VAR,
    WEIGHT,
    Work,
    collapse,
    columns,
    copy,
    freeze_covariance,
    invert,
    load_tables,
    make_work,
    normal_equations,
    zero,
)
from ampel_spark.salt.options import Settings, Targets
from ampel_spark.salt.records import (
    AT_BOUND,
    BAD_COVARIANCE,
    BAD_REDSHIFT,
    MODEL_EDGE,
    NO_ERRORS,
    NO_HESSIAN,
    NO_SIGNAL,
    NOT_CONVERGED,
    POOR_COVERAGE,
    TOO_FEW_POINTS,
    Output,
    Points,
)
from ampel_spark.salt.search import descend, evaluate, hessian, insert, prior_chisq, scan
from ampel_spark.salt.tables import REFERENCE_ZP, Tables

__all__ = ["fit_range", "make_work", "predict_range"]

Array = NDArray[np.float64]

#: Largest number of points at the model's edges at which `_cross_edges` looks.
CROSSINGS = 8
#: How often it looks anew from a lower minimum that it found.
CROSSING_ROUNDS = 3
#: A redshift with a smaller error than this has one minimum.
SURE_REDSHIFT = 0.015
#: Starts of an object in doubt beside its best minimum so far: the first ones in t0.
N_BESIDE, N_TIMES = 4, 2
#: Rounds after which the covariance is taken at the middle of the last two rounds' parameters.
TO_AND_FRO = 4


@compiled
def _errors(settings: Settings, work: Work, matrix: Array, out: Array) -> bool:
    """Covariance of the fitted parameters from a matrix of second derivatives; zero elsewhere."""
    index = work.lists[I_FITTED]
    n = 0
    for k in range(matrix.shape[1]):
        if settings.fitted[k]:
            index[n] = k
            n += 1
    scaled = work.matrices[S_SCALED]
    inverse = work.matrices[S_SCALED_INVERSE]
    norm = work.vectors[V_NORM]
    for i in range(n):
        value = matrix[index[i], index[i]]
        if not value > 0.0:
            return False
        norm[i] = 1.0 / math.sqrt(value)
    for i in range(n):
        for j in range(n):
            scaled[i, j] = matrix[index[i], index[j]] * norm[i] * norm[j]
    if not invert(work, scaled, n, inverse):
        return False
    for i in range(matrix.shape[1]):
        zero(out[i])
    for i in range(n):
        for j in range(n):
            value = 0.5 * (inverse[i, j] + inverse[j, i]) * norm[i] * norm[j]
            if not math.isfinite(value):
                return False
            out[index[i], index[j]] = value
    return True


@compiled
def _last_phase(tables: Tables) -> float:
    return tables.phase_start + tables.phase_step * (tables.n_phases - 1)


@compiled
def _near_edge(tables: Tables, work: Work, par: Array) -> bool:
    """Whether a point in use lies within three days of the model's first or last phase."""
    first, last = tables.phase_start, _last_phase(tables)
    for k in range(work.number[N_USED]):
        phase = (work.points[TIME, k] - par[PT]) / (1.0 + par[PZ])
        if abs(phase - first) < 3.0 or abs(phase - last) < 3.0:
            return True
    return False


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
def _in_doubt(tables: Tables, settings: Settings, work: Work, par: Array, limits: Array) -> bool:
    """Whether a minimum may not be the lowest one: `work` is as `descend` left it."""
    for k in (PX1, PC):
        if settings.fitted[k] and not limits[LOWER, k] < par[k] < limits[UPPER, k]:
            return True
    if not settings.fitted[PT]:
        return False
    errors = work.matrices[S_ERRORS]
    if not _errors(settings, work, work.equations, errors):
        return True
    if settings.fitted[PZ] and errors[PZ, PZ] > SURE_REDSHIFT**2:
        return True
    stretch = 1.0 + par[PZ]
    error = math.sqrt(errors[PT, PT]) / stretch
    loose = 0.3 if settings.fitted[PZ] else 0.15
    if error > 0.7 or (settings.fitted[PC] and errors[PC, PC] > loose**2):
        return True
    before = 0
    after = 0
    first = tables.phase_start
    last = _last_phase(tables)
    reach = 4.0 * error + 0.5
    for k in range(work.number[N_USED]):
        phase = (work.points[TIME, k] - par[PT]) / stretch
        at_edge = abs(phase - first) < reach or abs(phase - last) < reach
        if at_edge and work.points[FLUX, k] ** 2 > 9.0 * work.points[VAR, k]:
            return True
        if -20.0 < phase < -1.0:
            before += 1
        elif 5.0 < phase < 40.0:
            after += 1
    # Without points on the decline (or the rise), the same data fit more than one time.
    return before < 2 or after < 2


@compiled
def _set_limits(
    tables: Tables,
    settings: Settings,
    targets: Targets,
    work: Work,
    i: int,
    par: Array,
    limits: Array,
    origin: float,
) -> None:
    """Bounds, priors and first values of object `i`; times count from `origin`."""
    row = i if len(targets.lower) > 1 else 0
    prior_row = i if len(targets.prior_mean) > 1 else 0
    for k in range(par.size):
        limits[LOWER, k] = targets.lower[row, k]
        limits[UPPER, k] = targets.upper[row, k]
        limits[MEAN, k] = targets.prior_mean[prior_row, k]
        limits[PRIOR, k] = targets.prior_weight[prior_row, k]
        par[k] = targets.fixed[i, k]
    if settings.fitted[PT]:
        first = tables.phase_start
        last = _last_phase(tables)
        stretch = 1.0 + (limits[UPPER, PZ] if settings.fitted[PZ] else par[PZ])
        latest = 0.0
        for k in range(work.number[N_ALL]):
            latest = max(latest, work.all_points[TIME, k])
        limits[MEAN, PT] -= origin
        if math.isnan(limits[LOWER, PT]):
            limits[LOWER, PT] = -last * stretch
            limits[UPPER, PT] = latest - first * stretch
        else:
            limits[LOWER, PT] -= origin
            limits[UPPER, PT] -= origin
    else:
        par[PT] -= origin
    for k in range(par.size):
        if not settings.fitted[k]:
            limits[LOWER, k] = par[k]
            limits[UPPER, k] = par[k]
            limits[PRIOR, k] = 0.0
    for k in (PC, PX1):
        if settings.fitted[k]:
            guess = limits[MEAN, k] if limits[PRIOR, k] > 0.0 else 0.0
            par[k] = min(max(guess, limits[LOWER, k]), limits[UPPER, k])
    if settings.fitted[PX0]:
        par[PX0] = min(max(1e-4, limits[LOWER, PX0]), limits[UPPER, PX0])


@compiled
def _scan_phases(tables: Tables, settings: Settings, z_low: float) -> tuple[float, float]:
    """First and last phase of a scan."""
    first, last = tables.phase_start, _last_phase(tables)
    if settings.has_phase_range and settings.phase_iterative:
        stretch = 1.0 + z_low if settings.phase_observer else 1.0
        first = max(first, settings.phase_min / stretch)
        last = min(last, settings.phase_max / stretch)
    return first, last


@compiled
def _find_starts(
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
def _beside(best: Array, side: int, limits: Array, par: Array) -> None:
    """Put a start beside the best minimum so far: in t0, and in colour."""
    copy(best, par)
    if side < N_TIMES:
        par[PT] += (10.0 * side - 5.0) * (1.0 + best[PZ])
    else:
        par[PC] += 0.5 - (side - N_TIMES)
    for p in (PT, PC):
        par[p] = min(max(par[p], limits[LOWER, p]), limits[UPPER, p])


@compiled
def _search(
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
            _beside(best, k - n_found, limits, par)
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
            doubt = not chisq < np.inf or _in_doubt(tables, settings, work, par, limits)
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


@compiled
def _cross_edges(
    tables: Tables, settings: Settings, work: Work, par: Array, limits: Array, out: Output, i: int
) -> tuple[float, bool]:
    """Look for a lower minimum where a point enters or leaves the model; `par` is the best so far.

    The model's flux ends in a jump at its first and last phase, and so does chi-square, as a
    function of t0, wherever a point is there: a descent ends before it. Returns chi-square and
    whether a descent converged.
    """
    chisq = evaluate(tables, settings, work, par, limits)
    converged = True
    best = work.vectors[V_CROSSED]
    trial = work.vectors[V_CROSSING]
    covariance = work.matrices[S_ERRORS]
    for _ in range(CROSSING_ROUNDS):
        evaluate(tables, settings, work, par, limits)
        normal_equations(settings, work, par, limits)
        known = _errors(settings, work, work.equations, covariance)
        before = chisq
        copy(par, best)
        n_tried = 0
        for edge in (tables.phase_start, _last_phase(tables)):
            # The least chi-square at which a phase is moved: along its own covariance with others.
            error = 0.0
            if known:
                error = covariance[PT, PT]
                if settings.fitted[PZ]:
                    error += edge * (2.0 * covariance[PT, PZ] + edge * covariance[PZ, PZ])
                error = math.sqrt(max(error, 0.0))
            reach = 1.0 + par[PZ]
            if known:
                reach = min(4.0 * error + 0.05 * reach, 3.0 * reach)
            for k in range(work.number[N_USED]):
                gap = work.points[TIME, k] - par[PT] - edge * (1.0 + par[PZ])
                if abs(gap) > reach or n_tried >= CROSSINGS:
                    continue
                n_tried += 1
                for side in (-1e-6, 1e-6):
                    copy(par, trial)
                    if error > 0.0:
                        share = gap / error**2
                        for p in (PZ, PC):
                            move = covariance[p, PT] + edge * covariance[p, PZ]
                            trial[p] = par[p] + share * move
                            trial[p] = min(max(trial[p], limits[LOWER, p]), limits[UPPER, p])
                    trial[PT] = work.points[TIME, k] - edge * (1.0 + trial[PZ]) + side
                    trial[PT] = min(max(trial[PT], limits[LOWER, PT]), limits[UPPER, PT])
                    if evaluate(tables, settings, work, trial, limits) > chisq + 4.0:
                        continue
                    lower, n_steps, ended = descend(tables, settings, work, trial, limits)
                    out.counts[i, 9] += n_steps
                    if lower < chisq - 1e-9 * (1.0 + abs(chisq)):
                        chisq, converged = lower, ended
                        copy(trial, best)
        copy(best, par)
        if not chisq < before - 0.01:
            break
    return chisq, converged


@compiled
def _covariance_rounds(
    tables: Tables,
    settings: Settings,
    points: Points,
    work: Work,
    i: int,
    par: Array,
    limits: Array,
    out: Output,
) -> tuple[bool, bool]:
    """Descend with the model's covariance at the last parameters, until they stay.

    Where they go to and fro, the covariance is taken at the middle.
    Returns whether the covariances were positive definite, and whether it came to an end.
    """
    cut = settings.has_phase_range and settings.phase_iterative
    last = work.vectors[V_LAST]
    covariance = work.matrices[S_ERRORS]
    copy(par, last)
    for n_round in range(1, settings.max_rounds + 1):
        out.counts[i, 8] = n_round
        for k in range(par.size):
            last[k] = 0.5 * (last[k] + par[k]) if n_round > TO_AND_FRO else par[k]
        if settings.fitted[PZ]:
            load_tables(tables, work, last[PZ], settings.fitted[PZ])
        collapse(work, last[PC], settings.fitted[PZ])
        if not freeze_covariance(tables, work, last):
            return False, False
        _, n_steps, converged = descend(tables, settings, work, par, limits)
        out.counts[i, 9] += n_steps
        again = not _errors(settings, work, work.equations, covariance)
        for k in range(par.size):
            moved = abs(par[k] - last[k])
            if settings.fitted[k] and moved > settings.covariance_tolerance * math.sqrt(
                covariance[k, k]
            ):
                again = True
        if n_round == settings.max_rounds:
            return True, converged and not again
        # Weights belong to a set of points: a new set asks for a new round.
        if cut and activate(settings, points, work, i, par[PZ], par[PT]):
            again = True
        if not again:
            return True, converged
    return True, False


@compiled
def _walk_redshifts(
    tables: Tables, settings: Settings, work: Work, i: int, par: Array, limits: Array, out: Output
) -> bool:
    """Look for a lower minimum at other redshifts, weights as they are; whether there is one.

    From the best redshift so far up and down, t0 and c from one redshift to the next.
    """
    chisq = evaluate(tables, settings, work, par, limits)
    normal_equations(settings, work, par, limits)
    errors = work.matrices[S_ERRORS]
    if _errors(settings, work, work.equations, errors) and errors[PZ, PZ] < SURE_REDSHIFT**2:
        return False
    z_low, z_high = limits[LOWER, PZ], limits[UPPER, PZ]
    profile = work.profile
    n_z = min(max(math.ceil(math.log((1.0 + z_high) / (1.0 + z_low)) / 0.02), 2), len(profile) - 1)
    middle = min(max(round((par[PZ] - z_low) / (z_high - z_low) * n_z), 0), n_z)
    trial = work.vectors[V_CROSSING]
    best = work.vectors[V_CROSSED]
    work.number[HELD] = 1
    for k in range(n_z + 1):
        m = middle + k if k <= n_z - middle else n_z - k
        if k == 0 or k == n_z - middle + 1:
            copy(par, trial)
        trial[PZ] = z_low + (z_high - z_low) * m / n_z
        load_tables(tables, work, trial[PZ], False)
        profile[m, 0], n_steps, _ = descend(tables, settings, work, trial, limits)
        profile[m, 1], profile[m, 2], profile[m, 3] = trial[PZ], trial[PT], trial[PC]
        out.counts[i, 9] += n_steps
    work.number[HELD] = 0
    copy(par, best)
    lowest = chisq - 0.02
    for m in range(n_z + 1):
        below = m == 0 or profile[m, 0] < profile[m - 1, 0]
        if not (below and (m == n_z or profile[m, 0] <= profile[m + 1, 0])):
            continue
        if profile[m, 0] > chisq + 10.0:
            continue
        copy(par, trial)
        trial[PZ], trial[PT], trial[PC] = profile[m, 1], profile[m, 2], profile[m, 3]
        lower, n_steps, _ = descend(tables, settings, work, trial, limits)
        out.counts[i, 9] += n_steps
        if lower < lowest:
            lowest = lower
            copy(trial, best)
    copy(best, par)
    return lowest < chisq - 0.02


@compiled
def _look_beside(
    tables: Tables, settings: Settings, work: Work, i: int, par: Array, limits: Array, out: Output
) -> float:
    """Look for a lower minimum at other times, weights as they are; return by how much.

    The model's covariance lifts one minimum more than another: of an object in doubt, that which
    was lowest without it need not be so with it.
    """
    chisq = evaluate(tables, settings, work, par, limits)
    normal_equations(settings, work, par, limits)
    if not _in_doubt(tables, settings, work, par, limits):
        return 0.0
    trial = work.vectors[V_CROSSING]
    best = work.vectors[V_CROSSED]
    copy(par, best)
    copy(par, work.vectors[V_BEST])
    lowest = chisq - 0.02
    work.known[0] = work.known[1] = chisq
    work.number[KNOWN] = 1
    for side in range(N_TIMES):
        _beside(par, side, limits, trial)
        lower, n_steps, _ = descend(tables, settings, work, trial, limits)
        out.counts[i, 9] += n_steps
        if lower < lowest:
            lowest = lower
            copy(trial, best)
    work.number[KNOWN] = 0
    copy(best, par)
    return chisq - lowest if lowest < chisq - 0.02 else 0.0


@compiled
def _try_beside(
    tables: Tables,
    settings: Settings,
    points: Points,
    work: Work,
    i: int,
    par: Array,
    limits: Array,
    out: Output,
    converged: bool,
) -> tuple[bool, bool]:
    """Go to lower minima beside, each with its own covariance; returns as `_covariance_rounds`.

    Each of two minima may be the higher one under its own covariance: then that counts which is
    higher by less.
    """
    before = work.vectors[V_NEWTON]
    good = True
    for _ in range(2):
        copy(par, before)
        gain = _look_beside(tables, settings, work, i, par, limits, out)
        if gain == 0.0:
            break
        good, converged = _covariance_rounds(tables, settings, points, work, i, par, limits, out)
        if not good:
            break
        trial = work.vectors[V_CROSSING]
        copy(before, trial)
        loss = evaluate(tables, settings, work, par, limits)
        loss -= evaluate(tables, settings, work, trial, limits)
        if loss > gain:
            copy(before, par)
            good, converged = _covariance_rounds(
                tables, settings, points, work, i, par, limits, out
            )
            break
    return good, converged


@compiled
def _finish(
    tables: Tables,
    settings: Settings,
    work: Work,
    i: int,
    par: Array,
    limits: Array,
    out: Output,
) -> None:
    """Errors from the second derivatives, and one Newton step with the same matrix."""
    chisq = evaluate(tables, settings, work, par, limits)
    normal_equations(settings, work, par, limits)
    equations = work.matrices[S_EQUATIONS]
    newton = work.vectors[V_NEWTON]
    for k in range(par.size):
        copy(work.equations[k], equations[k])
    copy(work.equations[GRADIENT], work.vectors[V_LAST])
    matrix = work.matrices[S_HESSIAN]
    covariance = out.covariance[i]
    hessian(tables, settings, work, par, limits, matrix)
    if _errors(settings, work, matrix, covariance):
        trial = newton
        copy(par, trial)
        feasible = True
        for k in (PZ, PT, PC):
            for m in range(par.size):
                if settings.fitted[m]:
                    trial[k] += covariance[k, m] * work.vectors[V_LAST, m]
            feasible = feasible and limits[LOWER, k] <= trial[k] <= limits[UPPER, k]
        if feasible and evaluate(tables, settings, work, trial, limits) < chisq:
            copy(trial, par)
    elif _errors(settings, work, equations, covariance):
        out.flags[i] |= NO_HESSIAN
    else:
        out.flags[i] |= NO_ERRORS
        for k in range(par.size):
            for m in range(par.size):
                covariance[k, m] = np.nan
    chisq = evaluate(tables, settings, work, par, limits)
    out.prior_chisq[i] = prior_chisq(par, limits)
    out.chisq[i] = chisq - out.prior_chisq[i]


@compiled
def _judge(
    tables: Tables,
    settings: Settings,
    points: Points,
    work: Work,
    i: int,
    par: Array,
    limits: Array,
    converged: bool,
    out: Output,
) -> None:
    """Counts and flags of a finished fit."""
    stretch = 1.0 + par[PZ]
    first = tables.phase_start
    last = _last_phase(tables)
    reach = 0.0
    if settings.fitted[PT]:
        error = math.sqrt(out.covariance[i, PT, PT]) / stretch
        reach = 3.0 * error if error < 5.0 else 15.0
    low, high = np.inf, -np.inf
    near = 0
    edge = False
    for b in range(work.number[N_BANDS]):
        for k in range(work.layout[START, b], work.layout[START, b + 1]):
            phase = (work.points[TIME, k] - par[PT]) / stretch
            out.used[work.order[k]] = True
            out.points_by_band[i, work.layout[BAND, b]] += 1
            out.counts[i, 0] += 1
            if first <= phase <= last:
                low, high = min(low, phase), max(high, phase)
                if phase < 0.0:
                    out.counts[i, 1] += 1
                else:
                    out.counts[i, 2] += 1
                if abs(phase) <= 10.0:
                    near += 1
            if work.points[FLUX, k] ** 2 > 9.0 * work.points[VAR, k]:
                # A point whose model flux may jump within the error of t0, or that has none.
                edge = edge or abs(phase - first) < reach or abs(phase - last) < reach
                edge = edge or phase > last
    if low <= high:
        out.phases[i, 0], out.phases[i, 1] = low, high
    flags = out.flags[i]
    for k in range(par.size):
        if settings.fitted[k] and not limits[LOWER, k] < par[k] < limits[UPPER, k]:
            flags |= AT_BOUND
    if edge:
        flags |= MODEL_EDGE
    if out.counts[i, 1] == 0 or out.counts[i, 2] == 0 or near == 0:
        flags |= POOR_COVERAGE
    if not converged and not edge:
        flags |= NOT_CONVERGED
    out.flags[i] = flags


@compiled
def _fit_object(
    tables: Tables,
    settings: Settings,
    targets: Targets,
    points: Points,
    work: Work,
    i: int,
    out: Output,
) -> int:
    """Fit object `i` into `out`; return zero or the reason of a refusal."""
    par, limits, found = work.vectors[V_PAR], work.limits, work.found
    row = i if len(targets.lower) > 1 else 0
    z_low = targets.lower[row, PZ] if settings.fitted[PZ] else targets.fixed[i, PZ]
    z_high = targets.upper[row, PZ] if settings.fitted[PZ] else targets.fixed[i, PZ]
    if not (z_low >= tables.z_min and z_high <= tables.z_max and z_low <= z_high):
        return BAD_REDSHIFT
    origin = gather(tables, settings, targets, points, work, i, z_low, z_high, out)
    if work.number[N_ALL] < max(settings.min_points, 1):
        return TOO_FEW_POINTS
    _set_limits(tables, settings, targets, work, i, par, limits, origin)
    work.number[N_USED] = 0
    activate(settings, points, work, i, 0.0, np.nan)
    _find_starts(tables, settings, work, par, limits, found)
    work.number[MODEL_ERROR] = 0
    if not freeze_covariance(tables, work, par):
        return BAD_COVARIANCE
    chisq, converged = _search(tables, settings, points, work, i, par, limits, found, out)
    if not chisq < np.inf:
        return TOO_FEW_POINTS
    if settings.has_phase_range and settings.phase_iterative:
        activate(settings, points, work, i, par[PZ], par[PT])
        freeze_covariance(tables, work, par)
    elif settings.fitted[PT] and out.flags[i] & NO_SIGNAL == 0 and _near_edge(tables, work, par):
        lower, ended = _cross_edges(tables, settings, work, par, limits, out, i)
        if lower < chisq - 1e-9 * (1.0 + abs(chisq)):
            converged = ended
    if settings.model_covariance:
        work.number[MODEL_ERROR] = 1
        good, converged = _covariance_rounds(tables, settings, points, work, i, par, limits, out)
        signal = out.flags[i] & NO_SIGNAL == 0
        cut = settings.has_phase_range and settings.phase_iterative
        if good and settings.fitted[PT] and not settings.fitted[PZ] and signal and not cut:
            good, converged = _try_beside(
                tables, settings, points, work, i, par, limits, out, converged
            )
        if settings.fitted[PZ] and settings.fitted[PT] and signal:
            for _ in range(2):
                if not good or not _walk_redshifts(tables, settings, work, i, par, limits, out):
                    break
                good, converged = _covariance_rounds(
                    tables, settings, points, work, i, par, limits, out
                )
        if not good:
            return BAD_COVARIANCE
    _finish(tables, settings, work, i, par, limits, out)
    for k in range(points.offsets[i], points.offsets[i + 1]):
        out.used[k] = False
    _judge(tables, settings, points, work, i, par, limits, converged, out)
    for k in range(par.size):
        out.parameters[i, k] = par[k] if settings.fitted[k] else targets.fixed[i, k]
    if settings.fitted[PT]:
        out.parameters[i, PT] = par[PT] + origin
    return 0


@entry_point
def fit_range(
    tables: Tables,
    settings: Settings,
    targets: Targets,
    points: Points,
    begin: int,
    end: int,
    work: Work,
    out: Output,
) -> None:
    """Fit objects `begin` to `end`, into `out`."""
    for i in range(begin, end):
        refusal = _fit_object(tables, settings, targets, points, work, i, out)
        out.refusal[i] = refusal
        if refusal != 0:
            for k in range(points.offsets[i], points.offsets[i + 1]):
                out.used[k] = False


@entry_point
def predict_range(
    tables: Tables,
    targets: Targets,
    points: Points,
    parameters: Array,
    begin: int,
    end: int,
    work: Work,
    flux: Array,
) -> None:
    """Model flux of each point at given parameters, in the points' own units; NaN where none."""
    n_bands = len(tables.band_min)
    for i in range(begin, end):
        z = parameters[i, PZ]
        usable = tables.z_min <= z <= tables.z_max
        for k in range(parameters.shape[1]):
            usable = usable and math.isfinite(parameters[i, k])
        by_z = not usable  # Derivatives are not needed.
        for b in range(n_bands):
            if not usable or not inside(tables, b, z, z):
                continue
            loaded = False
            for k in range(points.offsets[i], points.offsets[i + 1]):
                if points.band[k] != b:
                    continue
                if not loaded:
                    work.number[N_BANDS], work.number[N_USED], work.number[DENSE] = 1, 1, 0
                    work.layout[BAND, 0] = b
                    work.layout[START, 0], work.layout[START, 1] = 0, 1
                    law = targets.law[targets.law_row[i], b]
                    for q in range(work.nodes.shape[2]):
                        work.nodes[DUST, 0, q] = 10.0 ** (-0.4 * targets.ebv[i] * law[q])
                    load_tables(tables, work, z, by_z)
                    collapse(work, parameters[i, PC], by_z)
                    loaded = True
                work.points[TIME, 0] = points.time[k]
                columns(tables, work, z, parameters[i, PT], by_z)
                m0, m1 = work.points[M0, 0], work.points[M1, 0]
                scale = 10.0 ** (0.4 * (REFERENCE_ZP - points.zp[k]))
                scale *= points.system_ratio[b, points.system[k]]
                flux[k] = parameters[i, PX0] * (m0 + parameters[i, PX1] * m1) / scale
