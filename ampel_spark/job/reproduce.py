"""A recorded run, run again in a new lake from the versions that it read, and compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.archive.chunks import Pinned
from ampel_spark.errors import ConfigError
from ampel_spark.job.comparison.tables import Side, common_ids, frame_of, links_of
from ampel_spark.job.inputs import Inputs, recorded
from ampel_spark.job.load import load_recorded
from ampel_spark.lake.comparison import Difference, first_difference
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.reading import find_run, open_table, read, table_names
from ampel_spark.lake.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

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
    differences : tuple of Difference
        The first of each table that differs, in order of the tiers.
    software : tuple of str
        What differs in versions, commit and traces.
    """

    run_id: str
    rows: Mapping[str, int]
    differences: tuple[Difference, ...]
    software: tuple[str, ...]


def reproduce(lake: Path, run: str, into: Path, out: Callable[[str], None] = print) -> Reproduction:
    """Run a run again in the lake `into` and compare every table that it wrote.

    The new lake reads the data files of the old one: it holds the versions that the run read, and
    copies only what is small.

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
    from ampel_spark.job.run import run_job
    from ampel_spark.session import get_session

    parent = find_run(lake, run)
    if parent["status"] not in ("good", "partial"):
        raise ConfigError(
            f"run {parent['run_id']} ended as {parent['status']}: there is nothing to compare with"
        )
    inputs = recorded(parent)
    job = dataclasses.replace(load_recorded(parent, lake=lake), report=None)
    spark = get_session(f"ampel_spark reproduce {job.name}")
    source, target = Lake(spark, lake), Lake(spark, into)
    versions = _clone(source, target, inputs)
    outcome = run_job(job, into, inputs=Inputs(inputs.until, versions=versions), out=out)
    again = find_run(into, outcome.run_id)
    rows, differences = compare(lake, parent, into, again)
    return Reproduction(outcome.run_id, rows, differences, _software(parent, again))


def compare(
    lake_a: Path, run_a: Mapping[str, Any], lake_b: Path, run_b: Mapping[str, Any]
) -> tuple[dict[str, int], tuple[Difference, ...]]:
    """Compare what two runs wrote, table by table, without Spark.

    Returns
    -------
    rows : dict of str to int
        Rows compared, by table.
    differences : tuple of Difference
        The first of each table.
    """
    import pyarrow.compute as pc

    rows: dict[str, int] = {}
    found: list[Difference] = []

    def hold(name: str, pair: Sequence[pa.Table], key: Sequence[str], *skip: str) -> None:
        rows[name] = len(pair[0])
        difference = first_difference(name, pair[0], pair[1], key, skip)
        if difference is not None:
            found.append(difference)

    sides = ((lake_a, run_a), (lake_b, run_b))
    of_run = [pc.field("run_id") == run["run_id"] for _, run in sides]
    keys = {
        "decisions": ["channel", "alert_id"],
        "state_channels": ["channel", "stock", "as_of_jd", "alert_id", "state_id"],
        "candidates": ["selection", "rank"],
    }
    tables: dict[str, list[pa.Table]] = {}
    for name in keys:
        if not all(name in table_names(lake) for lake, _ in sides):
            continue
        a, b = (read(lake, name, filters=f) for (lake, _), f in zip(sides, of_run, strict=True))
        shared = [column for column in a.column_names if column in b.column_names]
        tables[name] = [a.select(shared), b.select(shared)]
        # A changed filter's trace is told with the software, and not row by row.
        hold(name, tables[name], keys[name], "trace_id")
    ids = [pc.unique(t["state_id"].combine_chunks()) for t in tables["state_channels"]]
    mine = [pc.field("state_id").isin(each) for each in ids]
    hold(
        "states",
        [read(lake, "states", filters=f) for (lake, _), f in zip(sides, mine, strict=True)],
        ["state_id"],
    )
    # A lake may hold results of other runs: those count that the run used.
    links = [links_of(lake, run["run_id"]) for lake, run in sides]
    every = common_ids(*links)
    used = [
        Side(lake, run, every, frame_of(link, every))
        for (lake, run), link in zip(sides, links, strict=True)
    ]
    for unit in sorted(run_a["traces"].get("t2", {})):
        name = f"t2_{unit}"
        hold(name, [_results(side, unit) for side in used], ["state_id"], "trace_id")
    return rows, tuple(found)


def _results(side: Side, unit: str) -> pa.Table:
    """Return the results that a run used; of their input hashes what the unit reported itself.

    The other part is over the traces of tied units, which are compared with the software.
    """
    import pyarrow as pa

    columns = [f.name for f in open_table(side.lake, f"t2_{unit}").schema().fields]
    found = side.results(unit, columns)
    table = found.table.take(found.row[found.row >= 0]).select(columns)
    inputs = [(text or "").partition(":")[2] for text in table["input_hash"].to_pylist()]
    at = table.column_names.index("input_hash")
    return table.set_column(at, "input_hash", pa.array(inputs, pa.string()))


def _clone(source: Lake, target: Lake, inputs: Inputs) -> Pinned:
    """Give a new lake what a run read of an old one, and return the versions there."""
    versions = dataclasses.asdict(inputs.pin(source.root))
    for name in ("alerts", "datapoints"):
        source.read(name, versions[name])  # one that is gone is told
        target.spark.sql(
            f"CREATE TABLE delta.`{target.path(name)}` SHALLOW CLONE delta.`{source.path(name)}` "
            f"VERSION AS OF {versions[name]}"
        )
    for name in ("quarantine", "archive_files"):
        rows = source.read(name, versions[name])
        target.append(TABLES[name], rows, {"cloned": versions[name]})
    return Pinned(**{name: target.version(name) or 0 for name in versions})


def _software(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what differs in the software of two runs, a line each."""
    lines = []
    for name in sorted({*a["software"], *b["software"]}):
        was, now = a["software"].get(name), b["software"].get(name)
        if was != now:
            lines.append(f"{name}: {was}, now {now}")
    if a["git_commit"] != b["git_commit"]:
        lines.append(f"commit: {a['git_commit']}, now {b['git_commit']}")
    for channel, trace in sorted(a["traces"].get("t0", {}).items()):
        if trace != b["traces"].get("t0", {}).get(channel):
            lines.append(f"T0: the filter of channel {channel} has another trace")
    for unit, trace in sorted(a["traces"].get("t2", {}).items()):
        other = b["traces"].get("t2", {}).get(unit, {})
        parts = [k for k in trace if k != "trace_id" and trace[k] != other.get(k)]
        if parts:
            lines.append(f"T2: unit {unit} has another trace: {', '.join(sorted(parts))} differ")
    return tuple(lines)
