"""The glossary names what there is, each word once."""

import re

from ampel_spark.archive.reading.ztf import alerts_table
from ampel_spark.cli import make_parser
from ampel_spark.lake.tables import TABLES, result_table
from ampel_spark.t2.registry import UNITS
from tests.conftest import PROJECT

ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in (PROJECT / "docs" / "glossary.md").read_text().splitlines()
    if line.startswith("| **")
]


def test_every_word_stands_once_with_its_meaning_and_ampels_word() -> None:
    words = [row[0].strip("*") for row in ROWS]
    assert len(words) == len({*words}) > 30
    assert all(len(row) == 3 and all(row) for row in ROWS)


def test_what_stands_in_code_is_a_table_a_column_or_a_command() -> None:
    tables = [*TABLES.values(), alerts_table(), *(result_table(unit, ()) for unit in UNITS)]
    columns = {name for table in tables for name in table.names}
    commands = next({*a.choices} for a in make_parser()._actions if a.choices)
    known = {table.name for table in tables} | columns | commands
    named = {word for row in ROWS for word in re.findall(r"`([^`/]+)`", row[1])}
    assert named - known == set()
    assert len(named) > 20
