"""Rows of local catalogues that are near to an object."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from ampel_spark.lightcurve import DETECTION, LightCurveBatch
from ampel_spark.sky.catalogs import Catalog, StoredCatalog, open_catalog
from ampel_spark.sky.matching import Pairs, first_of_each, within_counts
from ampel_spark.sky.where import Condition
from ampel_spark.t2.unit import MISSING_DEPENDENCY, MISSING_INFO, Column, Unit

__all__ = ["CatalogMatch", "Match", "Radius", "positions"]

Array = npt.NDArray[Any]

_NO_POSITION = "no detection has a position"
_SEVERAL = {"bigint": "array<bigint>", "double": "array<double>", "boolean": "array<double>",
            "string": "array<string>"}  # fmt: skip


class Radius(BaseModel):
    """A radius for each object, from a column of a tied unit."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    unit: str
    "T2 entry with the number in `column`, such as another catalog_match."

    column: str
    "Its column; what is not above 0 there is no radius."

    scale: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    "The radius in arcsec is so many times the number."

    most: float = Field(default=60.0, gt=0.0, lt=180 * 3600.0)
    "And no larger than this, arcsec."

    def among(self, batch: LightCurveBatch) -> tuple[Array, Array, Array]:
        """Look up the radii of the objects of a batch.

        Returns
        -------
        radius : ndarray of float64 with shape (M,)
            Arcsec; NaN where there is none.
        status : ndarray of int with shape (M,)
            There -2006 where the unit has no result, and -2008 where that has no number; else 0.
        message : ndarray of object with shape (M,)
        """
        present, number = batch.tied(self.unit, self.column)
        known = np.isfinite(number) & (number > 0)
        radius = np.full(len(batch), np.nan)
        radius[known] = np.minimum(number[known] * self.scale, self.most)
        status = np.where(known, 0, np.where(present, MISSING_INFO, MISSING_DEPENDENCY))
        message = np.full(len(batch), None, object)
        message[~known] = f"no radius in {self.unit}.{self.column}"
        message[~present] = f"no result of {self.unit}"
        return radius, status, message


def _form(value: Any) -> str:
    return "(unit)" if isinstance(value, Mapping | Radius) else "(number)"


# Which form is meant is plain from the value, so that a problem is one of that form alone.
_Distance = Annotated[
    Annotated[float, Field(gt=0.0, lt=180 * 3600.0), Tag("(number)")]
    | Annotated[Radius, Tag("(unit)")],
    Discriminator(_form),
]


class Match(BaseModel):
    """A catalogue and what is asked of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    # `inputs` names a catalogue's content, tile by tile
    untraced: ClassVar[Sequence[str]] = ("catalog", "version")

    catalog: Path
    "Catalogue: a file, or a catalogue of a lake. A job gives the name of one of its catalogues."

    version: int | None = None
    "Of a catalogue of a lake; a job pins it."

    ra: str = "ra"
    "Column of a file with the right ascension, degrees ICRS."

    dec: str = "dec"
    "Column of a file with the declination, degrees ICRS."

    id: str | None = None
    "Column of a file that names a row, and decides between rows at one distance."

    radius: _Distance
    "Largest distance, arcsec; or where each object has its own from."

    min_radius: float = Field(default=0.0, ge=0.0, lt=180 * 3600.0)
    "Smallest distance, arcsec."

    how: Literal["nearest", "all", "k", "any"] = "nearest"
    "The nearest row, all rows, the `k` nearest (as lists), or only whether there is one."

    k: int = Field(default=1, ge=1)
    "How many rows, with `how: k`."

    pre_filter: str | None = None
    "Condition on the catalogue's columns: other rows are as good as absent."

    post_filter: str | None = None
    "Condition on the rows that were found: the nearest one counts, or none does."

    append: dict[str, str] = Field(default_factory=dict)
    "Its columns to append: a list, or a mapping from names in the result to names there."

    @field_validator("append", mode="before")
    @classmethod
    def _as_mapping(cls, value: Any) -> Any:
        return {name: name for name in value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _readable(self) -> Match:
        for text in (self.pre_filter, self.post_filter):
            if text is not None:
                Condition.read(text)
        return self

    def source(self) -> Catalog | StoredCatalog:
        """Return the catalogue."""
        return open_catalog(self.catalog, self.version, self.ra, self.dec, self.named(), self.id)

    def named(self) -> tuple[str, ...]:
        """Return the columns of the catalogue that are read."""
        filters = [Condition.read(t).columns for t in (self.pre_filter, self.post_filter) if t]
        return tuple(dict.fromkeys([*self.append.values(), *(c for part in filters for c in part)]))

    def result_columns(self, prefix: str) -> list[Column]:
        """Return the columns of the result."""
        what = f" in {self.catalog.name}" if not prefix else f" in {prefix}"
        found = [Column("matched", "boolean", "", f"whether there is such a row{what}")]
        if self.how == "any":
            return _prefixed(found, prefix)
        several = self.how in ("all", "k")
        kind = "array<double>" if several else "double"
        row = "each row" if several else "nearest row"
        found += [
            Column("distance", kind, "arcsec", f"distance of the {row}"),
            Column("n_within", "int", "", f"rows within the radius{what}, before any post_filter"),
        ]
        types = self.source().column_types()
        for name, column in self.append.items():
            kind = _SEVERAL[types[column]] if several else types[column]
            found.append(Column(name, kind, "", f"{column}{what}, {row}"))
        return _prefixed(found, prefix)

    def read_for(self, ra: Array, dec: Array, epoch: Array) -> list[str]:
        """Return hashes of what decides the match of each position, whatever its own radius."""
        source = self.source()
        return source.inputs(ra, dec, self.most() * (1 + 1e-9) + source.reach(epoch))

    def most(self) -> float:
        """Return the largest radius that any object has, arcsec."""
        return self.radius.most if isinstance(self.radius, Radius) else self.radius

    def near(
        self, ra: Array, dec: Array, epoch: Array, radius: Array, prefix: str = ""
    ) -> dict[str, pa.Array]:
        """Match positions, each within its radius (arcsec), and return the result's columns."""
        source, n = self.source(), len(ra)
        reach = radius * (1 + 1e-9) + source.reach(epoch)
        rows = source.around(ra, dec, reach, self.named())
        pre = None if self.pre_filter is None else Condition.read(self.pre_filter)
        pairs = rows.match(
            ra, dec, radius, how="all", min_radius=self.min_radius, where=pre, epoch=epoch
        )
        counts = within_counts(pairs, n)
        pairs = first_of_each(pairs, {"nearest": 1, "any": 0, "all": 0, "k": self.k}[self.how])
        if self.post_filter is not None:
            keep = Condition.read(self.post_filter).mask(rows.take(pairs.row))
            pairs = Pairs(pairs.left[keep], pairs.row[keep], pairs.distance[keep])
        matched = within_counts(pairs, n) > 0
        nowhere = ~(np.isfinite(ra) & np.isfinite(dec))
        found = {"matched": pa.array(matched, mask=nowhere)}
        if self.how != "any":
            found["n_within"] = pa.array(counts, mask=nowhere)
            if self.how == "nearest":
                found |= _one_each(rows, pairs, n, self.append)
            else:
                found |= _lists(rows, pairs, n, self.append, nowhere)
        return {f"{prefix}_{name}" if prefix else name: part for name, part in found.items()}


class CatalogMatch(Match, Unit):
    """The rows of catalogues that are near to the position of an object.

    Either one catalogue, by `catalog` and `radius`, or several, by `catalogs`: the columns of each
    then begin with its name. An object that nothing is near to has a row that says so: `matched` is
    false. A radius can be each object's own, from a column of a tied unit: an object that lacks the
    radius of any catalogue is refused, with -2006 where that unit has no result for it, and -2008
    where the result has no number above 0.
    """

    catalog: Path | None = None  # type: ignore[assignment]
    "Catalogue: a file, or a catalogue of a lake. A job gives the name of one of its catalogues."

    radius: _Distance | None = None  # type: ignore[assignment]
    "Largest distance, arcsec; or where each object has its own from."

    catalogs: dict[str, Match] = Field(default_factory=dict)
    "Several catalogues, by the name that their columns begin with."

    position: Literal["mean", "first", "latest", "median", "weighted"] = "mean"
    "Mean, first, last, median or 1/σ²-weighted mean of the detections, else of forced points."

    libraries = ("numpy", "pyarrow")
    input_fields: ClassVar[Sequence[str]] = ("kind", "jd", "ra", "dec", "magerr")
    columns: ClassVar[Sequence[Column]] = (
        Column("matched", "boolean", "", "whether a row of the catalogue is within the radius"),
        Column("distance", "double", "arcsec", "distance of the nearest row"),
        Column("n_within", "int", "", "rows within the radius"),
    )

    @model_validator(mode="after")
    def _one_form(self) -> CatalogMatch:
        if (self.catalog is None) == (not self.catalogs):
            raise ValueError("give either catalog and radius, or catalogs")
        if (self.catalog is None) != (self.radius is None):
            raise ValueError("catalog and radius go together")
        return self

    def output_columns(self) -> Sequence[Column]:
        """Return the columns, those of the catalogues with the types they have there."""
        return [
            c for prefix, match in self._matches().items() for c in match.result_columns(prefix)
        ]

    def needs(self) -> Sequence[str]:
        """Return the entries that radii come from."""
        return tuple(self.tied_columns())

    def tied_columns(self) -> Mapping[str, Sequence[str]]:
        """Return the columns that radii come from."""
        found: dict[str, list[str]] = {}
        for match in self._matches().values():
            if isinstance(match.radius, Radius):
                found.setdefault(match.radius.unit, []).append(match.radius.column)
        return {unit: list(dict.fromkeys(columns)) for unit, columns in found.items()}

    def point_fields(self) -> Sequence[str]:
        """Return what positions are made of."""
        return self.input_fields

    def states_per_task(self) -> int:
        """Return how many objects are worth reading a part of a catalogue."""
        return 1000

    def inputs(self, batch: LightCurveBatch) -> Sequence[str]:
        """Tell the content of the tiles that the circle about each object touches.

        Where objects have radii of their own it is the circle of `most`: so the hash holds for all
        that they can be, and the number follows from the tied result, whose key is in the hash too.
        """
        ra, dec, epoch = positions(batch, self.position)
        read = [match.read_for(ra, dec, epoch) for match in self._matches().values()]
        return [
            hashlib.blake2b("".join(parts).encode(), digest_size=16).hexdigest()
            for parts in zip(*read, strict=True)
        ]

    def subjects(self, batch: LightCurveBatch) -> Sequence[str]:
        """Return positions and their epochs: no photometry is looked at."""
        places = np.transpose(positions(batch, self.position)).tolist()
        return [" ".join(map(repr, place)) for place in places]

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        """Match many positions at once, each place once."""
        where = np.column_stack(positions(batch, self.position))
        status = np.where(np.isfinite(where[:, 0]), 0, MISSING_INFO)
        message = np.full(len(batch), None, object)
        message[status != 0] = _NO_POSITION
        radii = np.empty((len(batch), 0))
        for match in self._matches().values():
            radius = np.full(len(batch), match.most())
            if isinstance(match.radius, Radius):
                radius, code, text = match.radius.among(batch)
                lacks = (status == 0) & (code != 0)
                status[lacks], message[lacks] = code[lacks], text[lacks]
            radii = np.column_stack([radii, radius])
        # what is nowhere is near nothing, whatever its radius
        where[status != 0], radii[status != 0] = np.nan, 0.0
        places, place = np.unique(np.column_stack([where, radii]), axis=0, return_inverse=True)
        ra, dec, epoch, *radius_of = places.T.copy()
        columns: dict[str, Any] = {}
        for (prefix, match), radius in zip(self._matches().items(), radius_of, strict=True):
            found = match.near(ra, dec, epoch, radius, prefix)
            columns |= {
                name: values.take(pa.array(place.ravel())) for name, values in found.items()
            }
        return {**columns, "status": status, "message": message.tolist()}

    def _matches(self) -> dict[str, Match]:
        return self.catalogs or {"": self}


def positions(batch: LightCurveBatch, which: str) -> tuple[Array, Array, Array]:
    """Return the positions of light curves and their epochs.

    Parameters
    ----------
    batch : LightCurveBatch
    which : str
        Of the detections: ``mean``, ``first``, ``latest``, ``median`` (of each coordinate), or
        ``weighted``, the mean with weights 1/magerr², or equal ones where no error is known. Of a
        light curve without detections the other points count, as for `LightCurveBatch.positions`.

    Returns
    -------
    ra, dec, epoch : ndarray with shape (M,)
        Degrees, and Julian years (mean time of these detections); NaN where there is none.
    """
    p, n = batch.points, len(batch)
    i, detected = batch.index(), p["kind"] == DETECTION
    without = np.bincount(i[detected], minlength=n) == 0
    good = (detected | without[i]) & np.isfinite(p["ra"]) & np.isfinite(p["dec"])
    i, jd, ra, dec = i[good], p["jd"][good], p["ra"][good], p["dec"][good]
    if which in ("first", "latest"):
        # points are in order of time
        at = np.full(n, -1)
        order = slice(None, None, -1) if which == "first" else slice(None)
        at[i[order]] = np.arange(len(i))[order]
        there = at >= 0
        found = [np.where(there, values[at], np.nan) if len(i) else np.full(n, np.nan)
                 for values in (ra, dec, jd)]  # fmt: skip
        return found[0] % 360.0, found[1], _year(found[2])
    if which == "median":
        return _medians(i, jd, ra, dec, n)
    weight = np.ones(len(i))
    if which == "weighted":
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = 1.0 / p["magerr"][good] ** 2
        usable = np.isfinite(weight)
        all_known = np.bincount(i, weights=~usable, minlength=n) == 0
        weight = np.where(all_known[i] & usable, weight, 1.0)
    total = np.bincount(i, weights=weight, minlength=n).astype(np.float64)
    total[total == 0] = np.nan
    a, d = np.radians(ra), np.radians(dec)
    x, y, z, t = (
        np.bincount(i, weights=w * weight, minlength=n) / total
        for w in (np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d), jd - 2451545.0)
    )
    ra_mean = np.degrees(np.arctan2(y, x)) % 360.0
    return ra_mean, np.degrees(np.arctan2(z, np.hypot(x, y))), _year(t + 2451545.0)


def _medians(i: Array, jd: Array, ra: Array, dec: Array, n: int) -> tuple[Array, Array, Array]:
    out = np.full((3, n), np.nan)
    first = np.searchsorted(i, np.arange(n + 1))
    for k in range(n):
        mine = slice(first[k], first[k + 1])
        if first[k] == first[k + 1]:
            continue
        # about the first point, so that right ascension 0 is nothing special
        turn = (ra[mine] - ra[first[k]] + 180.0) % 360.0 - 180.0
        out[:, k] = (ra[first[k]] + np.median(turn)) % 360.0, np.median(dec[mine]), jd[mine].mean()
    return out[0], out[1], _year(out[2])


def _year(jd: Array) -> Array:
    return 2000.0 + (jd - 2451545.0) / 365.25


def _prefixed(columns: Sequence[Column], prefix: str) -> list[Column]:
    start = f"{prefix}_" if prefix else ""
    return [Column(f"{start}{c.name}", c.type, c.unit, c.description) for c in columns]


def _one_each(
    near: Catalog, pairs: Pairs, n: int, append: Mapping[str, str]
) -> dict[str, pa.Array]:
    row, distance = np.full(n, -1, np.int64), np.full(n, np.nan)
    row[pairs.left], distance[pairs.left] = pairs.row, pairs.distance
    table = near.take(row)
    return {
        "distance": pa.array(distance, from_pandas=True),
        **{name: table[source].combine_chunks() for name, source in append.items()},
    }


def _lists(
    near: Catalog, pairs: Pairs, n: int, append: Mapping[str, str], nowhere: Array
) -> dict[str, pa.Array]:
    offsets = np.searchsorted(pairs.left, np.arange(n + 1)).astype(np.int32)
    table = near.take(pairs.row)
    columns = {"distance": pa.array(pairs.distance)}
    for name, source in append.items():
        values = table[source].combine_chunks()
        columns[name] = values.cast(pa.float64()) if pa.types.is_boolean(values.type) else values
    mask = pa.array(nowhere)
    return {
        name: pa.ListArray.from_arrays(pa.array(offsets), values, mask=mask)
        for name, values in columns.items()
    }
