"""Filters that judge in Python, asked by Spark's workers, about alerts that no cut rejects."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from ampel_spark.classes import packed
from ampel_spark.t0.filters import Filter
from ampel_spark.t0.selection import ChannelFilter
from ampel_spark.t1.pasts import ALERT_COLUMNS, PastsAsked, judged
from ampel_spark.t1.rights import SIGHTING_COLUMNS
from ampel_spark.t1.states import POINT_COLUMNS

__all__ = ["ask_filters"]

_OBJECT = ("survey", "stock")
#: Groups of objects that workers take, one at a time.
_GROUPS = 256


def ask_filters(
    rows: DataFrame,
    alerts: DataFrame,
    points: DataFrame,
    sightings: DataFrame | None,
    channels: Sequence[ChannelFilter],
) -> DataFrame:
    """Return rows with what the channels' filters say of them.

    Parameters
    ----------
    rows : DataFrame
        The alerts about which one channel or more is asked, as `ampel_spark.t0.judge` has them.
        They are read more than once.
    alerts : DataFrame
        All alerts of their objects up to them.
    points : DataFrame
        The table ``datapoints``.
    sightings : DataFrame or None
        The table ``sightings``; None for a lake without one.
    channels : sequence of ChannelFilter
        The channels of the scan, in order.
    """
    asked = [
        PastsAsked.of(k, channel, packed(channel.filter, Filter))
        for k, channel in enumerate(channels)
        if channel.filter.judges
    ]
    past = [f"_past{channel.place}" for channel in asked]
    objects = rows.select(*_OBJECT).distinct()
    tables = {"point": points.select(*POINT_COLUMNS), "alert": alerts.select(*ALERT_COLUMNS)}
    if sightings is not None:
        tables["sighting"] = sightings.select(*SIGHTING_COLUMNS)
    reads = any(c.filter.judges and c.filter.reads_history for c in channels)
    hides = reads and any(channel.access is not None for channel in asked)
    needed = {"point": reads, "alert": hides, "sighting": hides}
    seen = functools.reduce(
        functools.partial(DataFrame.unionByName, allowMissingColumns=True),
        (
            table.where(f.lit(needed[name]))
            .join(objects, [*_OBJECT], "left_semi")
            .select(f.struct(*table.columns).alias(name), *_OBJECT)
            for name, table in tables.items()
        ),
    )
    kinds, names = [*tables], rows.drop("_alert", *past).columns
    group = f.pmod(f.xxhash64(*_OBJECT), f.lit(_GROUPS))

    # what it takes along goes to the workers: no DataFrame
    def ask(left: pa.Table, right: pa.Table) -> pa.Table:
        return judged(asked, left, *(_rows(right, kind) for kind in kinds)).select(names)

    made = rows.select(*names).schema
    return rows.groupBy(group).cogroup(seen.groupBy(group)).applyInArrow(ask, made)


def _rows(table: pa.Table, name: str) -> pa.Table:
    """Return the rows of a column of structs, as a table."""
    column = table[name].combine_chunks().drop_null()
    return pa.Table.from_struct_array(column)
