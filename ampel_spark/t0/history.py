"""The history of an object as a channel may see it at an alert: detections, and first and last of them.

"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ampel_spark.t0.cuts import HISTORY

__all__ = ["archive_history", "packet_history", "visible"]

_OBJECT = ("survey", "stock")


def visible(programid: Column, access: frozenset[int] | None) -> Column:
    """Return whether data of `programid` may be seen; what has no programid may not."""
    if access is None:
        return F.lit(True)
    return F.coalesce(programid.isin(*sorted(access)), F.lit(False))


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
    own = F.struct(*HISTORY)
    if access is None:
        return alerts.withColumn(name, own)
    # Nearly every packet shows only what the channel may see: then the counts stand in the table.
    hidden = F.array_except("datapoint_programids", F.array(*map(F.lit, sorted(access))))
    jds = F.filter("datapoint_jds", lambda _, i: _counts(i, access))
    return alerts.withColumn(name, F.when(F.size(hidden) == 0, own).otherwise(_struct(F.size(jds), F.array_min(jds), F.array_max(jds))))


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
    may = visible(F.col("programid"), access)
    ids = F.filter("datapoint_ids", lambda _, i: _counts(i, access))
    new = (
        alerts.where(may)
        .select(*_OBJECT, "jd", "alert_id", F.explode(ids).alias("datapoint_id"))
        .groupBy(*_OBJECT, "datapoint_id")
        .agg(F.min(F.struct("jd", "alert_id")).alias("_first"))
        .groupBy(*_OBJECT, F.col("_first.alert_id").alias("alert_id"))
        .agg(F.count("*").alias("_new"))
    )
    until = (
        Window.partitionBy(*_OBJECT)
        .orderBy("jd", "alert_id")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    rows = packet_history(alerts, access, "_own").join(new, [*_OBJECT, "alert_id"], "left")
    known = _struct(
        F.sum(F.when(may, F.col("_new"))).over(until).cast("int"),
        F.min(F.when(may, F.col("_own.jd_first"))).over(until),
        F.max(F.when(may, F.col("_own.jd_last"))).over(until),
    )
    return rows.withColumn(name, known).drop("_new", "_own")


def _struct(*values: Column) -> Column:
    return F.struct(*(v.alias(name) for v, name in zip(values, HISTORY, strict=True)))


def _counts(i: Column, access: frozenset[int] | None) -> Column:
    """Return whether the datapoint in place `i` is a detection that may be seen."""
    detection = F.get("datapoint_ids", i) > 0
    return detection & visible(F.get("datapoint_programids", i), access)
