"""Format 3: tables of the archive have the columns that surveys declare, a struct for each survey.

An ingest adds the struct when it first writes to it, so nothing is rewritten. What was read before
has nulls there: of datapoints nothing else is known, and of alerts the file that declares the
columns may have changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["say"]


def say(root: Path, versions: Mapping[str, int], out: Callable[[str], None]) -> None:
    """Say what older alerts and datapoints have in these columns.

    Parameters
    ----------
    root : Path
        The lake.
    versions : mapping of str to int
        Versions of its tables as they were found.
    out : callable
        Takes lines for the user.
    """
    if "archive_files" in versions:
        out(
            "upgrade: columns that surveys declare are null in what was read so far;"
            " archives that are read from now on fill them"
        )
