"""Members of archive files: decoded into staging, told apart, and counted to the last one."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pyarrow import parquet

from ampel_spark.archive.committing.declared import ArchiveTables
from ampel_spark.archive.committing.staging import INDEX, OTHERS, points_schema, stage
from ampel_spark.archive.reading.files import ArchiveFile
from ampel_spark.archive.reading.packets import read_batches
from ampel_spark.archive.reading.readers import Reader
from ampel_spark.archive.reading.ztf import alerts_table
from ampel_spark.errors import ArchiveError
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.parts import Part
from ampel_spark.lake.scan import groups_with
from ampel_spark.lake.tasks import run_tasks

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

__all__ = [
    "Members",
    "accounts_of",
    "check_read",
    "conflicts",
    "decode",
    "sort_packets",
    "stored_of",
]


@dataclass(frozen=True)
class Members:
    """Members of a chunk's files, staged (see `ampel_spark.archive.committing.staging`).

    Attributes
    ----------
    spark : SparkSession
    tables : ArchiveTables
    indexed, left : tuple of str
        The files of `index` and of `others`.
    alerts : tuple of Part
        The alerts, as parts of the table that are not committed.
    places : dict of int to str
        The files of `points`, by task.
    files : dict of str to dict
        What was counted of each file.
    shown : int
        Rows of `points`.
    ids : (int, int)
        The smallest and the largest alert id.
    span : (float, float)
        JD of the first and the last datapoint.
    """

    spark: SparkSession
    tables: ArchiveTables
    indexed: tuple[str, ...]
    left: tuple[str, ...]
    alerts: tuple[Part, ...]
    places: Mapping[int, str]
    files: Mapping[str, Mapping[str, Any]]
    shown: int
    ids: tuple[int, int]
    span: tuple[float, float]

    @property
    def index(self) -> DataFrame:
        """What tells packets apart: ``survey, alert_id, content_hash, file, member, night``."""
        return _read(self.spark, INDEX, self.indexed)

    @property
    def others(self) -> DataFrame:
        """What could not be taken: ``row`` (bad, broken, entry), ``file, member, sha256``…"""
        return _read(self.spark, OTHERS, self.left)

    @property
    def points(self) -> DataFrame:
        """Datapoints as packets show them."""
        schema = points_schema(self.tables.points)
        return _read(self.spark, schema, list(self.places.values()))


def decode(
    spark: SparkSession,
    files: list[ArchiveFile],
    folder: str,
    run_id: str,
    tables: ArchiveTables,
    reader: Reader = read_batches,
) -> Members:
    """Decode `files` into staging in `folder`; the big files first, each in one task."""
    order = sorted(files, key=lambda file: (-file.size, file.path))
    slices = min(len(order), 4 * spark.sparkContext.defaultParallelism)
    bins: list[list[tuple[str, int]]] = [[] for _ in range(slices)]
    loads = [0] * slices
    for file in order:
        lightest = loads.index(min(loads))
        bins[lightest].append((file.path, lightest))
        loads[lightest] += file.size + 100_000  # a file costs something to open, however small
    work = functools.partial(stage, reader, tables, folder, run_id)
    tasks = run_tasks(spark, work, [row for rows in bins for row in rows], "path string, task int")
    ids = [i for task in tasks for i in task["ids"] or ()]
    jds = [jd for task in tasks for jd in task["span"] or ()]
    return Members(
        spark,
        tables,
        tuple(task["index"] for task in tasks if task["index"]),
        tuple(task["others"] for task in tasks if task["others"]),
        tuple(Part(**task["alerts"]) for task in tasks if task["alerts"]),
        {task["task"]: task["points"] for task in tasks if task["points"]},
        _by_file(tasks),
        sum(task["shown"] for task in tasks),
        (min(ids, default=0), max(ids, default=0)),
        (min(jds, default=0.0), max(jds, default=0.0)),
    )


def _read(spark: SparkSession, schema: pa.Schema, paths: Sequence[str]) -> DataFrame:
    from pyspark.sql.pandas.types import from_arrow_schema

    if not paths:
        return spark.createDataFrame([], from_arrow_schema(schema))
    return spark.read.schema(from_arrow_schema(schema)).parquet(*paths)


def _by_file(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {path: account for task in tasks for path, account in task["files"].items()}


def sort_packets(lake: Lake, members: Members, path: str) -> DataFrame | None:
    """Say what becomes of each readable packet: ``fate`` is stored, duplicate or quarantined.

    A packet whose alert id is known is a duplicate if all that is kept of it is the same, and in
    conflict otherwise. Among packets of one chunk, order of content decides, not of files. Where no
    alert id stands twice, which is the rule, all are stored, and nothing is returned; otherwise
    `members.index`, with ``fate`` and ``stored_hash``, staged at `path`.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    # Alert ids grow with time: only files of the same nights are looked at.
    if not _any_twice(members, lake.files_between("alerts", "alert_id", *members.ids)):
        return None
    key = ["survey", "alert_id"]
    packets = members.index
    ids = packets.select(*key, f.lit(None).cast("bigint").alias("known_hash"))
    known = lake.between(alerts_table(), [*key, "content_hash"], "alert_id", *members.ids)
    ids = ids.unionByName(known.select(*key, f.col("content_hash").alias("known_hash")))
    repeated = ids.groupBy("alert_id", "survey").agg(
        f.max("known_hash").alias("known_hash"), f.count("*").alias("n"),
        f.count("known_hash").alias("known"),
    )  # fmt: skip
    repeated = repeated.where("n > 1 AND n > known").select(*key, "known_hash")
    repeated.write.mode("overwrite").parquet(path)
    repeated = lake.spark.read.schema(repeated.schema).parquet(path)
    if repeated.isEmpty():
        return None
    order = Window.partitionBy(*key).orderBy("content_hash", "file", "member")
    fates = (
        packets.join(repeated, key)
        .withColumn("copy", f.row_number().over(order))
        .withColumn("stored_hash", f.coalesce("known_hash", f.first("content_hash").over(order)))
    )
    fate = (
        f.when(f.col("known_hash").isNull() & (f.col("copy") == 1), "stored")
        .when(f.col("content_hash") == f.col("stored_hash"), "duplicate")
        .otherwise("quarantined")
    )
    fates = fates.select(*packets.columns, fate.alias("fate"), "stored_hash").unionByName(
        packets.join(repeated, key, "left_anti")
        .withColumn("fate", f.lit("stored"))
        .withColumn("stored_hash", f.col("content_hash"))
    )
    fates.write.mode("overwrite").parquet(f"{path}_fates")
    return lake.spark.read.parquet(f"{path}_fates")


def _any_twice(members: Members, known: Sequence[str]) -> bool:
    """Say whether an alert id, of whatever survey, stands twice: in `members`, or files of alerts.

    Nearly never does one; that is seen without Spark.
    """
    found = [parquet.read_table(path, columns=["alert_id"]) for path in members.indexed]
    if not found:
        return False
    ids = np.sort(np.concatenate([rows["alert_id"].to_numpy() for rows in found]))
    if (ids[1:] == ids[:-1]).any():
        return True
    for path in known:
        with parquet.ParquetFile(path) as file:
            for group in groups_with(file, {"alert_id": members.ids}):
                there = file.read_row_group(group, columns=["alert_id"])["alert_id"].to_numpy()
                places = np.minimum(np.searchsorted(ids, there), len(ids) - 1)
                if (ids[places] == there).any():
                    return True
    return False


def stored_of(rows: DataFrame, fates: DataFrame | None, alert: str, *others: str) -> DataFrame:
    """Return those of staged `rows` that are of a stored packet.

    `alert` is the column that has its id; `others` must be as those of the packet, too.
    """
    from pyspark.sql import functions as f

    if fates is None:
        return rows
    stored = fates.where("fate = 'stored'").select(
        "survey", f.col("alert_id").alias(alert), "content_hash", *others
    )
    return rows.join(stored, ["survey", alert, "content_hash", *others], "left_semi")


def conflicts(packets: DataFrame) -> DataFrame:
    """Return rows of ``quarantine`` for packets under an alert id that another packet has."""
    from pyspark.sql import functions as f

    return packets.where("fate = 'quarantined'").select(
        "file",
        "member",
        f.concat(f.lit("content:"), f.hex("content_hash")).alias("sha256"),
        f.lit("conflict").alias("reason"),
        f.format_string(
            "alert %d is stored with content %s, this packet has %s", "alert_id",
            f.hex("stored_hash"), f.hex("content_hash"),
        ).alias("detail"),
    )  # fmt: skip


def check_read(members: Members, files: Sequence[ArchiveFile]) -> None:
    """Refuse a file that is not what it was when it was looked at.

    Raises
    ------
    ArchiveError
        If one was not read, or other bytes.
    """
    for file in files:
        seen = members.files.get(file.path)
        if seen is None:
            raise ArchiveError(f"{file.path} was not read; nothing of this chunk was committed")
        if seen["bytes"] != file.size or file.sha256 not in (None, seen["sha256"]):
            raise ArchiveError(
                f"{file.path} changed since it was looked at, or cannot be read to its end: it had "
                f"{file.size} bytes, {seen['bytes']} were read; nothing of this chunk was "
                "committed, ingest it when it is complete"
            )


def accounts_of(
    members: Members, fates: DataFrame | None, files: list[ArchiveFile]
) -> Mapping[str, dict[str, Any]]:
    """Count per file, and hold that every member seen is stored, a duplicate or in quarantine.

    Returns
    -------
    mapping of str to dict
        By path: ``packets, stored, duplicate, quarantined, broken, empty``, ``entry``, packets of
        whose history something was left out, ``nights``, those of the stored packets, ``why`` the
        file is broken, ``aside``, what of it is no packet, and ``sha256``, that of its bytes.

    Raises
    ------
    ArchiveError
        If the accounts of a file do not close.
    """
    from pyspark.sql import functions as f

    fate_of: dict[str, dict[str, Any]] = {}
    if fates is not None:
        names = ("stored", "duplicate", "quarantined")
        nights = f.sort_array(f.collect_set(f.when(f.col("fate") == "stored", f.col("night"))))
        counted = fates.groupBy("file").agg(
            *(f.count_if(f.col("fate") == fate).alias(fate) for fate in names),
            nights.alias("nights"),
        )
        fate_of = {row["file"]: row.asDict() for row in counted.collect()}
    accounts: dict[str, dict[str, Any]] = {}
    for file in files:
        seen = members.files[file.path]
        none: dict[str, Any] = {"stored": 0, "duplicate": 0, "quarantined": 0, "nights": []}
        all_stored = none | {"stored": seen["good"], "nights": seen["nights"]}
        account = all_stored if fates is None else none | fate_of.get(file.path, {})
        account["quarantined"] += seen["bad"]
        of_file = ("packets", "broken", "empty", "entry", "aside", "why", "sha256")
        account |= {name: seen[name] for name in of_file}
        taken = account["stored"] + account["duplicate"] + account["quarantined"]
        if account["packets"] != taken:
            raise ArchiveError(
                f"the accounts of {file.path} do not close: {account}; this chunk is not in the "
                "lake, and readers see none of it"
            )
        accounts[file.path] = account
    return accounts
