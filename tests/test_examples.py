"""The examples of the docstrings are so: every module of the package that has some is run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from tests.conftest import PROJECT

EXAMPLE = ">>> "
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def modules() -> list[str]:
    """Return the names of the modules whose text has examples."""
    package = PROJECT / "ampel_spark"
    files = (path for path in sorted(package.rglob("*.py")) if EXAMPLE in path.read_text())
    names = (".".join(path.relative_to(PROJECT).with_suffix("").parts) for path in files)
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_are_so(
    name: str, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run them in a folder that holds ``lake``, the lake of three small quickstarts."""
    monkeypatch.chdir(examples)
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    tried = 0
    for test in finder.find(module, name, globs=dict(vars(module))):
        tried += len(test.examples)
        runner.run(test, out=told.append)
    assert tried, f"{name} has examples that doctest does not find: are they in a docstring?"
    assert not told, "".join(told)


def test_the_package_has_examples_of_its_public_entry_points() -> None:
    lines = sum(path.read_text().count(EXAMPLE) for path in (PROJECT / "ampel_spark").rglob("*.py"))
    assert lines >= 80
