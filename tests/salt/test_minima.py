"""The right one of several minima: red, decline-only, late, and seen alert by alert."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ampel_spark.salt import FitOptions, Flag, LightCurves, SaltFitter, Status
from tests.salt.light_curves import pack, salt_model, simulate, truth

RANGE = (-15.0, 45.0)
COLOURS = ((-1.0, 0.0), (0.0, 0.5), (0.5, 2.0))

#: ZTF24afxmceh of the simulated archive: days from its true t0, band, flux and error (zero point
#: 25). A second maximum of a supernova at the edge of the model fits its rise as well.
RISE = np.array([
    (-10.274, 0, 118.952, 19.619), (-8.288, 1, 110.676, 11.718), (-8.227, 0, 133.323, 15.262),
    (-6.335, 1, 145.792, 13.641), (-6.259, 0, 194.140, 11.022), (-4.242, 1, 172.600, 13.508),
    (-4.207, 0, 196.048, 12.283), (-2.345, 0, 209.956, 12.484), (-2.248, 1, 157.649, 15.541),
    (-0.323, 0, 178.484, 26.472), (-0.291, 1, 225.781, 21.278), (1.623, 1, 225.119, 16.591),
    (1.679, 0, 189.200, 15.918), (3.591, 1, 214.485, 14.442), (3.652, 0, 191.679, 13.749),
])  # fmt: skip
RISE_Z, RISE_X1, RISE_EBV = 0.10662691784375072, -0.718, 0.024666


def rise() -> LightCurves:
    time, band, flux, error = RISE.T
    return LightCurves(np.array([0, len(RISE)]), time, flux, error, band.astype(np.int32))


def fading(light: dict[str, Any], rate: float = 0.014, last: float = 45.0) -> dict[str, Any]:
    """Continue a light curve after the phase `last`, from where the supernova fades evenly."""
    true = light["truth"]
    model = salt_model()
    model.set(**true)
    end = true["t0"] + last * (1.0 + true["z"])
    late = light["time"] > end
    days = (light["time"][late] - end) / (1.0 + true["z"])
    there = model.bandflux(light["band"][late], np.full(late.sum(), end), zp=25.0, zpsys="ab")
    before = model.bandflux(light["band"][late], light["time"][late], zp=25.0, zpsys="ab")
    light["flux"][late] += there * 10.0 ** (-0.4 * rate * days) - before
    return light


def values(lights: list[dict[str, Any]]) -> dict[str, Any]:
    return {"z": truth(lights, "z"), "mwebv": truth(lights, "mwebv")}


def inside(curves: LightCurves, parameters: np.ndarray, days: Any, observer: bool) -> np.ndarray:
    """Which points lie in a phase range about their object's t0."""
    n = np.diff(curves.offsets)
    z, t0 = np.repeat(parameters[:, 0], n), np.repeat(parameters[:, 1], n)
    phase = (curves.time - t0) / (1.0 if observer else 1.0 + z)
    return np.asarray((phase > days[0]) & (phase < days[1]))


def lowest(fitter: SaltFitter, lights: list[dict[str, Any]], **options: Any) -> np.ndarray:
    """Least chi-square of fits in windows of t0 and c, which have no other minimum to find."""
    z, times = truth(lights, "z"), [light["time"] for light in lights]
    low = np.array([t.min() for t in times]) - 50.0 * (1.0 + z)
    step = (np.array([t.max() for t in times]) + 20.0 * (1.0 + z) - low) / 24
    best = np.full(len(lights), np.inf)
    for k in range(24):
        for colours in COLOURS:
            bounds = {"t0": (low + k * step, low + (k + 1) * step), "c": colours}
            there = fitter.fit(
                pack(lights), options=FitOptions(bounds=bounds, **options), **values(lights)
            )
            best = np.fmin(best, np.where(there.n_points > 0, there.chisq, np.inf))
    return best


@pytest.mark.parametrize("kind", ["red", "decline"])
def test_no_colour_and_time_fit_better_where_nothing_is_before_the_maximum(
    kind: str, fitter: SaltFitter
) -> None:
    colour = (0.3, 1.0) if kind == "red" else (-0.2, 0.2)
    lights = simulate(60, 51, phases=(8.0, 44.0), cadence=4.0, snr=60.0, c=colour)
    result = fitter.fit(pack(lights), **values(lights))
    assert np.all(result.chisq <= lowest(fitter, lights) + 0.1)
    away = np.abs(result.value("t0") - truth(lights, "t0")) / result.error("t0")
    assert np.all((away < 5.0) | (result.flags & Flag.AMBIGUOUS != 0))


def test_a_rise_is_no_second_maximum_of_a_supernova_at_the_edge_of_the_model(
    fitter: SaltFitter,
) -> None:
    for days in (None, RANGE):
        options = FitOptions(model_covariance=True, phase_range=days)
        result = fitter.fit(rise(), z=RISE_Z, mwebv=RISE_EBV, options=options)
        assert abs(result.value("t0")[0]) < 2.0 * result.error("t0")[0]
        assert abs(result.value("x1")[0] - RISE_X1) < 2.0 * result.error("x1")[0]
        assert result.status[0] == Status.CONVERGED


def test_two_minima_that_are_nearly_as_good_are_both_there(fitter: SaltFitter) -> None:
    # without the model's errors chi-squares of both differ by 0.7
    result = fitter.fit(rise(), z=RISE_Z, mwebv=RISE_EBV, options=FitOptions(phase_range=RANGE))
    assert result.flags[0] & Flag.AMBIGUOUS
    assert result.value("t0")[0] < -40.0
    held = fitter.fit(
        rise(), z=RISE_Z, mwebv=RISE_EBV, options=FitOptions(bounds={"t0": (-5.0, 5.0)})
    )
    np.testing.assert_allclose(result.rival[0, 1], held.value("t0")[0], atol=0.1)
    np.testing.assert_allclose(result.rival[0, 3:], held.parameters[0, 3:], atol=0.1)
    assert result.rival_delta[0] == pytest.approx(held.chisq[0] - result.chisq[0], abs=0.01)
    assert result.cost[0] == result.chisq[0]


def test_a_sure_minimum_has_no_rival(fitter: SaltFitter) -> None:
    lights = simulate(5, 21)
    result = fitter.fit(pack(lights), **values(lights))
    assert not np.any(result.flags & Flag.AMBIGUOUS)
    assert np.isnan(result.rival).all()
    assert np.isnan(result.rival_delta).all()


CASES: dict[str, dict[str, Any]] = {
    "rest frame": {"phase_range": RANGE},
    "observer's frame": {"phase_range": (-20.0, 50.0), "phase_frame": "observer"},
    "model covariance": {"phase_range": RANGE, "model_covariance": True},
    "narrow": {"phase_range": (-5.0, 12.0), "model_covariance": True},
    "free redshift": {
        "phase_range": RANGE, "fit": ("z", "t0", "x0", "x1", "c"), "bounds": {"z": (0.01, 0.14)},
    },
    "one round": {"phase_range": RANGE, "model_covariance": True, "max_rounds": 1},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_points_used_are_those_inside_the_range_about_the_t0_found(
    case: str, fitter: SaltFitter
) -> None:
    options = FitOptions(**CASES[case])
    lights = [fading(x) for x in simulate(40, 52, phases=(-40.0, 110.0), cadence=2.3, snr=15.0)]
    lights += [fading(x) for x in simulate(40, 53, phases=(5.0, 80.0), cadence=5.0, snr=25.0)]
    given = values(lights) | ({"z": None} if "z" in options.fit else {})
    result = fitter.fit(pack(lights), options=options, **given)
    fits = (result.status >= 0) & (result.status != Status.NOT_CONVERGED)
    # few points, few rounds: fewer fits
    assert fits.mean() > {"one round": 0.1, "narrow": 0.6}.get(case, 0.85)
    observer = options.phase_frame == "observer"
    there = inside(pack(lights), result.parameters, options.phase_range, observer)
    good = np.repeat(fits, np.diff(pack(lights).offsets))
    np.testing.assert_array_equal(result.used[good], there[good])


@pytest.mark.parametrize("covariance", [False, True])
def test_a_late_tail_and_years_of_noise_do_not_move_the_maximum(
    covariance: bool, fitter: SaltFitter
) -> None:
    lights = [fading(x) for x in simulate(40, 54, phases=(-700.0, 250.0), cadence=3.0, snr=40.0)]
    options = FitOptions(phase_range=RANGE, model_covariance=covariance)
    result = fitter.fit(pack(lights), options=options, **values(lights))
    pull = (result.value("t0") - truth(lights, "t0")) / result.error("t0")
    assert np.all(np.abs(pull) < 5.0)
    assert np.all(result.status == Status.CONVERGED)
    # what lies in the range alone decides
    ours = result.used
    curves = pack(lights)
    few = LightCurves(
        np.concatenate([[0], np.cumsum(result.n_points)]), curves.time[ours], curves.flux[ours],
        curves.fluxerr[ours], curves.band[ours],
    )  # fmt: skip
    alone = fitter.fit(few, options=FitOptions(model_covariance=covariance), **values(lights))
    shift = np.abs(alone.parameters - result.parameters)[:, 1:] / result.errors[:, 1:]
    assert np.all(shift < 0.1)


@pytest.mark.parametrize("seed", [55, 56])
def test_alert_by_alert_the_maximum_moves_by_no_more_than_its_error(
    seed: int, fitter: SaltFitter
) -> None:
    light = fading(simulate(1, seed, phases=(-12.0, 75.0), cadence=5.0, snr=30.0)[0])
    order = np.argsort(light["time"])
    series = [
        {k: v[order[:n]] if k != "truth" else v for k, v in light.items()}
        for n in range(8, len(order) + 1)
    ]
    options = FitOptions(phase_range=RANGE, model_covariance=True)
    result = fitter.fit(pack(series), options=options, **values(series))
    assert np.all(result.status >= 0)
    moved = np.abs(np.diff(result.value("t0"))) / result.error("t0")[:-1]
    sure = result.n_after[:-1] > 1
    assert sure.sum() > 20
    assert np.all(moved[sure] < 1.0)
    # points after the range say nothing
    same = np.diff(result.n_points) == 0
    assert same.sum() > 5
    assert np.all(moved[same] < 1e-4)
