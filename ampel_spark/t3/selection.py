"""Selection of ranked candidates from the results of all units, on Arrow tables.

The input has one row for each (channel, stock, state): ``channel``, ``stock``, ``state_id``, the
state's own columns (``name``, ``n_detections``, ``n_upper_limits``, ``jd_first``, ``jd_last``), and
the columns of units as ``unit.column``; they are null if the unit has no row for the state. Columns
that no expression of the selection names may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.errors import ConfigError
from ampel_spark.expressions import Expression, parse
from ampel_spark.expressions.values import number

__all__ = ["CutLoss", "Losses", "Selection", "losses", "select"]

#: Columns of every table of candidates.
FIXED = ("channel", "rank", "stock", "name", "state_id")
_RESERVED = frozenset({*FIXED, "selection", "run_id"})
_ALL = "True"


@dataclass(frozen=True)
class Selection:
    """A condition on states, the order of candidates, and their columns.

    Attributes
    ----------
    condition : Expression
        The condition that selected states meet.
    rank : Expression or None
        The order of candidates, smallest first.
    columns : mapping of str to Expression
        The candidates' columns, by label.
    limit : int or None
        The largest number of candidates of each channel.
    """

    condition: Expression
    rank: Expression | None
    columns: Mapping[str, Expression]
    limit: int | None

    @classmethod
    def parse(
        cls,
        select: str | None = None,
        rank: str | None = None,
        columns: Sequence[str] | Mapping[str, str] = (),
        limit: int | None = None,
    ) -> Selection:
        """Return the selection that the texts of a job describe.

        Parameters
        ----------
        select : str, optional
            The condition; by default every state is selected.
        rank : str, optional
            A number or string to order by, smallest first, or ``-x`` for largest first; by default
            candidates are in order of their names.
        columns : sequence of str, or mapping of str to str
            Columns by name (``salt_fit.x1`` gets the label ``salt_fit_x1``), or expressions by
            label.
        limit : int, optional
            The largest number of candidates of each channel.

        Raises
        ------
        ConfigError
            If an expression cannot be parsed, or a label is absent, wrong or not unique.
        """
        if limit is not None and limit < 1:
            raise ConfigError(f"limit is {limit}: give a number of candidates from 1, or none")
        condition = _parse("select", select or _ALL)
        order = _parse("rank", rank) if rank else None
        return cls(condition, order, _labelled(columns), limit)

    def expressions(self) -> list[Expression]:
        """Return all expressions: what selects, what ranks, and what is shown."""
        rank = [self.rank] if self.rank else []
        return [self.condition, *rank, *self.columns.values()]

    def check(self, types: Mapping[str, str]) -> None:
        """Check all expressions against the types of the columns, by name.

        Raises
        ------
        ConfigError
            If a column is unknown, a type is wrong, or the condition is not true or false.
        """
        if (kind := _check("select", self.condition, types)) != "boolean":
            raise ConfigError(f"select: {self.condition.text!r} is a {kind}, not a condition")
        if self.rank and (kind := _check("rank", self.rank, types)) not in ("number", "string"):
            raise ConfigError(f"rank: {self.rank.text!r} is no number or string to order by")
        for label, expression in self.columns.items():
            _check(f"columns: {label}", expression, types)


@dataclass(frozen=True)
class CutLoss:
    """One of the conditions that ``and`` joins, applied to the states that passed the ones before.

    Attributes
    ----------
    cut : str
        The condition's text.
    n_in, n_out : int
        The number of states before and after it.
    n_unknown : int
        The part of ``n_in - n_out`` for which the condition is unknown.
    """

    cut: str
    n_in: int
    n_out: int
    n_unknown: int


@dataclass(frozen=True)
class Losses:
    """The counts of a selection among the states of one channel.

    Attributes
    ----------
    channel : str
        The channel's name.
    selected, rejected, unknown : int
        The number of states for which the condition is true, false, unknown.
    objects : int
        The number of objects among the selected states.
    cuts : tuple of CutLoss
        The loss at each of the conditions that ``and`` joins.
    """

    channel: str
    selected: int
    rejected: int
    unknown: int
    objects: int
    cuts: tuple[CutLoss, ...]


def select(rows: pa.Table, selection: Selection) -> pa.Table:
    """Return the candidates: one row for each selected object of each channel.

    Candidates are in order of `Selection.rank`, unknown last, then of names. If several states of
    an object are selected, the first in this order represents it, and of equal ones the latest.

    Parameters
    ----------
    rows : Arrow table
        The table described in this module's docstring.
    selection : Selection
        The selection.

    Returns
    -------
    Arrow table
        ``channel, rank, stock, name, state_id`` and the selection's columns; the rank counts from
        1 in each channel.
    """
    types = _types(rows)
    selection.check(types)
    good = _evaluated(selection.condition, types, rows).filled(False)
    rows = rows.filter(pa.array(good))
    rows = rows.take(_in_order(rows, types, selection.rank))
    # In this order, the first state of an object represents it.
    channels, channel = np.unique(_words(rows["channel"]), return_inverse=True)
    stocks, stock = np.unique(rows["stock"].to_numpy(), return_inverse=True)
    _, first = np.unique(channel.astype(np.int64) * len(stocks) + stock, return_index=True)
    first = np.sort(first)
    counts = np.bincount(channel[first], minlength=len(channels))
    rank = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    if selection.limit is not None:
        first, rank = first[rank <= selection.limit], rank[rank <= selection.limit]
    rows = rows.take(pa.array(first))
    columns = {name: rows[name] for name in FIXED if name != "rank"}
    columns["rank"] = pa.array(rank, pa.int32())
    shown = {label: _shown(e, types, rows) for label, e in selection.columns.items()}
    return pa.table({name: columns[name] for name in FIXED} | shown)


def _types(rows: pa.Table) -> dict[str, str]:
    return {f.name: str(f.type) for f in rows.schema}


def _evaluated(
    expression: Expression, types: Mapping[str, str], rows: pa.Table
) -> np.ma.MaskedArray:
    """Return the value of an expression for each row."""
    found = expression.evaluate(types, {name: rows[name] for name in expression.names})
    return np.ma.MaskedArray(
        np.broadcast_to(np.ma.getdata(found), len(rows)),
        mask=np.broadcast_to(np.ma.getmaskarray(found), len(rows)),
    )


def _in_order(rows: pa.Table, types: Mapping[str, str], rank: Expression | None) -> pa.Array:
    """Return the places of rows in order of channel, rank, name, object, and the latest first."""
    keys = {
        "channel": rows["channel"],
        # a name that is null comes first, a rank or a time that is null last
        "named": pc.is_valid(rows["name"]),
        "name": rows["name"],
        "stock": rows["stock"],
        "late": pc.fill_null(pc.negate(rows["jd_last"]), np.inf),
        "state_id": rows["state_id"],
    }
    if rank is not None:
        found = _evaluated(rank, types, rows)
        nothing = "" if found.dtype == object else 0
        by = {"unknown": np.ma.getmaskarray(found), "rank": found.filled(nothing)}
        keys = {"channel": keys["channel"], **by, **keys}
    order = [(name, "ascending") for name in keys]
    return pc.sort_indices(pa.table(keys), sort_keys=order)


def losses(rows: pa.Table, selection: Selection) -> tuple[Losses, ...]:
    """Return the counts of a selection for each channel, in order of names.

    Parameters are as for `select`.
    """
    types = _types(rows)
    selection.check(types)
    whole = _evaluated(selection.condition, types, rows)
    cuts = [(cut.text, _evaluated(cut, types, rows)) for cut in selection.condition.cuts()]
    channels, stocks = _words(rows["channel"]), rows["stock"].to_numpy()
    return tuple(
        _losses(channel, channels == channel, stocks, whole, cuts)
        for channel in np.unique(channels).tolist()
    )


def _losses(
    channel: str,
    mine: npt.NDArray[np.bool_],
    stocks: npt.NDArray[np.int64],
    whole: np.ma.MaskedArray,
    cuts: Sequence[tuple[str, np.ma.MaskedArray]],
) -> Losses:
    """Return the counts of one channel, whose rows are `mine`."""
    selected, unknown = mine & whole.filled(False), mine & np.ma.getmaskarray(whole)
    parts, left = [], mine
    for text, found in cuts:
        passed = left & found.filled(False)
        lost = left & np.ma.getmaskarray(found)
        parts.append(CutLoss(text, int(left.sum()), int(passed.sum()), int(lost.sum())))
        left = passed
    return Losses(
        channel,
        int(selected.sum()),
        int((mine & ~selected & ~unknown).sum()),
        int(unknown.sum()),
        len(np.unique(stocks[selected])),
        tuple(parts),
    )


def _words(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    return np.array(column.to_pylist(), dtype=object)


def _shown(expression: Expression, types: Mapping[str, str], rows: pa.Table) -> pa.ChunkedArray:
    """Return a column unchanged, or the value of an expression, whose numbers are doubles."""
    if expression.name:
        return rows[expression.name]
    kind, found = expression.check(types), _evaluated(expression, types, rows)
    values, known = np.ma.getdata(found), ~np.ma.getmaskarray(found)
    if kind == "number":
        values, known = number((values, known))
        values = values.astype(np.float64)
    type_ = {"number": pa.float64(), "string": pa.string(), "boolean": pa.bool_()}[kind]
    return pa.chunked_array([pa.array(values, type_, mask=~known)])


def _parse(key: str, text: str) -> Expression:
    try:
        return parse(text)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None


def _check(key: str, expression: Expression, types: Mapping[str, str]) -> str:
    try:
        return expression.check(types)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None


def _labelled(columns: Sequence[str] | Mapping[str, str]) -> dict[str, Expression]:
    labelled: dict[str, Expression] = {}
    pairs = columns.items() if isinstance(columns, Mapping) else ((None, text) for text in columns)
    for given, text in pairs:
        expression = _parse("columns", text)
        if given is None and expression.name is None:
            raise ConfigError(
                f"columns: {text!r} needs a label, as it is no plain column: write a mapping of"
                " label: expression"
            )
        label = given or str(expression.name).replace(".", "_")
        if not label.isidentifier() or label.startswith("_"):
            raise ConfigError(f"columns: the label {label!r} is no name: use letters, digits and _")
        if label in _RESERVED and expression.name == label:
            continue  # stands in every table of candidates already
        # Spark and Delta do not tell upper from lower case
        if label.lower() in {other.lower() for other in (*labelled, *_RESERVED)}:
            raise ConfigError(f"columns: the label {label!r} stands there twice: choose another")
        labelled[label] = expression
    return labelled
