"""Every cut of a filter, in plain Python, against the engine."""
# ruff: noqa: E501  (values are easier to compare in rows)

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from ampel_spark.archive.ztf import alerts_table
from ampel_spark.commands.cuts import cut_outcomes, history_of
from ampel_spark.t0.filters import Conditions, DecentFilter, Filter, SimpleDecentFilter
from ampel_spark.t0.judge import explain
from ampel_spark.t0.selection import Selection
from tests.commands.small_lake import ALERTS

DECENT = DecentFilter(
    min_ndet=2, min_tspan=0.5, max_tspan=30.0, min_drb=0.5, min_rb=0.3, max_fwhm=5.0, max_elong=1.4,
    max_magdiff=0.4, max_nbad=0, min_sso_dist=20, min_gal_lat=14, ps1_sgveto_rad=2, ps1_sgveto_th=0.8,
    ps1_confusion_rad=3, ps1_confusion_sg_tol=0.1, gaia_rs=20, gaia_pm_signif=3, gaia_plx_signif=3,
    gaia_veto_gmag_min=9, gaia_veto_gmag_max=20, gaia_excessnoise_sig_max=999,
)  # fmt: skip
CONDITIONS = Conditions(
    conditions=(
        "rb >= 0.5", "drb >= 0.5 or missing", "isdiffpos in [t, 1]", "abs(gal_lat) > 14", "nbad != 1",
        "abs(magdiff) <= 0.2", "fid not in [3]", "tspan < 5", "archive_tspan >= 2 or missing", "n_detections >= 2",
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
    selection = Selection("SN", rule, rights, history=history)
    engine = {(r["alert_id"], r["position"]): r for r in explain(frame, selection).collect()}
    kept = [row.asDict() for row in frame.collect()]  # floats as the table keeps them
    seen = 0
    for alert in kept:
        if alert["programid"] not in rights:
            continue
        earlier = [
            r
            for r in kept
            if r["stock"] == alert["stock"] and r["programid"] in rights and r["jd"] < alert["jd"]
        ]
        outcomes = cut_outcomes(
            alert, rule, history_of(alert, earlier, rights, history), stars_off="none"
        )
        for outcome in outcomes:
            other = engine[alert["alert_id"], outcome.position]
            assert (outcome.cut, outcome.passed) == (other["cut"], other["passed"])
            if outcome.value is None or other["value"] is None:
                assert outcome.value is other["value"]
            else:
                assert outcome.value == pytest.approx(other["value"], rel=1e-12)
            assert outcome.threshold == other["threshold"]
            seen += 1
    assert seen == len(engine)
    assert {r["passed"] for r in engine.values()} >= {True, False}


def test_a_star_that_vetoes_fails_the_last_cut() -> None:
    alert = ALERTS[2]
    history = history_of(alert, [], frozenset({1}), "packet")
    off = cut_outcomes(alert, DECENT, history, stars_off="none")[-1]
    assert (off.cut, off.passed, off.detail) == ("gaia_star", None, "off: none")
    none = cut_outcomes(alert, DECENT, history, None)[-1]
    assert (none.passed, none.value) == (True, None)
    star = cut_outcomes(alert, DECENT, history, (0.5, 2.1))[-1]
    assert (star.passed, star.value, star.threshold) == (False, 0.5, 2.1)


def test_what_is_missing_is_named() -> None:
    alert = ALERTS[2] | {"fwhm": None, "rb": math.nan}
    history = history_of(alert, [], frozenset({1}), "packet")
    (cut,) = [
        o for o in cut_outcomes(alert, DECENT, history, stars_off="none") if o.cut == "missing keys"
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
