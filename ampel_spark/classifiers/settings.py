"""Classifiers from configuration: a tree of models, and a chain of priors on its leaves.

Each node is a model. A class of it that has a branch is split among the classes of another model:
the probability of a leaf is the product along its branch. So several classifiers can be made of the
same models, whose probabilities are computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ampel_spark.classifiers.priors import Prior, apply
from ampel_spark.classifiers.taxonomy import class_of
from ampel_spark.errors import ConfigError
from ampel_spark.problems import read_model
from ampel_spark.settings import conf_file

__all__ = ["Classifier", "Node", "read_classifier"]

Floats = NDArray[np.float64]


class Node(BaseModel):
    """A model in a tree."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    "Name of the model."

    branches: dict[str, Node] = {}
    "Class of this model, by number or name, and the model that splits it."

    def models(self) -> Iterator[str]:
        """Yield the names of all models of the tree."""
        yield self.model
        for node in self.branches.values():
            yield from node.models()

    def leaves(self, classes: Mapping[str, list[int]]) -> list[int]:
        """Return the classes of the tree's leaves, of the classes of each model.

        Raises
        ------
        ConfigError
            If a branch is of a class that its model does not have, or a class is a leaf twice.
        """
        split = {class_of(word): node for word, node in self.branches.items()}
        own = classes[self.model]
        if other := sorted({*split} - {*own}):
            raise ConfigError(
                f"branch {other[0]}: model {self.model!r} has the classes"
                f" {', '.join(map(str, own))}"
            )
        found = [leaf for c in own for leaf in (split[c].leaves(classes) if c in split else [c])]
        if twice := sorted(c for c in {*found} if found.count(c) > 1):
            raise ConfigError(f"class {twice[0]} is a leaf twice in the tree of {self.model!r}")
        return found

    def combined(
        self, probabilities: Mapping[str, Floats], classes: Mapping[str, list[int]]
    ) -> Floats:
        """Return the probabilities of the leaves, shape (M, leaves), of those of each model."""
        split = {class_of(word): node for word, node in self.branches.items()}
        parts = []
        for j, number in enumerate(classes[self.model]):
            part = probabilities[self.model][:, j : j + 1]
            if number in split:
                part = part * split[number].combined(probabilities, classes)
            parts.append(part)
        return np.concatenate(parts, axis=1)


class Classifier(BaseModel):
    """A file of ``conf/classifiers``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    "What question it answers."

    tree: Node
    "The models."

    priors: tuple[Prior, ...] = ()
    "Applied in this order, each to what the one before left."

    def classified(
        self,
        probabilities: Mapping[str, Floats],
        classes: Mapping[str, list[int]],
        inputs: Mapping[str, Floats],
    ) -> tuple[Floats, list[list[str]]]:
        """Return probabilities of the leaves, and the names of priors that could not be applied.

        Parameters
        ----------
        probabilities, classes : mapping
            Those of each model; shape (M, classes).
        inputs : mapping of str to ndarray with shape (M,)
            What priors ask for.
        """
        leaves = self.tree.leaves(classes)
        found = self.tree.combined(probabilities, classes)
        notes: list[list[str]] = [[] for _ in range(found.shape[0])]
        for prior in self.priors:
            found, without = apply(prior, found, leaves, inputs)
            for i in np.flatnonzero(without):
                notes[i].append(prior.name)
        return found, notes


def read_classifier(source: str | Path) -> Classifier:
    """Return a classifier by name (``conf/classifiers``) or by path.

    Raises
    ------
    ConfigError
        If there is no such file, or it is not what a classifier must be.
    """
    path = source if isinstance(source, Path) else conf_file("classifiers", source)
    return read_model(path, Classifier)
