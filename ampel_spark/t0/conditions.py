"""Conditions as a job writes them: ``quantity op value``, read strictly, never evaluated as code.

::

    rb >= 0.3
    magpsf < 19
    abs(gal_lat) > 14
    n_detections >= 2
    isdiffpos in [t, 1]
    drb >= 0.5 or missing

A quantity is a column of the alerts table, one of ``tspan``, ``archive_tspan`` and ``gal_lat``, or
``abs(..)`` of either. The operator is ``<``, ``<=``, ``>``, ``>=``; for integers and strings also
``==``, ``!=``, ``in [..]`` and ``not in [..]``.
"""

from __future__ import annotations

import functools
import math
import re

from ampel_spark.archive.ztf import alerts_table
from ampel_spark.errors import ConfigError, nearest
from ampel_spark.t0.cuts import Comparison, Cut, inner_column

__all__ = ["parse_condition", "quantities"]

# What rejects is the opposite of what is asked for.
_OPPOSITE = {
    "<": ">=", "<=": ">", ">": "<=", ">=": "<",
    "==": "!=", "!=": "==", "in": "not in", "not in": "in",
}  # fmt: skip
_SHAPE = re.compile(
    r"(?P<quantity>.+?)\s*(?P<op><=|>=|==|!=|<|>|\bnot\s+in\b|\bin\b)\s*(?P<value>.+)"
)
_OR_MISSING = re.compile(r"\s+or\s+missing$")

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


@functools.cache
def quantities() -> dict[str, str]:
    """Return what a condition may name: quantity → its Spark SQL type."""
    columns = {
        c.name: c.type
        for c in alerts_table().columns
        if c.name not in _WITHHELD and not c.type.startswith("array")
    }
    return columns | dict.fromkeys(("tspan", "archive_tspan", "gal_lat"), "double")


def parse_condition(text: str) -> Cut:
    """Read a condition, and return the cut that rejects what does not meet it.

    Parameters
    ----------
    text : str
        ``quantity op value``, with ``or missing`` at the end where a missing number may pass.

    Raises
    ------
    ConfigError
        If it cannot be read, or names no column; the error names the nearest one.
    """
    body = _OR_MISSING.sub("", text.strip())
    match = _SHAPE.fullmatch(body)
    if match is None:
        raise ConfigError(
            f"condition {text!r} cannot be read: write 'quantity op value', as 'rb >= 0.3',"
            " 'isdiffpos in [t, 1]' or 'drb >= 0.5 or missing'"
        )
    quantity = re.sub(r"\s+", "", match["quantity"])
    op = " ".join(match["op"].split())
    kind = _kind(text, quantity)
    operand: float | int | str | tuple[float | int | str, ...]
    if op in ("in", "not in"):
        operand = _list(text, kind, match["value"])
    else:
        operand = _value(text, kind, match["value"])
    _check_op(text, quantity, op, kind)

    rejects = [Comparison(quantity, _OPPOSITE[op], operand)]
    name = str(Comparison(quantity, op, operand))
    if body == text.strip():
        rejects.insert(0, Comparison(quantity, "is missing"))
    else:
        name += " or missing"
    number = kind != "string"
    threshold = float(operand) if isinstance(operand, float | int) else None
    return Cut(name, rejects, "any", quantity if number else None, threshold)


def _kind(text: str, quantity: str) -> str:
    known = quantities()
    column = inner_column(quantity) or quantity
    if column in _WITHHELD:
        raise ConfigError(
            f"condition {text!r}: {column} is not for filters; use n_detections, or a column of the"
            " survey's candidate"
        )
    if column not in known:
        raise ConfigError(f"condition {text!r}: no column {column!r}{_near(column)}")
    if column != quantity and known[column] == "string":
        raise ConfigError(f"condition {text!r}: {column} is a string and has no magnitude")
    return known[column]


def _near(column: str) -> str:
    near = nearest(column, quantities())
    # a list of all hundred columns would help nobody
    return near if "mean" in near else "; `ampel-spark tables` lists the columns of alerts"


def _check_op(text: str, quantity: str, op: str, kind: str) -> None:
    if kind == "string" and op in ("<", "<=", ">", ">="):
        raise ConfigError(f"condition {text!r}: {quantity} is a string; use ==, !=, in or not in")
    if kind in ("float", "double") and op not in ("<", "<=", ">", ">="):
        raise ConfigError(
            f"condition {text!r}: {quantity} is a real number; ask for a range with < and >"
        )


def _list(text: str, kind: str, written: str) -> tuple[float | int | str, ...]:
    match = re.fullmatch(r"\[(.*)\]", written.strip())
    if match is None or not match[1].strip():
        raise ConfigError(f"condition {text!r}: give a list in brackets, as [t, 1]")
    return tuple(_value(text, kind, item) for item in match[1].split(","))


def _value(text: str, kind: str, written: str) -> float | int | str:
    word = written.strip()
    if kind == "string":
        match = re.fullmatch(r"(['\"]?)([\w.+\- ]+)\1", word)
        if match is None:
            raise ConfigError(f"condition {text!r}: {word!r} is no plain string")
        return match[2]
    try:
        number = float(word)
    except ValueError:
        raise ConfigError(f"condition {text!r}: {word!r} is no number") from None
    if math.isnan(number):
        raise ConfigError(f"condition {text!r}: NaN compares with nothing; use 'or missing'")
    if not re.fullmatch(r"[+-]?\d+", word):
        if kind in ("int", "bigint", "long") and 2**53 < abs(number) < math.inf:
            raise ConfigError(
                f"condition {text!r}: write {word} as a whole number: a real one has 53 bits"
            )
        return number
    if not -(1 << 63) <= int(word) < 1 << 63:
        raise ConfigError(f"condition {text!r}: {word} has more than 64 bits")
    return int(word)
