"""HEALPix pixels (NESTED): pixels of positions, pixels near a circle, and ranges of pixels.

A set of pixels of any orders is a sorted list of separate ranges of order-29 pixels, ``start <= hpx
< stop``; a pixel of order `o` covers ``4**(29 - o)`` of them. The whole sky as one tile has order
-1. `uniq` numbers the tiles of all orders (Górski et al. 2005, doi:10.1086/427976; UNIQ numbers as
in the IVOA's MOC standard).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "ORDER",
    "SKY",
    "Ranges",
    "around",
    "in_ranges",
    "merged",
    "of_uniq",
    "order_for",
    "pixels",
    "ranges_of",
    "uniq",
]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
#: Ranges of order-29 pixels, shape (N, 2).
Ranges = npt.NDArray[np.int64]

#: The finest order that a 64-bit integer holds.
ORDER = 29
#: The number of order-29 pixels.
SKY = 12 << (2 * ORDER)

# A circle with a radius of this many pixel sides stays within its centre's pixel and the eight
# neighbours (seven at the corners of faces): pixels are narrowest, 0.66 of a side, in the polar
# caps. A test looks for a counter-example on the full sky.
_NARROWEST = 0.6
_SIDE = np.degrees(np.sqrt(np.pi / 3.0))  # side of an order-0 pixel, degrees


def pixels(ra: Floats, dec: Floats, order: int = ORDER) -> Integers:
    """Return the pixels of positions.

    Parameters
    ----------
    ra, dec : ndarray with shape (N,)
        Positions, degrees; one that is not finite or beyond a pole has the pixel -1.
    order : int
        The pixels' order, 0 to 29.

    Examples
    --------
    >>> pixels(np.array([0.0, 45.0, np.nan]), np.array([0.0, 80.0, 0.0]), order=1).tolist()
    [19, 3, -1]
    """
    from astropy import units as u
    from astropy_healpix import lonlat_to_healpix

    good = np.isfinite(ra) & (np.abs(dec) <= 90.0)
    found = np.full(len(ra), -1, np.int64)
    found[good] = lonlat_to_healpix(ra[good] * u.deg, dec[good] * u.deg, 1 << order, order="nested")
    return found


def order_for(radius: float) -> int:
    """Return the finest order at which a circle lies in its centre's pixel and the neighbours.

    Parameters
    ----------
    radius : float
        Radius of the circle, degrees; a circle that is too large for order 0 has the order -1.
    """
    if radius <= 0.0:
        return ORDER
    fits = np.log2(_NARROWEST * _SIDE / radius)
    return int(min(max(np.floor(fits), -1.0), ORDER))


def around(pixel: Integers, order: int) -> Integers:
    """Return pixels and their neighbours, shape (9, N); -1 stands for a missing neighbour."""
    from astropy_healpix import neighbours

    with np.errstate(invalid="ignore"):
        beside = neighbours(pixel, 1 << order, order="nested")
    return np.vstack([pixel[None], beside]).astype(np.int64)


def ranges_of(pixel: Integers, order: int | Integers) -> Ranges:
    """Return the order-29 ranges of pixels, merged; a pixel of order -1 is the whole sky."""
    order = np.broadcast_to(np.asarray(order, np.int64), np.shape(pixel))
    shift = 2 * (ORDER - np.maximum(order, 0))
    start = np.where(order < 0, 0, np.asarray(pixel, np.int64) << shift)
    stop = np.where(order < 0, SKY, start + (np.int64(1) << shift))
    return merged(np.column_stack([start, stop]))


def merged(ranges: Ranges, most: int | None = None) -> Ranges:
    """Return ranges in order, with ranges that touch or overlap joined.

    Parameters
    ----------
    ranges : ndarray of int64 with shape (N, 2)
        Ranges of order-29 pixels, in any order.
    most : int, optional
        The largest number of ranges to return. The smallest gaps are closed until it is met, so
        that the result covers more than `ranges`.

    Examples
    --------
    >>> merged(np.array([[6, 9], [0, 2], [2, 4]])).tolist()
    [[0, 4], [6, 9]]
    """
    ranges = np.asarray(ranges, np.int64).reshape(-1, 2)
    ranges = ranges[ranges[:, 0] < ranges[:, 1]]
    if not len(ranges):
        return ranges
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ranges[:, 1])
    new = np.append(True, ranges[1:, 0] > reach[:-1])
    start = ranges[new, 0]
    stop = reach[np.append(np.flatnonzero(new)[1:] - 1, len(ranges) - 1)]
    if most is not None and len(start) > most:
        gaps = start[1:] - stop[:-1]
        widest = np.argsort(gaps, kind="stable")[len(gaps) - (most - 1) :]
        keep = np.sort(widest) if most > 1 else np.empty(0, np.int64)
        start, stop = start[np.append(0, keep + 1)], stop[np.append(keep, len(stop) - 1)]
    return np.column_stack([start, stop])


def in_ranges(hpx: Integers, ranges: Ranges) -> npt.NDArray[np.bool_]:
    """Return which order-29 pixels lie in merged ranges, shape (N,)."""
    if not len(ranges):
        return np.zeros(len(hpx), bool)
    at = np.searchsorted(ranges[:, 0], hpx, "right") - 1
    return (at >= 0) & (hpx < ranges[np.maximum(at, 0), 1])


def uniq(pixel: Integers | int, order: Integers | int) -> Integers:
    """Return UNIQ numbers, ``pixel + 4 * 4**order``; 1 for the whole sky (order -1)."""
    order = np.asarray(order, np.int64)
    return np.asarray(
        np.where(order < 0, 1, np.asarray(pixel, np.int64) + (np.int64(1) << (2 * (order + 1))))
    )


def of_uniq(number: Integers) -> tuple[Integers, Integers]:
    """Return the orders and pixels of UNIQ numbers."""
    number = np.asarray(number, np.int64)
    order = np.asarray([(int(n).bit_length() - 1) // 2 - 1 for n in number.ravel()], np.int64)
    order = order.reshape(number.shape)
    return order, np.where(order < 0, 0, number - (np.int64(1) << (2 * (order + 1))))
