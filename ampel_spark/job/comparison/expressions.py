"""The expressions of T3 on the results of one run, with numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.expressions import Expression, kind_of, parse
from ampel_spark.expressions.kinds import INTEGER, NUMBER
from ampel_spark.expressions.operations import COMPARISONS
from ampel_spark.expressions.syntax import Call, Literal, Node
from ampel_spark.expressions.values import values_of
from ampel_spark.job.comparison.sides import Side, alert_rows, state_rows, survey_of
from ampel_spark.lake.reading import open_table, struct_columns, table_names
from ampel_spark.lake.tables import TABLES
from ampel_spark.t1.shown import ALERT, alert_types

__all__ = ["SelectionRule", "StateTable", "borrowed", "measured", "rule_of", "types_of", "units_in"]

Array = npt.NDArray[Any]

_OWN = ("stock", "state_id", "name", "n_detections", "n_upper_limits", "jd_first", "jd_last")
_HIDDEN = ("state_id", "stock", "name", "trace_id", "input_hash", "run_id")


@dataclass(frozen=True)
class SelectionRule:
    """A selection of a run's job, parsed."""

    name: str
    channel: str
    condition: Expression
    rank: Expression | None
    columns: Mapping[str, Expression]
    limit: int | None

    def expressions(self) -> list[Expression]:
        """Return what selects and ranks."""
        return [self.condition, *([self.rank] if self.rank else [])]


def rule_of(entry: Mapping[str, Any]) -> SelectionRule:
    """Parse an entry of ``t3`` of a resolved job."""
    rank = parse(entry["rank"]) if entry["rank"] else None
    columns = {label: parse(text) for label, text in entry["columns"].items()}
    return SelectionRule(
        entry["name"], entry["channel"], parse(entry["select"]), rank, columns, entry["limit"]
    )


def types_of(side: Side) -> dict[str, str]:
    """Return the Spark SQL type of every name that an expression of a run can use."""
    types = {c.name: c.type for c in TABLES["states"].columns if c.name in _OWN}
    types["channel"] = "string"
    there = table_names(side.lake)
    for unit in side.run.units:
        if f"t2_{unit}" in there:
            schema = pa.schema(open_table(side.lake, f"t2_{unit}").schema())
            types |= {f"{unit}.{f.name}": _spark(f.type) for f in schema if f.name not in _HIDDEN}
    own = struct_columns(side.lake, "alerts").get(survey_of(side), ())
    return types | alert_types({field.name: field.type for field in own})


def borrowed(types: Mapping[str, str], side: Side, other: Mapping[str, str]) -> dict[str, str]:
    """Return types with those of the other run's units, where this one left no table of its own.

    A run that failed before a unit has no result of it, and all that asks for one is unknown.
    """
    there = table_names(side.lake)
    lacking = {unit for unit in side.run.units if f"t2_{unit}" not in there}
    return {n: t for n, t in other.items() if n.partition(".")[0] in lacking} | dict(types)


def units_in(*expressions: Expression) -> list[str]:
    """Return the units whose columns expressions read, in order of their names."""
    names = {column for e in expressions for column in e.columns if "." in column}
    return sorted({name.partition(".")[0] for name in names} - {ALERT})


def measured(cut: Expression) -> tuple[Expression | None, float]:
    """Return what a condition holds against a number, and that number; None, NaN where it is none.

    ``abs(salt_fit.x1) < 3`` gives ``abs(salt_fit.x1)`` and 3. A condition on one column that is no
    such comparison gives that column.
    """
    node = cut.root
    if isinstance(node, Call) and node.operation in COMPARISONS:
        left, right = node.arguments
        for side, other in ((left, right), (right, left)):
            threshold = _constant(other)
            if threshold is not None and not isinstance(side, Literal):
                return cut.part(side), threshold
    if len(cut.columns) == 1:
        (name,) = cut.columns
        return parse(name), np.nan
    return None, np.nan


class StateTable:
    """The results of a run for some states, as expressions see them: read once, by name.

    Parameters
    ----------
    side : Side
    states : ndarray of int
    types : mapping of str to str, optional
        Of all names; default: looked up.
    channel : str, optional
        Of the selection that asks; null for expressions otherwise.
    """

    def __init__(
        self,
        side: Side,
        states: Array,
        types: Mapping[str, str] | None = None,
        channel: str | None = None,
    ) -> None:
        self.side, self.states, self.channel = side, states, channel
        self.types = types_of(side) if types is None else types
        self._columns: dict[str, Any] = {}

    def load(self, *expressions: Expression) -> None:
        """Read all that some expressions need, each table once.

        Raises
        ------
        ConfigError
            For a name that the run has no column of.
        """
        names = {n for e in expressions for n in e.columns} - {*self._columns}
        for name in sorted(names):
            if name not in self.types:
                raise ConfigError(
                    f"run {self.side.run_id} has no column {name!r}{nearest(name, self.types)}"
                )
        if "channel" in names:
            self._columns["channel"] = np.full(len(self.states), self.channel, object)
        by_unit: dict[str, list[str]] = {}
        for name in sorted(names - {"channel"}):
            unit, _, column = name.rpartition(".")
            by_unit.setdefault(unit, []).append(column)
        for unit, mine in by_unit.items():
            rows = self._rows(unit, mine)
            for name, column in zip(mine, rows, strict=True):
                full = f"{unit}.{name}" if unit else name
                self._columns[full] = _values(column, self.types[full])

    def _rows(self, unit: str, columns: Sequence[str]) -> list[pa.Array]:
        """Return columns of a unit's results, or of the states themselves."""
        if not unit:
            return [*state_rows(self.side, self.states, columns).values()]
        if unit == ALERT:
            return alert_rows(self.side, self.states, columns, self.channel)
        results = self.side.results(unit, columns)
        return [results.column(name, self.states) for name in columns]

    def knows(self, expression: Expression) -> bool:
        """Whether the run has all columns of an expression."""
        return all(name in self.types for name in expression.columns)

    def evaluate(self, expression: Expression) -> np.ma.MaskedArray:
        """Return an expression for every state, masked where it is unknown."""
        self.load(expression)
        rows = {name: self._columns[name] for name in expression.columns}
        found = expression.evaluate(self.types, rows)
        if found.shape != self.states.shape:  # a constant
            found = np.ma.MaskedArray(np.broadcast_to(found, self.states.shape).copy())
        return found

    def holds(self, condition: Expression) -> Array:
        """Return where a condition is true: neither false nor unknown."""
        found: Array = np.asarray(self.evaluate(condition).filled(False), bool)
        return found

    def numbers(self, expression: Expression) -> Array:
        """Return an expression as numbers, truth as 0 and 1; NaN for the unknown, and for text."""
        found = self.evaluate(expression)
        if found.dtype.kind not in "bif":
            return np.full(len(self.states), np.nan)
        values: Array = np.ma.filled(np.ma.asarray(found, float), np.nan)
        return values

    def key(self, unit: str, name: str) -> Any:
        """Return a column of a unit's key or outcome: ``status``, ``message``, ``input_hash``."""
        column = self.side.results(unit, [name]).column(name, self.states)
        return column.to_pandas().to_numpy()

    def status(self, unit: str) -> Array:
        """Return a unit's status for every state; NaN where there is no result."""
        found: Array = self.key(unit, "status").astype(float)
        return found

    def at(self, rows: Array) -> StateTable:
        """Return the table for some of its states."""
        part = StateTable(self.side, self.states[rows], self.types, self.channel)
        part._columns = {name: values[rows] for name, values in self._columns.items()}
        return part


def _values(column: pa.Array, type_name: str) -> Array:
    if (kind := kind_of(type_name)) in (INTEGER, NUMBER):
        values, known = values_of(column, kind)
        return np.ma.MaskedArray(values, mask=~known)
    texts: Array = column.to_numpy(zero_copy_only=False)
    return texts.astype(object)


def _constant(node: Node) -> float | None:
    match node:
        case Literal(value=bool() | str()):
            return None
        case Literal(value=value):
            return float(value)
    return None


def _spark(kind: pa.DataType) -> str:
    """Return the Spark SQL name of a column's type."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"array<{_spark(kind.value_type)}>"
    names = {"int32": "int", "int64": "bigint", "bool": "boolean", "float": "float",
             "large_string": "string"}  # fmt: skip
    return names.get(str(kind), str(kind))
