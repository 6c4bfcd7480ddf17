"""The command line: ``ampel-spark COMMAND …``.

Exit codes: 0 good; 1 the job failed; 2 usage or configuration; 3 done, but some objects ended in an
exception, or an ingest could take nothing of its files. Errors are one clear message each;
``--debug`` or ``AMPEL_SPARK_DEBUG=1`` shows where they come from.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from ampel_spark import __version__
from ampel_spark.commands.parsers import GROUPS
from ampel_spark.commands.saying import Escaped, sentence
from ampel_spark.errors import AmpelSparkError, ArchiveError, LakeError
from ampel_spark.interface.places import lake_of
from ampel_spark.lake.lost import explained
from ampel_spark.store import NOT_YET, Remote

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
    given = [*(sys.argv[1:] if argv is None else argv)]
    debug = "--debug" in given or os.environ.get("AMPEL_SPARK_DEBUG", "0") not in ("", "0")
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Escaped(sys.stdout), Escaped(sys.stderr)
    try:
        return _run([word for word in given if word != "--debug"], debug)
    finally:
        sys.stdout, sys.stderr = streams


def _run(argv: Sequence[str], debug: bool) -> int:
    try:
        args = make_parser().parse_args(argv)
    except SystemExit as ended:  # --help, --version, or usage that argparse has explained
        return int(ended.code or 0)
    try:
        with explained(getattr(args, "lake", None)):
            _check_place(args)
            code: int = _function(args.function)(args)
        sys.stdout.flush()
        return code
    except AmpelSparkError as error:
        if debug:
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
    except Exception as error:  # of files, libraries and the machine: one sentence all the same
        said = sentence(error, getattr(args, "lake", None))
        if debug or said is None:
            raise
        print(f"ampel-spark: {said}", file=sys.stderr)
        return 1


def _check_place(args: argparse.Namespace) -> None:
    """Refuse a lake that the command cannot work on, before anything starts."""
    if args.works and hasattr(args, "lake"):
        lake = lake_of(args.lake)
        if isinstance(lake, Remote):
            raise LakeError(f"lake {lake} {NOT_YET}")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="ampel-spark",
        description="Archive-scale, reproducible transient science on alert streams.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    parser.add_argument("--version", action="version", version=f"ampel_spark {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add_commands in GROUPS:
        add_commands(commands)
    return parser


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
