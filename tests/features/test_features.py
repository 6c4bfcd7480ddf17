"""Features: their definitions, by independent code; the kernel and its plain twin; prefixes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from ampel_spark.features import FeatureSet, Options, compute, compute_one

BANDS = ("ztfg", "ztfr", "other")
SET = FeatureSet(BANDS)
NAMES = [f.name for f in SET.features()]


def points_of(rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Return columns of rows (jd, flux, fluxerr, band, kind), in order of time."""
    rows = sorted(rows, key=lambda row: row[0])
    jd, flux, err, band, kind = [*zip(*rows, strict=True)] or [()] * 5
    return {
        "jd": np.array(jd, float),
        "flux": np.array(flux, float),
        "fluxerr": np.array(err, float),
        "zp": np.full(len(rows), 25.0),
        "band": list(band),
        "limit": np.array(kind, object) == "limit",
        "forced": np.array(kind, object) == "forced",
    }


def fast(curves: list[dict[str, Any]], features: FeatureSet = SET) -> np.ndarray[Any, Any]:
    """Return the kernel's features of many light curves."""
    offsets = np.cumsum([0, *(len(c["jd"]) for c in curves)])
    columns = [np.concatenate([c[k] for c in curves]) for k in ("jd", "flux", "fluxerr", "zp")]
    words = [word for c in curves for word in c["band"]]
    places = {band: i for i, band in enumerate(features.bands)}
    band = np.array([places.get(word, -1) for word in words], np.int64)
    flags = [np.concatenate([c[k] for c in curves]).astype(bool) for k in ("limit", "forced")]
    return compute(features, offsets, *columns, band, *flags)


def by_name(curve: dict[str, Any], features: FeatureSet = SET) -> dict[str, float]:
    row = fast([curve], features)[0]
    names = [f.name for f in features.features()]
    return {name: v for name, v in zip(names, row.tolist(), strict=True) if v == v}


RISE = [
    (96.0, -3.0, 9.0, "ztfr", "forced"),
    (98.0, np.nan, np.nan, "ztfg", "limit"),
    (100.0, 100.0, 10.0, "ztfg", "detection"),
    (100.0, 96.0, 10.0, "ztfg", "forced"),
    (101.0, 80.0, 10.0, "ztfr", "detection"),
    (104.0, 300.0, 10.0, "ztfg", "detection"),
    (104.1, 330.0, 10.0, "ztfr", "detection"),
    (110.0, 200.0, 10.0, "ztfg", "detection"),
    (111.0, 260.0, 10.0, "ztfr", "detection"),
]


def test_a_light_curve_worked_out_by_hand() -> None:
    found = by_name(points_of(RISE))
    assert (found["ndet"], found["alldet"], found["nnegdet"]) == (6, 6, 0)
    assert (found["jd_det"], found["jd_last"], found["t_lc"]) == (100.0, 111.0, 11.0)
    assert (found["t_predetect"], found["bool_pure"], found["bool_hasgaps"]) == (2.0, 1.0, 0.0)
    assert found["mag_det"] == pytest.approx(20.0)
    assert found["mag_min"] == pytest.approx(25 - 2.5 * np.log10(330))
    assert (found["band_det_id"], found["band_last_id"]) == (64, 128)
    assert found["rise_slope_ztfg"] == pytest.approx(50.0)
    assert found["rise_slopesig_ztfg"] == pytest.approx(50.0 / np.sqrt(100.0 / 8))
    assert found["fall_slope_ztfg"] == pytest.approx(-100 / 6)
    assert (found["bool_rise"], found["bool_fall"], found["bool_peaked"]) == (1, 1, 1)
    assert found["jd_peak"] == pytest.approx(104.05)
    assert (found["bool_fastrise"], found["bool_fastfall"]) == (1, 0)
    assert found["ztfg_ztfr_peak"] == pytest.approx(-2.5 * np.log10(300 / 330))
    assert (found["det_bands"], found["last_bands"], found["peak_bands"]) == (192, 192, 192)
    # the forced flux of the first image is no row of its own
    assert (found["n_ztfg"], found["n_ztfr"]) == (3, 4)
    assert found["first_ratio_ztfg"] == pytest.approx(1 / 3)


def test_what_cannot_be_known_is_absent_and_never_0() -> None:
    one = by_name(points_of(RISE[2:3]))
    assert one["ndet"] == 1
    assert one["t_lc"] == 0
    for name in ("t_predetect", "rise_slope_ztfg", "bool_rise", "bool_peaked", "t_rise", "jd_peak",
                 "ztfg_ztfr_det", "eta_flux", "width_ztfg", "peak_mag_ztfr"):  # fmt: skip
        assert name not in one
    negative = by_name(points_of([(1.0, -90.0, 9.0, "ztfg", "detection")]))
    assert (negative["ndet"], negative["nnegdet"], negative["frac_pos"]) == (1, 1, 0)
    assert "mag_det" not in negative
    assert "mag_min" not in negative
    none = by_name(points_of([(1.0, 9.0, 9.0, "ztfg", "forced")]))
    assert none == {"ndet": 0, "alldet": 0, "nnegdet": 0}
    assert by_name(points_of([])) == none


def test_detections_of_other_bands_are_counted_beside_those_of_significant_ones() -> None:
    few = FeatureSet(BANDS, significant=("ztfr",), statistics=False)
    found = by_name(points_of(RISE), few)
    assert (found["ndet"], found["alldet"], found["jd_det"]) == (3, 6, 101.0)
    assert found["t_predetect"] == 5.0
    assert found["rise_slope_ztfg"] == pytest.approx(50.0)


def test_roles_keep_dates_counts_and_bands_from_models() -> None:
    roles = {f.name: f.role for f in FeatureSet(("lsstu", "mine")).features()}
    assert FeatureSet(("lsstu", "mine", "yours")).bits() == [1, 512, 1024]
    assert {n for n, r in roles.items() if r == "date"} == {
        "jd_det", "jd_last", "jd_peak", "jd_peak_lsstu", "jd_peak_mine",
    }  # fmt: skip
    assert roles["ndet"] == roles["n_mine"] == "count"
    assert roles["det_bands"] == roles["band_det_id"] == "bands"


def test_no_input_of_a_model_moves_with_the_date() -> None:
    later = [(jd + 1024.0, *rest) for jd, *rest in RISE]
    here, there = (dict(zip(NAMES, fast([points_of(r)])[0], strict=True)) for r in (RISE, later))
    for feature in SET.features():
        if feature.role == "input":
            np.testing.assert_allclose(here[feature.name], there[feature.name], rtol=1e-9)


# Of light-curve 0.13.3, by its own extractors. Its periodogram is an approximation by default, so
# that of scipy stands for it.
T = [9.2692, 12.8522, 22.1513, 41.2855, 49.0403, 49.8792, 62.1346, 73.3838, 77.594]
M = [87.2968, 125.0512, 347.2854, 287.2299, 101.9991, 61.7888, -8.5855, -1.3245, -18.8738]
E = [20.1899, 20.2178, 25.0606, 12.9584, 26.3925, 23.6657, 25.7419, 13.8323, 26.0473]
STATISTICS = {
    "eta": 0.7144086, "maximum_slope": 47.931222, "skew": 1.03768225,
    "standard_deviation": 129.3744007, "excess_variance": 1.36520424,
    "linear_fit_slope": -2.96958623, "linear_fit_slope_sigma": 0.2789286,
    "linear_fit_reduced_chi2": 39.18324509, "anderson_darling_normal": 0.60494563,
    "kurtosis": 0.05576850, "stetson_k": 0.79086222,
}  # fmt: skip


def test_statistics_are_those_of_light_curve() -> None:
    rows = [(t, m, e, "ztfg", "forced") for t, m, e in zip(T, M, E, strict=True)]
    found = by_name(points_of(rows))
    for name, value in STATISTICS.items():
        assert found[f"{name}_ztfg_flux"] == pytest.approx(value, rel=2e-5), name
        assert found[f"{name}_flux"] == found[f"{name}_ztfg_flux"]


def test_the_periodogram_is_that_of_scipy() -> None:
    from scipy.signal import lombscargle

    random = np.random.default_rng(3)
    t = np.sort(random.uniform(0, 60, 25))
    m = 50 * np.sin(2 * np.pi * t / 7.3) + random.normal(0, 5, 25)
    omega = 2 * np.pi / (10 * (t[-1] - t[0])) * np.arange(1, 121)
    power = lombscargle(t, m - m.mean(), omega)
    found = by_name(points_of([(a, b, 5.0, "ztfg", "forced") for a, b in zip(t, m, strict=True)]))
    best = power.argmax()
    assert found["periodogram_period_0_ztfg_flux"] == pytest.approx(2 * np.pi / omega[best])
    signal = (power[best] - power.mean()) / power.std(ddof=1)
    assert found["periodogram_period_s_to_n_0_ztfg_flux"] == pytest.approx(signal, rel=1e-6)


ROW = st.tuples(
    st.integers(0, 400).map(lambda v: 2459000.0 + v / 5),
    st.sampled_from([-50.0, -3.0, 0.0, 4.0, 12.0, 12.0, 60.0, 300.0, 7.5e4, np.nan, np.inf]),
    st.sampled_from([1.0, 2.5, 9.0, 9.0, 70.0, 0.0, -1.0, np.nan]),
    st.sampled_from(["ztfg", "ztfr", "ztfr", "other", "unknown"]),
    st.sampled_from(["detection", "detection", "forced", "limit"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(ROW, max_size=14), min_size=1, max_size=5))
def test_the_kernel_says_what_its_plain_twin_says(curves: list[list[tuple[Any, ...]]]) -> None:
    made = [points_of(rows) for rows in curves]
    for values, curve in zip(fast(made), made, strict=True):
        plain = compute_one(SET, curve)
        for name, value in zip(NAMES, values.tolist(), strict=True):
            if name.startswith("periodogram"):
                continue  # two maxima may be equal
            if name not in plain:
                # a slope of equal fluxes, a mean that ends at 0: what is left is rounding
                assert value != value or abs(value) < 1e-9, name
            else:
                assert value == pytest.approx(float(plain[name]), rel=1e-6, abs=1e-8), name


def test_periodograms_of_kernel_and_twin_agree() -> None:
    random = np.random.default_rng(5)
    for n in (4, 5, 17, 60):
        rows = [
            (t, f, 3.0, "ztfr", "detection")
            for t, f in zip(random.uniform(0, 90, n), random.normal(30, 9, n), strict=True)
        ]
        one, two = by_name(points_of(rows)), compute_one(SET, points_of(rows))
        there = [name for name in NAMES if name.startswith("periodogram") and name in two]
        assert there == [name for name in NAMES if name.startswith("periodogram") and name in one]
        for name in there:
            assert one[name] == pytest.approx(two[name], rel=1e-6), (n, name)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=14), st.integers(0, 14), st.lists(ROW, max_size=6))
def test_features_of_the_first_points_are_the_same_bytes_whatever_comes_later(
    rows: list[tuple[Any, ...]], k: int, others: list[tuple[Any, ...]]
) -> None:
    """A state's features do not hang on later points, nor on other states of the batch."""
    first = points_of(sorted(rows, key=lambda row: row[0])[:k])
    alone = fast([first])[0].tobytes()
    assert fast([points_of(others), first, points_of(rows)])[1].tobytes() == alone


def reference(t: Any, f: Any, e: Any, band: Any) -> dict[str, Any]:
    """Return the rise and decline of positive detections by scipy, one object at a time."""
    d = np.abs(f / e) > 5
    out: dict[str, Any] = {"ndet": d.sum()}
    if not d.any():
        return out
    out["jd_det"], out["jd_last"] = t[d].min(), t[d].max()
    out["t_lc"] = out["jd_last"] - out["jd_det"]
    out["frac_pos"] = (f[d] > 0).mean()
    out["bool_pure"] = not ((t > out["jd_det"]) & (t < out["jd_last"]) & ~d).any()
    early = t[t < out["jd_det"]]
    out["t_predetect"] = out["jd_det"] - early.max() if early.size else None
    for name, when in (("det", out["jd_det"]), ("last", out["jd_last"])):
        flux = f[d & (t == when)][0]
        out[f"mag_{name}"] = 25 - 2.5 * np.log10(flux) if flux > 0 else None
    out["mag_min"] = 25 - 2.5 * np.log10(f.max())
    out["bool_hasgaps"] = bool(t.size > 1 and np.diff(t).max() > 30)
    near = (t > out["jd_det"] - 5) & (t < out["jd_last"] + 5)
    both = []
    for b in ("ztfg", "ztfr"):
        m = near & (band == b)
        if not m.any():
            continue
        peak = t[m][f[m].argmax()]
        out[f"jd_peak_{b}"] = peak
        for word, side in (("rise", m & (t <= peak)), ("fall", m & (t >= peak))):
            if side.sum() > 1:
                fit, cov = curve_fit(
                    lambda x, a, s: a + s * x, t[side] - out["jd_det"], f[side],
                    sigma=e[side], absolute_sigma=True,
                )  # fmt: skip
                out[f"{word}_slope_{b}"] = fit[1]
                out[f"{word}_slopesig_{b}"] = fit[1] / np.sqrt(cov[1, 1])
        if {f"rise_slope_{b}", f"fall_slope_{b}"} <= {*out}:
            both.append(peak)
    ups = [v for k, v in out.items() if k.startswith("rise_slopesig")]
    downs = [v for k, v in out.items() if k.startswith("fall_slopesig")]
    out["bool_rise"] = sum(ups) > 3 if ups else None
    out["bool_fall"] = sum(downs) < -3 if downs else None
    if ups and downs:
        out["bool_peaked"] = bool(out["bool_rise"] and out["bool_fall"] and both)
    if out.get("bool_peaked"):
        out["jd_peak"] = np.median(both)
        out["t_rise"] = out["jd_peak"] - out["jd_det"]
        out["t_fall"] = out["jd_last"] - out["jd_peak"]
        out["bool_fastrise"], out["bool_fastfall"] = abs(out["t_rise"]) < 5, abs(out["t_fall"]) < 5
    for name in ("det", "last", "peak"):
        when = out.get(f"jd_{name}")
        if when is not None:
            sides = [(band == b) & (np.abs(t - when) <= 2.5) for b in ("ztfg", "ztfr")]
            means = [np.average(f[s], weights=e[s] ** -2) if s.any() else -1 for s in sides]
            if min(means) > 0:
                out[f"ztfg_ztfr_{name}"] = -2.5 * np.log10(means[0] / means[1])
    return out


def test_rise_and_decline_of_real_light_curves_are_those_of_an_independent_fit(
    shared_data: Path,
) -> None:
    features = FeatureSet(("ztfg", "ztfr"), statistics=False)
    names = [f.name for f in features.features()]
    checked = 0
    with tarfile.open(shared_data / "ztf_bts" / "snia_light_curves_antares.tar.gz") as tar:
        members = [m for m in tar if m.name.endswith(".csv")][:240]
        for number, member in enumerate(members):
            stream = tar.extractfile(member)
            assert stream is not None
            table = np.genfromtxt(
                io.TextIOWrapper(stream), delimiter=",", names=True, dtype=None, encoding=None
            )
            table = np.sort(np.atleast_1d(table), order="time")
            # odd ones among them: one band, few points, negative fluxes, equal fluxes
            if number % 6 == 1:
                table = table[table["band"] == "g"]
            if number % 6 == 2:
                table = table[: number % 4]
            f = 10 ** (-0.4 * (table["mag"] - 25))
            e = f * table["magerr"] * np.log(10) / 2.5
            f = np.where((number % 6 == 3) & (np.arange(f.size) % 5 == 4), -f, f)
            f = np.round(f, -2 if number % 6 == 4 else 6)
            kept = (e > 0) & (f != 0)
            t, f, e = table["time"][kept] + 2400000.5, f[kept], e[kept]
            band = np.where(table["band"][kept] == "g", "ztfg", "ztfr")
            curve = points_of([*zip(t, f, e, band, ["detection"] * t.size, strict=True)])
            found = dict(zip(names, fast([curve], features)[0].tolist(), strict=True))
            expected = reference(t, f, e, band)
            for name, value in expected.items():
                if value is None:
                    assert np.isnan(found[name]), (member.name, name)
                else:
                    assert found[name] == pytest.approx(float(value), rel=1e-5, abs=1e-5), name
            checked += 1
    assert checked >= 200


def test_limits_of_the_definitions_can_be_changed() -> None:
    curve = points_of(RISE)
    assert compute_one(SET, curve, Options(sigma_det=9.0))["ndet"] == 5
    assert compute_one(SET, curve, Options(max_gap=2.0))["bool_hasgaps"] is True
