"""A YAML file read with the line of every key, and its problems reported all at once.

The YAML is YAML 1.2's core, and dates: ``1e-3`` is a number, ``010`` is 10, ``yes`` and ``on`` are
text. Mappings take each key once; keys at the root that begin with ``%`` (in quotes) are places for
anchors and are left out, as in AMPEL. Files that are too large, also by their aliases, are refused
(`ampel_spark.bounds`).
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ampel_spark.bounds import Loader, cure, limit
from ampel_spark.errors import ConfigError, nearest

__all__ = [
    "Document",
    "DocumentError",
    "Problem",
    "Where",
    "parse_document",
    "path_text",
    "read_document",
    "read_value",
    "show_value",
    "written",
]

#: Keys and positions from the root of a document to one of its values.
Where = tuple[str | int, ...]

_MERGE = "tag:yaml.org,2002:merge"
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True)
class Problem:
    """What is wrong, and at which key of a document."""

    where: Where
    message: str


class DocumentError(ConfigError):
    """A file with problems: one line for each.

    Attributes
    ----------
    problems : tuple of dict
        ``file``, ``line`` (or None), ``path`` and ``message`` of each.
    """

    def __init__(self, problems: Iterable[Mapping[str, Any]]) -> None:
        self.problems = tuple(dict(problem) for problem in problems)
        super().__init__("\n".join(_line(problem) for problem in self.problems))


@dataclass
class Document:
    """A YAML file that has been read.

    Attributes
    ----------
    name : str
        What messages call it: the path as it was given.
    text : str
        The file, as read.
    content : dict
        What it says.
    lines : dict of path to int
        Line of every key and list entry, from 1.
    problems : list of Problem
        What was found to be wrong so far.
    foreign : list of dict
        The same of settings and of other files that it names, as `DocumentError.problems` tells it.
    unread : set of path
        Values that could not be read: that is noted, and they stand as None in `content`.
    """

    name: str
    text: str
    content: dict[str, Any] = field(default_factory=dict)
    lines: dict[Where, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    foreign: list[dict[str, Any]] = field(default_factory=list)
    unread: set[Where] = field(default_factory=set)
    _settings: dict[Where, str] = field(default_factory=dict)

    def problem(self, where: Sequence[str | int], message: str) -> None:
        """Note a problem, of a value that could be read."""
        if not self.is_unread(where):
            self.problems.append(Problem(tuple(where), message))

    def problem_of_key(self, where: Sequence[str | int], message: str) -> None:
        """Note a problem of a key, whatever its value."""
        self.problems.append(Problem(tuple(where), message))

    def is_unread(self, where: Sequence[str | int]) -> bool:
        """Whether what stands at a path, or around it, could not be read."""
        return any(tuple(where[:n]) in self.unread for n in range(len(where) + 1))

    def below(self, where: Sequence[str | int]) -> set[Where]:
        """Return what could not be read at a path or below."""
        return {place for place in self.unread if place[: len(where)] == tuple(where)}

    def given(self, where: Where) -> None:
        """Take note that a value takes the place of one that could perhaps not be read."""
        self.unread -= self.below(where)

    def check(self) -> None:
        """Raise all problems noted so far, in the order of the file, others' last.

        Raises
        ------
        DocumentError
            If there is any.
        """
        if self.problems or self.foreign:
            own = [self._placed(problem) for problem in dict.fromkeys(self.problems)]
            own.sort(key=lambda problem: (problem["line"] is None, problem["line"] or 0))
            raise DocumentError([*own, *self.foreign])

    def value(self, where: Sequence[str | int]) -> Any:
        """Return the value at a path, or None where there is none."""
        value: Any = self.content
        for key in where:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def set(self, setting: str) -> None:
        """Apply ``PATH=VALUE``: change a value, or add a key to a mapping.

        What is wrong with it is noted.

        Parameters
        ----------
        setting : str
            As ``t0.0.config.min_ndet=3``. An entry of a list is named by its position or, where it
            has one, its name: ``t0.SN.config.min_ndet``. The value is read as YAML.
        """
        source = f"--set {setting}"
        path, equals, text = setting.partition("=")
        keys = [key for key in re.split(r"[.\[\]]+", path.strip()) if key]
        try:
            if not equals or not keys:
                raise ConfigError("give PATH=VALUE, as t0.0.config.min_ndet=3")
            value = read_value(text)
            parent: Any = self.content
            where: Where = ()
            for key in keys[:-1]:
                step = _step(parent, key, where)
                if isinstance(parent, dict) and parent.get(step) is None:
                    parent[step] = {}
                parent, where = parent[step], (*where, step)
            step = _step(parent, keys[-1], where)
            parent[step] = value
            self._settings[(*where, step)] = source
            self.given((*where, step))
        except ConfigError as error:
            self.foreign.append({"file": source, "line": None, "path": "", "message": str(error)})

    def _placed(self, problem: Problem) -> dict[str, Any]:
        """Return a problem with the file and the line where it is."""
        found = {
            "file": self.name,
            "line": None,
            "path": path_text(problem.where),
            "message": problem.message,
        }
        for n in range(len(problem.where), -1, -1):
            place = problem.where[:n]
            if place in self._settings:
                return found | {"file": self._settings[place]}
            if place in self.lines:
                return found | {"line": self.lines[place]}
        return found


def read_document(path: str | Path) -> Document:
    """Read a YAML file whose root is a mapping.

    Raises
    ------
    ConfigError
        If the file is not there, or is no YAML. Keys given twice and the like are problems of the
        returned document, raised by its `Document.check`.
    """
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(limit("yaml") + 1)
        if len(data) > limit("yaml"):
            raise ConfigError(f"{path} is too large for YAML: {cure('yaml')}")
        text = data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there{_neighbour(Path(path))}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return parse_document(str(path), text)


def parse_document(name: str, text: str) -> Document:
    """Read YAML whose root is a mapping; messages call it `name`.

    Raises
    ------
    ConfigError
        If it is no YAML. Keys given twice and the like are problems of the returned document.
    """
    document = Document(name, text)
    root = _compose(name, text)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{name}:1: a mapping (lines of 'key: value') is needed at the root")
    content = _Reader(document).read(root, ())
    document.content = {key: value for key, value in content.items() if not key.startswith("%")}
    return document


def path_text(where: Sequence[str | int]) -> str:
    """Return a path as messages write it: ``t0[0].config.min_ndet``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in where)
    return text.removeprefix(".")


def show_value(value: Any) -> str:
    """Return a value as a message shows it, on one line and not too long."""
    if isinstance(value, list | dict):
        text = json.dumps(value, default=str, ensure_ascii=False)
    elif value is None or isinstance(value, bool):
        text = json.dumps(value)
    else:
        text = str(value) if isinstance(value, int | float) else repr(str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Loader(Loader):
    """Loader with the scalars of YAML 1.2's core schema, and dates."""


_WORDS = {"true": True, "false": False}

# tag, pattern, the characters that a scalar of it can begin with ("": an empty one), and its value
_SCALARS: tuple[tuple[str, str, list[str], Callable[[str], Any]], ...] = (
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF"), lambda text: _WORDS[text.lower()]),
    ("int", r"[-+]?[0-9]+", list("-+0123456789"), int),
    ("int", r"0o[0-7]+|0x[0-9a-fA-F]+", ["0"], lambda text: int(text, 0)),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789"), float),
    (
        "float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+."),
        lambda text: float(text.replace(".", "")),
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""], lambda text: None),
    (
        "timestamp", r"[0-9]{4}-[0-9]{2}-[0-9]{2}", list("0123456789"),
        datetime.date.fromisoformat,
    ),
    ("str", r"(?s:.*)", [], str),
    ("merge", r"<<", ["<"], str),
)  # fmt: skip
_TAG = "tag:yaml.org,2002:"
_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first, _ in _SCALARS:
    if _first:
        _Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(f"^(?:{_pattern})$"), _first)


class _Dumper(yaml.SafeDumper):
    """Writer of YAML that puts in quotes what this module would not read as text."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def written(content: Any) -> str:
    """Return content, as of JSON, as YAML that reads as the same."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


class _Reader:
    """Builds the content of a document from its nodes, and notes where everything stands."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._open: list[yaml.Node] = []
        self._noted: set[int] = set()

    def read(self, node: yaml.Node, where: Where) -> Any:
        self._document.lines.setdefault(where, node.start_mark.line + 1)
        if node in self._open:
            return self._unread(
                node, where, f"anchor in line {node.start_mark.line + 1} holds itself"
            )
        self._open.append(node)
        try:
            if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
                return self._unread(node, where, f"the tag {node.tag!r} has no place here")
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, where)
            if isinstance(node, yaml.SequenceNode):
                return [self.read(item, (*where, i)) for i, item in enumerate(node.value)]
            return self._scalar(node, where)
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        content: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: dict[str, int] = {}
        unread: set[Where] = set()
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                for base in (
                    value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                ):
                    values = self.read(base, where)
                    if not isinstance(values, dict):
                        self._document.problem(where, f"'<<' in line {line} takes a mapping")
                    else:
                        merged = values | merged
                    self._document.unread.discard(where)  # the mapping around it can be read
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._document.problem(where, f"the key in line {line} is not plain text")
                continue
            key = str(key_node.value)
            if key in content:
                first = lines[key]
                both = f", in line {first} and line {line}" if line != first else ""
                self._document.problem_of_key((*where, key), f"given twice{both}")
            # the line of the value that counts; one that was merged in gives way
            self._document.lines[(*where, key)] = lines[key] = line
            self._document.given((*where, key))
            content[key] = self.read(value_node, (*where, key))
            unread |= self._document.below((*where, key))
        for key, line in lines.items():  # again: what is merged in may stand below
            self._document.lines[(*where, key)] = line
            self._document.given((*where, key))
        self._document.unread |= unread
        return merged | content

    def _scalar(self, node: yaml.Node, where: Where) -> Any:
        kind = node.tag.removeprefix(_TAG)
        forms = [(pattern, make) for tag, pattern, _, make in _SCALARS if tag == kind]
        if not forms:
            return self._unread(node, where, f"the tag {node.tag!r} has no place here")
        make = next((make for pattern, make in forms if re.fullmatch(pattern, node.value)), None)
        try:
            if make is None:
                raise ValueError(f"it is no {kind} of YAML 1.2")
            value = make(node.value)
        except ValueError as error:
            said = f"cannot be read as YAML ({error}), value {show_value(node.value)}"
            return self._unread(node, where, said)
        if isinstance(value, float) and not math.isfinite(value):
            return self._unread(node, where, f"a finite number is needed, value {node.value}")
        return value

    def _unread(self, node: yaml.Node, where: Where, message: str) -> None:
        # an anchor is read again wherever it is used: one mistake, noted where it is first
        if id(node) not in self._noted:
            self._document.problem_of_key(where, message)
        self._noted.add(id(node))
        self._document.unread.add(where)


def _compose(name: str, text: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}: " if name and mark else ""
        context = f" ({error.context})" if error.context else ""
        if mark and "".join(text.splitlines()[mark.line : mark.line + 1]).startswith("%"):
            context = ": a key that begins with % stands in quotes"
        raise ConfigError(f"{place}not valid YAML: {error.problem}{context}") from None
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        raise ConfigError(f"{name}: not valid YAML: {what}".removeprefix(": ")) from None
    return node


def read_value(text: str) -> Any:
    """Return the value that a YAML text stands for, which may be of any kind.

    Raises
    ------
    ConfigError
        If it is no YAML, or something in it cannot be read.
    """
    node = _compose("", text)
    if node is None:
        return None
    scratch = Document("", text)
    value = _Reader(scratch).read(node, ())
    if scratch.problems:
        raise ConfigError(scratch.problems[0].message)
    return value


def _step(parent: Any, key: str, where: Where) -> Any:
    """Return the key or position that `key` means in `parent`, which stands at `where`."""
    at = path_text(where)
    if isinstance(parent, dict):
        return key
    if not isinstance(parent, list):
        raise ConfigError(f"{at} is {show_value(parent)} and has no {key!r}")
    names = [_entry_name(entry) for entry in parent]
    if key in names:
        return names.index(key)
    if key.isdecimal() and int(key) < len(parent):
        return int(key)
    count = f"{len(parent)} entr{'y' if len(parent) == 1 else 'ies'}"
    raise ConfigError(f"{at} has {count}, and none is {key!r}{nearest(key, filter(None, names))}")


def _entry_name(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return None
    return next((str(entry[key]) for key in ("name", "unit", "channel") if entry.get(key)), None)


def _line(problem: Mapping[str, Any]) -> str:
    place = problem["file"] if problem["line"] is None else f"{problem['file']}:{problem['line']}"
    return ": ".join(part for part in (place, problem["path"], problem["message"]) if part)


def _neighbour(path: Path) -> str:
    """Return a hint at a file of a similar name in the same folder."""
    if not path.parent.is_dir():
        return f": there is no folder {path.parent}"
    return nearest(path.name, (p.name for p in path.parent.glob(f"*{path.suffix}")))
