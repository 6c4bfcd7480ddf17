"""A Hubble diagram of fitted supernovae, with a flat LCDM fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from matplotlib.figure import Figure

from ampel_spark.errors import LakeError
from ampel_spark.t3.cosmology import CosmologyFit, DistanceSample, distance_moduli, fit_flat_lcdm
from ampel_spark.t3.figures import COLOURS
from ampel_spark.t3.sample import Sample
from ampel_spark.t3.unit import Message, Output, Plot, Rows, T3Unit
from ampel_spark.t3.units.scatter import form_for

__all__ = ["HubbleDiagram", "standardised"]

Array = npt.NDArray[Any]

_PARAMETERS = ("x0", "x1", "c")


class HubbleDiagram(T3Unit):
    """Distances of SALT fits against redshift, and flat LCDM fitted to them.

    Distances are those of Tripp (1998), mu = -2.5 log10(x0) + alpha x1 - beta c and a constant.
    """

    fit: str = "salt_fit"
    "Entry of t2 with SALT fits: x0, x1, c and z, with their covariance."
    z: str | None = None
    "Redshift instead of the fit's: a column of the selection, or an expression."
    alpha: float = 0.14
    "Slope with stretch [mag]; where it is fitted, the first guess."
    beta: float = 3.1
    "Slope with colour [mag]; where it is fitted, the first guess."
    free: bool = True
    "Whether alpha and beta are fitted."
    sigma_int: float | None = None
    "Intrinsic scatter [mag]; none: it is fitted."
    velocity: float = 250.0
    "Peculiar velocities [km/s]."

    def reads(self) -> Sequence[str]:
        """Return the expressions that it takes of the sample."""
        own = [f"{self.fit}.{name}" for name in ("z", *_PARAMETERS)]
        return own if self.z is None else [*own, self.z]

    def process(self, sample: Sample) -> Iterator[Output]:
        """Yield the diagram, the distances and what was fitted."""
        z = sample.values(self.z or f"{self.fit}.z")
        measured, good = standardised(sample.results(self.fit), z)
        lost = len(sample) - int(good.sum())
        if lost:
            yield Message(f"{lost} of {len(sample)} candidates have no distance")
        try:
            found = fit_flat_lcdm(
                measured, alpha=self.alpha, beta=self.beta, free=self.free,
                sigma_int=self.sigma_int, velocity=self.velocity,
            )  # fmt: skip
        except LakeError as error:  # too few
            yield Message(str(error))
            return
        yield Message(f"{found}, {len(measured.z)} supernovae")
        names = np.array(sample.names, object)[good]
        expected = distance_moduli(measured.z, found.om0)
        mu = expected + found.residuals
        yield Rows(
            {"name": names, "z": measured.z, "mu": mu, "mu_err": found.sigmas,
             "residual": found.residuals},
            {"mu": "mag", "mu_err": "mag", "residual": "mag"},
            {"mu": "distance modulus for H0 = 70 km/s/Mpc", "residual": "mu less that of the fit"},
        )  # fmt: skip

        def draw(figure: Figure) -> None:
            _draw(figure, measured.z, mu, found)

        caption = f"Hubble diagram of {len(mu)} supernovae, and flat ΛCDM with Ωm = {found.om0:.3f}"
        yield Plot("hubble_diagram", draw, caption, (5.2, 4.6), form_for(len(mu)))


def standardised(fits: pa.Table, z: Array) -> tuple[DistanceSample, Array]:
    """Return what a cosmology fit takes of SALT fits, and which of them it takes.

    Parameters
    ----------
    fits : Arrow table
        ``x0, x1, c``, and ``fitted`` with ``covariance``, else errors ``x0_err`` and so on.
    z : ndarray with shape (N,)
        Redshifts.
    """
    given = np.array([pa.array(fits[n]).cast(pa.float64()).to_numpy(False) for n in _PARAMETERS]).T
    covariance = np.array([_covariance(row) for row in fits.to_pylist()]).reshape(-1, 3, 3)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = given.copy()
        values[:, 0] = -2.5 * np.log10(given[:, 0])
        slope = np.column_stack([-2.5 / np.log(10.0) / given[:, 0], np.ones((len(z), 2))])
    covariance = covariance * slope[:, :, None] * slope[:, None, :]
    good = np.isfinite(z) & (z > 0) & (z < 3) & np.isfinite(values).all(axis=1)
    good &= np.isfinite(covariance).all(axis=(1, 2))
    nothing = np.zeros((0, int(good.sum()), 3))
    return DistanceSample(z[good], values[good], covariance[good], nothing), good


def _covariance(row: dict[str, Any]) -> Array:
    """Return the covariance of x0, x1 and c; NaN where there is none."""
    matrix, names = row.get("covariance"), row.get("fitted")
    if matrix and names:
        square = np.reshape(np.array(matrix, float), (len(names), len(names)))
        at = [(k, names.index(n)) for k, n in enumerate(_PARAMETERS) if n in names]
        found = np.zeros((3, 3))  # a parameter that is held has no error
        mine, theirs = ([pair[side] for pair in at] for side in (0, 1))
        found[np.ix_(mine, mine)] = square[np.ix_(theirs, theirs)]
        return found
    errors = [row.get(f"{name}_err") for name in _PARAMETERS]
    return np.diag([np.nan if e is None else e for e in errors]) ** 2


def _draw(figure: Figure, z: Array, mu: Array, found: CosmologyFit) -> None:
    upper = figure.add_axes((0.13, 0.4, 0.84, 0.57))
    lower = figure.add_axes((0.13, 0.12, 0.84, 0.26), sharex=upper)
    style = {"fmt": "o", "markersize": 2.5, "linewidth": 0.5, "color": COLOURS["accent"]}
    upper.errorbar(z, mu, found.sigmas, **style)  # type: ignore[arg-type]
    along = np.geomspace(z.min(), z.max(), 100)
    upper.plot(along, distance_moduli(along, found.om0), color=COLOURS["ink"], linewidth=0.8)
    upper.set_ylabel("distance modulus [mag]")
    upper.tick_params(labelbottom=False)
    lower.errorbar(z, found.residuals, found.sigmas, **style)  # type: ignore[arg-type]
    lower.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    lower.set_xscale("log")
    lower.set_xlabel("redshift")
    lower.set_ylabel("residual [mag]")
