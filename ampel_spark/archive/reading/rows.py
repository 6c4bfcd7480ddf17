"""Packets and other rows of the ingest, as objects, and batches of them.

To the lake an object in a photometry table is what a packet is: a row of
`builder.packet_schema`. So accounts, revisions and tiers take it as it comes.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from ampel_spark.archive.reading import ztf
from ampel_spark.archive.reading.builder import (
    UNFORESEEN,
    columns_of_points,
    packet_schema,
    table_of,
)
from ampel_spark.archive.reading.files import Digest
from ampel_spark.archive.reading.own import NONE, OWN, OwnTypes, own_array
from ampel_spark.archive.reading.values import POSITIONS, printable

__all__ = ["Packet", "bad_row", "batch_of", "broken_row", "end_row", "entry_row", "packet_of",
           "point"]  # fmt: skip

T = TypeVar("T")
Point = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Packet:
    """What is kept of one object of a table, or of one alert.

    Attributes
    ----------
    file, member : str
        Where it comes from.
    survey, name : str
    stock, alert_id, programid : int
    jd : float
        Time of the alert [d].
    ra, dec : float or None
        Position [deg, ICRS].
    points, forced : list of tuple
        Datapoints in the order of `ztf.POINT_COLUMNS`: detections and upper
        limits, and forced measurements.
    schema_version : str or None
    own : str or None
        What the survey says beside the columns of the alerts table [JSON].
    extra : str or None
        Scalars that the survey's schema does not have [JSON].
    candidate : mapping
        Values of further columns of the alerts table.
    own_columns : mapping
        Values of the columns that the survey declares for its alerts (`surveys.OwnColumns`); what
        is absent is null.
    point_columns, forced_columns : sequence of mapping
        The same for its points: one mapping for each of `points` and of `forced`, or none at all.
    data : bytes, optional
        What it was read from, which is hashed where the packet cannot be taken.
    """

    file: str
    member: str
    survey: str
    name: str
    stock: int
    alert_id: int
    programid: int
    jd: float
    ra: float | None
    dec: float | None
    points: list[Point]
    forced: list[Point]
    schema_version: str | None = None
    own: str | None = None
    extra: str | None = None
    candidate: Mapping[str, Any] = field(default_factory=dict)
    own_columns: Mapping[str, Any] = field(default_factory=dict)
    point_columns: Sequence[Mapping[str, Any]] = ()
    forced_columns: Sequence[Mapping[str, Any]] = ()
    data: bytes | None = field(default=None, repr=False)


def packet_of(
    shaped: ztf.Shaped, file: str, member: str, survey: str, data: bytes | None = None
) -> Packet:
    """Return a packet of ZTF that was shaped by itself.

    Parameters
    ----------
    shaped : Shaped
    file, member : str
        Where it comes from.
    survey : str
        What the tables call the survey.
    data : bytes, optional
        What it was read from.
    """
    body = shaped.candidate
    return Packet(
        file=file,
        member=member,
        survey=survey,
        name=shaped.name,
        stock=shaped.stock,
        alert_id=body["candid"],
        programid=body["programid"],
        jd=body["jd"],
        ra=body["ra"],
        dec=body["dec"],
        points=shaped.points,
        forced=shaped.forced,
        schema_version=shaped.schema_version,
        extra=shaped.extra,
        candidate=body,
        own_columns=shaped.own_columns,
        point_columns=shaped.point_columns,
        forced_columns=shaped.forced_columns,
        data=data,
    )


def point(
    datapoint_id: int,
    kind: str,
    jd: float,
    band: str | None,
    *,
    mag: float | None = None,
    magerr: float | None = None,
    limit: float | None = None,
    sign: int | None = None,
    flux: float | None = None,
    fluxerr: float | None = None,
    zp: float | None = None,
    zpsys: str = "ab",
    programid: int = 1,
    survey_field: int | None = None,
    rcid: int | None = None,
    ra: float | None = None,
    dec: float | None = None,
    status: str | None = None,
) -> Point:
    """Return a point in the order of `ztf.POINT_COLUMNS`."""
    values = (mag, magerr, limit, sign, flux, fluxerr, zp)
    place = (programid, survey_field, rcid, None, ra, dec)
    # the hash of the values is made column by column
    return (datapoint_id, kind, jd, band, *values, zpsys, *place, status, None)


def bad_row(file: str, member: str, data: bytes, reason: str, detail: str) -> dict[str, Any]:
    """Return the row of a member that cannot be taken."""
    return {
        "row": "bad",
        "file": file,
        "member": member,
        "sha256": hashlib.sha256(data).hexdigest(),
        "reason": reason,
        "detail": printable(detail)[:500],
    }


def entry_row(
    file: str, member: str, data: bytes, faults: Sequence[str], nulls: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the row that says what of a stored packet was left out.

    It is a row more beside the packet's own, and in no count of packets.

    Parameters
    ----------
    file, member : str
    data : bytes
    faults : sequence of str
        Entries of its history that were left out, each with why.
    nulls : sequence of str
        Values of the survey's own columns that are null instead, each with why.
    """
    said = []
    if faults:
        entries = "1 entry" if len(faults) == 1 else f"{len(faults)} entries"
        said.append(f"{entries} of its history left out: {'; '.join(faults)}")
    if nulls:
        values = "1 value" if len(nulls) == 1 else f"{len(nulls)} values"
        said.append(f"{values} left out: {'; '.join(nulls)}")
    detail = "; ".join(said)
    return bad_row(file, member, data, "bad_entry", detail) | {"row": "entry"}


def broken_row(file: str, sha256: str, reason: str, detail: str) -> dict[str, Any]:
    """Return the row of a file that cannot be read, or not to its end."""
    return {"row": "broken", "file": file, "sha256": sha256, "reason": reason,
            "detail": detail[:500]}  # fmt: skip


def end_row(file: str, digest: Digest, seen: int) -> dict[str, Any]:
    """Return the row that ends a file: how many members were seen, and of which bytes."""
    return {"row": "end", "file": file, "sha256": digest.hexdigest(), "seen": seen,
            "bytes": digest.size, "detail": digest.aside}  # fmt: skip


def batch_of(
    packets: Sequence[Packet],
    others: Sequence[Mapping[str, Any]],
    tables: Sequence[pa.Table] = (),
    own: OwnTypes = NONE,
    night_starts: float = 0.0,
) -> pa.RecordBatch:
    """Return packets, and rows of other kinds, as a batch of `builder.packet_schema`.

    A packet that has a value which its column cannot hold becomes a row of its own, which names
    field and value; the others stay.

    Parameters
    ----------
    packets : sequence of Packet
    others : sequence of mapping
        Rows that are no packets, see `bad_row` and its neighbours.
    tables : sequence of Table
        Rows of further packets, which come first; see `builder.table_of`.
    own : OwnTypes, optional
        What the survey declares.
    night_starts : float, optional
        Hour at which a night's date begins [h]; default 0.
    """
    schema = packet_schema(own)
    made, left_out = _fitting(packets, functools.partial(_packets, own, night_starts))
    bad = [
        bad_row(p.file, p.member, repr(p).encode() if p.data is None else p.data, "bad_value",
                str(error))
        for p, error in left_out
    ]  # fmt: skip
    # Whoever is left out as a whole has no entries left out.
    gone = {(packet.file, packet.member) for packet, _ in left_out}
    stay = [r for r in others if r["row"] != "entry" or (r["file"], r["member"]) not in gone]
    rows = pa.Table.from_pylist([*bad, *stay], schema=schema)
    batches = pa.concat_tables([*tables, *made, rows]).combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema)


def _fitting(
    items: Sequence[T], make: Callable[[Sequence[T]], pa.Table]
) -> tuple[list[pa.Table], list[tuple[T, Exception]]]:
    """Return tables of `items`, in order, and the items that do not fit a table, each with why."""
    try:
        return [make(items)], []
    except UNFORESEEN as error:
        if len(items) <= 1:
            return [], [(item, error) for item in items]
    half = len(items) // 2
    first, second = _fitting(items[:half], make), _fitting(items[half:], make)
    return [*first[0], *second[0]], [*first[1], *second[1]]


def _packets(own: OwnTypes, night_starts: float, packets: Sequence[Packet]) -> pa.Table:
    if not packets:
        return packet_schema(own).empty_table()
    for p in packets:
        _check_place(p)
    names = ("file", "member", "survey", "name", "stock", "alert_id", "programid", "jd", "ra",
             "dec", "schema_version", "own", "extra")  # fmt: skip
    made = {c.name: [p.candidate.get(c.name) for p in packets] for c in ztf.candidate_columns()}
    made |= {name: [getattr(p, name) for p in packets] for name in names}
    if own.alerts is not None:
        made[OWN] = own_array([p.own_columns for p in packets], own.alerts)
    points = columns_of_points(
        [p.points for p in packets], [p.point_columns for p in packets], own.points
    )
    forced = columns_of_points(
        [p.forced for p in packets], [p.forced_columns for p in packets], own.points
    )
    return table_of(made, points, forced, own, night_starts)


def _check_place(packet: Packet) -> None:
    """Raise ValueError where a packet is not on the sky, or at no time."""
    for name, (low, high) in POSITIONS.items():
        value = getattr(packet, name)
        if value is not None and not math.isnan(value) and not low <= value <= high:
            raise ValueError(f"{name} {value} is outside {low} to {high}")
    if not math.isfinite(packet.jd):
        raise ValueError(f"jd is {packet.jd}")
