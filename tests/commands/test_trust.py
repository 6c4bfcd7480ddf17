"""Jobs, names and paths of others: what runs is said, and what is printed is harmless."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from ampel_spark.commands.saying import Escaped
from ampel_spark.lake.lake import Lake
from ampel_spark.t3.export import SAFE_CSV, write_csv
from tests.commands.conftest import Command

UNIT = """\
{top}
from ampel_spark.t2 import Column, Unit

class Own(Unit):
    columns = (Column("x", "double", "", "x"),)

    def process(self, light_curve):
        return {{"x": 1.0}}
"""
JOB = """\
name: theirs
channel: [{name: SN, access: [ZTF_PUB]}]
t0: [{channel: SN, filter: All}]
t2: [{unit: "own.py:Own"}, {unit: light_curve_summary}]
t3:
- {name: best, channel: SN, select: own.x > 0}
- {name: more, channel: SN, select: light_curve_summary.n_detections > 1}
"""


def job(folder: Path, top: str = "", text: str = JOB) -> Path:
    (folder / "own.py").write_text(UNIT.format(top=top))
    file = folder / "job.yml"
    file.write_text(text)
    return file


def test_a_job_says_which_code_runs_before_it_runs(tmp_path: Path, command: Command) -> None:
    code, out, err = command("validate", job(tmp_path, "print('I run')"))
    assert (code, out.count("good")) == (0, 1)
    assert err.splitlines()[0] == "runs the code of own.py:Own (--no-code: not)"
    assert "I run" not in out  # it is no part of the answer


@pytest.mark.parametrize(
    ("top", "said"),
    [
        ("import sys; sys.exit(0)", "fails on import: SystemExit: 0"),
        ("import os; os._exit(0)", "ends the process that imports it (exit code 0)"),
        ("import os; os.kill(os.getpid(), 11)", "ends the process that imports it (signal 11)"),
        ("raise ValueError('no')", "fails on import: ValueError: no"),
    ],
)
def test_a_unit_file_that_ends_silences_nothing(
    top: str, said: str, tmp_path: Path, command: Command
) -> None:
    code, _, err = command("validate", job(tmp_path, top))
    assert code == 2
    assert said in err


def test_without_code_all_else_is_checked(tmp_path: Path, command: Command) -> None:
    file = job(tmp_path, "open('ran', 'w')")
    code, out, err = command("validate", "--no-code", file)
    assert (code, err) == (0, "")
    assert "good, its own units aside" in out
    assert not Path("ran").exists()
    file.write_text(JOB.replace("light_curve_summary.n_detections", "light_curve_summary.n_det"))
    code, _, err = command("validate", "--no-code", file)
    assert code == 2
    assert "n_det" in err
    assert command("run", "--no-code", file)[0] == 2


def test_lines_of_other_files_are_not_printed(tmp_path: Path, command: Command) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("root:x:0:0\nanother secret\n")
    release = tmp_path / "release.yml"
    release.write_text(f"name: mine\nrules:\n- {{select: {{objects_in: {secret}}}, mask: true}}\n")
    file = job(tmp_path, text=JOB + f"calibration: {release}\n")
    code, _, err = command("validate", file)
    assert code == 2
    assert f"line 1 of {secret} names no object" in err
    assert "root" not in err.replace(str(tmp_path), "")
    assert "another secret" not in err


def test_control_characters_are_shown_and_not_obeyed() -> None:
    stream = io.StringIO()
    escaped = Escaped(stream)
    print("a\x1b[2Jb\x07\r\x9bc\u202ed\te", file=cast(Any, escaped))
    assert stream.getvalue() == "a\\u001b[2Jb\\u0007\\u000d\\u009bc\\u202ed\te\n"


@pytest.mark.parametrize("name", ["a#b", "a?b", "a\\b", "a%20b"])
def test_a_path_that_no_reader_of_tables_takes_is_refused_at_once(
    name: str, tmp_path: Path, command: Command
) -> None:
    for words in (["runs"], ["maintain"], ["ingest", tmp_path / "x"]):
        code, _, err = command(*words, "--lake", tmp_path / name)
        assert code in (1, 2)
    assert "in it, which readers of its tables take for something else" in err or "x" in err
    assert not (tmp_path / name).exists()
    with pytest.raises(Exception, match="name another folder"):
        Lake(cast(Any, None), tmp_path / name)


def test_locks_are_as_open_as_the_lake(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        lake = Lake(cast(Any, None), tmp_path / "lake")
        lake.root.chmod(0o2775)
        with lake.lock("archive"), lake.staging("run"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((lake.root / "_locks" / "archive").stat().st_mode) == 0o664
    for folder in ("_locks", "_staging"):
        assert stat.S_IMODE((lake.root / folder).stat().st_mode) == 0o2775


def test_csv_is_written_as_it_is_or_safe_for_spreadsheets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pa.table({"name": ["=1+1", "@x", "-a", "good"], "x": [-1.5, 2.0, None, 1.0]})
    write_csv(tmp_path / "a.csv", rows, run_id="r")
    assert (tmp_path / "a.csv").read_text() == "name,x\n=1+1,-1.5\n@x,2.0\n-a,\ngood,1.0\n"
    monkeypatch.setenv(SAFE_CSV, "1")
    write_csv(tmp_path / "a.csv", rows, run_id="r")
    assert (tmp_path / "a.csv").read_text() == "name,x\n'=1+1,-1.5\n'@x,2.0\n'-a,\ngood,1.0\n"
