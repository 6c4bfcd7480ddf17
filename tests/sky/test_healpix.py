"""Pixels, ranges and what a circle touches, held to astropy_healpix over the full sky."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy_healpix import HEALPix
from hypothesis import given
from hypothesis import strategies as st

from ampel_spark.sky import healpix
from tests.sky.skies import awkward_sky


def test_pixels_of_all_orders_are_parents_of_the_finest() -> None:
    ra, dec = awkward_sky(4000, seed=1)
    finest = healpix.pixels(ra, dec)
    for order in (0, 3, 7, 13, 20):
        theirs = HEALPix(1 << order, order="nested").lonlat_to_healpix(ra * u.deg, dec * u.deg)
        np.testing.assert_array_equal(finest >> (2 * (29 - order)), theirs)
    assert list(healpix.pixels(np.array([np.nan, 1.0]), np.array([0.0, 91.0]))) == [-1, -1]


@pytest.mark.parametrize("order", [0, 1, 2, 4, 7, 11])
def test_a_circle_stays_within_its_pixel_and_the_neighbours(order: int) -> None:
    side = np.degrees(HEALPix(1 << order).pixel_resolution.to_value(u.rad))
    radius = 0.6 * side
    assert healpix.order_for(radius * 0.9999) == order
    ra, dec = awkward_sky(6000, seed=order)
    pixel = healpix.pixels(ra, dec, order)
    around = healpix.around(pixel, order)
    centre = SkyCoord(ra, dec, unit="deg")
    for angle in np.random.default_rng(order).uniform(0, 360, 40):
        edge = centre.directional_offset_by(angle * u.deg, radius * u.deg)
        touched = healpix.pixels(edge.ra.deg, edge.dec.deg, order)
        assert (around == touched).any(axis=0).all()


def test_a_radius_too_large_for_neighbours_is_the_whole_sky() -> None:
    assert healpix.order_for(60.0) == -1
    assert healpix.order_for(0.0) == 29
    assert healpix.ranges_of(np.array([0]), -1).tolist() == [[0, healpix.SKY]]


def test_uniq_numbers_go_there_and_back() -> None:
    order = np.arange(-1, 29)
    pixel = np.where(order < 0, 0, (12 << (2 * np.maximum(order, 0))) - 1)
    back = healpix.of_uniq(healpix.uniq(pixel, order))
    np.testing.assert_array_equal(back, (order, pixel))
    assert healpix.uniq(0, -1) == 1
    assert healpix.uniq(0, 0) == 4


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12), st.integers(1, 5))
def test_merged_ranges_hold_what_the_ranges_held(pairs: list[tuple[int, int]], most: int) -> None:
    ranges = np.array(pairs, np.int64).reshape(-1, 2)
    merged = healpix.merged(ranges)
    numbers = np.arange(61)
    held = ((ranges[:, :1] <= numbers) & (numbers < ranges[:, 1:])).any(axis=0)
    np.testing.assert_array_equal(healpix.in_ranges(numbers, merged), held)
    assert (merged[1:, 0] > merged[:-1, 1]).all()
    few = healpix.merged(ranges, most)
    assert len(few) == min(most, len(merged))
    assert not (held & ~healpix.in_ranges(numbers, few)).any()
