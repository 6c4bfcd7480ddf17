"""Which lake a command is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampel_spark.interface.places import lake_of


def test_the_option_wins_over_the_environment_over_the_job_over_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AMPEL_SPARK_LAKE", raising=False)
    assert lake_of(None) == tmp_path / "lake"
    assert lake_of(None, Path("/of/job")) == Path("/of/job")
    monkeypatch.setenv("AMPEL_SPARK_LAKE", "elsewhere")
    assert lake_of(None, Path("/of/job")) == tmp_path / "elsewhere"
    assert lake_of("given", Path("/of/job")) == tmp_path / "given"
