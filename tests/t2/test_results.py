"""Which results a run used."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pyarrow as pa

from ampel_spark.lake.runs import Run, Traces, UnitTrace, utc_now
from ampel_spark.lake.ties import key_hash, keys_at
from ampel_spark.t2.results import (
    Results,
    catalogs_by_run,
    preference,
    tied_hash,
)


def run_of(trace: str, run_id: str) -> Run:
    traces = Traces(t2={"dust": UnitTrace(trace, needs=()), "fit": UnitTrace("f", needs=("dust",))})
    return Run(run_id, "job", "", "", "", {"t2": []}, "raw", utc_now(), traces=traces)


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


def test_runs_are_in_the_order_of_their_start_whatever_they_are_called() -> None:
    now = utc_now()
    runs = [replace(run_of("", "a-2"), started=now), run_of("", "z-1")]
    runs[1] = replace(runs[1], started=now - timedelta(1))
    assert list(catalogs_by_run(runs)) == ["z-1", "a-2"]
    prefer = preference("m", {"z-1": {}, "m": {"g": "v1"}, "a-2": {}})
    assert max(["z-1", "a-2"], key=prefer) == "z-1"  # the other one was made later
