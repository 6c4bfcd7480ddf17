"""The tiers of a run: what each reads, stages, commits and counts.

Every function takes the run's context and returns what the next tier needs. Spark actions happen
here and in the lake; the packages of the tiers only build DataFrames.
"""

from __future__ import annotations

import functools
import math
import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.dataset import dataset
from pyspark.sql import functions as f

from ampel_spark.archive.committing.chunks import Pinned
from ampel_spark.calibration.examine import Examined, examine
from ampel_spark.job.configuration.catalogs import star_files
from ampel_spark.job.configuration.model import FilterStep, ResolvedJob, UnitStep
from ampel_spark.job.execution.outcomes import failures, outcomes, qualities
from ampel_spark.lake.changes import files_at
from ampel_spark.lake.commits import insert, insert_parts
from ampel_spark.lake.decisions import DecisionRef
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.parts import Part, arrow_schema
from ampel_spark.lake.progress import progress
from ampel_spark.lake.reading import struct_columns
from ampel_spark.lake.runs import Counts
from ampel_spark.lake.tables import TABLES, Table
from ampel_spark.t0.gaia import StarCatalog
from ampel_spark.t0.quantities import flat_types
from ampel_spark.t0.selection import ChannelFilter
from ampel_spark.t2 import runner
from ampel_spark.t2.trace import Trace

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from ampel_spark.job.execution.assembling import RunStates

__all__ = [
    "Computed",
    "Context",
    "Results",
    "channel_filter",
    "fit_units",
    "own_types",
    "record_calibration",
    "selections_of",
]

#: States of the first commit of a unit's results, and the work that later ones aim at [s]: what a
#: kill can lose.
FIRST_CHUNK, CHUNK_SECONDS = 50_000, 300.0
_PLACES = 1 << 20


@dataclass(frozen=True)
class Computed:
    """The results of a unit in a run.

    Attributes
    ----------
    step : UnitStep
    rows : DataFrame
        One row per state.
    files : sequence of str
        The Parquet files of these rows.
    """

    step: UnitStep
    rows: DataFrame
    files: Sequence[str]

    def table(self, columns: Sequence[str], where: pc.Expression | None = None) -> pa.Table:
        """Return columns of the results, of those that meet a condition."""
        schema = arrow_schema(runner.unit_table(self.step.name, self.step.columns))
        return dataset([*self.files], schema=schema).to_table(columns=[*columns], filter=where)


#: Results of the units of a run, by the entry's name.
Results: TypeAlias = "dict[str, Computed]"


@dataclass
class Context:
    """What the tiers of one run share.

    Attributes
    ----------
    lake, job, run_id
    versions : Pinned
        Versions of the archive's tables that the run reads.
    folder : str
        Staging of the run: what is computed once and read several times.
    as_of : float or None
        Time that bounds the run, JD.
    out : callable
        Takes lines for the user.
    dry : bool
        Nothing is committed, and no unit runs: what would be done is counted.
    counts : Counts
    outputs, decisions : dict
        For the run's record.
    states : RunStates or None
        The states, once they are made.
    reaches_out : bool
        Whether units of T3 may reach people and services outside: not in a run again.
    """

    lake: Lake
    job: ResolvedJob
    run_id: str
    versions: Pinned
    folder: str
    as_of: float | None
    out: Callable[[str], None]
    dry: bool = False
    counts: Counts = field(default_factory=Counts)
    outputs: dict[str, int] = field(default_factory=dict)
    decisions: dict[str, DecisionRef] = field(default_factory=dict)
    states: RunStates | None = None
    reaches_out: bool = False

    def stage(self, name: str, rows: DataFrame) -> DataFrame:
        """Compute `rows` once, into staging, and return them from there."""
        path = f"{self.folder}/{name}"
        with progress(self.lake.spark, name, self.out):
            rows.write.mode("overwrite").parquet(path)
        return self.lake.spark.read.parquet(path)

    def commit(
        self, table: Table, rows: DataFrame | pa.Table, replacing: str | None = None
    ) -> None:
        """Insert rows into a table of the lake under this run; see `commits.insert`."""
        if not self.dry:
            metadata = {"run_id": self.run_id}
            self.outputs[table.name] = insert(self.lake, table, rows, metadata, replacing)

    def insert(
        self, table: Table, parts: Sequence[Part], since: int | None, replacing: str
    ) -> bool:
        """Insert parts into a table of the lake under this run; see `commits.insert_parts`."""
        metadata = {"run_id": self.run_id}
        self.outputs[table.name], kept = insert_parts(
            self.lake, table, parts, metadata, since, replacing
        )
        return kept

    def files(self, name: str) -> list[tuple[str, int]]:
        """Return the files of a table of the archive, of the pinned version, and their sizes."""
        version = getattr(self.versions, name)
        paths = [] if version is None else files_at(self.lake.path(name), version)
        return [(path, Path(path).stat().st_size) for path in paths]

    def alerts(self) -> DataFrame:
        """Return the alerts of the job's survey, of the pinned version.

        Columns that the survey declares and the lake has not got yet are null.
        """
        alerts, label = self.lake.read("alerts", self.versions.alerts), self.job.survey.label
        alerts = alerts.where(f.col("survey") == label)
        there = flat_types(dict(alerts.dtypes))
        own = {f"{label}.{n}": c.type for n, c in self.job.survey.columns.alerts.items()}
        if own.keys() <= there.keys():
            return alerts
        kept = [name for name in there if name.startswith(f"{label}.")]
        fields = [f.col(name).alias(name.removeprefix(f"{label}.")) for name in kept]
        fields += [
            f.lit(None).cast(kind).alias(name.removeprefix(f"{label}."))
            for name, kind in own.items()
            if name not in there
        ]
        return alerts.withColumn(label, f.struct(*fields))


def selections_of(job: ResolvedJob) -> list[ChannelFilter]:
    """Return what each channel asks of T0, with its star catalogue opened."""
    made = []
    for step in job.filters:
        catalog = None if step.gaia is None else job.catalogs[step.gaia]
        stars = None
        if catalog is not None and catalog.file is not None:
            stars = StarCatalog.open(catalog.name, star_files(catalog))
        made.append(channel_filter(job, step, stars))
    return made


def channel_filter(
    job: ResolvedJob, step: FilterStep, stars: StarCatalog | None = None
) -> ChannelFilter:
    """Return what one channel asks of T0; `stars` is the catalogue of its Gaia veto."""
    return ChannelFilter(
        step.channel,
        step.filter,
        frozenset(job.channels[step.channel].programids),
        step.on_stock_match,
        step.history,
        stars,
        job.calibration if step.photometry == "calibrated" else None,
    )


def record_calibration(*contexts: Context) -> None:
    """Say what the release of each run would do to the points there are, and keep its rules.

    Parameters
    ----------
    *contexts : Context
        Runs that read the same versions of the archive.
    """
    releases = {c.job.calibration.content_hash: c.job.calibration for c in contexts}
    if not any(release.rules for release in releases.values()):
        return
    first = contexts[0]
    files, spark = first.files("datapoints"), first.lake.spark
    examined = examine(spark, files, [*releases.values()], first.as_of)
    found = dict(zip(releases, examined, strict=True))
    table = TABLES["calibrations"]
    rows = []
    for context in contexts:
        release = context.job.calibration
        if release.rules:
            _note_calibration(context, found[release.content_hash])
            rows += [row | {"run_id": context.run_id} for row in release.rows()]
    kept = {(row["content_hash"], row["rule"]): row for row in reversed(rows)}
    first.commit(table, pa.Table.from_pylist([*kept.values()], arrow_schema(table)))
    for context in contexts[1:]:
        if context.job.calibration.rules and table.name in first.outputs:
            context.outputs[table.name] = first.outputs[table.name]


def _note_calibration(context: Context, found: Examined) -> None:
    """Note what a run's release would do, and print what to look at."""
    release = context.job.calibration
    if context.dry:
        for rule in release.rules:
            n = found.counts[rule.number]
            context.out(f"calibration: {rule} acts on {n} of {found.points} points")
    for line in found.warnings:
        context.out(f"warning: {line}")
    context.counts.calibration = {
        "release": release.name,
        "content_hash": release.content_hash,
        "points": found.points,
        "rules": [[number, n] for number, n in found.counts.items()],
        "warnings": list(found.warnings),
    }


def own_types(context: Context) -> dict[str, str]:
    """Return the columns that the survey declares for its points and a unit reads, with types.

    They have the types that the lake has, where it has them.
    """
    survey = context.job.survey
    types: dict[str, str] = {n: column.type for n, column in survey.columns.points.items()}
    there = struct_columns(context.lake.root, "datapoints", context.versions.datapoints)
    types |= {field.name: field.type for field in there.get(survey.label, ())}
    read = {name for step in context.job.units for name in runner.own_fields(step.unit)}
    return {name: types[name] for name in sorted(read)}


def fit_units(context: Context, states: RunStates, traces: dict[str, Trace]) -> Results:
    """T2: run every unit on the states that want it and lack a result.

    Returns
    -------
    dict of str to Computed
        Results by the entry's name: one row per state; of a dry run, the results that are there.
    """
    done: Results = {}
    if not context.job.units:
        return done
    headers = _headers(context, states.frame())
    for step in context.job.units:
        done[step.name] = _run_unit(context, step, states, headers, traces[step.name], done)
    return done


def _headers(context: Context, states: DataFrame) -> DataFrame | None:
    """Return what the newest table of an object says of it, by state; None where no unit asks."""
    if not any(step.unit.reads_header for step in context.job.units):
        return None
    said = context.alerts().where(f.col("own").isNotNull()).select("stock", "jd", "alert_id", "own")
    known = states.select("state_id", "stock", "until_jd").distinct()
    seen = known.join(said, "stock").where(f.col("jd") <= f.col("until_jd"))
    newest = f.max_by("own", f.struct("jd", "alert_id"))
    return context.stage("headers", seen.groupBy("state_id").agg(newest.alias("header")))


def _run_unit(
    context: Context,
    step: UnitStep,
    states: RunStates,
    headers: DataFrame | None,
    trace: Trace,
    done: Results,
) -> Computed:
    lake = context.lake
    table = runner.unit_table(step.name, step.columns)
    if not context.dry:
        lake.ensure(table)
    mine = states.frame().where(f.col("channel").isin(*step.channels)).select("state_id").distinct()
    rows = _wanted(context, step, mine, states, headers, done)
    has_subjects = runner.has_subjects(step.unit)
    keys = rows.select("state_id", "input_hash")
    one = ("trace_id", trace.trace_id, trace.trace_id)

    def lacking() -> DataFrame:
        """Return the rows that have no result by now."""
        if not lake.version(table.name):
            return rows
        return runner.stale(rows, lake.between(table, runner.PRESENT, *one), trace.trace_id)

    def share() -> None:
        """Give states the results of their subjects that other states have."""
        there = lake.between(table, table.names, *one)
        name = f"shared_{step.name}"
        found = context.stage(name, runner.shared(rows, there, trace.trace_id))
        if not found.isEmpty():
            context.commit(table, found, runner.REPLACEABLE)

    todo = lacking()
    if has_subjects and not context.dry and lake.version(table.name) and not todo.isEmpty():
        share()
        todo = lacking()
    if context.dry and has_subjects and lake.version(table.name):
        there = lake.between(table, ["subject_id", "input_hash"], *one)
        todo = todo.join(there, ["subject_id", "input_hash"], "left_anti")
    if context.dry and step.needs:
        # What a unit is tied to and has no result yet will have one that nobody has read.
        untied = functools.reduce(
            operator.or_, (f.col(f"tie_{name}").isNull() for name in step.needs)
        )
        todo = todo.unionByName(rows.where(untied), allowMissingColumns=True)
        todo = todo.dropDuplicates(["state_id"])
    n_wanted = mine.count()
    if has_subjects:
        n_todo = todo.select("subject_id", "input_hash").distinct().count()
    else:
        n_todo = n_wanted if todo is rows else todo.count()
    counts: dict[str, Any] = {
        "wanted": n_wanted,
        "present": n_wanted - n_todo,
        "computed": n_todo,
    }
    context.counts.t2[step.name] = counts
    context.out(
        f"T2: {step.name}: {n_wanted} states wanted, {n_wanted - n_todo} present, "
        f"{n_todo} to compute"
    )
    if context.dry:
        there = lake.between(table, table.names, *one)
        return Computed(step, there.join(keys, ["state_id", "input_hash"]), ())

    started = time.monotonic()
    if n_todo and not states.are_staged:
        # Of a subject any of its states may be taken.
        states.stage(todo.select("state_id").toArrow()["state_id"].combine_chunks())
    curves = states.light_curves()
    if has_subjects:

        def first() -> DataFrame:
            """Return one of the states of each subject that lacks a result."""
            return runner.one_each(lacking())

        parts = _compute(context, step, table, first, curves, n_todo, trace) if n_todo else {}
        if n_todo and sum(parts.values()) < n_wanted:
            share()
    else:
        parts = _compute(context, step, table, lacking, curves, n_todo, trace) if n_todo else {}
    counts["seconds"] = round(time.monotonic() - started, 3)
    if not parts or sum(parts.values()) < n_wanted:
        there = lake.between(table, table.names, *one)
        name = f"results_{step.name}"
        results = context.stage(name, there.join(keys, ["state_id", "input_hash"]))
        files = [str(path) for path in Path(context.folder, name).glob("*.parquet")]
    else:
        files = [*parts]
        results = lake.spark.read.schema(table.schema()).parquet(*files)
    counts |= outcomes(files)
    if bad := failures(counts):
        context.out(f"T2: {step.name}: {bad}")
    if graded := qualities(counts):
        context.out(f"T2: {step.name}: {graded}")
    return Computed(step, results, files)


def _wanted(
    context: Context,
    step: UnitStep,
    mine: DataFrame,
    states: RunStates,
    headers: DataFrame | None,
    done: Results,
) -> DataFrame:
    """Return what a unit is to work on: states, with the results that it is tied to."""
    ties = {name: (done[name].rows, done[name].step.columns) for name in step.needs}
    points = [f"lc_{name}" for name in runner.hashed_fields(step.unit)]
    if not points:
        return runner.wanted(mine, ties)
    # The light curves come for what the unit reads beside them, and go again.
    ids = states.rows.filter(pc.is_in(states.rows["channel"], value_set=pa.array(step.channels)))
    states.stage(ids["state_id"].combine_chunks())
    curves = states.light_curves()
    rows = mine.join(curves.select("state_id", "stock", "name", *points), "state_id")
    if step.unit.reads_header and headers is not None:
        header = f.struct("header").alias("tie__header")
        rows = rows.join(headers.select("state_id", header), "state_id", "left")
    rows = runner.wanted(rows, ties, step.unit).drop("stock", "name", *points)
    return context.stage(f"wanted_{step.name}", rows)


def _compute(
    context: Context,
    step: UnitStep,
    table: Table,
    lacking: Callable[[], DataFrame],
    curves: DataFrame,
    n_todo: int,
    trace: Trace,
) -> dict[str, int]:
    """Run a unit on what lacks a result, a share at a time, each committed: a kill loses one.

    Returns
    -------
    dict of str to int
        Files of results, and the rows of each: of those that were added as they are.
    """
    place = f.pmod(f.xxhash64("state_id"), f.lit(_PLACES))
    if note := step.unit.prepare():
        context.out(f"T2: {step.name}: {note}")
    # Batch engines take less than a millisecond for a state: a share costs more than it saves.
    first = FIRST_CHUNK * (4 if step.unit.states_per_task() >= 1000 else 1)
    size, begin = min(n_todo, first), 0
    files: dict[str, int] = {}
    while begin < _PLACES:
        end = min(_PLACES, begin + math.ceil(_PLACES * size / n_todo))
        started = time.monotonic()
        # The version goes first: what is written after it may be looked for in vain.
        since = context.lake.version(table.name)
        todo = lacking()
        mine = todo if end - begin == _PLACES else todo.where((place >= begin) & (place < end))
        folder = Path(context.lake.path(table.name))
        with progress(context.lake.spark, f"t2_{step.name}", context.out):
            parts = runner.compute(
                mine, curves, step.unit, trace.trace_id, size, folder, context.run_id,
                step.time_limit,
            )  # fmt: skip
        if parts:
            # A result that was an exception is tried again, some times; any other stays as it is.
            again = any(part.most["attempts"] > 1 for part in parts)
            kept = context.insert(table, parts, None if again else since, runner.REPLACEABLE)
            files |= {str(folder / part.name): part.rows for part in parts if kept}
        spent = max(time.monotonic() - started, 1e-3)
        if end < _PLACES:
            left = (_PLACES - end) / (end - begin) * spent
            context.out(
                f"T2: {step.name}: {end / _PLACES:.0%} of {n_todo} committed, {left:.0f} s left"
            )
            size = max(first, int(size * CHUNK_SECONDS / spent))
        begin = end
    return files
