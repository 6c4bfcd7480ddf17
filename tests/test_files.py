"""What was read of files is read again once these change."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from ampel_spark.files import Read, current, stamp


@functools.lru_cache(maxsize=4)
def lines(path: Path) -> Read:
    return Read.of(path.read_text().split(), [path])


def test_a_changed_file_is_read_again_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("1 2")
    first = current(lines, path)
    assert current(lines, path) is first
    path.write_text("1 2 3")
    assert current(lines, path).what == ["1", "2", "3"]
    path.write_text("4 5 6")  # as long as before
    os.utime(path, ns=(0, 0))
    assert current(lines, path).what == ["4", "5", "6"]


def test_a_folder_is_known_by_all_its_files(tmp_path: Path) -> None:
    assert stamp(tmp_path / "none") == ()
    (tmp_path / "deep").mkdir()
    assert stamp(tmp_path) == ()
    (tmp_path / "deep" / "file.dat").write_text("1")
    before = stamp(tmp_path)
    (tmp_path / "deep" / "file.dat").write_text("12")
    assert stamp(tmp_path) != before
    assert len(before) == 2
