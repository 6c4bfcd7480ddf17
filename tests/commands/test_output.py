"""Answers in print."""

from __future__ import annotations

import datetime
import json
import math

import pytest

from ampel_spark.commands.output import print_pairs, print_rows, table_lines, to_json

ROWS = [
    {"name": "ZTF18abxhyqv", "rank": 1, "z": 0.0312, "good": True, "message": None},
    {"name": "ZTF20abyfpze", "rank": 12, "z": math.nan, "good": False, "message": "no\npeak"},
]
COLUMNS = ["name", "rank", "z", "good", "message"]


def test_a_table_is_aligned_numbers_to_the_right() -> None:
    assert table_lines(ROWS, COLUMNS) == [
        "name          rank       z  good  message",
        "ZTF18abxhyqv     1  0.0312  yes   -",
        "ZTF20abyfpze    12       -  no    no peak",
    ]


def test_a_position_is_told_to_a_few_milliarcsec() -> None:
    lines = table_lines(
        [{"ra": 186.7391234, "dec": -7.0811949}, {"ra": None, "dec": 2}], ["ra", "dec"]
    )
    assert [line.split() for line in lines[1:]] == [["186.739123", "-7.081195"], ["-", "2"]]


def test_a_table_keeps_to_a_width_by_cutting_its_widest_text() -> None:
    rows = [{"cut": "ps1_confusion", "rule": "rejects where " + "x" * 80, "value": 123456.789}]
    lines = table_lines(rows, ["cut", "rule", "value"], width=50)
    assert max(map(len, lines)) <= 50
    assert lines[1].startswith("ps1_confusion  rejects where x")
    assert lines[1].endswith("…  123457")


def test_a_table_is_not_cut_to_nothing() -> None:
    rows = [{"a": "x" * 40, "b": "y" * 40}]
    assert len(table_lines(rows, ["a", "b"], width=5)[1]) == 2 * 12 + 2


def test_in_a_pipe_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"rule": "x" * 300}], ["rule"], "table")
    assert capsys.readouterr().out == f"rule\n{'x' * 300}\n"


def test_nothing_to_show_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([], COLUMNS, "table", empty="no run yet")
    print_rows([], COLUMNS, "json", empty="no run yet")
    assert capsys.readouterr().out == "no run yet\n[]\n"


def test_json_has_all_keys_in_order_and_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, ["name"], "json")
    read = json.loads(capsys.readouterr().out)
    assert [list(row) for row in read] == [list(row) for row in ROWS]
    assert read[1]["z"] is None


def test_json_takes_times_paths_and_nested_values() -> None:
    value = {
        "at": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
        "night": datetime.date(2024, 1, 2),
        "list": (1, math.inf, {"x": math.nan}),
        "access": frozenset({2, 1}),
        3: True,
    }
    assert json.loads(to_json(value)) == {
        "at": "2024-01-02T00:00:00+00:00",
        "night": "2024-01-02",
        "list": [1, None, {"x": None}],
        "access": [1, 2],
        "3": True,
    }


def test_pairs_are_aligned_and_those_without_a_value_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_pairs({"run_id": "a", "message": None, "job": "quick", "inputs": {"alerts": 3, "x": 0.5}})
    assert capsys.readouterr().out == "run_id  a\njob     quick\ninputs  alerts 3, x 0.5\n"


def test_numbers_keep_six_digits_and_dates_all_theirs() -> None:
    rows = [{"jd": 2458849.123456, "flux": 1.23456789e-7, "n": 12345678, "l": [0.5, 1]}]
    assert table_lines(rows, ["jd", "flux", "n", "l"])[1].split() == [
        "2458849.1235", "1.23457e-07", "12345678", "0.5,", "1",
    ]  # fmt: skip
