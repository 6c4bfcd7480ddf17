"""A lake that lost a file: every command says which one and what to do, in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import ampel_spark as aps
from ampel_spark.errors import LakeError
from ampel_spark.lake.lost import check_whole, explained, lost_files
from ampel_spark.lake.reading import read, table_names
from tests.commands.conftest import Command
from tests.commands.small_lake import RUNS, make_lake

COMMANDS: tuple[tuple[object, ...], ...] = (
    ("show", "latest"), ("tables",), ("object", "ZTF18abxhyqv"), ("diff", *RUNS[:2]),
    ("explain", 11, "--channel", "SN"), ("search", "alerts", "--cone", 1, 2, 3),
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lake(tmp_path_factory.mktemp("whole"))


def lose(table: Path) -> Path:
    """Remove the first data file of a table's newest version."""
    files = sorted(p for p in table.glob("*.parquet"))
    check_whole(table)
    for file in files:
        file.rename(file.with_suffix(".away"))
        if lost_files(table):
            return file
        file.with_suffix(".away").rename(file)
    raise AssertionError(f"{table} has no file")


TABLES = ["alerts", "candidates", "decisions", "runs", "state_channels", "states", "t2_summary"]


@pytest.mark.parametrize("name", TABLES)
def test_every_command_names_a_lost_file_and_the_cure(
    name: str, whole: Path, tmp_path: Path, command: Command
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(whole, lake)
    assert table_names(lake) == TABLES
    file = lose(lake / name)
    failed = 0
    for words in COMMANDS:
        code, out, err = command(*words, "--lake", lake)
        assert "Traceback" not in err
        if words == ("tables",):
            assert code == 0
            assert f"{name} has lost 1 of its" in out
        elif code:
            said = err.strip().splitlines()
            if "has lost" not in err:
                continue  # there is nothing of the kind in so small a lake
            failed += 1
            assert (code, len(said)) == (2, 1)
            assert f"table {name!r} of lake {lake} (version " in err
            assert f"has lost {file.name}: put it back from a copy of the lake, or" in err
    with pytest.raises(LakeError, match=f"has lost {file.name}"):
        aps.open(lake).table(name)
    with pytest.raises(LakeError, match=f"has lost {file.name}"):
        read(lake, name)
    assert failed


def test_a_shortened_file_and_a_lost_commit_are_lost_too(whole: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(whole, lake)
    file = sorted((lake / "alerts").glob("*.parquet"))[0]
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(LakeError, match=f"has lost {file.name}: put it back"):
        read(lake, "alerts")
    log = sorted((lake / "runs" / "_delta_log").glob("*.json"))
    log[0].unlink()
    with pytest.raises(LakeError, match=rf"'runs' .*has lost _delta_log/{log[0].name}"):
        read(lake, "runs")


@pytest.mark.parametrize(
    "words",
    ["file file://{path} does not exist", "[FAILED_READ] I/O error reading {path}. It was",
     "No such file or directory: '{path}'", "Failed to open local file '{path}'. Detail: [errno"],
)  # fmt: skip
def test_the_words_of_any_reader_are_understood(words: str, whole: Path, tmp_path: Path) -> None:
    lake = tmp_path / "a lake"
    shutil.copytree(whole, lake)
    file = lose(lake / "states")
    with pytest.raises(LakeError, match=f"table 'states' .*has lost {file.name}"), explained():
        raise RuntimeError(words.format(path=file))
    # what no lost file explains goes on as it is
    for error in (KeyError("x"), RuntimeError(f"{lake}/states/other.json"), LakeError("no lake")):
        with pytest.raises(type(error)), explained():
            raise error
