"""Sky maps: the probability of an event's place, in HEALPix pixels of one or several orders.

A map is read from FITS, multi-order (``UNIQ``, ``PROBDENSITY``) or flat (``PROB``, NESTED or RING),
with distances where it has them. The *level* of a pixel is the probability of all pixels that are
at least as dense, itself included: so the pixels of level 0.9 or less hold 90 % less a part of one
pixel, and are those of LVK's published 90 % region.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.bounds import TooLargeError, check_fits
from ampel_spark.errors import ConfigError
from ampel_spark.sky import healpix

__all__ = ["DEG2", "SkyMap", "read_skymap", "table_of_fits"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Square degrees of a steradian.
DEG2 = float(np.degrees(1.0) ** 2)
#: By how much the sum of a map may differ from 1: some senders write single precision.
_SUM = 1e-3
#: What a flat map calls its probabilities.
_FLAT = ("PROB", "PROBABILITY", "PROBDENSITY")
_DISTANCES = ("DISTMU", "DISTSIGMA", "DISTNORM")
#: In the wrong order a map's siblings differ from each other this many times as much.
_ROUGHER = 1.5


@dataclass(frozen=True, eq=False)
class SkyMap:
    """A sky map; pixels are in order on the sky, and apart.

    Attributes
    ----------
    order, pixel : ndarray of int64 with shape (N,)
        HEALPix orders and pixels, NESTED.
    density : ndarray of float64 with shape (N,)
        Probability per steradian.
    distmu, distsigma, distnorm : ndarray of float64 with shape (N,) or (0,)
        Location [Mpc], scale [Mpc] and norm [1/Mpc²] of the distance in each pixel; empty where
        the map has no distances.
    about : mapping
        What the file's head says: ``object``, ``jd`` (time of the event, UTC), ``sent`` (when the
        file was made, JD UTC), ``distmean`` and ``diststd`` [Mpc], ``creator``, ``instruments``.
    """

    order: Integers
    pixel: Integers
    density: Floats
    distmu: Floats = field(default_factory=lambda: np.empty(0))
    distsigma: Floats = field(default_factory=lambda: np.empty(0))
    distnorm: Floats = field(default_factory=lambda: np.empty(0))
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pixel)

    @property
    def has_distance(self) -> bool:
        """Whether the map has a distance in each pixel."""
        return len(self.distmu) > 0

    @cached_property
    def start(self) -> Integers:
        """First order-29 pixel of each pixel, in order."""
        return self.pixel << (2 * (healpix.ORDER - self.order))

    @cached_property
    def area(self) -> Floats:
        """Area of each pixel, steradian."""
        return np.asarray(4 * np.pi / (12 * 4.0**self.order), np.float64)

    @cached_property
    def total(self) -> float:
        """Sum of the probability."""
        return float((self.density * self.area).sum())

    @cached_property
    def level(self) -> Floats:
        """Probability of all pixels that are at least as dense as each, as a part of all."""
        best = np.argsort(-self.density, kind="stable")
        held = np.cumsum((self.density * self.area)[best])
        found = np.empty(len(self))
        found[best] = held / held[-1] if len(held) and held[-1] > 0 else 1.0
        return found

    def at(self, hpx: Integers) -> Integers:
        """Return the number of the pixel that holds each order-29 pixel; -1 where none does."""
        row = np.searchsorted(self.start, hpx, "right") - 1
        width = np.int64(1) << (2 * (healpix.ORDER - self.order))
        held = (row >= 0) & (hpx >= 0)
        held &= hpx < (self.start + width)[np.maximum(row, 0)]
        return np.where(held, row, -1)

    def within(self, level: float) -> Integers:
        """Return the numbers of the pixels of a level or less."""
        return np.flatnonzero(self.level <= level)

    def area_within(self, level: float) -> float:
        """Return the area of the pixels of a level or less, square degrees."""
        return float(self.area[self.within(level)].sum()) * DEG2

    def ranges(self, level: float) -> healpix.Ranges:
        """Return the order-29 ranges of the pixels of a level or less."""
        rows = self.within(level)
        return healpix.ranges_of(self.pixel[rows], self.order[rows])


def read_skymap(source: str | Path, normalised: bool = True) -> SkyMap:
    """Read a sky map.

    Parameters
    ----------
    source : path
        A FITS file, also compressed: multi-order, with ``UNIQ`` and ``PROBDENSITY`` [1/sr]; or
        flat, with ``PROB`` and the head entries ``ORDERING`` and ``NSIDE``.
    normalised : bool, optional
        Whether a map that does not sum to 1 is refused.

    Raises
    ------
    ConfigError
        If the file cannot be read, lacks a column or an entry, holds values that are no
        probabilities, does not sum to 1, or is in another order than it says.

    References
    ----------
    Singer & Price 2016, Physical Review D 93, 024013, doi:10.1103/PhysRevD.93.024013
    """
    path = Path(source)
    columns, head = table_of_fits(path)
    columns = {name.upper(): values for name, values in columns.items()}
    _check_frame(path, head)
    if "UNIQ" in columns:
        if "PROBDENSITY" not in columns:
            raise ConfigError(
                f"{path} is no multi-order sky map (UNIQ, PROBDENSITY): it has {', '.join(columns)}"
            )
        found = _multi_order(path, columns)
    else:
        found = _flat(path, columns, head)
    order, pixel, density, distances = found
    at = np.argsort(pixel << (2 * (healpix.ORDER - order)), kind="stable")
    mu, sigma, norm = (v[at] for v in distances) if distances else [np.empty(0)] * 3
    made = SkyMap(order[at], pixel[at], density[at], mu, sigma, norm, _about(head))
    _check(path, made)
    if normalised and abs(made.total - 1.0) > _SUM:
        raise ConfigError(
            f"{path}: the probability sums to {made.total:.6g} and not to 1: is it a density, or a "
            "part of the map?"
        )
    return made


def table_of_fits(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Return the columns of the first table of a FITS file, and its head.

    Raises
    ------
    ConfigError
        If the file cannot be read, or has no table.
    """
    import warnings

    from astropy.io import fits

    try:
        # a file that is cut off is first a warning of astropy's, and then an error
        with warnings.catch_warnings(), fits.open(path) as units:
            warnings.simplefilter("ignore")
            check_fits(units, path)
            for unit in units:
                if isinstance(unit, fits.BinTableHDU):
                    columns = {
                        name: np.asarray(unit.data[name]).astype(
                            unit.data[name].dtype.newbyteorder("=")
                        )
                        for name in unit.columns.names
                    }
                    head = {k: v for k, v in unit.header.items() if k not in ("HISTORY", "COMMENT")}
                    return columns, head
    except (OSError, TooLargeError, TypeError, ValueError, KeyError, IndexError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    raise ConfigError(f"{path} has no table")


def _check_frame(path: Path, head: Mapping[str, Any]) -> None:
    frame = str(head.get("COORDSYS", "C")).strip().upper()
    if frame[:1] != "C" and frame not in ("ICRS", "EQUATORIAL", "EQ", "J2000"):
        raise ConfigError(f"{path}: COORDSYS is {frame!r}: a map in ICRS (C) is needed")


def _multi_order(
    path: Path, columns: Mapping[str, npt.NDArray[Any]]
) -> tuple[Integers, Integers, Floats, list[Floats]]:
    number = columns["UNIQ"].astype(np.int64)
    if not len(number) or number.min() < 4 or number.max() >= 16 << (2 * healpix.ORDER):
        raise ConfigError(f"{path}: UNIQ has a number that is no HEALPix pixel")
    order, pixel = healpix.of_uniq(number)
    distances = [columns[n].astype(np.float64) for n in _DISTANCES if n in columns]
    return order, pixel, columns["PROBDENSITY"].astype(np.float64), _all_or_none(distances)


def _all_or_none(distances: list[Floats]) -> list[Floats]:
    return distances if len(distances) == len(_DISTANCES) else []


def _flat(
    path: Path, columns: Mapping[str, npt.NDArray[Any]], head: Mapping[str, Any]
) -> tuple[Integers, Integers, Floats, list[Floats]]:
    name = next((n for n in _FLAT if n in columns), None)
    if name is None:
        raise ConfigError(
            f"{path} is no sky map: it has neither UNIQ and PROBDENSITY nor PROB, but "
            f"{', '.join(columns) or 'nothing'}"
        )
    if str(head.get("INDXSCHM", "IMPLICIT")).strip() != "IMPLICIT":
        raise ConfigError(f"{path}: INDXSCHM is {head['INDXSCHM']!r}: give the map of the full sky")
    # healpy writes rows of 1024 pixels
    values = np.column_stack(
        [columns[n].astype(np.float64).ravel() for n in (name, *_DISTANCES) if n in columns]
    )
    order = round(np.log2(max(len(values), 1) / 12) / 2) if len(values) >= 12 else -1
    if order < 0 or len(values) != 12 << (2 * order):
        raise ConfigError(f"{path} has {len(values)} pixels, which no NSIDE has")
    if int(head.get("NSIDE", 1 << order)) != 1 << order:
        raise ConfigError(f"{path}: NSIDE is {head['NSIDE']}, but it has {len(values)} pixels")
    values = _nested(path, values, order, str(head.get("ORDERING", "")).strip().upper())
    if name != "PROBDENSITY":
        values[:, 0] /= 4 * np.pi / len(values)
    return _coarser(values, order)


def _nested(path: Path, values: Floats, order: int, ordering: str) -> Floats:
    """Return the pixels of a flat map in NESTED order; a map that says the wrong one is refused."""
    from astropy_healpix.core import nested_to_ring

    if ordering not in ("RING", "NESTED", "NEST"):
        raise ConfigError(f"{path}: ORDERING is {ordering or 'absent'}: RING or NESTED is needed")
    # the RING pixel of each NESTED one: takes a map in RING order to NESTED
    ring = nested_to_ring(np.arange(len(values)), 1 << order)
    if ordering == "RING":
        said, other = values[ring], values
        hint = "NESTED"
    else:
        said, other = values, values[ring]
        hint = "RING"
    if order > 0 and _rough(said[:, 0]) > _ROUGHER * _rough(other[:, 0]) + 0.05:
        raise ConfigError(
            f"{path}: ORDERING says {ordering}, but the map is smooth in {hint} order alone: "
            "correct the head"
        )
    return said


def _rough(probability: Floats) -> float:
    """Return how much siblings differ from their mean, as a part of the sum: 0 to 1.5."""
    blocks = np.nan_to_num(np.abs(probability)).reshape(-1, 4)
    total = blocks.sum()
    if total <= 0:
        return 0.0
    return float(np.abs(blocks - blocks.mean(axis=1, keepdims=True)).sum() / total)


def _coarser(values: Floats, order: int) -> tuple[Integers, Integers, Floats, list[Floats]]:
    """Return a flat map with four equal siblings as one pixel, over and over: nothing is lost."""
    orders, pixels, parts = [], [], []
    pixel, rows = np.arange(len(values), dtype=np.int64), values
    for k in range(order, -1, -1):
        first = np.flatnonzero((pixel[: max(len(pixel) - 3, 0)] & 3) == 0)
        whole = first[pixel[first + 3] == pixel[first] + 3] if k else first[:0]
        blocks = rows[whole[:, None] + np.arange(4)]
        same = (blocks == blocks[:, :1]) | (np.isnan(blocks) & np.isnan(blocks[:, :1]))
        whole = whole[same.all(axis=(1, 2))]
        left = np.ones(len(pixel), bool)
        left[(whole[:, None] + np.arange(4)).ravel()] = False
        orders.append(np.full(int(left.sum()), k, np.int64))
        pixels.append(pixel[left])
        parts.append(rows[left])
        pixel, rows = pixel[whole] >> 2, rows[whole]
    found = np.concatenate(parts)
    distances = [found[:, i].copy() for i in range(1, found.shape[1])]
    return (np.concatenate(orders), np.concatenate(pixels), found[:, 0].copy(),
            _all_or_none(distances))  # fmt: skip


def _check(path: Path, skymap: SkyMap) -> None:
    if not np.isfinite(skymap.density).all() or (skymap.density < 0).any():
        raise ConfigError(f"{path}: a probability is negative or no number")
    stop = skymap.start + (np.int64(1) << (2 * (healpix.ORDER - skymap.order)))
    if (skymap.start[1:] < stop[:-1]).any():
        raise ConfigError(f"{path}: pixels overlap")


def _about(head: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a head says; its dates are UTC, by the standard, where they name no zone."""
    said: dict[str, Any] = {
        "object": head.get("OBJECT"),
        "distmean": head.get("DISTMEAN"),
        "diststd": head.get("DISTSTD"),
        "creator": head.get("CREATOR"),
        "instruments": head.get("INSTRUME"),
        "jd": _date(head.get("DATE-OBS")),
        "sent": _date(head.get("DATE")),
    }
    if said["jd"] is None and isinstance(head.get("MJD-OBS"), float):
        said["jd"] = float(head["MJD-OBS"]) + 2400000.5
    return {name: value for name, value in said.items() if value is not None}


def _date(text: Any) -> float | None:
    try:
        moment = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp() / 86400.0 + 2440587.5
