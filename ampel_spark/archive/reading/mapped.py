"""Alerts of any survey shaped column by column: what `mapping.Mapper` does for one, for many.

Only packets about which nothing is odd are shaped here; all others, and schemas that this cannot
read, are left to the mapper, the plain twin of this. Both give the same rows, bit for bit.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.archive.ids import named_stock, stock_of
from ampel_spark.archive.reading.avro import INTEGER, REAL, TEXT, TRUTH, Asked, Decoded
from ampel_spark.archive.reading.columns import Shapes, own_rows
from ampel_spark.archive.reading.fields import Odd, PacketRows
from ampel_spark.archive.reading.mapped_points import MappedPoints, PointRows
from ampel_spark.archive.reading.mapping import MADE, utc
from ampel_spark.archive.reading.own import OWN
from ampel_spark.archive.reading.packet_map import FlagRule, PacketSettings, PointList
from ampel_spark.archive.reading.surveys import Survey

__all__ = ["asked_of", "shaped"]

Array = npt.NDArray[Any]
Fragments = list[str | None]


def asked_of(survey: Survey) -> Asked:
    """Return which fields of a survey's packets are asked for.

    Parameters
    ----------
    survey : Survey
        With a section ``packets``.
    """
    spec = _spec(survey)
    fields = _fields(spec, survey)
    lists = _lists(spec)
    around = {*spec.points[0].records, *spec.keep, *(path.rpartition(".")[0] for path in fields)}
    records = {path[:i] for path in around for i in _ends(path)}
    return _asked(
        lists,
        frozenset(records.difference(lists, ("",))),
        frozenset(fields),
        frozenset(("", *spec.keep)),
    )


@functools.lru_cache(maxsize=64)
def _asked(
    lists: tuple[str, ...], records: frozenset[str], fields: frozenset[str], whole: frozenset[str]
) -> Asked:
    return Asked(lists, records, fields, whole)  # one object for each, by which programs are kept


def shaped(decoded: Decoded, survey: Survey) -> Shapes | None:
    """Shape decoded packets; None where their schema is nothing for this.

    Parameters
    ----------
    decoded : Decoded
        With the fields of `asked_of`.
    survey : Survey
        With a section ``packets``.
    """
    try:
        return _shaped(decoded, survey)
    except Odd:
        return None


def _shaped(decoded: Decoded, survey: Survey) -> Shapes:
    spec, columns = _spec(survey), survey.columns
    if spec.format == "iso" or _is_odd(decoded, spec, survey):
        raise Odd
    shapes = Shapes(decoded)
    packets = PacketRows(shapes)
    number = packets.find(spec.id)
    packets.demand((number.kind == INTEGER) & (number.number > 0))
    stock, names, is_body = _objects(packets, spec, survey.label)
    lists = [PointRows(shapes, *_record(decoded, each), spec, each) for each in spec.points]
    if lists[0].level != 0:
        raise Odd
    for i, rows in enumerate(lists):
        rows.measure(is_own=i == 0)
    own = lists[0]
    shapes.made = {
        "alert_id": number.number,
        "stock": stock,
        "name": names,
        "programid": own.programid,
        "schema_version": _version(packets, spec),
        "jd": own.jd,
        "ra": own.place["ra"],
        "dec": own.place["dec"],
        "own": _kept(packets, spec, lists),
    }  # fmt: skip
    there = [x for x in lists if x.level >= 0]
    of_points = own_rows(shapes, columns.points, [(f"{x.record}.", x.level) for x in there])
    points = MappedPoints(shapes, lists, stock, survey.label)
    facts = {
        f"{MADE}.solar_system": is_body,
        f"{MADE}.n_bands": points.n_bands(packets.n),
        f"{MADE}.jd_utc": utc(own.jd) if spec.scale == "tai" else own.jd,
    }
    of_alerts = own_rows(shapes, columns.alerts, [("", 0)], facts)
    if of_alerts is not None:
        shapes.made[OWN] = of_alerts.at(np.arange(packets.n))
    points.put(of_points)
    return shapes


def _spec(survey: Survey) -> PacketSettings:
    if survey.packets is None:
        raise AssertionError("a survey that is read by mapping has a section 'packets'")
    return survey.packets


def _lists(spec: PacketSettings) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for each in spec.points[1:] for path in each.records))


def _ends(path: str) -> list[int]:
    return [*(i for i, letter in enumerate(path) if letter == "."), len(path)]


def _fields(spec: PacketSettings, survey: Survey) -> set[str]:
    """Return the paths of all scalars that are used, from the packet on."""
    fields = {*spec.id, *(spec.version or ())}
    fields.update(path for each in spec.stock for path in (*each.id, *(each.name or ())))
    fields.update(column.source for column in survey.columns.alerts.values())
    for points in spec.points:
        within = {*_paths_of(spec, points), *(c.source for c in survey.columns.points.values())}
        fields.update(path[1:] for path in within if path.startswith("/"))
        fields.update(
            f"{record}.{path}" for record in points.records for path in within if path[0] != "/"
        )
    return fields


def _paths_of(spec: PacketSettings, points: PointList) -> Iterator[str]:
    """Yield the paths of all that is said of a list of points."""
    said = [spec.of(points, key) for key in spec.shared()]
    for found in (*said, points.id, points.where, points.unless):
        for each in found if isinstance(found, tuple) else ():
            yield from each.path if isinstance(each, FlagRule) else (each,)


def _is_odd(decoded: Decoded, spec: PacketSettings, survey: Survey) -> bool:
    """Say whether another thing stands where a scalar or a list is asked for."""
    lists = _lists(spec)
    known = _fields(spec, survey) | set(lists)
    return bool(known & decoded.odd) or not decoded.fields.keys().isdisjoint(lists)


def _record(decoded: Decoded, points: PointList) -> tuple[str, int]:
    """Return path and level of the one record or list of points that packets have."""
    found = {
        (path, field.level)
        for path in points.records
        for name, field in decoded.fields.items()
        if name.startswith(f"{path}.")
    }
    if len(found) > 1:
        raise Odd
    # A list that packets do not have has no rows.
    return found.pop() if found else (points.records[0], -1)


def _objects(
    packets: PacketRows, spec: PacketSettings, label: str
) -> tuple[Array, list[Any], Array]:
    """Return stocks and names of packets, and which are bodies of the solar system."""
    stock = np.zeros(packets.n, np.int64)
    names: list[Any] = [None] * packets.n
    is_body = np.zeros(packets.n, bool)
    free = np.ones(packets.n, bool)
    for each in spec.stock:
        values = packets.find(each.id)
        if each.ids == "integer":
            packets.demand(~free | values.among(INTEGER) & (values.number >= 0))
            mine = free & (values.kind == INTEGER) & (values.number > 0)
            words: Any = values.number.tolist()
        else:
            packets.demand(~free | values.among(TEXT))
            mine = free & (values.kind == TEXT) & (values.length > 0)
            words = packets.texts(values)
        called: Any = words
        if each.name is not None:
            given = packets.find(each.name)
            packets.demand(~mine | given.among(TEXT))
            called = packets.texts(given)
        for i in np.flatnonzero(mine).tolist():
            try:
                stock[i] = _stock(each.ids, words[i], label)
            except ValueError:
                packets.shapes.good[i] = False
            names[i] = str(called[i] or words[i])
        is_body |= mine & each.solar_system
        free &= ~mine
    packets.demand(~free)
    return stock, names, is_body


def _stock(ids: str, word: Any, label: str) -> int:
    if ids == "integer":
        return int(word)
    if word is None:
        raise ValueError("no UTF-8")
    return stock_of(word) if ids == "ztf" else named_stock(label, word)


def _version(packets: PacketRows, spec: PacketSettings) -> list[str | None]:
    if spec.version is None:
        return [None] * packets.n
    values = packets.find(spec.version)
    packets.demand(values.among(TEXT))
    return packets.texts(values)


def _kept(packets: PacketRows, spec: PacketSettings, lists: Sequence[PointRows]) -> list[str]:
    """Return what alerts say beside the columns of the table, as JSON."""
    unusable = np.zeros(packets.n, np.int64)
    for rows in lists:
        unusable += np.bincount(rows.packet[rows.is_lost], minlength=packets.n)
    members = _members(packets, "") | {
        "sources_without_flux": [
            f'"sources_without_flux": {count}' if count else None for count in unusable.tolist()
        ]
    }
    for record in spec.keep:
        packets.demand(~packets.find((record,)).there)  # something else than a record
        inner = _objects_of(_members(packets, f"{record}."), packets.n)
        head = f"{json.dumps(record)}: "
        members[record] = [None if text == "{}" else head + text for text in inner]
    return _objects_of(members, packets.n)


def _members(packets: PacketRows, prefix: str) -> dict[str, Fragments]:
    """Return the scalars of a record as members of a JSON object, by name."""
    fields = packets.shapes.decoded.fields
    return {
        path.removeprefix(prefix): _fragments(packets, path, path.removeprefix(prefix))
        for path, field in fields.items()
        if field.level == 0 and path.startswith(prefix) and "." not in path.removeprefix(prefix)
    }


def _fragments(packets: PacketRows, path: str, name: str) -> Fragments:
    """Return a field of all packets as members of JSON objects; None for what JSON has no word."""
    values = packets.find((path,))
    head = f"{json.dumps(name)}: "
    kinds = set(np.unique(values.kind).tolist())
    found: Array = np.full(packets.n, None, object)
    for kind, words in (
        (INTEGER, lambda: [f"{head}{x}" for x in values.number.tolist()]),
        (REAL, lambda: [
            f"{head}{x!r}" if math.isfinite(x) else None for x in values.reals.tolist()
        ]),
        (TRUTH, lambda: np.where(values.number != 0, f"{head}true", f"{head}false").tolist()),
        (TEXT, lambda: [
            None if x is None else head + json.dumps(x) for x in packets.texts(values)
        ]),
    ):  # fmt: skip
        if kind in kinds:
            mine = values.kind == kind
            made: Array = np.array(words(), object)
            found[mine] = made[mine]
    return found.tolist()


def _objects_of(members: Mapping[str, Fragments], count: int) -> list[str]:
    """Return JSON objects of members, in order of their names."""
    rows = zip(*(members[name] for name in sorted(members)), strict=True)
    made = [f"{{{', '.join(filter(None, row))}}}" for row in rows]
    return made or ["{}"] * count
