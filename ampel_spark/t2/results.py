"""Which results a run used: its units, their ties, and the one of several results of a state.

A state has several results under one trace where what the unit reads beside it changed. The one a
run used is that whose ``input_hash`` is over the keys of the run's own tied results
(`ampel_spark.lake.ties`). What a unit reports itself (`Unit.inputs`, after a colon) is not computed
anew: of results that fit, a run used its own, then that of a run which read the same catalogues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ampel_spark.lake.runs import Run
from ampel_spark.lake.tables import result_table
from ampel_spark.lake.ties import key_hash, keys_at

__all__ = [
    "HEAD",
    "Results",
    "catalogs_by_run",
    "preference",
    "tied_hash",
]

#: Columns of every table of results; the others are the unit's own.
HEAD = frozenset(result_table("", ()).names)


@dataclass(frozen=True)
class Results:
    """Results of a few states, as tables by the unit's name.

    Attributes
    ----------
    tables : mapping of str to pyarrow.Table
    catalogs : mapping of str to mapping
        What each run read of catalogues: `catalogs_by_run`.
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


def tied_hash(input_hash: str | None) -> int:
    """Return the part of an ``input_hash`` that is over tied results; 0 where there are none."""
    return int((input_hash or "").partition(":")[0] or "0", 16)


def catalogs_by_run(runs: Iterable[Run]) -> dict[str, dict[str, str]]:
    """Return the content hashes of the catalogues that runs read, the first run first."""
    ordered = sorted(runs, key=lambda run: (run.started, run.run_id))
    return {run.run_id: run.inputs.catalog_hashes for run in ordered}


def preference(
    run_id: str, catalogs: Mapping[str, Mapping[str, str]]
) -> Callable[[str], tuple[bool, bool, bool, int, str]]:
    """Return what orders, by the runs that made them, results that a run can have used.

    The last one is the likeliest: the run's own, else that of a run with the same catalogues, else
    the newest that was there when a run first had these. `catalogs` has the runs as they started,
    the first one first.
    """
    mine = catalogs.get(run_id)
    alike = {run_id, *(other for other, read in catalogs.items() if mine and read == mine)}
    place = {run: i for i, run in enumerate(catalogs)}
    since = min(place.get(run, len(place)) for run in alike)

    def order(made: str) -> tuple[bool, bool, bool, int, str]:
        at = place.get(made, -1)
        return made == run_id, made in alike, at <= since, at, made

    return order
