"""ZTF packets shaped column by column: what `ztf.shape` does for one, for many.

Only packets about which nothing is odd are shaped here; all others are left to `shape`, the plain
twin of this, which says what is wrong with them. Both give the same rows, bit for bit.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from ampel_spark.archive.ids import JD_2017, forced_id, stock_of
from ampel_spark.archive.reading import ztf
from ampel_spark.archive.reading.avro import INTEGER, REAL, TEXT, TRUTH, Decoded
from ampel_spark.archive.reading.own import OWN
from ampel_spark.archive.reading.surveys import OwnColumn, OwnColumns
from ampel_spark.archive.reading.values import ERRORS, MAGNITUDES, POSITIONS
from ampel_spark.lake.parts import arrow_type

__all__ = ["OwnRows", "Shapes", "own_rows", "row_hashes", "shaped", "value_hashes"]

Array = npt.NDArray[Any]

_NUMBERS = (0, INTEGER, REAL)
_PRV, _FP = _LISTS = ("prv_candidates", "fp_hists")
_NEEDED = ("jd", "fid", "pid", "programid")


class Shapes:
    """Packets in canonical form, column by column; rows of points are those of good packets.

    Attributes
    ----------
    good : ndarray of bool with shape (packets,)
        Shaped here; the others' columns mean nothing.
    made : dict of str to sequence
        Columns of the alerts table that do not follow from others, with shape (packets,).
    points, forced : (dict of str to Arrow array, ndarray of int64)
        Columns of points, and the points of each packet (none of those that are not good).
    """

    def __init__(self, decoded: Decoded) -> None:
        self.decoded = decoded
        self.good = decoded.good.copy()
        self.made: dict[str, Any] = {}
        self.points: tuple[dict[str, pa.Array], Array] = ({}, np.zeros(0, np.int64))
        self.forced = self.points

    def demand(self, fine: Array, packet: Array | None = None) -> None:
        """Leave packets out for which, or for a row of which, something is not `fine`."""
        if packet is None:
            self.good &= fine
        else:
            self.good[packet[~fine]] = False

    def among(self, path: str, level: int, kinds: tuple[int, ...]) -> Array:
        """Say which values of a field are of some kinds."""
        kind = self.decoded.kind(path, level)
        fine = kind == kinds[0]
        for other in kinds[1:]:
            fine |= kind == other
        return fine

    def texts(self, path: str, level: int, packet: Array | None = None) -> list[str | None]:
        """Return a field as strings; demand that all are UTF-8."""
        try:
            return self.decoded.texts(path, level)
        except UnicodeDecodeError:
            found = self.decoded.texts(path, level, "surrogateescape")
        fine = np.array([text is None or _is_utf8(text) for text in found])
        self.demand(fine, packet)
        return [text if good else None for text, good in zip(found, fine, strict=True)]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shaped(decoded: Decoded, columns: OwnColumns | None = None) -> Shapes | None:
    """Shape decoded packets; None where a list is not what the survey's is.

    Parameters
    ----------
    decoded : Decoded
    columns : OwnColumns, optional
        What the survey declares.
    """
    columns = columns or OwnColumns()
    shapes = Shapes(decoded)
    if any(_is_read(path) for path in decoded.odd) or not decoded.fields.keys().isdisjoint(_LISTS):
        return None
    if not _are_plain(columns, decoded.odd):
        return None
    for name, level in ((_PRV, 1), (_FP, 2)):
        if any(
            field.level != level for path, field in decoded.fields.items()
            if path.startswith(f"{name}.")
        ) or (
            decoded.rows(level) and any(f"{name}.{k}" not in decoded.fields for k in _NEEDED)
        ):  # fmt: skip
            return None
    # Every text is looked at before points are made of the packets that are good.
    _candidate(shapes)
    _extra(shapes)
    own = own_rows(shapes, columns.alerts, [("", 0)])
    if own:
        shapes.made[OWN] = own.at(np.arange(decoded.rows(0)))
    points = own_rows(shapes, columns.points, [("candidate.", 0), (f"{_PRV}.", 1)])
    forced = own_rows(shapes, columns.points, [("", 2)])
    _points(shapes, points)
    _forced(shapes, forced)
    return shapes


def _are_plain(columns: OwnColumns, odd: frozenset[str]) -> bool:
    """Say whether declared columns are scalars of the packet, of its candidate or of its points."""
    alerts = {column.source for column in columns.alerts.values()}
    points = {column.source for column in columns.points.values()}
    if any("." in source.removeprefix("candidate.") for source in alerts):
        return False
    if any("." in source.removeprefix(f"{_FP}.") for source in points):
        return False
    return not odd & (alerts | {f"candidate.{source}" for source in points})


_KINDS = {"string": (0, TEXT), "int": (0, INTEGER), "bigint": (0, INTEGER), "boolean": (0, TRUTH),
          "float": _NUMBERS, "double": _NUMBERS}  # fmt: skip


class OwnRows:
    """Declared columns of rows that have any of them; of most points, which are limits, none has.

    Parameters
    ----------
    rows : ndarray of int64 with shape (N,)
        Numbers of these rows among all.
    columns : mapping of str to (ndarray, ndarray of bool) with shape (N,)
        Values, and which of them are null.
    types : StructType
        Of the columns.
    """

    def __init__(
        self, rows: Array, columns: Mapping[str, tuple[Array, Array]], types: pa.StructType
    ) -> None:
        self._rows, self._columns, self._types = rows, columns, types

    def at(self, order: Array) -> pa.StructArray:
        """Return the struct of the rows of `order`."""
        n = len(order)
        place = np.full(max(order.max(initial=-1), self._rows.max(initial=-1)) + 1, -1)
        place[order] = np.arange(n)
        place = place[self._rows]
        kept = place >= 0
        place = place[kept]
        nothing = np.ones(n, bool)
        children = []
        for field in self._types:
            values, null = (each[kept] for each in self._columns[field.name])
            nothing[place[~null]] = False
            dense, mask = np.zeros(n, values.dtype), np.zeros(n, bool)
            dense[place], mask[place] = values, null
            if values.dtype == object:
                mask |= dense == 0
            children.append(pa.array(dense, field.type, mask=mask if mask.any() else None))
        fields = list(self._types)
        return pa.StructArray.from_arrays(children, fields=fields, mask=pa.array(nothing))


def own_rows(
    shapes: Shapes,
    columns: Mapping[str, OwnColumn],
    records: Sequence[tuple[str, int]],
    given: Mapping[str, Array] = MappingProxyType({}),
) -> OwnRows | None:
    """Return declared columns of the rows of some records, one after the other; None: none are.

    Demand that the columns can hold all values.

    Parameters
    ----------
    shapes : Shapes
    columns : mapping of str to OwnColumn
    records : sequence of (str, int)
        What stands before the path of a record's field, and its level.
    given : mapping of str to ndarray, optional
        Values that are no fields, of all rows, by the path that is declared.
    """
    if not columns:
        return None
    d = shapes.decoded
    paths = {
        name: [(f"{record}{column.source}", level) for record, level in records]
        for name, column in columns.items()
    }
    rows = []
    for i, (_, level) in enumerate(records):
        any_there = np.zeros(d.rows(level), bool)
        for each in paths.values():
            if _is_at(d, *each[i]):
                any_there |= d.kind(*each[i]) != 0
        any_there |= any(column.source in given for column in columns.values())
        rows.append(np.flatnonzero(any_there))
    found: dict[str, tuple[Array, Array]] = {}
    for name, column in columns.items():
        if column.source in given:
            found[name] = given[column.source], np.zeros(len(given[column.source]), bool)
            continue
        parts = [
            _own_values(shapes, *place, column.type, at)
            for place, at in zip(paths[name], rows, strict=True)
        ]
        values, nulls = zip(*parts, strict=True)
        found[name] = np.concatenate(values), np.concatenate(nulls)
    before = np.cumsum([0, *(d.rows(level) for _, level in records)])
    numbers = np.concatenate([at + n for at, n in zip(rows, before, strict=False)])
    types = pa.struct([(name, arrow_type(column.type)) for name, column in columns.items()])
    return OwnRows(numbers, found, types)


def _is_at(decoded: Decoded, path: str, level: int) -> bool:
    return path in decoded.fields and decoded.fields[path].level == level


def _own_values(
    shapes: Shapes, path: str, level: int, type_name: str, rows: Array
) -> tuple[Array, Array]:
    """Return a declared column of some rows, and which of them are null; demand that all fit."""
    d = shapes.decoded
    dtype = _DTYPES.get(type_name, np.float64)
    if not _is_at(d, path, level):
        return np.zeros(len(rows), dtype), np.ones(len(rows), bool)
    packet = np.repeat(np.arange(d.rows(0)), d.counts[level]) if level else None
    column = d.fields[path].column
    kind, numbers = d.kinds[level][column][rows], d.numbers[level][column][rows]
    null = kind == 0
    fine = np.isin(kind, _KINDS[type_name])
    values: Any = numbers
    if type_name == "string":
        values = np.array(shapes.texts(path, level, packet), object)[rows]
    elif type_name == "boolean":
        values = numbers != 0
    elif type_name == "int":
        fine &= _fits(numbers) | null
    elif type_name != "bigint":
        values = np.where(kind == REAL, numbers.view(np.float64), numbers)
        null |= np.isnan(values)
        fine &= (type_name == "double") | null | ~(np.abs(values) > 3.4e38)
    if not fine.all():
        shapes.good[(rows if packet is None else packet[rows])[~fine]] = False
        null |= ~fine
    return np.where(null, dtype(0), values).astype(dtype), null


_DTYPES: Mapping[str, Any] = {
    "string": np.object_, "boolean": np.bool_, "int": np.int32, "bigint": np.int64,
    "float": np.float32,
}  # fmt: skip


def _is_read(path: str) -> bool:
    """Say whether `ztf.shape` looks at a field, which then must be a scalar."""
    if path in ("objectId", "candid", "schemavsn", *_LISTS):
        return True
    return "." in path and (ztf.is_known(path) or path.split(".")[0] in _LISTS)


def _candidate(shapes: Shapes) -> None:
    """Fill the columns of the packet and its candidate."""
    d, made = shapes.decoded, shapes.made
    for name in (*_NEEDED, "candid", "ra", "dec", "magpsf", "sigmapsf"):
        kinds = (INTEGER,) if name in ("fid", "pid", "programid", "candid") else (REAL, INTEGER)
        shapes.demand(shapes.among(f"candidate.{name}", 0, kinds))
    shapes.demand(shapes.among("objectId", 0, (TEXT,)))
    shapes.demand(shapes.among("schemavsn", 0, (0, TEXT)))
    candid = d.integers("candidate.candid", 0)
    kind = d.kind("candid", 0)
    shapes.demand((kind == 0) | ((kind == INTEGER) & (d.integers("candid", 0) == candid)))
    shapes.demand(candid > 0)
    shapes.demand(np.isin(d.integers("candidate.fid", 0), list(ztf.BANDS)))
    for name, (low, high) in ztf.RANGES.items():
        values = d.reals(f"candidate.{name}", 0)
        shapes.demand((values >= low) & (values <= high))

    names = shapes.texts("objectId", 0)
    stocks = np.zeros(len(names), np.int64)
    for i, text in enumerate(names):
        try:
            stocks[i] = stock_of(text or "")
        except ValueError:
            shapes.good[i] = False
    made["name"], made["stock"], made["alert_id"] = names, stocks, candid
    made["schema_version"] = shapes.texts("schemavsn", 0)
    for column in ztf.candidate_columns():
        made[column.name] = _column(shapes, f"candidate.{column.name}", column.type)


def _column(shapes: Shapes, path: str, type_name: str) -> pa.Array:
    d = shapes.decoded
    kind = d.kind(path, 0)
    if type_name == "string":
        shapes.demand(shapes.among(path, 0, (0, TEXT)))
        return pa.array(shapes.texts(path, 0), pa.string())
    if type_name in ("int", "bigint"):
        shapes.demand(shapes.among(path, 0, (0, INTEGER)))
        values = d.integers(path, 0)
        if type_name == "int":
            fits = _fits(values)
            shapes.demand(fits)
            values = np.where(fits, values, 0).astype(np.int32)
        return pa.array(values, mask=kind == 0)
    shapes.demand(shapes.among(path, 0, _NUMBERS))
    values = d.reals(path, 0)
    if type_name == "float":
        fits = ~(np.abs(values) > 3.4e38)
        shapes.demand(fits)
        values = np.where(fits, values, 0.0).astype(np.float32)
    return pa.array(values, mask=kind == 0)


def _fits(values: Array) -> Array:
    """Say which integers fit 32 bits."""
    return (values >= -(1 << 31)) & (values < 1 << 31)


def _both(shapes: Shapes, name: str, how: str) -> Array:
    """Return a field of the candidates and of their histories, one after the other."""
    return np.concatenate(
        [
            getattr(shapes.decoded, how)(f"candidate.{name}", 0),
            getattr(shapes.decoded, how)(f"{_PRV}.{name}", 1),
        ]
    )


def _points(shapes: Shapes, own: OwnRows | None) -> None:
    """Make points of candidates and histories: AMPEL's datapoints, as `ztf.shape` says."""
    d = shapes.decoded
    n = d.rows(0)
    packet = np.concatenate([np.arange(n), np.repeat(np.arange(n), d.counts[1])])
    names = (*_NEEDED, "candid", "diffmaglim", "rcid", "field", "ra", "dec")
    kind = {k: _both(shapes, k, "kind") for k in names}
    jd = _both(shapes, "jd", "reals")
    fid, pid, programid, candid, rcid, field = (
        _both(shapes, k, "integers") for k in ("fid", "pid", "programid", "candid", "rcid", "field")
    )
    limit = _both(shapes, "diffmaglim", "reals")
    limit[~np.isfinite(limit)] = np.nan
    mag, magerr = _both(shapes, "magpsf", "reals"), _both(shapes, "sigmapsf", "reals")
    place = {axis: _both(shapes, axis, "reals") for axis in POSITIONS}
    detected = (kind["candid"] == INTEGER) & (candid != 0)
    signs = _signs(shapes)
    with np.errstate(invalid="ignore"):
        used = detected | (limit >= 0)
        limit_fits = detected | ~(limit >= MAGNITUDES[1])
        limit[detected & ~_is_magnitude(limit)] = np.nan

    whole = np.ones(len(packet), bool)
    for k in ("fid", "pid", "programid"):
        whole &= kind[k] == INTEGER
    for k in ("candid", "rcid", "field"):
        whole &= (kind[k] == INTEGER) | (kind[k] == 0)
    for k in ("diffmaglim", "ra", "dec"):
        whole &= np.isin(kind[k], _NUMBERS)
    whole &= np.isin(fid, list(ztf.BANDS)) & limit_fits
    for values in (programid, rcid, field):
        whole &= _fits(values)
    with np.errstate(invalid="ignore"):
        whole &= (jd >= ztf.RANGES["jd"][0]) & (jd <= ztf.RANGES["jd"][1])
        measured = _is_magnitude(mag) & (magerr >= ERRORS[0]) & (magerr < ERRORS[1])
        for axis, (low, high) in POSITIONS.items():
            measured &= ((place[axis] >= low) & (place[axis] <= high)) | (kind[axis] == 0)
    measured &= (signs != 0) & (candid > 0)
    shapes.demand(whole & (measured | ~detected), packet)

    kept = used & shapes.good[packet]
    order = np.flatnonzero(kept)[np.argsort(packet[kept], kind="stable")]
    packet, detected = packet[order], detected[order]
    jd, fid, pid, limit = jd[order], fid[order], pid[order], limit[order]
    rcid_known = kind["rcid"][order] == INTEGER
    channel = np.where(rcid_known, rcid[order], pid % 10000 // 100)
    # AMPEL's id of an upper limit, as in ids.upper_limit_id
    days = np.trunc((JD_2017 - jd) * 1000000).astype(np.int64)
    thousandths = np.rint(np.where(detected, 0.0, limit) * 1000).astype(np.int64)
    ids = np.where(detected, candid[order], days * 10000000 - channel * 100000 - thousandths)
    _leave_out_repeated(shapes, ids, packet)
    stays = shapes.good[packet]
    order, packet, detected = order[stays], packet[stays], detected[stays]
    jd, fid, limit, ids, channel = jd[stays], fid[stays], limit[stays], ids[stays], channel[stays]
    rcid_known = rcid_known[stays]
    mag, magerr = mag[order], magerr[order]
    sign = np.where(detected, signs[order], 0)
    # The power by one number at a time: numpy's own for arrays may differ in the last bit.
    size = np.array([10.0**x for x in np.where(detected, -0.4 * (mag - ztf.ZP), 0.0).tolist()])
    flux = sign * size
    # A limit may have an error of infinity, which is not looked at.
    fluxerr = np.abs(flux * np.where(detected, magerr, 0.0)) * np.log(10.0) / 2.5
    seen = ~detected
    shapes.points = (
        {
            "datapoint_id": pa.array(ids),
            "kind": _words(np.where(detected, 0, 1), ("detection", "upper_limit")),
            "jd": pa.array(jd),
            "band": _bands(fid),
            "mag": pa.array(mag, mask=seen),
            "magerr": pa.array(magerr, mask=seen),
            "limit_mag": pa.array(limit, mask=np.isnan(limit)),
            "sign": pa.array(sign.astype(np.int32)),
            "flux": pa.array(flux, mask=seen),
            "fluxerr": pa.array(fluxerr, mask=seen),
            "zp": pa.array(np.full(len(ids), ztf.ZP), mask=seen),
            "zpsys": _words(np.zeros(len(ids), np.int64), ("ab",)),
            "programid": pa.array(programid[order].astype(np.int32)),
            "field": _integers(field, kind["field"] == 0, order),
            "rcid": pa.array(channel.astype(np.int32), mask=detected & ~rcid_known),
            "pid": pa.array(pid[stays] if len(pid) != len(ids) else pid),
            "ra": _reals(place["ra"], kind["ra"] == 0, order, seen),
            "dec": _reals(place["dec"], kind["dec"] == 0, order, seen),
            "procstatus": pa.nulls(len(ids), pa.string()),
            **({OWN: own.at(order)} if own else {}),
        },
        np.bincount(packet, minlength=n),
    )


def _leave_out_repeated(shapes: Shapes, ids: Array, packet: Array) -> None:
    """Leave out packets in which an id stands twice: which of them stays is for `ztf.shape`."""
    order = np.lexsort((ids, packet))
    a, b = order[:-1], order[1:]
    twice = (ids[a] == ids[b]) & (packet[a] == packet[b])
    shapes.good[packet[a[twice]]] = False


def _is_magnitude(values: Array) -> Array:
    return (values > MAGNITUDES[0]) & (values < MAGNITUDES[1])


def _signs(shapes: Shapes) -> Array:
    """Return what isdiffpos says of candidates and histories; 0 where it is no word of ours."""
    d = shapes.decoded
    data = np.frombuffer(d.buffer, np.uint8)
    sign_of = np.zeros(256, np.int64)
    for word, sign in ztf.SIGNS.items():
        sign_of[ord(word)] = sign
    parts = []
    for path, level in (("candidate.isdiffpos", 0), (f"{_PRV}.isdiffpos", 1)):
        field = d.fields.get(path)
        if field is None:
            parts.append(np.zeros(d.rows(level), np.int64))
            continue
        one = (d.kind(path, level) == TEXT) & (d.lengths[level][field.column] == 1)
        parts.append(one * sign_of[data[np.where(one, d.numbers[level][field.column], 0)]])
    return np.concatenate(parts)


def _forced(shapes: Shapes, own: OwnRows | None) -> None:
    """Make points of forced photometry."""
    d = shapes.decoded
    n = d.rows(0)
    packet = np.repeat(np.arange(n), d.counts[2])

    def path(name: str) -> str:
        return f"{_FP}.{name}"

    fine = np.ones(len(packet), bool)
    for name in ("fid", "pid", "programid"):
        fine &= shapes.among(path(name), 2, (INTEGER,))
    for name in ("field", "rcid"):
        fine &= shapes.among(path(name), 2, (0, INTEGER))
    for name in ("diffmaglim", "forcediffimflux", "forcediffimfluxunc", "magzpsci"):
        fine &= shapes.among(path(name), 2, _NUMBERS)
    fine &= shapes.among(path("procstatus"), 2, (0, TEXT))
    status = np.array(shapes.texts(path("procstatus"), 2, packet), dtype=object)
    fid, pid, programid, field, rcid = (
        d.integers(path(k), 2) for k in ("fid", "pid", "programid", "field", "rcid")
    )
    for values in (programid, field, rcid):
        fine &= _fits(values)
    fine &= np.isin(fid, list(ztf.BANDS))
    jd = d.reals(path("jd"), 2)
    flux, fluxerr, zp = measured = [
        d.reals(path(k), 2) for k in ("forcediffimflux", "forcediffimfluxunc", "magzpsci")
    ]
    with np.errstate(invalid="ignore"):
        fine &= (jd >= ztf.RANGES["jd"][0]) & (jd <= ztf.RANGES["jd"][1])
        usable = fluxerr > 0
        for values in measured:
            usable &= np.isfinite(values) & (values > ztf.SENTINEL)
        # Well within what can be (`values.check_flux`): what is not is for `ztf.shape`.
        usual = (zp >= 20.0) & (zp < MAGNITUDES[1]) & (np.abs(flux) < 1e8) & (fluxerr < 1e8)
    shapes.demand(fine & (usual | ~usable), packet)

    kept = np.flatnonzero(shapes.good[packet])
    stocks = shapes.made["stock"][packet].tolist()
    no_field, no_rcid = d.kind(path("field"), 2) == 0, d.kind(path("rcid"), 2) == 0
    ids = np.array(
        [
            forced_id(stocks[i], jd_i, fid_i, None if a else field_i, None if b else rcid_i)
            for i, jd_i, fid_i, field_i, a, rcid_i, b in zip(
                kept.tolist(), *(x[kept].tolist() for x in (jd, fid, field, no_field, rcid,
                                                            no_rcid)), strict=True)
        ],
        np.int64,
    )  # fmt: skip
    _leave_out_repeated(shapes, ids, packet[kept])
    stays = shapes.good[packet[kept]]
    kept, ids = kept[stays], ids[stays]
    flux, fluxerr, zp, usable = (values[kept] for values in (*measured, usable))
    limit = d.reals(path("diffmaglim"), 2)[kept]
    with np.errstate(invalid="ignore"):
        no_limit = ~_is_magnitude(limit)
    none = np.ones(len(kept), bool)
    empty = np.zeros(len(kept))
    shapes.forced = (
        {
            "datapoint_id": pa.array(ids),
            "kind": _words(np.zeros(len(kept), np.int64), ("forced",)),
            "jd": pa.array(jd[kept]),
            "band": _bands(fid[kept]),
            "mag": pa.array(empty, mask=none),
            "magerr": pa.array(empty, mask=none),
            "limit_mag": pa.array(limit, mask=no_limit),
            "sign": pa.array(np.where(flux < 0, -1, 1).astype(np.int32), mask=~usable),
            "flux": pa.array(flux, mask=~usable),
            "fluxerr": pa.array(fluxerr, mask=~usable),
            "zp": pa.array(zp, mask=~usable),
            "zpsys": _words(np.zeros(len(kept), np.int64), ("ab",)),
            "programid": pa.array(programid[kept].astype(np.int32)),
            "field": _integers(field, no_field, kept),
            "rcid": _integers(rcid, no_rcid, kept),
            "pid": pa.array(pid[kept]),
            "ra": pa.array(empty, mask=none),
            "dec": pa.array(empty, mask=none),
            "procstatus": pa.array(status[kept].tolist(), pa.string()),
            **({OWN: own.at(kept)} if own else {}),
        },
        np.bincount(packet[kept], minlength=n),
    )


def _extra(shapes: Shapes) -> None:
    """Keep scalars that the survey's schema does not have, as JSON."""
    d = shapes.decoded
    unknown = [
        path for path, field in d.fields.items() if field.level == 0 and not ztf.is_known(path)
    ]
    found: list[dict[str, Any]] = [{} for _ in range(d.rows(0))]
    for path in unknown:
        kinds, texts = d.kind(path, 0).tolist(), shapes.texts(path, 0)
        integers, reals = d.integers(path, 0).tolist(), d.reals(path, 0).tolist()
        truths = d.numbers[0][d.fields[path].column].tolist()
        for i, kind in enumerate(kinds):
            if kind:
                values = (None, integers[i], reals[i], texts[i], bool(truths[i]))
                if kind != REAL or math.isfinite(reals[i]):
                    found[i][path] = values[kind]
    shapes.made["extra"] = [json.dumps(x, sort_keys=True) if x else None for x in found]


def _words(codes: Array, words: tuple[str, ...]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), list(words)).cast(
        pa.string()
    )


def _bands(fid: Array) -> pa.Array:
    codes = np.full(len(fid), -1)
    for code, value in enumerate(ztf.BANDS):
        codes[fid == value] = code
    indices = pa.array(codes.astype(np.int32), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, list(ztf.BANDS.values())).cast(pa.string())


def _integers(values: Array, null: Array, order: Array) -> pa.Array:
    return pa.array(values[order].astype(np.int32), mask=null[order])


def _reals(values: Array, null: Array, order: Array, none: Array) -> pa.Array:
    return pa.array(values[order], mask=null[order] | none)


def value_hashes(columns: Mapping[str, pa.Array]) -> Array:
    """Return a 64-bit hash over all values of each point, its id apart.

    Parameters
    ----------
    columns : mapping of str to Arrow array
        By the names of `ztf.POINT_COLUMNS`.
    """
    apart = ("datapoint_id", "value_hash")
    return row_hashes(columns[name] for name, _ in ztf.POINT_COLUMNS if name not in apart)


def row_hashes(columns: Iterable[pa.Array]) -> Array:
    """Return a 64-bit hash over each row of columns: numbers, text, lists of such, and of points.

    Null and NaN are one, and so are 0.0 and -0.0. Of a point in a list count the id and the hash of
    its values.
    """
    return _hashed([_bits(column) for column in columns]).view(np.int64)


def _hashed(bits: Sequence[Array]) -> Array:
    found = np.zeros(len(bits[0]), np.uint64)
    for each in bits:
        found = _mixed(each ^ (found + _GOLDEN))
    return found


def _mixed(z: Array) -> Array:
    """Mix bits, as splitmix64 does."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _bits(column: pa.Array) -> Array:
    if pa.types.is_list(column.type):
        return _list_bits(column)
    if pa.types.is_struct(column.type):
        return _hashed([_bits(column.field(k)) for k in ("datapoint_id", "value_hash")])
    if pa.types.is_string(column.type):
        encoded = column.dictionary_encode()
        words = [_word(word) for word in encoded.dictionary.to_pylist()]
        codes = np.asarray(encoded.indices.fill_null(len(words)))
        return np.array([*words, 0], np.uint64)[codes]
    if pa.types.is_integer(column.type):
        whole = np.asarray(column.cast(pa.int64()).fill_null(0)).view(np.uint64)
        return np.where(np.asarray(column.is_null()), _NULL, whole) if column.null_count else whole
    values = np.asarray(column.cast(pa.float64()).fill_null(np.nan)) + 0.0
    return np.where(np.isnan(values), np.nan, values).view(np.uint64)


def _list_bits(column: pa.ListArray) -> Array:
    """Return a sum over the elements, each mixed with its place in the list."""
    counts = np.asarray(column.value_lengths().fill_null(0)).astype(np.int64)
    ends = np.cumsum(counts)
    place = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
    each = _mixed(_bits(column.flatten()) + (place + 1).astype(np.uint64) * _GOLDEN)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(each, dtype=np.uint64)])
    return sums[ends] - sums[ends - counts] + counts.astype(np.uint64)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_NULL = np.uint64(0x7FF8000000000000)


@functools.lru_cache(maxsize=1024)
def _word(word: str) -> int:
    return xxhash.xxh64_intdigest(word.encode())
