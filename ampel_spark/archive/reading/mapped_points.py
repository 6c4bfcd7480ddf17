"""Points of mapped packets, column by column: what `mapping` makes of one entry, for many.

What the mapper would say of an entry (a band without a name, a flux that cannot be) leaves its
packet to the mapper. Powers and logarithms are taken one number at a time, for numpy's own may
differ in the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampel_spark.archive.ids import measured_id
from ampel_spark.archive.reading.avro import INTEGER, REAL, TEXT, TRUTH
from ampel_spark.archive.reading.columns import OwnRows, Shapes
from ampel_spark.archive.reading.fields import PacketRows
from ampel_spark.archive.reading.mapping import MJDS, WITHDRAWN
from ampel_spark.archive.reading.own import OWN
from ampel_spark.archive.reading.packet_map import PacketSettings, PointList
from ampel_spark.archive.reading.values import (
    ERRORS,
    MAGNITUDES,
    POSITIONS,
    BadPacket,
    sign_of,
)

__all__ = ["PointRows", "MappedPoints"]

Array = npt.NDArray[Any]

_MJD = 2400000.5
_LN10 = math.log(10.0)
_REALS = ("mag", "magerr", "limit_mag", "flux", "fluxerr", "zp")
_KINDS = ("detection", "upper_limit", "forced")
_NO_SIGN = 9  # stands for null


class PointRows(PacketRows):
    """The entries of one list of points, and what is made of them.

    Attributes
    ----------
    is_point : ndarray of bool
        There is a point, with a value or withdrawn.
    is_lost : ndarray of bool
        A detection without a value.
    jd : ndarray of float64
    place : dict of str to Arrow array
        Right ascension and declination [deg].
    """

    def __init__(
        self, shapes: Shapes, record: str, level: int, spec: PacketSettings, points: PointList
    ) -> None:
        super().__init__(shapes, record, level)
        self.kind = points.kind
        self.spec, self._points = spec, points
        self._of = {key: spec.of(points, key) for key in spec.shared()}
        self._missing = np.array(spec.missing)
        self.real = {name: np.full(self.n, np.nan) for name in _REALS}
        self.sign = np.full(self.n, _NO_SIGN, np.int32)
        self.status: Array = np.full(self.n, None, object)
        self.is_lost = np.zeros(self.n, bool)

    def measure(self, *, is_own: bool) -> None:
        """Make values of the entries; `is_own` says that they are the alerts' own."""
        self.demand(self.filled())
        failed, gone = (self.met(self._of[key] or ()) for key in ("unusable", "withdrawn"))
        if is_own:
            gone &= ~failed
            asked = ~failed & ~gone
        else:
            taken = self.met(self._points.where) if self._points.where else np.ones(self.n, bool)
            taken &= ~self.met(self._points.unless)
            gone &= taken
            asked = taken & ~gone
        make = {"detection": self._detections, "upper_limit": self._limits, "forced": self._forced}
        found = make[self.kind](asked, failed)
        if is_own:
            self.demand(found | ~asked)
            self.is_lost = failed
        elif self.kind == "detection":
            self.demand(~(found & failed))
            self.is_lost = asked & ~found
        self.status[gone] = WITHDRAWN
        self.is_gone, self.is_point = gone, found | gone
        self._when_and_where(is_own)

    def identities(self, rows: Array, stock: Array, label: str) -> Array:
        """Return ids of the points in some rows."""
        if self.kind == "detection" and self._points.id is not None:
            found = self.find(self._points.id)
            self._demand((found.kind == INTEGER) & (found.number > 0), self.is_point)
            return found.number[rows]
        bands = list(self.spec.bands.values())
        fields = (
            stock[self.packet[rows]].tolist(),
            self.jd[rows].tolist(),
            [bands[code] for code in self.band[rows].tolist()],
            *(values.take(pa.array(rows)).to_pylist() for values in (self.field, self.rcid)),
        )
        return np.array(
            [measured_id(self.kind, label, *each) for each in zip(*fields, strict=True)], np.int64
        )

    def _demand(self, fine: Array, rows: Array) -> None:
        """Leave out packets in which some rows are not fine."""
        self.demand(fine | ~rows)

    def _reals(self, key: str, rows: Array) -> tuple[Array, Array]:
        """Return a quantity as floats, NaN where it is nothing, and where it is null."""
        paths = self._of[key]
        if not self.has(paths):
            self._demand(np.zeros(self.n, bool), rows)
        found = self.find(paths)
        self._demand(found.among(INTEGER, REAL), rows)
        values = found.reals
        missing = np.isin(values, self._missing)
        return np.where(missing, np.nan, values), missing | ~found.there

    def _zero_points(self, rows: Array) -> Array:
        zp = self._of["zp"]
        values = self._reals("zp", rows)[0] if isinstance(zp, tuple) else np.full(self.n, zp)
        self._demand(_is_magnitude(values), rows)
        return values

    def _detections(self, asked: Array, failed: Array) -> Array:
        if not self.spec.measures_flux(self._points):
            return self._magnitudes(asked)
        flux, error = self._reals("flux", asked)[0], self._reals("fluxerr", asked)[0]
        found = asked & np.isfinite(flux) & (flux != 0.0)
        zp = self._zero_points(found)
        size = np.where(found, np.abs(flux), 1.0)
        mag = zp - 2.5 * _each(math.log10, size)
        self._demand(_is_magnitude(mag), found)
        found &= _is_magnitude(mag)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            relative = np.where(error > 0, error / size, np.nan)
            relative[~(relative * 2.5 / _LN10 < ERRORS[1])] = np.nan
            sign = np.where(flux < 0, -1, 1)
        at_25 = sign * _power(np.where(found, -0.4 * (mag - 25.0), 0.0))
        made = {"mag": mag, "magerr": relative * 2.5 / _LN10, "flux": at_25,
                "fluxerr": relative * np.abs(at_25), "zp": np.full(self.n, 25.0)}  # fmt: skip
        self._put(found, sign, made)
        return found

    def _magnitudes(self, asked: Array) -> Array:
        mag, (error, is_null) = self._reals("mag", asked)[0], self._reals("magerr", asked)
        found = asked & ~np.isnan(mag)
        with np.errstate(invalid="ignore"):
            fine = (error >= ERRORS[0]) & (error < ERRORS[1])
        self._demand(_is_magnitude(mag) & (fine | is_null), found)
        found &= _is_magnitude(mag)
        sign = self._signs(found)
        flux = sign * _power(np.where(found, -0.4 * (mag - 25.0), 0.0))
        made = {"mag": mag, "magerr": error, "flux": flux, "zp": np.full(self.n, 25.0),
                "fluxerr": np.abs(flux * error) * _LN10 / 2.5}  # fmt: skip
        if self._of["limit"] is not None:
            limit = self._reals("limit", found)[0]
            made["limit_mag"] = np.where(_is_magnitude(limit), limit, np.nan)
        self._put(found, sign, made)
        return found

    def _signs(self, rows: Array) -> Array:
        """Return what a field says of the sign of a difference."""
        signs = np.ones(self.n, np.int64)
        if self._of["sign"] is None:
            return signs
        values = self.find(self._of["sign"])
        texts, reals = self.texts(values), values.reals
        for i in np.flatnonzero(rows).tolist():
            said: Any = texts[i]
            if values.kind[i] in (INTEGER, REAL):
                said = float(reals[i])
            elif values.kind[i] == TRUTH:
                said = bool(values.number[i])
            try:
                signs[i] = sign_of("sign", said)
            except BadPacket:
                self.shapes.good[self.packet[i]] = False
        return signs

    def _limits(self, asked: Array, failed: Array) -> Array:
        if self._of["limit"] is not None:
            limit = self._reals("limit", asked)[0]
            found = asked & ~np.isnan(limit)
        else:
            noise = self._reals("noise", asked)[0]
            level, zp = self.spec.limit_sigma * noise, self._zero_points(asked)
            with np.errstate(invalid="ignore"):
                self._demand(level > 0, asked)
                level = np.where(level > 0, level, 1.0)
            limit, found = zp - 2.5 * _each(math.log10, level), asked
        self._demand(_is_magnitude(limit), found)
        self._put(found, np.zeros(self.n, np.int32), {"limit_mag": limit})
        return found

    def _forced(self, asked: Array, failed: Array) -> Array:
        flux, error = self._reals("flux", asked)[0], self._reals("fluxerr", asked)[0]
        zp = self._zero_points(asked)
        with np.errstate(invalid="ignore"):
            usable = asked & np.isfinite(flux) & (error > 0) & np.isfinite(error) & ~failed
            brightest = _power(0.4 * np.where(_is_magnitude(zp), zp, 0.0))
            fine = (np.abs(flux) <= brightest) & (np.abs(error) <= brightest)
        self._demand(fine, usable)
        if self._of["status"] is not None:
            said = self.find(self._of["status"])
            self._demand(said.among(TEXT), asked)
            self.status[:] = self.texts(said)
        lacking = [word or "no flux" for word in self.status[asked & ~usable]]
        self.status[asked & ~usable] = lacking
        made = {"flux": flux, "fluxerr": error, "zp": zp}
        self._put(usable, np.where(flux < 0, -1, 1), made)
        return asked

    def _put(self, rows: Array, sign: Array, values: Mapping[str, Array]) -> None:
        self.sign[rows] = sign[rows]
        for name, each in values.items():
            self.real[name][rows] = each[rows]

    def _when_and_where(self, is_own: bool) -> None:
        timed = np.ones(self.n, bool) if is_own else self.is_point
        time = self._reals("time", timed)[0]
        mjd = time if self.spec.format == "mjd" else time - _MJD
        with np.errstate(invalid="ignore"):
            self._demand((mjd > MJDS[0]) & (mjd < MJDS[1]), timed)
        self.jd = time + _MJD if self.spec.format == "mjd" else time
        if not self.has(self._of["band"]):
            self._demand(np.zeros(self.n, bool), self.is_point)
        words = tuple(self.spec.bands)
        self.band = self.codes(self.find(self._of["band"]), words)
        self._demand(self.band >= 0, self.is_point)
        self.place = {
            axis: self._degrees(axis, timed if self.kind == "detection" else ~timed & timed)
            for axis in POSITIONS
        }
        self.field, self.rcid = (
            pa.nulls(self.n, pa.int32()) if self._of[key] is None
            else _integers_at(self, self._of[key], self.is_point, self._missing)
            for key in ("field", "rcid")
        )  # fmt: skip
        program = self._of["programid"]
        self.programid = (
            pa.array(np.full(self.n, program, np.int32)) if isinstance(program, int)
            else _integers_at(self, program, timed, needed=True)
        )  # fmt: skip

    def _degrees(self, axis: str, rows: Array) -> pa.Array:
        """Return right ascension or declination of some rows; null elsewhere."""
        if self._of[axis] is None or not rows.any():
            return pa.nulls(self.n, pa.float64())
        found = self.find(self._of[axis])
        self._demand(found.among(INTEGER, REAL), rows)
        values, (low, high) = found.reals, POSITIONS[axis]
        nothing = ~rows | np.isnan(values) | np.isin(values, self._missing)
        with np.errstate(invalid="ignore"):
            self.demand(nothing | ((values >= low) & (values <= high)))
        return pa.array(values, mask=nothing)


def _integers_at(
    rows: PacketRows, paths: tuple[str, ...], asked: Array, missing: Array | None = None,
    *, needed: bool = False,
) -> pa.Array:  # fmt: skip
    """Return a field as integers of 32 bits, null where it is null or one of `missing`.

    Parameters
    ----------
    rows : PacketRows
    paths : tuple of str
    asked : ndarray of bool
        Rows whose values must be such integers.
    missing : ndarray, optional
        Numbers that stand for nothing.
    needed : bool, optional
        They must not be null either; default false.
    """
    found = rows.find(paths)
    number = found.number
    nothing = ~found.there
    if missing is not None:
        nothing |= np.isin(found.reals, missing)
    fine = (found.kind == INTEGER) & (number >= -(1 << 31)) & (number < 1 << 31)
    rows.demand(fine | ~asked | (nothing & (not needed)))
    return pa.array(np.where(fine, number, 0).astype(np.int32), mask=nothing | ~fine)


class MappedPoints:
    """The points of some lists, in the order in which packets have them, each id once.

    Parameters
    ----------
    shapes : Shapes
    lists : sequence of PointRows
        Measured.
    stock : ndarray of int64
        Of each packet.
    label : str
        What the tables call the survey.
    """

    def __init__(
        self, shapes: Shapes, lists: Sequence[PointRows], stock: Array, label: str
    ) -> None:
        self._shapes, self._lists = shapes, lists
        chosen = [np.flatnonzero(x.is_point & shapes.good[x.packet]) for x in lists]
        ids = [x.identities(rows, stock, label) for x, rows in zip(lists, chosen, strict=True)]
        begins = np.cumsum([0, *(x.n for x in lists)])
        packet = self._of([x.packet for x in lists], chosen)
        order = np.argsort(packet, kind="stable")
        self._packet, self._id = packet[order], np.concatenate(ids)[order]
        self._row = np.concatenate(
            [begin + rows for begin, rows in zip(begins, chosen, strict=False)]
        )[order]
        gone = np.concatenate([x.is_gone for x in lists])[self._row]
        self._kind = np.repeat(
            [_KINDS.index(x.kind) for x in lists], [x.n for x in lists]
        )[self._row]  # fmt: skip
        self._is_apart = gone | (self._kind == _KINDS.index("forced"))
        first = np.lexsort((np.arange(len(order)), self._id, self._is_apart, self._packet))
        again = np.zeros(len(order), bool)
        a, b = first[:-1], first[1:]
        again[b] = (
            (self._id[a] == self._id[b])
            & (self._is_apart[a] == self._is_apart[b])
            & (self._packet[a] == self._packet[b])
        )
        self._stays = ~again

    @staticmethod
    def _of(columns: Sequence[Array], chosen: Sequence[Array]) -> Array:
        return np.concatenate([c[rows] for c, rows in zip(columns, chosen, strict=True)])

    def n_bands(self, packets: int) -> Array:
        """Return in how many bands each packet shows detections."""
        band = np.concatenate([x.band for x in self._lists])[self._row]
        shown = self._stays & ~self._is_apart & (self._kind == 0)
        bands = len(self._lists[0].spec.bands)
        seen = np.unique(self._packet[shown] * bands + band[shown]) // bands
        return np.bincount(seen, minlength=packets)

    def put(self, own: OwnRows | None) -> None:
        """Make the columns of the points of good packets; `own` has the declared ones."""
        good = self._stays & self._shapes.good[self._packet]
        self._shapes.points = self._columns(good & ~self._is_apart, own)
        self._shapes.forced = self._columns(good & self._is_apart, own)

    def _columns(self, chosen: Array, own: OwnRows | None) -> tuple[dict[str, pa.Array], Array]:
        lists, rows = self._lists, self._row[chosen]
        packets = len(self._shapes.good)
        take = pa.array(rows)
        spec = lists[0].spec
        bands = pa.array(list(spec.bands.values()), pa.string())

        def numbers(columns: Sequence[Array]) -> Array:
            return np.concatenate(columns)[rows]

        def arrows(columns: Sequence[pa.Array]) -> pa.Array:
            return pa.concat_arrays(columns).take(take)

        sign = numbers([x.sign for x in lists])
        real = {name: numbers([x.real[name] for x in lists]) for name in _REALS}
        band, n = numbers([x.band for x in lists]).astype(np.int32), len(rows)
        made = {
            "datapoint_id": pa.array(self._id[chosen]),
            "kind": pa.DictionaryArray.from_arrays(
                pa.array(self._kind[chosen].astype(np.int32)), list(_KINDS)
            ).cast(pa.string()),
            "jd": pa.array(numbers([x.jd for x in lists])),
            "band": bands.take(pa.array(band)),
            **{name: pa.array(values, mask=np.isnan(values)) for name, values in real.items()},
            "sign": pa.array(sign, mask=sign == _NO_SIGN),
            "zpsys": pa.array([spec.zpsys], pa.string()).take(pa.array(np.zeros(n, np.int32))),
            "programid": arrows([x.programid for x in lists]),
            "field": arrows([x.field for x in lists]),
            "rcid": arrows([x.rcid for x in lists]),
            "pid": pa.nulls(n, pa.int64()),
            "ra": arrows([x.place["ra"] for x in lists]),
            "dec": arrows([x.place["dec"] for x in lists]),
            "procstatus": pa.array(numbers([x.status for x in lists]).tolist(), pa.string()),
            **({OWN: own.at(rows)} if own else {}),
        }
        return made, np.bincount(self._packet[chosen], minlength=packets)


def _is_magnitude(values: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return (values > MAGNITUDES[0]) & (values < MAGNITUDES[1])


def _each(function: Callable[[float], float], values: Array) -> Array:
    return np.array([function(x) for x in values.tolist()], np.float64)


def _power(exponents: Array) -> Array:
    return _each(lambda x: 10.0**x, exponents)
