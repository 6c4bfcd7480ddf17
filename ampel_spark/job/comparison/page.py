"""The page of a comparison: one HTML file, in the style of the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from ampel_spark.job.comparison.changes import Comparison, SelectionChange, ShiftColumn
from ampel_spark.job.comparison.shift_plots import shift_plot
from ampel_spark.t3.cells import Cell, Head
from ampel_spark.t3.figures import for_page
from ampel_spark.t3.numbers import aligned, count, number
from ampel_spark.t3.pages import page, write_page

__all__ = ["render_difference", "write_difference"]

#: Rows of a table that the page shows; counts are of all.
_ROWS = 300
_REASONS = 25
#: How columns of a table of changes are called on the page.
_HEADS = {
    "name": Head("name", numeric=False),
    "rank_a": Head("rank", "before", "rank before"),
    "rank_b": Head("rank", "after", "rank after"),
    "reason": Head("reason", numeric=False),
    "what": Head("what", meaning="cut, condition or result that decided", numeric=False),
    "value_a": Head("value", "before", "what the object had before"),
    "value_b": Head("value", "after", "what the object has after"),
    "threshold": Head("threshold", meaning="what it was held against"),
    "alert_id": Head("alert", meaning="alert that the cut rejected"),
    "cause": Head("because", meaning="what changed in the state or results", numeric=False),
}


def write_difference(path: Path, comparison: Comparison) -> None:
    """Write the page of a comparison to `path`, in one step."""
    write_page(path, render_difference(comparison))


def render_difference(comparison: Comparison) -> str:
    """Return the page as HTML; the same comparison gives the same text."""
    moved = [s for s in comparison.shifts if s.summary.changed]
    reuse = [
        {
            "run": r.run.upper(),
            "unit": r.unit,
            "wanted": r.wanted,
            "computed": r.computed,
            "reused": r.reused,
            "sources": r.sources,
        }
        for r in comparison.reuse
    ]
    view = {
        "a": comparison.a,
        "b": comparison.b,
        "causes": _plain(comparison.causes.head(_REASONS)),
        "differences": comparison.differences,
        "equal": [s.column for s in comparison.shifts if not s.summary.changed and s.summary.n],
        "facts": _facts(comparison),
        "headline": _headline(comparison),
        "hoppers": _hoppers(comparison),
        "n_hoppers": len(comparison.hoppers),
        "notes": comparison.notes,
        "plots": [_plot(i, s) for i, s in enumerate(moved)],
        "reuse": reuse,
        "runs": _runs(comparison),
        "selections": [_selection(comparison, s) for s in comparison.selections],
        "shifted": comparison.shifted,
        "shifts": [_shift(s) for s in comparison.shifts],
        "states": _plain(comparison.states),
        "statuses": _plain(comparison.statuses),
    }
    return page("difference.html", view)


def _headline(comparison: Comparison) -> str:
    parts = [
        f"{count(n)} {what}"
        for what in ("lost", "gained", "moved")
        if (n := sum(getattr(s, what) for s in comparison.selections))
    ]
    if parts:
        return " · ".join(parts)
    shifted = any(s.summary.changed for s in comparison.shifts)
    return "The same candidates, other numbers" if shifted else "The same candidates"


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    states, reuse = comparison.states, [r for r in comparison.reuse if r.run == "b"]
    facts = [
        ("candidates before", count(sum(s.before for s in comparison.selections))),
        ("after", count(sum(s.after for s in comparison.selections))),
    ]
    if len(states):
        facts.append(("states equal", count(int(states["same"].sum()))))
        facts.append(("changed", count(int(states["changed"].sum()))))
    if reuse:
        facts.append(("results reused", count(sum(r.reused for r in reuse))))
        facts.append(("computed", count(sum(r.computed for r in reuse))))
    return facts


def _runs(comparison: Comparison) -> list[tuple[str, str, str, bool]]:
    """Return what the page says of both runs: label, before, after, and whether it differs."""
    rows: list[tuple[str, str, str, bool]] = []
    for label, key in (
        ("run", "run_id"),
        ("job", "job"),
        ("status", "status"),
        ("calibration", "calibration"),
        ("rerun of", "parent_run_id"),
        ("job hash", "job_hash"),
        ("git commit", "git_commit"),
    ):
        values = [str(getattr(run, key) or "") for run in (comparison.a, comparison.b)]
        if key in ("job_hash", "git_commit"):
            values = [v[:12] + ("+" if v.endswith("+") else "") for v in values]
        differs = key != "run_id" and values[0] != values[1]
        rows.append((label, values[0], values[1], differs))
    times = [f"{run.started:%Y-%m-%d %H:%M:%S}" for run in (comparison.a, comparison.b)]
    rows.insert(2, ("started, UTC", times[0], times[1], False))
    lakes = comparison.lake_a, comparison.lake_b
    rows.append(("lake", *lakes, lakes[0] != lakes[1]))
    return [row for row in rows if row[1] or row[2]]


def _selection(comparison: Comparison, selection: SelectionChange) -> dict[str, Any]:
    reasons = comparison.reasons()
    mine = reasons[reasons["selection"] == selection.selection]
    return {
        "about": selection,
        "reasons": _plain(mine.head(_REASONS)),
        "more_reasons": max(0, len(mine) - _REASONS),
        "tables": [
            {
                "change": change,
                "count": len(rows),
                "shown": min(len(rows), _ROWS),
                **_table(rows.head(_ROWS)),
            }
            for change, rows in comparison.of(selection.selection)
        ],
    }


def _table(rows: pd.DataFrame) -> dict[str, Any]:
    """Return head and cells of a table of changes, without columns that are empty."""
    heads, columns = [], []
    for name, head in _HEADS.items():
        values = rows[name].astype(object).where(rows[name].notna(), None).tolist()
        if all(value is None or value == "" for value in values):
            continue
        heads.append(head)
        texts = _texts(name, values) if head.numeric else [str(value or "") for value in values]
        columns.append(
            [
                Cell(text, "" if value is None else str(value), head.numeric)
                for text, value in zip(texts, values, strict=True)
            ]
        )
    return {"columns": heads, "rows": [list(row) for row in zip(*columns, strict=True)]}


def _texts(name: str, values: list[Any]) -> list[str]:
    """Return numbers as text: values of one quantity aligned, of several each for itself."""
    if name in ("rank_a", "rank_b", "alert_id"):
        return ["" if value is None else str(value) for value in values]
    return ["" if value is None else _one(value) for value in values]


def _one(value: float) -> str:
    """Return a number; a status, a count or a truth whole."""
    whole = float(value).is_integer() and abs(value) < 1e6
    return number(int(value) if whole else value)


def _shift(column: ShiftColumn) -> dict[str, Any]:
    s = column.summary
    texts = [number(v, 3) for v in (s.median, s.robust_sd, s.largest)]
    return {
        "column": column.column,
        "unit": column.unit,
        "n": s.n,
        "changed": s.changed,
        "median": texts[0],
        "robust_sd": texts[1],
        "largest": texts[2],
        "name": column.name,
        "beyond": s.beyond,
        "hopped": column.hopped,
    }


def _plot(i: int, column: ShiftColumn) -> dict[str, Any]:
    s = column.summary
    svg = shift_plot(column.column, column.before, column.after, column.hops, unit=column.unit)
    unit = f" {column.unit}" if column.unit else ""
    summary = (
        f"Shift of {column.column} in {count(s.n)} objects: median {number(s.median, 3)}{unit},"
        f" robust width {number(s.robust_sd, 3)}{unit}"
    )
    return {"plot": Markup(for_page(svg, f"d{i}")), "summary": summary, "name": column.column}


def _hoppers(comparison: Comparison) -> dict[str, Any]:
    rows = comparison.hoppers.head(_ROWS)
    names = [name for name in rows if name not in ("name", "stock")]
    heads = [Head("name", numeric=False)]
    columns = [[Cell(str(v), str(v), False) for v in rows["name"]]]
    for name in names:
        column, _, side = str(name).rpartition(" ")
        heads.append(Head(column, {"a": "before", "b": "after"}[side]))
        values = rows[name].tolist()
        columns.append(
            [
                Cell(text, "" if not np.isfinite(v) else str(v))
                for text, v in zip(aligned(values), values, strict=True)
            ]
        )
    return {"columns": heads, "rows": [list(row) for row in zip(*columns, strict=True)]}


def _plain(frame: pd.DataFrame) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = frame.to_dict("records")
    return rows
