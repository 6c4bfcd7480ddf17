"""Channels that ask for calibrated photometry are judged by it, and others as before."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from ampel_spark.archive.ids import stock_of
from ampel_spark.calibration.alerts import calibrated_alert
from ampel_spark.calibration.release import RAW, Release, Rule, Selects
from ampel_spark.t0 import ChannelFilter, Conditions
from ampel_spark.t0.explain import explain
from ampel_spark.t0.judge import judge
from tests.t0.packets import alert_row, alerts, by_alert, packet

RELEASE = Release(
    "mine",
    rules=(
        Rule(1, select=Selects(band=("ztfg",)), zero_point=0.25),
        Rule(2, select=Selects(rcid=(7,)), mask=True),
    ),
)
BRIGHT = Conditions(conditions=["magpsf < 18.6"])


@pytest.mark.spark
def test_only_the_channel_that_asks_is_judged_by_calibrated_photometry(
    spark: SparkSession,
) -> None:
    packets = [
        packet(1, magpsf=18.5, fid=1),
        packet(2, magpsf=18.5, fid=2, name="ZTF20aaaaaac"),
        packet(3, magpsf=17.0, fid=2, rcid=7, name="ZTF20aaaaaad"),
        packet(4, magpsf=18.25, fid=1, name="ZTF20aaaaaae"),
    ]
    rows = alerts(spark, packets)
    own = ChannelFilter("own", BRIGHT, release=RELEASE)
    found = by_alert(judge(rows, [ChannelFilter("issued", BRIGHT), own]))
    assert {i: found["issued", i].cut for i in range(1, 5)} == dict.fromkeys(range(1, 5))
    assert {i: found["own", i].cut for i in range(1, 5)} == {
        1: "magpsf < 18.6", 2: None, 3: "masked", 4: None,
    }  # fmt: skip
    assert found["own", 1].value == 18.75
    explained = {
        (i, result.cut): result.passed
        for i, p in enumerate(packets, start=1)
        for result in explain(alert_row(p), own)
    }
    assert explained == {
        (1, "masked"): True, (1, "magpsf < 18.6"): False, (2, "masked"): True,
        (2, "magpsf < 18.6"): True, (3, "masked"): False, (3, "magpsf < 18.6"): True,
        (4, "masked"): True, (4, "magpsf < 18.6"): True,
    }  # fmt: skip


def test_a_trace_names_the_release_where_it_changes_something() -> None:
    issued = ChannelFilter("a", BRIGHT).trace_id
    assert ChannelFilter("a", BRIGHT, release=RAW).trace_id == issued
    mine = ChannelFilter("a", BRIGHT, release=RELEASE).trace_id
    assert mine != issued
    other = Release("mine", rules=RELEASE.rules[:1])
    assert ChannelFilter("a", BRIGHT, release=other).trace_id not in (issued, mine)
    assert next(c.name for c in ChannelFilter("a", BRIGHT, release=RELEASE).cuts()) == "masked"


def test_one_alert_is_calibrated_by_itself() -> None:
    alert = {
        "survey": "ztf", "alert_id": 5, "stock": stock_of("ZTF20aaaaaab"), "jd": 2459010.0,
        "fid": 1, "field": 600, "rcid": None, "magpsf": 18.5, "sigmapsf": 0.1, "diffmaglim": None,
        "rb": 0.5,
    }  # fmt: skip
    made = calibrated_alert(alert, RELEASE)
    assert made == alert | {"magpsf": 18.75, "masked": 0}
    # what is not touched stays as it was, to the last bit
    alert |= {"fid": 2, "magpsf": 18.123456789, "rcid": 7}
    assert calibrated_alert(alert, RELEASE) == alert | {"masked": 1}
