"""Branches: a lake that begins with the tables of another one, and goes its own way.

A branch has the logs and data files of its parent, up to the versions at which it leaves. No byte
is copied: a commit, a part and a checkpoint never change, so a second name in the branch's folder
(a hard link) is enough. Versions keep their numbers and hashes, so that whatever names one names
the same in both lakes. What is committed to the branch afterwards is in the branch alone, and what
one lake removes stays in the other.

On another file system there are no hard links: the log is copied, and the branch has symbolic links
to data files of the parent. These are pinned in the parent, where it can be written.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ampel_spark.errors import LakeError
from ampel_spark.lake.known import marked
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.log import commit_path, file_of, newest_version
from ampel_spark.lake.marker import FORMAT, check_path, read_marker, write_marker
from ampel_spark.lake.pins import BRANCH, pin
from ampel_spark.lake.reading import GONE, check_lake, removed_versions, table_paths
from ampel_spark.lake.runs import utc_now
from ampel_spark.lake.whole import cure
from ampel_spark.store import NOT_YET, Remote, place

__all__ = ["Branch", "branch", "branch_of", "of_archive"]

#: Tables whose rows name versions of others are looked at first, so that the others have these.
_FIRST = ("runs", "pins", "archive_files")


@dataclass(frozen=True)
class Branch:
    """A lake that left another one.

    Attributes
    ----------
    root, parent : Path
        The branch, and the lake that it left.
    versions : mapping of str to int
        The version of each table at which it left.
    linked : bool
        Whether the branch has the files itself; False where it has the parent's by symbolic links.
    pinned : bool
        Whether the parent keeps the files that a branch with symbolic links needs.
    """

    root: Path
    parent: Path
    versions: Mapping[str, int]
    linked: bool
    pinned: bool


def branch(lake: str | Path, to: str | Path, versions: Mapping[str, int] | None = None) -> Branch:
    """Make a lake that begins with the tables of another one.

    Parameters
    ----------
    lake : path
        The parent. It is only read, unless files have to be pinned.
    to : path
        A folder that is empty or not there.
    versions : mapping of str to int, optional
        The tables to take, and the version of each; by default all, as they stand. A catalogue has
        two, as ``catalogs/hosts/rows`` and ``catalogs/hosts/tiles``.

    Raises
    ------
    LakeError
        If there is no such lake or version, a file of it is lost, or `to` is taken.
    """
    parent, root = check_lake(lake).resolve(), place(to).resolve()
    for each in (parent, root):
        if isinstance(each, Remote):
            raise LakeError(f"lake {each} {NOT_YET}")
    check_path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise LakeError(f"{root} is not empty: name another folder for the branch")
    wanted = dict(_newest(parent) if versions is None else versions)
    made = root.with_name(f".{root.name}.{uuid.uuid4()}")
    try:
        made.mkdir(parents=True)
        shared = [_share(parent, name, version, made) for name, version in wanted.items()]
        linked = all(shared)
        # Noted before files are removed: this has whatever the links came too late for.
        gone = {
            name: [version for version in lost if version <= wanted[name]]
            for name, lost in removed_versions(parent).items()
            if name in wanted
        }
        (made / GONE).write_text(json.dumps(gone, sort_keys=True) + "\n")
        pinned = linked or _pin(parent, root, wanted)
        about = {"parent": str(parent), "versions": wanted, "linked": linked, "pinned": pinned}
        when = utc_now().isoformat(timespec="seconds")
        write_marker(made, {"format": FORMAT, "branch": {**about, "made": when}})
        os.rename(made, root)
    except OSError as error:
        raise LakeError(f"branch {root} of lake {parent} cannot be made: {error}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return Branch(root, parent, wanted, linked, pinned)


def branch_of(lake: str | Path) -> Branch | None:
    """Return what a lake says of the one that it left; None where it left none."""
    root = check_lake(lake)
    about = read_marker(root).get("branch")
    if about is None:
        return None
    return Branch(root, Path(about["parent"]), about["versions"], about["linked"], about["pinned"])


def of_archive(lake: str | Path) -> dict[str, int]:
    """Return the versions of the tables that were read from outside: the archive and catalogues."""
    root = check_lake(lake)
    found = {name: n for name, n in _newest(root).items() if name.startswith("catalogs/")}
    chunk = newest_version(root / "archive_files")
    return found if chunk is None else found | marked(root, chunk) | {"archive_files": chunk}


def _newest(parent: Path) -> dict[str, int]:
    """Return the newest versions of a lake's tables, so that those that name others fit these."""
    names = table_paths(parent)
    # ``tiles`` of a catalogue names a version of its ``rows``
    first = [name for name in names if name in _FIRST or name.endswith("/tiles")]
    found = {name: newest_version(parent / name) for name in (*first, *names)}
    return {name: version for name, version in sorted(found.items()) if version is not None}


def _share(parent: Path, name: str, version: int, made: Path) -> bool:
    """Give the log and the files of a table a second name; say whether all could be hard links."""
    source, target = parent / name, made / name
    newest = newest_version(source)
    if newest is None or not 0 <= version <= newest:
        there = "it has no such table" if newest is None else f"it goes from 0 to {newest}"
        raise LakeError(f"lake {parent} has no version {version} of table {name!r}: {there}")
    (target / "_delta_log").mkdir(parents=True)
    needed, hard = dict[str, Path](), True
    for number in range(version + 1):
        commit = commit_path(source, number)
        if not commit.is_file():
            raise LakeError(
                f"table {name!r} of lake {parent} has lost _delta_log/{commit.name}; "
                f"{cure(parent, name)}"
            )
        _give(commit, commit_path(target, number))
        for line in commit.read_text().splitlines():
            action = json.loads(line)
            if "remove" in action:
                needed.pop(action["remove"]["path"], None)
            elif "add" in action:
                path = file_of(source, action["add"]["path"])
                needed[action["add"]["path"]] = path
                hard &= not path.is_relative_to(source) or _shared(path, source, target)
    for path in needed.values():
        if not path.is_file():
            raise LakeError(
                f"table {name!r} of lake {parent} has lost {path.name}; {cure(parent, name)}"
            )
    for checkpoint in (source / "_delta_log").glob("*.checkpoint*.parquet"):
        if int(checkpoint.name[:20]) <= version:
            _give(checkpoint, target / "_delta_log" / checkpoint.name)
    return hard


def _shared(path: Path, source: Path, target: Path) -> bool:
    """Share a data file; one that is gone is missed only where the version needs it."""
    name = target / path.relative_to(source)
    if name.exists():  # an earlier commit added it, and a later one brought it back
        return not name.is_symlink()
    name.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _link(path, name)
    except FileNotFoundError:
        return True


def _give(path: Path, name: Path) -> None:
    """Give a branch a file of the log, which is small."""
    try:
        name.hardlink_to(path)
    except OSError:
        shutil.copy2(path, name)


def _link(path: Path, name: Path) -> bool:
    """Give a file a second name; say whether it is a hard link, by which the file is kept."""
    whole = path.resolve(strict=True)  # a branch of a branch on another file system
    try:
        name.hardlink_to(whole)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, another's file, or one without hard links
        name.symlink_to(whole)
        return False
    return True


def _pin(parent: Path, root: Path, versions: Mapping[str, int]) -> bool:
    """Pin what a branch reads of its parent; say whether the parent could be written."""
    try:
        pin(Lake(None, parent), f"{BRANCH}{root}", versions)
    except OSError:
        return False
    return True
