"""Matches of objects to events: which regions hold a position, and whether it was seen in time.

All regions are covered by ranges of HEALPix pixels, cut where any of them begins or ends: so one
look-up says which events a position can belong to, and only these are measured. The plain twin, a
loop over objects and events, is in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from ampel_spark.errors import ConfigError
from ampel_spark.events.event import MAP, NONE, Event
from ampel_spark.events.shapes import EventShapes, sigma_of
from ampel_spark.sky import healpix
from ampel_spark.sky.skymaps import DEG2

__all__ = ["EventIndex", "EventMatches", "Times", "nearest_times"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Objects that are looked up at a time, so that pairs stay in bounds.
_CHUNK = 200_000


class Times(NamedTuple):
    """Times of many objects: those of object ``i`` are ``jd[offsets[i]:offsets[i + 1]]``."""

    offsets: Integers
    jd: Floats

    @classmethod
    def one_each(cls, jd: ArrayLike) -> Times:
        """Return one time for each object."""
        jd = np.atleast_1d(np.asarray(jd, np.float64))
        return cls(np.arange(len(jd) + 1), jd)


class EventMatches(NamedTuple):
    """Pairs of an object and an event, in order of object, and the densest event first.

    Attributes
    ----------
    left : ndarray of int64
        Number of the object.
    event : ndarray of int64
        Number of the event in `EventIndex.events`.
    level : ndarray of float64
        Probability of the smallest region about the centre that holds the position.
    sigma : ndarray of float64
        The same as sigma of a Gaussian in two dimensions.
    density : ndarray of float64
        Probability density at the position, 1/deg².
    offset : ndarray of float64
        Time of the event minus that of the object, days; NaN without times.
    distmu, distsigma : ndarray of float64
        Distance in the direction of the position, and its scale, Mpc; NaN where a map has none.
    """

    left: Integers
    event: Integers
    level: Floats
    sigma: Floats
    density: Floats
    offset: Floats
    distmu: Floats
    distsigma: Floats


class EventIndex:
    """Events, made ready to be matched.

    Parameters
    ----------
    events : sequence of Event
        Retractions among them have no region and match nothing.
    level : float, optional
        Probability of the regions; by default each event's own, 0.9 for maps.
    rectangle : bool
        Whether a position counts that lies in the rectangle about an ellipse.

    Raises
    ------
    ConfigError
        If the level is not above 0 and below 1.

    Examples
    --------
    >>> event = Event("IC1", "IceCube", 2459000.5, "ellipse", ra=0.2, dec=0, major=1, minor=1)
    >>> found = EventIndex([event]).match([359.5, 2.0], [0.0, 0.0])
    >>> found.left.tolist(), found.level.round(3).tolist()
    ([0], [0.676])
    """

    def __init__(
        self, events: Sequence[Event], level: float | None = None, rectangle: bool = False
    ) -> None:
        if level is not None and not 0 < level < 1:
            raise ConfigError(f"level {level}: a probability above 0 and below 1 is needed")
        self.events = tuple(events)
        self.level, self.rectangle = level, rectangle
        self.shapes = EventShapes.of(self.events)
        self.jd = np.array([e.jd for e in self.events], np.float64)
        names = sorted({e.event for e in self.events})
        self._rank = np.array([names.index(e.event) for e in self.events], np.int64)
        self._is_map = np.array([e.shape == MAP for e in self.events], bool)
        self._edges, self._first, self._held = _cut(self.ranges(), len(self.events))

    def __len__(self) -> int:
        return len(self.events)

    def match(
        self,
        ra: ArrayLike,
        dec: ArrayLike,
        times: Times | None = None,
        before: float = np.inf,
        after: float = np.inf,
    ) -> EventMatches:
        """Return the events whose region holds a position, and whose window holds a time of it.

        Parameters
        ----------
        ra, dec : array-like with shape (N,)
            Positions, degrees; what is no position matches nothing.
        times : Times, optional
            Times of the objects, JD; of several the one that is closest to the event counts.
        before, after : float
            The window: days before and after an event, both limits included.
        """
        ra, dec = (np.atleast_1d(np.asarray(v, np.float64)) for v in (ra, dec))
        parts = [
            self._match(ra, dec, times, (before, after), first, min(first + _CHUNK, len(ra)))
            for first in range(0, max(len(ra), 1), _CHUNK)
        ]
        return EventMatches(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _match(
        self,
        ra: Floats,
        dec: Floats,
        times: Times | None,
        window: tuple[float, float],
        first: int,
        stop: int,
    ) -> EventMatches:
        hpx = healpix.pixels(ra[first:stop], dec[first:stop])
        at = np.searchsorted(self._edges, hpx, "right") - 1
        at = np.where(hpx >= 0, np.clip(at, -1, len(self._first) - 2), -1)
        count = np.where(at >= 0, self._first[at + 1] - self._first[np.maximum(at, 0)], 0)
        left = np.repeat(np.arange(len(at)), count)
        within = np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count)
        k = self._held[np.repeat(self._first[np.maximum(at, 0)], count) + within]
        offset = np.full(len(left), np.nan)
        if times is not None:
            offset = nearest_times(times, left + first, self.jd[k], window)
            seen = np.isfinite(offset)
            left, k, offset = left[seen], k[seen], offset[seen]
        level, density, distmu, distsigma = self._measured(k, left + first, ra, dec, hpx[left])
        inside = np.flatnonzero(np.isfinite(level))
        keys = (self._rank[k[inside]], -density[inside], left[inside])
        order = inside[np.lexsort(keys)]
        level = level[order]
        return EventMatches(
            left[order] + first, k[order], level, sigma_of(level), density[order], offset[order],
            distmu[order], distsigma[order],
        )  # fmt: skip

    def _measured(
        self, k: Integers, left: Integers, ra: Floats, dec: Floats, hpx: Integers
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Return level, density and distances of pairs; a level is NaN outside of the region."""
        level, density, mu, sigma = (np.full(len(k), np.nan) for _ in range(4))
        plain = np.flatnonzero(~self._is_map[k])
        if len(plain):
            mine = k[plain]
            u, v = self.shapes.offsets(mine, ra[left[plain]], dec[left[plain]])
            far = np.maximum(np.abs(u), np.abs(v)) if self.rectangle else np.hypot(u, v)
            inside = far <= self.shapes.scale(mine, self.level)
            level[plain] = np.where(inside, self.shapes.level(mine, u, v), np.nan)
            density[plain] = self.shapes.density(mine, u, v)
        for event, pairs in _groups(k, np.flatnonzero(self._is_map[k])):
            skymap = self.events[event].skymap
            assert skymap is not None
            row = skymap.at(hpx[pairs])
            level[pairs] = skymap.level[row]
            density[pairs] = skymap.density[row] / DEG2
            if skymap.has_distance:
                mu[pairs], sigma[pairs] = skymap.distmu[row], skymap.distsigma[row]
        return level, density, mu, sigma

    def ranges(self) -> list[tuple[Integers, Integers, Integers]]:
        """Return order-29 ranges that cover the regions, as starts, stops and numbers of events."""
        found: list[tuple[Integers, Integers, Integers]] = []
        plain = np.flatnonzero([e.shape not in (MAP, NONE) for e in self.events])
        if len(plain):
            reach = self.shapes.reach(self.level)
            found += _circles(self.shapes.ra, self.shapes.dec, reach, plain)
        for i in np.flatnonzero(self._is_map):
            skymap = self.events[i].skymap
            assert skymap is not None
            ranges = skymap.ranges(0.9 if self.level is None else self.level)
            found.append((ranges[:, 0], ranges[:, 1], np.full(len(ranges), i)))
        return found


def _circles(
    ra: Floats, dec: Floats, reach: Floats, which: Integers
) -> Iterator[tuple[Integers, Integers, Integers]]:
    """Yield the ranges of pixels that cover circles (degrees)."""
    orders = np.array([healpix.order_for(reach[i]) for i in which], np.int64)
    for order in np.unique(orders):
        mine = which[orders == order]
        if order < 0:
            yield np.zeros(len(mine), np.int64), np.full(len(mine), healpix.SKY), mine
            continue
        near = healpix.around(healpix.pixels(ra[mine], dec[mine], int(order)), int(order))
        number = np.broadcast_to(mine, near.shape)[near >= 0]
        shift = 2 * (healpix.ORDER - int(order))
        start = near[near >= 0] << shift
        pairs = np.unique(np.column_stack([start, number]), axis=0)
        yield pairs[:, 0], pairs[:, 0] + (np.int64(1) << shift), pairs[:, 1]


def _cut(
    ranges: Sequence[tuple[Integers, Integers, Integers]], n: int
) -> tuple[Integers, Integers, Integers]:
    """Cut the sky where any range begins or ends.

    Returns
    -------
    edges : ndarray of int64 with shape (E,)
        Interval ``i`` is ``edges[i] <= hpx < edges[i + 1]``.
    first, held : ndarray of int64
        Events of interval ``i``: ``held[first[i]:first[i + 1]]``.
    """
    none = np.empty(0, np.int64)
    start, stop, event = (
        np.concatenate([none, *(part[i].astype(np.int64) for part in ranges)]) for i in range(3)
    )
    edges = np.unique(np.concatenate([start, stop]))
    low, high = np.searchsorted(edges, start), np.searchsorted(edges, stop)
    width = high - low
    interval = np.repeat(low, width) + np.arange(width.sum()) - np.repeat(
        np.cumsum(width) - width, width
    )  # fmt: skip
    held = np.repeat(event, width)
    order = np.argsort(interval * max(n, 1) + held, kind="stable")
    first = np.searchsorted(interval[order], np.arange(len(edges) + 1))
    return edges, first.astype(np.int64), held[order]


def _groups(k: Integers, pairs: Integers) -> Iterator[tuple[int, Integers]]:
    """Yield each event with the numbers of its pairs."""
    order = pairs[np.argsort(k[pairs], kind="stable")]
    cuts = np.flatnonzero(np.diff(k[order])) + 1
    for part in np.split(order, cuts):
        if len(part):
            yield int(k[part[0]]), part


def nearest_times(times: Times, left: Integers, jd: Floats, window: tuple[float, float]) -> Floats:
    """Return event less object of the time that is closest to an event; NaN outside a window."""
    count = times.offsets[left + 1] - times.offsets[left]
    pair = np.repeat(np.arange(len(left)), count)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(count) - count, count)
    late = times.jd[np.repeat(times.offsets[left], count) + within] - jd[pair]
    good = (late >= -window[0]) & (late <= window[1])
    pair, late = pair[good], late[good]
    order = np.lexsort((-late, np.abs(late), pair))
    which, at = np.unique(pair[order], return_index=True)
    found = np.full(len(left), np.nan)
    found[which] = -late[order][at]
    return found
