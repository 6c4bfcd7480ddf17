"""Band-integrated SALT templates, tabulated once for all light curves.

SALT [1]_ [2]_ [3]_ gives the rest-frame spectrum of a type Ia supernova as

    F(p, λ) = x0 [M0(p, λ) + x1 M1(p, λ)] 10^(-0.4 c CL(λ)),

p the phase in rest-frame days. What a camera measures is the photon integral of F(p, λ a) a over
a bandpass, a = 1/(1+z), dimmed by the dust of the Milky Way. Doing this integral in each step of a
fit is what makes ordinary fits slow. It is done here once per bandpass and redshift node: the
template rows M_k(row, ·) of one phase each are integrated over the band,

    flux[band, z, q, row, k] = Σ_λ λ T(λ) Δλ a L_q(λ) M_k(row, λ a) / (h c · zero point),

on the wavelength grid that sncosmo itself uses (midpoints of at most 5 Å), split by the Lagrange
basis L_q on a few Chebyshev nodes λ_q in the band. A function of wavelength that is smooth across a
band, such as colour law and dust, then multiplies the nodes at no cost:

    band flux(row) = x0 Σ_q 10^(-0.4 [c CL(λ_q a) + E(B-V) k(λ_q)]) (flux[.., 0] + x1 flux[.., 1]).

Between redshift nodes: four-point Lagrange interpolation. Between phases: sncosmo's (and snfit's)
cubic convolution [4]_, which is linear in phase and wavelength in the outermost cells; these two
cells have rows of their own. With eight nodes and steps of 0.002 in redshift the flux is within
1e-4 of the peak flux of sncosmo's, and typically within 2e-6.

References
----------
.. [1] Guy et al. 2007, A&A 466, 11, doi:10.1051/0004-6361:20066930 (SALT2)
.. [2] Kenworthy et al. 2021, ApJ 923, 265, doi:10.3847/1538-4357/ac30d8 (SALT3)
.. [3] Taylor et al. 2023, MNRAS 520, 5209, doi:10.1093/mnras/stad320 (SALT3-F22 and comparisons)
.. [4] Keys 1981, IEEE Trans. ASSP 29, 1153, doi:10.1109/TASSP.1981.1163711
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import sncosmo
from numpy.typing import NDArray
from sncosmo.constants import HC_ERG_AA, MODEL_BANDFLUX_SPACING
from sncosmo.utils import integration_grid

from ampel_spark.errors import ConfigError

__all__ = ["Tables", "build_tables", "chebyshev_nodes", "colour_law_nodes"]

Array = NDArray[np.float64]

#: Flux unit of the tables: AB magnitudes with this zero point.
REFERENCE_ZP = 25.0
#: Variance that stands for a negative (interpolated) one, relative to the flux squared: snfit's.
VARIANCE_FLOOR = 1e-4


class Tables(NamedTuple):
    """What a fit reads: arrays and numbers only, so that compiled code can take it as it is.

    B bands, Z redshift nodes, Q wavelength nodes, R = phases + 4 rows (two for each outermost
    cell).
    """

    #: (B, Z, Q, 2R) integrals of M0 and M1, interleaved, for AB zero point 25 and x0 = 1.
    flux: Array
    #: (B, Z, Q) colour law at the wavelength nodes, magnitudes for c = 1.
    colour: Array
    #: (B, Z, 4RV) variances V00, V01, V11 and error scale at the effective wavelength.
    variance: Array
    #: (B, Z) colour dispersion at the effective wavelength.
    dispersion: Array
    #: (B,) what turns a tabulated flux into the band's mean of M0 + x1 M1 (times 1 + z).
    mean_flux: Array
    #: (B, Q) observer-frame wavelengths of the nodes, Å.
    nodes: Array
    #: (B,) ends of the bandpasses, Å.
    band_min: Array
    band_max: Array
    #: Rest-frame range of the model, Å.
    model_min: float
    model_max: float
    #: First redshift node, step, and the range that may be asked for.
    z_start: float
    z_step: float
    z_min: float
    z_max: float
    #: First phase, step and number of phases of the templates, and of the variances (days).
    phase_start: float
    phase_step: float
    n_phases: int
    var_start: float
    var_step: float
    n_var: int
    #: Whether the variances are relative to the flux (SALT2) or in units of M0 squared (SALT3).
    relative: bool


def chebyshev_nodes(low: float, high: float, n: int) -> Array:
    """Return the `n` Chebyshev nodes of [`low`, `high`], ascending."""
    k = np.arange(n)
    return 0.5 * (low + high) - 0.5 * (high - low) * np.cos(np.pi * (2 * k + 1) / (2 * n))


def colour_law_nodes(source: Any, wave: Array) -> Array:
    """Return the colour law (mag for c = 1) at rest-frame wavelengths of any shape."""
    return np.asarray(source.colorlaw(wave.ravel())).reshape(wave.shape)


def build_tables(
    source: Any,
    bands: Sequence[Any],
    z_range: tuple[float, float],
    *,
    z_step: float = 0.002,
    n_nodes: int = 8,
) -> Tables:
    """Integrate the templates of a SALT source over bandpasses.

    Parameters
    ----------
    source : sncosmo.SALT2Source
        SALT2 or SALT3 (a subclass), any version.
    bands : sequence of sncosmo.Bandpass
        Bandpasses in the observer frame.
    z_range : (float, float)
        Lowest and highest redshift that fits may use.
    z_step : float
        Distance of the redshift nodes.
    n_nodes : int
        Wavelength nodes per band.

    Raises
    ------
    ConfigError
        Where the source is no SALT model or its phases are not evenly spaced, where the redshift
        range is empty, or where it does not start above -1.
    """
    if not isinstance(source, sncosmo.SALT2Source):
        raise ConfigError(
            f"source {getattr(source, 'name', source)!r} is a {type(source).__name__}, not a SALT2 "
            "or SALT3 model: fit it with sncosmo.fit_lc"
        )
    low, high = float(z_range[0]), float(z_range[1])
    if not (np.isfinite(low) and np.isfinite(high) and -0.5 < low <= high):
        raise ConfigError(f"z_range {z_range}: give finite -0.5 < lowest <= highest redshift")
    start = low - 2.0 * z_step
    n_z = int(np.ceil((high - start) / z_step)) + 3
    redshifts = start + z_step * np.arange(n_z)

    m0, m1 = source._model["M0"], source._model["M1"]
    phases = _template_phases(source, m0)
    var_keys = ["LCRV00", "LCRV01", "LCRV11"]
    var_phases = _variance_phases(source._model["LCRV00"], phases, source)

    rows, var_rows = len(phases) + 4, len(var_phases) + 4
    flux = np.empty((len(bands), n_z, n_nodes, rows, 2))
    colour = np.empty((len(bands), n_z, n_nodes))
    variance = np.ones((len(bands), n_z, var_rows, 4))
    dispersion = np.empty((len(bands), n_z))
    mean_flux = np.empty(len(bands))
    nodes = np.empty((len(bands), n_nodes))
    model_min, model_max = float(source.minwave()), float(source.maxwave())

    for b, band in enumerate(bands):
        wave, d_wave = integration_grid(band.minwave(), band.maxwave(), MODEL_BANDFLUX_SPACING)
        nodes[b] = chebyshev_nodes(band.minwave(), band.maxwave(), n_nodes)
        photons = wave * band(wave) * d_wave / HC_ERG_AA
        scale = 10.0 ** (0.4 * REFERENCE_ZP) / sncosmo.get_magsystem("ab").zpbandflux(band)
        weights = _lagrange_basis(nodes[b], wave) * (photons * scale)[:, None]
        mean_flux[b] = 1.0 / (photons.sum() * scale)
        for i, z in enumerate(redshifts):
            # Where a band reaches beyond the model at a node, its edge value is continued: the
            # node only serves to interpolate towards redshifts where the band lies inside.
            rest = np.clip(wave / (1.0 + z), model_min, model_max)
            for k, template in enumerate((m0, m1)):
                flux[b, i, :, :, k] = (_rows(template, phases, rest) @ weights).T / (1.0 + z)
            colour[b, i] = colour_law_nodes(source, nodes[b] / (1.0 + z))
            centre = np.clip(np.array([band.wave_eff / (1.0 + z)]), model_min, model_max)
            for k, key in enumerate(var_keys):
                variance[b, i, :, k] = _rows(source._model[key], var_phases, centre)[:, 0]
            if "errscale" in source._model:
                scale_rows = _rows(source._model["errscale"], var_phases, centre)
                variance[b, i, :, 3] = scale_rows[:, 0]
            dispersion[b, i] = float(source._colordisp(centre[0]))

    relative = not isinstance(source, sncosmo.SALT3Source)
    if not relative:
        # In the kernel's units (M0 of order one, not 1e-12) nothing comes near underflow.
        variance[..., :3] /= source._SCALE_FACTOR**2
        mean_flux /= source._SCALE_FACTOR
    return Tables(
        flux=flux.reshape(len(bands), n_z, n_nodes, 2 * rows),
        colour=colour,
        variance=variance.reshape(len(bands), n_z, 4 * var_rows),
        dispersion=dispersion,
        mean_flux=mean_flux,
        nodes=nodes,
        band_min=np.array([float(b.minwave()) for b in bands]),
        band_max=np.array([float(b.maxwave()) for b in bands]),
        model_min=model_min,
        model_max=model_max,
        z_start=start,
        z_step=float(z_step),
        z_min=low,
        z_max=high,
        phase_start=float(phases[0]),
        phase_step=float(phases[1] - phases[0]),
        n_phases=len(phases),
        var_start=float(var_phases[0]),
        var_step=float(var_phases[1] - var_phases[0]),
        n_var=len(var_phases),
        relative=relative,
    )


def _lagrange_basis(nodes: Array, x: Array) -> Array:
    """Lagrange polynomials of `nodes` at `x`: shape (len(x), len(nodes))."""
    basis = np.ones((len(x), len(nodes)))
    for q, node in enumerate(nodes):
        for other in np.delete(nodes, q):
            basis[:, q] *= (x - other) / (node - other)
    return basis


def _rows(template: Callable[[Array, Array], Array], phases: Array, wave: Array) -> Array:
    """Values on which the phase interpolation works: shape (phases + 4, len(wave)).

    Two rows of the first cell, all phases, two rows of the last cell. The interpolator hides its
    nodes, and returns in the outermost cells the bilinear value even on a node, so the rows come
    from values at cell centres: linear there, in the next cells the cubic convolution's weights
    (-1, 9, 9, -1) / 16.
    """
    step = phases[1] - phases[0]
    centres = phases[[0, 1, -4, -3, -2]] + 0.5 * step
    first, second, before, last_but_one, last = template(centres, wave)
    rows = np.empty((len(phases) + 4, len(wave)))
    rows[2:-2] = template(phases, wave)
    body = rows[2:-2]
    rows[0] = body[0]
    rows[1] = 2.0 * first - rows[0]
    rows[-1] = body[-1]
    rows[-2] = 2.0 * last - rows[-1]
    body[0] = 9.0 * (body[1] + body[2]) - body[3] - 16.0 * second
    body[-2] = 9.0 * (body[-4] + body[-3]) - body[-5] - 16.0 * before
    body[-1] = 9.0 * (body[-3] + body[-2]) - body[-4] - 16.0 * last_but_one
    return rows


def _template_phases(source: Any, template: Callable[[Array, Array], Array]) -> Array:
    phases = np.asarray(source._phase, dtype=float)
    if len(phases) < 8 or not np.allclose(np.diff(phases), phases[1] - phases[0]):
        raise ConfigError(f"source {source.name!r}: the phases of its templates are not even")
    if not _reproduces(template, phases, source):
        raise ConfigError(f"source {source.name!r}: its templates have other phases than it says")
    return phases


def _variance_phases(template: Any, phases: Array, source: Any) -> Array:
    """Phases of the variance grids: the templates' own (SALT3) or half a step inside (SALT2)."""
    step = phases[1] - phases[0]
    for candidate in (phases, phases[:-1] + 0.5 * step):
        if _reproduces(template, candidate, source):
            return candidate
    raise ConfigError(f"source {source.name!r}: unknown phases of its variance grids")


def _reproduces(template: Callable[[Array, Array], Array], phases: Array, source: Any) -> bool:
    """Whether rows on `phases` give the interpolator's values between them."""
    wave = np.linspace(source.minwave(), source.maxwave(), 24)[2:-2]
    rows = _rows(template, phases, wave)[2:-2]
    t, i = 0.3, np.arange(1, len(phases) - 2)
    weights = (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
    mine = sum(w * rows[i - 1 + k] for k, w in enumerate(weights))
    theirs = template(phases[i] + t * (phases[1] - phases[0]), wave)
    return bool(np.allclose(mine, theirs, rtol=1e-6, atol=1e-8 * np.abs(theirs).max()))
