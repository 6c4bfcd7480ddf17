"""Parts of the sky: cones, boxes, polygons, sets of pixels, and probability regions of sky maps.

A `Region` tests positions exactly. It also has ranges of HEALPix pixels that cover it and slightly
more, so that a search reads only a part of a table in order of ``hpx``. See
`ampel_spark.sky.search` for the search itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from ampel_spark.errors import ConfigError
from ampel_spark.sky import healpix
from ampel_spark.sky.angles import DEGREE, good_positions, separation, unit_vectors, window
from ampel_spark.sky.skymaps import DEG2, read_skymap, table_of_fits

__all__ = ["Region", "box", "check_position", "cone", "cones", "moc", "pixels", "polygon", "skymap"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Every point of a pixel is closer than this many pixel sides to its centre (1.045 at the seams of
# the polar caps, for fine pixels).
_PIXEL_RADIUS = 1.1
# The finest order of a cover, and the number of pixels above which it is not refined.
_FINEST, _ENOUGH = 16, 20_000


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the sky.

    Attributes
    ----------
    text : str
        A description for people.
    ranges : ndarray of int64 with shape (N, 2)
        Order-29 pixels that cover it, ``start <= hpx < stop``, in order and apart.
    holds : callable
        Takes right ascensions and declinations (degrees), and returns which positions are in it.
    """

    text: str
    ranges: healpix.Ranges
    holds: Callable[[Floats, Floats], Mask]

    def contains(self, ra: ArrayLike, dec: ArrayLike) -> Mask:
        """Return which positions (degrees) are in it; False for NaN or beyond a pole."""
        ra, dec = (np.atleast_1d(np.asarray(v, np.float64)) for v in (ra, dec))
        found = np.zeros(len(ra), bool)
        good = np.flatnonzero(good_positions(ra, dec))
        found[good] = self.holds(ra[good], dec[good])
        return found

    def sql(self, column: str = "hpx", most: int = 16) -> str:
        """Return a condition for SQL that covers the region and slightly more.

        Parameters
        ----------
        column : str
            The column with the order-29 pixel.
        most : int
            The largest number of ranges; engines plan long chains of OR slowly.
        """
        parts = [f"{column} BETWEEN {a} AND {b - 1}" for a, b in healpix.merged(self.ranges, most)]
        return f"({' OR '.join(parts)})" if parts else "(1 = 0)"


def check_position(ra: float, dec: float, where: str = "") -> None:
    """Raise `ConfigError` if a position (degrees) is not finite or beyond a pole."""
    if not (np.isfinite(ra) and abs(dec) <= 90):
        raise ConfigError(
            f"{where}{ra:g} {dec:g} is no position: degrees, declination within -90 to 90"
        )


def cone(ra: float, dec: float, radius: float) -> Region:
    """Return a circle, its edge included.

    Parameters
    ----------
    ra, dec : float
        The centre, degrees.
    radius : float
        The radius, arcsec.

    Raises
    ------
    ConfigError
        If the centre is no position, or the radius is not within 0 to 180 degrees.

    Examples
    --------
    >>> region = cone(187.7, 12.4, 3600)
    >>> region.contains([187.7, 188.7, 188.8], [12.4, 12.4, 12.4]).tolist()
    [True, True, False]
    """
    check_position(ra, dec)
    if not 0 <= radius < 180 * 3600:
        raise ConfigError(f"radius {radius} is not within 0 to 180 degrees (it is in arcsec)")

    def apart(a: Floats, d: Floats) -> Floats:
        return separation(a, d, ra, dec) / 3600.0

    ranges = _cover(lambda a, d, pad: apart(a, d) <= radius / 3600.0 + pad, radius / 3600.0)
    text = f"cone {ra} {dec} {radius} arcsec"
    return Region(text, ranges, lambda a, d: separation(a, d, ra, dec) <= radius)


def cones(ra: ArrayLike, dec: ArrayLike, radius: ArrayLike) -> Region:
    """Return the union of circles with centres in degrees and radii in arcsec."""
    from ampel_spark.sky.matching import engine_for, match

    ra, dec, radius = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(v, np.float64)) for v in (ra, dec, radius))
    )
    parts = [np.empty((0, 2), np.int64)]
    orders = np.array([healpix.order_for(r / 3600.0) for r in radius], np.int64)
    for order in np.unique(orders):
        mine = np.flatnonzero(orders == order)
        if order < 0:
            parts.append(np.array([[0, healpix.SKY]]))
            continue
        near = healpix.around(healpix.pixels(ra[mine], dec[mine], int(order)), int(order))
        parts.append(healpix.ranges_of(near[near >= 0], int(order)))

    def holds(a: Floats, d: Floats) -> Mask:
        # there are few circles and many positions, so the circles are the left side
        found = np.zeros(len(a), bool)
        engine = engine_for(len(ra), len(a))
        found[match(ra, dec, a, d, radius, how="all", engine=engine).row] = True
        return found

    return Region(f"{len(ra)} cones", healpix.merged(np.concatenate(parts)), holds)


def box(ra: tuple[float, float], dec: tuple[float, float]) -> Region:
    """Return the region from one right ascension eastwards to another, between two declinations.

    Parameters
    ----------
    ra, dec : (float, float)
        Limits, degrees, included. ``ra=(350, 10)`` crosses 0; ``ra=(0, 360)`` is a full ring.

    Raises
    ------
    ConfigError
        If the declinations are out of order or beyond a pole.

    Examples
    --------
    >>> box((350, 10), (-5, 5)).contains([355, 5, 20], [0, 0, 0]).tolist()
    [True, True, False]
    """
    west, low, high = ra[0], *dec
    if not -90 <= low <= high <= 90:
        raise ConfigError(f"declinations {low} to {high}: give two within -90 to 90, in order")
    width = ra[1] - west if ra[1] - west == 360.0 else (ra[1] - west) % 360.0

    def near(a: Floats, d: Floats, pad: float) -> Mask:
        beside = window(d, np.full(len(d), pad)) if pad else np.zeros(len(d))
        turned = (a - west + beside) % 360.0
        inside = (turned <= width + 2 * beside) | (width + 2 * beside >= 360.0)
        return inside & (d >= low - pad) & (d <= high + pad)

    widest = 0.0 if low < 0 < high else min(abs(low), abs(high))
    size = min(high - low, width * np.cos(widest * DEGREE)) / 2
    text = f"box {ra[0]} {ra[1]} {low} {high}"
    return Region(text, _cover(near, max(size, 1e-4)), lambda a, d: near(a, d, 0.0))


def polygon(ra: ArrayLike, dec: ArrayLike) -> Region:
    """Return the inside of a polygon whose sides are great circles, its edge included.

    Parameters
    ----------
    ra, dec : array-like with shape (N,)
        Corners in order, degrees. Sides must not cross, and corners must be within 88 degrees of
        the polygon's middle.

    Raises
    ------
    ConfigError
        If it has fewer than three corners, or is too large.
    """
    ra, dec = (np.asarray(v, np.float64) for v in (ra, dec))
    if len(ra) < 3 or len(ra) != len(dec) or not good_positions(ra, dec).all():
        raise ConfigError("a polygon needs three corners or more, each with ra and dec in degrees")
    corners = unit_vectors(ra, dec)
    middle = corners.mean(axis=0)
    length = np.linalg.norm(middle)
    if length < 1e-6 or (corners @ middle).min() / length < 0.02:
        raise ConfigError("a polygon must stay within 88 degrees of its middle: cut it in parts")
    middle = middle / length
    east = np.cross([0.0, 0.0, 1.0], middle)
    east = np.array([1.0, 0.0, 0.0]) if np.linalg.norm(east) < 1e-9 else east / np.linalg.norm(east)
    north = np.cross(middle, east)

    def flat(vectors: Floats) -> tuple[Floats, Floats, Floats]:
        """Return a projection in which great circles are straight lines."""
        w = vectors @ middle
        with np.errstate(divide="ignore", invalid="ignore"):
            return vectors @ east / w, vectors @ north / w, w

    x, y, _ = flat(corners)

    def holds(a: Floats, d: Floats) -> Mask:
        px, py, w = flat(unit_vectors(a, d))
        inside = np.zeros(len(a), bool)
        for i in range(len(x)):
            j = i - 1
            crosses = (y[i] > py) != (y[j] > py)
            with np.errstate(divide="ignore", invalid="ignore"):
                at = x[i] + (py - y[i]) / (y[j] - y[i]) * (x[j] - x[i])
            inside ^= crosses & (px < at)
        return inside & (w > 0)

    def near(a: Floats, d: Floats, pad: float) -> Mask:
        points = unit_vectors(a, d)
        found = holds(a, d)
        for i in range(len(corners)):
            found |= _to_arc(points, corners[i - 1], corners[i]) <= pad * DEGREE
        return found

    size = np.degrees(np.arccos(np.clip(corners @ middle, -1, 1))).max()
    return Region(f"polygon of {len(ra)} corners", _cover(near, size / 2), holds)


def pixels(ranges: ArrayLike, text: str = "pixels") -> Region:
    """Return the region of order-29 pixels in ranges with shape (N, 2)."""
    held = healpix.merged(np.asarray(ranges, np.int64))
    return Region(text, held, lambda a, d: healpix.in_ranges(healpix.pixels(a, d), held))


def moc(source: str | Path | Sequence[int]) -> Region:
    """Return a multi-order coverage map, given by UNIQ numbers or a FITS file that has them.

    Raise `ConfigError` if the file cannot be read, or has no column UNIQ.
    """
    if isinstance(source, str | Path):
        columns = table_of_fits(Path(source))[0]
        if "UNIQ" not in columns:
            raise ConfigError(f"{source} is no MOC by UNIQ numbers: its columns are {[*columns]}")
        numbers = columns["UNIQ"]
    else:
        numbers = np.asarray(source)
    order, pixel = healpix.of_uniq(numbers.astype(np.int64))
    return pixels(healpix.ranges_of(pixel, order), f"MOC of {len(numbers)} pixels")


def skymap(source: str | Path, level: float = 0.9) -> Region:
    """Return the smallest region of a sky map that holds a probability, and at most a pixel more.

    Parameters
    ----------
    source : path
        A FITS file, multi-order or flat: see `ampel_spark.sky.skymaps.read_skymap`.
    level : float
        The probability, above 0 and at most 1.

    Raises
    ------
    ConfigError
        If the file is no sky map, or the level is out of range.
    """
    if not 0 < level <= 1:
        raise ConfigError(f"level {level}: a probability above 0 and at most 1 is needed")
    found = read_skymap(source, normalised=False)
    best = np.argsort(-found.density, kind="stable")
    held = np.cumsum((found.density * found.area)[best])
    n = min(int(np.searchsorted(held, level * held[-1])) + 1, len(best))
    taken = best[:n]
    text = f"{level:g} of {Path(source).name}, {found.area[taken].sum() * DEG2:.4g} deg2"
    return pixels(healpix.ranges_of(found.pixel[taken], found.order[taken]), text)


def _cover(near: Callable[[Floats, Floats, float], Mask], size: float) -> healpix.Ranges:
    """Return pixels that cover a region, refined to about an eighth of its size (degrees).

    `near` takes positions and a distance (degrees), and returns which are that close to the region.
    """
    from astropy import units as u
    from astropy_healpix import healpix_to_lonlat

    side = np.degrees(np.sqrt(np.pi / 3))
    finest = int(np.clip(np.ceil(np.log2(side / max(size / 8, 1e-9))), 0, _FINEST))
    found = np.arange(12, dtype=np.int64)
    for order in range(finest + 1):
        if len(found) > _ENOUGH:
            finest = order - 1
            break
        if order:
            found = (4 * found[:, None] + np.arange(4)).ravel()
        lon, lat = healpix_to_lonlat(found, 1 << order, order="nested")
        pad = _PIXEL_RADIUS * side / (1 << order)
        found = found[near(lon.to_value(u.deg), lat.to_value(u.deg), pad)]
    return healpix.ranges_of(found, finest)


def _to_arc(points: Floats, a: Floats, b: Floats) -> Floats:
    """Return the angle (radians) from each point to the great-circle arc between a and b."""
    pole = np.cross(a, b)
    length = np.linalg.norm(pole)
    ends = np.minimum(_angle(points, a), _angle(points, b))
    if length < 1e-15:
        return ends
    pole = pole / length
    between = (points @ np.cross(pole, a) >= 0) & (points @ np.cross(pole, b) <= 0)
    return np.where(between, np.abs(np.arcsin(np.clip(points @ pole, -1, 1))), ends)


def _angle(points: Floats, to: Floats) -> Floats:
    chord = np.sqrt(((points - to) ** 2).sum(axis=1))
    return np.asarray(2 * np.arcsin(np.minimum(0.5 * chord, 1.0)))
