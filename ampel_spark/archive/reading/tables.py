"""Photometry tables in files, each as columns and a header, whatever their format.

Input is normalised here, once: numbers are floats with NaN for what is missing, text is text, whole
numbers stay whole, also with gaps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampel_spark.dialects import MISSING, DialectError
from ampel_spark.errors import ArchiveError, nearest
from ampel_spark.tabular import FORMATS, format_of, read_file

__all__ = ["FORMATS", "FileTable", "file_columns", "read_table"]

Array = npt.NDArray[Any]

_SINGLES = (pa.float16(), pa.float32())


@dataclass(frozen=True, eq=False)
class FileTable:
    """A table: its columns, all of one length, and the entries of its header.

    Attributes
    ----------
    path : Path
    columns : mapping of str to ndarray
    meta : mapping
        Entries of the header.
    odd : tuple of (int, str)
        Number and text of lines that have too many or too few values, and are in no column.
    heads : mapping of str to ndarray
        What the file says of each of its objects, where it tells them apart by itself: one value
        for each, the names first.
    of : ndarray of int
        For each row the place of its object in `heads`.
    singles : frozenset of str
        Columns that the file has as floats of single precision.
    """

    path: Path
    columns: Mapping[str, Array]
    meta: Mapping[str, Any]
    odd: tuple[tuple[int, str], ...] = ()
    heads: Mapping[str, Array] = field(default_factory=dict)
    of: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    singles: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def column(self, name: str) -> Array:
        """Return a column as it is in the file; a ``#`` before the names of a head counts nothing.

        What the heads of objects say is a column, too: the value of its object for each row.

        Raises
        ------
        ArchiveError
            If there is none of this name.
        """
        if name in self.columns:
            return self.columns[name]
        if name in self.heads:
            return self.heads[name][self.of]
        bare = {there.lstrip("#"): there for there in self.columns}
        if name.lstrip("#") not in bare:
            raise ArchiveError(
                f"{self.path}: no column {name!r}{nearest(name, [*self.columns, *self.heads])}"
            )
        return self.columns[bare[name.lstrip("#")]]

    def header(self, name: str) -> Any:
        """Return an entry of the header.

        Raises
        ------
        ArchiveError
            If there is none of this name.
        """
        if name not in self.meta:
            known = nearest(name, [*self.meta, *self.heads])
            raise ArchiveError(f"{self.path}: no {name!r} in its header{known}")
        return self.meta[name]

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """Return a column as floats; what is missing is NaN.

        Raises
        ------
        ArchiveError
            If it is absent or holds what is no number.
        """
        values, wrong = self.parsed(name)
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            word = self.column(name)[i]
            raise ArchiveError(
                f"{self.path}: column {name!r} is no number: {word!r} in row {i + 1}"
            )
        return values

    def parsed(self, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Return a column as floats, with NaN for what is missing, and where it is no number."""
        values = self.column(name)
        there = [v for v in values.tolist() if v is not None] if values.dtype == object else []
        if there and all(isinstance(value, list) for value in there):
            raise ArchiveError(f"{self.path}: column {name!r} has several values in a row")
        if values.dtype.kind in "fiub":
            return values.astype(np.float64), np.zeros(len(values), bool)
        found = [_number_of(value) for value in values.tolist()]
        wrong = np.array([number is None for number in found], bool)
        return np.array([np.nan if n is None else n for n in found], np.float64), wrong

    def texts(self, name: str) -> Array:
        """Return a column as text; what is missing is empty."""
        values = self.column(name)
        return np.array([_text(v) for v in values.tolist()], object)


def read_table(path: str | Path, kind: str | None = None, text: Collection[str] = ()) -> FileTable:
    """Read a table.

    Parameters
    ----------
    path : path
    kind : str, optional
        One of `tabular.FORMATS`; by the ending of the file's name where it is not given.
    text : collection of str
        Columns that are text even where they look like numbers, such as names.

    Raises
    ------
    ArchiveError
        If the file cannot be read as what it is said to be.
    """
    path = Path(path)
    kind = kind or format_of(path)
    if kind is None:
        known = " ".join(e for endings in FORMATS.values() for e in endings)
        raise ArchiveError(f"{path}: no table format ends so; known: {known} (or give 'format')")
    try:
        found = read_file(path, kind, text)
        heads = {} if found.heads is None else file_columns(found.heads, text)
        of = np.zeros(0, np.int64) if found.of is None else found.of
        columns = file_columns(found.table, text)
        singles = frozenset(f.name for f in found.table.schema if f.type in _SINGLES)
        return FileTable(path, columns, found.meta, found.odd, heads, of, singles)
    except DialectError as error:
        where = f"{path}:{error.line}" if error.line else f"{path}: cannot be read as {kind}"
        raise ArchiveError(f"{where}: {error}") from None


def _text(value: Any) -> str:
    """Return a value as text; a whole number without the point that a float gives it."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return (
        value.decode(errors="replace").strip() if isinstance(value, bytes) else str(value).strip()
    )


def _number_of(value: Any) -> float | None:
    """Return a value as a float, NaN for nothing; None if it is no number."""
    if value is None:
        return np.nan
    if isinstance(value, bytes | str):
        word = (value.decode(errors="replace") if isinstance(value, bytes) else value).strip()
        if word.lower() in MISSING:
            return np.nan
        value = word
    if not isinstance(value, str | int | float | Decimal):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def file_columns(table: pa.Table, text: Collection[str]) -> dict[str, Array]:
    """Return the columns of a table as arrays, those in `text` as text."""
    columns: dict[str, Array] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in columns:
            raise DialectError(f"two columns are called {name!r}: rename or remove one of them")
        kind = column.type
        if name in text and pa.types.is_integer(kind):
            column = column.cast(pa.string())
        if pa.types.is_null(kind) or pa.types.is_floating(kind):
            columns[name] = column.cast(pa.float64()).to_numpy()
        elif pa.types.is_integer(column.type) and not column.null_count:
            columns[name] = column.to_numpy()
        else:  # whole numbers with gaps are exact only as they are
            columns[name] = np.array([*column.to_pylist(), None], object)[:-1]
    return columns
