"""The fit in plain numpy: the reference of the compiled kernel, and its stand-in without numba.

The same tables, the same chi-square, the same starting points and rules, one object at a time,
written to be read: covariances are matrices and are factorised as they are, derivatives are
differences. Its answers agree with the kernel's to a small part of an error, not bit for bit; it
is some hundred times slower.
"""

from ampel_spark.salt.twin.fit import fit_range, predict_range
from ampel_spark.salt.twin.model import PlainModel

__all__ = ["PlainModel", "fit_range", "predict_range"]
