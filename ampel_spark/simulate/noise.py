"""Random numbers that depend on their purpose, not on the order of draws.

In a stream of random numbers, an object's photometry would depend on all earlier draws. Here each
number is a hash of a seed, a site (the quantity) and a key (the object, image or measurement). So
objects can be simulated in any order, in any number of processes, and as whole arrays.
The hash is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195),
applied twice.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["exponential", "key_of", "normal", "uniform"]

_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = 0xFFFFFFFFFFFFFFFF
_KEY = 1 << 32


def key_of(number: ArrayLike, part: ArrayLike = 0) -> NDArray[np.int64]:
    """Return the key of a part of a thing, as of an object's measurement or an image's channel."""
    return np.asarray(number, np.int64) * _KEY + np.asarray(part, np.int64)


def uniform(key: ArrayLike, seed: int, site: str) -> NDArray[np.float64]:
    """Return numbers from the open interval (0, 1), one for each key.

    Parameters
    ----------
    key : array-like of int
        The keys of objects, images or measurements, see `key_of`.
    seed : int
        The simulation's seed.
    site : str
        The name of the quantity.

    Examples
    --------
    >>> both = uniform([7, 8], 1, "flux")
    >>> bool(uniform(8, 1, "flux") == both[1]), bool(uniform(8, 1, "sky") == both[1])
    (True, False)
    """
    start = (seed * _GOLDEN + zlib.crc32(site.encode()) * _FIRST) & _MASK
    keys = np.asarray(key, np.int64)
    # numpy warns of the intended overflow for single numbers, but not for arrays.
    state = _mix(np.atleast_1d(keys).astype(np.uint64) ^ np.uint64(start))
    state = _mix(state + np.uint64(_GOLDEN))
    numbers = ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return numbers.reshape(keys.shape)


def normal(key: ArrayLike, seed: int, site: str) -> NDArray[np.float64]:
    """Return numbers from the standard normal distribution, one for each key."""
    from scipy.special import ndtri

    return np.asarray(ndtri(uniform(key, seed, site)))


def exponential(key: ArrayLike, seed: int, site: str) -> NDArray[np.float64]:
    """Return numbers from the exponential distribution of mean 1, one for each key."""
    return -np.log(uniform(key, seed, site))


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_FIRST)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_SECOND)
    return state ^ (state >> np.uint64(31))
