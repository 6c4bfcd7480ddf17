"""Which results a run used."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ampel_spark.lake.results import (
    Results,
    catalogs_by_run,
    catalogs_of,
    flattened,
    needs_of,
    preference,
    tied_hash,
)
from ampel_spark.lake.ties import key_hash, keys_at


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
    hashes = [key_hash({"dust": key}) for key in keys_at(dust, [0, 1])]
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
    assert catalogs_of({"inputs": {"alerts": 3, "catalog g": {"file": "f", "hash": "v0"}}}) == {
        "catalog g": "v0"
    }
    assert catalogs_of({}) == {}


def test_runs_are_in_the_order_of_their_start_whatever_they_are_called() -> None:
    runs = [{"run_id": "a-2", "started": 2}, {"run_id": "z-1", "started": 1}]
    assert list(catalogs_by_run(runs)) == ["z-1", "a-2"]
    prefer = preference("m", {"z-1": {}, "m": {"g": "v1"}, "a-2": {}})
    assert max(["z-1", "a-2"], key=prefer) == "z-1"  # the other one was made later


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
