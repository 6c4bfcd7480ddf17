"""Export of candidates to files, for tools that do not read the lake.

CSV, Parquet, ECSV, FITS and VOTable have them as they are; FITRES is SNANA's table, and ``sncosmo``
a folder with their light curves (`ampel_spark.t3.fitres`).

The same candidates give the same bytes. NaN is written as null.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.lightcurve import LightCurve
from ampel_spark.t3.fitres import fitres_text, light_curve_text

__all__ = [
    "FORMATS",
    "SAFE_CSV",
    "export",
    "replace_file",
    "table_bytes",
    "write_astropy",
    "write_csv",
    "write_fitres",
    "write_parquet",
    "write_sncosmo",
]

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
    curves: Callable[[], Mapping[str, LightCurve]] | None = None,
) -> Path:
    """Write candidates to `path`, and return the path.

    Parameters
    ----------
    kind : str
        ``csv``, ``parquet``, ``ecsv``, ``fits``, ``votable``, ``fitres`` or ``sncosmo``; see the
        functions `write_…`.
    curves : callable, optional
        Gives the light curves by state, which ``sncosmo`` writes.
    path, candidates, run_id, units, descriptions
        As for `write_csv`.

    Raises
    ------
    ConfigError
        If `kind` is unknown.
    """
    if kind == "sncosmo" and curves is not None:
        write_sncosmo(path, candidates, curves(), run_id)
        return path
    about = {"units": units, "descriptions": descriptions}
    if kind in FORMATS:
        write_astropy(path, candidates, kind, run_id=run_id, **about)
        return path
    writers = {"csv": write_csv, "parquet": write_parquet, "fitres": write_fitres}
    if kind not in writers:
        known = (*writers, *FORMATS, "sncosmo")
        raise ConfigError(f"there is no export {kind!r}{nearest(kind, known)}")
    writers[kind](path, candidates, run_id=run_id, **about)
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
    replace_file(path, text.getvalue().encode())
    sidecar = path.with_name(f"{path.name}-metadata.json")
    replace_file(sidecar, (json.dumps(metadata, indent=1, ensure_ascii=False) + "\n").encode())


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
    replace_file(path, buffer.getvalue())


def write_astropy(
    path: Path,
    candidates: pa.Table | pd.DataFrame,
    form: str,
    *,
    run_id: str,
    units: Mapping[str, str] | None = None,
    descriptions: Mapping[str, str] | None = None,
) -> None:
    """Write an ECSV, FITS or VOTable file, with units, meanings and the run in its head.

    Parameters
    ----------
    form : str
        One of `FORMATS`.
    path, candidates, run_id, units, descriptions
        As for `write_csv`.
    """
    table = _table(candidates)
    replace_file(path, table_bytes(table, form, run_id, units or {}, descriptions or {}))


def table_bytes(
    candidates: pa.Table,
    form: str,
    run_id: str,
    units: Mapping[str, str],
    descriptions: Mapping[str, str],
) -> bytes:
    """Return candidates as a file that astropy reads: what `write_astropy` writes.

    Lists are JSON in a text; what is absent is masked, and in FITS NaN or an empty text where the
    format knows nothing else.

    Parameters
    ----------
    candidates : Arrow table
    form : str
        One of `FORMATS`.
    run_id : str
        Stands in the head.
    units, descriptions : mapping of str to str
        Unit and meaning of columns.
    """
    from astropy.table import Column, MaskedColumn, Table

    table = Table(meta={"run_id": run_id})
    for name, values in _table(candidates).to_pydict().items():
        known = [v if isinstance(v, list) else v is not None for v in values]
        unit, text = units.get(name) or None, descriptions.get(name)
        if any(isinstance(v, list) for v in values):
            words = ["" if v is None else str(_cell(v)) for v in values]
            table[name] = Column(words, unit=unit, description=text)
        else:
            filled = _filled(values)
            mask = [not good for good in known]
            table[name] = MaskedColumn(filled, mask=mask, unit=unit, description=text)
    return FORMATS[form](table)


def _ecsv(table: Any) -> bytes:
    written = io.StringIO()
    table.write(written, format="ascii.ecsv")
    return written.getvalue().encode()


def _fits(table: Any) -> bytes:
    from astropy.io import fits

    hdu = fits.table_to_hdu(_fit_for_fits(table))
    for i, column in enumerate(table.itercols(), start=1):
        if column.description:
            # a card has 68 characters, and no others than those of ASCII
            text = column.description.encode("ascii", "replace").decode()[:60]
            hdu.header[f"TCOMM{i}"] = text
    written = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(written)
    return written.getvalue()


def _fit_for_fits(table: Any) -> Any:
    """Return a table whose columns FITS can hold: numbers, truth values and texts of ASCII."""
    made = table.copy()
    for name in made.colnames:
        column = made[name]
        if column.dtype.kind in "OU":
            words = np.ma.filled(column, "") if hasattr(column, "mask") else column
            texts = [str(word).encode("ascii", "replace").decode() for word in words]
            made[name] = texts
        elif column.dtype.kind == "b" and getattr(column, "mask", np.zeros(1)).any():
            made[name] = np.ma.filled(column.astype(np.int16), -1)
    return made


def _votable(table: Any) -> bytes:
    from astropy.io.votable import from_table, writeto

    plain = table.copy()
    for name in plain.colnames:
        if plain[name].dtype.kind == "O":
            plain[name] = [str(word) for word in np.ma.filled(plain[name], "")]
    written = io.BytesIO()
    document = from_table(plain)
    document.get_first_table().description = f"run {table.meta['run_id']}"
    writeto(document, written)
    return written.getvalue()


#: What astropy writes, by its name in a job.
FORMATS: Mapping[str, Callable[[Any], bytes]] = {"ecsv": _ecsv, "fits": _fits, "votable": _votable}


def write_fitres(
    path: Path,
    candidates: pa.Table | pd.DataFrame,
    *,
    run_id: str,
    units: Mapping[str, str] | None = None,
    descriptions: Mapping[str, str] | None = None,
) -> None:
    """Write a FITRES table, SNANA's.

    Parameters are as for `write_csv`.
    """
    replace_file(path, fitres_text(_table(candidates), run_id, descriptions or {}).encode())


def write_sncosmo(
    path: Path,
    candidates: pa.Table | pd.DataFrame,
    curves: Mapping[str, LightCurve],
    run_id: str,
) -> None:
    """Write the light curves of candidates, a file each, as ``sncosmo.read_lc`` reads them.

    Parameters
    ----------
    path : Path
        A folder; its files are called ``NAME.dat``.
    candidates : pyarrow Table or pandas DataFrame
        With ``name`` and ``state_id``; numbers go into the heads of the files.
    curves : mapping of str to LightCurve
        By state.
    run_id : str
    """
    for row in _table(candidates).to_pylist():
        facts = {k: v for k, v in row.items() if not isinstance(v, list)} | {"run_id": run_id}
        name = re.sub(r"[^\w.+-]", "_", str(row["name"]))
        text = light_curve_text(curves[row["state_id"]], facts)
        replace_file(path / f"{name}.dat", text.encode())


def _filled(values: list[Any]) -> list[Any]:
    """Return values with something of their kind for null, which is masked."""
    kind = next((type(v) for v in values if v is not None), float)
    return [kind() if v is None else v for v in values]


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


def replace_file(path: Path, content: bytes) -> Path:
    """Write a file in one step, and return its path: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
    return path
