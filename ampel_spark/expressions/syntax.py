"""The grammar: from text, by way of Python's own parser, to a tree of our own.

Only what `read` names gets into the tree; everything else is refused with its place in the text.
Nothing is ever run or looked up as Python. Three forms are not Python's: ``is null``,
``... or missing``, and words without quotes in the list of an ``in``.
"""

from __future__ import annotations

import ast
import bisect
import math
import re
import warnings
from dataclasses import dataclass
from typing import Any, NoReturn

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.expressions.operations import FUNCTIONS

__all__ = ["Call", "Literal", "Name", "Node", "fail", "names_in", "read"]

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
    """An operation of `ampel_spark.expressions.operations` on arguments.

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
# Texts in quotes stand first, so that nothing in them is taken for a list or a null.
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_SPECIAL = re.compile(
    rf"{_QUOTED}|\bin\s*\[(?P<items>(?:{_QUOTED}|[^\]'\"])*)\]|\bis\s+(?:not\s+)?(?P<null>null)\b"
)
_ITEM = re.compile(rf"{_QUOTED}|[^,'\"]+")
_WORD = re.compile(r"(?=.*\w)[\w.+\-]+(?: +[\w.+\-]+)*")
_NO_WORD = re.compile(
    r"True|False|None|nan|[+-]?inf|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"
    r"|[+-]? *(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
)
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
    source = _Source.of(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python finds dubious is no expression
            tree = ast.parse(source.python, mode="eval").body
    except SyntaxError as error:
        # a text that ends too early has no offset
        at = source.place(error.offset - 1) if error.offset else len(text)
        fail(f"not an expression: {error.msg},", text, at)
    except (ValueError, RecursionError, MemoryError) as error:
        fail(f"not an expression: {error},", text, 0)
    return _Reader(source).read(tree), tuple(source.cuts(tree))


def names_in(node: Node) -> tuple[str, ...]:
    """Return the columns that a tree names, each once, in order of reading."""
    match node:
        case Literal():
            return ()
        case Name(name=name):
            return (name,)
    return tuple(dict.fromkeys(name for part in node.arguments for name in names_in(part)))


@dataclass(frozen=True)
class _Source:
    """A text, and the Python that is read in its place.

    Attributes
    ----------
    text, python : str
    added : tuple of int
        Places in `python` of characters that `text` lacks.
    """

    text: str
    python: str
    added: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> _Source:
        """Put quotes about bare words in lists, and ``None`` for ``null``."""
        python, added, done = "", [], 0
        for found in _SPECIAL.finditer(text):
            if found["null"]:
                python += text[done : found.start("null")] + "None"
                done = found.end()
                continue
            items = list(_ITEM.finditer(text, *found.span("items"))) if found["items"] else []
            words = [_WORD.fullmatch(item[0].strip()) for item in items]
            if not any(word and not _NO_WORD.fullmatch(word[0]) for word in words):
                continue
            for item, word in zip(items, words, strict=True):
                if word:
                    at = item.start() + item[0].index(word[0])
                    python += text[done:at]
                    added += [len(python), len(python) + len(word[0]) + 1]
                    python += f"'{word[0]}'"
                    done = at + len(word[0])
        return cls(text, python + text[done:], tuple(added))

    def place(self, at: int) -> int:
        """Return the place in `text` of a character of `python`."""
        return at - bisect.bisect_left(self.added, at)

    def at(self, line_bytes: int) -> int:
        """Return the place in `text` of a node of Python's tree, which counts bytes."""
        return self.place(len(self.python.encode()[:line_bytes].decode()))

    def cuts(self, tree: ast.expr) -> list[str]:
        """Return the texts of what ``and`` joins at the top."""
        if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
            return [cut for part in tree.values for cut in self.cuts(part)]
        return [self.text[self.at(tree.col_offset) : self.at(tree.end_col_offset or 0)]]


@dataclass(frozen=True)
class _Reader:
    source: _Source

    def fail(self, message: str, tree: ast.expr, cure: str = "") -> NoReturn:
        fail(message, self.source.text, self.at(tree), cure)

    def at(self, tree: ast.expr) -> int:
        return self.source.at(tree.col_offset)

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
            case ast.Name(id="inf"):
                return Literal(math.inf, self.at(tree))
            case ast.Name(id="nan"):
                self.fail("NaN compares with nothing: write 'is null' or 'or missing',", tree)
            case ast.Name(id=name):
                return self.column(name, tree)
            case ast.Attribute(value=ast.Name(id=unit), attr=column):
                return self.column(f"{unit}.{column}", tree)
            case ast.Attribute():
                self.fail("a column is 'unit.column', without further dots,", tree)
            case ast.BoolOp(op=ast.Or(), values=[*values, ast.Name(id="missing")]):
                return self.or_missing(tree, [self.read(value, below) for value in values])
            case ast.BoolOp(op=op, values=values):
                operation = "and" if isinstance(op, ast.And) else "or"
                return self.call(tree, operation, *(self.read(value, below) for value in values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.call(tree, "not", self.read(operand, below))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.negative(operand, tree, below)
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
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            self.fail("a number too large to be exact, of more than 64 bits,", tree)
        if not math.isfinite(value):
            self.fail("a number too large to be exact", tree, ": write inf")
        return value

    def negative(self, operand: ast.expr, tree: ast.expr, depth: int) -> Node:
        """Read a minus: part of a number that follows it, else an operation."""
        match operand:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return Literal(self.constant(-value, tree), self.at(tree))
            case ast.Name(id="inf"):
                return Literal(-math.inf, self.at(tree))
        return self.call(tree, "negative", self.read(operand, depth))

    def or_missing(self, tree: ast.expr, conditions: list[Node]) -> Call:
        """Read ``... or missing``: true also where a column that it names is null."""
        first = conditions[0] if len(conditions) == 1 else self.call(tree, "or", *conditions)
        names = names_in(first)
        if not names:
            self.fail("'or missing' names no column that can be missing", tree)
        nulls = [self.call(tree, "isnull", Name(name, self.at(tree))) for name in names]
        return self.call(tree, "or missing", first, *nulls)

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
        """Read the list of an ``in``."""
        parts = tree.elts if isinstance(tree, ast.List | ast.Tuple | ast.Set) else []
        found = [self.read(item, depth) for item in parts]
        literals = [item for item in found if isinstance(item, Literal)]
        if not found or len(literals) < len(found):
            at = next((p for p, f in zip(parts, found, strict=True) if f not in literals), tree)
            self.fail("'in' takes a list in brackets, as [1, 2] or ['a', 'b']:", at)
        return literals
