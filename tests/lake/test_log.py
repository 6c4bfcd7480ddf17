"""Commits that are written without Spark are commits as Spark's are."""

from __future__ import annotations

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from ampel_spark.errors import LakeError
from ampel_spark.lake.commits import add_parts, delete
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.log import add_files, create, newest_version, replace_files
from ampel_spark.lake.parts import Part, PartWriter, arrow_schema
from ampel_spark.lake.tables import TABLES

TABLE = TABLES["quarantine"]


def part(lake: Lake, member: str) -> Part:
    schema = arrow_schema(TABLE)
    writer = PartWriter(lake.path(TABLE.name), schema, ())
    row = dict.fromkeys(schema.names, "x") | {"member": member}
    writer.write(pa.Table.from_pylist([row], schema))
    return writer.close()


@pytest.mark.spark
def test_parts_committed_at_once_are_all_there_for_every_reader(
    spark: SparkSession, lake_path: Path
) -> None:
    lake = Lake(spark, lake_path)
    lake.ensure(TABLE)
    parts = [part(lake, str(i)) for i in range(52)]
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda p: add_parts(lake, TABLE, [p], {"run_id": "r"}), parts))
    assert sorted(versions) == list(range(1, 53))
    assert lake.version(TABLE.name) == DeltaTable(lake.path(TABLE.name)).version() == 52
    members = sorted(str(i) for i in range(52))
    assert sorted(r["member"] for r in lake.read(TABLE.name).collect()) == members
    assert sorted(lake.arrow(TABLE.name)["member"].to_pylist()) == members
    # as of a version, and by a log that has a checkpoint
    assert lake.read(TABLE.name, 7).count() == 7
    log = lake.root / TABLE.name / "_delta_log"
    (checkpoint,) = log.glob("*.checkpoint*.parquet")
    assert 50 <= int(checkpoint.name[:20]) <= 52
    # rows are deleted after them, and all of them tell of their run
    delete(lake, TABLE, "member = '3'", {"run_id": "s"})
    assert [told["run_id"] for told in lake.commits(TABLE.name, 50)] == ["s", "r", "r"]
    times = [
        json.loads(path.read_text().splitlines()[0])["commitInfo"]["inCommitTimestamp"]
        for path in sorted(log.glob("*.json"))
    ]
    assert times == sorted(set(times))
    assert add_parts(lake, TABLE, [], {"run_id": "none"}) == 54
    assert lake.read(TABLE.name).count() == 51


def test_a_folder_without_a_log_has_no_version_and_takes_no_files(tmp_path: Path) -> None:
    assert newest_version(tmp_path) is None
    (tmp_path / "_delta_log").mkdir()
    assert newest_version(tmp_path) is None
    with pytest.raises(FileNotFoundError, match="is no Delta table"):
        add_files(tmp_path, [], {})
    assert list((tmp_path / "_delta_log").iterdir()) == []


def test_a_file_system_without_hard_links_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    with pytest.raises(LakeError, match="is on a file system without hard links"):
        create(tmp_path, "{}", "a row", {})
    assert list((tmp_path / "_delta_log").iterdir()) == []


def test_a_link_that_was_made_and_then_reported_as_there_already_is_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def twice(source: Path, target: Path) -> None:
        real(source, target)
        real(source, target)

    monkeypatch.setattr("os.link", twice)
    properties = {"delta.enableInCommitTimestamps": "true"}
    assert create(tmp_path, "{}", "a row", properties)
    file = {"path": "a.parquet", "size": 1, "rows": 1, "least": {}, "most": {}, "nulls": {}}
    assert add_files(tmp_path, [file], {}) == 1
    assert newest_version(tmp_path) == 1
    assert not create(tmp_path, "{}", "a row", properties)


def test_files_that_are_put_together_take_no_place_of_a_version_that_came_meanwhile(
    tmp_path: Path,
) -> None:
    schema = '{"type":"struct","fields":[{"name":"a","type":"long","nullable":true,"metadata":{}}]}'
    assert create(tmp_path, schema, "a row", {"delta.enableInCommitTimestamps": "true"})
    file = {"path": "a.parquet", "size": 1, "rows": 1, "least": {}, "most": {}, "nulls": {}}
    first = add_files(tmp_path, [file], {})
    add_files(tmp_path, [file | {"path": "b.parquet"}], {})
    new = [file | {"path": "c.parquet"}]
    with pytest.raises(LakeError, match="was written to while its files were put together"):
        replace_files(tmp_path, new, ["a.parquet"], first, {}, changes=True)
    assert newest_version(tmp_path) == first + 1
    # a file that was only added meanwhile stays beside those that are put together
    assert replace_files(tmp_path, new, ["a.parquet"], first, {}) == first + 2
    with pytest.raises(LakeError, match="was written to while its files were put together"):
        replace_files(tmp_path, new, ["a.parquet"], first + 1, {})
    again = [file | {"path": "d.parquet", "rows": 2}]
    version = replace_files(tmp_path, again, ["b.parquet", "c.parquet"], first + 2, {})
    table = DeltaTable(tmp_path)
    assert (version, table.version()) == (first + 3, first + 3)
    assert [Path(uri).name for uri in table.file_uris()] == ["d.parquet"]
