"""Features of many light curves: rows are chosen by numpy, and taken by the kernel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ampel_spark.features.definitions import FeatureSet, Options
from ampel_spark.features.kernel import ZERO_POINT, fill

__all__ = ["compute", "warm"]

Floats = NDArray[np.float64]


def compute(
    features: FeatureSet,
    offsets: NDArray[np.int64],
    jd: Floats,
    flux: Floats,
    fluxerr: Floats,
    zp: Floats,
    band: NDArray[np.int64],
    limit: NDArray[np.bool_],
    forced: NDArray[np.bool_],
    options: Options | None = None,
) -> Floats:
    """Return the features of light curves, shape (M, features); NaN where one cannot be known.

    Parameters
    ----------
    features : FeatureSet
    offsets : ndarray of int64 with shape (M + 1,)
        Light curve ``i`` is points ``offsets[i]:offsets[i + 1]``, in order of time.
    jd, flux, fluxerr, zp : ndarray with shape (N,)
        Time [d], flux and its error, and their zero point [mag].
    band : ndarray of int64 with shape (N,)
        Place of the point's band in `features.bands`; -1 for another band.
    limit, forced : ndarray of bool with shape (N,)
        Whether a point is an upper limit, or a forced flux.
    options : Options, optional
    """
    options = options or Options()
    usable = np.isfinite(flux) & np.isfinite(fluxerr) & (fluxerr > 0.0) & np.isfinite(zp) & ~limit
    kept = (band >= 0) & (usable | limit)
    owner = np.repeat(np.arange(offsets.size - 1), np.diff(offsets))
    kept &= ~_doubled(owner, jd, band, kept & ~limit & ~forced, kept & forced)
    scale = 10.0 ** (-0.4 * (zp[kept] - ZERO_POINT))
    places = np.append(0, np.cumsum(np.bincount(owner[kept], minlength=offsets.size - 1)))
    significant = features.significant or features.bands
    index = {name: i for i, name in enumerate(features.bands)}
    pairs = [(index[one], index[two]) for one, two in features.pairs()]
    out = np.full((offsets.size - 1, len(features.features())), np.nan)
    fill(
        places.astype(np.int64),
        np.ascontiguousarray(jd[kept], np.float64),
        np.where(limit[kept], np.nan, flux[kept] * scale),
        np.where(limit[kept], np.nan, fluxerr[kept] * scale),
        np.ascontiguousarray(band[kept], np.int64),
        np.array(features.bits(), np.int64),
        np.array([name in significant for name in features.bands], bool),
        np.array(pairs, np.int64).reshape(-1, 2),
        np.array([options.sigma_det, options.sigma_slope, options.t_cadence, options.max_gap]),
        features.statistics,
        out,
    )
    return out


def warm() -> None:
    """Compile the kernel, for all processes that share its folder."""
    none, no = np.empty(0), np.empty(0, bool)
    places = np.zeros(1, np.int64)
    compute(FeatureSet(("one",)), places, none, none, none, none, places[:0], no, no)


def _doubled(
    owner: NDArray[np.int64],
    jd: Floats,
    band: NDArray[np.int64],
    detected: NDArray[np.bool_],
    forced: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return which forced fluxes are of the image of a detection: same object, time and band."""
    doubled = np.zeros(jd.size, bool)
    rows = np.flatnonzero(detected | forced)
    if not forced.any() or not rows.size:
        return doubled
    # detections come first among rows of one image
    order = rows[np.lexsort((forced[rows], band[rows], jd[rows], owner[rows]))]
    new = np.ones(order.size, bool)
    new[1:] = (
        (owner[order][1:] != owner[order][:-1])
        | (jd[order][1:] != jd[order][:-1])
        | (band[order][1:] != band[order][:-1])
    )
    leads = np.maximum.accumulate(np.where(new, np.arange(order.size), 0))
    doubled[order] = forced[order] & detected[order[leads]]
    return doubled
