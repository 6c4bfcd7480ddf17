"""The keys of a calibration release's file, with their types and limits.

`ampel_spark.calibration.load` reads the file and the tables that it names.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticKnownError

__all__ = ["CHANGES", "ReleaseEntry", "RuleEntry", "SelectEntry"]

_T = TypeVar("_T")


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str | int) and not isinstance(value, bool) else value


def _names(value: Any) -> Any:
    """Return names as text; a stock id may stand as a number in the file."""
    values = _listed(value)
    if not isinstance(values, list | tuple):
        return values
    return tuple(str(v) if type(v) is int else v for v in values)


#: One value or a list of them.
_Several = Annotated[tuple[_T, ...], BeforeValidator(_listed), Field(strict=False, min_length=1)]
_Time = float | str | datetime.date


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, protected_namespaces=(), allow_inf_nan=False
    )


class TimeRange(_Section):
    """A range of time."""

    first: _Time | None = Field(default=None, description="night (YYYY-MM-DD), or JD [d]")
    last: _Time | None = Field(
        default=None, description="night, itself included, or JD, itself excluded [d]"
    )


class MagRange(_Section):
    """A range of magnitude as issued: min <= m < max."""

    min: float | None = Field(default=None, description="bright end, included [mag]")
    max: float | None = Field(default=None, description="faint end, excluded [mag]")

    @model_validator(mode="after")
    def _has_room(self) -> MagRange:
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise ValueError(f"min ({self.min}) is not below max ({self.max})")
        return self


def _channel(value: int, info: ValidationInfo) -> int:
    """Refuse a readout channel that ZTF has not got, unless the rule names another survey."""
    if value > 63 and {*(info.data.get("survey") or ("ztf",))} == {"ztf"}:
        raise PydanticKnownError("less_than_equal", {"le": 63})
    return value


class SelectEntry(_Section):
    """Conditions on points: a rule acts on the points that meet all of them."""

    survey: _Several[str] | None = Field(default=None, description="surveys")
    band: _Several[str] | None = Field(default=None, description="bands, as ztfg")
    field: _Several[int] | None = Field(default=None, description="fields of the survey")
    rcid: _Several[Annotated[int, Field(ge=0), AfterValidator(_channel)]] | None = Field(
        default=None, description="readout channels: 0 to 63, but where 'survey' names another's"
    )
    ccd: _Several[Annotated[int, Field(ge=1, le=16)]] | None = Field(
        default=None, description="CCDs of ZTF, 1 to 16: rcid // 4 + 1"
    )
    kind: _Several[Literal["detection", "upper_limit", "forced"]] | None = Field(
        default=None, description="kinds of points"
    )
    time: TimeRange | None = Field(default=None, description="range of time")
    mag: MagRange | None = Field(
        default=None,
        description="range of magnitude as issued; of an upper limit its limit, of forced "
        "photometry that of abs(flux)",
    )
    objects: (
        Annotated[tuple[str, ...], BeforeValidator(_names), Field(strict=False, min_length=1)]
        | None
    ) = Field(default=None, description="names or stock ids of objects")
    objects_in: str | None = Field(default=None, description="file of such, one a line")


class NonLinearity(_Section):
    """A change that grows with magnitude: m + mag_per_mag (m - pivot)."""

    mag_per_mag: float = Field(ge=-0.5, le=0.5, description="slope [mag/mag]")
    pivot: float = Field(description="magnitude that stays as it is [mag]")


class Slope(_Section):
    """A change that grows with wavelength: m + mag (wavelength - pivot) / over."""

    mag: float = Field(ge=-5, le=5, description="change of magnitude over the range [mag]")
    over: float = Field(gt=0, description="the range of wavelength [Angstrom]")
    pivot: float = Field(gt=0, description="wavelength that stays as it is [Angstrom]")
    wavelength: dict[str, float] = Field(
        default_factory=dict,
        description="of bands [Angstrom]; those of ZTF, LSST, ATLAS, PS1, SDSS and DES are known",
    )


class Errors(_Section):
    """A change of errors: sqrt((scale err)^2 + floor^2 + (flux_floor |flux|)^2)."""

    scale: float = Field(default=1.0, ge=1e-6, le=100, description="factor")
    floor: float = Field(default=0.0, ge=0, le=5, description="added in quadrature [mag]")
    flux_floor: float = Field(
        default=0.0, ge=0, le=5, description="added in quadrature [fraction of the flux]"
    )


class Replace(_Section):
    """Replaced photometry."""

    table: str = Field(description="CSV or Parquet file, one row per datapoint_id")


#: Keys of a rule that change a point.
CHANGES = ("replace", "table", "zero_point", "nonlinearity", "slope", "flux_scale", "error")


class RuleEntry(_Section):
    """A change, and the points that it acts on."""

    name: str = ""
    select: SelectEntry = SelectEntry()
    adds: bool = Field(
        default=False, description="meant to act on top of other rules that change the same"
    )
    mask: Literal[True] | None = Field(default=None, description="leave the points out")
    replace: Replace | None = None
    table: str | None = Field(
        default=None, description="CSV or Parquet file with a row for each band, rcid, ..."
    )
    zero_point: float | None = Field(
        default=None, ge=-5, le=5, description="added to magnitudes [mag]"
    )
    nonlinearity: NonLinearity | None = None
    slope: Slope | None = None
    flux_scale: float | None = Field(default=None, gt=0, le=100, description="factor on fluxes")
    error: Errors | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> RuleEntry:
        given = [key for key in CHANGES if getattr(self, key) is not None]
        if not given and self.mask is None:
            raise ValueError(f"a rule changes something: give mask, {', '.join(CHANGES)}")
        if given and self.mask is not None:
            raise ValueError(
                "of masked points nothing can be changed: "
                f"give {', '.join(given)} a rule of its own"
            )
        if self.table is not None and len(given) > 1:
            others = ", ".join(key for key in given if key != "table")
            raise ValueError(f"a table says all that its rule changes: give {others} another rule")
        return self


class ReleaseEntry(_Section):
    """A file of conf/calibrations: a named release of corrections."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    rules: Annotated[tuple[RuleEntry, ...], Field(strict=False)] = ()
