"""Readers of events: GCN notices (JSON), tables of circulars (CSV and others), and sky maps (FITS).

Settings in ``conf/events`` say where a notice has what (`EventSettings`): a new sender is a file
there. What is wrong with one notice or row costs that one, and is named.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ampel_spark.bounds import cure, limit
from ampel_spark.dialects import DialectError
from ampel_spark.errors import ConfigError, nearest
from ampel_spark.events.event import ELLIPSE, NONE, QUARTERS, RETRACTION, Event
from ampel_spark.problems import read_model
from ampel_spark.settings import conf_file, find_conf
from ampel_spark.sky.skymaps import SkyMap, read_skymap
from ampel_spark.tabular import format_of, read_file

__all__ = [
    "EventSettings",
    "Notices",
    "event_of",
    "is_json",
    "julian",
    "load_settings",
    "read_notices",
]

_Field = Literal[
    "event", "revision", "type", "time", "sent", "pipeline", "ra", "dec", "error", "minor", "angle",
    "east", "west", "north", "south", "containment", "map", "map_url", "energy", "signalness",
    "far", "distance", "distance_err",
]  # fmt: skip

#: Settings of what comes without its sender's name, by what it is.
_DEFAULT = {"json": "gcn", "table": "table"}
#: Kinds of notices, as senders call them.
_TYPES = {
    "initial": "initial", "preliminary": "initial", "earlywarning": "initial", "update": "update",
    "retraction": RETRACTION,
}  # fmt: skip
#: Julian days that a number must lie in, to be a time: years 1900 to 2150.
_JD = (2415020.0, 2506331.0)


class _Of(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    of: str


class EventSettings(BaseModel):
    """Where the notices of a sender have what: a file of ``conf/events``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = Field(default="", description="what these notices are")
    sender: str | _Of = Field(description="who reports; or 'of', where a notice says so")
    marks: tuple[str, ...] = Field(
        default=(), description="keys by which a notice of this sender is known"
    )
    fields: Mapping[_Field, tuple[str, ...]] = Field(
        description="places of each field, as event.time; the first that has a value counts"
    )
    time_format: str | None = Field(
        default=None, description="form of times without a zone, which are UTC, as IC%y%m%d"
    )
    containment: float = Field(
        default=0.9, gt=0.0, lt=1.0, description="probability of a region that says none"
    )


@dataclass(frozen=True)
class Notices:
    """Events that were read, and in a sentence each what was left out or passed over."""

    events: Sequence[Event] = ()
    left_out: Sequence[str] = ()
    notes: Sequence[str] = field(default=())


def load_settings(name: str) -> EventSettings:
    """Return the settings of a sender: the name of a file of ``conf/events``, or a path.

    Raises
    ------
    ConfigError
        If there is no such file, or something is wrong with it.
    """
    return read_model(conf_file("events", name), EventSettings)


def read_notices(
    paths: Sequence[Path],
    settings: EventSettings | None = None,
    given: Mapping[str, Any] | None = None,
) -> Notices:
    """Read events from files.

    Parameters
    ----------
    paths : sequence of Path
        JSON: one notice, a list of notices, or a notice a line; FITS: a sky map; and tables of any
        format, a row for each event.
    settings : EventSettings, optional
        Where notices have what; by default those of GCN, of LVK or of ``conf/events/table.yml``.
    given : mapping, optional
        What the files do not say, or say wrongly: ``event``, ``sender``, ``time``, ``revision``,
        ``type``.
    """
    events: list[Event] = []
    left_out: list[str] = []
    notes: list[str] = []
    for path in paths:
        try:
            for where, notice in _records(path):
                try:
                    found, said = _read(notice, path, settings, given or {})
                except ConfigError as error:
                    left_out.append(f"{where}: {error}")
                else:
                    events.append(found)
                    notes += [f"{where}: {text}" for text in said]
        except ConfigError as error:  # of the file, which ends here
            left_out.append(str(error))
    return Notices(events, left_out, notes)


def event_of(
    notice: Mapping[str, Any],
    settings: EventSettings,
    folder: Path = Path(),
    given: Mapping[str, Any] | None = None,
) -> tuple[Event, list[str]]:
    """Return the event of one notice, and what was passed over of it.

    Parameters
    ----------
    notice : mapping
        A notice, or a row of a table.
    settings : EventSettings
    folder : Path, optional
        Where sky maps that the notice names lie.
    given : mapping, optional
        As for `read_notices`.

    Raises
    ------
    ConfigError
        If a field is missing or wrong.

    Examples
    --------
    >>> notice = {"mission": "IceCube", "event_name": ["IceCube-230416A"], "ra": 345.82,
    ...     "dec": 9.01, "ra_dec_error": 0.5, "trigger_time": "2023-04-16T16:54:14Z"}
    >>> found, notes = event_of(notice, load_settings("gcn"))
    >>> found.event, found.shape, found.major, found.containment
    ('IceCube-230416A', 'ellipse', 0.5, 0.9)
    """
    has = _Reader(notice, settings, given or {})
    name = has.text("event")
    if name is None:
        raise ConfigError(f"{has.places('event')}: the notice names no event")
    kind = _type_of(has.text("type"))
    sender = has.sender()
    common: dict[str, Any] = {
        "type": kind,
        "revision": has.revision(),
        "sent": has.time("sent", needed=False),
        "pipeline": has.text("pipeline"),
    }
    if kind == RETRACTION:
        jd = has.time("time", needed=False)
        return Event(name, sender, math.nan if jd is None else jd, NONE, **common), []
    for key in ("energy", "signalness", "far", "distance", "distance_err"):
        common[key] = has.number(key)
    jd = has.time("time")
    assert jd is not None  # it is needed
    skymap, notes = _map_of(has, folder)
    if skymap is not None:
        return Event.of_map(name, sender, skymap, jd, **common), notes
    return Event(name, sender, jd, **common, **_shape_of(has)), notes


def julian(value: Any, where: str, form: str | None = None) -> float:
    """Return a time as JD (UTC).

    Parameters
    ----------
    value : str, float or datetime
        ISO 8601 with its zone, or a JD.
    where : str
        How errors name it.
    form : str, optional
        Form of a text without a zone, for `datetime.datetime.strptime`; the time is UTC.

    Raises
    ------
    ConfigError
        If it is no time, or a text without zone.

    Examples
    --------
    >>> julian("2018-11-01T22:22:46+00:00", "time")
    2458424.4324768516
    >>> julian("IC191001A", "Event", "IC%y%m%d")
    2458757.5
    """
    moment = value
    if isinstance(value, str):
        try:
            if form is not None:
                moment = _by_form(value, form).replace(tzinfo=datetime.UTC)
            else:
                number = value.strip()
                moment = float(number) if _is_number(number) else datetime.datetime.fromisoformat(
                    number.removesuffix("UTC").strip() + ("Z" if number.endswith("UTC") else "")
                )  # fmt: skip
        except ValueError:
            raise ConfigError(f"{where} {value!r} is no time: give 2023-04-16T16:54:14Z") from None
    if isinstance(moment, datetime.datetime):
        if moment.tzinfo is None:
            raise ConfigError(f"{where} {value!r} has no zone: give 2023-04-16T16:54:14Z for UTC")
        return moment.timestamp() / 86400.0 + 2440587.5
    if isinstance(moment, int | float) and _JD[0] < moment < _JD[1]:
        return float(moment)
    raise ConfigError(f"{where} {value!r} is no time: give 2023-04-16T16:54:14Z, or a JD")


def _by_form(value: str, form: str) -> datetime.datetime:
    """Return the time at the begin of a text: a name goes on after the day."""
    for end in range(len(value), 0, -1):
        try:
            return datetime.datetime.strptime(value[:end], form)
        except ValueError:
            continue
    raise ValueError(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _Reader:
    """The fields of a notice, by the settings of its sender."""

    def __init__(
        self, notice: Mapping[str, Any], settings: EventSettings, given: Mapping[str, Any]
    ) -> None:
        self.notice, self.settings, self.given = notice, settings, given

    def places(self, name: str) -> str:
        """Return how errors name a field: the places where it was looked for."""
        found = self.settings.fields.get(name, ())  # type: ignore[call-overload]
        return " or ".join(found) or name

    def value(self, name: str) -> Any:
        """Return the value of a field; None where it has none."""
        if self.given.get(name) is not None:
            return self.given[name]
        for place in self.settings.fields.get(name, ()):  # type: ignore[call-overload]
            found = _at(self.notice, place)
            if found is not None and found != "" and found != [] and found == found:
                return found
        return None

    def text(self, name: str) -> str | None:
        value = self.value(name)
        value = value[0] if isinstance(value, list) and value else value
        return None if value is None else str(value).strip()

    def number(self, name: str) -> float | None:
        value = self.value(name)
        if value is None:
            return None
        try:
            found = float(value)
        except (TypeError, ValueError):
            found = math.nan
        if isinstance(value, bool) or not math.isfinite(found):
            raise ConfigError(f"{self.places(name)}: {value!r} is no number")
        return found

    def needed(self, name: str) -> float:
        value = self.number(name)
        if value is None:
            raise ConfigError(f"{self.places(name)} is missing")
        return value

    def size(self, name: str) -> float:
        """Return an error to one side, degrees; tables have those to the west and south below 0."""
        value = abs(self.needed(name))
        if not 0 < value <= 180:
            raise ConfigError(f"{self.places(name)}: {value:g} is no error in degrees")
        return value

    def revision(self) -> int | None:
        value = self.number("revision")
        if value is None:
            return None
        if value != int(value) or value < 0:
            raise ConfigError(f"{self.places('revision')}: {value:g} is no revision: 0, 1, 2 …")
        return int(value)

    def time(self, name: str, needed: bool = True) -> float | None:
        value = self.value(name)
        if value is None:
            if needed:
                raise ConfigError(f"{self.places(name)} is missing: an event has a time")
            return None
        form = None if name in self.given else self.settings.time_format
        return julian(value, self.places(name), form if name == "time" else None)

    def sender(self) -> str:
        if self.given.get("sender"):
            return str(self.given["sender"])
        said = self.settings.sender
        if isinstance(said, str):
            return said
        found = _at(self.notice, said.of)
        return "unknown" if found is None else str(found)


def _at(notice: Any, place: str) -> Any:
    """Return what a notice has at a place, as ``event.time`` or ``error.0``."""
    if isinstance(notice, Mapping) and place in notice:
        found = notice[place]
        if isinstance(found, str) and found.strip().startswith("["):
            with_list = _listed(found)
            return found if with_list is None else with_list
        return found
    head, _, rest = place.rpartition(".")
    if not head:
        return None
    inner = _at(notice, head)
    if isinstance(inner, list) and rest.isdecimal():
        return inner[int(rest)] if int(rest) < len(inner) else None
    return inner.get(rest) if isinstance(inner, Mapping) else None


def _listed(text: str) -> list[Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def _type_of(text: str | None) -> str:
    word = (text or "initial").strip().lower()
    if word not in _TYPES:
        raise ConfigError(f"{word!r} is no kind of notice{nearest(word, _TYPES)}")
    return _TYPES[word]


def _shape_of(has: _Reader) -> dict[str, Any]:
    ra, dec = has.needed("ra"), has.needed("dec")
    if not (-360 <= ra <= 360 and -90 <= dec <= 90):
        raise ConfigError(f"{ra:g} {dec:g} is no position: degrees, declination within -90 to 90")
    containment = has.number("containment")
    containment = has.settings.containment if containment is None else containment
    if 1 < containment <= 100:
        containment /= 100
    if not 0 < containment < 1:
        raise ConfigError(f"{has.places('containment')}: {containment:g} is no probability")
    found: dict[str, Any] = {"ra": ra % 360.0, "dec": dec, "containment": containment}
    if has.value("east") is not None or "error" not in has.settings.fields:
        return found | {"shape": QUARTERS} | {k: has.size(k) for k in _SIDES}
    error = has.value("error")
    if isinstance(error, list) and len(error) != 1:
        if len(error) != 3:
            raise ConfigError(
                f"{has.places('error')} has {len(error)} numbers: give a radius, or semi-major "
                "axis, semi-minor axis and position angle"
            )
        inner = EventSettings(sender="", fields={"error": ("0",), "minor": ("1",), "angle": ("2",)})
        has = _Reader({str(i): v for i, v in enumerate(error)}, inner, {})
    elif isinstance(error, list):
        has = _Reader({"0": error[0]}, EventSettings(sender="", fields={"error": ("0",)}), {})
    major = has.size("error")
    minor = major if has.value("minor") is None else has.size("minor")
    angle = has.number("angle") or 0.0
    if minor > major:
        major, minor, angle = minor, major, angle + 90.0
    return found | {"shape": ELLIPSE, "major": major, "minor": minor, "angle": angle % 180.0}


_SIDES = ("east", "west", "north", "south")


def _map_of(has: _Reader, folder: Path) -> tuple[SkyMap | None, list[str]]:
    """Return the sky map of a notice, if it has one, and what is to be said of it."""
    text = has.value("map")
    if text is not None:
        return _decoded(str(text), has.places("map")), []
    url = has.text("map_url")
    if url is None:
        return None, []
    path = Path(url.removeprefix("file://"))
    for file in (path, folder / path, folder / path.name):
        if file.is_file():
            return read_skymap(file), []
    if has.value("ra") is None:
        raise ConfigError(
            f"{has.places('map_url')}: the map {url} is not here, and the notice has no circle: "
            f"save the map as {folder / path.name}"
        )
    return None, [f"the map {url} is not here: its circle was taken; with the map as "
                  f"{folder / path.name} that is taken"]  # fmt: skip


def _decoded(text: str, where: str) -> SkyMap:
    """Return the sky map of base64 text."""
    if len(text) > limit("table"):
        raise ConfigError(f"{where}: {len(text)} characters are too many: {cure('table')}")
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"{where} is no base64: {error}") from None
    suffix = ".fits.gz" if data[:2] == b"\x1f\x8b" else ".fits"
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(data)
        file.flush()
        try:
            return read_skymap(file.name)
        except ConfigError as error:
            raise ConfigError(str(error).replace(file.name, where)) from None


def _of_map(skymap: SkyMap, given: Mapping[str, Any], source: str) -> Event:
    name = given.get("event") or skymap.about.get("object")
    if name is None:
        raise ConfigError("the head has no OBJECT: give --event NAME")
    time = given.get("time")
    jd = skymap.about.get("jd") if time is None else julian(time, "time")
    if jd is None:
        raise ConfigError("the head has neither DATE-OBS nor MJD-OBS: give --time")
    sender = given.get("sender") or ("LVK" if "diststd" in skymap.about else "unknown")
    kind = _type_of(given.get("type"))
    return Event.of_map(str(name).strip(), str(sender), skymap, float(jd), type=kind,
                        revision=given.get("revision"), source=source)  # fmt: skip


def _read(
    notice: Any, path: Path, settings: EventSettings | None, given: Mapping[str, Any]
) -> tuple[Event, list[str]]:
    """Return the event of what a file holds: a notice, a row, a map, or what is wrong with it."""
    if isinstance(notice, ConfigError):
        raise notice
    if isinstance(notice, SkyMap):
        return _of_map(notice, given, path.name), []
    if not isinstance(notice, Mapping):
        raise ConfigError(f"a notice is a mapping, and this is {type(notice).__name__}")
    chosen = settings or _settings_of(notice, path)
    found, notes = event_of(notice, chosen, path.parent, given)
    return replace(found, source=path.name), notes


def _settings_of(notice: Mapping[str, Any], path: Path) -> EventSettings:
    """Return the settings that fit a notice: those whose marks it has, else the general ones."""
    kind = "json" if is_json(path) else "table"
    lvk = load_settings("lvk") if find_conf("events", "lvk") is not None else None
    if lvk is not None and any(mark in notice for mark in lvk.marks):
        return lvk
    return load_settings(_DEFAULT[kind])


def is_json(path: Path) -> bool:
    """Return whether the name of a file says that it holds notices."""
    return path.name.lower().endswith((".json", ".jsonl"))


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield what a file holds, each with how errors name it."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    if path.name.lower().endswith((".fits", ".fit", ".fits.gz", ".fit.gz")):
        yield str(path), read_skymap(path)
    elif is_json(path):
        yield from _notices_in(path)
    else:
        yield from _rows_in(path)


def _notices_in(path: Path) -> Iterator[tuple[str, Any]]:
    if path.stat().st_size > limit("table"):
        raise ConfigError(f"{path} is too large: {cure('table')}")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    try:
        found = json.loads(text)
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            found = [json.loads(line) for line in lines]
        except ValueError:
            raise ConfigError(f"{path} is no JSON: {error}") from None
        if len(lines) < 2:
            raise ConfigError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, list):
        yield str(path), found
        return
    for i, notice in enumerate(found, start=1):
        yield f"{path}, notice {i}", notice


def _rows_in(path: Path) -> Iterator[tuple[str, Any]]:
    kind = format_of(path)
    if kind is None:
        raise ConfigError(f"{path}: neither a notice (.json), a sky map (.fits) nor a table (.csv)")
    try:
        read = read_file(path, kind)
    except DialectError as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    for line, text in read.odd:
        yield f"{path}, line {line}", ConfigError(text)
    for i, row in enumerate(read.table.to_pylist(), start=1):
        yield f"{path}, row {i}", row
