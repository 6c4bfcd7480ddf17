"""What comes after the search: minima across the model's edges, rounds of the model's covariance.

The covariance is frozen at the last round's parameters. With it another minimum than the one found
without it may be the lowest: at another time, or another redshift.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.doubt import SURE_REDSHIFT, find_errors, in_doubt, last_phase
from ampel_spark.salt.gather import activate
from ampel_spark.salt.kernel import (
    HELD,
    KNOWN,
    LOWER,
    N_USED,
    PC,
    PT,
    PZ,
    S_ERRORS,
    TIME,
    UPPER,
    V_BEST,
    V_CROSSED,
    V_CROSSING,
    V_LAST,
    V_NEWTON,
    Work,
    collapse,
    copy,
    freeze_covariance,
    load_tables,
    normal_equations,
)
from ampel_spark.salt.maths import compiled
from ampel_spark.salt.options import Settings
from ampel_spark.salt.records import Output, Points
from ampel_spark.salt.search import descend, evaluate
from ampel_spark.salt.starts import N_TIMES, beside
from ampel_spark.salt.tables import Tables

__all__ = ["covariance_rounds", "cross_edges", "try_beside", "walk_redshifts"]

Array = NDArray[np.float64]

#: Largest number of points at the model's edges at which `cross_edges` looks.
CROSSINGS = 8
#: How often it looks anew from a lower minimum that it found.
CROSSING_ROUNDS = 3
#: Rounds after which the covariance is taken at the middle of the last two rounds' parameters.
TO_AND_FRO = 4


@compiled
def cross_edges(
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
        known = find_errors(settings, work, work.equations, covariance)
        before = chisq
        copy(par, best)
        n_tried = 0
        for edge in (tables.phase_start, last_phase(tables)):
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
def covariance_rounds(
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
        again = not find_errors(settings, work, work.equations, covariance)
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
def walk_redshifts(
    tables: Tables, settings: Settings, work: Work, i: int, par: Array, limits: Array, out: Output
) -> bool:
    """Look for a lower minimum at other redshifts, weights as they are; whether there is one.

    From the best redshift so far up and down, t0 and c from one redshift to the next.
    """
    chisq = evaluate(tables, settings, work, par, limits)
    normal_equations(settings, work, par, limits)
    errors = work.matrices[S_ERRORS]
    if find_errors(settings, work, work.equations, errors) and errors[PZ, PZ] < SURE_REDSHIFT**2:
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
    if not in_doubt(tables, settings, work, par, limits):
        return 0.0
    trial = work.vectors[V_CROSSING]
    best = work.vectors[V_CROSSED]
    copy(par, best)
    copy(par, work.vectors[V_BEST])
    lowest = chisq - 0.02
    work.known[0] = work.known[1] = chisq
    work.number[KNOWN] = 1
    for side in range(N_TIMES):
        beside(par, side, limits, trial)
        lower, n_steps, _ = descend(tables, settings, work, trial, limits)
        out.counts[i, 9] += n_steps
        if lower < lowest:
            lowest = lower
            copy(trial, best)
    work.number[KNOWN] = 0
    copy(best, par)
    return chisq - lowest if lowest < chisq - 0.02 else 0.0


@compiled
def try_beside(
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
    """Go to lower minima beside, each with its own covariance; returns as `covariance_rounds`.

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
        good, converged = covariance_rounds(tables, settings, points, work, i, par, limits, out)
        if not good:
            break
        trial = work.vectors[V_CROSSING]
        copy(before, trial)
        loss = evaluate(tables, settings, work, par, limits)
        loss -= evaluate(tables, settings, work, trial, limits)
        if loss > gain:
            copy(before, par)
            good, converged = covariance_rounds(tables, settings, points, work, i, par, limits, out)
            break
    return good, converged
