"""Plots of events: a region with what lies in it, and what happened when.

Each function returns the bytes of an SVG or PNG file, as in `ampel_spark.t3.plots`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from ampel_spark.events.covers import cover, reach_of
from ampel_spark.events.event import Event
from ampel_spark.events.shapes import level_at
from ampel_spark.t3.figures import COLOURS, draw
from ampel_spark.t3.plots import _projected, _sky

__all__ = ["region", "time_line"]

Array = npt.NDArray[Any]

#: A region that reaches farther from its centre is drawn on the whole sky, degrees.
_WIDE = 25.0
#: Places at which a region is looked at, along each side of a plot.
_GRID = 300
_LEVELS = (0.0, 0.5, 0.9)


def region(
    event: Event,
    ra: npt.ArrayLike = (),
    dec: npt.ArrayLike = (),
    names: Sequence[str] = (),
    *,
    form: str = "svg",
) -> bytes:
    """Plot the 50 % and 90 % regions of an event, and positions on it.

    Parameters
    ----------
    event : Event
    ra, dec : array-like with shape (N,)
        Positions to draw, degrees ICRS.
    names : sequence of str, optional
        Names to write beside the first positions.
    form : str
        ``svg`` or ``png``.
    """
    a, d = (np.atleast_1d(np.asarray(v, np.float64)) for v in (ra, dec))
    reach = reach_of(event)
    plot = _whole_sky if reach > _WIDE else _close

    def plotted(figure: Figure) -> None:
        axes, x, y = plot(figure, event, a, d, reach)
        inside = cover(event).contains(a, d) if len(a) else np.zeros(0, bool)
        for mine, colour, size in ((~inside, "muted", 2.5), (inside, "band-r", 4.0)):
            axes.plot(x[mine], y[mine], linestyle="none", marker="o", markersize=size,
                      color=COLOURS[colour], zorder=4)  # fmt: skip
        for i, name in enumerate(names[: len(x)]):
            axes.annotate(name, (x[i], y[i]), xytext=(4, 3), textcoords="offset points",
                          fontsize=6.5)  # fmt: skip
        axes.set_title(f"{event.event}, revision {event.revision or 0}: {event.area:.4g} deg²",
                       fontsize=8.5)  # fmt: skip

    return draw((5.6, 3.5) if reach > _WIDE else (3.8, 3.9), plotted, form)


def time_line(
    event: Event, times: Sequence[tuple[str, float, float]], *, form: str = "svg"
) -> bytes:
    """Plot when candidates were seen, in days after the event.

    Parameters
    ----------
    event : Event
    times : sequence of (str, float, float)
        Name, first and last detection (JD) of each candidate.
    form : str
        ``svg`` or ``png``.
    """

    def plot(figure: Figure) -> None:
        axes = figure.add_axes((0.24, 0.16, 0.73, 0.8))
        for i, (_, first, last) in enumerate(times):
            axes.plot([first - event.jd, last - event.jd], [i, i], marker="|",
                      color=COLOURS["accent"])  # fmt: skip
        axes.axvline(0.0, color=COLOURS["band-r"], linewidth=1.0)
        axes.set_yticks(range(len(times)), [name for name, _, _ in times], fontsize=7)
        axes.set_ylim(max(len(times) - 0.5, 0.5), -0.5)
        axes.set_xlabel(f"days after {event.event}")

    return draw((5.6, 1.0 + 0.18 * max(len(times), 1)), plot, form)


def _shades() -> list[tuple[float, float, float, float]]:
    return [to_rgba(COLOURS["accent"], alpha) for alpha in (0.55, 0.22)]


def _whole_sky(
    figure: Figure, event: Event, ra: Array, dec: Array, reach: float
) -> tuple[Any, Array, Array]:
    axes: Any = _sky(figure, (0.05, 0.04, 0.92, 0.86))
    axes.set_xticklabels(["300°", "240°", "180°", "120°", "60°"])
    axes.tick_params(labelsize=7, labelcolor=COLOURS["muted"])
    x = np.linspace(-np.pi, np.pi, 2 * _GRID)
    y = np.linspace(-np.pi / 2, np.pi / 2, _GRID)
    gx, gy = np.meshgrid(x, y)
    level = level_at(event, (180.0 - np.degrees(gx).ravel()) % 360.0, np.degrees(gy).ravel())
    axes.contourf(gx, gy, level.reshape(gx.shape), _LEVELS, colors=_shades())
    px, py = _projected(ra, dec)
    return axes, px, py


def _close(
    figure: Figure, event: Event, ra: Array, dec: Array, reach: float
) -> tuple[Any, Array, Array]:
    """Plot about the centre, in degrees to the east and north on the tangent plane."""
    from ampel_spark.t3.sky_plots import _offsets

    axes = figure.add_axes((0.15, 0.12, 0.82, 0.8))
    half = 1.25 * reach
    side = np.linspace(-half, half, _GRID)
    east, north = np.meshgrid(side, side)
    a, d = _from_plane(event.ra, event.dec, east.ravel(), north.ravel())
    axes.contourf(east, north, level_at(event, a, d).reshape(east.shape), _LEVELS, colors=_shades())
    axes.set_xlim(half, -half)
    axes.set_ylim(-half, half)
    axes.set_aspect("equal")
    axes.grid(True)
    axes.set_xlabel(f"to the east of {event.ra:.3f}°, degrees")
    axes.set_ylabel(f"to the north of {event.dec:.3f}°, degrees")
    x, y = (v / 3600.0 for v in _offsets(event.ra, event.dec, ra, dec))
    near = (np.abs(x) <= half) & (np.abs(y) <= half)
    return axes, np.where(near, x, np.nan), np.where(near, y, np.nan)


def _from_plane(ra: float, dec: float, east: Array, north: Array) -> tuple[Array, Array]:
    """Return the positions of places on the tangent plane, degrees."""
    x, y, d0 = np.radians(east), np.radians(north), np.radians(dec)
    a = np.arctan2(x, np.cos(d0) - y * np.sin(d0))
    d = np.arctan2(np.sin(d0) + y * np.cos(d0), np.hypot(x, np.cos(d0) - y * np.sin(d0)))
    return (ra + np.degrees(a)) % 360.0, np.degrees(d)
