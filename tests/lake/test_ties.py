"""The hash over what a unit was tied to, in Spark and beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import xxhash
from pyspark.sql import SparkSession

from ampel_spark.lake.reading import read
from ampel_spark.lake.runs import find_run
from ampel_spark.lake.ties import EXCEPTION, READ, hash_column, key_hash, keys_at
from ampel_spark.t2 import unit

TYPES = "trace_id string, input_hash string, state_id string, status int, attempts int"

#: Results: trace, input hash, state, status, attempts.
RESULTS: list[tuple[Any, ...] | None] = [
    None,
    ("t", "", "s", 0, 1),
    ("t", "", "s", 0, None),
    ("t", "", "s", -2008, 1),
    ("t", "", "s", -4, 1),
    ("t", "", "s", -4, None),
    ("t", "", "s", -4, 2),
    ("t", "", "s", -4, 3),
    ("u", "", "s", 0, 1),
    ("t", "", "z", 0, 1),
    ("", "t", "s", 0, 1),
    ("ts", "", "", 0, 1),
    ("t", "F00:mag 18|1", "s", 0, 1),
    ("t", "F00:\x1f\x00 Größe \U0001f52d", "s", 0, 1),
    ("t", "F00:" + "long" * 100, "s", 0, 1),
    ("t", None, "s", 0, 1),
]


def pairs() -> tuple[list[Any], list[Any]]:
    """Return results of two tied units: all of these against some of them."""
    every = [(a, b) for a in RESULTS for b in (None, RESULTS[1], RESULTS[4])]
    return [a for a, _ in every], [b for _, b in every]


def hashed(**ties: list[Any]) -> list[str]:
    count = len(next(iter(ties.values())))
    keys = {
        name: [None if row is None else dict(zip(READ, row, strict=True)) for row in rows]
        for name, rows in ties.items()
    }
    return [key_hash({name: rows[i] for name, rows in keys.items()}) for i in range(count)]


@pytest.mark.spark
def test_spark_and_plain_python_agree_on_odd_values(spark: SparkSession) -> None:
    first, second = pairs()
    frame = spark.createDataFrame(
        [(i, *pair) for i, pair in enumerate(zip(first, second, strict=True))],
        f"i int, a struct<{TYPES.replace(' ', ':')}>, b struct<{TYPES.replace(' ', ':')}>".replace(
            ",:", ", "
        ),
    )
    # the order of names counts, not that of columns
    found = frame.withColumn("hash", hash_column({"host": "b", "dust": "a"})).orderBy("i")
    mine = hashed(host=second, dust=first)
    assert [row["hash"] for row in found.collect()] == mine
    assert [row["h"] for row in spark.range(1).select(hash_column({}).alias("h")).collect()] == [""]


def test_each_key_has_a_hash_of_its_own_and_outcomes_have_none() -> None:
    found = hashed(dust=RESULTS)
    # all outcomes of a key; no input hash is an empty one; attempts not counted are one
    for alike in ([1, 2, 3, 15], [4, 5], [10]):
        assert [i for i, each in enumerate(found) if each == found[alike[0]]] == alike
    assert len(set(found)) == len(found) - 4
    assert hashed(dust=RESULTS[1:2]) != hashed(host=RESULTS[1:2])


def test_the_hash_is_that_of_the_documented_texts() -> None:
    seed = 42
    for text in ("dust", "t", "F:a", "s", "2"):
        seed = xxhash.xxh64_intdigest(text.encode(), seed)
    assert hashed(dust=[("t", "F:a", "s", -4, 2)]) == [f"{seed:X}"]
    assert key_hash({}) == ""


def test_keys_are_taken_of_tables_whatever_these_lack() -> None:
    table = pa.table({"state_id": ["s", "z"], "trace_id": ["t", "t"], "input_hash": ["", ":a"],
                      "status": [-4, 0], "z": [None, 0.1]})  # fmt: skip
    found = keys_at(table, [1, -1, 0])
    assert [key and key["state_id"] for key in found] == ["z", None, "s"]
    # attempts that an older lake did not count are one
    assert key_hash({"dust": found[2]}) == hashed(dust=[("t", "", "s", -4, 1)])[0]
    assert keys_at(None, [0, -1]) == keys_at(table.slice(0, 0), [-1, -1]) == [None, None]


def test_an_exception_has_the_status_that_units_give_it() -> None:
    assert EXCEPTION == unit.EXCEPTION


@pytest.mark.spark
def test_the_hashes_of_a_run_are_those_that_spark_wrote(quick_lake: Path) -> None:
    run = find_run(quick_lake)
    needs = run.needs_of("salt_fit")
    assert needs == ["host", "milky_way_dust"]
    fits = read(quick_lake, "t2_salt_fit", ["state_id", "input_hash"]).sort_by("state_id")
    keys = {}
    for need in needs:
        rows = read(quick_lake, f"t2_{need}", filters=pc.field("state_id").isin(fits["state_id"]))
        rows = rows.sort_by("state_id").combine_chunks()
        assert rows["state_id"].to_pylist() == fits["state_id"].to_pylist()
        keys[need] = keys_at(rows, range(len(fits)))
    expected = [key_hash({need: keys[need][i] for need in needs}) for i in range(len(fits))]
    assert expected == fits["input_hash"].to_pylist()
    assert len(set(expected)) > 5
