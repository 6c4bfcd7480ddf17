"""ZTF alerts in Parquet files, as brokers export them: a row is a packet.

The rows have the fields of the survey's packets (``objectId, candid, candidate, prv_candidates``),
and go through the same shaping; what a broker adds at the top is kept as ``extra``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ampel_spark.archive.reading import ztf
from ampel_spark.archive.reading.builder import UNFORESEEN
from ampel_spark.archive.reading.files import Digest
from ampel_spark.archive.reading.rows import (
    Packet,
    bad_row,
    broken_row,
    entry_row,
    packet_of,
)
from ampel_spark.archive.reading.surveys import Survey

__all__ = ["read_alerts"]

#: Rows read at a time.
_ROWS = 500


def read_alerts(
    path: str, survey: Survey, digest: Digest, _: str | None = None
) -> Iterator[Packet | dict[str, Any]]:
    """Yield the alerts of a Parquet file, and the rows of what could not be taken.

    Parameters
    ----------
    path : str
    survey : Survey
    digest : Digest
        Over the whole file.
    """
    number = 0
    try:
        file = parquet.ParquetFile(path)
        names = [f.name for f in file.schema_arrow if not f.name.startswith("cutout")]
        for batch in file.iter_batches(_ROWS, columns=names):
            for record in _records(batch):
                number += 1
                yield from _taken(record, path, f"row {number}", survey)
    except (pa.ArrowException, OSError) as error:
        yield broken_row(
            path, digest.hexdigest(), "broken_archive", f"parquet: after {number} rows: {error}"
        )


def _records(batch: pa.RecordBatch) -> Iterator[Mapping[str, Any] | ztf.BadPacket]:
    """Yield the rows of a batch; a row with a value that Python has no form of says which it is."""
    try:
        yield from batch.to_pylist()
        return
    except UNFORESEEN:
        pass
    for i in range(len(batch)):
        row: dict[str, Any] = {}
        fault = None
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                row[name] = column[i].as_py()
            except UNFORESEEN as error:
                fault = ztf.BadPacket("bad_value", f"field {name}: {error}")
        yield fault or row


def _taken(
    record: Mapping[str, Any] | ztf.BadPacket, path: str, member: str, survey: Survey
) -> Iterator[Packet | dict[str, Any]]:
    data = repr(record).encode()
    try:
        if isinstance(record, ztf.BadPacket):
            raise record
        shaped = ztf.shape(record, survey.columns.alerts, survey.columns.points)
    except ztf.BadPacket as error:
        yield bad_row(path, member, data, error.reason, str(error))
        return
    except UNFORESEEN as error:
        yield bad_row(path, member, data, "bad_value", f"{type(error).__name__}: {error}")
        return
    if shaped.faults or shaped.nulls:
        yield entry_row(path, member, data, shaped.faults, shaped.nulls)
    yield packet_of(shaped, path, member, survey.label)
