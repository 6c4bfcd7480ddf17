"""A recorded run, run again in a new lake from the versions that it read, and compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.archive.committing.chunks import Pinned
from ampel_spark.errors import ConfigError
from ampel_spark.job.comparison.sides import Side, common_ids, frame_of, links_of
from ampel_spark.job.configuration.load import load_recorded
from ampel_spark.job.execution.inputs import Inputs, recorded
from ampel_spark.lake.branch import branch
from ampel_spark.lake.comparison import RowDifference, first_difference
from ampel_spark.lake.decisions import decisions_of
from ampel_spark.lake.known import marked
from ampel_spark.lake.reading import check_version, open_table, read, table_names
from ampel_spark.lake.runs import GOOD, PARTIAL, Run, UnitTrace, find_run

#: Tables of a run's own rows, and the columns by which those of two runs belong together.
_KEYS = {
    "decisions": ["channel", "alert_id"],
    "state_channels": ["channel", "stock", "as_of_jd", "alert_id", "state_id"],
    "candidates": ["selection", "rank"],
}

__all__ = ["Reproduction", "compare", "reproduce"]


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """What came of it.

    Attributes
    ----------
    run_id : str
        The new run.
    rows : dict of str to int
        Rows compared, by table.
    differences : tuple of RowDifference
        The first of each table that differs, in order of the tiers.
    software : tuple of str
        What differs in versions, commit and traces.
    """

    run_id: str
    rows: Mapping[str, int]
    differences: tuple[RowDifference, ...]
    software: tuple[str, ...]


def reproduce(lake: Path, run: str, into: Path, out: Callable[[str], None] = print) -> Reproduction:
    """Run a run again in the lake `into` and compare every table that it wrote.

    The new lake is a branch of the old one (`ampel_spark.lake.branch`): it has the versions that
    the run read, and copies nothing.

    Parameters
    ----------
    lake : path
    run : str
        Its id, the beginning of one, or "latest".
    into : path
        A folder that is empty or not there.
    out : callable
        Takes lines for the user.

    Raises
    ------
    ConfigError, LakeError
        If the run cannot be run again: what it read is gone, or `into` is taken.
    """
    from ampel_spark.job.execution.run import run_job

    parent = find_run(lake, run)
    if parent.status not in (GOOD, PARTIAL):
        raise ConfigError(
            f"run {parent.run_id} ended as {parent.status}: there is nothing to compare with"
        )
    inputs = recorded(parent)
    job = dataclasses.replace(load_recorded(parent, lake=lake), report=None)
    versions = _branched(lake, into, inputs)
    outcome = run_job(job, into, inputs=Inputs(inputs.until, versions=versions), out=out)
    again = find_run(into, outcome.run_id)
    rows, differences = compare(lake, parent, into, again)
    return Reproduction(outcome.run_id, rows, differences, _software(parent, again))


def compare(
    lake_a: Path, run_a: Run, lake_b: Path, run_b: Run
) -> tuple[dict[str, int], tuple[RowDifference, ...]]:
    """Compare what two runs wrote, table by table, without Spark.

    Returns
    -------
    rows : dict of str to int
        Rows compared, by table.
    differences : tuple of RowDifference
        The first of each table.
    """
    rows: dict[str, int] = {}
    found: list[RowDifference] = []
    for name, key, a, b in _pairs(lake_a, run_a, lake_b, run_b):
        rows[name] = len(a)
        # a trace that changed is named with the software, and not row by row
        difference = first_difference(name, a, b, key, ["trace_id"])
        if difference is not None:
            found.append(difference)
    return rows, tuple(found)


def _pairs(
    lake_a: Path, run_a: Run, lake_b: Path, run_b: Run
) -> Iterator[tuple[str, Sequence[str], pa.Table, pa.Table]]:
    """Yield what two runs wrote: table, columns by which rows belong together, and the rows."""
    there = {*table_names(lake_a)} & {*table_names(lake_b)}
    mine_a, mine_b = (pc.field("run_id") == run.run_id for run in (run_a, run_b))
    states = [pc.field("state_id").isin(pa.array([], pa.string()))] * 2
    for name, key in _KEYS.items():
        if name not in there:
            continue
        if name == "decisions":
            a, b = decisions_of(lake_a, run_a), decisions_of(lake_b, run_b)
        else:
            a, b = read(lake_a, name, filters=mine_a), read(lake_b, name, filters=mine_b)
        shared = [column for column in a.column_names if column in b.column_names]
        if name == "state_channels":
            ids = [pc.unique(table["state_id"].combine_chunks()) for table in (a, b)]
            states = [pc.field("state_id").isin(each) for each in ids]
        yield name, key, a.select(shared), b.select(shared)
    a, b = read(lake_a, "states", filters=states[0]), read(lake_b, "states", filters=states[1])
    yield "states", ["state_id"], a, b
    # A lake may hold results of other runs: those count that the run used.
    links = links_of(lake_a, run_a.run_id), links_of(lake_b, run_b.run_id)
    ids = common_ids(*links)
    one = Side(lake_a, run_a, ids, frame_of(links[0], ids))
    two = Side(lake_b, run_b, ids, frame_of(links[1], ids))
    for unit in sorted(run_a.traces.t2):
        yield f"t2_{unit}", ["state_id"], _results(one, unit), _results(two, unit)


def _results(side: Side, unit: str) -> pa.Table:
    """Return the results that a run used; of their input hashes what the unit reported itself.

    The other part is over the traces of tied units, which are compared with the software.
    """
    columns = [f.name for f in open_table(side.lake, f"t2_{unit}").schema().fields]
    found = side.results(unit, columns)
    table = found.table.take(found.row[found.row >= 0]).select(columns)
    inputs = [(text or "").partition(":")[2] for text in table["input_hash"].to_pylist()]
    at = table.column_names.index("input_hash")
    return table.set_column(at, "input_hash", pa.array(inputs, pa.string()))


def _branched(lake: Path, into: Path, inputs: Inputs) -> Pinned:
    """Give a new lake what a run read of an old one, and return the versions."""
    versions = inputs.pin(lake)
    own = {name: n for name, n in dataclasses.asdict(versions).items() if n is not None}
    for name, version in own.items():
        check_version(lake, name, version)  # one that is gone is an error
    branch(lake, into, marked(lake, versions.archive_files) | own)
    return versions


def _software(a: Run, b: Run) -> tuple[str, ...]:
    """Return what differs in the software of two runs, a line each."""
    lines = []
    for name in sorted({*a.software, *b.software}):
        was, now = a.software.get(name), b.software.get(name)
        if was != now:
            lines.append(f"{name}: {was}, now {now}")
    if a.git_commit != b.git_commit:
        lines.append(f"commit: {a.git_commit}, now {b.git_commit}")
    for channel, trace in sorted(a.traces.t0.items()):
        if trace != b.traces.t0.get(channel):
            lines.append(f"T0: the filter of channel {channel} has another trace")
    for unit in sorted(a.traces.t2):
        own, other = (run.traces.t2.get(unit, UnitTrace(None)).to_json() for run in (a, b))
        parts = [k for k in own if k != "trace_id" and own[k] != other.get(k)]
        if parts:
            lines.append(f"T2: unit {unit} has another trace: {', '.join(sorted(parts))} differ")
    return tuple(lines)
