"""The style of all plots, and their rendering to small and repeatable files.

Plots use matplotlib's object interface: no pyplot, no figure to close, and none of the user's
settings. Matplotlib keeps its settings in one table for the process, so a lock lets one thread draw
at a time; any thread can call a plot.
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "Band", "band_style", "bare", "draw", "for_page", "in_style", "saved"]

#: The colours of all plots. A page can replace them by its own (`for_page`).
COLOURS = {
    "ink": "#1d2733",
    "muted": "#5b6673",
    "faint": "#dde2e8",
    "accent": "#2b5fa8",
    "paper": "#fefefe",
    "band-u": "#6a3d9a",
    "band-g": "#008566",
    "band-r": "#d1510a",
    "band-i": "#8a4fa0",
    "band-z": "#4d4d4f",
    "band-y": "#a67c00",
    "band-other": "#7a7a7c",
}


@dataclass(frozen=True)
class Band:
    """The style of a band: short name, colour, and a marker that differs without colour too."""

    label: str
    colour: str
    marker: str


_MARKERS = {"u": "p", "g": "o", "r": "s", "i": "D", "z": "^", "y": "P"}
#: The markers of all other bands, which share a colour; a name always has the same marker.
_OTHER_MARKERS = "Xv<>dhp*"

_STYLE = {
    "axes.edgecolor": COLOURS["muted"],
    "axes.facecolor": "none",
    "axes.labelcolor": COLOURS["ink"],
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.0,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same layout on every machine
    "font.size": 9.0,
    "grid.color": COLOURS["faint"],
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handletextpad": 0.4,
    "lines.linewidth": 1.3,
    "savefig.dpi": 150,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "ampel_spark",
    "text.color": COLOURS["ink"],
    "text.parse_math": False,  # a name with a dollar sign is a name
    "text.usetex": False,
    "xtick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "xtick.labelsize": 8.5,
    "ytick.color": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["ink"],
    "ytick.labelsize": 8.5,
}

_DRAWING = threading.Lock()


def band_style(band: str) -> Band:
    """Return the style of a band by the last letter of its name, as of ``ztfg`` or ``sdss::i``."""
    letter = band[-1:].lower()
    if letter in _MARKERS:
        return Band(letter, COLOURS[f"band-{letter}"], _MARKERS[letter])
    return Band(band, COLOURS["band-other"], _OTHER_MARKERS[sum(band.encode()) % 8])


def draw(size: tuple[float, float], plot: Callable[[Figure], None], form: str = "svg") -> bytes:
    """Draw a figure and return its file.

    Parameters
    ----------
    size : tuple of float
        Width and height, inches.
    plot : callable
        A function that draws into the figure.
    form : str
        ``svg`` or ``png``.

    Returns
    -------
    bytes
        The file. Equal figures give equal bytes: no dates, no program names, fixed ids.
    """
    with in_style():
        figure = Figure(figsize=size)
        plot(figure)
        if form == "png":
            figure.set_facecolor(COLOURS["paper"])
        return _file(figure, form)


def saved(figure: Figure, form: str = "svg") -> bytes:
    """Return the file of a figure that somebody has made in a style of their own.

    Parameters
    ----------
    figure : Figure
        Of pyplot or not.
    form : str
        ``svg`` or ``png``.
    """
    with in_style():
        return _file(figure, form)


def _file(figure: Figure, form: str) -> bytes:
    if form not in ("svg", "png"):
        raise ValueError(f"a plot has the form svg or png, not {form!r}")
    nothing = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    file = io.BytesIO()
    figure.savefig(file, format=form, facecolor="auto", metadata=nothing)
    return _slim(file.getvalue().decode()).encode() if form == "svg" else file.getvalue()


@contextlib.contextmanager
def in_style() -> Iterator[None]:
    """Draw in the one style of all plots, one thread at a time."""
    with _DRAWING, matplotlib.style.context(_STYLE, after_reset=True):
        yield


def bare(axes: Axes) -> None:
    """Remove all lines and ticks around the axes."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def for_page(svg: bytes, prefix: str) -> str:
    """Return an SVG file as an element of an HTML page.

    The colours become the page's (``var(--band-g)``), and the page sets the size. Ids begin with
    `prefix`, which must differ between the figures of a page.
    """
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*" height="[^"]*"|(<svg[^>]*?) height="[^"]*"', r"\1\2", text
    )
    text = text.replace("font-family: sans-serif", "font-family: inherit")
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return _rename(text, prefix)


def _slim(svg: str) -> str:
    """Remove metadata, comments, unused ids and superfluous digits."""
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<!DOCTYPE.*?>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'="[^"]*"', lambda m: re.sub(r"(\d\.\d\d)\d+", r"\1", m[0]), svg)
    svg = svg.replace("font-family: 'DejaVu Sans'", "font-family: sans-serif")
    svg = re.sub(r' transform="rotate\(-?0 [^"]*"', "", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    svg = re.sub(r"<g( clip-path=[^>]*)?>\n((?:<use [^>]*/>\n)+)</g>", _hoisted, svg)
    return _rename(svg, "")


def _hoisted(group: re.Match[str]) -> str:
    """Write the common style of all markers of a group once."""
    styles = set(re.findall(r' style="[^"]*"', group[2]))
    if len(styles) != 1:
        return group[0]
    (style,) = styles
    return f"<g{group[1] or ''}{style}>\n{group[2].replace(style, '')}</g>"


def _rename(svg: str, prefix: str) -> str:
    used: Sequence[str] = re.findall(r'(?:href="|url\()#([^")]+)', svg)
    names = {old: f"{prefix}p{i}" for i, old in enumerate(dict.fromkeys(used))}
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", svg)
    return re.sub(r'((?:href="|url\()#)([^")]+)', lambda m: m[1] + names[m[2]], svg)
