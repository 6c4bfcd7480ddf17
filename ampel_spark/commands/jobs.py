"""Commands on jobs: run, rerun, reproduce, publish, validate."""

from __future__ import annotations

import contextlib
import functools
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.classes import probing
from ampel_spark.commands.output import print_rows, to_json
from ampel_spark.errors import ConfigError, LakeError
from ampel_spark.interface.places import lake_of
from ampel_spark.lake.runs import find_run

if TYPE_CHECKING:
    from ampel_spark.job.configuration.model import ResolvedJob
    from ampel_spark.job.execution.inputs import Inputs
    from ampel_spark.lake.runs import Run

__all__ = ["publish", "reproduce", "rerun", "run", "systematics", "validate"]


def run(args: Namespace) -> int:
    """Run a job, or print its plan."""
    from ampel_spark.job.configuration.load import load_job
    from ampel_spark.job.execution.bundle import is_bundle
    from ampel_spark.job.execution.inputs import as_of

    if args.no_code and not args.dry_run:
        raise ConfigError("--no-code goes with --dry-run: a job runs the code of its units")
    if is_bundle(args.job):
        return _run_bundle(args)
    with probing() if args.dry_run else contextlib.nullcontext():
        job = load_job(
            args.job, args.set, args.archive, args.calibration, args.lake, code=not args.no_code,
            before=functools.partial(_say_code, args) if args.dry_run else None,
        )  # fmt: skip
    inputs = as_of(args.as_of, job.survey)  # one that is none is refused before anything starts
    return _go(args, job, lake_of(args.lake, job.lake), inputs)


def _run_bundle(args: Namespace) -> int:
    """Run the job of a bundle, if all that decides its results is here as it was packed."""
    from ampel_spark.job.execution.bundle import differences, load_bundle, open_bundle
    from ampel_spark.job.execution.inputs import Inputs, as_of
    from ampel_spark.lake.marker import mark

    lake = lake_of(args.lake)
    with contextlib.ExitStack() as rooms:
        if args.dry_run:
            rooms.enter_context(probing())
            folder = Path(rooms.enter_context(tempfile.TemporaryDirectory(prefix="ampel_spark-")))
            place, catalogs = folder / "bundle", folder / "lake"
        else:
            place, catalogs = mark(lake) / "_bundles", lake
        bundle = open_bundle(args.job, place)
        given = {"archive": args.archive, "calibration": args.calibration, "sets": args.set}
        job = load_bundle(bundle, catalogs, code=not args.no_code, **given)
        # What is changed on purpose is not compared.
        asked = bool(args.set or args.calibration or args.no_code)
        found = [] if asked else differences(bundle, job)
        for line in found:
            print(f"differs: {line}", file=sys.stderr, flush=True)
        if found and not (args.dry_run or args.anyway):
            raise ConfigError(
                f"{args.job} would not give here what it gave where it was made: set up the same"
                " versions (bundle.json in it names them), or run it with --anyway"
            )
        until = bundle.about["as_of_jd"]
        inputs = Inputs(until) if args.as_of is None else as_of(args.as_of, job.survey)
        return _go(args, job, lake, inputs)


def publish(args: Namespace) -> int:
    """Write a job, or that of a run, with all that it names to one file."""
    from ampel_spark.job.configuration.load import load_job, load_recorded
    from ampel_spark.job.execution.bundle import publish

    run = None
    if Path(args.what).is_file():
        job = load_job(args.what, lake=args.lake)
    else:
        lake = lake_of(args.lake)
        run = _recorded(lake, args.what)
        job = load_recorded(run, lake=lake)
    about = publish(job, args.to, run)
    size = args.to.stat().st_size / 1e6
    print(f"publish: {args.to}: {len(about['files'])} files, {size:.1f} MB")
    for path in about["archive"]:
        print(f"publish: without {path}: who runs it names an archive, or a lake that has it")
    return 0


def rerun(args: Namespace) -> int:
    """Run the job of a recorded run again, on the versions that it read."""
    from ampel_spark.job.configuration.load import load_recorded
    from ampel_spark.job.execution.inputs import recorded

    lake = lake_of(args.lake)
    parent = _recorded(lake, args.run)
    job = load_recorded(parent, args.set, args.calibration, lake)
    release = job.calibration
    then = parent.inputs.calibrations.get(release.name, release.content_hash)
    if then != release.content_hash:
        print(
            f"warning: calibration release {release.name} has changed since run "
            f"{parent.run_id}: it is {release.content_hash[:12]} now and was {then[:12]}"
        )
    return _go(args, job, lake, recorded(parent))


def systematics(args: Namespace) -> int:
    """Run a job and all its variations, and write shifts, covariance and a page."""
    from ampel_spark.job.configuration.load import load_job
    from ampel_spark.job.execution.inputs import as_of
    from ampel_spark.job.execution.systematics import run_systematics, write_results

    job = load_job(args.job, args.set, args.archive, args.calibration, args.lake)
    inputs = as_of(args.as_of, job.survey)
    lake = lake_of(args.lake, job.lake)
    grid = run_systematics(job, lake, inputs=inputs, out=functools.partial(print, flush=True))
    for path in write_results(lake, grid, args.report):
        print(f"systematics: {path}")
    return grid.code


def reproduce(args: Namespace) -> int:
    """Run a recorded run again in a new lake, and compare all that it wrote."""
    from ampel_spark.job.execution.reproduce import reproduce

    lake = lake_of(args.lake)
    run = _recorded(lake, args.run).run_id
    with tempfile.TemporaryDirectory(prefix="ampel_spark-reproduce-") as folder:
        into = args.into or Path(folder) / "lake"
        out = functools.partial(print, flush=True, file=sys.stderr)
        made = reproduce(lake, run, into, out=out)
    rows = [{"table": name, "rows": n, "difference": ""} for name, n in made.rows.items()]
    for difference in made.differences:
        next(r for r in rows if r["table"] == difference.table)["difference"] = str(difference)
    if args.format == "json":
        print(to_json({"run_id": made.run_id, "tables": rows, "software": list(made.software)}))
    else:
        print_rows(rows, ["table", "rows", "difference"], "table")
        for line in made.software:
            print(f"differs: {line}")
        answer = f"{len(made.rows)} tables are equal, bit for bit"
        if made.differences:
            answer = f"{len(made.differences)} of {len(made.rows)} tables differ"
        print(f"reproduce: {answer}")
    return 1 if made.differences else 0


def _recorded(lake: Path, text: str) -> Run:
    """Return the run that is named: that there is none is a matter of usage, no job that failed."""
    try:
        return find_run(lake, text)
    except LakeError as error:
        raise ConfigError(str(error)) from None


def _go(args: Namespace, job: ResolvedJob, lake: Path, inputs: Inputs) -> int:
    from ampel_spark.job.execution.run import DONE, forecast, run_job

    out = functools.partial(print, flush=True)
    if args.dry_run:
        forecast(job, lake, inputs=inputs, out=out)
        return DONE
    return run_job(job, lake, inputs=inputs, report=args.report, out=out).code


def _say_code(args: Namespace, units: Sequence[str]) -> None:
    """Say once which code of a job is run to check it."""
    told: set[str] = args.__dict__.setdefault("told", set())
    if new := [unit for unit in units if unit not in told]:
        told.update(new)
        print(f"runs the code of {', '.join(new)} (--no-code: not)", file=sys.stderr, flush=True)


def validate(args: Namespace) -> int:
    """Check jobs, and report all that is wrong with any of them."""
    from ampel_spark.document import DocumentError
    from ampel_spark.job.configuration.load import load_job

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
            said_code = functools.partial(_say_code, args)
            with probing():
                job = load_job(
                    path, args.set, lake=args.lake, code=not args.no_code, before=said_code
                )
                for variation in job.systematics.variations if job.systematics else ():
                    job.varied(variation.settings, variation.calibration)
            row |= {"job": job.name, "hash": job.hash}
        except DocumentError as error:
            row |= {"good": False, "problems": list(error.problems)}
            said = str(error)
        except ConfigError as error:
            row |= {
                "good": False,
                "problems": [{"file": str(path), "line": None, "path": "", "message": str(error)}],
            }
            said = str(error)
        rows.append(row)
        if args.format == "table":
            if row["good"]:
                without = ", its own units aside" if args.no_code else ""
                print(f"{path}: good{without}: job {job.name}, sha256 {job.hash[:12]}")
            else:
                print(said, file=sys.stderr)
    if args.format == "json":
        print(to_json(rows))
    return 0 if all(row["good"] for row in rows) else 2
