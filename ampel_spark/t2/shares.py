"""Units on the states of some objects, in memory: the runner's rules, on Arrow tables.

`ampel_spark.t2.runner` takes a unit's results for all objects through Spark. Where many runs want
the same units of the same objects, a task takes all rows of its objects at once: what a state is
tied to, and what shares a result with it, is of the same object. `wanted` and `Shelf` follow the
rules of `runner.wanted`, `runner.stale` and `runner.shared`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampel_spark.lake.ties import key_hash, keys_at
from ampel_spark.t2 import runner
from ampel_spark.t2.unit import EXCEPTION, Column, Unit

__all__ = ["Shelf", "Tie", "curve_columns", "wanted"]

Array = npt.NDArray[np.int64]
_Key = tuple[str, str]


@dataclass(frozen=True)
class Tie:
    """What a unit is tied to.

    Attributes
    ----------
    results : Arrow table
        Results of the other unit, one row per state, with all columns of its table.
    columns : sequence of Column
        Its own columns.
    """

    results: pa.Table
    columns: Sequence[Column]


def curve_columns(unit: Unit) -> list[str]:
    """Return the ``lc_`` columns that `wanted` and the unit itself need of light curves."""
    needed = (f"lc_{name}" for name in runner.hashed_fields(unit))
    return list(dict.fromkeys((*runner.point_columns(unit), *needed)))


def wanted(
    unit: Unit, curves: pa.Table, ties: Mapping[str, Tie], headers: Sequence[str | None] | None
) -> pa.Table:
    """Return what a unit gets of states: light curves, tied results, and the hash of what it reads.

    Parameters
    ----------
    unit : Unit
    curves : Arrow table
        ``state_id, stock, name`` and `curve_columns`, each state once.
    ties : mapping of str to Tie
        By the entry's name.
    headers : sequence of str or None, optional
        What the newest table of each state's object says of it, for a unit that reads that.

    Returns
    -------
    Arrow table
        ``state_id, stock, name, input_hash``, the ``lc_`` columns of the unit, ``tie_`` structs,
        and ``subject_id`` of a unit that has subjects.
    """
    rows = curves.select(["state_id", "stock", "name", *runner.point_columns(unit)])
    keys = {}
    for name, tie in sorted(ties.items()):
        places = _places(tie.results, curves["state_id"])
        keys[name] = keys_at(tie.results, places.tolist())
        rows = rows.append_column(f"tie_{name}", _struct(tie, places))
    if unit.reads_header and headers is not None:
        column = pa.array(headers, pa.string())
        absent = pa.array([text is None for text in headers], pa.bool_())
        header = pa.StructArray.from_arrays([column], ["header"], mask=absent)
        rows = rows.append_column(runner.HEADER, header)
    known: dict[tuple[tuple[str, ...], ...], str] = {}
    hashes = []
    for i in range(len(rows)):
        mine = {name: found[i] for name, found in keys.items()}
        key = tuple(tuple(map(str, (each or {}).values())) for each in mine.values())
        if key not in known:
            known[key] = key_hash(mine)
        hashes.append(known[key])
    reported = list(_reported(unit, curves, rows))
    if reported:
        texts = (",".join(t for t in each if t is not None) for each in zip(*reported, strict=True))
        hashes = [f"{first}:{text}" for first, text in zip(hashes, texts, strict=True)]
    rows = rows.append_column("input_hash", pa.array(hashes, pa.string()))
    if runner.has_subjects(unit):
        subjects = runner.subject_ids(unit, _looked_at(unit, curves, rows))
        rows = rows.append_column("subject_id", pa.array(subjects, pa.string()))
    return rows


def _places(results: pa.Table, ids: pa.ChunkedArray) -> Array:
    """Return the row of each state among results; -1 where there is none."""
    at = {state: i for i, state in enumerate(results["state_id"].to_pylist())}
    return np.array([at.get(state, -1) for state in ids.to_pylist()], np.int64)


def _struct(tie: Tie, places: Array) -> pa.StructArray:
    """Return tied results as structs; null where there is none."""
    # By name: a job's record may give columns in another order.
    names = ["status", *sorted(column.name for column in tie.columns)]
    taken = tie.results.select(names).take(pa.array(places, mask=places < 0)).combine_chunks()
    arrays = [_whole(taken[name]) for name in names]
    return pa.StructArray.from_arrays(arrays, names, mask=pa.array(places < 0))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found


def _looked_at(unit: Unit, curves: pa.Table, rows: pa.Table) -> pa.RecordBatch:
    """Return what `Unit.inputs` and `Unit.subjects` look at."""
    names = ["stock", "name", *(f"lc_{name}" for name in runner.input_fields(unit))]
    looked = curves.select(names)
    if runner.HEADER in rows.column_names:
        looked = looked.append_column(runner.HEADER, rows[runner.HEADER])
    looked = looked.append_column("state_id", pa.nulls(len(looked), pa.string()))
    return runner.one_batch(looked)


def _reported(unit: Unit, curves: pa.Table, rows: pa.Table) -> Iterator[Sequence[str | None]]:
    """Yield what goes into the hash beside ties: what is read, and the survey's own columns."""
    if runner.reads_inputs(unit):
        yield runner.reported_inputs(unit, _looked_at(unit, curves, rows))
    if own := runner.own_fields(unit):
        yield runner.own_hashes([_whole(curves[f"lc_{name}"]) for name in own])


class Shelf:
    """The results of a unit under one trace, of some objects: those there are, and new ones.

    Parameters
    ----------
    present : Arrow table
        Results that are there, with all columns of the unit's table.
    """

    def __init__(self, present: pa.Table) -> None:
        self._parts = [present]
        self._size = len(present)
        self._failed: dict[_Key, int] = {}
        self._places: dict[_Key, int] = {}
        self._subjects: dict[_Key, tuple[bool, str, int]] = {}
        self._note(present, 0)
        #: Results that were added.
        self.new: list[pa.Table] = []
        #: Whether one of these stands in the place of one that was there.
        self.replaces = False

    def complete(
        self, rows: pa.Table, compute: Callable[[pa.Table], pa.Table]
    ) -> tuple[pa.Table, int]:
        """Return the results of all rows of `wanted`, and how many of these were computed.

        Parameters
        ----------
        rows : Arrow table
            Of `wanted`.
        compute : callable
            Takes those that have no result, with ``attempts``, and returns their results.
        """
        has_subjects = "subject_id" in rows.column_names
        if has_subjects:
            self._share(rows)
        todo = self._lacking(rows, has_subjects)
        if len(todo):
            self._add(compute(todo))
            if has_subjects:
                self._share(rows)
            elif len(todo) == len(rows):
                return self._parts[-1], len(todo)
        places = [self._places[key] for key in _keys(rows) if key in self._places]
        return self._all().take(pa.array(places, pa.int64())), len(todo)

    def _all(self) -> pa.Table:
        return pa.concat_tables(self._parts)

    def _note(self, rows: pa.Table, start: int) -> None:
        """Note the places of rows by their keys, and of subjects their first standing result."""
        status, tried = rows["status"].to_pylist(), rows["attempts"].to_pylist()
        subjects = rows["subject_id"].to_pylist()
        for i, key in enumerate(_keys(rows)):
            fails = status[i] == EXCEPTION and (tried[i] or 1) < runner.MAX_ATTEMPTS
            self._places[key] = start + i
            self._failed.pop(key, None)
            if fails:
                self._failed[key] = tried[i] or 1
            if subjects[i] is not None:
                subject = (subjects[i], key[1])
                # One that stands goes before an exception, and then the first by its state.
                mine = (fails, key[0], start + i)
                self._subjects[subject] = min(mine, self._subjects.get(subject, mine))

    def _add(self, rows: pa.Table) -> None:
        if not len(rows):
            return
        self.replaces = self.replaces or any(key in self._places for key in _keys(rows))
        self._note(rows, self._size)
        self._parts.append(rows)
        self._size += len(rows)
        self.new.append(rows)

    def _lacking(self, rows: pa.Table, has_subjects: bool) -> pa.Table:
        """Return the rows without a result that stands, with ``attempts``; one each subject."""
        keys = _keys(rows)
        lacks = [i for i, key in enumerate(keys) if key not in self._places or key in self._failed]
        if has_subjects:
            ids = rows["subject_id"].to_pylist()
            first: dict[_Key, int] = {}
            for i in sorted(lacks, key=lambda i: keys[i]):
                first.setdefault((ids[i], keys[i][1]), i)
            lacks = sorted(first.values())
        tried = pa.array([self._failed.get(keys[i], 0) for i in lacks], pa.int32())
        return rows.take(pa.array(lacks, pa.int64())).append_column("attempts", tried)

    def _share(self, rows: pa.Table) -> None:
        """Give states the results of their subjects that other states have."""
        ids = rows["subject_id"].to_pylist()
        places, states = [], []
        for i, key in enumerate(_keys(rows)):
            if key in self._places and key not in self._failed:
                continue
            fails, _, place = self._subjects.get((ids[i], key[1]), (True, "", -1))
            # Where all that a subject has is an exception, states without any result have it too.
            if place >= 0 and not (fails and key in self._places):
                places.append(place)
                states.append(key[0])
        if places:
            found = self._all().take(pa.array(places, pa.int64()))
            at = found.column_names.index("state_id")
            self._add(found.set_column(at, "state_id", pa.array(states, pa.string())))


def _keys(rows: pa.Table) -> list[_Key]:
    pairs = (rows[name].to_pylist() for name in ("state_id", "input_hash"))
    return list(zip(*pairs, strict=True))
