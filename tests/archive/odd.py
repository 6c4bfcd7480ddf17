"""Odd values and types for fields of packets, and packets of which a field or two hold one."""

from __future__ import annotations

import copy
import io
import itertools
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import fastavro

Body = dict[str, Any]
Path = tuple[Any, ...]

#: Text that stands for bytes that are no UTF-8, of the same length.
BROKEN, BROKEN_BYTES = "~!~", b"~\xff~"

#: Scalars that writers leave where something else belongs.
SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 4, 63, 64, 255, 40000, 2**24 + 1, 2**31 - 1, 2**31, -(2**31),
    -(2**31) - 1, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0.0, -0.0, 1.0, 1.5, -1.0,
    18.5, 20.0, 40.0, 90.0, 90.1, -90.1, 99.0, 360.0, 360.1, 999.0, -99.0, -999.0, -99999.0, 1e9,
    1e-9, 1e30, 1e39, 1e300, -1e300, 5e-324, 2.0**53, 2.0**63, 2458300.5, 2400000.5, 58300.0,
    61002.5, math.nan, math.inf, -math.inf, "", "t", "f", "T", "F", "true", "False", "1", "0",
    "-1", "+1", "1.0", "n", "Y", "-", "null", "nan", "18.5", "1234567890123456789",
    "9999999999999999999", "99999999999999999999", " 7", "x" * 300, "a\0b", "é☃", BROKEN,
    "ZTF18aaaaaab", "ZTF18aaaaaac", "SN2011fe", "r", "g", "Q",
)  # fmt: skip

#: What is no scalar.
NESTED: tuple[Any, ...] = (b"", b"abc", b"\xff\xfe", {"x": 1}, [], [1, 2], [{"x": 1.0}], [None])

#: Fields of packets that are lists.
LISTS = ("prv_candidates", "fp_hists", "prvDiaSources", "prvDiaForcedSources",
         "prvDiaNondetectionLimits")  # fmt: skip

#: Stands for no field at all.
GONE = object()


class Change(NamedTuple):
    """A packet, and where it holds what."""

    packet: Body
    at: tuple[tuple[Path, Any], ...]

    def is_scalar(self) -> bool:
        """Say whether lists and their entries are what they were, or null (see `loosened`)."""
        plain = (value is None or value is GONE or isinstance(value, str | int | float)
                 for _, value in self.at)  # fmt: skip
        return all(plain) and not any(
            path[0] in LISTS and len(path) < 3 and value not in (None, GONE)
            for path, value in self.at
        )


def paths(packet: Body) -> list[Path]:
    """Return where every field of a packet is, those of its records and lists of records, too."""
    found: list[Path] = []
    for name, value in packet.items():
        found.append((name,))
        if isinstance(value, dict):
            found += [(name, key) for key in value]
        for i, entry in enumerate(value if isinstance(value, list) else ()):
            found += [(name, i), *((name, i, key) for key in entry)]
    return found


def changes(packet: Body, values: tuple[Any, ...], seed: int, count: int) -> Iterator[Change]:
    """Yield `count` changes: every field takes every value in turn, one in six a second one."""
    draw = random.Random(seed)
    plan = list(itertools.product(paths(packet), values))
    draw.shuffle(plan)
    for i in range(count):
        at = (plan[i % len(plan)], draw.choice(plan))[: 1 + (draw.random() < 0.17)]
        changed = copy.deepcopy(packet)
        for path, value in at:
            _put(changed, path, value)
        yield Change(changed, at)


def _put(packet: Body, path: Path, value: Any) -> None:
    at: Any = packet
    for step in path[:-1]:
        if not isinstance(at, dict | list) or (isinstance(at, list) and len(at) <= step):
            return  # the other change took it away
        at = at.get(step) if isinstance(at, dict) else at[step]
    if isinstance(at, dict) and value is GONE:
        at.pop(path[-1], None)
    elif isinstance(at, dict) or (isinstance(at, list) and len(at) > path[-1]):
        at[path[-1]] = None if value is GONE else value


#: A union in which any scalar may stand.
ANY = ["null", "boolean", "long", "double", "string"]


def loosened(packet: Body) -> Body:
    """Return an Avro schema of packets like this one in which any scalar may stand anywhere.

    So packets of one schema, which go at once, hold all of these; a field that is missing is null.
    Lists stay lists, of records or null.
    """
    names = itertools.count()

    def of(value: Any) -> Any:
        if isinstance(value, dict):
            fields = [{"name": k, "type": of(v), "default": None} for k, v in value.items()]
            return [*ANY, {"type": "record", "name": f"r{next(names)}", "fields": fields}]
        if isinstance(value, list):
            (*_, record) = of(_joined(value))
            return ["null", {"type": "array", "items": ["null", record]}]
        return ANY

    (*_, record) = of(packet)
    return dict(record)


def _joined(entries: list[Body]) -> Body:
    return {key: value for entry in entries for key, value in entry.items()}


def exact(packet: Body, draw: random.Random) -> Body:
    """Return an Avro schema of this packet alone, whatever it holds."""
    names = itertools.count()

    def of(value: Any) -> Any:
        if isinstance(value, Mapping):
            fields = [{"name": k, "type": of(v)} for k, v in value.items()]
            return {"type": "record", "name": f"r{next(names)}", "fields": fields}
        if isinstance(value, list):
            kinds = [of(entry) for entry in value]
            unlike = [k for i, k in enumerate(kinds) if k not in kinds[:i]]
            return {"type": "array", "items": unlike or "null"}
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31:
            return draw.choice(["int", "long"])
        if isinstance(value, float) and value == float(f"{value:.3g}") and abs(value) < 1e30:
            return draw.choice(["float", "double"])
        kinds_of = {type(None): "null", bool: "boolean", int: "long", float: "double",
                    str: "string", bytes: "bytes"}  # fmt: skip
        kind = kinds_of[type(value)]
        return draw.choice([kind, ["null", kind]]) if kind != "null" else "null"

    return dict(of(packet))


def avro(packet: Body, schema: Any) -> bytes:
    """Return a container of one packet; `BROKEN` is no UTF-8 in it.

    `schema` is as of `loosened` or `exact`, parsed or not.
    """
    stream = io.BytesIO()
    fastavro.writer(stream, schema, [packet], sync_marker=b"0123456789abcdef")
    return stream.getvalue().replace(BROKEN.encode(), BROKEN_BYTES)
