"""The plan of a run, without Spark: what would be read, judged and computed, on which versions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.archive.files import find_files
from ampel_spark.archive.readers import name_patterns

if TYPE_CHECKING:
    from ampel_spark.job.inputs import Inputs
    from ampel_spark.job.model import ResolvedJob

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
    import yaml

    from ampel_spark.t0.selection import ChannelFilter, cuts_off
    from ampel_spark.t2.trace import trace_of

    yield f"job {job.name} ({job.file}), sha256 {job.hash[:12]}"
    yield "resolved:"
    yield from (
        "  " + line
        for line in yaml.safe_dump(json.loads(job.written), sort_keys=False).splitlines()
    )
    yield "versions:"
    pins = _versions(lake)
    yield from (f"  {name}: version {version}" for name, version in pins.items())
    if not pins:
        yield f"  {lake} holds no tables yet"
    yield "plan:"
    if job.simulation is not None:
        there = (
            "is there"
            if job.simulated_in is not None and (job.simulated_in / "simulation.json").is_file()
            else "to be made"
        )
        size = job.simulation
        what = f"{size.alerts} alerts" if size.alerts is not None else f"{size.objects} objects"
        yield f"  archive: simulated, {what} in {size.nights} nights, {job.simulated_in} ({there})"
    if inputs.is_past:
        yield "  archive: nothing is read in: the versions are given"
    elif job.archive:
        files = find_files(job.archive, name_patterns(job.survey))
        known = _known(lake)
        new = [p for p in files if str(p) not in known]
        yield (
            f"  archive: {len(files)} files, {len(new)} of them new by their path, "
            f"{sum(p.stat().st_size for p in new) / 1e6:.1f} MB"
        )
    elif job.simulation is None:
        yield "  archive: nothing is read in, the lake as it is"
    if inputs.parent is not None:
        yield f"  inputs of run {inputs.parent}"
    if inputs.chunk is not None:
        yield f"  the lake as it stood at version {inputs.chunk} of archive_files"
    if inputs.versions is not None:
        versions = dataclasses.asdict(inputs.versions).items()
        yield f"  reads {', '.join(f'{name} v{version}' for name, version in versions)}"
    if inputs.until is not None:
        yield f"  as of JD {inputs.until:.5f}: later alerts do not count"
    for note in job.notes:
        yield f"  {note}"
    for step in job.filters:
        access = frozenset(job.channels[step.channel].programids)
        selection = ChannelFilter(
            step.channel,
            step.filter,
            access,
            step.on_stock_match,
            step.history,
            release=job.calibration if step.photometry == "calibrated" else None,
        )
        cuts = ", ".join(dict.fromkeys(cut.name for cut in selection.cuts()))
        yield (
            f"  T0: channel {step.channel}: {step.name} on history {step.history}, "
            f"on_stock_match {step.on_stock_match}, photometry {step.photometry}: "
            f"{cuts or 'no cut'}"
        )
        yield from (
            f"  T0: off: {line}"
            for line in cuts_off(selection)
            if step.gaia is None or "star catalogue" not in line
        )
    yield (
        f"  T1: states: {job.states.mode} of {', '.join(job.states.points)}, "
        f"calibration {job.calibration.name}"
    )
    yield from (f"  {line}" for line in _calibration(job, lake, inputs))
    for unit in job.units:
        # A catalogue of an archive that is still to be made has no content to hash yet.
        made = job.simulated_in is None or job.simulated_in.is_dir()
        missing = not made and str(job.simulated_in) in unit.unit.model_dump_json()
        trace = (
            "trace not known before its files are there"
            if missing
            else f"trace {trace_of(unit.unit, unit.spec).trace_id[:12]}"
        )
        ties = f", tied to {', '.join(unit.needs)}" if unit.needs else ""
        yield f"  T2: {unit.name}: {unit.spec} for {', '.join(unit.channels)}{ties}, {trace}"
    for chosen in job.selections:
        yield f"  T3: {chosen.name}: channel {chosen.channel}, {chosen.select.text}"


def estimate(
    units: Mapping[str, Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield how long the units of a run will take, from what earlier runs took.

    Parameters
    ----------
    units : mapping
        ``computed`` by the name of the unit: results to compute.
    runs : sequence of mapping
        As `ampel_spark.lake.reading.runs` returns them: the newest first.
    """
    total, unknown = 0.0, []
    for name, counts in units.items():
        if not counts["computed"]:
            continue
        last = next(
            (
                done
                for run in runs
                if (done := run["counts"].get("t2", {}).get(name)) and done.get("computed")
            ),
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


def _calibration(job: ResolvedJob, lake: Path, inputs: Inputs) -> Iterator[str]:
    """Yield what the release would do to the points that the run would read, of all access."""
    import pyarrow.compute as pc

    from ampel_spark.calibration.examine import COLUMNS, examine_batches
    from ampel_spark.lake.reading import read

    release = job.calibration
    if not release.rules:
        return
    yield f"calibration {release.name}: {len(release.rules)} rules, {release.content_hash[:12]}"
    if not (lake / "datapoints" / "_delta_log").is_dir():
        yield "calibration: there are no datapoints yet to hold its rules against"
        return
    version = inputs.pin(lake).datapoints if inputs.is_past else None
    known = None if inputs.until is None else pc.field("first_alert_jd") <= inputs.until
    points = read(lake, "datapoints", COLUMNS, known, version=version)
    found = examine_batches(points.to_batches(), release)
    for rule in release.rules:
        yield f"calibration: {rule} acts on {found.counts[rule.number]} of {found.points} points"
    yield from (f"warning: {line}" for line in found.warnings)


def _versions(lake: Path) -> dict[str, int]:
    from deltalake import DeltaTable

    tables = sorted(p.parent for p in lake.glob("*/_delta_log")) if lake.is_dir() else []
    return {p.name: int(DeltaTable(str(p)).version()) for p in tables}


def _known(lake: Path) -> set[str]:
    from ampel_spark.lake.reading import read

    if not (lake / "archive_files" / "_delta_log").is_dir():
        return set()
    return set(read(lake, "archive_files", ["path"])["path"].to_pylist())
