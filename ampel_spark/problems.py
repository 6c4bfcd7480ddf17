"""What pydantic refuses, in words for the person who wrote the file.

A problem says where, what, the value, and the nearest right name::

    t0[0].config.min_ndett: unknown parameter, value 3; did you mean 'min_ndet'?
"""

from __future__ import annotations

import contextlib
import re
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from ampel_spark.document import Document, Where, show_value
from ampel_spark.errors import nearest

__all__ = ["Refused", "entries", "keys_at", "models_at", "note_refusals", "refusals"]

_Model = TypeVar("_Model", bound=BaseModel)

_NEEDED = {
    "bool": "true or false is needed",
    "int": "a whole number is needed",
    "float": "a number is needed",
    "string": "text is needed",
    "date": "a date (YYYY-MM-DD) is needed",
    "path": "a path is needed",
    "tuple": "a list is needed",
    "list": "a list is needed",
    "dict": "a mapping (lines of 'key: value') is needed",
    "model": "a mapping (lines of 'key: value') is needed",
    "dataclass": "a mapping (lines of 'key: value') is needed",
}
_PATTERNS = {
    "^[A-Za-z][A-Za-z0-9_]*$": "a name is a letter, then letters, digits and '_'",
    "^[a-z][a-z0-9_]*$": "a name here is a small letter, then small letters, digits and '_'",
    "^[A-Za-z0-9][A-Za-z0-9_.-]*$": "a name is a letter or digit, then also '_', '.' and '-'",
}


def note_refusals(
    document: Document,
    error: ValidationError,
    model: type[BaseModel],
    where: Sequence[str | int] = (),
    word: str = "key",
) -> None:
    """Note what a model refused as problems of a document.

    Parameters
    ----------
    document : Document
    error : ValidationError
    model : type of BaseModel
        The model that raised it.
    where : sequence of str and int
        Path in the document of what the model was given.
    word : str
        What its fields are called: key or parameter.
    """
    missing: dict[tuple[str | int, ...], list[str]] = {}
    for refusal in refusals(error, model):
        path = refusal.path
        place = [*where, *path]
        if refusal.kind == "too_short" and refusal.value:
            continue  # its entries were refused, and that has been said
        if refusal.kind == "value_error" and document.below(place):
            continue  # it may come of what could not be read
        if refusal.kind == "missing":
            missing.setdefault(tuple(place[:-1]), []).append(repr(place[-1]))
            continue
        if refusal.kind == "extra_forbidden":
            hint = nearest(str(path[-1]), keys_at(model, path[:-1]))
            given = "" if document.is_unread(place) else f", value {show_value(refusal.value)}"
            document.problem_of_key(place, f"unknown {word}{given}{hint}")
            continue
        # where a rule joins several fields, it names their values itself
        given = f", value {show_value(refusal.value)}" if path else ""
        document.problem(place, f"{refusal.said}{given}{refusal.hint}")
    for parent, names in missing.items():
        said = f"{word} {names[0]} is" if len(names) == 1 else f"{word}s {', '.join(names)} are"
        document.problem(parent, f"required {said} missing")


def entries(document: Document, key: str, model: type[_Model]) -> Iterator[tuple[Any, _Model]]:
    """Yield position (or name) and model of a section's entries, without what is wrong in them.

    That has been noted with the job as a whole; the rest of an entry is still to be checked. An
    entry that makes no sense without what is wrong is left out.
    """
    section = document.content.get(key)
    items = (
        section.items()
        if isinstance(section, dict)
        else enumerate(section)
        if isinstance(section, list)
        else ()
    )
    for where, item in items:
        if not isinstance(item, dict):
            continue
        with contextlib.suppress(ValidationError):
            try:
                entry = model.model_validate(item)
            except ValidationError as error:
                wrong = {refusal["loc"][0] for refusal in error.errors() if refusal["loc"]}
                entry = model.model_validate({key: item[key] for key in item if key not in wrong})
            yield where, entry


@dataclass(frozen=True)
class Refused:
    """What pydantic refused: where below the model, what kind of refusal, and of what value.

    `unions` has the place of each union around it, from the outermost, and the choice made there.
    """

    path: Where
    kind: str
    value: Any
    said: str
    hint: str = ""
    unions: tuple[tuple[Where, str], ...] = ()


def refusals(error: ValidationError, model: type[BaseModel]) -> list[Refused]:
    """Return what a model refused; of a union, what the value can have meant."""
    found = []
    for each in error.errors(include_url=False):
        path, unions = _place(model, each["loc"])
        found.append(Refused(path, each["type"], each["input"], _said(each), _hint(each), unions))
    return _meant(found)


def _meant(refusals: Iterable[Refused], depth: int = 0) -> list[Refused]:
    """Return refusals without those by choices of a union that the value cannot have meant.

    What fits no choice by its kind is refused by each, and reported once.
    """
    found: list[Refused] = []
    unions: dict[Where, dict[str, list[Refused]]] = {}
    for refusal in refusals:
        if len(refusal.unions) > depth:
            at, choice = refusal.unions[depth]
            unions.setdefault(at, {}).setdefault(choice, []).append(refusal)
        else:
            found.append(refusal)
    for at, choices in unions.items():
        each = [_meant(mine, depth + 1) for mine in choices.values()]
        meant = [mine for mine in each if not any(_is_of_another_kind(r, at) for r in mine)]
        if meant:
            found += sorted(meant, key=len)[0]
        else:
            found.append(_joined(at, [refusal for mine in each for refusal in mine]))
    return found


def _joined(at: Where, refused: Sequence[Refused]) -> Refused:
    """Return as one the refusals of a value that is of no kind that a union has."""
    *most, last = dict.fromkeys(each.said.removesuffix(" is needed") for each in refused)
    said = f"{', '.join(most)} or {last}" if most else last
    hint = next((each.hint for each in refused if each.hint), "")
    return Refused(at, "union", refused[0].value, f"{said} is needed", hint)


def _is_of_another_kind(refusal: Refused, at: Where) -> bool:
    """Whether the value at a path was refused for its kind, and not for what it holds."""
    kinds = ("_type", "_parsing", "literal_error", "enum", "union")
    return refusal.path == at and refusal.kind.endswith(kinds)


def _place(
    model: type[BaseModel], location: Sequence[str | int]
) -> tuple[Where, tuple[tuple[Where, str], ...]]:
    """Return the path of a refusal without pydantic's own marks, and the unions around it.

    Tags of unions stand in round brackets, pydantic's mark of a mapping's key in square ones, and
    the choices of a union without tags under names that pydantic gives them.
    """
    annotation: Any = model
    path: Where = ()
    unions: tuple[tuple[Where, str], ...] = ()
    for key in location:
        choices = _choices(annotation)
        if str(key).startswith(("(", "[")):
            annotation = next((c for c in choices if _tag(c) == key), Any)
        elif len(choices) > 1:
            unions = (*unions, (path, str(key)))
            annotation = next((c for c in choices if _name(c) in str(key)), Any)
        else:
            annotation = _inside(choices[0], key)
            path = (*path, key)
    return path, unions


def _choices(annotation: Any) -> list[Any]:
    """Return what an annotation can stand for, None aside; of what is no union, itself."""
    if hasattr(annotation, "__metadata__"):
        return _choices(annotation.__origin__)
    if get_origin(annotation) in (Union, types.UnionType):
        several = [c for c in get_args(annotation) if c is not type(None)]
        return _choices(several[0]) if len(several) == 1 else several
    return [annotation]


def _tag(choice: Any) -> str | None:
    marks = getattr(choice, "__metadata__", ())
    return next((mark.tag for mark in marks if isinstance(mark, Tag)), None)


def _name(choice: Any) -> str:
    """Return what pydantic's name of a choice has in it."""
    bare = _choices(choice)[0]
    name: str = getattr(get_origin(bare) or bare, "__name__", str(bare))
    return name.lower() if name == "Literal" else name


def _inside(annotation: Any, key: str | int) -> Any:
    """Return the annotation of what stands under a key."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if _is_model(annotation):
        field = annotation.model_fields.get(str(key))
        return field.annotation if field else Any
    if origin is dict:
        return arguments[1]
    if origin is tuple and isinstance(key, int) and ... not in arguments:
        return arguments[key] if key < len(arguments) else Any
    return arguments[0] if arguments else Any


def _said(refusal: Any) -> str:
    kind, context = refusal["type"], refusal.get("ctx", {})
    if kind == "literal_error":
        if context["expected"] == "False":
            return "false or a mapping is needed"  # the one use of it
        # the words of YAML, not of Python
        words = {"True": "true", "False": "false", "None": "null"}
        expected = re.sub(r"'[^']*'|\w+", lambda m: words.get(m[0], m[0]), str(context["expected"]))
        return f"{'one of ' if ' or ' in expected else ''}{expected} is needed"
    if kind == "string_pattern_mismatch" and context["pattern"] in _PATTERNS:
        return _PATTERNS[context["pattern"]]
    if kind in ("too_short", "too_long"):
        bound, key = ("least", "min_length") if kind == "too_short" else ("most", "max_length")
        return f"at {bound} {context[key]} needed"
    if kind == "value_error":
        return str(context["error"])
    said = str(refusal["msg"]).removeprefix("Input should be ")
    if kind.startswith(("greater", "less")):
        return f"a number {said} is needed"
    if kind.startswith("union_tag"):
        return "this form is not known"
    return _NEEDED.get(kind.partition("_")[0], said)


def _hint(refusal: Any) -> str:
    if refusal["type"] != "literal_error" or not isinstance(refusal["input"], str):
        return ""
    near = nearest(refusal["input"], re.findall(r"'([^']*)'", refusal["ctx"]["expected"]))
    return near if "mean" in near else ""


def keys_at(annotation: Any, path: Sequence[str | int]) -> set[str]:
    """Return the keys that the models at `path` below an annotation have."""
    return {name for model in models_at(annotation, path) for name in model.model_fields}


def models_at(annotation: Any, path: Sequence[str | int]) -> list[type[BaseModel]]:
    """Return the models that can stand at `path` below an annotation.

    Parameters
    ----------
    annotation : type
        A model, or what a field is annotated with.
    path : sequence of str and int
        Fields, keys of mappings, places in lists.
    """
    choices = _choices(annotation)
    if len(choices) > 1:
        return [model for choice in choices for model in models_at(choice, path)]
    if path:
        return models_at(_inside(choices[0], path[0]), path[1:])
    return choices if _is_model(choices[0]) else []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
