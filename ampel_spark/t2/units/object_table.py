"""Columns of a local table, looked up by the object's name."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from ampel_spark.archive.reading.tables import FileTable, file_columns, read_table
from ampel_spark.dialects import DialectError, read_delimited, read_words
from ampel_spark.errors import ArchiveError, ConfigError
from ampel_spark.files import stamp
from ampel_spark.lightcurve import LightCurve, LightCurveBatch
from ampel_spark.packed import content_of
from ampel_spark.t2.unit import Column, Unit

__all__ = ["ObjectTable"]

_TYPES = {
    "double": pa.float64(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
}


class ObjectTable(Unit):
    """The row of a table that has the object's name: redshifts of a sample, classifications.

    An object that the table does not have has a row that says so: `matched` is false.
    """

    file: Path
    "Table: a CSV, ECSV, Parquet, FITS or VOTable file, or text with a header (.txt, .dat)."

    name: str = "name"
    "Its column with the objects' names, as the survey calls them."

    head: tuple[str, ...] = ()
    "Names of the table's first columns, where it is a text without a head."

    append: dict[str, str] = Field(default_factory=dict)
    "Its columns to append: a list, or a mapping from names in the result to names there."

    libraries = ("astropy", "numpy", "pyarrow")
    columns = (Column("matched", "boolean", "", "whether the table has the object"),)

    input_fields = ()

    @field_validator("append", mode="before")
    @classmethod
    def _as_mapping(cls, value: Any) -> Any:
        return {name: name for name in value} if isinstance(value, list | tuple) else value

    def output_columns(self) -> Sequence[Column]:
        """Return the columns, those of the table with the types they have there."""
        _, values = self._table()
        types = {kind: name for name, kind in _TYPES.items()}
        return (
            *self.columns,
            *(
                Column(name, types[values[source].type], "", f"{source} of {self.file.name}")
                for name, source in self.append.items()
            ),
        )

    def subjects(self, batch: LightCurveBatch) -> Sequence[str]:
        """Say that nothing but the object's name is read."""
        return [""] * len(batch)

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        """Look one object up."""
        rows, values = self._table()
        row = rows.get(light_curve.name)
        if row is None:
            return {"matched": False}
        return {"matched": True} | {
            name: values[source][row].as_py() for name, source in self.append.items()
        }

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        """Look many objects up at once."""
        rows, values = self._table()
        found = pa.array([rows.get(name) for name in batch.name.tolist()], pa.int64())
        return {"matched": found.is_valid()} | {
            name: values[source].take(found) for name, source in self.append.items()
        }

    def _table(self) -> tuple[dict[str, int], dict[str, pa.Array]]:
        columns = tuple(dict.fromkeys(self.append.values()))
        return _read(self.file, self.name, columns, self.head, stamp(self.file))


@functools.lru_cache(maxsize=8)
def _read(
    path: Path,
    name: str,
    columns: tuple[str, ...],
    head: tuple[str, ...],
    known_by: tuple[int, ...],
) -> tuple[dict[str, int], dict[str, pa.Array]]:
    """Return the row of each name, and columns; read once as long as the file stays as it is."""
    try:
        table = _headless(path, head, name) if head else read_table(path, text=(name,))
        names = table.texts(name).tolist()
        values = {column: _arrow(table.column(column)) for column in columns}
    except ArchiveError as error:
        raise ConfigError(str(error)) from None
    rows: dict[str, int] = {}
    for i, word in enumerate(names):
        j = rows.setdefault(word, i)
        if j != i and any(v[i] != v[j] for v in values.values()):
            raise ConfigError(
                f"{path}: {word!r} has two rows, {j + 1} and {i + 1}, that differ; keep one of them"
            )
    return rows, values


def _headless(path: Path, head: Sequence[str], name: str) -> FileTable:
    """Read a text without a head: its separator is the first of comma, semicolon, tab and bar."""
    try:
        data = content_of(path) or path.read_bytes()
        first = data.lstrip().partition(b"\n")[0].decode("utf-8", "replace")
        mark = next((m for m in ",;\t|" if m in first), " ")
        width = len(first.split(mark) if mark != " " else first.split())
        if width < len(head):
            raise ArchiveError(f"{path}: {width} columns, and {len(head)} names in head")
        names = [*head, *(f"column_{i}" for i in range(len(head) + 1, width + 1))]
        line = mark.join(names).encode() + b"\n"
        found = (read_words if mark == " " else read_delimited)(line + data, (name,))
    except DialectError as error:
        raise ArchiveError(f"{path}: {error}") from None
    except OSError as error:
        raise ArchiveError(f"cannot read {path}: {error.strerror}") from None
    return FileTable(path, file_columns(found.table, (name,)), found.meta, found.odd)


def _arrow(values: Any) -> pa.Array:
    kind = values.dtype.kind
    if kind == "f":
        return pa.array(values.astype(np.float64), pa.float64(), from_pandas=True)
    if kind in "iu" and not (kind == "u" and (values >= 2**63).any()):
        return pa.array(values.astype(np.int64), pa.int64())
    if kind == "b":
        return pa.array(values, pa.bool_())
    plain = [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]
    if all(v is None or isinstance(v, bool) for v in plain) and any(v is not None for v in plain):
        return pa.array(plain, pa.bool_())
    whole = [v for v in plain if v is not None]
    if whole and all(isinstance(v, int) and abs(v) < 2**63 for v in whole):
        return pa.array(plain, pa.int64())
    return pa.array([None if v is None else str(v) for v in plain], pa.string())
