"""Every cut of a filter on one alert, in plain Python: what `explain` shows.

The engine (`ampel_spark.t0.judge`) keeps the first cut that fails; here all of them are looked at.
A test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ampel_spark.t0.cuts import HISTORY, Comparison, Cut, inner_column
from ampel_spark.t0.galactic import galactic_latitude

if TYPE_CHECKING:
    from ampel_spark.t0.filters import Filter

__all__ = ["Outcome", "cut_outcomes", "history_of"]

Alert = Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What one cut makes of an alert.

    Attributes
    ----------
    position : int
        Place of the cut in the filter, from 1.
    cut : str
    passed : bool or None
        None where the cut is off for want of a star catalogue.
    value, threshold : float or None
        What the alert has, and what it was held against.
    rule : str
        Where the cut rejects.
    detail : str
        What is missing, or why the cut is off.
    """

    position: int
    cut: str
    passed: bool | None
    value: float | None
    threshold: float | None
    rule: str
    detail: str


def cut_outcomes(
    alert: Alert,
    rule: Filter,
    history: Mapping[str, Any],
    star: tuple[float, float] | None = None,
    *,
    stars_off: str = "",
    before: Sequence[Cut] = (),
) -> list[Outcome]:
    """Return what each cut of a filter makes of an alert.

    Parameters
    ----------
    alert : mapping
        Row of the alerts table.
    rule : Filter
    history : mapping
        As `history_of` returns it.
    star : tuple of float, optional
        Distance and allowed distance, arcsec, of the star that vetoes; none: no such star.
    stars_off : str, optional
        Why there is no catalogue of stars; empty: there is one.
    before : sequence of Cut, optional
        Cuts that an alert meets before the filter's.
    """
    distance, allowed = star or (math.nan, math.nan)
    known = {**alert, **history, "gaia_distance": distance, "gaia_allowed": allowed}
    found = []
    for position, cut in enumerate([*before, *rule.cuts()], start=1):
        off = cut.needs_stars and bool(stars_off)
        missing = [
            c.quantity
            for c in cut.rejects
            if c.op == "is missing" and _value(known, c.quantity) is None
        ]
        found.append(
            Outcome(
                position,
                cut.name,
                None if off else not _rejects(known, cut),
                _number(known, cut.value),
                _number(known, cut.threshold),
                str(cut).removeprefix("rejects where "),
                f"off: {stars_off}" if off else f"missing: {', '.join(missing)}" if missing else "",
            )
        )
    return found


def history_of(
    alert: Alert, earlier: Sequence[Alert], rights: frozenset[int], mode: str
) -> dict[str, Any]:
    """Return the history that counts: ``n_detections``, ``jd_first`` and ``jd_last`` [d].

    Parameters
    ----------
    alert : mapping
        Row of the alerts table.
    earlier : sequence of mapping
        Alerts of the object up to this one that may be seen; read for ``archive`` alone.
    rights : frozenset of int
        Program ids that may be seen.
    mode : str
        ``packet``: what the alert itself carries; ``archive``: what all of them had shown by then.
    """
    rows = [alert] if mode == "packet" else [*earlier, alert]
    seen: dict[int, float] = {}
    for row in rows:
        points = zip(
            row["datapoint_ids"], row["datapoint_jds"], row["datapoint_programids"], strict=True
        )
        seen |= {
            identity: jd
            for identity, jd, programid in points
            if identity > 0 and programid in rights
        }
    values = (len(seen), min(seen.values(), default=None), max(seen.values(), default=None))
    return dict(zip(HISTORY, values, strict=True))


def _rejects(known: Alert, cut: Cut) -> bool:
    parts = (_holds(known, comparison) for comparison in cut.rejects)
    return all(parts) if cut.how == "all" else any(parts)


def _holds(known: Alert, comparison: Comparison) -> bool:
    value = _value(known, comparison.quantity)
    if comparison.op in ("is missing", "is present"):
        return (value is None) == (comparison.op == "is missing")
    return value is not None and _OPERATORS[comparison.op](value, comparison.operand)


def _number(known: Alert, quantity: str | float | None) -> float | None:
    value = _value(known, quantity) if isinstance(quantity, str) else quantity
    return None if value is None or isinstance(value, str) else float(value)


def _value(known: Alert, quantity: str) -> Any:
    """Return a quantity, None where it is missing."""
    if quantity in _DERIVED:
        return _DERIVED[quantity](lambda name: _value(known, name))
    inner = inner_column(quantity)
    if inner is not None:
        value = _value(known, inner)
        return None if value is None else abs(value)
    value = known.get(quantity)
    return None if isinstance(value, float) and math.isnan(value) else value


def _with(function: Callable[..., Any], *names: str) -> Callable[[Callable[[str], Any]], Any]:
    """Apply a function to quantities, if none of them is missing."""

    def derived(get: Callable[[str], Any]) -> Any:
        values = [get(name) for name in names]
        return None if any(value is None for value in values) else function(*values)

    return derived


_DERIVED: dict[str, Callable[[Callable[[str], Any]], Any]] = {
    "tspan": _with(lambda first, last: last - first, "jd_first", "jd_last"),
    "archive_tspan": _with(lambda start, end: end - start, "jdstarthist", "jdendhist"),
    "gal_lat": _with(galactic_latitude, "ra", "dec"),
    "sign": _with(lambda flag: -1.0 if flag in ("f", "0") else 1.0, "isdiffpos"),
    "ps1_distance_max": _with(max, "distpsnr1", "distpsnr2", "distpsnr3"),
    "ps1_sg_offset_max": _with(
        lambda *scores: max(abs(score - 0.5) for score in scores),
        "sgscore1",
        "sgscore2",
        "sgscore3",
    ),
}
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
}
