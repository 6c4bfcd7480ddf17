"""Decision sets: what is judged once, whatever comes in which order, is as if judged at once."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from ampel_spark.job.execution import deciding
from ampel_spark.job.execution.deciding import decide
from ampel_spark.job.execution.tiers import Context
from ampel_spark.lake.decisions import decisions_of
from ampel_spark.lake.runs import Run
from tests.job.execution.plain import (
    JD,
    Bright,
    Channel,
    Judge,
    PlainLake,
    add_night,
    alert,
    as_filters,
    context,
    pinned,
    pq_rows,
    put_together,
    rows_of,
    take_away,
    verdicts,
)

CHANNELS = (
    Channel("packet"),
    Channel("rights", access=frozenset({1})),
    Channel("known", on_stock_match="bypass"),
)
NAMES = [c.channel for c in CHANNELS]


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    return Judge(monkeypatch)


@pytest.fixture
def lake(tmp_path: Path) -> PlainLake:
    return PlainLake(tmp_path / "lake")


def run(lake: PlainLake, tmp_path: Path, name: str, **asked: Any) -> Context:
    """Run T0, and hold it to what one judgement of all alerts gives."""
    channels = asked.pop("channels", CHANNELS)
    versions = asked.pop("versions", None) or pinned(lake)
    made = context(lake, tmp_path / name, name, versions,
                   channels=[c.channel for c in channels], **asked)  # fmt: skip
    accepted = decide(made, as_filters(*channels)).to_pylist()
    until = asked.get("as_of") or 9e9
    alerts = [a for a in pq_rows(lake, "alerts", versions.alerts) if a["jd"] <= until]
    for channel in channels:
        whole = verdicts(alerts, channel)
        mine = [a for a in accepted if a["channel"] == channel.channel]
        assert {a["alert_id"] for a in mine} == {w["alert_id"] for w in whole if w["accepted"]}
        counts = made.counts.t0[channel.channel]
        assert counts["alerts"] == len(whole)
        assert counts["accepted"] == len(mine)
        assert counts["bypassed"] == sum(w["bypassed"] for w in whole)
        assert counts["cuts"] == [["too_faint", len(whole) - len(mine)]]
        assert counts["objects"] == len({a["stock"] for a in mine})
        if not made.dry:
            said = [{k: v for k, v in w.items() if k != "trace_id"} for w in whole]
            expected = sorted(said, key=lambda w: w["alert_id"])
            assert rows_of(lake, made)[channel.channel] == expected
    return made


def night(day: int, n: int = 8, seed: int = 0) -> list[dict[str, Any]]:
    odd = random.Random(100 * seed + day)
    return [
        alert(1000 * day + i, odd.randint(1, 6), day + i / 100, odd.choice([18.0, 18.5, 19.5]),
              odd.choice([1, 1, 1, 2]))
        for i in range(n)
    ]  # fmt: skip


def test_what_was_judged_is_neither_judged_nor_written_again(
    lake: PlainLake, tmp_path: Path, judge: Judge
) -> None:
    add_night(lake, night(1))
    first = run(lake, tmp_path, "first")
    judged, version = judge.judged, lake.version("decisions")
    again = run(lake, tmp_path, "again")
    assert (judge.judged, lake.version("decisions")) == (judged, version)
    assert again.decisions == first.decisions
    assert "decisions" not in again.outputs
    assert {row["run_id"] for row in lake.arrow("decisions").to_pylist()} == {"first"}
    # another cut is another set; the others stay as they were
    changed = (Channel("packet", Bright(18.2)), *CHANNELS[1:])
    other = run(lake, tmp_path, "other", channels=changed)
    assert judge.judged - judged == 8
    assert other.decisions["packet"].set_id != first.decisions["packet"].set_id
    assert other.decisions["rights"] == first.decisions["rights"]


def test_a_night_brings_its_own_alerts_alone_to_a_filter_of_packets(
    lake: PlainLake, tmp_path: Path, judge: Judge
) -> None:
    only = CHANNELS[:1]
    for day in (1, 2, 3):
        add_night(lake, night(day, n=5 + day))
        before = judge.judged
        made = run(lake, tmp_path, f"night-{day}", channels=only)
        assert judge.judged - before == 5 + day
        assert made.decisions["packet"].part == day - 1
        assert made.counts.t0["packet"]["judged"] == 5 + day


def test_an_earlier_night_that_comes_late_changes_what_a_filter_knows_of_an_object(
    lake: PlainLake, tmp_path: Path, judge: Judge
) -> None:
    channels = (Channel("known", on_stock_match="bypass"),)
    # faint, and nothing before it: rejected, until an earlier bright alert comes
    add_night(lake, [alert(21, 7, 2.0, 19.5), alert(22, 8, 2.0, 19.5), alert(23, 9, 2.0, 18.0)])
    first = run(lake, tmp_path, "first", channels=channels)
    add_night(lake, [alert(11, 7, 1.0, 18.0)])
    before = judge.judged
    second = run(lake, tmp_path, "second", channels=channels)
    assert judge.judged - before == 2  # of the one object alone
    accepted = {r["alert_id"]: r["accepted"] for r in rows_of(lake, second)["known"]}
    assert accepted == {11: True, 21: True, 22: False, 23: True}
    # the first run's are what they were
    assert {r["alert_id"]: r["accepted"] for r in rows_of(lake, first)["known"]} == {
        21: False, 22: False, 23: True
    }  # fmt: skip
    record: Any = Run("second", "", "", "", "", {}, "raw", None, decisions=second.decisions)  # type: ignore[arg-type]
    found = decisions_of(lake.root, record, ["known"], columns=["alert_id", "accepted"])
    assert {r["alert_id"]: r["accepted"] for r in found.to_pylist()} == accepted


@pytest.mark.parametrize("seed", range(3))
def test_any_history_of_nights_runs_and_rewriting_ends_as_one_judgement_of_all(
    seed: int, lake: PlainLake, tmp_path: Path, judge: Judge
) -> None:
    odd = random.Random(seed)
    days = [*range(1, 7)]
    odd.shuffle(days)
    held = []
    for n, day in enumerate(days):
        add_night(lake, night(day, odd.randint(1, 6), seed))
        held.append(pinned(lake))
        match odd.randint(0, 5):
            case 0:
                put_together(lake, "alerts")
            case 1:
                take_away(lake, odd.randint(1, 6))
            case 2:
                add_night(lake, [])
        as_of = odd.choice([None, None, JD + odd.randint(1, 6) + 0.05])
        run(lake, tmp_path, f"run-{n}", as_of=as_of)
        if odd.random() < 0.5:  # a rerun on what an earlier run read
            run(lake, tmp_path, f"rerun-{n}", versions=odd.choice(held), as_of=as_of)
    before = judge.judged
    run(lake, tmp_path, "last")
    run(lake, tmp_path, "last-again")
    assert judge.judged - before <= 3 * len(pq_rows(lake, "alerts"))


def test_as_of_a_night_refers_to_a_share_of_the_set_and_judges_nothing(
    lake: PlainLake, tmp_path: Path, judge: Judge
) -> None:
    for day in (1, 2, 3):
        add_night(lake, night(day))
    run(lake, tmp_path, "all")
    before = judge.judged
    made = run(lake, tmp_path, "past", as_of=JD + 2.5)
    assert judge.judged == before
    assert {ref.until_jd for ref in made.decisions.values()} == {JD + 2.5}


def test_compaction_alone_brings_nothing_to_judge(
    lake: PlainLake, tmp_path: Path, judge: Judge
) -> None:
    add_night(lake, night(1))
    add_night(lake, night(2))
    first = run(lake, tmp_path, "first")
    before = judge.judged
    put_together(lake, "alerts")
    assert run(lake, tmp_path, "again").decisions == first.decisions
    assert judge.judged == before


def test_a_dry_run_counts_and_writes_nothing(lake: PlainLake, tmp_path: Path, judge: Judge) -> None:
    add_night(lake, night(1))
    run(lake, tmp_path, "dry-1", dry=True)
    assert not lake.has("decisions")
    run(lake, tmp_path, "first")
    add_night(lake, night(2))
    version = lake.version("decisions")
    run(lake, tmp_path, "dry-2", dry=True)
    assert lake.version("decisions") == version


def test_a_kill_between_decisions_and_their_set_loses_nothing_and_doubles_nothing(
    lake: PlainLake, tmp_path: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_night(lake, night(1))
    run(lake, tmp_path, "first")
    add_night(lake, night(2))

    class Killed(BaseException):
        pass

    def dies(*args: Any) -> None:
        raise Killed

    for name in ("commit", "insert"):
        with monkeypatch.context() as patch:
            patch.setattr(deciding, name, dies)
            with pytest.raises(Killed):
                decide(context(lake, tmp_path / name, name, pinned(lake), channels=NAMES),
                       as_filters(*CHANNELS))  # fmt: skip
    before = judge.judged
    made = run(lake, tmp_path, "after")
    assert judge.judged == before  # what the second one judged is there
    assert {ref.part for ref in made.decisions.values()} == {1}
    sets = lake.arrow("decision_sets").to_pylist()
    assert len(sets) == len({(row["set_id"], row["part"]) for row in sets}) == 2 * len(CHANNELS)
    assert {row["run_id"] for row in sets} == {"first", "insert"}


def test_two_runs_at_once_judge_twice_and_write_once(
    lake: PlainLake, tmp_path: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_night(lake, night(1))
    real = judge.__call__
    others: list[str] = []

    def meanwhile(made: Context, plans: Any, folder: Path) -> Any:
        found = real(made, plans, folder)
        if not others:
            others.append("other")
            run(lake, tmp_path, "other")
        return found

    monkeypatch.setattr(deciding, "_judge", meanwhile)
    run(lake, tmp_path, "mine")
    rows = lake.arrow("decisions").to_pylist()
    assert {row["run_id"] for row in rows} == {"other"}
    assert len(rows) == len({(row["set_id"], row["alert_id"]) for row in rows})


def test_accepted_alerts_have_row_groups_of_their_own(
    lake: PlainLake, tmp_path: Path, judge: Judge
) -> None:
    import pyarrow.parquet as pq

    from ampel_spark.lake.changes import files_at

    add_night(lake, night(1, 40))
    run(lake, tmp_path, "first", channels=CHANNELS[:1])
    for path in files_at(lake.path("decisions"), lake.version("decisions") or 0):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group)
            assert len({*rows["accepted"].to_pylist()}) == 1
            assert rows["stock"].to_pylist() == sorted(rows["stock"].to_pylist())
