"""Archives are found however they are named, and no damage to a tar goes unsaid."""

import gzip
import hashlib
from pathlib import Path

import pytest

from ampel_spark.archive.files import (
    Broken,
    Digest,
    Member,
    find_files,
    hash_files,
    read_members,
    sizes_of,
)
from ampel_spark.errors import ArchiveError


@pytest.fixture
def members() -> dict[str, bytes]:
    return {f"{i}.avro": bytes([i]) * (700 * i) for i in range(1, 5)}


def read(path: Path) -> tuple[dict[str, bytes], list[Broken]]:
    digest = Digest()
    items = list(read_members(path, digest))
    # whatever is wrong with a file, all of its bytes are in its hash
    assert digest.hexdigest() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest.size == path.stat().st_size
    assert items == list(read_members(path))
    return {m.name: m.data for m in items if isinstance(m, Member)}, [
        b for b in items if isinstance(b, Broken)
    ]


def test_a_directory_a_file_and_a_glob_are_archives(tmp_path: Path) -> None:
    for name in ("2018/a.tar.gz", "b.tar", "c.avro", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in find_files([tmp_path])] == ["a.tar.gz", "b.tar", "c.avro"]
    assert [p.name for p in find_files([tmp_path / "c.avro"])] == ["c.avro"]
    assert [p.name for p in find_files([f"{tmp_path}/*.tar"])] == ["b.tar"]
    assert len(find_files([tmp_path, tmp_path / "b.tar"])) == 3


def test_an_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="nowhere' does not exist and matches no file"):
        find_files([tmp_path / "nowhere"])
    with pytest.raises(ArchiveError, match="holds no archive file"):
        find_files([tmp_path])


def test_files_are_hashed(tmp_path: Path) -> None:
    (tmp_path / "a.avro").write_bytes(b"abc")
    (file,) = hash_files(sizes_of([tmp_path / "a.avro"]))
    assert file.size == 3
    assert (
        file.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )  # FIPS 180-2


def test_a_file_that_grows_as_it_is_hashed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.avro"
    path.write_bytes(b"abc")
    files = sizes_of([path])
    path.write_bytes(b"abcd")
    with pytest.raises(ArchiveError, match=r"a.avro is being written: it had 3 bytes and has 4"):
        hash_files(files)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_whole_tar_gives_all_members_and_nothing_broken(
    make, members, tmp_path: Path, suffix: str
) -> None:
    data = make.tar(members)
    path = tmp_path / f"night{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == ".tar.gz" else data)
    assert read(path) == (members, [])


def test_a_tar_cut_anywhere_keeps_what_came_before_and_says_so(
    make, members, tmp_path: Path
) -> None:
    data = make.tar(members)
    end = len(data.rstrip(b"\0"))
    path = tmp_path / "night.tar"
    for cut in [0, 1, 511, 512, 513, 1024, 2048, 2560, end - 1, end]:
        path.write_bytes(data[:cut])
        found, broken = read(path)
        assert len(broken) == 1, cut
        assert all(members[name] == content for name, content in found.items())


def test_a_gzip_cut_anywhere_keeps_what_came_before_and_says_so(
    make, members, tmp_path: Path
) -> None:
    data = gzip.compress(make.tar(members))
    path = tmp_path / "night.tar.gz"
    for cut in [0, 1, 5, len(data) // 2, len(data) - 9, len(data) - 1]:
        path.write_bytes(data[:cut])
        found, broken = read(path)
        assert len(broken) == 1, cut
        assert all(members[name] == content for name, content in found.items())


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(
    make, members, tmp_path: Path
) -> None:
    data = bytearray(make.tar(members))
    data[512 + 1024 + 100] ^= 0xFF  # in the header of the second member
    path = tmp_path / "night.tar"
    path.write_bytes(data)
    found, broken = read(path)
    assert set(found) == {"1.avro"}
    assert broken == [Broken("broken_archive", "tar: no valid header at byte 1536")]


def test_an_empty_tar_is_said_to_be_empty(make, tmp_path: Path) -> None:
    path = tmp_path / "night.tar.gz"
    path.write_bytes(gzip.compress(make.tar({})))
    assert read(path) == ({}, [Broken("empty_archive", "the tar has no member")])


def test_a_wrong_checksum_at_the_end_of_gzip_is_seen(make, members, tmp_path: Path) -> None:
    data = bytearray(gzip.compress(make.tar(members)))
    data[-8] ^= 0xFF
    path = tmp_path / "night.tar.gz"
    path.write_bytes(data)
    found, broken = read(path)
    assert found == members
    assert [b.reason for b in broken] == ["broken_archive"]


def test_a_plain_avro_file_is_one_member(tmp_path: Path) -> None:
    (tmp_path / "1.avro").write_bytes(b"Obj\x01abc")
    assert read(tmp_path / "1.avro") == ({"1.avro": b"Obj\x01abc"}, [])
