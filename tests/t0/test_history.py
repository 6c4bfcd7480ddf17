"""What was known of an object when an alert came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as f

from ampel_spark.t0 import ChannelFilter, Conditions
from ampel_spark.t0.history import archive_history, packet_history
from ampel_spark.t0.judge import judge
from tests.t0.packets import Packet, alerts, by_alert, packet

pytestmark = pytest.mark.spark

JD = 2459010.0
ACCESSES = (None, frozenset({1}), frozenset({1, 2}), frozenset({2}))


def streams(seed: int) -> list[Packet]:
    """Alerts of a few objects, whose histories overlap, slide and leave out points."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(12):
        name = f"ZTF20aaaaa{chr(97 + number)}b"
        points = [
            (JD + float(t), 100_000 * (number + 1) + i, int(p))
            for i, (t, p) in enumerate(
                zip(
                    np.sort(rng.integers(0, 60, 25)) / 2.0,
                    rng.choice([1, 1, 1, 2, 3], 25),
                    strict=True,
                )
            )
        ]
        for jd, candid, programid in points:
            if rng.random() < 0.3:
                continue  # seen in later histories only
            earlier = [p for p in points if jd - 12 < p[0] <= jd and p[1] != candid]
            history: list[Any] = [p for p in earlier if rng.random() < 0.8]
            history += [(jd - 0.25, None, 1)] * int(rng.integers(0, 3))
            made.append(packet(candid, jd, name=name, history=history, programid=programid))
    return made


def known(
    packets: list[Packet], access: frozenset[int] | None
) -> dict[int, tuple[int, float, float]]:
    """Go through the alerts one by one, in order, and remember what they show."""
    seen: dict[str, dict[int, float]] = {}
    found = {}
    for p in sorted(packets, key=lambda p: (p["candidate"]["jd"], p["candidate"]["candid"])):
        if access is not None and p["candidate"]["programid"] not in access:
            continue
        mine = seen.setdefault(p["objectId"], {})
        for d in (p["candidate"], *p["prv_candidates"]):
            if d["candid"] and (access is None or d["programid"] in access):
                mine[d["candid"]] = d["jd"]
        found[p["candidate"]["candid"]] = (len(mine), min(mine.values()), max(mine.values()))
    return found


@pytest.mark.parametrize("access", ACCESSES)
def test_the_history_of_the_archive_is_what_one_would_have_remembered(
    spark: SparkSession, access: frozenset[int] | None
) -> None:
    packets = streams(seed=3)
    truth = known(packets, access)
    shuffled = np.random.default_rng(4).permutation(len(packets))
    df = alerts(spark, [packets[i] for i in shuffled]).repartition(5, "jd")
    rows = archive_history(df, access, "h").where(
        f.lit(access is None) | f.col("programid").isin(*(access or ()))
    )
    found = {r.alert_id: tuple(r.h) for r in rows.select("alert_id", "h").collect()}
    assert found == truth
    # the packets alone would have known less
    own = archive_history(df.withColumn("stock", f.col("alert_id")), access, "h")
    alone = {r.alert_id: r.h.n_detections for r in own.select("alert_id", "h").collect()}
    assert any(truth[i][0] > alone[i] for i in truth)


@pytest.mark.parametrize("access", ACCESSES)
def test_the_history_of_a_packet_is_its_own(
    spark: SparkSession, access: frozenset[int] | None
) -> None:
    packets = streams(seed=5)
    truth = {}
    for p in packets:
        points = [
            d["jd"]
            for d in (p["candidate"], *p["prv_candidates"])
            if d["candid"] and (access is None or d["programid"] in access)
        ]
        truth[p["candidate"]["candid"]] = (
            len(points), min(points, default=None), max(points, default=None),
        )  # fmt: skip
    rows = packet_history(alerts(spark, packets), access, "h").select("alert_id", "h").collect()
    assert {r.alert_id: tuple(r.h) for r in rows} == truth


def test_a_channel_can_judge_by_packet_and_another_by_archive(spark: SparkSession) -> None:
    first = packet(1, JD, history=[(JD - 2, 90, 1)])
    # forty days later the packet has forgotten what came before
    second = packet(2, JD + 40, history=[])
    three = Conditions(conditions=("n_detections >= 3", "tspan > 30"))
    found = by_alert(
        judge(
            alerts(spark, [second, first]),
            [ChannelFilter("packet", three), ChannelFilter("archive", three, history="archive")],
        )
    )
    assert not found["packet", 2].accepted
    assert found["packet", 2].value == 1.0
    assert found["archive", 2].accepted
    assert not found["archive", 1].accepted
    assert found["archive", 1].value == 2.0


def test_two_accesses_remember_apart(spark: SparkSession) -> None:
    packets = [packet(1, JD, programid=2, history=[]), packet(2, JD + 1, history=[])]
    two = Conditions(conditions=("n_detections >= 2",))
    found = by_alert(
        judge(
            alerts(spark, packets),
            [
                ChannelFilter("public", two, frozenset({1}), history="archive"),
                ChannelFilter("partners", two, frozenset({1, 2}), history="archive"),
            ],
        )
    )
    assert {key: r.value if r.cut else "accepted" for key, r in found.items()} == {
        ("public", 2): 1.0,
        ("partners", 1): 1.0,
        ("partners", 2): "accepted",
    }
