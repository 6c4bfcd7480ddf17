"""Selection: from the results of all units to ranked candidates.

The input has one row for each (channel, stock, state): ``channel``, ``stock``, ``state_id``, the
state's own columns (``name``, ``n_detections``, ``n_upper_limits``, ``jd_first``, ``jd_last``), and
for each unit one struct column of the unit's name with the columns of its table (null where the
unit has no row for the state).
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
    """What is selected, in which order, and which columns it shows.

    Attributes
    ----------
    condition : Expression
    rank : Expression or None
        The candidates' order, smallest first.
    columns : mapping of str to Expression
        By label.
    limit : int or None
        So many candidates of each channel at most.
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
        """Parse what stands in a job.

        Parameters
        ----------
        select : str, optional
            Condition; without it every state is selected.
        rank : str, optional
            Number or string to order by, smallest first; ``-x`` for the largest first. Without it
            the order is that of the names.
        columns : sequence of str, or mapping of str to str
            Columns by name (``salt_fit.x1`` is labelled ``salt_fit_x1``), or expressions by label.
        limit : int, optional

        Raises
        ------
        ConfigError
            For what is no expression, and for labels that clash or are missing.
        """
        if limit is not None and limit < 1:
            raise ConfigError(f"limit is {limit}: give a number of candidates from 1, or none")
        condition = _parse("select", select or _ALL)
        order = _parse("rank", rank) if rank else None
        return cls(condition, order, _labelled(columns), limit)

    def check(self, types: Mapping[str, str]) -> None:
        """Check all expressions against the types of the columns that there are.

        Raises
        ------
        ConfigError
            For an unknown column, a wrong type, or a condition that is none.
        """
        if (kind := _check("select", self.condition, types)) != "boolean":
            raise ConfigError(f"select: {self.condition.text!r} is a {kind}, not a condition")
        if self.rank and (kind := _check("rank", self.rank, types)) not in ("number", "string"):
            raise ConfigError(f"rank: {self.rank.text!r} is no number or string to order by")
        for label, expression in self.columns.items():
            _check(f"columns: {label}", expression, types)


@dataclass(frozen=True)
class CutLoss:
    """One of the conditions that ``and`` joins, applied to what the ones before it let through.

    Attributes
    ----------
    cut : str
    n_in, n_out : int
        States before and after it.
    n_unknown : int
        States lost because its answer is unknown, part of ``n_in - n_out``.
    """

    cut: str
    n_in: int
    n_out: int
    n_unknown: int


@dataclass(frozen=True)
class Losses:
    """What a selection did with the states of one channel.

    Attributes
    ----------
    channel : str
    selected, rejected, unknown : int
        States for which the condition is true, false, unknown.
    objects : int
        Distinct objects among the selected states.
    cuts : tuple of CutLoss
    """

    channel: str
    selected: int
    rejected: int
    unknown: int
    objects: int
    cuts: tuple[CutLoss, ...]


def column_types(schema: StructType) -> dict[str, str]:
    """Return the Spark SQL type of every name an expression can use on a table of results."""
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

    The order is that of `Selection.rank`, unknown last, then of the names; of several selected
    states of one object the first in this order stands for it, and among equals the latest one.

    Returns
    -------
    DataFrame
        ``channel, rank, stock, name, state_id`` and the columns asked for; rank counts from 1 in
        each channel.
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
    """Count what a selection selects, rejects and cannot know, and what each cut of it loses.

    Returns
    -------
    tuple of Losses
        One for each channel, in order of their names. This runs one Spark job.
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
    """Return a column as its table has it, and anything else as the expression computes it."""
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
