"""Searches for the rows of a table in a region, without Spark or on a Spark DataFrame.

Use `search` for one region and `around` for many circles, both without Spark; `in_region` and
`register` are for Spark. A search reads only the parts of a catalogue, or the files of ``alerts``,
that the region can touch; a table without ``hpx`` is read as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from ampel_spark.errors import ConfigError, LakeError, nearest
from ampel_spark.sky.healpix import merged
from ampel_spark.sky.matching import engine_for, match
from ampel_spark.sky.regions import Region, cones
from ampel_spark.sky.store import Stored, catalog_names, folder_of, is_stored

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["around", "in_region", "register", "search"]

# The largest number of ranges in a condition on files; more are merged.
_MOST = 16


def search(
    lake: str | Path,
    name: str,
    region: Region,
    columns: Sequence[str] | None = None,
    version: int | None = None,
    programids: Collection[int] | None = None,
) -> pa.Table:
    """Return the rows of a table or catalogue of a lake that lie in a region.

    Parameters
    ----------
    lake : path
        The lake's folder.
    name : str
        A table with ``ra`` and ``dec``, or a catalogue.
    region : Region
        The region, from `ampel_spark.sky.regions`.
    columns : sequence of str, optional
        The columns to return; by default all.
    version : int, optional
        The version to read; by default the newest.
    programids : collection of int, optional
        Data rights: the programmes whose rows are returned; by default all.

    Raises
    ------
    LakeError
        If there is no such table or version.
    ConfigError
        If the table has no such column, or no positions.

    Examples
    --------
    >>> import tempfile
    >>> from ampel_spark.sky.regions import cone
    >>> from ampel_spark.sky.store import add
    >>> lake = tempfile.TemporaryDirectory()
    >>> stars = {"ra": [10.0, 10.1, 200.0], "dec": [0.0, 0.0, 5.0], "mag": [17.0, 18.0, 9.0]}
    >>> catalog, new = add(lake.name, "stars", pa.table(stars))
    >>> search(lake.name, "stars", cone(10.0, 0.0, 600), ["mag"])["mag"].to_pylist()
    [18.0, 17.0]
    >>> around(lake.name, "stars", [10.0, 200.0], [0.0, 5.0], 60, ["mag"]).to_pylist()
    [{'cone': 0, 'distance': 0.0, 'mag': 17.0}, {'cone': 1, 'distance': 0.0, 'mag': 9.0}]
    >>> lake.cleanup()
    """
    from ampel_spark.lake.reading import dataset, table_names

    folder = folder_of(lake, name)
    if is_stored(folder):
        stored = Stored.open(folder, version)
        types = [*stored.types(), "hpx"]
        names = _columns(name, types, columns)
        rows = stored.in_ranges(region.ranges, [*dict.fromkeys(["ra", "dec", *names, "hpx"])])
    else:
        if name not in table_names(lake):
            known = [*table_names(lake), *catalog_names(lake)]
            raise LakeError(f"lake {lake} has no table or catalogue {name!r}{nearest(name, known)}")
        data = dataset(lake, name, version)
        types = data.schema.names
        if not {"ra", "dec"} <= set(types):
            raise ConfigError(f"table {name} has no positions (ra, dec): {', '.join(types)}")
        names = _columns(name, types, columns)
        where = _condition(region) if "hpx" in types else None
        if programids is not None and "programid" in types:
            seen = pc.field("programid").isin(sorted(programids))
            where = seen if where is None else where & seen
        rows = data.to_table(columns=[*dict.fromkeys(["ra", "dec", *names])], filter=where)
    ra, dec = (rows[n].combine_chunks().fill_null(np.nan).to_numpy() for n in ("ra", "dec"))
    return rows.filter(pa.array(region.contains(ra, dec))).select(names)


def around(
    lake: str | Path,
    name: str,
    ra: ArrayLike,
    dec: ArrayLike,
    radius: ArrayLike,
    columns: Sequence[str] | None = None,
    version: int | None = None,
    programids: Collection[int] | None = None,
) -> pa.Table:
    """Return the rows within a radius of each of many positions.

    Parameters
    ----------
    ra, dec : array-like with shape (N,)
        Positions, degrees.
    radius : float or array-like with shape (N,)
        Radii, arcsec.
    lake, name, columns, version, programids
        As for `search`.

    Returns
    -------
    pyarrow.Table
        ``cone`` (number of the position), ``distance`` [arcsec] and the columns, in order of cone
        and distance. A row in several cones is returned once for each.

    Raises
    ------
    LakeError, ConfigError
        As for `search`.
    """
    rows = search(lake, name, cones(ra, dec, radius), None if columns is None else
                  [*dict.fromkeys([*columns, "ra", "dec"])], version, programids)  # fmt: skip
    rows_ra, rows_dec = (rows[n].combine_chunks().to_numpy() for n in ("ra", "dec"))
    pairs = match(
        ra, dec, rows_ra, rows_dec, radius, how="all", engine=engine_for(np.size(ra), len(rows_ra))
    )
    found = rows.take(pairs.row)
    if columns is not None:
        found = found.select(list(columns))
    found = found.add_column(0, "distance", pa.array(pairs.distance))
    return found.add_column(0, "cone", pa.array(pairs.left))


def in_region(rows: DataFrame, region: Region, ra: str = "ra", dec: str = "dec") -> DataFrame:
    """Return the rows of a Spark DataFrame whose position (columns `ra`, `dec`) is in a region.

    With a column ``hpx``, Spark reads fewer files.
    """
    from pyspark.sql import functions as f

    if "hpx" in rows.columns:
        rows = rows.where(f.expr(region.sql()))
    return rows.where(_holds(region)(rows[ra], rows[dec]))


def register(spark: SparkSession, name: str, region: Region) -> str:
    """Register a region as a function of SQL, ``name(ra, dec)``.

    Parameters
    ----------
    spark : SparkSession
        The session that gets the function.
    name : str
        The function's name.
    region : Region
        The region, from `ampel_spark.sky.regions`.

    Returns
    -------
    str
        A condition for rows with ``hpx``, ``ra`` and ``dec``: ranges of ``hpx``, by which Spark
        reads fewer files, and the function.

    Examples
    --------
    ::

        here = register(spark, "virgo", cone(187.7, 12.4, 6 * 3600))
        spark.sql(f"SELECT count(*) FROM delta.`{lake}/alerts` WHERE {here}")
    """
    spark.udf.register(name, _holds(region))
    return f"{region.sql()} AND {name}(ra, dec)"


def _holds(region: Region) -> Any:
    """Return a function of Spark that tests whether positions are in a region."""
    from pyspark.sql.pandas.functions import arrow_udf

    def holds(a: pa.Array, d: pa.Array) -> pa.Array:
        at = [np.asarray(pc.fill_null(v, np.nan), np.float64) for v in (a, d)]
        return pa.array(region.contains(*at))

    # Annotations are strings in this module, but Spark needs the types themselves.
    holds.__annotations__ = {"a": pa.Array, "d": pa.Array, "return": pa.Array}
    return arrow_udf(holds, "boolean")  # type: ignore[call-overload]


def _condition(region: Region) -> pc.Expression:
    hpx = pc.field("hpx")
    condition = pc.scalar(False)
    for first, stop in merged(region.ranges, _MOST).tolist():
        condition = condition | ((hpx >= first) & (hpx < stop))
    return condition


def _columns(name: str, there: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    for column in wanted or ():
        if column not in there:
            raise ConfigError(f"{name} has no column {column!r}{nearest(column, there)}")
    return [*there] if wanted is None else [*wanted]
