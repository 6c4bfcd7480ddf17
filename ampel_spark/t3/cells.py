"""Tables of a report: their columns, and each cell as text and as its exact value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from ampel_spark.t3.content import Result, Selected
from ampel_spark.t3.numbers import aligned, degrees, number, with_error

__all__ = ["Cell", "Head", "Value", "candidate_table", "result_rows"]

#: Columns of candidates that a report does not show.
_HIDDEN = frozenset({"channel", "selection", "stock", "state_id", "run_id", "rank", "name"})


@dataclass(frozen=True)
class Head:
    """The head of a column."""

    label: str
    unit: str = ""
    meaning: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell: the text to show, the value to sort by (empty for none), a link, and a doubt."""

    text: str
    value: str
    numeric: bool = True
    link: str = ""
    doubt: str = ""


@dataclass(frozen=True)
class Value:
    """A number of one candidate."""

    label: str
    text: str
    exact: str
    unit: str
    meaning: str
    numeric: bool


def candidate_table(
    selected: Selected, links: Mapping[str, str]
) -> tuple[list[Head], list[list[Cell]]]:
    """Return heads and rows of a table of candidates: rank, name, and the selection's columns.

    A column ``x_err`` beside a column ``x`` is shown together with it, as ``x ± x_err``.

    Parameters
    ----------
    selected : Selected
        A selection with its candidates.
    links : mapping of str to str
        The anchor of each candidate with a section of its own, by name.
    """
    table = selected.candidates
    heads = [Head("rank"), Head("name", numeric=False)]
    names = [str(name) for name in table.get("name", ())]
    columns = [
        [Cell(number(rank), str(rank)) for rank in table.get("rank", ())],
        [
            Cell(name, name, False, links.get(name, ""), selected.doubts.get(name, ""))
            for name in names
        ],
    ]
    for label in table.columns:
        if label in _HIDDEN or (_is_error(label, table.columns) and _counts(table[label[:-4]])):
            continue
        numeric = _counts(table[label])
        unit, meaning = selected.units.get(label, ""), selected.descriptions.get(label, "")
        heads.append(Head(label, unit, meaning, numeric))
        values = table[label].tolist()
        errors = table[f"{label}_err"].tolist() if numeric and f"{label}_err" in table else None
        texts = _texts(values, errors, numeric, unit)
        columns.append([Cell(t, _exact(v), numeric) for t, v in zip(texts, values, strict=True)])
    return heads, [list(row) for row in zip(*columns, strict=True)]


def _texts(
    values: Sequence[Any], errors: Sequence[Any] | None, numeric: bool, unit: str
) -> list[str]:
    """Return a column as text: numbers with their errors, as degrees, or aligned."""
    if errors is not None:
        return [with_error(value, error) for value, error in zip(values, errors, strict=True)]
    if numeric and unit == "deg":
        return [degrees(value) for value in values]
    return aligned(values) if numeric else [number(value) for value in values]


def result_rows(result: Result) -> list[Value]:
    """Return all values of one unit's result for one candidate, each with its error."""
    about = {column.name: column for column in result.columns}
    order = [name for name in about if name in result.values]
    order += [name for name in result.values if name not in about]
    rows = []
    for name in order:
        if _is_error(name, result.values) and not isinstance(result.values[name[:-4]], str | bool):
            continue
        value, error = result.values[name], result.values.get(f"{name}_err")
        unit = about[name].unit if name in about else ""
        meaning = about[name].description if name in about else ""
        text = degrees(value) if unit == "deg" and error is None else with_error(value, error)
        rows.append(Value(name, text, _exact(value), unit, meaning, isinstance(value, Real)))
    return rows


def _counts(column: pd.Series) -> bool:
    """Return whether a column holds numbers, which can have errors."""
    return is_numeric_dtype(column) and not is_bool_dtype(column)


def _is_error(name: Any, names: Sequence[Any] | Mapping[str, Any] | pd.Index) -> bool:
    return str(name).endswith("_err") and str(name)[:-4] in names


def _exact(value: Any) -> str:
    """Return a value as text to sort by: a number with all digits, or '' for no value."""
    if isinstance(value, list | tuple | np.ndarray):
        return number(value)
    if value is None or pd.isna(value):
        return ""
    return str(value.item() if isinstance(value, np.generic) else value)
