"""What commits changed in a table, whoever made them: our own log, and deltalake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from ampel_spark.lake.changes import Changes, changes, files_at, notes
from ampel_spark.lake.lake import table_properties
from ampel_spark.lake.log import add_files, create, replace_files
from ampel_spark.lake.parts import PartWriter, arrow_schema
from ampel_spark.lake.tables import TABLES

POINTS = TABLES["datapoints"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    create(tmp_path, POINTS.schema().json(), POINTS.comment, table_properties(POINTS))
    return tmp_path


def part(table: Path, *stocks: int) -> dict[str, Any]:
    writer = PartWriter(table, arrow_schema(POINTS), POINTS.extremes)
    rows = [{"stock": stock, "jd": 2459000.5, "datapoint_id": stock} for stock in stocks]
    writer.write(pa.Table.from_pylist(rows, arrow_schema(POINTS)))
    return writer.close().as_file()


def rows(paths: tuple[str, ...]) -> list[int]:
    return sorted(s for path in paths for s in pq.read_table(path)["stock"].to_pylist())


def test_files_that_came_are_named_and_rewriting_is_no_change(table: Path) -> None:
    a, b, c = part(table, 1, 2), part(table, 3), part(table, 4)
    add_files(table, [a], {"chunk": "a"})
    add_files(table, [b], {"chunk": "b"})
    both = part(table, 1, 2, 3)
    replace_files(table, [both], [a["path"], b["path"]], 2, {})
    add_files(table, [c], {"chunk": "c"})
    found = changes(table, 1, 4)
    assert found is not None
    assert (rows(found.added), found.removed) == ([3, 4], ())
    assert changes(table, 2, 3) == Changes()
    assert not Changes()
    assert [note.get("chunk") for _, note in notes(table, 0)] == ["a", "b", None, "c"]
    assert [version for version, _ in notes(table, 3)] == [4]
    assert rows(tuple(files_at(table, 2))) == [1, 2, 3]
    assert sorted(Path(p).name for p in files_at(table, 3)) == [both["path"]]


def test_rows_that_go_are_known_by_the_files_before_and_after(table: Path) -> None:
    a = part(table, 1, 2)
    add_files(table, [a], {})
    kept = part(table, 2)
    replace_files(table, [kept], [a["path"]], 1, {}, changes=True)
    found = changes(table, 1, 2)
    assert found is not None
    assert (rows(found.added), rows(found.removed)) == ([2], [1, 2])
    # what came and went in between is no change at all
    found = changes(table, 0, 2)
    assert found is not None
    assert (rows(found.added), found.removed) == ([2], ())


def test_what_cannot_be_known_is_not_guessed(table: Path) -> None:
    a, b = part(table, 1), part(table, 2)
    add_files(table, [a], {})
    add_files(table, [b], {})
    assert changes(table, 2, 1) is None  # back in time
    (table / b["path"]).unlink()
    assert changes(table, 1, 2) is None
    assert changes(table, 0, 1) is not None
    (table / "_delta_log" / f"{1:020d}.json").unlink()
    assert changes(table, 0, 1) is None


def test_the_files_of_a_version_are_those_of_deltalake(table: Path) -> None:
    for stock in range(4):
        add_files(table, [part(table, stock)], {})
    for version in range(5):
        theirs = sorted(DeltaTable(str(table), version=version).file_uris())
        assert files_at(table, version) == theirs
