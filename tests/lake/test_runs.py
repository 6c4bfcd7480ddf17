"""The record of a run: what is written is what is read, and older records are read too."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from ampel_spark.lake.runs import (
    CatalogInput,
    Counts,
    Run,
    RunInputs,
    Traces,
    UnitTrace,
    flattened,
)
from ampel_spark.lake.tables import TABLES

STARTED = datetime(2024, 1, 1, tzinfo=UTC)
JOB = {"name": "j", "t3": [{"name": "b", "columns": {"z": "fit.z", "a": "fit.ä"}}], "channel": []}


def run_of(job: dict[str, Any], **more: Any) -> Run:
    return Run("r", "j", "hash", "name: j", "j.yml", job, "raw", STARTED, **more)


FULL = run_of(
    JOB,
    status="good",
    message=None,
    ended=STARTED + timedelta(seconds=3),
    parent_run_id="p",
    inputs=RunInputs(
        {"alerts": 3, "datapoints": 5},
        2458812.5,
        {
            "hosts": CatalogInput(lake="glade", version=0, hash="ab", stars="cd"),
            "stars": CatalogInput(file="/a/stars.parquet", hash="ef"),
        },
        {"raw": "99"},
    ),
    outputs={"states": 0},
    traces=Traces(
        {"SN": "t0"},
        {"fit": UnitTrace("t2", "salt_fit", ("dust",), {"class": "SaltFit", "files": []})},
    ),
    counts=Counts(t0={"SN": {"alerts": 3, "cuts": [["rb", 1]]}}, seconds={"total": 1.5}),
    software={"numpy": "2.4"},
    git_commit="abc+",
)


def test_what_is_written_of_a_run_is_what_is_read() -> None:
    row = FULL.to_row()
    assert sorted(row) == sorted(TABLES["runs"].names)
    assert Run.from_row(row) == FULL
    assert Run.from_row(run_of({}).to_row()) == run_of({})


def test_a_row_has_the_columns_that_other_readers_know() -> None:
    row = FULL.to_row()
    assert json.loads(row["inputs"]) == {
        "alerts": 3,
        "as_of_jd": 2458812.5,
        "calibration raw": "99",
        "catalog hosts": {"lake": "glade", "version": 0, "hash": "ab", "stars": "cd"},
        "catalog stars": {"file": "/a/stars.parquet", "hash": "ef"},
        "datapoints": 5,
    }
    assert json.loads(row["traces"])["t2"]["fit"] == {
        "trace_id": "t2", "unit": "salt_fit", "needs": ["dust"], "class": "SaltFit", "files": [],
    }  # fmt: skip
    assert json.loads(row["counts"]) == {
        "t0": {"SN": {"alerts": 3, "cuts": [["rb", 1]]}},
        "seconds": {"total": 1.5},
    }


def test_the_job_keeps_its_own_order() -> None:
    row = FULL.to_row()
    text = '{"name":"j","t3":[{"name":"b","columns":{"z":"fit.z","a":"fit.ä"}}],"channel":[]}'
    assert row["job_resolved"] == text
    assert list(Run.from_row(row).selections["b"]["columns"]) == ["z", "a"]


def test_a_record_of_an_older_lake_is_read_with_defaults() -> None:
    row = {"run_id": "r", "started": STARTED, "status": "good", "traces": None,
           "inputs": '{"alerts": 3, "catalog stars": "cd"}'}  # fmt: skip
    run = Run.from_row(row)
    assert run.inputs.tables == {"alerts": 3}
    # the oldest ones have the hash of the stars that the veto asked, and nothing else
    assert run.inputs.catalogs == {"stars": CatalogInput(stars="cd")}
    assert run.inputs.catalog_hashes == {}
    assert (run.job, run.job_file, run.git_commit, run.parent_run_id) == ("", "", None, None)
    assert (run.traces, run.counts, run.units) == (Traces(), Counts(), {})
    assert run.needs_of("fit") == []


def test_the_content_of_catalogues_is_known_by_name() -> None:
    read = {"alerts": 3, "catalog g": {"file": "f", "hash": "v0"}}
    assert RunInputs.from_json(read).catalog_hashes == {"g": "v0"}
    assert RunInputs.from_json({}).catalog_hashes == {}


def test_ties_that_are_not_recorded_are_found_in_the_parameters() -> None:
    units = [
        {"name": "dust", "config": {}},
        {"name": "fit", "config": {"redshift": {"unit": "host", "column": "z"}, "map": "dust"}},
        {"name": "host", "config": {}},
    ]
    run = run_of({"t2": units})
    assert run.needs_of("fit") == ["dust", "host"]
    assert run.needs_of("host") == []


def test_nested_parameters_have_paths() -> None:
    assert flattened({"a": {"b": 1, "c": [2, 3]}, "d": [{"e": 4}]}) == {
        "a.b": 1,
        "a.c": [2, 3],
        "d.0.e": 4,
    }
    assert flattened({}) == {}
