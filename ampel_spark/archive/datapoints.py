"""Datapoints, each once: sightings in packets resolved into revisions.

A packet repeats up to 30 days of history, so a datapoint is seen many times. Sightings are taken
in the order of the alerts' (jd, id). The first one's values are kept; a later one that differs by
a millimagnitude or more from the revision then current is the next revision; smaller differences
are rounding and nothing new. The order of arrival plays no part: an earlier night that arrives
later is resolved together with what is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ampel_spark.archive.ztf import POINT_COLUMNS, SURVEY
from ampel_spark.lake.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from ampel_spark.lake.lake import Lake

__all__ = ["TOLERANCE", "merge_datapoints", "revisions", "sightings"]

#: Magnitudes by which a value must differ to be a revision.
TOLERANCE = 1e-3

_KEY = ["stock", "datapoint_id"]
_OLD = "array<struct<revision: int, value_hash: bigint, first_alert_id: bigint>>"
_VALUES = [name for name, _ in POINT_COLUMNS if name != "datapoint_id"]


def sightings(packets: DataFrame) -> DataFrame:
    """Return every datapoint that every packet shows: stock, values, and the alert showing it."""
    from pyspark.sql import functions as f

    points = f.explode(f.concat("points", "forced")).alias("p")
    return packets.select(
        "stock",
        f.col("jd").alias("first_alert_jd"),
        f.col("alert_id").alias("first_alert_id"),
        points,
    ).select("stock", "first_alert_jd", "first_alert_id", "p.*")


def revisions(sighted: DataFrame) -> DataFrame:
    """Resolve sightings into numbered revisions.

    Parameters
    ----------
    sighted : DataFrame
        ``stock, datapoint_id``, the values, ``first_alert_jd, first_alert_id``.

    Returns
    -------
    DataFrame
        The same columns and ``revision``; one row per revision.
    """
    from pyspark.sql import functions as f

    return (
        _resolved(sighted)
        .select(*_KEY, f.posexplode("kept").alias("revision", "s"))
        .select(*_KEY, "revision", "s.*")
    )


def _resolved(sighted: DataFrame) -> DataFrame:
    """Return one row per datapoint: ``kept``, its revisions in order."""
    from pyspark.sql import functions as f

    values = [v for v in _VALUES if v not in ("pid", "value_hash")]
    sighting = f.struct("first_alert_jd", "first_alert_id", "pid", *values)
    # Equal values need to be looked at once, at their first sighting. One shuffle serves both
    # groups.
    first = (
        sighted.repartition("stock").groupBy(*_KEY, "value_hash").agg(f.min(sighting).alias("s"))
    )
    seen = f.array_sort(f.collect_list(f.struct("s.*", "value_hash")))
    several = f.aggregate(
        f.slice("seen", f.lit(2), f.size("seen")),
        f.slice("seen", 1, 1),
        lambda kept, s: f.when(
            _differs(f.element_at(kept, -1), s), f.concat(kept, f.array(s))
        ).otherwise(kept),
    )
    grouped = first.groupBy(*_KEY).agg(seen.alias("seen"))
    return grouped.withColumn(
        "kept", f.when(f.size("seen") == 1, f.col("seen")).otherwise(several)
    ).drop("seen")


def _differs(a: Column, b: Column) -> Column:
    """Say whether two values of one datapoint differ by `TOLERANCE` or more."""
    from pyspark.sql import functions as f

    def apart(name: str) -> Column:
        x, y = a[name], b[name]
        return f.when(x.isNull() | y.isNull(), x.isNull() != y.isNull()).otherwise(
            f.abs(x - y) >= TOLERANCE
        )

    # A flux near zero or negative has no magnitude: compare it on the scale of its error.
    scale = f.greatest(f.abs(a["flux"]), a["fluxerr"]) * (TOLERANCE * 0.4 * 2.302585092994046)
    flux = f.when(
        a["flux"].isNull() | b["flux"].isNull(), a["flux"].isNull() != b["flux"].isNull()
    ).otherwise(
        (f.abs(a["flux"] - b["flux"]) >= scale) | (f.abs(a["fluxerr"] - b["fluxerr"]) >= scale)
    )
    forced = a["kind"] == "forced"
    return f.when(forced, flux | apart("zp")).otherwise(
        apart("mag") | apart("magerr") | apart("limit_mag") | (a["sign"] != b["sign"])
    )


def merge_datapoints(
    lake: Lake, packets: DataFrame, metadata: Mapping[str, Any], folder: str, survey: str = SURVEY
) -> int:
    """Add the datapoints that `packets` show, and return the table's version.

    Parameters
    ----------
    lake : Lake
        Whose lock "archive" is held.
    packets : DataFrame
        New ones, staged.
    metadata : mapping
        ``run_id``, and what else goes into the commit.
    folder : str
        For staging.
    survey : str
        Whose packets they are.
    """
    from pyspark.sql import functions as f

    table = TABLES["datapoints"]
    lake.ensure(table)
    new = sightings(packets)
    if lake.version(table.name) == 0:
        changes = revisions(new).withColumn("there", f.lit(False))
    else:
        changes = _changes(new, lake.read(table.name).where(f.col("survey") == survey))
    rows = changes.withColumn("survey", f.lit(survey)).withColumn(
        "run_id", f.lit(metadata["run_id"])
    )
    rows.select(*table.names, "there").write.mode("overwrite").parquet(f"{folder}/datapoints")
    rows = lake.spark.read.parquet(f"{folder}/datapoints")
    return (
        lake.append(
            table,
            rows.repartitionByRange("stock").sortWithinPartitions("stock", "jd"),
            metadata,
        )
        if rows.where("there").isEmpty()
        else _rewrite(lake, rows, metadata)
    )


def _changes(new: DataFrame, stored: DataFrame) -> DataFrame:
    """Return rows to insert, and those (``there``) whose values or sighting changed or that go.

    A row that goes has no ``value_hash``.
    """
    from pyspark.sql import functions as f

    touched = stored.join(new.select(*_KEY).distinct(), _KEY, "left_semi")
    resolved = _resolved(new.unionByName(touched.select(*new.columns)))
    old = f.array_sort(f.collect_list(f.struct("revision", "value_hash", "first_alert_id")))
    rows = resolved.join(touched.groupBy(*_KEY).agg(old.alias("old")), _KEY, "left")
    rows = rows.withColumn("old", f.coalesce("old", f.array().cast(_OLD)))
    count = f.greatest(f.size("kept"), f.size("old"))
    rows = rows.select(
        *_KEY, "kept", "old", f.explode(f.sequence(f.lit(0), count - 1)).alias("revision")
    )
    return (
        rows.select(
            *_KEY,
            "revision",
            f.get("kept", "revision").alias("s"),
            f.get("old", "revision").alias("o"),
        )
        .select(*_KEY, "revision", "s.*", "o", f.col("o").isNotNull().alias("there"))
        .where(
            ~f.col("there")
            | f.col("value_hash").isNull()
            | (f.col("value_hash") != f.col("o.value_hash"))
            | (f.col("first_alert_id") != f.col("o.first_alert_id"))
        )
    )


def _rewrite(lake: Lake, rows: DataFrame, metadata: Mapping[str, Any]) -> int:
    table = TABLES["datapoints"]
    lake.merge(
        table,
        rows.drop("there"),
        metadata,
        lambda merge: (
            merge.whenMatchedDelete("s.value_hash IS NULL")
            .whenMatchedUpdateAll()
            .whenNotMatchedInsertAll()
        ),
    )
    version = lake.version(table.name)
    assert version is not None
    return version
