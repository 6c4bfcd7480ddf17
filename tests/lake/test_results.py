"""Which results a run used, and Spark's hash without Spark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.lake.reading import find_run, read
from ampel_spark.lake.results import (
    HEAD,
    Results,
    catalogs_of,
    flattened,
    input_hashes,
    needs_of,
    tied_hash,
)


def test_the_hash_is_that_of_sparks_manual() -> None:
    # SELECT xxhash64('Spark', array(123), 2)
    columns = [
        pa.array(["Spark"]),
        pa.array([[123]], pa.list_(pa.int32())),
        pa.array([2], pa.int32()),
    ]
    (found,) = input_hashes({"tie": columns}, 1).view(np.int64)
    assert found == 5602566077635097486


def test_null_changes_no_hash_and_zero_has_no_sign() -> None:
    known = [pa.array([1], pa.int32())]
    assert input_hashes({"a": [*known, pa.array([None], pa.float64())]}, 1) == input_hashes(
        {"a": known, "b": []}, 1
    )
    zeros = [input_hashes({"a": [pa.array([z])]}, 1)[0] for z in (0.0, -0.0)]
    assert zeros[0] == zeros[1]


def test_the_hashes_of_a_run_are_those_that_spark_wrote(quick_lake: Path) -> None:
    # whatever the tied units give: truth values, numbers, nulls
    run = find_run(quick_lake)
    needs = needs_of(run, "salt_fit")
    assert needs == ["host", "milky_way_dust"]
    fits = read(quick_lake, "t2_salt_fit", ["state_id", "input_hash"]).sort_by("state_id")
    ties = {}
    for need in needs:
        rows = read(quick_lake, f"t2_{need}", filters=pc.field("state_id").isin(fits["state_id"]))
        rows = rows.sort_by("state_id").combine_chunks()
        assert rows["state_id"].to_pylist() == fits["state_id"].to_pylist()
        names = ["status", *sorted(name for name in rows.column_names if name not in HEAD)]
        ties[need] = [rows[name].combine_chunks() for name in names]
    expected = input_hashes(ties, len(fits))
    assert [f"{h:X}" for h in expected.tolist()] == fits["input_hash"].to_pylist()
    assert len(set(expected.tolist())) > 5


def run_of(trace: str, run_id: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "traces": {
            "t2": {
                "dust": {"trace_id": trace, "needs": []},
                "fit": {"trace_id": "f", "needs": ["dust"]},
            }
        },
        "job_resolved": {"t2": []},
    }


def test_of_two_results_the_run_used_that_of_its_own_ties() -> None:
    dust = pa.table(
        {"state_id": ["s", "s"], "trace_id": ["old", "new"], "input_hash": ["", ""],
         "run_id": ["r1", "r2"], "status": pa.array([0, 0], pa.int32()), "ebv": [0.1, 0.2]}
    )  # fmt: skip
    hashes = [
        f"{input_hashes({'dust': [pa.array([0], pa.int32()), pa.array([ebv])]}, 1)[0]:X}"
        for ebv in (0.1, 0.2)
    ]
    fits = pa.table(
        {"state_id": ["s", "s"], "trace_id": ["f", "f"], "input_hash": hashes,
         "run_id": ["r1", "r2"], "status": pa.array([0, 0], pa.int32()), "c": [1.0, 2.0]}
    )  # fmt: skip
    results = Results({"dust": dust, "fit": fits})
    used = {
        name: results.used(run_of(trace, name), "fit", "s")
        for trace, name in (("old", "r1"), ("new", "r2"), ("old", "r3"))
    }
    assert {name: row and row["c"] for name, row in used.items()} == {"r1": 1, "r2": 2, "r3": 1}
    assert results.used(run_of("old", "r1"), "fit", "other") is None
    assert results.used(run_of("old", "r1"), "nothing", "s") is None


def test_of_results_by_catalogues_a_run_used_its_own_or_one_of_a_run_with_the_same() -> None:
    found = pa.table(
        {"state_id": ["s", "s"], "trace_id": ["old", "old"], "input_hash": [":a", ":b"],
         "run_id": ["r1", "r2"], "status": pa.array([0, 0], pa.int32()), "z": [0.1, 0.2]}
    )  # fmt: skip
    read = {"r1": {"catalog g": "v0"}, "r2": {"catalog g": "v1"}, "r3": {"catalog g": "v0"},
            "r4": {"catalog g": "v0", "catalog h": "v0"}, "r5": {}}  # fmt: skip
    results = Results({"dust": found}, read)
    used = {run: results.used(run_of("old", run), "dust", "s") for run in read}
    # r4 read what none of them did: the newest before it
    expected = {"r1": 0.1, "r2": 0.2, "r3": 0.1, "r4": 0.2, "r5": 0.2}
    assert {run: row and row["z"] for run, row in used.items()} == expected
    assert tied_hash("1F:some text") == 31
    assert tied_hash(None) == tied_hash("") == tied_hash(":1F") == 0
    assert catalogs_of({"inputs": {"alerts": 3, "catalog g": {"file": "f", "hash": "v0"}}}) == {
        "catalog g": "v0"
    }
    assert catalogs_of({}) == {}


def test_ties_that_are_not_recorded_are_found_in_the_parameters() -> None:
    units = [
        {"name": "dust", "config": {}},
        {"name": "fit", "config": {"redshift": {"unit": "host", "column": "z"}, "map": "dust"}},
        {"name": "host", "config": {}},
    ]
    run = {"traces": {}, "job_resolved": {"t2": units}}
    assert needs_of(run, "fit") == ["dust", "host"]
    assert needs_of(run, "host") == []


def test_nested_parameters_have_paths() -> None:
    assert flattened({"a": {"b": 1, "c": [2, 3]}, "d": [{"e": 4}]}) == {
        "a.b": 1,
        "a.c": [2, 3],
        "d.0.e": 4,
    }
    assert flattened({}) == {}
