"""Tables in files, each as columns and a header: CSV, ECSV, Parquet, FITS, VOTable, snfit, text.

Input is normalised here, once: numbers are floats with NaN for what is missing, text is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.errors import ArchiveError, nearest

__all__ = ["FORMATS", "FileTable", "format_of", "read_table"]

Array = npt.NDArray[Any]

#: Formats, and the endings of their files' names.
FORMATS = {
    "csv": (".csv",),
    "ecsv": (".ecsv",),
    "parquet": (".parquet",),
    "fits": (".fits", ".fit", ".fits.gz"),
    "votable": (".vot", ".votable", ".xml"),
    "snfit": (".list",),
    "ascii": (".txt", ".dat"),
}


@dataclass(frozen=True, eq=False)
class FileTable:
    """A table: its columns, all of one length, and the entries of its header."""

    path: Path
    columns: Mapping[str, Array]
    meta: Mapping[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def column(self, name: str) -> Array:
        """Return a column as it is in the file.

        Raises
        ------
        ArchiveError
            If there is none of this name.
        """
        if name not in self.columns:
            raise ArchiveError(f"{self.path}: no column {name!r}{nearest(name, self.columns)}")
        return self.columns[name]

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
        values = self.column(name)
        try:
            if values.dtype.kind in "fiub":
                return values.astype(np.float64)
            return np.array([np.nan if v in (None, "") else float(v) for v in values], np.float64)
        except (TypeError, ValueError) as error:
            raise ArchiveError(f"{self.path}: column {name!r} is no number: {error}") from None

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
    name = path.name.lower()
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
    try:
        columns, meta = _READERS[kind](path, text)
    except ArchiveError:
        raise
    except Exception as error:  # whatever a library makes of a damaged file
        raise ArchiveError(
            f"{path}: cannot be read as {kind}: {type(error).__name__}: {error}"
        ) from None
    return FileTable(path, columns, meta)


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    return value.decode().strip() if isinstance(value, bytes) else str(value).strip()


def _from_csv(path: Path, text: Collection[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import csv

    with path.open("rb") as stream:
        if stream.read(7) == b"# %ECSV":
            return _from_ecsv(path, text)
    # Files are many and small, and Spark has a process for every core.
    alone = csv.ReadOptions(use_threads=False)
    options = csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string()))
    return _arrow(csv.read_csv(path, read_options=alone, convert_options=options), text), {}


def _from_parquet(path: Path, text: Collection[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    from pyarrow import parquet

    table = parquet.ParquetFile(path).read()
    return _arrow(table, text), {
        k.decode(errors="replace"): v.decode(errors="replace")
        for k, v in (table.schema.metadata or {}).items()
    }


def _arrow(table: Any, text: Collection[str]) -> dict[str, Array]:
    import pyarrow as pa

    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in text and pa.types.is_integer(column.type):
            column = column.cast(pa.string())
        numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        if numeric and not column.null_count:
            columns[name] = column.to_numpy()
        elif numeric or pa.types.is_null(column.type):
            columns[name] = column.cast(pa.float64()).to_numpy()
        else:
            columns[name] = np.array(column.to_pylist(), object)
    return columns


def _from_ecsv(path: Path, text: Collection[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    from astropy.table import Table

    return _astropy(Table.read(path, format="ascii.ecsv"), text)


def _from_ascii(path: Path, text: Collection[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    from astropy.table import Table

    with path.open() as stream:
        commented = stream.read(1) == "#"  # the line of names is a comment, or it is not
    kind = "ascii.commented_header" if commented else "ascii.basic"
    words = dict.fromkeys(text, str)
    return _astropy(Table.read(path, format=kind, guess=False, converters=words), text)


def _from_votable(path: Path, text: Collection[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    from astropy.io import votable

    first = votable.parse_single_table(path, verify="ignore")
    columns, meta = _astropy(first.to_table(use_names_over_ids=True), text)
    return columns, {p.name: _plain(p.value) for p in first.params} | meta


def _from_fits(path: Path, text: Collection[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    from astropy.io import fits

    with fits.open(path) as units:
        tables = [u for u in units if isinstance(u, fits.BinTableHDU | fits.TableHDU)]
        if not tables:
            raise ArchiveError(f"{path}: the file has no table")
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
    kind = float if values.dtype.kind in "fiu" else object
    values = values.astype(kind)
    values[absent] = np.nan if kind is float else None
    return values


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _from_snfit(path: Path, _: Collection[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read a light curve as snfit has it: ``@KEY value``, ``#Column :``, ``#end``, then rows."""
    meta: dict[str, Any] = {}
    names: list[str] = []
    rows: list[list[str]] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
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
                    f"{path}:{number}: {len(words)} values for {len(names)} columns"
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


_READERS: dict[str, Callable[[Path, Collection[str]], tuple[dict[str, Array], dict[str, Any]]]] = {
    "csv": _from_csv,
    "ecsv": _from_ecsv,
    "parquet": _from_parquet,
    "fits": _from_fits,
    "votable": _from_votable,
    "snfit": _from_snfit,
    "ascii": _from_ascii,
}
