"""Random numbers that follow from what they are for, not from the order in which they are drawn.

A stream of random numbers would tie an object's photometry to everything drawn before it. Here each
number is a hash of a seed, a site (which quantity) and a key (which object, image or measurement),
so that objects can be simulated in any order, in any number of processes, and whole arrays at once.
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
    """Return the key of part of something: of an object's measurement, of an exposure's channel."""
    return np.asarray(number, np.int64) * _KEY + np.asarray(part, np.int64)


def uniform(key: ArrayLike, seed: int, site: str) -> NDArray[np.float64]:
    """Return numbers from the open interval (0, 1), one for each key.

    Parameters
    ----------
    key : array-like of int
        What the numbers are for, see `key_of`.
    seed : int
        Of the simulation.
    site : str
        Name of the quantity.
    """
    start = (seed * _GOLDEN + zlib.crc32(site.encode()) * _FIRST) & _MASK
    keys = np.asarray(key, np.int64)
    # At least one dimension: single numbers would warn that they overflow, as they are meant to.
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
