"""The measurements of the telescope: epochs of objects, noise, detections.

The noise of a flux is Gaussian. Its parts add in quadrature: the sky (a fifth of the image's
5-sigma limit), the photons of object and static source, and 1.5 % of the flux (0.4 % of the static
source) for calibration and subtraction. Reported errors are the true ones. So pulls have unit
width, except near the threshold, where only upward fluctuations are detected.

Forced photometry has the same flux as the detection of the same image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ampel_spark.simulate.lightcurves import difference_flux, static_flux
from ampel_spark.simulate.noise import key_of, normal
from ampel_spark.simulate.objects import Sky
from ampel_spark.simulate.survey import FIELDS

__all__ = ["HISTORY", "THRESHOLD", "ObservedLight", "observe"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: The signal to noise above which a difference is a detection.
THRESHOLD = 5.0
#: The length of a packet's history, days.
HISTORY = 30.0

_ZP = 25.0
_GAIN = 6.2
_FLOOR, _STATIC_FLOOR = 0.015, 0.004


@dataclass(frozen=True, eq=False)
class ObservedLight:
    """Epochs of a chunk of objects, sorted by object and time.

    Attributes
    ----------
    owner : array of int
        The object's row in the chunk.
    bounds : array of int
        The first epoch of each object, and at the end the number of epochs.
    serial, jd, nid, fid, programid, field, rcid : arrays
        The exposure's properties; `field` is the survey's number.
    depth, zero_point, zero_point_unc, seeing : arrays
        The image's 5-sigma limit (mag), zero point and its error (mag), FWHM (arcsec).
    truth, flux, sigma : arrays
        True and measured flux in the difference image and its error, of zero point 25.
    detected, alert : arrays of bool
        Whether the epoch is a detection, and whether it is one in a night of the archive.
    """

    owner: NDArray[np.intp]
    bounds: NDArray[np.intp]
    serial: Ints
    jd: Floats
    nid: Ints
    fid: Ints
    programid: Ints
    field: Ints
    rcid: Ints
    depth: Floats
    zero_point: Floats
    zero_point_unc: Floats
    seeing: Floats
    truth: Floats
    flux: Floats
    sigma: Floats
    detected: NDArray[np.bool_]
    alert: NDArray[np.bool_]


def observe(objects: NDArray[np.void], sky: Sky) -> ObservedLight:
    """Return the photometry of a chunk of objects in a sky.

    Asteroids and bogus sources are detected only in the images, and with the signal to noise, that
    the population gave them. They are observed for `HISTORY` before, and not after.
    """
    schedule = sky.schedule
    owner, rows = _epochs(objects, sky)
    images = schedule.images(rows, objects["rcid"][owner], sky.seed)
    single = (objects["row"][owner] == rows) | (objects["row2"][owner] == rows)
    kept = ~images.lost | single
    owner, rows, single = owner[kept], rows[kept], single[kept]
    depth, zero_point = images.depth[kept], images.zero_point[kept]

    jd, fid = schedule.jd[rows], schedule.fid[rows]
    truth = difference_flux(objects, owner, jd, fid, sky.seed)
    static = static_flux(objects)[owner, fid - 1]
    noise = 10.0 ** (-0.4 * (depth - _ZP)) / 5.0
    sigma = _error(truth, static, noise, zero_point)
    draws = normal(key_of(objects["index"][owner], schedule.serial[rows]), sky.seed, "flux")
    flux = truth + sigma * draws
    snr = objects["snr"][owner][single]
    error = _error(snr * noise[single], static[single], noise[single], zero_point[single])
    flux[single], sigma[single] = snr * error, error
    many = objects["row"][owner] < 0
    detected = single | (many & (np.abs(flux) > THRESHOLD * sigma))
    nid = schedule.nid[rows]
    return ObservedLight(
        owner=owner,
        bounds=np.searchsorted(owner, np.arange(objects.size + 1)),
        serial=schedule.serial[rows],
        jd=jd,
        nid=nid,
        fid=fid,
        programid=schedule.programid[rows],
        field=objects["field"][owner].astype(np.int64) + FIELDS,
        rcid=objects["rcid"][owner].astype(np.int64),
        depth=depth,
        zero_point=zero_point,
        zero_point_unc=images.zero_point_unc[kept],
        seeing=schedule.seeing[rows],
        truth=truth,
        flux=flux,
        sigma=sigma,
        detected=detected,
        alert=detected & (nid >= sky.first_nid) & (nid <= sky.last_nid),
    )


def _epochs(objects: NDArray[np.void], sky: Sky) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the object, and the row of the schedule, of each epoch."""
    schedule = sky.schedule
    first, last = schedule.start[objects["field"]], schedule.start[objects["field"] + 1]
    for i in np.flatnonzero(objects["row"] >= 0):
        row = objects["row"][i]
        begin = schedule.jd[row if objects["row2"][i] < 0 else objects["row2"][i]] - HISTORY - 1.0
        first[i] += np.searchsorted(schedule.jd[first[i] : row], begin)
        last[i] = row + 1
    sizes = last - first
    owner = np.repeat(np.arange(objects.size), sizes)
    rows = np.arange(owner.size) - np.repeat(np.cumsum(sizes) - sizes, sizes) + first[owner]
    return owner, rows


def _error(flux: Floats, static: Floats, noise: Floats, zero_point: Floats) -> Floats:
    """Return the standard deviation of a flux of zero point 25."""
    photons = (np.abs(flux) + static) / (_GAIN * 10.0 ** (0.4 * (zero_point - _ZP)))
    return np.sqrt(noise**2 + photons + (_FLOOR * flux) ** 2 + (_STATIC_FLOOR * static) ** 2)
