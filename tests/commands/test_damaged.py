"""Whatever happened to a file of a lake: a command ends with a sentence, and never with less.

`AMPEL_SPARK_FUZZ` is the number of damages that are tried; some, without it.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from ampel_spark.archive.reading.ztf import alerts_table
from ampel_spark.cli import main
from ampel_spark.lake.commits import add_parts, written
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.pins import pin
from ampel_spark.lake.tables import TABLES, Table, TableColumn, result_table
from tests.commands.small_lake import RUNS

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("runs",),
    ("show", "latest"),
    ("show", RUNS[0], "--format", "json"),
    ("tables",),
    ("tables", "alerts"),
    ("object", "ZTF18abxhyqv"),
    ("explain", "11", "--channel", "SN"),
    ("diff", RUNS[0], RUNS[1]),
    ("search", "alerts", "--cone", "180", "30", "5"),
    ("maintain", "--pins"),
    ("maintain", "--check", "--fast"),
    ("catalog", "list"),
)
DAMAGES = ("cut", "emptied", "flipped", "removed", "replaced")


def rewritten(table: DeltaTable, name: str) -> tuple[Table, pa.Table]:
    rows = table.to_pyarrow_table()
    base = alerts_table() if name == "alerts" else TABLES.get(name)
    known = {c.name: c for c in (base or result_table(name, ())).columns}
    types = {"int32": "int", "double": "double", "list<element: string>": "array<string>"}
    more = [
        TableColumn(f.name, types[str(f.type)], "own") for f in rows.schema if f.name not in known
    ]
    made = Table(name, "rows", (*known.values(), *more), noted=base.noted if base else None)
    return made, pa.Table.from_pylist(rows.to_pylist(), arrow_schema(made))


@pytest.fixture(scope="module")
def whole(small_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small lake as this version writes it, with the sums of pages, files and commits."""
    root = tmp_path_factory.mktemp("whole") / "lake"
    lake = Lake(cast(Any, None), root)
    for log in sorted(small_lake.glob("*/_delta_log")):
        table, rows = rewritten(DeltaTable(str(log.parent)), log.parent.name)
        lake.ensure(table)
        add_parts(lake, table, written(lake, table, rows), {"run_id": RUNS[0]})
    pin(lake, RUNS[1], {"alerts": 1})
    return root


def damaged(lake: Path, path: Path, kind: str, dice: random.Random) -> None:
    data = path.read_bytes()
    if kind == "removed":
        path.unlink()
    elif kind == "replaced":
        others = sorted(p for p in lake.rglob(f"*{path.suffix}") if p.is_file() and p != path)
        path.write_bytes(dice.choice(others).read_bytes() if others else b"{}")
    elif kind == "flipped":
        changed = bytearray(data)
        changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(changed)
    else:
        path.write_bytes(data[: dice.randrange(len(data)) if kind == "cut" else 0])


def cases(lake: Path, count: int) -> Iterator[tuple[Path, str, tuple[str, ...], random.Random]]:
    dice = random.Random(count)
    files = sorted(p for p in lake.rglob("*") if p.is_file())
    for _ in range(count):
        yield dice.choice(files), dice.choice(DAMAGES), dice.choice(COMMANDS), dice


def test_a_command_on_a_damaged_lake_ends_with_one_sentence(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = Path(shutil.copytree(whole, tmp_path / "lake"))
    truth: dict[tuple[str, ...], tuple[int, str]] = {}
    for words in COMMANDS:
        code = main([*words, "--lake", str(lake)])
        truth[words] = (code, capsys.readouterr().out)
    for path, kind, words, dice in cases(lake, int(os.environ.get("AMPEL_SPARK_FUZZ") or 30)):
        before = path.read_bytes()
        damaged(lake, path, kind, dice)
        case = f"{kind} {path.relative_to(lake)}: {' '.join(words)}"
        code = main([*words, "--lake", str(lake)])
        said = capsys.readouterr()
        path.write_bytes(before)
        assert code in (0, 1, 2, 3), case
        assert "Traceback" not in said.err, case
        assert len(said.err.strip().splitlines()) <= 3, f"{case}\n{said.err}"
        if said.out != truth[words][1] and words[0] != "maintain":
            # Less, or something else, is never without a word.
            assert code != 0 or is_harmless(path, kind, words), f"{case}\n{said.out}{said.err}"


def is_harmless(path: Path, kind: str, words: tuple[str, ...]) -> bool:
    """Say whether it is so: what is printed is what the files are, or nothing names what is lost.

    The record of a run of the small lake names versions of ``alerts`` and ``decisions`` alone.
    """
    unnamed = path.parts[-3] not in ("alerts", "decisions", "runs") and "_delta_log" in path.parts
    return words[0] == "tables" or (kind == "removed" and unnamed)
