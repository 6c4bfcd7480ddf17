"""Speed and minima of the template engine, against sncosmo.fit_lc on the same data.

    python benchmarks/template_fit.py            25 templates of sncosmo's data folder, 1000 objects
    python benchmarks/template_fit.py --quick    fewer of both

CPU times on one core, BLAS with one thread. fit_lc starts at the engine's t0 and at its own guess;
the better of both counts, and the time is that of one fit.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when numpy is loaded)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import time
import warnings
from typing import Any

import numpy as np
import sncosmo

from ampel_spark.salt import LightCurves
from ampel_spark.t2.fits import models
from ampel_spark.t2.fits.templates import named_templates
from ampel_spark.templates import TemplateFitter, TemplateResult

BANDS = ("ztfg", "ztfr")
Light = dict[str, Any]


def model(source: Any) -> sncosmo.Model:
    """A template behind the Milky Way's dust."""
    return sncosmo.Model(source, [sncosmo.F99Dust()], ["mw"], ["obs"])


def simulate(n: int, sources: list[Any], seed: int = 5) -> list[Light]:
    """Light curves of 35 points of the templates in turn, peak S/N 10 to 50."""
    rng = np.random.default_rng(seed)
    out: list[Light] = []
    while len(out) < n:
        source = sources[len(out) % len(sources)]
        z, ebv = rng.uniform(0.02, 0.1), min(rng.exponential(0.05), 0.3)
        there = model(source)
        there.set(z=z, t0=58000.0, amplitude=1.0, mwebv=ebv)
        days = np.arange(source.minphase(), min(source.maxphase(), source.minphase() + 150.0))
        grid = there.bandflux("ztfr", 58000.0 + days * (1.0 + z), 25.0, "ab")
        peak = 58000.0 + days[np.argmax(grid)] * (1.0 + z)
        time_ = np.sort(peak + rng.uniform(-15.0, 60.0, 35) * (1.0 + z))
        band = np.array(BANDS)[rng.integers(0, 2, 35)]
        there.set(amplitude=1000.0 / grid.max())
        flux = there.bandflux(band, time_, 25.0, "ab")
        error = np.full(35, 1000.0 / np.exp(rng.uniform(np.log(10.0), np.log(50.0))))
        out.append({
            "time": time_, "band": band, "flux": flux + error * rng.normal(size=35),
            "fluxerr": error, "zp": np.full(35, 25.0), "zpsys": np.full(35, "ab"),
            "truth": {"z": z, "mwebv": ebv, "template": source.name},
        })  # fmt: skip
    return out


def theirs(light: Light, source: Any, free: bool, start: tuple[float, ...]) -> tuple[float, float]:
    """CPU ms of one fit of fit_lc, and the lower chi-square of two."""
    data = {k: v for k, v in light.items() if k != "truth"}
    names = ["z", "t0", "amplitude"] if free else ["t0", "amplitude"]
    bounds = {"z": (0.005, 0.15)} if free else {}
    lowest, took = np.inf, np.nan
    for guess in (True, False):
        there = model(source)
        there.set(z=start[0], t0=start[1], amplitude=max(start[2], 1e-30))
        there.set(mwebv=light["truth"]["mwebv"])
        begin = time.process_time()
        try:
            result, _ = sncosmo.fit_lc(
                data, there, names, bounds=bounds, guess_amplitude=guess, guess_t0=guess,
                guess_z=guess,
            )  # fmt: skip
        except (RuntimeError, sncosmo.fitting.DataQualityError):
            continue
        if guess:
            took = 1e3 * (time.process_time() - begin)
        lowest = min(lowest, result.chisq)
    return took, lowest


def measure(fitter: TemplateFitter, sources: list[Any], lights: list[Light], free: bool,
            n_slow: int) -> None:  # fmt: skip
    """Print one line of the table."""
    curves = LightCurves.from_tables(lights, BANDS)
    z = np.array([light["truth"]["z"] for light in lights])
    mwebv = np.array([light["truth"]["mwebv"] for light in lights])
    names = np.array([light["truth"]["template"] for light in lights])

    def fit() -> TemplateResult:
        return fitter.fit(curves, z=(0.005, 0.15) if free else z, mwebv=mwebv)

    fit()
    begin = time.process_time()
    result = fit()
    ours = 1e3 * (time.process_time() - begin) / (len(lights) * len(sources))
    slow, delta = [], []
    rng = np.random.default_rng(1)
    for _ in range(n_slow):
        i, t = int(rng.integers(len(lights))), int(rng.integers(len(sources)))
        light = dict(lights[i])
        start = result.parameters[i, t]
        took, chisq = theirs(light, sources[t], free, tuple(start))
        if np.isfinite(took) and np.isfinite(result.chisq[i, t]):
            slow.append(took)
            delta.append(result.chisq[i, t] - chisq)
    d = np.array(delta)
    best = np.array([name.split("/")[0] for name in result.templates], object)[result.best]
    print(
        f"| {'free' if free else 'held'} | {len(sources)} | {len(lights)} | "
        f"{np.median(slow):.1f} | "
        f"{1e3 * ours:.1f} | {np.median(slow) / ours:.0f} | {len(d)} | "
        f"{np.mean(np.abs(d) < 0.1):.1%} | {np.mean(d <= -0.1):.1%} | {np.mean(d >= 0.1):.1%} | "
        f"{d.max():.3g} | {np.mean(best == names):.1%} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    names = named_templates(["s11-*", "snana-*", "v19-*", "hsiao/3.0"])
    sources = [models.source(name) for name in names]
    covered = [s for s in sources if s.minwave() * 1.15 < 3600.0 and s.maxwave() > 7500.0]
    sources = covered[: 5 if asked.quick else 25]
    fitter = TemplateFitter(sources, BANDS, z_range=(0.0, 0.15))
    lights = simulate(50 if asked.quick else 1000, sources)
    print("| redshift | templates | objects | fit_lc, ms | engine, µs | ratio | compared | same | "
          "ours lower | ours higher | worst | right template |\n" + "|---" * 12 + "|")  # fmt: skip
    for free in (False, True):
        measure(fitter, sources, lights, free, 20 if asked.quick else 150)


if __name__ == "__main__":
    main()
