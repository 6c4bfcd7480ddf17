"""One object's points and limits: chi-square, its derivatives, and the way down."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from ampel_spark.salt.options import Settings
from ampel_spark.salt.twin.model import T0, X0, X1, C, PlainModel, Z

__all__ = ["Object"]

Array = NDArray[np.float64]

#: Steps for derivatives by z and c.
STEPS = {Z: 1e-5, C: 1e-4}
#: Longest steps of a descent.
LONGEST = {Z: 0.05, T0: 10.0, C: 0.5}
#: As in `search`: when a descent gives up, or follows a jump.
HOPE, WALLS, WALL, GAP = 10.0, 2, 30.0, 1e-6
SMALLEST, LARGEST = 1e-140, 1e140


@dataclass
class Object:
    """One object's usable points (times from the earliest), its model, limits and weights."""

    model: PlainModel
    settings: Settings
    time: Array
    flux: Array
    band: NDArray[np.int64]
    given: Array
    index: NDArray[np.int64]
    lower: Array
    upper: Array
    prior_mean: Array
    prior_weight: Array
    #: A redshift that is fitted may be held for the time being.
    held: bool = False
    use: NDArray[np.bool_] = field(init=False)
    factor: Array = field(init=False)
    data: Array = field(init=False)

    def freeze(self, par: Array | None) -> bool:
        """Factorise the covariance of the points in use, with the model's at `par` if given."""
        keep = np.flatnonzero(self.use)
        total = self.given[np.ix_(keep, keep)].copy()
        if par is not None:
            total += self.model.covariance(self.band[keep], self.time[keep], par)
        try:
            self.factor = np.asarray(np.linalg.cholesky(total), dtype=np.float64)
        except np.linalg.LinAlgError:
            return False
        self.data = self.whiten(self.flux[keep])
        return True

    def whiten(self, values: Array) -> Array:
        """Multiply by the inverse of the covariance's Cholesky factor."""
        return np.asarray(solve_triangular(self.factor, values, lower=True, check_finite=False))

    def basis(self, z: float, t0: float, c: float) -> Array:
        """Whitened M0 and M1 of the points in use."""
        keep = np.flatnonzero(self.use)
        return self.whiten(self.model.basis(self.band[keep], self.time[keep], z, t0, c))

    def chisq(self, par: Array) -> float:
        """Chi-square with priors."""
        res = self.data - par[X0] * self.basis(par[Z], par[T0], par[C]) @ [1.0, par[X1]]
        return float(res @ res) + self.prior(par)

    def prior(self, par: Array) -> float:
        """Chi-square of the priors alone."""
        return float(self.prior_weight @ (par - self.prior_mean) ** 2)

    def profile(self, par: Array) -> float:
        """Set x0 and x1 of `par` to their best; return chi-square."""
        basis = self.basis(par[Z], par[T0], par[C])
        sums = (basis.T @ basis, basis.T @ self.data)
        par[X0], par[X1] = self.solve_linear(sums, par[X0], par[X1])
        res = self.data - par[X0] * basis @ [1.0, par[X1]]
        return float(res @ res) + self.prior(par)

    def solve_linear(self, sums: tuple[Array, Array], x0: float, x1: float) -> tuple[float, float]:
        """Best x0 and x1 for the sums of squares MᵀM and of products Mᵀ data."""
        square, product = sums
        fit0, fit1 = self.settings.fitted[X0], self.settings.fitted[X1]
        p1, mean1 = self.prior_weight[X1], self.prior_mean[X1]
        if not fit0:
            if fit1:
                norm = x0 * x0 * square[1, 1] + p1
                if norm > 0.0:
                    x1 = (x0 * (product[1] - x0 * square[0, 1]) + p1 * mean1) / norm
                x1 = float(np.clip(x1, self.lower[X1], self.upper[X1]))
            return x0, x1

        def at(values: Array) -> tuple[Array, Array]:
            """Best x0 and chi-square (less the data's) for values of x1."""
            p0, mean0 = self.prior_weight[X0], self.prior_mean[X0]
            norm = square[0, 0] + values * (2.0 * square[0, 1] + values * square[1, 1]) + p0
            signal = product[0] + values * product[1] + p0 * mean0
            best = np.divide(signal, norm, out=np.zeros_like(norm), where=norm > 0.0)
            best = np.clip(best, self.lower[X0], self.upper[X0])
            return best, best * (best * norm - 2.0 * signal) + p1 * (values - mean1) ** 2

        if not fit1:
            return float(at(np.array([x1]))[0][0]), x1
        plain = p1 == 0.0 and self.prior_weight[X0] == 0.0
        if plain and np.linalg.det(square) > 1e-12 * square[0, 0] * square[1, 1]:
            a, b = np.linalg.solve(square, product)
            inside = a != 0.0 and self.lower[X0] <= a <= self.upper[X0]
            if inside and self.lower[X1] <= b / a <= self.upper[X1]:
                return float(a), float(b / a)
        # A grid, made finer around its best point.
        low, high = max(self.lower[X1], -100.0), min(self.upper[X1], 100.0)
        for _ in range(9):
            grid = np.linspace(low, high, 17)
            best = int(np.argmin(at(grid)[1]))
            low, high = grid[max(best - 1, 0)], grid[min(best + 1, 16)]
        return float(at(grid)[0][best]), float(grid[best])

    def set_phase_range(self, z: float, t0: float) -> bool:
        """Use points in the phase range about `t0`; return whether the set changed."""
        before = self.use.copy()
        phase = (self.time - t0) / (1.0 if self.settings.phase_observer else 1.0 + z)
        self.use = (self.settings.phase_min < phase) & (phase < self.settings.phase_max)
        return bool(np.any(before != self.use))

    def outer(self) -> list[int]:
        """Fitted parameters in which the model is not linear."""
        free = [k for k in (Z, T0, C) if self.settings.fitted[k]]
        return [k for k in free if k != Z or not self.held]

    def jacobian(self, par: Array) -> Array:
        """Derivatives of the whitened model flux by all parameters, shape (N, 5)."""
        amplitudes = par[X0] * np.array([1.0, par[X1]])
        basis = self.basis(par[Z], par[T0], par[C])
        out = np.zeros((len(self.data), 5))
        out[:, X0] = basis @ [1.0, par[X1]]
        out[:, X1] = par[X0] * basis[:, 1]
        keep = np.flatnonzero(self.use)
        band = self.band[keep]
        a = 1.0 / (1.0 + par[Z])
        phase = (self.time[keep] - par[T0]) * a
        slope = self.model.at_phase(band, phase, par[Z], par[C], slope=True)
        for k in self.outer():
            # At fixed phases, so that no point crosses the end of the model.
            change = np.zeros_like(slope)
            if k != T0:
                ends = []
                for sign in (1.0, -1.0):
                    at = par.copy()
                    at[k] += sign * STEPS[k]
                    ends.append(self.model.at_phase(band, phase, at[Z], at[C]))
                change = (ends[0] - ends[1]) / (2.0 * STEPS[k])
            if k != C:
                change += slope * (-a if k == T0 else -a * phase[:, None])
            out[:, k] = self.whiten(change @ amplitudes)
        return out

    def equations(self, par: Array) -> tuple[Array, Array]:
        """Gauss and Newton's matrix and the downhill gradient of half the chi-square, all 5."""
        jac = self.jacobian(par)
        res = self.data - par[X0] * self.basis(par[Z], par[T0], par[C]) @ [1.0, par[X1]]
        matrix = jac.T @ jac + np.diag(self.prior_weight)
        return matrix, jac.T @ res + self.prior_weight * (self.prior_mean - par)

    def descend(
        self, par: Array, known: tuple[float, Array] | None = None
    ) -> tuple[float, int, bool]:
        """Levenberg-Marquardt in the outer parameters, in place.

        Ends where it comes to the minimum of an earlier descent, if one is `known`, and where it
        cannot get as low. At a jump of chi-square it goes along it.
        """
        chisq = self.profile(par)
        damping, n_steps, n_walls = 1e-3, 0, 0
        jump: tuple[float, float, float] | None = None
        matrix, gradient = self.equations(par)
        while n_steps < self.settings.max_iterations:
            free = [
                k for k in self.outer() if matrix[k, k] > 0.0 and not self._pushed(par, gradient, k)
            ]
            if not free:
                return chisq, n_steps, True
            n_steps += 1
            reduced = self._reduced(par, matrix, free)
            size = np.diag(reduced)
            inverse = np.linalg.pinv(reduced + damping * np.diag(size), hermitian=True)
            step = inverse @ gradient[free]
            if jump is not None:
                normal = np.array([{T0: 1.0, Z: jump[1]}.get(k, 0.0) for k in free])
                across, norm = float(normal @ step), float(normal @ inverse @ normal)
                if jump[2] * across < 0.0:
                    jump = None
                elif across != 0.0 and norm > 0.0:
                    step = step - inverse @ normal * across / norm
            promise = float(step @ gradient[free])
            if (promise < 1e-3 and damping <= 1e-2) or promise < 1e-6:
                return chisq, n_steps, True
            if known is not None and damping <= 1e-2 and chisq - HOPE * promise > known[0] + 1.0:
                return chisq, n_steps, False
            shrink = min(1.0, *(LONGEST[k] / abs(d) for k, d in zip(free, step, strict=True) if d))
            trial = par.copy()
            trial[free] = np.clip(par[free] + shrink * step, self.lower[free], self.upper[free])
            chisq_trial = self.profile(trial)
            if chisq_trial < chisq:
                par[:], chisq = trial, chisq_trial
                damping = max(0.1 * damping, 1e-7)
                matrix, gradient = self.equations(par)
                if known is not None and chisq >= known[0]:
                    away = np.abs(par - known[1])
                    if away[T0] < 0.2 and away[C] < 0.03 and away[Z] < 0.003:
                        return chisq, n_steps, False
                continue
            damping = max(10.0 * damping, 1e-2)
            n_walls += chisq_trial - chisq > WALL * max(promise, 1e-3) and promise < 1.0
            if damping > 1e9 or n_walls > 3 * WALLS:
                return chisq, n_steps, False
            if n_walls and n_walls % WALLS == 0 and jump is None:
                jump = self._jump(par, trial)
                if jump is None:
                    continue
                damping = 1e-3
                trial = par.copy()
                trial[T0] = jump[0] - jump[1] * (1.0 + par[Z]) - jump[2] * GAP
                if self.lower[T0] <= trial[T0] <= self.upper[T0]:
                    chisq_trial = self.profile(trial)
                    if chisq_trial < chisq:
                        par[:], chisq = trial, chisq_trial
                        matrix, gradient = self.equations(par)
        return chisq, n_steps, False

    def _reduced(self, par: Array, matrix: Array, free: list[int]) -> Array:
        """Curvature by some outer parameters with x0 and x1 following."""
        inner = [
            k
            for k in (X0, X1)
            if self.settings.fitted[k]
            and matrix[k, k] > 0.0
            and self.lower[k] < par[k] < self.upper[k]
        ]
        reduced = matrix[np.ix_(free, free)]
        if inner:
            cross = matrix[np.ix_(free, inner)]
            block = np.linalg.pinv(matrix[np.ix_(inner, inner)], rcond=1e-15, hermitian=True)
            reduced = reduced - cross @ block @ cross.T
        np.fill_diagonal(reduced, np.maximum(np.diag(reduced), 1e-10 * np.diag(matrix)[free]))
        return reduced

    def _jump(self, par: Array, trial: Array) -> tuple[float, float, float] | None:
        """First point to cross an edge of the model: its time, the edge, its side before."""
        t = self.model.tables
        best: tuple[float, float, float] | None = None
        nearest = np.inf
        for time in self.time[self.use]:
            for edge in (t.phase_start, t.phase_start + t.phase_step * (t.n_phases - 1)):
                here, there = (time - p[T0] - edge * (1.0 + p[Z]) for p in (par, trial))
                if (here > 0.0) != (there > 0.0) and abs(here) < nearest:
                    nearest, best = abs(here), (time, edge, 1.0 if here > 0.0 else -1.0)
        return best

    def _pushed(self, par: Array, gradient: Array, k: int) -> bool:
        """Whether a parameter is at a bound and would go beyond."""
        low = par[k] <= self.lower[k] and gradient[k] <= 0.0
        return bool(low or (par[k] >= self.upper[k] and gradient[k] >= 0.0))

    def errors(self, matrix: Array) -> Array | None:
        """Covariance from a matrix of second derivatives, (5, 5); None if not positive definite."""
        keep = np.flatnonzero(self.settings.fitted)
        block = matrix[np.ix_(keep, keep)]
        diagonal = np.diag(block)
        if not np.all(np.isfinite(block)) or not np.all(diagonal > 0.0):
            return None
        norm = 1.0 / np.sqrt(diagonal)
        scaled = block * np.outer(norm, norm)
        if np.linalg.eigvalsh(scaled)[0] <= 1e-13:
            return None
        out = np.zeros((5, 5))
        out[np.ix_(keep, keep)] = np.linalg.inv(scaled) * np.outer(norm, norm)
        return out

    def hessian(self, par: Array, matrix: Array) -> Array:
        """Second derivatives of half the chi-square, from differences of its gradient."""
        out = matrix.copy()
        res = self.data - par[X0] * self.basis(par[Z], par[T0], par[C]) @ [1.0, par[X1]]
        out[X0, X1] -= res @ self.basis(par[Z], par[T0], par[C])[:, 1]
        out[X1, X0] = out[X0, X1]
        slopes = np.full((5, 5), np.nan)
        for k in self.outer():
            if not matrix[k, k] > 0.0:
                continue
            step = min(0.1 / np.sqrt(matrix[k, k]), 0.02 * LONGEST[k])
            ahead, behind = par.copy(), par.copy()
            ahead[k] += step
            behind[k] -= step
            slopes[k] = (self.equations(behind)[1] - self.equations(ahead)[1]) / (2.0 * step)
        both = np.where(np.isnan(slopes.T), slopes, 0.5 * (slopes + slopes.T))
        for k in self.outer():
            if np.isfinite(slopes[k]).all():
                out[k], out[:, k] = both[k], both[k]
        return out
