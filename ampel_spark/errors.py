"""The errors of ampel_spark, in one tree.

Every message names the thing, the value and the cure. What befalls a single packet or a single
object is not an error of the job: packets go to ``quarantine``, objects become rows with a status.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "AmpelSparkError",
    "ArchiveError",
    "ConfigError",
    "LakeError",
    "SetupError",
    "UnitError",
    "nearest",
]


class AmpelSparkError(Exception):
    """Base of all errors that ampel_spark raises on purpose."""


class ConfigError(AmpelSparkError):
    """A job, a settings file or a command line that cannot be right (exit code 2)."""


class SetupError(AmpelSparkError):
    """Something that the set-up should have put in place is missing or too old."""


class ArchiveError(AmpelSparkError):
    """An archive that cannot be read at all, or whose accounting does not close."""


class LakeError(AmpelSparkError):
    """A lake that is absent, of another format, or that another writer changed."""


class UnitError(AmpelSparkError):
    """A unit that cannot be found, built or traced."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word closest to `word`, else a list of all.

    Parameters
    ----------
    word : str
        What was given.
    known : iterable of str
        What would have been right.
    """
    names = sorted(set(known))
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
