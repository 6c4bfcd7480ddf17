"""Readers by survey: which files are a survey's, and how they become batches.

All of them give batches of `builder.packet_schema`. A file that is not what the
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

from ampel_spark.archive.reading import tables
from ampel_spark.archive.reading.files import SETTINGS, Digest
from ampel_spark.archive.reading.formats import FORMATS
from ampel_spark.archive.reading.mapped import asked_of, shaped
from ampel_spark.archive.reading.mapping import Mapper
from ampel_spark.archive.reading.own import own_types
from ampel_spark.archive.reading.packets import BATCH_ROWS, Route, read_file
from ampel_spark.archive.reading.parquet import is_parquet
from ampel_spark.archive.reading.rows import Packet, batch_of, broken_row, end_row
from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.errors import ArchiveError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["check_settings", "name_patterns", "reader_of"]

#: Datapoints per Arrow batch: bounds memory, not results.
BATCH_POINTS = 100_000

Reader = Callable[[Iterable[str]], Iterator[pa.RecordBatch]]
Items = Iterator[Packet | dict[str, Any]]


def name_patterns(survey: Survey) -> tuple[str, ...]:
    """Return patterns that the names of a survey's files fit (``*.csv``), see `files.fits`."""
    if survey.photometry is None:
        return FORMATS[survey.reader].patterns
    if survey.photometry.files:
        return survey.photometry.files
    kinds = (survey.photometry.format,) if survey.photometry.format else tuple(tables.FORMATS)
    return tuple(f"*{ending}" for kind in kinds for ending in tables.FORMATS[kind])


def reader_of(survey: Survey, schema: str | None = None) -> Reader:
    """Return what reads a survey's files into batches, in Spark's workers.

    Parameters
    ----------
    survey : Survey
    schema : str, optional
        Schema [JSON] of Avro packets that do not have theirs with them.
    """
    form = FORMATS[survey.reader]
    if survey.packets is not None:
        return functools.partial(_read_packets, survey, schema)
    if form.is_batched:
        return functools.partial(form.function(), schema=schema, columns=survey.columns)
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
    own = own_types(survey.columns)
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
                yield batch_of(packets, others, own=own, night_starts=survey.night_starts)
                packets, others, points = [], [], 0
        others.append(end_row(path, digest, seen))
    yield batch_of(packets, others, own=own, night_starts=survey.night_starts)


def _read_packets(
    survey: Survey, schema: str | None, paths: Iterable[str]
) -> Iterator[pa.RecordBatch]:
    """Read files of packets by mapping: Avro by columns where it can be, Parquet row by row."""
    route = Route(
        survey.label,
        asked_of(survey),
        functools.partial(shaped, survey=survey),
        Mapper(survey).shape,
        own_types(survey.columns),
        survey.night_starts,
    )
    for path in paths:
        if is_parquet(path):
            yield from _read(survey, schema, [path])
        else:
            yield from read_file(path, route, schema)


def _items(path: str, digest: Digest, survey: Survey, schema: str | None) -> Items:
    form = FORMATS[survey.reader]
    read = form.function()
    if not form.is_whole:
        yield from read(path, survey, digest, schema)
        return
    try:
        before = Path(path).stat()
        digest.take_file(path)
        yield from read(path, survey, digest, schema)
        now = Path(path).stat()
    except OSError as error:
        yield broken_row(path, digest.hexdigest(), SETTINGS, f"{path} cannot be read: {error}")
        return
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        detail = f"{path} was written to as it was read"
        yield broken_row(path, digest.hexdigest(), SETTINGS, detail)
