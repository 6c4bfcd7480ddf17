"""Units of T3 by name, built with their parameters, and what makes their trace."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ampel_spark.classes import Kind, build_model, load_class, with_paths
from ampel_spark.errors import UnitError
from ampel_spark.t3.unit import T3Unit
from ampel_spark.trace import content_of, trace_id_of

__all__ = ["T3_UNITS", "build_t3", "find_t3", "t3_trace"]

#: The units that come with the package.
T3_UNITS = {
    "colour_magnitude": "ampel_spark.t3.units.scatter:ColourMagnitude",
    "corner_plot": "ampel_spark.t3.units.scatter:CornerPlot",
    "hubble_diagram": "ampel_spark.t3.units.hubble_diagram:HubbleDiagram",
    "packets": "ampel_spark.t3.units.packets:Packets",
    "published_comparison": "ampel_spark.t3.units.published:PublishedComparison",
    "table_export": "ampel_spark.t3.units.table_export:TableExport",
    "webhook": "ampel_spark.t3.units.webhook:Webhook",
}

_KIND = Kind("unit of t3", T3Unit, T3_UNITS)


def find_t3(spec: str, base: Path) -> type[T3Unit]:
    """Return the class of a unit of T3.

    Parameters
    ----------
    spec : str
        Name of a unit of the package, ``module:Class`` or ``path/file.py:Class``.
    base : Path
        Folder from which a relative path starts.

    Raises
    ------
    UnitError
        If there is no such unit, its module fails on import, or it defines no `process`.
    """
    cls = load_class(_KIND, spec, base)
    if cls.process is T3Unit.process:
        raise UnitError(f"unit of t3 {spec!r} defines no process")
    return cls


def build_t3(spec: str, config: Mapping[str, Any] | None, base: Path) -> T3Unit:
    """Return a unit of T3 with its parameters, relative paths among them taken from `base`.

    Parameters
    ----------
    spec, base
        As for `find_t3`.
    config : mapping or None
        The parameters that differ from their defaults.

    Raises
    ------
    UnitError
        If there is no such unit.
    ConfigError
        If a parameter is unknown, missing or of the wrong type.
    """
    unit = build_model(find_t3(spec, base), config, f"unit of t3 {spec!r}")
    placed: T3Unit = with_paths(unit, lambda path: (base / path).absolute())
    return placed


def t3_trace(unit: T3Unit, spec: str) -> tuple[str, dict[str, Any]]:
    """Return the trace of a unit of T3, and what it is the hash of.

    Raises
    ------
    UnitError
        If code or a file cannot be read, or a library is not installed.
    """
    content = content_of(unit, T3Unit, spec)
    return trace_id_of(content), content
