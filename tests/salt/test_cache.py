"""Compiled kernels have a folder that processes share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ampel_spark.salt import cache


def test_named_folder_is_used_and_differs_by_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    cache.cache_folder.cache_clear()
    folder = cache.cache_folder()
    cache.cache_folder.cache_clear()
    assert folder.parent == tmp_path
    assert folder.name.startswith("kernels-")


def test_folder_that_cannot_be_made_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "below"))
    cache.cache_folder.cache_clear()
    folder = cache.cache_folder()
    cache.cache_folder.cache_clear()
    assert not folder.is_relative_to(tmp_path)


def test_importing_the_package_compiles_and_reads_nothing() -> None:
    code = "import ampel_spark.salt, sys; print('ampel_spark.salt.batch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "False"
