"""The truth of a simulated archive, in a table of its own that no tier reads."""

from __future__ import annotations

from pathlib import Path

from ampel_spark.errors import ArchiveError
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.tables import Table, TableColumn

__all__ = ["TRUTH", "insert_truth"]

#: The table; its columns are those of the archive's own file.
TRUTH = "truth"

_TYPES = {
    "string": "string",
    "int64": "bigint",
    "int32": "int",
    "double": "double",
    "bool": "boolean",
}


def insert_truth(lake: Lake, archive: Path, run_id: str) -> int:
    """Put the truth of a simulated archive into the lake, and return the table's version.

    Parameters
    ----------
    lake : Lake
    archive : Path
        Folder of the archive, with ``truth.parquet``.
    run_id : str

    Raises
    ------
    ArchiveError
        If the archive's truth is missing.
    """
    import pyarrow.parquet as pq
    from pyspark.sql import functions as f

    from ampel_spark.lake.commits import insert

    path = archive / "truth.parquet"
    if not path.is_file():
        raise ArchiveError(f"{path} is missing; remove {archive} and run again to make it anew")
    columns = []
    for field in pq.read_schema(path):
        notes = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        unit = f" [{notes['unit']}]" if notes.get("unit") else ""
        columns.append(
            TableColumn(field.name, _TYPES[str(field.type)], notes.get("comment", "") + unit)
        )
    columns.append(TableColumn("archive", "string", "simulated archive it belongs to"))
    columns.append(TableColumn("run_id", "string", "run that wrote the row"))
    table = Table(
        TRUTH,
        "one simulated object, as it was made; no tier reads it",
        columns,
        ("archive", "stock"),
    )
    rows = lake.spark.read.parquet(str(path))
    rows = rows.withColumn("archive", f.lit(archive.name)).withColumn("run_id", f.lit(run_id))
    return insert(lake, table, rows, {"run_id": run_id})
