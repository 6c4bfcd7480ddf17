"""The tables of a lake, read without Spark.

Everything here goes through `deltalake` and Arrow, and starts no JVM.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ampel_spark.errors import LakeError, nearest
from ampel_spark.files import files_in
from ampel_spark.lake.log import newest_version
from ampel_spark.lake.lost import check_whole, explained, lost_files
from ampel_spark.lake.marker import MARKER, check_format
from ampel_spark.lake.tables import TableColumn
from ampel_spark.lake.whole import check_commits, check_sizes, cure
from ampel_spark.store import delta_table, place

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    from deltalake import DeltaTable
    from pyarrow.dataset import Dataset

__all__ = [
    "GONE",
    "TableInfo",
    "check_columns",
    "check_lake",
    "check_version",
    "dataset",
    "find_lake",
    "open_table",
    "read",
    "removed_versions",
    "stream",
    "struct_columns",
    "table_info",
    "table_names",
    "table_paths",
    "verified",
]

# Types that Delta calls otherwise than Spark SQL.
_SPARK = {"long": "bigint", "integer": "int"}

#: Note of a lake: the versions of tables that lost files.
GONE = "_removed.json"


@dataclass(frozen=True)
class TableInfo:
    """A table of the lake as it stands.

    Attributes
    ----------
    name, description : str
    rows, files, bytes : int
        Of its newest version: rows, data files, and their size.
    version : int
        The newest version, from 0.
    bytes_on_disk : int
        Of all versions that are kept.
    last_commit : datetime
        When the newest version was written, UTC.
    operation : str
        What wrote it.
    lost : int
        Data files of the newest version that are not there, or of another size.
    """

    name: str
    description: str
    rows: int
    files: int
    bytes: int
    version: int
    bytes_on_disk: int
    last_commit: datetime.datetime
    operation: str
    lost: int = 0

    @property
    def bytes_per_row(self) -> float | None:
        """Bytes of a row on disk: in ``datapoints``, of a datapoint; None without rows."""
        return self.bytes / self.rows if self.rows else None


def check_lake(lake: str | Path) -> Path:
    """Return the root of a lake.

    Raises
    ------
    LakeError
        If there is none, or it is of a format that this version does not read.
    """
    root = find_lake(lake)
    check_format(root)
    return root


def find_lake(lake: str | Path) -> Path:
    """Return the root of a lake of any format.

    Raises
    ------
    LakeError
        If there is none.
    """
    root = place(lake)
    cure = (
        "name another with --lake or AMPEL_SPARK_LAKE, or make one with `ampel-spark run JOB.yml`"
    )
    if not root.is_dir():
        raise LakeError(f"there is no lake at {root}: {cure}")
    marker = root / MARKER
    if not marker.is_file():
        what = "an empty folder" if not any(root.iterdir()) else f"no lake (it has no {MARKER})"
        raise LakeError(f"{root} is {what}: {cure}")
    return root


def table_names(lake: str | Path) -> list[str]:
    """Return the names of the tables that a lake has, sorted."""
    return sorted(log.parent.name for log in check_lake(lake).glob("*/_delta_log"))


def table_paths(lake: str | Path) -> list[str]:
    """Return the paths of all tables in a lake, sorted: catalogues have two, under ``catalogs``."""
    root = check_lake(lake)
    logs = [*root.glob("*/_delta_log"), *root.glob("catalogs/*/*/_delta_log")]
    return sorted(log.parent.relative_to(root).as_posix() for log in logs)


def open_table(lake: str | Path, name: str, version: int | None = None) -> DeltaTable:
    """Return a table as `deltalake` sees it.

    Parameters
    ----------
    lake : path
    name : str
        Folder under the lake's root.
    version : int, optional
        An earlier version of it.

    Raises
    ------
    LakeError
        If there is no such lake, table or version.
    """
    from deltalake.exceptions import DeltaError

    root = check_lake(lake)
    if not (root / name / "_delta_log").is_dir():
        raise LakeError(f"lake {root} has no table {name!r}{_absent(name, table_names(root))}")
    if version is not None:
        check_version(root, name, version)
        newest = newest_version(root / name)
        if newest is not None and not 0 <= version <= newest:
            raise LakeError(
                f"table {name!r} of lake {root} has no version {version}: "
                f"it goes from 0 to {newest}"
            )
    check_commits(root, name)
    try:
        table = delta_table(root / name, version)
    except DeltaError as error:
        check_whole(root / name)
        which = "" if version is None else f"version {version} of "
        # Its own words, without the places in its code.
        what = " ".join(re.split(r"\n\s*0: ", str(error))[0].split())
        raise LakeError(
            f"{which}table {name!r} of lake {root} cannot be read: {what}; {cure(root, name)}"
        ) from None
    if version is None and table.version() != newest_version(root / name):
        check_whole(root / name)  # a commit in between is lost
    return table


def removed_versions(root: Path) -> dict[str, list[int]]:
    """Return the versions that lost files to maintenance, by table."""
    note = root / GONE
    try:
        found: dict[str, list[int]] = json.loads(note.read_text()) if note.is_file() else {}
        return {name: [*map(int, versions)] for name, versions in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise LakeError(f"{note} is damaged ({error}): copy it again") from None


def check_version(root: Path, name: str, version: int) -> None:
    """Refuse a version that maintenance has taken files from.

    Raises
    ------
    LakeError
        If this is one.
    """
    if version in removed_versions(root).get(name, ()):
        raise LakeError(
            f"version {version} of table {name!r} of lake {root} cannot be read any more: "
            "its files were removed (`ampel-spark maintain`) when nothing pinned it"
        )


def read(
    lake: str | Path,
    name: str,
    columns: Sequence[str] | None = None,
    filters: pc.Expression | None = None,
    version: int | None = None,
) -> pa.Table:
    """Read a table.

    Parameters
    ----------
    lake : path
    name : str
    columns : sequence of str, optional
        Those to read; default all.
    filters : pyarrow compute expression, optional
        Rows to read, as ``pc.field("stock") == 1``; files are skipped by their statistics.
    version : int, optional

    Raises
    ------
    LakeError
        If there is no such lake, table, version or column.
    """
    data = dataset(lake, name, version)
    check_columns(lake, name, columns or (), data.schema.names)
    with explained(lake):
        return data.to_table(columns=list(columns) if columns is not None else None, filter=filters)


def check_columns(
    lake: str | Path, name: str, columns: Sequence[str], known: Sequence[str]
) -> None:
    """Refuse columns that a table does not have.

    Raises
    ------
    LakeError
        If there is one.
    """
    for column in columns:
        if column not in known:
            raise LakeError(
                f"table {name!r} of lake {lake} has no column {column!r}{nearest(column, known)}"
            )


def dataset(lake: str | Path, name: str, version: int | None = None) -> Dataset:
    """Return a table as an Arrow dataset, whose files are skipped by their statistics.

    Raises
    ------
    LakeError
        If there is no such lake, table or version.
    """
    root = place(lake)
    table = open_table(root, name, version)
    check_sizes(root, name, table)
    return verified(table.to_pyarrow_dataset(filesystem=files_in(root / name)))


def verified(data: Dataset) -> Dataset:
    """Return a dataset of Parquet files that verifies the sums of the pages that it reads."""
    from pyarrow import dataset as ds

    options = ds.ParquetFragmentScanOptions(pre_buffer=True, page_checksum_verification=True)
    form = ds.ParquetFileFormat(default_fragment_scan_options=options)
    fragments = [
        form.make_fragment(f.path, filesystem=f.filesystem,
                           partition_expression=f.partition_expression)
        for f in data.get_fragments()
    ]  # fmt: skip
    return ds.FileSystemDataset(fragments, data.schema, form, data.filesystem)


def stream(
    lake: str | Path,
    name: str,
    columns: Sequence[str],
    filters: pc.Expression | None = None,
    version: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table, as `read` returns them, with the memory of one row group.

    (A scan of Arrow's own reads ahead of who takes its batches, a gigabyte and more.)

    Parameters
    ----------
    lake, name, columns, filters, version
        As for `read`.

    Raises
    ------
    LakeError
        If there is no such lake, table or version.
    """
    data = dataset(lake, name, version)
    for file in data.get_fragments(filters):
        with explained(lake):
            groups = file.split_by_row_group(filters, data.schema)
        for group in groups:
            with explained(lake):
                rows = group.to_table(data.schema, columns=list(columns), filter=filters)
            yield from rows.to_batches()


def struct_columns(
    lake: str | Path, name: str, version: int | None = None
) -> dict[str, tuple[TableColumn, ...]]:
    """Return the structs of a table with their fields, by name; none where there is no table.

    In ``alerts`` and ``datapoints`` they are the columns that surveys declare, by survey.
    """
    if newest_version(place(lake) / name) is None:
        return {}
    table = open_table(lake, name, version)
    schema = json.loads(table.schema().to_json())
    return {
        column["name"]: tuple(
            TableColumn(
                field["name"],
                _SPARK.get(field["type"], field["type"]),
                field["metadata"].get("comment", ""),
            )
            for field in column["type"]["fields"]
        )
        for column in schema["fields"]
        if isinstance(column["type"], dict) and column["type"]["type"] == "struct"
    }


def table_info(lake: str | Path, name: str) -> TableInfo:
    """Return how large a table is and who wrote it last, from its log alone."""
    import pyarrow as pa

    table = open_table(lake, name)
    actions = pa.table(table.get_add_actions(flatten=True))
    rows = actions.column("num_records") if "num_records" in actions.column_names else None
    commit = table.history(1)[0]
    folder = place(lake) / name
    return TableInfo(
        name=name,
        description=table.metadata().description or "",
        rows=sum(rows.to_pylist()) if rows is not None and rows.null_count == 0 else table.count(),
        files=actions.num_rows,
        bytes=sum(actions.column("size_bytes").to_pylist()),
        version=table.version(),
        bytes_on_disk=sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
        last_commit=datetime.datetime.fromtimestamp(commit["timestamp"] / 1000, datetime.UTC),
        operation=str(commit.get("operation", "")),
        lost=len(lost_files(folder)),
    )


def _absent(name: str, names: Sequence[str]) -> str:
    """Return the cure for a table that is not there."""
    near = nearest(name, names)
    if "mean" in near:
        return near
    if name in ("alerts", "datapoints", "archive_files", "quarantine"):
        return ": nothing was ingested yet (`ampel-spark ingest PATH`)"
    if not names:
        return ": it is empty (`ampel-spark run JOB.yml` fills it)"
    if name == "truth":
        return ": only lakes of simulated archives have it"
    return f": no run has written it yet; there are {', '.join(names)}"
