"""A calibration release applied to one point: the plain twin of `ampel_spark.calibration.apply`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ampel_spark.calibration.cells import KINDS
from ampel_spark.calibration.release import Release, Replacement, Rule, Selects
from ampel_spark.calibration.tables import load_replacement
from ampel_spark.lightcurve import FORCED, UPPER_LIMIT

__all__ = ["Calibrated", "calibrated"]

Point = Mapping[str, Any]


@dataclass(frozen=True)
class Calibrated:
    """What a release made of a point.

    Attributes
    ----------
    point : dict
        With its calibrated values; of a masked point those that were issued.
    masked : bool
    rules : tuple of int
        Numbers of the rules that masked or changed it.
    """

    point: dict[str, Any]
    masked: bool
    rules: tuple[int, ...]


def calibrated(release: Release, point: Point, survey: str, stock: int) -> Calibrated:
    """Apply a calibration release to a point.

    Parameters
    ----------
    release : Release
    point : mapping
        Its fields; missing floats are NaN.
    survey : str
    stock : int
        Its object.
    """
    mine = [rule for rule in release.rules if _selected(rule.select, point, survey, stock)]
    if any(rule.mask for rule in mine):
        return Calibrated(dict(point), True, tuple(rule.number for rule in mine if rule.mask))
    made, acted = dict(point), []
    for rule in mine:
        if rule.replace is not None and _replaced(rule.replace, made, stock):
            acted.append(rule.number)
    shift, slope, offset, scale, floor = 0.0, 0.0, 0.0, 1.0, 0.0
    for rule in mine:
        values = _values(rule, point)
        if values is None:
            continue
        mag, err, add = values
        shift, scale, floor = shift + mag, scale * err, floor + add
        slope += rule.nonlinearity[0]
        offset += rule.nonlinearity[0] * rule.nonlinearity[1]
        moves = mag or rule.zero_point or rule.flux_scale != 1.0 or rule.nonlinearity[0]
        widens = (err != 1.0 or add > 0) and point["kind"] != UPPER_LIMIT
        if moves or widens:
            acted.append(rule.number)
    forced = point["kind"] == FORCED
    if forced:
        # of a flux that is NaN the error counts, and the other way round
        sizes = [x for x in (abs(made["flux"]), made["fluxerr"]) if not math.isnan(x)]
        size = max(sizes, default=math.nan)
        of_flux = made["zp"] - 2.5 * math.log10(size) if size > 0 else math.nan
        factor = 10.0 ** (-0.4 * _moved_by(of_flux, shift, slope, offset))
        made["flux"], made["fluxerr"] = made["flux"] * factor, made["fluxerr"] * factor
    for name in ("mag", "limit_mag"):
        made[name] += _moved_by(made[name], shift, slope, offset)
    scale = round(scale * 1e9) / 1e9
    if scale != 1.0 or floor > 0:
        made["magerr"] = math.sqrt((scale * made["magerr"]) ** 2 + floor)
        if forced:
            fraction = 0.4 * math.log(10.0) * made["flux"]
            made["fluxerr"] = math.sqrt((scale * made["fluxerr"]) ** 2 + floor * fraction**2)
    return Calibrated(made, False, tuple(sorted(acted)))


def _selected(select: Selects, point: Point, survey: str, stock: int) -> bool:
    kind = next(name for name, code in KINDS.items() if code == point["kind"])
    if select.mag != (-math.inf, math.inf):
        mag = point["limit_mag"] if kind == "upper_limit" else point["mag"]
        if kind == "forced":
            flux = abs(point["flux"])
            # NaN is unknown, and not infinitely faint as 0 is
            mag = point["zp"] - 2.5 * math.log10(flux) if flux > 0 else flux + math.inf
        low, high = select.mag
        # a comparison with NaN does not hold; no flux at all is within an open end
        if not (mag >= low and (mag < high or mag == high == math.inf)):
            return False
    return (
        (select.survey is None or survey in select.survey)
        and (select.band is None or point["band"] in select.band)
        and (select.field is None or point["field"] in select.field)
        and (select.rcid is None or point["rcid"] in select.rcid)
        and (select.kind is None or kind in select.kind)
        and select.jd[0] <= point["jd"] < select.jd[1]
        and (select.stocks is None or stock in select.stocks)
    )


def _values(rule: Rule, point: Point) -> tuple[float, float, float] | None:
    """Return shift [mag], factor on errors and squared floor [mag^2]; None: not in the table."""
    table = rule.table
    if table is None:
        mag = rule.zero_point - 2.5 * math.log10(rule.flux_scale)
        mag += rule.slope.get(point["band"], 0.0)
        return mag, rule.error_scale, _floor(rule.error_floor, rule.flux_floor)
    for row in range(len(next(iter(table.values.values())))):
        if all(point[name] == column[row] for name, column in table.keys.items()):
            own = {name: float(column[row]) for name, column in table.values.items()}
            return (
                own.get("zero_point", 0.0) - 2.5 * math.log10(own.get("flux_scale", 1.0)),
                own.get("error_scale", 1.0),
                _floor(own.get("error_floor", 0.0), own.get("flux_floor", 0.0)),
            )
    return None


def _floor(mag: float, fraction: float) -> float:
    return mag**2 + (fraction / (0.4 * math.log(10.0))) ** 2


def _moved_by(mag: float, shift: float, slope: float, offset: float) -> float:
    bend = slope * mag - offset if math.isfinite(mag) else 0.0
    return round((shift + bend) * 1e9) / 1e9


def _replaced(replacement: Replacement, made: dict[str, Any], stock: int) -> bool:
    table = load_replacement(replacement.path, replacement.content_hash)
    changed = False
    for row, identity in enumerate(table["datapoint_id"].tolist()):
        if identity != made["datapoint_id"] or table["stock"][row] not in (-1, stock):
            continue
        for name in set(table) - {"datapoint_id", "stock"}:
            old, new = made[name], float(table[name][row])
            has = old != 0 if name == "sign" else not math.isnan(old)
            if has and not math.isnan(new) and new != old:
                made[name], changed = new, True
    return changed
