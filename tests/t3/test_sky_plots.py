"""Density of a table on the sky, and finder charts."""

from __future__ import annotations

import re

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from ampel_spark.t3.sky_plots import _offsets, density, finder


def test_a_density_map_draws_each_cell_that_has_rows_and_is_repeatable() -> None:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
    svg = density(ra, dec)
    assert b"rows per square degree" in svg
    assert density(ra, dec) == svg
    one = density([0.0, np.nan], [0.0, 91.0], form="png")
    assert one.startswith(b"\x89PNG")
    assert density([], []).startswith(b"<?xml")


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
