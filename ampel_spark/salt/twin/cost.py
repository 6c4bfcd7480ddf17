"""What a solution costs (see `ampel_spark.salt.cost`), and the points in a phase range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.twin.model import T0, X0, X1, Z
from ampel_spark.salt.twin.object import Object

__all__ = ["GAP", "enclosed", "is_consistent", "log_determinant", "outside_cost"]

Array = NDArray[np.float64]

#: As in `ampel_spark.salt.cost` and `gather`.
COBALT, GAP = 111.4, 1e-6


def outside_cost(sn: Object, par: Array) -> tuple[float, float]:
    """Cost of the points outside an iterative phase range about `par`.

    Returns also by how much the brightest of them is above what it may be, in errors.
    """
    settings, t = sn.settings, sn.model.tables
    if not sn.has_moving_range or np.all(sn.in_range(par)):
        return 0.0, 0.0
    stretch = 1.0 + par[Z]
    frame = 1.0 if settings.phase_observer else stretch
    last = t.phase_start + t.phase_step * (t.n_phases - 1)
    start = max(settings.phase_min * frame / stretch, t.phase_start)
    end = min(settings.phase_max * frame / stretch, last)
    phase = (sn.time - par[T0]) / stretch
    early = (sn.time - par[T0]) / frame <= settings.phase_min

    def flux(phases: Array) -> Array:
        basis = sn.model.at_phase(sn.band, phases, par[Z], par[4])
        return np.asarray(par[X0] * basis @ [1.0, par[X1]])

    at_start, at_end = (np.maximum(flux(np.full(len(phase), p)), 0.0) for p in (start, end))
    before = np.where(phase >= t.phase_start, at_start, 0.0)
    after = at_end * np.exp(-np.maximum(phase - last, 0.0) / COBALT)
    top = np.maximum(np.where(early, before, after), flux(phase))
    error = np.sqrt(np.diag(sn.given))
    away = np.maximum(np.maximum(sn.flux - top, -sn.flux), 0.0) / error
    cost = away**2 + 2.0 * np.log(1.0 + top / (np.sqrt(2.0 * np.pi) * error))
    outside = ~sn.in_range(par)
    return float(cost[outside].sum()), max(0.0, float(((sn.flux - top) / error)[outside].max()))


def log_determinant(sn: Object) -> float:
    """ln det of the covariance of the points in use, less that of the data's variances alone."""
    variance = np.diag(sn.given)[sn.use]
    return float(2.0 * np.log(np.diag(sn.factor)).sum() - np.log(variance).sum())


def enclosed(sn: Object, par: Array) -> tuple[float, float]:
    """Bounds of t0 between which the phase range has the same points as about `par`."""
    settings = sn.settings
    stretch = 1.0 if settings.phase_observer else 1.0 + par[Z]
    there = np.concatenate(
        [sn.time - edge * stretch for edge in (settings.phase_min, settings.phase_max)]
    )
    before, after = there[there <= par[T0]] + GAP, there[there > par[T0]] - GAP
    low = max(sn.lower[T0], *np.minimum(before, par[T0]), -np.inf)
    high = min(sn.upper[T0], *np.maximum(after, par[T0]), np.inf)
    return float(low), float(high)


def is_consistent(sn: Object, par: Array) -> bool:
    """Whether the points in use are those in the phase range about `par`, where that is asked."""
    return not sn.has_moving_range or bool(np.all(sn.use == sn.in_range(par)))
