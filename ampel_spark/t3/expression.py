"""Expressions over the columns of states and T2 results: parsed, checked, and turned into columns.

    salt_fit.status == 0 and abs(salt_fit.x1) < 3 and 5 <= light_curve_summary.n_detections

An expression has the form of Python and is never run as Python. It consists of columns
(``unit.column``, and the state's own: ``name``, ``n_detections``, ``jd_first`` …), numbers,
strings, ``True`` and ``False``; ``and or not``; comparisons, also in chains, ``in [...]``,
``is None``; ``+ - * / % **``; and the functions of `ampel_spark.t3.operations`, which also
says what is done with the unknown. Everything else is refused. A selection takes the rows for which
it is *true*: unknown is not selected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pyspark.sql import Column
from pyspark.sql import functions as sf

from ampel_spark.errors import nearest
from ampel_spark.t3 import operations as ops
from ampel_spark.t3.syntax import Literal, Name, Node, fail, read

__all__ = ["Expression", "parse"]


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Attributes
    ----------
    text : str
        As it was written, on one line.
    columns : frozenset of str
        Names of the columns it reads.
    cut_texts : tuple of str
        The conditions that ``and`` joins at the top.
    """

    text: str
    columns: frozenset[str]
    cut_texts: tuple[str, ...]
    root: Node = field(repr=False)

    @property
    def name(self) -> str | None:
        """The column's name if the expression is nothing but one column, else None."""
        return self.root.name if isinstance(self.root, Name) else None

    def cuts(self) -> tuple[Expression, ...]:
        """Return the conditions that ``and`` joins at the top, each as an expression."""
        return tuple(parse(text) for text in self.cut_texts)

    def check(self, types: Mapping[str, str]) -> str:
        """Check names and types, and return the kind of the result.

        Parameters
        ----------
        types : mapping of str to str
            Spark SQL type of each column that there is.

        Returns
        -------
        str
            ``number``, ``string``, ``boolean`` or ``other`` (arrays and the like).

        Raises
        ------
        ConfigError
            For an unknown column, or an operation on the wrong types; with the place in the text.
        """
        return _kind(self.root, types, self.text)

    def column(self, types: Mapping[str, str], resolve: Callable[[str], Column] = sf.col) -> Column:
        """Return the expression as a Spark column, null where it is unknown.

        Parameters
        ----------
        types : mapping of str to str
            As in `check`.
        resolve : callable
            Gives the column of a name; by default the column or struct field that is called so.
        """
        self.check(types)
        return _spark(self.root, types, resolve)

    def evaluate(self, types: Mapping[str, str], rows: Mapping[str, Any]) -> np.ma.MaskedArray:
        """Compute the expression with numpy: the plain twin of `column`.

        Parameters
        ----------
        types : mapping of str to str
            As in `check`.
        rows : mapping of str to array-like with shape (N,)
            The columns; None, NaN and masked elements are null.

        Returns
        -------
        masked array with shape (N,)
            Masked where it is unknown. Scalar if the expression reads no column.
        """
        self.check(types)
        values, known = _plain(self.root, types, rows)
        values, known = np.broadcast_arrays(values, known)
        return np.ma.MaskedArray(values.copy(), mask=~known)


def parse(text: str) -> Expression:
    """Parse an expression.

    Raises
    ------
    ConfigError
        If it is none, or has something in it that the language lacks; with the place in the text.
    """
    line = text.replace("\n", " ").strip()
    root, cuts = read(line)
    return Expression(line, frozenset(_names(root)), cuts, root)


def _names(node: Node) -> set[str]:
    match node:
        case Literal():
            return set()
        case Name(name=name):
            return {name}
    return set().union(*map(_names, node.arguments))


def _kind(node: Node, types: Mapping[str, str], text: str) -> str:
    match node:
        case Literal(value=bool()):
            return ops.BOOLEAN
        case Literal(value=value):
            return ops.STRING if isinstance(value, str) else ops.NUMBER
        case Name(name=name):
            if name not in types:
                fail(f"unknown column {name!r}", text, node.at, nearest(name, types))
            return ops.kind_of(types[name])
    operation = ops.OPERATIONS[node.operation]
    first = ""
    for argument in node.arguments:
        kind = _kind(argument, types, text)
        if kind not in operation.takes:
            wanted = " or ".join(operation.takes)
            what = {ops.OTHER: "an array or the like"}.get(kind, f"a {kind}")
            fail(f"{node.operation!r} takes {wanted}, not {what},", text, argument.at)
        if first and kind != first:
            fail(f"{node.operation!r} on a {first} and a {kind}", text, argument.at)
        first = kind
    return operation.gives or first


def _spark(node: Node, types: Mapping[str, str], resolve: Callable[[str], Column]) -> Column:
    match node:
        case Literal(value=value):
            return sf.lit(value)
        case Name(name=name):
            return ops.read_column(resolve(name), ops.kind_of(types[name]))
    arguments = (_spark(argument, types, resolve) for argument in node.arguments)
    return ops.OPERATIONS[node.operation].spark(*arguments)


def _plain(node: Node, types: Mapping[str, str], rows: Mapping[str, Any]) -> ops.Values:
    match node:
        case Literal(value=value):
            return ops.literal(value)
        case Name(name=name):
            return ops.values_of(rows[name], ops.kind_of(types[name]))
    arguments = (_plain(argument, types, rows) for argument in node.arguments)
    return ops.OPERATIONS[node.operation].plain(*arguments)
