"""What of a chunk's datapoints is new, sorted out in numbers alone.

A datapoint is shown by some twenty packets, so their values do not travel: a sighting is an object,
an id, a hash of the values, the alert, and the place where the values are staged.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from ampel_spark.archive.staging import TOLD

__all__ = ["CHANGES", "look_up"]

#: A datapoint that is not new and not known as it is: ``change`` is earlier or varied.
CHANGES = pa.schema(
    [
        ("survey", pa.string()),
        ("stock", pa.int64()),
        ("datapoint_id", pa.int64()),
        ("place", pa.int64()),
        ("change", pa.string()),
    ]
)

Array = np.ndarray[Any, Any]


def look_up(folder: str, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Sort sightings out: new, seen earlier than was known, or with more than one set of values.

    Parameters
    ----------
    folder : str
        For what is found: a file of the places of new datapoints, and one of `CHANGES`.
    batches : iterable of Arrow batches
        ``survey, stock, datapoint_id, first_alert_jd, first_alert_id, value_hash, place``: all
        sightings of a datapoint among them. What the lake knows has the place -1.

    Yields
    ------
    Arrow batch of `ampel_spark.archive.staging.TOLD`
        The files, and how many rows of each kind they have.
    """
    parts = [batch for batch in batches if batch.num_rows]
    if not parts:
        return
    table = pa.Table.from_batches(parts)
    number = {
        name: table[name].to_numpy()
        for name in ("stock", "datapoint_id", "first_alert_jd", "first_alert_id", "value_hash",
                     "place")
    }  # fmt: skip
    words = table["survey"].combine_chunks().dictionary_encode()
    survey = words.indices.to_numpy()
    place, jd, alert = number["place"], number["first_alert_jd"], number["first_alert_id"]
    order = np.lexsort((place, alert, jd, survey, number["datapoint_id"], number["stock"]))
    begins = np.zeros(len(order), bool)
    begins[0] = True
    for key in (number["stock"], number["datapoint_id"], survey):
        begins[1:] |= key[order[1:]] != key[order[:-1]]
    starts = np.flatnonzero(begins)
    group = np.cumsum(begins) - 1
    hashes = number["value_hash"][order]
    varied = np.logical_or.reduceat(hashes != hashes[starts][group], starts)
    # The first sighting, and the first that is known; of one and the same alert, the known one.
    at, none = np.arange(len(order)), len(order)
    seen = np.minimum.reduceat(np.where(place[order] >= 0, at, none), starts)
    known = np.minimum.reduceat(np.where(place[order] < 0, at, none), starts)
    there = seen < none
    new = there & ~varied & (known == none)
    earlier = there & ~varied & (seen < known) & ~new
    yield _told(
        Path(folder), order, seen, {"new": new, "earlier": earlier, "varied": there & varied},
        number, words,
    )  # fmt: skip


def _told(
    folder: Path,
    order: Array,
    seen: Array,
    kinds: dict[str, Array],
    number: dict[str, Array],
    words: pa.DictionaryArray,
) -> pa.RecordBatch:
    places = np.sort(number["place"][order[seen[kinds["new"]]]])
    told: dict[str, Any] = {kind: int(mask.sum()) for kind, mask in kinds.items()}
    name = uuid.uuid4()
    if len(places):
        told["places"] = str(folder / f"places-{name}.parquet")
        rows = pa.table({"place": places})
        parquet.write_table(rows, told["places"], row_group_size=100_000, compression="lz4")
    parts = []
    for kind in ("earlier", "varied"):
        rows_at = order[seen[kinds[kind]]]
        columns = {k: number[k][rows_at] for k in ("stock", "datapoint_id", "place")}
        columns["survey"] = words.take(pa.array(rows_at)).cast(pa.string())
        columns["change"] = pa.array([kind] * len(rows_at), pa.string())
        parts.append(pa.table(columns).select(CHANGES.names).cast(CHANGES))
    changes = pa.concat_tables(parts)
    if len(changes):
        told["changes"] = str(folder / f"changes-{name}.parquet")
        parquet.write_table(changes, told["changes"], compression="lz4")
    return pa.RecordBatch.from_pylist([{"told": json.dumps(told)}], schema=TOLD)
