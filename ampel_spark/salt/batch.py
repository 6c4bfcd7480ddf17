"""From raw arrays to fitted parameters, object by object: compiled code.

Each object is fitted by itself, from its own points alone, in one thread: its result does not
depend on the batch it is in, nor on the number of threads, bit for bit.

Order of work for one object: usable points, sorted by band and time; starting points
(`search.scan`); descents from them with the errors of the data alone, and with an iterative phase
range each to the point where range and t0 agree (`starts`); then rounds with the model's
covariance, frozen at the last round's parameters (`rounds`); then the matrix of second derivatives
and, with it, one last Newton step.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.doubt import find_errors, last_phase, near_edge
from ampel_spark.salt.gather import activate, gather, inside
from ampel_spark.salt.kernel import (
    BAND,
    DENSE,
    DUST,
    FLUX,
    GRADIENT,
    LOWER,
    M0,
    M1,
    MEAN,
    MODEL_ERROR,
    N_ALL,
    N_BANDS,
    N_USED,
    PC,
    PRIOR,
    PT,
    PX0,
    PX1,
    PZ,
    S_EQUATIONS,
    S_HESSIAN,
    START,
    TIME,
    UPPER,
    V_LAST,
    V_NEWTON,
    V_PAR,
    VAR,
    Work,
    collapse,
    columns,
    copy,
    freeze_covariance,
    load_tables,
    make_work,
    normal_equations,
)
from ampel_spark.salt.maths import compiled, entry_point
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
from ampel_spark.salt.rounds import covariance_rounds, cross_edges, try_beside, walk_redshifts
from ampel_spark.salt.search import evaluate, hessian, prior_chisq
from ampel_spark.salt.starts import find_starts, search
from ampel_spark.salt.tables import REFERENCE_ZP, Tables

__all__ = ["fit_range", "make_work", "predict_range"]

Array = NDArray[np.float64]


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
        last = last_phase(tables)
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
def _finish(
    tables: Tables, settings: Settings, work: Work, i: int, par: Array, limits: Array, out: Output
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
    if find_errors(settings, work, matrix, covariance):
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
    elif find_errors(settings, work, equations, covariance):
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
    last = last_phase(tables)
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
    find_starts(tables, settings, work, par, limits, found)
    work.number[MODEL_ERROR] = 0
    if not freeze_covariance(tables, work, par):
        return BAD_COVARIANCE
    chisq, converged = search(tables, settings, points, work, i, par, limits, found, out)
    if not chisq < np.inf:
        return TOO_FEW_POINTS
    if settings.has_phase_range and settings.phase_iterative:
        activate(settings, points, work, i, par[PZ], par[PT])
        freeze_covariance(tables, work, par)
    elif settings.fitted[PT] and out.flags[i] & NO_SIGNAL == 0 and near_edge(tables, work, par):
        lower, ended = cross_edges(tables, settings, work, par, limits, out, i)
        if lower < chisq - 1e-9 * (1.0 + abs(chisq)):
            converged = ended
    if settings.model_covariance:
        work.number[MODEL_ERROR] = 1
        good, converged = covariance_rounds(tables, settings, points, work, i, par, limits, out)
        signal = out.flags[i] & NO_SIGNAL == 0
        cut = settings.has_phase_range and settings.phase_iterative
        if good and settings.fitted[PT] and not settings.fitted[PZ] and signal and not cut:
            good, converged = try_beside(
                tables, settings, points, work, i, par, limits, out, converged
            )
        if settings.fitted[PZ] and settings.fitted[PT] and signal:
            for _ in range(2):
                if not good or not walk_redshifts(tables, settings, work, i, par, limits, out):
                    break
                good, converged = covariance_rounds(
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
