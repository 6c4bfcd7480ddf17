"""What a survey declares for its alerts and points, as structs of Arrow.

A value that is null or NaN is null, and a struct of nulls is null itself: then it costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from ampel_spark.archive.reading.surveys import OwnColumn, OwnColumns
from ampel_spark.lake.parts import arrow_type

__all__ = ["NONE", "OWN", "OwnTypes", "as_struct", "own_array", "own_types"]

#: The struct's name in batches of packets and in their points; in tables it is the survey's.
OWN = "own_columns"


class OwnTypes(NamedTuple):
    """The structs that hold the columns of alerts and of points; None where none are declared."""

    alerts: pa.StructType | None
    points: pa.StructType | None


#: Those of a survey that declares nothing.
NONE = OwnTypes(None, None)


def own_types(columns: OwnColumns) -> OwnTypes:
    """Return the structs that hold the columns that a survey declares."""
    return OwnTypes(_struct(columns.alerts), _struct(columns.points))


def _struct(columns: Mapping[str, OwnColumn]) -> pa.StructType | None:
    fields = [(name, arrow_type(column.type)) for name, column in columns.items()]
    return pa.struct(fields) if fields else None


def own_array(rows: Sequence[Mapping[str, Any]], kind: pa.StructType) -> pa.StructArray:
    """Return values by row, as `values.own_values` gives them, as a struct.

    Raises
    ------
    ValueError
        If a row has a name that is not declared, or a value that its column cannot hold.
    """
    known = {field.name for field in kind}
    for row in rows:
        if not known.issuperset(row):
            raise ValueError(f"no column {', '.join(sorted({*row} - known))} is declared")
    return pa.array([row or None for row in rows], kind)


def as_struct(values: pa.Array, kind: pa.StructType) -> pa.StructArray:
    """Return a struct in the order of another that has its fields, and maybe more."""
    if values.type == kind:
        return values
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), kind)
    there = {field.name: i for i, field in enumerate(values.type)}
    children = [
        values.field(there[field.name])
        if field.name in there
        else pa.nulls(len(values), field.type)
        for field in kind
    ]
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=values.is_null())
