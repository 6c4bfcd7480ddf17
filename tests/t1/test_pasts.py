"""What a filter in Python sees of an object up to an alert, against a plain loop."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from ampel_spark.classes import packed
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.tables import TABLES
from ampel_spark.t0 import Alert, ChannelFilter, Filter, Verdict
from ampel_spark.t0.judge import CUT
from ampel_spark.t1.pasts import ALERT_COLUMNS, PastsAsked, judged, pasts
from ampel_spark.t1.states import POINT_COLUMNS

POINTS = pa.schema([arrow_schema(TABLES["datapoints"]).field(name) for name in POINT_COLUMNS])


class Least(Filter):
    """At least so many points."""

    n: int = 3

    def judge(self, alert: Alert) -> Verdict:
        assert alert.light_curve is not None
        return Verdict(len(alert.light_curve) >= self.n, "n", len(alert.light_curve), self.n)


def archive(odd: random.Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return alerts of three objects, and their datapoints with revisions."""
    alerts: list[dict[str, Any]] = []
    points: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for number in range(30):
        stock, jd = odd.randint(1, 3), 10.0 + number // 2
        mine = [a for a in alerts if a["stock"] == stock]
        shown = odd.sample([a["alert_id"] for a in mine], odd.randint(0, len(mine)))
        alert_id = 100 + number
        alerts.append(
            {"survey": "ztf", "stock": stock, "name": f"SN{stock}", "jd": jd, "alert_id": alert_id,
             "programid": odd.choice([1, 1, 1, 2]), "datapoint_ids": [alert_id, *shown],
             "forced_ids": odd.choice([None, []])}
        )  # fmt: skip
        for identity in alerts[-1]["datapoint_ids"]:
            seen = points.setdefault((stock, identity), [])
            if not seen or odd.random() < 0.2:
                first = seen[0] if seen else None
                seen.append(
                    {"survey": "ztf", "stock": stock, "datapoint_id": identity,
                     "revision": len(seen), "kind": "detection", "jd": first["jd"] if first else jd,
                     "band": "ztfr", "mag": round(odd.uniform(17, 20), 3), "magerr": 0.1, "sign": 1,
                     "zp": 25.0, "zpsys": "ab",
                     "programid": first["programid"] if first else alerts[-1]["programid"],
                     "field": 1, "rcid": identity % 64, "first_alert_jd": jd,
                     "first_alert_id": alert_id}
                )  # fmt: skip
    return alerts, [row for seen in points.values() for row in seen]


def plain(
    alert: dict[str, Any],
    alerts: list[dict[str, Any]],
    points: list[dict[str, Any]],
    packet: bool,
    access: frozenset[int] | None,
) -> dict[int, float]:
    """Return the magnitudes that may be seen up to an alert, by datapoint."""
    now = (alert["jd"], alert["alert_id"])
    seen = {}
    for row in sorted(points, key=lambda row: row["revision"]):
        identity = row["datapoint_id"]
        if row["stock"] != alert["stock"] or (access and row["programid"] not in access):
            continue
        if packet and identity not in alert["datapoint_ids"]:
            continue
        begin = (row["first_alert_jd"], row["first_alert_id"])
        later = [
            (o["first_alert_jd"], o["first_alert_id"])
            for o in points
            if (o["stock"], o["datapoint_id"]) == (row["stock"], identity)
            and o["revision"] > row["revision"]
        ]
        showing = [
            (a["jd"], a["alert_id"])
            for a in alerts
            if a["stock"] == row["stock"] and identity in a["datapoint_ids"]
            and (access is None or a["programid"] in access)
        ]  # fmt: skip
        if any(begin <= s <= now and all(s < end for end in later) for s in showing):
            seen[identity] = row["mag"]
    return seen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("packet", [True, False])
@pytest.mark.parametrize("access", [None, frozenset({1})])
def test_a_judge_sees_the_points_and_the_values_that_its_alert_knew(
    seed: int, packet: bool, access: frozenset[int] | None
) -> None:
    alerts, points = archive(random.Random(seed))
    asked = [a for a in alerts if access is None or a["programid"] in access]
    tables = pa.Table.from_pylist(points, POINTS), of_alerts(alerts)
    found = pasts(asked, *tables, None, packet, access)
    for alert, curve in zip(asked, found, strict=True):
        expected = plain(alert, alerts, points, packet, access)
        mine = dict(zip(curve.datapoint_id.tolist(), curve.mag.round(3).tolist(), strict=True))
        assert mine == pytest.approx(expected)
        assert (curve.name, curve.stock) == (alert["name"], alert["stock"])
    # the last point is the alert's own
    assert all(c.jd[-1] == a["jd"] for a, c in zip(asked, found, strict=True))


def test_filters_are_asked_about_what_they_see_and_no_cut_rejects() -> None:
    alerts, points = archive(random.Random(1))
    channels = [ChannelFilter("A", Least()), ChannelFilter("B", Least(n=2), frozenset({1}))]
    asked = [PastsAsked.of(k, c, packed(c.filter, Filter)) for k, c in enumerate(channels)]
    rejected = {"cut": "rb", "value": 0.1, "threshold": 0.5}
    rows = pa.Table.from_pylist(
        [
            {"_alert": a, "_sees0": True, "_cut0": rejected if i == 3 else None, "_past0": {},
             "_sees1": a["programid"] == 1, "_cut1": None, "_past1": {}}
            for i, a in enumerate(alerts)
        ],
        of_rows(alerts),
    )  # fmt: skip
    assert "value: double" in CUT
    made = judged(asked, rows, pa.Table.from_pylist(points, POINTS), of_alerts(alerts)).to_pylist()
    for i, (row, alert) in enumerate(zip(made, alerts, strict=True)):
        n = len(plain(alert, alerts, points, True, None))
        whole = None if n >= 3 else {"cut": "n", "value": n, "threshold": 3.0}
        assert row["_cut0"] == (rejected if i == 3 else whole)
        if alert["programid"] == 1:
            n = len(plain(alert, alerts, points, True, frozenset({1})))
            assert row["_cut1"] == (None if n >= 2 else {"cut": "n", "value": n, "threshold": 2.0})
        else:
            assert row["_cut1"] is None


def of_rows(alerts: list[dict[str, Any]]) -> pa.Schema:
    whole = of_alerts(alerts).append_column("name", [[a["name"] for a in alerts]])
    cut = pa.struct([("cut", pa.string()), ("value", pa.float64()), ("threshold", pa.float64())])
    past = pa.struct([("n_detections", pa.int32())])
    columns = [("_sees", pa.bool_()), ("_cut", cut), ("_past", past)]
    each = [(f"{name}{k}", kind) for k in (0, 1) for name, kind in columns]
    return pa.schema([("_alert", whole.to_struct_array().type), *each])


def of_alerts(alerts: list[dict[str, Any]]) -> pa.Table:
    kinds: dict[str, Any] = {"survey": pa.string(), "jd": pa.float64(), "programid": pa.int32()}
    lists = dict.fromkeys(("datapoint_ids", "forced_ids"), pa.list_(pa.int64()))
    schema = pa.schema([(n, {**kinds, **lists}.get(n, pa.int64())) for n in ALERT_COLUMNS])
    return pa.Table.from_pylist(alerts, schema)
