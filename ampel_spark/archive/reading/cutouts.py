"""Image cutouts of ZTF's alerts, in a table of their own.

They are 60 kB of a packet of 70, so the ingest leaves them out. Whoever wants them asks for them
then or later: files are read for their cutouts alone, and alerts that have some already are passed
over.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import pyarrow as pa

from ampel_spark.archive.reading.files import Broken, find_files, read_members
from ampel_spark.archive.reading.ztf import SURVEY
from ampel_spark.lake.tables import Table, columns_of

if TYPE_CHECKING:
    from ampel_spark.lake.lake import Lake

__all__ = ["CUTOUTS", "keep_cutouts", "read_cutouts"]

#: The table.
CUTOUTS = Table(
    "cutouts",
    "image cutouts of one alert",
    columns_of(
        """
survey | string | survey
alert_id | bigint | alert
science | binary | science image [FITS, gzipped]
template | binary | reference image [FITS, gzipped]
difference | binary | difference image [FITS, gzipped]
file | string | archive file
run_id | string | run that wrote the row
"""
    ),
    ("survey", "alert_id"),
)

_IMAGES = ("science", "template", "difference")
_SCHEMA = pa.schema(
    [
        ("alert_id", pa.int64()),
        *((name, pa.binary()) for name in _IMAGES),
        ("file", pa.string()),
    ]
)
# Alerts per Arrow batch: some MB.
_ROWS = 100


def keep_cutouts(
    lake: Lake, paths: Sequence[str | Path], run_id: str, out: Callable[[str], None] = print
) -> int:
    """Put the cutouts of stored alerts into the lake, and return how many alerts they are of.

    Parameters
    ----------
    lake : Lake
        Whose archive was ingested.
    paths : sequence of path
        Archives, as for the ingest.
    run_id : str
    out : callable
        Takes lines that say how far it is.
    """
    from pyspark.sql import functions as f
    from pyspark.sql.pandas.types import from_arrow_schema

    from ampel_spark.lake.commits import insert
    from ampel_spark.lake.progress import progress

    files = [str(path) for path in find_files(paths)]
    spark = lake.spark
    slices = min(len(files), 4 * spark.sparkContext.defaultParallelism)
    source = spark.createDataFrame([(path,) for path in files], "path string").repartition(slices)
    found = source.mapInArrow(_task, from_arrow_schema(_SCHEMA))
    alerts = lake.read("alerts").where(f.col("survey") == SURVEY).select("alert_id")
    # An alert that is in several files has one row.
    rows = found.join(alerts, "alert_id", "left_semi").dropDuplicates(["alert_id"])
    rows = rows.withColumn("survey", f.lit(SURVEY)).withColumn("run_id", f.lit(run_id))
    with lake.staging(f"cutouts-{run_id}") as folder:
        with progress(spark, f"cutouts: reading {len(files)} files", out):
            rows.write.mode("overwrite").parquet(f"{folder}/cutouts")
        before = lake.read(CUTOUTS.name).count() if lake.has(CUTOUTS.name) else 0
        insert(lake, CUTOUTS, spark.read.parquet(f"{folder}/cutouts"), {"run_id": run_id})
    kept = lake.read(CUTOUTS.name).count() - before
    out(f"cutouts: those of {kept} alerts are new")
    return kept


def read_cutouts(path: str) -> Iterator[dict[str, Any]]:
    """Yield the cutouts of each alert of an archive file that has any.

    What cannot be read is passed over: the ingest has it in quarantine.
    """
    for member in read_members(path):
        if isinstance(member, Broken):
            return
        for packet in _packets(member.data):
            images = {name: _image(packet, name) for name in _IMAGES}
            number = packet.get("candid")
            if isinstance(number, int) and any(images.values()):
                yield {"alert_id": number, **images, "file": path}


def _packets(data: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        for packet in fastavro.reader(io.BytesIO(data)):
            if isinstance(packet, Mapping):
                yield packet
    except Exception:  # damaged bytes: a row of quarantine, and no cutouts
        return


def _image(packet: Mapping[str, Any], name: str) -> bytes | None:
    cutout = packet.get(f"cutout{name.capitalize()}")
    image = cutout.get("stampData") if isinstance(cutout, Mapping) else None
    return image or None


def _task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        rows: list[dict[str, Any]] = []
        for path in batch.column("path").to_pylist():
            for row in read_cutouts(path):
                rows.append(row)
                if len(rows) == _ROWS:
                    yield pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)
                    rows = []
        yield pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)
