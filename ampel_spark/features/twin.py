"""The features of one light curve in plain Python: what `kernel` is held to by tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from ampel_spark.features.definitions import STATISTICS, Feature, FeatureSet, Options

__all__ = ["compute_one"]

Floats = NDArray[np.float64]
#: A row: time, flux (None for an upper limit), error, band.
Row = tuple[float, float | None, float, str]

_NAMES = [f.name.replace("_{}flux", "") for f in STATISTICS]


def compute_one(
    features: FeatureSet, points: Mapping[str, Any], options: Options | None = None
) -> dict[str, Any]:
    """Return the features of one light curve by name; those that cannot be known are left out.

    Parameters
    ----------
    features : FeatureSet
    points : mapping of str to array-like with shape (N,)
        ``jd, flux, fluxerr, zp, band`` (names), ``limit, forced``, in order of time.
    options : Options, optional
    """
    options = options or Options()
    rows = [*_rows(features, points)]
    found = _common(features, rows, options)
    if found.get("ndet"):
        begin = found["jd_det"] - options.t_cadence
        end = found["jd_last"] + options.t_cadence
        near = [row for row in rows if begin < row[0] < end]
        for band in features.bands:
            mine = [row for row in near if row[3] == band and row[1] is not None]
            found |= {f"{k}_{band}": v for k, v in _band(mine, found["jd_det"]).items()}
        found |= _shape(features, found, options)
        found |= _colours(features, rows, found, options)
    if features.statistics:
        found |= _all_statistics(features, rows)
    kinds = {f.name: f for f in features.features()}
    return {k: _typed(kinds[k], v) for k, v in found.items() if v is not None and math.isfinite(v)}


def _typed(feature: Feature, value: Any) -> Any:
    return {"int": int, "boolean": bool}.get(feature.type, float)(value)


def _rows(features: FeatureSet, points: Mapping[str, Any]) -> list[Row]:
    names = ("jd", "flux", "fluxerr", "zp", "band", "limit", "forced")
    all_rows = [*zip(*(points[name] for name in names), strict=True)]
    rows: list[Row] = []
    seen = {
        (jd, band)
        for jd, flux, err, zp, band, limit, forced in all_rows
        if not limit and not forced and _usable(flux, err, zp)
    }
    for jd, flux, err, zp, band, limit, forced in all_rows:
        if band not in features.bands:
            continue
        if limit:
            rows.append((jd, None, math.nan, band))
        elif _usable(flux, err, zp) and not (forced and (jd, band) in seen):
            scale = 10.0 ** (-0.4 * (zp - 25.0))
            rows.append((jd, flux * scale, err * scale, band))
    return rows


def _usable(flux: float, err: float, zp: float) -> bool:
    return math.isfinite(flux) and math.isfinite(err) and err > 0 and math.isfinite(zp)


def _common(features: FeatureSet, rows: Sequence[Row], options: Options) -> dict[str, Any]:
    significant = features.significant or features.bands
    bits = dict(zip(features.bands, features.bits(), strict=True))
    every = [r for r in rows if r[1] is not None and abs(r[1]) > options.sigma_det * r[2]]
    found = [r for r in every if r[3] in significant]
    counts = {
        "ndet": len(found),
        "alldet": len(every),
        "nnegdet": sum(_flux(r) < 0 for r in every),
    }
    if not found:
        return counts
    jd_det, jd_last = found[0][0], found[-1][0]
    last = next(r for r in found if r[0] == jd_last)
    looked = [r for r in rows if r[3] in significant]
    before = [r[0] for r in looked if r[0] < jd_det]
    missed = [r for r in looked if jd_det < r[0] < jd_last and r not in found]
    times = [r[0] for r in rows]
    return counts | {
        "frac_pos": sum(_flux(r) > 0 for r in found) / len(found),
        "jd_det": jd_det,
        "jd_last": jd_last,
        "t_lc": jd_last - jd_det,
        "t_predetect": jd_det - before[-1] if before else None,
        "mag_det": _magnitude(_flux(found[0])),
        "mag_last": _magnitude(_flux(last)),
        "band_det_id": bits[found[0][3]],
        "band_last_id": bits[last[3]],
        "mag_min": _magnitude(max(_flux(r) for r in rows if r[1] is not None)),
        "bool_pure": not missed,
        "bool_hasgaps": max(np.diff(times), default=0.0) > options.max_gap,
    }


def _flux(row: Row) -> float:
    assert row[1] is not None
    return row[1]


def _magnitude(flux: float) -> float | None:
    return 25.0 - 2.5 * math.log10(flux) if flux > 0 else None


def _band(rows: Sequence[Row], jd_det: float) -> dict[str, Any]:
    """Return the features of one band, of its rows near the detections."""
    if not rows:
        return {"n": 0}
    top = next(r for r in rows if r[1] == max(_flux(r) for r in rows))
    peak, when = _flux(top), top[0]
    rise, rise_sig = _slope([r for r in rows if r[0] <= when])
    fall, fall_sig = _slope([r for r in rows if r[0] >= when])
    found: dict[str, Any] = {
        "jd_peak": when,
        "rise_slope": rise,
        "rise_slopesig": rise_sig,
        "fall_slope": fall,
        "fall_slopesig": fall_sig,
        "n": len(rows),
        "peak_mag": _magnitude(peak),
        "peak_snr": peak / top[2],
        "t_peak": when - jd_det,
    }
    if peak <= 0:
        return found
    positive = [(r[0] - jd_det, _flux(r)) for r in rows if _flux(r) > 0]
    t, f = (np.array(column) for column in zip(*positive, strict=True))
    found |= {
        "rise_rate": None if rise is None else rise / peak,
        "fall_rate": None if fall is None else fall / peak,
        "first_ratio": _flux(rows[0]) / peak,
        "last_ratio": _flux(rows[-1]) / peak,
    }
    if t.max() > t.min():
        away = t - np.average(t, weights=f)
        width = math.sqrt(np.average(away**2, weights=f))
        found |= {"width": width, "asymmetry": np.average(away**3, weights=f) / width**3}
    return found


def _slope(rows: Sequence[Row]) -> tuple[float | None, float | None]:
    """Return the slope of a weighted line, and the same over its error."""
    t = np.array([r[0] - rows[0][0] for r in rows])
    if len(rows) < 2 or t.max() == t.min():
        return None, None
    f, w = np.array([_flux(r) for r in rows]), np.array([r[2] ** -2.0 for r in rows])
    t = t - np.average(t, weights=w)
    slope = (w * t * (f - np.average(f, weights=w))).sum() / (w * t**2).sum()
    return slope, slope * math.sqrt((w * t**2).sum())


def _shape(features: FeatureSet, found: Mapping[str, Any], options: Options) -> dict[str, Any]:
    def known(name: str) -> dict[str, float]:
        of = {band: found.get(f"{name}_{band}") for band in features.bands}
        return {band: value for band, value in of.items() if value is not None}

    rises, falls = known("rise_slopesig"), known("fall_slopesig")
    both = [found[f"jd_peak_{band}"] for band in rises if band in falls]
    rise = sum(rises.values()) > options.sigma_slope if rises else None
    fall = sum(falls.values()) < -options.sigma_slope if falls else None
    shape: dict[str, Any] = {"bool_rise": rise, "bool_fall": fall}
    if rise is None or fall is None:
        return shape
    shape["bool_peaked"] = bool(rise and fall and both)
    if not shape["bool_peaked"]:
        return shape
    peak = float(np.median(both))
    t_rise, t_fall = peak - found["jd_det"], found["jd_last"] - peak
    return shape | {
        "jd_peak": peak,
        "t_rise": t_rise,
        "t_fall": t_fall,
        "bool_fastrise": abs(t_rise) < options.t_cadence,
        "bool_fastfall": abs(t_fall) < options.t_cadence,
    }


def _colours(
    features: FeatureSet, rows: Sequence[Row], found: Mapping[str, Any], options: Options
) -> dict[str, Any]:
    bits = dict(zip(features.bands, features.bits(), strict=True))
    colours: dict[str, Any] = {}
    for when in ("det", "last", "peak"):
        time = found.get(f"jd_{when}")
        if time is None:
            continue
        means = {}
        for band in features.bands:
            mine = [
                (_flux(r), r[2] ** -2.0)
                for r in rows
                if r[1] is not None and r[3] == band and abs(r[0] - time) <= options.t_cadence / 2
            ]
            if mine:
                means[band] = sum(f * w for f, w in mine) / sum(w for _, w in mine)
        colours[f"{when}_bands"] = sum(bits[band] for band in means)
        for one, two in features.pairs():
            if means.get(one, 0.0) > 0 and means.get(two, 0.0) > 0:
                colours[f"{one}_{two}_{when}"] = -2.5 * math.log10(means[one] / means[two])
    for one, two in features.pairs():
        a, b = (found.get(f"peak_mag_{band}") for band in (one, two))
        if a is not None and b is not None:
            colours[f"{one}_{two}_max"] = a - b
    return colours


def _all_statistics(features: FeatureSet, rows: Sequence[Row]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for band in features.bands:
        mine = [r for r in rows if r[3] == band and r[1] is not None]
        if len(mine) >= 4:
            t, m, e = (np.array([r[i] for r in mine], float) for i in range(3))
            found |= {
                f"{k}_{band}_flux": v
                for k, v in _statistics(t - t[0], m, e).items()
                if v is not None
            }
    for name in _NAMES:
        values = [found.get(f"{name}_{band}_flux") for band in features.bands]
        known = [v for v in values if v is not None and math.isfinite(v)]
        if known:
            found[f"{name}_flux"] = sum(known) / len(known)
    return found


def _statistics(t: Floats, m: Floats, err: Floats) -> dict[str, Any]:
    n, d, w = m.size, m - m.mean(), err**-2.0
    variance = (d**2).sum() / (n - 1)
    later = np.diff(t) > 0
    pulls = (m - np.average(m, weights=w)) / err
    found: dict[str, Any] = {
        "standard_deviation": math.sqrt(variance),
        "excess_variance": (variance - (err**2).mean()) / m.mean() ** 2 if m.mean() else None,
    }
    if t.max() > t.min():
        away = t - np.average(t, weights=w)
        slope = (w * away * (m - np.average(m, weights=w))).sum() / (w * away**2).sum()
        rest = (m - np.average(m, weights=w) - slope * away) / err
        found |= {
            "maximum_slope": np.abs(np.diff(m)[later] / np.diff(t)[later]).max(),
            "linear_fit_slope": slope,
            "linear_fit_slope_sigma": (w * away**2).sum() ** -0.5,
            "linear_fit_reduced_chi2": (rest**2).sum() / (n - 2),
        }
    if variance == 0:
        return found
    z = np.sort(d) / math.sqrt(variance)
    i = np.arange(1, n + 1)
    logs = (2 * i - 1) * log_ndtr(z) + (2 * (n - i) + 1) * log_ndtr(-z)
    found |= {
        "eta": (np.diff(m) ** 2).sum() / (n - 1) / variance,
        "skew": n / ((n - 1) * (n - 2)) * (d**3).sum() / variance**1.5,
        "kurtosis": n * (n + 1) / ((n - 1) * (n - 2) * (n - 3)) * (d**4).sum() / variance**2
        - 3 * (n - 1) ** 2 / ((n - 2) * (n - 3)),
        "stetson_k": np.abs(pulls).sum() / math.sqrt(n * (pulls**2).sum()),
        "anderson_darling_normal": (1 + 4 / n - 25 / n**2) * (-n - logs.sum() / n),
    }
    return found | (_periodogram(t, d, variance) if t.max() > t.min() else {})


def _periodogram(t: Floats, d: Floats, variance: float) -> dict[str, Any]:
    """Return the largest maximum of the Lomb-Scargle periodogram up to the mean Nyquist rate."""
    n, duration = t.size, t[-1] - t[0]
    step = 2 * np.pi / (duration * 10)
    omega = step * np.arange(1, math.ceil(10 * (n - 1) / 2 * (1 - 1e-12)) + 1)
    angle = np.outer(omega, t - t[0])
    tau = np.arctan2(np.sin(2 * angle).sum(1), np.cos(2 * angle).sum(1)) / 2
    c, s = np.cos(angle - tau[:, None]), np.sin(angle - tau[:, None])
    cc, ss = (c**2).sum(1), (s**2).sum(1)
    sines = np.where(ss > 1e-9 * n, (s @ d) ** 2 / np.maximum(ss, 1e-12 * n), 0.0)
    power = ((c @ d) ** 2 / cc + sines) / (2 * variance)
    inner = power[1:-1]
    tops = np.flatnonzero((inner > power[:-2]) & (inner >= power[2:])) + 1
    spread = power.std(ddof=1) if power.size > 1 else 0.0
    if not tops.size or spread == 0:
        return {}
    best = tops[power[tops].argmax()]
    return {
        "periodogram_period_0": 2 * np.pi / omega[best],
        "periodogram_period_s_to_n_0": (power[best] - power.mean()) / spread,
    }
