"""Classes that a job names, units and filters: those of the package, and anyone's own.

A name is one of the package's (`Kind.known`), ``module:Class`` where Python can import the module,
or ``path/file.py:Class``, from the job file's folder.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from ampel_spark import shipping
from ampel_spark.errors import AmpelSparkError, ConfigError, UnitError, nearest
from ampel_spark.problems import keys_at, refusals
from ampel_spark.trace import modules_of

__all__ = [
    "Kind",
    "build_model",
    "load_class",
    "modules_behind",
    "packed",
    "probing",
    "with_line",
    "with_paths",
]

_Base = TypeVar("_Base", bound=BaseModel)

# Modules of the user that were imported: their file, and the digest of its content then.
_LOADED: dict[str, tuple[Path, str]] = {}

# Not empty within `probing`.
_probing: list[bool] = []


@dataclass(frozen=True)
class Kind(Generic[_Base]):
    """What can be named: units, or filters.

    Attributes
    ----------
    word : str
        What errors call one of them.
    base : type
        The class that they derive from.
    known : mapping of str to str
        The package's own, as ``module:Class``.
    error : type of AmpelSparkError
        Raised where there is no such class.
    """

    word: str
    base: type[_Base]
    known: Mapping[str, str]
    error: type[AmpelSparkError] = UnitError


def load_class(kind: Kind[_Base], spec: str, folder: Path) -> type[_Base]:
    """Return the class that a job names.

    A file is imported anew when it, or another file of the user that it imports, has changed.

    Parameters
    ----------
    kind : Kind
    spec : str
        One of `Kind.known`, ``module:Class`` or ``path/file.py:Class``.
    folder : Path
        Folder from which a relative path starts.

    Raises
    ------
    AmpelSparkError
        Of `Kind.error`, if there is no such class, or its module fails on import.
    """
    _forget_changed()
    where, colon, name = kind.known.get(spec, spec).rpartition(":")
    if not colon or not where or not name:
        raise kind.error(
            f"no {kind.word} {spec!r}{nearest(spec, kind.known)}; "
            "one's own is path/file.py:Class or module:Class"
        )
    file = (folder / where).resolve() if where.endswith(".py") else None
    try:
        cls = _class_in(_from_file(file) if file else _imported(where), name, kind)
        _remember(cls, kind.base, file.parent if file else None)
    except _NoClassError as error:
        raise kind.error(f"{kind.word} {spec!r}: {error}") from error.__cause__
    return cls


def build_model(
    model: type[_Base],
    config: Mapping[str, Any] | None,
    what: str,
    context: Mapping[str, Any] | None = None,
) -> _Base:
    """Return a class with its parameters.

    Parameters
    ----------
    model : type of BaseModel
    config : mapping or None
        The parameters that differ from their defaults.
    what : str
        What errors call it, as ``unit 'salt_fit'``.
    context : mapping, optional
        For the validators of the class.

    Raises
    ------
    ConfigError
        If parameters are unknown, missing or of the wrong type: a line for each.
    """
    try:
        return model.model_validate(dict(config or {}), context=context)
    except ValidationError as error:
        raise ConfigError("\n".join(_explained(error, model, what))) from None


def modules_behind(cls: type, base: type) -> dict[str, tuple[ModuleType, Path]]:
    """Return the imported modules of the user's packages and files behind a class, with files."""
    tops = {name.partition(".")[0] for name in modules_of(cls, base)}
    found = {}
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        # a folder that was made a package has no file
        if name.partition(".")[0] in tops and spec is not None and spec.has_location:
            found[name] = (module, Path(spec.origin))
    return found


def packed(made: BaseModel, base: type[BaseModel]) -> bytes:
    """Return a unit or filter as bytes, for `ampel_spark.shipping.unpacked` on a worker.

    The user's modules travel as files; ampel_spark and the libraries must be installed there.

    Parameters
    ----------
    made : BaseModel
        The unit or filter, with its parameters.
    base : type
        The class of this package that it derives from.
    """
    modules = [module for module, _ in modules_behind(type(made), base).values()]
    return shipping.packed(made, modules)


def with_paths(value: Any, changed: Callable[[Path], Path]) -> Any:
    """Return a unit or filter, or the value of a parameter, with each path in it changed."""
    if isinstance(value, Path):
        return changed(value)
    if isinstance(value, BaseModel):
        new = {k: with_paths(getattr(value, k), changed) for k in type(value).model_fields}
        return value.model_copy(update=new)
    if isinstance(value, dict):
        return {k: with_paths(v, changed) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_paths(v, changed) for v in value)
    return value


class _NoClassError(Exception):
    """Why there is no such class."""


def _explained(error: ValidationError, model: type[BaseModel], what: str) -> list[str]:
    lines = []
    for refusal in refusals(error, model):
        path = refusal.path
        where = f"{what}: {'.'.join(['config', *map(str, path)])}"
        given = f" = {refusal.value!r}" if path else ""
        if refusal.kind == "extra_forbidden":
            hint = nearest(str(path[-1]), keys_at(model, path[:-1]))
            lines.append(f"{where}{given}: no parameter {path[-1]!r}{hint}")
        elif refusal.kind == "missing":
            field = model.model_fields.get(str(path[-1])) if len(path) == 1 else None
            meaning = f": {field.description}" if field and field.description else ""
            lines.append(f"{where} is required{meaning}")
        else:
            lines.append(f"{where}{given}: {refusal.said}{refusal.hint}")
    return lines


def _imported(name: str) -> ModuleType:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name
            and f"{name}.".startswith(f"{error.name}.")
        ):
            raise _NoClassError(
                f"there is no module {error.name!r}; for a file write path/file.py:Class"
            ) from None
        raise _NoClassError(f"module {name!r} fails on import: {with_line(error)}") from error


def _from_file(path: Path) -> ModuleType:
    try:
        digest = sha256(str(path).encode() + b"\0" + path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise _NoClassError(f"cannot read {path}: {error.strerror}") from None
    # its folder is a package, so that it may import those beside it with a dot, too
    package = f"{shipping.FOLDER}{digest}"
    name = f"{package}.{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if _probing:
        _probe(path)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # so that the file can import those beside it
    importlib.invalidate_caches()
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise _NoClassError(f"{path} is no file that Python can import")
    shipping.folder_package(package, path.parent)
    module = sys.modules[name] = importlib.util.module_from_spec(found)
    try:
        # what it prints is no answer of a command
        with contextlib.redirect_stdout(sys.stderr), _without_bytecode():
            found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        for mine in [n for n in sys.modules if f"{n}.".startswith(f"{package}.")]:
            del sys.modules[mine]
        raise _NoClassError(f"{path} fails on import: {with_line(error)}") from error
    return module


@contextlib.contextmanager
def _without_bytecode() -> Iterator[None]:
    """Within, keep no bytecode of what is imported.

    Python knows bytecode by the second and the size of its source: after an edit within a second
    that keeps the size, it would run the old code, and the trace would have the new one.
    """
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


@contextlib.contextmanager
def probing() -> Iterator[None]:
    """Within, import a user's file in another process first: who ends it is found out.

    For commands that check jobs: a file with ``os._exit(0)`` at its top would end them, and their
    silence would be taken for a good answer.
    """
    _probing.append(True)
    try:
        yield
    finally:
        _probing.pop()


def _probe(path: Path) -> None:
    """Raise `_NoClassError` if the process ends that imports a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
            os.dup2(os.open(os.devnull, mode), number)
        faulthandler.disable()
        with contextlib.suppress(BaseException):  # it is raised again where it is imported
            shipping.folder_package("probed", path.parent)
            spec = importlib.util.spec_from_file_location(f"probed.{path.stem}", path)
            if spec is not None and spec.loader is not None:
                spec.loader.exec_module(importlib.util.module_from_spec(spec))
        os.write(theirs, b"+")
        os._exit(0)
    os.close(theirs)
    came_back = os.read(ours, 1)
    os.close(ours)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not came_back:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise _NoClassError(f"{path} ends the process that imports it ({how})")


def with_line(error: BaseException) -> str:
    """Return the words of an error, with the line of code where it arose."""
    trace = error.__traceback__
    line = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith("<frozen") and code.co_filename != __file__:
            line = f" ({code.co_filename}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {error}{line}"


def _class_in(module: ModuleType, name: str, kind: Kind[_Base]) -> type[_Base]:
    cls: Any = getattr(module, name, None)
    base = kind.base
    if cls is None:
        known = {k for k, v in vars(module).items() if inspect.isclass(v) and issubclass(v, base)}
        raise _NoClassError(f"no class {name!r} there{nearest(name, known - {base.__name__})}")
    if not (inspect.isclass(cls) and issubclass(cls, base)) or cls is base:
        public = f"{base.__module__.rpartition('.')[0]}.{base.__name__}"
        raise _NoClassError(f"{name} is no {kind.word}; write class {name}({public})")
    return cls


def _remember(cls: type, base: type, folder: Path | None) -> None:
    """Note the user's modules behind a class, to notice when they change on disk."""
    for name, (_, path) in modules_behind(cls, base).items():
        for beside in (folder / f"{name}.py", folder / name / "__init__.py") if folder else ():
            if beside.is_file() and not beside.samefile(path):
                raise _NoClassError(
                    f"{beside} is hidden by {path}, which was imported as {name!r} "
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
