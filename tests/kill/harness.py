"""Drivers started, killed at chosen moments and started again; lakes compared.

A moment is a tier and seconds into it, or a table and the version after whose commit the driver
dies: between two commits of one step is where a half-done thing would show.
"""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from ampel_spark.archive.reading.ztf import alerts_table
from ampel_spark.lake.decisions import decisions_of
from ampel_spark.lake.reading import read, table_names
from ampel_spark.lake.runs import find_run
from ampel_spark.lake.tables import INCOMPARABLE, TABLES
from tests.conftest import PROJECT

__all__ = ["Moment", "Outcome", "differences", "drive", "moments", "simulated", "start"]

#: Lines after which a driver is in a tier.
BEGINS = {
    "start": "",
    "ingest": "started",
    "T0": "run kill",
    "T1": "T0: channel",
    "T2": "T1: ",
    "T3": "T2: summary",
}

#: Bytes of a chunk: the archive of 400 alerts makes some four of them.
CHUNK = 1_200_000

#: Tables of which every run writes rows of its own.
PER_RUN = ("state_channels", "candidates", "pins")

#: Columns that kills may change beside those that no two runs share: numbers and times of commits.
COUNTED = ("chunk", "version", "pinned")

_LIMIT = 900.0  # seconds for a driver


@dataclass(frozen=True)
class Moment:
    """When to kill: `seconds` into a tier, or when `table` has `version`."""

    tier: str = "start"
    seconds: float = 0.0
    table: str | None = None
    version: int = 0

    def __str__(self) -> str:
        """Say it in words."""
        if self.table is not None:
            return f"after commit {self.version} of {self.table}"
        return f"{self.seconds:.2f} s into {self.tier}"


@dataclass(frozen=True)
class Outcome:
    """How a driver ended: exit code (None: killed), the tier it was in, its lines."""

    code: int | None
    tier: str
    lines: list[str]


def simulated(folder: Path, alerts: int = 400) -> Path:
    """Make the archive that all of this works on, and return its folder."""
    from ampel_spark.simulate import simulate

    made = simulate(
        folder / "archive",
        alerts=alerts,
        nights=alerts // 20,
        first_night="2024-03-01",
        seed=18,
        cutouts="none",
    )
    return made.path


def start(
    lake: Path,
    archive: Path,
    settings: Sequence[str] = (),
    master: str = "local[2]",
    chunk: int = CHUNK,
) -> subprocess.Popen[str]:
    """Start a driver in a process group of its own."""
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "MASTER": master}
    command = [sys.executable, "-m", "tests.kill.driver", str(lake), str(archive), str(chunk)]
    return subprocess.Popen(
        [*command, *settings],
        cwd=PROJECT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def drive(
    lake: Path,
    archive: Path,
    moment: Moment | None = None,
    settings: Sequence[str] = (),
    whole_group: bool = True,
    chunk: int = CHUNK,
) -> Outcome:
    """Run a driver to its end, or to its moment.

    Parameters
    ----------
    whole_group : bool
        Kill the JVM and the workers with it; else Python alone, and leave the JVM to find out.
    chunk : int
        Bytes of files that a driver commits at a time.
    """
    process = start(lake, archive, settings, chunk=chunk)
    lines: list[str] = []
    tier, since = "start", time.monotonic()
    ends = since + _LIMIT
    for line in _lines(process):
        if line is not None:
            lines.append(line)
            later = list(BEGINS)[list(BEGINS).index(tier) + 1 :]
            for name in later:
                if line.startswith(BEGINS[name]):
                    tier, since = name, time.monotonic()
        if moment is not None and _is_now(moment, lake, tier, time.monotonic() - since):
            if process.poll() is not None:
                break
            if whole_group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            return Outcome(None, tier, lines)
        if time.monotonic() > ends:
            os.killpg(process.pid, signal.SIGKILL)
            raise TimeoutError(f"a driver took more than {_LIMIT:.0f} s: {lines[-5:]}")
    return Outcome(process.wait(), tier, lines)


def _lines(process: subprocess.Popen[str]) -> Iterator[str | None]:
    """Yield the lines of a process as they come, and None every few milliseconds between."""
    waiting: queue.Queue[str | None] = queue.Queue()

    def pump(stream: IO[str]) -> None:
        with stream:
            for line in stream:
                waiting.put(line.rstrip("\n"))
        waiting.put(None)

    assert process.stdout is not None
    threading.Thread(target=pump, args=(process.stdout,), daemon=True).start()
    while True:
        try:
            line = waiting.get(timeout=0.005)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        yield line


def _is_now(moment: Moment, lake: Path, tier: str, seconds: float) -> bool:
    if moment.table is not None:
        return (lake / moment.table / "_delta_log" / f"{moment.version:020}.json").exists()
    # A tier that is over before its moment comes is killed in the next.
    order = list(BEGINS)
    return order.index(tier) > order.index(moment.tier) or (
        tier == moment.tier and seconds >= moment.seconds
    )


def moments(seed: int, n: int, lengths: Mapping[str, float]) -> list[Moment]:
    """Return `n` moments: spread over the tiers in turn, at random within each.

    Parameters
    ----------
    lengths : mapping of str to float
        Seconds that each tier takes undisturbed.
    """
    draw = random.Random(seed)
    tiers = ("ingest", "T0", "T1", "T2", "ingest", "T2")
    return [
        Moment(tier, draw.uniform(0.0, lengths[tier]))
        for tier in (tiers[i % len(tiers)] for i in range(n))
    ]


def differences(lake: Path, other: Path) -> list[str]:
    """Say what differs between two lakes of the same archive, and what stands twice in the first.

    Of tables that every run writes rows of, those of each lake's last run are compared.
    """
    found = [f"only in one lake: {name}" for name in {*table_names(lake)} ^ {*table_names(other)}]
    runs = [_runs(each) for each in (lake, other)]
    keys = {name: table.key for name, table in (TABLES | {"alerts": alerts_table()}).items()}
    for name in sorted({*table_names(lake)} & {*table_names(other)} - {"runs"}):
        one, two = (_rows(each, name, runs[i]) for i, each in enumerate((lake, other)))
        if one != two:
            here, there = len(one), len(two)
            example = next(iter(set(one) ^ set(two)), None)
            found.append(f"{name}: {here} rows here and {there} there differ, as {example}")
        key = keys.get(name, ("state_id", "trace_id", "input_hash"))
        if key:
            rows = read(lake, name, list(key)).to_pylist()
            if len({tuple(map(str, row.values())) for row in rows}) < len(rows):
                found.append(f"{name}: keys stand twice")
        if name in PER_RUN:
            unknown = set(read(lake, name, ["run_id"])["run_id"].to_pylist()) - set(runs[0])
            if unknown:
                found.append(f"{name}: rows of runs that no record knows: {sorted(unknown)}")
    if (lake / "_staging").is_dir() and any((lake / "_staging").iterdir()):
        found.append(f"staging was left: {[p.name for p in (lake / '_staging').iterdir()]}")
    return found


def _runs(lake: Path) -> list[str]:
    rows = read(lake, "runs", ["run_id", "started", "status"]).to_pylist()
    return [row["run_id"] for row in sorted(rows, key=lambda r: r["started"])]


def _rows(lake: Path, name: str, runs: Sequence[str]) -> list[str]:
    table: pa.Table = read(lake, name)
    if name == "decisions":  # they belong to sets, which runs refer to
        table = decisions_of(lake, find_run(lake, runs[-1]))
    elif name in PER_RUN:
        table = table.filter(pa.array([run == runs[-1] for run in table["run_id"].to_pylist()]))
    columns = [
        c for c in table.column_names
        if c not in INCOMPARABLE and not c.endswith("_version") and c not in COUNTED
    ]  # fmt: skip
    if name == "archive_files":
        columns.append("path")
    return sorted(json.dumps(row, default=str) for row in table.select(columns).to_pylist())


def lengths_of(lines: Sequence[tuple[float, str]]) -> dict[str, float]:
    """Return the seconds that a driver spent in each tier, from its lines with their times."""
    begins: dict[str, float] = {}
    for seconds, line in lines:
        for name, begin in BEGINS.items():
            if begin and line.startswith(begin):
                begins.setdefault(name, seconds)
    names = list(begins)
    ends = [*(begins[name] for name in names[1:]), lines[-1][0]]
    return {name: end - begins[name] for name, end in zip(names, ends, strict=True)}


def timed(lake: Path, archive: Path, settings: Sequence[str] = ()) -> tuple[int, dict[str, Any]]:
    """Run a driver undisturbed; return its exit code and the seconds it spent in each tier."""
    process = start(lake, archive, settings)
    lines: list[tuple[float, str]] = []
    for line in _lines(process):
        if line is not None:
            lines.append((time.monotonic(), line))
    code = process.wait()
    if code:
        print("\n".join(line for _, line in lines[-30:]))
    return code, lengths_of(lines)
