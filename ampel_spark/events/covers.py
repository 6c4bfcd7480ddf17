"""Regions of events, for searches and plots: what covers them, and how far they reach."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ampel_spark.events.event import Event
from ampel_spark.events.matching import EventIndex
from ampel_spark.events.shapes import EventShapes
from ampel_spark.sky import healpix
from ampel_spark.sky.angles import separation
from ampel_spark.sky.regions import Region
from ampel_spark.sky.skymaps import DEG2

__all__ = ["cover", "reach_of"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def cover(event: Event, level: float | None = None, rectangle: bool = False) -> Region:
    """Return the region of an event, for searches."""
    index = EventIndex([event], level, rectangle)
    starts = [np.column_stack(part[:2]) for part in index.ranges()]
    ranges = healpix.merged(np.concatenate([np.empty((0, 2), np.int64), *starts]))

    def holds(ra: Floats, dec: Floats) -> Mask:
        found = np.zeros(len(ra), bool)
        found[index.match(ra, dec).left] = True
        return found

    return Region(f"{event.event}, {event.area:.4g} deg2", ranges, holds)


def reach_of(event: Event) -> float:
    """Return how far the 90 % region of an event goes from its centre, degrees."""
    if event.skymap is None:
        return float(EventShapes.of([event]).reach(None)[0])
    from astropy import units as u
    from astropy_healpix import healpix_to_lonlat

    skymap = event.skymap
    rows = skymap.within(0.9)
    if not len(rows):
        return 1.0
    far, side = 0.0, np.sqrt(skymap.area[rows] * DEG2)
    for order in np.unique(skymap.order[rows]):
        mine = rows[skymap.order[rows] == order]
        lon, lat = healpix_to_lonlat(skymap.pixel[mine], 1 << int(order), order="nested")
        apart = separation(event.ra, event.dec, lon.to_value(u.deg), lat.to_value(u.deg)) / 3600.0
        far = max(far, float(apart.max()))
    return min(far + float(side.max()), 180.0)
