"""Matches of objects to events: the fast way against a plain loop, and published counts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord, angular_separation, position_angle
from astropy_healpix import healpix_to_lonlat

from ampel_spark.errors import ConfigError
from ampel_spark.events.covers import cover, reach_of
from ampel_spark.events.event import Event
from ampel_spark.events.matching import EventIndex, Times
from ampel_spark.events.notices import load_settings, read_notices
from ampel_spark.sky import healpix
from ampel_spark.sky.skymaps import SkyMap


def plain(
    event: Event, ra: float, dec: float, level: float | None, rectangle: bool
) -> float | None:
    """Return the level of a place, one event and one place at a time; None outside."""
    if not (math.isfinite(ra) and math.isfinite(dec) and abs(dec) <= 90):
        return None
    if event.shape == "none":
        return None
    if event.skymap is not None:
        skymap = event.skymap
        for i in range(len(skymap)):
            nside = 1 << int(skymap.order[i])
            at = healpix.pixels(np.array([ra]), np.array([dec]), int(skymap.order[i]))[0]
            if at == skymap.pixel[i]:
                more = skymap.density > skymap.density[i]
                before = (skymap.density == skymap.density[i]) & (np.arange(len(skymap)) <= i)
                area = 4 * math.pi / (12 * 4.0**skymap.order)
                held = (skymap.density * area)[more | before].sum() / skymap.total
                return held if held <= (level or 0.9) + 1e-12 and nside else None
        return None
    if event.shape == "quarters":
        east = math.remainder(ra - event.ra, 360.0)
        east = 180.0 if east == -180.0 and ra < event.ra else east
        north = dec - event.dec
        x = east / (event.east if east > 0 else event.west)
        y = north / (event.north if north > 0 else event.south)
    else:
        places = [math.radians(v) for v in (event.ra, event.dec, ra, dec)]
        apart = math.degrees(float(angular_separation(*places)))
        turn = float(position_angle(*places).rad) - math.radians(event.angle)
        x, y = apart * math.sin(turn) / event.minor, apart * math.cos(turn) / event.major
    scale = 1.0 if level is None else math.sqrt(math.log1p(-level) / math.log1p(-event.containment))
    far = max(abs(x), abs(y)) if rectangle else math.hypot(x, y)
    if abs(far - scale) < 1e-9:
        pytest.skip("a place on the edge")
    return 1.0 - (1.0 - event.containment) ** (x * x + y * y) if far <= scale else None


def odd_events(rng: np.random.Generator) -> list[Event]:
    """Return events of all shapes, at the poles, across RA 0, tiny, huge and retracted."""
    made = []
    for i in range(24):
        ra = float(rng.choice([0.0, 0.2, 359.9, rng.uniform(0, 360)]))
        dec = float(rng.choice([90.0, -89.9, 0.0, 89.5, rng.uniform(-90, 90)]))
        size = 10 ** rng.uniform(-3, 1.8, 4)
        common = {"ra": ra, "dec": dec, "containment": float(rng.choice([0.5, 0.9, 0.683]))}
        name, jd = f"E{i}", 2459000.0 + i
        if i % 4 == 0:
            sides = dict(zip(("east", "west", "north", "south"), size.tolist(), strict=True))
            made.append(Event(name, "X", jd, "quarters", **common, **sides))
        elif i % 4 == 3 and i > 12:
            made.append(Event(name, "X", jd, "none", type="retraction"))
        else:
            major, minor = sorted(size[:2].tolist(), reverse=True)
            angle = float(rng.uniform(0, 180))
            made.append(Event(name, "X", jd, "ellipse", **common, major=major, minor=minor,
                              angle=angle))  # fmt: skip
    for i, order in enumerate((0, 1, 2)):
        n = 12 << (2 * order)
        density = rng.choice([0.0, 1.0, 2.0, 7.0], n)
        density = density / (density.sum() * 4 * np.pi / n)
        skymap = SkyMap(np.full(n, order), np.arange(n), density)
        made.append(Event.of_map(f"M{i}", "LVK", skymap, 2459000.0))
    return made


@pytest.mark.parametrize("seed", range(4))
def test_the_fast_way_finds_what_a_plain_loop_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    events = odd_events(rng)
    ra, dec = rng.uniform((0, -90), (360, 90), (20, 2)).T
    # most places are near to an event, on either side of RA 0 and of the poles
    near = [e for e in events if e.shape in ("ellipse", "quarters")]
    centres = SkyCoord([e.ra for e in near], [e.dec for e in near], unit="deg")
    places = centres.directional_offset_by(
        rng.uniform(0, 360, len(near)) * u.deg, 10 ** rng.uniform(-3, 1.5, len(near)) * u.deg
    )
    ra = np.concatenate([ra, places.ra.deg, [0.0, 359.99999, np.nan, 10.0, np.inf]])
    dec = np.concatenate([dec, places.dec.deg, [90.0, -90.0, 0.0, 95.0, 0.0]])
    level = [None, 0.5, 0.9, 0.99][seed]
    rectangle = seed % 2 == 1
    found = EventIndex(events, level, rectangle).match(ra, dec)
    fast = {(int(i), int(k)): float(p)
            for i, k, p in zip(found.left, found.event, found.level, strict=True)}  # fmt: skip
    slow = {}
    for i in range(len(ra)):
        for k, event in enumerate(events):
            inside = plain(event, float(ra[i]), float(dec[i]), level, rectangle)
            if inside is not None:
                slow[i, k] = inside
    assert fast.keys() == slow.keys()
    assert len(fast) > 25
    assert [fast[key] for key in sorted(fast)] == pytest.approx(
        [slow[key] for key in sorted(slow)], abs=1e-9
    )


def test_windows_take_the_time_that_is_closest_to_the_event() -> None:
    event = Event("A", "X", 100.0, "ellipse", ra=0.2, dec=0.0, major=1.0, minor=1.0, angle=0.0)
    index = EventIndex([event])
    ra, dec = [359.5, 0.2, 0.3, 0.4], np.zeros(4)
    times = Times(np.array([0, 3, 4, 4, 6]), np.array([50.0, 95.0, 108.0, 99.0, 94.0, 111.0]))
    found = index.match(ra, dec, times, before=5.0, after=10.0)
    assert found.left.tolist() == [0, 1]
    assert found.offset.tolist() == [5.0, 1.0]
    wide = index.match(ra, dec, times)
    assert (wide.left.tolist(), wide.offset.tolist()) == ([0, 1, 3], [5.0, 1.0, 6.0])
    rng = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 5, 300))])
    jd = rng.uniform(0, 200, offsets[-1]).round(0)
    found = index.match(np.full(300, 0.2), np.zeros(300), Times(offsets, jd), 7.0, 3.0)
    want = {}
    for i in range(300):
        late = [t - 100.0 for t in jd[offsets[i] : offsets[i + 1]] if -7.0 <= t - 100.0 <= 3.0]
        if late:
            want[i] = min(map(abs, late))
    assert found.left.tolist() == [*want]
    assert np.abs(found.offset).tolist() == [*want.values()]


def test_matches_do_not_depend_on_how_objects_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    index = EventIndex(odd_events(rng))
    ra, dec = rng.uniform((0, -90), (360, 90), (5000, 2)).T
    whole = index.match(ra, dec, Times.one_each(rng.uniform(2458999, 2459030, 5000)), 20, 20)
    monkeypatch.setattr("ampel_spark.events.matching._CHUNK", 7)
    rng = np.random.default_rng(5)
    odd_events(rng), rng.uniform((0, -90), (360, 90), (5000, 2))
    parts = index.match(ra, dec, Times.one_each(rng.uniform(2458999, 2459030, 5000)), 20, 20)
    for one, two in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, two)


def test_an_error_at_right_ascension_0_and_at_the_pole_goes_round() -> None:
    near_zero = Event("A", "X", 0.0, "ellipse", ra=0.2, dec=10.0, major=1.0, minor=1.0, angle=0.0)
    pole = Event("B", "X", 0.0, "ellipse", ra=40.0, dec=89.9, major=1.0, minor=1.0, angle=0.0)
    sides = {"east": 1.0, "west": 1.0, "north": 1.0, "south": 1.0}
    quarters = Event("C", "X", 0.0, "quarters", ra=0.2, dec=10.0, **sides)
    index = EventIndex([near_zero, pole, quarters])
    found = index.match([359.5, 220.0, 220.0, 1.1], [10.0, 89.5, 88.8, 10.0])
    assert [*zip(found.left.tolist(), found.event.tolist(), strict=True)] == [
        (0, 0), (0, 2), (1, 1), (3, 0), (3, 2)]  # fmt: skip


def test_the_position_angle_turns_from_north_through_east() -> None:
    long = Event("A", "X", 0.0, "ellipse", ra=100.0, dec=0.0, major=5.0, minor=0.5, angle=45.0)
    found = EventIndex([long]).match([103.0, 97.0, 103.0, 97.0], [3.0, -3.0, -3.0, 3.0])
    assert found.left.tolist() == [0, 1]


def test_densities_and_levels_of_all_shapes_make_a_probability() -> None:
    sides = {"east": 6.0, "west": 2.0, "north": 1.5, "south": 3.0}
    events = [
        Event("A", "X", 0.0, "quarters", ra=10.0, dec=0.0, **sides),
        Event("B", "X", 0.0, "ellipse", ra=10.0, dec=0.0, major=4.0, minor=2.0, angle=30.0),
    ]
    east, north = (v.ravel() for v in np.meshgrid(np.arange(-20, 20, 0.05) + 0.025,
                                                  np.arange(-15, 15, 0.05) + 0.025))  # fmt: skip
    index = EventIndex(events, level=0.99999)
    found = index.match(10.0 + east, north)
    cells = 0.05**2 * np.cos(np.radians(north[found.left]))
    for k in (0, 1):
        mine = found.event == k
        assert (found.density[mine] * cells[mine]).sum() == pytest.approx(1.0, abs=0.02)
        inner = mine & (found.level <= 0.5)
        assert (found.density[inner] * cells[inner]).sum() == pytest.approx(0.5, abs=0.01)
    assert found.sigma[found.event == 1] == pytest.approx(
        np.sqrt(-2 * np.log(1 - found.level[found.event == 1]))
    )


def test_a_cover_is_the_region_for_searches_and_reaches_as_far_as_it() -> None:
    rng = np.random.default_rng(9)
    ra, dec = rng.uniform((0, -90), (360, 90), (3000, 2)).T
    for event in odd_events(rng):
        region = cover(event)
        inside = region.contains(ra, dec)
        want = np.zeros(len(ra), bool)
        want[EventIndex([event]).match(ra, dec).left] = True
        np.testing.assert_array_equal(inside, want)
        assert healpix.in_ranges(healpix.pixels(ra[inside], dec[inside]), region.ranges).all()
        if event.shape != "none" and inside.any():
            centre = SkyCoord(event.ra * u.deg, event.dec * u.deg)
            far = centre.separation(SkyCoord(ra[inside] * u.deg, dec[inside] * u.deg)).deg
            assert far.max() <= reach_of(event) + 1e-9


def test_a_level_that_is_no_probability_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        EventIndex([], level=1.0)
    assert len(EventIndex([]).match([1.0], [2.0]).left) == 0


@pytest.mark.real_data
def test_the_followed_up_neutrinos_and_the_bright_transients_have_their_known_pairs(
    shared_data: Path,
) -> None:
    import pyarrow.csv

    path = shared_data / "neutrino" / "icecube_followed_up.csv"
    events = read_notices([path], load_settings("icecube_table")).events
    table = pyarrow.csv.read_csv(shared_data / "ztf_bts" / "ZTF_BTS_23_29__22_09_2021.csv")
    place = SkyCoord(table["RA"].to_pylist(), table["Dec"].to_pylist(), unit=("hourangle", "deg"))
    peak = np.array([v if isinstance(v, float) else np.nan for v in table["peakt"].to_pylist()])
    times = Times.one_each(peak + 2458000.0)
    counts = {}
    for rectangle in (True, False):
        index = EventIndex(events, rectangle=rectangle)
        pairs = index.match(place.ra.deg, place.dec.deg)
        late = index.match(place.ra.deg, place.dec.deg, times, before=365.0, after=0.0)
        counts[rectangle] = len(pairs.left), len(late.left)
        names = [(table["IAUID"][int(i)].as_py(), events[k].event)
                 for i, k in zip(late.left, late.event, strict=True)]  # fmt: skip
        dsg = names.index(("AT2019dsg", "IC191001A"))
        assert late.offset[dsg] == pytest.approx(149.5, abs=0.05)
        assert math.sqrt(math.log1p(-late.level[dsg]) / math.log1p(-0.9)) == pytest.approx(
            0.843, abs=0.001
        )
    assert len(table) == 3374
    assert counts == {True: (40, 6), False: (31, 4)}


def test_pixels_of_maps_are_where_healpix_has_them() -> None:
    lon, lat = healpix_to_lonlat(np.arange(192), 4, order="nested")
    density = np.arange(192.0) / (np.arange(192.0).sum() * 4 * np.pi / 192)
    event = Event.of_map("M", "LVK", SkyMap(np.full(192, 2), np.arange(192), density), 0.0)
    found = EventIndex([event], level=0.9999999).match(lon.deg, lat.deg)
    assert found.density == pytest.approx(density[found.left] / np.degrees(1.0) ** 2)
    assert event.ra == pytest.approx(lon.deg[191])
