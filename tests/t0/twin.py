"""The plain twin: one packet, one filter, one answer, to be read beside AMPEL's documentation.

A test holds it and the engine together. They share the parameters, the rotation to galactic
coordinates (which a test holds to astropy) and the names of conditions, and no rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ampel_spark.t0.conditions import parse_condition
from ampel_spark.t0.filters import Conditions, DecentFilter, Filter, SimpleDecentFilter
from ampel_spark.t0.galactic import galactic_latitude

__all__ = ["Verdict", "judge_packet"]


class Verdict(NamedTuple):
    """Accepted or not; and if not, the cut, what the alert had, and what was asked for."""

    accepted: bool
    cut: str | None = None
    value: float | None = None
    threshold: float | None = None


def judge_packet(
    packet: Mapping[str, Any],
    alert_filter: Filter,
    *,
    access: frozenset[int] | None = None,
    stars: Sequence[Mapping[str, float | None]] | None = None,
    latitude: Callable[[float, float], float] = galactic_latitude,
) -> Verdict | None:
    """Judge one alert packet.

    Parameters
    ----------
    packet : mapping
        ``candidate`` and ``prv_candidates`` as the survey has them.
    alert_filter : DecentFilter, SimpleDecentFilter or Conditions
    access : frozenset of int, optional
        Program ids that count; None counts all.
    stars : sequence of mapping, optional
        Stars with the columns of `ampel_spark.t0.gaia.STAR_COLUMNS`; none: no Gaia veto.
    latitude : callable
        Galactic latitude [deg] of (ra, dec) [deg].

    Returns
    -------
    Verdict or None
        None where `access` does not see the alert.
    """
    candidate = packet["candidate"]
    if access is not None and candidate["programid"] not in access:
        return None
    datapoints = [candidate, *(packet.get("prv_candidates") or ())]
    jds = [
        d["jd"]
        for d in datapoints
        if d.get("candid") is not None and (access is None or d["programid"] in access)
    ]
    if isinstance(alert_filter, Conditions):
        return _conditions(candidate, jds, alert_filter, latitude)
    if isinstance(alert_filter, DecentFilter | SimpleDecentFilter):
        return _decent(candidate, jds, alert_filter, stars, latitude)
    raise TypeError(f"the twin knows no {type(alert_filter).__name__}")


def _decent(
    c: Mapping[str, Any],
    jds: Sequence[float],
    f: DecentFilter | SimpleDecentFilter,
    stars: Sequence[Mapping[str, float | None]] | None,
    latitude: Callable[[float, float], float],
) -> Verdict:
    # History
    if len(jds) < f.min_ndet:
        return Verdict(False, "min_ndet", len(jds), f.min_ndet)
    tspan = max(jds) - min(jds)
    if tspan < f.min_tspan:
        return Verdict(False, "min_tspan", tspan, f.min_tspan)
    if tspan > f.max_tspan:
        return Verdict(False, "max_tspan", tspan, f.max_tspan)

    # What the candidate must have
    for key in (
        "fwhm", "elong", "magdiff", "nbad", "distpsnr1", "sgscore1", "distpsnr2", "sgscore2",
        "distpsnr3", "sgscore3", "isdiffpos", "ra", "dec", "rb", "ssdistnr",
    ):  # fmt: skip
        if _missing(c.get(key)):
            return Verdict(False, "missing keys")

    # Image
    if c["isdiffpos"] == "f" or c["isdiffpos"] == "0":
        return Verdict(False, "isdiffpos", -1.0, 0.0)
    if c["rb"] < f.min_rb:
        return Verdict(False, "min_rb", c["rb"], f.min_rb)
    drb: Any = c.get("drb")
    if f.min_drb > 0.0 and not _missing(drb) and drb < f.min_drb:
        return Verdict(False, "min_drb", drb, f.min_drb)
    if c["fwhm"] > f.max_fwhm:
        return Verdict(False, "max_fwhm", c["fwhm"], f.max_fwhm)
    if c["elong"] > f.max_elong:
        return Verdict(False, "max_elong", c["elong"], f.max_elong)
    if abs(c["magdiff"]) > f.max_magdiff:
        return Verdict(False, "max_magdiff", abs(c["magdiff"]), f.max_magdiff)
    if c["nbad"] > f.max_nbad:
        return Verdict(False, "max_nbad", c["nbad"], f.max_nbad)

    # The survey's own history, where it says
    start: Any = c.get("jdstarthist")
    end: Any = c.get("jdendhist")
    if not _missing(start) and not _missing(end):
        span = end - start
        if span < f.min_archive_tspan:
            return Verdict(False, "min_archive_tspan", span, f.min_archive_tspan)
        if span >= f.max_archive_tspan:
            return Verdict(False, "max_archive_tspan", span, f.max_archive_tspan)

    # Solar system, galactic plane, PS1
    if 0 <= c["ssdistnr"] < f.min_sso_dist:
        return Verdict(False, "min_sso_dist", c["ssdistnr"], f.min_sso_dist)
    if f.min_gal_lat > 0:
        b = abs(latitude(c["ra"], c["dec"]))
        if b < f.min_gal_lat:
            return Verdict(False, "min_gal_lat", b, f.min_gal_lat)
    if c["distpsnr1"] < f.ps1_sgveto_rad and c["sgscore1"] > f.ps1_sgveto_th:
        return Verdict(False, "ps1_star", c["distpsnr1"], f.ps1_sgveto_rad)
    farthest = max(c["distpsnr1"], c["distpsnr2"], c["distpsnr3"])
    doubt = max(abs(c["sgscore1"] - 0.5), abs(c["sgscore2"] - 0.5), abs(c["sgscore3"] - 0.5))
    if farthest < f.ps1_confusion_rad and doubt < f.ps1_confusion_sg_tol:
        return Verdict(False, "ps1_confusion", farthest, f.ps1_confusion_rad)

    # Gaia
    if isinstance(f, DecentFilter) and f.gaia_rs > 0 and stars is not None:
        found = [_gaia_star(c["ra"], c["dec"], star, f) for star in stars]
        hits = [hit for hit in found if hit is not None]
        if hits:
            distance, allowed = min(hits)
            return Verdict(False, "gaia_star", distance, allowed)
    return Verdict(True)


def _gaia_star(
    ra: float, dec: float, star: Mapping[str, float | None], f: DecentFilter
) -> tuple[float, float] | None:
    """Return the distance and the allowed distance of a star that vetoes, both arcsec."""
    s = {key: math.nan if value is None else value for key, value in star.items()}
    distance = _separation(ra, dec, s["ra"], s["dec"])
    allowed = 1.8 + 0.6 * math.exp((20 - s["Mag_G"]) / 2.05)
    if (
        distance <= f.gaia_rs
        and allowed > distance
        and f.gaia_veto_gmag_min <= s["Mag_G"] <= f.gaia_veto_gmag_max
        and s["ExcessNoiseSig"] < f.gaia_excessnoise_sig_max
        and (
            _significance(s["PMRA"], s["ErrPMRA"]) > f.gaia_pm_signif
            or _significance(s["PMDec"], s["ErrPMDec"]) > f.gaia_pm_signif
            or _significance(s["Plx"], s["ErrPlx"]) > f.gaia_plx_signif
        )
    ):
        return distance, allowed
    return None


def _significance(value: float, error: float) -> float:
    if error == 0:
        return math.nan if value == 0 or math.isnan(value) else math.inf
    return abs(value / error)


def _separation(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    """Return the angle between two positions [deg] in arcsec, by the haversine formula."""
    d1, d2 = math.radians(dec1), math.radians(dec2)
    h = (
        math.sin(0.5 * (d2 - d1)) ** 2
        + math.cos(d1) * math.cos(d2) * math.sin(0.5 * math.radians(ra2 - ra1)) ** 2
    )
    return math.degrees(2 * math.asin(math.sqrt(min(1.0, h)))) * 3600


def _conditions(
    c: Mapping[str, Any],
    jds: Sequence[float],
    f: Conditions,
    latitude: Callable[[float, float], float],
) -> Verdict:
    known = {**c, "n_detections": len(jds), "jd_first": min(jds), "jd_last": max(jds)}
    known["tspan"] = known["jd_last"] - known["jd_first"]
    if not _missing(c.get("jdendhist")) and not _missing(c.get("jdstarthist")):
        known["archive_tspan"] = c["jdendhist"] - c["jdstarthist"]
    if not _missing(c.get("ra")) and not _missing(c.get("dec")):
        known["gal_lat"] = latitude(c["ra"], c["dec"])
    for text in f.conditions:
        asked, or_missing = text.strip(), False
        if asked.endswith("or missing"):
            asked, or_missing = asked.removesuffix("or missing").strip(), True
        name, met = parse_condition(text).name, or_missing
        value = _look_up(asked, known)
        if not _missing(value):
            met = _is_met(asked, value)
        if not met:
            number = None if _missing(value) or isinstance(value, str) else float(value)
            return Verdict(False, name, number, _number(asked))
    return Verdict(True)


def _look_up(asked: str, known: Mapping[str, Any]) -> Any:
    quantity = asked.split("<")[0].split(">")[0].split("=")[0].split("!")[0]
    quantity = quantity.split(" not in ")[0].split(" in ")[0].strip()
    if quantity.startswith("abs("):
        value = known.get(quantity[4:-1].strip())
        return value if value is None else abs(value)
    return known.get(quantity)


def _is_met(asked: str, value: Any) -> bool:
    for word in (" not in ", " in "):
        if word in asked:
            items = [i.strip(" '\"") for i in asked.split(word)[1].strip().strip("[]").split(",")]
            inside = value in (items if isinstance(value, str) else map(float, items))
            return inside == (word == " in ")
    for op in ("<=", ">=", "==", "!=", "<", ">"):
        if op in asked:
            right: Any = asked.split(op)[1].strip(" '\"")
            right = right if isinstance(value, str) else float(right)
            return bool({
                "<=": value <= right, ">=": value >= right, "==": value == right,
                "!=": value != right, "<": value < right, ">": value > right,
            }[op])  # fmt: skip
    raise ValueError(f"no operator in {asked!r}")


def _number(asked: str) -> float | None:
    for sign in "=<>!":
        asked = asked.replace(sign, " ")
    try:
        return float(asked.split()[-1])
    except ValueError:
        return None


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
