"""Arrays that the kernel and its twin take and fill; the user's classes are made of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Output", "Points", "make_output"]

Array = NDArray[np.float64]

#: Conditions of a fit, as bits; `result.Flag` says what they mean.
AT_BOUND, MODEL_EDGE, POOR_COVERAGE, NO_SIGNAL, NOT_CONVERGED = 1, 2, 4, 8, 16
BAND_DROPPED, BAD_POINTS, UNKNOWN_BAND, NO_HESSIAN, NO_ERRORS = 32, 64, 128, 256, 512
#: Refusals, as status.
TOO_FEW_POINTS, BAD_REDSHIFT, BAD_COVARIANCE = -1, -2, -3


class Points(NamedTuple):
    """Photometry of a batch: see `photometry.LightCurves`."""

    offsets: NDArray[np.int64]
    time: Array
    flux: Array
    fluxerr: Array
    band: NDArray[np.int32]
    zp: Array
    system: NDArray[np.int32]
    #: (B, systems) zero-point flux of a system over that of AB.
    system_ratio: Array
    #: Covariances, one n x n block after the other, and where they begin; empty for none.
    cov_offsets: NDArray[np.int64]
    cov: Array


class Output(NamedTuple):
    """Results of a batch: see `result.FitResult`."""

    parameters: Array
    covariance: Array
    chisq: Array
    prior_chisq: Array
    refusal: NDArray[np.int8]
    flags: NDArray[np.int32]
    #: (n, 10): points used, before and after peak, bad, unknown band, outside the model, cut;
    #: starts, rounds, steps.
    counts: NDArray[np.int32]
    phases: Array
    max_snr: Array
    points_by_band: NDArray[np.int32]
    dropped_bands: NDArray[np.bool_]
    used: NDArray[np.bool_]


def make_output(n: int, n_points: int, n_bands: int) -> Output:
    """Return empty results for `n` objects."""
    return Output(
        parameters=np.full((n, 5), np.nan),
        covariance=np.full((n, 5, 5), np.nan),
        chisq=np.full(n, np.nan),
        prior_chisq=np.full(n, np.nan),
        refusal=np.zeros(n, np.int8),
        flags=np.zeros(n, np.int32),
        counts=np.zeros((n, 10), np.int32),
        phases=np.full((n, 2), np.nan),
        max_snr=np.full(n, np.nan),
        points_by_band=np.zeros((n, n_bands), np.int32),
        dropped_bands=np.zeros((n, n_bands), np.bool_),
        used=np.zeros(n_points, np.bool_),
    )
