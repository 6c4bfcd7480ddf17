"""A SALT fit by `sncosmo.fit_lc`, with the cut in phase that fits ask for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import sncosmo

__all__ = ["Fit", "Photometry", "fit"]

Array = npt.NDArray[Any]
Range = tuple[float, float]

_MAX_CUTS = 10


@dataclass(frozen=True, eq=False)
class Photometry:
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

    def where(self, mask: Array) -> Photometry:
        """Return the points that a mask selects."""
        return Photometry(**{name: values[mask] for name, values in vars(self).items()})

    @property
    def snr(self) -> Array:
        """Signal-to-noise ratios."""
        return self.flux / self.error

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
    data : Photometry
        The points fitted.
    fitted : sequence of str
        Parameters, in the order of `covariance`.
    errors : mapping of str to float
        Their errors; empty where the minimiser has none.
    covariance : ndarray with shape (K, K), or None
    chisq : float
    success : bool
    notes : tuple of str
        What there is to say of it.
    at_bound : bool
    """

    model: sncosmo.Model
    data: Photometry
    fitted: Sequence[str]
    errors: Mapping[str, float]
    covariance: Array | None
    chisq: float
    success: bool
    notes: tuple[str, ...]
    at_bound: bool

    def phase(self, time: Array) -> Array:
        """Return rest-frame phases."""
        return np.asarray((time - self.model.get("t0")) / (1.0 + self.model.get("z")))


def fit(
    data: Photometry,
    model: sncosmo.Model,
    names: Sequence[str],
    bounds: Mapping[str, Range],
    *,
    min_snr: float,
    model_covariance: bool,
    phase_range: Range | None,
    min_points: int,
) -> Fit | None:
    """Fit, keep the points within a phase range about t0, and fit again until they stay the same.

    Parameters
    ----------
    data : Photometry
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
        Rest-frame days; None takes all points.
    min_points : int
        Fewest points that a fit takes.

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
        days = (data.time - data.brightest(min_snr)) / (1.0 + z)
        near = (days > 2 * low - high) & (days < 2 * high - low)
        if not enough(near):
            return None
    best = _minimised(data.where(near), model, names, bounds, min_snr, model_covariance, True)
    if phase_range is None:
        return best
    used = near
    for _ in range(_MAX_CUTS):
        phase = best.phase(data.time)
        new = (phase > phase_range[0]) & (phase < phase_range[1])
        if (new == used).all():
            return best
        if not enough(new):
            return None
        used = new
        best = _minimised(
            data.where(used), best.model, names, bounds, min_snr, model_covariance, False
        )
    return replace(best, success=False, notes=(*best.notes, "the phase cut did not settle"))


def _minimised(
    data: Photometry,
    model: sncosmo.Model,
    names: Sequence[str],
    bounds: Mapping[str, Range],
    min_snr: float,
    model_covariance: bool,
    guess: bool,
) -> Fit:
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
    bounds = {"t0": t0_bounds} | dict(bounds)
    at_bound = [n for n in names if n in bounds and _is_at(best.get(n), bounds[n])]
    notes = [] if result.success else [f"sncosmo: {result.message}"]
    if at_bound:
        notes.append(f"{', '.join(at_bound)} at a bound")
    return Fit(
        best,
        data,
        tuple(result.vparam_names),
        dict(result.errors or {}),
        result.covariance,
        float(result.chisq),
        bool(result.success) and bool(np.isfinite(result.chisq)),
        tuple(notes),
        bool(at_bound),
    )


def _is_at(value: float, bounds: Range) -> bool:
    low, high = bounds
    return min(value - low, high - value) < 1e-3 * (high - low)
