"""Datapoints that have more than one set of values: all their sightings are put in order again.

It is done one datapoint at a time (`ampel_spark.archive.sightings`): few have more than one set.
"""

from __future__ import annotations

import functools
import math
import operator
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet

from ampel_spark.archive.committing.declared import ArchiveTables
from ampel_spark.archive.reading.own import as_struct
from ampel_spark.archive.reading.ztf import POINT_COLUMNS
from ampel_spark.archive.sightings import Sighting, history, revisions
from ampel_spark.lake.parts import PartWriter, arrow_schema
from ampel_spark.lake.scan import scan
from ampel_spark.lake.tables import Table
from ampel_spark.lake.tasks import tell

__all__ = ["Sources", "changes", "once", "resolve"]

#: Columns by which a datapoint is called, and those of its values.
KEY = ("survey", "stock", "datapoint_id")
VALUES = tuple(name for name, _ in POINT_COLUMNS if name != "datapoint_id")

_FIRST = ("first_alert_jd", "first_alert_id")
_STORED = (*KEY, *_FIRST, *VALUES)
_GROUP = 64_000


@dataclass(frozen=True)
class Sources:
    """Files that have what is known of some datapoints.

    Attributes
    ----------
    keys : tuple of str
        The datapoints: those with the change "varied" in `lookup.CHANGES`.
    new : tuple of str
        What new alerts show, as `staging.POINTS` has it.
    datapoints, sightings, alerts : tuple of str
        Of the lake.
    gone : tuple of str
        ``alert_id`` of alerts whose sightings no longer count.
    span : (float, float)
        First and last JD of the datapoints.
    slices : int
        Parts that the objects are dealt out to.
    """

    keys: tuple[str, ...]
    new: tuple[str, ...]
    datapoints: tuple[str, ...]
    sightings: tuple[str, ...]
    alerts: tuple[str, ...]
    gone: tuple[str, ...]
    span: tuple[float, float]
    slices: int


@dataclass
class _Known:
    """What is known of one datapoint; `stored` is by revision."""

    shown: list[tuple[float, int]] = field(default_factory=list)
    own: list[Sighting] = field(default_factory=list)
    stored: dict[int, Sighting] = field(default_factory=dict)
    several: list[Sighting] = field(default_factory=list)


def changes(
    kept: Sequence[Sighting],
    stored: Mapping[int, Sighting],
    same: Callable[[Any, Any], bool] = operator.eq,
) -> tuple[dict[int, Sighting], dict[int, Sighting | None]]:
    """Return revisions to insert, and those to change, or to remove (None), by number.

    Parameters
    ----------
    kept : sequence of Sighting
        The revisions.
    stored : mapping of int to Sighting
        Those that the lake has.
    same : callable, optional
        Says whether two values of `Sighting.own` are one.
    """
    inserted: dict[int, Sighting] = {}
    changed: dict[int, Sighting | None] = {}
    for number in range(max(len(kept), len(stored))):
        now, was = (kept[number] if number < len(kept) else None), stored.get(number)
        if was is None:
            if now is not None:
                inserted[number] = now
        elif (
            now is None
            or (now.alert_id, now.name[2]) != (was.alert_id, was.name[2])
            or not same(now.own, was.own)
        ):
            changed[number] = now
    return inserted, changed


def resolve(
    sources: Sources,
    tables: ArchiveTables,
    folder: str,
    root: str,
    run_id: str,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """Put all sightings of some datapoints in order again, and write what changes by that.

    Parameters
    ----------
    sources : Sources
    tables : ArchiveTables
    folder : str
        For staging.
    root : str
        The lake's, in whose tables new parts are written.
    run_id : str
    batches : iterable of Arrow batches
        ``task``: the slices to do.

    Yields
    ------
    Arrow batch of `ampel_spark.lake.tasks.TOLD`
        Of each slice: ``inserted`` and ``added``, parts of ``datapoints`` and ``sightings``, and
        ``changed`` and ``gone``, staged files of rows of ``datapoints`` and of ``sightings`` to
        change (or, without a ``value_hash``, to remove). Each is null without rows.
    """
    for batch in batches:
        for number in batch.column("task").to_pylist():
            inserted, changed, added, gone = (list[dict[str, Any]]() for _ in range(4))
            forgotten = frozenset(
                i for path in sources.gone
                for i in parquet.read_table(path, columns=["alert_id"])["alert_id"].to_pylist()
            )  # fmt: skip
            said = _Said(tables.points)
            own = said.name
            for key, known in _known(sources, number, said).items():
                begins = [*known.stored.values(), *known.several]
                runs = history(begins, known.shown, known.own, forgotten)
                to_insert, to_change = changes(revisions(runs), known.stored, said.same)
                inserted += [_row(key, s, n, own) for n, s in to_insert.items()]
                changed += [_row(key, s, n, own) for n, s in to_change.items()]
                several = {s.name: s for s in (once(runs) if len(runs) > 1 else [])}
                before = {s.name: s for s in known.several}
                added += [_row(key, s, 0, own) for name, s in several.items() if name not in before]
                for name, s in before.items():
                    now = several.get(name)
                    if now is None:
                        gone.append(_row(key, s) | {"value_hash": None})
                    elif not said.same(now.own, s.own):
                        gone.append(_row(key, now, 0, own))
            points, sightings = tables.datapoints, tables.sightings
            yield tell(
                {
                    "inserted": _part(root, points, inserted, run_id, said),
                    "added": _part(root, sightings, added, run_id, said),
                    "changed": _staged(folder, points, changed, run_id, said),
                    "gone": _staged(folder, sightings, gone, run_id, said),
                }
            )


def once(runs: Iterable[Sighting]) -> Iterator[Sighting]:
    """Yield runs; of several with the same values, the first alone has the survey's own columns."""
    seen: set[int] = set()
    for run in runs:
        again = run.name[2] in seen
        seen.add(run.name[2])
        yield run._replace(own=None) if again else run


class _Said:
    """What a survey declares of sightings: a struct that stays in Arrow, and rows' numbers in it.

    Parameters
    ----------
    field : Arrow field or None
        The struct; None where the survey declares nothing.
    """

    def __init__(self, field: pa.Field | None) -> None:
        self.name: str | None = None if field is None else field.name
        self._type = None if field is None else field.type
        self._parts: list[pa.Array] = []
        self._count = 0
        self._whole: pa.Array | None = None

    def numbers(self, rows: pa.Table) -> list[int | None]:
        """Keep the struct of some rows; return its number for each, None where it is null."""
        column = rows[self.name].combine_chunks()
        there = np.asarray(column.is_valid())
        if not there.any():
            return [None] * len(rows)
        self._parts.append(as_struct(column, self._type))
        self._count += len(rows)
        first = self._count - len(rows)
        return [first + i if t else None for i, t in enumerate(there.tolist())]

    def take(self, numbers: Sequence[int | None]) -> pa.Array:
        """Return the structs that have some numbers."""
        if not self._parts:
            return pa.nulls(len(numbers), self._type)
        if self._whole is None:
            self._whole = pa.concat_arrays(self._parts)
        return self._whole.take(pa.array(numbers, pa.int64()))

    def same(self, one: int | None, two: int | None) -> bool:
        """Say whether two numbers stand for the same values."""
        if one == two or one is None or two is None:
            return one == two
        a, b = self.take([one, two]).to_pylist()
        return bool(a == b)


def _known(sources: Sources, number: int, said: _Said) -> dict[tuple[Any, ...], _Known]:
    """Return what is known of the datapoints of a slice; `said` takes the survey's columns."""
    own = said.name
    found = {key: _Known() for key in _varied(sources, number)}
    stocks = pa.array(sorted({key[1] for key in found}), pa.int64())
    rows = functools.partial(_rows_of, found, stocks, said)
    # What older alerts showed is in the stored values, whatever a later one brings.
    since = math.inf if sources.new else 0.0
    for known, row in rows(sources.new):
        known.own.append(_sighting(row, own))
        since = min(since, row["first_alert_jd"])
    span = ("jd", *sources.span)
    for known, row in rows(sources.datapoints, "revision", span=span):
        known.stored[row["revision"]] = _sighting(row, own)
    for known, row in rows(sources.sightings, span=span):
        known.several.append(_sighting(row, own))
    for key, alert in _shown(sources, stocks, since):
        if key in found:
            found[key].shown.append(alert)
    return found


def _varied(sources: Sources, number: int) -> Iterator[tuple[Any, ...]]:
    """Yield the keys of the datapoints of a slice."""
    varied = pc.field("change") == "varied"
    for path in sources.keys:
        for row in parquet.read_table(path, columns=list(KEY), filters=varied).to_pylist():
            if row["stock"] % sources.slices == number:
                yield _key(row)


def _rows_of(
    found: Mapping[tuple[Any, ...], _Known],
    stocks: pa.Array,
    said: _Said,
    paths: Sequence[str],
    *also: str,
    span: tuple[str, float, float] | None = None,
) -> Iterator[tuple[_Known, Any]]:
    """Yield the rows of some files that are of the datapoints, each with what is known of it."""
    own = said.name
    columns = [*_STORED, *([] if own is None else [own]), *also]
    ids = pa.array(sorted({key[2] for key in found}), pa.int64())
    for path in paths:
        for part in scan(path, columns, ("stock", stocks), span):
            mine = part.filter(pc.is_in(part["datapoint_id"], value_set=ids))
            if own is not None:
                numbers = pa.array(said.numbers(mine), pa.int64())
                mine = mine.set_column(mine.column_names.index(own), own, numbers)
            for row in mine.to_pylist():
                known = found.get(_key(row))
                if known is not None:
                    yield known, row


def _shown(
    sources: Sources, stocks: pa.Array, since: float
) -> Iterator[tuple[tuple[Any, ...], tuple[float, int]]]:
    """Yield the key of each datapoint that alerts show, and time and id of the alert."""
    listed = ("survey", "stock", "jd", "alert_id", "datapoint_ids", "forced_ids")
    for path in sources.alerts:
        for part in scan(path, listed, ("stock", stocks), ("jd", since, math.inf)):
            for alert in part.to_pylist():
                for i in (*(alert["datapoint_ids"] or ()), *(alert["forced_ids"] or ())):
                    yield (alert["survey"], alert["stock"], i), (alert["jd"], alert["alert_id"])


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _sighting(row: Mapping[str, Any], own: str | None) -> Sighting:
    jd, alert_id = (row[name] for name in _FIRST)
    values = {name: row[name] for name in VALUES}
    return Sighting(jd, alert_id, values, row[own] if own else None)


def _row(
    key: tuple[Any, ...], sighting: Sighting | None, number: int = 0, own: str | None = None
) -> dict[str, Any]:
    row = dict(zip(KEY, key, strict=True)) | {"revision": number}
    if sighting is None:
        return row
    first = dict(zip(_FIRST, sighting[:2], strict=True))
    return row | first | dict(sighting.values) | ({own: sighting.own} if own else {})


def _table(table: Table, rows: list[dict[str, Any]], run_id: str, said: _Said) -> pa.Table:
    schema = arrow_schema(table)
    plain = pa.schema([field for field in schema if field.name != said.name])
    made = pa.Table.from_pylist([row | {"run_id": run_id} for row in rows], plain)
    if said.name is not None:
        numbers = [row.get(said.name) for row in rows]
        made = made.append_column(schema.field(said.name), said.take(numbers))
    order = ("stock", "jd", "datapoint_id", "survey", *_FIRST)
    return made.sort_by([(name, "ascending") for name in order])


def _part(
    root: str, table: Table, rows: list[dict[str, Any]], run_id: str, said: _Said
) -> dict[str, Any] | None:
    if not rows:
        return None
    made = _table(table, rows, run_id, said)
    writer = PartWriter(Path(root) / table.name, arrow_schema(table), table.extremes)
    for first in range(0, len(made), _GROUP):
        writer.write(made.slice(first, _GROUP))
    return asdict(writer.close())


def _staged(
    folder: str, table: Table, rows: list[dict[str, Any]], run_id: str, said: _Said
) -> str | None:
    if not rows:
        return None
    path = f"{folder}/resolved-{uuid.uuid4()}.parquet"
    parquet.write_table(_table(table, rows, run_id, said), path, compression="lz4")
    return path
