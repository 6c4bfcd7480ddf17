"""What one run has, as arrays: its states, and the one result of each unit on each of them.

States are numbers here, their places in one list of ids that both runs share: what belongs to a
state is found by its place, and nothing is joined by text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.errors import ConfigError
from ampel_spark.lake.decisions import decisions_of
from ampel_spark.lake.reading import open_table, read, struct_columns, table_names
from ampel_spark.lake.runs import Run, catalogs_by_run, preference
from ampel_spark.lake.runs import runs as all_runs
from ampel_spark.lake.tables import RESULT_HEAD
from ampel_spark.lake.ties import key_hash, keys_at, tied_hash
from ampel_spark.t1.shown import ALERT, newest_accepted
from ampel_spark.t1.states import LAST_ID

__all__ = [
    "UnitResults",
    "Side",
    "alert_rows",
    "candidates_of",
    "common_ids",
    "frame_of",
    "links_of",
    "state_rows",
    "survey_of",
    "taken",
]

Array = npt.NDArray[Any]

_KEY = ("state_id", "trace_id", "input_hash", "run_id", "status", "attempts")
_LINK = ("channel", "stock", "state_id", "as_of_jd", "alert_id", "calibration", "access", "points",
         "datapoints_version")  # fmt: skip


@dataclass(frozen=True)
class UnitResults:
    """Results of one unit in one run.

    Attributes
    ----------
    table : pyarrow.Table
    row : ndarray of int with shape (number of states,)
        Row of the table that is a state's result; -1 where it has none.
    """

    table: pa.Table
    row: Array

    def column(self, name: str, states: Array) -> pa.Array:
        """Return a column for some states, null where there is no result."""
        rows = np.full(len(states), -1)
        rows[states >= 0] = self.row[states[states >= 0]]
        found: pa.Array = taken(self.table[name], rows)
        return found


@dataclass
class Side:
    """One of the two runs.

    Attributes
    ----------
    lake : Path
    run : Run
    ids : pyarrow.Array of string
        All states of both runs.
    links : DataFrame
        One row for each state that a channel wanted: `links_of`, with ``state`` for ``state_id``.
    """

    lake: Path
    run: Run
    ids: pa.Array
    links: pd.DataFrame
    _results: dict[str, UnitResults] = field(default_factory=dict)
    _wanted: dict[str, Array] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return self.run.run_id

    def columns(self, unit: str) -> list[str]:
        """Return the unit's own columns, in order; none where the lake has no such table."""
        return [name for name in self._names(unit) if name not in RESULT_HEAD]

    def _names(self, unit: str) -> list[str]:
        """Return all columns of a unit's table; of an older lake, those of its time."""
        if f"t2_{unit}" not in table_names(self.lake):
            return []
        return [f.name for f in open_table(self.lake, f"t2_{unit}").schema().fields]

    def wanted(self, unit: str) -> Array:
        """Return the states that the run wanted a unit's result for, as numbers."""
        if unit not in self._wanted:
            entry = self.run.units.get(unit)
            mine = self.links["channel"].isin(entry["channel"] if entry else ())
            self._wanted[unit] = np.unique(self.links.loc[mine, "state"].to_numpy())
        return self._wanted[unit]

    def results(self, unit: str, columns: Sequence[str] = ()) -> UnitResults:
        """Return the results of a unit, with some columns beside those of the key.

        A table is read again where a column is asked for that was not read before.
        """
        known = self._results.get(unit)
        names = {*(known.table.column_names if known else ()), *columns} - {*_KEY, "subject_id"}
        if known is None or not names <= {*known.table.column_names}:
            self._results[unit] = self._read(unit, tuple(sorted(names)))
        return self._results[unit]

    def _read(self, unit: str, columns: tuple[str, ...]) -> UnitResults:
        trace = self.run.traces.t2.get(unit)
        empty = np.full(len(self.ids), -1, np.int64)
        names = [*_KEY, *columns]
        if trace is not None and "subject_id" in self._names(unit):
            names.append("subject_id")
        if trace is None or f"t2_{unit}" not in table_names(self.lake):
            return UnitResults(pa.table({name: pa.nulls(0) for name in names}), empty)
        table = read(
            self.lake, f"t2_{unit}", names, pc.field("trace_id") == trace.trace_id
        ).combine_chunks()
        states = places(table["state_id"], self.ids)
        wanted = np.zeros(len(self.ids) + 1, bool)
        wanted[self.wanted(unit)] = True
        rows = np.flatnonzero(wanted[states])
        counts = np.bincount(states[rows], minlength=len(self.ids))
        row = empty.copy()
        row[states[rows]] = rows
        if (counts > 1).any():
            several = rows[counts[states[rows]] > 1]
            chosen = self._chosen(unit, table, states, several)
            row[states[chosen]] = chosen
        return UnitResults(table, row)

    def _chosen(self, unit: str, table: pa.Table, states: Array, rows: Array) -> Array:
        """Return, of several results of a state under one trace, those the run itself used.

        They differ in what they read beside the state: the one counts whose hash is over the keys
        of this run's results, and of several the one by `preference`.
        """
        asked = np.unique(states[rows])
        keys = {}
        for name in self.run.needs_of(unit):
            found = self.results(name)
            keys[name] = keys_at(found.table, found.row[asked].tolist())
        expected = np.array(
            [
                tied_hash(key_hash({name: each[i] for name, each in keys.items()}))
                for i in range(len(asked))
            ],
            object,
        )
        hashes = table["input_hash"].take(pa.array(rows)).to_pylist()
        given = np.array([tied_hash(h) for h in hashes], object)
        fits = given == expected[np.searchsorted(asked, states[rows])]
        made = table["run_id"].take(pa.array(rows)).to_pylist()
        prefer = preference(self.run_id, catalogs_by_run(all_runs(self.lake)))
        rank = {run: i for i, run in enumerate(sorted(set(made), key=prefer))}
        order = np.lexsort((np.array([rank[run] for run in made]), fits.astype(bool)))
        ordered: Array = rows[order]
        return ordered


def common_ids(*tables: pa.Table) -> pa.Array:
    """Return the state ids of tables, each once."""
    parts = [table["state_id"].combine_chunks().cast(pa.string()) for table in tables]
    return pc.unique(pa.concat_arrays([p for part in parts for p in _flat(part)]))


def places(values: Any, ids: pa.Array) -> Array:
    """Return the places of ids in a list of them, -1 where they are not in it."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    found = pc.index_in(values.cast(pa.string()), value_set=ids)
    numbers: Array = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def taken(column: Any, rows: Array) -> pa.Array:
    """Return elements of a column by their places, null for a negative place."""
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return values.take(pa.array(rows, pa.int64(), mask=rows < 0))


def links_of(lake: Path, run_id: str) -> pa.Table:
    """Return which states the channels of a run wanted: ``state_channels``, of this run."""
    if "state_channels" not in table_names(lake):
        return pa.table({name: pa.nulls(0, pa.string()) for name in (*_LINK, "rules")})
    known = {f.name for f in open_table(lake, "state_channels").schema().fields}
    rules = ["rules"] if "rules" in known else []
    rows = read(lake, "state_channels", [*_LINK, *rules], pc.field("run_id") == run_id)
    if not rules:
        return rows.append_column("rules", pa.nulls(len(rows), pa.string()))
    return rows.set_column(
        rows.column_names.index("rules"), "rules", _joined(rows["rules"].combine_chunks())
    )


def frame_of(links: pa.Table, ids: pa.Array) -> pd.DataFrame:
    """Return links as arrays, the state by its place in `ids`."""
    codes = places(links["state_id"], ids)
    texts = ["channel", "calibration", "access", "points", "rules"]
    frame = pd.DataFrame({"state": codes})
    for name in texts:
        column = links[name].cast(pa.string()).combine_chunks().dictionary_encode()
        frame[name] = column.to_pandas().astype("category")
    frame["stock"] = links["stock"].cast(pa.int64()).to_numpy()
    frame["version"] = links["datapoints_version"].cast(pa.float64()).to_numpy()
    # what is null compares as one value
    frame["as_of"] = links["as_of_jd"].cast(pa.float64()).fill_null(np.inf).to_numpy()
    frame["alert_id"] = links["alert_id"].cast(pa.int64()).fill_null(-1).to_numpy()
    return frame


def candidates_of(lake: Path, run_id: str) -> pd.DataFrame:
    """Return the candidates of a run: ``selection, channel, stock, name, state_id, rank``."""
    names = ["selection", "channel", "stock", "name", "state_id", "rank"]
    if "candidates" not in table_names(lake):
        return pd.DataFrame({name: [] for name in names})
    found: pd.DataFrame = read(lake, "candidates", names, pc.field("run_id") == run_id).to_pandas()
    return found


def state_rows(side: Side, states: Array, columns: Sequence[str]) -> dict[str, pa.Array]:
    """Return columns of the table of states for some states, null where the place is negative."""
    asked = np.unique(states[states >= 0])
    ids = side.ids.take(pa.array(asked))
    table = read(
        side.lake,
        "states",
        list(dict.fromkeys(["state_id", *columns])),
        pc.field("state_id").isin(ids),
    ).combine_chunks()
    row = np.full(len(side.ids) + 1, -1, np.int64)
    row[places(table["state_id"], side.ids)] = np.arange(len(table))
    return {name: taken(table[name], np.where(states >= 0, row[states], -1)) for name in columns}


def survey_of(side: Side) -> str:
    """Return what the tables call the survey of a run; empty where it has no state."""
    states = side.links["state"].to_numpy()[:1]
    return str(state_rows(side, states, ["survey"])["survey"][0]) if len(states) else ""


def alert_rows(
    side: Side, states: Array, columns: Sequence[str], channel: str | None
) -> list[pa.Array]:
    """Return columns of the alerts that stand for states in a channel, null where there is none.

    Raises
    ------
    ConfigError
        If no channel is given.
    """
    if channel is None:
        raise ConfigError(
            f"{ALERT}.{columns[0]} is of the alert that a channel accepted, and no channel is meant"
            " here: name columns of units"
        )
    mine = side.links[side.links["channel"] == channel].drop_duplicates("state", keep="last")
    mine = mine[mine["state"].isin(states)]
    wanted = pa.table(
        {
            "channel": pa.repeat(channel, len(mine)),
            "stock": mine["stock"].to_numpy(),
            "until_jd": mine["as_of"].to_numpy(),
            "until_alert_id": mine["alert_id"].where(mine["alert_id"] >= 0, LAST_ID).to_numpy(),
        }
    )
    names = ["channel", "stock", "jd", "alert_id", "accepted"]
    judged = decisions_of(
        side.lake, side.run, [channel], pc.field("stock").isin(wanted["stock"]), names
    )
    found = newest_accepted(wanted, judged.filter(judged["accepted"]))
    label = survey_of(side)
    own = {c.name for c in struct_columns(side.lake, "alerts").get(label, ())}
    common = [name for name in columns if name not in own]
    where = (pc.field("survey") == label) & pc.field("alert_id").isin(found)
    structs = [label] if own & {*columns} else []
    rows = read(side.lake, "alerts", ["alert_id", *common, *structs], where).combine_chunks()
    row = np.full(len(side.ids), -1, np.int64)
    at = pc.index_in(pa.array(found), value_set=rows["alert_id"].combine_chunks())
    row[mine["state"].to_numpy()] = at.fill_null(-1).to_numpy(zero_copy_only=False)
    places_ = np.where(states >= 0, row[states], -1)
    values = {name: rows[name] for name in common}
    values |= {name: pc.struct_field(rows[label], name) for name in columns if name in own}
    return [taken(values[name], places_) for name in columns]


def _joined(rules: Any) -> pa.Array:
    """Return lists of numbers as text, ``1, 3``; null for none."""
    texts = pc.binary_join(rules.cast(pa.list_(pa.string())), ", ")
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _flat(part: Any) -> list[pa.Array]:
    return list(part.chunks) if isinstance(part, pa.ChunkedArray) else [part]
