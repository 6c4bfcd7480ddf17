"""Fits agree with sncosmo's, with the truth, and with published numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import sncosmo

from ampel_spark.errors import ConfigError
from ampel_spark.salt import FitOptions, Flag, LightCurveError, LightCurves, SaltFitter, Status
from tests.salt.light_curves import BANDS, columns, pack, salt_model, simulate, truth

NAMES = ("t0", "x0", "x1", "c")


def test_same_minimum_parameters_and_errors_as_sncosmo(fitter: SaltFitter) -> None:
    lights = simulate(8, 21)
    result = fitter.fit(pack(lights), z=truth(lights, "z"), mwebv=truth(lights, "mwebv"))
    assert np.all(result.status == Status.CONVERGED)
    for i, light in enumerate(lights):
        model = salt_model()
        model.set(z=light["truth"]["z"], mwebv=light["truth"]["mwebv"])
        theirs, fitted = sncosmo.fit_lc(columns(light), model, list(NAMES))
        assert result.chisq[i] == pytest.approx(theirs.chisq, abs=0.01)
        assert result.ndof[i] == theirs.ndof
        for name in NAMES:
            error = theirs.errors[name]
            assert result.value(name)[i] == pytest.approx(fitted.get(name), abs=0.05 * error)
            assert result.error(name)[i] == pytest.approx(error, rel=0.03)


def test_model_covariance_is_sncosmos(fitter: SaltFitter) -> None:
    lights = simulate(6, 22)
    options = FitOptions(model_covariance=True, covariance_tolerance=1e-4)
    result = fitter.fit(
        pack(lights), z=truth(lights, "z"), mwebv=truth(lights, "mwebv"), options=options
    )
    assert np.all(result.n_rounds >= 2)
    for i, light in enumerate(lights):
        model = salt_model()
        model.set(mwebv=light["truth"]["mwebv"])
        model.set(**dict(zip(("z", *NAMES), result.parameters[i], strict=True)))
        # At convergence the frozen covariance is the one at the minimum.
        assert result.chisq[i] == pytest.approx(
            sncosmo.chisq(columns(light), model, modelcov=True), rel=2e-3
        )


def test_free_redshift_finds_sncosmos_minimum(fitter: SaltFitter) -> None:
    lights = simulate(3, 23, snr=60.0, z=(0.04, 0.1))
    options = FitOptions(fit=("z", *NAMES), bounds={"z": (0.005, 0.145), "c": (-0.3, 0.3)})
    result = fitter.fit(pack(lights), mwebv=truth(lights, "mwebv"), options=options)
    for i, light in enumerate(lights):
        model = salt_model()
        model.set(mwebv=light["truth"]["mwebv"])
        theirs, _ = sncosmo.fit_lc(
            columns(light), model, ["z", *NAMES], bounds={"z": (0.005, 0.145), "c": (-0.3, 0.3)}
        )
        assert result.chisq[i] < theirs.chisq + 0.05
    pull = (result.value("z") - truth(lights, "z")) / result.error("z")
    assert np.all(np.abs(pull) < 4.0)


@pytest.mark.parametrize(
    "phases", [(-15.0, 40.0), (-17.0, 1.0), (-35.0, 75.0)], ids=["both sides", "rise", "beyond"]
)
def test_no_time_or_redshift_has_a_smaller_chi_square(
    phases: tuple[float, float], fitter: SaltFitter
) -> None:
    # Fits at each of many fixed times, and at each of many fixed redshifts, know no jumps of
    # chi-square at the model's first and last phase, and less of second minima.
    lights = simulate(12, 46, phases=phases, cadence=3.5, snr=12.0)
    curves, mwebv = pack(lights), truth(lights, "mwebv")
    z = truth(lights, "z")
    best = fitter.fit(curves, z=z, mwebv=mwebv)
    held = FitOptions(fit=("x0", "x1", "c"))
    for shift in np.linspace(-3.0, 3.0, 121):
        t0 = best.value("t0") + shift
        there = fitter.fit(curves, z=z, t0=t0, mwebv=mwebv, options=held)
        assert np.all(best.chisq <= there.chisq + 0.02), shift
    free = FitOptions(fit=("z", *NAMES), bounds={"z": (0.01, 0.14)})
    best = fitter.fit(curves, mwebv=mwebv, options=free)
    for z_held in np.linspace(0.01, 0.14, 40):
        there = fitter.fit(curves, z=z_held, mwebv=mwebv)
        assert np.all(best.chisq <= there.chisq + 0.05), z_held


def test_rounds_of_the_covariance_come_to_an_end_however_fine(fitter: SaltFitter) -> None:
    lights = simulate(60, 48, phases=(-17.0, 1.0), cadence=4.0, snr=10.0)
    values = {"z": truth(lights, "z"), "mwebv": truth(lights, "mwebv")}
    coarse, fine = (
        fitter.fit(
            pack(lights),
            options=FitOptions(model_covariance=True, covariance_tolerance=tolerance),
            **values,
        )
        for tolerance in (0.1, 1e-3)
    )
    assert np.median(fine.n_rounds) > np.median(coarse.n_rounds)
    assert np.mean(fine.n_rounds < 20) > 0.95
    shift = np.abs(coarse.parameters - fine.parameters)[:, 1:] / fine.errors[:, 1:]
    assert np.mean(shift.max(axis=1) < 0.1) > 0.9


def test_pulls_and_coverage_against_the_truth(fitter: SaltFitter) -> None:
    n = 1600
    lights = simulate(n, 24, snr=40.0)
    result = fitter.fit(pack(lights), z=truth(lights, "z"), mwebv=truth(lights, "mwebv"))
    for name in NAMES:
        pull = (result.value(name) - truth(lights, name)) / result.error(name)
        # Four standard errors of each statistic.
        assert abs(pull.mean()) < 4.0 / np.sqrt(n)
        assert pull.std() == pytest.approx(1.0, abs=4.0 / np.sqrt(2 * n))
        assert np.mean(np.abs(pull) < 1.0) == pytest.approx(0.6827, abs=4.0 * np.sqrt(0.2166 / n))
        assert np.mean(np.abs(pull) < 2.0) == pytest.approx(0.9545, abs=4.0 * np.sqrt(0.0434 / n))
    assert np.mean(result.chisq / result.ndof) == pytest.approx(1.0, abs=0.03)


def test_prior_pulls_and_is_accounted_for_apart(fitter: SaltFitter) -> None:
    lights = simulate(1, 25)
    values = {"z": truth(lights, "z"), "mwebv": truth(lights, "mwebv")}
    free = fitter.fit(pack(lights), **values)
    mean, sigma = free.value("c")[0] + 0.1, free.error("c")[0]
    tied = fitter.fit(pack(lights), options=FitOptions(priors={"c": (mean, sigma)}), **values)
    # Two measurements of equal weight: half way, and the error smaller by the root of two.
    assert tied.value("c")[0] == pytest.approx(free.value("c")[0] + 0.05, abs=0.01)
    assert tied.error("c")[0] == pytest.approx(sigma / np.sqrt(2.0), rel=0.05)
    assert tied.prior_chisq[0] == pytest.approx(((tied.value("c")[0] - mean) / sigma) ** 2)
    assert free.prior_chisq[0] == 0.0


def test_zero_points_and_systems_of_each_point(sncosmo_data: Path) -> None:
    systems = ("ab", sncosmo.CompositeMagSystem(
        bands={"ztfg": ("ab", 0.1), "ztfr": ("ab", -0.2)}, name="shifted"
    ))  # fmt: skip
    fitter = SaltFitter("salt3", BANDS, version="2.0", z_range=(0.0, 0.13), systems=systems)
    lights = simulate(1, 26)
    values = {"z": truth(lights, "z"), "mwebv": truth(lights, "mwebv")}
    plain = fitter.fit(pack(lights), **values)
    curves = pack(lights)
    rng = np.random.default_rng(1)
    zp = rng.uniform(20.0, 30.0, len(curves.time))
    system = rng.integers(0, 2, len(curves.time))
    bands = [sncosmo.get_bandpass(b) for b in BANDS]
    ratio = np.array([
        systems[1].zpbandflux(b) / sncosmo.get_magsystem("ab").zpbandflux(b) for b in bands
    ])[curves.band]  # fmt: skip
    scale = 10.0 ** (0.4 * (zp - 25.0)) / np.where(system == 1, ratio, 1.0)
    moved = LightCurves(
        curves.offsets, curves.time, curves.flux * scale, curves.fluxerr * scale, curves.band,
        zp=zp, zpsys=system,
    )  # fmt: skip
    result = fitter.fit(moved, **values)
    np.testing.assert_allclose(result.parameters, plain.parameters, rtol=1e-6)
    np.testing.assert_allclose(result.chisq, plain.chisq, rtol=1e-6)


def test_iterative_phase_range_keeps_what_lies_inside(fitter: SaltFitter) -> None:
    lights = simulate(4, 27, phases=(-18.0, 80.0))
    options = FitOptions(phase_range=(-15.0, 40.0))
    result = fitter.fit(
        pack(lights), z=truth(lights, "z"), mwebv=truth(lights, "mwebv"), options=options
    )
    curves = pack(lights)
    for i in range(4):
        own = slice(curves.offsets[i], curves.offsets[i + 1])
        phase = (curves.time[own] - result.value("t0")[i]) / (1.0 + result.value("z")[i])
        np.testing.assert_array_equal(result.used[own], (phase > -15.0) & (phase < 40.0))
        assert result.n_cut[i] == np.sum(~result.used[own])
    pull = (result.value("t0") - truth(lights, "t0")) / result.error("t0")
    assert np.all(np.abs(pull) < 4.0)


def test_points_after_the_model_are_flagged_unless_cut(fitter: SaltFitter) -> None:
    lights = simulate(1, 28, phases=(-15.0, 70.0), snr=100.0)
    values = {"z": truth(lights, "z"), "mwebv": truth(lights, "mwebv")}
    # The simulation ends with the model at +50 d; a real supernova goes on.
    late = lights[0]["time"] > lights[0]["truth"]["t0"] + 50.0 * (1.0 + lights[0]["truth"]["z"])
    lights[0]["flux"][late] += 10.0 * lights[0]["fluxerr"][late]
    result = fitter.fit(pack(lights), **values)
    assert result.status[0] == Status.MODEL_EDGE
    assert result.chisq[0] > 100.0
    cut = fitter.fit(pack(lights), options=FitOptions(phase_range=(-20.0, 45.0)), **values)
    assert cut.status[0] == Status.CONVERGED
    assert cut.chisq[0] / cut.ndof[0] < 2.0


def test_parameter_at_its_bound_is_said_so(fitter: SaltFitter) -> None:
    lights = simulate(1, 29, snr=100.0)
    x1 = lights[0]["truth"]["x1"]
    options = FitOptions(bounds={"x1": (x1 + 0.5, x1 + 1.0)})
    result = fitter.fit(
        pack(lights), z=truth(lights, "z"), mwebv=truth(lights, "mwebv"), options=options
    )
    assert result.status[0] == Status.AT_BOUND
    assert result.value("x1")[0] == x1 + 0.5


def test_rise_alone_is_poorly_covered(fitter: SaltFitter) -> None:
    lights = simulate(1, 30, phases=(-16.0, -4.0))
    result = fitter.fit(pack(lights), z=truth(lights, "z"), mwebv=truth(lights, "mwebv"))
    assert Flag(int(result.flags[0])) & Flag.POOR_COVERAGE
    assert result.n_after[0] == 0
    assert result.n_starts[0] > 1


def test_noise_is_fitted_and_called_noise(fitter: SaltFitter) -> None:
    lights = simulate(1, 31)
    rng = np.random.default_rng(5)
    lights[0]["flux"] = lights[0]["fluxerr"] * rng.normal(size=len(lights[0]["flux"]))
    result = fitter.fit(pack(lights), z=truth(lights, "z"))
    assert result.status[0] == Status.NO_SIGNAL
    assert np.isfinite(result.chisq[0])


def test_band_outside_the_model_is_dropped_and_said_so(sncosmo_data: Path) -> None:
    blue = sncosmo.Bandpass([2050.0, 2100.0, 2300.0], [0.0, 1.0, 0.0], name="blue")
    fitter = SaltFitter("salt3", (*BANDS, blue), version="2.0", z_range=(0.0, 0.13))
    lights = simulate(1, 32, z=(0.06, 0.1))
    n = len(lights[0]["time"])
    light = {name: np.concatenate([value, value]) for name, value in columns(lights[0]).items()}
    light["band"] = np.concatenate([lights[0]["band"], np.full(n, "blue")])
    curves = LightCurves.from_tables([light], fitter.bands)
    values = {"z": truth(lights, "z"), "mwebv": truth(lights, "mwebv")}
    result = fitter.fit(curves, **values)
    assert result.n_points[0] == n
    assert result.n_dropped_band[0] == n
    assert result.dropped_bands[0].tolist() == [False, False, True]
    assert Flag(int(result.flags[0])) & Flag.BAND_DROPPED
    # At z = 0 the model covers the band (2000 Å and more).
    assert fitter.fit(curves, z=0.0).n_dropped_band[0] == 0


def test_results_do_not_depend_on_batch_threads_or_order(fitter: SaltFitter) -> None:
    lights = simulate(40, 33, cadence=5.0) + simulate(10, 34, phases=(-18.0, 0.0))
    z, mwebv = truth(lights, "z"), truth(lights, "mwebv")
    options = FitOptions(model_covariance=True)
    whole = fitter.fit(pack(lights), z=z, mwebv=mwebv, options=options)
    threads = fitter.fit(pack(lights), z=z, mwebv=mwebv, options=options, threads=3)
    order = np.random.default_rng(0).permutation(len(lights))
    mixed = []
    for i in order:
        shuffle = np.random.default_rng(i).permutation(len(lights[i]["time"]))
        mixed.append({name: value[shuffle] for name, value in columns(lights[i]).items()})
    again = fitter.fit(pack(mixed), z=z[order], mwebv=mwebv[order], options=options)
    alone = fitter.fit(pack(lights[7:8]), z=z[7:8], mwebv=mwebv[7:8], options=options)
    for name in ("parameters", "covariance", "chisq", "status", "n_points"):
        value = getattr(whole, name)
        np.testing.assert_array_equal(getattr(threads, name), value)
        np.testing.assert_array_equal(getattr(again, name), value[order])
        np.testing.assert_array_equal(getattr(alone, name), value[7:8])


def test_arrays_that_are_read_only_do_not_compile_the_kernel_again(fitter: SaltFitter) -> None:
    from ampel_spark.salt import batch

    lights = simulate(2, 45)
    curves = pack(lights)
    first = fitter.fit(curves, z=truth(lights, "z"))
    n_compiled = len(batch.fit_range.signatures)
    arrays = {}
    for name in ("offsets", "time", "flux", "fluxerr", "band", "zp", "zpsys"):
        arrays[name] = np.asarray(getattr(curves, name)).copy()
        arrays[name].flags.writeable = False
    z = truth(lights, "z")
    z.flags.writeable = False
    mwebv = np.zeros(4)[::2]
    bounds = {"x1": (np.full(2, -5.0), np.full(2, 5.0))}
    again = fitter.fit(LightCurves(**arrays), z=z, mwebv=mwebv, options=FitOptions(bounds=bounds))
    np.testing.assert_array_equal(again.parameters, first.parameters)
    assert len(batch.fit_range.signatures) == n_compiled == 1


def test_redshift_outside_the_tables_is_an_error_or_a_status(fitter: SaltFitter) -> None:
    lights = simulate(3, 35)
    for bad in (0.3, -0.01, np.nan, 1e9):
        z = np.array([0.05, bad, 0.06])
        with pytest.raises(LightCurveError, match=r"light curve 1.*z_range"):
            fitter.fit(pack(lights), z=z)
        result = fitter.fit(pack(lights), z=z, bad_redshift="status")
        assert result.status[1] == Status.BAD_REDSHIFT
        assert np.isnan(result.value("x1")[1])
        assert result.n_points[1] == 0
        assert result.status[0] >= 0
    options = FitOptions(fit=("z", *NAMES), bounds={"z": (0.01, 0.5)})
    with pytest.raises(LightCurveError, match="bounds of z"):
        fitter.fit(pack(lights), options=options)


def test_unusable_points_are_left_out_and_counted(fitter: SaltFitter) -> None:
    lights = simulate(1, 36)
    values = {"z": truth(lights, "z"), "mwebv": truth(lights, "mwebv")}
    clean = fitter.fit(pack(lights), **values)
    light = columns(lights[0])
    bad = {name: np.concatenate([value, value[:9]]) for name, value in light.items()}
    n = len(light["time"])
    bad["flux"][n : n + 3] = np.nan, np.inf, -np.inf
    bad["fluxerr"][n + 3 : n + 7] = np.nan, 0.0, -1.0, np.inf
    bad["time"][n + 7], bad["zp"][n + 8] = np.nan, np.nan
    result = fitter.fit(pack([bad]), **values)
    assert result.n_bad[0] == 9
    assert result.n_points[0] == n
    assert Flag(int(result.flags[0])) & Flag.BAD_POINTS
    np.testing.assert_array_equal(result.parameters, clean.parameters)


def test_extreme_numbers_do_not_break_a_batch(fitter: SaltFitter) -> None:
    lights = simulate(6, 37)
    z = truth(lights, "z")
    clean = fitter.fit(pack(lights), z=z)
    lights[1]["flux"][3] = 1e300
    lights[2]["fluxerr"][3] = 1e-300
    lights[3]["time"][0] = -1e15
    lights[4]["time"][:] = lights[4]["time"][0]
    lights[5]["flux"][:] = 0.0
    result = fitter.fit(pack(lights), z=z)
    np.testing.assert_array_equal(result.parameters[0], clean.parameters[0])
    assert np.all(result.status >= 0)
    assert np.all(np.isfinite(result.chisq))


def test_repeated_times_count_as_often_as_they_are_there(fitter: SaltFitter) -> None:
    lights = simulate(1, 38)
    values = {"z": truth(lights, "z"), "mwebv": truth(lights, "mwebv")}
    once = fitter.fit(pack(lights), **values)
    double = {name: np.concatenate([v, v]) for name, v in columns(lights[0]).items()}
    twice = fitter.fit(pack([double]), **values)
    assert twice.chisq[0] == pytest.approx(2.0 * once.chisq[0], rel=1e-6)
    np.testing.assert_allclose(twice.errors, once.errors / np.sqrt(2.0), rtol=1e-3)


def test_few_points_are_refused(fitter: SaltFitter) -> None:
    lights = simulate(1, 39)
    for n in (0, 1, 3):
        light = {name: value[:n] for name, value in columns(lights[0]).items()}
        result = fitter.fit(pack([light]), z=0.05)
        assert result.status[0] == Status.TOO_FEW_POINTS
        assert np.isnan(result.chisq[0])
        assert result.ndof[0] == 0
        assert not result.used.any()
    light = {name: value[:1] for name, value in columns(lights[0]).items()}
    one = fitter.fit(pack([light]), z=0.05, t0=light["time"][0], x1=0.0, c=0.0,
                     options=FitOptions(fit=("x0",)))  # fmt: skip
    assert one.ndof[0] == 0
    assert one.chisq[0] == pytest.approx(0.0, abs=1e-9)


def test_no_light_curves_give_no_results(fitter: SaltFitter) -> None:
    assert len(fitter.fit(pack([]), z=np.zeros(0))) == 0


def test_a_million_points_of_one_object(fitter: SaltFitter) -> None:
    light = simulate(1, 40)[0]
    rng = np.random.default_rng(2)
    n = 1_000_000
    model = salt_model()
    model.set(**light["truth"])
    time = light["truth"]["t0"] + rng.uniform(-15.0, 40.0, n)
    grid = np.linspace(time.min(), time.max(), 2000)
    band = rng.integers(0, 2, n).astype(np.int32)
    flux = np.empty(n)
    for k, name in enumerate(BANDS):
        mine = band == k
        flux[mine] = np.interp(time[mine], grid, model.bandflux(name, grid, zp=25.0, zpsys="ab"))
    err = np.full(n, flux.max())
    curves = LightCurves(np.array([0, n]), time, flux + err * rng.normal(size=n), err, band)
    result = fitter.fit(curves, z=light["truth"]["z"], mwebv=light["truth"]["mwebv"])
    assert result.n_points[0] == n
    pull = (result.value("x1")[0] - light["truth"]["x1"]) / result.error("x1")[0]
    assert abs(pull) < 4.0


def test_unknown_bands_are_counted_by_object(fitter: SaltFitter) -> None:
    lights = simulate(1, 41)
    lights[0]["band"] = np.where(lights[0]["band"] == "ztfr", "nosuchband", "ztfg")
    curves = pack(lights)
    result = fitter.fit(curves, z=truth(lights, "z"))
    assert result.n_unknown_band[0] == np.sum(curves.band == -1) > 0
    assert Flag(int(result.flags[0])) & Flag.UNKNOWN_BAND
    np.testing.assert_array_equal(fitter.band_index(["ztfr", "x", "ztfg"]), [1, -1, 0])


def test_covariance_that_is_none_is_refused(fitter: SaltFitter) -> None:
    lights = simulate(1, 42)
    n = len(lights[0]["time"])
    lights[0]["fluxcov"] = -np.eye(n)
    assert fitter.fit(pack(lights), z=truth(lights, "z")).status[0] == Status.BAD_COVARIANCE


def test_diagonal_covariance_is_independent_errors(fitter: SaltFitter) -> None:
    lights = simulate(1, 43)
    values = {"z": truth(lights, "z"), "mwebv": truth(lights, "mwebv")}
    plain = fitter.fit(pack(lights), **values)
    lights[0]["fluxcov"] = np.diag(lights[0]["fluxerr"] ** 2)
    result = fitter.fit(pack(lights), **values)
    np.testing.assert_allclose(result.parameters, plain.parameters, rtol=1e-7)
    np.testing.assert_allclose(result.covariance, plain.covariance, rtol=1e-5)


def test_wrong_use_is_an_error_that_says_so(fitter: SaltFitter, sncosmo_data: Path) -> None:
    lights = simulate(2, 44)
    curves = pack(lights)
    with pytest.raises(LightCurveError, match="z is not fitted"):
        fitter.fit(curves)
    with pytest.raises(LightCurveError, match="c is fitted"):
        fitter.fit(curves, z=0.05, c=0.1)
    with pytest.raises(LightCurveError, match=r"mwebv has shape \(3,\) for 2"):
        fitter.fit(curves, z=0.05, mwebv=np.zeros(3))
    with pytest.raises(LightCurveError, match="band number 7"):
        fitter.fit(LightCurves([0, 1], [0.0], [0.0], [1.0], np.array([7])), z=0.05)
    with pytest.raises(LightCurveError, match="phase_reference"):
        fitter.fit(curves, z=0.05, options=FitOptions(phase_range=(-10, 40), phase_iterative=False))
    with pytest.raises(ConfigError, match="nosuchband"):
        SaltFitter("salt3", ("nosuchband",), version="2.0")
    with pytest.raises(ConfigError, match="version '9'"):
        SaltFitter("salt3", BANDS, version="9")


@pytest.mark.real_data
def test_ztf_supernovae_have_their_published_parameters(
    shared_data: Path, packed_data: Path
) -> None:
    folder = shared_data / "ztf_snia_dr1_open"
    with open(folder / "salt2_params.csv") as lines:
        rows = list(csv.DictReader(lines))
    lights = []
    for row in rows:
        with open(folder / "lightcurves" / f"{row['ztfname']}.csv") as lines:
            points = [p for p in csv.DictReader(lines) if p["band"] in ("p48g", "p48r")]
        lights.append({
            "time": [float(p["time"]) for p in points],
            "band": ["ztf" + p["band"][-1] for p in points],
            "flux": [float(p["flux"]) for p in points],
            "fluxerr": [float(p["flux_err"]) for p in points],
            "zp": [float(p["zp"]) for p in points],
            "zpsys": ["ab"] * len(points),
        })  # fmt: skip
    release = {
        name: np.array([float(row[name]) for row in rows])
        for name in ("z", "t0", "x1", "c", "MWebv", "n_points", "t0_err", "x1_err", "c_err")
    }
    source = sncosmo.SALT2Source(packed_data / "sncosmo_data/models/salt2/salt2-4", name="salt2")
    fitter = SaltFitter(source, BANDS, z_range=(0.0, 0.2), dust_law="CCM89")
    options = FitOptions(
        model_covariance=True,
        snr_cut=3.0,
        phase_range=(-20.0, 50.0),
        phase_frame="observer",
        phase_iterative=False,
        fractional_error_floor=0.02,
        bounds={"x1": (-20.0, 20.0), "c": (-5.0, 5.0)},
    )
    result = fitter.fit(
        pack(lights),
        z=release["z"],
        mwebv=release["MWebv"],
        phase_reference=release["t0"],
        options=options,
    )
    match = result.n_points == release["n_points"]
    assert match.sum() >= 54
    shift = [
        np.abs(result.value(name) - release[name]) / release[name + "_err"]
        for name in ("t0", "x1", "c")
    ]
    assert np.sum(np.all(np.array(shift) < 0.1, axis=0) & match) >= 53
