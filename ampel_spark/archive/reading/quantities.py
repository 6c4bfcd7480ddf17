"""Quantities of photometry tables: what a survey's settings name becomes arrays, one value a row.

A row that cannot be read costs itself. What is wrong with the settings, as a column that the file
does not have or a band without a name, is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ampel_spark.archive.ids import named_stock, stock_of
from ampel_spark.archive.reading.rows import bad_row
from ampel_spark.archive.reading.surveys import FlagColumn, PhotometrySettings, Source, Survey
from ampel_spark.archive.reading.tables import FileTable
from ampel_spark.archive.reading.values import SIGNS
from ampel_spark.errors import ArchiveError, nearest

__all__ = ["Measurements", "check_columns", "column_of", "one_value", "rows_of"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_MJD = 2400000.5
# Of years 1600 to 2400: a time that is a date of any other kind is not in here.
_JD_RANGE = (2305447.5, 2597641.5)
_VALUES = ("flux", "fluxerr", "zp", "mag", "magerr", "limit")
_OPTIONAL = ("ra", "dec", "redshift", "mwebv", "peak", "field", "rcid")
# What is beyond these is none: no magnitude is -99 or 99, and no redshift or extinction -9.
_RANGES = {"mag": (-30.0, 40.0), "limit": (-30.0, 40.0), "magerr": (-np.inf, 30.0),
           "redshift": (-1.0, 100.0), "mwebv": (0.0, 100.0)}  # fmt: skip
# A whole number as floats are written.
_FLOAT_ID = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE]\+?[0-9]{1,3})|[+-]?[0-9]{16,}\.0*")


@dataclass(frozen=True, eq=False)
class Measurements:
    """The rows of a table, their quantities by name: one array each.

    Attributes
    ----------
    name, band, zpsys, status : ndarray of str
        Of the object, as called here, and why the measurement is not usable, if it is not.
    stock : ndarray of int64
    jd : ndarray of float
        Times [d].
    number : mapping of str to ndarray of float
        Quantities by their names in the settings, and ``sign`` and ``programid``; NaN is nothing.
    place : ndarray of int
        Their places in the table.
    """

    name: Array
    stock: npt.NDArray[np.int64]
    jd: Floats
    band: Array
    zpsys: Array
    number: Mapping[str, Floats]
    status: Array
    place: npt.NDArray[np.int64]

    def take(self, index: Array) -> Measurements:
        """Return some of the rows, which are copies."""
        numbers = {key: values[index] for key, values in self.number.items()}
        return Measurements(self.name[index], self.stock[index], self.jd[index], self.band[index],
                     self.zpsys[index], numbers, self.status[index], self.place[index])  # fmt: skip


def check_columns(table: FileTable, spec: PhotometrySettings) -> None:
    """Refuse a table that lacks a column which the settings name, however many rows it has.

    Raises
    ------
    ArchiveError
        If it does.
    """
    for key in ("object", "time", "band", "sign", *_VALUES, *_OPTIONAL):
        source = getattr(spec, key)
        if source is not None and source.column is not None:
            table.column(str(column_of(table, source)))
    for column in (spec.ccd, spec.quadrant, *(spec.recipe.columns() if spec.recipe else ())):
        if column is not None:
            table.column(column)


def rows_of(
    table: FileTable, survey: Survey, spec: PhotometrySettings
) -> tuple[Measurements, list[dict[str, Any]]]:
    """Return the rows of a table, and those that could not be taken.

    Parameters
    ----------
    table : FileTable
    survey : Survey
    spec : PhotometrySettings
        Its section ``photometry``.

    Raises
    ------
    ArchiveError
        If the table is not what the settings say.
    """
    path = str(table.path)
    why = np.full(len(table), "", object)
    names = _names(table, spec, why)
    stocks = _stocks(table, survey, spec, names, why)
    jd = _times(table, spec, why)
    number = {
        key: _numbers(table, key, getattr(spec, key), why, spec.missing, key in _OPTIONAL)
        for key in (*_VALUES, *_OPTIONAL)
    }
    if spec.ccd is not None and spec.quadrant is not None:
        number["rcid"] = _channels(table, spec.ccd, spec.quadrant, why)
    peak = np.where(number["peak"] > 0, number["peak"], np.nan)  # -9 is none
    number["peak"] = _julian(peak, spec.time.format)
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
    rows = Measurements(names, stocks, jd, bands, systems, number, status, np.arange(len(table)))
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
    source = spec.object
    if table.heads and column_of(table, source) is None:
        # a file that tells its objects apart itself has their names
        source = source.model_copy(update={
            "file": None, "path": None, "value": None, "column": next(iter(table.heads))
        })  # fmt: skip
    column = column_of(table, source)
    names = _texts(table, "object", source, why, optional=True)
    if column is not None:
        values = table.column(column).tolist()
        most = 24 if column in table.singles else 53
        lost = np.array([_lost_digits(v, 2.0**most) for v in values], bool)
        _blame(
            table, lost, why,
            lambda i: f"id {values[i]!r} in column {column!r} went through a floating-point number,"
            f" which has no more than 2^{most} whole numbers: write the ids as integers or as text",
        )  # fmt: skip
    nameless = (names == "") & (why == "")
    why[nameless] = "no name of an object"
    return names


def _lost_digits(value: Any, most: float) -> bool:
    """Say whether an id is, or was written from, a float that is too large to be exact.

    Floats of a column that has them in single precision end at `most`, all others at 2^53.
    """
    if isinstance(value, bytes | str):
        word = value.decode(errors="replace") if isinstance(value, bytes) else value
        return _FLOAT_ID.fullmatch(word.strip()) is not None and abs(float(word)) >= 2**53
    return isinstance(value, float) and abs(value) >= most


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


def _julian(times: Floats, written: str) -> Floats:
    """Return times as JD; those that are `either` are JD where they are as large."""
    if written == "jd":
        return times
    return np.where((times > _MJD) & (written == "either"), times, times + _MJD)


def _times(table: FileTable, spec: PhotometrySettings, why: Array) -> Floats:
    given = _numbers(table, "time", spec.time, why)
    jd = _julian(given, spec.time.format)
    timed = np.isfinite(jd)
    low, high = _JD_RANGE
    within = (jd >= low) & (jd <= high)
    if timed.any() and not within[timed].any():
        first = f"{given[timed][0]:.10g}"
        cure = "mjd" if spec.time.format == "jd" else "jd"
        raise ArchiveError(
            f"{table.path}: its times, such as {first}, are no {spec.time.format.upper()}:"
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


def _channels(table: FileTable, ccd: str, quadrant: str, why: Array) -> Floats:
    """Return ZTF's readout channels, 0 to 63, of CCDs (1 to 16) and quadrants (0 to 3)."""
    chip, part = (_numbers(table, n, Source(column=n), why) for n in (ccd, quadrant))
    wrong = ~((chip >= 1) & (chip <= 16) & (part >= 0) & (part <= 3))
    _blame(table, wrong, why,
           lambda i: f"{ccd} {chip[i]:g} and {quadrant} {part[i]:g} are no CCD 1 to 16 and quadrant"
           " 0 to 3", np.ones(len(table), bool))  # fmt: skip
    return 4.0 * (chip - 1.0) + part


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
    is_text = flag.codes is not None or any(isinstance(v, str) for v in flag.values or ())
    marked, words, said = (_of_words if is_text else _of_numbers)(table, flag)
    return marked, np.array([f"{flag.column} {word}" for word in words], object), said


def _of_words(
    table: FileTable, flag: FlagColumn
) -> tuple[npt.NDArray[np.bool_], Array, npt.NDArray[np.bool_]]:
    words = table.texts(flag.column)
    if flag.codes is None:
        return np.isin(words, [str(v) for v in flag.values or ()]), words, words != ""
    codes = {str(code) for code in flag.codes}
    listed = [{*re.split(r"[,;\s]+", word)} for word in words.tolist()]
    return np.array([bool(one & codes) for one in listed], bool), words, words != ""


def _of_numbers(
    table: FileTable, flag: FlagColumn
) -> tuple[npt.NDArray[np.bool_], Array, npt.NDArray[np.bool_]]:
    values, wrong = table.parsed(flag.column)
    words = np.array([f"{v:.10g}" for v in values.tolist()], object)
    words[wrong] = table.texts(flag.column)[wrong]
    if flag.bits is not None:
        whole = np.where(np.abs(values) < 2**63, values, 0).astype(np.int64)
        marked = ((whole & flag.bits) != 0) | (np.abs(values) >= 2**63)
    elif flag.values is not None:
        marked = np.isin(values, [float(v) for v in flag.values])
    else:
        low, high = flag.outside or (-np.inf, np.inf)
        marked = ~((values >= low) & (values <= high))
    # A flag that cannot be read is no leave to use the row.
    return marked | wrong, words, wrong | ~np.isnan(values)


def _texts(
    table: FileTable, key: str, source: Source, why: Array, *, optional: bool = False
) -> Array:
    """Return a quantity as words, called as they are called here."""
    column = column_of(table, source)
    if column is not None:
        words = table.texts(column)
    else:
        words = np.full(len(table), one_value(table, key, source), object)
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
    column = column_of(table, source)
    if column is not None:
        values, wrong = table.parsed(column)
        words = table.column(column)
        for nothing in missing:
            if isinstance(nothing, str) and wrong.any():
                wrong &= table.texts(column) != nothing
            elif not isinstance(nothing, str):
                values = np.where(values == nothing, np.nan, values)
        _blame(
            table, wrong, why,
            lambda i: f"{key} is {words[i]!r} in column {column!r}: no number",
            wrong | np.isfinite(values),
        )  # fmt: skip
        return values
    if optional and source.entries and not any(name in table.meta for name in source.entries):
        return np.full(len(table), np.nan)
    word = one_value(table, "number", source)
    try:
        return np.full(len(table), float(word))
    except ValueError:
        raise ArchiveError(
            f"{table.path}: {source.meta or source.file or source.path} is {word!r}, no number"
        ) from None


def column_of(table: FileTable, source: Source) -> str | None:
    """Return the column that a source is; an entry of the heads of objects is one.

    Of several names it is the first that the table has, or else the first; None for no column.

    Parameters
    ----------
    table : FileTable
    source : Source
    """
    entry = next((name for name in source.entries if name in table.heads), None)
    if entry is not None:
        return entry
    there = {name.lstrip("#") for name in (*table.columns, *table.heads)}
    names = source.columns
    return next((n for n in names if n.lstrip("#") in there), names[0] if names else None)


def one_value(table: FileTable, key: str, source: Source) -> str:
    """Return the one value that a source has for the whole table.

    Parameters
    ----------
    table : FileTable
    key : str
        What it is, for messages.
    source : Source
        No column.

    Raises
    ------
    ArchiveError
        If header or name of the file do not have it.
    """
    if source.value is not None:
        return str(source.value)
    if source.entries:
        entry = next((n for n in source.entries if n in table.meta), source.entries[0])
        return str(table.header(entry)).strip()
    text = table.path.name if source.file is not None else table.path.as_posix()
    match = re.search(source.file or source.path or "", text)
    if match is None:
        raise ArchiveError(
            f"{table.path}: no {key} in its name: {source.file or source.path!r} does not fit"
        )
    return match[1]
