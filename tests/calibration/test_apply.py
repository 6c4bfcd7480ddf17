"""A release applied to arrays is what the plain twin makes of each point, and what was asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampel_spark.calibration.apply import Applied, apply
from ampel_spark.calibration.release import RAW, Release, Rule, RuleTable, Selects
from ampel_spark.calibration.tables import read_replacement
from ampel_spark.lightcurve import DETECTION, FORCED, POINT_FIELDS, UPPER_LIMIT
from ampel_spark.t1.photometry import canonical, integers
from tests.calibration.plain import calibrated

NAN = float("nan")
STOCKS = np.array([101, 102, 103])
SURVEYS = np.array(["ztf", "ztf", "other"], object)
#: Numbers that are near the edges that rules have, and elsewhere.
JDS = st.sampled_from([2458300.5, 2458301.0, 2458400.5, 2458788.5, 2458788.49, 2459000.7])
MAGS = st.one_of(st.sampled_from([NAN, 17.0, 17.5, 19.0]), st.floats(10, 23))
ERRS = st.one_of(st.just(NAN), st.floats(1e-3, 1))


@st.composite
def a_point(draw: Any) -> dict[str, Any]:
    kind = draw(st.sampled_from([DETECTION, UPPER_LIMIT, FORCED]))
    forced, limit = kind == FORCED, kind == UPPER_LIMIT
    flux = draw(st.one_of(st.sampled_from([0.0, NAN]), st.floats(-1e4, 1e4)))
    fluxerr = draw(st.one_of(st.just(NAN), st.floats(1e-3, 1e3)))
    return {
        "datapoint_id": draw(st.integers(1, 6)) * (-1 if limit else 1), "kind": kind,
        "jd": draw(JDS), "band": draw(st.sampled_from(["ztfg", "ztfr", "ztfi", ""])),
        "mag": draw(MAGS) if kind == DETECTION else NAN,
        "magerr": draw(ERRS) if kind == DETECTION else NAN,
        "limit_mag": draw(MAGS), "sign": 0 if limit else draw(st.sampled_from([-1, 1])),
        "flux": flux if forced else NAN, "fluxerr": fluxerr if forced else NAN,
        "zp": draw(st.sampled_from([26.3, 30.0])) if forced else NAN, "zpsys": "ab",
        "programid": 1, "field": draw(st.sampled_from([-1, 600, 601])),
        "rcid": draw(st.sampled_from([-1, 0, 1, 4, 63])), "ra": 10.0, "dec": 1.0,
    }  # fmt: skip


def a_few(values: list[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(st.sampled_from(values), min_size=1, unique=True)
    return st.none() | some.map(lambda x: tuple(sorted(x)))


def ranges(values: list[float]) -> st.SearchStrategy[tuple[float, float]]:
    edges = st.sampled_from([-np.inf, *values, np.inf])
    return st.tuples(edges, edges).map(lambda x: (min(x), max(x))).filter(lambda x: x[0] < x[1])


SELECTS = st.builds(
    Selects,
    survey=a_few(["ztf", "other"]),
    band=a_few(["ztfg", "ztfr"]),
    field=a_few([600, 601]),
    rcid=a_few([0, 1, 63]),
    kind=a_few(["detection", "upper_limit", "forced"]),
    jd=ranges([2458300.5, 2458788.5]),
    mag=ranges([17.5, 19.0]),
    stocks=st.none() | st.sampled_from([np.array([101]), np.array([102, 103])]),
)
SHIFTS = st.sampled_from([0.0, 0.01, -0.0123, 0.3])
TABLES = st.sampled_from(
    [
        RuleTable("t", {"band": np.array(["ztfg", "ztfr"], object)},
                  {"zero_point": np.array([0.01, -0.02]), "error_floor": np.array([0.0, 0.1])}),
        RuleTable("t", {"band": np.array(["ztfg", "ztfg", "ztfr"], object),
                        "rcid": np.array([0, 63, 4])}, {"flux_scale": np.array([1.1, 0.9, 1.0])}),
        RuleTable("t", {"field": np.array([600])}, {"error_scale": np.array([2.0])}),
    ]
)  # fmt: skip
CHANGES = st.one_of(
    st.just({"mask": True}),
    st.just({"replace": "table"}),
    st.builds(dict, table=TABLES),
    st.fixed_dictionaries(
        {},
        optional={
            "zero_point": SHIFTS,
            "slope": st.just({"ztfg": 0.0005, "ztfi": -0.002}),
            "nonlinearity": st.sampled_from([(0.01, 17.5), (-0.1, 18.0), (-0.01, 18.0)]),
            "flux_scale": st.sampled_from([1.02, 0.5]),
            "error_scale": st.sampled_from([1.1, 0.5]),
            "error_floor": st.sampled_from([0.02, 0.3]),
            "flux_floor": st.sampled_from([0.02]),
        },
    ),
)


@pytest.fixture(scope="module")
def replacement(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("replaced") / "new.csv"
    file.write_text(
        "# a re-reduction\ndatapoint_id,stock,mag,magerr,limit_mag,sign,flux,fluxerr\n"
        "1,101,18.25,0.05,,,,\n1,102,,,20.5,-1,120.5,\n-2,101,19,0.1,19.75,1,,\n3,103,,,,,-4,7\n"
    )
    return read_replacement(file)


def columns(points: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {
        name: np.array([p[name] for p in points], dtype=kind)
        for name, (kind, _) in POINT_FIELDS.items()
    }


def applied(
    release: Release, points: list[dict[str, Any]], group: list[int] | None = None
) -> Applied:
    order = np.zeros(len(points), np.int64) if group is None else np.array(group, np.int64)
    return apply(release, columns(points), order, SURVEYS, STOCKS)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), a_point()), min_size=1, max_size=12),
    st.lists(st.tuples(SELECTS, CHANGES), max_size=5),
)
def test_arrays_and_single_points_are_calibrated_alike(
    replacement: Any, points: list[tuple[int, dict[str, Any]]], asked: list[Any]
) -> None:
    points.sort(key=lambda pair: pair[0])
    rules = tuple(
        Rule(n, select=select, **{k: replacement if k == "replace" else v for k, v in what.items()})
        for n, (select, what) in enumerate(asked, start=1)
    )
    release = Release("any", rules=rules)
    found = applied(release, [p for _, p in points], [g for g, _ in points])
    touched: dict[int, set[int]] = {}
    for i, (g, p) in enumerate(points):
        plain = calibrated(release, p, SURVEYS[g], STOCKS[g])
        assert plain.masked != found.kept[i]
        touched.setdefault(g, set()).update(plain.rules)
        for name, value in plain.point.items():
            if isinstance(value, str):
                assert found.points[name][i] == value
            elif not plain.masked:
                assert found.points[name][i] == pytest.approx(value, rel=1e-12, nan_ok=True), name
    pairs = [(g, n) for g in sorted(touched) for n in sorted(touched[g])]
    assert list(zip(found.group.tolist(), found.rule.tolist(), strict=True)) == pairs


def point(**changes: Any) -> dict[str, Any]:
    return {
        "datapoint_id": 1, "kind": DETECTION, "jd": 2458300.5, "band": "ztfg", "mag": 18.0,
        "magerr": 0.1, "limit_mag": 20.0, "sign": 1, "flux": NAN, "fluxerr": NAN, "zp": NAN,
        "zpsys": "ab", "programid": 1, "field": 600, "rcid": 5, "ra": 10.0, "dec": 1.0,
    } | changes  # fmt: skip


LIMIT = point(datapoint_id=-7, kind=UPPER_LIMIT, mag=NAN, magerr=NAN, sign=0)
NEGATIVE = point(datapoint_id=2, sign=-1)
MEASURED = point(datapoint_id=-99, kind=FORCED, mag=NAN, magerr=NAN, limit_mag=NAN, flux=-200.0,
                 fluxerr=20.0, zp=26.0, sign=-1)  # fmt: skip
EVERY = [point(), LIMIT, NEGATIVE, MEASURED]


def test_a_forced_flux_that_is_nan_is_unknown_and_none_at_all_is_infinitely_faint() -> None:
    faint = Release("x", rules=(Rule(1, select=Selects(mag=(19.0, np.inf)), mask=True),))
    bent = Release("x", rules=(Rule(1, nonlinearity=(0.01, 17.5)),))
    fluxes = ({"flux": NAN}, {"flux": 0.0}, {"flux": 2e3, "fluxerr": NAN})
    points = [MEASURED | each for each in fluxes]
    assert applied(faint, points).kept.tolist() == [True, False, True]
    assert [calibrated(faint, p, "ztf", 101).masked for p in points] == [False, True, False]
    moved = applied(bent, points).points
    for name in ("flux", "fluxerr"):
        twin = [calibrated(bent, p, "ztf", 101).point[name] for p in points]
        assert moved[name] == pytest.approx(twin, rel=1e-12, nan_ok=True)


def test_a_zero_point_of_10_mmag_makes_everything_10_mmag_fainter() -> None:
    found = applied(Release("x", rules=(Rule(1, zero_point=0.01),)), EVERY)
    assert found.points["mag"].tolist()[::2] == [18.01, 18.01]
    assert found.points["limit_mag"].tolist()[:3] == [20.01, 20.01, 20.01]
    assert found.points["magerr"][0] == 0.1
    assert found.points["sign"].tolist() == [1, 0, -1, -1]
    factor = 10 ** (-0.004)
    assert found.points["flux"][3] == pytest.approx(-200 * factor, rel=1e-14)
    assert found.points["fluxerr"][3] == pytest.approx(20 * factor, rel=1e-14)
    assert found.points["zp"][3] == 26.0
    # and so does the flux of a detection, which is made of its magnitude, its sign kept
    fluxes = canonical(found.points)["flux"] / canonical(columns(EVERY))["flux"]
    assert fluxes[[0, 2, 3]] == pytest.approx(factor, rel=1e-6)
    assert canonical(found.points)["flux"][2] < 0


def test_a_flux_scale_is_a_zero_point_of_its_own_sign() -> None:
    scaled = applied(Release("x", rules=(Rule(1, flux_scale=10 ** (-0.4 * 0.01)),)), EVERY)
    shifted = applied(Release("x", rules=(Rule(1, zero_point=0.01),)), EVERY)
    assert np.array_equal(integers(canonical(scaled.points)), integers(canonical(shifted.points)))


def test_errors_are_scaled_and_get_floors_in_quadrature() -> None:
    rules = (Rule(1, error_scale=2.0, error_floor=0.15, flux_floor=0.02),)
    found = applied(Release("x", rules=rules), EVERY)
    relative = 0.02 * 2.5 / np.log(10)
    assert found.points["magerr"][0] == pytest.approx(np.sqrt(0.2**2 + 0.15**2 + relative**2))
    floor = 200 * 0.15 * np.log(10) / 2.5
    assert found.points["fluxerr"][3] == pytest.approx(np.sqrt(40**2 + floor**2 + 4**2))
    # a limit has no error, and stays
    assert found.points["limit_mag"][1] == 20.0
    assert np.isnan(found.points["magerr"][1])


def test_non_linearity_acts_on_a_points_own_magnitude_and_on_a_limits_limit() -> None:
    found = applied(Release("x", rules=(Rule(1, nonlinearity=(0.01, 17.5)),)), EVERY)
    assert found.points["mag"][0] == pytest.approx(18.005)
    assert found.points["limit_mag"][1] == pytest.approx(20.025)
    mag = 26 - 2.5 * np.log10(200)
    expected = -200 * 10 ** (-0.4 * 0.01 * (mag - 17.5))
    assert found.points["flux"][3] == pytest.approx(expected)


def test_slopes_that_cancel_leave_what_their_pivots_are_apart() -> None:
    rules = (Rule(1, nonlinearity=(0.01, 18.0)), Rule(2, nonlinearity=(-0.01, 20.0)))
    found = applied(Release("x", rules=rules), EVERY)
    assert found.points["mag"][0] == pytest.approx(18.02)
    assert found.points["limit_mag"][1] == pytest.approx(20.02)
    assert found.points["flux"][3] == pytest.approx(-200 * 10 ** (-0.4 * 0.02))
    # whatever else is calibrated beside them
    bent = Rule(3, select=Selects(rcid=(6,)), nonlinearity=(0.01, 18.0))
    beside = applied(Release("x", rules=(*rules, bent)), [*EVERY, point(rcid=6)])
    assert np.array_equal(beside.points["mag"][:4], found.points["mag"], equal_nan=True)


def test_a_correction_and_its_inverse_are_no_correction() -> None:
    rng = np.random.default_rng(3)
    points = [
        *(point(datapoint_id=i + 1, mag=float(np.float32(m)), magerr=float(np.float32(e)))
          for i, (m, e) in enumerate(zip(rng.uniform(12, 21, 200), rng.uniform(0.01, 0.3, 200),
                                         strict=True))),
        *({**MEASURED, "datapoint_id": -i, "flux": float(f)}
          for i, f in enumerate(rng.normal(0, 1e3, 200), start=100)),
        LIMIT,
    ]  # fmt: skip
    there = Rule(1, zero_point=0.0123, flux_scale=1.1, error_scale=1.7, nonlinearity=(0.02, 18))
    back = Rule(2, zero_point=-0.0123, flux_scale=1 / 1.1, error_scale=1 / 1.7,
                nonlinearity=(-0.02, 18))  # fmt: skip
    before = integers(canonical(columns(points)))
    once = integers(canonical(applied(Release("x", rules=(there,)), points).points))
    both = integers(canonical(applied(Release("x", rules=(there, back)), points).points))
    assert (once != before).any(axis=1).all()
    assert np.array_equal(both, before)


def test_raw_leaves_the_arrays_as_they_are() -> None:
    points = columns(EVERY)
    found = apply(RAW, points, np.zeros(4, np.int64), SURVEYS, STOCKS)
    assert all(found.points[name] is points[name] for name in points)
    assert found.kept.all()
    assert len(found.rule) == 0


def test_masks_come_first_and_only_rules_that_did_something_are_named() -> None:
    rules = (
        Rule(1, zero_point=0.01),
        Rule(2, select=Selects(kind=("upper_limit",)), mask=True),
        Rule(3, select=Selects(band=("ztfr",)), zero_point=0.5),
        Rule(4, select=Selects(kind=("upper_limit",)), error_scale=2.0),
    )
    found = applied(Release("x", rules=rules), [point(), LIMIT, point(), LIMIT], [0, 0, 1, 2])
    assert found.kept.tolist() == [True, False, True, False]
    assert list(zip(found.group.tolist(), found.rule.tolist(), strict=True)) == [
        (0, 1), (0, 2), (1, 1), (2, 2),
    ]  # fmt: skip


def test_the_last_of_two_replacements_stays_and_what_a_point_lacks_is_not_given(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.csv").write_text("datapoint_id,mag,limit_mag\n1,17,19\n-7,17,19\n")
    (tmp_path / "b.csv").write_text("datapoint_id,mag\n1,16\n55,12\n")
    rules = tuple(
        Rule(n, replace=read_replacement(tmp_path / f), zero_point=z)
        for n, f, z in ((1, "a.csv", 0.0), (2, "b.csv", 0.5))
    )
    found = applied(Release("x", rules=rules), [point(), LIMIT])
    assert found.points["mag"][0] == 16.5
    assert found.points["limit_mag"].tolist() == [19.5, 19.5]
    assert np.isnan(found.points["mag"][1])
