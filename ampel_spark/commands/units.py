"""Commands on what a job can name: units and filters, and the columns of conditions."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ampel_spark.commands.output import print_pairs, print_rows, to_json
from ampel_spark.errors import ConfigError, UnitError, nearest

__all__ = ["list_columns", "list_units"]


def list_units(args: Namespace) -> int:
    """List the filters and units that come with the package, or show all about one."""
    from ampel_spark.t2.registry import UNITS, describe

    if args.name is None:
        rows = [
            {"unit": name, "tier": _tier(cls), "summary": describe(cls).summary}
            for name, cls in _known().items()
        ]
        print_rows(rows, ["unit", "tier", "summary"], args.format)
        return 0
    if args.recipe is not None:
        return _show_recipe(args)
    cls = _named(args.name)
    found = describe(cls)
    parameters = [
        {"parameter": p.name, "type": p.type, "default": p.default, "description": p.description}
        for p in found.parameters
    ]
    columns = [
        {"column": c.name, "type": c.type, "unit": c.unit, "description": c.description}
        for c in found.columns
    ]
    if args.format == "json":
        about = {"unit": args.name, "summary": found.summary, "libraries": found.libraries}
        print(to_json([about | {"parameters": parameters, "columns": columns}]))
        return 0
    what = {"T0": "filter", "T2": "unit", "T3": "unit of t3"}[_tier(cls)]
    print_pairs({what: args.name, "summary": found.summary, "libraries": found.libraries})
    print("\nparameters (config):")
    shown = [
        p | {"default": "required" if p["default"] is None else p["default"]} for p in parameters
    ]
    print_rows(shown, ["parameter", "type", "default", "description"], "table", empty="none")
    if _tier(cls) != "T2":
        return 0
    print(f"\ncolumns of t2_{args.name if args.name in UNITS else '<name>'}:")
    print_rows(
        columns, ["column", "type", "unit", "description"], "table", empty="what its parameters say"
    )
    return 0


def list_columns(args: Namespace) -> int:
    """List what conditions of T0 may name; with a job, what its expressions of T3 may name too."""
    if args.job is not None:
        rows = _of_job(args)
    else:
        from ampel_spark.job.configuration.load import load_survey

        rows = _of_survey(load_survey(args.survey))
    print_rows(rows, ["in", "column", "type", "comment"], args.format)
    return 0


def _of_job(args: Namespace) -> list[dict[str, Any]]:
    from ampel_spark.job.configuration.load import load_job
    from ampel_spark.job.configuration.steps import result_types

    job = load_job(args.job, lake=args.lake)
    meanings = {
        f"{step.name}.{c.name}": c.description + (f" [{c.unit}]" if c.unit else "")
        for step in job.units
        for c in step.columns
    }
    rows = [
        {"in": "t3", "column": name, "type": kind, "comment": meanings.get(name, "")}
        for name, kind in result_types(job.units).items()
    ]
    return [*_of_survey(job.survey), *rows]


def _of_survey(survey: Any) -> list[dict[str, Any]]:
    from ampel_spark.archive.reading.ztf import SURVEY, alerts_table, candidate_columns
    from ampel_spark.t0.conditions import quantities
    from ampel_spark.t0.quantities import MEANINGS, OwnQuantities

    declared = survey.columns.alerts
    own = OwnQuantities(survey.label, {name: column.type for name, column in declared.items()})
    meanings = {column.name: column.comment for column in alerts_table().columns}
    meanings |= MEANINGS | {name: column.comment or "" for name, column in declared.items()}
    # of other surveys these columns are empty
    not_its = {c.name for c in candidate_columns()} if survey.label != SURVEY else set()
    return [
        {"in": "t0", "column": name, "type": kind, "comment": meanings.get(name, "")}
        for name, kind in quantities(own).items()
        if "." not in name and (name in declared or name not in not_its)
    ]


def _known() -> dict[str, type[BaseModel]]:
    """Return the filters and units of the package, by name."""
    from ampel_spark.t0.filters import FILTERS
    from ampel_spark.t2.registry import UNITS, find_unit
    from ampel_spark.t3.registry import T3_UNITS, find_t3

    units = {name: find_unit(name, Path.cwd()) for name in UNITS}
    samples = {name: find_t3(name, Path.cwd()) for name in T3_UNITS}
    return {**FILTERS, **units, **samples}


def _tier(cls: type[BaseModel]) -> str:
    from ampel_spark.t0.filters import Filter
    from ampel_spark.t3.unit import T3Unit

    if issubclass(cls, Filter):
        return "T0"
    return "T3" if issubclass(cls, T3Unit) else "T2"


def _named(name: str) -> type[BaseModel]:
    """Return a filter or unit by its name, or of somebody's own."""
    from ampel_spark.t0.filters import find_filter
    from ampel_spark.t2.registry import find_unit
    from ampel_spark.t3.registry import find_t3

    known = _known()
    if ":" not in name and name not in known:
        raise ConfigError(
            f"no unit {name!r}{nearest(name, known)}; one's own is path/file.py:Class or"
            " module:Class"
        )
    if name in known:
        return known[name]
    try:
        return find_unit(name, Path.cwd())
    except UnitError:
        with contextlib.suppress(ConfigError):
            return find_filter(name)
        with contextlib.suppress(UnitError):
            return find_t3(name, Path.cwd())
        raise


def _show_recipe(args: Namespace) -> int:
    """Print a recipe of salt_fit as its file has it, or what is in it."""
    from ampel_spark.settings import conf_file
    from ampel_spark.t2.fits.recipes import read_recipe

    if args.name != "salt_fit":
        raise ConfigError(f"recipes are of salt_fit, not of {args.name!r}")
    recipe = read_recipe(args.recipe)
    if args.format == "json":
        print(to_json([recipe.model_dump()]))
        return 0
    print(conf_file("recipes", args.recipe).read_text().rstrip("\n"))
    return 0
