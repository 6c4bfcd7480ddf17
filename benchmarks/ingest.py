"""How fast archives become tables, against a plain loop that writes nothing.

    python benchmarks/ingest.py                      rates: 12,000 packets with cutouts of real size
    python benchmarks/ingest.py --growth 10000 100000     the same, of small packets
    python benchmarks/ingest.py --nights 300         the cost of every night, in one lake
    python benchmarks/ingest.py --memory             one tar of several times the memory given
    python benchmarks/ingest.py --layout             what reads cost, as ingested and otherwise

The plain loop untars and calls ``fastavro.reader`` on every packet. Both sides read the same files,
one per core and more, in processes of their own that are pinned to as many cores. The loop, and the
floor, unpack with zlib, as Python does; ours with zlib-ng. Packets are resampled from original ones
(``--originals``, a folder of ``.avro`` files), else simulated with real cutouts.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gzip
import io
import multiprocessing
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FILES = 8


def resample(originals: list[Path], folder: Path, packets: int, nights: int) -> None:
    """Write nightly files of original packets under new ids, names and times.

    An object has an alert every other night, which shows the history of its original, moved to the
    days before, and the object's own earlier alerts.
    """
    import fastavro

    draw = random.Random(1)
    pool = []
    for path in originals:
        with path.open("rb") as stream:
            reader = fastavro.reader(stream)
            packet = next(reader)
            if isinstance(packet, dict) and packet.get("schemavsn") == "3.3":
                pool.append((reader.writer_schema, packet))
    folder.mkdir(parents=True, exist_ok=True)
    per_night = packets // nights
    chosen = [draw.randrange(len(pool)) for _ in range(2 * per_night)]
    own: list[list[dict[str, Any]]] = [[] for _ in chosen]
    for night in range(nights):
        day = time.strftime("%Y%m%d", time.gmtime((2460310.5 + night - 2440587.5) * 86400))
        with tarfile.open(folder / f"ztf_public_{day}.tar.gz", "w:gz", compresslevel=1) as tar:
            for k in range(night % 2, 2 * per_night, 2):
                schema, packet = pool[chosen[k]]
                candid = (2557 + night) * 10**15 + k
                body = {**packet["candidate"], "candid": candid}
                body["jd"] = 2460310.5 + night + (k % 9000) * 1e-4
                first = own[k][0]["jd"] if own[k] else body["jd"]
                moved = first - packet["candidate"]["jd"]
                before = [
                    {**each, "jd": each["jd"] + moved} for each in packet["prv_candidates"] or ()
                ]
                known = {name for each in before for name in each}
                mine = [{name: each[name] for name in known} for each in own[k] if known]
                own[k].append(body)
                made = {**packet, "candid": candid, "objectId": name_of(k), "candidate": body,
                        "prv_candidates": [*before, *mine] or None}  # fmt: skip
                stream = io.BytesIO()
                fastavro.writer(stream, schema, [made], codec="null")
                info = tarfile.TarInfo(f"{candid}.avro")
                info.size = stream.tell()
                stream.seek(0)
                tar.addfile(info, stream)


def name_of(number: int) -> str:
    """Return a name for an object."""
    letters = ""
    for _ in range(7):
        letters, number = chr(97 + number % 26) + letters, number // 26
    return f"ZTF24{letters}"


def gunzip(path: Path) -> int:
    """Unpack a file and look at nothing: the floor of a reader with zlib."""
    with gzip.open(path) as stream:
        while stream.read(1 << 20):
            pass
    return 0


def plain(path: Path) -> int:
    """Untar, and decode every packet."""
    import fastavro

    n = 0
    with tarfile.open(path, "r|gz") as tar:
        for member in tar:
            data = tar.extractfile(member)
            if data is not None:
                n += sum(1 for _ in fastavro.reader(io.BytesIO(data.read())))
    return n


def reader(path: Path) -> int:
    """Read a file as the workers do: what is left is Spark's."""
    from ampel_spark.archive.reading.packets import read_batches

    return sum(batch.num_rows for batch in read_batches([str(path)]))


def spread(work: Callable[[Path], int], files: list[Path], cores: int) -> float:
    """Return the seconds that `work` takes on files, over some processes that are warm."""
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.map(work, files[:1] * cores, chunksize=1)
        started = time.perf_counter()
        pool.map(work, files, chunksize=1)
        return time.perf_counter() - started


@contextlib.contextmanager
def pinned(cores: int) -> Iterator[None]:
    """Keep this process, and all that it starts, on some cores: a JVM would take what is idle."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(mine)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def layout(spark: Any, place: Path, folder: Path) -> None:
    """Read what tiers read of a lake as it was ingested, and of one put in order in three ways."""
    from ampel_spark.archive.committing.ingest import ingest
    from ampel_spark.lake.lake import Lake
    from ampel_spark.lake.maintenance import compact

    lake = Lake(spark, place / "lake")
    ingest(spark, lake, [folder], out=lambda line: None, nightly=True)
    some = lake.arrow("alerts", ["stock", "hpx", "jd"]).sort_by("stock")
    stock, hpx = (some[name][len(some) // 2].as_py() for name in ("stock", "hpx"))
    jds = sorted(some["jd"].to_pylist())
    low, high = jds[len(jds) // 2] - 1.5, jds[len(jds) // 2] + 1.5
    cell = 1 << 48  # of some 14 square degrees
    reads = {
        "alerts, all": ("alerts", "true"),
        "alerts, one region": (
            "alerts",
            f"hpx DIV {cell} = {hpx // cell}"
            f" AND hpx BETWEEN {hpx // cell * cell} AND {(hpx // cell + 1) * cell}",
        ),
        "alerts, one object": ("alerts", f"stock = {stock}"),
        "alerts, three nights": ("alerts", f"jd BETWEEN {low} AND {high}"),
        "datapoints, all": ("datapoints", "true"),
        "datapoints, one object": ("datapoints", f"stock = {stock}"),
        "datapoints, three nights": ("datapoints", f"jd BETWEEN {low} AND {high}"),
    }
    print(f"{'read':<26}{'rows':>9}  " + "".join(f"{name:>26}" for name in
          ("as ingested", "months, by object", "by object", "by object and place")))  # fmt: skip
    took: dict[str, list[str]] = {name: [] for name in (*reads, _LOOK_UP)}
    rows = {}
    for step in range(4):
        if step == 1:
            compact(lake, ["alerts", "datapoints"], out=lambda line: None)
        if step == 2:
            for name in ("alerts", "datapoints"):
                rewritten(lake, name, ("stock",))
        if step == 3:
            for name, columns in (("alerts", ("stock", "hpx")), ("datapoints", ("stock", "jd"))):
                rewritten(lake, name, columns)
        rows[_LOOK_UP], text = looked_up(lake)
        took[_LOOK_UP].append(text)
        for name, (tab, condition) in reads.items():
            times = []
            for _ in range(5):
                started = time.perf_counter()
                rows[name] = timed_read(lake, tab, condition)
                times.append(time.perf_counter() - started)
            files = len(lake.read(tab).where(condition).inputFiles())
            took[name].append(f"{sorted(times)[2]:.2f} s of {files} files")
    for name, each in took.items():
        print(f"{name:<26}{rows[name]:>9}  " + "".join(f"{text:>26}" for text in each))


_LOOK_UP = "datapoints, a night's"


def looked_up(lake: Any) -> tuple[int, str]:
    """Read what the ingest reads for the newest night: datapoints of its objects, of 31 days."""
    import pyarrow.compute as pc

    from ampel_spark.lake.scan import scan

    alerts = lake.arrow("alerts", ["stock", "jd"])
    last = pc.max(alerts["jd"]).as_py()
    stocks = pc.unique(alerts.filter(pc.greater(alerts["jd"], last - 0.7))["stock"])
    names = ["survey", "stock", "datapoint_id", "first_alert_jd", "first_alert_id", "value_hash"]
    near = (last - 31, last + 1)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        files = lake.files_between("datapoints", "jd", *near)
        parts = [p for f in files for p in scan(f, names, ("stock", stocks), ("jd", *near))]
        times.append(time.perf_counter() - started)
    return sum(len(part) for part in parts), f"{sorted(times)[2]:.2f} s of {len(files)} files"


def timed_read(lake: Any, table: str, condition: str) -> int:
    """Read some columns of the rows that meet a condition; return how many there are."""
    from pyspark.sql import functions as f

    names = ("stock", "jd", "programid", "alert_id" if table == "alerts" else "mag")
    sums = lake.read(table).where(condition).select(
        f.count("*").alias("n"), *(f.max(name) for name in names)
    )  # fmt: skip
    return int(sums.first()["n"])


def rewritten(lake: Any, name: str, columns: tuple[str, ...]) -> None:
    """Put a table in order along two columns at once."""
    from delta.tables import DeltaTable

    DeltaTable.forPath(lake.spark, lake.path(name)).optimize().executeZOrderBy(*columns)


def ours(folder: Path, cores: int, warm: Path, conf: dict[str, str], **options: Any) -> list[str]:
    """Ingest `folder` into a new lake in a process of its own; return the lines it prints."""
    code = "from benchmarks.ingest import child; child()"
    root = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root), "MASTER": f"local[{cores}]"}
    arguments = [str(folder), str(warm), repr(conf), repr(options)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, stdout=subprocess.PIPE, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def child() -> None:
    """Ingest, once to warm up and once for the clock (what `ours` starts)."""
    import ast

    from ampel_spark.archive.committing.ingest import ingest
    from ampel_spark.lake.lake import Lake
    from ampel_spark.session import get_session

    folder, warm = Path(sys.argv[1]), Path(sys.argv[2])
    conf, options = ast.literal_eval(sys.argv[3]), ast.literal_eval(sys.argv[4])
    spark = get_session("benchmark", conf=conf)
    if options.pop("task", None) == "layout":
        with tempfile.TemporaryDirectory(prefix="layout-") as place:
            layout(spark, Path(place), folder)
        spark.stop()
        return
    with tempfile.TemporaryDirectory(prefix="ingest-") as place:
        ingest(spark, Path(place) / "warm", [warm], out=lambda line: None)
        started = last = time.perf_counter()

        def tell(line: str) -> None:
            nonlocal last
            if "files," in line:
                now = time.perf_counter()
                print(f"chunk {now - last:.3f}", flush=True)
                last = now

        lake = Lake(spark, Path(place) / "lake")
        done = ingest(spark, lake, [folder], out=tell, **options)
        print(f"seconds {time.perf_counter() - started:.3f} packets {done.packets}")
        sizes = {
            name: sum(p.stat().st_size for p in (lake.root / name).glob("*.parquet"))
            for name in ("alerts", "datapoints", "sightings")
        }
        points = len(lake.arrow("datapoints", ["stock"]))
        print(f"bytes {sizes['alerts'] / done.packets:.0f} {sizes['datapoints'] / points:.0f}")
        print(f"shown {points / done.packets:.2f}")
        peaks = {"java": 0.0, "python": 0.0}
        for name, peak in processes():
            peaks[name] = max(peaks[name], peak)
        print(f"peak {peaks['java']:.0f} workers {peaks['python']:.0f}")
        spark.stop()


def processes() -> Iterator[tuple[str, float]]:
    """Yield kind and peak memory [MB] of the processes that this one has started."""
    parents, found = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            pid = int(status.parent.name)
            parents[pid] = int(lines["PPid"])
            if "VmHWM" in lines:
                kind = "java" if lines["Name"].strip() == "java" else "python"
                found[pid] = (kind, int(lines["VmHWM"].split()[0]) / 1024)
    for pid, peak in found.items():
        above = parents[pid]
        while above not in (os.getpid(), 0, 1):
            above = parents.get(above, 0)
        if above == os.getpid():
            yield peak


def table(lines: list[str], word: str) -> list[float]:
    """Return the numbers behind a word in lines."""
    return [float(x) for line in lines if line.startswith(word) for x in line.split()[1::2]]


def rates(folder: Path, warm: Path, cores: list[int], loop: bool) -> None:
    """Print packets per second: the plain loop, gunzip alone, our reader, ours as a whole."""
    files = sorted(folder.glob("*.tar.gz"))
    size = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files of {size / 1e6:.0f} MB in all")
    print("cores   plain loop    gunzip  our reader    ingest  ratio")
    for n in cores:
        with pinned(n):
            lines = ours(folder, n, warm, {})
            seconds, packets = table(lines, "seconds")
            took = [spread(w, files, n) for w in (plain, gunzip, reader)] if loop else [0.0] * 3
        shown = [packets / t if t else float("nan") for t in (*took, seconds)]
        print(f"{n:>5} {shown[0]:>12.0f} {shown[1]:>9.0f} {shown[2]:>11.0f} {shown[3]:>9.0f} "
              f"{shown[3] / shown[0]:>6.2f}")  # fmt: skip
        told = next(line.split()[1:] for line in lines if line.startswith("bytes"))
    (shown,) = table(lines, "shown")
    print(f"bytes on disk: {told[0]} per alert, {told[1]} per datapoint; "
          f"{size / packets:.0f} per packet in the files; "
          f"{shown:.1f} datapoints per packet are new")  # fmt: skip


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packets", type=int, default=12000)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--originals", type=Path, help="folder of original packets")
    parser.add_argument("--growth", type=int, nargs="+", help="alerts of simulated archives")
    parser.add_argument("--nights", type=int, help="nights, each a chunk, of --packets in all")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--heap", type=int, default=512, help="of the JVM with --memory [MB]")
    parser.add_argument("--layout", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="archive-") as place:
        run(options, Path(place))


def run(options: argparse.Namespace, place: Path) -> None:
    """Make the archives, and measure."""
    from ampel_spark.simulate import simulate

    made = functools.partial(
        simulate, first_night="2024-01-01", seed=3, workers=os.cpu_count() or 1
    )
    warm = made(place / "warm", alerts=300, nights=10, cutouts="none").path
    if options.growth:
        for alerts in options.growth:
            nights = max(30, alerts // 1000)
            folder = made(place / str(alerts), alerts=alerts, nights=nights, cutouts="small").path
            rates(folder, warm, options.cores[-1:], loop=True)
        return
    if options.layout:
        folder = made(place / "sky", alerts=options.packets, nights=60, cutouts="none").path
        for line in ours(folder, options.cores[-1], warm, {}, task="layout", nightly=True):
            print(line)
        return
    if options.nights:
        folder = made(
            place / "nights", alerts=options.packets, nights=options.nights, cutouts="none"
        ).path
        lines = ours(folder, options.cores[-1], warm, {}, nightly=True)
        chunks = table(lines, "chunk")
        for k in range(0, len(chunks), max(1, len(chunks) // 10)):
            some = sorted(chunks[k : k + 10])
            print(f"nights {k + 1:>4} to {k + len(some):>4}: median {some[len(some) // 2]:.2f} s")
        return
    folder = place / "real"
    originals = sorted(options.originals.rglob("*.avro")) if options.originals else []
    files = 1 if options.memory else FILES
    if originals:
        resample(originals, folder, options.packets, files)
    else:
        made(folder, alerts=options.packets, nights=FILES, cutouts="real")
    if options.memory:
        (path,) = folder.glob("*.tar.gz")
        with gzip.open(path) as stream:
            whole = stream.seek(0, io.SEEK_END)
        lines = ours(folder, options.cores[-1], warm, {"spark.driver.memory": f"{options.heap}m"})
        peaks = table(lines, "peak")
        print(f"one file of {path.stat().st_size / 1e6:.0f} MB, {whole / 1e6:.0f} MB unpacked; "
              f"the JVM was given {options.heap} MB of heap: it took {peaks[0]:.0f} MB at most, "
              f"a worker {peaks[1]:.0f} MB")  # fmt: skip
        return
    rates(folder, warm, options.cores, loop=True)


if __name__ == "__main__":
    main()
