"""Events of a lake: revisions, retractions, versions, and what differs between them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ampel_spark.errors import LakeError
from ampel_spark.events import store
from ampel_spark.events.event import Event
from ampel_spark.events.notices import read_notices
from ampel_spark.events.store import EventTable
from tests.events.maps import gaussian, write_multi_order


def circle(name: str = "A", sent: float | None = None, **changes: object) -> Event:
    given = {"ra": 10.0, "dec": 0.0, "major": 1.0, "minor": 1.0, "angle": 0.0, "sent": sent}
    return Event(name, "IceCube", 2459000.5, "ellipse", **(given | changes))  # type: ignore[arg-type]


def gone(name: str = "A", sent: float | None = None) -> Event:
    return Event(name, "IceCube", np.nan, "none", type="retraction", sent=sent)


def test_an_update_replaces_a_retraction_removes_and_versions_stay(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    first = store.add(lake, [circle(sent=1.0), circle("B")])
    again = store.add(lake, [circle(sent=1.0), circle("B")])
    assert (len(first.new), len(again.new), len(again.known)) == (2, 0, 2)
    assert again.version == first.version
    update = store.add(lake, [circle(sent=2.0, ra=11.0, type="update")])
    removed = store.add(lake, [gone(sent=3.0)])
    back = store.add(lake, [circle(sent=4.0)])

    def current(version: int) -> list[tuple[str, int, float]]:
        table = EventTable.open(lake, version)
        return [(e.event, int(e.revision or 0), e.ra) for e in table.events]

    assert current(first.version) == [("A", 0, 10.0), ("B", 0, 10.0)]
    assert current(update.version) == [("A", 1, 11.0), ("B", 0, 10.0)]
    assert current(removed.version) == [("B", 0, 10.0)]
    assert current(back.version) == [("A", 3, 10.0), ("B", 0, 10.0)]
    hashes = {EventTable.open(lake, v).content_hash for v in range(1, back.version + 1)}
    assert len(hashes) == 4


def test_a_late_or_contradicting_revision_is_left_out_with_the_reason(tmp_path: Path) -> None:
    store.add(tmp_path / "lake", [circle(sent=2.0)])
    late = store.add(tmp_path / "lake", [circle(sent=1.0, ra=12.0)])
    assert "was sent later" in late.left_out[0]
    other = store.add(tmp_path / "lake", [circle(ra=12.0, revision=0)])
    assert "with another content" in other.left_out[0]
    assert late.new == other.new == []
    numbered = store.add(tmp_path / "lake", [circle(ra=12.0, revision=7)])
    assert [e.revision for e in numbered.new] == [7]


def test_revisions_of_one_addition_go_by_when_they_were_sent(tmp_path: Path) -> None:
    added = store.add(tmp_path / "lake", [gone(sent=3.0), circle(sent=1.0), circle(sent=2.0, ra=9)])
    assert [(e.type, e.revision) for e in added.new] == [
        ("initial", 0), ("initial", 1), ("retraction", 2)]  # fmt: skip
    assert EventTable.open(tmp_path / "lake").current == []


def test_an_event_comes_back_from_the_lake_as_it_went_in(tmp_path: Path) -> None:
    path = write_multi_order(tmp_path / "a.fits", gaussian(4, 50.0, 10.0, 8.0))
    events = [*read_notices([path]).events, circle(pipeline="GOLD", energy=120.0), gone("C")]
    store.add(tmp_path / "lake", events)
    table = EventTable.open(tmp_path / "lake")
    for event in events:
        back = table.event(event.event)
        assert back.content_hash == event.content_hash
        for field in dataclasses.fields(Event):
            one, two = getattr(event, field.name), getattr(back, field.name)
            if field.name not in ("skymap", "revision"):
                np.testing.assert_equal(two, one)
    one, two = events[0].skymap, table.event("S1").skymap
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one.level, two.level)
    np.testing.assert_array_equal(one.distsigma, two.distsigma)


def test_a_comparison_names_what_came_went_and_changed(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    paths = [write_multi_order(tmp_path / f"{i}.fits", gaussian(5, ra, 10.0, 8.0))
             for i, ra in enumerate((50.0, 55.0))]  # fmt: skip
    one, two = (read_notices([path]).events[0] for path in paths)
    before = store.add(lake, [one, circle("B"), circle("C")])
    store.add(lake, [two, gone("B"), circle("D")])
    rows = store.compare(EventTable.open(lake, before.version), EventTable.open(lake))
    assert [(row["event"], row["what"]) for row in rows] == [
        ("B", "lost"), ("D", "gained"), ("S1", "changed")]  # fmt: skip
    # circles of 17.17 degrees whose centres are 4.92 apart share 82 % of the plane that they cover
    assert rows[2]["shared"] / rows[2]["area_before"] == pytest.approx(0.82, abs=0.02)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="ampel-spark event add"):
        EventTable.open(tmp_path / "lake")
    store.add(tmp_path / "lake", [circle("IC1")])
    with pytest.raises(LakeError, match="did you mean 'IC1'"):
        EventTable.open(tmp_path / "lake").event("IC2")
    with pytest.raises(LakeError, match="has no revision 3"):
        EventTable.open(tmp_path / "lake").event("IC1", 3)
    with pytest.raises(LakeError, match="have no version 9"):
        EventTable.open(tmp_path / "lake", 9)


def test_many_commits_make_a_checkpoint_and_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ampel_spark.lake.commits.CHECKPOINTS", 3)
    for i in range(5):
        store.add(tmp_path / "lake", [circle(f"E{i}", ra=float(i))])
    assert len(EventTable.open(tmp_path / "lake").events) == 5
    assert list((tmp_path / "lake" / "events" / "_delta_log").glob("*.checkpoint.parquet"))
