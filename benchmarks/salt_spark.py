"""SALT fits through Spark: states with their light curves in, a committed table out, on one core.

    python benchmarks/salt_spark.py [--objects 100000] [--reference 30] [--work FOLDER]

Light curves of simulated SNe Ia (SALT3 f22, ZTF g and r) are written as T1 stages them, with hosts
and dust for the fit to be tied to. T2 then runs as in a job: what is stale, the fits, the commit.
The ratio is the CPU-bound wall time of one core for a light curve, against `sncosmo.fit_lc` with
its default settings on a sample of the same light curves in the same run.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when numpy is loaded)
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sncosmo

from ampel_spark.job.configuration.model import UnitStep
from ampel_spark.job.execution import tiers
from ampel_spark.lake.commits import insert
from ampel_spark.lake.lake import Lake
from ampel_spark.lightcurve import POINT_FIELDS
from ampel_spark.salt import LightCurves, SaltFitter
from ampel_spark.session import get_session
from ampel_spark.settings import sncosmo_data_dir
from ampel_spark.t1.assemble import LIGHT_CURVE_SCHEMA
from ampel_spark.t2 import runner
from ampel_spark.t2.registry import build
from ampel_spark.t2.trace import trace_of

BANDS = ("ztfg", "ztfr")
MODEL = "salt3/2.0"
CHUNK = 10_000
START = time.perf_counter()


def simulate(n: int, seed: int) -> tuple[pa.Table, dict[str, np.ndarray]]:
    """Light curves of `n` SNe Ia in the columns of T1, and their truth."""
    rng = np.random.default_rng(seed)
    fitter = SaltFitter("salt3", BANDS, version="2.0", z_range=(0.0, 0.2), dust_law="CCM89")
    z = rng.uniform(0.02, 0.12, n)
    t0 = 2459000.0 + rng.uniform(0.0, 300.0, n)
    x1 = np.clip(rng.normal(0.0, 1.0, n), -3, 3)
    c = np.clip(rng.normal(-0.03, 0.08, n) + rng.exponential(0.06, n), -0.3, 0.6)
    ebv = np.minimum(rng.exponential(0.05, n), 0.5)
    # as bright as SNe Ia are: -19.2 mag at c = 0, and Tripp's relation
    grid = np.linspace(0.01, 0.13, 200)
    model = sncosmo.Model("salt3")
    x0_grid = []
    for value in grid:
        model.set(z=value)
        model.set_source_peakabsmag(-19.2, "bessellb", "ab")
        x0_grid.append(model.get("x0"))
    x0 = np.exp(np.interp(z, grid, np.log(x0_grid))) * 10 ** (0.4 * (0.14 * x1 - 3.1 * c))
    parameters = np.column_stack([z, t0, x0, x1, c])

    sizes = np.clip(rng.poisson(35, n), 12, 80)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    group = np.repeat(np.arange(n), sizes)
    phase = rng.uniform(-17.0, 45.0, offsets[-1])
    jd = np.round(t0[group] + (1 + z[group]) * phase, 8)
    order = np.lexsort((jd, group))
    jd = jd[order]
    band = rng.integers(0, 2, offsets[-1]).astype(np.int32)
    one = np.ones(offsets[-1])
    flux = fitter.predict(LightCurves(offsets, jd, one, one, band), parameters, mwebv=ebv)
    peak = np.maximum.reduceat(flux, offsets[:-1])
    error = (peak / np.exp(rng.uniform(np.log(5), np.log(50), n)))[group]
    error = error * np.sqrt(rng.uniform(0.6, 1.3, len(jd)) ** 2 + 0.3 * flux / peak[group])
    flux = flux + error * rng.normal(size=len(jd))

    with np.errstate(all="ignore"):
        points: dict[str, Any] = {
            "datapoint_id": np.arange(len(jd)) + 1, "kind": np.zeros(len(jd), np.int8), "jd": jd,
            "band": pa.DictionaryArray.from_arrays(pa.array(band), list(BANDS)).cast(pa.string()),
            "mag": np.round(25 - 2.5 * np.log10(np.abs(flux)), 6),
            "magerr": np.round(1.0857 * np.abs(error / flux), 6),
            "limit_mag": np.round(25 - 2.5 * np.log10(5 * error), 6),
            "sign": np.where(flux < 0, -1, 1).astype(np.int8), "flux": flux, "fluxerr": error,
            "zp": np.full(len(jd), 25.0), "zpsys": pa.repeat("ab", len(jd)),
            "programid": np.ones(len(jd), np.int32), "field": np.full(len(jd), 600, np.int32),
            "rcid": np.full(len(jd), 20, np.int32),
            "ra": (360.0 * (np.arange(n) + 0.5) / n)[group],
            "dec": np.degrees(np.arcsin(rng.uniform(-0.9, 0.9, n)))[group],
        }  # fmt: skip
    first = np.minimum.reduceat(jd, offsets[:-1])
    last = np.maximum.reduceat(jd, offsets[:-1])
    head: dict[str, Any] = {
        "request": np.arange(n), "state_id": [f"{i:032x}" for i in range(n)],
        "link": np.arange(n), "survey": pa.repeat("ztf", n), "stock": np.arange(n),
        "name": [f"ZTF20{i:07d}" for i in range(n)], "n_detections": sizes.astype(np.int32),
        "n_upper_limits": np.zeros(n, np.int32), "n_forced": np.zeros(n, np.int32),
        "jd_first": first, "jd_last": last,
        "rules": pa.array([[]] * n, pa.list_(pa.int32())),
    }  # fmt: skip
    lists = {"datapoint_ids": points["datapoint_id"]} | {f"lc_{k}": points[k] for k in POINT_FIELDS}
    for name, values in lists.items():
        kind = LIGHT_CURVE_SCHEMA.field(name).type.value_type
        head[name] = pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()), pa.array(values).cast(kind)
        )
    columns = [pa.array(head[f.name]).cast(f.type) for f in LIGHT_CURVE_SCHEMA]
    truth = dict(zip(("z", "t0", "x0", "x1", "c"), parameters.T, strict=True)) | {"ebv": ebv}
    return pa.Table.from_arrays(columns, schema=LIGHT_CURVE_SCHEMA), truth


def fit_lc_ms(table: pa.Table, truth: dict[str, np.ndarray], n: int) -> np.ndarray:
    """CPU ms of fit_lc with its default settings, for each of the first `n` light curves."""
    model = sncosmo.Model("salt3", [sncosmo.CCM89Dust()], ["mw"], ["obs"])
    took = []
    for i in range(n):
        row = table.slice(i, 1).to_pylist()[0]
        data = {k: np.array(row[f"lc_{k}"]) for k in ("band", "flux", "fluxerr", "zp", "zpsys")}
        data["time"] = np.array(row["lc_jd"])
        model.set(z=truth["z"][i], mwebv=truth["ebv"][i], t0=0.0, x0=1.0, x1=0.0, c=0.0)
        begin = time.process_time()
        sncosmo.fit_lc(data, model, ["t0", "x0", "x1", "c"], modelcov=False)
        took.append(1e3 * (time.process_time() - begin))
    return np.array(took)


class Clock:
    """Wall time, and CPU time of this process and all below it (the JVM, Python's workers)."""

    def __init__(self) -> None:
        self.begin = self._now()

    def took(self) -> tuple[float, float]:
        """Return wall and CPU seconds since the clock was made."""
        now = self._now()
        return now[0] - self.begin[0], now[1] - self.begin[1]

    def _now(self) -> tuple[float, float]:
        parents, ticks = {}, {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            pid = int(stat.parent.name)
            parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
        total = 0
        for pid in ticks:
            above = pid
            while above in parents and above != os.getpid():
                above = parents[above]
            total += ticks[pid] if above == os.getpid() else 0
        return time.perf_counter(), total / os.sysconf("SC_CLK_TCK")


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Return wall and CPU seconds of a call."""
    clock = Clock()
    work()
    return clock.took()


def steps(config: dict[str, Any], folder: Path) -> list[UnitStep]:
    """The entries of T2: what the fit is tied to, and the fit."""
    entries = [
        ("host", "catalog_match", {"catalog": "hosts.parquet", "radius": 5.0, "append": ["z"]}),
        ("ebv", "catalog_match", {"catalog": "hosts.parquet", "radius": 5.0, "append": ["ebv"]}),
        ("salt_fit", "salt_fit", config),
    ]
    made = []
    for name, spec, parameters in entries:
        unit = build(spec, parameters, folder)
        columns = tuple(unit.output_columns())
        made.append(UnitStep(name, spec, unit, parameters, ("all",), tuple(unit.needs()), columns))
    return made


def of_unit(lake: Lake, step: UnitStep) -> Any:
    """Results of a unit, from its table's files, as a job reads what was computed before."""
    table = runner.unit_table(step.name, step.columns)
    return lake.between(table, table.names, "status", 0, 0)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--reference", type=int, default=30, help="light curves for fit_lc")
    parser.add_argument("--covariance", action="store_true", help="with the model's covariance")
    parser.add_argument("--work", type=Path, help="folder to work in; a temporary one if not given")
    parser.add_argument("--batch", type=int, help="light curves in an Arrow batch")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="salt_spark_"))
    work.mkdir(parents=True, exist_ok=True)
    n = arguments.objects
    os.environ.setdefault("SNCOSMO_DATA_DIR", str(sncosmo_data_dir()))
    sncosmo.conf.data_dir = os.environ["SNCOSMO_DATA_DIR"]
    table, truth = simulate(n, 1)
    points = int(table.column("n_detections").to_numpy().sum())
    slow = fit_lc_ms(table, truth, arguments.reference)
    print(f"{n} light curves, {points / n:.1f} points each")
    print(f"sncosmo.fit_lc: median {np.median(slow):.1f} ms, mean {slow.mean():.1f} ms")

    position = pa.ListArray.flatten
    first = np.concatenate([[0], np.cumsum(table.column("n_detections").to_numpy())[:-1]])
    flat = {
        k: np.asarray(position(table.column(f"lc_{k}").combine_chunks())) for k in ("ra", "dec")
    }
    hosts = {
        "ra": flat["ra"][first],
        "dec": flat["dec"][first],
        "z": truth["z"],
        "ebv": truth["ebv"],
    }
    pq.write_table(pa.table(hosts), work / "hosts.parquet")

    conf = (
        {"spark.sql.execution.arrow.maxRecordsPerBatch": str(arguments.batch)}
        if arguments.batch
        else {}
    )
    from pyspark.sql import functions as f

    spark = get_session("salt_spark", master="local[1]", conf=conf)
    config = {
        "model": MODEL, "bands": list(BANDS), "redshift": {"unit": "host"},
        "dust": {"law": "CCM89", "unit": "ebv"}, "model_covariance": arguments.covariance,
    }  # fmt: skip
    entries = steps(config, work)
    table = table.append_column("channel", pa.repeat("all", n))
    table = table.append_column("access", pa.repeat("1", n))
    entries[2].unit.prepare()

    def tied(lake: Lake, step: UnitStep, rows: pa.Table, column: str) -> Any:
        """Write results of a unit that the fit is tied to: the truth; they come as in a job."""
        made = runner.unit_table(step.name, step.columns)
        there = {"state_id": rows.column("state_id"), "stock": rows.column("stock")}
        there |= {"status": pa.array(np.zeros(len(rows), np.int32))}
        there |= {column: pa.array(truth[column][: len(rows)])}
        pq.write_table(pa.table(there), work / "tie.parquet")
        frame = spark.read.parquet(str(work / "tie.parquet"))
        absent = [
            f.lit(None).cast(c.type).alias(c.name) for c in made.columns if c.name not in there
        ]
        insert(lake, made, frame.select("*", *absent), {})
        return of_unit(lake, step)

    def t2(name: str, rows: pa.Table) -> tuple[Timed, Clock]:
        """Run T2 on a lake of its own; the clock starts at the fit."""
        shutil.rmtree(work / name, ignore_errors=True)
        lake = Lake(spark, work / name)
        staging = work / name / "_staging" / "run"
        (staging / "light_curves").mkdir(parents=True)
        for k in range(0, len(rows), CHUNK):
            pq.write_table(rows.slice(k, CHUNK), staging / "light_curves" / f"{k:07d}.parquet")
        context: Any = Timed(
            lake, SimpleNamespace(units=entries), name, None, str(staging), None, say
        )  # type: ignore[arg-type]
        context.counts.t2 = {}
        curves = runner.light_curves(f"{staging}/light_curves", spark)
        done: tiers.Results = {}
        for step, column in zip(entries[:2], ("z", "ebv"), strict=True):
            done[step.name] = tiers.Computed(step, tied(lake, step, rows, column), ())
        clock = Clock()
        step = entries[2]
        states: Any = SimpleNamespace(
            frame=lambda: curves, light_curves=lambda: curves, are_staged=True
        )
        tiers._run_unit(context, step, states, None, trace_of(step.unit, step.name), done)
        return context, clock

    wall, cpu = t2("first", table.slice(0, 2000))[1].took()
    print(f"the fit of 2000, first of its session: wall {wall:.1f} s, CPU {cpu:.1f} s")
    context, clock = t2("lake", table)
    wall, cpu = clock.took()
    lake, staged = context.lake, Path(context.folder) / "light_curves"
    states = spark.read.parquet(str(staged))
    results = spark.read.format("delta").load(lake.path("t2_salt_fit"))
    good = results.where("status = 0").count()
    print(
        f"salt_fit, tables in to table out: wall {wall:.1f} s, CPU {cpu:.1f} s; "
        f"{good} with status 0"
    )
    for what, total in (("wall", wall), ("CPU", cpu)):
        each = 1e3 * total / n
        print(
            f"  by {what}: {each:.4f} ms a light curve, ratio per core "
            f"{np.median(slow) / each:.0f} (median of fit_lc), {slow.mean() / each:.0f} (mean)"
        )

    few = t2("again", table.slice(0, 2000))[1].took()
    print(
        f"the fit of 2000, once warm: wall {few[0]:.1f} s, CPU {few[1]:.1f} s; for one more "
        f"light curve: wall {1e3 * (wall - few[0]) / (n - 2000):.4f} ms, "
        f"CPU {1e3 * (cpu - few[1]) / (n - 2000):.4f} ms"
    )
    print("where it goes, each step by itself (wall, CPU seconds):")
    unit = entries[2].unit
    staged_ties = {step.name: (of_unit(lake, step), step.columns) for step in entries[:2]}
    rows = runner.wanted(states.select("state_id").distinct(), staged_ties)
    noop: Callable[[Any], None] = lambda frame: frame.write.format("noop").mode("overwrite").save()  # noqa: E731
    curves = runner.light_curves(str(staged), spark)
    places = curves.select("state_id", "file", "row").join(rows, "state_id")
    tell("states, ties, places of light curves", timed(lambda: noop(places)))
    (work / "parts").mkdir(exist_ok=True)
    written = lambda: runner.compute(rows, curves, unit, "t", n, work / "parts", "r")  # noqa: E731
    tell("and fitted, results written", timed(written))
    table = table.append_column("input_hash", pa.repeat("", n))
    for tie, column in (("host", "z"), ("ebv", "ebv")):
        structs = pa.array([{"status": 0, column: v} for v in truth[column]])
        table = table.append_column(f"tie_{tie}", structs)
    batch = table.combine_chunks().to_batches()[0]
    size = arguments.batch or 2000

    def alone() -> None:
        for k in range(0, n, size):
            runner.compute_batch(unit, batch.slice(k, size), "t")

    tell("the unit alone, in one Python process", timed(alone))
    spark.stop()


class Timed(tiers.Context):
    """A context that says how long staging and commits take, and when."""

    def stage(self, name: str, rows: Any) -> Any:
        """Stage rows."""
        clock = Clock()
        staged = super().stage(name, rows)
        say("staged {}: wall {:.1f} s, CPU {:.1f} s".format(name, *clock.took()))
        return staged

    def insert(self, table: Any, *arguments: Any) -> bool:
        """Commit results that were written."""
        clock = Clock()
        kept = super().insert(table, *arguments)
        say("committed {}: wall {:.1f} s, CPU {:.1f} s".format(table.name, *clock.took()))
        return kept


def say(line: str) -> None:
    """Print a line of T2, with the time since the start."""
    print(f"  [{time.perf_counter() - START:6.1f} s] {line}", flush=True)


def tell(what: str, took: tuple[float, float]) -> None:
    """Print a line of the breakdown."""
    print(f"  {what:40} {took[0]:7.1f} {took[1]:7.1f}", flush=True)


if __name__ == "__main__":
    main()
