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
from collections.abc import Iterator, Mapping
from typing import Any

from ampel_spark.archive.files import Broken, Digest, read_members
from ampel_spark.archive.ids import measured_id
from ampel_spark.archive.rows import Packet, Point, bad_row, point
from ampel_spark.archive.surveys import PacketSettings, Survey
from ampel_spark.archive.wire import records
from ampel_spark.archive.ztf import BadPacket

__all__ = ["read_packets", "shape"]

Body = Mapping[str, Any]

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
            yield {"row": "broken", "file": path, "sha256": digest.hexdigest(),
                   "reason": item.reason, "detail": item.detail}  # fmt: skip
            continue
        for member, body in records(item.name, item.data, schema):
            try:
                if isinstance(body, BadPacket):
                    raise body
                yield shape(body, survey, path, member)
            except BadPacket as error:
                yield bad_row(path, member, item.data, error.reason, str(error))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                detail = f"{type(error).__name__}: {error}"
                yield bad_row(path, member, item.data, "bad_value", detail)


def shape(packet: Any, survey: Survey, path: str = "", member: str = "") -> Packet:
    """Bring a decoded alert into the form of the ingest.

    Raises
    ------
    BadPacket
        If it lacks what an alert must have, or has a value that cannot be.
    """
    spec = survey.packets
    source = packet.get("diaSource") if isinstance(packet, Mapping) else None
    if not isinstance(source, Mapping) or spec is None:
        raise BadPacket("wrong_schema", "no record 'diaSource'")
    stock, number = source.get("diaObjectId"), source.get("diaSourceId")
    if not stock or not number:
        raise BadPacket(
            "wrong_schema",
            f"diaObjectId {stock}, diaSourceId {number}: an alert needs both (sources of the solar"
            " system have no diaObject)",
        )
    own = _detection(source, spec)
    if own is None:
        raise BadPacket("bad_value", f"diaSource {number}: flux {_value(source, 'flux')}")
    points = {own[0]: own}
    unusable = 0
    for body in packet.get("prvDiaSources") or ():
        made = _detection(body, spec)
        unusable += made is None
        if made is not None:
            points.setdefault(made[0], made)
    for body in packet.get("prvDiaNondetectionLimits") or ():
        limit = _limit(body, spec, survey.name, stock)
        points.setdefault(limit[0], limit)
    forced: dict[int, Point] = {}
    for body in packet.get("prvDiaForcedSources") or ():
        measured = _forced(body, spec, survey.name, stock)
        forced[measured[0]] = measured
    said: dict[str, Any] = {
        key: _scalars(value)
        for key, value in packet.items()
        if key in ("diaSource", "diaObject", "ssSource", "ssObject") and isinstance(value, Mapping)
    }
    said |= _scalars({key: value for key, value in packet.items() if key != "alertId"})
    if unusable:
        said["sources_without_flux"] = unusable
    return Packet(
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
        points=list(points.values()),
        forced=list(forced.values()),
        own=json.dumps(said, sort_keys=True),
    )


def _detection(body: Body, spec: PacketSettings) -> Point | None:
    """Return a diaSource as a detection; None where it has no flux."""
    flux, error = _value(body, "flux"), _value(body, "fluxerr")
    if flux is None or not math.isfinite(flux) or flux == 0.0:
        return None
    mag = spec.zp - 2.5 * math.log10(abs(flux))
    relative = None if error is None or not error > 0 else error / abs(flux)
    sign = -1 if flux < 0 else 1
    at_25 = sign * 10.0 ** (-0.4 * (mag - 25.0))
    return point(
        body["diaSourceId"], "detection", _jd(body), _band(body, spec),
        mag=mag,
        magerr=None if relative is None else relative * 2.5 / math.log(10.0),
        sign=sign,
        flux=at_25,
        fluxerr=None if relative is None else relative * abs(at_25),
        zp=25.0, zpsys=spec.zpsys, programid=spec.programid,
        rcid=body.get("detector"), ra=body.get("ra"), dec=_value(body, "dec"),
    )  # fmt: skip


def _forced(body: Body, spec: PacketSettings, survey: str, stock: int) -> Point:
    jd, band, detector = _jd(body), _band(body, spec), body.get("detector")
    flux, error = _value(body, "flux"), _value(body, "fluxerr")
    usable = all(v is not None and math.isfinite(v) for v in (flux, error)) and error > 0
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
    limit = spec.zp - 2.5 * math.log10(spec.limit_sigma * body["diaNoise"])
    return point(
        measured_id("upper_limit", survey, stock, jd, band, None, None), "upper_limit", jd, band,
        limit=limit, sign=0, zpsys=spec.zpsys, programid=spec.programid,
    )  # fmt: skip


def _value(body: Body, quantity: str) -> Any:
    for name in _NAMES[quantity]:
        if name in body:
            return body[name]
    raise BadPacket("wrong_schema", f"no field {' or '.join(_NAMES[quantity])} in a source")


def _jd(body: Body) -> float:
    time = _value(body, "time")
    if not 30000.0 < time < 100000.0:
        raise BadPacket("bad_value", f"time {time} is no MJD")
    return float(time + _MJD)


def _band(body: Body, spec: PacketSettings) -> str:
    word = _value(body, "band")
    if word not in spec.bands:
        raise BadPacket("bad_value", f"band {word!r} is none of {', '.join(spec.bands)}")
    return spec.bands[word]


def _scalars(body: Body) -> dict[str, Any]:
    return {
        key: value
        for key, value in body.items()
        if isinstance(value, str | int | bool)
        or (isinstance(value, float) and math.isfinite(value))
    }
