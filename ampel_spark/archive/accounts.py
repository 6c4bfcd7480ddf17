"""Members of archive files: decoded into staging, told apart, and counted to the last one."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ampel_spark.archive.files import ArchiveFile
from ampel_spark.archive.packets import packet_schema, read_batches
from ampel_spark.archive.readers import Reader
from ampel_spark.archive.ztf import alerts_table
from ampel_spark.errors import ArchiveError
from ampel_spark.lake.lake import Lake

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["Members", "accounts_of", "conflicts", "decode", "sort_packets"]

#: Columns of a member that are no content of its packet.
_APART = ("row", "file", "member", "sha256", "reason", "detail", "seen", "extra")


@dataclass(frozen=True)
class Members:
    """Members of a chunk's files, staged.

    Attributes
    ----------
    rows : DataFrame
        With `ampel_spark.archive.packets.packet_schema`, and ``content_hash``.
    ids : (int, int)
        The smallest and the largest alert id.
    span : (float, float)
        JD of the first and the last datapoint.
    """

    rows: DataFrame
    ids: tuple[int, int]
    span: tuple[float, float]


def decode(
    spark: SparkSession, files: list[ArchiveFile], path: str, reader: Reader = read_batches
) -> Members:
    """Decode `files` into staging at `path`; the big files first, each in one task."""
    from pyspark.sql import Observation
    from pyspark.sql import functions as f
    from pyspark.sql.pandas.types import from_arrow_schema

    order = sorted(files, key=lambda file: (-file.size, file.path))
    slices = min(len(order), 4 * spark.sparkContext.defaultParallelism)
    bins: list[list[tuple[str, str, int]]] = [[] for _ in range(slices)]
    loads = [0] * slices
    for file in order:
        lightest = loads.index(min(loads))
        bins[lightest].append((file.path, file.sha256, lightest))
        loads[lightest] += file.size + 100_000  # a file costs something to open, however small
    source = spark.createDataFrame(
        [row for rows in bins for row in rows], "path string, sha256 string, task int"
    ).repartitionById(slices, "task")
    told = Observation()
    jds = f.concat("points.jd", "forced.jd")
    rows = source.mapInArrow(
        functools.partial(_read_task, reader), from_arrow_schema(packet_schema())
    )
    kept = [c for c in rows.columns if c not in _APART]
    rows.withColumn("content_hash", f.xxhash64(*kept)).observe(
        told,
        # Minima and maxima are right also where a task was done twice.
        f.min("alert_id").alias("first_id"),
        f.max("alert_id").alias("last_id"),
        f.min(f.array_min(jds)).alias("first_jd"),
        f.max(f.array_max(jds)).alias("last_jd"),
    ).write.mode("overwrite").parquet(path)
    found = {k: 0 if v is None else v for k, v in told.get.items()}
    return Members(
        spark.read.parquet(path),
        (found["first_id"], found["last_id"]),
        (float(found["first_jd"]), float(found["last_jd"])),
    )


def _read_task(reader: Reader, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        pairs = zip(
            batch.column("path").to_pylist(), batch.column("sha256").to_pylist(), strict=True
        )
        yield from reader(pairs)


def sort_packets(lake: Lake, members: Members, path: str) -> DataFrame:
    """Say what becomes of each readable packet: ``fate`` is stored, duplicate or quarantined.

    A packet whose alert id is known is a duplicate if all that is kept of it is the same, and in
    conflict otherwise. Among packets of one chunk, order of content decides, not of files. Where no
    alert id stands twice, which is the rule, nothing needs to be put in order; otherwise what was
    found is staged at `path`.
    """
    from pyspark.sql import Observation, Window
    from pyspark.sql import functions as f

    key = ["survey", "alert_id"]
    packets = members.rows.where("row = 'packet'")
    ids = packets.select(*key, f.lit(None).cast("bigint").alias("known_hash"))
    # Alert ids grow with time: only files of the same nights are looked at.
    known = lake.between(alerts_table(), [*key, "content_hash"], "alert_id", *members.ids)
    ids = ids.unionByName(known.select(*key, f.col("content_hash").alias("known_hash")))
    told = Observation()
    repeated = ids.groupBy(*key).agg(
        f.max("known_hash").alias("known_hash"), f.count("*").alias("n"),
        f.count("known_hash").alias("known"),
    )  # fmt: skip
    repeated = repeated.where("n > 1 AND n > known").select(*key, "known_hash")
    repeated.observe(told, f.max(f.lit(True)).alias("any")).write.mode("overwrite").parquet(path)
    if not told.get["any"]:
        return packets.withColumn("fate", f.lit("stored")).withColumn(
            "stored_hash", f.col("content_hash")
        )
    repeated = lake.spark.read.parquet(path)
    order = Window.partitionBy(*key).orderBy("content_hash", "file", "member")
    fates = (
        packets.select(*key, "file", "member", "content_hash")
        .join(repeated, key)
        .withColumn("copy", f.row_number().over(order))
        .withColumn("stored_hash", f.coalesce("known_hash", f.first("content_hash").over(order)))
    )
    fate = (
        f.when(f.col("known_hash").isNull() & (f.col("copy") == 1), "stored")
        .when(f.col("content_hash") == f.col("stored_hash"), "duplicate")
        .otherwise("quarantined")
    )
    fates = fates.select("file", "member", fate.alias("fate"), "stored_hash")
    fates.write.mode("overwrite").parquet(f"{path}_fates")
    packets = packets.join(lake.spark.read.parquet(f"{path}_fates"), ["file", "member"], "left")
    return packets.withColumn("fate", f.coalesce("fate", f.lit("stored"))).withColumn(
        "stored_hash", f.coalesce("stored_hash", "content_hash")
    )


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


def accounts_of(
    members: DataFrame, packets: DataFrame, files: list[ArchiveFile]
) -> Mapping[str, dict[str, Any]]:
    """Count per file, and hold that every member seen is stored, a duplicate or in quarantine.

    Returns
    -------
    mapping of str to dict
        By path: ``packets, stored, duplicate, quarantined, broken``, and ``nights``, those of the
        stored packets.

    Raises
    ------
    ArchiveError
        If the accounts of a file do not close.
    """
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
        f.sort_array(f.collect_set(f.when(f.col("fate") == "stored", f.col("night")))).alias(
            "nights"
        ),
    )
    for row in bad.join(fates, "file", "left").collect():
        a = row.asDict()
        a = {k: ([] if k == "nights" else 0) if v is None else v for k, v in a.items()}
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
