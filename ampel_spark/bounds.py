"""Bounds of what is read of files that somebody hands over, so that none takes the machine down.

Sizes of packets, members and tables are bounded by `limit`. ``AMPEL_SPARK_LIMITS`` raises a bound,
as ``AMPEL_SPARK_LIMITS="packet=64 table=20000"``; numbers are in MB. YAML is bounded in depth and
in the size that it has with its aliases written out (`Loader`).
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any, NoReturn

import yaml

from ampel_spark.errors import ConfigError, nearest

__all__ = ["LIMITS", "VARIABLE", "Loader", "TooLargeError", "cure", "limit"]

#: Environment variable that raises bounds.
VARIABLE = "AMPEL_SPARK_LIMITS"

#: Bounds by name [MB].
LIMITS = {
    "packet": 16,  # a member of a tar, and what is compressed in it
    "header": 1,  # headers of a tar between two members
    "file": 2048,  # one file that is one container of packets, unpacked
    "image": 64,  # a cutout, unpacked
    "table": 8192,  # a table, unpacked
    "yaml": 1,  # a file of YAML; with its aliases written out, some times as much
}

#: How deep collections of YAML may stand in each other.
_DEPTH = 50
#: Bytes of YAML that may be one value, on average: PyYAML takes longest by their number.
_VALUE = 20
#: How many times larger than a file may be what it says with its aliases written out.
_EXPANDED = 4


class TooLargeError(ValueError):
    """A file, or a part of one, that is beyond its bound."""


def limit(name: str) -> int:
    """Return a bound of `LIMITS` in bytes, as ``AMPEL_SPARK_LIMITS`` may have raised it.

    Raises
    ------
    ConfigError
        If the variable cannot be understood.
    """
    return _limits(os.environ.get(VARIABLE, ""))[name] << 20


def cure(name: str) -> str:
    """Return what a message says of a bound: how large it is, and how it is raised."""
    now = limit(name) >> 20
    return f"at most {now} MB are read; {VARIABLE}='{name}={2 * now}' raises that"


@functools.cache
def _limits(text: str) -> dict[str, int]:
    found = dict(LIMITS)
    for word in re.split(r"[,\s]+", text.strip()):
        name, _, number = word.partition("=")
        if word and (name not in LIMITS or not re.fullmatch("[1-9][0-9]{0,8}", number)):
            hint = nearest(name, LIMITS) if name not in LIMITS else ""
            raise ConfigError(
                f"{VARIABLE} has {word!r}: give NAME=MB, as packet=64, with a whole number{hint}"
            )
        if word:
            found[name] = int(number)
    return found


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader for texts that may be hostile.

    A text that is too large, too deep, or too large once its aliases are written out is refused by
    a `yaml.MarkedYAMLError` with the line, before anything is made of it.
    """

    def __init__(self, stream: str) -> None:
        if len(stream) > limit("yaml"):
            raise yaml.MarkedYAMLError(
                problem=f"{len(stream)} characters are too many: {cure('yaml')}"
            )
        super().__init__(stream)
        self._depth = self._count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node; refuse one that stands too deep."""
        self._depth += 1
        self._count += 1
        most = limit("yaml") // _VALUE
        if self._depth > _DEPTH:
            self._refuse(f"more than {_DEPTH} lists and mappings stand in each other")
        if self._count > most:
            self._refuse(f"it has more than {most:,} keys and values: {cure('yaml')}")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if parent is None and node is not None:
            _check_expanded(node)
        return node

    def _refuse(self, problem: str) -> NoReturn:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)


def _check_expanded(root: yaml.Node) -> None:
    """Raise `yaml.MarkedYAMLError` where aliases make much of little."""
    sizes: dict[int, int] = {}
    most = _EXPANDED * limit("yaml")

    def size_of(node: yaml.Node) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        sizes[id(node)] = 0  # of an anchor that holds itself: whoever builds the content says so
        size = _VALUE
        if isinstance(node, yaml.MappingNode):
            size += sum(size_of(key) + size_of(value) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            size += sum(map(size_of, node.value))
        else:
            size += len(node.value)
        if size > most:
            raise yaml.MarkedYAMLError(
                problem=f"it has more than {most:,} characters once its aliases are written"
                " out: repeat less",
                problem_mark=node.start_mark,
            )
        sizes[id(node)] = size
        return size

    size_of(root)
