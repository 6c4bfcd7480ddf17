"""The fitter: templates with their tables, ready for many light curves."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import sncosmo
from numpy.typing import ArrayLike, NDArray

from ampel_spark.errors import ConfigError
from ampel_spark.salt.photometry import LightCurveError, LightCurves, owned
from ampel_spark.templates.tables import REFERENCE_ZP, build_tables

__all__ = ["TemplateFitter", "TemplateResult"]

Array = NDArray[np.float64]

#: Light curves that a thread takes at a time.
CHUNK = 64


@dataclass(frozen=True)
class TemplateResult:
    """Fits of n light curves with T templates; NaN where there is no fit."""

    #: Names of the templates.
    templates: tuple[str, ...]
    #: (n, T) chi-square at the lowest minimum, and ln of the evidence.
    chisq: Array
    log_evidence: Array
    #: (n, T, 3) redshift, t0 and amplitude, and their errors (of z: 0 where it is held).
    parameters: Array
    errors: Array
    #: (n, T) whether the search came to its end.
    converged: NDArray[np.bool_]
    #: (n,) points used, parameters fitted; (N,) which points were used.
    n_points: NDArray[np.int32]
    n_fitted: NDArray[np.int32]
    used: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.chisq)

    @property
    def ndof(self) -> NDArray[np.int32]:
        """(n,) points less fitted parameters."""
        return self.n_points - self.n_fitted

    @property
    def bic(self) -> Array:
        """(n, T) Bayesian information criterion: chi-square + parameters x ln(points)."""
        return self.chisq + (self.n_fitted * np.log(np.maximum(self.n_points, 1)))[:, None]

    @property
    def best(self) -> NDArray[np.int64]:
        """(n,) number of the template with the largest evidence; -1 for none."""
        known = np.isfinite(self.log_evidence)
        best = np.argmax(np.where(known, self.log_evidence, -np.inf), axis=1)
        return np.where(known.any(axis=1), best, -1)

    def posterior(self) -> Array:
        """(n, T) probability of each template, all equally likely beforehand."""
        evidence = np.where(np.isfinite(self.log_evidence), self.log_evidence, -np.inf)
        top = evidence.max(axis=1, keepdims=True)
        weight = np.exp(evidence - np.where(np.isfinite(top), top, 0.0))
        total = weight.sum(axis=1, keepdims=True)
        return np.where(total > 0.0, weight / np.where(total > 0.0, total, 1.0), np.nan)


class TemplateFitter:
    """Fits of many light curves with many spectral time series.

    Each template has an amplitude and a t0, fitted; the redshift is held or fitted in a range. A
    template is taken as `sncosmo` has it: before its first and after its last phase its flux stays
    as it is there (or is zero before, with ``zero_before``).

    Parameters
    ----------
    sources : sequence of sncosmo.TimeSeriesSource
        The templates. Their names are the results'; amplitudes are those for the source's flux.
    bands : sequence of str or sncosmo.Bandpass
        Bandpasses of the photometry; light curves name a band by its place in this list.
    z_range : (float, float)
        Redshifts that fits may use.
    dust_law : {"F99", "CCM89", "O94"}
        Extinction law of the Milky Way, for R_V = 3.1.

    Examples
    --------
    >>> phase, wave = np.linspace(-20.0, 60.0, 41), np.linspace(3000.0, 9000.0, 61)
    >>> shape = np.exp(-0.5 * (phase[:, None] / 12.0) ** 2) * np.ones(len(wave))
    >>> source = sncosmo.TimeSeriesSource(phase, wave, 1e-17 * shape, name="bump")
    >>> fitter = TemplateFitter([source], ["ztfg"], z_range=(0.0, 0.1))
    >>> fitter.templates
    ('bump',)
    """

    def __init__(
        self,
        sources: Sequence[Any],
        bands: Sequence[Any],
        *,
        z_range: tuple[float, float] = (0.0, 0.2),
        dust_law: str = "F99",
    ) -> None:
        bandpasses = [sncosmo.get_bandpass(band) for band in bands]
        self.bands = tuple(str(band.name) for band in bandpasses)
        self.templates = tuple(_name(source) for source in sources)
        if len(set(self.templates)) < len(self.templates):
            raise ConfigError(f"templates {list(self.templates)}: each needs a name of its own")
        self.tables = build_tables(sources, bandpasses, z_range, dust_law=dust_law)

    def fit(
        self,
        light_curves: LightCurves,
        *,
        z: ArrayLike | tuple[ArrayLike, ArrayLike],
        mwebv: ArrayLike = 0.0,
        min_points: int = 3,
        threads: int = 1,
    ) -> TemplateResult:
        """Fit all light curves with all templates.

        Points in bands that a template does not cover at the redshift are used for none, so that
        all templates are compared on the same points.

        Parameters
        ----------
        light_curves : LightCurves
            Photometry of n objects; covariances between points are refused.
        z : float, ndarray with shape (n,), or a pair of these
            Redshifts, or the lower and upper ends of the ranges in which they are fitted.
        mwebv : float or ndarray, shape (n,)
            Colour excess E(B-V) of the Milky Way, magnitudes.
        min_points : int
            Fewest points to fit.
        threads : int
            Threads to use. Results do not depend on it.

        Raises
        ------
        LightCurveError
            Where arrays do not match, a redshift is outside the tables, or there is a covariance.
        """
        from ampel_spark.templates import kernel

        n = len(light_curves)
        if light_curves.fluxcov is not None:
            raise LightCurveError("fluxcov: templates are fitted to independent errors alone")
        if np.any(light_curves.band >= len(self.bands)):
            raise LightCurveError(
                f"band number {light_curves.band.max()}: the fitter has {len(self.bands)} bands"
            )
        ends = z if isinstance(z, tuple) else (z, z)
        low, high = (
            owned(np.broadcast_to(np.asarray(end, float), (n,)), np.float64) for end in ends
        )
        if not np.all((self.tables.z_min <= low) & (low <= high) & (high <= self.tables.z_max)):
            raise LightCurveError(
                f"z: give redshifts in the tables' {self.tables.z_min} to {self.tables.z_max}"
            )
        points, at = self._points(light_curves)
        ebv = owned(np.broadcast_to(np.asarray(mwebv, float), (n,)), np.float64)
        targets = kernel.TemplateTargets(low, high, ebv)
        out = kernel.make_output(n, len(self.templates), len(at))

        def work_on(begin: int, end: int) -> None:
            kernel.fit_range(self.tables, targets, points, min_points, begin, end, out)

        if threads <= 1 or n <= 1:
            work_on(0, n)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda b: work_on(b, min(b + CHUNK, n)), range(0, n, CHUNK)))
        used = np.zeros(len(light_curves.time), bool)
        used[at] = out.used
        return TemplateResult(
            templates=self.templates,
            chisq=out.chisq,
            log_evidence=out.log_evidence,
            parameters=out.parameters,
            errors=out.errors,
            converged=out.converged,
            n_points=out.n_points,
            n_fitted=np.where(high > low, 3, 2).astype(np.int32),
            used=used,
        )

    def _points(self, curves: LightCurves) -> tuple[Any, NDArray[np.int64]]:
        """Usable points by object, band and time, at the tables' zero point; and where they are."""
        from ampel_spark.templates.kernel import TemplatePoints

        group = np.repeat(np.arange(len(curves)), np.diff(curves.offsets))
        with np.errstate(all="ignore"):
            good = np.isfinite(curves.time) & np.isfinite(curves.flux / curves.fluxerr)
            good &= (curves.fluxerr > 0.0) & np.isfinite(curves.fluxerr) & np.isfinite(curves.zp)
        good &= curves.band >= 0
        at = np.flatnonzero(good)
        at = at[np.lexsort((curves.flux[at], curves.time[at], curves.band[at], group[at]))]
        scale = 10.0 ** (0.4 * (REFERENCE_ZP - np.asarray(curves.zp)[at]))
        count = np.bincount(group[at], minlength=len(curves))
        return TemplatePoints(
            offsets=np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
            time=owned(curves.time[at], np.float64),
            flux=owned(curves.flux[at] * scale, np.float64),
            fluxerr=owned(curves.fluxerr[at] * scale, np.float64),
            band=owned(curves.band[at], np.int64),
        ), at


def _name(source: Any) -> str:
    version = getattr(source, "version", None)
    return f"{source.name}/{version}" if version else str(source.name)
