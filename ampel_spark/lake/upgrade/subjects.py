"""Format 3: results name their subject (`ampel_spark.t2.unit.Unit.subjects`).

Results of older versions have none and stay what they were: each of one state.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from deltalake import DeltaTable

from ampel_spark.lake.log import widen
from ampel_spark.lake.tables import result_table

__all__ = ["add_column"]


def add_column(root: Path, versions: Mapping[str, int], out: Callable[[str], None]) -> None:
    """Add the column `subject_id` to the tables of results that lack it.

    Parameters
    ----------
    root : Path
        The lake.
    versions : mapping of str to int
        Versions of its tables as they were found.
    out : callable
        Takes lines for the user.
    """
    column = next(c for c in result_table("", ()).columns if c.name == "subject_id")
    field = {
        "name": column.name,
        "type": "string",
        "nullable": True,
        "metadata": {"comment": column.comment},
    }
    for name in sorted(name for name in versions if name.startswith("t2_")):
        added = False
        while not added:
            there = DeltaTable(str(root / name))
            fields = json.loads(there.schema().to_json())["fields"]
            if column.name in [each["name"] for each in fields]:
                break
            schema = json.dumps({"type": "struct", "fields": [*fields, field]})
            added = widen(root / name, schema, there.version())
        if added:
            out(f"upgrade: {name}: column {column.name} added")
