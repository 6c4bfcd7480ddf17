"""What of a chunk's datapoints is new, sorted out in numbers alone.

A datapoint is shown by some twenty packets, so their values do not travel: a sighting is an object,
an id, a hash of the values, the alert, and the place where the values are staged.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet

from ampel_spark.lake.scan import scan
from ampel_spark.lake.tasks import tell

__all__ = ["CHANGES", "SIGHTINGS", "look_up", "look_up_slices"]

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

#: A sighting, as `look_up` takes it.
SIGHTINGS = pa.schema(
    [
        ("survey", pa.string()),
        ("stock", pa.int64()),
        ("datapoint_id", pa.int64()),
        ("first_alert_jd", pa.float64()),
        ("first_alert_id", pa.int64()),
        ("value_hash", pa.int64()),
        ("place", pa.int64()),
    ]
)

Array = np.ndarray[Any, Any]


def look_up_slices(
    shown: Sequence[str],
    known: Sequence[str],
    span: tuple[float, float],
    slices: int,
    folder: str,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """Sort out what staged files show, against what the lake knows of the same objects.

    Parameters
    ----------
    shown : sequence of str
        Staged files with the columns of `SIGHTINGS`.
    known : sequence of str
        Files of ``datapoints`` and ``sightings``. What is of other objects or times is passed over,
        by row groups where these say so.
    span : (float, float)
        First and last JD of what is looked for.
    slices : int
        Parts that the objects are dealt out to.
    folder : str
        See `look_up`.
    batches : iterable of Arrow batches
        ``task``: the slices to do.

    Yields
    ------
    Arrow batch of `ampel_spark.lake.tasks.TOLD`
        See `look_up`.
    """
    for batch in batches:
        for number in batch.column("task").to_pylist():
            rows = [part for path in shown for part in _shown(path, number, slices)]
            if rows:
                stocks = pc.unique(
                    pa.concat_tables(part.select(["stock"]) for part in rows)["stock"]
                )
                rows += [part for path in known for part in _known(path, span, stocks)]
                yield from look_up(folder, [b for part in rows for b in part.to_batches()])


def _shown(path: str, number: int, slices: int) -> Iterator[pa.Table]:
    with parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=SIGHTINGS.names).select(SIGHTINGS.names)
            if slices > 1:
                rows = rows.filter(pa.array(rows["stock"].to_numpy() % slices == number))
            yield rows.cast(SIGHTINGS)


def _known(path: str, span: tuple[float, float], stocks: pa.Array) -> Iterator[pa.Table]:
    columns = [name for name in SIGHTINGS.names if name != "place"]
    for rows in scan(path, columns, ("stock", stocks), ("jd", *span)):
        places = pa.array(np.full(len(rows), -1, np.int64))
        yield rows.append_column("place", places).cast(SIGHTINGS)


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
    Arrow batch of `ampel_spark.lake.tasks.TOLD`
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
    yield _report(
        Path(folder), order, seen, {"new": new, "earlier": earlier, "varied": there & varied},
        number, words,
    )  # fmt: skip


def _report(
    folder: Path,
    order: Array,
    seen: Array,
    kinds: dict[str, Array],
    number: dict[str, Array],
    words: pa.DictionaryArray,
) -> pa.RecordBatch:
    places = np.sort(number["place"][order[seen[kinds["new"]]]])
    report: dict[str, Any] = {kind: int(mask.sum()) for kind, mask in kinds.items()}
    name = uuid.uuid4()
    if len(places):
        report["places"] = str(folder / f"places-{name}.parquet")
        rows = pa.table({"place": places})
        parquet.write_table(rows, report["places"], row_group_size=100_000, compression="lz4")
    parts = []
    for kind in ("earlier", "varied"):
        rows_at = order[seen[kinds[kind]]]
        columns = {k: number[k][rows_at] for k in ("stock", "datapoint_id", "place")}
        columns["survey"] = words.take(pa.array(rows_at)).cast(pa.string())
        columns["change"] = pa.array([kind] * len(rows_at), pa.string())
        parts.append(pa.table(columns).select(CHANGES.names).cast(CHANGES))
    changes = pa.concat_tables(parts)
    if len(changes):
        report["changes"] = str(folder / f"changes-{name}.parquet")
        parquet.write_table(changes, report["changes"], compression="lz4")
    return tell(report)
