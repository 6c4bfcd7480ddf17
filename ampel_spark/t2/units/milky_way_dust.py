"""The Milky Way's reddening towards an object."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator

from ampel_spark.document import read_document
from ampel_spark.files import Read, current
from ampel_spark.lightcurve import LightCurve, LightCurveBatch
from ampel_spark.sky.dust import DustMap
from ampel_spark.t2.unit import MISSING_INFO, Column, Refusal, Unit

__all__ = ["MilkyWayDust"]

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


class MilkyWayDust(Unit):
    """E(B-V) from a HEALPix map, at the mean position of the detections.

    Of the forced points where there is no detection.
    """

    map: Annotated[Path, BeforeValidator(_map_file)]
    "Name of a map in conf/dust, or the path of a FITS file or of its sidecar."

    libraries = ("astropy-healpix", "numpy")
    columns = (
        Column("ebv", "double", "mag", "E(B-V) of the Milky Way, in steps of 1e-6"),
        Column("ra", "double", "deg", "right ascension it is taken at, ICRS"),
        Column("dec", "double", "deg", "declination it is taken at, ICRS"),
    )

    def files(self) -> Sequence[Path]:
        """Return the FITS file that a sidecar names, or the sidecar of a FITS file."""
        _read(self.map)  # an error tells what is wrong with the map
        return _beside(self.map)

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        """Look one position up."""
        ra, dec = light_curve.position()
        if not np.isfinite(ra):
            raise Refusal(_NO_POSITION)
        return {"ebv": float(np.round(_read(self.map).ebv(ra, dec), 6)), "ra": ra, "dec": dec}

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        """Look many positions up at once."""
        ra, dec = batch.positions()
        good = np.isfinite(ra)
        ebv = np.full(len(batch), np.nan)
        if good.any():
            # Rounded, as the last bits may depend on how many positions there are.
            ebv[good] = np.round(_read(self.map).ebv(ra[good], dec[good]), 6)
        return {
            "ebv": ebv,
            "ra": ra,
            "dec": dec,
            "status": np.where(good, 0, MISSING_INFO),
            "message": [None if g else _NO_POSITION for g in good],
        }


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
