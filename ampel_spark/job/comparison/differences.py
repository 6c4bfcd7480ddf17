"""In what two runs differ, from their records alone: job, calibration, inputs, traces, software."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ampel_spark.job.comparison.changes import Difference
from ampel_spark.lake.runs import Run, UnitTrace, flattened

__all__ = [
    "filter_changes",
    "run_differences",
    "summary",
    "trace_changes",
]

_ABSENT = "–"
#: Parts of the job that have a kind of their own, or change no result.
_ELSEWHERE = ("calibration", "name", "report")


def run_differences(a: Run, b: Run) -> list[Difference]:
    """Return all in which the records of two runs differ."""
    found = _changes("calibration", {"release": a.calibration}, {"release": b.calibration})
    jobs = [{k: v for k, v in run.job_resolved.items() if k not in _ELSEWHERE} for run in (a, b)]
    found += _changes("job", *map(flattened, map(_by_name, jobs)))
    found += _changes("inputs", flattened(a.inputs.to_json()), flattened(b.inputs.to_json()))
    t0 = [run.traces.t0 for run in (a, b)]
    found += [
        Difference("T0 trace", channel, _short(t0[0].get(channel)), _short(t0[1].get(channel)))
        for channel in sorted({*t0[0], *t0[1]})
        if t0[0].get(channel) != t0[1].get(channel)
    ]
    t2 = [run.traces.t2 for run in (a, b)]
    for unit in sorted({*t2[0], *t2[1]}):
        found += trace_changes(unit, t2[0].get(unit), t2[1].get(unit))
    found += _changes("software", a.software, b.software)
    found += _changes("git", {"commit": a.git_commit}, {"commit": b.git_commit})
    return found


def trace_changes(unit: str, a: UnitTrace | None, b: UnitTrace | None) -> list[Difference]:
    """Return which parts of a unit's trace differ: parameters, code, files, libraries.

    Parameters
    ----------
    unit : str
    a, b : UnitTrace or None
        None where the run has no such unit.
    """
    kind = f"T2 {unit}"
    if a is None or b is None:
        there = [_ABSENT if trace is None else "in the job" for trace in (a, b)]
        return [] if a is b else [Difference(kind, "unit", *there)]
    if a.trace_id == b.trace_id:
        return []
    parts = [dict(_parts(trace.content)) for trace in (a, b)]
    found = _changes(kind, *parts)
    ids = _short(a.trace_id), _short(b.trace_id)
    return found or [Difference(kind, "trace", *ids)]


def filter_changes(a: Run, b: Run, channel_a: str, channel_b: str) -> list[Difference]:
    """Return in what the filter of a channel differs; empty where it judges as before."""
    entries = [a.filters.get(channel_a, {}), b.filters.get(channel_b, {})]
    rights = [a.channels.get(channel_a, {}), b.channels.get(channel_b, {})]
    own = [
        flattened({k: v for k, v in entry.items() if k not in ("channel", "config")})
        | flattened(entry.get("config") or {})
        | {"access": ", ".join(right.get("access", ()))}
        # a channel that judges packets as they were issued does not see the release
        | ({"release": run.calibration} if entry.get("photometry") == "calibrated" else {})
        for run, entry, right in zip((a, b), entries, rights, strict=True)
    ]
    found = _changes("T0", *own)
    traces = a.traces.t0.get(channel_a), b.traces.t0.get(channel_b)
    if not found and traces[0] != traces[1]:
        found = [Difference("T0", "code or catalogue of the filter", *map(_short, traces))]
    return found


def summary(changes: list[Difference], most: int = 3) -> str:
    """Return differences as one line: ``parameter redshift 0.1 → 0.2; code of m``."""
    lines = [
        c.name
        if c.name.startswith(("code of", "file", "code or"))
        else f"{c.name} {c.before} → {c.after}"
        for c in changes[:most]
    ]
    more = len(changes) - most
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def _by_name(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job whose lists are mappings: an entry put in between changes no other's path."""
    named = {"channel": "name", "t0": "channel", "t2": "name", "t3": "name"}
    return {
        key: {entry[named[key]]: entry for entry in value} if key in named else value
        for key, value in job.items()
    }


def _parts(trace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "class", trace.get("class")
    for name, value in flattened(trace.get("parameters") or {}).items():
        yield f"parameter {name}", value
    for module, digest in (trace.get("code") or {}).items():
        yield f"code of {module}", _short(digest)
    for i, file in enumerate(trace.get("files") or ()):
        # the name is for the reader: where a file lies is no part of a trace
        yield f"file {i + 1} ({file['name']})", _short(file["sha256"])
    for library, version in (trace.get("libraries") or {}).items():
        yield f"version of {library}", version


def _changes(kind: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    return [
        Difference(kind, name, _text(a.get(name)), _text(b.get(name)))
        for name in dict.fromkeys([*a, *b])
        if a.get(name) != b.get(name)
    ]


def _short(digest: Any) -> str:
    return _ABSENT if digest is None else str(digest)[:10]


def _text(value: Any) -> str:
    if value is None:
        return _ABSENT
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
