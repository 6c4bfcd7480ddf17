"""Hashed random numbers behave as random numbers, and depend on nothing but their key."""

from __future__ import annotations

import numpy as np
from scipy.stats import kstest

from ampel_spark.simulate.noise import exponential, key_of, normal, uniform

KEYS = key_of(np.arange(400)[:, None], np.arange(250)).ravel()


def test_they_have_their_distributions() -> None:
    assert kstest(uniform(KEYS, 1, "a"), "uniform").pvalue > 1e-3
    assert kstest(normal(KEYS, 1, "a"), "norm").pvalue > 1e-3
    assert kstest(exponential(KEYS, 1, "a"), "expon").pvalue > 1e-3


def test_seeds_sites_and_neighbouring_keys_are_independent() -> None:
    first = normal(KEYS, 1, "a")
    others = (normal(KEYS, 2, "a"), normal(KEYS, 1, "b"), np.roll(first, 1), np.roll(first, 250))
    for other in others:
        assert abs(np.corrcoef(first, other)[0, 1]) < 4.0 / np.sqrt(KEYS.size)


def test_means_over_an_object_scatter_as_they_should() -> None:
    means = normal(KEYS, 3, "flux").reshape(400, 250).mean(axis=1) * np.sqrt(250)
    assert kstest(means, "norm").pvalue > 1e-3


def test_a_number_is_the_same_alone_and_among_others() -> None:
    together = normal(KEYS, 1, "a")
    order = np.random.default_rng(1).permutation(KEYS.size)
    assert np.array_equal(normal(KEYS[order], 1, "a"), together[order])
    assert normal(KEYS[7], 1, "a") == together[7]
    assert normal(KEYS[7], 1, "a").shape == ()
