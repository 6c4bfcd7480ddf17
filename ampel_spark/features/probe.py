"""A name for what features mean: a hash of their values on light curves that never change.

A model is trained with features that have an id, and refuses others. The code may change; as long
as the numbers on these light curves stay, so does the id.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np

from ampel_spark.features.compute import compute
from ampel_spark.features.definitions import FeatureSet, Options

__all__ = ["features_id"]

_CURVES, _LONGEST = 24, 30


@functools.lru_cache(maxsize=64)
def features_id(features: FeatureSet, options: Options) -> int:
    """Return the id of features with their options, a number of 52 bits, which a double can hold.

    Numbers count to six digits, which is what another machine's last bits cannot change.
    """
    sizes = [1 + 7 * i % _LONGEST for i in range(_CURVES)]
    offsets = np.append(0, np.cumsum(sizes))
    i = np.arange(offsets[-1])
    owner = np.repeat(np.arange(_CURVES), sizes)
    jd = np.asarray(2459000.5 + 10.0 * owner + np.cumsum((i * 37 % 11) / 4.0 + 0.125), np.float64)
    flux = ((i * 7919 % 1009 - 97) * (1 + i % 3)).astype(np.float64)
    err = 1.0 + (i * 31 % 17)
    band = (i * 5 + owner) % len(features.bands)
    limit, forced = i % 13 == 5, i % 7 == 3
    zero_points = np.where(i % 2 == 0, 25.0, 26.0)
    values = compute(
        features, offsets, jd, flux, err, zero_points, band, limit, forced, options
    )  # fmt: skip
    words = [f.name for f in features.features()]
    words += [f"{value:.5e}" for value in (values + 0.0).ravel().tolist()]
    return int(hashlib.sha256("\n".join(words).encode()).hexdigest()[:13], 16)
