"""How many matches chance alone gives: by scrambling right ascensions, and by density.

Scrambling keeps the declinations, times and errors of all events, gives each a random right
ascension, and counts matches again: what objects have in common in declination, place and time
stays. A sky map turns about the pole as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ampel_spark.errors import ConfigError
from ampel_spark.events.event import NONE
from ampel_spark.events.matching import EventIndex, EventMatches, Times, nearest_times

__all__ = ["Chance", "expected", "scrambled"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Fewest scrambles: below, a probability of a per cent is no number.
_FEWEST = 1000


@dataclass(frozen=True)
class Chance:
    """What chance gives, and what was found.

    Attributes
    ----------
    observed : int
        Matches that were found.
    mean, std : float
        Mean and standard deviation of the matches of a scramble.
    p_any, p_any_err : float
        Share of the scrambles with a match, and its binomial error.
    p_value, p_value_err : float
        Share of the scrambles with as many matches as were found or more, and its binomial error.
        It counts the observation itself, so it is never 0.
    trials : int
        How many questions were asked of the same data.
    p_corrected : float
        Probability that one question of so many has such a result by chance.
    scrambles : int
        Number of scrambles.
    """

    observed: int
    mean: float
    std: float
    p_any: float
    p_any_err: float
    p_value: float
    p_value_err: float
    trials: int
    p_corrected: float
    scrambles: int


def scrambled(
    index: EventIndex,
    ra: Floats,
    dec: Floats,
    times: Times | None = None,
    before: float = np.inf,
    after: float = np.inf,
    *,
    scrambles: int = 1000,
    seed: int = 0,
    trials: int = 1,
    keep: Callable[[EventMatches], Mask] | None = None,
) -> Chance:
    """Return how many matches scrambled right ascensions give.

    Parameters
    ----------
    index : EventIndex
        The events.
    ra, dec, times, before, after
        Objects and window, as for `EventIndex.match`.
    scrambles : int
        How often, 1000 at least.
    seed : int
        Seed of the random right ascensions.
    trials : int
        How many questions were asked of the same data: windows, classes, levels.
    keep : callable, optional
        Takes matches, and returns which of them count.

    Raises
    ------
    ConfigError
        If there are fewer than 1000 scrambles, or less than one trial.
    """
    if scrambles < _FEWEST:
        raise ConfigError(f"{scrambles} scrambles are too few: {_FEWEST} or more are needed")
    if trials < 1:
        raise ConfigError(f"{trials} trials: give the number of questions, 1 or more")
    ra, dec = (np.asarray(v, np.float64) for v in (ra, dec))
    turns = np.random.default_rng(seed).uniform(0.0, 360.0, (scrambles, max(len(index), 1)))
    counts = np.zeros(scrambles, np.int64)
    for k, event in enumerate(index.events):
        one = EventIndex([event], index.level, index.rectangle)
        mine, offset = _possible(one, dec, times, before, after)
        if not len(mine):
            continue
        # the objects turn, and the event stays: pixels of a turned map are no pixels any more
        turned = (ra[mine][None, :] - turns[:, k, None]).ravel() % 360.0
        found = one.match(turned, np.tile(dec[mine], scrambles))
        scramble, which = found.left // len(mine), found.left % len(mine)
        pairs = found._replace(left=mine[which], event=found.event + k, offset=offset[which])
        counts += np.bincount(scramble[_kept(pairs, keep)], minlength=scrambles)
    found = index.match(ra, dec, times, before, after)
    return _chance(int(_kept(found, keep).sum()), counts, trials)


def _possible(
    one: EventIndex, dec: Floats, times: Times | None, before: float, after: float
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the objects that an event can match at some right ascension, and their offsets."""
    near = np.isfinite(dec)
    (event,) = one.events
    if event.shape == NONE:
        near[:] = False
    elif event.skymap is None:
        near &= np.abs(dec - event.dec) <= one.shapes.reach(one.level)[0]
    mine = np.flatnonzero(near)
    if times is None:
        return mine, np.full(len(mine), np.nan)
    offset = nearest_times(times, mine, np.full(len(mine), event.jd), (before, after))
    seen = np.isfinite(offset)
    return mine[seen], offset[seen]


def expected(
    index: EventIndex, times: Times, before: float, after: float, footprint: float
) -> tuple[float, float]:
    """Return how many matches the density of live objects gives.

    Parameters
    ----------
    index : EventIndex
        The events, all within the footprint.
    times : Times
        Times of all objects of the footprint, JD.
    before, after : float
        The window: days before and after an event.
    footprint : float
        Area that the objects are spread over evenly, square degrees.

    Returns
    -------
    float
        Expected number: the sum over events of area times live objects per square degree.
    float
        Probability of one match or more, ``1 - exp(-number)``.
    """
    number = 0.0
    which = np.repeat(np.arange(len(times.offsets) - 1), np.diff(times.offsets))
    for event in index.events:
        late = times.jd - event.jd
        live = len(np.unique(which[(late >= -before) & (late <= after)]))
        number += event.area * live / footprint
    return number, float(-np.expm1(-number))


def _kept(found: EventMatches, keep: Callable[[EventMatches], Mask] | None) -> Mask:
    return np.ones(len(found.left), bool) if keep is None else keep(found)


def _chance(observed: int, counts: npt.NDArray[np.int64], trials: int) -> Chance:
    n = len(counts)

    def share(k: int) -> tuple[float, float]:
        p = k / n
        return p, float(np.sqrt(p * (1.0 - p) / n))

    p_any, p_any_err = share(int((counts > 0).sum()))
    p_value = (int((counts >= observed).sum()) + 1) / (n + 1)
    return Chance(
        observed, float(counts.mean()), float(counts.std(ddof=1)), p_any, p_any_err, p_value,
        float(np.sqrt(p_value * (1.0 - p_value) / n)), trials,
        float(-np.expm1(trials * np.log1p(-min(p_value, 1.0 - 1e-16)))), n,
    )  # fmt: skip
