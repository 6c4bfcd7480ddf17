"""Commands on the catalogues of a lake: add, list, show, diff."""

from __future__ import annotations

import hashlib
from argparse import Namespace
from pathlib import Path
from typing import Any

from ampel_spark.commands.output import print_pairs, print_rows, to_json
from ampel_spark.errors import LakeError
from ampel_spark.interface.places import lake_of

__all__ = ["add", "diff", "list_catalogs", "show"]


def add(args: Namespace) -> int:
    """Read files into a catalogue of the lake."""
    from ampel_spark.job.configuration.catalogs import load_settings
    from ampel_spark.lake.marker import mark
    from ampel_spark.sky import store
    from ampel_spark.sky.sources import read_source

    lake = mark(lake_of(args.lake))
    settings = load_settings(args.name, args.settings)
    table = read_source(args.files, settings, args.name)
    sources = [
        {"path": str(Path(file).resolve()), "sha256": _digest(Path(file))} for file in args.files
    ]
    stored, new = store.add(lake, args.name, table, settings, sources)
    row = _row(stored, args.name) | {"new": new, "left_out": len(table) - _n(stored)}
    if args.format == "json":
        print(to_json(row))
        return 0
    done = "added" if new else "is there already, with this very content:"
    print(
        f"catalogue {args.name} {done} version {stored.version}, {_n(stored)} rows in "
        f"{row['tiles']} {'tile' if row['tiles'] == 1 else 'tiles'}, hash {stored.content_hash}"
    )
    if row["left_out"]:
        print(f"{row['left_out']} of {len(table)} rows have no position and are left out")
    return 0


def list_catalogs(args: Namespace) -> int:
    """List the catalogues of a lake."""
    from ampel_spark.sky.store import Stored, catalog_names, folder_of

    lake = _lake(args)
    rows = [_row(Stored.open(folder_of(lake, name)), name) for name in catalog_names(lake)]
    shown = ["name", "version", "rows", "tiles", "columns", "hash", "added", "description"]
    empty = f"lake {lake} has no catalogue: `ampel-spark catalog add NAME FILE` adds one"
    print_rows(rows, shown, args.format, empty=empty)
    return 0


def show(args: Namespace) -> int:
    """Tell all about a catalogue: versions, columns, licence, what to cite."""
    from ampel_spark.sky.store import Stored, folder_of

    folder = folder_of(_lake(args), args.name)
    stored = Stored.open(folder, args.version)
    newest = stored.version if args.version is None else Stored.open(folder).version
    versions = [_row(Stored.open(folder, v), args.name) for v in range(newest + 1)]
    columns = [{"column": name, "type": kind} for name, kind in stored.types().items()]
    settings = stored.settings
    if args.format == "json":
        about = dict(stored.about) | {"schema": columns}
        print(to_json(_row(stored, args.name) | {"about": about, "versions": versions}))
        return 0
    print_pairs(_row(stored, args.name) | {
        "licence": settings.licence, "citation": settings.citation, "url": settings.url,
        "files": [source["path"] for source in stored.about["sources"]],
        "left out": stored.about["left_out"] or None,
    })  # fmt: skip
    print("\ncolumns")
    print_rows(columns, ["column", "type"], "table")
    print("\nversions")
    print_rows(versions, ["version", "rows", "tiles", "hash", "added"], "table")
    return 0


def diff(args: Namespace) -> int:
    """Tell which tiles differ between two versions of a catalogue."""
    from ampel_spark.sky.healpix import of_uniq
    from ampel_spark.sky.store import Stored, compare, folder_of

    folder = folder_of(_lake(args), args.name)
    before, after = (Stored.open(folder, version) for version in (args.before, args.after))
    change = compare(before, after)
    n = [
        dict(zip(v.tiles.uniq.tolist(), v.tiles.rows.tolist(), strict=True))
        for v in (before, after)
    ]
    rows: list[dict[str, Any]] = []
    for what in ("gained", "lost", "changed"):
        for tile in getattr(change, what):
            order, pixel = (int(v) for v in of_uniq(tile))
            rows.append({"tile": tile, "order": order, "pixel": pixel, "what": what,
                         "before": n[0].get(tile), "after": n[1].get(tile)})  # fmt: skip
    if args.format == "json":
        print(to_json({"tiles": rows, "same": change.same}))
        return 0
    print(f"{change.same} tiles are the same, {len(rows)} are not")
    if rows:
        print_rows(rows, ["tile", "order", "pixel", "what", "before", "after"], "table")
    return 0


def _lake(args: Namespace) -> Path:
    """Return the lake that a command is about; one of another format is refused."""
    from ampel_spark.lake.marker import MARKER, check_format

    lake = lake_of(args.lake)
    if (lake / MARKER).is_file():
        check_format(lake)
    return lake


def _row(stored: Any, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": stored.version,
        "rows": _n(stored),
        "tiles": len(stored.tiles.rows),
        "columns": list(stored.types()),
        "hash": stored.content_hash,
        "added": stored.about["added"],
        "description": stored.settings.description,
    }


def _n(stored: Any) -> int:
    return int(stored.tiles.rows.sum())


def _digest(path: Path) -> str | None:
    """Return the SHA-256 of a file; None for a folder, whose content hash says more."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LakeError(f"cannot read {path}: {error.strerror}") from None
