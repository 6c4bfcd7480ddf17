"""The compiled kernel and the numpy twin are one fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ampel_spark.salt import FitOptions, SaltFitter
from tests.salt.light_curves import pack, simulate, truth

Z = {"z": (0.01, 0.14)}
FREE = ("z", "t0", "x0", "x1", "c")
CASES: dict[str, tuple[FitOptions, dict[str, Any]]] = {
    "four parameters": (FitOptions(), {}),
    "model covariance": (FitOptions(model_covariance=True), {}),
    "free redshift": (FitOptions(fit=FREE, bounds=Z), {"z": None}),
    "free redshift, model covariance": (
        FitOptions(fit=FREE, bounds=Z, model_covariance=True), {"z": None}
    ),
    "prior on redshift": (FitOptions(fit=FREE, priors={"z": (0.07, 0.01)}), {"z": None}),
    "priors": (FitOptions(priors={"x0": (1e-3, 1e-4), "x1": (0.0, 1.0), "c": (0.0, 0.1)}), {}),
    "fixed shape": (FitOptions(fit=("t0", "x0")), {"x1": 0.0, "c": 0.0}),
    "fixed amplitude": (FitOptions(fit=("t0", "x1", "c")), {"x0": 1e-3}),
    "narrow bounds": (FitOptions(bounds={"x1": (-0.2, 0.2), "c": (-0.02, 0.02)}), {}),
    "iterative phases": (FitOptions(phase_range=(-10.0, 20.0), model_covariance=True), {}),
    "floors and cut": (
        FitOptions(error_floor=2.0, fractional_error_floor=0.03, snr_cut=3.0), {}
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_same_answers(case: str, fitter: SaltFitter, twin: SaltFitter) -> None:
    options, given = CASES[case]
    lights = simulate(1, 11) + simulate(1, 12, phases=(-18.0, -1.0), cadence=4.0)
    lights += simulate(1, 14, phases=(-30.0, 65.0), cadence=5.0)
    values = {"z": truth(lights, "z"), "mwebv": truth(lights, "mwebv"), **given}
    ours = fitter.fit(pack(lights), options=options, **values)
    theirs = twin.fit(pack(lights), options=options, **values)
    errors = np.where(theirs.errors > 0.0, theirs.errors, 1.0)
    np.testing.assert_array_equal(ours.status, theirs.status)
    np.testing.assert_array_equal(ours.flags, theirs.flags)
    np.testing.assert_allclose((ours.parameters - theirs.parameters) / errors, 0.0, atol=5e-3)
    np.testing.assert_allclose(ours.chisq, theirs.chisq, atol=1e-3)
    np.testing.assert_allclose(ours.prior_chisq, theirs.prior_chisq, atol=1e-3)
    np.testing.assert_allclose(ours.covariance, theirs.covariance, rtol=1e-2, atol=1e-12)
    for name in ("ndof", "n_points", "n_before", "n_after", "n_cut", "points_by_band", "used"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


def test_same_answers_with_a_covariance_between_points(
    fitter: SaltFitter, twin: SaltFitter
) -> None:
    lights = simulate(2, 13)
    for light in lights:
        n = len(light["time"])
        light["fluxcov"] = np.diag(light["fluxerr"] ** 2) + 30.0 * np.ones((n, n))
    options = FitOptions(model_covariance=True)
    values = {"z": truth(lights, "z"), "mwebv": truth(lights, "mwebv"), "options": options}
    ours, theirs = (engine.fit(pack(lights), **values) for engine in (fitter, twin))
    np.testing.assert_allclose(ours.chisq, theirs.chisq, atol=1e-3)
    np.testing.assert_allclose(ours.parameters, theirs.parameters, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ours.covariance, theirs.covariance, rtol=1e-2, atol=1e-12)


def test_same_minimum_where_the_model_covariance_decides_between_two(
    fitter: SaltFitter, twin: SaltFitter
) -> None:
    # rise only: without the model's errors the lowest minimum is days away from that with them
    lights = simulate(35, 48, phases=(-17.0, 1.0), cadence=4.0, snr=10.0)[-1:]
    values = {"z": truth(lights, "z"), "mwebv": truth(lights, "mwebv")}
    options = FitOptions(model_covariance=True)
    plain = fitter.fit(pack(lights), **values)
    ours, theirs = (
        engine.fit(pack(lights), options=options, **values) for engine in (fitter, twin)
    )
    assert abs(ours.value("t0")[0] - plain.value("t0")[0]) > 3.0
    np.testing.assert_allclose(ours.chisq, theirs.chisq, atol=1e-3)
    np.testing.assert_allclose(ours.parameters, theirs.parameters, rtol=1e-3, atol=1e-3)
