"""Where compiled kernels are kept, so that they are compiled once and not in every process.

numba writes compiled functions to a folder and notices when the function's own file has changed,
but not when a function that it calls has. The folder here is therefore named after a digest of all
kernel sources: a change of any of them compiles all of them anew, and an old process and a new one
never share. Workers of a cluster share a warm cache when ``AMPEL_SPARK_KERNEL_CACHE`` names the
same folder on all of them (numba tells processors apart by itself).
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numba

__all__ = ["cache_folder", "compiled", "entry_point", "inlined"]

#: Environment variable that names the folder for compiled kernels.
VARIABLE = "AMPEL_SPARK_KERNEL_CACHE"
#: Modules of this package whose functions are compiled.
KERNEL_SOURCES = (
    "cache.py",
    "tables.py",
    "options.py",
    "records.py",
    "kernel.py",
    "gather.py",
    "search.py",
    "batch.py",
)
#: What the compiler may do to floating point: contract and reorder, but keep NaN and infinity.
FAST_MATH = {"reassoc", "contract", "arcp", "nsz"}

F = TypeVar("F", bound=Callable[..., object])


@functools.cache
def cache_folder() -> Path:
    """Return the folder for compiled kernels; it need not exist yet.

    ``AMPEL_SPARK_KERNEL_CACHE``, else numba's own ``NUMBA_CACHE_DIR``, else a folder in the user's
    cache; where none of these can be written, one in the folder for temporary files. Below it, one
    folder per state of the kernel sources.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    for name in KERNEL_SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    named = os.environ.get(VARIABLE) or os.environ.get("NUMBA_CACHE_DIR")
    xdg = os.environ.get("XDG_CACHE_HOME")
    base = Path(named or (Path(xdg) if xdg else Path.home() / ".cache") / "ampel_spark")
    if not _writable(base):
        base = Path(tempfile.gettempdir()) / f"ampel_spark-{os.getuid()}"
    return base / f"kernels-{digest.hexdigest()[:16]}"


def compiled(function: F) -> F:
    """Compile a function that only compiled code calls: without a way in from Python."""
    return numba.njit(
        nogil=True,
        error_model="numpy",
        fastmath=FAST_MATH,
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
    )(function)


def inlined(function: F) -> F:
    """Make a function part of the one compiled function that calls it: a step of it, with a name.

    Every level of compiled functions is optimised anew with all that is below it, so that levels
    cost more time to compile than code does.
    """
    return numba.njit(inline="always", nogil=True, error_model="numpy", fastmath=FAST_MATH)(
        function
    )


def entry_point(function: F) -> F:
    """Compile a function that Python calls, on its first call, through the shared folder."""
    saved = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_folder())
    try:
        return numba.njit(
            cache=True, nogil=True, error_model="numpy", fastmath=FAST_MATH, no_cfunc_wrapper=True
        )(function)
    finally:
        numba.config.CACHE_DIR = saved


def _writable(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)
