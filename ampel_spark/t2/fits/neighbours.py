"""Numbers of the row of a catalogue's file that is nearest to an object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.lightcurve import LightCurveBatch
from ampel_spark.sky.catalogs import Catalog, open_catalog
from ampel_spark.sky.store import is_stored

__all__ = ["check_is_file", "nearest_numbers"]

Array = npt.NDArray[Any]


def check_is_file(path: Path) -> None:
    """Raise ValueError if a catalogue is one of a lake, whose version a fit would not follow."""
    if is_stored(path):
        raise ValueError(
            f"{path.name} is a versioned catalogue of the lake: add a catalog_match of"
            " it and name that by unit, so that fits follow what it matches"
        )


def nearest_numbers(
    batch: LightCurveBatch, path: Path, ra: str, dec: str, columns: Sequence[str], radius: float
) -> tuple[Array, list[Array]]:
    """Return columns of the rows that are nearest to the mean positions of the detections.

    Parameters
    ----------
    batch : LightCurveBatch
    path : Path
        File of the catalogue.
    ra, dec : str
        Its columns with the position, degrees ICRS.
    columns : sequence of str
        Its columns to return.
    radius : float
        Largest distance, arcsec.

    Returns
    -------
    distance : ndarray with shape (M,)
        Arcsec; NaN where no row is within the radius.
    numbers : list of ndarray with shape (M,)
        One for each column; NaN also where the row has null.
    """
    names = tuple(dict.fromkeys(columns))
    catalog = open_catalog(path, None, ra, dec, names)
    assert isinstance(catalog, Catalog)  # see check_is_file
    nearest = catalog.nearest(*batch.positions(), radius)
    rows = catalog.take(nearest.row)
    numbers = [
        np.asarray(rows[name].combine_chunks().cast("float64").fill_null(np.nan))
        for name in columns
    ]
    return nearest.distance, numbers
