"""SALT fits, held to injected parameters, to sncosmo by hand, and to published numbers."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sncosmo

from ampel_spark.errors import ConfigError
from ampel_spark.lightcurve import DETECTION, FORCED
from ampel_spark.sky.store import add
from ampel_spark.t2 import LightCurve, LightCurveBatch, Refusal
from ampel_spark.t2.fits import models
from ampel_spark.t2.registry import build
from ampel_spark.t2.trace import trace_of
from ampel_spark.t2.unit import MISSING_DEPENDENCY, MISSING_INFO
from ampel_spark.t2.units.salt_fit import (
    NO_PHASE_COVERAGE,
    NO_SIGNAL,
    NOT_CONVERGED,
    TOO_FEW_POINTS,
    SaltFit,
    bandpass_of,
    flux_error,
    model_of,
)
from tests.t2.supernovae import T0, injected, truth

PARAMETERS = ("t0", "x0", "x1", "c")
BOTH = pytest.mark.parametrize("engine", ["batch", "sncosmo"])


def fitted(curve: LightCurve, **config: Any) -> Mapping[str, Any]:
    return built(**config).process(curve)


def built(base: Path = Path(), **config: Any) -> SaltFit:
    unit = build("salt_fit", {"redshift": 0.06, "model_covariance": False} | config, base)
    assert isinstance(unit, SaltFit)
    return unit


def refused(curve: LightCurve, **config: Any) -> Refusal:
    with pytest.raises(Refusal) as told:
        fitted(curve, **config)
    return told.value


def table(curve: LightCurve) -> dict[str, Any]:
    return {
        "time": curve.jd, "band": np.array([models.bandpass(b)[0] for b in curve.band]),
        "flux": curve.flux, "fluxerr": curve.fluxerr, "zp": curve.zp,
        "zpsys": curve.zpsys.astype(str),
    }  # fmt: skip


@pytest.mark.parametrize("law", [None, "CCM89", "O94", "F99"])
def test_parameters_come_back_from_noiseless_data(law: str | None) -> None:
    true = truth(law=law, ebv=0.2)
    dust = {"law": law, "ebv": 0.2} if law else None
    row = fitted(injected(true, noise=False), dust=dust)
    for name in PARAMETERS:
        assert abs(row[name] - true.get(name)) < 0.01 * row[f"{name}_err"]
    assert row["chisq"] < 1e-3
    assert (row["mw_law"], row["mwebv"]) == (law, 0.2 if law else None)
    assert row["peak_absmag_b"] == pytest.approx(-19.2, abs=0.05)  # sncosmo's own has WMAP9
    assert (row["status"], row["message"], row["at_bound"]) == (0, None, False)


def test_pulls_of_noisy_data_are_normal() -> None:
    pulls, chisq, ndof = [], 0.0, 0
    for seed in range(12):
        rng = np.random.default_rng(100 + seed)
        true = truth(z=0.03 + 0.006 * seed, x1=rng.normal(), c=0.1 * rng.normal())
        row = fitted(injected(true, seed), redshift=true.get("z"))
        pulls.append([(row[n] - true.get(n)) / row[f"{n}_err"] for n in PARAMETERS])
        chisq, ndof = chisq + row["chisq"], ndof + row["ndof"]
    assert np.abs(pulls).max() < 4
    assert 0.6 < np.std(pulls) < 1.4
    assert chisq / ndof == pytest.approx(1.0, abs=4 * np.sqrt(2 / ndof))


@BOTH
def test_d3_a_free_redshift_is_fitted(engine: str) -> None:
    true = truth(z=0.08)
    row = fitted(injected(true, noise=False), engine=engine, redshift={"fit": [0.01, 0.2]})
    assert row["fitted"] == ["z", "t0", "x0", "x1", "c"]
    assert row["z"] == pytest.approx(0.08, abs=0.15 * row["z_err"])
    assert row["z_source"] == "fit"
    assert len(row["covariance"]) == 25
    assert row["covariance"][0] == pytest.approx(row["z_err"] ** 2, rel=0.05)


def test_d6_the_model_starts_at_its_first_phase_times_one_plus_z() -> None:
    row = fitted(injected(truth(z=0.1)), redshift=0.1)
    assert row["jd_model_start"] == pytest.approx(row["t0"] - 20.0 * 1.1)
    assert row["jd_model_end"] == pytest.approx(row["t0"] + 50.0 * 1.1)
    assert row["phase_first"] == pytest.approx((injected(truth(z=0.1)).jd[0] - row["t0"]) / 1.1)


@BOTH
def test_d7_nothing_but_fluxes_depends_on_the_zero_point(engine: str) -> None:
    rows = [fitted(injected(truth(), zp=zp), engine=engine) for zp in (25.0, 31.4)]
    for name in ("t0", "x0", "x1", "c", "chisq", "n_pulls", "mean_abs_pull", "peak_mag_b"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-6)
    assert 0.3 < rows[0]["mean_abs_pull"] < 1.5


def test_points_of_different_zero_points_are_fitted_together() -> None:
    one, other = injected(truth()), injected(truth(), zp=31.4)
    mixed: dict[str, Any] = {
        name: np.where(np.arange(30) % 3 == 0, other.points[name], one.points[name])
        for name in ("jd", "band", "flux", "fluxerr", "zp")
    }
    row = fitted(LightCurve.of(**mixed))
    assert row["chisq"] == pytest.approx(fitted(one)["chisq"], rel=1e-6)


@BOTH
def test_d11_a_negative_subtraction_is_a_negative_flux(engine: str) -> None:
    good = injected(truth())
    sign = np.where(np.arange(30) == 20, -1, 1)
    flux = np.where(sign < 0, -0.2 * good.flux, good.flux)
    honest = fitted(injected(truth(), flux=flux, sign=sign), engine=engine)
    # a calibration that forgot the sign changes nothing
    forgot = fitted(injected(truth(), flux=np.abs(flux), sign=sign), engine=engine)
    assert forgot["chisq"] == honest["chisq"]
    assert honest["chisq"] > fitted(good, engine=engine)["chisq"] + 100


@pytest.mark.parametrize("model_covariance", [False, True])
def test_without_cuts_the_fit_is_sncosmo_s_own(model_covariance: bool) -> None:
    curve = injected(truth(law="F99", ebv=0.05))
    unit: dict[str, Any] = {
        "dust": {"ebv": 0.05},
        "phase_range": None,
        "model_covariance": model_covariance,
    }
    unit["engine"] = "sncosmo"
    row = fitted(curve, **unit)
    model = sncosmo.Model("salt3", [sncosmo.F99Dust()], ["mw"], ["obs"])
    model.set(z=0.06, mwebv=0.05)
    bounds = {"x1": (-5.0, 5.0), "c": (-1.0, 2.0)}
    result, best = sncosmo.fit_lc(
        table(curve), model, list(PARAMETERS), bounds, modelcov=model_covariance
    )
    for name in PARAMETERS:
        assert row[name] == best.get(name)
        assert row[f"{name}_err"] == result.errors[name]
    assert row["chisq"] == result.chisq
    assert row["ndof"] == result.ndof == 26
    assert row["fitted"] == result.vparam_names
    np.testing.assert_array_equal(row["covariance"], np.ravel(result.covariance))


@BOTH
def test_the_cut_in_phase_ends_where_sncosmo_s_ends(engine: str) -> None:
    curve = injected(truth(), phases=(-19, 49))
    row = fitted(curve, engine=engine, phase_range=[-10, 30])
    model = sncosmo.Model("salt3")
    model.set(z=0.06)
    result, best = sncosmo.fit_lc(table(curve), model, list(PARAMETERS), phase_range=(-10, 30))
    assert row["n_points"] == result.data_mask.sum() < 30
    assert row["phase_first"] > -10
    assert row["phase_last"] < 30
    for name in PARAMETERS:
        assert abs(row[name] - best.get(name)) < 0.02 * row[f"{name}_err"]


@BOTH
def test_points_past_the_model_s_last_phase_do_not_spoil_the_fit(engine: str) -> None:
    curve = injected(truth())
    late = np.concatenate([curve.jd, T0 + np.array([70.0, 90.0, 400.0, 900.0])])
    peak = curve.flux.max()
    columns: dict[str, Any] = {
        "jd": late, "band": ["ztfg", "ztfr"] * 17,
        "flux": [*curve.flux, *[0.2 * peak] * 4], "fluxerr": [*curve.fluxerr, *[0.005 * peak] * 4],
    }  # fmt: skip
    curve_with_more = LightCurve.of(**columns)
    row = fitted(curve_with_more, engine=engine)
    assert row["n_points"] == 30
    assert row["chisq"] == pytest.approx(fitted(curve, engine=engine)["chisq"], rel=1e-5)
    spoilt = fitted(curve_with_more, engine=engine, phase_range=None)
    assert spoilt["chisq"] > 1000
    assert spoilt["at_edge"]
    assert not row["at_edge"]


@BOTH
def test_a_negative_model_variance_keeps_the_other_points_in_the_fit(engine: str) -> None:
    # SALT3's variance is below 0 about phase -14.4, 4550 A (rest frame), x1 -2.5.
    band = models.bandpass("ztfg")[0]
    assert band is not None
    z = band.wave_eff / 4550.0 - 1.0
    true = truth(z=z, x1=-2.5)
    seen = band.shifted(1 / (1 + z))
    phase = np.array([-14.375, 0.0, 20.0])
    ours = true.source._bandflux_rvar_single(seen, phase)
    theirs = sncosmo.SALT3Source._bandflux_rvar_single(true.source, seen, phase)
    assert theirs[0] > 1e12
    np.testing.assert_array_equal(ours, [1e-4, *theirs[1:]])

    curve = injected(true)
    jd, bands = curve.jd.copy(), curve.band.copy()
    jd[0], bands[0] = T0 - 14.375 * (1 + z), "ztfg"
    curve = LightCurve.of(jd=jd, band=bands, flux=curve.flux, fluxerr=curve.fluxerr)
    stock = sncosmo.Model(sncosmo.SALT3Source(models.model_dir("salt3/2.0")))
    stock.set(z=z)
    bounds = {"t0": (T0 - 0.01, T0 + 0.01), "x1": (-2.6, -2.4)}
    result, _ = sncosmo.fit_lc(table(curve), stock, list(PARAMETERS), bounds, modelcov=True)
    assert result.success
    assert result.chisq < 1e-6  # all data dropped
    row = fitted(
        curve, engine=engine, redshift=z, bounds=bounds, model_covariance=True, phase_range=None
    )
    assert 5 < row["chisq"] < 60


@pytest.mark.parametrize(("engine", "rel"), [("batch", 1e-3), ("sncosmo", 1e-9)])
def test_the_row_s_model_has_the_row_s_chi_square(engine: str, rel: float) -> None:
    curve = injected(truth(law="O94", ebv=0.1))
    row = fitted(curve, dust={"law": "O94", "ebv": 0.1}, engine=engine)
    model = model_of(row)
    assert sncosmo.chisq(table(curve), model) == pytest.approx(row["chisq"], rel=rel)
    assert row["model"] == "salt3/2.0"


def test_error_floors_are_added_in_quadrature() -> None:
    curve = injected(truth(), zp=27.5)
    row = fitted(curve, error_fraction=0.05, error_floor=30.0)
    fluxerr = np.sqrt(curve.fluxerr**2 + (0.05 * curve.flux) ** 2 + (30.0 * 10.0) ** 2)
    by_hand = fitted(injected(truth(), zp=27.5, fluxerr=fluxerr))
    assert row["chisq"] == pytest.approx(by_hand["chisq"], rel=1e-9)


def test_a_cut_in_signal_to_noise_takes_what_is_above_it() -> None:
    curve = injected(truth(), phases=(-18, 40))
    expected = int((curve.flux > 15 * curve.fluxerr).sum())
    assert fitted(curve, min_snr=15.0)["n_points"] == expected < 30


def test_bands_that_cannot_be_fitted_are_dropped_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("models", "bandpasses/ztf"):
        (tmp_path / name).mkdir(parents=True)
    data = models.data_dir()
    (tmp_path / "models/salt3").symlink_to(data / "models/salt3")
    for name in ("P48_g.dat", "P48_R.dat"):
        (tmp_path / "bandpasses/ztf" / name).symlink_to(data / "bandpasses/ztf" / name)
    band = np.array(["ztfg", "ztfr", "ztfi", "lsstu", "nonsense"] * 6, object)
    curve = injected(truth(), band=band)
    monkeypatch.setenv("SNCOSMO_DATA_DIR", str(tmp_path))
    row = fitted(curve)
    assert row["bands"] == ["ztfg", "ztfr"]
    assert row["n_points"] == 12
    assert (
        "dropped 6 points in ztfi: no curve in the data folder (SNCOSMO_DATA_DIR)" in row["message"]
    )
    assert "dropped 6 points in lsstu: not among the unit's bands" in row["message"]
    # far away, g is beyond the blue end of the model; nothing but r is left
    far = fitted(curve, redshift=1.2, bands=["ztfg", "ztfr", "lsstu"], wave_range="all")
    assert far["bands"] == ["ztfr"]
    assert "in ztfg: outside the model's wavelengths at z 1.2" in far["message"]
    # what is in the data folder is part of the trace
    before = trace_of(built(), "salt_fit")
    (tmp_path / "bandpasses/ztf/P48_I.dat").symlink_to(data / "bandpasses/ztf/P48_R.dat")
    models._bandpass.cache_clear()
    assert trace_of(built(), "salt_fit").trace_id != before.trace_id


def test_forced_photometry_stands_in_for_detections_of_the_same_exposure() -> None:
    curve = injected(truth())
    n = len(curve)
    both = LightCurve.of(
        jd=[*curve.jd, *curve.jd], band=[*curve.band, *curve.band],
        flux=[*(5 * curve.flux), *curve.flux], fluxerr=[*curve.fluxerr, *curve.fluxerr],
        kind=[DETECTION] * n + [FORCED] * n,
    )  # fmt: skip
    alone = fitted(injected(truth(), kind=FORCED))
    assert fitted(both)["chisq"] == alone["chisq"]
    assert fitted(both, points=["detection"])["x0"] == pytest.approx(5 * alone["x0"], rel=0.05)


def test_the_redshift_can_come_from_a_tied_unit() -> None:
    tied = {"match": {"status": 0, "z": 0.06, "distance": 1.5}}
    redshift = {"unit": "match", "column": "z"}
    row = fitted(injected(truth(), results=tied), redshift=redshift)
    assert (row["z"], row["z_source"], row["z_distance"], row["z_err"]) == (0.06, "unit", 1.5, None)
    assert row["chisq"] == fitted(injected(truth()))["chisq"]
    # of several catalogues in one match, and of a digest
    for column, distance in (
        ("near_hosts_z", "near_hosts_distance"), ("hosts_z_spec", "hosts_distance"),
        ("z_spec", "distance"), ("ampel_z", "ampel_dist"),
    ):  # fmt: skip
        tied = {"match": {"status": 0, column: 0.06, distance: 2.5}}
        other = {"unit": "match", "column": column}
        assert fitted(injected(truth(), results=tied), redshift=other)["z_distance"] == 2.5
    assert built(redshift=redshift, dust={}).needs() == ("match", "milky_way_dust")
    assert built().needs() == ()


@pytest.mark.parametrize("z", [None, np.nan, 0.0, -9.0])
def test_a_missing_redshift_is_a_refusal_unless_a_range_is_given(z: float | None) -> None:
    curve = injected(truth(), results={"match": {"z": z, "distance": None}})
    assert refused(curve, redshift={"unit": "match"}).status == MISSING_INFO
    row = fitted(curve, redshift={"unit": "match", "otherwise": [0.01, 0.2]})
    assert row["z_source"] == "fit"
    assert abs(row["z"] - 0.06) < 5 * row["z_err"]


def test_a_missing_tied_result_is_a_missing_dependency() -> None:
    assert refused(injected(truth()), redshift={"unit": "match"}).status == MISSING_DEPENDENCY
    assert refused(injected(truth()), dust={}).status == MISSING_DEPENDENCY
    none = injected(truth(), results={"milky_way_dust": {"ebv": None}})
    assert refused(none, dust={}).status == MISSING_DEPENDENCY


def test_the_redshift_can_come_from_a_catalogue(tmp_path: Path) -> None:
    (tmp_path / "hosts.csv").write_text("RA,DEC,zspec\n150.0005,2.0,0.06\n150.0,2.01,0.5\n")
    redshift = {"catalog": "hosts.csv", "ra": "RA", "dec": "DEC", "column": "zspec", "radius": 5.0}
    unit = built(tmp_path, redshift=redshift)
    row = unit.process(injected(truth()))
    assert (row["z"], row["z_source"]) == (0.06, "catalog")
    assert row["z_distance"] == pytest.approx(1.8, abs=0.01)
    before = trace_of(unit, "salt_fit").trace_id
    (tmp_path / "hosts.csv").write_text("RA,DEC,zspec\n150.0,2.01,0.5\n")
    assert trace_of(unit, "salt_fit").trace_id != before
    with pytest.raises(Refusal, match="no redshift within 5 arcsec"):
        unit.process(injected(truth()))


def test_a_versioned_catalogue_is_matched_by_a_unit_of_its_own(tmp_path: Path) -> None:
    stored, _ = add(tmp_path, "galaxies", pa.table({"ra": [1.0], "dec": [2.0], "z": [0.1]}))
    with pytest.raises(ConfigError, match="add a catalog_match of it and name that by unit"):
        built(tmp_path, redshift={"catalog": str(stored.path)})


def test_dust_comes_from_a_tied_unit() -> None:
    curve = injected(truth(law="CCM89", ebv=0.3), results={"sfd": {"ebv": 0.3}})
    row = fitted(curve, dust={"law": "CCM89", "unit": "sfd"})
    assert (row["mwebv"], row["mw_law"]) == (0.3, "CCM89")
    assert abs(row["c"] - 0.05) < 4 * row["c_err"]
    assert fitted(curve)["c"] > row["c"] + 0.2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model": "salt2"},
            r"config\.model = 'salt2': no such model; did you mean 'salt[23]/2\.\d'.*its version",
        ),
        ({"redshift": {}}, "exactly one of value, unit, catalog and fit, not none"),
        ({"redshift": {"value": 1, "fit": [0, 1]}}, "not value and fit"),
        ({"redshift": {"fit": [0.2, 0.1]}}, r"\[0\.2, 0\.1\] is no range of redshifts"),
        ({"redshift": {"unit": "m", "otherwise": "fit"}}, "redshift.otherwise"),
        (
            {"redshift": {"unti": "m"}},
            r"redshift\.unti = 'm': no parameter 'unti'; did you mean 'unit'",
        ),
        ({"dust": {"law": "SFD"}}, r"config\.dust\.law = 'SFD'"),
        ({"dust": {"unit": None}}, "give unit or ebv; for a fit without dust, dust: null"),
        ({"phase_range": [40, -10]}, r"config\.phase_range = \[40, -10\]"),
        ({"bounds": {"x1": [1, 1]}}, "x1: give"),
        ({"fixed": {"z": 1}}, "config.fixed = .*'z' is not one of x1, c"),
        ({"bounds": {"stretch": [0, 1]}}, "'stretch' is not one of t0, x0, x1, c"),
        ({"bands": ["ztfg", "ztfx"]}, "no such band; did you mean 'ztf"),
        ({"bands": ["nonsense"]}, "no such band: take a name of sncosmo"),
        ({"zero_points": {"ztfx": 0.1}}, "'ztfx' is not among the bands; did you mean 'ztf"),
        ({"band_shifts": {"lsstu": 1.0}}, r"config\.band_shifts = .*'lsstu' is not among"),
        ({"redshift": {"fit": [0.1, 0.2], "sigma": 0.1}}, "a prior needs a redshift"),
        ({"redshift": {"value": 0.1, "sigma": 0.1}, "engine": "sncosmo"}, "fit_lc has no priors"),
    ],
)
def test_wrong_parameters_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(**config)


@BOTH
def test_held_parameters_stay_and_are_not_in_the_covariance(engine: str) -> None:
    row = fitted(injected(truth(x1=0.0)), engine=engine, fixed={"x1": 0.0})
    assert (row["x1"], row["x1_err"]) == (0.0, None)
    assert row["fitted"] == ["t0", "x0", "c"]
    assert len(row["covariance"]) == 9
    assert row["ndof"] == 27


@BOTH
def test_a_parameter_at_its_bound_is_told(engine: str) -> None:
    row = fitted(injected(truth(x1=2.0)), bounds={"x1": [-1.0, 1.0]}, engine=engine)
    assert row["at_bound"] is True
    assert "x1 at a bound" in row["message"]
    assert row["x1"] == pytest.approx(1.0, abs=0.01)
    assert built(bounds={"x1": [-1.0, 1.0]}).bounds["c"] == (-1.0, 2.0)


@BOTH
def test_too_few_points_are_refused(engine: str) -> None:
    curve = injected(truth())
    told = refused(curve.where(np.arange(30) < 4), engine=engine)
    assert (told.status, str(told)) == (TOO_FEW_POINTS, "4 points to fit, 5 needed")
    assert refused(curve.where(np.arange(30) < 0), engine=engine).status == TOO_FEW_POINTS
    assert "dropped 15 points in ztfg" in str(refused(curve, engine=engine, bands=["lsstu"]))


@BOTH
def test_no_significant_point_is_refused(engine: str) -> None:
    curve = injected(truth())
    told = refused(injected(truth(), fluxerr=curve.flux.max() / 4), engine=engine)
    assert told.status == NO_SIGNAL
    assert "no point above S/N 5: 4." in str(told) or "no point above S/N 5: 3." in str(told)
    assert refused(injected(truth(), flux=-curve.flux, sign=-1), engine=engine).status == NO_SIGNAL


@BOTH
@pytest.mark.parametrize("phase_cut", ["iterative", "peak"])
def test_phases_without_points_are_refused(engine: str, phase_cut: str) -> None:
    told = refused(injected(truth()), engine=engine, phase_range=[-1.0, 1.0], phase_cut=phase_cut)
    assert told.status == NO_PHASE_COVERAGE


def test_coverage_can_be_asked_for() -> None:
    rising = injected(truth(), phases=(-14, 3))
    assert fitted(rising)["phase_last"] < 8
    assert refused(rising, coverage=[0.0, 10.0]).status == NO_PHASE_COVERAGE
    assert fitted(injected(truth()), coverage=[0.0, 10.0])["status"] == 0


@BOTH
def test_a_cut_about_the_brightest_point_is_made_once(engine: str) -> None:
    curve = injected(truth(), phases=(-19, 49))
    row = fitted(curve, phase_range=[-10, 30], phase_cut="peak", engine=engine)
    peak = curve.jd[curve.flux.argmax()]
    phase = (curve.jd - peak) / 1.06
    assert row["n_points"] == ((phase > -10) & (phase < 30)).sum()


@BOTH
def test_whatever_a_light_curve_is_the_unit_answers_or_refuses(engine: str) -> None:
    rng = np.random.default_rng(7)
    jd = T0 + np.arange(12.0)
    curves: dict[str, dict[str, Any]] = {
        "flat": {"flux": 100.0, "fluxerr": 5.0},
        "falling years": {"jd": T0 + 200.0 * np.arange(12), "flux": 1e4, "fluxerr": 1.0},
        "one time": {"jd": np.full(12, T0), "flux": 100.0, "fluxerr": 5.0},
        "negative but one": {"flux": [-50.0] * 11 + [60.0], "fluxerr": 5.0},
        "noise": {"flux": rng.normal(0, 30, 12), "fluxerr": 5.0},
        "huge": {"flux": 1e30, "fluxerr": 1e27},
        "tiny": {"flux": 1e-20, "fluxerr": 1e-22},
        "no errors": {"flux": 100.0, "fluxerr": 0.0},
        "nulls": {"flux": np.nan, "fluxerr": np.nan},
        "no system": {"flux": 100.0, "fluxerr": 5.0, "zpsys": "nobody's"},
    }
    outcomes = {}
    for name, columns in curves.items():
        for covariance in (False, True):
            given: dict[str, Any] = {"jd": jd, "band": ["ztfg", "ztfr"] * 6}
            curve = LightCurve.of(**(given | columns))
            try:
                row = fitted(curve, engine=engine, model_covariance=covariance, min_points=3)
                outcomes[name] = row["status"]
            except Refusal as refusal:
                outcomes[name] = refusal.status
    assert outcomes["no errors"] == outcomes["nulls"] == outcomes["no system"] == TOO_FEW_POINTS
    assert outcomes["falling years"] == outcomes["noise"] == NO_PHASE_COVERAGE
    assert set(outcomes.values()) <= {
        0,
        TOO_FEW_POINTS,
        NO_SIGNAL,
        NO_PHASE_COVERAGE,
        NOT_CONVERGED,
    }


@BOTH
def test_zero_points_of_other_systems_become_ab_ones(engine: str) -> None:
    offsets = {"ztfg": 0.1, "ztfr": -0.05}
    system = sncosmo.CompositeMagSystem({b: ("ab", m) for b, m in offsets.items()}, name="off")
    sncosmo.register(system, "off", data_class=sncosmo.MagSystem, force=True)
    curve = injected(truth(), noise=False)
    # a magnitude of this system is fainter by the offset: so is the zero point of a flux
    zp = np.array([
        z + 2.5 * np.log10(system.zpbandflux(b) / sncosmo.get_magsystem("ab").zpbandflux(b))
        for z, b in zip(curve.zp, curve.band, strict=True)
    ])  # fmt: skip
    assert np.ptp(zp - curve.zp) > 0.1
    mixed = np.where(np.arange(len(zp)) % 2, "off", "ab").astype(object)
    zps = np.where(mixed == "off", zp, curve.zp)
    other = replace(curve, points={**curve.points, "zpsys": mixed, "zp": zps})
    row, same = fitted(other, engine=engine), fitted(curve, engine=engine)
    assert row["n_points"] == same["n_points"] == len(zp)
    for name in PARAMETERS:
        assert row[name] == pytest.approx(same[name], abs=1e-3 * same[f"{name}_err"])
    odd = np.where(np.arange(len(zp)) % 2, "nobody's", "ab").astype(object)
    less = fitted(replace(curve, points={**curve.points, "zpsys": odd}), engine=engine)
    assert less["n_points"] == (odd == "ab").sum()
    assert 'system "nobody\'s" has no zero point in a band' in less["message"]


def test_nothing_is_ever_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError("asked for the network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setenv("SNCOSMO_DATA_DIR", str(tmp_path))
    for name in ("ztfg", "ztf::g", "megacampsf::g", "ultrasat", "gaia::g", "sdssg"):
        assert models.bandpass(name) == (None, None)
    with pytest.raises(
        ConfigError, match=r"model salt3/2\.0 is not in .*: put it at models/salt3/salt3-f22"
    ):
        trace_of(built(), "salt_fit")
    with pytest.raises(ConfigError, match="SNCOSMO_DATA_DIR"):
        fitted(LightCurve.of(jd=T0 + np.arange(9.0), flux=100.0, fluxerr=1.0, band="ztfg"))


def test_the_same_light_curve_gives_the_same_bits() -> None:
    rows = [fitted(injected(truth(), 3), model_covariance=True) for _ in range(2)]
    assert rows[0] == rows[1]


def test_models_are_those_that_sncosmo_has_by_these_names() -> None:
    for name in models.MODELS:
        try:
            ours = models.model(name)
        except ConfigError:
            continue  # not in this data folder
        source, version = name.split("/")
        if name == "salt3/1.0":
            continue  # sncosmo does not know it by this name
        theirs = sncosmo.Model(sncosmo.get_source(source, version))
        wave = np.linspace(3500.0, 7000.0, 20)
        np.testing.assert_array_equal(ours.flux([0.0, 10.0], wave), theirs.flux([0.0, 10.0], wave))


def mixed() -> list[LightCurve]:
    """Light curves of every kind of outcome, tied to a host."""

    def host(z: float | None, z_err: float | None = None) -> dict[str, Any]:
        return {"host": {"status": 0, "z": z, "z_err": z_err, "distance": 1.0}}

    band = np.array(["ztfg", "ztfr", "ztfi"] * 10, object)
    some = [
        injected(truth(), results=host(0.06)),
        injected(truth(), seed=2, phases=(-14, 3), results=host(0.06)),
        injected(truth(z=0.09), seed=3, results=host(None)),
        injected(truth(z=0.09), seed=4, results=host(0.085, 0.01)),
        injected(truth(x1=2.5), seed=5, band=band, results=host(0.06)),
        injected(truth(), seed=6, results=host(-1.0)).where(np.arange(30) < 3),
        injected(truth(), seed=7, fluxerr=1e9, results=host(0.06)),
        injected(truth(), seed=8),
        injected(truth(z=0.35), seed=9, results=host(0.35)),
        LightCurve.of(jd=T0 + np.arange(8.0), band="ztfg", flux=np.nan, results=host(0.06)),
        injected(truth(), seed=11, zpsys=np.array(["ab", "vega"] * 15), results=host(0.06)),
    ]
    return [replace(curve, stock=i, name=f"SN{i}") for i, curve in enumerate(some)]


TIED = {"unit": "host", "otherwise": [0.01, 0.2]}


def one_by_one(unit: SaltFit, curves: list[LightCurve]) -> list[dict[str, Any]]:
    """What the unit answers each, or the refusal."""
    rows: list[dict[str, Any]] = []
    for curve in curves:
        try:
            rows.append(dict(unit.process(curve)))
        except Refusal as refusal:
            rows.append({"status": refusal.status, "message": str(refusal)})
    return rows


def at_once(unit: SaltFit, batch: LightCurveBatch) -> list[dict[str, Any]]:
    columns = unit.process_batch(batch)
    assert columns is not None
    names = list(columns)
    lists = [
        np.asarray(columns[n]).tolist() if n == "status" else columns[n].to_pylist() for n in names
    ]
    return [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]


def test_a_batch_gives_each_light_curve_what_it_gets_alone_bit_for_bit() -> None:
    unit = built(redshift=TIED | {"sigma_column": "z_err"}, model_covariance=True)
    curves = mixed()
    together = at_once(unit, LightCurveBatch.of(curves))
    turned = at_once(unit, LightCurveBatch.of(curves[::-1]))[::-1]
    alone = one_by_one(unit, curves)
    assert [row["status"] for row in alone] == [0, 0, 0, 0, 0, 1, 2, -2006, 0, 1, 0]
    for row, other, single in zip(together, turned, alone, strict=True):
        assert row == other
        assert {name: row[name] for name in single} == single
        if row["status"] not in (0, 4):
            assert all(row[n] is None for n in row if n not in ("status", "message"))


def test_a_batch_needs_the_fields_that_the_unit_declares_and_no_others() -> None:
    unit, curves = built(redshift=TIED), mixed()
    batch = LightCurveBatch.of(curves)
    few = {name: batch.points[name] for name in unit.point_fields()}
    assert at_once(unit, replace(batch, points=few)) == at_once(unit, batch)


def test_both_engines_tell_the_same_of_each_light_curve() -> None:
    curves = mixed()
    batch = one_by_one(built(redshift=TIED), curves)
    slow = one_by_one(built(redshift=TIED, engine="sncosmo"), curves)
    for ours, theirs in zip(batch, slow, strict=True):
        assert ours["status"] == theirs["status"]
        assert ours["message"] == theirs["message"]
        if ours["status"] == 0:
            assert (ours["engine"], theirs["engine"]) == ("batch", "sncosmo")
            for name in ("fitted", "bands", "n_points", "n_before", "ndof", "n_pulls", "at_edge"):
                assert ours[name] == theirs[name], name
            assert ours["chisq"] == pytest.approx(theirs["chisq"], abs=0.05)
            for name in ours["fitted"]:
                assert abs(ours[name] - theirs[name]) < 0.05 * theirs[f"{name}_err"]
            for name in ("peak_mag_b", "peak_absmag_b", "peak_mag_ztfg", "peak_mag_ztfr"):
                tolerance = 2e-3 if len(ours["fitted"]) == 4 else 0.05
                assert ours[name] == pytest.approx(theirs[name], abs=tolerance)
            for name in ("mean_abs_pull", "max_abs_pull", "probability"):
                assert ours[name] == pytest.approx(theirs[name], abs=0.02)


def test_the_plain_twin_gives_what_the_compiled_engine_gives() -> None:
    curve = injected(truth(law="O94", ebv=0.1))
    config: dict[str, Any] = {"dust": {"law": "O94", "ebv": 0.1}, "model_covariance": True}
    fast, plain = fitted(curve, **config), fitted(curve, engine="twin", **config)
    assert (fast["engine"], plain["engine"]) == ("batch", "twin")
    for name in (*PARAMETERS, "chisq", "peak_absmag_b", "max_abs_pull"):
        assert fast[name] == pytest.approx(plain[name], rel=1e-6)


def test_without_numba_the_twin_fits_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from ampel_spark.t2.fits import batch_fit
    from ampel_spark.t2.units import salt_fit

    expected = fitted(injected(truth()))
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(salt_fit, "_HAS_NUMBA", False)
    batch_fit._fitter.cache_clear()
    row, told = fitted(injected(truth())), built().prepare()
    batch_fit._fitter.cache_clear()
    assert row["engine"] == "twin"
    assert row["x1"] == pytest.approx(expected["x1"], rel=1e-6)
    assert told is not None
    assert "numba is not installed" in told


@BOTH
def test_peak_magnitudes_are_sncosmo_s(engine: str) -> None:
    true = truth(z=0.08, law="F99", ebv=0.2, x1=-1.5, c=0.2)
    row = fitted(
        injected(true, noise=False), engine=engine, redshift=0.08,
        dust={"ebv": 0.2}, cosmology={"h0": 69.32, "om0": 0.2865},
    )  # fmt: skip
    # sncosmo's cosmology is WMAP9
    absolute = true.source_peakabsmag("bessellb", "ab", sampling=0.5)
    assert row["peak_absmag_b"] == pytest.approx(absolute, abs=2e-3)
    assert row["peak_mag_b"] == pytest.approx(true.source_peakmag("bessellb", "ab"), abs=2e-3)
    days = T0 + np.arange(-15.0, 25.0, 0.1)
    for name in ("ztfg", "ztfr"):
        brightest = true.bandmag(models.bandpass(name)[0], "ab", days).min()
        assert row[f"peak_mag_{name}"] == pytest.approx(brightest, abs=2e-3)
    assert row["peak_mag_ztfi"] is None


def test_the_error_of_a_model_s_flux_is_that_of_draws_from_the_covariance() -> None:
    row = fitted(injected(truth(), fluxerr=injected(truth()).flux.max() / 10))
    band = bandpass_of("ztfr")
    days = row["t0"] + np.array([-8.0, 0.0, 15.0])
    model = model_of(row)
    scatter = np.sqrt(np.diag(model.bandfluxcov(band, days, zp=25.0, zpsys="ab")[1]))
    error = flux_error(row, model, band, days, 25.0)
    assert model.get("t0") == row["t0"]
    rng = np.random.default_rng(1)
    at = [row[name] for name in row["fitted"]]
    draws = []
    for values in rng.multivariate_normal(at, np.reshape(row["covariance"], (4, 4)), 300):
        model.set(**dict(zip(row["fitted"], values, strict=True)))
        draws.append(model.bandflux(band, days, zp=25.0, zpsys="ab"))
    np.testing.assert_allclose(error, np.hypot(np.std(draws, axis=0), scatter), rtol=0.2)


def test_quality_is_counted_from_the_points() -> None:
    curve = injected(truth(), seed=3)
    row = fitted(curve)
    model = model_of(row)
    phase = (curve.jd - row["t0"]) / 1.06
    curves = [models.bandpass(b)[0] for b in curve.band]
    pull = np.abs(curve.flux - model.bandflux(curves, curve.jd, 25.0, "ab")) / curve.fluxerr
    assert (row["n_before"], row["n_after"]) == ((phase < 0).sum(), (phase >= 0).sum())
    assert row["max_abs_pull"] == pytest.approx(pull[np.abs(phase) <= 10].max(), rel=1e-3)
    near = (phase >= -10) & (phase <= 20)
    assert row["mean_abs_pull"] == pytest.approx(pull[near].mean(), rel=1e-3)
    assert row["n_starts"] >= 1
    assert row["at_edge"] is False


@BOTH
def test_a_zero_point_moved_up_makes_all_of_a_band_fainter(engine: str) -> None:
    curve = injected(truth(), seed=4)
    plain = fitted(curve, engine=engine)
    both = fitted(curve, engine=engine, zero_points={"ztfg": 0.1, "ztfr": 0.1})
    assert both["peak_mag_b"] - plain["peak_mag_b"] == pytest.approx(0.1, abs=1e-4)
    assert both["c"] == pytest.approx(plain["c"], abs=1e-4)
    g = fitted(curve, engine=engine, zero_points={"ztfg": 0.01})
    factor = np.where(curve.band == "ztfg", 10 ** (-0.4 * 0.01), 1.0)
    by_hand = injected(truth(), flux=curve.flux * factor, fluxerr=curve.fluxerr * factor)
    by_hand = replace(by_hand, points=by_hand.points | {"jd": curve.jd, "band": curve.band})
    assert g["c"] == pytest.approx(fitted(by_hand, engine=engine)["c"], abs=1e-9)
    assert g["c"] > plain["c"] + 0.005


def test_a_shifted_band_is_the_same_in_both_engines() -> None:
    curve, shift = injected(truth(), seed=4), {"band_shifts": {"ztfg": 20.0}}
    plain, ours, theirs = (
        fitted(curve),
        fitted(curve, **shift),
        fitted(curve, engine="sncosmo", **shift),
    )
    assert abs(ours["c"] - theirs["c"]) < 0.05 * ours["c_err"]
    assert ours["c"] - plain["c"] == pytest.approx(0.0016, abs=0.0015)
    band = models.bandpass("ztfg")[0]
    assert band is not None
    moved = models.shifted(band, 20.0)
    assert moved.wave_eff == pytest.approx(band.wave_eff + 20.0)
    assert trace_of(built(**shift), "salt_fit").trace_id != trace_of(built(), "salt_fit").trace_id


def test_dust_can_be_scaled() -> None:
    curve = injected(truth(law="F99", ebv=0.1))
    half = fitted(curve, dust={"ebv": 0.2, "scale": 0.5})
    assert half == fitted(curve, dust={"ebv": 0.1})
    assert half["mwebv"] == 0.1


def test_a_prior_on_the_redshift_weighs_with_the_data() -> None:
    curve = injected(truth(z=0.09), seed=4)
    free = fitted(curve, redshift={"fit": [0.01, 0.2]})
    tight = fitted(curve, redshift={"value": 0.09, "sigma": 1e-5})
    assert tight["z_err"] == pytest.approx(1e-5, rel=0.01)
    assert tight["chisq"] == pytest.approx(fitted(curve, redshift=0.09)["chisq"], abs=1e-3)
    # two measurements of one redshift
    wide = fitted(curve, redshift={"value": 0.07, "sigma": free["z_err"]})
    assert wide["z"] == pytest.approx(0.5 * (free["z"] + 0.07), abs=0.5 * free["z_err"])
    assert wide["z_err"] == pytest.approx(free["z_err"] / np.sqrt(2), rel=0.3)
    assert wide["fitted"][0] == "z"
    near = fitted(injected(truth(z=6e-5)), redshift={"value": 6e-5, "sigma": 1e-6})
    assert near["z"] == pytest.approx(6e-5, abs=5e-6)


def test_a_changed_model_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(models.model_dir("salt3/2.0"), tmp_path / "models/salt3/salt3-f22")
    shutil.copytree(models.data_dir() / "bandpasses", tmp_path / "bandpasses")
    monkeypatch.setenv("SNCOSMO_DATA_DIR", str(tmp_path))
    unit, curve = built(), injected(truth())
    before, trace = unit.process(curve), trace_of(unit, "salt_fit").trace_id
    law = tmp_path / "models/salt3/salt3-f22/salt3_color_correction.dat"
    words = law.read_text().split("\n", 2)
    law.write_text("\n".join([words[0], str(float(words[1]) + 0.3), words[2]]))
    assert trace_of(unit, "salt_fit").trace_id != trace
    assert unit.process(curve)["c"] != before["c"]


@pytest.mark.real_data
@pytest.mark.usefixtures("jla_model")
def test_any_other_model_of_sncosmo_is_fitted_by_its_own_parameters() -> None:
    model = models.model("hsiao/3.0", "F99")
    model.set(z=0.05, t0=T0, amplitude=1e-8, mwebv=0.1)
    days = np.linspace(T0 - 10, T0 + 40, 30)
    names = np.array(["ztfg", "ztfr"] * 15, object)
    flux = model.bandflux([models.bandpass(b)[0] for b in names], days, 25.0, "ab")
    curve = LightCurve.of(jd=days, band=names, flux=flux, fluxerr=0.02 * flux.max())
    config: dict[str, Any] = {"model": "hsiao/3.0", "redshift": 0.05, "dust": {"ebv": 0.1}}
    row = fitted(curve, **config)
    assert (row["engine"], row["model"], row["status"]) == ("sncosmo", "hsiao/3.0", 0)
    assert row["parameter_names"] == ["amplitude"]
    assert row["fitted"] == ["t0", "amplitude"]
    assert row["parameters"][0] == pytest.approx(1e-8, rel=0.01)
    assert row["t0"] == pytest.approx(T0, abs=3 * row["t0_err"])
    assert row["x1"] is None
    assert row["x0"] is None
    assert row["peak_mag_b"] == pytest.approx(model.source_peakmag("bessellb", "ab"), abs=0.01)
    assert model_of(row).bandmag("bessellv", "ab", T0) == pytest.approx(
        model.bandmag("bessellv", "ab", T0), abs=0.02
    )
    unit = built(**config)
    assert next(path.name for path in unit.files()) == "Hsiao_SED_V3.fits"
    with pytest.raises(ConfigError, match=r"hsiao/3\.0 has no parameter 'size'"):
        built(**config, fixed={"size": 1.0}).files()


def published(shared_data: Path) -> list[dict[str, str]]:
    with (shared_data / "ztf_snia_dr1_open" / "salt2_params.csv").open() as file:
        return list(csv.DictReader(file))


def refit(shared_data: Path, row: Mapping[str, str]) -> Mapping[str, Any]:
    """Fit as the release did: see PROVENANCE.txt there for the recipe."""
    path = shared_data / "ztf_snia_dr1_open" / "lightcurves" / f"{row['ztfname']}.csv"
    with path.open() as file:
        points = list(csv.DictReader(file))
    bands = {"p48g": "ztfg", "p48r": "ztfr"}
    points = [p for p in points if p["band"] in bands]
    numbers = {
        k: np.array([float(p[k]) for p in points]) for k in ("time", "flux", "flux_err", "zp")
    }
    curve = LightCurve.of(
        jd=numbers["time"], flux=numbers["flux"], fluxerr=numbers["flux_err"], zp=numbers["zp"],
        band=[bands[p["band"]] for p in points], kind=FORCED, sign=np.sign(numbers["flux"]),
    )  # fmt: skip
    return fitted(
        curve,
        model="salt2/2.4",
        redshift=float(row["z"]),
        dust={"law": "CCM89", "ebv": float(row["MWebv"])},
        phase_range=[-20, 50],
        phase_frame="observer",
        min_snr=3.0,
        error_fraction=0.02,
        model_covariance=True,
        bounds={"x1": [-10, 10]},
        min_points=1,
    )


def distance(fit: Mapping[str, Any], row: Mapping[str, str]) -> float:
    """Largest difference from the published parameters, in their errors."""
    return max(float(abs(fit[k] - float(row[k])) / float(row[f"{k}_err"])) for k in PARAMETERS)


@pytest.fixture
def jla_model(packed_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNCOSMO_DATA_DIR", str(packed_data / "sncosmo_data"))


@pytest.mark.real_data
@pytest.mark.usefixtures("jla_model")
def test_published_parameters_of_ztf_supernovae_come_back(shared_data: Path) -> None:
    for row in published(shared_data)[:40:10]:
        fit = refit(shared_data, row)
        assert fit["n_points"] == int(row["n_points"])
        assert distance(fit, row) < 0.1
        assert fit["chisq"] == pytest.approx(float(row["chisq"]), rel=0.01)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.usefixtures("jla_model")
def test_published_parameters_of_all_open_ztf_supernovae_come_back(shared_data: Path) -> None:
    with (shared_data / "ztf_snia_dr1_open" / "refit_check.csv").open() as file:
        checks = {row["ztfname"]: row for row in csv.DictReader(file)}
    match, moved = 0, []
    for row in published(shared_data):
        fit, check = refit(shared_data, row), checks[row["ztfname"]]
        if int(check["n_sel"]) != int(row["n_points"]):
            continue  # the recipe's points are not the release's: its t0 is another
        match += fit["n_points"] == int(row["n_points"])
        if distance(fit, row) > 0.1:
            moved.append(row["ztfname"])
        # Of the independent refit that came with the data. Both are chi squares under a covariance
        # of the model at parameters that differ by up to 0.1 sigma, where rounds end.
        assert fit["chisq"] == pytest.approx(float(check["chisq_refit"]), rel=0.01, abs=1e-3)
    assert match >= 54
    assert len(moved) <= match - 53
