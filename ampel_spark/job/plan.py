"""The plan of a run, without Spark: what would be read, judged and computed, on which versions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ampel_spark.archive.files import find_files
from ampel_spark.archive.readers import name_patterns

if TYPE_CHECKING:
    from ampel_spark.job.model import ResolvedJob

__all__ = ["plan"]


def plan(job: ResolvedJob, lake: Path, until: float | None) -> Iterator[str]:
    """Yield the lines of ``--dry-run``.

    Parameters
    ----------
    job : ResolvedJob
    lake : Path
        Need not exist.
    until : float or None
        Time that bounds the run, JD.
    """
    import yaml

    from ampel_spark.t0.selection import Selection, cuts_off
    from ampel_spark.t2.trace import trace_of

    yield f"job {job.name} ({job.file}), sha256 {job.hash[:12]}"
    yield "resolved:"
    yield from (
        "  " + line
        for line in yaml.safe_dump(json.loads(job.canonical), sort_keys=False).splitlines()
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
    if job.archive:
        files = find_files(job.archive, name_patterns(job.survey))
        known = _known(lake)
        new = [p for p in files if str(p) not in known]
        yield (
            f"  archive: {len(files)} files, {len(new)} of them new by their path, "
            f"{sum(p.stat().st_size for p in new) / 1e6:.1f} MB"
        )
    if not job.archive and job.simulation is None:
        yield "  archive: nothing is read in, the lake as it is"
    if until is not None:
        yield f"  as of JD {until:.5f}: later alerts do not count"
    for note in job.notes:
        yield f"  {note}"
    for step in job.filters:
        access = frozenset(job.channels[step.channel].programids)
        selection = Selection(step.channel, step.filter, access, step.on_stock_match, step.history)
        cuts = ", ".join(dict.fromkeys(cut.name for cut in step.filter.cuts()))
        yield (
            f"  T0: channel {step.channel}: {step.name} on history {step.history}, "
            f"on_stock_match {step.on_stock_match}: {cuts or 'no cut'}"
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


def _versions(lake: Path) -> dict[str, int]:
    from deltalake import DeltaTable

    tables = sorted(p.parent for p in lake.glob("*/_delta_log")) if lake.is_dir() else []
    return {p.name: int(DeltaTable(str(p)).version()) for p in tables}


def _known(lake: Path) -> set[str]:
    from ampel_spark.lake.reading import read

    if not (lake / "archive_files" / "_delta_log").is_dir():
        return set()
    return set(read(lake, "archive_files", ["path"])["path"].to_pylist())
