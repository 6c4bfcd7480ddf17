"""Files as all read them: what was read is kept for as long as they stay as they were.

Notebooks and workers go on while a file is changed: its content is read again then, as the traces
of results say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyarrow.fs import SubTreeFileSystem

__all__ = ["Read", "current", "files_in", "stamp"]


def stamp(path: Path) -> tuple[int, ...]:
    """Return times of change and sizes of a file, or of the files of a folder; () for neither."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [file.stat() for file in files if file.is_file()]
    return tuple(n for stat in stats for n in (stat.st_mtime_ns, stat.st_size))


@dataclass(frozen=True, eq=False)
class Read:
    """What was read, of which files and folders, and the stamps of these."""

    what: Any
    files: tuple[Path, ...]
    stamps: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, what: Any, files: Sequence[Path]) -> Read:
        """Return what was just read of files."""
        return cls(what, tuple(files), tuple(map(stamp, files)))


def current(load: Callable[..., Read], *key: Any) -> Read:
    """Return what a function with an `lru_cache` has read, anew where its files have changed."""
    found = load(*key)
    if tuple(map(stamp, found.files)) != found.stamps:
        load.cache_clear()  # type: ignore[attr-defined]
        found = load(*key)
    return found


def files_in(folder: str | Path) -> SubTreeFileSystem:
    """Return a folder as the file system through which its Delta table is to be read.

    It is Arrow's own: that of deltalake calls back into Python from Arrow threads, which may
    outlive the interpreter ("terminate called without an active exception", exit code 134).
    """
    from pyarrow import fs

    return fs.SubTreeFileSystem(str(Path(folder).resolve()), fs.LocalFileSystem())
