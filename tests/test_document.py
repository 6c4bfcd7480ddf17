"""YAML files: read with lines, changed by settings, and all their problems told at once."""

# ruff: noqa: E501  (lines are compared as they are printed)
from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from ampel_spark.document import Document, DocumentError, path_text, read_document, show_value
from ampel_spark.errors import ConfigError

TEXT = """\
"%base": &base {min_ndet: 2, min_rb: 0.3}
name: small
t0:
- channel: SN
  config:
    <<: *base
    min_ndet: 3
- channel: AGN
  config: {min_rb: 1e-3, on: yes, first: 2020-01-01, none: ~, empty: }
"""


@pytest.fixture
def document(tmp_path: Path) -> Document:
    file = tmp_path / "job.yml"
    file.write_text(TEXT)
    return read_document(file)


def test_values_are_those_of_yaml_1_2(document: Document) -> None:
    assert document.value(["t0", 1, "config"]) == {
        "min_rb": 0.001,  # YAML 1.1 takes this for text
        "on": "yes",  # and this for true: true
        "first": datetime.date(2020, 1, 1),
        "none": None,
        "empty": None,
    }


def test_anchors_at_the_root_are_left_out_and_merged_where_they_are_used(
    document: Document,
) -> None:
    assert list(document.content) == ["name", "t0"]
    assert document.value(["t0", 0, "config"]) == {"min_ndet": 3, "min_rb": 0.3}


def test_every_key_knows_its_line(document: Document) -> None:
    lines = {path_text(where): line for where, line in document.lines.items()}
    assert lines["name"] == 2
    assert lines["t0[0].channel"] == 4
    assert lines["t0[0].config.min_ndet"] == 7
    assert lines["t0[0].config.min_rb"] == 1  # where the anchor has it
    assert lines["t0[1].config.first"] == 9


def told(file: Path) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read_document(file).check()
    return str(caught.value).replace(str(file.parent), "").splitlines()


def test_problems_of_reading_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "job.yml"
    file.write_text(
        "name: a\nt0:\n  limit: .inf\n  ? [1, 2]\n  : x\nname: b\nday: 2020-02-31\nt1: {<<: [3]}\nt2: !!set {a}\n"
        "t3: &loop [*loop]\n"
    )
    assert told(file) == [
        "/job.yml:2: t0: the key in line 4 is not plain text",
        "/job.yml:3: t0.limit: a finite number is needed, value .inf",
        "/job.yml:6: name: given twice, in line 1 and line 6",
        "/job.yml:7: day: cannot be read as YAML (day is out of range for month), value '2020-02-31'",
        "/job.yml:8: t1: '<<' in line 8 takes a mapping",
        "/job.yml:9: t2: the tag 'tag:yaml.org,2002:set' has no place here",
        "/job.yml:10: t3[0]: anchor in line 10 holds itself",
    ]


def test_what_is_no_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "job.yml"
    file.write_text("name: a\nt0: [1, 2\nt1: 3\n")
    with pytest.raises(ConfigError, match=r"job\.yml:3: not valid YAML: expected ',' or '\]'"):
        read_document(file)
    file.write_text("- a\n- b\n")
    with pytest.raises(ConfigError, match=r"job\.yml:1: a mapping .* is needed at the root"):
        read_document(file)
    file.write_text("%base: {a: 1}\nname: a\n")
    with pytest.raises(ConfigError, match="a key that begins with % stands in quotes"):
        read_document(file)
    file.write_text("")
    with pytest.raises(ConfigError, match="a mapping"):
        read_document(file)


def test_code_in_yaml_is_never_run(tmp_path: Path) -> None:
    file = tmp_path / "job.yml"
    file.write_text("name: !!python/object/apply:os.getcwd []\n")
    assert told(file) == [
        "/job.yml:1: name: the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd' has no place here"
    ]


def test_a_file_that_is_not_there_is_named_with_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yml").write_text("name: a\n")
    with pytest.raises(
        ConfigError, match=r"quikstart\.yml is not there; did you mean 'quickstart\.yml'\?"
    ):
        read_document(tmp_path / "quikstart.yml")
    with pytest.raises(ConfigError, match="there is no folder"):
        read_document(tmp_path / "nowhere" / "quickstart.yml")


@pytest.mark.parametrize(
    ("setting", "where", "value"),
    [
        ("name=other", ["name"], "other"),
        ("t0.0.config.min_ndet=5", ["t0", 0, "config", "min_ndet"], 5),
        ("t0[1].config.min_rb=0.5", ["t0", 1, "config", "min_rb"], 0.5),
        ("t0.AGN.config.min_rb=0.5", ["t0", 1, "config", "min_rb"], 0.5),
        (
            "t0.SN.config.conditions=[rb > 0.5, nbad <= 0]",
            ["t0", 0, "config", "conditions"],
            ["rb > 0.5", "nbad <= 0"],
        ),
        ("report.candidates=3", ["report", "candidates"], 3),
        ("report=", ["report"], None),
        ("name=a=b", ["name"], "a=b"),
    ],
)
def test_settings_change_values_by_their_path(
    document: Document, setting: str, where: list[str | int], value: object
) -> None:
    document.set(setting)
    document.check()
    assert document.value(where) == value


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("min_ndet", "give PATH=VALUE, as t0.0.config.min_ndet=3"),
        ("=3", "give PATH=VALUE, as t0.0.config.min_ndet=3"),
        ("t0.2.config.min_ndet=3", "t0 has 2 entries, and none is '2'; known: AGN, SN"),
        ("t0.AGM.config=3", "t0 has 2 entries, and none is 'AGM'; did you mean 'AGN'?"),
        ("name.first=3", "name is 'small' and has no 'first'"),
        (
            "name=[1",
            "not valid YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence)",
        ),
    ],
)
def test_a_setting_that_leads_nowhere_is_told(
    document: Document, setting: str, message: str
) -> None:
    document.set(setting)
    with pytest.raises(DocumentError) as caught:
        document.check()
    assert str(caught.value) == f"--set {setting}: {message}"


def test_problems_of_what_was_set_name_the_setting(document: Document) -> None:
    document.set("t0.0.config.min_ndet=three")
    document.problem(["t0", 0, "config", "min_ndet"], "a whole number is needed, value 'three'")
    with pytest.raises(DocumentError) as caught:
        document.check()
    assert str(caught.value) == (
        "--set t0.0.config.min_ndet=three: t0[0].config.min_ndet: a whole number is needed, value 'three'"
    )


def test_values_are_shown_on_one_short_line() -> None:
    assert [show_value(v) for v in (None, True, 3, 0.5, "a b", [1, None])] == [
        "null", "true", "3", "0.5", "'a b'", "[1, null]",
    ]  # fmt: skip
    assert len(show_value("x" * 200)) == 60
