"""Units by name: those that come with the package, and anyone's own.

A job names a unit as one of `UNITS`, as ``module:Class`` where Python can import the module, or as
``path/file.py:Class``, from the job file's folder.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import operator
import re
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ampel_spark.errors import ConfigError, UnitError, nearest
from ampel_spark.t2.trace import modules_of
from ampel_spark.t2.unit import TYPES, Column, Unit

__all__ = [
    "RESERVED",
    "UNITS",
    "Description",
    "Parameter",
    "build",
    "build_class",
    "describe",
    "find_unit",
    "packed",
]

#: The units that come with the package.
UNITS = {
    "catalog_match": "ampel_spark.t2.units.catalog_match:CatalogMatch",
    "light_curve_summary": "ampel_spark.t2.units.light_curve_summary:LightCurveSummary",
    "milky_way_dust": "ampel_spark.t2.units.milky_way_dust:MilkyWayDust",
    "object_table": "ampel_spark.t2.units.object_table:ObjectTable",
    "redshift_digest": "ampel_spark.t2.units.redshift_digest:RedshiftDigest",
    "salt_fit": "ampel_spark.t2.units.salt_fit:SaltFit",
}

#: The columns that every unit's table has beside the unit's own.
RESERVED = (
    *("state_id", "stock", "name", "trace_id", "input_hash"),
    *("status", "message", "duration_ms", "attempts", "run_id"),
)


# Modules of the user that were imported for units: their file, and the digest of its content then.
_LOADED: dict[str, tuple[Path, str]] = {}


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
    _forget_changed()
    where, colon, name = UNITS.get(spec, spec).rpartition(":")
    if not colon or not where or not name:
        raise UnitError(
            f"no unit {spec!r}{nearest(spec, UNITS)}; "
            "one's own is path/file.py:Class or module:Class"
        )
    file = (base / where).resolve() if where.endswith(".py") else None
    cls = _class_in(_from_file(file, spec) if file else _imported(where, spec), name, spec)
    if cls.process is Unit.process and cls.process_batch is Unit.process_batch:
        raise UnitError(f"unit {spec!r} defines neither process nor process_batch")
    _check_columns(cls.columns, spec)
    _remember(cls, file.parent if file else None, spec)
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
    return build_class(find_unit(spec, base), config, base, spec)


def build_class(cls: type[Unit], config: Mapping[str, Any] | None, base: Path, spec: str) -> Unit:
    """Return a unit of a class with its parameters.

    Parameters
    ----------
    cls : class
    config, base
        As for `build`.
    spec : str
        How the unit is called in messages.

    Raises
    ------
    UnitError
        If its columns cannot make a table.
    ConfigError
        If a parameter is unknown, missing or of the wrong type.
    """
    try:
        unit = cls.model_validate(dict(config or {}))
    except ValidationError as error:
        raise ConfigError(_explained(error, cls, spec)) from None
    unit = unit.model_copy(update={k: _absolute(getattr(unit, k), base) for k in cls.model_fields})
    _check_columns(unit.output_columns(), spec)
    return unit


def describe(cls: type[Unit]) -> Description:
    """Return a unit's parameters and columns; those of nested parameters have dotted names."""
    return Description(
        (inspect.getdoc(cls) or "").partition("\n")[0],
        tuple(p for name, field in cls.model_fields.items() for p in _parameters(name, field)),
        tuple(cls.columns),
        tuple(cls.libraries),
    )


def packed(unit: Unit) -> bytes:
    """Return a unit as bytes that `pickle.loads` takes where the user's own files are not.

    The user's modules travel by value; ampel_spark and the libraries must be installed there.
    """
    cloudpickle: Any = importlib.import_module("pyspark.cloudpickle")
    modules = [module for module, _ in _modules(type(unit)).values()]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps(unit)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return data


def _imported(name: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name
            and f"{name}.".startswith(f"{error.name}.")
        ):
            raise UnitError(
                f"unit {spec!r}: there is no module {error.name!r}; "
                "for a file write path/file.py:Class"
            ) from None
        raise UnitError(
            f"unit {spec!r}: module {name!r} fails on import: {_told(error)}"
        ) from error


def _from_file(path: Path, spec: str) -> ModuleType:
    try:
        digest = sha256(str(path).encode() + b"\0" + path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UnitError(f"unit {spec!r}: cannot read {path}: {error.strerror}") from None
    name = f"unit_file_{digest}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # so that the file can import those beside it
    importlib.invalidate_caches()
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise UnitError(f"unit {spec!r}: {path} is no file that Python can import")
    module = sys.modules[name] = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UnitError(f"unit {spec!r}: {path} fails on import: {_told(error)}") from error
    return module


def _told(error: Exception) -> str:
    """Name an error, and the line of code where it arose."""
    trace = error.__traceback__
    line = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith("<frozen") and code.co_filename != __file__:
            line = f" ({code.co_filename}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {error}{line}"


def _class_in(module: ModuleType, name: str, spec: str) -> type[Unit]:
    cls = getattr(module, name, None)
    if cls is None:
        known = [k for k, v in vars(module).items() if inspect.isclass(v) and issubclass(v, Unit)]
        raise UnitError(
            f"unit {spec!r}: no class {name!r} there{nearest(name, set(known) - {'Unit'})}"
        )
    if not (inspect.isclass(cls) and issubclass(cls, Unit)) or cls is Unit:
        raise UnitError(
            f"unit {spec!r}: {name} is no unit; write class {name}(ampel_spark.t2.Unit)"
        )
    return cls


def _modules(cls: type[Unit]) -> dict[str, tuple[ModuleType, Path]]:
    """Return the imported modules of the user's packages and files behind a class, with files."""
    tops = {name.partition(".")[0] for name in modules_of(cls)}
    found = {}
    for name, module in list(sys.modules.items()):
        origin = getattr(getattr(module, "__spec__", None), "origin", None)
        if name.partition(".")[0] in tops and origin is not None:
            found[name] = (module, Path(origin))
    return found


def _remember(cls: type[Unit], folder: Path | None, spec: str) -> None:
    """Note the user's modules behind a class, to notice when they change on disk."""
    for name, (_, path) in _modules(cls).items():
        for beside in (folder / f"{name}.py", folder / name / "__init__.py") if folder else ():
            if beside.is_file() and not beside.samefile(path):
                raise UnitError(
                    f"unit {spec!r}: {beside} is hidden by {path}, which was imported as {name!r} "
                    "before: rename one of them"
                )
        _LOADED.setdefault(name, (path, _content(path)))


def _forget_changed() -> None:
    """Let the user's modules be imported anew if one of them has changed on disk."""
    if any(_content(path) != digest for path, digest in _LOADED.values()):
        for name in _LOADED:
            sys.modules.pop(name, None)
        _LOADED.clear()


def _content(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


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


def _explained(error: ValidationError, cls: type[Unit], spec: str) -> str:
    lines = []
    for fault in error.errors(include_url=False):
        # tags of unions stand in round brackets
        path = ".".join(str(key) for key in fault["loc"] if not str(key).startswith("("))
        where = f"unit {spec!r}: config.{path}" if path else f"unit {spec!r}: config"
        if fault["type"] == "extra_forbidden":
            known = _fields_at(cls, fault["loc"][:-1])
            hint = nearest(str(fault["loc"][-1]), known)
            lines.append(f"{where} = {fault['input']!r}: no such parameter{hint}")
        elif fault["type"] == "missing":
            lines.append(f"{where} must be given")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            lines.append(f"{where} = {fault['input']!r}: {message[:1].lower()}{message[1:]}")
    return "\n".join(lines)


def _fields_at(cls: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Return the names of the fields that could stand at a place in a model."""
    for step in loc:
        field = cls.model_fields.get(str(step))
        if field is None:
            continue  # the member of a union, an index, a key
        cls = next(iter(_models_in(field.annotation)), cls)
    return list(cls.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models_in(a)]


def _absolute(value: Any, base: Path) -> Any:
    """Return a parameter's value with relative paths in it taken from `base`."""
    if isinstance(value, Path):
        return (base / value).absolute()
    if isinstance(value, BaseModel):
        new = {k: _absolute(getattr(value, k), base) for k in type(value).model_fields}
        return value.model_copy(update=new)
    if isinstance(value, dict):
        return {k: _absolute(v, base) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_absolute(v, base) for v in value)
    return value


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
