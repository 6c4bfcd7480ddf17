"""Simulated light curves with known truth, from sncosmo's own model."""

from __future__ import annotations

from typing import Any

import numpy as np
import sncosmo

from ampel_spark.salt import LightCurves

BANDS = ("ztfg", "ztfr")


def salt_model(source: str = "salt3", version: str = "2.0", dust: Any = None) -> sncosmo.Model:
    """A SALT model behind Milky-Way dust (``mwebv``)."""
    return sncosmo.Model(
        sncosmo.get_source(source, version=version),
        effects=[dust or sncosmo.F99Dust()],
        effect_names=["mw"],
        effect_frames=["obs"],
    )


def simulate(
    n: int,
    seed: int,
    *,
    phases: tuple[float, float] = (-15.0, 40.0),
    cadence: float = 3.0,
    snr: float = 30.0,
    z: tuple[float, float] = (0.02, 0.12),
) -> list[dict[str, Any]]:
    """Light curves in sncosmo's columns, the truth under ``truth``."""
    rng = np.random.default_rng(seed)
    model = salt_model()
    lights = []
    for _ in range(n):
        redshift = rng.uniform(*z)
        truth = {
            "z": redshift,
            "t0": 58500.0 + rng.uniform(0.0, 50.0),
            "x0": 1e-3,
            "x1": rng.normal(0.0, 1.0),
            "c": rng.normal(0.0, 0.1),
            "mwebv": rng.uniform(0.0, 0.2),
        }
        model.set(**truth)
        low, high = (truth["t0"] + p * (1.0 + redshift) for p in phases)
        times = [np.arange(low + rng.uniform(0.0, cadence), high, cadence) for _ in BANDS]
        time = np.concatenate(times)
        band = np.repeat(BANDS, [len(t) for t in times])
        flux = model.bandflux(band, time, zp=25.0, zpsys="ab")
        err = np.full(len(time), flux.max() / snr)
        lights.append(
            {
                "time": time,
                "band": band,
                "flux": flux + err * rng.normal(size=len(time)),
                "fluxerr": err,
                "zp": np.full(len(time), 25.0),
                "zpsys": np.full(len(time), "ab"),
                "truth": truth,
            }
        )
    return lights


def truth(lights: list[dict[str, Any]], name: str) -> np.ndarray:
    """One true parameter of all."""
    return np.array([light["truth"][name] for light in lights])


def columns(light: dict[str, Any]) -> dict[str, Any]:
    """Without the truth: what sncosmo takes."""
    return {name: value for name, value in light.items() if name != "truth"}


def pack(lights: list[dict[str, Any]]) -> LightCurves:
    """As arrays, for the fitters here."""
    return LightCurves.from_tables(lights, BANDS)
