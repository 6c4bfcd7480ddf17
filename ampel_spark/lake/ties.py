"""The hash over what a unit was tied to: the first part of a result's ``input_hash``.

A result of a tied unit is called by its key, and so is what goes into the hash: for each tied unit
in order of name its name, ``trace_id``, ``input_hash`` and ``state_id`` (of a unit that looks at no
photometry ``subject_id`` in its place), empty where it has no result. A result stays as it is under
its key, an exception excepted, which is tried again: of an exception the number of attempts goes in
as well, so that what read one attempt is stale after the next.

These texts are hashed by XXH64, one after the other, each with the hash so far as its seed (42 at
first), as Spark's ``xxhash64`` does: `hash_column` in Spark and `key_hash` in Python agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import xxhash

if TYPE_CHECKING:
    from pyspark.sql import Column

__all__ = ["EXCEPTION", "READ", "hash_column", "key_hash", "keys_at", "tied_hash"]

#: The status of a result that is an exception (`ampel_spark.t2.unit`).
EXCEPTION = -4
#: Columns of a tied result that are looked at.
READ = ("trace_id", "input_hash", "state_id", "status", "attempts")


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


def key_hash(ties: Mapping[str, Mapping[str, Any] | None]) -> str:
    """Return the hash, in hexadecimal; "" where there is no tied unit.

    Parameters
    ----------
    ties : mapping of str to mapping
        For each tied unit the `READ` of its result; None for no result.
    """
    seed = 42
    for unit, key in sorted(ties.items()):
        texts = [(key or {}).get(name) or "" for name in READ[:3]]
        failed = key is not None and key["status"] == EXCEPTION
        attempts = str((key or {}).get("attempts") or 1) if failed else ""
        for text in (unit, *texts, attempts):
            seed = xxhash.xxh64_intdigest(text.encode(), seed)
    return f"{seed:X}" if ties else ""


def keys_at(results: pa.Table | None, rows: Sequence[int]) -> list[dict[str, Any] | None]:
    """Return the columns `READ` of results, as `key_hash` takes them.

    Parameters
    ----------
    results : pyarrow.Table or None
        Of a tied unit; None where there is none. ``attempts`` may be absent, as in older lakes.
    rows : sequence of int
        Numbers of rows; negative for no result, which is None.
    """
    there = [at for at in rows if at >= 0]
    if results is None or not there:
        return [None] * len(rows)
    names = [name for name in (*READ, "subject_id") if name in results.column_names]
    found = iter(map(_called, results.select(names).take(pa.array(there)).to_pylist()))
    return [next(found) if at >= 0 else None for at in rows]


def _called(row: dict[str, Any]) -> dict[str, Any]:
    """Return a key with the subject in the place of the state, where the result has one."""
    subject = row.pop("subject_id", None)
    return row if subject is None else row | {"state_id": subject}


def tied_hash(input_hash: str | None) -> int:
    """Return the part of an ``input_hash`` that is over tied results; 0 where there are none."""
    return int((input_hash or "").partition(":")[0] or "0", 16)
