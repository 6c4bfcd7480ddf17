"""The guide to catalogues does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ampel_spark.lake.marker import mark
from ampel_spark.sky.sources import CatalogSettings

GUIDE = Path(__file__).parents[2] / "docs" / "catalogs.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_block_of_python_runs_and_the_settings_are_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mark(tmp_path / "lake")
    namespace: dict[str, Any] = {}
    blocks = BLOCK.findall(GUIDE.read_text())
    for language, text in blocks:
        if language == "python":
            exec(compile(text, "catalogs.md", "exec"), namespace)
        elif language == "yaml":
            assert CatalogSettings.model_validate(yaml.safe_load(text)).unit == "sexagesimal"
    assert {language for language, _ in blocks} == {"sh", "yaml", "text", "python"}
