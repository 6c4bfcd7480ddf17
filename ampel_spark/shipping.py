"""One's own modules, sent to where Spark's workers are, and imported there.

A unit or filter of somebody's own stands in files that workers do not have. These files travel
with it, and a worker imports them as the driver did: caches at module level, dataclasses, enums,
packages beside the file, relative imports and compiled modules are what they are. Modules are
called as in the driver, and an importer of their own finds them, so that none of them hides one
that is installed.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from ampel_spark.errors import UnitError

__all__ = ["FOLDER", "Shipped", "folder_package", "packed", "shipped", "unpacked"]

#: How the packages are called that stand for folders of files: digest of the file, then its stem.
FOLDER = "user_file_"
#: More than this does not travel with every task [bytes].
_MOST = 64 << 20
#: What a package leaves behind.
_LEFT_OUT = {"__pycache__"}


class _Nothing(InspectLoader):
    """Loads a package that has no file."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None: ...

    def get_source(self, fullname: str) -> str:
        return ""


def folder_package(name: str, folder: Path) -> None:
    """Make a folder a package, so that its files can be imported and may import each other."""
    spec = ModuleSpec(name, _Nothing(), origin=f"the folder {folder}", is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[name] = module_from_spec(spec)


@dataclass(frozen=True)
class Shipped:
    """Modules that travel.

    Attributes
    ----------
    files : mapping of str to bytes
        Their files, and those beside them in packages, by path.
    modules : mapping of str to str
        Path of each module, by name.
    folders : tuple of str
        Packages that stand for a folder: the top of `files`.
    digest : str
        Hash of all this.
    """

    files: Mapping[str, bytes]
    modules: Mapping[str, str]
    folders: tuple[str, ...]
    digest: str


def shipped(modules: Iterable[ModuleType]) -> Shipped:
    """Return what of somebody's own modules travels.

    Raises
    ------
    UnitError
        If it is more than 64 MB.
    """
    files: dict[str, bytes] = {}
    places: dict[str, str] = {}
    folders = set()
    size = 0
    for module in sorted(modules, key=lambda module: module.__name__):
        spec = module.__spec__
        if spec is None or spec.origin is None or not Path(spec.origin).is_file():
            continue
        name, origin = module.__name__, Path(spec.origin)
        parts = name.split(".")
        if parts[0].startswith(FOLDER):
            folders.add(parts.pop(0))
        is_package = spec.submodule_search_locations is not None
        place = Path(*(parts if is_package else parts[:-1]), origin.name)
        places[name] = place.as_posix()
        beside = _beside(origin.parent) if is_package else [origin]
        for file in beside:
            path = (place.parent / file.relative_to(origin.parent)).as_posix()
            if path not in files:
                files[path] = file.read_bytes()
                size += len(files[path])
        if size > _MOST:
            raise UnitError(
                f"the modules of {name.partition('.')[0]!r} and the files beside them are more than"
                f" {_MOST >> 20} MB, which do not travel with every task: install the package where"
                " Spark runs, or put the data elsewhere and name it by a parameter of type Path"
            )
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path}\0{len(files[path])}\0".encode() + files[path])
    digest.update(repr((sorted(places.items()), sorted(folders))).encode())
    return Shipped(files, places, tuple(sorted(folders)), digest.hexdigest())


def _beside(folder: Path) -> Sequence[Path]:
    """Return the files of a package, those of its sub-packages too."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not _LEFT_OUT & {*file.relative_to(folder).parts}
    )


def packed(made: Any, modules: Iterable[ModuleType]) -> bytes:
    """Return an object as bytes that `unpacked` takes where its modules are not.

    Parameters
    ----------
    made : object
        Such as a unit with its parameters.
    modules : iterable of module
        Those that travel with it; ampel_spark and libraries are installed there.
    """
    # what a notebook or a function defines has no file, and goes by value
    cloudpickle: Any = importlib.import_module("pyspark.cloudpickle")
    return pickle.dumps((shipped(modules), cloudpickle.dumps(made)))


def unpacked(data: bytes) -> Any:
    """Return what `packed` made bytes of, with its modules imported.

    Raises
    ------
    UnitError
        If a module fails on import here.
    """
    modules, made = pickle.loads(data)
    if modules.modules:
        _install(modules)
    return pickle.loads(made)


class _Finder(MetaPathFinder):
    """Finds modules that travelled, by their names alone."""

    def __init__(self) -> None:
        self.places: dict[str, Path] = {}
        self.digests: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        place = self.places.get(fullname)
        if place is None:
            return None
        inside = [str(place.parent)] if place.stem == "__init__" else None
        return spec_from_file_location(fullname, place, submodule_search_locations=inside)


_finder = _Finder()


def _install(modules: Shipped) -> None:
    """Make modules importable, and import them; those of another content go."""
    if all(_is_here(name, modules) for name in modules.modules):
        return
    # all of them: one that is here may hold on to another of older content
    todo = [*modules.modules]
    folder = _written(modules)
    stale = {d for n in todo if (d := _finder.digests.get(n)) not in (None, modules.digest)}
    for name in [n for n, d in _finder.digests.items() if d in stale] + todo:
        sys.modules.pop(name, None)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    for name in todo:
        _finder.places[name] = folder / modules.modules[name]
        _finder.digests[name] = modules.digest
    for name in modules.folders:
        if name not in sys.modules:
            folder_package(name, folder)
    for name in todo:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise UnitError(
                f"module {name.split('.')[-1]!r} fails on import on a worker:"
                f" {type(error).__name__}: {error}"
            ) from error


def _is_here(name: str, modules: Shipped) -> bool:
    """Say whether a module is imported, from a file of the same content."""
    module = sys.modules.get(name)
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    if origin is None:
        return False
    content = modules.files[modules.modules[name]]
    try:
        return Path(origin).stat().st_size == len(content) and Path(origin).read_bytes() == content
    except OSError:
        return False


def _written(modules: Shipped) -> Path:
    """Return a folder with the files, which the workers of a machine share."""
    top = Path(tempfile.gettempdir()) / f"ampel_spark-modules-{os.getuid()}"
    top.mkdir(mode=0o700, exist_ok=True)
    if top.stat().st_uid != os.getuid() or top.is_symlink():
        # somebody else's: what is in it cannot be trusted
        top = Path(tempfile.mkdtemp(prefix="ampel_spark-modules-"))
    folder = top / modules.digest
    if _is_whole(folder, modules):
        return folder
    made = Path(tempfile.mkdtemp(dir=top))
    for path, content in modules.files.items():
        file = made / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    try:
        made.rename(folder)
    except OSError:  # another worker was faster, or something is left of an older one
        if not _is_whole(folder, modules):
            return made
        shutil.rmtree(made)
    return folder


def _is_whole(folder: Path, modules: Shipped) -> bool:
    files = ((folder / path, content) for path, content in modules.files.items())
    return all(file.is_file() and file.read_bytes() == content for file, content in files)
