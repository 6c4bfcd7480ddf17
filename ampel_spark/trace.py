"""Code and parameters as they go into a trace: one hash over all that decides a result.

`code_of` gives the modules that stand behind a class: those of the class and its bases, and those
of this package and of the user that these import, directly or not. A module counts by what it does:
comments, docstrings, blank lines, line breaks and the words of errors change nothing. Any other
change in it is a change, used or not: that errs on the side of computing again. So a module is to
hold what belongs together, and what decides no value stands in modules of its own (`UNTRACED`).

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
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ampel_spark import errors
from ampel_spark.errors import UnitError
from ampel_spark.files import stamp

__all__ = [
    "FILE_MODULE",
    "UNTRACED",
    "code_of",
    "content_of",
    "digest_of",
    "modules_of",
    "plain",
    "trace_id_of",
    "version_of",
]

#: How modules loaded from a user's file, or from beside it, are named: a package for its folder.
FILE_MODULE = re.compile(r"^user_file_[0-9a-f]{16}\.(.+)$")

#: Modules that decide no value, and why; neither they nor their imports are part of a trace.
UNTRACED = {
    "ampel_spark.bounds": "how much is read, not what is in it",
    "ampel_spark.classes": "how a class is found and what it refuses, not what it does",
    "ampel_spark.document": "the YAML of settings, as the library that reads it",
    "ampel_spark.errors": "the words of errors",
    "ampel_spark.events.notices": "how events are read: input hashes name their content",
    "ampel_spark.events.reading": "which events are read: input hashes name their content",
    "ampel_spark.events.store": "which revisions count: input hashes name them",
    "ampel_spark.files": "when a file is read again, not what is in it",
    "ampel_spark.lake.log": "how a table is written, not what is in it",
    "ampel_spark.lake.parts": "how a table is written, not what is in it",
    "ampel_spark.kernels": "where compiled code is kept",
    "ampel_spark.store": "where files are, not what is in them",
    "ampel_spark.t2.fits.recipes": "names parameters, which are in the trace themselves",
    "ampel_spark.problems": "the words of what a model refuses",
    "ampel_spark.shipping": "how modules reach the workers",
    "ampel_spark.salt.warmup": "when kernels are compiled, not what they compute",
    "ampel_spark.settings": "where settings are found, not what they say",
    "ampel_spark.trace": "names what decides, and decides nothing itself",
}

# The package's errors: what they say is for people.
_ERRORS = frozenset(name for name in errors.__all__ if name[0].isupper())


def trace_id_of(content: Mapping[str, Any]) -> str:
    """Return the hash over what makes up a trace, 32 hexadecimal digits.

    Parameters
    ----------
    content : mapping
        Made of text, numbers, lists and mappings, as JSON has them; the order of keys is no part of
        the hash.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def code_of(
    cls: type, base: type, beside: Sequence[str] = (), without: Collection[str] = ()
) -> dict[str, str]:
    """Return the digests of the modules whose code stands behind a class, by module.

    Parameters
    ----------
    cls : type
        The class, of a unit or a filter.
    base : type
        The class of this package that it derives from; bases of that are no part of it.
    beside : sequence of str
        Modules that run it: they count too, with what they import.
    without : collection of str
        Modules and packages that are not used, such as those of an engine that is not asked for.

    Raises
    ------
    UnitError
        If the source of one of them cannot be had.
    """
    digests: dict[str, str] = {}
    for spec, source in _walk(cls, base, beside, without):
        key = FILE_MODULE.sub(r"\1", spec.name)
        digest = _digest(source)
        if digests.setdefault(key, digest) != digest:
            raise UnitError(f"{cls.__qualname__} uses two modules named {key!r}: rename one")
    return dict(sorted(digests.items()))


def content_of(
    unit: Any, base: type, spec: str, *, without: Collection[str] = (), untraced: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what makes up the trace of a unit, of T2 or of T3.

    Parameters
    ----------
    unit : Unit or T3Unit
        The unit, with its parameters.
    base : type
        The class of this package that it derives from.
    spec : str
        How errors name it.
    without : collection of str
        As for `code_of`.
    untraced : sequence of str
        Parameters that are no part of it.

    Returns
    -------
    dict
        ``class``, ``parameters``, ``code`` (digest of each module), ``files`` (name and digest),
        ``libraries`` (versions).

    Raises
    ------
    UnitError
        If code or a file cannot be read, a library is not installed, or a parameter is of a kind
        that has no canonical form.
    """
    cls = type(unit)
    # Before `files`, as a parameter that names no file is an error of its own.
    parameters = {
        name: plain(getattr(unit, name), f"{spec}: {name}")
        for name in sorted(cls.model_fields)
        if name not in untraced
    }
    files = [{"name": path.name, "sha256": digest_of(path)} for path in unit.files()]
    return {
        "class": cls.__qualname__,
        "parameters": parameters,
        "code": code_of(cls, base, without=without),
        "files": files,
        "libraries": {name: version_of(name, spec) for name in sorted(unit.libraries)},
    }


def modules_of(cls: type, base: type) -> list[str]:
    """Return the names of the modules outside ampel_spark that stand behind a class.

    These are what an executor lacks, unless they are sent along.
    """
    names = {spec.name for spec, _ in _walk(cls, base)}
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


def version_of(library: str, spec: str) -> str:
    """Return the version of an installed distribution that a unit or filter declares.

    Parameters
    ----------
    library : str
        The distribution's name.
    spec : str
        How errors name the unit or filter.

    Raises
    ------
    UnitError
        If it is not installed.
    """
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        raise UnitError(
            f"{spec} declares the library {library!r}, which is not installed"
        ) from None


def plain(value: Any, where: str) -> Any:
    """Return the canonical form of a parameter's value, made of what JSON has.

    A path becomes the digest of what it leads to, a model or a dataclass a mapping of its fields,
    less those that a model names in ``untraced``.

    Parameters
    ----------
    value : object
    where : str
        What errors call the parameter.

    Raises
    ------
    UnitError
        If the value is of a kind that has no such form, or a file cannot be read.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Path):
        return {"sha256": digest_of(value)}
    named = _fields(value)
    if named is not None:
        return {str(k): plain(v, f"{where}.{k}") for k, v in named.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(v, where) for v in value), key=json.dumps)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain(v, where) for v in value]
    if isinstance(value, Enum):
        return plain(value.value, where)
    raise UnitError(
        f"{where} is a {type(value).__name__}, which a trace has no form for: "
        "use numbers, text, paths, lists, mappings or pydantic models of these"
    )


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """Return the values of a mapping, a model or a dataclass by name; None of anything else."""
    if isinstance(value, BaseModel):
        out = getattr(type(value), "untraced", ())
        return {k: getattr(value, k) for k in type(value).model_fields if k not in out}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    return value if isinstance(value, Mapping) else None


def _file(path: Path) -> str:
    return _hashed(path, stamp(path))


@functools.lru_cache(maxsize=1024)
def _hashed(path: Path, known_by: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _walk(
    cls: type, base: type, beside: Sequence[str] = (), without: Collection[str] = ()
) -> Iterator[tuple[ModuleSpec, str]]:
    """Yield the modules that stand behind a class, each with its source."""
    family = [c for c in cls.__mro__ if issubclass(c, base)]
    tops = {c.__module__.partition(".")[0] for c in family}
    mixins = [c for c in cls.__mro__ if c not in family and _is_own(_spec(c.__module__), tops)]
    todo = [*(c.__module__ for c in (*family, *mixins)), *beside]
    left_out = {*UNTRACED, *without}
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or any(f"{name}.".startswith(f"{other}.") for other in left_out):
            continue
        seen.add(name)
        spec = _spec(name)
        if spec is None:
            raise UnitError(
                f"the code of {name} cannot be read: module {name!r} has no file; "
                f"{cls.__qualname__} has to stand in a file"
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
    if spec.origin is not None and spec.origin.endswith(tuple(EXTENSION_SUFFIXES)):
        # compiled code has no source: what counts is the file
        return f"compiled = {_file(Path(spec.origin))!r}"
    # A loader that says nothing of source, such as pytest's, loads files all the same.
    read = getattr(spec.loader, "get_source", lambda name: Path(spec.origin or "").read_text())
    try:
        source: str | None = read(spec.name)
    except (ImportError, OSError, SyntaxError) as error:
        raise UnitError(f"cannot read the code of module {spec.name!r}: {error}") from error
    if source is None:
        raise UnitError(
            f"module {spec.name!r} ({spec.origin}) has no source in Python: its changes could not "
            "be seen; declare an installed library in `libraries` instead"
        )
    return source


def _bare(tree: ast.Module) -> ast.Module:
    """Take out docstrings, other strings that are statements, and the words of errors."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            raised = node.exc.func
            if isinstance(raised, ast.Name) and raised.id in _ERRORS:
                node.exc.args, node.exc.keywords = [], []
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
