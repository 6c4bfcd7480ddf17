"""Extinction by dust in the Milky Way, as magnitudes per unit of E(B-V).

The laws are those of the `extinction` package, which sncosmo uses too, so that "F99" here is
sncosmo's ``F99Dust`` (and so on). A law is evaluated in the observer frame at the wavelength nodes
of each band; the nodes' interpolation carries it into the band integral.

References
----------
Cardelli, Clayton & Mathis 1989, ApJ 345, 245, doi:10.1086/167900 (CCM89);
O'Donnell 1994, ApJ 422, 158, doi:10.1086/173713 (O94);
Fitzpatrick 1999, PASP 111, 63, doi:10.1086/316293 (F99).
"""

from __future__ import annotations

import extinction
import numpy as np
from numpy.typing import NDArray

from ampel_spark.errors import ConfigError, nearest

__all__ = ["LAWS", "extinction_per_ebv"]

Array = NDArray[np.float64]

#: Names of the laws that can be asked for.
LAWS = ("CCM89", "O94", "F99")


def extinction_per_ebv(law: str, wave: Array, r_v: float = 3.1) -> Array:
    """Return A(λ) / E(B-V) of an extinction law.

    Parameters
    ----------
    law : {"CCM89", "O94", "F99"}
        Name of the law.
    wave : ndarray
        Wavelengths in Å, any shape.
    r_v : float
        Ratio A(V) / E(B-V).

    Raises
    ------
    ConfigError
        For an unknown law, and for an R_V that is not a positive number.
    """
    if law not in LAWS:
        raise ConfigError(f"dust law {law!r} is not known{nearest(law, LAWS)}")
    if not (np.isfinite(r_v) and r_v > 0.0):
        raise ConfigError(f"R_V = {r_v}: give a positive number, 3.1 for the diffuse Milky Way")
    flat = np.ascontiguousarray(wave, dtype=float).ravel()
    if law == "CCM89":
        magnitudes = extinction.ccm89(flat, r_v, r_v)
    elif law == "O94":
        magnitudes = extinction.odonnell94(flat, r_v, r_v)
    else:
        magnitudes = extinction.Fitzpatrick99(r_v)(flat, r_v)
    return np.asarray(magnitudes).reshape(np.shape(wave))
