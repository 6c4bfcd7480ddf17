"""Archives into the lake: accounts close, order plays no part, nothing enters twice."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ampel_spark.archive.committing import ingest as ingesting
from ampel_spark.archive.committing.chunks import Pinned, pinned
from ampel_spark.archive.committing.ingest import Ingested, ingest
from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.errors import ArchiveError, LakeError
from ampel_spark.lake.lake import Lake
from tests.archive.conftest import Make

pytestmark = pytest.mark.spark

JD = 2458300.5
POINT = [
    "stock",
    "datapoint_id",
    "revision",
    "kind",
    "jd",
    "mag",
    "limit_mag",
    "pid",
    "first_alert_jd",
    "first_alert_id",
]


def read(lake: Lake, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
    return sorted((tuple(r) for r in lake.read(table).select(*columns).collect()), key=repr)


@pytest.fixture(scope="module")
def nights(make: Make, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three nights of one object, whose first point is revised by the third, and of another one."""
    first = make.detection(1, JD, 18.0)
    second = make.detection(2, JD + 1, 18.5)
    third = make.detection(3, JD + 2, 19.0)
    rounded = {**first, "magpsf": 18.0004}
    revised = {**first, "magpsf": 18.05}
    limit = make.limit(JD - 2, 20.0, pid=7)
    packets = [
        [make.packet(first, [limit]), make.packet(make.detection(9, JD), name="ZTF19aaaaaaa")],
        [make.packet(second, [rounded, {**limit, "pid": 5}])],
        [make.packet(third, [revised, second])],
    ]
    folder = tmp_path_factory.mktemp("nights")
    return [
        make.night(folder / f"ztf_public_2018070{i}.tar.gz", p) for i, p in enumerate(packets, 1)
    ]


@dataclass(frozen=True)
class AtOnce:
    """A lake of all nights, read at once; what the ingest returned and said. Only read."""

    lake: Lake
    done: Ingested
    lines: list[str]

    def copy(self, path: Path) -> Lake:
        """Return a copy to write to: an ingest takes seconds, a copy takes none."""
        shutil.copytree(self.lake.root, path)
        return Lake(self.lake.spark, path)


@pytest.fixture(scope="module")
def at_once(
    spark: SparkSession, nights: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> AtOnce:
    lake = Lake(spark, tmp_path_factory.mktemp("at_once") / "lake")
    lines: list[str] = []
    done = ingest(spark, lake, [nights[0].parent], run_id="r", out=lines.append)
    return AtOnce(lake, done, lines)


def test_an_archive_becomes_tables_whose_accounts_close(at_once: AtOnce) -> None:
    lake, done, lines = at_once.lake, at_once.done, at_once.lines
    assert (done.files, done.packets, done.stored, done.duplicate, done.quarantined) == (
        3,
        4,
        4,
        0,
        0,
    )
    assert "3/3 files, 4 packets" in lines[-1]
    assert pinned(lake.root) == Pinned(1, 1, 1, archive_files=1, sightings=1)
    with pytest.raises(ArchiveError, match="held no alerts at version 0 of archive_files"):
        pinned(lake.root, 0)
    files = read(
        lake,
        "archive_files",
        ["path", "packets", "stored", "night_first", "broken", "datapoints_version"],
    )
    assert [f[1:] for f in files] == [
        (2, 2, 20180701, False, 1),
        (1, 1, 20180702, False, 1),
        (1, 1, 20180703, False, 1),
    ]
    # the first values stay, rounding is nothing new, a change of 0.05 mag is a revision that
    # alert 3 sees
    points = {(p[1], p[2]): p for p in read(lake, "datapoints", POINT) if p[0] == 17}
    assert points[1, 0][5:] == (18.0, 20.5, 1000, JD, 1)
    assert points[1, 1][5] == pytest.approx(18.05, abs=1e-6)
    assert points[1, 1][8:] == (JD + 2, 3)
    assert {k for k in points if k[0] > 0} == {(1, 0), (1, 1), (2, 0), (3, 0)}
    # the limit is as the first alert that showed it had it
    (limit,) = (p for k, p in points.items() if k[0] < 0)
    assert limit[7:] == (7, JD, 1)


def test_any_order_and_chunking_gives_the_same_tables(
    spark: SparkSession, tmp_path: Path, nights: list[Path], at_once: AtOnce
) -> None:
    def content_of(lake: Lake) -> tuple[list[tuple[Any, ...]], ...]:
        content = [c for c in lake.read("alerts").columns if c not in ("run_id", "file")]
        return read(lake, "datapoints", POINT), read(lake, "alerts", content)

    # test_order.py does it with shuffled packets; here the last night comes first, and alone
    lake = Lake(spark, tmp_path / "backwards")
    for chunk in ([nights[2]], [nights[1], nights[0]]):
        ingest(spark, lake, chunk, out=lambda line: None)
    assert content_of(lake) == content_of(at_once.lake)


def test_the_same_file_again_is_a_no_op_renamed_or_not(
    spark: SparkSession, lake_path: Path, tmp_path: Path, nights: list[Path], at_once: AtOnce
) -> None:
    lake = at_once.copy(lake_path)
    before = lake.versions()
    copy = tmp_path / "copy.tar.gz"
    copy.write_bytes(nights[0].read_bytes())
    done = ingest(spark, lake, [copy, nights[0].parent], out=lambda line: None)
    assert (done.files, done.known, done.packets) == (0, 4, 0)
    assert lake.versions() == before


@pytest.fixture
def changed_night(make: Make, nights: list[Path]) -> Iterator[Path]:
    """The first night with another packet in it, for a while."""
    content = nights[0].read_bytes()
    yield make.night(nights[0], [make.packet(make.detection(44, JD))])
    nights[0].write_bytes(content)


def test_a_file_that_changed_is_an_error_that_names_it(
    spark: SparkSession, lake_path: Path, at_once: AtOnce, changed_night: Path
) -> None:
    lake = at_once.copy(lake_path)
    with pytest.raises(
        ArchiveError,
        match=r"ztf_public_20180701.tar.gz changed since it was read .* "
        r"give the new file another name",
    ):
        ingest(spark, lake, [changed_night], out=lambda line: None)


def test_a_file_that_changes_before_it_is_read_is_an_error_and_nothing_is_stored(
    spark: SparkSession,
    lake_path: Path,
    tmp_path: Path,
    nights: list[Path],
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lake = Lake(spark, lake_path)
    late = make.night(tmp_path / "late.tar.gz", [make.packet(make.detection(1, JD))])
    read = ingesting.decode

    def grown(*args: Any) -> Any:
        late.write_bytes(nights[0].read_bytes())
        return read(*args)

    monkeypatch.setattr(ingesting, "decode", grown)
    with pytest.raises(ArchiveError, match=r"late.tar.gz changed since it was looked at"):
        ingest(spark, lake, [late], out=lambda line: None)
    assert not lake.has("alerts")


# Three others here hold replaced files to the same, each in a part of the time.
@pytest.mark.long
def test_a_replaced_file_leaves_the_lake_that_would_be_without_the_old_one(
    spark: SparkSession, tmp_path: Path, make: Make, nights: list[Path]
) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(nights[0].parent, archive)
    # alert 2 stands in the second file, again in one more, and with other content in a third
    limit = make.limit(JD - 2, 20.0, pid=5)
    second = make.packet(make.detection(2, JD + 1, 18.5), [make.detection(1, JD, 18.0004), limit])
    make.night(archive / "zzcopied.tar.gz", [second, make.packet(make.detection(7, JD))])
    other = make.packet(make.detection(2, JD + 1, 18.6), name="ZTF19aaaaaab")
    (archive / "junk.avro").write_bytes(b"junk")
    first = ingest(spark, tmp_path / "lake", [archive], out=lambda line: None)
    assert (first.stored, first.duplicate, first.quarantined) == (5, 1, 1)
    differing = make.night(archive / "zzdiffering.tar.gz", [other])
    ingest(spark, tmp_path / "lake", [differing], out=lambda line: None)
    again = make.detection(5, JD + 1.5, 18.7)
    make.night(archive / nights[1].name, [make.packet(again, [make.detection(1, JD, 18.2)])])
    (archive / "junk.avro").write_bytes(make.avro(make.packet(make.detection(6, JD + 4))))
    done = ingest(spark, tmp_path / "lake", [archive], out=lambda line: None, replace=True)
    ingest(spark, tmp_path / "fresh", [archive], out=lambda line: None)
    assert done.files == 4  # the two that changed, and the two that shared a packet
    assert done.known == len(list(archive.iterdir())) - 4
    lake = Lake(spark, tmp_path / "lake")
    # of what now stands under alert 2 one is stored, and which one is told by its content
    assert [r["reason"] for r in lake.read("quarantine").collect()] == ["conflict"]
    assert tables(lake) == tables(Lake(spark, tmp_path / "fresh"))


def tables(lake: Lake) -> dict[str, list[tuple[Any, ...]]]:
    """Return what is in a lake, but for runs and versions."""
    return {
        name: read(lake, name, [
            c for c in lake.read(name).columns
            if c not in ("run_id", "chunk") and not c.endswith("_version")
        ])
        for name in ("alerts", "datapoints", "sightings", "quarantine", "archive_files")
    }  # fmt: skip


def test_a_file_replaced_by_what_another_holds_gives_way(
    spark: SparkSession, tmp_path: Path, nights: list[Path]
) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(nights[0].parent, archive)
    lake = Lake(spark, tmp_path / "lake")
    ingest(spark, lake, [archive], out=lambda line: None)
    shutil.copyfile(archive / nights[2].name, archive / nights[0].name)
    changed = archive / nights[0].name
    done = ingest(spark, lake, [changed], out=lambda line: None, replace=True)
    assert (done.files, done.stored) == (1, 1)
    (archive / nights[2].name).unlink()
    ingest(spark, tmp_path / "fresh", [archive], out=lambda line: None)
    assert tables(lake) == tables(Lake(spark, tmp_path / "fresh"))


def test_what_a_name_held_before_is_not_lost_with_what_it_holds(
    spark: SparkSession, tmp_path: Path, make: Make, nights: list[Path]
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    night, old = archive / nights[0].name, archive / "old.tar.gz"
    shutil.copyfile(nights[0], night)
    lake = Lake(spark, tmp_path / "lake")
    ingest(spark, lake, [night], out=lambda line: None)
    night.rename(old)
    shutil.copyfile(nights[1], night)
    assert ingest(spark, lake, [archive], out=lambda line: None).stored == 1
    # both are known, in whatever order they were read
    assert ingest(spark, lake, [night], out=lambda line: None).known == 1
    make.night(night, [make.packet(make.detection(5, JD + 3))])
    with pytest.raises(ArchiveError, match=r"has other content now.*name the file that has it"):
        ingest(spark, lake, [night], out=lambda line: None, replace=True)
    assert ingest(spark, lake, [archive], out=lambda line: None, replace=True).stored == 3
    ingest(spark, tmp_path / "fresh", [archive], out=lambda line: None)
    assert tables(lake) == tables(Lake(spark, tmp_path / "fresh"))


def test_files_of_other_surveys_are_left_alone_where_one_is_replaced(
    spark: SparkSession, lake_path: Path, tmp_path: Path, make: Make
) -> None:
    table = tmp_path / "other.csv"
    table.write_text("object,jd,band,flux,fluxerr\na,2458300.5,ztfg,100,2\n")
    copy = tmp_path / "zz.csv"
    copy.write_text(table.read_text() + "b,2458300.5,ztfg,100,2\n")
    columns = {name: name for name in ("object", "band", "flux", "fluxerr")}
    other = Survey.model_validate({
        "name": "Other", "reader": "photometry", "access": {"PUB": 1},
        "photometry": columns | {"time": "jd", "zp": 25.0, "programid": 1},
    })  # fmt: skip
    lake = Lake(spark, lake_path)
    for path in (table, copy):
        ingest(spark, lake, [path], other, out=lambda line: None)
    assert max(read(lake, "archive_files", ["duplicate"])) == (1,)
    before = [row for row in read(lake, "alerts", ["survey", "name"]) if row[0] == "Other"]
    night = make.night(tmp_path / "night.tar.gz", [make.packet(make.detection(1, JD))])
    ingest(spark, lake, [night], out=lambda line: None)
    make.night(night, [make.packet(make.detection(2, JD)), make.packet(make.detection(3, JD))])
    assert ingest(spark, lake, [night], out=lambda line: None, replace=True).stored == 2
    after = read(lake, "alerts", ["survey", "name"])
    assert [row for row in after if row[0] == "Other"] == before
    assert len(after) == len(before) + 2


def test_two_ingests_at_once_of_overlapping_files_take_every_file_once(
    spark: SparkSession, lake_path: Path, nights: list[Path], at_once: AtOnce
) -> None:
    with ThreadPoolExecutor(2) as pool:
        parts = (nights[:2], nights[1:])
        both = [
            pool.submit(ingest, spark, lake_path, part, out=lambda line: None) for part in parts
        ]
        done = [each.result() for each in both]
    assert sum(d.files for d in done) == 3
    assert sum(d.known for d in done) == 1
    lake = Lake(spark, lake_path)
    assert lake.read("alerts").count() == 4
    assert read(lake, "datapoints", POINT) == read(at_once.lake, "datapoints", POINT)


def test_duplicates_conflicts_and_broken_packets_are_accounted_for(
    spark: SparkSession, lake_path: Path, make: Make, tmp_path: Path, at_once: AtOnce
) -> None:
    lake = at_once.copy(lake_path)
    members = {
        # alert 9 is there, on its own, with 18.0 mag
        "same.avro": make.avro(make.packet(make.detection(9, JD), name="ZTF19aaaaaaa")),
        "other.avro": make.avro(make.packet(make.detection(9, JD, 17.0), name="ZTF19aaaaaaa")),
        "bad.avro": b"junk",
        "new.avro": make.avro(make.packet(make.detection(44, JD))),
    }
    data = make.tar(members).rstrip(b"\0")
    (tmp_path / "b.tar").write_bytes(
        data.ljust(-(-len(data) // 512) * 512, b"\0")
    )  # its end is missing
    lines: list[str] = []
    done = ingest(spark, lake, [tmp_path / "b.tar"], out=lines.append)
    assert (done.packets, done.stored, done.duplicate, done.quarantined, done.broken) == (
        4,
        1,
        1,
        2,
        1,
    )
    assert lines[-2].startswith(f"ingest: broken after 4 packets: {tmp_path / 'b.tar'}: tar: ")
    assert lines[-1] == f"ingest: the reasons are in table quarantine of {lake.root}"
    rows = {r["reason"]: r for r in lake.read("quarantine").collect()}
    assert set(rows) == {"conflict", "not_avro", "broken_archive"}
    assert rows["conflict"]["member"] == "other.avro"
    assert "alert 9 is stored with content" in rows["conflict"]["detail"]
    assert rows["broken_archive"]["member"] is None
    # the packet in conflict left no trace in the tables
    alerts = lake.read("alerts").where("alert_id IN (9, 44)")
    assert [round(r["magpsf"], 3) for r in alerts.collect()] == [18.0, 18.0]
    assert lake.read("datapoints").where("mag < 17.5").count() == 0


def test_a_packet_is_stored_without_entries_that_cannot_be_and_they_are_in_no_count(
    spark: SparkSession, lake_path: Path, make: Make, tmp_path: Path
) -> None:
    odd = make.packet(make.detection(7, JD), [make.detection(5, JD - 1, -999.0)])
    for name, other in (("a", 8), ("b", 9)):  # the odd packet stands in both
        packets = [odd, make.packet(make.detection(other, JD), name="ZTF18aaaaaac")]
        make.night(tmp_path / f"{name}.tar.gz", packets)
    lines: list[str] = []
    done = ingest(spark, lake_path, [tmp_path / "a.tar.gz"], out=lines.append)
    assert (done.packets, done.stored, done.quarantined) == (2, 2, 0)
    assert lines[-2].endswith(
        "1 packets lack entries of their history, or values of the survey's own columns, that"
        " cannot be (bad_entry)"
    )
    again = ingest(spark, lake_path, [tmp_path])
    assert (again.packets, again.stored, again.duplicate, again.quarantined) == (2, 1, 1, 0)
    assert ingest(spark, lake_path, [tmp_path]).packets == 0
    lake = Lake(spark, lake_path)
    assert [
        r["datapoint_id"] for r in lake.read("datapoints").orderBy("datapoint_id").collect()
    ] == [
        7,
        8,
        9,
    ]
    found = lake.read("quarantine").select("member", "reason", "detail").collect()
    rows = sorted(tuple(r) for r in found)
    assert [row[:2] for row in rows] == [("7.avro", "bad_entry")] * 2
    assert "prv_candidates[0]: magpsf -999.0 is not between 0 and 40" in rows[0][2]


def test_files_that_are_broken_are_told_with_the_reason(
    spark: SparkSession, lake_path: Path, tmp_path: Path
) -> None:
    """A few of them, and how many more there are."""
    for n in range(7):
        (tmp_path / f"{n}.tar").write_text(f"hello world {n}")
    lines: list[str] = []
    done = ingest(spark, lake_path, [tmp_path], out=lines.append)
    assert (done.files, done.packets, done.broken) == (7, 0, 7)
    assert lines[-7:] == [
        *(
            f"ingest: broken after 0 packets: {tmp_path / f'{n}.tar'}: "
            f"no tar, but text: 'hello world {n}' …"
            for n in range(5)
        ),
        "ingest: broken: 2 files more",
        f"ingest: the reasons are in table quarantine of {lake_path}",
    ]


def test_a_chunk_that_was_killed_before_its_marker_is_not_seen_and_reading_it_again_heals(
    spark: SparkSession,
    lake_path: Path,
    make: Make,
    tmp_path: Path,
    at_once: AtOnce,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lake = at_once.copy(lake_path)
    fourth = make.detection(4, JD + 3, 19.5)
    packets = [
        # each revises what the one before it has shown: stored whole, or by the dead ingest alone
        [make.packet(fourth, [make.detection(2, JD + 1, 18.4)])],
        [make.packet(make.detection(5, JD + 4), [{**fourth, "magpsf": 19.6}])],
    ]
    more = [
        make.night(tmp_path / f"ztf_public_2018070{i}.tar.gz", p) for i, p in enumerate(packets, 4)
    ]

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ampel_spark.archive.committing.ingest._mark", killed)
    with pytest.raises(KeyboardInterrupt):
        ingest(spark, lake, more, run_id="killed", out=lambda line: None)
    monkeypatch.undo()
    assert lake.read("alerts", pinned(lake.root).alerts).count() == 4
    ingest(spark, lake, more, run_id="again", out=lambda line: None)
    assert lake.read("alerts", pinned(lake.root).alerts).count() == 6
    assert lake.read("alerts").count() == 6
    assert (
        lake.read("datapoints")
        .groupBy("stock", "datapoint_id", "revision")
        .count()
        .where("count > 1")
        .count()
        == 0
    )
    # what the dead ingest had stored was taken back: the second one's accounts are its own
    assert {(r["packets"], r["stored"]) for r in lake.read("archive_files").collect()} == {
        (2, 2),
        (1, 1),
    }


def test_a_lake_of_another_format_or_a_folder_of_other_things_is_refused(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(LakeError, match="is not empty and not a lake"):
        Lake(spark, tmp_path)
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "_ampel_spark.json").write_text('{"format": 99}')
    with pytest.raises(LakeError, match="has format 99, this version reads format 3"):
        Lake(spark, tmp_path / "lake")


def test_an_ingest_into_a_lake_that_lost_datapoints_says_so(
    spark: SparkSession, lake_path: Path, tmp_path: Path, make: Make
) -> None:
    first = make.night(
        tmp_path / "ztf_public_20200101.tar.gz", [make.packet(make.detection(1, JD))]
    )
    second = make.night(
        tmp_path / "ztf_public_20200102.tar.gz",
        [make.packet(make.detection(2, JD + 1), [make.detection(1, JD)])],
    )
    ingest(spark, lake_path, [first], out=lambda line: None)
    (file,) = (lake_path / "datapoints").glob("*.parquet")
    file.rename(tmp_path / "away")
    with pytest.raises(LakeError, match=f"has lost {file.name}: put it back .* or ingest"):
        ingest(spark, lake_path, [second], out=lambda line: None)
    (tmp_path / "away").rename(file)
    # a broken file given again is no success without a word
    broken = tmp_path / "ztf_public_20200103.tar.gz"
    broken.write_bytes(b"<html>not found</html>")
    assert ingest(spark, lake_path, [broken], out=lambda line: None).code == 3
    lines: list[str] = []
    again = ingest(spark, lake_path, [broken], out=lines.append)
    assert (again.code, again.known, again.known_bad) == (3, 1, 1)
    assert any("read before, broken: " in line and "web page" in line for line in lines)
    assert ingest(spark, lake_path, [broken, first], out=lambda line: None).code == 0
