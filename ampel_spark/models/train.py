"""Train by a recipe: rows, one fold held out and judged, a model with its origin."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampel_spark.classifiers import Model, train
from ampel_spark.classifiers.metrics import efficiency_purity, summary
from ampel_spark.classifiers.training import fold_of
from ampel_spark.errors import ConfigError
from ampel_spark.expressions.expression import parse
from ampel_spark.models.recipe import TrainingRecipe
from ampel_spark.models.rows import TrainingRows

__all__ = ["train_by"]

#: Days since the first detection, and numbers of detections, up to which states are judged.
_DAYS, _COUNTS = (3, 7, 14, 30, 60), (1, 3, 5, 10, 20)


def train_by(recipe: TrainingRecipe, rows: TrainingRows) -> Model:
    """Return the model of a recipe, with what was measured on the objects held out.

    Raises
    ------
    ConfigError
        If fewer than two classes are left to train with, or an input is none for a model.
    """
    held = fold_of(rows.objects, recipe.folds) == 0
    kept = ~held
    classes = sorted({*rows.labels.tolist()})
    if len({*rows.labels[kept].tolist()}) < 2:
        raise ConfigError(
            f"model {recipe.name!r}: {int(kept.sum())} states of {len(classes)} classes are left to"
            " train with, and two classes are needed: label more objects"
        )
    states = rows.states
    model = train(
        recipe.name,
        rows.inputs,
        rows.matrix[kept],
        rows.labels[kept],
        [state for state, keep in zip(states, kept, strict=True) if keep],
        rows.objects[kept],
        classes=classes,
        parameters=recipe.parameters,
        rounds=recipe.rounds,
        seed=recipe.seed,
        origin=rows.origin | {"recipe": recipe.model_dump(mode="json"), "folds": recipe.folds},
    )
    metrics = _measured(recipe, rows, model, held)
    return Model(model.name, model.text, model.inputs, model.classes, model.parameters,
                 model.origin, metrics)  # fmt: skip


def _measured(
    recipe: TrainingRecipe, rows: TrainingRows, model: Model, held: NDArray[np.bool_]
) -> dict[str, Any]:
    """Return what is measured of the objects held out, by named sets."""
    table, labels = rows.table.filter(held), rows.labels[held]
    likely = model.predict(rows.matrix[held])
    sets = {"held_out": np.ones(labels.size, bool)}
    sets |= {name: parse(text).mask(table) for name, text in recipe.sets.items()}
    found: dict[str, Any] = {
        name: summary(labels[mine], likely[mine], [*model.classes]) for name, mine in sets.items()
    }
    days = np.asarray(table["t_lc"].to_numpy(zero_copy_only=False), float)
    counts = np.asarray(table["ndet"].to_numpy(zero_copy_only=False), float)
    groups = {f"{d} days": days <= d for d in _DAYS}
    groups |= {f"{n} detections": counts <= n for n in _COUNTS}
    found["early"] = {
        str(c): efficiency_purity(labels == c, likely[:, i], groups)
        for i, c in enumerate(model.classes)
    }
    return found
