"""Fits by `sncosmo.fit_lc`, one by one, with the cut in phase that fits ask for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
import sncosmo

from ampel_spark.t2.fits import models
from ampel_spark.t2.fits.points import FitPoints, numbers
from ampel_spark.t2.fits.results import Fits
from ampel_spark.t2.fits.task import Objects, Task

__all__ = ["Fit", "ObjectPoints", "fit", "fit_objects"]

Array = npt.NDArray[Any]
Range = tuple[float, float]

_MAX_CUTS = 10


def fit_objects(points: FitPoints, objects: Objects, task: Task, wanted: Array) -> Fits:
    """Fit those of some objects that are wanted, each with `fit`.

    Where there is no fit, chi square is NaN.
    """
    m = len(points)
    bands, curves = list(task.bands), np.array([*task.bands.values()], object)
    model = models.model(task.model, task.law)
    names = ("z", "t0", *model.source.param_names)
    shape = (m, len(names))
    fits = Fits(
        names=names,
        values=np.full(shape, np.nan),
        errors=np.full(shape, np.nan),
        covariance=np.full((*shape, len(names)), np.nan),
        fitted=np.zeros(shape, bool),
        low=np.full(shape, -np.inf),
        high=np.full(shape, np.inf),
        chisq=np.full(m, np.nan),
        success=np.zeros(m, bool),
        n_starts=np.zeros(m, np.int32),
        used=np.zeros(len(points.time), bool),
        expected=np.full(len(points.time), np.nan),
        phases=(float(model.source.minphase()), float(model.source.maxphase())),
        peak_b=np.full(m, np.nan),
        peaks=np.full((m, len(bands)), np.nan),
        notes=(notes := {}),
        words=np.full(m, "", object),
    )
    for i in numbers(wanted):
        free = bool(objects.is_free[i])
        span = slice(points.offsets[i], points.offsets[i + 1])
        # A new one each time: a fit starts where its model stands.
        model = models.model(task.model, task.law)
        model.set(z=0.5 * (objects.low[i] + objects.high[i]), **task.fixed)
        if task.law is not None:
            model.set(mwebv=objects.ebv[i])
        data = ObjectPoints(
            points.time[span],
            np.array(bands, object)[points.band[span]],
            curves[points.band[span]],
            points.flux[span],
            points.error[span],
            points.zp[span],
        )
        bounds = dict(task.bounds)
        if free:
            bounds["z"] = (objects.low[i], objects.high[i])
        best = fit(
            data,
            model,
            [n for n in names if (n != "z" or free) and n not in task.fixed],
            bounds,
            min_snr=task.min_snr,
            model_covariance=task.model_covariance,
            phase_range=task.phase_range,
            min_points=task.min_points,
            observer=task.observer,
        )
        if best is not None:
            _enter(fits, i, best, span, bands, curves)
            notes[i], fits.words[i] = best.notes, best.word
    return fits


def _enter(fits: Fits, i: int, best: Fit, span: slice, bands: Sequence[str], curves: Array) -> None:
    """Write one fit into those of its batch."""
    model, data = best.model, best.data
    names = list(fits.names)
    fits.values[i] = [model.get(name) for name in names]
    at = [names.index(name) for name in best.fitted]
    fits.fitted[i, at] = True
    fits.errors[i, at] = [best.errors.get(name, np.nan) for name in best.fitted]
    if best.covariance is not None:
        fits.covariance[i][np.ix_(at, at)] = best.covariance
    for name, (low, high) in best.bounds.items():
        if name in names:
            fits.low[i, names.index(name)], fits.high[i, names.index(name)] = low, high
    fits.chisq[i], fits.success[i], fits.n_starts[i] = best.chisq, best.success, 1
    where = np.flatnonzero(best.mask) + span.start
    fits.used[where] = True
    fits.expected[where] = model.bandflux(data.curve, data.time, zp=data.zp, zpsys="ab")
    bare = sncosmo.Model(model.source)
    fits.peak_b[i] = _peak_magnitude(bare, sncosmo.get_bandpass("bessellb"))
    for b, name in enumerate(bands):
        if name in data.band:
            fits.peaks[i, b] = _peak_magnitude(model, curves[b])


def _peak_magnitude(model: sncosmo.Model, band: sncosmo.Bandpass) -> float:
    """Return the magnitude of a model's maximum as `sncosmo.Source.peakmag` does; NaN for none."""
    if not model.bandoverlap(band):
        return np.nan
    first, last = model.mintime(), model.maxtime()
    time = np.linspace(first, last, ceil((last - first) / (1.0 + model.get("z"))) + 1)
    flux = model.bandflux(band, time, zp=25.0, zpsys="ab")
    i = int(np.argmax(flux))
    peak = flux[i]
    if 0 < i < len(time) - 1:
        a, b, c = flux[i - 1 : i + 2]
        middle = time[i] + 0.5 * (time[1] - time[0]) * (a - c) / (a - 2.0 * b + c)
        peak = float(model.bandflux(band, middle, zp=25.0, zpsys="ab"))
    return float(25.0 - 2.5 * np.log10(peak)) if peak > 0 else np.nan


@dataclass(frozen=True, eq=False)
class ObjectPoints:
    """Points to fit, in order of time; all arrays have shape (N,).

    Attributes
    ----------
    time : JD
    band : names of the bands
    curve : the bands, as `sncosmo.Bandpass`
    flux, error : flux and error in units of `zp`
    zp : AB zero points, mag
    """

    time: Array
    band: Array
    curve: Array
    flux: Array
    error: Array
    zp: Array

    def __len__(self) -> int:
        return len(self.time)

    def where(self, mask: Array) -> ObjectPoints:
        """Return the points that a mask selects."""
        return ObjectPoints(**{name: values[mask] for name, values in vars(self).items()})

    @property
    def snr(self) -> Array:
        """Signal-to-noise ratios."""
        return np.asarray(self.flux / self.error)

    def brightest(self, min_snr: float) -> float:
        """Return the time of the brightest point with a S/N above `min_snr`, which must exist."""
        flux = self.flux * 10.0 ** (-0.4 * (self.zp - 25.0))
        return float(self.time[np.argmax(np.where(self.snr > min_snr, flux, -np.inf))])


@dataclass(frozen=True, eq=False)
class Fit:
    """The outcome of a fit.

    Attributes
    ----------
    model : sncosmo.Model
        At the best fit.
    data : ObjectPoints
        The points fitted.
    mask : ndarray of bool
        Which of the points given these are.
    fitted : sequence of str
        Parameters, in the order of `covariance`.
    errors : mapping of str to float
        Their errors; empty where the minimiser has none.
    covariance : ndarray with shape (K, K), or None
    chisq : float
    success : bool
    notes : tuple of str
        What there is to say of it.
    bounds : mapping of str to (float, float)
        Those of the minimiser.
    word : str
        What sncosmo says of how it ended.
    """

    model: sncosmo.Model
    data: ObjectPoints
    mask: Array
    fitted: Sequence[str]
    errors: Mapping[str, float]
    covariance: Array | None
    chisq: float
    success: bool
    notes: tuple[str, ...]
    bounds: Mapping[str, Range]
    word: str = ""

    def phase(self, time: Array, observer: bool = False) -> Array:
        """Return phases, in the rest frame or the observer's."""
        stretch = 1.0 if observer else 1.0 + self.model.get("z")
        return np.asarray((time - self.model.get("t0")) / stretch)


def fit(
    data: ObjectPoints,
    model: sncosmo.Model,
    names: Sequence[str],
    bounds: Mapping[str, Range],
    *,
    min_snr: float,
    model_covariance: bool,
    phase_range: Range | None,
    min_points: int,
    observer: bool = False,
) -> Fit | None:
    """Fit, keep the points within a phase range about t0, and fit again until they stay the same.

    Parameters
    ----------
    data : ObjectPoints
        At least one point has a S/N above `min_snr`.
    model : sncosmo.Model
        With the values of the parameters that are held.
    names : sequence of str
        Parameters to fit.
    bounds : mapping of str to (float, float)
        Of z, where fitted, and of any others.
    min_snr : float
        Points above it serve for the first guess.
    model_covariance : bool
        Whether the model's own scatter counts.
    phase_range : (float, float) or None
        Days from t0; None takes all points.
    min_points : int
        Fewest points that a fit takes.
    observer : bool
        Whether these are days in the observer's frame, and not in the rest frame.

    Returns
    -------
    Fit or None
        None if fewer than `min_points` are in the phase range, or none of these is significant.
    """

    def enough(mask: Array) -> bool:
        return bool(mask.sum() >= min_points and (data.snr[mask] > min_snr).any())

    z = bounds["z"][1] if "z" in names else model.get("z")
    near = np.ones(len(data), bool)
    if phase_range is not None:
        # The first fit takes points within a generous range about the brightest one: points years
        # away, where the model is zero, must not lead it.
        low, high = phase_range
        days = (data.time - data.brightest(min_snr)) / (1.0 if observer else 1.0 + z)
        near = (days > 2 * low - high) & (days < 2 * high - low)
        if not enough(near):
            return None
    best = _minimised(data, near, model, names, bounds, min_snr, model_covariance, True)
    if phase_range is None:
        return best
    used = near
    for _ in range(_MAX_CUTS):
        phase = best.phase(data.time, observer)
        new = (phase > phase_range[0]) & (phase < phase_range[1])
        if (new == used).all():
            return best
        if not enough(new):
            return None
        used = new
        best = _minimised(data, used, best.model, names, bounds, min_snr, model_covariance, False)
    return replace(best, success=False, notes=(*best.notes, "the phase cut did not settle"))


def _minimised(
    all_data: ObjectPoints,
    mask: Array,
    model: sncosmo.Model,
    names: Sequence[str],
    bounds: Mapping[str, Range],
    min_snr: float,
    model_covariance: bool,
    guess: bool,
) -> Fit:
    data = all_data.where(mask)
    table = {
        "time": data.time,
        "band": data.curve,
        "flux": data.flux,
        "fluxerr": data.error,
        "zp": data.zp,
        "zpsys": np.full(len(data), "ab"),
    }
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # On its way to the minimum the model may overflow; the outcome is judged below.
        warnings.simplefilter("ignore")
        result, best = sncosmo.fit_lc(
            table,
            model,
            list(names),
            bounds={name: bounds[name] for name in names if name in bounds},
            guess_amplitude=guess,
            guess_t0=guess,
            guess_z=guess,
            minsnr=min_snr,
            modelcov=model_covariance,
            warn=False,
        )
    t0_bounds = (
        data.time.min() - (best.maxtime() - best.get("t0")),
        data.time.max() - (best.mintime() - best.get("t0")),
    )
    notes = [] if result.success else [f"sncosmo: {result.message}"]
    return Fit(
        best,
        data,
        mask,
        tuple(result.vparam_names),
        dict(result.errors or {}),
        result.covariance,
        float(result.chisq),
        bool(result.success) and bool(np.isfinite(result.chisq)),
        tuple(notes),
        {"t0": t0_bounds} | {k: v for k, v in bounds.items() if k in names},
        str(result.message).strip(),
    )
