"""Plots of the sky: how densely a table covers it, and what lies around an object.

Each returns the bytes of an SVG (or PNG) file, as those of `ampel_spark.t3.plots`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import FuncFormatter, NullFormatter

from ampel_spark.sky import healpix
from ampel_spark.sky.angles import good_positions
from ampel_spark.t3.figures import COLOURS, draw

__all__ = ["density", "finder"]

Array = npt.NDArray[Any]

_MARKERS = ("s", "^", "D", "v", "P", "X", "p", "h")
_SHADES = ("accent", "band-g", "band-i", "band-y", "band-r", "band-z", "band-u")


def density(ra: npt.ArrayLike, dec: npt.ArrayLike, *, order: int = 4, form: str = "svg") -> bytes:
    """Plot how many rows there are per square degree, on the whole sky (Mollweide).

    Parameters
    ----------
    ra, dec : array-like with shape (N,)
        Degrees, ICRS. Right ascension grows to the left, 180° is in the middle.
    order : int
        HEALPix order of the cells; 4 is 3.7°.
    form : str
        ``svg`` or ``png``.
    """
    from astropy_healpix import boundaries_lonlat

    from ampel_spark.t3.plots import _sky

    ra, dec = (np.atleast_1d(np.asarray(v, float)) for v in (ra, dec))
    good = good_positions(ra, dec)
    cells, n = np.unique(healpix.pixels(ra[good], dec[good], order), return_counts=True)
    per_degree = n / (4 * np.pi * np.degrees(1) ** 2 / (12 << (2 * order)))

    def plot(figure: Figure) -> None:
        axes = _sky(figure, (0.06, 0.17, 0.92, 0.82))
        axes.set_xticklabels(["300°", "240°", "180°", "120°", "60°"])
        axes.set_yticklabels(["−60°", "−30°", "0°", "30°", "60°"])
        axes.tick_params(labelsize=7.5, labelcolor=COLOURS["muted"])
        if not len(cells):
            return
        lon, lat = boundaries_lonlat(cells, 4, 1 << order, order="nested")
        x, y = np.pi - lon.rad % (2 * np.pi), lat.rad
        outlines, values = [], []
        for i in range(len(cells)):
            # cells across right ascension 0 are drawn on both edges of the map
            middle = x[i] - 2 * np.pi * np.round((x[i] - x[i][0]) / (2 * np.pi))
            for turn in (-2 * np.pi, 0.0, 2 * np.pi):
                moved = middle + turn
                if moved.max() > -np.pi and moved.min() < np.pi:
                    outlines.append(np.column_stack([np.clip(moved, -np.pi, np.pi), y[i]]))
                    values.append(per_degree[i])
        low, high = min(values), max(values)
        shades = LinearSegmentedColormap.from_list("density", [COLOURS["faint"], COLOURS["accent"]])
        drawn = PolyCollection(
            outlines, array=np.array(values), cmap=shades, linewidths=0.1, edgecolors="face",
            norm=LogNorm(low, high if high > low else low * 1.01),
        )  # fmt: skip
        axes.add_collection(drawn)
        beside = figure.add_axes((0.3, 0.13, 0.42, 0.025))
        bar = figure.colorbar(drawn, cax=beside, orientation="horizontal")
        bar.outline.set_visible(False)
        beside.tick_params(labelsize=7, which="both", length=2)
        beside.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        beside.xaxis.set_minor_formatter(NullFormatter())
        beside.set_xlabel("rows per square degree", fontsize=7.5, labelpad=1)

    return draw((5.6, 3.5), plot, form)


def finder(
    ra: float,
    dec: float,
    around: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    size: float = 60.0,
    form: str = "svg",
) -> bytes:
    """Plot what lies around an object in catalogues: north is up, east to the left.

    Parameters
    ----------
    ra, dec : float
        The object, degrees ICRS.
    around : mapping of str to (ra, dec)
        Positions of the rows of each catalogue, degrees; those outside the chart are left out.
    size : float
        Side of the chart, arcsec.
    form : str
        ``svg`` or ``png``.
    """

    def plot(figure: Figure) -> None:
        axes = figure.add_axes((0.13, 0.13, 0.85, 0.72))
        half = size / 2
        axes.set_xlim(half, -half)
        axes.set_ylim(-half, half)
        axes.set_aspect("equal")
        axes.grid(True)
        axes.set_axisbelow(True)
        axes.set_xlabel("east of it, arcsec")
        axes.set_ylabel("north of it, arcsec")
        for part in (0.25, 0.5):
            axes.add_patch(Circle((0, 0), part * half * 2 * 0.5, fill=False, linewidth=0.6,
                                  edgecolor=COLOURS["muted"], linestyle=(0, (3, 3))))  # fmt: skip
        axes.plot(0, 0, linestyle="none", marker="+", markersize=13, markeredgewidth=1.6,
                  color=COLOURS["ink"], label="object", zorder=5)  # fmt: skip
        for i, (name, (a, d)) in enumerate(around.items()):
            east, north = _offsets(ra, dec, np.asarray(a, float), np.asarray(d, float))
            inside = (np.abs(east) <= half) & (np.abs(north) <= half)
            axes.plot(
                east[inside], north[inside], linestyle="none", marker=_MARKERS[i % len(_MARKERS)],
                markersize=6, markerfacecolor="none", markeredgewidth=1.2,
                color=COLOURS[_SHADES[i % len(_SHADES)]],
                label=f"{name} ({int(inside.sum())})",
            )  # fmt: skip
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handlelength=1.2,
                    columnspacing=1.0)  # fmt: skip

    return draw((3.4, 3.6), plot, form)


def _offsets(ra: float, dec: float, a: Array, d: Array) -> tuple[Array, Array]:
    """Return offsets to east and north on the tangent plane, arcsec."""
    turn, d0, d1 = np.radians(a - ra), np.radians(dec), np.radians(d)
    with np.errstate(divide="ignore", invalid="ignore"):
        w = np.sin(d0) * np.sin(d1) + np.cos(d0) * np.cos(d1) * np.cos(turn)
        east = np.cos(d1) * np.sin(turn) / w
        north = (np.cos(d0) * np.sin(d1) - np.sin(d0) * np.cos(d1) * np.cos(turn)) / w
    east, north = (np.where(w > 0, np.degrees(v) * 3600.0, np.inf) for v in (east, north))
    return east, north
