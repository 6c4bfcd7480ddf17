"""ZTF packets, shaped: one flat row per alert and AMPEL's datapoints of its history.

Packets of the schema versions 3.0 to 4.02 land in one canonical form, whoever re-encoded them:
a field that a version lacks is null. What a packet must have to be an alert at all is checked
here; anything else is left to the tiers.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from types import MappingProxyType
from typing import Any, NamedTuple

from ampel_spark.archive.ids import forced_id, stock_of, upper_limit_id
from ampel_spark.archive.reading.values import (
    ERRORS,
    MAGNITUDES,
    POSITIONS,
    BadPacket,
    check_flux,
    fitting,
    from_entries,
    integer,
    is_magnitude,
    needed,
    own_values,
    position,
    real,
    scalars,
    sign_of,
    text,
    within,
)
from ampel_spark.lake.tables import Table, TableColumn, columns_of

__all__ = [
    "ACCESS",
    "BANDS",
    "COMMON_NAMES",
    "RANGES",
    "SENTINEL",
    "SIGNS",
    "ZP",
    "POINT_COLUMNS",
    "POINT_NAMES",
    "SURVEY",
    "BadPacket",
    "Shaped",
    "alerts_table",
    "candidate_columns",
    "is_known",
    "shape",
]

SURVEY = "ztf"

#: sncosmo's names of the bands, by fid.
BANDS = {1: "ztfg", 2: "ztfr", 3: "ztfi"}

#: Data rights: what a channel's access names, and the program ids it may see.
ACCESS = {"ZTF_PUB": 1, "ZTF_PRIV": 2, "ZTF_CALTECH": 3}

#: Zero point of fluxes made from magnitudes, as AMPEL's tabulator has it.
ZP = 25.0

#: What the survey writes where forced photometry has no value.
SENTINEL = -99999.0

#: What jd, ra and dec of a candidate can be.
RANGES = {"jd": (2457754.5, 2500000.0), **POSITIONS}

#: The survey's words of isdiffpos, and the signs that they say.
SIGNS = {"t": 1, "1": 1, "f": -1, "0": -1}

# fmt: off
#: Columns of a point in the order of the tuples that `shape` makes.
POINT_COLUMNS = (
    ("datapoint_id", "bigint"), ("kind", "string"), ("jd", "double"), ("band", "string"),
    ("mag", "double"), ("magerr", "double"), ("limit_mag", "double"), ("sign", "int"),
    ("flux", "double"), ("fluxerr", "double"), ("zp", "double"), ("zpsys", "string"),
    ("programid", "int"), ("field", "int"), ("rcid", "int"), ("pid", "bigint"),
    ("ra", "double"), ("dec", "double"), ("procstatus", "string"), ("value_hash", "bigint"),
)
_KNOWN = frozenset({
    "schemavsn", "publisher", "objectId", "candid", "candidate", "prv_candidates", "fp_hists",
    "cutoutScience", "cutoutTemplate", "cutoutDifference",
})
# fmt: on

_NOTHING: Mapping[str, Any] = MappingProxyType({})

# Columns of the alerts table that all surveys have.
_HEAD = columns_of(
    """
survey | string | survey
stock | bigint | object (AMPEL's stock id)
name | string | the survey's name of the object
alert_id | bigint | alert (candid)
jd | double | start of the exposure [d]
ra | double | right ascension [deg, ICRS]
dec | double | declination [deg, ICRS]
hpx | bigint | HEALPix index, NESTED, order 29
night | int | UTC date of jd [YYYYMMDD]
programid | int | 1 public, 2 partnership, 3 Caltech
schema_version | string | the packet's own
file | string | archive file
datapoint_ids | array<bigint> | what the packet shows: its own candidate first, then its history
datapoint_jds | array<double> | times of these datapoints [d]
datapoint_programids | array<int> | program ids of these datapoints
forced_ids | array<bigint> | forced measurements in the packet
n_detections | int | detections among them
n_upper_limits | int | upper limits among them
n_forced | int | forced measurements in the packet
jd_first | double | first detection among them [d]
jd_last | double | last detection among them [d]
content_hash | bigint | xxhash64 over all that is kept of the packet
extra | string | scalars of the packet and its candidate that the survey's schema does not have \
[JSON]
own | string | what another survey than ZTF, or a table, says beside these columns [JSON]
run_id | string | run that wrote the row
"""
)

#: Names that no survey may declare: of columns that all alerts have, and of points.
COMMON_NAMES = frozenset(c.name for c in _HEAD)
POINT_NAMES = frozenset(
    {"survey", "stock", "revision", "first_alert_jd", "first_alert_id", "run_id"}
    | {name for name, _ in POINT_COLUMNS}
)


class Shaped(NamedTuple):
    """A packet in canonical form.

    `faults` says which entries of its history were left out, `nulls` which values of the columns
    that the survey declares; these are in the last three, as `rows.Packet` has them.
    """

    name: str
    stock: int
    candidate: Mapping[str, Any]
    schema_version: str | None
    points: list[tuple[Any, ...]]
    forced: list[tuple[Any, ...]]
    extra: str | None
    faults: tuple[str, ...] = ()
    nulls: tuple[str, ...] = ()
    own_columns: Mapping[str, Any] = _NOTHING
    point_columns: Sequence[Mapping[str, Any]] = ()
    forced_columns: Sequence[Mapping[str, Any]] = ()


@functools.cache
def candidate_columns() -> tuple[TableColumn, ...]:
    """Return the scalars of the survey's ``candidate`` record, in the survey's order."""
    return columns_of((resources.files(__package__) / "ztf_candidate.txt").read_text())


@functools.cache
def alerts_table() -> Table:
    """Return the alerts table: the canonical columns, then every scalar of ``candidate``."""
    names = {c.name for c in _HEAD}
    own = tuple(c for c in candidate_columns() if c.name not in names)
    noted = ("stock", "alert_id", "jd", "ra", "dec", "hpx", "night", "programid")
    return Table("alerts", "one alert packet", (*_HEAD, *own), ("survey", "alert_id"), noted)


def shape(
    packet: Mapping[str, Any],
    own: Mapping[str, Any] = _NOTHING,
    points: Mapping[str, Any] = _NOTHING,
) -> Shaped:
    """Bring a decoded packet into canonical form.

    An entry of a history that cannot be (a magnitude of -999, a detection without a sign) is left
    out and named in `faults`; the rest of the packet stays. A value of a declared column that
    cannot be is null, and named in `nulls`.

    Parameters
    ----------
    packet : mapping
    own, points : mapping of str to OwnColumn
        The columns that the survey declares for its alerts and for their points. A point's are
        fields of its record; those of forced measurements are called ``fp_hists.scisigpix``, for
        they have other units under the same names.

    Raises
    ------
    BadPacket
        If it lacks what an alert must have, or has a value that cannot be.
    """
    candidate = packet.get("candidate")
    if not isinstance(candidate, Mapping):
        raise BadPacket(
            "wrong_schema", f"no record 'candidate'; fields: {', '.join(map(str, packet))[:200]}"
        )
    name = packet.get("objectId")
    try:
        stock = stock_of(name if isinstance(name, str) else str(name))
    except ValueError as error:
        raise BadPacket(
            "bad_value" if name is not None else "wrong_schema", f"objectId: {error}"
        ) from None
    body = _body(packet, candidate)
    faults: list[str] = []
    nulls: list[str] = []
    said = own_values(packet, own, nulls)
    seen: dict[int, tuple[tuple[Any, ...], Mapping[str, Any]]] = {}
    for place, entry, point in _entries(packet, "prv_candidates", _point, faults, _point(body)):
        if point is None:
            continue
        other = seen.get(point[0])
        # One id, two upper limits: the smaller processing id stays.
        if other is None or (point[0] < 0 and point[15] < other[0][15]):
            seen[point[0]] = point, own_values(entry, points, nulls, place)
    measured = functools.partial(_forced, stock)
    forced = {
        point[0]: (point, own_values({"fp_hists": entry}, points, nulls, place))
        for place, entry, point in _entries(packet, "fp_hists", measured, faults)
    }
    return Shaped(
        str(name),
        stock,
        body,
        text("schemavsn", packet.get("schemavsn")),
        [point for point, _ in seen.values()],
        [point for point, _ in forced.values()],
        _extra(packet),
        tuple(faults),
        tuple(nulls),
        said,
        [values for _, values in seen.values()],
        [values for _, values in forced.values()],
    )


def _entries(
    packet: Mapping[str, Any],
    name: str,
    make: Callable[[Mapping[str, Any]], Any],
    faults: list[str],
    own: Any = None,
) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """Yield place, record and point of the candidate, if it is given, and of entries of a list."""
    if own is not None:
        yield "candidate", packet["candidate"], own
    places: list[str] = []
    found = from_entries(packet, name, lambda entry: (entry, make(entry)), faults, places)
    for place, (entry, point) in zip(places, found, strict=True):
        yield place, entry, point


def _body(packet: Mapping[str, Any], candidate: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a candidate, each of its type, and all that an alert must have."""
    body = {
        column.name: fitting(column.name, candidate.get(column.name), column.type)
        for column in candidate_columns()
        if column.name != "isdiffpos"
    }
    body["isdiffpos"] = word = candidate.get("isdiffpos")
    must = ("candid", "jd", "fid", "pid", "programid", "ra", "dec", "magpsf", "sigmapsf",
            "isdiffpos")  # fmt: skip
    missing = [k for k in must if body[k] is None]
    if missing:
        raise BadPacket("wrong_schema", f"candidate lacks {', '.join(missing)}")
    if not (isinstance(word, str) and word in SIGNS):
        # Filters know the survey's words alone.
        body["isdiffpos"] = "t" if sign_of("isdiffpos", word) > 0 else "f"
    candid = integer("candid", packet.get("candid"), 64)
    if candid is not None and candid != body["candid"]:
        raise BadPacket(
            "bad_value", f"candid is {candid} in the packet and {body['candid']} in its candidate"
        )
    if body["candid"] <= 0:
        raise BadPacket("bad_value", f"candid {body['candid']} is not positive")
    for key, (low, high) in RANGES.items():
        within(key, body[key], low, high)
    return body


def _point(body: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return a detection or an upper limit; None for an entry without either."""
    jd, pid, fid, programid, field, rcid = _when_and_where(body)
    limit = real("diffmaglim", body.get("diffmaglim"))
    candid = integer("candid", body.get("candid"), 64)
    head, tail = (jd, BANDS[fid]), ("ab", programid, field)
    if candid:
        if candid < 0:
            raise BadPacket("bad_value", f"candid {candid} is not positive")
        measured = _measured(body, limit)
        place = (position(axis, body.get(axis), axis) for axis in ("ra", "dec"))
        # the hash of the values is made column by column
        return (candid, "detection", *head, *measured, *tail, rcid, pid, *place, None, None)
    if limit is None or not math.isfinite(limit) or limit < 0:
        return None  # AMPEL drops these: no limit, no information
    if limit >= MAGNITUDES[1]:
        raise BadPacket("bad_value", f"diffmaglim {limit} is not between {_between(MAGNITUDES)}")
    number = upper_limit_id(jd, rcid, pid, limit)
    channel = rcid if rcid is not None else pid % 10000 // 100
    values = (None, None, limit, 0, None, None, None)
    return (number, "upper_limit", *head, *values, *tail, channel, pid, None, None, None, None)


def _measured(body: Mapping[str, Any], limit: float | None) -> tuple[Any, ...]:
    """Return magnitude, error, limit, sign, flux, error and zero point of a detection."""
    mag = needed("magpsf", real("magpsf", body.get("magpsf")))
    magerr = needed("sigmapsf", real("sigmapsf", body.get("sigmapsf")))
    if not is_magnitude(mag):
        raise BadPacket("bad_value", f"magpsf {mag} is not between {_between(MAGNITUDES)}")
    if not ERRORS[0] <= magerr < ERRORS[1]:
        raise BadPacket("bad_value", f"sigmapsf {magerr} is not between {_between(ERRORS)}")
    sign = sign_of("isdiffpos", needed("isdiffpos", body.get("isdiffpos")))
    flux = sign * 10.0 ** (-0.4 * (mag - ZP))
    fluxerr = abs(flux * magerr) * math.log(10.0) / 2.5
    known = limit if limit is not None and is_magnitude(limit) else None
    return mag, magerr, known, sign, flux, fluxerr, ZP


def _when_and_where(body: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return jd, pid, fid, programid, field and rcid of a measurement."""
    jd = within("jd", needed("jd", real("jd", body.get("jd"))), *RANGES["jd"])
    pid = needed("pid", integer("pid", body.get("pid"), 64))
    fid = needed("fid", integer("fid", body.get("fid")))
    if fid not in BANDS:
        raise BadPacket("bad_value", f"fid {fid} is no ZTF band (1 g, 2 r, 3 i)")
    programid = needed("programid", integer("programid", body.get("programid")))
    field, rcid = integer("field", body.get("field")), integer("rcid", body.get("rcid"))
    return jd, pid, fid, programid, field, rcid


def _between(ends: tuple[float, float]) -> str:
    return f"{ends[0]:g} and {ends[1]:g}"


def _forced(stock: int, body: Mapping[str, Any]) -> tuple[Any, ...]:
    jd, pid, fid, programid, field, rcid = _when_and_where(body)
    measured: tuple[Any, ...] = tuple(
        real(k, body.get(k)) for k in ("forcediffimflux", "forcediffimfluxunc", "magzpsci")
    )
    flux, fluxerr, zp = measured
    usable = (
        all(v is not None and math.isfinite(v) and v > SENTINEL for v in measured) and fluxerr > 0
    )
    if usable:
        check_flux(flux, fluxerr, zp)
    limit = real("diffmaglim", body.get("diffmaglim"))
    if limit is not None and not is_magnitude(limit):
        limit = None
    sign = None if not usable else -1 if flux < 0 else 1
    values = (forced_id(stock, jd, fid, field, rcid), "forced", jd, BANDS[fid], None, None, limit,
              sign, flux if usable else None, fluxerr if usable else None, zp if usable else None,
              "ab", programid, field, rcid, pid, None, None,
              text("procstatus", body.get("procstatus")))  # fmt: skip
    return (*values, None)


def is_known(path: str) -> bool:
    """Say whether a field is one of the survey's schema: ``objectId``, ``candidate.jd``."""
    record, _, name = path.rpartition(".")
    return name in _candidate_names() if record == "candidate" else path in _KNOWN


@functools.cache
def _candidate_names() -> frozenset[str]:
    return frozenset(c.name for c in candidate_columns())


def _extra(packet: Mapping[str, Any]) -> str | None:
    fields = {**packet, **{f"candidate.{k}": v for k, v in packet["candidate"].items()}}
    unknown = scalars({name: value for name, value in fields.items() if not is_known(name)})
    return json.dumps(unknown, sort_keys=True) if unknown else None
