"""Units on the states that a task holds: what is there, what is tried again, what is shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.ties import key_hash
from ampel_spark.t2 import Column, LightCurve, LightCurveBatch, Unit, runner
from ampel_spark.t2.shares import Shelf, Tie, wanted
from ampel_spark.t2.unit import EXCEPTION

COLUMNS = (Column("n", "int", "", "a number"), Column("words", "array<string>", "", "words"))
SCHEMA = arrow_schema(runner.unit_table("any", COLUMNS))


def results(*rows: Mapping[str, Any]) -> pa.Table:
    blank = {"input_hash": "", "trace_id": "t", "status": 0, "attempts": 1, "run_id": "r"}
    return pa.Table.from_pylist([blank | dict(row) for row in rows], SCHEMA)


def rows(*states: str, subjects: Sequence[str] | None = None) -> pa.Table:
    table = pa.table({"state_id": [*states], "input_hash": [""] * len(states)})
    return table if subjects is None else table.append_column("subject_id", pa.array([*subjects]))


class Computes:
    """Takes the place of a unit: a number for each state, or an exception for those named."""

    def __init__(self, *fails: str) -> None:
        self.fails, self.seen = fails, list[str]()

    def __call__(self, todo: pa.Table) -> pa.Table:
        self.seen += todo["state_id"].to_pylist()
        return results(
            *(
                {"state_id": row["state_id"], "subject_id": row.get("subject_id"),
                 "attempts": row["attempts"] + 1, "n": len(self.seen),
                 "status": EXCEPTION if row["state_id"] in self.fails else 0}
                for row in todo.to_pylist()
            )
        )  # fmt: skip


def test_what_has_a_result_is_not_computed_and_rows_keep_their_order() -> None:
    shelf = Shelf(results({"state_id": "b", "n": 7}, {"state_id": "x"}))
    compute = Computes()
    found, computed = shelf.complete(rows("c", "b", "a"), compute)
    assert (computed, compute.seen) == (2, ["c", "a"])
    assert found["state_id"].to_pylist() == ["c", "b", "a"]
    assert found["n"].to_pylist()[1] == 7
    assert [len(new) for new in shelf.new] == [2]
    assert not shelf.replaces
    again, computed = shelf.complete(rows("a", "c"), compute)
    assert (computed, again["state_id"].to_pylist()) == (0, ["a", "c"])


def test_an_exception_is_tried_again_three_times_in_all() -> None:
    shelf = Shelf(
        results(
            {"state_id": "a", "status": EXCEPTION, "attempts": 2},
            {"state_id": "b", "status": EXCEPTION, "attempts": 3},
            {"state_id": "c", "status": EXCEPTION, "attempts": None},
            {"state_id": "d", "status": -2008},
        )
    )
    compute = Computes("a")
    found, computed = shelf.complete(rows("a", "b", "c", "d"), compute)
    assert (computed, compute.seen) == (2, ["a", "c"])
    assert found["attempts"].to_pylist() == [3, 3, 2, 1]
    assert found["status"].to_pylist() == [EXCEPTION, EXCEPTION, 0, -2008]
    assert shelf.replaces  # one stands in the place of a row that was there


def test_states_of_one_subject_share_a_result() -> None:
    there = {"state_id": "z", "subject_id": "two", "n": 5}
    shelf = Shelf(results(there, {"state_id": "q", "subject_id": "two", "status": EXCEPTION}))
    compute = Computes()
    found, computed = shelf.complete(rows("b", "a", "c", subjects=["one", "one", "two"]), compute)
    assert (computed, compute.seen) == (1, ["a"])  # the first by its state
    assert found["state_id"].to_pylist() == ["b", "a", "c"]
    assert found["n"].to_pylist() == [1, 1, 5]
    assert sorted(pa.concat_tables(shelf.new)["state_id"].to_pylist()) == ["a", "b", "c"]
    assert not shelf.replaces


def test_an_exception_of_a_subject_is_that_of_its_states_which_is_tried_again() -> None:
    shelf = Shelf(results({"state_id": "a", "subject_id": "one", "status": EXCEPTION}))
    compute = Computes("a")
    found, computed = shelf.complete(rows("b", "a", subjects=["one", "one"]), compute)
    assert (computed, compute.seen) == (1, ["a"])
    assert found["status"].to_pylist() == [EXCEPTION, EXCEPTION]
    assert found["attempts"].to_pylist() == [1, 2]


class Reads(Unit):
    """Tied to another unit; reads a tile of each object, and a header."""

    reads_header = True
    input_fields = ("jd",)

    def needs(self) -> tuple[str, ...]:
        return ("other",)

    def inputs(self, batch: LightCurveBatch) -> Sequence[str]:
        return [f"tile{stock % 2}" for stock in batch.stock.tolist()]

    def subjects(self, batch: LightCurveBatch) -> Sequence[str]:
        heads = batch.results["_header"]
        return [str((head or {}).get("header")) for head in heads]

    def point_fields(self) -> Sequence[str]:
        return ("jd", "mag")

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        return {}


@pytest.fixture
def asked() -> pa.Table:
    """What `Reads` gets of three states, the last one without a result that it is tied to."""
    lists = pa.array([[1.0], [], [2.0, 3.0]], pa.list_(pa.float64()))
    curves = pa.table(
        {"state_id": ["a", "b", "c"], "stock": [1, 2, 3], "name": ["A", "B", "C"],
         "lc_jd": lists, "lc_mag": lists}
    )  # fmt: skip
    other = results(
        {"state_id": "b", "n": 4, "words": ["w"], "status": EXCEPTION, "attempts": 2},
        {"state_id": "a", "subject_id": "S", "n": 3},
    )
    return wanted(Reads(), curves, {"other": Tie(other, COLUMNS)}, ["head", None, "head"])


def test_a_row_is_called_by_what_it_is_tied_to_and_what_it_reads(asked: pa.Table) -> None:
    key = {"trace_id": "t", "input_hash": ""}
    ties = (
        {**key, "state_id": "S", "status": 0, "attempts": 1},  # by its subject
        {**key, "state_id": "b", "status": EXCEPTION, "attempts": 2},
        None,
    )
    tiles = ("tile1", "tile0", "tile1")
    expected = [f"{key_hash({'other': t})}:{tile}" for t, tile in zip(ties, tiles, strict=True)]
    assert asked["input_hash"].to_pylist() == expected
    # the same head of different objects is not the same subject
    assert len({*asked["subject_id"].to_pylist()}) == 3


def test_a_unit_gets_its_fields_its_ties_and_the_header(asked: pa.Table) -> None:
    assert [n for n in asked.column_names if n.startswith("lc_")] == ["lc_jd", "lc_mag"]
    assert asked["tie_other"].to_pylist() == [
        {"status": 0, "n": 3, "words": None},
        {"status": EXCEPTION, "n": 4, "words": ["w"]},
        None,
    ]
    assert asked["tie__header"].to_pylist() == [{"header": "head"}, None, {"header": "head"}]
    assert pc.all(pc.is_valid(asked["input_hash"])).as_py()
