"""Columns of candidates against those that somebody published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from pydantic import Field

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.t3.figures import COLOURS
from ampel_spark.t3.sample import Sample
from ampel_spark.t3.unit import Message, Output, Plot, Rows, T3Unit
from ampel_spark.t3.units.scatter import form_for
from ampel_spark.tabular import format_of, read_file

__all__ = ["PublishedComparison"]

Array = npt.NDArray[Any]


class PublishedComparison(T3Unit):
    """Differences of columns from a published table, object by object."""

    file: Path
    "The published table: CSV, ECSV, FITS, Parquet or text with a head."
    name: str
    "Its column with the objects' names."
    columns: Annotated[dict[str, str], Field(min_length=1)]
    "Columns to compare: ours, a column of the selection or an expression, and the table's."
    errors: dict[str, str] = Field(default_factory=dict)
    "Published errors, by our column: the differences are shown in these too."

    def reads(self) -> Sequence[str]:
        """Return the expressions that it takes of the sample."""
        return [*self.columns]

    def process(self, sample: Sample) -> Iterator[Output]:
        """Yield the differences, their medians and widths, and a plot of each column."""
        kind = format_of(self.file)
        if kind is None:
            raise ConfigError(f"{self.file} is no table by its name: call it .csv, .fits or .ecsv")
        read = read_file(self.file, kind, {self.name}).table
        table = {column: read[column].to_pylist() for column in read.column_names}
        wanted = [self.name, *self.columns.values(), *self.errors.values()]
        for column in wanted:
            if column not in table:
                raise ConfigError(f"{self.file} has no column {column!r}{nearest(column, table)}")
        place = {str(name).strip(): i for i, name in reversed([*enumerate(table[self.name])])}
        ours = [i for i, name in enumerate(sample.names) if name in place]
        theirs = [place[sample.names[i]] for i in ours]
        yield Message(f"{len(ours)} of {len(sample)} candidates are in {self.file.name}")
        if not ours:
            return
        rows: dict[str, Any] = {"name": [sample.names[i] for i in ours]}
        plots = []
        for label, column in self.columns.items():
            mine = sample.values(label)[ours]
            published = _numbers(table[column])[theirs]
            key = label.replace(".", "_") if label.replace(".", "").isidentifier() else column
            rows |= {key: mine, f"{key}_published": published}
            delta = (mine - published)[np.isfinite(mine - published)]
            if not len(delta):
                yield Message(f"{label}: nothing to compare")
                continue
            width = 1.4826 * np.median(np.abs(delta - np.median(delta)))
            text = f"{label}: median difference {np.median(delta):+.4g}, robust width {width:.3g}"
            if label in self.errors:
                sigma = _numbers(table[self.errors[label]])[theirs]
                with np.errstate(invalid="ignore", divide="ignore"):
                    pulls = (mine - published) / sigma
                most = np.nanmax(np.abs(pulls[np.isfinite(pulls)]), initial=0.0)
                text += f", at most {most:.2g} σ"
            yield Message(text)
            plots.append((label, column, mine, published))
        yield Rows(rows)
        for label, column, mine, published in plots:
            caption = f"{label} less the published {column}, of {len(mine)} objects"
            yield Plot(f"published_{column}", _drawing(label, column, mine, published), caption,
                       form=form_for(len(mine)))  # fmt: skip


def _drawing(label: str, column: str, mine: Array, published: Array) -> Any:
    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.16, 0.16, 0.8, 0.78))
        axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
        axes.plot(published, mine - published, "o", markersize=3, color=COLOURS["accent"],
                  markeredgewidth=0, alpha=0.8)  # fmt: skip
        axes.set_xlabel(f"published {column}")
        axes.set_ylabel(f"{label} − published")

    return draw


def _numbers(values: Any) -> Array:
    """Return a column as numbers, NaN for what is none."""
    found = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        try:
            found[i] = float(value)
        except (TypeError, ValueError):
            continue
    return found
