"""The colours, magnitudes and cuts of the search for lensed supernovae."""

from __future__ import annotations

import math
from bisect import bisect_left
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.cosmology import WMAP9

from ampel_spark.errors import ConfigError
from ampel_spark.t2 import LightCurve, LightCurveBatch, Refusal
from ampel_spark.t2.registry import build
from ampel_spark.t2.unit import MISSING_DEPENDENCY, MISSING_INFO
from ampel_spark.t2.units.lens_colours import EPOCHS, LensColours

T0 = 2459000.0
BANDS = ("ztfg", "ztfr", "ztfi")
#: AMPEL's thresholds, as its unit lists them.
THRESHOLDS = {
    "r_i_colour_peak": -0.28,
    "r_i_colour_plus7": -0.23,
    "r_i_colour_minus7": -0.34,
    "g_r_colour_peak": 0.12,
    "g_r_colour_plus7": 0.33,
    "g_r_colour_minus7": -0.08,
    "g_i_colour_peak": 0.06,
    "g_i_colour_plus7": 0.33,
    "g_i_colour_minus7": -0.08,
}


def unit(**config: Any) -> LensColours:
    made = build("lens_colours", config, Path())
    assert isinstance(made, LensColours)
    return made


def closest(times: list[float], wanted: float) -> float:
    """The time nearest to another, the earlier of two, as AMPEL looks for it."""
    after = bisect_left(times, wanted)
    if after == 0:
        return times[0]
    if after == len(times):
        return times[-1]
    near, far = times[after - 1], times[after]
    return far if far - wanted < wanted - near else near


def ampels(curve: LightCurve, unc: float, modulus: float) -> dict[str, Any]:
    """What AMPEL's unit says of one object, point by point."""
    fit, digest = curve.results["salt_fit"], curve.results["redshift_digest"]
    found: dict[str, Any] = {}
    points: dict[tuple[str, str], int] = {}
    jd, bands = curve.jd.tolist(), curve.band.tolist()
    for band in BANDS:
        mine = [i for i in range(len(jd)) if bands[i] == band]
        for epoch, days in EPOCHS.items():
            if not mine:
                continue
            time = closest([jd[i] for i in mine], fit["t0"] + days)
            if fit["t0"] + days - unc <= time <= fit["t0"] + days + unc:
                points[band, epoch] = next(i for i in mine if jd[i] == time)
    for blue, red in (("g", "r"), ("g", "i"), ("r", "i")):
        for epoch in EPOCHS:
            one, two = points.get((f"ztf{blue}", epoch)), points.get((f"ztf{red}", epoch))
            value = error = None
            if one is not None and two is not None:
                # Columns of one row, as AMPEL's: numpy has another power for single numbers.
                f, s = curve.flux[[one, two], None], curve.fluxerr[[one, two], None]
                with np.errstate(all="ignore"):
                    value = (-2.5 * np.log10(f[0] / f[1]))[0]
                    errors = 2.5 * 0.434 * (s / f)
                    error = ((errors[0] ** 2 + errors[1] ** 2) ** 0.5)[0]
            found[f"{blue}_{red}_colour_{epoch}"] = value
            found[f"{blue}_{red}_colour_{epoch}_err"] = error
    for band in BANDS:
        for epoch in EPOCHS:
            at = points.get((band, epoch))
            with np.errstate(all="ignore"):
                mag = None if at is None else -2.5 * np.log10(curve.flux[at]) + 25
            found[f"obsmag_{band}_{epoch}"] = mag
    found["pass_colour_cuts"] = any(
        found[k] is not None and bool(found[k] > v) for k, v in THRESHOLDS.items()
    )
    z, distance = digest["ampel_z"], digest["ampel_dist"]
    here = z is not None and distance is not None and z > 0.1 and distance < 3.0
    bright = fit["peak_mag_b"] - modulus < -19.5
    found["pass_all_cuts"] = bool(found["pass_colour_cuts"] and bright and here)
    return found


def random_curve(rng: np.random.Generator, grid: bool) -> LightCurve:
    """Points with gaps; times on a grid make ties, and fluxes about zero make odd logarithms."""
    bands = rng.choice(BANDS, size=rng.integers(1, 4), replace=False)
    n = int(rng.integers(1, 25))
    jd, t0 = T0 + rng.uniform(-15, 20, n), T0 + rng.normal(0, 2)
    if grid:
        jd, t0 = np.round(2 * jd) / 2, np.round(4 * t0) / 4
    flux = rng.normal(60, 60, n) if rng.random() < 0.5 else rng.uniform(20, 300, n)
    flux[rng.random(n) < 0.03] = 0.0
    z = float(rng.uniform(0.02, 0.5))
    fit = {"t0": t0, "z": z, "peak_mag_b": float(rng.normal(19, 1.5))}
    digest: dict[str, Any] = {"ampel_z": z, "ampel_dist": float(rng.uniform(0, 4))}
    if rng.random() < 0.1:
        digest = dict.fromkeys(digest)
    return LightCurve.of(
        jd=jd,
        band=rng.choice(bands, n),
        flux=flux,
        fluxerr=rng.uniform(1, 30, n),
        sign=np.where(flux < 0, -1, 1),
        results={"salt_fit": fit, "redshift_digest": digest},
    )


def same(mine: Any, theirs: Any) -> bool:
    """Equal to the last bit; what is no number is null."""
    mine, theirs = (
        None if v is None or (isinstance(v, float) and math.isnan(v)) else v for v in (mine, theirs)
    )
    return bool(mine == theirs)


def test_mode_ampel_is_ampels_unit_value_and_verdict() -> None:
    rng = np.random.default_rng(7)
    curves = [random_curve(rng, grid=i % 2 == 0) for i in range(2400)]
    columns = unit(mode="ampel").process_batch(LightCurveBatch.of(curves))
    rows = {k: v.to_pylist() if hasattr(v, "to_pylist") else v for k, v in columns.items()}
    verdicts = set()
    odd = ties = 0
    moduli = WMAP9.distmod([curve.results["salt_fit"]["z"] for curve in curves]).value
    for i, curve in enumerate(curves):
        for name, value in ampels(curve, 3.0, moduli[i]).items():
            assert same(rows[name][i], value), (i, name, rows[name][i], value)
        verdicts.add((rows["pass_colour_cuts"][i], rows["pass_all_cuts"][i]))
        odd += any(math.isinf(rows[name][i]) for name in THRESHOLDS)
        ties += len(set(zip(curve.jd, curve.band, strict=True))) < len(curve)
    assert verdicts == {(True, True), (True, False), (False, False)}
    assert odd > 10
    assert ties > 100


def test_windows_include_their_bounds_and_of_two_points_the_earlier_counts() -> None:
    def curve(days: list[float], band: list[str]) -> LightCurve:
        flux = 100.0 + np.arange(len(days))
        return LightCurve.of(
            jd=T0 + np.array(days), band=band, flux=flux, fluxerr=1.0, results=TIED
        )

    edge = unit().process(curve([-3.0, 3.0], ["ztfg", "ztfr"]))
    assert edge["g_r_colour_peak"] == -2.5 * np.log10(100.0 / 101.0)
    outside = unit().process(curve([-3.0, 3.001], ["ztfg", "ztfr"]))
    assert math.isnan(outside["g_r_colour_peak"])
    tie = unit().process(curve([-1.0, 0.0, 1.0], ["ztfg", "ztfr", "ztfg"]))
    assert tie["obsmag_ztfg_peak"] == -2.5 * np.log10(100.0) + 25


TIED = {
    "salt_fit": {"t0": T0, "z": 0.2, "peak_mag_b": 19.0, "peak_absmag_b": -20.5},
    "redshift_digest": {"ampel_z": 0.2, "ampel_dist": 1.0},
}


def peak(g: float, r: float, error: float = 1.0, **more: Any) -> LightCurve:
    return LightCurve.of(
        jd=[T0, T0 + 0.1],
        band=["ztfg", "ztfr"],
        flux=[g, r],
        fluxerr=error,
        **({"results": TIED} | more),
    )


def test_what_is_missing_is_null_with_its_reason_and_passes_nothing() -> None:
    row = unit().process(peak(100.0, -50.0, sign=[1, -1]))
    assert row["pass_colour_cuts"] is None
    assert row["pass_all_cuts"] is None
    assert row["unknown"] == "no colour is known"
    assert "g_r_colour_peak: flux in ztfr is not above 0" in row["missing"]
    assert "g_i_colour_peak: no point in ztfi" in row["missing"]
    assert "g_r_colour_plus7: no point in ztfg within 3 d of plus7, no point in ztfr within" in (
        " ".join(row["missing"])
    )
    without = {"salt_fit": TIED["salt_fit"], "redshift_digest": {"ampel_z": None}}
    row = unit().process(peak(50.0, 100.0, results=without))
    assert row["pass_colour_cuts"] is True
    assert row["pass_redshift_cut"] is None
    assert row["pass_all_cuts"] is None
    assert row["unknown"] == (
        "no redshift in redshift_digest.ampel_z; no distance in redshift_digest.ampel_dist"
    )


def test_two_negative_fluxes_are_no_colour_although_their_ratio_has_a_logarithm() -> None:
    curve = peak(-50.0, -100.0, sign=[-1, -1])
    assert unit(mode="ampel").process(curve)["pass_colour_cuts"] is True
    assert unit().process(curve)["pass_colour_cuts"] is None


def test_a_colour_must_exceed_its_threshold_by_its_error() -> None:
    red = peak(80.0, 100.0, error=10.0)  # 0.24 mag, error 0.17
    assert unit(mode="ampel").process(red)["pass_all_cuts"] is True
    assert unit().process(red)["pass_all_cuts"] is False
    assert unit(significance=0.5).process(red)["pass_all_cuts"] is True
    row = unit().process(peak(80.0, 100.0, error=1.0))
    assert row["pass_all_cuts"] is True
    assert row["colour_excess"] == pytest.approx((0.24228 - 0.12) / 0.01737, rel=1e-3)


def test_one_failed_cut_is_enough_to_fail() -> None:
    row = unit(max_absmag=-21.0).process(peak(100.0, -50.0, sign=[1, -1]))
    assert row["pass_colour_cuts"] is None
    assert row["pass_all_cuts"] is False


def test_thresholds_bands_and_entries_are_the_jobs() -> None:
    own = unit(
        fit="mine",
        redshift="host",
        z_column="z",
        distance_column="distance",
        colours=[{"name": "V_R", "blue": "ztfg", "red": "ztfr", "peak": 0.5}],
    )
    assert own.needs() == ("mine", "host")
    assert own.tied_columns()["host"] == ["z", "distance"]
    names = [column.name for column in own.output_columns()]
    assert "V_R_colour_plus7_err" in names
    assert "obsmag_ztfi_peak" not in names
    results = {"mine": TIED["salt_fit"], "host": {"z": 0.2, "distance": 1.0}}
    assert own.process(peak(60.0, 100.0, results=results))["pass_all_cuts"] is True
    assert own.process(peak(80.0, 100.0, results=results))["pass_all_cuts"] is False
    with pytest.raises(ConfigError, match="a name of its own"):
        unit(colours=[{"name": n, "blue": "ztfg", "red": "ztfr"} for n in ("a", "A")])


def test_no_fit_is_a_refusal_and_in_mode_ampel_a_verdict() -> None:
    for results, status in (
        ({"redshift_digest": TIED["redshift_digest"]}, MISSING_DEPENDENCY),
        (TIED | {"salt_fit": {"t0": None}}, MISSING_INFO),
    ):
        curve = peak(50.0, 100.0, results=results)
        with pytest.raises(Refusal) as refused:
            unit().process(curve)
        assert refused.value.status == status
        row = unit(mode="ampel").process(curve)
        assert (row["pass_colour_cuts"], row["pass_all_cuts"]) == (False, False)


def test_results_do_not_depend_on_order_zero_points_or_the_rest_of_the_batch() -> None:
    rng = np.random.default_rng(3)
    curves = [random_curve(rng, grid=True) for _ in range(60)]

    def turned(curve: LightCurve) -> LightCurve:
        order = rng.permutation(len(curve))
        points = {k: v[order].copy() for k, v in curve.points.items()}
        return LightCurve("", 0, "", points, curve.results)

    whole = unit().process_batch(LightCurveBatch.of(curves))
    other = unit().process_batch(LightCurveBatch.of([turned(c) for c in curves[::-1]]))
    for name, values in whole.items():
        mine, theirs = list(map(str, values)), list(map(str, other[name]))[::-1]
        assert mine == theirs, name
    bright = peak(50.0, 100.0)
    faint = peak(5.0, 10.0, error=0.1, zp=22.5)
    a, b = unit().process(bright), unit().process(faint)
    assert a["obsmag_ztfg_peak"] == pytest.approx(b["obsmag_ztfg_peak"])
    assert a["g_r_colour_peak"] == pytest.approx(b["g_r_colour_peak"])


def test_points_that_cannot_be_used_cost_themselves_alone() -> None:
    curve = LightCurve.of(
        jd=T0 + np.array([0.0, 0.01, 0.02, 0.03, 0.2, 0.3]),
        band=["ztfg", "ztfg", "ztfg", "ztfg", "ztfg", "ztfr"],
        flux=[np.nan, 60.0, 60.0, 60.0, 50.0, 100.0],
        fluxerr=[1.0, 0.0, np.inf, 1.0, 1.0, 1.0],
        zpsys=["ab", "ab", "ab", "vega", "ab", "ab"],
        results=TIED,
    )
    assert unit().process(curve)["g_r_colour_peak"] == -2.5 * np.log10(0.5)
