"""The summary of a light curve: its plain form, its fast form, and AMPEL's fault D1."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampel_spark.lightcurve import DETECTION, FORCED, UPPER_LIMIT
from ampel_spark.t2 import LightCurve, LightCurveBatch
from ampel_spark.t2.registry import build
from ampel_spark.t2.units.light_curve_summary import LightCurveSummary

UNIT = LightCurveSummary()


def supernova() -> LightCurve:
    """Deep limits before the discovery and one after it, a shallow one, a negative detection."""
    return LightCurve.of(
        jd=[100, 103, 104, 105, 106, 107, 110, 108],
        kind=[UPPER_LIMIT] * 3 + [DETECTION] * 4 + [UPPER_LIMIT],
        datapoint_id=[-1, -4, -5, 11, 12, 13, 14, -9],
        limit_mag=[20.5, 20.1, 19.5, np.nan, np.nan, np.nan, np.nan, 20.6],
        mag=[np.nan] * 3 + [19.0, 18.0, 18.5, 16.0, np.nan],
        magerr=[np.nan] * 3 + [0.1, 0.05, 0.06, 0.01, np.nan],
        sign=[0, 0, 0, 1, 1, 1, -1, 0],
        band=["ztfg", "ztfr", "ztfg", "ztfg", "ztfr", "ztfg", "ztfg", "ztfr"],
        ra=[np.nan] * 3 + [359.9999, 0.0001, 359.9999, 0.0001, np.nan],
        dec=[np.nan] * 3 + [0.0] * 4 + [np.nan],
    )


def test_counts_dates_and_brightest_points() -> None:
    row = UNIT.process(supernova())
    assert (row["n_detections"], row["n_negative"], row["n_upper_limits"]) == (4, 1, 4)
    assert (row["first_detection"], row["last_detection"], row["duration"]) == (105, 110, 5)
    assert (row["n_ztfg"], row["n_ztfr"], row["n_ztfi"]) == (3, 1, 0)
    assert (row["latest_mag"], row["latest_band"]) == (16.0, "ztfg")
    # a negative subtraction is no peak
    assert (row["peak_mag"], row["peak_jd"], row["peak_band"]) == (18.0, 106, "ztfr")
    assert (row["peak_mag_ztfg"], row["peak_jd_ztfg"]) == (18.5, 107)
    assert "peak_mag_ztfi" not in row


def test_positions_are_right_across_right_ascension_zero() -> None:
    row = UNIT.process(supernova())
    assert row["ra"] % 360 == pytest.approx(0.0, abs=1e-9) or row["ra"] == pytest.approx(360.0)
    assert row["position_rms"] == pytest.approx(0.36)
    assert (row["discovery_ra"], row["discovery_dec"]) == (359.9999, 0.0)


def test_d1_the_last_significant_limit_before_the_discovery_is_the_last() -> None:
    row = UNIT.process(supernova())
    assert row["last_significant_nondetection_jd"] == 103
    assert row["last_significant_nondetection_band"] == "ztfr"
    assert row["last_significant_nondetection_limit"] == 20.1
    assert row["nondetection_gap"] == 2


def test_a_limit_at_the_limiting_magnitude_is_not_significant() -> None:
    deeper = LightCurveSummary(limiting_magnitude=19.4).process(supernova())
    assert deeper["last_significant_nondetection_jd"] == 104
    none = LightCurveSummary(limiting_magnitude=21.0).process(supernova())
    assert "last_significant_nondetection_jd" not in none


def test_forced_photometry_is_not_counted() -> None:
    curve = LightCurve.of(jd=[1, 2], kind=[DETECTION, FORCED], mag=[18.0, 12.0], band="ztfg")
    row = UNIT.process(curve)
    assert (row["n_detections"], row["last_detection"], row["peak_mag"]) == (1, 1, 18.0)


def test_bands_decide_the_columns() -> None:
    unit = build("light_curve_summary", {"bands": ["lsstu"]}, Path())
    names = [column.name for column in unit.output_columns()]
    assert names[-3:] == ["n_lsstu", "peak_mag_lsstu", "peak_jd_lsstu"]
    assert set(unit.process(supernova())) <= set(names)


POINT = st.tuples(
    st.sampled_from([DETECTION, DETECTION, UPPER_LIMIT, FORCED]),
    st.integers(0, 8).map(float),
    st.sampled_from(["ztfg", "ztfr", "ztfi", "other"]),
    st.sampled_from([17.0, 18.0, 18.0, 19.25, np.nan]),
    st.sampled_from([19.0, 19.5, 20.0, np.nan]),
    st.sampled_from([1, 1, -1]),
    st.sampled_from([0.0, 0.0002, 359.9997, np.nan]),
    st.sampled_from([-30.0, -30.0001]),
)


def curve_of(points: list[tuple[Any, ...]]) -> LightCurve:
    columns = list(zip(*points, strict=True)) or [()] * 8
    names = ("kind", "jd", "band", "mag", "limit_mag", "sign", "ra", "dec")
    given: dict[str, Any] = dict(zip(names, map(list, columns), strict=True))
    return LightCurve.of(magerr=0.1, **given)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(POINT, max_size=9), min_size=1, max_size=6))
def test_the_fast_form_says_what_the_plain_form_says(curves: list[list[tuple[Any, ...]]]) -> None:
    batch = LightCurveBatch.of([curve_of(points) for points in curves])
    columns = UNIT.process_batch(batch)
    assert set(columns) == {column.name for column in UNIT.output_columns()}
    for i, curve in enumerate(batch):
        row = UNIT.process(curve)
        for name, values in columns.items():
            plain, fast = row.get(name), values[i]
            if plain is None or plain != plain:
                assert fast is None or fast != fast, name
            elif isinstance(plain, str):
                assert plain == fast, name
            elif name in ("ra", "dec", "position_rms"):
                away = abs(float(plain) - float(fast))
                assert min(away, 360 - away) < 1e-7, name  # sums in another order
            else:
                assert plain == fast, name


def test_a_light_curve_says_the_same_in_any_batch() -> None:
    curves = [supernova().where(np.arange(8) < n) for n in range(9)]
    together = UNIT.process_batch(LightCurveBatch.of(curves))
    for i, curve in enumerate(curves):
        alone = UNIT.process_batch(LightCurveBatch.of([curve]))
        for name, values in together.items():
            np.testing.assert_array_equal(np.asarray(values[i : i + 1]), np.asarray(alone[name]))


def test_the_position_of_a_batch_is_that_of_its_light_curves() -> None:
    batch = LightCurveBatch.of([supernova(), LightCurve.of(jd=[1.0]), LightCurve.of(jd=[])])
    ra, dec = batch.positions()
    for i, curve in enumerate(batch):
        expected = curve.position()
        assert math.isnan(expected[0]) == math.isnan(ra[i])
        assert math.isnan(expected[0]) or math.cos(math.radians(ra[i] - expected[0])) > 1 - 1e-12
        assert math.isnan(expected[0]) or dec[i] == pytest.approx(expected[1], abs=1e-12)
