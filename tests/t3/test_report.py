"""The report: everything is in it, nothing outside is asked for, and nothing in it is obeyed."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from ampel_spark.lightcurve import LightCurve
from ampel_spark.t2.unit import Column
from ampel_spark.t3 import content as c
from ampel_spark.t3.plots import Step
from ampel_spark.t3.report import render, write_report

EVIL = "<script>alert('x')</script>&\"'><img src=x onerror=alert(1)>"
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
COLUMNS = (
    Column("z", "double", "", "redshift"),
    Column("t0", "double", "d", "JD of maximum"),
    Column("t0_err", "double", "d", "its error"),
    Column("x1", "double", "", "stretch"),
    Column("ra", "double", "deg", "right ascension"),
    Column("bands", "array<string>", "", "bands"),
)


class Page(HTMLParser):
    """The elements of a page; fails where one is not closed, or closed twice."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((tuple(self.open), data.strip()))

    def text(self) -> str:
        return " ".join(text for place, text in self.texts if place[-1] not in ("script", "style"))


@pytest.fixture(scope="module")
def content(curve: Callable[..., LightCurve], make_model: Any) -> c.ReportContent:
    model = make_model()
    names = ["ZTF20aaaaaaa", EVIL, "ZTF20aaaaaab", "ZTF20aaaaaac", "ZTF20aaaaaad", "ZTF20aaaaaae"]
    table = pd.DataFrame(
        {
            "channel": "SN",
            "rank": [1, 2, 3, 4, 5, 6],
            "stock": [11, 12, 13, 14, 15, 16],
            "name": names,
            "state_id": [f"{i:032x}" for i in range(11, 17)],
            "fit_x1": [0.5, -1.25, np.nan, 12.0, 3.25, 0.125],
            "fit_t0": [2458200.123] * 6,
            "fit_t0_err": [0.31] * 6,
            "n": [3, 20, 100, 4, 5, 6],
            "kind": ["a", EVIL, None, "b", "c", "d"],
        }
    )
    fit = {"z": 0.0712, "t0": model.t0, "t0_err": 0.25, "x0": 1e-3, "x1": -0.4, "c": 0.1,
           "ra": 150.123456, "bands": ["ztfg", "ztfr"]}  # fmt: skip
    candidates = [
        c.Candidate(
            name, 11 + i, f"{11 + i:032x}", 150.0 + 30 * i, -20.0 + 15 * i, 200.0, 40.0,
            curve(name, 11 + i, forced=i == 3),
            (c.Result("fit", fit, COLUMNS), c.Result("host", {}, (), -2008, f"no host {EVIL}")),
            None if i == 2 else {**fit, "x1": None} if i == 4 else fit,
            {"galaxies": ([150.0 + 30 * i], [-20.0 + 15 * i])} if i < 2 else {},
        )
        for i, name in enumerate(names)
    ]  # fmt: skip
    return c.ReportContent(
        run=c.RunSummary(
            "20200302T091407-4f1c", "quick & start", f"name: quickstart # {EVIL}\n", "9d5ed678",
            "good",
            datetime(2020, 3, 2, 9, 14, 7), datetime(2020, 3, 2, 9, 15, 30),
            lake="/data/lake", git_commit="3fa1c2e+", software={"pyspark": "4.1.1"},
            inputs={"alerts": 12}, outputs={"t2_fit": 3}, traces={"fit": "a94a8fe5"},
            seconds={"t0": 6.13},
        ),
        selections=[
            c.Selected("main", "SN", table, "abs(fit.x1) < 3 and fit.c < 0.5", "fit.x1", 6, 17,
                       {"fit_t0": "d"}, {"fit_x1": "stretch"}, ("exports/main.csv",)),
        ],
        candidates=candidates,
        funnels=[
            c.Funnel(
                "SN", [Step("alerts", 5000), Step("accepted", 902), Step("candidates", 6)],
                [c.FunnelCut("T0", "min_rb", 5000, 902, "≥ 0.3", n_unknown=7),
                 c.FunnelCut("T0", "gaia", 902, 902, "no catalogue", off=True),
                 c.FunnelCut("T3", "fit.c < 0.5", 38, 6, counted="states", n_unknown=2)],
                ["ZTF_PUB"],
            )
        ],
        archive=[c.ArchiveSummary("ztf_public_20200101.tar.gz", 1234, 1230, 3, 1)],
        quarantine=[c.Quarantined("truncated", 1, f"1.avro {EVIL}")],
        alerts_in_cells=np.arange(12),
        states=[c.StateCount("SN", 38, 37, 12, 3310, 5120)],
        units=[c.UnitRun("fit", "a94a", 38, 12, 26, {0: 30, -2008: 6, 4: 1, -4: 1},
                         {4: "not converged"}, [(f"no redshift {EVIL}", 6)], 48.31)],
        warnings=[f"one exception {EVIL}"],
        notes=["the cut gaia is off"],
        pulls={"x1": np.linspace(-2, 2, 40), "c": [0.1]},
        model_of=lambda row: model,
    )  # fmt: skip


@pytest.fixture(scope="module")
def html(content: c.ReportContent) -> str:
    return render(content)


def test_the_page_is_well_formed_and_every_link_leads_somewhere_on_it(html: str) -> None:
    page = Page(html)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] for _, a in page.elements if "href" in a]
    assert links
    assert {link[0] for link in links} == {"#"}
    assert {link[1:] for link in links} <= set(ids)
    labels = {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a}
    assert labels <= set(ids)
    clips = set(re.findall(r"url\(#([^)]*)\)", html))
    assert clips <= set(ids)


def test_every_figure_is_well_formed_xml(html: str) -> None:
    figures = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(figures) >= 6 * 2 + 4
    for figure in figures:
        ElementTree.fromstring(figure)


def test_nothing_is_asked_from_outside(html: str) -> None:
    page = Page(html)
    assert not {tag for tag, _ in page.elements} & {
        "link",
        "iframe",
        "object",
        "embed",
        "img",
        "base",
    }
    for _, attributes in page.elements:
        assert not set(attributes) & {"src", "srcset", "action", "background", "poster", "data"}
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", html)
    (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv")]
    assert "default-src 'none'" in policy


def test_names_and_messages_are_text_and_never_markup(html: str) -> None:
    page = Page(html)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert "<img" not in html
    assert page.text().count("alert('x')") >= 8  # it is shown wherever it was given


def test_only_the_reports_own_script_may_run(html: str) -> None:
    import base64
    import hashlib

    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in html


def test_numbers_appear_as_they_were_given(html: str) -> None:
    page = Page(html)
    text = page.text()
    for part in (
        "6 candidates from 5,000 alerts",
        "1,234 packets seen = 1,230 stored + 3 duplicate + 1 quarantined",
        "≥ 0.3", "4,098", "902 (18 %)", "3,310", "5,120",
        "not converged (4)",
        "missing information (−2008)", "exception (−4)", "48", "2458200.12 ± 0.31", "−1.25",
        "150.12346", "0.07120", "the first 6 of 17", "exports/main.csv", "pyspark",
        "4.1.1", "9d5ed678",
        "a94a8fe5", "2020-03-02 09:14:07 UTC", "1 min", "6.1", "the cut gaia is off", "3fa1c2e+",
    ):  # fmt: skip
        assert part in text.replace("\u2002", " "), part
    exact = [a["data-value"] for _, a in page.elements if "data-value" in a]
    for value in ("0.5", "-1.25", "2458200.123", "150.123456", "100", ""):
        assert value in exact


def test_each_candidate_has_curve_place_and_numbers(html: str) -> None:
    cards = re.findall(r'<article class="card".*?</article>', html, flags=re.DOTALL)
    assert len(cards) == 6
    for i, card in enumerate(cards):
        assert '<figure class="curve"' in card
        assert '<use href="#sky-map"/><circle' in card
        assert f"{11 + i:032x}" in card
        assert f"rank {i + 1} in main" in card
    assert "residual [σ]" in cards[0]
    assert "residual [σ]" not in cards[2]
    assert "flux [µJy]" in cards[3]
    assert "The fit has no x1: its curve is not drawn." in cards[4]


def test_the_same_content_makes_the_same_report(content: c.ReportContent, html: str) -> None:
    assert render(content) == html


def test_a_report_is_written_in_one_step(content: c.ReportContent, tmp_path: Path) -> None:
    path = tmp_path / "reports" / "run.html"
    write_report(path, content)
    assert path.read_text(encoding="utf-8") == render(content)
    assert os.listdir(path.parent) == ["run.html"]


def test_nothing_selected_is_said_and_no_empty_section_stands_there(
    content: c.ReportContent,
) -> None:
    empty = replace(content.selections[0], candidates=content.selections[0].candidates.iloc[:0])
    bare = c.ReportContent(run=replace(content.run, ended=None), selections=[empty])
    page = Page(render(bare))
    assert "No candidates" in page.text()
    assert "Nothing was selected" in page.text()
    for title in ("Accounting", "One by one", "Fitted against injected", "Mind this"):
        assert title not in page.text()


def test_a_failed_run_says_so_first(content: c.ReportContent) -> None:
    failed = replace(content, run=replace(content.run, status="failed", message="no lake"))
    text = Page(render(failed)).text()
    assert "The run ended as failed" in text
    assert "no lake" in text


def test_a_candidate_without_a_position_or_points_is_still_shown(content: c.ReportContent) -> None:
    first = content.candidates[0]
    none = first.light_curve.where(np.zeros(len(first.light_curve), bool))
    odd = replace(first, ra=float("nan"), dec=float("nan"), light_curve=none)
    text = Page(render(replace(content, candidates=[odd]))).text()
    assert "There is no point to draw." in text


def test_cutouts_are_shown_with_their_date(content: c.ReportContent) -> None:
    stream = io.BytesIO()
    fits.PrimaryHDU(np.eye(9, dtype=np.float32)).writeto(stream)
    images = {"science": gzip.compress(stream.getvalue()), "template": None, "difference": b"junk"}
    first, *others = content.candidates
    shown = replace(first, cutouts=images, cutouts_jd=2458300.5)
    html = render(replace(content, candidates=[shown, *others]))
    assert html.count('<img src="data:image/png;base64,') == 1
    assert "Science, reference and difference image of 2018-07-01 (JD 2458300.50)" in html
    broken = replace(first, cutouts={"science": b"junk"})
    assert "<img" not in render(replace(content, candidates=[broken]))


def test_equal_names_get_anchors_of_their_own(content: c.ReportContent) -> None:
    twice = [content.candidates[0], replace(content.candidates[1], name="ZTF20aaaaaaa")]
    Page(render(replace(content, candidates=twice)))
    html = render(replace(content, candidates=twice))
    assert 'id="object-ZTF20aaaaaaa"' in html
    assert 'id="object-ZTF20aaaaaaa-1"' in html


def test_the_fit_of_the_salt_unit_is_drawn(content: c.ReportContent) -> None:
    salt = pytest.importorskip("ampel_spark.t2.units.salt_fit")
    fit = {"model": "salt3/2.0", "z": 0.05, "t0": 2458200.0, "x0": 2e-3, "x1": 0.3, "c": 0.0,
           "mwebv": None, "mw_law": None, "bands": ["ztfg", "ztfr"]}  # fmt: skip
    assert salt.model_of(fit).get("z") == 0.05
    one = replace(content.candidates[0], fit=fit)
    html = render(replace(content, candidates=[one], model_of=None))
    assert "residual [σ]" in html


DRIVER = """
const table = document.querySelector("table.sortable");
const shown = () => [...table.tBodies[0].rows].filter((r) => !r.hidden);
const names = () => shown().map((r) => r.cells[0].textContent);
const press = (i) => table.tHead.rows[0].cells[i].querySelector("button").click();
const found = { start: names() };
press(2); found.up = names(); found.aria = table.tHead.rows[0].cells[2].getAttribute("aria-sort");
press(2); found.down = names();
press(4); found.number = names();
press(5); found.text = names();
const input = document.querySelector("input[type=search]");
input.value = "ztf20 AAAc"; input.dispatchEvent(new Event("input"));
found.filtered = names(); found.status = document.querySelector("output").textContent;
document.body.textContent = "FOUND" + JSON.stringify(found) + "END";
"""


def test_the_table_sorts_and_filters_in_a_browser(html: str, tmp_path: Path) -> None:
    browser = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if browser is None:
        pytest.skip("no Chromium")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    page = tmp_path / "report.html"
    page.write_text(text.replace("</body>", f"<script>{DRIVER}</script></body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
               "--disable-background-networking", "--disable-component-update", "--disable-sync",
               "--disable-quic", f"--user-data-dir={tmp_path / 'profile'}"]  # fmt: skip
    done = subprocess.run(
        [browser, *options, "--dump-dom", page.as_uri()],
        capture_output=True,
        timeout=300,
        check=False,
    )
    match = re.search(r"FOUND(.*)END", done.stdout.decode())
    assert match, done.stderr.decode()[-2000:]
    found = json.loads(match[1])
    assert found["start"] == ["1", "2", "3", "4", "5", "6"]
    assert found["up"] == ["2", "6", "1", "5", "4", "3"]  # NaN stays last
    assert found["aria"] == "ascending"
    assert found["down"] == ["4", "5", "1", "6", "2", "3"]
    assert found["number"] == ["1", "4", "5", "6", "2", "3"]
    assert found["text"][-1] == "3"  # nothing stays last
    assert found["filtered"] == ["4"]
    assert found["status"] == "1 of 6"
