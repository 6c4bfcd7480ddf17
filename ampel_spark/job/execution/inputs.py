"""What of the archive a run reads: which versions of its tables, and alerts up to when.

There are two kinds of time travel. As of a night or JD is the survey's time: alerts up to then and
what these had shown, in the newest version; a lake that never held later nights gives the same. As
of ``vN`` is the lake's own: what it held once commit N of ``archive_files`` was made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from ampel_spark.archive.committing.chunks import Pinned, pinned
from ampel_spark.archive.reading.surveys import Survey, as_of_jd
from ampel_spark.errors import ConfigError
from ampel_spark.lake.log import newest_version
from ampel_spark.lake.reading import dataset
from ampel_spark.lake.runs import Run

__all__ = ["Inputs", "as_of", "recorded"]


@dataclass(frozen=True)
class Inputs:
    """What a run reads.

    Attributes
    ----------
    until : float or None
        Time up to which alerts count, JD.
    chunk : int or None
        Version of ``archive_files`` that says what the lake held; None: the newest.
    versions : Pinned or None
        Versions to read, whatever the lake holds now.
    parent : str or None
        Run that these are the inputs of.
    """

    until: float | None = None
    chunk: int | None = None
    versions: Pinned | None = None
    parent: str | None = None

    @property
    def is_past(self) -> bool:
        """Whether the versions are given: then nothing is read into the lake first."""
        return self.chunk is not None or self.versions is not None

    def pin(self, lake: Path) -> Pinned:
        """Return the versions to read.

        Raises
        ------
        ArchiveError
            If the lake holds, or held then, nothing.
        """
        if self.versions is None:
            return pinned(lake, self.chunk)
        if self.versions.sightings is not None:
            return self.versions
        then = pinned(lake, self.versions.archive_files)
        return replace(self.versions, sightings=then.sightings)

    def check(self, lake: Path) -> None:
        """Refuse a version that the lake does not have, before anything starts.

        Raises
        ------
        ConfigError
            If there is no such version of ``archive_files``, or it held nothing.
        """
        if self.chunk is None:
            return
        newest = newest_version(lake / "archive_files")
        if newest is None:
            raise ConfigError(f"--as-of v{self.chunk}: lake {lake} holds no alerts yet")
        if self.chunk > newest or not dataset(lake, "archive_files", self.chunk).count_rows():
            what = "no" if self.chunk > newest else "nothing at"
            # the table was made by version 0, and filled by those after
            there = f"there are v1 to v{newest}" if newest > 1 else "there is v1"
            there = there if newest else "it holds no alerts yet"
            raise ConfigError(
                f"--as-of v{self.chunk}: lake {lake} has {what} version {self.chunk} of "
                f"archive_files; {there}"
            )


def as_of(text: str | None, survey: Survey) -> Inputs:
    """Return what ``--as-of`` asks for: a night, a JD, or ``vN``.

    Raises
    ------
    ConfigError
        If it is none of these.
    """
    if text is None:
        return Inputs()
    version = re.fullmatch(r"v(\d+)", text.strip())
    if version is not None:
        return Inputs(chunk=int(version[1]))
    try:
        return Inputs(until=as_of_jd(text, survey))
    except ConfigError as error:
        raise ConfigError(
            f"--as-of {error}, nor a version of the lake (v and the version of archive_files, "
            "as `ampel-spark tables` tells it)"
        ) from None


def recorded(run: Run) -> Inputs:
    """Return the inputs of a recorded run.

    Raises
    ------
    ConfigError
        If the run ended before it had any.
    """
    tables = run.inputs.tables
    names = ("alerts", "datapoints", "quarantine", "archive_files")
    if any(tables.get(name) is None for name in names):
        raise ConfigError(
            f"run {run.run_id} ended ({run.status}) before it had read the archive: "
            "run its job anew"
        )
    versions = Pinned(
        **{name: int(tables[name]) for name in names}, sightings=tables.get("sightings")
    )
    return Inputs(run.inputs.as_of_jd, None, versions, run.run_id)
