"""Plots of the sky: the density of a table's rows, and the surroundings of an object.

Each function returns the bytes of an SVG or PNG file, as in `ampel_spark.t3.plots`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Circle, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter

from ampel_spark.sky import healpix
from ampel_spark.sky.angles import good_positions
from ampel_spark.t3.figures import COLOURS, draw

__all__ = ["density", "density_of_cells", "finder"]

Array = npt.NDArray[Any]

_MARKERS = ("s", "^", "D", "v", "P", "X", "p", "h")
_STEPS = 12  # the number of shades of a density
_SHADES = ("accent", "band-g", "band-i", "band-y", "band-r", "band-z", "band-u")


def density(ra: npt.ArrayLike, dec: npt.ArrayLike, *, order: int = 4, form: str = "svg") -> bytes:
    """Plot the number of rows per square degree on the whole sky (Mollweide).

    Parameters
    ----------
    ra, dec : array-like with shape (N,)
        Positions, degrees ICRS. Right ascension grows to the left, 180° is in the middle.
    order : int
        HEALPix order of the cells; 4 is 3.7°.
    form : str
        ``svg`` or ``png``.
    """
    ra, dec = (np.atleast_1d(np.asarray(v, float)) for v in (ra, dec))
    good = good_positions(ra, dec)
    cells = healpix.pixels(ra[good], dec[good], order)
    return density_of_cells(np.bincount(cells, minlength=12 << (2 * order)), form=form)


def density_of_cells(counts: npt.ArrayLike, *, form: str = "svg") -> bytes:
    """Plot the number of rows per square degree from the counts of HEALPix cells.

    Parameters
    ----------
    counts : array-like of int with shape (12 * 4**order,)
        The number of rows in each cell, NESTED.
    form : str
        ``svg`` or ``png``.
    """
    from ampel_spark.t3.plots import _sky

    counts = np.asarray(counts)
    order = int(np.log2(len(counts) / 12)) // 2
    cells = np.flatnonzero(counts)
    per_degree = counts[cells] / (4 * np.pi * np.degrees(1) ** 2 / len(counts))

    def plot(figure: Figure) -> None:
        axes: Any = _sky(figure, (0.06, 0.17, 0.92, 0.82))
        axes.set_xticklabels(["300°", "240°", "180°", "120°", "60°"])
        axes.set_yticklabels(["−60°", "−30°", "0°", "30°", "60°"])
        axes.tick_params(labelsize=7.5, labelcolor=COLOURS["muted"])
        if not len(cells):
            return
        low, high = per_degree.min(), per_degree.max()
        edges = np.geomspace(low, high if high > low else low * 1.01, _STEPS + 1)
        step = np.minimum(np.searchsorted(edges, per_degree, "right") - 1, _STEPS - 1)
        of_cell, outlines = _outlines(cells, order)
        # projected here, as Matplotlib would divide every side of every cell into small steps
        flat = axes.transProjection.transform(outlines.reshape(-1, 2)).reshape(outlines.shape)
        for i, shade in enumerate(_shades()):
            mine = flat[step[of_cell] == i]
            if len(mine):
                path = Path.make_compound_path(*(Path(p, closed=True) for p in _closed(mine)))
                axes.add_patch(PathPatch(path, facecolor=shade, linewidth=0,
                                         transform=axes.transAffine + axes.transAxes))  # fmt: skip
        beside = figure.add_axes((0.3, 0.13, 0.42, 0.025))
        scale = ScalarMappable(BoundaryNorm(edges, _STEPS), ListedColormap(_shades()))
        bar = figure.colorbar(scale, cax=beside, orientation="horizontal", spacing="uniform",
                              ticks=edges[[0, _STEPS // 2, _STEPS]])  # fmt: skip
        bar.outline.set_visible(False)
        beside.tick_params(labelsize=7, which="both", length=2)
        beside.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        beside.set_xlabel("rows per square degree", fontsize=7.5, labelpad=1)

    return draw((5.6, 3.5), plot, form)


def _shades() -> list[tuple[float, float, float, float]]:
    """Return the shades of a density: one colour, from light (few) to dark (many)."""
    return [to_rgba(COLOURS["accent"], alpha) for alpha in np.linspace(0.15, 1.0, _STEPS)]


def _outlines(cells: Array, order: int) -> tuple[Array, Array]:
    """Return for each outline on the axes, shape (P, corners, 2), the number of its cell.

    A cell across right ascension 0 has two outlines, one on each edge of the map.
    """
    from astropy_healpix import boundaries_lonlat

    lon, lat = boundaries_lonlat(cells, 1 if order > 3 else 8, 1 << order, order="nested")
    x, y = np.pi - lon.rad % (2 * np.pi), lat.rad
    # a pole has any right ascension, so it gets that of the corner before it
    pole = np.abs(y) > np.pi / 2 - 1e-9
    x = np.where(pole, np.roll(x, 1, axis=1), x)
    x = x - 2 * np.pi * np.round((x - x[:, :1]) / (2 * np.pi))
    found, of_cell = [], []
    for turn in (-2 * np.pi, 0.0, 2 * np.pi):
        moved = x + turn
        there = (moved.max(axis=1) > -np.pi) & (moved.min(axis=1) < np.pi)
        found.append(np.stack([np.clip(moved[there], -np.pi, np.pi), y[there]], axis=-1))
        of_cell.append(np.flatnonzero(there))
    return np.concatenate(of_cell), np.concatenate(found)


def _closed(outlines: Array) -> Array:
    return np.concatenate([outlines, outlines[:, :1]], axis=1)


def finder(
    ra: float,
    dec: float,
    around: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    size: float = 60.0,
    form: str = "svg",
) -> bytes:
    """Plot the rows of catalogues around an object, with north up and east to the left.

    Parameters
    ----------
    ra, dec : float
        The object's position, degrees ICRS.
    around : mapping of str to (ra, dec)
        Positions of the rows of each catalogue, degrees; those outside the chart are not drawn.
    size : float
        The width of the chart, arcsec.
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
        axes.set_xlabel("to the east, arcsec")
        axes.set_ylabel("to the north, arcsec")
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
    """Return offsets to the east and north on the tangent plane, arcsec."""
    turn, d0, d1 = np.radians(a - ra), np.radians(dec), np.radians(d)
    with np.errstate(divide="ignore", invalid="ignore"):
        w = np.sin(d0) * np.sin(d1) + np.cos(d0) * np.cos(d1) * np.cos(turn)
        east = np.cos(d1) * np.sin(turn) / w
        north = (np.cos(d0) * np.sin(d1) - np.sin(d0) * np.cos(d1) * np.cos(turn)) / w
    east, north = (np.where(w > 0, np.degrees(v) * 3600.0, np.inf) for v in (east, north))
    return east, north
