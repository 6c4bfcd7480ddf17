"""A table of a lake, read when asked: as Arrow, pandas, a Spark DataFrame or a DuckDB relation."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.errors import ConfigError, SetupError
from ampel_spark.lake.lost import check_whole
from ampel_spark.lake.reading import check_columns, dataset, open_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyarrow.compute import Expression
    from pyarrow.dataset import Dataset
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["TableView", "as_pandas", "time_column"]

#: The time that ``as_of`` bounds: of an alert, and of the alert that first showed a datapoint.
_TIMES = {
    "alerts": "jd",
    "decisions": "jd",
    "datapoints": "first_alert_jd",
    "sightings": "first_alert_jd",
}


def time_column(table: str) -> str:
    """Return the column that says when a row of a table was known.

    Raises
    ------
    ConfigError
        If rows of this table have no such time.

    Examples
    --------
    >>> time_column("alerts")
    'jd'
    """
    if table not in _TIMES:
        raise ConfigError(
            f"table {table!r} has no time of the survey: as_of a night or JD goes with "
            f"{', '.join(_TIMES)}; name a version instead"
        )
    return _TIMES[table]


@dataclass(frozen=True)
class TableView:
    """Some rows and columns of a table, at one version. Nothing is read before it is asked for.

    Attributes
    ----------
    lake : Path
        Root of the lake.
    name : str
        The table.
    version : int
        Its version.
    names : tuple of str
        The columns.
    where : mapping of str to value or collection
        Rows: columns that have this value, or one of these values.
    until : (str, float) or None
        A column, and the largest value that rows have in it.

    Examples
    --------
    >>> import ampel_spark as aps
    >>> states = aps.open("lake").table("states", columns=["name", "n_detections"])
    >>> states.arrow().column_names
    ['name', 'n_detections']
    >>> len(states) == len(states.pandas())
    True
    """

    lake: Path
    name: str
    version: int
    names: tuple[str, ...]
    where: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    until: tuple[str, float] | None = None

    @classmethod
    def of(
        cls,
        lake: Path,
        name: str,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        until: tuple[str, float] | None = None,
    ) -> TableView:
        """Return a view of a table, its version and columns checked.

        Parameters
        ----------
        lake, name, where, until
            As attributes.
        version : int, optional
            By default the newest.
        columns : sequence of str, optional
            By default all.

        Raises
        ------
        LakeError
            If there is no such table, version or column.
        """
        table = open_table(lake, name, version)
        known = [field.name for field in table.schema().fields]
        names = tuple(known if columns is None else columns)
        check_columns(lake, name, [*names, *(where or {})], known)
        check_whole(lake / name, version)
        return cls(lake, name, table.version(), names, dict(where or {}), until)

    def __len__(self) -> int:
        rows: int = self._dataset().count_rows(filter=self._filter())
        return rows

    @property
    def meanings(self) -> dict[str, str]:
        """What each column means, with its unit in brackets.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> aps.open("lake").table("datapoints").meanings["mag"]
        'PSF magnitude of the difference, its sign apart [mag]'
        """
        fields = open_table(self.lake, self.name, self.version).schema().fields
        comments = {field.name: (field.metadata or {}).get("comment", "") for field in fields}
        return {name: str(comments[name]) for name in self.names}

    def arrow(self) -> pa.Table:
        """Return the rows as an Arrow table.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> lake = aps.open("lake")
        >>> public = lake.table("alerts", columns=["alert_id"], where={"programid": 1}).arrow()
        >>> public.num_rows < len(lake.table("alerts"))
        True
        """
        return self._dataset().to_table(columns=list(self.names), filter=self._filter())

    def pandas(self) -> pd.DataFrame:
        """Return the rows as a DataFrame; ids with nulls stay whole numbers (``Int64``).

        Examples
        --------
        >>> import ampel_spark as aps
        >>> frame = aps.open("lake").table("states").pandas()
        >>> bool((frame.n_detections > 0).all())
        True
        """
        return as_pandas(self.arrow())

    def spark(self, session: SparkSession | None = None) -> DataFrame:
        """Return the rows as a Spark DataFrame, read by the cluster.

        Parameters
        ----------
        session : SparkSession, optional
            One with Delta Lake; by default the project's own is started.
        """
        from pyspark.sql import functions as f

        if session is None:
            from ampel_spark.session import get_session

            session = get_session("ampel_spark")
        reader = session.read.format("delta").option("versionAsOf", self.version)
        rows = reader.load(str((self.lake / self.name).resolve()))
        for column, value in self.where.items():
            if value is None:
                rows = rows.where(f.col(column).isNull())
            elif _is_many(value):
                rows = rows.where(f.col(column).isin([*value]))
            else:
                rows = rows.where(f.col(column) == f.lit(value))
        if self.until is not None:
            rows = rows.where(f.col(self.until[0]) <= self.until[1])
        return rows.select(*self.names)

    def duckdb(self, connection: Any = None) -> Any:
        """Return the rows as a DuckDB relation, which reads no more than its query needs.

        Parameters
        ----------
        connection : duckdb.DuckDBPyConnection, optional
            By default DuckDB's own in memory.

        Raises
        ------
        SetupError
            If DuckDB is not installed: it is no part of what this package needs.
        """
        try:
            duckdb = import_module("duckdb")
        except ModuleNotFoundError:
            raise SetupError(
                f"table {self.name!r} as a DuckDB relation needs DuckDB: `pip install duckdb`"
            ) from None
        rows = self._dataset()
        wanted = self._filter()
        rows = rows if wanted is None else rows.filter(wanted)
        there = connection if connection is not None else duckdb.default_connection()
        return there.from_arrow(rows).project(", ".join(f'"{name}"' for name in self.names))

    def _dataset(self) -> Dataset:
        return dataset(self.lake, self.name, self.version)

    def _filter(self) -> Expression | None:
        import pyarrow.compute as pc

        parts = []
        for column, value in self.where.items():
            field = pc.field(column)
            if value is None:
                parts.append(field.is_null())
            else:
                parts.append(field.isin([*value]) if _is_many(value) else field == value)
        if self.until is not None:
            parts.append(pc.field(self.until[0]) <= self.until[1])
        found = None
        for part in parts:
            found = part if found is None else found & part
        return found


def as_pandas(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow table as a DataFrame; whole numbers with nulls stay whole numbers.

    Examples
    --------
    >>> import pyarrow as pa
    >>> as_pandas(pa.table({"id": [10**18 + 1, None]})).id[0]
    np.int64(1000000000000000001)
    """
    import pyarrow as pa

    frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True)
    gaps = [
        f.name for f in table.schema if pa.types.is_integer(f.type) and table[f.name].null_count
    ]
    return frame.astype(dict.fromkeys(gaps, "Int64"))


def _is_many(value: Any) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str | bytes)
