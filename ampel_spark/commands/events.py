"""Commands on the events of a lake: add, list, show, diff."""

from __future__ import annotations

import datetime
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ampel_spark.commands.output import print_pairs, print_rows, to_json
from ampel_spark.errors import ConfigError
from ampel_spark.interface.places import lake_of
from ampel_spark.lake.marker import mark
from ampel_spark.lake.reading import check_lake

if TYPE_CHECKING:
    from ampel_spark.events.event import Event

__all__ = ["add", "diff", "list_events", "show"]

_LISTED = ("event", "revision", "type", "sender", "pipeline", "time", "shape", "ra", "dec", "area",
           "signalness", "distance")  # fmt: skip


def add(args: Namespace) -> int:
    """Read files into the events of the lake."""
    from ampel_spark.events import store
    from ampel_spark.events.notices import load_settings, read_notices

    settings = load_settings(args.sender) if args.sender else None
    given = {name: getattr(args, name) for name in ("event", "time", "type", "revision")}
    read = read_notices(args.files, settings, given)
    if not read.events:
        raise ConfigError("; ".join(read.left_out) or "the files hold no event")
    added = store.add(mark(lake_of(args.lake)), read.events)
    left_out = [*read.left_out, *added.left_out]
    for text in (*read.notes, *(f"left out: {text}" for text in left_out)):
        print(text, file=sys.stderr)
    if args.format == "json":
        new = [{"event": e.event, "revision": e.revision, "type": e.type} for e in added.new]
        print(to_json({"version": added.version, "new": new, "known": len(added.known),
                       "left_out": left_out}))  # fmt: skip
    else:
        print(f"events, version {added.version}: {len(added.new)} new revisions, "
              f"{len(added.known)} there already, {len(left_out)} left out")  # fmt: skip
    return 0 if added.new or added.known else 3


def list_events(args: Namespace) -> int:
    """List the events of a lake, each by its newest revision."""
    from ampel_spark.events.store import EventTable, folder_of

    lake = check_lake(lake_of(args.lake))
    there = folder_of(lake).is_dir()
    rows = EventTable.open(lake, args.version).current if there else []
    empty = f"lake {lake} has no events: `ampel-spark event add FILE` adds some"
    print_rows([_shown(row) for row in rows], _LISTED, args.format, empty=empty)
    return 0


def show(args: Namespace) -> int:
    """Print all about an event, with its revisions; and draw its region."""
    from ampel_spark.events.store import EventTable

    lake = check_lake(lake_of(args.lake))
    table = EventTable.open(lake, args.version)
    event = table.event(args.event, args.revision)
    rows = [_shown(row) for row in table.rows if row["event"] == event.event]
    mine = next(row for row in rows if row["revision"] == event.revision)
    areas = _areas(event)
    if args.format == "json":
        print(to_json({**mine, **areas, "version": table.version, "revisions": rows}))
    else:
        print_pairs({**mine, **areas})
        print("\nrevisions")
        print_rows(rows, ["revision", "type", "sent", "area", "source", "added"], "table")
    if args.plot is not None:
        _plot(lake, event, args.plot, args.table)
    return 0


def diff(args: Namespace) -> int:
    """Print which events differ between two versions of the table."""
    from ampel_spark.events.store import EventTable, compare

    lake = check_lake(lake_of(args.lake))
    before, after = (EventTable.open(lake, version) for version in (args.before, args.after))
    rows = compare(before, after)
    columns = ["event", "what", "before", "after", "area_before", "area_after", "shared"]
    empty = f"versions {before.version} and {after.version} have the same events"
    print_rows(rows, columns, args.format, empty=empty)
    return 0


def _areas(event: Event) -> dict[str, float]:
    """Return the areas of a map's levels, square degrees."""
    if event.skymap is None:
        return {}
    return {f"area_{round(100 * p)}": event.skymap.area_within(p) for p in (0.5, 0.9)}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its times as dates."""
    named = {"time": _date(row["jd"]), "sent": _date(row["sent"])}
    return {k: v for k, v in (row | named).items() if k != "content_hash"}


def _date(jd: float | None) -> datetime.datetime | None:
    if jd is None:
        return None
    return datetime.datetime.fromtimestamp(round((jd - 2440587.5) * 86400.0), datetime.UTC)


def _plot(lake: Path, event: Event, path: Path, table: str | None) -> None:
    from ampel_spark.t3.event_plots import region

    form = path.suffix.removeprefix(".")
    if form not in ("svg", "png"):
        raise ConfigError(f"--plot {path}: give a file .svg or .png")
    ra, dec = np.empty(0), np.empty(0)
    if table is not None:
        from ampel_spark.events.covers import cover
        from ampel_spark.sky.search import search

        # a plot is shown to anybody: public alerts alone, as `search` has them by default
        found = search(lake, table, cover(event), ["ra", "dec"], programids=[1])
        ra, dec = (found[name].to_numpy() for name in ("ra", "dec"))
    path.write_bytes(region(event, ra, dec, form=form))
    print(f"plot: {path}", file=sys.stderr)
