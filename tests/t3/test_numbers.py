"""Numbers as people read them."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from ampel_spark.t3 import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0767, "0.07670"),
        (-1.3, "−1.300"),
        (12, "12"),
        (np.int64(-4), "−4"),
        (2458183.5000620, "2458183.50"),
        (5.862e-4, "5.862 × 10⁻⁴"),
        (-1e9, "−1.000 × 10⁹"),
        (0.0, "0"),
        (float("nan"), "–"),
        (np.float32("inf"), "∞"),
        (-np.inf, "−∞"),
        (None, "–"),
        (pd.NA, "–"),
        ("", "–"),
        (True, "yes"),
        (np.bool_(False), "no"),
        ("salt3/2.0", "salt3/2.0"),
        (["ztfg", "ztfr"], "ztfg, ztfr"),
        (np.arange(16.0), "16 values"),
        ([], "–"),
    ],
)
def test_a_number_has_sensible_digits(value: Any, text: str) -> None:
    assert numbers.number(value).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.556087, 0.221405, "0.56 ± 0.22"),
        (2458183.50006, 0.316, "2458183.50 ± 0.32"),
        (0.000586209, 6.566e-05, "(5.86 ± 0.66) × 10⁻⁴"),
        (-0.0253, 0.0281, "−0.025 ± 0.028"),
        (3.2e7, 1.3e6, "(3.20 ± 0.13) × 10⁷"),
        (1234.0, 123.0, "1234 ± 123"),
        (0.05, None, "0.05000"),
        (0.05, float("nan"), "0.05000"),
        (0.05, 0.0, "0.05000"),
        (None, 0.1, "–"),
    ],
)
def test_an_error_decides_the_digits(value: Any, error: Any, text: str) -> None:
    assert numbers.with_error(value, error).replace("\u00a0", " ") == text


@given(st.floats(-900, 900), st.floats(1e-4, 90))
def test_what_is_printed_is_the_value_rounded_to_the_place_of_its_error(
    value: float, error: float
) -> None:
    text = numbers.with_error(value, error).replace("−", "-")
    if "×" in text:
        return
    shown, printed = (Decimal(part) for part in text.split(" ± "))
    place = Decimal(1).scaleb(shown.as_tuple().exponent)
    assert shown == Decimal(value).quantize(place, ROUND_HALF_EVEN)
    assert printed == Decimal(error).quantize(place, ROUND_HALF_EVEN)
    assert 2 <= len(printed.as_tuple().digits) <= 3


def test_a_column_has_one_number_of_decimals() -> None:
    assert numbers.aligned([0.5, -12.25, None, float("inf")]) == ["0.50", "−12.25", "–", "∞"]
    assert numbers.aligned([3.0, float("nan"), 10.0]) == ["3", "–", "10"]
    assert numbers.aligned([2458183.50006, 2458548.8]) == ["2458183.50", "2458548.80"]
    assert numbers.aligned([1e-9, 1.0]) == ["1.000\u00a0×\u00a010⁻⁹", "1.000"]
    assert numbers.aligned([1e-5, 1.0]) == ["1.000\u00a0×\u00a010⁻⁵", "1.000"]
    assert numbers.aligned([]) == []


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(1, 3, "33 %"), (0, 3, "0 %"), (3, 3, "100 %"), (99999, 100000, "99.9 %"),
     (1, 100000, "0.1 %"), (996, 1000, "99.6 %"), (0, 0, "–")],
)  # fmt: skip
def test_a_share_is_never_rounded_to_all_or_nothing(part: int, whole: int, text: str) -> None:
    assert numbers.percent(part, whole) == text


@given(st.floats(0, 359.99999), st.floats(-89.9999, 89.9999))
def test_sexagesimal_positions_are_those_of_astropy(ra: float, dec: float) -> None:
    hms, dms = numbers.sexagesimal(ra, dec).replace("−", "-").split()
    back = SkyCoord(hms, dms, unit=(u.hourangle, u.deg))
    assert back.separation(SkyCoord(ra, dec, unit="deg")).arcsec < 0.1
    assert ":60" not in hms + dms


@given(st.floats(2440588.0, 2462502.0))
def test_dates_are_those_of_astropy(jd: float) -> None:
    if abs((jd + 0.5) % 1) < 1e-6 or abs((jd + 0.5) % 1) > 1 - 1e-6:
        return  # midnight is a matter of the last bit
    assert numbers.date_of(jd) == Time(jd, format="jd", scale="tt").iso[:10]
