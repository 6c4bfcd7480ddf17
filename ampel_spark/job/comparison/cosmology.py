"""A flat LCDM fit to distances of type Ia supernovae, with their systematic covariance.

Distances are those of Tripp (1998): mu = m_B - M + alpha x1 - beta c. What is maximised is the
likelihood over Omega_m and, where they are free, alpha, beta and the intrinsic scatter; M, in which
the Hubble constant hides, is integrated out. The covariance is

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
from scipy.optimize import minimize

from ampel_spark.errors import LakeError

__all__ = ["CosmologyFit", "Sample", "distance_moduli", "fit_flat_lcdm"]

Array = npt.NDArray[np.float64]

_LIGHT = 299_792.458  # km/s
_LENSING = 0.055
_OMEGAS = np.linspace(0.0, 1.0, 101)
#: Fewer supernovae are no Hubble diagram.
_FEWEST = 10


@dataclass(frozen=True)
class Sample:
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
    def without_shifts(cls, sample: Sample) -> Sample:
        """Return a sample as if it had statistical errors alone."""
        return cls(sample.z, sample.values, sample.covariance, sample.shifts[:0])


@dataclass(frozen=True)
class CosmologyFit:
    """The outcome of a fit.

    Attributes
    ----------
    values, errors : mapping of str to float
        Of ``alpha``, ``beta`` and ``sigma_int``; errors of those that are free.
    om0, low, high : float
        Omega_m, and where -2 ln L is larger by one, within 0 and 1.
    offset : float
        What was integrated out, at the best fit: m_B - mu for H0 = 70 km/s/Mpc.
    chisq : float
    ndof : int
    residuals, sigmas : ndarray with shape (N,)
        Of the Hubble diagram, and the root of the covariance's diagonal.
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

    def __str__(self) -> str:
        up, down = self.high - self.om0, self.om0 - self.low
        parts = [f"Omega_m = {self.om0:.3f} +{up:.3f} -{down:.3f}"]
        if self.low <= 0.0 or self.high >= 1.0:
            parts[0] += " (the interval reaches the end of 0 to 1)"
        for name, value in self.values.items():
            error = self.errors.get(name)
            parts.append(f"{name} {value:.3f}" + (f" ± {error:.3f}" if error else " (fixed)"))
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
    sample: Sample,
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
    sample : Sample
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
    problem = _Problem(sample, alpha, beta, free, sigma_int, velocity)
    start = problem.start()
    # the profile over Omega_m, each from the end of the one before
    costs, ends = [], []
    for om0 in _OMEGAS:
        cost, start = problem.best(om0, start)
        costs.append(cost)
        ends.append(start)
    i = int(np.argmin(costs))
    om0 = _parabola(i, np.array(costs))
    cost, end = problem.best(om0, ends[i])
    low, high = _interval(om0, cost, np.array(costs))
    alpha, beta, scatter = problem.unpacked(end)
    residuals, chisq, offset, sigmas = problem.residuals(om0, alpha, beta, scatter)
    values = {"alpha": alpha, "beta": beta, "sigma_int": scatter}
    return CosmologyFit(
        values, problem.errors(om0, end), om0, low, high, offset, chisq,
        n - 2 - len(end), residuals, sigmas,
    )  # fmt: skip


class _Problem:
    """The likelihood of a sample, for given Omega_m, over what else is free."""

    def __init__(
        self, sample: Sample, alpha: float, beta: float, free: bool, sigma_int: float | None,
        velocity: float,
    ) -> None:  # fmt: skip
        self.sample, self.free = sample, free
        self.fixed = (alpha, beta, sigma_int)
        z = sample.z
        self.noise = (5.0 * velocity / (_LIGHT * z * np.log(10.0))) ** 2 + (_LENSING * z) ** 2

    def start(self) -> Array:
        alpha, beta, sigma_int = self.fixed
        first = [alpha, beta] if self.free else []
        return np.array([*first, *([] if sigma_int is not None else [np.log(0.12)])])

    def unpacked(self, theta: Array) -> tuple[float, float, float]:
        alpha, beta, sigma_int = self.fixed
        if self.free:
            alpha, beta = float(theta[0]), float(theta[1])
        scatter = float(np.exp(theta[-1])) if sigma_int is None else sigma_int
        return alpha, beta, scatter

    def best(self, om0: float, start: Array) -> tuple[float, Array]:
        """Return the lowest -2 ln L and where it is."""
        if not len(start):
            return self.cost(start, om0), start
        bounds = [(-1.0, 1.5), (-2.0, 10.0)] if self.free else []
        bounds += [(np.log(1e-3), np.log(1.0))] if self.fixed[2] is None else []
        found = minimize(self.cost, start, (om0,), method="L-BFGS-B", bounds=bounds)
        return float(found.fun), np.asarray(found.x)

    def cost(self, theta: Array, om0: float) -> float:
        residual, diagonal, moved = self._terms(om0, *self.unpacked(theta))
        inner, log_det = _solved(diagonal, moved)
        ones = np.ones(len(residual))
        r_r, r_1, one_1 = (
            inner(a, b) for a, b in ((residual, residual), (residual, ones), (ones, ones))
        )
        return float(r_r - r_1**2 / one_1 + log_det + np.log(one_1))

    def residuals(
        self, om0: float, alpha: float, beta: float, scatter: float
    ) -> tuple[Array, float, float, Array]:
        residual, diagonal, moved = self._terms(om0, alpha, beta, scatter)
        inner, _ = _solved(diagonal, moved)
        ones = np.ones(len(residual))
        offset = inner(residual, ones) / inner(ones, ones)
        left = residual - offset
        return left, float(inner(left, left)), float(offset), np.sqrt(diagonal + (moved**2).sum(0))

    def errors(self, om0: float, theta: Array) -> dict[str, float]:
        """Return errors at the best fit, Omega_m among what is free, by second derivatives."""
        names = [*(("alpha", "beta") if self.free else ()),
                 *(("sigma_int",) if self.fixed[2] is None else ())]  # fmt: skip
        if not names:
            return {}
        at = np.array([*theta, min(max(om0, 0.02), 0.98)])
        steps = np.array([*np.maximum(1e-3 * np.abs(theta), 1e-4), 0.01])
        k = len(at)
        hessian = np.empty((k, k))

        def value(shift: Array) -> float:
            there = at + shift
            return self.cost(there[:-1], float(there[-1]))

        for i in range(k):
            for j in range(k):
                a, b = np.eye(k)[i] * steps[i], np.eye(k)[j] * steps[j]
                hessian[i, j] = value(a + b) - value(a - b) - value(b - a) + value(-a - b)
                hessian[i, j] /= 8.0 * steps[i] * steps[j]
        try:
            variance = np.diag(np.linalg.inv(hessian))
        except np.linalg.LinAlgError:
            return {}
        found = dict(zip(names, np.sqrt(np.where(variance > 0, variance, np.nan)), strict=False))
        if "sigma_int" in found:
            found["sigma_int"] *= float(np.exp(theta[-1]))
        return {name: float(error) for name, error in found.items() if np.isfinite(error)}

    def _terms(self, om0: float, alpha: float, beta: float, scatter: float) -> tuple[Array, ...]:
        v = np.array([1.0, alpha, -beta])
        sample = self.sample
        residual = sample.values @ v - distance_moduli(sample.z, om0)
        diagonal = np.einsum("i,nij,j->n", v, sample.covariance, v) + scatter**2 + self.noise
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


def _parabola(i: int, costs: Array) -> float:
    """Return where a parabola through the lowest cost and its neighbours is lowest."""
    if not 0 < i < len(costs) - 1:
        return float(_OMEGAS[i])
    a, b, c = costs[i - 1 : i + 2]
    step = _OMEGAS[1] - _OMEGAS[0]
    return float(_OMEGAS[i] + 0.5 * step * (a - c) / (a - 2.0 * b + c))


def _interval(om0: float, cost: float, costs: Array) -> tuple[float, float]:
    """Return where the profile is above its lowest by one, on both sides; 0 and 1 are the ends."""
    above = costs - cost - 1.0
    left, right = om0 >= _OMEGAS, om0 <= _OMEGAS
    low, high = 0.0, 1.0
    if (above[left] > 0).any():
        i = int(np.flatnonzero(left & (above > 0))[-1])
        low = _crossing(i, i + 1, above)
    if (above[right] > 0).any():
        i = int(np.flatnonzero(right & (above > 0))[0])
        high = _crossing(i, i - 1, above)
    return min(low, om0), max(high, om0)


def _crossing(i: int, j: int, above: Array) -> float:
    share = above[i] / (above[i] - above[j]) if above[i] != above[j] else 0.0
    return float(_OMEGAS[i] + np.clip(share, 0.0, 1.0) * (_OMEGAS[j] - _OMEGAS[i]))


@functools.lru_cache(maxsize=1)
def _quadrature() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(24)
    return nodes, weights
