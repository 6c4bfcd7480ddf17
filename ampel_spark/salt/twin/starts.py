"""Starting points of a fit, descents from them, and whether a minimum may not be the lowest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ampel_spark.salt.tables import Tables
from ampel_spark.salt.twin.model import T0, X0, X1, C, Z
from ampel_spark.salt.twin.object import Object

__all__ = ["beside", "edge_distance", "find_starts", "in_doubt", "minima", "redshift_row", "search"]

Array = NDArray[np.float64]

#: Chi-square (less the data's), z, t0 and c.
Start = tuple[float, float, float, float]
#: Step of the scan in t0, rest-frame days, and the largest number of steps.
SCAN_STEP, SCAN_LIMIT = 2.5, 20000
#: As in `ampel_spark.salt.doubt` and `starts`.
SURE_REDSHIFT, REDSHIFTS = 0.015, 25
N_BESIDE, N_TIMES = 4, 2


def find_starts(sn: Object, par: Array) -> list[Start]:
    """Minima of scans in t0 over redshifts, best first."""
    settings = sn.settings
    z_low, z_high = sn.lower[Z], sn.upper[Z]
    redshifts = [par[Z]]
    if settings.fitted[Z]:
        n = int(np.clip(np.ceil(np.log((1.0 + z_high) / (1.0 + z_low)) / 0.04), 1, 8))
        redshifts = [z_low + (z_high - z_low) * (m + 0.5) / n for m in range(n)]
    if not settings.fitted[T0]:
        return [(0.0, z, par[T0], par[C]) for z in redshifts]
    found: list[Start] = []
    for z in redshifts:
        found += _scan(sn, par, z)
    found.sort(key=lambda start: start[0])
    middle = (0.5 * (z_low + z_high), 0.5 * (sn.lower[T0] + sn.upper[T0]))
    return found[:8] or [(0.0, *middle, par[C])]


def _scan(sn: Object, par: Array, z: float) -> list[Start]:
    """Local minima of chi-square against t0 at a redshift, errors taken as independent."""
    settings, t = sn.settings, sn.model.tables
    first = t.phase_start
    last = first + t.phase_step * (t.n_phases - 1)
    if settings.has_phase_range and settings.phase_iterative:
        stretch = 1.0 + sn.lower[Z] if settings.phase_observer else 1.0
        first = max(first, settings.phase_min / stretch)
        last = min(last, settings.phase_max / stretch)
    weight = 1.0 / np.diag(sn.given)
    x1_ends = np.clip(
        [sn.lower[X1], sn.prior_mean[X1] if sn.prior_weight[X1] > 0 else 0.0, sn.upper[X1]],
        max(sn.lower[X1], -100.0),
        min(sn.upper[X1], 100.0),
    )
    low, high = sn.lower[T0], sn.upper[T0]
    n = min(int(np.ceil((high - low) / (SCAN_STEP * (1.0 + z)))), SCAN_LIMIT) + 1
    times = low + (high - low) / max(n - 1, 1) * np.arange(n)
    scores = np.empty(n)
    # All times at once: bases of shape (times, points, 2).
    phase = (sn.time - times[:, None]) / (1.0 + z)
    basis = sn.model.at_phase(np.tile(sn.band, n), phase.ravel(), z, par[C]).reshape(n, -1, 2)
    basis[(phase < first) | (phase > last)] = 0.0
    weighted = basis * weight[:, None]
    squares = np.einsum("tij,tik->tjk", basis, weighted)
    products = np.einsum("tij,i->tj", weighted, sn.flux)
    for k in range(n):
        scores[k] = _scan_score(sn, squares[k], products[k], par, x1_ends)
    scores += sn.prior_weight[T0] * (times - sn.prior_mean[T0]) ** 2
    before = np.concatenate([[np.inf], scores[:-1]])
    after = np.concatenate([scores[1:], [np.inf]])
    minima = (scores < before) & (scores <= after)
    return [
        (float(s), z, float(t0), par[C])
        for s, t0 in zip(scores[minima], times[minima], strict=True)
    ]


def _scan_score(sn: Object, square: Array, product: Array, par: Array, x1_ends: Array) -> float:
    """Chi-square less the data's; with x1 out of its bounds, at one of a few values."""
    settings = sn.settings
    if settings.fitted[X0] and settings.fitted[X1]:
        if sn.prior_weight[X0] == 0.0 and sn.prior_weight[X1] == 0.0:
            det = square[0, 0] * square[1, 1] - square[0, 1] ** 2
            if det > 1e-12 * square[0, 0] * square[1, 1]:
                a = (product[0] * square[1, 1] - product[1] * square[0, 1]) / det
                b = (product[1] * square[0, 0] - product[0] * square[0, 1]) / det
                inside = sn.lower[X0] <= a <= sn.upper[X0]
                if inside and x1_ends[0] * a <= b <= x1_ends[2] * a:
                    return float(-(a * product[0] + b * product[1]))
        values = x1_ends
    else:
        x1 = sn.solve_linear((square, product), par[X0], par[X1])[1]
        values = np.array([x1])
    scores = []
    for x1 in values:
        vector = np.array([1.0, x1])
        norm = vector @ square @ vector + sn.prior_weight[X0]
        signal = vector @ product + sn.prior_weight[X0] * sn.prior_mean[X0]
        x0 = par[X0]
        if settings.fitted[X0]:
            x0 = np.clip(signal / norm if norm > 0.0 else 0.0, sn.lower[X0], sn.upper[X0])
        pull = sn.prior_weight[X1] * (x1 - sn.prior_mean[X1]) ** 2
        scores.append(float(x0 * (x0 * norm - 2.0 * signal) + pull))
    return min(scores)


def search(
    sn: Object,
    par: Array,
    starts: list[Start],
    signal: bool,
    counts: NDArray[np.int32],
) -> tuple[Array | None, bool]:
    """Descend from one starting point, or from several in doubt; return the best."""
    settings = sn.settings
    best: Array | None = None
    best_chisq, best_converged = np.inf, False
    doubt, profiled = not settings.fitted[T0], False
    k, n_starts = -1, 0
    while n_starts < settings.max_starts:
        k += 1
        # With the redshift free each descent is long, and most lead to the same valley.
        if settings.fitted[Z] and n_starts >= (8 if doubt else 3):
            break
        if k < len(starts):
            far = starts[k][0] > starts[0][0] * 0.97 + 10.0 or not signal
            if k > 0 and not doubt and far:
                continue
            # Of neighbouring redshifts, the valley that the best minimum is in.
            if k > 0 and settings.fitted[Z] and settings.fitted[T0] and best is not None:
                near = abs(starts[k][1] - best[Z]) < 0.05 and not profiled
                if near and abs(starts[k][2] - best[T0]) < 8.0 * (1.0 + best[Z]):
                    continue
            par[[Z, T0, C]] = starts[k][1:]
        elif doubt and best is not None and k < len(starts) + N_BESIDE:
            par = beside(sn, best, k - len(starts))
        else:
            break
        n_starts += 1
        known = None if best is None else (best_chisq, best)
        chisq, n_steps, converged = _settle(sn, par, known)
        counts[9] += n_steps
        if chisq < best_chisq - 1e-9 * (1.0 + abs(chisq)):
            best, best_chisq, best_converged = par.copy(), chisq, converged
        if n_starts == 1 and settings.fitted[T0]:
            # Noise has minima without end, and none that means anything.
            doubt = signal and (not np.isfinite(chisq) or in_doubt(sn, par))
            if doubt and settings.fitted[Z]:
                starts = _profile_redshifts(sn, par if best is None else best, counts)
                k, profiled = -1, True
    counts[7] = n_starts
    return best, best_converged


def beside(sn: Object, best: Array, side: int) -> Array:
    """Return a start beside the best minimum so far: in t0, and in colour."""
    par = best.copy()
    if side < N_TIMES:
        par[T0] += (10.0 * side - 5.0) * (1.0 + best[Z])
    else:
        par[C] += 0.5 - (side - N_TIMES)
    par[[T0, C]] = np.clip(par[[T0, C]], sn.lower[[T0, C]], sn.upper[[T0, C]])
    return par


def redshift_row(sn: Object) -> Array:
    """Row of redshifts at which chi-square is profiled."""
    low, high = sn.lower[Z], sn.upper[Z]
    n = int(np.ceil(np.log((1.0 + high) / (1.0 + low)) / 0.02))
    return low + (high - low) * np.linspace(0.0, 1.0, min(max(n, 2), REDSHIFTS - 1) + 1)


def minima(profile: list[Start]) -> list[Start]:
    """Local minima of a profile, best first."""
    score = np.array([row[0] for row in profile])
    before = np.concatenate([[np.inf], score[:-1]])
    after = np.concatenate([score[1:], [np.inf]])
    at = np.flatnonzero((score < before) & (score <= after))
    return sorted((profile[m] for m in at), key=lambda row: row[0])[:8]


def _profile_redshifts(sn: Object, best: Array, counts: NDArray[np.int32]) -> list[Start]:
    """Starting points for an object in doubt: minima of chi-square against the redshift."""
    profile: list[Start] = []
    sn.held = True

    def settled(z: float, t0: float, c: float) -> Start:
        trial = best.copy()
        trial[[Z, T0, C]] = z, t0, c
        chisq, n_steps, _ = _settle(sn, trial)
        counts[9] += n_steps
        return chisq, z, float(trial[T0]), float(trial[C])

    for z in redshift_row(sn):
        sn.use[:] = True
        trial = best.copy()
        trial[Z] = z
        found = sorted(_scan(sn, trial, z), key=lambda row: row[0])
        sn.freeze(None)
        profile.append(settled(float(z), found[0][2] if found else best[T0], best[C]))
    # Neighbours in one valley have nearly the same t0 and c: where not, from one to the next.
    n = len(profile) - 1
    for m, side in [(k + 1, k) for k in range(n)] + [(k, k + 1) for k in range(n - 1, -1, -1)]:
        (_, z, t0, c), (_, _, t0_side, c_side) = profile[m], profile[side]
        if abs(t0_side - t0) >= 1.0 or abs(c_side - c) >= 0.1:
            profile[m] = min(profile[m], settled(z, t0_side, c_side))
    sn.held = False
    return minima(profile)


def _settle(
    sn: Object, par: Array, known: tuple[float, Array] | None = None
) -> tuple[float, int, bool]:
    """Descend and, with an iterative phase range, to where range and t0 agree."""
    settings = sn.settings
    cut = settings.has_phase_range and settings.phase_iterative
    if not cut:
        return sn.descend(par, known)
    total = 0
    sn.set_phase_range(par[Z], par[T0])
    chisq, converged = np.inf, False
    for _ in range(settings.max_rounds):
        if sn.use.sum() < settings.min_points or not sn.freeze(None):
            return np.inf, total, False
        here = None if known is None else (known[0] - _left_out(sn), known[1])
        chisq, n_steps, converged = sn.descend(par, here)
        total += n_steps
        # A descent that was given up stays so, whatever points another range has.
        if here is not None and not converged and chisq > here[0]:
            break
        if not sn.set_phase_range(par[Z], par[T0]):
            break
        converged = False
    if sn.use.sum() < settings.min_points or not sn.freeze(None):
        return np.inf, total, False
    return chisq + _left_out(sn), total, converged


def _left_out(sn: Object) -> float:
    """Chi-square of the points outside the phase range, as without model flux."""
    return float(np.sum(sn.flux[~sn.use] ** 2 / np.diag(sn.given)[~sn.use]))


def in_doubt(sn: Object, par: Array) -> bool:
    """Whether a minimum may not be the lowest one."""
    settings, t = sn.settings, sn.model.tables
    for k in (X1, C):
        if settings.fitted[k] and not sn.lower[k] < par[k] < sn.upper[k]:
            return True
    covariance = sn.errors(sn.equations(par)[0])
    if covariance is None or (settings.fitted[Z] and covariance[Z, Z] > SURE_REDSHIFT**2):
        return True
    error = np.sqrt(covariance[T0, T0]) / (1.0 + par[Z])
    loose = 0.3 if settings.fitted[Z] else 0.15
    if error > 0.7 or (settings.fitted[C] and covariance[C, C] > loose**2):
        return True
    phase = (sn.time[sn.use] - par[T0]) / (1.0 + par[Z])
    bright = sn.flux[sn.use] ** 2 > 9.0 * np.diag(sn.given)[sn.use]
    if np.any(bright & (edge_distance(t, phase) < 4.0 * error + 0.5)):
        return True
    before = np.sum((phase > -20.0) & (phase < -1.0))
    after = np.sum((phase > 5.0) & (phase < 40.0))
    return bool(before < 2 or after < 2)


def edge_distance(t: Tables, phase: Array) -> Array:
    last = t.phase_start + t.phase_step * (t.n_phases - 1)
    return np.minimum(np.abs(phase - t.phase_start), np.abs(phase - last))
