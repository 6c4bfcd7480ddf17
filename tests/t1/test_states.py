"""States as wanted, as known then, and as those may see them who ask."""

from typing import Any

import pyarrow.compute as pc
import pytest

from ampel_spark.t1.states import ALL, Wanted, light_curves, requests, visible_points
from tests.t1.archives import JD, alert, channels, frames

ALERTS = [
    alert(1, 0, {1: 18.0, -5: 0.0}),
    alert(2, 1, {2: 18.5, 1: 18.0}),
    alert(3, 2, {3: 19.0, 2: 18.5, 1: 18.1}),  # a revision of 1
    alert(10, 0, {10: 17.0}, stock=33),
    alert(11, 3, {11: 17.5, 10: 17.0, 12: 17.2}, stock=33, hidden=(12,)),
    alert(13, 1, {13: 17.4, 10: 17.0}, stock=33, programid=2, hidden=(13,)),
]


def states(
    alerts: list[dict[str, Any]],
    wanted: Wanted,
    access: frozenset[int] = frozenset({1, 2}),
    as_of: float | None = None,
) -> list[dict[str, Any]]:
    every, datapoints, _ = frames(alerts)
    # T0 accepts what may be seen, up to the run's time
    seen = pc.field("programid").isin([*access]) & (pc.field("jd") <= (as_of or ALL))
    asked = requests(channels(every.filter(seen), "c"), wanted, as_of)
    points = visible_points(every, datapoints, access)
    made = {r["request"]: r for r in light_curves(asked, points, wanted.points).to_pylist()}
    rows = [made[a["request"]] | a for a in asked.to_pylist() if a["request"] in made]
    return sorted(rows, key=lambda r: (r["stock"], r["until_jd"]))


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
    frame, _, _ = frames(ALERTS)
    rows = requests(channels(frame, "a", "b"), Wanted("latest"), None).to_pylist()
    assert len(rows) == 4
    assert len({r["request"] for r in rows}) == 2
