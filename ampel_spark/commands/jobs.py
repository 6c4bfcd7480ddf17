"""Commands on jobs: run, validate, units."""

from __future__ import annotations

import functools
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from ampel_spark.commands.output import print_pairs, print_rows, to_json
from ampel_spark.errors import ConfigError

__all__ = ["list_units", "run", "validate"]


def run(args: Namespace) -> int:
    """Run a job, or print its plan."""
    from ampel_spark.commands.places import lake_of
    from ampel_spark.job.load import load_job
    from ampel_spark.job.model import as_of_jd

    job = load_job(args.job, args.set, args.archive, args.lake)
    if args.as_of is not None:
        as_of_jd(args.as_of, job.survey)  # a time that is none is told before anything starts
    lake = lake_of(args.lake, job.lake)
    from ampel_spark.job.run import run_job

    out = functools.partial(print, flush=True)
    return run_job(job, lake, dry_run=args.dry_run, as_of=args.as_of, report=args.report, out=out)


def validate(args: Namespace) -> int:
    """Check jobs, and tell all that is wrong with any of them."""
    from ampel_spark.job.document import DocumentError
    from ampel_spark.job.load import load_job

    rows: list[dict[str, Any]] = []
    for path in args.jobs:
        row: dict[str, Any] = {
            "file": str(path),
            "good": True,
            "job": None,
            "hash": None,
            "problems": [],
        }
        try:
            job = load_job(path, args.set)
            row |= {"job": job.name, "hash": job.hash}
        except DocumentError as error:
            row |= {"good": False, "problems": list(error.problems)}
            told = str(error)
        except ConfigError as error:
            row |= {
                "good": False,
                "problems": [{"file": str(path), "line": None, "path": "", "message": str(error)}],
            }
            told = str(error)
        rows.append(row)
        if args.format == "table":
            if row["good"]:
                print(f"{path}: good: job {job.name}, sha256 {job.hash[:12]}")
            else:
                print(told, file=sys.stderr)
    if args.format == "json":
        print(to_json(rows))
    return 0 if all(row["good"] for row in rows) else 2


def list_units(args: Namespace) -> int:
    """List the units that come with the package, or tell all about one."""
    from ampel_spark.t2.registry import UNITS, describe, find_unit

    if args.name is None:
        rows = [
            {"unit": name, "summary": describe(find_unit(name, Path.cwd())).summary}
            for name in UNITS
        ]
        print_rows(rows, ["unit", "summary"], args.format)
        return 0
    found = describe(find_unit(args.name, Path.cwd()))
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
    print_pairs({"unit": args.name, "summary": found.summary, "libraries": found.libraries})
    print("\nparameters (config):")
    shown = [
        p | {"default": "required" if p["default"] is None else p["default"]} for p in parameters
    ]
    print_rows(shown, ["parameter", "type", "default", "description"], "table", empty="none")
    print(f"\ncolumns of t2_{args.name if args.name in UNITS else '<name>'}:")
    print_rows(
        columns, ["column", "type", "unit", "description"], "table", empty="what its parameters say"
    )
    return 0
