"""Separations and proper motions, held to astropy and to 80-bit arithmetic."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time

from ampel_spark.sky.angles import cosine, moved, separation, window
from tests.sky.skies import awkward_sky


@pytest.mark.parametrize("arcsec", [1e-6, 1e-3, 0.1, 1.0, 300.0, 36000.0, 400000.0])
def test_separations_are_those_of_80_bit_arithmetic(arcsec: float) -> None:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 4000), np.degrees(np.arcsin(rng.uniform(-1, 1, 4000)))
    ra2 = ra + arcsec / 3600 * rng.uniform(-1, 1, 4000)
    dec2 = np.clip(dec + arcsec / 3600 * rng.uniform(-1, 1, 4000), -90, 90)
    a1, d1, a2, d2 = (np.asarray(v, np.longdouble) for v in (ra, dec, ra2, dec2))
    radian = np.longdouble("0.01745329251994329576923690768488612713")
    hav = (
        np.sin((d1 - d2) * radian / 2) ** 2
        + np.cos(d1 * radian) * np.cos(d2 * radian) * np.sin((a1 - a2) * radian / 2) ** 2
    )
    exact = 2 * np.arcsin(np.sqrt(hav)) / radian * 3600
    np.testing.assert_allclose(separation(ra, dec, ra2, dec2), exact.astype(float), rtol=2e-14)


def test_separations_are_those_of_astropy_on_an_awkward_sky() -> None:
    ra, dec = awkward_sky(4000, seed=2)
    n = len(ra) // 2
    ours = separation(ra[:n], dec[:n], ra[n:], dec[n:])
    left, right = (SkyCoord(ra[s], dec[s], unit="deg") for s in (slice(n), slice(n, None)))
    np.testing.assert_allclose(ours, left.separation(right).arcsec, atol=1e-9, rtol=1e-12)


def test_a_separation_is_the_same_from_both_ends_to_the_last_bit() -> None:
    ra, dec = awkward_sky(2000, seed=3)
    there = separation(ra[:-1], dec[:-1], ra[1:], dec[1:])
    np.testing.assert_array_equal(there, separation(ra[1:], dec[1:], ra[:-1], dec[:-1]))


def test_the_cosine_is_zero_at_the_poles_and_one_at_the_equator() -> None:
    np.testing.assert_array_equal(cosine(np.array([-90.0, 0.0, 90.0])), [0.0, 1.0, 0.0])
    x = np.linspace(-90, 90, 10001)
    np.testing.assert_allclose(cosine(x), np.cos(np.radians(x)), atol=2e-16)


def test_a_window_holds_all_of_its_circle() -> None:
    rng = np.random.default_rng(4)
    dec, radius = rng.uniform(-90, 90, 2000), 10 ** rng.uniform(-5, 1.5, 2000)
    angle = rng.uniform(0, 2 * np.pi, (50, 2000)) * u.rad
    edge = SkyCoord(np.zeros(2000), dec, unit="deg").directional_offset_by(angle, radius * u.deg)
    reach = np.abs(edge.ra.wrap_at(180 * u.deg).deg).max(axis=0)
    assert (reach <= window(dec, radius)).all()
    inside = window(dec, radius) < 180
    assert (window(dec, radius)[inside] < reach[inside] * 1.2).all()


@pytest.mark.parametrize("speed", [10.0, 1000.0, 10393.0])
def test_proper_motion_is_that_of_astropy(speed: float) -> None:
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, 360, 60), np.degrees(np.arcsin(rng.uniform(-1, 1, 60)))
    dec[0], dec[1] = 89.9999, -89.99
    angle, years = rng.uniform(0, 2 * np.pi, 60), 9.5
    pmra, pmdec = speed * np.sin(angle), speed * np.cos(angle)
    star = SkyCoord(
        ra * u.deg, dec * u.deg, pm_ra_cosdec=pmra * u.mas / u.yr, pm_dec=pmdec * u.mas / u.yr,
        distance=5 * u.pc, radial_velocity=0 * u.km / u.s, obstime=Time(2016.0, format="jyear"),
    )  # fmt: skip
    there = star.apply_space_motion(Time(2016.0 + years, format="jyear"))
    new_ra, new_dec = moved(ra, dec, pmra, pmdec, years)
    # 0.002 mas; astropy counts in relativistic light time, at most 1e-4 of the motion here
    assert separation(new_ra, new_dec, there.ra.deg, there.dec.deg).max() < 2e-6 * max(
        1, speed / 50
    )


def test_no_motion_no_epoch_no_change() -> None:
    ra, dec = np.array([10.123456789, 350.0]), np.array([-5.987654321, 89.0])
    for pm, years in ((np.zeros(2), 5.0), (np.full(2, np.nan), 5.0), (np.ones(2), np.nan)):
        new = moved(ra, dec, pm, pm, years)
        np.testing.assert_array_equal(new, (ra, dec))
