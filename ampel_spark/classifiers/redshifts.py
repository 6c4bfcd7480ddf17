"""Redshifts as samples with weights, as AMPEL's `T2ElasticcRedshiftSampler` takes them."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["distance_modulus", "of_errors", "of_quantiles"]

Floats = NDArray[np.float64]

# Pulls of a known redshift, and their weights: the normal density, which sums to 1.
_PULLS, _WEIGHTS = np.array([-1.5, 0.0, 1.5]), np.array([0.19684199, 0.60631602, 0.19684199])
_QUANTILES = ((0, 5), (3, 8), (6, 11))
_QUANTILE_WEIGHTS = np.array([0.2, 0.6, 0.2])


def of_errors(z: Floats, error: Floats) -> tuple[Floats, Floats]:
    """Return three samples of redshifts with errors, and their weights, shape (M, 3).

    Examples
    --------
    >>> of_errors(np.array([0.1]), np.array([0.01]))[0].round(3).tolist()
    [[0.085, 0.1, 0.115]]
    """
    width = np.nan_to_num(error)
    samples = z[:, None] + width[:, None] * _PULLS
    return samples, np.broadcast_to(_WEIGHTS / _WEIGHTS.sum(), samples.shape)


def of_quantiles(quantiles: Floats | Sequence[Sequence[float]]) -> tuple[Floats, Floats]:
    """Return three samples of redshifts by their quantiles 0, 10 … 100 %, and their weights.

    Parameters
    ----------
    quantiles : array-like with shape (M, 11)

    Examples
    --------
    >>> of_quantiles([[0.1 + 0.02 * i for i in range(11)]])[0].round(2).tolist()
    [[0.14, 0.2, 0.26]]
    """
    table = np.asarray(quantiles, np.float64)
    samples = np.stack([table[:, a:b].mean(axis=1) for a, b in _QUANTILES], axis=1)
    return samples, np.broadcast_to(_QUANTILE_WEIGHTS, samples.shape)


def distance_modulus(z: Floats) -> Floats:
    """Return distance moduli [mag] in a flat universe of 70 km/s/Mpc and matter density 0.3.

    Redshifts from 1e-4 to 6 are exact to 1e-4 mag; beyond, the last value counts.
    """
    nodes, moduli = _table()
    return np.interp(np.log(z), nodes, moduli)


@functools.cache
def _table() -> tuple[Floats, Floats]:
    z = np.geomspace(1e-4, 6.0, 1500)
    points, weights = np.polynomial.legendre.leggauss(32)
    inner = 0.5 * z[:, None] * (points + 1.0)
    inverse = 1.0 / np.sqrt(0.3 * (1.0 + inner) ** 3 + 0.7)
    comoving = 299792.458 / 70.0 * 0.5 * z * (inverse @ weights)
    return np.log(z), 5.0 * np.log10(comoving * (1.0 + z)) + 25.0
