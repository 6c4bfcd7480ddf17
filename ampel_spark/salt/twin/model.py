"""Band fluxes and their covariance from the tables."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.tables import VARIANCE_FLOOR, Tables

__all__ = ["PlainModel", "interpolate"]

Array = NDArray[np.float64]

Z, T0, X0, X1, C = range(5)


@dataclass(frozen=True)
class PlainModel:
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
