"""Which results a run used, and Spark's hash without Spark."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from ampel_spark.lake import results
from ampel_spark.lake.reading import read
from ampel_spark.lake.results import (
    HEAD,
    Results,
    catalogs_by_run,
    input_hashes,
    preference,
    tied_hash,
)
from ampel_spark.lake.runs import Run, Traces, UnitTrace, find_run, utc_now
from ampel_spark.t2.runner import wanted
from ampel_spark.t2.unit import Column


def test_the_hash_is_that_of_sparks_manual() -> None:
    # SELECT xxhash64('Spark', array(123), 2)
    hashes = np.array([42], np.uint64)
    for column in (pa.array(["Spark"]), pa.array([[123]], pa.list_(pa.int32())),
                   pa.array([2], pa.int32())):  # fmt: skip
        hashes = results._hashed(column, hashes)
    assert hashes.view(np.int64)[0] == 5602566077635097486


def test_null_changes_no_hash_and_zero_has_no_sign() -> None:
    known = {"status": pa.array([1], pa.int32())}
    absent = {"x": pa.array([None], pa.float64()), "y": pa.array([None], pa.list_(pa.string()))}
    assert input_hashes({"a": known | absent}, 1) == input_hashes({"a": known, "b": {}}, 1)
    zeros = [input_hashes({"a": {"x": pa.array([z])}}, 1)[0] for z in (0.0, -0.0)]
    assert zeros[0] == zeros[1]


@pytest.mark.spark
def test_the_hash_tells_in_which_column_a_value_stands_and_where_a_list_ends(
    spark: SparkSession,
) -> None:
    texts = pa.list_(pa.string())
    rows = [
        {"a": 0.05, "b": None, "k": ["x"], "m": []},
        {"a": None, "b": 0.05, "k": ["x"], "m": []},
        {"a": None, "b": 0.05, "k": [], "m": ["x"]},
        {"a": None, "b": 0.05, "k": ["x", None], "m": []},
        {"a": None, "b": 0.05, "k": [None, "x"], "m": []},
        {"a": None, "b": 0.05, "k": ["x"], "m": None},
    ]
    types = {"a": pa.float64(), "b": pa.float64(), "k": texts, "m": texts}
    tie = {"status": pa.array([0] * len(rows), pa.int32())} | {
        name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()
    }
    mine = [f"{h:X}" for h in input_hashes({"tie": tie}, len(rows)).tolist()]
    assert len(set(mine)) == len(rows)
    columns = [Column(name, {"a": "double", "b": "double"}.get(name, "array<string>"), "", "")
               for name in types]  # fmt: skip
    schema = "state_id string, status int, a double, b double, k array<string>, m array<string>"
    frame = spark.createDataFrame(
        [(str(i), 0, *row.values()) for i, row in enumerate(rows)], schema
    )
    states = frame.select("state_id")
    found = wanted(states, {"tie": (frame, columns)}).select("state_id", "input_hash").collect()
    assert [row["input_hash"] for row in sorted(found)] == mine


def test_the_hashes_of_a_run_are_those_that_spark_wrote(quick_lake: Path) -> None:
    # whatever the tied units give: truth values, numbers, nulls
    run = find_run(quick_lake)
    needs = run.needs_of("salt_fit")
    assert needs == ["host", "milky_way_dust"]
    fits = read(quick_lake, "t2_salt_fit", ["state_id", "input_hash"]).sort_by("state_id")
    ties = {}
    for need in needs:
        rows = read(quick_lake, f"t2_{need}", filters=pc.field("state_id").isin(fits["state_id"]))
        rows = rows.sort_by("state_id").combine_chunks()
        assert rows["state_id"].to_pylist() == fits["state_id"].to_pylist()
        names = ["status", *(name for name in rows.column_names if name not in HEAD)]
        ties[need] = {name: rows[name].combine_chunks() for name in names}
    expected = input_hashes(ties, len(fits))
    assert [f"{h:X}" for h in expected.tolist()] == fits["input_hash"].to_pylist()
    assert len(set(expected.tolist())) > 5


def run_of(trace: str, run_id: str) -> Run:
    traces = Traces(t2={"dust": UnitTrace(trace, needs=()), "fit": UnitTrace("f", needs=("dust",))})
    return Run(run_id, "job", "", "", "", {"t2": []}, "raw", utc_now(), traces=traces)


def test_of_two_results_the_run_used_that_of_its_own_ties() -> None:
    dust = pa.table(
        {"state_id": ["s", "s"], "trace_id": ["old", "new"], "input_hash": ["", ""],
         "run_id": ["r1", "r2"], "status": pa.array([0, 0], pa.int32()), "ebv": [0.1, 0.2]}
    )  # fmt: skip
    hashes = [
        f"{input_hashes({'dust': {'status': pa.array([0], pa.int32()), 'ebv': column}}, 1)[0]:X}"
        for column in (pa.array([0.1]), pa.array([0.2]))
    ]
    fits = pa.table(
        {"state_id": ["s", "s"], "trace_id": ["f", "f"], "input_hash": hashes,
         "run_id": ["r1", "r2"], "status": pa.array([0, 0], pa.int32()), "c": [1.0, 2.0]}
    )  # fmt: skip
    found_of = Results({"dust": dust, "fit": fits})
    used = {
        name: found_of.used(run_of(trace, name), "fit", "s")
        for trace, name in (("old", "r1"), ("new", "r2"), ("old", "r3"))
    }
    assert {name: row and row["c"] for name, row in used.items()} == {"r1": 1, "r2": 2, "r3": 1}
    assert found_of.used(run_of("old", "r1"), "fit", "other") is None
    assert found_of.used(run_of("old", "r1"), "nothing", "s") is None


def test_of_results_by_catalogues_a_run_used_its_own_or_one_of_a_run_with_the_same() -> None:
    found = pa.table(
        {"state_id": ["s", "s"], "trace_id": ["old", "old"], "input_hash": [":a", ":b"],
         "run_id": ["r1", "r2"], "status": pa.array([0, 0], pa.int32()), "z": [0.1, 0.2]}
    )  # fmt: skip
    read = {"r1": {"catalog g": "v0"}, "r2": {"catalog g": "v1"}, "r3": {"catalog g": "v0"},
            "r4": {"catalog g": "v0", "catalog h": "v0"}, "r5": {}}  # fmt: skip
    found_of = Results({"dust": found}, read)
    used = {run: found_of.used(run_of("old", run), "dust", "s") for run in read}
    # r4 read what none of them did: the newest before it
    expected = {"r1": 0.1, "r2": 0.2, "r3": 0.1, "r4": 0.2, "r5": 0.2}
    assert {run: row and row["z"] for run, row in used.items()} == expected
    assert tied_hash("1F:some text") == 31
    assert tied_hash(None) == tied_hash("") == tied_hash(":1F") == 0


def test_runs_are_in_the_order_of_their_start_whatever_they_are_called() -> None:
    runs = [
        replace(run_of("", n), started=utc_now() + timedelta(s))
        for n, s in (("a-2", 2), ("z-1", 1))
    ]
    assert list(catalogs_by_run(runs)) == ["z-1", "a-2"]
    prefer = preference("m", {"z-1": {}, "m": {"g": "v1"}, "a-2": {}})
    assert max(["z-1", "a-2"], key=prefer) == "z-1"  # the other one was made later
