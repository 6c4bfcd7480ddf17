"""Two runs, compared: what changed, who came and went and why, and by how much numbers moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.expressions import Expression, parse
from ampel_spark.job.comparison.candidates import Both, changes_of
from ampel_spark.job.comparison.changes import (
    CHANGE_COLUMNS,
    GAINED,
    LOST,
    MOVED,
    Comparison,
    Reuse,
    SelectionChange,
)
from ampel_spark.job.comparison.differences import run_differences
from ampel_spark.job.comparison.expressions import SelectionRule, borrowed, rule_of, types_of
from ampel_spark.job.comparison.numbers import default_columns, shifts_of
from ampel_spark.job.comparison.sides import (
    Side,
    candidates_of,
    common_ids,
    frame_of,
    links_of,
    places,
)
from ampel_spark.job.comparison.states import pairs_of, reasons_of
from ampel_spark.lake.runs import FAILED, GOOD, KILLED, PARTIAL, Run, find_run

__all__ = ["compare"]

Array = npt.NDArray[Any]

_SHIFTED = "objects that both runs have a good result for"


def compare(
    lake: Path,
    run_a: str,
    run_b: str,
    *,
    lake_b: Path | None = None,
    selection: str | None = None,
    columns: Sequence[str] = (),
) -> Comparison:
    """Compare two runs; no Spark is started.

    Parameters
    ----------
    lake : Path
    run_a, run_b : str
        Before and after: ``latest``, a run's id, or the beginning of one.
    lake_b : Path, optional
        Where `run_b` is, if it is elsewhere: states are called by their content in every lake.
    selection : str, optional
        Compare this selection alone, and shifts over what both runs selected there.
    columns : sequence of str, optional
        What shifts are shown of: columns, or expressions. By default the real columns that the
        selections show, and t0, x1, c and chisq of SALT fits.

    Raises
    ------
    LakeError
        If there is no such lake or run.
    ConfigError
        If there is no such selection or column.
    """
    other = lake_b or lake
    runs = find_run(lake, run_a), find_run(other, run_b)
    links = links_of(lake, runs[0].run_id), links_of(other, runs[1].run_id)
    ids = common_ids(*links)
    a, b = map(_side, (lake, other), runs, links, (ids, ids))
    rules = [_rules(a.run), _rules(b.run)]
    names = list(dict.fromkeys([*rules[0], *rules[1]]))
    if selection is not None:
        if selection not in names:
            raise ConfigError(
                f"neither run {a.run_id} nor {b.run_id} has a selection {selection!r}"
                f"{nearest(selection, names)}"
            )
        names = [selection]
    pairs = pairs_of(a, b, _channels(a, b, rules))
    pairs["why"] = reasons_of(a, b, pairs)
    own = types_of(a), types_of(b)
    both = Both(a, b, (borrowed(own[0], a, own[1]), borrowed(own[1], b, own[0])), pairs)
    wanted = [parse(text) for text in columns] or default_columns(both, rules)
    _prime(both, rules, wanted)
    found = [_candidates(side) for side in (a, b)]
    selections, changes, kept = [], [], None
    for name in names:
        mine = [f.loc[f["selection"] == name, ["stock", "name", "state", "rank"]] for f in found]
        rows = changes_of(both, (rules[0].get(name), rules[1].get(name)), (mine[0], mine[1]))
        selections.append(_counted(name, mine, rows))
        changes.append(rows)
        if selection is not None:
            kept = mine[0].merge(mine[1], on="stock", suffixes=("_a", "_b"))
    compared = _compared(pairs, kept)
    shifts, hoppers = shifts_of(both, compared, wanted, chosen=bool(columns))
    return Comparison(
        a=a.run,
        b=b.run,
        lake_a=str(lake),
        lake_b=str(other),
        differences=run_differences(a.run, b.run),
        selections=selections,
        changes=_together(changes),
        states=_states(pairs),
        causes=_causes(pairs),
        statuses=_statuses(both, compared),
        shifts=shifts,
        shifted=_SHIFTED
        if selection is None
        else f"objects that both runs selected as {selection}",
        hoppers=hoppers,
        reuse=[*_reuse(a, "a"), *_reuse(b, "b")],
        notes=[*_notes(a.run), *_notes(b.run)],
    )


def _side(lake: Path, run: Run, links: pa.Table, ids: pa.Array) -> Side:
    return Side(lake, run, ids, frame_of(links, ids))


def _candidates(side: Side) -> pd.DataFrame:
    """Return the candidates of a run, with their states as numbers."""
    frame = candidates_of(side.lake, side.run_id)
    return frame.assign(state=places(pa.array(frame["state_id"], pa.string()), side.ids))


def _rules(run: Run) -> dict[str, SelectionRule]:
    return {name: rule_of(entry) for name, entry in run.selections.items()}


def _counted(name: str, found: Sequence[pd.DataFrame], rows: pd.DataFrame) -> SelectionChange:
    counts = rows["change"].value_counts()
    changes = (int(counts.get(change, 0)) for change in (GAINED, LOST, MOVED))
    return SelectionChange(name, *map(len, found), *changes)


def _notes(run: Run) -> Iterator[str]:
    if run.status not in (GOOD, PARTIAL):
        ended = {FAILED: "failed", KILLED: "was killed"}.get(run.status, f"is {run.status}")
        yield f"run {run.run_id} {ended}: not all of it is in its tables"


def _prime(
    both: Both, rules: Sequence[dict[str, SelectionRule]], wanted: Sequence[Expression]
) -> None:
    """Read each table of results once, with all columns that will be asked for."""
    for side, types, mine in zip((both.a, both.b), both.types, rules, strict=True):
        asked = [*wanted, *(e for rule in mine.values() for e in rule.expressions())]
        names = {name for e in asked for name in e.columns}
        names |= {f"{e.name}_err" for e in wanted if e.name}
        for unit in side.run.units:
            own = {n.partition(".")[2] for n in names if n.startswith(f"{unit}.") and n in types}
            side.results(unit, sorted({*own, "message"}))


def _together(changes: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [rows for rows in changes if len(rows)]
    if not filled:
        return pd.DataFrame(columns=list(CHANGE_COLUMNS))
    return pd.concat(filled, ignore_index=True)


def _channels(a: Side, b: Side, rules: Sequence[dict[str, SelectionRule]]) -> list[tuple[str, str]]:
    """Return the channels that stand against each other: of one name, or of one selection."""
    named = [side.run.channels for side in (a, b)]
    found = {(name, name): None for name in dict.fromkeys([*named[0], *named[1]])}
    for name in rules[0].keys() & rules[1].keys():
        found[rules[0][name].channel, rules[1][name].channel] = None
    return list(found)


def _compared(pairs: pd.DataFrame, kept: pd.DataFrame | None) -> pd.DataFrame:
    """Return pairs of states, each once, of the objects that numbers are compared for."""
    if kept is not None:
        return kept[["stock", "state_a", "state_b"]].drop_duplicates(ignore_index=True)
    there = pairs[(pairs["state_a"] >= 0) & (pairs["state_b"] >= 0)]
    columns = ["stock", "state_a", "state_b"]
    return there[columns].drop_duplicates(ignore_index=True).sort_values(columns)


def _states(pairs: pd.DataFrame) -> pd.DataFrame:
    own = pairs[pairs["channel_a"] == pairs["channel_b"]]
    only_a, only_b = own["state_b"] < 0, own["state_a"] < 0
    same = own["state_a"] == own["state_b"]
    marked = own.assign(same=same, only_a=only_a, only_b=only_b, changed=~(same | only_a | only_b))
    counts = marked.groupby("channel_a", sort=True)[["same", "changed", "only_a", "only_b"]].sum()
    return counts.rename_axis("channel").reset_index()


def _causes(pairs: pd.DataFrame) -> pd.DataFrame:
    changed = pairs[pairs["why"] != ""].drop_duplicates(["stock", "state_a", "state_b"])
    counts = changed["why"].value_counts(sort=False).rename_axis("cause").reset_index(name="states")
    return counts.sort_values(["states", "cause"], ascending=[False, True], ignore_index=True)


def _statuses(both: Both, compared: pd.DataFrame) -> pd.DataFrame:
    units = [unit for unit in both.a.run.units if unit in both.b.run.units]
    tables = both.tables(compared["state_a"].to_numpy(), compared["state_b"].to_numpy())
    parts = [pd.DataFrame({"unit": [], "status_a": [], "status_b": [], "states": []})]
    for unit in units:
        status = {"status_a": tables[0].status(unit), "status_b": tables[1].status(unit)}
        frame = pd.DataFrame(status)
        differ = frame.dropna()[lambda f: f["status_a"] != f["status_b"]].astype(int)
        parts.append(differ.value_counts().reset_index(name="states").assign(unit=unit))
    filled = [part for part in parts if len(part)] or parts[:1]
    found = pd.concat(filled, ignore_index=True)[["unit", "status_a", "status_b", "states"]]
    return found.sort_values(["unit", "states"], ascending=[True, False], ignore_index=True)


def _reuse(side: Side, letter: str) -> list[Reuse]:
    found = []
    for unit in side.run.units:
        wanted = side.wanted(unit)
        results = side.results(unit)
        runs = pd.Series(results.column("run_id", wanted).to_pandas()).value_counts(sort=False)
        sources = {str(run): int(n) for run, n in sorted(runs.items())}
        computed = sources.pop(side.run_id, 0)
        found.append(Reuse(letter, unit, len(wanted), computed, sum(sources.values()), sources))
    return found
