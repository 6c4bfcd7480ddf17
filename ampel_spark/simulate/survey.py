"""The telescope: field grid, nightly schedule, weather, moon, image depth.

Realistic: the position of the Sun and the length of the night at Palomar, hour-angle and airmass
limits, a two-night cadence in g and r, one exposure at a time, cloudy periods, moonlight, seeing,
and the depths of the real archive. Not realistic: fields have no gaps between chips, and their
centres are not the survey's; there is no secondary grid, no i band and no target of opportunity;
the weather has no season.

An *exposure* is one visit of one field; an *image* is one of its 64 readout channels. The
properties of an image (time, depth, zero point, seeing) depend on its numbers only, so that objects
can be simulated in any order.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ampel_spark.errors import ConfigError
from ampel_spark.simulate.noise import key_of, uniform

__all__ = [
    "FIELDS",
    "FieldGrid",
    "Images",
    "Schedule",
    "field_grid",
    "first_nid",
    "make_schedule",
    "night_name",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Palomar, degrees; sidereal time and the Sun from the Astronomical Almanac's low-precision forms.
_LONGITUDE, _LATITUDE = -116.8648, 33.3563
_MIDNIGHT_UTC = 7.79 / 24.0
_J2000 = 2451545.0
_JD2017 = 2457754.5
_NEW_MOON, _LUNATION = 2451550.1, 29.530589

_SUN_LIMIT, _ALTITUDE_LIMIT = np.radians(-14.0), np.radians(30.0)
_MAX_HOUR_ANGLE = 67.5
_SLOT = 40.0 / 86400.0
_CADENCE = 2
#: The shares of fields with further visits by the partnership (programid 2) and Caltech (3).
_PARTNER, _CALTECH = 0.03, 0.01
# The depth in a dark, clear night of median seeing [mag], by fid.
_DEPTH = {1: 20.80, 2: 20.62}
_MOON_LOSS = {1: 1.15, 2: 0.65}


@dataclass(frozen=True, eq=False)
class FieldGrid:
    """Rings of fields in declination, divided evenly in right ascension.

    Attributes
    ----------
    ring_dec : array
        The lower edge of each ring and the upper edge of the last, degrees.
    ring_count, ring_first : arrays of int
        The number of fields in each ring, and the index of the first.
    ra, dec : arrays
        The fields' centres, degrees.
    """

    ring_dec: Floats
    ring_count: Ints
    ring_first: Ints
    ra: Floats
    dec: Floats

    def locate(self, ra: Floats, dec: Floats) -> tuple[Ints, Ints, Floats, Floats]:
        """Return the field's index, readout channel, and x and y in pixels, of positions (degrees).

        The 16 chips of 4 channels form rows of 4, with channels 0-15 in the south. A channel has
        3072 by 3080 pixels.
        """
        ring = np.clip(np.searchsorted(self.ring_dec, dec, side="right") - 1, 0, None)
        ring = np.minimum(ring, self.ring_count.size - 1)
        along = (ra % 360.0) / 360.0 * self.ring_count[ring]
        column = np.minimum(along.astype(np.int64), self.ring_count[ring] - 1)
        height = self.ring_dec[ring + 1] - self.ring_dec[ring]
        x = (along - column) * 8.0
        y = np.clip((dec - self.ring_dec[ring]) / height, 0.0, 1.0 - 1e-12) * 8.0
        ix, iy = np.minimum(x.astype(np.int64), 7), y.astype(np.int64)
        chip = (iy // 2) * 4 + ix // 2
        rcid = chip * 4 + (iy % 2) * 2 + ix % 2
        return self.ring_first[ring] + column, rcid, (x - ix) * 3072.0, (y - iy) * 3080.0


#: The number of the first field; the survey's main grid has similar numbers.
FIELDS = 245


def field_grid() -> FieldGrid:
    """Return the grid: rings of 7.2 degrees from declination -31.4 to the pole."""
    edges = np.append(np.arange(-31.4, 88.0, 7.2), 90.0)
    middle = np.clip((edges[:-1] + edges[1:]) / 2, None, 86.0)
    count = np.ceil(360.0 * np.cos(np.radians(middle)) / 7.2).astype(np.int64)
    first = np.cumsum(count) - count
    ra = np.concatenate([(np.arange(n) + 0.5) * 360.0 / n for n in count])
    dec = np.repeat((edges[:-1] + edges[1:]) / 2, count)
    return FieldGrid(edges, count, first, ra, dec)


@dataclass(frozen=True, eq=False)
class Schedule:
    """All exposures, sorted by field and time.

    Attributes
    ----------
    jd : array
        The start of the exposure, JD in steps of 1e-7.
    nid : array of int
        The night: days since 2017-01-01 UTC.
    fid, programid : arrays of int
        The band (1 g, 2 r) and the programme.
    depth : array
        The 5-sigma limit of the field, mag.
    seeing : array
        The full width at half maximum, arcsec.
    loss : array
        The light lost to clouds, mag.
    serial : array of int
        The number of the exposure in order of time.
    start : array of int
        The first exposure of each field, and at the end the number of exposures.
    """

    jd: Floats
    nid: Ints
    fid: Ints
    programid: Ints
    depth: Floats
    seeing: Floats
    loss: Floats
    serial: Ints
    start: Ints

    def images(self, rows: NDArray[np.intp], rcid: NDArray[np.int64] | int, seed: int) -> Images:
        """Return the images of exposures (rows of the schedule) on readout channels."""
        key = key_of(self.serial[rows], rcid)
        depth = self.depth[rows] + 0.12 * (uniform(key, seed, "depth") - 0.5)
        loss = self.loss[rows] + 0.08 * (uniform(key, seed, "zero point") - 0.5)
        zero_point = np.where(self.fid[rows] == 1, 26.32, 26.24) - loss
        unc = 10.0 ** (-5.7 + 1.2 * uniform(key, seed, "zero point error"))
        lost = uniform(key, seed, "lost") < 0.004
        return Images(np.round(depth, 4), np.round(zero_point, 4), unc, lost)


@dataclass(frozen=True, eq=False)
class Images:
    """The properties of images: 5-sigma depth, zero point and its error (mag), and loss."""

    depth: Floats
    zero_point: Floats
    zero_point_unc: Floats
    lost: NDArray[np.bool_]


def first_nid(first_night: str) -> int:
    """Return the number of a night (YYYY-MM-DD).

    Raises
    ------
    ConfigError
        If it is no date, or lies outside 2018 to 2031, for which ZTF has names.
    """
    try:
        date = datetime.date.fromisoformat(first_night)
    except (TypeError, ValueError):
        raise ConfigError(f"first night {first_night!r} is no date: write YYYY-MM-DD") from None
    if not 2018 <= date.year <= 2031:
        raise ConfigError(f"first night {first_night} lies outside 2018 to 2031")
    return date.toordinal() - datetime.date(2017, 1, 1).toordinal()


def night_name(nid: int) -> str:
    """Return the name (YYYYMMDD) of the night with a number."""
    return (datetime.date(2017, 1, 1) + datetime.timedelta(days=int(nid))).strftime("%Y%m%d")


def make_schedule(grid: FieldGrid, first: int, last: int, seed: int) -> Schedule:
    """Return the exposures of the nights with numbers from `first` to `last`, both included."""
    fields = np.random.default_rng(np.random.SeedSequence([seed, 101]))
    phase = fields.integers(0, _CADENCE, grid.ra.size)
    special = fields.random(grid.ra.size)
    programid = np.where(special < _PARTNER, 2, np.where(special < _PARTNER + _CALTECH, 3, 1))
    clear = _weather(first, last, seed)
    nights = [
        _night(grid, nid, clear[nid - first], phase, programid, seed)
        for nid in range(first, last + 1)
    ]
    table = {name: np.concatenate([night[name] for night in nights]) for name in nights[0]}
    table["serial"] = np.arange(table["jd"].size)
    order = np.lexsort((table["jd"], table["field"]))
    field = table.pop("field")[order]
    start = np.searchsorted(field, np.arange(grid.ra.size + 1))
    return Schedule(**{name: column[order] for name, column in table.items()}, start=start)


def _weather(first: int, last: int, seed: int) -> Floats:
    """Return the open share of each night, 0 to 1; clouds follow a chain of two states."""
    random = np.random.default_rng(np.random.SeedSequence([seed, 102]))
    open_, shares = True, []
    for _ in range(first, last + 1):
        open_ = random.random() < (0.88 if open_ else 0.45)
        share = 1.0 if random.random() < 0.7 else random.uniform(0.3, 1.0)
        shares.append(share if open_ else 0.0)
    return np.array(shares)


def _night(
    grid: FieldGrid, nid: int, clear: float, phase: Ints, programid: Ints, seed: int
) -> dict[str, NDArray[np.generic]]:
    """Return the exposures of one night in order of time, as columns."""
    random = np.random.default_rng(np.random.SeedSequence([seed, 103, nid]))
    dawn, dusk, transit, reach = _windows(grid, nid)
    # Bad weather closes the dome at the beginning or at the end of the night.
    closed = (1.0 - clear) * (dawn - dusk)
    dusk, dawn = (dusk + closed, dawn) if random.random() < 0.5 else (dusk, dawn - closed)
    begin, end = np.maximum(transit - reach, dusk), np.minimum(transit + reach, dawn)
    up = (end - begin > 0.06) & (clear > 0.0)
    public = np.flatnonzero(up & ((nid + phase) % _CADENCE == 0))
    extra = np.flatnonzero(up & (programid > 1))
    visits = [(public, 1, True), (public, 2, True), (extra, 1, False), (extra, 2, False)]
    field = np.concatenate([v[0] for v in visits])
    fid = np.concatenate([np.full(v[0].size, v[1]) for v in visits])
    program = np.concatenate([np.where(v[2], 1, programid[v[0]]) for v in visits])
    wish = begin[field] + (end - begin)[field] * random.random(field.size)
    order = np.argsort(wish, kind="stable")
    field, fid, program, wish = field[order], fid[order], program[order], wish[order]
    # The telescope takes one image at a time, so later images wait for the next slot.
    slot = np.arange(field.size) * _SLOT
    jd = np.round(np.maximum.accumulate(wish - slot) + slot, 7)
    kept = jd < end[field]
    field, fid, program, jd = field[kept], fid[kept], program[kept], jd[kept]

    typical = 2.15 * np.exp(0.16 * random.standard_normal())
    seeing = np.clip(typical * np.exp(0.08 * random.standard_normal(jd.size)), 1.3, 5.0)
    seeing *= np.where(fid == 1, 1.06, 1.0)
    haze = random.exponential(0.08) + (random.exponential(0.5) if random.random() < 0.2 else 0.0)
    loss = np.minimum(haze * (0.6 + 0.8 * random.random(jd.size)), 2.5)
    light = (1.0 - np.cos(2.0 * np.pi * (jd - _NEW_MOON) / _LUNATION)) / 2.0
    moon = light * (0.4 + 0.6 * random.random(jd.size))
    depth = np.where(fid == 1, _DEPTH[1] - _MOON_LOSS[1] * moon, _DEPTH[2] - _MOON_LOSS[2] * moon)
    depth += -1.25 * np.log10(seeing / 2.15) - loss + 0.05 * random.standard_normal(jd.size)
    nids = np.full(jd.size, nid)
    return {
        "field": field,
        "jd": jd,
        "nid": nids,
        "fid": fid,
        "programid": program,
        "depth": depth,
        "seeing": seeing,
        "loss": loss,
    }


def _windows(grid: FieldGrid, nid: int) -> tuple[float, float, Floats, Floats]:
    """Return dawn and dusk (JD), and the transit (JD) and reach around it (days) of each field."""
    latitude = np.radians(_LATITUDE)
    guess = _JD2017 + nid + _MIDNIGHT_UTC
    days = guess - _J2000
    anomaly = np.radians(357.528 + 0.9856003 * days)
    ecliptic = np.radians(
        280.460 + 0.9856474 * days + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2.0 * anomaly)
    )
    tilt = np.radians(23.439)
    sun_ra = np.degrees(np.arctan2(np.cos(tilt) * np.sin(ecliptic), np.cos(ecliptic)))
    sun_dec = np.arcsin(np.sin(tilt) * np.sin(ecliptic))
    sidereal = (280.46062 + 360.98564737 * days + _LONGITUDE) % 360.0
    midnight = guess - ((sidereal - sun_ra - 180.0 + 180.0) % 360.0 - 180.0) / 360.98564737
    cosine = (np.sin(_SUN_LIMIT) - np.sin(latitude) * np.sin(sun_dec)) / (
        np.cos(latitude) * np.cos(sun_dec)
    )
    half = 0.5 - np.degrees(np.arccos(cosine)) / 360.98564737
    offset = (grid.ra - sidereal - (midnight - guess) * 360.98564737 + 180.0) % 360.0 - 180.0
    dec = np.radians(grid.dec)
    cosine = (np.sin(_ALTITUDE_LIMIT) - np.sin(latitude) * np.sin(dec)) / (
        np.cos(latitude) * np.cos(dec)
    )
    reach = np.minimum(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))), _MAX_HOUR_ANGLE)
    return midnight + half, midnight - half, midnight + offset / 360.98564737, reach / 360.98564737
