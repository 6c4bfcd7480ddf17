"""What a rerun costs, and what it keeps equal: shares of work, nights of the past, runs again.

    python benchmarks/rerun.py [share] [past] [twice] [reproduce] [--alerts N] [--archive PATH …]

``share`` runs one job under releases that touch more and more quadrants of the camera, and prints
the share of states that are new beside the share of T2's time. ``past`` takes an archive in any
order, and compares ``--as-of`` each of ten nights with a lake that never held a later one.
``twice`` feeds four alerts again, as they are and 0.05 mag fainter. ``reproduce`` runs a run again
in a new lake. `--archive` names real nights for the last two. Cores: ``MASTER=local[2]``.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when numpy is loaded)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import copy
import io
import random
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fastavro
import numpy as np

from ampel_spark.archive.committing.ingest import Ingested, ingest
from ampel_spark.job.configuration.load import load_job, load_survey
from ampel_spark.job.configuration.model import ResolvedJob
from ampel_spark.job.execution.inputs import Inputs, as_of
from ampel_spark.job.execution.reproduce import compare, reproduce
from ampel_spark.job.execution.run import Outcome, run_job
from ampel_spark.lake.reading import read
from ampel_spark.lake.runs import find_run
from ampel_spark.session import get_session
from ampel_spark.simulate import simulate

PROJECT = Path(__file__).resolve().parents[1]
SURVEY = load_survey("ztf")

#: Every alert is a state and every state is fitted, so that T2 is most of the work.
EVERY = """\
name: every
channel: [{name: All, access: [ZTF_PUB, ZTF_PRIV]}]
t0: [{channel: All, filter: All}]
t1: {states: alert, points: [detection, upper_limit]}
t2:
- unit: light_curve_summary
"""
FITS = """\
- unit: salt_fit
  config: {model: salt3/2.0, bands: [ztfg, ztfr], redshift: {fit: [0.01, 0.2]}, min_points: 4}
"""
#: Quadrants (rcid 0-63) that a release touches; the zero points differ, so that none finds
#: another's states.
QUADRANTS = (1, 2, 4, 8, 16, 32, 64)


def _silent(line: str) -> None:
    """Take a line and say nothing."""


def _job(
    folder: Path, text: str, sets: Sequence[str] = (), release: str | None = None
) -> ResolvedJob:
    file = folder / "job.yml"
    file.write_text(text)
    return load_job(file, sets, calibration=release)


def _take(lake: Path, files: Sequence[Path], **options: Any) -> Ingested:
    spark = get_session("benchmark rerun")
    return ingest(spark, lake, [str(f) for f in files], SURVEY, out=_silent, **options)


def _run(job: ResolvedJob, lake: Path, inputs: Inputs | None = None) -> Outcome:
    return run_job(job, lake, inputs=inputs, out=_silent)


def _simulated(work: Path, alerts: int, nights: int) -> list[Path]:
    made = simulate(
        work / f"archive-{alerts}", alerts=alerts, nights=nights, first_night="2024-03-01",
        seed=21, cutouts="none", workers=2,
    )  # fmt: skip
    return sorted(made.path.glob("*.tar.gz"))


# --- share of states touched, share of work done


def share(work: Path, alerts: int) -> None:
    """Print what releases of more and more quadrants cost."""
    files = _simulated(work, alerts, 90)
    job = _job(work, EVERY + FITS)
    lake = work / "share"
    started = time.perf_counter()
    taken = _take(lake, files)
    print(f"ingest: {taken.stored} alerts in {time.perf_counter() - started:.0f} s")
    _take(work / "warm", files[:2])
    _run(job, work / "warm")  # what a first run compiles and caches is not counted
    whole = _cost(_run(job, lake))
    print(
        f"{'release':>22} {'new':>8} {'share':>7} {'T2 new':>8} {'T0+T1 s':>8} {'T2 s':>7}  of all"
    )
    rows = [_told("first run", whole, whole)]
    rows.append(_told("again, no release", _cost(_run(job, lake)), whole))
    late = _release(work, "late", {"time": {"first": "2031-01-01"}}, 0.05)
    rows.append(
        _told(
            "after the last night", _cost(_run(_job(work, EVERY + FITS, release=late), lake)), whole
        )
    )
    for i, n in enumerate(QUADRANTS):
        file = _release(work, f"quadrants_{n}", {"rcid": list(range(n))}, 0.010 + 0.001 * i)
        cost = _cost(_run(_job(work, EVERY + FITS, release=file), lake))
        rows.append(_told(f"{n} of 64 quadrants", cost, whole))
    x, y = np.array(rows[1:]).T
    slope, constant = np.polyfit(x, y, 1)
    excess = (y - 1.2 * x * whole["t2"]).max()
    print(
        f"T2 time = {slope:.1f} s × share + {constant:.1f} s (first run: {whole['t2']:.1f} s); "
        f"the least constant with which all are ≤ 1.2 × share of the first run: {excess:.1f} s"
    )


def _release(work: Path, name: str, select: Mapping[str, Any], zero_point: float) -> str:
    file = work / f"{name}.yml"
    file.write_text(
        f"name: {name}\nrules:\n- {{select: {dict(select)}, zero_point: {zero_point}}}\n"
    )
    return str(file)


def _cost(outcome: Outcome) -> dict[str, float]:
    counts = outcome.counts
    units = counts.t2.values()
    seconds = counts.seconds
    return {
        "states": counts.t1["states"],
        "new": counts.t1["new"],
        "wanted": sum(u["wanted"] for u in units),
        "computed": sum(u["computed"] for u in units),
        "before": seconds["t0"] + seconds["t1"],
        "t2": seconds["t2"],
    }


def _told(name: str, cost: Mapping[str, float], whole: Mapping[str, float]) -> tuple[float, float]:
    part = cost["computed"] / cost["wanted"]
    print(
        f"{name:>22} {cost['new']:8.0f} {cost['new'] / cost['states']:7.1%} "
        f"{cost['computed']:8.0f} {cost['before']:8.1f} {cost['t2']:7.1f} "
        f"{cost['t2'] / whole['t2']:7.1%}",
        flush=True,
    )
    return part, cost["t2"]


# --- the archive as it was known


def past(work: Path, alerts: int, seed: int = 5) -> None:
    """Compare ``--as-of`` ten nights on a lake filled in any order with lakes of these nights."""
    files = _simulated(work, alerts, 30)
    nights = files[:: max(1, len(files) // 10)][:10]
    shuffled = files[:]
    random.Random(seed).shuffle(shuffled)
    lake, growing = work / "shuffled", work / "growing"
    for part in np.array_split(np.array(shuffled, object), 5):
        _take(lake, list(part), chunk_bytes=1 << 20)
    job = _job(work, EVERY)
    equal, states, start = 0, 0, 0
    for file in nights:
        end = files.index(file) + 1
        _take(growing, files[start:end])
        start = end
        night = _night(file)
        now = _run(job, growing)
        then = _run(job, lake, as_of(night, SURVEY))
        rows, differences = compare(
            growing, find_run(growing, now.run_id), lake, find_run(lake, then.run_id)
        )
        equal += not differences
        states = rows["states"]
        for difference in differences:
            print(f"  {night}: {difference}")
    print(
        f"as-of: {equal} of {len(nights)} nights give the decisions, states and results of a lake "
        f"that never held a later one (the last: {states} states); {len(files)} files in five "
        "shuffled parts"
    )


def _night(file: Path) -> str:
    digits = "".join(c for c in file.name if c.isdigit())[-8:]
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"


# --- the same alerts again


def twice(work: Path, archive: Sequence[str]) -> None:
    """Feed four alerts of an object, again, fainter, replaced, and under a release."""
    packets = _four(archive) if archive else _four([str(p) for p in _simulated(work, 6000, 75)])
    name = packets[0][1]["objectId"]
    files = _written(work / "issued", packets)
    again = _written(work / "again", packets, codec="deflate")
    fainter = _written(work / "issued-fainter", [(s, _fainter(p)) for s, p in packets])
    print(
        f"{name}: four alerts. AMPEL, measured, with ZiMongoMuxer: 4 → 7 states and 3 T2 runs on\n"
        "the old photometry, fed as they were or 0.05 mag fainter; without a muxer nothing changes."
    )
    print(
        f"{'fed':>34} {'stored':>6} {'known':>5} {'again':>5} {'refused':>7} {'states':>6} "
        f"{'new T2':>6}  magnitudes"
    )
    lake = work / "twice"

    def tell(label: str, taken: Ingested | None, release: str | None = None) -> None:
        outcome = _run(_job(work, EVERY, release=release), lake)
        fed = (
            f"{taken.stored:6d} {taken.known:5d} {taken.duplicate:5d} {taken.quarantined:7d}"
            if taken is not None
            else f"{'':26}"
        )
        states = len(set(read(lake, "states")["state_id"].to_pylist()))
        new = outcome.counts.t2["light_curve_summary"]["computed"]
        print(
            f"{label:>34} {fed} {states:6d} {new:6d}  {_brightest(lake, outcome.run_id)}",
            flush=True,
        )

    tell("once", _take(lake, files))
    tell("the same files", _take(lake, files))
    tell("the same alerts in other files", _take(lake, again))
    tell("fainter, under their ids", _take(lake, fainter))
    tell("a release of +0.05 mag", None, _release(work, "fainter", {}, 0.05))
    lake = work / "replaced"
    _take(lake, files)
    _run(_job(work, EVERY), lake)
    for file, old in zip(fainter, files, strict=True):
        shutil.copy(file, old)
    tell("its files replaced by fainter", _take(lake, files, replace=True))


def _four(archive: Sequence[str]) -> list[tuple[Any, dict[str, Any]]]:
    """Return the four packets of ZTF18abxhyqv, or else of the first object that has four alerts."""
    found: dict[str, list[tuple[Any, dict[str, Any]]]] = {}
    for schema, packet in _packets(archive):
        found.setdefault(packet["objectId"], []).append((schema, packet))
    named = found.get("ZTF18abxhyqv") or next(p for p in found.values() if len(p) == 4)
    return sorted(named, key=lambda pair: pair[1]["candidate"]["jd"])


def _packets(archive: Sequence[str]) -> Iterator[tuple[Any, dict[str, Any]]]:
    for place in archive:
        path = Path(place)
        for file in sorted(path.glob("*.tar.gz")) if path.is_dir() else [path]:
            with tarfile.open(file) as tar:
                for member in tar:
                    if (stream := tar.extractfile(member)) is not None:
                        reader = fastavro.reader(io.BytesIO(stream.read()))
                        packet = next(iter(reader))
                        yield reader.writer_schema, packet  # type: ignore[misc]


def _fainter(packet: Mapping[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(dict(packet))
    for point in (changed["candidate"], *(changed["prv_candidates"] or ())):
        if point.get("magpsf") is not None:
            point["magpsf"] += 0.05
    return changed


def _written(folder: Path, packets: Sequence[tuple[Any, Any]], codec: str = "null") -> list[Path]:
    folder.mkdir()
    files = []
    for schema, packet in packets:
        files.append(folder / f"{packet['candid']}.avro")
        with files[-1].open("wb") as stream:
            fastavro.writer(stream, schema, [packet], codec=codec)
    return files


def _brightest(lake: Path, run_id: str) -> str:
    """Return the peak magnitudes of a run's states."""
    links = read(lake, "state_channels").to_pandas()
    results = read(lake, "t2_light_curve_summary").to_pandas()
    mine = results[results.state_id.isin(links[links.run_id == run_id].state_id)]
    values = sorted({round(float(v), 3) for v in mine.peak_mag.dropna()})
    return ", ".join(f"{v:.3f}" for v in values)


# --- a run again


def again(work: Path, archive: Sequence[str]) -> None:
    """Reproduce the quickstart's run, and the run of a real archive's candidates."""
    todo: list[tuple[str, Callable[[], ResolvedJob]]] = [
        ("quickstart", lambda: load_job(PROJECT / "jobs" / "quickstart.yml", ["report=false"]))
    ]
    if archive:
        todo.append(
            (
                "quickstart on the archive given",
                lambda: load_job(PROJECT / "jobs" / "quickstart.yml", ["report=false"], archive),
            )
        )
    for i, (label, make) in enumerate(todo):
        lake = work / f"first-{i}"
        started = time.perf_counter()
        first = _run(make(), lake)
        middle = time.perf_counter()
        made = reproduce(lake, first.run_id, work / f"again-{i}", out=_silent)
        rows = ", ".join(f"{name} {n}" for name, n in made.rows.items())
        print(
            f"{label}: run {middle - started:.0f} s, again {time.perf_counter() - middle:.0f} s; "
            f"{len(made.differences)} tables differ; rows compared: {rows}",
            flush=True,
        )
        for difference in made.differences:
            print(f"  {difference}")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("share", "past", "twice", "reproduce")
    parser.add_argument("what", nargs="*", metavar="|".join(names), help="default: all")
    parser.add_argument("--alerts", type=int, default=100_000, help="of `share` (%(default)s)")
    parser.add_argument("--archive", nargs="*", default=[], help="real nights, or folders of them")
    parser.add_argument("--work", type=Path, help="folder to work in; default: one that goes")
    args = parser.parse_args()
    if wrong := {*args.what} - {*names}:
        parser.error(f"there is no {', '.join(sorted(wrong))}: {', '.join(names)}")
    what = args.what or names
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        if "share" in what:
            share(work, args.alerts)
        if "past" in what:
            past(work, min(args.alerts, 6000))
        if "twice" in what:
            twice(work, args.archive)
        if "reproduce" in what:
            again(work, args.archive)


if __name__ == "__main__":
    main()
