"""Tables in files, each as columns and a header: CSV, ECSV, Parquet, FITS, VOTable, snfit, text.

Input is normalised here, once: numbers are floats with NaN for what is missing, text is text, whole
numbers stay whole, also with gaps. Files may be compressed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ampel_spark.dialects import MISSING, DialectError, TextTable, read_delimited, read_words
from ampel_spark.errors import ArchiveError, nearest
from ampel_spark.packed import content_of, plain_name

__all__ = ["FORMATS", "FileTable", "format_of", "read_table"]

Array = npt.NDArray[Any]

#: Formats, and the endings of their files' names.
FORMATS = {
    "csv": (".csv", ".tsv"),
    "ecsv": (".ecsv",),
    "parquet": (".parquet", ".pq"),
    "fits": (".fits", ".fit"),
    "votable": (".vot", ".votable", ".xml"),
    "snfit": (".list",),
    "ascii": (".txt", ".dat"),
    "ipac": (".tbl",),
}


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
    """

    path: Path
    columns: Mapping[str, Array]
    meta: Mapping[str, Any]
    odd: tuple[tuple[int, str], ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def column(self, name: str) -> Array:
        """Return a column as it is in the file; a ``#`` before the names of a head counts nothing.

        Raises
        ------
        ArchiveError
            If there is none of this name.
        """
        if name in self.columns:
            return self.columns[name]
        bare = {there.lstrip("#"): there for there in self.columns}
        if name.lstrip("#") not in bare:
            raise ArchiveError(f"{self.path}: no column {name!r}{nearest(name, self.columns)}")
        return self.columns[bare[name.lstrip("#")]]

    def header(self, name: str) -> Any:
        """Return an entry of the header.

        Raises
        ------
        ArchiveError
            If there is none of this name.
        """
        if name not in self.meta:
            raise ArchiveError(f"{self.path}: no {name!r} in its header{nearest(name, self.meta)}")
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
        if values.ndim != 1:
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


def format_of(path: Path) -> str:
    """Return the format of a file, by the ending of its name.

    Raises
    ------
    ArchiveError
        If no format has it.
    """
    name = plain_name(path.name)
    for kind, endings in FORMATS.items():
        if name.endswith(endings):
            return kind
    known = " ".join(e for endings in FORMATS.values() for e in endings)
    raise ArchiveError(f"{path}: no table format ends so; known: {known} (or give 'format')")


def read_table(path: str | Path, kind: str | None = None, text: Collection[str] = ()) -> FileTable:
    """Read a table.

    Parameters
    ----------
    path : path
    kind : str, optional
        One of `FORMATS`; by the ending of the file's name where it is not given.
    text : collection of str
        Columns that are text even where they look like numbers, such as names.

    Raises
    ------
    ArchiveError
        If the file cannot be read as what it is said to be.
    """
    path = Path(path)
    kind = kind or format_of(path)
    odd: tuple[tuple[int, str], ...] = ()
    try:
        content = content_of(path)
        if kind in _TEXTS:
            data = path.read_bytes() if content is None else content
            found = _TEXTS[kind](data, text)
            columns, meta, odd = _arrow(found.table, text), found.meta, found.odd
        else:
            with path.open("rb") if content is None else io.BytesIO(content) as stream:
                columns, meta = _READERS[kind](stream, text)
    except ArchiveError:
        raise
    except Exception as error:  # whatever a library makes of a damaged file
        own = isinstance(error, ValueError) and type(error).__module__.startswith("ampel_spark")
        what = str(error) if own else f"{type(error).__name__}: {error}"
        raise ArchiveError(f"{path}: cannot be read as {kind}: {what}") from None
    return FileTable(path, columns, meta, odd)


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


def _from_parquet(
    stream: IO[bytes], text: Collection[str]
) -> tuple[dict[str, Array], dict[str, Any]]:
    from pyarrow import parquet

    table = parquet.ParquetFile(stream).read()
    return _arrow(table, text), {
        k.decode(errors="replace"): v.decode(errors="replace")
        for k, v in (table.schema.metadata or {}).items()
    }


def _arrow(table: Any, text: Collection[str]) -> dict[str, Array]:
    import pyarrow as pa

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


def _from_ipac(stream: IO[bytes], text: Collection[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    from astropy.table import Table

    lines = stream.read().decode().splitlines()
    return _astropy(Table.read(lines, format="ascii.ipac", guess=False), text)


def _from_votable(
    stream: IO[bytes], text: Collection[str]
) -> tuple[dict[str, Array], dict[str, Any]]:
    from astropy.io import votable

    first = votable.parse_single_table(stream, verify="ignore")
    columns, meta = _astropy(first.to_table(use_names_over_ids=True), text)
    return columns, {p.name: _plain(p.value) for p in first.params} | meta


def _from_fits(stream: IO[bytes], text: Collection[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    from astropy.io import fits

    with fits.open(stream) as units:
        tables = [u for u in units if isinstance(u, fits.BinTableHDU | fits.TableHDU)]
        if not tables:
            raise DialectError("the file has no table")
        if {"FLUXCAL", "FLUXCALERR"} <= {*tables[0].columns.names}:
            raise DialectError(
                "it is a PHOT file of SNANA, which is not read: objects are told apart by its HEAD"
                " file; write one table with a column for the name of the object (SNID)"
            )
        columns = {}
        for column in tables[0].columns:
            values = np.asarray(tables[0].data[column.name])
            none = np.zeros(values.shape, bool)
            absent = none if column.null in (None, "") else values == column.null  # TNULL
            native = values.astype(values.dtype.newbyteorder("="))
            columns[column.name] = _with_gaps(native, absent, column.name in text)
        meta = dict(units[0].header) | dict(tables[0].header)
    return columns, meta


def _astropy(table: Any, text: Collection[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    columns = {}
    for name in table.colnames:
        column = table[name]
        values, mask = np.asarray(column), np.ma.getmaskarray(np.ma.asarray(column))
        columns[name] = _with_gaps(values, mask, name in text)
    return columns, {str(k): v for k, v in table.meta.items()}


def _with_gaps(values: Array, absent: Array, is_text: bool) -> Array:
    """Return values with NaN, or None among text, for what is absent."""
    if is_text and values.dtype.kind in "iu":
        values = values.astype(str)  # before a gap makes floats of them
    if not absent.any():
        return values
    if values.dtype.kind == "f":
        return np.where(absent, np.nan, values)
    values = values.astype(object)  # whole numbers stay exact
    values[absent] = None
    return values


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _from_snfit(stream: IO[bytes], _: Collection[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read a light curve as snfit has it: ``@KEY value``, ``#Column :``, ``#end``, then rows."""
    meta: dict[str, Any] = {}
    names: list[str] = []
    rows: list[list[str]] = []
    for number, line in enumerate(stream.read().decode().splitlines(), start=1):
        words = line.split()
        if not words or words[0].lower() == "#end":
            continue
        if words[0].startswith("@"):
            value = words[1] if len(words) > 1 else ""
            meta[words[0][1:]] = value  # of a value with its error, as DayMax, the value
        elif match := re.match(r"#\s*(\w+)\s*:", line):
            names.append(match[1])
        elif not line.startswith("#"):
            if len(words) != len(names):
                raise ArchiveError(
                    f"{stream.name}:{number}: {len(words)} values for {len(names)} columns"
                    f" ({', '.join(names)})"
                )
            rows.append(words)
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return {
        name: _array([_number(v) for v in values])
        for name, values in zip(names, columns, strict=True)
    }, meta


def _array(values: list[float | str]) -> Array:
    numeric = all(isinstance(v, float) for v in values)
    return np.array(values, np.float64 if numeric else object)


def _number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word


_TEXTS: dict[str, Callable[[bytes, Collection[str]], TextTable]] = {
    "csv": read_delimited,
    "ecsv": read_delimited,
    "ascii": read_words,
}
_Columns = tuple[dict[str, Array], dict[str, Any]]
_READERS: dict[str, Callable[[IO[bytes], Collection[str]], _Columns]] = {
    "ipac": _from_ipac,
    "parquet": _from_parquet,
    "fits": _from_fits,
    "votable": _from_votable,
    "snfit": _from_snfit,
}
