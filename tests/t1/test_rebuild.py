"""When a point was first seen, by one object in Python and in Arrow for all."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from ampel_spark.errors import LakeError
from ampel_spark.t1.rebuild import _first_seen, rebuild
from ampel_spark.t1.states import visible_points

ALERTS = pa.schema(
    [("survey", pa.string()), ("stock", pa.int64()), ("alert_id", pa.int64()),
     ("jd", pa.float64()), ("programid", pa.int32()), ("datapoint_ids", pa.list_(pa.int64())),
     ("forced_ids", pa.list_(pa.int64()))]
)  # fmt: skip
POINTS = pa.schema(
    [("survey", pa.string()), ("stock", pa.int64()), ("datapoint_id", pa.int64()),
     ("revision", pa.int32()), ("programid", pa.int32()), ("first_alert_jd", pa.float64()),
     ("first_alert_id", pa.int64())]
)  # fmt: skip


def made(stock: int, odd: random.Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return alerts of one object and its datapoints, with revisions, of several data rights."""
    ids = [100 * stock + i for i in range(odd.randint(1, 6))]
    rights = {i: odd.choice([1, 1, 2]) for i in ids}
    alerts = [
        {
            "survey": "ztf",
            "stock": stock,
            "alert_id": 1000 * stock + n,
            "jd": 2459000.5 + odd.randint(0, 4),
            "programid": odd.choice([1, 1, 1, 2, 3]),
            "datapoint_ids": sorted(odd.sample(ids, odd.randint(0, len(ids)))),
            "forced_ids": odd.choice([None, [], [odd.choice(ids)]]),
        }
        for n in range(odd.randint(1, 7))
    ]
    alerts.sort(key=lambda a: (a["jd"], a["alert_id"]))
    points = []
    for identity in ids:
        showing = [a for a in alerts if identity in [*a["datapoint_ids"], *(a["forced_ids"] or ())]]
        begins = sorted(odd.sample(range(len(showing)), min(len(showing), odd.randint(1, 3))))
        for revision, at in enumerate(begins):
            points.append(
                {"survey": "ztf", "stock": stock, "datapoint_id": identity, "revision": revision,
                 "programid": rights[identity], "first_alert_jd": showing[at]["jd"],
                 "first_alert_id": showing[at]["alert_id"]}
            )  # fmt: skip
    return alerts, points


@pytest.mark.parametrize("access", [{1}, {1, 2}, {1, 2, 3}], ids=str)
def test_both_say_alike_when_each_revision_was_first_seen(access: set[int]) -> None:
    objects = [made(stock, random.Random(stock)) for stock in range(1, 80)]
    alerts = [a for mine, _ in objects for a in mine]
    points = [p for _, mine in objects for p in mine]
    random.Random(7).shuffle(points)
    tables = pa.Table.from_pylist(alerts, ALERTS), pa.Table.from_pylist(points, POINTS)
    rows = visible_points(*tables, frozenset(access)).to_pylist()
    theirs = {
        (r["stock"], r["datapoint_id"], r["revision"]): (r["seen_jd"], r["seen_alert_id"])
        for r in rows
    }
    ours = {}
    for mine, own in objects:
        rights = {(p["datapoint_id"], p["revision"]): p["programid"] for p in own}
        for key, seen in _first_seen(mine, own, frozenset(access)).items():
            if rights[key] in access:
                ours[mine[0]["stock"], *key] = seen
    assert len(theirs) > 50
    assert ours == theirs


def test_a_light_curve_that_is_not_the_states_is_refused() -> None:
    state = {"survey": "ztf", "stock": 1, "name": "ZTF18aaaaaab", "state_id": "f" * 32}
    link = {"access": "1", "points": "detection", "as_of_jd": None, "as_of_alert_id": None,
            "datapoints_version": 3, "calibration": "raw"}  # fmt: skip
    with pytest.raises(LakeError, match=r"state f+ .*cannot be made again: datapoints version 3"):
        rebuild(state, link, [], [])
