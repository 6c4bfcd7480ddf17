"""Where a fit takes an object's redshift and dust from: a number, a tied unit, a catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ampel_spark.lightcurve import LightCurveBatch
from ampel_spark.t2.unit import MISSING_DEPENDENCY, MISSING_INFO

__all__ = [
    "Dust",
    "ParameterGroup",
    "Range",
    "Redshift",
    "FitTargets",
    "targets_of",
    "tied_columns",
]

Array = npt.NDArray[Any]
Range = tuple[float, float]

#: A Gaussian prior ends this many sigma away, and never below this redshift.
_WIDTH, _LOWEST = 5.0, 1e-4


class ParameterGroup(BaseModel):
    """A group of parameters of a unit."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Redshift(ParameterGroup):
    """Where the redshift comes from: exactly one of `value`, `unit`, `catalog` and `fit`."""

    value: float | None = Field(default=None, gt=0)
    "One redshift for all objects (also as a bare number)."

    unit: str | None = None
    "T2 entry with the redshift in `column`, such as a catalog_match."

    catalog: Path | None = None
    "Catalogue, a file: the row nearest to the mean position of the detections, within `radius`."

    fit: Range | None = None
    "Range in which it is fitted, for all objects."

    column: str = "z"
    "Column of the entry or the catalogue; what is not above 0 there is no redshift."

    sigma: float | None = Field(default=None, gt=0)
    "Fit the redshift too, with a Gaussian prior of this width about what was found."

    sigma_column: str | None = None
    "Column with the width of the prior; where it is not above 0 the redshift is held."

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
        if self.sigma is not None and self.sigma_column is not None:
            raise ValueError("give sigma or sigma_column, not both")
        if self.catalog is not None:
            # Without a catalogue nothing of this module is in the unit's trace.
            from ampel_spark.t2.fits.neighbours import check_is_file

            check_is_file(self.catalog)
        if self.fit is not None and self.has_prior:
            raise ValueError("a prior needs a redshift: fit has a range alone")
        if self.value is not None and self.sigma_column is not None:
            raise ValueError("sigma_column is one of an entry or a catalogue: give sigma")
        return self

    @property
    def has_prior(self) -> bool:
        """Whether redshifts are fitted about what was found."""
        return self.sigma is not None or self.sigma_column is not None


class Dust(ParameterGroup):
    """The Milky Way's dust: its law, and where E(B-V) comes from."""

    law: Literal["CCM89", "O94", "F99"] = "F99"
    "Cardelli, Clayton & Mathis 1989; O'Donnell 1994; Fitzpatrick 1999. R_V is 3.1."

    unit: str | None = "milky_way_dust"
    "T2 entry with E(B-V) in `column`."

    column: str = "ebv"
    "Its column."

    ebv: float | None = Field(default=None, ge=0)
    "One E(B-V) for all objects, mag, instead of an entry."

    scale: float = Field(default=1.0, ge=0)
    "What E(B-V) is multiplied by: 0.86 makes SFD's that of Schlafly & Finkbeiner 2011."

    @model_validator(mode="after")
    def _has_a_source(self) -> Dust:
        if self.unit is None and self.ebv is None:
            raise ValueError("give unit or ebv; for a fit without dust, dust: null")
        return self


@dataclass(frozen=True, eq=False)
class FitTargets:
    """What is known of each object of a batch; arrays have shape (M,).

    Attributes
    ----------
    z : redshift where it is held, else NaN
    low, high : range in which it is fitted; both `z` where it is held
    mean, sigma : Gaussian prior on a fitted redshift; NaN for none
    source : value, unit, catalog or fit
    distance : arcsec to where the redshift is from, or NaN
    ebv : Milky-Way E(B-V), scaled; NaN for none
    status, message : other than 0 and "" where the object is refused
    """

    z: Array
    low: Array
    high: Array
    mean: Array
    sigma: Array
    source: Array
    distance: Array
    ebv: Array
    status: Array
    message: Array

    def is_free(self) -> Array:
        """Say where the redshift is fitted."""
        return np.isnan(self.z) & np.isfinite(self.low)


def tied_columns(redshift: Redshift, dust: Dust | None) -> dict[str, list[str]]:
    """Return the columns that are read of tied units, by unit."""
    found: dict[str, list[str]] = {}
    if redshift.unit is not None:
        found[redshift.unit] = [c for c in (redshift.column, redshift.sigma_column) if c]
    if dust is not None and dust.ebv is None and dust.unit is not None:
        found.setdefault(dust.unit, []).append(dust.column)
    return found


def targets_of(batch: LightCurveBatch, redshift: Redshift, dust: Dust | None) -> FitTargets:
    """Look up the redshifts and E(B-V) of the objects of a batch."""
    m = len(batch)
    status, message = np.zeros(m, np.int32), np.full(m, "", object)

    def refuse(where: Array, code: int, text: str) -> None:
        where = where & (status == 0)
        status[where], message[where] = code, text

    found = _found(batch, redshift)
    refuse(~found.present, MISSING_DEPENDENCY, f"no result of {redshift.unit}")
    z, sigma = found.z, found.sigma
    if redshift.sigma is not None:
        sigma = np.full(m, redshift.sigma)
    known = np.isfinite(z) & (z > 0)
    bounds = redshift.fit or (redshift.otherwise if redshift.otherwise != "refuse" else None)
    if bounds is None:
        refuse(~known, MISSING_INFO, found.absent)
        bounds = (np.nan, np.nan)
    prior = known & np.isfinite(sigma) & (sigma > 0)
    width = np.where(prior, _WIDTH * sigma, 0.0)
    lowest = np.maximum(z - width, np.minimum(_LOWEST, 0.5 * z))
    low = np.where(known, np.where(prior, lowest, z), bounds[0])
    ebv = np.full(m, np.nan)
    if dust is not None and dust.ebv is not None:
        ebv[:] = dust.ebv * dust.scale
    elif dust is not None and dust.unit is not None:
        present, ebv = batch.tied(dust.unit, dust.column)
        refuse(~present, MISSING_DEPENDENCY, f"no result of {dust.unit}")
        text = f"no E(B-V) in {dust.unit}.{dust.column}"
        refuse(~np.isfinite(ebv), MISSING_DEPENDENCY, text)
        ebv = ebv * dust.scale
    return FitTargets(
        z=np.where(known & ~prior, z, np.nan),
        low=low,
        high=np.where(known, z + width, bounds[1]),
        mean=np.where(prior, z, np.nan),
        sigma=np.where(prior, sigma, np.nan),
        source=np.where(known, found.source, "fit").astype(object),
        distance=np.where(known, found.distance, np.nan),
        ebv=ebv,
        status=status,
        message=message,
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """Redshifts as they were found; arrays have shape (M,).

    Attributes
    ----------
    z, sigma, distance : NaN where there is none
    present : false where the tied unit has no result
    source : value, unit, catalog or fit
    absent : what to say where there is no redshift
    """

    z: Array
    sigma: Array
    distance: Array
    present: Array
    source: str
    absent: str = ""


def _found(batch: LightCurveBatch, redshift: Redshift) -> _Found:
    """Look up redshifts where a fit is to take them from."""
    none = np.full(len(batch), np.nan)
    everywhere = np.ones(len(batch), bool)
    if redshift.value is not None:
        return _Found(np.full(len(batch), redshift.value), none, none, everywhere, "value")
    if redshift.unit is not None:
        present, z = batch.tied(redshift.unit, redshift.column)
        sigma = none
        if redshift.sigma_column is not None:
            sigma = batch.tied(redshift.unit, redshift.sigma_column)[1]
        absent = f"no redshift in {redshift.unit}.{redshift.column}"
        return _Found(z, sigma, _distances(batch, redshift), present, "unit", absent)
    if redshift.catalog is not None:
        from ampel_spark.t2.fits.neighbours import nearest_numbers

        columns = [c for c in (redshift.column, redshift.sigma_column) if c]
        distance, (z, *sigmas) = nearest_numbers(
            batch, redshift.catalog, redshift.ra, redshift.dec, columns, redshift.radius
        )
        absent = f"no redshift within {redshift.radius:g} arcsec"
        sigma = sigmas[0] if sigmas else none
        return _Found(z, sigma, distance, everywhere, "catalog", absent)
    return _Found(none, none, none, everywhere, "fit")


def _distances(batch: LightCurveBatch, redshift: Redshift) -> Array:
    """Return the distances (arcsec) that go with the redshifts of a tied unit, NaN without any.

    A match of several catalogues begins each one's columns with its name, and redshift_digest has a
    name of its own; a unit has one of these columns.
    """
    parts = redshift.column.split("_")
    starts = ["_".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]
    names = ["ampel_dist"] if redshift.column == "ampel_z" else []
    found = np.full(len(batch), np.nan)
    for name in (*names, *(f"{start}_distance" for start in starts), "distance"):
        found = batch.tied(str(redshift.unit), name)[1]
        if np.isfinite(found).any():
            break
    return found
