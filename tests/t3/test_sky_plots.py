"""Density of a table on the sky, and finder charts."""

from __future__ import annotations

import re

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from matplotlib.path import Path

from ampel_spark.sky import healpix
from ampel_spark.t3.sky_plots import _offsets, _outlines, density, density_of_cells, finder


def test_a_density_map_draws_each_cell_that_has_rows_and_is_repeatable() -> None:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
    svg = density(ra, dec, order=3)
    assert b"rows per square degree" in svg
    assert density(ra, dec, order=3) == svg
    counts = np.bincount(healpix.pixels(ra, dec, 1), minlength=48)
    assert density_of_cells(counts) == density(ra, dec, order=1)
    one = density([0.0, np.nan], [0.0, 91.0], form="png")
    assert one.startswith(b"\x89PNG")
    assert density([], []).startswith(b"<?xml")


def test_a_cell_is_drawn_where_its_rows_are() -> None:
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 360, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))
    cells, of_row = np.unique(healpix.pixels(ra, dec, 2), return_inverse=True)
    of_cell, outlines = _outlines(cells, 2)
    held = [
        any(Path(outline).contains_point(place) for outline in outlines[of_cell == cell])
        for cell, place in zip(of_row, np.radians(np.column_stack([180 - ra, dec])), strict=True)
    ]
    assert np.mean(held) > 0.97  # sides are drawn straight


def test_offsets_are_those_of_the_tangent_plane() -> None:
    centre = SkyCoord(359.999, 60.0, unit="deg")
    angle, apart = np.radians([0, 45, 90, 200]), np.array([10.0, 20.0, 5.0, 30.0])
    others = centre.directional_offset_by(angle * u.rad, apart * u.arcsec)
    east, north = _offsets(359.999, 60.0, others.ra.deg, others.dec.deg)
    np.testing.assert_allclose(east, apart * np.sin(angle), atol=1e-4)
    np.testing.assert_allclose(north, apart * np.cos(angle), atol=1e-4)
    assert not np.isfinite(_offsets(0.0, 0.0, np.array([180.0]), np.array([0.0]))[0]).any()


@pytest.mark.parametrize("dec", [0.0, 89.999])
def test_a_finder_chart_counts_what_is_inside_it(dec: float) -> None:
    inside = (np.array([10.0, 10.0]), np.array([dec, dec - 0.005]))
    svg = finder(10.0, dec, {"galaxies": inside, "stars": ([10.0], [dec - 1.0])}).decode()
    assert re.search(r"galaxies \(2\)", svg)
    assert re.search(r"stars \(0\)", svg)
