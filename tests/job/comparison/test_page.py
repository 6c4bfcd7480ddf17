"""The page of a comparison."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from ampel_spark.job.comparison.changes import Comparison
from ampel_spark.job.comparison.compare import compare
from ampel_spark.job.comparison.page import render_difference, write_difference
from tests.job.comparison.lakes import AFTER, AGAIN, BEFORE, make_lake


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return compare(make_lake(tmp_path_factory.mktemp("page")), BEFORE, AFTER)


@pytest.fixture(scope="module")
def text(found: Comparison) -> str:
    return render_difference(found)


def test_every_change_stands_on_the_page_with_its_reason(found: Comparison, text: str) -> None:
    assert "<h1>5 lost · 3 gained · 1 moved</h1>" in text
    for _, row in found.changes.iterrows():
        assert row["name"] in text
    for cause in (
        "T0: min_ndet 3 → 5",
        "phases not covered",
        "by rule 2 (faint end)",
    ):
        assert cause in text


def test_the_page_needs_nothing_else(text: str) -> None:
    assert not re.search(r'(src|href)="(?!#)', text)
    assert not re.search(r"url\((?!#|&#39;#)", text)
    assert "default-src 'none'" in text


def test_ids_are_unique_and_all_that_is_referred_to_is_there(text: str) -> None:
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', text)) <= set(ids)


def test_text_of_a_lake_is_text_and_no_markup(found: Comparison) -> None:
    changes = found.changes.assign(name="<script>alert(1)</script>", cause="a < b & c")
    text = render_difference(dataclasses.replace(found, changes=changes))
    assert "<script>alert" not in text
    assert "a &lt; b &amp; c" in text


def test_the_same_comparison_gives_the_same_page(found: Comparison, text: str) -> None:
    assert render_difference(found) == text


def test_only_columns_that_shifted_are_drawn(text: str) -> None:
    figures = re.findall(r'<figure role="img" aria-label="([^"]*)"', text)
    assert len(figures) == 1
    assert figures[0].startswith("Shift of fit.x1 in 7 objects: median 0, robust width 0.074")


def test_equal_runs_make_a_page_too(found: Comparison, tmp_path: Path) -> None:
    same = compare(Path(found.lake_a), BEFORE, AGAIN)
    write_difference(tmp_path / "deep" / "same.html", same)
    text = (tmp_path / "deep" / "same.html").read_text()
    assert "<h1>The same candidates</h1>" in text
    assert "Nothing: the same job on the same versions" in text
    assert "The same candidates in the same order." in text


def test_a_note_stands_at_the_top(found: Comparison) -> None:
    text = render_difference(dataclasses.replace(found, notes=["run x is running"]))
    assert "<li>run x is running</li>" in text


def test_long_tables_are_cut_and_say_so(found: Comparison) -> None:
    lost = found.changes[found.changes["change"] == "lost"]
    many = lost.loc[lost.index.repeat(100)]
    text = render_difference(dataclasses.replace(found, changes=many))
    assert "lost: 500, the first 300 of them" in text
    assert text.count('<tr><th scope="row" data-value="SN') == 300 + len(found.hoppers)
