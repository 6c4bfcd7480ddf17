"""Why the results of units differ between two runs: the state, the trace, or what they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.job.comparison.differences import summary, trace_changes
from ampel_spark.job.comparison.expressions import StateTable

__all__ = ["causes_of", "joined"]

Array = npt.NDArray[Any]


def causes_of(a: StateTable, b: StateTable, units: Sequence[str], states: Array) -> Array:
    """Return why results differ, as text for each pair of states; empty where they are the same.

    Parameters
    ----------
    a, b : StateTable
        Of states that stand against each other.
    units : sequence of str
        Units whose results count.
    states : ndarray of str with shape (N,)
        Why the states differ, from `ampel_spark.job.comparison.states.reasons_of`.
    """
    parts = [states.astype(object)]
    both = (a.states >= 0) & (b.states >= 0)
    same = a.states == b.states
    for unit in units:
        changed = summary(_trace(a, b, unit))
        hashes = [np.array([h or "" for h in side.key(unit, "input_hash")]) for side in (a, b)]
        moved = both & (hashes[0] != hashes[1])
        tie = _ties(a, b, unit)
        if changed:
            parts.append(np.where(both, f"{unit}: {changed}", "").astype(object))
        if tie:
            parts.append(np.where(moved, f"{unit} reads {tie}", "").astype(object))
        elif not changed:
            parts.append(np.where(moved & same, f"{unit}: what it reads", "").astype(object))
        failed = np.zeros(len(both), bool)
        for side in (a, b):
            failed |= side.key(unit, "status") == -4
        again = failed & same & ~moved & (changed == "")
        parts.append(np.where(again, f"{unit}: an exception, tried again", "").astype(object))
    return joined(parts)


def joined(parts: Sequence[Array]) -> Array:
    """Join texts row by row with semicolons, without those that are empty."""
    out = parts[0].astype(object)
    for part in parts[1:]:
        gap = np.where((out != "") & (part != ""), "; ", "").astype(object)
        out = out + gap + part
    return out


def _trace(a: StateTable, b: StateTable, unit: str) -> list[Any]:
    traces = [side.side.run.traces.t2.get(unit) for side in (a, b)]
    return trace_changes(unit, *traces)


def _ties(a: StateTable, b: StateTable, unit: str) -> str:
    """Return what changed in the units that a unit is tied to, and in theirs."""
    needs = {*a.side.run.needs_of(unit), *b.side.run.needs_of(unit)}
    found = []
    for need in sorted(needs):
        changed = summary(_trace(a, b, need)) or _ties(a, b, need)
        if changed:
            found.append(f"{need}: {changed}")
    return ", ".join(found)
