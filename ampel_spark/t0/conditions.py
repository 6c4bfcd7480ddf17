"""Conditions as a job writes them: what an alert must meet.

::

    rb >= 0.3
    abs(gal_lat) > 14
    magpsf < 19 or ndethist >= 3
    isdiffpos in [t, 1]
    drb >= 0.5 or missing

They are in the one language, `ampel_spark.expressions`, over the columns of the alerts table, those
that the survey declares (``reliability``, or ``lsst.reliability``), and ``tspan``,
``archive_tspan`` and ``gal_lat``. Two things are T0's own. Beside a column of text, a
word without quotes is text after ``==`` and ``!=`` too, and so is a number. And what is hardly
meant is refused: a real number compared by ``==``, a text compared by ``<``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.expressions import Expression, kind_of, parse
from ampel_spark.expressions.kinds import NUMBER, STRING
from ampel_spark.expressions.operations import COMPARISONS
from ampel_spark.expressions.syntax import Call, Literal, Name, Node, names_in
from ampel_spark.t0.cuts import Cut
from ampel_spark.t0.quantities import OwnQuantities, column_types

__all__ = ["parse_condition", "quantities"]

# Bookkeeping, and counts over the whole packet, whatever a channel may see of it.
_WITHHELD = frozenset(
    {
        "survey",
        "hpx",
        "file",
        "content_hash",
        "extra",
        "own",
        "run_id",
        "n_upper_limits",
        "n_forced",
    }
)
_OURS = frozenset(
    {"sign", "ps1_distance_max", "ps1_sg_offset_max", "gaia_distance", "gaia_allowed", "masked"}
)


def quantities(own: OwnQuantities | None = None) -> dict[str, str]:
    """Return what a condition may name: quantity → its Spark SQL type.

    Parameters
    ----------
    own : OwnQuantities, optional
        What the survey declares.
    """
    common = _common()
    return common if own is None else own.names() | common | _declared(own)


def _declared(own: OwnQuantities) -> dict[str, str]:
    """Return declared columns whose plain names are theirs: what is made of columns comes first."""
    return {n: t for n, t in own.types.items() if own.canonical(n) != n}


@functools.cache
def _common() -> dict[str, str]:
    return {
        name: type_name
        for name, type_name in column_types().items()
        if name not in _WITHHELD | _OURS and not type_name.startswith("array")
    }


def parse_condition(text: str, own: OwnQuantities | None = None) -> Cut:
    """Read a condition, and return the cut that rejects alerts for which it is not true.

    The cut records the value of the first comparison's left side (or of its right side, where the
    left one is a constant), and the other side as threshold where the condition is this one
    comparison.

    Parameters
    ----------
    text : str
        The condition.
    own : OwnQuantities, optional
        What the survey declares.

    Raises
    ------
    ConfigError
        If it cannot be read, or names no column; the error names the nearest one.

    Examples
    --------
    >>> cut = parse_condition("abs( magdiff )  <= .4 or missing")
    >>> cut.name, cut.value.names, cut.threshold
    ('abs(magdiff) <= 0.4 or missing', ('magdiff',), 0.4)
    """
    try:
        given = parse(text)
    except ConfigError as error:
        raise ConfigError(f"condition {text!r} cannot be read: {error}") from None
    types = quantities(own)
    condition = Expression(given.text, _with_words(given.root, given.text, types))
    for name in condition.names:
        _check_name(text, name, types)
    for comparison in _comparisons(condition.root):
        _check_meant(text, comparison, types)
    try:
        kind = condition.check(types)
    except ConfigError as error:
        raise ConfigError(f"condition {text!r}: {error}") from None
    if kind != "boolean":
        raise ConfigError(
            f"condition {text!r} cannot be read: it is a {kind} and no condition, as 'rb >= 0.3',"
            " 'isdiffpos in [t, 1]' or 'drb >= 0.5 or missing'"
        )
    name = _name(condition.root) or " ".join(text.split())
    if own is not None:
        condition = Expression(given.text, _canonical(condition.root, own))
    return Cut.unless(name, condition)


def _canonical(node: Node, own: OwnQuantities) -> Node:
    """Return a tree in which each column has the one form of its name."""
    if isinstance(node, Name):
        return Name(own.canonical(node.name), node.at, node.size)
    if isinstance(node, Call):
        parts = tuple(_canonical(part, own) for part in node.arguments)
        return Call(node.operation, parts, node.at, node.size)
    return node


def _with_words(node: Node, text: str, types: Mapping[str, str]) -> Node:
    """Return a tree in which words and numbers beside columns of text are texts."""
    if not isinstance(node, Call):
        return node
    parts = [_with_words(part, text, types) for part in node.arguments]
    if node.operation in COMPARISONS or node.operation == "in":
        columns = [name for part in parts for name in names_in(part) if name in types]
        if columns and all(types[name] == STRING for name in columns):
            parts = [_as_text(part, text, types) for part in parts]
    return Call(node.operation, tuple(parts), node.at, node.size)


def _as_text(node: Node, text: str, types: Mapping[str, str]) -> Node:
    word = re.match(r"[\w.+\-]+", text[node.at :])
    bare = isinstance(node, Name) and node.name not in types
    number = isinstance(node, Literal) and isinstance(node.value, int | float)
    return Literal(word[0], node.at) if word and (bare or number) else node


def _check_name(text: str, name: str, types: Mapping[str, str]) -> None:
    if name in _WITHHELD:
        raise ConfigError(
            f"condition {text!r}: {name} is not for filters; use n_detections, or a column of the"
            " survey's candidate"
        )
    if name not in types:
        near = nearest(name, types)
        # a list of all hundred columns would help nobody
        cure = near if "mean" in near else "; `ampel-spark tables` lists the columns of alerts"
        raise ConfigError(f"condition {text!r}: no column {name!r}{cure}")


def _comparisons(node: Node) -> Iterator[Call]:
    if isinstance(node, Call):
        if node.operation in COMPARISONS or node.operation == "in":
            yield node
        for part in node.arguments:
            yield from _comparisons(part)


def _check_meant(text: str, comparison: Call, types: Mapping[str, str]) -> None:
    orders = comparison.operation in ("<", "<=", ">", ">=")
    for side in comparison.arguments:
        column = _column(side)
        kind = kind_of(types[column]) if column else None
        if kind == STRING and orders:
            raise ConfigError(f"condition {text!r}: {column} is a string; use ==, !=, in or not in")
        if kind == NUMBER and not orders:
            raise ConfigError(
                f"condition {text!r}: {column} is a real number; ask for a range with < and >"
            )


def _column(node: Node) -> str | None:
    """Return ``x`` for ``x`` and ``abs(x)``."""
    if isinstance(node, Call) and node.operation == "abs":
        node = node.arguments[0]
    return node.name if isinstance(node, Name) else None


def _name(node: Node) -> str | None:
    """Return ``quantity op value`` in its one form, None for any other condition."""
    match node:
        case Call("or missing", (condition, *_)):
            name = _name(condition)
            return f"{name} or missing" if name else None
        case Call("not", (Call("in") as condition,)):
            name = _name(condition)
            return name.replace(" in ", " not in ", 1) if name else None
        case Call(operation, (first, *others)) if operation in COMPARISONS or operation == "in":
            column = _column(first)
            values = [str(item.value) for item in others if isinstance(item, Literal)]
            if column is None or len(values) < len(others):
                return None
            quantity = column if isinstance(first, Name) else f"abs({column})"
            shown = f"[{', '.join(values)}]" if operation == "in" else values[0]
            return f"{quantity} {operation} {shown}"
    return None
