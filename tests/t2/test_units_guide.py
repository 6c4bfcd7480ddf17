"""The guide to units does what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ampel_spark.t2 import Unit
from ampel_spark.t2.registry import UNITS, build, find_unit

GUIDE = Path(__file__).parents[2] / "docs" / "units.md"
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_every_block_of_python_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, Any] = {}
    files = []
    for language, file, text in BLOCK.findall(GUIDE.read_text()):
        if language != "python":
            continue
        if file:
            (folder / file).write_text(text)
            files.append(file)
            monkeypatch.delitem(sys.modules, Path(file).stem, raising=False)
        exec(compile(text, f"units.md {file or 'example'}", "exec"), namespace)
    assert len(files) == 5
    assert all(issubclass(namespace[name], Unit) for name in ("RiseTime", "Brighter", "Brightest"))


def test_every_entry_of_a_job_builds(folder: Path) -> None:
    (folder / "hosts.csv").write_text("ra,dec,z\n1,2,0.1\n")
    (folder / "sample.csv").write_text("SN,z_hel\nZTF18aaa,0.1\n")
    built = {}
    for language, file, text in BLOCK.findall(GUIDE.read_text()):
        if file:
            (folder / file).write_text(text)
        elif language == "yaml":
            for entry in yaml.safe_load(text)["t2"]:
                unit = build(entry["unit"], entry.get("config"), folder)
                built[entry.get("name", entry["unit"])] = unit
    assert set(built) == {*UNITS, "rise_time"}
    for unit in built.values():
        assert set(unit.needs()) <= set(built)


def test_every_unit_of_the_package_is_in_the_guide() -> None:
    text = GUIDE.read_text()
    for name in UNITS:
        assert f"| `{name}` |" in text
        assert find_unit(name, Path()).columns
