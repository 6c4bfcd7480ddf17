"""Every cut of a channel's filter on one alert, without Spark.

`ampel_spark.t0.judge` keeps the first cut that rejects; here all of them are evaluated, the same
cuts on the same quantities. A test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ampel_spark.calibration.alerts import calibrated_alert
from ampel_spark.t0.cuts import Cut
from ampel_spark.t0.filters import DecentFilter
from ampel_spark.t0.gaia import GaiaRule, vetoes
from ampel_spark.t0.quantities import GAIA, HISTORY, AlertRow
from ampel_spark.t0.selection import ChannelFilter
from ampel_spark.t0.verdict import Alert as Judged
from ampel_spark.t0.verdict import Verdict, asked

if TYPE_CHECKING:
    from ampel_spark.lightcurve import LightCurve

__all__ = ["CutResult", "explain", "history_of"]

Alert = Mapping[str, Any]


@dataclass(frozen=True)
class CutResult:
    """What one cut makes of an alert.

    Attributes
    ----------
    position : int
        Place of the cut in the filter, from 1.
    cut : str
        Its name.
    passed : bool or None
        None where the cut is off for want of a star catalogue.
    value, threshold : float, str or None
        What the alert has, and what it was compared with.
    rule : str
        Where the cut rejects.
    detail : str
        What is missing, or why the cut is off.
    """

    position: int
    cut: str
    passed: bool | None
    value: float | str | None
    threshold: float | str | None
    rule: str
    detail: str


def explain(
    alert: Alert,
    judged: ChannelFilter,
    earlier: Sequence[Alert] = (),
    *,
    stars_off: str = "",
    past: LightCurve | None = None,
) -> list[CutResult]:
    """Return what each cut of a channel's filter makes of an alert.

    What `on_stock_match` does is not shown.

    Parameters
    ----------
    alert : mapping
        Row of the alerts table.
    judged : ChannelFilter
        The channel; it may see the alert.
    earlier : sequence of mapping
        Alerts of the object before this one that the channel may see; read for ``history: archive``
        alone.
    stars_off : str
        Why the channel has no catalogue of stars, where its filter asks for one.
    past : LightCurve, optional
        What the channel may see of the object up to the alert, for a filter that judges in Python.
    """
    if judged.release is not None and judged.calibrates:
        alert = calibrated_alert(alert, judged.release)
    history = history_of(alert, earlier, judged.access, judged.history)
    row = AlertRow({**alert, **history, **_star(alert, judged)}, judged.filter.own)
    off = stars_off or ("no catalogue of stars" if judged.gaia is None else "")
    results = [
        _result(position, cut, row, off if cut.needs_stars else "")
        for position, cut in enumerate(judged.cuts(), start=1)
    ]
    if judged.filter.judges:
        first = next((result.cut for result in results if result.passed is False), "")
        seen = Judged({**alert, **history}, past, judged.filter.own)
        results.append(_judged(len(results) + 1, judged, seen, first))
    return results


def _judged(position: int, judged: ChannelFilter, alert: Judged, rejected: str) -> CutResult:
    """Return what the filter's `judge` makes of an alert, unless a cut rejects it before."""
    verdict, detail, passed = Verdict(True), f"not asked: {rejected} rejects", None
    if not rejected:
        verdict, error = asked(judged.filter, alert)
        passed, detail = verdict.accept, "" if error is None else str(error)
    rule = f"{type(judged.filter).__name__}.judge"
    return CutResult(
        position, verdict.cut or "judge", passed, verdict.value, verdict.threshold, rule, detail
    )


def history_of(
    alert: Alert, earlier: Sequence[Alert], access: frozenset[int] | None, mode: str
) -> dict[str, Any]:
    """Return the history that counts: ``n_detections``, ``jd_first`` and ``jd_last`` [d].

    Parameters
    ----------
    alert : mapping
        Row of the alerts table.
    earlier : sequence of mapping
        Alerts of the object before this one that may be seen; read for ``archive`` alone.
    access : frozenset of int or None
        Program ids that may be seen; None: all.
    mode : str
        ``packet``: what the alert itself carries; ``archive``: what all of them had shown by then.
    """
    rows = [alert] if mode == "packet" else [*earlier, alert]
    seen = {point: jd for row in rows for point, jd in _detections(row, access)}
    values = (len(seen), min(seen.values(), default=None), max(seen.values(), default=None))
    return dict(zip(HISTORY, values, strict=True))


def _detections(row: Alert, access: frozenset[int] | None) -> Iterator[tuple[int, float]]:
    names = ("datapoint_ids", "datapoint_jds", "datapoint_programids")
    for point, jd, programid in zip(*(row[name] for name in names), strict=True):
        if point > 0 and (access is None or programid in access):
            yield point, jd


def _star(alert: Alert, judged: ChannelFilter) -> dict[str, float]:
    """Return distance and allowed distance [arcsec] of the nearest star that vetoes, if any."""
    if judged.gaia is None or not isinstance(judged.filter, DecentFilter):
        return {}
    place = (np.array([alert[name]], np.float64) for name in ("ra", "dec"))
    found = vetoes(judged.gaia, GaiaRule.of(judged.filter), *place)
    return dict(zip(GAIA, (float(values[0]) for values in found), strict=True))


def _result(position: int, cut: Cut, row: AlertRow, off: str) -> CutResult:
    rejected = row.evaluate(cut.rejects) is True
    missing = [name for name in cut.rejects.names if rejected and row.value(name) is None]
    detail = f"off: {off}" if off else f"missing: {', '.join(missing)}" if missing else ""
    return CutResult(
        position,
        cut.name,
        None if off else not rejected,
        row.recorded(cut.value),
        row.recorded(cut.threshold),
        cut.rejects.text,
        detail,
    )
