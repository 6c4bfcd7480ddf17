"""The row of a local catalogue that is nearest to an object."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from ampel_spark.sky.catalogs import Catalog
from ampel_spark.t2.lightcurve import LightCurve, LightCurveBatch
from ampel_spark.t2.unit import MISSING_INFO, Column, Refusal, Unit

__all__ = ["CatalogMatch", "read_catalog"]

_NO_POSITION = "no detection has a position"


class CatalogMatch(Unit):
    """The nearest row of a catalogue within a radius of the mean position of the detections.

    An object that nothing is near to has a row that says so: `matched` is false.
    """

    catalog: Path
    "Catalogue: a Parquet, CSV or FITS file. A job gives the name of one of its catalogues."

    ra: str = "ra"
    "Its column with the right ascension, degrees ICRS."

    dec: str = "dec"
    "Its column with the declination, degrees ICRS."

    radius: float = Field(gt=0.0, lt=180 * 3600.0)
    "Largest distance, arcsec."

    append: dict[str, str] = Field(default_factory=dict)
    "Its columns to append: a list, or a mapping from names in the result to names there."

    libraries = ("numpy", "pyarrow", "scipy")
    columns = (
        Column("matched", "boolean", "", "whether a row of the catalogue is within the radius"),
        Column("distance", "double", "arcsec", "distance of the nearest row"),
        Column("n_within", "int", "", "rows within the radius"),
    )

    @field_validator("append", mode="before")
    @classmethod
    def _as_mapping(cls, value: Any) -> Any:
        return {name: name for name in value} if isinstance(value, list | tuple) else value

    def output_columns(self) -> Sequence[Column]:
        """Return the columns, those of the catalogue with the types they have there."""
        types = self._catalog().column_types()
        return (
            *self.columns,
            *(
                Column(name, types[source], "", f"{source} of {self.catalog.name}, nearest row")
                for name, source in self.append.items()
            ),
        )

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        """Match one position."""
        ra, dec = light_curve.position()
        if not np.isfinite(ra):
            raise Refusal(_NO_POSITION)
        found = self._match(np.array([ra]), np.array([dec]))
        return {name: values[0].as_py() for name, values in found.items()}

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        """Match many positions at once."""
        ra, dec = batch.positions()
        good = np.isfinite(ra)
        return {
            **self._match(ra, dec),
            "status": np.where(good, 0, MISSING_INFO),
            "message": [None if g else _NO_POSITION for g in good],
        }

    def _catalog(self) -> Catalog:
        sources = tuple(dict.fromkeys(self.append.values()))
        return read_catalog(self.catalog, self.ra, self.dec, sources)

    def _match(self, ra: Any, dec: Any) -> dict[str, pa.Array]:
        catalog = self._catalog()
        found = catalog.nearest(ra, dec, self.radius)
        appended = catalog.take(found.row)
        nowhere = ~np.isfinite(ra)
        return {
            "matched": pa.array(found.row >= 0, mask=nowhere),
            "distance": pa.array(found.distance, from_pandas=True),
            "n_within": pa.array(found.n_within, mask=nowhere),
            **{name: appended[source].combine_chunks() for name, source in self.append.items()},
        }


def read_catalog(path: Path, ra: str, dec: str, columns: tuple[str, ...]) -> Catalog:
    """Return a catalogue, read once in a process as long as the file stays as it is."""
    stamp = (path.stat().st_mtime_ns, path.stat().st_size) if path.exists() else ()
    return _read(path, ra, dec, columns, *stamp)


@functools.lru_cache(maxsize=8)
def _read(path: Path, ra: str, dec: str, columns: tuple[str, ...], *stamp: int) -> Catalog:
    return Catalog.read(path, ra, dec, columns)
