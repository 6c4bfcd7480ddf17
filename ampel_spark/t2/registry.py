"""Units by name (`ampel_spark.classes`), built with their parameters, and described."""

from __future__ import annotations

import functools
import inspect
import operator
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ampel_spark.classes import Kind, build_model, load_class, with_paths
from ampel_spark.errors import UnitError, nearest
from ampel_spark.t2.unit import TYPES, Column, Unit

__all__ = [
    "RESERVED",
    "UNITS",
    "Description",
    "Parameter",
    "build",
    "describe",
    "find_unit",
    "placed",
]

#: The units that come with the package.
UNITS = {
    "catalog_match": "ampel_spark.t2.units.catalog_match:CatalogMatch",
    "classify": "ampel_spark.t2.units.classify:Classify",
    "lens_colours": "ampel_spark.t2.units.lens_colours:LensColours",
    "kilonovaness": "ampel_spark.t2.units.kilonovaness:Kilonovaness",
    "lens_evidence": "ampel_spark.t2.units.lens_evidence:LensEvidence",
    "light_curve_features": "ampel_spark.t2.units.light_curve_features:LightCurveFeatures",
    "event_match": "ampel_spark.t2.units.event_match:EventMatch",
    "light_curve_summary": "ampel_spark.t2.units.light_curve_summary:LightCurveSummary",
    "milky_way_dust": "ampel_spark.t2.units.milky_way_dust:MilkyWayDust",
    "object_header": "ampel_spark.t2.units.object_header:ObjectHeader",
    "object_table": "ampel_spark.t2.units.object_table:ObjectTable",
    "redshift_digest": "ampel_spark.t2.units.redshift_digest:RedshiftDigest",
    "salt_fit": "ampel_spark.t2.units.salt_fit:SaltFit",
    "template_fit": "ampel_spark.t2.units.template_fit:TemplateFit",
}

#: The columns that every unit's table has beside the unit's own.
RESERVED = (
    *("state_id", "subject_id", "stock", "name", "trace_id", "input_hash"),
    *("status", "message", "duration_ms", "attempts", "run_id"),
)

_KIND = Kind("unit", Unit, UNITS)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a unit: name, type, default (None where one must be given), description."""

    name: str
    type: str
    default: str | None
    description: str


@dataclass(frozen=True)
class Description:
    """What a unit is, for people: first line of its docstring, parameters, columns, libraries."""

    summary: str
    parameters: tuple[Parameter, ...]
    columns: tuple[Column, ...]
    libraries: tuple[str, ...]


def find_unit(spec: str, base: Path) -> type[Unit]:
    """Return the class of a unit.

    Parameters
    ----------
    spec : str
        Name of a unit of the package, ``module:Class`` or ``path/file.py:Class``.
    base : Path
        Folder from which a relative path starts.

    Raises
    ------
    UnitError
        If there is no such unit, its module fails on import, or it is not what a unit must be.
    """
    cls = load_class(_KIND, spec, base)
    if cls.process is Unit.process and cls.process_batch is Unit.process_batch:
        raise UnitError(f"unit {spec!r} defines neither process nor process_batch")
    _check_columns(cls.columns, spec)
    return cls


def build(spec: str, config: Mapping[str, Any] | None, base: Path) -> Unit:
    """Return a unit with its parameters, relative paths among them taken from `base`.

    Parameters
    ----------
    spec : str
        As for `find_unit`.
    config : mapping or None
        The parameters that differ from their defaults.
    base : Path
        Folder of the job file.

    Raises
    ------
    UnitError
        If there is no such unit, or its columns cannot make a table.
    ConfigError
        If a parameter is unknown, missing or of the wrong type.
    """
    return placed(build_model(find_unit(spec, base), config, f"unit {spec!r}"), spec, base)


def placed(unit: Unit, spec: str, base: Path) -> Unit:
    """Return a unit with the relative paths in its parameters taken from `base`.

    Parameters
    ----------
    unit : Unit
    spec : str
        How errors name it.
    base : Path
        Folder of the job file.

    Raises
    ------
    UnitError
        If its columns cannot make a table.
    """
    unit = with_paths(unit, lambda path: (base / path).absolute())
    _check_columns(unit.output_columns(), spec)
    return unit


def describe(cls: type[BaseModel]) -> Description:
    """Return what a unit or filter is; the parameters of nested ones have dotted names."""
    return Description(
        (inspect.getdoc(cls) or "").partition("\n")[0],
        tuple(p for name, field in cls.model_fields.items() for p in _parameters(name, field)),
        tuple(getattr(cls, "columns", ())),
        tuple(getattr(cls, "libraries", ())),
    )


def _check_columns(columns: Sequence[Column], spec: str) -> None:
    seen: set[str] = set()
    for column in columns:
        where = f"unit {spec!r}: column {column.name!r}"
        if column.type not in TYPES:
            raise UnitError(f"{where} has the type {column.type!r}{nearest(column.type, TYPES)}")
        if not re.fullmatch(r"[A-Za-z_]\w*", column.name, re.ASCII):
            raise UnitError(f"{where}: use letters, digits and _ in names")
        if column.name.lower() in seen:
            raise UnitError(f"{where} is there twice (upper and lower case are one)")
        if column.name.lower() in RESERVED:
            raise UnitError(f"{where} is a column that every unit's table has: choose another name")
        seen.add(column.name.lower())


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models_in(a)]


def _parameters(name: str, field: FieldInfo) -> list[Parameter]:
    kind = _bare(field.annotation)
    text = kind.__name__ if inspect.isclass(kind) and not hasattr(kind, "__args__") else str(kind)
    text = re.sub(r"\b(?:[a-z_]\w*\.)+", "", text)
    default = None if field.is_required() else repr(field.get_default(call_default_factory=True))
    nested = [
        p
        for model in _models_in(kind)
        for k, f in model.model_fields.items()
        for p in _parameters(f"{name}.{k}", f)
    ]
    return [Parameter(name, text, default, field.description or ""), *nested]


def _bare(annotation: Any) -> Any:
    """Return an annotation without what `Annotated` says of it or of what it is made of."""
    if hasattr(annotation, "__metadata__"):
        return _bare(annotation.__origin__)
    if get_origin(annotation) in (Union, types.UnionType):
        return functools.reduce(operator.or_, map(_bare, get_args(annotation)))
    if get_origin(annotation) in (tuple, list, dict):
        return get_origin(annotation)[tuple(map(_bare, get_args(annotation)))]
    return annotation
