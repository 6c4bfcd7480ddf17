"""Reading knows nothing of committing: a format can be read without a lake."""

from __future__ import annotations

import ast
from pathlib import Path

import ampel_spark.archive

ROOMS = Path(ampel_spark.archive.__file__).parent


def test_reading_imports_nothing_of_committing() -> None:
    files = sorted((ROOMS / "reading").glob("*.py"))
    assert len(files) > 10
    wrong = [
        f"{path.name}: {node.module}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and "archive.committing" in (node.module or "")
    ]
    assert wrong == []
