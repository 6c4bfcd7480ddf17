"""Photometry tables: each object of a table becomes what a packet is to the lake.

Fluxes become forced measurements, magnitudes detections and upper limits. A row that repeats
another one is dropped and counted; a measurement that is not usable stays, with a status and
without a flux; a row without a time or a name is quarantined. What is wrong with the survey's
settings, as a column that the file does not have, is an error.
"""

from __future__ import annotations

import datetime
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.archive.ids import measured_id, named_stock, stock_of, table_alert_id
from ampel_spark.archive.reading.files import EMPTY, SETTINGS, Digest
from ampel_spark.archive.reading.rows import Packet, bad_row, broken_row, point
from ampel_spark.archive.reading.surveys import FlagColumn, PhotometrySettings, Source, Survey
from ampel_spark.archive.reading.tables import FileTable, read_table
from ampel_spark.archive.reading.values import SIGNS
from ampel_spark.errors import ArchiveError, nearest

__all__ = ["objects_of", "read_objects", "read_photometry"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_MJD = 2400000.5
# Of years 1600 to 2400: a time that is a date of any other kind is not in here.
_JD_RANGE = (2305447.5, 2597641.5)
_VALUES = ("flux", "fluxerr", "zp", "mag", "magerr", "limit")
_OPTIONAL = ("ra", "dec", "redshift", "ebv", "field", "rcid")
# What is beyond these is none: no magnitude is -99 or 99, and no redshift -9.
_RANGES = {"mag": (-30.0, 40.0), "limit": (-30.0, 40.0), "magerr": (-np.inf, 30.0),
           "redshift": (-1.0, 100.0), "ebv": (0.0, 100.0)}  # fmt: skip
# A whole number as floats are written.
_FLOAT_ID = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE]\+?[0-9]{1,3})|[+-]?[0-9]{16,}\.0*")


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a table, their quantities by name: one array each."""

    name: Array
    stock: npt.NDArray[np.int64]
    jd: Floats
    band: Array
    zpsys: Array
    number: Mapping[str, Floats]
    status: Array
    place: npt.NDArray[np.int64]

    def take(self, index: Array) -> _Rows:
        numbers = {key: values[index] for key, values in self.number.items()}
        return _Rows(self.name[index], self.stock[index], self.jd[index], self.band[index],
                     self.zpsys[index], numbers, self.status[index], self.place[index])  # fmt: skip


def read_objects(
    path: str, survey: Survey, digest: Digest, _: str | None = None
) -> Iterator[Packet | dict[str, Any]]:
    """Yield the objects of a table, and the rows of what could not be taken.

    Parameters
    ----------
    path : str
    survey : Survey
        With a section ``photometry``.
    digest : Digest
        Over the whole file.
    """
    reason = "broken_archive"
    try:
        table = read_photometry(path, survey)
        reason = SETTINGS
        good, bad = objects_of(table, survey)
    except ArchiveError as error:
        yield broken_row(path, digest.hexdigest(), reason, str(error))
        return
    if not good and not bad:
        yield broken_row(path, digest.hexdigest(), EMPTY, "the table has no row")
    yield from bad
    yield from good


def read_photometry(path: str, survey: Survey) -> FileTable:
    """Read the table in a file of a survey.

    Raises
    ------
    ArchiveError
        If the file cannot be read.
    """
    spec = _section(survey)
    words = (spec.object, spec.band, spec.zpsys, spec.sign)
    text = [s.column for s in words if s is not None and s.column is not None]
    return read_table(path, spec.format, text)


def objects_of(table: FileTable, survey: Survey) -> tuple[list[Packet], list[dict[str, Any]]]:
    """Return the objects of a table, and the rows that could not be taken.

    Parameters
    ----------
    table : FileTable
    survey : Survey
        With a section ``photometry``.

    Raises
    ------
    ArchiveError
        If the table is not what the survey's settings say.
    """
    spec, path = _section(survey), str(table.path)
    for key in ("object", "time", "band", "sign", *_VALUES, *_OPTIONAL):
        source = getattr(spec, key)
        if source is not None and source.column is not None:
            table.column(source.column)  # what the table lacks is told, however many rows it has
    rows, bad = _rows(path, table, survey, spec)
    issued = _issued(table, spec)
    order, copies = _unrepeated(rows)
    rows = rows.take(order)
    packets = []
    # rows are in order of stock
    starts = np.unique(rows.stock, return_index=True)[1].tolist()
    for a, b in itertools.pairwise([*starts, len(rows.stock)]):
        mine = rows.take(np.arange(a, b))
        n_copies = copies.get(int(mine.stock[0]), 0)
        packets.append(_packet(path, survey, spec, mine, issued, n_copies))
    return packets, bad


def _section(survey: Survey) -> PhotometrySettings:
    if survey.photometry is None:
        raise ArchiveError(f"survey {survey.name} has no section 'photometry'")
    return survey.photometry


def _rows(
    path: str, table: FileTable, survey: Survey, spec: PhotometrySettings
) -> tuple[_Rows, list[dict[str, Any]]]:
    why = np.full(len(table), "", object)
    names = _names(table, spec, why)
    stocks = _stocks(table, survey, spec, names, why)
    jd = _times(table, spec, why)
    number = {
        key: _numbers(table, key, getattr(spec, key), why, spec.missing, key in _OPTIONAL)
        for key in (*_VALUES, *_OPTIONAL)
    }
    _check_places(number, why)
    number["sign"] = _signs(table, spec, number, why)
    number["programid"] = _programids(table, spec, why)
    status = _status(table, spec, number)
    bands, systems = (_texts(table, key, getattr(spec, key), why) for key in ("band", "zpsys"))
    bad = [
        bad_row(path, f"row {i + 1}", repr([c[i] for c in table.columns.values()]).encode(),
                "bad_value", f"{names[i]}: {why[i]}".removeprefix(": "))
        for i in np.flatnonzero(why != "")
    ]  # fmt: skip
    bad += [
        bad_row(path, f"line {line}", text.encode(), "bad_value",
                f"too many or too few values: {text[:100]!r}")
        for line, text in table.odd
    ]  # fmt: skip
    rows = _Rows(names, stocks, jd, bands, systems, number, status, np.arange(len(table)))
    return rows.take(np.flatnonzero(why == "")), bad


def _blame(
    table: FileTable,
    wrong: npt.NDArray[np.bool_],
    why: Array,
    words: Callable[[int], str],
    there: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Put down what is wrong with some rows of a table.

    A row that cannot be read costs itself. The settings are wrong where no value of those `there`
    is right; without `there`, where more than one row in a hundred is wrong, or all of them are.

    Raises
    ------
    ArchiveError
        If the settings are.
    """
    places = np.flatnonzero(wrong)
    if there is None:
        too_many = len(places) > max(1, len(table) // 100) or 0 < len(places) == len(table)
    else:
        too_many = 1 < len(places) == there.sum()
    if too_many:
        raise ArchiveError(
            f"{table.path}: {words(places[0])}; row {places[0] + 1}, one of {len(places)} of"
            f" {len(table)} rows"
        )
    for i in places.tolist():
        why[i] = why[i] or words(i)


def _names(table: FileTable, spec: PhotometrySettings, why: Array) -> Array:
    """Return the names of the objects; ids that lost digits in a float are none."""
    column = spec.object.column
    names = _texts(table, "object", spec.object, why, optional=True)
    if column is not None:
        values = table.column(column).tolist()
        lost = np.array([_lost_digits(v) for v in values], bool)
        _blame(
            table, lost, why,
            lambda i: f"id {values[i]!r} in column {column!r} went through a floating-point number,"
            " which has no more than 2^53 whole numbers: write the ids as integers or as text",
        )  # fmt: skip
    nameless = (names == "") & (why == "")
    why[nameless] = "no name of an object"
    return names


def _lost_digits(value: Any) -> bool:
    """Say whether an id is, or was written from, a float that is too large to be exact."""
    if isinstance(value, bytes | str):
        word = value.decode(errors="replace") if isinstance(value, bytes) else value
        return _FLOAT_ID.fullmatch(word.strip()) is not None and abs(float(word)) >= 2**53
    return isinstance(value, float) and abs(value) >= 2**53


def _stocks(
    table: FileTable, survey: Survey, spec: PhotometrySettings, names: Array, why: Array
) -> npt.NDArray[np.int64]:
    known, inverse = np.unique(names.astype(str), return_inverse=True)
    ids, faults = np.zeros(len(known), np.int64), dict[int, str]()
    for i, name in enumerate(known.tolist()):
        try:
            ids[i] = _stock(survey, spec, name) if name else 0
        except ValueError as error:
            faults[i] = f"object {name!r} has no id of kind 'ids: {spec.ids}': {error}"
    wrong = np.isin(inverse, list(faults)) & (why == "")
    _blame(table, wrong, why, lambda i: faults[int(inverse[i])])
    return ids[inverse]


def _stock(survey: Survey, spec: PhotometrySettings, name: str) -> int:
    if spec.ids == "ztf":
        return stock_of(name)
    if spec.ids == "name":
        return named_stock(survey.label, name)
    whole = re.fullmatch(r"([+-]?[0-9]+)(?:\.0+)?", name)
    if whole is None:
        raise ValueError("it is no whole number; 'ids: name' takes any word")
    number = int(whole[1])
    if not -(2**63) <= number < 2**63:
        raise ValueError("it is beyond 2^63, the largest id here: give 'ids: name'")
    return number


def _times(table: FileTable, spec: PhotometrySettings, why: Array) -> Floats:
    jd = _numbers(table, "time", spec.time, why) + (_MJD if spec.time.format == "mjd" else 0.0)
    timed = np.isfinite(jd)
    low, high = _JD_RANGE
    within = (jd >= low) & (jd <= high)
    if timed.any() and not within[timed].any():
        given = f"{jd[timed][0] - (_MJD if spec.time.format == 'mjd' else 0.0):.10g}"
        cure = "mjd" if spec.time.format == "jd" else "jd"
        raise ArchiveError(
            f"{table.path}: its times, such as {given}, are no {spec.time.format.upper()}:"
            f" give 'format: {cure}' in photometry.time"
        )
    for i in np.flatnonzero(~within).tolist():
        why[i] = why[i] or f"its time is {jd[i]}"
    return jd


def _check_places(number: dict[str, Floats], why: Array) -> None:
    """Put down rows whose position, field or channel cannot be; what is beyond a range is none."""
    for key, (low, high) in _RANGES.items():
        with np.errstate(invalid="ignore"):
            number[key] = np.where(
                (number[key] >= low) & (number[key] <= high), number[key], np.nan
            )
    ra, dec = number["ra"], number["dec"]
    for key, values, low, high in (("ra", ra, -180.0, 360.0), ("dec", dec, -90.0, 90.0)):
        for i in np.flatnonzero(~np.isnan(values) & ~((values >= low) & (values <= high))).tolist():
            why[i] = why[i] or f"{key} is {values[i]}: no position within {low:g} to {high:g} deg"
    number["ra"] = np.where(ra < 0, ra + 360.0, ra)
    for key in ("field", "rcid"):
        values = number[key]
        whole = (np.abs(values) < 2**31) & (values == np.floor(values))
        for i in np.flatnonzero(~np.isnan(values) & ~whole).tolist():
            why[i] = why[i] or f"{key} is {values[i]}: no whole number below 2^31"


def _signs(
    table: FileTable, spec: PhotometrySettings, number: Mapping[str, Floats], why: Array
) -> Floats:
    """Return the sign of each magnitude's difference: 1, -1, or NaN where there is none."""
    source = spec.sign
    if spec.mag is None:
        return np.full(len(table), np.nan)
    if source is None:
        named = [c for c in table.columns if re.split("[:.]", c)[-1].lower() == "isdiffpos"]
        if not named:
            return np.ones(len(table))
        if len(named) > 1:
            raise ArchiveError(
                f"{table.path}: {' and '.join(named)} may both be the sign of the difference: say"
                " which one it is, as photometry.sign"
            )
        source = Source(column=named[0])
    words = _texts(table, "sign", source, why, optional=True)
    signs = np.array([SIGNS.get(w.lower(), np.nan) for w in words.tolist()], np.float64)
    unsaid = np.isnan(signs) & np.isfinite(number["mag"])
    _blame(
        table, unsaid, why,
        lambda i: f"sign {words[i]!r} is none of {', '.join(SIGNS)} (photometry.sign)",
        np.isfinite(number["mag"]),
    )  # fmt: skip
    return signs


def _programids(table: FileTable, spec: PhotometrySettings, why: Array) -> Floats:
    """Return the program of each row: a column where there is one, and no number is given."""
    column = spec.programid
    if isinstance(column, int):
        if "programid" in spec.model_fields_set or "programid" not in table.columns:
            return np.full(len(table), float(column))
        column = "programid"
    values = _numbers(table, "programid", Source(column=column), why)
    wrong = ~((np.abs(values) < 2**31) & (values == np.floor(values)))
    _blame(table, wrong, why, lambda i: f"programid is {values[i]}: no program of a survey",
           np.ones(len(table), bool))  # fmt: skip
    return values


def _status(table: FileTable, spec: PhotometrySettings, number: dict[str, Floats]) -> Array:
    """Say of each row why its measurement is not usable; empty where it is.

    The limit of a magnitude that is there and not usable, or of a flagged row, is no limit: the
    object may shine in that image.
    """
    status = np.full(len(table), "", object)
    value, error = ("flux", "fluxerr") if spec.flux is not None else ("mag", "magerr")
    missing = ~np.isfinite(number[value])
    status[missing] = f"no {value}"
    if value == "flux":
        for key in ("fluxerr", "zp"):
            lacking = ~np.isfinite(number[key]) & (status == "")
            status[lacking] = f"no {key}"
    unsound = (number[error] <= 0) & (status == "")
    status[unsound] = f"{error} not above 0"
    clear = missing.copy()
    for flag in spec.unusable:
        marked, words, said = _flagged(table, flag)
        fresh = marked & (status == "")
        status[fresh] = words[fresh]
        clear &= ~(marked & said)
    if spec.mag is not None:
        number["limit"] = np.where((status == "") | clear, number["limit"], np.nan)
    return status


def _flagged(
    table: FileTable, flag: FlagColumn
) -> tuple[npt.NDArray[np.bool_], Array, npt.NDArray[np.bool_]]:
    """Return which rows are marked, what to say of each, and where the column says anything."""
    if flag.values is not None and any(isinstance(v, str) for v in flag.values):
        words = table.texts(flag.column)
        marked, said = np.isin(words, [str(v) for v in flag.values]), words != ""
    else:
        values, wrong = table.parsed(flag.column)
        words = np.array([f"{v:.10g}" for v in values.tolist()], object)
        words[wrong] = table.texts(flag.column)[wrong]
        said = wrong | ~np.isnan(values)
        if flag.bits is not None:
            whole = np.where(np.abs(values) < 2**63, values, 0).astype(np.int64)
            marked = ((whole & flag.bits) != 0) | (np.abs(values) >= 2**63)
        elif flag.values is not None:
            marked = np.isin(values, [float(v) for v in flag.values])
        else:
            low, high = flag.outside or (-np.inf, np.inf)
            marked = ~((values >= low) & (values <= high))
        # A flag that cannot be read is no leave to use the row.
        marked |= wrong
    return marked, np.array([f"{flag.column} {word}" for word in words], object), said


def _unrepeated(rows: _Rows) -> tuple[Array, dict[int, int]]:
    """Return the order of rows (object, time, band, …) without copies, and copies by object."""
    filled = [np.nan_to_num(values, nan=np.inf) for values in rows.number.values()]
    words = [np.unique(w.astype(str), return_inverse=True)[1] for w in (rows.band, rows.zpsys)]
    keys = [*filled[::-1], *words[::-1], rows.jd, rows.stock]
    order = np.lexsort(keys)
    if not len(order):
        return order, {}
    same = np.ones(len(order) - 1, bool)
    for key in keys:
        same &= key[order][1:] == key[order][:-1]
    copy = np.r_[False, same]
    stocks, counts = np.unique(rows.stock[order[copy]], return_counts=True)
    return order[~copy], dict(zip(stocks.tolist(), counts.tolist(), strict=True))


def _packet(
    path: str, survey: Survey, spec: PhotometrySettings, rows: _Rows, issued: str, copies: int
) -> Packet:
    points, seen = [], dict[tuple[Any, ...], int]()
    columns = {key: _nulls(values) for key, values in rows.number.items()}
    dropped = 0
    for i, (jd, band, zpsys, status) in enumerate(
        zip(rows.jd.tolist(), rows.band, rows.zpsys, rows.status, strict=True)
    ):
        v = {key: values[i] for key, values in columns.items()}
        values = _measured(spec, v, status)
        if values is None:
            dropped += 1
            continue
        kind = values.pop("kind")
        field, rcid = (None if x is None else int(x) for x in (v["field"], v["rcid"]))
        key = (kind, jd, band, field, rcid)
        seen[key] = nth = seen.get(key, -1) + 1
        number = measured_id(kind, survey.name, int(rows.stock[0]), jd, band, field, rcid, nth)
        points.append(
            point(number, kind, jd, band, **values, zpsys=zpsys, programid=int(v["programid"] or 0),
                  survey_field=field, rcid=rcid, ra=v["ra"], dec=v["dec"], status=status or None)
        )  # fmt: skip
    usable = rows.status == ""
    placed = np.flatnonzero(np.isfinite(rows.number["ra"]) & np.isfinite(rows.number["dec"]))
    z, ebv = (rows.number[k][np.isfinite(rows.number[k])] for k in ("redshift", "ebv"))
    stock, name = int(rows.stock[0]), str(rows.name[0])
    last = rows.jd[usable] if usable.any() else rows.jd
    own = {
        "issued": issued or None,
        "rows": len(rows.jd) + copies,
        "repeated_rows": copies,
        "unusable_rows": int((~usable).sum()),
        "dropped_rows": dropped,
        "redshift": float(z[0]) if len(z) else None,
        "ebv": float(ebv[0]) if len(ebv) else None,
    }
    return Packet(
        file=path,
        member=name,
        survey=survey.label,
        name=name,
        stock=stock,
        alert_id=table_alert_id(survey.name, stock, issued, (p[0] for p in points)),
        # who may see the least sees the object; each point has its own program
        programid=int(rows.number["programid"].min()),
        jd=_jd_of(issued) if issued else float(last.max()),
        ra=float(rows.number["ra"][placed[-1]]) if len(placed) else None,
        dec=float(rows.number["dec"][placed[-1]]) if len(placed) else None,
        points=[p for p in points if p[1] != "forced"],
        forced=[p for p in points if p[1] == "forced"],
        own=json.dumps({k: v for k, v in own.items() if v is not None}, sort_keys=True),
    )


def _measured(
    spec: PhotometrySettings, v: Mapping[str, float | None], status: str
) -> dict[str, Any] | None:
    """Return kind and values of a row; None if it holds no measurement at all."""
    limit = v["limit"]
    if spec.flux is not None:
        flux = None if status else v["flux"]
        return {
            "kind": "forced",
            "limit": limit,
            "sign": None if flux is None else -1 if flux < 0 else 1,
            "flux": flux,
            "fluxerr": None if status else v["fluxerr"],
            "zp": None if status else v["zp"],
        }
    mag, error = v["mag"], v["magerr"]
    if not status and mag is not None:
        flux = 10.0 ** (-0.4 * (mag - 25.0))
        sign = int(v["sign"] or 1)
        return {
            "kind": "detection", "mag": mag, "magerr": error, "limit": limit, "sign": sign,
            "flux": sign * flux, "zp": 25.0,
            "fluxerr": None if error is None else flux * error * np.log(10.0) / 2.5,
        }  # fmt: skip
    return None if limit is None else {"kind": "upper_limit", "limit": limit, "sign": 0}


def _texts(
    table: FileTable, key: str, source: Source, why: Array, *, optional: bool = False
) -> Array:
    """Return a quantity as words, called as they are called here."""
    if source.column is not None:
        words = table.texts(source.column)
    else:
        words = np.full(len(table), _one(table, key, source), object)
    if source.names:
        known = np.isin(words, list(source.names))
        _blame(
            table, ~known, why,
            lambda i: f"{key} {words[i]!r} in row {i + 1} is not among photometry.{key}.names"
            f"{nearest(words[i], source.names)}",
        )  # fmt: skip
        words = np.array([source.names.get(word, "") for word in words], object)
    elif not optional:
        _blame(table, words == "", why, lambda i: f"no {key}")
    return words


def _numbers(
    table: FileTable,
    key: str,
    source: Source | None,
    why: Array,
    missing: Sequence[float | str] = (),
    optional: bool = False,
) -> Floats:
    if source is None:
        return np.full(len(table), np.nan)
    if source.column is not None:
        values, wrong = table.parsed(source.column)
        words = table.column(source.column)
        for nothing in missing:
            if isinstance(nothing, str) and wrong.any():
                wrong &= table.texts(source.column) != nothing
            elif not isinstance(nothing, str):
                values = np.where(values == nothing, np.nan, values)
        _blame(
            table, wrong, why,
            lambda i: f"{key} is {words[i]!r} in column {source.column!r}: no number",
            wrong | np.isfinite(values),
        )  # fmt: skip
        return values
    if optional and source.meta is not None and source.meta not in table.meta:
        return np.full(len(table), np.nan)
    word = _one(table, "number", source)
    try:
        return np.full(len(table), float(word))
    except ValueError:
        raise ArchiveError(
            f"{table.path}: {source.meta or source.file or source.path} is {word!r}, no number"
        ) from None


def _one(table: FileTable, key: str, source: Source) -> str:
    """Return the one value that a source has for the whole table."""
    if source.value is not None:
        return str(source.value)
    if source.meta is not None:
        return str(table.header(source.meta)).strip()
    text = table.path.name if source.file is not None else table.path.as_posix()
    match = re.search(source.file or source.path or "", text)
    if match is None:
        raise ArchiveError(
            f"{table.path}: no {key} in its name: {source.file or source.path!r} does not fit"
        )
    return match[1]


def _issued(table: FileTable, spec: PhotometrySettings) -> str:
    if spec.issued is None or not len(table):
        return ""
    if spec.issued.column is not None:
        words = sorted({w for w in table.texts(spec.issued.column) if w})
        word = words[-1] if words else ""
    else:
        word = _one(table, "issued", spec.issued)
    match = re.match(r"(\d{4})-?(\d\d)-?(\d\d)", word)
    try:
        return datetime.date(*map(int, match.groups())).isoformat() if match else _no_date(word)
    except ValueError:
        raise ArchiveError(f"{table.path}: issued is {word!r}, no date: write YYYY-MM-DD") from None


def _no_date(word: str) -> str:
    raise ValueError(word)


def _jd_of(issued: str) -> float:
    # ordinal 1 is 0001-01-01, which begins at JD 1721425.5
    return datetime.date.fromisoformat(issued).toordinal() + 1721424.5


def _nulls(values: Floats) -> list[float | None]:
    plain: list[float | None] = values.tolist()
    for i in np.flatnonzero(~np.isfinite(values)).tolist():
        plain[i] = None
    return plain
