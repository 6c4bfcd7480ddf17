"""Commands on a lake: runs, show, tables."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ampel_spark.commands.output import print_pairs, print_rows, to_json
from ampel_spark.errors import LakeError, nearest
from ampel_spark.interface.places import lake_of
from ampel_spark.lake.reading import open_table, read, struct_columns, table_info, table_names
from ampel_spark.lake.runs import find_run, runs
from ampel_spark.lake.tables import TABLES, TableColumn

if TYPE_CHECKING:
    from ampel_spark.lake.runs import Counts, Run

__all__ = ["list_runs", "list_tables", "show"]


def list_runs(args: Namespace) -> int:
    """List the runs of a lake, the newest first."""
    lake = lake_of(args.lake)
    rows = [_summary(run) for run in runs(lake)]
    shown = ["run_id", "job", "status", "started", "seconds", "calibration", "alerts",
             "states", "candidates"]  # fmt: skip
    print_rows(rows, shown, args.format, empty=f"lake {lake} has no run yet")
    return 0


def show(args: Namespace) -> int:
    """Show what a run did: on what versions, with what losses, and what it found."""
    lake = lake_of(args.lake)
    run = find_run(lake, args.run)
    candidates = _candidates(lake, run.run_id)
    if args.format == "json":
        print(to_json([run.to_json() | {"candidates": candidates}]))
        return 0
    names = ("run_id", "job", "status", "message", "parent_run_id", "calibration")
    print_pairs({name: getattr(run, name) for name in names})
    print_pairs({"started": run.started, "ended": run.ended, "git": run.git_commit,
                 "job_hash": run.job_hash[:12]})  # fmt: skip
    inputs = sorted(run.inputs.to_json().items())
    _section("read", [{"what": k, "version": v} for k, v in inputs], ["what", "version"])
    wrote = [{"table": k, "version": v} for k, v in run.outputs.items()]
    _section("wrote", wrote, ["table", "version"])
    _show_tiers(run.counts)
    _show_candidates(candidates, args.limit)
    return 0


def _show_tiers(counts: Counts) -> None:
    from ampel_spark.job.execution.outcomes import failures, qualities

    _section("archive", [counts.archive] if counts.archive else [], list(counts.archive))
    for channel, tier in counts.t0.items():
        _show_cuts(channel, tier)
    t1 = counts.t1
    title = f"T1: {t1.get('states', 0)} states, {t1.get('new', 0)} of them new"
    _section(title, _named("channel", t1.get("channels", {})), ["channel", "objects", "states"])
    columns = ["unit", "wanted", "present", "computed", "statuses", "median_ms", "seconds"]
    _section("T2", _named("unit", counts.t2), columns)
    for name, tier in counts.t2.items():
        if bad := failures(tier):
            print(f"{name}: {bad}")
        if graded := qualities(tier):
            print(f"{name}: {graded}")
    columns = ["selection", "channel", "states", "candidates"]
    _section("T3", _named("selection", counts.t3), columns)


def _show_cuts(channel: str, tier: Mapping[str, Any]) -> None:
    left = tier["alerts"]
    rows: list[dict[str, Any]] = []
    for name, lost in tier["cuts"]:
        left -= lost
        rows.append({"cut": name, "lost": lost, "left": left})
    before = f" ({tier['bypassed']} as accepted before)" if tier["bypassed"] else ""
    title = f"T0: channel {channel}: {tier['accepted']} of {tier['alerts']} alerts accepted"
    _section(f"{title}{before}, {tier['objects']} objects", rows, ["cut", "lost", "left"])


def _show_candidates(candidates: list[dict[str, Any]], limit: int) -> None:
    for selection in dict.fromkeys(row["selection"] for row in candidates):
        mine = [row for row in candidates if row["selection"] == selection]
        columns = [c for c in mine[0] if any(row[c] is not None for row in mine) and c not in _KEYS]
        _section(f"candidates: {selection}", mine[:limit], columns)
        if len(mine) > limit:
            print(f"… and {len(mine) - limit} more (--limit)")


def _named(what: str, tiers: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{what: name} | tier for name, tier in tiers.items()]


def list_tables(args: Namespace) -> int:
    """List the tables of a lake, or the columns of one."""
    lake = lake_of(args.lake)
    if args.name is not None:
        rows = _columns(lake, args.name)
        print_rows(rows, ["column", "type", "comment"], args.format)
        return 0
    tables = [table_info(lake, name) for name in table_names(lake)]
    found = [dataclasses.asdict(t) | {"bytes_per_row": t.bytes_per_row} for t in tables]
    shown = [
        row
        | {"size": _size(row["bytes"]), "on disk": _size(row["bytes_on_disk"])}
        | {"bytes a row": None if row["bytes_per_row"] is None else round(row["bytes_per_row"], 1)}
        for row in found
    ]
    columns = ["name", "rows", "files", "size", "bytes a row", "on disk", "version",
               "last_commit", "operation", "description"]  # fmt: skip
    if any(table.lost for table in tables):
        columns.insert(1, "lost")
    print_rows(
        found if args.format == "json" else shown,
        columns,
        args.format,
        empty=f"lake {lake} has no table yet",
    )
    for table in tables:
        if table.lost and args.format != "json":
            print(f"{table.name} has lost {table.lost} of its {table.files} files")
    return 0


_KEYS = ("channel", "selection", "stock", "state_id", "run_id")


def _summary(run: Run) -> dict[str, Any]:
    counts = run.counts
    seconds = (run.ended - run.started).total_seconds() if run.ended else None
    return {
        "run_id": run.run_id,
        "job": run.job,
        "status": run.status,
        "message": run.message,
        "started": run.started,
        "ended": run.ended,
        "seconds": None if seconds is None else round(seconds, 1),
        "calibration": run.calibration,
        "alerts": max((tier["alerts"] for tier in counts.t0.values()), default=None),
        "states": counts.t1.get("states"),
        "candidates": sum(tier["candidates"] for tier in counts.t3.values()) if counts.t3 else None,
        "job_hash": run.job_hash,
        "parent_run_id": run.parent_run_id,
        "git_commit": run.git_commit,
    }


def _candidates(lake: Any, run_id: str) -> list[dict[str, Any]]:
    import pyarrow.compute as pc

    if "candidates" not in table_names(lake):
        return []
    rows = read(lake, "candidates", filters=pc.field("run_id") == run_id).to_pylist()
    return sorted(rows, key=lambda row: (row["selection"], row["channel"], row["rank"]))


def _columns(lake: Any, name: str) -> list[dict[str, Any]]:
    """Return the columns of a table: as the lake has it, else as the package makes it."""
    from ampel_spark.archive.reading.ztf import alerts_table

    there = {log.parent.name for log in lake.glob("*/_delta_log")}
    if name in there:
        structs = struct_columns(lake, name)
        rows = [
            row
            for field in open_table(lake, name).schema().fields
            for row in (_row(field), *_fields(field.name, structs))
        ]
        known = {row["column"] for row in rows}
        return rows + [row for row in _declared(name) if row["column"] not in known]
    tables = TABLES | {"alerts": alerts_table()}
    if name not in tables:
        hint = nearest(name, {*there, *tables})
        if "mean" not in hint and name.startswith("t2_"):
            hint = f"; `ampel-spark units {name[3:]}` tells a unit's columns"
        elif "mean" not in hint:
            hint = nearest(name, table_names(lake))  # or that there is no lake
        raise LakeError(f"lake {lake} has no table {name!r}{hint}")
    rows = [{"column": c.name, "type": c.type, "comment": c.comment} for c in tables[name].columns]
    return rows + _declared(name)


def _row(field: Any) -> dict[str, Any]:
    comment = (field.metadata or {}).get("comment", "")
    return {"column": field.name, "type": _type(field.type), "comment": comment}


def _fields(name: str, structs: Mapping[str, Sequence[TableColumn]]) -> Iterator[dict[str, Any]]:
    """Yield the columns that a survey declares, as conditions and units can name them."""
    for field in structs.get(name, ()):
        yield {"column": f"{name}.{field.name}", "type": field.type, "comment": field.comment}


def _declared(name: str) -> list[dict[str, Any]]:
    """Return the columns of a table that the files of ``conf/surveys`` declare."""
    from ampel_spark.job.configuration.load import conf_dir, load_survey

    if name not in ("alerts", "datapoints"):
        return []
    found = {}
    for path in sorted((conf_dir() / "surveys").glob("*.yml")):
        survey = load_survey(path.stem)
        own = survey.columns.alerts if name == "alerts" else survey.columns.points
        for key, column in own.items():
            shown = {"type": column.type, "comment": column.comment}
            found[f"{survey.label}.{key}"] = {"column": f"{survey.label}.{key}", **shown}
    return list(found.values())


def _type(kind: Any) -> str:
    """Return a Delta type as Spark SQL names it."""
    names = {"long": "bigint", "integer": "int"}
    if hasattr(kind, "fields"):
        return "struct"
    if hasattr(kind, "element_type"):
        return f"array<{_type(kind.element_type)}>"
    text = str(getattr(kind, "type", kind))
    return names.get(text, text)


def _section(title: str, rows: list[dict[str, Any]], columns: list[str]) -> None:
    if rows:
        print(f"\n{title}")
        print_rows(rows, columns, "table")


def _size(number: int) -> str:
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
