"""The archive's tables with the columns that a survey declares: a struct under the survey's name.

What a lake has of a survey's columns stays, whether the survey's file still declares them or not:
rows that are written without them have nulls there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from ampel_spark.archive.reading.surveys import OwnColumn, Survey
from ampel_spark.archive.reading.ztf import alerts_table
from ampel_spark.errors import ArchiveError
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.parts import arrow_type
from ampel_spark.lake.reading import struct_columns
from ampel_spark.lake.tables import TABLES, Table, TableColumn

__all__ = ["ArchiveTables", "archive_tables"]


@dataclass(frozen=True)
class ArchiveTables:
    """The tables of an archive, as the packets of one survey are written to them.

    Attributes
    ----------
    survey : str
        What the tables call the survey: the name of its struct.
    alerts, datapoints, sightings : Table
        With the struct as their last column, if the survey has columns of its own.
    """

    survey: str
    alerts: Table
    datapoints: Table
    sightings: Table

    @property
    def points(self) -> pa.Field | None:
        """The struct of points; None where points have no columns of the survey's own."""
        last = self.datapoints.columns[-1]
        return pa.field(last.name, arrow_type(last.type)) if last.fields else None


def archive_tables(lake: Lake, survey: Survey) -> ArchiveTables:
    """Return the tables that packets of a survey go to.

    Raises
    ------
    ArchiveError
        If the survey declares a column that the lake has with another type.
    """
    label = survey.label
    points = _struct(lake, "datapoints", label, survey.columns.points)
    return ArchiveTables(
        label,
        _with(alerts_table(), _struct(lake, "alerts", label, survey.columns.alerts)),
        _with(TABLES["datapoints"], points),
        _with(TABLES["sightings"], points),
    )


def _with(table: Table, struct: TableColumn | None) -> Table:
    if struct is None:
        return table
    if struct.name in table.names:
        raise ArchiveError(
            f"survey {struct.name} declares columns, and {struct.name} is a column of"
            f" {table.name}: give the survey another name"
        )
    return replace(table, columns=(*table.columns, struct))


def _struct(
    lake: Lake, table: str, label: str, declared: Mapping[str, OwnColumn]
) -> TableColumn | None:
    fields = {c.name: c for c in struct_columns(lake.root, table).get(label, ())}
    for name, column in declared.items():
        known = fields.setdefault(name, TableColumn(name, column.type, column.comment))
        if known.type != column.type:
            raise ArchiveError(
                f"survey {label}: column {name} of its {_WHAT[table]} is {known.type} in lake"
                f" {lake.root} and {column.type} in the survey's file: keep the type, or declare it"
                " under another name"
            )
    if not fields:
        return None
    comment = f"what {label} says of its {_WHAT[table]} beside these columns"
    return TableColumn.struct(label, tuple(fields.values()), comment)


_WHAT = {"alerts": "alerts", "datapoints": "points"}
