"""SALT2 and SALT3 fits of type Ia supernovae, and fits of any other model that sncosmo has.

A fit goes through these steps, and each may end it with a refusal:

1. find the redshift, and the Milky Way's E(B-V) (`fits.targets`);
2. choose points: kind, band, signal-to-noise ratio (`fits.points`);
3. fit, keep the points within the phase range about the fitted t0, and fit again until that is so.

Steps 1 and 2 and the columns (`fits.results`) are the same whatever minimises: `ampel_spark.salt`
on whole batches (`fits.batch_fit`), or `sncosmo.fit_lc` one by one (`fits.fit_lc`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import sncosmo
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from ampel_spark.errors import ConfigError, UnitError, nearest
from ampel_spark.lightcurve import DETECTION, FORCED, LightCurve, LightCurveBatch
from ampel_spark.t2.fits import batch_fit, fit_lc, models
from ampel_spark.t2.fits.points import FIELDS, Choice, FitPoints, choose, numbers
from ampel_spark.t2.fits.recipes import merged, read_recipe
from ampel_spark.t2.fits.results import (
    COLUMNS,
    SALT,
    Fits,
    at_bound,
    columns_of,
    distance_modulus,
    peak_column,
    texts,
)
from ampel_spark.t2.fits.targets import (
    Dust,
    FitTargets,
    ParameterGroup,
    Range,
    Redshift,
    targets_of,
    tied_columns,
)
from ampel_spark.t2.fits.task import Objects, Task
from ampel_spark.t2.unit import Column, Refusal, Unit

__all__ = [
    "NOT_CONVERGED",
    "NO_PHASE_COVERAGE",
    "NO_SIGNAL",
    "TOO_FEW_POINTS",
    "Cosmology",
    "Dust",
    "Redshift",
    "SaltFit",
    "bandpass_of",
    "flux_error",
    "model_of",
]

Array = npt.NDArray[Any]

# Statuses beside AMPEL's: -2008 where the redshift is missing, -2006 where a tied result is.
TOO_FEW_POINTS = 1
NO_SIGNAL = 2
NO_PHASE_COVERAGE = 3
NOT_CONVERGED = 4

_BOUNDS: dict[str, Range] = {"x1": (-5.0, 5.0), "c": (-1.0, 2.0)}
_KINDS = {"detection": DETECTION, "forced": FORCED}
_HAS_NUMBA = find_spec("numba") is not None


def _known_band(name: str) -> str:
    known = models.band_names()
    if name.lower() not in known:
        near = nearest(name, known)
        # a list of all would help nobody
        raise ValueError(f"no such band{near if 'mean' in near else ': take a name of sncosmo'}")
    # sncosmo's names are in lower case, and so are those that points are looked up by
    return name.lower()


def _by_band(value: Any) -> Any:
    return {str(k).lower(): v for k, v in value.items()} if isinstance(value, Mapping) else value


_Bands = Annotated[dict[str, float], BeforeValidator(_by_band)]


class OwnModel(ParameterGroup):
    """A SALT model in a folder of its own: ``salt2@PATH`` or ``salt3@PATH``."""

    kind: Literal["salt2", "salt3"]
    "What reads its files."

    path: Path
    "Folder of its files, or one of these; a relative one starts from the job file's folder."

    @model_serializer
    def _text(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.kind}@{self.path}"


def _own(value: Any) -> Any:
    found = models.OWN_MODEL.fullmatch(value) if isinstance(value, str) else None
    return {"kind": found[1], "path": found[2]} if found else value


class Cosmology(ParameterGroup):
    """Flat LCDM, for absolute magnitudes."""

    h0: float = Field(default=70.0, gt=0)
    "Hubble constant, km/s/Mpc."

    om0: float = Field(default=0.3, ge=0, le=1)
    "Density of matter today."


class SaltFit(Unit):
    """Fit a SALT model: time of maximum, amplitude, stretch, colour, and the redshift where asked.

    Statuses beside 0: 1 too few points, 2 no point of high enough signal-to-noise ratio, 3 phases
    not covered, 4 not converged (the numbers are there, `success` is false), -2006 no result of a
    unit that this one is tied to, -2008 no redshift.
    """

    meanings: ClassVar[Mapping[int, str]] = {
        TOO_FEW_POINTS: "too few points",
        NO_SIGNAL: "no signal",
        NO_PHASE_COVERAGE: "phases not covered",
        NOT_CONVERGED: "not converged",
    }

    engine: Literal["batch", "twin", "sncosmo"] = "batch"
    "`batch`: ampel_spark.salt; `twin`: its plain form; `sncosmo`: fit_lc, as for all other models."

    recipe: str | None = None
    "A recipe of the field (conf/recipes), as `jla`: its parameters, where no others are given."

    model: Annotated[str | OwnModel, BeforeValidator(_own)] = "salt3/2.0"
    "Model and version, SALT or any other that sncosmo has; or `salt2@FOLDER`, `salt3@FOLDER`."

    redshift: Redshift
    "A number, or where it comes from."

    dust: Dust | None = None
    "Milky-Way dust; none by default."

    bands: tuple[Annotated[str, AfterValidator(_known_band)], ...] = ("ztfg", "ztfr", "ztfi")
    "Bands to fit, where the data folder has their curves."

    wave_range: Range | Literal["model", "all"] = "model"
    "Bands to fit by effective wavelength in the rest frame, Å: [low, high], the model's, or all."

    points: tuple[Literal["detection", "forced"], ...] = ("detection", "forced")
    "Kinds to fit; forced photometry stands in for a detection of the same time and band."

    fixed: dict[str, float] = Field(default_factory=dict)
    "Parameters that are held, with their values: x1 and c of SALT."

    bounds: dict[str, Range] = Field(default_factory=_BOUNDS.copy)
    "Bounds, on top of those of x1 and c; those of t0 follow from the data unless given."

    phase_range: Range | None = (-15.0, 45.0)
    "Days from t0 to fit, or none for all points."

    phase_frame: Literal["rest", "observer"] = "rest"
    "Whether these are days in the rest frame or in the observer's."

    phase_cut: Literal["iterative", "peak"] = "iterative"
    "About the fitted t0, again until nothing changes; or once, about the brightest point."

    coverage: Range | None = None
    "Phases: the first point must lie before the one, the last point after the other."

    min_points: int = Field(default=5, ge=1)
    "Fewest points to fit."

    min_snr: float | None = None
    "FitPoints below this flux/error are left out. Cuts like this bias what is faint."

    min_peak_snr: float = 5.0
    "At least one point must be above this, as sncosmo asks for its first guess."

    error_floor: float = Field(default=0.0, ge=0)
    "Added to errors in quadrature, flux at zero point 25."

    error_fraction: float = Field(default=0.0, ge=0)
    "Fraction of the flux added to errors in quadrature."

    model_covariance: bool = True
    "Whether the model's own scatter counts."

    zero_points: _Bands = Field(default_factory=dict)
    "Magnitudes to add to all magnitudes of a band: 0.01 makes its fluxes 0.9 % smaller."

    band_shifts: _Bands = Field(default_factory=dict)
    "Å to move the curve of a band to the red, its AB zero point with it."

    model_bands: dict[str, str] = Field(default_factory=dict)
    "What the model's INFO file calls a band, as `{ztfg: ZTF/g}`, for the shifts it names there."

    max_reduced_chisq: float = Field(default=3.0, gt=0)
    "Chi square per degree of freedom above which a fit's `quality` is poor."

    cosmology: Cosmology = Cosmology()
    "For absolute magnitudes."

    libraries = (
        "astropy", "extinction", "iminuit", *(("numba",) if _HAS_NUMBA else ()), "numpy", "scipy",
        "sncosmo",
    )  # fmt: skip
    columns = COLUMNS
    #: What it stands for is in the other parameters.
    untraced = ("recipe",)

    @model_validator(mode="before")
    @classmethod
    def _with_recipe(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not isinstance(data.get("recipe"), str):
            return data
        try:
            return merged(read_recipe(data["recipe"]).parameters, data)
        except ConfigError as error:
            raise ValueError(f"recipe: {error}") from None

    @field_validator("model")
    @classmethod
    def _known_model(cls, name: str | OwnModel) -> str | OwnModel:
        known = models.model_names()
        if isinstance(name, str) and name not in known:
            raise ValueError(f"no such model{nearest(name, known)} (with its version)")
        return name

    @field_validator("phase_range", "coverage", "wave_range")
    @classmethod
    def _is_range(cls, value: Any) -> Any:
        if isinstance(value, tuple) and not value[0] < value[1]:
            raise ValueError("give [low, high]")
        return value

    @field_validator("bounds")
    @classmethod
    def _are_ranges(cls, value: dict[str, Range]) -> dict[str, Range]:
        for name, bounds in value.items():
            if not bounds[0] < bounds[1]:
                raise ValueError(f"{name}: give [low, high]")
        return _BOUNDS | value

    @field_validator("fixed", "bounds")
    @classmethod
    def _are_parameters(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if models.is_salt(str(info.data.get("model"))):
            known = ("x1", "c") if info.field_name == "fixed" else SALT[1:]
            for name in value:
                if name not in known:
                    raise ValueError(f"{name!r} is not one of {', '.join(known)}")
        return value

    @field_validator("zero_points", "band_shifts", "model_bands")
    @classmethod
    def _are_of_bands(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        bands = info.data.get("bands", value)
        for band in value:
            if band not in bands:
                raise ValueError(f"{band!r} is not among the bands{nearest(band, bands)}")
        return value

    @model_validator(mode="after")
    def _has_no_prior_in_fit_lc(self) -> SaltFit:
        if self.redshift.has_prior and self._engine() == "sncosmo":
            raise ValueError("redshift: fit_lc has no priors: give a range, or take engine batch")
        return self

    @property
    def is_salt(self) -> bool:
        """Whether the model is a SALT model."""
        return models.is_salt(self.model_name)

    @property
    def model_name(self) -> str:
        """The model as `fits.models` knows it."""
        return str(self.model)

    def needs(self) -> Sequence[str]:
        """Return the entries that redshift and E(B-V) come from."""
        names = [self.redshift.unit]
        if self.dust is not None and self.dust.ebv is None:
            names.append(self.dust.unit)
        return tuple(dict.fromkeys(name for name in names if name))

    def tied_columns(self) -> Mapping[str, Sequence[str]]:
        """Return the columns that redshift and E(B-V) come from."""
        return tied_columns(self.redshift, self.dust)

    def files(self) -> Sequence[Path]:
        """Return the files of the model, the curves of the bands, and the spectra of standards."""
        if not self.is_salt:
            self._check_names(("t0", *models.source(self.model_name).param_names))
        # so that results can be traced back to the folder
        models.label(self.model_name)
        bands = (models.bandpass(band)[1] for band in self.bands)
        curves = (file for file in bands if file is not None)
        return (*models.model_files(self.model_name), *curves, *models.standards())

    def unused_modules(self) -> Sequence[str]:
        """Return the engines that do not fit, and what looks into a catalogue without one."""
        out = [] if self.redshift.catalog else ["ampel_spark.t2.fits.neighbours"]
        if self._engine() == "sncosmo":
            return (*out, "ampel_spark.t2.fits.batch_fit", "ampel_spark.salt")
        compiled = self._engine() == "batch" and _HAS_NUMBA
        other = "ampel_spark.salt.twin" if compiled else "ampel_spark.salt.batch"
        return (*out, "ampel_spark.t2.fits.fit_lc", other)

    def output_columns(self) -> Sequence[Column]:
        """Return the columns, with the observed maximum in each band."""
        peak = "model's maximum as observed, AB, with dust, where the band was fitted"
        bands = (Column(peak_column(b), "double", "mag", f"{b}: {peak}") for b in self.bands)
        return (*self.columns, *bands)

    def point_fields(self) -> Sequence[str]:
        """Return what of each point the fit reads."""
        return FIELDS if self.redshift.catalog is None else (*FIELDS, "ra", "dec")

    def states_per_task(self) -> int:
        """Return how many light curves are worth a task of their own."""
        return 16 if self._engine() == "sncosmo" else 1000

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        """Fit one light curve: a batch of one."""
        columns = self._fit(LightCurveBatch.of([light_curve]))
        row = {name: _scalar(values[0]) for name, values in columns.items()}
        if row["chisq"] is None:
            raise Refusal(str(row["message"]), int(row["status"]))
        return row

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any] | None:
        """Fit many light curves at once; `sncosmo.fit_lc` takes them one by one."""
        return None if self._engine() == "sncosmo" else self._fit(batch)

    def prepare(self) -> str | None:
        """Have the kernels compiled before many workers need them."""
        notes = [self._shifts_note()]
        if self._engine() == "batch" and not _HAS_NUMBA:
            notes.append(
                "numba is not installed: the plain engine fits, with the same results to 1e-6, "
                "several hundred times slower"
            )
        elif self._engine() == "batch":
            from ampel_spark.salt import warm

            warm()
        return "; ".join(note for note in notes if note) or None

    def _shifts_note(self) -> str:
        """Return which calibration shifts of the model's INFO file apply."""
        info = models.model_info(self.model_name) if self.is_salt else None
        if info is None or info.file is None or not info.shifts:
            return ""
        found = self._trained_with()
        words = [f"{b} {s:+g} mag" for b, s in found["mag"].items()]
        words += [f"{b} {s:+g} Å" for b, s in found["wave"].items()]
        applied = ", ".join(words) or "none is of the unit's bands (model_bands names them)"
        return f"{info.file.name}: of {len(info.shifts)} calibration shifts: {applied}"

    def fitted_waves(self) -> Range | None:
        """Return the effective wavelengths in the rest frame that are fitted, Å; None for all."""
        if isinstance(self.wave_range, tuple):
            return self.wave_range
        return models.wave_range(self.model_name) if self.wave_range == "model" else None

    def _trained_with(self) -> Mapping[str, Mapping[str, float]]:
        """Return the shifts of bands that the model was trained with, by `mag` and `wave`."""
        if not self.is_salt:
            return {"mag": {}, "wave": {}}
        names = {band: self.model_bands.get(band, "") for band in self.bands}
        return models.model_info(self.model_name).of_bands(names)

    def _engine(self) -> str:
        return self.engine if self.is_salt else "sncosmo"

    def _check_names(self, names: Sequence[str]) -> None:
        for what, given in (("fixed", self.fixed), ("bounds", self.bounds)):
            for name in given:
                if name not in names and name not in _BOUNDS:
                    hint = nearest(name, names)
                    raise ConfigError(f"{what}: {self.model_name} has no parameter {name!r}{hint}")

    def _task(self) -> Task:
        source = models.source(self.model_name)
        names = ("z", "t0", *source.param_names)
        shifts = _added(self.band_shifts, self._trained_with()["wave"], 1.0)
        bands = {name: models.bandpass(name)[0] for name in self.bands}
        iterative = self.phase_cut == "iterative"
        return Task(
            model=self.model_name,
            law=self.dust.law if self.dust else None,
            bands={
                name: curve and models.shifted(curve, shifts.get(name, 0.0))
                for name, curve in bands.items()
            },
            fixed=self.fixed,
            bounds={k: v for k, v in self.bounds.items() if k in names},
            phase_range=self.phase_range if iterative else None,
            observer=self.phase_frame == "observer",
            model_covariance=self.model_covariance,
            min_points=self.min_points,
            min_snr=self.min_peak_snr,
        )

    def _fit(self, batch: LightCurveBatch) -> dict[str, Any]:
        """Return all columns of a batch."""
        task = self._task()
        targets = targets_of(batch, self.redshift, self.dust)
        status, message = targets.status.copy(), targets.message.copy()
        points = self._choose(batch, task, targets)
        self._refuse(points, status, message, TOO_FEW_POINTS)
        if self.phase_range is not None and self.phase_cut == "peak":
            points = points.where(self._in_phase(points, targets))
            self._refuse(points, status, message, NO_PHASE_COVERAGE)
        points = points.where((status == 0)[points.group])
        objects = Objects(
            *(getattr(targets, k) for k in ("z", "low", "high", "mean", "sigma", "ebv"))
        )
        fits = self._minimise(points, objects, task, status == 0)
        self._judge(fits, points, status, message)
        good = np.isin(status, (0, NOT_CONVERGED))
        columns = self._columns(fits, points, targets)
        columns = {name: _masked(values, good) for name, values in columns.items()}
        return columns | {"status": status, "message": texts(message)}

    def _choose(self, batch: LightCurveBatch, task: Task, targets: FitTargets) -> FitPoints:
        source = models.source(self.model_name)
        choice = Choice(
            kinds=[_KINDS[kind] for kind in self.points],
            bands=task.bands,
            wave=(float(source.minwave()), float(source.maxwave())),
            centre=self.fitted_waves(),
            # The model's magnitudes are larger by MAGSHIFT, which is as if those of points were
            # smaller.
            zero_points=_added(self.zero_points, self._trained_with()["mag"], -1.0),
            min_snr=self.min_snr,
            error_floor=self.error_floor,
            error_fraction=self.error_fraction,
        )
        return choose(batch, choice, targets.low, targets.high)

    def _refuse(self, points: FitPoints, status: Array, message: Array, code: int) -> None:
        """Refuse objects with too few points, or none of these significant."""
        few = (status == 0) & (points.count < self.min_points)
        where = "in the phase range" if code == NO_PHASE_COVERAGE else "to fit"
        for i in numbers(few):
            text = f"{points.count[i]} points {where}, {self.min_points} needed"
            status[i], message[i] = code, _joined(text, *points.notes.get(i, ()))
        best = points.best(points.snr)
        for i in numbers((status == 0) & ~(best > self.min_peak_snr)):
            text = f"no point above S/N {self.min_peak_snr:g}: {best[i]:.1f} at best"
            status[i], message[i] = NO_SIGNAL, _joined(text, *points.notes.get(i, ()))

    def _in_phase(self, points: FitPoints, targets: FitTargets) -> Array:
        """Say which points lie in the phase range about the brightest of their object."""
        assert self.phase_range is not None
        days = points.time - points.brightest(self.min_peak_snr)[points.group]
        if self.phase_frame == "rest":
            days = days / (1.0 + targets.high[points.group])
        return np.asarray((days > self.phase_range[0]) & (days < self.phase_range[1]))

    def _minimise(self, points: FitPoints, objects: Objects, task: Task, wanted: Array) -> Fits:
        if self._engine() == "sncosmo":
            return fit_lc.fit_objects(points, objects, task, wanted)
        engine = "numpy" if self._engine() == "twin" else "auto"
        return batch_fit.fit_objects(points, objects, task, engine, wanted)

    def _judge(self, fits: Fits, points: FitPoints, status: Array, message: Array) -> None:
        """Refuse what was not fitted well enough; say what there is to say of the others."""
        chosen = points.where(fits.used)
        few, dark = chosen.count < self.min_points, ~(chosen.best(chosen.snr) > self.min_peak_snr)
        where = f"in the phase range above S/N {self.min_peak_snr:g}"
        for lost, code, text in (
            (few, NO_PHASE_COVERAGE, f"fewer than {self.min_points} points, or none {where}"),
            (dark, NO_SIGNAL, f"no point {where}"),
            (~np.isfinite(fits.chisq), NOT_CONVERGED, "no finite chi-square"),
        ):
            for i in numbers((status == 0) & lost):
                status[i], message[i] = code, _joined(text, *points.notes.get(i, ()))
        if self.coverage is not None:
            self._check_coverage(fits, chosen, status, message)
        status[(status == 0) & ~fits.success] = NOT_CONVERGED
        bound = at_bound(fits)
        bound[~np.isin(status, (0, NOT_CONVERGED))] = False
        any_bound: Array = np.any(bound, axis=1)
        noted = {*points.notes, *fits.notes, *np.flatnonzero(any_bound).tolist()}
        names = np.array(fits.names, object)
        for i in sorted(noted):
            if status[i] in (0, NOT_CONVERGED):
                words = (f"{', '.join(names[bound[i]])} at a bound",) if bound[i].any() else ()
                message[i] = _joined(*points.notes.get(i, ()), *fits.notes.get(i, ()), *words)

    def _check_coverage(self, fits: Fits, chosen: FitPoints, status: Array, message: Array) -> None:
        assert self.coverage is not None
        low, high = self.coverage
        for i in numbers(status == 0):
            times = chosen.time[chosen.offsets[i] : chosen.offsets[i + 1]][[0, -1]]
            first, last = (times - fits.values[i, 1]) / (1.0 + fits.values[i, 0])
            if not (first < low and last > high):
                text = f"phases {first:.1f} to {last:.1f} d do not cover {low:g} to {high:g} d"
                status[i], message[i] = NO_PHASE_COVERAGE, text

    def _columns(self, fits: Fits, points: FitPoints, targets: FitTargets) -> dict[str, Any]:
        """Return the columns of all objects, whether they were fitted or not."""
        cosmology, m = self.cosmology, len(fits)
        modulus = distance_modulus(fits.values[:, 0], cosmology.h0, cosmology.om0)
        engine = self._engine()
        if engine == "batch" and not _HAS_NUMBA:
            engine = "twin"
        return columns_of(fits, points, self.bands, self.max_reduced_chisq) | {
            "peak_absmag_b": fits.peak_b - modulus,
            "z_source": pa.array(targets.source, pa.string()),
            "z_distance": targets.distance,
            "mwebv": targets.ebv,
            "mw_law": pa.repeat(pa.scalar(self.dust.law if self.dust else None, pa.string()), m),
            "model": pa.repeat(pa.scalar(models.label(self.model_name), pa.string()), m),
            "engine": pa.repeat(pa.scalar(engine, pa.string()), m),
        }


def bandpass_of(name: str) -> sncosmo.Bandpass:
    """Return a band's curve from the data folder; by its name alone sncosmo might ask the network.

    Raises
    ------
    UnitError
        If the data folder does not have it.
    """
    bandpass, _ = models.bandpass(name)
    if bandpass is None:
        raise UnitError(
            f"no curve of band {name!r} in {models.data_dir()}; "
            "set SNCOSMO_DATA_DIR to a folder that has it"
        )
    return bandpass


def model_of(row: Mapping[str, Any]) -> sncosmo.Model:
    """Return the model that a row of the unit's table describes.

    Parameters
    ----------
    row : mapping
        With ``model, z, t0, x0, x1, c, mwebv, mw_law``, and the parameters of models that are not
        SALT.

    Raises
    ------
    ConfigError
        If the model's files are not in the data folder.
    """
    law = row.get("mw_law")
    model = models.model(row["model"], law)
    model.set(z=row["z"], t0=row["t0"])
    if row.get("parameter_names") is None:
        model.set(x0=row["x0"], x1=row["x1"], c=row["c"])
    else:
        model.set(**dict(zip(row["parameter_names"], row["parameters"], strict=True)))
    if law:
        model.set(mwebv=row["mwebv"])
    return model


def flux_error(
    row: Mapping[str, Any], model: sncosmo.Model, band: Any, time: Any, zp: float
) -> Any:
    """Return how well a row's model is known: the error of its flux in a band.

    The fit's covariance, carried over by the model's derivatives, and the model's own scatter where
    it has one (Guy et al. 2010, doi:10.1051/0004-6361/201014468).

    Parameters
    ----------
    row : mapping
        With ``fitted``, ``covariance`` and the errors.
    model : sncosmo.Model
        Of `model_of`; unchanged afterwards.
    band : sncosmo.Bandpass
    time : array-like with shape (N,)
        JD.
    zp : float
        AB zero point.

    Returns
    -------
    ndarray with shape (N,)
    """
    time = np.asarray(time, np.float64)
    names, flat = list(row.get("fitted") or ()), row.get("covariance")
    covariance = (
        np.zeros((len(names),) * 2) if flat is None else np.reshape(flat, (len(names),) * 2)
    )
    slopes = np.zeros((len(names), len(time)))
    for slope, name, variance in zip(slopes, names, np.diag(covariance), strict=True):
        value = model.get(name)
        # Small beside the error, and t0 not beyond the model's first and last phase.
        step = min(0.01 * np.sqrt(variance), 0.005 if name == "t0" else np.inf)
        if step > 0:
            above, below = (
                _flux_with(model, name, value + side * step, band, time, zp) for side in (1, -1)
            )
            slope[:] = (above - below) / (2.0 * step)
            model.set(**{name: value})
    total: Array = np.einsum("in,ij,jn->n", slopes, covariance, slopes)
    if hasattr(model.source, "bandflux_rcov"):
        total = total + np.diag(model.bandfluxcov(band, time, zp=zp, zpsys="ab")[1])
    return np.sqrt(np.maximum(total, 0.0))


def _flux_with(
    model: sncosmo.Model, name: str, value: float, band: Any, time: Array, zp: float
) -> Array:
    model.set(**{name: value})
    return np.asarray(model.bandflux(band, time, zp=zp, zpsys="ab"))


def _added(
    given: Mapping[str, float], more: Mapping[str, float], factor: float
) -> dict[str, float]:
    """Return numbers by band with others, times a factor, added to them."""
    return {band: given.get(band, 0.0) + factor * more.get(band, 0.0) for band in (*given, *more)}


def _masked(values: Any, good: Array) -> pa.Array:
    """Return a column with nulls where the object has no fit, and for NaN."""
    if isinstance(values, np.ndarray):
        absent = ~good | np.isnan(values) if values.dtype.kind == "f" else ~good
        return pa.array(values, mask=absent)
    return values if good.all() else pc.if_else(pa.array(good), values, None)


def _scalar(value: Any) -> Any:
    """Return a value of a column as plain Python has it."""
    return value.as_py() if isinstance(value, pa.Scalar) else value.item()


def _joined(*notes: str) -> str:
    return "; ".join(notes)
