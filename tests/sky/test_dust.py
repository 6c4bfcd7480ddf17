"""Dust maps, against astropy, astropy-healpix, and values known for the real sky."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import Galactic, SkyCoord
from astropy.io import fits
from astropy_healpix import HEALPix

from ampel_spark.errors import ConfigError
from ampel_spark.sky.dust import DustMap, galactic, toy_map, write_map

CONF = Path(__file__).resolve().parents[2] / "conf" / "dust"
RA, DEC = np.random.default_rng(1).uniform([0, -90], [360, 90], (500, 2)).T


def plain_map(values: np.ndarray, path: Path, **header: object) -> Path:
    """A map as the ones in circulation are: no COORDSYS."""
    table = fits.BinTableHDU.from_columns([fits.Column("I", "E", array=values)])
    table.header.update(PIXTYPE="HEALPIX", ORDERING="RING", **header)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


def test_the_quickstart_map_is_made_again_bit_for_bit(tmp_path: Path) -> None:
    write_map(toy_map(), tmp_path / "map.fits", origin="ampel_spark.sky.dust.toy_map, a toy map")
    assert (tmp_path / "map.fits").read_bytes() == (CONF / "quickstart.fits").read_bytes()


def test_the_quickstart_map_is_small_and_says_that_it_is_a_toy() -> None:
    file = CONF / "quickstart.fits"
    assert file.stat().st_size < 60_000
    assert "toy map" in fits.getheader(file, 1)["ORIGIN"]
    assert "NOT a measured one" in (CONF / "quickstart.yml").read_text()


def test_the_quickstart_map_looks_like_a_galaxy() -> None:
    pole, plane = toy_map().ebv([192.86, 266.4], [27.13, -28.9])
    assert pole < 0.05
    assert plane > 0.3


def test_a_map_and_its_sidecar_read_alike() -> None:
    by_file, by_sidecar = (DustMap.read(CONF / f"quickstart.{end}") for end in ("fits", "yml"))
    assert np.array_equal(by_file.values, toy_map().values)
    assert (by_file.ordering, by_file.frame) == (by_sidecar.ordering, by_sidecar.frame)
    assert np.array_equal(by_file.ebv(RA, DEC), by_sidecar.ebv(RA, DEC))


@pytest.mark.parametrize("ordering", ["ring", "nested"])
def test_interpolation_is_that_of_astropy_healpix(ordering: str) -> None:
    values = np.random.default_rng(2).random(12 * 16**2)
    dust = DustMap(values, ordering, "galactic")
    sky = SkyCoord(RA * u.deg, DEC * u.deg)
    healpix = HEALPix(16, ordering, frame=Galactic())
    expected = healpix.interpolate_bilinear_skycoord(sky, values)
    # The frames of the two differ by up to 0.1 arcsec, the map by 1 per pixel of 3.7 degrees.
    np.testing.assert_allclose(dust.ebv(RA, DEC), expected, atol=5e-5)


def test_the_nearest_pixel_is_the_one_that_holds_the_position() -> None:
    dust = DustMap(np.arange(12 * 8**2, dtype=float), "nested", "icrs")
    expected = HEALPix(8, "nested").lonlat_to_healpix(RA * u.deg, DEC * u.deg)
    assert np.array_equal(dust.ebv(RA, DEC, nearest=True), expected)


def test_galactic_coordinates_are_astropys() -> None:
    lon, lat = galactic(RA, DEC)
    sky = SkyCoord(RA * u.deg, DEC * u.deg)
    assert (
        sky.galactic.separation(SkyCoord(lon, lat, unit="deg", frame="galactic")).max()
        < 0.1 * u.arcsec
    )


def test_a_scale_multiplies_and_shapes_are_kept() -> None:
    plain = DustMap.read(CONF / "quickstart.fits")
    scaled = DustMap.read(CONF / "quickstart.fits", scale=0.86)
    ra, dec = RA.reshape(20, 25), DEC.reshape(20, 25)
    assert scaled.ebv(ra, dec).shape == (20, 25)
    np.testing.assert_allclose(scaled.ebv(ra, dec), 0.86 * plain.ebv(ra, dec), rtol=1e-14)
    assert plain.ebv(10.0, 20.0).shape == ()


def test_a_sidecars_scale_and_the_callers_multiply(tmp_path: Path) -> None:
    plain_map(np.ones(48), tmp_path / "map.fits")
    (tmp_path / "map.yml").write_text("file: map.fits\nframe: galactic\nscale: 0.5\n")
    assert DustMap.read(tmp_path / "map.yml", scale=0.5).ebv(1.0, 2.0) == pytest.approx(0.25)


def test_a_map_that_does_not_tell_its_frame_needs_to_be_told(tmp_path: Path) -> None:
    path = plain_map(np.ones(48), tmp_path / "map.fits")
    with pytest.raises(ConfigError, match="frame is None; say one of galactic, icrs"):
        DustMap.read(path)
    assert DustMap.read(path, frame="galactic").ebv(10.0, 10.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("ra", "dec"), [(np.nan, 0.0), (0.0, np.nan), (0.0, 90.1), (np.inf, 0.0)])
def test_a_position_that_is_none_is_an_error(ra: float, dec: float) -> None:
    with pytest.raises(ConfigError, match=r"1 of 2 positions"):
        toy_map().ebv([10.0, ra], [20.0, dec])


def test_a_hole_in_the_map_is_an_error_where_it_is_met(tmp_path: Path) -> None:
    values = np.ones(48)
    values[0] = -1.6375e30
    dust = DustMap.read(plain_map(values, tmp_path / "holed.fits"), frame="icrs")
    assert dust.ebv(0.0, -80.0) == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="'holed' has no value at 1 of 1"):
        dust.ebv(45.0, 89.0)


def test_what_is_no_map_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        DustMap.read(tmp_path / "none.fits")
    (tmp_path / "text.fits").write_text("no map")
    with pytest.raises(ConfigError, match="as a FITS file"):
        DustMap.read(tmp_path / "text.fits")
    with pytest.raises(ConfigError, match="47 values"):
        DustMap.read(plain_map(np.ones(47), tmp_path / "short.fits"), frame="icrs")
    (tmp_path / "bad.yml").write_text("scale: 1.0\n")
    with pytest.raises(ConfigError, match="no 'file:'"):
        DustMap.read(tmp_path / "bad.yml")


@pytest.mark.real_data
def test_the_low_resolution_sfd_map_is_read_as_astropy_healpix_reads_it(shared_data: Path) -> None:
    path = shared_data / "dust" / "dust_ebv_SFD_healpix_lowres.fits"
    dust = DustMap.read(path, sidecar=CONF / "sfd_lowres.yml")
    assert (dust.nside, dust.ordering, dust.frame) == (64, "ring", "galactic")
    healpix = HEALPix(64, "ring", frame=Galactic())
    expected = healpix.interpolate_bilinear_skycoord(SkyCoord(RA * u.deg, DEC * u.deg), dust.values)
    np.testing.assert_allclose(dust.ebv(RA, DEC), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.real_data
def test_the_sfd_map_has_the_values_that_the_ztf_release_used(shared_data: Path) -> None:
    release = shared_data / "ztf_snia_dr1_open"
    published = pd.read_csv(release / "salt2_params.csv").set_index("ztfname")["MWebv"]
    columns = ["name", "z", "ra", "dec"]
    where = pd.read_csv(release / "sample_coords.txt", names=columns, usecols=range(4), index_col=0)
    where = where.loc[published.index]
    path = shared_data / "dust" / "dust_ebv_SFD_healpix_lowres.fits"
    dust = DustMap.read(path, sidecar=CONF / "sfd_lowres.yml", scale=0.86)
    ratio = published / dust.ebv(where["ra"], where["dec"])
    # The release is on the scale of Schlafly and Finkbeiner; a degree of resolution scatters 13 %.
    assert np.median(ratio) == pytest.approx(1.0, abs=0.05)
    assert np.percentile(ratio, 84) - np.percentile(ratio, 16) < 2 * 0.2


@pytest.mark.real_data
def test_planck_and_sfd_see_the_same_sky(shared_data: Path) -> None:
    folder = shared_data / "dust"
    sfd, planck = (
        DustMap.read(
            folder / f"dust_ebv_{name}_healpix_lowres.fits", sidecar=CONF / f"{sidecar}.yml"
        ).ebv(RA, DEC)
        for sidecar, name in (("sfd_lowres", "SFD"), ("planck13_lowres", "Planck13"))
    )
    assert np.corrcoef(np.log(planck), np.log(sfd))[0, 1] > 0.95
