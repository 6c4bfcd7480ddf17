"""Fits of whole batches by `ampel_spark.salt`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import sncosmo

from ampel_spark.salt import (
    PARAMETERS,
    FitOptions,
    FitResult,
    Flag,
    LightCurves,
    SaltFitter,
    Status,
)
from ampel_spark.t2.fits import models
from ampel_spark.t2.fits.peaks import peak_magnitudes
from ampel_spark.t2.fits.points import POINT, FitPoints, numbers
from ampel_spark.t2.fits.results import Fits
from ampel_spark.t2.fits.task import Objects, Task

__all__ = ["fit_objects"]

Array = npt.NDArray[Any]
Notes = dict[int, tuple[str, ...]]

_NO_END = "the search for the minimum did not come to an end"
_NO_ERRORS = "no errors: some direction is not constrained by the data"
_ZP = 25.0


def fit_objects(
    points: FitPoints, objects: Objects, task: Task, engine: str, wanted: Array
) -> Fits:
    """Fit those objects of a batch that are wanted. Where there is no fit, chi square is NaN.

    Parameters
    ----------
    points : FitPoints
    objects : Objects
    task : Task
        Of a SALT model.
    engine : str
        Of `SaltFitter`: ``auto`` or ``numpy``.
    wanted : ndarray of bool with shape (M,)
        These have points.
    """
    m, n_bands = len(points), len(task.bands)
    source = models.source(task.model)
    notes: Notes = {}
    fits = Fits(
        names=PARAMETERS,
        values=np.full((m, 5), np.nan),
        errors=np.full((m, 5), np.nan),
        covariance=np.full((m, 5, 5), np.nan),
        fitted=np.zeros((m, 5), bool),
        low=np.full((m, 5), -np.inf),
        high=np.full((m, 5), np.inf),
        chisq=np.full(m, np.nan),
        success=np.zeros(m, bool),
        n_starts=np.zeros(m, np.int32),
        used=np.zeros(len(points.time), bool),
        expected=np.full(len(points.time), np.nan),
        phases=(float(source.minphase()), float(source.maxphase())),
        peak_b=np.full(m, np.nan),
        peaks=np.full((m, n_bands), np.nan),
        notes=notes,
        words=np.full(m, "", object),
    )
    if not wanted.any():
        return fits
    fitter = _fitter_of(task, float(objects.high[wanted].max()), engine)
    there = [curve is not None for curve in task.bands.values()]
    number = np.cumsum(there) - 1  # of a band in the fitter's list
    ebv = np.where(np.isnan(objects.ebv), 0.0, objects.ebv)
    prior = np.isfinite(objects.sigma)
    free = objects.is_free
    for group in (~free, free & ~prior, free & prior):
        rows = np.flatnonzero(group & wanted)
        if not len(rows):
            continue
        some, at = _of(points, rows)
        result = fitter.fit(
            LightCurves(
                some.offsets, some.time, some.flux, some.error,
                number[some.band].astype(np.int32), some.zp,
            ),
            z=None if free[rows[0]] else objects.z[rows],
            mwebv=ebv[rows],
            options=_options(task, objects, rows),
            x1=task.fixed.get("x1"),
            c=task.fixed.get("c"),
        )  # fmt: skip
        _enter(fits, rows, at, result, notes)
    _bounds(fits, points, objects, task)
    fitted = np.flatnonzero(np.isfinite(fits.chisq))
    _evaluate(fits, points, fitter, fitted, number, ebv)
    return fits


def _fitter_of(task: Task, z_high: float, engine: str) -> SaltFitter:
    """Return the fitter of a task, built once in a process, for redshifts up to `z_high`.

    Tables that reach farther have the same nodes: no result depends on how far they reach.
    """
    reach = 0.2
    while reach < z_high:
        reach *= 2.0
    curves = tuple(curve for curve in task.bands.values() if curve is not None)
    return _fitter(models.source(task.model), curves, task.law or "F99", reach, engine)


@functools.lru_cache(maxsize=32)  # a grid of variations takes turns
def _fitter(
    source: sncosmo.Source, curves: tuple[Any, ...], law: str, z_high: float, engine: str
) -> SaltFitter:
    return SaltFitter(source, curves, z_range=(0.0, z_high), dust_law=law, engine=engine)


@functools.lru_cache(maxsize=4)
def _rest_fitter(source: sncosmo.Source, engine: str) -> SaltFitter:
    return SaltFitter(source, ["bessellb"], z_range=(0.0, 0.0), engine=engine)


def _of(points: FitPoints, rows: Array) -> tuple[FitPoints, Array]:
    """Return the points of some objects, and where these are."""
    if len(rows) == len(points):
        return points, np.arange(len(points.time))
    chosen = np.zeros(len(points), bool)
    chosen[rows] = True
    at = np.flatnonzero(chosen[points.group])
    offsets = np.concatenate([[0], np.cumsum(points.count[rows])])
    group = (np.cumsum(chosen) - 1)[points.group[at]]
    arrays = {k: getattr(points, k)[at] for k in POINT}
    return FitPoints(offsets, group, notes={}, **arrays), at


def _options(task: Task, objects: Objects, rows: Array) -> FitOptions:
    names = [n for n in ("t0", "x0", "x1", "c") if n not in task.fixed]
    bounds: dict[str, Any] = {k: v for k, v in task.bounds.items() if k in names}
    priors: dict[str, Any] = {}
    if objects.is_free[rows[0]]:
        names = ["z", *names]
        bounds["z"] = (objects.low[rows], objects.high[rows])
        if np.isfinite(objects.sigma[rows[0]]):
            priors["z"] = (objects.mean[rows], objects.sigma[rows])
    return FitOptions(
        fit=names,
        bounds=bounds,
        priors=priors,
        model_covariance=task.model_covariance,
        phase_range=task.phase_range,
        phase_frame="observer" if task.observer else "rest",
        min_points=task.min_points,
        min_snr=task.min_snr,
    )


def _enter(fits: Fits, rows: Array, at: Array, result: FitResult, notes: Notes) -> None:
    """Write the fits of some objects into those of their batch."""
    good = result.status >= 0
    fits.values[rows[good]] = result.parameters[good]
    fitted = np.array([name in result.fitted for name in PARAMETERS])
    fits.fitted[rows[good]] = fitted
    fits.covariance[rows[good]] = result.covariance[good]
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(np.diagonal(result.covariance, axis1=1, axis2=2))
    fits.errors[rows[good]] = np.where(fitted, errors, np.nan)[good]
    fits.chisq[rows[good]] = result.chisq[good]
    fits.success[rows] = result.success
    fits.words[rows] = [Status(word).name.lower() for word in result.status.tolist()]
    fits.n_starts[rows] = result.n_starts
    fits.used[at] = result.used
    for flag, text in ((Flag.NOT_CONVERGED, _NO_END), (Flag.NO_ERRORS, _NO_ERRORS)):
        for k in numbers(good & (result.flags & flag != 0)):
            i = int(rows[k])
            notes[i] = (*notes.get(i, ()), text)


def _bounds(fits: Fits, points: FitPoints, objects: Objects, task: Task) -> None:
    """Write the bounds that the fits had; t0: so that the model overlaps the data."""
    for k, name in enumerate(PARAMETERS):
        if name in task.bounds:
            fits.low[:, k], fits.high[:, k] = task.bounds[name]
    fits.low[:, 0], fits.high[:, 0] = objects.low, objects.high
    fits.low[:, 2] = task.bounds.get("x0", (0.0, np.inf))[0]
    if "t0" not in task.bounds:
        used = points.where(fits.used)
        some = used.count > 0
        stretch = 1.0 + fits.values[some, 0]
        first, last = used.time[used.offsets[:-1][some]], used.time[used.offsets[1:][some] - 1]
        fits.low[some, 1] = first - fits.phases[1] * stretch
        fits.high[some, 1] = last - fits.phases[0] * stretch


def _evaluate(
    fits: Fits, points: FitPoints, fitter: SaltFitter, rows: Array, number: Array, ebv: Array
) -> None:
    """Write the model's flux at the points fitted, and its maxima."""
    some, at = _of(points, rows)
    parameters = fits.values[rows]
    curves = LightCurves(
        some.offsets, some.time, some.flux, some.error, number[some.band].astype(np.int32), some.zp
    )
    expected = fitter.predict(curves, parameters, mwebv=ebv[rows])
    # sncosmo's flux is zero where the model has none
    fits.expected[at] = np.where(np.isnan(expected), 0.0, expected)
    rest = parameters.copy()
    rest[:, :2] = 0.0
    fits.peak_b[rows] = _peaks(
        _rest_fitter(fitter.source, fitter.engine), 0, rest, np.zeros(len(rows))
    )
    for b in range(fits.peaks.shape[1]):
        seen = np.zeros(len(fits), bool)
        seen[points.group[fits.used & (points.band == b)]] = True
        mine = np.flatnonzero(seen[rows])
        if len(mine):
            fits.peaks[rows[mine], b] = _peaks(
                fitter, int(number[b]), parameters[mine], ebv[rows[mine]]
            )


def _peaks(fitter: SaltFitter, band: int, parameters: Array, ebv: Array) -> Array:
    m = len(parameters)
    t0, stretch = parameters[:, 1:2], 1.0 + parameters[:, :1]

    def flux_at(phases: Array) -> Array:
        n = phases.shape[1]
        ones = np.ones(m * n)
        light = LightCurves(
            np.arange(m + 1) * n, (t0 + stretch * phases).ravel(), ones, ones,
            np.full(m * n, band, np.int32), _ZP,
        )  # fmt: skip
        return fitter.predict(light, parameters, mwebv=ebv).reshape(m, n)

    return peak_magnitudes(flux_at, m, _ZP)
