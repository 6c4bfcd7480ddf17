"""A lake in an object store: read by the calls of a path, committed to by put-if-absent."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

import ampel_spark as aps
from ampel_spark.cli import main
from ampel_spark.errors import LakeError
from ampel_spark.lake.check import check
from ampel_spark.lake.commits import add_parts, insert, written
from ampel_spark.lake.known import check_known
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.log import commit_hash, newest_version
from ampel_spark.lake.lost import lost_files
from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.reading import read, table_info, table_names
from ampel_spark.lake.tables import Table, TableColumn
from ampel_spark.sky.store import Stored, add, folder_of
from ampel_spark.store import Remote, place
from tests.lake.test_check import ingest, small_lake
from tests.versitygw import KEY, SECRET, serving, versitygw

KEYED = Table("keyed", "a row", (TableColumn("k", "bigint", "key"),), ("k",))
JOURNAL = Table("journal", "a row", (TableColumn("k", "bigint", "a number"),))


def test_names_of_an_object_store_are_paths() -> None:
    path = place("s3://bucket/some/lake")
    assert isinstance(path, Remote)
    assert str(path / "alerts" / "x") == "s3://bucket/some/lake/alerts/x"
    assert (path.bucket, path.key, path.name) == ("bucket", "some/lake", "lake")
    assert (path / "alerts").relative_to(path).as_posix() == "alerts"
    assert path.parent / "lake" == path == path.resolve() == place(path)
    assert [str(each) for each in path.parents][:2] == ["s3://bucket/some", "s3://bucket"]
    assert not isinstance(place("some/lake"), Remote)


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that a server serves: a bucket is a folder in it, an object a file."""
    pytest.importorskip("obstore", reason="obstore is not installed")
    program = versitygw()
    if isinstance(program, str):
        pytest.skip(f"no S3 server: {program}")
    root = tmp_path_factory.mktemp("buckets")
    (root / "lakes").mkdir()
    with serving(program, root) as address, pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", address)
        patched.setenv("AWS_REGION", "us-east-1")
        patched.setenv("AWS_ACCESS_KEY_ID", KEY)
        patched.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patched.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield root


@pytest.fixture
def lake(buckets: Path, request: pytest.FixtureRequest) -> Path:
    """A small lake in a folder; the server has it as ``s3://lakes/NAME``."""
    name = re.sub(r"\W+", "_", request.node.name)
    return small_lake(buckets / "lakes" / name)


def url(lake: Path) -> str:
    return f"s3://lakes/{lake.name}"


def test_a_lake_is_the_same_read_as_objects_and_as_files(lake: Path) -> None:
    assert table_names(url(lake)) == table_names(lake)
    for name in table_names(lake):
        newest = newest_version(lake / name)
        assert newest is not None
        assert newest_version(f"{url(lake)}/{name}") == newest
        for version in range(newest + 1):
            assert read(url(lake), name, version=version) == read(lake, name, version=version)
            assert commit_hash(f"{url(lake)}/{name}", version) == commit_hash(lake / name, version)
        one, two = table_info(lake, name), table_info(url(lake), name)
        assert (one.rows, one.bytes_on_disk, one.lost) == (two.rows, two.bytes_on_disk, two.lost)
    check_known(url(lake))
    assert check(url(lake)) == []
    assert aps.open(url(lake)).tables == aps.open(lake).tables


@pytest.mark.parametrize("words", ["tables", "runs", "show latest", "maintain --check"])
def test_commands_say_the_same_of_it(
    words: str, lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = []
    for where in (str(lake), url(lake)):
        assert main([*words.split(), "--lake", where]) == 0
        answers.append(capsys.readouterr().out.replace(where, "LAKE"))
    assert answers[0] == answers[1] != ""


def test_a_night_is_committed_to_objects_as_to_files(lake: Path) -> None:
    ingest(Lake(None, url(lake)), 3)
    assert set(read(lake, "alerts", ["stock"])["stock"].to_pylist()) == {10, 11, 20, 21, 30, 31}
    assert read(lake, "alerts") == read(url(lake), "alerts")
    assert check(lake) == []


def test_of_racing_writers_none_loses_a_row_and_none_adds_one_twice(lake: Path) -> None:
    Lake(None, url(lake)).ensure(KEYED)
    Lake(None, url(lake)).ensure(JOURNAL)

    def write(process: int) -> None:
        mine = Lake(None, url(lake))
        for i in range(10):
            keys = pa.table({"k": pa.array(range(5 * i, 5 * i + 10), pa.int64())})
            insert(mine, KEYED, keys.cast(arrow_schema(KEYED)), {})
            rows = pa.table({"k": pa.array([100 * process + i], pa.int64())})
            add_parts(mine, JOURNAL, written(mine, JOURNAL, rows), {})

    with ThreadPoolExecutor(4) as threads:
        [*threads.map(write, range(4))]
    assert Counter(read(lake, "keyed")["k"].to_pylist()) == Counter(range(55))
    wanted = Counter(100 * process + i for process in range(4) for i in range(10))
    assert Counter(read(url(lake), "journal")["k"].to_pylist()) == wanted
    assert check(lake, ["keyed", "journal"]) == []


def test_one_of_many_takes_a_name_and_who_asks_again_finds_its_own(buckets: Path) -> None:
    for race in range(20):
        path = Remote(f"s3://lakes/races/{race}")
        with ThreadPoolExecutor(8) as threads:
            won = [*threads.map(lambda n, p=path: p.put_new(str(n).encode()), range(8))]  # type: ignore[misc]
        assert sum(won) == 1
        assert path.read_text() == str(won.index(True))
        assert path.put_new(path.read_bytes())


def test_a_catalogue_is_added_to_objects(lake: Path) -> None:
    table = pa.table({"id": [1, 2], "ra": [10.0, 11.0], "dec": [1.0, 2.0], "z": [0.1, None]})
    stored, new = add(url(lake), "galaxies", table)
    assert new
    assert add(url(lake), "galaxies", table)[1] is False
    again, _ = add(url(lake), "galaxies", table.slice(0, 1))
    assert (stored.version, again.version) == (0, 1)
    there = Stored.open(folder_of(lake, "galaxies"), 0)
    assert there.content_hash == stored.content_hash
    tiles = range(len(stored.tiles.rows))
    assert stored.rows(tiles)["z"].to_pylist() == there.rows(tiles)["z"].to_pylist() == [0.1, None]


def test_a_lost_object_is_named(lake: Path) -> None:
    part = next(iter((lake / "alerts").glob("*.parquet")))
    part.unlink()
    assert [path.name for path in lost_files(f"{url(lake)}/alerts")] == [part.name]
    with pytest.raises(LakeError, match=f"has lost {part.name}"):
        read(url(lake), "alerts")


def test_refused_credentials_are_said_in_one_sentence(
    lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert main(["tables", "--lake", url(lake)]) == 2
    said = capsys.readouterr().err
    assert "refuses s3://lakes/" in said
    assert "AWS_SECRET_ACCESS_KEY" in said
    assert "wrong" not in said


def test_what_an_object_store_cannot_do_yet_is_said(
    lake: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "night.tar").write_bytes(b"")
    before = sorted(lake.rglob("*"))
    for words in (["ingest", str(tmp_path)], ["branch", str(tmp_path / "trial")]):
        assert main([*words, "--lake", url(lake)]) in (1, 2)
        assert "is in an object store, where it can be read" in capsys.readouterr().err
    assert main(["branch", url(lake), "--lake", str(lake)]) == 1
    assert "is in an object store" in capsys.readouterr().err
    assert sorted(lake.rglob("*")) == before


def test_a_place_without_a_lake_is_none(lake: Path) -> None:
    with pytest.raises(LakeError, match="there is no lake at s3://lakes/nothing"):
        table_names("s3://lakes/nothing")
    shutil.rmtree(lake / "_locks", ignore_errors=True)
