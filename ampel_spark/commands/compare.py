"""Commands on two runs: diff."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.commands.output import print_pairs, print_rows, to_json
from ampel_spark.interface.places import lake_of
from ampel_spark.store import place

if TYPE_CHECKING:
    import pandas as pd

    from ampel_spark.job.comparison.changes import Comparison

__all__ = ["diff"]

_REASONS = ["selection", "change", "objects", "reason", "what", "cause"]
_CHANGES = ["change", "name", "rank_a", "rank_b", "reason", "what", "value_a", "value_b",
            "threshold", "alert_id", "cause"]  # fmt: skip
#: What is shown of a run.
_RUN = ("run_id", "job", "status", "started", "calibration", "parent_run_id")


def diff(args: Namespace) -> int:
    """Compare two runs: candidates gained, lost and moved and why, shifts, what was reused."""
    from ampel_spark.job.comparison.compare import compare

    lake = lake_of(args.lake)
    other = place(args.lake_b).resolve() if args.lake_b else None
    found = compare(
        lake,
        args.run_a,
        args.run_b,
        lake_b=other,
        selection=args.selection,
        columns=_split(args.columns or ""),
    )
    page = None if args.no_page else _write(args.page, lake, found)
    if args.format == "json":
        print(to_json([_as_json(found) | {"page": page}]))
        return 0
    _show(found, args.limit)
    if page is not None:
        print(f"\npage: {page}")
    return 0


def _write(path: Path | None, lake: Path, found: Comparison) -> Path:
    from ampel_spark.job.comparison.page import write_difference

    name = f"diff-{found.a.run_id}-{found.b.run_id}.html"
    path = (path or lake / "reports" / name).expanduser().resolve()
    write_difference(path, found)
    return path


def _show(found: Comparison, limit: int) -> None:
    for letter, run in (("A", found.a), ("B", found.b)):
        print_pairs({f"run {letter}": run.run_id} | {k: getattr(run, k) for k in _RUN[1:]})
        print()
    for note in found.notes:
        print(f"mind: {note}")
    rows = [dataclasses.asdict(d) for d in found.differences]
    _section("what differs", rows, ["kind", "name", "before", "after"], "nothing differs")
    rows = [dataclasses.asdict(s) for s in found.selections]
    _section("candidates", rows, ["selection", "before", "after", "gained", "lost", "moved"])
    _section("reasons", _rows(found.reasons())[: 2 * limit], _REASONS)
    for selection in found.selections:
        _show_changes(found, selection.selection, limit)
    _section("states", _rows(found.states), [*found.states])
    _section("why states changed", _rows(found.causes)[:limit], ["states", "cause"])
    _section("statuses that changed", _rows(found.statuses)[:limit], [*found.statuses])
    rows = [_shift(s) for s in found.shifts]
    _section(f"shifts, B − A, of {found.shifted}", rows, [*rows[0]] if rows else [])
    _section("in another minimum", _rows(found.hoppers)[:limit], [*found.hoppers])
    rows = [dataclasses.asdict(r) | {"run": r.run.upper()} for r in found.reuse]
    _section("results", rows, ["run", "unit", "wanted", "computed", "reused", "sources"])


def _show_changes(found: Comparison, selection: str, limit: int) -> None:
    for change, mine in found.of(selection):
        rows = _rows(mine.head(limit))
        used = [c for c in _CHANGES[1:] if any(_there(row[c]) for row in rows)]
        _section(f"{change}: {selection}", rows, used)
        if len(mine) > limit:
            print(f"… and {len(mine) - limit} more (--limit)")


def _section(title: str, rows: list[dict[str, Any]], columns: list[str], empty: str = "") -> None:
    if rows or empty:
        print(f"\n{title}")
        print_rows(rows, columns, "table", empty=empty)


def _shift(column: Any) -> dict[str, Any]:
    summary = column.summary
    return {
        "column": column.column,
        "unit": column.unit,
        "objects": summary.n,
        "changed": summary.changed,
        "median": summary.median,
        "robust_sd": summary.robust_sd,
        "largest": summary.largest,
        "of": column.name,
        "beyond_1_sigma": summary.beyond,
        "another_minimum": column.hopped,
    }


def _as_json(found: Comparison) -> dict[str, Any]:
    return {
        "a": {key: getattr(found.a, key) for key in _RUN} | {"lake": found.lake_a},
        "b": {key: getattr(found.b, key) for key in _RUN} | {"lake": found.lake_b},
        "notes": list(found.notes),
        "differences": [dataclasses.asdict(d) for d in found.differences],
        "selections": [dataclasses.asdict(s) for s in found.selections],
        "reasons": _rows(found.reasons()),
        "changes": _rows(found.changes),
        "states": _rows(found.states),
        "causes": _rows(found.causes),
        "statuses": _rows(found.statuses),
        "shifted": found.shifted,
        "shifts": [_shift(s) for s in found.shifts],
        "minima": _rows(found.hoppers),
        "reuse": [dataclasses.asdict(r) for r in found.reuse],
    }


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table as plain rows, None where there is nothing."""
    import pandas as pd

    columns = {
        str(name): frame[name].astype(object).where(frame[name].notna(), None) for name in frame
    }
    rows: list[dict[str, Any]] = pd.DataFrame(columns, dtype=object).to_dict("records")
    return rows


def _there(value: Any) -> bool:
    return value is not None and value != ""


def _split(text: str) -> list[str]:
    """Split at commas that stand in no brackets."""
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(f"{text},"):
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [part for part in parts if part]
