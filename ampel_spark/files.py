"""A cache of files' content, which is read again when a file changes.

Use it for files that units read: a notebook or a worker then sees a changed file, as the traces of
results do. `files_in` opens the folder of a Delta table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.store import Remote, place

if TYPE_CHECKING:
    from pyarrow.fs import SubTreeFileSystem

__all__ = ["Read", "current", "files_in", "stamp"]


def stamp(path: Path) -> tuple[int, ...]:
    """Return the modification times and sizes of a file or of a folder's files; () if absent."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [file.stat() for file in files if file.is_file()]
    return tuple(n for stat in stats for n in (stat.st_mtime_ns, stat.st_size))


@dataclass(frozen=True, eq=False)
class Read:
    """Content, the files and folders that it was read from, and their stamps."""

    what: Any
    files: tuple[Path, ...]
    stamps: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, what: Any, files: Sequence[Path]) -> Read:
        """Return content that was just read from files, with their present stamps."""
        return cls(what, tuple(files), tuple(map(stamp, files)))


def current(load: Callable[..., Read], *key: Any) -> Read:
    """Return `load(*key)`, a function with an `lru_cache`; it reads again if a file has changed."""
    found = load(*key)
    if tuple(map(stamp, found.files)) != found.stamps:
        load.cache_clear()  # type: ignore[attr-defined]
        found = load(*key)
    return found


def files_in(folder: str | Path) -> SubTreeFileSystem:
    """Return the file system through which the Delta table in a folder is read.

    It is Arrow's own. The one of deltalake calls Python from Arrow threads, which may outlive the
    interpreter ("terminate called without an active exception", exit code 134).
    """
    from pyarrow import fs

    path = place(folder)
    if isinstance(path, Remote):
        return fs.SubTreeFileSystem(path.inside, path.file_system)
    return fs.SubTreeFileSystem(str(path.resolve()), fs.LocalFileSystem())
