"""A simulated archive of Rubin's alerts, in schema 11.0, with known truth.

Realistic: six bands where their curves are installed (else g and r, by the P48 curves), two visits
a night in neighbouring bands, single-visit depths, TAI, forced photometry since the first source,
bodies of the solar system as a large part of the stream, and what happens to sources: some are
withdrawn later, of some the PSF flux fails. Not realistic: fields are points, a field is visited
every third night all year round, stars and galaxies add no noise, bodies of the solar system are
seen once, and most fields of a record are null.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ampel_spark.errors import ConfigError, SetupError
from ampel_spark.settings import sncosmo_data_dir
from ampel_spark.simulate import record
from ampel_spark.simulate.distances import by_volume, distance_modulus
from ampel_spark.simulate.lightcurves import SALT
from ampel_spark.simulate.record import Simulation
from ampel_spark.simulate.rubin_packets import Encoded, RubinSources, write_night

__all__ = ["BANDS", "simulate_rubin"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BANDS = "ugrizy"

# Single-visit 5-sigma depths in dark time [mag], and the pairs of bands that a night has.
_DEPTH = np.array([23.9, 25.0, 24.7, 24.0, 23.3, 22.1])
_PAIRS = ((1, 2), (2, 3), (3, 4), (1, 2), (4, 5), (0, 1))
_ZP, _TAI = 31.4, 37.0 / 86400.0
_FIELDS, _CADENCE = 400, 3
_KINDS = ("snia", "variable", "asteroid", "bogus")
_SHARE = {"snia": 0.3, "variable": 0.25}
# Shares of sources that are withdrawn later, and of those whose PSF flux fails; days until then.
_WITHDRAWN, _FAILED, _AFTER = 0.01, 0.01, 4.0
# Alerts that an object of a kind makes a night of the archive, and at most; they set the numbers.
_PER_NIGHT, _MOST = {"snia": 0.2, "variable": 0.55}, {"snia": 14.0, "variable": 1e9}
_TRUTH = (
    ("name", "string", "", "what the object is called in alerts"),
    ("stock", "int64", "", "its id: diaObjectId, or ssObjectId"),
    ("kind", "string", "", "snia, variable, asteroid or bogus"),
    ("ra", "float64", "deg", "right ascension, ICRS"),
    ("dec", "float64", "deg", "declination, ICRS"),
    ("z", "float64", "", "redshift, heliocentric"),
    ("t0", "float64", "d", "JD of peak in rest-frame B"),
    ("x0", "float64", "", "SALT3 amplitude"),
    ("x1", "float64", "", "SALT3 stretch"),
    ("c", "float64", "", "SALT3 colour"),
    ("mag", "float64", "mag", "mean magnitude of a variable star"),
    ("amplitude", "float64", "mag", "its amplitude in r"),
    ("period", "float64", "d", "its period"),
    ("n_alerts", "int64", "", "alerts in the archive"),
    ("n_withdrawn", "int64", "", "sources that are withdrawn later"),
    ("n_failed", "int64", "", "sources whose PSF flux could not be measured"),
)


@dataclass(frozen=True)
class _Visits:
    """The visits of all fields, in order of time: field, time [JD, UTC], night, band, depth."""

    field: Ints
    jd: Floats
    night: Ints
    band: Ints
    depth: Floats


def simulate_rubin(
    out: Path | str,
    *,
    alerts: int,
    nights: int,
    first_night: str,
    seed: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> Simulation:
    """Simulate an archive of Rubin's alerts with known truth.

    The same parameters make the same bytes, with the same curves installed. If the folder already
    holds the same complete simulation, nothing is written.

    Parameters
    ----------
    out : path
        The folder; it is made if it does not exist.
    alerts : int
        The number of alerts; bodies of the solar system and bogus sources fill up to it.
    nights : int
        The length of the archive.
    first_night : str
        The first night, YYYY-MM-DD; it begins at 12 h UTC.
    seed : int
        The seed of all random numbers, not negative.
    progress : callable, optional
        Called as ``progress(step, done, total)``.

    Returns
    -------
    Simulation
        The folder's files and numbers. ``truth.parquet`` has a row for each object.

    Raises
    ------
    ConfigError
        If a parameter is wrong, or `out` holds other files.
    SetupError
        If SALT3 or the bands cannot be loaded.
    """
    for name, value, least in (("alerts", alerts, 1), ("nights", nights, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or value < least:
            raise ConfigError(f"{name} is {value!r}; it must be a whole number from {least} on")
    try:
        first = datetime.date.fromisoformat(first_night).toordinal()
    except (TypeError, ValueError):
        raise ConfigError(f"first night {first_night!r} is no date: write YYYY-MM-DD") from None
    parameters = {
        "survey": "lsst",
        "format": 1,
        "alerts": alerts,
        "nights": nights,
        "first_night": first_night,
        "seed": seed,
        "bands": " ".join(word for word in _curves() if word),
        "model": " ".join(SALT),
    }
    out = Path(out).resolve()
    there = record.existing(out, parameters)
    if there is not None:
        return there
    with record.claimed(out):
        return _make(out, parameters, first, progress)


def _make(
    out: Path,
    parameters: dict[str, Any],
    first: int,
    progress: Callable[[str, int, int], None] | None,
) -> Simulation:
    record.clear(out)
    random = np.random.default_rng(np.random.SeedSequence([parameters["seed"], 901]))
    visits = _visits(random, first, parameters["nights"])
    objects = _objects(random, visits, parameters["alerts"], parameters["nights"])
    parts = []
    for number, item in enumerate(objects):
        parts.append(_observed(random, visits, item, number))
        if progress is not None:
            progress("objects", number + 1, len(objects))
    missing = parameters["alerts"] - sum(int(part.detected.sum()) for part in parts)
    while missing < 0:
        missing += int(parts.pop().detected.sum())
    objects = objects[: len(parts)]
    for number in range(len(parts), len(parts) + missing):
        kind = "asteroid" if random.random() < 0.8 else "bogus"
        row = int(random.integers(visits.jd.size))
        item = _blank(random, kind, int(visits.field[row])) | {"row": row}
        objects.append(item)
        parts.append(_observed(random, visits, item, number))
    sources = RubinSources.of(parts)
    encoded = Encoded.of(sources)
    files: dict[str, Any] = {}
    there = np.unique(visits.night[sources.visit[sources.detected]]).tolist()
    for done, night in enumerate(there):
        name = datetime.date.fromordinal(night).strftime("%Y%m%d")
        path = out / record.archive_name(name, "lsst")
        rows = write_night(path, encoded, np.flatnonzero(visits.night[sources.visit] == night))
        files[path.name] = record.of_file(path, rows)
        if progress is not None:
            progress("nights", done + 1, len(there))
    truth = _truth(objects, parts)
    pq.write_table(truth, out / record.TABLES[0], compression="zstd")
    files[record.TABLES[0]] = record.of_file(out / record.TABLES[0], truth.num_rows)
    kinds = {kind: sum(item["kind"] == kind for item in objects) for kind in _KINDS}
    return record.finish(out, parameters, parameters["alerts"], kinds, files)


def _visits(random: np.random.Generator, first: int, nights: int) -> _Visits:
    """Return two visits a night of a third of the fields, in two neighbouring bands."""
    phase = random.integers(0, _CADENCE, _FIELDS)
    columns: list[tuple[Any, ...]] = []
    for night in range(first, first + nights):
        if random.random() < 0.2 and nights > 2 * _CADENCE:
            continue  # clouds
        pair = _PAIRS[night % len(_PAIRS)]
        mine = np.flatnonzero(phase == night % _CADENCE)
        # 23 h UTC to 9 h UTC of the next day
        start = night + 1721424.5 + 0.98 + 0.35 * random.random(mine.size)
        loss = random.exponential(0.1)
        for band, jd in ((pair[0], start), (pair[1], start + 0.022)):
            depth = _DEPTH[band] - loss + 0.1 * random.standard_normal(mine.size)
            columns.append((mine, np.round(jd, 7), np.full(mine.size, night),
                            np.full(mine.size, band), depth))  # fmt: skip
    if not columns:
        raise ConfigError("the simulated weather left no night open: take more nights")
    field, jd, night_of, bands, depths = (np.concatenate(c) for c in zip(*columns, strict=True))
    order = np.lexsort((field, jd))
    return _Visits(field[order], jd[order], night_of[order], bands[order], depths[order])


def _objects(
    random: np.random.Generator, visits: _Visits, alerts: int, nights: int
) -> list[dict[str, Any]]:
    """Return the objects with light curves, as many as make about their share of alerts."""
    found: list[dict[str, Any]] = []
    begin, end = float(visits.jd.min()), float(visits.jd.max())
    for kind, share in _SHARE.items():
        each = min(_PER_NIGHT[kind] * nights, _MOST[kind])
        count = max(round(alerts * share / each), 1)
        items = [_blank(random, kind, int(random.integers(_FIELDS))) for _ in range(count)]
        if kind == "snia":
            z = by_volume(0.05, 0.35, random.random(count))
            x1, c = np.clip(random.normal(0, 1, count), -3, 3), random.normal(0, 0.08, count)
            t0 = random.uniform(begin - 15.0, max(end - 5.0, begin), count)
            peak = -19.36 - 0.14 * x1 + 3.1 * c + random.normal(0.0, 0.1, count)
            x0 = 10.0 ** (-0.4 * (peak + distance_modulus(z) - 10.5))
            columns = {"z": z, "t0": t0, "x0": x0, "x1": x1, "c": c}
        else:
            columns = {
                "mag": random.uniform(17.0, 22.0, count),
                "amplitude": random.uniform(0.2, 0.8, count),
                "period": 10.0 ** random.uniform(-0.4, 2.0, count),
            }
        for i, item in enumerate(items):
            found.append(item | {name: float(values[i]) for name, values in columns.items()})
    return found


def _blank(random: np.random.Generator, kind: str, field: int) -> dict[str, Any]:
    empty = dict.fromkeys(("z", "t0", "x0", "x1", "c", "mag", "amplitude", "period"))
    dec = float(np.degrees(np.arcsin(random.uniform(-0.95, 0.05))))
    return {"kind": kind, "field": field, "ra": 360.0 * random.random(), "dec": dec, **empty}


def _observed(
    random: np.random.Generator, visits: _Visits, item: dict[str, Any], number: int
) -> RubinSources:
    """Return what the survey measures of an object in all visits of its field, in order of time."""
    if "row" in item:
        rows = np.array([item["row"]])
    else:
        rows = np.flatnonzero(visits.field == item["field"])
        rows = rows[np.isin(visits.band[rows], _known(item["kind"]))]
    noise = 10.0 ** (-0.4 * (visits.depth[rows] - _ZP)) / 5.0
    if "row" in item:
        sign = -1.0 if item["kind"] == "bogus" and random.random() < 0.5 else 1.0
        flux = sign * noise * (5.0 + random.exponential(8.0, rows.size))
    else:
        flux = _true_flux(item, visits.jd[rows], visits.band[rows])
        noise = np.hypot(noise, 0.005 * flux)
        flux = flux + noise * random.standard_normal(rows.size)
    detected = np.abs(flux) > 5.0 * noise
    failed = detected & (random.random(rows.size) < _FAILED)
    withdrawn = detected & ~failed & (random.random(rows.size) < _WITHDRAWN)
    if "row" in item:
        withdrawn[:] = False  # no later alert would show it
    n = rows.size
    real = 0.1 + 0.3 * random.random(n) if item["kind"] == "bogus" else 1 - 0.4 * random.random(n)
    return RubinSources(
        owner=np.full(n, number),
        is_body=np.full(n, item["kind"] == "asteroid"),
        visit=rows,
        mjd=visits.jd[rows] - 2400000.5 + _TAI,
        band=visits.band[rows],
        detector=random.integers(0, 189, n),
        ra=(item["ra"] + random.normal(0.0, 3e-5, n)) % 360.0,
        dec=item["dec"] + random.normal(0.0, 3e-5, n),
        flux=flux,
        error=noise,
        reliability=real,
        detected=detected,
        failed=failed,
        gone_mjd=np.where(withdrawn, visits.jd[rows] - 2400000.5 + _AFTER, np.nan),
    )


def _known(kind: str) -> list[int]:
    """Return the bands in which a kind of object is simulated."""
    return [band for band, word in enumerate(_curves()) if word or kind != "snia"]


def _true_flux(item: dict[str, Any], jd: Floats, band: Ints) -> Floats:
    """Return fluxes in a perfect difference image [nJy]."""
    if item["kind"] == "variable":
        scale = np.array([1.2, 1.1, 1.0, 0.9, 0.8, 0.7])[band]
        wave = np.sin(2.0 * np.pi * (jd / item["period"] + item["ra"]))
        size = 10.0 ** (-0.4 * (item["mag"] - _ZP))
        return np.asarray(size * (10.0 ** (-0.2 * item["amplitude"] * scale * wave) - 1.0))
    model = _model()
    model.set(**{name: item[name] for name in ("z", "t0", "x0", "x1", "c")})
    flux = np.zeros(jd.size)
    seen = (jd > model.mintime()) & (jd < model.maxtime())
    if seen.any():
        words = np.array(_curves())[band[seen]]
        flux[seen] = model.bandflux(words, jd[seen], _ZP, "ab")
    return flux


@functools.cache
def _curves() -> tuple[str, ...]:
    """Return sncosmo's names of the six bands; empty for those whose curves are not installed."""
    import sncosmo

    _model()
    ztf = {"g": "ztfg", "r": "ztfr"}
    with _data(sncosmo):
        try:
            for letter in BANDS:
                sncosmo.get_bandpass(f"lsst{letter}")
        except Exception:  # sncosmo does not catch the errors of its download
            for word in ztf.values():
                sncosmo.get_bandpass(word)
            return tuple(ztf.get(letter, "") for letter in BANDS)
    return tuple(f"lsst{letter}" for letter in BANDS)


@functools.cache
def _model() -> Any:
    import sncosmo

    try:
        with _data(sncosmo):
            return sncosmo.Model(sncosmo.get_source(SALT[0], version=SALT[1]))
    except Exception as error:  # sncosmo does not catch the errors of its download
        raise SetupError(
            f"the model {SALT[0]} {SALT[1]} cannot be loaded ({error}): set SNCOSMO_DATA_DIR to a"
            " folder in sncosmo's cache layout that holds it"
        ) from error


def _data(sncosmo: Any) -> Any:
    folder = sncosmo.conf.data_dir
    if folder is None and sncosmo_data_dir().is_dir():
        folder = str(sncosmo_data_dir())
    return sncosmo.conf.set_temp("data_dir", folder)


def _truth(objects: list[dict[str, Any]], parts: list[RubinSources]) -> pa.Table:
    """Return the true values of all objects that were in an image."""
    rows = [
        item
        | {
            "stock": int(part.stock[0]),
            "name": part.take(np.zeros(1, np.int64)).names()[0],
            "n_alerts": int(part.detected.sum()),
            "n_withdrawn": int(np.isfinite(part.gone_mjd).sum()),
            "n_failed": int(part.failed.sum()),
        }
        for item, part in zip(objects, parts, strict=True)
        if part.owner.size
    ]
    schema = pa.schema(
        [
            pa.field(name, getattr(pa, kind)(), metadata={"unit": unit, "comment": comment})
            for name, kind, unit, comment in _TRUTH
        ]
    )
    return pa.Table.from_pylist(rows, schema)
