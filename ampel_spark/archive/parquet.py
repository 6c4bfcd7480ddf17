"""ZTF alerts in Parquet files, as brokers export them: a row is a packet.

The rows have the fields of the survey's packets (``objectId, candid, candidate, prv_candidates``),
and go through the same shaping; what a broker adds at the top is kept as ``extra``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ampel_spark.archive import ztf
from ampel_spark.archive.rows import Packet, bad_row

__all__ = ["read_alerts"]

#: Rows read at a time.
_ROWS = 500


def read_alerts(path: str, sha256: str, survey: str) -> Iterator[Packet | dict[str, Any]]:
    """Yield the alerts of a Parquet file, and the rows of what could not be taken.

    Parameters
    ----------
    path, sha256 : str
    survey : str
        What the tables call the survey.
    """
    number = 0
    try:
        file = parquet.ParquetFile(path)
        names = [f.name for f in file.schema_arrow if not f.name.startswith("cutout")]
        for batch in file.iter_batches(_ROWS, columns=names):
            for record in batch.to_pylist():
                number += 1
                yield _taken(record, path, f"row {number}", survey)
    except (pa.ArrowException, OSError) as error:
        yield {"row": "broken", "file": path, "sha256": sha256, "reason": "broken_archive",
               "detail": f"parquet: after {number} rows: {error}"[:500]}  # fmt: skip


def _taken(record: Mapping[str, Any], path: str, member: str, survey: str) -> Any:
    try:
        shaped = ztf.shape(record)
    except ztf.BadPacket as error:
        return bad_row(path, member, repr(record).encode(), error.reason, str(error))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        detail = f"{type(error).__name__}: {error}"
        return bad_row(path, member, repr(record).encode(), "bad_value", detail)
    body = shaped.candidate
    return Packet(
        file=path,
        member=member,
        survey=survey,
        name=shaped.name,
        stock=shaped.stock,
        alert_id=body["candid"],
        programid=body["programid"],
        jd=body["jd"],
        ra=body["ra"],
        dec=body["dec"],
        points=shaped.points,
        forced=shaped.forced,
        schema_version=shaped.schema_version,
        extra=shaped.extra,
        candidate=body,
    )
