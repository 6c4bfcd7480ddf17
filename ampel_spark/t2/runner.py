"""Units run on states: what is stale is computed, once, and what is there is used again.

A result's key is (state, trace, input): the light curve is in the state's id, the unit with its
parameters, code and files in the trace, and in the input hash the results of other units and what
else it read, such as tiles of a catalogue (`Unit.inputs`).
"""

from __future__ import annotations

import functools
import math
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ampel_spark.archive.packets import arrow_type
from ampel_spark.lake.tables import Column as TableColumn
from ampel_spark.lake.tables import Table, result_table
from ampel_spark.t1.assemble import batch_of
from ampel_spark.t2.lightcurve import LightCurveBatch
from ampel_spark.t2.unit import EXCEPTION, MISSING_DEPENDENCY, OK, Column, Refusal, Unit

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame

__all__ = [
    "compute",
    "compute_batch",
    "reads_inputs",
    "result_schema",
    "stale",
    "unit_table",
    "wanted",
]

#: Light curves per task, at least: so few that a slow unit keeps all cores busy and shows how
#: far it is.
STATES_PER_TASK = 16


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
            ("stock", pa.int64()),
            ("name", pa.string()),
            ("trace_id", pa.string()),
            ("input_hash", pa.string()),
            ("status", pa.int32()),
            ("message", pa.string()),
            ("duration_ms", pa.float64()),
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
        Light curves, one row per state.
    ties : mapping of str to (DataFrame, columns)
        Results of other units, one row per state, by the entry's name.
    unit : Unit, optional
        Its `inputs` are part of the hash.

    Returns
    -------
    DataFrame
        `states` with ``tie_<name>`` (a struct; null where there is no result) and ``input_hash``.
    """
    from pyspark.sql import functions as f

    rows = states
    for name, (results, columns) in sorted(ties.items()):
        fields = ["status", *(c.name for c in columns)]
        rows = rows.join(
            results.select("state_id", f.struct(*fields).alias(f"tie_{name}")), "state_id", "left"
        )
    hashed = f.hex(f.xxhash64(*(f"tie_{name}" for name in sorted(ties)))) if ties else f.lit("")
    if unit is not None and reads_inputs(unit):
        hashed = f.concat(hashed, _inputs_column(unit, rows))
    return rows.withColumn("input_hash", hashed)


def reads_inputs(unit: Unit) -> bool:
    """Say whether a unit tells what it reads beside the state, object by object."""
    return type(unit).inputs is not Unit.inputs


def _inputs_column(unit: Unit, rows: DataFrame) -> SparkColumn:
    """Return `Unit.inputs` of light curves as a column."""
    from pyspark.sql.pandas.functions import arrow_udf

    from ampel_spark.t2.registry import packed

    data, fields = packed(unit), tuple(dict.fromkeys(("jd", *unit.input_fields)))

    def told(*points: pa.Array) -> pa.Array:
        n = len(points[0])
        names = [f"lc_{name}" for name in fields]
        none = pa.nulls(n, pa.string())
        columns = [none, pa.array(np.zeros(n, np.int64)), none, *points]
        batch = pa.RecordBatch.from_arrays(columns, names=["state_id", "stock", "name", *names])
        return pa.array(_unpacked(data).inputs(batch_of(batch)), pa.string())

    # Annotations are strings in this module, and Spark looks for the types themselves.
    told.__annotations__ = {"points": pa.Array, "return": pa.Array}
    column: SparkColumn = arrow_udf(told, "string")(*(rows[f"lc_{name}"] for name in fields))  # type: ignore[call-overload]
    return column


def stale(rows: DataFrame, present: DataFrame, trace_id: str) -> DataFrame:
    """Return those of `rows` (from `wanted`) that have no result under their key.

    A result that is an exception does not count: it is tried again.
    """
    from pyspark.sql import functions as f

    there = present.where((f.col("trace_id") == trace_id) & (f.col("status") != EXCEPTION))
    return rows.join(
        there.select("state_id", "input_hash"), ["state_id", "input_hash"], "left_anti"
    )


def compute(rows: DataFrame, unit: Unit, trace_id: str, count: int) -> DataFrame:
    """Run a unit on the rows of `stale`.

    Parameters
    ----------
    rows : DataFrame
    unit : Unit
        Travels to the workers, the user's own modules with it.
    trace_id : str
    count : int
        Number of rows, to choose the number of tasks; no result depends on it.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    from ampel_spark.t2.registry import packed

    schema = result_schema(unit.output_columns())
    cores = rows.sparkSession.sparkContext.defaultParallelism
    tasks = max(1, min(math.ceil(count / STATES_PER_TASK), max(4 * cores, count // 2000)))
    ties = [c for c in rows.columns if c.startswith("tie_")]
    light_curve = [c for c in rows.columns if c.startswith("lc_")]
    small = rows.select("state_id", "stock", "name", "input_hash", *light_curve, *ties)
    if reads_inputs(unit):
        # what reads the same is computed together, where it is then read once
        spread = small.repartitionByRange(tasks, "input_hash", "state_id")
    else:
        spread = small.repartition(tasks, "state_id")
    return spread.mapInArrow(
        functools.partial(_task, packed(unit), trace_id), from_arrow_schema(schema)
    )


def _task(
    unit: bytes, trace_id: str, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    built = _unpacked(unit)
    for batch in batches:
        yield compute_batch(built, batch, trace_id)


@functools.lru_cache(maxsize=32)
def _unpacked(unit: bytes) -> Unit:
    # Once per worker process: models and catalogues stay loaded between tasks.
    loaded: Unit = pickle.loads(unit)
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
    columns = unit.output_columns()
    curves = _with_ties(batch_of(batch), batch)
    n = len(curves)
    started = time.perf_counter()
    at_once = unit.process_batch(curves) if n else None
    if at_once is not None:
        each = (time.perf_counter() - started) * 1e3 / n
        values = {c.name: at_once.get(c.name, [None] * n) for c in columns}
        status = at_once.get("status", np.zeros(n, np.int32))
        message = at_once.get("message", [None] * n)
        duration = np.full(n, each)
    else:
        rows = [_one(unit, columns, curve) for curve in curves]
        values = {c.name: [row[3].get(c.name) for row in rows] for c in columns}
        status = [row[0] for row in rows]
        message = [row[1] for row in rows]
        duration = np.array([row[2] for row in rows], float)
    schema = result_schema(columns)
    head = {
        "state_id": batch.column("state_id"),
        "stock": batch.column("stock"),
        "name": batch.column("name"),
        "trace_id": pa.array([trace_id] * n, pa.string()),
        "input_hash": batch.column("input_hash"),
        "status": pa.array(status, pa.int32()),
        "message": pa.array(message, pa.string()),
        "duration_ms": pa.array(duration, pa.float64()),
    }
    arrays = [head[f.name] if f.name in head else _column(values[f.name], f.type) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _one(
    unit: Unit, columns: Sequence[Column], curve: Any
) -> tuple[int, str | None, float, Mapping[str, Any]]:
    started = time.perf_counter()
    status, message, result = OK, None, {}
    missing = [name for name in unit.needs() if curve.results.get(name) is None]
    try:
        if missing:
            raise Refusal(f"no result of {', '.join(missing)}", MISSING_DEPENDENCY)
        result = _checked(unit.process(curve), columns)
        status = int(result.pop("status", OK))
        message = result.pop("message", None)
    except Refusal as refusal:
        status, message = refusal.status, str(refusal)
    except Exception as error:  # one object's failure is one row; the stage goes on
        status, message = EXCEPTION, f"{type(error).__name__}: {error}"[:1000]
    return status, message, (time.perf_counter() - started) * 1e3, result


def _checked(result: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """Hold a unit to its declared columns and types, so that one odd value is its own row."""
    types = {c.name: c.type for c in columns}
    unknown = set(result) - set(types) - {"status", "message"}
    if unknown:
        raise ValueError(
            f"process returned {', '.join(sorted(unknown))}, "
            f"not among the unit's columns ({', '.join(types)})"
        )
    checked: dict[str, Any] = {}
    for name, value in result.items():
        if name in types:
            try:
                checked[name] = _column([value], arrow_type(types[name]))[0].as_py()
            except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError) as error:
                raise ValueError(f"column {name} ({types[name]}): {value!r}: {error}") from None
        else:
            checked[name] = value
    return checked


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.cast(kind)
    if isinstance(values, np.ndarray) and values.dtype != object:
        return pa.array(values, from_pandas=True).cast(kind)
    plain = [v.tolist() if isinstance(v, np.ndarray | np.generic) else v for v in values]
    if pa.types.is_floating(kind):
        plain = [None if isinstance(v, float) and math.isnan(v) else v for v in plain]
    return pa.array(plain, kind)


def _with_ties(curves: LightCurveBatch, batch: pa.RecordBatch) -> LightCurveBatch:
    results: dict[str, Any] = {}
    for column in batch.schema.names:
        if column.startswith("tie_"):
            results[column[4:]] = np.array(batch.column(column).to_pylist(), dtype=object)
    return LightCurveBatch(
        curves.state_id, curves.stock, curves.name, curves.offsets, curves.points, results
    )
