"""Light curves as units receive them: one (`LightCurve`), or many as arrays (`LightCurveBatch`).

Their values are canonical (`ampel_spark.t1.photometry`): calibrated, rounded, without superseded
points, in order of (jd, id). A state's id is the hash of these values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from astropy.table import Table as AstropyTable
    from astropy.timeseries import TimeSeries

__all__ = [
    "DETECTION",
    "FORCED",
    "POINT_FIELDS",
    "UPPER_LIMIT",
    "LightCurve",
    "LightCurveBatch",
    "Lookup",
    "TiedResults",
]

DETECTION, UPPER_LIMIT, FORCED = 0, 1, 2

#: The columns of a point, with numpy type and unit. Null is NaN in floats and -1 in integers.
POINT_FIELDS: dict[str, tuple[str, str]] = {
    "datapoint_id": ("i8", ""),
    "kind": ("i1", ""),  # 0 detection, 1 upper limit, 2 forced photometry
    "jd": ("f8", "d"),
    "band": ("O", ""),
    "mag": ("f8", "mag"),
    "magerr": ("f8", "mag"),
    "limit_mag": ("f8", "mag"),
    "sign": ("i1", ""),  # +1 or -1: a negative subtraction; 0 for an upper limit
    "flux": ("f8", "10**(-0.4 (mag - zp))"),
    "fluxerr": ("f8", "10**(-0.4 (mag - zp))"),
    "zp": ("f8", "mag"),
    "zpsys": ("O", ""),
    "programid": ("i4", ""),
    "field": ("i4", ""),
    "rcid": ("i4", ""),
    "ra": ("f8", "deg"),
    "dec": ("f8", "deg"),
}

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class LightCurve:
    """The light curve of one state.

    Columns of `points` are also attributes: ``curve.jd`` is ``curve.points["jd"]``.

    Attributes
    ----------
    state_id : str
        Hash of the content, 32 hexadecimal digits.
    stock : int
        The object's id.
    name : str
        The survey's name of the object.
    points : mapping of str to ndarray with shape (N,)
        One array for each of `POINT_FIELDS`, in order of (jd, datapoint_id); and for each column
        that the survey declares and a unit asks for (`Unit.point_fields`).
    results : mapping of str to mapping
        Results of the units that this unit is tied to, as ``results["milky_way_dust"]["ebv"]``.

    Examples
    --------
    >>> curve = LightCurve.of("SN", jd=[3.0, 1.0, 2.0], kind=[DETECTION, UPPER_LIMIT, DETECTION],
    ...     mag=[20.0, np.nan, 17.5], magerr=[0.1, np.nan, 0.05], limit_mag=[21.0, 20.5, 21.0],
    ...     band="ztfg", ra=[359.9, np.nan, 0.3], dec=[5.0, np.nan, 5.0])
    >>> len(curve), len(curve.detections), len(curve.upper_limits)
    (3, 2, 1)
    >>> curve.detections.jd.tolist(), curve.detections.flux.tolist()
    ([2.0, 3.0], [1000.0, 100.0])
    >>> curve.where(curve.jd < 2).limit_mag.tolist()
    [20.5]
    >>> print("{:.3f} {:.3f}".format(*curve.position()))
    0.100 5.000
    """

    state_id: str
    stock: int
    name: str
    points: Mapping[str, Array]
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Array:
        points = self.__dict__.get("points")
        if points is not None and name in points:
            value: Array = points[name]
            return value
        raise AttributeError(
            f"a light curve has no {name!r}; its columns: {', '.join(points or POINT_FIELDS)}"
        )

    def __len__(self) -> int:
        return len(next(iter(self.points.values())))

    @classmethod
    def of(
        cls,
        name: str = "",
        stock: int = 0,
        results: Mapping[str, Mapping[str, Any]] | None = None,
        own: Mapping[str, npt.ArrayLike] | None = None,
        **columns: npt.ArrayLike,
    ) -> LightCurve:
        """Return a light curve made of columns, for a notebook or a test.

        Parameters
        ----------
        name, stock, results
            As the attributes.
        own : mapping of str to array-like, optional
            Columns that a survey declares for its points, as ``rb``.
        **columns : array-like with shape (N,), or one value for all points
            Columns of `POINT_FIELDS`; ``jd`` must be given. By default, points are detections of
            positive sign with AB zero points of 25, fluxes follow from magnitudes, and all other
            columns are null.

        Raises
        ------
        TypeError
            If a column is not in `POINT_FIELDS`.
        """
        if unknown := set(columns) - set(POINT_FIELDS):
            known = ", ".join(POINT_FIELDS)
            raise TypeError(f"no columns {', '.join(sorted(unknown))}; known: {known}")
        n = len(np.atleast_1d(np.asarray(columns["jd"])))
        given: dict[str, Any] = {"kind": DETECTION, "zp": 25.0, "zpsys": "ab", "band": ""} | columns
        limit = np.asarray(given["kind"]) == UPPER_LIMIT
        given.setdefault("sign", np.where(limit, 0, 1))
        given.setdefault("datapoint_id", np.where(limit, -1, 1) * np.arange(1, n + 1))
        points: dict[str, Array] = {}
        for field_name, (kind, _) in POINT_FIELDS.items():
            value = given.get(field_name, np.nan if kind == "f8" else -1)
            points[field_name] = np.broadcast_to(np.asarray(value), n).astype(kind)
        if "flux" not in columns:
            sign = np.where(points["sign"] == 0, np.nan, points["sign"])
            points["flux"] = sign * 10.0 ** (-0.4 * (points["mag"] - points["zp"]))
        if "fluxerr" not in columns:
            points["fluxerr"] = np.abs(points["flux"]) * points["magerr"] * np.log(10.0) / 2.5
        for field_name, value in (own or {}).items():
            points[field_name] = np.broadcast_to(np.asarray(value), n)
        order = np.lexsort((points["datapoint_id"], points["jd"]))
        return cls("", stock, name, {k: v[order] for k, v in points.items()}, results or {})

    def where(self, mask: Array) -> LightCurve:
        """Return the light curve of some points.

        Parameters
        ----------
        mask : ndarray of bool with shape (N,), or of int
            The points to keep, as a mask or as indices.
        """
        points = {name: values[mask] for name, values in self.points.items()}
        return LightCurve(self.state_id, self.stock, self.name, points, self.results)

    @cached_property
    def detections(self) -> LightCurve:
        """The light curve of the detections, negative subtractions (``sign`` -1) included."""
        return self.where(self.points["kind"] == DETECTION)

    @cached_property
    def upper_limits(self) -> LightCurve:
        """The light curve of the upper limits."""
        return self.where(self.points["kind"] == UPPER_LIMIT)

    @cached_property
    def fluxes(self) -> LightCurve:
        """The light curve of points with a finite flux: detections and forced photometry."""
        return self.where(np.isfinite(self.points["flux"]) & np.isfinite(self.points["fluxerr"]))

    def to_table(self) -> AstropyTable:
        """Return the points as an astropy table, with units.

        Its columns ``jd, flux, fluxerr, band, zp, zpsys`` are those that sncosmo takes, where every
        point has a flux: ``curve.fluxes.to_table()``. ``kind`` is a word. Null is NaN, and -1 in
        whole numbers.

        Examples
        --------
        >>> from ampel_spark import LightCurve
        >>> curve = LightCurve.of(jd=[2459000.7], mag=[18.0], magerr=0.1, band="ztfr")
        >>> table = curve.to_table()
        >>> table["mag"].unit, table["kind"][0]
        (Unit("mag"), np.str_('detection'))
        """
        table: AstropyTable = self._converted("to_table")
        return table

    def to_timeseries(self, scale: str = "utc") -> TimeSeries:
        """Return the points as an astropy time series: `to_table` with times for ``jd``.

        Parameters
        ----------
        scale : str
            Scale of the times that the survey gives: ``utc`` for ZTF.

        Examples
        --------
        >>> from ampel_spark import LightCurve
        >>> curve = LightCurve.of(jd=[2459000.5], mag=[18.0], magerr=0.1, band="ztfr")
        >>> curve.to_timeseries().time.iso[0]
        np.str_('2020-05-31 00:00:00.000')
        """
        series: TimeSeries = self._converted("to_timeseries", scale)
        return series

    def to_pandas(self) -> pd.DataFrame:
        """Return the points as a DataFrame; ``kind`` is a word, `name` and others in ``attrs``.

        Examples
        --------
        >>> from ampel_spark import LightCurve
        >>> curve = LightCurve.of("ZTF20a", jd=[2459000.7], mag=[18.0], magerr=0.1, band="r")
        >>> frame = curve.to_pandas()
        >>> frame.kind[0], frame.attrs["name"]
        ('detection', 'ZTF20a')
        """
        frame: pd.DataFrame = self._converted("to_pandas")
        return frame

    def _converted(self, how: str, *more: Any) -> Any:
        # by a name made at run time: what a table looks like is no part of what units compute
        return getattr(import_module("ampel_spark.conversions"), how)(self, *more)

    def position(self) -> tuple[float, float]:
        """Return the mean (ra, dec) of the detections, degrees ICRS, or NaN without a position.

        A light curve without detections has the mean position of its forced measurements. The mean
        is taken on the sphere, so it is right across RA 0 and near the poles.
        """
        d = (self.detections if len(self.detections) else self).points
        good = np.isfinite(d["ra"]) & np.isfinite(d["dec"])
        if not good.any():
            return float("nan"), float("nan")
        ra, dec = np.radians(d["ra"][good]), np.radians(d["dec"][good])
        x, y, z = (
            (np.cos(dec) * np.cos(ra)).mean(),
            (np.cos(dec) * np.sin(ra)).mean(),
            np.sin(dec).mean(),
        )
        return float(np.degrees(np.arctan2(y, x)) % 360.0), float(
            np.degrees(np.arctan2(z, np.hypot(x, y)))
        )


@dataclass(frozen=True, eq=False)
class LightCurveBatch:
    """Many light curves as flat arrays; a unit that needs speed takes these.

    Attributes
    ----------
    state_id, name : ndarray of object with shape (M,)
        State id and object name of each light curve.
    stock : ndarray of int64 with shape (M,)
        The object of each light curve.
    offsets : ndarray of int64 with shape (M + 1,)
        Light curve ``i`` is rows ``offsets[i]:offsets[i + 1]`` of every array in `points`.
    points : mapping of str to ndarray with shape (offsets[-1],)
        One array for each field of a point.
    results : mapping of str to sequence with length M
        Results of tied units by name: for each light curve a mapping of columns, or None.
    words : mapping of str to (ndarray of int, ndarray of object)
        Columns of text as numbers, and the words that the numbers stand for; see `coded`.

    Examples
    --------
    >>> one = LightCurve.of("one", stock=1, jd=[1.0, 2.0], mag=18.0, magerr=0.1)
    >>> two = LightCurve.of("two", stock=2, jd=[5.0], mag=19.0, magerr=0.1)
    >>> batch = LightCurveBatch.of([one, two])
    >>> batch.offsets.tolist(), batch.index().tolist(), batch.points["jd"].tolist()
    ([0, 2, 3], [0, 0, 1], [1.0, 2.0, 5.0])
    >>> [curve.name for curve in batch], batch[1].mag.tolist()
    (['one', 'two'], [19.0])
    """

    state_id: Array
    stock: Array
    name: Array
    offsets: npt.NDArray[np.int64]
    points: Mapping[str, Array]
    results: Mapping[str, Sequence[Mapping[str, Any] | None]] = field(default_factory=dict)
    words: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)

    @classmethod
    def of(cls, curves: Sequence[LightCurve]) -> LightCurveBatch:
        """Return light curves as one batch, with the fields that all of them have."""
        units = sorted({unit for curve in curves for unit in curve.results})
        names = dict.fromkeys((*POINT_FIELDS, *(k for curve in curves for k in curve.points)))
        fields = [k for k in names if all(k in curve.points for curve in curves)]

        def column(name: str, kind: Any) -> Array:
            return np.array([getattr(curve, name) for curve in curves], kind)

        return cls(
            column("state_id", object),
            column("stock", np.int64),
            column("name", object),
            np.concatenate([[0], np.cumsum(list(map(len, curves)))]).astype(np.int64),
            {
                k: np.concatenate([_empty(k), *(curve.points[k] for curve in curves)])
                for k in fields
            },
            {unit: [curve.results.get(unit) for curve in curves] for unit in units},
        )

    def __len__(self) -> int:
        return len(self.stock)

    def __getitem__(self, i: int) -> LightCurve:
        span = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return LightCurve(
            str(self.state_id[i]),
            int(self.stock[i]),
            str(self.name[i]),
            {name: values[span] for name, values in self.points.items()},
            {unit: row for unit, rows in self.results.items() if (row := rows[i]) is not None},
        )

    def __iter__(self) -> Iterator[LightCurve]:
        return (self[i] for i in range(len(self)))

    def index(self) -> npt.NDArray[np.int64]:
        """Return the number of each point's light curve, shape (offsets[-1],)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def coded(self, name: str) -> tuple[Array, Array]:
        """Return a column of text as numbers, shape (N,), and the word of each number."""
        if name in self.words:
            return self.words[name]
        words, codes = np.unique(self.points[name].astype(str), return_inverse=True)
        return codes, words.astype(object)

    def tied(self, unit: str, column: str) -> tuple[Array, Array]:
        """Return a column of a tied unit's results.

        Returns
        -------
        present : ndarray of bool with shape (M,)
            Which light curves have a result.
        values : ndarray of float with shape (M,)
            The column; NaN for null and for no result.
        """
        rows = self.results.get(unit)
        if rows is None:
            return np.zeros(len(self), bool), np.full(len(self), np.nan)
        if isinstance(rows, TiedResults):
            return rows.present(), rows.numbers(column)
        values = [np.nan if row is None else row.get(column) for row in rows]
        numbers = np.array([np.nan if v is None else float(v) for v in values], np.float64)
        return np.array([row is not None for row in rows], bool), numbers

    def positions(self) -> tuple[Array, Array]:
        """Return `LightCurve.position` of all light curves as two arrays with shape (M,)."""
        p = self.points
        i, detected = self.index(), p["kind"] == DETECTION
        without = np.bincount(i[detected], minlength=len(self)) == 0
        good = (detected | without[i]) & np.isfinite(p["ra"]) & np.isfinite(p["dec"])
        i, ra, dec = i[good], np.radians(p["ra"][good]), np.radians(p["dec"][good])
        n = np.bincount(i, minlength=len(self)).astype(np.float64)
        n[n == 0] = np.nan
        x, y, z = (
            np.bincount(i, weights=w, minlength=len(self)) / n
            for w in (np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec))
        )
        return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def _empty(name: str) -> Array:
    """Return no value of a field of a point; one of the survey's own is of any type."""
    return np.empty(0, POINT_FIELDS[name][0] if name in POINT_FIELDS else np.bool_)


class TiedResults(Sequence[Mapping[str, Any] | None]):
    """Results of a tied unit in an Arrow array: rows are made on demand, columns without rows."""

    def __init__(self, rows: pa.StructArray) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: Any) -> Any:
        return self._rows[int(i)].as_py()

    def present(self) -> Array:
        """Return which light curves have a result, shape (M,)."""
        return np.asarray(self._rows.is_valid())

    def numbers(self, column: str) -> Array:
        """Return a column as floats, shape (M,); NaN for null, and for an absent column."""
        import pyarrow.compute as pc

        if self._rows.type.get_field_index(column) < 0:
            return np.full(len(self), np.nan)
        values = pc.struct_field(self._rows, column).cast("float64")
        return np.asarray(values.fill_null(np.nan))


class Lookup(Mapping[str, Any]):
    """A mapping that makes each value on its first use."""

    def __init__(self, makers: Mapping[str, Callable[[], Any]]) -> None:
        self._makers = makers
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)
