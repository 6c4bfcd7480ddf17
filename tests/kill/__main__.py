"""The kill test, ``make kill-test``: it prints every kill, and what was wrong after it, if any.

Drivers are killed at random moments (of a fixed seed) of every tier, several times in a row on one
lake; then one runs to its end, and the lake must equal that of an undisturbed driver. Then an
executor of a local cluster is killed, and two drivers share a lake.
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.kill.harness import (
    Moment,
    differences,
    drive,
    moments,
    simulated,
    start,
    timed,
)

#: Commits after which a driver dies: each step of a chunk, and each table of a run.
COMMITS = (
    Moment(table="datapoints", version=2),
    Moment(table="alerts", version=1),
    Moment(table="archive_files", version=1),
    Moment(table="states", version=1),
    Moment(table="t2_patient", version=1),
    Moment(table="decisions", version=1),
)


def main(arguments: list[str]) -> int:
    """Run all of it; return 1 where something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=24, help="kills of drivers (default: 24)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--in-a-row", type=int, default=4, help="kills per lake (default: 4)")
    parser.add_argument("--keep", type=Path, help="folder to work in, and to keep")
    options = parser.parse_args(arguments)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="kill-"))
    folder.mkdir(parents=True, exist_ok=True)
    archive = simulated(folder)
    code, lengths = timed(folder / "undisturbed", archive)
    if code:
        print("the undisturbed driver failed")
        return 1
    print("undisturbed: " + ", ".join(f"{k} {v:.1f} s" for k, v in lengths.items()), flush=True)
    wrong = _kills(folder, archive, options, lengths)
    wrong += _executor(folder, archive)
    wrong += _two_drivers(folder, archive)
    print(f"{'wrong: ' + str(wrong) if wrong else 'all equal'}")
    if options.keep is None:
        shutil.rmtree(folder)
    return 1 if wrong else 0


def _kills(
    folder: Path, archive: Path, options: argparse.Namespace, lengths: dict[str, float]
) -> int:
    timed_ones = moments(options.seed, max(0, options.kills - len(COMMITS)), lengths)
    todo = [*timed_ones, *COMMITS][: options.kills]
    counts = collections.Counter[str]()
    wrong = 0
    for first in range(0, len(todo), options.in_a_row):
        lake = folder / f"lake{first}"
        for number, moment in enumerate(todo[first : first + options.in_a_row], first):
            # Every third time Python alone dies, and its JVM has to notice.
            outcome = drive(lake, archive, moment, whole_group=number % 3 != 2)
            if outcome.code is not None:
                if outcome.code:
                    print("\n".join(outcome.lines[-30:]))
                wrong += bool(outcome.code)
                print(f"kill {number + 1}: {moment}: ended by itself, {outcome.code}", flush=True)
                continue
            counts[outcome.tier] += 1
            print(f"kill {number + 1}: {moment}: killed in {outcome.tier}", flush=True)
        outcome = drive(lake, archive)
        bad = differences(lake, folder / "undisturbed")
        wrong += bool(outcome.code) + len(bad)
        told = outcome.lines[-30:] if outcome.code else []
        print("\n".join([*told, *bad, f"{lake.name}: exit code {outcome.code}, {len(bad)} wrong"]),
              flush=True)  # fmt: skip
        if not bad and not outcome.code and options.keep is None:
            shutil.rmtree(lake)
    print(f"kills: {sum(counts.values())}: " + ", ".join(f"{k} {n}" for k, n in counts.items()))
    return wrong


def _executor(folder: Path, archive: Path) -> int:
    """Kill an executor of a local cluster in the middle of T2; the run must not notice."""
    lake = folder / "executor"
    process = start(lake, archive, master="local-cluster[2,1,1024]")
    lines, killed = [], False
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("T2: patient") and not killed:
            time.sleep(1.0)
            killed = _kill_executor(process.pid)
    code = process.wait()
    bad = differences(lake, folder / "undisturbed")
    if code or not killed:
        print("\n".join(lines[-20:]))
    print("\n".join([*bad, f"executor: killed {killed}, exit code {code}, {len(bad)} wrong"]))
    return len(bad) + bool(code) + (not killed)


def _kill_executor(group: int) -> bool:
    """Kill the first executor among the descendants of a driver."""
    told = subprocess.run(
        ["ps", "-eo", "pid=,pgid=,args="], capture_output=True, text=True, check=True
    )
    for row in told.stdout.splitlines():
        pid, its_group, text = row.split(None, 2)
        if int(its_group) == group and "CoarseGrainedExecutorBackend" in text and "java" in text:
            os.kill(int(pid), signal.SIGKILL)
            return True
    return False


def _two_drivers(folder: Path, archive: Path) -> int:
    """Let two drivers work on one lake: of one job, of two jobs, and one killed meanwhile."""
    wrong = 0
    other = ["t2.0.config.wait=0.01", "t0.1.config.conditions=[magpsf < 19.0]"]
    one_after_the_other = folder / "in-turn"
    for settings in ([], other):
        timed(one_after_the_other, archive, settings)
    for name, settings, expected in (
        ("same-job", [], folder / "undisturbed"),
        ("two-jobs", other, one_after_the_other),
    ):
        lake = folder / name
        processes = [start(lake, archive, s) for s in ([], settings)]
        told = [process.communicate()[0] for process in processes]
        codes = [process.returncode for process in processes]
        # The rows of one run are those of the other, or are compared with its own job's last.
        timed(lake, archive, settings)
        bad = differences(lake, expected)
        for code, text in zip(codes, told, strict=True):
            if code:
                print(text[-3000:])
        print("\n".join([*bad, f"{name}: exit codes {codes}, {len(bad)} wrong"]), flush=True)
        wrong += len(bad) + sum(map(bool, codes))
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
