"""Alerts of any survey in Avro and Parquet files, read by its settings alone.

Avro packets come in containers, alone or in tar files; in a Parquet file, as brokers export them, a
row is a packet with the same fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ampel_spark.archive.reading.files import Broken, Digest, read_members
from ampel_spark.archive.reading.mapping import Mapper
from ampel_spark.archive.reading.parquet import is_parquet, read_alerts, taken
from ampel_spark.archive.reading.rows import Packet, broken_row
from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.archive.reading.values import printable
from ampel_spark.archive.reading.wire import records

__all__ = ["read_packets"]


def read_packets(
    path: str, survey: Survey, digest: Digest, schema: str | None = None
) -> Iterator[Packet | dict[str, Any]]:
    """Yield the alerts of an archive file, and the rows of what could not be taken.

    Parameters
    ----------
    path : str
        A tar file of Avro containers, one of these, or a Parquet file.
    survey : Survey
        With a section ``packets``.
    digest : Digest
        Takes the bytes of the file; of a Parquet file it has them.
    schema : str, optional
        Schema [JSON] of Avro packets that do not have theirs with them.
    """
    shape = Mapper(survey).shape
    if is_parquet(path):
        yield from read_alerts(path, survey, digest, shape=shape)
        return
    for item in read_members(path, digest):
        if isinstance(item, Broken):
            yield broken_row(path, digest.hexdigest(), item.reason, item.detail)
            continue
        for member, record in records(printable(item.name), item.data, schema):
            yield from taken(shape, record, path, member, item.data)
