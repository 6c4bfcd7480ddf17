"""Evidence for normal and for lensed supernovae, held to sncosmo and to plain integrals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import sncosmo
from astropy.cosmology import FlatLambdaCDM
from scipy.integrate import quad
from scipy.interpolate import CubicSpline
from scipy.optimize import least_squares
from scipy.stats import norm

from ampel_spark.errors import ConfigError
from ampel_spark.lensing import LensFitter, LensOptions
from ampel_spark.lensing.kernel import CHISQ, COLOUR, LIKELIHOOD, MAG, MAG_VAR, STRETCH, T0
from ampel_spark.salt import LightCurves
from ampel_spark.salt.photometry import LightCurveError
from ampel_spark.t2.fits import models

COSMOLOGY = FlatLambdaCDM(70.0, 0.3)
MAXIMUM, N = 58500.0, 30
EBV = 0.05


@pytest.fixture(scope="module")
def fitter() -> LensFitter:
    source = models.source("salt3/2.0")
    return LensFitter(source, [models.bandpass(b)[0] for b in ("ztfg", "ztfr")])


def seen(objects: list[tuple[float, float]], seed: int = 1) -> LightCurves:
    """Light curves of supernovae of redshifts and absolute magnitudes, S/N 30 at most."""
    rng = np.random.default_rng(seed)
    model = models.model("salt3/2.0", "F99")
    bands = [models.bandpass(b)[0] for b in ("ztfg", "ztfr")]
    band = np.arange(N) % 2
    columns: dict[str, list[np.ndarray]] = {"time": [], "flux": [], "fluxerr": []}
    for z, mag in objects:
        model.set(z=z, t0=MAXIMUM, x1=rng.normal(0, 0.8), c=rng.normal(0, 0.06), mwebv=EBV)
        mag += -0.14 * model.get("x1") + 3.1 * model.get("c")
        model.set_source_peakabsmag(mag, "bessellb", "ab", cosmo=COSMOLOGY)
        # The magnitude is that of x1 = c = 0.
        source = models.source("salt3/2.0")
        zero = sncosmo.Model(source)
        zero.set(x0=1.0, x1=0.0, c=0.0)
        m_b = mag + COSMOLOGY.distmod(z).value
        model.set(x0=10.0 ** (-0.4 * (m_b - zero.source_peakmag("bessellb", "ab"))))
        time = np.sort(MAXIMUM + rng.uniform(-12, 30, N) * (1 + z))
        flux = model.bandflux([bands[i] for i in band], time, 25.0, "ab")
        error = np.hypot(0.03 * flux, flux.max() / 40.0)
        columns["time"].append(time)
        columns["flux"].append(flux + error * rng.normal(size=N))
        columns["fluxerr"].append(error)
    offsets = N * np.arange(len(objects) + 1)
    flat = {k: np.concatenate(v) for k, v in columns.items()}
    return LightCurves(offsets, band=np.tile(band, len(objects)).astype(np.int32), **flat)


@pytest.mark.parametrize(("i", "k"), [(0, 5), (1, 18)])
def test_profiles_have_the_minima_that_sncosmo_and_scipy_find(
    fitter: LensFitter, i: int, k: int
) -> None:
    curves = seen([(0.1, -19.25), (0.35, -22.0)])
    result = fitter.fit(curves, z=0.1, sigma=0.001, mwebv=EBV)
    options = fitter.options
    model = models.model("salt3/2.0", "F99")
    bands = [models.bandpass(b)[0] for b in ("ztfg", "ztfr")]
    span = slice(N * i, N * (i + 1))
    z, band = float(result.nodes[k]), curves.band[span]
    model.set(z=z, mwebv=EBV)
    scatter = np.array([model.source._colordisp(b.wave_eff / (1 + z)) for b in bands])
    spread = np.hypot(options.error_fraction, scatter.ravel())[band]
    error = np.hypot(curves.fluxerr[span], spread * curves.flux[span])
    where = [bands[b] for b in band]

    def pulls(p: np.ndarray) -> np.ndarray:
        model.set(t0=MAXIMUM + p[0], x0=np.exp(p[1]), x1=p[2], c=p[3])
        off = (curves.flux[span] - model.bandflux(where, curves.time[span], 25.0, "ab")) / error
        mean, blue, red = options.c
        wide = red if p[3] > mean else blue
        priors = (p[2] - options.x1[0]) / options.x1[1], (p[3] - mean) / wide
        return np.append(off, priors)

    profile = result.profiles[i, :, k]
    ln_x0 = -0.4 * np.log(10.0) * (profile[MAG] - fitter.zero_mag)
    best = least_squares(pulls, [0.0, ln_x0, 0.0, 0.0], x_scale=[1.0, 0.1, 1.0, 0.1])
    assert profile[CHISQ] == pytest.approx(2.0 * best.cost, abs=0.1)
    assert profile[T0] - MAXIMUM == pytest.approx(best.x[0], abs=0.1)
    assert profile[STRETCH] == pytest.approx(best.x[2], abs=0.05)
    assert profile[COLOUR] == pytest.approx(best.x[3], abs=0.01)
    mag = fitter.zero_mag - 2.5 / np.log(10) * best.x[1] + 0.14 * best.x[2] - 3.1 * best.x[3]
    assert profile[MAG] == pytest.approx(mag, abs=0.02)


def test_evidence_is_the_integral_of_the_profile_over_the_priors(fitter: LensFitter) -> None:
    z_cat, sigma = 0.2, 0.02
    result = fitter.fit(seen([(0.35, -22.0)]), z=z_cat, sigma=sigma, mwebv=EBV)
    o, profile = fitter.options, result.profiles[0]
    z = np.geomspace(0.005, fitter.z_max - 0.03, 4000)
    known = CubicSpline(result.nodes, profile[LIKELIHOOD])(z)
    mag = CubicSpline(result.nodes, profile[MAG])(z)
    width = np.sqrt(np.interp(z, result.nodes, profile[MAG_VAR]) + o.scatter**2)
    excess = o.absmag + COSMOLOGY.distmod(z).value - mag
    wide = o.outlier_width * (1 + z_cat)
    step = np.gradient(z)
    prior = 0.93 * norm.pdf(z, z_cat, sigma) + 0.04 * norm.pdf(z, z_cat, wide)
    prior += 0.03 * np.interp(z, fitter.grid, fitter.volume_prior)
    terms = np.log(np.maximum(prior * step, 1e-300)) + known + norm.logpdf(excess, 0.0, width)
    assert result.ln_normal[0] == pytest.approx(np.logaddexp.reduce(terms), abs=0.05)

    rate = o.slope * np.log(10.0)
    bright = np.array([
        quad(lambda d, e=e, w=w: rate * np.exp(-rate * (d - o.start)) * norm.pdf(e, d, w),
             o.start, 12.0, points=[max(e, o.start)])[0]
        for e, w in zip(excess[::50], width[::50], strict=True)
    ])  # fmt: skip
    bright = np.interp(z, z[::50], np.log(np.maximum(bright, 1e-300)))
    before = 0.93 * norm.cdf(z - o.behind, z_cat, sigma) + 0.04 * norm.cdf(
        z - o.behind, z_cat, wide
    )
    before += 0.03 * np.minimum(np.cumsum(np.interp(z, fitter.grid, fitter.volume_prior) * step), 1)
    source = np.interp(z, fitter.grid, fitter.source_prior)
    lensed = np.log(np.maximum(source * before * step, 1e-300)) + known + bright
    assert result.ln_lensed[0] == pytest.approx(np.logaddexp.reduce(lensed), abs=0.1)


def test_magnified_supernovae_stand_apart_from_normal_ones(fitter: LensFitter) -> None:
    rng = np.random.default_rng(5)
    normal = [(z, rng.normal(-19.25, 0.12)) for z in rng.uniform(0.03, 0.2, 30)]
    lensed = [(z, rng.normal(-22.0, 0.3)) for z in rng.uniform(0.3, 0.6, 30)]
    plain = fitter.fit(seen(normal), z=[z for z, _ in normal], sigma=0.001, mwebv=EBV)
    assert (plain.ln_bayes < 0).all()
    assert np.abs(plain.z_free - [z for z, _ in normal]).mean() < 0.05
    bright = fitter.fit(seen(lensed), z=[z / 2 for z, _ in lensed], sigma=0.001, mwebv=EBV)
    assert (bright.ln_bayes > 10).mean() > 0.9
    off = bright.z_lensed - [z for z, _ in lensed]
    assert np.median(np.abs(off)) < 0.05
    assert np.median(bright.magnification) == pytest.approx(2.75, abs=0.3)
    assert (bright.ln_lensed > bright.ln_other).mean() > 0.8


def test_what_the_redshift_is_uncertain_by_counts(fitter: LensFitter) -> None:
    curves = seen([(0.12, -19.25)])
    exact = fitter.fit(curves, z=0.09, sigma=0.0003, mwebv=EBV)
    vague = fitter.fit(curves, z=0.09, sigma=0.03, mwebv=EBV)
    assert vague.ln_bayes[0] < exact.ln_bayes[0]


def test_results_do_not_depend_on_order_or_on_the_rest_of_the_batch(fitter: LensFitter) -> None:
    objects = [(0.1, -19.25), (0.4, -22.0), (0.2, -21.0), (0.05, -17.0)]
    curves = seen(objects)
    z = np.array([0.1, 0.2, 0.1, 0.05])
    whole = fitter.fit(curves, z=z, sigma=0.01, mwebv=EBV)
    rng = np.random.default_rng(2)
    for i in range(len(objects)):
        at = N * i + rng.permutation(N)
        alone = LightCurves(
            np.array([0, N]), curves.time[at], curves.flux[at], curves.fluxerr[at], curves.band[at]
        )
        one = fitter.fit(alone, z=z[i], sigma=0.01, mwebv=EBV)
        for name in ("ln_normal", "ln_lensed", "ln_other", "z_lensed", "z_free", "chisq"):
            assert getattr(one, name)[0] == getattr(whole, name)[i], name


def test_images_without_delay_are_one_image(fitter: LensFitter) -> None:
    curves = seen([(0.4, -22.0)])
    one = fitter.fit(curves, z=0.2, sigma=0.001, mwebv=EBV)
    fitter.options = dataclasses.replace(fitter.options, images=((0.0, 0.4),))
    try:
        two = fitter.fit(curves, z=0.2, sigma=0.001, mwebv=EBV)
    finally:
        fitter.options = LensOptions()
    assert two.ln_lensed[0] == pytest.approx(one.ln_lensed[0], abs=1e-6)


def test_points_that_cannot_be_used_and_objects_without_redshift(fitter: LensFitter) -> None:
    curves = seen([(0.1, -19.25)])
    more = LightCurves(
        np.array([0, N + 4]),
        np.append(curves.time, [MAXIMUM, np.nan, MAXIMUM, MAXIMUM]),
        np.append(curves.flux, [np.nan, 1.0, 1e9, 1e9]),
        np.append(curves.fluxerr, [1.0, 1.0, 0.0, 1.0]),
        np.append(curves.band, [0, 0, 0, -1]).astype(np.int32),
    )
    plain = fitter.fit(curves, z=0.1, sigma=0.001, mwebv=EBV)
    assert fitter.fit(more, z=0.1, sigma=0.001, mwebv=EBV).ln_normal[0] == plain.ln_normal[0]
    for z in (np.nan, -1.0, 1.05):
        assert np.isnan(fitter.fit(curves, z=z, sigma=0.001).ln_bayes).all()
    dark = dataclasses.replace(curves, flux=-curves.flux)
    assert np.isnan(fitter.fit(dark, z=0.1, sigma=0.001).ln_bayes).all()
    with pytest.raises(LightCurveError, match="band number 7"):
        fitter.fit(dataclasses.replace(curves, band=np.full(N, 7, np.int32)), z=0.1, sigma=0.1)
    with pytest.raises(ConfigError, match="z_max"):
        LensFitter(models.source("salt3/2.0"), [models.bandpass("ztfg")[0]], z_max=9.0)
