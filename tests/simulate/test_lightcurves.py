"""True light curves, against sncosmo, astropy and theory; measured ones against the truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sncosmo
from scipy.stats import kstest

from ampel_spark.simulate.distances import arcsec_of, by_volume, distance_modulus
from ampel_spark.simulate.kinds import MAKERS
from ampel_spark.simulate.lightcurves import difference_flux, peak_magnitudes, static_flux
from ampel_spark.simulate.objects import KINDS, Sky, blank
from ampel_spark.simulate.photometry import observe
from ampel_spark.simulate.population import make_objects
from tests.simulate.conftest import Packet

BANDS = np.array(["", "ztfg", "ztfr"])


@pytest.fixture(scope="module")
def model() -> sncosmo.Model:
    """SALT3 behind Milky-Way dust, set up here and not by the simulator."""
    return sncosmo.Model(
        sncosmo.get_source("salt3", version="2.0"),
        effects=[sncosmo.CCM89Dust()],
        effect_names=["mw"],
        effect_frames=["obs"],
    )


def set_truth(model: sncosmo.Model, row: pd.Series) -> None:
    names = ("z", "t0", "x0", "x1", "c", "mwebv")
    model.set(**{name: row[name] for name in names}, mwr_v=row["mw_r_v"])


def pulls_of(
    points: pd.DataFrame, truth: pd.DataFrame, model: sncosmo.Model
) -> tuple[np.ndarray, np.ndarray]:
    """Pulls of fluxes from the truth, and the true signal to noise, within the model's phases."""
    pulls, signals = [], []
    for name, group in points.groupby("name"):
        row = truth.loc[name]
        set_truth(model, row)
        group = group[(group["jd"] > model.mintime()) & (group["jd"] < model.maxtime())]
        if group.empty:
            continue
        flux = model.bandflux(BANDS[group["fid"]], group["jd"].to_numpy(), 25.0, "ab")
        pulls.append((group["flux"] - flux) / group["error"])
        signals.append(flux / group["error"])
    return np.concatenate(pulls), np.concatenate(signals)


def test_forced_fluxes_scatter_about_sncosmo_by_their_errors(
    packets: list[Packet], truth: pd.DataFrame, model: sncosmo.Model
) -> None:
    rows = {
        (packet["objectId"], row["jd"]): row | {"name": packet["objectId"]}
        for packet in packets
        for row in packet["fp_hists"] or []
        if row["forcediffimflux"] > -9e4
    }
    points = pd.DataFrame(rows.values())
    points = points[points["name"].map(truth["kind"]) == "snia"]
    scale = 10.0 ** (-0.4 * (points["magzpsci"] - 25.0))
    points["flux"] = points["forcediffimflux"] * scale
    points["error"] = points["forcediffimfluxunc"] * scale
    pulls, _ = pulls_of(points, truth, model)
    assert pulls.size > 100
    assert kstest(pulls, "norm").pvalue > 1e-3
    assert pulls.std() == pytest.approx(1.0, abs=4.0 / np.sqrt(2 * pulls.size))


def test_detections_scatter_about_sncosmo_by_their_errors(
    candidates: pd.DataFrame, truth: pd.DataFrame, model: sncosmo.Model
) -> None:
    points = candidates[candidates["kind"] == "snia"].copy()
    points["flux"] = 10.0 ** (-0.4 * (points["magpsf"] - 25.0))
    points["error"] = points["flux"] * points["sigmapsf"] * np.log(10.0) / 2.5
    pulls, signal = pulls_of(points, truth, model)
    assert pulls.size > 200
    # Near the threshold only upward fluctuations are seen; far above, all.
    safe = pulls[signal > 9.0]
    assert safe.size > 100
    assert kstest(safe, "norm").pvalue > 1e-3
    assert pulls[signal < 5.0].min() > 0.0


def test_supernovae_are_sncosmos_within_its_phases_and_fade_beyond(model: sncosmo.Model) -> None:
    item = blank(1)
    item["kind"] = KINDS.index("snia")
    for name, value in (("z", 0.05), ("t0", 100.0), ("x0", 1e-3), ("x1", 0.5), ("c", 0.1)):
        item[name] = value
    item["ebv"] = 0.2
    jd = np.arange(60.0, 260.0)
    owner = np.zeros(jd.size, np.intp)
    model.set(z=0.05, t0=100.0, x0=1e-3, x1=0.5, c=0.1, mwebv=0.2)
    for fid in (1, 2):
        flux = difference_flux(item, owner, jd, np.full(jd.size, fid), 1)
        inside = (jd >= model.mintime()) & (jd <= model.maxtime())
        expected = model.bandflux(BANDS[fid], jd[inside], 25.0, "ab")
        np.testing.assert_allclose(flux[inside], expected, rtol=1e-12)
        assert (flux[jd < model.mintime()] == 0.0).all()
        late = -2.5 * np.log10(flux[jd > model.maxtime()])
        np.testing.assert_allclose(np.diff(late), 0.014 / 1.05, rtol=1e-9)
        last = model.bandflux(BANDS[fid], model.maxtime(), 25.0, "ab")
        assert flux[jd > model.maxtime()][0] == pytest.approx(last, rel=0.02)


def test_peak_magnitudes_are_sncosmos(truth: pd.DataFrame, model: sncosmo.Model) -> None:
    for _, row in truth[truth["kind"] == "snia"].iterrows():
        set_truth(model, row)
        for band in "gr":
            fine = row["t0"] + np.linspace(-6.0, 6.0, 121) * (1.0 + row["z"])
            peak = model.bandmag(f"ztf{band}", "ab", fine).min()
            assert row[f"peak_mag_{band}"] == pytest.approx(peak, abs=0.01)


def test_the_absolute_magnitude_is_the_models(truth: pd.DataFrame, model: sncosmo.Model) -> None:
    for _, row in truth[truth["kind"] == "snia"].head(5).iterrows():
        set_truth(model, row)
        magnitude = model.source_peakabsmag("bessellb", "ab")
        assert row["abs_mag"] == pytest.approx(magnitude, abs=0.06)


def test_nuclei_walk_as_damped_random_walks_do(sky: Sky) -> None:
    items = blank(4000)
    items["kind"], items["index"] = KINDS.index("agn"), np.arange(4000)
    items["mag_g"] = items["mag_r"] = 18.0
    items["amplitude"], items["period"] = 0.05, 100.0
    jd = np.tile([0.0, 5.0, 50.0, 400.0], 4000)
    flux = difference_flux(items, np.repeat(np.arange(4000), 4), jd, np.ones(jd.size, int), 1)
    # Small amplitudes: magnitudes are -1.086 times relative fluxes, about a reference of its own.
    static = static_flux(items)[0, 0]
    steps = (flux.reshape(4000, 4)[:, 1:] - flux.reshape(4000, 4)[:, :1]) / static * 1.0857
    expected = 0.05 * np.sqrt(2.0 * (1.0 - np.exp(-np.array([5.0, 50.0, 400.0]) / 100.0)))
    np.testing.assert_allclose(steps.std(axis=0), expected, rtol=0.05)


@pytest.mark.parametrize("kind", ["cc", "variable"])
def test_analytic_kinds_are_bounded_and_as_bright_as_they_say(kind: str, sky: Sky) -> None:
    items = make_objects({kind: 60}, sky)
    jd = np.tile(np.arange(2460300.0, 2460600.0, 0.5), items.size)
    owner = np.repeat(np.arange(items.size), jd.size // items.size)
    flux = difference_flux(items, owner, jd, np.full(jd.size, 2), sky.seed).reshape(items.size, -1)
    if kind == "variable":
        static = static_flux(items)[:, 1:]
        assert (flux > -static).all()
        assert (np.abs(flux.mean(axis=1)) < 0.15 * np.abs(flux).max(axis=1)).mean() > 0.5
        return
    before = jd.reshape(items.size, -1) < items["t0"][:, None]
    assert (flux[before] == 0.0).all()
    assert (flux >= 0.0).all()
    peaks = peak_magnitudes(items, sky.seed)[:, 1]
    expected = items["abs_mag"] + distance_modulus(items["z"]) + 2.6 * items["ebv"]
    assert (np.abs(peaks - expected) < 0.15).all()


def test_noise_is_what_it_says_for_all_epochs(sky: Sky) -> None:
    items = make_objects({"snia": 40, "cc": 40, "agn": 40, "variable": 40}, sky)
    seen = observe(items, sky)
    pulls = (seen.flux - seen.truth) / seen.sigma
    assert pulls.size > 5000
    assert kstest(pulls, "norm").pvalue > 1e-3
    assert np.array_equal(seen.detected, np.abs(seen.flux) > 5.0 * seen.sigma)
    empty = seen.truth == 0.0
    limits = 25.0 - 2.5 * np.log10(5.0 * seen.sigma[empty])
    static = static_flux(items)[seen.owner, seen.fid - 1][empty]
    np.testing.assert_allclose(limits[static == 0.0], seen.depth[empty][static == 0.0], rtol=1e-9)
    assert (seen.sigma >= 0.015 * np.abs(seen.truth)).all()


def test_an_object_is_observed_alike_alone_and_in_company(sky: Sky) -> None:
    items = make_objects({"snia": 5, "agn": 5, "bogus": 5}, sky)
    together = observe(items, sky)
    for number in range(items.size):
        alone = observe(items[number : number + 1], sky)
        span = slice(together.bounds[number], together.bounds[number + 1])
        assert np.array_equal(alone.flux, together.flux[span])
        assert np.array_equal(alone.jd, together.jd[span])


def test_distances_are_astropys() -> None:
    from astropy.cosmology import FlatLambdaCDM

    cosmology = FlatLambdaCDM(H0=70.0, Om0=0.3)
    z = np.array([0.004, 0.03, 0.09, 0.4])
    np.testing.assert_allclose(distance_modulus(z), cosmology.distmod(z).value, atol=1e-3)
    kpc = cosmology.kpc_proper_per_arcmin(z).value / 60.0
    np.testing.assert_allclose(arcsec_of(np.ones(4), z), 1.0 / kpc, rtol=1e-3)
    sample = by_volume(0.0151, 0.12, np.linspace(0.0, 1.0, 20001))
    volume = cosmology.comoving_volume([0.0151, 0.08, 0.12]).value
    # Nearly by volume: time runs slower by 1 + z there.
    assert (sample < 0.08).mean() == pytest.approx(
        (volume[1] - volume[0]) / (volume[2] - volume[0]), abs=0.02
    )


def test_every_kind_has_a_maker() -> None:
    assert tuple(MAKERS) == KINDS
