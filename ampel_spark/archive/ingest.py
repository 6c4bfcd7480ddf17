"""Archive files into the lake: every member accounted for, every file once.

A chunk of files is decoded once into staging, then committed in a fixed order: ``datapoints``,
``alerts``, ``quarantine``, and at last ``archive_files``, whose rows name the versions that belong
together. Readers pin the set that the newest marker names, so a chunk that was killed half-way is
not seen, and reading it again adds what is missing and nothing twice.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.archive import ztf
from ampel_spark.archive.datapoints import merge_datapoints
from ampel_spark.archive.files import ArchiveFile, find_files, hash_files
from ampel_spark.archive.packets import packet_schema
from ampel_spark.archive.readers import Reader, check_settings, name_patterns, reader_of
from ampel_spark.archive.surveys import Survey
from ampel_spark.errors import ArchiveError
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.progress import progress
from ampel_spark.lake.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["Ingested", "Pinned", "ingest", "pinned"]

#: Compressed bytes per chunk: what is staged, decoded, at a time.
CHUNK_BYTES = 2 << 30


@dataclass(frozen=True)
class Ingested:
    """What an ingest did: files read and files known already, and the members' accounts."""

    files: int
    known: int
    packets: int
    stored: int
    duplicate: int
    quarantined: int
    broken: int


@dataclass(frozen=True)
class Pinned:
    """Versions of the archive's tables that belong together."""

    alerts: int
    datapoints: int
    quarantine: int


def pinned(lake: Lake) -> Pinned:
    """Return the versions that the newest complete chunk names.

    Raises
    ------
    ArchiveError
        If nothing was ingested yet.
    """
    if lake.has("archive_files"):
        marks = lake.arrow(
            "archive_files", ["alerts_version", "datapoints_version", "quarantine_version"]
        )
        if len(marks):
            # Versions only grow, and a marker names three that belong together.
            return Pinned(*(max(marks[c].to_pylist()) for c in marks.column_names))
    raise ArchiveError(
        f"lake {lake.root} holds no alerts yet; ingest an archive first (ampel-spark ingest PATH)"
    )


def ingest(
    spark: SparkSession,
    lake: str | Path | Lake,
    paths: Sequence[str | Path],
    survey: Survey | None = None,
    run_id: str | None = None,
    out: Callable[[str], None] = print,
) -> Ingested:
    """Read archives into the lake.

    Parameters
    ----------
    spark : SparkSession
    lake : path or Lake
    paths : sequence of path
        Directories, files or globs; see `ampel_spark.archive.files.find_files`.
    survey : Survey, optional
        Whose files they are; ZTF's packets without it.
    run_id : str, optional
        Run to write into the rows; made from the time where it is not given.
    out : callable
        Takes lines that say how far it is.

    Raises
    ------
    ArchiveError
        If an archive does not exist, a file changed since it was read, or the accounts do not
        close.
    """
    survey = survey or Survey(name=ztf.SURVEY, access=ztf.ACCESS)
    lake = lake if isinstance(lake, Lake) else Lake(spark, lake)
    run_id = run_id or time.strftime("ingest-%Y%m%dT%H%M%S", time.gmtime())
    files = hash_files(find_files(paths, name_patterns(survey)))
    with lake.lock("archive"):
        new = _new_files(lake, files)
        if len(new) < len(files):
            out(f"ingest: {len(files) - len(new)} of {len(files)} files were read before")
        totals = dict.fromkeys(("packets", "stored", "duplicate", "quarantined", "broken"), 0)
        done, started = 0, time.monotonic()
        for number, chunk in enumerate(_chunks(new)):
            counts = _ingest_chunk(lake, chunk, survey, run_id, number, out)
            for key in totals:
                totals[key] += counts[key]
            done += len(chunk)
            rate = totals["packets"] / max(time.monotonic() - started, 1e-9)
            out(
                f"ingest: {done}/{len(new)} files, {totals['packets']} packets "
                f"({rate:.0f}/s): {totals['stored']} stored, {totals['duplicate']} duplicate, "
                f"{totals['quarantined']} quarantined"
            )
    return Ingested(len(new), len(files) - len(new), **totals)


def _new_files(lake: Lake, files: list[ArchiveFile]) -> list[ArchiveFile]:
    """Leave out files read before, told by their hash, and copies among `files`."""
    lake.ensure(TABLES["archive_files"])
    table = lake.arrow("archive_files", ["sha256", "path"])
    known = dict(zip(table["sha256"].to_pylist(), table["path"].to_pylist(), strict=True))
    by_path = {path: sha256 for sha256, path in known.items()}
    new: dict[str, ArchiveFile] = {}
    for file in files:
        if file.sha256 in known:
            continue
        if file.path in by_path:
            raise ArchiveError(
                f"{file.path} changed since it was read (sha256 {by_path[file.path][:12]}… then, "
                f"{file.sha256[:12]}… now); restore it, or give the new file another name: packets "
                "stored before then count as duplicates"
            )
        new.setdefault(file.sha256, file)
    return list(new.values())


def _chunks(files: list[ArchiveFile]) -> Iterator[list[ArchiveFile]]:
    chunk: list[ArchiveFile] = []
    size = 0
    for file in files:
        if chunk and size + file.size > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(file)
        size += file.size
    if chunk:
        yield chunk


def _ingest_chunk(
    lake: Lake,
    files: list[ArchiveFile],
    survey: Survey,
    run_id: str,
    number: int,
    out: Callable[[str], None],
) -> dict[str, int]:
    from pyspark.sql import functions as f

    chunk = f"{run_id}-{number}"
    with lake.staging(f"ingest-{chunk}") as folder:
        with progress(lake.spark, f"ingest: reading {len(files)} files", out):
            _decode(lake.spark, files, survey).write.mode("overwrite").parquet(f"{folder}/packets")
        if survey.reader != "ztf_avro":
            check_settings(f"{folder}/packets")
        members = lake.spark.read.parquet(f"{folder}/packets")
        sort_packets(lake, members).write.mode("overwrite").parquet(f"{folder}/sorted")
        packets = lake.spark.read.parquet(f"{folder}/sorted")
        accounts = _accounts(members, packets, files)
        info: dict[str, Any] = {"run_id": run_id, "chunk": chunk}
        nights = sorted(
            {
                n
                for a in accounts.values()
                for n in (a["night_first"], a["night_last"])
                if n is not None
            }
        )
        if nights:
            info["nights"] = [nights[0], nights[-1]]
        stored = packets.where("fate = 'stored'").withColumn("run_id", f.lit(run_id))
        datapoints_version = merge_datapoints(lake, stored, info, folder, survey.label)
        alerts_version = lake.append(ztf.alerts_table(), stored, info)
        bad = (
            members.where("row IN ('bad', 'broken')")
            .select("file", "member", "sha256", "reason", "detail")
            .union(
                packets.where("fate = 'quarantined'").select(
                    "file",
                    "member",
                    f.concat(f.lit("content:"), f.hex("content_hash")).alias("sha256"),
                    f.lit("conflict").alias("reason"),
                    f.format_string(
                        "alert %d is stored with content %s, this packet has %s", "alert_id",
                        f.hex("stored_hash"), f.hex("content_hash"),
                    ).alias("detail"),
                )
            )
        )  # fmt: skip
        lake.ensure(TABLES["quarantine"])
        if any(a["quarantined"] or a["broken"] for a in accounts.values()):
            lake.insert(TABLES["quarantine"], bad.withColumn("run_id", f.lit(run_id)), info)
        quarantine_version = lake.version("quarantine")
        versions = (datapoints_version, alerts_version, quarantine_version)
        rows = [
            (file.path, file.sha256, survey.label, file.size, a["packets"], a["stored"],
             a["duplicate"], a["quarantined"], a["broken"] > 0, a["night_first"],
             a["night_last"], chunk, *versions, run_id)
            for file, a in ((file, accounts[file.path]) for file in files)
        ]  # fmt: skip
        table = TABLES["archive_files"]
        lake.insert(table, lake.spark.createDataFrame(rows, table.schema()).coalesce(1), info)
    return {
        k: sum(a[k] for a in accounts.values())
        for k in ("packets", "stored", "duplicate", "quarantined", "broken")
    }


def _decode(spark: SparkSession, files: list[ArchiveFile], survey: Survey) -> DataFrame:
    """Return one row per member of `files`; the big files first, each in one task."""
    from pyspark.sql.pandas.types import from_arrow_schema

    order = sorted(files, key=lambda file: (-file.size, file.path))
    slices = min(len(order), 4 * spark.sparkContext.defaultParallelism)
    bins: list[list[tuple[str, str, int]]] = [[] for _ in range(slices)]
    loads = [0] * slices
    for file in order:
        lightest = loads.index(min(loads))
        bins[lightest].append((file.path, file.sha256, lightest))
        loads[lightest] += file.size + 100_000  # a file costs something to open, however small
    rows = [row for rows in bins for row in rows]
    source = spark.createDataFrame(rows, "path string, sha256 string, task int").repartitionById(
        slices, "task"
    )
    return source.mapInArrow(
        functools.partial(_read_task, reader_of(survey)), from_arrow_schema(packet_schema())
    )


def _read_task(reader: Reader, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        pairs = zip(
            batch.column("path").to_pylist(), batch.column("sha256").to_pylist(), strict=True
        )
        yield from reader(pairs)


def sort_packets(lake: Lake, members: DataFrame) -> DataFrame:
    """Say what becomes of each readable packet: ``fate`` is stored, duplicate or quarantined.

    A packet whose alert id is known is a duplicate if all that is kept of it is the same, and in
    conflict otherwise. Among packets of one chunk, order of content decides, not of files.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    kept = [
        c
        for c in members.columns
        if c not in ("row", "file", "member", "sha256", "reason", "detail", "seen", "extra")
    ]
    packets = members.where("row = 'packet'").withColumn("content_hash", f.xxhash64(*kept))
    order = Window.partitionBy("survey", "alert_id").orderBy("content_hash", "file", "member")
    packets = packets.withColumn("copy", f.row_number().over(order)).withColumn(
        "first_hash", f.first("content_hash").over(order)
    )
    if lake.has("alerts"):
        known = lake.read("alerts").select(
            "survey", "alert_id", f.col("content_hash").alias("known_hash")
        )
        packets = packets.join(known, ["survey", "alert_id"], "left")
    else:
        packets = packets.withColumn("known_hash", f.lit(None).cast("bigint"))
    stored_hash = f.coalesce("known_hash", "first_hash")
    fate = (
        f.when(f.col("known_hash").isNull() & (f.col("copy") == 1), "stored")
        .when(f.col("content_hash") == stored_hash, "duplicate")
        .otherwise("quarantined")
    )
    return (
        packets.withColumn("fate", fate)
        .withColumn("stored_hash", stored_hash)
        .drop("copy", "first_hash", "known_hash")
    )


def _accounts(
    members: DataFrame, packets: DataFrame, files: list[ArchiveFile]
) -> dict[str, dict[str, Any]]:
    """Count per file, and hold that every member seen is stored, a duplicate or in quarantine."""
    from pyspark.sql import functions as f

    accounts: dict[str, dict[str, Any]] = {}
    bad = members.groupBy("file").agg(
        f.sum("seen").alias("packets"),
        f.count_if(f.col("row") == "bad").alias("bad"),
        f.count_if(f.col("row") == "broken").alias("broken"),
    )
    fates = packets.groupBy("file").agg(
        *(
            f.count_if(f.col("fate") == fate).alias(fate)
            for fate in ("stored", "duplicate", "quarantined")
        ),
        f.min(f.when(f.col("fate") == "stored", f.col("night"))).alias("night_first"),
        f.max(f.when(f.col("fate") == "stored", f.col("night"))).alias("night_last"),
    )
    for row in bad.join(fates, "file", "left").collect():
        a = row.asDict()
        a = {k: 0 if v is None and not k.startswith("night") else v for k, v in a.items()}
        a["quarantined"] += a.pop("bad")
        accounts[a["file"]] = a
    for file in files:
        account = accounts.get(file.path)
        if account is None or account["packets"] != sum(
            account[k] for k in ("stored", "duplicate", "quarantined")
        ):
            raise ArchiveError(
                f"the accounts of {file.path} do not close: {account}; "
                "nothing of this chunk was committed"
            )
    return accounts
