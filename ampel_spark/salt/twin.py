"""The fit in plain numpy: the reference of the compiled kernel, and its stand-in without numba.

The same tables, the same chi-square, the same starting points and rules, one object at a time,
written to be read: covariances are matrices and are factorised as they are, derivatives are
differences. Its answers agree with the kernel's to a small part of an error, not bit for bit; it
is some hundred times slower.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from ampel_spark.salt import records
from ampel_spark.salt.options import Settings, Targets
from ampel_spark.salt.records import Output, Points
from ampel_spark.salt.tables import REFERENCE_ZP, VARIANCE_FLOOR, Tables

__all__ = ["Model", "fit_range", "predict_range"]

Array = NDArray[np.float64]

Z, T0, X0, X1, C = range(5)
#: Chi-square (less the data's), z, t0 and c.
Start = tuple[float, float, float, float]
#: Step of the scan in t0, rest-frame days, and the largest number of steps.
SCAN_STEP, SCAN_LIMIT = 2.5, 20000
#: Steps for derivatives by z and c.
STEPS = {Z: 1e-5, C: 1e-4}
#: Longest steps of a descent.
LONGEST = {Z: 0.05, T0: 10.0, C: 0.5}
#: Largest number of points at the model's edges at which `_cross_edges` looks.
CROSSINGS, CROSSING_ROUNDS = 8, 3
#: As in `search` and `batch`: when a descent gives up, or follows a jump; rounds; redshifts.
HOPE, WALLS, WALL, GAP = 10.0, 2, 30.0, 1e-6
TO_AND_FRO, SURE_REDSHIFT, REDSHIFTS = 4, 0.015, 25
N_BESIDE, N_TIMES = 4, 2
SMALLEST, LARGEST = 1e-140, 1e140


@dataclass(frozen=True)
class Model:
    """Band fluxes of SALT from the tables, with the Milky Way's dust towards one object."""

    tables: Tables
    #: (B, Q) magnitudes of dust at the wavelength nodes of each band.
    dust: Array
    #: Tables and colour law of a band at a redshift, as used last.
    memory: dict[tuple[int, float], tuple[Array, Array]] = field(default_factory=dict, repr=False)

    def band_rows(self, band: int, z: float, c: float, *, dusty: bool = True) -> Array:
        """Return M0 and M1 in a band for each phase row, shape (R, 2), in the tables' flux unit."""
        flux, colour = self._at_redshift(band, z)
        magnitudes = c * colour + (self.dust[band] if dusty else 0.0)
        return (10.0 ** (-0.4 * magnitudes) @ flux).reshape(-1, 2)

    def _at_redshift(self, band: int, z: float) -> tuple[Array, Array]:
        """Integrals (Q, 2R) and colour law (Q,) of a band at a redshift."""
        if (band, z) not in self.memory:
            if len(self.memory) > 64:
                self.memory.clear()
            at, weights = self._redshift_nodes(z)
            flux = np.tensordot(weights, self.tables.flux[band, at], axes=1)
            self.memory[band, z] = flux, weights @ self.tables.colour[band, at]
        return self.memory[band, z]

    def basis(self, band: NDArray[np.int64], time: Array, z: float, t0: float, c: float) -> Array:
        """Return M0 and M1 in the band at each time, shape (N, 2); zero outside the phases."""
        return self.at_phase(band, (time - t0) / (1.0 + z), z, c)

    def at_phase(
        self, band: NDArray[np.int64], phase: Array, z: float, c: float, *, slope: bool = False
    ) -> Array:
        """Return M0 and M1 in the band at each phase or, with `slope`, their derivatives."""
        t = self.tables
        out = np.zeros((len(phase), 2))
        for b in np.unique(band):
            mine = band == b
            out[mine] = interpolate(
                self.band_rows(b, z, c),
                phase[mine],
                t.phase_start,
                t.phase_step,
                t.n_phases,
                slope=slope,
            )
        return out

    def covariance(self, band: NDArray[np.int64], time: Array, par: Array) -> Array:
        """Return the model's covariance of the fluxes at parameters `par`, shape (N, N)."""
        t = self.tables
        z, t0, x0, x1, c = par
        flux = x0 * self.basis(band, time, z, t0, c) @ np.array([1.0, x1])
        phase = (time - t0) / (1.0 + z)
        s = (z - t.z_start) / t.z_step
        k = int(np.clip(np.floor(s), 0, t.variance.shape[1] - 2))
        linear = np.array([1.0 - (s - k), s - k])
        total = np.zeros((len(time), len(time)))
        for b in np.unique(band):
            mine = np.flatnonzero(band == b)
            plain = interpolate(
                self.band_rows(b, z, 0.0, dusty=False),
                phase[mine],
                t.phase_start,
                t.phase_step,
                t.n_phases,
            )
            f0, f_sum = plain[:, 0], plain @ np.array([1.0, x1])
            grid = (linear @ t.variance[b, k : k + 2]).reshape(-1, 4)
            v = interpolate(grid, phase[mine], t.var_start, t.var_step, t.n_var)
            variance = v[:, 0] + 2.0 * x1 * v[:, 1] + x1 * x1 * v[:, 2]
            with np.errstate(divide="ignore", invalid="ignore"):
                if t.relative:
                    variance = np.where(variance < 0.0, VARIANCE_FLOOR, variance)
                    relative = variance * (f0 / f_sum * v[:, 3]) ** 2
                else:
                    relative = variance / (f_sum * t.mean_flux[b] * (1.0 + z)) ** 2
                    relative = np.where(variance < 0.0, VARIANCE_FLOOR, relative)
            relative = np.where(f_sum <= 0.0, 1e4, relative)
            relative = np.where(flux[mine] == 0.0, 0.0, relative)
            spread = float(linear @ t.dispersion[b, k : k + 2])
            block = np.diag(relative * flux[mine] ** 2)
            block += spread**2 * np.outer(flux[mine], flux[mine])
            total[np.ix_(mine, mine)] = block
        return total

    def _redshift_nodes(self, z: float) -> tuple[NDArray[np.int64], Array]:
        """Four redshift nodes around `z` and their Lagrange weights."""
        t = self.tables
        s = (z - t.z_start) / t.z_step
        i = int(np.clip(np.floor(s), 1, t.flux.shape[1] - 3))
        s -= i
        weights = np.array(
            [
                -s * (s - 1.0) * (s - 2.0) / 6.0,
                (s + 1.0) * (s - 1.0) * (s - 2.0) / 2.0,
                -(s + 1.0) * s * (s - 2.0) / 2.0,
                (s + 1.0) * s * (s - 1.0) / 6.0,
            ]
        )
        return np.arange(i - 1, i + 3), weights


def interpolate(
    rows: Array, phase: Array, start: float, step: float, n: int, *, slope: bool = False
) -> Array:
    """Interpolate table rows in phase: cubic convolution, linear in the two outermost cells.

    Parameters
    ----------
    rows : ndarray, shape (n + 4, K)
        Two rows of the first cell, one per phase, two of the last cell.
    phase : ndarray, shape (N,)
        Rest-frame days.

    Returns
    -------
    ndarray, shape (N, K)
        Values or, with `slope`, derivatives by phase; zero outside the phases.
    """
    x = (phase - start) / step
    within = (x >= 0.0) & (x <= n - 1)
    x = np.where(within, x, 1.0)
    i = np.minimum(x.astype(int), n - 2)
    t = (x - i)[:, None]
    j = np.clip(i, 1, n - 3) + 1  # First of four rows, for the cells inside.
    if slope:
        weights = (
            (-1.5 * t + 2.0) * t - 0.5,
            (4.5 * t - 5.0) * t,
            (-4.5 * t + 4.0) * t + 0.5,
            (1.5 * t - 1.0) * t,
        )
        linear = (-np.ones_like(t), np.ones_like(t))
    else:
        weights = (
            ((-0.5 * t + 1.0) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1.0,
            ((-1.5 * t + 2.0) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        )
        linear = (1.0 - t, t)
    out = sum(w * rows[j + k] for k, w in enumerate(weights))
    out = np.where((i == 0)[:, None], linear[0] * rows[0] + linear[1] * rows[1], out)
    out = np.where((i == n - 2)[:, None], linear[0] * rows[-2] + linear[1] * rows[-1], out)
    if slope:
        out = out / step
    return np.where(within[:, None], out, 0.0)


@dataclass
class _Object:
    """One object's usable points (times from the earliest), its model, limits and weights."""

    model: Model
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


def fit_range(
    tables: Tables,
    settings: Settings,
    targets: Targets,
    points: Points,
    begin: int,
    end: int,
    out: Output,
) -> None:
    """Fit objects `begin` to `end`, into `out` (as the kernel's ``batch.fit_range``)."""
    for i in range(begin, end):
        out.refusal[i] = _fit_object(tables, settings, targets, points, i, out)


def _fit_object(
    tables: Tables, settings: Settings, targets: Targets, points: Points, i: int, out: Output
) -> int:
    fitted = settings.fitted
    row = i if len(targets.lower) > 1 else 0
    prior_row = i if len(targets.prior_mean) > 1 else 0
    par = targets.fixed[i].copy()
    lower = np.where(fitted, targets.lower[row], par)
    upper = np.where(fitted, targets.upper[row], par)
    if not (tables.z_min <= lower[Z] <= upper[Z] <= tables.z_max):
        return records.BAD_REDSHIFT
    index = _select(tables, settings, targets, points, i, lower[Z], upper[Z], out)
    if len(index) < max(settings.min_points, 1):
        return records.TOO_FEW_POINTS
    origin = points.time[index].min()
    sn = _make_object(tables, settings, targets, points, i, index, origin)
    sn.prior_mean = targets.prior_mean[prior_row].copy()
    sn.prior_weight = np.where(fitted, targets.prior_weight[prior_row], 0.0)
    first = tables.phase_start
    last = first + tables.phase_step * (tables.n_phases - 1)
    sn.prior_mean[T0] -= origin
    if fitted[T0] and np.isnan(lower[T0]):
        lower[T0] = -last * (1.0 + upper[Z])
        upper[T0] = sn.time.max() - first * (1.0 + upper[Z])
    else:
        lower[T0] -= origin
        upper[T0] -= origin
    sn.lower, sn.upper = lower, upper
    par[T0] -= origin
    for k in (C, X1):
        if fitted[k]:
            par[k] = np.clip(
                sn.prior_mean[k] if sn.prior_weight[k] > 0.0 else 0.0, lower[k], upper[k]
            )
    if fitted[X0]:
        par[X0] = np.clip(1e-4, lower[X0], upper[X0])
    starts = _find_starts(sn, par)
    if not sn.freeze(None):
        return records.BAD_COVARIANCE
    signal = not out.flags[i] & records.NO_SIGNAL
    par, converged = _search(sn, par, starts, signal, out.counts[i])
    if par is None:
        return records.TOO_FEW_POINTS
    cut = settings.has_phase_range and settings.phase_iterative
    if cut:
        sn.set_phase_range(par[Z], par[T0])
        sn.freeze(None)
    elif fitted[T0] and signal:
        phase = (sn.time - par[T0]) / (1.0 + par[Z])
        if np.any(_edge_distance(tables, phase) < 3.0):
            ended = _cross_edges(sn, par, out.counts[i])
            converged = converged if ended is None else ended
    if settings.model_covariance:
        good, converged = _covariance_rounds(sn, par, out.counts[i])
        if good and fitted[T0] and not fitted[Z] and signal and not cut:
            good, converged = _try_beside(sn, par, out.counts[i], converged)
        if fitted[Z] and fitted[T0] and signal:
            for _ in range(2):
                if not good or not _walk_redshifts(sn, par, out.counts[i]):
                    break
                good, converged = _covariance_rounds(sn, par, out.counts[i])
        if not good:
            return records.BAD_COVARIANCE
    _finish(sn, par, i, out)
    _judge(sn, par, i, converged, out)
    out.parameters[i] = np.where(fitted, par, targets.fixed[i])
    if fitted[T0]:
        out.parameters[i, T0] += origin
    return 0


def _select(
    tables: Tables,
    settings: Settings,
    targets: Targets,
    points: Points,
    i: int,
    z_low: float,
    z_high: float,
    out: Output,
) -> NDArray[np.int64]:
    """Return the usable points of object `i`; count the others."""
    every = np.arange(points.offsets[i], points.offsets[i + 1])
    band, err = points.band[every], points.fluxerr[every]
    known = band >= 0
    with np.errstate(all="ignore"):
        snr = points.flux[every] / err
        good = (
            np.isfinite(points.time[every])
            & np.isfinite(points.flux[every])
            & (err > SMALLEST)
            & (err < LARGEST)
            & (np.abs(snr) < LARGEST)
            & (np.abs(points.zp[every]) < 100.0)
        )
    covered = np.ones(len(tables.band_min), bool)
    for z in (z_low, z_high):
        covered &= tables.band_min > tables.model_min * (1.0 + z)
        covered &= tables.band_max < tables.model_max * (1.0 + z)
    inside = known & covered[np.where(known, band, 0)]
    usable = known & good & inside
    out.counts[i, 4] = np.sum(~known)
    out.counts[i, 3] = np.sum(known & ~good)
    out.counts[i, 5] = np.sum(known & good & ~inside)
    out.dropped_bands[i, band[known & good & ~inside]] = True
    with np.errstate(invalid="ignore"):
        keep = usable & (snr > settings.snr_cut)
    if settings.has_phase_range and not settings.phase_iterative:
        stretch = 1.0 if settings.phase_observer else 1.0 + z_low
        with np.errstate(invalid="ignore"):
            phase = (points.time[every] - targets.phase_reference[i]) / stretch
            keep &= (settings.phase_min < phase) & (phase < settings.phase_max)
    out.counts[i, 6] = np.sum(usable & ~keep)
    if np.any(keep):
        out.max_snr[i] = snr[keep].max()
        if not out.max_snr[i] > settings.min_snr:
            out.flags[i] |= records.NO_SIGNAL
    for column, flag in (
        (3, records.BAD_POINTS),
        (4, records.UNKNOWN_BAND),
        (5, records.BAND_DROPPED),
    ):
        if out.counts[i, column] > 0:
            out.flags[i] |= flag
    kept = every[keep]
    order = np.lexsort((points.flux[kept], points.time[kept], points.band[kept]))
    return np.asarray(kept[order])


def _make_object(
    tables: Tables,
    settings: Settings,
    targets: Targets,
    points: Points,
    i: int,
    index: NDArray[np.int64],
    origin: float,
) -> _Object:
    band = points.band[index].astype(np.int64)
    scale = 10.0 ** (0.4 * (REFERENCE_ZP - points.zp[index]))
    scale *= points.system_ratio[band, points.system[index]]
    flux = points.flux[index] * scale
    given = np.diag((points.fluxerr[index] * scale) ** 2)
    if len(points.cov_offsets) and points.cov_offsets[i + 1] > points.cov_offsets[i]:
        size = points.offsets[i + 1] - points.offsets[i]
        block = points.cov[points.cov_offsets[i] : points.cov_offsets[i + 1]].reshape(size, size)
        within = index - points.offsets[i]
        given = block[np.ix_(within, within)] * np.outer(scale, scale)
    given = given + np.diag(settings.floor**2 + (settings.fractional_floor * flux) ** 2)
    dust = targets.ebv[i] * targets.law[targets.law_row[i]]
    unset = np.full(5, np.nan)
    sn = _Object(
        model=Model(tables, dust),
        settings=settings,
        time=points.time[index] - origin,
        flux=flux,
        band=band,
        given=given,
        index=index,
        lower=unset,
        upper=unset,
        prior_mean=unset,
        prior_weight=unset,
    )
    sn.use = np.ones(len(index), bool)
    return sn


def _find_starts(sn: _Object, par: Array) -> list[Start]:
    """Minima of scans in t0 over redshifts, best first."""
    settings = sn.settings
    z_low, z_high = sn.lower[Z], sn.upper[Z]
    redshifts = [par[Z]]
    if settings.fitted[Z]:
        n = int(np.clip(np.ceil(np.log((1.0 + z_high) / (1.0 + z_low)) / 0.04), 1, 8))
        redshifts = [z_low + (z_high - z_low) * (m + 0.5) / n for m in range(n)]
    if not settings.fitted[T0]:
        return [(0.0, z, par[T0], par[C]) for z in redshifts]
    found: list[Start] = []
    for z in redshifts:
        found += _scan(sn, par, z)
    found.sort(key=lambda start: start[0])
    middle = (0.5 * (z_low + z_high), 0.5 * (sn.lower[T0] + sn.upper[T0]))
    return found[:8] or [(0.0, *middle, par[C])]


def _scan(sn: _Object, par: Array, z: float) -> list[Start]:
    """Local minima of chi-square against t0 at a redshift, errors taken as independent."""
    settings, t = sn.settings, sn.model.tables
    first = t.phase_start
    last = first + t.phase_step * (t.n_phases - 1)
    if settings.has_phase_range and settings.phase_iterative:
        stretch = 1.0 + sn.lower[Z] if settings.phase_observer else 1.0
        first = max(first, settings.phase_min / stretch)
        last = min(last, settings.phase_max / stretch)
    weight = 1.0 / np.diag(sn.given)
    x1_ends = np.clip(
        [sn.lower[X1], sn.prior_mean[X1] if sn.prior_weight[X1] > 0 else 0.0, sn.upper[X1]],
        max(sn.lower[X1], -100.0),
        min(sn.upper[X1], 100.0),
    )
    low, high = sn.lower[T0], sn.upper[T0]
    n = min(int(np.ceil((high - low) / (SCAN_STEP * (1.0 + z)))), SCAN_LIMIT) + 1
    times = low + (high - low) / max(n - 1, 1) * np.arange(n)
    scores = np.empty(n)
    # All times at once: bases of shape (times, points, 2).
    phase = (sn.time - times[:, None]) / (1.0 + z)
    basis = sn.model.at_phase(np.tile(sn.band, n), phase.ravel(), z, par[C]).reshape(n, -1, 2)
    basis[(phase < first) | (phase > last)] = 0.0
    weighted = basis * weight[:, None]
    squares = np.einsum("tij,tik->tjk", basis, weighted)
    products = np.einsum("tij,i->tj", weighted, sn.flux)
    for k in range(n):
        scores[k] = _scan_score(sn, squares[k], products[k], par, x1_ends)
    scores += sn.prior_weight[T0] * (times - sn.prior_mean[T0]) ** 2
    before = np.concatenate([[np.inf], scores[:-1]])
    after = np.concatenate([scores[1:], [np.inf]])
    minima = (scores < before) & (scores <= after)
    return [
        (float(s), z, float(t0), par[C])
        for s, t0 in zip(scores[minima], times[minima], strict=True)
    ]


def _scan_score(sn: _Object, square: Array, product: Array, par: Array, x1_ends: Array) -> float:
    """Chi-square less the data's; with x1 out of its bounds, at one of a few values."""
    settings = sn.settings
    if settings.fitted[X0] and settings.fitted[X1]:
        if sn.prior_weight[X0] == 0.0 and sn.prior_weight[X1] == 0.0:
            det = square[0, 0] * square[1, 1] - square[0, 1] ** 2
            if det > 1e-12 * square[0, 0] * square[1, 1]:
                a = (product[0] * square[1, 1] - product[1] * square[0, 1]) / det
                b = (product[1] * square[0, 0] - product[0] * square[0, 1]) / det
                inside = sn.lower[X0] <= a <= sn.upper[X0]
                if inside and x1_ends[0] * a <= b <= x1_ends[2] * a:
                    return float(-(a * product[0] + b * product[1]))
        values = x1_ends
    else:
        x1 = sn.solve_linear((square, product), par[X0], par[X1])[1]
        values = np.array([x1])
    scores = []
    for x1 in values:
        vector = np.array([1.0, x1])
        norm = vector @ square @ vector + sn.prior_weight[X0]
        signal = vector @ product + sn.prior_weight[X0] * sn.prior_mean[X0]
        x0 = par[X0]
        if settings.fitted[X0]:
            x0 = np.clip(signal / norm if norm > 0.0 else 0.0, sn.lower[X0], sn.upper[X0])
        pull = sn.prior_weight[X1] * (x1 - sn.prior_mean[X1]) ** 2
        scores.append(float(x0 * (x0 * norm - 2.0 * signal) + pull))
    return min(scores)


def _search(
    sn: _Object,
    par: Array,
    starts: list[Start],
    signal: bool,
    counts: NDArray[np.int32],
) -> tuple[Array | None, bool]:
    """Descend from one starting point, or from several in doubt; return the best."""
    settings = sn.settings
    best: Array | None = None
    best_chisq, best_converged = np.inf, False
    doubt, profiled = not settings.fitted[T0], False
    k, n_starts = -1, 0
    while n_starts < settings.max_starts:
        k += 1
        # With the redshift free each descent is long, and most lead to the same valley.
        if settings.fitted[Z] and n_starts >= (8 if doubt else 3):
            break
        if k < len(starts):
            far = starts[k][0] > starts[0][0] * 0.97 + 10.0 or not signal
            if k > 0 and not doubt and far:
                continue
            # Of neighbouring redshifts, the valley that the best minimum is in.
            if k > 0 and settings.fitted[Z] and settings.fitted[T0] and best is not None:
                near = abs(starts[k][1] - best[Z]) < 0.05 and not profiled
                if near and abs(starts[k][2] - best[T0]) < 8.0 * (1.0 + best[Z]):
                    continue
            par[[Z, T0, C]] = starts[k][1:]
        elif doubt and best is not None and k < len(starts) + N_BESIDE:
            par = _beside(sn, best, k - len(starts))
        else:
            break
        n_starts += 1
        known = None if best is None else (best_chisq, best)
        chisq, n_steps, converged = _settle(sn, par, known)
        counts[9] += n_steps
        if chisq < best_chisq - 1e-9 * (1.0 + abs(chisq)):
            best, best_chisq, best_converged = par.copy(), chisq, converged
        if n_starts == 1 and settings.fitted[T0]:
            # Noise has minima without end, and none that means anything.
            doubt = signal and (not np.isfinite(chisq) or _in_doubt(sn, par))
            if doubt and settings.fitted[Z]:
                starts = _profile_redshifts(sn, par if best is None else best, counts)
                k, profiled = -1, True
    counts[7] = n_starts
    return best, best_converged


def _beside(sn: _Object, best: Array, side: int) -> Array:
    """Return a start beside the best minimum so far: in t0, and in colour."""
    par = best.copy()
    if side < N_TIMES:
        par[T0] += (10.0 * side - 5.0) * (1.0 + best[Z])
    else:
        par[C] += 0.5 - (side - N_TIMES)
    par[[T0, C]] = np.clip(par[[T0, C]], sn.lower[[T0, C]], sn.upper[[T0, C]])
    return par


def _redshifts(sn: _Object) -> Array:
    """Row of redshifts at which chi-square is profiled."""
    low, high = sn.lower[Z], sn.upper[Z]
    n = int(np.ceil(np.log((1.0 + high) / (1.0 + low)) / 0.02))
    return low + (high - low) * np.linspace(0.0, 1.0, min(max(n, 2), REDSHIFTS - 1) + 1)


def _minima(profile: list[Start]) -> list[Start]:
    """Local minima of a profile, best first."""
    score = np.array([row[0] for row in profile])
    before = np.concatenate([[np.inf], score[:-1]])
    after = np.concatenate([score[1:], [np.inf]])
    at = np.flatnonzero((score < before) & (score <= after))
    return sorted((profile[m] for m in at), key=lambda row: row[0])[:8]


def _profile_redshifts(sn: _Object, best: Array, counts: NDArray[np.int32]) -> list[Start]:
    """Starting points for an object in doubt: minima of chi-square against the redshift."""
    profile: list[Start] = []
    sn.held = True

    def settled(z: float, t0: float, c: float) -> Start:
        trial = best.copy()
        trial[[Z, T0, C]] = z, t0, c
        chisq, n_steps, _ = _settle(sn, trial)
        counts[9] += n_steps
        return chisq, z, float(trial[T0]), float(trial[C])

    for z in _redshifts(sn):
        sn.use[:] = True
        trial = best.copy()
        trial[Z] = z
        found = sorted(_scan(sn, trial, z), key=lambda row: row[0])
        sn.freeze(None)
        profile.append(settled(float(z), found[0][2] if found else best[T0], best[C]))
    # Neighbours in one valley have nearly the same t0 and c: where not, from one to the next.
    n = len(profile) - 1
    for m, side in [(k + 1, k) for k in range(n)] + [(k, k + 1) for k in range(n - 1, -1, -1)]:
        (_, z, t0, c), (_, _, t0_side, c_side) = profile[m], profile[side]
        if abs(t0_side - t0) >= 1.0 or abs(c_side - c) >= 0.1:
            profile[m] = min(profile[m], settled(z, t0_side, c_side))
    sn.held = False
    return _minima(profile)


def _settle(
    sn: _Object, par: Array, known: tuple[float, Array] | None = None
) -> tuple[float, int, bool]:
    """Descend and, with an iterative phase range, to where range and t0 agree."""
    settings = sn.settings
    cut = settings.has_phase_range and settings.phase_iterative
    if not cut:
        return sn.descend(par, known)
    total = 0
    sn.set_phase_range(par[Z], par[T0])
    chisq, converged = np.inf, False
    for _ in range(settings.max_rounds):
        if sn.use.sum() < settings.min_points or not sn.freeze(None):
            return np.inf, total, False
        here = None if known is None else (known[0] - _left_out(sn), known[1])
        chisq, n_steps, converged = sn.descend(par, here)
        total += n_steps
        # A descent that was given up stays so, whatever points another range has.
        if here is not None and not converged and chisq > here[0]:
            break
        if not sn.set_phase_range(par[Z], par[T0]):
            break
        converged = False
    if sn.use.sum() < settings.min_points or not sn.freeze(None):
        return np.inf, total, False
    return chisq + _left_out(sn), total, converged


def _left_out(sn: _Object) -> float:
    """Chi-square of the points outside the phase range, as without model flux."""
    return float(np.sum(sn.flux[~sn.use] ** 2 / np.diag(sn.given)[~sn.use]))


def _in_doubt(sn: _Object, par: Array) -> bool:
    """Whether a minimum may not be the lowest one."""
    settings, t = sn.settings, sn.model.tables
    for k in (X1, C):
        if settings.fitted[k] and not sn.lower[k] < par[k] < sn.upper[k]:
            return True
    covariance = sn.errors(sn.equations(par)[0])
    if covariance is None or (settings.fitted[Z] and covariance[Z, Z] > SURE_REDSHIFT**2):
        return True
    error = np.sqrt(covariance[T0, T0]) / (1.0 + par[Z])
    loose = 0.3 if settings.fitted[Z] else 0.15
    if error > 0.7 or (settings.fitted[C] and covariance[C, C] > loose**2):
        return True
    phase = (sn.time[sn.use] - par[T0]) / (1.0 + par[Z])
    bright = sn.flux[sn.use] ** 2 > 9.0 * np.diag(sn.given)[sn.use]
    if np.any(bright & (_edge_distance(t, phase) < 4.0 * error + 0.5)):
        return True
    before = np.sum((phase > -20.0) & (phase < -1.0))
    after = np.sum((phase > 5.0) & (phase < 40.0))
    return bool(before < 2 or after < 2)


def _cross_edges(sn: _Object, par: Array, counts: NDArray[np.int32]) -> bool | None:
    """Look for a lower minimum where a point enters or leaves the model.

    Returns whether the descent to it converged; None where there is no lower one.
    """
    chisq = sn.profile(par)
    converged = None
    t, times = sn.model.tables, sn.time[sn.use]
    for _ in range(CROSSING_ROUNDS):
        covariance = sn.errors(sn.equations(par)[0])
        before, best, n_tried = chisq, par.copy(), 0
        for edge in (t.phase_start, t.phase_start + t.phase_step * (t.n_phases - 1)):
            # The least chi-square at which a phase is moved: along its covariance with others.
            error, reach = 0.0, 1.0 + par[Z]
            move = np.zeros(5)
            if covariance is not None:
                move = covariance[:, T0] + edge * covariance[:, Z]
                error = np.sqrt(max(move[T0] + edge * move[Z], 0.0))
                reach = min(4.0 * error + 0.05 * reach, 3.0 * reach)
            gaps = times - par[T0] - edge * (1.0 + par[Z])
            for k in np.flatnonzero(np.abs(gaps) <= reach)[: CROSSINGS - n_tried]:
                n_tried += 1
                for side in (-1e-6, 1e-6):
                    trial = par.copy()
                    if error > 0.0:
                        free = [p for p in (Z, C) if sn.settings.fitted[p]]
                        trial[free] += (gaps[k] / error**2 * move)[free]
                        trial[free] = np.clip(trial[free], sn.lower[free], sn.upper[free])
                    trial[T0] = times[k] - edge * (1.0 + trial[Z]) + side
                    trial[T0] = np.clip(trial[T0], sn.lower[T0], sn.upper[T0])
                    if sn.profile(trial) > chisq + 4.0:
                        continue
                    lower, n_steps, ended = sn.descend(trial)
                    counts[9] += n_steps
                    if lower < chisq - 1e-9 * (1.0 + abs(chisq)):
                        chisq, converged, best = lower, ended, trial
        par[:] = best
        if not chisq < before - 0.01:
            break
    return converged


def _edge_distance(t: Tables, phase: Array) -> Array:
    last = t.phase_start + t.phase_step * (t.n_phases - 1)
    return np.minimum(np.abs(phase - t.phase_start), np.abs(phase - last))


def _covariance_rounds(sn: _Object, par: Array, counts: NDArray[np.int32]) -> tuple[bool, bool]:
    """Descend with the model's covariance at the last parameters, until they stay.

    Where they go to and fro, the covariance is taken at the middle.
    """
    settings = sn.settings
    cut = settings.has_phase_range and settings.phase_iterative
    last = par.copy()
    for n_round in range(1, settings.max_rounds + 1):
        counts[8] = n_round
        last = 0.5 * (last + par) if n_round > TO_AND_FRO else par.copy()
        if not sn.freeze(last):
            return False, False
        _, n_steps, converged = sn.descend(par)
        counts[9] += n_steps
        covariance = sn.errors(sn.equations(par)[0])
        again = covariance is None
        if covariance is not None:
            limit = settings.covariance_tolerance * np.sqrt(np.diag(covariance))
            again = bool(np.any((np.abs(par - last) > limit)[settings.fitted]))
        if n_round == settings.max_rounds:
            return True, converged and not again
        if cut and sn.set_phase_range(par[Z], par[T0]):
            again = True
        if not again:
            return True, converged
    return True, False


def _look_beside(sn: _Object, par: Array, counts: NDArray[np.int32]) -> float:
    """Look for a lower minimum at other times, weights as they are; return by how much."""
    chisq = sn.profile(par)
    if not _in_doubt(sn, par):
        return 0.0
    lowest, best = chisq - 0.02, par.copy()
    for side in range(N_TIMES):
        trial = _beside(sn, par, side)
        lower, n_steps, _ = sn.descend(trial, (chisq, par))
        counts[9] += n_steps
        if lower < lowest:
            lowest, best = lower, trial
    par[:] = best
    return float(chisq - lowest) if lowest < chisq - 0.02 else 0.0


def _try_beside(
    sn: _Object, par: Array, counts: NDArray[np.int32], converged: bool
) -> tuple[bool, bool]:
    """Go to lower minima beside, each with its own covariance; returns as `_covariance_rounds`."""
    good = True
    for _ in range(2):
        before = par.copy()
        gain = _look_beside(sn, par, counts)
        if gain == 0.0:
            break
        good, converged = _covariance_rounds(sn, par, counts)
        if not good:
            break
        if sn.profile(par) - sn.profile(before.copy()) > gain:
            par[:] = before
            good, converged = _covariance_rounds(sn, par, counts)
            break
    return good, converged


def _walk_redshifts(sn: _Object, par: Array, counts: NDArray[np.int32]) -> bool:
    """Look for a lower minimum at other redshifts, weights as they are; whether there is one."""
    chisq = sn.profile(par)
    covariance = sn.errors(sn.equations(par)[0])
    if covariance is not None and covariance[Z, Z] < SURE_REDSHIFT**2:
        return False
    redshifts = _redshifts(sn)
    n = len(redshifts) - 1
    middle = round(float((par[Z] - redshifts[0]) / (redshifts[-1] - redshifts[0]) * n))
    profile: dict[int, Start] = {}
    sn.held = True
    for way in (range(middle, n + 1), range(middle - 1, -1, -1)):
        trial = par.copy()
        for m in way:
            trial[Z] = redshifts[m]
            lower, n_steps, _ = sn.descend(trial)
            counts[9] += n_steps
            profile[m] = (lower, float(trial[Z]), float(trial[T0]), float(trial[C]))
    sn.held = False
    lowest, best = chisq - 0.02, par.copy()
    for start in _minima([profile[m] for m in range(n + 1)]):
        if start[0] > chisq + 10.0:
            continue
        trial = par.copy()
        trial[[Z, T0, C]] = start[1:]
        lower, n_steps, _ = sn.descend(trial)
        counts[9] += n_steps
        if lower < lowest:
            lowest, best = lower, trial
    par[:] = best
    return bool(lowest < chisq - 0.02)


def _finish(sn: _Object, par: Array, i: int, out: Output) -> None:
    """Errors from the second derivatives, and one Newton step with the same matrix."""
    chisq = sn.profile(par)
    matrix, gradient = sn.equations(par)
    covariance = sn.errors(sn.hessian(par, matrix))
    if covariance is not None:
        outer = sn.outer()
        trial = par.copy()
        trial[outer] += (covariance[:, sn.settings.fitted] @ gradient[sn.settings.fitted])[outer]
        feasible = np.all((sn.lower <= trial)[outer] & (trial <= sn.upper)[outer])
        if feasible and sn.profile(trial) < chisq:
            par[:] = trial
    else:
        covariance = sn.errors(matrix)
        out.flags[i] |= records.NO_ERRORS if covariance is None else records.NO_HESSIAN
    if covariance is not None:
        out.covariance[i] = covariance
    chisq = sn.profile(par)
    out.prior_chisq[i] = sn.prior(par)
    out.chisq[i] = chisq - out.prior_chisq[i]


def _judge(sn: _Object, par: Array, i: int, converged: bool, out: Output) -> None:
    """Counts and flags of a finished fit."""
    settings, t = sn.settings, sn.model.tables
    phase = (sn.time[sn.use] - par[T0]) / (1.0 + par[Z])
    last = t.phase_start + t.phase_step * (t.n_phases - 1)
    inside = (phase >= t.phase_start) & (phase <= last)
    out.used[sn.index[sn.use]] = True
    out.points_by_band[i] = np.bincount(sn.band[sn.use], minlength=len(t.band_min))
    before, after = np.sum(inside & (phase < 0.0)), np.sum(inside & (phase >= 0.0))
    out.counts[i, :3] = sn.use.sum(), before, after
    if inside.any():
        out.phases[i] = phase[inside].min(), phase[inside].max()
    reach = 0.0
    if settings.fitted[T0]:
        error = np.sqrt(out.covariance[i, T0, T0]) / (1.0 + par[Z])
        reach = 3.0 * error if error < 5.0 else 15.0
    bright = sn.flux[sn.use] ** 2 > 9.0 * np.diag(sn.given)[sn.use]
    edge = bool(np.any(bright & ((_edge_distance(t, phase) < reach) | (phase > last))))
    at_bound = ~((sn.lower < par) & (par < sn.upper))
    if np.any(at_bound[settings.fitted]):
        out.flags[i] |= records.AT_BOUND
    if edge:
        out.flags[i] |= records.MODEL_EDGE
    if before == 0 or after == 0 or not np.any(inside & (np.abs(phase) <= 10.0)):
        out.flags[i] |= records.POOR_COVERAGE
    if not converged and not edge:
        out.flags[i] |= records.NOT_CONVERGED


def predict_range(
    tables: Tables,
    targets: Targets,
    points: Points,
    parameters: Array,
    begin: int,
    end: int,
    flux: Array,
) -> None:
    """Model flux of each point, in the points' own units; NaN where there is none."""
    for i in range(begin, end):
        z, t0, x0, x1, c = parameters[i]
        if not (np.all(np.isfinite(parameters[i])) and tables.z_min <= z <= tables.z_max):
            continue
        model = Model(tables, targets.ebv[i] * targets.law[targets.law_row[i]])
        covered = (tables.band_min > tables.model_min * (1.0 + z)) & (
            tables.band_max < tables.model_max * (1.0 + z)
        )
        every = np.arange(points.offsets[i], points.offsets[i + 1])
        band = points.band[every].astype(np.int64)
        keep = (band >= 0) & covered[np.where(band >= 0, band, 0)]
        every, band = every[keep], band[keep]
        scale = 10.0 ** (0.4 * (REFERENCE_ZP - points.zp[every]))
        scale *= points.system_ratio[band, points.system[every]]
        value = x0 * model.basis(band, points.time[every], z, t0, c) @ np.array([1.0, x1])
        flux[every] = value / scale
