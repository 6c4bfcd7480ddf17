"""Figures: small, repeatable, safe from many threads, and fit for a page."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.figure import Figure

from ampel_spark.t3.figures import COLOURS, band_style, draw, for_page


def plot(figure: Figure) -> None:
    axes = figure.add_subplot()
    axes.plot([1, 2, 3], [1.23456789, 2, 3], "o-", color=COLOURS["band-g"])
    axes.set_title("$\\notmath & <b> 1.23456 ±")


def test_the_same_figure_has_the_same_bytes() -> None:
    for form in ("svg", "png"):
        assert draw((3, 2), plot, form) == draw((3, 2), plot, form)


def test_a_png_is_one() -> None:
    assert draw((3, 2), plot, "png").startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="svg or png"):
        draw((3, 2), plot, "gif")


def test_threads_get_what_one_alone_gets() -> None:
    alone = draw((3, 2), plot)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: draw((3, 2), plot), range(12))) == {alone}


def test_the_users_own_settings_neither_count_nor_change() -> None:
    alone = draw((3, 2), plot)
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True}):
        assert draw((3, 2), plot) == alone
        assert matplotlib.rcParams["font.size"] == 30


def test_text_is_text_and_only_coordinates_are_shortened() -> None:
    root = ElementTree.fromstring(draw((3, 2), plot))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "$\\notmath & <b> 1.23456 ±" in texts
    assert not re.search(r'="[^"]*\.\d{3}', draw((3, 2), plot).decode())


def test_no_date_and_no_program_is_named() -> None:
    text = draw((3, 2), plot).decode()
    assert "metadata" not in text
    assert "matplotlib" not in text.lower()


def test_on_a_page_ids_are_the_figures_own_and_colours_are_the_pages() -> None:
    page = for_page(draw((3, 2), plot), "a") + for_page(draw((3, 2), plot), "b")
    ids = re.findall(r'\bid="([^"]*)"', page)
    used = re.findall(r'(?:href="|url\()#([^")]*)', page)
    assert len(ids) == len(set(ids)) > 0
    assert set(used) == set(ids)
    assert "var(--band-g)" in page
    assert not any(colour in page for colour in COLOURS.values())
    assert "http" not in page
    assert not re.search(r"<svg[^>]* (width|height)=", page)
    ElementTree.fromstring(f"<div>{page}</div>")


def test_bands_are_told_apart_by_colour_and_by_marker() -> None:
    g, r, i = (band_style(name) for name in ("ztfg", "p48r", "sdss::i"))
    assert [b.label for b in (g, r, i)] == ["g", "r", "i"]
    assert len({b.colour for b in (g, r, i)}) == len({b.marker for b in (g, r, i)}) == 3
    assert band_style("atlaso").label == "atlaso"
    assert band_style("bessellb").marker != band_style("bessellv").marker
