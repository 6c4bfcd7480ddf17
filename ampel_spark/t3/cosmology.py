"""A flat LCDM fit to distances of type Ia supernovae, with their systematic covariance.

Distances are those of Tripp (1998): mu = m_B - M + alpha x1 - beta c. As in JLA (Betoule et al.
2014, doi:10.1051/0004-6361/201423413), chi square is lowest in Omega_m and, where they are free,
alpha and beta; M, in which the Hubble constant hides, is integrated out. The intrinsic scatter is
that of largest (restricted) likelihood at this place, found in turn with it. The covariance is

    C = diag(vᵀVv + sigma_int² + (5 sigma_v / (c z ln 10))² + (0.055 z)²) + sum of W² d dᵀ

with v = (1, alpha, -beta), V the covariance of a fit's (m_B, x1, c), sigma_v peculiar velocities,
0.055 z lensing (Jonsson et al. 2010) and d the shifts of the distances in each variation (Conley
et al. 2011, doi:10.1088/0067-0049/192/1/1). alpha and beta act on d as well.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar

from ampel_spark.errors import LakeError

__all__ = ["CosmologyFit", "DistanceSample", "distance_moduli", "fit_flat_lcdm"]

Array = npt.NDArray[np.float64]

_LIGHT = 299_792.458  # km/s
_LENSING = 0.055
_OMEGAS = np.linspace(0.0, 1.0, 51)
#: Of alpha and beta.
_BOUNDS = ((-1.0, 1.5), (-2.0, 10.0))
#: How often the scatter and the others are found in turn.
_TURNS = 4
#: Fewer supernovae are no Hubble diagram.
_FEWEST = 10


@dataclass(frozen=True)
class DistanceSample:
    """Fits of N supernovae, and their shifts in K variations.

    Attributes
    ----------
    z : ndarray with shape (N,)
    values : ndarray with shape (N, 3)
        -2.5 log10(x0), x1 and c.
    covariance : ndarray with shape (N, 3, 3)
        Of these.
    shifts : ndarray with shape (K, N, 3)
        Of these, variation less nominal, times the weight of the variation; K may be 0.
    """

    z: Array
    values: Array
    covariance: Array
    shifts: Array

    @classmethod
    def without_shifts(cls, sample: DistanceSample) -> DistanceSample:
        """Return a sample as if it had statistical errors alone."""
        return cls(sample.z, sample.values, sample.covariance, sample.shifts[:0])


@dataclass(frozen=True)
class CosmologyFit:
    """The outcome of a fit.

    Attributes
    ----------
    values, errors : mapping of str to float
        Of ``alpha``, ``beta`` and ``sigma_int``; errors of alpha and beta where they are free.
    om0, low, high : float
        Omega_m, and where chi square is larger by one, within 0 and 1.
    offset : float
        What was integrated out, at the best fit: m_B - mu for H0 = 70 km/s/Mpc.
    chisq : float
    ndof : int
    residuals, sigmas, redshifts : ndarray with shape (N,)
        Of the Hubble diagram, with the root of the covariance's diagonal.
    """

    values: Mapping[str, float]
    errors: Mapping[str, float]
    om0: float
    low: float
    high: float
    offset: float
    chisq: float
    ndof: int
    residuals: Array
    sigmas: Array
    redshifts: Array | None = None

    def __str__(self) -> str:
        up, down = self.high - self.om0, self.om0 - self.low
        parts = [f"Omega_m = {self.om0:.3f} +{up:.3f} -{down:.3f}"]
        if self.low <= 0.0 or self.high >= 1.0:
            parts[0] += " (the interval reaches the end of 0 to 1)"
        for name, value in self.values.items():
            error = self.errors.get(name)
            fixed = "" if name == "sigma_int" else " (fixed)"
            parts.append(f"{name} {value:.3f}" + (f" ± {error:.3f}" if error else fixed))
        parts.append(f"chi square {self.chisq:.1f} of {self.ndof}")
        return ", ".join(parts)


def distance_moduli(z: Array, om0: float) -> Array:
    """Return distance moduli in flat LCDM with H0 = 70 km/s/Mpc, mag; for redshifts below 3."""
    nodes, weights = _quadrature()
    at = 0.5 * z[:, None] * (nodes + 1.0)
    speed = 1.0 / np.sqrt(om0 * (1.0 + at) ** 3 + 1.0 - om0)
    comoving = 0.5 * z * (speed @ weights) * _LIGHT / 70.0
    moduli: Array = 5.0 * np.log10((1.0 + z) * comoving) + 25.0
    return moduli


def fit_flat_lcdm(
    sample: DistanceSample,
    *,
    alpha: float,
    beta: float,
    free: bool = True,
    sigma_int: float | None = None,
    velocity: float = 250.0,
) -> CosmologyFit:
    """Fit flat LCDM to a sample.

    Parameters
    ----------
    sample : DistanceSample
    alpha, beta : float
        Values, or where they are free the first guess.
    free : bool
        Whether alpha and beta are fitted.
    sigma_int : float, optional
        Intrinsic scatter, mag; it is fitted if it is not given.
    velocity : float
        Peculiar velocities, km/s.

    Raises
    ------
    LakeError
        If there are fewer than ten supernovae.
    """
    n = len(sample.z)
    if n < _FEWEST:
        raise LakeError(f"{n} supernovae with distances are no Hubble diagram: {_FEWEST} needed")
    problem = _Problem(sample, velocity)
    theta, om0 = np.array([alpha, beta]), 0.3
    scatter = 0.1 if sigma_int is None else sigma_int
    for _ in range(_TURNS):
        om0, theta = problem.lowest(om0, theta, scatter, free)
        if sigma_int is None:
            scatter = problem.scatter(om0, theta)
    # The profile over Omega_m, on both sides of the best one, each from the end of the one before.
    profile = {om0: problem.chisq(om0, theta, scatter)}
    for omegas in (_OMEGAS[om0 > _OMEGAS][::-1], _OMEGAS[om0 < _OMEGAS]):
        there = theta
        for omega in omegas.tolist():
            there = problem.best_at(omega, there, scatter, free)
            profile[omega] = problem.chisq(omega, there, scatter)
            if profile[omega] > profile[om0] + 4.0:
                break
    low, high = _interval(om0, profile)
    residuals, chisq, offset, sigmas = problem.residuals(om0, theta, scatter)
    values = {"alpha": float(theta[0]), "beta": float(theta[1]), "sigma_int": scatter}
    errors = problem.errors(om0, theta, scatter) if free else {}
    return CosmologyFit(
        values,
        errors,
        om0,
        low,
        high,
        offset,
        chisq,
        n - (4 if free else 2),
        residuals,
        sigmas,
        sample.z,
    )


class _Problem:
    """Chi square of a sample, with M integrated out."""

    def __init__(self, sample: DistanceSample, velocity: float) -> None:
        self.sample = sample
        z = sample.z
        self.noise = (5.0 * velocity / (_LIGHT * z * np.log(10.0))) ** 2 + (_LENSING * z) ** 2

    def lowest(self, om0: float, theta: Array, scatter: float, free: bool) -> tuple[float, Array]:
        """Return Omega_m and alpha, beta of the lowest chi square."""

        def cost(at: Array) -> float:
            return self.chisq(float(at[0]), at[1:] if free else theta, scatter)

        start = np.array([om0, *theta]) if free else np.array([om0])
        bounds = [(0.0, 1.0), *(_BOUNDS if free else ())]
        found = minimize(cost, start, method="L-BFGS-B", bounds=bounds)
        return float(found.x[0]), np.asarray(found.x[1:]) if free else theta

    def best_at(self, om0: float, theta: Array, scatter: float, free: bool) -> Array:
        """Return alpha and beta of the lowest chi square at one Omega_m."""
        if not free:
            return theta

        def cost(at: Array) -> float:
            return self.chisq(om0, at, scatter)

        return np.asarray(minimize(cost, theta, method="L-BFGS-B", bounds=_BOUNDS).x)

    def scatter(self, om0: float, theta: Array) -> float:
        """Return the intrinsic scatter of largest likelihood."""

        def cost(scatter: float) -> float:
            return self._costs(om0, theta, scatter)[1]

        return float(minimize_scalar(cost, bounds=(0.0, 1.0), method="bounded").x)

    def chisq(self, om0: float, theta: Array, scatter: float) -> float:
        return self._costs(om0, theta, scatter)[0]

    def _costs(self, om0: float, theta: Array, scatter: float) -> tuple[float, float]:
        """Return chi square, and -2 ln of the restricted likelihood."""
        residual, diagonal, moved = self._terms(om0, theta, scatter)
        inner, log_det = _solved(diagonal, moved)
        ones = np.ones(len(residual))
        r_r, r_1, one_1 = (
            inner(a, b) for a, b in ((residual, residual), (residual, ones), (ones, ones))
        )
        chisq = float(r_r - r_1**2 / one_1)
        return chisq, chisq + log_det + float(np.log(one_1))

    def residuals(
        self, om0: float, theta: Array, scatter: float
    ) -> tuple[Array, float, float, Array]:
        """Return residuals, chi square, the offset, and the root of the covariance's diagonal."""
        residual, diagonal, moved = self._terms(om0, theta, scatter)
        inner, _ = _solved(diagonal, moved)
        ones = np.ones(len(residual))
        offset = inner(residual, ones) / inner(ones, ones)
        left = residual - offset
        return left, float(inner(left, left)), float(offset), np.sqrt(diagonal + (moved**2).sum(0))

    def errors(self, om0: float, theta: Array, scatter: float) -> dict[str, float]:
        """Return the errors of alpha and beta, by second derivatives with Omega_m free."""
        at = np.array([min(max(om0, 0.02), 0.98), *theta])
        steps = np.array([0.01, 0.002, 0.02])

        def value(shift: Array) -> float:
            there = at + shift
            return self.chisq(float(there[0]), there[1:], scatter)

        hessian = np.empty((3, 3))
        for i, j in np.ndindex(3, 3):
            a, b = np.eye(3)[i] * steps[i], np.eye(3)[j] * steps[j]
            hessian[i, j] = value(a + b) - value(a - b) - value(b - a) + value(-a - b)
            hessian[i, j] /= 8.0 * steps[i] * steps[j]
        variance = np.diag(np.linalg.pinv(hessian))
        return {
            name: float(np.sqrt(variance[k]))
            for k, name in ((1, "alpha"), (2, "beta"))
            if variance[k] > 0
        }

    def _terms(self, om0: float, theta: Array, scatter: float) -> tuple[Array, ...]:
        v = np.array([1.0, theta[0], -theta[1]])
        sample = self.sample
        residual = sample.values @ v - distance_moduli(sample.z, om0)
        diagonal = (sample.covariance @ v) @ v + scatter**2 + self.noise
        return residual, diagonal, sample.shifts @ v


def _solved(diagonal: Array, moved: Array) -> tuple[Any, float]:
    """Return the products with the inverse of D + Σ d dᵀ, and the logarithm of its determinant."""
    scaled = moved / diagonal
    core = np.eye(len(moved)) + scaled @ moved.T
    log_det = float(np.sum(np.log(diagonal)) + np.linalg.slogdet(core)[1])

    def inner(a: Array, b: Array) -> float:
        plain = float(np.sum(a * b / diagonal))
        if not len(moved):
            return plain
        return plain - float((scaled @ a) @ np.linalg.solve(core, scaled @ b))

    return inner, log_det


def _interval(om0: float, profile: Mapping[float, float]) -> tuple[float, float]:
    """Return where the profile is above its lowest by one, on both sides; 0 and 1 are the ends."""
    at = np.array(sorted(profile))
    above = np.array([profile[omega] for omega in at.tolist()]) - profile[om0] - 1.0
    best = int(np.searchsorted(at, om0))
    left, right = np.flatnonzero(above[:best] > 0), np.flatnonzero(above[best:] > 0)
    low = _crossing(int(left[-1]), 1, at, above) if len(left) else 0.0
    high = _crossing(best + int(right[0]), -1, at, above) if len(right) else 1.0
    return low, high


def _crossing(i: int, step: int, at: Array, above: Array) -> float:
    share = above[i] / (above[i] - above[i + step])
    return float(at[i] + share * (at[i + step] - at[i]))


@functools.lru_cache(maxsize=1)
def _quadrature() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(24)
    return nodes, weights
