"""States as wanted, as known then, and as those may see them who ask."""

from collections import defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ampel_spark.archive.committing.revisions import Sighting, history, revisions
from ampel_spark.archive.reading.ztf import POINT_COLUMNS
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.tables import TABLES
from ampel_spark.t1.states import ALL, Wanted, light_curves, requests, visible_points

JD = 2458300.5

ALERT_SCHEMA = pa.schema(
    [("survey", pa.string()), ("stock", pa.int64()), ("name", pa.string()),
     ("alert_id", pa.int64()), ("jd", pa.float64()), ("programid", pa.int32()),
     ("datapoint_ids", pa.list_(pa.int64())), ("forced_ids", pa.list_(pa.int64()))]
)  # fmt: skip


def alert(
    i: int,
    day: float,
    shows: dict[int, float],
    programid: int = 1,
    stock: int = 17,
    hidden: tuple[int, ...] = (),
    forced: tuple[int, ...] = (),
) -> dict[str, Any]:
    """An alert that shows datapoints: magnitude by id; `hidden` ones belong to program 2."""
    return {"survey": "ztf", "stock": stock, "name": f"ZTF{stock}", "alert_id": i, "jd": JD + day,
            "programid": programid, "datapoint_ids": [i for i in shows if i not in forced],
            "forced_ids": list(forced) or None, "shows": shows, "hidden": hidden}  # fmt: skip


ALERTS = [
    alert(1, 0, {1: 18.0, -5: 0.0}),
    alert(2, 1, {2: 18.5, 1: 18.0}),
    alert(3, 2, {3: 19.0, 2: 18.5, 1: 18.1}),  # a revision of 1
    alert(10, 0, {10: 17.0}, stock=33),
    alert(11, 3, {11: 17.5, 10: 17.0, 12: 17.2}, stock=33, hidden=(12,)),
    alert(13, 1, {13: 17.4, 10: 17.0}, stock=33, programid=2, hidden=(13,)),
]


def kind(alert: dict[str, Any], i: int) -> str:
    if i in (alert["forced_ids"] or ()):
        return "forced"
    return "detection" if i > 0 else "upper_limit"


def frames(alerts: list[dict[str, Any]]) -> tuple[pa.Table, pa.Table]:
    """Return alerts, and their datapoints."""
    frame = pa.Table.from_pylist(alerts, ALERT_SCHEMA)
    sighted = [
        {
            "survey": a["survey"], "stock": a["stock"], "first_alert_jd": a["jd"],
            "first_alert_id": a["alert_id"], "datapoint_id": i, "jd": JD + i / 10, "band": "ztfg",
            "kind": kind(a, i), "mag": mag if i > 0 else None, "flux": 10.0, "fluxerr": 1.0,
            "magerr": 0.1 if i > 0 else None, "limit_mag": 20.0, "sign": 1 if i > 0 else 0,
            "zpsys": "ab", "programid": 2 if i in a["hidden"] else 1, "field": 1, "rcid": 1,
            "pid": 1, "value_hash": int(mag * 1000),
        }
        for a in alerts
        for i, mag in a["shows"].items()
    ]  # fmt: skip
    shown = defaultdict(list)
    for row in sighted:
        values = dict.fromkeys(name for name, _ in POINT_COLUMNS) | row
        key = row["survey"], row["stock"], row["datapoint_id"]
        shown[key].append(Sighting(row["first_alert_jd"], row["first_alert_id"], values))
    datapoints = [
        kept.values
        | {"revision": number, "first_alert_jd": kept.jd, "first_alert_id": kept.alert_id}
        for own in shown.values()
        for number, kept in enumerate(revisions(history((), (), own)))
    ]
    return frame, pa.Table.from_pylist(datapoints, arrow_schema(TABLES["datapoints"]))


def states(
    alerts: list[dict[str, Any]],
    wanted: Wanted,
    access: frozenset[int] = frozenset({1, 2}),
    as_of: float | None = None,
) -> list[dict[str, Any]]:
    every, datapoints = frames(alerts)
    # T0 accepts what may be seen, up to the run's time
    seen = pc.field("programid").isin([*access]) & (pc.field("jd") <= (as_of or ALL))
    asked = requests(channels(every.filter(seen), "c"), wanted, as_of)
    points = visible_points(every, datapoints, access)
    made = {r["request"]: r for r in light_curves(asked, points, wanted.points).to_pylist()}
    rows = [made[a["request"]] | a for a in asked.to_pylist() if a["request"] in made]
    return sorted(rows, key=lambda r: (r["stock"], r["until_jd"]))


def channels(alerts: pa.Table, *names: str) -> pa.Table:
    """Return alerts as each of some channels accepts them."""
    rows = alerts.select(["survey", "stock", "name", "alert_id", "jd"])
    return pa.concat_tables(
        [rows.append_column("channel", pa.repeat(name, len(rows))) for name in names]
    )


def test_latest_is_one_state_of_each_object_with_the_newest_values() -> None:
    one, two = states(ALERTS, Wanted("latest"))
    assert one["datapoint_ids"] == [-5, 1, 2, 3]
    assert one["lc_mag"][1:] == [18.1, 18.5, 19.0]
    assert two["datapoint_ids"] == [10, 11, 12, 13]


def test_one_state_per_alert_holds_what_was_known_then() -> None:
    made = [
        (s["alert_id"], s["datapoint_ids"], s["lc_mag"][1])
        for s in states(ALERTS, Wanted("alert"))
        if s["stock"] == 17
    ]
    assert made == [(1, [-5, 1], 18.0), (2, [-5, 1, 2], 18.0), (3, [-5, 1, 2, 3], 18.1)]


def test_states_as_of_given_times() -> None:
    made = states(ALERTS, Wanted("as_of", (JD - 1, JD + 1, JD + 9)))
    assert [(s["stock"], s["until_jd"] - JD, s["datapoint_ids"]) for s in made] == [
        (17, 1, [-5, 1, 2]), (17, 9, [-5, 1, 2, 3]), (33, 1, [10, 13]), (33, 9, [10, 11, 12, 13]),
    ]  # fmt: skip


def test_a_time_after_the_runs_own_is_the_runs_own() -> None:
    bounded = states(ALERTS, Wanted("as_of", (JD + 1, JD + 9)), as_of=JD + 1)
    assert [s["state_id"] for s in bounded] == [
        s["state_id"] for s in states(ALERTS, Wanted("as_of", (JD + 1,)))
    ]


@pytest.mark.parametrize("days", [0, 1, 2, 3])
@pytest.mark.parametrize("access", [{1}, {1, 2}])
def test_as_of_equals_an_archive_that_never_held_more(days: int, access: set[int]) -> None:
    until = JD + days
    bounded = states(ALERTS, Wanted("latest"), frozenset(access), as_of=until)
    ended = states([a for a in ALERTS if a["jd"] <= until], Wanted("latest"), frozenset(access))
    assert [s["state_id"] for s in bounded] == [s["state_id"] for s in ended]
    assert len(bounded) == 2


def test_data_rights_hide_alerts_their_datapoints_and_what_only_they_showed() -> None:
    mine = {s["stock"]: s for s in states(ALERTS, Wanted("latest"), frozenset({1}))}
    assert mine[33]["datapoint_ids"] == [10, 11]  # 12 and 13 are of program 2
    everything = {s["stock"]: s for s in states(ALERTS, Wanted("latest"))}
    assert mine[17]["state_id"] == everything[17]["state_id"]
    assert mine[33]["state_id"] != everything[33]["state_id"]


def test_a_public_point_that_only_a_hidden_alert_showed_is_not_known() -> None:
    alerts = [
        alert(1, 0, {1: 18.0}),
        alert(2, 1, {2: 18.5, 1: 18.0, -7: 0.0}, programid=2, hidden=(2,)),
    ]
    (mine,) = states(alerts, Wanted("latest"), frozenset({1}))
    assert mine["datapoint_ids"] == [1]


def test_a_revision_that_a_hidden_alert_brought_is_known_once_one_that_may_be_seen_shows_it() -> (
    None
):
    public = frozenset({1})
    first, hidden = alert(1, 0, {1: 19.0}), alert(2, 1, {2: 18.0, 1: 19.5}, 2, hidden=(2,))
    later = alert(3, 2, {3: 18.0, 1: 19.5})
    (without,) = states([first], Wanted("latest"), public)
    (beside,) = states([first, hidden], Wanted("latest"), public)
    assert beside["lc_mag"] == [19.0]
    assert beside["state_id"] == without["state_id"]
    (shown,) = states([first, hidden, later], Wanted("latest"), public)
    assert shown["lc_mag"] == [19.5, 18.0]
    (all_of_it,) = states([first, hidden], Wanted("latest"))
    assert all_of_it["lc_mag"] == [19.5, 18.0]


def test_public_forced_photometry_stays_where_another_alert_is_hidden() -> None:
    alerts = [
        alert(1, 0, {1: 18.0, 21: 0.0}, forced=(21,)),
        alert(2, 1, {2: 18.5, 1: 18.0, 22: 0.0}, programid=2, hidden=(2, 22), forced=(22,)),
    ]
    wanted = Wanted("latest", points=("forced",))
    (mine,) = states(alerts, wanted, frozenset({1}))
    assert mine["datapoint_ids"] == [21]
    (everything,) = states(alerts, wanted)
    assert everything["datapoint_ids"] == [21, 22]


def test_kinds_of_points_are_chosen() -> None:
    (one, _) = states(ALERTS, Wanted("latest", points=("detection",)))
    assert one["datapoint_ids"] == [1, 2, 3]
    assert one["n_upper_limits"] == 0


def test_requests_that_ask_the_same_share_a_number() -> None:
    frame, _ = frames(ALERTS)
    rows = requests(channels(frame, "a", "b"), Wanted("latest"), None).to_pylist()
    assert len(rows) == 4
    assert len({r["request"] for r in rows}) == 2
