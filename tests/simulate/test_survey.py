"""The telescope, against astropy's Sun and horizon."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_sun
from astropy.time import Time
from astropy.utils import iers

from ampel_spark.errors import ConfigError
from ampel_spark.simulate.objects import Sky
from ampel_spark.simulate.survey import (
    field_grid,
    first_nid,
    make_schedule,
    night_name,
)

PALOMAR = EarthLocation(lon=-116.8648 * u.deg, lat=33.3563 * u.deg, height=1712 * u.m)
GRID = field_grid()


@pytest.fixture(scope="module")
def sample(sky: Sky) -> np.ndarray:
    """Some rows of the schedule."""
    return np.random.default_rng(1).integers(0, sky.schedule.jd.size, 150)


def horizon(jd: np.ndarray) -> AltAz:
    with iers.conf.set_temp("auto_download", False):
        return AltAz(obstime=Time(jd, format="jd"), location=PALOMAR)


def test_the_same_position_has_the_same_field_and_channel() -> None:
    random = np.random.default_rng(2)
    ra, dec = random.uniform(0, 360, 5000), random.uniform(-31, 90, 5000)
    field, rcid, x, y = GRID.locate(ra, dec)
    again = GRID.locate(ra[::-1], dec[::-1])
    assert np.array_equal(field, again[0][::-1])
    assert np.array_equal(rcid, again[1][::-1])
    assert set(rcid) == set(range(64))
    assert (x.min() >= 0.0) & (x.max() <= 3072.0) & (y.min() >= 0.0) & (y.max() <= 3080.0)


def test_a_position_lies_in_the_field_whose_centre_is_near() -> None:
    random = np.random.default_rng(3)
    ra, dec = random.uniform(0, 360, 500), random.uniform(-31, 80, 500)
    field = GRID.locate(ra, dec)[0]
    centre = SkyCoord(GRID.ra[field] * u.deg, GRID.dec[field] * u.deg)
    assert centre.separation(SkyCoord(ra * u.deg, dec * u.deg)).max() < 5.3 * u.deg
    assert 550 < GRID.ra.size < 700


def test_the_sun_is_down(sky: Sky, sample: np.ndarray) -> None:
    jd = sky.schedule.jd[sample]
    with iers.conf.set_temp("auto_download", False):
        altitude = get_sun(Time(jd, format="jd")).transform_to(horizon(jd)).alt
    assert altitude.max() < -12.0 * u.deg


def test_fields_are_up(sky: Sky, sample: np.ndarray) -> None:
    field = np.searchsorted(sky.schedule.start, sample, side="right") - 1
    centre = SkyCoord(GRID.ra[field] * u.deg, GRID.dec[field] * u.deg)
    with iers.conf.set_temp("auto_download", False):
        altitude = centre.transform_to(horizon(sky.schedule.jd[sample])).alt
    assert altitude.min() > 25.0 * u.deg


def test_the_telescope_takes_one_image_at_a_time(sky: Sky) -> None:
    assert np.diff(np.sort(sky.schedule.jd)).min() * 86400.0 > 39.9


def test_a_night_is_a_utc_date(sky: Sky) -> None:
    dates = Time(sky.schedule.jd[::50], format="jd").strftime("%Y%m%d")
    assert [night_name(nid) for nid in sky.schedule.nid[::50]] == dates.tolist()


def test_a_field_is_visited_in_both_bands_every_other_clear_night(sky: Sky) -> None:
    public = sky.schedule.programid == 1
    for field in range(0, GRID.ra.size, 20):
        span = slice(*sky.schedule.start[field : field + 2])
        nid, fid = sky.schedule.nid[span], sky.schedule.fid[span]
        for band in (1, 2):
            nights = nid[public[span] & (fid == band)]
            assert (np.diff(nights) % 2 == 0).all()
            assert np.unique(nights).size == nights.size


def test_most_nights_are_open_and_some_are_not() -> None:
    first = first_nid("2023-01-01")
    schedule = make_schedule(GRID, first, first + 364, 3)
    opened = np.isin(np.arange(first, first + 365), schedule.nid).mean()
    assert 0.6 < opened < 0.9
    shares = np.bincount(schedule.programid)[1:] / schedule.jd.size
    assert shares[0] > 0.9
    assert (shares[1:] > 0.005).all()


def test_the_moon_takes_light_from_g_more_than_from_r() -> None:
    first = first_nid("2023-01-01")
    schedule = make_schedule(GRID, first, first + 364, 3)
    # Full moons of 2023, to a day.
    full = first_nid("2023-01-06") + 29.53 * np.arange(13)
    distance = np.abs(schedule.nid[:, None] - full).min(axis=1)
    losses = [
        np.median(schedule.depth[(schedule.fid == fid) & (distance > 10)])
        - np.median(schedule.depth[(schedule.fid == fid) & (distance < 3)])
        for fid in (1, 2)
    ]
    assert losses[0] > losses[1] > 0.2


def test_an_image_follows_from_its_numbers(sky: Sky) -> None:
    rows = np.arange(50)
    together = sky.schedule.images(rows, np.arange(50) % 64, sky.seed)
    alone = sky.schedule.images(rows[7:8], np.array([7]), sky.seed)
    assert together.depth[7] == alone.depth[0]
    assert together.zero_point[7] == alone.zero_point[0]
    assert np.ptp(sky.schedule.images(np.zeros(64, int), np.arange(64), sky.seed).depth) > 0.05


def test_another_seed_is_another_weather() -> None:
    first = first_nid("2024-03-01")
    one, two = (make_schedule(GRID, first, first + 30, seed) for seed in (1, 2))
    assert not np.array_equal(np.unique(one.nid), np.unique(two.nid))


def test_a_first_night_is_checked() -> None:
    assert night_name(first_nid("2023-10-17")) == "20231017"
    assert first_nid("2023-10-17") == 2480
    with pytest.raises(ConfigError, match="is no date"):
        first_nid("17.10.2023")
