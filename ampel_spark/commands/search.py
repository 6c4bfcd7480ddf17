"""The command search: what lies where."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.commands.output import print_rows
from ampel_spark.errors import ConfigError
from ampel_spark.interface.places import lake_of
from ampel_spark.sky.regions import check_position

if TYPE_CHECKING:
    from ampel_spark.sky.regions import Region

__all__ = ["search"]


def search(args: Namespace) -> int:
    """Print the rows of a table or catalogue that lie in a part of the sky."""
    from ampel_spark.lake.reading import check_lake
    from ampel_spark.sky.search import around
    from ampel_spark.sky.search import search as find

    lake = check_lake(lake_of(args.lake))
    columns = args.columns.split(",") if args.columns else None
    if args.cone is not None or args.cones is not None:
        ra, dec, radius = _circles(args)
        found = around(lake, args.table, ra, dec, radius, columns, args.version, args.programid)
        if args.cone is not None:
            found = found.drop_columns(["cone"])
    else:
        found = find(lake, args.table, _region(args), columns, args.version, args.programid)
    rows = found.slice(0, args.limit).to_pylist() if args.format == "table" else found.to_pylist()
    print_rows(rows, found.column_names, args.format, empty=f"nothing of {args.table} is there")
    if args.format == "table" and len(found) > args.limit:
        print(f"… and {len(found) - args.limit} more (--limit)")
    return 0


def _circles(args: Namespace) -> tuple[Any, Any, Any]:
    if args.cone is not None:
        ra, dec, radius = args.cone
        check_position(ra, dec)
        return [ra], [dec], [radius]
    from ampel_spark.sky.sources import CatalogSettings, read_source

    table = read_source([args.cones], CatalogSettings())
    for ra, dec in zip(table["ra"].to_pylist(), table["dec"].to_pylist(), strict=True):
        check_position(ra, dec, f"{args.cones}: ")
    if "radius" in table.column_names:
        return table["ra"].to_numpy(), table["dec"].to_numpy(), table["radius"].to_numpy()
    if args.radius is None:
        raise ConfigError(f"{args.cones} has no column 'radius': give --radius, in arcsec")
    return table["ra"].to_numpy(), table["dec"].to_numpy(), args.radius


def _region(args: Namespace) -> Region:
    from ampel_spark.sky import regions

    if args.box is not None:
        west, east, low, high = args.box
        return regions.box((west, east), (low, high))
    if args.polygon is not None:
        if len(args.polygon) % 2:
            raise ConfigError("--polygon: give ra and dec of each corner, in degrees")
        return regions.polygon(args.polygon[::2], args.polygon[1::2])
    if args.moc is not None:
        return regions.moc(Path(args.moc))
    return regions.skymap(args.skymap, args.level)
