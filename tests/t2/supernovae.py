"""Light curves of supernovae with known parameters, made by sncosmo's SALT3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import sncosmo

from ampel_spark.t2 import LightCurve
from ampel_spark.t2.fits.models import bandpass, model

__all__ = ["T0", "injected", "truth"]

T0 = 2459000.0
_POINTS = 30


def truth(
    z: float = 0.06, law: str | None = None, ebv: float = 0.0, **values: float
) -> sncosmo.Model:
    """A SALT3 model of -19.2 mag in B at maximum."""
    made = model("salt3/2.0", law)
    made.set(z=z, t0=T0, **({"x1": 0.7, "c": 0.05} | values))
    made.set_source_peakabsmag(-19.2, "bessellb", "ab")
    if law:
        made.set(mwebv=ebv)
    return made


def injected(
    true: sncosmo.Model,
    seed: int = 1,
    noise: bool = True,
    zp: float = 25.0,
    phases: tuple[float, float] = (-14.0, 40.0),
    bands: Sequence[str] = ("ztfg", "ztfr"),
    results: Any = None,
    **columns: Any,
) -> LightCurve:
    """Thirty points within a range of phases, S/N 30 at most."""
    rng = np.random.default_rng(seed)
    z = true.get("z")
    jd = np.sort(T0 + rng.uniform(phases[0] * (1 + z), phases[1] * (1 + z), _POINTS))
    band = np.resize(np.array(bands, object), _POINTS)
    flux = true.bandflux([bandpass(b)[0] for b in band], jd, zp=zp, zpsys="ab")
    error = np.hypot(flux / 30, flux.max() / 90)
    if noise:
        flux = flux + rng.normal(size=_POINTS) * error
    given = {"jd": jd, "band": band, "flux": flux, "fluxerr": error, "zp": zp}
    given["mag"] = zp - 2.5 * np.log10(np.abs(flux))
    given["magerr"] = 2.5 / np.log(10.0) * np.abs(error / flux)
    given |= {"sign": np.where(flux < 0, -1, 1), "ra": 150.0, "dec": 2.0}
    return LightCurve.of("SN", 1, results, **(given | columns))
