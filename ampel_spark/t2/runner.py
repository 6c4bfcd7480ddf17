"""Units run on states: what is stale is computed, once, and what is there is used again.

A result's key is (state, trace, input): the light curve is in the state's id, the unit with its
parameters, code and files in the trace, and in the input hash the results of other units and what
else it read, such as tiles of a catalogue (`Unit.inputs`).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ampel_spark import shipping
from ampel_spark.archive.reading.columns import row_hashes
from ampel_spark.bounds import cure, limit
from ampel_spark.classes import packed
from ampel_spark.errors import UnitError
from ampel_spark.lake.parts import Part, arrow_schema, arrow_type, parts_of, write_part
from ampel_spark.lake.tables import Table, TableColumn, result_table
from ampel_spark.lake.ties import READ, hash_column
from ampel_spark.lightcurve import POINT_FIELDS, LightCurve, LightCurveBatch, TiedResults
from ampel_spark.t1.assemble import batch_of
from ampel_spark.t2.guard import SILENCE, beat, guarded
from ampel_spark.t2.unit import EXCEPTION, MISSING_DEPENDENCY, OK, Column, Refusal, Unit

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame, SparkSession

__all__ = [
    "HEADER",
    "MAX_ATTEMPTS",
    "PRESENT",
    "REPLACEABLE",
    "compute",
    "compute_batch",
    "has_subjects",
    "hashed_fields",
    "in_child",
    "input_fields",
    "light_curves",
    "one_batch",
    "one_each",
    "own_fields",
    "own_hashes",
    "point_columns",
    "reads_inputs",
    "reported_inputs",
    "result_schema",
    "results_of",
    "shared",
    "stale",
    "subject_ids",
    "unit_table",
    "unpacked",
    "wanted",
]

#: How often a unit is tried on a light curve that it raises an exception for.
MAX_ATTEMPTS = 3
#: SQL condition on a row ``t`` of a unit's table: it gives way to another one under its key.
REPLACEABLE = f"t.status = {EXCEPTION} AND coalesce(t.attempts, 1) < {MAX_ATTEMPTS}"

#: Columns that `stale` looks at of results that are there.
PRESENT = ("state_id", "trace_id", "input_hash", "status", "attempts")

#: What an object's table says of it, beside a light curve.
HEADER = "tie__header"
#: A task takes up to so many times `Unit.states_per_task` where there are very many light curves.
_MOST = 125
#: Light curves that a fast unit gets at a time.
_CHUNK = 1000
#: Results that become one row group of a file.
_GROUP = 20_000
#: So many states, without their light curves, may go to every worker.
_BROADCAST = 200_000
#: Bytes that a result has at the most, but for a few.
_USUAL = 1 << 14
#: Characters of a message that are kept.
_MESSAGE = 10_000


def unit_table(name: str, columns: Sequence[Column]) -> Table:
    """Return the Delta table of a unit's results."""
    return result_table(
        name,
        [
            TableColumn(c.name, c.type, c.description + (f" [{c.unit}]" if c.unit else ""))
            for c in columns
        ],
    )


def result_schema(columns: Sequence[Column]) -> pa.Schema:
    """Return the Arrow schema of results: the key and the outcome, then the unit's columns."""
    return pa.schema(
        [
            ("state_id", pa.string()),
            ("subject_id", pa.string()),
            ("stock", pa.int64()),
            ("name", pa.string()),
            ("trace_id", pa.string()),
            ("input_hash", pa.string()),
            ("status", pa.int32()),
            ("message", pa.string()),
            ("duration_ms", pa.float64()),
            ("attempts", pa.int32()),
            *((c.name, arrow_type(c.type)) for c in columns),
        ]
    )


def wanted(
    states: DataFrame,
    ties: Mapping[str, tuple[DataFrame, Sequence[Column]]],
    unit: Unit | None = None,
) -> DataFrame:
    """Return the states a unit is to see, with the results it is tied to and their hash.

    Parameters
    ----------
    states : DataFrame
        One row per state: ``state_id`` is enough. Rows stay narrow until `compute` has need of the
        light curves: carried through joins, these cost more than a fast unit's work.
    ties : mapping of str to (DataFrame, columns)
        Results of other units, one row per state, by the entry's name. They have the columns named
        here, and `ampel_spark.lake.ties.READ`.
    unit : Unit, optional
        Its `inputs` are part of the hash, and so is what the survey declares of points and the
        unit reads. `states` have to have the ``lc_`` columns of its `hashed_fields`, and, of one
        that `reads_inputs` or `has_subjects`, stock and name.

    Returns
    -------
    DataFrame
        `states` with ``tie_<name>`` (a struct; null where there is no result) and ``input_hash``,
        and for a unit that `has_subjects` with ``subject_id``.
    """
    from pyspark.sql import functions as f

    rows = states
    for name, (results, columns) in sorted(ties.items()):
        # By name: a job's record may give columns in another order.
        fields = ["status", *sorted(c.name for c in columns)]
        tie = f.struct(*fields).alias(f"tie_{name}")
        key = f.struct(*_key_columns(results)).alias(f"_key_{name}")
        rows = rows.join(results.select("state_id", tie, key), "state_id", "left")
    hashed = hash_column({name: f"_key_{name}" for name in ties})
    reported: list[SparkColumn] = []
    if unit is not None and reads_inputs(unit):
        reported.append(_reported(unit, rows, _inputs_of))
    if unit is not None and own_fields(unit):
        reported.append(_own_hash(unit, rows))
    if reported:
        hashed = f.concat(hashed, f.lit(":"), f.concat_ws(",", *reported))
    if unit is not None and has_subjects(unit):
        rows = rows.withColumn("subject_id", _reported(unit, rows, _subjects_of))
    return rows.withColumn("input_hash", hashed).drop(*(f"_key_{name}" for name in ties))


def reads_inputs(unit: Unit) -> bool:
    """Say whether a unit tells what it reads beside the state, object by object."""
    return type(unit).inputs is not Unit.inputs


def has_subjects(unit: Unit) -> bool:
    """Say whether a unit looks at no photometry: its results belong to objects."""
    return type(unit).subjects is not Unit.subjects


def input_fields(unit: Unit) -> tuple[str, ...]:
    """Return the fields of points that `wanted` needs of a unit's light curves."""
    return tuple(dict.fromkeys(("jd", *unit.input_fields)))


def own_fields(unit: Unit) -> tuple[str, ...]:
    """Return the fields of points that a unit reads and that not all surveys have."""
    return tuple(name for name in unit.point_fields() or () if name not in POINT_FIELDS)


def hashed_fields(unit: Unit) -> tuple[str, ...]:
    """Return the fields of points that `wanted` needs for a unit; none for nearly all units."""
    inputs = input_fields(unit) if reads_inputs(unit) or has_subjects(unit) else ()
    return tuple(dict.fromkeys((*inputs, *own_fields(unit))))


def _own_hash(unit: Unit, rows: DataFrame) -> SparkColumn:
    """Return a hash over the `own_fields` of light curves as a column."""
    from pyspark.sql.pandas.functions import arrow_udf

    def hashes(*points: pa.Array) -> pa.Array:
        return pa.array(own_hashes(points), pa.string())

    hashes.__annotations__ = {"points": pa.Array, "return": pa.Array}
    names = [f"lc_{name}" for name in own_fields(unit)]
    column: SparkColumn = arrow_udf(hashes, "string")(*(rows[name] for name in names))  # type: ignore[call-overload]
    return column


def _key_columns(results: DataFrame) -> list[Any]:
    """Return what calls a tied result: its subject, where it has one, in place of the state."""
    from pyspark.sql import functions as f

    if "subject_id" not in results.columns:
        return list(READ)
    called = f.coalesce("subject_id", "state_id").alias("state_id")
    return [called if name == "state_id" else name for name in READ]


def reported_inputs(unit: Unit, batch: pa.RecordBatch) -> Sequence[str | None]:
    """Return what `Unit.inputs` says of each row of a batch; empty where it says nothing."""
    found = unit.inputs(_with_ties(batch_of(batch), batch))
    return [""] * len(batch) if found is None else found


def subject_ids(unit: Unit, batch: pa.RecordBatch) -> Sequence[str | None]:
    """Return the ids of the subjects of a batch's rows, by `Unit.subjects`."""
    return _subjects_of(unit, _with_ties(batch_of(batch), batch))


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """Return a table as one batch."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


def _inputs_of(unit: Unit, batch: LightCurveBatch) -> Sequence[str] | None:
    return unit.inputs(batch)


def _subjects_of(unit: Unit, batch: LightCurveBatch) -> Sequence[str | None]:
    """Return the ids of the subjects of light curves: a hash over the object and what is read."""
    read = unit.subjects(batch)
    if read is None:
        return [None] * len(batch)
    return [
        hashlib.blake2b(f"{stock}\0{name}\0{text}".encode(), digest_size=16).hexdigest()
        for stock, name, text in zip(batch.stock.tolist(), batch.name.tolist(), read, strict=True)
    ]


def _reported(
    unit: Unit,
    rows: DataFrame,
    report: Callable[[Unit, LightCurveBatch], Sequence[str | None] | None],
) -> SparkColumn:
    """Return what a unit says of light curves as a column: `Unit.inputs`, or its subjects."""
    from pyspark.sql import functions as f
    from pyspark.sql.pandas.functions import arrow_udf

    data = packed(unit, Unit)
    names = [f"lc_{name}" for name in input_fields(unit)]
    if unit.reads_header:
        names.append(HEADER)

    def reported(stock: pa.Array, name: pa.Array, *columns: pa.Array) -> pa.Array:
        n = len(stock)
        head = {"state_id": pa.nulls(n, pa.string()), "stock": stock, "name": name}
        arrays = head | dict(zip(names, columns, strict=True))
        batch = pa.RecordBatch.from_arrays([*arrays.values()], names=[*arrays])
        found = report(_unpacked(data), _with_ties(batch_of(batch), batch))
        return pa.array([""] * n if found is None else found, pa.string())

    # Annotations are strings in this module, and Spark looks for the types themselves.
    kinds = {"stock": pa.Array, "name": pa.Array, "columns": pa.Array, "return": pa.Array}
    reported.__annotations__ = kinds
    there = [
        rows[name] if name in rows.columns else f.lit(default)
        for name, default in (("stock", 0), ("name", ""))
    ]
    column: SparkColumn = arrow_udf(reported, "string")(*there, *(rows[name] for name in names))  # type: ignore[call-overload]
    return column


def shared(rows: DataFrame, present: DataFrame, trace_id: str) -> DataFrame:
    """Return results of subjects for those of `rows` that have none of their own.

    Parameters
    ----------
    rows : DataFrame
        Of `wanted`, for a unit that `has_subjects`.
    present : DataFrame
        Results that are there, with all columns.
    trace_id : str

    Returns
    -------
    DataFrame
        With the columns of `present`: the same results, each for another state.
    """
    from pyspark.sql import functions as f

    key, subject = ["state_id", "input_hash"], ["subject_id", "input_hash"]
    mine = present.where((f.col("trace_id") == trace_id) & f.col("subject_id").isNotNull())
    wanted = rows.select("state_id", *subject)
    failed = _is_tried_again()
    standing = mine.where(~failed)
    found = wanted.join(standing.select(*key), key, "left_anti").join(_first(standing), subject)
    # Where all that a subject has is an exception, states without any result have it too.
    absent = wanted.join(mine.select(*key), key, "left_anti")
    absent = absent.join(standing.select(*subject), subject, "left_anti")
    broken = absent.join(_first(mine.where(failed)), subject)
    return found.select(*present.columns).unionByName(broken.select(*present.columns))


def _first(results: DataFrame) -> DataFrame:
    """Return one result of each subject, the first by its state, without the state."""
    return one_each(results).drop("state_id")


def _is_tried_again() -> SparkColumn:
    """Return the condition on a result that it is an exception which is tried again."""
    from pyspark.sql import functions as f

    attempts = f.coalesce("attempts", f.lit(1))
    return (f.col("status") == EXCEPTION) & (attempts < MAX_ATTEMPTS)


def one_each(rows: DataFrame) -> DataFrame:
    """Return one of the `rows` of each subject, the first by its state."""
    from pyspark.sql import functions as f

    subject = ["subject_id", "input_hash"]
    first = rows.groupBy(*subject).agg(f.min("state_id").alias("state_id"))
    return rows.join(
        first.select("state_id", "input_hash"), ["state_id", "input_hash"], "left_semi"
    )


def own_hashes(points: Sequence[pa.ListArray]) -> list[str]:
    """Return a hash over fields of the points of each light curve, hexadecimal."""
    return [f"{number:016X}" for number in row_hashes(points).view(np.uint64).tolist()]


def stale(rows: DataFrame, present: DataFrame, trace_id: str) -> DataFrame:
    """Return those of `rows` (from `wanted`) that have no result under their key.

    Of results that are there the columns `PRESENT` are read. One that is an exception is tried
    again, until there have been `MAX_ATTEMPTS`.

    Returns
    -------
    DataFrame
        `rows` with ``attempts``, the number of exceptions so far.
    """
    from pyspark.sql import functions as f

    key = ["state_id", "input_hash"]
    mine = present.where(f.col("trace_id") == trace_id).select(
        *key, "status", f.coalesce("attempts", f.lit(1)).alias("attempts")
    )
    failed = _is_tried_again()
    again = mine.where(failed).drop("status")
    left = rows.join(mine.where(~failed).select(*key), key, "left_anti")
    return left.join(f.broadcast(again), key, "left").fillna(0, "attempts")


def light_curves(folder: str, spark: SparkSession) -> DataFrame:
    """Return staged light curves with each state once.

    Parameters
    ----------
    folder : str
        Parquet files as T1 stages them: a row per ``request`` and ``access``, of which several may
        be one state. With each state comes where it is: ``file`` and ``row``.
    spark : SparkSession
    """
    from pyspark.sql import functions as f

    curves = spark.read.parquet(folder)
    curves = curves.select(
        "*", f.col("_metadata.file_path").alias("file"), f.col("_metadata.row_index").alias("row")
    )
    place = ["access", "request"]
    n = curves.agg(f.count("*"), f.count_distinct("state_id")).first()
    if n is None or n[0] == n[1]:
        return curves
    first = curves.groupBy("state_id").agg(f.min(f.struct(*place)).alias("at"))
    return curves.join(first.select("state_id", "at.*"), ["state_id", *place], "left_semi")


def compute(
    rows: DataFrame,
    curves: DataFrame,
    unit: Unit,
    trace_id: str,
    count: int,
    folder: str | Path,
    run_id: str,
    silence: float = SILENCE,
) -> list[Part]:
    """Run a unit on the rows of `stale`; every task writes its results as a part of the table.

    Parameters
    ----------
    rows : DataFrame
        Of `stale`, or of `wanted` where there are no results yet.
    curves : DataFrame
        Light curves, of `light_curves`.
    unit : Unit
        Travels to the workers, the user's own modules with it.
    trace_id : str
    count : int
        Number of rows, to choose the number of tasks; no result depends on it.
    folder : path
        Of the parts; workers see it under the same path.
    run_id : str
        Goes into the rows.
    silence : float
        Seconds after which a unit that does not come back from a light curve is stopped. It costs
        that light curve a row with status -4, as one does that ends its process
        (`ampel_spark.t2.guard`).

    Notes
    -----
    A unit that takes many light curves at once and names the fields that it reads gets these from
    the files, without a way through the JVM: that costs as much as such a unit's own work. So does
    the way back, which no result takes.
    """
    placed = _placed(rows, curves, unit, count)
    task = _task_on_files if "file" in placed.columns else _task
    data = packed(unit, Unit)
    write = functools.partial(_write, task, data, trace_id, str(folder), run_id, silence)
    return parts_of(placed, write)


def _placed(rows: DataFrame, curves: DataFrame, unit: Unit, count: int) -> DataFrame:
    """Return rows with their light curves, or with the places of these, a partition each task."""
    from pyspark.sql import functions as f

    read = unit.point_fields()
    cores, least = rows.sparkSession.sparkContext.defaultParallelism, unit.states_per_task()
    tasks = max(1, min(math.ceil(count / least), max(4 * cores, count // (_MOST * least))))
    if read is not None and least >= _CHUNK and "file" in curves.columns and not reads_inputs(unit):
        # Neighbours in a file stay together, so that few tasks read the same one.
        chunk = f.floor(f.col("row") / (4 * _CHUNK))
        placed = curves.select("state_id", "file", "row").join(rows, "state_id")
        placed = placed.repartition(min(tasks, 2 * cores), "file", chunk)
        return placed.sortWithinPartitions("file", "row")
    narrow = f.broadcast(rows) if count <= _BROADCAST else rows
    joined = curves.select("state_id", "stock", "name", *point_columns(unit)).join(
        narrow, "state_id"
    )
    if reads_inputs(unit):
        # What reads the same is computed together, where it is then read once.
        return joined.repartitionByRange(tasks, "input_hash", "state_id")
    return joined.repartition(tasks, "state_id")


def in_child(unit: bytes, trace_id: str, rows: pa.Table, run_id: str, silence: float) -> pa.Table:
    """Return a unit's results on light curves, by a process of the unit's own.

    Parameters
    ----------
    unit : bytes
        Of `ampel_spark.t2.registry.packed`.
    trace_id, run_id : str
        Go into the rows.
    rows : Arrow table
        What `compute_batch` takes.
    silence : float
        As for `compute`.

    Returns
    -------
    Arrow table
        With the columns of the unit's table.
    """
    schema = arrow_schema(unit_table("", _unpacked(unit).output_columns()))
    made = [
        result.append_column("run_id", pa.repeat(run_id, len(result))).select(schema.names)
        for start in range(0, len(rows), _CHUNK)
        for result in _results(_task, unit, trace_id, one_batch(rows.slice(start, _CHUNK)), silence)
    ]
    return pa.Table.from_batches(made, schema)


def unpacked(unit: bytes) -> Unit:
    """Return a unit of its bytes (`ampel_spark.classes.packed`), once in a process."""
    return _unpacked(unit)


def _write(
    task: Callable[[Unit, str, pa.RecordBatch, int], Iterator[pa.RecordBatch]],
    unit: bytes,
    trace_id: str,
    folder: str,
    run_id: str,
    silence: float,
    batches: Iterator[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """Run a unit on the light curves of a task, and write the results."""
    built = _unpacked(unit)
    table = unit_table("", built.output_columns())
    schema = arrow_schema(table)
    results = (
        rows.append_column("run_id", pa.repeat(run_id, len(rows))).select(schema.names)
        for batch in batches
        for rows in _results(task, unit, trace_id, batch, silence)
    )
    return write_part(folder, schema, table.extremes, _GROUP, results)


def _results(
    task: Callable[[Unit, str, pa.RecordBatch, int], Iterator[pa.RecordBatch]],
    unit: bytes,
    trace_id: str,
    batch: pa.RecordBatch,
    silence: float,
) -> Iterator[pa.RecordBatch]:
    """Yield the results of light curves by a process of the unit's own."""
    at = 0
    for found in guarded(unit, functools.partial(_in_child, task, trace_id), batch, silence):
        if isinstance(found, str):
            ended = _EndedUnit.instead_of(_unpacked(unit), found)
            yield from task(ended, trace_id, batch.slice(at, 1), 1)
            at += 1
        else:
            yield found
            at += len(found)


def _in_child(
    task: Callable[[Unit, str, pa.RecordBatch, int], Iterator[pa.RecordBatch]],
    trace_id: str,
    unit: bytes,
    batch: pa.RecordBatch,
    chunk: int,
) -> Iterator[pa.RecordBatch]:
    yield from task(_unpacked(unit), trace_id, batch, chunk or _CHUNK)


class _EndedUnit(Unit):
    """Stands in the place of a unit whose process ended on a light curve, to make its row."""

    why: str
    made: tuple[Column, ...]
    read: tuple[str, ...] | None

    @classmethod
    def instead_of(cls, unit: Unit, why: str) -> _EndedUnit:
        read = unit.point_fields()
        return cls(
            why=why, made=tuple(unit.output_columns()), read=None if read is None else tuple(read)
        )

    def output_columns(self) -> Sequence[Column]:
        return self.made

    def point_fields(self) -> Sequence[str] | None:
        return self.read

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        raise Refusal(self.why, EXCEPTION)


def point_columns(unit: Unit) -> list[str]:
    """Return the columns of light curves that a unit gets."""
    read = unit.point_fields()
    common = [name for name in POINT_FIELDS if read is None or name in read]
    return [f"lc_{name}" for name in (*common, *own_fields(unit))]


def _task_on_files(
    unit: Unit, trace_id: str, batch: pa.RecordBatch, chunk: int
) -> Iterator[pa.RecordBatch]:
    """Run a unit on states that are named by their place in Parquet files, in order of these."""
    files = batch.column("file").to_pylist()
    edges = [0, *(k for k in range(1, len(files)) if files[k] != files[k - 1]), len(files)]
    for begin, end in itertools.pairwise(edges):
        if begin == end:
            continue
        path = files[begin]
        table = _curves_of(path, tuple(point_columns(unit)))
        for start in range(begin, end, chunk):
            part = batch.slice(start, min(chunk, end - start))
            curves = table.take(part.column("row")).combine_chunks().to_batches()[0]
            if not curves.column("state_id").equals(part.column("state_id")):
                raise UnitError(f"{path}: light curves changed while they were read")
            rest = [n for n in part.schema.names if n not in ("state_id", "file", "row")]
            whole = pa.RecordBatch.from_arrays(
                [*curves.columns, *(part.column(n) for n in rest)],
                names=[*curves.schema.names, *rest],
            )
            yield compute_batch(unit, whole, trace_id)


@functools.lru_cache(maxsize=1)
def _curves_of(path: str, fields: tuple[str, ...]) -> pa.Table:
    # Rows of one file may come in several batches.
    return pq.read_table(
        url2pathname(urlsplit(path).path),
        columns=["state_id", "stock", "name", *fields],
        partitioning=None,
    )


def _task(unit: Unit, trace_id: str, batch: pa.RecordBatch, chunk: int) -> Iterator[pa.RecordBatch]:
    """Run a unit on light curves; as they come from Spark, unless each is to be alone."""
    for start in range(0, len(batch), chunk if chunk == 1 else max(1, len(batch))):
        yield compute_batch(unit, batch.slice(start, 1) if chunk == 1 else batch, trace_id)


@functools.lru_cache(maxsize=256)
def _unpacked(unit: bytes) -> Unit:
    # Once per worker process: models and catalogues stay loaded between tasks.
    loaded: Unit = shipping.unpacked(unit)
    return loaded


def compute_batch(unit: Unit, batch: pa.RecordBatch, trace_id: str) -> pa.RecordBatch:
    """Run a unit on an Arrow batch of light curves.

    Parameters
    ----------
    unit : Unit
    batch : RecordBatch
        ``state_id, stock, name, input_hash``, the ``lc_`` lists, and ``tie_`` structs.
    trace_id : str

    Returns
    -------
    RecordBatch
        With `result_schema`. A light curve whose unit raised is a row with status -4 and the
        exception's text; one that it refused has the refusal's status.
    """
    found = results_of(unit, _with_ties(batch_of(batch), batch))
    n = found.num_rows
    schema = result_schema(unit.output_columns())
    before: Any = np.zeros(n, np.int32)
    if "attempts" in batch.schema.names:
        before = batch.column("attempts").fill_null(0).to_numpy()
    head = {
        "state_id": batch.column("state_id"),
        "stock": batch.column("stock"),
        "name": batch.column("name"),
        "subject_id": (
            batch.column("subject_id")
            if "subject_id" in batch.schema.names
            else pa.nulls(n, pa.string())
        ),
        "trace_id": pa.repeat(trace_id, n),
        "input_hash": batch.column("input_hash"),
        "attempts": pa.array(before + 1, pa.int32()),
    }
    arrays = [head[f.name] if f.name in head else found.column(f.name) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def results_of(unit: Unit, curves: LightCurveBatch) -> pa.RecordBatch:
    """Run a unit on light curves.

    Parameters
    ----------
    unit : Unit
    curves : LightCurveBatch

    Returns
    -------
    RecordBatch
        ``status, message, duration_ms`` and the unit's columns, one row for each light curve. One
        whose unit raised has status -4 and the exception's text; one that it refused has the
        refusal's status.
    """
    columns = unit.output_columns()
    status, message, duration, values = _together(unit, columns, curves) or _one_by_one(
        unit, columns, curves
    )
    head = {"status": status, "message": message, "duration_ms": pa.array(duration, pa.float64())}
    return pa.RecordBatch.from_pydict({**head, **{c.name: values[c.name] for c in columns}})


_Results: TypeAlias = "tuple[pa.Array, pa.Array, Any, dict[str, pa.Array]]"


def _together(unit: Unit, columns: Sequence[Column], curves: LightCurveBatch) -> _Results | None:
    """Return what `process_batch` makes; None where the unit has none, or where it fails.

    One light curve that it fails on must not cost the others their results: then they are taken
    one by one, and what it raises stands in the row of that one.
    """
    try:
        return _at_once(unit, columns, curves)
    except (Exception, SystemExit):  # which comes again for the light curve that it is about
        return None


def _at_once(unit: Unit, columns: Sequence[Column], curves: LightCurveBatch) -> _Results | None:
    n = len(curves)
    started = time.perf_counter()
    found = unit.process_batch(curves) if n else None
    if found is None:
        return None
    _check_names(found, columns)
    if lengths := {name: len(each) for name, each in found.items() if len(each) != n}:
        raise ValueError(f"process_batch returned {lengths} values for {n} light curves")
    values = {c.name: _column(found.get(c.name, pa.nulls(n)), arrow_type(c.type)) for c in columns}
    size = sum(column.nbytes for column in values.values())
    if size > limit("result") + n * _USUAL:  # of one, perhaps, which is then found one by one
        raise ValueError(f"process_batch returned {size} bytes for {n} light curves")
    status = pa.array(found.get("status", np.zeros(n, np.int32)), pa.int32())
    message = _column(found.get("message", pa.nulls(n)), pa.string())
    each = (time.perf_counter() - started) * 1e3 / n
    return status, message, np.full(n, each), values


def _one_by_one(unit: Unit, columns: Sequence[Column], curves: LightCurveBatch) -> _Results:
    rows = [_one(unit, columns, curve) for curve in curves]
    values = {
        c.name: _column([row[3].get(c.name) for row in rows], arrow_type(c.type)) for c in columns
    }
    status = pa.array([row[0] for row in rows], pa.int32())
    message = pa.array([row[1] for row in rows], pa.string())
    return status, message, [row[2] for row in rows], values


def _one(
    unit: Unit, columns: Sequence[Column], curve: LightCurve
) -> tuple[int, str | None, float, Mapping[str, Any]]:
    beat()
    started = time.perf_counter()
    status, message, result = OK, None, {}
    missing = [name for name in unit.needs() if curve.results.get(name) is None]
    try:
        if missing:
            raise Refusal(f"no result of {', '.join(missing)}", MISSING_DEPENDENCY)
        result = _checked(_processed(unit, columns, curve), columns)
        status, message = _outcome(result.pop("status", OK), result.pop("message", None))
    except Refusal as refusal:
        status, message = refusal.status, str(refusal)
    except (Exception, SystemExit) as error:  # one object's failure is one row; the stage goes on
        status, message = EXCEPTION, f"{type(error).__name__}: {error}"[:1000]
    return status, message, (time.perf_counter() - started) * 1e3, result


def _outcome(status: Any, message: Any) -> tuple[int, str | None]:
    """Hold a unit to a status of 32 bits and a message of text."""
    if not isinstance(message, str | None):
        raise TypeError(f"message is {message!r}, no text")
    return pa.scalar(int(status), pa.int32()).as_py(), message and message[:_MESSAGE]


def _processed(unit: Unit, columns: Sequence[Column], curve: LightCurve) -> Mapping[str, Any]:
    """Return a unit's columns for one light curve: of a batch form, as strictly as of many."""
    if type(unit).process is not Unit.process:
        return unit.process(curve)
    found = _at_once(unit, columns, LightCurveBatch.of([curve]))
    if found is None:
        return unit.process(curve)  # which says what is missing
    status, message, _, values = found
    row = {name: column[0].as_py() for name, column in values.items()}
    return row | {"status": status[0].as_py(), "message": message[0].as_py()}


def _check_names(result: Mapping[str, Any], columns: Sequence[Column]) -> None:
    names = [c.name for c in columns]
    if unknown := set(result) - {*names, "status", "message"}:
        raise ValueError(
            f"process returned {', '.join(sorted(unknown))}, "
            f"not among the unit's columns ({', '.join(names)})"
        )


def _checked(result: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """Hold a unit to its declared columns and types, so that one odd value is its own row."""
    types = {c.name: c.type for c in columns}
    _check_names(result, columns)
    checked: dict[str, Any] = {}
    for name, value in result.items():
        if name in types:
            try:
                column = _column([value], arrow_type(types[name]))
                if column.nbytes > limit("result"):
                    raise ValueError(f"{column.nbytes} bytes of it: {cure('result')}")
                checked[name] = column[0].as_py()
            except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError) as error:
                shown = repr(value)[:200]
                raise ValueError(f"column {name} ({types[name]}): {shown}: {error}") from None
        else:
            checked[name] = value
    return checked


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.cast(kind)
    if isinstance(values, np.ndarray) and values.dtype != object:
        return pa.array(values, from_pandas=True).cast(kind)
    plain = [v.tolist() if isinstance(v, np.ndarray | np.generic) else v for v in values]
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        plain = [None if isinstance(v, float) and math.isnan(v) else v for v in plain]
    return pa.array(plain, kind)


def _with_ties(curves: LightCurveBatch, batch: pa.RecordBatch) -> LightCurveBatch:
    results: dict[str, Any] = {}
    for column in batch.schema.names:
        if column.startswith("tie_"):
            results[column[4:]] = TiedResults(batch.column(column))
    return replace(curves, results=results)
