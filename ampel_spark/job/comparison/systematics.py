"""A job and its variations, compared: shifts, the covariance of distances, and their page.

The covariance of distances is that of Conley et al. 2011 (doi:10.1088/0067-0049/192/1/1):
C = sum over variations of W² d dᵀ, with d the shifts of the distance moduli.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from ampel_spark.job.comparison.shift_plots import (
    covariance_plot,
    redshift_plot,
    residual_plot,
    shift_plot,
)
from ampel_spark.job.comparison.shifts import robust
from ampel_spark.t3.cosmology import CosmologyFit
from ampel_spark.t3.figures import for_page
from ampel_spark.t3.numbers import ABSENT, count, with_error
from ampel_spark.t3.pages import page, write_page

__all__ = [
    "LARGEST",
    "MU",
    "Grid",
    "Varied",
    "covariance",
    "distances",
    "factors",
    "render_systematics",
    "shifts",
    "write_covariance",
    "write_factors",
]

Array = npt.NDArray[Any]

_ROWS = 100
#: Distances of the largest covariance that is written out.
LARGEST = 5_000
#: The parameter that stands for the distance modulus.
MU = "mu"


@dataclass(frozen=True)
class Varied:
    """One variation.

    Attributes
    ----------
    name, run_id : str
    what : str
        What it changes.
    weight : float
    values : dict of str to ndarray with shape (N,)
        By parameter, for the objects of the sample; NaN where the variation has none.
    hops : ndarray of bool with shape (N,)
        Which objects changed minimum.
    computed : dict of str to (int, int)
        Results computed and wanted, by unit.
    """

    name: str
    run_id: str
    what: str
    weight: float
    values: Mapping[str, Array]
    hops: Array
    computed: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Grid:
    """A nominal run, its sample, and the variations.

    Attributes
    ----------
    run_id : str
    names : ndarray of str with shape (N,)
    stocks : ndarray of int64 with shape (N,)
    nominal, errors : dict of str to ndarray with shape (N,)
        By parameter.
    variations : tuple of Varied
    code : int
        Exit code: that of the nominal run, or 3 where an object ended in an exception in one.
    cosmology : mapping of str to CosmologyFit
        Fits of flat LCDM, by what they take: ``statistics`` alone, ``with systematics``.
    redshifts : ndarray with shape (N,), optional
    """

    run_id: str
    names: Array
    stocks: Array
    nominal: Mapping[str, Array]
    errors: Mapping[str, Array]
    variations: tuple[Varied, ...]
    code: int = 0
    cosmology: Mapping[str, CosmologyFit] = field(default_factory=dict)
    redshifts: Array | None = None


def shifts(grid: Grid, parameter: str) -> Array:
    """Return the shifts of a parameter, with shape (K, N); NaN where a variation has no value."""
    before = grid.nominal[parameter]
    return np.array([v.values[parameter] - before for v in grid.variations])


def distances(x0: Array, x1: Array, c: Array, alpha: float, beta: float) -> Array:
    """Return distance moduli but for a constant [mag]; NaN where x0 is not above 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        brightness = np.where(x0 > 0, -2.5 * np.log10(x0), np.nan)
    moduli: Array = brightness + alpha * x1 - beta * c
    return moduli


def factors(grid: Grid) -> tuple[Array, Array]:
    """Return the factors F of the systematic covariance of the distances, which is Fᵀ F.

    Returns
    -------
    factors : ndarray with shape (K, M)
        Weighted shifts of the distances, one row a variation [mag].
    rows : ndarray of int with shape (M,)
        Objects of the sample that have a distance in the nominal run and in every variation.
    """
    moved = shifts(grid, MU)
    rows = np.flatnonzero(np.isfinite(moved).all(axis=0))
    return moved[:, rows] * np.array([v.weight for v in grid.variations])[:, None], rows


def covariance(scaled: Array) -> Array:
    """Return the covariance of `factors`, with shape (M, M) [mag²].

    It is symmetric and positive semi-definite, of rank K at most.
    """
    matrix: Array = np.zeros((scaled.shape[1], scaled.shape[1]))
    for shift in scaled:  # one after the other: a product of matrices may sum in any order
        matrix += np.outer(shift, shift)
    return matrix


def render_systematics(grid: Grid, scaled: Array | None) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    grid : Grid
    scaled : ndarray with shape (K, M), optional
        The `factors` of the covariance of the distances. Of `LARGEST` distances at most, the page
        shows the covariance.
    """
    parameters = sorted(grid.nominal, key=lambda name: name != MU)
    shown = parameters[0]
    hops = {v.name: v.hops for v in grid.variations}
    anywhere = np.any([*hops.values()], axis=0)
    view = {
        "run_id": grid.run_id,
        "headline": f"{len(grid.variations)} variations of {count(len(grid.names))} objects",
        "facts": [
            ("objects", count(len(grid.names))),
            ("changed minimum somewhere", count(int(anywhere.sum()))),
            *([("√ mean diagonal", _millimag(_scale(scaled)))] if scaled is not None else []),
        ],
        "parameters": [_labelled(name) for name in parameters],
        "variations": [_row(grid, v, parameters) for v in grid.variations],
        "covariance": None if scaled is None else _summary(scaled),
        "distances": scaled is not None,
        "cosmology": [(name, str(fit)) for name, fit in grid.cosmology.items()],
        "pictures": _pictures(grid, scaled),
        "shown": shown,
        "plots": [_plot(i, grid, v, shown) for i, v in enumerate(grid.variations)],
        "hoppers": [
            (grid.names[i], ", ".join(name for name, h in hops.items() if h[i]))
            for i in np.flatnonzero(anywhere)[:_ROWS]
        ],
    }
    return page("systematics.html", view)


def write_factors(path: Path, grid: Grid, scaled: Array, rows: Array) -> None:
    """Write the factors of a covariance, with the objects and the variations that they are of.

    The arrays are ``factors`` with shape (K, M) [mag], ``stocks`` with shape (M,), and
    ``variations`` with shape (K,); the covariance is ``factors.T @ factors``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    names = np.array([v.name for v in grid.variations])
    with path.open("wb") as stream:
        np.savez(stream, factors=scaled, stocks=grid.stocks[rows], variations=names)


def write_covariance(path: Path, matrix: Array) -> None:
    """Write a covariance as cosmology fits read it: its size, then its values, one to a line.

    This is the form of Pantheon+ (Brout et al. 2022, arXiv:2202.04077).
    """
    lines = [str(len(matrix)), *(repr(float(value)) for value in matrix.ravel())]
    write_page(path, "\n".join(lines) + "\n")


def _row(grid: Grid, varied: Varied, parameters: Sequence[str]) -> dict[str, Any]:
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
    return f"{name} [mag]" if name == MU else name


def _plot(i: int, grid: Grid, varied: Varied, shown: str) -> dict[str, Any]:
    before, after = grid.nominal[shown], varied.values[shown]
    both = np.isfinite(before) & np.isfinite(after)
    unit = "mag" if shown == MU else ""
    svg = shift_plot(shown, before[both], after[both], varied.hops[both], unit=unit)
    caption = f"{varied.name}: {with_error(*robust(after - before))}"
    return {"svg": Markup(for_page(svg, f"v{i}-")), "caption": caption}


def _pictures(grid: Grid, scaled: Array | None) -> list[dict[str, Any]]:
    """Return the plots that have redshifts or the whole covariance, with their captions."""
    found: list[tuple[bytes, str]] = []
    z = grid.redshifts
    if z is not None and MU in grid.nominal:
        moved = {v.name: v.values[MU] - grid.nominal[MU] for v in grid.variations}
        found.append((redshift_plot(z, moved), "shifts of distances against redshift"))
    if scaled is not None and 0 < scaled.shape[1] <= LARGEST:
        matrix = covariance(scaled)
        known = np.flatnonzero(np.isfinite(shifts(grid, MU)).all(axis=0))
        order = np.arange(len(matrix)) if z is None else np.argsort(z[known], kind="stable")
        sorted_by = "stock" if z is None else "redshift"
        text = f"covariance of distances [mmag²], objects in order of {sorted_by}"
        found.append((covariance_plot(matrix[np.ix_(order, order)]), text))
    for name, fit in grid.cosmology.items():
        if fit.redshifts is not None:
            plot = residual_plot(fit.redshifts, fit.residuals, fit.sigmas)
            found.append((plot, f"residuals of the Hubble diagram, {name}"))
            break
    return [
        {"svg": Markup(for_page(svg, f"k{i}-")), "caption": text}
        for i, (svg, text) in enumerate(found)
    ]


def _scale(scaled: Array) -> float:
    """Return the root of the mean diagonal of the covariance."""
    return float(np.sqrt(np.mean(np.sum(scaled**2, axis=0)))) if scaled.size else np.nan


def _root_mean_square(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(known**2))) if len(known) else np.nan


def _millimag(value: float) -> str:
    return f"{1e3 * value:.1f} mmag" if np.isfinite(value) else ABSENT


def _summary(scaled: Array) -> str:
    values = np.linalg.eigvalsh(scaled @ scaled.T)  # of the covariance, but for zeros
    rank = int(np.sum(values > 1e-10 * max(values.max(initial=0.0), 1e-300)))
    return (
        f"The covariance of {count(scaled.shape[1])} distances has rank {rank}; the root of its "
        f"mean diagonal is {_millimag(_scale(scaled))}."
    )
