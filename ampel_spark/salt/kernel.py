"""The model of one light curve, its chi-square and derivatives: compiled code.

The points of an object lie in memory band by band, each band in order of time, in the arrays of
`Work`. A model evaluation has three steps, each as seldom as can be:

`load_tables`
    when the redshift changes: tables at this redshift, with the dust of the Milky Way;
`collapse`
    when the colour changes: the sum over wavelength nodes gives M0 and M1 in the band for each
    phase row, and their derivatives by colour and redshift;
`columns`
    when t0 changes: M0 and M1 at each point's phase, and the derivatives.

The flux is linear in x0 and x0 x1, which `solve_linear` eliminates in closed form (variable
projection [1]_): a search works on t0, c and, where it is free, z.

Covariances. With independent errors each point has a weight w. The model covariance of SALT adds to
a band a diagonal and a rank-one term, so that its inverse is, by Sherman and Morrison, again
diag(w) - u uᵀ, and a product of two columns costs O(N). A covariance between the points of an
object is brought in by whitening: columns are multiplied by the inverse of its Cholesky factor.

`ampel_spark.salt.twin` has the same model in plain numpy.

References
----------
.. [1] Golub & Pereyra 1973, SIAM J. Numer. Anal. 10, 413, doi:10.1137/0710036
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.maths import compiled
from ampel_spark.salt.options import Settings
from ampel_spark.salt.tables import VARIANCE_FLOOR, Tables

__all__ = [
    "Work",
    "collapse",
    "collapse_at",
    "columns",
    "copy",
    "freeze_covariance",
    "gradient",
    "invert",
    "linear_sums",
    "load_tables",
    "make_work",
    "normal_equations",
    "residuals",
    "solve_linear",
    "zero",
]

Array = NDArray[np.float64]

#: -0.4 ln 10: turns magnitudes into the logarithm of a flux ratio.
MAG = -0.4 * math.log(10.0)
#: Rows of `Work.points` (the first four of `Work.all_points` too).
TIME, FLUX, VAR, SCALE, WEIGHT, RANK_ONE, RES = range(7)
Y, M0, M1, M0T, M1T, M0C, M1C, M0Z, M1Z, JAC = range(7, 17)
#: Places in `Work.number`.
N_BANDS, N_USED, DENSE, N_ALL, RANK_ONES, MODEL_ERROR, N_FOUND, KNOWN, HELD = range(9)
#: Rows of `Work.layout`, `Work.nodes` and, of `Work.equations`, the last.
START, ALL_START, BAND, FROM, SLOT = range(5)
COLOUR, COLOUR_Z, DUST = range(3)
GRADIENT = 5
#: Rows of `limits`: bounds, then means and weights (1 / sigma^2) of the priors.
LOWER, UPPER, MEAN, PRIOR = range(4)
#: Rows of `Work.vectors`, `Work.matrices` and `Work.lists`: one user each, so that none overlap.
V_PAR, V_BEST, V_LAST, V_CROSSED, V_CROSSING, V_NEWTON = range(6)
V_STEP, V_TRIAL, V_STEPS, V_AT, V_AHEAD, V_NORM = range(6, 12)
S_REDUCED, S_DAMPED, S_INVERSE, S_LOWER, S_SCALED, S_SCALED_INVERSE = range(6)
S_ERRORS, S_SLOPES, S_HESSIAN, S_EQUATIONS, S_COLUMN = range(6, 11)
I_OUTER, I_FITTED = range(2)
#: Parameters, in the order of `options.PARAMETERS`.
PZ, PT, PX0, PX1, PC = range(5)


class Work(NamedTuple):
    """Memory for one object at a time, made once for a batch.

    Few arrays with many rows: compiled functions take an array apart at every call.
    """

    #: (4, N) all usable points of the object, band by band: TIME, FLUX, VAR, SCALE.
    all_points: Array
    all_order: NDArray[np.int64]
    #: (21, N) points in use (those within the phase range): as above, then WEIGHT and RANK_ONE (the
    #: inverse covariance is diag(w) - u uᵀ per band), RES (residuals), Y (data) and M0 … M1Z
    #: (columns), derivatives of the model flux by each parameter from JAC on.
    points: Array
    order: NDArray[np.int64]
    #: (5, B + 1): first point of each band in use, of all, and the bands' numbers in the tables;
    #: room for places of points (of the scan, of `gather`).
    layout: NDArray[np.int64]
    #: Numbers and switches: N_BANDS of the object, N_USED points in use, DENSE (whether `factor`
    #: holds a Cholesky factor), N_ALL points, RANK_ONES (whether there are such terms), MODEL_ERROR
    #: (whether to add the model's covariance), N_FOUND starting points, KNOWN (whether `vectors`
    #: and `known` hold an earlier minimum of this object), HELD (whether a redshift that is fitted
    #: is held for the time being: its tables are loaded).
    number: NDArray[np.int64]
    #: (2, B, Q, 2R) tables at the redshift, with dust, and derivative by z.
    table: Array
    #: (3, B, Q) at the nodes: colour law, its derivative by z, transmission of the dust.
    nodes: Array
    #: (B, 3, 2R): M0 and M1 for each phase row; derivatives by colour and by redshift.
    rows: Array
    #: Cholesky factor of a covariance between points; above the diagonal the covariance as given.
    factor: Array
    #: (6, 5): matrix of the normal equations, and downhill gradient (row GRADIENT).
    equations: Array
    #: (4, 5) bounds and priors of the object: LOWER, UPPER, MEAN, PRIOR.
    limits: Array
    #: (8, 4) starting points, best first: chi-square (less that of the data), z, t0, c.
    found: Array
    #: (25, 4) the lowest chi-square at each of a row of redshifts, with its z, t0 and c.
    profile: Array
    #: Room for vectors and matrices of parameters, each row for one use (names: V_… and S_…).
    vectors: Array
    matrices: Array
    #: Chi-square of the earlier minimum: of the points now in use, and of all.
    known: Array
    #: (2, 5) lists of parameters: I_OUTER, I_FITTED.
    lists: NDArray[np.int64]


def make_work(tables: Tables, n_points: int, n_dense: int) -> Work:
    """Return memory for objects of up to `n_points` points, `n_dense` of them with covariances."""
    n_bands, _, n_nodes, n_rows = tables.flux.shape
    n = max(n_points, 1)
    dense = max(n_dense, 1)
    return Work(
        all_points=np.zeros((4, n)),
        all_order=np.zeros(n, np.int64),
        points=np.zeros((21, n)),
        order=np.zeros(n, np.int64),
        layout=np.zeros((5, n_bands + 1), np.int64),
        number=np.zeros(9, np.int64),
        table=np.zeros((2, n_bands, n_nodes, n_rows)),
        nodes=np.ones((3, n_bands, n_nodes)),
        rows=np.zeros((n_bands, 3, n_rows)),
        factor=np.zeros((dense, dense)),
        equations=np.zeros((6, 5)),
        limits=np.zeros((4, 5)),
        found=np.zeros((8, 4)),
        profile=np.zeros((25, 4)),
        vectors=np.zeros((12, 5)),
        matrices=np.zeros((11, 5, 5)),
        known=np.zeros(2),
        lists=np.zeros((2, 5), np.int64),
    )


@compiled
def zero(x: Array) -> None:
    """Set to zero. (A loop: assigning to a slice brings error messages into the code.)"""
    for i in range(x.size):
        x[i] = 0.0


@compiled
def copy(x: Array, out: Array) -> None:
    """Copy a vector."""
    for i in range(x.size):
        out[i] = x[i]


@compiled
def load_tables(tables: Tables, work: Work, z: float, derivative: bool) -> None:
    """Interpolate the tables of the object's bands in redshift, and put the dust in."""
    s = (z - tables.z_start) / tables.z_step
    i = min(max(math.floor(s), 1), tables.flux.shape[1] - 3)
    s -= i
    a0 = -s * (s - 1.0) * (s - 2.0) / 6.0
    a1 = (s + 1.0) * (s - 1.0) * (s - 2.0) / 2.0
    a2 = -(s + 1.0) * s * (s - 2.0) / 2.0
    a3 = (s + 1.0) * s * (s - 1.0) / 6.0
    d0 = -(3.0 * s * s - 6.0 * s + 2.0) / 6.0 / tables.z_step
    d1 = (3.0 * s * s - 4.0 * s - 1.0) / 2.0 / tables.z_step
    d2 = -(3.0 * s * s - 2.0 * s - 2.0) / 2.0 / tables.z_step
    d3 = (3.0 * s * s - 1.0) / 6.0 / tables.z_step
    for b in range(work.number[N_BANDS]):
        g = work.layout[BAND, b]
        for q in range(tables.flux.shape[2]):
            dust = work.nodes[DUST, b, q]
            f0 = tables.flux[g, i - 1, q]
            f1 = tables.flux[g, i, q]
            f2 = tables.flux[g, i + 1, q]
            f3 = tables.flux[g, i + 2, q]
            c0 = tables.colour[g, i - 1, q]
            c1 = tables.colour[g, i, q]
            c2 = tables.colour[g, i + 1, q]
            c3 = tables.colour[g, i + 2, q]
            work.nodes[COLOUR, b, q] = a0 * c0 + a1 * c1 + a2 * c2 + a3 * c3
            e0, e1, e2, e3 = a0 * dust, a1 * dust, a2 * dust, a3 * dust
            out = work.table[0, b, q]
            for r in range(out.size):
                out[r] = e0 * f0[r] + e1 * f1[r] + e2 * f2[r] + e3 * f3[r]
            if derivative:
                work.nodes[COLOUR_Z, b, q] = d0 * c0 + d1 * c1 + d2 * c2 + d3 * c3
                e0, e1, e2, e3 = d0 * dust, d1 * dust, d2 * dust, d3 * dust
                out = work.table[1, b, q]
                for r in range(out.size):
                    out[r] = e0 * f0[r] + e1 * f1[r] + e2 * f2[r] + e3 * f3[r]


@compiled
def collapse(work: Work, c: float, by_z: bool) -> None:
    """Sum over the wavelength nodes at colour `c` (their number is a multiple of four)."""
    for b in range(work.number[N_BANDS]):
        value = work.rows[b, 0]
        zero(value)
        by_c = work.rows[b, 1]
        slope = work.rows[b, 2]
        zero(by_c)
        zero(slope)
        for q in range(0, work.nodes.shape[2], 4):
            k0 = MAG * work.nodes[COLOUR, b, q]
            k1 = MAG * work.nodes[COLOUR, b, q + 1]
            k2 = MAG * work.nodes[COLOUR, b, q + 2]
            k3 = MAG * work.nodes[COLOUR, b, q + 3]
            e0, e1, e2, e3 = math.exp(k0 * c), math.exp(k1 * c), math.exp(k2 * c), math.exp(k3 * c)
            t0 = work.table[0, b, q]
            t1 = work.table[0, b, q + 1]
            t2 = work.table[0, b, q + 2]
            t3 = work.table[0, b, q + 3]
            g0, g1, g2, g3 = k0 * e0, k1 * e1, k2 * e2, k3 * e3
            for r in range(value.size):
                value[r] += e0 * t0[r] + e1 * t1[r] + e2 * t2[r] + e3 * t3[r]
                by_c[r] += g0 * t0[r] + g1 * t1[r] + g2 * t2[r] + g3 * t3[r]
            if by_z:
                z0 = work.table[1, b, q]
                z1 = work.table[1, b, q + 1]
                z2 = work.table[1, b, q + 2]
                z3 = work.table[1, b, q + 3]
                h0 = MAG * c * work.nodes[COLOUR_Z, b, q] * e0
                h1 = MAG * c * work.nodes[COLOUR_Z, b, q + 1] * e1
                h2 = MAG * c * work.nodes[COLOUR_Z, b, q + 2] * e2
                h3 = MAG * c * work.nodes[COLOUR_Z, b, q + 3] * e3
                for r in range(value.size):
                    slope[r] += e0 * z0[r] + e1 * z1[r] + e2 * z2[r] + e3 * z3[r]
                    slope[r] += h0 * t0[r] + h1 * t1[r] + h2 * t2[r] + h3 * t3[r]


@compiled
def collapse_at(tables: Tables, work: Work, z: float, c: float) -> None:
    """`load_tables` and `collapse` in one, for a redshift that changes with every step.

    The sum over wavelength nodes is made at each of four redshift nodes, and their interpolation
    then gives values and derivatives by colour and redshift; the tables are read once.
    """
    s = (z - tables.z_start) / tables.z_step
    first = min(max(math.floor(s), 1), tables.flux.shape[1] - 3)
    s -= first
    per = 1.0 / tables.z_step
    for b in range(work.number[N_BANDS]):
        g = work.layout[BAND, b]
        value = work.rows[b, 0]
        by_c = work.rows[b, 1]
        slope = work.rows[b, 2]
        zero(value)
        zero(by_c)
        zero(slope)
        for m in range(4):
            if m == 0:
                a = -s * (s - 1.0) * (s - 2.0) / 6.0
                d = -(3.0 * s * s - 6.0 * s + 2.0) / 6.0 * per
            elif m == 1:
                a = (s + 1.0) * (s - 1.0) * (s - 2.0) / 2.0
                d = (3.0 * s * s - 4.0 * s - 1.0) / 2.0 * per
            elif m == 2:
                a = -(s + 1.0) * s * (s - 2.0) / 2.0
                d = -(3.0 * s * s - 2.0 * s - 2.0) / 2.0 * per
            else:
                a = (s + 1.0) * s * (s - 1.0) / 6.0
                d = (3.0 * s * s - 1.0) / 6.0 * per
            node = first - 1 + m
            for q in range(0, work.nodes.shape[2], 4):
                k0 = MAG * tables.colour[g, node, q]
                k1 = MAG * tables.colour[g, node, q + 1]
                k2 = MAG * tables.colour[g, node, q + 2]
                k3 = MAG * tables.colour[g, node, q + 3]
                e0 = math.exp(k0 * c) * work.nodes[DUST, b, q]
                e1 = math.exp(k1 * c) * work.nodes[DUST, b, q + 1]
                e2 = math.exp(k2 * c) * work.nodes[DUST, b, q + 2]
                e3 = math.exp(k3 * c) * work.nodes[DUST, b, q + 3]
                g0, g1, g2, g3 = a * k0 * e0, a * k1 * e1, a * k2 * e2, a * k3 * e3
                t0 = tables.flux[g, node, q]
                t1 = tables.flux[g, node, q + 1]
                t2 = tables.flux[g, node, q + 2]
                t3 = tables.flux[g, node, q + 3]
                for r in range(value.size):
                    total = e0 * t0[r] + e1 * t1[r] + e2 * t2[r] + e3 * t3[r]
                    value[r] += a * total
                    slope[r] += d * total
                    by_c[r] += g0 * t0[r] + g1 * t1[r] + g2 * t2[r] + g3 * t3[r]


@compiled
def cell(x: float, n: int) -> tuple[int, float, float, float, float]:
    """First row and weights of the phase interpolation at `x`, in steps from the first phase.

    Rows: two of the first cell, those of the phases, two of the last cell.
    """
    i = min(int(x), n - 2)
    t = x - i
    if i == 0:
        return 0, 1.0 - t, t, 0.0, 0.0
    if i == n - 2:
        return n, 0.0, 0.0, 1.0 - t, t
    w0 = ((-0.5 * t + 1.0) * t - 0.5) * t
    w1 = (1.5 * t - 2.5) * t * t + 1.0
    w2 = ((-1.5 * t + 2.0) * t + 0.5) * t
    w3 = (0.5 * t - 0.5) * t * t
    return i + 1, w0, w1, w2, w3


@compiled
def cell_slope(x: float, n: int) -> tuple[float, float, float, float]:
    """Derivatives of `cell`'s weights by `x`."""
    i = min(int(x), n - 2)
    t = x - i
    if i == 0:
        return -1.0, 1.0, 0.0, 0.0
    if i == n - 2:
        return 0.0, 0.0, -1.0, 1.0
    w0 = (-1.5 * t + 2.0) * t - 0.5
    w1 = (4.5 * t - 5.0) * t
    w2 = (-4.5 * t + 4.0) * t + 0.5
    w3 = (1.5 * t - 1.0) * t
    return w0, w1, w2, w3


@compiled
def columns(tables: Tables, work: Work, z: float, t0: float, by_z: bool) -> None:
    """M0 and M1 at the points in use and their derivatives by t0, c and z; whitened if need be."""
    a = 1.0 / (1.0 + z)
    per_step = 1.0 / tables.phase_step
    n = tables.n_phases
    last = float(n - 1)
    col = work.points
    for b in range(work.number[N_BANDS]):
        value = work.rows[b, 0]
        by_c = work.rows[b, 1]
        slope = work.rows[b, 2]
        for i in range(work.layout[START, b], work.layout[START, b + 1]):
            phase = (work.points[TIME, i] - t0) * a
            x = (phase - tables.phase_start) * per_step
            if not (0.0 <= x <= last):
                for k in range(M0, M1Z + 1):
                    col[k, i] = 0.0
                continue
            first, w0, w1, w2, w3 = cell(x, n)
            s0, s1, s2, s3 = cell_slope(x, n)
            j = 2 * first
            v0, v1, v2, v3 = value[j], value[j + 2], value[j + 4], value[j + 6]
            u0, u1, u2, u3 = value[j + 1], value[j + 3], value[j + 5], value[j + 7]
            col[M0, i] = w0 * v0 + w1 * v1 + w2 * v2 + w3 * v3
            col[M1, i] = w0 * u0 + w1 * u1 + w2 * u2 + w3 * u3
            m0_phase = (s0 * v0 + s1 * v1 + s2 * v2 + s3 * v3) * per_step
            m1_phase = (s0 * u0 + s1 * u1 + s2 * u2 + s3 * u3) * per_step
            col[M0T, i] = -a * m0_phase
            col[M1T, i] = -a * m1_phase
            col[M0C, i] = w0 * by_c[j] + w1 * by_c[j + 2] + w2 * by_c[j + 4] + w3 * by_c[j + 6]
            col[M1C, i] = w0 * by_c[j + 1] + w1 * by_c[j + 3] + w2 * by_c[j + 5] + w3 * by_c[j + 7]
            if by_z:
                d0 = w0 * slope[j] + w1 * slope[j + 2] + w2 * slope[j + 4] + w3 * slope[j + 6]
                d1 = w0 * slope[j + 1] + w1 * slope[j + 3] + w2 * slope[j + 5] + w3 * slope[j + 7]
                col[M0Z, i] = d0 - phase * a * m0_phase
                col[M1Z, i] = d1 - phase * a * m1_phase
    if work.number[DENSE]:
        for k in range(M0, M1Z + 1 if by_z else M0Z):
            _whiten(work.factor, col[k], work.number[N_USED])


@compiled
def _whiten(factor: Array, x: Array, n: int) -> None:
    """Solve factor y = x in place, factor lower triangular."""
    for i in range(n):
        s = x[i]
        for j in range(i):
            s -= factor[i, j] * x[j]
        x[i] = s / factor[i, i]


@compiled
def _dot(work: Work, x: Array, y: Array) -> float:
    """xᵀ (inverse covariance) y over the points in use."""
    s = 0.0
    w = work.points[WEIGHT]
    for i in range(work.number[N_USED]):
        s += w[i] * x[i] * y[i]
    if work.number[RANK_ONES]:
        u = work.points[RANK_ONE]
        for b in range(work.number[N_BANDS]):
            sx = 0.0
            sy = 0.0
            for i in range(work.layout[START, b], work.layout[START, b + 1]):
                sx += u[i] * x[i]
                sy += u[i] * y[i]
            s -= sx * sy
    return s


@compiled
def solve_linear(
    settings: Settings,
    limits: Array,
    sums: tuple[float, float, float, float, float],
    x0: float,
    x1: float,
) -> tuple[float, float]:
    """Return the x0 and x1 with the least chi-square, all else given.

    `sums` are M0·M0, M0·M1, M1·M1, M0·data and M1·data. For a given x1 the best x0 is known; what
    remains is a function of x1 alone, with one minimum in the plain case, found directly; else (x1
    at a bound, a prior on x1 or x0, x0 at a bound) by its ends and a golden section.
    """
    s00, s01, s11, d0, d1 = sums
    fit0, fit1 = settings.fitted[PX0], settings.fitted[PX1]
    p0, p1 = limits[PRIOR, PX0], limits[PRIOR, PX1]
    if not fit0 and not fit1:
        return x0, x1
    low, high = limits[LOWER, PX1], limits[UPPER, PX1]
    if not fit0:
        norm = x0 * x0 * s11 + p1
        if norm > 0.0:
            x1 = (x0 * (d1 - x0 * s01) + p1 * limits[MEAN, PX1]) / norm
        return x0, min(max(x1, low), high)
    if not fit1:
        return _best_x0(limits, p0, sums, x1), x1
    if p0 == 0.0 and p1 == 0.0:
        det = s00 * s11 - s01 * s01
        if det > 1e-12 * s00 * s11:
            a = (d0 * s11 - d1 * s01) / det
            b = (d1 * s00 - d0 * s01) / det
            if a != 0.0 and limits[LOWER, PX0] <= a <= limits[UPPER, PX0] and low <= b / a <= high:
                return a, b / a
    # The range to look through, finite also where the bounds are not.
    low, high = max(low, -100.0), min(high, 100.0)
    n = 16
    best, at = np.inf, 0
    for k in range(n + 1):
        value = _profile(limits, sums, low + (high - low) * k / n)
        if value < best:
            best, at = value, k
    left = low + (high - low) * max(at - 1, 0) / n
    right = low + (high - low) * min(at + 1, n) / n
    x1 = low + (high - low) * at / n
    for _ in range(40):
        third = 0.38196601125010515 * (right - left)
        p, q = left + third, right - third
        if _profile(limits, sums, p) < _profile(limits, sums, q):
            right = q
        else:
            left = p
    middle = 0.5 * (left + right)
    if _profile(limits, sums, middle) < best:
        x1 = middle
    return _best_x0(limits, p0, sums, x1), x1


@compiled
def _best_x0(
    limits: Array,
    p0: float,
    sums: tuple[float, float, float, float, float],
    x1: float,
) -> float:
    s00, s01, s11, d0, d1 = sums
    norm = s00 + x1 * (2.0 * s01 + x1 * s11) + p0
    x0 = (d0 + x1 * d1 + p0 * limits[MEAN, PX0]) / norm if norm > 0.0 else 0.0
    return min(max(x0, limits[LOWER, PX0]), limits[UPPER, PX0])


@compiled
def _profile(
    limits: Array,
    sums: tuple[float, float, float, float, float],
    x1: float,
) -> float:
    """Chi-square, less that of the data alone, at `x1` and its best x0."""
    s00, s01, s11, d0, d1 = sums
    p0, p1 = limits[PRIOR, PX0], limits[PRIOR, PX1]
    x0 = _best_x0(limits, p0, sums, x1)
    norm = s00 + x1 * (2.0 * s01 + x1 * s11) + p0
    signal = d0 + x1 * d1 + p0 * limits[MEAN, PX0]
    return x0 * (x0 * norm - 2.0 * signal) + p1 * (x1 - limits[MEAN, PX1]) ** 2


@compiled
def linear_sums(work: Work) -> tuple[float, float, float, float, float]:
    """Sums that `solve_linear` needs, from the present columns."""
    y, m0, m1 = work.points[Y], work.points[M0], work.points[M1]
    w = work.points[WEIGHT]
    s00 = 0.0
    s01 = 0.0
    s11 = 0.0
    d0 = 0.0
    d1 = 0.0
    for i in range(work.number[N_USED]):
        w0 = w[i] * m0[i]
        w1 = w[i] * m1[i]
        s00 += w0 * m0[i]
        s01 += w0 * m1[i]
        s11 += w1 * m1[i]
        d0 += w0 * y[i]
        d1 += w1 * y[i]
    if work.number[RANK_ONES]:
        u = work.points[RANK_ONE]
        for b in range(work.number[N_BANDS]):
            uy = 0.0
            u0 = 0.0
            u1 = 0.0
            for i in range(work.layout[START, b], work.layout[START, b + 1]):
                uy += u[i] * y[i]
                u0 += u[i] * m0[i]
                u1 += u[i] * m1[i]
            s00 -= u0 * u0
            s01 -= u0 * u1
            s11 -= u1 * u1
            d0 -= u0 * uy
            d1 -= u1 * uy
    return s00, s01, s11, d0, d1


@compiled
def residuals(work: Work, par: Array) -> float:
    """Residuals at the present columns; returns their chi-square, without priors."""
    y, m0, m1, res = work.points[Y], work.points[M0], work.points[M1], work.points[RES]
    a = par[PX0]
    b = par[PX0] * par[PX1]
    for i in range(work.number[N_USED]):
        res[i] = y[i] - a * m0[i] - b * m1[i]
    return _dot(work, res, res)


@compiled
def gradient(settings: Settings, work: Work, par: Array, limits: Array) -> None:
    """Derivatives of the model flux, and the downhill gradient of half the chi-square."""
    col = work.points
    x0, x1 = par[PX0], par[PX1]
    for i in range(work.number[N_USED]):
        col[JAC + PT, i] = x0 * (col[M0T, i] + x1 * col[M1T, i])
        col[JAC + PX0, i] = col[M0, i] + x1 * col[M1, i]
        col[JAC + PX1, i] = x0 * col[M1, i]
        col[JAC + PC, i] = x0 * (col[M0C, i] + x1 * col[M1C, i])
        col[JAC + PZ, i] = x0 * (col[M0Z, i] + x1 * col[M1Z, i])
    for k in range(par.size):
        if settings.fitted[k]:
            pull = limits[PRIOR, k] * (limits[MEAN, k] - par[k])
            work.equations[GRADIENT, k] = _dot(work, col[JAC + k], col[RES]) + pull


@compiled
def normal_equations(settings: Settings, work: Work, par: Array, limits: Array) -> None:
    """`gradient`, and Gauss and Newton's curvature: products of first derivatives."""
    gradient(settings, work, par, limits)
    col = work.points
    for k in range(par.size):
        if not settings.fitted[k]:
            continue
        for m in range(k, par.size):
            if settings.fitted[m]:
                work.equations[k, m] = _dot(work, col[JAC + k], col[JAC + m])
                work.equations[m, k] = work.equations[k, m]
        work.equations[k, k] += limits[PRIOR, k]


@compiled
def freeze_covariance(tables: Tables, work: Work, par: Array) -> bool:
    """Set the inverse covariance, with the model's at `par` if MODEL_ERROR is set; whiten the data.

    Returns whether the covariance was positive definite. The rows of the object's tables must be
    those at `par`.
    """
    n = work.number[N_USED]
    dense = work.number[DENSE] != 0
    model_covariance = work.number[MODEL_ERROR] != 0
    work.number[RANK_ONES] = 0
    for i in range(n):
        work.points[Y, i] = work.points[FLUX, i]
        work.points[WEIGHT, i] = 1.0 / work.points[VAR, i]
    if model_covariance:
        _model_covariance(tables, work, par)
    if dense:
        # The factor's upper triangle holds the given covariance; res and rank_one the model's.
        for i in range(n):
            for j in range(i + 1):
                work.factor[i, j] = work.factor[j, i] if j < i else work.points[VAR, i]
        if model_covariance:
            for i in range(n):
                work.factor[i, i] += work.points[RES, i]
            for b in range(work.number[N_BANDS]):
                for i in range(work.layout[START, b], work.layout[START, b + 1]):
                    for j in range(work.layout[START, b], i + 1):
                        work.factor[i, j] += work.points[RANK_ONE, i] * work.points[RANK_ONE, j]
        for i in range(n):
            for j in range(i + 1):
                s = work.factor[i, j]
                for k in range(j):
                    s -= work.factor[i, k] * work.factor[j, k]
                if i == j:
                    if not s > 0.0:
                        return False
                    # The diagonal is shared with the given covariance, whose own is in var.
                    work.factor[i, i] = math.sqrt(s)
                else:
                    work.factor[i, j] = s / work.factor[j, j]
        _whiten(work.factor, work.points[Y], n)
        for i in range(n):
            work.points[WEIGHT, i] = 1.0
            work.points[RANK_ONE, i] = 0.0
    elif model_covariance:
        work.number[RANK_ONES] = 1
        for b in range(work.number[N_BANDS]):
            s = 1.0
            for i in range(work.layout[START, b], work.layout[START, b + 1]):
                work.points[WEIGHT, i] = 1.0 / (work.points[VAR, i] + work.points[RES, i])
                s += work.points[RANK_ONE, i] * work.points[RANK_ONE, i] * work.points[WEIGHT, i]
            norm = 1.0 / math.sqrt(s)
            for i in range(work.layout[START, b], work.layout[START, b + 1]):
                work.points[RANK_ONE, i] *= work.points[WEIGHT, i] * norm
    return True


@compiled
def _model_covariance(tables: Tables, work: Work, par: Array) -> None:
    """Variance of the model (into `res`) and factor of its rank-one term (into `rank_one`).

    As in sncosmo (and snfit), of which one point is left out: where the interpolated variance of
    SALT3 is negative, sncosmo puts 1e-4 into a number whose unit is flux squared; here it is a
    relative variance, as in SALT2.
    """
    z, t0, x0, x1 = par[PZ], par[PT], par[PX0], par[PX1]
    a = 1.0 / (1.0 + z)
    s = (z - tables.z_start) / tables.z_step
    k = min(max(math.floor(s), 0), tables.flux.shape[1] - 2)
    s -= k
    for b in range(work.number[N_BANDS]):
        g = work.layout[BAND, b]
        spread = (1.0 - s) * tables.dispersion[g, k] + s * tables.dispersion[g, k + 1]
        value = work.rows[b, 0]
        plain = work.rows[b, 1]
        # Rows at c = 0 and without dust, as the model's error is defined on these.
        zero(plain)
        for q in range(work.nodes.shape[2]):
            undust = 1.0 / work.nodes[DUST, b, q]
            for r in range(plain.size):
                plain[r] += undust * work.table[0, b, q, r]
        v_low, v_high = tables.variance[g, k], tables.variance[g, k + 1]
        for i in range(work.layout[START, b], work.layout[START, b + 1]):
            phase = (work.points[TIME, i] - t0) * a
            work.points[RES, i] = 0.0
            work.points[RANK_ONE, i] = 0.0
            x = (phase - tables.phase_start) / tables.phase_step
            if not (0.0 <= x <= tables.n_phases - 1):
                continue
            first, w0, w1, w2, w3 = cell(x, tables.n_phases)
            j = 2 * first
            m0 = w0 * value[j] + w1 * value[j + 2] + w2 * value[j + 4] + w3 * value[j + 6]
            m1 = w0 * value[j + 1] + w1 * value[j + 3] + w2 * value[j + 5] + w3 * value[j + 7]
            f0 = w0 * plain[j] + w1 * plain[j + 2] + w2 * plain[j + 4] + w3 * plain[j + 6]
            f1 = w0 * plain[j + 1] + w1 * plain[j + 3] + w2 * plain[j + 5] + w3 * plain[j + 7]
            flux = x0 * (m0 + x1 * m1)
            total = f0 + x1 * f1
            work.points[RANK_ONE, i] = spread * flux
            if total <= 0.0:
                work.points[RES, i] = 1e4 * flux * flux
                continue
            v = 0.0
            scale = 0.0
            x = (phase - tables.var_start) / tables.var_step
            if 0.0 <= x <= tables.n_var - 1:
                first, w0, w1, w2, w3 = cell(x, tables.n_var)
                j = 4 * first
                for m in range(4):
                    lo = (
                        w0 * v_low[j + m]
                        + w1 * v_low[j + 4 + m]
                        + w2 * v_low[j + 8 + m]
                        + w3 * v_low[j + 12 + m]
                    )
                    hi = (
                        w0 * v_high[j + m]
                        + w1 * v_high[j + 4 + m]
                        + w2 * v_high[j + 8 + m]
                        + w3 * v_high[j + 12 + m]
                    )
                    mean = (1.0 - s) * lo + s * hi
                    if m == 0:
                        v += mean
                    elif m == 1:
                        v += 2.0 * x1 * mean
                    elif m == 2:
                        v += x1 * x1 * mean
                    else:
                        scale = mean
            if tables.relative:
                relative = max(v, VARIANCE_FLOOR) if v < 0.0 else v
                relative *= (f0 / total * scale) ** 2
            elif v < 0.0:
                relative = VARIANCE_FLOOR
            else:
                relative = v / (total * tables.mean_flux[g] * (1.0 + z)) ** 2
            work.points[RES, i] = relative * flux * flux


@compiled
def invert(work: Work, matrix: Array, n: int, out: Array) -> bool:
    """Inverse of the leading n x n block, by Cholesky; False where not positive definite."""
    low = work.matrices[S_LOWER]
    for i in range(n):
        for j in range(i + 1):
            s = matrix[i, j]
            for k in range(j):
                s -= low[i, k] * low[j, k]
            if i == j:
                if not s > 1e-13 * abs(matrix[i, i]):
                    return False
                low[i, i] = math.sqrt(s)
            else:
                low[i, j] = s / low[j, j]
    for m in range(n):
        x = work.matrices[S_COLUMN, 0]
        for i in range(n):
            x[i] = 0.0
        x[m] = 1.0
        for i in range(n):
            s = x[i]
            for j in range(i):
                s -= low[i, j] * x[j]
            x[i] = s / low[i, i]
        for i in range(n - 1, -1, -1):
            s = x[i]
            for j in range(i + 1, n):
                s -= low[j, i] * x[j]
            x[i] = s / low[i, i]
        for i in range(n):
            out[i, m] = x[i]
    return True
