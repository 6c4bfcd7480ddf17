"""Galactic latitude against astropy."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from pyspark.sql import SparkSession
from pyspark.sql import functions as f

from ampel_spark.t0.galactic import galactic_latitude, galactic_latitude_sql


@pytest.fixture(scope="module")
def positions() -> np.ndarray:
    """Positions all over the sky, on its seams, and at the galactic poles."""
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 1000), np.degrees(np.arcsin(rng.uniform(-1, 1, 1000)))
    pole = SkyCoord(l=[0, 40, 0], b=[90, 90 - 1e-7, -90], unit="deg", frame="galactic").icrs
    seams = [(0.0, 0.0), (360.0, 0.0), (0.0, 90.0), (123.0, -90.0), (266.405, -28.936)]
    return np.concatenate(
        [np.column_stack([ra, dec]), np.column_stack([pole.ra.deg, pole.dec.deg]), seams]
    )


@pytest.fixture(scope="module")
def truth(positions: np.ndarray) -> np.ndarray:
    return SkyCoord(positions[:, 0], positions[:, 1], unit="deg").galactic.b.deg


def test_one_position_agrees_with_astropy(positions: np.ndarray, truth: np.ndarray) -> None:
    mine = [galactic_latitude(ra, dec) for ra, dec in positions.tolist()]
    np.testing.assert_allclose(mine, truth, rtol=0, atol=1e-9)


@pytest.mark.spark
def test_the_sql_agrees_with_astropy(
    spark: SparkSession, positions: np.ndarray, truth: np.ndarray
) -> None:
    rows = [(i, *p) for i, p in enumerate(positions.tolist())]
    df = spark.createDataFrame(rows, "i int, ra double, dec double")
    made = df.select("i", f.expr(galactic_latitude_sql("ra", "dec")).alias("b")).collect()
    mine = [r.b for r in sorted(made, key=lambda r: r.i)]
    np.testing.assert_allclose(mine, truth, rtol=0, atol=1e-9)


@pytest.mark.spark
def test_no_position_has_no_latitude(spark: SparkSession) -> None:
    df = spark.createDataFrame([(None, 1.0), (1.0, None)], "ra double, dec double")
    made = df.select(f.expr(galactic_latitude_sql("ra", "dec")).alias("b")).collect()
    assert [r.b for r in made] == [None, None]
