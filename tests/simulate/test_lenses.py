"""Lenses whose images are known, and what the population looks like."""

from __future__ import annotations

import numpy as np
import pytest

from ampel_spark.simulate.lenses import draw_lenses, images_of


def test_a_round_lens_has_the_two_images_that_are_known() -> None:
    beta = np.array([0.1, 0.3, 0.7, 1.5])
    none = np.zeros(4)
    mu, delay = images_of(beta, none, np.full(4, 0.99999), none, none)
    assert mu[:3, 0] == pytest.approx(1.0 / beta[:3] + 1.0, rel=1e-3)
    assert mu[:3, 1] == pytest.approx(1.0 / beta[:3] - 1.0, rel=1e-3)
    assert delay[:3, 1] == pytest.approx(2.0 * beta[:3], rel=1e-3)
    assert (mu[:, 2:] == 0.0).all()
    assert mu[3, 1] == 0.0  # outside of the Einstein radius there is one
    assert mu[3, 0] == pytest.approx(1.0 / 1.5 + 1.0, rel=1e-3)


def test_a_source_inside_the_caustic_has_four_images_that_solve_the_lens_equation() -> None:
    one = np.ones(1)
    mu, delay = images_of(0.02 * one, 0.03 * one, 0.6 * one, 0.05 * one, 0.3 * one)
    assert (mu[0] > 1.0).sum() == 4
    assert delay[0, 0] == 0.0
    assert (np.diff(delay[0, :4]) > 0.0).all()
    # A small source's images are its area as often as the magnification says.
    grid = np.linspace(-2.5, 2.5, 4001)
    x, y = np.meshgrid(grid, grid)
    f = np.sqrt(1 - 0.6**2)
    phi = np.arctan2(y, x)
    ax = np.sqrt(0.6) / f * np.arcsinh(f / 0.6 * np.cos(phi))
    ay = np.sqrt(0.6) / f * np.arcsin(f * np.sin(phi))
    g1, g2 = 0.05 * np.cos(0.6), 0.05 * np.sin(0.6)
    back = ((1 - g1) * x - g2 * y - ax - 0.02) ** 2 + ((1 + g1) * y - g2 * x - ay - 0.03) ** 2
    area = (back < 0.02**2).sum() * (grid[1] - grid[0]) ** 2
    assert area / (np.pi * 0.02**2) == pytest.approx(mu[0].sum(), rel=0.05)


def test_the_population_is_the_same_for_a_seed_and_like_those_of_papers() -> None:
    lenses = draw_lenses(4000, 5)
    again = draw_lenses(4000, 5)
    assert (lenses.delay == again.delay).all()
    assert (lenses.z_lens < lenses.z_source).all()
    assert (lenses.total >= 2.0).all()
    assert np.median(lenses.z_source) == pytest.approx(0.86, abs=0.05)
    assert np.median(lenses.z_lens) == pytest.approx(0.38, abs=0.05)
    assert np.median(lenses.total) == pytest.approx(3.1, abs=0.4)
    assert 0.02 < (lenses.n_images >= 4).mean() < 0.2
