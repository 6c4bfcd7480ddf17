"""The search for the best parameters of one light curve: compiled code.

`scan`
    chi-square against t0 on a grid of 2.5 days of the rest frame, at one colour and redshift, x0
    and x1 eliminated: its local minima are starting points;
`descend`
    Levenberg-Marquardt [1]_ in (t0, c) or (t0, c, z) with x0 and x1 eliminated at every step; a
    step counts only if the profiled chi-square falls, so that it ends in a minimum, whatever the
    start;
`hessian`
    the matrix of second derivatives, from central differences of the analytic gradient. Gauss and
    Newton's matrix leaves out the curvature of the model, and its errors of t0 can be wrong by
    half where data cover the rise only.

References
----------
.. [1] Marquardt 1963, J. SIAM 11, 431, doi:10.1137/0111030
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.kernel import (
    FLUX,
    FROM,
    GRADIENT,
    HELD,
    I_OUTER,
    KNOWN,
    LOWER,
    M1,
    MEAN,
    N_BANDS,
    N_FOUND,
    N_USED,
    PC,
    PRIOR,
    PT,
    PX0,
    PX1,
    PZ,
    RANK_ONE,
    RANK_ONES,
    RES,
    S_DAMPED,
    S_INVERSE,
    S_REDUCED,
    S_SLOPES,
    START,
    TIME,
    UPPER,
    V_AHEAD,
    V_AT,
    V_BEST,
    V_STEP,
    V_STEPS,
    V_TRIAL,
    WEIGHT,
    Work,
    _profile,
    collapse,
    collapse_at,
    columns,
    copy,
    gradient,
    invert,
    linear_sums,
    normal_equations,
    residuals,
    solve_linear,
    zero,
)
from ampel_spark.salt.maths import compiled
from ampel_spark.salt.options import Settings
from ampel_spark.salt.tables import Tables

__all__ = ["descend", "evaluate", "hessian", "insert", "prior_chisq", "scan"]

Array = NDArray[np.float64]

#: Step of the scan, days of the rest frame.
SCAN_STEP = 2.5
#: Largest number of steps of a scan; over longer data the steps are longer.
SCAN_LIMIT = 20000
#: A search ends when the next step promises to lower chi-square by less than this.
TOLERANCE = 1e-3
#: An earlier minimum is out of reach where it lies lower by more than this many times what the next
#: step promises.
HOPE = 10.0
#: A descent is at a jump of chi-square where a second step, short as it is, costs far more than it
#: promised. It comes to within a millionth of a day of it, and goes on along it.
WALLS, WALL, GAP = 2, 30.0, 1e-6
#: Longest steps in z, t0, x0, x1, c.
LONGEST = (0.05, 10.0, np.inf, np.inf, 0.5)


@compiled
def prior_chisq(par: Array, limits: Array) -> float:
    """What the Gaussian priors add to chi-square."""
    s = 0.0
    for k in range(par.size):
        if limits[PRIOR, k] > 0.0:
            s += limits[PRIOR, k] * (par[k] - limits[MEAN, k]) ** 2
    return s


@compiled
def evaluate(
    tables: Tables,
    settings: Settings,
    work: Work,
    par: Array,
    limits: Array,
) -> float:
    """Set columns and residuals at z, t0, c of `par`, x0 and x1 to the best; return chi-square."""
    by_z = settings.fitted[PZ] and work.number[HELD] == 0
    if by_z:
        collapse_at(tables, work, par[PZ], par[PC])
    else:
        collapse(work, par[PC], by_z)
    columns(tables, work, par[PZ], par[PT], by_z)
    par[PX0], par[PX1] = solve_linear(settings, limits, linear_sums(work), par[PX0], par[PX1])
    return residuals(work, par) + prior_chisq(par, limits)


@compiled
def scan(
    tables: Tables,
    settings: Settings,
    work: Work,
    z: float,
    par: Array,
    limits: Array,
    first_phase: float,
    last_phase: float,
    found: Array,
) -> None:
    """Add local minima of chi-square against t0 to `found`, best first, and count them.

    Points outside the phases from
    `first_phase` to `last_phase` (rest frame) are taken as without model flux. The rows of the
    object's bands must have been collapsed. Errors are taken as independent.
    """
    stretch = 1.0 + z
    low, high = limits[LOWER, PT], limits[UPPER, PT]
    n_steps = min(math.ceil((high - low) / (SCAN_STEP * stretch)), SCAN_LIMIT) + 1
    step = (high - low) / max(n_steps - 1, 1)
    n_bands = work.number[N_BANDS]
    from_point = work.layout[FROM]
    for b in range(n_bands):
        from_point[b] = work.layout[START, b]
    a = 1.0 / stretch
    per_step = 1.0 / tables.phase_step
    n = tables.n_phases
    both = settings.fitted[PX0] and settings.fitted[PX1]
    plain = both and limits[PRIOR, PX0] == 0.0 and limits[PRIOR, PX1] == 0.0
    x1_low, x1_high = max(limits[LOWER, PX1], -100.0), min(limits[UPPER, PX1], 100.0)
    x1_mid = min(max(limits[MEAN, PX1] if limits[PRIOR, PX1] > 0.0 else 0.0, x1_low), x1_high)
    before, now = np.inf, np.inf
    for k in range(n_steps + 1):
        score = np.inf
        if k < n_steps:
            t0 = low + k * step
            first_time = t0 + first_phase * stretch
            last_time = t0 + last_phase * stretch
            s00 = 0.0
            s01 = 0.0
            s11 = 0.0
            d0 = 0.0
            d1 = 0.0
            for b in range(n_bands):
                value = work.rows[b, 0]
                end = work.layout[START, b + 1]
                i = from_point[b]
                while i < end and work.points[TIME, i] < first_time:
                    i += 1
                from_point[b] = i
                while i < end and work.points[TIME, i] <= last_time:
                    x = ((work.points[TIME, i] - t0) * a - tables.phase_start) * per_step
                    # Straight lines between the phases do for a scan; the two last rows of a
                    # table are those of the last cell, the two first those of the first.
                    cell = min(max(int(x), 0), n - 2)
                    w1 = x - cell
                    w0 = 1.0 - w1
                    j = 2 * cell
                    if cell == n - 2:
                        j += 8
                    elif cell > 0:
                        j += 4
                    m0 = w0 * value[j] + w1 * value[j + 2]
                    m1 = w0 * value[j + 1] + w1 * value[j + 3]
                    v0 = m0 * work.points[WEIGHT, i]
                    v1 = m1 * work.points[WEIGHT, i]
                    s00 += v0 * m0
                    s01 += v0 * m1
                    s11 += v1 * m1
                    d0 += v0 * work.points[FLUX, i]
                    d1 += v1 * work.points[FLUX, i]
                    i += 1
            sums = (s00, s01, s11, d0, d1)
            solved = False
            if plain:
                det = s00 * s11 - s01 * s01
                if det > 1e-12 * s00 * s11:
                    x0 = (d0 * s11 - d1 * s01) / det
                    f1 = (d1 * s00 - d0 * s01) / det
                    inside = limits[LOWER, PX0] <= x0 <= limits[UPPER, PX0]
                    if inside and x1_low * x0 <= f1 <= x1_high * x0:
                        score = -(x0 * d0 + f1 * d1)
                        solved = True
            if not solved:
                if not settings.fitted[PX0]:
                    x0, x1 = solve_linear(settings, limits, sums, par[PX0], par[PX1])
                    score = x0 * (x0 * (s00 + x1 * (2.0 * s01 + x1 * s11)) - 2.0 * (d0 + x1 * d1))
                elif not settings.fitted[PX1]:
                    score = _profile(limits, sums, par[PX1])
                else:
                    score = min(
                        _profile(limits, sums, x1_low),
                        _profile(limits, sums, x1_mid),
                        _profile(limits, sums, x1_high),
                    )
            score += limits[PRIOR, PT] * (t0 - limits[MEAN, PT]) ** 2
        # A local minimum at the step before; of equal ones the first.
        if k > 0 and now < before and now <= score:
            insert(work, found, now, z, low + (k - 1) * step, par[PC])
        before, now = now, score


@compiled
def insert(work: Work, found: Array, score: float, z: float, t0: float, c: float) -> None:
    """Add a starting point to `found`, best first; of too many the worst is dropped."""
    i = work.number[N_FOUND]
    if i == len(found):
        i -= 1
        if score >= found[i, 0]:
            return
    work.number[N_FOUND] = i + 1
    while i > 0 and found[i - 1, 0] > score:
        copy(found[i - 1], found[i])
        i -= 1
    found[i, 0] = score
    found[i, 1] = z
    found[i, 2] = t0
    found[i, 3] = c


@compiled
def descend(
    tables: Tables,
    settings: Settings,
    work: Work,
    par: Array,
    limits: Array,
) -> tuple[float, int, bool]:
    """Go downhill from `par`, in place; return chi-square, steps and whether it converged.

    Columns, residuals, gradient and matrix are left at the last accepted parameters, except where
    the last trial was worse.

    Where a point crosses an edge of the model, chi-square jumps, and a minimum may lie at the jump:
    steps then keep the point where it is, at the edge, which ties t0 to z, until there is a step
    downhill away from it.
    """
    chisq = evaluate(tables, settings, work, par, limits)
    normal_equations(settings, work, par, limits)
    outer = work.lists[I_OUTER]
    reduced = work.matrices[S_REDUCED]
    damped = work.matrices[S_DAMPED]
    inverse = work.matrices[S_INVERSE]
    step = work.vectors[V_STEP]
    trial = work.vectors[V_TRIAL]
    damping = 1e-3
    converged = False
    n_steps = 0
    n_walls = 0
    along, edge, side = False, 0.0, 0.0
    n_outer = _reduce(settings, work, par, limits, outer, reduced)
    while n_steps < settings.max_iterations:
        if n_outer == 0:
            converged = True
            break
        n_steps += 1
        for i in range(n_outer):
            for j in range(n_outer):
                damped[i, j] = reduced[i, j]
            damped[i, i] += damping * reduced[i, i]
        if not invert(work, damped, n_outer, inverse):
            damping = max(10.0 * damping, 1e-3)
            if damping > 1e10:
                break
            continue
        promise = 0.0
        shrink = 1.0
        for i in range(n_outer):
            d = 0.0
            for j in range(n_outer):
                d += inverse[i, j] * work.equations[GRADIENT, outer[j]]
            step[i] = d
        if along:
            along = _stay(outer, inverse, step, n_outer, edge, side)
        for i in range(n_outer):
            d = step[i]
            promise += d * work.equations[GRADIENT, outer[i]]
            if abs(d) * shrink > LONGEST[outer[i]]:
                shrink = LONGEST[outer[i]] / abs(d)
        if (promise < TOLERANCE and damping <= 1e-2) or promise < 1e-3 * TOLERANCE:
            converged = True
            break
        if work.number[KNOWN] and damping <= 1e-2 and chisq - HOPE * promise > work.known[0] + 1.0:
            break
        copy(par, trial)
        for i in range(n_outer):
            k = outer[i]
            trial[k] = min(max(par[k] + shrink * step[i], limits[LOWER, k]), limits[UPPER, k])
        chisq_trial = evaluate(tables, settings, work, trial, limits)
        if chisq_trial < chisq:
            damping = max(0.1 * damping, 1e-7)
            copy(trial, par)
            chisq = chisq_trial
            normal_equations(settings, work, par, limits)
            if work.number[KNOWN] and _is_known(work, par, chisq):
                break
            n_outer = _reduce(settings, work, par, limits, outer, reduced)
        else:
            damping = max(10.0 * damping, 1e-2)
            if chisq_trial - chisq > WALL * max(promise, TOLERANCE) and promise < 1.0:
                n_walls += 1
            if damping > 1e9 or n_walls > 3 * WALLS:
                break
            if n_walls % WALLS == 0 and n_walls > 0 and not along:
                time, edge, side = _jump(tables, work, par, trial)
                if side == 0.0:
                    continue
                along, damping = True, 1e-3
                copy(par, trial)
                trial[PT] = time - edge * (1.0 + par[PZ]) - side * GAP
                if limits[LOWER, PT] <= trial[PT] <= limits[UPPER, PT]:
                    chisq_trial = evaluate(tables, settings, work, trial, limits)
                    if chisq_trial < chisq:
                        copy(trial, par)
                        chisq = chisq_trial
                        normal_equations(settings, work, par, limits)
                        n_outer = _reduce(settings, work, par, limits, outer, reduced)
    return chisq, n_steps, converged


@compiled
def _stay(
    outer: NDArray[np.int64],
    inverse: Array,
    step: Array,
    n_outer: int,
    edge: float,
    side: float,
) -> bool:
    """Take out of a step what brings a point across an edge of the model; False if it leads away.

    The point is at ``t0 + edge (1 + z)``; its phase is beyond the edge with the sign of `side`.
    """
    across = 0.0
    norm = 0.0
    for i in range(n_outer):
        across += _normal(outer[i], edge) * step[i]
        for j in range(n_outer):
            norm += _normal(outer[i], edge) * inverse[i, j] * _normal(outer[j], edge)
    # A t0 that grows makes the phase smaller.
    if side * across <= 0.0 or norm <= 0.0:
        return side * across >= 0.0
    for i in range(n_outer):
        pull = 0.0
        for j in range(n_outer):
            pull += inverse[i, j] * _normal(outer[j], edge)
        step[i] -= pull * across / norm
    return True


@compiled
def _normal(k: int, edge: float) -> float:
    """Derivative of ``t0 + edge (1 + z)`` by an outer parameter."""
    if k == PT:
        return 1.0
    return edge if k == PZ else 0.0


@compiled
def _jump(tables: Tables, work: Work, par: Array, trial: Array) -> tuple[float, float, float]:
    """Find the first point that crosses an edge of the model between two sets of parameters.

    Returns its time, the edge, and the side on which it is at `par`: the sign of its phase less
    the edge; 0 if there is none.
    """
    nearest = np.inf
    time, edge, side = 0.0, 0.0, 0.0
    last = tables.phase_start + tables.phase_step * (tables.n_phases - 1)
    for k in range(work.number[N_USED]):
        for limit in (tables.phase_start, last):
            here = work.points[TIME, k] - par[PT] - limit * (1.0 + par[PZ])
            there = work.points[TIME, k] - trial[PT] - limit * (1.0 + trial[PZ])
            if (here > 0.0) != (there > 0.0) and abs(here) < nearest:
                nearest = abs(here)
                time, edge, side = work.points[TIME, k], limit, 1.0 if here > 0.0 else -1.0
    return time, edge, side


@compiled
def _is_known(work: Work, par: Array, chisq: float) -> bool:
    """Whether a descent has come to the minimum of an earlier one, and not below it."""
    best = work.vectors[V_BEST]
    return (
        chisq >= work.known[0]
        and abs(par[PT] - best[PT]) < 0.2
        and abs(par[PC] - best[PC]) < 0.03
        and abs(par[PZ] - best[PZ]) < 0.003
    )


@compiled
def _reduce(
    settings: Settings,
    work: Work,
    par: Array,
    limits: Array,
    outer: NDArray[np.int64],
    reduced: Array,
) -> int:
    """Curvature by the outer parameters (z, t0, c) with x0 and x1 following; return their number.

    Parameters at a bound and pushed out of it stay where they are.
    """
    n_outer = 0
    for k in range(par.size):
        if not settings.fitted[k] or not work.equations[k, k] > 0.0:
            continue
        if k in (PX0, PX1) or (k == PZ and work.number[HELD]):
            continue
        g = work.equations[GRADIENT, k]
        if (par[k] <= limits[LOWER, k] and g <= 0.0) or (par[k] >= limits[UPPER, k] and g >= 0.0):
            continue
        outer[n_outer] = k
        n_outer += 1
    h = work.equations
    use0 = settings.fitted[PX0] and h[PX0, PX0] > 0.0
    use0 = use0 and limits[LOWER, PX0] < par[PX0] < limits[UPPER, PX0]
    use1 = settings.fitted[PX1] and h[PX1, PX1] > 0.0
    use1 = use1 and limits[LOWER, PX1] < par[PX1] < limits[UPPER, PX1]
    det = h[PX0, PX0] * h[PX1, PX1] - h[PX0, PX1] ** 2
    if use0 and use1 and det <= 1e-12 * h[PX0, PX0] * h[PX1, PX1]:
        use1 = False
    for i in range(n_outer):
        for j in range(i + 1):
            k, m = outer[i], outer[j]
            value = h[k, m]
            if use0 and use1:
                value -= (
                    h[k, PX0] * (h[PX1, PX1] * h[m, PX0] - h[PX0, PX1] * h[m, PX1])
                    + h[k, PX1] * (h[PX0, PX0] * h[m, PX1] - h[PX0, PX1] * h[m, PX0])
                ) / det
            elif use0:
                value -= h[k, PX0] * h[m, PX0] / h[PX0, PX0]
            elif use1:
                value -= h[k, PX1] * h[m, PX1] / h[PX1, PX1]
            reduced[i, j] = value
            reduced[j, i] = value
    for i in range(n_outer):
        # Rounding may leave nothing of a fully degenerate direction.
        k = outer[i]
        reduced[i, i] = max(reduced[i, i], 1e-10 * h[k, k])
    return n_outer


@compiled
def hessian(
    tables: Tables,
    settings: Settings,
    work: Work,
    par: Array,
    limits: Array,
    out: Array,
) -> None:
    """Second derivatives of half the chi-square by all fitted parameters, into `out`.

    `work` must hold residuals, gradient and matrix at `par`; it does not afterwards.
    """
    fitted = settings.fitted
    by_z = fitted[PZ]
    for k in range(par.size):
        copy(work.equations[k], out[k])
    steps = work.vectors[V_STEPS]
    zero(steps)
    for k in range(par.size):
        if k not in (PX0, PX1) and fitted[k] and work.equations[k, k] > 0.0:
            steps[k] = min(0.1 / math.sqrt(work.equations[k, k]), 0.02 * LONGEST[k])
    if fitted[PX0] and fitted[PX1]:
        # The one second derivative of the model by x0 and x1: M1.
        s = 0.0
        for i in range(work.number[N_USED]):
            s += work.points[WEIGHT, i] * work.points[RES, i] * work.points[M1, i]
        if work.number[RANK_ONES]:
            u = work.points[RANK_ONE]
            for b in range(work.number[N_BANDS]):
                sr = 0.0
                sm = 0.0
                for i in range(work.layout[START, b], work.layout[START, b + 1]):
                    sr += u[i] * work.points[RES, i]
                    sm += u[i] * work.points[M1, i]
                s -= sr * sm
        out[PX0, PX1] -= s
        out[PX1, PX0] = out[PX0, PX1]
    at = work.vectors[V_AT]
    copy(par, at)
    ahead = work.vectors[V_AHEAD]
    slopes = work.matrices[S_SLOPES]
    for k in range(par.size):
        if steps[k] == 0.0:
            continue
        for side in range(2):
            at[k] = par[k] + (1.0 - 2.0 * side) * steps[k]
            if by_z and k != PT:
                collapse_at(tables, work, at[PZ], at[PC])
            elif k != PT:
                collapse(work, at[PC], by_z)
            columns(tables, work, at[PZ], at[PT], by_z)
            residuals(work, at)
            gradient(settings, work, at, limits)
            if side == 0:
                copy(work.equations[GRADIENT], ahead)
        at[k] = par[k]
        if by_z and k != PT:
            collapse_at(tables, work, at[PZ], at[PC])
        elif k != PT:
            collapse(work, at[PC], by_z)
        for m in range(par.size):
            # The gradient points downhill.
            slopes[k, m] = (work.equations[GRADIENT, m] - ahead[m]) / (2.0 * steps[k])
    for k in range(par.size):
        for m in range(par.size):
            if steps[k] > 0.0 and fitted[m]:
                # Where both were stepped, the mean of the two.
                value = slopes[k, m]
                if steps[m] > 0.0:
                    value = 0.5 * (value + slopes[m, k])
                out[k, m] = value
                out[m, k] = value
