"""The canonical form: rounding, fluxes, superseded points, and what the hash takes in."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ampel_spark.lightcurve import DETECTION, FORCED, UPPER_LIMIT
from ampel_spark.t1.photometry import NULL, canonical, integers, newest, packed, unsuperseded


def points(n: int, **columns: object) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {
        "datapoint_id": np.arange(1, n + 1),
        "kind": np.full(n, DETECTION, np.int8),
        "jd": 2458000.5 + np.arange(n),
        "band": np.full(n, "ztfg", object),
        "mag": np.full(n, 18.0),
        "magerr": np.full(n, 0.1),
        "limit_mag": np.full(n, 20.0),
        "sign": np.ones(n, np.int8),
        "flux": np.full(n, np.nan),
        "fluxerr": np.full(n, np.nan),
        "zp": np.full(n, np.nan),
        "zpsys": np.full(n, "ab", object),
        "rcid": np.full(n, 3, np.int32),
    }
    made.update({k: np.asarray(v) for k, v in columns.items()})
    return made


def test_the_newest_revision_of_each_datapoint_is_kept() -> None:
    p = points(5, datapoint_id=[1, 1, 2, 2, 2])
    assert newest(p, np.array([0, 0, 0, 1, 1])).tolist() == [False, True, True, False, True]


def test_the_largest_id_supersedes_within_time_and_readout_channel() -> None:
    p = points(6, datapoint_id=[-9, 1, 2, 3, 4, 5], jd=[1.0, 1.0, 1.0, 2.0, 2.0, 2.0],
               rcid=[3, 3, 3, 3, 3, 4],
               kind=[UPPER_LIMIT, DETECTION, DETECTION, DETECTION, FORCED, DETECTION])  # fmt: skip
    # the limit and detection 1 yield to 2; forced photometry is apart; another channel is another
    # point
    assert unsuperseded(p, np.zeros(6, int)).tolist() == [False, False, True, True, True, True]
    # in another light curve nothing supersedes
    assert unsuperseded(p, np.arange(6)).all()


def test_a_flux_is_that_of_the_rounded_magnitude_to_seven_digits() -> None:
    p = canonical(
        points(2, mag=[18.36185646057129, 18.0], magerr=[0.0512345678, 0.1], sign=[1, -1])
    )
    assert p["mag"][0] == 18.361856
    expected = Decimal(10) ** (Decimal("-0.4") * (Decimal("18.361856") - 25))
    assert p["flux"][0] == float(f"{expected:.6e}")
    assert p["flux"][1] == -630.9573
    assert p["fluxerr"][1] == float(f"{630.957344480193 * 0.1 * 0.921034037197618:.6e}")
    assert (p["zp"] == 25.0).all()


def test_an_upper_limit_has_no_flux() -> None:
    p = canonical(
        points(
            1, kind=[UPPER_LIMIT], mag=[np.nan], magerr=[np.nan], sign=[0], limit_mag=[20.12345678]
        )
    )
    assert p["limit_mag"][0] == 20.123457
    assert np.isnan(p["flux"][0])
    assert np.isnan(p["zp"][0])


@given(st.floats(1e-15, 1e15, allow_subnormal=False), st.sampled_from([-1, 1]))
@example(999999.95, 1)
@example(9999999.5, 1)
@example(1e-5, -1)
@example(1000000.0, 1)
def test_forced_fluxes_keep_seven_significant_digits(size: float, sign: int) -> None:
    p = points(1, kind=[FORCED], flux=[sign * size], fluxerr=[size], zp=[26.3])
    made = canonical(p)["flux"][0]
    assert abs(made / (sign * size) - 1) <= 5.000001e-7
    assert float(f"{made:.6e}") == made
    assert canonical({**p, "flux": np.array([made])})["flux"][0] == made


def test_zero_and_minus_zero_are_one_content_and_null_is_another() -> None:
    rows = [
        integers(canonical(points(1, kind=[FORCED], flux=[f], fluxerr=[1.0], zp=[26.0])))[0]
        for f in (0.0, -0.0, np.nan)
    ]
    assert rows[0].tolist() == rows[1].tolist() != rows[2].tolist()
    assert NULL in rows[2].tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"mag": [18.000001]},
        {"magerr": [0.100001]},
        {"jd": [2458000.50000001]},
        {"sign": [-1]},
        {"limit_mag": [np.nan]},
        {"band": np.array(["ztfr"], object)},
        {"zpsys": np.array(["vega"], object)},
        {"datapoint_id": [2]},
        {"kind": [UPPER_LIMIT]},
    ],
)
def test_every_content_counts(change: dict[str, object]) -> None:
    assert (
        integers(canonical(points(1))).tolist() != integers(canonical(points(1, **change))).tolist()
    )


@pytest.mark.parametrize(
    "change", [{"mag": [18.0000004]}, {"jd": [2458000.500000004]}, {"flux": [77.0]}, {"rcid": [9]}]
)
def test_what_is_below_rounding_or_derived_does_not_count(change: dict[str, object]) -> None:
    assert (
        integers(canonical(points(1))).tolist() == integers(canonical(points(1, **change))).tolist()
    )


def test_a_correction_and_its_inverse_give_the_old_content_back() -> None:
    p = points(1000, mag=np.random.default_rng(1).uniform(12, 22, 1000))
    there = canonical({**p, "mag": canonical(p)["mag"] + 0.0123})
    back = canonical({**there, "mag": there["mag"] - 0.0123})
    assert np.array_equal(integers(back), integers(canonical(p)))


def test_short_names_are_packed_apart_from_long_ones() -> None:
    names = np.array(["ztfg", "ztfr", "", "a_band_of_a_long_name", "a_band_of_a_long_nam"], object)
    assert len(set(packed(names).tolist())) == 5
