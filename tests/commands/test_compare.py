"""diff."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ampel_spark.commands.compare import _split
from tests.commands.conftest import Command
from tests.job.comparison.lakes import AFTER, BEFORE, make_lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lake(tmp_path_factory.mktemp("diff"))


def test_two_runs_are_told_apart(lake: Path, command: Command) -> None:
    code, out, err = command("diff", BEFORE, AFTER, "--lake", lake, "--no-page")
    assert (code, err) == (0, "")
    heads = [line.split()[0] for line in out.split("\n\n") for line in [line.strip()] if line]
    assert heads == ["run", "run", "what", "candidates", "reasons", "lost:", "gained:", "moved:",
                     "states", "why", "statuses", "shifts,", "in", "results"]  # fmt: skip
    lost = out.partition("lost: best\n")[2].partition("\n\n")[0].splitlines()
    assert lost[1].split()[:5] == ["SN2", "2", "cut", "min_ndet", "-"]
    assert lost[1].endswith("T0: min_ndet 3 → 5")
    assert not (lake / "reports").exists()


def test_few_rows_can_be_asked_for(lake: Path, command: Command) -> None:
    out = command("diff", BEFORE, AFTER, "--lake", lake, "--no-page", "--limit", 2)[1]
    assert "… and 3 more (--limit)" in out


def test_json_has_every_change_and_no_nan(lake: Path, command: Command) -> None:
    code, out, _ = command(
        "diff", BEFORE, AFTER, "--lake", lake, "--no-page", "--format", "json",
        "--columns", "fit.x1, min(fit.c, fit.x1)",
    )  # fmt: skip
    (found,) = json.loads(out)
    assert code == 0
    assert [row["name"] for row in found["changes"]] == [
        "SN2", "SN3", "SN4", "SN5", "SN6", "SN7", "SN8", "SN9", "SN1",
    ]  # fmt: skip
    cut = found["changes"][0]
    assert (cut["alert_id"], cut["value_a"], cut["value_b"]) == (20, None, 4.0)
    assert [s["column"] for s in found["shifts"]] == ["fit.x1", "min(fit.c, fit.x1)"]
    assert (found["a"]["run_id"], found["b"]["run_id"]) == (BEFORE, AFTER)
    assert found["page"] is None
    assert sum(r["objects"] for r in found["reasons"]) == len(found["changes"])


def test_the_page_is_in_the_lake_or_where_it_is_asked_for(
    lake: Path, command: Command, tmp_path: Path
) -> None:
    out = command("diff", BEFORE, AFTER, "--lake", lake, "--page", tmp_path / "a.html")[1]
    assert out.endswith(f"page: {tmp_path / 'a.html'}\n")
    page = lake / "reports" / f"diff-{BEFORE}-{AFTER}.html"
    assert not page.exists()
    (found,) = json.loads(command("diff", BEFORE, AFTER, "--lake", lake, "--format", "json")[1])
    assert found["page"] == str(page)
    assert page.read_text() == (tmp_path / "a.html").read_text()
    page.unlink()
    page.parent.rmdir()


def test_a_run_that_is_not_there_is_told_with_the_lake(lake: Path, command: Command) -> None:
    code, out, err = command("diff", BEFORE, "nothing", "--lake", lake)
    assert (code, out) == (2, "")
    assert err.startswith(f"ampel-spark: lake {lake} has no run 'nothing'; its newest: ")


def test_columns_are_split_at_commas_outside_of_brackets() -> None:
    assert _split("a.b, min(a.b, 3),a.c in [1, 2] ,") == ["a.b", "min(a.b, 3)", "a.c in [1, 2]"]
    assert _split("") == []
