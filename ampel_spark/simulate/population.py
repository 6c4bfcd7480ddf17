"""The number of objects of each kind, and the properties of all: reddening, names, stars nearby.

The shares make an archive of a few thousand alerts interesting. The real stream has a far smaller
share of supernovae, and a hundred times as many other alerts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ampel_spark.errors import ConfigError
from ampel_spark.simulate.kinds import MAKERS
from ampel_spark.simulate.names import MAX_OBJECTS
from ampel_spark.simulate.objects import KINDS, Objects, Sky, blank
from ampel_spark.sky.dust import galactic

__all__ = ["SHARES", "counts_for_alerts", "counts_for_objects", "cut_to", "make_objects"]

#: The approximate share of alerts of each kind; the last two kinds fill the remainder.
SHARES = {"snia": 0.36, "cc": 0.05, "agn": 0.07, "variable": 0.14, "asteroid": 0.19, "bogus": 0.19}

# The measured number of alerts of an object: per night of the archive (persistent kinds), or the
# largest number and the length of the archive, in nights, that gives half of it (transients).
_PER_NIGHT = {"agn": 0.34, "variable": 0.3}
_AT_MOST = {"snia": (30.0, 25.0), "cc": (37.0, 50.0)}


def counts_for_alerts(alerts: int, nights: int) -> dict[str, int]:
    """Return the numbers of objects that make about the share of `alerts` of their kinds.

    The last two kinds (asteroid, bogus) are left out, as they fill the remainder: see `cut_to`.
    """
    return {
        kind: max(round(alerts * SHARES[kind] / _alerts_each(kind, nights)), int(kind == "snia"))
        for kind in KINDS[:4]
    }


def counts_for_objects(objects: int, nights: int) -> dict[str, int]:
    """Return the numbers of each kind among `objects` objects, by largest remainders."""
    weights = np.array([SHARES[kind] / _alerts_each(kind, nights) for kind in KINDS])
    wanted = objects * weights / weights.sum()
    counts = np.floor(wanted).astype(int)
    counts[np.argsort(counts - wanted, kind="stable")[: objects - counts.sum()]] += 1
    return dict(zip(KINDS, counts.tolist(), strict=True))


def make_objects(counts: Mapping[str, int], sky: Sky, before: Objects | None = None) -> Objects:
    """Return objects, sorted by kind as `counts` is.

    Parameters
    ----------
    counts : mapping of str to int
        The number of objects of each kind.
    sky : Sky
        The sky of the simulation.
    before : array of OBJECT, optional
        Earlier objects of the same simulation; numbers continue after theirs.

    Raises
    ------
    ConfigError
        If no night was open, or if there are more objects than names or numbers on an image.
    """
    if not sky.archive_rows().size:
        raise ConfigError(
            "the simulated weather left no night open: take more nights or another seed"
        )
    parts = [blank(0)]
    for kind, count in counts.items():
        part = blank(count)
        if count:
            seed = np.random.SeedSequence([sky.seed, 201, KINDS.index(kind)])
            random = np.random.default_rng(seed)
            part["kind"] = KINDS.index(kind)
            MAKERS[kind](part, sky, random)
            part["ebv"] = sky.dust.ebv(part["ra"], part["dec"])
            _add_stars(part, random)
        parts.append(part)
    objects = np.concatenate(parts)
    objects["index"] = np.arange(objects.size) + (0 if before is None else before.size)
    _number(objects, sky, before)
    return objects


def cut_to(alerts: int, objects: Objects) -> Objects:
    """Return the first asteroids and bogus sources that make exactly `alerts` alerts.

    Each makes one or two alerts, so `objects` needs at most `alerts` of them.
    """
    total = np.cumsum(1 + (objects["row2"] >= 0))
    kept = objects[: np.searchsorted(total, alerts) + 1].copy() if alerts else objects[:0]
    if kept.size and total[kept.size - 1] > alerts:
        kept["row2"][-1] = -1
    return kept


def _alerts_each(kind: str, nights: int) -> float:
    if kind in _PER_NIGHT:
        return max(_PER_NIGHT[kind] * nights, 1.0)
    if kind in _AT_MOST:
        most, half = _AT_MOST[kind]
        return max(most * nights / (nights + half), 1.0)
    return 1.0


def _add_stars(objects: Objects, random: np.random.Generator) -> None:
    """Draw the nearest star and the nearest bright star of each object, by Galactic latitude."""
    n = objects.size
    latitude = np.abs(galactic(objects["ra"], objects["dec"])[1])
    density = 10.0 ** (-3.45 + 1.2 * np.exp(-latitude / 14.0))  # per square arcsec, G < 20.6
    for name, thin, faint in (("gaia", 1.0, 20.6), ("bright", 0.02, 14.0)):
        distance = np.sqrt(random.exponential(1.0, n) / (np.pi * density * thin))
        objects[f"{name}_dist"] = np.where(distance < 90.0, distance, np.nan)
        objects[f"{name}_angle"] = 2.0 * np.pi * random.random(n)
        objects[f"{name}_mag"] = np.clip(faint - random.exponential(faint / 8.0, n), 7.0, faint)
    own = objects["gaia_self"]
    objects["gaia_dist"] = np.where(own, 0.02 + 0.1 * random.random(n), objects["gaia_dist"])
    objects["gaia_mag"] = np.where(own, objects["mag_r"] + 0.1, objects["gaia_mag"])


def _number(objects: Objects, sky: Sky, before: Objects | None) -> None:
    """Set the letters of names, and the running numbers on images of each readout channel."""
    if objects.size and objects["index"][-1] >= MAX_OBJECTS:
        raise ConfigError(f"{objects['index'][-1] + 1} objects: there are {MAX_OBJECTS} names")
    # A factor prime to MAX_OBJECTS spreads names over the alphabet, and uses each once.
    start = sky.seed * 7_919 % MAX_OBJECTS
    objects["number"] = (objects["index"] * 234_958_301 + start) % MAX_OBJECTS
    channel = objects["field"].astype(np.int64) * 64 + objects["rcid"]
    taken = np.zeros(sky.grid.ra.size * 64, np.int64)
    if before is not None:
        known = before["field"].astype(np.int64) * 64 + before["rcid"]
        taken += np.bincount(known, minlength=taken.size)
    order = np.argsort(channel, kind="stable")
    ordered = channel[order]
    rank = np.arange(order.size) - np.searchsorted(ordered, ordered)
    objects["tblid"][order] = rank + taken[ordered]
    if objects.size and objects["tblid"].max() > 9_999:
        raise ConfigError(f"{objects.size} objects are too many for one sky: take fewer")
