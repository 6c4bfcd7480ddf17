"""Catalogues of positions, and the search for their rows near a position.

`Catalog` holds rows in memory: those of a file, or of a part of the sky. `StoredCatalog` is a
version of a catalogue of a lake; it reads only the tiles that a search needs. Both have the same
methods::

    near = catalog.around(ra, dec, radius)        # a Catalog with all rows that can matter
    pairs = near.match(ra, dec, radius, how="all")
    near.take(pairs.row)                          # columns of these rows

Distances are exact to 1e-10 arcsec, and rows at the same distance are in order of their ids, so a
result depends only on the positions and the rows.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from ampel_spark.errors import ConfigError
from ampel_spark.files import stamp
from ampel_spark.sky.matching import How, Motion, Pairs, engine_for, match, within_counts
from ampel_spark.sky.sources import OWN, CatalogSettings, read_source
from ampel_spark.sky.store import Stored, is_stored
from ampel_spark.sky.tiles import Tiles, canonical, cut

if TYPE_CHECKING:
    from ampel_spark.sky.where import Condition

__all__ = [
    "Catalog",
    "Nearest",
    "Pairs",
    "StoredCatalog",
    "open_catalog",
    "stored_catalog",
]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_TYPES = {"bool": "boolean", "int64": "bigint", "double": "double", "string": "string"}


class Nearest(NamedTuple):
    """The nearest row to each position.

    Attributes
    ----------
    row : ndarray of int64 with shape (N,)
        Row of the catalogue; -1 if no row is within the radius.
    distance : ndarray of float64 with shape (N,)
        Separation, arcsec; NaN if no row is within the radius.
    n_within : ndarray of int64 with shape (N,)
        The number of rows within the radius.
    """

    row: Integers
    distance: Floats
    n_within: Integers


@dataclass(frozen=True, eq=False)
class Catalog:
    """Positions in memory, with further columns.

    Attributes
    ----------
    ra, dec : ndarray of float64 with shape (R,)
        Positions, degrees ICRS. A row with a position that is not finite or beyond a pole matches
        nothing.
    table : pyarrow.Table with R rows
        Further columns.
    key : ndarray of int64 with shape (R,), optional
        The order of rows at the same distance; by default the rows' numbers.
    motion : Motion, optional
        Proper motions.
    tiles : Tiles, optional
        Tiles of the whole catalogue, for `inputs`.

    Examples
    --------
    >>> table = pa.table({"kind": ["star", "galaxy", "star"]})
    >>> catalog = Catalog(np.array([10.0, 10.001, 50.0]), np.zeros(3), table)
    >>> pairs = catalog.match([10.0003, 20.0], [0.0, 0.0], 5.0, how="all", engine="plain")
    >>> pairs.left.tolist(), pairs.row.tolist(), pairs.distance.round(2).tolist()
    ([0, 0], [0, 1], [1.08, 2.52])
    >>> catalog.take(pairs.row)["kind"].to_pylist()
    ['star', 'galaxy']
    """

    ra: Floats
    dec: Floats
    table: pa.Table
    key: Integers | None = None
    motion: Motion | None = None
    tiles: Tiles | None = None

    @classmethod
    def read(
        cls,
        path: str | Path,
        ra: str = "ra",
        dec: str = "dec",
        columns: Sequence[str] = (),
        id: str | None = None,  # noqa: A002 - what it is called in settings
    ) -> Catalog:
        """Read a file, and put its rows in the order of `ampel_spark.sky.tiles.canonical`.

        Parameters
        ----------
        path : path
            A file that `ampel_spark.sky.sources.read_source` reads.
        ra, dec : str
            The columns with the position in degrees.
        columns : sequence of str
            Further columns to read.
        id : str, optional
            The column with the rows' ids.

        Raises
        ------
        ConfigError
            If the file cannot be read, a column is absent, or positions are no numbers.
        """
        names = {n: f"column_{i}" for i, n in enumerate(dict.fromkeys(columns))}
        settings = CatalogSettings(
            ra=ra, dec=dec, id=id, columns={new: name for name, new in names.items()}
        )
        made = cls.of(canonical(read_source([path], settings)))
        return Catalog(
            made.ra, made.dec, made.table.rename_columns(list(names)), made.key, None, made.tiles
        )

    @classmethod
    def of(cls, table: pa.Table, tiles: Tiles | None = None) -> Catalog:
        """Return a table from `ampel_spark.sky.tiles.canonical` as a catalogue.

        Parameters
        ----------
        table : pyarrow.Table
            Rows in their canonical order.
        tiles : Tiles, optional
            Tiles of the whole catalogue if `table` is a part of one; by default its own.
        """
        return cls(
            table["ra"].to_numpy(),
            table["dec"].to_numpy(),
            table.drop_columns([n for n in OWN if n in table.column_names]),
            _key(table["id"]) if "id" in table.column_names else None,
            _motion(table),
            cut(table) if tiles is None else tiles,
        )

    def __len__(self) -> int:
        return len(self.ra)

    @property
    def content_hash(self) -> str:
        """Hash of positions and columns, whatever the file's format: 32 hexadecimal digits."""
        return self._tiles.content_hash

    def reach(self, epoch: ArrayLike) -> Floats:
        """Return how far (arcsec) rows can be, at epochs, from where the catalogue has them."""
        if self.motion is None or not np.isfinite(self.motion.epoch).any():
            return np.zeros(np.shape(epoch))
        known = self.motion.epoch[np.isfinite(self.motion.epoch)]
        speed = np.hypot(np.nan_to_num(self.motion.pmra), np.nan_to_num(self.motion.pmdec))
        return _reach(float(speed.max()) / 1e3, (known.min(), known.max()), epoch)

    def around(
        self, ra: ArrayLike, dec: ArrayLike, radius: ArrayLike, columns: Sequence[str] | None = None
    ) -> Catalog:
        """Return all rows; `StoredCatalog.around` returns those that circles can reach."""
        return self

    def inputs(self, ra: ArrayLike, dec: ArrayLike, radius: ArrayLike) -> list[str]:
        """Return for each circle (degrees, and arcsec) a hash of the tiles that it touches."""
        return self._tiles.inputs(*_circles(ra, dec, radius))

    def match(
        self,
        ra: ArrayLike,
        dec: ArrayLike,
        radius: ArrayLike,
        *,
        how: How = "nearest",
        k: int = 1,
        min_radius: ArrayLike = 0.0,
        where: Condition | None = None,
        epoch: ArrayLike | None = None,
        engine: str | None = None,
    ) -> Pairs:
        """Match positions to rows.

        The parameters are those of `ampel_spark.sky.matching.match`, and:

        Parameters
        ----------
        where : Condition, optional
            Rows that do not meet it are ignored (AMPEL's pre_filter).
        engine : str, optional
            By default the fastest for so many positions and rows.
        """
        rows = np.arange(len(self), dtype=np.int64)
        if where is not None:
            rows = np.flatnonzero(where.mask(self.table))
        pairs = match(
            ra, dec, self.ra[rows], self.dec[rows], radius, how=how, k=k, min_radius=min_radius,
            key=None if self.key is None else self.key[rows],
            motion=None if self.motion is None else self.motion.take(rows),
            epoch=epoch, engine=engine or engine_for(np.size(ra), len(rows)),
        )  # fmt: skip
        return Pairs(pairs.left, rows[pairs.row], pairs.distance)

    def within(self, ra: ArrayLike, dec: ArrayLike, radius: ArrayLike) -> Pairs:
        """Return all rows within a radius (arcsec) of each position (degrees)."""
        return self.match(ra, dec, radius, how="all")

    def nearest(self, ra: ArrayLike, dec: ArrayLike, radius: ArrayLike) -> Nearest:
        """Return the nearest row within a radius (arcsec) of each position (degrees)."""
        n = np.atleast_1d(np.asarray(ra)).size
        pairs = self.within(ra, dec, radius)
        row, distance = np.full(n, -1, np.int64), np.full(n, np.nan)
        matched, first = np.unique(pairs.left, return_index=True)
        row[matched], distance[matched] = pairs.row[first], pairs.distance[first]
        return Nearest(row, distance, within_counts(pairs, n))

    def take(self, row: Integers) -> pa.Table:
        """Return the columns of rows, with nulls for each row -1."""
        return self.table.take(pa.array(row, mask=row < 0))

    def column_types(self) -> dict[str, str]:
        """Return the Spark SQL types of the columns."""
        return {f.name: _TYPES[str(f.type)] for f in self.table.schema}

    @cached_property
    def _tiles(self) -> Tiles:
        if self.tiles is not None:
            return self.tiles
        columns = {"ra": pa.array(self.ra), "dec": pa.array(self.dec)}
        names = [f"column_{i}" for i in range(self.table.num_columns)]
        columns |= dict(zip(names, self.table.columns, strict=True))
        return cut(canonical(pa.table(columns)))


class StoredCatalog:
    """A version of a catalogue of a lake.

    Parameters
    ----------
    path : path
        The catalogue's folder, ``LAKE/catalogs/NAME``.
    version : int, optional
        The version; by default the newest.

    Raises
    ------
    LakeError
        If there is no such catalogue or version.
    """

    def __init__(self, path: str | Path, version: int | None = None) -> None:
        self.stored = Stored.open(path, version)
        self.tiles = self.stored.tiles

    def __len__(self) -> int:
        return int(self.tiles.rows.sum())

    @property
    def content_hash(self) -> str:
        """Hash of positions and columns, whatever the files: 32 hexadecimal digits."""
        return self.stored.content_hash

    def reach(self, epoch: ArrayLike) -> Floats:
        """Return how far (arcsec) rows can be, at epochs, from where the catalogue has them."""
        if self.stored.epochs is None:
            return np.zeros(np.shape(epoch))
        return _reach(self.stored.pm_reach, self.stored.epochs, epoch)

    def around(
        self, ra: ArrayLike, dec: ArrayLike, radius: ArrayLike, columns: Sequence[str] | None = None
    ) -> Catalog:
        """Return the rows of all tiles that circles touch.

        Parameters
        ----------
        ra, dec, radius : array-like, broadcast together
            Centres, degrees, and radii of any size, arcsec.
        columns : sequence of str, optional
            Columns to read beside position and id; by default all.
        """
        _, touched = self.tiles.touched(*_circles(ra, dec, radius))
        return Catalog.of(self.stored.rows(np.unique(touched), columns), self.tiles)

    def inputs(self, ra: ArrayLike, dec: ArrayLike, radius: ArrayLike) -> list[str]:
        """Return for each circle (degrees, and arcsec) a hash of the tiles that it touches."""
        return self.tiles.inputs(*_circles(ra, dec, radius))

    def column_types(self) -> dict[str, str]:
        """Return the Spark SQL types of the columns."""
        return {n: _TYPES[t] for n, t in self.stored.types().items() if n not in OWN}


def open_catalog(
    path: Path,
    version: int | None = None,
    ra: str = "ra",
    dec: str = "dec",
    columns: tuple[str, ...] = (),
    id: str | None = None,  # noqa: A002
) -> Catalog | StoredCatalog:
    """Return a catalogue; a process opens each version once, and a file again when it changes.

    Parameters
    ----------
    path : Path
        A file, or the folder of a catalogue of a lake.
    version : int, optional
        The version of a catalogue of a lake; by default the newest.
    ra, dec, columns, id
        As for `Catalog.read`. For a catalogue of a lake, only `columns` is checked.

    Raises
    ------
    ConfigError
        If a file cannot be read, or a column is absent.
    LakeError
        If there is no such version.
    """
    if is_stored(path):
        if version is None:
            return StoredCatalog(path)
        stored = stored_catalog(path, version)
        types = stored.column_types()
        for column in columns:
            if column not in types:
                from ampel_spark.errors import nearest

                raise ConfigError(f"catalogue {path}: no column {column!r}{nearest(column, types)}")
        return stored
    return _read(path, ra, dec, columns, id, stamp(path))


@functools.lru_cache(maxsize=32)
def stored_catalog(path: str | Path, version: int) -> StoredCatalog:
    """Return a version of a catalogue of a lake; versions do not change, so it is kept."""
    return StoredCatalog(path, version)


@functools.lru_cache(maxsize=8)
def _read(
    path: Path,
    ra: str,
    dec: str,
    columns: tuple[str, ...],
    id: str | None,  # noqa: A002
    known_by: tuple[int, ...],
) -> Catalog:
    return Catalog.read(path, ra, dec, columns, id)


def _circles(ra: Any, dec: Any, radius: Any) -> tuple[Floats, Floats, Floats]:
    ra, dec, radius = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(v, np.float64)) for v in (ra, dec, radius))
    )
    return ra, dec, radius


def _key(ids: pa.ChunkedArray) -> Integers:
    """Return integer ids as they are, and for ids of text their places in order."""
    ids = ids.combine_chunks()
    if pa.types.is_integer(ids.type):
        numbers: Integers = ids.fill_null(np.iinfo(np.int64).max).to_numpy(zero_copy_only=False)
        return numbers
    places: Integers = pc.rank(ids, sort_keys="ascending", tiebreaker="dense").to_numpy()
    return places.astype(np.int64)


def _motion(table: pa.Table) -> Motion | None:
    if "pmra" not in table.column_names:
        return None
    columns: Mapping[str, Floats] = {
        name: table[name].combine_chunks().fill_null(np.nan).to_numpy(zero_copy_only=False)
        for name in ("pmra", "pmdec", "epoch")
    }
    return Motion(**columns)


def _reach(speed: float, epochs: tuple[float, float], epoch: ArrayLike) -> Floats:
    at = np.asarray(epoch, np.float64)
    years = np.maximum(np.abs(at - epochs[0]), np.abs(at - epochs[1]))
    return np.nan_to_num(years) * speed * (1 + 1e-9)
