"""One redshift of an object from all that catalogues say, by the quality of the source."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ampel_spark.files import stamp
from ampel_spark.lightcurve import LightCurve, LightCurveBatch
from ampel_spark.problems import read_model
from ampel_spark.t2.unit import Column, Unit

__all__ = ["RedshiftDigest"]

_TABLE = Path(__file__).with_name("redshift_sources.yml")
#: What is not above this is a mark for "none", as -99.
_NO_REDSHIFT = -1.0


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Case(_Part):
    group: int = Field(ge=1, le=7)
    closer: float = math.inf
    within: float = math.inf
    below: float = math.inf
    decimals: int = -1

    def fits(self, z: float, digits: int, distance: float | None) -> bool:
        """Say whether a redshift is of this case; without a distance, none may be asked for."""
        if distance is None:
            near = math.isinf(self.closer) and math.isinf(self.within)
        else:
            near = distance < self.closer and distance <= self.within
        return near and z < self.below and digits > self.decimals


class _Rule(_Part):
    z: str
    scale: float = 1.0
    cases: tuple[_Case, ...]


class _Colour(_Part):
    source: str
    minuend: str
    subtrahend: str
    closer: float


class _Sources(_Part):
    redshifts: dict[str, tuple[_Rule, ...]]
    colours: dict[str, _Colour] = {}


class RedshiftDigest(Unit):
    """The redshift of the best quality group that any catalogue gives, and colours of the host.

    Each redshift of a match goes into one of AMPEL's seven groups, by source, distance and value.
    The mean of the best group that has any counts. An object without a redshift has a row whose
    `ampel_z` is null.
    """

    matches: tuple[str, ...] = ("catalog_match",)
    "T2 entries whose rows are looked at; an entry of one catalogue has the name of the source."

    sources: Path | None = None
    "Table of sources, YAML; by default that of the package, which is AMPEL's."

    max_category: int = Field(default=3, ge=1, le=7)
    "Worst group that counts."

    category_precision: tuple[float, ...] = Field(
        default=(0.0003, 0.003, 0.01, 0.02, 0.04, 0.1, 0.3), min_length=7, max_length=7
    )
    "Typical error of each group."

    input_fields = ()
    columns = (
        Column("ampel_z", "double", "", "mean redshift of the best group"),
        Column("group_z_nbr", "int", "", "the group, 1 to 7"),
        Column("group_z_precision", "double", "", "typical error of the group"),
        Column("ampel_dist", "double", "arcsec", "mean distance of that group's matches"),
        Column("n_z", "int", "", "redshifts in that group"),
        Column("z_sources", "array<string>", "", "where those of the group come from"),
        Column("z_all", "array<double>", "", "all redshifts that were found"),
        Column("group_all", "array<double>", "", "their groups"),
        Column("dist_all", "array<double>", "arcsec", "their distances, NaN where there is none"),
    )

    @property
    def table(self) -> Path:
        """The file with the table of sources."""
        return self.sources or _TABLE

    def files(self) -> Sequence[Path]:
        """Return the table of sources."""
        return [self.table]

    def output_columns(self) -> Sequence[Column]:
        """Return the columns, with one for each colour."""
        colours = _read(self.table).colours
        return (
            *self.columns,
            *(
                Column(name, "double", "mag", f"{c.minuend} - {c.subtrahend} of {c.source}")
                for name, c in colours.items()
            ),
        )

    def needs(self) -> Sequence[str]:
        """Return the entries of matches."""
        return self.matches

    def subjects(self, batch: LightCurveBatch) -> Sequence[str]:
        """Say that nothing but the matches is read."""
        return [""] * len(batch)

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        """Digest the matches of one object."""
        table = _read(self.table)
        result: dict[str, Any] = {
            name: self._colour(light_curve, colour) for name, colour in table.colours.items()
        }
        found = [*self._redshifts(light_curve, table)]
        if not found:
            unknown = self._unknown(light_curve, table)
            return result | ({"message": unknown} if unknown else {})
        groups, _, redshifts, distances = zip(*found, strict=True)
        result |= {
            "z_all": [*redshifts],
            "group_all": [*map(float, groups)],
            "dist_all": [math.nan if d is None else d for d in distances],
        }
        best = min(groups)
        return result if best > self.max_category else result | self._best(best, found)

    def _best(
        self, best: int, found: Sequence[tuple[int, str, float, float | None]]
    ) -> dict[str, Any]:
        """Return what the redshifts of the best group say together."""
        mine = [entry for entry in found if entry[0] == best]
        # each redshift has a distance of its own, or none: one cannot count for another
        distances = [d for _, _, _, d in mine if d is not None]
        return {
            "ampel_z": float(np.mean([z for _, _, z, _ in mine])),
            "group_z_nbr": best,
            "group_z_precision": self.category_precision[best - 1],
            "ampel_dist": float(np.mean(distances)) if distances else None,
            "n_z": len(mine),
            "z_sources": [source for _, source, _, _ in mine],
        }

    def _unknown(self, light_curve: LightCurve, table: _Sources) -> str:
        """Say so where the table of sources knows none of the catalogues that were matched."""
        rows = {entry: light_curve.results.get(entry) or {} for entry in self.matches}
        matched = {
            entry if key == "matched" else key.removesuffix("_matched")
            for entry, row in rows.items()
            for key in row
            if key == "matched" or key.endswith("_matched")
        }
        known = {*table.redshifts, *(colour.source for colour in table.colours.values())}
        if not matched or matched & known:
            return ""
        return (
            f"the table of sources knows none of the catalogues {', '.join(sorted(matched))}:"
            " name one that does by 'sources', or call the entry as a source of the table"
        )

    def _redshifts(
        self, light_curve: LightCurve, table: _Sources
    ) -> Iterator[tuple[int, str, float, float | None]]:
        """Yield group, source, redshift and distance of all redshifts that fit a rule."""
        for source, rules in table.redshifts.items():
            for rule in rules:
                for text, distance in self._values(light_curve, source, rule.z):
                    z = _number(text) * rule.scale
                    if z > _NO_REDSHIFT:
                        fits = (c for c in rule.cases if c.fits(z, _decimals(text), distance))
                        case = next(fits, None)
                        if case is not None:
                            yield case.group, source, z, distance

    def _values(
        self, light_curve: LightCurve, source: str, column: str
    ) -> Iterator[tuple[Any, float | None]]:
        """Yield the values of a column of a source, each with its distance."""
        for entry in self.matches:
            row = light_curve.results.get(entry) or {}
            start = f"{source}_" if f"{source}_matched" in row else ""
            if not start and (entry != source or "matched" not in row):
                continue
            values, distances = row.get(f"{start}{column}"), row.get(f"{start}distance")
            if not isinstance(values, list):
                values, distances = [values], [distances]
            if distances is None:
                distances = [None] * len(values)
            for value, distance in zip(values, distances, strict=True):
                if value is not None:
                    yield value, distance

    def _colour(self, light_curve: LightCurve, colour: _Colour) -> float | None:
        bright, faint = (
            next(self._values(light_curve, colour.source, name), (None, None))
            for name in (colour.minuend, colour.subtrahend)
        )
        if bright[0] is None or faint[0] is None or bright[1] is None:
            return None
        return float(bright[0]) - float(faint[0]) if bright[1] < colour.closer else None


def _number(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan  # text such as "-"


def _decimals(value: Any) -> int:
    """Return how many digits stand behind the point."""
    text = str(value).strip().lower()
    mantissa, _, exponent = text.partition("e")
    return len(mantissa.partition(".")[2]) - int(exponent or 0)


def _read(path: Path) -> _Sources:
    return _table(path, stamp(path))


@functools.lru_cache(maxsize=8)
def _table(path: Path, known_by: tuple[int, ...]) -> _Sources:
    return read_model(path, _Sources)
