"""The job file: its keys, and the resolved job that is planned and run.

`Job` is the YAML, key by key. `load` checks what the keys say together,
and makes a `ResolvedJob` of it: paths absolute, defaults filled in, filters and units built.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.t2.guard import SILENCE

if TYPE_CHECKING:
    from ampel_spark.calibration.release import Release
    from ampel_spark.expressions import Expression
    from ampel_spark.t0.filters import Filter
    from ampel_spark.t0.selection import History, OnStockMatch, Photometry
    from ampel_spark.t2.unit import Column, Unit
    from ampel_spark.t3.selection import Selection as Rule
    from ampel_spark.t3.unit import T3Unit

__all__ = [
    "CatalogSource",
    "CatalogEntry",
    "Channel",
    "ChannelEntry",
    "FilterEntry",
    "FilterStep",
    "Job",
    "Report",
    "ResolvedJob",
    "SampleEntry",
    "SampleStep",
    "SelectionStep",
    "SelectionEntry",
    "SimulationEntry",
    "States",
    "StatesEntry",
    "SystematicsEntry",
    "UnitEntry",
    "UnitStep",
    "VariationEntry",
]

_T = TypeVar("_T")
#: A YAML list; tuples keep a frozen model frozen.
_Several = Annotated[tuple[_T, ...], Field(strict=False)]
#: One text or a list of them.
_Texts = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    Field(strict=False, min_length=1),
]
#: What can be part of the name of a table or column.
_Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
_UnitSpec = Annotated[
    str, Field(description="name of a unit of the package, module:Class, or path/file.py:Class")
]
_TableName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]

# Tags of unions stand in brackets: the paths of messages leave them out.
_MAPPING, _LIST, _PLAIN = "(mapping)", "(list)", "(plain)"


_SELECTION, _SAMPLE = "(selection)", "(unit)"


def _what_of_t3(value: object) -> str:
    named = "unit" in value if isinstance(value, dict) else isinstance(value, SampleEntry)
    return _SAMPLE if named else _SELECTION


def _shape(value: object) -> str:
    if isinstance(value, dict | BaseModel):
        return _MAPPING
    return _LIST if isinstance(value, list | tuple) else _PLAIN


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class SimulationEntry(_Section):
    """A simulated archive; the same numbers make the same files."""

    alerts: int | None = Field(default=None, ge=1, description="alerts to make; default 6000")
    objects: int | None = Field(
        default=None, ge=1, description="objects to make, instead of alerts"
    )
    nights: int = Field(default=75, ge=1, description="nights it spans")
    first_night: datetime.date = Field(
        default=datetime.date(2024, 3, 1), strict=False, description="first night, UTC date"
    )
    seed: int = Field(default=18, ge=0, description="seed of all that is random in it")
    cutouts: Literal["none", "small", "real"] = Field(
        default="small", description="image cutouts of the packets"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_size(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("alerts") is not None and value.get("objects") is not None:
                raise ValueError("give either 'alerts' or 'objects'")
            if value.get("objects") is None:
                return {"alerts": 6000} | {k: v for k, v in value.items() if v is not None}
        return value


class _Simulated(_Section):
    simulate: SimulationEntry


class CatalogEntry(_Section):
    """A local catalogue: one of the lake, or a file with positions."""

    file: str | None = Field(default=None, description="path of the file")
    simulated: str | None = Field(
        default=None, description="file that comes with the simulated archive"
    )
    lake: str | None = Field(
        default=None, description="name of a catalogue of the lake (`ampel-spark catalog list`)"
    )
    version: int | None = Field(
        default=None, ge=0, description="of the lake's catalogue; default: the newest"
    )
    ra: str = Field(default="ra", description="column of the right ascension [deg, ICRS]")
    dec: str = Field(default="dec", description="column of the declination [deg, ICRS]")
    id: str | None = Field(default=None, description="column of a file that names a row")
    columns: _Several[str] = Field(default=(), description="columns that a match appends")


class ChannelEntry(_Section):
    """A channel: what somebody looks for, and the data they may see."""

    name: _Name
    access: Annotated[_Several[str], Field(min_length=1)] = Field(
        description="data rights, as the survey names them"
    )


class FilterEntry(_Section):
    """T0: the filter of one channel."""

    channel: str
    filter: str = Field(
        description="name of a filter of the package, module:Class, or path/file.py:Class"
    )
    config: dict[str, Any] = Field(default_factory=dict, description="its parameters")
    gaia: str | None = Field(
        default=None, description="catalogue of the Gaia veto; none: that cut is off"
    )
    on_stock_match: Literal["none", "bypass", "overrule", "silent_overrule"] = Field(
        default="none", description="what an object that was accepted before is spared"
    )
    history: Literal["packet", "archive"] = Field(
        default="packet",
        description="the packet's own history, or all that was known of the object then",
    )
    photometry: Literal["issued", "calibrated"] = Field(
        default="issued",
        description="photometry of the alert itself, as issued or as the release calibrates it",
    )


class _AsOf(_Section):
    as_of: Annotated[_Several[float | str | datetime.date], Field(min_length=1)] = Field(
        description="JD [d], or nights YYYY-MM-DD, the night itself included"
    )


class StatesEntry(_Section):
    """T1: which states the job wants, and of what points."""

    states: Annotated[
        Annotated[Literal["latest", "alert"], Tag(_PLAIN)]
        | Annotated[Literal["latest", "alert"], Tag(_LIST)]
        | Annotated[_AsOf, Tag(_MAPPING)],
        Discriminator(_shape),
    ] = Field(
        default="latest",
        description="of each accepted object, of each accepted alert, or as of given times",
    )
    points: Annotated[
        _Several[Literal["detection", "upper_limit", "forced"]], Field(min_length=1)
    ] = Field(default=("detection", "upper_limit"), description="kinds of datapoints")


class UnitEntry(_Section):
    """T2: a unit and its parameters."""

    unit: _UnitSpec
    name: _TableName | None = Field(
        default=None, description="the results' table is t2_<name>; default: the unit's own name"
    )
    channel: _Texts | None = Field(
        default=None, description="channels it computes for; default: all"
    )
    config: dict[str, Any] = Field(default_factory=dict, description="its parameters")
    time_limit: float = Field(
        default=SILENCE, gt=0, description="how long it may take over one light curve [s]"
    )


class SelectionEntry(_Section):
    """T3: what one channel calls a candidate."""

    name: _Name = "candidates"
    channel: str
    select: str = Field(
        default="True", description="expression that is true for a candidate; default: all"
    )
    rank: str | None = Field(default=None, description="number or text to rank by, smallest first")
    columns: Annotated[
        Annotated[_Several[str], Tag(_LIST)]
        | Annotated[tuple[str, ...], Tag(_PLAIN)]
        | Annotated[dict[str, str], Tag(_MAPPING)],
        Discriminator(_shape),
    ] = Field(default=(), description="columns of the table: a list, or label: expression")
    limit: int | None = Field(default=None, ge=1, description="candidates to keep")
    export: _Several[Literal["csv", "parquet", "ecsv", "fits", "votable", "fitres", "sncosmo"]] = ()


class SampleEntry(_Section):
    """T3: a unit that works on the candidates of a selection."""

    unit: _UnitSpec
    name: _TableName | None = Field(
        default=None, description="its table is t3_<name>; default: the unit's own name"
    )
    of: _Name | None = Field(
        default=None, description="selection whose candidates it gets; default: the only one"
    )
    config: dict[str, Any] = Field(default_factory=dict, description="its parameters")


class VariationEntry(_Section):
    """One variation of a job: what changes, and how it counts."""

    name: _Name
    calibration: str | None = Field(default=None, description="release instead of the job's own")
    set: dict[str, Any] = Field(
        default_factory=dict,
        description="what else changes, as for --set: {t2.salt_fit.config.dust.scale: 0.95}",
    )
    weight: float = Field(
        default=1.0,
        ge=0,
        description="factor on its shifts in the covariance: true size over varied size",
    )
    models: str | None = Field(
        default=None, description="folders of SALT models, as trainings/*: one variation each"
    )
    zero_points: str | None = Field(
        default=None,
        description="file with arrays bands and covariance [mag²]: one variation each eigenvector",
    )
    draws: int | None = Field(
        default=None, ge=1, description="of that covariance, instead of its eigenvectors"
    )
    seed: int = Field(default=1, description="of the draws")

    @model_validator(mode="after")
    def _is_one_set(self) -> VariationEntry:
        if self.models is not None and self.zero_points is not None:
            raise ValueError("give models or zero_points, not both: two variations are two entries")
        if self.draws is not None and self.zero_points is None:
            raise ValueError("draws are of zero_points: give the file of their covariance")
        return self

    @property
    def settings(self) -> tuple[str, ...]:
        """What changes, as ``--set`` takes it."""
        return tuple(f"{path}={json.dumps(value)}" for path, value in self.set.items())


class DistanceEntry(_Section):
    """Distances after Tripp 1998: mu = -2.5 log10(x0) + alpha x1 - beta c, and a constant."""

    alpha: float = Field(default=0.16, description="of stretch [mag]")
    beta: float = Field(default=3.1, description="of colour [mag]")


class CosmologyEntry(_Section):
    """A flat LCDM fit to the distances, with their systematic covariance and without."""

    free: bool = Field(
        default=True, description="fit alpha and beta; false: hold those of 'distance'"
    )
    sigma_int: float | None = Field(
        default=None, gt=0, description="intrinsic scatter [mag]; null: found with the fit"
    )
    velocity: float = Field(default=250.0, ge=0, description="peculiar velocities [km/s]")


class SystematicsEntry(_Section):
    """Variations of a job, whose shifts against the job itself are its systematics."""

    selection: _Name = Field(description="selection of t3 whose candidates are the sample")
    unit: str = Field(default="salt_fit", description="entry of t2 whose numbers shift")
    columns: Annotated[_Several[str], Field(min_length=1)] = Field(
        default=("t0", "x0", "x1", "c", "chisq"), description="its columns"
    )
    distance: DistanceEntry | None = Field(
        default=DistanceEntry(), description="distances of x0, x1 and c; null: none"
    )
    cosmology: CosmologyEntry | None = Field(
        default=None, description="a flat LCDM fit to the distances; null: none"
    )
    variations: Annotated[_Several[VariationEntry], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_distances(self) -> SystematicsEntry:
        if self.cosmology is not None and self.distance is None:
            raise ValueError("cosmology needs distances: give 'distance' its alpha and beta")
        return self


class Report(_Section):
    """The HTML report."""

    candidates: int = Field(default=50, ge=0, description="candidates shown with their light curve")


class Job(_Section):
    """A job file, as written."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    lake: str | None = Field(default=None, description="where the tables are; default ./lake")
    survey: str = Field(default="ztf", description="file of conf/surveys, or the path of one")
    archive: (
        Annotated[
            Annotated[_Texts, Tag(_PLAIN)]
            | Annotated[_Texts, Tag(_LIST)]
            | Annotated[_Simulated, Tag(_MAPPING)],
            Discriminator(_shape),
        ]
        | None
    ) = Field(default=None, description="what to ingest first; none: the lake as it is")
    calibration: str = Field(
        default="raw", description="name of a file of conf/calibrations, or path of a file"
    )
    catalog: dict[_Name, CatalogEntry] = Field(default_factory=dict)
    channel: Annotated[_Several[ChannelEntry], Field(min_length=1)]
    t0: Annotated[_Several[FilterEntry], Field(min_length=1)]
    t1: StatesEntry = StatesEntry()
    t2: _Several[UnitEntry] = ()
    t3: _Several[
        Annotated[
            Annotated[SelectionEntry, Tag(_SELECTION)] | Annotated[SampleEntry, Tag(_SAMPLE)],
            Discriminator(_what_of_t3),
        ]
    ] = ()
    systematics: SystematicsEntry | None = None
    report: Annotated[
        Annotated[Literal[False], Tag(_PLAIN)]
        | Annotated[Literal[False], Tag(_LIST)]
        | Annotated[Report, Tag(_MAPPING)],
        Discriminator(_shape),
    ] = Report()


@dataclass(frozen=True)
class Channel:
    """A channel, its data rights, and the program ids they let it see."""

    name: str
    access: tuple[str, ...]
    programids: tuple[int, ...]


@dataclass(frozen=True)
class CatalogSource:
    """A local catalogue.

    Attributes
    ----------
    name : str
    file : Path or None
        The file, or the folder of a catalogue of the lake; None if it is off. That of a simulated
        archive is there once the archive is.
    simulated : str or None
        Name of the file in the folder of the simulated archive.
    off : bool
        It comes with a simulated archive, and the job's archive is none. A unit sees it empty.
    ra, dec : str
        Columns of the position, degrees ICRS.
    columns : tuple of str
        Columns that a match appends.
    lake : str or None
        Its name in the lake.
    version : int or None
        Of a catalogue of the lake, pinned.
    id : str or None
        Column of a file that names a row.
    """

    name: str
    file: Path | None
    simulated: str | None
    off: bool
    ra: str
    dec: str
    columns: tuple[str, ...]
    lake: str | None = None
    version: int | None = None
    id: str | None = None

    def written(self) -> dict[str, Any]:
        """Return the catalogue as a job file has it."""
        return {
            "file": None if self.simulated or self.lake or self.file is None else str(self.file),
            "simulated": self.simulated,
            "lake": self.lake,
            "version": self.version,
            "ra": self.ra,
            "dec": self.dec,
            "id": self.id,
            "columns": list(self.columns),
        }


@dataclass(frozen=True)
class FilterStep:
    """The filter of one channel, built; `gaia` names a catalogue that is there, or None."""

    channel: str
    name: str
    filter: Filter
    gaia: str | None
    on_stock_match: OnStockMatch
    history: History
    photometry: Photometry = "issued"

    def written(self) -> dict[str, Any]:
        """Return the filter as a job file has it."""
        return {
            "channel": self.channel,
            "filter": self.name,
            "config": self.filter.model_dump(mode="json"),
            "gaia": self.gaia,
            "on_stock_match": self.on_stock_match,
            "history": self.history,
            "photometry": self.photometry,
        }


@dataclass(frozen=True)
class States:
    """Which states are wanted (``latest``, ``alert``, or ``as_of`` times [JD, d]), and points."""

    mode: Literal["latest", "alert", "as_of"]
    as_of: tuple[float, ...]
    points: tuple[str, ...]


@dataclass(frozen=True)
class UnitStep:
    """A unit of the job.

    Attributes
    ----------
    name : str
        Its name in the job.
    spec : str
        What the job names: a unit of the package, ``module:Class`` or ``path/file.py:Class``.
    unit : Unit
        The unit, built.
    config : dict
        All its parameters, as JSON can hold them; a catalogue of the job by its name.
    channels : tuple of str
        Channels it computes for.
    needs : tuple of str
        Units it is tied to, by name.
    columns : tuple of Column
        The unit's own columns.
    time_limit : float
        Seconds without a sign of life after which it counts as hanging.
    """

    name: str
    spec: str
    unit: Unit
    config: Mapping[str, Any]
    channels: tuple[str, ...]
    needs: tuple[str, ...]
    columns: tuple[Column, ...]
    time_limit: float = SILENCE

    def written(self) -> dict[str, Any]:
        """Return the unit as a job file has it."""
        written = {
            "unit": self.spec,
            "name": self.name,
            "channel": list(self.channels),
            "config": dict(self.config),
        }
        # Records of jobs that say nothing of it stay as they are.
        return written if self.time_limit == SILENCE else written | {"time_limit": self.time_limit}


@dataclass(frozen=True)
class SelectionStep:
    """What one channel calls a candidate; expressions are parsed, `columns` by label."""

    name: str
    channel: str
    select: Expression
    rank: Expression | None
    columns: Mapping[str, Expression]
    limit: int | None
    export: tuple[str, ...]

    @property
    def rule(self) -> Rule:
        """The selection as `ampel_spark.t3.selection.select` takes it."""
        from ampel_spark.t3.selection import Selection as Rule

        return Rule(self.select, self.rank, self.columns, self.limit)

    def written(self) -> dict[str, Any]:
        """Return the selection as a job file has it."""
        return {
            "name": self.name,
            "channel": self.channel,
            "select": self.select.text,
            "rank": self.rank and self.rank.text,
            "columns": {label: e.text for label, e in self.columns.items()},
            "limit": self.limit,
            "export": list(self.export),
        }


@dataclass(frozen=True)
class SampleStep:
    """A unit of T3, built.

    Attributes
    ----------
    name : str
        Its name in the job.
    spec : str
        What the job names: a unit of the package, ``module:Class`` or ``path/file.py:Class``.
    of : str
        The selection whose candidates it gets.
    unit : T3Unit
    config : dict
        All its parameters, as JSON can hold them.
    """

    name: str
    spec: str
    of: str
    unit: T3Unit
    config: Mapping[str, Any]

    def written(self) -> dict[str, Any]:
        """Return the unit as a job file has it."""
        return {
            "unit": self.spec,
            "name": self.name,
            "of": self.of,
            "config": dict(self.config),
        }


@dataclass(frozen=True)
class ResolvedJob:
    """A job in which nothing is left to look up: it was checked, and can be planned and run.

    Attributes
    ----------
    name, description : str
    file : Path
        The job file.
    text : str
        The job file, as read.
    settings : tuple of str
        What ``--set`` changed in it.
    survey : Survey
    survey_source : str
        Its name in conf/surveys, or the absolute path of its file.
    lake : Path or None
        Lake that the job itself names.
    archive : tuple of str
        Absolute paths and globs; empty for a simulated archive, or for none.
    simulation : SimulationEntry or None
    simulated_in : Path or None
        Folder of the simulated archive; the same for all jobs that simulate the same.
    calibration : Release
    calibration_source : str
        Its name in conf/calibrations, or the absolute path of its file.
    catalogs : dict of str to CatalogSource
    channels : dict of str to Channel
    filters : tuple of FilterStep
        One for each channel.
    states : States
    units : tuple of UnitStep
        Each after those it is tied to.
    selections : tuple of SelectionStep
    samples : tuple of SampleStep
        Units of T3.
    systematics : SystematicsEntry or None
    report : Report or None
    notes : tuple of str
        Lines for the plan: what is switched off, and why.
    varied : callable
        Resolves its text again with more settings and another calibration release; without any,
        what a simulated archive brings is read, once that is made.
    """

    name: str
    description: str
    file: Path
    text: str
    settings: tuple[str, ...]
    survey: Survey
    survey_source: str
    lake: Path | None
    archive: tuple[str, ...]
    simulation: SimulationEntry | None
    simulated_in: Path | None
    calibration: Release
    calibration_source: str
    catalogs: Mapping[str, CatalogSource]
    channels: Mapping[str, Channel]
    filters: tuple[FilterStep, ...]
    states: States
    units: tuple[UnitStep, ...]
    selections: tuple[SelectionStep, ...]
    samples: tuple[SampleStep, ...]
    systematics: SystematicsEntry | None
    report: Report | None
    notes: tuple[str, ...]
    varied: Callable[..., ResolvedJob] = field(repr=False, compare=False)

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The job with paths absolute and all defaults: a job file's content, as JSON can hold it.

        What changes no result (description, lake) is not in it.
        """
        archive = (
            {"simulate": self.simulation.model_dump(mode="json")}
            if self.simulation
            else list(self.archive)
        )
        states = (
            {"as_of": list(self.states.as_of)} if self.states.mode == "as_of" else self.states.mode
        )
        varied = self.systematics
        return {
            "name": self.name,
            "survey": self.survey_source,
            "archive": archive or None,
            "calibration": self.calibration_source,
            "catalog": {c.name: c.written() for c in self.catalogs.values()},
            "channel": [{"name": c.name, "access": list(c.access)} for c in self.channels.values()],
            "t0": [step.written() for step in self.filters],
            "t1": {"states": states, "points": list(self.states.points)},
            "t2": [step.written() for step in self.units],
            "t3": [
                *(step.written() for step in self.selections),
                *(step.written() for step in self.samples),
            ],
            "report": self.report.model_dump(mode="json") if self.report else False,
        } | ({} if varied is None else {"systematics": varied.model_dump(mode="json")})

    @cached_property
    def written(self) -> str:
        """`resolved` as JSON in the job's own order: that of the columns of an export, too."""
        return self._json(sort_keys=False)

    @cached_property
    def canonical(self) -> str:
        """`resolved` as JSON in one form: keys sorted, no blanks."""
        return self._json(sort_keys=True)

    def _json(self, sort_keys: bool) -> str:
        return json.dumps(
            self.resolved,
            sort_keys=sort_keys,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `canonical`, hexadecimal: two jobs that ask the same have the same."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()
