"""The states that a run asks for, and their light curves as known at that time.

A datapoint is known from the (jd, id) of the first alert that showed it, to those who may see this
alert. So a state as of T holds what the alerts up to T had shown. A datapoint has the values of the
newest revision that was known by then.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from ampel_spark.calibration.release import Release
from ampel_spark.lightcurve import POINT_FIELDS
from ampel_spark.t1.assemble import KIND_CODES, assemble, light_curve_schema, own_kind

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["ALL", "LAST_ID", "Wanted", "light_curves", "requests", "visible_points", "with_own"]

#: The time of a state without a limit in time: later than any alert.
ALL = 9e9
#: Id of no alert: larger than any.
LAST_ID = (1 << 63) - 1


@dataclass(frozen=True)
class Wanted:
    """The settings of a job for tier 1.

    Attributes
    ----------
    states : str
        "latest": one state for each accepted object; "alert": one for each accepted alert; "as_of":
        one for each accepted object and time.
    as_of : sequence of float
        The times for "as_of", JD.
    points : sequence of str
        The kinds of datapoints in states: detection, upper_limit, forced.
    """

    states: str = "latest"
    as_of: Sequence[float] = ()
    points: Sequence[str] = ("detection", "upper_limit")


def visible_points(alerts: DataFrame, datapoints: DataFrame, access: frozenset[int]) -> DataFrame:
    """Return the datapoints that `access` may see, with ``seen_jd, seen_alert_id``.

    These name the first *visible* alert that showed a datapoint; it is known from then on. Only
    objects with hidden alerts need the alerts' histories; for others, the first alert is visible.

    Parameters
    ----------
    alerts, datapoints : DataFrame
        The tables ``alerts`` and ``datapoints``.
    access : frozenset of int
        The programmes (``programid``) whose data may be seen.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    codes = sorted(access)
    mine = datapoints.where(f.col("programid").isin(*codes))
    hidden = alerts.where(~f.col("programid").isin(*codes)).select("stock").distinct()
    plain = mine.join(f.broadcast(hidden), "stock", "left_anti").select(
        "*",
        f.col("first_alert_jd").alias("seen_jd"),
        f.col("first_alert_id").alias("seen_alert_id"),
    )
    none = f.array().cast("array<bigint>")
    ids = f.concat("datapoint_ids", f.coalesce("forced_ids", none))
    shown = (
        alerts.join(f.broadcast(hidden), "stock", "left_semi")
        .where(f.col("programid").isin(*codes))
        .select(
            "survey",
            "stock",
            f.explode(ids).alias("datapoint_id"),
            f.struct("jd", "alert_id").alias("shown"),
        )
    )
    # A revision is known from the first visible alert that showed it. The alert that brought it may
    # be hidden, so any alert from that one to the one that brought the next revision counts.
    key = ["survey", "stock", "datapoint_id"]
    brought = f.struct(
        f.col("first_alert_jd").alias("jd"), f.col("first_alert_id").alias("alert_id")
    )
    following = f.lead(brought).over(Window.partitionBy(*key).orderBy("revision"))
    revised = (
        datapoints.join(f.broadcast(hidden), "stock", "left_semi")
        .select(*key, "revision", brought.alias("brought"), following.alias("following"))
        .join(shown, key)
        .where("shown >= brought AND (following IS NULL OR shown < following)")
        .groupBy(*key, "revision")
        .agg(f.min("shown").alias("seen"))
    )
    mixed = mine.join(revised, [*key, "revision"]).select(
        *mine.columns,
        f.col("seen.jd").alias("seen_jd"),
        f.col("seen.alert_id").alias("seen_alert_id"),
    )
    return plain.unionByName(mixed)


def requests(accepted: DataFrame, wanted: Wanted, as_of: float | None) -> DataFrame:
    """Return the states that a job asks for.

    Parameters
    ----------
    accepted : DataFrame
        ``channel, survey, stock, name, alert_id, jd`` of the accepted alerts of channels with the
        same access.
    wanted : Wanted
        The settings of the job.
    as_of : float, optional
        The time that limits the whole run, JD.

    Returns
    -------
    DataFrame
        ``channel, survey, stock, name, alert_id, until_jd, until_alert_id, request``; rows for the
        same state have the same number ``request``.
    """
    from pyspark.sql import functions as f

    objects = ["channel", "survey", "stock", "name"]
    none = f.lit(None).cast("bigint").alias("alert_id")
    end = f.lit(LAST_ID)
    if wanted.states == "alert":
        rows = accepted.select(
            *objects,
            "alert_id",
            f.col("jd").alias("until_jd"),
            f.col("alert_id").alias("until_alert_id"),
        )
    elif wanted.states == "as_of":
        last = ALL if as_of is None else as_of
        times = f.explode(
            f.array(*(f.lit(t) for t in sorted({min(t, last) for t in wanted.as_of})))
        )
        first = accepted.groupBy(*objects).agg(f.min("jd").alias("first"))
        rows = first.select(
            *objects, "first", none, times.alias("until_jd"), end.alias("until_alert_id")
        )
        # An object without an accepted alert up to T has no state as of T.
        rows = rows.where("first <= until_jd").drop("first")
    else:
        bound = f.lit(ALL if as_of is None else float(as_of))
        rows = (
            accepted.select(*objects)
            .distinct()
            .select(*objects, none, bound.alias("until_jd"), end.alias("until_alert_id"))
        )
    return rows.withColumn("request", f.xxhash64("survey", "stock", "until_jd", "until_alert_id"))


def with_own(datapoints: DataFrame, survey: str, own: Mapping[str, str]) -> DataFrame:
    """Return datapoints with columns that a survey declares in the place of the surveys' structs.

    Parameters
    ----------
    datapoints : DataFrame
        The table ``datapoints``.
    survey : str
        What the tables call the survey.
    own : mapping of str to str
        Their Spark SQL types by name. What the table does not have is null.
    """
    from pyspark.sql import functions as f
    from pyspark.sql.types import StructType

    structs = {c.name: c.dataType for c in datapoints.schema if isinstance(c.dataType, StructType)}
    there = structs[survey].names if survey in structs else []
    columns = [
        f.col(f"`{survey}`.`{name}`").alias(name)
        if name in there
        else f.lit(None).cast(kind).alias(name)
        for name, kind in own.items()
    ]
    return datapoints.select(*(n for n in datapoints.columns if n not in structs), *columns)


def light_curves(
    wanted: DataFrame,
    points: DataFrame,
    kinds: Sequence[str],
    release: Release | None = None,
    own: Mapping[str, str] | None = None,
) -> DataFrame:
    """Return the requested states, each once, with their light curves (`light_curve_schema`).

    Parameters
    ----------
    wanted : DataFrame
        The requests that `requests` returned.
    points : DataFrame
        The datapoints that `visible_points` returned.
    kinds : sequence of str
        The kinds of datapoints in the states.
    release : Release, optional
        The calibration release to apply; by default none.
    own : mapping of str to str, optional
        Further fields of points, columns of `points`: their Spark SQL types by name.
    """
    from pyspark.sql import functions as f
    from pyspark.sql.pandas.types import from_arrow_schema

    more = {name: own_kind(kind) for name, kind in (own or {}).items()}
    each = wanted.select(
        "request", "survey", "stock", "name", "until_jd", "until_alert_id"
    ).dropDuplicates(["request"])
    usable = points.where(f.col("kind").isin(*kinds))
    fields = [
        f.col(name) if name != "kind" else _kind_code().alias("kind") for name in POINT_FIELDS
    ]
    struct = f.struct(
        "datapoint_id",
        "revision",
        *(c for name, c in zip(POINT_FIELDS, fields, strict=True) if name != "datapoint_id"),
        *(f.col(name).cast(_SPARK[kind]).alias(name) for name, kind in more.items()),
    )
    joined = (
        each.join(usable, ["survey", "stock"])
        .where(
            (f.col("seen_jd") < f.col("until_jd"))
            | (
                (f.col("seen_jd") == f.col("until_jd"))
                & (f.col("seen_alert_id") <= f.col("until_alert_id"))
            )
        )
        .groupBy("request", "survey", "stock", "name")
        .agg(f.array_sort(f.collect_list(struct)).alias("points"))
    )
    task = functools.partial(_assemble_task, release, more)
    return joined.mapInArrow(task, from_arrow_schema(light_curve_schema(more)))


_SPARK = {"f8": "double", "i8": "bigint", "O": "string"}


def _kind_code() -> Column:
    from pyspark.sql import functions as f

    code = f.lit(None)
    for name, number in KIND_CODES.items():
        code = f.when(f.col("kind") == name, number).otherwise(code)
    return code.cast("tinyint")


def _assemble_task(
    release: Release | None, own: Mapping[str, str], batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield assemble(batch, release, own)
