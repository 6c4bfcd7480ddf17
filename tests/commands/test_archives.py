"""ingest and simulate."""
# ruff: noqa: E501  (lines are compared as they are printed)

from __future__ import annotations

import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from ampel_spark.archive.committing.ingest import Ingested
from ampel_spark.commands import archives
from tests.commands.conftest import Command


def done_of(**changes: int) -> Ingested:
    """Return what an ingest of one file did."""
    usual = {"files": 1, "known": 0, "packets": 3, "stored": 2, "duplicate": 0, "quarantined": 1,
             "broken": 0}  # fmt: skip
    return Ingested(**(usual | changes))


@pytest.fixture
def read_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put a record of what it is called with in the place of the ingest itself."""
    calls: dict[str, Any] = {"done": done_of()}

    def ingest(
        spark: Any, lake: Any, paths: list[str], survey: Any, out: Any, **options: Any
    ) -> Ingested:
        calls.update(spark=spark, lake=lake, paths=paths, survey=survey, options=options)
        out("chunk 1 of 1")
        return calls["done"]

    for name, attributes in (
        ("ampel_spark.archive.committing.ingest", {"ingest": ingest}),
        ("ampel_spark.session", {"get_session": lambda app: f"session of {app}"}),
    ):
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    return calls


def test_ingest_prints_its_account_and_tells_its_way(
    tmp_path: Path, command: Command, read_in: dict[str, Any]
) -> None:
    (tmp_path / "a.tar.gz").touch()
    code, out, err = command(
        "ingest", tmp_path / "a.tar.gz", "--lake", tmp_path / "lake", "--format", "json"
    )
    assert (code, err) == (0, "chunk 1 of 1\n")
    assert json.loads(out) == [
        {"lake": str(tmp_path / "lake"), "files": 1, "known": 0, "packets": 3, "stored": 2,
         "duplicate": 0, "quarantined": 1, "broken": 0, "empty": 0, "known_bad": 0}
    ]  # fmt: skip
    assert read_in["lake"].root == tmp_path / "lake"
    assert read_in["paths"] == [str(tmp_path / "a.tar.gz")]
    assert read_in["survey"].name == "ztf"
    assert read_in["options"] == {
        "chunk_bytes": 2 << 30,
        "nightly": False,
        "replace": False,
        "interval": 10.0,
    }


def test_ingest_takes_the_size_of_its_chunks(
    tmp_path: Path, command: Command, read_in: dict[str, Any]
) -> None:
    (tmp_path / "a.tar.gz").touch()
    ingest = ("ingest", tmp_path / "a.tar.gz", "--lake", tmp_path / "lake")
    assert command(*ingest, "--chunk", "1.5MB", "--nightly", "--replace-file")[0] == 0
    assert read_in["options"] == {
        "chunk_bytes": 3 << 19,
        "nightly": True,
        "replace": True,
        "interval": 10.0,
    }
    code, _, err = command(*ingest, "--chunk", "many")
    assert code == 2
    assert "--chunk 'many' is no size: a number and B, kB, MB, GB or TB" in err


def test_a_path_that_is_none_is_told_before_spark_starts(
    tmp_path: Path, command: Command, read_in: dict[str, Any]
) -> None:
    code, out, err = command("ingest", tmp_path / "none", "--lake", tmp_path / "lake")
    assert (code, out) == (2, "")
    assert err.startswith(
        f"ampel-spark: archive '{tmp_path / 'none'}' does not exist and matches no file"
    )
    assert "paths" not in read_in


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (done_of(stored=0, quarantined=0, packets=0, broken=1), 3),
        (done_of(stored=0, quarantined=3, files=2, broken=1), 3),
        (done_of(stored=0, quarantined=3), 3),
        (done_of(broken=1), 0),
        (done_of(stored=0, duplicate=2, broken=1), 0),
        (done_of(files=0, packets=0, stored=0, quarantined=0), 0),
    ],
)
def test_broken_files_of_which_nothing_was_taken_have_an_exit_code(
    tmp_path: Path, command: Command, read_in: dict[str, Any], done: Ingested, expected: int
) -> None:
    (tmp_path / "a.tar.gz").touch()
    read_in["done"] = done
    assert command("ingest", tmp_path / "a.tar.gz", "--lake", tmp_path / "lake")[0] == expected


def test_simulate_writes_an_archive_and_says_what_is_in_it(
    tmp_path: Path, command: Command
) -> None:
    words = ["simulate", tmp_path / "archive", "--objects", 5, "--nights", 6, "--first-night", "2020-02-03",
             "--seed", 3, "--cutouts", "none", "--workers", 1, "--format", "json"]  # fmt: skip
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    (made,) = json.loads(out)
    record = json.loads((tmp_path / "archive" / "simulation.json").read_text())
    assert made["archive"] == str(tmp_path / "archive")
    assert made["objects"] == 5
    assert made["alerts"] == record["alerts"]
    assert made["made"] == "now"
    assert record["parameters"]["first_night"] == "2020-02-03"
    assert record["parameters"]["seed"] == 3
    assert json.loads(command(*words)[1])[0]["made"] == "before"


def test_what_cannot_be_simulated_is_told(tmp_path: Path, command: Command) -> None:
    code, _, err = command("simulate", tmp_path / "archive", "--alerts", 10, "--nights", 0)
    assert code == 2
    assert err.startswith("ampel-spark: nights is 0; it must be")


def test_on_a_terminal_the_way_is_told_in_one_line_that_is_written_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for terminal, text in (
        (True, "ingest: reading: 1/2 files\r\x1b[Kingest: reading: 2/2 files\r\x1b[Kdone\nmore\n"),
        (False, "ingest: reading: 1/2 files\ningest: reading: 2/2 files\ndone\nmore\n"),
    ):
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        say = archives._Teller()
        for line in ("ingest: reading: 1/2 files", "ingest: reading: 2/2 files", "done", "more"):
            say(line)
        assert stream.getvalue() == text
