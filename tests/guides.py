"""Guides of the documentation, whose blocks run as they stand."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

__all__ = ["blocks", "run_python"]

_BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(guide: Path) -> list[tuple[str, str, str]]:
    """Return the blocks of a page: language, file or an empty word, text."""
    return _BLOCK.findall(guide.read_text())


def run_python(guide: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the Python of a page in a folder, its files written there, and return what it defines."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    namespace: dict[str, Any] = {}
    for language, file, text in blocks(guide):
        if language != "python":
            continue
        if file:
            (folder / file).write_text(text)
            monkeypatch.delitem(sys.modules, Path(file).stem, raising=False)
        exec(compile(text, f"{guide.name} {file or 'example'}", "exec"), namespace)
    return namespace
