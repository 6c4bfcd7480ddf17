"""Whether a minimum may not be the lowest one, and the errors that say so."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.kernel import (
    FLUX,
    I_FITTED,
    LOWER,
    N_USED,
    PC,
    PT,
    PX1,
    PZ,
    S_ERRORS,
    S_SCALED,
    S_SCALED_INVERSE,
    TIME,
    UPPER,
    V_NORM,
    VAR,
    Work,
    invert,
    zero,
)
from ampel_spark.salt.maths import compiled
from ampel_spark.salt.options import Settings
from ampel_spark.salt.tables import Tables

__all__ = ["find_errors", "in_doubt", "last_phase", "near_edge"]

Array = NDArray[np.float64]

#: A redshift with a smaller error than this has one minimum.
SURE_REDSHIFT = 0.015


@compiled
def find_errors(settings: Settings, work: Work, matrix: Array, out: Array) -> bool:
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
def last_phase(tables: Tables) -> float:
    return tables.phase_start + tables.phase_step * (tables.n_phases - 1)


@compiled
def near_edge(tables: Tables, work: Work, par: Array) -> bool:
    """Whether a point in use lies within three days of the model's first or last phase."""
    first, last = tables.phase_start, last_phase(tables)
    for k in range(work.number[N_USED]):
        phase = (work.points[TIME, k] - par[PT]) / (1.0 + par[PZ])
        if abs(phase - first) < 3.0 or abs(phase - last) < 3.0:
            return True
    return False


@compiled
def in_doubt(tables: Tables, settings: Settings, work: Work, par: Array, limits: Array) -> bool:
    """Whether a minimum may not be the lowest one: `work` is as `descend` left it."""
    for k in (PX1, PC):
        if settings.fitted[k] and not limits[LOWER, k] < par[k] < limits[UPPER, k]:
            return True
    if not settings.fitted[PT]:
        return False
    errors = work.matrices[S_ERRORS]
    if not find_errors(settings, work, work.equations, errors):
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
    last = last_phase(tables)
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
