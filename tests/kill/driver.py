"""A driver to be killed: it reads an archive in chunks of a few nights, and runs a job on it.

Run as ``python -m tests.kill.driver LAKE ARCHIVE CHUNK_BYTES [KEY=VALUE]...``; it says in lines
where it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ampel_spark.archive.committing.ingest import ingest
from ampel_spark.job.configuration.load import load_job
from ampel_spark.job.execution.run import run_job
from ampel_spark.session import get_session
from tests.conftest import SMALL

JOB = Path(__file__).with_name("job.yml")


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def drive(lake: Path, archive: Path, chunk_bytes: int, settings: list[str]) -> int:
    """Ingest, then run the job; return its exit code."""
    spark = get_session("kill test", conf=SMALL)
    say("started")
    ingest(spark, lake, [archive], out=say, chunk_bytes=chunk_bytes)
    return run_job(load_job(JOB, settings, [str(archive)]), lake, out=say).code


if __name__ == "__main__":
    sys.exit(drive(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
