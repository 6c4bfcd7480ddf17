"""runs, show and tables."""

# ruff: noqa: E501  (lines are compared as they are printed)
from __future__ import annotations

import json
from pathlib import Path

import pytest

from ampel_spark.lake.marker import FORMAT
from tests.commands.conftest import Command
from tests.commands.small_lake import RUNS, STOCK


def test_runs_are_listed_newest_first(small_lake: Path, command: Command) -> None:
    code, out, err = command("runs", "--lake", small_lake)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "run_id                      job    status  started              seconds  calibration  alerts  states  candidates",
        "small-20240102T000000-bbbb  small  good    2024-01-02 00:00:00       90  raw               2       1           1",
        "small-20240101T000000-aaaa  small  good    2024-01-01 00:00:00       90  raw               2       1           0",
    ]


def test_runs_as_json_have_the_same_keys_always(small_lake: Path, command: Command) -> None:
    code, out, _ = command("runs", "--lake", small_lake, "--format", "json")
    assert code == 0
    assert [list(run) for run in json.loads(out)] == 2 * [
        ["run_id", "job", "status", "message", "started", "ended", "seconds", "calibration", "alerts", "states",
         "candidates", "job_hash", "parent_run_id", "git_commit"]
    ]  # fmt: skip


def test_a_lake_without_runs_says_so(tmp_path: Path, command: Command) -> None:
    (tmp_path / "_ampel_spark.json").write_text(f'{{"format": {FORMAT}}}')
    assert command("runs", "--lake", tmp_path) == (0, f"lake {tmp_path} has no run yet\n", "")
    assert command("runs", "--lake", tmp_path, "--format", "json") == (0, "[]\n", "")
    assert command("tables", "--lake", tmp_path) == (0, f"lake {tmp_path} has no table yet\n", "")


def test_a_run_is_shown_with_its_versions_losses_and_candidates(
    small_lake: Path, command: Command
) -> None:
    code, out, _ = command("show", "latest", "--lake", small_lake)
    assert code == 0
    head, *sections = out.split("\n\n")
    assert head.splitlines()[:3] == [
        f"run_id       {RUNS[1]}",
        "job          small",
        "status       good",
    ]
    assert sections == [
        "read\nwhat        version\nalerts            1\ndatapoints        4",
        "wrote\ntable      version\ndecisions        1",
        "T0: channel SN: 1 of 2 alerts accepted, 1 objects\n"
        "cut        lost  left\nmin_ndet      1     1\nmin_tspan     0     1",
        "T1: 1 states, 0 of them new\nchannel  objects  states\nSN             1       1",
        "T2\nunit     wanted  present  computed  statuses  median_ms  seconds\n"
        "summary       1        1         0  0 1             0.5        -",
        "T3\nselection  channel  states  candidates\nbest       SN            1           1",
        "candidates: best\nname          rank  summary_peak_mag\nZTF18abxhyqv     1                18\n",
    ]


def test_a_run_as_json_is_its_record_and_its_candidates(small_lake: Path, command: Command) -> None:
    code, out, _ = command("show", RUNS[1], "--lake", small_lake, "--format", "json")
    (run,) = json.loads(out)
    assert code == 0
    assert run["counts"]["t0"]["SN"]["cuts"] == [["min_ndet", 1], ["min_tspan", 0]]
    assert run["job_resolved"]["name"] == "small"
    assert [(c["stock"], c["rank"]) for c in run["candidates"]] == [(STOCK, 1)]


def test_a_run_that_is_not_there_is_a_matter_of_usage(small_lake: Path, command: Command) -> None:
    code, out, err = command("show", "smal-2024", "--lake", small_lake)
    assert (code, out) == (2, "")
    assert err.startswith(f"ampel-spark: lake {small_lake} has no run 'smal-2024'; ")


def test_tables_are_listed_with_rows_size_and_version(small_lake: Path, command: Command) -> None:
    code, out, _ = command("tables", "--lake", small_lake)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == [
        "name",
        "rows",
        "files",
        "size",
        "bytes",
        "a",
        "row",
        "on",
        "disk",
        "version",
        "last_commit",
        "operation",
        "description",
    ]
    assert lines[1].split()[:3] == ["alerts", "4", "2"]
    assert lines[1].endswith("WRITE      one alert packet")
    rows = json.loads(command("tables", "--lake", small_lake, "--format", "json")[1])
    assert {row["name"]: row["rows"] for row in rows}["decisions"] == 10
    assert isinstance(rows[0]["bytes"], int)
    assert rows[0]["bytes_per_row"] == rows[0]["bytes"] / rows[0]["rows"]


def test_the_columns_of_a_table_are_those_of_the_lake(small_lake: Path, command: Command) -> None:
    rows = json.loads(command("tables", "candidates", "--lake", small_lake, "--format", "json")[1])
    assert {"column": "summary_peak_mag", "type": "double", "comment": "brightest [mag]"} in rows
    rows = json.loads(command("tables", "alerts", "--lake", small_lake, "--format", "json")[1])
    types = {row["column"]: row["type"] for row in rows}
    assert (types["stock"], types["datapoint_ids"], types["fid"]) == (
        "bigint",
        "array<bigint>",
        "int",
    )


def test_without_a_lake_they_are_those_that_it_would_have(tmp_path: Path, command: Command) -> None:
    code, out, _ = command("tables", "alerts", "--lake", tmp_path / "none")
    assert code == 0
    assert "magpsf" in out
    code, _, err = command("tables", "alert", "--lake", tmp_path / "none")
    assert (code, err) == (
        2,
        f"ampel-spark: lake {tmp_path / 'none'} has no table 'alert'; did you mean 'alerts'?\n",
    )
    code, _, err = command("tables", "t2_salt_fit", "--lake", tmp_path / "none")
    assert code == 2
    assert "`ampel-spark units salt_fit` tells a unit's columns" in err


def test_the_tables_told_of_a_lake_are_those_that_it_has(
    small_lake: Path, tmp_path: Path, command: Command
) -> None:
    code, out, err = command("tables", "nope", "--lake", small_lake)
    assert (code, out) == (2, "")
    assert err == (
        f"ampel-spark: lake {small_lake} has no table 'nope'; known: alerts, candidates, decisions, runs,"
        " state_channels, states, t2_summary\n"
    )
    # the columns of one that is still to be written are told, so its name is worth a hint
    code, _, err = command("tables", "quarantin", "--lake", small_lake)
    assert (code, err.partition("; ")[2]) == (2, "did you mean 'quarantine'?\n")
    code, _, err = command("tables", "nope", "--lake", tmp_path / "none")
    assert err.startswith(f"ampel-spark: there is no lake at {tmp_path / 'none'}: ")


@pytest.mark.parametrize("words", [["runs"], ["show", "latest"], ["tables"], ["object", "x"]])
def test_a_lake_that_is_not_there_is_told_with_the_cure(
    tmp_path: Path, command: Command, words: list[str]
) -> None:
    code, out, err = command(*words, "--lake", tmp_path / "none")
    assert (code, out) == (2, "")
    assert err == (
        f"ampel-spark: there is no lake at {tmp_path / 'none'}: name another with --lake or AMPEL_SPARK_LAKE,"
        " or make one with `ampel-spark run JOB.yml`\n"
    )
