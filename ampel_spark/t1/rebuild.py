"""The light curve of one recorded state, made again from the lake's tables, without Spark.

It is the light curve that units saw: the state's id, a hash over its values, is computed anew and
has to be the recorded one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ampel_spark.calibration.release import Release
from ampel_spark.errors import LakeError
from ampel_spark.lightcurve import POINT_FIELDS, LightCurve
from ampel_spark.t1.assemble import (
    KIND_CODES,
    POINT_TYPES,
    assemble,
    batch_of,
    light_curve_schema,
    own_kind,
)
from ampel_spark.t1.rights import revised
from ampel_spark.t1.states import ALL, LAST_ID

__all__ = ["ALERT_COLUMNS", "POINT_COLUMNS", "rebuild"]

#: Columns of alerts and of datapoints that are read.
ALERT_COLUMNS = ("alert_id", "jd", "programid", "datapoint_ids", "forced_ids")
POINT_COLUMNS = (*POINT_FIELDS, "revision", "first_alert_jd", "first_alert_id")

_Row = Mapping[str, Any]
_Moment = tuple[float, int]


def rebuild(
    state: _Row,
    link: _Row,
    alerts: Sequence[_Row],
    datapoints: Sequence[_Row],
    release: Release | None = None,
    own: Mapping[str, str] | None = None,
    sightings: Sequence[_Row] = (),
) -> LightCurve:
    """Return the light curve of a state.

    Parameters
    ----------
    state : mapping
        Its row of ``states``.
    link : mapping
        A row of ``state_channels`` that asks for it.
    alerts : sequence of mapping
        Alerts of the object that the run read, in the version that `link` names: `ALERT_COLUMNS`.
    datapoints : sequence of mapping
        Datapoints of the object, in the version that `link` names: `POINT_COLUMNS`.
    release : Release, optional
        The calibration release that `link` names; without it points are as issued.
    own : mapping of str to str, optional
        Columns that the survey declares, with their Spark SQL types: `datapoints` have them in a
        mapping under the survey's name.
    sightings : sequence of mapping, optional
        Sightings of the object, in the version that the run read: `SIGHTING_COLUMNS`. A run that
        knew nothing of them is one of older code, and none is given.

    Raises
    ------
    LakeError
        If the light curve is another one than the state's.
    """
    access = frozenset(map(int, link["access"].split(",")))
    kinds = link["points"].split(",")
    until = (
        ALL if link["as_of_jd"] is None else link["as_of_jd"],
        LAST_ID if link["as_of_alert_id"] is None else link["as_of_alert_id"],
    )
    datapoints = _as_shown(alerts, datapoints, sightings, access)
    seen = _first_seen(alerts, datapoints, access)
    more = {name: own_kind(kind) for name, kind in (own or {}).items()}
    points = [
        {**row, **_own(row, state["survey"], more), "kind": KIND_CODES[row["kind"]]}
        for row in datapoints
        if row["kind"] in kinds
        and row["programid"] in access
        and seen.get((row["datapoint_id"], row["revision"]), (math.inf, 0)) <= until
    ]
    points.sort(key=lambda row: (row["datapoint_id"], row["revision"]))
    types = [(name, light_curve_schema(more).field(f"lc_{name}").type.value_type) for name in more]
    kind = pa.struct([("revision", pa.int32()), *POINT_TYPES.items(), *types])
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([0], pa.int64()),
            pa.array([state["survey"]], pa.string()),
            pa.array([state["stock"]], pa.int64()),
            pa.array([state["name"]], pa.string()),
            pa.array([points], pa.list_(kind)),
        ],
        names=["request", "survey", "stock", "name", "points"],
    )
    found = assemble(batch, release, more)
    if found.num_rows != 1 or found["state_id"][0].as_py() != state["state_id"]:
        raise LakeError(
            f"the light curve of state {state['state_id']} ({state['name']}) cannot be made again: "
            f"datapoints version {link['datapoints_version']} and calibration "
            f"{link['calibration']} give another one; was the lake changed by hand?"
        )
    return batch_of(found)[0]


def _own(row: _Row, survey: str, kinds: Mapping[str, str]) -> dict[str, Any]:
    """Return what a survey declares for a point; real numbers and truth values as floats."""
    said = row.get(survey) or {}
    found = {name: said.get(name) for name in kinds}
    return {
        name: float(value) if value is not None and kinds[name] == "f8" else value
        for name, value in found.items()
    }


def _as_shown(
    alerts: Sequence[_Row],
    datapoints: Sequence[_Row],
    sightings: Sequence[_Row],
    access: frozenset[int],
) -> Sequence[_Row]:
    """Return the datapoints with the revisions that visible alerts make.

    The plain twin of `ampel_spark.t1.rights.as_shown`, for one object.
    """
    hidden = frozenset(a["alert_id"] for a in alerts if a["programid"] not in access)
    if not hidden:
        return datapoints
    of: dict[int, list[_Row]] = {}
    for row in sightings:
        of.setdefault(row["datapoint_id"], []).append(row)
    rows = [row for row in datapoints if row["datapoint_id"] not in of]
    for identity, mine in of.items():
        shown = [
            (alert["jd"], alert["alert_id"])
            for alert in alerts
            if alert["programid"] in access
            and identity in (*alert["datapoint_ids"], *(alert["forced_ids"] or ()))
        ]
        for number, one in enumerate(revised(mine, shown, hidden)):
            own, survey = mine[one.own], mine[0]["survey"]
            first = {"first_alert_jd": one.jd, "first_alert_id": one.alert_id}
            rows.append(
                {**mine[one.values], "revision": number, **first}
                | ({survey: own[survey]} if survey in own else {})
            )
    return rows


def _first_seen(
    alerts: Sequence[_Row], datapoints: Sequence[_Row], access: frozenset[int]
) -> dict[tuple[int, int], _Moment]:
    """Return when each revision was first seen: (jd, alert id) of an alert that may be seen.

    The plain twin of `ampel_spark.t1.states.visible_points`, for one object.
    """
    brought = {
        (row["datapoint_id"], row["revision"]): (row["first_alert_jd"], row["first_alert_id"])
        for row in datapoints
    }
    if all(alert["programid"] in access for alert in alerts):
        return brought
    shown: dict[int, list[_Moment]] = {}
    for alert in alerts:
        if alert["programid"] in access:
            for identity in (*alert["datapoint_ids"], *(alert["forced_ids"] or ())):
                shown.setdefault(identity, []).append((alert["jd"], alert["alert_id"]))
    # A revision counts from the first alert that showed it, until the next revision was brought.
    seen = {}
    for identity, revision in brought:
        begin = brought[identity, revision]
        end = brought.get((identity, revision + 1), (math.inf, 0))
        moments = [m for m in shown.get(identity, ()) if begin <= m < end]
        if moments:
            seen[identity, revision] = min(moments)
    return seen
