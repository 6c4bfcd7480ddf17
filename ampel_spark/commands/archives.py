"""Commands on archives: ingest, simulate."""

from __future__ import annotations

import dataclasses
import re
import sys
from argparse import Namespace

from ampel_spark.commands.output import print_rows
from ampel_spark.errors import ArchiveError, ConfigError

__all__ = ["ingest", "simulate"]


class _Teller:
    """Says how far it is, beside the answer: in lines, and on a terminal over the line before."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self._passing = False

    def __call__(self, line: str) -> None:
        clear = "\r\x1b[K" if self._passing else ""
        self._passing = self.terminal and line.startswith("ingest: reading")
        end = "" if self._passing else "\n"
        print(clear + line, end=end, file=sys.stderr, flush=True)


def ingest(args: Namespace) -> int:
    """Read archives into a lake."""
    from ampel_spark.archive.reading.files import find_files
    from ampel_spark.archive.reading.readers import name_patterns
    from ampel_spark.interface.places import lake_of
    from ampel_spark.job.configuration.load import load_survey

    survey = load_survey(args.survey)
    chunk_bytes = None if args.chunk is None else _bytes(args.chunk)
    try:
        # a path that is none is refused before Spark starts
        find_files(args.paths, name_patterns(survey))
    except ArchiveError as error:
        raise ConfigError(str(error)) from None
    schema = None
    if args.schema is not None:
        from ampel_spark.archive.reading.wire import read_schema

        schema = read_schema(args.schema)
    if args.cutouts and survey.reader != "ztf_avro":
        raise ConfigError(f"--cutouts: survey {survey.name} has none; those of ztf are read")
    from ampel_spark.archive.committing.chunks import CHUNK_BYTES
    from ampel_spark.archive.committing.ingest import ingest as read_in
    from ampel_spark.archive.reading.cutouts import keep_cutouts
    from ampel_spark.lake.lake import Lake
    from ampel_spark.lake.progress import INTERVAL
    from ampel_spark.lake.runs import new_run_id, utc_now
    from ampel_spark.session import get_session

    lake = Lake(get_session("ampel_spark ingest"), lake_of(args.lake))
    say = _Teller()
    done = read_in(
        lake.spark,
        lake,
        args.paths,
        survey=survey,
        out=say,
        nightly=args.nightly,
        replace=args.replace_file,
        chunk_bytes=chunk_bytes or CHUNK_BYTES,
        interval=1.0 if say.terminal else INTERVAL,
        **({} if schema is None else {"schema": schema}),
    )
    row = {"lake": str(lake.root)} | dataclasses.asdict(done)
    if args.cutouts:
        row["cutouts"] = keep_cutouts(lake, args.paths, new_run_id("cutouts", utc_now()), say)
    print_rows([row], list(row), args.format)
    return done.code


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)i?B?", text.strip())
    size = 0 if found is None else int(float(found[1]) * 1024 ** " kMGT".index(found[2] or " "))
    if size <= 0:
        raise ConfigError(f"--chunk {text!r} is no size: a number and B, kB, MB, GB or TB")
    return size


def simulate(args: Namespace) -> int:
    """Write a simulated archive."""
    from ampel_spark.errors import ConfigError
    from ampel_spark.simulate import QUICKSTART, simulate_rubin
    from ampel_spark.simulate import simulate as make

    usual = (
        QUICKSTART
        if args.objects is None
        else {k: v for k, v in QUICKSTART.items() if k != "alerts"}
    )
    names = ("alerts", "objects", "nights", "first_night", "seed", "cutouts")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}

    def progress(step: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(
                f"\r{step}: {done} of {total}",
                end="" if done < total else "\n",
                file=sys.stderr,
                flush=True,
            )

    if args.survey == "lsst":
        if other := sorted(given.keys() & {"objects", "cutouts"}):
            raise ConfigError(f"--{other[0]} goes with ZTF's archives alone")
        made = simulate_rubin(args.out, **(usual | given), progress=progress)
    else:
        made = make(args.out, **(usual | given), workers=args.workers, progress=progress)
    row = {
        "archive": str(made.path),
        "alerts": made.alerts,
        "objects": sum(made.objects.values()),
        "nights": len(made.nights),
        "made": "now" if made.fresh else "before",
    }
    print_rows(
        [row | {"kinds": made.objects, "parameters": made.parameters}], list(row), args.format
    )
    return 0
