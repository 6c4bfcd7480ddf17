"""Fields of decoded packets by path: those of the packet, of a record, or of a list's entries."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ampel_spark.archive.reading.avro import INTEGER, REAL, TEXT, TRUTH
from ampel_spark.archive.reading.columns import Shapes
from ampel_spark.archive.reading.packet_map import FlagRule

__all__ = ["Odd", "PacketRows", "Values"]

Array = npt.NDArray[Any]
Paths = tuple[str, ...]


class Odd(Exception):  # noqa: N818 - no error: such packets are shaped one by one
    """Packets of a schema that cannot be read column by column."""


class Values(NamedTuple):
    """A field of some rows, as `avro.Decoded` has it: what each is, its number, its length."""

    kind: Array
    number: Array
    length: Array

    @property
    def there(self) -> Array:
        """Which are not null."""
        return self.kind != 0

    @property
    def reals(self) -> Array:
        """The numbers as floats; NaN where there is none."""
        found = np.where(self.kind == REAL, self.number.view(np.float64), np.nan)
        return np.where(self.kind == INTEGER, self.number, found)

    def among(self, *kinds: int) -> Array:
        """Say which are null or of some kinds."""
        return np.isin(self.kind, (0, *kinds))


class PacketRows:
    """The rows of a record or of a list's entries, in all packets.

    Parameters
    ----------
    shapes : Shapes
    record : str
        Path of the record or of the list; empty for the packets themselves.
    level : int
        0 for records, that of the list else; -1 where packets do not have it.
    """

    def __init__(self, shapes: Shapes, record: str = "", level: int = 0) -> None:
        self.shapes, self.record, self.level = shapes, record, level
        self._prefix = f"{record}." if record else ""
        self._decoded = d = shapes.decoded
        self.n = d.rows(level) if level >= 0 else 0
        counts = d.counts[level] if level >= 0 else np.zeros(d.rows(0), np.int64)
        self.packet = np.repeat(np.arange(d.rows(0)), counts)

    def demand(self, fine: Array) -> None:
        """Leave out packets that have a row which is not fine."""
        if not fine.all():
            self.shapes.good[self.packet[~fine]] = False

    def has(self, paths: Paths) -> bool:
        """Say whether the schema has a field at one of some paths."""
        return any(self._place(path)[0] in self._decoded.fields for path in paths)

    def find(self, paths: Paths) -> Values:
        """Return the first value at some paths, for each row."""
        d = self._decoded
        found = Values(*(np.zeros(self.n, kind) for kind in (np.uint8, np.int64, np.int32)))
        for path in paths:
            place, level = self._place(path)
            field = d.fields.get(place)
            if field is None:
                continue
            if field.level != level:
                raise Odd
            columns = (x[level][field.column] for x in (d.kinds, d.numbers, d.lengths))
            if level != self.level:
                columns = (column[self.packet] for column in columns)
            free = found.kind == 0
            found = Values(*(np.where(free, new, old)
                             for new, old in zip(columns, found, strict=True)))  # fmt: skip
        return found

    def _place(self, path: str) -> tuple[str, int]:
        return (path[1:], 0) if path.startswith("/") else (self._prefix + path, self.level)

    def filled(self) -> Array:
        """Say which rows have any value: others may be no records, but null."""
        d, found = self._decoded, np.zeros(self.n, bool)
        for path, field in d.fields.items():
            if field.level == self.level and path.startswith(self._prefix):
                found |= d.kinds[self.level][field.column] != 0
        return found

    def texts(self, values: Values) -> list[str | None]:
        """Return texts as strings, and None for all else; demand that they are UTF-8."""
        buffer = self._decoded.buffer
        found: list[str | None] = []
        fine = np.ones(self.n, bool)
        for i, (kind, start, size) in enumerate(zip(*(x.tolist() for x in values), strict=True)):
            try:
                found.append(buffer[start : start + size].decode() if kind == TEXT else None)
            except UnicodeDecodeError:
                found.append(None)
                fine[i] = False
        self.demand(fine)
        return found

    def codes(self, values: Values, words: Paths) -> Array:
        """Return the place of each value among words; -1 for none of them."""
        found = np.full(self.n, -1)
        text = values.kind == TEXT
        data = np.frombuffer(self._decoded.buffer, np.uint8)
        for code, word in enumerate(words):
            letters = word.encode()
            same = np.flatnonzero(text & (values.length == len(letters)))
            for i, letter in enumerate(letters):
                same = same[data[values.number[same] + i] == letter]
            found[same] = code
            if word.lstrip("-").isdecimal() and str(int(word)) == word:
                found[(values.kind == INTEGER) & (values.number == int(word))] = code
        return found

    def met(self, rules: tuple[FlagRule, ...]) -> Array:
        """Say which rows meet one of some rules."""
        found = np.zeros(self.n, bool)
        for rule in rules:
            values = self.find(rule.path)
            found |= self._meets(rule, values) & ~np.isnan(
                np.where(values.kind == REAL, values.reals, 0.0)
            )
        return found

    def _meets(self, rule: FlagRule, values: Values) -> Array:
        kind, number, reals = values.kind, values.number, values.reals
        if rule.bits is not None:
            self.demand(values.among(INTEGER))
            return (kind == INTEGER) & (number & rule.bits != 0)
        if rule.outside is not None:
            self.demand(values.among(INTEGER, REAL))
            low, high = rule.outside
            return values.there & ~((reals >= low) & (reals <= high))
        if rule.values is None:
            plain = np.where(kind == TEXT, values.length, number)
            return values.there & np.where(kind == REAL, reals != 0.0, plain != 0)
        found = np.zeros(self.n, bool)
        for value in rule.values:
            if isinstance(value, bool):
                found |= (kind == TRUTH) & ((number != 0) == value)
            elif isinstance(value, str):
                found |= np.isin(kind, TEXT) & (self.codes(values, (value,)) == 0)
            else:
                found |= np.isin(kind, (INTEGER, REAL)) & (reals == value)
        return found
