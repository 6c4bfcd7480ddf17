"""Points of any columns: a colour-magnitude diagram, and a corner plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from pydantic import Field

from ampel_spark.t3.figures import COLOURS
from ampel_spark.t3.sample import Sample
from ampel_spark.t3.unit import Message, Output, Plot, T3Unit

__all__ = ["ColourMagnitude", "CornerPlot", "form_for", "label_of"]

Array = npt.NDArray[Any]

#: More points than these are a picture: a drawing would have a mark for each.
_MOST = 3_000
_GROUPS = (COLOURS["accent"], COLOURS["band-r"], COLOURS["band-g"], COLOURS["band-u"],
           COLOURS["band-y"], COLOURS["band-i"], COLOURS["band-other"])  # fmt: skip


def form_for(n: int) -> str:
    """Return the form of a plot of so many points."""
    return "svg" if n <= _MOST else "png"


def label_of(sample: Sample, expression: str) -> str:
    """Return the label of an axis: the expression, with its unit of measure where it has one."""
    unit = sample.units.get(expression, "")
    return f"{expression} [{unit}]" if unit else expression


class ColourMagnitude(T3Unit):
    """A magnitude against a colour, the bright ones above; any two columns will do."""

    colour: str
    "What is on the horizontal axis: a column of the selection, or an expression."
    magnitude: str
    "What is on the vertical axis, which grows downwards."
    colour_err: str | None = None
    "Errors of the colour."
    magnitude_err: str | None = None
    "Errors of the magnitude."
    by: str | None = None
    "A text by which points have their colour, such as a type."
    invert: bool = True
    "Whether the vertical axis grows downwards."

    def reads(self) -> Sequence[str]:
        """Return the expressions that it takes of the sample."""
        named = (self.colour, self.magnitude, self.colour_err, self.magnitude_err, self.by)
        return [text for text in named if text is not None]

    def process(self, sample: Sample) -> Iterator[Output]:
        """Yield the diagram."""
        x, y = sample.values(self.colour), sample.values(self.magnitude)
        good = np.isfinite(x) & np.isfinite(y)
        if not good.any():
            yield Message(f"no candidate has both {self.colour} and {self.magnitude}")
            return
        errors = [
            None if text is None else np.nan_to_num(np.abs(sample.values(text)))
            for text in (self.colour_err, self.magnitude_err)
        ]
        groups = _groups(sample, self.by, good)

        def draw(figure: Figure) -> None:
            axes = figure.add_axes((0.14, 0.15, 0.83, 0.8))
            for (word, mine), colour in zip(groups, _colours(len(groups)), strict=True):
                dx, dy = (None if e is None else e[mine] for e in errors)
                axes.errorbar(
                    x[mine], y[mine], dy, dx, fmt="o", markersize=3, linewidth=0.5, color=colour,
                    markeredgewidth=0, label=f"{word} ({mine.sum()})", alpha=0.8,
                )  # fmt: skip
            axes.set_xlabel(label_of(sample, self.colour))
            axes.set_ylabel(label_of(sample, self.magnitude))
            if self.invert:
                axes.invert_yaxis()
            if self.by is not None:
                axes.legend()

        lost = len(sample) - int(good.sum())
        caption = f"{self.magnitude} against {self.colour}, {int(good.sum())} candidates"
        caption += f" ({lost} without both)" if lost else ""
        yield Plot("colour_magnitude", draw, caption, form=form_for(int(good.sum())))


class CornerPlot(T3Unit):
    """Every column against every other, with the distribution of each."""

    columns: Annotated[tuple[str, ...], Field(min_length=2, max_length=8, strict=False)]
    "Columns of the selection, or expressions: two to eight."
    bins: Annotated[int, Field(ge=2, le=200)] = 20
    "Bins of each distribution."
    quantile: Annotated[float, Field(gt=0.5, le=1)] = 0.995
    "The axes span this share of the values, and what lies outside is counted in the caption."

    def reads(self) -> Sequence[str]:
        """Return the expressions that it takes of the sample."""
        return self.columns

    def process(self, sample: Sample) -> Iterator[Output]:
        """Yield the plot."""
        values = np.array([sample.values(text) for text in self.columns])
        good = np.isfinite(values).all(axis=0)
        values = values[:, good]
        if values.shape[1] < 2:
            yield Message(f"{values.shape[1]} candidates have all of {', '.join(self.columns)}")
            return
        ranges = [_range(row, self.quantile) for row in values]
        inside = np.all([(r >= a) & (r <= b) for r, (a, b) in zip(values, ranges, strict=True)], 0)
        n = len(self.columns)

        def draw(figure: Figure) -> None:
            grid = figure.subplots(n, n, squeeze=False)
            figure.subplots_adjust(0.13, 0.12, 0.98, 0.98, 0.06, 0.06)
            for i, j in np.ndindex(n, n):
                axes: Any = grid[i][j]
                if j > i:
                    axes.set_axis_off()
                    continue
                if i == j:
                    axes.hist(
                        values[i], self.bins, range=ranges[i], color=COLOURS["accent"], alpha=0.7
                    )
                    axes.set_yticks([])
                else:
                    axes.plot(values[j], values[i], "o", markersize=2, markeredgewidth=0,
                              color=COLOURS["accent"], alpha=0.5)  # fmt: skip
                    axes.set_ylim(*ranges[i])
                axes.set_xlim(*ranges[j])
                axes.tick_params(labelsize=7)
                axes.xaxis.set_tick_params(labelbottom=i == n - 1, rotation=45)
                axes.yaxis.set_tick_params(labelleft=j == 0 and i > 0)
                if i == n - 1:
                    axes.set_xlabel(label_of(sample, self.columns[j]))
                if j == 0 and i > 0:
                    axes.set_ylabel(label_of(sample, self.columns[i]))

        side = min(7.5, 1.6 * n + 0.8)
        outside = int((~inside).sum())
        lost = len(sample) - values.shape[1]
        caption = f"{', '.join(self.columns)} of {values.shape[1]} candidates"
        caption += f"; {outside} of them lie outside of an axis" if outside else ""
        caption += f"; {lost} lack a value" if lost else ""
        yield Plot("corner", draw, caption, (side, side), form_for(values.size * n // 2))


def _groups(sample: Sample, by: str | None, good: Array) -> list[tuple[str, Array]]:
    """Return words with masks of their candidates, the commonest first; few groups in all."""
    if by is None:
        return [("candidates", good)]
    words = np.array(["none" if word is None else str(word) for word in sample.values(by)], object)
    found, counts = np.unique(words[good].astype(str), return_counts=True)
    order = [str(word) for _, word in sorted(zip(-counts, found, strict=True))]
    shown = order[: len(_GROUPS) - 1] if len(order) > len(_GROUPS) else order
    groups = [(word, good & (words == word)) for word in shown]
    rest = good & ~np.isin(words.astype(str), shown)
    return [*groups, ("others", rest)] if rest.any() else groups


def _colours(n: int) -> Sequence[str]:
    return _GROUPS[:n]


def _range(values: Array, share: float) -> tuple[float, float]:
    low, high = np.quantile(values, [1 - share, share])
    room = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
    return float(low - room), float(high + room)
