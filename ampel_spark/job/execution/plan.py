"""The plan of a run, without Spark: what would be read, judged and computed, on which versions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ampel_spark.archive.reading.files import find_files
from ampel_spark.archive.reading.readers import name_patterns
from ampel_spark.document import written
from ampel_spark.job.configuration.model import ResolvedJob
from ampel_spark.job.execution.inputs import Inputs
from ampel_spark.job.execution.tiers import channel_filter
from ampel_spark.lake.log import newest_version
from ampel_spark.lake.reading import read
from ampel_spark.lake.runs import Run
from ampel_spark.settings import conf_dir
from ampel_spark.t0.selection import cuts_off
from ampel_spark.t2.trace import trace_of

__all__ = ["estimate", "plan"]


def plan(job: ResolvedJob, lake: Path, inputs: Inputs) -> Iterator[str]:
    """Yield the lines of ``--dry-run``.

    Parameters
    ----------
    job : ResolvedJob
    lake : Path
        Need not exist.
    inputs : Inputs
        What it reads of the archive.
    """
    yield f"job {job.name} ({job.file}), sha256 {job.hash[:12]}"
    yield "resolved:"
    yield from (f"  {line}" for line in written(json.loads(job.written)).splitlines())
    yield "versions:"
    pins = _versions(lake)
    yield from (f"  {name}: version {version}" for name, version in pins.items())
    if not pins:
        yield f"  {lake} holds no tables yet"
    yield "plan:"
    steps = (
        _outside(job),
        _simulation(job),
        _archive(job, lake, inputs),
        _inputs(inputs),
        job.notes,
        _t0(job),
        _t1(job),
        _calibration(job, lake),
        _t2(job),
        (f"T3: {s.name}: channel {s.channel}, {s.select.text}" for s in job.selections),
        (f"T3: {s.name}: unit {s.spec} of {s.of}" for s in job.samples),
    )
    yield from (f"  {line}" for lines in steps for line in lines)


def _outside(job: ResolvedJob) -> Iterator[str]:
    """Yield what the job names that lies neither in its folder nor in the project."""
    files: list[Path] = [Path(c.file) for c in job.catalogs.values() if c.file is not None]
    if "/" in job.calibration_source or job.calibration_source.endswith((".yml", ".yaml")):
        files.append(Path(job.calibration_source))
    files += [file for step in job.units for file in step.unit.files()]
    files += [file for page in job.samples for file in page.unit.files()]
    specs = [judge.name for judge in job.filters]
    specs += [step.spec for step in job.units] + [page.spec for page in job.samples]
    for where in (spec.rpartition(":")[0] for spec in specs):
        files += [Path(where)] if where.endswith(".py") else []
    base = job.file.parent
    own = (base, Path(__file__).parents[3], conf_dir().parent)
    for file in dict.fromkeys((base / file).resolve() for file in files):
        if not any(file.is_relative_to(folder.resolve()) for folder in own):
            yield f"reads {file}, which lies outside of the job's folder"


def _simulation(job: ResolvedJob) -> Iterator[str]:
    size, folder = job.simulation, job.simulated_in
    if size is None or folder is None:
        return
    there = "is there" if (folder / "simulation.json").is_file() else "to be made"
    what = f"{size.alerts} alerts" if size.alerts is not None else f"{size.objects} objects"
    yield f"archive: simulated, {what} in {size.nights} nights, {folder} ({there})"


def _archive(job: ResolvedJob, lake: Path, inputs: Inputs) -> Iterator[str]:
    if inputs.is_past:
        yield "archive: nothing is read in: the versions are given"
    elif job.archive:
        files = find_files(job.archive, name_patterns(job.survey))
        known = _known(lake)
        new = [p for p in files if str(p) not in known]
        yield (
            f"archive: {len(files)} files, {len(new)} of them new by their path, "
            f"{sum(p.stat().st_size for p in new) / 1e6:.1f} MB"
        )
    elif job.simulation is None:
        yield "archive: nothing is read in, the lake as it is"


def _inputs(inputs: Inputs) -> Iterator[str]:
    if inputs.parent is not None:
        yield f"inputs of run {inputs.parent}"
    if inputs.chunk is not None:
        yield f"the lake as it stood at version {inputs.chunk} of archive_files"
    if inputs.versions is not None:
        versions = dataclasses.asdict(inputs.versions).items()
        yield f"reads {', '.join(f'{name} v{version}' for name, version in versions)}"
    if inputs.until is not None:
        yield f"as of JD {inputs.until:.5f}: later alerts do not count"


def _t0(job: ResolvedJob) -> Iterator[str]:
    for step in job.filters:
        selection = channel_filter(job, step)
        cuts = ", ".join(dict.fromkeys(cut.name for cut in selection.cuts()))
        yield (
            f"T0: channel {step.channel}: {step.name} on history {step.history}, "
            f"on_stock_match {step.on_stock_match}, photometry {step.photometry}: "
            f"{cuts or 'no cut'}"
        )
        yield from (
            f"T0: off: {line}"
            for line in cuts_off(selection)
            if step.gaia is None or "star catalogue" not in line
        )


def _t1(job: ResolvedJob) -> Iterator[str]:
    points = ", ".join(job.states.points)
    yield f"T1: states: {job.states.mode} of {points}, calibration {job.calibration.name}"


def _t2(job: ResolvedJob) -> Iterator[str]:
    # a catalogue of an archive that is still to be made has no content to hash yet
    made = job.simulated_in is None or job.simulated_in.is_dir()
    for step in job.units:
        missing = not made and str(job.simulated_in) in step.unit.model_dump_json()
        trace = (
            "trace not known before its files are there"
            if missing
            else f"trace {trace_of(step.unit, step.spec).trace_id[:12]}"
        )
        ties = f", tied to {', '.join(step.needs)}" if step.needs else ""
        yield f"T2: {step.name}: {step.spec} for {', '.join(step.channels)}{ties}, {trace}"


def estimate(units: Mapping[str, Mapping[str, Any]], runs: Sequence[Run]) -> Iterator[str]:
    """Yield how long the units of a run will take, from what earlier runs took.

    Parameters
    ----------
    units : mapping
        ``computed`` by the name of the unit: results to compute.
    runs : sequence of Run
        The newest first.
    """
    total, unknown = 0.0, []
    for name, counts in units.items():
        if not counts["computed"]:
            continue
        last = next(
            (done for run in runs if (done := run.counts.t2.get(name)) and done.get("computed")),
            None,
        )
        if last is None or "seconds" not in last:
            unknown.append(name)
            continue
        seconds = counts["computed"] * last["seconds"] / last["computed"]
        total += seconds
        yield (
            f"T2: {name}: about {seconds:.0f} s for {counts['computed']} results, at "
            f"{1000 * last['seconds'] / last['computed']:.2f} ms each ({last['computed']} took "
            f"{last['seconds']:.0f} s)"
        )
    if unknown:
        yield f"T2: no run has timed {', '.join(unknown)} yet"
    yield f"T2: about {total:.0f} s in all" + (", as far as that is known" if unknown else "")


def _calibration(job: ResolvedJob, lake: Path) -> Iterator[str]:
    """Yield which release it is; what it would do to points is counted with the tiers."""
    release = job.calibration
    if not release.rules:
        return
    yield f"calibration {release.name}: {len(release.rules)} rules, {release.content_hash[:12]}"
    if not (lake / "datapoints" / "_delta_log").is_dir():
        yield "calibration: there are no datapoints yet to hold its rules against"


def _versions(lake: Path) -> dict[str, int]:
    tables = sorted(p.parent for p in lake.glob("*/_delta_log")) if lake.is_dir() else []
    return {p.name: version for p in tables if (version := newest_version(p)) is not None}


def _known(lake: Path) -> set[str]:
    if not (lake / "archive_files" / "_delta_log").is_dir():
        return set()
    return set(read(lake, "archive_files", ["path"])["path"].to_pylist())
