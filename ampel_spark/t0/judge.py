"""Judge alerts: every channel's filter over every alert, in one scan.

The cuts of a filter become one CASE expression, which stops at the first cut that an alert fails
and gives its name, value and threshold. Several channels are several such expressions over the same
row. Nothing here runs Python for each row; the Gaia veto works on Arrow batches, and is asked only
for alerts that all other cuts have let through. So is a filter's own `judge`, which is Python
(`ampel_spark.t1.pasts`), after that.

The expressions are long, and HotSpot only interprets methods of more than 8000 bytes: with Spark's
``spark.sql.codegen.hugeMethodLimit`` at 8000, a judgement takes a third of the time that it takes
with Spark's default.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from ampel_spark.calibration.alerts import calibrated_alerts
from ampel_spark.errors import ConfigError
from ampel_spark.expressions import Expression
from ampel_spark.expressions.kinds import INTEGER, NUMBER
from ampel_spark.expressions.sql import literal
from ampel_spark.t0.cuts import Cut
from ampel_spark.t0.filters import DecentFilter
from ampel_spark.t0.gaia import GaiaRule, veto_column
from ampel_spark.t0.history import archive_history, packet_history, visible
from ampel_spark.t0.quantities import GAIA, HISTORY, Quantities, base_columns, flat_types
from ampel_spark.t0.selection import ChannelFilter

__all__ = ["CUT", "Ask", "judge"]

#: Asks the filters that judge in Python: gets the rows about which one is asked, the alerts and the
#: channels, and returns the rows with what each said, without ``_alert`` and ``_past…``.
Ask: TypeAlias = Callable[[DataFrame, DataFrame, Sequence[ChannelFilter]], DataFrame]

#: The first cut that an alert fails: Spark's type of it.
CUT = "struct<cut: string, value: double, threshold: double>"

_ALERT = ("survey", "stock", "name", "alert_id", "jd")
_FOUND = ("accepted", "group", "cut", "value", "threshold", "bypassed", "trace_id", "run_id")


def judge(
    alerts: DataFrame,
    filters: Sequence[ChannelFilter],
    run_id: str | None = None,
    ask: Ask | None = None,
) -> DataFrame:
    """Return the decisions: one row for each alert and each channel that may see it.

    Parameters
    ----------
    alerts : DataFrame
        The alerts table, or as much of it as was known at some time: `on_stock_match` and
        ``history: archive`` look at all alerts of an object that are in it.
    filters : sequence of ChannelFilter
        One for each channel.
    run_id : str, optional
        For the column of that name.
    ask : callable, optional
        Asks filters that judge in Python; needed where there is one.

    Returns
    -------
    DataFrame
        Columns of the ``decisions`` table, without the decision set. Rows are in no particular
        order.

    Raises
    ------
    ConfigError
        If a channel occurs twice, or a cut needs a column that the alerts do not have.
    """
    _check_channels(filters)
    releases = list(dict.fromkeys(s.release if s.calibrates else None for s in filters))
    parts = [
        _judge(
            alerts if release is None else calibrated_alerts(alerts, release),
            [s for s in filters if (s.release if s.calibrates else None) == release],
            run_id,
            ask,
        )
        for release in releases
    ]
    return functools.reduce(DataFrame.unionByName, parts)


def _judge(
    alerts: DataFrame, filters: Sequence[ChannelFilter], run_id: str | None, ask: Ask | None
) -> DataFrame:
    """Return the decisions of channels that see the same alerts' photometry."""
    _check(alerts, filters)
    rows = _with_history(alerts, filters)
    rows = _with_verdicts(rows, filters)
    rows = _with_stars(rows, filters)
    rows = _with_judgements(rows, alerts, filters, ask)
    rows = _with_known(rows, filters)
    if len(filters) == 1:
        found = _decision(0, filters[0], run_id)
        rows = rows.where("_sees0").select(*_ALERT, *(c.alias(n) for n, c in found.items()))
    else:
        every = [
            f.when(
                f.col(f"_sees{k}"),
                f.struct(*(c.alias(n) for n, c in _decision(k, s, run_id).items())),
            )
            for k, s in enumerate(filters)
        ]
        rows = rows.select(*_ALERT, f.explode(f.array(*every)).alias("_found"))
        rows = rows.where(f.col("_found").isNotNull()).select(*_ALERT, "_found.*")
    return rows.select("channel", *_ALERT, *_FOUND)


def _check_channels(filters: Sequence[ChannelFilter]) -> None:
    if not filters:
        raise ConfigError("no channel has a filter: give t0 an entry")
    twice = [name for name, n in Counter(s.channel for s in filters).items() if n > 1]
    if twice:
        raise ConfigError(
            f"channel {twice[0]} has more than one filter; give each filter its own channel"
        )


def _check(alerts: DataFrame, filters: Sequence[ChannelFilter]) -> None:
    have = {*flat_types(dict(alerts.dtypes))}
    for s in filters:
        cuts = [*s.cuts(), *(cut for group in s.filter.groups() for cut in group)]
        for cut in cuts:
            needed = {c for q in cut.quantities() for c in base_columns(q)}
            if lacking := sorted(needed - have):
                raise ConfigError(
                    f"channel {s.channel}: cut {cut.name!r} needs the column {lacking[0]!r}, which"
                    f" the alerts of this survey do not have{_cure(lacking[0])}"
                )


def _cure(column: str) -> str:
    """Say how alerts get a column that their survey declares."""
    if "." not in column:
        return ""
    return " yet: they were read before the survey's file declared it; read them into a new lake"


def _with_history(alerts: DataFrame, filters: Sequence[ChannelFilter]) -> DataFrame:
    """Add a struct of the history for each way of seeing it that the filters have."""
    rows = alerts
    for n, (history, access) in enumerate(_views(filters)):
        add = packet_history if history == "packet" else archive_history
        rows = add(rows, access, f"_history{n}")
    return rows


def _views(filters: Sequence[ChannelFilter]) -> list[tuple[str, frozenset[int] | None]]:
    return list(dict.fromkeys((s.history, s.access) for s in filters))


def _quantities(
    rows: DataFrame, filters: Sequence[ChannelFilter], k: int, more: Mapping[str, str] | None = None
) -> Quantities:
    n = _views(filters).index((filters[k].history, filters[k].access))
    history = {name: f"_history{n}.{name}" for name in HISTORY}
    return Quantities(dict(rows.dtypes), {**history, **(more or {})})


def _with_verdicts(rows: DataFrame, filters: Sequence[ChannelFilter]) -> DataFrame:
    """Add, for each selection, whether it sees the alert, the first cut failed, and the group."""
    columns = [f.col(name) for name in (*_ALERT, "ra", "dec")]
    for k, s in enumerate(filters):
        quantities = _quantities(rows, filters, k)
        cuts = [cut for cut in s.cuts() if not cut.needs_stars]
        columns += [
            visible(f.col("programid"), s.access).alias(f"_sees{k}"),
            f.expr(_first_failure(cuts, quantities)).alias(f"_cut{k}"),
            f.expr(_group(s.filter.groups(), quantities)).alias(f"_group{k}"),
        ]
    if any(s.filter.judges for s in filters):
        views = _views(filters)
        whole = [name for name in rows.columns if not name.startswith("_history")]
        columns.append(f.struct(*whole).alias("_alert"))
        columns += [
            f.col(f"_history{views.index((s.history, s.access))}").alias(f"_past{k}")
            for k, s in enumerate(filters)
            if s.filter.judges
        ]
    return rows.select(*columns)


def _with_stars(rows: DataFrame, filters: Sequence[ChannelFilter]) -> DataFrame:
    """Ask for stars where a selection has a catalogue, about alerts that nothing else rejected."""
    for k, s in enumerate(filters):
        if s.gaia is None:
            continue
        asked = f.col(f"_sees{k}") & f.col(f"_cut{k}").isNull()
        star = _star(s, f.when(asked, f.col("ra")), f.when(asked, f.col("dec")))
        rows = rows.withColumn(f"_star{k}", star)
        quantities = Quantities(dict(rows.dtypes), {name: f"_star{k}.{name}" for name in GAIA})
        cuts = [cut for cut in s.filter.cuts() if cut.needs_stars]
        failure = f.coalesce(f.col(f"_cut{k}"), f.expr(_first_failure(cuts, quantities)))
        rows = rows.withColumn(f"_cut{k}", failure).drop(f"_star{k}")
    return rows


def _with_judgements(
    rows: DataFrame, alerts: DataFrame, filters: Sequence[ChannelFilter], ask: Ask | None
) -> DataFrame:
    """Ask filters that judge in Python, about alerts that no cut rejects."""
    mine = [k for k, s in enumerate(filters) if s.filter.judges]
    if not mine:
        return rows
    if ask is None:
        raise ConfigError(
            f"channel {filters[mine[0]].channel}: its filter judges in Python; give `ask`"
        )
    asked = functools.reduce(Column.__or__, map(_passed, mine))
    rest = ["_alert", *(f"_past{k}" for k in mine)]
    judged = ask(rows.where(asked), alerts, filters)
    return rows.where(~asked).drop(*rest).unionByName(judged)


def _with_known(rows: DataFrame, filters: Sequence[ChannelFilter]) -> DataFrame:
    """Add, where a selection asks, whether an earlier alert of the object had passed its filter."""
    before = (
        Window.partitionBy("survey", "stock")
        .orderBy("jd", "alert_id")
        .rowsBetween(Window.unboundedPreceding, -1)
    )
    known = {
        f"_known{k}": f.coalesce(f.max(_passed(k)).over(before), f.lit(False))
        for k, s in enumerate(filters)
        if s.on_stock_match != "none"
    }
    return rows.withColumns(known) if known else rows


def _passed(k: int) -> Column:
    return f.col(f"_sees{k}") & f.col(f"_cut{k}").isNull()


def _decision(k: int, judged: ChannelFilter, run_id: str | None) -> dict[str, Column]:
    """Return the columns of a decision that the channel decides."""
    how = judged.on_stock_match
    passed = f.col(f"_cut{k}").isNull()
    known = f.lit(False) if how == "none" else f.col(f"_known{k}")
    bypassed = known if how == "bypass" else known & ~passed
    # What is not asked, and what is overruled in silence, leaves nothing behind.
    hidden = known if how in ("bypass", "silent_overrule") else f.lit(False)
    cut, group = f.when(~hidden, f.col(f"_cut{k}")), f.when(passed & ~bypassed, f.col(f"_group{k}"))
    return {
        "channel": f.lit(judged.channel),
        "accepted": passed | known,
        "group": group,
        "cut": cut["cut"],
        "value": cut["value"],
        "threshold": cut["threshold"],
        "bypassed": bypassed,
        "trace_id": f.lit(judged.trace_id),
        "run_id": f.lit(run_id).cast("string"),
    }


def _star(judged: ChannelFilter, ra: Column, dec: Column) -> Column:
    if judged.gaia is None or not isinstance(judged.filter, DecentFilter):
        raise ConfigError(
            f"channel {judged.channel}: only a DecentFilter with a catalogue has a Gaia veto"
        )
    star = veto_column(judged.gaia, GaiaRule.of(judged.filter), ra, dec)
    return f.struct(star["distance"].alias("gaia_distance"), star["allowed"].alias("gaia_allowed"))


def _first_failure(cuts: Sequence[Cut], quantities: Quantities) -> str:
    """Return SQL for cut, value and threshold of the first cut that an alert fails, or null."""
    cases = (
        f"WHEN {_sql(cut.rejects, quantities)} THEN named_struct('cut', {literal(cut.name).sql},"
        f" 'value', {_double(cut.value, quantities)},"
        f" 'threshold', {_double(cut.threshold, quantities)})"
        for cut in cuts
    )
    nothing = f"CAST(NULL AS {CUT})"
    return f"CASE {' '.join(cases)} ELSE {nothing} END" if cuts else nothing


def _group(groups: Sequence[Sequence[Cut]], quantities: Quantities) -> str:
    """Return SQL for the number, from 1, of the first group that keeps the alert out by no cut."""
    cases = (
        "WHEN NOT coalesce({}, false) THEN {}".format(
            " OR ".join(_sql(cut.rejects, quantities) for cut in cuts), n
        )
        for n, cuts in enumerate(groups, start=1)
    )
    return f"CASE {' '.join(cases)} END" if groups else "CAST(NULL AS INT)"


def _sql(expression: Expression, quantities: Quantities) -> str:
    return expression.term(quantities.types, quantities.__getitem__).sql


def _double(expression: Expression | float | None, quantities: Quantities) -> str:
    """Return SQL for a number to record, null for None and for texts."""
    if isinstance(expression, int | float):
        return literal(float(expression)).sql
    if expression is not None:
        term = expression.term(quantities.types, quantities.__getitem__)
        if term.kind in (INTEGER, NUMBER):
            return f"CAST({term.sql} AS DOUBLE)"
    return "CAST(NULL AS DOUBLE)"
