"""Cross-matches of catalogues: this package, LSDB and scipy, in turns on the same data.

    python benchmarks/xmatch.py                      2 M × 2 M, 300 k × 20 M, cones, growth
    python benchmarks/xmatch.py --quick              a tenth of the rows, and two rounds
    python benchmarks/xmatch.py --lsdb VENV          with LSDB, put into VENV if it is not there

All sides read from disk (this package and LSDB prepared catalogues) and give the number of pairs
and the sum of their distances. Two cores; CPU counts children. "rows" is the plain way, the left
side through Spark (`match_rows`), "files" the fast one (`match_catalogs`). LSDB runs in a virtual
environment of its own, as its pins are other ones.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

RADIUS = 2.0

_LSDB = """
import json, sys, time, resource, warnings
warnings.simplefilter("ignore")
import dask, lsdb, pandas as pd
from pathlib import Path
folder = Path(sys.argv[1])
dask.config.set(scheduler="threads", num_workers=2)
for line in sys.stdin:
    what, a, b = line.split()
    started, cpu = time.perf_counter(), sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    if what == "prepare":
        frame = pd.read_parquet(folder / f"{a}.parquet")
        made = lsdb.from_dataframe(frame, ra_column="ra", dec_column="dec", margin_threshold=10.0,
                                   partition_rows=50_000)
        made.write_catalog(folder / f"{a}_hats", catalog_name=a, overwrite=True)
        told = [len(frame), 0.0]
    elif what == "match":
        left, right = (lsdb.open_catalog(folder / f"{n}_hats", columns=["id", "ra", "dec"])
                       for n in (a, b))
        found = left.crossmatch(right, radius_arcsec=2.0, n_neighbors=1).compute()
        told = [len(found), float(found[next(c for c in found.columns if "dist" in c)].sum())]
    print(json.dumps({"wall": time.perf_counter() - started, "told": told,
        "cpu": sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - cpu}), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--lsdb", type=Path, metavar="VENV", help="virtual environment for LSDB")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    scale = 10 if args.quick else 1
    rounds = 2 if args.quick else args.rounds
    with tempfile.TemporaryDirectory(prefix="xmatch-") as name:
        run(Path(name), scale, rounds, args.lsdb)


def run(folder: Path, scale: int, rounds: int, venv: Path | None) -> None:
    from ampel_spark.session import get_session
    from ampel_spark.sky.search import around

    sizes = {"a": 2_000_000, "b": 2_000_000, "many": 20_000_000, "few": 300_000}
    sizes |= {"objects5": 100_000, "objects6": 1_000_000, "objects7": 10_000_000}
    sizes = {name: n // scale for name, n in sizes.items()}
    make(folder, sizes)
    lsdb = None if venv is None else other(folder, venv)
    prepare(folder, "few")  # imports
    for name in ("b", "a"):  # LSDB's first is cold
        show(f"prepare {name}, {sizes[name]:,}", [measured(lambda n=name: prepare(folder, n))])
        if lsdb:
            show(f"prepare {name}, LSDB", [asked(lsdb, "prepare", name, "-")])
    spark = get_session("xmatch", master="local[2]")
    sides: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("files", lambda: measured(lambda: ours(spark, folder, "a", "b"))),
        ("rows", lambda: measured(lambda: plain(spark, folder, "a", "b"))),
        ("scipy from disk", lambda: measured(lambda: tree(folder, "a", "b"))),
    ]
    if lsdb:
        sides.insert(1, ("LSDB", lambda: asked(lsdb, "match", "a", "b")))
    in_turns(f"{sizes['a']:,} x {sizes['b']:,}", sides, rounds)
    if lsdb:
        lsdb.terminate()
        lsdb.wait()
    show(f"prepare many, {sizes['many']:,}", [measured(lambda: prepare(folder, "many"))])
    sides = [
        ("files", lambda: measured(lambda: ours(spark, folder, "few", "many"))),
        ("scipy from disk", lambda: measured(lambda: tree(folder, "few", "many"))),
    ]
    in_turns(f"{sizes['few']:,} x {sizes['many']:,}", sides, rounds)
    for name in ("objects5", "objects6", "objects7"):
        show(f"prepare {sizes[name]:,}", [measured(lambda n=name: prepare(folder, n))])
    sides = [
        (f"{sizes[name]:,} x {sizes['few']:,}",
         lambda n=name: measured(lambda: ours(spark, folder, n, "few")))
        for name in ("objects5", "objects6", "objects7")
    ]  # fmt: skip
    in_turns("growth", sides, rounds)
    rng = np.random.default_rng(9)
    ra, dec = rng.uniform(150, 170, 1000), rng.uniform(-10, 10, 1000)

    def cones(n: int) -> list[float]:
        found = around(folder, "a", ra[:n], dec[:n], 60.0, ["id"])
        return [len(found), float(pa.compute.sum(found["distance"]).as_py() or 0.0)]

    in_turns("cones", [("1 cone", lambda: measured(lambda: cones(1))),
              ("1,000 cones", lambda: measured(lambda: cones(1000)))], rounds)  # fmt: skip
    spark.stop()


def make(folder: Path, sizes: dict[str, int]) -> None:
    """Write catalogues of which half have a partner 0.7 arcsec away."""
    rng = np.random.default_rng(1)
    n, many, few = (sizes[name] for name in ("a", "many", "few"))

    def written(name: str, ra: Any, dec: Any) -> None:
        columns = {"id": rng.permutation(len(ra)), "ra": ra, "dec": dec, "z": rng.random(len(ra))}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")

    ra, dec = rng.uniform(150, 170, n), rng.uniform(-10, 10, n)
    written("a", ra, dec)
    half = n // 2
    ra[:half] += 0.5 / 3600
    dec[:half] += 0.5 / 3600
    ra[half:], dec[half:] = rng.uniform(150, 170, n - half), rng.uniform(-10, 10, n - half)
    order = rng.permutation(n)
    written("b", ra[order], dec[order])
    ra, dec = rng.uniform(100, 170, many), rng.uniform(-10, 60, many)
    written("many", ra, dec)
    some = rng.choice(many, few, replace=False)
    ra, dec = ra[some] + 0.5 / 3600, dec[some] + 0.5 / 3600
    ra[few // 2 :] = rng.uniform(100, 170, few - few // 2)
    written("few", ra, dec)
    for name in ("objects5", "objects6", "objects7"):
        # every sky position as likely: the match with the galaxies grows with the objects
        written(name, rng.uniform(100, 170, sizes[name]), rng.uniform(-10, 60, sizes[name]))


def prepare(folder: Path, name: str) -> list[float]:
    from ampel_spark.sky.sources import CatalogSettings, read_source
    from ampel_spark.sky.store import add

    table = read_source([folder / f"{name}.parquet"], CatalogSettings(id="id"), name)
    stored, _ = add(folder, name, table)
    return [float(stored.tiles.rows.sum()), 0.0]


def ours(spark: Any, folder: Path, a: str, b: str) -> list[float]:
    from pyspark.sql import functions as f

    from ampel_spark.sky.bulk import match_catalogs
    from ampel_spark.sky.store import folder_of

    pairs = match_catalogs(spark, (folder_of(folder, a), 0), (folder_of(folder, b), 0), RADIUS)
    row = pairs.agg(f.count("*"), f.sum("distance")).collect()[0]
    return [row[0], row[1] or 0.0]


def plain(spark: Any, folder: Path, a: str, b: str) -> list[float]:
    from pyspark.sql import functions as f

    from ampel_spark.sky.bulk import match_rows
    from ampel_spark.sky.store import folder_of

    rows = spark.read.format("delta").load(str(folder_of(folder, a) / "rows"))
    row = match_rows(rows, (folder_of(folder, b), 0), RADIUS).agg(f.count("*"), f.sum("distance"))
    n, total = row.collect()[0]
    return [n, total or 0.0]


def tree(folder: Path, a: str, b: str) -> list[float]:
    """Match by scipy's tree on unit vectors, two threads, the small side as the index.

    With the left side as the index, each right row gives its nearest left one alone: where two left
    rows are near one right row, the farther one's pair is missing.
    """
    from scipy.spatial import cKDTree

    from ampel_spark.sky.angles import ARCSEC, unit_vectors

    sides = []
    for name in (a, b):
        table = pq.read_table(folder / f"{name}.parquet", columns=["ra", "dec"])
        sides.append(unit_vectors(table["ra"].to_numpy(), table["dec"].to_numpy()))
    small = int(len(sides[0]) >= len(sides[1]))
    index = cKDTree(sides[small], balanced_tree=False, compact_nodes=False)
    chord = 2 * np.sin(0.5 * RADIUS * ARCSEC)
    d, i = index.query(sides[1 - small], distance_upper_bound=chord, workers=2)
    if small == 1:
        good = np.isfinite(d)
        return [int(good.sum()), float((2 * np.arcsin(d[good] / 2) / ARCSEC).sum())]
    best = np.full(len(sides[0]), np.inf)
    good = np.isfinite(d)
    np.minimum.at(best, i[good], d[good])
    best = best[np.isfinite(best)]
    return [len(best), float((2 * np.arcsin(best / 2) / ARCSEC).sum())]


def other(folder: Path, venv: Path) -> subprocess.Popen[str]:
    """Start LSDB in its virtual environment, which is made where it is not there."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "lsdb==0.11.1"], check=True)
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.Popen([python, "-c", _LSDB, str(folder)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                            env=clean)  # fmt: skip


def asked(process: subprocess.Popen[str], *words: str) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(" ".join(words) + "\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def measured(work: Callable[[], list[float]]) -> dict[str, Any]:
    started, cpu = time.perf_counter(), _cpu()
    told = work()
    return {"wall": time.perf_counter() - started, "cpu": _cpu() - cpu, "told": told}


def _cpu() -> float:
    """Return the CPU seconds of this process and of all below it (Java, Python workers)."""
    total = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    tick = os.sysconf("SC_CLK_TCK")
    parents = {}
    times = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
        times[int(stat.parent.name)] = sum(map(int, fields[11:15])) / tick
    below, grown = {os.getpid()}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in below} - below
        grown = bool(more)
        below |= more
    return total + sum(times[pid] for pid in below - {os.getpid()})


def in_turns(what: str, sides: list[tuple[str, Callable[[], dict[str, Any]]]], rounds: int) -> None:
    """Measure the sides in turns, after one round that does not count."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name, _ in sides}
    for turn in range(rounds + 1):
        for name, side in sides:
            one = side()
            if turn:
                found[name].append(one)
    for name, results in found.items():
        show(f"{what}, {name}", results)


def show(name: str, results: list[dict[str, Any]]) -> None:
    walls = sorted(r["wall"] for r in results)
    cpu = statistics.median(r["cpu"] for r in results)
    n, total = results[0]["told"]
    print(
        f"{name:42} {statistics.median(walls):8.3f} s ({walls[0]:.3f}-{walls[-1]:.3f})"
        f"  CPU {cpu:7.2f} s  {int(n):>9} {total:.6f}  load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
