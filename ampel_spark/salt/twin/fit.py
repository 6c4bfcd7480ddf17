"""From raw arrays to fitted parameters, object by object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt import records
from ampel_spark.salt.options import Settings, Targets
from ampel_spark.salt.records import Output, Points
from ampel_spark.salt.tables import REFERENCE_ZP, Tables
from ampel_spark.salt.twin.model import T0, X0, X1, C, PlainModel, Z
from ampel_spark.salt.twin.object import LARGEST, SMALLEST, Object
from ampel_spark.salt.twin.rounds import covariance_rounds, cross_edges, try_beside, walk_redshifts
from ampel_spark.salt.twin.starts import edge_distance, find_starts, search

__all__ = ["fit_range", "predict_range"]

Array = NDArray[np.float64]


def fit_range(
    tables: Tables,
    settings: Settings,
    targets: Targets,
    points: Points,
    begin: int,
    end: int,
    out: Output,
) -> None:
    """Fit objects `begin` to `end`, into `out` (as the kernel's ``batch.fit_range``)."""
    for i in range(begin, end):
        out.refusal[i] = _fit_object(tables, settings, targets, points, i, out)


def _fit_object(
    tables: Tables, settings: Settings, targets: Targets, points: Points, i: int, out: Output
) -> int:
    fitted = settings.fitted
    row = i if len(targets.lower) > 1 else 0
    prior_row = i if len(targets.prior_mean) > 1 else 0
    par = targets.fixed[i].copy()
    lower = np.where(fitted, targets.lower[row], par)
    upper = np.where(fitted, targets.upper[row], par)
    if not (tables.z_min <= lower[Z] <= upper[Z] <= tables.z_max):
        return records.BAD_REDSHIFT
    index = _select(tables, settings, targets, points, i, lower[Z], upper[Z], out)
    if len(index) < max(settings.min_points, 1):
        return records.TOO_FEW_POINTS
    origin = points.time[index].min()
    sn = _make_object(tables, settings, targets, points, i, index, origin)
    sn.prior_mean = targets.prior_mean[prior_row].copy()
    sn.prior_weight = np.where(fitted, targets.prior_weight[prior_row], 0.0)
    first = tables.phase_start
    last = first + tables.phase_step * (tables.n_phases - 1)
    sn.prior_mean[T0] -= origin
    if fitted[T0] and np.isnan(lower[T0]):
        lower[T0] = -last * (1.0 + upper[Z])
        upper[T0] = sn.time.max() - first * (1.0 + upper[Z])
    else:
        lower[T0] -= origin
        upper[T0] -= origin
    sn.lower, sn.upper = lower, upper
    par[T0] -= origin
    for k in (C, X1):
        if fitted[k]:
            par[k] = np.clip(
                sn.prior_mean[k] if sn.prior_weight[k] > 0.0 else 0.0, lower[k], upper[k]
            )
    if fitted[X0]:
        par[X0] = np.clip(1e-4, lower[X0], upper[X0])
    starts = find_starts(sn, par)
    if not sn.freeze(None):
        return records.BAD_COVARIANCE
    signal = not out.flags[i] & records.NO_SIGNAL
    par, converged = search(sn, par, starts, signal, out.counts[i])
    if par is None:
        return records.TOO_FEW_POINTS
    cut = settings.has_phase_range and settings.phase_iterative
    if cut:
        sn.set_phase_range(par[Z], par[T0])
        sn.freeze(None)
    elif fitted[T0] and signal:
        phase = (sn.time - par[T0]) / (1.0 + par[Z])
        if np.any(edge_distance(tables, phase) < 3.0):
            ended = cross_edges(sn, par, out.counts[i])
            converged = converged if ended is None else ended
    if settings.model_covariance:
        good, converged = covariance_rounds(sn, par, out.counts[i])
        if good and fitted[T0] and not fitted[Z] and signal and not cut:
            good, converged = try_beside(sn, par, out.counts[i], converged)
        if fitted[Z] and fitted[T0] and signal:
            for _ in range(2):
                if not good or not walk_redshifts(sn, par, out.counts[i]):
                    break
                good, converged = covariance_rounds(sn, par, out.counts[i])
        if not good:
            return records.BAD_COVARIANCE
    _finish(sn, par, i, out)
    _judge(sn, par, i, converged, out)
    out.parameters[i] = np.where(fitted, par, targets.fixed[i])
    if fitted[T0]:
        out.parameters[i, T0] += origin
    return 0


def _select(
    tables: Tables,
    settings: Settings,
    targets: Targets,
    points: Points,
    i: int,
    z_low: float,
    z_high: float,
    out: Output,
) -> NDArray[np.int64]:
    """Return the usable points of object `i`; count the others."""
    every = np.arange(points.offsets[i], points.offsets[i + 1])
    band, err = points.band[every], points.fluxerr[every]
    known = band >= 0
    with np.errstate(all="ignore"):
        snr = points.flux[every] / err
        good = (
            np.isfinite(points.time[every])
            & np.isfinite(points.flux[every])
            & (err > SMALLEST)
            & (err < LARGEST)
            & (np.abs(snr) < LARGEST)
            & (np.abs(points.zp[every]) < 100.0)
        )
    covered = np.ones(len(tables.band_min), bool)
    for z in (z_low, z_high):
        covered &= tables.band_min > tables.model_min * (1.0 + z)
        covered &= tables.band_max < tables.model_max * (1.0 + z)
    inside = known & covered[np.where(known, band, 0)]
    usable = known & good & inside
    out.counts[i, 4] = np.sum(~known)
    out.counts[i, 3] = np.sum(known & ~good)
    out.counts[i, 5] = np.sum(known & good & ~inside)
    out.dropped_bands[i, band[known & good & ~inside]] = True
    with np.errstate(invalid="ignore"):
        keep = usable & (snr > settings.snr_cut)
    if settings.has_phase_range and not settings.phase_iterative:
        stretch = 1.0 if settings.phase_observer else 1.0 + z_low
        with np.errstate(invalid="ignore"):
            phase = (points.time[every] - targets.phase_reference[i]) / stretch
            keep &= (settings.phase_min < phase) & (phase < settings.phase_max)
    out.counts[i, 6] = np.sum(usable & ~keep)
    if np.any(keep):
        out.max_snr[i] = snr[keep].max()
        if not out.max_snr[i] > settings.min_snr:
            out.flags[i] |= records.NO_SIGNAL
    for column, flag in (
        (3, records.BAD_POINTS),
        (4, records.UNKNOWN_BAND),
        (5, records.BAND_DROPPED),
    ):
        if out.counts[i, column] > 0:
            out.flags[i] |= flag
    kept = every[keep]
    order = np.lexsort((points.flux[kept], points.time[kept], points.band[kept]))
    return np.asarray(kept[order])


def _make_object(
    tables: Tables,
    settings: Settings,
    targets: Targets,
    points: Points,
    i: int,
    index: NDArray[np.int64],
    origin: float,
) -> Object:
    band = points.band[index].astype(np.int64)
    scale = 10.0 ** (0.4 * (REFERENCE_ZP - points.zp[index]))
    scale *= points.system_ratio[band, points.system[index]]
    flux = points.flux[index] * scale
    given = np.diag((points.fluxerr[index] * scale) ** 2)
    if len(points.cov_offsets) and points.cov_offsets[i + 1] > points.cov_offsets[i]:
        size = points.offsets[i + 1] - points.offsets[i]
        block = points.cov[points.cov_offsets[i] : points.cov_offsets[i + 1]].reshape(size, size)
        within = index - points.offsets[i]
        given = block[np.ix_(within, within)] * np.outer(scale, scale)
    given = given + np.diag(settings.floor**2 + (settings.fractional_floor * flux) ** 2)
    dust = targets.ebv[i] * targets.law[targets.law_row[i]]
    unset = np.full(5, np.nan)
    sn = Object(
        model=PlainModel(tables, dust),
        settings=settings,
        time=points.time[index] - origin,
        flux=flux,
        band=band,
        given=given,
        index=index,
        lower=unset,
        upper=unset,
        prior_mean=unset,
        prior_weight=unset,
    )
    sn.use = np.ones(len(index), bool)
    return sn


def _finish(sn: Object, par: Array, i: int, out: Output) -> None:
    """Errors from the second derivatives, and one Newton step with the same matrix."""
    chisq = sn.profile(par)
    matrix, gradient = sn.equations(par)
    covariance = sn.errors(sn.hessian(par, matrix))
    if covariance is not None:
        outer = sn.outer()
        trial = par.copy()
        trial[outer] += (covariance[:, sn.settings.fitted] @ gradient[sn.settings.fitted])[outer]
        feasible = np.all((sn.lower <= trial)[outer] & (trial <= sn.upper)[outer])
        if feasible and sn.profile(trial) < chisq:
            par[:] = trial
    else:
        covariance = sn.errors(matrix)
        out.flags[i] |= records.NO_ERRORS if covariance is None else records.NO_HESSIAN
    if covariance is not None:
        out.covariance[i] = covariance
    chisq = sn.profile(par)
    out.prior_chisq[i] = sn.prior(par)
    out.chisq[i] = chisq - out.prior_chisq[i]


def _judge(sn: Object, par: Array, i: int, converged: bool, out: Output) -> None:
    """Counts and flags of a finished fit."""
    settings, t = sn.settings, sn.model.tables
    phase = (sn.time[sn.use] - par[T0]) / (1.0 + par[Z])
    last = t.phase_start + t.phase_step * (t.n_phases - 1)
    inside = (phase >= t.phase_start) & (phase <= last)
    out.used[sn.index[sn.use]] = True
    out.points_by_band[i] = np.bincount(sn.band[sn.use], minlength=len(t.band_min))
    before, after = np.sum(inside & (phase < 0.0)), np.sum(inside & (phase >= 0.0))
    out.counts[i, :3] = sn.use.sum(), before, after
    if inside.any():
        out.phases[i] = phase[inside].min(), phase[inside].max()
    reach = 0.0
    if settings.fitted[T0]:
        error = np.sqrt(out.covariance[i, T0, T0]) / (1.0 + par[Z])
        reach = 3.0 * error if error < 5.0 else 15.0
    bright = sn.flux[sn.use] ** 2 > 9.0 * np.diag(sn.given)[sn.use]
    edge = bool(np.any(bright & ((edge_distance(t, phase) < reach) | (phase > last))))
    at_bound = ~((sn.lower < par) & (par < sn.upper))
    if np.any(at_bound[settings.fitted]):
        out.flags[i] |= records.AT_BOUND
    if edge:
        out.flags[i] |= records.MODEL_EDGE
    if before == 0 or after == 0 or not np.any(inside & (np.abs(phase) <= 10.0)):
        out.flags[i] |= records.POOR_COVERAGE
    if not converged and not edge:
        out.flags[i] |= records.NOT_CONVERGED


def predict_range(
    tables: Tables,
    targets: Targets,
    points: Points,
    parameters: Array,
    begin: int,
    end: int,
    flux: Array,
) -> None:
    """Model flux of each point, in the points' own units; NaN where there is none."""
    for i in range(begin, end):
        z, t0, x0, x1, c = parameters[i]
        if not (np.all(np.isfinite(parameters[i])) and tables.z_min <= z <= tables.z_max):
            continue
        model = PlainModel(tables, targets.ebv[i] * targets.law[targets.law_row[i]])
        covered = (tables.band_min > tables.model_min * (1.0 + z)) & (
            tables.band_max < tables.model_max * (1.0 + z)
        )
        every = np.arange(points.offsets[i], points.offsets[i + 1])
        band = points.band[every].astype(np.int64)
        keep = (band >= 0) & covered[np.where(band >= 0, band, 0)]
        every, band = every[keep], band[keep]
        scale = 10.0 ** (0.4 * (REFERENCE_ZP - points.zp[every]))
        scale *= points.system_ratio[band, points.system[every]]
        value = x0 * model.basis(band, points.time[every], z, t0, c) @ np.array([1.0, x1])
        flux[every] = value / scale
