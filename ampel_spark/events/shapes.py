"""Where positions lie in regions: level, density, and distance from the centre.

Ellipses are measured on the sky, along great circles from the centre, so right ascension 0 and the
poles are nothing special. The quarters of a rectangle are measured as circulars give them: offsets
in right ascension, the shorter way round, and in declination, each against the error to its side.
An ellipse stands for a Gaussian that it holds its containment of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ampel_spark.events.event import ELLIPSE, QUARTERS, Event
from ampel_spark.sky import healpix
from ampel_spark.sky.angles import separation

__all__ = ["EventShapes", "level_at", "sigma_of"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Declinations that an event's reach is looked for at, beside its own.
_STEPS = 17


@dataclass(frozen=True, eq=False)
class EventShapes:
    """Ellipses and quarters of many events as arrays with shape (K,)."""

    ra: Floats
    dec: Floats
    major: Floats
    minor: Floats
    angle: Floats
    east: Floats
    west: Floats
    north: Floats
    south: Floats
    containment: Floats
    quarters: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, events: Sequence[Event]) -> EventShapes:
        """Return the shapes of events; those of maps are NaN."""

        def array(name: str) -> Floats:
            return np.array([getattr(event, name) for event in events], np.float64)

        return cls(
            array("ra"), array("dec"), array("major"), array("minor"), array("angle"),
            array("east"), array("west"), array("north"), array("south"), array("containment"),
            np.array([event.shape == QUARTERS for event in events], bool),
        )  # fmt: skip

    def offsets(self, k: Integers, ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
        """Return offsets from the centres of events `k`, in units of the errors, shape (P,).

        The first is along the minor axis, or to the east; the second along the major axis, or to
        the north.
        """
        east = (ra - self.ra[k] + 180.0) % 360.0 - 180.0
        north = dec - self.dec[k]
        u = np.where(east > 0, east / self.east[k], east / self.west[k])
        v = np.where(north > 0, north / self.north[k], north / self.south[k])
        round_ = np.flatnonzero(~self.quarters[k])
        if len(round_):
            at = k[round_]
            far = separation(ra[round_], dec[round_], self.ra[at], self.dec[at]) / 3600.0
            turn = _angle(self.ra[at], self.dec[at], ra[round_], dec[round_])
            turn = turn - np.radians(self.angle[at])
            u[round_] = far * np.sin(turn) / self.minor[at]
            v[round_] = far * np.cos(turn) / self.major[at]
        return u, v

    def level(self, k: Integers, u: Floats, v: Floats) -> Floats:
        """Return the probability inside the ellipse through each place."""
        with np.errstate(over="ignore"):
            return 1.0 - (1.0 - self.containment[k]) ** (u * u + v * v)

    def density(self, k: Integers, u: Floats, v: Floats) -> Floats:
        """Return the probability density at each place, 1/deg²."""
        wide = (self.east[k] + self.west[k]) / 2 * np.cos(np.radians(self.dec[k]))
        area = np.where(
            self.quarters[k],
            np.pi * wide * (self.north[k] + self.south[k]) / 2,
            np.pi * self.major[k] * self.minor[k],
        )
        rate = -np.log1p(-self.containment[k])
        return np.asarray(rate / area * np.exp(-rate * (u * u + v * v)))

    def scale(self, k: Integers, level: float | None) -> Floats:
        """Return by what ellipses of the containment are larger or smaller at a level."""
        if level is None:
            return np.ones(len(k))
        if level >= 1.0:
            return np.full(len(k), np.inf)
        return np.sqrt(np.log1p(-level) / np.log1p(-self.containment[k]))

    def reach(self, level: float | None) -> Floats:
        """Return the radius of a circle about each centre that holds its region, degrees.

        It holds the region's rectangle too.
        """
        k = np.arange(len(self.ra))
        scale = self.scale(k, level)
        found = np.hypot(self.major, self.minor) * scale
        for i in np.flatnonzero(self.quarters):
            side = [min(v[i] * scale[i], 180.0) for v in (self.east, self.west)]
            low, high = (self.dec[i] + s * v[i] * scale[i]
                         for s, v in ((-1, self.south), (1, self.north)))  # fmt: skip
            dec = np.clip(np.linspace(max(low, -90.0), min(high, 90.0), _STEPS), -90.0, 90.0)
            far = [separation(self.ra[i], self.dec[i], self.ra[i] + s, dec).max() for s in side]
            found[i] = max(far) / 3600.0
        return np.minimum(found * 1.02 + 1e-6, 180.0)


def level_at(event: Event, ra: Floats, dec: Floats) -> Floats:
    """Return the level of an event's region at positions (degrees); 1 where a map has nothing."""
    if event.skymap is not None:
        row = event.skymap.at(healpix.pixels(ra, dec))
        return np.where(row >= 0, event.skymap.level[np.maximum(row, 0)], 1.0)
    if event.shape not in (ELLIPSE, QUARTERS):
        return np.ones(len(ra))
    shapes, k = EventShapes.of([event]), np.zeros(len(ra), np.int64)
    return shapes.level(k, *shapes.offsets(k, ra, dec))


def sigma_of(level: Floats) -> Floats:
    """Return how many sigma of a Gaussian in two dimensions enclose a probability."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.sqrt(-2.0 * np.log1p(-np.minimum(level, 1.0))))


def _angle(ra0: Floats, dec0: Floats, ra: Floats, dec: Floats) -> Floats:
    """Return the position angle of places seen from others, north through east, radians."""
    a = np.radians(ra - ra0)
    d0, d = np.radians(dec0), np.radians(dec)
    return np.asarray(
        np.arctan2(
            np.sin(a) * np.cos(d), np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(a)
        )
    )
