"""Formats of archive files: what reads each of them. A new format is one entry of `FORMATS`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ampel_spark.archive.reading.files import PATTERNS

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True)
class Format:
    """A format, as ``reader`` in a survey's settings names it.

    Attributes
    ----------
    reads : str
        Module and function that read a file. A function takes path, survey, `files.Digest` and the
        schema of Avro packets; it yields `rows.Packet` objects and rows of other kinds.
    patterns : tuple of str
        Patterns that names of such files fit, see `files.fits`.
    section : str or None
        Section that the survey's settings must have.
    is_whole : bool
        The file is hashed before it is read, because it is read from its end on, or by a library
        that takes its path.
    is_batched : bool
        The function takes paths, schema and the survey's own columns, and yields batches by itself.
    """

    reads: str
    patterns: tuple[str, ...] = PATTERNS
    section: str | None = None
    is_whole: bool = False
    is_batched: bool = False

    def function(self) -> Callable[..., Any]:
        """Return what reads a file."""
        module, name = self.reads.split(":")
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return found


#: Formats by the name that ``reader`` has in a survey's settings.
FORMATS = {
    "ztf_avro": Format("ampel_spark.archive.reading.packets:read_batches", is_batched=True),
    "ztf_parquet": Format(
        "ampel_spark.archive.reading.parquet:read_alerts",
        patterns=("*.parquet", "*.pq"), is_whole=True,
    ),
    "photometry": Format(
        "ampel_spark.archive.reading.photometry:read_objects",
        patterns=(), section="photometry", is_whole=True,
    ),
    "packets": Format(
        "ampel_spark.archive.reading.parquet:read_alerts",
        patterns=(*PATTERNS, "*.parquet", "*.pq"), section="packets", is_whole=True,
    ),
}  # fmt: skip
