"""Datapoints, each once: sightings in packets resolved into revisions.

A packet repeats up to 30 days of history, so a datapoint is seen many times. Sightings are taken
in the order of the alerts' (jd, id). The first one's values are kept; a later one that differs by
a millimagnitude or more from the revision then current is the next revision; smaller differences
are rounding and nothing new. The order of arrival plays no part.

To hold that for any order, the lake knows the values of every sighting. An alert lists what it
shows (``datapoint_ids``, ``forced_ids``), and values last from the alert that first showed them to
the alert that first showed others. Nearly every datapoint has one set of values for ever, and its
row in ``datapoints`` says from which alert on. The others have a row in ``sightings`` for every
change, however small. A new packet that shows what was known is one look-up
(`lookup`); only where values change are all sightings of that datapoint put in
order again (`revisions`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyarrow import parquet

from ampel_spark.archive.committing.accounts import Members
from ampel_spark.archive.committing.declared import ArchiveTables
from ampel_spark.archive.committing.lookup import look_up_slices
from ampel_spark.archive.committing.revisions import Sources, resolve
from ampel_spark.archive.committing.staging import points_schema, write_values
from ampel_spark.lake.commits import add_parts, update
from ampel_spark.lake.parts import Part, arrow_schema
from ampel_spark.lake.tasks import run_tasks

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

    from ampel_spark.lake.lake import Lake

__all__ = ["merge_datapoints", "staged_files", "withdraw"]

# Days by which the time of a datapoint may change under its id: what is stored is looked for among
# rows of that time, so that a night costs the same in a lake of one year and of ten.
_MARGIN = 1.0

# Sightings that are sorted out at a time, some 100 bytes each.
_SLICE = 2_000_000

# Datapoints with more than one set of values that are put in order at a time.
_RESOLVED = 50_000

# Sightings, and such datapoints, that are no work for tasks: they cost less than a job does.
_HERE, _FEW = 200_000, 2_000


def merge_datapoints(
    lake: Lake, members: Members, files: Sequence[str], metadata: Mapping[str, Any], folder: str
) -> None:
    """Add the datapoints that new packets show.

    Parameters
    ----------
    lake : Lake
        Whose lock "archive" is held.
    members : Members
        What was read; its alerts are not in the lake yet.
    files : sequence of str
        What the packets to be stored show, as `staging.POINTS` has it.
    metadata : mapping
        ``run_id``, and what else goes into the commits.
    folder : str
        For staging.
    """
    from pyspark.sql import functions as f

    tables = members.tables
    lake.ensure(tables.sightings)
    lake.ensure(tables.datapoints)
    found = _looked_up(lake, files, members, folder)
    parts = _written(lake, found.places, members, metadata) if found.places else []
    resolved = _Resolved()
    if found.varied:
        since = min((part.least.get("jd", 0.0) for part in members.alerts), default=0.0)
        alerts = tuple(lake.files_between("alerts", "jd", since, math.inf))
        keys = tuple(found.changes)
        resolved = _resolve(lake, tables, keys, found.varied, metadata, folder, members.span,
                            new=tuple(files), alerts=alerts)  # fmt: skip
    changed = []
    if found.earlier:
        spark = lake.spark
        earlier = spark.read.parquet(*found.changes).where("change = 'earlier'").select("place")
        shown = _read(lake, points_schema(tables.points), files)
        shown = shown.join(earlier, "place", "left_semi")
        changed.append(shown.withColumn("revision", f.lit(0)))
    _commit(lake, tables, parts, resolved, changed, metadata, members.span)


def withdraw(
    lake: Lake,
    tables: ArchiveTables,
    alerts: DataFrame,
    metadata: Mapping[str, Any],
    folder: str,
    span: tuple[float, float],
) -> None:
    """Take back what `alerts` showed, as if they had never been read.

    Parameters
    ----------
    lake, metadata, folder
        As for `merge_datapoints`.
    tables : ArchiveTables
    alerts : DataFrame
        Rows of the alerts table, which are still there.
    span : (float, float)
        First and last JD of what they showed, or beyond.
    """
    from pyspark.sql import functions as f

    none = f.array().cast("array<bigint>")
    ids = f.concat("datapoint_ids", f.coalesce("forced_ids", none))
    shown = alerts.select("survey", "stock", f.explode(ids).alias("datapoint_id")).distinct()
    keys = staged_files(shown.withColumn("change", f.lit("varied")), f"{folder}/withdrawn")
    gone = staged_files(alerts.select("alert_id"), f"{folder}/gone")
    count = sum(parquet.read_metadata(path).num_rows for path in keys)
    every = tuple(lake.files_between("alerts", "jd", -math.inf, math.inf))
    resolved = _resolve(lake, tables, tuple(keys), count, metadata, folder, span,
                        gone=tuple(gone), alerts=every)  # fmt: skip
    _commit(lake, tables, [], resolved, [], metadata, span)


def staged_files(rows: DataFrame, folder: str) -> list[str]:
    """Stage rows in a folder, and return the files that they are in."""
    rows.write.mode("overwrite").parquet(folder)
    return [str(path) for path in sorted(Path(folder).glob("*.parquet"))]


@dataclass(frozen=True)
class _Found:
    """What a look-up found: files of the places of new datapoints, and of others that change."""

    places: list[str]
    changes: list[str]
    earlier: int
    varied: int


@dataclass(frozen=True)
class _Resolved:
    """What changes where datapoints have several sets of values: parts, and staged files."""

    inserted: Sequence[Part] = ()
    added: Sequence[Part] = ()
    changed: Sequence[str] = ()
    gone: Sequence[str] = ()


def _near(span: tuple[float, float]) -> tuple[float, float]:
    return span[0] - _MARGIN, span[1] + _MARGIN


def _looked_up(lake: Lake, files: Sequence[str], members: Members, folder: str) -> _Found:
    """Look up what packets show, by hash; leave what was found in `folder`."""
    near = _near(members.span)
    known = [
        path
        for name in ("datapoints", "sightings")
        for path in lake.files_between(name, "jd", *near)
    ]
    here = members.shown <= _HERE
    cores = lake.spark.sparkContext.defaultParallelism
    slices = 1 if here else max(cores, math.ceil(members.shown / _SLICE))
    work = functools.partial(look_up_slices, files, known, near, slices, folder)
    found = run_tasks(lake.spark, work, [(i,) for i in range(slices)], "task int", here=here)
    return _Found(
        [each["places"] for each in found if "places" in each],
        [each["changes"] for each in found if "changes" in each],
        sum(each["earlier"] for each in found),
        sum(each["varied"] for each in found),
    )


def _written(
    lake: Lake, found: list[str], members: Members, metadata: Mapping[str, Any]
) -> list[Part]:
    """Write new datapoints as parts of the table: by the tasks that they were staged by."""
    table = members.tables.datapoints
    write = functools.partial(write_values, found, table, lake.path(table.name), metadata["run_id"])
    staged = sorted(members.places.items())
    here = members.shown <= _HERE
    reports = run_tasks(lake.spark, write, staged, "task int, points string", here=here)
    return [Part(**part) for part in reports]


def _resolve(
    lake: Lake,
    tables: ArchiveTables,
    keys: tuple[str, ...],
    count: int,
    metadata: Mapping[str, Any],
    folder: str,
    span: tuple[float, float],
    *,
    alerts: tuple[str, ...],
    new: tuple[str, ...] = (),
    gone: tuple[str, ...] = (),
) -> _Resolved:
    """Put all sightings of `count` datapoints in order again; see `revisions.Sources`."""
    near = _near(span)
    here = count <= _FEW
    cores = lake.spark.sparkContext.defaultParallelism
    slices = 1 if here else max(cores, math.ceil(count / _RESOLVED))
    sources = Sources(
        keys,
        new,
        tuple(lake.files_between("datapoints", "jd", *near)),
        tuple(lake.files_between("sightings", "jd", *near)),
        alerts,
        gone,
        near,
        slices,
    )
    work = functools.partial(resolve, sources, tables, folder, str(lake.root), metadata["run_id"])
    reports = run_tasks(lake.spark, work, [(i,) for i in range(slices)], "task int", here=here)
    return _Resolved(
        [Part(**each["inserted"]) for each in reports if each["inserted"]],
        [Part(**each["added"]) for each in reports if each["added"]],
        [each["changed"] for each in reports if each["changed"]],
        [each["gone"] for each in reports if each["gone"]],
    )


def _commit(
    lake: Lake,
    tables: ArchiveTables,
    parts: Sequence[Part],
    resolved: _Resolved,
    changed: Sequence[DataFrame],
    metadata: Mapping[str, Any],
    span: tuple[float, float],
) -> None:
    """Commit what is new, and, where that is not all, what changes or goes."""
    points, sightings = tables.datapoints, tables.sightings
    if resolved.added:
        add_parts(lake, sightings, resolved.added, metadata)
    if resolved.gone:
        rows = _read(lake, arrow_schema(sightings), resolved.gone)
        update(lake, sightings, rows, metadata, gone="value_hash IS NULL", within=_within(span))
    add_parts(lake, points, [*parts, *resolved.inserted], metadata)
    if resolved.changed:
        changed = [*changed, _read(lake, arrow_schema(points), resolved.changed)]
    if changed:
        rows = _ready(changed, points.names, metadata)
        gone = "value_hash IS NULL"
        update(lake, points, rows, metadata, gone=gone, within=_within(span))


def _within(span: tuple[float, float]) -> str:
    low, high = _near(span)
    return f"jd >= {low!r} AND jd <= {high!r}"


def _read(lake: Lake, schema: pa.Schema, files: Sequence[str]) -> DataFrame:
    from pyspark.sql.pandas.types import from_arrow_schema

    return lake.spark.read.schema(from_arrow_schema(schema)).parquet(*files)


def _ready(parts: Sequence[DataFrame], names: list[str], metadata: Mapping[str, Any]) -> DataFrame:
    from pyspark.sql import functions as f

    run = f.lit(metadata["run_id"]).alias("run_id")
    columns = [name for name in names if name != "run_id"]
    rows = parts[0].select(*columns)
    for part in parts[1:]:
        rows = rows.unionByName(part.select(*columns))
    return rows.select(*columns, run)
