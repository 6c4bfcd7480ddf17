"""Pins: versions of tables that runs read, and that stay readable until they are let go.

A run pins the versions that it reads. While a pin holds, `ampel_spark.lake.maintenance` keeps every
file that the version needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.errors import LakeError, nearest
from ampel_spark.lake.commits import insert, replace
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.reading import check_version
from ampel_spark.lake.runs import utc_now
from ampel_spark.lake.tables import TABLES

if TYPE_CHECKING:
    from ampel_spark.lake.lake import Lake

__all__ = ["BRANCH", "PINNING", "live_pins", "pin", "release"]

#: The lock under which pins are made, and files removed that none needs.
PINNING = "pinning"

#: How the pins of a branch begin, where a run's have its id: this and the path of the branch.
BRANCH = "branch "


def pin(lake: Lake, run_id: str | Sequence[str], versions: Mapping[str, int]) -> None:
    """Pin versions of tables for a run, for several, or for a branch.

    Parameters
    ----------
    lake : Lake
    run_id : str or sequence of str
        The run, the runs, or `BRANCH` and the path of the branch.
    versions : mapping of str to int
        By table.

    Raises
    ------
    LakeError
        If one of them has lost files already.
    """
    table = TABLES["pins"]
    now = utc_now()
    ids = [run_id] if isinstance(run_id, str) else run_id
    rows = [
        {"run_id": one, "table": name, "version": version, "pinned": now, "released": None}
        for one in ids
        for name, version in sorted(versions.items())
    ]
    pins = pa.Table.from_pylist(rows, arrow_schema(table))
    with lake.lock(PINNING):
        for name, version in sorted(versions.items()):
            check_version(lake.root, name, version)
        # A run that pins has a record, and readers look for it.
        about = {} if ids[0].startswith(BRANCH) else {"run_id": ids[0]}
        insert(lake, table, pins, about)


def live_pins(lake: Lake) -> list[dict[str, Any]]:
    """Return the pins that hold, as rows of ``pins``, the oldest first."""
    if not lake.has("pins"):
        return []
    rows = [row for row in lake.arrow("pins").to_pylist() if row["released"] is None]
    return sorted(rows, key=lambda row: (row["pinned"], row["run_id"], row["table"]))


def release(lake: Lake, runs: Sequence[str]) -> int:
    """Let the pins of runs go, and return how many these were.

    Raises
    ------
    LakeError
        If a run holds none.
    """
    known = {row["run_id"] for row in live_pins(lake)}
    for run in runs:
        if run not in known:
            raise LakeError(f"run {run!r} holds no pin in lake {lake.root}{nearest(run, known)}")
    if not runs:
        return 0
    table = TABLES["pins"]
    mine = sorted(set(runs))
    now = utc_now()
    # A pin that is made meanwhile must not be written over.
    with lake.lock(PINNING):
        rows = [
            row | {"released": row["released"] or now}
            for row in lake.arrow("pins").to_pylist()
            if row["run_id"] in mine
        ]
        held = pa.Table.from_pylist(rows, arrow_schema(table))
        replace(lake, table, held, pc.field("run_id").isin(mine), {"released": mine})
    return len(rows)
