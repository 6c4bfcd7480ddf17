"""The record of a run: what ran, on what versions, with what outcome; written and read.

`Run` is one row of the table ``runs``. `record` writes it; `runs` and `find_run` read it, without
Spark. What a record of an older lake lacks has a default.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.errors import LakeError, nearest
from ampel_spark.lake.decisions import DecisionRef, references
from ampel_spark.lake.log import commit_hash, metadata_of, newest_version
from ampel_spark.lake.reading import read, table_names
from ampel_spark.lake.tables import TABLES
from ampel_spark.lake.whole import Named, cure, unlike
from ampel_spark.store import place

if TYPE_CHECKING:
    from ampel_spark.lake.lake import Lake

__all__ = [
    "FAILED",
    "GOOD",
    "KILLED",
    "PARTIAL",
    "RUNNING",
    "CatalogInput",
    "Counts",
    "Run",
    "RunInputs",
    "Traces",
    "UnitTrace",
    "catalogs_by_run",
    "find_run",
    "flattened",
    "named_by",
    "new_run_id",
    "preference",
    "record",
    "runs",
    "utc_now",
    "whole",
]

#: Statuses of a run; it is killed where its driver ended without recording it.
RUNNING, GOOD, PARTIAL, FAILED, KILLED = "running", "good", "partial", "failed", "killed"

_CATALOG, _CALIBRATION, _COMMIT, _AS_OF = "catalog ", "calibration ", "commit ", "as_of_jd"


@dataclass(frozen=True)
class CatalogInput:
    """A catalogue that a run read.

    Attributes
    ----------
    lake, version : str and int, or None
        Name in the lake, and version, of a catalogue of the lake.
    file : str or None
        The file, where the catalogue is one.
    hash : str or None
        Hash of its content.
    stars : str or None
        Hash of its content as a catalogue of stars for the Gaia veto.
    """

    lake: str | None = None
    version: int | None = None
    file: str | None = None
    hash: str | None = None
    stars: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what is known of it."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}

    @classmethod
    def from_json(cls, value: Any) -> CatalogInput:
        """Return the catalogue of a record: the oldest ones have the hash of the stars alone."""
        if not isinstance(value, Mapping):
            return cls(stars=value)
        return cls(**{f.name: value.get(f.name) for f in fields(cls)})


@dataclass(frozen=True)
class RunInputs:
    """What a run read.

    Attributes
    ----------
    tables : mapping of str to int
        Versions of the lake's tables, by name.
    as_of_jd : float or None
        Time up to which alerts count, JD; None: all of them.
    catalogs : mapping of str to CatalogInput
        By the name in the job.
    calibrations : mapping of str to str
        Content hashes of calibration releases, by name.
    commits : mapping of str to str
        Hashes of the commits of the versions that the record names, as ``alerts 3``; see
        `ampel_spark.lake.known`.
    """

    tables: Mapping[str, int] = field(default_factory=dict)
    as_of_jd: float | None = None
    catalogs: Mapping[str, CatalogInput] = field(default_factory=dict)
    calibrations: Mapping[str, str] = field(default_factory=dict)
    commits: Mapping[str, str] = field(default_factory=dict)

    @property
    def catalog_hashes(self) -> dict[str, str]:
        """Content hashes of the catalogues, by name, as far as the record has them."""
        return {name: c.hash for name, c in self.catalogs.items() if c.hash is not None}

    def to_json(self) -> dict[str, Any]:
        """Return all as one mapping: ``alerts, as_of_jd, catalog NAME, calibration NAME``."""
        found: dict[str, Any] = dict(self.tables)
        if self.as_of_jd is not None:
            found[_AS_OF] = self.as_of_jd
        found |= {f"{_CATALOG}{name}": c.to_json() for name, c in self.catalogs.items()}
        found |= {f"{_COMMIT}{name}": digest for name, digest in self.commits.items()}
        return found | {f"{_CALIBRATION}{name}": h for name, h in self.calibrations.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunInputs:
        """Return the inputs of what `to_json` gave."""
        catalogs = {name: CatalogInput.from_json(c) for name, c in _under(value, _CATALOG)}
        named = {k: v for k, v in value.items() if " " not in k and k != _AS_OF}
        releases, commits = (dict(_under(value, prefix)) for prefix in (_CALIBRATION, _COMMIT))
        return cls(named, value.get(_AS_OF), catalogs, releases, commits)


@dataclass(frozen=True)
class UnitTrace:
    """The trace of a unit, as a record has it.

    Attributes
    ----------
    trace_id : str or None
    unit : str
        How the job names the unit.
    needs : tuple of str or None
        Units that it is tied to; None where the record does not say it.
    content : mapping
        What went into the trace: ``class, parameters, code, files, libraries``.
    """

    trace_id: str | None
    unit: str = ""
    needs: tuple[str, ...] | None = None
    content: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the trace as one mapping."""
        needs = {} if self.needs is None else {"needs": list(self.needs)}
        return {"trace_id": self.trace_id, "unit": self.unit} | needs | dict(self.content)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> UnitTrace:
        """Return the trace of what `to_json` gave."""
        needs = value.get("needs")
        own = {k: v for k, v in value.items() if k not in ("trace_id", "unit", "needs")}
        named = value.get("unit", "")
        return cls(value.get("trace_id"), named, None if needs is None else tuple(needs), own)


@dataclass(frozen=True)
class Traces:
    """The traces of a run: of T0 by channel, of T1, of T2 and T3 by the unit's name in the job."""

    t0: Mapping[str, str] = field(default_factory=dict)
    t2: Mapping[str, UnitTrace] = field(default_factory=dict)
    t1: str = ""
    t3: Mapping[str, UnitTrace] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the traces as mappings."""
        units, pages = (
            {name: t.to_json() for name, t in tier.items()} for tier in (self.t2, self.t3)
        )
        made = {"t0": dict(self.t0), "t1": self.t1, "t2": units}
        return made | ({"t3": pages} if pages else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Traces:
        """Return the traces of what `to_json` gave."""
        units, pages = (
            {name: UnitTrace.from_json(trace) for name, trace in value.get(tier, {}).items()}
            for tier in ("t2", "t3")
        )
        return cls(value.get("t0", {}), units, value.get("t1", ""), pages)


@dataclass
class Counts:
    """What went into and came out of the tiers of a run; they are filled while it runs.

    Attributes
    ----------
    archive : dict
        ``files, known, packets, stored, duplicate, quarantined, broken`` of what was read in.
    calibration : dict
        ``release, content_hash, points, rules, warnings`` of a release with rules.
    t0 : dict
        By channel: ``alerts, accepted, bypassed, objects, cuts``.
    t1 : dict
        ``states, objects, new``, and the same by channel under ``channels``.
    t2 : dict
        By unit: ``wanted, present, computed, statuses, median_ms, seconds, messages``, and
        ``qualities, doubts`` where it grades its results.
    t3 : dict
        By selection: ``channel, losses, candidates``.
    samples : dict
        By unit of T3: ``of, plots, files, rows, messages, failed, seconds``.
    seconds : dict
        How long each tier took, and ``total`` [s].
    """

    archive: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    t0: dict[str, Any] = field(default_factory=dict)
    t1: dict[str, Any] = field(default_factory=dict)
    t2: dict[str, Any] = field(default_factory=dict)
    t3: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the counts of the tiers that have any."""
        return {f.name: part for f in fields(self) if (part := getattr(self, f.name))}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Counts:
        """Return the counts of what `to_json` gave."""
        return cls(**{f.name: dict(value.get(f.name) or {}) for f in fields(cls)})


@dataclass(frozen=True)
class Run:
    """The record of a run: one row of ``runs``.

    Attributes
    ----------
    run_id : str
    job, job_hash, job_text, job_file : str
        Name of the job, SHA-256 of the resolved job, and the file: its text and its path.
    job_resolved : mapping
        The job with all defaults, as a job file would have it.
    calibration : str
        Name of the calibration release.
    started, ended : datetime
        UTC; `ended` is None while it runs.
    status : str
        ``running``, ``good``, ``partial``, ``failed``, or ``killed``.
    message : str or None
        Why it failed.
    parent_run_id : str or None
        Run that this one reran.
    inputs : RunInputs
    outputs : mapping of str to int
        Versions of the tables that it wrote.
    traces : Traces
    counts : Counts
    decisions : mapping of str to DecisionRef
        The decisions that it used, by channel.
    software : mapping of str to str
        Versions of packages.
    git_commit : str or None
        Of the project, with ``+`` where files were changed.
    """

    run_id: str
    job: str
    job_hash: str
    job_text: str
    job_file: str
    job_resolved: Mapping[str, Any]
    calibration: str
    started: datetime.datetime
    status: str = RUNNING
    message: str | None = None
    ended: datetime.datetime | None = None
    parent_run_id: str | None = None
    inputs: RunInputs = field(default_factory=RunInputs)
    outputs: Mapping[str, int] = field(default_factory=dict)
    traces: Traces = field(default_factory=Traces)
    counts: Counts = field(default_factory=Counts)
    decisions: Mapping[str, DecisionRef] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None

    @property
    def channels(self) -> dict[str, Mapping[str, Any]]:
        """The job's channels by name: ``name, access``."""
        return self._entries("channel", "name")

    @property
    def filters(self) -> dict[str, Mapping[str, Any]]:
        """The job's filters by channel: ``filter, config, history, photometry, gaia``."""
        return self._entries("t0", "channel")

    @property
    def units(self) -> dict[str, Mapping[str, Any]]:
        """The job's units by name: ``unit, channel, config``."""
        return self._entries("t2", "name")

    @property
    def selections(self) -> dict[str, Mapping[str, Any]]:
        """The job's selections by name: ``channel, select, rank, limit, columns``."""
        return {k: v for k, v in self._entries("t3", "name").items() if "unit" not in v}

    @property
    def samples(self) -> dict[str, Mapping[str, Any]]:
        """The job's units of T3 by name: ``unit, of, config``."""
        return {k: v for k, v in self._entries("t3", "name").items() if "unit" in v}

    def _entries(self, section: str, key: str) -> dict[str, Mapping[str, Any]]:
        return {entry[key]: entry for entry in self.job_resolved.get(section) or ()}

    def needs_of(self, unit: str) -> list[str]:
        """Return the units that a unit is tied to, sorted.

        Records that do not say it name them in the unit's parameters.
        """
        trace = self.traces.t2.get(unit)
        if trace is not None and trace.needs is not None:
            return sorted(trace.needs)
        values = flattened(self.units.get(unit, {}).get("config") or {}).values()
        return sorted({v for v in values if isinstance(v, str)} & {*self.units} - {unit})

    def finished(self, status: str, message: str | None = None, **changes: Any) -> Run:
        """Return the run with its outcome."""
        return replace(self, status=status, message=message, ended=utc_now(), **changes)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain mappings, by column."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        parts = {name: own[name].to_json() for name in ("inputs", "traces", "counts")}
        refs = {channel: ref.to_json() for channel, ref in self.decisions.items()}
        plain = {"outputs": dict(self.outputs), "software": dict(self.software)}
        return own | parts | plain | {"decisions": refs}

    def to_row(self) -> dict[str, Any]:
        """Return the row of ``runs``: mappings as JSON text."""
        row = self.to_json()
        for name in _JSON:
            row[name] = json.dumps(row[name], sort_keys=True)
        # in the job's own order, which is that of the columns of an export
        row["job_resolved"] = json.dumps(
            self.job_resolved, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Run:
        """Return the run of a row of ``runs``, of this or an older lake."""
        own = {f.name: row[f.name] for f in fields(cls) if row.get(f.name) is not None}
        for name in ("job", "job_hash", "job_text", "job_file", "calibration"):
            own.setdefault(name, "")
        for name in (*_JSON, "job_resolved"):
            own[name] = json.loads(row.get(name) or "{}")
        own["inputs"] = RunInputs.from_json(own["inputs"])
        own["traces"] = Traces.from_json(own["traces"])
        own["counts"] = Counts.from_json(own["counts"])
        own["decisions"] = references(own["decisions"])
        return cls(**own)


#: Columns of ``runs`` that hold JSON with sorted keys.
_JSON = ("inputs", "outputs", "traces", "counts", "decisions", "software")


def utc_now() -> datetime.datetime:
    """Return the time now, UTC."""
    return datetime.datetime.now(datetime.UTC)


def new_run_id(job: str, started: datetime.datetime) -> str:
    """Return an id for a run: its job's name, its start, and four random digits."""
    return f"{job}-{started:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def record(lake: Lake, *written: Run) -> None:
    """Write the rows of runs, in the place of those they had, by one commit."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from ampel_spark.lake.commits import replace as replace_rows
    from ampel_spark.lake.parts import arrow_schema

    table = TABLES["runs"]
    rows = []
    for run in written:
        known = _commits(lake.root, run)
        rows.append(replace(run, inputs=replace(run.inputs, commits=known)).to_row())
    mine = pc.field("run_id").isin([run.run_id for run in written])
    new = pa.Table.from_pylist(rows, arrow_schema(table))
    replace_rows(lake, table, new, mine, {"run_id": written[0].run_id})


def _commits(root: Path, run: Run) -> dict[str, str]:
    """Return the hashes of the commits of the versions that a run read and wrote."""
    found: dict[str, str] = {}
    for versions in (run.inputs.tables, run.outputs):
        for name, version in versions.items():
            digest = commit_hash(root / name, version) if isinstance(version, int) else None
            if digest is not None:
                found[f"{name} {version}"] = digest
    return found


def runs(lake: str | Path) -> list[Run]:
    """Return the runs of a lake, the newest first.

    A run that has not recorded its end, and whose driver no longer holds its staging, is `KILLED`.

    Raises
    ------
    LakeError
        If there is no such lake.
    """
    if "runs" not in table_names(lake):
        return []
    found = [Run.from_row(row) for row in read(lake, "runs").to_pylist()]
    _check_complete(place(lake), {run.run_id for run in found})
    found = [
        replace(run, status=KILLED)
        if run.status == RUNNING and not _is_alive(place(lake), run.run_id)
        else run
        for run in found
    ]
    return sorted(found, key=lambda run: (run.started, run.run_id), reverse=True)


def find_run(lake: str | Path, text: str = "latest") -> Run:
    """Return one run.

    Parameters
    ----------
    lake : path
    text : str
        ``latest`` (of those that were not killed), a run's id, or the beginning of one that fits no
        other.

    Raises
    ------
    LakeError
        If there is none, or more than one.
    """
    found = runs(lake)
    if not found:
        raise LakeError(
            f"lake {lake} has no run yet: `ampel-spark run JOB.yml --lake {lake}` makes one"
        )
    if text == "latest":
        return whole(lake, next((run for run in found if run.status != KILLED), found[0]))
    fitting = [run for run in found if run.run_id == text] or [
        run for run in found if run.run_id.startswith(text)
    ]
    if len(fitting) == 1:
        return whole(lake, fitting[0])
    ids = [run.run_id for run in fitting or found]
    shown = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
    if fitting:
        raise LakeError(f"{text!r} begins {len(fitting)} runs: {shown}")
    near = nearest(text, ids)
    raise LakeError(
        f"lake {lake} has no run {text!r}{near if 'mean' in near else f'; its newest: {shown}'}"
    )


def _check_complete(root: Path, known: set[str]) -> None:
    """Refuse a lake whose newest pins are of a run without a record: a run records itself first."""
    newest = newest_version(root / "pins")
    for version in range(-1 if newest is None else newest, -1, -1):
        run_id = metadata_of(root / "pins", version).get("run_id")
        if run_id is not None and run_id not in known:
            raise LakeError(
                f"table 'runs' of lake {root} lacks the record of run {run_id}, which pins names:"
                f" its last commits are lost; {cure(root, 'runs')}"
            )
        if run_id is not None:
            return


def named_by(run: Run) -> Iterator[Named]:
    """Yield the versions of tables that a record names."""
    for versions in (run.inputs.tables, run.outputs):
        for name, version in versions.items():
            if isinstance(version, int):
                digest = run.inputs.commits.get(f"{name} {version}")
                yield Named(name, version, digest, f"the record of run {run.run_id}")


def whole(lake: str | Path, run: Run) -> Run:
    """Return a run of a lake whose tables, as far as they are there, have what it read and wrote.

    Raises
    ------
    LakeError
        If one of them ends before that, or has another commit in its place.
    """
    root = place(lake)
    there = [one for one in named_by(run) if newest_version(root / one.table) is not None]
    for name, said in unlike(root, there).items():
        raise LakeError(f"table {name!r} of lake {root} {said}: {cure(root, name)}")
    return run


def flattened(value: Any, path: str = "") -> dict[str, Any]:
    """Return nested mappings and lists as one mapping: ``t0.SN.config.min_ndet``."""
    if isinstance(value, Mapping) and value:
        found: dict[str, Any] = {}
        for key, part in value.items():
            found |= flattened(part, f"{path}.{key}" if path else str(key))
        return found
    if value == {} and not path:
        return {}
    if isinstance(value, list) and any(isinstance(part, Mapping | list) for part in value):
        return flattened({str(i): part for i, part in enumerate(value)}, path)
    return {path: value}


def _under(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the entries whose key begins with a prefix, without it."""
    return ((k.removeprefix(prefix), v) for k, v in value.items() if k.startswith(prefix))


def _is_alive(lake: Path, run_id: str) -> bool:
    """Say whether a driver holds the staging of a run (`ampel_spark.lake.lake.Lake.staging`)."""
    try:
        with (lake.expanduser() / "_staging" / f"{run_id}.lock").open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def catalogs_by_run(runs: Iterable[Run]) -> dict[str, dict[str, str]]:
    """Return the content hashes of the catalogues that runs read, the first run first."""
    ordered = sorted(runs, key=lambda run: (run.started, run.run_id))
    return {run.run_id: run.inputs.catalog_hashes for run in ordered}


def preference(
    run_id: str, catalogs: Mapping[str, Mapping[str, str]]
) -> Callable[[str], tuple[bool, bool, bool, int, str]]:
    """Return what orders, by the runs that made them, results that a run can have used.

    The last one is the likeliest: the run's own, else that of a run with the same catalogues, else
    the newest that was there when a run first had these. `catalogs` has the runs as they started,
    the first one first. Lakes of format 1 have the same rule: whoever changes it leaves this one to
    `ampel_spark.lake.upgrade`.
    """
    mine = catalogs.get(run_id)
    alike = {run_id, *(other for other, read in catalogs.items() if mine and read == mine)}
    place = {run: i for i, run in enumerate(catalogs)}
    since = min(place.get(run, len(place)) for run in alike)

    def order(made: str) -> tuple[bool, bool, bool, int, str]:
        at = place.get(made, -1)
        return made == run_id, made in alike, at <= since, at, made

    return order
