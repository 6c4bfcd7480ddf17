"""The kinds of objects: their positions and true parameters.

``snia``
    Type Ia supernovae, distributed by comoving volume at z 0.015-0.12. SALT3 parameters x1 and c
    come from broad asymmetric distributions; the standardised magnitude has a scatter of 0.10 mag.
    A host galaxy is a few kpc away. It adds no light, and dims the supernova by ``c`` only.
``cc``
    Core-collapse-like transients of three analytic shapes (plateau, stripped, slow).
``agn``
    Nuclei of galaxies; their magnitude is a damped random walk.
``variable``
    Pulsating, eclipsing and long-period stars, most of them near the Galactic plane.
``asteroid``
    One detection each, near the ecliptic; nine in ten have a known minor planet nearby.
``bogus``
    Bad subtractions: one detection each, or two within some days.

Two thirds of the nuclei and stars were detected in earlier years; the rest are new.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ampel_spark.simulate.distances import arcsec_of, by_volume, distance_modulus
from ampel_spark.simulate.objects import SUBTYPES, Objects, Sky
from ampel_spark.sky.dust import galactic

__all__ = ["MAKERS"]

Floats = NDArray[np.float64]
Random = np.random.Generator
Positions = tuple[Floats, Floats]

# SALT3's convention for the apparent B magnitude (Kenworthy et al. 2021,
# doi:10.3847/1538-4357/ac30d8), and the standardisation, mag.
_MB_AT_X0_1, _ABS_MAG, _ALPHA, _BETA, _SCATTER = 10.5, -19.36, 0.14, 3.1, 0.10
_ECLIPTIC_TILT = np.radians(23.439)
_DEC_LIMITS = (-30.0, 82.0)
# Share of nuclei and stars that have been detected before.
_KNOWN = 0.65
# Share of bogus sources with two detections, if their field allows, and their largest interval [d].
_TWICE, _SOON = 0.3, 20.0
# A_r / E(B-V), for the magnitudes of hosts.
_DIMMING = 2.6


def _snia(objects: Objects, sky: Sky, random: Random) -> None:
    n = objects.size
    _place_outside(objects, sky, random)
    objects["z"] = by_volume(0.015, 0.12, random.random(n))
    objects["t0"] = _times(sky, random, n, before=15.0, margin=3.0)
    young = random.random(n) < 0.7
    x1 = np.where(young, 0.4, -1.2) + 0.7 * random.standard_normal(n)
    objects["x1"] = np.clip(x1, -3.0, 3.0)
    colour = -0.07 + 0.05 * random.standard_normal(n) + random.exponential(0.07, n)
    objects["c"] = np.clip(colour, -0.25, 0.4)
    scatter = _SCATTER * random.standard_normal(n)
    objects["abs_mag"] = _ABS_MAG - _ALPHA * objects["x1"] + _BETA * objects["c"] + scatter
    apparent = objects["abs_mag"] + distance_modulus(objects["z"])
    objects["x0"] = 10.0 ** (-0.4 * (apparent - _MB_AT_X0_1))
    objects["forced"] = random.random(n) < 0.5
    _give_host(objects, sky, random, kpc=2.3)


def _cc(objects: Objects, sky: Sky, random: Random) -> None:
    n = objects.size
    _place_outside(objects, sky, random)
    objects["z"] = by_volume(0.004, 0.05, random.random(n))
    objects["t0"] = _times(sky, random, n, before=40.0, margin=8.0)
    which = random.choice(3, n, p=[0.6, 0.27, 0.13])
    objects["subtype"] = which + SUBTYPES.index("plateau")
    mean = np.array([-16.9, -17.4, -18.6])[which]
    objects["abs_mag"] = mean + 0.8 * random.standard_normal(n)
    scale = np.array([90.0, 22.0, 60.0])[which]
    objects["period"] = scale * np.exp(np.clip(0.2 * random.standard_normal(n), -0.4, 0.4))
    objects["forced"] = random.random(n) < 0.5
    _give_host(objects, sky, random, kpc=2.3)


def _agn(objects: Objects, sky: Sky, random: Random) -> None:
    n = objects.size
    _place_outside(objects, sky, random)
    objects["subtype"] = SUBTYPES.index("nucleus")
    objects["z"] = by_volume(0.03, 0.4, random.random(n))
    objects["mag_r"] = random.uniform(16.3, 19.3, n)
    objects["mag_g"] = objects["mag_r"] + 0.4 + 0.2 * random.standard_normal(n)
    objects["amplitude"] = random.uniform(0.15, 0.4, n)
    objects["period"] = 10.0 ** random.uniform(2.0, 2.7, n)
    objects["forced"] = random.random(n) < 0.15
    _give_host(objects, sky, random, kpc=0.02)
    objects["host_mag"] = objects["mag_r"] - 0.3
    objects["listed"] = random.random(n) < 0.7
    objects["gaia_self"] = random.random(n) < 0.6
    objects["old"] = random.random(n) < _KNOWN


def _variable(objects: Objects, sky: Sky, random: Random) -> None:
    n = objects.size

    def chance(ra: Floats, dec: Floats) -> Floats:
        return np.asarray(0.06 + 0.94 * np.exp(-np.abs(galactic(ra, dec)[1]) / 10.0))

    _place(objects, sky, random, _isotropic, chance, visits=0.2)
    which = random.choice(3, n, p=[0.35, 0.35, 0.3])
    objects["subtype"] = which + SUBTYPES.index("pulsating")
    objects["mag_r"] = 13.6 + 5.0 * random.random(n) ** 0.7
    colour = np.array([0.25, 0.6, 1.3])[which] + 0.15 * random.standard_normal(n)
    objects["mag_g"] = objects["mag_r"] + colour
    pulsating, eclipsing, long_ = (
        random.uniform(0.42, 0.75, n),
        10.0 ** random.uniform(-0.5, 0.7, n),
        10.0 ** random.uniform(1.9, 2.6, n),
    )
    objects["period"] = np.choose(which, [pulsating, eclipsing, long_])
    low, high = np.array([0.4, 0.2, 0.3])[which], np.array([1.1, 0.8, 1.6])[which]
    objects["amplitude"] = random.uniform(low, high)
    objects["phase"] = random.random(n)
    objects["forced"] = random.random(n) < 0.1
    objects["gaia_self"] = True
    objects["old"] = random.random(n) < _KNOWN


def _asteroid(objects: Objects, sky: Sky, random: Random) -> None:
    _place(objects, sky, random, _near_ecliptic, None, visits=0.0)
    _detect_once(objects, sky, random)
    objects["snr"] = 5.0 + random.exponential(7.0, objects.size)


def _bogus(objects: Objects, sky: Sky, random: Random) -> None:
    _place(objects, sky, random, _isotropic, None, visits=0.0)
    _detect_once(objects, sky, random)
    sign = np.where(random.random(objects.size) < 0.5, 1.0, -1.0)
    objects["snr"] = sign * (5.0 + random.exponential(6.0, objects.size))
    objects["forced"] = random.random(objects.size) < 0.05
    objects["old"] = random.random(objects.size) < 0.2
    _detect_again(objects, sky, random)


#: The functions that fill in the objects of each kind.
MAKERS: dict[str, Callable[[Objects, Sky, Random], None]] = {
    "snia": _snia,
    "cc": _cc,
    "agn": _agn,
    "variable": _variable,
    "asteroid": _asteroid,
    "bogus": _bogus,
}


def _times(sky: Sky, random: Random, count: int, *, before: float, margin: float) -> Floats:
    """Return times from some days before the archive to a margin before its end."""
    jd = sky.schedule.jd[sky.archive_rows()]
    return random.uniform(jd.min() - before, max(jd.max() - margin, jd.min() + 1.0), count)


def _place_outside(objects: Objects, sky: Sky, random: Random) -> None:
    """Place extragalactic objects: away from the plane, in fields visited regularly."""

    def chance(ra: Floats, dec: Floats) -> Floats:
        return np.asarray(
            (np.abs(galactic(ra, dec)[1]) > 10.0) & (sky.dust.ebv(ra, dec) < 0.4), float
        )

    _place(objects, sky, random, _isotropic, chance, visits=0.35)


def _place(
    objects: Objects,
    sky: Sky,
    random: Random,
    propose: Callable[[Random, int], Positions],
    chance: Callable[[Floats, Floats], Floats] | None,
    visits: float,
) -> None:
    """Draw positions in fields with enough visits per night; `chance` is their probability."""
    counts = sky.visits()
    # In a short archive few fields have many visits; then the better half of the fields is used.
    enough = min(max(visits * sky.nights, 1.0), float(np.median(counts[counts > 0])))
    seen = counts >= enough
    found: list[NDArray[np.float64]] = []
    have = 0
    while have < objects.size:
        both = np.stack(propose(random, max(2 * (objects.size - have), 500)))
        both = both[:, (both[1] > _DEC_LIMITS[0]) & (both[1] < _DEC_LIMITS[1])]
        both = both[:, seen[sky.grid.locate(both[0], both[1])[0]]]
        if chance is not None and both.size:
            both = both[:, random.random(both.shape[1]) < chance(both[0], both[1])]
        found.append(both)
        have += both.shape[1]
    if found:
        objects["ra"], objects["dec"] = np.concatenate(found, axis=1)[:, : objects.size]
    field, rcid, x, y = sky.grid.locate(objects["ra"], objects["dec"])
    objects["field"], objects["rcid"], objects["x"], objects["y"] = field, rcid, x, y


def _isotropic(random: Random, count: int) -> Positions:
    low, high = np.sin(np.radians(_DEC_LIMITS))
    return 360.0 * random.random(count), np.degrees(np.arcsin(random.uniform(low, high, count)))


def _near_ecliptic(random: Random, count: int) -> Positions:
    longitude = 2.0 * np.pi * random.random(count)
    latitude = np.radians(np.clip(random.laplace(0.0, 7.0, count), -40.0, 40.0))
    x, up = np.cos(latitude) * np.cos(longitude), np.sin(latitude)
    side = np.cos(latitude) * np.sin(longitude)
    y = np.cos(_ECLIPTIC_TILT) * side - np.sin(_ECLIPTIC_TILT) * up
    z = np.sin(_ECLIPTIC_TILT) * side + np.cos(_ECLIPTIC_TILT) * up
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arcsin(z))


def _give_host(objects: Objects, sky: Sky, random: Random, kpc: float) -> None:
    """Give each object a host galaxy, with distances as in an exponential disc."""
    n = objects.size
    distance = np.clip(arcsec_of(random.gamma(2.0, kpc, n), objects["z"]), 0.02, 25.0) / 3600.0
    angle = 2.0 * np.pi * random.random(n)
    east = distance * np.sin(angle) / np.cos(np.radians(objects["dec"]))
    objects["host_dec"] = objects["dec"] + distance * np.cos(angle)
    objects["host_ra"] = (objects["ra"] + east) % 360.0
    absolute = -20.7 + 1.1 * random.standard_normal(n)
    dimmed = absolute + _DIMMING * sky.dust.ebv(objects["ra"], objects["dec"])
    objects["host_mag"] = np.clip(distance_modulus(objects["z"]) + dimmed, 11.0, 21.5)
    objects["galaxy"] = True
    objects["listed"] = random.random(n) < 0.94


def _detect_once(objects: Objects, sky: Sky, random: Random) -> None:
    """Choose for each object an image of its channel in the nights of the archive."""
    rows = sky.archive_rows()
    left = np.searchsorted(rows, sky.schedule.start[objects["field"]])
    right = np.searchsorted(rows, sky.schedule.start[objects["field"] + 1])
    todo = np.arange(objects.size)
    # One image in 250 is lost, so that a few rounds find an image for each object.
    for _ in range(8):
        objects["row"][todo] = rows[random.integers(left[todo], right[todo])]
        images = sky.schedule.images(objects["row"][todo], objects["rcid"][todo], sky.seed)
        todo = todo[images.lost]


def _detect_again(objects: Objects, sky: Sky, random: Random) -> None:
    """Choose for some objects a second image, some days before the first."""
    schedule = sky.schedule
    for i in np.flatnonzero(random.random(objects.size) < _TWICE):
        row, rcid = objects["row"][i], objects["rcid"][i]
        begin = schedule.start[objects["field"][i]]
        earlier = np.arange(begin, row)
        near = (schedule.jd[earlier] > schedule.jd[row] - _SOON) & (
            schedule.nid[earlier] >= sky.first_nid
        )
        earlier = earlier[near & ~schedule.images(earlier, rcid, sky.seed).lost]
        if earlier.size:
            objects["row2"][i] = random.choice(earlier)
