"""ZTF packets, shaped: one flat row per alert and AMPEL's datapoints of its history.

Packets of the schema versions 3.0 to 4.02 land in one canonical form, whoever re-encoded them:
a field that a version lacks is null. What a packet must have to be an alert at all is checked
here; anything else is left to the tiers.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any, NamedTuple

from ampel_spark.archive.ids import forced_id, stock_of, upper_limit_id
from ampel_spark.lake.tables import Column, Table, columns_of

__all__ = [
    "ACCESS",
    "BANDS",
    "RANGES",
    "SENTINEL",
    "ZP",
    "POINT_COLUMNS",
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
RANGES = {"jd": (2457754.5, 2500000.0), "ra": (0.0, 360.0), "dec": (-90.0, 90.0)}

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


class BadPacket(ValueError):  # noqa: N818 - an outcome of a packet, not an error of ours
    """A packet that cannot be an alert: `reason` in one word, and what exactly is wrong."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Shaped(NamedTuple):
    """A packet in canonical form."""

    name: str
    stock: int
    candidate: Mapping[str, Any]
    schema_version: str | None
    points: list[tuple[Any, ...]]
    forced: list[tuple[Any, ...]]
    extra: str | None


@functools.cache
def candidate_columns() -> tuple[Column, ...]:
    """Return the scalars of the survey's ``candidate`` record, in the survey's order."""
    return columns_of((resources.files(__package__) / "ztf_candidate.txt").read_text())


@functools.cache
def alerts_table() -> Table:
    """Return the alerts table: the canonical columns, then every scalar of ``candidate``."""
    head = columns_of(
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
    names = {c.name for c in head}
    own = tuple(c for c in candidate_columns() if c.name not in names)
    noted = ("stock", "alert_id", "jd", "ra", "dec", "hpx", "night", "programid")
    return Table("alerts", "one alert packet", (*head, *own), ("survey", "alert_id"), noted)


def shape(packet: Mapping[str, Any]) -> Shaped:
    """Bring a decoded packet into canonical form.

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
        stock = stock_of(str(name))
    except ValueError as error:
        raise BadPacket(
            "bad_value" if name is not None else "wrong_schema", f"objectId: {error}"
        ) from None
    _check(packet, candidate)
    seen: dict[int, tuple[Any, ...]] = {}
    for body in (candidate, *(packet.get("prv_candidates") or ())):
        point = _point(body)
        if point is None:
            continue
        other = seen.get(point[0])
        # One id, two upper limits: the smaller processing id stays.
        if other is None or (point[0] < 0 and point[15] < other[15]):
            seen[point[0]] = point
    forced = {p[0]: p for p in (_forced(stock, body) for body in packet.get("fp_hists") or ())}
    return Shaped(
        str(name),
        stock,
        candidate,
        packet.get("schemavsn"),
        list(seen.values()),
        list(forced.values()),
        _extra(packet),
    )


def _check(packet: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
    needed = ("candid", "jd", "fid", "pid", "programid", "ra", "dec", "magpsf", "sigmapsf",
              "isdiffpos")  # fmt: skip
    missing = [k for k in needed if candidate.get(k) is None]
    if missing:
        raise BadPacket("wrong_schema", f"candidate lacks {', '.join(missing)}")
    candid = packet.get("candid")
    if candid is not None and candid != candidate["candid"]:
        raise BadPacket(
            "bad_value",
            f"candid is {candid} in the packet and {candidate['candid']} in its candidate",
        )
    if candidate["candid"] <= 0:
        raise BadPacket("bad_value", f"candid {candidate['candid']} is not positive")
    if candidate["fid"] not in BANDS:
        raise BadPacket("bad_value", f"fid {candidate['fid']} is no ZTF band (1 g, 2 r, 3 i)")
    for key, (low, high) in RANGES.items():
        value = candidate[key]
        if not low <= value <= high:
            raise BadPacket("bad_value", f"{key} {value} is outside {low} to {high}")
    for key in ("magpsf", "sigmapsf"):
        if not math.isfinite(candidate[key]):
            raise BadPacket("bad_value", f"{key} is {candidate[key]}")


def _point(body: Mapping[str, Any]) -> tuple[Any, ...] | None:
    jd, pid, limit = body["jd"], body["pid"], body.get("diffmaglim")
    band, rcid = BANDS.get(body["fid"]), body.get("rcid")
    if limit is not None and not math.isfinite(limit):
        limit = None
    values: tuple[Any, ...]
    if body.get("candid"):
        mag, magerr = body["magpsf"], body["sigmapsf"]
        sign = -1 if body["isdiffpos"] in ("f", "0") else 1
        flux = sign * 10.0 ** (-0.4 * (mag - ZP))
        fluxerr = abs(flux * magerr) * math.log(10.0) / 2.5
        values = (body["candid"], "detection", jd, band, mag, magerr, limit, sign, flux, fluxerr,
                  ZP, "ab", body["programid"], body.get("field"), rcid, pid, body.get("ra"),
                  body.get("dec"), None)  # fmt: skip
    else:
        if limit is None or limit < 0:
            return None  # AMPEL drops these: no limit, no information
        values = (upper_limit_id(jd, rcid, pid, limit), "upper_limit", jd, band, None, None, limit,
                  0, None, None, None, "ab", body["programid"], body.get("field"),
                  rcid if rcid is not None else pid % 10000 // 100, pid,
                  None, None, None)  # fmt: skip
    return (*values, None)  # its hash is made column by column


def _forced(stock: int, body: Mapping[str, Any]) -> tuple[Any, ...]:
    measured: tuple[Any, ...] = tuple(
        body.get(k) for k in ("forcediffimflux", "forcediffimfluxunc", "magzpsci")
    )
    flux, fluxerr, zp = measured
    usable = (
        all(v is not None and math.isfinite(v) and v > SENTINEL for v in measured) and fluxerr > 0
    )
    limit = body.get("diffmaglim")
    if limit is not None and not limit > 0:
        limit = None
    sign = None if not usable else -1 if flux < 0 else 1
    values = (forced_id(stock, body["jd"], body["fid"], body.get("field"), body.get("rcid")),
              "forced", body["jd"], BANDS.get(body["fid"]), None, None, limit, sign,
              flux if usable else None, fluxerr if usable else None, zp if usable else None, "ab",
              body["programid"], body.get("field"), body.get("rcid"), body["pid"], None, None,
              body.get("procstatus"))  # fmt: skip
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
    unknown = {
        k: v
        for k, v in fields.items()
        if isinstance(v, int | float | str | bool) and not is_known(k)
    }
    return json.dumps(unknown, sort_keys=True) if unknown else None
