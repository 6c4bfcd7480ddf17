"""The trace of a unit: one hash over all that decides its results, beside what it reads.

Part of it are

- the unit's parameters, defaults included;
- its *code*: the modules of its classes up to `ampel_spark.t2.Unit`, and the modules of this
  package and of the user that these import, directly or not (`code_of`);
- the content of the files it reads: `Unit.files` and parameters of type `Path`;
- the versions of the libraries it declares.

What `Unit.inputs` tells, object by object, is part of the input hash instead (`Unit.untraced`).

Two decisions. Code counts by what it does: comments, docstrings, blank lines and line breaks change
nothing. And it counts by module: any other change in a module that the unit imports is a change,
used or not, because that errs on the side of computing again. Where files lie does not count, only
what is in them.

Out of sight are imports by a name made at run time (`importlib.import_module`) and what the
``__init__.py`` of a package does beyond handing names on.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ampel_spark.errors import UnitError
from ampel_spark.files import stamp
from ampel_spark.t2.unit import Unit

__all__ = ["FILE_MODULE", "Trace", "code_of", "digest_of", "modules_of", "trace_of"]

#: How modules loaded from a unit's file are named: digest of their code, and the file's stem.
FILE_MODULE = re.compile(r"^unit_file_[0-9a-f]{16}_(.+)$")


@dataclass(frozen=True)
class Trace:
    """The trace of a unit.

    Attributes
    ----------
    trace_id : str
        Hash over `content`, 32 hexadecimal digits.
    unit : str
        How the unit was named; not part of the hash.
    content : mapping
        What went into the hash: ``class``, ``parameters``, ``code`` (digest of each module),
        ``files`` (name and digest; the names are for the reader and not hashed), ``libraries``.
    """

    trace_id: str
    unit: str
    content: Mapping[str, Any]


def trace_of(unit: Unit, spec: str) -> Trace:
    """Return the trace of a unit.

    Parameters
    ----------
    unit : Unit
        The unit, with its parameters.
    spec : str
        How the job names it, for the record.

    Raises
    ------
    UnitError
        If code or a file cannot be read, a library is not installed, or a parameter is of a kind
        that has no canonical form.
    """
    cls = type(unit)
    content = {
        "class": cls.__qualname__,
        "parameters": {
            name: _plain(getattr(unit, name), f"{spec}: {name}")
            for name in sorted(cls.model_fields)
            if name not in cls.untraced
        },
        "code": code_of(cls),
        "files": [{"name": path.name, "sha256": digest_of(path)} for path in unit.files()],
        "libraries": {name: _version(name, spec) for name in sorted(unit.libraries)},
    }
    hashed = content | {"files": [digest_of(path) for path in unit.files()]}
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    return Trace(hashlib.blake2b(text.encode(), digest_size=16).hexdigest(), spec, content)


def code_of(cls: type[Unit]) -> dict[str, str]:
    """Return the digests of the modules whose code makes up a unit's class, by module.

    Raises
    ------
    UnitError
        If the source of one of them cannot be had.
    """
    digests: dict[str, str] = {}
    for spec, source in _walk(cls):
        key = FILE_MODULE.sub(r"\1", spec.name)
        digest = _digest(source)
        if digests.setdefault(key, digest) != digest:
            raise UnitError(f"{cls.__qualname__} uses two modules named {key!r}: rename one")
    return dict(sorted(digests.items()))


def modules_of(cls: type[Unit]) -> list[str]:
    """Return the names of the modules outside ampel_spark that make up a unit's class.

    These are what an executor lacks, unless they are sent along.
    """
    names = {spec.name for spec, _ in _walk(cls)}
    return sorted(name for name in names if name.partition(".")[0] != "ampel_spark")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files in a folder.

    Raises
    ------
    UnitError
        If it is not there or cannot be read.
    """
    try:
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file())
            text = "".join(f"{_file(p)} {p.relative_to(path).as_posix()}\n" for p in files)
            return hashlib.sha256(text.encode()).hexdigest()
        return _file(path)
    except OSError as error:
        raise UnitError(
            f"cannot read {path}: {error.strerror}; a unit's files must be there"
        ) from None


def _file(path: Path) -> str:
    return _hashed(path, stamp(path))


@functools.lru_cache(maxsize=1024)
def _hashed(path: Path, known_by: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(library: str, spec: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        raise UnitError(
            f"{spec} declares the library {library!r}, which is not installed"
        ) from None


def _plain(value: Any, where: str) -> Any:
    """Return the canonical form of a parameter's value, for JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Path):
        return {"sha256": digest_of(value)}
    if isinstance(value, BaseModel):
        out = getattr(type(value), "untraced", ())
        return {
            k: _plain(getattr(value, k), f"{where}.{k}")
            for k in type(value).model_fields
            if k not in out
        }
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_plain(v, where) for v in value), key=json.dumps)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(v, where) for v in value]
    if isinstance(value, Enum):
        return _plain(value.value, where)
    raise UnitError(
        f"{where} is a {type(value).__name__}, which a trace has no form for: "
        "use numbers, text, paths, lists, mappings or pydantic models of these"
    )


def _walk(cls: type[Unit]) -> Iterator[tuple[ModuleSpec, str]]:
    """Yield the modules that make up a class, each with its source."""
    family = [c for c in cls.__mro__ if issubclass(c, Unit)]
    tops = {c.__module__.partition(".")[0] for c in family}
    mixins = [c for c in cls.__mro__ if c not in family and _is_own(_spec(c.__module__), tops)]
    todo = [c.__module__ for c in (*family, *mixins)]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        spec = _spec(name)
        if spec is None:
            raise UnitError(
                f"the code of {cls.__qualname__} cannot be read: module {name!r} has no file; "
                "a unit of a job stands in a file"
            )
        source = _source(spec)
        yield spec, source
        for module, attribute, _ in _imports(source, spec):
            todo += _sources(module, attribute, tops)


def _sources(module: str, name: str | None, tops: set[str]) -> Iterator[str]:
    """Yield the own module that ``import module`` or ``from module import name`` takes from."""
    spec = _spec(module)
    if spec is None or not _is_own(spec, tops):
        return
    if name is not None and spec.submodule_search_locations is not None:
        if _spec(f"{module}.{name}") is not None:
            module = f"{module}.{name}"
        else:
            # A package that hands on a name of one of its modules: what counts is that module.
            for origin, attribute, bound in _imports(_source(spec), spec):
                if bound == name:
                    yield from _sources(origin, attribute, tops)
                    return
    if _is_own(_spec(module), tops):
        yield module


def _imports(source: str, spec: ModuleSpec) -> tuple[tuple[str, str | None, str | None], ...]:
    """Return (module, attribute or None, name it is bound to or None) of a module's imports."""
    package = spec.name if spec.submodule_search_locations is not None else spec.parent
    try:
        return _found(source, package or "")
    except SyntaxError as error:
        raise UnitError(f"{spec.origin}:{error.lineno}: {error.msg}") from error


# Units share most of their modules, and parsing one takes longer than all else here.
@functools.lru_cache(maxsize=1024)
def _found(source: str, package: str) -> tuple[tuple[str, str | None, str | None], ...]:
    return tuple(_imports_in(ast.parse(source), package))


@functools.lru_cache(maxsize=1024)
def _digest(source: str) -> str:
    return hashlib.sha256(ast.unparse(_bare(ast.parse(source))).encode()).hexdigest()


_FOR_TYPES = ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _imports_in(tree: ast.AST, package: str) -> Iterator[tuple[str, str | None, str | None]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in _FOR_TYPES:
            for other in node.orelse:
                yield from _imports_in(other, package)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, None, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                bound = alias.asname or alias.name
                yield module, None if alias.name == "*" else alias.name, bound
        else:
            yield from _imports_in(node, package)


def _spec(name: str) -> ModuleSpec | None:
    module = sys.modules.get(name)
    if module is not None:
        found = getattr(module, "__spec__", None)
        return found if isinstance(found, ModuleSpec) else None
    try:
        return find_spec(name)
    except (ImportError, ValueError):
        return None


def _is_own(spec: ModuleSpec | None, tops: set[str]) -> bool:
    """Say whether a module belongs to this package, the unit's package, or the user's own files."""
    if spec is None:
        return False
    top = spec.name.partition(".")[0]
    if top in tops:
        return spec.origin is not None
    if top in sys.stdlib_module_names or not spec.has_location or spec.origin is None:
        return False
    origin = Path(spec.origin)
    return not (
        {"site-packages", "dist-packages"} & set(origin.parts)
        or origin.is_relative_to(sysconfig.get_path("stdlib"))
    )


def _source(spec: ModuleSpec) -> str:
    """Return the source of a module."""
    try:
        source: str | None = getattr(spec.loader, "get_source", lambda name: None)(spec.name)
    except (ImportError, OSError, SyntaxError) as error:
        raise UnitError(f"cannot read the code of module {spec.name!r}: {error}") from error
    if source is None:
        raise UnitError(
            f"module {spec.name!r} ({spec.origin}) has no source in Python: its changes could not "
            "be seen; declare an installed library in `libraries` instead"
        )
    return source


def _bare(tree: ast.Module) -> ast.Module:
    """Take out docstrings and other strings that are statements."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [child for child in body if not _is_text(child)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
