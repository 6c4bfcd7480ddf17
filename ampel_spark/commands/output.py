"""Answers in print: aligned tables for people, JSON for programs."""

from __future__ import annotations

import datetime
import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["print_pairs", "print_rows", "table_lines", "to_json"]

Row = Mapping[str, Any]

#: No column is cut below this width.
_NARROWEST = 12


def print_rows(
    rows: Sequence[Row], columns: Sequence[str], form: str, *, empty: str = "nothing"
) -> None:
    """Print rows as an aligned table of some columns, or all of them as a JSON list of objects.

    Parameters
    ----------
    rows : sequence of mapping
    columns : sequence of str
        What the table shows, in order.
    form : str
        ``table`` or ``json``.
    empty : str, optional
        What is said instead of a table without rows.
    """
    if form == "json":
        print(to_json(rows))
    elif not rows:
        print(empty)
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print("\n".join(table_lines(rows, columns, width)))


def print_pairs(pairs: Mapping[str, Any]) -> None:
    """Print names and values, one pair a line; pairs without a value are left out."""
    shown = {
        name: _cell(value) for name, value in pairs.items() if value not in (None, "", (), {}, [])
    }
    widest = max(map(len, shown), default=0)
    for name, value in shown.items():
        print(f"{name:<{widest}}  {value}")


def table_lines(rows: Sequence[Row], columns: Sequence[str], width: int | None = None) -> list[str]:
    """Return a table as lines: a head, and one line for each row.

    Parameters
    ----------
    rows : sequence of mapping
    columns : sequence of str
    width : int, optional
        Width to keep to: the widest columns of text are cut, with ``…``. Without it nothing is.
    """
    cells = [_cells(row, columns) for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(columns)]
    right = [all(map(_is_number, (row.get(column) for row in rows))) for column in columns]
    least = [w if r else max(_NARROWEST, len(n))
             for n, w, r in zip(columns, widths, right, strict=True)]  # fmt: skip
    while width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        i = max(range(len(widths)), key=lambda i: (widths[i] > least[i]) * widths[i])
        if widths[i] <= least[i]:
            break
        widths[i] -= 1
    return [_line(line, widths, right) for line in ([*columns], *cells)]


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    return [_in_column(column, row.get(column)) for column in columns]


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    """Return cells side by side, each at the left or right of its width."""
    cut = [_cut(cell, width) for cell, width in zip(cells, widths, strict=True)]
    parts = [f"{cell:{'>' if r else '<'}{w}}"
             for cell, w, r in zip(cut, widths, right, strict=True)]  # fmt: skip
    return "  ".join(parts).rstrip()


def to_json(value: Any) -> str:
    """Return JSON: no NaN or infinity (null instead), times in ISO format."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [
            _plain(part)
            for part in (sorted(value) if isinstance(value, set | frozenset) else value)
        ]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 1]}…"


def _in_column(name: str, value: Any) -> str:
    # six digits would leave a position of 186.739 degrees uncertain by 2 arcsec
    if name in ("ra", "dec") and isinstance(value, float) and math.isfinite(value):
        return f"{value:.6f}"
    return _cell(value)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.4f}"
    if isinstance(value, datetime.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(part)}" for key, part in value.items())
    return " ".join(str(value).split())
