"""The log of a Delta table, without Spark: its newest version, and commits that only add files.

Spark's own transaction works out the state of a table before it commits, by a job: half a second,
five times a night. A commit that adds files and looks at nothing needs no more than the number of
the one before it. Delta's Python package cannot write tables with in-commit timestamps.

Delta transaction log protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ampel_spark

__all__ = ["CHECKPOINTS", "add_files", "newest_version"]

#: Commits from one checkpoint to the next: it costs some seconds, reading fifty far less than one.
CHECKPOINTS = 50

_COMMIT = re.compile(r"(\d{20})\.json")


def newest_version(table: str | Path) -> int | None:
    """Return the newest version of the table in a folder; None where there is none."""
    try:
        names = os.listdir(Path(table) / "_delta_log")
    except FileNotFoundError:
        return None
    return max(
        (int(found[1]) for name in names if (found := _COMMIT.fullmatch(name))), default=None
    )


def add_files(
    table: str | Path, files: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]
) -> int:
    """Add files to a table in one commit, which there is also without any; return its version.

    Parameters
    ----------
    table : path
        Folder of a table with in-commit timestamps.
    files : sequence of mapping
        ``path`` in the folder, ``size`` [B], ``rows``, and of these rows ``least``, ``most`` and
        ``nulls`` by column.
    metadata : mapping
        Goes into the commit's user metadata as JSON.
    """
    log = Path(table) / "_delta_log"
    partial = log / f".{uuid.uuid4()}.tmp"
    try:
        while True:
            before = newest_version(table)
            if before is None:
                raise FileNotFoundError(f"{table} is no Delta table")
            lines = [_about(log, before, files, metadata), *map(_action, files)]
            partial.write_text("".join(json.dumps(line) + "\n" for line in lines))
            try:
                # Whoever links a version first has made it; files that are only added are in
                # nobody's way.
                os.link(partial, log / f"{before + 1:020d}.json")
            except FileExistsError:
                continue
            return before + 1
    finally:
        partial.unlink(missing_ok=True)


def _about(
    log: Path, before: int, files: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    with (log / f"{before:020d}.json").open() as stream:
        last = json.loads(stream.readline())["commitInfo"]["inCommitTimestamp"]
    return {
        "commitInfo": {
            # times of commits grow, whatever the clock does
            "inCommitTimestamp": max(int(time.time() * 1000), last + 1),
            "timestamp": int(time.time() * 1000),
            "operation": "WRITE",
            "operationParameters": {"mode": "Append", "partitionBy": "[]"},
            "readVersion": before,
            "isolationLevel": "Serializable",
            "isBlindAppend": True,
            "operationMetrics": {
                "numFiles": str(len(files)),
                "numOutputRows": str(sum(file["rows"] for file in files)),
                "numOutputBytes": str(sum(file["size"] for file in files)),
            },
            "userMetadata": json.dumps(metadata, sort_keys=True),
            "engineInfo": f"ampel_spark/{ampel_spark.__version__}",
            "txnId": str(uuid.uuid4()),
        }
    }


def _action(file: Mapping[str, Any]) -> dict[str, Any]:
    stats = {"numRecords": file["rows"], "minValues": file["least"], "maxValues": file["most"],
             "nullCount": file["nulls"]}  # fmt: skip
    return {
        "add": {
            "path": file["path"],
            "partitionValues": {},
            "size": file["size"],
            "modificationTime": int(time.time() * 1000),
            "dataChange": True,
            "stats": json.dumps(stats),
        }
    }
