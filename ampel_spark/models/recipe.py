"""The file that says how a model is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ampel_spark.problems import read_model

__all__ = ["Labels", "TrainingRecipe", "read_recipe"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Labels(_Part):
    """Which class each object is."""

    file: Path
    "A table in a file, as a simulation's truth.parquet; a relative path starts from the recipe."

    name: str = "name"
    "Its column with the objects' names."

    column: str
    "Its column with the labels."

    classes: dict[str, str | int] = Field(min_length=2)
    "Label, and its class by name or number of the taxonomy; objects with others are left out."

    redshift: str | None = None
    "Its column with redshifts, for the inputs z, abs_… and rest_…."


class TrainingRecipe(_Part):
    """A training file."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    "What the model is called."

    description: str = ""
    "For people."

    table: str = "light_curve_features"
    "T2 entry of the lake whose results are the features."

    version: int | None = None
    "Version of its table; the newest by default, which is noted."

    labels: Labels

    inputs: tuple[str, ...] = Field(min_length=1)
    "Names of features, or patterns as `peak_mag_*`; patterns leave out what no model may see."

    seed: int = Field(default=1, ge=0)

    rounds: int = Field(default=100, ge=1)
    "Trees of each class."

    parameters: dict[str, Any] = {}
    "More of lightgbm's parameters."

    folds: int = Field(default=5, ge=2)
    "One fold of the objects is held out, and judged."

    sets: dict[str, str] = {}
    "Named evaluation sets: conditions on features, as `t_lc < 7`, of the objects held out."


def read_recipe(path: Path) -> TrainingRecipe:
    """Return the recipe of a file, its path of labels taken from its folder.

    Raises
    ------
    ConfigError
        If the file cannot be read, or is not what a recipe must be.
    """
    found = read_model(path, TrainingRecipe)
    file = (path.parent / found.labels.file.expanduser()).absolute()
    return found.model_copy(update={"labels": found.labels.model_copy(update={"file": file})})
