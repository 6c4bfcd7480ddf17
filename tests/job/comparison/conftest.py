"""A lake of four runs, made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.job.comparison.lakes import make_lake


@pytest.fixture(scope="session")
def four_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that is only read."""
    return make_lake(tmp_path_factory.mktemp("four"))
