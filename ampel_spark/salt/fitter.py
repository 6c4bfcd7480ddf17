"""The fitter: a model with its tables, ready for many light curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import sncosmo
from numpy.typing import ArrayLike, NDArray

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.salt.dust import extinction_per_ebv
from ampel_spark.salt.options import PARAMETERS, FitOptions, Targets
from ampel_spark.salt.photometry import LightCurveError, LightCurves, owned
from ampel_spark.salt.result import FitResult, outcome
from ampel_spark.salt.tables import build_tables
from ampel_spark.salt.warmup import warm

__all__ = ["SaltFitter"]

Array = NDArray[np.float64]

#: Light curves that a thread takes at a time.
CHUNK = 512


class SaltFitter:
    """SALT fits of many light curves.

    Parameters
    ----------
    source : str or sncosmo.SALT2Source
        Name of a SALT2 or SALT3 model in sncosmo's registry, or the model itself.
    bands : sequence of str or sncosmo.Bandpass
        Bandpasses of the photometry, by name in sncosmo's registry or themselves; light curves name
        a band by its place in this list.
    version : str, optional
        Version of the model. Name one: sncosmo's default changes with its releases.
    z_range : (float, float)
        Redshifts that fits may use. The tables grow with it, about 6 MB a band per unit of z.
    systems : sequence of str or sncosmo.MagSystem
        Magnitude systems of zero points; light curves name one by its place in this list.
    dust_law : {"F99", "CCM89", "O94"}
        Extinction law of the Milky Way.
    band_shifts : mapping of str to float, optional
        Shifts of bandpasses, Å, by band name: transmission at λ moves to λ + shift, in the band
        integral, the dust and the zero point. Bands that are not named stay as they are. An error
        of calibration to rerun with, say.
    options : FitOptions, optional
        What to fit and how, unless `fit` is given others.
    engine : {"auto", "compiled", "numpy"}
        The compiled kernel, or the plain numpy twin (slow). "auto" takes the twin where numba is
        absent.

    Examples
    --------
    The compiled engine is the default; ``numpy`` needs no compilation, and suits one light curve.

    >>> from ampel_spark.settings import sncosmo_data_dir
    >>> with sncosmo.conf.set_temp("data_dir", str(sncosmo_data_dir())):
    ...     fitter = SaltFitter(
    ...         "salt3", ["ztfg", "ztfr"], version="2.0", z_range=(0.04, 0.06), engine="numpy"
    ...     )
    >>> days, band = np.repeat(np.arange(-12.0, 40.0, 4.0), 2), np.tile([0, 1], 13)
    >>> points = LightCurves(np.array([0, 26]), days, np.ones(26), np.ones(26), band)
    >>> flux = fitter.predict(points, np.array([[0.05, 0.0, 1e-3, 0.5, 0.1]]))  # z, t0, x0, x1, c
    >>> result = fitter.fit(LightCurves(points.offsets, days, flux, np.full(26, 5.0), band), z=0.05)
    >>> result.fitted, result.parameters.round(4).tolist()
    (('t0', 'x0', 'x1', 'c'), [[0.05, 0.0, 0.001, 0.5, 0.1]])
    >>> result.value("x1"), result.error("x1"), result.status  # doctest: +SKIP
    """

    def __init__(
        self,
        source: Any,
        bands: Sequence[Any],
        *,
        version: str | None = None,
        z_range: tuple[float, float] = (0.0, 0.25),
        systems: Sequence[Any] = ("ab",),
        dust_law: str = "F99",
        band_shifts: Mapping[str, float] | None = None,
        options: FitOptions | None = None,
        engine: str = "auto",
        z_step: float = 0.002,
        n_nodes: int = 8,
    ) -> None:
        if not bands:
            raise ConfigError("bands: name at least one bandpass")
        if n_nodes < 4 or n_nodes % 4:
            raise ConfigError(f"n_nodes {n_nodes}: a multiple of four")
        try:
            self.source = sncosmo.get_source(source, version=version)
        except Exception as error:
            raise ConfigError(f"source {source!r} version {version!r}: {error}") from error
        bandpasses = [_look_up(sncosmo.get_bandpass, band, "bandpass") for band in bands]
        magsystems = [_look_up(sncosmo.get_magsystem, system, "system") for system in systems]
        self.bands = tuple(
            str(b.name if b.name is not None else f"band {i}") for i, b in enumerate(bandpasses)
        )
        self.band_shifts = _checked_shifts(band_shifts or {}, self.bands)
        shifted = [
            _shifted(band, self.band_shifts.get(name, 0.0))
            for name, band in zip(self.bands, bandpasses, strict=True)
        ]
        self.systems = tuple(str(s if isinstance(s, str) else s.name) for s in systems)
        self.options = options or FitOptions()
        self.engine = _engine(engine)
        self.dust_law = dust_law
        extinction_per_ebv(dust_law, np.array([5000.0]))
        self.tables = build_tables(self.source, shifted, z_range, z_step=z_step, n_nodes=n_nodes)
        self._system_ratio = _system_ratios(bandpasses, shifted, magsystems)

    def band_index(self, names: ArrayLike) -> NDArray[np.int32]:
        """Return the numbers of bands by name; -1 for those that the fitter does not know."""
        words, inverse = np.unique(np.asarray(names, dtype=str), return_inverse=True)
        known = {name: i for i, name in enumerate(self.bands)}
        numbers = np.array([known.get(str(word), -1) for word in words], dtype=np.int32)
        return numbers[inverse] if len(words) else np.zeros(0, np.int32)

    def fit(
        self,
        light_curves: LightCurves,
        *,
        z: ArrayLike | None = None,
        t0: ArrayLike | None = None,
        x0: ArrayLike | None = None,
        x1: ArrayLike | None = None,
        c: ArrayLike | None = None,
        mwebv: ArrayLike = 0.0,
        r_v: ArrayLike = 3.1,
        phase_reference: ArrayLike | None = None,
        options: FitOptions | None = None,
        threads: int = 1,
        bad_redshift: str = "raise",
    ) -> FitResult:
        """Fit all light curves.

        Parameters
        ----------
        light_curves : LightCurves
            Photometry of n objects.
        z, t0, x0, x1, c : float or ndarray, shape (n,), optional
            Values of parameters that are not fitted; needed for those.
        mwebv, r_v : float or ndarray, shape (n,)
            Colour excess E(B-V) of the Milky Way, magnitudes, and ratio A(V)/E(B-V).
        phase_reference : ndarray, shape (n,), optional
            Times from which a phase range counts that is not iterative.
        options : FitOptions, optional
            Instead of the fitter's own.
        threads : int
            Threads to use. Results do not depend on it.
        bad_redshift : {"raise", "status"}
            What to do about a redshift that is not finite or outside the tables: an error, or the
            status ``BAD_REDSHIFT`` for the object.

        Raises
        ------
        LightCurveError
            Where values are missing, of wrong shape, or a redshift is outside the tables.
        """
        n = len(light_curves)
        options = options or self.options
        settings = options.settings()
        given = {"z": z, "t0": t0, "x0": x0, "x1": x1, "c": c}
        fixed = np.full((n, 5), np.nan)
        for k, name in enumerate(PARAMETERS):
            value = given[name]
            if name in options.fit and value is not None:
                raise LightCurveError(f"{name} is fitted: give bounds or a prior, not a value")
            if name in options.fit:
                continue
            if value is None:
                raise LightCurveError(f"{name} is not fitted: give its value")
            fixed[:, k] = _per_object(value, n, name)
            if name != "z" and not np.all(np.isfinite(fixed[:, k])):
                raise LightCurveError(f"{name} is fixed to a value that is not finite")
        lower, upper = options.bound_arrays(n)
        prior_mean, prior_weight = options.prior_arrays(n)
        self._check_redshifts(
            fixed[:, 0], lower, upper, prior_mean, prior_weight, "z" in options.fit, bad_redshift
        )
        if settings.has_phase_range and not settings.phase_iterative and phase_reference is None:
            raise LightCurveError("a phase range that is not iterative needs phase_reference")
        targets = self._targets(n, fixed, mwebv, r_v)._replace(
            lower=owned(lower, np.float64),
            upper=owned(upper, np.float64),
            prior_mean=owned(prior_mean, np.float64),
            prior_weight=owned(prior_weight, np.float64),
            phase_reference=_per_object(
                np.nan if phase_reference is None else phase_reference, n, "phase_reference"
            ),
        )
        out = self._run(light_curves, settings, targets, threads)
        counts = out.counts
        refused = out.refusal < 0
        flags = np.where(refused, out.flags & (32 | 64 | 128), out.flags).astype(np.int32)
        n_fit = len(options.fitted)
        total = np.diff(light_curves.offsets).astype(np.int32)
        left_out = counts[:, 3] + counts[:, 4] + counts[:, 5]
        return FitResult(
            fitted=options.fitted,
            parameters=out.parameters,
            covariance=out.covariance,
            chisq=out.chisq,
            prior_chisq=out.prior_chisq,
            ndof=np.where(refused, 0, counts[:, 0] - n_fit).astype(np.int32),
            status=outcome(out.refusal, flags),
            flags=flags,
            n_points=counts[:, 0],
            n_before=counts[:, 1],
            n_after=counts[:, 2],
            n_bad=counts[:, 3],
            n_unknown_band=counts[:, 4],
            n_dropped_band=counts[:, 5],
            n_cut=np.where(refused, counts[:, 6], total - left_out - counts[:, 0]).astype(np.int32),
            n_starts=counts[:, 7],
            n_rounds=counts[:, 8],
            n_steps=counts[:, 9],
            first_phase=out.phases[:, 0],
            last_phase=out.phases[:, 1],
            max_snr=out.max_snr,
            points_by_band=out.points_by_band,
            dropped_bands=out.dropped_bands,
            used=out.used,
        )

    def predict(
        self,
        light_curves: LightCurves,
        parameters: Array,
        *,
        mwebv: ArrayLike = 0.0,
        r_v: ArrayLike = 3.1,
    ) -> Array:
        """Return the model flux of each point, in the point's own units; NaN where there is none.

        Parameters
        ----------
        light_curves : LightCurves
            Where and how to evaluate; fluxes and errors are not looked at.
        parameters : ndarray, shape (n, 5)
            z, t0, x0, x1, c of each object, such as ``FitResult.parameters``.
        mwebv, r_v : float or ndarray, shape (n,)
            Dust of the Milky Way.
        """
        n = len(light_curves)
        parameters = owned(parameters, np.float64)
        if parameters.shape != (n, 5):
            raise LightCurveError(f"parameters have shape {parameters.shape}, not {(n, 5)}")
        points = self._points(light_curves)
        targets = self._targets(n, parameters, mwebv, r_v)
        flux = np.full(len(light_curves.time), np.nan)
        if self.engine == "compiled":
            from ampel_spark.salt import batch

            warm()
            work = batch.make_work(self.tables, 1, 0)
            batch.predict_range(self.tables, targets, points, parameters, 0, n, work, flux)
        else:
            from ampel_spark.salt import twin

            twin.predict_range(self.tables, targets, points, parameters, 0, n, flux)
        return flux

    def _points(self, light_curves: LightCurves) -> Any:
        from ampel_spark.salt.records import Points

        if np.any(light_curves.band >= len(self.bands)):
            raise LightCurveError(
                f"band number {light_curves.band.max()}: the fitter has {len(self.bands)} bands"
            )
        systems = np.asarray(light_curves.zpsys)
        if systems.size and not (systems.min() >= 0 and systems.max() < len(self.systems)):
            raise LightCurveError(f"zpsys: numbers from 0 to {len(self.systems) - 1}")
        if np.isnan(self._system_ratio).any():
            known = light_curves.band >= 0
            ratio = self._system_ratio[light_curves.band[known], systems[known]]
            if np.isnan(ratio).any():
                at = np.flatnonzero(known)[np.flatnonzero(np.isnan(ratio))[0]]
                raise LightCurveError(
                    f"magnitude system {self.systems[systems[at]]!r} has no zero point in band "
                    f"{self.bands[light_curves.band[at]]!r}"
                )
        cov_offsets, cov = light_curves.covariance_blocks()
        return Points(
            offsets=light_curves.offsets,
            time=light_curves.time,
            flux=light_curves.flux,
            fluxerr=light_curves.fluxerr,
            band=light_curves.band,
            zp=np.asarray(light_curves.zp),
            system=systems,
            system_ratio=self._system_ratio,
            cov_offsets=cov_offsets,
            cov=cov,
        )

    def _targets(self, n: int, fixed: Array, mwebv: ArrayLike, r_v: ArrayLike) -> Targets:
        ebv = _per_object(mwebv, n, "mwebv")
        if not np.all(np.isfinite(ebv)):
            raise LightCurveError("mwebv holds a value that is not finite")
        ratios, row = np.unique(_per_object(r_v, n, "r_v"), return_inverse=True)
        law = np.array(
            [extinction_per_ebv(self.dust_law, self.tables.nodes, float(r)) for r in ratios]
        ).reshape(len(ratios), *self.tables.nodes.shape)
        empty = np.zeros((1, 5))
        return Targets(
            fixed=fixed,
            lower=empty,
            upper=empty,
            prior_mean=empty,
            prior_weight=empty,
            phase_reference=np.full(n, np.nan),
            ebv=ebv,
            law_row=owned(row.ravel(), np.int64),
            law=law,
        )

    def _check_redshifts(
        self,
        z: Array,
        lower: Array,
        upper: Array,
        prior_mean: Array,
        prior_weight: Array,
        free: bool,
        bad_redshift: str,
    ) -> None:
        if bad_redshift not in ("raise", "status"):
            raise ConfigError(f"bad_redshift {bad_redshift!r}: 'raise' or 'status'")
        low, high = self.tables.z_min, self.tables.z_max
        if free:
            # A prior without bounds: five sigma, within the tables.
            with np.errstate(divide="ignore"):
                width = 5.0 / np.sqrt(prior_weight[:, 0])
            inside = np.isfinite(width) & (prior_mean[:, 0] >= low) & (prior_mean[:, 0] <= high)
            for side, bounds, _limit in ((-1.0, lower, low), (1.0, upper, high)):
                value = np.clip(
                    prior_mean[:, 0] + side * np.where(inside, width, np.nan), low, high
                )
                if len(bounds) == 1 and len(value) > 1:
                    if np.isnan(bounds[0, 0]):
                        raise ConfigError("priors of z per object: give bounds of z as well")
                    continue
                missing = np.isnan(bounds[:, 0])
                bounds[missing, 0] = value[missing] if len(value) > 1 else value[0]
            bad = ~((lower[:, 0] >= low) & (upper[:, 0] <= high))
            what = "bounds of z"
        else:
            bad = ~((z >= low) & (z <= high))
            what = "redshift"
        if bad_redshift == "raise" and np.any(bad):
            i = int(np.flatnonzero(bad)[0])
            named = (lower[i, 0], upper[i, 0]) if free else z[i]
            raise LightCurveError(
                f"{what} {named} of light curve {i} (and {int(bad.sum()) - 1} more) outside the "
                f"tables' {low} to {high}: build the fitter with a larger z_range, or ask for "
                "bad_redshift='status'"
            )

    def _run(self, light_curves: LightCurves, settings: Any, targets: Targets, threads: int) -> Any:
        from ampel_spark.salt.records import make_output

        n = len(light_curves)
        points = self._points(light_curves)
        out = make_output(n, len(light_curves.time), len(self.bands))
        if self.engine == "numpy":
            from ampel_spark.salt import twin

            twin.fit_range(self.tables, settings, targets, points, 0, n, out)
            return out
        from ampel_spark.salt import batch

        warm()
        sizes = np.diff(light_curves.offsets)
        largest = int(sizes.max()) if n else 0
        dense = (
            int(np.sqrt(np.diff(points.cov_offsets).max())) if len(points.cov_offsets) > 1 else 0
        )

        def work_on(begin: int, end: int) -> None:
            work = batch.make_work(self.tables, largest, dense)
            batch.fit_range(self.tables, settings, targets, points, begin, end, work, out)

        if threads <= 1 or n <= 1:
            work_on(0, n)
        else:
            size = max(1, min(CHUNK, -(-n // threads)))
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda b: work_on(b, min(b + size, n)), range(0, n, size)))
        return out


def _engine(name: str) -> str:
    if name not in ("auto", "compiled", "numpy"):
        raise ConfigError(f"engine {name!r}: 'auto', 'compiled' or 'numpy'")
    if name != "auto":
        return name
    try:
        import numba  # noqa: F401
    except ImportError:
        return "numpy"
    return "compiled"


def _look_up(get: Any, name: Any, what: str) -> Any:
    try:
        return get(name)
    except Exception as error:
        raise ConfigError(f"{what} {name!r}: {error}") from error


def _checked_shifts(shifts: Mapping[str, float], bands: Sequence[str]) -> dict[str, float]:
    for name, shift in shifts.items():
        if name not in bands:
            raise ConfigError(f"band_shifts: band {name!r} is not fitted{nearest(name, bands)}")
        if not np.isfinite(shift):
            raise ConfigError(f"band_shifts: {name} by {shift} Å: give a finite number")
    return {name: float(shift) for name, shift in shifts.items()}


def _shifted(band: Any, shift: float) -> Any:
    if shift == 0.0:
        return band
    if not band.minwave() + shift > 0.0:
        raise ConfigError(
            f"band_shifts: {band.name} begins at {band.minwave():g} Å, which {shift:g} Å makes "
            "zero or less"
        )
    return sncosmo.Bandpass(band.wave + shift, band.trans, name=band.name)


def _system_ratios(
    bandpasses: Sequence[Any], shifted: Sequence[Any], systems: Sequence[Any]
) -> Array:
    """Zero-point flux of each system over that of AB, (B, systems); NaN where it has none.

    A system that is a list of bands with offsets (such as JLA's) knows a shifted band by the
    offset of the band as it was.
    """
    ab = sncosmo.get_magsystem("ab")
    ratios = np.full((len(bandpasses), len(systems)), np.nan)
    for b, candidates in enumerate(zip(shifted, bandpasses, strict=True)):
        for s, system in enumerate(systems):
            for band in candidates:
                try:
                    ratios[b, s] = system.zpbandflux(band) / ab.zpbandflux(band)
                except ValueError:
                    # The system's spectrum does not cover the band, or it does not know the band.
                    continue
                break
    return ratios


def _per_object(value: ArrayLike, n: int, name: str) -> Array:
    values = np.asarray(value, dtype=float)
    if values.ndim and values.shape != (n,):
        raise LightCurveError(f"{name} has shape {values.shape} for {n} light curves")
    return owned(np.broadcast_to(values, (n,)), np.float64)
