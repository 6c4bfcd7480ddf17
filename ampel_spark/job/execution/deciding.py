"""T0 of a run: what is judged, and what decision sets of the lake hold already."""

from __future__ import annotations

import functools
import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import functions as f

from ampel_spark.job.execution.asking import ask_filters
from ampel_spark.job.execution.lacking import lacking
from ampel_spark.lake.commits import Change, commit, insert
from ampel_spark.lake.decisions import newest_parts
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.parts import Part, arrow_schema
from ampel_spark.lake.progress import progress
from ampel_spark.lake.reading import read
from ampel_spark.lake.tables import TABLES
from ampel_spark.lake.tasks import TOLD
from ampel_spark.t0.judge import judge
from ampel_spark.t0.parts import write_decisions
from ampel_spark.t0.selection import ChannelFilter
from ampel_spark.t0.sets import Coverage, Plan, looks_around, parts_of, plan
from ampel_spark.t0.verdict import RAISED

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from ampel_spark.job.execution.tiers import Context

__all__ = ["ACCEPTED", "decide", "take_report"]

#: Columns of accepted alerts that the next tier reads.
ACCEPTED = ("channel", "survey", "stock", "name", "alert_id", "jd")
_COUNTED = ("part", "alert_id", "accepted", "bypassed", "cut")


@dataclass
class _Judged:
    """What was judged now of one channel: staged files, and how the alerts fared."""

    parts: list[Part] = field(default_factory=list)
    counts: Counter[tuple[bool, bool, str | None]] = field(default_factory=Counter)
    again: int = 0


def decide(context: Context, selections: Sequence[ChannelFilter]) -> pa.Table:
    """T0: judge for every channel the alerts that its set has not yet; return what is accepted.

    Parameters
    ----------
    context : Context
        The run's.
    selections : sequence of ChannelFilter
        The channels.

    Returns
    -------
    Arrow table
        `ACCEPTED` of the accepted alerts of all channels.
    """
    lake, survey = context.lake, context.job.survey.label
    wanted = Coverage(context.versions.alerts, context.as_of)
    folder = Path(context.folder)
    for line in lacking(context):
        context.out(f"warning: {line}")
    if not context.dry:
        lake.ensure(TABLES["decisions"])
        folder = Path(lake.path("decisions"))
    while True:
        plans = plan(lake, survey, selections, wanted)
        judged = _judge(context, [each for each in plans if not each.is_there], folder)
        if context.dry or _commit(context, plans, judged):
            break
    context.decisions |= {p.judged.channel: p.ref(context.as_of) for p in plans}
    accepted = []
    for each in plans:
        mine = judged.get(each.judged.channel, _Judged())
        staged = [folder / part.name for part in mine.parts] if context.dry else []
        rows, counts = _outcome(lake, each, context.as_of, mine, staged)
        _report(context, each, counts, rows, mine)
        accepted.append(rows)
    return pa.concat_tables(accepted)


def _judge(context: Context, plans: Sequence[Plan], folder: Path) -> dict[str, _Judged]:
    """Judge what plans lack, those that lack the same in one scan; stage it, by channel."""
    groups: dict[Any, list[Plan]] = {}
    for each in plans:
        growth = each.growth
        key = None if growth is None else (growth.since, looks_around(each.judged))
        groups.setdefault(key, []).append(each)
    found: dict[str, _Judged] = {}
    for mine in groups.values():
        filters = [each.judged for each in mine]
        if mine[0].growth is None:
            rows = _judged(context, _until(context.alerts(), context.as_of), filters)
            rows = rows.withColumn("again", f.lit(False))
        else:
            rows = _grown(context, mine, filters)
        sets = {each.judged.channel: (each.set_id, each.part) for each in mine}
        for report in _written(context, rows, sets, folder):
            take_report(found, report)
    return found


def take_report(found: dict[str, _Judged], text: str) -> None:
    """Add what a task reports to what was judged, by channel."""
    report = json.loads(text)
    channel = found.setdefault(report["channel"], _Judged())
    channel.parts.append(Part(**report["part"]))
    channel.again += report["again"]
    for accepted, bypassed, cut, number in report["counts"]:
        channel.counts[accepted, bypassed, cut] += number


def _written(
    context: Context, rows: DataFrame, sets: Mapping[str, tuple[str, int]], folder: Path
) -> list[str]:
    from pyspark.sql.pandas.types import from_arrow_schema

    write = functools.partial(write_decisions, str(folder), sets)
    with progress(context.lake.spark, "decisions", context.out):
        told = rows.mapInArrow(write, from_arrow_schema(TOLD)).collect()
    return [row["report"] for row in told]


def _judged(context: Context, alerts: DataFrame, filters: Sequence[ChannelFilter]) -> DataFrame:
    """Return the decisions on alerts; filters in Python get what the run may read of the past."""

    def ask(rows: DataFrame, alerts: DataFrame, channels: Sequence[ChannelFilter]) -> DataFrame:
        rows = context.stage(f"asked-{uuid.uuid4().hex}", rows)
        versions = context.versions
        points = context.lake.read("datapoints", versions.datapoints)
        sightings = None
        if versions.sightings is not None:
            sightings = context.lake.read("sightings", versions.sightings)
        return ask_filters(rows, alerts, points, sightings, channels)

    return judge(alerts, filters, context.run_id, ask)


def _until(alerts: DataFrame, until: float | None) -> DataFrame:
    return alerts if until is None else alerts.where(f.col("jd") <= until)


def _grown(context: Context, plans: Sequence[Plan], filters: Sequence[ChannelFilter]) -> DataFrame:
    """Return the decisions by which sets grow that have covered the same alerts."""
    new = _new_alerts(context, plans[0])
    if not looks_around(filters[0]):
        return _judged(context, new, filters).withColumn("again", f.lit(False))
    # Alerts of an object before its first new one have seen all that they are to see.
    key = ["survey", "stock"]
    at = f.struct("jd", "alert_id")
    keys = context.stage("new_alerts", new.select(*key, "alert_id", "jd"))
    first = keys.groupBy(*key).agg(f.min(at).alias("first"))
    alerts = _until(context.alerts(), plans[0].covers.until)
    rows = _judged(context, alerts.join(first.select(*key), key, "left_semi"), filters)
    ids = keys.select(*key, "alert_id", f.lit(False).alias("again"))
    rows = rows.join(first, key).where(at >= f.col("first")).drop("first")
    rows = rows.join(ids, [*key, "alert_id"], "left")
    return rows.withColumn("again", f.coalesce("again", f.lit(True)))


def _new_alerts(context: Context, each: Plan) -> DataFrame:
    """Return the alerts that a set is to cover and does not cover yet."""
    growth = each.growth
    assert growth is not None
    alerts, spark = context.alerts(), context.lake.spark
    since, until = growth.since, growth.to
    if growth.came.ids is not None:
        ids = spark.createDataFrame(pa.table({"alert_id": growth.came.ids}))
        came = alerts.join(ids, "alert_id", "left_semi").select(*alerts.columns)
    elif growth.came.files:
        schema = context.lake.read("alerts", context.versions.alerts).schema
        came = spark.read.schema(schema).parquet(*growth.came.files)
        came = came.where(f.col("survey") == context.job.survey.label)
    else:
        came = alerts.where(f.lit(False))
    came = _until(came, since.until)
    if since.end == until.end:
        return came
    # What is later than the set's time is new, whenever it came.
    return came.unionByName(_until(alerts, until.until).where(f.col("jd") > f.lit(since.until)))


def _commit(context: Context, plans: Sequence[Plan], judged: Mapping[str, _Judged]) -> bool:
    """Add what was judged to the lake; False if another run has added to one of the sets."""
    grown = [each for each in plans if not each.is_there]
    if not grown:
        return True
    lake, sets = context.lake, TABLES["decision_sets"]
    rows = [_row(context, each, judged.get(each.judged.channel, _Judged())) for each in grown]
    parts = [part for each in judged.values() for part in each.parts]
    lost: list[bool] = []

    def look(version: int) -> Change | None:
        there = {(row["set_id"], row["part"]) for row in parts_of(lake)}
        lost[:] = [any((each.set_id, each.part) in there for each in grown)]
        return None if lost[0] else Change(parts, lasting=True)

    # With the files the commit has the rows of their sets: a kill leaves both, or neither.
    note = {"run_id": context.run_id, "sets": rows}
    version = commit(lake, TABLES["decisions"], look, note)
    if lost[0]:
        for part in parts:
            Path(lake.path("decisions"), part.name).unlink()
        return False
    named = [row | {"decisions_version": version} for row in rows]
    insert(lake, sets, pa.Table.from_pylist(named, arrow_schema(sets)), {"run_id": context.run_id})
    context.outputs["decisions"] = version
    return True


def _row(context: Context, each: Plan, mine: _Judged) -> dict[str, Any]:
    """Return the row of ``decision_sets`` of what was judged."""
    counts = _summed(mine.counts)
    lost = counts.pop("cuts")
    return {
        "set_id": each.set_id,
        "part": each.part,
        "channel": each.judged.channel,
        "survey": context.job.survey.label,
        "trace_id": each.judged.trace_id,
        "alerts_version": each.covers.version,
        "until_jd": each.covers.until,
        **counts,
        "revised": mine.again,
        "cuts": [*lost],
        "lost": [*lost.values()],
        "run_id": context.run_id,
    }


def _summed(counts: Mapping[tuple[bool, bool, str | None], int]) -> dict[str, Any]:
    """Return how many alerts there are, were accepted and bypassed, and were lost by each cut."""
    lost = Counter[str]()
    for (accepted, _, cut), number in counts.items():
        if not accepted:
            lost[str(cut)] += number
    return {
        "alerts": sum(counts.values()),
        "accepted": sum(n for (accepted, _, _), n in counts.items() if accepted),
        "bypassed": sum(n for (_, bypassed, _), n in counts.items() if bypassed),
        "cuts": dict(sorted(lost.items())),
    }


def _outcome(
    lake: Lake, each: Plan, until: float | None, mine: _Judged, staged: Sequence[Path]
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the accepted alerts of a channel, and the counts of all its alerts."""
    ref = each.ref(until)
    revised = mine.again or any(part["revised"] for part in each.parts)
    names = list(dict.fromkeys((*ACCEPTED, "part")))
    # An alert that a later part rejects is found among all alone.
    where = ref.rows if revised else ref.rows & pc.field("accepted")
    rows = _rows(lake, [*names, "accepted"], where, staged)
    if revised:
        rows = newest_parts(rows)
    rows = rows.filter(rows["accepted"]).select(list(ACCEPTED))
    if not revised and (until is None or each.covers.end <= until):
        return rows, _added([*each.parts, _counted(mine)])
    counted = newest_parts(_rows(lake, list(_COUNTED), ref.rows, staged))
    groups = counted.group_by(["accepted", "bypassed", "cut"]).aggregate([([], "count_all")])
    found = {(g["accepted"], g["bypassed"], g["cut"]): g["count_all"] for g in groups.to_pylist()}
    return rows, _summed(found)


def _rows(
    lake: Lake, names: Sequence[str], where: pc.Expression, staged: Sequence[Path]
) -> pa.Table:
    """Return rows of the lake's decisions, and of those that a dry run has staged."""
    names = list(dict.fromkeys(names))
    parts = [arrow_schema(TABLES["decisions"]).empty_table().select(names)]
    if lake.has("decisions"):
        parts.append(read(lake.root, "decisions", names, where))
    parts += [pq.read_table(path, columns=names, filters=where) for path in staged]
    return pa.concat_tables(parts, promote_options="permissive")


def _counted(mine: _Judged) -> dict[str, Any]:
    counts = _summed(mine.counts)
    lost = counts.pop("cuts")
    return counts | {"cuts": [*lost], "lost": [*lost.values()]}


def _added(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of the counts of parts."""
    lost = Counter[str]()
    for part in parts:
        lost.update(dict(zip(part["cuts"], part["lost"], strict=True)))
    sums = {name: sum(part[name] for part in parts) for name in ("alerts", "accepted", "bypassed")}
    return sums | {"cuts": dict(lost)}


def _report(
    context: Context, each: Plan, counts: dict[str, Any], accepted: pa.Table, mine: _Judged
) -> None:
    """Note the counts of a channel, and print them."""
    lost = counts["cuts"]
    judged = sum(mine.counts.values())
    names = _names(each.judged)
    # what `judge` calls its cuts is not known before
    names += sorted(name for name in lost if name not in names)
    tier = counts | {
        "cuts": [[name, lost.get(name, 0)] for name in names],
        "objects": len(np.unique(accepted["stock"].to_numpy())),
        "judged": judged,
    }
    channel = each.judged.channel
    context.counts.t0[channel] = tier
    known = "" if each.whole is not None else f", {judged} of them judged now"
    context.out(
        f"T0: channel {channel}: {tier['accepted']} of {tier['alerts']} alerts accepted, "
        f"{tier['objects']} objects{known}"
    )
    for name in names:
        if name.startswith(RAISED):
            context.out(
                f"T0: channel {channel}: {name} for {lost[name]} alerts, which are rejected;"
                " `ampel-spark explain ALERT_ID` shows its words for one of them"
            )


def _names(judged: ChannelFilter) -> list[str]:
    return list(dict.fromkeys(cut.name for cut in judged.cuts()))
