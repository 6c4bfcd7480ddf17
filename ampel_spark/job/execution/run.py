"""A job, run: archive, T0, T1, T2, T3, report, and the record of it all.

Every tier reads versions that are pinned at the start and commits what it made; a run that was
killed leaves results that the next one finds again, and a record that says it never ended.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ampel_spark.archive.committing.chunks import Pinned
from ampel_spark.archive.committing.ingest import Ingested, ingest
from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.archive.truth import TRUTH, insert_truth
from ampel_spark.classes import with_line
from ampel_spark.errors import AmpelSparkError, ConfigError
from ampel_spark.job.configuration.catalogs import catalog_inputs
from ampel_spark.job.configuration.model import ResolvedJob, SampleStep, SimulationEntry
from ampel_spark.job.execution.assembling import make_states
from ampel_spark.job.execution.deciding import decide
from ampel_spark.job.execution.inputs import Inputs
from ampel_spark.job.execution.plan import estimate, plan
from ampel_spark.job.execution.report import column_meanings, light_curves_of, report_content
from ampel_spark.job.execution.samples import run_samples
from ampel_spark.job.execution.selecting import candidates
from ampel_spark.job.execution.tiers import (
    Context,
    Results,
    fit_units,
    record_calibration,
    selections_of,
)
from ampel_spark.lake.decisions import DecisionRef
from ampel_spark.lake.known import check_known
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.lost import explained, explanation
from ampel_spark.lake.marker import MARKER
from ampel_spark.lake.pins import pin
from ampel_spark.lake.runs import (
    FAILED,
    GOOD,
    PARTIAL,
    CatalogInput,
    Counts,
    Run,
    RunInputs,
    Traces,
    UnitTrace,
    new_run_id,
    record,
    runs,
    utc_now,
)
from ampel_spark.lake.software import git_commit, software
from ampel_spark.lake.tables import TABLES
from ampel_spark.session import get_session
from ampel_spark.simulate import Simulation, simulate, simulate_rubin
from ampel_spark.t0.selection import ChannelFilter
from ampel_spark.t0.verdict import RAISED
from ampel_spark.t1 import known
from ampel_spark.t2.trace import Trace, trace_of
from ampel_spark.t2.unit import EXCEPTION
from ampel_spark.t3.content import SampleOutput
from ampel_spark.t3.export import export
from ampel_spark.t3.registry import t3_trace

__all__ = [
    "Outcome",
    "begun",
    "forecast",
    "inputs_read",
    "open_lake",
    "outcome_of",
    "run_job",
    "simulate_archive",
    "traces_of",
]

# Seconds between lines of progress, and alerts up to which one process simulates.
_TELL, _SMALL = 5.0, 20_000

#: Exit codes of a run.
DONE, OBJECTS_FAILED = 0, 3


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    run_id : str
    status : str
        "good" or "partial"; a run that fails raises.
    counts : Counts
        What went in and came out of every tier.
    """

    run_id: str
    status: str
    counts: Counts

    @property
    def code(self) -> int:
        """Exit code: 0, or 3 where some object ended in an exception."""
        return DONE if self.status == GOOD else OBJECTS_FAILED


@explained()
def run_job(
    job: ResolvedJob,
    lake: Path,
    *,
    inputs: Inputs | None = None,
    report: Path | None = None,
    out: Callable[[str], None] = print,
) -> Outcome:
    """Run a job on a lake.

    Parameters
    ----------
    job : ResolvedJob
    lake : Path
        Made where it does not exist.
    inputs : Inputs, optional
        What to read of the archive; default all of it, the job's own archive read in first.
    report : Path, optional
        Where to write the HTML report; default ``reports/<run id>.html`` in the lake.
    out : callable
        Takes lines for the user.

    Raises
    ------
    ConfigError
        If the lake has not got the version that is to be read.
    AmpelSparkError
        If the job failed; the run's record says so too.
    """
    inputs = inputs or Inputs()
    inputs.check(lake)
    started, clock = utc_now(), time.monotonic()
    for note in job.notes:
        out(f"plan: {note}")
    if (Path(lake) / MARKER).is_file():
        check_known(lake)
    archive = [*job.archive]
    with ThreadPoolExecutor(1) as pool:
        # Spark takes its time to start: meanwhile the archive is simulated, and code is hashed.
        opening = pool.submit(open_lake, job.name, lake)
        if job.simulation is not None:
            # What lies beside the nights, catalogues and truth, is no part of the archive.
            archive.append(str(simulate_archive(job, out) / "*.tar.gz"))
            # Units of a simulated archive's catalogues can be built now that these are there.
            there = job.varied()
            job = replace(job, units=there.units, catalogs=there.catalogs)
        selections, traces = selections_of(job), traces_of(job)
        place = opening.result()
    run = begun(job, started, inputs.parent, selections, traces)
    run_id = run.run_id
    counts, outputs, read = Counts(), dict[str, int](), RunInputs()
    decisions: dict[str, DecisionRef] = {}
    # A run is alive while it holds its staging, from before its first record to after its last.
    with place.staging(run_id) as folder:
        record(place, run)
        out(f"run {run_id} on {place.root}")
        try:
            if archive and not inputs.is_past:
                counts.archive = _archive(place, archive, job.survey, run_id, out)
            if job.simulated_in is not None:
                outputs[TRUTH] = insert_truth(place, job.simulated_in, run_id)
            versions = inputs.pin(place.root)
            pin(place, run_id, asdict(versions))
            read = inputs_read(job, versions, inputs.until, selections)
            context = Context(
                place, job, run_id, versions, folder, inputs.until, out, False, counts, outputs,
                decisions, reaches_out=inputs.parent is None and inputs.versions is None,
            )  # fmt: skip
            record_calibration(context)
            found, results = _tiers(context, selections, traces)
            with _timed(counts, "samples"):
                made = run_samples(context, run, found, results)
            written, problems = _export(context, run, found)
            problems += [f"{m.name} of t3 failed" for m in made if m.failure]
            counts.seconds["total"] = round(time.monotonic() - clock, 2)
            end = functools.partial(
                run.finished, inputs=read, outputs=outputs, counts=counts, decisions=decisions
            )
            run = end(*outcome_of(counts, problems))
            if job.report is not None:
                try:
                    path = _report(context, run, found, results, written, made, report)
                    written["report"] = [path]
                except Exception as error:  # what is in the lake stays good
                    problems.append(_failed(context, "the report", error))
                    run = end(*outcome_of(counts, problems))
        except BaseException as error:
            # The record says how it ended, whatever ended it; the error goes on to the user.
            known = error if isinstance(error, AmpelSparkError) else explanation(error)
            text = f"{type(error).__name__}: {error}" if known is None else str(known)
            ended = run.finished(
                FAILED, text[:2000], inputs=read, outputs=outputs, counts=counts,
                decisions=decisions,
            )  # fmt: skip
            record(place, ended)
            raise
        record(place, run)
    for name, table in found.items():
        _show(name, table, out)
    for what, paths in written.items():
        for path in paths:
            out(f"{what}: {path}")
    out(f"lake: {place.root}")
    out(f"run {run_id}: {run.status} after {time.monotonic() - clock:.0f} s")
    return Outcome(run_id, run.status, counts)


def begun(
    job: ResolvedJob,
    started: datetime.datetime,
    parent: str | None,
    selections: Sequence[ChannelFilter],
    traces: Mapping[str, Trace],
) -> Run:
    """Return the record of a run that begins.

    Parameters
    ----------
    job : ResolvedJob
    started : datetime
        UTC.
    parent : str or None
        The run that it runs again.
    selections : sequence of ChannelFilter
        What its channels ask of T0.
    traces : mapping of str to Trace
        The traces of its units.
    """
    return Run(
        new_run_id(job.name, started),
        job.name,
        job.hash,
        job.text,
        str(job.file),
        job.resolved,
        job.calibration.name,
        started,
        parent_run_id=parent,
        software=software(),
        git_commit=git_commit(),
        traces=_traces(job, selections, traces),
    )


def outcome_of(counts: Counts, problems: Sequence[str] = ()) -> tuple[str, str | None]:
    """Return the status of a run that went through, and what is to say of it."""
    failed = sum(tier["statuses"].get(str(EXCEPTION), 0) for tier in counts.t2.values())
    unjudged = sum(
        n for tier in counts.t0.values() for name, n in tier["cuts"] if name.startswith(RAISED)
    )
    said = [f"{failed} results are exceptions"] if failed else []
    said += [f"filters raised exceptions for {unjudged} alerts"] if unjudged else []
    said += problems
    return (PARTIAL, ", ".join(said)) if said else (GOOD, None)


@explained()
def forecast(
    job: ResolvedJob,
    lake: Path,
    *,
    inputs: Inputs | None = None,
    out: Callable[[str], None] = print,
) -> None:
    """Print the plan of a job: what it would read, judge, find present and compute anew.

    Nothing is written to the lake. What a new archive would add is not in the counts.

    Parameters
    ----------
    job, lake, inputs, out
        As for `run_job`.

    Raises
    ------
    ConfigError
        If the lake has not got the version that is to be read.
    """
    inputs = inputs or Inputs()
    inputs.check(lake)
    for line in plan(job, lake, inputs):
        out(line)
    if not (lake / "archive_files" / "_delta_log").is_dir():
        return
    place = Lake(get_session(f"ampel_spark {job.name}"), lake)
    versions = inputs.pin(place.root)
    if job.simulated_in is not None and not job.simulated_in.is_dir():
        out("counts: not known before the simulated archive is made")
        return
    selections, traces = selections_of(job), traces_of(job)
    out("counts, of what the lake holds:")
    with tempfile.TemporaryDirectory(prefix="ampel_spark-") as folder:
        context = Context(
            place, job, "dry-run", versions, folder, inputs.until, lambda line: out(f"  {line}"),
            dry=True,
        )  # fmt: skip
        record_calibration(context)
        fit_units(context, make_states(context, decide(context, selections)), traces)
    for line in estimate(context.counts.t2, runs(lake)):
        out(f"  {line}")


def _tiers(
    context: Context, selections: list[ChannelFilter], traces: dict[str, Trace]
) -> tuple[dict[str, Any], Results]:
    """Go through the tiers, and time each."""
    counts = context.counts
    with _timed(counts, "t0"):
        accepted = decide(context, selections)
    with _timed(counts, "t1"):
        states = make_states(context, accepted)
    with _timed(counts, "t2"):
        results = fit_units(context, states, traces)
    with _timed(counts, "t3"):
        found = candidates(context, states, results, accepted)
    return found, results


def inputs_read(
    job: ResolvedJob, versions: Pinned, until: float | None, selections: Sequence[ChannelFilter]
) -> RunInputs:
    """Return what the record says of the inputs."""
    catalogs = catalog_inputs(job.catalogs)
    for s in selections:
        if s.gaia is not None:
            known = catalogs.get(s.gaia.name, CatalogInput())
            catalogs[s.gaia.name] = replace(known, stars=s.gaia.content_hash)
    release = {job.calibration.name: job.calibration.content_hash}
    return RunInputs(asdict(versions), until, catalogs, release)


def open_lake(name: str, lake: Path) -> Lake:
    """Start Spark and open the lake, with its journal of runs."""
    place = Lake(get_session(f"ampel_spark {name}"), lake)
    place.ensure(TABLES["runs"])
    return place


def simulate_archive(job: ResolvedJob, out: Callable[[str], None]) -> Path:
    """Make the job's simulated archive where it is not there yet, and return its folder."""
    simulation, folder = job.simulation, job.simulated_in
    if simulation is None or folder is None:
        raise ConfigError(f"job {job.name} has no simulated archive")
    last = time.monotonic()

    def progress(step: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > _TELL:
            last = time.monotonic()
            out(f"simulate: {step}: {done} of {total}")

    made = _simulated(job.survey.label, simulation, folder, progress)
    out(
        f"simulate: {made.alerts} alerts of {len(made.nights)} nights "
        f"{'made' if made.fresh else 'are there'}: {folder}"
    )
    return folder


def _simulated(
    survey: str,
    simulation: SimulationEntry,
    folder: Path,
    progress: Callable[[str, int, int], None],
) -> Simulation:
    if survey == "lsst":
        return simulate_rubin(
            folder,
            alerts=simulation.alerts or 0,
            nights=simulation.nights,
            first_night=simulation.first_night.isoformat(),
            seed=simulation.seed,
            progress=progress,
        )
    size = (
        {"alerts": simulation.alerts}
        if simulation.objects is None
        else {"objects": simulation.objects}
    )
    return simulate(
        folder,
        **size,
        nights=simulation.nights,
        first_night=simulation.first_night.isoformat(),
        seed=simulation.seed,
        # A second process costs more to start than a small archive to make.
        workers=1
        if simulation.alerts is not None and simulation.alerts < _SMALL
        else os.cpu_count() or 1,
        cutouts=simulation.cutouts,
        progress=progress,
    )


def _archive(
    lake: Lake, paths: list[str], survey: Survey, run_id: str, out: Callable[[str], None]
) -> dict[str, int]:
    done: Ingested = ingest(lake.spark, lake, paths, survey, run_id, out)
    return {
        k: getattr(done, k)
        for k in ("files", "known", "packets", "stored", "duplicate", "quarantined", "broken")
    }


def traces_of(job: ResolvedJob) -> dict[str, Trace]:
    """Return the traces of the units of a job, by name."""
    return {step.name: trace_of(step.unit, step.spec) for step in job.units}


def _traces(
    job: ResolvedJob, selections: Sequence[ChannelFilter], traces: Mapping[str, Trace]
) -> Traces:
    needs = {step.name: tuple(step.needs) for step in job.units}
    return Traces(
        {s.channel: s.trace_id for s in selections},
        {
            name: UnitTrace(trace.trace_id, trace.unit, needs[name], trace.content)
            for name, trace in traces.items()
        },
        known.trace(),
        {s.name: _t3_trace(s) for s in job.samples},
    )


def _t3_trace(step: SampleStep) -> UnitTrace:
    trace_id, content = t3_trace(step.unit, step.spec)
    return UnitTrace(trace_id, step.spec, None, content)


@contextlib.contextmanager
def _timed(counts: Counts, name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    counts.seconds[name] = round(time.monotonic() - started, 2)


def _failed(context: Context, what: str, error: Exception) -> str:
    """Print that something could not be made, which costs nothing else, and return it in words."""
    text = str(error) if isinstance(error, AmpelSparkError) else with_line(error)
    context.out(f"warning: {what} failed: {text}")
    return f"{what} failed"


def _export(
    context: Context, run: Run, found: dict[str, Any]
) -> tuple[dict[str, list[Path]], list[str]]:
    """Write what the selections export; return the files under ``export``, and what failed."""
    written: list[Path] = []
    problems: list[str] = []
    job, lake = context.job, context.lake
    for selection in job.selections:
        for kind in selection.export:
            path = lake.root / "exports" / run.run_id / f"{selection.name}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            units, meanings = column_meanings(job, selection)
            table = found[selection.name]
            states = table["state_id"].to_pylist()
            curves = functools.partial(light_curves_of, context, states)
            about: dict[str, Any] = {"units": units, "descriptions": meanings, "curves": curves}
            try:
                written.append(export(table, path, kind, run_id=run.run_id, **about))
            except Exception as error:  # the candidates are in the lake, whatever a format takes
                problems.append(_failed(context, f"export {path.name}", error))
    return {"export": written}, problems


def _report(
    context: Context,
    run: Run,
    found: dict[str, Any],
    results: Results,
    written: Mapping[str, list[Path]],
    made: Sequence[SampleOutput],
    path: Path | None,
) -> Path:
    from ampel_spark.t3.report import write_report

    path = path or context.lake.root / "reports" / f"{run.run_id}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    context.out("report: drawing")
    write_report(path, report_content(context, run, found, results, written["export"], made))
    latest = path.parent / "latest.html"
    if path.parent == context.lake.root / "reports":
        shutil.copyfile(path, latest)
    return path


def _show(name: str, table: Any, out: Callable[[str], None], rows: int = 15) -> None:
    if len(table) == 0:
        out(f"{name}: no candidates")
        return
    shown = [
        c
        for c in table.column_names
        if c not in ("channel", "stock", "state_id", "selection", "run_id")
    ][:9]
    out(f"{name}: {len(table)} candidates" + (f", the first {rows}:" if len(table) > rows else ":"))
    out(
        table.select(shown)
        .slice(0, rows)
        .to_pandas(integer_object_nulls=True)
        .where(lambda t: t.notna(), float("nan"))  # an absent text too is shown by na_rep
        .to_string(index=False, float_format=_number, na_rep="-")
    )


def _number(value: float) -> str:
    # a JD of five digits would be a matter of years
    return f"{value:.3f}" if 1e5 <= abs(value) < 1e9 else f"{value:.5g}"
