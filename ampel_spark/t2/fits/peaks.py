"""Where light curves of fitted models are brightest, and how bright."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["PHASES", "peak_magnitudes"]

Array = npt.NDArray[Any]

#: Rest-frame phases of the maximum: all bands of a SN Ia have theirs in here, days.
PHASES = (-14.0, 22.0)
#: First the whole range in these steps, then about the highest point in those.
_COARSE, _FINE = 3.0, 0.5


def peak_magnitudes(flux_at: Callable[[Array], Array], m: int, zp: float) -> Array:
    """Return the magnitudes of the maxima of M light curves between the phases `PHASES`.

    The highest point of a coarse grid, a parabola through it and its neighbours, and another one
    through three points about the top of that: within 1e-4 mag of the model's maximum.

    Parameters
    ----------
    flux_at : callable
        Flux at rest-frame phases with shape (M, P).
    m : int
    zp : float
        Zero point of the flux.

    Returns
    -------
    ndarray with shape (M,)
        NaN where the flux is nowhere above 0.
    """
    rows = np.arange(m)
    grid = np.arange(PHASES[0], PHASES[1] + 0.5 * _COARSE, _COARSE)
    flux = flux_at(np.tile(grid, (m, 1)))
    top = np.argmax(np.where(np.isfinite(flux), flux, -np.inf), axis=1)
    inner = np.clip(top, 1, len(grid) - 2)
    step = _vertex(flux, rows, inner)[0]
    phase = np.clip(grid[inner] + _COARSE * step, *PHASES)
    fine = phase[:, None] + _FINE * np.array([-1.0, 0.0, 1.0])
    peak = _vertex(flux_at(fine), rows, np.ones(m, int))[1]
    with np.errstate(all="ignore"):
        return np.where(peak > 0, zp - 2.5 * np.log10(peak), np.nan)


def _vertex(flux: Array, rows: Array, at: Array) -> tuple[Array, Array]:
    """Return where the parabola through three points is highest, in steps from the middle one.

    Where it has no maximum within a step, that is the highest of the three.
    """
    a, b, c = (flux[rows, at + d] for d in (-1, 0, 1))
    bend, slope = a - 2.0 * b + c, 0.5 * (c - a)
    with np.errstate(all="ignore"):
        step = -slope / bend
        good = (bend < 0) & (np.abs(step) <= 1.0)
        top = b - 0.5 * slope**2 / bend
    highest = np.argmax([a, b, c], axis=0)
    return (
        np.where(good, step, highest - 1.0),
        np.where(good, top, np.choose(highest, [a, b, c])),
    )
