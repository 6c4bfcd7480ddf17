"""Extinction laws."""

from __future__ import annotations

import numpy as np
import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.salt.dust import LAWS, extinction_per_ebv


@pytest.mark.parametrize("law", LAWS)
def test_visual_extinction_is_r_v(law: str) -> None:
    # At the V band; Fitzpatrick's curve meets R_V in the band's integral, to a few per cent here.
    assert extinction_per_ebv(law, np.array([5495.0]), 3.1)[0] == pytest.approx(3.1, rel=0.04)
    assert extinction_per_ebv(law, np.array([5495.0]), 2.0)[0] == pytest.approx(2.0, rel=0.04)


def test_published_values_of_ccm89() -> None:
    # Cardelli et al. 1989, table 3, R_V = 3.1: A(λ)/A(V) of U, B, R, I.
    wave = np.array([3650.0, 4400.0, 7000.0, 9000.0])
    ratios = extinction_per_ebv("CCM89", wave) / 3.1
    np.testing.assert_allclose(ratios, [1.569, 1.337, 0.751, 0.479], atol=0.015)


def test_unknown_law_and_unphysical_r_v_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"F98.*F99"):
        extinction_per_ebv("F98", np.array([5000.0]))
    with pytest.raises(ConfigError, match="R_V"):
        extinction_per_ebv("F99", np.array([5000.0]), 0.0)
