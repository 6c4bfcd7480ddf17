"""Avro packets decoded column by column, in compiled code.

A packet is an Avro container with its schema before it. A schema is made into a program, a list of
steps: read a number, take one branch of a union, go round an array. One compiled loop runs the
program over the bytes of many packets and puts the fields that are asked for into columns, without
an object per field. What it cannot read, for whatever reason, it leaves to fastavro, which says so.

Avro 1.12 specification: https://avro.apache.org/docs/1.12.0/specification/
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import fastavro
import numpy as np
import numpy.typing as npt

from ampel_spark.bounds import most_unpacked
from ampel_spark.compiled import compiled, entry_point

__all__ = ["ZTF", "Asked", "Decoded", "Field", "Program", "blocks_of", "decode", "payload_of",
           "program_of", "snappy_length"]  # fmt: skip

Array = npt.NDArray[Any]

# Steps of a program.
_INT, _FLOAT, _DOUBLE, _BYTES, _BOOL, _FIXED, _UNION, _JUMP, _LOOP, _AGAIN, _END = range(11)
_SCALARS = {"int": _INT, "long": _INT, "float": _FLOAT, "double": _DOUBLE, "string": _BYTES,
            "bytes": _BYTES, "boolean": _BOOL, "enum": _INT}  # fmt: skip

#: What a value turned out to be; 0 is null, or a field that the schema lacks.
INTEGER, REAL, TEXT, TRUTH = 1, 2, 3, 4

_DEPTH = 16  # arrays within arrays


@dataclass(frozen=True)
class Asked:
    """Which fields of packets are asked for.

    Attributes
    ----------
    lists : tuple of str
        Paths of lists of records: the entries of the first are level 1, and so on.
    records : frozenset of str
        Paths of records, all those around them with them, whose scalars are taken.
    fields : frozenset of str, optional
        Paths of the scalars to take; default: all that stand in the packet, in these records and in
        the entries of these lists.
    whole : frozenset of str, optional
        Records (empty: the packet) all of whose scalars are taken beside `fields`.
    """

    lists: tuple[str, ...]
    records: frozenset[str]
    fields: frozenset[str] | None = None
    whole: frozenset[str] = frozenset()

    def takes(self, path: str) -> bool:
        """Say whether a scalar at a path is taken."""
        if self.fields is None or path in self.fields:
            return True
        return path.rpartition(".")[0] in self.whole

    def level(self, path: str) -> int:
        """Return the level of a list; -1 for one that is not asked for."""
        return self.lists.index(path) + 1 if path in self.lists else -1


#: What is asked of ZTF's packets.
ZTF = Asked(("prv_candidates", "fp_hists"), frozenset({"candidate"}))


class Field(NamedTuple):
    """A field that is asked for: the list it is in (0: the packet itself) and its column there."""

    level: int
    column: int


@dataclass(frozen=True)
class Program:
    """A schema, as steps.

    Attributes
    ----------
    steps : ndarray of int64 with shape (N, 5)
        Kind, two operands, level and column (-1: not asked for).
    branches : ndarray of int64
        Where the branches of unions begin.
    fields : mapping of str to Field
        By path: ``objectId``, ``candidate.jd``, ``prv_candidates.jd``.
    widths : tuple of int
        Columns of each level.
    codec : str
        How the blocks of its packets are packed.
    odd : frozenset of str
        Paths among these where something else than a scalar may stand, which shows as null.
    """

    steps: Array
    branches: Array
    fields: Mapping[str, Field]
    widths: tuple[int, ...]
    codec: str
    odd: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Decoded:
    """Columns of the packets of one program.

    Attributes
    ----------
    good : ndarray of bool with shape (packets,)
        Read to the last byte; others have rows of nulls.
    counts : ndarray of int64 with shape (levels, packets)
        Rows of each level per packet.
    kinds, numbers, lengths : list of ndarray with shape (columns, rows)
        By level: what each value is, its number (bits of a float64 where it is real, the place of
        its first byte where it is text), and the length of its text.
    buffer : bytes
        What the places of text refer to.
    fields : mapping of str to Field
    odd : frozenset of str
        As those of the program.
    """

    good: Array
    counts: Array
    kinds: list[Array]
    numbers: list[Array]
    lengths: list[Array]
    buffer: bytes
    fields: Mapping[str, Field]
    odd: frozenset[str] = frozenset()

    def rows(self, level: int) -> int:
        """Return how many rows a level has."""
        return self.kinds[level].shape[1]

    def kind(self, path: str, level: int) -> Array:
        """Return what each value of a field is."""
        field = self.fields.get(path)
        if field is None:
            return np.zeros(self.rows(level), np.uint8)
        return self.kinds[field.level][field.column]

    def integers(self, path: str, level: int) -> Array:
        """Return a field as integers; 0 where it is none."""
        field = self.fields.get(path)
        if field is None:
            return np.zeros(self.rows(level), np.int64)
        numbers = self.numbers[field.level][field.column]
        return np.where(self.kind(path, level) == INTEGER, numbers, 0)

    def reals(self, path: str, level: int) -> Array:
        """Return a field as floats; NaN where it is null."""
        field = self.fields.get(path)
        if field is None:
            return np.full(self.rows(level), np.nan)
        numbers = self.numbers[field.level][field.column]
        kind = self.kinds[field.level][field.column]
        out = np.where(kind == REAL, numbers.view(np.float64), np.nan)
        return np.where(kind == INTEGER, numbers, out)

    def texts(self, path: str, level: int, errors: str = "strict") -> list[str | None]:
        """Return a field as strings; None where it is null.

        Raises
        ------
        UnicodeDecodeError
            If one is no UTF-8, and `errors` is strict.
        """
        field = self.fields.get(path)
        if field is None:
            return [None] * self.rows(level)
        starts = self.numbers[field.level][field.column].tolist()
        lengths = self.lengths[field.level][field.column].tolist()
        kinds = self.kinds[field.level][field.column].tolist()
        return [
            self.buffer[s : s + n].decode("utf-8", errors) if k == TEXT else None
            for s, n, k in zip(starts, lengths, kinds, strict=True)
        ]


def payload_of(data: bytes, asked: Asked = ZTF) -> tuple[Program, bytes | memoryview] | None:
    """Return the program and the bytes of the one packet in a container.

    None where this is anything else than one packet in one whole block, of a known codec.
    """
    header = _header(data, asked)
    if header is None:
        return None
    program, start = header
    sync = data[start - 16 : start]
    try:
        count, at = _varint(data, start)
        size, at = _varint(data, at)
    except (IndexError, ValueError):
        return None
    if count != 1 or size < 0 or len(data) != at + size + 16 or data[at + size :] != sync:
        return None
    payload = memoryview(data)[at : at + size]  # of 70 kB, most of them cutouts
    try:
        if program.codec == "deflate":
            inflate = zlib.decompressobj(-15)
            raw = inflate.decompress(payload, most_unpacked("packet", 0))
            return (program, raw) if inflate.eof else None
        if program.codec == "snappy":
            import cramjam

            if snappy_length(payload) > most_unpacked("packet", 0):
                return None
            raw = bytes(cramjam.snappy.decompress_raw(bytes(payload[:-4])))
            if zlib.crc32(raw) != int.from_bytes(payload[-4:], "big"):
                return None
            return program, raw
    except (zlib.error, ValueError, OSError):
        return None
    except Exception as error:  # cramjam's own kind of error has no public name
        if type(error).__name__ != "DecompressionError":
            raise
        return None
    return program, payload


# The newest header seen, without its sync marker: nearly every packet of a file has the same.
_LAST: list[tuple[bytes, Asked, Program]] = []


def _header(data: bytes, asked: Asked) -> tuple[Program, int] | None:
    for head, known, program in _LAST:
        if known is asked and data.startswith(head) and len(data) >= len(head) + 18:
            return program, len(head) + 16
    try:
        meta, end = _metadata(data)
        made = program_of(meta["avro.schema"], meta.get("avro.codec", "null"), asked)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError):
        return None  # fastavro will say what is wrong with it
    if made is None or len(data) < end + 18:
        return None
    _LAST.insert(0, (data[:end], asked, made))
    del _LAST[8:]
    return made, end + 16


def blocks_of(data: bytes) -> Iterator[tuple[str, int, memoryview]]:
    """Yield the codec, the number of records and the packed bytes of the blocks of a container.

    Raises
    ------
    IndexError, ValueError
        Where it ends early or is damaged.
    """
    meta, at = _metadata(data, "replace")
    at += 16
    while at < len(data):
        count, at = _varint(data, at)
        size, at = _varint(data, at)
        if size < 0:
            raise ValueError("a negative length")
        yield meta.get("avro.codec", "null"), count, memoryview(data)[at : at + size]
        at += size + 16


def _metadata(data: bytes, errors: str = "strict") -> tuple[dict[str, str], int]:
    """Return the metadata of a container, and where the sync marker begins."""
    if data[:4] != b"Obj\x01":
        raise ValueError("no Avro container")
    meta: dict[str, str] = {}
    at = 4
    while True:
        count, at = _varint(data, at)
        if count == 0:
            return meta, at
        if count < 0:
            count = -count
            _, at = _varint(data, at)
        for _ in range(count):
            pair = []
            for _ in range(2):
                size, at = _varint(data, at)
                if size < 0 or at + size > len(data):
                    raise ValueError("a length beyond the end")
                pair.append(data[at : at + size].decode(errors=errors))
                at += size
            meta[pair[0]] = pair[1]


def snappy_length(payload: memoryview) -> int:
    """Return the length that a block of snappy says it has, unpacked; 0 where it says nothing."""
    length = 0
    for i, byte in enumerate(payload[:6]):
        length |= (byte & 127) << (7 * i)
        if byte < 128:
            return length
    return 0


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at] if at < len(data) else _over()
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _over() -> int:
    raise IndexError("the end")


@functools.lru_cache(maxsize=64)
def program_of(schema: str, codec: str = "null", asked: Asked = ZTF) -> Program | None:
    """Make a packet's schema into a program; None where it cannot be (it is recursive, say)."""
    if codec not in ("null", "deflate", "snappy"):
        return None
    compiler = _Compiler(asked)
    parsed = json.loads(schema)
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        return None
    try:
        compiler.step(parsed, "", 0, ())
    except NotImplementedError:
        return None
    compiler.add(_END)
    made = Program(
        np.array(compiler.steps, np.int64).reshape(-1, 5),
        np.array([*compiler.branches, 0], np.int64),
        compiler.fields,
        tuple(compiler.widths),
        codec,
        frozenset(compiler.odd),
    )
    # Schemas that differ in words alone are one program, and their packets go together.
    content = (made.steps.tobytes(), made.branches.tobytes(), tuple(made.fields.items()), codec)
    return _PROGRAMS.setdefault((*content, made.odd, asked), made)


_PROGRAMS: dict[tuple[Any, ...], Program] = {}


class _Compiler:
    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.steps: list[list[int]] = []
        self.branches: list[int] = []
        self.fields: dict[str, Field] = {}
        self.widths = [0] * (len(asked.lists) + 1)
        self.named: dict[str, Any] = {}
        self.odd: set[str] = set()

    def add(self, kind: int, a: int = 0, b: int = 0, level: int = 0, column: int = -1) -> int:
        self.steps.append([kind, a, b, level, column])
        return len(self.steps) - 1

    def column(self, path: str, level: int) -> int:
        """Return the column of a path; -1 for one that is not asked for."""
        if level < 0:
            return -1
        if path not in self.fields:
            self.fields[path] = Field(level, self.widths[level])
            self.widths[level] += 1
        if self.fields[path].level != level:
            raise NotImplementedError("a list or a scalar in one place")
        return self.fields[path].column

    def step(self, schema: Any, path: str, level: int, within: tuple[str, ...]) -> None:
        """Add the steps of a schema at `path`; `level` is -1 for what is passed over."""
        if isinstance(schema, list):
            return self._union(schema, path, level, within)
        if isinstance(schema, str) and schema in self.named:
            schema = self.named[schema]
        kind = schema if isinstance(schema, str) else schema.get("type")
        if isinstance(kind, dict | list):
            return self.step(kind, path, level, within)
        if kind == "null":
            return None
        name = "" if isinstance(schema, str) else str(schema.get("name", ""))
        if name and not isinstance(schema, str):
            space = schema.get("namespace")
            for known in {name, name.rpartition(".")[2], f"{space}.{name}"}:
                self.named[known] = schema
        if level >= 0 and path and kind not in _SCALARS:
            is_list = level == 0 and kind == "array" and path in self.asked.lists
            is_body = kind == "record" and self._is_body(path, level)
            if not (is_list or is_body):
                self.odd.add(path)
        if kind == "record":
            return self._record(schema, path, level, within, name)
        if kind in ("array", "map"):
            return self._list(schema, kind, path, level, within)
        if kind == "fixed":
            self.add(_FIXED, max(0, int(schema["size"])))
        elif kind in _SCALARS:
            if not self.asked.takes(path):
                level = -1
            if kind == "enum" and level >= 0:
                raise NotImplementedError("an enum among the scalars")
            # What fastavro makes of a logical type is no plain number or text.
            logical = schema.get("logicalType") if isinstance(schema, dict) else None
            is_made = f"{kind}-{logical}" in fastavro.read.LOGICAL_READERS
            is_scalar = kind != "bytes" and not is_made
            if level >= 0 and not is_scalar:
                self.odd.add(path)
            column = self.column(path, level) if is_scalar else -1
            self.add(_SCALARS[kind], 0, 0, max(level, 0), column)
        else:
            raise NotImplementedError(kind)
        return None

    def _record(
        self, schema: Any, path: str, level: int, within: tuple[str, ...], name: str
    ) -> None:
        if name in within or len(within) > _DEPTH:
            raise NotImplementedError("a record within itself")
        if path in self.asked.lists and level == 0:
            raise NotImplementedError("a record in the place of a list")
        for field in schema["fields"]:
            inner, below = field["name"], level
            if path and not self._is_body(path, level):
                below = -1
            elif path:
                inner = f"{path}.{inner}"
            self.step(field["type"], inner, below, (*within, name))

    def _is_body(self, path: str, level: int) -> bool:
        """Say whether the scalars of a record at a path are taken."""
        return path in self.asked.records or (level > 0 and path in self.asked.lists)

    def _is_record(self, schema: Any) -> bool:
        if isinstance(schema, str):
            schema = self.named.get(schema)
        return isinstance(schema, dict) and schema.get("type") == "record"

    def _union(self, schema: list[Any], path: str, level: int, within: tuple[str, ...]) -> None:
        if level >= 0 and sum(self._is_record(branch) for branch in schema) > 1:
            raise NotImplementedError("records of two kinds in one place")
        at = self.add(_UNION, len(schema), len(self.branches))
        self.branches.extend([0] * len(schema))
        table = self.steps[at][2]
        ends = []
        for i, branch in enumerate(schema):
            self.branches[table + i] = len(self.steps)
            self.step(branch, path, level, within)
            ends.append(self.add(_JUMP))
        for end in ends:
            self.steps[end][1] = len(self.steps)

    def _list(self, schema: Any, kind: str, path: str, level: int, within: tuple[str, ...]) -> None:
        below = self.asked.level(path) if level == 0 and kind == "array" else -1
        begin = self.add(_LOOP, 0, 0, max(below, 0))
        if kind == "map":
            self.add(_BYTES)
        self.step(schema["items" if kind == "array" else "values"], path, below, within)
        self.add(_AGAIN, begin + 1, 0, max(below, 0))
        self.steps[begin][1] = len(self.steps)


def decode(program: Program, payloads: Sequence[bytes | memoryview]) -> Decoded:
    """Decode packets of one schema.

    Parameters
    ----------
    program : Program
    payloads : sequence of bytes or memoryview
        One packet each, without the container around it.
    """
    n = len(payloads)
    buffer = b"".join(payloads)
    ends = np.cumsum([len(p) for p in payloads], dtype=np.int64)
    data = np.frombuffer(buffer, np.uint8)
    widths = np.array(program.widths, np.int64)
    capacity = 64 * n + 64
    while True:
        # Columns stand one behind the other, those of a level as long as it may have rows.
        sizes = np.full(len(widths), capacity, np.int64)
        sizes[0] = n
        begins = np.concatenate([[0], np.cumsum(widths * sizes)])
        steps = program.steps.copy()
        taken = steps[:, 4] >= 0
        level = steps[taken, 3]
        steps[taken, 4] = begins[level] + steps[taken, 4] * sizes[level]
        kinds = np.zeros(begins[-1], np.uint8)
        numbers = np.zeros(begins[-1], np.int64)
        lengths = np.zeros(begins[-1], np.int32)
        good = np.zeros(n, np.bool_)
        counts = np.zeros((len(widths), n), np.int64)
        if _run(data, ends, steps, program.branches, good, counts, widths, sizes, begins,
                kinds, numbers, lengths):  # fmt: skip
            break
        capacity *= 4
    counts[0] = 1

    def by_level(values: Array) -> list[Array]:
        return [
            values[begin : begin + width * size].reshape(width, size)[:, :used]
            for begin, width, size, used in zip(
                begins.tolist(), widths.tolist(), sizes.tolist(), counts.sum(axis=1).tolist(),
                strict=False,
            )
        ]  # fmt: skip

    return Decoded(
        good,
        counts,
        by_level(kinds),
        by_level(numbers),
        by_level(lengths),
        buffer,
        program.fields,
        program.odd,
    )


@compiled
def _long(data, at, end):  # type: ignore[no-untyped-def]
    """Return a variable-length number and the place behind it; -1 where it does not end."""
    value = np.uint64(0)
    shift = np.uint64(0)
    while at < end and shift < 70:
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & np.uint64(127)) << shift
        if byte < 128:
            sign = -np.int64(value & np.uint64(1))
            return np.int64(value >> np.uint64(1)) ^ sign, at
        shift += np.uint64(7)
    return np.int64(0), np.int64(-1)


@entry_point
def _run(data, ends, steps, branches, good, counts,  # type: ignore[no-untyped-def]
         widths, sizes, begins, kinds, numbers, lengths):  # fmt: skip
    """Run a program over packets; return False where the columns are too short."""
    rows = np.zeros(len(widths), np.int64)
    before = np.zeros(len(widths), np.int64)
    left = np.zeros(_DEPTH + 1, np.int64)
    # The same bytes as different numbers.
    word = np.zeros(8, np.uint8)
    single, wide = word.view(np.float32), word.view(np.int64)
    real = np.zeros(1, np.float64)
    bits = real.view(np.int64)
    start = np.int64(0)
    for packet in range(len(ends)):
        end = ends[packet]
        at = start
        start = end
        rows[0] = packet
        before[:] = rows
        step = 0
        depth = 0
        fine = True
        while True:
            kind = steps[step, 0]
            level = steps[step, 3]
            column = steps[step, 4]
            found = 0
            value = np.int64(0)
            size = np.int64(0)
            if kind == _INT:
                value, at = _long(data, at, end)
                if at < 0:
                    fine = False
                    break
                found = INTEGER
            elif kind == _FLOAT:
                if at + 4 > end:
                    fine = False
                    break
                for i in range(4):
                    word[i] = data[at + i]
                real[0] = single[0]
                value = bits[0]
                at += 4
                found = REAL
            elif kind == _DOUBLE:
                if at + 8 > end:
                    fine = False
                    break
                for i in range(8):
                    word[i] = data[at + i]
                value = wide[0]
                at += 8
                found = REAL
            elif kind == _BYTES:
                size, at = _long(data, at, end)
                if at < 0 or size < 0 or size > end - at:
                    fine = False
                    break
                value = at
                at += size
                found = TEXT
            elif kind == _BOOL:
                if at >= end:
                    fine = False
                    break
                value = np.int64(data[at])
                at += 1
                found = TRUTH
            elif kind == _FIXED:
                at += steps[step, 1]
                if at > end:
                    fine = False
                    break
            elif kind == _UNION:
                branch, at = _long(data, at, end)
                if at < 0 or branch < 0 or branch >= steps[step, 1]:
                    fine = False
                    break
                step = branches[steps[step, 2] + branch]
                continue
            elif kind == _JUMP:
                step = steps[step, 1]
                continue
            elif kind in (_LOOP, _AGAIN):
                if kind == _AGAIN:
                    if level > 0:
                        rows[level] += 1
                    left[depth] -= 1
                    if left[depth] > 0:
                        if level > 0 and rows[level] >= sizes[level]:
                            return False
                        step = steps[step, 1]
                        continue
                    depth -= 1
                count, at = _long(data, at, end)
                if at >= 0 and count < 0:
                    count = -count
                    size, at = _long(data, at, end)
                # An element takes a byte, or there could be no end of them.
                if at < 0 or count < 0 or count > end - at or depth >= _DEPTH:
                    fine = False
                    break
                if count == 0:
                    step = steps[step, 1] if kind == _LOOP else step + 1
                    continue
                if level > 0 and rows[level] >= sizes[level]:
                    return False
                depth += 1
                left[depth] = count
                step = step + 1 if kind == _LOOP else steps[step, 1]
                continue
            else:  # the end
                fine = at == end
                break
            if column >= 0:
                at_row = column + rows[level]
                kinds[at_row] = found
                numbers[at_row] = value
                lengths[at_row] = size
            step += 1
        good[packet] = fine
        if not fine:
            # A row half written must not show under the next packet's.
            for level in range(len(widths)):
                last = min(rows[level] + 1, sizes[level])
                for column in range(widths[level]):
                    begin = begins[level] + column * sizes[level]
                    kinds[begin + before[level] : begin + last] = 0
                if level > 0:
                    rows[level] = before[level]
        for level in range(1, len(widths)):
            counts[level, packet] = rows[level] - before[level]
    return True
