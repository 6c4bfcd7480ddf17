"""The flat LCDM fit: distances of astropy, and what was put into simulated samples comes back."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM

from ampel_spark.errors import LakeError
from ampel_spark.t3.cosmology import DistanceSample, distance_moduli, fit_flat_lcdm

TRUTH = {"om0": 0.3, "alpha": 0.14, "beta": 3.1, "sigma_int": 0.1}


def sample(n: int = 500, seed: int = 1, z_most: float = 1.0) -> DistanceSample:
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.02, z_most, n)
    x1, c = rng.normal(size=n), 0.1 * rng.normal(size=n)
    mu = FlatLambdaCDM(70, TRUTH["om0"]).distmod(z).value - 29.4
    noise = np.hypot(TRUTH["sigma_int"], 0.055 * z)
    mu = mu + np.hypot(noise, 5 * 250 / (299792.458 * z * np.log(10))) * rng.normal(size=n)
    mb = mu - TRUTH["alpha"] * x1 + TRUTH["beta"] * c
    errors = np.array([0.05, 0.3, 0.03])
    values = np.transpose([mb, x1, c]) + errors * rng.normal(size=(n, 3))
    covariance = np.broadcast_to(np.diag(errors**2), (n, 3, 3))
    return DistanceSample(z, values, covariance, np.zeros((0, n, 3)))


@pytest.mark.parametrize("om0", [0.0, 0.3, 1.0])
def test_distances_are_astropy_s(om0: float) -> None:
    z = np.array([0.001, 0.1, 1.0, 2.5])
    assert distance_moduli(z, om0) == pytest.approx(FlatLambdaCDM(70, om0).distmod(z).value, 1e-9)


def test_omega_m_alpha_and_scatter_come_back() -> None:
    pulls = []
    for seed in range(3):
        fit = fit_flat_lcdm(sample(300, seed), alpha=0.16, beta=3.0)
        assert 0.6 < fit.chisq / fit.ndof < 1.4
        assert fit.values["sigma_int"] == pytest.approx(0.1, abs=0.03)
        pulls.append((fit.om0 - 0.3) / (0.5 * (fit.high - fit.low)))
        pulls += [(fit.values[k] - TRUTH[k]) / fit.errors[k] for k in ("alpha", "beta")]
    assert np.max(np.abs(pulls)) < 3.5
    assert 0.4 < np.std(pulls) < 1.8


def test_alpha_and_beta_can_be_fixed() -> None:
    fit = fit_flat_lcdm(sample(), alpha=0.14, beta=3.1, free=False, sigma_int=0.1)
    assert fit.values == {"alpha": 0.14, "beta": 3.1, "sigma_int": 0.1}
    assert fit.low < fit.om0 < fit.high
    assert fit.errors == {}
    assert fit.low < 0.3 < fit.high
    assert "alpha 0.140 (fixed)" in str(fit)


def test_a_systematic_that_grows_with_redshift_widens_omega_m() -> None:
    plain = sample()
    shifts = np.zeros((2, len(plain.z), 3))
    shifts[0, :, 0] = 0.05 * plain.z
    shifts[1, :, 2] = 0.01
    systematic = DistanceSample(plain.z, plain.values, plain.covariance, shifts)
    settings = {"alpha": 0.14, "beta": 3.1, "free": False, "sigma_int": 0.1}
    narrow = fit_flat_lcdm(DistanceSample.without_shifts(systematic), **settings)
    wide = fit_flat_lcdm(systematic, **settings)
    assert wide.high - wide.low > 1.2 * (narrow.high - narrow.low)
    # the second moves all distances together, and that is in M
    common = fit_flat_lcdm(
        DistanceSample(plain.z, plain.values, plain.covariance, shifts[1:]), **settings
    )
    assert common.om0 == pytest.approx(narrow.om0, abs=1e-4)
    assert common.high == pytest.approx(narrow.high, abs=1e-4)


def test_a_nearby_sample_says_that_its_interval_has_no_end() -> None:
    fit = fit_flat_lcdm(sample(40, z_most=0.05), alpha=0.14, beta=3.1, free=False)
    assert fit.high == 1.0
    assert "reaches the end" in str(fit)


def test_too_few_supernovae_are_refused() -> None:
    with pytest.raises(LakeError, match="5 supernovae"):
        fit_flat_lcdm(sample(5), alpha=0.14, beta=3.1)
