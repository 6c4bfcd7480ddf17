"""The check of a lake: its logs, files, keys and what tables say of each other.

Nothing is changed, and Spark is not needed. Every commit has to be there, in sequence, and to be
the one that the next one was made on. Every file that a readable version names has to have its size
and its hash (or, where an older version wrote it, pages that can be read). Then rows: keys once,
packets as accounted, the datapoints of every state, the state of every result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampel_spark.errors import AmpelSparkError, LakeError, nearest
from ampel_spark.lake.known import marked, named
from ampel_spark.lake.log import (
    PREVIOUS,
    commit_path,
    file_of,
    hash_of,
    is_as_written,
    newest_version,
)
from ampel_spark.lake.reading import check_lake, dataset, read, removed_versions, table_paths
from ampel_spark.lake.tables import TABLES, result_table
from ampel_spark.lake.whole import cure, unlike
from ampel_spark.store import arrow_file

__all__ = ["Finding", "check"]

#: Tables whose rows name a state, and those whose rows name the run that wrote them.
_OF_STATES = ("state_channels", "candidates")


@dataclass(frozen=True)
class Finding:
    """What is wrong with a table, since which version (None: not known), and how it is mended."""

    table: str
    version: int | None
    what: str
    cure: str


@dataclass
class _File:
    """A file that commits name: its size and hash, and the versions that hold it."""

    size: int
    digest: str | None
    rows: int | None
    spans: list[list[int]] = field(default_factory=list)


def check(
    lake: str | Path,
    tables: Sequence[str] = (),
    *,
    fast: bool = False,
    out: Callable[[str], None] = lambda line: None,
) -> list[Finding]:
    """Return what is wrong with a lake, by table.

    Parameters
    ----------
    lake : path
    tables : sequence of str, optional
        Those to look at, as ``alerts`` or ``catalogs/hosts/rows``; all by default.
    fast : bool
        Look only whether tables have the versions that markers, records and pins name: what a run
        does at its start.
    out : callable
        Takes lines that say how far it is.

    Raises
    ------
    LakeError
        If there is no such lake or table.
    """
    root = check_lake(lake)
    names = table_paths(root)
    for name in tables:
        if name not in names:
            raise LakeError(f"lake {root} has no table {name!r}{nearest(name, names)}")
    asked = [*tables] or names
    found: list[Finding] = []
    whole: set[str] = set()
    if not fast:
        gone = removed_versions(root)
        for name in asked:
            mine = [*_check_table(root, name, set(gone.get(name, ())))]
            out(f"check: {name}: {f'{len(mine)} faults' if mine else 'log and files are good'}")
            found += mine
            if not mine:
                whole.add(name)
        for other in set(names) - set(asked):
            if newest_version(root / other) is not None:
                whole.add(other)
    try:
        short = unlike(root, named(root))
    except Exception as error:  # whatever is wrong with the tables that name versions
        if fast or not found:
            what = f"markers and records cannot be read: {_words(error)}"
            found.append(Finding("runs", None, what, cure(root, "runs")))
        short = {}
    found += [
        Finding(name, newest_version(root / name), said, cure(root, name))
        for name, said in short.items()
        if not tables or name in tables
    ]
    whole -= set(short)
    if not fast:
        found += _check_rows(root, [name for name in asked if name in whole], whole, out)
    return found


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _check_table(root: Path, name: str, gone: set[int]) -> Iterator[Finding]:
    """Yield what is wrong with the log and the files of a table."""
    folder = root / name
    newest = newest_version(folder)
    mend = cure(root, name)
    if newest is None:
        yield Finding(name, None, "its log has no commit", mend)
        return
    files: dict[str, _File] = {}
    before: str | None = None
    for version in range(newest + 1):
        try:
            data = commit_path(folder, version).read_bytes()
        except OSError:
            yield Finding(name, version, f"commit {version} is not there", mend)
            before = None
            continue
        try:
            if not is_as_written(data):
                yield Finding(name, version, f"commit {version} is changed: its hash is another",
                              mend)  # fmt: skip
            said = _take(data, files, version)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            yield Finding(name, version, f"commit {version} is damaged: {_words(error)}", mend)
        else:
            if before is not None and said not in (None, before):
                what = f"commit {version - 1} is not the one that commit {version} was made on"
                yield Finding(name, version - 1, what, mend)
        before = hash_of(data)
    for checkpoint in sorted((folder / "_delta_log").glob("*.checkpoint*.parquet")):
        if wrong := _wrong_with(checkpoint, _File(checkpoint.stat().st_size, None, None)):
            number = int(checkpoint.name[:20])
            what = f"{checkpoint.name} {wrong}; it may be deleted, as the commits say the same"
            yield Finding(name, number, what, mend)
    for path, file in files.items():
        since = _needed_since(file, newest, gone)
        if since is not None and (wrong := _wrong_with(file_of(folder, path), file)):
            yield Finding(name, since, f"{path} {wrong}", mend)


def _take(data: bytes, files: dict[str, _File], version: int) -> str | None:
    """Take the files of a commit in, and return the hash that it has of the one before it."""
    previous: str | None = None
    actions = [json.loads(line) for line in data.decode().splitlines()]
    if not actions or (not data.endswith(b"\n") and version):
        json.loads(data.decode().splitlines()[-1])
    for action in actions:
        if "commitInfo" in action:
            previous = action["commitInfo"].get(PREVIOUS)
        elif "add" in action:
            add = action["add"]
            path = add["path"]
            rows = json.loads(add.get("stats") or "{}").get("numRecords")
            digest = (add.get("tags") or {}).get("blake2b")
            file = files.setdefault(path, _File(int(add["size"]), digest, rows))
            file.digest = file.digest or digest
            file.spans.append([version, -1])
        elif "remove" in action:
            path = action["remove"]["path"]
            if path not in files:
                raise ValueError(f"it removes {path}, which no commit added")
            for span in files[path].spans:
                span[1] = version if span[1] < 0 else span[1]
    return previous


def _needed_since(file: _File, newest: int, gone: set[int]) -> int | None:
    """Return the first version that needs a file; None where maintenance took all of them."""
    for begin, end in file.spans:
        for version in range(begin, newest + 1 if end < 0 else end):
            if version not in gone:
                return version
    return None


def _wrong_with(path: Path, file: _File) -> str | None:
    """Return what is wrong with a file; None where it is as it was written."""
    try:
        size = path.stat().st_size
        if size != file.size:
            return f"has {size} bytes, and {file.size} were written"
        if file.digest is not None:
            digest = hashlib.blake2b(digest_size=16)
            with path.open("rb") as stream:
                while piece := stream.read(1 << 20):
                    digest.update(piece)
            return None if digest.hexdigest() == file.digest else "is changed: its hash is another"
        rows = 0
        with pq.ParquetFile(arrow_file(path), page_checksum_verification=True) as parquet:
            for batch in parquet.iter_batches():
                rows += len(batch)
    except FileNotFoundError:
        return "is not there"
    except Exception as error:  # whatever a reader makes of a damaged file
        return f"cannot be read: {_words(error)}"
    return None if file.rows in (None, rows) else f"has {rows} rows, and {file.rows} were written"


def _check_rows(
    root: Path, names: Sequence[str], whole: set[str], out: Callable[[str], None]
) -> list[Finding]:
    """Return what is wrong with the rows of tables whose files are good."""
    versions = marked(root) if "archive_files" in whole else {}
    found: list[Finding] = []
    for name in names:
        mine: list[Finding] = []
        for looks in (_check_keys, _check_accounts, _check_states, _check_results):
            try:
                mine += looks(root, name, versions, whole)
            except (AmpelSparkError, pa.ArrowException, OSError, ValueError, KeyError) as error:
                what = f"its rows cannot be read: {_words(error)}"
                mine.append(Finding(name, None, what, cure(root, name)))
        out(f"check: {name}: {f'{len(mine)} faults of rows' if mine else 'rows are good'}")
        found += mine
    return found


Versions = Mapping[str, int]


def _check_keys(root: Path, name: str, versions: Versions, whole: set[str]) -> Iterator[Finding]:
    table = TABLES.get(name) or (result_table("", ()) if name.startswith("t2_") else None)
    if table is None or not table.key:
        return
    data = dataset(root, name, versions.get(name))
    key = [column for column in table.key if column in data.schema.names]
    rows = data.to_table(columns=key)
    counts = rows.group_by(key).aggregate([([], "count_all")])
    twice = counts.filter(pc.greater(counts["count_all"], 1))
    if len(twice):
        first = ", ".join(f"{k} {twice[k][0].as_py()}" for k in key)
        what = f"{len(twice)} keys stand more than once, first {first}"
        yield Finding(name, None, what, cure(root, name))


def _check_accounts(
    root: Path, name: str, versions: Versions, whole: set[str]
) -> Iterator[Finding]:
    if name != "archive_files" or "alerts" not in whole:
        return
    names = ["path", "packets", "stored", "duplicate", "quarantined"]
    stored: dict[str, int] = {}
    for row in read(root, name, names).to_pylist():
        parts = row["stored"] + row["duplicate"] + row["quarantined"]
        if row["packets"] != parts:
            what = f"{row['path']} had {row['packets']} packets, and {parts} are accounted for"
            yield Finding(name, None, what, cure(root, name))
        stored[row["path"]] = stored.get(row["path"], 0) + row["stored"]
    alerts = read(root, "alerts", ["file"], version=versions.get("alerts"))
    counts = alerts.group_by("file").aggregate([([], "count_all")])
    there = dict(zip(counts["file"].to_pylist(), counts["count_all"].to_pylist(), strict=True))
    for path in sorted({*stored, *there}):
        if stored.get(path, 0) != there.get(path, 0):
            what = (
                f"archive_files says that {stored.get(path, 0)} packets of {path} were stored, and"
                f" alerts has {there.get(path, 0)}"
            )
            yield Finding("alerts", versions.get("alerts"), what, cure(root, "alerts"))


def _check_states(root: Path, name: str, versions: Versions, whole: set[str]) -> Iterator[Finding]:
    """Look for the datapoints of states, now or in the versions that they were made of."""
    if name != "states" or not {"datapoints", "state_channels"} <= whole:
        return
    states = read(root, name, ["state_id", "stock", "datapoint_ids"])
    ids = states["datapoint_ids"].combine_chunks()
    whose = pc.list_parent_indices(ids)
    each = pa.table(
        {
            "state_id": states["state_id"].take(whose),
            "stock": states["stock"].take(whose),
            "datapoint_id": pc.list_flatten(ids),
        }
    )
    left = _lacking(root, each, versions.get("datapoints"))
    if not len(left):
        return
    channels = read(root, "state_channels", ["state_id", "datapoints_version"])
    mine = channels.filter(pc.is_in(channels["state_id"], pc.unique(left["state_id"])))
    for version in sorted(pc.unique(mine["datapoints_version"]).to_pylist()):
        if len(left):
            left = _lacking(root, left, version)
    if len(left):
        what = (
            f"{len(pc.unique(left['state_id']))} states have datapoints that are in no version of"
            f" datapoints, first {left['state_id'][0].as_py()}"
        )
        yield Finding("datapoints", versions.get("datapoints"), what, cure(root, "datapoints"))


def _lacking(root: Path, each: pa.Table, version: int | None) -> pa.Table:
    key = ["stock", "datapoint_id"]
    return each.join(read(root, "datapoints", key, version=version), key, join_type="left anti")


def _check_results(root: Path, name: str, versions: Versions, whole: set[str]) -> Iterator[Finding]:
    """Look for the states of results, and for the records of the runs that wrote them."""
    if not (name.startswith("t2_") or name in _OF_STATES):
        return
    there = set(dataset(root, name).schema.names)
    for table, column, what in (
        ("states", "state_id", "it has {} states that table states lacks, first {}"),
        ("runs", "run_id", name + ": it has rows of {} runs without a record, first {}"),
    ):
        if table in whole and column in there:
            mine = pc.unique(read(root, name, [column])[column]).drop_null()
            known = read(root, table, [column])[column]
            lost = mine.filter(pc.invert(pc.is_in(mine, known)))
            if len(lost):
                said = what.format(len(lost), lost[0].as_py())
                yield Finding(table, None, said, cure(root, table))
