"""The canonical form of photometry: what a state's id is the hash of, and what units receive.

Engines and processors disagree in the last bit of ``10**x``, so values are rounded once, here, in
one implementation: magnitudes and their errors to 1e-6, times to 1e-8 d, fluxes to 7 significant
digits. The rounded numbers are hashed as integers and handed to units as floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.lightcurve import DETECTION, FORCED, UPPER_LIMIT

__all__ = ["NULL", "canonical", "integers", "newest", "packed", "unsuperseded"]

#: What a missing number is in the hash.
NULL = np.iinfo(np.int64).min

Array = npt.NDArray[Any]
Points = dict[str, Array]

_MAG, _JD = 1e6, 1e8
_ZP = 25.0


def newest(points: Mapping[str, Array], group: Array) -> Array:
    """Select the newest revision of each datapoint.

    Parameters
    ----------
    points : mapping of arrays with shape (N,)
        In order of (group, datapoint_id, revision).
    group : ndarray of int64 with shape (N,)
        Light curve of each point.

    Returns
    -------
    ndarray of bool with shape (N,)
    """
    ids = points["datapoint_id"]
    last = np.ones(len(ids), bool)
    last[:-1] = (group[1:] != group[:-1]) | (ids[1:] != ids[:-1])
    return last


def unsuperseded(points: Mapping[str, Array], group: Array) -> Array:
    """Select what no reprocessing superseded: of one (jd, readout channel), the largest id stays.

    Detections and upper limits supersede each other, as in AMPEL; forced photometry is apart. What
    has no readout channel is superseded by nothing.

    Returns
    -------
    ndarray of bool with shape (N,)
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
    """Round photometry to its canonical form, and derive fluxes from magnitudes.

    Parameters
    ----------
    points : mapping of arrays with shape (N,)
        ``datapoint_id, kind, jd, band, mag, magerr, limit_mag, sign, flux, fluxerr, zp, zpsys,
        programid, field, rcid, ra, dec``; missing floats are NaN.

    Returns
    -------
    dict of arrays with shape (N,)
        A detection's flux is made of its rounded magnitude at zero point 25; a forced measurement
        keeps its own flux and zero point.
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
    """Return the integers that stand for each point in its state's hash, with shape (N, 14).

    Magnitudes decide for detections and upper limits, fluxes for forced photometry; a detection's
    flux, a function of its magnitude, is not in it, and neither is a position.

    Parameters
    ----------
    points : mapping of arrays
        In canonical form.
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
    """Return short strings as integers: their first 8 bytes, or a hash of longer ones."""
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
    """Return ``m, e`` with values = m 10**(e - 6) and 10**6 <= abs(m) < 10**7; (0, 0) is zero."""
    good = np.isfinite(values) & (values != 0)
    size = np.where(good, np.abs(values), 1.0)
    exponent = np.floor(np.log10(size)).astype(np.int64)
    m = np.rint(_shift(size, 6 - exponent))
    # log10 may be off by one unit next to a power of ten, and rounding may reach the next one.
    low, high = m < 1e6, m >= 1e7
    exponent = exponent - low + high
    m = np.where(low | high, np.rint(_shift(size, 6 - exponent)), m).astype(np.int64)
    missing = np.where(np.isfinite(values), 0, NULL)
    sign = np.where(values < 0, -1, 1)
    return np.where(good, sign * m, missing), np.where(good, exponent, 0)


def _shift(values: Array, power: Array) -> Array:
    """Return values times 10**power, by exact powers of ten only: the same on every processor."""
    ten = 10.0 ** np.arange(23)
    up, down = ten[np.clip(power, 0, 22)], ten[np.clip(-power, 0, 22)]
    shifted: Array = values * up / down
    return shifted


def _seven(values: Array) -> Array:
    m, exponent = _mantissa(values)
    finite = np.isfinite(values)
    return np.where(finite, _shift(np.where(finite, m, 0).astype(float), exponent - 6), np.nan)
