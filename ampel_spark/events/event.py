"""One revision of one event: a region of the sky with a time, and who reported it.

A region is a circle or an ellipse on the sky, four quarters of ellipses (a rectangle with errors
that differ to all sides, as circulars give it), or a sky map. The errors of a rectangle in right
ascension are degrees of right ascension.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from ampel_spark.sky import healpix
from ampel_spark.sky.skymaps import SkyMap

__all__ = ["ELLIPSE", "MAP", "NONE", "QUARTERS", "RETRACTION", "Event"]

#: What a region is; a retraction has none.
ELLIPSE, QUARTERS, MAP, NONE = "ellipse", "quarters", "map", "none"
#: What revisions are.
RETRACTION = "retraction"

_ARRAYS = ("uniq", "density", "distmu", "distsigma", "distnorm")
#: What a revision is called by, and where it came from: no part of its content.
_UNHASHED = ("revision", "sent", "source", "skymap")


@dataclass(frozen=True, eq=False)
class Event:
    """A revision of an event.

    Attributes
    ----------
    event, sender : str
        Its name, and who reported it.
    jd : float
        Time of the event, JD UTC; NaN for a retraction that says none.
    shape : str
        ``ellipse`` (also a circle), ``quarters``, ``map``, or ``none`` for a retraction.
    type : str
        ``initial``, ``update`` or ``retraction``.
    revision : int or None
        Its number; None until the lake gives one.
    sent : float or None
        When it was reported, JD UTC.
    ra, dec : float
        Centre, degrees ICRS; of a map that of its densest pixel.
    major, minor, angle : float
        Semi-axes of an ellipse, and its position angle from north through east, degrees.
    east, west, north, south : float
        Errors of ``quarters``, degrees.
    containment : float
        Probability that the region holds; of a map 0.9.
    pipeline : str or None
        Class of the event, as ``GOLD``.
    energy, signalness, far : float or None
        Energy [TeV], probability to be astrophysical, and false alarm rate [Hz].
    distance, distance_err : float or None
        Distance and its error, all over the region [Mpc].
    skymap : SkyMap or None
    source : str
        The file that it was read from.
    """

    event: str
    sender: str
    jd: float
    shape: str
    type: str = "initial"
    revision: int | None = None
    sent: float | None = None
    ra: float = np.nan
    dec: float = np.nan
    major: float = np.nan
    minor: float = np.nan
    angle: float = 0.0
    east: float = np.nan
    west: float = np.nan
    north: float = np.nan
    south: float = np.nan
    containment: float = 0.9
    pipeline: str | None = None
    energy: float | None = None
    signalness: float | None = None
    far: float | None = None
    distance: float | None = None
    distance_err: float | None = None
    skymap: SkyMap | None = None
    source: str = ""

    @classmethod
    def of_map(cls, event: str, sender: str, skymap: SkyMap, jd: float, **more: Any) -> Event:
        """Return the event of a sky map, whose head says what `more` does not."""
        best = int(np.argmax(skymap.density))
        ra, dec = _centre(int(skymap.pixel[best]), int(skymap.order[best]))
        said = {"distance": skymap.about.get("distmean"), "sent": skymap.about.get("sent"),
                "distance_err": skymap.about.get("diststd")}  # fmt: skip
        given = {name: value for name, value in more.items() if value is not None}
        found = {"ra": ra, "dec": dec, **said, **given, "containment": 0.9}
        return cls(event, sender, jd, MAP, skymap=skymap, **found)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Event:
        """Return the event of a row of ``events``."""
        names = {f.name for f in fields(cls)} - {"skymap"}
        given = {name: row[name] for name in names}
        for name in ("jd", "ra", "dec", *_SIZES):
            given[name] = np.nan if given[name] is None else given[name]
        skymap = None
        if row["shape"] == MAP:
            order, pixel = healpix.of_uniq(np.array(row["uniq"], np.int64))
            density, mu, sigma, norm = (np.array(row[k] or (), np.float64) for k in _ARRAYS[1:])
            skymap = SkyMap(order, pixel, density, mu, sigma, norm)
        return cls(**given, skymap=skymap)

    def row(self) -> dict[str, Any]:
        """Return the event as a row of ``events``."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "skymap"}
        for name, value in found.items():
            if isinstance(value, float) and not np.isfinite(value):
                found[name] = None
        arrays: dict[str, Any] = dict.fromkeys(_ARRAYS)
        if self.skymap is not None:
            arrays["uniq"] = healpix.uniq(self.skymap.pixel, self.skymap.order)
            for name in _ARRAYS[1:]:
                arrays[name] = getattr(self.skymap, name)
        area = self.area if self.shape != NONE else None
        return {**found, "area": area, "content_hash": self.content_hash, **arrays}

    def numbered(self, revision: int) -> Event:
        """Return the event as a revision of this number."""
        return replace(self, revision=revision)

    @cached_property
    def content_hash(self) -> str:
        """Hash of all that the revision says: 32 hexadecimal digits."""
        said = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name not in _UNHASHED]
        digest = hashlib.blake2b(repr(said).encode(), digest_size=16)
        if self.skymap is not None:
            digest.update(healpix.uniq(self.skymap.pixel, self.skymap.order).tobytes())
            for name in _ARRAYS[1:]:
                digest.update(getattr(self.skymap, name).tobytes())
        return digest.hexdigest()

    @property
    def area(self) -> float:
        """Area of the region of its containment (of a map, 90 %), square degrees."""
        if self.skymap is not None:
            return self.skymap.area_within(0.9)
        if self.shape == ELLIPSE:
            return float(np.pi * self.major * self.minor)
        if self.shape == QUARTERS:
            width = (self.east + self.west) * np.cos(np.radians(self.dec))
            return float(np.pi / 4 * width * (self.north + self.south))
        return 0.0


_SIZES = ("major", "minor", "angle", "east", "west", "north", "south")


def _centre(pixel: int, order: int) -> tuple[float, float]:
    from astropy import units as u
    from astropy_healpix import healpix_to_lonlat

    lon, lat = healpix_to_lonlat(pixel, 1 << order, order="nested")
    return float(lon.to_value(u.deg)), float(lat.to_value(u.deg))
