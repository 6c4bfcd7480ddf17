"""Catalogues of positions in local files, and which of their rows lie near a position.

Both searches go by a k-d tree on unit vectors, so right ascension 0 and the poles are nothing
special; the distance that counts is the haversine one, exact to 1e-10 arcsec. Rows at one distance
come in order of their number, so the answer does not depend on how the tree was built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from ampel_spark.errors import ConfigError, nearest

__all__ = ["Catalog", "Nearest", "Pairs", "separation"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_ARCSEC = np.pi / 180.0 / 3600.0
_TYPES = {
    "boolean": pa.types.is_boolean,
    "bigint": pa.types.is_integer,
    "double": pa.types.is_floating,
    "string": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
}
_FORMATS = (".parquet", ".csv", ".fits", ".fit")


class Pairs(NamedTuple):
    """Positions and the rows near them, in order of position, distance and row.

    Attributes
    ----------
    left : ndarray of int64 with shape (P,)
        Number of the position.
    row : ndarray of int64 with shape (P,)
        Row of the catalogue.
    distance : ndarray of float64 with shape (P,)
        Separation, arcsec.
    """

    left: Integers
    row: Integers
    distance: Floats


class Nearest(NamedTuple):
    """The nearest row to each position.

    Attributes
    ----------
    row : ndarray of int64 with shape (N,)
        Row of the catalogue; -1 where none is within the radius.
    distance : ndarray of float64 with shape (N,)
        Separation, arcsec; NaN where there is none.
    n_within : ndarray of int64 with shape (N,)
        Rows within the radius.
    """

    row: Integers
    distance: Floats
    n_within: Integers


@dataclass(frozen=True, eq=False)
class Catalog:
    """Positions, and columns that go with them.

    Attributes
    ----------
    ra, dec : ndarray of float64 with shape (R,)
        Degrees ICRS. A row whose position is not finite, or whose declination is beyond a pole, is
        near nothing.
    table : pyarrow.Table with R rows
        The columns that were asked for.
    """

    ra: Floats
    dec: Floats
    table: pa.Table

    @classmethod
    def read(
        cls, path: str | Path, ra: str = "ra", dec: str = "dec", columns: Sequence[str] = ()
    ) -> Catalog:
        """Read a catalogue.

        Parameters
        ----------
        path : path
            A Parquet file or a folder of them, a CSV file with a header, or a FITS file, of which
            the first table counts.
        ra, dec : str
            Columns with the position in degrees.
        columns : sequence of str
            Further columns to read.

        Raises
        ------
        ConfigError
            If the file cannot be read, a column is absent, or positions are no numbers.
        """
        path = Path(path)
        table = _table(path, list(dict.fromkeys((ra, dec, *columns))))
        position = []
        for name in (ra, dec):
            try:
                values = pc.cast(table[name], pa.float64())
            except pa.ArrowInvalid as error:
                raise ConfigError(
                    f"catalogue {path}: column {name!r} is no position in degrees: {error}"
                ) from None
            position.append(values.combine_chunks().fill_null(np.nan).to_numpy())
        return cls(position[0], position[1], table.select(list(dict.fromkeys(columns))))

    def __len__(self) -> int:
        return len(self.ra)

    @cached_property
    def content_hash(self) -> str:
        """Hash over positions and columns, 32 hexadecimal digits, whatever the file's format."""
        content = hashlib.blake2b(digest_size=16)
        for values in (self.ra, self.dec):
            content.update(values.astype("<f8").tobytes())
        for name, column in zip(self.table.column_names, self.table.columns, strict=True):
            content.update(f"{name}\0{column.type!s}\0".encode())
            for part in _parts(column):
                content.update(part)
        return content.hexdigest()

    def within(self, ra: ArrayLike, dec: ArrayLike, radius: ArrayLike) -> Pairs:
        """Return all rows within a radius of each position.

        Parameters
        ----------
        ra, dec : array-like with shape (N,)
            Degrees ICRS.
        radius : float or array-like with shape (N,)
            Arcsec; a row at this very distance is in.
        """
        ra_, dec_, r = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(values, np.float64)) for values in (ra, dec, radius))
        )
        if not (np.isfinite(r).all() and (r >= 0).all() and (r < 180 * 3600).all()):
            raise ConfigError(f"radius {r.max()} is not within 0 to 180 degrees (it is in arcsec)")
        good = np.flatnonzero(_good(ra_, dec_))
        if not len(good) or not len(self._rows):
            return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        # A little more than the chord, as rounding moves a separation by up to 2e-10 arcsec.
        chord = 2.0 * np.sin(0.5 * _ARCSEC * r.max()) * (1 + 1e-12) + 1e-14
        found = cKDTree(_vectors(ra_[good], dec_[good])).sparse_distance_matrix(
            self._tree, chord, output_type="ndarray"
        )
        left, row = good[found["i"]], self._rows[found["j"]]
        distance = separation(ra_[left], dec_[left], self.ra[row], self.dec[row])
        keep = distance <= r[left]
        left, row, distance = left[keep], row[keep], distance[keep]
        order = np.lexsort((row, distance, left))
        return Pairs(left[order], row[order], distance[order])

    def nearest(self, ra: ArrayLike, dec: ArrayLike, radius: ArrayLike) -> Nearest:
        """Return the nearest row within a radius of each position; parameters as for `within`."""
        n = np.atleast_1d(np.asarray(ra)).size
        pairs = self.within(ra, dec, radius)
        row, distance = np.full(n, -1, np.int64), np.full(n, np.nan)
        matched, first = np.unique(pairs.left, return_index=True)
        row[matched], distance[matched] = pairs.row[first], pairs.distance[first]
        return Nearest(row, distance, np.bincount(pairs.left, minlength=n).astype(np.int64))

    def take(self, row: Integers) -> pa.Table:
        """Return the columns at these rows; nulls where a row is -1."""
        return self.table.take(pa.array(row, mask=row < 0))

    def column_types(self) -> dict[str, str]:
        """Return the Spark SQL types of the columns.

        Raises
        ------
        ConfigError
            If a column is of a type that a unit's column cannot have.
        """
        return {field.name: _spark_type(field) for field in self.table.schema}

    @cached_property
    def _rows(self) -> Integers:
        return np.flatnonzero(_good(self.ra, self.dec))

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(_vectors(self.ra[self._rows], self.dec[self._rows]))


def separation(ra1: Any, dec1: Any, ra2: Any, dec2: Any) -> Floats:
    """Return the angle between positions (degrees) in arcsec, by the haversine formula.

    References
    ----------
    Sinnott, R. W. 1984, Sky & Telescope 68, 158.
    """
    dra = ra1 - ra2
    dra = np.radians(dra - 360.0 * np.round(dra / 360.0))
    ddec = np.radians(dec1 - dec2)
    hav = (
        np.sin(0.5 * ddec) ** 2
        + np.cos(np.radians(dec1)) * np.cos(np.radians(dec2)) * np.sin(0.5 * dra) ** 2
    )
    return np.asarray(2.0 * np.arcsin(np.sqrt(np.minimum(hav, 1.0))) / _ARCSEC)


def _spark_type(field: pa.Field) -> str:
    for name, is_kind in _TYPES.items():
        if is_kind(field.type):
            return name
    raise ConfigError(
        f"column {field.name!r} of a catalogue is {field.type}; "
        "what can be taken over are booleans, integers, floating-point numbers and text"
    )


def _good(ra: Floats, dec: Floats) -> npt.NDArray[np.bool_]:
    return np.isfinite(ra) & (np.abs(dec) <= 90.0)


def _vectors(ra: Floats, dec: Floats) -> Floats:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def _table(path: Path, columns: list[str]) -> pa.Table:
    """Read some columns of a file."""
    suffix = path.suffix.lower()
    if not path.exists():
        raise ConfigError(f"catalogue {path} is not there: give the path of a file")
    if suffix not in _FORMATS and not path.is_dir():
        raise ConfigError(
            f"catalogue {path}: cannot read {suffix!r} files; known: {' '.join(_FORMATS)}"
        )
    try:
        if suffix == ".csv":
            from pyarrow import csv

            table = csv.read_csv(path)
        elif suffix in (".fits", ".fit"):
            table = _fits(path, columns)
        else:
            from pyarrow import parquet

            _check(path, parquet.ParquetDataset(path).schema.names, columns)
            table = parquet.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"catalogue {path}: cannot read it: {error}") from None
    _check(path, table.column_names, columns)
    return table.select(columns).unify_dictionaries().combine_chunks()


def _fits(path: Path, columns: list[str]) -> pa.Table:
    from astropy.io import fits

    with fits.open(path) as units:
        tables = [unit for unit in units if isinstance(unit, fits.BinTableHDU | fits.TableHDU)]
        if not tables:
            raise ConfigError(f"catalogue {path} has no table")
        _check(path, tables[0].columns.names, columns)
        arrays = {}
        for name in columns:
            values = np.asarray(tables[0].data[name])
            if values.ndim != 1:
                raise ConfigError(
                    f"catalogue {path}: column {name!r} has more than one value a row"
                )
            native = values.dtype.newbyteorder("=")
            arrays[name] = pa.array(
                values.tolist() if native.kind in "US" else values.astype(native)
            )
    return pa.table(arrays)


def _check(path: Path, there: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in there:
            raise ConfigError(f"catalogue {path}: no column {name!r}{nearest(name, there)}")


def _parts(column: pa.ChunkedArray) -> list[bytes]:
    """Return the bytes of a column that its hash is over: which are null, then the values."""
    values = column.combine_chunks()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        text = [v.encode() for v in values.fill_null("").to_pylist()]
        body = [np.array([len(t) for t in text], "<i8").tobytes(), b"".join(text)]
    else:
        zero = pa.scalar(0).cast(values.type) if not pa.types.is_boolean(values.type) else False
        plain = values.fill_null(zero).to_numpy(zero_copy_only=False)
        body = [plain.astype(plain.dtype.newbyteorder("<")).tobytes()]
    return [values.is_valid().to_numpy(zero_copy_only=False).tobytes(), *body]
