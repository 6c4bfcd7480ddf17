"""What a task of the ingest does: members of some files decoded, and left in staged Parquet files.

A task leaves up to four files: ``alerts``, which is a part of the table as it stands (nearly always
all of a chunk's alerts are new); ``index``, what is needed of each to say so; ``points``, each
datapoint as each packet shows it; and ``others``, what could not be taken. All go by row groups of
bounded size. `write_values` is the second task: of staged points it takes those that are new.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet

from ampel_spark.archive.committing.declared import ArchiveTables
from ampel_spark.archive.reading.columns import row_hashes
from ampel_spark.archive.reading.files import EMPTY
from ampel_spark.archive.reading.own import OWN, as_struct
from ampel_spark.archive.reading.readers import Reader
from ampel_spark.archive.reading.ztf import POINT_COLUMNS, alerts_table
from ampel_spark.lake.parts import PartWriter, arrow_schema, arrow_type
from ampel_spark.lake.tables import Table
from ampel_spark.lake.tasks import ahead, tell

__all__ = ["INDEX", "OTHERS", "how_far", "points_schema", "stage", "write_values"]

INDEX = pa.schema(
    [
        ("survey", pa.string()),
        ("alert_id", pa.int64()),
        ("content_hash", pa.int64()),
        ("file", pa.string()),
        ("member", pa.string()),
        ("night", pa.int32()),
    ]
)
OTHERS = pa.schema(
    [(name, pa.string()) for name in ("row", "file", "member", "sha256", "reason", "detail")]
)
# A datapoint as an alert shows it. `place` is the number of the task and of the row in its file.
_POINTS = pa.schema(
    [
        ("survey", pa.string()),
        ("stock", pa.int64()),
        ("first_alert_jd", pa.float64()),
        ("first_alert_id", pa.int64()),
        ("content_hash", pa.int64()),
        ("place", pa.int64()),
        *((name, arrow_type(kind)) for name, kind in POINT_COLUMNS),
    ]
)


def points_schema(own: pa.Field | None) -> pa.Schema:
    """Return the schema of staged datapoints; `own` is the struct of the survey's own columns."""
    return _POINTS if own is None else _POINTS.append(own)


#: Bits of a place that are the row's number.
ROW_BITS = 40

# What notes of tasks are called, before the number of the task.
_NOTE = "note-"

# Rows held before they are written as a row group: some ten MB each.
_GROUP = {"alerts": 16_000, "points": 64_000, "index": 100_000, "others": 10_000}

# Rows of ``datapoints`` in one part, some 50 MB.
_PART_ROWS = 1_000_000

# What says nothing of what a packet holds, or follows from what does. Of what a survey declares,
# that depends on the survey's file.
_NO_CONTENT = frozenset(
    {"row", "file", "member", "sha256", "reason", "detail", "seen", "bytes", "extra",
     "datapoint_ids", "datapoint_jds", "datapoint_programids", "forced_ids", "hpx", "night", OWN}
)  # fmt: skip


@dataclass
class _Staged:
    """What a task has found so far, by file, and in all."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    ids: list[int] = field(default_factory=list)
    jds: list[float] = field(default_factory=list)

    def of(self, path: str) -> dict[str, Any]:
        return self.files.setdefault(
            path,
            {
                "packets": 0,
                "bad": 0,
                "broken": 0,
                "entry": 0,
                "why": None,
                "good": 0,
                "nights": [],
                "done": False,
                "empty": 0,
                "aside": None,
                "bytes": 0,
                "sha256": None,
            },
        )


class _Writer:
    """Writes one kind of staged file, when there is anything to write."""

    def __init__(self, folder: Path, kind: str, schema: pa.Schema) -> None:
        self._folder, self._kind, self._schema = folder, kind, schema
        self._held: list[pa.Table] = []
        self._count = 0
        self._file: Any = None
        self.path: Path | None = None

    def add(self, rows: pa.Table) -> None:
        """Take rows; write a row group when there are enough."""
        if len(rows):
            self._held.append(rows)
            self._count += len(rows)
        if self._count >= _GROUP[self._kind]:
            self._write()

    def _write(self) -> None:
        rows = pa.concat_tables(self._held)
        if self._file is None:
            self._file = self._open()
        if self._kind == "alerts":
            order = pc.sort_indices(rows, sort_keys=[("stock", "ascending"), ("jd", "ascending"),
                                                     ("alert_id", "ascending")])  # fmt: skip
            self._file.write(rows.take(order))
        else:
            self._file.write_table(rows)
        self._held, self._count = [], 0

    def _open(self) -> Any:
        if self._kind == "alerts":
            return PartWriter(self._folder, self._schema, alerts_table().extremes)
        self.path = self._folder / f"{self._kind}-{uuid.uuid4()}.parquet"
        words = [f.name for f in self._schema if pa.types.is_string(f.type)]
        noted = ["stock"] if self._kind == "points" else False
        return parquet.ParquetWriter(
            self.path,
            self._schema,
            compression="lz4",
            use_dictionary=words,
            write_statistics=noted,
        )

    def close(self) -> Any:
        """Finish; return the part, the path, or None where nothing was written."""
        if self._count:
            self._write()
        if self._file is None:
            return None
        done = self._file.close()
        return asdict(done) if self._kind == "alerts" else str(self.path)


def stage(
    reader: Reader,
    tables: ArchiveTables,
    folder: str,
    run_id: str,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """Read the files of one task into staged files, and tell of them.

    Parameters
    ----------
    reader : callable
        As `readers.reader_of` gives it.
    tables : ArchiveTables
    folder : str
    run_id : str
    batches : iterable of Arrow batches
        ``path, task`` of files, of one task or of several.

    Yields
    ------
    Arrow batch of `ampel_spark.lake.tasks.TOLD`
        Per task: accounts by file, the staged files, the smallest and the largest alert id, and JD
        of the first and the last datapoint.
    """
    tasks: dict[int, list[str]] = {}
    for batch in batches:
        for row in batch.to_pylist():
            tasks.setdefault(row["task"], []).append(row["path"])
    for task, paths in sorted(tasks.items()):
        yield tell(_stage_one(reader, tables, Path(folder), run_id, task, paths))


def _stage_one(
    reader: Reader, tables: ArchiveTables, folder: Path, run_id: str, task: int, paths: list[str]
) -> dict[str, Any]:
    schemas = {
        "alerts": arrow_schema(tables.alerts),
        "index": INDEX,
        "points": points_schema(tables.points),
        "others": OTHERS,
    }
    writers = {kind: _Writer(folder, kind, schema) for kind, schema in schemas.items()}
    staged = _Staged()
    rows_before = 0
    note = _Note(folder / f"{_NOTE}{task}")
    for batch in ahead(reader(paths)):
        rows = pa.Table.from_batches([batch])
        good = pc.equal(rows["row"], "packet")
        packets, others = _apart(rows, good)
        _count_others(staged, others)
        # An empty night is no fault of its file.
        others = others.filter(
            pc.and_(
                pc.not_equal(others["row"], "end"),
                pc.not_equal(pc.fill_null(others["reason"], ""), EMPTY),
            )
        )
        writers["others"].add(others.select(OTHERS.names))
        if not len(packets):
            continue
        packets = packets.combine_chunks()
        contents = pa.array(
            row_hashes(_array(packets[c]) for c in packets.column_names if c not in _NO_CONTENT)
        )
        packets = packets.append_column("content_hash", contents).append_column(
            "run_id", pa.array([run_id] * len(packets))
        )
        points = _points(packets, task, rows_before, tables.points)
        if tables.alerts.columns[-1].fields:
            packets = _with_struct(packets, schemas["alerts"].field(-1))
        rows_before += len(points)
        writers["points"].add(points)
        writers["index"].add(packets.select(INDEX.names))
        writers["alerts"].add(packets.select(schemas["alerts"].names))
        _count_packets(staged, packets, points)
        note.write(staged)
    note.write(staged, last=True)
    files = {kind: writer.close() for kind, writer in writers.items()}
    ends = [min(staged.ids), max(staged.ids)] if staged.ids else None
    span = [min(staged.jds), max(staged.jds)] if staged.jds else None
    about = {"files": staged.files, "shown": rows_before, "ids": ends, "span": span}
    return {"task": task, **about, **files}


def _apart(rows: pa.Table, good: pa.ChunkedArray) -> tuple[pa.Table, pa.Table]:
    """Return packets and other rows; packets nearly always come first, and are not copied then."""
    n = pc.sum(good).as_py() or 0
    if pc.all(good.slice(0, n)).as_py() is not False:
        return rows.slice(0, n), rows.slice(n)
    return rows.filter(good), rows.filter(pc.invert(good))


class _Note:
    """A task's note of how far it is, for the driver to tell."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = 0.0

    def write(self, staged: _Staged, *, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self._written < 0.5:
            return
        self._written = now
        counts = [(a["good"], a["bad"] + a["broken"]) for a in staged.files.values()]
        done = sorted(path for path, a in staged.files.items() if a["done"])
        note = {"done": done, "good": sum(c[0] for c in counts), "bad": sum(c[1] for c in counts)}
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(note))
        partial.replace(self._path)


def how_far(folder: str, sizes: Mapping[str, int], seconds: float) -> str:
    """Say how far the tasks are that stage files in `folder`.

    Parameters
    ----------
    folder : str
    sizes : mapping of str to int
        Bytes of each file that is read.
    seconds : float
        Since they began.
    """
    notes = [
        json.loads(path.read_text())
        for path in Path(folder).glob(f"{_NOTE}*")
        if path.suffix != ".partial"
    ]
    done = {path for note in notes for path in note["done"]}
    good, bad = (sum(note[kind] for note in notes) for kind in ("good", "bad"))
    share = sum(sizes[path] for path in done) / max(1, sum(sizes.values()))
    left = f", about {seconds * (1 - share) / share:.0f} s left" if share else ""
    return (
        f"{len(done)}/{len(sizes)} files, {good + bad} packets ({(good + bad) / seconds:.0f}/s), "
        f"{bad} quarantined{left}"
    )


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _with_struct(packets: pa.Table, own: pa.Field) -> pa.Table:
    """Return packets with the survey's own columns as the table has them."""
    struct = pa.nulls(len(packets), own.type)
    if OWN in packets.column_names:
        struct = as_struct(_array(packets[OWN]), own.type)
    return packets.append_column(own.name, struct)


def _points(packets: pa.Table, task: int, before: int, own: pa.Field | None) -> pa.Table:
    """Return the datapoints that packets show, one row each; `own` is the survey's struct."""
    parts = []
    for name in ("points", "forced"):
        lists = _array(packets[name])
        counts = np.asarray(lists.value_lengths().fill_null(0))
        whose = packets.select(["survey", "stock", "jd", "alert_id", "content_hash"]).take(
            pa.array(np.repeat(np.arange(len(packets)), counts))
        )
        whose = whose.rename_columns(
            ["survey", "stock", "first_alert_jd", "first_alert_id", "content_hash"]
        )
        shown = lists.flatten()
        for i, (column, _) in enumerate(POINT_COLUMNS):
            whose = whose.append_column(column, shown.field(i))
        if own is not None:
            there = shown.type.get_field_index(OWN)
            struct = as_struct(shown.field(there), own.type) if there >= 0 else None
            whose = whose.append_column(
                own, pa.nulls(len(shown), own.type) if there < 0 else struct
            )
        parts.append(whose)
    rows = pa.concat_tables(parts)
    places = (task << ROW_BITS) + before + np.arange(len(rows))
    names = points_schema(own).names
    return rows.append_column("place", pa.array(places)).select(names)


def _count_others(staged: _Staged, others: pa.Table) -> None:
    columns = ["row", "file", "seen", "bytes", "sha256", "reason", "detail"]
    for row in others.select(columns).to_pylist():
        account = staged.of(row["file"])
        if row["row"] == "end":
            account["packets"] += row["seen"] or 0
            account |= {"done": True, "bytes": row["bytes"], "sha256": row["sha256"]}
            account["aside"] = row["detail"]
        elif row["reason"] == EMPTY:
            account["empty"] += 1
            continue
        else:
            account[row["row"]] += 1
        if row["row"] == "broken":
            account["why"] = " ".join((row["detail"] or row["reason"]).split())[:200]


def _count_packets(staged: _Staged, packets: pa.Table, points: pa.Table) -> None:
    nights = packets.group_by("file").aggregate([("night", "distinct"), ("night", "count")])
    for row in nights.to_pylist():
        account = staged.of(row["file"])
        account["good"] += row["night_count"]
        account["nights"] = sorted({*account["nights"], *row["night_distinct"]})
    staged.ids = _ends(packets["alert_id"], staged.ids)
    staged.jds = _ends(points["jd"], staged.jds)


def _ends(column: pa.ChunkedArray, before: list[Any]) -> list[Any]:
    both = pc.min_max(column).as_py().values()
    found = [*before, *(v for v in both if v is not None)]
    return [min(found), max(found)] if found else []


def write_values(
    found: Sequence[str],
    table: Table,
    folder: str,
    run_id: str,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """Write the staged points that were found new as parts of ``datapoints``, revision 0.

    Parameters
    ----------
    found : sequence of str
        Files of the places of new datapoints, each sorted.
    table : Table
        Datapoints, with the survey's own columns.
    folder : str
        The table's.
    run_id : str
    batches : iterable of Arrow batches
        ``task, points``: tasks, and the files of points that they staged.

    Yields
    ------
    Arrow batch of `ampel_spark.lake.tasks.TOLD`
        A part each.
    """
    for batch in batches:
        for row in batch.to_pylist():
            first = row["task"] << ROW_BITS
            places = _places(found, first, first + (1 << ROW_BITS))
            for part in _parts(row["points"], places - first, table, folder, run_id):
                yield tell(part)


def _places(found: Sequence[str], low: int, high: int) -> np.ndarray[Any, Any]:
    within = (pc.field("place") >= low) & (pc.field("place") < high)
    rows = [parquet.read_table(path, filters=within)["place"].to_numpy() for path in found]
    return np.sort(np.concatenate(rows))


def _parts(
    path: str, rows: np.ndarray[Any, Any], table: Table, folder: str, run_id: str
) -> Iterator[dict[str, Any]]:
    held: list[pa.Table] = []
    count = start = 0
    with parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            mine = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)]
            if len(mine):
                held.append(file.read_row_group(group).take(pa.array(mine - start)))
                count += len(mine)
            start = end
            if held and (count >= _PART_ROWS or group == file.num_row_groups - 1):
                yield _part(pa.concat_tables(held), table, folder, run_id)
                held, count = [], 0


def _part(rows: pa.Table, table: Table, folder: str, run_id: str) -> dict[str, Any]:
    schema = arrow_schema(table)
    keys = ("stock", "jd", "datapoint_id", "survey")
    rows = rows.take(pc.sort_indices(rows, sort_keys=[(k, "ascending") for k in keys]))
    n = len(rows)
    rows = rows.append_column("revision", pa.array(np.zeros(n, np.int32)))
    rows = rows.append_column("run_id", pa.array([run_id] * n, pa.string()))
    writer = PartWriter(folder, schema, table.extremes)
    for first in range(0, n, _GROUP["points"]):
        writer.write(rows.slice(first, _GROUP["points"]).select(schema.names))
    return asdict(writer.close())
