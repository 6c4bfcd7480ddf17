"""The page of a model: what it is made of, and how good it is on objects that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ampel_spark.classifiers.model import importance
from ampel_spark.classifiers.taxonomy import NAMES
from ampel_spark.models.store import StoredModel
from ampel_spark.t3.pages import page, write_page

__all__ = ["render_model", "write_model_page"]

_MOST = 30


def write_model_page(path: Path, stored: StoredModel) -> None:
    """Write the page of a model to `path`, in one step."""
    write_page(path, render_model(stored))


def render_model(stored: StoredModel) -> str:
    """Return the page as HTML; the same model gives the same text."""
    model = stored.model
    origin = model.origin
    names = {c: NAMES[c] for c in model.classes}
    sets = {k: v for k, v in model.metrics.items() if k != "early"}
    facts = {
        "model": model.model_id[:16],
        "classes": len(model.classes),
        "inputs": len(model.inputs),
        "trained with": f"{origin.get('rows')} states of {origin.get('objects')} objects",
        "of": f"{origin.get('table')} version {origin.get('version')}",
        "seed": origin.get("seed"),
    }
    view = {
        "name": f"{model.name} {stored.version}",
        "headline": f"Model {model.name}, version {stored.version}",
        "facts": facts.items(),
        "classes": names.values(),
        "sets": [_set(name, found, names) for name, found in sets.items()],
        "early": [
            {"name": names[int(c)], "rows": rows}
            for c, rows in model.metrics.get("early", {}).items()
        ],
        "importance": importance(model)[:_MOST],
        "origin": [(key, origin[key]) for key in sorted(origin) if key not in ("recipe",)],
    }
    return page("model.html", view)


def _set(name: str, found: dict[str, Any], names: dict[int, str]) -> dict[str, Any]:
    return {
        "name": name,
        "n": found["n"],
        "facts": [
            (word.replace("_", " "), found[word])
            for word in ("balanced_accuracy", "macro_f1", "balanced_log_loss")
        ],
        "confusion": [
            {"name": word, "cells": cells, "auc": found["auc"][str(number)]}
            for (number, word), cells in zip(names.items(), found["confusion"], strict=True)
        ],
        "reliability": found["reliability"],
    }
