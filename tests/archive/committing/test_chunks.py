"""What must be known of files before they are read is looked at, and nothing more."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from ampel_spark.archive.committing.chunks import looked_at
from ampel_spark.archive.reading.files import sizes_of
from ampel_spark.lake.lake import Lake


class Read:
    """A lake that holds files of some sizes."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    def has(self, name: str) -> bool:
        return bool(self.sizes)

    def arrow(self, name: str, columns: list[str]) -> Any:
        return pa.table({"bytes": self.sizes})


def test_a_file_is_hashed_before_it_is_read_only_where_one_of_its_size_is_known(
    tmp_path: Path,
) -> None:
    for name, size in {"a": 1, "b": 2, "c": 2, "d": 4}.items():
        (tmp_path / name).write_bytes(name.encode() * size)
    files = sizes_of(sorted(tmp_path.iterdir()))

    def hashed(*sizes: int) -> str:
        found = looked_at(cast(Lake, Read(*sizes)), files)
        assert [file.path for file in found] == [file.path for file in files]
        return "".join(Path(file.path).name for file in found if file.sha256)

    assert hashed() == "bc"
    assert hashed(3, 5) == "bc"
    assert hashed(4, 1, 1) == "abcd"
