"""Template fits find sncosmo's minima, the truth, and the right template."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sncosmo

from ampel_spark.errors import ConfigError
from ampel_spark.salt import LightCurveError, LightCurves
from ampel_spark.templates import TemplateFitter

BANDS = ("ztfg", "ztfr")
PHASE = {"slow": np.arange(-20.0, 81.0, 2.0), "fast": np.r_[-6.0:4.0:0.5, 4.0:30.5:1.5]}
WAVE = np.linspace(2500.0, 10000.0, 151)


def source(name: str, **options: Any) -> sncosmo.TimeSeriesSource:
    """A supernova in memory: slow (or fast), and redder with time."""
    phase = PHASE["fast" if name.startswith("fast") else "slow"]
    rise, fall, red = {"slow": (8.0, 30.0, 0.02), "slow2": (8.0, 45.0, 0.005),
                       "fast": (1.5, 6.0, 0.06)}[name]  # fmt: skip
    p = phase[:, None]
    light = np.where(p < 0, np.exp(-0.5 * (p / rise) ** 2), np.exp(-p / fall))
    lines = 1.0 + 0.3 * np.sin(WAVE / 130.0)
    colour = np.exp(-(0.3 + red * p) * (5000.0 / WAVE - 1.0))
    return sncosmo.TimeSeriesSource(
        phase, WAVE, 1e-15 * light * lines * colour, name=name, **options
    )


SOURCES = tuple(source(name) for name in ("slow", "slow2", "fast"))


def model(which: sncosmo.Source) -> sncosmo.Model:
    return sncosmo.Model(which, [sncosmo.F99Dust()], ["mw"], ["obs"])


def simulate(n: int, seed: int, snr: float = 30.0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    lights = []
    for k in range(n):
        which = SOURCES[k % len(SOURCES)]
        true = {"z": rng.uniform(0.01, 0.15), "t0": 58000.0 + rng.uniform(0.0, 30.0),
                "amplitude": rng.uniform(0.5, 2.0), "mwebv": rng.uniform(0.0, 0.3)}  # fmt: skip
        there = model(which)
        there.set(**true)
        span = (-5.0, 20.0) if which.name == "fast" else (-15.0, 60.0)
        low, high = (true["t0"] + p * (1.0 + true["z"]) for p in span)
        time = np.sort(rng.uniform(low, high, 30))
        band = np.array(BANDS)[rng.integers(0, 2, 30)]
        flux = there.bandflux(band, time, 25.0, "ab")
        error = np.full(30, flux.max() / snr)
        lights.append({"time": time, "band": band, "flux": flux + error * rng.normal(size=30),
                       "fluxerr": error, "zp": np.full(30, 25.0), "zpsys": np.full(30, "ab"),
                       "truth": {**true, "template": which.name}})  # fmt: skip
    return lights


def pack(lights: list[dict[str, Any]]) -> LightCurves:
    return LightCurves.from_tables(lights, BANDS)


def truth(lights: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([light["truth"][name] for light in lights])


@pytest.fixture(scope="module")
def fitter() -> TemplateFitter:
    return TemplateFitter(SOURCES, BANDS, z_range=(0.0, 0.2))


def sncosmos(light: dict[str, Any], which: sncosmo.Source, free: bool, start: float) -> Any:
    there = model(which)
    there.set(z=light["truth"]["z"], mwebv=light["truth"]["mwebv"], t0=start)
    there.set(amplitude=light["truth"]["amplitude"])
    names = ["z", "t0", "amplitude"] if free else ["t0", "amplitude"]
    data = {k: v for k, v in light.items() if k != "truth"}
    first = light["time"].min() - 90.0, light["time"].max() + 25.0
    bounds = {"t0": first, "amplitude": (0.0, 1e3), "z": (0.005, 0.19)}
    return sncosmo.fit_lc(
        data, there, names, bounds={k: bounds[k] for k in names}, guess_amplitude=False,
        guess_t0=False, guess_z=False,
    )  # fmt: skip


@pytest.mark.parametrize("free", [False, True], ids=["z held", "z free"])
def test_no_fit_of_sncosmo_from_any_start_is_better(free: bool, fitter: TemplateFitter) -> None:
    lights = simulate(3, 1)
    z = (0.005, 0.19) if free else truth(lights, "z")
    result = fitter.fit(pack(lights), z=z, mwebv=truth(lights, "mwebv"))
    for i, light in enumerate(lights):
        for t, which in enumerate(SOURCES):
            starts = light["truth"]["t0"] + np.array([-20.0, 0.0, 20.0])
            fits = [sncosmos(light, which, free, start) for start in starts]
            theirs, there = min(fits, key=lambda fit: fit[0].chisq)
            assert result.chisq[i, t] < theirs.chisq + 0.05
            if which.name != light["truth"]["template"] or result.chisq[i, t] < theirs.chisq - 0.05:
                continue
            # Where the data do not hold the redshift, second derivatives say little.
            if theirs.errors.get("z", 0.0) > 0.02:
                continue
            for k, name in enumerate(("z", "t0", "amplitude")):
                if name in theirs.errors:
                    error = theirs.errors[name]
                    assert abs(result.parameters[i, t, k] - there.get(name)) < 0.1 * error
                    assert result.errors[i, t, k] == pytest.approx(error, rel=0.3)


def test_flux_is_sncosmos(fitter: TemplateFitter) -> None:
    # Noise-free light curves at a redshift between nodes, behind much dust: chi-square is zero.
    for k in range(3):
        light = simulate(3, 2)[k]
        light["truth"]["mwebv"] = 0.5
        there = model(SOURCES[k])
        there.set(**{k: v for k, v in light["truth"].items() if k != "template"})
        light["time"] = light["truth"]["t0"] + np.linspace(-40.0, 120.0, 30)
        light["flux"] = there.bandflux(light["band"], light["time"], 25.0, "ab")
        light["fluxerr"] = np.full(30, light["flux"].max() / 1000.0)
        result = fitter.fit(pack([light]), z=light["truth"]["z"], mwebv=0.5)
        assert result.chisq[0, k] < 0.3
        assert result.parameters[0, k, 1] == pytest.approx(light["truth"]["t0"], abs=0.01)
        assert result.parameters[0, k, 2] == pytest.approx(light["truth"]["amplitude"], rel=1e-3)


def test_pulls_and_the_right_template(fitter: TemplateFitter) -> None:
    lights = simulate(600, 3, snr=10.0)
    result = fitter.fit(pack(lights), z=truth(lights, "z"), mwebv=truth(lights, "mwebv"))
    right = np.array([result.templates.index(name) for name in truth(lights, "template")])
    rows = np.arange(len(lights))
    for k, name in ((1, "t0"), (2, "amplitude")):
        shift = result.parameters[rows, right, k] - truth(lights, name)
        pull = shift / result.errors[rows, right, k]
        assert abs(np.mean(pull)) < 4.0 / np.sqrt(600)
        assert np.std(pull) == pytest.approx(1.0, abs=0.15)
    assert np.mean(result.chisq[rows, right] / result.ndof) == pytest.approx(1.0, abs=0.05)
    # probabilities are what they say: as many are right as they promise
    posterior = result.posterior()
    np.testing.assert_allclose(posterior.sum(axis=1), 1.0)
    promised = posterior.max(axis=1)
    assert np.mean(result.best == right) == pytest.approx(promised.mean(), abs=0.05)


def test_lines_between_phases_and_no_flux_before_the_first() -> None:
    for options in ({"time_spline_degree": 1}, {"zero_before": True}):
        which = source("slow", **options)
        there = sncosmo.Model(which)
        there.set(z=0.05, t0=58010.0, amplitude=1.0)
        time = np.linspace(57970.0, 58090.0, 60)
        band = np.tile(BANDS, 30)
        flux = there.bandflux(band, time, 25.0, "ab")
        curves = LightCurves(
            np.array([0, 60]), time, flux, np.full(60, flux.max() / 300.0),
            np.tile([0, 1], 30).astype(np.int32),
        )  # fmt: skip
        result = TemplateFitter([which], BANDS, z_range=(0.04, 0.06)).fit(curves, z=0.05)
        assert result.chisq[0, 0] < 0.1
        assert result.parameters[0, 0, 1] == pytest.approx(58010.0, abs=0.05)


def test_results_do_not_depend_on_batch_order_or_threads(fitter: TemplateFitter) -> None:
    lights = simulate(80, 4, snr=8.0)
    z, mwebv = truth(lights, "z"), truth(lights, "mwebv")
    whole = fitter.fit(pack(lights), z=z, mwebv=mwebv)
    threads = fitter.fit(pack(lights), z=z, mwebv=mwebv, threads=2)
    order = np.random.default_rng(0).permutation(len(lights))
    mixed = []
    for i in order:
        shuffle = np.random.default_rng(i).permutation(len(lights[i]["time"]))
        mixed.append({k: v[shuffle] for k, v in lights[i].items() if k != "truth"})
    again = fitter.fit(pack(mixed), z=z[order], mwebv=mwebv[order])
    for name in ("chisq", "parameters", "errors", "log_evidence"):
        value = getattr(whole, name)
        np.testing.assert_array_equal(getattr(threads, name), value)
        np.testing.assert_array_equal(getattr(again, name), value[order])


def test_points_that_cannot_be_used_are_left_out(fitter: TemplateFitter) -> None:
    light = simulate(1, 5)[0]
    z, mwebv = light["truth"]["z"], light["truth"]["mwebv"]
    clean = fitter.fit(pack([light]), z=z, mwebv=mwebv)
    bad = {k: np.concatenate([v, v[:4]]) for k, v in light.items() if k != "truth"}
    bad["flux"][30], bad["fluxerr"][31], bad["time"][32] = np.nan, 0.0, np.inf
    bad["band"] = bad["band"].astype("<U9")
    bad["band"][33] = "elsewhere"
    result = fitter.fit(pack([bad]), z=z, mwebv=mwebv)
    np.testing.assert_array_equal(result.chisq, clean.chisq)
    assert result.n_points[0] == 30
    few = fitter.fit(pack([{k: v[:2] for k, v in light.items() if k != "truth"}]), z=z)
    assert np.isnan(few.chisq).all()
    assert few.best[0] == -1


def test_all_templates_are_fitted_to_the_same_points() -> None:
    blue = sncosmo.TimeSeriesSource(
        PHASE["slow"], WAVE[WAVE < 6300.0], SOURCES[0]._model_flux(
            PHASE["slow"], WAVE[WAVE < 6300.0]
        ), name="blue",
    )  # fmt: skip
    light = simulate(1, 6)[0]
    result = TemplateFitter([SOURCES[0], blue], BANDS).fit(pack([light]), z=light["truth"]["z"])
    assert result.n_points[0] == np.sum(light["band"] == "ztfg")
    assert result.chisq[0, 0] == pytest.approx(result.chisq[0, 1], abs=1e-3)


def test_what_is_no_template_is_refused(fitter: TemplateFitter, sncosmo_data: Any) -> None:
    with pytest.raises(ConfigError, match="not a TimeSeriesSource"):
        TemplateFitter([sncosmo.get_source("salt3", version="2.0")], BANDS)
    with pytest.raises(ConfigError, match="each needs a name of its own"):
        TemplateFitter([SOURCES[0], SOURCES[0]], BANDS)
    with pytest.raises(ConfigError, match="at least one template"):
        TemplateFitter([], BANDS)
    with pytest.raises(LightCurveError, match="z: give redshifts"):
        fitter.fit(pack(simulate(1, 7)), z=0.5)
