"""T3 of a run: its candidates, selected and ranked in the driver from the columns it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.lake.parts import arrow_schema, arrow_type
from ampel_spark.lake.reading import dataset
from ampel_spark.lake.tables import TABLES, Table, TableColumn
from ampel_spark.t1.shown import ALERT, alert_columns, newest_accepted
from ampel_spark.t3.selection import Selection, losses, select

if TYPE_CHECKING:
    from ampel_spark.job.configuration.model import SelectionStep
    from ampel_spark.job.execution.assembling import RunStates
    from ampel_spark.job.execution.tiers import Context, Results

__all__ = ["candidates", "candidates_of", "candidates_table", "columns_read", "with_alerts"]

#: Columns of a state that expressions may name, and those of every candidate.
_STATE = ("channel", "stock", "state_id", "name", "n_detections", "n_upper_limits", "jd_first",
          "jd_last")  # fmt: skip


def candidates(
    context: Context, states: RunStates, results: Results, accepted: pa.Table
) -> dict[str, pa.Table]:
    """T3: select, rank and write the candidates; return them by the name of the selection."""
    mine = with_alerts(context, states.rows, accepted)
    found: dict[str, pa.Table] = {}
    context.counts.t3 = {}
    for selection in context.job.selections:
        read = columns_read(selection.rule)
        units = {name: results[name].table(["state_id", *read[name]]) for name in read}
        rows, context.counts.t3[selection.name] = candidates_of(selection, mine, units)
        context.commit(*candidates_table(selection, rows, context.run_id))
        found[selection.name] = rows
        context.out(f"T3: {selection.name}: {len(rows)} candidates of channel {selection.channel}")
    return found


def with_alerts(context: Context, states: pa.Table, accepted: pa.Table) -> pa.Table:
    """Return states with the columns of their alerts that selections name, as ``alert.NAME``."""
    rules = [selection.rule for selection in context.job.selections]
    names = alert_columns(each for rule in rules for each in rule.expressions())
    if not names:
        return states
    survey, alerts = (
        context.job.survey,
        dataset(context.lake.root, "alerts", context.versions.alerts),
    )
    schema = alerts.schema
    own = schema.field(survey.label).type if survey.label in schema.names else pa.struct([])
    there = {name: pc.field(survey.label, name) for name in (f.name for f in own)}
    there = {name: pc.field(name) for name in schema.names} | there
    shown = pa.array(newest_accepted(states, accepted))
    mine = (pc.field("survey") == survey.label) & pc.field("alert_id").isin(pc.unique(shown))
    columns = {f"{ALERT}.{name}": there[name] for name in names if name in there}
    rows = alerts.to_table(columns={"_id": pc.field("alert_id"), **columns}, filter=mine)
    place = pc.index_in(shown, value_set=rows["_id"].combine_chunks())
    for name in names:
        label = f"{ALERT}.{name}"
        if name in there:
            states = states.append_column(label, rows[label].take(place))
        else:  # the survey declares it, and the lake has it not yet
            kind = arrow_type(survey.columns.alerts[name].type)
            states = states.append_column(label, pa.nulls(len(states), kind))
    return states


def columns_read(rule: Selection) -> dict[str, list[str]]:
    """Return the columns of units that a selection reads, by unit."""
    read: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for each in rule.expressions() for name in each.names):
        unit, dot, column = name.partition(".")
        if dot and unit != ALERT:
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
        The states that channels want, of `with_alerts`.
    units : mapping of str to Arrow table
        The results of units: ``state_id`` and the columns of `columns_read`, a row each state.
    """
    names = [*_STATE, *(n for n in states.column_names if n.startswith(f"{ALERT}."))]
    wide = states.filter(pc.equal(states["channel"], selection.channel)).select(names)
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
