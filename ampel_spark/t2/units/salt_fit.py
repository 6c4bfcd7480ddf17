"""SALT2 and SALT3 fits of type Ia supernovae, by `sncosmo.fit_lc`.

A fit goes through these steps, and each may end it with a `Refusal`:

1. choose points: kind, band, signal-to-noise ratio;
2. find the redshift, and the Milky Way's E(B-V);
3. fit, keep the points within the phase range about the fitted t0, and fit again until that is so.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import sncosmo
from astropy.cosmology import FlatLambdaCDM
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from scipy.stats import chi2

from ampel_spark.errors import UnitError, nearest
from ampel_spark.t2.lightcurve import DETECTION, FORCED, LightCurve
from ampel_spark.t2.unit import MISSING_DEPENDENCY, Column, Refusal, Unit
from ampel_spark.t2.units import _sncosmo
from ampel_spark.t2.units._fit_lc import Fit, Photometry, fit
from ampel_spark.t2.units.catalog_match import read_catalog

__all__ = [
    "NOT_CONVERGED",
    "NO_PHASE_COVERAGE",
    "NO_SIGNAL",
    "TOO_FEW_POINTS",
    "Dust",
    "Redshift",
    "SaltFit",
    "bandpass_of",
    "model_of",
]

Array = npt.NDArray[Any]
Range = tuple[float, float]

# Statuses beside AMPEL's: -2008 where the redshift is missing, -2006 where a tied result is.
TOO_FEW_POINTS = 1
NO_SIGNAL = 2
NO_PHASE_COVERAGE = 3
NOT_CONVERGED = 4

_BOUNDS: dict[Any, Range] = {"x1": (-5.0, 5.0), "c": (-1.0, 2.0)}
_KINDS = {"detection": DETECTION, "forced": FORCED}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Redshift(_Part):
    """Where the redshift comes from: exactly one of `value`, `unit`, `catalog` and `fit`."""

    value: float | None = Field(default=None, gt=0)
    "One redshift for all objects (also as a bare number)."

    unit: str | None = None
    "T2 entry with the redshift in `column`, such as a catalog_match."

    catalog: Path | None = None
    "Catalogue: the row nearest to the mean position of the detections, within `radius`."

    fit: Range | None = None
    "Range in which it is fitted, for all objects."

    column: str = "z"
    "Column of the entry or the catalogue; what is not above 0 there is no redshift."

    radius: float = Field(default=5.0, gt=0)
    "Largest distance to a row of the catalogue, arcsec."

    ra: str = "ra"
    "Column of the catalogue with the right ascension, degrees."

    dec: str = "dec"
    "Column of the catalogue with the declination, degrees."

    otherwise: Literal["refuse"] | Range = "refuse"
    "Where there is none: `refuse`, or the range in which it is then fitted."

    @model_validator(mode="before")
    @classmethod
    def _number(cls, data: Any) -> Any:
        return {"value": data} if isinstance(data, int | float) else data

    @model_validator(mode="after")
    def _one_source(self) -> Redshift:
        given = [k for k in ("value", "unit", "catalog", "fit") if getattr(self, k) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of value, unit, catalog and fit, not {found}")
        for bounds in (self.fit, self.otherwise):
            if isinstance(bounds, tuple) and not 0 < bounds[0] < bounds[1]:
                raise ValueError(
                    f"{list(bounds)} is no range of redshifts: give [low, high] above 0"
                )
        return self


class Dust(_Part):
    """The Milky Way's dust: its law, and where E(B-V) comes from."""

    law: Literal["CCM89", "O94", "F99"] = "F99"
    "Cardelli, Clayton & Mathis 1989; O'Donnell 1994; Fitzpatrick 1999. R_V is 3.1."

    unit: str | None = "milky_way_dust"
    "T2 entry with E(B-V) in `column`."

    column: str = "ebv"
    "Its column."

    ebv: float | None = Field(default=None, ge=0)
    "One E(B-V) for all objects, mag, instead of an entry."


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

    engine: Literal["sncosmo"] = "sncosmo"
    "What minimises: sncosmo.fit_lc."

    model: str = "salt3/2.0"
    "Model and version; the version is never left open."

    redshift: Redshift
    "A number, or where it comes from."

    dust: Dust | None = None
    "Milky-Way dust; none by default."

    bands: tuple[str, ...] = ("ztfg", "ztfr", "ztfi")
    "Bands to fit, where the data folder has their curves."

    points: tuple[Literal["detection", "forced"], ...] = ("detection", "forced")
    "Kinds to fit; forced photometry stands in for a detection of the same time and band."

    fixed: dict[Literal["x1", "c"], float] = Field(default_factory=dict)
    "Parameters that are held, with their values."

    bounds: dict[Literal["t0", "x0", "x1", "c"], Range] = Field(default_factory=_BOUNDS.copy)
    "Bounds, on top of these; those of t0 follow from the data unless given."

    phase_range: Range | None = (-15.0, 45.0)
    "Rest-frame days from t0 to fit, or none for all points."

    phase_cut: Literal["iterative", "peak"] = "iterative"
    "About the fitted t0, again until nothing changes; or once, about the brightest point."

    coverage: Range | None = None
    "Phases: the first point must lie before the one, the last point after the other."

    min_points: int = Field(default=5, ge=1)
    "Fewest points to fit."

    min_snr: float | None = None
    "Points below this flux/error are left out. Cuts like this bias what is faint."

    min_peak_snr: float = 5.0
    "At least one point must be above this, as sncosmo asks for its first guess."

    error_floor: float = Field(default=0.0, ge=0)
    "Added to errors in quadrature, flux at zero point 25."

    error_fraction: float = Field(default=0.0, ge=0)
    "Fraction of the flux added to errors in quadrature."

    model_covariance: bool = True
    "Whether the model's own scatter counts."

    libraries = ("astropy", "extinction", "iminuit", "numpy", "scipy", "sncosmo")
    columns = (
        Column("z", "double", "", "redshift"),
        Column("z_err", "double", "", "its error where fitted"),
        Column("t0", "double", "d", "JD of B-band maximum"),
        Column("t0_err", "double", "d", "its error"),
        Column("x0", "double", "", "amplitude"),
        Column("x0_err", "double", "", "its error"),
        Column("x1", "double", "", "stretch"),
        Column("x1_err", "double", "", "its error where fitted"),
        Column("c", "double", "mag", "colour"),
        Column("c_err", "double", "mag", "its error where fitted"),
        Column("covariance", "array<double>", "", "row by row over the fitted parameters"),
        Column("fitted", "array<string>", "", "fitted parameters, in the order of the covariance"),
        Column("chisq", "double", "", "chi square at the minimum"),
        Column("ndof", "int", "", "points less fitted parameters"),
        Column("probability", "double", "", "of a larger chi square by chance"),
        Column("n_points", "int", "", "points fitted"),
        Column("bands", "array<string>", "", "bands fitted"),
        Column("mwebv", "double", "mag", "Milky-Way E(B-V); null without dust"),
        Column("mw_law", "string", "", "its law; null without dust"),
        Column("model", "string", "", "model and version"),
        Column("at_bound", "boolean", "", "whether a fitted parameter is at a bound"),
        Column("success", "boolean", "", "whether the minimum is a good one"),
        Column("z_source", "string", "", "value, unit, catalog or fit"),
        Column("z_distance", "double", "arcsec", "distance to where the redshift comes from"),
        Column("phase_first", "double", "d", "rest-frame phase of the first point fitted"),
        Column("phase_last", "double", "d", "rest-frame phase of the last point fitted"),
        Column("jd_model_start", "double", "d", "JD before which the model is zero"),
        Column("jd_model_end", "double", "d", "JD after which the model is zero"),
        Column("peak_mag_b", "double", "mag", "model's rest-frame Bessell B maximum, AB, no dust"),
        Column(
            "peak_absmag_b", "double", "mag",
            "the same as absolute magnitude, flat LCDM with H0 70 km/s/Mpc and Omega_m 0.3",
        ),
        Column("n_pulls", "int", "", "points at rest-frame phases -10 to 20 d"),
        Column("mean_abs_pull", "double", "", "their mean |flux - model| / error"),
    )  # fmt: skip

    @field_validator("model")
    @classmethod
    def _known_model(cls, name: str) -> str:
        if name not in _sncosmo.MODELS:
            raise ValueError(f"no such model{nearest(name, _sncosmo.MODELS)} (with its version)")
        return name

    @field_validator("phase_range", "coverage")
    @classmethod
    def _is_range(cls, value: Range | None) -> Range | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError("give [low, high]")
        return value

    @field_validator("bounds")
    @classmethod
    def _are_ranges(cls, value: dict[str, Range]) -> dict[str, Range]:
        for name, bounds in value.items():
            if not bounds[0] < bounds[1]:
                raise ValueError(f"{name}: give [low, high]")
        return _BOUNDS | value

    def needs(self) -> Sequence[str]:
        """Return the entries that redshift and E(B-V) come from."""
        names = [self.redshift.unit]
        if self.dust is not None and self.dust.ebv is None:
            names.append(self.dust.unit)
        return tuple(dict.fromkeys(name for name in names if name))

    def files(self) -> Sequence[Path]:
        """Return the model's folder and the curves of the bands."""
        bands = (_sncosmo.bandpass(band)[1] for band in self.bands)
        return (_sncosmo.model_dir(self.model), *(file for file in bands if file is not None))

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        """Fit one light curve."""
        z, z_range, z_source, z_distance = self._redshift(light_curve)
        ebv = self._ebv(light_curve)
        model = _sncosmo.model(self.model, self.dust.law if self.dust else None)
        model.set(z=0.5 * sum(z_range) if z_range else z, **self.fixed)
        if self.dust:
            model.set(mwebv=ebv)
        data, notes = self._photometry(light_curve, model, z_range)
        phase_range = self.phase_range
        if phase_range is not None and self.phase_cut == "peak":
            days = data.time - data.brightest(self.min_peak_snr)
            phase = days / (1.0 + (z_range[1] if z_range else z))
            data = data.where((phase > phase_range[0]) & (phase < phase_range[1]))
            self._check(data, notes, NO_PHASE_COVERAGE)
            phase_range = None
        names = [n for n in ("t0", "x0", "x1", "c") if n not in self.fixed]
        best = fit(
            data,
            model,
            ["z", *names] if z_range else names,
            self.bounds | ({"z": z_range} if z_range else {}),
            min_snr=self.min_peak_snr,
            model_covariance=self.model_covariance,
            phase_range=phase_range,
            min_points=self.min_points,
        )
        if best is None:
            raise Refusal(_joined("too few points in the phase range", *notes), NO_PHASE_COVERAGE)
        row = _row(best)
        if self.coverage and not (
            row["phase_first"] < self.coverage[0] and row["phase_last"] > self.coverage[1]
        ):
            raise Refusal(
                f"phases {row['phase_first']:.1f} to {row['phase_last']:.1f} d do not cover "
                f"{self.coverage[0]:g} to {self.coverage[1]:g} d",
                NO_PHASE_COVERAGE,
            )
        return row | {
            "z_source": z_source,
            "z_distance": z_distance,
            "mwebv": ebv,
            "mw_law": self.dust.law if self.dust else None,
            "model": self.model,
            "status": 0 if best.success else NOT_CONVERGED,
            "message": _joined(*notes, *best.notes) or None,
        }

    def _redshift(self, curve: LightCurve) -> tuple[float, Range | None, str, float | None]:
        """Return the redshift, the range if it is fitted, its source, and the distance to that."""
        source = self.redshift
        if source.value is not None:
            return source.value, None, "value", None
        if source.fit is not None:
            return np.nan, source.fit, "fit", None
        if source.unit is not None:
            result = _tied(curve, source.unit)
            z, distance, name = result.get(source.column), result.get("distance"), "unit"
            where = f"in {source.unit}.{source.column}"
        else:
            z, distance = self._nearest_redshift(curve)
            name, where = "catalog", f"within {source.radius:g} arcsec"
        if z is not None and np.isfinite(z) and z > 0:
            return float(z), None, name, None if distance is None else float(distance)
        if source.otherwise == "refuse":
            raise Refusal(f"no redshift {where}")
        return np.nan, source.otherwise, "fit", None

    def _nearest_redshift(self, curve: LightCurve) -> tuple[float | None, float | None]:
        source = self.redshift
        assert source.catalog is not None
        catalog = read_catalog(source.catalog, source.ra, source.dec, (source.column,))
        found = catalog.nearest(*curve.position(), source.radius)
        return catalog.take(found.row)[source.column][0].as_py(), float(found.distance[0])

    def _ebv(self, curve: LightCurve) -> float | None:
        if self.dust is None:
            return None
        if self.dust.ebv is not None:
            return self.dust.ebv
        ebv = _tied(curve, self.dust.unit).get(self.dust.column)
        if ebv is None or not np.isfinite(ebv):
            raise Refusal(f"no E(B-V) in {self.dust.unit}.{self.dust.column}", MISSING_DEPENDENCY)
        return float(ebv)

    def _photometry(
        self, curve: LightCurve, model: sncosmo.Model, z_range: Range | None
    ) -> tuple[Photometry, list[str]]:
        """Choose the points to fit, and say what was left out for want of a band's curve."""
        points = curve.fluxes
        points = points.where(np.isin(points.kind, [_KINDS[k] for k in self.points]))
        points = points.where(~_replaced(points) & (points.fluxerr > 0))
        notes = []
        curves: dict[str, sncosmo.Bandpass] = {}
        for band in sorted(set(points.band)):
            found = self._curve(band, model, z_range or (model.get("z"),))
            if isinstance(found, str):
                n = int((points.band == band).sum())
                notes.append(f"dropped {n} points in {band}: {found}")
            else:
                curves[band] = found
        points = points.where(np.array([band in curves for band in points.band], bool))
        other = points.zpsys != "ab"
        if other.any():
            notes.append(f"dropped {int(other.sum())} points with zero points that are not AB")
            points = points.where(~other)
        # A negative subtraction is a negative flux, whatever a calibration made of it.
        flux = np.where(points.sign < 0, -np.abs(points.flux), points.flux)
        if self.min_snr is not None:
            bright = flux > self.min_snr * points.fluxerr
            points, flux = points.where(bright), flux[bright]
        floor = self.error_floor * 10.0 ** (0.4 * (points.zp - 25.0))
        error = np.sqrt(points.fluxerr**2 + floor**2 + (self.error_fraction * flux) ** 2)
        bands = np.array([curves[band] for band in points.band], object)
        data = Photometry(points.jd, points.band, bands, flux, error, points.zp)
        self._check(data, notes, TOO_FEW_POINTS)
        return data, notes

    def _curve(self, band: str, model: sncosmo.Model, z: Sequence[float]) -> sncosmo.Bandpass | str:
        """Return a band's curve, or why it cannot be fitted."""
        if band not in self.bands:
            return "not among the unit's bands"
        curve = _sncosmo.bandpass(band)[0]
        if curve is None:
            return "no curve in the data folder (SNCOSMO_DATA_DIR)"
        if not np.all(model.bandoverlap(curve, z=np.array(z))):
            return f"outside the model's wavelengths at z {z[-1]:g}"
        return curve

    def _check(self, data: Photometry, notes: Sequence[str], status: int) -> None:
        if len(data) < self.min_points:
            where = "in the phase range" if status == NO_PHASE_COVERAGE else "to fit"
            raise Refusal(
                _joined(f"{len(data)} points {where}, {self.min_points} needed", *notes), status
            )
        if not (data.snr > self.min_peak_snr).any():
            best = f"no point above S/N {self.min_peak_snr:g}: {data.snr.max():.1f} at best"
            raise Refusal(_joined(best, *notes), NO_SIGNAL)


def bandpass_of(name: str) -> sncosmo.Bandpass:
    """Return a band's curve from the data folder; by its name alone sncosmo might ask the network.

    Raises
    ------
    UnitError
        If the data folder does not have it.
    """
    bandpass, _ = _sncosmo.bandpass(name)
    if bandpass is None:
        raise UnitError(
            f"no curve of band {name!r} in {_sncosmo.data_dir()}; "
            "set SNCOSMO_DATA_DIR to a folder that has it"
        )
    return bandpass


def model_of(row: Mapping[str, Any]) -> sncosmo.Model:
    """Return the model that a row of the unit's table describes.

    Parameters
    ----------
    row : mapping
        With ``model, z, t0, x0, x1, c, mwebv, mw_law``.

    Raises
    ------
    ConfigError
        If the model's files are not in the data folder.
    """
    law = row.get("mw_law")
    model = _sncosmo.model(row["model"], law)
    model.set(**{name: row[name] for name in ("z", "t0", "x0", "x1", "c")})
    if law:
        model.set(mwebv=row["mwebv"])
    return model


def _row(best: Fit) -> dict[str, Any]:
    """Return the columns that follow from the fit alone."""
    model, data = best.model, best.data
    values = {name: float(model.get(name)) for name in ("z", "t0", "x0", "x1", "c")}
    ndof = len(data) - len(best.fitted)
    phase = best.phase(data.time)
    predicted = model.bandflux(data.curve, data.time, zp=data.zp, zpsys="ab")
    # Every point against its own zero point.
    pulls = np.abs((data.flux - predicted) / data.error)[(phase >= -10.0) & (phase <= 20.0)]
    magnitude = np.nan
    if values["x0"] > 0:
        magnitude = float(model.source_peakmag("bessellb", "ab", sampling=0.5))
    return {
        **values,
        **{f"{name}_err": best.errors.get(name) for name in values},
        "covariance": None if best.covariance is None else best.covariance.ravel().tolist(),
        "fitted": list(best.fitted),
        "chisq": best.chisq,
        "ndof": ndof,
        "probability": float(chi2.sf(best.chisq, ndof)) if ndof > 0 else None,
        "n_points": len(data),
        "bands": sorted(set(data.band)),
        "at_bound": best.at_bound,
        "success": best.success,
        "phase_first": float(phase.min()),
        "phase_last": float(phase.max()),
        "jd_model_start": float(model.mintime()),
        "jd_model_end": float(model.maxtime()),
        "peak_mag_b": magnitude,
        "peak_absmag_b": magnitude - _distance_modulus(values["z"]),
        "n_pulls": len(pulls),
        "mean_abs_pull": float(pulls.mean()) if len(pulls) else None,
    }


@functools.lru_cache(maxsize=256)
def _distance_modulus(z: float) -> float:
    return float(FlatLambdaCDM(H0=70.0, Om0=0.3).distmod(z).value)


def _tied(curve: LightCurve, unit: str | None) -> Mapping[str, Any]:
    """Return the result of a tied unit."""
    result = curve.results.get(unit or "")
    if result is None:
        raise Refusal(f"no result of {unit}", MISSING_DEPENDENCY)
    return result


def _replaced(points: LightCurve) -> Array:
    """Mark detections whose exposure has forced photometry among the points."""
    exposures = list(zip(points.jd, points.band, strict=True))
    forced = {e for e, kind in zip(exposures, points.kind, strict=True) if kind == FORCED}
    doubled: Array = np.array([e in forced for e in exposures], bool)
    doubled &= points.kind == DETECTION
    return doubled


def _joined(*notes: str) -> str:
    return "; ".join(notes)
