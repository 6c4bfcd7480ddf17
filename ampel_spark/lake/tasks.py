"""Tasks: work in Spark's Python workers, or in the driver where a Spark job would cost more.

`run_tasks` runs a function on rows and returns its reports. A task makes each report with `tell`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["TOLD", "Work", "ahead", "run_on_files", "run_tasks", "tell"]

#: The reports of tasks to the driver, each a line of JSON.
TOLD = pa.schema([("report", pa.string())])

#: Bytes of files that are no work for tasks: to read them here costs less than a job.
_HERE = 64 << 20

Work = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]
_T = TypeVar("_T")


def ahead(items: Iterable[_T]) -> Iterator[_T]:
    """Yield items, while a thread makes the next one.

    Most work of tasks releases the interpreter lock, so that a task can use a second core if one is
    idle. An exception in the thread is raised in place of its item.
    """
    end: Any = object()
    source = iter(items)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield item


def tell(content: Any) -> pa.RecordBatch:
    """Return the report of a task to the driver; its content is a value that JSON can hold."""
    return pa.RecordBatch.from_pylist([{"report": json.dumps(content)}], schema=TOLD)


def run_tasks(
    spark: SparkSession,
    work: Work,
    rows: Sequence[tuple[Any, ...]],
    columns: str,
    *,
    here: bool = False,
) -> list[Any]:
    """Run `work` on rows, those of one task together, and return its reports.

    Parameters
    ----------
    spark : SparkSession
        The session that runs the tasks.
    work : callable
        Takes Arrow batches of rows, and yields batches of `TOLD`.
    rows : sequence of tuple
        The values of each row.
    columns : str
        Names and SQL types of the values; one is ``task int``, from 0.
    here : bool, optional
        True: run in this process. A Spark job costs some tenths of a second, even for little work.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    if not rows:
        return []
    names = [column.split()[0] for column in columns.split(", ")]
    if here:
        batch = pa.RecordBatch.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
        reports = [row for made in work([batch]) for row in made.to_pylist()]
        return [json.loads(row["report"]) for row in reports]
    tasks = 1 + max(row[names.index("task")] for row in rows)
    source = spark.createDataFrame(list(rows), columns).repartitionById(tasks, "task")
    rows_made = source.mapInArrow(work, from_arrow_schema(TOLD)).collect()
    return [json.loads(row["report"]) for row in rows_made]


def run_on_files(spark: SparkSession, work: Work, files: Sequence[tuple[str, int]]) -> list[Any]:
    """Run `work` on files, shared out among tasks by their sizes, and return its reports.

    Parameters
    ----------
    spark : SparkSession
        The session that runs the tasks; where there is little to read, this process does it.
    work : callable
        Takes Arrow batches of ``task, path``, and yields batches of `TOLD`.
    files : sequence of (str, int)
        Paths, and sizes in bytes.
    """
    tasks = max(1, min(len(files), 3 * spark.sparkContext.defaultParallelism))
    loads, rows = [0] * tasks, []
    for path, size in sorted(files, key=lambda file: (-file[1], file[0])):
        task = loads.index(min(loads))
        loads[task] += size
        rows.append((task, path))
    return run_tasks(spark, work, rows, "task int, path string", here=sum(loads) <= _HERE)
