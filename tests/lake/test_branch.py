"""Branches: a lake that begins with another one's tables; neither ever sees what the other does."""

import os
import shutil
from pathlib import Path

import pytest

from ampel_spark.cli import main
from ampel_spark.errors import LakeError
from ampel_spark.lake import branch as branching
from ampel_spark.lake.branch import branch, branch_of
from ampel_spark.lake.check import check
from ampel_spark.lake.commits import insert
from ampel_spark.lake.known import check_known
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.log import commit_hash, newest_version
from ampel_spark.lake.maintenance import plan_removal, remove
from ampel_spark.lake.pins import live_pins, release
from ampel_spark.lake.reading import read, table_paths
from ampel_spark.lake.runs import utc_now
from ampel_spark.lake.tables import TABLES
from tests.lake.test_check import RUN, ingest, rows_of, small_lake

#: What a lake of two nights has, by its newest versions.
ALERTS = {10, 11, 20, 21}


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return small_lake(tmp_path / "lake")


def stocks(path: Path, name: str = "alerts") -> set[int]:
    return set(read(path, name, ["stock"])["stock"].to_pylist())


def content(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and "_locks" not in file.parts
    }


def test_a_branch_has_every_table_version_and_hash_of_its_parent(
    lake: Path, tmp_path: Path
) -> None:
    before = content(lake)
    made = branch(lake, tmp_path / "branch")
    assert made.linked
    assert table_paths(made.root) == table_paths(lake)
    for name in table_paths(lake):
        newest = newest_version(lake / name)
        assert newest is not None
        assert made.versions[name] == newest == newest_version(made.root / name)
        for version in range(newest + 1):
            assert commit_hash(made.root / name, version) == commit_hash(lake / name, version)
            assert read(made.root, name, version=version) == read(lake, name, version=version)
    check_known(made.root)
    assert check(made.root) == []
    assert branch_of(made.root) == made
    assert branch_of(lake) is None
    assert content(lake) == before


def test_nothing_that_a_branch_does_is_seen_from_its_parent(lake: Path, tmp_path: Path) -> None:
    before = content(lake)
    root = branch(lake, tmp_path / "branch").root
    ingest(Lake(None, root), 3)
    assert stocks(root) == ALERTS | {30, 31}
    assert check(root) == []
    assert content(lake) == before
    assert stocks(lake) == ALERTS


def test_nothing_that_a_parent_does_is_seen_from_its_branch(lake: Path, tmp_path: Path) -> None:
    root = branch(lake, tmp_path / "branch").root
    before = content(root)
    ingest(Lake(None, lake), 3)
    assert content(root) == before
    shutil.rmtree(lake)
    assert stocks(root) == ALERTS
    assert check(root) == []


def test_files_that_a_parent_removes_stay_in_its_branch(lake: Path, tmp_path: Path) -> None:
    parent = Lake(None, lake)
    release(parent, [RUN])
    root = branch(lake, tmp_path / "branch").root
    removed = plan_removal(parent, older_than=-1)
    assert removed
    remove(parent, removed)
    (pins,) = (r for r in removed if r.table == "pins")
    version = pins.versions[-1]
    with pytest.raises(LakeError, match="cannot be read any more"):
        read(lake, "pins", version=version)
    assert len(read(root, "pins", version=version)) == 3
    # what was gone before the branch left is said to be gone there, too
    later = branch(lake, tmp_path / "later").root
    with pytest.raises(LakeError, match="cannot be read any more"):
        read(later, "pins", version=version)
    assert check(later) == []


def test_a_branch_at_earlier_versions_ends_with_them(lake: Path, tmp_path: Path) -> None:
    first = {"sightings": 1, "datapoints": 1, "alerts": 1, "quarantine": 1, "archive_files": 1}
    root = branch(lake, tmp_path / "branch", first).root
    assert stocks(root) == {10, 11}
    check_known(root)
    ingest(Lake(None, root), 4)
    assert stocks(root) == {10, 11, 40, 41}
    assert check(root) == []


def test_a_branch_of_a_branch_needs_neither(lake: Path, tmp_path: Path) -> None:
    middle = branch(lake, tmp_path / "middle").root
    ingest(Lake(None, middle), 3)
    last = branch(middle, tmp_path / "last").root
    shutil.rmtree(lake)
    shutil.rmtree(middle)
    assert stocks(last) == ALERTS | {30, 31}


def test_on_another_file_system_a_parent_keeps_what_its_branch_needs(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", none)
    parent = Lake(None, lake)
    made = branch(lake, tmp_path / "branch")
    assert (made.linked, made.pinned) == (False, True)
    names = {row["run_id"] for row in live_pins(parent)}
    assert names == {RUN, f"branch {made.root}"}
    pinned = {r["table"]: r["version"] for r in live_pins(parent) if r["run_id"] != RUN}
    assert pinned == made.versions
    # a version that only the branch needs
    row = {"pinned": utc_now(), "run_id": "x", "table": "alerts", "version": 1, "released": None}
    insert(parent, TABLES["pins"], rows_of(TABLES["pins"], [row]), {})
    remove(parent, plan_removal(parent, older_than=-1))
    for name, version in made.versions.items():
        assert len(read(made.root, name)) == len(read(lake, name, version=version))
    assert check(made.root) == []
    assert main(["maintain", "--lake", str(lake), "--release", f"branch {made.root}"]) == 0
    assert {row["run_id"] for row in live_pins(parent)} == {RUN, "x"}
    # a lake that went elsewhere is named
    lake.rename(tmp_path / "elsewhere")
    with pytest.raises(LakeError, match=r"has lost .*: it is a link to .*/lake/alerts/part-"):
        stocks(made.root)


def test_a_parent_that_cannot_be_written_is_named(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    monkeypatch.setattr(branching, "pin", refused)
    assert main(["branch", str(tmp_path / "branch"), "--lake", str(lake)]) == 0
    assert "see that nothing is removed there" in capsys.readouterr().out
    assert stocks(tmp_path / "branch") == ALERTS


def test_a_branch_of_the_archive_alone_knows_no_run(lake: Path, tmp_path: Path) -> None:
    assert main(["branch", str(tmp_path / "branch"), "--archive", "--lake", str(lake)]) == 0
    assert table_paths(tmp_path / "branch") == [
        "alerts", "archive_files", "datapoints", "quarantine", "sightings",
    ]  # fmt: skip
    check_known(tmp_path / "branch")
    assert stocks(tmp_path / "branch") == ALERTS


def test_a_branch_needs_a_whole_lake_and_a_free_folder(lake: Path, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="has no version 9 of table 'alerts': it goes from 0 to 2"):
        branch(lake, tmp_path / "branch", {"alerts": 9})
    with pytest.raises(LakeError, match="no version 0 of table 'nothing': it has no such table"):
        branch(lake, tmp_path / "branch", {"nothing": 0})
    with pytest.raises(LakeError, match="is not empty"):
        branch(lake, lake)
    part = next(iter((lake / "alerts").glob("*.parquet")))
    part.unlink()
    with pytest.raises(LakeError, match=f"has lost {part.name}"):
        branch(lake, tmp_path / "branch")
    # nothing of what failed is left
    assert [p.name for p in tmp_path.iterdir()] == ["lake"]
    assert os.listdir(tmp_path) == ["lake"]
