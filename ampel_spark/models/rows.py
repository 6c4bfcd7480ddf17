"""The rows that a model is trained with: features of a lake, with a label for each object."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ampel_spark.archive.reading.tables import read_table
from ampel_spark.classifiers.model import ABSOLUTE, REST, Model
from ampel_spark.classifiers.taxonomy import class_of
from ampel_spark.errors import ConfigError, nearest
from ampel_spark.features import role_of
from ampel_spark.lake.reading import read, table_info
from ampel_spark.models.recipe import Labels, TrainingRecipe
from ampel_spark.trace import digest_of

__all__ = ["TrainingRows", "training_rows"]


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """States with features and labels, and where they are from.

    Attributes
    ----------
    table : pyarrow Table
        The results of the features unit, one row a state.
    labels : ndarray of int with shape (M,)
        Class of each state, by number of the taxonomy.
    inputs : sequence of str
    matrix : ndarray with shape (M, inputs)
    origin : mapping
        ``table, version, features_id, trace_id, labels, labels_hash``.
    """

    table: pa.Table
    labels: NDArray[np.int64]
    inputs: Sequence[str]
    matrix: NDArray[np.float64]
    origin: dict[str, Any]

    @property
    def states(self) -> list[str]:
        """State id of each row."""
        return self.table["state_id"].to_pylist()

    @property
    def objects(self) -> NDArray[np.int64]:
        """Object of each row."""
        return self.table["stock"].to_numpy()


def training_rows(lake: Path, recipe: TrainingRecipe, version: int | None = None) -> TrainingRows:
    """Return the rows that a recipe asks for.

    Parameters
    ----------
    lake : Path
    recipe : TrainingRecipe
    version : int, optional
        Version of the table of features, in place of the recipe's.

    Raises
    ------
    ConfigError
        If an input or label cannot be found, or rows of several kinds of features are there.
    LakeError
        If there is no such table or version.
    """
    name = f"t2_{recipe.table}"
    version = version if version is not None else recipe.version
    if version is None:
        version = table_info(lake, name).version
    table = read(lake, name, filters=pc.field("status") == 0, version=version)
    trace_id, known_by = (_only(table, column, name) for column in ("trace_id", "features_id"))
    words, z = _labels(recipe.labels)
    names = table["name"].to_pylist()
    kept = np.array([word in words for word in names], bool)
    table = table.filter(pa.array(kept)).sort_by("state_id")
    if not len(table):
        raise ConfigError(
            f"no object of table {name!r}, version {version}, has a label in"
            f" {recipe.labels.file}: are its names those of column {recipe.labels.name!r}?"
        )
    names = table["name"].to_pylist()
    inputs = _inputs(recipe, table)
    columns = {
        column: np.asarray(table[column].cast(pa.float64()).fill_null(np.nan))
        for column in Model(recipe.name, "", inputs, ()).features()
    }
    redshifts = np.array([z[word] for word in names], np.float64)
    return TrainingRows(
        table,
        np.array([words[word] for word in names], np.int64),
        inputs,
        Model(recipe.name, "", inputs, ()).matrix(columns, redshifts),
        {
            "table": name,
            "version": version,
            "trace_id": trace_id,
            "features_id": int(known_by),
            "labels": recipe.labels.file.name,
            "labels_hash": digest_of(recipe.labels.file),
        },
    )


def _only(table: pa.Table, column: str, name: str) -> str:
    """Return the one value of a column: results of two kinds of features are no training table."""
    if column not in table.column_names:
        raise ConfigError(f"table {name!r} has no column {column!r}: it is none of features")
    found = sorted(pc.unique(table[column]).to_pylist())
    if len(found) != 1:
        raise ConfigError(
            f"table {name!r} has results of {len(found)} {column}s ({', '.join(found[:3])}): give"
            " the features of a training their own entry in the job"
        )
    return str(found[0])


def _labels(labels: Labels) -> tuple[dict[str, int], dict[str, float]]:
    """Return class and redshift of each object that has a label."""
    table = read_table(labels.file, text=(labels.name, labels.column))
    names, words = (table.texts(c).tolist() for c in (labels.name, labels.column))
    z = [np.nan] * len(names)
    if labels.redshift is not None:
        z = np.ma.filled(np.ma.asarray(table.column(labels.redshift), float), np.nan).tolist()
    numbers = {word: class_of(given) for word, given in labels.classes.items()}
    if absent := sorted({*numbers} - {*words}):
        raise ConfigError(
            f"no object of {labels.file} has the label {absent[0]!r}{nearest(absent[0], words)}"
        )
    rows = [(n, numbers[w], v) for n, w, v in zip(names, words, z, strict=True) if w in numbers]
    return {n: c for n, c, _ in rows}, {n: v for n, _, v in rows}


def _inputs(recipe: TrainingRecipe, table: pa.Table) -> list[str]:
    """Return the names of inputs, patterns resolved in the order of the table's columns."""
    found: list[str] = []
    for pattern in recipe.inputs:
        start = next((p for p in (ABSOLUTE, REST) if pattern.startswith(p)), "")
        rest = pattern.removeprefix(start)
        if rest == "z" and not start:
            named = ["z"]
        elif any(mark in rest for mark in "*?["):
            fitting = fnmatch.filter(table.column_names, rest)
            named = [start + name for name in fitting if role_of(name) == "input"]
        else:
            named = [start + rest] if rest in table.column_names else []
        if not named:
            columns = [name for name in table.column_names if role_of(name) == "input"]
            raise ConfigError(
                f"inputs: no feature of table t2_{recipe.table} fits {pattern!r}"
                f"{nearest(rest, columns)}"
            )
        found += named
    return list(dict.fromkeys(found))
