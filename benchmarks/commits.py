"""Commits that race: processes that write to one table at once, some of them killed.

::

    python benchmarks/commits.py race     # appends of four processes: --commits in all
    python benchmarks/commits.py keys --kills 4    # keyed inserts that overlap, with kills

The lake is in a temporary folder, or where `--at` says: a folder or ``s3://BUCKET/NAME`` that is
not there yet.

Every row has to be there once: what is lost or there twice is counted, and is an error.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa

from ampel_spark.lake.commits import add_parts, insert, written
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.log import actions_of, newest_version
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.reading import read
from ampel_spark.lake.tables import Table, TableColumn
from ampel_spark.store import place

_NUMBER = TableColumn("k", "bigint", "key")
JOURNAL = Table("journal", "a row", (_NUMBER,))
KEYED = Table("keyed", "a row that stands once", (_NUMBER,), ("k",))

#: Keys of one keyed insert; its next one has half of them again.
_KEYS = 20


def write(kind: str, root: Path, begin: int, end: int) -> None:
    """Commit the numbers from `begin` to `end`, a commit each."""
    lake = Lake(None, root)
    table = JOURNAL if kind == "race" else KEYED
    schema = arrow_schema(table)
    for i in range(begin, end):
        keys = [i] if kind == "race" else range(i * _KEYS // 2, i * _KEYS // 2 + _KEYS)
        rows = pa.table({"k": pa.array(keys, pa.int64())}, schema=schema)
        if kind == "race":
            add_parts(lake, table, written(lake, table, rows), {"i": i})
        else:
            insert(lake, table, rows, {"i": i})


def measure(kind: str, commits: int, processes: int, kills: int, at: str | None) -> int:
    """Let processes write, kill some, and print what is in the table; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="ampel_spark-commits-") as folder:
        root = place(at or Path(folder) / "lake")
        lake = Lake(None, root)
        table = JOURNAL if kind == "race" else KEYED
        lake.ensure(table)
        each = commits // processes
        # Keyed inserts are of the same keys in every process, so that each meets the others.
        begins = [p * each if kind == "race" else 0 for p in range(processes)]
        started = time.monotonic()
        running = [_start(kind, root, begin, begin + each) for begin in begins]
        killed, dice = 0, random.Random(1)
        while any(process.poll() is None for process in running):
            time.sleep(0.5)
            one = dice.randrange(processes)
            if killed < kills and running[one].poll() is None:
                running[one].kill()
                running[one].wait()
                running[one] = _start(kind, root, begins[one], begins[one] + each)
                killed += 1
        seconds = time.monotonic() - started
        if any(process.returncode for process in running):
            raise SystemExit("a process failed")
        rows = Counter(read(root, table.name, ["k"])["k"].to_pylist())
        ends = [begin + each for begin in begins]
        last = max(ends) if kind == "race" else (max(ends) - 1) * _KEYS // 2 + _KEYS
        wanted = (each * processes) if kind == "race" else last
        lost = len(set(range(wanted)) - set(rows))
        twice = sum(n > 1 for n in rows.values())
        newest = newest_version(root / table.name) or 0
        named = {
            action["add"]["path"]
            for version in range(newest + 1)
            for action in actions_of(root / table.name, version)
            if "add" in action
        }
        parts = {path.name for path in (root / table.name).glob("*.parquet")}
        print(
            f"{kind}: {processes} processes, {newest} commits in {seconds:.0f} s"
            f" ({1e3 * seconds / max(newest, 1):.1f} ms each), {killed} killed;"
            f" rows {sum(rows.values())}, wanted {wanted}: lost {lost}, twice {twice};"
            f" {len(parts - named)} parts that no commit names"
        )
        return 1 if lost or twice else 0


def _start(kind: str, root: Path, begin: int, end: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--write", kind, str(root), str(begin), str(end)]
    return subprocess.Popen(command)


def main() -> int:
    """Run what the command line asks for."""
    if sys.argv[1:2] == ["--write"]:
        kind, root, begin, end = sys.argv[2:]
        write(kind, place(root), int(begin), int(end))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("kind", choices=("race", "keys"))
    parser.add_argument("--commits", type=int, default=2_000, help="in all (default: 2000)")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--at", metavar="LAKE")
    args = parser.parse_args()
    return measure(args.kind, args.commits, args.processes, args.kills, args.at)


if __name__ == "__main__":
    sys.exit(main())
