"""Which results a run used: its units, their ties, and the one of several results of a state.

A state has several results under one trace where what the unit reads beside it changed. The one a
run used is that whose ``input_hash`` is over the keys of the run's own tied results
(`ampel_spark.lake.ties`). What a unit reports itself (`Unit.inputs`, after a colon) is not computed
anew: of results that fit, a run used its own, then that of a run which read the same catalogues.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ampel_spark.lake.runs import Run, preference
from ampel_spark.lake.ties import key_hash, keys_at, tied_hash

__all__ = ["Results"]


@dataclass(frozen=True)
class Results:
    """Results of a few states, as tables by the unit's name.

    Attributes
    ----------
    tables : mapping of str to pyarrow.Table
    catalogs : mapping of str to mapping
        What each run read of catalogues: `ampel_spark.lake.runs.catalogs_by_run`.
    """

    tables: Mapping[str, pa.Table]
    catalogs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def used(self, run: Run, unit: str, state_id: str) -> Mapping[str, Any] | None:
        """Return the result that a run used for a state; None where there is none."""
        at = self._place(run, unit, state_id)
        return None if at is None else self.tables[unit].slice(at, 1).to_pylist()[0]

    def _place(self, run: Run, unit: str, state_id: str) -> int | None:
        if unit not in self.tables:
            return None
        recorded = run.traces.t2.get(unit)
        trace = None if recorded is None else recorded.trace_id
        keys = self.tables[unit].select(["state_id", "trace_id", "input_hash", "run_id"])
        found = [
            (i, row)
            for i, row in enumerate(keys.to_pylist())
            if row["state_id"] == state_id and row["trace_id"] == trace
        ]
        if len(found) < 2:
            return found[0][0] if found else None
        wanted = tied_hash(self._hash(run, unit, state_id))
        prefer = preference(run.run_id, self.catalogs)

        def order(pair: tuple[int, Mapping[str, Any]]) -> tuple[Any, ...]:
            row = pair[1]
            return tied_hash(row["input_hash"]) == wanted, *prefer(row["run_id"])

        return max(found, key=order)[0]

    def _hash(self, run: Run, unit: str, state_id: str) -> str:
        ties = {}
        for need in run.needs_of(unit):
            at = self._place(run, need, state_id)
            ties[need] = keys_at(self.tables.get(need), [-1 if at is None else at])[0]
        return key_hash(ties)
