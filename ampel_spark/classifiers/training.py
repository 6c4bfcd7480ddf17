"""Train a model so that the same rows make the same trees, in whatever order they come.

Rows are ordered by state, objects go to folds by a hash of their number, and lightgbm works with
one thread: with two, the last bits of sums differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampel_spark.classifiers.model import ABSOLUTE, REST, Model
from ampel_spark.errors import ConfigError
from ampel_spark.features.roles import role_of

__all__ = ["DEFAULTS", "balanced_weights", "fold_of", "ordered", "rows_hash", "train"]

Floats = NDArray[np.float64]

#: lightgbm's parameters where a recipe says nothing else. Its 100 rounds are three times as fast to
#: apply as 250, and as good.
DEFAULTS: dict[str, Any] = {"num_leaves": 31, "learning_rate": 0.15, "min_data_in_leaf": 20}
ROUNDS = 100
_FIXED = {"num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1}


def fold_of(objects: Sequence[int] | NDArray[np.int64], folds: int = 5) -> NDArray[np.int64]:
    """Return the fold of each object, by a hash of its number: no state of it is in another."""
    unique, back = np.unique(np.asarray(objects, np.int64), return_inverse=True)
    digests = (hashlib.sha256(str(int(n)).encode()).digest()[:8] for n in unique)
    of = np.array([int.from_bytes(d, "big") % folds for d in digests], np.int64)
    return of[back] if unique.size else np.zeros(0, np.int64)


def ordered(states: Sequence[str]) -> NDArray[np.int64]:
    """Return the order of rows in which a model is trained: that of their states."""
    return np.argsort(np.asarray(states, dtype=str), kind="stable")


def rows_hash(
    states: Sequence[str], matrix: Floats, labels: NDArray[np.int64], weights: Floats
) -> str:
    """Return the SHA-256 over all rows that a model is trained with, in their order."""
    digest = hashlib.sha256("\n".join(states).encode())
    for part in (np.where(np.isnan(matrix), np.nan, matrix), labels, weights):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def balanced_weights(labels: NDArray[np.int64], objects: NDArray[np.int64]) -> Floats:
    """Return weights by which all objects of a class count alike, and all classes as well."""
    _, back, states = np.unique(objects, return_inverse=True, return_counts=True)
    weights = 1.0 / states[back]
    for number in np.unique(labels):
        mine = labels == number
        weights[mine] /= weights[mine].sum()
    return weights * labels.size / max(np.unique(labels).size, 1)


def train(
    name: str,
    inputs: Sequence[str],
    matrix: Floats,
    labels: NDArray[np.int64],
    states: Sequence[str],
    objects: NDArray[np.int64],
    *,
    classes: Sequence[int] | None = None,
    weights: Floats | None = None,
    parameters: Mapping[str, Any] | None = None,
    rounds: int = ROUNDS,
    seed: int = 1,
    origin: Mapping[str, Any] | None = None,
) -> Model:
    """Train a model.

    Parameters
    ----------
    name : str
    inputs : sequence of str
        Names of the columns of `matrix`.
    matrix : ndarray with shape (M, inputs)
        NaN where a value is unknown.
    labels : ndarray of int with shape (M,)
        Class of each row, by number of the taxonomy.
    states, objects : sequences with length M
        State id and object of each row.
    classes : sequence of int, optional
        Order of the classes; by default that of their numbers.
    weights : ndarray with shape (M,), optional
        `balanced_weights` by default.
    parameters : mapping, optional
        lightgbm's, beside `DEFAULTS`.
    rounds, seed : int
    origin : mapping, optional
        More to note of where the rows are from.

    Raises
    ------
    ConfigError
        If an input says more of the survey than of the object: a date, a count, bits of bands.
    ValueError
        If a label is not in `classes`, or there are fewer than two classes.
    """
    import lightgbm  # takes a second to import

    for word in inputs:
        role = role_of(word.removeprefix(ABSOLUTE).removeprefix(REST)) or "input"
        if role != "input":
            raise ConfigError(
                f"model {name!r} cannot have the input {word!r}: its role is {role!r}, and models"
                " take features of the role 'input' alone"
            )
    order = ordered(states)
    matrix, labels = matrix[order], np.asarray(labels, np.int64)[order]
    objects = np.asarray(objects, np.int64)[order]
    weights = balanced_weights(labels, objects) if weights is None else weights[order]
    chosen = [int(c) for c in (np.unique(labels) if classes is None else classes)]
    if len(chosen) < 2 or not np.isin(labels, chosen).all():
        raise ValueError(f"labels {np.unique(labels).tolist()} do not make classes {chosen}")
    index = {number: i for i, number in enumerate(chosen)}
    target = np.array([index[label] for label in labels.tolist()])
    aim: dict[str, Any] = (
        {"objective": "binary"}
        if len(chosen) == 2
        else {"objective": "multiclass", "num_class": len(chosen)}
    )
    settings = DEFAULTS | dict(parameters or {}) | aim | _FIXED | {"seed": seed}
    data = lightgbm.Dataset(
        matrix, target, weight=weights, feature_name=list(inputs), params=settings
    )
    booster = lightgbm.train(settings, data, num_boost_round=rounds)
    noted = {
        "rows": int(labels.size),
        "objects": int(np.unique(objects).size),
        "rows_hash": rows_hash([states[i] for i in order], matrix, labels, weights),
        "rounds": rounds,
        "seed": seed,
        "software": {"lightgbm": lightgbm.__version__, "numpy": np.__version__},
    }
    text = booster.model_to_string()
    return Model(name, text, [*inputs], chosen, settings, noted | dict(origin or {}))
