"""The command line: ``ampel-spark COMMAND …``.

Exit codes: 0 good; 1 the job failed; 2 usage or configuration; 3 done, but some objects ended in an
exception, or an ingest could take nothing of its files. Errors are one clear message each;
``AMPEL_SPARK_DEBUG=1`` shows where they come from.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ampel_spark import __version__
from ampel_spark.errors import AmpelSparkError, ArchiveError, LakeError

__all__ = ["main", "make_parser"]

_EPILOG = """\
Where a command takes --lake and none is given, AMPEL_SPARK_LAKE counts, then the job's lake, then
./lake.
RUN is a run's id, the beginning of one, or 'latest'. `ampel-spark COMMAND --help` tells more.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.
    """
    try:
        args = make_parser().parse_args(argv)
    except SystemExit as ended:  # --help, --version, or usage that argparse has told
        return int(ended.code or 0)
    try:
        code: int = _function(args.function)(args)
        sys.stdout.flush()
        return code
    except AmpelSparkError as error:
        if os.environ.get("AMPEL_SPARK_DEBUG", "0") not in ("", "0"):
            raise
        _tell(error)
        # a lake or archive that fails under a job is the job's failure, and no question of usage
        return 1 if args.works and isinstance(error, LakeError | ArchiveError) else 2
    except BrokenPipeError:  # whoever read the answer has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("ampel-spark: interrupted", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="ampel-spark",
        description="Archive-scale, reproducible transient science on alert streams.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ampel_spark {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str,
        function: str,
        text: str,
        *,
        lake: bool = True,
        form: bool = True,
        works: bool = False,
        of: Any = None,
    ) -> argparse.ArgumentParser:
        sub = (of or commands).add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}."
        )
        if lake:
            sub.add_argument("--lake", metavar="PATH", help="the lake")
        if form:
            sub.add_argument(
                "--format", choices=("table", "json"), default="table", help="form of the answer"
            )
        sub.set_defaults(function=function, works=works)
        return sub

    run = command("run", "jobs.run", "run a job", form=False, works=True)
    systematics = command(
        "systematics",
        "jobs.systematics",
        "run a job and its variations, and tell by how much numbers shift",
        form=False,
        works=True,
    )
    for sub in (run, systematics):
        sub.add_argument("job", type=Path, metavar="JOB.yml")
        sub.add_argument(
            "--archive",
            nargs="+",
            action="extend",
            metavar="PATH",
            help="archive instead of the job's own: folders, files or globs",
        )
        sub.add_argument(
            "--calibration",
            metavar="RELEASE",
            help="release instead of the job's own: a name or a file",
        )
        sub.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="change the job, as t0.SN.config.min_ndet=3",
        )
        sub.add_argument(
            "--as-of",
            metavar="NIGHT|JD|vN",
            help="the archive as known at the end of a night, or at a JD; "
            "or the lake as it stood at version N of archive_files",
        )
    rerun = command(
        "rerun",
        "jobs.rerun",
        "run the job of a run again, on the versions that it read",
        form=False,
        works=True,
    )
    rerun.add_argument("run", metavar="RUN")
    rerun.add_argument("--calibration", metavar="RELEASE", help="another calibration release")
    rerun.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                       help="change the job, as t2.salt_fit.config.min_points=6")  # fmt: skip
    for sub in (run, rerun, systematics):
        sub.add_argument(
            "--report", type=Path, metavar="PATH", help="where to write the HTML report"
        )
    for sub in (run, rerun):
        sub.add_argument(
            "--dry-run",
            action="store_true",
            help="tell what would be read, is present and is to be computed, and write nothing",
        )

    reproduce = command(
        "reproduce",
        "jobs.reproduce",
        "run a run again in a new lake, from the versions that it read, and compare all it wrote",
        works=True,
    )
    reproduce.add_argument("run", metavar="RUN")
    reproduce.add_argument(
        "--into", type=Path, metavar="PATH", help="keep the new lake here (default: it goes)"
    )

    ingest = command("ingest", "archives.ingest", "read archives of alerts into a lake", works=True)
    ingest.add_argument(
        "paths", nargs="+", metavar="PATH", help="folder, nightly tar file, .avro file or glob"
    )
    ingest.add_argument(
        "--survey",
        default="ztf",
        help="file of conf/surveys that says what they are (default: ztf)",
    )
    ingest.add_argument("--schema", type=Path, metavar="FILE",
                        help="Avro schema (.avsc) of packets without theirs")  # fmt: skip
    ingest.add_argument(
        "--cutouts", action="store_true", help="keep ZTF's image cutouts too, also of files read"
    )  # fmt: skip
    ingest.add_argument(
        "--chunk", metavar="SIZE", help="size of files to commit at a time (default: 2GB)"
    )
    ingest.add_argument("--nightly", action="store_true", help="commit every night by itself")
    ingest.add_argument("--replace-file", action="store_true",
                        help="where a file changed since it was read, read it anew")  # fmt: skip

    simulate = command(
        "simulate",
        "archives.simulate",
        "write a simulated archive whose truth is known",
        lake=False,
        works=True,
    )
    simulate.add_argument("out", type=Path, metavar="OUT", help="folder to write it to")
    size = simulate.add_mutually_exclusive_group()
    size.add_argument("--alerts", type=int, help="how many alerts (default: 6000)")
    size.add_argument("--objects", type=int, help="how many objects, instead")
    simulate.add_argument("--nights", type=int, help="nights it spans (default: 75)")
    simulate.add_argument(
        "--first-night", metavar="YYYY-MM-DD", help="first night, UTC (default: 2024-03-01)"
    )
    simulate.add_argument("--seed", type=int, help="seed of all that is random in it (default: 18)")
    simulate.add_argument(
        "--cutouts", choices=("none", "small", "real"), help="image cutouts (default: small)"
    )
    simulate.add_argument("--workers", type=int, default=os.cpu_count() or 1,
                          help="processes (default: one for each core)")  # fmt: skip

    command("runs", "lakes.list_runs", "list the runs of a lake, the newest first")

    show = command("show", "lakes.show", "tell what a run did, on what versions, and what it found")
    show.add_argument("run", metavar="RUN")
    show.add_argument(
        "--limit", type=_whole, default=15, metavar="N", help="candidates to print (default: 15)"
    )

    diff = command(
        "diff",
        "compare.diff",
        "compare two runs: candidates gained, lost and moved and why, shifts, what was reused",
    )
    diff.add_argument("run_a", metavar="RUN_A", help="the run before")
    diff.add_argument("run_b", metavar="RUN_B", help="the run after")
    diff.add_argument("--lake-b", metavar="PATH", help="the lake of RUN_B, if it is another one")
    diff.add_argument("--selection", metavar="NAME", help="compare this selection alone")
    diff.add_argument(
        "--columns", metavar="COLUMN,…", help="tell the shifts of these columns or expressions"
    )
    diff.add_argument(
        "--limit",
        type=_whole,
        default=15,
        metavar="N",
        help="objects to print of each (default: 15)",
    )
    diff.add_argument(
        "--page", type=Path, metavar="FILE.html",
        help="where to write the page (default: reports/diff-RUN_A-RUN_B.html in the lake)",
    )  # fmt: skip
    diff.add_argument("--no-page", action="store_true", help="write no page")

    tables = command(
        "tables", "lakes.list_tables", "list the tables of a lake, or the columns of one"
    )
    tables.add_argument("name", nargs="?", metavar="NAME", help="a table")

    maintain = command(
        "maintain", "care.maintain", "compact a lake, remove what nothing needs, list and free pins"
    )
    maintain.add_argument(
        "--pins", action="store_true", help="list the versions that runs pin (also without options)"
    )
    maintain.add_argument("--release", nargs="+", metavar="RUN", help="let the pins of runs go")
    maintain.add_argument(
        "--compact", action="store_true", help="write small files together, ordered by object"
    )
    maintain.add_argument(
        "--remove-files",
        action="store_true",
        help="remove files that neither the newest version, nor a pin, nor a commit of the archive "
        "needs",
    )
    maintain.add_argument(
        "--older-than",
        type=_hours,
        default=24.0,
        metavar="HOURS",
        help="how long files stay that killed writers left, or that a commit took out of a table "
        "which a run may still be reading (default: 24)",
    )
    maintain.add_argument(
        "--dry-run", action="store_true", help="tell what --remove-files would remove"
    )

    units = command(
        "units", "jobs.list_units", "list the units of T2, or tell all about one", lake=False
    )
    units.add_argument(
        "name", nargs="?", metavar="NAME", help="a unit, module:Class or path/file.py:Class"
    )

    validate = command(
        "validate", "jobs.validate", "check jobs, and tell all that is wrong with them"
    )
    validate.add_argument("jobs", nargs="+", type=Path, metavar="JOB.yml")
    validate.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change the jobs first"
    )

    catalog = commands.add_parser("catalog", help="add, list, show and compare catalogues")
    kinds = catalog.add_subparsers(metavar="WHAT", required=True)
    added = command("add", "catalogs.add", "read files into a catalogue of the lake", of=kinds)
    added.add_argument("name", metavar="NAME", help="what the lake is to call it")
    added.add_argument("files", nargs="+", type=Path, metavar="FILE",
                       help="CSV, ECSV, FITS, VOTable, Parquet, Delta or HATS")  # fmt: skip
    added.add_argument("--settings", type=Path, metavar="FILE.yml",
                       help="which columns are what (default: conf/catalogs/NAME.yml)")  # fmt: skip
    command("list", "catalogs.list_catalogs", "list the catalogues of a lake", of=kinds)
    shown = command("show", "catalogs.show", "tell all about a catalogue", of=kinds)
    shown.add_argument("name", metavar="NAME")
    shown.add_argument("--version", type=int, metavar="N", help="default: the newest")
    differ = command(
        "diff", "catalogs.diff", "tell which tiles differ between two versions", of=kinds
    )
    differ.add_argument("name", metavar="NAME")
    differ.add_argument("before", type=int, metavar="V1")
    differ.add_argument("after", type=int, metavar="V2")

    search = command("search", "search.search", "tell what of a table or catalogue lies where")
    search.add_argument("table", metavar="TABLE", help="a table with positions, or a catalogue")
    where = search.add_mutually_exclusive_group(required=True)
    where.add_argument("--cone", nargs=3, type=float, metavar=("RA", "DEC", "ARCSEC"))
    where.add_argument("--cones", metavar="FILE", help="table of ra, dec [deg], radius [arcsec]")
    where.add_argument("--box", nargs=4, type=float, metavar=("RA1", "RA2", "DEC1", "DEC2"))
    where.add_argument("--polygon", nargs="+", type=float, metavar="DEG", help="RA DEC RA DEC …")
    where.add_argument("--moc", metavar="FILE.fits", help="coverage map, UNIQ numbers")
    where.add_argument("--skymap", metavar="FILE.fits", help="multi-order sky map")
    search.add_argument("--radius", type=float, metavar="ARCSEC", help="of all --cones")
    search.add_argument("--level", type=float, default=0.9, help="of --skymap (default: 0.9)")
    search.add_argument(
        "--programid",
        nargs="+",
        type=int,
        default=[1],
        metavar="N",
        help="of tables with data rights: rows of these (default: 1, public)",
    )
    search.add_argument("--columns", metavar="A,B,…", help="default: all")
    search.add_argument("--version", type=int, metavar="N", help="default: the newest")
    search.add_argument("--limit", type=_whole, default=20, metavar="N", help="rows to print")

    explain = command(
        "explain",
        "objects.explain",
        "tell every cut for an alert, with value and threshold, in every run",
    )
    explain.add_argument("alert_id", type=int, metavar="ALERT_ID")
    explain.add_argument("--channel", required=True, metavar="NAME")
    explain.add_argument("--run", metavar="RUN", help="this run alone (default: every run)")

    about = command(
        "object",
        "objects.show_object",
        "tell the journal of an object in every run, in order of time",
    )
    about.add_argument("name", metavar="NAME", help="the survey's name of it, or its stock id")
    about.add_argument(
        "--channel", metavar="NAME", help="show what this channel knows (default: any)"
    )
    about.add_argument("--run", metavar="RUN", help="this run alone (default: every run)")
    return parser


def _whole(text: str) -> int:
    """Return how many rows to print: with a number below 0 the last would be missing."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows: 0, 1, 2 …")
    return int(text)


def _hours(text: str) -> float:
    """Return an age: below 0 it would take the files that are being written."""
    try:
        hours = float(text)
    except ValueError:
        hours = -1.0
    if not 0 <= hours < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours: 0 or more")
    return hours


def _function(name: str) -> Callable[[argparse.Namespace], int]:
    """Return a command's function; its module is imported only now."""
    module, _, function = name.partition(".")
    found: Callable[[argparse.Namespace], int] = getattr(
        importlib.import_module(f"ampel_spark.commands.{module}"), function
    )
    return found


def _tell(error: AmpelSparkError) -> None:
    problems = getattr(error, "problems", ())
    if not problems:
        print(f"ampel-spark: {error}", file=sys.stderr)
        return
    count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
    print(f"{error}\nampel-spark: {count}; nothing was started", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
