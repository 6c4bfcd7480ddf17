"""What a comparison of two runs says: records that `ampel_spark.job.comparison` fills.

Tables are pandas DataFrames, so that a comparison of a million objects stays in arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ampel_spark.job.comparison.shifts import Shift
from ampel_spark.lake.runs import Run

__all__ = [
    "CHANGE_COLUMNS",
    "GAINED",
    "LOST",
    "MOVED",
    "Comparison",
    "Difference",
    "Reuse",
    "SelectionChange",
    "ShiftColumn",
]

GAINED, LOST, MOVED = "gained", "lost", "moved"

#: Columns of `Comparison.changes`; ``a`` and ``b`` are before and after.
CHANGE_COLUMNS = (
    "selection",
    "change",
    "name",
    "stock",
    "rank_a",
    "rank_b",
    "reason",
    "what",
    "value_a",
    "value_b",
    "threshold",
    "alert_id",
    "cause",
)


@dataclass(frozen=True)
class Difference:
    """One thing in which two runs differ."""

    kind: str
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class SelectionChange:
    """Counts of one selection."""

    selection: str
    before: int
    after: int
    gained: int
    lost: int
    moved: int


@dataclass(frozen=True)
class ShiftColumn:
    """Shifts of one column over common objects.

    Attributes
    ----------
    column : str
        The column, or an expression.
    unit : str
        Unit of measure, where it is known.
    summary : Shift
    name : str
        Object with the largest shift.
    hopped : int or None
        Objects that changed minimum; None where the column has no error.
    before, after : ndarray with shape (N,)
    hops : ndarray of bool with shape (N,)
    """

    column: str
    unit: str
    summary: Shift
    name: str
    hopped: int | None
    before: npt.NDArray[np.float64]
    after: npt.NDArray[np.float64]
    hops: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Reuse:
    """Where the results of one unit in one run come from.

    Attributes
    ----------
    run : str
        ``a`` or ``b``.
    unit : str
    wanted, computed, reused : int
        States; computed by this run, or taken over from earlier ones.
    sources : mapping of str to int
        Results taken over, by the run that computed them.
    """

    run: str
    unit: str
    wanted: int
    computed: int
    reused: int
    sources: Mapping[str, int]


@dataclass(frozen=True)
class Comparison:
    """Two runs, compared.

    Attributes
    ----------
    a, b : Run
        Records of the runs.
    lake_a, lake_b : str
    differences : sequence of Difference
        In job, calibration, inputs, traces and software.
    selections : sequence of SelectionChange
    changes : DataFrame
        One row for each candidate gained, lost or moved: `CHANGE_COLUMNS`.
    states : DataFrame
        ``channel, same, changed, only_a, only_b``: pairs of states.
    causes : DataFrame
        ``cause, states``: why states changed.
    statuses : DataFrame
        ``unit, status_a, status_b, states``: where a status changed.
    shifts : sequence of ShiftColumn
    shifted : str
        The objects that the shifts are over.
    hoppers : DataFrame
        ``name, stock`` and before and after of each column, of objects that changed minimum.
    reuse : sequence of Reuse
    notes : sequence of str
        What is to be minded: a run that never ended.
    """

    a: Run
    b: Run
    lake_a: str
    lake_b: str
    differences: Sequence[Difference]
    selections: Sequence[SelectionChange]
    changes: pd.DataFrame
    states: pd.DataFrame
    causes: pd.DataFrame
    statuses: pd.DataFrame
    shifts: Sequence[ShiftColumn]
    shifted: str
    hoppers: pd.DataFrame
    reuse: Sequence[Reuse]
    notes: Sequence[str]

    def reasons(self) -> pd.DataFrame:
        """Return how many objects have each reason, most first in each selection and change."""
        keys = ["selection", "change", "reason", "what", "cause"]
        counts = self.changes.groupby(keys, sort=False).size().reset_index(name="objects")
        order = {change: i for i, change in enumerate((LOST, GAINED, MOVED))}
        counts["_place"] = counts["change"].map(order)
        by = ["selection", "_place", "objects", "what", "cause"]
        found = counts.sort_values(by, ascending=[True, True, False, True, True])
        return found[["selection", "change", "objects", "reason", "what", "cause"]].reset_index(
            drop=True
        )

    def of(self, selection: str) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield lost, gained and moved of a selection, with their rows, where there are any."""
        mine = self.changes[self.changes["selection"] == selection]
        for change in (LOST, GAINED, MOVED):
            rows = mine[mine["change"] == change]
            if len(rows):
                yield change, rows
