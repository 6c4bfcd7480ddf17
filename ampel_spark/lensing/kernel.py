"""Profiles over redshift of SALT fits with priors, and the integrals over them: compiled code.

At each node of redshift the posterior of (t0, ln x0, x1, c) is found by Levenberg-Marquardt steps
from that of the node before, and integrated by Laplace's approximation, flat in t0 and magnitude.
What remains are functions of the redshift alone:

`LIKELIHOOD`
    ln of the integral over the four parameters;
`MAG`, `MAG_VAR`
    the standardised magnitude m_B + alpha x1 - beta c and its variance.

A hypothesis is an integral of the likelihood over the redshift, times a prior of the redshift and
one of the magnitude: a Gaussian about that of a normal supernova, for a lensed one widened by the
magnification's, exponential in magnitudes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.kernel import cell, cell_slope
from ampel_spark.salt.maths import compiled, entry_point
from ampel_spark.salt.tables import Tables

__all__ = [
    "CHISQ", "COLOUR", "LIKELIHOOD", "MAG", "MAG_VAR", "N_ROWS", "STRETCH", "T0", "Photometry",
    "Priors", "LensTargets", "LensWork", "evidence_range", "make_work", "profile_range",
]  # fmt: skip

Array = NDArray[np.float64]

#: Rows of a profile.
LIKELIHOOD, MAG, MAG_VAR, CHISQ, T0, STRETCH, COLOUR = range(7)
N_ROWS = 7
#: Rows of the points of an object.
TIME, FLUX, VAR, WEIGHT, MODEL, BY_T, BY_X, BY_C = range(8)
#: -0.4 ln 10; magnitudes in a unit of ln x0.
MAG_LN, LN_MAG = -0.4 * math.log(10.0), 2.5 / math.log(10.0)
LN_2PI = math.log(2.0 * math.pi)
#: Steps at a node, and the decrease in chi-square at which they end.
N_STEPS, TOLERANCE = 12, 0.02
#: Times of the scan about the brightest point, observer-frame days, and their step.
SCAN, SCAN_STEP = 16.0, 2.0
#: ln likelihood where there is no minimum.
LEAST = -1e10
#: Days of the flat prior of t0, the same for all hypotheses.
T_RANGE = 60.0


class Photometry(NamedTuple):
    """Points of a batch, zero point 25; those of an object in order of band, then time."""

    offsets: NDArray[np.int64]
    time: Array
    flux: Array
    fluxerr: Array
    band: NDArray[np.int64]


class LensTargets(NamedTuple):
    """What is known of each object, (n,)."""

    #: Catalogue's redshift, its error, the shares of its outliers near and far, and E(B-V).
    z: Array
    sigma: Array
    near_outliers: Array
    far_outliers: Array
    ebv: Array


class LensWork(NamedTuple):
    """Memory for one object at a time."""

    own: Array
    rows: Array
    dust: Array
    bands: NDArray[np.int64]
    starts: NDArray[np.int64]
    room: Array


def make_work(tables: Tables, n_points: int) -> LensWork:
    """Return memory for objects of up to `n_points` points."""
    n_bands, _, n_nodes, n_rows = tables.flux.shape
    return LensWork(
        own=np.zeros((8, max(n_points, 1))),
        rows=np.zeros((n_bands, 2, n_rows)),
        dust=np.zeros((n_bands, n_nodes)),
        bands=np.zeros(n_bands, np.int64),
        starts=np.zeros(n_bands + 1, np.int64),
        room=np.zeros((18, 4)),
    )


class Priors(NamedTuple):
    """Numbers of the hypotheses; see `fitter.LensOptions`."""

    x1_mean: float
    x1_sigma: float
    c_mean: float
    c_blue: float
    c_red: float
    alpha: float
    beta: float
    absmag: float
    scatter: float
    #: m_B of x0 = 1.
    zero_mag: float
    error_fraction: float
    #: Slope of the magnification's prior in ln per mag, its start in mag, and how far behind.
    slope: float
    start: float
    behind: float
    outlier_width: float


@compiled
def _collapse(
    tables: Tables,
    node: int,
    bands: NDArray[np.int64],
    n_bands: int,
    c: float,
    dust: Array,
    rows: Array,
) -> None:
    """Sum over the wavelength nodes at a colour: M0 and M1 by phase row, and derivatives by c."""
    for b in range(n_bands):
        g = bands[b]
        value, by_c = rows[b, 0], rows[b, 1]
        for r in range(value.size):
            value[r] = 0.0
            by_c[r] = 0.0
        for q in range(tables.flux.shape[2]):
            k = MAG_LN * tables.colour[g, node, q]
            e = math.exp(k * c) * dust[b, q]
            d = k * e
            table = tables.flux[g, node, q]
            for r in range(value.size):
                value[r] += e * table[r]
                by_c[r] += d * table[r]


@compiled
def _columns(
    tables: Tables,
    rows: Array,
    starts: NDArray[np.int64],
    n_bands: int,
    z: float,
    par: Array,
    delays: Array,
    shares: Array,
    own: Array,
) -> None:
    """The model at the points for x0 = 1, and its derivatives by t0, x1 and c."""
    a = 1.0 / (1.0 + z)
    per = 1.0 / tables.phase_step
    last = float(tables.n_phases - 1)
    x1 = par[2]
    for b in range(n_bands):
        value, by_c = rows[b, 0], rows[b, 1]
        for i in range(starts[b], starts[b + 1]):
            f, ft, fx, fc = 0.0, 0.0, 0.0, 0.0
            for m in range(delays.size):
                x = ((own[TIME, i] - par[0] - delays[m]) * a - tables.phase_start) * per
                if not (0.0 <= x <= last):
                    continue
                first, w0, w1, w2, w3 = cell(x, tables.n_phases)
                s0, s1, s2, s3 = cell_slope(x, tables.n_phases)
                j = 2 * first
                v0, v1, v2, v3 = value[j], value[j + 2], value[j + 4], value[j + 6]
                u0, u1, u2, u3 = value[j + 1], value[j + 3], value[j + 5], value[j + 7]
                m1 = w0 * u0 + w1 * u1 + w2 * u2 + w3 * u3
                slope = s0 * (v0 + x1 * u0) + s1 * (v1 + x1 * u1)
                slope += s2 * (v2 + x1 * u2) + s3 * (v3 + x1 * u3)
                c0 = by_c[j] + x1 * by_c[j + 1]
                c1 = by_c[j + 2] + x1 * by_c[j + 3]
                c2 = by_c[j + 4] + x1 * by_c[j + 5]
                c3 = by_c[j + 6] + x1 * by_c[j + 7]
                share = shares[m]
                f += share * (w0 * v0 + w1 * v1 + w2 * v2 + w3 * v3 + x1 * m1)
                ft -= share * slope * per * a
                fx += share * m1
                fc += share * (w0 * c0 + w1 * c1 + w2 * c2 + w3 * c3)
            own[MODEL, i], own[BY_T, i], own[BY_X, i], own[BY_C, i] = f, ft, fx, fc


@compiled
def _best_amplitude(own: Array, n: int) -> tuple[float, float]:
    """Amplitude with the least chi-square, not below 0, and by how much it lowers chi-square."""
    mm, mf = 0.0, 0.0
    for i in range(n):
        mm += own[WEIGHT, i] * own[MODEL, i] ** 2
        mf += own[WEIGHT, i] * own[MODEL, i] * own[FLUX, i]
    if not (mf > 0.0 and mm > 0.0):
        return 0.0, 0.0
    return mf / mm, mf * mf / mm


@compiled
def _equations(own: Array, n: int, par: Array, priors: Priors, h: Array, g: Array) -> float:
    """Chi-square with priors; downhill gradient and curvature of half of it into `g` and `h`."""
    x0 = math.exp(par[1])
    for j in range(4):
        g[j] = 0.0
        for k in range(4):
            h[j, k] = 0.0
    chisq = 0.0
    for i in range(n):
        w = own[WEIGHT, i]
        f = x0 * own[MODEL, i]
        r = own[FLUX, i] - f
        chisq += w * r * r
        d0, d1, d2, d3 = x0 * own[BY_T, i], f, x0 * own[BY_X, i], x0 * own[BY_C, i]
        wr = w * r
        g[0] += wr * d0
        g[1] += wr * d1
        g[2] += wr * d2
        g[3] += wr * d3
        h[0, 0] += w * d0 * d0
        h[0, 1] += w * d0 * d1
        h[0, 2] += w * d0 * d2
        h[0, 3] += w * d0 * d3
        h[1, 1] += w * d1 * d1
        h[1, 2] += w * d1 * d2
        h[1, 3] += w * d1 * d3
        h[2, 2] += w * d2 * d2
        h[2, 3] += w * d2 * d3
        h[3, 3] += w * d3 * d3
    wx = priors.x1_sigma**-2.0
    off = par[3] - priors.c_mean
    wc = (priors.c_red if off > 0.0 else priors.c_blue) ** -2.0
    chisq += wx * (par[2] - priors.x1_mean) ** 2 + wc * off * off
    g[2] -= wx * (par[2] - priors.x1_mean)
    g[3] -= wc * off
    h[2, 2] += wx
    h[3, 3] += wc
    for j in range(4):
        for k in range(j):
            h[j, k] = h[k, j]
    return chisq


@compiled
def _factor(h: Array, damping: float, lower: Array) -> bool:
    """Cholesky factor of a damped 4 x 4 matrix; false where it is not positive definite."""
    for j in range(4):
        for k in range(j + 1):
            s = h[j, k]
            if j == k:
                s *= 1.0 + damping
            for m in range(k):
                s -= lower[j, m] * lower[k, m]
            if j == k:
                if not s > 1e-12 * h[j, j] or not s > 0.0:
                    return False
                lower[j, j] = math.sqrt(s)
            else:
                lower[j, k] = s / lower[k, k]
    return True


@compiled
def _solve(lower: Array, b: Array, x: Array) -> None:
    """Solve lower lowerᵀ x = b."""
    for j in range(4):
        s = b[j]
        for m in range(j):
            s -= lower[j, m] * x[m]
        x[j] = s / lower[j, j]
    for j in range(3, -1, -1):
        s = x[j]
        for m in range(j + 1, 4):
            s -= lower[m, j] * x[m]
        x[j] = s / lower[j, j]


@compiled
def _descend(
    tables: Tables,
    node: int,
    z: float,
    bands: NDArray[np.int64],
    starts: NDArray[np.int64],
    n_bands: int,
    n: int,
    own: Array,
    dust: Array,
    rows: Array,
    par: Array,
    priors: Priors,
    delays: Array,
    shares: Array,
    room: Array,
) -> float:
    """Go down to a minimum from `par`; leaves the curvature in ``room[0:4]``."""
    h, g, lower, step, trial = room[0:4], room[4], room[5:9], room[9], room[10]
    other_h, other_g = room[11:15], room[15]
    _collapse(tables, node, bands, n_bands, par[3], dust, rows)
    _columns(tables, rows, starts, n_bands, z, par, delays, shares, own)
    chisq = _equations(own, n, par, priors, h, g)
    damping = 1e-3
    for _ in range(N_STEPS):
        if not _factor(h, damping, lower):
            damping = max(10.0 * damping, 1e-3)
            if damping > 1e6:
                break
            continue
        _solve(lower, g, step)
        scale = max(abs(step[0]) / 5.0, abs(step[1]), abs(step[2]) / 2.0, abs(step[3]) / 0.3, 1.0)
        promised = 0.0
        for j in range(4):
            promised += g[j] * step[j]
            trial[j] = par[j] + step[j] / scale
        _collapse(tables, node, bands, n_bands, trial[3], dust, rows)
        _columns(tables, rows, starts, n_bands, z, trial, delays, shares, own)
        value = _equations(own, n, trial, priors, other_h, other_g)
        if value < chisq:
            gain = chisq - value
            chisq = value
            damping *= 0.1
            for j in range(4):
                par[j] = trial[j]
                g[j] = other_g[j]
                for k in range(4):
                    h[j, k] = other_h[j, k]
            if gain < TOLERANCE and promised < 0.1:
                break
        else:
            damping = max(10.0 * damping, 1e-2)
            if promised < 1e-3 or damping > 1e5:
                break
    return chisq


@compiled
def _weigh(
    tables: Tables,
    node: int,
    bands: NDArray[np.int64],
    starts: NDArray[np.int64],
    n_bands: int,
    own: Array,
    fraction: float,
) -> float:
    """Set the weights at a redshift, with the model's scatter; return the sum of ln(variance)."""
    total = 0.0
    for b in range(n_bands):
        scatter = fraction**2 + min(tables.dispersion[bands[b], node], 0.3) ** 2
        for i in range(starts[b], starts[b + 1]):
            variance = own[VAR, i] + scatter * own[FLUX, i] ** 2
            own[WEIGHT, i] = 1.0 / variance
            total += math.log(variance)
    return total


@compiled
def _start(
    tables: Tables,
    node: int,
    z: float,
    bands: NDArray[np.int64],
    starts: NDArray[np.int64],
    n_bands: int,
    n: int,
    own: Array,
    dust: Array,
    rows: Array,
    par: Array,
    priors: Priors,
    delays: Array,
    shares: Array,
    brightest: float,
    room: Array,
) -> None:
    """Set `par` to the best of a scan over t0."""
    trial = room[10]
    best = -1.0
    trial[2], trial[3] = 0.0, 0.0
    _collapse(tables, node, bands, n_bands, 0.0, dust, rows)
    days = -SCAN
    while days <= SCAN:
        trial[0] = brightest + days
        _columns(tables, rows, starts, n_bands, z, trial, delays, shares, own)
        x0, gain = _best_amplitude(own, n)
        if gain > best and x0 > 0.0:
            best = gain
            par[0], par[1], par[2], par[3] = trial[0], math.log(x0), 0.0, 0.0
        days += SCAN_STEP


@compiled
def _profile_node(
    tables: Tables,
    node: int,
    z: float,
    bands: NDArray[np.int64],
    starts: NDArray[np.int64],
    n_bands: int,
    n: int,
    own: Array,
    dust: Array,
    rows: Array,
    par: Array,
    priors: Priors,
    delays: Array,
    shares: Array,
    room: Array,
    out: Array,
    k: int,
) -> None:
    """Write the profile at one redshift, from the parameters at the redshift beside it."""
    ln_variances = _weigh(tables, node, bands, starts, n_bands, own, priors.error_fraction)
    chisq = _descend(
        tables, node, z, bands, starts, n_bands, n, own, dust, rows, par, priors, delays, shares,
        room,
    )  # fmt: skip
    h, lower, step, unit = room[0:4], room[5:9], room[9], room[10]
    out[CHISQ, k], out[T0, k], out[STRETCH, k], out[COLOUR, k] = chisq, par[0], par[2], par[3]
    out[MAG, k] = priors.zero_mag - LN_MAG * par[1] + priors.alpha * par[2] - priors.beta * par[3]
    if not _factor(h, 0.0, lower):
        out[LIKELIHOOD, k], out[MAG_VAR, k] = LEAST, 1.0
        return
    ln_det = 0.0
    for j in range(4):
        ln_det += 2.0 * math.log(lower[j, j])
    unit[0], unit[1], unit[2], unit[3] = 0.0, -LN_MAG, priors.alpha, -priors.beta
    _solve(lower, unit, step)
    variance = 0.0
    for j in range(4):
        variance += unit[j] * step[j]
    out[MAG_VAR, k] = variance
    value = -0.5 * (chisq + ln_variances) + 2.0 * LN_2PI - 0.5 * ln_det
    # Priors: x1, c, t0; ln x0 is flat in magnitudes.
    value -= math.log(priors.x1_sigma) + 0.5 * LN_2PI
    value -= math.log(0.5 * (priors.c_blue + priors.c_red)) + 0.5 * LN_2PI
    out[LIKELIHOOD, k] = value - math.log(T_RANGE) + math.log(LN_MAG)


@entry_point
def profile_range(
    tables: Tables,
    points: Photometry,
    ebv: Array,
    law: Array,
    priors: Priors,
    node_step: int,
    first_node: int,
    n_nodes: int,
    start_node: int,
    delays: Array,
    shares: Array,
    begin: int,
    end: int,
    work: LensWork,
    out: Array,
) -> None:
    """Write the profiles of objects `begin` to `end` into `out`, shape (n, N_ROWS, n_nodes).

    `law` is the extinction at the wavelength nodes, shape (B, Q), mag for E(B-V) = 1. An image is
    `delays` later (observer's days) and has a share of the flux.
    """
    own, rows, dust, room = work.own, work.rows, work.dust, work.room
    bands, starts = work.bands, work.starts
    par, kept = room[16], room[17]
    for i in range(begin, end):
        n_bands, n, last_band = 0, 0, -1
        brightest, most, origin = 0.0, -np.inf, np.inf
        for k in range(points.offsets[i], points.offsets[i + 1]):
            origin = min(origin, points.time[k])
        for k in range(points.offsets[i], points.offsets[i + 1]):
            b = points.band[k]
            if b != last_band:
                bands[n_bands], starts[n_bands] = b, n
                for q in range(tables.flux.shape[2]):
                    dust[n_bands, q] = math.exp(MAG_LN * ebv[i] * law[b, q])
                n_bands += 1
                last_band = b
            own[TIME, n] = points.time[k] - origin
            own[FLUX, n] = points.flux[k]
            own[VAR, n] = points.fluxerr[k] ** 2
            if points.flux[k] > most:
                most, brightest = points.flux[k], own[TIME, n]
            n += 1
        starts[n_bands] = n
        if n == 0:
            continue
        node = first_node + start_node * node_step
        z = tables.z_start + node * tables.z_step
        _weigh(tables, node, bands, starts, n_bands, own, priors.error_fraction)
        par[1] = -np.inf
        _start(
            tables, node, z, bands, starts, n_bands, n, own, dust, rows, par, priors, delays,
            shares, brightest, room,
        )  # fmt: skip
        if not par[1] > -np.inf:
            continue
        for side in (1, -1):
            k = start_node if side == 1 else start_node - 1
            if side == -1:
                for j in range(4):
                    par[j] = kept[j]
            while 0 <= k < n_nodes:
                node = first_node + k * node_step
                z = tables.z_start + node * tables.z_step
                _profile_node(
                    tables, node, z, bands, starts, n_bands, n, own, dust, rows, par, priors,
                    delays, shares, room, out[i], k,
                )  # fmt: skip
                if k == start_node:
                    for j in range(4):
                        kept[j] = par[j]
                k += side
        for k in range(n_nodes):
            out[i, T0, k] += origin


@compiled
def _at(profile: Array, row: int, s: float) -> float:
    """A row of a profile between its nodes, `s` in steps: four-point interpolation."""
    n = profile.shape[1]
    i = min(max(int(s), 1), n - 3)
    t = s - i
    v0, v1 = profile[row, i - 1], profile[row, i]
    v2, v3 = profile[row, i + 1], profile[row, i + 2]
    a0 = -t * (t - 1.0) * (t - 2.0) / 6.0
    a1 = (t + 1.0) * (t - 1.0) * (t - 2.0) / 2.0
    a2 = -(t + 1.0) * t * (t - 2.0) / 2.0
    a3 = (t + 1.0) * t * (t - 1.0) / 6.0
    return a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3


@compiled
def _linear(profile: Array, row: int, s: float) -> float:
    i = min(int(s), profile.shape[1] - 2)
    t = s - i
    return (1.0 - t) * profile[row, i] + t * profile[row, i + 1]


@compiled
def ln_normal_cdf(x: float) -> float:
    """ln of the normal distribution's integral up to `x`."""
    if x > -8.0:
        return math.log(0.5 * math.erfc(-x / math.sqrt(2.0)))
    return -0.5 * x * x - math.log(-x) - 0.5 * LN_2PI + math.log1p(-1.0 / (x * x))


@compiled
def add_logs(a: float, b: float) -> float:
    """ln(exp a + exp b)."""
    if a < b:
        a, b = b, a
    if not a > -np.inf:
        return a
    return a + math.log1p(math.exp(b - a))


@compiled
def _ln_normal_mag(e: float, variance: float) -> float:
    """ln density of a normal supernova that is `e` mag too bright."""
    return -0.5 * e * e / variance - 0.5 * (LN_2PI + math.log(variance))


@compiled
def _ln_lensed_mag(e: float, variance: float, priors: Priors) -> float:
    """ln density of a lensed supernova: the exponential prior in mag, and the scatter."""
    s = math.sqrt(variance)
    k = priors.slope
    value = math.log(k) + k * (priors.start - e) + 0.5 * k * k * variance
    return value + ln_normal_cdf((e - priors.start) / s - k * s)


@entry_point
def evidence_range(
    profiles: Array,
    targets: LensTargets,
    priors: Priors,
    z_grid: Array,
    modulus: Array,
    source_prior: Array,
    volume_prior: Array,
    node_z: float,
    node_step: float,
    begin: int,
    end: int,
    room: Array,
    out: Array,
) -> None:
    """Write ln evidences and estimates of objects `begin` to `end` into `out`, shape (n, 12).

    Columns: ln evidence normal, lensed; mean and error of z under the lensed hypothesis, mean
    magnification in mag; mean and error of z by the light curve alone; chi-square at the best
    redshift, that redshift, x1 and c there; chi-square at the catalogue's redshift.
    `z_grid` is even in ln z, `source_prior` and `volume_prior` are densities in z there.
    """
    n_grid = z_grid.size
    ln_step = math.log(z_grid[1] / z_grid[0])
    ln_first = math.log(z_grid[0])
    likelihood, excess, variance, far, free = room[0], room[1], room[2], room[3], room[4]
    for i in range(begin, end):
        profile = profiles[i]
        if not profile[LIKELIHOOD, 0] > -np.inf:
            continue
        z_cat, sigma = targets.z[i], targets.sigma[i]
        wide = priors.outlier_width * (1.0 + z_cat)
        share = 1.0 - targets.near_outliers[i] - targets.far_outliers[i]
        for j in range(n_grid):
            s = (z_grid[j] - node_z) / node_step
            likelihood[j] = _at(profile, LIKELIHOOD, s)
            variance[j] = max(_linear(profile, MAG_VAR, s), 0.0) + priors.scatter**2
            excess[j] = priors.absmag + modulus[j] - _at(profile, MAG, s)
        # A normal supernova: near the catalogue's redshift, at an outlier's, at any.
        normal = -np.inf
        for j in range(65):
            z = z_cat + sigma * (j - 32) / 8.0
            if not (z_grid[0] <= z <= z_grid[n_grid - 1]):
                continue
            s = (z - node_z) / node_step
            at = (math.log(z) - ln_first) / ln_step
            low = min(int(at), n_grid - 2)
            t = at - low
            mu = (1.0 - t) * modulus[low] + t * modulus[low + 1]
            e = priors.absmag + mu - _at(profile, MAG, s)
            v = max(_linear(profile, MAG_VAR, s), 0.0) + priors.scatter**2
            weight = math.log(share / 8.0) - 0.5 * ((j - 32) / 8.0) ** 2 - 0.5 * LN_2PI
            normal = add_logs(normal, weight + _at(profile, LIKELIHOOD, s) + _ln_normal_mag(e, v))
        total = 0.0
        for j in range(n_grid):
            dz = z_grid[j] * ln_step
            x = (z_grid[j] - z_cat) / wide
            p = targets.near_outliers[i] * math.exp(-0.5 * x * x) / (wide * 2.50662827463)
            p += targets.far_outliers[i] * volume_prior[j]
            if p > 0.0:
                term = likelihood[j] + _ln_normal_mag(excess[j], variance[j])
                normal = add_logs(normal, math.log(p * dz) + term)
            # The share of the lens's redshifts that lie far enough before this one.
            y = (z_grid[j] - priors.behind - z_cat) / sigma
            near = 0.5 * math.erfc(-y / math.sqrt(2.0))
            y = (z_grid[j] - priors.behind - z_cat) / wide
            total += volume_prior[j] * dz
            before = share * near + targets.near_outliers[i] * 0.5 * math.erfc(-y / math.sqrt(2.0))
            before += targets.far_outliers[i] * min(total, 1.0)
            far[j] = -np.inf
            p = source_prior[j] * before * dz
            if p > 1e-300:
                far[j] = math.log(p) + likelihood[j]
                far[j] += _ln_lensed_mag(excess[j], variance[j], priors)
            free[j] = likelihood[j] + math.log(dz)
        out[i, 0] = normal
        lensed, alone, top_j = -np.inf, -np.inf, 0
        for j in range(n_grid):
            lensed = add_logs(lensed, far[j])
            alone = add_logs(alone, free[j])
            if likelihood[j] > likelihood[top_j]:
                top_j = j
        out[i, 1] = lensed
        mean, square, mags, mean_free, square_free = 0.0, 0.0, 0.0, 0.0, 0.0
        for j in range(n_grid):
            p = math.exp(far[j] - lensed)
            mean += p * z_grid[j]
            square += p * z_grid[j] ** 2
            mags += p * excess[j]
            p = math.exp(free[j] - alone)
            mean_free += p * z_grid[j]
            square_free += p * z_grid[j] ** 2
        out[i, 2], out[i, 3] = mean, math.sqrt(max(square - mean * mean, 0.0))
        out[i, 4] = mags
        out[i, 5] = mean_free
        out[i, 6] = math.sqrt(max(square_free - mean_free * mean_free, 0.0))
        s = (z_grid[top_j] - node_z) / node_step
        out[i, 7], out[i, 8] = _linear(profile, CHISQ, s), z_grid[top_j]
        out[i, 9], out[i, 10] = _linear(profile, STRETCH, s), _linear(profile, COLOUR, s)
        out[i, 11] = _linear(profile, CHISQ, max((z_cat - node_z) / node_step, 0.0))
