"""catalog_match through Spark: what a new version makes stale, and the real archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray
from pyarrow import csv
from pyspark.sql import DataFrame, SparkSession

from ampel_spark.job.configuration.catalogs import load_settings
from ampel_spark.sky import tiles
from ampel_spark.sky.sources import read_source
from ampel_spark.sky.store import add, compare, folder_of
from ampel_spark.t2 import Unit, runner
from ampel_spark.t2.registry import build
from tests.t2.staged import curves

pytestmark = pytest.mark.spark

Floats = NDArray[np.float64]


def staged(spark: SparkSession, ra: Floats, dec: Floats) -> DataFrame:
    """Light curves of one detection each."""
    batch = curves([[18.0]] * len(ra), ra=ra.tolist(), dec=dec.tolist())
    return spark.createDataFrame(pa.Table.from_batches([batch.drop_columns(["input_hash"])]))


def wanted(objects: DataFrame, unit: Unit) -> DataFrame:
    """What the unit is to see, with the hash of what it reads."""
    states = objects.select("state_id", *(f"lc_{n}" for n in runner.input_fields(unit)))
    return runner.wanted(states, {}, unit).select("state_id", "input_hash")


def test_five_of_49_changed_tiles_are_five_tiles_work_and_a_new_object_is_matched_alone(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "CAP", 40)
    pixels = np.random.default_rng(1).choice(192, 49, replace=False)
    lon, lat = (v.deg for v in _centres(pixels, 2))
    rng = np.random.default_rng(2)
    ra = (np.repeat(lon, 40) + rng.uniform(-2, 2, 49 * 40)) % 360
    dec = np.repeat(lat, 40) + rng.uniform(-2, 2, 49 * 40)
    z = rng.random(len(ra))
    before, _ = add(tmp_path, "galaxies", pa.table({"ra": ra, "dec": dec, "z": z}))
    changed = [3, 11, 22, 30, 48]  # one galaxy in each of five tiles
    z[np.array(changed) * 40] += 1.0
    after, _ = add(tmp_path, "galaxies", pa.table({"ra": ra, "dec": dec, "z": z}))
    change = compare(before, after)
    assert (len(change.changed), change.same) == (5, 44)
    old, new = (
        build("catalog_match", {"catalog": folder_of(tmp_path, "galaxies"), "version": v,
                                "radius": 5, "append": ["z"]}, tmp_path) for v in (0, 1)
    )  # fmt: skip
    # two objects on a galaxy of each tile, and at last one that no run has seen
    here = np.append(np.repeat(np.arange(49) * 40, 2), 7 * 40 + 1)
    objects = staged(spark, ra[here], dec[here])
    known = objects.where("stock < 98")
    key = ["state_id", "input_hash", "trace_id", "status", "attempts"]
    (tmp_path / "parts").mkdir()
    runner.compute(wanted(known, old), known, old, "t", 98, tmp_path / "parts", "run")
    found = pq.read_table(tmp_path / "parts", columns=key).to_pandas()
    assert (len(found), set(found["status"])) == (98, {0})
    present = spark.createDataFrame(found)
    todo = {r["state_id"] for r in runner.stale(wanted(objects, new), present, "t").collect()}
    assert todo == {f"s{2 * t + i}" for t in changed for i in (0, 1)} | {"s98"}
    # under the old version the new object is all there is to do
    todo = {r["state_id"] for r in runner.stale(wanted(objects, old), present, "t").collect()}
    assert todo == {"s98"}


def _centres(pixels: NDArray[np.int64], order: int) -> Any:
    from astropy_healpix import healpix_to_lonlat

    return healpix_to_lonlat(pixels, 1 << order, order="nested")


#: Catalogue: file, radius [arcsec], column, and how many of the 1,144 objects have a row there.
REAL = {
    "mangrove": ("mangrove_galaxies.parquet", 30.0, "lum_dist", 36),
    "vsx": ("vsx_random200k.parquet", 3.0, "type", 17),
    "gcvs": ("gcvs.parquet", 3.0, "type", 29),
    "lenscat": ("lenscat_catalog.csv", 30.0, "lens", 6),
}


@pytest.mark.real_data
def test_the_real_archive_has_the_matches_that_astropy_finds_by_brute_force(
    spark: SparkSession, shared_data: Path, tmp_path: Path
) -> None:
    ra, dec = _latest_positions(shared_data / "ztf_alerts" / "manifest.csv")
    assert len(ra) == 1144
    objects = staged(spark, ra, dec)
    settings, truth = {}, {}
    for name, (file, radius, column, n) in REAL.items():
        table = read_source([shared_data / "catalogs" / file], load_settings(name), name)
        stored, _ = add(tmp_path, name, table)
        settings[name] = {"catalog": stored.path, "version": 0, "radius": radius,
                          "append": {"found": column}}  # fmt: skip
        left, row, apart = _brute_force(ra, dec, table["ra"], table["dec"], radius)
        truth[name] = (left, apart, table[column].take(pa.array(row)).to_pylist(), n)
    unit = build("catalog_match", {"catalogs": settings, "position": "latest"}, tmp_path)
    (tmp_path / "parts").mkdir()
    runner.compute(wanted(objects, unit), objects, unit, "t", len(ra), tmp_path / "parts", "run")
    found = pq.read_table(tmp_path / "parts").to_pandas().sort_values("stock")
    assert (found["status"] == 0).all()
    for name, (left, apart, values, n) in truth.items():
        nearest: dict[int, list[tuple[float, Any]]] = {}
        for i, d, value in zip(left.tolist(), apart.tolist(), values, strict=True):
            nearest.setdefault(i, []).append((d, value))
        assert len(nearest) == n, name
        np.testing.assert_array_equal(found[f"{name}_matched"], np.isin(np.arange(1144), left))
        np.testing.assert_array_equal(found[f"{name}_n_within"], np.bincount(left, minlength=1144))
        mine = found[found[f"{name}_matched"].astype(bool)]
        for i, d, value in zip(mine["stock"], mine[f"{name}_distance"], mine[f"{name}_found"],
                               strict=True):  # fmt: skip
            best = min(nearest[i])[0]
            assert d == pytest.approx(best, abs=1e-9)
            assert value in [v for at, v in nearest[i] if at < best + 1e-9]
        assert found.loc[~found[f"{name}_matched"].astype(bool), f"{name}_distance"].isna().all()


def _brute_force(ra: Floats, dec: Floats, ra2: Any, dec2: Any, radius: float) -> Any:
    """Return all pairs within a radius: every row near in declination, measured by astropy."""
    ra2, dec2 = (v.to_numpy() for v in (ra2, dec2))
    order = np.argsort(dec2)
    first, last = (np.searchsorted(dec2[order], dec + s * radius / 3600) for s in (-1.01, 1.01))
    left = np.repeat(np.arange(len(dec)), last - first)
    row = np.concatenate([order[a:b] for a, b in zip(first, last, strict=True)])
    apart = (
        SkyCoord(ra[left], dec[left], unit="deg")
        .separation(SkyCoord(ra2[row], dec2[row], unit="deg"))
        .arcsec
    )
    near = apart <= radius
    return left[near], row[near], apart[near]


def _latest_positions(manifest: Path) -> tuple[Floats, Floats]:
    """Return the position of the last packet of each object, objects in order of name."""
    rows = csv.read_csv(manifest).sort_by([("objectId", "ascending"), ("jd", "descending")])
    _, first = np.unique(rows["objectId"].to_pylist(), return_index=True)
    return rows["ra"].to_numpy()[first], rows["dec"].to_numpy()[first]
