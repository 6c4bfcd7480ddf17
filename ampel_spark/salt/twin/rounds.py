"""Minima across the model's edges, and rounds of the model's covariance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.twin.model import T0, C, Z
from ampel_spark.salt.twin.object import Object
from ampel_spark.salt.twin.starts import (
    N_TIMES,
    SURE_REDSHIFT,
    Start,
    beside,
    in_doubt,
    minima,
    redshift_row,
)

__all__ = ["covariance_rounds", "cross_edges", "try_beside", "walk_redshifts"]

Array = NDArray[np.float64]

#: Largest number of points at the model's edges at which `cross_edges` looks.
CROSSINGS, CROSSING_ROUNDS = 8, 3
#: As in `ampel_spark.salt.rounds`.
TO_AND_FRO = 4


def cross_edges(sn: Object, par: Array, counts: NDArray[np.int32]) -> bool | None:
    """Look for a lower minimum where a point enters or leaves the model.

    Returns whether the descent to it converged; None where there is no lower one.
    """
    chisq = sn.profile(par)
    converged = None
    t, times = sn.model.tables, sn.time[sn.use]
    for _ in range(CROSSING_ROUNDS):
        covariance = sn.errors(sn.equations(par)[0])
        before, best, n_tried = chisq, par.copy(), 0
        for edge in (t.phase_start, t.phase_start + t.phase_step * (t.n_phases - 1)):
            # The least chi-square at which a phase is moved: along its covariance with others.
            error, reach = 0.0, 1.0 + par[Z]
            move = np.zeros(5)
            if covariance is not None:
                move = covariance[:, T0] + edge * covariance[:, Z]
                error = np.sqrt(max(move[T0] + edge * move[Z], 0.0))
                reach = min(4.0 * error + 0.05 * reach, 3.0 * reach)
            gaps = times - par[T0] - edge * (1.0 + par[Z])
            for k in np.flatnonzero(np.abs(gaps) <= reach)[: CROSSINGS - n_tried]:
                n_tried += 1
                for side in (-1e-6, 1e-6):
                    trial = par.copy()
                    if error > 0.0:
                        free = [p for p in (Z, C) if sn.settings.fitted[p]]
                        trial[free] += (gaps[k] / error**2 * move)[free]
                        trial[free] = np.clip(trial[free], sn.lower[free], sn.upper[free])
                    trial[T0] = times[k] - edge * (1.0 + trial[Z]) + side
                    trial[T0] = np.clip(trial[T0], sn.lower[T0], sn.upper[T0])
                    if sn.profile(trial) > chisq + 4.0:
                        continue
                    lower, n_steps, ended = sn.descend(trial)
                    counts[9] += n_steps
                    if lower < chisq - 1e-9 * (1.0 + abs(chisq)):
                        chisq, converged, best = lower, ended, trial
        par[:] = best
        if not chisq < before - 0.01:
            break
    return converged


def covariance_rounds(sn: Object, par: Array, counts: NDArray[np.int32]) -> tuple[bool, bool]:
    """Descend with the model's covariance at the last parameters, until they stay.

    Where they go to and fro, the covariance is taken at the middle.
    """
    settings = sn.settings
    cut = settings.has_phase_range and settings.phase_iterative
    last = par.copy()
    for n_round in range(1, settings.max_rounds + 1):
        counts[8] = n_round
        last = 0.5 * (last + par) if n_round > TO_AND_FRO else par.copy()
        if not sn.freeze(last):
            return False, False
        _, n_steps, converged = sn.descend(par)
        counts[9] += n_steps
        covariance = sn.errors(sn.equations(par)[0])
        again = covariance is None
        if covariance is not None:
            limit = settings.covariance_tolerance * np.sqrt(np.diag(covariance))
            again = bool(np.any((np.abs(par - last) > limit)[settings.fitted]))
        if n_round == settings.max_rounds:
            return True, converged and not again
        if cut and sn.set_phase_range(par[Z], par[T0]):
            again = True
        if not again:
            return True, converged
    return True, False


def _look_beside(sn: Object, par: Array, counts: NDArray[np.int32]) -> float:
    """Look for a lower minimum at other times, weights as they are; return by how much."""
    chisq = sn.profile(par)
    if not in_doubt(sn, par):
        return 0.0
    lowest, best = chisq - 0.02, par.copy()
    for side in range(N_TIMES):
        trial = beside(sn, par, side)
        lower, n_steps, _ = sn.descend(trial, (chisq, par))
        counts[9] += n_steps
        if lower < lowest:
            lowest, best = lower, trial
    par[:] = best
    return float(chisq - lowest) if lowest < chisq - 0.02 else 0.0


def try_beside(
    sn: Object, par: Array, counts: NDArray[np.int32], converged: bool
) -> tuple[bool, bool]:
    """Go to lower minima beside, each with its own covariance; returns as `covariance_rounds`."""
    good = True
    for _ in range(2):
        before = par.copy()
        gain = _look_beside(sn, par, counts)
        if gain == 0.0:
            break
        good, converged = covariance_rounds(sn, par, counts)
        if not good:
            break
        if sn.profile(par) - sn.profile(before.copy()) > gain:
            par[:] = before
            good, converged = covariance_rounds(sn, par, counts)
            break
    return good, converged


def walk_redshifts(sn: Object, par: Array, counts: NDArray[np.int32]) -> bool:
    """Look for a lower minimum at other redshifts, weights as they are; whether there is one."""
    chisq = sn.profile(par)
    covariance = sn.errors(sn.equations(par)[0])
    if covariance is not None and covariance[Z, Z] < SURE_REDSHIFT**2:
        return False
    redshifts = redshift_row(sn)
    n = len(redshifts) - 1
    middle = round(float((par[Z] - redshifts[0]) / (redshifts[-1] - redshifts[0]) * n))
    profile: dict[int, Start] = {}
    sn.held = True
    for way in (range(middle, n + 1), range(middle - 1, -1, -1)):
        trial = par.copy()
        for m in way:
            trial[Z] = redshifts[m]
            lower, n_steps, _ = sn.descend(trial)
            counts[9] += n_steps
            profile[m] = (lower, float(trial[Z]), float(trial[T0]), float(trial[C]))
    sn.held = False
    lowest, best = chisq - 0.02, par.copy()
    for start in minima([profile[m] for m in range(n + 1)]):
        if start[0] > chisq + 10.0:
            continue
        trial = par.copy()
        trial[[Z, T0, C]] = start[1:]
        lower, n_steps, _ = sn.descend(trial)
        counts[9] += n_steps
        if lower < lowest:
            lowest, best = lower, trial
    par[:] = best
    return bool(lowest < chisq - 0.02)
