"""Avro packets decoded and shaped into Arrow batches: one row per member, good or not.

Nearly all packets are as they should be, and go column by column (`avro`,
`columns`). What is odd in any way goes one by one, through fastavro and
`ztf.shape`, which say what is wrong.

`read_batches` is what runs in Spark's Python workers; it is an ordinary generator.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampel_spark.archive.reading import ztf
from ampel_spark.archive.reading.avro import ZTF, Asked, Decoded, Program, decode, payload_of
from ampel_spark.archive.reading.builder import Points, table_of
from ampel_spark.archive.reading.columns import Shapes, shaped
from ampel_spark.archive.reading.files import EMPTY, Broken, Digest, read_members
from ampel_spark.archive.reading.own import NONE, OwnTypes, own_types
from ampel_spark.archive.reading.parquet import Shape, taken, ztf_shape
from ampel_spark.archive.reading.rows import Packet, batch_of, broken_row, end_row
from ampel_spark.archive.reading.surveys import OwnColumns
from ampel_spark.archive.reading.values import printable
from ampel_spark.archive.reading.wire import NO_PACKET, holds_nothing, records
from ampel_spark.lake.tasks import ahead

__all__ = ["BATCH_ROWS", "Route", "read_batches", "read_file"]

#: Decode packets one by one, with fastavro: the plain twin, for tests.
PLAIN = False

#: Packets per Arrow batch, and their bytes: they bound memory, not results.
BATCH_ROWS, BATCH_BYTES = 2000, 64 << 20


@dataclass(frozen=True)
class Route:
    """How the packets of a survey are shaped.

    Attributes
    ----------
    survey : str
        What the tables call it.
    asked : Asked
        The fields that are decoded column by column.
    at_once : callable
        Shapes what was decoded so; None where it cannot.
    one : callable
        Shapes a decoded packet by itself: the plain twin.
    own : OwnTypes
        What the survey declares.
    night_starts : float
        Hour at which a night's date begins [h].
    """

    survey: str
    asked: Asked
    at_once: Callable[[Decoded], Shapes | None]
    one: Shape
    own: OwnTypes = NONE
    night_starts: float = 0.0


def read_batches(
    paths: Iterable[str], schema: str | None = None, columns: OwnColumns | None = None
) -> Iterator[pa.RecordBatch]:
    """Read archive files of ZTF into batches of `builder.packet_schema`.

    Parameters
    ----------
    paths : iterable of str
    schema : str, optional
        Schema [JSON] of packets that do not have theirs with them.
    columns : OwnColumns, optional
        What the survey declares.
    """
    columns = columns or OwnColumns()
    route = Route(
        ztf.SURVEY,
        ZTF,
        functools.partial(shaped, columns=columns),
        functools.partial(ztf_shape, ztf.SURVEY, columns),
        own_types(columns),
    )
    for path in paths:
        yield from read_file(path, route, schema)


def read_file(path: str, route: Route, schema: str | None = None) -> Iterator[pa.RecordBatch]:
    """Read an archive file into batches, see `read_batches`."""
    seen = 0
    for members, rows in ahead(_groups(path)):
        count, make = _members(path, members, schema, route)
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
        if item.name == Path(path).name and holds_nothing(item.data):
            rows.append(broken_row(path, digest.hexdigest(), EMPTY, NO_PACKET))
            continue
        waiting.append((printable(item.name), item.data))
        size += len(item.data)
        if len(waiting) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield waiting, []
            waiting, size = [], 0
    yield waiting, [*rows, end_row(path, digest, 0)]


def _members(
    path: str, members: list[tuple[str, bytes]], schema: str | None, route: Route
) -> tuple[int, Callable[[list[dict[str, Any]]], pa.RecordBatch]]:
    """Return the number of packets in members, and what makes a batch of them and of other rows."""
    tables: list[pa.Table] = []
    if PLAIN:
        left = list(range(len(members)))
    else:
        tables, left = _at_once(path, members, route)
    count = len(members) - len(left)
    good: list[Packet] = []
    rows: list[dict[str, Any]] = []
    for i in left:
        name, data = members[i]
        for member, record in _decode(name, data, schema):
            count += 1
            for item in taken(route.one, record, path, member, data):
                if isinstance(item, Packet):
                    good.append(replace(item, data=data))
                else:
                    rows.append(item)
    return count, lambda others: batch_of(
        good, [*rows, *others], tables, route.own, route.night_starts
    )


def _at_once(
    path: str, members: list[tuple[str, bytes]], route: Route
) -> tuple[list[pa.Table], list[int]]:
    """Decode and shape what is as it should be, column by column; return what is left, by place."""
    groups: dict[int, tuple[Program, list[int], list[bytes | memoryview]]] = {}
    left: list[int] = []
    for i, (_, data) in enumerate(members):
        found = payload_of(data, route.asked)
        if found is None:
            left.append(i)
            continue
        program, payload = found
        _, places, payloads = groups.setdefault(id(program), (program, [], []))
        places.append(i)
        payloads.append(payload)
    tables = []
    for program, places, payloads in groups.values():
        shapes = route.at_once(decode(program, payloads))
        if shapes is None:
            left += places
            continue
        if shapes.good.any():
            tables.append(_table(shapes, path, [members[i][0] for i in places], route))
        left += [i for i, fine in zip(places, shapes.good.tolist(), strict=True) if not fine]
    return tables, sorted(left)


def _table(shapes: Shapes, path: str, members: list[str], route: Route) -> pa.Table:
    """Return the rows of the good ones of packets that were shaped at once."""
    good = shapes.good
    n = len(members)
    made = shapes.made | {"file": [path] * n, "member": members, "survey": [route.survey] * n}
    points: Points = shapes.points
    forced: Points = shapes.forced
    if not good.all():
        made = {name: pa.array(values).filter(pa.array(good)) for name, values in made.items()}
        points, forced = _points_of(good, points), _points_of(good, forced)
    return table_of(made, points, forced, route.own, route.night_starts)


def _points_of(good: npt.NDArray[np.bool_], points: Points) -> Points:
    columns, counts = points
    mask = pa.array(np.repeat(good, counts))
    return {name: values.filter(mask) for name, values in columns.items()}, counts[good]


def _decode(name: str, data: bytes, schema: str | None = None) -> Iterator[tuple[str, Any]]:
    """Yield the packets of a member, nearly always one; names tell later ones apart."""
    yield from records(name, data, schema)
