"""Fixtures of the tests of units."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from ampel_spark import classes


@pytest.fixture(autouse=True)
def own_modules() -> Iterator[None]:
    """Forget the modules that a test's own units brought in."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in [*classes._LOADED, *(n for n in sys.modules if n.startswith("user_file_"))]:
        if name not in modules:
            sys.modules.pop(name, None)
    for name in set(classes._LOADED) - modules:
        del classes._LOADED[name]
