"""Models of a lake: trained from a table of features by a file, and kept with their origin."""

from ampel_spark.models.recipe import TrainingRecipe, read_recipe
from ampel_spark.models.rows import TrainingRows, training_rows
from ampel_spark.models.store import StoredModel, add, find, stored_models
from ampel_spark.models.train import train_by

__all__ = [
    "TrainingRecipe",
    "TrainingRows",
    "StoredModel",
    "add",
    "find",
    "read_recipe",
    "stored_models",
    "train_by",
    "training_rows",
]
