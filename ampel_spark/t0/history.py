"""The history of an object as a channel may see it at an alert: how many detections, and when."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from ampel_spark.t0.quantities import HISTORY

__all__ = ["archive_history", "packet_history", "visible"]

_OBJECT = ("survey", "stock")


def visible(programid: Column, access: frozenset[int] | None) -> Column:
    """Return whether data of `programid` may be seen; what has no programid may not."""
    if access is None:
        return f.lit(True)
    return f.coalesce(programid.isin(*sorted(access)), f.lit(False))


def packet_history(alerts: DataFrame, access: frozenset[int] | None, name: str) -> DataFrame:
    """Add the history that each packet carries.

    Parameters
    ----------
    alerts : DataFrame
        The alerts table.
    access : frozenset of int or None
        Program ids that count; None counts all.
    name : str
        Struct to add: ``n_detections``, and ``jd_first`` and ``jd_last`` [d].
    """
    own = f.struct(*HISTORY)
    if access is None:
        return alerts.withColumn(name, own)
    # Nearly every packet shows only what the channel may see: then the counts stand in the table.
    hidden = f.array_except("datapoint_programids", f.array(*map(f.lit, sorted(access))))
    jds = f.filter("datapoint_jds", lambda _, i: _counts(i, access))
    counted = _struct(f.size(jds), f.array_min(jds), f.array_max(jds))
    return alerts.withColumn(name, f.when(f.size(hidden) == 0, own).otherwise(counted))


def archive_history(alerts: DataFrame, access: frozenset[int] | None, name: str) -> DataFrame:
    """Add all that was known of the object when each alert came.

    An alert knows what it and the alerts of the object before it, in the order of (jd, alert_id),
    carry. A detection that several of them carry counts once.

    Parameters
    ----------
    alerts, access, name
        As for `packet_history`. `alerts` is read twice, the second time for the detections alone;
        those that the access does not see are left as they are and tell the others nothing.
    """
    may = visible(f.col("programid"), access)
    ids = f.filter("datapoint_ids", lambda _, i: _counts(i, access))
    new = (
        alerts.where(may)
        .select(*_OBJECT, "jd", "alert_id", f.explode(ids).alias("datapoint_id"))
        .groupBy(*_OBJECT, "datapoint_id")
        .agg(f.min(f.struct("jd", "alert_id")).alias("_first"))
        .groupBy(*_OBJECT, f.col("_first.alert_id").alias("alert_id"))
        .agg(f.count("*").alias("_new"))
    )
    until = (
        Window.partitionBy(*_OBJECT)
        .orderBy("jd", "alert_id")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    rows = packet_history(alerts, access, "_own").join(new, [*_OBJECT, "alert_id"], "left")
    known = _struct(
        f.sum(f.when(may, f.col("_new"))).over(until).cast("int"),
        f.min(f.when(may, f.col("_own.jd_first"))).over(until),
        f.max(f.when(may, f.col("_own.jd_last"))).over(until),
    )
    return rows.withColumn(name, known).drop("_new", "_own")


def _struct(*values: Column) -> Column:
    return f.struct(*(v.alias(name) for v, name in zip(values, HISTORY, strict=True)))


def _counts(i: Column, access: frozenset[int] | None) -> Column:
    """Return whether the datapoint in place `i` is a detection that may be seen."""
    detection = f.get("datapoint_ids", i) > 0
    return detection & visible(f.get("datapoint_programids", i), access)
