"""Objects of which an earlier alert was accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyspark.sql import Row, SparkSession

from ampel_spark.t0 import ChannelFilter, Conditions
from ampel_spark.t0.judge import judge
from tests.t0.packets import Packet, alerts, by_alert, packet
from tests.t0.twin import judge_packet

pytestmark = pytest.mark.spark

JD = 2459010.0
BRIGHT = Conditions(conditions=("magpsf < 18",), by_group=(("magpsf < 17",),))


NOTHING = (None, None, None, None)
JUDGED = (True, False, None, None, None, 1)


def said(row: Row) -> tuple[Any, ...]:
    return row.accepted, row.bypassed, row.cut, row.value, row.threshold, row.group


@pytest.fixture(scope="module")
def rise_and_fall() -> list[Packet]:
    """Faint, bright, very bright, faint."""
    return [packet(i, JD + i, magpsf=mag) for i, mag in enumerate((19, 17.5, 16.5, 19.5), start=1)]


@pytest.mark.parametrize(
    ("how", "bright_again", "faint_again"),
    [
        ("none", JUDGED, (False, False, "magpsf < 18", 19.5, 18.0, None)),
        ("bypass", (True, True, *NOTHING), (True, True, *NOTHING)),
        ("overrule", JUDGED, (True, True, "magpsf < 18", 19.5, 18.0, None)),
        ("silent_overrule", JUDGED, (True, True, *NOTHING)),
    ],
)
def test_what_becomes_of_later_alerts(
    spark: SparkSession,
    rise_and_fall: list[Packet],
    how: Any,
    bright_again: tuple[Any, ...],
    faint_again: tuple[Any, ...],
) -> None:
    df = alerts(spark, rise_and_fall)
    found = by_alert(judge(df, [ChannelFilter("A", BRIGHT, on_stock_match=how)]))
    assert said(found["A", 1]) == (False, False, "magpsf < 18", 19.0, 18.0, None)
    assert said(found["A", 2]) == (True, False, None, None, None, None)
    assert said(found["A", 3]) == bright_again
    assert said(found["A", 4]) == faint_again


def test_bypass_works_in_the_first_run_on_an_empty_lake(
    spark: SparkSession, rise_and_fall: list[Packet]
) -> None:
    """AMPEL accepts the last alert or not, depending on whether its database held any object."""
    alone = by_alert(
        judge(alerts(spark, rise_and_fall), [ChannelFilter("A", BRIGHT, None, "bypass")])
    )
    other = packet(99, JD - 50, name="ZTF19zzzzzzz", magpsf=15)
    beside = by_alert(
        judge(alerts(spark, [other, *rise_and_fall]), [ChannelFilter("A", BRIGHT, None, "bypass")])
    )
    assert alone["A", 4].accepted
    assert {k: said(r) for k, r in alone.items()} == {
        k: said(r) for k, r in beside.items() if k[1] != 99
    }


def test_alerts_of_one_time_follow_their_ids(spark: SparkSession) -> None:
    df = alerts(
        spark, [packet(6, JD, magpsf=19), packet(5, JD, magpsf=17), packet(4, JD, magpsf=19)]
    )
    found = by_alert(judge(df, [ChannelFilter("A", BRIGHT, None, "bypass")]))
    assert [found["A", i].accepted for i in (4, 5, 6)] == [False, True, True]


def test_channels_know_their_own_objects_only(
    spark: SparkSession, rise_and_fall: list[Packet]
) -> None:
    faint = Conditions(conditions=("magpsf > 19.2",))
    found = by_alert(
        judge(
            alerts(spark, rise_and_fall),
            [ChannelFilter("A", BRIGHT, None, "bypass"), ChannelFilter("B", faint, None, "bypass")],
        )
    )
    assert [found["B", i].accepted for i in (1, 2, 3, 4)] == [False, False, False, True]
    assert not found["B", 4].bypassed


def test_an_alert_that_the_channel_may_not_see_opens_no_door(spark: SparkSession) -> None:
    df = alerts(spark, [packet(1, JD, magpsf=16, programid=2), packet(2, JD + 1, magpsf=19)])
    found = by_alert(
        judge(
            df,
            [
                ChannelFilter("public", BRIGHT, frozenset({1}), "bypass"),
                ChannelFilter("partners", BRIGHT, frozenset({1, 2}), "bypass"),
            ],
        )
    )
    assert found.keys() == {("public", 2), ("partners", 1), ("partners", 2)}
    assert not found["public", 2].accepted
    assert found["partners", 2].accepted


def test_the_order_of_rows_and_files_does_not_matter(spark: SparkSession) -> None:
    rng = np.random.default_rng(11)
    packets = [
        packet(
            1000 + i,
            JD + int(rng.integers(0, 8)),
            name=f"ZTF20aaaaa{chr(97 + int(rng.integers(0, 20)))}b",
            magpsf=float(rng.uniform(17.7, 19)),
        )
        for i in range(300)
    ]
    hows: tuple[Any, ...] = ("bypass", "overrule", "silent_overrule")
    selections = [ChannelFilter(how, BRIGHT, on_stock_match=how) for how in hows]

    # one alert after the other, as a stream would bring them
    accepted: set[str] = set()
    truth = {}
    for p in sorted(packets, key=lambda p: (p["candidate"]["jd"], p["candidate"]["candid"])):
        verdict = judge_packet(p, BRIGHT)
        assert verdict is not None
        truth[p["candidate"]["candid"]] = verdict.accepted or p["objectId"] in accepted
        if verdict.accepted:
            accepted.add(p["objectId"])

    runs = []
    for seed, partitions in ((0, 1), (1, 3), (2, 7)):
        order = np.random.default_rng(seed).permutation(len(packets))
        df = alerts(spark, [packets[i] for i in order]).repartition(partitions)
        found = by_alert(judge(df, selections))
        runs.append({key: said(r) for key, r in found.items()})
        for how in hows:
            assert {i: found[how, i].accepted for i in truth} == truth
    assert runs[0] == runs[1] == runs[2]
    assert sum(truth.values()) > sum(
        r[0] and not r[1] for k, r in runs[0].items() if k[0] == "bypass"
    )
