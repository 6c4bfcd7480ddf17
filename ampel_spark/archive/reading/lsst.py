"""Alerts in LSST's schema, shaped: diaSources are detections, diaForcedSources forced measurements.

Read are Rubin's own packets and ELAsTiCC's, which call some fields otherwise. Ids are AMPEL's: an
object is called by its diaObjectId, a detection and the alert that it caused by the diaSourceId (in
ELAsTiCC's samples alertId is a placeholder). Times are TAI, as the survey gives them.

References
----------
Rubin Observatory, alert packets: https://github.com/lsst/alert_packet. ELAsTiCC:
https://portal.nersc.gov/cfs/lsst/DESC_TD_PUBLIC/ELASTICC/.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ampel_spark.archive.ids import measured_id
from ampel_spark.archive.reading.builder import UNFORESEEN
from ampel_spark.archive.reading.files import Broken, Digest, read_members
from ampel_spark.archive.reading.rows import (
    Packet,
    Point,
    bad_row,
    broken_row,
    entry_row,
    point,
)
from ampel_spark.archive.reading.surveys import PacketSettings, Survey
from ampel_spark.archive.reading.values import (
    ERRORS,
    BadPacket,
    check_flux,
    from_entries,
    integer,
    is_magnitude,
    needed,
    own_values,
    position,
    printable,
    real,
    scalars,
    text,
)
from ampel_spark.archive.reading.wire import records

__all__ = ["read_packets", "shape"]

Body = Mapping[str, Any]
_Said = tuple[Any, Mapping[str, Any]]

_MJD = 2400000.5
# What Rubin calls it, and what ELAsTiCC does.
_NAMES = {
    "time": ("midpointMjdTai", "midPointTai"),
    "band": ("band", "filterName"),
    "flux": ("psfFlux", "psFlux"),
    "fluxerr": ("psfFluxErr", "psFluxErr"),
    "dec": ("dec", "decl"),
}


def read_packets(
    path: str, survey: Survey, digest: Digest, schema: str | None = None
) -> Iterator[Packet | dict[str, Any]]:
    """Yield the alerts of an archive file, and the rows of what could not be taken.

    Parameters
    ----------
    path : str
        A tar file of Avro containers, or one of these.
    survey : Survey
        With a section ``packets``.
    digest : Digest
        Takes the bytes of the file.
    schema : str, optional
        Schema [JSON] of packets that do not have theirs with them.
    """
    for item in read_members(path, digest):
        if isinstance(item, Broken):
            yield broken_row(path, digest.hexdigest(), item.reason, item.detail)
            continue
        for member, body in records(printable(item.name), item.data, schema):
            try:
                if isinstance(body, BadPacket):
                    raise body
                made, faults, nulls = _taken(body, survey, path, member)
            except BadPacket as error:
                yield bad_row(path, member, item.data, error.reason, str(error))
            except UNFORESEEN as error:
                detail = f"{type(error).__name__}: {error}"
                yield bad_row(path, member, item.data, "bad_value", detail)
            else:
                if faults or nulls:
                    yield entry_row(path, member, item.data, faults, nulls)
                yield made


def shape(packet: Any, survey: Survey, path: str = "", member: str = "") -> Packet:
    """Bring a decoded alert into the form of the ingest.

    Raises
    ------
    BadPacket
        If it lacks what an alert must have, or has a value that cannot be.
    """
    return _taken(packet, survey, path, member)[0]


def _taken(
    packet: Any, survey: Survey, path: str, member: str
) -> tuple[Packet, list[str], list[str]]:
    """Return an alert in the form of the ingest, and which entries and values were left out."""
    spec = survey.packets
    source = packet.get("diaSource") if isinstance(packet, Mapping) else None
    if not isinstance(source, Mapping) or spec is None:
        raise BadPacket("wrong_schema", "no record 'diaSource'")
    stock = integer("diaObjectId", source.get("diaObjectId"), 64)
    number = integer("diaSourceId", source.get("diaSourceId"), 64)
    if not stock or not number:
        raise BadPacket(
            "wrong_schema",
            f"diaObjectId {stock}, diaSourceId {number}: an alert needs both (sources of the solar"
            " system have no diaObject)",
        )
    if stock < 0:
        raise BadPacket("bad_value", f"diaObjectId {stock} is not positive")
    own = _detection(source, spec)
    if own is None:
        raise BadPacket("bad_value", f"diaSource {number}: flux {_value(source, 'flux')}")
    faults: list[str] = []
    nulls: list[str] = []

    def entries(name: str, make: Callable[[Body], Point | None]) -> list[_Said]:
        places: list[str] = []
        made = from_entries(packet, name, lambda body: (make(body), body), faults, places)
        return [
            (point, own_values(body, survey.columns.points, nulls, place))
            for place, (point, body) in zip(places, made, strict=True)
        ]

    said_own = own_values(source, survey.columns.points, nulls, "diaSource")
    points: dict[Any, _Said] = {own[0]: (own, said_own)}
    history = entries("prvDiaSources", lambda body: _detection(body, spec))
    limits = entries(
        "prvDiaNondetectionLimits", lambda body: _limit(body, spec, survey.name, stock)
    )
    for made, said in (*history, *limits):
        if made is not None:
            points.setdefault(made[0], (made, said))
    forced = {
        measured[0]: (measured, said)
        for measured, said in entries(
            "prvDiaForcedSources", lambda body: _forced(body, spec, survey.name, stock)
        )
        if measured is not None
    }
    packet_made = Packet(
        file=path,
        member=member,
        survey=survey.label,
        name=str(stock),
        stock=stock,
        alert_id=number,
        programid=spec.programid,
        jd=own[2],
        ra=own[16],
        dec=own[17],
        points=[made for made, _ in points.values()],
        forced=[made for made, _ in forced.values()],
        own=_own(packet, sum(made is None for made, _ in history)),
        own_columns=own_values(packet, survey.columns.alerts, nulls),
        point_columns=[said for _, said in points.values()],
        forced_columns=[said for _, said in forced.values()],
    )
    return packet_made, faults, nulls


def _own(packet: Body, unusable: int) -> str:
    """Return what an alert says beside the columns of the table, as JSON."""
    said: dict[str, Any] = {
        key: scalars(value)
        for key, value in packet.items()
        if key in ("diaSource", "diaObject", "ssSource", "ssObject") and isinstance(value, Mapping)
    }
    said |= scalars({key: value for key, value in packet.items() if key != "alertId"})
    if unusable:
        said["sources_without_flux"] = unusable
    return json.dumps(said, sort_keys=True)


def _detection(body: Body, spec: PacketSettings) -> Point | None:
    """Return a diaSource as a detection; None where it has no flux."""
    flux, error = _measured(body)
    if flux is None or not math.isfinite(flux) or flux == 0.0:
        return None
    if body.get("psfFlux_flag"):
        raise BadPacket("bad_value", f"psfFlux_flag is set: flux {flux} is no detection")
    number = needed("diaSourceId", integer("diaSourceId", body.get("diaSourceId"), 64))
    if number <= 0:
        raise BadPacket("bad_value", f"diaSourceId {number} is not positive")
    mag = spec.zp - 2.5 * math.log10(abs(flux))
    if not is_magnitude(mag):
        raise BadPacket("bad_value", f"flux {flux} is of magnitude {mag:g}, not between 0 and 40")
    relative = None if error is None or not error > 0 else error / abs(flux)
    if relative is not None and not relative * 2.5 / math.log(10.0) < ERRORS[1]:
        relative = None
    sign = -1 if flux < 0 else 1
    at_25 = sign * 10.0 ** (-0.4 * (mag - 25.0))
    return point(
        number, "detection", _jd(body), _band(body, spec),
        mag=mag,
        magerr=None if relative is None else relative * 2.5 / math.log(10.0),
        sign=sign,
        flux=at_25,
        fluxerr=None if relative is None else relative * abs(at_25),
        zp=25.0, zpsys=spec.zpsys, programid=spec.programid,
        rcid=integer("detector", body.get("detector")),
        ra=position("ra", body.get("ra"), "ra"), dec=position("dec", _value(body, "dec"), "dec"),
    )  # fmt: skip


def _forced(body: Body, spec: PacketSettings, survey: str, stock: int) -> Point:
    jd, band, detector = _jd(body), _band(body, spec), integer("detector", body.get("detector"))
    flux, error = _measured(body)
    usable = flux is not None and error is not None and math.isfinite(flux) and error > 0
    usable = usable and error != math.inf and not body.get("psfFlux_flag")
    if usable:
        check_flux(flux, error, spec.zp)
    return point(
        measured_id("forced", survey, stock, jd, band, None, detector), "forced", jd, band,
        sign=None if not usable else -1 if flux < 0 else 1,
        flux=flux if usable else None,
        fluxerr=error if usable else None,
        zp=spec.zp if usable else None,
        zpsys=spec.zpsys, programid=spec.programid, rcid=detector,
        status=None if usable else "no flux",
    )  # fmt: skip


def _limit(body: Body, spec: PacketSettings, survey: str, stock: int) -> Point:
    jd, band = _jd(body), _band(body, spec)
    noise = needed("diaNoise", real("diaNoise", body.get("diaNoise")))
    limit = spec.zp - 2.5 * math.log10(spec.limit_sigma * noise) if noise > 0 else math.nan
    if not is_magnitude(limit):
        raise BadPacket("bad_value", f"diaNoise {noise} is of no limit between 0 and 40 mag")
    return point(
        measured_id("upper_limit", survey, stock, jd, band, None, None), "upper_limit", jd, band,
        limit=limit, sign=0, zpsys=spec.zpsys, programid=spec.programid,
    )  # fmt: skip


def _measured(body: Body) -> tuple[Any, Any]:
    """Return flux and error of a source, each None where it is null."""
    return real("flux", _value(body, "flux")), real("error", _value(body, "fluxerr"))


def _value(body: Body, quantity: str) -> Any:
    for name in _NAMES[quantity]:
        if name in body:
            return body[name]
    raise BadPacket("wrong_schema", f"no field {' or '.join(_NAMES[quantity])} in a source")


def _jd(body: Body) -> float:
    time = needed("time", real("time", _value(body, "time")))
    if not 30000.0 < time < 100000.0:
        raise BadPacket("bad_value", f"time {time} is no MJD")
    return float(time + _MJD)


def _band(body: Body, spec: PacketSettings) -> str:
    word = text("band", _value(body, "band"))
    if word is None or word not in spec.bands:
        raise BadPacket("bad_value", f"band {word!r} is none of {', '.join(spec.bands)}")
    return spec.bands[word]
