"""Which lake a command is about."""

from __future__ import annotations

import os
from pathlib import Path

from ampel_spark.lake.marker import check_path
from ampel_spark.store import place

__all__ = ["lake_of"]


def lake_of(given: str | None, of_job: Path | None = None) -> Path:
    """Return the lake: ``--lake``, else ``AMPEL_SPARK_LAKE``, else the job's, else ``./lake``."""
    named = given or os.environ.get("AMPEL_SPARK_LAKE")
    lake = place(named).resolve() if named else of_job or Path.cwd() / "lake"
    check_path(lake)
    return lake
