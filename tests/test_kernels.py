"""Compiled kernels have a folder that processes share, one for each state of their sources."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ampel_spark import kernels, trace

GRID = "ampel_spark.sky.grid"


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    kernels.kernel_folder.cache_clear()
    yield
    kernels.kernel_folder.cache_clear()


def test_named_folder_is_used_and_differs_by_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernels.VARIABLE, str(tmp_path))
    folder = kernels.kernel_folder(GRID)
    assert folder.parent == tmp_path
    assert folder.name.startswith("kernels-")
    assert folder != kernels.kernel_folder("ampel_spark.salt.batch")


def test_folder_that_cannot_be_made_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(kernels.VARIABLE, str(tmp_path / "file" / "below"))
    assert not kernels.kernel_folder(GRID).is_relative_to(tmp_path)


def test_importing_the_package_compiles_and_reads_nothing() -> None:
    code = "import ampel_spark.salt, sys; print('ampel_spark.salt.batch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "module", [GRID, "ampel_spark.salt.batch", "ampel_spark.archive.reading.avro"]
)
def test_the_sources_of_a_kernel_are_all_modules_that_it_imports(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # by the walk of traces, which parses them
    monkeypatch.setattr(trace, "UNTRACED", {})
    monkeypatch.setattr(trace, "_FOR_TYPES", ())
    behind = {spec.name for spec, _ in trace._walk(object, trace.BaseModel, [module])}
    assert behind <= set(kernels.sources(module))
    assert "ampel_spark.compiled" in behind
