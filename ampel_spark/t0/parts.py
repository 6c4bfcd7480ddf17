"""Decisions, written as parts of their table: of each channel a file, accepted alerts first.

Accepted alerts have row groups of their own, in order of object, and so have the rejected ones: who
asks for one object, for one alert of it, or for all accepted alerts reads few of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.lake.parts import PartWriter, arrow_schema
from ampel_spark.lake.tables import TABLES
from ampel_spark.lake.tasks import tell

__all__ = ["write_decisions", "write_sorted"]

#: Rows of a row group, and rows that a task holds before it writes them.
GROUP, HELD = 32_000, 500_000
_ORDER = [("accepted", "descending"), ("stock", "ascending"), ("jd", "ascending"),
          ("alert_id", "ascending")]  # fmt: skip


def write_decisions(
    folder: str, sets: Mapping[str, tuple[str, int]], batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Write the decisions of a task, and report each file with its counts.

    Parameters
    ----------
    folder : str
        The folder of the files.
    sets : mapping of str to (str, int)
        The decision set, and the number of the part, of each channel.
    batches : iterable of Arrow batches
        Decisions, and ``again``: whether an earlier part has one on this alert.

    Yields
    ------
    Arrow batch of `ampel_spark.lake.tasks.TOLD`
        ``channel, part, again`` (how many), and ``counts``: rows of accepted, bypassed, cut and
        number.
    """
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= HELD:
            yield from _written(folder, sets, pa.Table.from_batches(held))
            held = []
    if any(map(len, held)):
        yield from _written(folder, sets, pa.Table.from_batches(held))


def _written(
    folder: str, sets: Mapping[str, tuple[str, int]], rows: pa.Table
) -> Iterator[pa.RecordBatch]:
    for channel in sorted(pc.unique(rows["channel"]).to_pylist()):
        mine = rows.filter(pc.equal(rows["channel"], channel))
        set_id, part = sets[channel]
        counts = mine.group_by(["accepted", "bypassed", "cut"]).aggregate([([], "count_all")])
        again = pc.sum(mine["again"].cast(pa.int64())).as_py()
        mine = mine.append_column("set_id", pa.repeat(set_id, len(mine)))
        mine = mine.append_column("part", pa.repeat(np.int32(part), len(mine)))
        names = ("accepted", "bypassed", "cut", "count_all")
        found = [[row[name] for name in names] for row in counts.to_pylist()]
        yield tell({"channel": channel, "part": write_sorted(folder, mine), "again": again,
                    "counts": found})  # fmt: skip


def write_sorted(folder: str, rows: pa.Table) -> dict[str, Any]:
    """Write decisions of one set as a file, and return the part as a mapping."""
    table = TABLES["decisions"]
    rows = rows.take(pc.sort_indices(rows, sort_keys=_ORDER))
    writer = PartWriter(folder, arrow_schema(table), table.extremes)
    accepted = pc.sum(rows["accepted"].cast(pa.int64())).as_py()
    for begin, end in ((0, accepted), (accepted, len(rows))):
        for first in range(begin, end, GROUP):
            writer.write(rows.slice(first, min(GROUP, end - first)))
    return asdict(writer.close())
