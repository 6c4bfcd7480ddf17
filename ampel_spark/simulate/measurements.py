"""The columns of detections, upper limits and forced photometry in packets.

Fluxes, magnitudes, limits, times and positions follow from the simulation. Shapes, scores and image
statistics are drawn from the ranges of the real archive. Fields that matter to filters depend on
the kind of object: bogus has low scores and odd shapes, asteroids have a minor planet nearby, most
stars and nuclei have a long record. Not realistic: apart from that, shapes and scores are
independent of each other, and scores do not depend on the cutouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampel_spark.simulate.names import candids, image_stem, pids
from ampel_spark.simulate.neighbours import ABSENT
from ampel_spark.simulate.noise import exponential, key_of, normal, uniform
from ampel_spark.simulate.objects import KINDS
from ampel_spark.simulate.photometry import ObservedLight
from ampel_spark.simulate.survey import night_name

__all__ = ["detections", "forced", "history", "limits"]

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Columns = dict[str, Any]

_SENTINEL = -99999.0
_INVESTIGATORS = {1: "Kulkarni", 2: "Kasliwal/Graham", 3: "Prince"}
# Significance that counts in ndethist and jdstarthist.
_RAW_THRESHOLD = 4.0
_EDGE = (3072.0, 3080.0)
_LN = 2.5 / np.log(10.0)


def _images(phot: ObservedLight, rows: Index, seed: int) -> Columns:
    """Return the fields about an image that candidates, limits and forced rows share."""
    key = key_of(phot.serial[rows], phot.rcid[rows])
    green = phot.fid[rows] == 1
    return {
        "jd": phot.jd[rows],
        "fid": phot.fid[rows],
        "pid": pids(phot.jd[rows], phot.rcid[rows]),
        "programid": phot.programid[rows],
        "rcid": phot.rcid[rows],
        "field": phot.field[rows],
        "diffmaglim": phot.depth[rows],
        "magzpsci": phot.zero_point[rows],
        "magzpsciunc": phot.zero_point_unc[rows],
        "magzpscirms": 0.02 + 0.014 * exponential(key, seed, "zp rms"),
        "clrcoeff": np.where(green, -0.057, 0.092) + 0.012 * normal(key, seed, "clrcoeff"),
        "clrcounc": 1.6 * phot.zero_point_unc[rows],
    }


def _exposures(phot: ObservedLight, rows: Index, images: Columns, *, archived: bool) -> Columns:
    """Return file names, programme and night of images, as in candidates and limits."""
    parts = zip(
        phot.nid[rows].tolist(),
        images["pid"].tolist(),
        images["field"].tolist(),
        images["fid"].tolist(),
        images["rcid"].tolist(),
        strict=True,
    )
    nights = {nid: night_name(nid) for nid in np.unique(phot.nid[rows]).tolist()}
    names = []
    for nid, pid, field, fid, rcid in parts:
        night = nights[nid]
        name = f"{image_stem(night, pid, field, fid, rcid)}_scimrefdiffimg.fits"
        if archived:
            name = (
                f"/ztf/archive/sci/{night[:4]}/{night[4:]}/{pid // 10_000 % 100_000:05d}0/{name}.fz"
            )
        names.append(name)
    return {
        "pdiffimfilename": names,
        "programpi": [_INVESTIGATORS[program] for program in images["programid"].tolist()],
        "nid": phot.nid[rows],
        "rbversion": "t17_f5_c3",
    }


def limits(phot: ObservedLight, rows: Index, seed: int) -> Columns:
    """Return the columns of upper limits in a history; all other fields are null."""
    images = _images(phot, rows, seed)
    return images | _exposures(phot, rows, images, archived=True)


def forced(
    objects: NDArray[np.void], phot: ObservedLight, rows: Index, near: Mapping[str, Any], seed: int
) -> Columns:
    """Return the columns of forced photometry: fluxes in DN, 5 % of them unusable."""
    images = _images(phot, rows, seed)
    owner = phot.owner[rows]
    key = key_of(objects["index"][owner], phot.serial[rows])
    status = uniform(key, seed, "procstatus")
    unusable = status < 0.05
    scale = 10.0 ** (0.4 * (phot.zero_point[rows] - 25.0))

    def usable(value: Floats) -> Floats:
        return np.where(unusable, _SENTINEL, value)

    sky = 200.0 * np.exp(0.5 * normal(key_of(phot.serial[rows]), seed, "background"))
    return images | {
        "rfid": _rfid(images),
        "sciinpseeing": phot.seeing[rows] / 1.012,
        "scibckgnd": sky,
        "scisigpix": 0.7 * np.sqrt(sky),
        "exptime": 30.0,
        "adpctdif1": 0.085 + 0.015 * normal(key, seed, "adpctdif1"),
        "adpctdif2": 0.085 + 0.015 * normal(key, seed, "adpctdif2"),
        "forcediffimflux": usable(phot.flux[rows] * scale),
        "forcediffimfluxunc": usable(phot.sigma[rows] * scale),
        "procstatus": np.where(unusable, "61", np.where(status < 0.09, "56", "0")).tolist(),
        **{
            name: usable(near[name][owner])
            for name in ("distnr", "ranr", "decnr", "magnr", "sigmagnr", "chinr", "sharpnr")
        },
    }


def detections(
    objects: NDArray[np.void], phot: ObservedLight, rows: Index, near: Mapping[str, Any], seed: int
) -> Columns:
    """Return the columns of ``candidate`` for detections, given by rows of the photometry."""
    images = _images(phot, rows, seed)
    owner = phot.owner[rows]
    key = key_of(objects["index"][owner], phot.serial[rows])
    bogus = objects["kind"][owner] == KINDS.index("bogus")

    def gauss(site: str) -> Floats:
        return normal(key, seed, site)

    def flat(site: str) -> Floats:
        return uniform(key, seed, site)

    flux, sigma = phot.flux[rows], phot.sigma[rows]
    snr = np.abs(flux) / sigma
    magpsf = 25.0 - 2.5 * np.log10(np.abs(flux))
    magdiff = np.clip(0.02 + (0.05 + 0.7 / snr) * gauss("magdiff"), -0.95, 0.95)
    magap, magapbig = magpsf + magdiff, magpsf + magdiff + 0.4 / snr * gauss("magapbig")
    seeing = phot.seeing[rows] / 1.012
    odd = np.where(bogus, flat("odd"), 1.0)
    fwhm = seeing * np.exp(0.18 * gauss("fwhm"))
    fwhm = np.where(odd < 0.2, np.where(odd < 0.1, 1.05, 7.0) * np.exp(0.1 * gauss("fwhm")), fwhm)
    aimage = 0.76 * np.exp(0.16 * gauss("aimage"))
    elong = (
        1.0 + 0.06 * exponential(key, seed, "elong a") + 0.06 * exponential(key, seed, "elong b")
    )
    elong = np.where((odd >= 0.15) & (odd < 0.45), elong + 0.4 + 0.4 * flat("elong c"), elong)
    bimage = aimage / elong
    nbad = np.where((odd >= 0.4) & (odd < 0.65), 1 + np.floor(5 * flat("nbad")), 0)
    rb, drb = _scores(bogus, snr, key, seed)
    x, y = _pixels(objects, phot, rows, owner, seed)
    scatter = (0.05 + seeing / (2.3 * snr)) / 3600.0
    dec = objects["dec"][owner] + scatter * gauss("dec")
    ra = objects["ra"][owner] + scatter * gauss("ra") / np.cos(np.radians(objects["dec"][owner]))
    ssnrms = 1.6 * snr * np.exp(0.25 * gauss("ssnrms"))
    dsnrms = ssnrms * np.clip(0.62 + 0.08 * gauss("dsnrms"), 0.1, None)
    image = key_of(phot.serial[rows], phot.rcid[rows])
    clear = 400.0 + 1500.0 * uniform(key_of(phot.field[rows]), seed, "nmatches")
    chance = uniform(key_of(phot.field[rows], phot.rcid[rows]), seed, "reference")
    return {
        **images,
        **_exposures(phot, rows, images, archived=False),
        **_minor_planets(objects, owner, key, seed),
        **_record(objects, phot, rows, seed),
        **{name: column[owner] for name, column in near.items()},
        "candid": candids(images["pid"], objects["tblid"][owner].astype(np.int64)),
        "isdiffpos": np.where(flux > 0.0, "t", "f").tolist(),
        "tblid": objects["tblid"][owner].astype(np.int64),
        "xpos": x,
        "ypos": y,
        "ra": np.round(ra % 360.0, 7),
        "dec": np.round(dec, 7),
        "magpsf": magpsf,
        "sigmapsf": _LN * sigma / np.abs(flux),
        "chipsf": 0.8 + 0.8 * exponential(key, seed, "chipsf") * np.maximum(snr / 10.0, 1.0) ** 1.2,
        "magap": magap,
        "sigmagap": 1.25 * _LN / snr * np.exp(0.15 * gauss("sigmagap")),
        "magapbig": magapbig,
        "sigmagapbig": 1.6 * _LN / snr * np.exp(0.15 * gauss("sigmagapbig")),
        "magdiff": magdiff,
        "magfromlim": phot.depth[rows] - magap,
        "sky": 0.06 + 0.4 * gauss("sky"),
        "fwhm": fwhm,
        "classtar": np.clip(1.0 - 0.035 * exponential(key, seed, "classtar"), 0.3, 1.0),
        "mindtoedge": np.minimum(np.minimum(x, _EDGE[0] - x), np.minimum(y, _EDGE[1] - y)),
        "seeratio": np.clip(1.12 * np.exp(0.2 * gauss("seeratio")), 0.2, 2.0),
        "aimage": aimage,
        "bimage": bimage,
        "aimagerat": aimage / fwhm,
        "bimagerat": bimage / fwhm,
        "elong": elong,
        "nneg": np.floor(np.clip(3.0 + 2.2 * gauss("nneg") + 3.0 * bogus, 0.0, 13.0)).astype(int),
        "nbad": nbad.astype(int),
        "rb": rb,
        "drb": drb,
        "drbversion": "d6_m7",
        "sumrat": np.clip(1.0 - 0.3 * flat("sumrat") * (5.0 / snr), 0.4, 1.0),
        "scorr": np.where(bogus, 1.2, 0.95) * snr * np.exp(0.08 * gauss("scorr")),
        "dsnrms": dsnrms,
        "ssnrms": ssnrms,
        "dsdiff": dsnrms - ssnrms,
        "tooflag": 0,
        "exptime": 30.0,
        "rfid": _rfid(images),
        "jdstartref": np.round(2458160.0 + 100.0 * chance, 6),
        "jdendref": np.round(2458270.0 + 160.0 * chance, 6),
        "nframesref": (15 + np.floor(20 * np.maximum(chance - 0.6, 0.0))).astype(int),
        "nmatches": np.round(clear * (0.9 + 0.2 * uniform(image, seed, "nmatches"))).astype(int),
        "zpclrcov": -1.6 * phot.zero_point_unc[rows],
        "zpmed": np.round(phot.zero_point[rows] + 0.03 + 0.03 * normal(image, seed, "zpmed"), 3),
        "clrmed": np.round(0.63 * np.exp(0.15 * normal(image, seed, "clrmed")), 3),
        "clrrms": np.clip(0.25 + 0.05 * normal(image, seed, "clrrms"), 0.1, None),
    }


def history(columns: Columns, phot: ObservedLight, rows: Index) -> Columns:
    """Return the columns of detections in the histories of later packets.

    The survey keeps fewer digits there: a detection differs by up to 5e-5 mag between its own
    packet and a later one. Its file has the archive's path.
    """
    names = _exposures(phot, rows, columns, archived=True)["pdiffimfilename"]
    dropped = {"pdiffimfilename", "ssdistnr", "ssmagnr", "ssnamenr"}
    kept = {name: column for name, column in columns.items() if name not in dropped}
    shorter = {name: np.round(columns[name], 4) for name in ("magpsf", "magap", "magapbig")}
    shorter["sigmapsf"] = np.round(columns["sigmapsf"], 6)
    return kept | shorter | {"pdiffimfilename": names}


def _rfid(images: Columns) -> NDArray[np.int64]:
    fid, rcid = images["fid"], images["rcid"]
    return np.asarray(images["field"] * 1_000_000 + 120_000 + fid * 100 + rcid)


def _scores(
    bogus: NDArray[np.bool_], snr: Floats, key: NDArray[np.int64], seed: int
) -> tuple[Floats, Floats]:
    """Return rb and drb: high for real sources (rarely low for faint ones), low for bogus."""
    first, second = uniform(key, seed, "rb"), uniform(key, seed, "drb")
    faint = np.clip(10.0 / snr, 0.2, 2.0)
    rb = 0.97 - 0.3 * faint * (1.0 - first) ** 1.5
    drb = 1.0 - 10.0 ** (-1.4 - 5.4 * second)
    missed = uniform(key, seed, "missed") < 0.015 * faint
    drb = np.where(missed, second, drb)
    rb = np.where(bogus, 0.18 + 0.5 * first**0.8, rb)
    drb = np.where(bogus, 10.0 ** (-3.0 * second) * 0.6, drb)
    return np.clip(rb, 0.0, 1.0), np.clip(drb, 0.0, 1.0)


def _pixels(
    objects: NDArray[np.void], phot: ObservedLight, rows: Index, owner: Index, seed: int
) -> tuple[Floats, Floats]:
    """Return positions on the detector; pointings differ by some pixels."""
    exposure = key_of(phot.serial[rows])
    x = objects["x"][owner] + 15.0 * normal(exposure, seed, "pointing x")
    y = objects["y"][owner] + 15.0 * normal(exposure, seed, "pointing y")
    return np.clip(x, 11.0, _EDGE[0] - 11.0), np.clip(y, 11.0, _EDGE[1] - 11.0)


def _minor_planets(
    objects: NDArray[np.void], owner: Index, key: NDArray[np.int64], seed: int
) -> Columns:
    """Return ssdistnr, ssmagnr, ssnamenr: known are 90 % of asteroids, near 0.2 % of the rest."""
    asteroid = objects["kind"][owner] == KINDS.index("asteroid")
    chance = uniform(key, seed, "minor planet")
    near = np.where(asteroid, chance < 0.9, chance < 0.002)
    distance = np.where(asteroid, np.floor(3.0 * chance**6), 5.0 + np.floor(10_000 * chance))
    magnitude = 19.4 + 0.8 * normal(key, seed, "minor planet magnitude")
    number = 1_000 + (250_000 * uniform(key, seed, "minor planet name")).astype(np.int64)
    return {
        "ssdistnr": np.where(near, distance, ABSENT),
        "ssmagnr": np.where(near, np.round(magnitude, 1), ABSENT),
        "ssnamenr": np.where(near, number.astype(str), "null").tolist(),
    }


def _record(objects: NDArray[np.void], phot: ObservedLight, rows: Index, seed: int) -> Columns:
    """Return ndethist, ncovhist, jdstarthist, jdendhist.

    The record of an old object begins in 2018, that of a new one at its first epoch of raw
    significance.
    """
    owner = phot.owner[rows]
    key = key_of(objects["index"])
    raw = np.abs(phot.flux) > _RAW_THRESHOLD * phot.sigma
    raw &= phot.detected | (objects["row"][phot.owner] < 0)
    before = np.append(0, np.cumsum(raw))
    so_far = before[rows + 1] - before[phot.bounds[owner]]
    epochs = np.arange(phot.jd.size)
    first_raw = np.minimum.reduceat(
        np.append(np.where(raw, epochs, phot.jd.size), phot.jd.size),
        np.minimum(phot.bounds[:-1], phot.jd.size),
    )
    start = np.append(phot.jd, np.inf)[first_raw][owner]
    covered = np.round(300.0 + 1200.0 * uniform(key_of(objects["field"]), seed, "ncovhist"))
    chance = uniform(key, seed, "ndethist")
    bogus = objects["kind"] == KINDS.index("bogus")
    known = np.where(bogus, 1.0 + np.floor(4.0 * chance), np.floor(covered * 0.6 * chance))
    known = np.where(objects["old"], known, 0.0)
    early = 2458200.0 + 150.0 * uniform(key, seed, "jdstarthist")
    old = objects["old"][owner]
    return {
        "ndethist": (known[owner] + so_far).astype(int),
        "ncovhist": (covered[owner] + rows - phot.bounds[owner] + 1).astype(int),
        "jdstarthist": np.where(old, np.round(np.minimum(early[owner], start), 7), start),
        "jdendhist": phot.jd[rows],
    }
