"""A small lake for the commands that read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ampel_spark.cli import main
from tests.commands.small_lake import make_lake

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def small_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that is only read."""
    return make_lake(tmp_path_factory.mktemp("small"))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line, and return its exit code and what it printed and told."""

    def run(*arguments: str | Path | int) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
