"""T3 of a run: its candidates, selected and ranked in the driver from the columns it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.tables import TABLES, Table, TableColumn
from ampel_spark.t3.selection import Selection, losses, select

if TYPE_CHECKING:
    from ampel_spark.job.configuration.model import SelectionStep
    from ampel_spark.job.execution.assembling import States
    from ampel_spark.job.execution.tiers import Context, Results

__all__ = ["candidates", "candidates_of", "candidates_table", "columns_read"]

#: Columns of a state that expressions may name, and those of every candidate.
_STATE = ("channel", "stock", "state_id", "name", "n_detections", "n_upper_limits", "jd_first",
          "jd_last")  # fmt: skip


def candidates(context: Context, states: States, results: Results) -> dict[str, pa.Table]:
    """T3: select, rank and write the candidates; return them by the name of the selection."""
    found: dict[str, pa.Table] = {}
    context.counts.t3 = {}
    for selection in context.job.selections:
        read = columns_read(selection.rule)
        units = {name: results[name].table(["state_id", *read[name]]) for name in read}
        rows, context.counts.t3[selection.name] = candidates_of(selection, states.rows, units)
        table, mine = candidates_table(selection, rows, context.run_id)
        context.commit(table, mine)
        found[selection.name] = rows
        context.out(f"T3: {selection.name}: {len(rows)} candidates of channel {selection.channel}")
    return found


def columns_read(rule: Selection) -> dict[str, list[str]]:
    """Return the columns of units that a selection reads, by unit."""
    read: dict[str, list[str]] = {}
    expressions = [rule.condition, *([rule.rank] if rule.rank else []), *rule.columns.values()]
    for name in dict.fromkeys(name for each in expressions for name in each.names):
        unit, dot, column = name.partition(".")
        if dot:
            read.setdefault(unit, []).append(column)
    return read


def candidates_of(
    selection: SelectionStep, states: pa.Table, units: Mapping[str, pa.Table]
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the candidates of a selection, and the counts that a run's record has of it.

    Parameters
    ----------
    selection : SelectionStep
    states : Arrow table
        The states that channels want.
    units : mapping of str to Arrow table
        The results of units: ``state_id`` and the columns of `columns_read`, a row each state.
    """
    wide = states.filter(pc.equal(states["channel"], selection.channel)).select(list(_STATE))
    for name, results in units.items():
        ids = results["state_id"].combine_chunks()
        place = pc.index_in(wide["state_id"], value_set=ids)
        for column in results.column_names:
            if column != "state_id":
                wide = wide.append_column(f"{name}.{column}", results[column].take(place))
    rows = select(wide, selection.rule)
    lost = [asdict(each) for each in losses(wide, selection.rule)]
    return rows, {
        "channel": selection.channel,
        "losses": lost[0] if lost else None,
        "candidates": len(rows),
    }


def candidates_table(
    selection: SelectionStep, rows: pa.Table, run_id: str
) -> tuple[Table, pa.Table]:
    """Return the table of candidates with a selection's columns, and the rows of a run in it."""
    base = TABLES["candidates"]
    extra = list(_extra(selection, rows, base.names))
    table = Table(base.name, base.comment, (*base.columns, *extra), base.key)
    rows = rows.append_column("run_id", pa.repeat(run_id, len(rows)))
    rows = rows.append_column("selection", pa.repeat(selection.name, len(rows)))
    return table, rows.select(table.names).cast(arrow_schema(table))


def _extra(selection: SelectionStep, rows: pa.Table, known: Sequence[str]) -> Iterable[TableColumn]:
    from pyspark.sql.pandas.types import from_arrow_type

    for field in rows.schema:
        if field.name not in known and field.name not in ("selection", "run_id"):
            expression = selection.columns.get(field.name)
            text = getattr(expression, "text", expression)
            kind = from_arrow_type(field.type).simpleString()
            yield TableColumn(
                field.name, kind, f"{text}, as selection {selection.name} asks for it"
            )
