"""The record of an object, and the sky with its schedule and dust."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ampel_spark.simulate.survey import FieldGrid, Schedule
from ampel_spark.sky.dust import DustMap

__all__ = ["KINDS", "OBJECT", "SUBTYPES", "Objects", "Sky", "blank"]

#: An array of `OBJECT`.
Objects = NDArray[np.void]

KINDS = ("snia", "cc", "agn", "variable", "asteroid", "bogus")
SUBTYPES = ("normal", "plateau", "stripped", "slow", "nucleus", "pulsating", "eclipsing", "long")

#: The type of an object's row. NaN, -1 and False stand for absent values.
OBJECT = np.dtype(
    [
        ("index", "i8"),  # number of the object in the simulation
        ("kind", "i1"),  # position in KINDS
        ("subtype", "i1"),  # position in SUBTYPES
        ("ra", "f8"),  # degrees ICRS
        ("dec", "f8"),
        ("field", "i4"),  # index of the field in the grid
        ("rcid", "i4"),
        ("x", "f8"),  # pixels
        ("y", "f8"),
        ("ebv", "f8"),  # of the Milky Way, mag
        ("z", "f8"),
        ("t0", "f8"),  # JD: peak in B (snia), explosion (cc)
        ("x0", "f8"),
        ("x1", "f8"),
        ("c", "f8"),
        ("abs_mag", "f8"),  # B at peak (snia), r at peak (cc)
        ("mag_g", "f8"),  # of the static source: star, nucleus
        ("mag_r", "f8"),
        ("amplitude", "f8"),  # mag in g
        ("period", "f8"),  # days: period, or time scale
        ("phase", "f8"),
        ("snr", "f8"),  # of each detection of asteroids and bogus
        ("row", "i8"),  # its row of the schedule
        ("row2", "i8"),  # that of another detection before
        ("old", "?"),  # whether it was detected before this simulation begins
        ("number", "i8"),  # letters of the name
        ("tblid", "i4"),  # running number on each of its images
        ("forced", "?"),  # whether its packets carry forced photometry
        ("galaxy", "?"),  # whether it lies in a galaxy
        ("listed", "?"),  # whether that galaxy is in the catalogue of hosts
        ("host_ra", "f8"),
        ("host_dec", "f8"),
        ("host_mag", "f8"),  # r, as observed
        ("gaia_dist", "f8"),  # nearest star of Gaia (may be the object itself): arcsec, radians, G
        ("gaia_angle", "f8"),
        ("gaia_mag", "f8"),
        ("gaia_self", "?"),  # whether that star is the object itself
        ("bright_dist", "f8"),  # nearest other one brighter than 14
        ("bright_angle", "f8"),
        ("bright_mag", "f8"),
    ]
)


@dataclass(frozen=True, eq=False)
class Sky:
    """The sky of a simulation: grid, schedule, nights of the archive, dust, seed."""

    grid: FieldGrid
    schedule: Schedule
    first_nid: int
    last_nid: int
    dust: DustMap
    seed: int

    @property
    def nights(self) -> int:
        """Number of nights of the archive, cloudy ones included."""
        return self.last_nid - self.first_nid + 1

    def archive_rows(self) -> NDArray[np.intp]:
        """Return the rows of the schedule that lie in the nights of the archive."""
        return np.flatnonzero(self._in_archive())

    def visits(self) -> NDArray[np.int64]:
        """Return the number of exposures of each field in the nights of the archive."""
        total = np.append(0, np.cumsum(self._in_archive()))
        return np.asarray(total[self.schedule.start[1:]] - total[self.schedule.start[:-1]])

    def _in_archive(self) -> NDArray[np.bool_]:
        nid = self.schedule.nid
        return np.asarray((nid >= self.first_nid) & (nid <= self.last_nid))


def blank(count: int) -> Objects:
    """Return `count` objects with absent values in all fields."""
    objects = np.zeros(count, OBJECT)
    for name in OBJECT.names or ():
        if OBJECT[name].kind == "f":
            objects[name] = np.nan
    objects["row"] = objects["row2"] = -1
    return objects
