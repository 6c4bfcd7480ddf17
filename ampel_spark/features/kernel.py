"""The features of many light curves: compiled code. What they mean: `definitions`.

Each light curve is taken by itself, row after row, so that neither its neighbours in a batch nor
rows that another state has change a bit of it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ampel_spark.compiled import compiled, entry_point
from ampel_spark.features.definitions import COMMON, PER_BAND, PER_COLOUR, STATISTICS

__all__ = ["ZERO_POINT", "fill"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Zero point of all fluxes [mag].
ZERO_POINT = 25.0

_N_COMMON, _N_BAND, _N_COLOUR = len(COMMON), len(PER_BAND), len(PER_COLOUR)
_N_STATISTICS = len(STATISTICS)
# Frequencies of a periodogram: as many for each independent one.
_RESOLUTION = 10
_FEWEST = 4


@entry_point
def fill(
    offsets: Ints,
    jd: Floats,
    flux: Floats,
    err: Floats,
    band: Ints,
    bits: Ints,
    significant: NDArray[np.bool_],
    pairs: Ints,
    options: Floats,
    statistics: bool,
    out: Floats,
) -> None:
    """Fill `out`, shape (states, features), which is all NaN.

    Rows of a state are in order of time; an upper limit has a flux of NaN. `pairs` has shape
    (colours, 2), `options` is sigma_det, sigma_slope, t_cadence, max_gap.
    """
    n_bands, n_pairs = bits.size, pairs.shape[0]
    longest = 1
    for i in range(offsets.size - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    work = np.empty((7, longest))
    power = np.empty(_RESOLUTION * longest)
    spare = np.empty((2, n_bands))
    at = _N_COMMON + n_bands * _N_BAND
    for i in range(offsets.size - 1):
        a, b = offsets[i], offsets[i + 1]
        row = out[i]
        t, f, e, of = jd[a:b], flux[a:b], err[a:b], band[a:b]
        if _common(t, f, e, of, bits, significant, options, row):
            _bands(t, f, e, of, row, options[2], n_bands)
            _shape(row, options, n_bands, spare[0])
            _colours(t, f, e, of, bits, pairs, options[2], spare, row, row[at:])
        if statistics:
            place = row[at + n_pairs * _N_COLOUR :]
            _all_statistics(t, f, e, of, n_bands, work, power, place)
        for j in range(row.size):
            if not math.isfinite(row[j]):
                row[j] = math.nan


@compiled
def _colours(
    jd: Floats, flux: Floats, err: Floats, band: Ints, bits: Ints, pairs: Ints,
    cadence: float, means: Floats, row: Floats, out: Floats,
) -> None:  # fmt: skip
    """Fill the colours, and which bands there are about the times of colours."""
    for k in range(3):
        when = row[4 + k] if k < 2 else row[17]
        if when != when:
            continue
        _means(jd, flux, err, band, when, cadence, means)
        total = 0.0
        for j in range(bits.size):
            if means[1, j] > 0.0:
                total += bits[j]
        row[23 + k] = total
        for j in range(pairs.shape[0]):
            one, two = means[0, pairs[j, 0]], means[0, pairs[j, 1]]
            if one > 0.0 and two > 0.0:
                out[j * _N_COLOUR + k] = -2.5 * math.log10(one / two)
    for j in range(pairs.shape[0]):
        one = row[_N_COMMON + pairs[j, 0] * _N_BAND + 6]
        two = row[_N_COMMON + pairs[j, 1] * _N_BAND + 6]
        out[j * _N_COLOUR + 3] = one - two


@compiled
def _all_statistics(
    jd: Floats, flux: Floats, err: Floats, band: Ints, n_bands: int,
    work: Floats, power: Floats, out: Floats,
) -> None:  # fmt: skip
    """Fill the statistics of each band, and their means over bands."""
    for j in range(n_bands):
        n = 0
        for k in range(jd.size):
            if band[k] == j and flux[k] == flux[k]:
                work[0, n], work[1, n], work[2, n] = jd[k] - jd[0], flux[k], err[k]
                n += 1
        if n >= _FEWEST:
            place = out[j * _N_STATISTICS : (j + 1) * _N_STATISTICS]
            _statistics(work[0, :n], work[1, :n], work[2, :n], place)
            _periodogram(work[0, :n], work[1, :n], work[3:], power, place)
    for j in range(_N_STATISTICS):
        total, n = 0.0, 0
        for k in range(n_bands):
            value = out[k * _N_STATISTICS + j]
            if math.isfinite(value):
                total += value
                n += 1
        if n:
            out[n_bands * _N_STATISTICS + j] = total / n


@compiled
def _magnitude(flux: float) -> float:
    return ZERO_POINT - 2.5 * math.log10(flux) if flux > 0.0 else math.nan


@compiled
def _common(
    jd: Floats, flux: Floats, err: Floats, band: Ints, bits: Ints,
    significant: NDArray[np.bool_], options: Floats, row: Floats,
) -> bool:  # fmt: skip
    """Fill what detections of all bands say; return whether there is any."""
    n, n_all, n_negative, n_positive = 0, 0, 0, 0
    first, last, brightest = -1, -1, -1
    for k in range(jd.size):
        if abs(flux[k]) > options[0] * err[k]:
            n_all += 1
            n_negative += flux[k] < 0.0
            if significant[band[k]]:
                n += 1
                n_positive += flux[k] > 0.0
                if first < 0:
                    first = k
                if last < 0 or jd[k] > jd[last]:
                    last = k
        if flux[k] == flux[k] and (brightest < 0 or flux[k] > flux[brightest]):
            brightest = k
    row[0], row[1], row[2] = n, n_all, n_negative
    if n == 0:
        return False
    pure, before, gap = True, math.nan, 0.0
    for k in range(jd.size):
        if k > 0:
            gap = max(gap, jd[k] - jd[k - 1])
        if significant[band[k]]:
            if jd[k] < jd[first]:
                before = jd[first] - jd[k]
            if jd[first] < jd[k] < jd[last] and not abs(flux[k]) > options[0] * err[k]:
                pure = False
    row[3] = n_positive / n
    row[4], row[5], row[6], row[7] = jd[first], jd[last], jd[last] - jd[first], before
    row[8], row[9] = _magnitude(flux[first]), _magnitude(flux[last])
    row[10], row[11] = bits[band[first]], bits[band[last]]
    row[12] = _magnitude(flux[brightest])
    row[13], row[22] = pure, gap > options[3]
    return True


@compiled
def _bands(
    jd: Floats, flux: Floats, err: Floats, band: Ints, row: Floats, cadence: float, n_bands: int
) -> None:
    """Fill the features of each band."""
    begin, end = row[4] - cadence, row[5] + cadence
    for j in range(n_bands):
        place = row[_N_COMMON + j * _N_BAND : _N_COMMON + (j + 1) * _N_BAND]
        n, first, last, top = 0, -1, -1, -1
        for k in range(jd.size):
            if band[k] == j and flux[k] == flux[k] and begin < jd[k] < end:
                n += 1
                if first < 0:
                    first = k
                last = k
                if top < 0 or flux[k] > flux[top]:
                    top = k
        place[5] = n
        if n == 0:
            continue
        peak = flux[top]
        place[0] = jd[top]
        place[1], place[2] = _slope(jd, flux, err, band, j, begin, jd[top], row[4], True)
        place[3], place[4] = _slope(jd, flux, err, band, j, jd[top], end, row[4], False)
        place[6], place[7], place[8] = _magnitude(peak), peak / err[top], jd[top] - row[4]
        if peak > 0.0:
            place[9], place[10] = place[1] / peak, place[3] / peak
            place[11], place[12] = flux[first] / peak, flux[last] / peak
            place[13], place[14] = _moments(jd, flux, band, j, begin, end, row[4])


@compiled
def _slope(
    jd: Floats, flux: Floats, err: Floats, band: Ints, j: int, begin: float, end: float,
    zero: float, rises: bool,
) -> tuple[float, float]:  # fmt: skip
    """Return the slope of a weighted line, and the slope over its error, to one side of a peak.

    The side's inner edge is part of it, the outer is not.
    """
    w, wt, wf, n = 0.0, 0.0, 0.0, 0
    low, high = math.inf, -math.inf
    for k in range(jd.size):
        inside = begin < jd[k] <= end if rises else begin <= jd[k] < end
        if band[k] == j and inside and flux[k] == flux[k]:
            weight = 1.0 / (err[k] * err[k])
            w += weight
            wt += weight * (jd[k] - zero)
            wf += weight * flux[k]
            n += 1
            low, high = min(low, jd[k]), max(high, jd[k])
    if n < 2 or not high > low:
        return math.nan, math.nan
    mt, mf = wt / w, wf / w
    tt, tf = 0.0, 0.0
    for k in range(jd.size):
        inside = begin < jd[k] <= end if rises else begin <= jd[k] < end
        if band[k] == j and inside and flux[k] == flux[k]:
            weight = 1.0 / (err[k] * err[k])
            t = jd[k] - zero - mt
            tt += weight * t * t
            tf += weight * t * (flux[k] - mf)
    slope = tf / tt
    return slope, slope * math.sqrt(tt)


@compiled
def _moments(
    jd: Floats, flux: Floats, band: Ints, j: int, begin: float, end: float, zero: float
) -> tuple[float, float]:
    """Return standard deviation and skewness of times, weighted by positive fluxes."""
    w, wt, n = 0.0, 0.0, 0
    low, high = math.inf, -math.inf
    for k in range(jd.size):
        if band[k] == j and flux[k] > 0.0 and begin < jd[k] < end:
            w += flux[k]
            wt += flux[k] * (jd[k] - zero)
            n += 1
            low, high = min(low, jd[k]), max(high, jd[k])
    if n < 2 or not high > low:
        return math.nan, math.nan
    mean = wt / w
    two, three = 0.0, 0.0
    for k in range(jd.size):
        if band[k] == j and flux[k] > 0.0 and begin < jd[k] < end:
            t = jd[k] - zero - mean
            two += flux[k] * t * t
            three += flux[k] * t * t * t
    width = math.sqrt(two / w)
    return width, three / w / (width * width * width)


@compiled
def _shape(row: Floats, options: Floats, n_bands: int, peaks: Floats) -> None:
    """Fill whether the object rises, falls, and has a peak."""
    rise, fall, n_rise, n_fall, n_both = 0.0, 0.0, 0, 0, 0
    for j in range(n_bands):
        place = row[_N_COMMON + j * _N_BAND : _N_COMMON + (j + 1) * _N_BAND]
        up, down = place[2], place[4]
        if up == up:
            rise += up
            n_rise += 1
        if down == down:
            fall += down
            n_fall += 1
        if up == up and down == down:
            peaks[n_both] = place[0]
            n_both += 1
    if n_rise:
        row[14] = rise > options[1]
    if n_fall:
        row[15] = fall < -options[1]
    if not (n_rise and n_fall):
        return
    row[16] = rise > options[1] and fall < -options[1] and n_both > 0
    if row[16] == 1.0:
        row[17] = np.median(peaks[:n_both])
        row[18], row[19] = row[17] - row[4], row[5] - row[17]
        row[20], row[21] = abs(row[18]) < options[2], abs(row[19]) < options[2]


@compiled
def _means(
    jd: Floats, flux: Floats, err: Floats, band: Ints, when: float, cadence: float, means: Floats
) -> None:
    """Fill weighted mean fluxes of all bands about a time, and their weights."""
    means[:] = 0.0
    for k in range(jd.size):
        if abs(jd[k] - when) <= 0.5 * cadence and flux[k] == flux[k]:
            weight = 1.0 / (err[k] * err[k])
            means[0, band[k]] += weight * flux[k]
            means[1, band[k]] += weight
    for j in range(means.shape[1]):
        means[0, j] = means[0, j] / means[1, j] if means[1, j] > 0.0 else math.nan


@compiled
def _statistics(t: Floats, m: Floats, err: Floats, out: Floats) -> None:
    """Fill the statistics of one band but those of the periodogram."""
    n = m.size
    mean = m.sum() / n
    two, three, four, steps, steepest, noise = 0.0, 0.0, 0.0, 0.0, math.nan, 0.0
    w, wt, wm = 0.0, 0.0, 0.0
    for k in range(n):
        d = m[k] - mean
        two += d * d
        three += d * d * d
        four += d * d * d * d
        weight = 1.0 / (err[k] * err[k])
        noise += err[k] * err[k]
        w += weight
        wt += weight * t[k]
        wm += weight * m[k]
        if k > 0:
            step = m[k] - m[k - 1]
            steps += step * step
            if t[k] > t[k - 1]:
                slope = abs(step) / (t[k] - t[k - 1])
                if not steepest >= slope:
                    steepest = slope
    variance = two / (n - 1)
    sigma = math.sqrt(variance)
    out[1], out[5] = steepest, sigma
    out[6] = (variance - noise / n) / (mean * mean)
    mt, mm = wt / w, wm / w
    tt, tm, chisq, k_one, k_two = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(n):
        weight = 1.0 / (err[k] * err[k])
        tt += weight * (t[k] - mt) * (t[k] - mt)
        tm += weight * (t[k] - mt) * (m[k] - mm)
        pull = (m[k] - mm) / err[k]
        k_one += abs(pull)
        k_two += pull * pull
    if t[n - 1] > t[0]:
        slope = tm / tt
        out[7], out[8] = slope, 1.0 / math.sqrt(tt)
        for k in range(n):
            pull = (m[k] - mm - slope * (t[k] - mt)) / err[k]
            chisq += pull * pull
        out[9] = chisq / (n - 2)
    if not two > 0.0:
        return
    out[0] = steps / (n - 1) / variance
    out[4] = n / ((n - 1.0) * (n - 2.0)) * three / (sigma * variance)
    out[11] = n * (n + 1.0) / ((n - 1.0) * (n - 2.0) * (n - 3.0)) * four / (
        variance * variance
    ) - 3.0 * (n - 1.0) ** 2 / ((n - 2.0) * (n - 3.0))
    out[12] = k_one / math.sqrt(n * k_two)
    ordered = np.sort(m)
    total = 0.0
    for k in range(n):
        x = (ordered[k] - mean) / sigma / math.sqrt(2.0)
        total += (2.0 * k + 1.0) * math.log(0.5 * math.erfc(-x))
        total += (2.0 * (n - k) - 1.0) * math.log(0.5 * math.erfc(x))
    out[10] = (1.0 + 4.0 / n - 25.0 / (n * n)) * (-n - total / n)


@compiled
def _periodogram(t: Floats, m: Floats, turns: Floats, power: Floats, out: Floats) -> None:
    """Fill period and height of the largest maximum of the Lomb-Scargle periodogram.

    Frequencies go to the mean Nyquist frequency. Angles grow by a rotation for each frequency,
    which costs a tenth of sine and cosine.
    """
    n = m.size
    duration = t[n - 1] - t[0]
    mean = m.sum() / n
    variance = 0.0
    for k in range(n):
        variance += (m[k] - mean) ** 2 / (n - 1)
    if not (duration > 0.0 and variance > 0.0):
        return
    step = 2.0 * math.pi / (duration * _RESOLUTION)
    size = math.ceil(math.pi * (n - 1) / duration / step * (1.0 - 1e-12))
    for k in range(n):
        angle = step * (t[k] - t[0])
        turns[0, k], turns[1, k] = 1.0, 0.0
        turns[2, k], turns[3, k] = math.cos(angle), math.sin(angle)
    total = 0.0
    for i in range(size):
        c2, s2, yc, ys = 0.0, 0.0, 0.0, 0.0
        for k in range(n):
            c = turns[0, k] * turns[2, k] - turns[1, k] * turns[3, k]
            s = turns[1, k] * turns[2, k] + turns[0, k] * turns[3, k]
            turns[0, k], turns[1, k] = c, s
            c2 += c * c - s * s
            s2 += 2.0 * c * s
            yc += (m[k] - mean) * c
            ys += (m[k] - mean) * s
        h = math.hypot(c2, s2)
        cos_tau = math.sqrt(0.5 * (1.0 + c2 / h)) if h > 0.0 else 1.0
        sin_tau = math.sqrt(max(0.5 * (1.0 - c2 / h), 0.0)) if h > 0.0 else 0.0
        if s2 < 0.0:
            sin_tau = -sin_tau
        one, two = yc * cos_tau + ys * sin_tau, ys * cos_tau - yc * sin_tau
        cc, ss = 0.5 * (n + h), 0.5 * (n - h)
        power[i] = one * one / cc
        if ss > 1e-9 * n:
            power[i] += two * two / ss
        power[i] *= 0.5 / variance
        total += power[i]
    best, mean_power, spread = -1, total / size, 0.0
    for i in range(size):
        spread += (power[i] - mean_power) ** 2
        top = 0 < i < size - 1 and power[i] > power[i - 1] and power[i] >= power[i + 1]
        if top and (best < 0 or power[i] > power[best]):
            best = i
    if best >= 0 and spread > 0.0:
        out[2] = 2.0 * math.pi / (step * (best + 1))
        out[3] = (power[best] - mean_power) / math.sqrt(spread / (size - 1))
