"""T1 of a run: which states are wanted, which of them an earlier run had, and the others made."""

from __future__ import annotations

import functools
import math
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import functions as f

from ampel_spark.job.execution.tiers import own_types
from ampel_spark.lake.commits import Change, commit
from ampel_spark.lake.parts import Part, PartWriter, arrow_schema
from ampel_spark.lake.progress import progress
from ampel_spark.lake.reading import read
from ampel_spark.lake.runs import runs
from ampel_spark.lake.tables import TABLES
from ampel_spark.lake.tasks import run_on_files, run_tasks
from ampel_spark.t1.assemble import LIGHT_CURVE_SCHEMA, light_curve_schema, own_kind
from ampel_spark.t1.gather import FOUND, Gathering, assemble_shares, share_of, take_rows
from ampel_spark.t1.known import CONTENT, changed_stocks, choose, known_states
from ampel_spark.t1.states import ALL, REQUESTS, Wanted, numbers, requests

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from ampel_spark.job.execution.tiers import Context

__all__ = [
    "RunStates",
    "asked",
    "count_states",
    "gather",
    "joined",
    "link",
    "make_states",
    "once_by",
]

Array = npt.NDArray[Any]

#: Requests of a share of the work.
_SHARE = 20_000
#: Requests that are no work for tasks.
_HERE = 4_000

_STATE = ("request", "access", "state_id", "rules", *CONTENT)


class RunStates:
    """The states of a run, and their light curves as far as somebody asked for them.

    Parameters
    ----------
    context : Context
        The run's.
    rows : Arrow table
        A row for each state that a channel wants: `REQUESTS`, ``access``, ``state_id``, ``rules``
        and `CONTENT`.
    staged : Arrow array of str
        The states whose light curves are staged.
    """

    def __init__(self, context: Context, rows: pa.Table, staged: pa.Array) -> None:
        self._context = context
        self._staged = staged
        self.rows = rows
        self._path = f"{context.folder}/states.parquet"
        pq.write_table(rows.drop_columns(["rules"]), self._path)

    def frame(self) -> DataFrame:
        """Return the states as a DataFrame."""
        return self._context.lake.spark.read.parquet(self._path)

    def light_curves(self) -> DataFrame:
        """Return the light curves that are staged, each state once, and the place of each.

        These are `light_curve_schema`, ``access``, ``file`` and ``row``.
        """
        from pyspark.sql.pandas.types import from_arrow_schema

        more = {name: own_kind(kind) for name, kind in own_types(self._context).items()}
        curves = light_curve_schema(more).append(FOUND.field("access"))
        schema = from_arrow_schema(curves)
        spark = self._context.lake.spark
        rows = spark.read.schema(schema).parquet(_curves(self._context))
        file, row = f.col("_metadata.file_path"), f.col("_metadata.row_index")
        return rows.select("*", file.alias("file"), row.alias("row"))

    @property
    def are_staged(self) -> bool:
        """Whether all light curves are staged."""
        return not self._lacking(None)

    def stage(self, state_ids: pa.Array | None = None) -> None:
        """Stage the light curves of some states, or of all, that are not staged yet."""
        todo = self._lacking(state_ids)
        if not len(todo):
            return
        found = _assembled(self._context, todo.select([*REQUESTS.names, "access"]))
        lost = pc.is_in(todo["state_id"], value_set=found["state_id"])
        if not pc.all(lost).as_py():
            state = todo.filter(pc.invert(lost))["state_id"][0]
            raise AssertionError(f"state {state} is not made again of the points it was made of")
        self._staged = pa.concat_arrays([self._staged, todo["state_id"].combine_chunks()])

    def _lacking(self, state_ids: pa.Array | None) -> pa.Table:
        rows = self.rows
        if state_ids is not None:
            rows = rows.filter(pc.is_in(rows["state_id"], value_set=state_ids))
        rows = rows.filter(pc.invert(pc.is_in(rows["state_id"], value_set=self._staged)))
        return once_by(rows, "state_id")

    def curves_of(self, state_ids: Sequence[str]) -> pa.Table:
        """Return the light curves of a few states as an Arrow table."""
        ids = pa.array(state_ids, pa.string())
        self.stage(ids)
        files = sorted(Path(_curves(self._context)).glob("*.parquet"))
        found = [pq.read_table(path, filters=pc.field("state_id").isin(ids)) for path in files]
        return pa.concat_tables([LIGHT_CURVE_SCHEMA.empty_table(), *found],
                                promote_options="default")  # fmt: skip


def make_states(context: Context, accepted: pa.Table) -> RunStates:
    """T1: return the states that the channels want, those made that no earlier run had.

    Parameters
    ----------
    context : Context
        The run's.
    accepted : Arrow table
        The accepted alerts of all channels.
    """
    Path(_curves(context)).mkdir()
    rows = asked(context, accepted)
    each = once_by(rows, "request", "access")
    known = _known(context, each)
    lacking = each.filter(pa.array(_places(each, known) < 0))
    found = _assembled(context, lacking)
    states = joined(rows, pa.concat_tables([known, found.select(known.column_names)]))
    new = _insert(context, found)
    count_states(context, states, new)
    link(context, states)
    total = context.counts.t1
    context.out(
        f"T1: {total['states']} states of {total['objects']} objects, {total['new']} of them new"
    )
    context.states = RunStates(context, states, pc.unique(found["state_id"].combine_chunks()))
    return context.states


def _curves(context: Context) -> str:
    return f"{context.folder}/light_curves"


def asked(context: Context, accepted: pa.Table) -> pa.Table:
    """Return the requests of all channels, with the data rights of each."""
    job = context.job
    wanted = Wanted(job.states.mode, job.states.as_of, job.states.points)
    parts = []
    for access in sorted({c.programids for c in job.channels.values()}):
        channels = [c.name for c in job.channels.values() if c.programids == access]
        mine = accepted.filter(pc.is_in(accepted["channel"], value_set=pa.array(channels)))
        rows = requests(mine, wanted, context.as_of)
        parts.append(rows.append_column("access", pa.repeat(",".join(map(str, access)), len(rows))))
    return pa.concat_tables(parts)


def once_by(rows: pa.Table, *names: str) -> pa.Table:
    """Return the first of the rows that are alike in some columns; their order stays."""
    keys = [rows[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in names]
    joint = functools.reduce(lambda a, b: a * (int(b.max(initial=0)) + 1) + b,
                             (k.astype(np.int64) for k in keys))  # fmt: skip
    _, first = np.unique(joint, return_index=True)
    return rows.take(pa.array(np.sort(first)))


def _places(rows: pa.Table, others: pa.Table) -> Array:
    """Return for each request the row of others that is the same request; -1 for none."""
    names = ["request", "access"]
    key = numbers(pa.concat_tables([rows.select(names), others.select(names)]), names)
    place = np.full(int(key.max(initial=-1)) + 1, -1)
    place[key[len(rows) :]] = np.arange(len(others))
    found: Array = place[key[: len(rows)]]
    return found


def joined(asked: pa.Table, states: pa.Table) -> pa.Table:
    """Return the requests that have a state, with it."""
    at = _places(asked, states)
    rows, found = asked.filter(pa.array(at >= 0)), states.take(pa.array(at[at >= 0]))
    for name in ("state_id", "rules", *CONTENT):
        rows = rows.append_column(name, found[name])
    return rows


def _known(context: Context, each: pa.Table) -> pa.Table:
    """Return the requests whose state an earlier run had, with that state."""
    lake, job, release = context.lake.root, context.job, context.job.calibration
    before = choose(runs(lake), job.resolved.get("survey"), release.content_hash)
    none = known = FOUND.empty_table().select([*_STATE])
    if before is None or not context.lake.has("state_channels"):
        return none
    changed = changed_stocks(lake, before, asdict(context.versions))
    if changed is None:
        return none
    known = known_states(lake, before, each, job.states.points, job.survey.label)
    good = ~np.isin(known["stock"].to_numpy(), changed)
    if release.content_hash not in before.inputs.calibrations.values():
        # A state that a rule of that release had touched may be another one without it.
        good &= np.asarray(pc.list_value_length(known["rules"]).fill_null(0)) == 0
        known = known.filter(pa.array(good))
        good = ~np.isin(known["stock"].to_numpy(), _touched(context, known))
    return known.filter(pa.array(good)).select([*_STATE]).cast(none.schema)


def _touched(context: Context, known: pa.Table) -> Array:
    """Return the objects of known states of which the release selects a point."""
    if not len(known) or not context.job.calibration.rules:
        return np.zeros(0, np.int64)
    gathering = _gathering(context, 1)
    np.save(f"{gathering.folder}/known.npy", np.unique(known["stock"].to_numpy()))
    files = context.files("datapoints")
    found = [pq.read_table(path) for path in _take(context, gathering, "touched", files)]
    stocks: Array = np.unique(pa.concat_tables(found)["stock"].to_numpy())
    return stocks


def _assembled(context: Context, lacking: pa.Table) -> pa.Table:
    """Make states: stage their light curves, and return `FOUND` of each."""
    if not len(lacking):
        return FOUND.empty_table()
    gathering = gather(context, lacking, math.ceil(len(lacking) / _SHARE))
    work = functools.partial(assemble_shares, gathering, _curves(context))
    shares = [(n,) for n in range(gathering.shares)]
    here = len(lacking) <= _HERE
    with progress(context.lake.spark, "light_curves", context.out):
        found = run_tasks(context.lake.spark, work, shares, "task int", here=here)
    made = [pq.read_table(report["found"]) for report in found if report is not None]
    return pa.concat_tables([FOUND.empty_table(), *made])


def gather(context: Context, lacking: pa.Table, shares: int) -> Gathering:
    """Take the points of the objects of requests out of the archive, apart by share.

    Parameters
    ----------
    context : Context
        The run's.
    lacking : Arrow table
        Requests with ``access``, each once; they are left for the tasks as ``requests-<share>``.
    shares : int
        The number of shares.
    """
    gathering = _gathering(context, shares)
    stocks = np.unique(lacking["stock"].to_numpy())
    np.save(f"{gathering.folder}/asked.npy", stocks)
    share = share_of(lacking["stock"].to_numpy(), gathering.shares)
    for number in range(gathering.shares):
        mine = lacking.filter(pa.array(share == number))
        pq.write_table(mine, f"{gathering.folder}/requests-{number}.parquet")
    with progress(context.lake.spark, "points", context.out):
        alerts = context.files("alerts")
        rights = pa.concat_tables(
            [pq.read_table(path) for path in _take(context, gathering, "rights", alerts)]
        )
        hidden = _hidden(rights, pc.unique(lacking["access"]).to_pylist())
        if len(hidden):
            np.save(f"{gathering.folder}/hidden.npy", hidden)
            _take(context, gathering, "alerts", alerts)
            _take(context, gathering, "sightings", context.files("sightings"))
        _take(context, gathering, "points", context.files("datapoints"))
    return gathering


def _hidden(rights: pa.Table, accesses: Sequence[str]) -> Array:
    """Return the objects with an alert that one of some data rights does not see."""
    common = functools.reduce(frozenset.intersection,
                              (frozenset(map(int, a.split(","))) for a in accesses))  # fmt: skip
    seen = pc.is_in(rights["programid"], value_set=pa.array(sorted(common), pa.int32()))
    stocks: Array = np.unique(rights.filter(pc.invert(seen))["stock"].to_numpy())
    return stocks


def _gathering(context: Context, shares: int) -> Gathering:
    folder = Path(context.folder, f"gathered-{uuid.uuid4()}")
    folder.mkdir()
    job = context.job
    return Gathering(str(folder), shares, job.survey.label, context.as_of,
                     tuple(job.states.points), job.calibration, own_types(context))  # fmt: skip


def _take(
    context: Context, gathering: Gathering, kind: str, files: Sequence[tuple[str, int]]
) -> list[str]:
    """Take rows out of files; return the files of what is reported."""
    work = functools.partial(take_rows, gathering, kind)
    told = run_on_files(context.lake.spark, work, files)
    return [path for path in told if path is not None]


def _insert(context: Context, found: pa.Table) -> pa.Array:
    """Add the states that are new to the lake, and return their ids."""
    table, lake = TABLES["states"], context.lake
    ids = pc.unique(found["state_id"].combine_chunks())
    mine = pc.field("stock").isin(pc.unique(found["stock"]))
    new = [ids]

    def look(version: int) -> Change | None:
        there = read(lake.root, table.name, ["state_id"], mine, version)["state_id"]
        new[0] = ids.filter(pc.invert(pc.is_in(ids, value_set=there.combine_chunks())))
        return Change(_state_parts(context, new[0])) if len(new[0]) else None

    if context.dry and len(ids) and lake.has(table.name):
        there = read(lake.root, table.name, ["state_id"], mine)["state_id"]
        return ids.filter(pc.invert(pc.is_in(ids, value_set=there.combine_chunks())))
    if len(ids) and not context.dry:
        version = commit(lake, table, look, {"run_id": context.run_id})
        if len(new[0]):
            context.outputs[table.name] = version
    return new[0]


def _state_parts(context: Context, new: pa.Array) -> list[Part]:
    """Write rows of ``states``, of the states that are new, from their staged light curves."""
    table = TABLES["states"]
    names = [name for name in table.names if name != "run_id"]
    schema, folder = arrow_schema(table), context.lake.path(table.name)
    left, parts = new, []
    for path in sorted(Path(_curves(context)).glob("*.parquet")):
        rows = pq.read_table(path, columns=names)
        rows = rows.filter(pc.is_in(rows["state_id"], value_set=left))
        if not len(rows):
            continue
        # Shares are apart by object, so no other one has these states.
        left = left.filter(pc.invert(pc.is_in(left, value_set=rows["state_id"])))
        rows = rows.append_column("run_id", pa.repeat(context.run_id, len(rows)))
        writer = PartWriter(folder, schema, table.extremes)
        writer.write(rows.select(schema.names).sort_by("stock"))
        parts.append(writer.close())
    return parts


def count_states(context: Context, states: pa.Table, new: pa.Array) -> None:
    """Note how many states and objects there are: in all, and by channel."""
    once = once_by(states, "channel", "state_id")
    total = _counts(once_by(once, "state_id"), new)
    context.counts.t1 = {key: total[key] for key in ("states", "objects", "new")}
    channels = {}
    for channel in sorted(pc.unique(once["channel"]).to_pylist()):
        channels[channel] = _counts(once.filter(pc.equal(once["channel"], channel)), new)
    context.counts.t1["channels"] = channels


def _counts(once: pa.Table, new: pa.Array) -> dict[str, int]:
    return {
        "states": len(once),
        "objects": len(pc.unique(once["stock"])),
        "new": int(pc.sum(pc.is_in(once["state_id"], value_set=new)).as_py() or 0),
        "detections": pc.sum(once["n_detections"]).as_py() or 0,
        "upper_limits": pc.sum(once["n_upper_limits"]).as_py() or 0,
        "forced": pc.sum(once["n_forced"]).as_py() or 0,
    }


def link(context: Context, states: pa.Table) -> None:
    """Note which states the run's channels want."""
    if context.dry:
        return
    job, table, n = context.job, TABLES["state_channels"], len(states)
    no_jd, no_id = pa.scalar(None, pa.float64()), pa.scalar(None, pa.int64())
    of_alert = pc.is_valid(states["alert_id"])
    columns = {
        "channel": states["channel"],
        "stock": states["stock"],
        "state_id": states["state_id"],
        "as_of_jd": pc.if_else(pc.less(states["until_jd"], ALL), states["until_jd"], no_jd),
        "as_of_alert_id": pc.if_else(of_alert, states["until_alert_id"], no_id),
        "alert_id": states["alert_id"],
        "calibration": pa.repeat(job.calibration.name, n),
        "rules": states["rules"],
        "access": states["access"],
        "points": pa.repeat(",".join(job.states.points), n),
        "datapoints_version": pa.repeat(context.versions.datapoints, n),
        "alerts_version": pa.repeat(context.versions.alerts, n),
        "run_id": pa.repeat(context.run_id, n),
    }
    order = [(c, "ascending") for c in ("channel", "stock", "as_of_jd", "as_of_alert_id")]
    rows = pa.table(columns).select(table.names).cast(arrow_schema(table)).sort_by(order)
    context.commit(table, rows)
