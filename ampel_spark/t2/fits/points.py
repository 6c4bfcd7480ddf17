"""Which points of a batch of light curves are fitted, and what was left out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import sncosmo

from ampel_spark.lightcurve import DETECTION, FORCED, LightCurveBatch
from ampel_spark.t2.fits import models

__all__ = ["FIELDS", "POINT", "Choice", "FitPoints", "choose", "numbers", "replaced_by_forced"]

Array = npt.NDArray[Any]

#: What a fit reads of each point.
FIELDS = ("jd", "kind", "band", "sign", "flux", "fluxerr", "zp", "zpsys")
#: The arrays of `FitPoints` with one value for each point.
POINT = ("time", "band", "flux", "error", "zp")


@dataclass(frozen=True)
class Choice:
    """What to take, and what to do to it.

    Attributes
    ----------
    kinds : codes of the kinds of points to take
    bands : names of the bands, and the curve of each; None where there is none
    wave : wavelengths that the model covers in its rest frame, Å
    centre : effective wavelengths that are fitted, in the rest frame, Å; None for all
    zero_points : magnitudes that are added, by band
    min_snr : points with flux / error not above it are left out
    error_floor : added to errors in quadrature, flux at zero point 25
    error_fraction : fraction of the flux added to errors in quadrature
    """

    kinds: Sequence[int]
    bands: Mapping[str, sncosmo.Bandpass | None]
    wave: tuple[float, float]
    centre: tuple[float, float] | None
    zero_points: Mapping[str, float]
    min_snr: float | None
    error_floor: float
    error_fraction: float


@dataclass(frozen=True, eq=False)
class FitPoints:
    """Points of M objects, in order of time; those of object i are ``offsets[i]:offsets[i + 1]``.

    Attributes
    ----------
    offsets : shape (M + 1,)
    group : number of the object
    time : JD
    band : number of the band in `Choice.bands`
    flux, error : in units of `zp`
    zp : AB zero points, mag
    notes : by object, what was left out
    """

    offsets: Array
    group: Array
    time: Array
    band: Array
    flux: Array
    error: Array
    zp: Array
    notes: Mapping[int, Sequence[str]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def count(self) -> Array:
        """Number of points of each object."""
        return np.diff(self.offsets)

    @property
    def snr(self) -> Array:
        """Signal-to-noise ratios."""
        return self.flux / self.error

    def where(self, mask: Array) -> FitPoints:
        """Return the points that a mask selects; all objects stay."""
        group = self.group[mask]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(self)))])
        arrays = {k: getattr(self, k)[mask] for k in POINT}
        return FitPoints(offsets, group, notes=self.notes, **arrays)

    def best(self, values: Array) -> Array:
        """Return the largest value of each object; -inf where it has no point."""
        best = np.full(len(self), -np.inf)
        some = self.count > 0
        if some.any():
            best[some] = np.maximum.reduceat(values, self.offsets[:-1][some])
        return best

    def brightest(self, min_snr: float) -> Array:
        """Return when each object is brightest, of points with a S/N above `min_snr`; else NaN."""
        flux = self.flux * 10.0 ** (-0.4 * (self.zp - 25.0))
        flux = np.where(self.snr > min_snr, flux, -np.inf)
        top = np.flatnonzero((flux == self.best(flux)[self.group]) & (flux > -np.inf))
        group, first = np.unique(self.group[top], return_index=True)
        times = np.full(len(self), np.nan)
        times[group] = self.time[top[first]]
        return times


def numbers(mask: Array) -> list[int]:
    """Return where a mask is true."""
    found: list[int] = np.flatnonzero(mask).tolist()
    return found


def choose(batch: LightCurveBatch, choice: Choice, low: Array, high: Array) -> FitPoints:
    """Choose the points to fit.

    Parameters
    ----------
    batch : LightCurveBatch
        With the columns `FIELDS`.
    choice : Choice
    low, high : ndarray with shape (M,)
        Range of each object's redshift: a band must be within the model at both ends.
    """
    p, group = batch.points, batch.index()
    flux, error = p["flux"], p["fluxerr"]
    usable = np.isfinite(flux) & np.isfinite(error) & np.isfinite(p["jd"]) & np.isfinite(p["zp"])
    usable &= np.isin(p["kind"], choice.kinds)
    code, words = batch.coded("band")
    if FORCED in choice.kinds and (p["kind"] == FORCED).any():
        usable &= ~replaced_by_forced(usable, p, group, code)
    usable &= error > 0
    notes: dict[int, list[str]] = {}

    def note(left_out: Array, why: Callable[[int], str]) -> None:
        counts = np.bincount(group[left_out], minlength=len(batch))
        for i in numbers(counts > 0):
            notes.setdefault(i, []).append(f"dropped {counts[i]} points{why(i)}")

    names = list(choice.bands)
    lower = [word.lower() for word in words]
    number = np.array([names.index(w) if w in names else -1 for w in lower], np.int32)
    covered = _covered(choice, low, high)
    band: Array = number[code]
    outside = usable & ~covered[group, band]  # -1 is the last column: never covered
    for word in sorted(set(words[code[outside]])):
        note(outside & (words == word)[code], functools.partial(_why, word, choice, low, high))
    usable &= ~outside
    system, systems = batch.coded("zpsys")
    zp = p["zp"]
    if (usable & (systems != "ab")[system]).any():
        to_ab = _to_ab(choice.bands, systems.tolist())[system, band]
        zp = zp + to_ab
        unknown = usable & np.isnan(to_ab)
        for word in sorted(set(systems[system[unknown]])):
            text = f": system {word!r} has no zero point in a band"
            note(unknown & (systems == word)[system], lambda i, text=text: text)  # type: ignore[misc]
        usable &= ~np.isnan(to_ab)

    at: Array = np.flatnonzero(usable)
    band, zp = band[at], zp[at]
    # A negative subtraction is a negative flux, whatever a calibration made of it.
    flux = np.where(p["sign"][at] < 0, -np.abs(flux[at]), flux[at])
    at, band, flux, error, zp = _adjusted(choice, at, band, flux, error[at], zp)
    group = group[at]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(batch)))])
    return FitPoints(offsets, group, p["jd"][at], band, flux, error, zp, notes)


def _adjusted(
    choice: Choice, at: Array, band: Array, flux: Array, error: Array, zp: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Shift zero points, leave out what is faint, and widen errors."""
    if any(choice.zero_points.values()):
        shift = np.array([choice.zero_points.get(name, 0.0) for name in choice.bands])
        factor = (10.0 ** (-0.4 * shift))[band]
        flux, error = flux * factor, error * factor
    if choice.min_snr is not None:
        bright = flux > choice.min_snr * error
        at, band, flux, error, zp = (a[bright] for a in (at, band, flux, error, zp))
    if choice.error_floor or choice.error_fraction:
        floor = choice.error_floor * 10.0 ** (0.4 * (zp - 25.0))
        error = np.sqrt(error**2 + floor**2 + (choice.error_fraction * flux) ** 2)
    return at, band, flux, error, zp


def _covered(choice: Choice, low: Array, high: Array) -> Array:
    """Say which bands (and a last one, for all others) lie within the model for each object."""
    covered = np.zeros((len(low), len(choice.bands) + 1), bool)
    for b, curve in enumerate(choice.bands.values()):
        if curve is not None:
            covered[:, b] = _inside(curve, choice, low) & _inside(curve, choice, high)
    return covered


def _inside(curve: sncosmo.Bandpass, choice: Choice, z: Array) -> Array:
    """Say at which redshifts a band is within the model, and its centre in the range to fit."""
    inside = curve.minwave() > choice.wave[0] * (1.0 + z)
    inside &= curve.maxwave() < choice.wave[1] * (1.0 + z)
    if choice.centre is not None:
        centre = curve.wave_eff / (1.0 + z)
        inside &= (centre > choice.centre[0]) & (centre < choice.centre[1])
    return np.asarray(inside)


def _to_ab(bands: Mapping[str, sncosmo.Bandpass | None], systems: Sequence[str]) -> Array:
    """Return what makes zero points of systems AB ones, shape (systems, bands) [mag]; else NaN."""
    found = np.full((len(systems), len(bands)), np.nan)
    for s, system in enumerate(systems):
        for b, (name, curve) in enumerate(bands.items()):
            if curve is not None:
                found[s, b] = models.ab_offset(system, curve, name)
    return found


def _why(word: str, choice: Choice, low: Array, high: Array, i: int) -> str:
    name = word.lower()
    if name not in choice.bands:
        return f" in {word}: not among the unit's bands"
    curve = choice.bands[name]
    if curve is None:
        return f" in {word}: no curve in the data folder (SNCOSMO_DATA_DIR)"
    ends = (low[i : i + 1], high[i : i + 1])
    covered = all(_inside(curve, replace(choice, centre=None), z)[0] for z in ends)
    what = "wave_range" if covered else "the model's wavelengths"
    return f" in {word}: outside {what} at z {high[i]:g}"


def replaced_by_forced(usable: Array, p: Mapping[str, Array], group: Array, code: Array) -> Array:
    """Mark detections whose exposure has forced photometry among the points."""
    keys = np.empty(len(group), [("group", "i8"), ("jd", "f8"), ("band", "i8")])
    keys["group"], keys["jd"], keys["band"] = group, p["jd"], code
    exposure = np.unique(keys, return_inverse=True)[1]
    forced = np.zeros(len(keys), bool)
    forced[exposure[usable & (p["kind"] == FORCED)]] = True
    return np.asarray(forced[exposure] & (p["kind"] == DETECTION))
