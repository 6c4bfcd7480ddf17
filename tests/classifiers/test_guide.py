"""The page on features and classifiers: its Python blocks run as they stand, its YAML is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ampel_spark.classifiers import read_classifier
from ampel_spark.models import read_recipe
from ampel_spark.t2.units.classify import Classify

GUIDE = Path(__file__).parents[2] / "docs" / "classify.md"


def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S)
    assert len(blocks) == 2
    namespace: dict[str, Any] = {}
    for text in blocks:
        exec(compile(text, "classify.md", "exec"), namespace)


def test_the_files_that_the_page_shows_are_what_they_must_be(tmp_path: Path) -> None:
    shown = re.findall(r"```text\n(.*?)```", GUIDE.read_text(), re.S)
    files = [tmp_path / f"{i}.yml" for i in range(len(shown))]
    for file, text in zip(files, shown, strict=True):
        file.write_text(text)
    assert read_recipe(files[0]).labels.classes["snia"] == "sn_ia"
    assert [*read_classifier(files[1]).tree.models()] == ["recurrence", "transients"]
    entries = yaml.safe_load(shown[2])
    assert Classify.model_validate(entries[1]["config"]).needs()[1] == "host"
