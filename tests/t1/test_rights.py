"""What rights hide changes nothing of what they show."""

import random
from typing import Any

import pyarrow.compute as pc
import pytest

from ampel_spark.t1.rebuild import _as_shown
from ampel_spark.t1.rights import as_shown
from ampel_spark.t1.states import POINT_COLUMNS, Wanted, light_curves, requests, visible_points
from tests.t1.archives import alert, channels, frames

PUBLIC = frozenset({1})


def states(alerts: list[dict[str, Any]]) -> dict[int, tuple[Any, ...]]:
    """Return id, points and magnitudes of the state of each public alert."""
    every, datapoints, sightings = frames(alerts)
    public = every.filter(pc.equal(every["programid"], 1))
    wanted = Wanted("alert", (), ("detection", "upper_limit", "forced"))
    asked = requests(channels(public, "c"), wanted, None)
    shown = as_shown(datapoints.select(POINT_COLUMNS), sightings, every, PUBLIC)
    seen = visible_points(every, shown, PUBLIC)
    made = {r["request"]: r for r in light_curves(asked, seen, wanted.points).to_pylist()}
    return {
        a["alert_id"]: tuple(made[a["request"]][n] for n in ("state_id", "datapoint_ids", "lc_mag"))
        for a in asked.to_pylist()
        if a["request"] in made
    }


def test_other_digits_that_a_hidden_alert_showed_first_leave_public_states_as_they_are() -> None:
    hidden = alert(1, 0, {1: 18.00004}, programid=2)
    public = [alert(2, 1, {1: 18.0, 2: 18.5}), alert(4, 3, {1: 18.0, 2: 18.5, 3: 19.0})]
    between = alert(3, 2, {2: 18.6, 1: 18.0}, programid=2)
    assert states([hidden, between, *public]) == states(public)


@pytest.mark.parametrize("seed", range(40))
def test_the_public_states_of_any_archive_are_those_of_its_public_alerts(seed: int) -> None:
    odd = random.Random(seed)
    alerts = []
    for stock in (1, 2, 3):
        ids = [100 * stock + i for i in range(1, 6)]
        for n in range(odd.randint(2, 8)):
            shows = {
                i: 18.0 + odd.choice([0.0, 0.0, 4e-5, 9e-4, 1.1e-3, 0.2])
                for i in odd.sample(ids, odd.randint(1, 5))
            }
            programid = 1 if n == 0 else odd.choice([1, 1, 2, 3])
            alerts.append(
                alert(1000 * stock + n, odd.randint(0, 5), shows, programid, stock,
                      hidden=(ids[4],), forced=tuple({ids[3]} & {*shows}))
            )  # fmt: skip
    public = [one for one in alerts if one["programid"] == 1]
    assert states(alerts) == states(public)


@pytest.mark.parametrize("seed", range(5))
def test_one_object_in_python_is_shown_as_all_are_in_arrow(seed: int) -> None:
    odd = random.Random(seed)
    alerts = [
        alert(n, n, {i: 18.0 + odd.choice([0.0, 5e-4, 2e-3]) for i in (1, 2)}, odd.choice([1, 2]))
        for n in range(10, 40)
    ]
    every, datapoints, sightings = frames(alerts)
    key = [("datapoint_id", "ascending"), ("revision", "ascending")]
    theirs = as_shown(datapoints.select(POINT_COLUMNS), sightings, every, PUBLIC).sort_by(key)
    ours = _as_shown(every.to_pylist(), datapoints.to_pylist(), sightings.to_pylist(), PUBLIC)
    rows = [{n: row[n] for n in theirs.column_names} for row in ours]
    assert sorted(rows, key=lambda r: (r["datapoint_id"], r["revision"])) == theirs.to_pylist()
    assert pc.max(theirs["revision"]).as_py() > 0
