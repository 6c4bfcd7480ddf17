"""Options are checked when they are made."""

from __future__ import annotations

import numpy as np
import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.salt import FitOptions


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fit": ()}, "at least one"),
        ({"fit": ("t0", "xo")}, "parameter 'xo' is not known"),
        ({"fit": ("z", "t0", "x0")}, "fit z: give bounds"),
        ({"bounds": {"c": (1.0, 0.0)}}, "bounds of c"),
        ({"bounds": {"c": (np.nan, 0.0)}}, "bounds of c"),
        ({"priors": {"c": (0.0, 0.0)}}, "prior of c"),
        ({"phase_frame": "moon"}, "'rest' or 'observer'"),
        ({"phase_range": (10.0, -10.0)}, "phase_range"),
        ({"error_floor": -1.0}, "error floors"),
        ({"max_starts": 0}, "at least 1"),
        ({"covariance_tolerance": 0.0}, "covariance_tolerance"),
    ],
)
def test_what_cannot_be_right_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FitOptions(**wrong)


def test_parameters_are_fitted_in_sncosmos_order() -> None:
    assert FitOptions(fit=("c", "x0", "t0")).fitted == ("t0", "x0", "c")


def test_bounds_and_priors_per_object() -> None:
    low = np.array([-1.0, -2.0, -3.0])
    lower, upper = FitOptions(bounds={"x1": (low, 0.0)}).bound_arrays(3)
    np.testing.assert_array_equal(lower[:, 3], low)
    np.testing.assert_array_equal(upper[:, 3], 0.0)
    with pytest.raises(ConfigError, match="for 5 light curves"):
        FitOptions(bounds={"x1": (low, 0.0)}).bound_arrays(5)
