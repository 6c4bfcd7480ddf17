"""Where compiled kernels are kept, so that they are compiled once and not in every process.

numba notices when the file of a cached function has changed, but not when another module has, whose
functions or constants went into its machine code. So each function's folder is named by a digest of
its module and of all modules of its package that this imports: a change in any of them compiles the
function anew, and an old process and a new one never share. Workers of a cluster share a warm cache
when ``AMPEL_SPARK_KERNEL_CACHE`` names one folder on all of them (numba tells processors apart).
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numba

__all__ = ["VARIABLE", "kernel_folder", "sources"]

_LOG = logging.getLogger(__name__)

#: Environment variable that names the folder for compiled kernels.
VARIABLE = "AMPEL_SPARK_KERNEL_CACHE"

_IMPORTS = re.compile(r"^[ \t]*from ([\w.]+) import (\([^)]*\)|[^\n]*)", re.M)


@functools.cache
def kernel_folder(module: str) -> Path:
    """Return the folder for the compiled functions of a module; it need not exist yet.

    ``AMPEL_SPARK_KERNEL_CACHE``, else numba's own ``NUMBA_CACHE_DIR``, else a folder in the user's
    cache; where none of these can be written, one in the folder for temporary files. Below it, one
    folder for each state of the module's `sources`.

    Raises
    ------
    OSError
        If a source cannot be read.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    for name, path in sorted(sources(module).items()):
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    named = os.environ.get(VARIABLE) or os.environ.get("NUMBA_CACHE_DIR")
    xdg = os.environ.get("XDG_CACHE_HOME")
    base = Path(named or (Path(xdg) if xdg else Path.home() / ".cache") / "ampel_spark")
    if not _writable(base):
        wanted = base
        base = Path(tempfile.gettempdir()) / f"ampel_spark-{os.getuid()}"
        _LOG.warning("%s cannot be written: compiled kernels are kept in %s", wanted, base)
    return base / f"kernels-{digest.hexdigest()[:16]}"


def sources(module: str) -> dict[str, Path]:
    """Return a module's file, and those of all modules of its package that it imports, by module.

    Imports are found line by line, which takes a tenth of the time of parsing. Those that are
    written ``from package.module import name`` are found, as this package writes all of its own.
    """
    top = module.partition(".")[0]
    root = Path(str(sys.modules[top].__file__))
    if module == top:
        return {top: root}
    found: dict[str, Path] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        path = root.parent.joinpath(*name.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name not in found and path.is_file():
            found[name] = path
            todo += _imported(path.read_text(), top)
    return found


def _imported(source: str, top: str) -> Iterator[str]:
    for module, names in _IMPORTS.findall(source):
        if module.partition(".")[0] == top and module != top:
            yield module
        if module.partition(".")[0] == top:
            yield from (f"{module}.{name}" for name in re.findall(r"\w+", names))


def _writable(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)
