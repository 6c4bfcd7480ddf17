"""Alerts of any survey, shaped one by one as its settings map them (`packet_map`).

A `Mapper` takes the settings once; then it shapes decoded packets, from Avro or Parquet.

A detection whose measurement failed (``unusable``) is none: in a history it costs that entry; where
it is the alert's own, the alert is stored without it. A point that the survey took back
(``withdrawn``) keeps its id and has no values: as the newest revision it takes the point out of
states.
"""

from __future__ import annotations

import datetime
import functools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.archive.ids import measured_id, named_stock, stock_of
from ampel_spark.archive.reading.packet_map import FlagRule, PacketSettings, PointList, StockPath
from ampel_spark.archive.reading.rows import Packet, Point, point
from ampel_spark.archive.reading.surveys import Survey
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
    real,
    scalars,
    sign_of,
    text,
)

__all__ = ["MADE", "MJDS", "WITHDRAWN", "Mapper", "utc", "value_at"]

Body = Mapping[str, Any]
Paths = tuple[str, ...]
_Made = tuple[str, Point | None, Body]

#: Record of what is made of a packet, whose fields columns may name: ``made.n_bands``.
MADE = "made"

#: Status of a point that the survey took back.
WITHDRAWN = "withdrawn"

#: Times lie between these, both excluded [MJD].
MJDS = (30000.0, 100000.0)

_MJD, _UNIX, _DAY = 2400000.5, 2440587.5, 86400.0
_KIND, _BAND, _STATUS = 1, 3, 18  # places in a point
_GONE = {"status": WITHDRAWN}


class Mapper:
    """Shapes a survey's packets.

    Parameters
    ----------
    survey : Survey
        With a section ``packets``.
    """

    def __init__(self, survey: Survey) -> None:
        spec = survey.packets
        if spec is None:
            raise AssertionError("a survey that is read by mapping has a section 'packets'")
        self._label, self._spec, self._columns = survey.label, spec, survey.columns
        self._own, *self._others = (_Maker(survey.label, spec, each) for each in spec.points)

    def shape(
        self, packet: Any, file: str = "", member: str = ""
    ) -> tuple[Packet, list[str], list[str]]:
        """Return a packet in the form of the ingest, and what of it was left out, in words.

        These are the entries of its history, and the values of columns that the survey declares.

        Parameters
        ----------
        packet : object
            What was decoded.
        file, member : str, optional
            Where it comes from.

        Raises
        ------
        BadPacket
            If it lacks what an alert must have, or has a value that cannot be.
        """
        own = self._own_record(packet)
        number, stock, name, is_body = self._named(packet)
        jd, ra, dec = self._own.place(own, packet)
        faults: list[str] = []
        nulls: list[str] = []
        made = [(self._own.records, self._own_point(own, packet, stock), own)]
        for maker in self._others:
            made += maker.all(packet, stock, faults)
        points, forced = _sorted(made)
        shown = [each for _, each, _ in points.values()]
        facts = {
            "solar_system": is_body,
            "n_bands": len({each[_BAND] for each in shown if each[_KIND] == "detection"}),
            "jd_utc": float(utc(jd)) if self._spec.scale == "tai" else jd,
        }
        columns, spec = self._columns, self._spec
        version = None if spec.version is None else value_at(spec.version, packet)
        return (
            Packet(
                file=file,
                member=member,
                survey=self._label,
                name=name,
                stock=stock,
                alert_id=number,
                programid=_program(spec.of(spec.points[0], "programid"), own, packet),
                jd=jd,
                ra=ra,
                dec=dec,
                points=shown,
                forced=[each for _, each, _ in forced.values()],
                schema_version=None if version is None else str(version),
                own=_kept(packet, spec.keep, sum(each is None for _, each, _ in made)),
                own_columns=own_values({**packet, MADE: facts}, columns.alerts, nulls),
                point_columns=self._values(points, nulls),
                forced_columns=self._values(forced, nulls),
            ),
            faults,
            nulls,
        )

    def _values(self, made: Mapping[int, _Made], nulls: list[str]) -> list[dict[str, Any]]:
        """Return the values of the declared columns of some points."""
        declared = self._columns.points
        return [own_values(entry, declared, nulls, where) for where, _, entry in made.values()]

    def _own_record(self, packet: Any) -> Body:
        paths = self._spec.points[0].records
        own = value_at(paths, packet) if isinstance(packet, Mapping) else None
        if not isinstance(own, Mapping):
            raise BadPacket("wrong_schema", f"no record {paths[0]!r}")
        return own

    def _own_point(self, own: Body, packet: Body, stock: int) -> Point | None:
        """Return the alert's own point; None where its measurement failed."""
        maker = self._own
        if maker.failed(own, packet):
            return None
        made = maker.make(own, packet, stock)
        if made is None:
            raise BadPacket("bad_value", f"{maker.records}: {maker.shown(own, packet)}")
        return made

    def _named(self, packet: Body) -> tuple[int, int, str, bool]:
        """Return the alert's id, its stock, its name, and if it is a body of the solar system."""
        spec = self._spec
        number = integer(_last(spec.id), value_at(spec.id, packet), 64)
        looked = []
        for each in spec.stock:
            found = _stock(each, packet, self._label)
            if found is not None and number and number > 0:
                return number, *found, each.solar_system
            looked.append(f"{_last(each.id)} {value_at(each.id, packet)}")
        reason = "bad_value" if number and number < 0 else "wrong_schema"
        raise BadPacket(
            reason,
            f"{', '.join(looked)}, {_last(spec.id)} {number}: an alert needs both, an object and a"
            " positive id",
        )


class _Maker:
    """Makes the points of one list of a packet."""

    def __init__(self, label: str, spec: PacketSettings, points: PointList) -> None:
        self.records = points.records[0]
        self._label, self._spec, self._points = label, spec, points
        self._has_flux = spec.measures_flux(points)
        self._paths: dict[str, Any] = {key: spec.of(points, key) for key in spec.shared()}

    def all(self, packet: Body, stock: int, faults: list[str]) -> list[_Made]:
        """Return the points of the list with their entries; None for one without a value."""
        points = self._points
        entries = value_at(points.records, packet)
        if isinstance(entries, Mapping):
            entries = [entries]

        def make(entry: Body) -> list[tuple[Point | None, Body]]:
            if points.where and not _met(points.where, entry, packet):
                return []
            if _met(points.unless, entry, packet):
                return []
            made = self.make(entry, packet, stock)
            failed = self.failed(entry, packet) if points.kind == "detection" else None
            if failed and made is not None and made[_STATUS] != WITHDRAWN:
                shown = self.shown(entry, packet)
                raise BadPacket("bad_value", f"{failed} is set: {shown} is no detection")
            if made is None and points.kind != "detection":
                return []
            return [(made, entry)]

        places: list[str] = []
        found = from_entries({self.records: entries}, self.records, make, faults, places)
        return [(place, *each) for place, one in zip(places, found, strict=True) for each in one]

    def failed(self, entry: Body, packet: Body) -> str | None:
        """Return the field that says that the measurement of an entry failed, if one does."""
        return _met(self._paths["unusable"] or (), entry, packet)

    def place(self, entry: Body, packet: Body) -> tuple[float, float | None, float | None]:
        """Return time and position of an entry."""
        return (self._jd(entry, packet), *self._position(entry, packet))

    def shown(self, entry: Body, packet: Body) -> str:
        """Return what is measured, in words."""
        what = "flux" if self._has_flux else "mag"
        return f"{what} {value_at(self._paths[what], entry, packet)}"

    def make(self, entry: Body, packet: Body, stock: int) -> Point | None:
        """Return an entry as a point; None for one without a value.

        Raises
        ------
        BadPacket
            If it has a value that cannot be.
        """
        kind = self._points.kind
        is_gone = _met(self._paths["withdrawn"] or (), entry, packet) is not None
        values = _GONE if is_gone else getattr(self, f"_{kind}")(entry, packet)
        if values is None:
            return None
        jd, band = self._jd(entry, packet), self._band(entry, packet)
        field, rcid = (self._integer(key, entry, packet) for key in ("field", "rcid"))
        if kind == "detection" and self._points.id is not None:
            number = _positive(self._points.id, entry, packet)
        else:
            number = measured_id(kind, self._label, stock, jd, band, field, rcid)
        ra, dec = self._position(entry, packet) if kind == "detection" else (None, None)
        program = self._paths["programid"]
        return point(
            number, kind, jd, band, **values, zpsys=self._spec.zpsys,
            programid=_program(program, entry, packet), survey_field=field, rcid=rcid,
            ra=ra, dec=dec,
        )  # fmt: skip

    def _detection(self, entry: Body, packet: Body) -> dict[str, Any] | None:
        if not self._has_flux:
            return self._magnitude(entry, packet)
        flux, error = self._real("flux", entry, packet), self._real("fluxerr", entry, packet)
        if flux is None or not math.isfinite(flux) or flux == 0.0:
            return None
        mag = self._zero_point(entry, packet) - 2.5 * math.log10(abs(flux))
        if not is_magnitude(mag):
            raise BadPacket(
                "bad_value", f"flux {flux} is of magnitude {mag:g}, not between 0 and 40"
            )
        relative = None if error is None or not error > 0 else error / abs(flux)
        if relative is not None and not relative * 2.5 / math.log(10.0) < ERRORS[1]:
            relative = None
        sign = -1 if flux < 0 else 1
        at_25 = sign * 10.0 ** (-0.4 * (mag - 25.0))
        return {
            "mag": mag,
            "magerr": None if relative is None else relative * 2.5 / math.log(10.0),
            "sign": sign,
            "flux": at_25,
            "fluxerr": None if relative is None else relative * abs(at_25),
            "zp": 25.0,
        }

    def _magnitude(self, entry: Body, packet: Body) -> dict[str, Any] | None:
        mag, error = self._real("mag", entry, packet), self._real("magerr", entry, packet)
        if mag is None or math.isnan(mag):
            return None
        if not is_magnitude(mag):
            raise BadPacket("bad_value", f"mag {mag} is not between 0 and 40")
        if error is not None and not ERRORS[0] <= error < ERRORS[1]:
            raise BadPacket("bad_value", f"magerr {error} is not between 0 and 10")
        sign = 1
        if self._paths["sign"] is not None:
            found = value_at(self._paths["sign"], entry, packet)
            sign = sign_of(_last(self._paths["sign"]), needed(_last(self._paths["sign"]), found))
        flux = sign * 10.0 ** (-0.4 * (mag - 25.0))
        limit = self._real("limit", entry, packet)
        return {
            "mag": mag,
            "magerr": error,
            "limit": limit if limit is not None and is_magnitude(limit) else None,
            "sign": sign,
            "flux": flux,
            "fluxerr": None if error is None else abs(flux * error) * math.log(10.0) / 2.5,
            "zp": 25.0,
        }

    def _forced(self, entry: Body, packet: Body) -> dict[str, Any]:
        flux, error = self._real("flux", entry, packet), self._real("fluxerr", entry, packet)
        zp = self._zero_point(entry, packet)
        is_usable = (
            flux is not None and error is not None and math.isfinite(flux) and 0 < error < math.inf
        )
        said = None
        if self._paths["status"] is not None:
            said = text("status", value_at(self._paths["status"], entry, packet))
        if flux is None or not is_usable or self.failed(entry, packet):
            return {"status": said or "no flux"}
        check_flux(flux, error or 0.0, zp)
        return {"sign": -1 if flux < 0 else 1, "flux": flux, "fluxerr": error, "zp": zp,
                "status": said}  # fmt: skip

    def _upper_limit(self, entry: Body, packet: Body) -> dict[str, Any] | None:
        name, shown = "limit", self._real("limit", entry, packet)
        limit = shown
        if self._paths["limit"] is None:
            name = _last(self._paths["noise"])
            shown = needed(name, self._real("noise", entry, packet))
            level = self._spec.limit_sigma * shown
            limit = self._zero_point(entry, packet) - 2.5 * math.log10(level) if level > 0 else -1.0
        if limit is None or math.isnan(limit):
            return None
        if not is_magnitude(limit):
            raise BadPacket("bad_value", f"{name} {shown} is of no limit between 0 and 40 mag")
        return {"limit": limit, "sign": 0}

    def _zero_point(self, entry: Body, packet: Body) -> float:
        found = self._paths["zp"]
        if isinstance(found, tuple):
            found = needed("zero point", self._real("zp", entry, packet))
        if not is_magnitude(found):
            raise BadPacket("bad_value", f"zero point {found} is not between 0 and 40")
        return float(found)

    def _jd(self, entry: Body, packet: Body) -> float:
        found, form = self._present("time", entry, packet), self._spec.format
        if form == "iso":
            return _from_words(found)
        time = float(needed("time", real("time", found)))
        mjd = time if form == "mjd" else time - _MJD
        if not MJDS[0] < mjd < MJDS[1]:
            raise BadPacket("bad_value", f"time {time} is no {form.upper()}")
        return time + _MJD if form == "mjd" else time

    def _band(self, entry: Body, packet: Body) -> str:
        found = self._present("band", entry, packet)
        if isinstance(found, int) and not isinstance(found, bool):
            found = str(found)
        word = text("band", found)
        if word is None or word not in self._spec.bands:
            known = ", ".join(self._spec.bands)
            raise BadPacket("bad_value", f"band {word!r} is none of {known}")
        return self._spec.bands[word]

    def _position(self, entry: Body, packet: Body) -> tuple[float | None, float | None]:
        paths, missing = self._paths, self._spec.missing
        ra, dec = (
            None if paths[axis] is None else value_at(paths[axis], entry, packet)
            for axis in ("ra", "dec")
        )
        ra, dec = (None if _is_one_of(v, missing) else v for v in (ra, dec))
        return position("ra", ra, "ra"), position("dec", dec, "dec")

    def _integer(self, key: str, entry: Body, packet: Body) -> int | None:
        paths = self._paths[key]
        if paths is None:
            return None
        found = value_at(paths, entry, packet)
        return None if _is_one_of(found, self._spec.missing) else integer(_last(paths), found)

    def _real(self, key: str, entry: Body, packet: Body) -> float | None:
        if self._paths[key] is None:
            return None
        found = self._present(key, entry, packet)
        name = {"fluxerr": "error", "noise": _last(self._paths[key])}.get(key, key)
        return None if _is_one_of(found, self._spec.missing) else real(name, found)

    def _present(self, key: str, entry: Body, packet: Body) -> Any:
        """Return a value whose field must be there, be it null."""
        paths = self._paths[key]
        found = value_at(paths, entry, packet)
        if found is None and not any(_is_there(path, entry, packet) for path in paths):
            raise BadPacket("wrong_schema", f"no field {' or '.join(paths)} in {self.records}")
        return found


def _sorted(made: Iterable[_Made]) -> tuple[dict[int, Any], dict[int, Any]]:
    """Return points by id, each once: those that show something, and forced and withdrawn ones."""
    points: dict[int, Any] = {}
    forced: dict[int, Any] = {}
    for each in made:
        if each[1] is not None:
            is_apart = each[1][_KIND] == "forced" or each[1][_STATUS] == WITHDRAWN
            (forced if is_apart else points).setdefault(each[1][0], each)
    return points, forced


def utc(jd: Any) -> Any:
    """Return JDs in UTC of such in TAI [d], a float or an array."""
    starts, seconds = _leaps()
    return jd - seconds[np.searchsorted(starts, jd, side="right") - 1] / _DAY


@functools.cache
def _leaps() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return from when on [JD, UTC] TAI is how many seconds before UTC, since 1972."""
    import erfa

    table = erfa.leap_seconds.get()
    table = table[table["year"] >= 1972]
    days = [datetime.date(row["year"], row["month"], 1).toordinal() for row in table]
    return np.array(days) + 1721424.5, np.array(table["tai_utc"], np.float64)


def value_at(paths: Paths, entry: Body, packet: Body | None = None) -> Any:
    """Return the first value that stands at one of some paths; None where there is none.

    Parameters
    ----------
    paths : tuple of str
    entry : mapping
        Where paths begin.
    packet : mapping, optional
        Where paths with a slash begin; default: `entry`.
    """
    for path in paths:
        steps, from_packet = _steps(path)
        found: Any = packet if from_packet and packet is not None else entry
        for step in steps:
            found = found.get(step) if isinstance(found, Mapping) else None
            if found is None:
                break
        if found is not None:
            return found
    return None


@functools.lru_cache(maxsize=4096)
def _steps(path: str) -> tuple[tuple[str, ...], bool]:
    return tuple(path.removeprefix("/").split(".")), path.startswith("/")


def _is_there(path: str, entry: Body, packet: Body) -> bool:
    steps, from_packet = _steps(path)
    found: Any = packet if from_packet else entry
    for step in steps:
        if not isinstance(found, Mapping) or step not in found:
            return False
        found = found[step]
    return True


def _last(paths: Paths) -> str:
    return paths[0].rpartition(".")[2].removeprefix("/")


def _is_one_of(value: Any, numbers: tuple[float, ...]) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return bool(numbers) and is_number and value in numbers


def _met(rules: tuple[FlagRule, ...], entry: Body, packet: Body) -> str | None:
    """Return the field of the first rule that is met, None where none is."""
    for rule in rules:
        value = value_at(rule.path, entry, packet)
        if value is not None and value == value and _meets(rule, value):
            return _last(rule.path)
    return None


def _meets(rule: FlagRule, value: Any) -> bool:
    if rule.values is not None:
        return any(value == each and isinstance(value, bool) == isinstance(each, bool)
                   for each in rule.values)  # fmt: skip
    if rule.bits is not None:
        return bool((integer(_last(rule.path), value, 64) or 0) & rule.bits)
    if rule.outside is not None:
        number = real(_last(rule.path), value)
        return number is not None and not rule.outside[0] <= number <= rule.outside[1]
    return bool(value)


def _positive(paths: Paths, entry: Body, packet: Body) -> int:
    name = _last(paths)
    number: int = needed(name, integer(name, value_at(paths, entry, packet), 64))
    if number <= 0:
        raise BadPacket("bad_value", f"{name} {number} is not positive")
    return number


def _stock(spec: StockPath, packet: Body, label: str) -> tuple[int, str] | None:
    """Return stock and name of an object; None where the packet has no such."""
    name, value = _last(spec.id), value_at(spec.id, packet)
    if spec.ids == "integer":
        number = integer(name, value, 64)
        if not number:
            return None
        if number < 0:
            raise BadPacket("bad_value", f"{name} {number} is not positive")
        called = str(number)
    else:
        word = text(name, str(value) if isinstance(value, int) else value)
        if not word:
            return None
        called = word
        try:
            number = stock_of(word) if spec.ids == "ztf" else named_stock(label, word)
        except ValueError as error:
            raise BadPacket("bad_value", f"{name}: {error}") from None
    given = None if spec.name is None else value_at(spec.name, packet)
    return number, text(_last(spec.name or spec.id), given) or called


def _program(spec: int | Paths, entry: Body, packet: Body) -> int:
    if isinstance(spec, int):
        return spec
    name = _last(spec)
    found: int = needed(name, integer(name, value_at(spec, entry, packet)))
    return found


def _from_words(value: Any) -> float:
    """Return the JD of a date and time: what a decoder made of it, or text in ISO 8601."""
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            raise BadPacket("bad_value", f"time {value[:60]!r} is no date as ISO 8601") from None
    if not isinstance(value, datetime.datetime):
        raise BadPacket("bad_value", f"time {value!r} is no date")
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    jd = value.timestamp() / _DAY + _UNIX
    if not MJDS[0] < jd - _MJD < MJDS[1]:
        raise BadPacket("bad_value", f"time {value} is none of an observation")
    return jd


def _kept(packet: Body, records: Paths, unusable: int) -> str:
    """Return what an alert says beside the columns of the table, as JSON."""
    said: dict[str, Any] = scalars(packet)
    for record in records:
        found = value_at((record,), packet)
        if isinstance(found, Mapping) and (values := scalars(found)):
            said[record] = values
    if unusable:
        said["sources_without_flux"] = unusable
    return json.dumps(said, sort_keys=True)
