"""Files that a lake has lost: which they are, and one sentence in place of whatever a reader says.

A copy that broke off, a full disk or a tidy person takes files that a table's log names. Nothing is
looked for while all goes well; where a reader fails, `explained` finds out whether this is why.
"""

from __future__ import annotations

import contextlib
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ampel_spark.errors import AmpelSparkError, LakeError
from ampel_spark.lake.log import commit_path, file_of, newest_version, uncovered
from ampel_spark.lake.marker import MARKER
from ampel_spark.store import Remote, delta_table, place

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["check_whole", "explained", "explanation", "lost_files", "misfits"]

# A file of a table, as the messages of pyarrow, deltalake, Spark and Python name it: what is before
# its ending, in which a path may begin at some places.
_FILE = re.compile(r"[^'\"\n<>|]*?(?:\.parquet|/_delta_log/\d{20}\.json)(?!\w|\.\w)")
_BEGIN = re.compile(r"(?:^|(?<=[\s:(=\[,]))/")


def lost_files(table: str | Path, version: int | None = None) -> list[Path]:
    """Return the files that a table's log names and that are absent, or of another size.

    Parameters
    ----------
    table : path
        Folder of the table.
    version : int, optional
        By default the newest.
    """
    from deltalake.exceptions import DeltaError

    folder = place(table)
    newest = newest_version(folder)
    try:
        there = delta_table(folder, version)
        behind = version is None and newest is not None and there.version() != newest
    except (DeltaError, OSError):
        behind = True
    if behind:
        return _lost_commits(folder)
    return [path for path, _, _ in misfits(folder, there)]


def misfits(folder: Path, table: DeltaTable) -> Iterator[tuple[Path, int | None, int]]:
    """Yield the files of a version of a table that are absent, or of another size than written.

    Yields
    ------
    (Path, int or None, int)
        The file, its size, None where it is absent, and the size that was written, B.
    """
    import pyarrow as pa

    actions = pa.table(table.get_add_actions(flatten=False))
    sizes = folder.sizes() if isinstance(folder, Remote) else None
    for name, size in zip(
        actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True
    ):
        path = file_of(folder, name)
        there: int | None
        try:
            there = path.stat().st_size if sizes is None else sizes.get(str(path))
        except OSError:
            there = None
        if there != size:
            yield path, there, size


def _lost_commits(folder: Path) -> list[Path]:
    """Return the commits that a table's log lacks since its last checkpoint."""
    versions = uncovered(folder)
    # the log of a table begins with a commit
    commits = [commit_path(folder, n) for n in range(versions.start, max(versions.stop, 1))]
    return [path for path in commits if not path.is_file() or not path.stat().st_size]


def check_whole(table: str | Path, version: int | None = None) -> None:
    """Refuse a table that has lost files.

    Parameters
    ----------
    table, version
        As for `lost_files`.

    Raises
    ------
    LakeError
        If it has.
    """
    lost = lost_files(table, version)
    if lost:
        raise LakeError(_sentence(place(table), lost))


@contextlib.contextmanager
def explained(lake: str | Path | None = None) -> Iterator[None]:
    """Raise `LakeError` in place of an error within that a lost file explains.

    Parameters
    ----------
    lake : path, optional
        Root of the lake that is read, if it is known.
    """
    try:
        yield
    except AmpelSparkError:
        raise
    except Exception as error:
        said = explanation(error, lake)
        if said is None:
            raise
        raise said from error


def explanation(error: BaseException, lake: str | Path | None = None) -> LakeError | None:
    """Return the error that says which file of a lake is lost; None where another thing is wrong.

    Parameters
    ----------
    error : exception
        What a reader raised.
    lake : path, optional
        Root of the lake that was read, if it is known.
    """
    named = _named(error)
    for path in named:
        table = _table_of(path)
        if table is None:
            continue
        if "_delta_log" in path.parts:
            lost = _lost_commits(table)
        elif not path.is_file():
            lost = sorted({path, *lost_files(table)})
        else:
            lost = [found for found in lost_files(table) if found == path]
        if lost:
            return LakeError(_sentence(table, lost))
    if lake is None or not (isinstance(error, OSError) or named or _is_of_delta(error)):
        return None
    logs = sorted(place(lake).glob("*/_delta_log"))
    for table in (log.parent for log in logs):
        if lost := lost_files(table):
            return LakeError(_sentence(table, lost))
    return None


def _named(error: BaseException) -> list[Path]:
    """Return the files that an error, and those before it, name."""
    found: dict[Path, None] = {}
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        seen.append(at)
        words = [str(at), str(getattr(at, "filename", None) or "")]
        for match in (m for text in words for m in _FILE.finditer(text)):
            for begin in _BEGIN.finditer(match[0]):
                name = re.sub(r"/+", "/", match[0][begin.start() :])
                found[Path(urllib.parse.unquote(name))] = None
        at = at.__cause__ or at.__context__
    return [*found]


def _table_of(path: Path) -> Path | None:
    """Return the folder of the table that a file is of; None where it is of no lake's table."""
    tables = [folder for folder in path.parents if (folder / "_delta_log").is_dir()]
    in_lake = any((folder / MARKER).is_file() for folder in path.parents)
    return tables[0] if tables and in_lake else None


def _is_of_delta(error: BaseException) -> bool:
    return type(error).__module__.startswith(("deltalake", "_internal", "delta", "pyarrow"))


def _sentence(table: Path, lost: list[Path]) -> str:
    root = next((folder for folder in table.parents if (folder / MARKER).is_file()), table.parent)
    name = table.relative_to(root).as_posix()
    version = newest_version(table)
    more = f" and {len(lost) - 1} more files" if len(lost) > 1 else ""
    cure = "put it back from a copy of the lake"
    if name.startswith("t2_"):
        cure += f", or move {table} away: the next run computes its results anew"
    elif name.startswith("catalogs/"):
        cure += f", or move {root / '/'.join(name.split('/')[:2])} away and add the catalogue again"
    else:
        cure += ", or ingest the archive into a new lake"
    if lost[0].is_symlink():
        cure = f"it is a link to {lost[0].readlink()}, of the lake that this one left: {cure}"
    file = lost[0].relative_to(table) if lost[0].is_relative_to(table) else lost[0]
    return f"table {name!r} of lake {root} (version {version}) has lost {file}{more}: {cure}"
