"""What a solution costs: the number by which minima are compared. Compiled code.

Minima differ in the points that they use (a phase range about t0) and in their covariances (the
model's). So chi-squares do not compare: fewer points have a smaller one, and so have larger errors.
The cost is -2 ln of a likelihood of all usable points, less a constant of the data:

inside
    chi-square, priors, and ln det C - ln det D, C the covariance, D the variances of the data;
outside the phase range
    the supernova may be there, but all that is known of it is that it has faded, or has yet to
    rise. So its flux lies anywhere between zero and F: a flat prior on this interval, integrated
    over. In closed form, d the distance from the interval in units of the error,

        d² + 2 ln(1 + F / (sqrt(2 π) error)).

    F is the model's flux where the range ends (or at the point itself, where the model has more).
    Before the model's first phase it is zero, and after its last it fades as cobalt-56 decays,
    which is slower than supernovae do. The cost is chi-square about zero where F is small, and far
    more where the data are brighter than F: a solution cannot leave out the peak.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.doubt import last_phase
from ampel_spark.salt.kernel import (
    ALL_START,
    DENSE,
    FLUX,
    N_BANDS,
    N_USED,
    PT,
    PX0,
    PX1,
    PZ,
    RANK_ONE,
    RANK_ONES,
    START,
    TIME,
    VAR,
    WEIGHT,
    Work,
    cell,
)
from ampel_spark.salt.maths import compiled
from ampel_spark.salt.options import Settings
from ampel_spark.salt.search import evaluate
from ampel_spark.salt.tables import Tables

__all__ = ["full_cost", "log_determinant", "model_flux", "outside_cost"]

Array = NDArray[np.float64]

ROOT = math.sqrt(2.0 * math.pi)
#: Mean life of cobalt-56, days.
COBALT = 111.4


@compiled
def model_flux(tables: Tables, work: Work, b: int, phase: float, par: Array) -> float:
    """Model flux in the object's band `b`, of the rows as collapsed last; zero for none."""
    x = (phase - tables.phase_start) / tables.phase_step
    if not 0.0 <= x <= tables.n_phases - 1:
        return 0.0
    first, w0, w1, w2, w3 = cell(x, tables.n_phases)
    value = work.rows[b, 0]
    j = 2 * first
    m0 = w0 * value[j] + w1 * value[j + 2] + w2 * value[j + 4] + w3 * value[j + 6]
    m1 = w0 * value[j + 1] + w1 * value[j + 3] + w2 * value[j + 5] + w3 * value[j + 7]
    return par[PX0] * (m0 + par[PX1] * m1)


@compiled
def outside_cost(tables: Tables, settings: Settings, work: Work, par: Array) -> tuple[float, float]:
    """Cost of the points outside the phase range about `par`; the rows are those at `par`.

    Returns also by how much the brightest of them is above what it may be, in errors.
    """
    total, excess = 0.0, 0.0
    if not (settings.has_phase_range and settings.phase_iterative):
        return total, excess
    stretch = 1.0 + par[PZ]
    frame = 1.0 if settings.phase_observer else stretch
    start = max(settings.phase_min * frame / stretch, tables.phase_start)
    end = min(settings.phase_max * frame / stretch, last_phase(tables))
    for b in range(work.number[N_BANDS]):
        at_start = max(model_flux(tables, work, b, start, par), 0.0)
        at_end = max(model_flux(tables, work, b, end, par), 0.0)
        for k in range(work.layout[ALL_START, b], work.layout[ALL_START, b + 1]):
            days = work.all_points[TIME, k] - par[PT]
            if settings.phase_min < days / frame < settings.phase_max:
                continue
            phase = days / stretch
            if days / frame <= settings.phase_min:
                top = at_start if phase >= tables.phase_start else 0.0
            else:
                top = at_end * math.exp(-max(phase - last_phase(tables), 0.0) / COBALT)
            top = max(top, model_flux(tables, work, b, phase, par))
            error = math.sqrt(work.all_points[VAR, k])
            away = max(work.all_points[FLUX, k] - top, -work.all_points[FLUX, k], 0.0) / error
            excess = max(excess, (work.all_points[FLUX, k] - top) / error)
            total += away * away + 2.0 * math.log(1.0 + top / (ROOT * error))
    return total, excess


@compiled
def log_determinant(work: Work) -> float:
    """ln det of the covariance of the points in use, less that of the data's variances alone."""
    if work.number[DENSE] == 0 and work.number[RANK_ONES] == 0:
        return 0.0
    total = 0.0
    for i in range(work.number[N_USED]):
        total -= math.log(work.points[VAR, i])
        if work.number[DENSE]:
            total += 2.0 * math.log(work.factor[i, i])
        else:
            total -= math.log(work.points[WEIGHT, i])
    if work.number[RANK_ONES]:
        for b in range(work.number[N_BANDS]):
            # The vector is scaled: its square in units of the diagonal is 1 - 1 / (1 + u² / d).
            s = 1.0
            for i in range(work.layout[START, b], work.layout[START, b + 1]):
                s -= work.points[RANK_ONE, i] ** 2 / work.points[WEIGHT, i]
            total -= math.log(s)
    return total


@compiled
def full_cost(tables: Tables, settings: Settings, work: Work, par: Array, limits: Array) -> float:
    """Cost at `par`, x0 and x1 set to the best, with the covariance as frozen last."""
    cost = evaluate(tables, settings, work, par, limits) + log_determinant(work)
    return cost + outside_cost(tables, settings, work, par)[0]
