"""What a fit is asked for, in the form that its engines take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sncosmo

__all__ = ["Objects", "Task"]

Array = npt.NDArray[Any]
Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Task:
    """What to fit and how.

    Attributes
    ----------
    model : name and version
    law : law of the Milky Way's dust, or None
    bands : names of bands and their curves; None where there is none
    fixed : parameters that are held, with their values
    bounds : bounds of fitted ones
    phase_range : days to fit about the fitted t0, again until nothing changes; None for all points
    observer : whether these are days in the observer's frame
    model_covariance : whether the model's own scatter counts
    min_points : fewest points to fit
    min_snr : at least one point must be above this
    """

    model: str
    law: str | None
    bands: Mapping[str, sncosmo.Bandpass | None]
    fixed: Mapping[str, float]
    bounds: Mapping[str, Range]
    phase_range: Range | None
    observer: bool
    model_covariance: bool
    min_points: int
    min_snr: float


@dataclass(frozen=True, eq=False)
class Objects:
    """What is known of the objects to fit; arrays have shape (M,). See `FitTargets`."""

    z: Array
    low: Array
    high: Array
    mean: Array
    sigma: Array
    ebv: Array

    def __len__(self) -> int:
        return len(self.z)

    @property
    def is_free(self) -> Array:
        """Where the redshift is fitted."""
        return np.isnan(self.z)
