"""Parts of the sky, held to astropy and to each other over the full sky."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy_healpix import healpix_to_lonlat

from ampel_spark.errors import ConfigError
from ampel_spark.sky import healpix, regions
from ampel_spark.sky.angles import separation
from ampel_spark.sky.regions import Region
from tests.sky.skies import awkward_sky

RA, DEC = awkward_sky(12_000, seed=1)
HPX = healpix.pixels(RA, DEC)


def covered(region: Region) -> None:
    """Hold what a region holds to its ranges and to its SQL."""
    inside = region.contains(RA, DEC)
    assert not (inside & ~healpix.in_ranges(HPX, region.ranges)).any()
    few = healpix.merged(region.ranges, 16)
    assert region.sql().count("BETWEEN") == len(few) <= 16
    assert not (inside & ~healpix.in_ranges(HPX, few)).any()


@pytest.mark.parametrize("order", [0, 1, 3, 6, 10])
def test_no_point_of_a_pixel_is_beyond_its_radius(order: int) -> None:
    rng = np.random.default_rng(order)
    pixel = healpix.pixels(RA, DEC, order)
    corner = rng.integers(0, 2, (2, len(pixel))).astype(float)
    lon, lat = healpix_to_lonlat(pixel, 1 << order, corner[0], corner[1], order="nested")
    mid = healpix_to_lonlat(pixel, 1 << order, order="nested")
    side = np.degrees(np.sqrt(np.pi / 3)) / (1 << order)
    apart = separation(lon.deg, lat.deg, mid[0].deg, mid[1].deg) / 3600
    assert apart.max() < regions._PIXEL_RADIUS * side


@pytest.mark.parametrize(
    ("ra", "dec", "radius"),
    [(0.0, 0.0, 5.0), (10.0, 90.0, 3600.0), (359.99, -89.9, 900.0), (45.0, 41.81, 40_000.0),
     (200.0, 10.0, 300_000.0)],
)  # fmt: skip
def test_a_cone_holds_what_astropy_finds_within_it(ra: float, dec: float, radius: float) -> None:
    region = regions.cone(ra, dec, radius)
    apart = SkyCoord(RA, DEC, unit="deg").separation(SkyCoord(ra, dec, unit="deg")).arcsec
    np.testing.assert_array_equal(region.contains(RA, DEC), apart <= radius)
    covered(region)
    area = (region.ranges[:, 1] - region.ranges[:, 0]).sum() / healpix.SKY * 41253
    cap = 20626.5 * (1 - np.cos(np.radians(radius / 3600)))
    assert area < max(3 * cap, 1e-4)


def test_many_cones_hold_what_each_holds() -> None:
    some = np.random.default_rng(2).choice(len(RA), 300, replace=False)
    radius = np.random.default_rng(3).uniform(0.1, 500, 300)
    region = regions.cones(RA[some], DEC[some], radius)
    inside = np.zeros(len(RA), bool)
    for ra, dec, r in zip(RA[some], DEC[some], radius, strict=True):
        inside |= separation(RA, DEC, ra, dec) <= r
    np.testing.assert_array_equal(region.contains(RA, DEC), inside)
    covered(region)


@pytest.mark.parametrize(
    ("ra", "dec"),
    [((350.0, 10.0), (-5.0, 5.0)), ((0.0, 360.0), (80.0, 90.0)), ((10.0, 40.0), (-90.0, -60.0)),
     ((89.0, 91.0), (41.0, 42.5)), ((-10.0, 10.0), (-5.0, 5.0))],
)  # fmt: skip
def test_a_box_is_a_box_also_across_zero_and_at_the_poles(
    ra: tuple[float, float], dec: tuple[float, float]
) -> None:
    region = regions.box(ra, dec)
    turned = (RA - ra[0]) % 360
    width = ra[1] - ra[0] if ra[1] - ra[0] == 360 else (ra[1] - ra[0]) % 360
    expected = (turned <= width) & (dec[0] <= DEC) & (dec[1] >= DEC)
    assert expected.any()
    np.testing.assert_array_equal(region.contains(RA, DEC), expected)
    covered(region)


def test_a_convex_polygon_is_the_meeting_of_its_half_spaces() -> None:
    for centre, size in (((0.0, 0.0), 3.0), ((123.0, 89.0), 5.0), ((45.0, 41.8), 20.0)):
        angle = np.radians([10, 80, 170, 230, 300])
        middle = SkyCoord(*centre, unit="deg")
        corners = middle.directional_offset_by(angle * u.rad, size * u.deg)
        region = regions.polygon(corners.ra.deg, corners.dec.deg)
        xyz = corners.cartesian.xyz.value.T
        points = SkyCoord(RA, DEC, unit="deg").cartesian.xyz.value.T
        sides = [points @ np.cross(xyz[i - 1], xyz[i]) for i in range(5)]
        sign = np.sign(middle.cartesian.xyz.value @ np.cross(xyz[0], xyz[1]))
        expected = np.all([sign * s >= 0 for s in sides], axis=0)
        assert expected.any()
        np.testing.assert_array_equal(region.contains(RA, DEC), expected)
        covered(region)


def test_a_polygon_may_have_a_dent() -> None:
    region = regions.polygon([0, 4, 4, 2, 0], [0, 0, 4, 1, 4])
    assert region.contains([1.0, 3.0, 2.0, 2.0], [1.0, 1.0, 3.0, 0.5]).tolist() == [
        True, True, False, True,
    ]  # fmt: skip
    covered(region)


def test_a_moc_and_a_sky_map_hold_their_pixels(tmp_path: Path) -> None:
    order = np.array([1, 3, 3, 5])
    pixel = np.array([47, 12, 13, 4000])
    numbers = healpix.uniq(pixel, order)
    table = fits.BinTableHDU.from_columns(
        [fits.Column("UNIQ", "K", array=numbers),
         fits.Column("PROBDENSITY", "D", array=np.array([1e-3, 2.0, 1.0, 50.0]))]
    )  # fmt: skip
    table.writeto(tmp_path / "map.fits")
    region = regions.moc(tmp_path / "map.fits")
    expected = np.zeros(len(RA), bool)
    for o, p in zip(order, pixel, strict=True):
        expected |= healpix.pixels(RA, DEC, int(o)) == p
    np.testing.assert_array_equal(region.contains(RA, DEC), expected)
    covered(region)
    mass = np.array([1e-3, 2.0, 1.0, 50.0]) / 4.0**order
    share = mass / mass.sum()
    dense = [3, 1, 2, 0]
    for n in range(1, 5):
        level = share[dense[:n]].sum() * (1 - 1e-9)
        part = regions.skymap(tmp_path / "map.fits", level)
        want = healpix.ranges_of(pixel[dense[:n]], order[dense[:n]])
        np.testing.assert_array_equal(part.ranges, want)
    with pytest.raises(ConfigError, match=r"level 1\.5"):
        regions.skymap(tmp_path / "map.fits", 1.5)


def test_what_is_no_region_is_told() -> None:
    with pytest.raises(ConfigError, match="is no position"):
        regions.cone(0.0, 91.0, 5.0)
    with pytest.raises(ConfigError, match="three corners"):
        regions.polygon([1, 2], [1, 2])
    with pytest.raises(ConfigError, match="within 88 degrees"):
        regions.polygon([0, 120, 240], [0, 0, 0])
    with pytest.raises(ConfigError, match="in order"):
        regions.box((0, 1), (5, -5))
    assert not regions.cone(1.0, 1.0, 5.0).contains([np.nan], [1.0])[0]
