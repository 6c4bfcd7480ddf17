"""The page of a grid of variations, and the covariance of distances as cosmology fits read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from ampel_spark.job.comparison.shift_plots import shift_plot
from ampel_spark.job.comparison.shifts import robust
from ampel_spark.t3.figures import for_page
from ampel_spark.t3.numbers import ABSENT, count, with_error
from ampel_spark.t3.pages import page, write_page

__all__ = ["Sample", "render_systematics", "write_covariance"]

Array = npt.NDArray[Any]

_ROWS = 100
#: Distance moduli stand before what they are made of.
_MU = "mu"


class Sample(Protocol):
    """What the page shows of a grid; see `ampel_spark.job.execution.systematics.Grid`."""

    @property
    def run_id(self) -> str: ...
    @property
    def names(self) -> Array: ...
    @property
    def nominal(self) -> Mapping[str, Array]: ...
    @property
    def variations(self) -> Sequence[Any]: ...


def render_systematics(grid: Sample, matrix: Array | None) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    grid : Sample
    matrix : ndarray with shape (M, M), optional
        Covariance of the distances [mag²].
    """
    parameters = sorted(grid.nominal, key=lambda name: name != _MU)
    shown = parameters[0]
    hops = {v.name: v.hops for v in grid.variations}
    anywhere = np.any([*hops.values()], axis=0)
    view = {
        "run_id": grid.run_id,
        "headline": f"{len(grid.variations)} variations of {count(len(grid.names))} objects",
        "facts": [
            ("objects", count(len(grid.names))),
            ("changed minimum somewhere", count(int(anywhere.sum()))),
            *([("√ mean diagonal", _millimag(_scale(matrix)))] if matrix is not None else []),
        ],
        "parameters": [_labelled(name) for name in parameters],
        "variations": [_row(grid, v, parameters) for v in grid.variations],
        "covariance": None if matrix is None else _told(matrix),
        "distances": matrix is not None,
        "shown": shown,
        "plots": [_plot(i, grid, v, shown) for i, v in enumerate(grid.variations)],
        "hoppers": [
            (grid.names[i], ", ".join(name for name, h in hops.items() if h[i]))
            for i in np.flatnonzero(anywhere)[:_ROWS]
        ],
    }
    return page("systematics.html", view)


def write_covariance(path: Path, matrix: Array) -> None:
    """Write a covariance as cosmology fits read it: its size, then its values, one to a line.

    This is the form of Pantheon+ (Brout et al. 2022, arXiv:2202.04077).
    """
    lines = [str(len(matrix)), *(repr(float(value)) for value in matrix.ravel())]
    write_page(path, "\n".join(lines) + "\n")


def _row(grid: Sample, varied: Any, parameters: Sequence[str]) -> dict[str, Any]:
    shifts = {name: varied.values[name] - grid.nominal[name] for name in parameters}
    first = parameters[0]
    lost = np.isfinite(grid.nominal[first]) & ~np.isfinite(varied.values[first])
    return {
        "name": varied.name,
        "what": varied.what,
        "part": _millimag(_root_mean_square(varied.weight * shifts[first])),
        "medians": [with_error(*robust(s)).replace("± ", "±\u00a0") for s in shifts.values()],
        "hops": int(varied.hops.sum()),
        "lost": int(lost.sum()),
        "computed": ", ".join(f"{u} {n} of {of}" for u, (n, of) in varied.computed.items()),
    }


def _labelled(name: str) -> str:
    return f"{name} [mag]" if name == _MU else name


def _plot(i: int, grid: Sample, varied: Any, shown: str) -> dict[str, Any]:
    before, after = grid.nominal[shown], varied.values[shown]
    both = np.isfinite(before) & np.isfinite(after)
    unit = "mag" if shown == _MU else ""
    svg = shift_plot(shown, before[both], after[both], varied.hops[both], unit=unit)
    caption = f"{varied.name}: {with_error(*robust(after - before))}"
    return {"svg": Markup(for_page(svg, f"v{i}-")), "caption": caption}


def _scale(matrix: Array) -> float:
    return float(np.sqrt(np.mean(np.diag(matrix)))) if len(matrix) else np.nan


def _root_mean_square(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(known**2))) if len(known) else np.nan


def _millimag(value: float) -> str:
    return f"{1e3 * value:.1f} mmag" if np.isfinite(value) else ABSENT


def _told(matrix: Array) -> str:
    values = np.linalg.eigvalsh(matrix)
    rank = int(np.sum(values > 1e-10 * max(values.max(initial=0.0), 1e-300)))
    return (
        f"The covariance of {count(len(matrix))} distances has rank {rank}; the root of its mean "
        f"diagonal is {_millimag(_scale(matrix))}."
    )
