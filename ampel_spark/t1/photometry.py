"""The canonical form of photometry, which state ids are hashed from and units receive.

Engines and processors disagree in the last bit of ``10**x``, so values are rounded once, in this
module only: magnitudes and their errors to 1e-6, times to 1e-8 d, fluxes to 7 significant digits.
State ids hash the rounded numbers as integers; units receive them as floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.lightcurve import DETECTION, FORCED, UPPER_LIMIT

__all__ = ["NULL", "canonical", "integers", "newest", "packed", "unsuperseded"]

#: A missing number in the hash.
NULL = np.iinfo(np.int64).min

Array = npt.NDArray[Any]
Points = dict[str, Array]

_MAG, _JD = 1e6, 1e8
_ZP = 25.0


def newest(points: Mapping[str, Array], group: Array) -> Array:
    """Return which points are the newest revision of their datapoint, shape (N,).

    Parameters
    ----------
    points : mapping of arrays with shape (N,)
        Points in order of (group, datapoint_id, revision).
    group : ndarray of int64 with shape (N,)
        The number of each point's light curve.
    """
    ids = points["datapoint_id"]
    last = np.ones(len(ids), bool)
    last[:-1] = (group[1:] != group[:-1]) | (ids[1:] != ids[:-1])
    return last


def unsuperseded(points: Mapping[str, Array], group: Array) -> Array:
    """Return which points no reprocessing superseded, shape (N,).

    Of several points with one (jd, readout channel), only the one with the largest id remains, as
    in AMPEL. Detections and upper limits supersede each other; forced photometry is separate.
    Points without a readout channel all remain.

    Parameters
    ----------
    points : mapping of arrays with shape (N,)
        Points in any order.
    group : ndarray of int64 with shape (N,)
        The number of each point's light curve.
    """
    ids, jd = points["datapoint_id"], points["jd"]
    rcid, forced = points["rcid"], points["kind"] == FORCED
    order = np.lexsort((ids, rcid, jd, forced, group))
    a, b = order[:-1], order[1:]
    same = (group[a] == group[b]) & (forced[a] == forced[b]) & (jd[a] == jd[b])
    same &= (rcid[a] == rcid[b]) & (rcid[a] >= 0)
    kept = np.ones(len(ids), bool)
    kept[a[same]] = False
    return kept


def canonical(points: Mapping[str, Array]) -> Points:
    """Return photometry in its canonical form, with fluxes derived from magnitudes.

    Parameters
    ----------
    points : mapping of arrays with shape (N,)
        ``datapoint_id, kind, jd, band, mag, magerr, limit_mag, sign, flux, fluxerr, zp, zpsys,
        programid, field, rcid, ra, dec``; missing floats are NaN.

    Returns
    -------
    dict of arrays with shape (N,)
        The same fields. A detection's flux follows from its rounded magnitude at zero point 25; a
        forced measurement keeps its own flux and zero point; a limit has no flux.

    Examples
    --------
    >>> from ampel_spark.lightcurve import LightCurve
    >>> rounded = canonical(LightCurve.of(jd=1.0, mag=20.00000049, magerr=0.1).points)
    >>> rounded["mag"].tolist(), rounded["flux"].tolist(), rounded["zp"].tolist()
    ([20.0], [100.0], [25.0])
    """
    out: Points = dict(points)
    out["jd"] = np.rint(points["jd"] * _JD) / _JD
    for name in ("mag", "magerr", "limit_mag", "zp"):
        out[name] = np.rint(points[name] * _MAG) / _MAG
    detected = points["kind"] == DETECTION
    with np.errstate(invalid="ignore", over="ignore"):
        flux = points["sign"] * 10.0 ** (-0.4 * (out["mag"] - _ZP))
        fluxerr = np.abs(flux) * out["magerr"] * (0.4 * np.log(10.0))
    out["flux"] = _seven(np.where(detected, flux, points["flux"]))
    out["fluxerr"] = _seven(np.where(detected, fluxerr, points["fluxerr"]))
    out["zp"] = np.where(detected, _ZP, out["zp"])
    limits = points["kind"] == UPPER_LIMIT
    for name in ("flux", "fluxerr", "zp"):
        out[name] = np.where(limits, np.nan, out[name])
    return out


def integers(points: Mapping[str, Array]) -> npt.NDArray[np.int64]:
    """Return the integers that represent each point in its state's hash, shape (N, 14).

    They hold the magnitudes of detections and upper limits, and the fluxes of forced photometry.
    They hold no position, and no flux of a detection, which follows from its magnitude.

    Parameters
    ----------
    points : mapping of arrays with shape (N,)
        Points in canonical form.
    """
    forced = points["kind"] == FORCED
    detected = points["kind"] == DETECTION
    flux, flux_exponent = _mantissa(np.where(forced, points["flux"], np.nan))
    fluxerr, fluxerr_exponent = _mantissa(np.where(forced, points["fluxerr"], np.nan))
    columns = [
        points["datapoint_id"].astype(np.int64),
        _scaled(points["jd"], _JD),
        points["kind"].astype(np.int64),
        packed(points["band"]),
        packed(points["zpsys"]),
        _scaled(np.where(forced | detected, points["zp"], np.nan), _MAG),
        _scaled(np.where(detected, points["mag"], np.nan), _MAG),
        _scaled(np.where(detected, points["magerr"], np.nan), _MAG),
        np.where(forced, 0, points["sign"]).astype(np.int64),
        _scaled(points["limit_mag"], _MAG),
        flux,
        flux_exponent,
        fluxerr,
        fluxerr_exponent,
    ]
    return np.stack(columns, axis=1)


def packed(text: Array) -> npt.NDArray[np.int64]:
    """Return strings, shape (N,), as integers: their bytes if they have at most 8, else a hash."""
    import xxhash

    table, inverse = np.unique(text.astype(str), return_inverse=True)
    codes = [
        int.from_bytes(data.ljust(8, b"\0"), "little", signed=True)
        if len(data := word.encode()) <= 8
        else xxhash.xxh64_intdigest(data) - (1 << 63)
        for word in table.tolist()
    ]
    return np.array(codes, dtype=np.int64)[inverse]


def _scaled(values: Array, factor: float) -> npt.NDArray[np.int64]:
    good = np.isfinite(values)
    return np.where(good, np.rint(np.where(good, values, 0.0) * factor).astype(np.int64), NULL)


def _mantissa(values: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return ``m, e`` with values = m 10**(e - 6), 10**6 <= abs(m) < 10**7; (0, 0) for zero."""
    good = np.isfinite(values) & (values != 0)
    size = np.where(good, np.abs(values), 1.0)
    exponent = np.floor(np.log10(size)).astype(np.int64)
    m = np.rint(_shift(size, 6 - exponent))
    # log10 may be wrong by one next to a power of ten, and rounding may reach the next power.
    low, high = m < 1e6, m >= 1e7
    exponent = exponent - low + high
    m = np.where(low | high, np.rint(_shift(size, 6 - exponent)), m).astype(np.int64)
    missing = np.where(np.isfinite(values), 0, NULL)
    sign = np.where(values < 0, -1, 1)
    return np.where(good, sign * m, missing), np.where(good, exponent, 0)


def _shift(values: Array, power: Array) -> Array:
    """Return values times 10**power by exact powers of ten, the same on every processor."""
    ten = 10.0 ** np.arange(23)
    up, down = ten[np.clip(power, 0, 22)], ten[np.clip(-power, 0, 22)]
    shifted: Array = values * up / down
    return shifted


def _seven(values: Array) -> Array:
    """Return values rounded to 7 significant digits."""
    m, exponent = _mantissa(values)
    finite = np.isfinite(values)
    return np.where(finite, _shift(np.where(finite, m, 0).astype(float), exponent - 6), np.nan)
