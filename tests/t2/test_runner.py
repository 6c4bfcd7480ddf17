"""Units on batches: results, refusals, failures, ties; and what is stale."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ampel_spark.lake.commits import insert_parts
from ampel_spark.lake.lake import Lake
from ampel_spark.t1.assemble import batch_of
from ampel_spark.t2 import Column, LightCurve, LightCurveBatch, Refusal, Unit, runner
from ampel_spark.t2.registry import build
from tests.t2.staged import curves


class Brightest(Unit):
    """Magnitude of the brightest detection, from a zero point."""

    zero: float = 0.0
    refuse_below: int = 2
    columns = (
        Column("brightest", "double", "mag", "brightest detection"),
        Column("bands", "array<string>", "", "bands"),
        Column("count", "int", "", "detections"),
    )

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        d = light_curve.detections
        if len(d) < self.refuse_below:
            raise Refusal(f"{len(d)} detections, {self.refuse_below} needed")
        if d.mag.min() < 5:
            raise ZeroDivisionError("too bright")
        return {"brightest": d.mag.min() - self.zero, "bands": sorted(set(d.band)), "count": len(d)}


class Tied(Unit):
    """Twice the result of another unit."""

    columns = (Column("twice", "double", "mag", "twice the brightest"),)

    def needs(self) -> tuple[str, ...]:
        return ("brightest",)

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        return {"twice": 2 * light_curve.results["brightest"]["brightest"]}


class Together(Unit):
    """The same as `Brightest`, for a whole batch at once."""

    columns = Brightest.columns[:1]

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        status = np.where(np.diff(batch.offsets) < 2, -2008, 0)
        return {
            "brightest": np.minimum.reduceat(batch.points["mag"], batch.offsets[:-1]),
            "status": status,
        }


def test_a_result_a_refusal_and_a_failure_are_a_row_each() -> None:
    rows = runner.compute_batch(
        Brightest(zero=1.0), curves([[18.0, 17.5, 19.0], [18.0], [4.0, 6.0]]), "trace"
    ).to_pylist()
    assert [r["status"] for r in rows] == [0, -2008, -4]
    assert rows[0]["brightest"] == 16.5
    assert (rows[0]["bands"], rows[0]["count"], rows[0]["trace_id"], rows[0]["message"]) == (
        ["ztfg"],
        3,
        "trace",
        None,
    )
    assert rows[1]["message"] == "1 detections, 2 needed"
    assert rows[2]["message"] == "ZeroDivisionError: too bright"
    assert rows[2]["brightest"] is None
    assert all(r["duration_ms"] >= 0 for r in rows)


def test_nan_becomes_null_and_an_undeclared_or_mistyped_value_is_the_objects_own_failure() -> None:
    class Odd(Brightest):
        def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
            return {0: {"brightest": float("nan")}, 1: {"bright": 1.0}, 2: {"count": "many"}}[
                light_curve.stock
            ]

    rows = runner.compute_batch(Odd(), curves([[18.0]] * 3), "t").to_pylist()
    assert (rows[0]["status"], rows[0]["brightest"]) == (0, None)
    assert rows[1]["message"] == (
        "ValueError: process returned bright, "
        "not among the unit's columns (brightest, bands, count)"
    )
    assert rows[2]["message"].startswith("ValueError: column count (int): 'many'")


def test_a_batch_form_agrees_with_the_one_by_one() -> None:
    batch = curves([[18.0, 17.5], [19.0, 18.0, 21.0]])
    one = runner.compute_batch(Brightest(), batch, "t")
    all_at_once = runner.compute_batch(Together(), batch, "t")
    assert one.column("brightest") == all_at_once.column("brightest")
    assert all_at_once.column("status").to_pylist() == [0, 0]
    assert runner.compute_batch(Together(), curves([]), "t").num_rows == 0


def test_results_of_other_units_are_handed_over_and_missing_ones_said() -> None:
    batch = curves([[18.0, 17.5], [19.0, 18.0]])
    tie = pa.array(
        [{"status": 0, "brightest": 17.5}, None],
        pa.struct([("status", pa.int32()), ("brightest", pa.float64())]),
    )
    rows = runner.compute_batch(Tied(), batch.append_column("tie_brightest", tie), "t").to_pylist()
    assert (rows[0]["status"], rows[0]["twice"]) == (0, 35.0)
    assert (rows[1]["status"], rows[1]["message"]) == (-2006, "no result of brightest")


def test_a_batch_form_that_fails_on_one_light_curve_costs_the_others_nothing() -> None:
    class Fragile(Brightest):
        def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
            raise MemoryError("all of them")

    batch = curves([[18.0, 17.5], [4.0, 6.0], [19.0]])
    rows = runner.compute_batch(Fragile(), batch, "t").to_pylist()
    assert [r["status"] for r in rows] == [0, -4, -2008]
    assert rows[1]["message"] == "ZeroDivisionError: too bright"

    class BatchAlone(Together):
        def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
            if (batch.points["mag"] < 5).any():
                raise ZeroDivisionError("too bright")
            return super().process_batch(batch)

    rows = runner.compute_batch(BatchAlone(), batch, "t").to_pylist()
    assert [r["status"] for r in rows] == [0, -4, -2008]
    assert (rows[0]["brightest"], rows[1]["brightest"]) == (17.5, None)
    assert rows[1]["message"] == "ZeroDivisionError: too bright"
    # nor does the batch that it is alone in end the run
    (row,) = runner.compute_batch(BatchAlone(), curves([[4.0, 6.0]]), "t").to_pylist()
    assert (row["status"], row["message"]) == (-4, "ZeroDivisionError: too bright")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"message": 5}, "TypeError: message is 5, no text"),
        ({"status": 1 << 40}, "OverflowError|ArrowInvalid"),
        ({"status": "good"}, "ValueError"),
    ],
)
def test_an_odd_outcome_is_the_objects_own_failure(returned: dict[str, Any], message: str) -> None:
    class Odd(Brightest):
        def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
            return returned if light_curve.stock == 1 else {"count": 1}

    rows = runner.compute_batch(Odd(), curves([[18.0], [18.0], [18.0]]), "t").to_pylist()
    assert [r["status"] for r in rows] == [0, -4, 0]
    assert re.match(message, rows[1]["message"])


def test_a_batch_form_is_held_to_its_columns_and_to_one_value_a_light_curve() -> None:
    class Misspelt(Together):
        def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
            return {"brighest": np.ones(len(batch))}

    class Short(Together):
        def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
            return {"brightest": np.ones(7)}

    for unit, text in ((Misspelt(), "returned brighest, not among"), (Short(), "{'brightest': 7}")):
        rows = runner.compute_batch(unit, curves([[18.0], [18.0]]), "t").to_pylist()
        assert [r["status"] for r in rows] == [-4, -4]
        assert text in rows[0]["message"]


def test_one_light_curve_is_not_given_the_first_of_many_values() -> None:
    class Many(Together):
        def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
            return {"brightest": np.ones(7)}

    with pytest.raises(ValueError, match=r"\{'brightest': 7\} values for 1 light curve"):
        Many().process(next(iter(batch_of(curves([[18.0]])))))


def test_a_fraction_is_no_integer_of_a_batch_form_alone_either() -> None:
    class Fraction(Together):
        columns = (Column("count", "bigint", "", "a count"),)

        def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
            return {"count": np.full(len(batch), 1.5)}

    rows = runner.compute_batch(Fraction(), curves([[18.0], [18.0]]), "t").to_pylist()
    assert [(r["status"], r["count"]) for r in rows] == [(-4, None)] * 2
    assert "1.5" in rows[0]["message"]


def test_attempts_are_counted_on() -> None:
    batch = curves([[18.0, 17.5], [4.0, 6.0]])
    assert runner.compute_batch(Brightest(), batch, "t").column("attempts").to_pylist() == [1, 1]
    again = batch.append_column("attempts", pa.array([None, 2], pa.int32()))
    assert runner.compute_batch(Brightest(), again, "t").column("attempts").to_pylist() == [1, 3]


def test_a_unit_gets_the_fields_of_points_that_are_sent() -> None:
    class Few(Brightest):
        def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
            return {"count": len(light_curve), "brightest": light_curve.flux[0]}

    batch = curves([[18.0, 17.5]])
    few = batch.select(["state_id", "stock", "name", "input_hash", "lc_mag"])
    row = runner.compute_batch(Few(), few, "t").to_pylist()[0]
    assert row["message"] == "AttributeError: a light curve has no 'flux'; its columns: mag"


@pytest.mark.spark
def test_staged_light_curves_of_one_state_are_taken_once(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = [("1", 1, "a"), ("1", 2, "a"), ("2", 1, "a"), ("1", 3, "b")]
    names = ("access", "request", "state_id")
    table = pa.table({name: [row[k] for row in rows] for k, name in enumerate(names)})
    pq.write_table(table, tmp_path / "a.parquet")
    once = runner.light_curves(str(tmp_path), spark).orderBy("state_id").collect()
    assert [r["row"] for r in once] == [0, 3]
    assert [tuple(r[k] for k in names) for r in once] == [
        ("1", 1, "a"),
        ("1", 3, "b"),
    ]


TIED = "state_id string, trace_id string, input_hash string, status int, attempts int"


@pytest.mark.spark
def test_what_has_a_result_is_not_stale_unless_it_failed_or_its_input_or_trace_changed(
    spark: SparkSession,
) -> None:
    states = spark.createDataFrame([(f"s{i}",) for i in range(6)], "state_id string")
    ties = spark.createDataFrame(
        [(f"s{i}", "b", "", 0, 1, float(i)) for i in range(3)], f"{TIED}, brightest double"
    )
    rows = runner.wanted(states, {"brightest": (ties, Brightest.columns[:1])})
    hashes = {r["state_id"]: r["input_hash"] for r in rows.collect()}
    assert len(set(hashes.values())) == 4  # two without a result are alike
    present = spark.createDataFrame(
        [
            ("s0", hashes["s0"], "t", 0, 1),
            ("s1", "other", "t", 0, 1),
            ("s2", hashes["s2"], "t", -4, 2),
            ("s3", hashes["s3"], "t", -2008, None),
            ("s4", hashes["s4"], "t", -4, 3),
            ("s5", hashes["s5"], "t", -4, None),
        ],
        "state_id string, input_hash string, trace_id string, status int, attempts int",
    )
    # an exception is tried again, three times in all; rows of older lakes count as one
    todo = {r["state_id"]: r["attempts"] for r in runner.stale(rows, present, "t").collect()}
    assert todo == {"s1": 0, "s2": 2, "s5": 1}
    assert runner.stale(rows, present, "another").count() == 6
    plain = runner.wanted(states, {})
    assert {r["input_hash"] for r in plain.collect()} == {""}


COUNTED = """
import numpy as np
from ampel_spark.t2 import Column, Unit

class Counted(Unit):
    columns = (Column("first", "double", "mag", "first"), Column("count", "int", "", "points"))

    def needs(self):
        return ("brightest",)

    def point_fields(self):
        return ("jd", "mag")

    def states_per_task(self):
        return 1000

    def process_batch(self, batch):
        assert set(batch.points) == {"jd", "mag"}
        _, tied = batch.tied("brightest", "brightest")
        first = batch.points["mag"][batch.offsets[:-1]] + tied
        return {"first": first, "count": np.diff(batch.offsets)}
"""


@pytest.mark.spark
def test_a_fast_unit_reads_its_light_curves_from_the_files_with_the_same_results(
    spark: SparkSession, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    table = pa.Table.from_batches(
        [curves([list(rng.uniform(15, 20, rng.integers(1, 6))) for _ in range(60)])]
    )
    for k in range(3):
        part = table.slice(20 * k, 20).append_column("access", pa.repeat("1", 20))
        (tmp_path / "curves").mkdir(exist_ok=True)
        pq.write_table(part, tmp_path / "curves" / f"part {k}.parquet")
    staged = runner.light_curves(str(tmp_path / "curves"), spark)
    (tmp_path / "counted.py").write_text(COUNTED)
    unit = build("counted.py:Counted", {}, tmp_path)
    ids = [f"s{i}" for i in range(60) if i % 7]
    ties = spark.createDataFrame(
        [(i, "b", "", 0, 1, float(i[1:])) for i in ids], f"{TIED}, brightest double"
    )
    keys = spark.createDataFrame([(i,) for i in ids], "state_id string")
    rows = runner.wanted(keys, {"brightest": (ties, Brightest.columns[:1])})
    found = {}
    for way, curves_ in (("file", staged), ("jvm", staged.drop("file", "row"))):
        (tmp_path / way).mkdir()
        parts = runner.compute(rows, curves_, unit, "t", len(ids), tmp_path / way, "run")
        assert {part.name for part in parts} == {p.name for p in (tmp_path / way).iterdir()}
        assert sum(part.rows for part in parts) == len(ids)
        read = pq.read_table(tmp_path / way).drop_columns(["duration_ms"]).sort_by("stock")
        found[way] = read.to_pylist()
    assert [r["stock"] for r in found["file"]] == [int(i[1:]) for i in ids]
    assert {r["run_id"] for r in found["file"]} == {"run"}
    assert found["file"][0]["first"] == table.column("lc_mag")[1].as_py()[0] + 1.0
    assert found["file"] == found["jvm"]


@pytest.mark.spark
def test_workers_build_the_unit_and_results_enter_the_table_once(
    spark: SparkSession, lake_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from ampel_spark.t2 import Column, Unit\n\n\n"
        "class Count(Unit):\n"
        '    "Points times a factor."\n\n'
        "    factor: int = 1\n"
        '    columns = (Column("count", "int", "", "points"),)\n\n'
        "    def process(self, light_curve):\n"
        '        return {"count": self.factor * len(light_curve)}\n'
    )
    unit = build("mine.py:Count", {"factor": 3}, tmp_path)
    rows = spark.createDataFrame(
        pa.Table.from_batches([curves([[18.0] * (i + 1) for i in range(40)])])
    )
    lake = Lake(spark, lake_path)
    table = runner.unit_table("count", unit.columns)
    lake.ensure(table)
    keys = runner.wanted(rows.select("state_id"), {})
    # two drivers that found the same table, and a third that knows nothing of it
    for run, since, whole in (("a", 0, True), ("b", 0, False), ("c", None, False)):
        parts = runner.compute(keys, rows, unit, "trace", 40, lake.path(table.name), run)
        found = insert_parts(lake, table, parts, {"run_id": run}, since, runner.REPLACEABLE)
        assert found == (1, whole)
    stored = lake.read("t2_count").orderBy("stock").collect()
    assert [r["count"] for r in stored] == [3 * (i + 1) for i in range(40)]
    assert {r["run_id"] for r in stored} == {"a"}


@pytest.mark.spark
def test_what_was_tied_to_an_exception_is_stale_when_that_has_been_tried_again(
    spark: SparkSession,
) -> None:
    states = spark.createDataFrame([("s0",)], "state_id string")
    column = [Column("z", "double", "", "")]

    def todo(status: int, attempts: int, present: str) -> int:
        tie = spark.createDataFrame([("s0", "h", "", status, attempts, None)], f"{TIED}, z double")
        rows = runner.wanted(states, {"host": (tie, column)})
        hashes.append(rows.first()["input_hash"])  # type: ignore[index]
        there = spark.createDataFrame(
            [("s0", present, "t", 0, 1)],
            "state_id string, input_hash string, trace_id string, status int, attempts int",
        )
        return runner.stale(rows, there, "t").count()

    hashes: list[str] = []
    assert todo(-4, 1, "") == 1
    assert todo(-4, 1, hashes[0]) == 0  # nothing has happened since
    assert todo(-4, 2, hashes[0]) == 1
    assert todo(0, 2, hashes[1]) == 1
    assert todo(0, 1, hashes[3]) == 0  # how often it was tried before is nothing to what came
    assert todo(-2008, 1, hashes[3]) == 0


@pytest.mark.spark
def test_the_order_of_a_tied_units_columns_is_not_part_of_the_input_hash(
    spark: SparkSession,
) -> None:
    # a job file and its record may give a mapping of columns in other orders
    states = spark.createDataFrame([("s0",)], "state_id string")
    results = spark.createDataFrame(
        [("s0", "h", "", 0, 1, 0.1, 5.0)], f"{TIED}, z double, a double"
    )
    z, a = Column("z", "double", "", ""), Column("a", "double", "", "")
    hashes = {
        runner.wanted(states, {"host": (results, order)}).first()["input_hash"]  # type: ignore[index]
        for order in ((z, a), (a, z))
    }
    assert len(hashes) == 1


@pytest.mark.spark
def test_what_a_unit_reads_beside_the_state_is_part_of_the_input_hash(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "looked.py").write_text(
        "from ampel_spark.t2 import Column, Unit\n\n\n"
        "class Looked(Unit):\n"
        '    "Reads something beside the state: here, by the magnitude of the first point."\n\n'
        '    columns = (Column("count", "int", "", "points"),)\n'
        '    input_fields = ("jd", "mag")\n\n'
        "    def inputs(self, batch):\n"
        '        assert set(batch.points) == {"jd", "mag"}\n'
        '        return [f"mag {int(m)}" for m in batch.points["mag"][batch.offsets[:-1]]]\n\n'
        "    def process(self, light_curve):\n"
        '        return {"count": len(light_curve)}\n'
    )
    unit = build("looked.py:Looked", {}, tmp_path)
    batch = curves([[18.0], [18.5], [19.0, 20.0], [17.0]]).drop_columns(["input_hash"])
    staged = spark.createDataFrame(pa.Table.from_batches([batch]))
    rows = runner.wanted(staged.select("state_id", "lc_jd", "lc_mag"), {}, unit)
    rows = rows.drop("lc_jd", "lc_mag")
    found = {
        r["state_id"]: r["input_hash"] for r in rows.select("state_id", "input_hash").collect()
    }
    assert found == {"s0": ":mag 18", "s1": ":mag 18", "s2": ":mag 19", "s3": ":mag 17"}
    present = spark.createDataFrame(
        [("s0", ":mag 18", "t", 0, 1), ("s1", ":mag 17", "t", 0, 1)],
        "state_id string, input_hash string, trace_id string, status int, attempts int",
    )
    (tmp_path / "parts").mkdir()
    runner.compute(runner.stale(rows, present, "t"), staged, unit, "t", 3, tmp_path / "parts", "r")
    results = pq.read_table(tmp_path / "parts").to_pylist()
    assert {r["state_id"]: (r["input_hash"], r["count"]) for r in results} == {
        "s1": (":mag 18", 1), "s2": (":mag 19", 2), "s3": (":mag 17", 1),
    }  # fmt: skip
