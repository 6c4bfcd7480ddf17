"""Plots: light curves with fits, positions on the sky, counts through the tiers, pulls.

Each function returns the bytes of an SVG or PNG file, in the style of `ampel_spark.t3.figures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from ampel_spark.lightcurve import DETECTION, FORCED, UPPER_LIMIT, LightCurve
from ampel_spark.t3.figures import COLOURS, Band, band_style, bare, draw, in_style
from ampel_spark.t3.numbers import date_of, percent

__all__ = [
    "ModelCurve",
    "Step",
    "funnel",
    "light_curve",
    "plot_light_curve",
    "pulls",
    "sky_locator",
    "sky_map",
]

Array = npt.NDArray[Any]

#: Forced photometry below this S/N is not drawn as a magnitude.
_MIN_SNR = 3.0
#: Flux is drawn in µJy, which has this zero point in the AB system.
_MICROJANSKY = 23.9
#: Residuals beyond this many σ are arrows at the edge.
_MAX_PULL = 5.5
#: A flux below the lower edge of any plot, µJy.
_NOTHING = 1e-6
#: Points farther than this from the detections or the model's phases are not drawn, days.
_MARGIN = 30.0


class ModelCurve(Protocol):
    """A fitted model that a plot can draw, such as an `sncosmo.Model`.

    If it also has ``bandflux_error(band, time, zp)``, the flux's 1σ error, the plot shows that.
    """

    def bandflux(self, band: Any, time: Any, zp: Any = None, zpsys: Any = None) -> Any: ...
    def mintime(self) -> float: ...
    def maxtime(self) -> float: ...


@dataclass(frozen=True)
class Step:
    """One bar of a funnel: a label, and the number that is left."""

    label: str
    count: int


# --- light curves ------------------------------------------------------------------------------


def light_curve(
    curve: LightCurve,
    model: ModelCurve | None = None,
    *,
    t0: float | None = None,
    bands: Sequence[str] | None = None,
    scale: str = "mag",
    form: str = "svg",
) -> bytes:
    """Plot a light curve, the model's curve in each band with its error, and the residuals below.

    Parameters
    ----------
    curve : LightCurve
        The light curve, with at least one point.
    model : ModelCurve, optional
        A fitted model with its parameters set.
    t0 : float, optional
        The zero of the time axis, JD; by default the first detection.
    bands : sequence of str, optional
        The bands of the fit, in which the model is drawn; by default those of all points with a
        flux.
    scale : str
        ``mag``, or ``flux`` (with its sign, in µJy; without upper limits).
    form : str
        ``svg`` or ``png``.

    Notes
    -----
    Filled markers are detections, open ones negative subtractions, triangles 5σ limits. Forced
    photometry below 3σ is drawn in flux only. Residuals are (data − model) / error of the flux.

    Examples
    --------
    >>> curve = LightCurve.of(jd=[2460000, 2460003], mag=[18, 18.5], magerr=0.1, band="ztfg")
    >>> light_curve(curve, form="png")[1:4]
    b'PNG'
    """
    height = 3.9 if model is not None else 3.1

    def plot(figure: Figure) -> None:
        _draw_light_curve(figure, curve, model, t0, bands, scale)

    return draw((5.6, height), plot, form)


def plot_light_curve(
    curve: LightCurve,
    model: ModelCurve | None = None,
    *,
    t0: float | None = None,
    bands: Sequence[str] | None = None,
    scale: str = "mag",
    figure: Figure | SubFigure | None = None,
) -> Axes:
    """Draw what `light_curve` draws into a figure at hand, as a notebook has it.

    Parameters
    ----------
    curve, model, t0, bands, scale
        As for `light_curve`.
    figure : Figure or SubFigure, optional
        By default a new one of pyplot.

    Returns
    -------
    Axes
        Those of the light curve; residuals have axes of their own below.
    """
    with in_style():
        if figure is None:
            from matplotlib import pyplot

            figure = pyplot.figure(figsize=(7.0, 4.9 if model is not None else 3.9))
        return _draw_light_curve(figure, curve, model, t0, bands, scale)


def _draw_light_curve(
    figure: Figure | SubFigure,
    curve: LightCurve,
    model: ModelCurve | None,
    t0: float | None,
    bands: Sequence[str] | None,
    scale: str,
) -> Axes:
    if scale not in ("mag", "flux"):
        raise ValueError(f"a light curve is drawn in mag or flux, not {scale!r}")
    points = _to_microjansky(curve.points)
    window = _window(points, model, t0)
    inside = (points["jd"] >= window[0]) & (points["jd"] <= window[1])
    shown = {name: values[inside] for name, values in points.items()}
    zero = t0 if t0 is not None else _first(points)
    fitted = tuple(bands) if bands is not None else _bands(shown, shown["kind"] != UPPER_LIMIT)
    if model is None:
        main, below = figure.add_axes((0.125, 0.135, 0.855, 0.775)), None
    else:
        main = figure.add_axes((0.125, 0.335, 0.855, 0.585))
        below = figure.add_axes((0.125, 0.13, 0.855, 0.185), sharex=main)
        _draw_model(main, model, fitted, window, zero, scale)
        _draw_pulls(below, model, shown, fitted, zero)
    drawn = _draw_points(main, shown, zero, scale)
    last = below or main
    pad = 0.03 * max(window[1] - window[0], 10.0)
    main.set_xlim(window[0] - zero - pad, window[1] - zero + pad)
    main.set_ylabel(_ylabel(shown, scale))
    if scale == "mag":
        main.set_ylim(*_magnitude_range(shown))
    else:
        main.axhline(0, color=COLOURS["muted"], linewidth=0.6, zorder=1)
    main.grid(axis="y")
    main.tick_params(labelbottom=last is main)
    origin = "t₀" if t0 is not None else "first detection"
    last.set_xlabel(f"observer's days from {origin} = JD {zero:.2f} ({date_of(zero)})")
    figure.align_ylabels()
    lines = [band_style(band) for band in fitted] if model is not None else []
    _legend(main, list(dict.fromkeys([*drawn, *lines])), lines, hidden=int((~inside).sum()))
    return main


def _ylabel(points: Mapping[str, Array], scale: str) -> str:
    ab = bool((points["zpsys"] == "ab").all())
    if scale == "mag":
        return "magnitude (AB)" if ab else "magnitude"
    return "flux [µJy]" if ab else f"flux (zero point {_MICROJANSKY})"


def _to_microjansky(points: Mapping[str, Array]) -> dict[str, Array]:
    scale = 10 ** (-0.4 * (points["zp"] - _MICROJANSKY))
    flux, error = points["flux"] * scale, points["fluxerr"] * scale
    with np.errstate(all="ignore"):
        return {**points, "flux": flux, "fluxerr": error, "snr": flux / error}


def _first(points: Mapping[str, Array]) -> float:
    jd = points["jd"][points["kind"] == DETECTION]
    return float(jd.min() if len(jd) else points["jd"].min())


def _window(
    points: Mapping[str, Array], model: ModelCurve | None, t0: float | None
) -> tuple[float, float]:
    """Return the range of dates to show: around the significant points and the model."""
    good = (points["kind"] == DETECTION) | (points["snr"] >= 5)
    jd = points["jd"][good] if good.any() else points["jd"]
    first, last = float(jd.min()), float(jd.max())
    if model is not None and t0 is not None:
        # a random 5σ point a year away must not squeeze the supernova into a line
        first = max(first, model.mintime() - _MARGIN)
        last = min(max(last, t0 + _MARGIN), model.maxtime() + 2 * _MARGIN)
        first = min(first, t0 - _MARGIN / 2)
    start = max(first - _MARGIN, float(points["jd"].min()))
    end = min(last + _MARGIN, float(points["jd"].max()))
    return min(start, first), max(end, last)


def _bands(points: Mapping[str, Array], mask: Array) -> tuple[str, ...]:
    """Return the bands of the points that a mask selects, from blue to red."""
    order = "ugrizy"
    found = {str(band) for band in points["band"][mask]}
    return tuple(sorted(found, key=lambda b: (order.find(band_style(b).label) % 99, b)))


def _draw_points(axes: Axes, p: Mapping[str, Array], zero: float, scale: str) -> list[Band]:
    days = p["jd"] - zero
    drawn = []
    for band in _bands(p, np.ones(len(days), bool)):
        style, here = band_style(band), p["band"] == band
        drawn.append(style)
        with_flux = here & (p["kind"] != UPPER_LIMIT)
        y, error = p["flux"], p["fluxerr"]
        if scale == "mag":
            limits = here & (p["kind"] == UPPER_LIMIT)
            axes.plot(
                days[limits], p["limit_mag"][limits], linestyle="none", marker="v", markersize=3.6,
                markerfacecolor="none", markeredgecolor=style.colour, markeredgewidth=0.7,
                alpha=0.75,
            )  # fmt: skip
            with_flux &= (p["kind"] == DETECTION) | (p["snr"] >= _MIN_SNR)
            forced = p["kind"] == FORCED
            with np.errstate(all="ignore"):
                y = np.where(forced, _MICROJANSKY - 2.5 * np.log10(p["flux"]), p["mag"])
                error = np.where(forced, 1.0857 / p["snr"], p["magerr"])
        for sign, face in ((1, style.colour), (-1, "none")):
            some = with_flux & ((p["sign"] < 0) == (sign < 0))
            gap = np.full(some.sum(), np.nan)
            # one broken line, as an errorbar artist would write one path for each point
            axes.plot(
                np.column_stack([days[some], days[some], gap]).ravel(),
                np.column_stack([(y - error)[some], (y + error)[some], gap]).ravel(),
                color=style.colour, linewidth=0.8, zorder=3,
            )  # fmt: skip
            axes.plot(
                days[some], y[some], linestyle="none", marker=style.marker, markersize=4.2,
                color=style.colour, markerfacecolor=face, markeredgewidth=0.8, zorder=3,
            )  # fmt: skip
    return drawn


def _magnitude_range(p: Mapping[str, Array]) -> tuple[float, float]:
    detected = (p["kind"] == DETECTION) | (p["kind"] == FORCED) & (p["snr"] >= _MIN_SNR)
    with np.errstate(all="ignore"):
        faint = np.where(p["kind"] == FORCED, _MICROJANSKY - 2.5 * np.log10(p["flux"]), p["mag"])
    values = np.concatenate([faint[detected], p["limit_mag"][p["kind"] == UPPER_LIMIT]])
    values = values[np.isfinite(values)]
    if not len(values):
        return 22.0, 15.0
    span = max(float(np.ptp(values)), 1.0)
    return float(values.max()) + 0.12 * span, float(values.min()) - 0.12 * span


def _draw_model(
    axes: Axes, model: ModelCurve, bands: Sequence[str],
    window: tuple[float, float], zero: float, scale: str,
) -> None:  # fmt: skip
    # slightly inside, as a model drops to zero at its last phase
    start, end = max(window[0], model.mintime() + 0.01), min(window[1], model.maxtime() - 0.01)
    jd = np.linspace(start, end, 120)
    for band in bands:
        colour = band_style(band).colour
        flux = np.asarray(model.bandflux(band, jd, zp=_MICROJANSKY, zpsys="ab"))
        axes.plot(jd - zero, _scaled(flux, scale), color=colour, zorder=2)
        if (error_of := getattr(model, "bandflux_error", None)) is not None:
            some = slice(None, None, 2)
            error = np.asarray(error_of(band, jd[some], _MICROJANSKY))
            low, high = flux[some] - error, flux[some] + error
            if scale == "mag":
                # a range that includes zero flux extends to the lower edge
                low = np.where((low <= 0) & (high > 0), _NOTHING, low)
            axes.fill_between(
                jd[some] - zero, _scaled(low, scale), _scaled(high, scale), color=colour,
                alpha=0.18, linewidth=0, zorder=1.5,
            )  # fmt: skip


def _scaled(flux: Array, scale: str) -> Array:
    """Return fluxes, or their magnitudes if `scale` is ``mag``."""
    if scale == "flux":
        return flux
    with np.errstate(all="ignore"):
        return np.where(flux > 0, _MICROJANSKY - 2.5 * np.log10(flux), np.nan)


def _draw_pulls(
    axes: Axes, model: ModelCurve, p: Mapping[str, Array], bands: Sequence[str], zero: float
) -> None:
    axes.axhspan(-1, 1, color=COLOURS["faint"], alpha=0.7, linewidth=0, zorder=0)
    axes.axhline(0, color=COLOURS["muted"], linewidth=0.7, zorder=1)
    usable = np.isfinite(p["flux"]) & (p["fluxerr"] > 0) & (p["zpsys"] == "ab")
    usable &= (p["jd"] >= model.mintime()) & (p["jd"] <= model.maxtime())
    for band in bands:
        style, here = band_style(band), usable & (p["band"] == band)
        if not here.any():
            continue
        expected = model.bandflux(band, p["jd"][here], zp=_MICROJANSKY, zpsys="ab")
        pull = (p["flux"][here] - expected) / p["fluxerr"][here]
        days, beyond = p["jd"][here] - zero, np.abs(pull) > _MAX_PULL
        axes.plot(
            days[~beyond], pull[~beyond], linestyle="none", marker=style.marker, markersize=3.4,
            color=style.colour, markeredgewidth=0,
        )  # fmt: skip
        for sign, arrow in ((1, "^"), (-1, "v")):
            some = beyond & (np.sign(pull) == sign)
            edge = np.full(some.sum(), sign * _MAX_PULL)
            axes.plot(
                days[some], edge, linestyle="none", marker=arrow, markersize=4, color=style.colour
            )
    axes.set_ylim(-6.4, 6.4)
    axes.set_yticks([-5, 0, 5], labels=["−5", "0", "5"])
    axes.set_ylabel("residual [σ]")


def _legend(axes: Axes, bands: Sequence[Band], lines: Sequence[Band], hidden: int) -> None:
    entries = [
        Line2D([], [], color=b.colour, marker=b.marker, markersize=4.5, label=b.label,
               linewidth=1.3 if b in lines else 0)
        for b in bands
    ]  # fmt: skip
    axes.legend(
        handles=entries, loc="lower left", bbox_to_anchor=(-0.01, 0.985), ncols=len(entries) or 1,
        columnspacing=1.2, handlelength=1.4 if lines else 0.6, borderaxespad=0.1,
    )  # fmt: skip
    if hidden:
        text = f"{hidden} point{'s' if hidden > 1 else ''} outside these dates"
        axes.text(
            1, 1.03, text, ha="right", va="bottom", transform=axes.transAxes, fontsize=8,
            color=COLOURS["muted"],
        )  # fmt: skip


# --- the sky -----------------------------------------------------------------------------------


def sky_map(
    ra: npt.ArrayLike, dec: npt.ArrayLike, *, highlight: int | None = None, form: str = "svg"
) -> bytes:
    """Plot positions on the whole sky (Mollweide), with the galactic plane.

    Parameters
    ----------
    ra, dec : array-like with shape (N,)
        Positions, degrees ICRS. Right ascension grows to the left, 180° is in the middle.
    highlight : int, optional
        The index of a position to highlight.
    form : str
        ``svg`` or ``png``.
    """
    x, y = _projected(np.atleast_1d(np.asarray(ra, float)), np.atleast_1d(np.asarray(dec, float)))

    def plot(figure: Figure) -> None:
        axes = _sky(figure, (0.06, 0.02, 0.92, 0.96))
        axes.set_xticklabels(["300°", "240°", "180°", "120°", "60°"])
        axes.set_yticklabels(["−60°", "−30°", "0°", "30°", "60°"])
        axes.tick_params(labelsize=7.5, labelcolor=COLOURS["muted"])
        others = np.arange(len(x)) != highlight
        axes.plot(
            x[others], y[others], linestyle="none", marker="o", markersize=3.6, markeredgewidth=0,
            color=COLOURS["accent"], alpha=0.75,
        )  # fmt: skip
        if highlight is not None:
            axes.plot(
                x[~others], y[~others], linestyle="none", marker="o", markersize=7, zorder=5,
                markerfacecolor=COLOURS["band-r"], markeredgecolor=COLOURS["paper"],
            )  # fmt: skip

    return draw((5.6, 3.0), plot, form)


def sky_locator(ra: npt.ArrayLike, dec: npt.ArrayLike) -> tuple[bytes, Array]:
    """Return a small empty map of the sky, and the places of positions (degrees ICRS) on it.

    A page can hold the map once and mark every candidate on it.

    Returns
    -------
    svg : bytes
        The map's file.
    places : ndarray with shape (N, 2)
        x and y in the coordinates of the SVG.
    """
    x, y = _projected(np.atleast_1d(np.asarray(ra, float)), np.atleast_1d(np.asarray(dec, float)))
    width, height = 2.4, 1.24
    places = np.empty((len(x), 2))

    def plot(figure: Figure) -> None:
        axes = _sky(figure, (0.01, 0.01, 0.98, 0.98))
        axes.set_xticklabels([])
        axes.set_yticklabels([])
        axes.apply_aspect()
        inches = axes.transData.transform(np.column_stack([x, y])) / figure.dpi
        places[:] = inches * [72, -72] + [0, 72 * height]

    return draw((width, height), plot), places


def _sky(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    axes = figure.add_axes(box, projection="mollweide")
    bare(axes)
    axes.spines["geo"].set_visible(True)
    axes.spines["geo"].set_edgecolor(COLOURS["muted"])
    axes.set_xticks(np.radians([-120, -60, 0, 60, 120]))
    axes.set_yticks(np.radians([-60, -30, 0, 30, 60]))
    axes.grid(True)
    axes.set_axisbelow(True)
    for plane, width in ((0.0, 1.0), (10.0, 0.5), (-10.0, 0.5)):
        axes.plot(*_galactic_circle(plane), color=COLOURS["muted"], linewidth=width, alpha=0.8)
    return axes


def _projected(ra: Array, dec: Array) -> tuple[Array, Array]:
    """Return coordinates of the axes, with 180° in the middle and growing to the left."""
    return np.radians(180.0 - ra % 360.0), np.radians(dec)


def _galactic_circle(latitude: float) -> tuple[Array, Array]:
    """Return a circle of galactic latitude on the axes, with a gap at the edge of the map."""
    from astropy.coordinates import Galactic, SkyCoord
    from astropy.units import deg

    longitude = np.linspace(0, 360, 181) * deg
    circle = SkyCoord(longitude, np.full(181, latitude) * deg, frame=Galactic).icrs
    x, y = _projected(circle.ra.deg, circle.dec.deg)
    jump = np.flatnonzero(np.abs(np.diff(x)) > np.pi) + 1
    return np.insert(x, jump, np.nan), np.insert(y, jump, np.nan)


# --- counts and pulls --------------------------------------------------------------------------


def funnel(steps: Sequence[Step], *, form: str = "svg") -> bytes:
    """Plot counts as bars on a logarithmic axis, each with its share of the bar above.

    Parameters
    ----------
    steps : sequence of Step
        The bars in order, from the archive to the candidates.
    form : str
        ``svg`` or ``png``.
    """
    counts = np.array([step.count for step in steps], float)

    def plot(figure: Figure) -> None:
        axes = figure.add_axes((0.30, 0.02, 0.68, 0.96))
        bare(axes)
        rows = np.arange(len(steps))
        # a bar begins at 0.7, so that one object has a visible bar and none has not
        lengths = np.log10(np.maximum(counts, 0.7) / 0.7)
        longest = max(float(lengths.max(initial=0)), 1.0)
        axes.barh(rows, lengths, height=0.62, color=COLOURS["accent"], alpha=0.85)
        for row, (step, length) in enumerate(zip(steps, lengths, strict=True)):
            share = f"\u2002({percent(step.count, steps[row - 1].count)})" if row else ""
            axes.annotate(
                f"{step.count:,}{share}", (length, row), (4, 0), textcoords="offset points",
                va="center",
            )  # fmt: skip
        axes.set_yticks(rows, labels=[step.label for step in steps])
        axes.set_xticks([])
        axes.set_xlim(0, longest * 1.35)
        axes.set_ylim(len(steps) - 0.5, -0.5)

    return draw((5.6, 0.32 * len(steps) + 0.2), plot, form)


def pulls(values: Mapping[str, npt.ArrayLike], *, form: str = "svg") -> bytes:
    """Plot histograms of pulls, (fit − truth) / error, against the unit normal distribution.

    Parameters
    ----------
    values : mapping of str to array-like
        Pulls by parameter; values that are not finite are ignored.
    form : str
        ``svg`` or ``png``.
    """
    grid = np.linspace(-5, 5, 101)
    normal = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)

    def plot(figure: Figure) -> None:
        for i, (name, given) in enumerate(values.items()):
            axes = figure.add_subplot(1, len(values), i + 1)
            pull = np.asarray(given, float)
            pull = pull[np.isfinite(pull)]
            counts, edges = np.histogram(np.clip(pull, -4.999, 4.999), bins=25, range=(-5, 5))
            density = counts / (max(len(pull), 1) * np.diff(edges))
            axes.stairs(density, edges, fill=True, color=COLOURS["accent"], alpha=0.75)
            axes.plot(grid, normal, color=COLOURS["ink"], linewidth=1)
            axes.set_title(f"{name} ({len(pull)})", pad=4)
            if len(pull):
                middle = float(np.median(pull))
                width = 1.4826 * float(np.median(np.abs(pull - middle)))
                text = f"median {middle:+.2f}, σ {width:.2f}".replace("-", "−")
                if beyond := int(np.sum(np.abs(pull) > 5.0)):
                    text += f"; {beyond} beyond ±5"
                axes.set_xlabel(text, fontsize=8.5)
            axes.set_xticks([-4, -2, 0, 2, 4], labels=["−4", "−2", "0", "2", "4"])
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.set_xlim(-5, 5)
        figure.subplots_adjust(0.02, 0.2, 0.98, 0.86, wspace=0.12)

    return draw((1.75 * len(values), 1.9), plot, form)
