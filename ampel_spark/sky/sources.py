"""Catalogues as their makers give them, read into one form.

A settings file, ``conf/catalogs/NAME.yml``, says which columns hold position, id, proper motion and
epoch, in what units, which others are kept, and whose work it is. What comes out has the columns
``id`` (where there is one), ``ra`` and ``dec`` [deg, ICRS], ``pmra``, ``pmdec`` [mas/yr] and
``epoch`` [yr] (where rows move), and the kept ones: truth values, 64-bit integers, floating-point
numbers, text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from ampel_spark.dialects import MISSING
from ampel_spark.errors import ConfigError, nearest
from ampel_spark.files import files_in
from ampel_spark.tabular import FORMATS, format_of, read_file

__all__ = ["OWN", "CatalogSettings", "read_source"]

#: Columns of a catalogue that have a meaning of their own.
OWN = ("id", "ra", "dec", "pmra", "pmdec", "epoch", "hpx")

_PER_YEAR = {"mas/yr": 1.0, "arcsec/yr": 1e3, "deg/yr": 3.6e6}
_KINDS = ("csv", "ecsv", "fits", "votable", "parquet")
# What pandas writes of an index without a name, and HATS of its own: no column of the table.
_INDEX = re.compile(r"__index_level_\d+__|_hipscat_index|_healpix_\d+")
_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_temporal)


class CatalogSettings(BaseModel):
    """A file of conf/catalogs."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    description: str = ""
    ra: str = Field(default="ra", description="column of the right ascension, ICRS")
    dec: str = Field(default="dec", description="column of the declination, ICRS")
    unit: Literal["deg", "rad", "hourangle", "sexagesimal"] = Field(
        default="deg",
        description="of the position; with hourangle the right ascension is in hours, with"
        " sexagesimal it is text such as 12:34:56.7, and the declination -01:23:45",
    )
    id: str | None = Field(
        default=None,
        description="column that names a row: integer or text; default: a kept column id",
    )
    pmra: str | None = Field(default=None, description="proper motion, with cos(dec)")
    pmdec: str | None = Field(default=None, description="proper motion")
    motion_unit: Literal["mas/yr", "arcsec/yr", "deg/yr"] = "mas/yr"
    epoch: float | str | None = Field(
        default=None, description="of the positions, Julian years: a number, or a column"
    )
    columns: tuple[str, ...] | dict[str, str] | None = Field(
        default=None, description="columns to keep: a list, or new name: name there; default: all"
    )
    licence: str = ""
    citation: str = ""
    url: str = ""

    def kept(self, there: Sequence[str]) -> dict[str, str]:
        """Return the kept columns: name here → name there; an index only where asked.

        Where all are kept, one whose name has a meaning here is called with ``_`` behind it.
        """
        if isinstance(self.columns, dict):
            return dict(self.columns)
        used = {self.ra, self.dec, self.id, self.pmra, self.pmdec, self.epoch}
        if self.columns is not None:
            return {name: name for name in self.columns}
        taken = {n for n in OWN if n != "id" or self.id is not None}
        return {
            f"{n}_" if n.lower() in taken and n != "id" else n: n
            for n in there
            if n not in used and not _INDEX.fullmatch(n)
        }


def read_source(paths: Sequence[str | Path], settings: CatalogSettings, name: str = "") -> pa.Table:
    """Read the files of a catalogue.

    Parameters
    ----------
    paths : sequence of path
        CSV, ECSV, FITS, VOTable or Parquet files, compressed or not, folders of Parquet files,
        Delta tables, HATS catalogues; together they are the catalogue.
    settings : CatalogSettings
    name : str
        For messages.

    Raises
    ------
    ConfigError
        If a file cannot be read, a column is absent, or positions are none.
    """
    if not paths:
        raise ConfigError(f"catalogue {name!r}: no file is given")
    tables = [_normal(Path(path), settings) for path in paths]
    for path, table in zip(paths[1:], tables[1:], strict=True):
        if table.schema != tables[0].schema:
            raise ConfigError(
                f"catalogue {name!r}: {path} has columns {', '.join(map(str, table.schema))}, and "
                f"{paths[0]} has {', '.join(map(str, tables[0].schema))}: they make no one table"
            )
    return pa.concat_tables(tables).combine_chunks()


def _normal(path: Path, settings: CatalogSettings) -> pa.Table:
    named = _named_columns(path, settings)
    wanted = None
    if settings.columns is not None:
        wanted = [*dict.fromkeys([*named, *settings.kept(()).values()])]
    raw = _raw(path, wanted)
    kept = settings.kept(raw.column_names)
    _check_names(path, raw.column_names, settings)
    _check(path, raw.column_names, [*named, *kept.values()])
    ra, dec = _position(path, raw, settings)
    columns: dict[str, Any] = {}
    named_id = settings.id
    if named_id is None and kept.get("id") == "id":
        named_id = kept.pop("id")
    if named_id is not None:
        columns["id"] = _ids(path, named_id, raw[named_id])
    columns |= {"ra": pa.array(ra), "dec": pa.array(dec), **_motion(path, raw, settings)}
    for new, source in kept.items():
        # Spark tells names apart whatever their case
        if new in OWN or new.lower() in {"hpx", *(n.lower() for n in columns)}:
            raise ConfigError(
                f"catalogue {path}: a kept column cannot be called {new!r}: rename it, "
                f"columns: {{{new}_: {source}}}"
            )
        columns[new] = _plain(path, source, raw[source])
    return pa.table(columns)


def _named_columns(path: Path, settings: CatalogSettings) -> list[str]:
    """Return the columns that settings name for position, id, motion and epoch."""
    if (settings.pmra is None) != (settings.pmdec is None):
        raise ConfigError(f"catalogue {path}: give both pmra and pmdec, or neither")
    if settings.pmra is not None and settings.epoch is None:
        raise ConfigError(f"catalogue {path}: rows with proper motions need an epoch")
    epoch = settings.epoch if isinstance(settings.epoch, str) else None
    named = [settings.ra, settings.dec, settings.id, settings.pmra, settings.pmdec, epoch]
    return [name for name in named if name]


def _check_names(path: Path, names: Sequence[str], settings: CatalogSettings) -> None:
    """Raise `ConfigError` if two columns have one name, or none has the position."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"catalogue {path}: two columns are called {twice[0]!r}: rename one")
    for column in (settings.ra, settings.dec):
        if column not in names:
            raise ConfigError(
                f"catalogue {path}: no column {column!r}{nearest(column, names)}; 'ra:' "
                "and 'dec:' in its settings say which columns hold the position"
            )


def _ids(path: Path, name: str, column: pa.ChunkedArray) -> pa.Array:
    ids = _plain(path, name, column)
    if pa.types.is_integer(ids.type) or pa.types.is_string(ids.type):
        return ids
    large = pc.max(pc.abs(ids)).as_py() if pa.types.is_floating(ids.type) else None
    lost = f", and {large!r} lost digits by that" if large and large >= 2**53 else ""
    raise ConfigError(
        f"catalogue {path}: id {name!r} is {ids.type}: no name of a row{lost}; write"
        " it as integers or as text"
    )


def _motion(path: Path, raw: pa.Table, settings: CatalogSettings) -> dict[str, pa.Array]:
    if settings.pmra is None or settings.pmdec is None:
        return {}
    scale, epoch = _PER_YEAR[settings.motion_unit], settings.epoch
    if isinstance(epoch, str):
        epochs = _numbers(path, epoch, raw[epoch])
    else:
        epochs = np.full(len(raw), epoch, np.float64)
    values = {
        "pmra": _numbers(path, settings.pmra, raw[settings.pmra]) * scale,
        "pmdec": _numbers(path, settings.pmdec, raw[settings.pmdec]) * scale,
        "epoch": epochs,
    }
    return {name: pa.array(column, from_pandas=True) for name, column in values.items()}


def _position(
    path: Path, raw: pa.Table, settings: CatalogSettings
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if settings.unit == "sexagesimal":
        ra = _sexagesimal(path, settings.ra, raw[settings.ra], 24) * 15.0
        return ra, _sexagesimal(path, settings.dec, raw[settings.dec], 90)
    ra = _numbers(path, settings.ra, raw[settings.ra], "position in degrees")
    dec = _numbers(path, settings.dec, raw[settings.dec], "position in degrees")
    if settings.unit == "rad":
        return np.degrees(ra), np.degrees(dec)
    if settings.unit == "hourangle":
        return ra * 15.0, dec
    good = np.isfinite(ra) & np.isfinite(dec)
    if good.sum() > 100 and ra[good].max() < 2 * np.pi and np.abs(dec[good]).max() < np.pi / 2:
        raise ConfigError(
            f"catalogue {path}: all of {good.sum()} positions are below 2 pi and pi/2, as radians "
            "are: say 'unit: rad', or split off rows if they are degrees indeed"
        )
    return ra, dec


_PARTS = re.compile(r"\s*([+-]?)(\d+)[\s:hd°]+(\d+)(?:[\s:m'′]+(\d+(?:\.\d*)?)\s*[s\"″]?)?\s*")


def _sexagesimal(
    path: Path, name: str, column: pa.ChunkedArray, most: int
) -> npt.NDArray[np.float64]:
    """Return text such as ``-01 23 45.6`` as a number; NaN where there is none.

    So is text that is something else, in no more than one row of a hundred.
    """
    values = np.full(len(column), np.nan)
    wrong = 0
    for i, text in enumerate(column.to_pylist()):
        if text is None or str(text).strip().lower() in MISSING:
            continue
        found = _PARTS.fullmatch(str(text))
        size = math.inf
        if found is not None and int(found[3]) < 60 and float(found[4] or 0) <= 60:
            size = int(found[2]) + int(found[3]) / 60 + float(found[4] or 0) / 3600
        if found is None or size > most:
            wrong += 1
            if wrong <= len(column) // 100:
                continue
            raise ConfigError(
                f"catalogue {path}: {name} = {text!r} in row {i + 1} is not sexagesimal, such as"
                f" 12:34:56.7, up to {most}"
            )
        values[i] = -size if found[1] == "-" else size
    return values


def _numbers(
    path: Path, name: str, column: pa.ChunkedArray, what: str = "number"
) -> npt.NDArray[np.float64]:
    """Return a column as numbers, NaN where there is none.

    So is a word that is no number, in no more than one row of a hundred.
    """
    try:
        values = pc.cast(column, pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        found = [_number_in(word) for word in column.to_pylist()]
        if sum(n is None for n in found) > len(found) // 100:
            raise ConfigError(f"catalogue {path}: column {name!r} is no {what}: {error}") from None
        return np.array([np.nan if n is None else n for n in found], np.float64)
    numbers: npt.NDArray[np.float64] = values.combine_chunks().fill_null(np.nan).to_numpy()
    return numbers


def _number_in(word: Any) -> float | None:
    """Return the number that a word says, NaN for nothing; None where it says none."""
    if word is None or (isinstance(word, str) and word.strip().lower() in MISSING):
        return np.nan
    try:
        return float(word)
    except (TypeError, ValueError):
        return None


def _plain(path: Path, name: str, column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one of the four types: NaN is null, blanks at the end of text go."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        to = pa.float64()
    elif pa.types.is_boolean(kind):
        to = pa.bool_()
    elif pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0):
        to = pa.int64()  # what Spark makes of unsigned integers are decimals
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        to = pa.float64()
    elif any(is_kind(kind) for is_kind in _TEXT):
        to = pa.string()
    else:
        raise ConfigError(
            f"catalogue {path}: column {name!r} is {kind}; what can be kept are booleans, "
            "integers, floating-point numbers and text: leave it out of 'columns'"
        )
    try:
        plain = pc.cast(column, to).combine_chunks()
    except pa.ArrowInvalid as error:
        large = " (integers go up to 2^63; write larger ones as text)" if to == pa.int64() else ""
        raise ConfigError(f"catalogue {path}: column {name!r}: {error}{large}") from None
    if pa.types.is_floating(to):
        return pc.if_else(pc.is_nan(plain), None, plain)
    return pc.utf8_rtrim_whitespace(plain) if pa.types.is_string(to) else plain


def _raw(path: Path, columns: list[str] | None) -> pa.Table:
    if not path.exists():
        raise ConfigError(f"catalogue {path} is not there: give the path of a file")
    kind = format_of(path)
    if not path.is_dir() and kind not in _KINDS:
        known = " ".join(ending for kind in _KINDS for ending in FORMATS[kind])
        raise ConfigError(
            f"catalogue {path}: cannot read {path.suffix!r} files; known: {known},"
            " folders of Parquet files, Delta tables, HATS catalogues"
        )
    try:
        if (path / "_delta_log").is_dir():
            from deltalake import DeltaTable

            return DeltaTable(str(path)).to_pyarrow_table(filesystem=files_in(path))
        if path.is_dir() or (kind == "parquet" and path.suffix.lower() in FORMATS["parquet"]):
            return _parquet(path, columns)
        read = read_file(path, str(kind), columns=columns, has_ids=True)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ConfigError(f"catalogue {path}: cannot read it: {error}") from None
    if read.odd:
        line, text = read.odd[0]
        raise ConfigError(
            f"catalogue {path}: cannot read it: line {line} and {len(read.odd) - 1} others have too"
            f" many or too few values: {text!r}"
        )
    if kind not in ("fits", "votable"):
        return read.table
    lists = [f.name for f in read.table.schema if pa.types.is_nested(f.type)]
    if lists and columns is not None:
        raise ConfigError(f"catalogue {path}: column {lists[0]!r} has more than one value a row")
    return read.table.drop_columns(lists)


def _parquet(path: Path, columns: list[str] | None) -> pa.Table:
    """Read a Parquet file, a folder of them, or a HATS catalogue, whose data are in dataset/."""
    import pyarrow.dataset as ds

    files = [path]
    if path.is_dir():
        inside = path / "dataset" if (path / "dataset").is_dir() else path
        files = sorted(f for f in inside.rglob("*.parquet") if not f.name.startswith(("_", ".")))
    if not files:
        raise ConfigError(f"catalogue {path}: no Parquet file in it")
    data = ds.dataset([str(f) for f in files], format="parquet")
    _check(path, data.schema.names, columns or ())
    return data.to_table(columns=columns).unify_dictionaries()


def _check(path: Path, there: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in there:
            raise ConfigError(f"catalogue {path}: no column {name!r}{nearest(name, there)}")
