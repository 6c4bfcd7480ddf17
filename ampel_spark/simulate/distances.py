"""Distances and volumes in a flat universe of 70 km/s/Mpc and matter density 0.3."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["arcsec_of", "by_volume", "distance_modulus"]

Floats = NDArray[np.float64]

_NODES = np.geomspace(0.002, 0.6, 400)


def distance_modulus(z: Floats) -> Floats:
    """Return distance moduli [mag] of redshifts from 0.002 to 0.6, exact to 1e-4 mag."""
    return np.interp(np.log(z), np.log(_NODES), _tables()[0])


def arcsec_of(kpc: Floats, z: Floats) -> Floats:
    """Return the angles [arcsec] of proper lengths [kpc] at redshifts from 0.002 to 0.6."""
    return np.asarray(kpc / np.exp(np.interp(np.log(z), np.log(_NODES), _tables()[1])))


def by_volume(low: float, high: float, chance: Floats) -> Floats:
    """Return redshifts distributed evenly in comoving volume and time of the source.

    Parameters
    ----------
    low, high : float
        Limits of the redshift.
    chance : array
        Uniform random numbers from 0 to 1.
    """
    nodes = np.linspace(low, high, 200)
    density = np.asarray(_cosmology().differential_comoving_volume(nodes).value) / (1.0 + nodes)
    total = np.append(0.0, np.cumsum((density[1:] + density[:-1]) / 2.0))
    return np.asarray(np.interp(chance * total[-1], total, nodes))


@functools.cache
def _tables() -> tuple[Floats, Floats]:
    """Return the distance moduli, and the logarithms of kpc per arcsec, at the nodes."""
    cosmology = _cosmology()
    scale = cosmology.kpc_proper_per_arcmin(_NODES).value / 60.0
    return np.asarray(cosmology.distmod(_NODES).value), np.log(scale)


def _cosmology() -> Any:
    from astropy.cosmology import FlatLambdaCDM

    return FlatLambdaCDM(H0=70.0, Om0=0.3)
