"""Fits of a batch, whatever made them, and the columns that follow from them."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from astropy.cosmology import FlatLambdaCDM
from scipy.stats import chi2

from ampel_spark.t2.fits import quality
from ampel_spark.t2.fits.points import FitPoints
from ampel_spark.t2.unit import Column

__all__ = [
    "COLUMNS",
    "SALT",
    "Fits",
    "at_bound",
    "columns_of",
    "distance_modulus",
    "peak_column",
    "texts",
]

Array = npt.NDArray[Any]

#: Parameters of a SALT model.
SALT = ("z", "t0", "x0", "x1", "c")
#: A parameter this near to a bound, as a part of the range, is at it.
_NEAR = 1e-3
#: Rest-frame phases of the points that the pulls are of, days.
_PULLS, _PEAK = (-10.0, 20.0), 10.0

COLUMNS = (
    Column("z", "double", "", "redshift"),
    Column("z_err", "double", "", "its error where fitted"),
    Column("t0", "double", "d", "JD of B-band maximum (other models: their own time zero)"),
    Column("t0_err", "double", "d", "its error"),
    Column("x0", "double", "", "amplitude; null for models that are not SALT, as are x1 and c"),
    Column("x0_err", "double", "", "its error"),
    Column("x1", "double", "", "stretch"),
    Column("x1_err", "double", "", "its error where fitted"),
    Column("c", "double", "mag", "colour"),
    Column("c_err", "double", "mag", "its error where fitted"),
    Column("covariance", "array<double>", "", "row by row over the fitted parameters"),
    Column("fitted", "array<string>", "", "fitted parameters, in the order of the covariance"),
    Column("parameter_names", "array<string>", "", "parameters of a model that is not SALT"),
    Column("parameters", "array<double>", "", "their values; null for SALT"),
    Column("parameter_errors", "array<double>", "", "their errors, NaN where held; null for SALT"),
    Column("chisq", "double", "", "chi square at the minimum"),
    Column("ndof", "int", "", "points less fitted parameters"),
    Column("probability", "double", "", "of a larger chi square by chance"),
    Column("n_points", "int", "", "points fitted"),
    Column("n_before", "int", "", "of these before the maximum (t0)"),
    Column("n_after", "int", "", "of these at or after it"),
    Column("bands", "array<string>", "", "bands fitted"),
    Column("mwebv", "double", "mag", "Milky-Way E(B-V), scaled; null without dust"),
    Column("mw_law", "string", "", "its law; null without dust"),
    Column("model", "string", "", "model and version"),
    Column("engine", "string", "", "what minimised: batch, twin or sncosmo"),
    Column("n_starts", "int", "", "starting points tried"),
    Column("at_bound", "boolean", "", "whether a fitted parameter is at a bound"),
    Column(
        "at_edge", "boolean", "",
        "whether a point above 3 sigma is where the model ends, within the error of t0, or beyond",
    ),
    Column("success", "boolean", "", "whether the minimum is a good one"),
    *quality.COLUMNS,
    Column("z_source", "string", "", "value, unit, catalog or fit"),
    Column("z_distance", "double", "arcsec", "distance to where the redshift comes from"),
    Column("phase_first", "double", "d", "rest-frame phase of the first point fitted"),
    Column("phase_last", "double", "d", "rest-frame phase of the last point fitted"),
    Column("jd_model_start", "double", "d", "JD before which the model is zero"),
    Column("jd_model_end", "double", "d", "JD after which the model is zero"),
    Column("peak_mag_b", "double", "mag", "model's rest-frame Bessell B maximum, AB, no dust"),
    Column("peak_absmag_b", "double", "mag", "the same less the distance modulus of the cosmology"),
    Column("n_pulls", "int", "", "points at rest-frame phases -10 to 20 d"),
    Column("mean_abs_pull", "double", "", "their mean |flux - model| / error"),
    Column("max_abs_pull", "double", "", "largest |flux - model| / error within 10 d of t0"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Fits:
    """Fits of M objects with models of K parameters.

    Attributes
    ----------
    names : the model's parameters; z and t0 are the first
    values, errors : shape (M, K); errors are NaN where there is none
    covariance : shape (M, K, K); NaN where there is none
    fitted : shape (M, K), whether a parameter was fitted
    low, high : shape (M, K), bounds; infinite for none
    chisq, success, n_starts : shape (M,)
    used : shape (N,), the points that were fitted
    expected : shape (N,), the model's flux at these points
    phases : first and last phase of the model, rest-frame days
    peak_b : shape (M,), rest-frame Bessell B maximum, mag
    peaks : shape (M, B), maximum in each band, observed, mag
    notes : by object
    words : shape (M,), the fitter's own words for how it ended
    """

    names: Sequence[str]
    values: Array
    errors: Array
    covariance: Array
    fitted: Array
    low: Array
    high: Array
    chisq: Array
    success: Array
    n_starts: Array
    used: Array
    expected: Array
    phases: tuple[float, float]
    peak_b: Array
    peaks: Array
    notes: Mapping[int, Sequence[str]]
    words: Array

    def __len__(self) -> int:
        return len(self.values)


def at_bound(fits: Fits) -> Array:
    """Say which fitted parameters are at a bound, shape (M, K)."""
    width = fits.high - fits.low
    near = _NEAR * np.where(np.isfinite(width), width, 0.0)
    low, high = fits.values - fits.low <= near, fits.high - fits.values <= near
    return np.asarray(fits.fitted & (low | high))


def distance_modulus(z: Array, h0: float, om0: float) -> Array:
    """Return distance moduli in flat LCDM, mag; NaN where there is no redshift above 0."""
    good = np.isfinite(z) & (z > 0)
    modulus = np.full(len(z), np.nan)
    if good.any():
        # One redshift at a time gives other last bits than many do: both are rounded.
        modulus[good] = np.round(_cosmology(h0, om0).distmod(z[good]).value, 9)
    return modulus


@functools.lru_cache(maxsize=8)
def _cosmology(h0: float, om0: float) -> FlatLambdaCDM:
    return FlatLambdaCDM(H0=h0, Om0=om0)


def columns_of(
    fits: Fits, points: FitPoints, bands: Sequence[str], max_reduced_chisq: float
) -> dict[str, Any]:
    """Return the columns of the unit's table that follow from the fits and their points.

    Parameters
    ----------
    fits : Fits
    points : FitPoints
        Those that could be fitted, of the same objects.
    bands : sequence of str
        Their names.
    max_reduced_chisq : float
        Above it, chi square per degree of freedom is poor.
    """
    m, k = len(fits), len(fits.names)
    z, t0 = fits.values[:, 0], fits.values[:, 1]
    chosen = points.where(fits.used)
    group, count = chosen.group, chosen.count
    phase = (chosen.time - t0[group]) / (1.0 + z[group])
    residual = (chosen.flux - fits.expected[fits.used]) / chosen.error
    pull = np.abs(residual)
    ndof = count - fits.fitted.sum(axis=1)
    near = (phase >= _PULLS[0]) & (phase <= _PULLS[1])
    n_pulls = np.bincount(group[near], minlength=m)
    before = np.bincount(group[phase < 0], minlength=m)
    out: dict[str, Any] = {
        "chisq": fits.chisq,
        "ndof": ndof,
        "probability": np.where(ndof > 0, chi2.sf(fits.chisq, np.maximum(ndof, 1)), np.nan),
        "n_points": count,
        "n_before": before,
        "n_after": count - before,
        "bands": _band_lists(chosen, bands),
        "n_starts": fits.n_starts,
        "at_bound": at_bound(fits).any(axis=1),
        "at_edge": _at_edge(fits, chosen, phase),
        "success": fits.success,
        "phase_first": _ends(phase, chosen.offsets, 0),
        "phase_last": _ends(phase, chosen.offsets, 1),
        "jd_model_start": t0 + (1.0 + z) * fits.phases[0],
        "jd_model_end": t0 + (1.0 + z) * fits.phases[1],
        "peak_mag_b": fits.peak_b,
        **{peak_column(band): fits.peaks[:, b] for b, band in enumerate(bands)},
        "n_pulls": n_pulls,
        "mean_abs_pull": _divided(np.bincount(group[near], pull[near], minlength=m), n_pulls),
        "max_abs_pull": _largest(chosen, np.where(np.abs(phase) <= _PEAK, pull, -np.inf)),
    }
    out |= {"fitter_status": texts(fits.words)}
    out |= quality.quality_columns(_doubts(fits, chosen, out, max_reduced_chisq, phase))
    for name in SALT:
        if name in fits.names:
            i = list(fits.names).index(name)
            out[name], out[f"{name}_err"] = fits.values[:, i], fits.errors[:, i]
        else:
            out[name] = out[f"{name}_err"] = np.full(m, np.nan)
    if tuple(fits.names) != SALT:
        offsets = pa.array(np.arange(m + 1) * (k - 2), pa.int32())
        words = pa.array(list(fits.names[2:]) * m, pa.string())
        out["parameter_names"] = pa.ListArray.from_arrays(offsets, words)
        for column, values in (("parameters", fits.values), ("parameter_errors", fits.errors)):
            flat = pa.array(values[:, 2:].ravel(), pa.float64())
            out[column] = pa.ListArray.from_arrays(offsets, flat)
    names = np.array(fits.names, object)
    out["fitted"] = _lists(fits.fitted, names[np.nonzero(fits.fitted)[1]])
    pairs = fits.fitted[:, :, None] & fits.fitted[:, None, :]
    there: Array = np.all(np.where(pairs, np.isfinite(fits.covariance), True), axis=(1, 2))
    out["covariance"] = _lists(pairs.reshape(m, -1), fits.covariance[pairs], there)
    return out


def _doubts(
    fits: Fits, chosen: FitPoints, out: Mapping[str, Any], max_reduced_chisq: float, phase: Array
) -> dict[str, Array]:
    """Return which fits there are doubts about, by `quality.DOUBTS`."""
    m, ndof = len(fits), out["ndof"]
    near = np.bincount(chosen.group[np.abs(phase) <= _PEAK], minlength=m)
    n_bands = np.asarray(pc.list_value_length(out["bands"]))
    colour = list(fits.names).index("c") if "c" in fits.names else -1
    lacking = fits.fitted & ~np.isfinite(fits.errors)
    with np.errstate(invalid="ignore", divide="ignore"):
        poor = (ndof > 0) & (fits.chisq / ndof > max_reduced_chisq)
    return {
        "not_converged": ~fits.success,
        "no_errors": np.any(lacking, axis=1),
        "at_bound": out["at_bound"],
        "poor_chisq": poor,
        "model_edge": out["at_edge"],
        "no_rise": out["n_before"] == 0,
        "no_decline": out["n_after"] == 0,
        "no_peak": near == 0,
        "one_band": (fits.fitted[:, colour] if colour >= 0 else False) & (n_bands < 2),
        "no_freedom": ndof <= 0,
    }


def peak_column(band: str) -> str:
    """Return the name of the column with the observed maximum in a band."""
    return f"peak_mag_{re.sub(r'[^A-Za-z0-9]+', '_', band)}"


def texts(words: Sequence[str | None] | Array) -> pa.Array:
    """Return a column of text; nothing is null."""
    return pa.array([word or None for word in words], pa.string())


def _lists(mask: Array, values: Array, there: Array | None = None) -> pa.ListArray:
    """Return lists of the values that a mask with shape (M, K) selects, row by row."""
    offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
    if there is None or there.all():
        return lists
    return pc.if_else(pa.array(there), lists, pa.scalar(None, lists.type))


def _band_lists(chosen: FitPoints, bands: Sequence[str]) -> pa.ListArray:
    order = np.argsort(np.array(bands, object))
    n = len(bands)
    counts = np.bincount(chosen.group * n + chosen.band, minlength=len(chosen) * n)
    present = (counts.reshape(-1, n) > 0)[:, order]
    return _lists(present, np.array(bands, object)[order][np.nonzero(present)[1]])


def _at_edge(fits: Fits, chosen: FitPoints, phase: Array) -> Array:
    """Say where chi square may jump within the error of t0, or where the model has no flux."""
    error = fits.errors[:, 1] / (1.0 + fits.values[:, 0])
    reach = np.where(fits.fitted[:, 1], np.where(error < 5.0, 3.0 * error, 15.0), 0.0)
    reach = reach[chosen.group]
    first, last = fits.phases
    edge = (np.abs(phase - first) < reach) | (np.abs(phase - last) < reach) | (phase > last)
    edge &= np.abs(chosen.snr) > 3.0
    return np.bincount(chosen.group[edge], minlength=len(fits)) > 0


def _ends(values: Array, offsets: Array, side: int) -> Array:
    """Return each object's first (0) or last (1) value; NaN where it has none."""
    ends = np.full(len(offsets) - 1, np.nan)
    some = np.diff(offsets) > 0
    ends[some] = values[offsets[:-1][some] if side == 0 else offsets[1:][some] - 1]
    return ends


def _largest(chosen: FitPoints, values: Array) -> Array:
    best = chosen.best(values)
    return np.where(best >= 0, best, np.nan)


def _divided(total: Array, count: Array) -> Array:
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
