"""Parquet files that tasks write by themselves, column by column, and one commit that takes them.

Spark writes tables row by row, at many times the cost. A part is written into its table's folder,
where nobody sees it until a commit names it; what a killed driver left there is never seen.
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
}


def arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type of a Spark SQL type name (scalars and arrays of scalars)."""
    if name.startswith("array<"):
        return pa.list_(arrow_type(name[6:-1]))
    return _ARROW[name]


def arrow_schema(table: Table) -> pa.Schema:
    """Return a table's columns as Arrow has them."""
    return pa.schema([(c.name, arrow_type(c.type)) for c in table.columns])


@dataclass(frozen=True)
class Part:
    """A file of a table: its name in the table's folder, its bytes, rows, and the rows' extremes.

    `least` and `most` are by column, for those that were asked for.
    """

    name: str
    size: int
    rows: int
    least: Mapping[str, Any]
    most: Mapping[str, Any]
    nulls: Mapping[str, int]

    def as_file(self) -> dict[str, Any]:
        """Return what `ampel_spark.lake.log` is told of a file."""
        return {"path": self.name, "size": self.size, "rows": self.rows, "least": self.least,
                "most": self.most, "nulls": self.nulls}  # fmt: skip


class PartWriter:
    """Writes one part, a table of rows at a time, each a row group.

    Parameters
    ----------
    folder : path
        The table's.
    schema : Arrow schema
    told : sequence of str
        Columns of numbers or short texts by whose extremes readers may pass the part over.
    """

    def __init__(self, folder: str | Path, schema: pa.Schema, told: Sequence[str]) -> None:
        self._path = Path(folder) / f"part-{uuid.uuid4()}.zstd.parquet"
        self._schema, self._told = schema, told
        self._rows = 0
        self._extremes: dict[str, list[Any]] = {name: [] for name in told}
        self._nulls = dict.fromkeys(told, 0)
        words = [f.name for f in schema if pa.types.is_string(f.type)]
        self._file = parquet.ParquetWriter(
            self._path, schema, compression="zstd", compression_level=1, use_dictionary=words
        )

    def write(self, rows: pa.Table) -> None:
        """Write rows as one row group."""
        self._rows += len(rows)
        for name in self._told:
            column = rows[name]
            both = pc.min_max(column).as_py()
            self._extremes[name] += [v for v in both.values() if v is not None and v == v]
            if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
                # Delta has NaN above all numbers, but deltalake takes none to be below NaN.
                self._extremes[name].append(math.inf)
            self._nulls[name] += column.null_count
        self._file.write_table(rows.select(self._schema.names).cast(self._schema))

    def close(self) -> Part:
        """Finish the file."""
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
    told: Sequence[str],
    group: int,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """Write the rows of a task as one part, where there are any.

    Parameters
    ----------
    folder, schema, told
        As for `PartWriter`.
    group : int
        Rows that are held before they become a row group.
    batches : iterable of Arrow batches
        With the columns of `schema`.

    Yields
    ------
    Arrow batch of `ampel_spark.lake.tasks.TOLD`
        The part.
    """
    writer: PartWriter | None = None
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= group:
            writer = writer or PartWriter(folder, schema, told)
            writer.write(pa.Table.from_batches(held))
            held = []
    if any(map(len, held)):
        writer = writer or PartWriter(folder, schema, told)
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
    """Add staged parts to a table with a key; rows whose key is there do not enter again.

    Nothing is looked at or written once more where nobody else wrote since the keys were looked
    for: the files are taken as they are, and stay in staging too.

    Parameters
    ----------
    lake, table
    parts : sequence of Part
        Files in `folder`; their rows are unique in the key.
    folder : str
        On the lake's file system.
    metadata : mapping
        Goes into the commit's user metadata as JSON.
    since : int or None
        Version of the table that held none of these keys; None where one may be there.
    replacing : str, optional
        As for `Lake.insert`.

    Returns
    -------
    int
        Version that holds the rows.
    bool
        Whether the files were taken as they are.
    """
    with lake.lock(table.name):
        if since is not None and lake.version(table.name) == since:
            for part in parts:
                os.link(Path(folder, part.name), Path(lake.path(table.name), part.name))
            return commit_parts(lake, table, parts, metadata), True
    rows = lake.spark.read.schema(table.schema()).parquet(*(f"{folder}/{p.name}" for p in parts))
    return lake.insert(table, rows, metadata, replacing), False


def commit_parts(
    lake: Lake, table: Table, parts: Iterable[Part], metadata: Mapping[str, Any]
) -> int:
    """Add parts to a table in one commit, which there is also without any; return its version.

    A log of fifty commits more than at its last checkpoint gets another one, as by Spark's commits.
    """
    lake.ensure(table)
    files = [part.as_file() for part in parts]
    version = add_files(lake.path(table.name), files, metadata)
    if version % CHECKPOINTS == 0:
        lake.checkpoint(table.name)
    return version
