"""The syntax of expressions: from text, by way of Python's own parser, to a tree of our own.

Only what `read` names gets into the tree; everything else is refused with its place in the text.
Nothing is ever run or looked up as Python.
"""

from __future__ import annotations

import ast
import math
import warnings
from dataclasses import dataclass
from typing import Any, NoReturn

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.t3.operations import FUNCTIONS

__all__ = ["Call", "Literal", "Name", "Node", "fail", "read"]

_MAX_CHARACTERS = 4000
_MAX_DEPTH = 60
_MAX_SIZE = 1000
_MAX_EXPONENT = 100


@dataclass(frozen=True)
class Literal:
    """A number, a string or a truth value, with its place in the text."""

    value: float | str | bool
    at: int
    size: int = 1


@dataclass(frozen=True)
class Name:
    """A column."""

    name: str
    at: int
    size: int = 1


@dataclass(frozen=True)
class Call:
    """An operation of `ampel_spark.t3.operations` on arguments.

    `size` counts the whole tree below, branches that stand in it twice (chains) twice.
    """

    operation: str
    arguments: tuple[Node, ...]
    at: int
    size: int


Node = Literal | Name | Call

_BINARY: dict[type, str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Mod: "%",
    ast.Pow: "**",
}
_COMPARISONS: dict[type, str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_REFUSED: dict[type, str] = {
    ast.Subscript: "a subscript",
    ast.Lambda: "a lambda",
    ast.JoinedStr: "an f-string",
    ast.IfExp: "if … else",
    ast.NamedExpr: "an assignment",
    ast.ListComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.Dict: "a dict",
    ast.List: "a list outside 'in'",
    ast.Tuple: "a tuple outside 'in'",
    ast.Set: "a set outside 'in'",
    ast.Starred: "a star",
}


def fail(message: str, text: str, at: int, cure: str = "") -> NoReturn:
    """Raise a `ConfigError` about character `at` (from 0) of the expression `text`."""
    shown = repr(text if len(text) <= 200 else text[:197] + "...")
    raise ConfigError(f"{message} at character {at + 1} of {shown}{cure}")


def read(text: str) -> tuple[Node, tuple[str, ...]]:
    """Read an expression.

    Returns
    -------
    node : Node
    cuts : tuple of str
        The texts of the conditions that ``and`` joins at the top; one for any other expression.

    Raises
    ------
    ConfigError
        If it is none, or has something in it that the language lacks.
    """
    if not text:
        raise ConfigError("an expression is empty: write a condition, or leave the key out")
    if len(text) > _MAX_CHARACTERS:
        raise ConfigError(f"an expression has {len(text)} characters: at most {_MAX_CHARACTERS}")
    if "#" in text:
        fail("an expression has no comments: '#'", text, text.index("#"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python finds dubious is no expression
            tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        fail(f"not an expression: {error.msg},", text, max(0, (error.offset or 1) - 1))
    except (ValueError, RecursionError, MemoryError) as error:
        fail(f"not an expression: {error},", text, 0)
    return _Reader(text).read(tree), tuple(_cuts(tree, text))


def _cuts(tree: ast.expr, text: str) -> list[str]:
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
        return [cut for part in tree.values for cut in _cuts(part, text)]
    return [ast.get_source_segment(text, tree) or text]


@dataclass(frozen=True)
class _Reader:
    text: str

    def fail(self, message: str, tree: ast.expr, cure: str = "") -> NoReturn:
        fail(message, self.text, self.at(tree), cure)

    def at(self, tree: ast.expr) -> int:
        # Python counts bytes
        return len(self.text.encode()[: tree.col_offset].decode())

    def call(self, tree: ast.expr, operation: str, *arguments: Node) -> Call:
        size = 1 + sum(argument.size for argument in arguments)
        if size > _MAX_SIZE:
            self.fail(f"more than {_MAX_SIZE} operations and names", tree)
        return Call(operation, arguments, self.at(tree), size)

    def read(self, tree: ast.expr, depth: int = 0) -> Node:
        if depth > _MAX_DEPTH:
            self.fail(f"nested deeper than {_MAX_DEPTH} levels", tree)
        below = depth + 1
        match tree:
            case ast.Constant(value=value):
                return Literal(self.constant(value, tree), self.at(tree))
            case ast.Name(id=name):
                return self.column(name, tree)
            case ast.Attribute(value=ast.Name(id=unit), attr=column):
                return self.column(f"{unit}.{column}", tree)
            case ast.Attribute():
                self.fail("a column is 'unit.column', without further dots,", tree)
            case ast.BoolOp(op=op, values=values):
                operation = "and" if isinstance(op, ast.And) else "or"
                return self.call(tree, operation, *(self.read(value, below) for value in values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.call(tree, "not", self.read(operand, below))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.call(tree, "negative", self.read(operand, below))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.read(operand, below)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                if isinstance(op, ast.Pow):
                    self.check_exponent(right)
                sides = self.read(left, below), self.read(right, below)
                return self.call(tree, _BINARY[type(op)], *sides)
            case ast.Compare(left=left, ops=operators, comparators=others):
                sides_of = zip([left, *others], operators, others, strict=False)
                parts = [self.compare(*link, tree, below) for link in sides_of]
                return parts[0] if len(parts) == 1 else self.call(tree, "and", *parts)
            case ast.Call():
                return self.function(tree, below)
        self.fail(f"{_REFUSED.get(type(tree), 'this')} is not part of the language:", tree)

    def constant(self, value: Any, tree: ast.expr) -> float | str | bool:
        if isinstance(value, bool | str):
            return value
        if value is None:
            self.fail("None can only stand in 'is None' and 'is not None':", tree)
        if not isinstance(value, int | float):
            self.fail(f"{value!r:.20} is not part of the language:", tree)
        if (isinstance(value, int) and abs(value) > 2**53) or not math.isfinite(value):
            self.fail("a number too large to be exact", tree)
        return float(value)

    def column(self, name: str, tree: ast.expr) -> Name:
        if any(part.startswith("_") for part in name.split(".")):
            self.fail(f"{name!r} is no column, as names do not begin with '_':", tree)
        return Name(name, self.at(tree))

    def function(self, tree: ast.Call, depth: int) -> Call:
        if not isinstance(tree.func, ast.Name) or tree.keywords:
            self.fail("only functions by their name, without keywords, can be called:", tree)
        name, given = tree.func.id, len(tree.args)
        if name not in FUNCTIONS:
            self.fail(f"unknown function {name!r}", tree, nearest(name, FUNCTIONS))
        fewest, most = FUNCTIONS[name].arity
        if not fewest <= given <= most:
            wanted = f"{fewest} to {most} arguments" if fewest < most else f"{fewest} argument(s)"
            self.fail(f"{name!r} takes {wanted}, not {given},", tree)
        return self.call(tree, name, *(self.read(part, depth) for part in tree.args))

    def check_exponent(self, exponent: ast.expr) -> None:
        for part in ast.walk(exponent):
            if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow):
                self.fail("a power in an exponent", part)
            value = part.value if isinstance(part, ast.Constant) else 0
            if isinstance(value, int | float) and abs(value) > _MAX_EXPONENT:
                self.fail(f"an exponent beyond {_MAX_EXPONENT}", exponent)

    def compare(
        self, left: ast.expr, operator: ast.cmpop, right: ast.expr, tree: ast.expr, depth: int
    ) -> Call:
        first = self.read(left, depth)
        match operator, right:
            case ((ast.Is() | ast.IsNot()), ast.Constant(value=None)):
                operation = "isnull" if isinstance(operator, ast.Is) else "notnull"
                return self.call(tree, operation, first)
            case ((ast.Is() | ast.IsNot()), _):
                self.fail("'is' compares with None only", right, ": write == or !=")
            case ((ast.In() | ast.NotIn()), _):
                found = self.call(tree, "in", first, *self.items(right, depth))
                return found if isinstance(operator, ast.In) else self.call(tree, "not", found)
        return self.call(tree, _COMPARISONS[type(operator)], first, self.read(right, depth))

    def items(self, tree: ast.expr, depth: int) -> list[Literal]:
        """Read the list of an ``in``: literals, and what Python takes for the negative of one."""
        found = []
        for item in tree.elts if isinstance(tree, ast.List | ast.Tuple | ast.Set) else []:
            match self.read(item, depth):
                case Literal() as literal:
                    found.append(literal)
                case Call("negative", (Literal(value=float(value)),), at=at):
                    found.append(Literal(-value, at))
                case _:
                    self.fail("'in' takes a list of numbers or strings:", item)
        if not found:
            self.fail("'in' takes a list of numbers or strings:", tree)
        return found
