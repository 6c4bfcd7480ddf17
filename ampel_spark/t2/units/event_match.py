"""Events whose region and time hold an object."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from ampel_spark.events.matching import EventIndex, EventMatches, Times
from ampel_spark.events.reading import index_of
from ampel_spark.lightcurve import DETECTION, LightCurveBatch
from ampel_spark.t2.unit import MISSING_INFO, Column, Unit

__all__ = ["EventMatch", "Tied", "object_times"]

Array = npt.NDArray[Any]

_NO_POSITION = "no detection has a position"


class Tied(BaseModel):
    """A number for each object, from a column of a tied unit."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    unit: str
    "T2 entry with the number in `column`."

    column: str = "z"
    "Its column; what is not above 0 there is no number."


class EventMatch(Unit):
    """The events, such as neutrinos and gravitational waves, whose region and time hold an object.

    An object that lies in no region, or was not seen in time, has a row that says so: `matched` is
    false. A new revision of an event makes stale only the objects inside its old or new region and
    window.
    """

    catalog: Path
    "Events: the lake's, or a file of notices. A job gives the name of one of its catalogues."

    version: int | None = None
    "Of the lake's events; a job pins it."

    level: float | None = Field(default=None, gt=0.0, lt=1.0)
    "Probability of the regions; by default each event's own, and 0.9 for sky maps."

    region: Literal["ellipse", "rectangle"] = "ellipse"
    "Whether the corners of an event's errors count; sky maps have none."

    time: Literal["first", "peak", "last", "any"] = "first"
    "First, brightest, last or any detection: its time is what the window is about."

    before: float | None = Field(default=None, ge=0.0)
    "How many days before an event that time may be; by default any."

    after: float | None = Field(default=None, ge=0.0)
    "How many days after an event that time may be; by default any."

    how: Literal["best", "all"] = "best"
    "The event of the highest density at the object's place, or all, in this order, as lists."

    redshift: Tied | None = None
    "Where the redshift comes from, for the distance (Planck 2015) against that of a sky map."

    libraries = ("astropy", "numpy")
    untraced: ClassVar[Sequence[str]] = ("catalog", "version")
    input_fields: ClassVar[Sequence[str]] = ("kind", "jd", "ra", "dec", "mag", "sign")
    columns: ClassVar[Sequence[Column]] = (
        Column("matched", "boolean", "", "whether there is such an event"),
        Column("n_events", "int", "", "number of such events"),
        Column("event", "string", "", "its name"),
        Column("revision", "bigint", "", "its revision"),
        Column("level", "double", "", "probability of its smallest region that holds the object"),
        Column("sigma", "double", "", "the same as sigma of a Gaussian in two dimensions"),
        Column("density", "double", "1/deg2", "its probability density at the object"),
        Column("area", "double", "deg2", "area of its region"),
        Column("time_offset", "double", "d", "time of the event minus that of the object"),
        Column("distmu", "double", "Mpc", "its distance in the object's direction"),
        Column("distsigma", "double", "Mpc", "scale of that distance"),
        Column("distance_pull", "double", "", "distance of the object less that, over its scale"),
        Column("density_3d", "double", "1/deg2", "density times exp(-pull**2 / 2)"),
    )

    def output_columns(self) -> Sequence[Column]:
        """Return the columns; those of an event are lists where all are wanted."""
        if self.how == "best":
            return self.columns
        return [
            *self.columns[:2],
            *(Column(c.name, f"array<{c.type}>", c.unit, f"{c.description}, of each")
              for c in self.columns[2:]),
        ]  # fmt: skip

    def needs(self) -> Sequence[str]:
        """Return the entry that the redshift comes from."""
        return tuple(self.tied_columns())

    def tied_columns(self) -> Mapping[str, Sequence[str]]:
        """Return the column that the redshift comes from."""
        return {} if self.redshift is None else {self.redshift.unit: [self.redshift.column]}

    def point_fields(self) -> Sequence[str]:
        """Return what of each point gives place and time."""
        return self.input_fields

    def states_per_task(self) -> int:
        """Return how many objects are worth reading the events."""
        return 1000

    def inputs(self, batch: LightCurveBatch) -> Sequence[str]:
        """Return hashes over the revisions that match each object."""
        index = self._index()
        found = self._matches(batch, index)
        said: list[list[str]] = [[] for _ in range(len(batch))]
        for i, k in zip(found.left.tolist(), found.event.tolist(), strict=True):
            event = index.events[k]
            said[i].append(f"{event.event}\0{event.revision}\0{event.content_hash}")
        return [
            hashlib.blake2b("\0".join(sorted(events)).encode(), digest_size=16).hexdigest()
            for events in said
        ]

    def subjects(self, batch: LightCurveBatch) -> Sequence[str]:
        """Return the position and the times of each object: nothing else is looked at."""
        ra, dec = batch.positions()
        times = object_times(batch, self.time)
        return [
            " ".join(map(repr, [a, d, *times.jd[low:high].tolist()]))
            for a, d, low, high in zip(ra.tolist(), dec.tolist(), times.offsets[:-1].tolist(),
                                       times.offsets[1:].tolist(), strict=True)
        ]  # fmt: skip

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        """Match many objects at once."""
        index, n = self._index(), len(batch)
        found = self._matches(batch, index)
        count = np.bincount(found.left, minlength=n)
        nowhere = ~np.isfinite(batch.positions()[0])
        columns: dict[str, Any] = {
            "matched": pa.array(count > 0, mask=nowhere),
            "n_events": pa.array(count.astype(np.int32), mask=nowhere),
        }
        values = self._values(batch, index, found)
        if self.how == "best":
            columns |= _first_of_each(found.left, values, n)
        else:
            offsets = pa.array(np.searchsorted(found.left, np.arange(n + 1)).astype(np.int32))
            mask = pa.array(nowhere)
            columns |= {name: pa.ListArray.from_arrays(offsets, part, mask=mask)
                        for name, part in values.items()}  # fmt: skip
        status = np.where(nowhere, MISSING_INFO, 0)
        return {**columns, "status": status,
                "message": [_NO_POSITION if no else None for no in nowhere.tolist()]}  # fmt: skip

    def _index(self) -> EventIndex:
        return index_of(self.catalog, self.version, self.level, self.region == "rectangle")

    def _matches(self, batch: LightCurveBatch, index: EventIndex) -> EventMatches:
        ra, dec = batch.positions()
        before, after = (np.inf if v is None else v for v in (self.before, self.after))
        return index.match(ra, dec, object_times(batch, self.time), before, after)

    def _values(
        self, batch: LightCurveBatch, index: EventIndex, found: EventMatches
    ) -> dict[str, pa.Array]:
        """Return the columns of pairs."""
        events = [index.events[k] for k in found.event.tolist()]
        pull = np.full(len(events), np.nan)
        there = np.isfinite(found.distmu) & np.isfinite(found.distsigma) & (found.distsigma > 0)
        if self.redshift is not None and there.any():
            z = batch.tied(self.redshift.unit, self.redshift.column)[1][found.left]
            there &= np.isfinite(z) & (z > 0)
            far = _luminosity_distance(z[there])
            pull[there] = (far - found.distmu[there]) / found.distsigma[there]
        known = np.where(there, 1.0, np.nan)
        return {
            "event": pa.array([e.event for e in events], pa.string()),
            "revision": pa.array([e.revision for e in events], pa.int64()),
            "level": _numbers(found.level),
            "sigma": _numbers(found.sigma),
            "density": _numbers(found.density),
            "area": _numbers(np.array([e.area for e in events], np.float64)),
            "time_offset": _numbers(found.offset),
            "distmu": _numbers(found.distmu),
            "distsigma": _numbers(found.distsigma),
            "distance_pull": _numbers(pull),
            "density_3d": _numbers(found.density * np.exp(-0.5 * pull**2) * known),
        }


def object_times(batch: LightCurveBatch, which: str) -> Times:
    """Return times of the detections of each object, JD.

    Parameters
    ----------
    batch : LightCurveBatch
    which : str
        ``first``, ``last``, ``peak``: of the brightest that is no negative subtraction, the earlier
        of two that are as bright; or ``any``: all of them.
    """
    p, n = batch.points, len(batch)
    i, detected = batch.index(), p["kind"] == DETECTION
    if which == "peak":
        detected = detected & (p["sign"] > 0) & np.isfinite(p["mag"])
    i, jd = i[detected], p["jd"][detected]
    if which != "any":
        order = np.lexsort((jd, {"first": jd, "last": -jd, "peak": p["mag"][detected]}[which], i))
        i, jd = i[order], jd[order]
        _, first = np.unique(i, return_index=True)
        i, jd = i[first], jd[first]
    return Times(np.searchsorted(i, np.arange(n + 1)), jd)


def _first_of_each(left: Array, values: Mapping[str, pa.Array], n: int) -> dict[str, pa.Array]:
    matched, first = np.unique(left, return_index=True)
    row = np.full(n, -1, np.int64)
    row[matched] = first
    taken = pa.array(row, mask=row < 0)
    return {name: part.take(taken) for name, part in values.items()}


def _numbers(values: Array) -> pa.Array:
    return pa.array(values, pa.float64(), mask=~np.isfinite(values))


def _luminosity_distance(z: Array) -> Array:
    """Return luminosity distances [Mpc] in the cosmology that AMPEL takes."""
    from astropy.cosmology import Planck15

    return np.asarray(Planck15.luminosity_distance(z).value)
