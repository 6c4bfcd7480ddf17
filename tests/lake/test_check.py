"""Lakes that lost something, or in which something changed: found before anything is computed."""

from __future__ import annotations

import datetime
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampel_spark.archive.committing.chunks import CHUNK_TABLES
from ampel_spark.archive.reading.ztf import alerts_table
from ampel_spark.cli import main
from ampel_spark.errors import LakeError
from ampel_spark.lake.check import check
from ampel_spark.lake.commits import add_parts, insert, written
from ampel_spark.lake.known import HASHES, check_known, hashes
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.log import PREVIOUS, commit_path, newest_version
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.pins import pin
from ampel_spark.lake.reading import read
from ampel_spark.lake.runs import Counts, Run, RunInputs, record
from ampel_spark.lake.tables import TABLES, Table, TableColumn, result_table

RUN = "small-20240101T000000-aaaa"
RESULTS = result_table("fit", [TableColumn("x1", "double", "stretch")])
NOW = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


def rows_of(table: Table, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, arrow_schema(table))


def state_id(stock: int) -> str:
    return f"{stock:032x}"


def ingest(lake: Lake, night: int) -> None:
    """Commit a night of two alerts as the ingest does, in numbers that mean nothing."""
    stocks = [10 * night, 10 * night + 1]
    file, info = f"night{night}.tar", {"chunk": f"c{night}", "run_id": "ingest"}
    alerts = [
        {"survey": "ztf", "stock": s, "name": f"ZTF{s}", "alert_id": s, "jd": 2458800.5 + night,
         "ra": 1.0 * s, "dec": 2.0, "file": file, "datapoint_ids": [s], "run_id": "ingest"}
        for s in stocks
    ]  # fmt: skip
    points = [
        {"survey": "ztf", "stock": s, "datapoint_id": s, "revision": 0, "jd": 2458800.5 + night,
         "mag": 18.0 + 0.001 * s, "run_id": "ingest"}
        for s in stocks
    ]  # fmt: skip
    for table, rows in (
        (TABLES["sightings"], []),
        (TABLES["datapoints"], points),
        (alerts_table(), alerts),
        (TABLES["quarantine"], []),
    ):
        lake.ensure(table)
        add_parts(lake, table, written(lake, table, rows_of(table, rows)), info)
    numbers = {name: lake.version(name) or 0 for name in CHUNK_TABLES}
    marker = {
        "path": file, "sha256": file, "survey": "ztf", "bytes": 1, "packets": 2, "stored": 2,
        "duplicate": 0, "quarantined": 0, "broken": False, "chunk": f"c{night}",
        "run_id": "ingest", **{f"{name}_version": v for name, v in numbers.items()},
    }  # fmt: skip
    about = {**info, HASHES: hashes(lake.root, numbers)}
    insert(lake, TABLES["archive_files"], rows_of(TABLES["archive_files"], [marker]), about)


def run(lake: Lake, stocks: list[int]) -> None:
    """Record a run with a state and a result for each object."""
    version = lake.version("datapoints")
    read_in = {name: lake.version(name) or 0 for name in ("alerts", "datapoints", "archive_files")}
    pin(lake, RUN, read_in)
    states = [
        {"state_id": state_id(s), "survey": "ztf", "stock": s, "name": f"ZTF{s}",
         "datapoint_ids": [s], "run_id": RUN}
        for s in stocks
    ]  # fmt: skip
    links = [
        {"channel": "SN", "stock": s, "state_id": state_id(s), "datapoints_version": version,
         "run_id": RUN}
        for s in stocks
    ]  # fmt: skip
    results = [
        {"state_id": state_id(s), "stock": s, "name": f"ZTF{s}", "trace_id": "t", "input_hash": "",
         "status": 0, "run_id": RUN, "x1": 0.5 * s}
        for s in stocks
    ]  # fmt: skip
    outputs = {}
    for table, rows in (
        (TABLES["states"], states), (TABLES["state_channels"], links), (RESULTS, results)
    ):  # fmt: skip
        outputs[table.name] = insert(lake, table, rows_of(table, rows), {"run_id": RUN})
    made = Run(RUN, "small", "h", "name: small\n", "small.yml", {}, "raw", NOW, counts=Counts())
    record(lake, made.finished("good", inputs=RunInputs(read_in), outputs=outputs))


def small_lake(root: Path) -> Path:
    """Make a lake of two nights and a run, without Spark."""
    lake = Lake(None, root)
    ingest(lake, 1)
    ingest(lake, 2)
    run(lake, [10, 11, 20, 21])
    return root


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_lake(tmp_path_factory.mktemp("good") / "lake")


@pytest.fixture
def lake(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "lake"))


def lose(lake: Path, name: str) -> Path:
    """Take the newest commit of a table away, as a copy that broke off does."""
    version = newest_version(lake / name)
    assert version is not None
    commit = commit_path(lake / name, version)
    commit.unlink()
    return commit


def test_a_good_lake_is_good(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_known(lake)
    assert check(lake) == []
    assert main(["maintain", "--check", "--lake", str(lake)]) == 0
    assert capsys.readouterr().out.endswith("good\n")
    assert main(["maintain", "--check", "--fast", "--lake", str(lake)]) == 0


def test_every_commit_notes_the_one_before_and_every_file_its_hash(lake: Path) -> None:
    for name in ("alerts", "t2_fit", "runs"):
        last = newest_version(lake / name)
        assert last
        lines = commit_path(lake / name, last).read_text().splitlines()
        actions = [json.loads(line) for line in lines]
        assert PREVIOUS in actions[0]["commitInfo"]
        assert all(a["add"]["tags"]["blake2b"] for a in actions if "add" in a)


@pytest.mark.parametrize(
    "name", ["datapoints", "alerts", "sightings", "quarantine", "archive_files", "t2_fit", "states"]
)
def test_a_table_that_lost_its_newest_commit_is_refused(
    name: str, lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lose(lake, name)
    with pytest.raises(LakeError, match=rf"'{name}'.*its last commits are lost.*copy .* again"):
        check_known(lake)
    for words in (["--fast"], []):
        assert main(["maintain", "--check", *words, "--lake", str(lake)]) == 1
        out = capsys.readouterr().out
        assert f"{name}, since version" in out
        assert "its last commits are lost" in out


def test_a_number_that_was_taken_again_is_seen(lake: Path) -> None:
    for name in ("datapoints", "t2_fit"):
        lose(lake, name)
    there = Lake(None, lake)
    other = {"survey": "ztf", "stock": 30, "datapoint_id": 30, "revision": 0, "run_id": "other"}
    insert(there, TABLES["datapoints"], rows_of(TABLES["datapoints"], [other]), {})
    result = {"state_id": state_id(10), "trace_id": "u", "input_hash": "", "run_id": RUN}
    insert(there, RESULTS, rows_of(RESULTS, [result]), {})
    with pytest.raises(LakeError, match=r"table 'datapoints' .* another version 2 than .* names"):
        check_known(lake)
    found = {f.table: f.what for f in check(lake)}
    assert "their numbers taken again" in found["datapoints"]
    assert "their numbers taken again" in found["t2_fit"]


def test_a_results_table_that_was_moved_away_is_no_fault(lake: Path) -> None:
    shutil.rmtree(lake / "t2_fit")
    check_known(lake)
    shutil.rmtree(lake / "datapoints")
    with pytest.raises(LakeError, match=r"table 'datapoints' .* is not there"):
        check_known(lake)


def test_a_lost_record_is_found_by_the_rows_of_its_run(lake: Path) -> None:
    lose(lake, "runs")
    assert any("runs without a record" in f.what for f in check(lake))


def test_rows_that_do_not_fit_each_other_are_found(lake: Path) -> None:
    there = Lake(None, lake)
    twice = read(lake, "t2_fit").slice(0, 1)
    add_parts(there, RESULTS, written(there, RESULTS, twice), {})
    lost = {"state_id": "f" * 32, "trace_id": "t", "input_hash": "", "run_id": RUN}
    insert(there, RESULTS, rows_of(RESULTS, [lost]), {})
    state = {"state_id": "e" * 32, "stock": 99, "datapoint_ids": [99], "run_id": RUN}
    insert(there, TABLES["states"], rows_of(TABLES["states"], [state]), {})
    alert = {"survey": "ztf", "stock": 1, "alert_id": 1, "file": "night1.tar", "run_id": "x"}
    table = alerts_table()
    add_parts(there, table, written(there, table, rows_of(table, [alert])), {})
    found = {(f.table, f.what.split(", first")[0]) for f in check(lake)}
    assert ("t2_fit", "1 keys stand more than once") in found
    assert ("states", "it has 1 states that table states lacks") in found
    assert (
        "datapoints", "1 states have datapoints that are in no version of datapoints"
    ) in found  # fmt: skip


def data_files(lake: Path) -> list[Path]:
    return sorted(p for p in lake.rglob("*.parquet") if "_delta_log" not in p.parts)


def values_of(lake: Path) -> dict[str, Any]:
    names = sorted(log.parent.name for log in lake.glob("*/_delta_log"))
    return {name: read(lake, name).to_pylist() for name in names}


def flips(lake: Path, count: int, seed: int) -> Iterator[tuple[Path, bytes]]:
    """Flip one bit of one file after the other, and put each back; yield file and old content."""
    dice = random.Random(seed)
    files = [*data_files(lake), *sorted(lake.glob("*/_delta_log/*.json"))]
    for _ in range(count):
        path = dice.choice(files)
        data = bytearray(before := path.read_bytes())
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        yield path, before
        path.write_bytes(before)


def test_a_flipped_bit_is_found_by_the_check_and_never_read_as_another_value(lake: Path) -> None:
    truth = values_of(lake)
    for path, _ in flips(lake, 12, 1):
        found = check(lake)
        assert found, path
        if path.suffix == ".parquet":
            try:
                values = values_of(lake)
            except Exception:  # which it is, is said elsewhere
                continue
            assert values == truth, path


@pytest.mark.parametrize("damage", ["cut", "emptied", "removed"])
def test_a_damaged_file_is_named(damage: str, lake: Path) -> None:
    (path, *_) = (lake / "alerts").glob("*.parquet")
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 100 if damage == "cut" else 0])
    (found, *_) = [f for f in check(lake, ["alerts"]) if path.name in f.what]
    assert found.table == "alerts"
    assert "is not there" in found.what or "bytes, and" in found.what


def test_pages_have_sums_that_readers_verify(lake: Path) -> None:
    (path, *_) = sorted((lake / "datapoints").glob("*.parquet"))
    column = (
        pq.read_metadata(path)
        .row_group(0)
        .column(arrow_schema(TABLES["datapoints"]).get_field_index("mag"))
    )
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"CRC|checksum|Corrupt|decompress"):
        read(lake, "datapoints")


def test_what_is_asked_for_has_to_be_there(lake: Path) -> None:
    with pytest.raises(LakeError, match="has no table 'alertz'; did you mean 'alerts'"):
        check(lake, ["alertz"])
