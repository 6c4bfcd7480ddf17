"""The Milky Way's reddening towards an object."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict

from ampel_spark.document import read_document
from ampel_spark.files import Read, current
from ampel_spark.lightcurve import LightCurve, LightCurveBatch
from ampel_spark.sky.dust import DustMap
from ampel_spark.t2.unit import MISSING_INFO, Column, Refusal, Unit

__all__ = ["MilkyWayDust", "Position"]

_NO_POSITION = "no detection has a position"


def _map_file(value: Any) -> Any:
    """Turn the name of a map of the project into the path of its sidecar."""
    if not isinstance(value, str) or "/" in value or Path(value).suffix:
        return value
    folder = Path(__file__).resolve().parents[3] / "conf" / "dust"
    path = folder / f"{value}.yml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yml")))
        raise ValueError(f"no dust map of this name in {folder} (there: {known}); or give a path")
    return path


class Position(BaseModel):
    """A position that another entry knows, such as an object_table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    unit: str
    "T2 entry with the position."

    ra: str = "ra"
    "Its column with the right ascension, degrees ICRS."

    dec: str = "dec"
    "Its column with the declination, degrees ICRS."


class MilkyWayDust(Unit):
    """E(B-V) from a HEALPix map, at the mean position of the detections.

    Of the forced points where there is no detection; or where another entry says the object is.
    """

    map: Annotated[Path, BeforeValidator(_map_file)]
    "Name of a map in conf/dust, or the path of a FITS file or of its sidecar."

    position: Position | None = None
    "Where the position comes from; by default from the light curve."

    libraries = ("astropy-healpix", "numpy")
    columns = (
        Column("ebv", "double", "mag", "E(B-V) of the Milky Way, in steps of 1e-6"),
        Column("ra", "double", "deg", "right ascension it is taken at, ICRS"),
        Column("dec", "double", "deg", "declination it is taken at, ICRS"),
    )

    def needs(self) -> Sequence[str]:
        """Return the entry that the position comes from."""
        return () if self.position is None else (self.position.unit,)

    def tied_columns(self) -> Mapping[str, Sequence[str]]:
        """Return the columns that the position comes from."""
        where = self.position
        return {} if where is None else {where.unit: [where.ra, where.dec]}

    def subjects(self, batch: LightCurveBatch) -> Sequence[str]:
        """Return the positions: no photometry is looked at."""
        if self.position is not None:
            return [""] * len(batch)  # what it is tied to says it
        return [f"{ra!r} {dec!r}" for ra, dec in np.transpose(batch.positions()).tolist()]

    def files(self) -> Sequence[Path]:
        """Return the FITS file that a sidecar names, or the sidecar of a FITS file."""
        _read(self.map)  # an error tells what is wrong with the map
        return _beside(self.map)

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        """Look one position up."""
        ra, dec = light_curve.position()
        if self.position is not None:
            row = light_curve.results[self.position.unit]
            ra, dec = (
                np.nan if row.get(k) is None else float(row[k])
                for k in (self.position.ra, self.position.dec)
            )
        if not (np.isfinite(ra) and np.isfinite(dec)):
            raise Refusal(self._nowhere())
        return {"ebv": float(np.round(_read(self.map).ebv(ra, dec), 6)), "ra": ra, "dec": dec}

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        """Look many positions up at once."""
        ra, dec = self._positions(batch)
        good = np.isfinite(ra) & np.isfinite(dec)
        ebv = np.full(len(batch), np.nan)
        if good.any():
            # Rounded, as the last bits may depend on how many positions there are.
            ebv[good] = np.round(_read(self.map).ebv(ra[good], dec[good]), 6)
        return {
            "ebv": ebv,
            "ra": ra,
            "dec": dec,
            "status": np.where(good, 0, MISSING_INFO),
            "message": [None if g else self._nowhere() for g in good],
        }

    def _positions(self, batch: LightCurveBatch) -> tuple[Any, Any]:
        if self.position is None:
            return batch.positions()
        unit = self.position.unit
        return batch.tied(unit, self.position.ra)[1], batch.tied(unit, self.position.dec)[1]

    def _nowhere(self) -> str:
        where = self.position
        return _NO_POSITION if where is None else f"no position in {where.unit}"


def _read(path: Path) -> DustMap:
    found: DustMap = current(_map, path).what
    return found


@functools.lru_cache(maxsize=4)
def _map(path: Path) -> Read:
    return Read.of(DustMap.read(path), [path, *_beside(path)])


def _beside(path: Path) -> tuple[Path, ...]:
    """Return the FITS file that a sidecar names, or the sidecar of a FITS file."""
    if path.suffix in (".yml", ".yaml"):
        return (path.parent / str(read_document(path).content["file"]),)
    sidecar = path.with_suffix(".yml")
    return (sidecar,) if sidecar.is_file() else ()
