"""Classifiers: models with an origin, trees of them, and priors.

A library by itself, which knows neither Spark nor units. `Model` is a trained model as a document,
`train` makes one, `read_classifier` reads a tree of models with its chain of priors.
"""

from ampel_spark.classifiers.model import Model
from ampel_spark.classifiers.settings import Classifier, read_classifier
from ampel_spark.classifiers.training import train

__all__ = ["Classifier", "Model", "read_classifier", "train"]
