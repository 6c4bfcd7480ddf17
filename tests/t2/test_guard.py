"""Units that misbehave: each costs its light curve one row, and the others nothing."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampel_spark.classes import packed
from ampel_spark.errors import UnitError
from ampel_spark.t2 import Column, LightCurve, LightCurveBatch, Unit, guard, runner
from tests.t2.staged import curves

COLUMNS = (Column("brightest", "double", "mag", "brightest"), Column("words", "string", "", "text"))


def misbehave(kind: str) -> Any:
    match kind:
        case "exits":
            sys.exit("no licence")
        case "ends":
            os._exit(7)
        case "segfaults":
            ctypes.string_at(0)
        case "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hangs":
            time.sleep(100)
        case "returns gigabytes":
            return "x" * (2 << 20)
        case "interrupts":
            raise KeyboardInterrupt


class Odd(Unit):
    """Magnitude of the brightest detection; below magnitude 5 it misbehaves."""

    kind: str
    columns = COLUMNS

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        brightest = light_curve.detections.mag.min()
        return {"brightest": brightest, "words": misbehave(self.kind) if brightest < 5 else "fine"}


class OddTogether(Unit):
    """The same for a whole batch at once."""

    kind: str
    columns = COLUMNS

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        brightest = [curve.detections.mag.min() for curve in batch]
        words = [misbehave(self.kind) if b < 5 else "fine" for b in brightest]
        return {"brightest": brightest, "words": words}


MESSAGES = {
    "exits": "SystemExit: no licence",
    "ends": "the unit ended its process, exit code 7",
    "segfaults": "the unit's process was ended by SIGSEGV",
    "is killed": "the unit's process was ended by SIGKILL, perhaps for want of memory",
    "hangs": "the unit gave no sign of life for 0.5 s, and was stopped",
    "returns gigabytes": "ValueError: ",
    "interrupts": "the unit ended its process, exit code 0",
}


@pytest.fixture(autouse=True)
def bounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AMPEL_SPARK_LIMITS", "result=1")
    guard._stop()
    yield
    guard._stop()


def rows_of(unit: Unit, batch: pa.RecordBatch, task: Any = runner._task) -> list[dict[str, Any]]:
    made = runner._results(task, packed(unit, Unit), "trace", batch, 0.5)
    return [row for rows in made for row in rows.to_pylist()]


GOOD_AND_BAD = [[18.0, 17.5], [4.0, 6.0], [19.0], [4.5], [16.0]]


@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize("cls", [Odd, OddTogether], ids=["one by one", "at once"])
def test_a_unit_that_misbehaves_costs_its_light_curve_a_row(cls: type[Unit], kind: str) -> None:
    rows = rows_of(cls(kind=kind), curves(GOOD_AND_BAD))
    assert [row["stock"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["status"] for row in rows] == [0, -4, 0, -4, 0]
    assert [row["brightest"] for row in rows] == [17.5, None, 19.0, None, 16.0]
    assert all(row["message"].startswith(MESSAGES[kind]) for row in rows[1::2])
    assert {row["attempts"] for row in rows} == {1}


def test_results_are_those_of_the_unit_in_this_process() -> None:
    batch = curves([[18.0, 17.5], [19.0], [17.0]])
    unit = Odd(kind="none")
    own = runner.compute_batch(unit, batch, "trace").to_pylist()
    rows = rows_of(unit, batch)
    for row in (*own, *rows):
        row.pop("duration_ms")
    assert rows == own


def test_the_child_stays_from_one_task_to_the_next() -> None:
    class Who(Unit):
        columns = (Column("pid", "bigint", "", "process"),)

        def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
            return {"pid": os.getpid()}

    found = {row["pid"] for _ in range(3) for row in rows_of(Who(), curves([[18.0], [17.0]]))}
    assert len(found) == 1
    assert os.getpid() not in found


def test_light_curves_in_files_are_guarded_too(tmp_path: Path) -> None:
    class InFiles(Odd):
        def point_fields(self) -> tuple[str, ...]:
            return ("kind", "jd", "band", "mag")

    staged = curves(GOOD_AND_BAD)
    pq.write_table(pa.Table.from_batches([staged.drop_columns(["input_hash"])]), tmp_path / "c")
    placed = pa.RecordBatch.from_pydict(
        {
            "state_id": staged.column("state_id"),
            "file": [(tmp_path / "c").as_uri()] * 5,
            "row": pa.array(range(5), pa.int64()),
            "input_hash": staged.column("input_hash"),
        }
    )
    rows = rows_of(InFiles(kind="segfaults"), placed, runner._task_on_files)
    assert [row["status"] for row in rows] == [0, -4, 0, -4, 0]
    assert [row["stock"] for row in rows] == [0, 1, 2, 3, 4]


def test_what_is_wrong_with_the_task_itself_is_an_error_of_the_run(tmp_path: Path) -> None:
    staged = curves([[18.0], [17.0]])
    pq.write_table(pa.Table.from_batches([staged.drop_columns(["input_hash"])]), tmp_path / "c")
    placed = pa.RecordBatch.from_pydict(
        {
            "state_id": staged.column("state_id"),
            "file": [(tmp_path / "c").as_uri()] * 2,
            "row": pa.array([1, 0], pa.int64()),
            "input_hash": staged.column("input_hash"),
        }
    )
    with pytest.raises(UnitError, match="light curves changed while they were read"):
        rows_of(Odd(kind="none"), placed, runner._task_on_files)


def test_a_slow_unit_that_goes_on_is_let_go_on() -> None:
    class Slow(Odd):
        def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
            time.sleep(0.3)
            return super().process(light_curve)

    rows = rows_of(Slow(kind="none"), curves([[18.0], [17.0], [16.0]]))
    assert [row["status"] for row in rows] == [0, 0, 0]
