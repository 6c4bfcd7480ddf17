"""The table ``models``: a row for each version of each model."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ampel_spark.classifiers.model import Model
from ampel_spark.errors import LakeError, nearest
from ampel_spark.lake.commits import insert
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.reading import read, table_names
from ampel_spark.lake.software import git_commit
from ampel_spark.lake.tables import TABLES

__all__ = ["StoredModel", "add", "find", "stored_models"]


@dataclass(frozen=True)
class StoredModel:
    """A model of a lake: its version there, and when it was trained."""

    version: int
    created: datetime.datetime
    model: Model
    git_commit: str | None


def add(lake: Lake, model: Model) -> tuple[StoredModel, bool]:
    """Write a model into its lake; return it, and whether it is new.

    The newest version of the name stands for a model with the same trees and the same rows.
    """
    known = [one for one in stored_models(lake.root) if one.model.name == model.name]
    if known and _same(known[-1].model, model):
        return known[-1], False
    created = datetime.datetime.now(datetime.UTC)
    made = StoredModel(known[-1].version + 1 if known else 1, created, model, git_commit())
    origin = model.origin
    row = {
        "name": model.name,
        "version": made.version,
        "model_id": model.model_id,
        "created": created,
        "classes": [*model.classes],
        "inputs": [*model.inputs],
        "training_table": origin.get("table"),
        "table_version": origin.get("version"),
        "rows": origin.get("rows"),
        "objects": origin.get("objects"),
        "rows_hash": origin.get("rows_hash"),
        "features_id": origin.get("features_id"),
        "trace_id": origin.get("trace_id"),
        "seed": origin.get("seed"),
        "metrics": json.dumps(model.metrics, sort_keys=True),
        "document": model.to_json(),
        "git_commit": made.git_commit,
    }
    table = TABLES["models"]
    rows = pa.Table.from_pylist([row], arrow_schema(table))
    insert(lake, table, rows, {"model": f"{model.name} {made.version}"})
    return made, True


def stored_models(lake: Path) -> list[StoredModel]:
    """Return the models of a lake, by name and version."""
    if "models" not in table_names(lake):
        return []
    rows = read(lake, "models").sort_by([("name", "ascending"), ("version", "ascending")])
    return [
        StoredModel(row["version"], row["created"], _model(row), row["git_commit"])
        for row in rows.to_pylist()
    ]


def find(lake: Path, name: str, version: int | None = None) -> StoredModel:
    """Return a model of a lake, the newest version by default.

    Raises
    ------
    LakeError
        If there is none.
    """
    found = stored_models(lake)
    mine = [one for one in found if one.model.name == name]
    if not mine:
        near = nearest(name, (one.model.name for one in found))
        raise LakeError(
            f"lake {lake} has no model {name!r}{near}: `ampel-spark train MODEL.yml` trains one"
        )
    for one in reversed(mine):
        if version in (None, one.version):
            return one
    versions = ", ".join(str(one.version) for one in mine)
    raise LakeError(f"lake {lake} has no version {version} of model {name!r}; it has {versions}")


def _same(one: Model, two: Model) -> bool:
    keys = ("rows_hash", "features_id", "labels_hash")
    return one.model_id == two.model_id and all(
        one.origin.get(key) == two.origin.get(key) for key in keys
    )


def _model(row: dict[str, Any]) -> Model:
    content = json.loads(row["document"])
    said = content.pop("model_id")
    content.pop("format")
    model = Model(**content)
    if said != model.model_id or said != row["model_id"]:
        raise LakeError(
            f"model {row['name']!r}, version {row['version']}, of table 'models' is not what its"
            " id says: the row was changed; train it again"
        )
    return model
