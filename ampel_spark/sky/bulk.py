"""Two catalogues of a lake matched as a whole, on Spark.

A task takes a stretch of the sky: it reads the left rows there, and all right rows that the left
ones can reach, from the files themselves. No row is shuffled, none is read by the JVM, and no pair
is lost at an edge, whatever the radius.
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
from ampel_spark.sky.catalogs import Catalog, StoredCatalog
from ampel_spark.sky.matching import How, Pairs, first_of_each, match

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["match_catalogs", "match_part"]

Integers = npt.NDArray[np.int64]

# Columns that a match reads, and the order of pixels by which the right side's rows are chosen.
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
    """Match every row of one catalogue to those of another.

    Parameters
    ----------
    spark : SparkSession
    left, right : (path, version)
        Catalogues of a lake, by folder; both with ids. Positions are those of their epochs.
    radius : float
        Arcsec.
    how, k
        As for `ampel_spark.sky.matching.match`.
    tasks : int, optional
        Default: two for each core. No pair depends on it.

    Returns
    -------
    DataFrame
        ``left_id, right_id`` (bigint or string, as in the catalogues), ``distance`` [arcsec].
    """
    types = []
    for path, version in (left, right):
        stored = StoredCatalog(path, version)
        if "id" not in stored.stored.types():
            raise ConfigError(f"catalogue {path} has no id: name one in its settings")
        types.append("string" if stored.stored.types()["id"] == "string" else "bigint")
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


def match_part(
    left: StoredCatalog, right: StoredCatalog, tiles: Integers, radius: float, how: How, k: int = 1
) -> pa.Table:
    """Match the rows of some tiles of a catalogue to another; see `match_catalogs`."""
    rows = left.stored.rows(tiles, ())
    mine, ids = Catalog.of(rows, left.tiles), rows["id"]
    rows = right.stored.in_ranges(_reached(rows["hpx"].to_numpy(), radius), _OWN)
    near, near_ids = Catalog.of(rows, right.tiles), rows["id"]
    most = {"all": 0, "nearest": 1, "any": 1, "k": k}[how]
    if len(near) > 2 * len(mine):
        # the small side as the index, the large one looked up in it
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


def _reached(hpx: Integers, radius: float) -> healpix.Ranges:
    """Return ranges that hold all within a radius (arcsec) of positions in order-29 pixels."""
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
            found = match_part(StoredCatalog(*left), StoredCatalog(*right), tiles, radius, how, k)
            yield from found.combine_chunks().to_batches()
