"""Speed and accuracy of the batch SALT fitter, measured against sncosmo and published numbers.

    python benchmarks/salt_fit.py                  all on simulated light curves, as markdown
    python benchmarks/salt_fit.py --quick          the same on small samples
    python benchmarks/salt_fit.py --speed          ms per fit: fit_lc, numpy twin, engine
    python benchmarks/salt_fit.py --agreement      the same minima as fit_lc, z fixed and free
    python benchmarks/salt_fit.py --pulls          pulls and coverage of 10,000 simulated SNe Ia
    python benchmarks/salt_fit.py --ztf FOLDER     ZTF SN Ia DR1 (Dhawan et al. 2022): published
    python benchmarks/salt_fit.py --jla FOLDER     JLA (Betoule et al. 2014): published fits

One core; BLAS threads are set to one before numpy is loaded, as sncosmo is 5-10 times slower with
more. Times are CPU times; both sides of a ratio come from one run on the same data. FOLDER is the
folder with the published data; models and bandpasses come from sncosmo's data folder.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when numpy is loaded)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import csv
import json
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sncosmo

from ampel_spark.salt import FitOptions, FitResult, LightCurves, SaltFitter, Status, warm

Light = dict[str, Any]
Row = dict[str, Any]
BANDS = ("ztfg", "ztfr", "ztfi")
FIT = ("t0", "x0", "x1", "c")
#: Magnitude systems of JLA's instruments, of those whose bandpasses sncosmo has.
JLA_SYSTEMS = {
    "sdss": "ab-b12",
    "standard": "jla1",
    "keplercam": "jla1",
    "4shooter2": "jla1",
    "swope2": "jla1",
}
#: Folders of their transmission curves in JLA's release.
JLA_FOLDERS = {
    "sdss": "SDSS",
    "standard": "SNLS3-Landolt-model",
    "keplercam": "Keplercam",
    "4shooter2": "4Shooter2",
    "swope2": "Swope2",
}
LAWS = {"F99": sncosmo.F99Dust, "CCM89": sncosmo.CCM89Dust}


def model(source: str, version: str, law: str = "F99") -> sncosmo.Model:
    """A SALT model behind Milky-Way dust (``mwebv``)."""
    return sncosmo.Model(
        sncosmo.get_source(source, version=version),
        effects=[LAWS[law]()],
        effect_names=["mw"],
        effect_frames=["obs"],
    )


def simulate(
    n: int,
    seed: int,
    kinds: Iterable[str],
    *,
    source: tuple[str, str] = ("salt3", "2.0"),
    bands: tuple[str, ...] = BANDS,
    n_points: int | None = None,
    snr: tuple[float, float] = (5.0, 50.0),
    z_range: tuple[float, float] = (0.02, 0.12),
) -> list[Light]:
    """Light curves with known truth, in sncosmo's columns and with the truth under ``truth``.

    Kinds: ``dense``, ``sparse``, ``rise``, ``noise``, and ``real`` (gaps, points before and after
    the model's phases, now and then a band missing). S/N: of a point at peak, brightest band.
    """
    rng = np.random.default_rng(seed)
    salt = model(*source)
    kinds = tuple(kinds)
    phases = {
        "dense": (-17.0, 45.0),
        "sparse": (-15.0, 40.0),
        "rise": (-17.0, 2.0),
        "noise": (-17.0, 45.0),
        "real": (-35.0, 75.0),
    }
    cadence = {"sparse": (8.0, 15.0), "real": (2.0, 5.0)}
    out: list[Light] = []
    while len(out) < n:
        kind = kinds[len(out) % len(kinds)]
        z = rng.uniform(*z_range)
        truth = {
            "z": z,
            "t0": 58000.0 + rng.uniform(0.0, 300.0),
            "x0": 1e-3,
            "x1": float(np.clip(rng.normal(0.0, 1.0), -3.0, 3.0)),
            "c": float(np.clip(rng.normal(-0.03, 0.08) + rng.exponential(0.06), -0.3, 0.6)),
            "mwebv": float(min(rng.exponential(0.05), 0.5)),
        }
        salt.set(**truth)
        low, high = (truth["t0"] + p * (1.0 + z) for p in phases[kind])
        times, names = [], []
        present = bands if kind != "real" or rng.uniform() < 0.5 else bands[:2]
        for k, band in enumerate(present):
            if n_points is not None:
                m = n_points // len(bands) + (k < n_points % len(bands))
                t = rng.uniform(low, high, m)
            else:
                step = rng.uniform(*cadence.get(kind, (2.0, 4.0))) * (1.5 if band == "ztfi" else 1)
                t = np.arange(low + rng.uniform(0.0, step), high, step)
                t = t + rng.normal(0.0, 0.05, len(t))
                t = t[rng.uniform(size=len(t)) < (0.6 if kind == "real" else 0.85)]
            times.append(t)
            names.append(np.full(len(t), band))
        t, band_names = np.concatenate(times), np.concatenate(names)
        order = np.argsort(t, kind="stable")
        t, band_names = t[order], band_names[order]
        if len(t) < 5:
            continue
        peak = max(float(salt.bandflux(b, truth["t0"], zp=25.0, zpsys="ab")) for b in bands)
        flux = salt.bandflux(band_names, t, zp=25.0, zpsys="ab")
        if kind == "noise":
            flux = np.zeros_like(flux)
        sky = peak / np.exp(rng.uniform(*np.log(snr))) / np.sqrt(1.3)
        err = sky * np.sqrt(
            rng.uniform(0.8, 1.3, len(t)) ** 2 + 0.3 * np.clip(flux, 0, None) / peak
        )
        out.append(
            {
                "time": t,
                "band": band_names,
                "flux": flux + err * rng.normal(size=len(t)),
                "fluxerr": err,
                "zp": np.full(len(t), 25.0),
                "zpsys": np.full(len(t), "ab"),
                "truth": {**truth, "kind": kind, "snr": peak / sky / np.sqrt(1.3)},
            }
        )
    return out


def truth(lights: list[Light], name: str) -> np.ndarray:
    """One true parameter of all light curves."""
    return np.array([light["truth"][name] for light in lights])


def table(light: Light) -> Light:
    """Columns alone, as fit_lc takes them."""
    return {k: v for k, v in light.items() if k != "truth"}


def fit_lc(
    lights: list[Light], salt: sncosmo.Model, names: tuple[str, ...], **options: Any
) -> list[tuple[float, Any, np.ndarray, np.ndarray]]:
    """sncosmo's fit of each: (CPU ms, result or None, parameters z t0 x0 x1 c, their errors)."""
    out = []
    for light in lights:
        data = table(light)
        salt.set(z=light["truth"]["z"], t0=0.0, x0=1.0, x1=0.0, c=0.0)
        salt.set(mwebv=light["truth"]["mwebv"])
        values, errors = np.full(5, np.nan), np.full(5, np.nan)
        begin = time.process_time()
        try:
            result, fitted = sncosmo.fit_lc(data, salt, list(names), **options)
        except (RuntimeError, sncosmo.fitting.DataQualityError):
            result = None
        took = 1e3 * (time.process_time() - begin)
        if result is not None:
            values = np.array([fitted.get(k) for k in ("z", *FIT)])
            if result.errors:
                errors = np.array([result.errors.get(k, 0.0) for k in ("z", *FIT)])
        out.append((took, result, values, errors))
    return out


def cpu_ms(work: Callable[[], FitResult], n: int, repeat: int) -> float:
    """Median CPU time per object, ms."""
    took = []
    for _ in range(repeat):
        begin = time.process_time()
        work()
        took.append(1e3 * (time.process_time() - begin) / n)
    return float(np.median(took))


def fit_sample(fitter: SaltFitter, sample: Any, options: FitOptions) -> FitResult:
    """Fit packed light curves; the redshift is given unless it is fitted."""
    curves, z, mwebv = sample
    return fitter.fit(curves, z=None if "z" in options.fit else z, mwebv=mwebv, options=options)


def repeated(light: Light, times: int) -> LightCurves:
    """One light curve, `times` times over: what its fit takes by itself can be measured."""
    one = LightCurves.from_tables([light], BANDS)
    n = len(one.time)
    return LightCurves(
        np.arange(times + 1) * n, *(np.tile(a, times) for a in (one.time, one.flux, one.fluxerr)),
        band=np.tile(one.band, times), zp=np.tile(one.zp, times),
    )  # fmt: skip


def speed(quick: bool = False) -> list[Row]:
    """Print ms per fit of every cell: medians over objects, ratios object by object."""
    n_reference, n_engine, times = (6, 120, 40) if quick else (30, 600, 100)
    sizes = (15, 70) if quick else (15, 35, 70)
    rows: list[Row] = []
    print("\n## Speed\n\nCPU ms per fit on one core: medians over objects; the last column is the")
    print("engine's mean over a batch. Ratios are medians of object by object, then totals.\n")
    print("| model | covariance | z | points | fit_lc | spacing 20 | twin | engine | ratio | "
          "against spacing 20 | ratio of totals | engine, mean |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for source in (("salt3", "2.0"), ("salt2", "2.4")):
        fitter = SaltFitter(source[0], BANDS, version=source[1])
        plain = SaltFitter(source[0], BANDS, version=source[1], engine="numpy")
        salt = model(*source)
        for covariance in (False, True):
            for free in (False, True):
                names = ("z", *FIT) if free else FIT
                bounds = {"z": (0.01, 0.2)} if free else {}
                options = FitOptions(fit=names, bounds=bounds, model_covariance=covariance)
                for n_points in sizes:
                    lights = simulate(
                        n_engine, 17 + n_points, ["dense"], source=source, n_points=n_points
                    )
                    some = lights[:n_reference]
                    keys = {"modelcov": covariance, "bounds": bounds or None}
                    slow = np.array([f[0] for f in fit_lc(some, salt, names, **keys)])
                    sncosmo.models.MODEL_BANDFLUX_SPACING = 20.0
                    coarse = np.array([f[0] for f in fit_lc(some, salt, names, **keys)])
                    sncosmo.models.MODEL_BANDFLUX_SPACING = 5.0
                    own, twin = [], []
                    for light in some:
                        z, ebv = light["truth"]["z"], light["truth"]["mwebv"]
                        many = (repeated(light, times), np.full(times, z), np.full(times, ebv))
                        own.append(cpu_ms(partial(fit_sample, fitter, many, options), times, 3))
                        if len(twin) < 6:
                            one = (repeated(light, 1), np.full(1, z), np.full(1, ebv))
                            twin.append(cpu_ms(partial(fit_sample, plain, one, options), 1, 1))
                    fast = np.array(own)
                    every = (
                        LightCurves.from_tables(lights, BANDS),
                        truth(lights, "z"),
                        truth(lights, "mwebv"),
                    )
                    mean = cpu_ms(partial(fit_sample, fitter, every, options), n_engine, 3)
                    row: Row = {
                        "model": " ".join(source),
                        "covariance": "on" if covariance else "off",
                        "z": "free" if free else "fixed",
                        "points": n_points,
                        "fit_lc": float(np.median(slow)),
                        "spacing_20": float(np.median(coarse)),
                        "twin": float(np.median(twin)),
                        "engine": float(np.median(fast)),
                        "ratio": float(np.median(slow / fast)),
                        "ratio_20": float(np.median(coarse / fast)),
                        "ratio_of_totals": float(slow.sum() / fast.sum()),
                        "engine_mean": mean,
                    }
                    rows.append(row)
                    print("| " + " | ".join(_cell(value) for value in row.values()) + " |",
                          flush=True)  # fmt: skip
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)


def agreement(
    n: int = 1200, seed: int = 20261, free: tuple[bool, ...] = (False, True)
) -> list[Row]:
    """Compare minima, parameters and errors with fit_lc's."""
    kinds = ("dense", "sparse", "rise", "real", "dense", "noise")
    rows: list[Row] = []
    fitter = SaltFitter("salt3", BANDS, version="2.0")
    for z_free in free:
        lights = simulate(n, seed + z_free, kinds)
        names = ("z", *FIT) if z_free else FIT
        bounds = {"x1": (-5.0, 5.0), "c": (-1.0, 2.0)} | ({"z": (0.01, 0.2)} if z_free else {})
        for covariance in (False, True):
            result = fit_sample(
                fitter,
                (
                    LightCurves.from_tables(lights, BANDS),
                    truth(lights, "z"),
                    truth(lights, "mwebv"),
                ),
                FitOptions(fit=names, bounds=bounds, model_covariance=covariance),
            )
            theirs = fit_lc(
                lights, model("salt3", "2.0"), names, bounds=bounds, modelcov=covariance
            )
            again = partial(started_again, names=names, bounds=bounds, covariance=covariance)
            rows += compare(lights, result, theirs, covariance, z_free, again)
    return rows


def started_again(
    light: Light,
    values: np.ndarray,
    *,
    names: tuple[str, ...],
    bounds: dict[str, tuple[float, float]],
    covariance: bool,
) -> np.ndarray:
    """Where fit_lc ends that starts where it ended, time after time, until it stays there."""
    salt = model("salt3", "2.0")
    salt.set(mwebv=light["truth"]["mwebv"])
    for _ in range(10):
        salt.set(**dict(zip(("z", *FIT), values, strict=True)))
        result, fitted = sncosmo.fit_lc(
            table(light), salt, list(names), bounds=bounds, modelcov=covariance,
            guess_amplitude=False, guess_t0=False, guess_z=False,
        )  # fmt: skip
        end = np.array([fitted.get(k) for k in ("z", *FIT)])
        moved = [abs(end[i] - values[i]) / result.errors.get(k, np.inf)
                 for i, k in enumerate(("z", *FIT))]  # fmt: skip
        values = end
        if max(moved) < 1e-3:
            break
    return values


def under_both_covariances(
    light: Light, ours: np.ndarray, theirs: np.ndarray, salt: sncosmo.Model
) -> float:
    """Chi-square of our parameters less that of theirs: the mean of two differences.

    One is under the model covariance at our parameters, the other under that at theirs. A fit with
    a frozen covariance ends where its parameters minimise chi-square under the covariance at these
    same parameters. Chi-squares under different covariances do not compare: a larger x0 alone has
    a larger model error and so a smaller chi-square. And of two such ends each may be the higher
    one under its own covariance.
    """
    here = under_one_covariance(light, ours, theirs, salt)
    return 0.5 * (here - under_one_covariance(light, theirs, ours, salt))


def under_one_covariance(
    light: Light, ours: np.ndarray, theirs: np.ndarray, salt: sncosmo.Model
) -> float:
    """Chi-square of our parameters less that of theirs, under the model covariance at ours."""
    keys = ("z", "t0", "x0", "x1", "c")
    salt.set(mwebv=light["truth"]["mwebv"])
    salt.set(**dict(zip(keys, ours, strict=True)))
    where = (light["band"], light["time"])
    flux, covariance = salt.bandfluxcov(*where, zp=25.0, zpsys="ab")
    inverse = np.linalg.pinv(covariance + np.diag(light["fluxerr"] ** 2))
    residual = light["flux"] - flux
    salt.set(**dict(zip(keys, theirs, strict=True)))
    other = light["flux"] - salt.bandflux(*where, zp=25.0, zpsys="ab")
    return float(residual @ inverse @ residual - other @ inverse @ other)


def compare(
    lights: list[Light],
    ours: FitResult,
    theirs: list[Any],
    covariance: bool,
    free: bool,
    again: Callable[[Light, np.ndarray], np.ndarray],
) -> list[Row]:
    """Print the comparison by kind of light curve.

    Clear: the minima coincide, no bound is touched, and no point lies within two days of the first
    or last phase of the model, where its flux jumps. With the model covariance both minima are
    compared under the covariances at both; ``broken`` counts fits of fit_lc that a negative
    variance of the model took all data from (chi-square of almost zero), which are left out. In a
    flat valley fit_lc may stop early: ``started again`` is the share within 0.05 σ where those
    beyond were fitted by it again from where it had ended.
    """
    kind = truth(lights, "kind")
    chisq = np.array([f[1].chisq if f[1] is not None else np.nan for f in theirs])
    broken = np.isfinite(chisq) & (chisq < 1e-6)
    done = np.isfinite(chisq) & ~broken
    values, errors = (np.array([f[k] for f in theirs]) for k in (2, 3))
    delta = ours.chisq - chisq
    at_edge = np.zeros(len(lights), bool)
    salt = model("salt3", "2.0")
    for i, light in enumerate(lights):
        phase = (light["time"] - ours.value("t0")[i]) / (1.0 + ours.value("z")[i])
        at_edge[i] = np.any(np.minimum(np.abs(phase + 20.0), np.abs(phase - 50.0)) < 2.0)
        if covariance and done[i] and np.isfinite(ours.chisq[i]):
            delta[i] = under_both_covariances(light, ours.parameters[i], values[i], salt)
    title = f"z {'free' if free else 'fixed'}, model covariance {'on' if covariance else 'off'}"
    print(f"\n### {title}\n")
    print("| kind | n | fit_lc | broken | same | better | worse | worst | clear | within 0.05 σ "
          "| started again | σ ratio 5 % | 50 % | 95 % |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    rows: list[Row] = []
    first = 0 if free else 1
    near = (np.abs(delta) < 0.1) & (ours.flags & 1023 & ~(4 | 32) == 0) & ~at_edge
    near &= np.all(errors[:, first:] > 0.0, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        before = np.abs(ours.parameters - values)[:, first:] / errors[:, first:]
    after = before.copy()
    for i in np.flatnonzero(near & np.any(before >= 0.05, axis=1)):
        end = again(lights[i], values[i])
        after[i] = np.abs(ours.parameters[i] - end)[first:] / errors[i, first:]
    for name in (*sorted(set(kind)), "SNe"):
        every = kind != "noise" if name == "SNe" else kind == name
        sample = every & done
        row: Row = {"kind": name, "n": int(every.sum()), "fit_lc": int(sample.sum()),
                    "broken": int((broken & every).sum())}  # fmt: skip
        if sample.any():
            clear = sample & near
            ratio = np.full(3, np.nan)
            if clear.any():
                ratio = np.percentile(
                    ours.errors[clear, first:] / errors[clear, first:], [5, 50, 95]
                )
            row |= {
                "same": f"{np.mean(np.abs(delta[sample]) < 0.1):.1%}",
                "better": f"{np.mean(delta[sample] <= -0.1):.1%}",
                "worse": f"{np.mean(delta[sample] >= 0.1):.1%}",
                "worst": float(np.nanmax(delta[sample])),
                "clear": int(clear.sum()),
                "within": _share(before[clear]), "again": _share(after[clear]),
                "ratio_5": float(ratio[0]), "ratio_50": float(ratio[1]),
                "ratio_95": float(ratio[2]),
            }  # fmt: skip
        print("| " + " | ".join(_cell(v) for v in row.values()) + " |", flush=True)
        rows.append({"fits": title, **row})
    return rows


def _share(shift: np.ndarray) -> str:
    return f"{np.mean(np.all(shift < 0.05, axis=1)):.1%}" if len(shift) else ""


def pulls(n: int = 10_000) -> list[Row]:
    """Pulls and coverage against the truth, model covariance off."""
    lights = simulate(n, 4711, ["dense"], snr=(20.0, 60.0))
    fitter = SaltFitter("salt3", BANDS, version="2.0")
    result = fitter.fit(
        LightCurves.from_tables(lights, BANDS), z=truth(lights, "z"), mwebv=truth(lights, "mwebv")
    )
    good = result.status == Status.CONVERGED
    print(f"\n## Pulls\n\n{n} light curves, peak S/N 20-60; converged: {np.mean(good):.2%}\n")
    print("| parameter | mean | width | within 68.3 % | within 95.4 % |\n|---|---|---|---|---|")
    rows: list[Row] = []
    for name in FIT:
        pull = ((result.value(name) - truth(lights, name)) / result.error(name))[good]
        row: Row = {
            "parameter": name,
            "mean": float(pull.mean()),
            "width": float(pull.std()),
            "within_1": float(np.mean(np.abs(pull) < 1.0)),
            "within_2": float(np.mean(np.abs(pull) < 2.0)),
        }
        rows.append(row)
        print("| " + " | ".join(_cell(v) for v in row.values()) + " |")
    return rows


def ztf(folder: Path) -> None:
    """Refit ZTF SN Ia DR1 with the release's recipe and compare with its parameters."""
    with open(folder / "salt2_params.csv") as lines:
        rows = list(csv.DictReader(lines))
    lights = []
    for row in rows:
        with open(folder / "lightcurves" / f"{row['ztfname']}.csv") as lines:
            points = [p for p in csv.DictReader(lines) if p["band"] in ("p48g", "p48r")]
        column = {k: np.array([float(p[k]) for p in points]) for k in ("time", "flux", "zp")}
        lights.append(
            {
                **column,
                "fluxerr": np.array([float(p["flux_err"]) for p in points]),
                "band": np.array(["ztfg" if p["band"] == "p48g" else "ztfr" for p in points]),
                "zpsys": np.full(len(points), "ab"),
            }
        )
    published = {
        k: np.array([float(r[k]) for r in rows])
        for k in ("z", *FIT, "MWebv", "n_points", "chisq", "t0_err", "x1_err", "c_err", "x0_err")
    }
    fitter = SaltFitter("salt2", ("ztfg", "ztfr"), version="2.4", dust_law="CCM89")
    wide = {"x0": (-np.inf, np.inf), "x1": (-20.0, 20.0), "c": (-5.0, 5.0)}
    curves = LightCurves.from_tables(lights, fitter.bands)
    for tolerance in (0.1, 0.001):
        options = FitOptions(
            model_covariance=True,
            covariance_tolerance=tolerance,
            snr_cut=3.0,
            phase_range=(-20.0, 50.0),
            phase_frame="observer",
            phase_iterative=False,
            fractional_error_floor=0.02,
            bounds=wide,
        )
        result = fitter.fit(
            curves,
            z=published["z"],
            mwebv=published["MWebv"],
            phase_reference=published["t0"],
            options=options,
        )
        shift = np.array(
            [
                np.abs(result.value(k) - published[k]) / published[k + "_err"]
                for k in ("t0", "x1", "c")
            ]
        )
        match = result.n_points == published["n_points"]
        good = np.all(shift < 0.1, axis=0)
        print(
            f"covariance to {tolerance} sigma: points agree for {match.sum()} of {len(rows)}; "
            f"t0, x1, c within 0.1 sigma for {np.sum(good & match)} of these"
        )
        ratio = np.percentile(result.chisq[match] / published["chisq"][match], [5, 50, 95])
        print(
            f"  median |shift| / sigma: {np.median(shift[:, match], axis=1).round(5)}; "
            f"chisq / published: {ratio.round(5)}"
        )
        for i in np.flatnonzero(~good):
            print(
                f"  {rows[i]['ztfname']}: n {result.n_points[i]} ({published['n_points'][i]:.0f}), "
                f"shifts {shift[:, i].round(3)}, chisq {result.chisq[i]:.2f} "
                f"({published['chisq'][i]:.2f})"
            )


def read_jla(folder: Path) -> tuple[list[Light], list[Row], list[str]]:
    """Light curves of JLA in bands that sncosmo has, their published fits, and who is left out."""
    with open(folder / "jla_lcparams.txt") as lines:
        names, *rows = (line.split() for line in lines)
    names = [name.lstrip("#") for name in names]
    release = {row[0]: dict(zip(names, row, strict=True)) for row in rows}
    lights: list[Light] = []
    published: list[Row] = []
    left_out: list[str] = []
    for path in sorted((folder / "light_curves").glob("lc-*.list")):
        data = sncosmo.read_lc(str(path), format="salt2", read_covmat=True)
        band = np.array([str(b).lower() for b in data["Filter"]])
        if any(name.split("::")[0] not in JLA_SYSTEMS for name in band):
            left_out.append(path.stem)
            continue
        row = release[path.stem.removeprefix("lc-")]
        z = float(row["zhel"])
        centre = {name: sncosmo.get_bandpass(name).wave_eff / (1.0 + z) for name in set(band)}
        inside = np.array([3000.0 < centre[name] < 7000.0 for name in band])
        lights.append(
            {
                "time": np.array(data["Date"]),
                "flux": np.array(data["Flux"]),
                "fluxerr": np.array(data["Fluxerr"]),
                "band": np.where(inside, band, "outside"),
                "zp": np.array(data["ZP"]),
                "zpsys": np.array([JLA_SYSTEMS[name.split("::")[0]] for name in band]),
                "fluxcov": np.array(
                    data["Fluxcov"] if "Fluxcov" in data.colnames else np.diag(data["Fluxerr"] ** 2)
                ),
                # Errors of zero points, as parts of the flux.
                "zperr": 0.4
                * np.log(10.0)
                * np.array([float(data.meta.get(f"ZPERR_{b.upper()}", 0.0)) for b in band]),
            }
        )
        keys = {"x1": "x1", "dx1": "dx1", "c": "color", "dc": "dcolor", "t0": "tmax",
                "dt0": "dtmax", "mb": "mb"}  # fmt: skip
        published.append(
            {k: float(row[v]) for k, v in keys.items()}
            | {"z": z, "mwebv": float(data.meta["MWEBV"]), "set": path.stem[3:5]}
        )
    return lights, published, left_out


def jla_bandpasses(folder: Path, names: list[str]) -> list[sncosmo.Bandpass]:
    """Transmission curves as snfit had them: those of Swope are others than sncosmo's."""
    out = []
    for name in names:
        instrument, letter = name.split("::")
        home = folder / "Instruments" / JLA_FOLDERS[instrument]
        wheel = home / ("filterwheel" if instrument == "sdss" else "FilterWheel")
        files = {w[0].lower(): w[-1] for w in map(str.split, wheel.read_text().splitlines()) if w}
        wave, transmission = np.loadtxt(home / files[letter], comments=["#", "@"]).T
        out.append(sncosmo.Bandpass(wave, transmission, name=name))
    return out


def with_bands(system: str, bands: list[sncosmo.Bandpass]) -> sncosmo.CompositeMagSystem:
    """A magnitude system of sncosmo's for other curves of its bands."""
    known = {sncosmo.get_bandpass(k): v for k, v in sncosmo.get_magsystem(system)._bands.items()}
    stated = {b: known.get(sncosmo.get_bandpass(b.name)) for b in bands}
    return sncosmo.CompositeMagSystem(
        bands={b: value for b, value in stated.items() if value is not None}, name=system
    )


def jla(folder: Path) -> None:
    """Refit JLA's supernovae in bands that sncosmo has: SDSS, and the nearby ones.

    As snfit did: SALT2 2.4, phases -15 to 45, effective wavelengths 3000 to 7000 Å in the rest
    frame, model covariance, the covariances of the release between points, and its errors of zero
    points (0.1 mag in the U band of some), which are as good as covariances. Fitted once with
    sncosmo's curves of the bands and without errors of zero points, once with both as in the
    release. SNLS (MegaCam's transmission by radius) and HST are left out: sncosmo's data have no
    such bandpass.
    """
    lights, published, left_out = read_jla(folder)
    column = {k: np.array([p[k] for p in published]) for k in published[0]}
    names = sorted({str(b) for light in lights for b in light["band"]} - {"outside"})
    own = jla_bandpasses(folder, names)
    kinds = sorted(set(JLA_SYSTEMS.values()))
    options = FitOptions(
        model_covariance=True,
        covariance_tolerance=0.01,
        phase_range=(-15.0, 45.0),
        bounds={"x1": (-20.0, 20.0)},
    )
    print(
        f"\n## JLA\n\n{len(lights)} supernovae; {len(left_out)} left out for want of bandpasses\n"
    )
    for title, bands, systems in (
        ("sncosmo's curves", names, kinds),
        ("the release's curves and zero-point errors", own, [with_bands(k, own) for k in kinds]),
    ):
        fitter = SaltFitter(
            "salt2", bands, version="2.4", z_range=(0.0, 0.5), systems=systems, dust_law="CCM89"
        )
        values = {"z": column["z"], "mwebv": column["mwebv"]}
        curves = LightCurves.from_tables(lights, names, kinds)
        result = fitter.fit(curves, options=options, **values)
        if bands is own:
            flux = fitter.predict(curves, result.parameters, mwebv=column["mwebv"])
            parts = np.split(np.nan_to_num(flux), curves.offsets[1:-1])
            for light, part in zip(lights, parts, strict=True):
                same = light["band"][:, None] == light["band"]
                light["fluxcov"] += np.outer(part * light["zperr"], part * light["zperr"]) * same
            curves = LightCurves.from_tables(lights, names, kinds)
            result = fitter.fit(curves, options=options, **values)
        print(f"\n### With {title}\n")
        jla_table(result, column)


def jla_table(result: FitResult, column: dict[str, np.ndarray]) -> None:
    """Print how far fits are from the published ones."""
    print("| set | n | parameter | median (ours - published) / σ | within 0.1 σ | 0.3 σ | 1 σ | "
          "σ ratio |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for label, mine in (("SDSS", column["set"] == "SD"), ("nearby", column["set"] != "SD")):
        for name in ("t0", "x1", "c"):
            shift = ((result.value(name) - column[name]) / column["d" + name])[mine]
            ratio = np.nanmedian((result.error(name) / column["d" + name])[mine])
            parts = " | ".join(f"{np.mean(np.abs(shift) < k):.1%}" for k in (0.1, 0.3, 1.0))
            print(f"| {label} | {mine.sum()} | {name} | {np.nanmedian(shift):.4f} | {parts} | "
                  f"{ratio:.3f} |")  # fmt: skip
        offset = (-2.5 * np.log10(result.value("x0")) - column["mb"])[mine]
        spread = 0.5 * np.diff(np.nanpercentile(offset, [16, 84]))[0]
        print(f"| {label} | {mine.sum()} | -2.5 log x0 - m_B | {np.nanmedian(offset):.4f} mag, "
              f"half the middle 68 %: {spread:.4f} mag | | | | |")  # fmt: skip


def main() -> None:
    """Run the measurements that are asked for; all of the simulated ones if none is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speed", action="store_true", help="ms per fit")
    parser.add_argument("--agreement", action="store_true", help="the same minima as fit_lc")
    parser.add_argument("--pulls", action="store_true", help="pulls and coverage")
    parser.add_argument("--ztf", type=Path, metavar="FOLDER", help="ZTF SN Ia DR1")
    parser.add_argument("--jla", type=Path, metavar="FOLDER", help="JLA")
    parser.add_argument("--quick", action="store_true", help="small samples")
    parser.add_argument("-n", type=int, help="number of light curves (agreement, pulls)")
    parser.add_argument("--z", choices=["fixed", "free", "both"], default="both",
                        help="redshift in the agreement")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables there too")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen = asked.speed or asked.agreement or asked.pulls or asked.ztf or asked.jla
    out: dict[str, list[Row]] = {}
    warm()
    print("# Batch SALT fits")
    if asked.speed or not chosen:
        out["speed"] = speed(asked.quick)
    if asked.agreement or not chosen:
        print("\n## Agreement with sncosmo.fit_lc")
        free = {"fixed": (False,), "free": (True,), "both": (False, True)}[asked.z]
        out["agreement"] = agreement(asked.n or (60 if asked.quick else 1200), free=free)
    if asked.pulls or not chosen:
        out["pulls"] = pulls(asked.n or (1000 if asked.quick else 10_000))
    if asked.ztf:
        ztf(asked.ztf)
    if asked.jla:
        jla(asked.jla)
    if asked.json:
        asked.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
