"""Fits by `sncosmo.fit_lc`, one by one, with the cut in phase that fits ask for."""

from __future__ import annotations

import copy
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
#: As in `ampel_spark.salt`: when another solution is a rival, how near t0 comes to where a point
#: enters or leaves the phase range [d], mean life of cobalt-56 [d].
RIVAL, GAP, COBALT = 9.0, 1e-6, 111.4
#: Steps in t0 of the search for starts, rest-frame days, and how many of these are tried.
START_STEP, STARTS = 5.0, 3


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
        rival=np.full(shape, np.nan),
        rival_delta=np.full(m, np.nan),
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
    if best.rival is not None:
        fits.rival[i] = [best.rival.model.get(name) for name in names]
        fits.rival_delta[i] = best.rival.cost - best.cost
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
    cost : float
        By which solutions are compared (`ampel_spark.salt.cost`).
    rival : Fit or None
        Another solution that costs hardly more.
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
    cost: float = np.nan
    rival: Fit | None = None

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
    """Fit the points within a phase range about the t0 that comes of them.

    Of several such solutions the one that costs least (`ampel_spark.salt.cost`).

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
        None where there is no solution: fewer than `min_points` are in the phase range, or none of
        these is significant.
    """

    z = bounds["z"][1] if "z" in names else model.get("z")
    task = _Search(
        data, names, bounds, min_snr, model_covariance, phase_range, min_points, observer
    )
    near = np.ones(len(data), bool)
    if phase_range is None:
        return task.minimised(near, model, guess=True)
    # The first fit takes points within a generous range about the brightest one: points years
    # away, where the model is zero, must not lead it.
    low, high = phase_range
    days = (data.time - data.brightest(min_snr)) / (1.0 if observer else 1.0 + z)
    near = (days > 2 * low - high) & (days < 2 * high - low)
    found: list[Fit] = []
    if task.enough(near):
        found += task.settled(task.minimised(near, model, guess=True))
    if not found or task.is_doubtful(found[0]):
        for start in task.starts(found[0].model if found else model):
            found += task.settled(task.minimised(task.inside(start), start))
    if not found:
        return None
    found.sort(key=lambda one: one.cost)
    best = found[0]
    rival = next((one for one in found[1:] if _is_rival(best, one)), None)
    return replace(best, rival=rival)


def _is_rival(best: Fit, other: Fit) -> bool:
    """Whether another solution costs hardly more, and is more than an error away."""
    return other.cost - best.cost < RIVAL and any(
        not abs(best.model.get(name) - other.model.get(name)) < best.errors.get(name, 0.0)
        for name in best.fitted
    )


@dataclass(frozen=True, eq=False)
class _Search:
    """The solutions for one light curve, each with the points of its own phase range.

    They are compared by what `ampel_spark.salt.cost` describes.
    """

    data: ObjectPoints
    names: Sequence[str]
    bounds: Mapping[str, Range]
    min_snr: float
    model_covariance: bool
    phase_range: Range | None
    min_points: int
    observer: bool

    def enough(self, mask: Array) -> bool:
        """Whether points can be fitted."""
        some = mask.sum() >= self.min_points
        return bool(some and (self.data.snr[mask] > self.min_snr).any())

    def inside(self, model: sncosmo.Model) -> Array:
        """Say which points are in the phase range about a model's t0."""
        assert self.phase_range is not None
        stretch = 1.0 if self.observer else 1.0 + model.get("z")
        phase = (self.data.time - model.get("t0")) / stretch
        return np.asarray((phase > self.phase_range[0]) & (phase < self.phase_range[1]))

    def minimised(
        self, mask: Array, model: sncosmo.Model, guess: bool = False, t0: Range | None = None
    ) -> Fit | None:
        """Fit some points, with t0 in a range where one is given; None where they are too few."""
        if self.phase_range is not None and not self.enough(mask):
            return None
        bounds = dict(self.bounds) | ({} if t0 is None else {"t0": t0})
        return _minimised(
            self.data, mask, model, self.names, bounds, self.min_snr, self.model_covariance, guess
        )

    def settled(self, best: Fit | None) -> list[Fit]:
        """Return the solution that fits lead to, of the points in the range about the last t0."""
        for _ in range(_MAX_CUTS):
            if best is None:
                return []
            new = self.inside(best.model)
            if (new == best.mask).all():
                return [self.weighed(best)]
            best = self.minimised(new, best.model)
        if best is None:
            return []
        # A point enters as t0 moves away from it, and leaves as t0 comes back: of the two sides of
        # this jump, the one that costs less.
        sides = [self.stayed(best.model)]
        low, high = self.enclosed(best.model)
        for t0 in (low - 3 * GAP, high + 3 * GAP):
            if sides[0] is not None and abs(sides[0].model.get("t0") - t0) < 5 * GAP:
                beside = copy.copy(sides[0].model)
                beside.set(t0=t0)
                sides.append(self.stayed(beside))
        fits = [self.weighed(one) for one in sides if one is not None]
        return [min(fits, key=lambda one: one.cost)] if fits else []

    def stayed(self, model: sncosmo.Model) -> Fit | None:
        """Fit with t0 where the phase range has the same points."""
        low, high = self.enclosed(model)
        best = self.minimised(self.inside(model), model, t0=(low, high))
        if best is None or (self.inside(best.model) == best.mask).all():
            return best
        return None

    def enclosed(self, model: sncosmo.Model) -> Range:
        """Return the bounds of t0 between which the phase range has the same points."""
        assert self.phase_range is not None
        stretch = 1.0 if self.observer else 1.0 + model.get("z")
        edges = np.concatenate([self.data.time - edge * stretch for edge in self.phase_range])
        t0 = model.get("t0")
        low, high = self.bounds.get("t0", (-np.inf, np.inf))
        before, after = edges[edges <= t0], edges[edges > t0]
        low = max(low, *before + GAP) if len(before) else low
        high = min(high, *after - GAP) if len(after) else high
        return min(low, t0 - 0.1 * GAP), max(high, t0 + 0.1 * GAP)

    def is_doubtful(self, best: Fit) -> bool:
        """Whether there may be another solution: signal outside the range, or one side is bare."""
        outside = self.data.snr[~best.mask]
        phase = best.phase(best.data.time)
        return bool((outside > 3.0).any() or (phase < -1.0).sum() < 2 or (phase > 5.0).sum() < 2)

    def weighed(self, best: Fit) -> Fit:
        """Return a fit with its cost."""
        cost = best.chisq
        if self.model_covariance and hasattr(best.model.source, "bandflux_rcov"):
            data = best.data
            scatter = best.model.bandfluxcov(data.curve, data.time, zp=data.zp, zpsys="ab")[1]
            variance = np.asarray(data.error) ** 2
            _, volume = np.linalg.slogdet(scatter + np.diag(variance))
            cost += float(volume - np.log(variance).sum())
        return replace(best, cost=cost + self.outside_cost(best.model, ~best.mask))

    def outside_cost(self, model: sncosmo.Model, outside: Array) -> float:
        """Cost of the points outside the phase range."""
        if self.phase_range is None or not outside.any():
            return 0.0
        data, t0, stretch = self.data.where(outside), model.get("t0"), 1.0 + model.get("z")
        frame = 1.0 if self.observer else stretch
        first, last = model.source.minphase(), model.source.maxphase()
        start = max(self.phase_range[0] * frame / stretch, first)
        end = min(self.phase_range[1] * frame / stretch, last)
        phase = (data.time - t0) / stretch
        early = (data.time - t0) / frame <= self.phase_range[0]
        edge = t0 + stretch * np.where(early, start, end)
        there = model.bandflux(data.curve, edge, zp=data.zp, zpsys="ab")
        fading = np.exp(-np.maximum(phase - last, 0.0) / COBALT)
        top = np.where(early, np.where(phase >= first, there, 0.0), there * fading)
        own = model.bandflux(data.curve, data.time, zp=data.zp, zpsys="ab")
        top = np.maximum(np.maximum(top, own), 0.0)
        away = np.maximum(np.maximum(data.flux - top, -data.flux), 0.0) / data.error
        cost = away**2 + 2.0 * np.log(1.0 + top / (np.sqrt(2.0 * np.pi) * data.error))
        return float(cost.sum())

    def starts(self, model: sncosmo.Model) -> list[sncosmo.Model]:
        """Return models at times where little is to pay, the amplitude the best, colours some."""
        assert self.phase_range is not None
        data, stretch = self.data, 1.0 + model.get("z")
        frame = 1.0 if self.observer else stretch
        bright = data.time[data.snr > self.min_snr]
        low, high = self.phase_range[0] * frame, self.phase_range[1] * frame
        times = np.arange(bright.min() - high, bright.max() - low, START_STEP * stretch)
        amplitude = model.source.param_names[0]
        names = [name for name in model.source.param_names[1:] if name in self.names]
        found: list[tuple[float, sncosmo.Model]] = []
        for colour in (0.0, 0.5) if "c" in names else (None,):
            costs, models_there = [], []
            for t0 in times:
                one = copy.copy(model)
                one.set(t0=t0)
                if colour is not None:
                    one.set(c=colour)
                if "x1" in names:
                    one.set(x1=0.0)
                costs.append(self._amplitude_set(one, amplitude))
                models_there.append(one)
            score = np.array([np.inf, *costs, np.inf])
            for k in range(len(times)):
                if score[k + 1] < score[k] and score[k + 1] <= score[k + 2]:
                    found.append((costs[k], models_there[k]))
        found.sort(key=lambda pair: pair[0])
        return [one for _, one in found[:STARTS]]

    def _amplitude_set(self, model: sncosmo.Model, amplitude: str) -> float:
        """Set the amplitude to the best for the points in the range; return the cost."""
        mask = self.inside(model)
        if not self.enough(mask):
            return np.inf
        data = self.data.where(mask)
        shape = model.bandflux(data.curve, data.time, zp=data.zp, zpsys="ab")
        norm = float((shape**2 / data.error**2).sum())
        factor = float((shape * data.flux / data.error**2).sum()) / norm if norm > 0 else 0.0
        if not factor > 0.0:
            return np.inf
        model.set(**{amplitude: factor * model.get(amplitude)})
        chisq = float((((data.flux - factor * shape) / data.error) ** 2).sum())
        return chisq + self.outside_cost(model, ~mask)


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
        float(result.chisq),
    )
