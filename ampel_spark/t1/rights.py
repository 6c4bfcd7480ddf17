"""Values of datapoints as the alerts that data rights let through had shown them.

The table ``datapoints`` has the revisions that all alerts make. Where rights hide an alert that
showed other values, however little, a channel must see neither these nor what they did to the
numbers of revisions: its states are those of a lake that never had the hidden alert. ``sightings``
has all values of such datapoints, so their revisions are made anew from the visible alerts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.archive.sightings import Sighting, history, revisions
from ampel_spark.t1.states import POINT_COLUMNS, hidden_stocks, numbers

__all__ = ["SIGHTING_COLUMNS", "Shown", "as_shown", "revised"]

#: Columns of ``sightings`` that are read.
SIGHTING_COLUMNS = (*(n for n in POINT_COLUMNS if n != "revision"), "value_hash")

_IDENTITY = ("survey", "stock", "datapoint_id")
#: Columns by which revisions are told apart.
_VALUES = [*_IDENTITY, "first_alert_jd", "first_alert_id", "kind", "sign", "mag", "magerr",
           "limit_mag", "flux", "fluxerr", "zp", "value_hash"]  # fmt: skip

_Moment = tuple[float, int]


class Shown(NamedTuple):
    """A revision as rights let it be seen.

    `values` and `own` are rows of the sightings that have its values and what the survey declares,
    `jd` and `alert_id` the first visible alert that showed it.
    """

    values: int
    own: int
    jd: float
    alert_id: int


def as_shown(
    points: pa.Table, sightings: pa.Table | None, alerts: pa.Table, access: frozenset[int]
) -> pa.Table:
    """Return datapoints with the revisions that visible alerts make.

    Parameters
    ----------
    points : Arrow table
        Rows of ``datapoints``: `POINT_COLUMNS`, and further columns of points.
    sightings : Arrow table or None
        Rows of ``sightings``, at least all of objects that have a hidden alert:
        `SIGHTING_COLUMNS`, and the same further columns. None if there is none.
    alerts : Arrow table
        ``survey, stock, jd, alert_id, programid, datapoint_ids, forced_ids``, at least all alerts
        of objects that have a hidden one.
    access : frozenset of int
        The programmes (``programid``) whose data may be seen.

    Returns
    -------
    Arrow table
        The columns of `points`. Datapoints with one set of values are as they were.
    """
    hidden = hidden_stocks(alerts, access)
    if sightings is None or not len(hidden):
        return points
    sightings = sightings.filter(pa.array(np.isin(sightings["stock"].to_numpy(), hidden)))
    if not len(sightings):
        return points
    both = pa.concat_tables([t.select(list(_IDENTITY)) for t in (points, sightings)])
    key = numbers(both, _IDENTITY)
    mine, theirs = key[: len(points)], key[len(points) :]
    visible = pc.is_in(
        alerts["programid"], value_set=pa.array(sorted(access), alerts["programid"].type)
    )
    out_of_sight = frozenset(alerts.filter(pc.invert(visible))["alert_id"].to_pylist())
    moments = _moments(alerts.filter(visible), sightings)
    rows_of = defaultdict(list)
    for row, number in enumerate(theirs.tolist()):
        rows_of[number].append(row)
    values = sightings.select(_VALUES).to_pylist()
    found: list[tuple[int, int, int, float, int]] = []
    for rows in rows_of.values():
        said = [values[row] for row in rows]
        shown = moments[tuple(said[0][name] for name in _IDENTITY)]
        for number, one in enumerate(revised(said, shown, out_of_sight)):
            found.append((rows[one.values], rows[one.own], number, one.jd, one.alert_id))
    unchanged = points.filter(pa.array(~np.isin(mine, theirs)))
    return pa.concat_tables([unchanged, _rows(sightings, points.schema, found)])


def revised(
    sightings: Sequence[Mapping[str, Any]],
    shown: Iterable[tuple[float, int]],
    hidden: frozenset[int],
) -> list[Shown]:
    """Return the revisions of one datapoint that visible alerts make, in their order.

    Parameters
    ----------
    sightings : sequence of mapping
        Rows of ``sightings``, all of this datapoint: `SIGHTING_COLUMNS`.
    shown : iterable of (float, int)
        Time [JD] and id of the visible alerts that show the datapoint.
    hidden : frozenset of int
        Alerts that may not be seen.
    """
    begins = [
        Sighting(row["first_alert_jd"], row["first_alert_id"], {**row, "row": i})
        for i, row in enumerate(sightings)
    ]
    first: dict[int, int] = {}
    for one in sorted(begins, key=lambda s: s[:2]):
        first.setdefault(one.values["value_hash"], one.values["row"])
    return [
        Shown(s.values["row"], first[s.values["value_hash"]], s.jd, s.alert_id)
        for s in revisions(history(begins, shown, (), hidden))
    ]


def _moments(alerts: pa.Table, sightings: pa.Table) -> dict[tuple[Any, ...], list[_Moment]]:
    """Return time and id of the alerts that list a datapoint of `sightings`, by its key."""
    moments: dict[tuple[Any, ...], list[_Moment]] = defaultdict(list)
    mine = set(sightings["datapoint_id"].to_pylist())
    stocks = pc.is_in(alerts["stock"], value_set=pc.unique(sightings["stock"]))
    for alert in alerts.filter(stocks).to_pylist():
        for identity in (*alert["datapoint_ids"], *(alert["forced_ids"] or ())):
            if identity in mine:
                key = alert["survey"], alert["stock"], identity
                moments[key].append((alert["jd"], alert["alert_id"]))
    return moments


def _rows(
    sightings: pa.Table, schema: pa.Schema, found: Sequence[tuple[int, int, int, float, int]]
) -> pa.Table:
    """Return rows of datapoints: values and own columns by row of `sightings`, number, alert."""
    values, own, number, jd, alert_id = zip(*found, strict=True) if found else ((),) * 5
    given: Mapping[str, Sequence[Any]] = {
        "revision": number, "first_alert_jd": jd, "first_alert_id": alert_id
    }  # fmt: skip
    columns = []
    for field in schema:
        if field.name in given:
            columns.append(pa.array(given[field.name], field.type))
        else:
            rows = pa.array(values if field.name in POINT_COLUMNS else own, pa.int64())
            columns.append(sightings[field.name].take(rows).cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)
