"""Avro packets decoded and shaped into Arrow batches: one row per member, good or not.

Nearly all packets are as they should be, and go column by column (`ampel_spark.archive.avro`,
`ampel_spark.archive.columns`). What is odd in any way goes one by one, through fastavro and
`ampel_spark.archive.ztf.shape`, which say what is wrong.

`read_batches` is what runs in Spark's Python workers; it is an ordinary generator.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy_healpix import HEALPix

from ampel_spark.archive import ztf
from ampel_spark.archive.avro import Program, decode, payload_of
from ampel_spark.archive.columns import Shapes, shaped, value_hashes
from ampel_spark.archive.files import Broken, Digest, read_members
from ampel_spark.archive.values import printable
from ampel_spark.archive.wire import records
from ampel_spark.lake.parts import arrow_type
from ampel_spark.lake.tasks import ahead

__all__ = ["BATCH_ROWS", "UNFORESEEN", "bad_entries", "packet_schema", "read_batches"]

#: Decode packets one by one, with fastavro: the plain twin, for tests.
PLAIN = False

#: What arithmetic and look-ups raise over a value that no check foresaw: it costs its packet alone.
UNFORESEEN = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
              pa.ArrowException)  # fmt: skip

#: Packets per Arrow batch, and their bytes: they bound memory, not results.
BATCH_ROWS, BATCH_BYTES = 2000, 64 << 20

T = TypeVar("T")

_POINT = pa.struct([(name, arrow_type(kind)) for name, kind in ztf.POINT_COLUMNS])

# One row per member ('packet' or 'bad'); one more, in no count, for a packet from whose history
# entries were left out ('entry'); one 'broken' where a file ended early; one 'end' per file with
# the number of members seen, the bytes read and their SHA-256.
_HEAD = pa.schema(
    [
        ("row", pa.string()),
        ("file", pa.string()),
        ("member", pa.string()),
        ("sha256", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("seen", pa.int64()),
        ("bytes", pa.int64()),
        ("points", pa.list_(_POINT)),
        ("forced", pa.list_(_POINT)),
    ]
)


@functools.cache
def packet_schema() -> pa.Schema:
    """Return the schema of `read_batches`: its own columns, then those of ``alerts`` but three."""
    columns = [
        c for c in ztf.alerts_table().columns if c.name not in ("file", "content_hash", "run_id")
    ]
    return pa.schema([*_HEAD, *(pa.field(c.name, arrow_type(c.type)) for c in columns)])


def read_batches(paths: Iterable[str], schema: str | None = None) -> Iterator[pa.RecordBatch]:
    """Read archive files into batches of `packet_schema`.

    Parameters
    ----------
    paths : iterable of str
    schema : str, optional
        Schema [JSON] of packets that do not have theirs with them.
    """
    for path in paths:
        yield from _read_file(path, schema)


def _read_file(path: str, schema: str | None) -> Iterator[pa.RecordBatch]:
    seen = 0
    for members, rows in ahead(_groups(path)):
        count, make = _members(path, members, schema)
        seen += count
        if rows:
            rows[-1]["seen"] = seen
        yield make(rows)


def _groups(path: str) -> Iterator[tuple[list[tuple[str, bytes]], list[dict[str, Any]]]]:
    """Yield members of a file, as many as make a batch; with the last ones how the file ends."""
    digest = Digest()
    waiting: list[tuple[str, bytes]] = []
    rows: list[dict[str, Any]] = []
    size = 0
    for item in read_members(path, digest):
        if isinstance(item, Broken):
            rows.append({"row": "broken", "sha256": digest.hexdigest(), "reason": item.reason,
                         "detail": item.detail})  # fmt: skip
            continue
        waiting.append((printable(item.name), item.data))
        size += len(item.data)
        if len(waiting) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield waiting, []
            waiting, size = [], 0
    rows.append({"row": "end", "sha256": digest.hexdigest(), "bytes": digest.size,
                 "detail": digest.aside})  # fmt: skip
    yield waiting, rows


def _members(
    path: str, members: list[tuple[str, bytes]], schema: str | None = None
) -> tuple[int, Callable[[list[dict[str, Any]]], pa.RecordBatch]]:
    """Return the number of packets in members, and what makes a batch of them and of other rows."""
    tables: list[pa.Table] = []
    if PLAIN:
        left = list(range(len(members)))
    else:
        tables, left = _at_once(members)
    count = len(members) - len(left)
    good: list[tuple[str, bytes, ztf.Shaped]] = []
    rows: list[dict[str, Any]] = []
    for i in left:
        name, data = members[i]
        for member, outcome in _decode(name, data, schema):
            count += 1
            if isinstance(outcome, ztf.BadPacket):
                rows.append(_bad(member, data, outcome))
                continue
            good.append((member, data, outcome))
            if outcome.faults:
                rows.append(_bad(member, data, bad_entries(outcome.faults), "entry"))
    return count, lambda others: _batch(path, good, [*rows, *others], tables)


def _at_once(members: list[tuple[str, bytes]]) -> tuple[list[pa.Table], list[int]]:
    """Decode and shape what is as it should be, column by column; return what is left, by place."""
    groups: dict[int, tuple[Program, list[int], list[bytes | memoryview]]] = {}
    left: list[int] = []
    for i, (_, data) in enumerate(members):
        found = payload_of(data)
        if found is None:
            left.append(i)
            continue
        program, payload = found
        _, places, payloads = groups.setdefault(id(program), (program, [], []))
        places.append(i)
        payloads.append(payload)
    tables = []
    for program, places, payloads in groups.values():
        shapes = shaped(decode(program, payloads))
        if shapes is None:
            left += places
            continue
        if shapes.good.any():
            names = [members[i][0] for i in places]
            tables.append(_table(shapes, names).filter(pa.array(shapes.good)))
        left += [i for i, fine in zip(places, shapes.good.tolist(), strict=True) if not fine]
    return tables, sorted(left)


def bad_entries(faults: Sequence[str]) -> ztf.BadPacket:
    """Return what is said of the entries of a history that were left out."""
    entries = "1 entry" if len(faults) == 1 else f"{len(faults)} entries"
    return ztf.BadPacket("bad_entry", f"{entries} of its history left out: {'; '.join(faults)}")


def _bad(member: str, data: bytes, error: ztf.BadPacket, row: str = "bad") -> dict[str, Any]:
    return {
        "row": row,
        "member": member,
        "sha256": hashlib.sha256(data).hexdigest(),
        "reason": error.reason,
        "detail": str(error)[:500],
    }


def _decode(
    name: str, data: bytes, schema: str | None = None
) -> Iterator[tuple[str, ztf.Shaped | ztf.BadPacket]]:
    """Yield the packets of a member, nearly always one; names tell later ones apart."""
    for member, record in records(name, data, schema):
        yield member, record if isinstance(record, ztf.BadPacket) else _shaped(record)


def _shaped(packet: Any) -> ztf.Shaped | ztf.BadPacket:
    if not isinstance(packet, Mapping):
        return ztf.BadPacket(
            "wrong_schema", f"the packet is a {type(packet).__name__}, not a record"
        )
    try:
        return ztf.shape(packet)
    except ztf.BadPacket as error:
        return error
    except UNFORESEEN as error:
        return ztf.BadPacket("bad_value", f"{type(error).__name__}: {error}")


def _batch(
    path: str,
    good: list[tuple[str, bytes, ztf.Shaped]],
    rows: list[dict[str, Any]],
    tables: Iterable[pa.Table] = (),
) -> pa.RecordBatch:
    schema = packet_schema()
    made, left_out = fitting(good, lambda some: _columns(some, schema))
    rows = [*(_bad(item[0], item[1], error) for item, error in left_out), *rows]
    # Whoever is left out as a whole has no entries left out.
    gone = {item[0] for item, _ in left_out}
    rows = [row for row in rows if row["row"] != "entry" or row["member"] not in gone]
    parts = [*tables, *(table for table in made if len(table))]
    if rows or not parts:
        parts.append(pa.Table.from_pylist(rows, schema=schema))
    table = pa.concat_tables(parts)
    table = table.set_column(
        schema.get_field_index("file"), "file", pa.array([path] * len(table), pa.string())
    )
    return (
        table.combine_chunks().to_batches()[0]
        if len(table)
        else pa.RecordBatch.from_pylist([], schema=schema)
    )


def fitting(
    items: Sequence[T], make: Callable[[Sequence[T]], pa.Table]
) -> tuple[list[pa.Table], list[tuple[T, ztf.BadPacket]]]:
    """Return tables of `items`, in order, and the items that do not fit a table, each with why.

    Parameters
    ----------
    items : sequence
    make : callable
        Makes one table of some items, or raises one of `UNFORESEEN`.
    """
    try:
        return [make(items)], []
    except UNFORESEEN as error:
        if len(items) <= 1:
            return [], [(item, ztf.BadPacket("bad_value", str(error))) for item in items]
    half = len(items) // 2
    first, second = fitting(items[:half], make), fitting(items[half:], make)
    return [*first[0], *second[0]], [*first[1], *second[1]]


def _columns(good: Sequence[tuple[str, bytes, ztf.Shaped]], schema: pa.Schema) -> pa.Table:
    """Return the rows of packets that were shaped one by one."""
    if not good:
        return schema.empty_table()
    shaped = [item[2] for item in good]
    bodies = [s.candidate for s in shaped]
    detections = [[p[2] for p in s.points if p[0] > 0] for s in shaped]
    made: dict[str, Any] = {
        "name": [s.name for s in shaped],
        "stock": [s.stock for s in shaped],
        "alert_id": [b["candid"] for b in bodies],
        "schema_version": [s.schema_version for s in shaped],
        "n_detections": [len(d) for d in detections],
        "n_upper_limits": [len(s.points) - len(d) for s, d in zip(shaped, detections, strict=True)],
        "n_forced": [len(s.forced) for s in shaped],
        "jd_first": [min(d) for d in detections],
        "jd_last": [max(d) for d in detections],
        "extra": [s.extra for s in shaped],
    }
    for column in ztf.candidate_columns():
        if column.name not in made:
            made[column.name] = [b.get(column.name) for b in bodies]
    points, forced = (
        (_arrays(found), [len(p) for p in found])
        for found in ([s.points for s in shaped], [s.forced for s in shaped])
    )
    return _rows([item[0] for item in good], made, points, forced)


def _table(shapes: Shapes, members: list[str]) -> pa.Table:
    """Return the rows of packets that were shaped at once, of all, whether good or not."""
    made = dict(shapes.made)
    # A place on the sky and a time, where there is none: these rows go.
    for name, kind in (("jd", pa.float64()), ("ra", pa.float64()), ("dec", pa.float64())):
        made[name] = pc.if_else(pa.array(shapes.good), made[name], pa.scalar(0.0, kind))
    return _rows(members, made, shapes.points, shapes.forced)


Points = tuple[Mapping[str, pa.Array], Any]


def _rows(members: list[str], made: dict[str, Any], points: Points, forced: Points) -> pa.Table:
    """Put the rows of packets together: what was made of them, and what follows from it."""
    n = len(members)
    schema = packet_schema()
    jd, ra, dec = (np.asarray(made[k], dtype=float) for k in ("jd", "ra", "dec"))
    shown, counts = points
    made = made | {
        "row": ["packet"] * n,
        "member": members,
        "points": _list(_struct(shown), counts),
        "forced": _list(_struct(forced[0]), forced[1]),
        "survey": [ztf.SURVEY] * n,
        "hpx": _SKY.lonlat_to_healpix(ra * u.deg, dec * u.deg),
        "night": _nights(jd),
        "datapoint_ids": _list(shown["datapoint_id"], counts),
        "datapoint_jds": _list(shown["jd"], counts),
        "datapoint_programids": _list(shown["programid"], counts),
        "forced_ids": _list(forced[0]["datapoint_id"], forced[1]),
    }
    arrays = []
    for field in schema:
        values = [None] * n if field.name in _NULL else made[field.name]
        try:
            if isinstance(values, pa.Array):
                arrays.append(values if values.type == field.type else values.cast(field.type))
            else:
                arrays.append(pa.array(values, field.type))
        except UNFORESEEN as error:
            raise ValueError(f"field {field.name}: {error}") from None
    return pa.Table.from_arrays(arrays, schema=schema)


def _arrays(points: list[list[tuple[Any, ...]]]) -> dict[str, pa.Array]:
    """Turn points per packet into columns: ten times faster than by row."""
    columns = list(zip(*(p for packet in points for p in packet), strict=True)) or [()] * len(
        _POINT
    )
    fields = [_POINT.field(i) for i in range(len(_POINT))]
    return {f.name: pa.array(c, f.type) for c, f in zip(columns, fields, strict=True)}


def _struct(columns: Mapping[str, pa.Array]) -> pa.StructArray:
    fields = [_POINT.field(i) for i in range(len(_POINT))]
    made = {**columns, "value_hash": pa.array(value_hashes(columns))}
    return pa.StructArray.from_arrays([made[f.name] for f in fields], fields=fields)


def _list(values: pa.Array, counts: Any) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


_NULL = frozenset({"file", "sha256", "reason", "detail", "seen", "bytes", "own"})
_SKY = HEALPix(2**29, order="nested")


def _nights(jd: np.ndarray[Any, Any]) -> list[int]:
    days = np.floor(jd - 2440587.5).astype("datetime64[D]")
    return [int(str(day).replace("-", "")) for day in days]
