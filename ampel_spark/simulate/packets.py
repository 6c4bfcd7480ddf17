"""The alert packets of a chunk of objects.

Each detection, upper limit and forced row is encoded once, and the history of a packet joins these
bytes. So a packet shows exactly what was measured in the 30 days before it, and a long history
costs little more than a short one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ampel_spark.simulate import measurements
from ampel_spark.simulate.avro import Column, encode_rows, record, string, varint
from ampel_spark.simulate.lightcurves import peak_magnitudes
from ampel_spark.simulate.names import names_of, stocks
from ampel_spark.simulate.neighbours import neighbour_columns
from ampel_spark.simulate.objects import Sky
from ampel_spark.simulate.photometry import HISTORY, ObservedLight, observe

__all__ = ["OUTCOME", "AlertBodies", "make_packets"]

#: The type of a row with the name and the counts of an object.
OUTCOME = np.dtype(
    [
        ("name", "U12"),
        ("stock", "i8"),
        ("n_epochs", "i4"),
        ("n_detections", "i4"),
        ("n_alerts", "i4"),
        ("jd_first_detection", "f8"),
        ("jd_last_detection", "f8"),
        ("jd_first_alert", "f8"),
        ("jd_last_alert", "f8"),
        ("peak_mag_g", "f8"),
        ("peak_mag_r", "f8"),
    ]
)

_HEAD = string("4.02") + string("ZTF (www.ztf.caltech.edu)")
_SURVEY_BEGAN = 2458200.0


@dataclass(frozen=True, eq=False)
class AlertBodies:
    """Alert packets of a chunk of objects, without their cut-outs.

    Attributes
    ----------
    bodies : list of bytes
        Avro bodies of the packets, up to and without ``cutoutScience``.
    candid, nid : arrays of int
        Id and night of each packet.
    outcomes : array of OUTCOME
        One row for each object.
    """

    bodies: list[bytes]
    candid: NDArray[np.int64]
    nid: NDArray[np.int64]
    outcomes: NDArray[np.void]


def make_packets(objects: NDArray[np.void], sky: Sky) -> AlertBodies:
    """Return the packets of a chunk of objects, observed in a sky."""
    phot = observe(objects, sky)
    outcomes = _outcomes(objects, phot, sky)
    alerts = np.flatnonzero(phot.alert)
    begins = _history_begins(phot, alerts)
    shown = _shown(phot, alerts, begins)
    near = neighbour_columns(objects, sky.seed)

    found = np.flatnonzero(phot.detected & (shown | phot.alert))
    columns = measurements.detections(objects, phot, found, near, sky.seed)
    of_alerts = phot.alert[found]
    own = _encode("candidate", _where(columns, of_alerts), alerts.size)
    items: list[bytes] = [b""] * phot.jd.size
    repeated = found[shown[found]]
    later = measurements.history(_where(columns, shown[found]), phot, repeated)
    _put(items, repeated, _encode("prv_candidates", later, repeated.size))
    missed = np.flatnonzero(~phot.detected & shown)
    limits = measurements.limits(phot, missed, sky.seed)
    _put(items, missed, _encode("prv_candidates", limits, missed.size))
    forced: list[bytes] = [b""] * phot.jd.size
    wanted = np.flatnonzero(shown & objects["forced"][phot.owner])
    rows = measurements.forced(objects, phot, wanted, near, sky.seed)
    _put(forced, wanted, _encode("fp_hists", rows, wanted.size))

    # Forced photometry covers the nights before the alert's night; the history includes this night.
    ends = _night_begins(phot, alerts)
    heads = [_HEAD + string(name) for name in outcomes["name"].tolist()]
    candid = columns["candid"][of_alerts]
    parts = zip(
        phot.owner[alerts].tolist(),
        candid.tolist(),
        own,
        begins.tolist(),
        alerts.tolist(),
        ends.tolist(),
        objects["forced"][phot.owner[alerts]].tolist(),
        strict=True,
    )
    bodies = [
        heads[owner]
        + varint(number)
        + candidate
        + _array(items[begin:alert])
        + (_array(forced[begin:end][::-1]) if with_forced else b"\x00")
        for owner, number, candidate, begin, alert, end, with_forced in parts
    ]
    return AlertBodies(bodies, candid, phot.nid[alerts], outcomes)


def _encode(name: str, columns: dict[str, Column], count: int) -> list[bytes]:
    return encode_rows(record(name), columns, count) if count else []


def _where(columns: dict[str, Column], chosen: NDArray[np.bool_]) -> dict[str, Column]:
    """Return the chosen rows of columns; a column of one value for all rows stays."""
    rows = np.flatnonzero(chosen).tolist()
    return {
        name: value[chosen]
        if isinstance(value, np.ndarray)
        else [value[row] for row in rows]
        if isinstance(value, list)
        else value
        for name, value in columns.items()
    }


def _put(items: list[bytes], rows: NDArray[np.intp], values: list[bytes]) -> None:
    for row, value in zip(rows.tolist(), values, strict=True):
        items[row] = value


def _array(items: list[bytes]) -> bytes:
    """Return an Avro union of null and array: null for no items."""
    if not items:
        return b"\x00"
    return b"\x02" + varint(len(items)) + b"".join(items) + b"\x00"


def _history_begins(phot: ObservedLight, alerts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the first epoch of each alert's history."""
    begins = [
        phot.bounds[owner]
        + np.searchsorted(phot.jd[phot.bounds[owner] : alert], phot.jd[alert] - HISTORY)
        for alert, owner in zip(alerts.tolist(), phot.owner[alerts].tolist(), strict=True)
    ]
    return np.array(begins, np.intp)


def _night_begins(phot: ObservedLight, alerts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the object's first epoch in the night of each alert."""
    epochs = np.arange(phot.jd.size)
    fresh = np.ones(phot.jd.size, bool)
    fresh[1:] = (phot.nid[1:] != phot.nid[:-1]) | (phot.owner[1:] != phot.owner[:-1])
    return np.maximum.accumulate(np.where(fresh, epochs, 0))[alerts]


def _shown(
    phot: ObservedLight, alerts: NDArray[np.intp], begins: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Return which epochs are in the history of at least one alert."""
    depth = np.zeros(phot.jd.size + 1, np.int64)
    np.add.at(depth, begins, 1)
    np.add.at(depth, alerts, -1)
    return np.asarray(np.cumsum(depth[:-1]) > 0)


def _outcomes(objects: NDArray[np.void], phot: ObservedLight, sky: Sky) -> NDArray[np.void]:
    """Return names and counts; the name has the year of the first detection."""
    outcomes = np.zeros(objects.size, OUTCOME)
    count = objects.size
    outcomes["n_epochs"] = np.diff(phot.bounds)
    outcomes["n_detections"] = np.bincount(phot.owner[phot.detected], minlength=count)
    outcomes["n_alerts"] = np.bincount(phot.owner[phot.alert], minlength=count)
    for what, chosen in (("detection", phot.detected), ("alert", phot.alert)):
        rows = np.flatnonzero(chosen)
        first, last = np.full(count, np.nan), np.full(count, np.nan)
        first[phot.owner[rows][::-1]] = phot.jd[rows][::-1]
        last[phot.owner[rows]] = phot.jd[rows]
        outcomes[f"jd_first_{what}"], outcomes[f"jd_last_{what}"] = first, last
    peaks = peak_magnitudes(objects, sky.seed)
    outcomes["peak_mag_g"], outcomes["peak_mag_r"] = peaks[:, 0], peaks[:, 1]
    seen = np.nan_to_num(outcomes["jd_first_detection"], nan=sky.schedule.jd.max(initial=0.0))
    years = _year(np.where(objects["old"], _SURVEY_BEGAN, seen))
    outcomes["name"] = names_of(objects["number"], years)
    outcomes["stock"] = stocks(objects["number"], years)
    return outcomes


def _year(jd: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the years since 2000 of Julian dates (UTC)."""
    days = np.floor(jd - 2440587.5).astype("datetime64[D]")
    return np.asarray(days.astype("datetime64[Y]").astype(np.int64) + 1970 - 2000)
