"""Shifts of the numbers that units gave, from one run to another."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ampel_spark.errors import ConfigError
from ampel_spark.expressions import Expression, parse
from ampel_spark.job.comparison.candidates import Both
from ampel_spark.job.comparison.changes import ShiftColumn
from ampel_spark.job.comparison.expressions import SelectionRule, StateTable, units_in
from ampel_spark.job.comparison.shifts import changed_minimum, shift_of
from ampel_spark.job.comparison.sides import Side, state_rows
from ampel_spark.lake.reading import open_table, table_names

__all__ = ["default_columns", "shifts_of"]

Array = npt.NDArray[Any]

_FIT, _FITTED = "salt_fit", ("t0", "x1", "c", "chisq")


def default_columns(both: Both, rules: Sequence[Mapping[str, SelectionRule]]) -> list[Expression]:
    """Return what shifts are shown of by default: real columns of selections, and of SALT fits."""
    shown = [e.name for mine in rules for rule in mine.values() for e in rule.columns.values()]
    fits = [
        f"{name}.{column}"
        for name, entry in both.b.run.units.items()
        if entry["unit"] == _FIT
        for column in _FITTED
    ]
    found = [
        name
        for name in dict.fromkeys([*fits, *(n for n in shown if n)])
        if all(types.get(name) == "double" for types in both.types) and not name.endswith("_err")
    ]
    return [column for column in map(parse, found) if units_in(column)]


def shifts_of(
    both: Both, compared: pd.DataFrame, columns: Sequence[Expression], *, chosen: bool
) -> tuple[list[ShiftColumn], pd.DataFrame]:
    """Return the shifts of columns, and the objects that changed minimum.

    Results count where all their units say status 0 in both runs.

    Parameters
    ----------
    both : Both
    compared : DataFrame
        Pairs of states: ``stock, state_a, state_b``.
    columns : sequence of Expression
    chosen : bool
        The user named them: a column that is no number is an error then.

    Raises
    ------
    ConfigError
        For a column that a run does not have, or that is no number.
    """
    tables = both.tables(compared["state_a"].to_numpy(), compared["state_b"].to_numpy())
    for table in tables:
        table.load(*columns)
        for column in columns:
            if chosen and column.check(table.types) != "number":
                raise ConfigError(f"--columns: {column.text!r} is no number")
    values, errors = _values(tables, columns)
    hops = _hops(values, errors, columns)
    anywhere = np.logical_or.reduce([np.zeros(len(compared), bool), *hops.values()])
    found = []
    for column in columns:
        before, after = values[column.text]
        summary = shift_of(before, after, errors.get(column.text))
        known = np.isfinite(after - before)
        found.append(
            ShiftColumn(
                column=column.text,
                unit=_unit(both, column),
                summary=summary,
                name=_name(both.b, compared, summary.at if summary.changed else None),
                hopped=int(hops[column.text].sum()) if column.text in hops else None,
                before=before[known],
                after=after[known],
                hops=_same_unit(column, hops, len(compared))[known],
            )
        )
    return found, _hoppers(both.b, compared, anywhere, values)


def _values(
    tables: tuple[StateTable, StateTable], columns: Sequence[Expression]
) -> tuple[dict[str, tuple[Array, Array]], dict[str, Array]]:
    """Return columns before and after, and errors before; NaN where a result does not count."""
    values: dict[str, tuple[Array, Array]] = {}
    errors: dict[str, Array] = {}
    good: dict[str, Array] = {}
    for column in columns:
        usable = np.ones(len(tables[0].states), bool)
        for unit in units_in(column):
            if unit not in good:
                good[unit] = (tables[0].status(unit) == 0) & (tables[1].status(unit) == 0)
            usable &= good[unit]
        before, after = (np.where(usable, t.numbers(column), np.nan) for t in tables)
        values[column.text] = (before, after)
        name = f"{column.name}_err"
        if column.name is not None and name in tables[0].types:
            errors[column.text] = np.where(usable, tables[0].numbers(parse(name)), np.nan)
    return values, errors


def _hops(
    values: Mapping[str, tuple[Array, Array]],
    errors: Mapping[str, Array],
    columns: Sequence[Expression],
) -> dict[str, Array]:
    """Return, for each column with an error, which objects hopped in it."""
    return {
        c.text: changed_minimum(
            {c.text: values[c.text][1] - values[c.text][0]}, {c.text: errors[c.text]}
        )
        for c in columns
        if c.text in errors
    }


def _same_unit(column: Expression, hops: Mapping[str, Array], length: int) -> Array:
    """Return which objects hopped in any column of the unit that a column is of."""
    mine = units_in(column)
    parts = [hop for text, hop in hops.items() if units_in(parse(text)) == mine]
    found: Array = np.logical_or.reduce([np.zeros(length, bool), *parts])
    return found


def _hoppers(
    side: Side, compared: pd.DataFrame, rows: Array, values: Mapping[str, tuple[Array, Array]]
) -> pd.DataFrame:
    at = np.flatnonzero(rows)
    states = compared["state_b"].to_numpy()[at]
    names = state_rows(side, states, ["name"])["name"].to_pylist() if len(at) else []
    frame = pd.DataFrame({"name": names, "stock": compared["stock"].to_numpy()[at]})
    for text, (before, after) in values.items():
        if (before[at] != after[at]).any() and np.isfinite(after[at]).any():
            frame[f"{text} a"], frame[f"{text} b"] = before[at], after[at]
    return frame


def _name(side: Side, compared: pd.DataFrame, at: int | None) -> str:
    if at is None:
        return ""
    states = compared["state_b"].to_numpy()[[at]]
    return str(state_rows(side, states, ["name"])["name"][0])


def _unit(both: Both, column: Expression) -> str:
    """Return the unit of measure that a column's comment ends with, in brackets."""
    if column.name is None or "." not in column.name:
        return ""
    unit, _, name = column.name.partition(".")
    for side in (both.b, both.a):
        if f"t2_{unit}" not in table_names(side.lake):
            continue
        for field in open_table(side.lake, f"t2_{unit}").schema().fields:
            if field.name == name:
                found = re.search(r"\[([^\]]*)\]$", str((field.metadata or {}).get("comment", "")))
                return found[1] if found else ""
    return ""
