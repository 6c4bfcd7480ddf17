"""Sightings: what alerts showed of a datapoint, put in order, and the revisions of its values.

An alert lists what it shows. Values last from the alert that first showed them to the alert that
first showed others. So the lists of an alert of the lake and the stored values tell what it showed;
a new alert brings its own.

What a survey declares for its points (`surveys.OwnColumns`) makes no revision. Values come with
what the first alert that showed them said, in the order of alerts; if that alert no longer counts,
with nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["TOLERANCE", "Sighting", "history", "revisions"]

#: Magnitudes by which a value must differ to be a revision.
TOLERANCE = 1e-3

Values = Mapping[str, Any]


class Sighting(NamedTuple):
    """Values of a datapoint, and the alert that showed them: its time [JD] and its id.

    `own` stands for what the survey declares, as that alert had it; None for nothing.
    """

    jd: float
    alert_id: int
    values: Values
    own: Any = None

    @property
    def name(self) -> tuple[float, int, int]:
        """What is one and the same for equal sightings."""
        return self.jd, self.alert_id, self.values["value_hash"]


def history(
    begins: Iterable[Sighting],
    shown: Iterable[tuple[float, int]],
    own: Iterable[Sighting],
    gone: frozenset[int] = frozenset(),
) -> list[Sighting]:
    """Return the values of a datapoint as they changed, in the order of alerts.

    Parameters
    ----------
    begins : iterable of Sighting
        Values that the lake has, and the alert that first showed them.
    shown : iterable of (float, int)
        Time and id of alerts of the lake that showed the datapoint.
    own : iterable of Sighting
        What new alerts showed.
    gone : frozenset of int
        Alerts that no longer count.
    """
    entries: list[tuple[float, int, int, int, Sighting | None]]
    entries = [(s.jd, s.alert_id, 0, s.values["value_hash"], s) for s in begins]
    entries += [(s.jd, s.alert_id, 1, s.values["value_hash"], s) for s in own]
    entries += [(jd, alert_id, 2, 0, None) for jd, alert_id in shown]
    last: Sighting | None = None
    runs: list[Sighting] = []
    for jd, alert_id, kind, _, sighting in sorted(entries, key=lambda entry: entry[:4]):
        if kind == 0:
            last = sighting
        showed = sighting or last
        if showed is None or alert_id in gone:
            continue
        if not runs or runs[-1].values["value_hash"] != showed.values["value_hash"]:
            runs.append(Sighting(jd, alert_id, showed.values))
    first = _first_own([*begins, *own], gone)
    return [run._replace(own=first.get(run.values["value_hash"])) for run in runs]


def _first_own(sightings: Iterable[Sighting], gone: frozenset[int]) -> dict[int, Any]:
    """Return what the first alert said that showed some values, by their hash."""
    first: dict[int, Sighting] = {}
    for sighting in sightings:
        before = first.setdefault(sighting.values["value_hash"], sighting)
        if sighting[:2] < before[:2] or (sighting[:2] == before[:2] and before.own is None):
            first[sighting.values["value_hash"]] = sighting
    return {hash_: None if s.alert_id in gone else s.own for hash_, s in first.items()}


def revisions(runs: Sequence[Sighting]) -> list[Sighting]:
    """Return those of `runs` that are revisions: they differ enough from the one then current."""
    kept = list(runs[:1])
    for run in runs[1:]:
        if _differs(kept[-1].values, run.values):
            kept.append(run)
    return kept


def _differs(a: Values, b: Values) -> bool:
    """Say whether two values of one datapoint differ by `TOLERANCE` or more."""
    if a["kind"] != "forced":
        return _apart(a, b, "mag", "magerr", "limit_mag") or a["sign"] != b["sign"]
    if a["flux"] is None or b["flux"] is None:
        return (a["flux"] is None) != (b["flux"] is None) or _apart(a, b, "zp")
    # A flux near zero or negative has no magnitude: compare it on the scale of its error.
    scale = max(abs(a["flux"]), a["fluxerr"] or 0.0) * (TOLERANCE * 0.4 * math.log(10.0))
    far = any(
        a[name] is not None and b[name] is not None and not abs(a[name] - b[name]) < scale
        for name in ("flux", "fluxerr")
    )
    return far or _apart(a, b, "zp")


def _apart(a: Values, b: Values, *names: str) -> bool:
    pairs = [(a[name], b[name]) for name in names]
    return any(
        (x is None) != (y is None) or (x is not None and not abs(x - y) < TOLERANCE)
        for x, y in pairs
    )
