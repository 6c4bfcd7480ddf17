"""Filters in Python, on one alert: what they see, and what becomes of what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ampel_spark.errors import ConfigError
from ampel_spark.lightcurve import LightCurve
from ampel_spark.t0 import Alert, ChannelFilter, Cut, Filter, SimpleDecentFilter, Verdict
from ampel_spark.t0.explain import explain
from ampel_spark.t0.filters import make_filter
from ampel_spark.t0.quantities import OwnQuantities
from ampel_spark.t0.verdict import asked
from tests.conftest import PROJECT
from tests.guides import blocks, run_python
from tests.t0.packets import alert_row, packet
from tests.t0.test_judge import EDGES
from tests.t0.twin import judge_packet

GUIDE = PROJECT / "docs" / "filters.md"
CURVE = LightCurve.of("SN", jd=[1.0, 3.0, 5.0], mag=[19.0, 18.5, 18.0], band="ztfr")


class Brightening(Filter):
    """What brightens."""

    min_rb: float = 0.5
    "Least score."
    least: float = 0.1

    def cuts(self) -> list[Cut]:
        return [self.keep(f"rb >= {self.min_rb}", "min_rb")]

    def judge(self, alert: Alert) -> Verdict:
        assert alert.light_curve is not None
        mag = alert.light_curve.detections.mag
        return Verdict(mag[0] - mag[-1] >= self.least, "least", mag[0] - mag[-1], self.least)


class Says(Filter):
    """Whatever it is told to say."""

    what: Any = True

    def judge(self, alert: Alert) -> Verdict:
        if isinstance(self.what, str):
            raise ValueError(self.what)
        return self.what  # type: ignore[no-any-return]


def test_the_guide_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run_python(GUIDE, tmp_path, monkeypatch)
    assert {"Rising", "Young"} <= {*made}
    entries = [
        entry
        for language, _, text in blocks(GUIDE)
        if language == "yaml"
        for entry in yaml.safe_load(text)["t0"]
    ]
    (rising,) = (make_filter(e["filter"], e["config"], tmp_path) for e in entries)
    assert rising.judges
    assert rising.min_rise == 0.2  # type: ignore[attr-defined]


def test_a_verdict_is_of_the_first_cut_that_rejects_and_else_of_the_judge() -> None:
    one = Brightening()
    assert one.verdict(Alert.of(CURVE, rb=0.7)) == Verdict(True, None, 1.0, 0.1)
    assert one.verdict(Alert.of(CURVE, rb=0.4)) == Verdict(False, "min_rb", 0.4, 0.5)
    # what is missing is not met
    assert one.verdict(Alert.of(CURVE)) == Verdict(False, "min_rb", None, 0.5)
    assert one.verdict(Alert.of(CURVE, rb=float("nan"))).cut == "min_rb"
    assert Brightening(least=2).verdict(Alert.of(CURVE, rb=0.7)) == Verdict(False, "least", 1.0, 2)


@pytest.mark.parametrize(
    ("config", "changes", "cut"), [edge[:3] for edge in EDGES if edge[0] == "rapid"][:20]
)
def test_the_package_s_filters_give_verdicts_as_their_twin_does(
    config: str, changes: dict[str, Any], cut: str | None
) -> None:
    p = packet(**changes)
    mine = SimpleDecentFilter()
    said = judge_packet(p, mine)
    assert said is not None
    verdict = mine.verdict(Alert(alert_row(p)))
    assert (verdict.accept, verdict.cut) == (said.accepted, said.cut)
    assert verdict.value == pytest.approx(said.value, nan_ok=True)


def test_an_alert_shows_its_quantities_and_no_others() -> None:
    own = OwnQuantities("lsst", {"snr": "float"})
    alert = Alert.of(CURVE, own, rb=0.7, ra=10.0, dec=0.0, lsst={"snr": 5.0}, fwhm=np.nan)
    assert (alert.n_detections, alert.jd, alert.tspan, alert.fwhm) == (3, 5.0, 4.0, None)
    assert alert.gal_lat == pytest.approx(-62.5, abs=0.5)  # astropy: (119.3, -62.7)
    assert alert.snr == alert["lsst.snr"] == 5.0
    with pytest.raises(AttributeError, match="did you mean 'magpsf'"):
        _ = alert.magsf


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (True, Verdict(True)),
        (np.False_, Verdict(False, "judge")),
        (Verdict(False), Verdict(False, "judge")),
        (Verdict(False, "x", np.float32(0.5), float("nan")), Verdict(False, "x", 0.5, None)),
        (Verdict(np.True_, "x", 1), Verdict(True, None, 1.0)),  # type: ignore[arg-type]
        (None, Verdict(False, "judge raised TypeError")),
        (Verdict(False, "x", "large"), Verdict(False, "judge raised TypeError")),  # type: ignore[arg-type]
        ("no such key", Verdict(False, "judge raised ValueError")),
    ],
)  # fmt: skip
def test_what_a_judge_says_becomes_a_verdict_whatever_it_says(said: Any, verdict: Verdict) -> None:
    assert asked(Says(what=said), Alert.of(CURVE))[0] == verdict


def test_explain_shows_what_the_judge_says_or_why_it_was_not_asked() -> None:
    row = alert_row(packet(rb=0.7))
    judged = ChannelFilter("SN", Brightening())
    cut, last = explain(row, judged, past=CURVE)
    assert (cut.cut, cut.passed, cut.value, cut.threshold) == (
        "min_rb",
        True,
        pytest.approx(0.7),
        0.5,
    )
    assert (last.position, last.passed, last.value, last.threshold) == (2, True, 1.0, 0.1)
    assert last.rule == "Brightening.judge"
    _, last = explain(alert_row(packet(rb=0.1)), judged, past=CURVE)
    assert (last.passed, last.detail) == (None, "not asked: min_rb rejects")
    (last,) = explain(row, ChannelFilter("SN", Says(what="no such key")))
    assert (last.passed, last.cut, last.detail) == (False, "judge raised ValueError", "no such key")


def test_explain_shows_a_text_as_it_is() -> None:
    judged = ChannelFilter("SN", make_filter("Conditions", {"conditions": ["isdiffpos in [t, 1]"]}))
    (result,) = explain(alert_row(packet(isdiffpos="f")), judged)
    assert (result.passed, result.value) == (False, "f")


OWN = """
from pathlib import Path
from ampel_spark.t0 import Cut, Filter, Verdict

class Neither(Filter):
    "Nothing."

class Unknown(Filter):
    def cuts(self):
        return [self.keep("rbb > 0.5")]

class Plain(Filter):
    def cuts(self):
        return [Cut.where("x", "magsf < 15")]

class Twice(Filter):
    def cuts(self):
        return [self.keep("rb > 0.5", "x"), self.keep("drb > 0.5", "x")]

class Texts(Filter):
    def cuts(self):
        return ["rb > 0.5"]

class Fails(Filter):
    def cuts(self):
        return 1 / 0

class Listed(Filter):
    names: Path
    def judge(self, alert):
        return alert.name in self.names.read_text().split()
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Neither", "defines neither cuts nor judge"),
        ("Unknown", "no column 'rbb'; did you mean 'rb'"),
        ("Plain", "cut 'x': no column 'magsf'; did you mean 'magpsf'"),
        ("Twice", "two cuts 'x': give each its own name"),
        ("Texts", r"return a list of self.keep\(condition, name\)"),
        ("Fails", r"cuts\(\) raises ZeroDivisionError"),
        ("Absent", "no class 'Absent' there"),
    ],
)
def test_a_filter_that_cannot_judge_is_refused_before_anything_runs(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(ConfigError, match=said):
        make_filter(f"own.py:{name}", {}, tmp_path)


def test_a_file_that_a_filter_reads_is_part_of_its_trace(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "names.txt").write_text("SN other")
    made = make_filter("own.py:Listed", {"names": "names.txt"}, tmp_path)
    assert made.verdict(Alert.of(name="SN")).accept
    before = ChannelFilter("SN", made).trace_id
    (tmp_path / "names.txt").write_text("other")
    assert ChannelFilter("SN", made).trace_id != before
    assert not made.verdict(Alert.of(name="SN")).accept
