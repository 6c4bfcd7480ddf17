"""Parts: Parquet files that tasks write themselves, column by column, and that one commit adds.

Spark writes tables row by row, which costs many times as much. A part lies in its table's folder,
but readers do not see it before a commit names it; parts of a killed driver are never seen.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet

from ampel_spark.lake.log import CHECKPOINTS, add_files
from ampel_spark.lake.tasks import tell

if TYPE_CHECKING:
    from ampel_spark.lake.lake import Lake
    from ampel_spark.lake.tables import Table

__all__ = [
    "Part",
    "PartWriter",
    "append_rows",
    "arrow_schema",
    "arrow_type",
    "commit_parts",
    "insert_parts",
    "write_part",
]

_ARROW = {
    "binary": pa.binary(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


def arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type of a Spark SQL type, as ``bigint`` or ``array<double>``."""
    if name.startswith("array<"):
        return pa.list_(arrow_type(name[6:-1]))
    return _ARROW[name]


def arrow_schema(table: Table) -> pa.Schema:
    """Return the Arrow schema of a table."""
    return pa.schema([(c.name, arrow_type(c.type)) for c in table.columns])


@dataclass(frozen=True)
class Part:
    """A file of a table.

    Attributes
    ----------
    name : str
        The file's name in the table's folder.
    size, rows : int
        The file's size in bytes, and its number of rows.
    least, most, nulls : mapping of str
        The smallest and largest value, and the number of nulls, of the columns with statistics.
    """

    name: str
    size: int
    rows: int
    least: Mapping[str, Any]
    most: Mapping[str, Any]
    nulls: Mapping[str, int]

    def as_file(self) -> dict[str, Any]:
        """Return the file as `ampel_spark.lake.log` takes it."""
        return {"path": self.name, "size": self.size, "rows": self.rows, "least": self.least,
                "most": self.most, "nulls": self.nulls}  # fmt: skip


class PartWriter:
    """Writer of one part; each table of rows becomes a row group.

    Parameters
    ----------
    folder : path
        The table's folder.
    schema : Arrow schema
        The part's columns.
    noted : sequence of str
        The columns with statistics, by which readers can skip the part: numbers or short texts.
    """

    def __init__(self, folder: str | Path, schema: pa.Schema, noted: Sequence[str]) -> None:
        self._path = Path(folder) / f"part-{uuid.uuid4()}.zstd.parquet"
        self._schema, self._noted = schema, noted
        self._rows = 0
        self._extremes: dict[str, list[Any]] = {name: [] for name in noted}
        self._nulls = dict.fromkeys(noted, 0)
        words = [f.name for f in schema if pa.types.is_string(f.type)]
        self._file = parquet.ParquetWriter(
            self._path, schema, compression="zstd", compression_level=1, use_dictionary=words
        )

    def write(self, rows: pa.Table) -> None:
        """Write rows as one row group."""
        self._rows += len(rows)
        for name in self._noted:
            column = rows[name]
            both = pc.min_max(column).as_py()
            self._extremes[name] += [v for v in both.values() if v is not None and v == v]
            if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
                # In Delta, NaN is above all numbers; deltalake compares NaN with none of them.
                self._extremes[name].append(math.inf)
            self._nulls[name] += column.null_count
        self._file.write_table(rows.select(self._schema.names).cast(self._schema))

    def close(self) -> Part:
        """Finish the file, and return its part."""
        self._file.close()
        known = {name: values for name, values in self._extremes.items() if values}
        return Part(
            self._path.name,
            self._path.stat().st_size,
            self._rows,
            {name: min(values) for name, values in known.items()},
            {name: max(values) for name, values in known.items()},
            self._nulls,
        )


def write_part(
    folder: str | Path,
    schema: pa.Schema,
    noted: Sequence[str],
    group: int,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """Write the rows of a task as one part; without rows, write nothing.

    Parameters
    ----------
    folder, schema, noted
        As for `PartWriter`.
    group : int
        The smallest number of rows of a row group, except for the last one.
    batches : iterable of Arrow batches
        Rows with the columns of `schema`.

    Yields
    ------
    Arrow batch of `ampel_spark.lake.tasks.TOLD`
        The report of the part.
    """
    writer: PartWriter | None = None
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= group:
            writer = writer or PartWriter(folder, schema, noted)
            writer.write(pa.Table.from_batches(held))
            held = []
    if any(map(len, held)):
        writer = writer or PartWriter(folder, schema, noted)
        writer.write(pa.Table.from_batches(held))
    if writer is not None:
        yield tell(asdict(writer.close()))


def insert_parts(
    lake: Lake,
    table: Table,
    parts: Sequence[Part],
    folder: str,
    metadata: Mapping[str, Any],
    since: int | None,
    replacing: str | None = None,
) -> tuple[int, bool]:
    """Add staged parts to a table with a key; a row whose key is present is not added again.

    If nobody wrote to the table since version `since`, the files are added as they are, by a link.
    Otherwise their rows are compared with the table and written again.

    Parameters
    ----------
    lake, table
        The lake, and a table with a key.
    parts : sequence of Part
        Files in `folder`; their rows are unique in the key.
    folder : str
        A staging folder on the lake's file system.
    metadata : mapping
        The commit's user metadata, written as JSON.
    since : int or None
        A version of the table that held none of these keys; None if one may be present.
    replacing : str, optional
        As for `Lake.insert`.

    Returns
    -------
    int
        The version that holds the rows.
    bool
        True if the files were added as they are.
    """
    with lake.lock(table.name):
        if since is not None and lake.version(table.name) == since:
            for part in parts:
                os.link(Path(folder, part.name), Path(lake.path(table.name), part.name))
            return commit_parts(lake, table, parts, metadata), True
    rows = lake.spark.read.schema(table.schema()).parquet(*(f"{folder}/{p.name}" for p in parts))
    return lake.insert(table, rows, metadata, replacing), False


def append_rows(lake: Lake, table: Table, rows: pa.Table, metadata: Mapping[str, Any]) -> int:
    """Add rows that the driver holds to a table in one commit; return its version.

    Parameters
    ----------
    lake, table
        The lake, and the table.
    rows : Arrow table
        With the table's columns.
    metadata : mapping
        The commit's user metadata, written as JSON.
    """
    lake.ensure(table)
    writer = PartWriter(lake.path(table.name), arrow_schema(table), table.extremes)
    writer.write(rows)
    with lake.lock(table.name):
        return commit_parts(lake, table, [writer.close()], metadata)


def commit_parts(
    lake: Lake, table: Table, parts: Iterable[Part], metadata: Mapping[str, Any]
) -> int:
    """Add parts to a table in one commit, which is made even without parts; return its version.

    The parts are files in the table's folder; the table is created if it is absent. The metadata
    become the commit's user metadata, as JSON. Every `CHECKPOINTS` commits, the log gets a
    checkpoint, as it does by Spark.
    """
    lake.ensure(table)
    files = [part.as_file() for part in parts]
    version = add_files(lake.path(table.name), files, metadata)
    if version % CHECKPOINTS == 0:
        lake.checkpoint(table.name)
    return version
