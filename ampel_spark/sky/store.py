"""Catalogues of a lake: versioned Delta tables under ``catalogs/NAME``.

A catalogue is two tables. ``rows`` holds the rows in order of ``hpx``, for any Delta reader.
``tiles`` has one row for each HEALPix tile, with a hash of its content. It is written last: its
version is the catalogue's version, and names the version of ``rows`` that belongs to it. So readers
do not see an addition that was killed. Both tables are written and read without Spark.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ampel_spark.errors import ConfigError, LakeError, nearest
from ampel_spark.files import files_in
from ampel_spark.lake.log import (
    change_files,
    create,
    metadata_of,
    newest_version,
    table_metadata,
)
from ampel_spark.lake.parts import HashedFile, PartWriter
from ampel_spark.sky.sources import CatalogSettings
from ampel_spark.sky.tiles import Tiles, canonical, cut
from ampel_spark.store import arrow_file, delta_table, place

__all__ = ["CatalogChange", "Stored", "add", "catalog_names", "compare", "folder_of", "is_stored"]

Integers = npt.NDArray[np.int64]

#: Rows of a file, and of a row group, which is the smallest part that is read.
_FILE, _GROUP = 1_000_000, 8192
_KEEP = {
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.enableInCommitTimestamps": "true",
}
# The property that says which columns have statistics; deltalake has to know it.
_NOTED = "delta.dataSkippingStatsColumns"
_COMMENTS = {
    "id": "the catalogue's name of the row",
    "ra": "right ascension at the catalogue's epoch, ICRS [deg]",
    "dec": "declination at the catalogue's epoch, ICRS [deg]",
    "pmra": "proper motion in right ascension, with cos(dec) [mas/yr]",
    "pmdec": "proper motion in declination [mas/yr]",
    "epoch": "epoch of the position [Julian yr]",
    "hpx": "HEALPix index, NESTED, order 29",
}
_TILES = pa.schema(
    [
        pa.field("tile", pa.int64(), metadata={"comment": "UNIQ number; 1 is the whole sky"}),
        pa.field("order", pa.int64(), metadata={"comment": "HEALPix order; -1 is the whole sky"}),
        pa.field("pixel", pa.int64(), metadata={"comment": "HEALPix pixel, NESTED"}),
        pa.field("rows", pa.int64(), metadata={"comment": "rows in it"}),
        pa.field("hash", pa.string(), metadata={"comment": "hash of the values of its rows"}),
        pa.field("rows_version", pa.int64(), metadata={"comment": "version of rows it is about"}),
    ]
)


@dataclass(frozen=True)
class CatalogChange:
    """The tiles (UNIQ numbers) that differ between two versions of a catalogue.

    `same` is the number of tiles that do not differ.
    """

    gained: tuple[int, ...]
    lost: tuple[int, ...]
    changed: tuple[int, ...]
    same: int


@dataclass(frozen=True, eq=False)
class Stored:
    """A version of a catalogue of a lake.

    Attributes
    ----------
    path : Path
        The catalogue's folder.
    version, rows_version : int
        The version of the catalogue, and of its table ``rows``.
    tiles : Tiles
        The catalogue's tiles.
    about : mapping
        The metadata of its commit: ``content_hash``, ``settings``, ``sources``, ``left_out`` (rows
        without a position), ``pm_reach`` [arcsec/yr], ``added`` (time).
    """

    path: Path
    version: int
    rows_version: int
    tiles: Tiles
    about: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path, version: int | None = None) -> Stored:
        """Open a version of a catalogue.

        Parameters
        ----------
        path : path
            The catalogue's folder.
        version : int, optional
            The version; by default the newest.

        Raises
        ------
        LakeError
            If there is no such catalogue or version.
        """
        from deltalake.exceptions import DeltaError

        path = place(path)
        if not is_stored(path):
            names = catalog_names(path.parents[1])
            raise LakeError(
                f"lake {path.parents[1]} has no catalogue {path.name!r}{nearest(path.name, names)};"
                f" `ampel-spark catalog add {path.name} FILE` adds one"
            )
        try:
            table = delta_table(path / "tiles", version)
        except DeltaError:
            newest = delta_table(path / "tiles").version()
            raise LakeError(
                f"catalogue {path.name!r} has no version {version}: it has 0 to {newest}"
            ) from None
        rows = table.to_pyarrow_table(filesystem=files_in(path / "tiles")).sort_by(
            [("order", "ascending"), ("pixel", "ascending")]
        )
        about = metadata_of(path / "tiles", int(table.version()))
        if "content_hash" not in about:
            raise LakeError(
                f"catalogue {path.name!r} of lake {path.parents[1]}: version {table.version()} does"
                " not say what it is: another program wrote it"
            )
        order, pixel, n = (rows[c].to_numpy() for c in ("order", "pixel", "rows"))
        found = Tiles(order, pixel, n, tuple(rows["hash"].to_pylist()), about["schema"])
        on_sky = np.argsort(found.ranges[:, 0], kind="stable")
        tiles = Tiles(
            order[on_sky], pixel[on_sky], n[on_sky],
            tuple(found.hash[i] for i in on_sky), about["schema"],
        )  # fmt: skip
        return cls(path, int(table.version()), int(about["rows_version"]), tiles, about)

    @property
    def content_hash(self) -> str:
        """Hash of the catalogue's content: 32 hexadecimal digits."""
        return str(self.about["content_hash"])

    @property
    def pm_reach(self) -> float:
        """Fastest proper motion, arcsec/yr."""
        return float(self.about["pm_reach"])

    @property
    def epochs(self) -> tuple[float, float] | None:
        """Earliest and latest epoch of its positions, Julian years; None if no row moves."""
        found = self.about["epochs"]
        return (float(found[0]), float(found[1])) if found else None

    @property
    def settings(self) -> CatalogSettings:
        """The settings that it was read with: columns, description, licence, citation."""
        return CatalogSettings.model_validate(self.about["settings"])

    def types(self) -> dict[str, str]:
        """Return the Arrow types of the columns, by name."""
        types: dict[str, str] = json.loads(self.about["schema"])
        return types

    def rows(self, tiles: Integers, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the rows of some tiles.

        Parameters
        ----------
        tiles : ndarray of int64
            The tiles' numbers in `Stored.tiles`, in order.
        columns : sequence of str, optional
            Columns to read beside position, id and motion; by default all.
        """
        types = self.types()
        own = [n for n in ("id", "ra", "dec", "pmra", "pmdec", "epoch") if n in types]
        names = [*own, *(types if columns is None else columns)]
        names = [*dict.fromkeys(n for n in names if n in types), "hpx"]
        ranges = self.tiles.ranges[tiles]
        return self.in_ranges(ranges, names)

    def in_ranges(self, ranges: npt.NDArray[np.int64], names: Sequence[str]) -> pa.Table:
        """Read the columns `names` of the rows whose ``hpx`` lies in ranges, shape (N, 2)."""
        from ampel_spark.sky.healpix import in_ranges, merged

        ranges = merged(ranges)
        parts = [self._schema.empty_table().select(list(names))]
        for file, low, high in self._groups:
            at = np.searchsorted(ranges[:, 1], low, "right")
            wanted = (at < len(ranges)) & (
                ranges[np.minimum(at, len(ranges) - 1), 0] <= high if len(ranges) else False
            )
            groups = np.flatnonzero(wanted).tolist()
            if groups:
                with pq.ParquetFile(arrow_file(file), page_checksum_verification=True) as reader:
                    part = reader.read_row_groups(groups, columns=list(names), use_threads=False)
                parts.append(part.filter(pa.array(in_ranges(part["hpx"].to_numpy(), ranges))))
        return pa.concat_tables(parts, promote_options="permissive").combine_chunks()

    @property
    def files(self) -> list[str]:
        """The Parquet files of its rows, in order."""
        return [file for file, _, _ in self._groups]

    @cached_property
    def _schema(self) -> pa.Schema:
        types = {"bool": pa.bool_(), "int64": pa.int64(), "double": pa.float64()}
        return pa.schema([(n, types.get(t, pa.string())) for n, t in self.types().items()]).append(
            pa.field("hpx", pa.int64())
        )

    @cached_property
    def _groups(self) -> list[tuple[str, Integers, Integers]]:
        """The files in order, with the smallest and largest ``hpx`` of each row group."""
        found = []
        for file in delta_table(self.path / "rows", self.rows_version).file_uris():
            meta = pq.read_metadata(arrow_file(file))
            at = meta.schema.names.index("hpx")
            stats = [meta.row_group(i).column(at).statistics for i in range(meta.num_row_groups)]
            low, high = (np.array([getattr(s, k) for s in stats], np.int64) for k in ("min", "max"))
            found.append((file, low, high))
        return sorted(found, key=lambda entry: int(entry[1][0]))


def folder_of(lake: str | Path, name: str) -> Path:
    """Return the folder of a catalogue of a lake."""
    return place(lake) / "catalogs" / name


def is_stored(path: str | Path) -> bool:
    """Return whether a folder is a catalogue of a lake."""
    return (place(path) / "tiles" / "_delta_log").is_dir()


def catalog_names(lake: str | Path) -> list[str]:
    """Return the names of a lake's catalogues, sorted."""
    return sorted(p.parents[1].name for p in place(lake).glob("catalogs/*/tiles/_delta_log"))


def add(
    lake: str | Path,
    name: str,
    table: pa.Table,
    settings: CatalogSettings | None = None,
    sources: Sequence[Mapping[str, Any]] = (),
) -> tuple[Stored, bool]:
    """Add a catalogue to a lake, or a new version of it.

    Parameters
    ----------
    lake : path
        The lake's folder.
    name : str
        The catalogue's name: a letter, then letters, digits and ``_``.
    table : pyarrow.Table
        Rows as `ampel_spark.sky.sources.read_source` returns them.
    settings : CatalogSettings, optional
        The settings that the rows were read with, for the record.
    sources : sequence of mapping, optional
        The files that the rows were read from, for the record.

    Returns
    -------
    stored : Stored
        The catalogue's version with this content.
    new : bool
        False if the newest version had the same content; then nothing was written.

    Raises
    ------
    ConfigError
        If the name is not allowed, or no row has a position.
    """
    import datetime

    if not name.replace("_", "").isalnum() or not name[0].isalpha():
        raise ConfigError(f"catalogue {name!r}: a name is a letter, then letters, digits and '_'")
    folder = folder_of(lake, name)
    rows = canonical(table)
    if not len(rows):
        raise ConfigError(f"catalogue {name!r}: no row of {len(table)} has a position")
    tiles = cut(rows)
    rows = rows.cast(_described(rows.schema, name))
    files: list[dict[str, Any]] = []
    while True:
        there = Stored.open(folder) if is_stored(folder) else None
        if there is not None and there.content_hash == tiles.content_hash:
            return there, False
        files = files or _write_rows(folder / "rows", rows)
        version = _commit_rows(folder / "rows", files, _schema_of(rows.schema), name)
        about = {
            "content_hash": tiles.content_hash,
            "schema": tiles.schema,
            "rows_version": version,
            "settings": (settings or CatalogSettings()).model_dump(mode="json"),
            "sources": [dict(source) for source in sources],
            "left_out": len(table) - len(rows),
            "pm_reach": _fastest(rows),
            "epochs": _epochs(rows),
            "added": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        manifest = pa.table(
            [
                pa.array(tiles.uniq), pa.array(tiles.order), pa.array(tiles.pixel),
                pa.array(tiles.rows), pa.array(tiles.hash),
                pa.array(np.full(len(tiles.rows), version)),
            ],
            schema=_TILES,
        )  # fmt: skip
        since = None if there is None else there.version
        # Another process may have added to the catalogue meanwhile: what it added is looked at.
        if _commit_table(folder / "tiles", manifest, f"tiles of catalogue {name}", about, since):
            return Stored.open(folder, 0 if since is None else since + 1), True


def compare(before: Stored, after: Stored) -> CatalogChange:
    """Return the tiles that differ between two versions of a catalogue."""
    hashes = [dict(zip(v.tiles.uniq.tolist(), v.tiles.hash, strict=True)) for v in (before, after)]
    if before.tiles.schema != after.tiles.schema:
        hashes[0] = dict.fromkeys(hashes[0], "other columns")
    both = hashes[0].keys() & hashes[1].keys()
    changed = sorted(k for k in both if hashes[0][k] != hashes[1][k])
    return CatalogChange(
        tuple(sorted(hashes[1].keys() - hashes[0].keys())),
        tuple(sorted(hashes[0].keys() - hashes[1].keys())),
        tuple(changed),
        len(both) - len(changed),
    )


def _described(schema: pa.Schema, name: str) -> pa.Schema:
    """Return the columns of a catalogue with what they mean."""
    said = {f.name: _COMMENTS.get(f.name, f"{f.name} of {name}") for f in schema}
    return pa.schema([f.with_metadata({"comment": said[f.name]}) for f in schema])


def _fastest(rows: pa.Table) -> float:
    if "pmra" not in rows.column_names:
        return 0.0
    pm = [
        np.nan_to_num(rows[c].combine_chunks().fill_null(0.0).to_numpy()) for c in ("pmra", "pmdec")
    ]
    return float(np.hypot(*pm).max()) / 1e3


def _epochs(rows: pa.Table) -> list[float]:
    if "epoch" not in rows.column_names:
        return []
    known = rows["epoch"].drop_null().to_numpy()
    known = known[np.isfinite(known)]
    return [float(known.min()), float(known.max())] if len(known) else []


def _write_rows(folder: Path, rows: pa.Table) -> list[dict[str, Any]]:
    """Write rows as files, which no reader sees yet, and return them as a commit takes them."""
    folder.mkdir(parents=True, exist_ok=True)
    # positions hardly compress, so reading speed counts, and zstd takes twice as long to read
    kinds = pa.types.is_string, pa.types.is_boolean
    text = [f.name for f in rows.schema if any(kind(f.type) for kind in kinds)]
    files = []
    for first in range(0, len(rows), _FILE):
        part = rows.slice(first, _FILE)
        path = folder / f"part-{uuid.uuid4()}.parquet"
        with HashedFile(path) as sink:
            pq.write_table(
                part, sink, row_group_size=_GROUP, compression="snappy", use_dictionary=text,
                write_statistics=["hpx"], write_page_checksum=True,
            )  # fmt: skip
        ends = {"least": {"hpx": part["hpx"][0].as_py()}, "most": {"hpx": part["hpx"][-1].as_py()}}
        files.append(
            {"path": path.name, "size": sink.size, "rows": len(part), **ends,
             "nulls": {"hpx": 0}, "digest": sink.hexdigest()}
        )  # fmt: skip
    return files


def _commit_rows(folder: Path, files: Sequence[Mapping[str, Any]], schema: str, name: str) -> int:
    """Let a catalogue have these files and no others, and return the version that does."""
    mine = [file["path"] for file in files]
    said = {"catalog": name}
    while True:
        before = newest_version(folder)
        if before is None:
            comment = f"rows of catalogue {name}"
            if create(folder, schema, comment, _KEEP | {_NOTED: "hpx"}, files, said):
                return 0
            continue
        there = _paths(folder, before)
        if sorted(there) == sorted(mine):
            return before
        other = schema != table_metadata(folder, before)["schemaString"]
        about = {"schemaString": schema} if other else None
        if change_files(folder, files, there, before, said, about=about):
            return before + 1


def _commit_table(
    folder: Path, table: pa.Table, text: str, about: Mapping[str, Any], since: int | None
) -> bool:
    """Let rows be the newest version of a table; say whether nobody was faster."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = PartWriter(folder, table.schema, ["tile"])
    writer.write(table)
    part = writer.close()
    files = [part.as_file()]
    if since is None:
        done = create(
            folder, _schema_of(table.schema), text, _KEEP | {_NOTED: "tile"}, files, about
        )
    else:
        done = change_files(folder, files, _paths(folder, since), since, about)
    if not done:
        (folder / part.name).unlink()
    return done


def _paths(folder: Path, version: int) -> list[str]:
    """Return the files of a version, as its log names them."""
    actions = pa.table(delta_table(folder, version).get_add_actions())
    paths: list[str] = actions["path"].to_pylist()
    return paths


def _schema_of(schema: pa.Schema) -> str:
    """Return a schema as Delta's log has it."""
    from deltalake import Schema

    return str(Schema.from_arrow(schema).to_json())
