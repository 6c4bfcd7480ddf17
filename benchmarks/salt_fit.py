"""Speed and accuracy of the batch SALT fitter, measured against sncosmo and published numbers.

    python benchmarks/salt_fit.py speed       ms per fit: fit_lc, numpy twin, engine
    python benchmarks/salt_fit.py agreement   the same minima as fit_lc, on simulated light curves
    python benchmarks/salt_fit.py pulls       pulls and coverage of 10,000 simulated SNe Ia
    python benchmarks/salt_fit.py ztf FOLDER  ZTF SN Ia DR1 (Dhawan et al. 2022): published fits
    python benchmarks/salt_fit.py jla FOLDER  JLA (Betoule et al. 2014): published fits

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
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sncosmo

from ampel_spark.salt import FitOptions, FitResult, LightCurves, SaltFitter

Light = dict[str, Any]
BANDS = ("ztfg", "ztfr", "ztfi")
FIT = ("t0", "x0", "x1", "c")
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


def speed(n_reference: int = 12, n_engine: int = 600) -> None:
    """Print ms per fit of every cell."""
    print("median CPU ms per fit, one core; ratios against fit_lc's defaults")
    print(
        f"{'model':10} {'cov':3} {'z':5} {'N':>3} {'fit_lc':>8} {'spacing 20':>10} "
        f"{'twin':>8} {'engine':>8} {'ratio':>7} {'vs 20':>7}"
    )
    for source in (("salt3", "2.0"), ("salt2", "2.4")):
        fitter = SaltFitter(source[0], BANDS, version=source[1])
        plain = SaltFitter(source[0], BANDS, version=source[1], engine="numpy")
        salt = model(*source)
        for covariance in (False, True):
            for free in (False, True):
                names = ("z", *FIT) if free else FIT
                bounds = {"z": (0.01, 0.2)} if free else {}
                options = FitOptions(fit=names, bounds=bounds, model_covariance=covariance)
                for n_points in (15, 35, 70):
                    lights = simulate(
                        n_engine, 17 + n_points, ["dense"], source=source, n_points=n_points
                    )
                    some = lights[:n_reference]
                    keys = {"modelcov": covariance, "bounds": bounds or None}
                    slow = np.median([f[0] for f in fit_lc(some, salt, names, **keys)])
                    sncosmo.models.MODEL_BANDFLUX_SPACING = 20.0
                    coarse = np.median([f[0] for f in fit_lc(some, salt, names, **keys)])
                    sncosmo.models.MODEL_BANDFLUX_SPACING = 5.0
                    few, many = (
                        (
                            LightCurves.from_tables(sample, BANDS),
                            truth(sample, "z"),
                            truth(sample, "mwebv"),
                        )
                        for sample in (some[:6], lights)
                    )

                    fit_sample(fitter, few, options)
                    twin = cpu_ms(partial(fit_sample, plain, few, options), 6, 1)
                    fast = cpu_ms(partial(fit_sample, fitter, many, options), n_engine, 5)
                    print(
                        f"{source[0]} {source[1]:4} {'on' if covariance else 'off':3} "
                        f"{'free' if free else 'fixed':5} {n_points:3} {slow:8.1f} {coarse:10.1f} "
                        f"{twin:8.1f} {fast:8.4f} {slow / fast:7.0f} {coarse / fast:7.0f}",
                        flush=True,
                    )


def agreement(n: int = 1200, seed: int = 20261) -> None:
    """Compare minima, parameters and errors with fit_lc's."""
    kinds = ("dense", "sparse", "rise", "real", "dense", "noise")
    lights = simulate(n, seed, kinds)
    bounds = {"x1": (-5.0, 5.0), "c": (-1.0, 2.0)}
    fitter = SaltFitter("salt3", BANDS, version="2.0")
    for covariance in (False, True):
        result = fitter.fit(
            LightCurves.from_tables(lights, BANDS),
            z=truth(lights, "z"),
            mwebv=truth(lights, "mwebv"),
            options=FitOptions(model_covariance=covariance),
        )
        theirs = fit_lc(lights, model("salt3", "2.0"), FIT, bounds=bounds, modelcov=covariance)
        compare(lights, result, theirs, covariance)


def compare(lights: list[Light], ours: FitResult, theirs: list[Any], covariance: bool) -> None:
    """Print the comparison by kind of light curve.

    Clear: the minima coincide, no bound is touched, and no point lies within two days of the first
    or last phase of the model, where its flux jumps.
    """
    kind = truth(lights, "kind")
    done = np.array([f[1] is not None for f in theirs])
    chisq = np.array([f[1].chisq if f[1] is not None else np.nan for f in theirs])
    values, errors = (np.array([f[k] for f in theirs]) for k in (2, 3))
    delta = ours.chisq - chisq
    at_edge = np.zeros(len(lights), bool)
    for i, light in enumerate(lights):
        phase = (light["time"] - ours.value("t0")[i]) / (1.0 + light["truth"]["z"])
        at_edge[i] = np.any(np.minimum(np.abs(phase + 20.0), np.abs(phase - 50.0)) < 2.0)
    if covariance:
        print("\nmodel covariance on (each chi-square has its own frozen covariance)")
    else:
        print("\nmodel covariance off")
    print(
        f"{'kind':8} {'n':>5} {'fit_lc':>6} {'same':>7} {'better':>7} {'worse':>7} "
        f"{'worst':>8} {'clear':>6} {'<.05 s':>7} {'error ratio 5/50/95 %':>24}"
    )
    for name in (*sorted(set(kind)), "SNe"):
        sample = (kind != "noise" if name == "SNe" else kind == name) & done
        n_all = int(np.sum(kind != "noise" if name == "SNe" else kind == name))
        if not sample.any():
            print(f"{name:8} {n_all:5}      0   (fit_lc refuses: no point with S/N > 5)")
            continue
        same = np.abs(delta[sample]) < 0.1
        better, worse = delta[sample] <= -0.1, delta[sample] >= 0.1
        clear = sample & (np.abs(delta) < 0.1) & (ours.flags & 1023 & ~(4 | 32) == 0)
        clear &= np.all(errors[:, 1:] > 0.0, axis=1) & ~at_edge
        shift = np.abs(ours.parameters - values)[clear, 1:] / errors[clear, 1:]
        within = np.mean(np.all(shift < 0.05, axis=1)) if clear.any() else np.nan
        ratio = np.full(3, np.nan)
        if clear.any():
            ratio = np.percentile(ours.errors[clear, 1:] / errors[clear, 1:], [5, 50, 95])
        print(
            f"{name:8} {n_all:5} {int(sample.sum()):6} {np.mean(same):7.1%} {np.mean(better):7.1%} "
            f"{np.mean(worse):7.1%} {np.nanmax(delta[sample]):8.3f} {int(clear.sum()):6} "
            f"{within:7.1%}   {ratio[0]:6.3f} {ratio[1]:6.3f} {ratio[2]:6.3f}"
        )


def pulls(n: int = 10_000) -> None:
    """Pulls and coverage against the truth, model covariance off."""
    lights = simulate(n, 4711, ["dense"], snr=(20.0, 60.0))
    fitter = SaltFitter("salt3", BANDS, version="2.0")
    result = fitter.fit(
        LightCurves.from_tables(lights, BANDS), z=truth(lights, "z"), mwebv=truth(lights, "mwebv")
    )
    print(f"{n} light curves, peak S/N 20-60; status 0: {np.mean(result.status == 0):.2%}")
    print(f"{'':3} {'mean':>8} {'width':>8} {'68.3 %':>8} {'95.4 %':>8}")
    for name in FIT:
        pull = (result.value(name) - truth(lights, name)) / result.error(name)
        pull = pull[np.isfinite(pull)]
        print(
            f"{name:3} {pull.mean():8.4f} {pull.std():8.4f} {np.mean(np.abs(pull) < 1):8.3f} "
            f"{np.mean(np.abs(pull) < 2):8.3f}"
        )


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


def jla(folder: Path) -> None:
    """Refit the SDSS supernovae of JLA (their bandpasses and system are sncosmo's own).

    As snfit did: SALT2 2.4, phases -15 to 45, effective wavelengths 3000 to 7000 Å in the rest
    frame, model covariance, the covariances of the release between points.
    """
    with open(folder / "jla_lcparams.txt") as lines:
        names, *rows = (line.split() for line in lines)
        release = {
            row[0]: dict(zip((n.lstrip("#") for n in names), row, strict=True)) for row in rows
        }
    bands = [f"sdss{b}" for b in "ugriz"]
    centre = {b: sncosmo.get_bandpass(b).wave_eff for b in bands}
    lights, published = [], []
    for path in sorted((folder / "light_curves").glob("lc-SDSS*.list")):
        data = sncosmo.read_lc(str(path), format="salt2", read_covmat=True)
        row = release[path.stem.removeprefix("lc-")]
        z = float(row["zhel"])
        band = np.array([str(b).lower().replace("::", "") for b in data["Filter"]])
        rest = np.array([centre[b] for b in band]) / (1.0 + z)
        light = {
            "time": np.array(data["Date"]),
            "flux": np.array(data["Flux"]),
            "fluxerr": np.array(data["Fluxerr"]),
            "band": np.where((rest > 3000.0) & (rest < 7000.0), band, "outside"),
            "zp": np.array(data["ZP"]),
            "zpsys": np.full(len(band), "ab-b12"),
        }
        if "Fluxcov" in data.colnames:
            light["fluxcov"] = np.array(data["Fluxcov"])
        lights.append(light)
        published.append(
            {
                **{k: float(row[k]) for k in ("x1", "dx1", "color", "dcolor", "tmax")},
                "z": z,
                "mwebv": float(data.meta["MWEBV"]),
                "dtmax": float(row["dtmax"]),
                "mb": float(row["mb"]),
            }
        )
    column = {k: np.array([p[k] for p in published]) for k in published[0]}
    fitter = SaltFitter(
        "salt2", bands, version="2.4", z_range=(0.0, 0.5), systems=("ab-b12",), dust_law="CCM89"
    )
    options = FitOptions(
        model_covariance=True,
        covariance_tolerance=0.01,
        phase_range=(-15.0, 45.0),
        bounds={"x1": (-20.0, 20.0)},
    )
    curves = LightCurves.from_tables(lights, bands, ("ab-b12",))
    result = fitter.fit(curves, z=column["z"], mwebv=column["mwebv"], options=options)
    print(f"{len(lights)} SDSS supernovae of JLA; status {np.bincount(result.status + 3)[3:]}")
    for ours, theirs in (("t0", "tmax"), ("x1", "x1"), ("c", "color")):
        sigma = column["d" + theirs] if theirs != "tmax" else column["dtmax"]
        shift = (result.value(ours) - column[theirs]) / sigma
        ratio = result.error(ours) / sigma
        print(
            f"  {ours:3} (ours - published) / sigma: median {np.median(shift):7.4f}, "
            f"within 0.1: {np.mean(np.abs(shift) < 0.1):.1%}, "
            f"0.3: {np.mean(np.abs(shift) < 0.3):.1%}, "
            f"1: {np.mean(np.abs(shift) < 1):.1%}; error ratio {np.nanmedian(ratio):.3f}"
        )
    m_b = -2.5 * np.log10(result.value("x0"))
    offset = m_b - column["mb"]
    print(
        f"  m_B: -2.5 log10(x0) - m_B = {np.median(offset):.4f} +- {np.std(offset):.4f} mag "
        f"(half width of the middle 68 %: {0.5 * np.diff(np.percentile(offset, [16, 84]))[0]:.4f})"
    )


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["speed", "agreement", "pulls", "ztf", "jla"])
    parser.add_argument("folder", nargs="?", type=Path, help="published data (ztf, jla)")
    parser.add_argument("-n", type=int, help="number of light curves (agreement, pulls)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.what in ("ztf", "jla") and arguments.folder is None:
        parser.error(f"{arguments.what} needs the folder of the published data")
    if arguments.what == "speed":
        speed()
    elif arguments.what == "agreement":
        agreement(*([arguments.n] if arguments.n else []))
    elif arguments.what == "pulls":
        pulls(*([arguments.n] if arguments.n else []))
    elif arguments.what == "ztf":
        ztf(arguments.folder)
    else:
        jla(arguments.folder)


if __name__ == "__main__":
    main()
