"""The hash over what a unit was tied to: the first part of a result's ``input_hash``.

A result of a tied unit is called by its key, and so is what goes into the hash: for each tied unit
in order of name its name, ``trace_id``, ``input_hash`` and ``state_id``, empty where it has no
result. A result stays as it is under its key, an exception excepted, which is tried again: of an
exception the number of attempts goes in as well, so that what read one attempt is stale after the
next.

These texts are hashed by XXH64, one after the other, each with the hash so far as its seed (42 at
first), as Spark's ``xxhash64`` does: `hash_column` in Spark and `tied_hashes` beside it agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

if TYPE_CHECKING:
    from pyspark.sql import Column

__all__ = ["EXCEPTION", "READ", "hash_column", "keys_at", "tied_hashes"]

#: The status of a result that is an exception (`ampel_spark.t2.unit`).
EXCEPTION = -4
_SEED = 42
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("trace_id", "input_hash", "state_id")]
    + [(name, pa.int32()) for name in ("status", "attempts")]
)
#: Columns of a tied result that are looked at.
READ = tuple(_SCHEMA.names)


def hash_column(ties: Mapping[str, str]) -> Column:
    """Return the hash as a column.

    Parameters
    ----------
    ties : mapping of str to str
        For each tied unit the column with its result: a struct with `READ`, null for no result.
    """
    from pyspark.sql import functions as f

    parts: list[Column] = []
    for unit, column in sorted(ties.items()):
        key = [f.col(f"{column}.{name}") for name in READ[:3]]
        attempts = f.coalesce(f"{column}.attempts", f.lit(1)).cast("string")
        failed = f.when(f.col(f"{column}.status") == EXCEPTION, attempts)
        parts += [f.lit(unit), *(f.coalesce(text, f.lit("")) for text in (*key, failed))]
    return f.hex(f.xxhash64(*parts)) if parts else f.lit("")


def keys_at(results: pa.Table | None, rows: pa.Array) -> dict[str, pa.Array]:
    """Return the columns `READ` of results at some rows, as `tied_hashes` takes them.

    Parameters
    ----------
    results : pyarrow.Table or None
        Of a tied unit; None, or without a column, where a lake has none of it.
    rows : pyarrow.Array of int64 with shape (N,)
        Numbers of rows; null for no result.
    """
    there = set() if results is None else set(results.column_names)
    return {
        field.name: results[field.name].combine_chunks().take(rows).cast(field.type)
        if results is not None and field.name in there
        else pa.nulls(len(rows), field.type)
        for field in _SCHEMA
    }


def tied_hashes(ties: Mapping[str, Mapping[str, pa.Array]], count: int) -> list[str]:
    """Return the hash of rows; of each "" where there is no tied unit.

    Parameters
    ----------
    ties : mapping of str to mapping of str to pyarrow.Array with shape (N,)
        For each tied unit the columns of its results: `keys_at`.
    count : int
        N.
    """
    seeds = [_SEED] * count
    for unit, columns in sorted(ties.items()):
        failed = pc.equal(columns["status"], EXCEPTION)
        attempts = pc.fill_null(columns["attempts"], 1).cast(pa.string())
        key = [columns[name] for name in READ[:3]]
        parts = (pa.repeat(unit, count), *key, pc.if_else(failed, attempts, None))
        for part in parts:
            seeds = [
                _hashed(text or "", s) for text, s in zip(part.to_pylist(), seeds, strict=True)
            ]
    return [f"{seed:X}" if ties else "" for seed in seeds]


def _hashed(text: str, seed: int) -> int:
    return xxhash.xxh64_intdigest(text.encode(), seed)
