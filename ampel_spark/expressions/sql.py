"""Operations as Spark SQL text.

Text, because Spark parses a filter of hundreds of operations at once, while each operation on a
Column is several calls to the JVM. Every text gives null where the answer is unknown, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ampel_spark.expressions.kinds import BOOLEAN, INTEGER, NUMBER, is_narrow, kind_of

__all__ = [
    "Term",
    "arithmetic",
    "column",
    "comparison",
    "ifnull",
    "is_one_of",
    "joined",
    "largest",
    "literal",
    "number",
    "power",
    "remainder",
    "smallest",
]

_NONE, _NAN = "CAST(NULL AS DOUBLE)", "CAST('NaN' AS DOUBLE)"
_EXACT = 2**53


class Term(NamedTuple):
    """Spark SQL of a value.

    Attributes
    ----------
    sql : str
    kind : str
        One of `ampel_spark.expressions.kinds`.
    narrow : bool
        Whether it is an integer that a double holds exactly.
    value : float, str, bool or None
        The value of a constant.
    """

    sql: str
    kind: str
    narrow: bool = False
    value: float | str | bool | None = None


def literal(value: float | str | bool) -> Term:
    """Return a number, a text or a truth value."""
    if isinstance(value, bool):
        return Term(str(value).lower(), BOOLEAN, value=value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return Term(f"'{escaped}'", "string", value=value)
    if isinstance(value, int):
        # the smallest of 64 bits cannot be written with its sign
        sql = f"({value}L)" if value > -(2**63) else f"({value + 1}L - 1L)"
        return Term(sql, INTEGER, abs(value) <= _EXACT, value)
    # Spark reads a bare 0.3 as a decimal
    sql = f"({value!r}D)" if math.isfinite(value) else f"CAST('{value}' AS DOUBLE)"
    return Term(sql, NUMBER, value=value)


def column(name: str, type_name: str) -> Term:
    """Return the column that an identifier names: real numbers as doubles, NaN as null."""
    kind = kind_of(type_name)
    if kind == NUMBER:
        return Term(_not_nan(f"CAST({name} AS DOUBLE)"), kind)
    return Term(name, kind, is_narrow(type_name))


def number(term: Term) -> str:
    """Return a number as double; null for an integer that no double holds exactly."""
    if term.kind == NUMBER:
        return term.sql
    if isinstance(term.value, int):
        return literal(float(term.value)).sql
    cast = f"CAST({term.sql} AS DOUBLE)"
    if term.narrow:
        return cast
    return f"CASE WHEN {term.sql} BETWEEN -{_EXACT}L AND {_EXACT}L THEN {cast} END"


def arithmetic(template: str, *, nan: bool = True) -> Callable[..., Term]:
    """Return an operation on numbers; `nan` says whether it can give NaN for none."""
    linear = any(f" {sign} " in template for sign in "+-*")

    def build(*terms: Term) -> Term:
        found = template.format(*map(number, terms))
        if nan and not (linear and any(map(_is_plain, terms))):
            found = _not_nan(found)
        return Term(found, NUMBER)

    return build


def _is_plain(term: Term) -> bool:
    """Return whether a term is a constant that is neither zero nor infinite."""
    return isinstance(term.value, int | float) and 0 < abs(term.value) < math.inf


def comparison(operator: str) -> Callable[[Term, Term], Term]:
    """Return a comparison that is exact, between integers and real numbers too."""

    def build(a: Term, b: Term) -> Term:
        if a.kind == b.kind:
            return Term(f"({a.sql} {operator} {b.sql})", BOOLEAN)
        whole, real = (a, b) if a.kind == INTEGER else (b, a)
        if whole.narrow:
            return Term(f"({number(a)} {operator} {number(b)})", BOOLEAN)

        def of(whole_sql: str, real_sql: str) -> str:
            left, right = (whole_sql, real_sql) if whole is a else (real_sql, whole_sql)
            return f"({left} {operator} {right})"

        rounded = f"CAST({whole.sql} AS DOUBLE)"
        if real.value is not None:
            return Term(of(rounded, real.sql), BOOLEAN)  # below 2^53, or infinite
        # a larger one is a whole number too; what has more than 64 bits is as good as infinite
        small = f"abs({real.sql}) < {_EXACT}D"
        fits = f"{real.sql} >= -{2**63}D AND {real.sql} < {2**63}D"
        return Term(
            f"CASE WHEN {small} THEN {of(rounded, real.sql)}"
            f" WHEN {fits} THEN {of(whole.sql, f'CAST({real.sql} AS BIGINT)')}"
            f" ELSE {of(rounded, f'(2D * {real.sql})')} END",
            BOOLEAN,
        )

    return build


def is_one_of(first: Term, *others: Term) -> Term:
    """Return whether a value is one of a list."""
    if first.kind != INTEGER or all(other.kind == INTEGER for other in others):
        items = ", ".join(number(t) if first.kind == NUMBER else t.sql for t in others)
        return Term(f"({first.sql} IN ({items}))", BOOLEAN)
    return joined("OR")(*(comparison("=")(first, other) for other in others))


def joined(word: str) -> Callable[..., Term]:
    """Return ``AND`` or ``OR`` of conditions."""
    return lambda *terms: Term(f"({f' {word} '.join(t.sql for t in terms)})", BOOLEAN)


def ifnull(a: Term, b: Term) -> Term:
    """Return the second value where the first is null."""
    if a.kind == b.kind:
        return Term(f"coalesce({a.sql}, {b.sql})", a.kind, a.narrow and b.narrow)
    # an integer that no double holds is unknown, and not null
    return Term(f"CASE WHEN {a.sql} IS NULL THEN {number(b)} ELSE {number(a)} END", NUMBER)


def largest(*terms: Term) -> Term:
    """Return the largest number; unlike Spark's ``greatest``, null where any of them is null."""
    # to Spark, NaN is larger than any number
    every = ", ".join(f"coalesce({number(t)}, {_NAN})" for t in terms)
    return Term(_not_nan(f"greatest({every})"), NUMBER)


def smallest(*terms: Term) -> Term:
    """Return the smallest number, null where any of them is null."""
    return Term(f"(- {largest(*(Term(f'(- {number(t)})', NUMBER) for t in terms)).sql})", NUMBER)


def remainder(a: Term, b: Term) -> Term:
    """Return the remainder, from 0 to the divisor's size."""
    divisor = _once(f"abs({number(b)})", f"v > 0D AND v < {_INFINITY}")
    return Term(_not_nan(f"pmod({number(a)}, {divisor})"), NUMBER)


def power(a: Term, b: Term) -> Term:
    """Return a power that is finite."""
    raised = f"pow({number(a)}, {_once(number(b), _FINITE)})"
    return Term(_once(raised, _FINITE), NUMBER)


_INFINITY = "CAST('Infinity' AS DOUBLE)"
_FINITE = f"abs(v) < {_INFINITY}"


def _not_nan(sql: str) -> str:
    return f"nanvl({sql}, {_NONE})"


def _once(sql: str, condition: str) -> str:
    """Return a number where a condition on it, called ``v``, holds; it is evaluated once.

    Written out, nested expressions would double in size with every level.
    """
    return f"transform(array({sql}), v -> CASE WHEN {condition} THEN v END)[0]"
