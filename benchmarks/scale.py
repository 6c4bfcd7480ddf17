"""What a run costs as the archive grows, and what a change costs: CPU of all processes beside wall.

    python benchmarks/scale.py [--alerts N] [--nights N] [--more N] [--work FOLDER]

A job (DecentFilter, two units, no report) on a simulated archive: the first run, the same again,
one night more, and a release that touches one of 64 quadrants. Each row has the seconds of the
tiers, CPU beside wall, and what was judged, made and computed. `--more` measures the growth of T1:
archives of a tenth of so many alerts and of so many, of which 1,000 objects are accepted each. CPU
is that of the driver, its JVM and the Python workers; Spark has started before. Cores:
``MASTER=local[2]``. `--grid` measures without Spark what a task of a grid costs: one share of so
many objects (SALT3, redshift known, two bands, some 35 points) under `--variations` variations,
half of them releases, half of them parameters of the fit, and what 10⁶ states take at that rate.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when numpy is loaded)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampel_spark.archive.committing.ingest import ingest
from ampel_spark.job.configuration.load import load_job, load_survey
from ampel_spark.job.execution import run as running
from ampel_spark.job.execution.run import run_job
from ampel_spark.lake.reading import table_info
from ampel_spark.session import get_session
from ampel_spark.simulate import simulate

JOB = """\
name: scale
channel: [{name: SN, access: [ZTF_PUB]}]
t0:
- channel: SN
  filter: DecentFilter
  config: {min_ndet: 3, min_tspan: 2.0, max_tspan: 90.0, min_archive_tspan: 0.0,
    max_archive_tspan: 120.0, min_rb: 0.3, min_drb: 0.5, max_fwhm: 5.5, max_elong: 1.4,
    max_magdiff: 1.0, max_nbad: 0, min_sso_dist: 20, min_gal_lat: 14, ps1_sgveto_rad: 1,
    ps1_sgveto_th: 0.8, ps1_confusion_rad: 3, ps1_confusion_sg_tol: 0.1, gaia_rs: 0}
t1: {states: latest, points: [detection, upper_limit]}
t2:
- unit: light_curve_summary
- unit: salt_fit
  config: {model: salt3/2.0, bands: [ztfg, ztfr], redshift: {fit: [0.01, 0.2]}, min_points: 4}
t3: [{name: good, channel: SN, select: salt_fit.status == 0}]
report: false
"""
_TICK = os.sysconf("SC_CLK_TCK")


def cpu() -> float:
    """Return the CPU seconds of this process, of those that it started, and of their children."""
    stats = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            # parent, and the ticks of the process and of its children that ended
            stats[int(entry.name)] = (int(fields[1]), sum(map(int, fields[11:15])))
    mine, found = {os.getpid()}, 0
    while found < len(mine):
        found = len(mine)
        mine |= {pid for pid, (parent, _) in stats.items() if parent in mine}
    return sum(stats[pid][1] for pid in mine) / _TICK


class Costs:
    """Wall and CPU seconds of the tiers of runs."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, float]] = {}
        self.few: int | None = None
        for tier, name in (("t0", "decide"), ("t1", "make_states"), ("t2", "fit_units")):
            setattr(running, name, self._timed(tier, getattr(running, name)))

    def _timed(self, tier: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def timed(*args: Any) -> Any:
            wall, spent = time.perf_counter(), cpu()
            made = work(*args)
            self.found[tier] = (time.perf_counter() - wall, cpu() - spent)
            if tier == "t0" and self.few is not None:
                return _few(made, self.few)
            return made

        return timed

    def run(self, label: str, work: Callable[[], Any]) -> Any:
        """Run, and print a row."""
        self.found = {}
        wall, spent = time.perf_counter(), cpu()
        outcome = work()
        whole = (time.perf_counter() - wall, cpu() - spent)
        cells = [f"{w:6.1f} {c:6.1f}" for w, c in (*self.found.values(), whole)]
        counts = outcome.counts
        judged = sum(t["judged"] for t in counts.t0.values())
        computed = sum(t["computed"] for t in counts.t2.values())
        print(
            f"{label:>22} {' '.join(cells)} {judged:8d} {counts.t1['states']:7d} "
            f"{counts.t1['new']:7d} {computed:7d}",
            flush=True,
        )
        return whole


def _few(accepted: pa.Table, number: int) -> pa.Table:
    """Return the accepted alerts of some objects."""
    stocks = np.unique(accepted["stock"].to_numpy())
    mine = np.random.default_rng(1).choice(stocks, min(number, len(stocks)), replace=False)
    return accepted.filter(pc.is_in(accepted["stock"], value_set=pa.array(mine)))


def _silent(line: str) -> None:
    """Take a line and say nothing."""


def _job(folder: Path, release: str | None = None) -> Any:
    file = folder / "scale.yml"
    file.write_text(JOB)
    return load_job(file, calibration=release)


def _archive(work: Path, alerts: int, nights: int) -> list[str]:
    made = simulate(
        work / f"archive-{alerts}", alerts=alerts, nights=nights, first_night="2024-03-01",
        seed=21, cutouts="none", workers=2,
    )  # fmt: skip
    return [str(path) for path in sorted(made.path.glob("*.tar.gz"))]


def _take(lake: Path, files: Sequence[str]) -> None:
    wall, spent = time.perf_counter(), cpu()
    spark = get_session("benchmark scale")
    from ampel_spark.lake.lake import Lake

    taken = ingest(spark, Lake(spark, lake), [*files], load_survey("ztf"), "taken", _silent)
    print(f"ingest: {taken.stored} alerts in {time.perf_counter() - wall:.1f} s, "
          f"{cpu() - spent:.1f} s of CPU", flush=True)  # fmt: skip


def changes(work: Path, alerts: int, nights: int) -> None:
    """Print what the first run costs, and what one change after it costs."""
    files = _archive(work, alerts, nights)
    lake = work / "lake"
    _take(lake, files[:-1])
    costs = Costs()
    run_job(_job(work), lake, out=_silent)  # what a first run compiles is not counted
    for name in ("runs", "decisions", "decision_sets", "state_channels", "states"):
        _drop(lake / name)
    for name in lake.glob("t2_*"):
        _drop(name)
    print(f"{'':>22} {'T0':>13} {'T1':>13} {'T2':>13} {'whole run':>13} "
          f"{'judged':>8} {'states':>7} {'new':>7} {'results':>7}")  # fmt: skip
    print(f"{'':>22} " + " ".join(["  wall    CPU"] * 4))
    first = costs.run("first run", lambda: run_job(_job(work), lake, out=_silent))
    t0, t1 = costs.found["t0"], costs.found["t1"]
    again = costs.run("again", lambda: run_job(_job(work), lake, out=_silent))
    _take(lake, files[-1:])
    costs.run("one night more", lambda: run_job(_job(work), lake, out=_silent))
    release = work / "one.yml"
    release.write_text(
        "name: one\nrules:\n- {select: {rcid: [1]}, zero_point: 0.01}\n", encoding="utf-8"
    )
    costs.run("a release of 1 of 64", lambda: run_job(_job(work, str(release)), lake, out=_silent))
    n = table_info(lake, "alerts").rows
    print(f"again: {again[0] / first[0]:.1%} of the first run's wall, {again[1] / first[1]:.1%} of "
          f"its CPU; T0 + T1: {n / (t0[1] + t1[1]):.0f} alerts/s of CPU, {n / (t0[0] + t1[0]):.0f} "
          "of wall")  # fmt: skip
    size = table_info(lake, "decisions")
    per_row = size.bytes_per_row or 0.0
    print(f"decisions: {size.rows} rows, {per_row:.1f} B each: {per_row:.1f} GB for 10⁹ alerts")


def growth(work: Path, alerts: int, nights: int, number: int = 1000) -> None:
    """Print what T1 costs for a number of accepted objects in archives of two sizes."""
    costs = Costs()
    for n in _both(alerts):
        lake = work / f"growth-{n}"
        _take(lake, _archive(work, n, nights))
        costs.few = number
        costs.run(f"{n} alerts", lambda lake=lake: run_job(_job(work), lake, out=_silent))


def _both(alerts: int) -> Iterator[int]:
    yield alerts // 10
    yield alerts


def _leave_share(work: Path, table: pa.Table, truth: dict[str, Any]) -> None:
    """Write the points and requests of a share, and the catalogue of its hosts."""
    from ampel_spark.lightcurve import POINT_FIELDS
    from ampel_spark.t1.assemble import KIND_CODES
    from ampel_spark.t1.states import ALL, LAST_ID, REQUESTS

    n, lists = len(table), table["lc_jd"].combine_chunks()
    of = np.repeat(np.arange(n), np.asarray(lists.value_lengths()))
    columns = {name: table[f"lc_{name}"].combine_chunks().flatten() for name in POINT_FIELDS}
    words = {code: word for word, code in KIND_CODES.items()}
    columns["kind"] = pa.array([words[code] for code in columns["kind"].to_pylist()])
    columns["survey"], columns["stock"] = pa.repeat("ztf", len(of)), pa.array(of)
    columns["revision"] = pa.array(np.zeros(len(of), np.int32))
    columns["first_alert_jd"] = columns["jd"]
    columns["first_alert_id"] = columns["datapoint_id"]
    pq.write_table(pa.table(columns), work / "points-0-0.parquet")
    asked = {"channel": pa.repeat("all", n), "survey": pa.repeat("ztf", n),
             "stock": table["stock"], "name": table["name"], "alert_id": pa.nulls(n, pa.int64()),
             "until_jd": pa.repeat(ALL, n), "until_alert_id": pa.repeat(LAST_ID, n),
             "request": table["request"]}  # fmt: skip
    rows = pa.table(asked).cast(REQUESTS).append_column("access", pa.repeat("1", n))
    for name in ("requests", "asked"):
        pq.write_table(rows, work / f"{name}-0.parquet")
    first = np.concatenate([[0], np.cumsum(np.bincount(of))[:-1]])
    hosts = {name: columns[name].to_numpy()[first] for name in ("ra", "dec")}
    hosts |= {name: truth[name] for name in ("z", "ebv")}
    pq.write_table(pa.table(hosts), work / "hosts.parquet")


def _grid_pass(work: Path, config: dict[str, Any], variations: int) -> Any:
    """Return what a task of a grid gets: a lake without results, half releases, half parameters."""
    from salt_spark import steps

    from ampel_spark.calibration.release import RAW, Release, Rule, Selects
    from ampel_spark.job.execution.grid_tasks import GridPass, GridWork
    from ampel_spark.lake.parts import arrow_schema
    from ampel_spark.lake.tables import TABLES
    from ampel_spark.t1.gather import Gathering
    from ampel_spark.t2 import runner
    from ampel_spark.t2.registry import packed
    from ampel_spark.t2.trace import trace_of

    half = variations // 2
    releases = [RAW] + [
        Release(f"r{i}", rules=(Rule(1, select=Selects(band=("ztfg",)), zero_point=1e-3 * i),))
        for i in range(1, half + 1)
    ]
    configs = [{"zero_points": {"ztfr": 1e-3 * i}} for i in range(1, variations - half + 1)]
    works: list[GridWork] = []
    for release in range(len(releases)):
        mine = steps(config, work)
        needs: dict[str, int] = {}
        fits = [mine[2]] if release else [steps(config | more, work)[2] for more in configs]
        for step in (*mine[:2], *fits):
            ties = {name: needs[name] for name in step.needs}
            needs.setdefault(step.name, len(works))
            trace = trace_of(step.unit, step.spec).trace_id
            works.append(
                GridWork(len(works), release, step.name, packed(step.unit), trace, ("all",), ties,
                     f"run-{release}", 600.0)
            )  # fmt: skip
    tables = [runner.unit_table(step.name, step.columns) for step in mine]
    for table in (TABLES["states"], *tables):
        (work / table.name).mkdir(exist_ok=True)
        pq.write_table(arrow_schema(table).empty_table(), work / f"present-{table.name}-0.parquet")
    gathering = Gathering(str(work), 1, "ztf", None, ("detection",), RAW)
    folders = {table.name: str(work / table.name) for table in (TABLES["states"], *tables)}
    kept = {step.name: ("status", "message", "duration_ms") for step in mine}
    return GridPass(
        gathering, tuple(releases), tuple(f"run-{i}" for i in range(len(releases))), tuple(works),
        folders, kept,
    )  # fmt: skip


def grid(work: Path, objects: int, variations: int) -> None:
    """Print what one share of a grid costs on one core, and what many shares cost at that rate."""
    import sncosmo
    from salt_spark import simulate as light_curves
    from salt_spark import steps

    from ampel_spark.job.execution import grid_tasks
    from ampel_spark.settings import sncosmo_data_dir

    os.environ.setdefault("SNCOSMO_DATA_DIR", str(sncosmo_data_dir()))
    sncosmo.conf.data_dir = os.environ["SNCOSMO_DATA_DIR"]
    table, truth = light_curves(objects, 1)
    config = {"model": "salt3/2.0", "bands": ["ztfg", "ztfr"], "redshift": {"unit": "host"},
              "dust": {"law": "CCM89", "unit": "ebv"}}  # fmt: skip
    _leave_share(work, table, truth)
    entries = steps(config, work)
    entries[2].unit.prepare()
    for covariance in (False, True):
        made = _grid_pass(work, config | {"model_covariance": covariance}, variations)
        grid_tasks._Share(made, 0).run()  # what a first share compiles and loads is not counted
        wall, spent = time.perf_counter(), cpu()
        report = grid_tasks._Share(made, 0).run()
        wall, spent = time.perf_counter() - wall, cpu() - spent
        by_unit: dict[str, float] = {}
        for number, seconds in report["seconds"].items():
            name = made.works[number].name
            by_unit[name] = by_unit.get(name, 0.0) + seconds
        each = 1e3 * spent / (objects * variations)
        units = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in by_unit.items())
        print(
            f"covariance {'on' if covariance else 'off'}: {objects} states × {variations}: wall "
            f"{wall:.1f} s, CPU {spent:.1f} s ({units} of wall): {each:.3f} ms of CPU a state and "
            f"variation; at that rate 10⁵ × 30 take {each * 25:.1f} min on 2 cores, 10⁶ × 30 "
            f"{each * 7500 / 3600:.2f} h on 4",
            flush=True,
        )


def _drop(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alerts", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--nights", type=int, default=60, help="default: %(default)s")
    parser.add_argument("--more", type=int, help="alerts of the larger archive, for T1's growth")
    parser.add_argument("--grid", type=int, help="objects of the share of a grid")
    parser.add_argument("--variations", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--work", type=Path, help="folder to work in; default: one that goes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        if args.grid:
            grid(work, args.grid, args.variations)
        elif args.more:
            growth(work, args.more, args.nights)
        else:
            changes(work, args.alerts, args.nights)


if __name__ == "__main__":
    main()
