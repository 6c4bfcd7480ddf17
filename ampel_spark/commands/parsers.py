"""What each command takes: one function for each group of commands."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["GROUPS", "add_command"]


def add_command(
    commands: Any,
    name: str,
    function: str,
    text: str,
    *,
    lake: bool = True,
    form: bool = True,
    works: bool = False,
) -> argparse.ArgumentParser:
    """Add a command, and return its parser.

    Parameters
    ----------
    commands : argparse subparsers
    name, text : str
        Its name, and what help says of it.
    function : str
        What runs it: ``module.function`` below ``ampel_spark.commands``.
    lake, form : bool
        Whether it takes ``--lake`` and ``--format``.
    works : bool
        Whether it does work that can fail, beside reading.
    """
    description = f"{text[0].upper()}{text[1:]}."
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=description)
    if lake:
        parser.add_argument("--lake", metavar="PATH", help="the lake")
    if form:
        parser.add_argument(
            "--format", choices=("table", "json"), default="table", help="form of the answer"
        )
    parser.set_defaults(function=function, works=works)
    return parser


def _jobs(commands: Any) -> None:
    run = add_command(commands, "run", "jobs.run", "run a job", form=False, works=True)
    systematics = add_command(
        commands, "systematics", "jobs.systematics",
        "run a job and its variations, and tell by how much numbers shift", form=False, works=True,
    )  # fmt: skip
    for sub in (run, systematics):
        what = "JOB.yml" if sub is systematics else "JOB.yml|BUNDLE"
        sub.add_argument("job", type=Path, metavar=what)
        archive = "archive instead of the job's own: folders, files or globs"
        sub.add_argument("--archive", nargs="+", action="extend", metavar="PATH", help=archive)
        sub.add_argument("--calibration", metavar="RELEASE",
                         help="release instead of the job's own: a name or a file")  # fmt: skip
        _set(sub, "change the job, as t0.SN.config.min_ndet=3")
        sub.add_argument(
            "--as-of",
            metavar="NIGHT|JD|vN",
            help="the archive as known at the end of a night, or at a JD; "
            "or the lake as it stood at version N of archive_files",
        )
    rerun = add_command(
        commands, "rerun", "jobs.rerun", "run the job of a run again, on the versions that it read",
        form=False, works=True,
    )  # fmt: skip
    rerun.add_argument("run", metavar="RUN")
    rerun.add_argument("--calibration", metavar="RELEASE", help="another calibration release")
    _set(rerun, "change the job, as t2.salt_fit.config.min_points=6")
    for sub in (run, rerun, systematics):
        sub.add_argument(
            "--report", type=Path, metavar="PATH", help="where to write the HTML report"
        )
    for sub in (run, rerun):
        sub.add_argument(
            "--dry-run",
            action="store_true",
            help="tell what would be read, is present and is to be computed, and write nothing; "
            "the code of the job's own units runs",
        )
    run.add_argument(
        "--no-code",
        action="store_true",
        help="with --dry-run: leave out the job's own units and their code",
    )
    run.add_argument(
        "--anyway", action="store_true", help="run a bundle where something differs, too"
    )
    publish = add_command(
        commands, "publish", "jobs.publish",
        "write a job, or that of a run, with all that it names to one file", form=False,
    )  # fmt: skip
    publish.add_argument("what", metavar="RUN|JOB.yml")
    publish.add_argument("--to", type=Path, required=True, metavar="BUNDLE", help="the file")
    reproduce = add_command(
        commands, "reproduce", "jobs.reproduce",
        "run a run again in a new lake, from the versions that it read, and compare all it wrote",
        works=True,
    )  # fmt: skip
    reproduce.add_argument("run", metavar="RUN")
    reproduce.add_argument("--into", type=Path, metavar="PATH",
                           help="keep the new lake here (default: it goes)")  # fmt: skip


def _archives(commands: Any) -> None:
    ingest = add_command(
        commands, "ingest", "archives.ingest", "read archives of alerts into a lake", works=True
    )
    add = ingest.add_argument
    add("paths", nargs="+", metavar="PATH", help="folder, nightly tar file, .avro file or glob")
    add(
        "--survey",
        default="ztf",
        help="what they are: name of a file of conf/surveys, or the path of one (default: ztf)",
    )
    add("--schema", type=Path, metavar="FILE", help="Avro schema (.avsc) of packets without theirs")
    add("--cutouts", action="store_true", help="keep ZTF's image cutouts too, also of files read")
    add("--chunk", metavar="SIZE", help="size of files to commit at a time (default: 2GB)")
    add("--nightly", action="store_true", help="commit every night by itself")
    add("--replace-file", action="store_true",
        help="where a file changed since it was read, read it anew")  # fmt: skip

    simulate = add_command(
        commands, "simulate", "archives.simulate", "write a simulated archive whose truth is known",
        lake=False, works=True,
    )  # fmt: skip
    simulate.add_argument("out", type=Path, metavar="OUT", help="folder to write it to")
    simulate.add_argument(
        "--survey", choices=("ztf", "lsst"), default="ztf",
        help="whose alerts (default: ztf); lsst: Rubin's, in schema 11.0",
    )  # fmt: skip
    size = simulate.add_mutually_exclusive_group()
    size.add_argument("--alerts", type=int, help="how many alerts (default: 6000)")
    size.add_argument("--objects", type=int, help="how many objects, instead")
    add = simulate.add_argument
    add("--nights", type=int, help="nights it spans (default: 75)")
    add("--first-night", metavar="YYYY-MM-DD", help="first night, UTC (default: 2024-03-01)")
    add("--seed", type=int, help="seed of all that is random in it (default: 18)")
    add("--cutouts", choices=("none", "small", "real"), help="image cutouts (default: small)")
    add("--workers", type=int, default=os.cpu_count() or 1,
        help="processes (default: one for each core)")  # fmt: skip


def _lakes(commands: Any) -> None:
    add_command(commands, "runs", "lakes.list_runs", "list the runs of a lake, the newest first")
    show = add_command(
        commands, "show", "lakes.show", "tell what a run did, on what versions, and what it found"
    )
    show.add_argument("run", metavar="RUN")
    _limit(show, 15, "candidates to print (default: 15)")

    diff = add_command(
        commands, "diff", "compare.diff",
        "compare two runs: candidates gained, lost and moved and why, shifts, what was reused",
    )  # fmt: skip
    add = diff.add_argument
    add("run_a", metavar="RUN_A", help="the run before")
    add("run_b", metavar="RUN_B", help="the run after")
    add("--lake-b", metavar="PATH", help="the lake of RUN_B, if it is another one")
    add("--selection", metavar="NAME", help="compare this selection alone")
    add("--columns", metavar="COLUMN,…", help="tell the shifts of these columns or expressions")
    _limit(diff, 15, "objects to print of each (default: 15)")
    page = "where to write the page (default: reports/diff-RUN_A-RUN_B.html in the lake)"
    add("--page", type=Path, metavar="FILE.html", help=page)
    add("--no-page", action="store_true", help="write no page")

    tables = add_command(
        commands, "tables", "lakes.list_tables", "list the tables of a lake, or the columns of one"
    )
    tables.add_argument("name", nargs="?", metavar="NAME", help="a table")

    branch = add_command(
        commands, "branch", "care.branch",
        "make a lake that begins with this one's tables, shares its files, and goes its own way",
        form=False, works=True,
    )  # fmt: skip
    branch.add_argument("to", type=Path, metavar="PATH", help="a folder: empty, or not there")
    branch.add_argument(
        "--archive", action="store_true", help="take archive and catalogues, no runs and results"
    )

    maintain = add_command(
        commands, "maintain", "care.maintain",
        "compact a lake, remove what nothing needs, list and free pins",
    )  # fmt: skip
    add = maintain.add_argument
    add("--upgrade", action="store_true", help="bring a lake of an older format to this one")
    add("--pins", action="store_true",
        help="list the versions that runs pin (also without options)")  # fmt: skip
    add("--check", nargs="*", metavar="TABLE", default=None,
        help="look for damage: of all tables, or of these")  # fmt: skip
    add("--fast", action="store_true",
        help="with --check: look only at what a run looks at when it starts")  # fmt: skip
    add("--release", nargs="+", metavar="RUN", help="let the pins of runs go")
    add("--compact", action="store_true", help="write small files together, ordered by object")
    add("--remove-files", action="store_true", help="remove files that neither the newest version, "
        "nor a pin, nor a commit of the archive needs")  # fmt: skip
    add("--older-than", type=_hours, default=24.0, metavar="HOURS",
        help="how long files stay that killed writers left, or that a commit took out of a table "
        "which a run may still be reading (default: 24)")  # fmt: skip
    add("--dry-run", action="store_true", help="tell what --remove-files would remove")


def _checks(commands: Any) -> None:
    units = add_command(
        commands, "units", "units.list_units",
        "list the filters of T0 and the units, or show all about one", lake=False,
    )  # fmt: skip
    units.add_argument("name", nargs="?", metavar="NAME",
                       help="a filter or unit, module:Class or path/file.py:Class")  # fmt: skip
    units.add_argument("--recipe", metavar="RECIPE",
                       help="print a recipe of salt_fit: jla, ztf_dr1, pantheon_plus, "
                       "dovekie")  # fmt: skip
    columns = add_command(
        commands, "columns", "units.list_columns",
        "list what conditions of T0 may name, and the expressions of a job",
    )  # fmt: skip
    columns.add_argument("job", nargs="?", type=Path, metavar="JOB.yml")
    columns.add_argument("--survey", default="ztf", metavar="SURVEY",
                         help="without a job: a file of conf/surveys, or its path")  # fmt: skip
    validate = add_command(
        commands, "validate", "jobs.validate",
        "check jobs, and tell all that is wrong with them; the code of their own units runs",
    )  # fmt: skip
    validate.add_argument(
        "--no-code", action="store_true", help="check what needs no code of the job's own units"
    )
    validate.add_argument("jobs", nargs="+", type=Path, metavar="JOB.yml")
    _set(validate, "change the jobs first")


def _catalogs(commands: Any) -> None:
    catalog = commands.add_parser("catalog", help="add, list, show and compare catalogues")
    kinds = catalog.add_subparsers(metavar="WHAT", required=True)
    added = add_command(kinds, "add", "catalogs.add", "read files into a catalogue of the lake")
    added.add_argument("name", metavar="NAME", help="what the lake is to call it")
    added.add_argument("files", nargs="+", type=Path, metavar="FILE",
                       help="CSV, ECSV, FITS, VOTable, Parquet, Delta or HATS")  # fmt: skip
    added.add_argument("--settings", type=Path, metavar="FILE.yml",
                       help="which columns are what (default: conf/catalogs/NAME.yml)")  # fmt: skip
    add_command(kinds, "list", "catalogs.list_catalogs", "list the catalogues of a lake")
    shown = add_command(kinds, "show", "catalogs.show", "tell all about a catalogue")
    shown.add_argument("name", metavar="NAME")
    shown.add_argument("--version", type=int, metavar="N", help="default: the newest")
    differ = add_command(
        kinds, "diff", "catalogs.diff", "tell which tiles differ between two versions"
    )
    differ.add_argument("name", metavar="NAME")
    differ.add_argument("before", type=int, metavar="V1")
    differ.add_argument("after", type=int, metavar="V2")


def _models(commands: Any) -> None:
    train = add_command(
        commands, "train", "models.train",
        "train a classifier's model from features of a lake, and keep it with its origin",
        works=True,
    )  # fmt: skip
    train.add_argument("recipe", type=Path, metavar="MODEL.yml")
    train.add_argument("--out", type=Path, metavar="FILE.json",
                       help="where to write the model (default: reports/ of the lake)")  # fmt: skip
    models = commands.add_parser("models", help="list, show, compare and train again models")
    kinds = models.add_subparsers(metavar="WHAT", required=True)
    add_command(kinds, "list", "models.list_models", "list the models of a lake")
    shown = add_command(kinds, "show", "models.show", "show all about a model")
    again = add_command(
        kinds, "reproduce", "models.reproduce",
        "train a model again from the rows that it was trained with, and compare", works=True,
    )  # fmt: skip
    for sub in (shown, again):
        sub.add_argument("name", metavar="NAME")
        sub.add_argument("--version", type=int, metavar="N", help="default: the newest")
    differ = add_command(kinds, "diff", "models.diff", "show what differs between two versions")
    differ.add_argument("name", metavar="NAME")
    differ.add_argument("before", type=int, metavar="V1")
    differ.add_argument("after", type=int, metavar="V2")


def _events(commands: Any) -> None:
    event = commands.add_parser("event", help="add, list, show and compare events with a region")
    kinds = event.add_subparsers(metavar="WHAT", required=True)
    added = add_command(
        kinds, "add", "events.add", "read notices, tables and sky maps into the lake's events"
    )
    add = added.add_argument
    add("files", nargs="+", type=Path, metavar="FILE",
        help="notices (JSON), tables of events (CSV and others), sky maps (FITS)")  # fmt: skip
    add("--sender", metavar="NAME|FILE.yml",
        help="where notices have what: a file of conf/events (default: by their kind)")  # fmt: skip
    add("--event", metavar="NAME", help="name of the event, if the file says none")
    add("--time", metavar="TIME", help="time of the event, if the file says none: "
        "2023-04-16T16:54:14Z, or a JD")  # fmt: skip
    add("--type", choices=("initial", "update", "retraction"), help="what the file is, likewise")
    add("--revision", type=int, metavar="N", help="number of the revision (default: the next)")
    listed = add_command(kinds, "list", "events.list_events", "list the events of a lake")
    shown = add_command(kinds, "show", "events.show", "print all about an event, and plot it")
    shown.add_argument("event", metavar="EVENT")
    shown.add_argument("--revision", type=int, metavar="N", help="default: the newest")
    shown.add_argument("--plot", type=Path, metavar="FILE", help="draw its region: .svg or .png")
    shown.add_argument("--with", dest="table", metavar="TABLE",
                       help="draw a table's (public) or catalogue's rows in it")  # fmt: skip
    for sub in (listed, shown):
        sub.add_argument("--version", type=int, metavar="V", help="of the table; default: newest")
    differ = add_command(
        kinds, "diff", "events.diff", "print which events differ between two versions of the table"
    )
    differ.add_argument("before", type=int, metavar="V1")
    differ.add_argument("after", type=int, nargs="?", metavar="V2", help="default: the newest")


def _searches(commands: Any) -> None:
    search = add_command(
        commands, "search", "search.search", "tell what of a table or catalogue lies where"
    )
    search.add_argument("table", metavar="TABLE", help="a table with positions, or a catalogue")
    where = search.add_mutually_exclusive_group(required=True)
    where.add_argument("--cone", nargs=3, type=float, metavar=("RA", "DEC", "ARCSEC"))
    where.add_argument("--cones", metavar="FILE", help="table of ra, dec [deg], radius [arcsec]")
    where.add_argument("--box", nargs=4, type=float, metavar=("RA1", "RA2", "DEC1", "DEC2"))
    where.add_argument("--polygon", nargs="+", type=float, metavar="DEG", help="RA DEC RA DEC …")
    where.add_argument("--moc", metavar="FILE.fits", help="coverage map, UNIQ numbers")
    where.add_argument("--skymap", metavar="FILE.fits", help="multi-order sky map")
    add = search.add_argument
    add("--radius", type=float, metavar="ARCSEC", help="of all --cones")
    add("--level", type=float, default=0.9, help="of --skymap (default: 0.9)")
    add("--programid", nargs="+", type=int, default=[1], metavar="N",
        help="of tables with data rights: rows of these (default: 1, public)")  # fmt: skip
    add("--columns", metavar="A,B,…", help="default: all")
    add("--version", type=int, metavar="N", help="default: the newest")
    _limit(search, 20, "rows to print")


def _objects(commands: Any) -> None:
    explain = add_command(
        commands, "explain", "objects.explain",
        "tell every cut for an alert, with value and threshold, in every run",
    )  # fmt: skip
    explain.add_argument("alert_id", type=int, metavar="ALERT_ID")
    explain.add_argument("--channel", required=True, metavar="NAME")
    about = add_command(
        commands, "object", "objects.show_object",
        "tell the journal of an object in every run, in order of time",
    )  # fmt: skip
    about.add_argument("name", metavar="NAME", help="the survey's name of it, or its stock id")
    about.add_argument("--channel", metavar="NAME",
                       help="show what this channel knows (default: any)")  # fmt: skip
    for sub in (explain, about):
        sub.add_argument("--run", metavar="RUN", help="this run alone (default: every run)")


#: What adds the commands, in the order of the help.
GROUPS: tuple[Callable[[Any], None], ...] = (
    _jobs, _archives, _lakes, _checks, _catalogs, _events, _models, _searches, _objects,
)  # fmt: skip


def _set(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)


def _limit(parser: argparse.ArgumentParser, default: int, text: str) -> None:
    parser.add_argument("--limit", type=_whole, default=default, metavar="N", help=text)


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
