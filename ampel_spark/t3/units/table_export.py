"""Candidates as a table of astronomy's formats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import Field

from ampel_spark.t3.export import table_bytes
from ampel_spark.t3.sample import Sample
from ampel_spark.t3.unit import File, Output, T3Unit

__all__ = ["TableExport"]


class TableExport(T3Unit):
    """Candidates as FITS, ECSV or VOTable, with units of measure and meanings."""

    formats: Annotated[
        tuple[Literal["fits", "ecsv", "votable"], ...], Field(min_length=1, strict=False)
    ] = ("fits",)
    "Formats to write."
    columns: dict[str, str] = Field(default_factory=dict)
    "Columns, label: expression; none: those of the selection."

    def reads(self) -> Sequence[str]:
        """Return the expressions that it takes of the sample."""
        return [*self.columns.values()]

    def process(self, sample: Sample) -> Iterator[Output]:
        """Yield a file for each format."""
        table = sample.table
        if self.columns:
            table = table.select(["rank", "name", "stock"])
            for label, text in self.columns.items():
                values = sample.values(text)
                kind = pa.string() if values.dtype == object else None
                table = table.append_column(label, pa.array(values, kind, from_pandas=True))
        run_id = "" if sample.run is None else sample.run.run_id
        for form in self.formats:
            data = table_bytes(table, form, run_id, sample.units, sample.meanings)
            ending = {"votable": "vot"}.get(form, form)
            yield File(f"{sample.name}.{ending}", data)
