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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.archive.ids import measured_id, named_stock, stock_of, table_alert_id
from ampel_spark.archive.rows import Packet, bad_row, point
from ampel_spark.archive.surveys import FlagColumn, PhotometrySettings, Source, Survey
from ampel_spark.archive.tables import FileTable, read_table
from ampel_spark.errors import ArchiveError, nearest

__all__ = ["objects_of", "read_photometry"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_MJD = 2400000.5
# Of years 1600 to 2400: a time that is a date of any other kind is not in here.
_JD_RANGE = (2305447.5, 2597641.5)
_VALUES = ("flux", "fluxerr", "zp", "mag", "magerr", "limit")
_OPTIONAL = ("ra", "dec", "redshift", "field", "rcid")


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


def read_photometry(path: str, survey: Survey) -> FileTable:
    """Read the table in a file of a survey.

    Raises
    ------
    ArchiveError
        If the file cannot be read.
    """
    spec = _section(survey)
    text = [s.column for s in (spec.object, spec.band, spec.zpsys) if s.column is not None]
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
    for key in ("object", "time", "band", *_VALUES, *_OPTIONAL):
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
    names = _texts(table, "object", spec.object)
    jd = _numbers(table, spec.time) + (_MJD if spec.time.format == "mjd" else 0.0)
    timed = np.isfinite(jd)
    low, high = _JD_RANGE
    if timed.any() and not ((jd >= low) & (jd <= high))[timed].any():
        given = f"{jd[timed][0] - (_MJD if spec.time.format == 'mjd' else 0.0):.10g}"
        cure = "mjd" if spec.time.format == "jd" else "jd"
        raise ArchiveError(
            f"{path}: its times, such as {given}, are no {spec.time.format.upper()}:"
            f" give 'format: {cure}' in photometry.time"
        )
    number = {
        key: _numbers(table, getattr(spec, key), key in _OPTIONAL) for key in (*_VALUES, *_OPTIONAL)
    }
    good = (jd >= low) & (jd <= high) & (names != "")
    bad = [
        bad_row(
            path,
            f"row {i + 1}",
            repr([c[i] for c in table.columns.values()]).encode(),
            "bad_value",
            "no name of an object" if names[i] == "" else f"{names[i]}: its time is {jd[i]}",
        )
        for i in np.flatnonzero(~good)
    ]
    rows = _Rows(
        names,
        np.zeros(len(table), np.int64),
        jd,
        _texts(table, "band", spec.band),
        _texts(table, "zpsys", spec.zpsys),
        number,
        _status(table, spec, number),
        np.arange(len(table)),
    ).take(np.flatnonzero(good))
    known, inverse = np.unique(rows.name.astype(str), return_inverse=True)
    stocks = np.array([_stock(path, survey, spec, name) for name in known.tolist()], np.int64)
    rows.stock[:] = stocks[inverse]
    return rows, bad


def _stock(path: str, survey: Survey, spec: PhotometrySettings, name: str) -> int:
    try:
        if spec.ids == "ztf":
            return stock_of(name)
        return int(name) if spec.ids == "integer" else named_stock(survey.label, name)
    except ValueError as error:
        raise ArchiveError(
            f"{path}: object {name!r} has no id of kind 'ids: {spec.ids}': {error}"
        ) from None


def _status(table: FileTable, spec: PhotometrySettings, number: Mapping[str, Floats]) -> Array:
    """Say of each row why its measurement is not usable; empty where it is."""
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
    for flag in spec.unusable:
        marked, words = _flagged(table, flag)
        fresh = marked & (status == "")
        status[fresh] = words[fresh]
    return status


def _flagged(table: FileTable, flag: FlagColumn) -> tuple[npt.NDArray[np.bool_], Array]:
    if flag.values is not None and any(isinstance(v, str) for v in flag.values):
        words = table.texts(flag.column)
        marked = np.isin(words, [str(v) for v in flag.values])
    else:
        values = table.numbers(flag.column)
        words = np.array([f"{v:.10g}" for v in values.tolist()], object)
        if flag.bits is not None:
            whole = np.where(np.isfinite(values), values, 0).astype(np.int64)
            marked = (whole & flag.bits) != 0
        elif flag.values is not None:
            marked = np.isin(values, [float(v) for v in flag.values])
        else:
            low, high = flag.outside or (-np.inf, np.inf)
            marked = ~((values >= low) & (values <= high))
    return marked, np.array([f"{flag.column} {word}" for word in words], object)


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
            point(number, kind, jd, band, **values, zpsys=zpsys, programid=spec.programid,
                  survey_field=field, rcid=rcid, ra=v["ra"], dec=v["dec"], status=status or None)
        )  # fmt: skip
    usable = rows.status == ""
    placed = np.flatnonzero(np.isfinite(rows.number["ra"]) & np.isfinite(rows.number["dec"]))
    z = rows.number["redshift"][np.isfinite(rows.number["redshift"])]
    stock, name = int(rows.stock[0]), str(rows.name[0])
    last = rows.jd[usable] if usable.any() else rows.jd
    own = {
        "issued": issued or None,
        "rows": len(rows.jd) + copies,
        "repeated_rows": copies,
        "unusable_rows": int((~usable).sum()),
        "dropped_rows": dropped,
        "redshift": float(z[0]) if len(z) else None,
    }
    return Packet(
        file=path,
        member=name,
        survey=survey.label,
        name=name,
        stock=stock,
        alert_id=table_alert_id(survey.name, stock, issued, (p[0] for p in points)),
        programid=spec.programid,
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
        return {
            "kind": "detection", "mag": mag, "magerr": error, "limit": limit, "sign": 1,
            "flux": flux, "fluxerr": None if error is None else flux * error * np.log(10.0) / 2.5,
            "zp": 25.0,
        }  # fmt: skip
    return None if limit is None else {"kind": "upper_limit", "limit": limit, "sign": 0}


def _texts(table: FileTable, key: str, source: Source) -> Array:
    """Return a quantity as words, called as they are called here."""
    if source.column is not None:
        words = table.texts(source.column)
    else:
        words = np.full(len(table), _one(table, key, source), object)
    if not source.names:
        return words
    for i, word in enumerate(words):
        if word not in source.names:
            raise ArchiveError(
                f"{table.path}: {key} {word!r} in row {i + 1} is not among photometry.{key}.names"
                f"{nearest(word, source.names)}"
            )
    return np.array([source.names[word] for word in words], object)


def _numbers(table: FileTable, source: Source | None, optional: bool = False) -> Floats:
    if source is None:
        return np.full(len(table), np.nan)
    if source.column is not None:
        return table.numbers(source.column)
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
