"""Format 3: decisions belong to sets, of which runs say which they used.

What one run of format 2 decided for one channel becomes a set of its own, with one part. The record
of the run names it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampel_spark.errors import LakeError
from ampel_spark.lake.changes import files_at, notes
from ampel_spark.lake.lake import table_properties
from ampel_spark.lake.log import add_files, create, newest_version, replace_files
from ampel_spark.lake.parts import Part, PartWriter, arrow_schema
from ampel_spark.lake.runs import Run
from ampel_spark.lake.tables import TABLES, Table
from ampel_spark.trace import trace_id_of

__all__ = ["rewrite"]

_METADATA = {"upgrade": 3, "step": "decision_sets"}
_GROUP = 32_000
_ORDER = [("accepted", "descending"), ("stock", "ascending"), ("jd", "ascending"),
          ("alert_id", "ascending")]  # fmt: skip

#: A set of the old format: run, channel, survey and trace.
Key = tuple[str, str, str, str]


def rewrite(root: Path, versions: Mapping[str, int], out: Callable[[str], None]) -> None:
    """Make sets of a lake's decisions, and name them in the records of runs.

    Parameters
    ----------
    root : Path
        The lake.
    versions : mapping of str to int
        The tables as they were before the upgrade.
    out : callable
        Takes lines for the user.
    """
    counts: dict[Key, Counter[tuple[bool, bool, str | None]]] = defaultdict(Counter)
    if "decisions" in versions:
        parts = _decisions(root, versions["decisions"], counts)
        _replace(root, TABLES["decisions"], versions["decisions"], parts)
        out(f"upgrade: decisions: {len(counts)} sets of {sum(map(_size, counts.values()))} rows")
    if "runs" not in versions:
        return
    rows = _rows(root, "runs", versions["runs"])
    runs = [Run.from_row(row) for row in rows]
    _replace(root, TABLES["runs"], versions["runs"], [_runs(root, rows, counts)])
    if "decisions" in versions:
        version = versions["decisions"] + 1
        _append(root, [r for run in runs for r in _sets(run, counts, version)])


def _size(counts: Counter[Any]) -> int:
    return sum(counts.values())


def _set_id(key: Key) -> str:
    return trace_id_of(dict(zip(("run", "channel", "survey", "trace"), key, strict=True)))


def _decisions(
    root: Path, version: int, counts: dict[Key, Counter[tuple[bool, bool, str | None]]]
) -> list[Part]:
    """Write decisions anew, each file by itself, and count those of each set."""
    table = TABLES["decisions"]
    parts = []
    columns = ["run_id", "channel", "survey", "trace_id"]
    for path in files_at(root / table.name, version):
        rows = pq.read_table(path, partitioning=None)
        for key in rows.group_by(columns).aggregate([]).to_pylist():
            mine = rows
            for name, value in key.items():
                mine = mine.filter(pc.equal(mine[name], value))
            own: Key = tuple(key[name] for name in columns)
            said = mine.select(["accepted", "bypassed", "cut"]).to_pylist()
            counts[own].update((r["accepted"], r["bypassed"], r["cut"]) for r in said)
            mine = mine.append_column("set_id", pa.repeat(_set_id(own), len(mine)))
            mine = mine.append_column("part", pa.nulls(len(mine), pa.int32()).fill_null(0))
            parts.append(_part(root, table, mine.take(pc.sort_indices(mine, sort_keys=_ORDER))))
    return parts


def _part(root: Path, table: Table, rows: pa.Table) -> Part:
    writer = PartWriter(root / table.name, arrow_schema(table), table.extremes)
    for first in range(0, len(rows), _GROUP):
        writer.write(rows.slice(first, _GROUP))
    return writer.close()


def _runs(root: Path, rows: list[dict[str, Any]], counts: Mapping[Key, Any]) -> Part:
    """Write the records of runs with the sets that they used."""
    refs: dict[str, dict[str, Any]] = defaultdict(dict)
    until = {row["run_id"]: Run.from_row(row).inputs.as_of_jd for row in rows}
    for key in counts:
        ref = {"set_id": _set_id(key), "part": 0, "until_jd": until.get(key[0])}
        refs[key[0]][key[1]] = ref
    named = [row | {"decisions": json.dumps(refs[row["run_id"]], sort_keys=True)} for row in rows]
    table = TABLES["runs"]
    return _part(root, table, pa.Table.from_pylist(named, arrow_schema(table)))


def _sets(
    run: Run, counts: Mapping[Key, Counter[tuple[bool, bool, str | None]]], version: int
) -> list[dict[str, Any]]:
    """Return the rows of ``decision_sets`` of a run that came to its end."""
    alerts = run.inputs.tables.get("alerts")
    found = []
    for key, mine in counts.items():
        if key[0] != run.run_id or alerts is None:
            continue
        lost: Counter[str] = Counter()
        for (accepted, _, cut), number in mine.items():
            lost[str(cut)] += 0 if accepted else number
        lost = +lost
        found.append(
            {
                "set_id": _set_id(key), "part": 0, "channel": key[1], "survey": key[2],
                "trace_id": key[3], "alerts_version": alerts, "until_jd": run.inputs.as_of_jd,
                "alerts": _size(mine), "revised": 0,
                "accepted": sum(n for (accepted, _, _), n in mine.items() if accepted),
                "bypassed": sum(n for (_, bypassed, _), n in mine.items() if bypassed),
                "cuts": [*lost], "lost": [*lost.values()], "decisions_version": version,
                "run_id": run.run_id,
            }
        )  # fmt: skip
    return found


def _append(root: Path, rows: list[dict[str, Any]]) -> None:
    """Make the table of sets, and add rows once."""
    table = TABLES["decision_sets"]
    folder = root / table.name
    create(folder, table.schema().json(), table.comment, table_properties(table))
    if rows and newest_version(folder) == 0:
        part = _part(root, table, pa.Table.from_pylist(rows, arrow_schema(table)))
        add_files(folder, [part.as_file()], _METADATA)


def _rows(root: Path, name: str, version: int) -> list[dict[str, Any]]:
    files = files_at(root / name, version)
    return [row for path in files for row in pq.read_table(path, partitioning=None).to_pylist()]


def _replace(root: Path, table: Table, version: int, parts: list[Part]) -> None:
    """Put files in the place of a table's old ones, once, with the table's columns of today.

    Raises
    ------
    LakeError
        If something else was committed since the upgrade began.
    """
    folder = root / table.name
    if newest_version(folder) != version:
        if next(note for _, note in notes(folder, version)) != _METADATA:
            raise LakeError(
                f"table {table.name} of lake {root} was written to since its upgrade began: "
                f"restore it to version {version}, then upgrade again"
            )
        return
    old = [path.removeprefix(f"{folder}/") for path in files_at(folder, version)]
    about = {"schemaString": table.schema().json(), "configuration": table_properties(table)}
    files = [part.as_file() for part in parts]
    replace_files(folder, files, old, version, _METADATA, changes=True, about=about)
