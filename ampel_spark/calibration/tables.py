"""Readers of the tables that rules name: changes by band, field and rcid, replaced photometry."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ampel_spark.archive.ids import stock_of
from ampel_spark.calibration.release import Replacement, RuleTable, digest
from ampel_spark.errors import ConfigError, nearest

__all__ = ["REPLACED", "load_replacement", "read_replacement", "read_rule_table"]

Array = npt.NDArray[Any]

_KEYS = {"band": pa.string(), "field": pa.int64(), "rcid": pa.int64(), "ccd": pa.int64()}
_VALUES = ("zero_point", "flux_scale", "error_scale", "error_floor", "flux_floor")

#: The columns that a table of replaced photometry can replace.
REPLACED = ("mag", "magerr", "limit_mag", "sign", "flux", "fluxerr", "zp")
_IDS = {"datapoint_id": pa.int64(), "stock": pa.int64(), "name": pa.string()}


def read_rule_table(path: Path) -> RuleTable:
    """Read a table of changes.

    Parameters
    ----------
    path : path
        CSV (lines at its head may begin with ``#``) or Parquet: one or more of ``band``, ``field``,
        ``rcid`` and ``ccd``, one or more of ``zero_point``, ``flux_scale``, ``error_scale``,
        ``error_floor`` and ``flux_floor``.

    Raises
    ------
    ConfigError
        If the table cannot be read, has a value out of range, or has two rows for one key.
    """
    table = _read(path, _KEYS, _VALUES)
    keys, values = _present(table, _KEYS), _present(table, _VALUES)
    if not keys or not values:
        raise ConfigError(
            f"{path} needs a column to select by ({', '.join(_KEYS)}) and one that changes "
            f"({', '.join(_VALUES)}); it has {', '.join(table.column_names)}"
        )
    if "ccd" in keys and "rcid" in keys:
        raise ConfigError(f"{path} has ccd and rcid: give one of them")
    for name in keys:
        if table.column(name).null_count:
            raise ConfigError(f"{path}: {name} is missing in a row")
    if "ccd" in keys:
        table = _quadrants(table)
        keys = _present(table, _KEYS)
    table = table.sort_by([(name, "ascending") for name in keys])
    made_keys = {name: _column(table, name) for name in keys}
    _check_keys(path, made_keys)
    return RuleTable(
        str(path), made_keys, {name: _checked_change(path, table, name) for name in values}
    )


def read_replacement(path: Path) -> Replacement:
    """Read a table of replaced photometry, and return its hash and size.

    Parameters
    ----------
    path : path
        CSV or Parquet: ``datapoint_id``, one or more of `REPLACED`, and ``stock`` or ``name`` where
        one id belongs to several objects.

    Raises
    ------
    ConfigError
        If the table cannot be read, has a wrong value, or has a datapoint twice.
    """
    columns = _replacement(path)
    return Replacement(str(path), digest(columns), len(columns["datapoint_id"]))


@functools.lru_cache(maxsize=4)
def load_replacement(path: str, content_hash: str) -> dict[str, Array]:
    """Return a table of replaced photometry as columns, in order of datapoint_id and stock.

    A process reads a table once. Values that the table does not replace are NaN. ``stock`` is -1 in
    all rows if the table names no objects. Raise `ConfigError` if the file's hash is not
    `content_hash`, as its content has changed since the release was read.
    """
    columns = _replacement(Path(path))
    if digest(columns) != content_hash:
        raise ConfigError(f"{path} has changed since the calibration release was read: start again")
    return columns


def _replacement(path: Path) -> dict[str, Array]:
    table = _read(path, _IDS, REPLACED)
    if "datapoint_id" not in table.column_names or table.column("datapoint_id").null_count:
        raise ConfigError(f"{path} needs a datapoint_id in every row")
    there = _present(table, REPLACED)
    if not there:
        raise ConfigError(f"{path} replaces nothing: give it one of {', '.join(REPLACED)}")
    ids, stocks = _column(table, "datapoint_id"), _stocks(path, table)
    order = np.lexsort((stocks, ids))
    ids, stocks = ids[order], stocks[order]
    twice = (ids[1:] == ids[:-1]) & (stocks[1:] == stocks[:-1])
    if twice.any():
        raise ConfigError(f"{path} has datapoint {ids[1:][twice][0]} twice")
    columns = {name: _checked_value(path, name, _column(table, name)[order]) for name in there}
    return {"datapoint_id": ids, "stock": stocks} | columns


def _stocks(path: Path, table: pa.Table) -> Array:
    """Return the object of each row; -1 in all rows if the table names no objects."""
    if "stock" in table.column_names:
        return _column(table, "stock")
    if "name" not in table.column_names:
        return np.full(len(table), -1, np.int64)
    words = table.column("name").combine_chunks().dictionary_encode()
    try:
        known = np.array([stock_of(str(w)) for w in words.dictionary.to_pylist()], np.int64)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; other objects go by a column 'stock'") from None
    stocks: Array = known[np.asarray(words.indices)]
    return stocks


def _checked_value(path: Path, name: str, values: Array) -> Array:
    """Return a column of replaced values; raise `ConfigError` if one of them is impossible."""
    if np.isinf(values).any():
        raise ConfigError(f"{path}: {name} is infinite in a row")
    if name in ("magerr", "fluxerr") and (values <= 0).any():
        raise ConfigError(f"{path}: {name} is not positive in a row")
    if name == "sign" and not np.isin(values[~np.isnan(values)], (-1, 1)).all():
        raise ConfigError(f"{path}: sign is neither 1 nor -1 in a row")
    return values


def _check_keys(path: Path, keys: dict[str, Array]) -> None:
    """Raise `ConfigError` if two neighbouring rows have the same keys."""
    same = np.logical_and.reduce([column[1:] == column[:-1] for column in keys.values()])
    if same.any():
        row = ", ".join(f"{name} {column[1:][same][0]}" for name, column in keys.items())
        raise ConfigError(f"{path} has two rows for {row}")


def _checked_change(path: Path, table: pa.Table, name: str) -> Array:
    """Return a column of changes; raise `ConfigError` if one of them is out of range."""
    column = _column(table, name)
    low, high = (-5.0, 5.0) if name == "zero_point" else (0.0, 100.0)
    good = (column >= low) & (column <= high)
    if name.endswith("scale"):
        good &= column > 0
    if not good.all():
        raise ConfigError(
            f"{path}: {name} is {column[~good][0]}; a number of {low:g} to {high:g} is needed"
        )
    return column


def _read(path: Path, keys: dict[str, pa.DataType], values: tuple[str, ...]) -> pa.Table:
    """Return a CSV or Parquet file whose columns are all among `keys` and `values`."""
    types = keys | dict.fromkeys(values, pa.float64())
    try:
        if path.suffix == ".parquet":
            table = pa.parquet.read_table(path)
        elif path.suffix == ".csv":
            data = path.read_bytes()
            while data.startswith(b"#"):
                data = data.partition(b"\n")[2]
            options = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
            table = pa.csv.read_csv(pa.BufferReader(data), convert_options=options)
        else:
            raise ConfigError(f"{path} is neither .csv nor .parquet")
        for name in table.column_names:
            if name not in types:
                raise ConfigError(f"{path}: unknown column {name!r}{nearest(name, types)}")
        table = table.cast(pa.schema([(name, types[name]) for name in table.column_names]))
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if not len(table):
        raise ConfigError(f"{path} has no rows")
    return table


def _present(table: pa.Table, names: Iterable[str]) -> list[str]:
    return [name for name in names if name in table.column_names]


def _quadrants(table: pa.Table) -> pa.Table:
    """Return the table with four rows for each CCD, one for each of its readout channels."""
    rows = np.repeat(np.arange(len(table)), 4)
    rcid = (_column(table, "ccd")[rows] - 1) * 4 + np.tile(np.arange(4), len(table))
    return table.take(pa.array(rows)).drop_columns("ccd").append_column("rcid", pa.array(rcid))


def _column(table: pa.Table, name: str) -> Array:
    column = table.column(name).combine_chunks()
    if pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    if pa.types.is_floating(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
    if column.null_count:
        raise ConfigError(f"column {name} is missing in a row")
    return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)
