"""Chance: what scrambled right ascensions give, against arithmetic and published numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from ampel_spark.errors import ConfigError
from ampel_spark.events.chance import expected, scrambled
from ampel_spark.events.event import Event
from ampel_spark.events.matching import EventIndex, Times
from ampel_spark.events.notices import load_settings, read_notices
from ampel_spark.sky.skymaps import DEG2, SkyMap

SKY = 4 * np.pi * DEG2


def objects(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def test_scrambles_of_an_even_sky_give_the_area_times_the_density() -> None:
    events = [Event(f"E{i}", "X", 100.0, "ellipse", ra=0.0, dec=10.0 * i, major=4.0, minor=3.0)
              for i in range(-3, 4)]  # fmt: skip
    density = np.zeros(192)
    density[100] = 192 / (4 * np.pi)
    events.append(Event.of_map("M", "LVK", SkyMap(np.full(192, 2), np.arange(192), density), 100.0))
    ra, dec = objects(2000)
    index = EventIndex(events, level=0.9)
    found = scrambled(index, ra, dec, scrambles=1000, seed=3)
    # the map has one pixel, whose level is 1: it is in no region of 90 %
    want = sum(e.area for e in events[:-1]) * 2000 / SKY
    assert found.mean == pytest.approx(want, rel=0.1)
    assert scrambled(index, ra, dec, seed=3) == found
    assert scrambled(index, ra, dec, seed=4) != found
    times = Times.one_each(np.where(np.arange(2000) < 500, 95.0, 50.0))
    late = scrambled(index, ra, dec, times, 10.0, 0.0)
    assert late.mean == pytest.approx(want / 4, rel=0.2)
    number, any_ = expected(EventIndex(events[:-1]), times, 10.0, 0.0, SKY)
    assert number == pytest.approx(want / 4)
    assert any_ == pytest.approx(1 - np.exp(-number))


def test_a_map_is_turned_as_a_whole() -> None:
    rng = np.random.default_rng(7)
    density = rng.uniform(0, 1, 192)
    density *= 192 / (4 * np.pi * density.sum())
    event = Event.of_map("M", "LVK", SkyMap(np.full(192, 2), np.arange(192), density), 0.0)
    assert event.skymap is not None
    ra, dec = objects(300)
    index = EventIndex([event], level=0.5)
    found = scrambled(index, ra, dec)
    assert found.mean == pytest.approx(300 * event.skymap.area_within(0.5) / SKY, rel=0.05)


def test_trials_and_questions_are_counted() -> None:
    event = Event("A", "X", 0.0, "ellipse", ra=10.0, dec=0.0, major=1.0, minor=1.0)
    ra, dec = np.array([10.0, 10.5, 200.0]), np.zeros(3)
    one = scrambled(EventIndex([event]), ra, dec)
    assert one.observed == 2
    assert 0 < one.p_value < one.p_any < 0.1
    # two of the three lie within a degree: 3 or so degrees of 360
    assert one.p_value == pytest.approx(1.5 / 360, abs=0.006)
    many = scrambled(EventIndex([event]), ra, dec, trials=10)
    assert many.p_corrected == pytest.approx(1 - (1 - one.p_value) ** 10)
    none = scrambled(EventIndex([event]), ra, dec, keep=lambda found: found.left > 5)
    assert (none.observed, none.mean) == (0, 0.0)
    with pytest.raises(ConfigError, match="too few"):
        scrambled(EventIndex([event]), ra, dec, scrambles=100)
    with pytest.raises(ConfigError, match="trials"):
        scrambled(EventIndex([event]), ra, dec, trials=0)


@pytest.mark.real_data
def test_the_neutrinos_match_as_many_bright_transients_as_chance_gives(shared_data: Path) -> None:
    import pyarrow.csv

    path = shared_data / "neutrino" / "icecube_followed_up.csv"
    events = read_notices([path], load_settings("icecube_table")).events
    table = pyarrow.csv.read_csv(shared_data / "ztf_bts" / "ZTF_BTS_23_29__22_09_2021.csv")
    place = SkyCoord(table["RA"].to_pylist(), table["Dec"].to_pylist(), unit=("hourangle", "deg"))
    peak = np.array([v if isinstance(v, float) else np.nan for v in table["peakt"].to_pylist()])
    times = Times.one_each(peak + 2458000.0)
    is_tde = np.array([kind == "TDE" for kind in table["type"].to_pylist()])
    for rectangle, mean, std, tde, seen in ((True, 6.67, 2.63, 0.054, 6),
                                            (False, 5.28, 2.30, 0.033, 4)):  # fmt: skip
        index = EventIndex(events, rectangle=rectangle)
        args = (index, place.ra.deg, place.dec.deg, times, 365.0, 0.0)
        found = scrambled(*args)
        assert found.observed == seen
        # 1000 scrambles know the mean to 0.08
        assert found.mean == pytest.approx(mean, abs=0.3)
        assert found.std == pytest.approx(std, abs=0.2)
        mine = scrambled(*args, keep=lambda pairs: is_tde[pairs.left])
        assert mine.observed == 1
        assert mine.p_any == pytest.approx(tde, abs=0.025)
