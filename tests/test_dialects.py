"""Tables in text are read in every dialect that people write, or refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from ampel_spark.dialects import DialectError, read_delimited, read_words

ROWS = [{"name": "a", "mjd": 60001.25, "flux": 101.5}, {"name": "b", "mjd": 60002.5, "flux": None}]


@pytest.mark.parametrize(
    "text",
    [
        "name,mjd,flux\na,60001.25,101.5\nb,60002.5,\n",
        "\ufeffname,mjd,flux\r\na,60001.25,101.5\r\nb,60002.5,null\r\n",  # from Excel
        "name, mjd, flux\na, 60001.25, 101.5\nb, 60002.5, --\n",
        "name;mjd;flux\na;60001,25;101,5\nb;60002,5;-\n",
        "name\tmjd\tflux\na\t60001.25\t101.5\nb\t60002.5\tNaN\n",
        "name|mjd|flux\na|60001.25|101.5\nb|60002.5|N/A\n",
        "# from a portal\n\n# 2031\nname,mjd,flux\na,60001.25,101.5\nb,60002.5,None\n",
        '"2031-02-03 00:00:00 - 23:59:59"\n"name","mjd","flux"\n"a","60001.25","101.5"\n'
        '"b","60002.5",""\n',
        "name,mjd,flux\ra,60001.25,+101.5\rb,60002.5,nan",
        ",name,mjd,flux\n0,a,60001.25,101.5\n1,b,60002.5,\n",  # an index of pandas
        "# %ECSV 1.0\n# ---\n# delimiter: ','\n# datatype:\n# - {name: name, datatype: string}\n"
        "# - {name: mjd, datatype: float64}\n# - {name: flux, datatype: float32}\n"
        "name,mjd,flux\na,60001.25,101.5\nb,60002.5,null\n",
    ],
)
def test_dialects_say_the_same(text: str) -> None:
    assert read_delimited(text.encode()).table.to_pylist() == ROWS
    assert read_delimited(text.lstrip("\ufeff").encode("utf-16")).table.to_pylist() == ROWS


@pytest.mark.parametrize(
    "text",
    [
        "name mjd flux\na 60001.25 101.5\nb 60002.5 null\n",
        "#name  mjd  flux\na 60001.25 101.5\nb 60002.5 nan\n",
        "# a comment\n#\nname, mjd, flux\n a 60001.25 101.5\n b 60002.5 -\n",
        '# name mjd flux\n"a" 60001.25 101.5\nb\t60002.5 --\n',
        "name,mjd,flux\na,60001.25,101.5\nb,60002.5,\n",
    ],
)
def test_columns_apart_by_blanks_say_the_same(text: str) -> None:
    assert read_words(text.encode()).table.to_pylist() == ROWS


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("name,mjd\nSN Müller,1\n".encode("latin-1"), "no UTF-8: byte 0xfc in line 2; perhaps it"),
        (b"name mjd flux\na 1 2\n", "separated by blanks, not by commas"),
        (b"name,flux,flux\na,1,2\n", "two columns are called 'flux'"),
        (b"name,mjd\na,1,2\nb,2,3\n", "line 2 has 3 values for 2 columns"),
        (b'name,mjd\na,1\n"b,2\nc,3\n', "a quotation mark is not closed, perhaps that in line 3"),
        (b"<!DOCTYPE html>\n<html>404</html>", "no table in text, but a web page"),
        (b"# nothing\n", "comments alone"),
        (b"\n", "the file has no line"),
        (b"a,b\n1,\x00\n", "zero bytes"),
    ],
)
def test_what_is_no_table_is_refused_in_words(data: bytes, said: str) -> None:
    with pytest.raises(DialectError, match=said):
        read_delimited(data)


@pytest.mark.parametrize(
    ("words", "kind", "values"),
    [
        (["1", "", "3"], "int64", [1, None, 3]),
        (["1237680117417050117", "null"], "int64", [1237680117417050117, None]),
        # a float would make one number of two
        (["9947579231887392768", "9947579231887392769"], "string",
         ["9947579231887392768", "9947579231887392769"]),
        (["1237680117417050117", "1.5"], "string", ["1237680117417050117", "1.5"]),
        (["1.5", "-", "inf"], "double", [1.5, None, float("inf")]),
        (["0.031", ">27.8", "-"], "string", ["0.031", ">27.8", "-"]),
        (["True", "false", ""], "bool", [True, False, None]),
        (["12:30:00", ""], "string", ["12:30:00", ""]),
    ],
)  # fmt: skip
def test_columns_are_what_all_of_their_values_are(
    words: list[str], kind: str, values: list[Any]
) -> None:
    (column,) = read_delimited(
        "\n".join(["a,b", *(f"{w},x" for w in words)]).encode()
    ).table.select(["a"])
    assert (str(column.type), column.to_pylist()) == (kind, values)


def test_rows_of_another_width_cost_themselves() -> None:
    read = read_delimited(b"a,b\n1,2\n3\n4,5,6\n7,8\n# the end\n")
    assert read.table.to_pylist() == [{"a": 1, "b": 2}, {"a": 7, "b": 8}]
    assert read.odd == ((3, "3"), (4, "4,5,6"))
    words = read_words(b"a b\n1 2\n3\n7 8\n")
    assert (words.table.to_pylist(), words.odd) == (read.table.to_pylist(), ((3, "3"),))
