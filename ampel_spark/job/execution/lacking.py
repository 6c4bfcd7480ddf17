"""How many alerts and points have no value in columns of the survey's own that a job names.

Rows that were read before the survey's file declared a column have none, and nothing fills them in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampel_spark.t1.shown import alert_columns
from ampel_spark.t2 import runner

if TYPE_CHECKING:
    from ampel_spark.job.execution.tiers import Context

__all__ = ["counts_of", "lacking"]


def lacking(context: Context) -> Iterator[str]:
    """Yield a line for each column of the survey's own that a job names and some rows lack."""
    job = context.job
    label, own = job.survey.label, job.survey.columns
    cuts = [c for s in job.filters for c in (*s.filter.cuts(), *sum(s.filter.groups(), ()))]
    named = {name.removeprefix(f"{label}.") for cut in cuts for name in cut.quantities()}
    rules = [selection.rule for selection in job.selections]
    named |= {*alert_columns(each for rule in rules for each in rule.expressions())}
    for name in sorted(named & {*own.alerts}):
        rows, nulls, unread = counts_of(_paths(context, "alerts"), label, name)
        if nulls:
            yield f"{name}: {nulls} of {rows} alerts have none{_unread(unread)}"
    read = {name for step in job.units for name in runner.own_fields(step.unit)}
    for name in sorted(read & {*own.points}):
        # Limits lack most of what detections have.
        rows, _, unread = counts_of(_paths(context, "datapoints"), label, name, nulls=False)
        if unread:
            yield f"{name} of points: {unread} of {rows} rows have none{_unread(unread)}"


def _unread(count: int) -> str:
    if not count:
        return ""
    return (
        f", {count} of them read before the survey's file declared it: ingest their files into a"
        " new lake to have it"
    )


def _paths(context: Context, table: str) -> list[str]:
    return [path for path, _ in context.files(table)]


def counts_of(
    paths: Iterable[str], survey: str, name: str, *, nulls: bool = True
) -> tuple[int, int, int]:
    """Return how many rows of a survey there are, lack a value, and lack the column altogether.

    Parameters
    ----------
    paths : iterable of str
        Parquet files of a table of the archive.
    survey : str
        What the tables call the survey.
    name : str
        A column that it declares.
    nulls : bool, optional
        Count what lacks a value, for which the column is read; by default True.
    """
    rows = lacks = unread = 0
    for path in paths:
        file = pq.ParquetFile(path)
        leaf = f"{survey}.{name}"
        there = leaf in {file.schema.column(i).path for i in range(len(file.schema))}
        for batch in file.iter_batches(columns=["survey", leaf] if there and nulls else ["survey"]):
            mine = batch.filter(pc.equal(batch["survey"], survey))
            rows += len(mine)
            if not there:
                unread += len(mine)
            elif nulls:
                lacks += pc.struct_field(mine[survey], name).null_count
    return rows, lacks + unread, unread
