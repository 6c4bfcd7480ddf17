"""Channels' filters: what is off, what is refused, and what a trace is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ampel_spark import expressions
from ampel_spark import trace as traces
from ampel_spark.errors import ConfigError
from ampel_spark.t0 import (
    ChannelFilter,
    Conditions,
    Filter,
    SimpleDecentFilter,
    StarCatalog,
    cuts_off,
    make_filter,
    trace,
)
from ampel_spark.t0 import selection as module
from ampel_spark.t0.cuts import Cut
from ampel_spark.t0.explain import explain
from ampel_spark.t0.quantities import OwnQuantities
from tests.t0.packets import HU_RAPID

STARS = StarCatalog("stars", ("stars.parquet",), "0" * 32)


def rapid(**changes: Any) -> Filter:
    return make_filter("DecentFilter", HU_RAPID | changes)


def test_the_plan_says_which_cuts_are_off() -> None:
    assert cuts_off(ChannelFilter("SN", rapid())) == [
        "channel SN: min_drb is 0: no cut on the deep-learning real-bogus score",
        "channel SN: no star catalogue is named (gaia:): no veto by Gaia stars",
    ]
    assert cuts_off(ChannelFilter("SN", rapid(min_drb=0.5), gaia=STARS)) == []
    assert cuts_off(ChannelFilter("SN", rapid(min_drb=0.5, gaia_rs=0, min_gal_lat=-1))) == [
        "channel SN: min_gal_lat is -1: no cut on the galactic latitude",
        "channel SN: gaia_rs is 0: no veto by Gaia stars",
    ]
    assert cuts_off(ChannelFilter("SN", Conditions(conditions=("rb > 0.3",)))) == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"on_stock_match": "bypas"}, "on_stock_match is 'bypas'; did you mean 'bypass'?"),
        ({"history": "archiv"}, "history is 'archiv'; did you mean 'archive'?"),
        ({"access": frozenset()}, "has access to nothing"),
        ({"gaia": STARS}, "SimpleDecentFilter, has no Gaia veto"),
    ],
)
def test_a_selection_that_cannot_be_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        ChannelFilter("SN", SimpleDecentFilter(), **settings)
    assert says in str(error.value)
    assert "channel SN" in str(error.value)


def test_a_trace_is_over_all_that_decides_and_nothing_else() -> None:
    base = ChannelFilter("A", rapid())
    assert len(base.trace_id) == 32
    assert int(base.trace_id, 16) >= 0
    same = [
        ChannelFilter("B", rapid()),
        ChannelFilter(
            "A", rapid(min_drb=0.0, max_archive_tspan=100000)
        ),  # the defaults, written out
    ]
    assert {s.trace_id for s in same} == {base.trace_id}
    others = [
        ChannelFilter("A", rapid(min_rb=0.31)),
        ChannelFilter("A", SimpleDecentFilter()),
        ChannelFilter("A", SimpleDecentFilter(min_gal_lat=14)),
        ChannelFilter("A", rapid(), frozenset({1})),
        ChannelFilter("A", rapid(), frozenset({1, 2})),
        ChannelFilter("A", rapid(), on_stock_match="bypass"),
        ChannelFilter("A", rapid(), history="archive"),
        ChannelFilter("A", rapid(), gaia=STARS),
        ChannelFilter("A", rapid(), gaia=StarCatalog("stars", ("stars.parquet",), "1" * 32)),
        ChannelFilter("A", Conditions(conditions=("rb > 0.3",))),
        ChannelFilter("A", Conditions(conditions=("rb > 0.4",))),
    ]
    assert len({base.trace_id, *(s.trace_id for s in others)}) == 1 + len(others)


def test_where_the_stars_lie_is_not_in_the_trace() -> None:
    elsewhere = StarCatalog("other", ("there/s.parquet",), STARS.content_hash)
    assert trace(rapid(), gaia=STARS) == trace(rapid(), gaia=elsewhere)


def change(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Add a number to a module's code."""
    read = traces._source
    monkeypatch.setattr(
        traces, "_source", lambda spec: read(spec) + ("\nN = 1\n" if spec.name == name else "")
    )


@pytest.mark.parametrize(
    "name", ["t0.judge", "t0.cuts", "t0.history", "t0.conditions", "expressions.sql"]
)
def test_a_change_of_code_changes_the_trace(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = trace(rapid())
    change(monkeypatch, f"ampel_spark.{name}")
    assert trace(rapid()) != before


def test_the_code_of_the_veto_counts_only_where_there_are_stars(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = trace(rapid()), trace(rapid(), gaia=STARS)
    change(monkeypatch, "ampel_spark.t0.gaia")
    assert trace(rapid()) == before[0]
    assert trace(rapid(), gaia=STARS) != before[1]


class Own(Filter):
    """A filter of one's own."""

    brightest: float = 15.0

    def cuts(self) -> list[Cut]:
        return [Cut.where("too bright", f"magpsf < {self.brightest}")]


def test_the_code_of_ones_own_filter_is_in_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    before = trace(Own())
    change(monkeypatch, Own.__module__)
    assert trace(Own()) != before


def test_code_that_cannot_be_read_is_an_error() -> None:
    class Nowhere(Own):
        pass

    Nowhere.__module__ = "nowhere_to_be_found"
    with pytest.raises(ConfigError, match="nowhere_to_be_found cannot be read"):
        trace(Nowhere())


def test_every_module_that_decides_is_in_the_trace() -> None:
    files = {path.stem for path in Path(module.__file__).parent.glob("*.py")}
    code = traces.code_of(SimpleDecentFilter, Filter, ["ampel_spark.t0.judge"])
    named = {name.rpartition(".")[2] for name in code if name.startswith("ampel_spark.t0.")}
    assert named == files - {"__init__", "explain", "parts", "sets"}
    language = {path.stem for path in Path(expressions.__file__).parent.glob("*.py")}
    named = {name.rpartition(".")[2] for name in code if ".expressions." in name}
    assert named == language - {"__init__"}


@pytest.mark.parametrize(
    ("condition", "body", "other"),
    [
        ("reliability > 0.5", False, True),
        ("solar_system or not solar_system", True, True),
        ("solar_system", True, False),
        ("lsst.solar_system", True, False),
    ],
)
def test_bodies_of_the_solar_system_are_in_channels_that_name_them(
    condition: str, body: bool, other: bool
) -> None:
    own = OwnQuantities("lsst", {"solar_system": "boolean", "reliability": "float"})
    judged = ChannelFilter("C", make_filter("Conditions", {"conditions": [condition]}, own=own))
    for is_body, is_in in ((True, body), (False, other)):
        alert = {"lsst": {"solar_system": is_body, "reliability": 0.9}, "datapoint_ids": [],
                 "datapoint_jds": [], "datapoint_programids": []}  # fmt: skip
        assert all(cut.passed for cut in explain(alert, judged)) is is_in


def test_what_keeps_the_solar_system_apart_is_in_the_trace() -> None:
    own = OwnQuantities("lsst", {"reliability": "float"})
    both = OwnQuantities("lsst", {"solar_system": "boolean", "reliability": "float"})
    found = [trace(make_filter("All", {}, own=each)) for each in (None, own, both)]
    assert found[0] == found[1] != found[2]
