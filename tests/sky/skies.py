"""Awkward skies for tests: seams, poles, corners, duplicates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def awkward_sky(n: int, seed: int) -> tuple[Floats, Floats]:
    """Positions everywhere, a tenth each where matches go wrong, and pairs at all separations."""
    rng = np.random.default_rng(seed)
    m = n // 2
    ra, dec = rng.uniform(0, 360, m), np.degrees(np.arcsin(rng.uniform(-1, 1, m)))
    part = m // 10
    ra[:part] = rng.normal(0, 0.01, part)  # right ascension 0, some of it negative
    dec[part : 2 * part] = 90 - rng.exponential(0.02, part)
    dec[2 * part : 3 * part] = -90 + rng.exponential(0.02, part)
    seam = np.degrees(np.arcsin(2 / 3))
    dec[3 * part : 4 * part] = seam * rng.choice([-1, 1], part) + rng.normal(0, 1e-3, part)
    ra[4 * part : 5 * part] = 45 * rng.integers(0, 8, part) + rng.normal(0, 1e-3, part)
    # corners of faces, where three pixels of every order meet
    ra[5 * part : 6 * part] = 90 * rng.integers(0, 4, part) + rng.normal(0, 1e-3, part)
    dec[5 * part : 6 * part] = seam + rng.normal(0, 1e-3, part)
    ra[0], dec[1], dec[2], ra[3] = 360.0, 90.0, -90.0, 359.9999
    # a neighbour of each, from 0.1 mas to 300 arcsec away
    apart = np.exp(rng.uniform(np.log(1e-4), np.log(300.0), m)) / 3600
    angle = rng.uniform(0, 2 * np.pi, m)
    dec2 = dec + apart * np.cos(angle)
    with np.errstate(divide="ignore"):
        ra2 = ra + apart * np.sin(angle) / np.maximum(np.cos(np.radians(dec)), 1e-6)
    over = np.abs(dec2) > 90
    dec2[over] = np.sign(dec2[over]) * 180 - dec2[over]
    ra2[over] += 180
    ra, dec = np.concatenate([ra, ra2]), np.concatenate([dec, dec2])
    ra[-20:], dec[-20:] = ra[7], dec[7]  # one place twenty times
    return ra, dec
