"""Trees of models: products along branches, and what cannot be a tree."""

from __future__ import annotations

import numpy as np
import pytest

from ampel_spark.classifiers import Classifier, read_classifier
from ampel_spark.classifiers.settings import Node
from ampel_spark.errors import ConfigError

CLASSES = {
    "recurrence": [2200, 2300],
    "periodicity": [2320, 2330],
    "transients": [2222, 2224],
}
LIKELY = {
    "recurrence": np.array([[0.8, 0.2]]),
    "periodicity": np.array([[0.25, 0.75]]),
    "transients": np.array([[0.9, 0.1]]),
}


def test_the_worked_example_of_ampel_s_three_trees() -> None:
    infant = read_classifier("infant")
    assert infant.tree.leaves(CLASSES) == [2200, 2320, 2330]
    np.testing.assert_allclose(infant.classified(LIKELY, CLASSES, {})[0], [[0.80, 0.05, 0.15]])


def test_the_three_of_the_talk_read_the_same_likelihoods() -> None:
    unbiased, best = read_classifier("unbiased"), read_classifier("max_posterior")
    assert [*unbiased.tree.models()] == [*best.tree.models()]
    found, notes = unbiased.classified(LIKELY, CLASSES, {})
    np.testing.assert_allclose(found, [[0.72, 0.08, 0.05, 0.15]])
    assert notes == [[]]
    found, notes = best.classified(LIKELY, CLASSES, {})
    ia = 0.8 * 0.9 * 663 / (0.9 * 663 + 0.1 * 168)
    np.testing.assert_allclose(found, [[ia, 0.8 - ia, 0.05, 0.15]])
    # no colour of a host was given
    assert notes == [["host_colour"]]


def test_trees_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="branch 2224: model 'recurrence' has the classes 2200"):
        Node(model="recurrence", branches={"sn_ii": Node(model="transients")}).leaves(CLASSES)
    twice = Node(model="recurrence", branches={"2300": Node(model="recurrence")})
    with pytest.raises(ConfigError, match="class 2200 is a leaf twice"):
        twice.leaves(CLASSES)
    with pytest.raises(ConfigError, match="no class 'sn_ib'; did you mean 'sn_ibc'"):
        Node(model="recurrence", branches={"sn_ib": Node(model="transients")}).leaves(CLASSES)


def test_a_classifier_has_a_description_and_known_keys() -> None:
    with pytest.raises(ValueError, match="extra"):
        Classifier.model_validate({"description": "x", "tree": {"model": "a"}, "prior": []})
    with pytest.raises(ConfigError, match=r"there is no 'infants' in .*did you mean 'infant'"):
        read_classifier("infants")
