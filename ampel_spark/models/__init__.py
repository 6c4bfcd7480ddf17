"""Models of a lake: trained from a table of features by a file, and kept with their origin."""

from ampel_spark.models.recipe import Recipe, read_recipe
from ampel_spark.models.rows import Rows, training_rows
from ampel_spark.models.store import Stored, add, find, stored_models
from ampel_spark.models.train import train_by

__all__ = [
    "Recipe",
    "Rows",
    "Stored",
    "add",
    "find",
    "read_recipe",
    "stored_models",
    "train_by",
    "training_rows",
]
