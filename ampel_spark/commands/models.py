"""Commands on models: train, list, show, compare, train again."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ampel_spark.commands.output import print_pairs, print_rows, to_json
from ampel_spark.errors import ConfigError, LakeError
from ampel_spark.interface.places import lake_of
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.runs import flattened
from ampel_spark.models import (
    StoredModel,
    TrainingRecipe,
    add,
    find,
    read_recipe,
    stored_models,
    train_by,
    training_rows,
)
from ampel_spark.models.page import write_model_page

__all__ = ["diff", "list_models", "reproduce", "show", "train"]


def train(args: Namespace) -> int:
    """Train a model, write it into the lake and into a file, and write its page."""
    recipe, root = read_recipe(args.recipe), lake_of(args.lake)
    model = train_by(recipe, training_rows(root, recipe))
    stored, new = add(Lake(None, root), model)
    out = args.out or root / "reports" / f"model-{recipe.name}-{stored.version}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(stored.model.to_json())
    page = root / "reports" / f"model-{recipe.name}-{stored.version}.html"
    write_model_page(page, stored)
    row = _row(stored) | {"new": new, "file": str(out), "page": str(page)}
    if args.format == "json":
        print(to_json(row))
        return 0
    said = "is trained" if new else "is there already, with these very rows"
    print(f"model {recipe.name}, version {stored.version}, {said}")
    print_pairs({k: v for k, v in row.items() if k not in ("name", "version", "new")})
    return 0


def list_models(args: Namespace) -> int:
    """List the models of a lake."""
    lake = lake_of(args.lake)
    rows = [_row(one) for one in stored_models(lake)]
    shown = ["name", "version", "model_id", "classes", "rows", "table", "balanced_accuracy"]
    empty = f"lake {lake} has no model: `ampel-spark train MODEL.yml` trains one"
    print_rows(rows, shown, args.format, empty=empty)
    return 0


def show(args: Namespace) -> int:
    """Show a model: classes, inputs, origin, and what was measured."""
    stored = find(lake_of(args.lake), args.name, args.version)
    model = stored.model
    if args.format == "json":
        print(to_json(_row(stored) | {"inputs": [*model.inputs], "origin": dict(model.origin),
                                      "metrics": dict(model.metrics)}))  # fmt: skip
        return 0
    print_pairs(_row(stored) | {"inputs": ", ".join(model.inputs)})
    origin = {k: v for k, v in model.origin.items() if k != "recipe"}
    print("\norigin")
    print_pairs(origin)
    print("\nmeasured on objects held out")
    rows = [{"set": name} | found for name, found in model.metrics.items() if name != "early"]
    print_rows(rows, ["set", "n", "balanced_accuracy", "macro_f1", "balanced_log_loss"], "table")
    return 0


def diff(args: Namespace) -> int:
    """Compare two versions of a model: what of their origin differs."""
    lake = lake_of(args.lake)
    one, two = (find(lake, args.name, version) for version in (args.before, args.after))
    sides = [_flat(stored) for stored in (one, two)]
    rows = [
        {"what": key, "before": sides[0].get(key), "after": sides[1].get(key)}
        for key in dict.fromkeys((*sides[0], *sides[1]))
        if sides[0].get(key) != sides[1].get(key)
    ]
    print_rows(rows, ["what", "before", "after"], args.format, empty="nothing differs")
    return 0


def reproduce(args: Namespace) -> int:
    """Train a model again, from the version of the table that it was trained with."""
    lake = lake_of(args.lake)
    stored = find(lake, args.name, args.version)
    origin = stored.model.origin
    if "recipe" not in origin:
        raise LakeError(f"model {args.name!r} does not say by which recipe it was trained")
    recipe = TrainingRecipe.model_validate(origin["recipe"])
    rows = training_rows(lake, recipe, origin["version"])
    if rows.origin["labels_hash"] != origin["labels_hash"]:
        raise ConfigError(
            f"{recipe.labels.file} is not what model {args.name!r} was trained with: its SHA-256 is"
            f" {rows.origin['labels_hash'][:12]}, and was {origin['labels_hash'][:12]}"
        )
    again = train_by(recipe, rows)
    same = again.model_id == stored.model.model_id
    row = {"name": args.name, "version": stored.version, "model_id": stored.model.model_id,
           "again": again.model_id, "same": same}  # fmt: skip
    if args.format == "json":
        print(to_json(row))
    else:
        print(f"model {args.name}, version {stored.version}: "
              f"{'the same trees' if same else 'other trees'}, {again.model_id[:16]}")  # fmt: skip
    return 0 if same else 1


def _row(stored: StoredModel) -> dict[str, Any]:
    model = stored.model
    judged = model.metrics.get("held_out") or {}
    return {
        "name": model.name,
        "version": stored.version,
        "model_id": model.model_id,
        "created": stored.created,
        "classes": [*model.classes],
        "rows": model.origin.get("rows"),
        "table": f"{model.origin.get('table')} {model.origin.get('version')}",
        "balanced_accuracy": judged.get("balanced_accuracy"),
    }


def _flat(stored: StoredModel) -> dict[str, Any]:
    model = stored.model
    return {"model_id": model.model_id, "inputs": ", ".join(model.inputs)} | flattened(
        {"origin": dict(model.origin), "parameters": dict(model.parameters)}
    )
