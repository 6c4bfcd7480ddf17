"""Plots of shifts: each object's shift against its value, and beside it their distribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ampel_spark.job.comparison.shifts import robust
from ampel_spark.t3.figures import COLOURS, draw

__all__ = ["covariance_plot", "redshift_plot", "residual_plot", "shift_plot"]

Array = npt.NDArray[Any]

#: The axis of shifts reaches this many robust widths to either side.
_REACH = 6.0
#: More points than this are thinned out evenly; the distribution counts all of them.
_MOST = 1200
_BINS = 41
#: A longer name is no label of an axis.
_LONG = 30


def shift_plot(
    name: str,
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    hops: npt.ArrayLike | None = None,
    *,
    unit: str = "",
    form: str = "svg",
) -> bytes:
    """Plot after − before against before, and the distribution of it.

    A line is the median, a band ± the robust width; shifts beyond the axis are drawn at its edge,
    as arrows. Objects that changed minimum are crosses.

    Parameters
    ----------
    name : str
        What shifted.
    before, after : array-like with shape (N,)
    hops : array-like of bool with shape (N,), optional
        Which changed minimum.
    unit : str
        Unit of measure.
    form : str
        ``svg`` or ``png``.
    """
    x = np.asarray(before, float)
    delta = np.asarray(after, float) - x
    crossed = np.zeros(len(x), bool) if hops is None else np.asarray(hops, bool)
    middle, width = robust(delta) if len(delta) else (0.0, 0.0)
    low, high = _range(delta, middle, width)
    origin = np.floor(x.min()) if len(x) and np.abs(x).max() > 1e5 else 0.0

    def plot(figure: Figure) -> None:
        main = figure.add_axes((0.155, 0.19, 0.59, 0.77))
        side = figure.add_axes((0.765, 0.19, 0.215, 0.77), sharey=main)
        for axes in (main, side):
            axes.axhspan(
                middle - width, middle + width, color=COLOURS["faint"], alpha=0.75, linewidth=0,
                zorder=0,
            )  # fmt: skip
            axes.axhline(0, color=COLOURS["muted"], linewidth=0.6, linestyle=(0, (4, 3)), zorder=1)
            axes.axhline(middle, color=COLOURS["ink"], linewidth=1.0, zorder=4)
        _points(main, x - origin, delta, crossed, (low, high))
        counts, edges = np.histogram(delta, bins=_BINS, range=(low, high))
        side.stairs(
            counts, edges, orientation="horizontal", fill=True, color=COLOURS["accent"], alpha=0.75
        )
        side.set_xlim(0, max(1, counts.max(initial=0)) * 1.06)
        for edge, arrow, n in ((high, "▲", np.sum(delta > high)), (low, "▼", np.sum(delta < low))):
            if n:
                side.annotate(
                    f"{arrow} {n:,}", (1, edge), (-2, -9 if edge == high else 3), ha="right",
                    xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=8,
                    color=COLOURS["muted"],
                )  # fmt: skip
        side.tick_params(labelleft=False, left=False)
        side.set_xticks([])
        side.spines["bottom"].set_visible(False)
        side.spines["left"].set_edgecolor(COLOURS["faint"])
        main.set_ylim(low, high)
        label = f" [{unit}]" if unit else ""
        shown = name if len(name) <= _LONG else "value"
        main.set_ylabel(f"Δ {shown}{label}")
        start = f" − {origin:.0f}" if origin else ""
        main.set_xlabel(f"{shown}{start}{label}, before")
        main.ticklabel_format(axis="y", style="plain", useOffset=False)
        main.grid(axis="x")

    return draw((5.2, 2.7), plot, form)


def redshift_plot(z: npt.ArrayLike, moved: Mapping[str, Array], form: str = "svg") -> bytes:
    """Plot shifts of distances against redshift, a line of medians each variation.

    Parameters
    ----------
    z : array-like with shape (N,)
    moved : mapping of str to ndarray with shape (N,)
        Shifts by variation, mag.
    form : str
        ``svg`` or ``png``.
    """
    at = np.asarray(z, float)

    def plot(figure: Figure) -> None:
        axes = figure.add_axes((0.13, 0.17, 0.62, 0.78))
        axes.axhline(0, color=COLOURS["muted"], linewidth=0.6, linestyle=(0, (4, 3)))
        for name, shift in moved.items():
            good = np.isfinite(at) & np.isfinite(shift)
            x, y = at[good], 1e3 * shift[good]
            order = np.argsort(x, kind="stable")
            parts = [p for p in np.array_split(order, min(8, max(1, len(x) // 4))) if len(p)]
            places = [float(np.median(x[p])) for p in parts]
            medians = [float(np.median(y[p])) for p in parts]
            axes.plot(places, medians, marker="o", markersize=3, linewidth=1.0, label=name)
        axes.set_xlabel("redshift")
        axes.set_ylabel("Δμ [mmag], medians")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=7, frameon=False)

    return draw((5.2, 2.9), plot, form)


def covariance_plot(matrix: Array, form: str = "svg") -> bytes:
    """Plot a covariance as a picture, in mmag²; large ones are averaged in blocks."""
    size = min(len(matrix), 64)
    edges = np.linspace(0, len(matrix), size + 1).astype(int)[:-1]
    mean = np.add.reduceat(np.add.reduceat(matrix, edges, axis=0), edges, axis=1)
    counts = np.diff(np.append(edges, len(matrix)))
    shown = 1e6 * mean / np.outer(counts, counts)
    most = float(np.abs(shown).max(initial=0.0)) or 1.0

    def plot(figure: Figure) -> None:
        axes = figure.add_axes((0.1, 0.1, 0.7, 0.84))
        picture = axes.pcolormesh(shown, cmap="RdBu_r", vmin=-most, vmax=most, rasterized=True)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set_xticks([])
        axes.set_yticks([])
        figure.colorbar(picture, cax=figure.add_axes((0.83, 0.1, 0.03, 0.84)))

    return draw((4.0, 3.4), plot, form)


def residual_plot(
    z: npt.ArrayLike, residuals: npt.ArrayLike, errors: npt.ArrayLike, form: str = "svg"
) -> bytes:
    """Plot the residuals of a Hubble diagram against redshift, with their errors, mag."""

    def plot(figure: Figure) -> None:
        axes = figure.add_axes((0.13, 0.17, 0.84, 0.78))
        axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
        axes.errorbar(
            np.asarray(z, float), np.asarray(residuals, float), np.asarray(errors, float),
            fmt="o", markersize=2.5, linewidth=0.5, color=COLOURS["accent"],
        )  # fmt: skip
        axes.set_xlabel("redshift")
        axes.set_ylabel("μ − μ(fit) [mag]")

    return draw((5.2, 2.7), plot, form)


def _range(delta: Array, middle: float, width: float) -> tuple[float, float]:
    """Return the shifts that the axis spans; zero is always among them."""
    far = float(np.max(np.abs(delta - middle), initial=0.0))
    if not far > 0:
        size = abs(middle) or 1.0
        return min(middle, 0.0) - size, max(middle, 0.0) + size
    # more than half without a shift have no width: the axis is that of the others then
    reach = min(_REACH * width, 1.12 * far) if width > 0 else 1.12 * far
    return min(middle - reach, -0.15 * reach), max(middle + reach, 0.15 * reach)


def _points(
    axes: Axes, x: Array, delta: Array, crossed: Array, limits: tuple[float, float]
) -> None:
    low, high = limits
    for rows, colour, marker, size in (
        (_thinned(~crossed, _MOST), COLOURS["accent"], "o", 3.0),
        (_thinned(crossed, _MOST // 4), COLOURS["band-r"], "x", 5.0),
    ):
        inside = rows[(delta[rows] >= low) & (delta[rows] <= high)]
        axes.plot(
            x[inside], delta[inside], linestyle="none", marker=marker, markersize=size,
            color=colour, markeredgewidth=0 if marker == "o" else 1.2, alpha=0.7, zorder=3,
        )  # fmt: skip
        for edge, arrow, beyond in (
            (high, "^", rows[delta[rows] > high]),
            (low, "v", rows[delta[rows] < low]),
        ):
            at = edge - (0.02 if arrow == "^" else -0.02) * (high - low)
            axes.plot(
                x[beyond], np.full(len(beyond), at), linestyle="none", marker=arrow, markersize=4.5,
                color=colour, markeredgewidth=0, zorder=3,
            )  # fmt: skip


def _thinned(mask: Array, most: int) -> Array:
    """Return where a mask is true, evenly thinned out to so many places."""
    rows = np.flatnonzero(mask)
    if len(rows) <= most:
        return rows
    thinned: Array = rows[np.linspace(0, len(rows) - 1, most).astype(int)]
    return thinned
