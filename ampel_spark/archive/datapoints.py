"""Datapoints, each once: sightings in packets resolved into revisions.

A packet repeats up to 30 days of history, so a datapoint is seen many times. Sightings are taken
in the order of the alerts' (jd, id). The first one's values are kept; a later one that differs by
a millimagnitude or more from the revision then current is the next revision; smaller differences
are rounding and nothing new. The order of arrival plays no part.

To hold that for any order, the lake knows the values of every sighting. An alert lists what it
shows (``datapoint_ids``, ``forced_ids``), and values last from the alert that first showed them to
the alert that first showed others. Nearly every datapoint has one set of values for ever, and its
row in ``datapoints`` says from which alert on. The others have a row in ``sightings`` for every
change, however small. A new packet that shows what was known is one look-up; only where values
change are all sightings of that datapoint put in order again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ampel_spark.archive.lookup import CHANGES, look_up_slices
from ampel_spark.archive.staging import write_values
from ampel_spark.archive.tasks import run_tasks
from ampel_spark.archive.ztf import POINT_COLUMNS, alerts_table
from ampel_spark.lake.parts import Part, commit_parts
from ampel_spark.lake.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from ampel_spark.lake.lake import Lake

__all__ = ["TOLERANCE", "merge_datapoints", "revisions", "withdraw"]

#: Magnitudes by which a value must differ to be a revision.
TOLERANCE = 1e-3

# Days by which the time of a datapoint may change under its id: what is stored is looked for among
# rows of that time, so that a night costs the same in a lake of one year and of ten.
_MARGIN = 1.0

# Sightings that are sorted out at a time, some 100 bytes each.
_SLICE = 2_000_000

# Sightings that are no work for tasks: what they cost is less than a job does.
_HERE = 200_000

_KEY = ["survey", "stock", "datapoint_id"]
_FIRST = ["first_alert_jd", "first_alert_id"]
_VALUES = [name for name, _ in POINT_COLUMNS if name != "datapoint_id"]


def revisions(sighted: DataFrame) -> DataFrame:
    """Resolve sightings into numbered revisions.

    Parameters
    ----------
    sighted : DataFrame
        All sightings: ``survey, stock, datapoint_id``, the values, ``first_alert_jd,
        first_alert_id`` of the alert.

    Returns
    -------
    DataFrame
        The same columns and ``revision``; one row per revision.
    """
    from pyspark.sql import functions as f

    rows = _resolved(sighted).select(*_KEY, f.posexplode("kept").alias("revision", "s"))
    return rows.select(*_KEY, "revision", "s.*")


def merge_datapoints(
    lake: Lake,
    points: DataFrame,
    files: Sequence[str],
    places: Mapping[int, str],
    shown: int,
    metadata: Mapping[str, Any],
    folder: str,
    span: tuple[float, float],
) -> None:
    """Add the datapoints that new packets show.

    Parameters
    ----------
    lake : Lake
        Whose lock "archive" is held.
    points : DataFrame
        What the packets show, as `ampel_spark.archive.staging.POINTS` has it; their alerts are not
        in the lake yet.
    files : sequence of str
        Files with the sightings of `points`, see `ampel_spark.archive.lookup.SIGHTINGS`.
    places : mapping of int to str
        Files with the values of `points`, by task.
    shown : int
        Rows of `points`, at most.
    metadata : mapping
        ``run_id``, and what else goes into the commits.
    folder : str
        For staging.
    span : (float, float)
        JD of the first and last datapoint in them.
    """
    from pyspark.sql import functions as f

    lake.ensure(TABLES["sightings"])
    lake.ensure(TABLES["datapoints"])
    found = _looked_up(lake, files, shown, span, folder)
    here = shown <= _HERE
    parts = _written(lake, found.places, places, metadata, here) if found.places else []
    commit_parts(lake, TABLES["datapoints"], parts, metadata)
    inserted, changed = [], []
    if found.earlier:
        earlier = found.changes.where("change = 'earlier'").select("place")
        sighted = points.join(earlier, "place", "left_semi")
        changed.append(sighted.withColumn("revision", f.lit(0)))
    if found.varied:
        keys = found.changes.where("change = 'varied'").select(*_KEY)
        resolved = _resolve(lake, keys, points, span, f"{folder}/resolved")
        _write_sightings(lake, resolved, metadata, span)
        one, other = _changes(resolved)
        inserted.append(one)
        changed.append(other)
    _write(lake, inserted, changed, metadata, span)


@dataclass(frozen=True)
class _Found:
    """What a look-up found: files of the places of new datapoints, and others that change."""

    places: list[str]
    changes: DataFrame
    earlier: int
    varied: int


def _looked_up(
    lake: Lake, sighted: Sequence[str], shown: int, span: tuple[float, float], folder: str
) -> _Found:
    """Look up what packets show, by hash; leave what was found in `folder`."""
    from pyspark.sql.pandas.types import from_arrow_schema

    near = (span[0] - _MARGIN, span[1] + _MARGIN)
    known = [
        path for name in ("datapoints", "sightings")
        for path in lake.files_between(name, "jd", *near)
    ]  # fmt: skip
    here = shown <= _HERE
    cores = lake.spark.sparkContext.defaultParallelism
    slices = 1 if here else max(cores, math.ceil(shown / _SLICE))
    work = functools.partial(look_up_slices, sighted, known, near, slices, folder)
    found = run_tasks(lake.spark, work, [(i,) for i in range(slices)], "task int", here=here)
    changes = [each["changes"] for each in found if "changes" in each]
    schema = from_arrow_schema(CHANGES)
    spark = lake.spark
    return _Found(
        [each["places"] for each in found if "places" in each],
        spark.read.schema(schema).parquet(*changes)
        if changes
        else spark.createDataFrame([], schema),
        sum(each["earlier"] for each in found),
        sum(each["varied"] for each in found),
    )


def _written(
    lake: Lake,
    found: list[str],
    places: Mapping[int, str],
    metadata: Mapping[str, Any],
    here: bool,
) -> list[Part]:
    """Write new datapoints as parts of the table: by the tasks that they were staged by."""
    write = functools.partial(write_values, found, lake.path("datapoints"), metadata["run_id"])
    staged = sorted(places.items())
    told = run_tasks(lake.spark, write, staged, "task int, points string", here=here)
    return [Part(**part) for part in told]


def withdraw(
    lake: Lake,
    alerts: DataFrame,
    metadata: Mapping[str, Any],
    folder: str,
    span: tuple[float, float],
) -> None:
    """Take back what `alerts` showed, as if they had never been read.

    Parameters
    ----------
    lake, metadata, folder, span
        As for `merge_datapoints`.
    alerts : DataFrame
        Rows of the alerts table, which are still there.
    """
    keys = _shown(alerts).select(*_KEY).distinct()
    resolved = _resolve(lake, keys, None, span, f"{folder}/withdrawn", alerts.select("alert_id"))
    _write_sightings(lake, resolved, metadata, span)
    inserted, changed = _changes(resolved)
    _write(lake, [inserted], [changed], metadata, span)


def _within(span: tuple[float, float]) -> str:
    return f"t.jd >= {span[0] - _MARGIN!r} AND t.jd <= {span[1] + _MARGIN!r}"


def _stored(lake: Lake, name: str, columns: list[str], span: tuple[float, float]) -> DataFrame:
    """Return rows of ``datapoints`` or ``sightings`` near the times of `span`."""
    return lake.between(TABLES[name], columns, "jd", span[0] - _MARGIN, span[1] + _MARGIN)


def _shown(alerts: DataFrame) -> DataFrame:
    """Return what alerts show, without values: one row per alert and datapoint."""
    from pyspark.sql import functions as f

    none = f.array().cast("array<bigint>")
    ids = f.concat("datapoint_ids", f.coalesce("forced_ids", none))
    return alerts.select(
        "survey",
        "stock",
        f.explode(ids).alias("datapoint_id"),
        f.col("jd").alias(_FIRST[0]),
        f.col("alert_id").alias(_FIRST[1]),
    )


def _resolved(sighted: DataFrame) -> DataFrame:
    """Return one row per datapoint: ``runs``, its values as they changed, and ``kept``, revisions.

    Both are in the order of the alerts that first showed them.
    """
    from pyspark.sql import functions as f

    seen = f.array_sort(f.collect_list(f.struct(*_FIRST, *_VALUES)))
    rows = sighted.groupBy(*_KEY).agg(seen.alias("seen"))
    rows = rows.select(
        *_KEY,
        f.filter(
            "seen",
            lambda s, i: (i == 0) | (s["value_hash"] != f.get("seen", i - 1)["value_hash"]),
        ).alias("runs"),
    )
    kept = f.aggregate(
        f.slice("runs", f.lit(2), f.size("runs")),
        f.slice("runs", 1, 1),
        lambda kept, s: f.when(
            _differs(f.element_at(kept, -1), s), f.concat(kept, f.array(s))
        ).otherwise(kept),
    )
    return rows.withColumn("kept", f.when(f.size("runs") == 1, f.col("runs")).otherwise(kept))


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


def _resolve(
    lake: Lake,
    keys: DataFrame,
    new: DataFrame | None,
    span: tuple[float, float],
    path: str,
    gone: DataFrame | None = None,
) -> DataFrame:
    """Put all sightings of some datapoints in order again.

    Parameters
    ----------
    keys : DataFrame
        The datapoints.
    new : DataFrame, optional
        Sightings that are not in the lake yet.
    gone : DataFrame, optional
        Alerts, ``alert_id``, whose sightings no longer count.

    Returns
    -------
    DataFrame
        By datapoint: ``runs`` and ``kept`` (see `_resolved`), and what is stored of it:
        ``old_runs`` and ``old``. Staged at `path`.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    keys = keys.persist()
    values, none = f.struct(*_VALUES), f.lit(None)
    kind = "struct<" + ", ".join(f"{n}: {k}" for n, k in POINT_COLUMNS if n != "datapoint_id") + ">"
    names = [*_KEY, *_FIRST, *_VALUES]
    stored = _stored(lake, "datapoints", [*names, "revision"], span)
    stored = stored.join(keys, _KEY, "left_semi")
    several = _stored(lake, "sightings", names, span).join(keys, _KEY, "left_semi")
    # A set of values, from the alert that first showed it; it lasts until the next.
    begins = stored.select(*_KEY, *_FIRST, values.alias("begins")).unionByName(
        several.select(*_KEY, *_FIRST, values.alias("begins"))
    )
    entries = begins.withColumn("own", none.cast(kind))
    if lake.version("alerts"):
        since = 0.0
        if new is not None:
            # What older alerts showed is in the stored values, whatever a later one brings.
            first = new.join(keys, _KEY, "left_semi").agg(f.min(_FIRST[0])).first()
            assert first is not None
            since = first[0]
        columns = ["survey", "stock", "jd", "alert_id", "datapoint_ids", "forced_ids"]
        alerts = lake.between(alerts_table(), columns, "jd", since, math.inf)
        shown = _shown(alerts.join(keys.select("survey", "stock").distinct(),
                                   ["survey", "stock"], "left_semi"))  # fmt: skip
        entries = entries.unionByName(
            shown.join(keys, _KEY, "left_semi")
            .withColumn("begins", none.cast(kind))
            .withColumn("own", none.cast(kind))
        )
    if new is not None:
        entries = entries.unionByName(
            new.join(keys, _KEY, "left_semi")
            .select(*_KEY, *_FIRST, values.alias("own"))
            .withColumn("begins", none.cast(kind))
        )
    before = Window.partitionBy(*_KEY).orderBy(*_FIRST, f.col("begins").isNull())
    shows = f.coalesce("own", f.last("begins", ignorenulls=True).over(before))
    sighted = entries.select(*_KEY, *_FIRST, shows.alias("v")).where("v IS NOT NULL")
    if gone is not None:
        sighted = sighted.join(
            gone.select(f.col("alert_id").alias(_FIRST[1])), _FIRST[1], "left_anti"
        )
    sighted = sighted.select(*_KEY, *_FIRST, "v.*")
    old = stored.groupBy(*_KEY).agg(
        f.array_sort(f.collect_list(f.struct("revision", "value_hash", _FIRST[1]))).alias("old")
    )
    old_runs = several.groupBy(*_KEY).agg(
        f.collect_list(f.struct(*_FIRST, *_VALUES)).alias("old_runs")
    )
    rows = keys.join(_resolved(sighted), _KEY, "left")
    rows = rows.join(old, _KEY, "left").join(old_runs, _KEY, "left")
    rows.write.mode("overwrite").parquet(path)
    keys.unpersist()
    staged = lake.spark.read.parquet(path)
    return staged.withColumns(
        {
            name: f.coalesce(name, f.array().cast(staged.schema[name].dataType))
            for name in ("runs", "kept", "old", "old_runs")
        }
    )


def _changes(resolved: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Return rows of ``datapoints`` to insert, and those whose values change or that go.

    A row that goes has no ``value_hash``.
    """
    from pyspark.sql import functions as f

    count = f.greatest(f.size("kept"), f.size("old"))
    rows = resolved.where(count > 0).select(
        *_KEY, "kept", "old", f.explode(f.sequence(f.lit(0), count - 1)).alias("revision")
    )
    rows = rows.select(
        *_KEY, "revision", f.get("kept", "revision").alias("s"), f.get("old", "revision").alias("o")
    )
    differs = f.col("s").isNull() | (
        (f.col("s.value_hash") != f.col("o.value_hash"))
        | (f.col("s.first_alert_id") != f.col("o.first_alert_id"))
    )
    return (
        rows.where(f.col("o").isNull()).select(*_KEY, "revision", "s.*"),
        rows.where(f.col("o").isNotNull() & differs).select(*_KEY, "revision", "s.*"),
    )


def _write(
    lake: Lake,
    inserted: list[DataFrame],
    changed: list[DataFrame],
    metadata: Mapping[str, Any],
    span: tuple[float, float],
) -> None:
    """Insert rows into ``datapoints``, and change others: what is out of the common run."""
    table = TABLES["datapoints"]
    if inserted:
        rows = _ready(inserted, table.names, metadata).repartition(1)
        lake.append(table, rows.sortWithinPartitions("stock", "jd"), metadata)
    if changed:
        rows = _ready(changed, table.names, metadata)
        if not rows.isEmpty():
            lake.merge(
                table,
                rows,
                metadata,
                lambda m: m.whenMatchedDelete("s.value_hash IS NULL").whenMatchedUpdateAll(),
                _within(span),
            )


def _write_sightings(
    lake: Lake, resolved: DataFrame, metadata: Mapping[str, Any], span: tuple[float, float]
) -> None:
    """Bring ``sightings`` to what `resolved` says: all changes, of what has more than one."""
    from pyspark.sql import functions as f

    table = TABLES["sightings"]
    runs = f.when(f.size("runs") > 1, f.col("runs")).otherwise(
        f.array().cast(resolved.schema["runs"].dataType)
    )
    rows = resolved.withColumn("runs", runs)
    added = rows.select(*_KEY, f.explode(f.array_except("runs", "old_runs")).alias("s"))
    lake.append(table, _ready([added.select(*_KEY, "s.*")], table.names, metadata), metadata)
    gone = rows.select(*_KEY, f.explode(f.array_except("old_runs", "runs")).alias("s"))
    gone = gone.select(*_KEY, "s.*")
    if not gone.isEmpty():
        lake.merge(
            table,
            _ready([gone], table.names, metadata),
            metadata,
            lambda m: m.whenMatchedDelete(),
            _within(span),
        )


def _ready(parts: list[DataFrame], names: list[str], metadata: Mapping[str, Any]) -> DataFrame:
    from pyspark.sql import functions as f

    run = f.lit(metadata["run_id"]).alias("run_id")
    columns = [name for name in names if name != "run_id"]
    rows = parts[0].select(*columns)
    for part in parts[1:]:
        rows = rows.unionByName(part.select(*columns))
    return rows.select(*columns, run)
