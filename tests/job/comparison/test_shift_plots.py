"""Plots of shifts."""

from __future__ import annotations

import re

import numpy as np

from ampel_spark.job.comparison.shift_plots import shift_plot


def some(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    before = random.normal(0, 1, count)
    return before, before + random.normal(0.1, 0.02, count)


def test_shifts_beyond_the_axis_are_counted_at_its_edge() -> None:
    before, after = some(200)
    after[:3] += 5.0
    after[3] -= 5.0
    text = shift_plot("x1", before, after).decode()
    assert "▲ 3" in text
    assert "▼ 1" in text
    assert "Δ x1" in text


def test_the_same_shifts_give_the_same_file() -> None:
    assert shift_plot("x1", *some(50)) == shift_plot("x1", *some(50))


def test_a_million_shifts_make_no_large_page() -> None:
    before, after = some(1_000_000)
    hops = np.ones(len(before), bool)
    assert len(shift_plot("x1", before, after, hops)) < 120_000
    assert len(shift_plot("x1", before, after)) < 250_000


def test_dates_are_drawn_from_a_day_near_them() -> None:
    before = 2460300.25 + np.arange(5.0)
    text = shift_plot("t0", before, before + 0.1 * np.eye(5)[1], unit="d").decode()
    assert "t0 − 2460300 [d], before" in text


def test_one_object_and_shifts_of_no_width_can_be_drawn() -> None:
    for after in ([1.5], [1.0]):
        assert shift_plot("c", [1.0], after).startswith(b"<?xml")
    assert shift_plot("c", np.arange(9.0), np.arange(9.0) + np.eye(9)[4]).startswith(b"<?xml")


def test_a_variation_that_leaves_no_value_has_a_plot_without_points() -> None:
    assert shift_plot("c", [], [], []).startswith(b"<?xml")


def test_a_long_expression_is_no_label() -> None:
    name = "mag(salt_fit.x0) + 0.14 * salt_fit.x1 - 3.1 * salt_fit.c"
    text = shift_plot(name, *some(20)).decode()
    assert not re.search("salt_fit", text)
    assert "Δ value" in text
