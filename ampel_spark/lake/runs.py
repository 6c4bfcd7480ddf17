"""The journal of runs: what ran, on what versions, with what outcome."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ampel_spark.lake.lake import Lake
from ampel_spark.lake.tables import TABLES

__all__ = [
    "FAILED",
    "GOOD",
    "PARTIAL",
    "RUNNING",
    "Run",
    "git_commit",
    "new_run_id",
    "record",
    "software",
]

RUNNING, GOOD, PARTIAL, FAILED = "running", "good", "partial", "failed"

#: Distributions whose versions a run records.
_DISTRIBUTIONS = ("ampel_spark", "pyspark", "delta-spark", "numpy", "scipy", "pandas", "pyarrow",
                  "astropy", "astropy-healpix", "sncosmo", "iminuit", "fastavro", "xxhash",
                  "numba")  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One row of ``runs``; the mappings are written as JSON."""

    run_id: str
    job: str
    job_hash: str
    job_text: str
    job_file: str
    job_resolved: str
    calibration: str
    started: datetime.datetime
    status: str = RUNNING
    message: str | None = None
    ended: datetime.datetime | None = None
    parent_run_id: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    traces: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None

    def finished(self, status: str, message: str | None = None, **changes: Any) -> Run:
        """Return the run with its outcome."""
        return replace(self, status=status, message=message, ended=utc_now(), **changes)


def utc_now() -> datetime.datetime:
    """Return the time now, UTC."""
    return datetime.datetime.now(datetime.UTC)


def new_run_id(job: str, started: datetime.datetime) -> str:
    """Return an id for a run: its job's name, its start, and four random digits."""
    return f"{job}-{started:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def record(lake: Lake, run: Run) -> None:
    """Write a run's row, in the place of the one it had."""
    table = TABLES["runs"]
    lake.ensure(table)
    values = []
    for name in table.names:
        value = getattr(run, name)
        values.append(json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value)
    rows = lake.spark.createDataFrame([tuple(values)], table.schema()).coalesce(1)
    lake.replace(table, rows, f"run_id = '{run.run_id}'", {"run_id": run.run_id})


def software() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    found["java"] = _java()
    return found


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    program = f"{home}/bin/java" if home else "java"
    try:
        told = subprocess.run(
            [program, "-version"], capture_output=True, text=True, check=True
        ).stderr
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    version = re.search(r'version "([^"]+)"', told)
    return version[1] if version else "unknown"


def git_commit() -> str | None:
    """Return the project's commit, with ``+`` where files are changed; None outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
