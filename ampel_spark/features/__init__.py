"""Features of light curves: numbers that classifiers take, from arrays.

A library by itself, which knows neither Spark nor units. `FeatureSet` says which features there are
for some bands, `compute` makes them of many light curves at once by compiled code (`kernel`), and
`compute_one` of one by its plain twin (`twin`).
"""

from ampel_spark.features.compute import compute, warm
from ampel_spark.features.definitions import Feature, FeatureSet, Options
from ampel_spark.features.probe import features_id
from ampel_spark.features.roles import role_of
from ampel_spark.features.twin import compute_one

__all__ = [
    "Feature",
    "FeatureSet",
    "Options",
    "compute",
    "compute_one",
    "features_id",
    "role_of",
    "warm",
]
