"""How fast T0 is: the engine on one core against the plain twin, in one run.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 python benchmarks/t0.py

The engine reads the alerts from a table (Parquet, Delta), judges them with DecentFilter, and writes
the decisions (nowhere, to Delta), all in ``local[1]``. The twin walks over packets that are decoded
already, as Python dicts: once with astropy's galactic latitude, as AMPEL does, and once with plain
arithmetic. Neither side reads Avro.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.coordinates import SkyCoord
from pyspark.sql import DataFrame

from ampel_spark.session import get_session
from ampel_spark.t0 import ChannelFilter, Filter, SimpleDecentFilter, make_filter
from ampel_spark.t0.galactic import galactic_latitude
from ampel_spark.t0.judge import judge

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the twin is one of the tests
from tests.t0.twin import judge_packet

Latitude = Callable[[float, float], float]

PUBLIC = frozenset({1})

#: AMPEL's documented HU_RAPID; "wide" lets any history of a packet go on to all the other cuts.
RAPID = {
    "min_ndet": 2, "min_tspan": -666, "max_tspan": 5, "min_rb": 0.3, "max_fwhm": 5.5,
    "max_elong": 1.4, "max_magdiff": 1, "max_nbad": 0, "min_sso_dist": 20, "min_gal_lat": 14,
    "gaia_rs": 20, "gaia_pm_signif": 3, "gaia_plx_signif": 3, "gaia_veto_gmag_min": 9,
    "gaia_veto_gmag_max": 20, "gaia_excessnoise_sig_max": 999, "ps1_sgveto_rad": 1,
    "ps1_sgveto_th": 0.8, "ps1_confusion_rad": 3, "ps1_confusion_sg_tol": 0.1,
}  # fmt: skip
WIDE = RAPID | {"min_ndet": 1, "max_tspan": 50}


def simulate(n: int, seed: int) -> pa.Table:
    """Return `n` alerts with the columns that T0 reads, roughly as the public stream has them."""
    rng = np.random.default_rng(seed)
    jd = 2459000.5 + rng.uniform(0, 365, n)
    n_det = np.where(rng.random(n) < 0.4, 1, 2 + rng.geometric(0.12, n).clip(1, 40))
    length = n_det + rng.poisson(12, n)
    offsets = np.concatenate([[0], np.cumsum(length)])
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], length)
    detected = place < np.repeat(n_det, length)
    span = np.repeat(rng.choice([3.0, 15.0, 30.0], n), length)
    jds = np.repeat(jd, length) - np.where(place == 0, 0.0, rng.random(offsets[-1]) * span)
    alert_id = np.arange(1, n + 1) * 1000
    ids = np.where(detected, np.repeat(alert_id, length) + place, -(np.arange(offsets[-1]) + 1))
    starts = offsets[:-1]
    first = np.minimum.reduceat(np.where(detected, jds, np.inf), starts)
    stock = rng.integers(0, max(1, n // 5), n)

    def f32(values: Any) -> pa.Array:
        return pa.array(np.asarray(values, dtype=np.float32))

    def ps1(rank: int) -> dict[str, pa.Array]:
        none = rng.random(n) < 0.03 * rank
        return {
            f"distpsnr{rank}": f32(
                np.where(none, -999, rng.exponential(5.0 * rank, n).clip(0.05, 30))
            ),
            f"sgscore{rank}": f32(np.where(none, -999, rng.beta(0.5, 0.5, n))),
        }

    lists = {
        "datapoint_ids": ids,
        "datapoint_jds": jds,
        "datapoint_programids": np.ones(len(ids), np.int32),
    }
    columns: dict[str, Any] = {
        "survey": ["ztf"] * n,
        "stock": stock,
        "name": [f"ZTF20{s:07d}" for s in stock],
        "alert_id": alert_id,
        "jd": jd,
        "ra": rng.uniform(0, 360, n),
        "dec": np.degrees(np.arcsin(rng.uniform(-0.5, 1, n))),
        "programid": np.ones(n, np.int32),
        **{key: _lists(offsets, values) for key, values in lists.items()},
        "n_detections": n_det.astype(np.int32),
        "jd_first": first,
        "jd_last": jd,
        "isdiffpos": np.where(rng.random(n) < 0.75, "t", "f"),
        "rb": f32(rng.beta(4, 2, n)),
        "drb": pa.array(rng.beta(8, 0.5, n).astype(np.float32), mask=rng.random(n) < 0.1),
        "fwhm": f32(rng.lognormal(0.9, 0.4, n)),
        "elong": f32(1 + rng.exponential(0.12, n)),
        "magdiff": f32(rng.normal(0.07, 0.25, n)),
        "nbad": (rng.random(n) < 0.02).astype(np.int32),
        "jdstarthist": jd - rng.exponential(300, n) * (rng.random(n) < 0.7),
        "jdendhist": jd,
        "ssdistnr": f32(np.where(rng.random(n) < 0.1, rng.exponential(2, n), -999)),
        **ps1(1), **ps1(2), **ps1(3),
    }  # fmt: skip
    return pa.table(columns)


def _lists(offsets: Any, values: Any) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))


def packets(alerts: pa.Table) -> list[dict[str, Any]]:
    """Return alerts as decoded packets: `candidate` and `prv_candidates`."""
    made = []
    for row in alerts.to_pylist():
        ids, jds = row.pop("datapoint_ids"), row.pop("datapoint_jds")
        row.pop("datapoint_programids")
        history = [
            {"jd": jd, "candid": i if i > 0 else None, "programid": 1}
            for i, jd in zip(ids, jds, strict=True)
        ]
        made.append({"candidate": row | {"candid": ids[0]}, "prv_candidates": history[1:]})
    return made


def astropy_latitude(ra: float, dec: float) -> float:
    """Return the galactic latitude [deg], the way AMPEL computes it."""
    return float(SkyCoord(ra, dec, unit="deg").galactic.b.deg)


def best(action: Callable[[], Any], repeat: int) -> float:
    """Return the shortest of `repeat` times, seconds, after one that does not count."""
    action()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def time_twin(
    some: Sequence[dict[str, Any]], judged: Filter, latitude: Latitude, repeat: int
) -> float:
    """Return the time of the twin, seconds per alert."""

    def walk() -> None:
        for p in some:
            judge_packet(p, judged, access=PUBLIC, latitude=latitude)

    return best(walk, repeat) / len(some)


def time_engine(
    alerts: DataFrame, selections: Sequence[ChannelFilter], to: Path | None, n: int, repeat: int
) -> float:
    """Return the time of the engine, seconds per alert, writing to a Delta table or nowhere."""
    writer = judge(alerts, selections, "benchmark").write.mode("overwrite")

    def write() -> None:
        if to is None:
            writer.format("noop").save()
        else:
            writer.format("delta").save(str(to))

    return best(write, repeat) / n


def describe_cuts(some: Sequence[dict[str, Any]], judged: Filter) -> str:
    """Return the share of alerts that each cut rejects."""
    verdicts = (judge_packet(p, judged, access=PUBLIC) for p in some)
    cuts = Counter(v.cut or "accepted" for v in verdicts if v is not None)
    return ", ".join(f"{cut} {100 * n / len(some):.1f} %" for cut, n in cuts.most_common())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alerts", type=int, default=400_000, help="alerts for the engine")
    parser.add_argument("--twin", type=int, default=20_000, help="of them, for the twin")
    parser.add_argument("--astropy", type=int, default=4_000, help="of them, with astropy")
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the fastest counts")
    o = parser.parse_args(arguments)

    spark = get_session("benchmark t0", master="local[1]")
    table = simulate(o.alerts, seed=20)
    few = packets(table.slice(0, o.twin))
    points = len(table["datapoint_ids"].combine_chunks().values)
    print(f"{o.alerts} alerts, {points} datapoints; the fastest of {o.repeat} runs\n")
    print(f"{'':36s}{'alerts/s':>10s}{'us/alert':>10s}{'x astropy':>11s}{'x plain':>9s}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(table, folder / "alerts.parquet", row_group_size=100_000)
        parquet = spark.read.parquet(str(folder / "alerts.parquet"))
        parquet.write.format("delta").save(str(folder / "alerts"))
        delta = spark.read.format("delta").load(str(folder / "alerts"))
        for title, config in (("HU_RAPID", RAPID), ("HU_RAPID, wide", WIDE)):
            judged = make_filter("DecentFilter", config)
            slow = time_twin(few[: o.astropy], judged, astropy_latitude, 1)
            plain = time_twin(few, judged, galactic_latitude, o.repeat)
            print(f"{title}: {describe_cuts(few, judged)}")
            _line("twin, astropy's latitude", slow, slow, plain)
            _line("twin, plain arithmetic", plain, slow, plain)
            one = ChannelFilter("A", judged, PUBLIC)
            three = [
                one,
                ChannelFilter("B", SimpleDecentFilter(), PUBLIC),
                ChannelFilter("C", make_filter("DecentFilter", config | {"min_drb": 0.5}), PUBLIC),
            ]
            known = [ChannelFilter("A", judged, PUBLIC, "bypass")]
            for label, source, selections, to in (
                ("Parquet to nowhere", parquet, [one], None),
                ("Delta to nowhere", delta, [one], None),
                ("Delta to Delta", delta, [one], folder / "decisions"),
                ("Delta to nowhere, 3 channels", delta, three, None),
                ("Delta to nowhere, bypass", delta, known, None),
            ):
                seconds = time_engine(source, selections, to, o.alerts, o.repeat)
                _line(label, seconds, slow, plain)
    spark.stop()


def _line(label: str, seconds: float, slow: float, plain: float) -> None:
    ratios = f"{slow / seconds:11.1f}{plain / seconds:9.2f}"
    print(f"  {label:34s}{1 / seconds:10.0f}{1e6 * seconds:10.2f}{ratios}", flush=True)


if __name__ == "__main__":
    main()
