"""Expressions: parsed, checked, and evaluated by Spark, on Arrow tables or on numpy arrays.

::

    salt_fit.status == 0 and abs(salt_fit.x1) < 3 and 5 <= light_curve_summary.n_detections
    drb >= 0.5 or missing
    type in [RRAB, EW] and z is not null

An expression has the form of Python and is never run as Python. It consists of columns (``name`` or
``unit.name``), numbers, texts, ``True`` and ``False``; ``and or not``; comparisons, also in chains,
``in [...]``, ``is null``; ``+ - * / % **``; the functions of `ampel_spark.expressions.operations`,
which also says how the unknown is treated; and ``or missing`` at the end of a condition, which is
true where a column that the condition names is null. Everything else is refused. A condition
selects the rows for which it is *true*: unknown is not selected.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampel_spark.errors import nearest
from ampel_spark.expressions import sql, values
from ampel_spark.expressions.kinds import BOOLEAN, INTEGER, NUMBER, OTHER, STRING, kind_of
from ampel_spark.expressions.operations import COMPARISONS, OPERATIONS
from ampel_spark.expressions.syntax import Call, Literal, Name, Node, fail, names_in, read

if TYPE_CHECKING:
    from pyspark.sql import Column

__all__ = ["Expression", "parse"]

#: From here on neighbouring integers are one double.
_EXACT = 2**53


class _Rows(Protocol):
    def __getitem__(self, name: str, /) -> Any: ...


@dataclass(frozen=True)
class Expression:
    """A parsed expression; `parse` makes it.

    Attributes
    ----------
    text : str
        As it was written, on one line.
    root : Node
        Its tree.
    cut_texts : tuple of str
        The conditions that ``and`` joins at the top.

    Examples
    --------
    >>> import pyarrow as pa
    >>> condition = parse("0 < z < 0.1 or missing")
    >>> condition.names
    ('z',)
    >>> condition.mask(pa.table({"z": [0.05, 0.5, None]})).tolist()
    [True, False, True]
    """

    text: str
    root: Node = field(repr=False)
    cut_texts: tuple[str, ...] = ()

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The columns that it reads, in order."""
        return names_in(self.root)

    @property
    def columns(self) -> frozenset[str]:
        """The columns that it reads."""
        return frozenset(self.names)

    @property
    def name(self) -> str | None:
        """The column's name if the expression is nothing but one column, else None."""
        return self.root.name if isinstance(self.root, Name) else None

    @property
    def kind(self) -> str | None:
        """The kind of its value, as `check` returns it; None where the columns' types decide."""
        if isinstance(self.root, Call):
            return OPERATIONS[self.root.operation].gives
        return None if isinstance(self.root, Name) else _shown(_kind(self.root, {}, self.text))

    def cuts(self) -> tuple[Expression, ...]:
        """Return the conditions that ``and`` joins at the top, each as an expression."""
        return tuple(parse(text) for text in self.cut_texts)

    def part(self, node: Node) -> Expression:
        """Return a part of the tree as an expression."""
        return Expression(self.text, node)

    def compared(self) -> tuple[Expression | None, Expression | None]:
        """Return what the first comparison compares, and with what.

        Returns
        -------
        value : Expression or None
            The left side, or the right one where the left is a constant. None: no comparison.
        threshold : Expression or None
            The other side, if the whole condition is this comparison, with or without
            ``or missing``. None for a list.

        Examples
        --------
        >>> value, threshold = parse("abs(gal_lat) > 14 or missing").compared()
        >>> value.names, threshold.root.value
        (('gal_lat',), 14)
        >>> parse("magpsf < 19 or rb > 0.9").compared()[1] is None
        True
        """
        whole = self.root
        if isinstance(whole, Call) and whole.operation == "or missing":
            whole = whole.arguments[0]
        found = _first_comparison(whole)
        if found is None:
            return None, None
        left, right = found.arguments[:2]
        if found.operation in COMPARISONS and isinstance(left, Literal):
            left, right = right, left
        alone = found is whole and found.operation in COMPARISONS
        return self.part(left), self.part(right) if alone else None

    def check(self, types: Mapping[str, str]) -> str:
        """Check names and types, and return the kind of the result.

        Parameters
        ----------
        types : mapping of str to str
            Type of each column that there is, as Spark SQL or Arrow calls it.

        Returns
        -------
        str
            ``number``, ``string``, ``boolean`` or ``other`` (arrays and the like).

        Raises
        ------
        ConfigError
            For an unknown column, or an operation on the wrong types; with the place in the text.
        """
        kind = _kind(self.root, types, self.text)
        if kind == INTEGER:
            _check_digits(self.root, "", {kind}, self.text)
        return _shown(kind)

    def term(self, types: Mapping[str, str], resolve: Callable[[str], sql.Term]) -> sql.Term:
        """Return the expression as Spark SQL, null where it is unknown.

        Parameters
        ----------
        types : mapping of str to str
            As in `check`.
        resolve : callable
            Return the SQL of a column.
        """
        _kind(self.root, types, self.text)
        return _spark(self.root, resolve)

    def column(self, types: Mapping[str, str]) -> Column:
        """Return the expression as a Spark column, null where it is unknown.

        A number is a double, and an integer where the expression is nothing but one column.

        Parameters
        ----------
        types : mapping of str to str
            As in `check`.
        """
        from pyspark.sql import functions as sf  # the other evaluators need no Spark

        self.check(types)
        term = self.term(types, lambda name: sql.column(_quoted(name), types[name]))
        whole = term.kind == INTEGER and not self.name
        return sf.expr(sql.number(term) if whole else term.sql)

    def evaluate(self, types: Mapping[str, str], rows: _Rows) -> np.ma.MaskedArray:
        """Compute the expression with numpy.

        Parameters
        ----------
        types : mapping of str to str
            As in `check`.
        rows : mapping of str to array-like or Arrow array with shape (N,)
            The columns; None, NaN and masked elements are null.

        Returns
        -------
        masked array with shape (N,)
            Masked where it is unknown. Scalar if the expression reads no column.

        Examples
        --------
        >>> parse("a / b").evaluate({"a": "double", "b": "int"}, {"a": [1.0, 1.0], "b": [2, 0]})
        masked_array(data=[0.5, --],
                     mask=[False,  True],
               fill_value=1e+20)
        """
        _kind(self.root, types, self.text)
        found, known = _plain(self.root, types, rows)
        found, known = np.broadcast_arrays(found, known)
        return np.ma.MaskedArray(found.copy(), mask=~known)

    def mask(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Return the rows of an Arrow table for which a condition is true.

        Raises
        ------
        ConfigError
            If a column is absent, a type is wrong, or the expression is no condition.
        """
        types = {f.name: str(f.type) for f in table.schema}
        if (kind := self.check(types)) != BOOLEAN:
            fail(f"a {kind}, and no condition,", self.text, self.root.at)
        found = self.evaluate(types, {name: table[name] for name in self.names})
        return np.broadcast_to(found.filled(False), len(table)).copy()


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """Parse an expression.

    Parameters
    ----------
    text : str
        The expression, on one line or several.

    Raises
    ------
    ConfigError
        If it is none, or has something in it that the language lacks; with the place in the text.

    Examples
    --------
    >>> parse("fit.x1 < 3 and fit.c is not null").cut_texts
    ('fit.x1 < 3', 'fit.c is not null')
    >>> parse("a << 3")
    Traceback (most recent call last):
    ...
    ampel_spark.errors.ConfigError: this is not part of the language: at character 1 of 'a << 3'
    """
    line = text.replace("\n", " ").strip()
    root, cuts = read(line)
    return Expression(line, root, cuts)


def _first_comparison(node: Node) -> Call | None:
    if not isinstance(node, Call):
        return None
    if node.operation in COMPARISONS or node.operation == "in":
        return node
    return next((found for part in node.arguments if (found := _first_comparison(part))), None)


def _shown(kind: str) -> str:
    return NUMBER if kind == INTEGER else kind


def _kind(node: Node, types: Mapping[str, str], text: str) -> str:
    match node:
        case Literal(value=bool()):
            return BOOLEAN
        case Literal(value=value):
            return {str: STRING, int: INTEGER}.get(type(value), NUMBER)
        case Name(name=name):
            if name not in types:
                fail(f"unknown column {name!r}", text, node.at, nearest(name, types))
            return kind_of(types[name])
    operation = OPERATIONS[node.operation]
    kinds = [_kind(argument, types, text) for argument in node.arguments]
    first = _shown(kinds[0])
    for argument, fine in zip(node.arguments, kinds, strict=True):
        kind = _shown(fine)
        if kind not in operation.takes:
            wanted = " or ".join(operation.takes)
            what = {OTHER: "an array or the like"}.get(kind, f"a {kind}")
            fail(f"{node.operation!r} takes {wanted}, not {what},", text, argument.at)
        if kind != first:
            fail(f"{node.operation!r} on a {first} and a {kind}", text, argument.at)
        # the items of a list stand beside the first argument alone
        item = node.operation == "in" and argument is not node.arguments[0]
        _check_digits(argument, node.operation, {kinds[0], fine} if item else set(kinds), text)
    return operation.gives or (NUMBER if len(set(kinds)) > 1 else kinds[0])


def _check_digits(node: Node, operation: str, kinds: set[str], text: str) -> None:
    """Refuse a constant that cannot be held exactly against what it stands beside."""
    if not isinstance(node, Literal) or isinstance(node.value, bool | str):
        return
    compares = operation in COMPARISONS or operation == "in"
    if isinstance(node.value, int):
        if abs(node.value) > _EXACT and not (compares and kinds == {INTEGER}):
            fail("a number too large to be exact among real ones", text, node.at)
    elif compares and INTEGER in kinds and _EXACT <= abs(node.value) < np.inf:
        fail(f"write {node.value} as a whole number: a real one has 53 bits,", text, node.at)


def _quoted(name: str) -> str:
    return ".".join(f"`{part}`" for part in name.split("."))


def _spark(node: Node, resolve: Callable[[str], sql.Term]) -> sql.Term:
    match node:
        case Literal(value=value):
            return sql.literal(value)
        case Name(name=name):
            return resolve(name)
    arguments = (_spark(argument, resolve) for argument in node.arguments)
    return OPERATIONS[node.operation].spark(*arguments)


def _plain(node: Node, types: Mapping[str, str], rows: _Rows) -> values.Values:
    match node:
        case Literal(value=value):
            return values.literal(value)
        case Name(name=name):
            return values.values_of(rows[name], kind_of(types[name]))
    arguments = (_plain(argument, types, rows) for argument in node.arguments)
    return OPERATIONS[node.operation].plain(*arguments)
