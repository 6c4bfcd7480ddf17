"""How a survey's alert packets are to be read: the section ``packets`` of its settings.

A path names a field by the records around it (``diaSource.ra``). Of several paths, the first one
that has a value counts. Within a list of points, paths begin at an entry of the list; with a slash
before them (``/exposure.zeropoint``) they begin at the packet.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = ["FlagRule", "PacketSettings", "Paths", "PointList", "StockPath"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _as_stocks(value: Any) -> Any:
    entries = value if isinstance(value, list | tuple) else [value]
    return tuple({"id": entry} if isinstance(entry, str) else entry for entry in entries)


def _as_rules(value: Any) -> Any:
    entries = value if isinstance(value, list | tuple) else [value]
    return tuple({"path": entry} if isinstance(entry, str) else entry for entry in entries)


def _with_words(value: Any) -> Any:
    """Return bands under the words that a packet has, also where they are numbers."""
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value


#: Paths of one field: the first that has a value counts.
Paths = Annotated[
    tuple[Annotated[str, Field(pattern=r"^/?[^./\s]+(\.[^./\s]+)*$")], ...],
    BeforeValidator(_as_list),
    Field(strict=False, min_length=1),
]


class StockPath(_Section):
    """Where the object of an alert is named."""

    id: Paths = Field(description="id or name of the object, from the packet on")
    name: Paths | None = Field(default=None, description="what it is called; default: its id")
    ids: Literal["integer", "name", "ztf"] = Field(
        default="integer",
        description="stock ids: the number itself, a hash of survey and name, or AMPEL's of a ZTF"
        " name",
    )
    solar_system: bool = Field(
        default=False,
        description="it is a body of the solar system: such alerts are in no channel that does not"
        " name `solar_system` in its conditions",
    )


class FlagRule(_Section):
    """What a field says of a point; a path alone is met by any value but null, NaN, false and 0."""

    path: Paths
    bits: int | None = Field(default=None, ge=1, description="any of these bits set")
    values: Annotated[tuple[float | str | bool, ...], Field(strict=False)] | None = Field(
        default=None, description="one of these values"
    )
    outside: Annotated[tuple[float, float], Field(strict=False)] | None = Field(
        default=None, description="not within [low, high]"
    )

    @model_validator(mode="after")
    def _one_rule(self) -> FlagRule:
        given = [k for k in ("bits", "values", "outside") if getattr(self, k) is not None]
        if len(given) > 1:
            raise ValueError("give at most one of bits, values and outside")
        return self


_Rules = Annotated[tuple[FlagRule, ...], BeforeValidator(_as_rules), Field(strict=False)]


class _Measured(_Section):
    """Where the values of a point are; said once for all lists, and anew where one differs."""

    time: Paths | None = Field(default=None, description="time of the measurement")
    band: Paths | None = Field(default=None, description="band; `bands` says what it is called")
    flux: Paths | None = Field(default=None, description="flux, in units of the zero point")
    fluxerr: Paths | None = Field(default=None, description="its 1-sigma error")
    zp: float | Paths | None = Field(
        default=None, description="zero point of fluxes [mag], or its path"
    )
    mag: Paths | None = Field(default=None, description="magnitude, in place of a flux")
    magerr: Paths | None = Field(default=None, description="its 1-sigma error [mag]")
    sign: Paths | None = Field(
        default=None, description="sign of the difference whose magnitude it is (t, 1, f, 0 …)"
    )
    limit: Paths | None = Field(default=None, description="limiting magnitude [mag]")
    noise: Paths | None = Field(
        default=None, description="1-sigma noise, of which `limit_sigma` make the limit"
    )
    ra: Paths | None = Field(default=None, description="right ascension [deg, ICRS]")
    dec: Paths | None = Field(default=None, description="declination [deg, ICRS]")
    field: Paths | None = Field(default=None, description="field of the survey")
    rcid: Paths | None = Field(default=None, description="readout channel or detector")
    status: Paths | None = Field(default=None, description="the survey's word on the measurement")
    programid: int | Paths | None = Field(default=None, description="program id, or its path")
    unusable: _Rules | None = Field(
        default=None,
        description="the measurement failed: it is no detection; forced, it has no flux",
    )
    withdrawn: _Rules | None = Field(
        default=None, description="the survey took the point back: it leaves the state"
    )


class PointList(_Measured):
    """Points of a packet: a record, or a list of records."""

    records: Paths = Field(description="the record or list, from the packet on")
    kind: Literal["detection", "upper_limit", "forced"] = Field(description="what its entries are")
    id: Paths | None = Field(
        default=None,
        description="id of a detection; default: a hash of survey, object, time, band, field and"
        " readout channel, which other kinds have always",
    )
    where: _Rules = Field(default=(), description="take the entries alone that meet one of these")
    unless: _Rules = Field(default=(), description="pass over the entries that meet one of these")


class PacketSettings(_Measured):
    """How a survey's alerts are to be understood: what it says of points holds for all lists."""

    id: Paths = Field(description="id of the alert: a positive number")
    stock: Annotated[
        tuple[StockPath, ...], BeforeValidator(_as_stocks), Field(strict=False, min_length=1)
    ] = Field(description="object of the alert: the first of these that has a value")
    version: Paths | None = Field(default=None, description="version of the packet's schema")
    points: Annotated[tuple[PointList, ...], Field(strict=False, min_length=1)] = Field(
        description="lists of points; the first is the record of the alert's own detection, whose"
        " time and place are the alert's"
    )
    format: Literal["jd", "mjd", "iso"] = Field(
        default="jd", description="how times are written: jd or mjd [d], or ISO 8601"
    )
    scale: Literal["utc", "tai"] = Field(default="utc", description="scale of the times")
    bands: Annotated[dict[str, str], BeforeValidator(_with_words)] = Field(
        description="bands there, and sncosmo's names of them"
    )
    zpsys: str = Field(default="ab", description="magnitude system, as sncosmo calls it")
    limit_sigma: float = Field(default=5.0, gt=0, description="sigma of limits made of noise")
    missing: Annotated[tuple[float, ...], Field(strict=False)] = Field(
        default=(), description="numbers that stand for nothing"
    )
    programid: int | Paths = Field(default=1, description="program id of the packets, or its path")
    keep: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="records whose scalars are kept as JSON in the column `own`"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> PacketSettings:
        if self.points[0].kind != "detection":
            raise ValueError("the first of 'points' is the alert's own detection")
        for number, each in enumerate(self.points):
            for problem in _problems(self, each):
                raise ValueError(f"points, entry {number + 1} ({each.records[0]}): {problem}")
        return self

    @staticmethod
    def shared() -> tuple[str, ...]:
        """Return the keys that a list of points and the packets may both have."""
        return tuple(_Measured.model_fields)

    def of(self, points: PointList, key: str) -> Any:
        """Return what is said of a list of points: by itself, or for all lists."""
        own = getattr(points, key)
        return getattr(self, key) if own is None else own

    def measures_flux(self, points: PointList) -> bool:
        """Say whether a list has fluxes; else it has magnitudes."""
        return points.flux is not None or (points.mag is None and self.flux is not None)


def _problems(spec: PacketSettings, points: PointList) -> list[str]:
    """Return what is missing for points of a kind to be made, in words."""

    def lacks(*keys: str) -> list[str]:
        return [key for key in keys if spec.of(points, key) is None]

    missing = lacks("time", "band")
    if points.kind == "upper_limit":
        if len(lacks("limit", "noise")) == 2:
            missing.append("limit or noise")
        elif not lacks("noise") and lacks("limit"):
            missing += lacks("zp")
    elif points.kind == "forced":
        missing += lacks("flux", "fluxerr", "zp")
    elif spec.measures_flux(points):
        missing += lacks("fluxerr", "zp")
    else:
        missing += ["flux or mag"] if lacks("mag") else lacks("magerr")
    return [f"needs {', '.join(missing)}"] if missing else []
