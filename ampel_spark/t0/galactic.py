"""Galactic latitude of ICRS positions: a number for one, Spark SQL for many.

The rotation is put together from published angles: ICRS to FK5 (J2000) by the three offsets of the
catalogues' frames, FK5 to galactic by the pole and the node of the galactic system, both as astropy
uses them. Their product is a constant matrix; no position needs an iteration or a time.
"""

from __future__ import annotations

import functools
import math

__all__ = ["galactic_latitude", "galactic_latitude_sql"]

Matrix = tuple[tuple[float, float, float], ...]

# ICRS against FK5 at J2000: eta0, xi0, da0 [mas] (USNO Circular 179, section 3.5).
_ETA0, _XI0, _DA0 = -19.9, 9.1, -22.9
# The galactic pole in FK5 and the galactic longitude of the celestial pole [deg]
# (Reid & Brunthaler 2004, doi:10.1086/424960, to the digits that SOFA gives).
_POLE_RA, _POLE_DEC, _NODE = 192.8594812065348, 27.12825118085622, 122.9319185680026


def galactic_latitude(ra: float, dec: float) -> float:
    """Return the galactic latitude of one position.

    Parameters
    ----------
    ra, dec : float
        Degrees, ICRS.

    Returns
    -------
    float
        Degrees, -90 to 90.
    """
    a, d = math.radians(ra), math.radians(dec)
    v = (math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d))
    x, y, z = (math.fsum(m * c for m, c in zip(row, v, strict=True)) for row in _icrs_to_galactic())
    return math.degrees(math.atan2(z, math.hypot(x, y)))


def galactic_latitude_sql(ra: str, dec: str) -> str:
    """Return Spark SQL for the galactic latitude [deg] of two expressions [deg, ICRS].

    The arc tangent of all three components keeps its digits at the poles, where an arc sine would
    lose half of them.
    """
    a, d = f"radians({ra})", f"radians({dec})"
    u, v, w = f"cos({d}) * cos({a})", f"cos({d}) * sin({a})", f"sin({d})"
    x, y, z = (
        f"({u} * ({m[0]!r}D) + {v} * ({m[1]!r}D) + {w} * ({m[2]!r}D))" for m in _icrs_to_galactic()
    )
    return f"degrees(atan2({z}, sqrt({x} * {x} + {y} * {y})))"


@functools.cache
def _icrs_to_galactic() -> Matrix:
    mas = 1.0 / 3.6e6
    rotations = (
        _about("z", 180.0 - _NODE),
        _about("y", 90.0 - _POLE_DEC),
        _about("z", _POLE_RA),
        _about("x", -_ETA0 * mas),
        _about("y", _XI0 * mas),
        _about("z", _DA0 * mas),
    )
    return functools.reduce(_product, rotations)


def _about(axis: str, degrees: float) -> Matrix:
    """Return the rotation of the axes by an angle about one of them."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    if axis == "x":
        return ((1.0, 0.0, 0.0), (0.0, c, s), (0.0, -s, c))
    if axis == "y":
        return ((c, 0.0, -s), (0.0, 1.0, 0.0), (s, 0.0, c))
    return ((c, s, 0.0), (-s, c, 0.0), (0.0, 0.0, 1.0))


def _product(left: Matrix, right: Matrix) -> Matrix:
    return tuple(
        (
            math.fsum(row[k] * right[k][0] for k in range(3)),
            math.fsum(row[k] * right[k][1] for k in range(3)),
            math.fsum(row[k] * right[k][2] for k in range(3)),
        )
        for row in left
    )
