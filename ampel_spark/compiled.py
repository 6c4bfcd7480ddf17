"""Functions compiled by numba, by two decorators: one for what Python calls, one for the rest.

`entry_point` compiles what Python calls, once for all processes (`ampel_spark.kernels`);
`compiled` what only compiled code calls, which becomes a part of that. Division follows IEEE, and
floating point is exact unless `fast_math` says otherwise.

The second decorator can leave a function unoptimised until it is part of what calls it (`merged`),
for which it reaches into numba. Where numba is made otherwise, functions are compiled plainly, with
the same results, more slowly and in every process anew.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import numba

from ampel_spark.kernels import kernel_folder

__all__ = ["compiled", "entry_point"]

F = TypeVar("F", bound=Callable[..., object])


def compiled(
    function: F | None = None, *, merged: bool = False, fast_math: Collection[str] = ()
) -> Any:
    """Compile a function that only compiled code calls.

    Parameters
    ----------
    function : callable
    merged : bool
        Whether it becomes machine code only as a part of what calls it: many functions that call
        each other are then compiled in a fraction of the time. It must not make arrays.
    fast_math : collection of str
        What the compiler may do to floating point, by LLVM's names.
    """
    if function is None:
        return functools.partial(compiled, merged=merged, fast_math=fast_math)
    options: dict[str, Any] = {}
    if merged and (pipeline := _step_compiler()) is not None:
        options = {
            "pipeline_class": pipeline,
            "_nrt": False,
            "no_cpython_wrapper": True,
            "no_cfunc_wrapper": True,
        }
    return _jit(function, fast_math, **options)


def entry_point(
    function: F | None = None, *, allocates: bool = True, fast_math: Collection[str] = ()
) -> Any:
    """Compile a function that Python calls, on its first call, through its folder.

    Parameters
    ----------
    function : callable
    allocates : bool
        Whether it, or what it calls, makes arrays.
    fast_math : collection of str
        What the compiler may do to floating point, by LLVM's names.
    """
    if function is None:
        return functools.partial(entry_point, allocates=allocates, fast_math=fast_math)
    if _step_compiler() is None:
        return _jit(function, fast_math)
    options = {"no_cfunc_wrapper": True} | ({} if allocates else {"_nrt": False})
    try:
        folder = str(kernel_folder(function.__module__))
    except OSError:  # a package without files of source
        return _jit(function, fast_math, **options)
    saved = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = folder
    try:
        return _jit(function, fast_math, cache=True, **options)
    finally:
        numba.config.CACHE_DIR = saved


def _jit(function: F, fast_math: Collection[str], **options: Any) -> F:
    made: F = numba.njit(
        nogil=True, error_model="numpy", fastmath=set(fast_math) or False, **options
    )(function)
    return made


@functools.cache
def _step_compiler() -> Any:
    """Return the compiler of merged functions; None where numba is made otherwise."""
    try:
        from numba import _dynfunc
        from numba.core.codegen import JITCodeLibrary
        from numba.core.compiler import CompilerBase, DefaultPassBuilder
        from numba.core.compiler_machinery import register_pass
        from numba.core.cpu import CPUTargetOptions
        from numba.core.typed_passes import NativeLowering
    except ImportError:
        return None
    relied_on = (
        (_dynfunc, ("make_function",)),
        (CompilerBase, ("define_pipelines",)),
        (DefaultPassBuilder, ("define_nopython_pipeline",)),
        (NativeLowering, ("run_pass",)),
        (numba.config, ("CACHE_DIR",)),
        (CPUTargetOptions, ("_nrt", "no_cpython_wrapper", "no_cfunc_wrapper")),
        (JITCodeLibrary, ("_optimize_final_module", "_finalize_final_module",
                          "_finalize_dynamic_globals")),
    )  # fmt: skip
    if not all(hasattr(owner, name) for owner, names in relied_on for name in names):
        return None

    class StepLibrary(JITCodeLibrary):  # type: ignore[misc]
        """The code of a step: neither optimised nor made machine code but in what calls it.

        numba would do both for each function with all that is below it, most of it many times over.
        """

        def _optimize_final_module(self) -> None:
            pass

        def _finalize_final_module(self) -> None:
            self._finalize_dynamic_globals()
            self._finalized = True

    @register_pass(mutates_CFG=True, analysis_only=False)
    class StepLowering(NativeLowering):  # type: ignore[misc]
        _name = "step_lowering"

        def run_pass(self, state: Any) -> bool:
            context, name = state.targetctx, state.func_id.func_qualname
            state.library = StepLibrary(context.codegen(), name)
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

    class StepCompiler(CompilerBase):  # type: ignore[misc]
        def define_pipelines(self) -> list[Any]:
            manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
            manager.passes = [
                (StepLowering if step is NativeLowering else step, why)
                for step, why in manager.passes
            ]
            manager.finalize()
            return [manager]

    return StepCompiler
