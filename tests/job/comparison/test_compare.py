"""Two runs compared, against lakes whose every difference was put there by hand."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ampel_spark.errors import ConfigError, LakeError
from ampel_spark.job.comparison.changes import Comparison, Difference
from ampel_spark.job.comparison.compare import compare
from ampel_spark.lake.runs import find_run
from tests.job.comparison.lakes import (
    AFTER,
    AGAIN,
    BEFORE,
    OTHER_DUST,
    Object,
    add_run,
    empty_lake,
    fit,
    make_lake,
)

UNIT = "fit: parameter phase 30 → 20"


@pytest.fixture(scope="module")
def found(four_runs: Path) -> Comparison:
    return compare(four_runs, BEFORE, AFTER)


def row(found: Comparison, name: str) -> dict[str, Any]:
    (only,) = found.changes[found.changes["name"] == name].to_dict("records")
    return {str(key): value for key, value in only.items()}


def told(found: Comparison, name: str) -> tuple[Any, ...]:
    one = row(found, name)
    return tuple(one[key] for key in ("change", "reason", "what", "cause"))


def numbers(found: Comparison, name: str) -> tuple[float, float, float]:
    one = row(found, name)
    return one["value_a"], one["value_b"], one["threshold"]


def test_every_candidate_is_gained_lost_moved_or_the_same(found: Comparison) -> None:
    (counts,) = found.selections
    assert (counts.before, counts.after) == (6, 4)
    assert (counts.gained, counts.lost, counts.moved) == (3, 5, 1)
    assert found.changes["change"].tolist() == ["lost"] * 5 + ["gained"] * 3 + ["moved"]
    ranks = found.changes[["name", "rank_a", "rank_b"]].fillna(0).to_numpy().tolist()
    assert ranks == [
        ["SN2", 2, 0], ["SN3", 3, 0], ["SN4", 4, 0], ["SN5", 5, 0], ["SN6", 6, 0],
        ["SN7", 0, 1], ["SN8", 0, 3], ["SN9", 0, 4], ["SN1", 1, 2],
    ]  # fmt: skip


def test_an_object_without_accepted_alert_has_the_cut_of_its_first_one(found: Comparison) -> None:
    assert told(found, "SN2") == ("lost", "cut", "min_ndet", "T0: min_ndet 3 → 5")
    assert row(found, "SN2")["alert_id"] == 20
    assert numbers(found, "SN2")[1:] == (4.0, 5.0)


def test_a_gained_object_has_the_cut_that_rejected_it_before(found: Comparison) -> None:
    assert told(found, "SN8") == ("gained", "cut", "max_fwhm", "T0: min_ndet 3 → 5")
    assert row(found, "SN8")["alert_id"] == 80
    assert (numbers(found, "SN8")[0], numbers(found, "SN8")[2]) == (6.0, 5.5)


def test_a_unit_that_refuses_now_is_told_with_its_message(found: Comparison) -> None:
    assert told(found, "SN3") == ("lost", "status", "fit.status: phases not covered", UNIT)
    assert numbers(found, "SN3")[:2] == (0.0, 3.0)


def test_a_condition_that_flipped_is_told_with_state_rule_and_trace(found: Comparison) -> None:
    change, reason, what, cause = told(found, "SN4")
    assert (change, reason, what) == ("lost", "condition", "abs(fit.x1) < 3")
    assert numbers(found, "SN4") == (2.5, 3.2, 3.0)
    assert cause == (
        "state changed: by rule 2 (faint end) of release zp;"
        f" datapoints: 2 added, 1 removed; {UNIT}"
    )


def test_a_gained_object_has_the_condition_it_failed_before(found: Comparison) -> None:
    assert told(found, "SN7") == ("gained", "condition", "abs(fit.x1) < 3", UNIT)
    assert numbers(found, "SN7") == (3.5, 2.9, 3.0)


def test_a_condition_that_was_rewritten_is_no_change_of_the_object(found: Comparison) -> None:
    cause = "select: fit.c < 0.5 → fit.c < 0.3"
    assert told(found, "SN6") == ("lost", "expression", "fit.c < 0.3", cause)
    assert numbers(found, "SN6") == (0.4, 0.4, 0.3)


def test_who_is_pushed_out_by_the_limit_is_no_worse_than_before(found: Comparison) -> None:
    cause = f"limit 6 → 4; {UNIT}"
    assert told(found, "SN5") == ("lost", "limit", "limit 4", cause)
    assert numbers(found, "SN5")[:2] == (0.5, 0.65)
    # and who came in had been beyond it
    assert told(found, "SN9")[:3] == ("gained", "limit", "limit 6")


def test_who_moved_has_the_rank_that_changed(found: Comparison) -> None:
    assert told(found, "SN1") == ("moved", "rank", "fit.x1_err", UNIT)
    assert numbers(found, "SN1")[:2] == (0.1, 0.18)


def test_states_are_equal_changed_or_of_one_run_only(found: Comparison) -> None:
    (states,) = found.states.to_dict("records")
    assert states == {"channel": "SN", "same": 6, "changed": 2, "only_a": 1, "only_b": 1}
    assert dict(zip(found.causes["cause"], found.causes["states"], strict=True)) == {
        "state changed: by rule 2 (faint end) of release zp; datapoints: 2 added, 1 removed": 1,
        "state changed: datapoints: 1 revised": 1,
        "no state before": 1,
        "no state any more": 1,
    }


def test_statuses_that_changed_are_counted(found: Comparison) -> None:
    assert found.statuses.to_dict("records") == [
        {"unit": "fit", "status_a": 0, "status_b": 3, "states": 1}
    ]


def test_shifts_are_over_what_has_a_good_result_in_both(found: Comparison) -> None:
    x1, c = found.shifts
    assert (x1.column, c.column) == ("fit.x1", "fit.c")
    delta = np.array([0.05, 0.7, 0.0, 0.0, -0.6, 0.0, 0.1])  # of 1, 4, 5, 6, 7, 9, 12
    assert x1.summary.n == 7
    assert x1.summary.changed == 4
    assert x1.summary.median == np.median(delta)
    assert x1.summary.robust_sd == pytest.approx(1.4826 * 0.05)
    assert (x1.summary.largest, x1.name) == (pytest.approx(0.7), "SN4")
    assert x1.summary.beyond == 2
    assert x1.hopped == 2
    assert found.hoppers["name"].tolist() == ["SN4", "SN7"]
    assert (c.summary.changed, c.unit) == (0, "mag")


def test_reused_and_computed_results_are_counted_by_the_run_that_made_them(
    found: Comparison,
) -> None:
    counts = {(r.run, r.unit): (r.wanted, r.computed, r.reused) for r in found.reuse}
    assert counts == {
        ("a", "dust"): (9, 9, 0),
        ("a", "fit"): (9, 9, 0),
        ("b", "dust"): (9, 3, 6),
        ("b", "fit"): (9, 9, 0),
    }
    (dust,) = [r for r in found.reuse if (r.run, r.unit) == ("b", "dust")]
    assert dust.sources == {BEFORE: 6}


def test_what_differs_between_the_runs_is_listed(found: Comparison) -> None:
    assert list(found.differences) == [
        Difference("calibration", "release", "raw", "zp"),
        Difference("job", "t0.SN.config.min_ndet", "3", "5"),
        Difference("job", "t2.fit.config.phase", "30", "20"),
        Difference(
            "job", "t3.best.select", "fit.status == 0 and abs(fit.x1) < 3 and fit.c < 0.5",
            "fit.status == 0 and abs(fit.x1) < 3 and fit.c < 0.3",
        ),
        Difference("job", "t3.best.limit", "6", "4"),
        Difference("inputs", "datapoints", "0", "1"),
        Difference("inputs", "calibration zp", "–", "cafe"),
        Difference("T0 trace", "SN", "t0", "other"),
        Difference("T2 fit", "parameter phase", "30", "20"),
    ]  # fmt: skip


def test_the_other_way_round_gained_is_lost(four_runs: Path, found: Comparison) -> None:
    back = compare(four_runs, AFTER, BEFORE)
    swapped = {"gained": "lost", "lost": "gained", "moved": "moved"}
    there = {r["name"]: (swapped[r["change"]], r["reason"]) for _, r in found.changes.iterrows()}
    assert {r["name"]: (r["change"], r["reason"]) for _, r in back.changes.iterrows()} == there
    (x1, _), (was, _) = back.shifts, found.shifts
    assert x1.summary.largest == -was.summary.largest


def test_what_a_unit_is_tied_to_is_the_cause(four_runs: Path) -> None:
    found = compare(four_runs, BEFORE, OTHER_DUST, columns=["fit.c"])
    (c,) = found.shifts
    assert c.summary.median == pytest.approx(-0.02)
    assert c.summary.robust_sd == pytest.approx(0.0, abs=1e-15)
    assert len(found.changes) == 0
    traces = [d for d in found.differences if d.kind.startswith("T2")]
    assert {d.kind for d in traces} == {"T2 dust"}


def test_of_two_results_of_a_state_under_one_trace_a_run_has_the_one_it_read(
    four_runs: Path,
) -> None:
    # AGAIN came after OTHER_DUST, computed nothing, and is as BEFORE was
    same = compare(four_runs, BEFORE, AGAIN)
    assert [s.summary.changed for s in same.shifts] == [0, 0]
    assert {(r.unit, r.reused) for r in same.reuse if r.run == "b"} == {("dust", 9), ("fit", 9)}
    assert all(r.sources == {BEFORE: 9} for r in same.reuse if r.run == "b")
    other = compare(four_runs, OTHER_DUST, AGAIN, columns=["fit.c"])
    assert other.shifts[0].summary.median == pytest.approx(0.02)


def test_a_run_is_called_latest_or_by_how_it_begins(four_runs: Path) -> None:
    found = compare(four_runs, "job-20240101", "latest")
    assert (found.a.run_id, found.b.run_id) == (BEFORE, AGAIN)
    with pytest.raises(LakeError, match="'job' begins 4 runs"):
        compare(four_runs, "job", "latest")


def test_an_expression_can_be_compared(four_runs: Path) -> None:
    found = compare(four_runs, BEFORE, AFTER, columns=["0.14 * fit.x1 - 3.1 * fit.c"])
    (mu,) = found.shifts
    assert mu.summary.largest == pytest.approx(0.14 * 0.7)
    assert mu.summary.beyond is None


@pytest.mark.parametrize(
    ("column", "message"),
    [("fit.x2", "has no column 'fit.x2'; did you mean 'fit.x1'"), ("fit.model", "is no number")],
)
def test_a_column_that_cannot_shift_is_told(four_runs: Path, column: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(four_runs, BEFORE, AFTER, columns=[column])


def test_one_selection_has_shifts_of_its_own_objects(four_runs: Path) -> None:
    found = compare(four_runs, BEFORE, AFTER, selection="best")
    assert [s.summary.n for s in found.shifts] == [1, 1]
    with pytest.raises(ConfigError, match="has a selection 'bets'; did you mean 'best'"):
        compare(four_runs, BEFORE, AFTER, selection="bets")


def test_runs_of_two_lakes_can_be_compared(four_runs: Path, tmp_path: Path) -> None:
    twin = make_lake(tmp_path)
    found = compare(four_runs, BEFORE, AFTER, lake_b=twin)
    assert found.changes.equals(compare(four_runs, BEFORE, AFTER).changes)


def test_an_alert_that_was_not_judged_has_another_archive_as_its_cause(tmp_path: Path) -> None:
    lake = make_lake(tmp_path)
    late = "late-20240105T000000-eeee"
    objects = [Object(1, "s1", fit=None)]
    add_run(lake, late, objects, [(1, "s1")], inputs={"as_of_jd": 2460001.9})
    found = compare(lake, BEFORE, late)
    assert told(found, "SN2") == (
        "lost", "not judged", f"run {late} saw none of its alerts",
        "inputs: as_of_jd – → 2460001.9",
    )  # fmt: skip


def test_a_run_that_never_ended_is_told(tmp_path: Path) -> None:
    lake = make_lake(tmp_path)
    add_run(lake, "dead-20240105T000000-eeee", [], [], status="running")
    (note,) = compare(lake, BEFORE, "dead").notes
    assert note == "run dead-20240105T000000-eeee was killed: not all of it is in its tables"
    (lake / "_staging").mkdir()
    with (lake / "_staging" / "dead-20240105T000000-eeee.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        (note,) = compare(lake, BEFORE, "dead").notes
        assert note == "run dead-20240105T000000-eeee is running: not all of it is in its tables"
        assert find_run(lake).run_id == "dead-20240105T000000-eeee"
    assert find_run(lake).run_id != "dead-20240105T000000-eeee"


@pytest.mark.parametrize(
    ("lacking", "reason"),
    [
        (["t2_fit"], "unknown"),
        (["t2_fit", "t2_dust", "candidates"], "unknown"),
        (
            ["t2_fit", "t2_dust", "candidates", "state_channels", "states", "decisions"],
            "not judged",
        ),
    ],
)
def test_a_run_that_failed_in_a_lake_of_its_own_is_compared_as_far_as_it_came(
    tmp_path: Path, lacking: list[str], reason: str
) -> None:
    lake, other = empty_lake(tmp_path), empty_lake(tmp_path / "other")
    add_run(lake, BEFORE, [Object(1, "s1", fit=fit(0.5, 0.1), dust={"ebv": 0.1})], [(1, "s1")])
    add_run(other, AFTER, [Object(1, "s1")], [], status="failed")
    for name in lacking:
        shutil.rmtree(other / name)
    there = compare(lake, BEFORE, AFTER, lake_b=other)
    back = compare(other, AFTER, BEFORE, lake_b=lake)
    assert [*there.changes["reason"], *back.changes["reason"]] == [reason, reason]
    assert "failed:" in there.notes[0]


def test_a_state_of_an_alert_that_is_not_accepted_stands_against_another_of_the_object(
    tmp_path: Path,
) -> None:
    lake = empty_lake(tmp_path)
    dust = {"ebv": 0.1}
    first = [
        Object(1, "early", fit=fit(5.0, 0.1), dust=dust, alerts=[(10, 2460001.5)], of=10),
        Object(1, "late", (1, 2, 3, 4), fit=fit(1.0, 0.1), dust=dust, alerts=[(11, 2460009.5)],
               of=11),
    ]  # fmt: skip
    add_run(lake, BEFORE, first, [(1, "late")])
    rejected = (11, 2460009.5, "rb", 0.1, 0.3)
    second = [Object(1, "early", alerts=[(10, 2460001.5), rejected], of=10)]
    add_run(lake, AFTER, second, [])
    found = compare(lake, BEFORE, AFTER)
    assert told(found, "SN1") == ("lost", "condition", "abs(fit.x1) < 3", "another of its states")
    assert numbers(found, "SN1") == (1.0, 5.0, 3.0)
    (states,) = found.states.to_dict("records")
    assert states == {"channel": "SN", "same": 1, "changed": 0, "only_a": 1, "only_b": 0}


def test_an_exception_that_was_tried_again_is_the_cause(tmp_path: Path) -> None:
    lake, elsewhere = empty_lake(tmp_path), empty_lake(tmp_path / "other")
    dust = {"ebv": 0.1}
    failed = fit(0.0, 0.1, status=-4, message="ValueError: no")
    first = [Object(1, "s1", fit=failed, dust=dust)]
    second = [Object(1, "s1", fit=fit(0.0, 0.1), dust=dust)]
    add_run(lake, BEFORE, first, [])
    add_run(elsewhere, AFTER, second, [(1, "s1")])
    found = compare(lake, BEFORE, AFTER, lake_b=elsewhere)
    assert told(found, "SN1") == (
        "gained", "status", "fit.status: ValueError: no", "fit: an exception, tried again",
    )  # fmt: skip


@pytest.mark.parametrize(
    "quantity", ["stock == 1", "state_id == 's1'", "channel == 'SN'", "name != 'SN2'"]
)
def test_all_that_a_selection_may_name_can_be_compared(tmp_path: Path, quantity: str) -> None:
    lake = empty_lake(tmp_path)
    first = [Object(1, "s1", fit=fit(0.5, 0.1), dust={"ebv": 0.1})]
    for run, bound, chosen in ((BEFORE, 1, [(1, "s1")]), (AFTER, 0.2, [])):
        asked = {"select": f"{quantity} and fit.x1 < {bound}", "rank": "stock"}
        add_run(lake, run, first if run == BEFORE else [Object(1, "s1")], chosen, asked=asked)
    found = compare(lake, BEFORE, AFTER)
    assert told(found, "SN1")[1:3] == ("expression", "fit.x1 < 0.2")


def test_a_rank_that_is_text_moves_objects_too(tmp_path: Path) -> None:
    lake, elsewhere = empty_lake(tmp_path), empty_lake(tmp_path / "other")
    for place, run, models in ((lake, BEFORE, "ab"), (elsewhere, AFTER, "ca")):
        objects = [
            Object(n, f"s{n}", fit=fit(0.5, 0.1, model=model), dust={"ebv": 0.1})
            for n, model in enumerate([*models, "c"], start=1)
        ]
        order = [1, 2, 3] if run == BEFORE else [2, 1, 3]
        chosen = [(n, f"s{n}") for n in order]
        add_run(place, run, objects, chosen, asked={"rank": "fit.model"})
    found = compare(lake, BEFORE, AFTER, lake_b=elsewhere)
    assert told(found, "SN1")[:3] == ("moved", "rank", "fit.model")
    assert told(found, "SN2")[:3] == ("moved", "rank", "fit.model")
