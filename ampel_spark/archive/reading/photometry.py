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
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.archive.ids import measured_id, table_alert_id
from ampel_spark.archive.reading.files import EMPTY, SETTINGS, Digest
from ampel_spark.archive.reading.quantities import (
    Measurements,
    check_columns,
    column_of,
    one_value,
    rows_of,
)
from ampel_spark.archive.reading.recipe import apply_recipe
from ampel_spark.archive.reading.rows import Packet, broken_row, point
from ampel_spark.archive.reading.surveys import PhotometrySettings, Survey
from ampel_spark.archive.reading.tables import FileTable, read_table
from ampel_spark.archive.reading.values import BadPacket, fitting
from ampel_spark.errors import ArchiveError

__all__ = ["objects_of", "read_objects", "read_photometry"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


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
        detail = str(error) if reason == SETTINGS else str(error).removeprefix(f"{path}: ")
        yield broken_row(path, digest.hexdigest(), reason, detail)
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
    text = [column for source in words if source is not None for column in source.columns]
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
    spec = _section(survey)
    check_columns(table, spec)
    rows, bad = rows_of(table, survey, spec)
    issued = _issued(table, spec)
    order, copies = _unrepeated(rows)
    rows = rows.take(order)
    own = _OwnColumns(table, survey)
    packets = []
    # rows are in order of stock
    starts = np.unique(rows.stock, return_index=True)[1].tolist()
    for a, b in itertools.pairwise([*starts, len(rows.stock)]):
        mine = rows.take(np.arange(a, b))
        notes = _calibrated(table, spec, mine)
        n_copies = copies.get(int(mine.stock[0]), 0)
        packets.append(
            _packet(table, survey, mine, issued, own, notes | {"repeated_rows": n_copies})
        )
    return packets, bad


def _calibrated(table: FileTable, spec: PhotometrySettings, rows: Measurements) -> dict[str, Any]:
    """Apply the recipe to the rows of an object, and return what is to be noted of it."""
    if spec.recipe is None:
        return {}
    done = apply_recipe(
        spec.recipe,
        np.flatnonzero(rows.status == ""),
        rows.jd,
        rows.number,
        lambda name: table.texts(name)[rows.place].tolist(),
        lambda name: table.parsed(name)[0][rows.place],
    )
    return {"recipe": done}


def _section(survey: Survey) -> PhotometrySettings:
    if survey.photometry is None:
        raise ArchiveError(f"survey {survey.name} has no section 'photometry'")
    return survey.photometry


def _unrepeated(rows: Measurements) -> tuple[Array, dict[int, int]]:
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
    table: FileTable,
    survey: Survey,
    rows: Measurements,
    issued: str,
    columns: _OwnColumns,
    notes: Mapping[str, Any],
) -> Packet:
    spec, stock, name = _section(survey), int(rows.stock[0]), str(rows.name[0])
    points, places = _points(survey, spec, rows)
    usable = rows.status == ""
    last = rows.jd[usable] if usable.any() else rows.jd
    ra, dec = _place(rows)
    odd: list[str] = []
    own_points = {p[0]: columns.of_row(i, odd) for p, i in zip(points, places, strict=True)}
    own_columns = columns.of_object(rows.place, odd)
    notes = {**notes, "issued": issued or None, "odd_values": odd[:3] or None}
    own = {
        **notes,
        "rows": len(rows.jd) + notes["repeated_rows"],
        "unusable_rows": int((~usable).sum()),
        "dropped_rows": len(rows.jd) - len(points),
        "redshift": _first(rows.number["redshift"]),
        "mwebv": _first(rows.number["mwebv"]),
        "jd_peak": _first(rows.number["peak"]),
        "header": _header(table, int(rows.place[0])),
    }
    shown, forced = ([p for p in points if (p[1] == "forced") == flag] for flag in (False, True))
    return Packet(
        file=str(table.path),
        member=name,
        survey=survey.label,
        name=name,
        stock=stock,
        alert_id=table_alert_id(survey.name, stock, issued, (p[0] for p in points)),
        # who may see the least sees the object; each point has its own program
        programid=int(rows.number["programid"].min()),
        jd=_jd_of(issued) if issued else float(last.max()),
        ra=ra,
        dec=dec,
        points=shown,
        forced=forced,
        own=json.dumps({k: v for k, v in own.items() if v is not None}, sort_keys=True),
        own_columns=own_columns,
        point_columns=[own_points[p[0]] for p in shown],
        forced_columns=[own_points[p[0]] for p in forced],
    )


def _points(
    survey: Survey, spec: PhotometrySettings, rows: Measurements
) -> tuple[list[tuple[Any, ...]], list[int]]:
    """Return the points of an object, and the row of the table that each is of."""
    points, places, seen = [], [], dict[tuple[Any, ...], int]()
    columns = {key: _nulls(values) for key, values in rows.number.items()}
    stock = int(rows.stock[0])
    for i, (jd, band, zpsys, status) in enumerate(
        zip(rows.jd.tolist(), rows.band, rows.zpsys, rows.status, strict=True)
    ):
        v = {key: values[i] for key, values in columns.items()}
        values = _measured(spec, v, status)
        if values is None:
            continue
        kind = values.pop("kind")
        field, rcid = (None if x is None else int(x) for x in (v["field"], v["rcid"]))
        key = (kind, jd, band, field, rcid)
        seen[key] = nth = seen.get(key, -1) + 1
        number = measured_id(kind, survey.name, stock, jd, band, field, rcid, nth)
        points.append(
            point(number, kind, jd, band, **values, zpsys=zpsys, programid=int(v["programid"] or 0),
                  survey_field=field, rcid=rcid, ra=v["ra"], dec=v["dec"], status=status or None)
        )  # fmt: skip
        places.append(int(rows.place[i]))
    return points, places


def _place(rows: Measurements) -> tuple[float | None, float | None]:
    """Return the position of an object: that of its last point that has one."""
    ra, dec = rows.number["ra"], rows.number["dec"]
    placed = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    return (float(ra[placed[-1]]), float(dec[placed[-1]])) if len(placed) else (None, None)


def _first(values: Floats) -> float | None:
    there = values[np.isfinite(values)]
    return float(there[0]) if len(there) else None


def _header(table: FileTable, row: int) -> dict[str, Any] | None:
    """Return what the file says of the object of a row; None where it tells none apart."""
    if not table.heads:
        return None
    place = int(table.of[row])
    found = {name: _plain(values[place]) for name, values in table.heads.items()}
    return {name: value for name, value in found.items() if value is not None}


class _OwnColumns:
    """The columns that a survey declares, of a table: a source is a column or an entry of a head.

    What the table lacks is null where the declarations are those of another survey (``of``).
    """

    def __init__(self, table: FileTable, survey: Survey) -> None:
        self._columns = {}
        for what in ("alerts", "points"):
            declared = getattr(survey.columns, what)
            self._columns[what] = {
                name: (column.type, column.source, self._values(table, survey, column.source))
                for name, column in declared.items()
            }

    @staticmethod
    def _values(table: FileTable, survey: Survey, source: str) -> list[Any]:
        if source in table.meta and source not in table.columns:
            return [_plain(table.meta[source])] * len(table)
        if survey.of is not None and source not in table.columns and source not in table.heads:
            return [None] * len(table)
        return [_plain(value) for value in table.column(source).tolist()]

    def of_row(self, row: int, odd: list[str]) -> dict[str, Any]:
        """Return the values of a point; `odd` takes what is wrong with one that becomes null."""
        return self._fitting("points", [row], odd)

    def of_object(self, rows: Array, odd: list[str]) -> dict[str, Any]:
        """Return the values of an object: of each column the first that is there."""
        return self._fitting("alerts", rows.tolist(), odd)

    def _fitting(self, what: str, rows: list[int], odd: list[str]) -> dict[str, Any]:
        found = {}
        for name, (kind, source, values) in self._columns[what].items():
            value = next((values[i] for i in rows if values[i] is not None), None)
            try:
                fitted = fitting(source, value, kind)
            except BadPacket as error:
                odd.append(str(error))
                continue
            if fitted is not None:
                found[name] = fitted
        return found


def _plain(value: Any) -> Any:
    """Return a value of a table as Python has it; None for nothing."""
    value = value.item() if isinstance(value, np.generic) else value
    value = value.decode(errors="replace").strip() if isinstance(value, bytes) else value
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) else None


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


def _issued(table: FileTable, spec: PhotometrySettings) -> str:
    if spec.issued is None or not len(table):
        return ""
    column = column_of(table, spec.issued)
    if column is not None:
        words = sorted({w for w in table.texts(column) if w})
        word = words[-1] if words else ""
    else:
        word = one_value(table, "issued", spec.issued)
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
