"""How much an object is like a kilonova: points from a table, with what gave and cost each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from ampel_spark.errors import ConfigError
from ampel_spark.expressions import parse
from ampel_spark.expressions.kinds import BOOLEAN
from ampel_spark.lightcurve import DETECTION, LightCurveBatch
from ampel_spark.problems import read_model
from ampel_spark.settings import conf_file
from ampel_spark.t2.unit import Column, Unit

__all__ = ["Kilonovaness", "Scores", "ScoreTerm", "quantities"]

Array = npt.NDArray[Any]

_Quantity = Literal["z", "host_arcsec", "chisq", "ndof", "fit_mag", "fit_absmag", "distance_pull",
                    "level", "falls", "peaked"]  # fmt: skip
_TAKEN: tuple[_Quantity, ...] = get_args(_Quantity)
#: What follows from the above and the light curve.
_MADE = ("host_kpc", "reduced_chisq", "peak_mag", "peak_absmag", "absmag_ampel")


class ScoreTerm(BaseModel):
    """A term of a score: points and conditions, of which the first that holds counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    points: tuple[tuple[float, str], ...] = Field(min_length=1)

    @field_validator("points")
    @classmethod
    def _readable(cls, points: tuple[tuple[float, str], ...]) -> tuple[tuple[float, str], ...]:
        for _, text in points:
            try:
                expression = parse(text)
            except ConfigError as error:
                raise ValueError(f"condition {text!r} cannot be read: {error}") from None
            if expression.kind not in (BOOLEAN, None):
                raise ValueError(f"{text!r} is no condition")
            for name in expression.names:
                if name not in (*_TAKEN, *_MADE):
                    raise ValueError(
                        f"condition {text!r}: no quantity {name!r}; known: "
                        f"{', '.join((*_TAKEN, *_MADE))}"
                    )
        return points


class Scores(BaseModel):
    """A table of terms: a file of ``conf/scores``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    gold: float = Field(default=0.9, description="rank above which a candidate is gold")
    rejects: tuple[str, ...] = Field(default=(), description="rejects that every object has")
    terms: tuple[ScoreTerm, ...] = Field(min_length=1)


class Kilonovaness(Unit):
    """Points for what a kilonova has: redshift, host, fit, place in a sky map, decline.

    The terms are a table in YAML. The rank is points / (points + rejects), 0 below one point. A
    term that gives no points is a reject; one whose quantities are not known is named apart, and
    is none.
    """

    table: str = "kilonova"
    "Name of a table in `conf/scores`, or the path of one: `kilonova_ampel` keeps AMPEL's faults."

    take: dict[_Quantity, str] = Field(default_factory=dict)
    "Where quantities come from, as `z: host.z`: a T2 entry and its column."

    libraries = ("astropy", "numpy")
    columns: ClassVar[Sequence[Column]] = (
        Column("score", "double", "", "sum of the points"),
        Column("rank", "double", "", "points / (points + rejects)"),
        Column("gold", "boolean", "", "whether the rank is above the table's limit"),
        Column("n_rejects", "int", "", "terms that gave no points"),
        Column("terms", "array<string>", "", "the terms, in the table's order"),
        Column("points", "array<double>", "", "points of each; null where nothing is known"),
        Column("gave", "array<string>", "", "terms that gave points"),
        Column("cost", "array<string>", "", "terms that gave none"),
        Column("unknown", "array<string>", "", "terms of which nothing is known"),
        Column("z", "double", "", "redshift that was used"),
        Column("host_kpc", "double", "kpc", "distance from the host's centre (Planck 2015)"),
        Column("reduced_chisq", "double", "", "chi square per degree of freedom of the fit"),
        Column("peak_mag", "double", "mag", "brightest detection"),
        Column("peak_absmag", "double", "mag", "the same less the distance modulus"),
    )

    @field_validator("take")
    @classmethod
    def _dotted(cls, take: dict[_Quantity, str]) -> dict[_Quantity, str]:
        for place in take.values():
            unit, _, column = place.rpartition(".")
            if not unit or not column:
                raise ValueError(f"{place!r} is no column of an entry: give unit.column")
        return take

    def needs(self) -> Sequence[str]:
        """Return the entries that quantities come from."""
        return tuple(self.tied_columns())

    def tied_columns(self) -> Mapping[str, Sequence[str]]:
        """Return the columns that quantities come from."""
        found: dict[str, list[str]] = {}
        for place in self.take.values():
            unit, _, column = place.rpartition(".")
            found.setdefault(unit, []).append(column)
        return {unit: list(dict.fromkeys(columns)) for unit, columns in found.items()}

    def files(self) -> Sequence[Path]:
        """Return the file of the table."""
        return (conf_file("scores", self.table),)

    def point_fields(self) -> Sequence[str]:
        """Return what the brightest point is found by."""
        return ("kind", "jd", "mag", "sign")

    def states_per_task(self) -> int:
        """Return how many objects are worth starting a task."""
        return 1000

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        """Score many objects at once."""
        scores = read_model(conf_file("scores", self.table), Scores)
        known = quantities({name: self._taken(batch, name) for name in _TAKEN}, _peak_mag(batch))
        table = pa.table({name: pa.array(v, mask=~np.isfinite(v)) for name, v in known.items()})
        points = np.column_stack([_points(term, table) for term in scores.terms])
        names = [term.name for term in scores.terms]
        total = np.nansum(points, axis=1)
        gave, none = points > 0, np.isnan(points)
        cost = ~gave & ~none
        rejects = cost.sum(axis=1) + len(scores.rejects)
        rank = np.where(total >= 1, total / np.maximum(total + rejects, 1e-9), 0.0)
        shown = ("z", "host_kpc", "reduced_chisq", "peak_mag", "peak_absmag")
        return {
            "score": pa.array(total),
            "rank": pa.array(rank),
            "gold": pa.array(rank > scores.gold),
            "n_rejects": pa.array(rejects.astype(np.int32)),
            "terms": pa.array([names] * len(batch), pa.list_(pa.string())),
            "points": pa.array([[None if v != v else v for v in row] for row in points.tolist()],
                               pa.list_(pa.float64())),
            **{
                name: pa.array([[n for n, yes in zip(names, row, strict=True) if yes]
                                for row in mask.tolist()], pa.list_(pa.string()))
                for name, mask in (("gave", gave), ("cost", cost), ("unknown", none))
            },
            **{name: table[name].combine_chunks() for name in shown},
        }  # fmt: skip

    def _taken(self, batch: LightCurveBatch, name: _Quantity) -> Array:
        place = self.take.get(name)
        if place is None:
            return np.full(len(batch), np.nan)
        unit, _, column = place.rpartition(".")
        return batch.tied(unit, column)[1]


def quantities(taken: Mapping[_Quantity, Array], peak_mag: Array) -> dict[str, Array]:
    """Return all quantities that terms may name: those taken, and what follows from them.

    Parameters
    ----------
    taken : mapping of str to ndarray of float64 with shape (M,)
        NaN where a quantity is not known.
    peak_mag : ndarray of float64 with shape (M,)
        Magnitude of the brightest detection.
    """
    from astropy.cosmology import Planck15

    found = {str(name): np.asarray(values, np.float64) for name, values in taken.items()}
    z = np.where(found["z"] > 0, found["z"], np.nan)
    there = np.isfinite(z)
    modulus, scale = np.full(len(z), np.nan), np.full(len(z), np.nan)
    if there.any():
        modulus[there] = Planck15.distmod(z[there]).value
        scale[there] = Planck15.kpc_proper_per_arcmin(z[there]).value / 60.0
    with np.errstate(divide="ignore", invalid="ignore"):
        reduced = np.where(found["ndof"] > 0, found["chisq"] / found["ndof"], np.nan)
    return found | {
        "host_kpc": found["host_arcsec"] * scale,
        "reduced_chisq": reduced,
        "peak_mag": peak_mag,
        "peak_absmag": peak_mag - modulus,
        # AMPEL: the truth value of "there is a magnitude and z >= 0", which is 1
        "absmag_ampel": np.where(np.isfinite(peak_mag), 1.0 - modulus, np.nan),
    }


def _peak_mag(batch: LightCurveBatch) -> Array:
    p = batch.points
    good = (p["kind"] == DETECTION) & (p["sign"] > 0) & np.isfinite(p["mag"])
    found = np.full(len(batch), np.inf)
    np.minimum.at(found, batch.index()[good], p["mag"][good])
    return np.where(np.isfinite(found), found, np.nan)


def _points(term: ScoreTerm, table: pa.Table) -> Array:
    """Return the points of a term for each row; NaN where a quantity of it is not known."""
    found = np.zeros(len(table))
    left = np.ones(len(table), bool)
    for points, text in term.points:
        holds = parse(text).mask(table) & left
        found[holds] = points
        left &= ~holds
    names = {name for _, text in term.points for name in parse(text).names}
    known = np.all([table[name].is_valid().to_numpy() for name in names], axis=0)
    return np.where(known, found, np.nan)
