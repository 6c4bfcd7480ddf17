"""Band-integrated light curves of spectral time series, tabulated once for all light curves.

A `sncosmo.TimeSeriesSource` is one amplitude times a spectrum that changes with phase,

    F(p, λ) = amplitude M(p, λ),

M a spline: between two phases of its grid a cubic in phase, whatever the wavelength. So is the
photon integral over a bandpass, and its values and slopes on the grid give it everywhere, exactly.
They are tabulated over redshift (four-point Lagrange interpolation between nodes 0.002 apart).

Dust of the Milky Way acts inside the integral. With k(λ) the extinction in units of E(B-V), as
optical depth, and k0 its mean over the band,

    exp(-E k) = exp(-E k0) Σ_n (-E)^n (k - k0)^n / n!,

of which four terms do for E(B-V) below 1 (within 0.1 % of the flux; 1e-5 below 0.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import sncosmo
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from sncosmo.constants import HC_ERG_AA, MODEL_BANDFLUX_SPACING
from sncosmo.utils import integration_grid

from ampel_spark.errors import ConfigError
from ampel_spark.salt.dust import extinction_per_ebv

__all__ = ["REFERENCE_ZP", "TemplateTables", "build_tables", "check_source"]

Array = NDArray[np.float64]

#: Flux unit of the tables: AB magnitudes with this zero point.
REFERENCE_ZP = 25.0
#: Terms of the dust's expansion.
TERMS = 4
#: Step in t0 of a scan as a part of the time above half of the maximum; its limits, days.
SCAN_PART, SCAN_LOW, SCAN_HIGH = 0.1, 0.1, 2.5


class TemplateTables(NamedTuple):
    """What a fit reads: arrays and numbers only, so that compiled code can take it as it is.

    T templates, B bands, Z redshift nodes, P phases at most.
    """

    #: (T, B, Z, terms, 2P): values and slopes, interleaved, for amplitude 1.
    flux: Array
    #: (T, P) phases of each template in rest-frame days, and (T,) how many there are.
    phases: Array
    n_phases: NDArray[np.int64]
    #: (T,) whether there is no flux before the first phase; whether lines join the phases.
    zero_before: NDArray[np.bool_]
    linear: NDArray[np.bool_]
    #: (T,) step of a scan in t0, rest-frame days.
    scan_step: Array
    #: (B,) mean optical depth of the dust for E(B-V) = 1.
    depth: Array
    #: (B,) and (T,) ends of the bandpasses, and of the templates in their rest frame, Å.
    band_min: Array
    band_max: Array
    model_min: Array
    model_max: Array
    #: First redshift node, step, and the range that may be asked for.
    z_start: float
    z_step: float
    z_min: float
    z_max: float


def check_source(source: Any) -> None:
    """Raise ConfigError where a source is none that the tables can hold."""
    name = getattr(source, "name", source)
    if not isinstance(source, sncosmo.TimeSeriesSource):
        raise ConfigError(
            f"template {name!r} is a {type(source).__name__}, not a TimeSeriesSource: give a model "
            "whose one parameter is its amplitude"
        )
    degree = source._model_flux.degrees[0]
    if degree not in (1, 3):
        raise ConfigError(f"template {name!r}: a spline in time of degree {degree}: give 1 or 3")


def build_tables(
    sources: Sequence[Any],
    bands: Sequence[Any],
    z_range: tuple[float, float],
    *,
    dust_law: str = "F99",
    r_v: float = 3.1,
    z_step: float = 0.002,
) -> TemplateTables:
    """Integrate templates over bandpasses.

    Parameters
    ----------
    sources : sequence of sncosmo.TimeSeriesSource
        The templates, their amplitude at 1.
    bands : sequence of sncosmo.Bandpass
        Bandpasses in the observer frame.
    z_range : (float, float)
        Lowest and highest redshift that fits may use.
    dust_law : {"F99", "CCM89", "O94"}
        Extinction law of the Milky Way.
    r_v : float
        Its ratio A(V)/E(B-V).
    z_step : float
        Distance of the redshift nodes.

    Raises
    ------
    ConfigError
        Where there is no template or band, a source is no time series, or the range is none.
    """
    if not sources or not bands:
        raise ConfigError("templates: give at least one template and one band")
    for source in sources:
        check_source(source)
    low, high = float(z_range[0]), float(z_range[1])
    if not (math.isfinite(low) and math.isfinite(high) and -0.5 < low <= high):
        raise ConfigError(f"z_range {z_range}: give finite -0.5 < lowest <= highest redshift")
    start = low - 2.0 * z_step
    redshifts = start + z_step * np.arange(int(np.ceil((high - start) / z_step)) + 3)
    size = max(len(source._phase) for source in sources)
    flux = np.zeros((len(sources), len(bands), len(redshifts), TERMS, 2 * size))
    phases = np.zeros((len(sources), size))
    depth = np.empty(len(bands))
    grids = []
    for b, band in enumerate(bands):
        wave, step = integration_grid(band.minwave(), band.maxwave(), MODEL_BANDFLUX_SPACING)
        weight = wave * band(wave) * step / HC_ERG_AA
        weight *= 10.0 ** (0.4 * REFERENCE_ZP) / sncosmo.get_magsystem("ab").zpbandflux(band)
        law = 0.4 * math.log(10.0) * extinction_per_ebv(dust_law, wave, r_v)
        depth[b] = float((weight * law).sum() / weight.sum())
        powers = [(law - depth[b]) ** n / math.factorial(n) for n in range(TERMS)]
        grids.append((wave, weight[:, None] * np.stack(powers, axis=1)))
    for t, source in enumerate(sources):
        phase = np.asarray(source._phase, float)
        n = len(phase)
        phases[t, :n], phases[t, n:] = phase, phase[-1]
        # The spline is a sum of products: its part in phase is the same for all redshifts.
        knots, wave_knots, coefficients = source._model_flux.tck
        degree, wave_degree = source._model_flux.degrees
        shape = (len(knots) - degree - 1, len(wave_knots) - wave_degree - 1)
        parts = [
            BSpline(knots, coefficients.reshape(shape), degree)(phase, order) for order in (0, 1)
        ]
        for b, (wave, weights) in enumerate(grids):
            for i, z in enumerate(redshifts):
                # Beyond the model its edge value is continued: such a node only serves to
                # interpolate towards redshifts where the band lies inside.
                rest = np.clip(wave / (1.0 + z), source.minwave(), source.maxwave())
                basis = BSpline.design_matrix(rest, wave_knots, wave_degree)
                integral = basis.T @ weights / (1.0 + z)
                for k in (0, 1):
                    flux[t, b, i, :, k : 2 * n : 2] = (parts[k] @ integral).T
    return TemplateTables(
        flux=flux,
        phases=phases,
        n_phases=np.array([len(source._phase) for source in sources]),
        zero_before=np.array([bool(source._zero_before) for source in sources]),
        linear=np.array([source._model_flux.degrees[0] == 1 for source in sources]),
        scan_step=np.array([_scan_step(source) for source in sources]),
        depth=depth,
        band_min=np.array([float(band.minwave()) for band in bands]),
        band_max=np.array([float(band.maxwave()) for band in bands]),
        model_min=np.array([float(source.minwave()) for source in sources]),
        model_max=np.array([float(source.maxwave()) for source in sources]),
        z_start=start,
        z_step=float(z_step),
        z_min=low,
        z_max=high,
    )


def _scan_step(source: Any) -> float:
    """Step in t0 in which no maximum is passed over, rest-frame days."""
    phase = np.arange(source.minphase(), source.maxphase(), 0.1)
    if len(phase) < 2:
        return SCAN_LOW
    wave = np.linspace(source.minwave(), source.maxwave(), 64)
    total = source._model_flux(phase, wave).clip(0.0).sum(axis=1)
    width = 0.1 * float((total > 0.5 * total.max()).sum())
    return float(np.clip(SCAN_PART * width, SCAN_LOW, SCAN_HIGH))
