"""What can be said of a light curve by counting: detections, dates, brightest points, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.lightcurve import DETECTION, UPPER_LIMIT, LightCurve, LightCurveBatch
from ampel_spark.sky.angles import separation
from ampel_spark.t2.unit import Column, Unit

__all__ = ["LightCurveSummary"]

Array = npt.NDArray[Any]


class LightCurveSummary(Unit):
    """Counts, dates, positions, brightest points, and the last deep limit before the discovery.

    Forced photometry is left out. Dates and positions take all detections, brightest points only
    those of a positive subtraction. AMPEL's unit of this name returned the *first* deep limit.
    """

    limiting_magnitude: float = 19.5
    "An upper limit fainter than this is significant, mag."

    bands: tuple[str, ...] = ("ztfg", "ztfr", "ztfi")
    "Bands that get columns of their own."

    libraries = ("numpy",)
    columns = (
        Column("n_detections", "int", "", "detections, negative subtractions included"),
        Column("n_negative", "int", "", "negative subtractions among them"),
        Column("n_upper_limits", "int", "", "upper limits"),
        Column("first_detection", "double", "d", "JD of the first detection"),
        Column("last_detection", "double", "d", "JD of the last detection"),
        Column("duration", "double", "d", "first to last detection"),
        Column("discovery_ra", "double", "deg", "right ascension of the first detection, ICRS"),
        Column("discovery_dec", "double", "deg", "declination of the first detection, ICRS"),
        Column("ra", "double", "deg", "mean right ascension of detections, else of forced, ICRS"),
        Column("dec", "double", "deg", "mean declination of detections, else of forced, ICRS"),
        Column("position_rms", "double", "arcsec", "rms distance of detections from their mean"),
        Column("latest_mag", "double", "mag", "magnitude of the last detection"),
        Column("latest_magerr", "double", "mag", "its error"),
        Column("latest_band", "string", "", "its band"),
        Column("peak_mag", "double", "mag", "brightest detection"),
        Column("peak_jd", "double", "d", "its JD"),
        Column("peak_band", "string", "", "its band"),
        Column(
            "last_significant_nondetection_jd", "double", "d",
            "JD of the last significant upper limit before the first detection",
        ),
        Column("last_significant_nondetection_band", "string", "", "its band"),
        Column("last_significant_nondetection_limit", "double", "mag", "its limiting magnitude"),
        Column("nondetection_gap", "double", "d", "from it to the first detection"),
    )  # fmt: skip

    def output_columns(self) -> Sequence[Column]:
        """Return the columns, with three for each of `bands`."""
        own = [
            column
            for band in self.bands
            for column in (
                Column(f"n_{band}", "int", "", f"detections in {band}"),
                Column(f"peak_mag_{band}", "double", "mag", f"brightest detection in {band}"),
                Column(
                    f"peak_jd_{band}", "double", "d", f"JD of the brightest detection in {band}"
                ),
            )
        ]
        return (*self.columns, *own)

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        """Summarise one light curve; the plain twin of `process_batch`."""
        d, limits = light_curve.detections, light_curve.upper_limits
        row: dict[str, Any] = {
            "n_detections": len(d),
            "n_negative": int((d.sign < 0).sum()),
            "n_upper_limits": len(limits),
            **{f"n_{band}": int((d.band == band).sum()) for band in self.bands},
        }
        ra, dec = light_curve.position()
        row |= {"ra": ra, "dec": dec}
        if not len(d):
            return row
        first, last = d.jd[0], d.jd[-1]
        placed = np.isfinite(d.ra) & np.isfinite(d.dec)
        away = separation(d.ra[placed], d.dec[placed], np.float64(ra), np.float64(dec))
        row |= {
            "first_detection": first,
            "last_detection": last,
            "duration": last - first,
            "discovery_ra": d.ra[0],
            "discovery_dec": d.dec[0],
            "position_rms": np.sqrt((away**2).sum() / len(away)) if len(away) else np.nan,
            "latest_mag": d.mag[-1],
            "latest_magerr": d.magerr[-1],
            "latest_band": d.band[-1],
        }
        positive = d.where((d.sign > 0) & np.isfinite(d.mag))
        if len(positive):
            i = positive.mag.argmin()
            row |= {
                "peak_mag": positive.mag[i],
                "peak_jd": positive.jd[i],
                "peak_band": positive.band[i],
            }
        for band in self.bands:
            inside = positive.where(positive.band == band)
            if len(inside):
                i = inside.mag.argmin()
                row |= {f"peak_mag_{band}": inside.mag[i], f"peak_jd_{band}": inside.jd[i]}
        deep = limits.where((limits.limit_mag > self.limiting_magnitude) & (limits.jd < first))
        if len(deep):
            row |= {
                "last_significant_nondetection_jd": deep.jd[-1],
                "last_significant_nondetection_band": deep.band[-1],
                "last_significant_nondetection_limit": deep.limit_mag[-1],
                "nondetection_gap": first - deep.jd[-1],
            }
        return row

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        """Summarise many light curves at once."""
        m, group, p = len(batch), batch.index(), batch.points
        detection = np.flatnonzero(p["kind"] == DETECTION)
        sign, band = p["sign"][detection], p["band"][detection]
        first, last = _ends(detection, group, m)
        ra, dec = batch.positions()
        out: dict[str, Any] = {
            "n_detections": _count(group[detection], m),
            "n_negative": _count(group[detection][sign < 0], m),
            "n_upper_limits": _count(group[p["kind"] == UPPER_LIMIT], m),
            **{f"n_{b}": _count(group[detection][band == b], m) for b in self.bands},
            "first_detection": _take(p["jd"], first),
            "last_detection": _take(p["jd"], last),
            "duration": _take(p["jd"], last) - _take(p["jd"], first),
            "discovery_ra": _take(p["ra"], first),
            "discovery_dec": _take(p["dec"], first),
            "ra": ra,
            "dec": dec,
            "position_rms": _rms(detection, group, p, ra, dec),
            "latest_mag": _take(p["mag"], last),
            "latest_magerr": _take(p["magerr"], last),
            "latest_band": _take(p["band"], last),
        }
        positive = detection[(sign > 0) & np.isfinite(p["mag"][detection])]
        order = positive[np.lexsort((positive, p["mag"][positive], group[positive]))]
        peak = _ends(order, group, m)[0]
        out |= {f"peak_{name}": _take(p[name], peak) for name in ("mag", "jd", "band")}
        for b in self.bands:
            peak = _ends(order[p["band"][order] == b], group, m)[0]
            out |= {f"peak_mag_{b}": _take(p["mag"], peak), f"peak_jd_{b}": _take(p["jd"], peak)}
        deep = np.flatnonzero(
            (p["kind"] == UPPER_LIMIT)
            & (p["limit_mag"] > self.limiting_magnitude)
            & (p["jd"] < out["first_detection"][group])
        )
        limit = _ends(deep, group, m)[1]
        out |= {
            "last_significant_nondetection_jd": _take(p["jd"], limit),
            "last_significant_nondetection_band": _take(p["band"], limit),
            "last_significant_nondetection_limit": _take(p["limit_mag"], limit),
            "nondetection_gap": out["first_detection"] - _take(p["jd"], limit),
        }
        return out


def _count(group: Array, m: int) -> Array:
    return np.bincount(group, minlength=m)


def _ends(rows: Array, group: Array, m: int) -> tuple[Array, Array]:
    """Return the first and the last of some rows in each light curve; -1 where there is none.

    The rows must be in order of their light curves.
    """
    edges = np.searchsorted(group[rows], np.arange(m + 1))
    some = np.diff(edges) > 0
    first, last = np.full(m, -1), np.full(m, -1)
    first[some], last[some] = rows[edges[:-1][some]], rows[edges[1:][some] - 1]
    return first, last


def _take(values: Array, rows: Array) -> Array:
    """Return values at rows; NaN, or None in an array of text, where the row is -1."""
    if values.dtype == object:
        out = np.full(len(rows), None, dtype=object)
    else:
        out = np.full(len(rows), np.nan)
    out[rows >= 0] = values[rows[rows >= 0]]
    return out


def _rms(detection: Array, group: Array, p: Mapping[str, Array], ra: Array, dec: Array) -> Array:
    placed = detection[np.isfinite(p["ra"][detection]) & np.isfinite(p["dec"][detection])]
    g = group[placed]
    away = separation(p["ra"][placed], p["dec"][placed], ra[g], dec[g])
    n = np.bincount(g, minlength=len(ra)).astype(np.float64)
    n[n == 0] = np.nan
    return np.sqrt(np.bincount(g, weights=away**2, minlength=len(ra)) / n)
