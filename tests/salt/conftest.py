"""Fitters for the tests: the tables are built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampel_spark.salt import SaltFitter
from tests.salt.light_curves import BANDS


@pytest.fixture(scope="session")
def fitter(sncosmo_data: Path) -> SaltFitter:
    """SALT3 f22 in ZTF g and r, compiled."""
    return SaltFitter("salt3", BANDS, version="2.0", z_range=(0.0, 0.15), engine="compiled")


@pytest.fixture(scope="session")
def twin(sncosmo_data: Path) -> SaltFitter:
    """The same in plain numpy."""
    return SaltFitter("salt3", BANDS, version="2.0", z_range=(0.0, 0.15), engine="numpy")
