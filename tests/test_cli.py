"""The command line as a whole: help, usage, exit codes, and how it fails."""
# ruff: noqa: E501  (lines are compared as they are printed)

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

from ampel_spark import __version__, cli
from ampel_spark.errors import (
    AmpelSparkError,
    ArchiveError,
    ConfigError,
    LakeError,
    SetupError,
    UnitError,
)

COMMANDS = [
    "run",
    "systematics",
    "rerun",
    "publish",
    "reproduce",
    "ingest",
    "simulate",
    "runs",
    "show",
    "diff",
    "tables",
    "branch",
    "maintain",
    "units",
    "columns",
    "validate",
    "catalog",
    "event",
    "train",
    "models",
    "search",
    "explain",
    "object",
]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("COV")}


def test_help_lists_every_command_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    listed = re.findall(r"^    (\w+)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    assert listed == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_a_function(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: ampel-spark {name}")
    groups = ("catalog", "event", "models")
    assert ("--lake" in out) == (name not in ("simulate", "units", *groups))
    plain = ("run", "rerun", "systematics", "publish", "branch", *groups)
    assert ("--format" in out) == (name not in plain)
    words = {
        "run": ["job.yml"], "ingest": ["a"], "simulate": ["a"], "show": ["latest"], "diff": ["a", "b"],
        "validate": ["job.yml"], "systematics": ["job.yml"], "rerun": ["latest"], "reproduce": ["latest"],
        "explain": ["1", "--channel", "SN"], "object": ["ZTF18abxhyqv"],
        "catalog": ["diff", "hosts", "0", "1"], "event": ["list"], "models": ["list"],
        "train": ["model.yml"], "publish": ["latest", "--to", "a"], "branch": ["trial"], "search": ["alerts", "--cone", "1", "2", "3"],
    }  # fmt: skip
    args = cli.make_parser().parse_args([name, *words.get(name, [])])
    assert callable(cli._function(args.function))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["run"],
        ["explain", "1"],
        ["explain", "one", "--channel", "SN"],
        ["runs", "--format", "xml"],
    ],
)
def test_wrong_usage_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert capsys.readouterr().err.startswith("usage: ampel-spark")


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ampel_spark {__version__}\n"


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(args: Namespace) -> int:
        raise error

    monkeypatch.setattr(cli, "_function", lambda name: fail)


@pytest.mark.parametrize(
    ("words", "error", "code"),
    [
        (["run", "job.yml"], ConfigError("a"), 2),
        (["run", "job.yml"], UnitError("a"), 2),
        (["run", "job.yml"], SetupError("a"), 2),
        (["run", "job.yml"], LakeError("a"), 1),
        (["run", "job.yml"], ArchiveError("a"), 1),
        (["ingest", "a"], LakeError("a"), 1),
        (["runs"], LakeError("a"), 2),
        (["explain", "1", "--channel", "SN"], LakeError("a"), 2),
        (["runs"], KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes_tell_the_job_from_its_configuration(
    words: list[str],
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("AMPEL_SPARK_DEBUG", raising=False)
    failing(monkeypatch, error)
    assert cli.main(words) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"ampel-spark: {str(error) or 'interrupted'}\n"


def test_debugging_shows_where_an_error_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, LakeError("a"))
    monkeypatch.setenv("AMPEL_SPARK_DEBUG", "1")
    with pytest.raises(AmpelSparkError):
        cli.main(["runs"])


def test_an_error_that_is_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["runs"])


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ampel_spark.cli import main; main(['--help'])\n"
        "heavy = {'pyspark', 'numpy', 'pydantic', 'pyarrow', 'yaml', 'deltalake'} & set(sys.modules)\n"
        "sys.exit(f'{heavy} imported' if heavy else 0)"
    )
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=ENVIRONMENT)
    # a hundred milliseconds on a free machine
    assert time.monotonic() - started < 3.0


def test_commands_that_read_start_no_spark(tmp_path: Path) -> None:
    code = (
        "import sys; from ampel_spark.cli import main\n"
        f"main(['runs', '--lake', {str(tmp_path)!r}]); main(['tables', '--lake', {str(tmp_path)!r}])\n"
        "sys.exit('pyspark imported' if 'pyspark' in sys.modules else 0)"
    )
    (tmp_path / "_ampel_spark.json").write_text('{"format": 3}')
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=ENVIRONMENT)


def test_an_answer_that_nobody_reads_to_its_end_is_no_error() -> None:
    command = f"{sys.executable} -m ampel_spark.cli tables alerts | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, env=ENVIRONMENT, check=False)  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.split() == ["column", "type", "comment"]
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "latest", "--limit", "-3"], "'-3' is no number of rows: 0, 1, 2 …"),
        (["search", "alerts", "--cone", "1", "2", "3", "--limit", "x"], "'x' is no number of rows"),
        (["maintain", "--older-than", "-5"], "'-5' is no number of hours: 0 or more"),
        (["maintain", "--older-than", "nan"], "'nan' is no number of hours: 0 or more"),
    ],
)
def test_a_number_that_is_none_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err
