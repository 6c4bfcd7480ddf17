"""Lensed supernovae: galaxies as lenses, and the images that they make of a point behind them.

A lens is a singular isothermal ellipsoid with external shear. Its deflection depends on the
direction alone (Kormann, Schneider and Bartelmann 1994, A&A 284, 285), so that images are the roots
of one function of the angle. Positions are in units of the Einstein radius.

Redshifts and velocity dispersions of lenses follow their cross-section: a velocity function of
early-type galaxies (Choi, Park and Vogeley 2007, doi:10.1086/511060) times the Einstein radius
squared, per comoving volume. Sources follow (1 + z)^1.5 per comoving volume and their own time.
Ellipticities and shears are clipped normal distributions. There is no microlensing and no
substructure.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Lenses", "draw_lenses", "images_of"]

Floats = NDArray[np.float64]

#: Angles at which the roots are looked for.
_ANGLES = 720
#: Images at most, and the velocity dispersions of the function, km/s.
_MOST, _SIGMA, _ALPHA, _BETA = 5, 161.0, 2.32, 2.67
_LIGHT = 299792.458
#: Days in a unit of (1 + z) / c x distance, Mpc x arcsec^2.
_DAYS = 3.0856775814913673e19 / _LIGHT / 86400.0 * (np.pi / 648000.0) ** 2


@dataclass(frozen=True, eq=False)
class Lenses:
    """Lensed sources, n of them; images beyond an object's own have magnification 0.

    Attributes
    ----------
    z_lens, z_source, sigma, radius : shape (n,)
        Redshifts, velocity dispersion [km/s], Einstein radius [arcsec].
    magnification, delay : shape (n, 5)
        Of each image; days in the observer's frame after the first image.
    """

    z_lens: Floats
    z_source: Floats
    sigma: Floats
    radius: Floats
    magnification: Floats
    delay: Floats

    def __len__(self) -> int:
        return len(self.z_lens)

    @property
    def total(self) -> Floats:
        """Sum of the magnifications."""
        return np.asarray(self.magnification.sum(axis=1))

    @property
    def n_images(self) -> NDArray[np.int64]:
        """Number of images."""
        return np.asarray((self.magnification > 0.0).sum(axis=1))

    def where(self, mask: NDArray[np.bool_]) -> Lenses:
        """Return some of them."""
        names = ("z_lens", "z_source", "sigma", "radius", "magnification", "delay")
        return Lenses(*(getattr(self, name)[mask] for name in names))


def images_of(
    x: Floats, y: Floats, q: Floats, shear: Floats, angle: Floats
) -> tuple[Floats, Floats]:
    """Return the magnifications and delays of the images of points behind lenses.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Places of the sources in units of the Einstein radius, along the lens's minor axis.
    q : ndarray, shape (n,)
        Axis ratios, below 1.
    shear, angle : ndarray, shape (n,)
        External shear, and its direction in radians.

    Returns
    -------
    magnification, delay : ndarray, shape (n, 5)
        Magnifications, 0 for no image; delays after the first image in units of the lens's
        (1 + z) D_l D_s / (c D_ls) times its Einstein radius squared.
    """
    n = len(x)
    # Not from 0: a source on an axis has an image there, and no change of sign.
    phi = 0.001234 + np.linspace(0.0, 2.0 * np.pi, _ANGLES + 1)
    values = _crossing(phi, x[:, None], y[:, None], q[:, None], shear[:, None], angle[:, None])
    which, k = np.nonzero(values[:, :-1] * values[:, 1:] < 0.0)
    low, high = phi[k], phi[k + 1]
    sources = (x[which], y[which], q[which], shear[which], angle[which])
    below = values[which, k]
    for _ in range(40):
        middle = 0.5 * (low + high)
        at = _crossing(middle, *sources)
        left = below * at > 0.0
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    mu, time, real = _image(0.5 * (low + high), *sources)
    which, mu, time = which[real], mu[real], time[real]
    order = np.lexsort((time, which))
    which, mu, time = which[order], mu[order], time[order]
    place = np.arange(len(which)) - np.searchsorted(which, which)
    kept = place < _MOST
    magnification, delay = np.zeros((n, _MOST)), np.zeros((n, _MOST))
    magnification[which[kept], place[kept]] = mu[kept]
    delay[which[kept], place[kept]] = time[kept]
    delay = np.where(magnification > 0.0, delay - delay[:, :1], 0.0)
    return magnification, delay


def draw_lenses(
    count: int, seed: int, z_max: float = 1.0, least: float = 2.0, reach: float = 1.2
) -> Lenses:
    """Draw sources behind lenses, and return those with two images or more.

    Parameters
    ----------
    count : int
        Sources to draw, within `reach` Einstein radii of a lens.
    seed : int
    z_max : float
        Largest redshift of a source.
    least : float
        Smallest magnification in all.
    reach : float
        How far from a lens sources are drawn.
    """
    random = np.random.default_rng([seed, 77])
    grid, source_density, lens_density = _densities(z_max)
    z_source = _drawn(random, grid, np.broadcast_to(source_density, (count, len(grid))))
    row = np.clip(np.searchsorted(grid, z_source), 1, len(grid) - 1)
    z_lens = np.minimum(_drawn(random, grid, lens_density[row]), 0.98 * z_source)
    # The velocity function times sigma^4 is a gamma distribution in (sigma / sigma*)^beta.
    sigma = _SIGMA * random.gamma((_ALPHA + 4.0) / _BETA, 1.0, count) ** (1.0 / _BETA)
    d_l, d_s = _distance(z_lens), _distance(z_source)
    ratio = 1.0 - d_l / d_s
    radius = 4.0 * np.pi * (sigma / _LIGHT) ** 2 * ratio * 648000.0 / np.pi
    q = np.clip(0.7 + 0.16 * random.standard_normal(count), 0.35, 0.98)
    shear = np.abs(np.clip(0.06 * random.standard_normal(count), -0.2, 0.2))
    angle = np.pi * random.random(count)
    r, phi = reach * np.sqrt(random.random(count)), 2.0 * np.pi * random.random(count)
    found = [np.empty((count, _MOST)), np.empty((count, _MOST))]
    for start in range(0, count, 5000):
        part = slice(start, start + 5000)
        found[0][part], found[1][part] = images_of(
            (r * np.cos(phi))[part], (r * np.sin(phi))[part], q[part], shear[part], angle[part]
        )
    magnification, delay = found
    # (1 + z_l) D_l D_s / D_ls with angular distances, in comoving ones of a flat universe.
    scale = _DAYS * radius**2 * d_l / ratio
    lenses = Lenses(z_lens, z_source, sigma, radius, magnification, delay * scale[:, None])
    return lenses.where((lenses.n_images > 1) & (lenses.total >= least))


def _deflection(phi: Floats, q: Floats) -> tuple[Floats, Floats]:
    """Deflection of the ellipsoid in a direction; its mean radius does not depend on `q`."""
    f = np.sqrt(1.0 - q**2)
    scale = np.sqrt(q) / f
    return scale * np.arcsinh(f / q * np.cos(phi)), scale * np.arcsin(f * np.sin(phi))


def _crossing(phi: Floats, x: Floats, y: Floats, q: Floats, shear: Floats, angle: Floats) -> Floats:
    """Zero where an image lies in this direction, or opposite to it."""
    ax, ay = _deflection(phi, q)
    ux, uy = _sheared(np.cos(phi), np.sin(phi), shear, angle)
    return np.asarray((x + ax) * uy - (y + ay) * ux)


def _sheared(x: Floats, y: Floats, shear: Floats, angle: Floats) -> tuple[Floats, Floats]:
    g1, g2 = shear * np.cos(2.0 * angle), shear * np.sin(2.0 * angle)
    return (1.0 - g1) * x - g2 * y, (1.0 + g1) * y - g2 * x


def _image(
    phi: Floats, x: Floats, y: Floats, q: Floats, shear: Floats, angle: Floats
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Magnification and time of the image in a direction, and whether there is one."""
    ax, ay = _deflection(phi, q)
    ux, uy = _sheared(np.cos(phi), np.sin(phi), shear, angle)
    bx, by = x + ax, y + ay
    radius = np.where(np.abs(ux) > np.abs(uy), bx / ux, by / uy)
    tx, ty = radius * np.cos(phi), radius * np.sin(phi)
    # The ellipsoid's second derivatives: 2 kappa along the direction across.
    ellipse = np.sqrt(np.cos(phi) ** 2 + q**2 * np.sin(phi) ** 2)
    kappa = 0.5 * np.sqrt(q) / (np.abs(radius) * ellipse)
    g1, g2 = shear * np.cos(2.0 * angle), shear * np.sin(2.0 * angle)
    a11 = 1.0 - g1 - 2.0 * kappa * np.sin(phi) ** 2
    a22 = 1.0 + g1 - 2.0 * kappa * np.cos(phi) ** 2
    a12 = -g2 + 2.0 * kappa * np.sin(phi) * np.cos(phi)
    mu = 1.0 / np.abs(a11 * a22 - a12**2)
    sx, sy = _sheared(tx, ty, shear, angle)
    bend = 0.5 * (tx * (tx - sx) + ty * (ty - sy))
    time = 0.5 * ((tx - x) ** 2 + (ty - y) ** 2) - (tx * ax + ty * ay) - bend
    return mu, time, radius > 0.0


def _drawn(random: np.random.Generator, grid: Floats, density: Floats) -> Floats:
    """Draw one number of each row's density over the grid."""
    total = np.cumsum(density, axis=1)
    chance = random.random(len(density)) * total[:, -1]
    row = (total < chance[:, None]).sum(axis=1)
    step = grid[1] - grid[0]
    return np.asarray(grid[np.minimum(row, len(grid) - 1)] + step * (random.random(len(row)) - 0.5))


@functools.lru_cache(maxsize=2)
def _densities(z_max: float) -> tuple[Floats, Floats, Floats]:
    """Return redshifts, the density of lensed sources, and that of their lenses (rows: sources)."""
    grid = np.linspace(0.01, z_max, 200)
    distance = _distance(grid)
    volume = distance**2 / np.sqrt(0.3 * (1.0 + grid) ** 3 + 0.7)
    ratio = np.maximum(1.0 - distance[None, :] / distance[:, None], 0.0)
    lens = volume * ratio**2
    # Einstein radii squared per square degree: how likely a source at each redshift is lensed.
    source = volume * (1.0 + grid) ** 0.5 * lens.sum(axis=1)
    return grid, source, lens


@functools.cache
def _steps() -> tuple[Floats, Floats]:
    z = np.linspace(0.0, 3.0, 6001)
    inverse = 1.0 / np.sqrt(0.3 * (1.0 + z) ** 3 + 0.7)
    total = np.concatenate([[0.0], np.cumsum(0.5 * (inverse[1:] + inverse[:-1]) * np.diff(z))])
    return z, _LIGHT / 70.0 * total


def _distance(z: Floats) -> Floats:
    """Comoving distances in a flat universe of 70 km/s/Mpc and matter density 0.3, Mpc."""
    return np.asarray(np.interp(z, *_steps()))
