"""Local catalogues, held to astropy's search_around_sky."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord, search_around_sky
from astropy.table import Table
from numpy.typing import NDArray
from pyarrow import csv, parquet

from ampel_spark.errors import ConfigError
from ampel_spark.sky.angles import separation
from ampel_spark.sky.catalogs import Catalog

Floats = NDArray[np.float64]


def catalog_of(ra: Floats, dec: Floats) -> Catalog:
    return Catalog(ra, dec, pa.table({"id": np.arange(len(ra))}))


def awkward_sky(n: int, seed: int) -> tuple[Floats, Floats]:
    """Positions everywhere, and many across right ascension 0 and at both poles."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    third = n // 3
    ra[:third] = rng.normal(0, 0.01, third) % 360
    dec[:third] = rng.uniform(-1, 1, third)
    dec[third : 2 * third] = rng.choice([-90, 90], third) * (1 - rng.exponential(1e-4, third))
    dec[third], dec[third + 1] = 90.0, -90.0
    return ra, dec


@pytest.mark.parametrize("radius", [0.5, 10.0, 60.0, 600.0])
def test_rows_within_a_radius_are_those_that_astropy_finds(radius: float) -> None:
    ra, dec = awkward_sky(3000, seed=1)
    rng = np.random.default_rng(2)
    some = rng.integers(3000, size=600)
    dec_left = np.clip(dec[some] + rng.normal(0, radius / 3600, 600), -90, 90)
    ra_left = (ra[some] + rng.normal(0, radius / 3600, 600)) % 360

    pairs = catalog_of(ra, dec).within(ra_left, dec_left, radius)

    left, row, distance, _ = search_around_sky(
        SkyCoord(ra_left, dec_left, unit="deg"), SkyCoord(ra, dec, unit="deg"), radius * u.arcsec
    )
    order = np.lexsort((row, left))
    ours = np.lexsort((pairs.row, pairs.left))
    assert len(pairs.left) > 300
    np.testing.assert_array_equal(pairs.left[ours], left[order])
    np.testing.assert_array_equal(pairs.row[ours], row[order])
    np.testing.assert_allclose(pairs.distance[ours], distance.arcsec[order], atol=1e-9)


def test_nearest_is_the_first_of_all_pairs_and_says_how_many_there_are() -> None:
    ra, dec = awkward_sky(2000, seed=3)
    catalog = catalog_of(ra, dec)
    pairs, nearest = catalog.within(ra, dec, 300.0), catalog.nearest(ra, dec, 300.0)

    np.testing.assert_array_equal(nearest.n_within, np.bincount(pairs.left, minlength=2000))
    for i in range(0, 2000, 50):
        mine = pairs.left == i
        assert nearest.distance[i] == pairs.distance[mine].min() == 0.0
        assert nearest.row[i] == pairs.row[mine][0]


def test_a_match_goes_across_right_ascension_zero_and_over_the_pole() -> None:
    catalog = catalog_of(np.array([359.9999, 10.0, 77.0]), np.array([0.0, 89.9999, -90.0]))
    found = catalog.nearest([0.0001, 190.0, 12.0, -0.0002], [0.0, 89.9999, -90.0, 0.0], 1.0)
    np.testing.assert_array_equal(found.row, [0, 1, 2, 0])
    np.testing.assert_allclose(found.distance, [0.72, 0.72, 0.0, 0.36], atol=1e-9)


def test_ties_go_to_the_smallest_row_in_whatever_order_positions_come() -> None:
    rng = np.random.default_rng(4)
    ra, dec = np.repeat(rng.uniform(0, 1, 40), 5), np.repeat(rng.uniform(0, 1, 40), 5)
    catalog = catalog_of(ra, dec)
    shuffled = rng.permutation(200)
    found = catalog.nearest(ra[shuffled], dec[shuffled], 1.0)
    np.testing.assert_array_equal(found.row, shuffled // 5 * 5)
    one_by_one = [catalog.nearest(ra[i], dec[i], 1.0).row[0] for i in shuffled]
    np.testing.assert_array_equal(found.row, one_by_one)


def test_a_row_at_the_radius_is_in_and_one_beyond_it_is_not() -> None:
    catalog = catalog_of(np.array([0.0]), np.array([10.0]))
    exactly = separation(0.0, 10.001, 0.0, 10.0)
    assert catalog.nearest([0.0], [10.001], exactly).row[0] == 0
    assert catalog.nearest([0.0], [10.001], np.nextafter(exactly, 0)).row[0] == -1
    assert catalog.nearest([0.0], [10.0], 0.0).row[0] == 0


def test_each_position_may_have_its_own_radius() -> None:
    catalog = catalog_of(np.array([0.0]), np.array([0.0]))
    found = catalog.nearest([0.0, 0.0], [0.001, 0.001], [3.0, 4.0])
    np.testing.assert_array_equal(found.row, [-1, 0])


def test_what_is_no_position_is_near_nothing() -> None:
    bad_ra, bad_dec = np.array([np.nan, 5.0, 5.0, np.inf]), np.array([5.0, np.nan, 91.0, 5.0])
    assert not len(catalog_of(bad_ra, bad_dec).within([5.0], [5.0], 1e5).row)
    found = catalog_of(np.array([5.0]), np.array([5.0])).nearest(bad_ra, bad_dec, 1e5)
    np.testing.assert_array_equal(found.row, [-1] * 4)
    assert np.isnan(found.distance).all()
    assert not len(catalog_of(np.empty(0), np.empty(0)).within([5.0], [5.0], 1.0).row)


@pytest.mark.parametrize("radius", [-1.0, np.nan, 180 * 3600.0])
def test_a_radius_that_is_none_is_refused(radius: float) -> None:
    with pytest.raises(ConfigError, match="arcsec"):
        catalog_of(np.array([0.0]), np.array([0.0])).within([0.0], [0.0], radius)


def test_the_separation_keeps_its_accuracy_from_a_nanosecond_of_arc_to_the_antipode() -> None:
    mas = np.array([1e-6, 1e-3, 1.0, 1e3])
    np.testing.assert_allclose(separation(0.0, 0.0, 0.0, mas / 3.6e6), mas / 1e3, rtol=1e-12)
    np.testing.assert_allclose(separation(350.0, 0.0, 170.0, 0.0), 180 * 3600.0, rtol=1e-12)


def tables(folder: Path) -> list[Path]:
    """The same catalogue as Parquet, CSV and FITS."""
    table = pa.table(
        {
            "RAdeg": [10.0, 20.0, 30.0],
            "DEdeg": [-1.0, 0.0, 1.0],
            "z": [0.1, 0.2, 0.3],
            "n": [1, 2, 3],
            "name": ["a", "b", "ü"],
        }
    )
    parquet.write_table(table, folder / "c.parquet")
    csv.write_csv(table, folder / "c.csv")
    fits = Table({name: table[name].to_pylist() for name in table.column_names if name != "name"})
    fits["name"] = ["a", "b", "u"]
    fits.write(folder / "c.fits")
    return [folder / "c.parquet", folder / "c.csv", folder / "c.fits"]


def test_parquet_csv_and_fits_say_the_same(tmp_path: Path) -> None:
    catalogs = [Catalog.read(path, "RAdeg", "DEdeg", ["z", "n"]) for path in tables(tmp_path)]
    assert len({c.content_hash for c in catalogs}) == 1
    for catalog in catalogs:
        assert catalog.column_types() == {"z": "double", "n": "bigint"}
        found = catalog.nearest([20.0, 25.0], [0.0, 0.0], 1.0)
        assert catalog.take(found.row).to_pydict() == {"z": [0.2, None], "n": [2, None]}


def test_text_can_be_taken_over(tmp_path: Path) -> None:
    for path in tables(tmp_path):
        catalog = Catalog.read(path, "RAdeg", "DEdeg", ["name"])
        assert catalog.column_types() == {"name": "string"}
        assert catalog.take(np.array([1, -1])).to_pydict() == {"name": ["b", None]}


def test_the_content_hash_sees_every_value_and_every_null() -> None:
    def hashed(**changes: object) -> str:
        columns: dict[str, object] = {"z": [0.1, None], "name": ["ab", "c"], "good": [True, False]}
        return Catalog(np.zeros(2), np.zeros(2), pa.table(columns | changes)).content_hash

    assert hashed() == hashed()
    others = [
        hashed(z=[0.1, 0.0]),
        hashed(z=[None, 0.1]),
        hashed(name=["a", "bc"]),
        hashed(name=["ab", None]),
        hashed(good=[True, True]),
    ]
    assert len({hashed(), *others}) == 6


def test_a_missing_position_is_a_row_near_nothing(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"ra": [None, 1.0], "dec": [0.0, 0.0]}), tmp_path / "c.parquet")
    catalog = Catalog.read(tmp_path / "c.parquet")
    assert len(catalog) == 1  # what has no position is left out
    np.testing.assert_array_equal(catalog.within([1.0], [0.0], 648000 - 1.0).row, [0])


def test_errors_name_the_file_and_the_nearest_right_name(tmp_path: Path) -> None:
    path = tables(tmp_path)[0]
    with pytest.raises(ConfigError, match=r"c\.parquet: no column 'RAdge'; did you mean 'RAdeg'"):
        Catalog.read(path, "RAdge", "DEdeg")
    with pytest.raises(ConfigError, match=r"nowhere\.parquet is not there"):
        Catalog.read(tmp_path / "nowhere.parquet")
    with pytest.raises(ConfigError, match="'name' is no position in degrees"):
        Catalog.read(path, "name", "DEdeg")
    (tmp_path / "c.txt").write_text("ra dec")
    with pytest.raises(ConfigError, match=r"cannot read '\.txt' files"):
        Catalog.read(tmp_path / "c.txt")
    (tmp_path / "bad.parquet").write_text("no Parquet")
    with pytest.raises(ConfigError, match=r"bad\.parquet: cannot read it"):
        Catalog.read(tmp_path / "bad.parquet")


@pytest.mark.real_data
def test_real_galaxies_are_found_again_from_jittered_positions(shared_data: Path) -> None:
    catalog = Catalog.read(
        shared_data / "catalogs" / "mangrove_galaxies.parquet", "ra", "dec", ["lum_dist"]
    )
    assert len(catalog) == 295_341
    rng = np.random.default_rng(5)
    some = rng.integers(len(catalog), size=2000)
    ra, dec = catalog.ra[some], catalog.dec[some] + rng.uniform(-5, 5, 2000) / 3600
    found = catalog.nearest(ra, dec, 10.0)
    index, distance, _ = SkyCoord(ra, dec, unit="deg").match_to_catalog_sky(
        SkyCoord(catalog.ra, catalog.dec, unit="deg")
    )
    assert (found.row >= 0).all()
    np.testing.assert_allclose(found.distance, distance.arcsec, atol=1e-9)
    assert (found.row == index).mean() > 0.99  # the rest are duplicates at one distance
