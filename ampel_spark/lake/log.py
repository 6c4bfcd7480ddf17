"""The log of a Delta table, without Spark: its first version, its newest, and files that are added.

Spark's own transaction works out the state of a table before it commits, by a job: half a second,
five times a night. A commit that adds files and looks at nothing needs no more than the number of
the one before it. Delta's Python package cannot write tables with in-commit timestamps.

Delta transaction log protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import time
import urllib.parse
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ampel_spark
from ampel_spark.errors import LakeError
from ampel_spark.store import Remote, place

__all__ = [
    "CHECKPOINTS",
    "PREVIOUS",
    "actions_of",
    "add_files",
    "change_files",
    "commit_hash",
    "commit_path",
    "create",
    "file_of",
    "hash_of",
    "is_as_written",
    "metadata_of",
    "newest_version",
    "replace_files",
    "table_metadata",
    "uncovered",
    "widen",
]

#: Commits from one checkpoint to the next: it costs some seconds, reading fifty far less than one.
CHECKPOINTS = 50

#: Key of a commit's information: the hash of the commit before it, where this package wrote it.
PREVIOUS = "ampelSparkPrevious"
#: Key of a commit's information: the hash of the commit without this key.
CONTENT = "ampelSparkContent"

# What a file system says that has none.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

_COMMIT = re.compile(r"(\d{20})\.json")
_APPEND = {"mode": "Append", "partitionBy": "[]"}


def newest_version(table: str | Path) -> int | None:
    """Return the newest version of the table in a folder; None where there is none."""
    try:
        log = place(table) / "_delta_log"
        names = [p.name for p in log.iterdir()] if isinstance(log, Remote) else os.listdir(log)
    except FileNotFoundError:
        return None
    return max(
        (int(found[1]) for name in names if (found := _COMMIT.fullmatch(name))), default=None
    )


def commit_path(table: str | Path, version: int) -> Path:
    """Return the file of a commit."""
    return place(table) / "_delta_log" / f"{version:020d}.json"


def commit_hash(table: str | Path, version: int) -> str | None:
    """Return the hash of a commit's file, by which it is known; None where it is not there.

    A version's number may be taken by another commit, after the first one was lost.
    """
    try:
        return hash_of(commit_path(table, version).read_bytes())
    except OSError:
        return None


def file_of(table: str | Path, path: str) -> Path:
    """Return the file that a commit names: in the table's folder, or where a clone says it is."""
    plain = urllib.parse.urlsplit(path).path if path.startswith("file:") else path
    return place(table) / urllib.parse.unquote(plain)


def actions_of(table: str | Path, version: int) -> list[dict[str, Any]]:
    """Return the actions of a commit.

    Raises
    ------
    FileNotFoundError
        If the log lacks it.
    """
    return [json.loads(line) for line in commit_path(table, version).read_text().splitlines()]


def uncovered(table: str | Path) -> range:
    """Return the versions after a table's last checkpoint: readers need the commits of these."""
    log = place(table) / "_delta_log"
    checkpoints = [int(path.name[:20]) for path in log.glob("*.checkpoint*.parquet")]
    newest = newest_version(table)
    return range(max(checkpoints, default=-1) + 1, (-1 if newest is None else newest) + 1)


def metadata_of(table: str | Path, version: int) -> dict[str, Any]:
    """Return the user metadata of a commit; empty where it has none, or cannot be read."""
    try:
        info = _info_of(commit_path(table, version).read_bytes())
        found = json.loads(info.get("userMetadata") or "{}")
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # `ampel_spark.lake.check` says what is wrong with the log
    return found if isinstance(found, dict) else {}


def _info_of(commit: bytes) -> dict[str, Any]:
    """Return what a commit says of itself: in its first line, or where another writer put it."""
    for line in commit.splitlines():
        action = json.loads(line)
        if "commitInfo" in action:
            found: dict[str, Any] = action["commitInfo"]
            return found
    raise KeyError("commitInfo")


def hash_of(data: bytes) -> str:
    """Return the hash by which commits and files are known: 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def create(
    table: str | Path,
    schema: str,
    comment: str,
    properties: Mapping[str, str],
    files: Sequence[Mapping[str, Any]] = (),
    metadata: Mapping[str, Any] | None = None,
) -> bool:
    """Make a table; say whether it was not there before.

    Parameters
    ----------
    table : path
    schema : str
        Spark's schema as JSON.
    comment : str
        What a row is.
    properties : mapping of str to str
        Of the table; ``delta.enableInCommitTimestamps`` among them.
    files, metadata
        As for `add_files`: what the first version holds, and its user metadata.
    """
    now = int(time.time() * 1000)
    info = _commit_info(now, "CREATE TABLE", {"partitionBy": "[]", "description": comment,
                                              "isManaged": "false"})  # fmt: skip
    if metadata is not None:
        info["commitInfo"]["userMetadata"] = json.dumps(metadata, sort_keys=True)
    lines = [
        info,
        {"metaData": {"id": str(uuid.uuid4()), "description": comment,
                      "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
                      "partitionColumns": [], "configuration": dict(properties),
                      "createdTime": now}},
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 7,
                      "writerFeatures": ["inCommitTimestamp", "invariants", "appendOnly"]}},
        *map(_action, files),
    ]  # fmt: skip
    (place(table) / "_delta_log").mkdir(parents=True, exist_ok=True)
    return _link(table, 0, lines)


def add_files(
    table: str | Path, files: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]
) -> int:
    """Add files to a table in one commit, which there is also without any; return its version.

    Parameters
    ----------
    table : path
        Folder of a table with in-commit timestamps.
    files : sequence of mapping
        ``path`` in the folder, ``size`` [B], ``rows``, and of these rows ``least``, ``most`` and
        ``nulls`` by column; ``digest``, the hash of the file, where it is known.
    metadata : mapping
        Goes into the commit's user metadata as JSON.
    """
    while True:
        before, info = _next(table, "WRITE", _APPEND, files)
        info["commitInfo"]["userMetadata"] = json.dumps(metadata, sort_keys=True)
        # Files that are only added are in nobody's way: whoever came first, these come next.
        if _link(table, before + 1, [info, *map(_action, files)]):
            return before + 1


def replace_files(
    table: str | Path,
    files: Sequence[Mapping[str, Any]],
    old: Sequence[str],
    since: int | None,
    metadata: Mapping[str, Any],
    *,
    changes: bool = False,
    about: Mapping[str, Any] | None = None,
) -> int:
    """Put files in the place of others, in one commit; return its version.

    Parameters
    ----------
    table, files, metadata
        As for `add_files`.
    old : sequence of str
        Paths in the table's folder.
    since : int
        Version whose files `old` are. Where the rows stay the same, files may have been added
        since; otherwise it has to be the newest version still.
    changes : bool
        Whether the new files hold other rows than the old ones.
    about : mapping, optional
        What changes of the table's own metadata: ``schemaString`` and ``configuration``.

    Raises
    ------
    LakeError
        If something was committed meanwhile that does not go with it.
    """
    while True:
        before = newest_version(table)
        if (
            since is None
            or before is None
            or (before > since and (changes or _removed(table, since, before) & {*old}))
        ):
            raise LakeError(
                f"{table} was written to while its files were put together; do it again"
            )
        if change_files(table, files, old, before, metadata, changes=changes, about=about):
            return before + 1


def change_files(
    table: str | Path,
    files: Sequence[Mapping[str, Any]],
    old: Sequence[str],
    since: int,
    metadata: Mapping[str, Any],
    *,
    changes: bool = True,
    about: Mapping[str, Any] | None = None,
) -> bool:
    """Add files and take others away, in one commit; say whether nobody was faster.

    Parameters
    ----------
    table, files, old, since, metadata, changes, about
        As for `replace_files`.
    """
    operation = "WRITE" if changes else "OPTIMIZE"
    before, info = _next(table, operation, {"predicate": "[]"} if old else _APPEND, files)
    info["commitInfo"] |= {
        "isBlindAppend": False,
        "userMetadata": json.dumps(metadata, sort_keys=True),
    }
    now = info["commitInfo"]["timestamp"]
    gone = [
        {"remove": {"path": path, "deletionTimestamp": now, "dataChange": changes}} for path in old
    ]
    new = [_action(file, changes=changes) for file in files]
    own = [] if about is None else [{"metaData": {**table_metadata(table, before), **about}}]
    return before == since and _link(table, before + 1, [info, *own, *gone, *new])


def table_metadata(table: str | Path, version: int) -> dict[str, Any]:
    """Return what a table says of itself at a version: schema and properties."""
    while True:
        for action in actions_of(table, version):
            if "metaData" in action:
                found: dict[str, Any] = action["metaData"]
                return found
        version -= 1


def _removed(table: str | Path, since: int, until: int) -> set[str]:
    """Return the files that the commits after version `since` took away."""
    return {
        action["remove"]["path"]
        for version in range(since + 1, until + 1)
        for action in actions_of(table, version)
        if "remove" in action
    }


def widen(table: str | Path, schema: str, since: int) -> bool:
    """Give a table another schema, in one commit; say whether nobody was faster.

    Parameters
    ----------
    table : path
    schema : str
        Spark's schema as JSON: that of version `since`, and further columns.
    since : int
        Version that the new one comes after.
    """
    before, info = _next(table, "ADD COLUMNS", {}, ())
    own = {**table_metadata(table, before), "schemaString": schema}
    return before == since and _link(table, before + 1, [info, {"metaData": own}])


def _next(
    table: str | Path,
    operation: str,
    parameters: Mapping[str, Any],
    files: Sequence[Mapping[str, Any]],
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the newest version, and the first line of the commit after it."""
    before = newest_version(table)
    if before is None:
        raise FileNotFoundError(f"{table} is no Delta table")
    commit = commit_path(table, before).read_bytes()
    try:
        last = _info_of(commit).get("inCommitTimestamp")
        if last is None and _is_timed(table, before):
            raise KeyError("inCommitTimestamp")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LakeError(
            f"commit {before} of {table} is damaged: put back {commit_path(table, before)} from a"
            " copy of the lake (`ampel-spark maintain --check` finds out what else is)"
        ) from None
    # Times of commits grow, whatever the clock does.
    info = _commit_info(max(int(time.time() * 1000), (last or 0) + 1), operation, parameters)
    if last is None:  # a catalogue of an earlier version
        del info["commitInfo"]["inCommitTimestamp"]
    sums = {"numFiles": len(files), "numOutputRows": sum(file["rows"] for file in files),
            "numOutputBytes": sum(file["size"] for file in files)}  # fmt: skip
    info["commitInfo"] |= {
        "readVersion": before,
        PREVIOUS: hash_of(commit),
        "operationMetrics": {name: str(number) for name, number in sums.items()},
    }
    return before, info


def _is_timed(table: str | Path, version: int) -> bool:
    """Say whether the commits of a table have their time in them."""
    properties = table_metadata(table, version).get("configuration", {})
    return bool(properties.get("delta.enableInCommitTimestamps") == "true")


def _link(table: str | Path, version: int, lines: Sequence[Mapping[str, Any]]) -> bool:
    """Write a commit; False where somebody made this version first."""
    commit = commit_path(table, version)
    if isinstance(commit, Remote):
        return commit.put_new(_text(lines).encode())
    log = commit.parent
    partial = log / f".{uuid.uuid4()}.tmp"
    try:
        partial.write_text(_text(lines))
        os.link(partial, commit)
    except FileExistsError:
        # A network file system that lost its answer, and was asked again, finds our own link.
        return partial.samefile(commit)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise LakeError(
            f"{log} is on a file system without hard links ({error.strerror}), by which a commit "
            "takes its version or finds it taken; put the lake on one that has them"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return True


def _text(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of a commit, whose information has the hash of all of it."""
    first, *rest = lines
    text = "".join(json.dumps(line) + "\n" for line in (first, *rest))
    about = {**first["commitInfo"], CONTENT: hash_of(text.encode())}
    return "".join(json.dumps(line) + "\n" for line in ({"commitInfo": about}, *rest))


def is_as_written(data: bytes, before: bytes | None = None) -> bool:
    """Say whether a commit is as it was written; of one without hashes, nothing is known.

    Parameters
    ----------
    data : bytes
        Its file.
    before : bytes, optional
        The file of the commit before it, on which it has to be made.

    Raises
    ------
    ValueError
        If it is no commit.
    """
    head, _, rest = data.partition(b"\n")
    first = json.loads(head)
    info = first.get("commitInfo", {})
    previous = info.get(PREVIOUS)
    if CONTENT not in info:
        # Another writer's commit says at least what it is, as one after ours has to.
        ours = before is not None and CONTENT.encode() in before.partition(b"\n")[0]
        return previous is None and ("commitInfo" in first or not ours)
    digest = info.pop(CONTENT)
    if before is not None and previous != hash_of(before):
        return False
    return bool(digest == hash_of(json.dumps(first).encode() + b"\n" + rest))


def _commit_info(
    now: int, operation: str, parameters: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    about = {
        "inCommitTimestamp": now,
        "timestamp": now,
        "operation": operation,
        "operationParameters": dict(parameters),
        "isolationLevel": "Serializable",
        "isBlindAppend": True,
        "operationMetrics": {},
        "engineInfo": f"ampel_spark/{ampel_spark.__version__}",
        "txnId": str(uuid.uuid4()),
    }
    return {"commitInfo": about}


def _action(file: Mapping[str, Any], *, changes: bool = True) -> dict[str, Any]:
    least, most = ({name: _plain(value) for name, value in file[end].items()}
                   for end in ("least", "most"))  # fmt: skip
    stats = {"numRecords": file["rows"], "minValues": least, "maxValues": most,
             "nullCount": file["nulls"]}  # fmt: skip
    return {
        "add": {
            "path": file["path"],
            "partitionValues": {},
            "size": file["size"],
            "modificationTime": int(time.time() * 1000),
            "dataChange": changes,
            "stats": json.dumps(stats),
            **({"tags": {"blake2b": file["digest"]}} if file.get("digest") else {}),
        }
    }


def _plain(value: Any) -> Any:
    """Return a number as JSON has it; Delta writes infinity, which JSON lacks, as a text."""
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value
