"""True light curves: the flux in a perfect difference image.

Fluxes have zero point 25 (AB). Type Ia supernovae are SALT3 (f22, sncosmo's ``salt3`` version 2.0)
behind Milky-Way dust (CCM89, R_V 3.1), with no flux before the model's first phase. After its last
phase (+50 d) they fade by 0.014 mag per day in the rest frame, as real ones do; the model does not
cover these points, so a fit must ignore them. All other kinds have analytic shapes.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampel_spark.errors import SetupError
from ampel_spark.settings import sncosmo_data_dir
from ampel_spark.simulate.distances import distance_modulus
from ampel_spark.simulate.noise import key_of, normal, uniform
from ampel_spark.simulate.objects import KINDS, SUBTYPES

__all__ = [
    "DUST_LAW",
    "EXTINCTION",
    "R_V",
    "SALT",
    "difference_flux",
    "peak_magnitudes",
    "static_flux",
    "supernova_model",
]

Floats = NDArray[np.float64]
Objects = NDArray[np.void]

#: Name and version of the model in sncosmo's registry.
SALT = ("salt3", "2.0")
DUST_LAW, R_V = "ccm89", 3.1
#: A / E(B-V) of CCM89, R_V 3.1, over the bands for a flat spectrum, by fid (kinds without a SED).
EXTINCTION = {1: 3.72, 2: 2.60}

_ZP = 25.0
_BANDS = np.array(["", "ztfg", "ztfr"])
_LATE_DECLINE = 0.014
# The colour g - r of the core-collapse shapes at maximum [mag], and their time scales in g relative
# to r.
_COLOUR = {"plateau": 0.0, "stripped": 0.35, "slow": 0.1}
_G_SCALE = {"stripped": 0.7, "slow": 0.85}
_RISE = {"stripped": (12.0, 4.0), "slow": (25.0, 8.0)}


def difference_flux(
    objects: Objects, owner: NDArray[np.intp], jd: Floats, fid: NDArray[np.int64], seed: int
) -> Floats:
    """Return true fluxes in difference images.

    Parameters
    ----------
    objects : array of OBJECT
        The objects of the epochs.
    owner : array of int
        The row of `objects` of each epoch, sorted.
    jd, fid : arrays
        Time (JD) and band (1 g, 2 r) of each epoch, sorted by time within an object.
    seed : int
        The simulation's seed.

    Returns
    -------
    array
        Fluxes of zero point 25; 0 for the kinds with one detection.
    """
    flux = np.zeros(jd.size)
    bounds = np.searchsorted(owner, np.arange(objects.size + 1))
    for number, item in enumerate(objects):
        span = slice(bounds[number], bounds[number + 1])
        kind = KINDS[item["kind"]]
        if span.start == span.stop or kind not in _SHAPES:
            continue
        flux[span] = _SHAPES[kind](item, jd[span], fid[span], seed)
    return flux


def static_flux(objects: Objects) -> Floats:
    """Return the flux of the static source at each object in g and r, shape (n, 2)."""
    magnitudes = np.stack([objects["mag_g"], objects["mag_r"]], axis=1)
    return np.where(np.isfinite(magnitudes), _flux_of(np.nan_to_num(magnitudes, nan=99.0)), 0.0)


def peak_magnitudes(objects: Objects, seed: int) -> Floats:
    """Return the peak magnitudes of transients in g and r with Milky-Way dust, shape (n, 2).

    Peaks are those of a grid of one day in the rest frame; other kinds have NaN.
    """
    peaks = np.full((objects.size, 2), np.nan)
    for row, item in enumerate(objects):
        kind = KINDS[item["kind"]]
        if kind not in ("snia", "cc"):
            continue
        phases = np.arange(-6.0, 7.0) if kind == "snia" else np.arange(0.5, 61.0)
        jd = item["t0"] + phases * (1.0 + item["z"])
        for band in (1, 2):
            flux = _SHAPES[kind](item, jd, np.full(jd.size, band), seed)
            peaks[row, band - 1] = _ZP - 2.5 * np.log10(flux.max())
    return peaks


def _flux_of(magnitude: Any) -> Any:
    return 10.0 ** (-0.4 * (magnitude - _ZP))


@functools.cache
def supernova_model() -> Any:
    """Return the supernova model, which a process loads once.

    sncosmo finds its files by ``SNCOSMO_DATA_DIR`` or its configuration. Without these, the files
    of the set-up are read if they exist, or else sncosmo downloads its own. Raise `SetupError` if
    the model or the bands cannot be loaded.
    """
    import sncosmo

    folder = sncosmo.conf.data_dir
    if folder is None and sncosmo_data_dir().is_dir():
        folder = str(sncosmo_data_dir())
    try:
        with sncosmo.conf.set_temp("data_dir", folder):
            source = sncosmo.get_source(SALT[0], version=SALT[1])
            for band in _BANDS[1:]:
                sncosmo.get_bandpass(str(band))
    except Exception as error:  # sncosmo does not catch the errors of its download
        raise SetupError(
            f"the model {SALT[0]} {SALT[1]} or the ZTF bands cannot be loaded ({error}): set "
            "SNCOSMO_DATA_DIR to a folder in sncosmo's cache layout that holds them"
        ) from error
    return sncosmo.Model(
        source, effects=[sncosmo.CCM89Dust()], effect_names=["mw"], effect_frames=["obs"]
    )


def _snia(item: np.void, jd: Floats, fid: NDArray[np.int64], seed: int) -> Floats:
    model = supernova_model()
    model.set(
        **{name: float(item[name]) for name in ("z", "t0", "x0", "x1", "c")},
        mwebv=float(item["ebv"]),
        mwr_v=R_V,
    )
    last = model.maxtime()
    flux = np.zeros(jd.size)
    covered = (jd >= model.mintime()) & (jd <= last)
    # The last two times are the beginnings of the tails in the two bands.
    times = np.append(jd[covered], [last, last])
    bands = _BANDS[np.append(fid[covered], [1, 2])]
    fluxes = model.bandflux(bands, times, _ZP, "ab")
    flux[covered] = fluxes[:-2]
    late = jd > last
    days = (jd[late] - last) / (1.0 + item["z"])
    flux[late] = fluxes[-2:][fid[late] - 1] * 10.0 ** (-0.4 * _LATE_DECLINE * days)
    return flux


def _cc(item: np.void, jd: Floats, fid: NDArray[np.int64], seed: int) -> Floats:
    subtype, scale = SUBTYPES[item["subtype"]], float(item["period"])
    days = (jd - item["t0"]) / (1.0 + item["z"])
    after = np.maximum(days, 0.0)
    green = fid == 1
    if subtype == "plateau":
        decline = 10.0 ** (-0.4 * np.where(green, 0.014, 0.004) * after)
        tail = 0.12 * 10.0 ** (-0.4 * 0.0098 * (after - scale)) * np.where(green, 0.45, 1.0)
        on_plateau = 1.0 / (1.0 + np.exp(np.clip((after - scale) / 4.0, -50.0, 50.0)))
        shape = decline * on_plateau + tail * (1.0 - on_plateau)
        shape *= 1.0 - np.exp(-after / 2.5)
    else:
        shape = np.where(
            green,
            _bazin(after, scale * _G_SCALE[subtype], *_RISE[subtype]),
            _bazin(after, scale, *_RISE[subtype]),
        )
    colour = np.where(green, _COLOUR[subtype], 0.0)
    dust = item["ebv"] * np.where(green, EXTINCTION[1], EXTINCTION[2])
    magnitude = item["abs_mag"] + distance_modulus(np.array([item["z"]]))[0] + colour + dust
    return np.where(days > 0.0, shape * _flux_of(magnitude), 0.0)


def _bazin(days: Floats, fall: float, middle: float, rise: float) -> Floats:
    """Return the shape of Bazin et al. (2009, arXiv:0904.1066), 1 at its maximum."""
    top = middle + rise * np.log(fall / rise - 1.0)
    value = np.exp(-days / fall) / (1.0 + np.exp(-(days - middle) / rise))
    return np.asarray(value / (np.exp(-top / fall) / (1.0 + np.exp(-(top - middle) / rise))))


def _agn(item: np.void, jd: Floats, fid: NDArray[np.int64], seed: int) -> Floats:
    """Return an exact damped random walk (Kelly, Bechtold and Siemiginowska, arXiv:0903.5315)."""
    step = np.exp(-np.diff(jd) / item["period"])
    draws = normal(key_of(item["index"], np.arange(jd.size)), seed, "random walk")
    walk = draws.copy()
    for i in range(1, jd.size):
        walk[i] = step[i - 1] * walk[i - 1] + np.sqrt(1.0 - step[i - 1] ** 2) * draws[i]
    reference = normal(key_of(item["index"]), seed, "reference")
    amplitude = item["amplitude"] * np.where(fid == 1, 1.0, 0.75)
    static = _flux_of(np.where(fid == 1, item["mag_g"], item["mag_r"]))
    # The two walks are independent, as years lie between the reference and the archive.
    shift = 10.0 ** (-0.4 * amplitude * walk) - 10.0 ** (-0.4 * amplitude * 0.5 * reference)
    return np.asarray(static * shift)


def _variable(item: np.void, jd: Floats, fid: NDArray[np.int64], seed: int) -> Floats:
    wave = {"pulsating": _pulse, "eclipsing": _eclipse, "long": _sine}[SUBTYPES[item["subtype"]]]
    amplitude = item["amplitude"] * np.where(fid == 1, 1.0, 0.75)
    static = _flux_of(np.where(fid == 1, item["mag_g"], item["mag_r"]))
    phase = (jd / item["period"] + item["phase"]) % 1.0
    # The reference image is a mean over some phases, which differs from the mean over all.
    grid = np.arange(64) / 64.0
    mean = np.array(
        [
            np.mean(10.0 ** (-0.4 * a * wave(grid)))
            for a in (item["amplitude"], 0.75 * item["amplitude"])
        ]
    )
    off = 1.0 + 0.05 * (uniform(key_of(item["index"]), seed, "reference") - 0.5)
    return np.asarray(static * (10.0 ** (-0.4 * amplitude * wave(phase)) - off * mean[fid - 1]))


def _pulse(phase: Floats) -> Floats:
    turn = 2.0 * np.pi * phase
    return 0.38 * np.cos(turn) + 0.16 * np.cos(2.0 * turn - 0.9)


def _eclipse(phase: Floats) -> Floats:
    first, second = np.minimum(phase, 1.0 - phase), np.abs(phase - 0.5)
    return np.exp(-0.5 * (first / 0.035) ** 2) + 0.5 * np.exp(-0.5 * (second / 0.035) ** 2)


def _sine(phase: Floats) -> Floats:
    return 0.5 * np.cos(2.0 * np.pi * phase)


_SHAPES = {"snia": _snia, "cc": _cc, "agn": _agn, "variable": _variable}
