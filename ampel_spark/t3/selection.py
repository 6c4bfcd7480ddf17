"""Selection of ranked candidates from the results of all units.

The input has one row for each (channel, stock, state): ``channel``, ``stock``, ``state_id``, the
state's own columns (``name``, ``n_detections``, ``n_upper_limits``, ``jd_first``, ``jd_last``), and
for each unit a struct column with the unit's name and the columns of its table; it is null if the
unit has no row for the state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as sf
from pyspark.sql.types import StructType

from ampel_spark.errors import ConfigError
from ampel_spark.expressions import Expression, parse

__all__ = ["CutLoss", "Losses", "Selection", "column_types", "losses", "select"]

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
        """Check all expressions against the Spark SQL types of the columns, by name.

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


def column_types(schema: StructType) -> dict[str, str]:
    """Return the Spark SQL types of all names that an expression on a table of results can use."""
    types = {}
    for column in schema.fields:
        if isinstance(column.dataType, StructType):
            for part in column.dataType.fields:
                types[f"{column.name}.{part.name}"] = part.dataType.simpleString()
        else:
            types[column.name] = column.dataType.simpleString()
    return types


def select(results: DataFrame, selection: Selection) -> DataFrame:
    """Return the candidates: one row for each selected object of each channel.

    Candidates are in order of `Selection.rank`, unknown last, then of names. If several states of
    an object are selected, the first in this order represents it, and of equal ones the latest.

    Parameters
    ----------
    results : DataFrame
        The table described in this module's docstring.
    selection : Selection
        The selection.

    Returns
    -------
    DataFrame
        ``channel, rank, stock, name, state_id`` and the selection's columns; the rank counts from
        1 in each channel.
    """
    types = column_types(results.schema)
    selection.check(types)
    order: list[Column] = [sf.col("name"), sf.col("stock")]
    if selection.rank:
        order.insert(0, selection.rank.column(types).asc_nulls_last())
    latest = [sf.col("jd_last").desc_nulls_last(), sf.col("state_id")]
    of_object = Window.partitionBy("channel", "stock").orderBy(*order, *latest)
    of_channel = Window.partitionBy("channel").orderBy(*order)
    first = (
        results.where(selection.condition.column(types))
        .withColumn("rank", sf.row_number().over(of_object))
        .where("rank = 1")
        .withColumn("rank", sf.row_number().over(of_channel))
    )
    if selection.limit:
        first = first.where(sf.col("rank") <= selection.limit)
    shown = [
        _shown(expression, types).alias(label) for label, expression in selection.columns.items()
    ]
    return first.select(*FIXED, *shown).orderBy("channel", "rank")


def losses(results: DataFrame, selection: Selection) -> tuple[Losses, ...]:
    """Return the counts of a selection for each channel, in order of names, by one Spark job.

    Parameters are as for `select`.
    """
    types = column_types(results.schema)
    selection.check(types)
    cuts = selection.condition.cuts()
    columns = {f"c{i}": cut.column(types) for i, cut in enumerate(cuts)}
    whole = selection.condition.column(types)
    table = results.select(
        "channel", "stock", whole.alias("whole"), *(c.alias(n) for n, c in columns.items())
    )

    counts: list[Column] = [
        sf.count_if(sf.col("whole")).alias("selected"),
        sf.count_if(~sf.col("whole")).alias("rejected"),
        sf.count_if(sf.col("whole").isNull()).alias("unknown"),
        sf.count_distinct(sf.when(sf.col("whole"), sf.col("stock"))).alias("objects"),
    ]
    before = sf.lit(True)
    for name in columns:
        counts.append(sf.count_if(before).alias(f"{name}_in"))
        counts.append(sf.count_if(before & sf.col(name).isNull()).alias(f"{name}_unknown"))
        before = before & sf.coalesce(sf.col(name), sf.lit(False))
        counts.append(sf.count_if(before).alias(f"{name}_out"))
    rows = table.groupBy("channel").agg(*counts).orderBy("channel").collect()
    return tuple(_losses(row.asDict(), cuts) for row in rows)


def _losses(row: Mapping[str, Any], cuts: Sequence[Expression]) -> Losses:
    parts = tuple(
        CutLoss(cut.text, row[f"c{i}_in"], row[f"c{i}_out"], row[f"c{i}_unknown"])
        for i, cut in enumerate(cuts)
    )
    return Losses(
        row["channel"], row["selected"], row["rejected"], row["unknown"], row["objects"], parts
    )


def _shown(expression: Expression, types: Mapping[str, str]) -> Column:
    """Return a column unchanged, or the value of an expression."""
    return sf.col(expression.name) if expression.name else expression.column(types)


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
