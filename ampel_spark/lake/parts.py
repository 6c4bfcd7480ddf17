"""Parts: Parquet files that tasks write themselves, column by column, and that one commit adds.

Spark writes tables row by row, which costs many times as much. A part lies in its table's folder,
but readers do not see it before a commit names it; parts of a killed driver are never seen.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet

from ampel_spark.lake.tables import struct_fields
from ampel_spark.lake.tasks import TOLD, Work, tell
from ampel_spark.store import place

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from ampel_spark.lake.tables import Table

__all__ = [
    "HashedFile",
    "Part",
    "PartWriter",
    "arrow_schema",
    "arrow_type",
    "parts_of",
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
    "timestamp": pa.timestamp("us", "UTC"),
}

#: Longest text among statistics: of a longer one they have the beginning.
_LONGEST = 32


def arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type of a Spark SQL type, as ``bigint``, ``array<double>`` or a struct."""
    if name.startswith("array<"):
        return pa.list_(arrow_type(name[6:-1]))
    if name.startswith("struct<"):
        return pa.struct([(f, arrow_type(kind)) for f, kind in struct_fields(name)])
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
    digest : str
        Hash of the file, by which `ampel_spark.lake.check` finds what changed in it.
    """

    name: str
    size: int
    rows: int
    least: Mapping[str, Any]
    most: Mapping[str, Any]
    nulls: Mapping[str, int]
    digest: str = ""

    def as_file(self) -> dict[str, Any]:
        """Return the file as `ampel_spark.lake.log` takes it."""
        return {"path": self.name, "size": self.size, "rows": self.rows, "least": self.least,
                "most": self.most, "nulls": self.nulls, "digest": self.digest}  # fmt: skip


class HashedFile(io.RawIOBase):
    """A file that is written from its begin to its end, and hashed on the way.

    Parameters
    ----------
    path : Path
        Where it is to be.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("wb")
        #: Bytes written.
        self.size = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hash.update(data)
        written = self._stream.write(data)
        self.size += written
        return written

    def close(self) -> None:
        self._stream.close()
        super().close()

    def hexdigest(self) -> str:
        """Return the hash of what was written."""
        return self._hash.hexdigest()


class PartWriter:
    """Writer of one part; each table of rows becomes a row group.

    Parameters
    ----------
    folder : path
        The table's folder.
    schema : Arrow schema
        The part's columns.
    noted : sequence of str
        The columns with statistics, by which readers can skip the part: numbers, texts or times.
    """

    def __init__(self, folder: str | Path, schema: pa.Schema, noted: Sequence[str]) -> None:
        self._path = place(folder) / f"part-{uuid.uuid4()}.zstd.parquet"
        self._schema, self._noted = schema, noted
        self._rows = 0
        self._extremes: dict[str, list[Any]] = {name: [] for name in noted}
        self._nulls = dict.fromkeys(noted, 0)
        words = [f.name for f in schema if pa.types.is_string(f.type)]
        plain = [f.name for f in schema if not pa.types.is_struct(f.type)]
        self._sink = HashedFile(self._path)
        # Sums of pages are verified whenever these are read, the hash of the file when it is asked.
        self._file = parquet.ParquetWriter(
            self._sink, schema, compression="zstd", compression_level=1, use_dictionary=words,
            write_statistics=plain, write_page_checksum=True,
        )  # fmt: skip

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
        self._sink.close()
        known = {name: values for name, values in self._extremes.items() if values}
        return Part(
            self._path.name,
            self._sink.size,
            self._rows,
            {name: _below(min(values)) for name, values in known.items()},
            {name: _above(max(values)) for name, values in known.items()},
            self._nulls,
            self._sink.hexdigest(),
        )


def _below(value: Any) -> Any:
    """Return a bound that statistics can hold, and that is not above `value`."""
    if isinstance(value, str):
        return value[:_LONGEST]
    return _milliseconds(value) if isinstance(value, datetime.datetime) else value


def _above(value: Any) -> Any:
    """Return a bound that statistics can hold, and that is not below `value`."""
    if isinstance(value, str) and len(value) > _LONGEST:
        return value[:_LONGEST] + chr(0x10FFFF)
    if isinstance(value, datetime.datetime):
        # Delta notes milliseconds
        return _milliseconds(value + datetime.timedelta(microseconds=-value.microsecond % 1000))
    return value


def _milliseconds(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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


def parts_of(rows: DataFrame, write: Work) -> list[Part]:
    """Return the parts that tasks of Spark write of rows.

    Parameters
    ----------
    rows : DataFrame
    write : callable
        Writes the rows of a task, as `write_part` does.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    reports = rows.mapInArrow(write, from_arrow_schema(TOLD)).collect()
    return [Part(**json.loads(row["report"])) for row in reports]
