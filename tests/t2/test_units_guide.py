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

#: Units whose entries need what other pages make: events, models, lenses.
OWN_PAGES = {
    "light_curve_features": "classify.md",
    "classify": "classify.md",
    "event_match": "events.md",
    "kilonovaness": "events.md",
    "lens_colours": "lenses.md",
    "lens_evidence": "lenses.md",
}


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
    assert set(built) == {*UNITS, "rise_time"} - {*OWN_PAGES}
    for unit in built.values():
        assert set(unit.needs()) <= set(built)


def test_every_unit_of_the_package_is_in_the_guide() -> None:
    text = GUIDE.read_text()
    for name in UNITS:
        assert f"| `{name}` |" in text
        cls = find_unit(name, Path())
        assert cls.columns or cls.output_columns is not Unit.output_columns


@pytest.mark.parametrize("name", OWN_PAGES)
def test_a_unit_with_a_page_of_its_own_is_shown_there(name: str) -> None:
    assert f"unit: {name}" in GUIDE.with_name(OWN_PAGES[name]).read_text()
