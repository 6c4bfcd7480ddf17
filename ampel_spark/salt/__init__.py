"""Batch fits of SALT light-curve models: arrays in, arrays out.

A library by itself, which knows neither Spark nor files: `SaltFitter` takes `LightCurves` (flat
arrays with offsets) and returns a `FitResult` (arrays). Models, bandpasses and magnitude systems
are sncosmo's, and so are the answers, some hundred times faster: see `tables` for how, `kernel` and
`search` for the algorithm, `twin` for the same in plain numpy.

The first fit on a machine compiles the kernels, which takes the better part of a minute; `warm`
does so ahead of it. Processes that share a folder of `ampel_spark.kernels` compile once among them.
"""

from ampel_spark.salt.fitter import SaltFitter
from ampel_spark.salt.options import PARAMETERS, FitOptions
from ampel_spark.salt.photometry import LightCurveError, LightCurves
from ampel_spark.salt.result import FitResult, Flag, Status
from ampel_spark.salt.warmup import warm

__all__ = [
    "PARAMETERS",
    "FitOptions",
    "FitResult",
    "Flag",
    "LightCurveError",
    "LightCurves",
    "SaltFitter",
    "Status",
    "warm",
]
