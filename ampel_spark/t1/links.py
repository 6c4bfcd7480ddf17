"""Links and state ids: the two names of a state.

A *link* is AMPEL's: a signed 32-bit xxHash of the sorted datapoint ids. A *state id* is a hash of
128 bits of the content with its values, so that a recalibrated light curve is another state.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

__all__ = ["link_of", "links", "state_ids"]

Array = npt.NDArray[np.int64]


def link_of(datapoint_ids: Iterable[int]) -> int:
    """Return AMPEL's link of a set of datapoint ids (``T1Compiler``: seed 0, big-endian, sorted).

    Examples
    --------
    >>> link_of([1, 2, 3]) == link_of([3, 1, 2])
    True
    >>> links(np.array([1, 2, 3, 7]), np.array([0, 3, 4])) == [link_of([1, 2, 3]), link_of([7])]
    True
    """
    ids = sorted(datapoint_ids)
    return _signed(xxhash.xxh32_intdigest(struct.pack(f">{len(ids)}q", *ids)))


def links(datapoint_ids: Array, offsets: Array) -> list[int]:
    """Return the links of many states, as `link_of` does for one.

    Parameters
    ----------
    datapoint_ids : ndarray of int64 with shape (N,)
        The datapoints' ids, sorted within each state.
    offsets : ndarray of int64 with shape (M + 1,)
        State ``i`` has the rows ``offsets[i]:offsets[i + 1]``.
    """
    data = memoryview(datapoint_ids.astype(">i8").tobytes())
    return [_signed(xxhash.xxh32_intdigest(data[8 * a : 8 * b])) for a, b in _bounds(offsets)]


def state_ids(headers: Sequence[bytes], content: Array, offsets: Array) -> list[str]:
    """Return the ids of many states, 32 hexadecimal digits each.

    Parameters
    ----------
    headers : sequence of bytes with length M
        Survey and stock of each state.
    content : ndarray of int64 with shape (N, K)
        The canonical integers of each datapoint, in order of id within each state.
    offsets : ndarray of int64 with shape (M + 1,)
        State ``i`` has the rows ``offsets[i]:offsets[i + 1]``.
    """
    width = 8 * content.shape[1]
    data = memoryview(np.ascontiguousarray(content, dtype="<i8").tobytes())
    return [
        hashlib.blake2b(header + data[width * a : width * b], digest_size=16).hexdigest()
        for header, (a, b) in zip(headers, _bounds(offsets), strict=True)
    ]


def _bounds(offsets: Array) -> Iterable[tuple[int, int]]:
    return itertools.pairwise(offsets.tolist())


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value
