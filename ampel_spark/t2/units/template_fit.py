"""Fits of many spectral templates, and how likely each is."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import AfterValidator, Field
from scipy.stats import chi2

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.lightcurve import DETECTION, FORCED, LightCurveBatch
from ampel_spark.salt.photometry import LightCurves
from ampel_spark.t2.fits import models
from ampel_spark.t2.fits.points import FIELDS, Choice, FitPoints, choose, numbers
from ampel_spark.t2.fits.results import texts
from ampel_spark.t2.fits.targets import Dust, FitTargets, Redshift, targets_of, tied_columns
from ampel_spark.t2.fits.templates import named_templates, template_of_file, template_paths
from ampel_spark.t2.unit import Column, Unit
from ampel_spark.templates import TemplateFitter, TemplateResult

__all__ = ["TemplateFit"]

Array = npt.NDArray[Any]

TOO_FEW_POINTS, NO_SIGNAL = 1, 2

_KINDS = {"detection": DETECTION, "forced": FORCED}
_HAS_NUMBA = find_spec("numba") is not None


def _known_band(name: str) -> str:
    known = models.band_names()
    if name.lower() not in known:
        raise ValueError(f"no such band{nearest(name, known)}")
    return name


class TemplateFit(Unit):
    """Fit many spectral templates: amplitude, t0 and, where asked, redshift of each.

    All templates are fitted to the same points: those in bands that all of them cover. Statuses
    beside 0: 1 too few points, 2 no point of high enough signal-to-noise ratio, -2006 no result of
    a unit that this one is tied to, -2008 no redshift.
    """

    meanings: ClassVar[Mapping[int, str]] = {
        TOO_FEW_POINTS: "too few points",
        NO_SIGNAL: "no signal",
    }

    templates: tuple[str, ...] = ()
    "Names of sncosmo with their versions, or patterns of these: `nugent-*`."

    template_files: tuple[Path, ...] = ()
    "Files with phase, wavelength and flux, also patterns; named in results by their stem."

    redshift: Redshift
    "A number, or where it comes from. A prior's width is taken for a range of 5 sigma."

    dust: Dust | None = None
    "Milky-Way dust; none by default."

    bands: tuple[Annotated[str, AfterValidator(_known_band)], ...] = ("ztfg", "ztfr", "ztfi")
    "Bands to fit, where the data folder has their curves."

    points: tuple[Literal["detection", "forced"], ...] = ("detection", "forced")
    "Kinds to fit; forced photometry stands in for a detection of the same time and band."

    min_points: int = Field(default=4, ge=1)
    "Fewest points to fit."

    min_peak_snr: float = 5.0
    "At least one point must be above this."

    error_floor: float = Field(default=0.0, ge=0)
    "Added to errors in quadrature, flux at zero point 25."

    error_fraction: float = Field(default=0.0, ge=0)
    "Fraction of the flux added to errors in quadrature: what templates are uncertain by."

    libraries = ("extinction", "numba", "numpy", "scipy", "sncosmo")
    #: May be patterns; `files` names the files themselves.
    untraced = ("template_files",)
    columns = (
        Column("template", "string", "", "the most likely template"),
        Column("posterior", "double", "", "its probability, all equally likely beforehand"),
        Column("log_evidence", "double", "", "ln of its evidence (docs/salt.md)"),
        Column("second", "string", "", "the second most likely template"),
        Column("second_delta", "double", "", "by how much its ln evidence is smaller"),
        Column("z", "double", "", "redshift"),
        Column("z_err", "double", "", "its error where fitted"),
        Column("t0", "double", "d", "JD of the template's time zero"),
        Column("t0_err", "double", "d", "its error"),
        Column("amplitude", "double", "", "factor of the template's flux"),
        Column("amplitude_err", "double", "", "its error"),
        Column("chisq", "double", "", "chi square at the minimum"),
        Column("ndof", "int", "", "points less fitted parameters"),
        Column("probability", "double", "", "of a larger chi square by chance"),
        Column("n_points", "int", "", "points fitted"),
        Column("success", "boolean", "", "whether the search came to its end"),
        Column("z_source", "string", "", "value, unit, catalog or fit"),
        Column("mwebv", "double", "mag", "Milky-Way E(B-V), scaled; null without dust"),
        Column("templates", "array<string>", "", "all templates, in the order of the arrays"),
        Column("chisqs", "array<double>", "", "chi square of each"),
        Column("bics", "array<double>", "", "Bayesian information criterion of each"),
        Column("log_evidences", "array<double>", "", "ln of the evidence of each"),
        Column("posteriors", "array<double>", "", "probability of each"),
        Column("zs", "array<double>", "", "redshift of each"),
        Column("t0s", "array<double>", "d", "t0 of each, JD"),
        Column("amplitudes", "array<double>", "", "amplitude of each"),
    )

    def needs(self) -> Sequence[str]:
        """Return the entries that redshift and E(B-V) come from."""
        return tuple(self.tied_columns())

    def tied_columns(self) -> Mapping[str, Sequence[str]]:
        """Return the columns that redshift and E(B-V) come from."""
        return tied_columns(self.redshift, self.dust)

    def files(self) -> Sequence[Path]:
        """Return the files of the templates and the curves of the bands."""
        if self.redshift.has_prior:
            raise ConfigError("redshift: templates have no priors: give a value or a range")
        if not _HAS_NUMBA:
            raise ConfigError("template_fit: numba is not installed: pip install numba")
        self._sources()
        names = named_templates(self.templates)
        files = [file for name in names for file in models.model_files(name)]
        bands = (models.bandpass(band)[1] for band in self.bands)
        curves = [file for file in bands if file is not None]
        return (*files, *template_paths(self.template_files), *curves)

    def point_fields(self) -> Sequence[str]:
        """Return what of each point the fit reads."""
        return FIELDS if self.redshift.catalog is None else (*FIELDS, "ra", "dec")

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        """Fit many light curves at once."""
        targets = targets_of(batch, self.redshift, self.dust)
        status, message = targets.status.copy(), targets.message.copy()
        curves = {name: models.bandpass(name)[0] for name in self.bands}
        sources = self._sources()
        choice = Choice(
            kinds=[_KINDS[kind] for kind in self.points],
            bands=curves,
            wave=(
                max(float(source.minwave()) for source in sources),
                min(float(source.maxwave()) for source in sources),
            ),
            centre=None,
            zero_points={},
            min_snr=None,
            error_floor=self.error_floor,
            error_fraction=self.error_fraction,
        )
        points = choose(batch, choice, targets.low, targets.high)
        self._refuse(points, status, message)
        result = self._fit(sources, curves, points, targets, status == 0)
        return _columns(result, points, targets, status, message)

    def _sources(self) -> tuple[Any, ...]:
        named = [models.source(name) for name in named_templates(self.templates)]
        own = [template_of_file(path) for path in template_paths(self.template_files)]
        if not named and not own:
            raise ConfigError("template_fit: name at least one template")
        return (*named, *own)

    def _refuse(self, points: FitPoints, status: Array, message: Array) -> None:
        best = points.best(points.snr)
        for i in numbers(status == 0):
            notes = points.notes.get(i, ())
            if points.count[i] < self.min_points:
                text = f"{points.count[i]} points to fit, {self.min_points} needed"
                status[i], message[i] = TOO_FEW_POINTS, "; ".join((text, *notes))
            elif not best[i] > self.min_peak_snr:
                text = f"no point above S/N {self.min_peak_snr:g}: {best[i]:.1f} at best"
                status[i], message[i] = NO_SIGNAL, "; ".join((text, *notes))
            else:
                message[i] = "; ".join(notes)

    def _fit(
        self,
        sources: tuple[Any, ...],
        curves: Mapping[str, Any],
        points: FitPoints,
        targets: FitTargets,
        wanted: Array,
    ) -> TemplateResult:
        reach = 0.2
        while wanted.any() and reach < targets.high[wanted].max():
            reach *= 2.0
        there = [curve is not None for curve in curves.values()]
        number = np.cumsum(there) - 1
        known = tuple(curve for curve in curves.values() if curve is not None)
        if not known:
            raise ConfigError("bands: none of them has a curve in the data folder")
        fitter = _fitter(sources, known, self.dust.law if self.dust else "F99", reach)
        points = points.where(wanted[points.group])
        return fitter.fit(
            LightCurves(
                points.offsets, points.time, points.flux, points.error,
                number[points.band].astype(np.int32), points.zp,
            ),
            z=(np.where(wanted, targets.low, 0.0), np.where(wanted, targets.high, 0.0)),
            mwebv=np.where(np.isnan(targets.ebv), 0.0, targets.ebv),
            min_points=self.min_points,
        )  # fmt: skip


@functools.lru_cache(maxsize=2)
def _fitter(
    sources: tuple[Any, ...], curves: tuple[Any, ...], law: str, z_high: float
) -> TemplateFitter:
    return TemplateFitter(sources, curves, z_range=(0.0, z_high), dust_law=law)


def _columns(
    result: TemplateResult, points: FitPoints, targets: FitTargets, status: Array, message: Array
) -> dict[str, Any]:
    """Return all columns of a batch."""
    good: Array = status == 0
    m, names = len(status), np.array(result.templates, object)
    posterior = result.posterior()
    order = np.argsort(-np.where(np.isnan(result.log_evidence), -np.inf, result.log_evidence),
                       axis=1, kind="stable")  # fmt: skip
    rows, best = np.arange(m), order[:, 0]
    second = order[:, min(1, len(names) - 1)]
    one = result.parameters[rows, best]
    error = result.errors[rows, best]
    chisq = result.chisq[rows, best]
    evidence = result.log_evidence[rows, best]
    ndof = result.ndof
    out: dict[str, Any] = {
        "template": pa.array(names[best], pa.string(), mask=~good),
        "posterior": posterior[rows, best],
        "log_evidence": evidence,
        "second": pa.array(names[second], pa.string(), mask=~good | (second == best)),
        "second_delta": evidence
        - np.where(second == best, np.nan, result.log_evidence[rows, second]),
        "chisq": chisq,
        "ndof": ndof,
        "probability": np.where(ndof > 0, chi2.sf(chisq, np.maximum(ndof, 1)), np.nan),
        "n_points": result.n_points,
        "success": result.converged[rows, best],
        "z_source": pa.array(targets.source, pa.string(), mask=~good),
        "mwebv": targets.ebv,
    }
    for k, name in enumerate(("z", "t0", "amplitude")):
        out[name] = one[:, k]
        out[f"{name}_err"] = np.where(error[:, k] > 0.0, error[:, k], np.nan)
    for name, values in (
        ("chisqs", result.chisq),
        ("bics", result.bic),
        ("log_evidences", result.log_evidence),
        ("posteriors", posterior),
        ("zs", result.parameters[:, :, 0]),
        ("t0s", result.parameters[:, :, 1]),
        ("amplitudes", result.parameters[:, :, 2]),
    ):
        out[name] = pa.array([row if ok else None for row, ok in zip(values, good, strict=True)],
                             pa.list_(pa.float64()))  # fmt: skip
    all_names = list(result.templates)
    out["templates"] = pa.array([all_names if ok else None for ok in good], pa.list_(pa.string()))
    out = {name: _masked(values, good) for name, values in out.items()}
    return out | {"status": status, "message": texts(message)}


def _masked(values: Any, good: Array) -> Any:
    if not isinstance(values, np.ndarray):
        return values
    absent = ~good | np.isnan(values) if values.dtype.kind == "f" else ~good
    return pa.array(values, mask=absent)
