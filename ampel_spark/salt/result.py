"""What a fit returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
from numpy.typing import NDArray

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.salt.options import PARAMETERS

__all__ = ["FitResult", "Flag", "Status"]

Array = NDArray[np.float64]


class Status(IntEnum):
    """Outcome of one fit in one word; negative: no fit was made. `Flag` has all that applies."""

    #: A minimum well inside the bounds, from data that cover the peak.
    CONVERGED = 0
    #: No point on one side of the peak, or none within ten days of it.
    POOR_COVERAGE = 1
    #: A significant point lies where the model's flux ends, within the error of t0, or beyond.
    MODEL_EDGE = 2
    #: A fitted parameter is at one of its bounds.
    AT_BOUND = 3
    #: No point has the S/N that a detection asks for.
    NO_SIGNAL = 4
    #: The search, or the rounds of the covariance or the phase range, did not come to an end.
    NOT_CONVERGED = 5
    #: Fewer usable points than needed.
    TOO_FEW_POINTS = -1
    #: Redshift not finite or outside the tables.
    BAD_REDSHIFT = -2
    #: A given covariance between points is not positive definite.
    BAD_COVARIANCE = -3


class Flag(IntFlag):
    """Conditions of one fit."""

    AT_BOUND = 1
    MODEL_EDGE = 2
    POOR_COVERAGE = 4
    NO_SIGNAL = 8
    NOT_CONVERGED = 16
    #: A band outside the model's wavelength range was left out.
    BAND_DROPPED = 32
    #: Points that are not finite, or without a positive error, were left out.
    BAD_POINTS = 64
    #: Points in bands that the fitter does not know were left out.
    UNKNOWN_BAND = 128
    #: The second derivatives were not positive definite: errors are Gauss and Newton's.
    NO_HESSIAN = 256
    #: There are no errors at all: some direction is not constrained.
    NO_ERRORS = 512


#: Which flag makes the status, the gravest first.
_GRAVITY = (
    (Flag.NOT_CONVERGED, Status.NOT_CONVERGED),
    (Flag.NO_SIGNAL, Status.NO_SIGNAL),
    (Flag.AT_BOUND, Status.AT_BOUND),
    (Flag.MODEL_EDGE, Status.MODEL_EDGE),
    (Flag.POOR_COVERAGE, Status.POOR_COVERAGE),
)


@dataclass(frozen=True)
class FitResult:
    """Results of n fits, B bands, N points; arrays in the order of the light curves.

    Numbers of an object that could not be fitted are NaN, counts zero.
    """

    #: Parameters that were fitted, in the order of `PARAMETERS` (z, t0, x0, x1, c).
    fitted: tuple[str, ...]
    #: (n, 5) parameters, fitted and fixed.
    parameters: Array
    #: (n, 5, 5) covariance, zero where a parameter was not fitted; from the full Hessian.
    covariance: Array
    #: (n,) chi-square of the data at the minimum, and of the priors (apart).
    chisq: Array
    prior_chisq: Array
    #: (n,) points used less fitted parameters.
    ndof: NDArray[np.int32]
    #: (n,) values of `Status`, and of `Flag`.
    status: NDArray[np.int8]
    flags: NDArray[np.int32]
    #: (n,) points used; of these before and after the peak (inside the model's phases).
    n_points: NDArray[np.int32]
    n_before: NDArray[np.int32]
    n_after: NDArray[np.int32]
    #: (n,) points left out: not usable; band unknown; band outside the model; cut by S/N or phase
    #: (of an iterative phase range: as it ended).
    n_bad: NDArray[np.int32]
    n_unknown_band: NDArray[np.int32]
    n_dropped_band: NDArray[np.int32]
    n_cut: NDArray[np.int32]
    #: (n,) starting points tried, rounds with the model's covariance, steps in all.
    n_starts: NDArray[np.int32]
    n_rounds: NDArray[np.int32]
    n_steps: NDArray[np.int32]
    #: (n,) first and last phase of the points used (inside the model), rest-frame days.
    first_phase: Array
    last_phase: Array
    #: (n,) highest flux / error of a usable point.
    max_snr: Array
    #: (n, B) points used per band; whether a band was left out as outside the model's range.
    points_by_band: NDArray[np.int32]
    dropped_bands: NDArray[np.bool_]
    #: (N,) whether a point was used.
    used: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def errors(self) -> Array:
        """(n, 5) errors; zero for fixed parameters."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    @property
    def success(self) -> NDArray[np.bool_]:
        """(n,) whether there is a converged fit, whatever else its status says."""
        return (self.status >= 0) & (self.status != Status.NOT_CONVERGED)

    def value(self, name: str) -> Array:
        """Return a parameter by name, shape (n,)."""
        return self.parameters[:, _position(name)]

    def error(self, name: str) -> Array:
        """Return the error of a parameter by name, shape (n,)."""
        k = _position(name)
        return np.sqrt(self.covariance[:, k, k])


def outcome(refusal: NDArray[np.int8], flags: NDArray[np.int32]) -> NDArray[np.int8]:
    """Return the status that refusals and flags amount to."""
    status = refusal.copy()
    for flag, code in reversed(_GRAVITY):
        status[(refusal == 0) & (flags & flag != 0)] = code
    return status


def _position(name: str) -> int:
    if name not in PARAMETERS:
        raise ConfigError(f"parameter {name!r} is not known{nearest(name, PARAMETERS)}")
    return PARAMETERS.index(name)
