"""How well units find lensed SNe Ia: efficiency and false candidates of a simulated population.

    python benchmarks/lens.py [--lensed 60000] [--others 12000] [--seed 1]

The population is one of supernovae in a survey like ZTF's, in g and r (and i, where its curve is in
the data folder, in a third of the sky):

- sources are SNe Ia to z = 1 by a rate of (1 + z)^1.5 per volume, behind isothermal ellipsoids with
  shear whose velocity dispersions follow Choi et al. (2007), at redshifts by their cross-section;
  images, delays and magnifications come from `ampel_spark.simulate.lenses`;
- others are 70 % SNe Ia to z = 0.25, 28 % core collapse (spectral templates of sncosmo, dust, and
  luminosities of their types), 2 % superluminous ones (a cooling black body);
- redshifts of catalogues: 30 % spectroscopic, 70 % photometric (0.02 (1 + z), 4 % outliers of
  0.12 (1 + z)), 3 % of another galaxy, 10 % for superluminous ones;
- all have six detections or more at 5 sigma, two bands with two, six days, and one fainter than 18.

False ones are per 100,000 transients of the mixture above; errors are binomial.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampel_spark.errors import ConfigError
from ampel_spark.lightcurve import DETECTION, LightCurveBatch
from ampel_spark.salt import LightCurves, SaltFitter
from ampel_spark.simulate.lenses import draw_lenses
from ampel_spark.t2.fits import models
from ampel_spark.t2.units.lens_colours import LensColours
from ampel_spark.t2.units.lens_evidence import LensEvidence
from ampel_spark.t2.units.salt_fit import SaltFit

Array = NDArray[Any]

T0, LAW = 2459000.0, "F99"
#: Of transients that look like supernovae.
SHARES = {"ia": 0.70, "cc": 0.28, "slsn": 0.02}
#: Standard: B at maximum (Bessell, AB), stretch, colour, scatter.
ABSMAG, ALPHA, BETA, SCATTER = -19.25, 0.14, 3.1, 0.12
#: Types of core collapse: share, peak magnitude, scatter, templates of sncosmo.
TYPES = {
    "II": (0.60, -16.9, 1.1, ("v19-2013fs-corr/1.0", "snana-2007iz/1.0", "snana-2007md/1.0",
                              "snana-2007lz/1.0", "v19-2009kr-corr/1.0")),
    "Ibc": (0.25, -17.4, 0.9, ("snana-2004fe/1.0", "snana-2006jo/1.0", "snana-2007nc/1.0",
                               "s11-2006fo/1.0", "v19-2013ge-corr/1.0")),
    "IcBL": (0.05, -18.5, 0.7, ("v19-1998bw-corr/1.0",)),
    "IIb": (0.07, -17.3, 0.8, ("v19-2011ei-corr/1.0",)),
    "IIn": (0.03, -18.7, 0.9, ("v19-2009ip-corr/1.0",)),
}  # fmt: skip


def cadence(n: int, random: np.random.Generator, bands: int) -> list[tuple[Array, Array, Array]]:
    """Times about T0, bands and 5-sigma depths of n objects: every 2 to 4 days, with weather."""
    found = []
    for _ in range(n):
        days = np.arange(-60.0, 90.0, random.choice([2.0, 3.0, 4.0])) + random.uniform(0, 3)
        visits = [days + random.normal(0, 0.05, len(days)) for _ in range(2)]
        if bands == 3 and random.random() < 0.33:
            visits.append(np.arange(-60.0, 90.0, 5.0) + random.uniform(0, 5))
        band = np.concatenate([np.full(len(v), b) for b, v in enumerate(visits)])
        day = np.concatenate(visits)
        clear = random.random(len(day)) > 0.3
        moon = 0.5 * (1 + np.cos(2 * np.pi * (day + random.uniform(0, 29.5)) / 29.5))
        depth = np.array([20.8, 20.6, 20.0])[band] - 0.7 * moon * np.array([1, 0.7, 0.5])[band]
        depth += random.normal(0, 0.2, len(day))
        found.append((T0 + day[clear], band[clear].astype(np.int32), depth[clear]))
    return found


def noisy(flux: Array, depth: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """Measured flux and error, zero point 25."""
    error = np.sqrt((10.0 ** (-0.4 * (depth - 25.0)) / 5.0) ** 2 + (0.02 * flux) ** 2)
    return flux + error * random.normal(size=len(flux)), error


def flat(seen: list[tuple[Array, Array, Array]]) -> tuple[LightCurves, Array]:
    """The points of all objects, without flux, and their depths."""
    offsets = np.concatenate([[0], np.cumsum([len(t) for t, _, _ in seen])])
    time_, band, depth = (np.concatenate([s[k] for s in seen]) for k in range(3))
    one = np.ones(len(time_))
    return LightCurves(offsets, time_, one, one, band), depth


def supernovae(n: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Stretch and colour of SNe Ia."""
    young = random.random(n) < 0.65
    x1 = np.where(young, 0.35, -1.2) + 0.7 * random.normal(size=n)
    c = -0.07 + 0.05 * random.normal(size=n) + random.exponential(0.08, n)
    return x1, c


def by_volume(n: int, random: np.random.Generator, z_max: float) -> Array:
    """Redshifts by comoving volume, roughly, with the source's own time."""
    z = z_max * random.random(20 * n) ** (1.0 / 3.0)
    return np.asarray(z[random.random(20 * n) < 1.0 / (1.0 + z) ** 1.5][:n].clip(0.005))


def catalogue(z: Array, random: np.random.Generator, wrong: float) -> tuple[Array, Array, Array]:
    """Redshift and error in a catalogue, and whether it is spectroscopic."""
    n = len(z)
    spectrum = random.random(n) < 0.3
    sigma = np.where(spectrum, 0.0005, 0.02 * (1 + z))
    found = z + sigma * random.normal(size=n)
    off = ~spectrum & (random.random(n) < 0.04)
    found = np.where(off, z + 0.12 * (1 + z) * random.normal(size=n), found)
    other = random.random(n) < wrong
    found = np.where(other, by_volume(n, random, 0.5), found)
    return np.maximum(found, 0.003), sigma, spectrum


def salt_fluxes(
    fitter: SaltFitter,
    curves: LightCurves,
    z: Array,
    mag: Array,
    x1: Array,
    c: Array,
    ebv: Array,
    delays: Array,
    factors: Array,
) -> Array:
    """Fluxes of SNe Ia as sums of their images."""
    zero = models.source("salt2/2.4").peakmag("bessellb", "ab")
    x0 = models.source("salt2/2.4").parameters[0] * 10.0 ** (-0.4 * (mag - zero))
    total = np.zeros(len(curves.time))
    for k in range(delays.shape[1]):
        if not (factors[:, k] > 0).any():
            continue
        parameters = np.column_stack([z, T0 + delays[:, k], x0 * factors[:, k], x1, c])
        total += np.nan_to_num(fitter.predict(curves, parameters, mwebv=ebv))
    return total


def modulus(z: Array) -> Array:
    from ampel_spark.t2.fits.results import distance_modulus

    return distance_modulus(z, 70.0, 0.3)


def make(kind: str, n: int, seed: int, bands: list[Any]) -> dict[str, Any]:
    """Draw n objects of a kind, and keep those that are detected well enough."""
    random = np.random.default_rng([seed, len(kind), n])
    ebv = random.exponential(0.05, n).clip(0, 0.4)
    delays, factors = np.zeros((n, 1)), np.ones((n, 1))
    truth: dict[str, Array] = {}
    if kind == "lensed":
        lenses = draw_lenses(n, seed)
        x1, c = supernovae(len(lenses), random)
        mag = ABSMAG - ALPHA * x1 + BETA * c + SCATTER * random.normal(size=len(lenses))
        peak = mag + modulus(lenses.z_source) - 2.5 * np.log10(lenses.total)
        bright = peak < 20.8
        lenses, x1, c, mag = lenses.where(bright), x1[bright], c[bright], mag[bright]
        z, delays, factors = lenses.z_source, lenses.delay, lenses.magnification
        n, ebv = len(lenses), ebv[: len(lenses)]
        truth = {"z_lens": lenses.z_lens, "mu": lenses.total, "delay": delays.max(axis=1)}
    elif kind == "ia":
        z = by_volume(n, random, 0.25)
        x1, c = supernovae(n, random)
        mag = ABSMAG - ALPHA * x1 + BETA * c + SCATTER * random.normal(size=n)
    else:
        z = by_volume(n, random, 0.12 if kind == "cc" else 0.45)
    curves, depth = flat(cadence(n, random, len(bands)))
    if kind in ("lensed", "ia"):
        name = "salt2-extended/1.0" if kind == "lensed" else "salt2/2.4"
        fitter = SaltFitter(models.source(name), bands, z_range=(0.0, 1.05), dust_law=LAW)
        flux = salt_fluxes(fitter, curves, z, mag + modulus(z), x1, c, ebv, delays, factors)
    else:
        flux, truth["type"] = other_fluxes(kind, curves, z, ebv, bands, random)
    measured, error = noisy(flux, depth, random)
    lens = truth.get("z_lens", z)
    found, sigma, _ = catalogue(lens, random, 0.10 if kind == "slsn" else 0.03)
    good = select(curves, measured, error)
    truth |= {"z": z, "z_cat": found, "sigma": sigma, "ebv": ebv}
    return {"kind": kind, "batch": batch_of(curves, measured, error, good, truth), **{
        k: v[good] for k, v in truth.items()}}  # fmt: skip


def other_fluxes(
    kind: str,
    curves: LightCurves,
    z: Array,
    ebv: Array,
    bands: list[Any],
    random: np.random.Generator,
) -> tuple[Array, Array]:
    """Fluxes of core-collapse and superluminous supernovae, and their types."""
    import sncosmo

    flux, n = np.zeros(len(curves.time)), len(z)
    named = np.full(n, "SLSN", object)
    available = []
    for name, (share, mean, width, templates) in TYPES.items():
        for template in templates:
            try:
                source = models.source(template)
            except ConfigError:  # of those that are not there
                continue
            model = sncosmo.Model(source, [sncosmo.F99Dust(), sncosmo.F99Dust()],
                                  ["host", "mw"], ["rest", "obs"])  # fmt: skip
            model.set_source_peakmag(0.0, "bessellr", "ab")
            peak = source.peakphase("bessellr")
            available.append((share, name, mean, width, model, model.get("amplitude"), peak))
    shares = np.array([a[0] for a in available])
    names = [a[1] for a in available]
    shares /= [names.count(name) for name in names]
    which = random.choice(len(available), n, p=shares / shares.sum())
    for i in range(n):
        span = slice(curves.offsets[i], curves.offsets[i + 1])
        time_ = curves.time[span]
        where = [bands[b] for b in curves.band[span]]
        if kind == "slsn":
            flux[span] = superluminous(time_, curves.band[span], z[i], random, bands)
            continue
        _, named[i], mean, width, model, amplitude, peak = available[which[i]]
        mag = mean + width * random.normal() + modulus(z[i : i + 1])[0]
        dust = random.exponential(0.12)
        model.set(z=z[i], t0=T0 - peak * (1 + z[i]), amplitude=amplitude * 10 ** (-0.4 * mag),
                  hostebv=dust, mwebv=ebv[i])  # fmt: skip
        inside = (time_ > model.mintime()) & (time_ < model.maxtime())
        if inside.any():
            at = [b for b, ok in zip(where, inside, strict=True) if ok]
            flux[span][inside] = np.maximum(model.bandflux(at, time_[inside], 25.0, "ab"), 0.0)
    return flux, named


def superluminous(
    time_: Array, band: Array, z: float, random: np.random.Generator, bands: list[Any]
) -> Array:
    """A black body that cools from 15,000 to 6,000 K, rising in 15 to 40 days, fading in twice."""
    days = (time_ - T0) / (1 + z)
    rise = random.uniform(15, 40)
    shape = np.where(days < 0, np.exp(-0.5 * (days / rise * 2) ** 2),
                     np.exp(-days / (1.2 * rise)))  # fmt: skip
    heat = 6000 + 9000 * np.exp(-np.maximum(days + rise, 0) / (2 * rise))
    mag = random.normal(-21.3, 0.6) + modulus(np.array([z]))[0]

    def spectrum(wave: Any, kelvin: Any) -> Any:
        return wave**-3.0 / np.expm1(1.4388e8 / (wave * kelvin))

    wave = np.array([b.wave_eff for b in bands])[band] / (1 + z)
    colour = spectrum(wave, heat) / spectrum(4400.0, heat)
    return np.asarray(10 ** (-0.4 * (mag - 25.0)) * shape * colour)


def select(curves: LightCurves, flux: Array, error: Array) -> Array:
    """Say which objects pass the base cut."""
    snr = flux / error
    good = np.zeros(len(curves), bool)
    for i in range(len(curves)):
        span = slice(curves.offsets[i], curves.offsets[i + 1])
        seen = snr[span] > 5
        if seen.sum() < 6:
            continue
        counts = np.bincount(curves.band[span][seen])
        days = curves.time[span][seen]
        faint = flux[span][seen].min() < 10 ** (0.4 * 7.0)
        good[i] = (counts >= 2).sum() >= 2 and days.max() - days.min() >= 6 and faint
    return good


def batch_of(
    curves: LightCurves, flux: Array, error: Array, good: Array, truth: dict[str, Array]
) -> LightCurveBatch:
    """The detections as units get them, with a digest and dust as results."""
    group = np.repeat(np.arange(len(curves)), np.diff(curves.offsets))
    at = np.flatnonzero((flux > 5 * error) & good[group])
    at = at[np.lexsort((curves.time[at], group[at]))]
    new = np.cumsum(good) - 1
    m = int(good.sum())
    names = np.array(["ztfg", "ztfr", "ztfi"], object)
    count = np.bincount(new[group[at]], minlength=m)
    n = len(at)
    points = {
        "jd": curves.time[at], "kind": np.full(n, DETECTION), "band": names[curves.band[at]],
        "sign": np.ones(n, int), "flux": flux[at], "fluxerr": error[at], "zp": np.full(n, 25.0),
        "zpsys": np.full(n, "ab", object),
    }  # fmt: skip
    digest = [
        {"ampel_z": float(z), "group_z_precision": float(s), "ampel_dist": 1.0}
        for z, s in zip(truth["z_cat"][good], truth["sigma"][good], strict=True)
    ]
    dust = [{"ebv": float(e)} for e in truth["ebv"][good]]
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    return LightCurveBatch(
        np.full(m, "", object), np.arange(m), np.full(m, "", object), offsets, points,
        {"redshift_digest": digest, "milky_way_dust": dust},
    )  # fmt: skip


def judged(population: dict[str, Any], bands: tuple[str, ...]) -> dict[str, Any]:
    """Add what the units say."""
    batch = population["batch"]
    redshift = {"unit": "redshift_digest", "column": "ampel_z"}
    fit = SaltFit.model_validate({
        "model": "salt2/2.4", "redshift": redshift, "dust": {"law": LAW}, "bands": bands,
        "model_covariance": False, "phase_range": None, "wave_range": "all",
    })  # fmt: skip
    started = time.process_time()
    rows = fit.process_batch(batch)
    assert rows is not None
    names = ("t0", "z", "peak_mag_b", "peak_absmag_b")
    fits = [dict(zip(names, v, strict=True)) for v in zip(*(rows[k].to_pylist() for k in names),
                                                           strict=True)]  # fmt: skip
    population["fit_s"] = time.process_time() - started
    tied = LightCurveBatch(
        batch.state_id, batch.stock, batch.name, batch.offsets, batch.points,
        {**batch.results, "salt_fit": fits},
    )  # fmt: skip
    for mode in ("ampel", "strict"):
        colours = LensColours.model_validate({"mode": mode}).process_batch(tied)
        population[mode] = np.array(colours["pass_all_cuts"].fill_null(False))
        population[f"{mode}_colour"] = np.array(colours["pass_colour_cuts"].fill_null(False))
    population["absmag"] = colours["peak_absmag_b"]
    evidence = LensEvidence.model_validate({
        "model": "salt2/2.4", "redshift": {**redshift, "sigma_column": "group_z_precision"},
        "dust": {"law": LAW}, "bands": bands, "absmag": ABSMAG,
    })  # fmt: skip
    evidence.prepare()
    started = time.process_time()
    found = evidence.process_batch(tied)
    population["evidence_s"] = time.process_time() - started
    for name in ("score", "ln_bayes", "ln_lensed", "ln_normal", "ln_other", "chisq", "z_free",
                 "z_lensed", "x1", "c", "n_points", "magnification"):  # fmt: skip
        population[name] = np.asarray(found[name], np.float64)
    return population


def table(made: dict[str, dict[str, Any]]) -> None:
    """Print cuts, then efficiency at rates of false ones, by score."""
    lensed = made["lensed"]
    others = [made[k] for k in SHARES]
    weight = np.concatenate([
        np.full(len(p["score"]), 1e5 * SHARES[p["kind"]] / len(p["score"])) for p in others
    ])  # fmt: skip

    def line(name: str, good: Array, false: Array) -> None:
        rate, n = good.mean(), len(good)
        print(f"{name:34s} {100 * rate:6.1f} +- {100 * np.sqrt(rate * (1 - rate) / n):.1f} % "
              f"{(weight * false).sum():9.0f}")  # fmt: skip

    print(f"\n{'cut':34s} {'efficiency':>15s} {'false per 1e5':>14s}")
    for name in ("ampel_colour", "ampel", "strict_colour", "strict"):
        line(name, lensed[name], np.concatenate([p[name] for p in others]))
    print(f"\n{'score: efficiency % at':34s}    100    300   1000   3000 | false at 50 %  54.5 %")
    for name, of in SCORES.items():
        good = np.nan_to_num(of(lensed), nan=-1e9)
        bad = np.nan_to_num(np.concatenate([of(p) for p in others]), nan=-1e9)
        order = np.argsort(-bad, kind="stable")
        total = np.cumsum(weight[order])
        cells = []
        for rate in (100, 300, 1000, 3000):
            k = int(np.searchsorted(total, rate, side="right"))
            cells.append(100 * float((good > bad[order][min(k, len(bad) - 1)]).mean()))
        false = [float(weight[bad >= np.quantile(good, 1 - share)].sum()) for share in (0.5, 0.545)]
        print(
            f"{name:34s} {''.join(f'{c:7.1f}' for c in cells)} | {false[0]:10.0f} {false[1]:10.0f}"
        )


def _fits_well(p: dict[str, Any], most: float) -> Array:
    return np.asarray(p["chisq"] / np.maximum(p["n_points"] - 4, 1) < most)


SCORES: dict[str, Any] = {
    "AMPEL's cuts, M_B sliding": lambda p: np.where(
        p["ampel_colour"] & (p["z_cat"] > 0.1), -p["absmag"], -99.0
    ),
    "ln B": lambda p: p["ln_bayes"],
    "ln B, chi2/dof < 2": lambda p: np.where(_fits_well(p, 2.0), p["ln_bayes"], -1e6),
    "ln B, chi2/dof < 2, any colour": lambda p: np.where(
        _fits_well(p, 2.0) & p["ampel_colour"], p["ln_bayes"], -1e6
    ),
    "score (three hypotheses)": lambda p: p["score"],
    "score, chi2/dof < 2": lambda p: np.where(_fits_well(p, 2.0), p["score"], -1e6),
    "score, any colour": lambda p: np.where(p["ampel_colour"], p["score"], -1e6),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--lensed", type=int, default=60000, help="sources drawn behind lenses")
    parser.add_argument("--others", type=int, default=12000, help="other supernovae drawn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", help="file for all columns, as .npz")
    given = parser.parse_args()
    names = tuple(b for b in ("ztfg", "ztfr", "ztfi") if models.bandpass(b)[0] is not None)
    bands = [models.bandpass(b)[0] for b in names]
    counts = {"lensed": given.lensed, "ia": given.others, "cc": given.others // 2,
              "slsn": given.others // 12}  # fmt: skip
    made = {}
    for kind, n in counts.items():
        started = time.process_time()
        population = make(kind, n, given.seed, bands)
        drawn = time.process_time() - started
        made[kind] = judged(population, names)
        m = len(population["score"])
        print(f"{kind:7s} {n:7d} drawn, {m:6d} detected; drawn in {drawn:.0f} s; an object: "
              f"fit {1e3 * population['fit_s'] / m:.2f} ms, "
              f"evidence {1e3 * population['evidence_s'] / m:.2f} ms", flush=True)  # fmt: skip
    for name in ("z", "z_lens", "mu", "delay"):
        print(name, np.round(np.percentile(made["lensed"][name], [5, 16, 50, 84, 95]), 2))
    if given.save:
        np.savez(given.save, **{
            f"{k}_{name}": v for k, p in made.items() for name, v in p.items()
            if isinstance(v, np.ndarray)
        })  # fmt: skip
    table(made)


if __name__ == "__main__":
    main()
