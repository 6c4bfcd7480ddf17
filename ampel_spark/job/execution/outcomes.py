"""How the results of a unit ended: statuses, time, and what is said most often where one failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.dataset import dataset

__all__ = ["failures", "outcomes", "qualities"]

# Characters of a message by which it counts as the same as another one.
_LONGEST = 160


def outcomes(results: Sequence[str | Path] | pa.Table) -> dict[str, Any]:
    """Count how results ended, without Spark.

    Parameters
    ----------
    results : sequence of path, or Arrow table
        Parquet files of results, or their columns that are counted.

    Returns
    -------
    dict
        ``statuses``, results by status; ``median_ms``; and where any has a status below 0,
        ``messages``: by status, the commonest message and how many have it. Of several that are as
        common it is the first by its letters. Of a unit that grades its results, ``qualities`` and
        ``doubts``: results by grade, and by each doubt.
    """
    is_table = isinstance(results, pa.Table)
    found = dataset(results if is_table else [str(file) for file in results])
    rows = found.to_table(columns=["status", "duration_ms"])
    counted = rows.group_by("status").aggregate([([], "count_all")]).sort_by("status")
    statuses = dict(zip(*(column.to_pylist() for column in counted.columns), strict=True))
    took = rows["duration_ms"].drop_null().to_numpy()
    made: dict[str, Any] = {
        "statuses": {str(status): n for status, n in statuses.items()},
        "median_ms": round(float(np.median(took)), 3) if len(took) else None,
    }
    if any(status < 0 for status in statuses):
        made["messages"] = _commonest(found)
    if {"quality", "doubts"} <= {*found.schema.names}:
        graded = found.to_table(columns=["quality", "doubts"])
        made["qualities"] = _counts(graded["quality"])
        made["doubts"] = _counts(pc.list_flatten(graded["doubts"]))
    return made


def qualities(tier: Mapping[str, Any]) -> str:
    """Return the grades of results in words, by the counts of `outcomes`; empty without grades."""
    grades = ", ".join(f"{n} {grade}" for grade, n in tier.get("qualities", {}).items())
    doubts = ", ".join(f"{doubt} {n}" for doubt, n in tier.get("doubts", {}).items())
    return grades + (f" ({doubts})" if doubts else "")


def failures(tier: Mapping[str, Any]) -> str:
    """Return what failed in words, by the counts of `outcomes`; empty where nothing did."""
    messages = tier.get("messages", {})  # runs that are older have none
    parts = []
    for status, n in sorted(tier.get("statuses", {}).items(), key=lambda item: int(item[0])):
        if int(status) < 0:
            most = messages.get(status)
            said = f', most often "{most[0]}" ({most[1]})' if most else ""
            parts.append(f"{n} with status {status}{said}")
    return "; ".join(parts)


def _counts(words: Any) -> dict[str, int]:
    """Count words, the commonest first."""
    pairs = pc.value_counts(words.drop_null()).to_pylist()
    return {
        p["values"]: p["counts"] for p in sorted(pairs, key=lambda p: (-p["counts"], p["values"]))
    }


def _commonest(found: Any) -> dict[str, list[Any]]:
    """Return the commonest message by status below 0, and its count."""
    failed = (pc.field("status") < 0) & pc.field("message").is_valid()
    # one character more than is shown, to know of a message that goes on
    said = pc.utf8_slice_codeunits(pc.field("message"), 0, _LONGEST + 1)
    rows: pa.Table = found.to_table(
        columns={"status": pc.field("status"), "said": said}, filter=failed
    )
    counted = rows.group_by(["status", "said"]).aggregate([([], "count_all")])
    by_count = [("status", "ascending"), ("count_all", "descending"), ("said", "ascending")]
    most: dict[str, list[Any]] = {}
    if len(counted):
        edges = counted.sort_by(by_count)
        column = edges["status"].to_numpy()
        first = np.flatnonzero(np.diff(column, prepend=column[0] - 1))
        for row in edges.take(pa.array(first)).to_pylist():
            text = row["said"] if len(row["said"]) <= _LONGEST else f"{row['said'][:_LONGEST]}…"
            most[str(row["status"])] = [" ".join(text.split()), row["count_all"]]
    return most
