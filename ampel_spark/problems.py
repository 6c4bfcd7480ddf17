"""What pydantic refuses, in words for the person who wrote the file.

A problem says where, what, the value, and the nearest right name::

    t0[0].config.min_ndett: unknown parameter, value 3; did you mean 'min_ndet'?
"""

from __future__ import annotations

import contextlib
import re
import types
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ampel_spark.document import Document, show_value
from ampel_spark.errors import nearest

__all__ = ["entries", "note_refusals"]

_Model = TypeVar("_Model", bound=BaseModel)

_NEEDED = {
    "bool": "true or false is needed",
    "int": "a whole number is needed",
    "float": "a number is needed",
    "string": "text is needed",
    "date": "a date (YYYY-MM-DD) is needed",
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
    for refusal in error.errors(include_url=False):
        # tags of unions stand in round brackets, pydantic's mark of a mapping's key in square ones
        path = [key for key in refusal["loc"] if not str(key).startswith(("(", "["))]
        place = [*where, *path]
        kind, value = refusal["type"], refusal["input"]
        if kind == "too_short" and value:
            continue  # its entries were refused, and that has been said
        if kind == "missing":
            missing.setdefault(tuple(place[:-1]), []).append(repr(place[-1]))
            continue
        if kind == "extra_forbidden":
            hint = nearest(str(path[-1]), _keys(model, path[:-1]))
            document.problem(place, f"unknown {word}, value {show_value(value)}{hint}")
            continue
        # where a rule joins several fields, it names their values itself
        given = f", value {show_value(value)}" if path else ""
        document.problem(place, f"{_said(refusal)}{given}{_hint(refusal)}")
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


def _said(refusal: Any) -> str:
    kind, context = refusal["type"], refusal.get("ctx", {})
    if kind == "literal_error":
        expected = context["expected"]
        return (
            f"one of {expected} is needed"
            if expected != "False"
            else "false or a mapping is needed"
        )
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


def _keys(annotation: Any, path: Sequence[str | int]) -> set[str]:
    """Return the keys that the model at `path` below an annotation has."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            return set(annotation.model_fields)
        field = annotation.model_fields.get(str(path[0]))
        return _keys(field.annotation, path[1:]) if field else set()
    if origin is dict:
        return _keys(arguments[1], path[1:])
    if origin in (list, tuple):
        return _keys(arguments[0], path[1:])
    if origin in (Union, types.UnionType) or hasattr(annotation, "__metadata__"):
        return set().union(*(_keys(argument, path) for argument in arguments))
    return set()
