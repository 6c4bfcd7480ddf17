"""How the compiler may treat the floating point of the SALT kernels."""

from __future__ import annotations

import functools

from ampel_spark import compiled as shared

__all__ = ["compiled", "entry_point"]

#: What it may do: contract and reorder, but keep NaN and infinity.
FAST_MATH = frozenset({"reassoc", "contract", "arcp", "nsz"})

#: Decorator of functions that only compiled code calls.
compiled = functools.partial(shared.compiled, merged=True, fast_math=FAST_MATH)
#: Decorator of functions that Python calls.
entry_point = functools.partial(shared.entry_point, allocates=False, fast_math=FAST_MATH)
