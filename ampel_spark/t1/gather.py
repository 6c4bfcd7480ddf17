"""Points of the objects that are asked for, gathered from where they lie, and made into states.

Two kinds of tasks share the work, and neither sends rows through Spark. The first one takes rows of
some objects out of files of a table, and writes them apart by *share*: all rows of an object are of
one share. The second one makes the states of a share. No result depends on the shares.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampel_spark.calibration.examine import COLUMNS, touched
from ampel_spark.calibration.release import Release
from ampel_spark.lake.scan import objects
from ampel_spark.lake.tasks import tell
from ampel_spark.t1.assemble import LIGHT_CURVE_SCHEMA
from ampel_spark.t1.rights import SIGHTING_COLUMNS, as_shown
from ampel_spark.t1.states import (
    POINT_COLUMNS,
    REQUESTS,
    hidden_stocks,
    light_curves_under,
    visible_points,
    with_own,
)

__all__ = [
    "ALERT_COLUMNS",
    "FOUND",
    "Gathering",
    "assemble_shares",
    "once",
    "share_of",
    "states_under",
    "take_rows",
]

Array = npt.NDArray[Any]

#: Columns of alerts that tell who saw which point when.
ALERT_COLUMNS = ("survey", "stock", "jd", "alert_id", "programid", "datapoint_ids", "forced_ids")

#: What `assemble_shares` says of each request that has a state.
FOUND = pa.schema(
    [
        *((LIGHT_CURVE_SCHEMA.field(n)) for n in LIGHT_CURVE_SCHEMA.names
          if not n.startswith("lc_") and n != "datapoint_ids"),
        ("access", pa.string()),
    ]
)  # fmt: skip

_COLUMNS = {"points": POINT_COLUMNS, "alerts": ALERT_COLUMNS, "sightings": SIGHTING_COLUMNS}

# Rows of a row group of light curves.
_GROUP = 2_000


@dataclass(frozen=True)
class Gathering:
    """What the tasks of a run's T1 share.

    Attributes
    ----------
    folder : str
        The folder of what they write.
    shares : int
        The number of shares.
    survey : str
        The survey of the alerts.
    until : float or None
        The time that limits the run, JD.
    kinds : tuple of str
        The kinds of datapoints in states.
    release : Release
        The calibration release.
    own : mapping of str to str
        Columns of points that the survey declares and a unit reads: their Spark SQL types by name.
    """

    folder: str
    shares: int
    survey: str
    until: float | None
    kinds: tuple[str, ...]
    release: Release
    own: Mapping[str, str] = field(default_factory=dict)

    def stocks(self, name: str) -> Array:
        """Return objects that the driver left for the tasks, sorted."""
        found: Array = np.load(f"{self.folder}/{name}.npy", mmap_mode="r")
        return found


def share_of(stocks: Array, shares: int) -> Array:
    """Return the share of each object, from 0."""
    mixed = stocks.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    share: Array = ((mixed >> np.uint64(33)) % np.uint64(shares)).astype(np.int64)
    return share


def take_rows(
    gathering: Gathering, kind: str, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Take rows of objects out of files.

    Parameters
    ----------
    gathering : Gathering
        What the tasks share.
    kind : str
        "points": of ``datapoints``, all that states need. "alerts": of ``alerts``, what tells who
        saw which point when. "sightings": of ``sightings``, all of objects with a hidden alert.
        "rights": of ``alerts``, the program ids alone, which are reported.
        "touched": of ``datapoints``, which objects the release touches.
    batches : iterable of Arrow batches
        ``task, path``: the files of each task.

    Yields
    ------
    Arrow batch of `ampel_spark.lake.tasks.TOLD`
        One report a task: a file with what was found by object; None where there is nothing to say.
    """
    for _, paths in _by_task(batches):
        if kind in _COLUMNS:
            _write_rows(gathering, kind, paths)
            yield tell(None)
        else:
            found = _rights(gathering, paths) if kind == "rights" else _touched(gathering, paths)
            path = f"{gathering.folder}/{kind}-{uuid.uuid4()}.parquet"
            pq.write_table(found, path)
            yield tell(path)


def _by_task(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, list[str]]]:
    rows = [row for batch in batches for row in batch.to_pylist()]
    rows.sort(key=lambda row: row["task"])
    for task, mine in itertools.groupby(rows, key=lambda row: row["task"]):
        yield task, [row["path"] for row in mine]


def _write_rows(gathering: Gathering, kind: str, paths: Sequence[str]) -> None:
    """Write rows of the objects asked for, a file for each share."""
    columns = _COLUMNS[kind]
    points = kind != "alerts"
    own = (gathering.survey,) if points and gathering.own else ()
    stocks = gathering.stocks("asked" if kind == "points" else "hidden")
    held: list[pa.Table] = []
    for path in paths:
        for rows in objects(path, columns, stocks, own):
            if points:
                rows = with_own(rows, gathering.survey, gathering.own)
            else:
                rows = _known(gathering, rows)
            held.append(rows.filter(pc.equal(rows["survey"], gathering.survey)))
    if not held:
        return
    rows = pa.concat_tables(held, promote_options="permissive")
    share = share_of(rows["stock"].to_numpy(), gathering.shares)
    order = np.argsort(share, kind="stable")
    ends = np.searchsorted(share[order], np.arange(gathering.shares + 1))
    for number, (low, high) in enumerate(itertools.pairwise(ends.tolist())):
        if low < high:
            path = f"{gathering.folder}/{kind}-{number}-{uuid.uuid4()}.parquet"
            pq.write_table(rows.take(pa.array(order[low:high])), path, compression="lz4")


def _known(gathering: Gathering, alerts: pa.Table) -> pa.Table:
    """Return the alerts that count: those up to the run's own time."""
    if gathering.until is None:
        return alerts
    return alerts.filter(pc.less_equal(alerts["jd"], gathering.until))


def _rights(gathering: Gathering, paths: Sequence[str]) -> pa.Table:
    """Return each object with each program id that an alert of it has."""
    stocks = gathering.stocks("asked")
    parts = []
    for path in paths:
        for rows in objects(path, ["survey", "stock", "jd", "programid"], stocks):
            rows = _known(gathering, rows.filter(pc.equal(rows["survey"], gathering.survey)))
            parts.append(rows.group_by(["stock", "programid"]).aggregate([]))
    schema = pa.schema([("stock", pa.int64()), ("programid", pa.int32())])
    found = pa.concat_tables([schema.empty_table(), *(p.cast(schema) for p in parts)])
    return found.group_by(["stock", "programid"]).aggregate([])


def _touched(gathering: Gathering, paths: Sequence[str]) -> pa.Table:
    """Return the objects that have a point which the release selects."""
    found = [np.zeros(0, np.int64)]
    for path in paths:
        for rows in objects(path, COLUMNS, gathering.stocks("known")):
            batch = rows.combine_chunks().to_batches()[0]
            found.append(np.unique(rows["stock"].to_numpy()[touched(gathering.release, batch)]))
    return pa.table({"stock": np.unique(np.concatenate(found))})


def assemble_shares(
    gathering: Gathering, curves: str, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Make the states of shares, from what `take_rows` wrote.

    Parameters
    ----------
    gathering : Gathering
        What the tasks share; the requests are in its folder, by access, as ``requests-<share>``.
    curves : str
        The folder that light curves are written to, each state once a share.
    batches : iterable of Arrow batches
        ``task``: the shares.

    Yields
    ------
    Arrow batch of `ampel_spark.lake.tasks.TOLD`
        ``found``: a file with `FOUND` of the requests, and ``curves``: a file of light curves; None
        where a share has no state.
    """
    for batch in batches:
        for share in batch.column("task").to_pylist():
            yield tell(_assembled(gathering, curves, share))


def states_under(
    gathering: Gathering, share: int, releases: Sequence[Release]
) -> Iterator[pa.Table]:
    """Yield the states of a share with their light curves and ``access``, under one release each.

    Parameters
    ----------
    gathering : Gathering
        As for `assemble_shares`.
    share : int
        The share.
    releases : sequence of Release
        The releases; the points are read once. Where no object has a point, nothing is yielded.
    """
    asked = pq.read_table(f"{gathering.folder}/requests-{share}.parquet")
    points = _read(gathering, f"points-{share}-*", None)
    if points is None:
        return
    alerts = _read(gathering, f"alerts-{share}-*", points)
    sightings = _read(gathering, f"sightings-{share}-*", None)
    accesses = pc.unique(asked["access"]).to_pylist()
    parts = []
    for access in accesses:
        mine = asked.filter(pc.equal(asked["access"], access)).select(REQUESTS.names)
        rights = frozenset(map(int, access.split(",")))
        hiding = _of_hidden(alerts, rights)
        shown = as_shown(points, sightings, hiding, rights)
        seen = visible_points(hiding, shown, rights)
        parts.append(light_curves_under(releases, mine, seen, gathering.kinds, gathering.own))
    for made in zip(*parts, strict=True):
        yield pa.concat_tables(
            rows.append_column("access", pa.repeat(access, len(rows)))
            for access, rows in zip(accesses, made, strict=True)
        )


def once(states: pa.Table) -> pa.Table:
    """Return each state once, in order of its first row."""
    _, first = np.unique(_words(states["state_id"]), return_index=True)
    return states.take(pa.array(np.sort(first)))


def _assembled(gathering: Gathering, curves: str, share: int) -> dict[str, str] | None:
    made = next(states_under(gathering, share, [gathering.release]), None)
    if made is None or not len(made):
        return None
    name = f"{share}-{uuid.uuid4()}.parquet"
    found = f"{gathering.folder}/found-{name}"
    pq.write_table(made.select(FOUND.names), found)
    pq.write_table(once(made), f"{curves}/{name}", row_group_size=_GROUP, compression="lz4")
    return {"found": found, "curves": f"{curves}/{name}"}


def _words(column: pa.ChunkedArray) -> Array:
    """Return texts as numbers, the same for equal ones."""
    found: Array = column.combine_chunks().dictionary_encode().indices.to_numpy()
    return found


def _of_hidden(alerts: pa.Table, rights: frozenset[int]) -> pa.Table:
    """Return the alerts of objects of which these rights hide one."""
    hidden = hidden_stocks(alerts, rights)
    return alerts.filter(pa.array(np.isin(alerts["stock"].to_numpy(), hidden)))


def _read(gathering: Gathering, names: str, other: pa.Table | None) -> pa.Table | None:
    """Return the rows of some files; without files None, or alerts of none if `other` is given."""
    files = sorted(Path(gathering.folder).glob(f"{names}.parquet"))
    if files:
        parts = [pq.read_table(path) for path in files]
        return pa.concat_tables(parts, promote_options="permissive")
    if other is None:
        return None
    ids = pa.list_(pa.int64())
    kinds: Mapping[str, pa.DataType] = {"jd": pa.float64(), "alert_id": pa.int64(),
                                        "programid": pa.int32(), "datapoint_ids": ids,
                                        "forced_ids": ids}  # fmt: skip
    return pa.schema(
        [(n, kinds[n]) if n in kinds else other.schema.field(n) for n in ALERT_COLUMNS]
    ).empty_table()
