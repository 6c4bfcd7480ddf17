"""Candidates gained, lost and moved, each with the first thing on its way that changed.

An object's way is followed in the run that lacks it: T0, its state, the conditions of ``select`` in
their order, ``limit``. What is gained is followed in the run before, what is lost in the one after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ampel_spark.expressions import Expression
from ampel_spark.expressions.syntax import Literal, Name, Node
from ampel_spark.job.comparison.causes import causes_of, joined
from ampel_spark.job.comparison.changes import CHANGE_COLUMNS, GAINED, LOST, MOVED
from ampel_spark.job.comparison.expressions import SelectionRule, StateTable, measured, units_in
from ampel_spark.job.comparison.judged import note_cuts
from ampel_spark.job.comparison.sides import Side

__all__ = ["Both", "changes_of"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Both:
    """The two runs as the candidates are compared in them.

    Attributes
    ----------
    a, b : Side
    types : tuple of mapping
        Types of all names, of both.
    pairs : DataFrame
        States that stand against each other, with ``why`` they differ.
    """

    a: Side
    b: Side
    types: tuple[Mapping[str, str], Mapping[str, str]]
    pairs: pd.DataFrame

    def sides(self, gone: bool) -> tuple[Side, Side]:
        """Return the run that has the objects and the one that lacks them."""
        return (self.a, self.b) if gone else (self.b, self.a)

    def tables(
        self,
        states_a: Array,
        states_b: Array,
        rules: tuple[SelectionRule, SelectionRule] | None = None,
    ) -> tuple[StateTable, StateTable]:
        """Return the results of both for pairs of states, for the channels of `rules`."""
        channels = (None, None) if rules is None else (rules[0].channel, rules[1].channel)
        return (
            StateTable(self.a, states_a, self.types[0], channels[0]),
            StateTable(self.b, states_b, self.types[1], channels[1]),
        )


def changes_of(
    both: Both,
    rules: tuple[SelectionRule | None, SelectionRule | None],
    found: tuple[pd.DataFrame, pd.DataFrame],
) -> pd.DataFrame:
    """Return the changes of one selection.

    Parameters
    ----------
    both : Both
    rules : tuple of SelectionRule or None
        The selection as each run has it; None where it has none.
    found : tuple of DataFrame
        Its candidates in each run: ``stock, name, state`` (a number), ``rank``.

    Returns
    -------
    DataFrame
        `CHANGE_COLUMNS`, lost first, then gained, then moved, by rank.
    """
    a, b = found
    merged = a.merge(b, on="stock", how="outer", suffixes=("_a", "_b"), indicator="where")
    merged["name"] = merged["name_a"].where(merged["name_a"].notna(), merged["name_b"])
    parts = []
    for gone, mark, change in ((True, "left_only", LOST), (False, "right_only", GAINED)):
        rows = merged[merged["where"] == mark]
        if len(rows):
            parts.append(_followed(both, rules, rows, gone).assign(change=change))
    common = merged[(merged["where"] == "both") & (merged["rank_a"] != merged["rank_b"])]
    if len(common) and rules[0] is not None and rules[1] is not None:
        parts.append(_moved(both, (rules[0], rules[1]), common).assign(change=MOVED))
    if not parts:
        return pd.DataFrame(columns=list(CHANGE_COLUMNS))
    name = next(rule.name for rule in rules if rule is not None)
    whole = pd.concat(parts, ignore_index=True).assign(selection=name)
    for rank in ("rank_a", "rank_b"):
        whole[rank] = whole[rank].astype("Int64")
    order = {LOST: 0, GAINED: 1, MOVED: 2}
    whole["_place"] = whole["change"].map(order)
    whole["_rank"] = whole["rank_a"].fillna(whole["rank_b"])
    whole = whole.sort_values(["_place", "_rank", "stock"], kind="stable", ignore_index=True)
    return whole[list(CHANGE_COLUMNS)]


def _blank(rows: pd.DataFrame) -> pd.DataFrame:
    blank = rows[["stock", "name", "rank_a", "rank_b"]].reset_index(drop=True)
    numbers = dict.fromkeys(("value_a", "value_b", "threshold"), np.nan)
    return blank.assign(
        reason="", what="", cause="", alert_id=pd.array([None] * len(rows), "Int64"), **numbers
    )


def _against(
    both: Both, rules: tuple[SelectionRule, SelectionRule], rows: pd.DataFrame, own: str
) -> pd.DataFrame:
    """Return, for candidates' states of one run, the pair that each is part of."""
    pairs = both.pairs
    mine = pairs[
        (pairs["channel_a"] == rules[0].channel) & (pairs["channel_b"] == rules[1].channel)
    ]
    key = ["stock", f"state_{own}"]
    one = mine[mine[f"state_{own}"] >= 0].drop_duplicates(key, keep="last")
    found = rows[key].astype(np.int64).merge(one, on=key, how="left", sort=False)
    for name in ("state_a", "state_b"):
        found[name] = found[name].fillna(-1).astype(np.int64)
    found["why"] = found["why"].astype(object).where(found["why"].notna(), "")
    other = f"state_{'b' if own == 'a' else 'a'}"
    # a state of an alert or time that the other run lacks stands against the object's last one
    last = mine[mine[other] >= 0].drop_duplicates("stock", keep="last").set_index("stock")[other]
    lone = ((found[other] < 0) & found["stock"].isin(last.index)).to_numpy()
    found.loc[lone, other] = last.reindex(found.loc[lone, "stock"]).to_numpy()
    found.loc[lone, "why"] = "another of its states"
    return found


def _followed(
    both: Both,
    rules: tuple[SelectionRule | None, SelectionRule | None],
    rows: pd.DataFrame,
    gone: bool,
) -> pd.DataFrame:
    """Follow candidates of one run through the other, which lacks them."""
    out = _blank(rows)
    there, other = rules if gone else rules[::-1]
    lacking = both.sides(gone)[1].run_id
    if other is None or there is None:
        out["reason"], out["what"] = "selection", f"run {lacking} has no such selection"
        return out
    own = "a" if gone else "b"
    known = (rules[0] or there, rules[1] or there)
    pairs = _against(both, known, rows, own)
    tables = both.tables(pairs["state_a"].to_numpy(), pairs["state_b"].to_numpy(), known)
    stateless = pairs[f"state_{'b' if gone else 'a'}"].to_numpy() < 0
    _at_t3(out, tables, known, pairs["why"].to_numpy(), ~stateless, gone)
    channels = (known[0].channel, known[1].channel)
    note_cuts(out, (both.a, both.b), channels, stateless, gone)
    return out


def _at_t3(
    out: pd.DataFrame,
    tables: tuple[StateTable, StateTable],
    rules: tuple[SelectionRule, SelectionRule],
    why: Array,
    mask: Array,
    gone: bool,
) -> None:
    """Note the first condition that fails where an object was not selected, or the limit."""
    lacking = tables[1 if gone else 0]
    rule_there, rule = rules if gone else rules[::-1]
    lacking.load(rule.condition)
    left = mask.copy()
    common = {_squeezed(cut.text) for cut in rule_there.condition.cuts()}
    for cut in rule.condition.cuts():
        failed = left & ~lacking.holds(cut)
        left &= ~failed
        if failed.any():
            at = np.flatnonzero(failed)
            parts = (tables[0].at(at), tables[1].at(at))
            new = _squeezed(cut.text) not in common
            _note(out, at, parts, rules, cut, why[at], gone, new)
    if left.any():
        at = np.flatnonzero(left)
        _note_limit(out, at, (tables[0].at(at), tables[1].at(at)), rules, why[at], rule.limit)


def _note_limit(
    out: pd.DataFrame,
    at: Array,
    parts: tuple[StateTable, StateTable],
    rules: tuple[SelectionRule, SelectionRule],
    why: Array,
    limit: int | None,
) -> None:
    """Note for some objects that ``select`` is true of them, and others come before them."""
    limited = limit is not None
    out.loc[at, "reason"] = "limit" if limited else "unexplained"
    out.loc[at, "what"] = f"limit {limit}" if limited else "select is true of it in both"
    cause = np.full(len(at), "", object)
    if rules[0].limit != rules[1].limit:
        cause[:] = f"limit {_limit(rules[0])} → {_limit(rules[1])}"
    ranks = [r.rank for r in rules if r.rank is not None]
    if len(ranks) == 2:
        values = [t.numbers(rank) for t, rank in zip(parts, ranks, strict=True)]
        out.loc[at, "value_a"], out.loc[at, "value_b"] = values
        found = causes_of(*parts, units_in(*ranks), why)
        cause = joined([cause, np.where(_differ(parts, ranks), found, "").astype(object)])
    out.loc[at, "cause"] = np.where(cause == "", "others come before it", cause)


def _note(
    out: pd.DataFrame,
    at: Array,
    parts: tuple[StateTable, StateTable],
    rules: tuple[SelectionRule, SelectionRule],
    cut: Expression,
    why: Array,
    gone: bool,
    new: bool,
) -> None:
    """Note for some objects that a condition of ``select`` fails where they are lacking."""
    there, lacking = parts if gone else parts[::-1]
    passed = there.holds(cut) if there.knows(cut) else np.zeros(len(at), bool)
    unknown = np.ma.getmaskarray(lacking.evaluate(cut))
    units = units_in(cut)
    reason = np.where(passed, np.where(unknown, "unknown", "condition"), "expression").astype(
        object
    )
    what = np.full(len(at), cut.text, object)
    cause = causes_of(*parts, units, why)
    quantity, threshold = measured(cut)
    values = [_numbers(table, quantity) for table in parts]
    thresholds = np.full(len(at), threshold)
    for unit in units:
        status = parts[0].status(unit), parts[1].status(unit)
        had, has = status if gone else status[::-1]
        failed = passed & (had == 0) & np.isfinite(has) & (has != 0)
        reason[failed], what[failed] = "status", _failure(lacking, unit)[failed]
        thresholds[failed] = np.nan
        values = [np.where(failed, *pair) for pair in zip(status, values, strict=True)]
    if new:
        other = rules[1 if not gone else 0].condition.cuts()
        match = next((c.text for c in other if _alike(c, cut)), "–")
        text = f"select: {match} → {cut.text}" if gone else f"select: {cut.text} → {match}"
        cause = np.where(reason == "expression", text, cause).astype(object)
    out.loc[at, "reason"], out.loc[at, "what"] = reason, what
    out.loc[at, "value_a"], out.loc[at, "value_b"] = values
    out.loc[at, "threshold"], out.loc[at, "cause"] = thresholds, cause


def _failure(table: StateTable, unit: str) -> Array:
    """Return in words, for every state, that a unit failed."""
    message = np.array([m or "" for m in table.key(unit, "message")], object)
    text: Array = f"{unit}.status" + np.where(message == "", "", ": ").astype(object) + message
    return text


def _numbers(table: StateTable, quantity: Expression | None) -> Array:
    """Return a quantity for every state; NaN where a run lacks a column of it."""
    if quantity is None or not table.knows(quantity):
        return np.full(len(table.states), np.nan)
    return table.numbers(quantity)


def _moved(
    both: Both, rules: tuple[SelectionRule, SelectionRule], rows: pd.DataFrame
) -> pd.DataFrame:
    """Say why common candidates have another rank."""
    out = _blank(rows)
    states = [rows[f"state_{side}"].to_numpy().astype(np.int64) for side in "ab"]
    tables = both.tables(states[0], states[1], rules)
    ranks = [rule.rank for rule in rules]
    if None in ranks:
        out["reason"] = "others" if ranks[0] is ranks[1] else "expression"
        out["what"] = "order of names" if ranks[0] is ranks[1] else "rank"
        return out
    known = [rank for rank in ranks if rank is not None]
    values = [t.numbers(rank) for t, rank in zip(tables, known, strict=True)]
    texts = [rank.text for rank in known]
    out["value_a"], out["value_b"] = values
    pairs = _against(both, rules, rows, "a")
    same = pairs["state_b"].to_numpy() == states[1]
    why = np.where(same, pairs["why"].to_numpy(), "another of its states")
    cause = causes_of(*tables, units_in(*known), why)
    if _squeezed(texts[0]) != _squeezed(texts[1]):
        out["reason"], out["what"] = "expression", f"rank: {texts[0]} → {texts[1]}"
        return out
    differ = _differ(tables, known)
    out["reason"] = np.where(differ, "rank", "others").astype(object)
    out["what"] = np.where(differ, texts[1], "others before it came, went or moved").astype(object)
    out["cause"] = np.where(differ, cause, "").astype(object)
    return out


def _limit(rule: SelectionRule) -> str:
    return "none" if rule.limit is None else str(rule.limit)


def _differ(tables: tuple[StateTable, StateTable], ranks: Sequence[Expression]) -> Array:
    """Say where what two runs rank by, numbers or text, is not the same."""
    a, b = (table.evaluate(rank) for table, rank in zip(tables, ranks, strict=True))
    unknown = np.ma.getmaskarray(a), np.ma.getmaskarray(b)
    found: Array = np.where(unknown[0] | unknown[1], unknown[0] != unknown[1], a.data != b.data)
    return found


def _alike(a: Expression, b: Expression) -> bool:
    """Say whether two conditions hold the same against a number, whichever it is."""
    quantities = [measured(cut)[0] for cut in (a, b)]
    shapes = [q and _shape(q.root) for q in quantities]
    return shapes[0] is not None and shapes[0] == shapes[1]


def _shape(node: Node) -> tuple[Any, ...]:
    """Return a tree without the places it had in its text."""
    match node:
        case Literal(value=value):
            return (value,)
        case Name(name=name):
            return (name,)
    return (node.operation, *map(_shape, node.arguments))


def _squeezed(text: str) -> str:
    return " ".join(text.split())
