"""Tasks of a grid: all states and results of some objects, under all variations, in memory.

A task reads the points of its objects once. It makes their states under one release after the
other, and runs each unit that a variation changes on the states that lack a result. So no light
curve is written, and what is tied to what stays within the task. No result depends on the shares.
"""

from __future__ import annotations

import functools
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampel_spark.calibration.release import Release
from ampel_spark.job.execution.assembling import joined
from ampel_spark.lake.parts import PartWriter, arrow_schema, write_part
from ampel_spark.lake.tables import TABLES, Table
from ampel_spark.lake.tasks import tell
from ampel_spark.t1.gather import FOUND, Gathering, once, states_under
from ampel_spark.t2 import runner
from ampel_spark.t2.shares import Shelf, Tie, curve_columns, wanted

__all__ = ["GridPass", "GridWork", "run_shares"]

# Results that become one row group of a file.
_GROUP = 20_000


@dataclass(frozen=True)
class GridWork:
    """A unit under one trace, on the states of one release, tied to results of other works.

    Attributes
    ----------
    number, release : int
        Its own number, and that of the release.
    name : str
        Of the unit's entry in the jobs.
    unit : bytes
        The unit, packed.
    trace_id : str
    channels : tuple of str
        The channels that want it.
    needs : mapping of str to int
        The works whose results it is tied to, by the entry's name.
    run_id : str
        The first run that wants it, which its results are of.
    silence : float
        Seconds that it may take over one light curve.
    """

    number: int
    release: int
    name: str
    unit: bytes
    trace_id: str
    channels: tuple[str, ...]
    needs: Mapping[str, int]
    run_id: str
    silence: float


@dataclass(frozen=True)
class GridPass:
    """What the tasks of a grid share.

    Attributes
    ----------
    gathering : Gathering
        The points and requests. Its folder has too, by share: ``asked-<share>``, which channels
        want which request; ``present-<table>-<share>``, the rows that the lake has; and
        ``headers-<share>``, what tables say of objects.
    releases : tuple of Release
    made_by : tuple of str
        The first run of each release, which its states are of.
    works : tuple of GridWork
        Each after those that it is tied to.
    folders : mapping of str to str
        The folders of tables, by name.
    kept : mapping of str to tuple of str
        Columns of the results of each unit that the driver reads.
    """

    gathering: Gathering
    releases: tuple[Release, ...]
    made_by: tuple[str, ...]
    works: tuple[GridWork, ...]
    folders: Mapping[str, str]
    kept: Mapping[str, tuple[str, ...]]

    def path(self, name: str, share: int) -> Path:
        """Return a file of a share."""
        return Path(self.gathering.folder, f"{name}-{share}.parquet")


def run_shares(grid: GridPass, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Do the work of shares.

    Parameters
    ----------
    grid : GridPass
        What the tasks share.
    batches : iterable of Arrow batches
        ``share``: the shares of each task.

    Yields
    ------
    Arrow batch of `ampel_spark.lake.tasks.TOLD`
        ``parts``: files of tables, by the table's name; ``replaces``: tables in which a new row
        stands in the place of an old one; ``computed``, ``wanted`` and ``seconds`` by work;
        ``new``: states by release. Beside that, the files ``found-<share>``, with `FOUND` of each
        request, ``release`` and ``is_new``, and ``results_<unit>-<share>``, with ``work`` and what
        is kept.
    """
    for batch in batches:
        for share in batch.column("share").to_pylist():
            yield tell(_Share(grid, share).run())


class _Share:
    """The work of one share."""

    def __init__(self, grid: GridPass, share: int) -> None:
        self.grid, self.share = grid, share
        self.asked = self._read("asked")
        self.headers = self._headers()
        self.known = {*self._read("present-states")["state_id"].to_pylist()}
        self.shelves: dict[tuple[str, str], Shelf] = {}
        self.tables: dict[str, Table] = {}
        self.kept: dict[str, list[pa.Table]] = {}
        self.states: list[pa.Table] = []
        self.counts: dict[str, dict[int, float]] = {
            name: defaultdict(float) for name in ("computed", "wanted", "seconds", "new")
        }

    def run(self) -> dict[str, Any]:
        """Make the states, run the units, write all files, and return the report."""
        found = []
        releases = self.grid.releases
        for number, made in enumerate(states_under(self.grid.gathering, self.share, releases)):
            rows = made.select(FOUND.names)
            new = self._release(number, rows, once(made))
            rows = rows.append_column("release", pa.repeat(number, len(rows)))
            is_new = pc.is_in(rows["state_id"], value_set=new["state_id"].combine_chunks())
            found.append(rows.append_column("is_new", is_new))
        if found:
            pq.write_table(pa.concat_tables(found), self.grid.path("found", self.share))
        for name, parts in self.kept.items():
            with pq.ParquetWriter(
                self.grid.path(f"results_{name}", self.share), parts[0].schema
            ) as writer:
                for part in parts:  # a row group each, by which others are passed over
                    writer.write_table(part)
        replaced = {f"t2_{name}" for (name, _), s in self.shelves.items() if s.replaces}
        counts = {name: dict(counted) for name, counted in self.counts.items()}
        return {"parts": self._parts(), "replaces": sorted(replaced), **counts}

    def _read(self, name: str) -> pa.Table:
        return pq.read_table(self.grid.path(name, self.share))

    def _headers(self) -> dict[int, str]:
        path = self.grid.path("headers", self.share)
        if not path.is_file():
            return {}
        rows = pq.read_table(path)
        return dict(zip(rows["stock"].to_pylist(), rows["own"].to_pylist(), strict=True))

    def _release(self, number: int, found: pa.Table, states: pa.Table) -> pa.Table:
        """Take the states of one release: do its works, and return the states that are new."""
        lacks = [state not in self.known for state in states["state_id"].to_pylist()]
        new = states.filter(pa.array(lacks, pa.bool_()))
        self.known.update(new["state_id"].to_pylist())
        self.counts["new"][number] += len(new)
        run_id = self.grid.made_by[number]
        names = [name for name in TABLES["states"].names if name != "run_id"]
        self.states.append(new.select(names).append_column("run_id", pa.repeat(run_id, len(new))))
        done: dict[int, Tie] = {}
        for work in self.grid.works:
            if work.release == number:
                wants = self.asked.filter(
                    pc.is_in(self.asked["channel"], value_set=pa.array(work.channels))
                )
                ids = joined(wants, found)["state_id"].combine_chunks()
                mine = states.filter(pc.is_in(states["state_id"], value_set=ids))
                done[work.number] = self._work(work, mine, done)
        return new

    def _work(self, work: GridWork, states: pa.Table, done: Mapping[int, Tie]) -> Tie:
        """Return the results of a work."""
        unit = runner.unpacked(work.unit)
        columns = unit.output_columns()
        if work.name not in self.tables:
            self.tables[work.name] = runner.unit_table(work.name, columns)
        started = time.monotonic()
        curves = states.select(["state_id", "stock", "name", *curve_columns(unit)])
        headers = [self.headers.get(stock) for stock in states["stock"].to_pylist()]
        ties = {name: done[number] for name, number in work.needs.items()}
        rows = wanted(unit, curves, ties, headers)
        compute = functools.partial(self._compute, work)
        results, computed = self._shelf(work).complete(rows, compute)
        self.counts["wanted"][work.number] += len(rows)
        self.counts["computed"][work.number] += computed
        self.counts["seconds"][work.number] += time.monotonic() - started
        kept = results.select(["state_id", *self.grid.kept[work.name]])
        kept = kept.append_column("work", pa.repeat(work.number, len(kept)))
        if len(kept):
            self.kept.setdefault(work.name, []).append(kept)
        return Tie(results, columns)

    def _compute(self, work: GridWork, rows: pa.Table) -> pa.Table:
        return runner.in_child(work.unit, work.trace_id, rows, work.run_id, work.silence)

    def _shelf(self, work: GridWork) -> Shelf:
        key = (work.name, work.trace_id)
        if key not in self.shelves:
            there = self._read(f"present-t2_{work.name}")
            mine = there.filter(pc.equal(there["trace_id"], work.trace_id))
            schema = arrow_schema(self.tables[work.name])
            self.shelves[key] = Shelf(mine.select(schema.names).cast(schema))
        return self.shelves[key]

    def _parts(self) -> dict[str, list[Any]]:
        """Write what is new as parts of tables, and return these by table."""
        made: dict[str, list[Any]] = {}
        states = TABLES["states"]
        schema = arrow_schema(states)
        new = [rows.select(schema.names).cast(schema) for rows in self.states if len(rows)]
        if new:
            writer = PartWriter(self.grid.folders[states.name], schema, states.extremes)
            writer.write(pa.concat_tables(new).sort_by("stock"))
            made[states.name] = [asdict(writer.close())]
        for name, table in self.tables.items():
            folder, schema = self.grid.folders[table.name], arrow_schema(table)
            rows = [new for (n, _), s in self.shelves.items() if n == name for new in s.new]
            batches = (batch for part in rows for batch in part.to_batches())
            for report in write_part(folder, schema, table.extremes, _GROUP, batches):
                texts = report.column("report").to_pylist()
                made.setdefault(table.name, []).extend(map(json.loads, texts))
        return made
