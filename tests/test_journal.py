"""The story of an object, as far as a channel may see it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ampel_spark.errors import LakeError
from ampel_spark.journal import journal, whole_journal
from ampel_spark.lake.runs import find_run, runs
from tests.commands.small_lake import RUNS, STATE, STOCK, make_lake

PUBLIC, PARTNER = frozenset({1}), frozenset({1, 2})


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lake(tmp_path_factory.mktemp("journal"))


def story(
    lake: Path, access: dict[str, frozenset[int]], run: str = "latest", name: str = "ZTF18abxhyqv"
) -> list[Any]:
    return journal(lake, name, find_run(lake, run), access)


def short(entries: list[Any]) -> list[tuple[Any, ...]]:
    return [(e["kind"], e["channel"], e["id"], e["status"]) for e in entries]


def test_everything_of_an_object_comes_in_order_of_time(lake: Path) -> None:
    entries = story(lake, {"SN": PUBLIC})
    assert short(entries) == [
        ("alert", None, 11, ""),
        ("decision", "SN", 11, "rejected"),
        ("alert", None, 13, ""),
        ("decision", "SN", 13, "accepted"),
        ("state", "SN", "00112233445566778899aabbccddeeff", "latest"),
        ("result", None, "summary", "0"),
        ("candidate", "SN", "best", "rank 1"),
    ]
    assert entries[0]["utc"] == "2019-11-23 00:00:00"
    assert entries[1]["detail"] == "cut min_ndet: 1 against 2"
    assert entries[5]["detail"] == "n_detections 2, peak_mag 18"


def test_a_channel_does_not_see_what_its_data_rights_leave_out(lake: Path) -> None:
    public = {e["id"]: e for e in story(lake, {"SN": PUBLIC}) if e["kind"] == "alert"}
    partner = {e["id"]: e for e in story(lake, {"Team": PARTNER}) if e["kind"] == "alert"}
    assert list(public) == [11, 13]
    assert list(partner) == [11, 12, 13]
    # the packet of alert 13 shows a point of the partnership too
    assert public[13]["values"]["n_detections"] == 2
    assert partner[13]["values"]["n_detections"] == 3


def test_an_object_that_may_not_be_seen_is_as_one_that_is_not_there(lake: Path) -> None:
    said = []
    for name in ("ZTF20abyfpze", "ZTF17aaaaaaa"):
        with pytest.raises(LakeError) as caught:
            story(lake, {"SN": PUBLIC}, name=name)
        said.append(str(caught.value).replace(name, "NAME"))
    assert said[0] == said[1]
    assert "of which channel SN may see an alert" in said[0]
    assert short(story(lake, {"Team": PARTNER}, name="ZTF20abyfpze")) == [("alert", None, 21, "")]


def test_a_channel_shows_nothing_of_another(lake: Path) -> None:
    assert {e["channel"] for e in story(lake, {"Team": PARTNER})} == {None, "Team"}
    assert not [
        e for e in story(lake, {"Team": PARTNER}) if e["kind"] in ("state", "result", "candidate")
    ]


def test_results_are_those_of_the_runs_own_trace(lake: Path) -> None:
    # the table also has a result under another trace, with a peak of 17
    (result,) = [e for e in story(lake, {"SN": PUBLIC}) if e["kind"] == "result"]
    assert result["values"]["peak_mag"] == 18.0
    assert result["values"]["trace_id"] == "now"
    assert result["values"]["bands"] == ["ztfg"]


def test_a_run_has_its_own_candidates(lake: Path) -> None:
    assert not [e for e in story(lake, {"SN": PUBLIC}, RUNS[0]) if e["kind"] == "candidate"]


def test_an_object_has_a_stock_id_too(lake: Path) -> None:
    assert story(lake, {"SN": PUBLIC}, name=str(STOCK)) == story(lake, {"SN": PUBLIC})


def test_a_run_as_of_a_time_knows_no_later_alert(lake: Path) -> None:
    run = find_run(lake)
    run = replace(run, inputs=replace(run.inputs, as_of_jd=2458812.0))
    entries = journal(lake, "ZTF18abxhyqv", run, {"SN": PUBLIC})
    assert [e["id"] for e in entries if e["kind"] == "alert"] == [11]


def test_a_run_on_an_earlier_version_sees_that(lake: Path) -> None:
    run = find_run(lake)
    run = replace(run, inputs=replace(run.inputs, tables={"alerts": 0}))
    entries = journal(lake, "ZTF18abxhyqv", run, {"SN": PUBLIC})
    assert [e["id"] for e in entries if e["kind"] == "alert"] == [11]


def whole(lake: Path, *access: dict[str, frozenset[int]]) -> list[Any]:
    told = list(zip(reversed(runs(lake)), access, strict=True))
    return whole_journal(lake, "ZTF18abxhyqv", told)


def test_all_runs_together_tell_what_each_of_them_tells(lake: Path) -> None:
    entries = whole(lake, {"SN": PUBLIC}, {"SN": PUBLIC})
    for run in RUNS:
        alone = story(lake, {"SN": PUBLIC}, run)
        mine = [e for e in entries if not e["runs"] or run in e["runs"]]
        assert short(mine) == short(alone)
        assert [e["values"] for e in mine] == [e["values"] for e in alone]


def test_what_runs_have_alike_stands_once(lake: Path) -> None:
    entries = whole(lake, {"SN": PUBLIC}, {"SN": PUBLIC})
    (state,) = [e for e in entries if e["kind"] == "state"]
    assert (state["id"], state["runs"]) == (STATE, list(RUNS))
    assert [e["id"] for e in entries if e["kind"] == "alert"] == [11, 13]
    (candidate,) = [e for e in entries if e["kind"] == "candidate"]
    assert candidate["runs"] == [RUNS[1]]


def test_a_run_whose_channel_saw_more_shows_that_and_nothing_of_others(lake: Path) -> None:
    entries = whole(lake, {"SN": PUBLIC}, {"Team": PARTNER})
    assert [e["id"] for e in entries if e["kind"] == "alert"] == [11, 12, 13]
    by_run = {run: {e["channel"] for e in entries if run in e["runs"]} for run in RUNS}
    assert by_run == {RUNS[0]: {"SN", None}, RUNS[1]: {"Team"}}
    public = whole(lake, {"SN": PUBLIC}, {})
    assert [e["id"] for e in public if e["kind"] == "alert"] == [11, 13]


def test_an_object_that_no_run_may_see_is_as_one_that_is_not_there(lake: Path) -> None:
    told = [(run, {"SN": PUBLIC}) for run in runs(lake)]
    for name in ("ZTF20abyfpze", "ZTF17aaaaaaa"):
        with pytest.raises(LakeError, match="may see an alert in any of 2 runs"):
            whole_journal(lake, name, told)
