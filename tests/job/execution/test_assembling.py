"""States that are made of the points of accepted objects, and those that are taken over."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ampel_spark.calibration.release import RAW, Release, Rule, Selects
from ampel_spark.job.execution import assembling
from ampel_spark.job.execution.assembling import RunStates, make_states
from ampel_spark.job.execution.deciding import ACCEPTED
from ampel_spark.job.execution.tiers import Context
from ampel_spark.lake.commits import insert
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.runs import GOOD, Run, RunInputs, Traces, new_run_id, utc_now
from ampel_spark.lake.tables import TABLES
from ampel_spark.t1 import known
from ampel_spark.t1.states import Wanted, light_curves, requests, visible_points
from tests.job.execution.plain import (
    ALERTS,
    JD,
    POINTS,
    PlainLake,
    add_night,
    alert,
    context,
    pinned,
    pq_rows,
    put_together,
)

R1 = Release("r1", rules=(Rule(1, select=Selects(rcid=(1,)), zero_point=0.02),))
R2 = Release("r2", rules=(Rule(1, select=Selects(rcid=(2,)), zero_point=-0.03),))
MASK = Release("mask", rules=(Rule(1, select=Selects(rcid=(3,)), mask=True),))


@pytest.fixture
def lake(tmp_path: Path) -> PlainLake:
    return PlainLake(tmp_path / "lake")


class Made:
    """A run's T1, and how many states it had to assemble."""

    def __init__(self, made: Context, states: RunStates, assembled: int) -> None:
        self.context, self.states, self.assembled = made, states, assembled

    @property
    def ids(self) -> dict[tuple[str, int, float, Any], str]:
        return {
            (r["channel"], r["stock"], r["until_jd"], r["alert_id"]): r["state_id"]
            for r in self.states.rows.to_pylist()
        }


def run(lake: PlainLake, folder: Path, stocks: Sequence[int], **asked: Any) -> Made:
    """Run T1 for objects, and hold it to the states of a lake that never had a run."""
    versions = asked.pop("versions", None) or pinned(lake)
    made = context(lake, folder, new_run_id(folder.name, utc_now()), versions, **asked)
    until = asked.get("as_of") or 9e9
    alerts = [a for a in pq_rows(lake, "alerts", versions.alerts) if a["jd"] <= until]
    access = frozenset(asked.get("access", (1,)))
    rows = [
        {name: a[name] for name in ACCEPTED[1:]} | {"channel": channel}
        for channel in asked.get("channels", ("A",))
        for a in alerts
        if a["stock"] in stocks and a["programid"] in access
    ]
    schema = pa.schema([arrow_schema(TABLES["decisions"]).field(n) for n in ACCEPTED])
    accepted = pa.Table.from_pylist(rows, schema)
    counted: list[int] = []
    real = assembling._assembled

    def counting(where: Context, lacking: pa.Table) -> pa.Table:
        counted.append(len(lacking))
        return real(where, lacking)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembling, "_assembled", counting)
        states = make_states(made, accepted)
    found = Made(made, states, sum(counted))
    assert found.ids == whole(lake, made, accepted)
    _record(lake, made)
    return found


def whole(lake: PlainLake, made: Context, accepted: pa.Table) -> dict[Any, str]:
    """Return the states by the tables as they stand, each request by itself."""
    tables = {
        name: pa.Table.from_pylist(
            pq_rows(lake, name, getattr(made.versions, name)), arrow_schema(table)
        )
        for name, table in (("alerts", ALERTS), ("datapoints", POINTS))
    }
    job = made.job
    access = frozenset(next(iter(job.channels.values())).programids)
    until = made.as_of or 9e9
    alerts = tables["alerts"]
    alerts = alerts.filter(pa.array([jd <= until for jd in alerts["jd"].to_pylist()]))
    wanted = Wanted(job.states.mode, job.states.as_of, job.states.points)
    asked = requests(accepted, wanted, made.as_of)
    points = visible_points(alerts, tables["datapoints"], access)
    found = {}
    for row in asked.to_pylist():
        one = pa.Table.from_pylist([row], asked.schema)
        for state in light_curves(one, points, wanted.points, job.calibration).to_pylist():
            key = (row["channel"], row["stock"], row["until_jd"], row["alert_id"])
            found[key] = state["state_id"]
    return found


def _record(lake: PlainLake, made: Context) -> None:
    """Write the record of a run that ended well."""
    release = made.job.calibration
    versions = {"alerts": made.versions.alerts, "datapoints": made.versions.datapoints}
    counts = replace(made.counts, calibration={"points": 1} if release.rules else {})
    record = Run(
        made.run_id, "job", "", "", "", {"survey": "ztf"}, release.name, utc_now(), GOOD,
        ended=utc_now(), traces=Traces(t1=known.trace()), counts=counts,
        inputs=RunInputs(versions, made.as_of, {}, {release.name: release.content_hash}),
    )  # fmt: skip
    table = TABLES["runs"]
    rows = pa.Table.from_pylist([record.to_row()], arrow_schema(table))
    insert(lake, table, rows, {})


def night(day: int, stocks: Sequence[int], programid: int = 1) -> list[dict[str, Any]]:
    return [
        alert(1000 * day + i, stock, day + i / 100, 18.0 + day / 10, programid)
        for i, stock in enumerate(stocks)
    ]


def test_a_rerun_takes_all_states_over_and_a_night_makes_those_of_its_objects(
    lake: PlainLake, tmp_path: Path
) -> None:
    add_night(lake, night(1, range(10)))
    first = run(lake, tmp_path / "first", range(6))
    assert (first.assembled, first.context.counts.t1["new"]) == (6, 6)
    again = run(lake, tmp_path / "again", range(6))
    assert (again.assembled, again.context.counts.t1["new"]) == (0, 0)
    assert again.ids == first.ids
    assert "states" not in again.context.outputs
    one, two = (m.context.counts.t1 for m in (first, again))
    assert one["channels"]["A"] | {"new": 0} == two["channels"]["A"]
    add_night(lake, night(2, [0, 1, 8]))
    later = run(lake, tmp_path / "later", range(7))
    assert later.assembled == 3  # two with new points, and one that was not asked for before
    rows = lake.arrow("states").to_pylist()
    assert len(rows) == len({row["state_id"] for row in rows}) == 9
    links = lake.arrow("state_channels").to_pylist()
    assert [sum(r["run_id"] == m.context.run_id for r in links) for m in (first, again, later)] == [
        6, 6, 7,
    ]  # fmt: skip


def test_other_times_points_and_rights_make_other_states(lake: PlainLake, tmp_path: Path) -> None:
    add_night(lake, night(1, range(4)))
    add_night(lake, night(2, range(4), programid=2))
    add_night(lake, night(3, range(4)))
    run(lake, tmp_path / "first", range(4))
    asked: list[dict[str, Any]] = [
        {"points": ("detection", "upper_limit")},
        {"access": (1, 2)},
        {"as_of": JD + 2.5},
        {"mode": "alert"},
        {"mode": "as_of", "times": (JD + 1.5, JD + 9)},
    ]
    for n, change in enumerate(asked):
        made = run(lake, tmp_path / f"other-{n}", range(4), **change)
        assert made.assembled == len(set(made.ids)) > 0
        assert run(lake, tmp_path / f"again-{n}", range(4), **change).assembled == 0


def test_a_release_makes_the_states_anew_of_which_it_touches_a_point(
    lake: PlainLake, tmp_path: Path
) -> None:
    # object n has points of the readout channel n % 4 alone
    add_night(lake, night(1, range(8)))
    raw = run(lake, tmp_path / "raw", range(8))
    one = run(lake, tmp_path / "one", range(8), release=R1)
    assert one.assembled == 2
    assert {k[1] for k in raw.ids if raw.ids[k] != one.ids[k]} == {1, 5}
    assert run(lake, tmp_path / "again", range(8), release=R1).assembled == 0
    # of the newest run without a rule; what the other release touched is raw again
    assert run(lake, tmp_path / "two", range(8), release=R2).assembled == 2
    back = run(lake, tmp_path / "back", range(8))
    assert (back.assembled, back.ids) == (0, raw.ids)
    rules = {r["stock"]: r["rules"] for r in one.states.rows.to_pylist()}
    assert rules == {s: [1] if s % 4 == 1 else [] for s in range(8)}


def test_without_a_run_before_it_that_had_no_rule_what_was_touched_is_made_anew(
    lake: PlainLake, tmp_path: Path
) -> None:
    add_night(lake, night(1, range(8)))
    run(lake, tmp_path / "one", range(8), release=R1)
    assert run(lake, tmp_path / "raw", range(8)).assembled == 2
    assert run(lake, tmp_path / "masked", range(8), release=MASK).assembled == 2


def test_compaction_alone_changes_no_state_and_code_changes_all(
    lake: PlainLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_night(lake, night(1, range(4)))
    add_night(lake, night(2, range(4)))
    run(lake, tmp_path / "first", range(4))
    put_together(lake, "alerts")
    put_together(lake, "datapoints")
    assert run(lake, tmp_path / "again", range(4)).assembled == 0
    monkeypatch.setattr(known, "trace", lambda: "other code")
    assert run(lake, tmp_path / "other", range(4)).assembled == 4


@pytest.mark.parametrize("seed", range(2))
def test_any_history_gives_the_states_of_a_lake_without_one(
    seed: int, lake: PlainLake, tmp_path: Path
) -> None:
    odd = random.Random(seed)
    held = []
    for n, day in enumerate(odd.sample(range(1, 8), 5)):
        add_night(lake, night(day, odd.sample(range(12), 5), odd.choice([1, 1, 2])))
        held.append(pinned(lake))
        if odd.random() < 0.3:
            put_together(lake, "datapoints")
        asked = {
            "release": odd.choice([RAW, RAW, R1, R2, MASK]),
            "as_of": odd.choice([None, None, JD + odd.randint(1, 7) + 0.5]),
            "mode": odd.choice(["latest", "latest", "alert"]),
            "access": odd.choice([(1,), (1,), (1, 2)]),
            "channels": odd.choice([("A",), ("A", "B")]),
        }
        stocks = odd.sample(range(12), 8)
        run(lake, tmp_path / f"run-{n}", stocks, **asked)
        if n % 2:
            run(lake, tmp_path / f"rerun-{n}", stocks, versions=odd.choice(held), **asked)


def test_light_curves_come_when_they_are_asked_for_and_as_they_were(
    lake: PlainLake, tmp_path: Path
) -> None:
    add_night(lake, night(1, range(6)))
    add_night(lake, night(2, range(6)))
    first = run(lake, tmp_path / "first", range(6))
    again = run(lake, tmp_path / "again", range(6))
    assert first.states.are_staged
    assert not again.states.are_staged
    ids = sorted(first.ids.values())
    mine = again.states.curves_of(ids[:2])
    assert sorted(mine["state_id"].to_pylist()) == ids[:2]
    again.states.stage()
    assert again.states.are_staged

    def curves(made: Made) -> list[str]:
        rows = made.states.curves_of(ids).drop_columns(["request"]).to_pylist()
        return sorted(json.dumps(row, sort_keys=True) for row in rows)

    assert curves(again) == curves(first)
    assert len(curves(again)) == 6


def test_no_result_depends_on_the_shares_and_tasks_that_the_work_is_cut_into(
    lake: PlainLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (1, 2, 3):
        add_night(lake, night(day, range(30), programid=1 + (day == 2)))
    monkeypatch.setattr(assembling, "_SHARE", 7)
    made = run(lake, tmp_path / "cut", range(30), mode="alert")
    assert made.assembled == 60
    assert len(list(Path(made.context.folder, "light_curves").glob("*.parquet"))) > 5


def test_a_dry_run_writes_nothing(lake: PlainLake, tmp_path: Path) -> None:
    add_night(lake, night(1, range(3)))
    made = context(lake, tmp_path / "dry", "dry", pinned(lake), dry=True)
    schema = pa.schema([arrow_schema(TABLES["decisions"]).field(n) for n in ACCEPTED])
    rows = [a | {"channel": "A"} for a in pq_rows(lake, "alerts")]
    accepted = pa.Table.from_pylist([{n: r[n] for n in ACCEPTED} for r in rows], schema)
    states = make_states(made, accepted)
    assert len(states.rows) == made.counts.t1["new"] == 3
    assert not lake.has("states")
    assert not lake.has("state_channels")
