"""Rows of the ingest made of objects that are no ZTF packets: tables, LSST's alerts, Parquet.

To the lake an object in a photometry table is what a packet is: a row of
`ampel_spark.archive.packets.packet_schema`. So accounts, revisions and tiers take it as it comes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import astropy.units as u
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from astropy_healpix import HEALPix

from ampel_spark.archive.columns import value_hashes
from ampel_spark.archive.files import Digest
from ampel_spark.archive.packets import UNFORESEEN, bad_entries, fitting, packet_schema
from ampel_spark.archive.values import POSITIONS, printable

__all__ = ["Packet", "bad_row", "batch_of", "end_row", "entry_row", "point"]

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
        Datapoints in the order of `ampel_spark.archive.ztf.POINT_COLUMNS`: detections and upper
        limits, and forced measurements.
    schema_version : str or None
    own : str or None
        What the survey says beside the columns of the alerts table [JSON].
    extra : str or None
        Scalars that the survey's schema does not have [JSON].
    candidate : mapping
        Values of further columns of the alerts table.
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
    """Return a point in the order of `ampel_spark.archive.ztf.POINT_COLUMNS`."""
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


def entry_row(file: str, member: str, data: bytes, faults: Sequence[str]) -> dict[str, Any]:
    """Return the row that says which entries of a stored packet's history were left out.

    It is a row more beside the packet's own, and in no count of packets.
    """
    said = bad_entries(faults)
    return bad_row(file, member, data, said.reason, str(said)) | {"row": "entry"}


def end_row(file: str, digest: Digest, seen: int) -> dict[str, Any]:
    """Return the row that ends a file: how many members were seen, and of which bytes."""
    return {"row": "end", "file": file, "sha256": digest.hexdigest(), "seen": seen,
            "bytes": digest.size, "detail": digest.aside}  # fmt: skip


def batch_of(packets: Sequence[Packet], others: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Return packets, and rows of other kinds, as a batch of `packet_schema`.

    A packet that has a value which its column cannot hold becomes a row of its own, which names
    field and value; the others stay.
    """
    schema = packet_schema()
    tables, left_out = fitting(
        packets, lambda some: pa.Table.from_arrays(_columns(some, schema), schema=schema)
    )
    bad = [
        bad_row(packet.file, packet.member, repr(packet).encode(), error.reason, str(error))
        for packet, error in left_out
    ]
    gone = {(packet.file, packet.member) for packet, _ in left_out}
    stay = [r for r in others if r["row"] != "entry" or (r["file"], r["member"]) not in gone]
    tables.append(pa.Table.from_pylist([*bad, *stay], schema=schema))
    batches = pa.concat_tables(tables).combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema)


def _columns(packets: Sequence[Packet], schema: pa.Schema) -> list[pa.Array]:
    n = len(packets)
    for p in packets:
        _check_place(p)
    detected = [[p[2] for p in packet.points if p[0] > 0] for packet in packets]
    position = np.array(
        [[np.nan if v is None else v for v in (p.ra, p.dec)] for p in packets], float
    ).reshape(n, 2)
    made: dict[str, Any] = {
        "row": ["packet"] * n,
        "points": _lists([p.points for p in packets], schema.field("points").type),
        "forced": _lists([p.forced for p in packets], schema.field("forced").type),
        "hpx": _healpix(position),
        "night": _nights(np.array([p.jd for p in packets], float)),
        "datapoint_ids": [[d[0] for d in p.points] for p in packets],
        "datapoint_jds": [[d[2] for d in p.points] for p in packets],
        "datapoint_programids": [[d[12] for d in p.points] for p in packets],
        "forced_ids": [[d[0] for d in p.forced] for p in packets],
        "n_detections": [len(d) for d in detected],
        "n_upper_limits": [len(p.points) - len(d) for p, d in zip(packets, detected, strict=True)],
        "n_forced": [len(p.forced) for p in packets],
        "jd_first": [min(d, default=None) for d in detected],
        "jd_last": [max(d, default=None) for d in detected],
    }
    own = ("file", "member", "survey", "name", "stock", "alert_id", "programid", "jd", "ra", "dec",
           "schema_version", "own", "extra")  # fmt: skip
    made |= {name: [getattr(p, name) for p in packets] for name in own}
    arrays = []
    for f in schema:
        values = made.get(f.name)
        if values is None:
            values = [p.candidate.get(f.name) for p in packets]
        try:
            arrays.append(values if isinstance(values, pa.Array) else pa.array(values, f.type))
        except UNFORESEEN as error:
            raise ValueError(f"field {f.name}: {error}") from None
    return arrays


def _check_place(packet: Packet) -> None:
    """Raise ValueError where a packet is not on the sky, or at no time."""
    for name, (low, high) in POSITIONS.items():
        value = getattr(packet, name)
        if value is not None and not math.isnan(value) and not low <= value <= high:
            raise ValueError(f"{name} {value} is outside {low} to {high}")
    if not math.isfinite(packet.jd):
        raise ValueError(f"jd is {packet.jd}")


def _lists(points: Sequence[Sequence[Point]], kind: pa.ListType) -> pa.ListArray:
    """Return the points of each packet as a list column, made column by column."""
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in points])])
    fields = list(kind.value_type)
    columns = list(zip(*(p for each in points for p in each), strict=True))
    arrays = {}
    for c, f in zip(columns or [()] * len(fields), fields, strict=True):
        try:
            arrays[f.name] = pa.array(c, f.type)
        except UNFORESEEN as error:
            raise ValueError(f"a point's {f.name}: {error}") from None
    arrays["value_hash"] = pa.array(value_hashes(arrays))
    flat = pa.StructArray.from_arrays([arrays[f.name] for f in fields], fields=fields)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat).cast(kind)


def _healpix(position: npt.NDArray[np.float64]) -> list[int | None]:
    there = np.isfinite(position[:, 0]) & np.isfinite(position[:, 1])
    ra, dec = position[there].T
    found = HEALPix(2**29, order="nested").lonlat_to_healpix(ra * u.deg, dec * u.deg)
    numbers = np.zeros(len(position), np.int64)
    numbers[there] = found
    return [int(v) if good else None for v, good in zip(numbers, there, strict=True)]


def _nights(jd: npt.NDArray[np.float64]) -> list[int]:
    days = np.floor(jd - 2440587.5).astype("datetime64[D]")
    return [int(str(day).replace("-", "")) for day in days]
