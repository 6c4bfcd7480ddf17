"""A grid: variations of a run whose states and results are made in one pass over its objects.

A variation that asks T0 for what the run asked, and wants the same units, differs from it in its
calibration release or in parameters of units. So the decisions are the run's, and the points of the
accepted objects are read once for all variations (`ampel_spark.job.execution.grid_tasks`). What has
a result under its key is not computed again, within the grid as in the lake. Afterwards each
variation is a run like any other, with its record, states, results and candidates.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.dataset import dataset

from ampel_spark.classes import packed
from ampel_spark.errors import AmpelSparkError
from ampel_spark.job.configuration.model import ResolvedJob
from ampel_spark.job.execution.assembling import (
    asked,
    count_states,
    gather,
    joined,
    link,
    once_by,
)
from ampel_spark.job.execution.deciding import decide
from ampel_spark.job.execution.grid_tasks import GridPass, GridWork, run_shares
from ampel_spark.job.execution.inputs import recorded
from ampel_spark.job.execution.outcomes import failures, outcomes
from ampel_spark.job.execution.run import (
    Outcome,
    begun,
    inputs_read,
    open_lake,
    outcome_of,
    traces_of,
)
from ampel_spark.job.execution.selecting import (
    candidates_of,
    candidates_table,
    columns_read,
    with_alerts,
)
from ampel_spark.job.execution.tiers import (
    CHUNK_SECONDS,
    Context,
    record_calibration,
    selections_of,
)
from ampel_spark.lake.commits import insert_parts
from ampel_spark.lake.lost import explanation
from ampel_spark.lake.parts import Part, arrow_schema
from ampel_spark.lake.pins import pin
from ampel_spark.lake.progress import progress
from ampel_spark.lake.reading import stream
from ampel_spark.lake.runs import FAILED, Run, record, utc_now
from ampel_spark.lake.tables import TABLES, Table
from ampel_spark.lake.tasks import run_tasks
from ampel_spark.t1.gather import FOUND, Gathering, share_of
from ampel_spark.t1.states import ALL
from ampel_spark.t2 import runner
from ampel_spark.t2.trace import Trace
from ampel_spark.t2.unit import Unit

__all__ = ["ResultSample", "fits", "run_grid", "warnings_alone"]

Array = npt.NDArray[Any]

#: Objects of a share, and of one where a unit takes light curves one by one.
_SHARE, _SLOW_SHARE = 2_000, 200
#: Light curves that a fast unit takes at a time, at least.
_FAST = 1_000
#: Columns of results that a run's record counts, as far as a unit has them.
_COUNTED = ("status", "message", "duration_ms", "quality", "doubts")


@dataclass(frozen=True)
class ResultSample:
    """Objects whose results are returned.

    Attributes
    ----------
    channel, unit : str
        The channel whose states, and the entry of t2 whose results these are.
    stocks : ndarray of int64
    columns : sequence of str
        Columns of the results.
    """

    channel: str
    unit: str
    stocks: Array
    columns: Sequence[str]


@dataclass
class _Member:
    """A variation: its run, and which works of the pass are its own."""

    context: Context
    run: Run
    traces: Mapping[str, Trace]
    release: int = 0
    works: dict[str, int] = field(default_factory=dict)


def fits(run: ResolvedJob, varied: ResolvedJob) -> bool:
    """Say whether a variation of a job can go through the pass.

    It asks T0 and T1 for the same as the job, and its units have the same names, ties and columns.
    """
    same = ("survey", "catalog", "channel", "t0", "t1")
    if any(run.resolved[key] != varied.resolved[key] for key in same):
        return False
    if run.calibration.content_hash != varied.calibration.content_hash and any(
        step.photometry == "calibrated" for step in varied.filters
    ):
        return False
    return [*map(_shape, run.units)] == [*map(_shape, varied.units)]


def _shape(step: Any) -> tuple[Any, ...]:
    """Return what of a unit's entry has to be the same in all variations."""
    columns = tuple((column.name, column.type) for column in step.columns)
    return step.name, (*step.channels,), (*step.needs,), columns, runner.own_fields(step.unit)


def run_grid(
    parent: Run,
    jobs: Sequence[ResolvedJob],
    lake: Path,
    sample: ResultSample,
    *,
    out: Callable[[str], None] = print,
) -> list[tuple[Outcome, pa.Table]]:
    """Run variations of a run in one pass.

    Parameters
    ----------
    parent : Run
        The run; its inputs are read.
    jobs : sequence of ResolvedJob
        The variations; each `fits` the run's job.
    lake : Path
        The lake.
    sample : ResultSample
        The objects whose results are returned.
    out : callable
        Takes lines for the user.

    Returns
    -------
    list of (Outcome, Arrow table)
        How each variation ended, and ``stock`` and the columns of the sample, for objects that have
        a result.

    Raises
    ------
    AmpelSparkError
        If the pass failed; the records of all variations say so too.
    """
    if not jobs:
        return []
    inputs = recorded(parent)
    place, clock = open_lake(parent.job, lake), time.monotonic()
    versions = inputs.pin(place.root)
    selections = selections_of(jobs[0])
    with contextlib.ExitStack() as stack:
        members: list[_Member] = []
        for job in jobs:
            traces = traces_of(job)
            run = begun(job, utc_now(), parent.run_id, selections, traces)
            while any(run.run_id == member.run.run_id for member in members):
                # of many that begin within a second, two may have the same four digits
                run = begun(job, utc_now(), parent.run_id, selections, traces)
            folder = stack.enter_context(place.staging(run.run_id))
            context = Context(
                place, job, run.run_id, versions, folder, inputs.until, warnings_alone(out)
            )
            members.append(_Member(context, run, traces))
        record(place, *(member.run for member in members))
        try:
            pin(place, [member.run.run_id for member in members], asdict(versions))
            read = inputs_read(jobs[0], versions, inputs.until, selections)
            record_calibration(*(member.context for member in members))
            accepted = _accepted(members, selections)
            rows = asked(members[0].context, accepted)
            grid, reports = _pass(members, rows, sample, out)
            found = [_finish(member, grid, rows, accepted, reports, sample) for member in members]
        except BaseException as error:
            known = error if isinstance(error, AmpelSparkError) else explanation(error)
            text = f"{type(error).__name__}: {error}" if known is None else str(known)
            record(place, *(m.run.finished(FAILED, text[:2000]) for m in members))
            raise
        total = (time.monotonic() - clock) / len(members)
        for member in members:
            context, job = member.context, member.context.job
            context.counts.seconds["total"] = round(total, 2)
            release = {job.calibration.name: job.calibration.content_hash}
            member.run = member.run.finished(
                *outcome_of(context.counts), inputs=replace(read, calibrations=release),
                outputs=context.outputs, counts=context.counts, decisions=context.decisions,
            )  # fmt: skip
        record(place, *(member.run for member in members))
    return [
        (Outcome(member.run.run_id, member.run.status, member.context.counts), table)
        for member, table in zip(members, found, strict=True)
    ]


def warnings_alone(out: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that prints what a variation warns of, and nothing else."""
    return lambda line: out(line) if line.startswith("warning:") else None


def _accepted(members: Sequence[_Member], selections: Sequence[Any]) -> pa.Table:
    """Return the accepted alerts of the variations: all have the run's own decisions."""
    first = members[0].context
    accepted = decide(first, selections)
    for member in members[1:]:
        counts = copy.deepcopy(first.counts.t0)
        member.context.counts.t0 = {
            channel: tier | {"judged": 0} for channel, tier in counts.items()
        }
        member.context.decisions |= first.decisions
    return accepted


def _works(members: Sequence[_Member]) -> tuple[list[Any], list[str], list[GridWork]]:
    """Return the releases, the first run of each, and what is to be done under each of them."""
    releases: dict[str, int] = {}
    made_by: list[str] = []
    found: list[Any] = []
    works: dict[Any, GridWork] = {}
    for member in members:
        release, run_id = member.context.job.calibration, member.run.run_id
        if release.content_hash not in releases:
            releases[release.content_hash] = len(releases)
            found.append(release)
            made_by.append(run_id)
        member.release = releases[release.content_hash]
        for step in member.context.job.units:
            needs = {name: member.works[name] for name in step.needs}
            trace = member.traces[step.name].trace_id
            key = (member.release, step.name, trace, *needs.values())
            if key not in works:
                works[key] = GridWork(
                    len(works), member.release, step.name, packed(step.unit, Unit), trace,
                    tuple(step.channels), needs, run_id, step.time_limit,
                )  # fmt: skip
            member.works[step.name] = works[key].number
    return found, made_by, [*works.values()]


def _pass(
    members: Sequence[_Member], rows: pa.Table, sample: ResultSample, out: Callable[[str], None]
) -> tuple[GridPass, list[dict[str, Any]]]:
    """Do the works of all shares, and commit what they made, some shares at a time."""
    context = members[0].context
    lake, spark = context.lake, context.lake.spark
    releases, made_by, works = _works(members)
    tables = {step.name: runner.unit_table(step.name, step.columns) for step in context.job.units}
    for table in (TABLES["states"], *tables.values()):
        lake.ensure(table)
    for note in dict.fromkeys(note for unit in _units(members) if (note := unit.prepare())):
        out(f"systematics: {note}")
    each = once_by(rows, "request", "access")
    cores = spark.sparkContext.defaultParallelism
    shares = _shares(len(each), cores, members)
    gathering = gather(context, each, shares)
    grid = GridPass(
        gathering, tuple(releases), tuple(made_by), tuple(works),
        {table.name: lake.path(table.name) for table in (TABLES["states"], *tables.values())},
        {name: _kept(members, table, sample) for name, table in tables.items()},
    )  # fmt: skip
    since = dict(_leave(context, grid, rows, tables))
    reports: list[dict[str, Any]] = []
    todo, size = [*range(shares)], 4 * cores
    while todo:
        started = time.monotonic()
        now, todo = todo[:size], todo[size:]
        with progress(spark, "grid", out):
            tasks = [(i, share) for i, share in enumerate(now)]
            work = functools.partial(run_shares, grid)
            made = run_tasks(spark, work, tasks, "task int, share int")
        _commit(members, grid, made, since, tables)
        reports += made
        spent = max(time.monotonic() - started, 1e-3)
        if todo:
            left = spent / len(now) * len(todo)
            out(f"systematics: {len(todo)} of {shares} shares left, {left:.0f} s")
            size = max(4 * cores, int(len(now) * CHUNK_SECONDS / spent))
    return grid, reports


def _units(members: Sequence[_Member]) -> Iterator[Any]:
    """Yield the units of all variations, each once."""
    seen = set()
    for member in members:
        for step in member.context.job.units:
            key = (step.name, member.traces[step.name].trace_id)
            if key not in seen:
                seen.add(key)
                yield step.unit


def _shares(n: int, cores: int, members: Sequence[_Member]) -> int:
    """Return the number of shares: so small that a task holds them, so many that cores are busy."""
    slow = any(unit.states_per_task() < _FAST for unit in _units(members))
    least = math.ceil(n / (_SLOW_SHARE if slow else _SHARE))
    return max(1, least, min(4 * cores, math.ceil(n / 100)))


def _kept(members: Sequence[_Member], table: Table, sample: ResultSample) -> tuple[str, ...]:
    """Return the columns of a unit's results that selections, records and the sample read."""
    name = table.name.removeprefix("t2_")
    read = [
        column
        for member in members
        for selection in member.context.job.selections
        for column in columns_read(selection.rule).get(name, ())
    ]
    read += sample.columns if name == sample.unit else ()
    return tuple(dict.fromkeys((*(c for c in _COUNTED if c in table.names), *read)))


def _leave(
    context: Context, grid: GridPass, rows: pa.Table, tables: Mapping[str, Table]
) -> Iterator[tuple[str, int | None]]:
    """Leave for the tasks what they look at, and yield the versions of the tables it is of."""
    gathering = grid.gathering
    share = share_of(rows["stock"].to_numpy(), gathering.shares)
    for number in range(gathering.shares):
        mine = rows.filter(pa.array(share == number))
        pq.write_table(mine, grid.path("asked", number))
    stocks = pc.field("stock").isin(pc.unique(rows["stock"]))
    state = pa.schema([("state_id", pa.string()), ("stock", pa.int64())])
    wanted: list[tuple[str, pa.Schema, pc.Expression]] = [("states", state, stocks)]
    for name, table in tables.items():
        traces = sorted({work.trace_id for work in grid.works if work.name == name})
        wanted.append((table.name, arrow_schema(table), stocks & pc.field("trace_id").isin(traces)))
    for name, schema, where in wanted:
        version = context.lake.version(name)
        batches = stream(context.lake.root, name, schema.names, where, version)
        _apart(gathering, batches, schema, f"present-{name}")
        yield name, version
    if any(step.unit.reads_header for step in context.job.units):
        _apart(gathering, _headers(context, stocks), _HEADER, "headers")


#: What the newest table of an object says of it.
_HEADER = pa.schema([("stock", pa.int64()), ("own", pa.string())])


def _headers(context: Context, stocks: pc.Expression) -> Iterator[pa.RecordBatch]:
    """Yield what the newest table of each object says of it, as of the run's time."""
    until = ALL if context.as_of is None else context.as_of
    mine = stocks & (pc.field("survey") == context.job.survey.label)
    mine &= pc.field("own").is_valid() & (pc.field("jd") <= until)
    names = ["stock", "jd", "alert_id", "own"]
    parts = stream(context.lake.root, "alerts", names, mine, context.versions.alerts)
    found = [pa.Table.from_batches([batch]) for batch in parts]
    if found:
        rows = pa.concat_tables(found).sort_by([(n, "ascending") for n in names[:3]])
        stock = rows["stock"].to_numpy()
        last = np.flatnonzero(np.append(stock[1:] != stock[:-1], True))
        yield from rows.take(pa.array(last)).select(_HEADER.names).cast(_HEADER).to_batches()


def _apart(
    gathering: Gathering, batches: Iterator[pa.RecordBatch], schema: pa.Schema, name: str
) -> None:
    """Write rows of objects apart by share; a share without rows has an empty file."""
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                pq.ParquetWriter(f"{gathering.folder}/{name}-{share}.parquet", schema)
            )
            for share in range(gathering.shares)
        ]
        for batch in batches:
            rows = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
            share = share_of(rows["stock"].to_numpy(), gathering.shares)
            for number in np.unique(share).tolist():
                writers[number].write_table(rows.filter(pa.array(share == number)))


def _commit(
    members: Sequence[_Member],
    grid: GridPass,
    reports: Sequence[Mapping[str, Any]],
    since: dict[str, int | None],
    tables: Mapping[str, Table],
) -> None:
    """Commit what tasks made: states first, then results in order of units."""
    lake, metadata = members[0].context.lake, {"run_id": members[0].run.run_id}
    replaced = {name for report in reports for name in report["replaces"]}
    writers = _writers(members, grid, reports)
    for table in (TABLES["states"], *tables.values()):
        parts = [Part(**part) for report in reports for part in report["parts"].get(table.name, ())]
        if not parts:
            continue
        again = table.name in replaced or any(part.most.get("attempts", 1) > 1 for part in parts)
        looked_at = None if again else since[table.name]
        replacing = None if table.name == "states" else runner.REPLACEABLE
        version, kept = insert_parts(lake, table, parts, metadata, looked_at, replacing)
        # What somebody else wrote meanwhile, the tasks did not see.
        since[table.name] = version if kept else None
        for context in writers[table.name]:
            context.outputs[table.name] = version


def _writers(
    members: Sequence[_Member], grid: GridPass, reports: Sequence[Mapping[str, Any]]
) -> dict[str, list[Context]]:
    """Return by table the runs that wrote to it: the first one of each work or release."""
    contexts = {member.run.run_id: member.context for member in members}
    found: dict[str, dict[str, Context]] = defaultdict(dict)
    for report in reports:
        for number, n in report["new"].items():
            if n:
                run_id = grid.made_by[int(number)]
                found["states"][run_id] = contexts[run_id]
        for number, n in report["computed"].items():
            work = grid.works[int(number)]
            if n:
                found[f"t2_{work.name}"][work.run_id] = contexts[work.run_id]
    return defaultdict(list, {name: [*some.values()] for name, some in found.items()})


def _finish(
    member: _Member,
    grid: GridPass,
    rows: pa.Table,
    accepted: pa.Table,
    reports: Sequence[Mapping[str, Any]],
    sample: ResultSample,
) -> pa.Table:
    """Link a variation's states, count its results, select its candidates; return its sample."""
    context, job = member.context, member.context.job
    found = _read(grid, "found", "release", member.release)
    if found is None:
        found = FOUND.append(pa.field("is_new", pa.bool_())).empty_table()
    states = joined(rows, found)
    first = grid.made_by[member.release] == member.run.run_id
    new = found["state_id"].filter(found["is_new"]).combine_chunks() if first else _NONE
    count_states(context, states, new)
    link(context, states)
    units = {}
    for step in job.units:
        table = _read(grid, f"results_{step.name}", "work", member.works[step.name])
        if table is None:
            schema = arrow_schema(runner.unit_table(step.name, step.columns))
            table = schema.empty_table().select(["state_id", *grid.kept[step.name]])
        units[step.name] = table
        context.counts.t2[step.name] = _counts(member, grid, step.name, table, reports)
        if bad := failures(context.counts.t2[step.name]):
            context.out(f"T2: {step.name}: {bad}")
    context.counts.t3 = {}
    shown = with_alerts(context, states, accepted)
    for selection in job.selections:
        read = columns_read(selection.rule)
        mine = {name: units[name].select(["state_id", *read[name]]) for name in read}
        chosen, context.counts.t3[selection.name] = candidates_of(selection, shown, mine)
        context.commit(*candidates_table(selection, chosen, context.run_id))
    return _sampled(states, units[sample.unit], sample)


_NONE = pa.array([], pa.string())


def _read(grid: GridPass, name: str, by: str, number: int) -> pa.Table | None:
    """Return the rows of all shares that are of one release or work; None without a file."""
    files = sorted(str(path) for path in Path(grid.gathering.folder).glob(f"{name}-*.parquet"))
    return dataset(files).to_table(filter=pc.field(by) == number) if files else None


def _counts(
    member: _Member,
    grid: GridPass,
    name: str,
    table: pa.Table,
    reports: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what a run's record has of a unit: what others computed first is present."""
    number = member.works[name]
    sums = Counter[str]()
    for report in reports:
        for what in ("wanted", "computed", "seconds"):
            sums[what] += report[what].get(str(number), 0)
    first = grid.works[number].run_id == member.run.run_id
    wanted, computed = int(sums["wanted"]), int(sums["computed"]) if first else 0
    cores = member.context.lake.spark.sparkContext.defaultParallelism
    return {
        "wanted": wanted,
        "present": wanted - computed,
        "computed": computed,
        "seconds": round(float(sums["seconds"]) / cores, 3) if first else 0.0,
        **outcomes(table),
    }


def _sampled(states: pa.Table, results: pa.Table, sample: ResultSample) -> pa.Table:
    """Return ``stock`` and the columns of a sample, for objects that have a result."""
    mine = states.filter(pc.equal(states["channel"], sample.channel))
    mine = mine.filter(pc.is_in(mine["stock"], value_set=pa.array(sample.stocks)))
    mine = once_by(mine, "stock") if len(mine) else mine
    place = pc.index_in(mine["state_id"], value_set=results["state_id"].combine_chunks())
    rows = results.select(list(sample.columns)).take(place.drop_null())
    return rows.append_column("stock", mine["stock"].filter(pc.is_valid(place)))
