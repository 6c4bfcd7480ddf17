"""Priors: AMPEL's own numbers, and sums that stay 1 where AMPEL's do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampel_spark.classifiers import read_classifier
from ampel_spark.classifiers.priors import HistogramPrior, RatePrior, apply

CLASSES = [2222, 2223, 2224, 2232, 2243, 2332]
LIKELY = np.array([[0.30, 0.20, 0.20, 0.05, 0.05, 0.20]])
HOST = {"host_u_g": np.array([1.1]), "mwebv": np.array([0.05])}
RATES, COLOURS = read_classifier("max_posterior").priors

# Of AMPEL's own functions (Ampel-HU-astro 1604ddf). The means and widths of colours are known to
# four digits, which is what the results can agree to.
BY_RATE = [0.649204, 0.037862, 0.109670, 0.001632, 0.001632, 0.2]
BY_COLOUR = [0.206060, 0.248108, 0.239277, 0.045359, 0.061196, 0.2]
BY_BOTH = [0.568435, 0.059874, 0.167257, 0.001887, 0.002546, 0.2]


def test_rates_and_colours_give_what_ampel_s_functions_give() -> None:
    rate, without = apply(RATES, LIKELY, CLASSES, {})
    np.testing.assert_allclose(rate[0], BY_RATE, atol=1e-6)
    assert not without[0]
    np.testing.assert_allclose(apply(COLOURS, LIKELY, CLASSES, HOST)[0][0], BY_COLOUR, atol=1e-5)
    np.testing.assert_allclose(apply(COLOURS, rate, CLASSES, HOST)[0][0], BY_BOTH, atol=1e-5)


def test_a_prior_that_rules_out_all_its_classes_leaves_them_and_says_so() -> None:
    """AMPEL's sum is 0.3 here."""
    distances = HistogramPrior(
        kind="histogram", name="z", input="z", first=-0.09, width=0.1, bins={"sn_ia": (1.0, 2.0)}
    )
    likely = np.array([[0.7, 0.3]] * 4)
    z = {"z": np.array([0.05, 3.0, np.nan, -5.0])}
    after, without = apply(distances, likely, [2222, 2332], z)
    np.testing.assert_array_equal(after, likely)
    assert without.tolist() == [False, True, True, True]
    assert apply(distances, likely, [2222, 2332], {})[1].all()


def test_a_histogram_is_looked_up_by_its_bins() -> None:
    prior = HistogramPrior(
        kind="histogram", name="z", input="z", first=0.0, width=0.5,
        bins={"sn_ia": (3.0, 1.0), "sn_ii": (1.0, 3.0)},
    )  # fmt: skip
    after, _ = apply(prior, np.full((2, 2), 0.5), [2222, 2224], {"z": np.array([0.0, 0.99])})
    np.testing.assert_allclose(after, [[0.75, 0.25], [0.25, 0.75]])


NUMBERS = st.lists(st.sampled_from([0.0, 1e-300, 0.1, 1.0, 5.0]), min_size=6, max_size=6)


@settings(max_examples=200, deadline=None)
@given(NUMBERS, NUMBERS, st.sampled_from([np.nan, -50.0, 0.2, 1.1, 1e6, np.inf]))
def test_every_chain_keeps_the_sum(weights: list[float], rates: list[float], colour: float) -> None:
    if sum(weights) < 1e-3 or not any(rates[:4]):
        return
    likely = np.array([weights]) / sum(weights)
    own = RatePrior(
        kind="rate", name="r", rates=dict(zip(map(str, CLASSES[:4]), rates[:4], strict=True))
    )
    inputs = {"host_u_g": np.array([colour]), "mwebv": np.array([0.1])}
    found = likely
    for prior in (own, COLOURS, RATES):
        found, _ = apply(prior, found, CLASSES, inputs)
        assert found.sum() == pytest.approx(1.0, abs=1e-9)
        assert (found >= 0).all()
