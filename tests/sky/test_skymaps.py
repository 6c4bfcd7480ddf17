"""Sky maps: published numbers, forms that agree, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from ampel_spark.errors import ConfigError
from ampel_spark.sky import healpix, regions
from ampel_spark.sky.skymaps import read_skymap
from tests.events.maps import gaussian, write_flat, write_multi_order


@pytest.mark.real_data
def test_a_published_map_has_its_published_areas_levels_and_distance(
    shared_data: Path,
) -> None:
    found = read_skymap(shared_data / "skymaps" / "MS181101ab_multiorder.fits")
    assert len(found) == 19200
    assert found.total == pytest.approx(1.0, abs=1e-9)
    assert len(found.within(0.9)) == 6970
    assert found.area_within(0.9) == pytest.approx(30.975, abs=0.001)
    assert found.area_within(0.5) == pytest.approx(8.90, abs=0.005)
    published = regions.moc(shared_data / "skymaps" / "MS181101ab_90.moc.fits")
    np.testing.assert_array_equal(found.ranges(0.9), published.ranges)
    ra = np.array([188.0, 190.0, 190.0, 194.0, 194.304])
    dec = np.array([-9.0, -15.0, -11.0, -19.0, -17.856])
    hpx = healpix.pixels(ra, dec)
    row = found.at(hpx)
    np.testing.assert_allclose(
        found.level[row], [0.9984, 0.9994, 0.9672, 0.6631, 0.0001], atol=6e-5
    )
    assert hpx[3] == 1755012311714868662
    assert found.distmu[row[3]] == pytest.approx(34.78, abs=0.005)
    assert found.about["distmean"] == pytest.approx(39.770, abs=0.001)


@pytest.mark.real_data
@pytest.mark.slow
def test_a_published_flat_map_loses_nothing_as_one_of_several_orders(
    shared_data: Path,
) -> None:
    found = read_skymap(shared_data / "skymaps" / "G364600_flat.fits.gz")
    assert len(found) == 19200
    assert found.area_within(0.5) == pytest.approx(317.57, abs=0.01)
    # of the pixels of equal density at the edge, a flat count takes some: 1,250.70 in all
    assert found.area_within(0.9) == pytest.approx(1250.70, abs=0.2)
    assert found.total == pytest.approx(1.0, abs=1e-9)


def test_flat_maps_in_both_orders_and_multi_order_maps_are_one(tmp_path: Path) -> None:
    values = gaussian(5, 200.0, -40.0, 8.0)
    nested = read_skymap(write_flat(tmp_path / "a.fits", values))
    ring = gaussian(5, 200.0, -40.0, 8.0, ring=True)
    ringed = read_skymap(write_flat(tmp_path / "b.fits.gz", ring, ORDERING="RING"))
    moc = read_skymap(write_multi_order(tmp_path / "c.fits", values))
    ra, dec = np.random.default_rng(1).uniform((0, -90), (360, 90), (500, 2)).T
    hpx = healpix.pixels(ra, dec)
    for other in (ringed, moc):
        np.testing.assert_allclose(
            other.density[other.at(hpx)], nested.density[nested.at(hpx)], rtol=1e-9, atol=1e-300
        )
        assert other.area_within(0.9) == pytest.approx(nested.area_within(0.9))
    assert (moc.has_distance, nested.has_distance) == (True, False)
    # 1.1774 and 2.1460 sigma of a Gaussian
    assert nested.area_within(0.5) == pytest.approx(np.pi * (8 * 1.1774) ** 2, rel=0.03)
    assert nested.area_within(0.9) == pytest.approx(np.pi * (8 * 2.1460) ** 2, rel=0.03)


def test_equal_siblings_become_one_pixel_and_every_place_keeps_its_density(tmp_path: Path) -> None:
    values = np.repeat(np.random.default_rng(2).integers(0, 3, 12 * 16), 16).astype(float)
    values /= values.sum()
    found = read_skymap(write_flat(tmp_path / "a.fits", values))
    assert len(found) <= 12 * 16
    assert found.order.max() == 2
    start = np.arange(len(values)) << (2 * (healpix.ORDER - 4))
    want = values / (4 * np.pi / len(values))
    np.testing.assert_allclose(found.density[found.at(start)], want)


@pytest.mark.parametrize(
    ("head", "change", "words"),
    [
        ({"ORDERING": "NESTED"}, "ring", "smooth in RING order alone"),
        ({"ORDERING": "RING"}, "", "smooth in NESTED order alone"),
        ({"ORDERING": None}, "", "ORDERING is absent"),
        ({"COORDSYS": "G"}, "", "COORDSYS is 'G'"),
        ({"NSIDE": 16}, "", "NSIDE is 16"),
        ({"INDXSCHM": "EXPLICIT"}, "", "INDXSCHM"),
        ({}, "half", "sums to 0.5 and not to 1"),
        ({}, "negative", "negative or no number"),
        ({}, "nan", "negative or no number"),
        ({}, "short", "which no NSIDE has"),
    ],
)
def test_a_flat_map_that_cannot_be_right_is_refused(
    tmp_path: Path, head: dict[str, object], change: str, words: str
) -> None:
    values = gaussian(5, 10.0, 20.0, 10.0, ring=change == "ring")
    if change == "half":
        values = values / 2
    elif change == "negative":
        values[3] = -values[3] - 1e-9
    elif change == "nan":
        values[3] = np.nan
    elif change == "short":
        values = values[:-1]
    given = {"NSIDE": 32} | head
    with pytest.raises(ConfigError, match=words):
        read_skymap(write_flat(tmp_path / "a.fits", values, **given))


def test_what_is_no_map_is_refused(tmp_path: Path) -> None:
    values = gaussian(3, 10.0, 20.0, 20.0)
    with pytest.raises(ConfigError, match=r"sums to 2 and not to 1"):
        read_skymap(write_multi_order(tmp_path / "a.fits", values, scale=2.0))
    doubled = write_multi_order(tmp_path / "b.fits", values)
    with fits.open(doubled, mode="update") as units:
        units[1].data["UNIQ"][5] = units[1].data["UNIQ"][6]
    with pytest.raises(ConfigError, match="pixels overlap"):
        read_skymap(doubled)
    whole = write_flat(tmp_path / "c.fits", values).read_bytes()
    (tmp_path / "c.fits").write_bytes(whole[:4000])
    with pytest.raises(ConfigError, match=r"c\.fits"):
        read_skymap(tmp_path / "c.fits")
    (tmp_path / "d.fits").write_bytes(b"no FITS at all")
    with pytest.raises(ConfigError, match=r"cannot read .*d\.fits"):
        read_skymap(tmp_path / "d.fits")


def test_a_place_beside_the_pixels_of_a_map_has_none() -> None:
    from ampel_spark.sky.skymaps import SkyMap

    part = SkyMap(np.array([1, 1]), np.array([3, 7]), np.array([1.0, 2.0]))
    hpx = np.array([3, 5, 7, -1]) << (2 * (healpix.ORDER - 1))
    assert part.at(hpx).tolist() == [0, -1, 1, -1]
