"""Commits of a lake: keys stand once, versions are kept, metadata says who wrote."""

import json
import os
import threading
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from ampel_spark.errors import LakeError
from ampel_spark.lake.commits import insert, replace
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.reading import read
from ampel_spark.lake.runs import Counts, Run, record, utc_now
from ampel_spark.lake.tables import TABLES, Table, TableColumn

pytestmark = pytest.mark.spark

KEYED = Table(
    "keyed",
    "a row",
    (TableColumn("k", "int", "key"), TableColumn("v", "string", "value [mag]")),
    ("k",),
)


@pytest.fixture
def lake(spark: SparkSession, lake_path: Path) -> Lake:
    return Lake(spark, lake_path)


def rows(lake: Lake, *pairs: tuple[int, str]):
    return lake.spark.createDataFrame(list(pairs), "k int, v string")


def content(lake: Lake, version: int | None = None) -> dict[int, str]:
    found = lake.read("keyed", version).collect()
    assert len({r["k"] for r in found}) == len(found)
    return {r["k"]: r["v"] for r in found}


def test_a_key_enters_once_and_the_first_value_stays(lake: Lake) -> None:
    first = insert(lake, KEYED, rows(lake, (1, "a"), (2, "b")), {"run_id": "x"})
    second = insert(lake, KEYED, rows(lake, (2, "other"), (3, "c")), {"run_id": "y"})
    assert content(lake) == {1: "a", 2: "b", 3: "c"}
    assert content(lake, first) == {1: "a", 2: "b"}
    assert second == first + 1
    history = DeltaTable(lake.path("keyed")).history()
    assert json.loads(history[0]["userMetadata"]) == {"run_id": "y"}


def test_rows_that_meet_a_condition_give_way(lake: Lake) -> None:
    insert(lake, KEYED, rows(lake, (1, "failed"), (2, "b")), {})
    insert(
        lake, KEYED, rows(lake, (1, "a"), (2, "other"), (3, "c")), {}, replacing="t.v = 'failed'"
    )
    assert content(lake) == {1: "a", 2: "b", 3: "c"}
    insert(lake, KEYED, rows(lake, (1, "again")), {}, replacing="t.v = 'failed'")
    assert content(lake)[1] == "a"


def test_two_writers_at_once_add_nothing_twice(lake: Lake) -> None:
    lake.ensure(KEYED)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            insert(lake, KEYED, rows(lake, *((i, "x") for i in range(20))), {})
        except BaseException as error:  # handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert content(lake) == dict.fromkeys(range(20), "x")


def test_tables_are_made_for_time_travel_and_say_what_their_columns_mean(lake: Lake) -> None:
    for table in TABLES.values():
        lake.ensure(table)
        delta = DeltaTable(lake.path(table.name))
        assert (
            delta.metadata().configuration["delta.deletedFileRetentionDuration"]
            == "interval 36500 days"
        )
        assert delta.metadata().configuration["delta.logRetentionDuration"] == "interval 36500 days"
        assert delta.metadata().description == table.comment
        assert all(field.metadata.get("comment") for field in delta.schema().fields)


def test_rows_of_a_range_have_the_columns_asked_for_where_there_are_none_too(lake: Lake) -> None:
    insert(lake, KEYED, rows(lake, (1, "a"), (5, "b")), {})
    assert lake.between(KEYED, ["v"], "k", 4, 9).collect() == [("b",)]
    nothing = lake.between(KEYED, ["v"], "k", 7, 9)
    assert (nothing.columns, nothing.count()) == (["v"], 0)


def aged(lake: Lake, name: str, days: float) -> None:
    """Let all files of a table be that old, then clean up as Delta does by itself, and VACUUM."""
    then = time.time() - days * 86400
    for file in Path(lake.path(name)).rglob("*"):
        if file.is_file():
            os.utime(file, (then, then))
    jvm = lake.spark._jvm
    assert jvm is not None
    jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    log = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(
        lake.spark._jsparkSession, lake.path(name)
    )
    log.checkpoint()  # upon which expired commits go
    lake.spark.sql(f"VACUUM delta.`{lake.path(name)}`").collect()


@pytest.mark.parametrize("retention", ["as made", "Delta's own"])
def test_an_old_version_reads_when_its_log_has_aged(lake: Lake, retention: str) -> None:
    old = insert(lake, KEYED, rows(lake, (1, "a")), {})
    for value in ("b", "c"):
        replace(lake, KEYED, rows(lake, (1, value)), "k = 1", {})
    if retention != "as made":  # that the test can fail
        lake.spark.sql(
            f"ALTER TABLE delta.`{lake.path('keyed')}` UNSET TBLPROPERTIES "
            "('delta.deletedFileRetentionDuration', 'delta.logRetentionDuration')"
        )
    aged(lake, "keyed", 400)
    assert content(lake) == {1: "c"}
    if retention == "as made":
        assert content(lake, old) == {1: "a"}
        assert read(lake.root, "keyed", version=old).to_pylist() == [{"k": 1, "v": "a"}]
    else:
        with pytest.raises(LakeError, match="no version 1 of table 'keyed': it goes from 4 to 6"):
            lake.read("keyed", old)


def test_a_table_takes_new_columns_and_refuses_another_type(lake: Lake) -> None:
    insert(lake, KEYED, rows(lake, (1, "a")), {})
    wider = Table(
        "keyed", "a row", (*KEYED.columns, TableColumn("w", "double", "it's new [d]")), ("k",)
    )
    insert(
        lake, wider, lake.spark.createDataFrame([(2, "b", 1.5)], "k int, v string, w double"), {}
    )
    assert [(r["k"], r["w"]) for r in lake.read("keyed").orderBy("k").collect()] == [
        (1, None),
        (2, 1.5),
    ]
    other = Table("keyed", "a row", (KEYED.columns[0], TableColumn("v", "double", "value")), ("k",))
    with pytest.raises(LakeError, match="column v is string in the lake and double now"):
        lake.ensure(other)


def test_the_meaning_of_a_new_column_is_kept_as_it_is_written(lake: Lake) -> None:
    insert(lake, KEYED, rows(lake, (1, "a")), {})
    meaning = r"name == 'it\'s', as \selection\ asks for it"
    lake.ensure(
        Table("keyed", "a row", (*KEYED.columns, TableColumn("w", "double", meaning)), ("k",))
    )
    field = DeltaTable(lake.path("keyed")).schema().fields[-1]
    assert (field.name, field.metadata["comment"]) == ("w", meaning)


def test_a_table_that_is_not_there_is_named(lake: Lake) -> None:
    with pytest.raises(LakeError, match="has no table 'nothing' yet"):
        lake.read("nothing")
    assert lake.version("nothing") is None


def test_staging_goes_at_the_end_even_of_a_failure(lake: Lake) -> None:
    folders: list[Path] = []

    def fail() -> None:
        with lake.staging("run") as folder:
            folders.append(Path(folder))
            assert folders[0].is_dir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not folders[0].exists()


def test_a_run_is_one_row_from_start_to_end(lake: Lake) -> None:
    run = Run("r1", "job", "hash", "text: 1", "job.yml", {}, "raw", utc_now())
    record(lake, run)
    record(lake, Run("r2", "job", "hash", "text", "job.yml", {}, "raw", utc_now()))
    record(lake, run.finished("good", counts=Counts(t0={"alerts": 3})))
    found = {r["run_id"]: r for r in lake.read("runs").collect()}
    assert set(found) == {"r1", "r2"}
    assert (found["r1"]["status"], found["r2"]["status"]) == ("good", "running")
    assert json.loads(found["r1"]["counts"]) == {"t0": {"alerts": 3}}
    assert found["r1"]["ended"] >= found["r1"]["started"]
