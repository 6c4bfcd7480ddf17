"""The tables beside the archive: true values, and catalogues of galaxies and stars.

Every column has its unit and meaning in the Arrow field's metadata (``unit``, ``comment``).
``hosts`` is a catalogue of galaxies with redshifts: most hosts, and several times as many other
galaxies, some of them close to an object. ``stars`` has the columns of Gaia DR2 in catsHTM, with
positions in degrees: the variable stars, the nearest star of each object, and random stars.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ampel_spark.simulate.distances import by_volume, distance_modulus
from ampel_spark.simulate.lightcurves import DUST_LAW, R_V
from ampel_spark.simulate.neighbours import separation
from ampel_spark.simulate.objects import KINDS, SUBTYPES, Objects, Sky

__all__ = ["hosts_table", "stars_table", "truth_table"]

Floats = NDArray[np.float64]

# Column, type, unit, meaning.
_TRUTH = (
    ("name", "string", "", "ZTF name"),
    ("stock", "int64", "", "AMPEL's id of the object"),
    ("kind", "string", "", "snia, cc, agn, variable, asteroid or bogus"),
    ("subtype", "string", "", "kind of light curve; null where there is but one"),
    ("ra", "float64", "deg", "right ascension, ICRS"),
    ("dec", "float64", "deg", "declination, ICRS"),
    ("z", "float64", "", "redshift, heliocentric"),
    ("t0", "float64", "d", "JD: of peak in rest-frame B (snia), of explosion (cc)"),
    ("x0", "float64", "", "SALT3 amplitude"),
    ("x1", "float64", "", "SALT3 stretch"),
    ("c", "float64", "", "SALT3 colour"),
    ("abs_mag", "float64", "mag", "absolute magnitude at peak: B (snia), r (cc)"),
    ("mwebv", "float64", "mag", "Milky-Way E(B-V), on the scale of the map used"),
    ("mw_law", "string", "", "extinction law of the Milky Way's dust, observer frame"),
    ("mw_r_v", "float64", "", "its R_V"),
    ("peak_mag_g", "float64", "mag", "apparent peak magnitude in g, dust included"),
    ("peak_mag_r", "float64", "mag", "apparent peak magnitude in r, dust included"),
    ("mag_g", "float64", "mag", "mean magnitude in g of star or nucleus"),
    ("mag_r", "float64", "mag", "mean magnitude in r of star or nucleus"),
    ("amplitude", "float64", "mag", "amplitude in g of star or nucleus"),
    ("period", "float64", "d", "period, or time scale of decline or random walk"),
    ("host_id", "int64", "", "galaxy in hosts; null where the catalogue lacks it"),
    ("host_ra", "float64", "deg", "right ascension of the host, catalogued or not"),
    ("host_dec", "float64", "deg", "declination of the host, catalogued or not"),
    ("host_sep", "float64", "arcsec", "distance from the host's centre"),
    ("star_id", "int64", "", "the object itself in stars; null for what is no star of Gaia"),
    ("forced", "bool", "", "whether its packets carry forced photometry"),
    ("field", "int32", "", "ZTF field"),
    ("rcid", "int32", "", "readout channel"),
    ("n_epochs", "int32", "", "images of the object in archive nights and 30 nights before"),
    ("n_detections", "int32", "", "detections among them"),
    ("n_alerts", "int32", "", "alerts in the archive"),
    ("jd_first_detection", "float64", "d", "JD of the first detection"),
    ("jd_last_detection", "float64", "d", "JD of the last detection"),
    ("jd_first_alert", "float64", "d", "JD of the first alert in the archive"),
    ("jd_last_alert", "float64", "d", "JD of the last alert in the archive"),
)
_HOSTS = (
    ("host_id", "int64", "", "number of the galaxy"),
    ("ra", "float64", "deg", "right ascension, ICRS"),
    ("dec", "float64", "deg", "declination, ICRS"),
    ("z", "float64", "", "redshift, heliocentric, as measured by a spectrograph"),
    ("z_err", "float64", "", "its standard error"),
    ("mag_g", "float64", "mag", "magnitude in g"),
    ("mag_r", "float64", "mag", "magnitude in r"),
)
_STARS = (
    ("star_id", "int64", "", "number of the star"),
    ("ra", "float64", "deg", "right ascension, ICRS"),
    ("dec", "float64", "deg", "declination, ICRS"),
    ("Mag_G", "float64", "mag", "magnitude in Gaia's G"),
    ("PMRA", "float64", "mas/yr", "proper motion in right ascension times cos(dec)"),
    ("ErrPMRA", "float64", "mas/yr", "its standard error"),
    ("PMDec", "float64", "mas/yr", "proper motion in declination"),
    ("ErrPMDec", "float64", "mas/yr", "its standard error"),
    ("Plx", "float64", "mas", "parallax"),
    ("ErrPlx", "float64", "mas", "its standard error"),
    ("ExcessNoiseSig", "float64", "", "significance of the astrometric excess noise"),
)
# The number of galaxies without an object, per host: anywhere, and 5 to 30 arcsec from an object.
_FIELD_GALAXIES, _NEAR_GALAXIES = 5, 0.12
_MINIMUM = 1_000


def hosts_table(objects: Objects, sky: Sky) -> tuple[pa.Table, NDArray[np.int64]]:
    """Return the catalogue of galaxies, and the id of each object's host in it (0 for none)."""
    random = np.random.default_rng(np.random.SeedSequence([sky.seed, 401]))
    hosting = np.flatnonzero(objects["galaxy"] & objects["listed"])
    hosts = objects[hosting]
    beside = hosts[random.random(hosts.size) < _NEAR_GALAXIES]
    near_ra, near_dec = _at(
        beside["ra"],
        beside["dec"],
        random.uniform(5.0, 30.0, beside.size),
        2.0 * np.pi * random.random(beside.size),
    )
    count = max(_FIELD_GALAXIES * hosts.size, _MINIMUM)
    any_ra, any_dec = _anywhere(count, random)
    others_z = by_volume(0.01, 0.3, random.random(beside.size + count))
    others_r = distance_modulus(others_z) - 20.9 + random.standard_normal(others_z.size)
    ra = np.concatenate([hosts["host_ra"], near_ra, any_ra])
    dec = np.concatenate([hosts["host_dec"], near_dec, any_dec])
    z_err = 10.0 ** random.uniform(-4.3, -3.2, ra.size)
    z = np.concatenate([hosts["z"], others_z]) + z_err * random.standard_normal(ra.size)
    red = np.clip(np.concatenate([hosts["host_mag"], others_r]), 11.0, 22.0)
    # Ids are in order of position, so that they do not show which galaxies are hosts.
    order = np.lexsort((ra, dec))
    ids = np.empty(ra.size, np.int64)
    ids[order] = np.arange(ra.size) + 1
    of_objects = np.zeros(objects.size, np.int64)
    of_objects[hosting] = ids[: hosting.size]
    colour = 0.45 + 0.25 * random.random(ra.size) + 1.5 * z
    columns = {
        "host_id": ids,
        "ra": ra,
        "dec": dec,
        "z": z,
        "z_err": z_err,
        "mag_g": red + colour,
        "mag_r": red,
    }
    return _table(_HOSTS, {name: column[order] for name, column in columns.items()}), of_objects


def stars_table(objects: Objects, sky: Sky) -> tuple[pa.Table, NDArray[np.int64]]:
    """Return the catalogue of stars, and the id of each object itself in it (0 for none)."""
    random = np.random.default_rng(np.random.SeedSequence([sky.seed, 402]))
    near = np.flatnonzero(np.isfinite(objects["gaia_dist"]))
    bright = np.flatnonzero(np.isfinite(objects["bright_dist"]))
    parts = [
        (*_beside(objects[near], "gaia"), objects["gaia_mag"][near]),
        (*_beside(objects[bright], "bright"), objects["bright_mag"][bright]),
    ]
    count = max(2 * objects.size, _MINIMUM)
    parts.append((*_anywhere(count, random), np.clip(20.9 - random.exponential(2.6, count), 6, 21)))
    ra, dec, magnitude = (np.concatenate(column) for column in zip(*parts, strict=True))
    # Gaia lists nuclei of galaxies as stars, but they do not move.
    still = np.zeros(ra.size, bool)
    still[: near.size] = objects["gaia_self"][near] & objects["galaxy"][near]
    parallax = np.where(still, 0.0, 0.6 * np.exp(0.9 * random.standard_normal(ra.size)))
    error = np.clip(0.05 * 10.0 ** (0.22 * (magnitude - 15.0)), 0.03, 2.0)
    motion = 7.0 * parallax * random.standard_normal((2, ra.size))
    noise = random.standard_normal((3, ra.size))
    excess = np.where(random.random(ra.size) < 0.7, 0.0, random.exponential(3.0, ra.size))
    order = np.lexsort((ra, dec))
    ids = np.empty(ra.size, np.int64)
    ids[order] = np.arange(ra.size) + 1
    of_objects = np.zeros(objects.size, np.int64)
    of_objects[near] = np.where(objects["gaia_self"][near], ids[: near.size], 0)
    columns = {
        "star_id": ids,
        "ra": ra,
        "dec": dec,
        "Mag_G": magnitude,
        "PMRA": motion[0] + 2.0 * error * noise[0],
        "ErrPMRA": 2.0 * error,
        "PMDec": motion[1] + 2.0 * error * noise[1],
        "ErrPMDec": 2.0 * error,
        "Plx": parallax + error * noise[2],
        "ErrPlx": error,
        "ExcessNoiseSig": np.where(still, excess + 5.0, excess),
    }
    return _table(_STARS, {name: column[order] for name, column in columns.items()}), of_objects


def truth_table(
    objects: Objects,
    outcomes: NDArray[np.void],
    host_ids: NDArray[np.int64],
    star_ids: NDArray[np.int64],
    first_field: int,
) -> pa.Table:
    """Return the table of true values, one row for each object; NaN is null."""
    kinds, subtypes = np.array(KINDS), np.array(SUBTYPES)
    galaxy, extragalactic = objects["galaxy"], np.isin(objects["kind"], [0, 1])
    several = objects["subtype"] > 0
    columns: dict[str, Any] = {
        name: objects[name] for name, *_ in _TRUTH if name in (objects.dtype.names or ())
    }
    columns |= {name: outcomes[name] for name in outcomes.dtype.names or ()}
    columns |= {
        "kind": kinds[objects["kind"]],
        "subtype": pa.array(subtypes[objects["subtype"]], mask=~several),
        "mwebv": objects["ebv"],
        "mw_law": pa.array([DUST_LAW] * objects.size, mask=~extragalactic),
        "mw_r_v": np.where(extragalactic, R_V, np.nan),
        "host_id": pa.array(host_ids, mask=host_ids == 0),
        "host_sep": np.where(galaxy, separation(objects), np.nan),
        "star_id": pa.array(star_ids, mask=star_ids == 0),
        "field": objects["field"] + first_field,
    }
    return _table(_TRUTH, columns)


def _table(spec: tuple[tuple[str, str, str, str], ...], columns: dict[str, Any]) -> pa.Table:
    fields, arrays = [], []
    for name, type_, unit, comment in spec:
        kind = pa.type_for_alias(type_)
        fields.append(pa.field(name, kind, metadata={"unit": unit, "comment": comment}))
        column = columns[name]
        if not isinstance(column, pa.Array):
            column = pa.array(column, from_pandas=True)
        arrays.append(column.cast(kind))
    return pa.table(arrays, schema=pa.schema(fields))


def _at(ra: Floats, dec: Floats, distance: Floats, angle: Floats) -> tuple[Floats, Floats]:
    """Return positions at distances (arcsec) and position angles (radians)."""
    east = distance * np.sin(angle) / 3600.0 / np.cos(np.radians(dec))
    return (ra + east) % 360.0, dec + distance * np.cos(angle) / 3600.0


def _beside(objects: Objects, star: str) -> tuple[Floats, Floats]:
    return _at(objects["ra"], objects["dec"], objects[f"{star}_dist"], objects[f"{star}_angle"])


def _anywhere(count: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    return 360.0 * random.random(count), np.degrees(np.arcsin(random.uniform(-0.5, 0.99, count)))
