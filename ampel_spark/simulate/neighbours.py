"""The neighbours of an object: PS1 sources, the nearest reference source, Gaia stars.

Realistic: the number of sources by Galactic latitude, distances as of randomly placed sources, the
object's own star, nucleus or host at its true place, and the distribution of star/galaxy scores
(0.5 for many faint sources). Not realistic: the neighbours of two close objects are independent,
and no table holds the PS1 sources, except for the object's own source.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ampel_spark.simulate.noise import exponential, key_of, normal, uniform
from ampel_spark.simulate.objects import KINDS
from ampel_spark.sky.dust import galactic

__all__ = ["ABSENT", "neighbour_columns", "separation"]

Floats = NDArray[np.float64]
Columns = dict[str, NDArray[np.generic]]

#: The survey's value for the distance of an absent neighbour.
ABSENT = -999.0

_RADIUS = 30.0
_PS1_MAGNITUDES = ("sgmag", "srmag", "simag", "szmag")


def neighbour_columns(objects: NDArray[np.void], seed: int) -> Columns:
    """Return the fields of ``candidate`` about neighbours, one value for each object."""
    key = key_of(objects["index"])
    return _ps1(objects, key, seed) | _gaia(objects)


def separation(objects: NDArray[np.void]) -> Floats:
    """Return the distance of each object from its host's centre [arcsec]; NaN without a host."""
    east = (objects["host_ra"] - objects["ra"] + 180.0) % 360.0 - 180.0
    east = east * np.cos(np.radians(objects["dec"]))
    return np.asarray(np.hypot(east, objects["host_dec"] - objects["dec"]) * 3600.0)


def _ps1(objects: NDArray[np.void], key: NDArray[np.int64], seed: int) -> Columns:
    latitude = np.abs(galactic(objects["ra"], objects["dec"])[1])
    mean = 7.5 + 45.0 * np.exp(-latitude / 9.0)
    part = key[:, None] + np.arange(4)
    # Areas between successive neighbours of a random field are exponential.
    area = np.cumsum(exponential(part, seed, "ps1 area"), axis=1)
    distance = _RADIUS * np.sqrt(area / mean[:, None])
    red = np.clip(22.3 - 1.5 * exponential(part, seed, "ps1 r"), 12.0, None)
    colour = 0.2 + 1.0 * uniform(part, seed, "ps1 g-r")
    star = uniform(part, seed, "ps1 star") < (0.3 + 0.6 * np.exp(-latitude / 25.0))[:, None]
    # The object's own star, nucleus or host replaces the fourth source of the field.
    variable = objects["kind"] == KINDS.index("variable")
    nucleus = objects["kind"] == KINDS.index("agn")
    own = objects["galaxy"] | variable
    near = 0.03 + 0.12 * exponential(key, seed, "ps1 offset")
    distance[:, 3] = np.where(own, np.where(variable | nucleus, near, separation(objects)), np.inf)
    red[:, 3] = np.where(variable, objects["mag_r"], objects["host_mag"])
    colour[:, 3] = np.where(variable, objects["mag_g"] - objects["mag_r"], 0.7)
    star[:, 3] = variable
    order = np.argsort(distance, axis=1)[:, :3]
    distance = np.take_along_axis(distance, order, axis=1)
    red, colour = np.take_along_axis(red, order, axis=1), np.take_along_axis(colour, order, axis=1)
    star = np.take_along_axis(star, order, axis=1)
    score = np.where(star, 1.0, 0.0) + np.where(star, -1.0, 1.0) * np.minimum(
        0.03 * exponential(part[:, :3], seed, "ps1 score"), 0.45
    )
    unsure = uniform(part[:, :3], seed, "ps1 unsure")
    score = np.where((red > 20.8) & (unsure < 0.4), 0.5, score)
    score = np.where(nucleus[:, None] & (order == 3), 0.03 + 0.6 * unsure, score)

    absent = distance >= _RADIUS
    columns: Columns = {}
    magnitudes = (red + colour, red, red - 0.4 * colour, red - 0.55 * colour)
    angle = 2.0 * np.pi * uniform(part[:, :3], seed, "ps1 angle")
    dec = objects["dec"][:, None] + distance * np.cos(angle) / 3600.0
    cosine = np.cos(np.radians(objects["dec"]))[:, None]
    ra = (objects["ra"][:, None] + distance * np.sin(angle) / 3600.0 / cosine) % 360.0
    zone = np.floor((np.where(absent, 0.0, dec) + 90.0) / 0.0083333).astype(np.int64)
    ident = zone * 10**13 + np.round(np.where(absent, 0.0, ra) * 1e7).astype(np.int64) * 1000
    ident += (unsure * 999).astype(np.int64)
    for k in range(3):
        columns[f"objectidps{k + 1}"] = np.where(absent[:, k], -999, ident[:, k])
        columns[f"distpsnr{k + 1}"] = np.where(absent[:, k], ABSENT, distance[:, k])
        columns[f"sgscore{k + 1}"] = np.where(absent[:, k], ABSENT, score[:, k])
        for name, value, limit in zip(
            _PS1_MAGNITUDES, magnitudes, (22.6, 22.5, 22.3, 21.8), strict=True
        ):
            unseen = absent[:, k] | (value[:, k] > limit)
            columns[f"{name}{k + 1}"] = np.where(unseen, ABSENT, np.round(value[:, k], 4))
    count = np.round(mean + np.sqrt(mean) * normal(key, seed, "ps1 count"))
    columns["nmtchps"] = np.maximum(count, np.sum(~absent, axis=1)).astype(np.int64)
    # The nearest source of the reference image is PS1's nearest, or a source that PS1 lacks.
    far = absent[:, 0]
    shift = 0.06 * normal(key, seed, "nr offset")
    other = 25.0 * np.sqrt(uniform(key, seed, "nr other"))
    columns["distnr"] = np.where(far, other, np.abs(distance[:, 0] + shift)) / 1.012
    magnitude = np.where(far, 22.8, np.clip(red[:, 0], 12.0, 23.4))
    columns["magnr"] = np.round(magnitude, 3)
    columns["sigmagnr"] = np.round(0.012 + 0.3 * 10.0 ** (0.35 * (magnitude - 23.2)), 3)
    extended = ~star[:, 0] & ~far
    columns["chinr"] = np.where(extended, 1.5, 0.75) * np.exp(0.4 * normal(key, seed, "chinr"))
    columns["sharpnr"] = np.where(extended, 0.2, -0.01) + 0.1 * normal(key, seed, "sharpnr")
    nr = np.where(far, other, distance[:, 0]) / 3600.0
    columns["decnr"] = np.round(objects["dec"] + nr * np.cos(angle[:, 0]), 7)
    columns["ranr"] = np.round((objects["ra"] + nr * np.sin(angle[:, 0]) / cosine[:, 0]) % 360.0, 7)
    return columns


def _gaia(objects: NDArray[np.void]) -> Columns:
    columns: Columns = {}
    for name, short in (("neargaia", "gaia"), ("neargaiabright", "bright")):
        distance, magnitude = objects[f"{short}_dist"], objects[f"{short}_mag"]
        bright = np.where(objects["gaia_mag"] < 14.0, objects["gaia_dist"], np.inf)
        if short == "bright":
            closer = bright < np.nan_to_num(distance, nan=np.inf)
            distance = np.where(closer, bright, distance)
            magnitude = np.where(closer, objects["gaia_mag"], magnitude)
        else:
            closer = objects["bright_dist"] < np.nan_to_num(distance, nan=np.inf)
            distance = np.where(closer, objects["bright_dist"], distance)
            magnitude = np.where(closer, objects["bright_mag"], magnitude)
        columns[name] = np.nan_to_num(distance, nan=ABSENT)
        columns[name.replace("near", "mag")] = np.where(np.isfinite(distance), magnitude, ABSENT)
    return columns
