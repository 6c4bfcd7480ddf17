"""Every cut of a filter on one alert, against the engine."""
# ruff: noqa: E501  (values are easier to compare in rows)

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f

from ampel_spark.archive.reading.ztf import alerts_table
from ampel_spark.expressions import Expression
from ampel_spark.t0.explain import CutResult, explain, history_of
from ampel_spark.t0.filters import (
    Conditions,
    DecentFilter,
    Filter,
    SimpleDecentFilter,
    make_filter,
)
from ampel_spark.t0.gaia import StarCatalog
from ampel_spark.t0.history import archive_history, packet_history
from ampel_spark.t0.judge import judge
from ampel_spark.t0.quantities import HISTORY, Quantities
from ampel_spark.t0.selection import ChannelFilter
from tests.commands.small_lake import ALERTS
from tests.t0.packets import HU_RAPID, alert_row, alerts, by_alert, packet
from tests.t0.test_gaia import STAR, allowed, write

DECENT = DecentFilter(
    min_ndet=2, min_tspan=0.5, max_tspan=30.0, min_drb=0.5, min_rb=0.3, max_fwhm=5.0, max_elong=1.4,
    max_magdiff=0.4, max_nbad=0, min_sso_dist=20, min_gal_lat=14, ps1_sgveto_rad=2, ps1_sgveto_th=0.8,
    ps1_confusion_rad=3, ps1_confusion_sg_tol=0.1, gaia_rs=20, gaia_pm_signif=3, gaia_plx_signif=3,
    gaia_veto_gmag_min=9, gaia_veto_gmag_max=20, gaia_excessnoise_sig_max=999,
)  # fmt: skip
CONDITIONS = Conditions(
    conditions=(
        "rb >= 0.5", "drb >= 0.5 or missing", "isdiffpos in [t, 1]", "abs(gal_lat) > 14", "nbad != 1",
        "abs(magdiff) <= 0.2", "fid not in [3]", "rb > 0.8 or drb / nbad > 0.1", "0 <= ssdistnr < 25", "tspan < 5", "archive_tspan >= 2 or missing", "n_detections >= 2",
    )
)  # fmt: skip


def some_alerts(count: int) -> list[dict[str, Any]]:
    """Return alerts with values on both sides of every cut, some missing, some NaN, some not public."""
    random = np.random.default_rng(5)

    def pick(*values: Any) -> Any:
        value = values[random.integers(len(values))]
        return value

    rows = []
    for k in range(count):
        jd = 2458800.0 + 0.25 * k
        points = [(1000 + k, jd, int(random.integers(1, 4)))]
        points += [
            (
                int(random.integers(900, 1000 + k)),
                jd - float(random.integers(1, 40)),
                int(random.integers(1, 4)),
            )
            for _ in range(random.integers(0, 3))
        ]
        points += [(-k - 1, jd - 1.0, 1)]
        rows.append(
            ALERTS[0]
            | {
                "stock": int(random.integers(0, 6)),
                "alert_id": 1000 + k,
                "jd": jd,
                "datapoint_ids": [p[0] for p in points],
                "datapoint_jds": [p[1] for p in points],
                "datapoint_programids": [p[2] for p in points],
                "programid": points[0][2],
                "n_detections": len(points) - 1,
                "jd_first": min(p[1] for p in points if p[0] > 0),
                "jd_last": max(p[1] for p in points if p[0] > 0),
                "fid": pick(1, 2, 3),
                "isdiffpos": pick("t", "f", "1", "0", None),
                "rb": pick(0.1, 0.3, 0.5, 0.9, None, math.nan),
                "drb": pick(0.1, 0.5, 0.9, None),
                "fwhm": pick(2.0, 5.0, 6.0, None),
                "elong": pick(1.0, 1.4, 2.0),
                "magdiff": pick(-0.5, -0.2, 0.0, 0.2, 0.4, 0.5),
                "nbad": pick(0, 1, 2, None),
                "ssdistnr": pick(-999.0, 0.0, 5.0, 20.0, 30.0),
                "distpsnr1": pick(0.5, 1.0, 2.5, 9.0),
                "distpsnr2": pick(1.0, 2.5, 12.0, None),
                "distpsnr3": pick(1.5, 2.5, 20.0),
                "sgscore1": pick(0.45, 0.5, 0.55, 0.9),
                "sgscore2": pick(0.5, 0.9, None),
                "sgscore3": pick(0.45, 0.5, 0.9),
                "jdstarthist": pick(jd - 20.0, jd, None),
                "jdendhist": pick(jd, None),
                "dec": pick(-20.0, 30.0, 62.0),
                "ra": pick(10.0, 180.0, 300.0),
            }
        )
    return rows


@pytest.mark.spark
@pytest.mark.parametrize("history", ["packet", "archive"])
@pytest.mark.parametrize(
    "rule", [DECENT, SimpleDecentFilter(), CONDITIONS], ids=lambda f: type(f).__name__
)
def test_all_cuts_are_what_the_engine_says(spark: SparkSession, rule: Filter, history: Any) -> None:
    rights = frozenset({1, 2})
    rows = some_alerts(60)
    schema = alerts_table().schema()
    data = [tuple(row.get(name) for name in schema.names) for row in rows]
    frame = spark.createDataFrame(data, schema)
    judged = ChannelFilter("SN", rule, rights, history=history)
    engine = by_engine(frame, judged)
    kept = [row.asDict() for row in frame.collect()]  # floats as the table keeps them
    seen, passed = 0, set()
    for alert in kept:
        if alert["programid"] not in rights:
            continue
        earlier = [
            r
            for r in kept
            if r["stock"] == alert["stock"] and r["programid"] in rights and r["jd"] < alert["jd"]
        ]
        for result in explain(alert, judged, earlier):
            other = engine[alert["alert_id"]][f"c{result.position}"]
            passed.add(result.passed)
            if not result.detail.startswith("off"):
                assert result.passed is not other["rejects"]
            if isinstance(result.value, str):  # decisions record numbers alone
                assert result.value == alert["isdiffpos"]
                assert other["value"] is None
            elif result.value is None or other["value"] is None:
                assert result.value is other["value"]
            else:
                assert result.value == pytest.approx(other["value"], rel=1e-12)
            assert result.threshold == other["threshold"]
            seen += 1
    assert seen == sum(len(judged.cuts()) for alert in kept if alert["programid"] in rights)
    assert passed >= {True, False}


def by_engine(frame: DataFrame, judged: ChannelFilter) -> dict[int, Any]:
    """Return what Spark makes of each cut, of every alert."""
    add = packet_history if judged.history == "packet" else archive_history
    rows = add(frame, judged.access, "_history")
    made = {name: f"_history.{name}" for name in HISTORY}
    made |= dict.fromkeys(("gaia_distance", "gaia_allowed"), "CAST(NULL AS DOUBLE)")
    quantities = Quantities(dict(rows.dtypes), made)

    def sql(expression: Expression | float | None, type_name: str) -> Column:
        if not isinstance(expression, Expression):
            return f.lit(expression).cast(type_name)
        term = expression.term(quantities.types, quantities.__getitem__)
        return f.expr("NULL" if term.kind == "string" else term.sql).cast(type_name)

    cuts = [
        f.struct(
            f.coalesce(sql(cut.rejects, "boolean"), f.lit(False)).alias("rejects"),
            sql(cut.value, "double").alias("value"),
            sql(cut.threshold, "double").alias("threshold"),
        ).alias(f"c{position}")
        for position, cut in enumerate(judged.cuts(), start=1)
    ]
    return {row["alert_id"]: row for row in rows.select("alert_id", *cuts).collect()}


@pytest.mark.spark
def test_every_cut_is_shown_with_value_and_threshold(spark: SparkSession) -> None:
    packets = [packet(1, nbad=3, rb=0.25, ssdistnr=None, fwhm=math.nan), packet(2)]
    judged = ChannelFilter("A", make_filter("DecentFilter", HU_RAPID), frozenset({1}))
    results = {row["alert_id"]: explain(row, judged) for row in map(alert_row, packets)}
    cuts = [cut.name for cut in judged.filter.cuts()]
    for found in results.values():
        assert [r.cut for r in found] == cuts
    first = {r.cut: r for r in results[1]}
    failed = {name for name, r in first.items() if r.passed is False}
    assert failed == {"missing keys", "min_rb", "max_nbad"}
    assert first["missing keys"].detail == "missing: fwhm, ssdistnr"
    assert (first["max_nbad"].value, first["max_nbad"].threshold) == (3.0, 0.0)
    assert first["min_rb"].rule == "rb < 0.3"
    assert first["gaia_star"].passed is None
    decisions = by_alert(judge(alerts(spark, packets), [judged]))
    for alert_id, found in results.items():
        rejecting = [r for r in found if r.passed is False]
        assert decisions["A", alert_id].cut == (rejecting[0].cut if rejecting else None)


def explained(alert: dict[str, Any], gaia: StarCatalog | None = None) -> list[CutResult]:
    judged = ChannelFilter("SN", DECENT, frozenset({1}), gaia=gaia)
    return explain(alert, judged, stars_off="" if gaia else "none")


def test_a_star_that_vetoes_fails_the_last_cut(tmp_path: Path) -> None:
    alert = ALERTS[2]
    off = explained(alert)[-1]
    assert (off.cut, off.passed, off.detail) == ("gaia_star", None, "off: none")
    far = write(tmp_path / "far.parquet", [STAR | {"ra": 10.0}])
    none = explained(alert, gaia=far)[-1]
    assert (none.passed, none.value, none.detail) == (True, None, "")
    near = STAR | {"ra": alert["ra"], "dec": alert["dec"] + 0.5 / 3600}
    star = explained(alert, gaia=write(tmp_path / "near.parquet", [near]))[-1]
    assert star.passed is False
    assert star.value == pytest.approx(0.5, abs=1e-8)
    assert star.threshold == pytest.approx(allowed(17.0))


def test_what_is_missing_is_named() -> None:
    (cut,) = [
        r for r in explained(ALERTS[2] | {"fwhm": None, "rb": math.nan}) if r.cut == "missing keys"
    ]
    assert (cut.passed, cut.detail) == (False, "missing: fwhm, rb")


def test_a_history_counts_what_may_be_seen_and_each_point_once() -> None:
    public, partner = frozenset({1}), frozenset({1, 2})
    last = ALERTS[2]
    assert history_of(last, [], public, "packet")["n_detections"] == 2
    assert history_of(last, [], partner, "packet")["n_detections"] == 3
    short = last | {
        "datapoint_ids": [13],
        "datapoint_jds": [2458815.5],
        "datapoint_programids": [1],
    }
    assert history_of(short, ALERTS[:2], public, "packet")["n_detections"] == 1
    archive = history_of(short, ALERTS[:2], partner, "archive")
    assert archive == {"n_detections": 3, "jd_first": 2458810.5, "jd_last": 2458815.5}
