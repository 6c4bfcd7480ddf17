"""Export of candidates as CSV and Parquet files, for tools that do not read the lake.

The same candidates give the same bytes. NaN is written as null.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampel_spark.errors import ConfigError, nearest

__all__ = ["SAFE_CSV", "export", "write_csv", "write_parquet"]

#: Environment variable: mark texts that a spreadsheet would take for formulas by ``'`` before them.
SAFE_CSV = "AMPEL_SPARK_SAFE_CSV"

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(
    candidates: pa.Table | pd.DataFrame,
    path: Path,
    kind: str,
    *,
    run_id: str,
    units: Mapping[str, str] | None = None,
    descriptions: Mapping[str, str] | None = None,
) -> Path:
    """Write candidates to `path`, and return the path.

    Parameters
    ----------
    kind : str
        ``csv`` (see `write_csv`) or ``parquet`` (see `write_parquet`).
    path, candidates, run_id, units, descriptions
        As for `write_csv`.

    Raises
    ------
    ConfigError
        If `kind` is unknown.
    """
    writers = {"csv": write_csv, "parquet": write_parquet}
    if kind not in writers:
        raise ConfigError(f"there is no export {kind!r}{nearest(kind, writers)}")
    writers[kind](path, candidates, run_id=run_id, units=units, descriptions=descriptions)
    return path


def write_csv(
    path: Path,
    candidates: pa.Table | pd.DataFrame,
    *,
    run_id: str,
    units: Mapping[str, str] | None = None,
    descriptions: Mapping[str, str] | None = None,
) -> None:
    """Write a CSV file, and ``PATH-metadata.json`` with its run, types, units and meanings.

    The CSV has one header line, numbers with all digits, empty cells for null, and arrays as JSON.
    The metadata file has the form of the W3C's "CSV on the Web".

    Parameters
    ----------
    path : Path
        The file; an existing one is replaced in one step.
    candidates : pyarrow Table or pandas DataFrame
        The rows to write.
    run_id : str
        The run that selected them.
    units, descriptions : mapping of str to str, optional
        Unit and meaning of each column.
    """
    table = _table(candidates)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    columns = [column.to_pylist() for column in table.columns]
    writer.writerows([_cell(value) for value in row] for row in zip(*columns, strict=True))
    metadata = {
        "@context": "http://www.w3.org/ns/csvw",
        "url": path.name,
        "dc:source": run_id,
        "tableSchema": {
            "columns": [
                {
                    "name": field.name,
                    "datatype": _datatype(field.type),
                    "schema:unitText": (units or {}).get(field.name, ""),
                    "dc:description": (descriptions or {}).get(field.name, ""),
                }
                for field in table.schema
            ]
        },
    }
    _replace(path, text.getvalue().encode())
    sidecar = path.with_name(f"{path.name}-metadata.json")
    _replace(sidecar, (json.dumps(metadata, indent=1, ensure_ascii=False) + "\n").encode())


def write_parquet(
    path: Path,
    candidates: pa.Table | pd.DataFrame,
    *,
    run_id: str,
    units: Mapping[str, str] | None = None,
    descriptions: Mapping[str, str] | None = None,
) -> None:
    """Write a Parquet file with the run in its metadata, and units and meanings in its fields.

    Parameters are as for `write_csv`.
    """
    table = _table(candidates)
    fields = [
        field.with_metadata(
            {
                "unit": (units or {}).get(field.name, ""),
                "description": (descriptions or {}).get(field.name, ""),
            }
        )
        for field in table.schema
    ]
    schema = pa.schema(fields, metadata={"run_id": run_id})
    buffer = io.BytesIO()
    pq.write_table(table.cast(schema), buffer, compression="zstd")
    _replace(path, buffer.getvalue())


def _table(candidates: pa.Table | pd.DataFrame) -> pa.Table:
    if isinstance(candidates, pa.Table):
        known = [_known(column) for column in candidates.columns]
        return pa.table(known, candidates.schema.remove_metadata())
    table = pa.Table.from_pandas(candidates, preserve_index=False)
    return table.replace_schema_metadata(None)


def _known(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column with nulls for NaN, as for a DataFrame."""
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), None, column)


def _cell(value: Any) -> str | int:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        known = [None if isinstance(v, float) and np.isnan(v) else v for v in value]
        return json.dumps(known, ensure_ascii=False)
    text = value if isinstance(value, int) else str(value)
    if isinstance(value, str) and value[:1] in _FORMULA and os.environ.get(SAFE_CSV):
        return f"'{value}"
    return text


def _datatype(arrow: pa.DataType) -> str:
    if pa.types.is_boolean(arrow):
        return "boolean"
    if pa.types.is_integer(arrow):
        return "integer"
    if pa.types.is_floating(arrow):
        return "double"
    return "json" if pa.types.is_list(arrow) else "string"


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
