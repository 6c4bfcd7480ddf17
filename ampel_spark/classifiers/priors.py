"""Priors: factors on the probabilities of some classes, which keep the sum over these classes.

A prior says nothing of the classes that it does not list. Where all that it lists is ruled out, or
the number that it asks for is unknown, probabilities stay as they were, and the object is noted:
AMPEL's form of these priors (Ampel-HU-astro, `T2Elasticc2Classifier`) then loses their sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ampel_spark.classifiers.taxonomy import class_of

__all__ = ["GaussianPrior", "HistogramPrior", "Prior", "RatePrior", "apply"]

Floats = NDArray[np.float64]
T = TypeVar("T")


class _Prior(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    "What records call it."

    source: str = ""
    "Where its numbers are from."

    def asks_for(self) -> dict[str, float]:
        """Return the inputs of which the sum is looked up, with a factor for each."""
        return {}


class RatePrior(_Prior):
    """How frequent classes are, in any unit."""

    kind: Literal["rate"]
    rates: dict[str, Annotated[float, Field(ge=0)]] = Field(min_length=1)
    "Class, by number or name, and its rate."

    def factors(self, classes: Sequence[int], value: Floats) -> Floats:
        """Return a factor for each object and class; NaN for classes that are not listed."""
        rates = _by_class(self.rates)
        row = np.array([rates.get(c, np.nan) for c in classes])
        return np.broadcast_to(row, (value.size, row.size))


class HistogramPrior(_Prior):
    """A density in bins of equal width, as of redshifts."""

    kind: Literal["histogram"]
    input: str
    "Input that is looked up."

    first: float
    "Lower edge of the first bin."

    width: float = Field(gt=0)
    "Width of the bins."

    bins: dict[str, tuple[Annotated[float, Field(ge=0)], ...]] = Field(min_length=1)
    "Class and its density in each bin; beyond the bins it is 0."

    def asks_for(self) -> dict[str, float]:
        """Return the input that is looked up."""
        return {self.input: 1.0}

    def factors(self, classes: Sequence[int], value: Floats) -> Floats:
        """Return a factor for each object and class; NaN for classes that are not listed."""
        bins = _by_class(self.bins)
        out = np.full((value.size, len(classes)), np.nan)
        place = np.floor((np.nan_to_num(value, nan=-np.inf) - self.first) / self.width)
        for j, number in enumerate(classes):
            if number in bins:
                heights = np.array([0.0, *bins[number], 0.0])
                out[:, j] = heights[np.clip(place, -1, heights.size - 2).astype(int) + 1]
        return out


class GaussianPrior(_Prior):
    """A normal distribution, as of the colours of hosts."""

    kind: Literal["gaussian"]
    input: str
    "Input that is looked up."

    less: dict[str, float] = {}
    "Other inputs, and how many times each is taken off, as the Milky Way's reddening."

    classes: dict[str, tuple[float, Annotated[float, Field(gt=0)]]] = Field(min_length=1)
    "Class, and mean and standard deviation of its members."

    normalised: bool = True
    "Whether each density has an integral of 1; AMPEL's have a maximum of 1."

    def asks_for(self) -> dict[str, float]:
        """Return the inputs of which the sum is looked up, with a factor for each."""
        return {self.input: 1.0} | {name: -times for name, times in self.less.items()}

    def factors(self, classes: Sequence[int], value: Floats) -> Floats:
        """Return a factor for each object and class; NaN for classes that are not listed."""
        known = _by_class(self.classes)
        out = np.full((value.size, len(classes)), np.nan)
        for j, number in enumerate(classes):
            if number in known:
                mean, sigma = known[number]
                height = 1.0 / sigma if self.normalised else 1.0
                out[:, j] = height * np.exp(-0.5 * ((value - mean) / sigma) ** 2)
        return out


#: Any of the priors.
Prior = Annotated[RatePrior | HistogramPrior | GaussianPrior, Field(discriminator="kind")]


def apply(
    prior: RatePrior | HistogramPrior | GaussianPrior,
    probabilities: Floats,
    classes: Sequence[int],
    inputs: Mapping[str, Floats],
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return probabilities after a prior, and where it could not be applied.

    Parameters
    ----------
    prior : RatePrior, HistogramPrior or GaussianPrior
    probabilities : ndarray with shape (M, classes)
    classes : sequence of int
        The class of each column.
    inputs : mapping of str to ndarray with shape (M,)
        Numbers that priors ask for; NaN where one is unknown.

    Returns
    -------
    probabilities : ndarray with shape (M, classes)
        Their sum over the classes that the prior lists is as before.
    without : ndarray of bool with shape (M,)
        Objects of which the number is unknown, or of which all listed classes are ruled out.
    """
    m = probabilities.shape[0]
    value, nothing = np.zeros(m), np.full(m, np.nan)
    for word, times in prior.asks_for().items():
        value = value + times * inputs.get(word, nothing)
    factors = prior.factors(classes, value)
    listed = np.isfinite(prior.factors(classes, np.zeros(1))[0])
    before = probabilities[:, listed].sum(axis=1)
    weighted = probabilities[:, listed] * np.nan_to_num(factors[:, listed])
    after = weighted.sum(axis=1)
    without = (~np.isfinite(value) | ~(after > 0.0)) & (before > 0.0)
    scale = np.divide(before, after, out=np.zeros(m), where=~without & (after > 0.0))
    out = probabilities.copy()
    out[:, listed] = np.where(without[:, None], out[:, listed], weighted * scale[:, None])
    return out, without


def _by_class(table: Mapping[str, T]) -> dict[int, T]:
    return {class_of(word): value for word, value in table.items()}
