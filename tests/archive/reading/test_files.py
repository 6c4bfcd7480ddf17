"""Archives are found however they are named, and no damage to a tar goes unsaid."""

import bz2
import gzip
import hashlib
import lzma
from pathlib import Path

import pytest
from backports import zstd

from ampel_spark.archive.reading.files import (
    Broken,
    Digest,
    Member,
    find_files,
    fits,
    hash_files,
    left_out,
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


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd.compress}


def test_nights_and_packets_are_read_in_every_compression_and_case(
    make, members, tmp_path: Path
) -> None:
    """They were passed over in silence: two of eleven alerts were stored."""
    for ending, pack in PACK.items():
        (tmp_path / f"a.tar{ending}").write_bytes(pack(make.tar(members)))
        (tmp_path / f"1.avro{ending}").write_bytes(pack(b"Obj\x01abc"))
    (tmp_path / "A.TAR.GZ").write_bytes(gzip.compress(make.tar(members)))
    (tmp_path / "b.tgz").write_bytes(lzma.compress(make.tar(members)))  # named for another
    (tmp_path / "c.tar.gz").write_bytes(make.tar(members))  # and not compressed at all
    files = find_files([tmp_path])
    assert len(files) == 11
    for file in files:
        expected = {file.name: b"Obj\x01abc"} if ".avro" in file.name else members
        assert read(file) == (expected, [])


def test_members_that_are_compressed_are_unpacked(make, members, tmp_path: Path) -> None:
    """ELAsTiCC's alerts are ``.avro.gz`` within a tar."""
    path = tmp_path / "night.tar.gz"
    packed = {f"{name}.gz": gzip.compress(data) for name, data in members.items()}
    path.write_bytes(gzip.compress(make.tar(packed)))
    assert read(path) == ({f"{name}.gz": data for name, data in members.items()}, [])
    path.write_bytes(make.tar({"1.avro.gz": packed["1.avro.gz"][:-9]}))
    assert read(path) == ({"1.avro.gz": packed["1.avro.gz"][:-9]}, [])


def test_what_else_is_in_a_tar_is_no_packet_and_counted_apart(
    make, members, tmp_path: Path
) -> None:
    others = {"./n/._1.avro": b"\x00\x05\x16\x07", "./n/.DS_Store": b"Bud1", "README": b"Alerts.\n",
              "SHA256SUMS": b"abc  1.avro\n", "n/list.txt": b"1",
              "__MACOSX/1.avro": b"\x00"}  # fmt: skip
    path = tmp_path / "night.tar"
    path.write_bytes(make.tar(others | members | {"nameless": b"\x00\x01\xff"}))
    digest = Digest()
    assert [m.name for m in read_members(path, digest) if isinstance(m, Member)] == [
        *members, "nameless"
    ]  # fmt: skip
    assert digest.asides == list(others)
    assert str(digest.aside).startswith("6 members that are no packets (./n/._1.avro, ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file has no content: 0 bytes"),
        (b"<!DOCTYPE HTML>\n<html>404", "no tar, but a web page"),
        (gzip.compress(gzip.compress(b"abc")), "gzip: it is compressed twice, with gzip in it"),
        (b"PK\x03\x04abc", "no tar, but a zip archive; unpack it before"),
    ],
    ids=["empty", "page", "gzip of gzip", "zip"],
)
def test_what_is_no_archive_is_called_what_it_is(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "night.tar.gz"
    path.write_bytes(content)
    found, (broken,) = read(path)
    assert found == {}
    assert broken.reason == "broken_archive"
    assert broken.detail.startswith(said)


def test_files_that_a_folder_s_reading_leaves_out_are_named_by_kind(tmp_path: Path) -> None:
    for name in ("a.tar.gz", "README", "x.csv", "y.csv", ".DS_Store", "sub/z.CSV", "sub/w.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (line,) = left_out([tmp_path, tmp_path / "x.csv"])
    assert line.startswith(f"left out of {tmp_path} by their names: 4 .csv (")
    assert ", 1 hidden (.DS_Store), 1 no ending (README); what is read is called *.tar" in line
    assert fits("A.CSV.GZ", ["*.csv"])
    assert not fits("._a.csv", ["*.csv"])
    with pytest.raises(ArchiveError, match=r"holds no archive file .*left out of .* 2 \.csv"):
        find_files([tmp_path / "sub"])


def test_folders_that_are_linked_are_read_once_and_links_to_nothing_are_named(
    tmp_path: Path,
) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "archive"
    for path in (elsewhere, folder):
        path.mkdir()
    (elsewhere / "b.tar").touch()
    (folder / "a.tar").touch()
    (folder / "night").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    (folder / "gone.tar").symlink_to(tmp_path / "nowhere")
    assert [path.name for path in find_files([folder])] == ["a.tar", "b.tar"]
    (line,) = left_out([folder])
    assert "1 links to nothing (gone.tar)" in line


def test_a_tar_without_a_packet_is_empty_and_one_of_other_data_is_broken(
    make, tmp_path: Path
) -> None:
    path = tmp_path / "x.tar"
    for members, reason in (
        ({"README": b"nothing was seen\n", "._a.avro": b"\0\1"}, "empty_archive"),
        ({"README": b"see inside\n", "night.tar.gz": gzip.compress(b"\0")}, "broken_archive"),
    ):
        path.write_bytes(make.tar(members))
        found, (broken,) = read(path)
        assert (found, broken.reason) == ({}, reason)
    assert "night.tar.gz" in broken.detail


def test_what_a_simulation_writes_beside_its_archive_is_not_read(tmp_path: Path) -> None:
    for name in ("a.tar.gz", "truth.parquet", "simulation.json", "own.parquet"):
        (tmp_path / name).touch()
    found = find_files([tmp_path], ["*.tar.gz", "*.parquet"])
    assert [path.name for path in found] == ["a.tar.gz", "own.parquet"]
    assert left_out([tmp_path], ["*.tar.gz", "*.parquet"]) == []
