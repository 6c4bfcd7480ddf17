"""Matches of whole catalogues on Spark: to each other, or to the rows of any table.

Use `match_catalogs` for two catalogues of a lake: each task reads the left rows of a part of the
sky, and all right rows within their reach, directly from the files. Use `match_rows` where the left
side is a Spark DataFrame; it is slower. Both return the same pairs, and lose none at an edge.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampel_spark.errors import ConfigError
from ampel_spark.sky import healpix
from ampel_spark.sky.catalogs import Catalog, StoredCatalog, stored_catalog
from ampel_spark.sky.matching import How, Pairs, first_of_each, match

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["match_catalogs", "match_part", "match_rows"]

Integers = npt.NDArray[np.int64]

#: Rows of a DataFrame that a task matches at once.
_ROWS = 1_000_000
# Columns that a match reads, and the finest order of the pixels that select the right rows.
_OWN, _COARSE = ("id", "ra", "dec", "hpx"), 9


def match_catalogs(
    spark: SparkSession,
    left: tuple[str | Path, int],
    right: tuple[str | Path, int],
    radius: float,
    *,
    how: How = "nearest",
    k: int = 1,
    tasks: int | None = None,
) -> DataFrame:
    """Match every row of one catalogue to the rows of another; raise `ConfigError` without ids.

    Parameters
    ----------
    spark : SparkSession
        The session that runs the tasks.
    left, right : (path, version)
        Folder and version of two catalogues with ids; positions are at the catalogues' epochs.
    radius : float
        Largest distance, arcsec.
    how, k
        As for `ampel_spark.sky.matching.match`.
    tasks : int, optional
        The number of tasks, by default two for each core; the pairs do not depend on it.

    Returns
    -------
    DataFrame
        ``left_id, right_id`` (bigint or string, as in the catalogues), ``distance`` [arcsec].
    """
    types = [_id_type(path, version) for path, version in (left, right)]
    tiles = StoredCatalog(*left).tiles
    n = tasks or 2 * spark.sparkContext.defaultParallelism
    before = np.cumsum(tiles.rows) - tiles.rows
    part = np.minimum(before * n // max(int(tiles.rows.sum()), 1), n - 1)
    first = np.flatnonzero(np.diff(part, prepend=-1))
    last = np.append(first[1:], len(part))
    stretches = [(i, int(a), int(b)) for i, (a, b) in enumerate(zip(first, last, strict=True))]
    # each stretch in a partition of its own, without a shuffle
    ranges = spark.range(0, len(stretches), 1, len(stretches))
    work = functools.partial(_task, left, right, radius, how, k, stretches)
    return ranges.mapInArrow(work, f"left_id {types[0]}, right_id {types[1]}, distance double")


def match_rows(
    rows: DataFrame,
    catalog: tuple[str | Path, int],
    radius: float,
    *,
    id: str = "id",  # noqa: A002 - what it is called in catalogues
    ra: str = "ra",
    dec: str = "dec",
    how: How = "nearest",
    k: int = 1,
) -> DataFrame:
    """Match the rows of a DataFrame to a catalogue; raise `ConfigError` if that has no ids.

    Parameters
    ----------
    rows : DataFrame
        The left rows. A partition reads the part of the catalogue that its rows can reach, so this
        is fastest for rows in order of ``hpx``.
    catalog : (path, version)
        Folder and version of a catalogue with ids.
    radius : float
        Largest distance, arcsec.
    id, ra, dec : str
        Columns of `rows`: an id (integer or text), and the position, degrees.
    how, k
        As for `ampel_spark.sky.matching.match`.

    Returns
    -------
    DataFrame
        ``left_id, right_id, distance`` [arcsec], as `match_catalogs` returns.
    """
    from pyspark.sql import functions as f

    of_left = rows.schema[id].dataType.simpleString()
    left_id = f.col(id).cast("string" if of_left == "string" else "bigint")
    of_left = "string" if of_left == "string" else "bigint"
    narrow = rows.select(left_id.alias("id"), f.col(ra).cast("double").alias("ra"),
                         f.col(dec).cast("double").alias("dec"))  # fmt: skip
    work = functools.partial(_rows_task, catalog, radius, how, k)
    types = f"left_id {of_left}, right_id {_id_type(*catalog)}, distance double"
    return narrow.mapInArrow(work, types)


def match_part(
    left: StoredCatalog, right: StoredCatalog, tiles: Integers, radius: float, how: How, k: int = 1
) -> pa.Table:
    """Return the pairs of `match_catalogs` for the left rows of some tiles, without Spark."""
    rows = left.stored.rows(tiles, ())
    mine, ids = Catalog.of(rows, left.tiles), rows["id"]
    rows = right.stored.in_ranges(_reached(rows["hpx"].to_numpy(), radius), _OWN)
    return _pairs(mine, ids, Catalog.of(rows, right.tiles), rows["id"], radius, how, k)


def _pairs(
    mine: Catalog,
    ids: pa.ChunkedArray,
    near: Catalog,
    near_ids: pa.ChunkedArray,
    radius: float,
    how: How,
    k: int,
) -> pa.Table:
    most = {"all": 0, "nearest": 1, "any": 1, "k": k}[how]
    if len(near) > 2 * len(mine):
        # the smaller side makes the index, and the larger side is looked up in it
        turned = match(near.ra, near.dec, mine.ra, mine.dec, radius, how="all")
        key = np.arange(len(near)) if near.key is None else near.key
        order = np.lexsort((turned.left, key[turned.left], turned.distance, turned.row))
        pairs = first_of_each(
            Pairs(turned.row[order], turned.left[order], turned.distance[order]), most
        )
    else:
        pairs = near.match(mine.ra, mine.dec, radius, how=how, k=k)
    return pa.table(
        {
            "left_id": ids.take(pa.array(pairs.left)),
            "right_id": near_ids.take(pa.array(pairs.row)),
            "distance": pa.array(pairs.distance),
        }
    )


def _id_type(path: str | Path, version: int) -> str:
    types = StoredCatalog(path, version).stored.types()
    if "id" not in types:
        raise ConfigError(f"catalogue {path} has no id: name one in its settings")
    return "string" if types["id"] == "string" else "bigint"


def _reached(hpx: Integers, radius: float) -> healpix.Ranges:
    """Return ranges that cover all circles of a radius (arcsec) about order-29 pixels."""
    order = min(healpix.order_for(radius / 3600.0), _COARSE)
    if order < 0:
        return np.array([[0, healpix.SKY]])
    pixel = hpx >> (2 * (healpix.ORDER - order))
    near = healpix.around(pixel[np.flatnonzero(np.diff(pixel, prepend=-1))], order)
    return healpix.ranges_of(np.unique(near[near >= 0]), order)


def _task(
    left: tuple[str | Path, int],
    right: tuple[str | Path, int],
    radius: float,
    how: How,
    k: int,
    stretches: list[tuple[int, int, int]],
    batches: Iterator[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for number in batch.column("id").to_pylist():
            _, first, last = stretches[number]
            tiles = np.arange(first, last)
            sides = stored_catalog(*left), stored_catalog(*right)
            found = match_part(*sides, tiles, radius, how, k)
            yield from found.combine_chunks().to_batches()


def _rows_task(
    catalog: tuple[str | Path, int],
    radius: float,
    how: How,
    k: int,
    batches: Iterator[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    right = stored_catalog(*catalog)
    for rows in _gathered(batches):
        ra, dec = (rows[n].combine_chunks().fill_null(np.nan).to_numpy() for n in ("ra", "dec"))
        hpx = healpix.pixels(ra, dec)
        wanted = right.stored.in_ranges(_reached(np.sort(hpx[hpx >= 0]), radius), _OWN)
        near = Catalog.of(wanted, right.tiles)
        mine = Catalog(ra, dec, pa.table({}))
        found = _pairs(mine, rows["id"], near, wanted["id"], radius, how, k)
        yield from found.combine_chunks().to_batches()


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join batches to tables of at least `_ROWS` rows, as each table reads a part of the sky."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(len(part) for part in held) >= _ROWS:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)
