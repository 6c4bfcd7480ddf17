"""What a model refuses, as it is told: each mistake once, whatever pydantic makes of it."""

# ruff: noqa: E501  (lines are compared as they are printed)
from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ampel_spark.document import DocumentError, parse_document
from ampel_spark.problems import note_refusals


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    unit: str
    scale: float | Literal["own"] = 1.0


class Other(BaseModel):
    model_config = ConfigDict(extra="forbid")

    file: str
    first: int
    last: int


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    time: float | datetime.date | None = None
    span: Literal["all", "none"] | tuple[float, float] | None = None
    part: Part | Other | float | None = None
    parts: dict[str, Part | float] = {}
    size: float | None = Field(default=None, gt=0)
    file: Path | None = None
    on: Literal[True] | None = None
    off: Literal[False, None, "None"] = None


def told(text: str) -> list[str]:
    document = parse_document("a.yml", text)
    try:
        Model.model_validate(document.content)
    except ValidationError as error:
        note_refusals(document, error, Model)
    with pytest.raises(DocumentError) as caught:
        document.check()
    return [line.removeprefix("a.yml:") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # no choice takes a value of this kind
        ("time: [1]", "time: a number or a date (YYYY-MM-DD) is needed, value [1]"),
        ("span: alle", "span: one of 'all' or 'none' or a list is needed, value 'alle'; did you mean 'all'?"),
        ("part: x", "part: a mapping (lines of 'key: value') or a number is needed, value 'x'"),
        # one of them does
        ("span: [1, x]", "span[1]: a number is needed, value 'x'"),
        ("span: [1]", "span: required key 1 is missing"),
        ("part: {unit: 3}", "part.unit: text is needed, value 3"),
        ("part: {unit: a, scael: 3}", "part.scael: unknown key, value 3; did you mean 'scale'?"),
        ("part: {file: a, first: 1}", "part: required key 'last' is missing"),
        # a union within a union
        ("part: {unit: a, scale: owm}", "part.scale: a number or 'own' is needed, value 'owm'; did you mean 'own'?"),
        ("parts: {a: {unit: a, scale: []}}", "parts.a.scale: a number or 'own' is needed, value []"),
        # words of YAML, and none of Python
        ("file: [3]", "file: a path is needed, value [3]"),
        ("on: yes", "on: true is needed, value 'yes'"),
        ("off: 3", "off: one of false, null or 'None' is needed, value 3"),
    ],
)  # fmt: skip
def test_a_value_that_fits_no_choice_is_told_once(text: str, said: str) -> None:
    assert told(text) == [f"1: {said}"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("time: 2024-15-15", ["1: time: cannot be read as YAML (month must be in 1..12), value '2024-15-15'"]),
        ("size: .nan", ["1: size: a finite number is needed, value .nan"]),
        ("span: [.inf, x]", ["1: span[0]: a finite number is needed, value .inf", "1: span[1]: a number is needed, value 'x'"]),
        ("part: {unit: !!set {a}}", ["1: part.unit: the tag 'tag:yaml.org,2002:set' has no place here"]),
        # the key is another mistake
        ("sice: .nan", ["1: sice: a finite number is needed, value .nan", "1: sice: unknown key; did you mean 'size'?"]),
        ("size: .nan\nsize: 2", ["2: size: a finite number is needed, value .nan", "2: size: given twice, in line 1 and line 2"]),
    ],
)  # fmt: skip
def test_of_a_value_that_cannot_be_read_nothing_else_is_told(text: str, lines: list[str]) -> None:
    assert sorted(told(text)) == lines


def test_what_takes_the_place_of_a_value_that_cannot_be_read_is_checked() -> None:
    text = "'%base': &base {size: .nan, on: true}\nsize: x\n<<: *base\n"
    assert told(text) == [
        "1: %base.size: a finite number is needed, value .nan",
        "2: size: a number is needed, value 'x'",
    ]
    document = parse_document("a.yml", "size: .nan\n")
    document.set("size=-1")
    given: Any = document.content
    with pytest.raises(ValidationError) as caught:
        Model.model_validate(given)
    note_refusals(document, caught.value, Model)
    with pytest.raises(DocumentError, match="a number greater than 0 is needed, value -1"):
        document.check()
