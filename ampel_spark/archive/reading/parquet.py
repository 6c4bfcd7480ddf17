"""Alerts in Parquet files, as brokers export them: a row is a packet.

The rows have the fields of the survey's packets (ZTF's ``objectId, candid, candidate,
prv_candidates``), and go through the same shaping; what a broker adds at the top is kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ampel_spark.archive.reading import ztf
from ampel_spark.archive.reading.builder import UNFORESEEN
from ampel_spark.archive.reading.files import Digest
from ampel_spark.archive.reading.mapping import Mapper
from ampel_spark.archive.reading.rows import (
    Packet,
    bad_row,
    broken_row,
    entry_row,
    packet_of,
)
from ampel_spark.archive.reading.surveys import OwnColumns, Survey

__all__ = ["Shape", "Shaped", "is_parquet", "read_alerts", "taken", "ztf_shape"]

#: A packet, which entries of its history were left out, and which values of declared columns.
Shaped = tuple[Packet, Sequence[str], Sequence[str]]
#: What makes a packet of a decoded one, of its file and of its member.
Shape = Callable[[Any, str, str], Shaped]

#: Rows read at a time.
_ROWS = 500


def is_parquet(path: str | Path) -> bool:
    """Say whether a file is a Parquet file, by its first bytes; one that cannot be read is none."""
    try:
        with Path(path).open("rb") as stream:
            return stream.read(4) == b"PAR1"
    except OSError:
        return False


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
    shape: Shape
    if survey.packets is None:
        shape, own = functools.partial(ztf_shape, survey.label, survey.columns), {"candidate"}
    else:
        shape = Mapper(survey).shape
        own = {path.partition(".")[0] for path in survey.packets.points[0].records}
    number = 0
    try:
        file = parquet.ParquetFile(path)
        names = [f.name for f in file.schema_arrow if not f.name.startswith("cutout")]
        if not own.intersection(names):
            detail = (
                f"parquet: no alerts of survey {survey.name}: no column {' or '.join(sorted(own))};"
                f" its columns are {', '.join(names)}"
            )
            yield broken_row(path, digest.hexdigest(), "broken_archive", detail)
            return
        for batch in file.iter_batches(_ROWS, columns=names):
            for record in _records(batch):
                number += 1
                yield from taken(shape, record, path, f"row {number}", repr(record).encode())
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


def taken(
    shape: Shape, record: Any, path: str, member: str, data: bytes
) -> Iterator[Packet | dict[str, Any]]:
    """Yield a decoded packet and what of it was left out, or the row that says what is wrong.

    Parameters
    ----------
    shape : callable
    record : object
        What was decoded; a `BadPacket` says why there is nothing.
    path, member : str
        Where it comes from.
    data : bytes
        What it was decoded from.
    """
    try:
        if isinstance(record, ztf.BadPacket):
            raise record
        packet, faults, nulls = shape(record, path, member)
    except ztf.BadPacket as error:
        yield bad_row(path, member, data, error.reason, str(error))
    except UNFORESEEN as error:
        yield bad_row(path, member, data, "bad_value", f"{type(error).__name__}: {error}")
    else:
        if faults or nulls:
            yield entry_row(path, member, data, faults, nulls)
        yield packet


def ztf_shape(label: str, columns: OwnColumns, record: Any, path: str, member: str) -> Shaped:
    """Return a packet of ZTF, and what of it was left out.

    Parameters
    ----------
    label : str
        What the tables call the survey.
    columns : OwnColumns
        What the survey declares.
    record : object
        What was decoded.
    path, member : str
        Where it comes from.
    """
    if not isinstance(record, Mapping):
        raise ztf.BadPacket(
            "wrong_schema", f"the packet is a {type(record).__name__}, not a record"
        )
    made = ztf.shape(record, columns.alerts, columns.points)
    return packet_of(made, path, member, label), made.faults, made.nulls
