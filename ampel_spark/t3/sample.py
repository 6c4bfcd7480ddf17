"""The candidates of one selection, as units of T3 see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.expressions import Expression, parse
from ampel_spark.lightcurve import LightCurve

if TYPE_CHECKING:
    from ampel_spark.lake.runs import Run

__all__ = ["Sample", "label_type"]

Array = npt.NDArray[Any]

#: Light curves that are read at a time.
_CHUNK = 500
#: What an expression's value is in a table.
_TYPES = {"number": "double", "string": "string", "boolean": "boolean"}


def label_type(kind: str) -> str:
    """Return the Spark SQL type of a selection's column, by the kind of its expression."""
    return _TYPES.get(kind, kind)


def _no_results(unit: str) -> pa.Table:
    raise ConfigError(f"this sample has no results of a unit {unit!r}")


def _no_curves(states: Sequence[str]) -> Mapping[str, LightCurve]:
    raise ConfigError("this sample has no light curves")


@dataclass(frozen=True)
class Sample:
    """The candidates of one selection, with what is known of them.

    Attributes
    ----------
    name, channel : str
        Of the selection.
    table : Arrow table
        A row for each candidate, in order of rank: ``name, stock, state_id, rank`` and the columns
        that the selection asks for.
    types : mapping of str to str
        What `values` may name, with Spark SQL types: the selection's columns, columns of the state,
        and ``unit.column`` of every unit of T2.
    units, meanings : mapping of str to str
        Unit of measure and meaning of the selection's columns.
    run : Run or None
        The record of the run, which is still going on; None for a sample made by hand.
    """

    name: str
    channel: str
    table: pa.Table
    types: Mapping[str, str]
    units: Mapping[str, str] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    run: Run | None = None
    _results: Callable[[str], pa.Table] = field(default=_no_results, repr=False)
    _curves: Callable[[Sequence[str]], Mapping[str, LightCurve]] = field(
        default=_no_curves, repr=False
    )

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Any] | pa.Table,
        results: Mapping[str, pa.Table] | None = None,
        light_curves: Sequence[LightCurve] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> Sample:
        """Return a sample made by hand, for a notebook or a test.

        Parameters
        ----------
        columns : mapping of str to array-like, or Arrow table
            The selection's columns. Names, ids and ranks are made up where they are not given.
        results : mapping of str to Arrow table, optional
            Results of units, a row for each candidate.
        light_curves : sequence of LightCurve, optional
            One for each candidate.
        units : mapping of str to str, optional
            Units of measure of columns.

        Examples
        --------
        >>> sample = Sample.of({"name": ["a", "b"], "z": [0.1, None]})
        >>> sample.values("2 * z").tolist()
        [0.2, nan]
        """
        given = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
        n = len(given)
        made: dict[str, Any] = {
            "name": [f"object{i}" for i in range(n)],
            "stock": list(range(n)),
            "state_id": [f"state{i}" for i in range(n)],
            "rank": list(range(1, n + 1)),
        }
        for label, values in made.items():
            if label not in given.column_names:
                given = given.append_column(label, pa.array(values))
        types = {f.name: _sql_type(f.type) for f in given.schema}
        tables = dict(results or {})
        types |= {f"{u}.{f.name}": _sql_type(f.type) for u, t in tables.items() for f in t.schema}
        curves = dict(zip(given["state_id"].to_pylist(), light_curves or (), strict=False))
        return cls(
            "sample", "", given, types, units or {}, {}, None,
            tables.__getitem__ if tables else _no_results,
            (lambda states: {s: curves[s] for s in states}) if light_curves else _no_curves,
        )  # fmt: skip

    def of_run(
        self,
        name: str,
        channel: str,
        run: Run,
        curves: Callable[[Sequence[str]], Mapping[str, LightCurve]],
    ) -> Sample:
        """Return the sample as that of a selection of a run, with light curves by state."""
        return replace(self, name=name, channel=channel, run=run, _curves=curves)

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def names(self) -> list[str]:
        """The names of the candidates."""
        names: list[str] = self.table["name"].to_pylist()
        return names

    def results(self, unit: str) -> pa.Table:
        """Return the results of a unit of T2, a row for each candidate; null where it has none.

        Parameters
        ----------
        unit : str
            Name of its entry in the job.

        Raises
        ------
        ConfigError
            If the job has no such unit.
        """
        known = {name.partition(".")[0] for name in self.types if "." in name}
        if unit not in known:
            raise ConfigError(f"there is no unit {unit!r} in t2{nearest(unit, known)}")
        return self._results(unit)

    def values(self, expression: str) -> Array:
        """Return the value of an expression for each candidate.

        Parameters
        ----------
        expression : str
            In the language of conditions: a column of the selection (``z``), of a unit's results
            (``salt_fit.x1``), or made of these (``salt_fit.chisq / salt_fit.ndof``).

        Returns
        -------
        ndarray with shape (N,)
            Numbers, NaN where there is none; truth values as 1 and 0; or texts, None where there is
            none.

        Raises
        ------
        ConfigError
            If it cannot be read, or names what is not there.
        """
        read: Expression = parse(expression)
        kind = read.check(self.types)
        found = read.evaluate(self.types, _Columns(self))
        if kind == "string":
            texts = np.array(found.data, object)
            texts[np.ma.getmaskarray(found)] = None
            return texts
        return np.ma.filled(found.astype(np.float64), np.nan)

    def light_curve(self, at: int) -> LightCurve:
        """Return the light curve of the candidate in a place, from 0, with its results."""
        return next(self._taken([at]))

    def light_curves(self) -> Iterator[LightCurve]:
        """Yield the light curve of each candidate, as its units saw it, with its results."""
        return self._taken(range(len(self)))

    def _taken(self, places: Sequence[int]) -> Iterator[LightCurve]:
        states = self.table["state_id"].to_pylist()
        units = sorted({name.partition(".")[0] for name in self.types if "." in name})
        for start in range(0, len(places), _CHUNK):
            mine = places[start : start + _CHUNK]
            curves = self._curves([states[i] for i in mine])
            rows = {u: self._results(u).take(pa.array(mine)).to_pylist() for u in units}
            for k, i in enumerate(mine):
                known = {unit: found[k] for unit, found in rows.items() if found[k]}
                yield replace(curves[states[i]], results=known)


class _Columns:
    """The columns of a sample by name, as expressions read them."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def __getitem__(self, name: str) -> Any:
        unit, dot, column = name.partition(".")
        table = self._sample.results(unit) if dot else self._sample.table
        return table[column if dot else name].combine_chunks()


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "bigint"
    if pa.types.is_floating(kind):
        return "double"
    if pa.types.is_list(kind):
        return f"array<{_sql_type(kind.value_type)}>"
    return "string"
