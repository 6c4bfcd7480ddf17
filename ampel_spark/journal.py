"""The story of an object by time: alerts, decisions, states, results, candidates; of runs.

Nobody sees more than the channels do: alerts and the histories they carry are those of the program
ids that their data rights name, and everything else is of the channels themselves. What several
runs said alike stands once, with the runs that said it.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.errors import LakeError
from ampel_spark.lake.reading import read, table_names
from ampel_spark.lake.runs import Run, RunInputs, catalogs_by_run
from ampel_spark.lake.runs import runs as all_runs
from ampel_spark.lake.tables import TABLES, result_table
from ampel_spark.t2.results import Results

__all__ = ["alerts_of", "journal", "utc_of", "whole_journal"]

#: Data rights: the program ids that each channel may see.
Access = Mapping[str, frozenset[int]]

_ORDER = ("alert", "decision", "state", "result", "candidate")
#: What two entries that say the same may differ in.
_APART = ("datapoints_version",)
_OWN = {*result_table("", ()).names, *TABLES["candidates"].names}


def journal(lake: str | Path, name: str, run: Run, access: Access) -> list[dict[str, Any]]:
    """Return what one run knows of an object: alerts as that run saw them.

    Parameters
    ----------
    lake : path
    name : str
        The survey's name of the object, or its stock id.
    run : Run
    access : mapping of str to frozenset of int
        The channels to show, and the program ids that each may see.

    Returns
    -------
    list of dict
        ``jd`` and ``utc`` (when), ``kind`` (alert, decision, state, result or candidate),
        ``channel``, ``id`` (of alert or state, or the unit's name), ``status``, ``detail``,
        ``values``, and ``runs``.

    Raises
    ------
    LakeError
        If no channel may see an alert of such an object.
    """
    rights = frozenset[int]().union(*access.values())
    alerts = alerts_of(lake, _key(name), run.inputs, rights)
    if not alerts:
        raise LakeError(
            f"no object {name!r} in lake {lake} of which {_channels([access])} may see an alert"
            f" in run {run.run_id}"
        )
    return _entries(lake, alerts, rights, [(run, access)])


def whole_journal(
    lake: str | Path, name: str, runs: Sequence[tuple[Run, Access]]
) -> list[dict[str, Any]]:
    """Return what runs know of an object, and all alerts of it that one of them may see.

    Parameters
    ----------
    lake : path
    name : str
    runs : sequence of (Run, mapping)
        Runs, the oldest first, each with the channels to show of it.

    Returns
    -------
    list of dict
        As from `journal`. An entry that several runs have alike stands once: a state by its
        content, a result by its key, a decision, a candidate by what they say.

    Raises
    ------
    LakeError
        If no channel may see an alert of such an object.
    """
    rights = frozenset[int]().union(*(ids for _, access in runs for ids in access.values()))
    alerts = alerts_of(lake, _key(name), RunInputs(), rights)
    if not alerts:
        raise LakeError(
            f"no object {name!r} in lake {lake} of which {_channels([a for _, a in runs])} may see"
            f" an alert in any of {_count(len(runs), 'run')}"
        )
    return _entries(lake, alerts, rights, runs)


def alerts_of(
    lake: str | Path, rows: pc.Expression, inputs: RunInputs, rights: frozenset[int]
) -> list[dict[str, Any]]:
    """Return alerts as a run saw them, in order of time, and of those that may be seen.

    Parameters
    ----------
    lake : path
    rows : pyarrow compute expression
        Which alerts.
    inputs : RunInputs
        What the run read: the version of the table, and the time up to which alerts count.
    rights : frozenset of int
        Program ids that may be seen.
    """
    rows = rows & pc.field("programid").isin(sorted(rights))
    if inputs.as_of_jd is not None:
        rows = rows & (pc.field("jd") <= inputs.as_of_jd)
    found = read(lake, "alerts", filters=rows, version=inputs.tables.get("alerts")).to_pylist()
    return sorted(found, key=lambda row: (row["jd"], row["alert_id"]))


def utc_of(jd: float | None) -> str | None:
    """Return a JD as UTC to the second, as ``2020-01-31 05:04:03``."""
    if jd is None or not math.isfinite(jd):
        return None
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(days=jd - 2440587.5)
    return f"{moment + datetime.timedelta(microseconds=500_000):%Y-%m-%d %H:%M:%S}"


def _entries(
    lake: str | Path,
    alerts: Sequence[Mapping[str, Any]],
    rights: frozenset[int],
    runs: Sequence[tuple[Run, Access]],
) -> list[dict[str, Any]]:
    """Return the entries of an object, its alerts found; every table is read once."""
    own = pc.field("stock") == alerts[0]["stock"]
    mine = own & pc.field("run_id").isin([run.run_id for run, _ in runs])
    tables = {"decisions": _decisions(lake, [run for run, _ in runs], own)}
    tables |= {n: _rows(lake, n, mine) for n in ("state_channels", "candidates")}
    links = [row for row in tables["state_channels"] if any(_shows(*of, row) for of in runs)]
    ids = pa.array(sorted({link["state_id"] for link in links}), pa.string())
    wanted = pc.field("state_id").isin(ids)
    states = {row["state_id"]: row for row in _rows(lake, "states", wanted)}
    results = _results(lake, [run for run, _ in runs], wanted)
    entries = [_alert(row, rights) for row in alerts]
    for run, access in runs:
        entries += _entries_of(run, access, tables, states, results)
    return sorted(_merged(entries), key=_place)


def _decisions(lake: str | Path, runs: Sequence[Run], own: pc.Expression) -> list[dict[str, Any]]:
    """Return the decisions of some runs on an object, each under the run that used it."""
    refs = [ref for run in runs for ref in run.decisions.values()]
    rows = _rows(lake, "decisions", own & pc.field("set_id").isin([ref.set_id for ref in refs]))
    found = []
    for run in runs:
        for ref in run.decisions.values():
            found += [{**row, "run_id": run.run_id} for row in ref.chosen(rows)]
    return found


def _results(lake: str | Path, runs: Sequence[Run], wanted: pc.Expression) -> Results:
    """Return the results of all units that some runs have."""
    there = table_names(lake)
    units = sorted({unit for run in runs for unit in run.traces.t2 if f"t2_{unit}" in there})
    tables = {unit: read(lake, f"t2_{unit}", filters=wanted) for unit in units}
    return Results(tables, catalogs_by_run(all_runs(lake)))


def _entries_of(
    run: Run,
    access: Access,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    states: Mapping[str, Mapping[str, Any]],
    results: Results,
) -> list[dict[str, Any]]:
    """Return the entries of one run, of the rows that its channels show."""
    decisions, links, candidates = (
        [row for row in rows if _shows(run, access, row)] for rows in tables.values()
    )
    times = {k["state_id"]: k["as_of_jd"] or states[k["state_id"]]["jd_last"] for k in links}
    found = [_state(link, states[link["state_id"]]) for link in links]
    found += [_decision(row) for row in decisions]
    for unit in sorted(run.traces.t2):
        used = ((results.used(run, unit, state_id), jd) for state_id, jd in times.items())
        found += [_result(unit, row, jd) for row, jd in used if row is not None]
    found += [_candidate(row, times.get(row["state_id"])) for row in candidates]
    return [entry | {"runs": [run.run_id]} for entry in found]


def _key(name: str) -> pc.Expression:
    if name.lstrip("-").isdecimal():
        return pc.field("stock") == int(name)
    return pc.field("name") == name


def _shows(run: Run, access: Access, row: Mapping[str, Any]) -> bool:
    return row["run_id"] == run.run_id and row["channel"] in access


def _merged(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the entries of several runs that say the same."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        values = {k: v for k, v in entry["values"].items() if k not in _APART}
        key = json.dumps([entry[k] for k in ("kind", "jd", "channel", "id", "status")] + [values],
                         sort_keys=True, default=str)  # fmt: skip
        if key not in found:
            found[key] = entry
            continue
        first = found[key]
        first["runs"] = [*first["runs"], *(r for r in entry["runs"] if r not in first["runs"])]
        versions = [e["values"].get("datapoints_version") for e in (first, entry)]
        if entry["kind"] == "state" and versions[0] != versions[1]:
            # another version with the same content
            first["values"]["datapoints_version"] = max(versions)
    return list(found.values())


def _place(entry: Mapping[str, Any]) -> tuple[float, int, str, str]:
    jd = math.inf if entry["jd"] is None else entry["jd"]
    return jd, _ORDER.index(entry["kind"]), entry["channel"] or "", str(entry["id"])


def _rows(lake: str | Path, name: str, filters: pc.Expression) -> list[dict[str, Any]]:
    if name not in table_names(lake):
        return []
    rows: list[dict[str, Any]] = read(lake, name, filters=filters).to_pylist()
    return rows


def _entry(
    kind: str,
    jd: float | None,
    channel: str | None,
    identity: int | str,
    status: str,
    detail: str,
    values: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "jd": jd,
        "utc": utc_of(jd),
        "kind": kind,
        "channel": channel,
        "id": identity,
        "status": status,
        "detail": detail,
        "values": dict(values or {}),
        "runs": [],
    }


def _alert(row: Mapping[str, Any], rights: frozenset[int]) -> dict[str, Any]:
    # the packet's history, as far as it may be seen
    pairs = zip(row["datapoint_ids"], row["datapoint_programids"], strict=True)
    seen = [identity for identity, programid in pairs if programid in rights]
    n_detections = sum(identity > 0 for identity in seen)
    values = {"n_detections": n_detections, "n_upper_limits": len(seen) - n_detections}
    values |= {key: row.get(key) for key in ("fid", "magpsf", "sigmapsf", "rb", "drb", "programid")}
    band = {1: "g", 2: "r", 3: "i"}.get(values["fid"] or 0, "?")
    sign = "negative, " if row.get("isdiffpos") in ("f", "0") else ""
    detail = (
        f"{band} {_number(values['magpsf'])} ± {_number(values['sigmapsf'], 2)} mag, "
        f"{sign}rb {_number(values['rb'], 2)};"
        f" {_count(n_detections, 'detection')}, {_count(values['n_upper_limits'], 'upper limit')}"
    )
    return _entry("alert", row["jd"], None, row["alert_id"], "", detail, values)


def _decision(row: Mapping[str, Any]) -> dict[str, Any]:
    status = "accepted" if row["accepted"] else "rejected"
    said = []
    if row["bypassed"]:
        said.append("accepted before")
    if row["cut"] is not None:
        compared = (
            ""
            if row["value"] is None
            else f": {_number(row['value'])} against {_number(row['threshold'])}"
        )
        said.append(f"cut {row['cut']}{compared}")
    if row["group"] is not None:
        said.append(f"group {row['group']}")
    values = {key: row[key] for key in ("cut", "value", "threshold", "bypassed", "group")}
    return _entry(
        "decision", row["jd"], row["channel"], row["alert_id"], status, "; ".join(said), values
    )


def _state(link: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("link", "n_detections", "n_upper_limits", "n_forced", "jd_first", "jd_last")
    values = {key: state.get(key) for key in keys}
    values |= {key: link[key] for key in ("calibration", "datapoints_version")}
    detail = (
        f"{_count(state['n_detections'], 'detection')},"
        f" {_count(state['n_upper_limits'], 'upper limit')},"
        f" calibration {link['calibration']}, datapoints version {link['datapoints_version']}"
    )
    status = "latest" if link["as_of_jd"] is None else "as of"
    return _entry(
        "state",
        link["as_of_jd"] or state["jd_last"],
        link["channel"],
        link["state_id"],
        status,
        detail,
        values,
    )


def _result(unit: str, row: Mapping[str, Any], jd: float | None) -> dict[str, Any]:
    values = {key: value for key, value in row.items() if key not in _OWN}
    detail = row["message"] or _summary(values)
    values |= {
        key: row[key] for key in ("state_id", "trace_id", "input_hash", "duration_ms", "run_id")
    }
    return _entry("result", jd, None, unit, str(row["status"]), detail, values)


def _candidate(row: Mapping[str, Any], jd: float | None) -> dict[str, Any]:
    values = {key: value for key, value in row.items() if key not in _OWN and value is not None}
    return _entry(
        "candidate",
        jd,
        row["channel"],
        row["selection"],
        f"rank {row['rank']}",
        _summary(values),
        values,
    )


def _summary(values: Mapping[str, Any], most: int = 6) -> str:
    """Return the first plain values, as ``z 0.05, x1 0.3``."""
    plain = {key: value for key, value in values.items() if isinstance(value, int | float | str)}
    return ", ".join(f"{key} {_number(value)}" for key, value in list(plain.items())[:most])


def _number(value: Any, digits: int = 5) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{digits}g}" if abs(value) < 1e5 else f"{value:.3f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _channels(accesses: Sequence[Access]) -> str:
    names = list(dict.fromkeys(name for access in accesses for name in access))
    return f"channel {names[0]}" if len(names) == 1 else f"one of the channels {', '.join(names)}"
