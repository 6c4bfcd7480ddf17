"""Light curves for the tests of plots and reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ampel_spark.lightcurve import DETECTION, FORCED, UPPER_LIMIT, LightCurve


class StandIn:
    """A model like a supernova in AB flux: up in ten days, down in twenty, zero outside."""

    def __init__(self, t0: float = 2458200.0, peak: float = 18.0) -> None:
        self.t0, self.peak = t0, peak
        self.asked: list[tuple[str, float, str]] = []

    def bandflux(self, band: str, time: Any, zp: Any = None, zpsys: Any = None) -> Any:
        self.asked.append((band, zp, zpsys))
        days = np.asarray(time) - self.t0
        shape = np.exp(-0.5 * (days / np.where(days < 0, 7.0, 14.0)) ** 2)
        inside = (np.asarray(time) >= self.mintime()) & (np.asarray(time) <= self.maxtime())
        colour = {"ztfg": 1.0, "ztfr": 0.9}.get(band, 0.7)
        return np.where(inside, shape * colour * 10 ** (0.4 * (zp - self.peak)), 0.0)

    def mintime(self) -> float:
        return self.t0 - 20.0

    def maxtime(self) -> float:
        return self.t0 + 50.0


@pytest.fixture(scope="session")
def make_model() -> type[StandIn]:
    """The class of the stand-in for a fitted model."""
    return StandIn


@pytest.fixture
def model() -> StandIn:
    """A stand-in for a fitted model."""
    return StandIn()


@pytest.fixture(scope="session")
def curve() -> Callable[..., LightCurve]:
    """Make a light curve of the stand-in: two bands, limits before the rise, one negative point."""

    def make(name: str = "ZTF20aaaaaaa", stock: int = 1, *, forced: bool = False) -> LightCurve:
        rng = np.random.default_rng(stock)
        jd = 2458200.0 + np.sort(rng.uniform(-35, 60, 60))
        band = np.where(np.arange(60) % 2 == 0, "ztfg", "ztfr").astype(object)
        truth = np.array([StandIn().bandflux(b, t, 25.0) for b, t in zip(band, jd, strict=True)])
        error = np.full(60, 12.0)
        flux = truth + rng.normal(0, error)
        kind = np.where(flux / error > 5, DETECTION, UPPER_LIMIT).astype("i1")
        if forced:
            kind[:] = FORCED
        known = kind != UPPER_LIMIT
        sign = np.where(known, 1, 0).astype("i1")
        if not forced:
            sign[np.flatnonzero(known)[-1]] = -1
        with np.errstate(all="ignore"):
            mag = np.where(kind == DETECTION, 25 - 2.5 * np.log10(flux), np.nan)
        points = {
            "datapoint_id": np.arange(60),
            "kind": kind,
            "jd": jd,
            "band": band,
            "mag": mag,
            "magerr": np.where(kind == DETECTION, 1.0857 * error / np.abs(flux), np.nan),
            "limit_mag": np.where(known, np.nan, 25 - 2.5 * np.log10(5 * error)),
            "sign": sign,
            "flux": np.where(known, flux * np.where(sign < 0, -1, 1), np.nan),
            "fluxerr": np.where(known, error, np.nan),
            "zp": np.full(60, 25.0),
            "zpsys": np.full(60, "ab", object),
            "programid": np.ones(60, "i4"),
            "field": np.ones(60, "i4"),
            "rcid": np.ones(60, "i4"),
            "ra": np.full(60, 150.0),
            "dec": np.full(60, 20.0),
        }
        return LightCurve(f"{stock:032x}", stock, name, points)

    return make
