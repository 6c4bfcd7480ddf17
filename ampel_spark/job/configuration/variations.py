"""Sets of variations: retrained models of a folder, and zero points from their covariance.

An entry of ``systematics.variations`` that names a set stands for one variation each:

- ``models: trainings/*``: the SALT models in these folders;
- ``zero_points: covariance.npz``: arrays ``bands`` (names) and ``covariance`` (mag²), as
  eigenvectors of one sigma each, or with ``draws: N`` as N draws, whose weights are such that the
  covariance of distances is their mean.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.errors import ConfigError
from ampel_spark.job.configuration.model import UnitStep, VariationEntry

__all__ = ["expanded"]

#: Eigenvectors with less than this part of the whole variance are left out.
_LEAST = 1e-9


def expanded(
    variations: Sequence[VariationEntry], unit: UnitStep, base: Path
) -> tuple[VariationEntry, ...]:
    """Return variations with sets in single ones.

    Parameters
    ----------
    variations : sequence of VariationEntry
    unit : UnitStep
        Whose numbers shift.
    base : Path
        Folder from which relative paths start.

    Raises
    ------
    ConfigError
        If a set is empty or cannot be read.
    """
    return tuple(one for each in variations for one in _singles(each, unit, base))


def _singles(variation: VariationEntry, unit: UnitStep, base: Path) -> Iterator[VariationEntry]:
    if variation.models is not None:
        yield from _of_models(variation, unit, base)
    elif variation.zero_points is not None:
        yield from _of_zero_points(variation, unit, base)
    else:
        yield variation


def _of_models(variation: VariationEntry, unit: UnitStep, base: Path) -> Iterator[VariationEntry]:
    pattern = str(base / str(variation.models))
    found = 0
    for folder in sorted(Path(path) for path in glob.glob(pattern)):
        kinds = [k for k in ("salt2", "salt3") if any(folder.glob(f"{k}_template_0.dat*"))]
        for kind in kinds[:1]:
            found += 1
            what = {f"t2.{unit.name}.config.model": f"{kind}@{folder.resolve()}"}
            yield _single(variation, folder.name, what, 1.0)
    if not found:
        raise ConfigError(f"variation {variation.name!r}: no folder {pattern} has a SALT model")


def _of_zero_points(
    variation: VariationEntry, unit: UnitStep, base: Path
) -> Iterator[VariationEntry]:
    bands, matrix = _read(base / str(variation.zero_points), variation.name)
    values, vectors = np.linalg.eigh(matrix)
    if values.min() < -1e-6 * max(values.max(), 0.0):
        raise ConfigError(
            f"variation {variation.name!r}: {variation.zero_points} is no covariance: an "
            f"eigenvalue is {values.min():.3g}"
        )
    # the largest first, and a sign that does not depend on the library
    order = np.argsort(values)[::-1]
    values, vectors = np.maximum(values[order], 0.0), vectors[:, order]
    vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))])
    shifts = (vectors * np.sqrt(values)).T[values > _LEAST * values.sum()]
    weight = 1.0
    if variation.draws is not None:
        rng = np.random.default_rng(variation.seed)
        shifts = rng.normal(size=(variation.draws, len(shifts))) @ shifts
        weight = variation.draws**-0.5
    nominal = getattr(unit.unit, "zero_points", {})
    fitted = {str(band) for band in getattr(unit.unit, "bands", ())}
    if not fitted & {*bands}:
        raise ConfigError(
            f"variation {variation.name!r}: {variation.zero_points} has none of the bands "
            f"{', '.join(sorted(fitted))}"
        )
    for i, shift in enumerate(shifts, 1):
        what = {
            f"t2.{unit.name}.config.zero_points.{band}": nominal.get(band, 0.0) + float(value)
            for band, value in zip(bands, shift, strict=True)
            if band in fitted
        }
        yield _single(variation, f"{i:02d}", what, weight)


def _read(path: Path, name: str) -> tuple[list[str], npt.NDArray[np.float64]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            bands = [str(band).lower() for band in file["bands"]]
            matrix = np.asarray(file["covariance"], np.float64)
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"variation {name!r}: {path} cannot be read ({error}): it needs the arrays bands and "
            "covariance"
        ) from None
    if matrix.shape != (len(bands), len(bands)) or not np.allclose(matrix, matrix.T):
        raise ConfigError(
            f"variation {name!r}: {path}: covariance has shape {matrix.shape} for {len(bands)} "
            "bands, or is not symmetric"
        )
    return bands, matrix


def _single(
    variation: VariationEntry, end: str, what: dict[str, Any], weight: float
) -> VariationEntry:
    return variation.model_copy(
        update={
            "name": f"{variation.name}_{re.sub(r'[^A-Za-z0-9_]', '_', end)}",
            "set": variation.set | what,
            "weight": variation.weight * weight,
            "models": None,
            "zero_points": None,
            "draws": None,
        }
    )
