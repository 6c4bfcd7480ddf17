"""Band fluxes from the tables are sncosmo's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sncosmo

from ampel_spark.errors import ConfigError
from ampel_spark.salt import LightCurves, SaltFitter
from ampel_spark.salt.tables import build_tables
from tests.salt.light_curves import BANDS, salt_model

LAWS = {"F99": sncosmo.F99Dust, "CCM89": sncosmo.CCM89Dust, "O94": sncosmo.OD94Dust}


def fluxes(
    fitter: SaltFitter, model: sncosmo.Model, time: np.ndarray, **dust: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes of the fitter and of sncosmo, over sncosmo's peak."""
    ours, theirs = [], []
    parameters = np.array([[model.get(k) for k in ("z", "t0", "x0", "x1", "c")]])
    for k, band in enumerate(fitter.bands):
        zero = np.zeros(len(time))
        curve = LightCurves(
            np.array([0, len(time)]), time, zero, zero + 1.0, np.full(len(time), k), zp=27.5
        )
        reference = model.bandflux(band, time, zp=27.5, zpsys="ab")
        theirs.append(reference / reference.max())
        ours.append(fitter.predict(curve, parameters, **dust) / reference.max())
    return np.concatenate(ours), np.concatenate(theirs)


@pytest.mark.parametrize("law", LAWS)
def test_band_fluxes_with_dust_are_within_1e_4_of_the_peak(law: str, sncosmo_data: Path) -> None:
    fitter = SaltFitter("salt3", BANDS, version="2.0", z_range=(0.0, 0.2), dust_law=law)
    model = salt_model(dust=LAWS[law]())
    rng = np.random.default_rng(3)
    for _ in range(12):
        z, ebv = rng.uniform(0.0, 0.2), rng.uniform(0.0, 0.6)
        model.set(
            z=z, t0=100.0, x0=2e-4, x1=rng.uniform(-3, 3), c=rng.uniform(-0.3, 1.0), mwebv=ebv
        )
        time = np.sort(100.0 + rng.uniform(-25.0, 55.0, 80) * (1.0 + z))
        ours, theirs = fluxes(fitter, model, time, mwebv=ebv)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_phase_cells_at_both_ends_and_no_flux_beyond(fitter: SaltFitter) -> None:
    model = salt_model()
    model.set(z=0.05, t0=0.0, x0=1.0, x1=0.7, c=0.1)
    phase = np.array([-20.01, -19.99, -19.3, -19.0, -18.5, 48.3, 48.9, 49.0, 49.7, 49.99, 50.01])
    ours, theirs = fluxes(fitter, model, phase * 1.05)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert ours[0] == 0.0
    assert ours[-1] == 0.0


def test_r_v_changes_the_dust(fitter: SaltFitter) -> None:
    model = salt_model(dust=sncosmo.F99Dust(r_v=2.5))
    model.set(z=0.05, t0=0.0, x0=1.0, mwebv=0.4)
    ours, theirs = fluxes(fitter, model, np.linspace(-10.0, 30.0, 9), mwebv=0.4, r_v=2.5)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_twin_and_kernel_give_the_same_flux(fitter: SaltFitter, twin: SaltFitter) -> None:
    rng = np.random.default_rng(8)
    n = 50
    curves = LightCurves(
        np.array([0, n]), rng.uniform(-30.0, 60.0, n), np.zeros(n), np.ones(n),
        rng.integers(0, 2, n), zp=rng.uniform(20.0, 30.0, n),
    )  # fmt: skip
    parameters = np.array([[0.0713, 0.4, 1.3, -0.8, 0.2]])
    ours = fitter.predict(curves, parameters, mwebv=0.1)
    np.testing.assert_allclose(ours, twin.predict(curves, parameters, mwebv=0.1), rtol=1e-11)


def test_all_salt_models_of_the_real_data(packed_data: Path) -> None:
    models = packed_data / "sncosmo_data" / "models"
    sources = [
        sncosmo.SALT2Source(models / "salt2" / "salt2-4", name="salt2"),
        sncosmo.SALT2Source(models / "salt2" / "salt2-k21-frag", name="salt2"),
        sncosmo.SALT3Source(models / "salt3" / "salt3-k21", name="salt3"),
        sncosmo.SALT3Source(models / "salt3-nir" / "salt3nir-p22", name="salt3-nir"),
    ]
    for source in sources:
        fitter = SaltFitter(source, BANDS, z_range=(0.03, 0.06))
        model = sncosmo.Model(source)
        model.set(z=0.0423, t0=0.0, x0=1.0, x1=-1.2, c=0.3)
        ours, theirs = fluxes(fitter, model, np.linspace(-20.0, 51.0, 60))
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_shifted_band_is_sncosmos_band_moved_in_wavelength(sncosmo_data: Path) -> None:
    shifts = {"ztfr": 12.0}
    fitter = SaltFitter("salt3", BANDS, version="2.0", z_range=(0.04, 0.06), band_shifts=shifts)
    plain = sncosmo.get_bandpass("ztfr")
    moved = sncosmo.Bandpass(plain.wave + 12.0, plain.trans, name="moved")
    model = salt_model()
    model.set(z=0.05, t0=0.0, x0=1.0, x1=0.4, c=0.2, mwebv=0.2)
    time = np.linspace(-10.0, 30.0, 9)
    parameters = np.array([[0.05, 0.0, 1.0, 0.4, 0.2]])
    unmoved = SaltFitter("salt3", BANDS, version="2.0", z_range=(0.04, 0.06))
    for k, band in enumerate(("ztfg", moved)):
        curve = LightCurves([0, 9], time, time, np.ones(9), np.full(9, k))
        ours = fitter.predict(curve, parameters, mwebv=0.2)
        theirs = model.bandflux(band, time, zp=25.0, zpsys="ab")
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.max())
        before = unmoved.predict(curve, parameters, mwebv=0.2)
        # What was not moved is the same to the bit; what was differs by more than any rounding.
        assert np.array_equal(before, ours) == (band == "ztfg")
        if band is moved:
            assert np.abs(ours / before - 1.0).max() > 1e-3
    with pytest.raises(ConfigError, match=r"'ztfq' is not fitted.*ztfr"):
        SaltFitter("salt3", BANDS, version="2.0", band_shifts={"ztfq": 1.0})
    with pytest.raises(ConfigError, match="zero or less"):
        SaltFitter("salt3", BANDS, version="2.0", band_shifts={"ztfg": -9000.0})


def test_system_of_offsets_keeps_those_of_a_shifted_band(sncosmo_data: Path) -> None:
    system = sncosmo.CompositeMagSystem(bands={"ztfg": ("ab", 0.1)}, name="offsets")
    light = LightCurves([0, 1], [0.0], [0.0], [1.0], np.array([0]), zpsys=0)
    parameters = np.array([[0.05, 0.0, 1.0, 0.0, 0.0]])
    flux = [
        SaltFitter(
            "salt3", ("ztfg",), version="2.0", z_range=(0.05, 0.05), systems=(name,),
            band_shifts={"ztfg": 10.0},
        ).predict(light, parameters)[0]
        for name in ("ab", system)
    ]  # fmt: skip
    # The system's zero is brighter by 0.1 mag.
    assert flux[1] / flux[0] == pytest.approx(10.0 ** (-0.4 * 0.1), rel=1e-6)


def test_only_salt_models_have_tables(sncosmo_data: Path) -> None:
    flat = sncosmo.TimeSeriesSource(
        np.linspace(0.0, 50.0, 51), np.linspace(2000.0, 9000.0, 71), np.ones((51, 71)), name="flat"
    )
    with pytest.raises(ConfigError, match=r"flat.*fit_lc"):
        build_tables(flat, [], (0.0, 0.1))


def test_an_empty_redshift_range_is_an_error(sncosmo_data: Path) -> None:
    with pytest.raises(ConfigError, match="z_range"):
        SaltFitter("salt3", BANDS, version="2.0", z_range=(0.2, 0.1))
