"""Shifts of numbers: medians, robust widths, and who changed minimum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from ampel_spark.job.comparison.shifts import HOP, changed_minimum, robust, shift_of


def test_median_and_width_are_those_of_scipy() -> None:
    values = np.random.default_rng(1).normal(3.0, 0.5, 2001)
    middle, width = robust([*values, np.nan])
    assert middle == np.median(values)
    # scipy knows the factor to more digits
    assert width == pytest.approx(median_abs_deviation(values, scale="normal"), rel=1e-5)


def test_a_shift_put_in_comes_out_whatever_a_few_objects_do() -> None:
    random = np.random.default_rng(2)
    before = random.normal(0, 1, 500)
    after = before + 0.01 + random.normal(0, 0.002, 500)
    after[:5] += 40.0
    after[7] = np.nan
    found = shift_of(before, after, np.full(500, 1.0))
    assert found.n == 499
    assert found.median == pytest.approx(0.01, abs=3 * 0.002 * 1.25 / np.sqrt(499))
    assert found.robust_sd == pytest.approx(0.002, rel=0.15)
    assert found.largest == pytest.approx(40, abs=0.1)
    assert found.at in range(5)
    assert found.beyond == 5
    assert np.mean(np.delete(after - before, 7)) > 0.3  # what a mean would have said


def test_equal_numbers_do_not_shift() -> None:
    found = shift_of([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (found.n, found.changed, found.median, found.robust_sd) == (3, 0, 0.0, 0.0)
    assert found.beyond is None


def test_nothing_has_no_median() -> None:
    found = shift_of([np.nan], [1.0])
    assert found.n == 0
    assert np.isnan([found.median, found.robust_sd, found.largest]).all()
    assert found.at is None


def test_who_moved_by_more_than_error_and_scatter_changed_minimum() -> None:
    random = np.random.default_rng(3)
    delta = 0.02 + random.normal(0, 0.01, 200)
    delta[[10, 20]] = 3.0, 0.02 + 4 * HOP * 0.01
    hopped = changed_minimum({"t0": delta}, {"t0": np.full(200, 1.0)})
    # the second is far out, but within its own error
    assert np.flatnonzero(hopped).tolist() == [10]


def test_a_shift_that_all_have_is_no_other_minimum() -> None:
    delta = np.full(50, 7.0)
    assert not changed_minimum({"t0": delta}, {"t0": np.full(50, 0.1)}).any()


def test_numbers_without_an_error_say_nothing_of_minima() -> None:
    assert changed_minimum({"chisq": [0.0, 0.0, 900.0]}, {}).tolist() == [False] * 3
