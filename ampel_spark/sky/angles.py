"""Angles on the sphere: separations and proper motions, equal to the last bit on every machine.

A match orders rows by distance, so two engines that round a distance differently could find
different nearest rows. Sines and arc sines here are polynomials of sums and products, which IEEE
arithmetic rounds in one way only; `ampel_spark.sky.grid` has the same ones for compiled code.

References
----------
Haversine formula: Sinnott, R. W. 1984, Sky & Telescope 68, 158. Polynomials: those of FreeBSD's
msun (k_sin.c, k_cos.c, e_asin.c; Sun Microsystems 1993), errors below 1 ulp. Proper motion: The
Hipparcos and Tycho Catalogues 1997, ESA SP-1200, volume 1, section 1.5.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["cosine", "good_positions", "moved", "separation", "unit_vectors", "window"]

Floats = npt.NDArray[np.float64]

DEGREE = np.pi / 180.0
ARCSEC = DEGREE / 3600.0
#: pi/2 as a sum of two numbers.
HALF_PI, HALF_PI_LOW = 1.57079632679489655800e00, 6.12323399573676603587e-17
SINE = (
    -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
    2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10,
)  # fmt: skip
COSINE = (
    4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05,
    -2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11,
)  # fmt: skip
ARC_P = (
    1.66666666666666657415e-01, -3.25565818622400915405e-01, 2.01212532134862925881e-01,
    -4.00555345006794114027e-02, 7.91534994289814532176e-04, 3.47933107596021167570e-05,
)  # fmt: skip
ARC_Q = (
    -2.40339491173441421878e00, 2.02094576023350569471e00, -6.88283971605453293030e-01,
    7.70381505559019352791e-02,
)  # fmt: skip


def separation(ra1: Any, dec1: Any, ra2: Any, dec2: Any) -> Floats:
    """Return the angle between positions, by the haversine formula.

    Parameters
    ----------
    ra1, dec1, ra2, dec2 : float or array-like, broadcast together
        Right ascension and declination of both positions, degrees.

    Returns
    -------
    ndarray of float64
        Angles, arcsec. Errors are below 1e-10 arcsec up to some degrees (as large as the rounding
        of the positions), and grow to 1e-3 arcsec at the antipode.

    Examples
    --------
    >>> separation(10.0, 60.0, [10.0, 11.0], [60.5, 60.0]).round(3).tolist()
    [1800.0, 1799.983]
    """
    ra1, dec1, ra2, dec2 = (np.asarray(v, np.float64) for v in (ra1, dec1, ra2, dec2))
    dra = ra1 - ra2
    dra = dra - 360.0 * np.floor(dra / 360.0 + 0.5)
    ns = _sine(np.abs(dec1 - dec2) * (0.5 * DEGREE))
    ew = _sine(np.abs(dra) * (0.5 * DEGREE))
    hav = ns * ns + (cosine(dec1) * cosine(dec2)) * (ew * ew)
    return np.asarray(_arc_sine(np.sqrt(np.minimum(hav, 1.0))) * (2.0 / ARCSEC))


def cosine(dec: Any) -> Floats:
    """Return the cosine of declinations from -90 to 90 degrees; at a pole, exactly 0."""
    x = np.abs(np.asarray(dec, np.float64))
    return np.where(x <= 45.0, _cosine_of(x * DEGREE), _sine_of((90.0 - x) * DEGREE))


def moved(
    ra: Floats, dec: Floats, pmra: Floats, pmdec: Floats, years: Any
) -> tuple[Floats, Floats]:
    """Return positions after years of proper motion along a straight line in space.

    Parallax and radial velocity are neglected. Together they are below 1 mas in 10 years, except
    for a few hundred nearby stars.

    Parameters
    ----------
    ra, dec : ndarray with shape (N,)
        Positions, degrees.
    pmra, pmdec : ndarray with shape (N,)
        Proper motions, mas/yr; `pmra` includes cos(dec). NaN stands for no motion.
    years : float or ndarray with shape (N,)
        Time, Julian years; NaN stands for 0.
    """
    a, d = ra * DEGREE, dec * DEGREE
    shift = np.where(np.isnan(years), 0.0, years) * (ARCSEC / 1e3)
    east, north = np.nan_to_num(pmra, nan=0.0) * shift, np.nan_to_num(pmdec, nan=0.0) * shift
    along = np.cos(d) - np.sin(d) * north
    x = along * np.cos(a) - east * np.sin(a)
    y = along * np.sin(a) + east * np.cos(a)
    z = np.sin(d) + np.cos(d) * north
    still = (east == 0.0) & (north == 0.0)
    new_ra = np.arctan2(y, x) / DEGREE
    new_ra = np.where(new_ra < 0.0, new_ra + 360.0, new_ra)
    new_dec = np.arctan2(z, np.hypot(x, y)) / DEGREE
    return np.where(still, ra, new_ra), np.where(still, dec, new_dec)


def window(dec: Floats, radius: Floats) -> Floats:
    """Return the half-width of circles in right ascension, degrees, at most 180.

    The result is slightly too large, so that a choice of rows by it loses none.

    Parameters
    ----------
    dec, radius : ndarray with shape (N,)
        Declination of the centres, and radii, degrees.
    """
    over_pole = np.abs(dec) + radius >= 90.0 - 1e-9
    with np.errstate(divide="ignore"):
        ratio = np.sin(np.minimum(radius, 90.0) * DEGREE) / np.cos(dec * DEGREE)
    reach = np.arcsin(np.minimum(np.abs(ratio), 1.0)) / DEGREE * (1 + 1e-12) + 1e-10
    return np.where(over_pole, 180.0, reach)


def good_positions(ra: Floats, dec: Floats) -> npt.NDArray[np.bool_]:
    """Return which positions (degrees) are finite and have a declination from -90 to 90."""
    return np.isfinite(ra) & (np.abs(dec) <= 90.0)


def unit_vectors(ra: Floats, dec: Floats) -> Floats:
    """Return positions (degrees) as unit vectors with shape (N, 3)."""
    a, d = np.radians(ra), np.radians(dec)
    return np.column_stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def _sine(x: Floats) -> Floats:
    """Return the sine of angles from 0 to pi/2."""
    return np.where(x <= 0.5 * HALF_PI, _sine_of(x), _cosine_of((HALF_PI - x) + HALF_PI_LOW))


def _sine_of(x: Floats) -> Floats:
    z = x * x
    s1, s2, s3, s4, s5, s6 = SINE
    return x + (z * x) * (s1 + z * (s2 + z * (s3 + z * (s4 + z * (s5 + z * s6)))))


def _cosine_of(x: Floats) -> Floats:
    z = x * x
    c1, c2, c3, c4, c5, c6 = COSINE
    r = z * (c1 + z * (c2 + z * (c3 + z * (c4 + z * (c5 + z * c6)))))
    half = 0.5 * z
    w = 1.0 - half
    return w + (((1.0 - w) - half) + z * r)


def _arc_sine(x: Floats) -> Floats:
    """Return the arc sine of numbers from 0 to 1."""
    small = x < 0.5
    t = np.where(small, x * x, 0.5 * (1.0 - x))
    s = np.where(small, x, np.sqrt(0.5 * (1.0 - x)))
    p0, p1, p2, p3, p4, p5 = ARC_P
    q1, q2, q3, q4 = ARC_Q
    p = t * (p0 + t * (p1 + t * (p2 + t * (p3 + t * (p4 + t * p5)))))
    q = 1.0 + t * (q1 + t * (q2 + t * (q3 + t * q4)))
    angle = s + s * (p / q)
    return np.where(small, angle, (HALF_PI - 2.0 * angle) + HALF_PI_LOW)
