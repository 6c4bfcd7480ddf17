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
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba import _dynfunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.typed_passes import NativeLowering

__all__ = ["cache_folder", "compiled", "entry_point"]

_LOG = logging.getLogger(__name__)

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
    "doubt.py",
    "starts.py",
    "rounds.py",
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
        wanted = base
        base = Path(tempfile.gettempdir()) / f"ampel_spark-{os.getuid()}"
        _LOG.warning("%s cannot be written: compiled kernels are kept in %s", wanted, base)
    return base / f"kernels-{digest.hexdigest()[:16]}"


class _StepLibrary(JITCodeLibrary):
    """The code of a step: neither optimised nor made machine code but as a part of what calls it.

    numba would do both for each function with all that is below it, most of it many times over.
    """

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _StepLowering(NativeLowering):
    _name = "step_lowering"

    def run_pass(self, state: Any) -> bool:
        context, name = state.targetctx, state.func_id.func_qualname
        state.library = _StepLibrary(context.codegen(), name)
        state.flags.no_compile = True
        super().run_pass(state)
        done = state["cr"]
        # By this object, without code, numba knows the step where others call it.
        key = _dynfunc.make_function(
            done.fndesc.lookup_module(), name, "", 0, done.env, (state.library,)
        )
        context.insert_user_function(key, done.fndesc, [state.library])
        state["cr"] = done._replace(cfunc=key)
        return True


class _StepCompiler(CompilerBase):
    def define_pipelines(self) -> list[PassManager]:
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes = [
            (_StepLowering if step is NativeLowering else step, why) for step, why in manager.passes
        ]
        manager.finalize()
        return [manager]


def compiled(function: F) -> F:
    """Compile a step: a function that only compiled code calls."""
    return numba.njit(
        pipeline_class=_StepCompiler,
        nogil=True,
        _nrt=False,
        error_model="numpy",
        fastmath=FAST_MATH,
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
    )(function)


def entry_point(function: F) -> F:
    """Compile a function that Python calls, on its first call, through the shared folder."""
    saved = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_folder())
    try:
        return numba.njit(
            cache=True,
            nogil=True,
            _nrt=False,
            error_model="numpy",
            fastmath=FAST_MATH,
            no_cfunc_wrapper=True,
        )(function)
    finally:
        numba.config.CACHE_DIR = saved


def _writable(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)
