"""Avro packets decoded and shaped into Arrow batches: one row per member, good or not.

Nearly all packets are as they should be, and go column by column (`avro`,
`columns`). What is odd in any way goes one by one, through fastavro and
`ztf.shape`, which say what is wrong.

`read_batches` is what runs in Spark's Python workers; it is an ordinary generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampel_spark.archive.reading import ztf
from ampel_spark.archive.reading.avro import Program, decode, payload_of
from ampel_spark.archive.reading.builder import UNFORESEEN, Points, table_of
from ampel_spark.archive.reading.columns import Shapes, shaped
from ampel_spark.archive.reading.files import Broken, Digest, read_members
from ampel_spark.archive.reading.rows import (
    Packet,
    bad_row,
    batch_of,
    broken_row,
    end_row,
    entry_row,
    packet_of,
)
from ampel_spark.archive.reading.values import BadPacket, printable
from ampel_spark.archive.reading.wire import records
from ampel_spark.lake.tasks import ahead

__all__ = ["BATCH_ROWS", "read_batches"]

#: Decode packets one by one, with fastavro: the plain twin, for tests.
PLAIN = False

#: Packets per Arrow batch, and their bytes: they bound memory, not results.
BATCH_ROWS, BATCH_BYTES = 2000, 64 << 20


def read_batches(paths: Iterable[str], schema: str | None = None) -> Iterator[pa.RecordBatch]:
    """Read archive files into batches of `builder.packet_schema`.

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
            rows.append(broken_row(path, digest.hexdigest(), item.reason, item.detail))
            continue
        waiting.append((printable(item.name), item.data))
        size += len(item.data)
        if len(waiting) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield waiting, []
            waiting, size = [], 0
    yield waiting, [*rows, end_row(path, digest, 0)]


def _members(
    path: str, members: list[tuple[str, bytes]], schema: str | None = None
) -> tuple[int, Callable[[list[dict[str, Any]]], pa.RecordBatch]]:
    """Return the number of packets in members, and what makes a batch of them and of other rows."""
    tables: list[pa.Table] = []
    if PLAIN:
        left = list(range(len(members)))
    else:
        tables, left = _at_once(path, members)
    count = len(members) - len(left)
    good: list[Packet] = []
    rows: list[dict[str, Any]] = []
    for i in left:
        name, data = members[i]
        for member, outcome in _decode(name, data, schema):
            count += 1
            if isinstance(outcome, BadPacket):
                rows.append(bad_row(path, member, data, outcome.reason, str(outcome)))
                continue
            good.append(packet_of(outcome, path, member, ztf.SURVEY, data))
            if outcome.faults:
                rows.append(entry_row(path, member, data, outcome.faults))
    return count, lambda others: batch_of(good, [*rows, *others], tables)


def _at_once(path: str, members: list[tuple[str, bytes]]) -> tuple[list[pa.Table], list[int]]:
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
            tables.append(_table(shapes, path, [members[i][0] for i in places]))
        left += [i for i, fine in zip(places, shapes.good.tolist(), strict=True) if not fine]
    return tables, sorted(left)


def _table(shapes: Shapes, path: str, members: list[str]) -> pa.Table:
    """Return the rows of the good ones of packets that were shaped at once."""
    good = shapes.good
    n = len(members)
    made = shapes.made | {"file": [path] * n, "member": members, "survey": [ztf.SURVEY] * n}
    points: Points = shapes.points
    forced: Points = shapes.forced
    if not good.all():
        made = {name: pa.array(values).filter(pa.array(good)) for name, values in made.items()}
        points, forced = _points_of(good, points), _points_of(good, forced)
    return table_of(made, points, forced)


def _points_of(good: npt.NDArray[np.bool_], points: Points) -> Points:
    columns, counts = points
    mask = pa.array(np.repeat(good, counts))
    return {name: values.filter(mask) for name, values in columns.items()}, counts[good]


def _decode(
    name: str, data: bytes, schema: str | None = None
) -> Iterator[tuple[str, ztf.Shaped | BadPacket]]:
    """Yield the packets of a member, nearly always one; names tell later ones apart."""
    for member, record in records(name, data, schema):
        yield member, record if isinstance(record, BadPacket) else _shaped(record)


def _shaped(packet: Any) -> ztf.Shaped | BadPacket:
    if not isinstance(packet, Mapping):
        return BadPacket("wrong_schema", f"the packet is a {type(packet).__name__}, not a record")
    try:
        return ztf.shape(packet)
    except BadPacket as error:
        return error
    except UNFORESEEN as error:
        return BadPacket("bad_value", f"{type(error).__name__}: {error}")
