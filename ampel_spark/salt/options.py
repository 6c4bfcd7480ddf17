"""What a fit is asked to do: parameters, bounds, priors, cuts, covariance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ampel_spark.errors import ConfigError, nearest

__all__ = ["PARAMETERS", "FitOptions", "Settings", "Targets"]

Array = NDArray[np.float64]

#: Parameters of the model, in sncosmo's order. Arrays of parameters follow it.
PARAMETERS = ("z", "t0", "x0", "x1", "c")
#: Bounds of fitted parameters unless others are given. t0: so that the model overlaps the data.
DEFAULT_BOUNDS = {
    "z": (np.nan, np.nan),
    "t0": (np.nan, np.nan),
    "x0": (0.0, np.inf),
    "x1": (-5.0, 5.0),
    "c": (-1.0, 2.0),
}


class Settings(NamedTuple):
    """Options as numbers: the same for all objects of a batch."""

    fitted: NDArray[np.bool_]
    min_points: int
    min_snr: float
    snr_cut: float
    floor: float
    fractional_floor: float
    model_covariance: bool
    covariance_tolerance: float
    max_rounds: int
    has_phase_range: bool
    phase_iterative: bool
    phase_observer: bool
    phase_min: float
    phase_max: float
    max_starts: int
    max_iterations: int


class Targets(NamedTuple):
    """What differs from object to object; arrays with one row serve all objects."""

    #: (n, 5) values of parameters that are not fitted, NaN elsewhere.
    fixed: Array
    #: (n or 1, 5) bounds; NaN for t0: from the data.
    lower: Array
    upper: Array
    #: (n or 1, 5) Gaussian priors; the weight is 1/sigma^2, zero for none.
    prior_mean: Array
    prior_weight: Array
    #: (n,) time from which a phase range counts, unless it is iterative.
    phase_reference: Array
    #: (n,) colour excess of the Milky Way, and row of `law`.
    ebv: Array
    law_row: NDArray[np.int64]
    #: (rows, B, Q) extinction per E(B-V) at the nodes of each band, one row per R_V.
    law: Array


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit, with defaults that suit survey photometry.

    Parameters
    ----------
    fit : sequence of str
        Parameters to fit; the others are fixed (see `SaltFitter.fit`). ``z`` needs bounds.
    bounds : mapping of str to (float, float)
        Bounds, replacing the defaults: x0 >= 0, -5 <= x1 <= 5, -1 <= c <= 2, and t0 such that the
        model overlaps the data (sncosmo's rule). Values may be arrays, one per object.
    priors : mapping of str to (float, float)
        Gaussian priors, (mean, sigma). Values may be arrays, one per object.
    model_covariance : bool
        Add the model's own covariance, frozen per round as in ``sncosmo.fit_lc(modelcov=True)``.
    covariance_tolerance : float
        Rounds end when no parameter moves by more than this part of its error. 0.1 is sncosmo's.
    max_rounds : int
        Largest number of rounds, of the covariance and of an iterative phase range.
    phase_range : (float, float), optional
        Use points with phases strictly inside, in days.
    phase_frame : {"rest", "observer"}
        Days of the phase range.
    phase_iterative : bool
        Count phases from the fitted t0, until the set of points stays as it is. Otherwise from
        the `phase_reference` given to `SaltFitter.fit`.
    snr_cut : float, optional
        Use only points with flux / error above this (errors as given, before floors).
    error_floor : float
        Added in quadrature to the errors, in units of flux at AB zero point 25.
    fractional_error_floor : float
        Part of the absolute flux that is added in quadrature to the errors.
    min_points : int, optional
        Fewest points to fit; as many as fitted parameters if not given.
    min_snr : float
        A light curve without a point above this gets the status ``NO_SIGNAL``; it is fitted
        all the same (``sncosmo.fit_lc`` refuses it).
    max_starts : int
        Largest number of starting points tried for one object.
    max_iterations : int
        Largest number of steps from one starting point.
    """

    fit: Sequence[str] = ("t0", "x0", "x1", "c")
    bounds: Mapping[str, tuple[ArrayLike, ArrayLike]] = field(default_factory=dict)
    priors: Mapping[str, tuple[ArrayLike, ArrayLike]] = field(default_factory=dict)
    model_covariance: bool = False
    covariance_tolerance: float = 0.1
    max_rounds: int = 20
    phase_range: tuple[float, float] | None = None
    phase_frame: str = "rest"
    phase_iterative: bool = True
    snr_cut: float | None = None
    error_floor: float = 0.0
    fractional_error_floor: float = 0.0
    min_points: int | None = None
    min_snr: float = 5.0
    max_starts: int = 8
    max_iterations: int = 60

    def __post_init__(self) -> None:
        if not self.fit:
            raise ConfigError(f"fit: name at least one of {', '.join(PARAMETERS)}")
        for name in (*self.fit, *self.bounds, *self.priors):
            if name not in PARAMETERS:
                raise ConfigError(f"parameter {name!r} is not known{nearest(name, PARAMETERS)}")
        if "z" in self.fit and "z" not in self.bounds and "z" not in self.priors:
            raise ConfigError("fit z: give bounds={'z': (low, high)} or a prior on it")
        for name, (low, high) in self.bounds.items():
            if not np.all(np.asarray(low) < np.asarray(high)):
                raise ConfigError(
                    f"bounds of {name} ({low!r}, {high!r}): the first must be smaller"
                )
        for name, (_, sigma) in self.priors.items():
            if not np.all(np.asarray(sigma) > 0.0):
                raise ConfigError(f"prior of {name}: sigma {sigma!r} must be positive")
        if self.phase_frame not in ("rest", "observer"):
            raise ConfigError(f"phase_frame {self.phase_frame!r}: 'rest' or 'observer'")
        if self.phase_range is not None and not self.phase_range[0] < self.phase_range[1]:
            raise ConfigError(f"phase_range {self.phase_range}: the first must be smaller")
        floors = (self.error_floor, self.fractional_error_floor)
        if not all(np.isfinite(f) and f >= 0.0 for f in floors):
            raise ConfigError(f"error floors {floors} must be finite and not negative")
        if self.max_starts < 1 or self.max_iterations < 1 or self.max_rounds < 1:
            raise ConfigError("max_starts, max_iterations and max_rounds must be at least 1")
        if not self.covariance_tolerance > 0.0:
            raise ConfigError(f"covariance_tolerance {self.covariance_tolerance}: must be positive")

    @property
    def fitted(self) -> tuple[str, ...]:
        """Fitted parameters in the order of `PARAMETERS`."""
        return tuple(name for name in PARAMETERS if name in self.fit)

    def settings(self) -> Settings:
        """Return the options as numbers."""
        low, high = self.phase_range or (-np.inf, np.inf)
        return Settings(
            fitted=np.array([name in self.fit for name in PARAMETERS]),
            min_points=len(self.fitted) if self.min_points is None else int(self.min_points),
            min_snr=float(self.min_snr),
            snr_cut=-np.inf if self.snr_cut is None else float(self.snr_cut),
            floor=float(self.error_floor),
            fractional_floor=float(self.fractional_error_floor),
            model_covariance=bool(self.model_covariance),
            covariance_tolerance=float(self.covariance_tolerance),
            max_rounds=int(self.max_rounds),
            has_phase_range=self.phase_range is not None,
            phase_iterative=bool(self.phase_iterative),
            phase_observer=self.phase_frame == "observer",
            phase_min=float(low),
            phase_max=float(high),
            max_starts=int(self.max_starts),
            max_iterations=int(self.max_iterations),
        )

    def bound_arrays(self, n: int) -> tuple[Array, Array]:
        """Return lower and upper bounds, shape (n or 1, 5)."""
        pairs = {**DEFAULT_BOUNDS, **dict(self.bounds)}
        return self._columns(pairs, 0, n), self._columns(pairs, 1, n)

    def prior_arrays(self, n: int) -> tuple[Array, Array]:
        """Return means and weights (1/sigma^2, zero for none) of the priors, shape (n or 1, 5)."""
        pairs = {name: self.priors.get(name, (0.0, np.inf)) for name in PARAMETERS}
        return self._columns(pairs, 0, n), self._columns(pairs, 1, n) ** -2.0

    @staticmethod
    def _columns(pairs: Mapping[str, tuple[ArrayLike, ArrayLike]], side: int, n: int) -> Array:
        values = [np.asarray(pairs[name][side], dtype=float) for name in PARAMETERS]
        rows = n if any(v.ndim for v in values) else 1
        for name, value in zip(PARAMETERS, values, strict=True):
            if value.ndim and value.shape != (n,):
                raise ConfigError(
                    f"{name}: {value.shape} values of a bound or prior for {n} light curves"
                )
        return np.ascontiguousarray(np.stack([np.broadcast_to(v, rows) for v in values], axis=1))
