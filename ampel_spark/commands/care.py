"""Commands that look after a lake: branch, maintain."""

from __future__ import annotations

import datetime
import functools
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from ampel_spark.commands.output import print_rows
from ampel_spark.errors import ConfigError
from ampel_spark.interface.places import lake_of
from ampel_spark.lake.branch import branch as make_branch
from ampel_spark.lake.branch import of_archive
from ampel_spark.lake.known import check_known
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.marker import FORMAT
from ampel_spark.lake.pins import BRANCH, release
from ampel_spark.lake.reading import check_lake, read, table_names
from ampel_spark.lake.runs import find_run
from ampel_spark.session import get_session

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["branch", "maintain"]


def branch(args: Namespace) -> int:
    """Make a lake that begins with the tables of another one."""
    lake = check_lake(lake_of(args.lake))
    check_known(lake)
    made = make_branch(lake, args.to, of_archive(lake) if args.archive else None)
    print(f"branch: {made.root} has {len(made.versions)} tables of {made.parent}")
    if not made.linked:
        kept = (
            "pins them" if made.pinned else "cannot be written: see that nothing is removed there"
        )
        print(f"branch: it reads the files of lake {made.parent}, which {kept}")
    return 0


def maintain(args: Namespace) -> int:
    """Upgrade a lake, compact tables, remove what nothing needs, list pins and let them go."""
    if args.upgrade:
        _upgrade(lake_of(args.lake))
    lake = check_lake(lake_of(args.lake))
    if args.fast and args.check is None:
        raise ConfigError("--fast goes with --check")
    if args.check is not None:
        return _check(lake, args)
    if args.dry_run and not args.remove_files:
        raise ConfigError("--dry-run goes with --remove-files: it tells what would be removed")
    if args.release or args.compact or args.remove_files:
        check_known(lake)
    if args.release:
        names = [
            run if run.startswith(BRANCH) else find_run(lake, run).run_id for run in args.release
        ]
        print(f"maintain: {release(Lake(None, lake), names)} pins of {', '.join(names)} let go")
    if args.compact:
        from ampel_spark.lake.maintenance import compact

        compact(_open(lake))
    if args.remove_files:
        _remove(_open(lake), args)
    if args.pins or not (args.release or args.compact or args.remove_files or args.upgrade):
        _pins(lake, args.format)
    return 0


def _check(lake: Path, args: Namespace) -> int:
    from ampel_spark.lake.check import check

    say = functools.partial(print, file=sys.stderr, flush=True)
    found = check(lake, args.check, fast=args.fast, out=say)
    rows = [
        {"table": each.table, "since version": each.version, "what": each.what, "cure": each.cure}
        for each in found
    ]
    if args.format == "json":
        print_rows(rows, [], "json")
    else:
        for row in rows:
            since = (
                "" if row["since version"] is None else f", since version {row['since version']}"
            )
            print(f"{row['table']}{since}: {row['what']}; {row['cure']}")
        print(f"check: lake {lake}: {f'{len(rows)} faults' if rows else 'good'}")
    return 1 if found else 0


def _upgrade(lake: Path) -> None:
    from ampel_spark.lake.upgrade import upgrade

    if upgrade(lake):
        print(
            f"upgrade: lake {lake} has format {FORMAT} now; results of its runs stay theirs, and "
            "new runs compute their own, as the code of units has changed"
        )
    else:
        print(f"upgrade: lake {lake} has format {FORMAT} already")


def _open(lake: Path) -> Lake:
    return Lake(get_session("ampel_spark maintain"), lake)


def _remove(lake: Lake, args: Namespace) -> None:
    from ampel_spark.lake.maintenance import plan_removal, remove

    found = plan_removal(lake, older_than=3600.0 * args.older_than)
    rows = [
        {
            "table": r.table,
            "files": len(r.files),
            "MB": round(r.bytes / 1e6, 3),
            "versions that go": ", ".join(map(str, r.versions)) or "none",
        }
        for r in found
    ]
    print_rows(
        rows,
        ["table", "files", "MB", "versions that go"],
        args.format,
        empty=f"nothing to remove that has been needless for {args.older_than:g} hours",
    )
    if not args.dry_run and found:
        remove(lake, found)
        size = sum(r.bytes for r in found) / 1e6
        print(f"maintain: {sum(len(r.files) for r in found)} files removed, {size:.1f} MB")


def _pins(lake: Path, form: str) -> None:
    rows = read(lake, "pins").to_pylist() if "pins" in table_names(lake) else []
    held = [row for row in rows if row["released"] is None]
    oldest = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    held.sort(key=lambda row: (row["pinned"] or oldest, row["run_id"], row["table"]))
    print_rows(held, ["run_id", "table", "version", "pinned"], form, empty="no version is pinned")
