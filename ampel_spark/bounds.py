"""Bounds of what is read of files that somebody hands over, so that none takes the machine down.

Sizes of packets, members and tables are bounded by `limit`, and by `RATIO` where they are
compressed. ``AMPEL_SPARK_LIMITS`` raises bounds, as ``packet=64 table=20000``, in MB. YAML is
bounded in depth, and in the size that it has with its aliases written out (`Loader`).
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ampel_spark.errors import ConfigError, nearest

__all__ = [
    "LIMITS",
    "RATIO",
    "VARIABLE",
    "Loader",
    "TooLargeError",
    "check_fits",
    "cure",
    "joined",
    "limit",
    "most_unpacked",
]

#: Environment variable that raises bounds.
VARIABLE = "AMPEL_SPARK_LIMITS"

#: Bounds by name [MB].
LIMITS = {
    "packet": 16,  # a member of a tar
    "header": 1,  # headers of a tar between two members
    "file": 2048,  # a file that is one container of packets
    "image": 64,  # a cutout, unpacked
    "result": 64,  # what a unit returns of one light curve
    "table": 512,  # a table in memory, or so many times the size of its file as `RATIO` says
    "yaml": 1,  # a file of YAML; with its aliases written out, some times as much
}

#: How many times larger than its bound something may be where it was so much smaller, compressed.
RATIO = 50

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


def most_unpacked(name: str, packed: int) -> int:
    """Return how many bytes may be made of `packed` bytes: the bound, or `RATIO` times as many."""
    return max(limit(name), RATIO * packed)


def joined(pieces: Iterable[bytes], name: str, packed: int) -> bytes:
    """Return pieces of what is unpacked as one.

    Parameters
    ----------
    pieces : iterable of bytes
    name : str
        The bound, of `LIMITS`.
    packed : int
        Bytes that it was compressed to.

    Raises
    ------
    TooLargeError
        As soon as they are more than `most_unpacked`.
    """
    most, size, held = most_unpacked(name, packed), 0, []
    for piece in pieces:
        size += len(piece)
        if size > most:
            raise TooLargeError(
                f"{packed} bytes become more than {most >> 20} MB, unpacked: {cure(name)}"
            )
        held.append(piece)
    return b"".join(held)


def check_fits(units: Iterable[Any], path: Path) -> None:
    """Refuse a FITS file whose heads say that it has far more data than it can have.

    Parameters
    ----------
    units : iterable of astropy HDU
        What is in the file.
    path : Path
        The file, compressed or not.

    Raises
    ------
    TooLargeError
        If it says so.
    """
    most = most_unpacked("table", path.stat().st_size)
    for unit in units:
        if unit.size > most:
            raise TooLargeError(f"it says that it has {unit.size} bytes of data: {cure('table')}")


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
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


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
