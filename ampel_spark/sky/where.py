"""Conditions on the columns of a catalogue, read strictly and never evaluated as code.

::

    z > 0 and z < 0.1
    type in ['G', 'S'] or not (flag == 1)
    z_err is null

What a null is compared with is not met, and neither is its opposite: say ``is null``.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.errors import ConfigError, nearest

__all__ = ["Condition"]

_COMPARE: dict[type, str] = {
    ast.Lt: "less", ast.LtE: "less_equal", ast.Gt: "greater", ast.GtE: "greater_equal",
    ast.Eq: "equal", ast.NotEq: "not_equal",
}  # fmt: skip
_ARITHMETIC = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
}
_NULL = re.compile(r"\bis (not )?null\b")
_QUOTED = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")


@dataclass(frozen=True)
class Condition:
    """A condition on columns; make it with `read`.

    Attributes
    ----------
    text : str
        As it was written.
    columns : tuple of str
        Columns that it names.
    """

    text: str
    columns: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> Condition:
        """Read a condition.

        Raises
        ------
        ConfigError
            If it is none.
        """
        tree = _tree(text)
        named = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id != "abs"]
        _Reader(text).truth(tree, None)
        return cls(text, tuple(dict.fromkeys(named)))

    def mask(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which rows of a table meet it.

        Raises
        ------
        ConfigError
            If a column is absent, or of a type that cannot be compared so.
        """
        for name in self.columns:
            if name not in table.column_names:
                raise ConfigError(
                    f"condition {self.text!r}: no column {name!r}"
                    f"{nearest(name, table.column_names)}"
                )
        try:
            met = _Reader(self.text).truth(_tree(self.text), table)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ConfigError(f"condition {self.text!r}: {error}") from None
        if isinstance(met, pa.Scalar):
            return np.full(len(table), bool(met.as_py()))
        filled = pc.fill_null(met, False)
        return np.asarray(filled.to_numpy(zero_copy_only=False), bool)


def _tree(text: str) -> ast.expr:
    # What stands in quotes stays as it is written: every second part.
    parts = _QUOTED.split(text.strip())
    parts[::2] = [_NULL.sub(r"is \1None", re.sub(r"\s+", " ", part)) for part in parts[::2]]
    plain = "".join(parts)
    try:
        return ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"condition {text!r} cannot be read: {error}") from None


class _Reader:
    """Goes through the tree; without a table it only checks."""

    def __init__(self, text: str) -> None:
        self.text = text

    def truth(self, node: ast.expr, table: pa.Table | None) -> Any:
        if isinstance(node, ast.BoolOp):
            name = "and_kleene" if isinstance(node.op, ast.And) else "or_kleene"
            parts = [self.truth(part, table) for part in node.values]
            met = parts[0]
            for part in parts[1:]:
                met = self._call(name, table, met, part)
            return met
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self._call("invert", table, self.truth(node.operand, table))
        if isinstance(node, ast.Name):
            return self.value(node, table)
        if not isinstance(node, ast.Compare):
            return self._refuse(node)
        met = None
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            one = self._comparison(left, op, right, table)
            met = one if met is None else self._call("and_kleene", table, met, one)
            left = right
        return met

    def value(self, node: ast.expr, table: pa.Table | None) -> Any:
        if isinstance(node, ast.Name):
            return None if table is None else table[node.id].combine_chunks()
        if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
            return pa.scalar(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self._call("negate", table, self.value(node.operand, table))
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            left, right = self.value(node.left, table), self.value(node.right, table)
            if table is not None:
                left, right = (_floating(v) for v in (left, right))
            return self._call(_ARITHMETIC[type(node.op)], table, left, right)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "abs"
            and len(node.args) == 1
        ):
            return self._call("abs", table, self.value(node.args[0], table))
        return self._refuse(node)

    def _comparison(
        self, left: ast.expr, op: ast.cmpop, right: ast.expr, table: pa.Table | None
    ) -> Any:
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                return self._refuse(right)
            name = "is_null" if isinstance(op, ast.Is) else "is_valid"
            return self._call(name, table, self.value(left, table))
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple) or not right.elts:
                return self._refuse(right)
            met = None
            for item in right.elts:
                one = self._comparison(left, ast.Eq(), item, table)
                met = one if met is None else self._call("or_kleene", table, met, one)
            return met if isinstance(op, ast.In) else self._call("invert", table, met)
        return self._call(
            _COMPARE[type(op)], table, self.value(left, table), self.value(right, table)
        )

    def _call(self, name: str, table: pa.Table | None, *values: Any) -> Any:
        return None if table is None else pc.call_function(name, list(values))

    def _refuse(self, node: ast.expr) -> Any:
        raise ConfigError(
            f"condition {self.text!r}: {ast.unparse(node)!r} is no part of a condition; use "
            "columns, numbers, text, comparisons, 'in [...]', 'is null', and, or, not, + - * /, abs"
        )


def _floating(value: Any) -> Any:
    return value.cast(pa.float64()) if pa.types.is_integer(value.type) else value
