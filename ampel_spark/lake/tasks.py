"""Work done in tasks: by Spark's Python workers, or in the driver where it is not worth a job."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["TOLD", "ahead", "run_tasks", "tell"]

#: What tasks tell the driver: a line of JSON.
TOLD = pa.schema([("told", pa.string())])

Work = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


_T = TypeVar("_T")


def ahead(items: Iterable[_T]) -> Iterator[_T]:
    """Yield items, the next of which is made in a thread while one is worked on.

    Most of what tasks do leaves the interpreter to others, so that a file takes more than one core
    where there are idle ones. What making an item raises is raised in its place.
    """
    end: Any = object()
    source = iter(items)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield item


def tell(what: Any) -> pa.RecordBatch:
    """Return a batch that tells the driver something JSON can say."""
    return pa.RecordBatch.from_pylist([{"told": json.dumps(what)}], schema=TOLD)


def run_tasks(
    spark: SparkSession,
    work: Work,
    rows: Sequence[tuple[Any, ...]],
    columns: str,
    *,
    here: bool = False,
) -> list[Any]:
    """Do `work` on rows, those of a task together, and return what it told.

    Parameters
    ----------
    spark : SparkSession
    work : callable
        Takes Arrow batches of `rows`, gives batches of `TOLD`.
    rows : sequence of tuple
    columns : str
        Their names and SQL types; one is ``task int``, from 0.
    here : bool, optional
        Do it in this process: a job costs some tenths of a second, however little there is to do.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    if not rows:
        return []
    names = [column.split()[0] for column in columns.split(", ")]
    if here:
        batch = pa.RecordBatch.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
        return [json.loads(line["told"]) for told in work([batch]) for line in told.to_pylist()]
    tasks = 1 + max(row[names.index("task")] for row in rows)
    source = spark.createDataFrame(list(rows), columns).repartitionById(tasks, "task")
    told = source.mapInArrow(work, from_arrow_schema(TOLD)).collect()
    return [json.loads(line["told"]) for line in told]
