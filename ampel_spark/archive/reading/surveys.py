"""What a survey is: a file of ``conf/surveys`` that says how its files are read.

The ``reader`` decides which section the file has beside the common keys: ``photometry`` for tables
of measurements, ``packets`` for alerts (`packet_map`); ZTF's own packets need none. The section
``columns`` declares what the survey's alerts and points have beside the columns common to all.
"""

from __future__ import annotations

import datetime
import math
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ampel_spark.archive.reading import ztf
from ampel_spark.archive.reading.formats import FORMATS
from ampel_spark.archive.reading.packet_map import PacketSettings
from ampel_spark.archive.reading.recipe import ForcedRecipe
from ampel_spark.errors import ConfigError, nearest

__all__ = [
    "FlagColumn",
    "OwnColumn",
    "OwnColumns",
    "PacketSettings",
    "PhotometrySettings",
    "Source",
    "Survey",
    "Time",
    "as_of_jd",
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


def _as_source(value: Any) -> Any:
    if isinstance(value, str | list | tuple):
        return {"column": value}
    if isinstance(value, datetime.date):
        return {"value": value.isoformat()}
    return {"value": value} if isinstance(value, int | float) else value


def _as_word(value: Any) -> Any:
    return {"value": value} if isinstance(value, str) else value


class Source(_Section):
    """Where a quantity comes from: exactly one of `column`, `meta`, `file`, `path` and `value`.

    A text or a list alone is a column (for `zpsys` a value), a number or a date alone is a value.
    """

    column: str | Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None, description="column of the table; of several names the first that it has"
    )
    meta: str | Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None, description="entry of the table's header; of several the first that it has"
    )
    file: str | None = Field(
        default=None, description="pattern with one group, searched for in the file's name"
    )
    path: str | None = Field(
        default=None, description="pattern with one group, searched for in the file's whole path"
    )
    value: float | str | None = Field(default=None, description="one value for all")
    names: dict[str, str] = Field(
        default_factory=dict, description="what words there are called here"
    )

    @field_validator("file", "path")
    @classmethod
    def _has_a_group(cls, value: str | None) -> str | None:
        try:
            groups = 1 if value is None else re.compile(value).groups
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        if groups != 1:
            raise ValueError("give a pattern with one group in parentheses, as '(ZTF[0-9]+[a-z]+)'")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Source:
        kinds = ("column", "meta", "file", "path", "value")
        given = [k for k in kinds if getattr(self, k) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of {', '.join(kinds)}, not {found}")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names that the column may have."""
        return (self.column,) if isinstance(self.column, str) else self.column or ()

    @property
    def entries(self) -> tuple[str, ...]:
        """Return the names that the entry of the header may have."""
        return (self.meta,) if isinstance(self.meta, str) else self.meta or ()


class Time(Source):
    """Where the time comes from, and how it is written."""

    format: Literal["jd", "mjd", "either"] = Field(
        default="jd", description="jd or mjd [d]; either: files have one or the other"
    )


_Source = Annotated[Source, BeforeValidator(_as_source)]
_Time = Annotated[Time, BeforeValidator(_as_source)]
_Texts = Annotated[tuple[str, ...], Field(strict=False)]


class FlagColumn(_Section):
    """Rows whose measurement is not usable: they keep their status and have no flux."""

    column: str
    bits: int | None = Field(default=None, ge=1, description="any of these bits set")
    codes: Annotated[tuple[int, ...], Field(strict=False)] | None = Field(
        default=None, description="one of these among the codes that it lists, as 56,57"
    )
    values: Annotated[tuple[float | str | bool, ...], Field(strict=False)] | None = Field(
        default=None, description="one of these values"
    )
    outside: Annotated[tuple[float, float], Field(strict=False)] | None = Field(
        default=None, description="not within [low, high]"
    )

    @model_validator(mode="after")
    def _one_rule(self) -> FlagColumn:
        given = [k for k in ("bits", "codes", "values", "outside") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of bits, values and outside, or codes")
        return self


class PhotometrySettings(_Section):
    """How the columns of a photometry table are called."""

    files: _Texts = Field(default=(), description="patterns of files' names; default: all formats")
    format: (
        Literal["csv", "ecsv", "parquet", "fits", "votable", "snfit", "ascii", "ipac"] | None
    ) = Field(
        default=None, description="format of the files; default: by the ending of their names"
    )
    ids: Literal["name", "ztf", "integer"] = Field(
        default="name",
        description="stock ids: a hash of survey and name, AMPEL's of a ZTF name, or the name's own"
        " number",
    )
    issued: _Source | None = Field(
        default=None, description="date when the table was issued: later values are revisions"
    )
    object: _Source = Field(description="name of the object")
    time: _Time = Field(description="time of the measurement")
    band: _Source = Field(description="band; 'names' maps the table's onto sncosmo's")
    flux: _Source | None = Field(default=None, description="flux, in units of the zero point")
    fluxerr: _Source | None = Field(default=None, description="its 1-sigma error")
    zp: _Source | None = Field(default=None, description="zero point of fluxes [mag]")
    mag: _Source | None = Field(default=None, description="magnitude, in place of a flux")
    magerr: _Source | None = Field(default=None, description="its 1-sigma error [mag]")
    limit: _Source | None = Field(default=None, description="limiting magnitude [mag]")
    sign: _Source | None = Field(
        default=None,
        description="sign of the difference whose magnitude it is (t, 1, true, + or f, 0, -1,"
        " false, n); default: a column isdiffpos, if there is one",
    )
    missing: Annotated[tuple[float | str, ...], Field(strict=False)] = Field(
        default=(-99999.0, -999999.0),
        description="values of measured quantities that stand for nothing, beside words as null, -",
    )
    zpsys: Annotated[Source, BeforeValidator(_as_word)] = Field(
        default=Source(value="ab"), description="magnitude system, as sncosmo calls it"
    )
    field: _Source | None = Field(default=None, description="survey field")
    rcid: _Source | None = Field(default=None, description="readout channel or detector")
    ccd: str | None = Field(
        default=None, description="column of ZTF's CCD (1 to 16): with 'quadrant' in place of rcid"
    )
    quadrant: str | None = Field(default=None, description="column of its quadrant (0 to 3)")
    ra: _Source | None = Field(default=None, description="right ascension [deg, ICRS]")
    dec: _Source | None = Field(default=None, description="declination [deg, ICRS]")
    redshift: _Source | None = Field(default=None, description="redshift")
    mwebv: _Source | None = Field(
        default=None, description="E(B-V) of the Milky Way, as the table's makers took it [mag]"
    )
    peak: _Source | None = Field(
        default=None,
        description="time of maximum, as the table's makers know it; format as of time",
    )
    recipe: ForcedRecipe | None = Field(
        default=None, description="what is done to fluxes of forced photometry"
    )
    unusable: Annotated[tuple[FlagColumn, ...], Field(strict=False)] = Field(
        default=(), description="rows whose measurement is not usable"
    )
    programid: int | str = Field(
        default=1,
        description="program id of every row, or the column that has it; default: a column"
        " programid, if there is one, else 1",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> PhotometrySettings:
        limits_alone = self.limit is not None and self.mag is None and self.magerr is None
        if (self.flux is None) == (self.mag is None) and not (self.flux is None and limits_alone):
            raise ValueError(
                "give either 'flux' (with fluxerr and zp) or 'mag' (with magerr), or 'limit' alone"
            )
        needed = ("fluxerr", "zp") if self.flux is not None else () if limits_alone else ("magerr",)
        others = ("magerr",) if self.flux is not None else ("fluxerr", "zp")
        for key in needed:
            if getattr(self, key) is None:
                raise ValueError(f"'{'flux' if self.flux is not None else 'mag'}' needs {key!r}")
        for key in others:
            if getattr(self, key) is not None:
                raise ValueError(f"{key!r} does not go with what the table measures")
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> PhotometrySettings:
        if self.sign is not None and self.mag is None:
            raise ValueError("'sign' goes with 'mag': a flux has its own")
        for pair in (("ra", "dec"), ("ccd", "quadrant")):
            if len({getattr(self, key) is None for key in pair}) > 1:
                raise ValueError("give both '{}' and '{}', or neither".format(*pair))
        if self.ccd is not None and self.rcid is not None:
            raise ValueError("give either 'rcid', or 'ccd' and 'quadrant'")
        if self.recipe is not None and self.flux is None:
            raise ValueError("'recipe' goes with 'flux'")
        return self


class OwnColumn(_Section):
    """A typed scalar that a survey's alerts, or its points, have beside the common columns."""

    source: Annotated[str, Field(min_length=1)] = Field(
        alias="from", description="path to it in the alert, or in a point's own record"
    )
    type: Literal["boolean", "int", "bigint", "float", "double", "string"]
    comment: str = Field(description="what it means, with its unit in brackets")


_OwnColumns = dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")], OwnColumn]


class OwnColumns(_Section):
    """What a survey's alerts and points have beside the common columns, by name."""

    alerts: _OwnColumns = Field(default_factory=dict, description="columns of its alerts")
    points: _OwnColumns = Field(default_factory=dict, description="columns of its points")

    @field_validator("alerts")
    @classmethod
    def _are_no_alerts(cls, value: _OwnColumns) -> _OwnColumns:
        return _apart(value, ztf.COMMON_NAMES, "alerts")

    @field_validator("points")
    @classmethod
    def _are_no_points(cls, value: _OwnColumns) -> _OwnColumns:
        return _apart(value, ztf.POINT_NAMES, "points")


def _apart(columns: _OwnColumns, common: frozenset[str], what: str) -> _OwnColumns:
    """Refuse names that are common columns, or that differ in upper and lower case alone."""
    seen: set[str] = set()
    for name in columns:
        if name.lower() in common:
            raise ValueError(f"{name} is a column that all {what} have: choose another name")
        if name.lower() in seen:
            raise ValueError(f"{name} is there twice (upper and lower case are one)")
        seen.add(name.lower())
    return columns


class Survey(_Section):
    """A file of conf/surveys."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
    description: str = ""
    of: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] | None = Field(
        default=None,
        description="survey whose objects these are: its points and these are one light curve",
    )
    reader: str = Field(default="ztf_avro", description="what reads its files")
    night_starts: float = Field(
        default=0.0, description="hour at which a night's date begins [h UTC]"
    )
    access: dict[str, int] = Field(description="program id that each data right lets see")
    photometry: PhotometrySettings | None = Field(default=None, description="of reader photometry")
    packets: PacketSettings | None = Field(default=None, description="of reader packets")
    columns: OwnColumns = Field(
        default=OwnColumns(), description="typed columns of its alerts and points"
    )

    @property
    def label(self) -> str:
        """What the tables call the survey."""
        return self.of or self.name

    @field_validator("reader")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in FORMATS:
            raise ValueError(f"no reader {value!r}{nearest(value, FORMATS)}")
        return value

    @model_validator(mode="after")
    def _has_its_section(self) -> Survey:
        for reader, form in FORMATS.items():
            key = form.section
            if key and (getattr(self, key) is not None) != (self.reader == reader):
                there = "lacks" if self.reader == reader else "has"
                raise ValueError(
                    f"the survey {there} a section {key!r}, which reader {reader!r} needs"
                )
        section = self.photometry or self.packets
        given = None if section is None else section.programid
        if isinstance(given, int) and given not in self.access.values():
            raise ValueError(f"no data right lets see program id {given}: add it to 'access'")
        return self


def as_of_jd(value: float | str | datetime.date, survey: Survey | None = None) -> float:
    """Return the JD up to which alerts count.

    Parameters
    ----------
    value : float, str or date
        A JD, or a night: a date, ``2020-01-31`` or ``20200131``. A night is included to its end.
    survey : Survey, optional
        Its nights; without it, a night is the UTC date.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    text = str(value).strip()
    night = re.fullmatch(r"(\d{4})-?(\d\d)-?(\d\d)", text)
    if night is not None:
        try:
            date = datetime.date(*map(int, night.groups()))
        except ValueError:
            raise ConfigError(f"{text!r} is no date: give a JD, or a night as YYYY-MM-DD") from None
        # ordinal 1 is 0001-01-01, which begins at JD 1721425.5
        end = date.toordinal() + 1721425.5 + (survey.night_starts / 24.0 if survey else 0.0)
        return math.nextafter(end, 0.0)
    try:
        jd = float(text)
    except ValueError:
        jd = math.nan
    if not 2_400_000.0 <= jd < 2_600_000.0:
        raise ConfigError(f"{text!r} is neither a JD (such as 2458849.5) nor a night (YYYY-MM-DD)")
    return jd
