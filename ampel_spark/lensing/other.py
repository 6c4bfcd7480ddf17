"""The third hypothesis: a transient of another kind at the catalogue's redshift.

Its light curve is any smooth one: a Gaussian process in flux, whose bands go partly together, with
an amplitude that the luminosities of core-collapse and superluminous supernovae make likely.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ln_other"]

Array = NDArray[np.float64]

#: Days over which light curves stay alike, and how much of it all bands share.
SCALES, TOGETHER = (7.0, 14.0, 30.0), 0.8
#: Amplitudes, as magnitudes below the brightest point, and their distance.
AMPLITUDES, STEP = (-0.75, 0.0, 0.75, 1.5), 0.75
#: Luminosities: share, peak magnitude, its scatter. Of core collapse (Li et al. 2011,
#: doi:10.1111/j.1365-2966.2011.18160.x, widened) and superluminous supernovae.
KINDS = ((0.93, -17.3, 1.2), (0.07, -21.3, 0.8))


def ln_other(
    points: Any, z_density: Array, z: Array, modulus: Array, error_fraction: float
) -> Array:
    """Return ln of the evidence of a transient of another kind; -inf without points.

    Parameters
    ----------
    points : kernel.Photometry
        Of n objects, zero point 25.
    z_density : ndarray, shape (n, Z)
        Density of each object's redshift, by the catalogue.
    z, modulus : ndarray, shape (Z,)
        Redshifts, even in their logarithm, and distance moduli.
    error_fraction : float
        Fraction of the flux that is added to errors.
    """
    n = len(points.offsets) - 1
    out = np.full(n, -np.inf)
    weight = z * math.log(z[1] / z[0])
    for i in range(n):
        span = slice(points.offsets[i], points.offsets[i + 1])
        time, flux, band = points.time[span], points.flux[span], points.band[span]
        if not len(time) or not flux.max() > 0.0:
            continue
        variance = points.fluxerr[span] ** 2 + (error_fraction * flux) ** 2
        apart = (time[:, None] - time) ** 2
        alike = np.where(band[:, None] == band, 1.0, TOGETHER)
        top = 25.0 - 2.5 * math.log10(flux.max())
        prior = z_density[i] * weight
        terms = []
        for amplitude in AMPLITUDES:
            mag = top + amplitude - modulus
            density = sum(
                share * np.exp(-0.5 * ((mag - mean) / width) ** 2) / (width * math.sqrt(2 * np.pi))
                for share, mean, width in KINDS
            )
            chance = float((prior * density).sum()) * STEP / len(SCALES)
            size = 10.0 ** (-0.8 * (top + amplitude - 25.0))
            for scale in SCALES:
                matrix = size * alike * np.exp(-0.5 * apart / scale**2)
                matrix[np.diag_indices_from(matrix)] += variance
                terms.append(math.log(max(chance, 1e-300)) + _ln_density(matrix, flux))
        best = max(terms)
        out[i] = best + math.log(sum(math.exp(term - best) for term in terms))
    return out


def _ln_density(matrix: Array, flux: Array) -> float:
    """Return ln of the density of a Gaussian about zero, less its power of 2 pi."""
    lower = np.linalg.cholesky(matrix)
    white = np.linalg.solve(lower, flux)
    return float(-0.5 * white @ white - np.log(np.diag(lower)).sum())
