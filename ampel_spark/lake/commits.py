"""Commits: the one way in which rows enter a table, change in it, or leave it.

A writer looks at a table as it stands at version v, writes its parts into the table's folder, where
no reader sees them, and takes version v + 1 if it is still free. If another writer took it first,
the writer looks again. So writers need no lock, and of two that insert the same key one finds the
row of the other. Spark computes rows and writes parts, but commits nothing.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ampel_spark.lake.log import CHECKPOINTS, add_files, change_files
from ampel_spark.lake.parts import Part, PartWriter, arrow_schema, parts_of, write_part
from ampel_spark.lake.reading import dataset, open_table
from ampel_spark.store import place

if TYPE_CHECKING:
    import pyarrow.compute as pc
    from pyspark.sql import DataFrame

    from ampel_spark.lake.lake import Lake
    from ampel_spark.lake.tables import Table

__all__ = ["Change", "add_parts", "commit", "delete", "insert", "insert_parts", "replace",
           "restore", "update", "written"]  # fmt: skip

#: Rows of a row group.
_GROUP = 64_000

#: Columns of work: whether a row leaves its table, and the file that it is in.
_GOES, _FILE = "_goes", "_file"


@dataclass(frozen=True)
class Change:
    """What a writer wants to commit to the version that it looked at.

    Attributes
    ----------
    added : sequence of Part
        New files in the table's folder.
    removed : sequence of str
        Paths of files that leave the table.
    lasting : bool, optional
        Whether the new files stay where the commit is refused.
    """

    added: Sequence[Part] = ()
    removed: Sequence[str] = ()
    lasting: bool = False


def commit(
    lake: Lake,
    table: Table,
    look: Callable[[int], Change | None],
    metadata: Mapping[str, Any],
) -> int:
    """Commit what `look` makes of the newest version, and return the version that holds it.

    Parameters
    ----------
    lake : Lake
    table : Table
        It is made where it is absent.
    look : callable
        Takes a version, and returns the change to it, or None if there is nothing to change. It is
        called again, and what it wrote is removed, whenever another writer was faster.
    metadata : mapping
        The commit's user metadata, written as JSON.
    """
    lake.ensure(table)
    folder = place(lake.path(table.name))
    while True:
        version = lake.version(table.name)
        assert version is not None  # it was just ensured
        change = look(version)
        if change is None:
            return version
        files = _files(lake, table, change.added)
        if change_files(folder, files, change.removed, version, metadata):
            return _checkpointed(lake, table, version + 1)
        if not change.lasting:
            _discard(folder, change.added)


def _discard(folder: Path, parts: Iterable[Part]) -> None:
    for part in parts:
        (folder / part.name).unlink(missing_ok=True)


def add_parts(lake: Lake, table: Table, parts: Iterable[Part], metadata: Mapping[str, Any]) -> int:
    """Add files that lie in a table's folder, and return the version that holds them.

    There is a commit even without parts. The table is made where it is absent.
    """
    lake.ensure(table)
    files = _files(lake, table, parts)
    return _checkpointed(lake, table, add_files(lake.path(table.name), files, metadata))


def _files(lake: Lake, table: Table, parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Return parts as `ampel_spark.lake.log` takes them.

    A column that the table has in the lake and the parts lack is null in all their rows. That is
    noted where such notes are asked for: else readers take the column for known.
    """
    absent = lake.noted(table).difference(table.names)
    return [
        {**file, "nulls": {**dict.fromkeys(absent, file["rows"]), **file["nulls"]}}
        for file in (part.as_file() for part in parts)
    ]


def _checkpointed(lake: Lake, table: Table, version: int) -> int:
    """Return a new version; every `CHECKPOINTS` of them the log gets a checkpoint."""
    if version % CHECKPOINTS == 0:
        lake.checkpoint(table.name)
    return version


def written(lake: Lake, table: Table, rows: DataFrame | pa.Table) -> list[Part]:
    """Write rows as parts of a table, by tasks of Spark or, for an Arrow table, in this process."""
    return _written(lake, table, rows, arrow_schema(table))


def _written(lake: Lake, table: Table, rows: DataFrame | pa.Table, schema: pa.Schema) -> list[Part]:
    folder = lake.path(table.name)
    noted = [*dict.fromkeys((*table.extremes, *sorted(lake.noted(table) & {*schema.names})))]
    if isinstance(rows, pa.Table):
        if not len(rows):
            return []
        writer = PartWriter(folder, schema, noted)
        writer.write(rows)
        return [writer.close()]
    write = functools.partial(write_part, folder, schema, noted, _GROUP)
    return parts_of(rows.select(*schema.names), write)


def insert(
    lake: Lake,
    table: Table,
    rows: DataFrame | pa.Table,
    metadata: Mapping[str, Any],
    replacing: str | None = None,
) -> int:
    """Add those of `rows` whose key is not there yet, and return the version that holds them.

    Parameters
    ----------
    lake : Lake
    table : Table
        A table without a key takes all rows.
    rows : DataFrame or Arrow table
        With the table's columns; unique in the key. A DataFrame is read more than once: stage what
        is costly.
    metadata : mapping
        The commit's user metadata.
    replacing : str, optional
        SQL condition on a row there, ``t``, that gives way to a new one under its key; for
        DataFrames alone.
    """

    def look(version: int) -> Change | None:
        if isinstance(rows, pa.Table):
            new = _lacking(lake, table, rows, version)
            return Change(written(lake, table, new)) if len(new) else None
        return _inserted(lake, table, rows, version, replacing)

    return commit(lake, table, look, metadata)


def insert_parts(
    lake: Lake,
    table: Table,
    parts: Sequence[Part],
    metadata: Mapping[str, Any],
    since: int | None,
    replacing: str | None = None,
) -> tuple[int, bool]:
    """Add parts to a table with a key; a row whose key is present is not added again.

    If nobody wrote to the table since version `since`, the files are added as they are. Otherwise
    their rows are compared with the table and written again, and the files are removed.

    Parameters
    ----------
    lake, table
        The lake, and a table with a key.
    parts : sequence of Part
        Files in the table's folder; their rows are unique in the key.
    metadata : mapping
        The commit's user metadata.
    since : int or None
        A version of the table that held none of these keys; None if one may be present.
    replacing : str, optional
        As for `insert`.

    Returns
    -------
    int
        The version that holds the rows.
    bool
        True if the files were added as they are.
    """
    folder = place(lake.path(table.name))
    looked_at: list[int] = []

    def look(version: int) -> Change | None:
        looked_at.append(version)
        if version == since:
            return Change(parts, lasting=True)
        paths = [str(folder / part.name) for part in parts]
        rows = lake.spark.read.schema(table.schema()).parquet(*paths)
        return _inserted(lake, table, rows, version, replacing)

    made = commit(lake, table, look, metadata)
    kept = looked_at[-1] == since
    if not kept:
        _discard(folder, parts)
    return made, kept


def _inserted(
    lake: Lake, table: Table, rows: DataFrame, version: int, replacing: str | None
) -> Change | None:
    """Return what `insert` has to change in a version of a table."""
    if not table.key:
        return _added(written(lake, table, rows))
    there = lake.read(table.name, version)
    change = Change()
    if replacing is not None:
        marked = _marked_by_key(rows, table, replacing)
        change = _rewritten(lake, table, version, marked)
        if change.removed:
            there = _staying(marked(there))
    new = _joined(rows, there.select(*table.key), table, "left_anti")
    return _added([*change.added, *written(lake, table, new)], change.removed)


def _added(parts: Sequence[Part], removed: Sequence[str] = ()) -> Change | None:
    return Change(parts, removed) if parts or removed else None


def replace(
    lake: Lake,
    table: Table,
    rows: DataFrame | pa.Table,
    condition: str | pc.Expression,
    metadata: Mapping[str, Any],
) -> int:
    """Put `rows` in the place of those that meet a condition, and return the version.

    The condition is SQL where `rows` is a DataFrame, and Arrow's where it is an Arrow table.
    """

    def look(version: int) -> Change | None:
        if isinstance(condition, str):
            change = _rewritten(lake, table, version, _marked_by(condition))
        else:
            change = _rewritten_here(lake, table, version, condition)
        return _added([*change.added, *written(lake, table, rows)], change.removed)

    return commit(lake, table, look, metadata)


def update(
    lake: Lake,
    table: Table,
    rows: DataFrame,
    metadata: Mapping[str, Any],
    gone: str = "false",
    within: str | None = None,
) -> int:
    """Put `rows` in the place of those that have their keys, and return the version.

    Parameters
    ----------
    lake, table, metadata
        As for `insert`.
    rows : DataFrame
        Unique in the key. A row whose key is not there is left out.
    gone : str, optional
        SQL condition on `rows`: one that meets it takes the row there away.
    within : str, optional
        SQL condition that the rows there meet, so that no more files than needed are read.
    """

    def look(version: int) -> Change | None:
        change = _rewritten(lake, table, version, _marked_by_key(rows, table), within)
        if not change.removed:
            return None
        there = lake.read(table.name, version)
        there = there if within is None else there.where(within)
        new = _joined(rows, there.select(*table.key), table, "left_semi")
        new = new.where(f"NOT coalesce({gone}, false)")
        return _added([*change.added, *written(lake, table, new)], change.removed)

    return commit(lake, table, look, metadata)


def delete(lake: Lake, table: Table, condition: str, metadata: Mapping[str, Any]) -> int:
    """Remove the rows that meet a SQL condition, and return the version without them."""

    def look(version: int) -> Change | None:
        change = _rewritten(lake, table, version, _marked_by(condition))
        return _added(change.added, change.removed)

    return commit(lake, table, look, metadata)


def restore(lake: Lake, table: Table, version: int, metadata: Mapping[str, Any]) -> int:
    """Bring a table back to what it held at a version, by a new version, which is returned."""

    def look(newest: int) -> Change | None:
        now = {part.name for part in _parts(lake, table, newest)}
        then = {part.name: part for part in _parts(lake, table, version)}
        back = [part for name, part in then.items() if name not in now]
        return Change(back, sorted(now - then.keys()), lasting=True)

    return commit(lake, table, look, metadata)


def _parts(lake: Lake, table: Table, version: int) -> list[Part]:
    """Return the files of a version of a table, with what its log notes of them."""
    actions = pa.table(open_table(lake.root, table.name, version).get_add_actions(flatten=False))
    return [
        Part(row["path"], row["size_bytes"], row["num_records"], row.get("min") or {},
             row.get("max") or {}, row.get("null_count") or {})
        for row in actions.to_pylist()
    ]  # fmt: skip


def _lacking(lake: Lake, table: Table, rows: pa.Table, version: int) -> pa.Table:
    """Return the rows whose key a version of the table lacks."""
    if not table.key:
        return rows
    keys = list(table.key)
    there = {tuple(row.values()) for row in lake.arrow(table.name, keys, version).to_pylist()}
    mine = [tuple(row.values()) for row in rows.select(keys).to_pylist()]
    return rows.filter(pa.array([key not in there for key in mine], pa.bool_()))


def _rewritten_here(lake: Lake, table: Table, version: int, condition: pc.Expression) -> Change:
    """Return the files with rows that meet a condition, and parts of their other rows."""
    removed, stay = [], []
    data = dataset(lake.root, table.name, version)
    # All columns that the table has, whether `table` names them or not.
    for file in data.get_fragments(condition):
        rows = file.to_table(data.schema)
        left = rows.filter(~condition)
        if len(left) < len(rows):
            removed.append(Path(file.path).name)
            stay.append(left)
    parts = _written(lake, table, pa.concat_tables(stay), data.schema) if stay else []
    return Change(parts, removed)


def _rewritten(
    lake: Lake,
    table: Table,
    version: int,
    mark: Callable[[DataFrame], DataFrame],
    within: str | None = None,
) -> Change:
    """Return the files that hold rows which `mark` marks, and parts of their other rows."""
    from pyspark.sql import functions as f
    from pyspark.sql.pandas.types import to_arrow_schema

    # All columns that the table has, whether `table` names them or not.
    schema = lake.read(table.name, version).schema
    there = lake.read(table.name, version).withColumn(_FILE, f.col("_metadata.file_name"))
    there = there if within is None else there.where(within)
    found = mark(there).where(_GOES).select(_FILE).distinct().collect()
    removed = sorted(row[0] for row in found)
    if not removed:
        return Change()
    paths = [f"{lake.path(table.name)}/{name}" for name in removed]
    rows = _staying(mark(lake.spark.read.schema(schema).parquet(*paths)))
    return Change(_written(lake, table, rows, to_arrow_schema(schema)), removed)


def _staying(marked: DataFrame) -> DataFrame:
    return marked.where(f"NOT {_GOES}")


def _marked_by(condition: str) -> Callable[[DataFrame], DataFrame]:
    from pyspark.sql import functions as f

    return lambda rows: rows.withColumn(_GOES, f.expr(f"coalesce({condition}, false)"))


def _marked_by_key(
    rows: DataFrame, table: Table, condition: str = "true"
) -> Callable[[DataFrame], DataFrame]:
    """Mark the rows that have the key of one of `rows`, and meet a SQL condition on ``t``."""
    from pyspark.sql import functions as f

    keys = rows.select(*table.key).withColumn("_mine", f.expr("true"))

    def mark(there: DataFrame) -> DataFrame:
        joined = _joined(there.alias("t"), keys, table, "left")
        goes = f.expr(f"coalesce(_mine AND ({condition}), false)").alias(_GOES)
        return joined.select("t.*", goes)

    return mark


def _joined(rows: DataFrame, others: DataFrame, table: Table, how: str) -> DataFrame:
    """Join rows by the key of a table, in which null is a value like others."""
    same = [rows[k].eqNullSafe(others[k]) for k in table.key]
    return rows.join(others, reduce(operator.and_, same), how)
