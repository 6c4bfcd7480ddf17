"""What channels may see of objects up to an alert, and what filters in Python say of that.

A filter with a `judge` gets each alert with a light curve. Of ``history: packet`` this holds the
points that the alert's own packet shows, of ``history: archive`` all that the alerts up to it have
shown. Points have the values that were known by then, calibrated where the channel's alerts are,
as states have them (`ampel_spark.t1.states`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ampel_spark.calibration.release import Release
from ampel_spark.lightcurve import LightCurve
from ampel_spark.shipping import unpacked
from ampel_spark.t0.filters import Filter
from ampel_spark.t0.selection import ChannelFilter
from ampel_spark.t0.verdict import Alert, asked
from ampel_spark.t1.assemble import KIND_CODES, batch_of
from ampel_spark.t1.rights import as_shown
from ampel_spark.t1.states import REQUESTS, hidden_stocks, light_curves, visible_points

__all__ = ["ALERT_COLUMNS", "PastsAsked", "judged", "pasts"]

#: Columns of alerts that say who saw which point when.
ALERT_COLUMNS = ("survey", "stock", "jd", "alert_id", "programid", "datapoint_ids", "forced_ids")


@dataclass(frozen=True)
class PastsAsked:
    """A channel whose filter judges in Python, as workers get it.

    Attributes
    ----------
    place : int
        Which one it is of the filters of the scan: its columns end in this number.
    filter : bytes
        The filter (`ampel_spark.classes.packed`).
    packet : bool
        Whether the light curve holds the points of the alert's own packet alone.
    access : frozenset of int or None
        Program ids that the channel may see; None: all.
    release : Release or None
        Calibrates the points.
    """

    place: int
    filter: bytes
    packet: bool
    access: frozenset[int] | None
    release: Release | None

    @classmethod
    def of(cls, place: int, channel: ChannelFilter, packed: bytes) -> PastsAsked:
        """Return what workers get of a channel; `packed` is its filter."""
        release = channel.release if channel.calibrates else None
        return cls(place, packed, channel.history == "packet", channel.access, release)


def judged(
    channels: Sequence[PastsAsked],
    rows: pa.Table,
    points: pa.Table,
    alerts: pa.Table,
    sightings: pa.Table | None = None,
) -> pa.Table:
    """Return rows with what the filters say, in the place of the cut that none of them failed.

    Parameters
    ----------
    channels : sequence of PastsAsked
        The channels.
    rows : Arrow table
        Alerts about which one channel or more is asked: ``_alert`` (a row of ``alerts``), and of
        each channel ``_sees``, ``_cut`` and ``_past`` with its number.
    points : Arrow table
        The datapoints of these objects (`ampel_spark.t1.states.POINT_COLUMNS`), for filters that
        read a history.
    alerts : Arrow table
        The alerts of these objects: `ALERT_COLUMNS`. Those of objects that have no hidden alert are
        not needed.
    sightings : Arrow table, optional
        The sightings of these objects: `ampel_spark.t1.rights.SIGHTING_COLUMNS`.
    """
    for channel in channels:
        alert_filter: Filter = unpacked(channel.filter)
        cut = f"_cut{channel.place}"
        cuts = rows[cut].to_pylist()
        mine = [
            i
            for i, sees in enumerate(rows[f"_sees{channel.place}"].to_pylist())
            if sees and cuts[i] is None
        ]
        whole = rows["_alert"].take(pa.array(mine, pa.int64())).to_pylist()
        history = rows[f"_past{channel.place}"].take(pa.array(mine, pa.int64())).to_pylist()
        curves: Sequence[LightCurve | None] = [None] * len(mine)
        if alert_filter.reads_history:
            tables, release = (points, alerts, sightings), channel.release
            curves = pasts(whole, *tables, channel.packet, channel.access, release)
        for i, values, counts, curve in zip(mine, whole, history, curves, strict=True):
            verdict, _ = asked(alert_filter, Alert({**values, **counts}, curve, alert_filter.own))
            if not verdict.accept:
                cuts[i] = {
                    "cut": verdict.cut,
                    "value": verdict.value,
                    "threshold": verdict.threshold,
                }
        at = rows.schema.get_field_index(cut)
        rows = rows.set_column(at, cut, pa.array(cuts, rows.schema.field(cut).type))
    return rows


def pasts(
    asked: Sequence[Mapping[str, Any]],
    points: pa.Table,
    alerts: pa.Table,
    sightings: pa.Table | None,
    packet: bool,
    access: frozenset[int] | None,
    release: Release | None = None,
) -> list[LightCurve]:
    """Return the light curve of each alert's object up to the alert.

    Parameters
    ----------
    asked : sequence of mapping
        Rows of the table ``alerts``.
    points, alerts, sightings : Arrow table
        As for `judged`; all points of these objects.
    packet : bool
        Whether points of the alert's own packet alone count.
    access : frozenset of int or None
        Program ids that may be seen; None: all.
    release : Release, optional
        The calibration release to apply; by default none.
    """
    if access is None:
        ids = {*points["programid"].to_pylist(), *alerts["programid"].to_pylist()}
        access = frozenset(ids - {None})
    rows = [
        {
            **{name: row[name] for name in ("survey", "stock", "name", "alert_id")},
            "until_jd": row["jd"],
            "until_alert_id": row["alert_id"],
            "request": number,
            "shown": [*row["datapoint_ids"], *(row.get("forced_ids") or ())],
        }
        for number, row in enumerate(asked)
    ]
    wanted = pa.Table.from_pylist(rows, REQUESTS.append(pa.field("shown", pa.list_(pa.int64()))))
    if not packet:
        wanted = wanted.drop_columns(["shown"])
    hidden = hidden_stocks(alerts, access)
    hiding = alerts.filter(pa.array(np.isin(alerts["stock"].to_numpy(), hidden)))
    seen = visible_points(hiding, as_shown(points, sightings, hiding, access), access)
    made = light_curves(wanted, seen, tuple(KIND_CODES), release)
    found = {}
    for batch in made.to_batches():
        for number, curve in zip(batch["request"].to_pylist(), batch_of(batch), strict=True):
            # no state: it has points that the packet does not show, or lacks some
            found[number] = replace(curve, state_id="")
    # An alert of which no point is left, as a release masks them all, has none to show.
    empty = [LightCurve.of(str(row["name"]), row["stock"], jd=[]) for row in asked]
    return [found.get(number, none) for number, none in enumerate(empty)]
