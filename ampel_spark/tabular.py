"""Tables in files, read into Arrow columns: CSV, ECSV, FITS, VOTable, Parquet, IPAC, snfit, text.

Light curves of SNANA are known by their content, in text and in FITS.

What is missing is null, and whole numbers stay whole, also with gaps. A column of arrays has lists.
Files may be compressed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampel_spark import snana
from ampel_spark.bounds import TooLargeError, cure, most_unpacked
from ampel_spark.dialects import DialectError, TextTable, read_delimited, read_words, typed
from ampel_spark.errors import nearest
from ampel_spark.packed import content_of, plain_name

__all__ = ["FORMATS", "beside", "format_of", "read_file"]

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


def format_of(path: Path) -> str | None:
    """Return the format of a file by the ending of its name; None if no format has it."""
    name = plain_name(path.name)
    return next((kind for kind, endings in FORMATS.items() if name.endswith(endings)), None)


def read_file(
    path: Path,
    kind: str,
    text: Collection[str] = (),
    columns: Sequence[str] | None = None,
    has_ids: bool = False,
) -> TextTable:
    """Read a table.

    Parameters
    ----------
    path : Path
    kind : str
        One of `FORMATS`.
    text : collection of str
        Columns that are text even where they look like numbers, such as names.
    columns : sequence of str, optional
        Columns that must be there, and are enough; of a table written as text all are read.
    has_ids : bool
        Columns of a VOTable are called by their ids, not by their names.

    Raises
    ------
    DialectError
        If the file cannot be read as what it is said to be.
    """
    try:
        content = content_of(path)
        if kind in _TEXTS:
            return _TEXTS[kind](path.read_bytes() if content is None else content, text)
        with path.open("rb") if content is None else io.BytesIO(content) as stream:
            if kind == "votable":
                return _from_votable(stream, columns, has_ids)
            if kind == "fits":
                return _from_fits(stream, columns, path)
            return _READERS[kind](stream, columns)
    except DialectError:
        raise
    except Exception as error:  # whatever a library makes of a damaged file
        own = isinstance(error, ValueError) and type(error).__module__.startswith("ampel_spark")
        what = str(error) if own else f"{type(error).__name__}: {error}"
        raise DialectError(what) from None


def _from_parquet(stream: IO[bytes], columns: Sequence[str] | None) -> TextTable:
    from pyarrow import parquet

    file = parquet.ParquetFile(stream)
    names = _wanted(file.schema_arrow.names, columns)
    _check_cells(file.metadata.num_rows, len(names), stream)
    table = file.read(None if columns is None else names)
    return TextTable(table, {
        k.decode(errors="replace"): v.decode(errors="replace")
        for k, v in (table.schema.metadata or {}).items()
    })  # fmt: skip


def _from_ipac(stream: IO[bytes], columns: Sequence[str] | None) -> TextTable:
    from astropy.table import Table

    lines = stream.read().decode().splitlines()
    return _astropy(Table.read(lines, format="ascii.ipac", guess=False), columns)


def _from_votable(stream: IO[bytes], columns: Sequence[str] | None, has_ids: bool) -> TextTable:
    from astropy.io import votable

    first = votable.parse_single_table(stream, verify="ignore")
    read = _astropy(first.to_table(use_names_over_ids=not has_ids), columns)
    params = {p.name: p.value.item() if hasattr(p.value, "item") else p.value for p in first.params}
    return TextTable(read.table, params | read.meta)


def beside(path: Path) -> Path | None:
    """Return the file that is read together with a file: the HEAD of a PHOT file of SNANA."""
    return snana.head_of(path) if format_of(path) == "fits" else None


def _words(data: bytes, text: Collection[str]) -> TextTable:
    return snana.read_text(data, text) if snana.is_text(data) else read_words(data, text)


def _from_fits(
    stream: IO[bytes], columns: Sequence[str] | None, path: Path | None = None
) -> TextTable:
    from astropy.io import fits

    with fits.open(stream) as units:
        tables = [u for u in units if isinstance(u, fits.BinTableHDU | fits.TableHDU)]
        if not tables:
            raise DialectError("the file has no table")
        first = tables[0]
        _check_cells(first.header.get("NAXIS2", 0), len(first.columns), stream)
        names, arrays = _wanted(first.columns.names, columns), []
        for name in names:
            values, null = np.asarray(first.data[name]), first.columns[name].null  # TNULL
            none = np.zeros(values.shape, bool)
            arrays.append(_array(values, none if null in (None, "") else values == null))
        meta = dict(units[0].header) | dict(first.header)
    table = pa.Table.from_arrays(arrays, names)
    if path is None or not snana.is_phot(names):
        return TextTable(table, meta)
    head = snana.head_of(path)
    if head is None:
        raise DialectError(
            "it is a PHOT file of SNANA, whose HEAD file names its objects, and there is"
            f" none beside it ({re.sub('phot', 'HEAD', path.name, flags=re.I)})"
        )
    content = content_of(head)
    with head.open("rb") if content is None else io.BytesIO(content) as heads:
        return snana.joined(table, _from_fits(heads, None).table, meta)


def _check_cells(rows: int, columns: int, stream: IO[bytes]) -> None:
    """Refuse a table whose head says that it is far larger than its file can be."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if 8 * rows * columns > most_unpacked("table", size):
        raise TooLargeError(
            f"it says that it has {rows} x {columns} values in {size} bytes: {cure('table')}"
        )


def _astropy(table: Any, columns: Sequence[str] | None) -> TextTable:
    names = _wanted(table.colnames, columns)
    arrays = [
        _array(np.asarray(table[n]), np.ma.getmaskarray(np.ma.asarray(table[n]))) for n in names
    ]
    return TextTable(
        pa.Table.from_arrays(arrays, names), {str(k): v for k, v in table.meta.items()}
    )


def _wanted(there: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    if columns is None:
        return list(there)
    for name in columns:
        if name not in there:
            raise DialectError(f"no column {name!r}{nearest(name, there)}")
    return [name for name in there if name in columns]


def _array(values: Array, absent: Array) -> pa.Array:
    """Return a column with null for what is absent; text for what Arrow has no type of."""
    if values.dtype.kind == "S":
        values = np.char.decode(values, errors="replace")
    if values.ndim == 1 and values.dtype.kind in "biuf":
        return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=absent)
    listed = values.tolist()
    if values.ndim == 1:
        listed = [None if a else v for v, a in zip(listed, absent.tolist(), strict=True)]
    try:
        return pa.array(listed)
    except (pa.ArrowException, TypeError):
        return pa.array([None if v is None else str(v) for v in listed], pa.string())


def _from_snfit(stream: IO[bytes], _: Sequence[str] | None) -> TextTable:
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
                raise DialectError(
                    f"{len(words)} values for {len(names)} columns ({', '.join(names)})", number
                )
            rows.append(words)
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return TextTable(pa.Table.from_arrays([typed(words) for words in columns], names), meta)


_TEXTS: dict[str, Callable[[bytes, Collection[str]], TextTable]] = {
    "csv": read_delimited,
    "ecsv": read_delimited,
    "ascii": _words,
}
_READERS: dict[str, Callable[[IO[bytes], Sequence[str] | None], TextTable]] = {
    "ipac": _from_ipac,
    "parquet": _from_parquet,
    "snfit": _from_snfit,
}
