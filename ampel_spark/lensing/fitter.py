"""The fitter: a SALT model with its tables, and the hypotheses about a light curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ampel_spark.errors import ConfigError
from ampel_spark.salt.dust import extinction_per_ebv
from ampel_spark.salt.photometry import LightCurveError, LightCurves, owned
from ampel_spark.salt.tables import REFERENCE_ZP, build_tables

__all__ = ["RATE", "LensFitter", "LensOptions", "LensResult"]

Array = NDArray[np.float64]

#: Lensed SNe Ia among 100,000 transients that look like supernovae, of a simulation of ZTF.
RATE = 3.4
#: Distance of the redshift nodes, and the grid of the integrals.
NODE_STEP, N_GRID, LOWEST = 0.02, 512, 0.002
#: Where profiles begin: nearly everything has a minimum there.
START = 0.2


#: Fields of the result in the order of `kernel.evidence_range`.
_COLUMNS = (
    "ln_normal", "ln_lensed", "z_lensed", "z_lensed_err", "magnification", "z_free", "z_free_err",
    "chisq", "z_best", "x1", "c", "chisq_catalogue",
)  # fmt: skip


@dataclass(frozen=True)
class LensOptions:
    """Priors of the hypotheses. Magnitudes are rest-frame Bessell B, AB, at maximum."""

    #: Stretch and colour of SNe Ia; the colour's errors to the blue and to the red of its mean.
    x1: tuple[float, float] = (-0.2, 1.1)
    c: tuple[float, float, float] = (-0.05, 0.06, 0.14)
    #: Standardisation, and the magnitude for x1 = c = 0 with its scatter.
    alpha: float = 0.14
    beta: float = 3.1
    absmag: float = -19.25
    scatter: float = 0.14
    #: Fraction of the flux that is added to errors.
    error_fraction: float = 0.03
    #: The magnification's prior: exponential in magnitudes above `start`, by a factor of ten in
    #: 1 / `slope` mag (0.8: that of mu^-3), and how far in z the source is behind the lens.
    slope: float = 0.8
    start: float = 0.75
    behind: float = 0.05
    #: Width of the catalogue's outliers, times 1 + z.
    outlier_width: float = 0.12
    #: Images later by these days and the second's share of the flux; none: one image.
    images: tuple[tuple[float, float], ...] = ()
    #: How likely two such images are, of all lensed supernovae.
    image_share: float = 0.33
    #: Flat LCDM.
    h0: float = 70.0
    om0: float = 0.3


@dataclass(frozen=True)
class LensResult:
    """Hypotheses about n light curves; NaN where there is no result."""

    #: ln of the evidence of a normal SN Ia, and of a magnified one.
    ln_normal: Array
    ln_lensed: Array
    #: ln of that of a transient of another kind (`other`).
    ln_other: Array
    #: Redshift of the source if lensed, its error, and the magnification, mag.
    z_lensed: Array
    z_lensed_err: Array
    magnification: Array
    #: Redshift by the light curve's shape and colour alone, and its error.
    z_free: Array
    z_free_err: Array
    #: Chi-square with priors at the best redshift, that redshift, x1 and c there.
    chisq: Array
    z_best: Array
    x1: Array
    c: Array
    #: Chi-square at the catalogue's redshift.
    chisq_catalogue: Array
    n_points: NDArray[np.int64]
    #: (nodes,) redshifts and (n, rows, nodes) profiles; see `kernel`.
    nodes: Array = field(repr=False)
    profiles: Array = field(repr=False)

    @property
    def ln_bayes(self) -> Array:
        """ln of the evidence of a magnified SN Ia over that of a normal one."""
        return self.ln_lensed - self.ln_normal


class LensFitter:
    """Evidence for a normal and for a magnified SN Ia, of many light curves.

    Parameters
    ----------
    source : sncosmo.SALT2Source
        SALT2 or SALT3.
    bands : sequence of sncosmo.Bandpass
        Light curves name a band by its place in this list.
    z_max : float
        Largest redshift of a source.
    dust_law : {"F99", "CCM89", "O94"}
        Extinction law of the Milky Way.
    options : LensOptions, optional
    """

    def __init__(
        self,
        source: Any,
        bands: Sequence[Any],
        *,
        z_max: float = 1.1,
        dust_law: str = "F99",
        options: LensOptions | None = None,
    ) -> None:
        self.options = options or LensOptions()
        if not 0.3 <= z_max <= 3.0:
            raise ConfigError(f"z_max {z_max}: give a redshift from 0.3 to 3")
        self.n_nodes = round(z_max / NODE_STEP) + 1
        self.z_max = NODE_STEP * (self.n_nodes - 1)
        self.tables = build_tables(source, bands, (0.0, self.z_max), z_step=NODE_STEP)
        self.bands = tuple(str(band.name) for band in bands)
        self.law = extinction_per_ebv(dust_law, self.tables.nodes)
        self.zero_mag = float(source_peak(source))
        self.grid = np.geomspace(LOWEST, self.z_max, N_GRID)
        distance, volume = _distances(self.grid, self.options)
        self.modulus = 5.0 * np.log10(distance * (1.0 + self.grid)) + 25.0
        z = self.grid
        depth = (z**3) / (1.0 + 0.41 * z**1.1) ** 2.7
        self.source_prior = _normalised(volume * (1.0 + z) ** 0.5 * depth, z)
        self.volume_prior = _normalised(np.where(z < 0.4, volume / (1.0 + z), 0.0), z)

    def fit(
        self,
        light_curves: LightCurves,
        *,
        z: ArrayLike,
        sigma: ArrayLike,
        near_outliers: ArrayLike = 0.04,
        far_outliers: ArrayLike = 0.03,
        mwebv: ArrayLike = 0.0,
    ) -> LensResult:
        """Return the evidence of each light curve.

        Parameters
        ----------
        light_curves : LightCurves
            Photometry of n objects; a point that is not finite or in no band is left out.
        z, sigma : float or ndarray, shape (n,)
            Redshifts of the catalogue and their errors; where not finite there is no result.
        near_outliers, far_outliers : float or ndarray, shape (n,)
            How likely the redshift is an outlier of a wide Gaussian, or of another object.
        mwebv : float or ndarray, shape (n,)
            Colour excess E(B-V) of the Milky Way, magnitudes.
        """
        from ampel_spark.lensing import kernel

        n, o = len(light_curves), self.options
        points = self.points(light_curves)
        z, sigma, near, far, ebv = (
            owned(np.broadcast_to(np.asarray(a, float), (n,)), np.float64)
            for a in (z, sigma, near_outliers, far_outliers, mwebv)
        )
        known = (z > LOWEST) & (z < self.z_max - 0.1) & (sigma > 0.0) & np.isfinite(ebv)
        ebv = np.where(known, ebv, 0.0)
        targets = kernel.LensTargets(
            np.where(known, z, 0.1), np.where(known, sigma, 0.1), near, far, ebv
        )
        priors = self._priors()
        profiles = self._profiles(points, ebv, (0.0,), (1.0,))
        if o.images:
            profiles = self._with_images(points, ebv, profiles)
        out = np.full((n, 12), np.nan)
        kernel.evidence_range(
            profiles[0], targets, priors, self.grid, self.modulus, self.source_prior,
            self.volume_prior, 0.0, NODE_STEP, 0, n, np.empty((5, N_GRID)), out,
        )  # fmt: skip
        if o.images:
            out = self._lensed_by_images(out, profiles, targets, priors)
        count = np.diff(points.offsets)
        out[~known | (count == 0) | ~np.isfinite(out[:, 7])] = np.nan
        other = self._other(points, targets)
        other[np.isnan(out[:, 0])] = np.nan
        return LensResult(
            **dict(zip(_COLUMNS, out.T, strict=True)),
            ln_other=other,
            n_points=count,
            nodes=np.asarray(NODE_STEP * np.arange(self.n_nodes), np.float64),
            profiles=profiles[0],
        )

    def points(self, curves: LightCurves) -> Any:
        """Return the usable points by object, band and time, at the tables' zero point."""
        from ampel_spark.lensing.kernel import Photometry

        if curves.fluxcov is not None:
            raise LightCurveError("fluxcov: lens evidence takes independent errors alone")
        if np.any(curves.band >= len(self.bands)):
            raise LightCurveError(
                f"band number {curves.band.max()}: the fitter has {len(self.bands)} bands"
            )
        group = np.repeat(np.arange(len(curves)), np.diff(curves.offsets))
        zp = np.asarray(curves.zp)
        with np.errstate(all="ignore"):
            good = np.isfinite(curves.time) & np.isfinite(curves.flux / curves.fluxerr)
            good &= (curves.fluxerr > 0.0) & np.isfinite(curves.fluxerr) & np.isfinite(zp)
        at = np.flatnonzero(good & (curves.band >= 0))
        order = (
            curves.fluxerr[at], curves.flux[at], curves.time[at], curves.band[at], group[at],
        )  # fmt: skip
        at = at[np.lexsort(order)]
        scale = 10.0 ** (0.4 * (REFERENCE_ZP - zp[at]))
        count = np.bincount(group[at], minlength=len(curves))
        return Photometry(
            offsets=np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
            time=owned(curves.time[at], np.float64),
            flux=owned(curves.flux[at] * scale, np.float64),
            fluxerr=owned(curves.fluxerr[at] * scale, np.float64),
            band=owned(curves.band[at], np.int64),
        )

    def _other(self, points: Any, targets: Any) -> Array:
        """Return ln of the evidence of other transients, with the catalogue's redshift."""
        from ampel_spark.lensing.other import ln_other

        out = np.empty(len(targets.z))
        for start in range(0, len(out), 512):
            part = slice(start, start + 512)
            z, sigma, near, far = (
                a[part, None]
                for a in (targets.z, targets.sigma, targets.near_outliers, targets.far_outliers)
            )
            # The luminosities are wide: an exact redshift need not be narrower than the grid.
            width = np.maximum(sigma, 0.02 * z)
            wide = self.options.outlier_width * (1.0 + z)
            density = (1.0 - near - far) * _normal(self.grid, z, width)
            density += near * _normal(self.grid, z, wide) + far * self.volume_prior
            some = points._replace(offsets=points.offsets[start : start + 513])
            out[part] = ln_other(
                some, density, self.grid, self.modulus, self.options.error_fraction
            )
        return out

    def _priors(self) -> Any:
        from ampel_spark.lensing.kernel import Priors

        o = self.options
        return Priors(
            x1_mean=o.x1[0], x1_sigma=o.x1[1], c_mean=o.c[0], c_blue=o.c[1], c_red=o.c[2],
            alpha=o.alpha, beta=o.beta, absmag=o.absmag, scatter=o.scatter,
            zero_mag=self.zero_mag, error_fraction=o.error_fraction,
            slope=o.slope * math.log(10.0), start=o.start, behind=o.behind,
            outlier_width=o.outlier_width,
        )  # fmt: skip

    def _profiles(
        self, points: Any, ebv: Array, delays: Sequence[float], shares: Sequence[float]
    ) -> list[Array]:
        from ampel_spark.lensing import kernel

        n = len(points.offsets) - 1
        out = np.full((n, kernel.N_ROWS, self.n_nodes), np.nan)
        out[:, kernel.LIKELIHOOD], out[:, kernel.MAG_VAR] = -np.inf, 1.0
        work = kernel.make_work(self.tables, int(np.diff(points.offsets).max(initial=1)))
        first = round((0.0 - self.tables.z_start) / NODE_STEP)
        kernel.profile_range(
            self.tables, points, ebv, self.law, self._priors(), 1, first, self.n_nodes,
            round(START / NODE_STEP), np.array(delays), np.array(shares), 0, n, work, out,
        )  # fmt: skip
        return [out]

    def _with_images(self, points: Any, ebv: Array, profiles: list[Array]) -> list[Array]:
        for delay, share in self.options.images:
            profiles += self._profiles(points, ebv, (0.0, delay), (1.0 - share, share))
        return profiles

    def _lensed_by_images(
        self, out: Array, profiles: list[Array], targets: Any, priors: Any
    ) -> Array:
        """Put the mean over one and two images into the evidence of a lensed supernova."""
        from ampel_spark.lensing import kernel

        o, n = self.options, len(out)
        double = np.full(n, -np.inf)
        for profile in profiles[1:]:
            own = np.full((n, 12), np.nan)
            kernel.evidence_range(
                profile, targets, priors, self.grid, self.modulus, self.source_prior,
                self.volume_prior, 0.0, NODE_STEP, 0, n, np.empty((5, N_GRID)), own,
            )  # fmt: skip
            double = np.logaddexp(double, np.nan_to_num(own[:, 1], nan=-np.inf))
            better = own[:, 7] < out[:, 7]
            out[better, 7] = own[better, 7]
        double -= math.log(len(o.images))
        out[:, 1] = np.logaddexp(
            out[:, 1] + math.log1p(-o.image_share), double + math.log(o.image_share)
        )
        return out


def source_peak(source: Any) -> float:
    """Return the rest-frame Bessell B magnitude at maximum of a SALT model with x0 = 1."""
    import copy

    own = copy.copy(source)
    own._parameters = np.array([1.0, 0.0, 0.0])
    return float(own.peakmag("bessellb", "ab"))


def _distances(z: Array, options: LensOptions) -> tuple[Array, Array]:
    """Return comoving distances, Mpc, and volume elements by redshift, in flat LCDM."""
    fine = np.linspace(0.0, float(z[-1]), 20001)
    expansion = np.sqrt(options.om0 * (1.0 + fine) ** 3 + 1.0 - options.om0)
    steps = 0.5 * (1.0 / expansion[1:] + 1.0 / expansion[:-1]) * np.diff(fine)
    distance = 299792.458 / options.h0 * np.concatenate([[0.0], np.cumsum(steps)])
    here = np.interp(z, fine, distance)
    return here, here**2 / np.interp(z, fine, expansion)


def _normal(x: Array, mean: Array, width: Array) -> Array:
    return np.asarray(np.exp(-0.5 * ((x - mean) / width) ** 2) / (width * math.sqrt(2.0 * np.pi)))


def _normalised(density: Array, z: Array) -> Array:
    step = np.log(z[1] / z[0])
    return np.asarray(density / (density * z * step).sum())
