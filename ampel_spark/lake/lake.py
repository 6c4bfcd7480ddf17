"""A lake: Delta tables under one root, with a marker, versions, locks and commits.

What others rely on is here in one place: tables are made with retention that time travel needs,
keyed rows enter once (a rerun adds nothing twice), and every commit carries its run in the user
metadata. Commits need no lock (`ampel_spark.lake.commits`). What lasts longer than a commit, as an
ingest, holds a lock of the lake, which is a file lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ampel_spark.errors import LakeError
from ampel_spark.lake.log import CHECKPOINTS, create, newest_version, widen
from ampel_spark.lake.marker import mark
from ampel_spark.lake.reading import check_version, open_table, read
from ampel_spark.lake.tables import TABLES, Table
from ampel_spark.store import NOT_YET, Remote, delta_table, place

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

__all__ = ["Lake", "table_properties"]

# Delta refuses time travel beyond deletedFileRetentionDuration (7 days by default), and drops log
# entries after logRetentionDuration: a pinned version must outlive both.
_PROPERTIES = {
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.enableInCommitTimestamps": "true",
    "delta.checkpointInterval": str(CHECKPOINTS),
}


def table_properties(table: Table) -> dict[str, str]:
    """Return the properties that a table is made with."""
    return _PROPERTIES | {"delta.dataSkippingStatsColumns": ",".join(table.extremes)}


class Lake:
    """The Delta tables under one root.

    Parameters
    ----------
    spark : SparkSession or None
        None where only Arrow tables are read and written.
    root : path
        Folder of the lake; made, with its marker, where it is absent or empty.

    Raises
    ------
    LakeError
        If `root` is something else than a lake of this format.
    """

    def __init__(self, spark: SparkSession | None, root: str | Path) -> None:
        self._spark = spark
        self.root = place(root).resolve()
        # Tables that were seen to be as they should be: looking again costs as much as writing.
        self._ensured: dict[str, Table] = {}
        self._noted: dict[str, frozenset[str]] = {}
        self._logs: dict[str, tuple[int | None, Any, Any]] = {}
        mark(self.root)

    @property
    def spark(self) -> SparkSession:
        """The session that reads and writes DataFrames."""
        if isinstance(self.root, Remote):
            raise LakeError(f"lake {self.root} {NOT_YET}")
        if self._spark is None:
            raise RuntimeError(f"lake {self.root} was opened without Spark")
        return self._spark

    def path(self, name: str) -> str:
        """Return the folder of a table."""
        return str(self.root / name)

    def has(self, name: str) -> bool:
        """Say whether a table exists."""
        return self.version(name) is not None

    def version(self, name: str) -> int | None:
        """Return the newest version of a table; None where it does not exist."""
        return newest_version(self.path(name))

    def ensure(self, table: Table) -> None:
        """Make a table where it is absent, and add columns that it lacks."""
        if self._ensured.get(table.name) == table and self.has(table.name):
            return
        self._ensure(table)
        self._ensured[table.name] = table

    def noted(self, table: Table) -> frozenset[str]:
        """Return the columns of which every commit to a table has to note something."""
        self.ensure(table)
        return self._noted[table.name]

    def _ensure(self, table: Table) -> None:
        folder = self.path(table.name)
        while not self.has(table.name):
            create(folder, table.schema().json(), table.comment, table_properties(table))
        there = open_table(self.root, table.name)
        configured = there.metadata().configuration.get("delta.dataSkippingStatsColumns", "")
        self._noted[table.name] = frozenset(configured.split(",")) - {""}
        # Another writer may widen the table at the same time.
        while (wider := _wider(there, table)) and not widen(folder, wider, there.version()):
            there = open_table(self.root, table.name)

    def read(self, name: str, version: int | None = None) -> DataFrame:
        """Return a table, at a version where one is given.

        Raises
        ------
        LakeError
            If there is no such table, or no such version any more.
        """
        if not self.has(name):
            raise LakeError(f"lake {self.root} has no table {name!r} yet")
        reader = self.spark.read.format("delta")
        if version is None:
            return reader.load(self.path(name))
        from pyspark.errors import AnalysisException

        check_version(self.root, name, version)
        try:
            return reader.option("versionAsOf", version).load(self.path(name))
        except AnalysisException as error:
            if error.getCondition() != "DELTA_VERSION_NOT_FOUND":
                raise
            there = (error.getMessageParameters() or {}).values()
            raise LakeError(
                f"lake {self.root} has no version {version} of table {name!r}: it goes from "
                f"{' to '.join([*there][1:])}"
            ) from None

    def between(
        self, table: Table, columns: Sequence[str], by: str, low: float | str, high: float | str
    ) -> DataFrame:
        """Return those rows of a table that have `by` from `low` to `high`.

        Files are chosen by their statistics without Spark, whose own choice costs some seconds of
        planning on a table of many columns.
        """
        from pyspark.sql import functions as f
        from pyspark.sql.types import StructType

        names = dict.fromkeys((*columns, by))
        schema = StructType([field for field in table.schema() if field.name in names])
        files = self.files_between(table.name, by, low, high)
        if not files:
            return self.spark.createDataFrame([], schema).select(*columns)
        rows = self.spark.read.schema(schema).parquet(*files)
        return rows.where(f.col(by).between(low, high)).select(*columns)

    def files_between(self, name: str, by: str, low: float | str, high: float | str) -> list[str]:
        """Return the files of a table that may hold rows with `by` from `low` to `high`."""
        import pyarrow.compute as pc

        if not self.has(name):
            return []
        actions = self.files(name)
        if f"min.{by}" in actions.column_names:
            # A file of which nothing is known is read.
            least, most = (pc.fill_null(actions[f"{m}.{by}"], v)
                           for m, v in (("min", low), ("max", high)))  # fmt: skip
            near = pc.and_(pc.less_equal(least, high), pc.greater_equal(most, low))
            actions = actions.filter(near)
        return [f"{self.path(name)}/{path}" for path in actions["path"].to_pylist()]

    def files(self, name: str) -> pa.Table:
        """Return the files of a table and their statistics; only what is new of its log is read."""
        import pyarrow as pa

        newest = self.version(name)
        version, there, actions = self._logs.get(name) or (None, delta_table(self.path(name)), None)
        if version != newest:
            there.update_incremental()
            if "deletionVectors" in (there.protocol().reader_features or ()):
                raise LakeError(f"table {name}: deletion vectors are on; switch them off")
            actions = pa.table(there.get_add_actions(flatten=True))
            self._logs[name] = (newest, there, actions)
        return actions

    def arrow(
        self, name: str, columns: Sequence[str] | None = None, version: int | None = None
    ) -> pa.Table:
        """Return a small table, read without Spark."""
        return read(self.root, name, columns, version=version)

    def checkpoint(self, name: str) -> None:
        """Write down the state of a table, so that its log need not be read from the beginning."""
        delta_table(self.path(name)).create_checkpoint()

    def commits(self, name: str, since: int) -> list[dict[str, Any]]:
        """Return the user metadata of a table's commits after version `since`, newest first."""
        version = self.version(name)
        if version is None or version <= since:
            return []
        found = delta_table(self.path(name)).history(version - since)
        return [json.loads(commit.get("userMetadata") or "{}") for commit in found]

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock of the lake, for what lasts longer than a commit.

        There are ``archive``: one ingest at a time; and that under which runs pin versions.
        """
        if isinstance(self.root, Remote):
            raise LakeError(f"lake {self.root} {NOT_YET}")
        folder = self.root / "_locks"
        _make_folder(folder)
        with _opened(folder / name) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def staging(self, name: str) -> Iterator[str]:
        """Give a folder for what a step computes once and reads repeatedly; it goes at the end.

        What drivers that were killed left behind goes too: they no longer hold its lock.
        """
        staging = self.root / "_staging"
        _make_folder(staging)
        folder, mine = staging / name, staging / f"{name}.lock"
        for other in staging.glob("*.lock"):
            with other.open("w") as stream, contextlib.suppress(BlockingIOError):
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other.with_suffix(""), ignore_errors=True)
                other.unlink(missing_ok=True)
        with _opened(mine) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                yield str(folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                mine.unlink(missing_ok=True)

    def versions(self) -> dict[str, int]:
        """Return the newest version of every table that exists, by name."""
        names = [*TABLES, "alerts", *sorted(p.name for p in self.root.glob("t2_*"))]
        found = {name: self.version(name) for name in names}
        return {name: version for name, version in found.items() if version is not None}


def _make_folder(folder: Path) -> None:
    """Make a folder that is as open as the one it is in, whatever the umask of who comes first."""
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(PermissionError):  # somebody else made it meanwhile
            folder.chmod(folder.parent.stat().st_mode & 0o7777)


def _opened(path: Path) -> IO[str]:
    """Open a file that locks something: everybody may who may write in its folder."""
    stream = path.open("a")
    with contextlib.suppress(PermissionError):  # it is another's
        path.chmod(path.parent.stat().st_mode & 0o666)
    return stream


def _wider(there: DeltaTable, table: Table) -> str | None:
    """Return the schema [JSON] of a table with the columns that it lacks; None if it lacks none.

    Raises
    ------
    LakeError
        If a column has another type.
    """
    from pyspark.sql.types import StructType

    schema = StructType.fromJson(json.loads(there.schema().to_json()))
    merged = _merged(schema, table.schema(), f"table {table.name}: column ")
    return None if merged == schema else merged.json()


def _merged(there: StructType, wanted: StructType, where: str) -> StructType:
    """Return columns with those that they lack; structs with their fields merged likewise.

    Raises
    ------
    LakeError
        If a column has another type.
    """
    from pyspark.sql.types import StructField, StructType

    new = {column.name: column for column in wanted}
    merged = []
    for column in there:
        other = new.pop(column.name, column)
        one, two = column.dataType, other.dataType
        if isinstance(one, StructType) and isinstance(two, StructType):
            fields = _merged(one, two, f"{where}{column.name}.")
            column = StructField(column.name, fields, True, column.metadata)
        elif one != two:
            raise LakeError(
                f"{where}{column.name} is {one.simpleString()} in the lake and"
                f" {two.simpleString()} now; give the unit's entry in the job another name"
            )
        merged.append(column)
    return StructType([*merged, *new.values()])
