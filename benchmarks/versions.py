"""Two checkouts of this project in turns: what each command costs, and whether the tables agree.

    python benchmarks/versions.py OLD NEW [--archive PATH …] [--job JOB.yml] [--runs N]

`OLD` and `NEW` are folders of checkouts that were set up (`./setup.sh`). In each of `--runs` turns
and for each checkout, a fresh lake takes four commands, one process each: ``ingest`` of the
archive, the first ``run`` of the job, a ``rerun`` under another calibration release, and a
``rerun`` that changes nothing. A turn before, which does not count, simulates and compiles.
Printed are the medians of CPU time (the JVM and its workers included) and of wall time, the ratio
of the medians, and the wall time of each tier as the record of the run has it. Then the tables of
both lakes are compared, row by row, in the columns that can be equal: not run ids, times, traces,
input hashes. The exit code is 1 where a row differs.

Without `--archive`, the job's own is taken, which is simulated once for both.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from deltalake import DeltaTable

#: Columns that differ between two equal runs, or between two versions of the code by design.
APART = frozenset(
    {
        *("run_id", "duration_ms", "attempts", "started", "ended", "committed", "seconds", "path"),
        *("file", "trace_id", "input_hash", "datapoints_version", "alerts_version"),
        *("quarantine_version", "sightings_version", "chunk", "variation_run_id"),
    }
)

#: Tables that are about runs, not about the sky.
RECORDS = frozenset({"runs", "pins"})

_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the turns and print the tables; return 1 where the checkouts' tables differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--archive", nargs="+", type=Path)
    parser.add_argument("--job", default="jobs/quickstart.yml")
    parser.add_argument("--calibration", default="zp_g_10mmag", help="release of the first rerun")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args(arguments)
    sides = {"old": given.old.resolve(), "new": given.new.resolve()}
    # Workers that outlive their JVM become children of this process, so that their time counts.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    costs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    tiers: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="versions-") as scratch:
        archives = os.path.join(scratch, "archives")
        for turn in range(given.runs + 1):
            lakes = {}
            for side, checkout in sides.items():
                lake = lakes[side] = Path(scratch) / f"lake-{side}"
                shutil.rmtree(lake, ignore_errors=True)
                for step, words in _steps(given, archives).items():
                    cost = _timed(checkout, [*words, "--lake", str(lake)], archives)
                    if turn > 0:
                        costs.setdefault((step, side), []).append(cost)
                for (step, tier), seconds in _tiers(lake).items():
                    if turn > 0:
                        tiers.setdefault((f"{step} {tier}", side), []).append(seconds)
        different = _compared(lakes["old"], lakes["new"])
    _print(costs, tiers)
    print("\n".join(["", *different]))
    return int(any("differ" in line for line in different))


def _steps(given: argparse.Namespace, archives: str) -> dict[str, list[str]]:
    real = [str(path) for path in given.archive or ()]
    simulated = sorted(str(path) for path in Path(archives).glob("simulated-*/*.tar.gz"))
    steps = {
        "ingest": ["ingest", *(real or simulated)],
        "run": ["run", given.job, *(["--archive", *real] if real else [])],
        "recalibrated": ["rerun", "latest", "--calibration", given.calibration],
        "again": ["rerun", "latest"],
    }
    if not real and not simulated:  # the first run makes it
        del steps["ingest"]
    return steps


def _timed(checkout: Path, words: Sequence[str], archives: str) -> tuple[float, float]:
    """Run a command of a checkout; return CPU and wall time of all that it started [s]."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AMPEL_SPARK")}
    environment |= {
        "AMPEL_SPARK_ARCHIVES": archives,
        "MASTER": environment.get("MASTER", "local[2]"),
        "PYTHONPATH": str(checkout),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }
    program = checkout / ".venv" / "bin" / "ampel-spark"
    before, started = os.times(), time.monotonic()
    done = subprocess.run(
        [program, *words], cwd=checkout, env=environment, capture_output=True, text=True
    )
    _reap()
    after = os.times()
    if done.returncode not in (0, 3):
        sys.exit(f"{program} {' '.join(words)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    cpu = sum(after[i] - before[i] for i in (2, 3))
    return cpu, time.monotonic() - started


def _reap() -> None:
    """Wait for what the command left behind."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _tiers(lake: Path) -> dict[tuple[str, str], float]:
    """Return the wall time of each tier of the three runs of a lake [s]."""
    rows = DeltaTable(str(lake / "runs")).to_pyarrow_table().to_pylist()
    runs = sorted((r for r in rows if r["job"] != "ingest"), key=lambda row: row["started"])
    return {
        (step, tier): seconds
        for step, run in zip(("run", "recalibrated", "again"), runs, strict=False)
        for tier, seconds in json.loads(run["counts"]).get("seconds", {}).items()
    }


def _compared(old: Path, new: Path) -> list[str]:
    names = sorted(
        {p.parent.relative_to(lake).as_posix() for lake in (old, new)
         for p in lake.rglob("_delta_log")} - RECORDS
    )  # fmt: skip
    lines = []
    for name in names:
        absent = [side for side, lake in (("old", old), ("new", new)) if not (lake / name).exists()]
        if absent:
            lines.append(f"{name}: absent in {absent[0]}")
            continue
        a, b = (_rows(lake / name) for lake in (old, new))
        shared = [c for c in a[0] if c in b[0] and c not in APART]
        left, right = (_counted(rows, shared) for _, rows in (a, b))
        apart = sum(((left - right) + (right - left)).values())
        only = sorted(set(a[0]) ^ set(b[0]))
        lines.append(
            f"{name}: {sum(left.values())} and {sum(right.values())} rows, {len(shared)} columns: "
            + (f"{apart} rows differ" if apart else "equal")
            + (f"; columns of one side: {', '.join(only)}" if only else "")
        )
    return lines


def _rows(folder: Path) -> tuple[list[str], list[dict[str, object]]]:
    table = DeltaTable(str(folder)).to_pyarrow_table()
    return table.column_names, table.to_pylist()


def _counted(rows: Sequence[dict[str, object]], columns: Sequence[str]) -> Counter[str]:
    # repr tells -0.0 from 0.0, and every bit of a number
    return Counter(repr([row[c] for c in columns]) for row in rows)


def _print(
    costs: dict[tuple[str, str], list[tuple[float, float]]],
    tiers: dict[tuple[str, str], list[float]],
) -> None:
    head = ("old CPU", "new CPU", "ratio", "old wall", "new wall")
    print(f"{'command':24}", *(f"{word:>9}" for word in head))
    for step in dict.fromkeys(step for step, _ in costs):
        (old_cpu, old_wall), (new_cpu, new_wall) = (
            tuple(statistics.median(values) for values in zip(*costs[step, side], strict=True))
            for side in ("old", "new")
        )
        print(f"{step:24} {old_cpu:9.1f} {new_cpu:9.1f} {new_cpu / old_cpu:9.3f} {old_wall:9.1f} "
              f"{new_wall:9.1f}")  # fmt: skip
    for step in dict.fromkeys(step for step, _ in tiers):
        old, new = (statistics.median(tiers.get((step, side), [float("nan")])) for side in
                    ("old", "new"))  # fmt: skip
        print(f"{step:24} {'':9} {'':9} {'':9} {old:9.1f} {new:9.1f}")


if __name__ == "__main__":
    sys.exit(main())
