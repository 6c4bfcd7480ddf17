"""Decision sets: decisions that belong to no run, and how a run's own are found among them.

A set holds what one filter, under one trace and data rights, decided of alerts for one channel. It
grows by parts: new alerts bring a further part. A run's record names the set of each channel, the
last part that counts and the time up to which alerts count. Where a part decides anew of alerts
that an earlier part had (an earlier night came late, and the filter looks at all alerts of an
object), the latest part that counts is right.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.lake.parts import arrow_schema
from ampel_spark.lake.reading import read, table_names
from ampel_spark.lake.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

    from ampel_spark.lake.runs import Run

__all__ = ["DecisionRef", "decisions_of", "newest_parts", "references"]


@dataclass(frozen=True)
class DecisionRef:
    """The decisions of one channel of a run.

    Attributes
    ----------
    set_id : str
        The decision set.
    part : int
        The last part of it that counts.
    until_jd : float or None
        The time up to which alerts count, JD; None: all.
    """

    set_id: str
    part: int
    until_jd: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the reference as a mapping."""
        return {"set_id": self.set_id, "part": self.part, "until_jd": self.until_jd}

    @property
    def rows(self) -> pc.Expression:
        """Which rows of ``decisions`` these are, but for those that a later part replaces."""
        import pyarrow.compute as pc

        mine = (pc.field("set_id") == self.set_id) & (pc.field("part") <= self.part)
        return mine if self.until_jd is None else mine & (pc.field("jd") <= self.until_jd)

    def chosen(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return those of some rows of ``decisions`` that these are, one for each alert."""
        mine = [
            row
            for row in rows
            if row["set_id"] == self.set_id
            and row["part"] <= self.part
            and (self.until_jd is None or row["jd"] <= self.until_jd)
        ]
        latest = {row["alert_id"]: row for row in sorted(mine, key=lambda row: row["part"])}
        return list(latest.values())


def decisions_of(
    lake: str | Path,
    run: Run,
    channels: Collection[str] | None = None,
    where: pc.Expression | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Return the decisions of a run, read without Spark.

    Parameters
    ----------
    lake : path
        The root of the lake.
    run : Run
        The record of the run.
    channels : collection of str, optional
        The channels to read; by default all.
    where : pyarrow compute expression, optional
        Rows to read, by columns that every decision on an alert has alike (as ``stock``).
    columns : sequence of str, optional
        The columns to return; by default all.
    """
    import pyarrow as pa

    schema = arrow_schema(TABLES["decisions"])
    names = schema.names if columns is None else list(columns)
    found = [schema.empty_table().select(names)]
    there = "decisions" in table_names(lake)
    for channel, ref in sorted(run.decisions.items()):
        if there and (channels is None or channel in channels):
            rows = ref.rows if where is None else ref.rows & where
            own = read(lake, "decisions", list(dict.fromkeys((*names, "alert_id", "part"))), rows)
            found.append(newest_parts(own).select(names))
    return pa.concat_tables(found, promote_options="permissive")


def newest_parts(rows: pa.Table) -> pa.Table:
    """Return rows of one set, of each alert the row of the latest part; their order stays."""
    import numpy as np

    part, alert = rows["part"].to_numpy(), rows["alert_id"].to_numpy()
    if not len(part) or part.min() == part.max():
        return rows
    order = np.lexsort((part, alert))
    last = np.ones(len(order), bool)
    last[:-1] = alert[order[1:]] != alert[order[:-1]]
    return rows if last.all() else rows.take(np.sort(order[last]))


def references(value: Mapping[str, Mapping[str, Any]]) -> dict[str, DecisionRef]:
    """Return the references of a record, by channel."""
    return {channel: DecisionRef(**ref) for channel, ref in value.items()}
