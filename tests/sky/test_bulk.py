"""Catalogue against catalogue, tile by tile, over the full sky: no pair lost, none twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord, search_around_sky
from pyspark.sql import SparkSession

from ampel_spark.errors import ConfigError
from ampel_spark.sky import store, tiles
from ampel_spark.sky.bulk import match_catalogs, match_part, match_rows
from ampel_spark.sky.catalogs import StoredCatalog
from ampel_spark.sky.matching import match
from ampel_spark.sky.store import add, folder_of
from tests.sky.skies import awkward_sky

RA, DEC = awkward_sky(3000, seed=21)
RA2, DEC2 = (v + np.random.default_rng(22).normal(0, 1e-4, 3000) for v in (RA, DEC))
DEC2 = np.clip(DEC2, -90, 90)
IDS, IDS2 = (np.random.default_rng(seed).permutation(3000) for seed in (23, 24))


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two catalogues, of other tiles each, and a small one."""
    monkeypatch.setattr(store, "_GROUP", 50)
    for name, cap, n in (("left", 30, 3000), ("right", 90, 3000), ("small", 90, 300)):
        monkeypatch.setattr(tiles, "CAP", cap)
        ra, dec, ids = (RA, DEC, IDS) if name != "right" else (RA2, DEC2, IDS2)
        add(tmp_path, name, pa.table({"id": ids[:n], "ra": ra[:n], "dec": dec[:n]}))
    return tmp_path


def truth(n: int, radius: float, how: Any, k: int) -> set[tuple[int, int, float]]:
    pairs = match(RA[:n], DEC[:n], RA2, DEC2, radius, how=how, k=k, key=IDS2, engine="tree")
    return set(zip(IDS[pairs.left].tolist(), IDS2[pairs.row].tolist(), pairs.distance.tolist(),
                   strict=True))  # fmt: skip


def pairs_of(table: pa.Table) -> set[tuple[int, int, float]]:
    rows = [tuple(row.values()) for row in table.to_pylist()]
    assert len(set(rows)) == len(rows)
    return set(rows)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("radius", "how", "left"),
    [(0.5, "nearest", "left"), (30.0, "all", "left"), (300.0, "k", "left"),
     (20_000.0, "nearest", "left"), (30.0, "all", "small"), (300.0, "nearest", "small")],
)  # fmt: skip
def test_stretches_of_the_sky_give_what_the_whole_gives(
    lake: Path, radius: float, how: Any, left: str
) -> None:
    sides = [StoredCatalog(folder_of(lake, name)) for name in (left, "right")]
    n = len(sides[0].tiles.rows)
    for parts in (1, 7):
        found = [
            match_part(sides[0], sides[1], part, radius, how, 3)
            for part in np.array_split(np.arange(n), parts)
            if len(part)
        ]
        expected = truth(len(sides[0]), radius, how, 3)
        assert pairs_of(pa.concat_tables(found)) == expected
        assert len(expected) > 50


@pytest.mark.spark
def test_the_same_through_spark_whatever_the_number_of_tasks(
    spark: SparkSession, lake: Path
) -> None:
    sides = [(folder_of(lake, name), 0) for name in ("left", "right")]
    expected = truth(3000, 10.0, "nearest", 1)
    for tasks in (1, 5):
        found = match_catalogs(spark, sides[0], sides[1], 10.0, tasks=tasks).toArrow()
        assert pairs_of(found) == expected
    # the left side from Spark, in whatever order and partitions, a row without a position in it
    shuffled = np.random.default_rng(25).permutation(3000)
    rows = pa.table({"name": IDS[shuffled], "a": RA[shuffled], "d": DEC[shuffled]})
    rows = pa.concat_tables([rows, pa.table({"name": [-1], "a": pa.array([None], pa.float64()),
                                             "d": [1.0]})])  # fmt: skip
    frame = spark.createDataFrame(rows).repartition(3)
    found = match_rows(frame, sides[1], 10.0, id="name", ra="a", dec="d").toArrow()
    assert pairs_of(found) == expected


@pytest.mark.spark
@pytest.mark.parametrize("radius", [0.1, 3.0, 300.0])
def test_no_pair_differs_from_those_of_astropy_through_spark(
    spark: SparkSession, lake: Path, radius: float
) -> None:
    sides = [(folder_of(lake, name), 0) for name in ("left", "right")]
    found = match_catalogs(spark, sides[0], sides[1], radius, how="all", tasks=4).toArrow()
    left, row, _, _ = search_around_sky(
        SkyCoord(RA, DEC, unit="deg"), SkyCoord(RA2, DEC2, unit="deg"), radius * u.arcsec
    )
    expected = set(zip(IDS[left].tolist(), IDS2[row].tolist(), strict=True))
    assert {pair[:2] for pair in pairs_of(found)} == expected
    assert len(expected) > 500


def test_a_catalogue_without_ids_is_told(lake: Path) -> None:
    add(lake, "nameless", pa.table({"ra": [1.0], "dec": [1.0]}))
    sides = [(folder_of(lake, name), 0) for name in ("nameless", "right")]
    with pytest.raises(ConfigError, match="has no id"):
        match_catalogs(None, sides[0], sides[1], 1.0)  # type: ignore[arg-type]
