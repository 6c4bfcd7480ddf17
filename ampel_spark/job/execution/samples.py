"""Units of T3 of a run: what each gets of its selection, and what becomes of what it makes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.classes import with_line
from ampel_spark.errors import AmpelSparkError, UnitError
from ampel_spark.job.configuration.model import SampleStep
from ampel_spark.job.configuration.steps import OUTCOME, sample_types
from ampel_spark.job.execution.report import column_meanings, light_curves_of
from ampel_spark.job.execution.tiers import Computed, Context, Results
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.parts import arrow_schema, arrow_type
from ampel_spark.lake.reading import open_table
from ampel_spark.lake.runs import Run
from ampel_spark.lake.tables import TableColumn, sample_table
from ampel_spark.t3.content import Drawn, SampleOutput
from ampel_spark.t3.export import replace_file
from ampel_spark.t3.sample import Sample
from ampel_spark.t3.unit import File, Message, Output, Plot, Rows

if TYPE_CHECKING:
    from ampel_spark.lightcurve import LightCurve

__all__ = ["run_samples"]

#: What Arrow types are in a table of the lake.
_SCALARS: Mapping[str, str] = {
    "bool": "boolean", "int8": "int", "int16": "int", "int32": "int", "uint8": "int",
    "uint16": "int", "int64": "bigint", "uint32": "bigint", "halffloat": "double",
    "float": "double", "double": "double", "string": "string", "large_string": "string",
}  # fmt: skip
_OWN = ("row", "run_id")


@dataclass
class _Made:
    """What a unit has made so far."""

    plots: list[Drawn] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    tables: dict[str, int] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


def run_samples(
    context: Context, run: Run, found: Mapping[str, pa.Table], results: Results
) -> list[SampleOutput]:
    """Run the units of T3, each for itself: one that fails costs the others nothing.

    Parameters
    ----------
    context : Context
        Of the run, its staging still there.
    run : Run
        The record so far.
    found : mapping of str to Arrow table
        Candidates by selection.
    results : mapping
        Results of the units of T2, by the entry's name.
    """
    made = []
    for step in context.job.samples:
        if step.unit.outward and not context.reaches_out:
            context.out(f"T3: {step.name}: reaches outside, and is left out of a run again")
            continue
        started = time.monotonic()
        mine, failure = _Made(), ""
        try:
            sample = _sample(context, run, step, found[step.of], results)
            for output in step.unit.process(sample) or ():
                _take(context, run, step, output, mine)
        except Exception as error:  # a unit costs itself alone
            failure = str(error) if isinstance(error, AmpelSparkError) else with_line(error)
        context.counts.samples[step.name] = {
            "of": step.of,
            "plots": len(mine.plots),
            "files": len(mine.files),
            "rows": mine.tables,
            "messages": mine.messages,
            "failed": failure,
            "seconds": round(time.monotonic() - started, 3),
        }
        for text in mine.messages:
            context.out(f"T3: {step.name}: {text}")
        if failure:
            context.out(f"warning: T3: {step.name} failed: {failure}")
        made.append(
            SampleOutput(step.name, step.spec, step.of, mine.plots, mine.messages,
                         [str(path) for path in mine.files], mine.tables, failure)
        )  # fmt: skip
    return made


def _sample(
    context: Context, run: Run, step: SampleStep, candidates: pa.Table, computed: Results
) -> Sample:
    selection = next(s for s in context.job.selections if s.name == step.of)
    units, meanings = column_meanings(context.job, selection)
    states = candidates["state_id"].combine_chunks()
    held: dict[str, pa.Table] = {}

    def results(unit: str) -> pa.Table:
        if unit not in held:
            held[unit] = _aligned(computed[unit], states)
        return held[unit]

    def curves(wanted: Sequence[str]) -> Mapping[str, LightCurve]:
        return light_curves_of(context, wanted)

    types = sample_types(selection, context.job.units, context.job.survey)
    return Sample(step.of, selection.channel, candidates, types, units, meanings, run,
                  results, curves)  # fmt: skip


def _aligned(results: Computed, states: pa.Array) -> pa.Table:
    """Return the results of a unit on states, in their order; null where there is none."""
    names = [*OUTCOME, *(column.name for column in results.step.columns)]
    rows = results.table(["state_id", *names], pc.field("state_id").isin(states))
    place = pc.index_in(states, value_set=rows["state_id"].combine_chunks())
    return rows.select(names).take(place)


def _take(context: Context, run: Run, step: SampleStep, output: Output, made: _Made) -> None:
    """Keep what a unit makes: in the lake, in the exports, for the report."""
    exports = context.lake.root / "exports" / run.run_id
    if isinstance(output, Message):
        made.messages.append(" ".join(str(output.text).split()))
    elif isinstance(output, Plot):
        data = output.drawn()
        made.plots.append(Drawn(data, output.form, output.name, output.caption))
        name = File(f"{output.name}.{output.form}", data).checked_name()
        made.files.append(replace_file(exports / step.name / name, data))
    elif isinstance(output, File):
        made.files.append(replace_file(exports / step.name / output.checked_name(), output.data()))
    elif isinstance(output, Rows):
        name = f"t3_{step.name}" + (f"_{output.name}" if output.name else "")
        made.tables[name] = _keep(context, name, output)
    else:
        raise UnitError(
            f"{output!r} is neither a Plot, nor Rows, a File or a Message: process yields these"
        )


def _keep(context: Context, name: str, output: Rows) -> int:
    """Add rows to a table of the lake, and return how many there are."""
    rows = output.arrow()
    if taken := {*_OWN} & {c.lower() for c in rows.column_names}:
        raise UnitError(f"{name}: every table of a unit of t3 has {', '.join(taken)} of its own")
    columns = []
    for column in rows.schema:
        meaning = output.meanings.get(column.name, "")
        unit = output.units.get(column.name, "")
        comment = meaning + (f" [{unit}]" if unit else "")
        columns.append(TableColumn(column.name, _sql_type(name, column), comment.strip()))
    table = sample_table(name, columns)
    _check_types(context.lake, name, columns)
    rows = rows.append_column("row", pa.array(np.arange(1, len(rows) + 1), pa.int64()))
    rows = rows.append_column("run_id", pa.array([context.run_id] * len(rows), pa.string()))
    context.commit(table, rows.select([c.name for c in table.columns]).cast(arrow_schema(table)))
    return len(rows)


def _sql_type(name: str, column: pa.Field) -> str:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _SCALARS.get(str(kind.value_type))
        if inner is not None:
            return f"array<{inner}>"
    elif str(kind) in _SCALARS:
        return _SCALARS[str(kind)]
    raise UnitError(
        f"{name}: column {column.name!r} is of {kind}, which a table does not keep: give numbers,"
        " texts, truth values, or lists of these"
    )


def _check_types(lake: Lake, name: str, columns: Sequence[TableColumn]) -> None:
    """Refuse columns that the table has with other types."""
    if not lake.has(name):
        return
    there = {f.name.lower(): f.type for f in pa.schema(open_table(lake.root, name).schema())}
    for column in columns:
        known = there.get(column.name.lower())
        if known is not None and arrow_type(column.type) != known:
            raise UnitError(
                f"{name} has a column {column.name!r} of {known} from an earlier run, and this is"
                f" of {column.type}: give the column, or the entry, another name"
            )
