"""Readers by survey: which files are a survey's, and what reads them into batches.

All of them give batches of `ampel_spark.archive.packets.packet_schema`. A file that is not what the
survey's settings say (a column that it lacks, a band without a name) is an error of the settings:
`check_settings` raises it before anything is committed, so that the file can be read once they are
right.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ampel_spark.archive.files import EMPTY, PATTERNS, Digest
from ampel_spark.archive.packets import BATCH_ROWS, read_batches
from ampel_spark.archive.rows import Packet, batch_of, end_row
from ampel_spark.archive.surveys import Survey
from ampel_spark.archive.tables import FORMATS
from ampel_spark.errors import ArchiveError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["SETTINGS", "check_settings", "name_patterns", "reader_of"]

#: Reason of a file-level row that stands for an error of the survey's settings.
SETTINGS = "settings"

#: Datapoints per Arrow batch: bounds memory, not results.
BATCH_POINTS = 100_000

Reader = Callable[[Iterable[str]], Iterator[pa.RecordBatch]]
Items = Iterator[Packet | dict[str, Any]]


def name_patterns(survey: Survey) -> tuple[str, ...]:
    """Return patterns that the names of a survey's files fit (``*.csv``), see `files.fits`."""
    if survey.photometry is None:
        return ("*.parquet", "*.pq") if survey.reader == "ztf_parquet" else PATTERNS
    if survey.photometry.files:
        return survey.photometry.files
    kinds = (survey.photometry.format,) if survey.photometry.format else tuple(FORMATS)
    return tuple(f"*{ending}" for kind in kinds for ending in FORMATS[kind])


def reader_of(survey: Survey, schema: str | None = None) -> Reader:
    """Return what reads a survey's files into batches, in Spark's workers.

    Parameters
    ----------
    survey : Survey
    schema : str, optional
        Schema [JSON] of Avro packets that do not have theirs with them.
    """
    if survey.reader == "ztf_avro":
        return functools.partial(read_batches, schema=schema) if schema else read_batches
    return functools.partial(_read, survey, schema)


def check_settings(others: DataFrame) -> None:
    """Raise the first errors of the survey's settings that decoding met.

    Parameters
    ----------
    others : DataFrame
        ``reason`` and ``detail`` of what could not be taken.

    Raises
    ------
    ArchiveError
        If there is any.
    """
    details = sorted(row["detail"] for row in others.where(f"reason = '{SETTINGS}'").collect())
    if details:
        more = f"; and {len(details) - 3} more files" if len(details) > 3 else ""
        raise ArchiveError("; ".join(details[:3]) + more + "; nothing of this chunk was committed")


def _read(survey: Survey, schema: str | None, paths: Iterable[str]) -> Iterator[pa.RecordBatch]:
    packets: list[Packet] = []
    others: list[dict[str, Any]] = []
    points = 0
    for path in paths:
        seen, digest = 0, Digest()
        for item in _items(path, digest, survey, schema):
            if isinstance(item, Packet):
                packets.append(item)
                points += len(item.points) + len(item.forced)
            else:
                others.append(item)
            seen += not isinstance(item, dict) or item["row"] == "bad"
            if len(packets) + len(others) >= BATCH_ROWS or points >= BATCH_POINTS:
                yield batch_of(packets, others)
                packets, others, points = [], [], 0
        others.append(end_row(path, digest, seen))
    yield batch_of(packets, others)


def _items(path: str, digest: Digest, survey: Survey, schema: str | None) -> Items:
    if survey.reader == "lsst_avro":
        from ampel_spark.archive.lsst import read_packets

        yield from read_packets(path, survey, digest, schema)
        return
    # Tables are read from their ends on, or by libraries that take paths: they are hashed before.
    try:
        before = Path(path).stat()
        digest.take_file(path)
        yield from _rows_of_table(path, digest.hexdigest(), survey)
        now = Path(path).stat()
    except OSError as error:
        yield _broken(path, digest.hexdigest(), SETTINGS, f"{path} cannot be read: {error}")
        return
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        yield _broken(path, digest.hexdigest(), SETTINGS, f"{path} was written to as it was read")


def _rows_of_table(path: str, sha256: str, survey: Survey) -> Items:
    if survey.reader == "ztf_parquet":
        from ampel_spark.archive.parquet import read_alerts

        yield from read_alerts(path, sha256, survey.label)
        return
    yield from _objects(path, sha256, survey)


def _objects(path: str, sha256: str, survey: Survey) -> Items:
    from ampel_spark.archive.photometry import objects_of, read_photometry

    try:
        table = read_photometry(path, survey)
    except ArchiveError as error:
        yield _broken(path, sha256, "broken_archive", str(error))
        return
    try:
        good, bad = objects_of(table, survey)
    except ArchiveError as error:
        yield _broken(path, sha256, SETTINGS, str(error))
        return
    if not good and not bad:
        yield _broken(path, sha256, EMPTY, "the table has no row")
    yield from bad
    yield from good


def _broken(path: str, sha256: str, reason: str, detail: str) -> dict[str, Any]:
    return {
        "row": "broken",
        "file": path,
        "sha256": sha256,
        "reason": reason,
        "detail": detail[:500],
    }
