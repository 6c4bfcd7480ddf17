"""Recipes of the field: named sets of parameters of `salt_fit`, each a file of ``conf/recipes``.

A recipe says how a published sample was fitted, with its sources. Parameters of the job come on top
of it, key by key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ampel_spark.document import read_document
from ampel_spark.errors import ConfigError, nearest
from ampel_spark.settings import conf_dir, conf_file, find_conf, is_path

__all__ = ["Recipe", "merged", "read_recipe", "recipe_names"]


class Recipe(BaseModel):
    """A file of ``conf/recipes``.

    Attributes
    ----------
    name, description : str
    cite : tuple of str
        Where it was published.
    parameters : dict
        Of `salt_fit`.
    selection : str
        Quality cuts of the published sample, as T3's `select` takes them; for the reader.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str
    cite: tuple[str, ...]
    parameters: dict[str, Any]
    selection: str = ""


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the project."""
    return sorted(path.stem for path in (conf_dir() / "recipes").glob("*.yml"))


def read_recipe(name: str) -> Recipe:
    """Return a recipe.

    Parameters
    ----------
    name : str
        One of `recipe_names`, of a file in ``AMPEL_SPARK_CONF/recipes``, or the path of one.

    Raises
    ------
    ConfigError
        If there is no such recipe, or its file is not what a recipe must be.
    """
    if not is_path(name) and find_conf("recipes", name) is None:
        raise ConfigError(f"no recipe {name!r}{nearest(name, recipe_names())}")
    path = conf_file("recipes", name)
    try:
        return Recipe.model_validate(read_document(path).content)
    except ValidationError as error:
        raise ConfigError(f"recipe {path}: {error}") from None


def merged(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with others on top; what is a mapping in both is put together."""
    both = dict(base)
    for key, value in given.items():
        old = both.get(key)
        two = isinstance(old, Mapping) and isinstance(value, Mapping)
        both[key] = merged(old, value) if two else value  # type: ignore[arg-type]
    return both
