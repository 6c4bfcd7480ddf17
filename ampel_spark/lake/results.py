"""Which results a run used: its units, their ties, and the hash of what a unit was tied to.

A state has several results under one trace where what the unit reads beside it changed. The one a
run used is that whose ``input_hash`` is over the run's own tied results. It is computed here
without Spark, as Spark's ``xxhash64`` does: one column after the other, each with the hash so far
as its seed (42 at first); null changes nothing, lists are their elements in order. Before each
value that is not null goes a number for its column, so that values in other columns are another
hash, and after each list which of its elements are null. (A column that a table gets later is null
in older rows, and changes no hash of theirs.)
What a unit tells of itself (`Unit.inputs`, after a colon) is not computed anew: of results that
fit, a run used its own, then that of a run which read the same catalogues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from ampel_spark.lake.tables import result_table

if TYPE_CHECKING:
    from ampel_spark.lake.runs import Run

__all__ = [
    "HEAD",
    "Results",
    "catalogs_by_run",
    "input_hashes",
    "preference",
    "seed_of",
    "tied_hash",
]

Words = npt.NDArray[np.uint64]

_SEED = 42
_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(p)
    for p in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)


#: Columns of every table of results; the others are the unit's own.
HEAD = frozenset(result_table("", ()).names)


@dataclass(frozen=True)
class Results:
    """Results of a few states, as tables by the unit's name.

    Attributes
    ----------
    tables : mapping of str to pyarrow.Table
    catalogs : mapping of str to mapping
        What each run read of catalogues: `catalogs_by_run`.
    """

    tables: Mapping[str, pa.Table]
    catalogs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def used(self, run: Run, unit: str, state_id: str) -> Mapping[str, Any] | None:
        """Return the result that a run used for a state; None where there is none."""
        at = self._place(run, unit, state_id)
        return None if at is None else self.tables[unit].slice(at, 1).to_pylist()[0]

    def _place(self, run: Run, unit: str, state_id: str) -> int | None:
        if unit not in self.tables:
            return None
        recorded = run.traces.t2.get(unit)
        trace = None if recorded is None else recorded.trace_id
        keys = self.tables[unit].select(["state_id", "trace_id", "input_hash", "run_id"])
        found = [
            (i, row)
            for i, row in enumerate(keys.to_pylist())
            if row["state_id"] == state_id and row["trace_id"] == trace
        ]
        if len(found) < 2:
            return found[0][0] if found else None
        wanted, prefer = self._hash(run, unit, state_id), preference(run.run_id, self.catalogs)

        def order(pair: tuple[int, Mapping[str, Any]]) -> tuple[Any, ...]:
            row = pair[1]
            return tied_hash(row["input_hash"]) == wanted, *prefer(row["run_id"])

        return max(found, key=order)[0]

    def _hash(self, run: Run, unit: str, state_id: str) -> int:
        ties = {}
        for need in run.needs_of(unit):
            table, at = self.tables.get(need), self._place(run, need, state_id)
            if table is not None and at is not None:
                names = ["status", *(n for n in table.column_names if n not in HEAD)]
                ties[need] = {n: table[n].combine_chunks().slice(at, 1) for n in names}
            else:
                ties[need] = {}  # no result: null, which changes no hash
        return int(input_hashes(ties, 1)[0])


def tied_hash(input_hash: str | None) -> int:
    """Return the part of an ``input_hash`` that is over tied results; 0 where there are none."""
    return int((input_hash or "").partition(":")[0] or "0", 16)


def catalogs_by_run(runs: Iterable[Run]) -> dict[str, dict[str, str]]:
    """Return the content hashes of the catalogues that runs read, the first run first."""
    ordered = sorted(runs, key=lambda run: (run.started, run.run_id))
    return {run.run_id: run.inputs.catalog_hashes for run in ordered}


def preference(
    run_id: str, catalogs: Mapping[str, Mapping[str, str]]
) -> Callable[[str], tuple[bool, bool, bool, int, str]]:
    """Return what orders, by the runs that made them, results that a run can have used.

    The last one is the likeliest: the run's own, else that of a run with the same catalogues, else
    the newest that was there when a run first had these. `catalogs` has the runs as they started,
    the first one first.
    """
    mine = catalogs.get(run_id)
    alike = {run_id, *(other for other, read in catalogs.items() if mine and read == mine)}
    place = {run: i for i, run in enumerate(catalogs)}
    since = min(place.get(run, len(place)) for run in alike)

    def order(made: str) -> tuple[bool, bool, bool, int, str]:
        at = place.get(made, -1)
        return made == run_id, made in alike, at <= since, at, made

    return order


def seed_of(unit: str, column: str) -> int:
    """Return the number that goes into the hash before a value of a tied unit's column."""
    number = xxhash.xxh64_intdigest(f"{unit}.{column}".encode())
    return number - (1 << 64) if number >> 63 else number


def input_hashes(ties: Mapping[str, Mapping[str, pa.Array]], count: int) -> Words:
    """Return the hash over tied results, as ``t2_<unit>.input_hash`` has it in hexadecimal.

    Parameters
    ----------
    ties : mapping of str to mapping of str to pyarrow.Array with shape (N,)
        By the tied unit's name: ``status`` and its columns; null: no result.
    count : int
        N.
    """
    hashes = np.full(count, _SEED, np.uint64)
    if not ties:
        return np.zeros(count, np.uint64)
    for name, columns in sorted(ties.items()):
        for label in sorted(columns, key=lambda n: (n != "status", n)):
            column = columns[label]
            seed = np.full(count, seed_of(name, label), np.int64).view(np.uint64)
            known = np.asarray(column.is_valid())
            hashes = _hashed(column, np.where(known, _word8(seed, hashes), hashes))
            if pa.types.is_list(column.type):
                lists = (None if each is None else [v is None for v in each]
                         for each in column.to_pylist())  # fmt: skip
                hashes = _hashed(pa.array(lists, pa.list_(pa.bool_())), hashes)
    return hashes


def _hashed(column: pa.Array, seeds: Words) -> Words:
    kind = column.type
    known = np.asarray(column.is_valid())
    if pa.types.is_floating(kind):
        values = np.asarray(column.cast(pa.float64()).fill_null(0.0))
        values = np.where(values == 0, 0.0, values)  # no negative zero
        if kind == pa.float32():
            hashed = _word4(values.astype(np.float32).view(np.uint32).astype(np.uint64), seeds)
        else:
            hashed = _word8(values.view(np.uint64), seeds)
    elif pa.types.is_int64(kind):
        hashed = _word8(np.asarray(column.fill_null(0)).astype(np.int64).view(np.uint64), seeds)
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        words = np.asarray(column.cast(pa.int32()).fill_null(0)).astype(np.int32)
        hashed = _word4(words.view(np.uint32).astype(np.uint64), seeds)
    else:
        pairs = zip(column.to_pylist(), seeds.tolist(), strict=True)
        value_type = getattr(kind, "value_type", kind)
        hashed = np.array([_one(value, value_type, seed) for value, seed in pairs], np.uint64)
    return np.where(known, hashed, seeds)


def _one(value: Any, kind: pa.DataType, seed: int) -> int:
    """Hash one text or one list, element by element."""
    if value is None:
        return seed
    if isinstance(value, str):
        return xxhash.xxh64_intdigest(value.encode(), seed)
    for part in value:
        if isinstance(part, str):
            seed = xxhash.xxh64_intdigest(part.encode(), seed)
        else:
            seed = int(_hashed(pa.array([part], kind), np.array([seed], np.uint64))[0])
    return seed


def _word8(words: Words, seeds: Words) -> Words:
    with np.errstate(over="ignore"):
        hashes = seeds + _P5 + np.uint64(8)
        hashes ^= _turned(words * _P2, 31) * _P1
        return _mixed(_turned(hashes, 27) * _P1 + _P4)


def _word4(words: Words, seeds: Words) -> Words:
    with np.errstate(over="ignore"):
        hashes = seeds + _P5 + np.uint64(4)
        hashes ^= words * _P1
        return _mixed(_turned(hashes, 23) * _P2 + _P3)


def _turned(words: Words, by: int) -> Words:
    return (words << np.uint64(by)) | (words >> np.uint64(64 - by))


def _mixed(hashes: Words) -> Words:
    with np.errstate(over="ignore"):
        hashes = (hashes ^ (hashes >> np.uint64(33))) * _P2
        hashes = (hashes ^ (hashes >> np.uint64(29))) * _P3
    return hashes ^ (hashes >> np.uint64(32))
