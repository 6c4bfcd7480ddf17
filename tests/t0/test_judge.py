"""The engine: cut by cut, against the twin, for several channels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from ampel_spark.errors import ConfigError
from ampel_spark.lake.tables import TABLES
from ampel_spark.t0 import ChannelFilter, Conditions, Filter, SimpleDecentFilter, make_filter
from ampel_spark.t0.filters import REQUIRED_KEYS
from ampel_spark.t0.judge import judge
from tests.t0.packets import GOOD, HU_RAPID, Packet, alerts, by_alert, disagreements, packet
from tests.t0.twin import Verdict, judge_packet

pytestmark = pytest.mark.spark

PUBLIC = frozenset({1})
JD = 2459010.0
NAN = math.nan


def rapid(**changes: Any) -> Filter:
    return make_filter("DecentFilter", HU_RAPID | changes)


def just_above(x: float) -> float:
    return float(np.nextafter(np.float32(x), np.float32(np.inf)))


def just_below(x: float) -> float:
    return float(np.nextafter(np.float32(x), np.float32(-np.inf)))


CONFIGS: dict[str, dict[str, Any]] = {
    "rapid": {},
    # thresholds that a float can hold, so that equality can be met
    "exact": {
        "min_tspan": 1, "min_rb": 0.5, "min_drb": 0.5, "max_elong": 1.5, "max_nbad": 5,
        "min_archive_tspan": 6, "max_archive_tspan": 20, "ps1_sgveto_th": 0.75,
        "ps1_confusion_sg_tol": 0.125,
    },
    "no plane": {"min_gal_lat": 0},
    "negative": {"min_gal_lat": -1},
}  # fmt: skip

START = GOOD["jdstarthist"]
CENTRE = {"ra": 266.4, "dec": -28.9}


def ps1(d3: float, sg3: float) -> dict[str, float]:
    """Three PS1 sources, of which the third decides about confusion."""
    return {
        "distpsnr1": 0.5, "distpsnr2": 0.75, "distpsnr3": d3,
        "sgscore1": 0.5, "sgscore2": 0.5, "sgscore3": sg3,
    }  # fmt: skip


# What passes a cut at its very edge, and what fails it: parameters, changes to the packet, the cut
# that fails (None: accepted), its value and its threshold.
EDGES: list[tuple[str, dict[str, Any], str | None, float | None, float | None]] = [
    ("rapid", {}, None, None, None),
    ("rapid", {"history": []}, "min_ndet", 1, 2),
    ("rapid", {"history": [(JD - 1, None, 1), (JD - 2, None, 1)]}, "min_ndet", 1, 2),
    ("exact", {}, None, None, None),
    ("exact", {"history": [(JD - 0.75, 99, 1)]}, "min_tspan", 0.75, 1),
    ("rapid", {"history": [(JD - 5, 99, 1)]}, None, None, None),
    ("rapid", {"history": [(JD - 5.25, 99, 1)]}, "max_tspan", 5.25, 5),
    ("rapid", {"history": [(JD - 1, 99, 1), (JD - 9, None, 1)]}, None, None, None),
    ("rapid", {"isdiffpos": "f"}, "isdiffpos", -1, 0),
    ("rapid", {"isdiffpos": "0"}, "isdiffpos", -1, 0),
    ("rapid", {"isdiffpos": "1"}, None, None, None),
    ("exact", {"rb": 0.5}, None, None, None),
    ("exact", {"rb": just_below(0.5)}, "min_rb", just_below(0.5), 0.5),
    ("exact", {"drb": 0.5}, None, None, None),
    ("exact", {"drb": 0.25}, "min_drb", 0.25, 0.5),
    ("exact", {"drb": None}, None, None, None),
    ("exact", {"drb": NAN}, None, None, None),
    ("exact", {"drb": ...}, None, None, None),
    ("rapid", {"drb": 0.0}, None, None, None),
    ("rapid", {"fwhm": 5.5}, None, None, None),
    ("rapid", {"fwhm": just_above(5.5)}, "max_fwhm", just_above(5.5), 5.5),
    ("exact", {"elong": 1.5}, None, None, None),
    ("exact", {"elong": just_above(1.5)}, "max_elong", just_above(1.5), 1.5),
    ("rapid", {"magdiff": 1.0}, None, None, None),
    ("rapid", {"magdiff": -1.0}, None, None, None),
    ("rapid", {"magdiff": -1.25}, "max_magdiff", 1.25, 1),
    ("rapid", {"nbad": 1}, "max_nbad", 1, 0),
    ("exact", {"nbad": 5}, None, None, None),
    ("exact", {"nbad": 6}, "max_nbad", 6, 5),
    ("rapid", {"jdendhist": START}, None, None, None),
    ("rapid", {"jdendhist": START - 1}, "min_archive_tspan", -1, 0),
    ("exact", {"jdendhist": START + 6}, None, None, None),
    ("exact", {"jdendhist": START + 5}, "min_archive_tspan", 5, 6),
    ("exact", {"jdendhist": START + 19}, None, None, None),
    ("exact", {"jdendhist": START + 20}, "max_archive_tspan", 20, 20),
    ("exact", {"jdendhist": None}, None, None, None),
    ("exact", {"jdstarthist": ...}, None, None, None),
    ("exact", {"jdstarthist": NAN}, None, None, None),
    ("rapid", {"ssdistnr": 0.0}, "min_sso_dist", 0, 20),
    ("rapid", {"ssdistnr": 19.5}, "min_sso_dist", 19.5, 20),
    ("rapid", {"ssdistnr": 20.0}, None, None, None),
    ("rapid", {"ssdistnr": -0.5}, None, None, None),
    ("no plane", CENTRE, None, None, None),
    ("negative", CENTRE, None, None, None),
    ("rapid", {"distpsnr1": 0.75, "sgscore1": 0.875}, "ps1_star", 0.75, 1),
    ("rapid", {"distpsnr1": 1.0, "sgscore1": 0.875}, None, None, None),
    ("exact", {"distpsnr1": 0.5, "sgscore1": 0.75}, None, None, None),
    ("rapid", {"distpsnr1": -999.0, "sgscore1": -999.0}, None, None, None),
    ("rapid", ps1(2.5, 0.5625), "ps1_confusion", 2.5, 3),
    ("rapid", ps1(3.0, 0.5625), None, None, None),
    ("exact", ps1(2.5, 0.375), None, None, None),
    ("exact", ps1(2.5, 0.4375), "ps1_confusion", 2.5, 3),
    *(
        ("rapid", {key: absent}, "missing keys", None, None)
        for key in REQUIRED_KEYS
        for absent in (None, NAN, ...)
        if not (absent is NAN and key in ("nbad", "isdiffpos"))
    ),
    # the first cut that fails is the one that counts
    ("rapid", {"rb": None, "isdiffpos": "f"}, "missing keys", None, None),
    ("rapid", {"rb": 0.125, "fwhm": 9.0, "nbad": 3}, "min_rb", 0.125, 0.3),
    ("rapid", {"nbad": 3, "ssdistnr": 1.0}, "max_nbad", 3, 0),
]


def test_every_cut_at_its_edge(spark: SparkSession) -> None:
    # One channel for each set of parameters, one alert for each edge, one action for all.
    channels = {name: ChannelFilter(name, rapid(**config)) for name, config in CONFIGS.items()}
    packets = [packet(1000 + i, JD, **edge[1]) for i, edge in enumerate(EDGES)]
    found = by_alert(judge(alerts(spark, packets), list(channels.values())))
    for made, (channel, _, *expected) in zip(packets, EDGES, strict=True):
        verdict = Verdict(expected[0] is None, *expected)
        assert judge_packet(made, channels[channel].filter) == verdict
        assert disagreements(found, channel, {made["candidate"]["candid"]: verdict}) == []


def test_min_gal_lat_rejects_near_the_galactic_plane_only(spark: SparkSession) -> None:
    # latitudes by SIMBAD's position of objects: M 31 -21.57, the Crab -5.78, M 87 +74.49
    places = {1: (10.6847, 41.2688), 2: (83.6331, 22.0145), 3: (187.7059, 12.3911)}
    df = alerts(spark, [packet(i, JD, ra=ra, dec=dec) for i, (ra, dec) in places.items()])
    found = by_alert(judge(df, [ChannelFilter("A", rapid())]))
    assert [found["A", i].accepted for i in places] == [True, False, True]
    assert (found["A", 2].cut, found["A", 2].threshold) == ("min_gal_lat", 14.0)
    assert found["A", 2].value == pytest.approx(5.78, abs=0.01)


def test_max_nbad_is_applied_where_ampel_forgets_it(spark: SparkSession) -> None:
    found = by_alert(
        judge(alerts(spark, [packet(1, nbad=5)]), [ChannelFilter("A", rapid(max_nbad=0))])
    )
    row = found["A", 1]
    assert (row.accepted, row.cut, row.value, row.threshold) == (False, "max_nbad", 5.0, 0.0)


def test_an_archive_history_of_no_length_passes_at_the_default_where_ampel_drops_it(
    spark: SparkSession,
) -> None:
    df = alerts(spark, [packet(1, jdstarthist=JD, jdendhist=JD)])
    found = by_alert(
        judge(df, [ChannelFilter("A", rapid()), ChannelFilter("B", SimpleDecentFilter())])
    )
    assert found["A", 1].accepted
    assert found["B", 1].accepted


def random_packets(n: int, seed: int) -> list[Packet]:
    """Packets that mostly pass, with values at edges, missing, NaN and odd thrown in."""
    rng = np.random.default_rng(seed)
    odd: dict[str, list[Any]] = {
        "isdiffpos": ["f", "0", "1", "t", None],
        "rb": [0.3, just_below(0.3), just_above(0.3), 0.0, None, NAN],
        "drb": [0.5, 0.49, None, NAN, ..., 0.0],
        "fwhm": [5.5, 5.0, just_above(5.0), 9.0, None, NAN],
        "elong": [1.4, just_above(1.4), just_below(1.4), None, NAN],
        "magdiff": [0.4, -0.4, 1.0, -1.0, just_above(1.0), just_below(-0.4), None, NAN],
        "nbad": [1, 5, None],
        "jdstarthist": [JD, JD - 1e5, None, NAN, ...],
        "jdendhist": [JD - 20, None, ...],
        "ssdistnr": [0.0, 20.0, 19.99, -1.0, None, NAN],
        "ra": [0.0, 359.999, None, NAN],
        "dec": [90.0, -90.0, 0.0, None, NAN],
        "distpsnr1": [0.5, 1.0, 2.0, just_below(2.0), -999.0, None, NAN],
        "sgscore1": [0.8, just_above(0.8), 0.5, 0.99, -999.0, None, NAN],
        "distpsnr2": [0.5, 2.9, -999.0, None],
        "sgscore2": [0.5, 0.55, -999.0, None],
        "distpsnr3": [0.9, 3.0, -999.0, NAN],
        "sgscore3": [0.5, 0.4, -999.0, NAN],
        "magpsf": [19.0, just_above(19.0), None, NAN],
        "ndethist": [3, 2, None],
        "programid": [2, 3],
    }
    made = []
    for i in range(1, n + 1):
        changes = {
            key: pool[rng.integers(len(pool))] for key, pool in odd.items() if rng.random() < 0.05
        }
        if rng.random() < 0.1:
            places = [(266.4, -28.9), (83.6, 22.0), (0.0, 60.0), (192.85, 27.13)]
            changes["ra"], changes["dec"] = places[rng.integers(len(places))]
        if rng.random() < 0.1:
            changes |= ps1(float(rng.choice([0.75, 2.5, 3.0])), float(rng.choice([0.45, 0.56])))
        history = [
            (
                JD - float(rng.choice([0.01, 0.02, 1.0, 5.0, 5.5, 25.0, 29.0])),
                1000 * i + j if rng.random() < 0.85 else None,
                int(rng.choice([1, 1, 1, 1, 2, 3])),
            )
            for j in range(1, int(rng.integers(1, 6)))
        ]
        made.append(packet(1000 * i, JD, history=history, **changes))
    return made


def test_the_engine_says_what_the_twin_says_on_thousands_of_random_packets(
    spark: SparkSession,
) -> None:
    packets = random_packets(4000, seed=7)
    conditions = Conditions(
        conditions=(
            "magpsf <= 19", "rb >= 0.3", "isdiffpos in [t, 1]", "drb >= 0.5 or missing",
            "abs(magdiff) < 1", "n_detections >= 2", "tspan < 25", "archive_tspan > 5 or missing",
            "ndethist != 2", "abs(gal_lat) > 14", "sgscore1 < 0.8", "nbad not in [1, 2]",
        )
    )  # fmt: skip
    selections = [
        ChannelFilter("everything", rapid(min_drb=0.5, max_tspan=28)),
        ChannelFilter("public", rapid(), PUBLIC),
        ChannelFilter("partners", rapid(ps1_sgveto_rad=2, max_tspan=28), frozenset({1, 2})),
        ChannelFilter("simple", SimpleDecentFilter(min_gal_lat=14, min_archive_tspan=5), PUBLIC),
        ChannelFilter("conditions", conditions, frozenset({1, 3})),
    ]
    found = by_alert(judge(alerts(spark, packets), selections))
    wrong: list[str] = []
    for s in selections:
        verdicts = {
            p["candidate"]["candid"]: judge_packet(p, s.filter, access=s.access) for p in packets
        }
        wrong += disagreements(found, s.channel, verdicts)
        # a test on few cuts would prove little
        met = {v.cut for v in verdicts.values() if v is not None}
        asked = {cut.name for cut in s.filter.cuts()} - {"gaia_star"}
        assert asked - met <= {"min_tspan"}
        assert None in met
    assert wrong == []


def test_alerts_and_history_of_other_programs_are_not_there(spark: SparkSession) -> None:
    hidden = packet(1, programid=2, history=[(JD - 1, 90, 1), (JD - 2, 91, 1)])
    partly = packet(2, history=[(JD - 1, 92, 2), (JD - 2, 93, 3)])
    open_ = packet(3, history=[(JD - 1, 94, 1), (JD - 3, 95, 2)])
    f = Conditions(conditions=("n_detections >= 2", "tspan < 1.5"))
    found = by_alert(
        judge(
            alerts(spark, [hidden, partly, open_]),
            [
                ChannelFilter("public", f, PUBLIC),
                ChannelFilter("partners", f, frozenset({1, 2})),
                ChannelFilter("caltech", f, frozenset({1, 3})),
            ],
        )
    )
    assert ("public", 1) not in found
    assert ("caltech", 1) not in found
    said = {key: (r.cut, r.value) for key, r in found.items()}
    assert said == {
        ("public", 2): ("n_detections >= 2", 1.0),
        ("public", 3): (None, None),
        ("partners", 1): ("tspan < 1.5", 2.0),
        ("partners", 2): (None, None),
        ("partners", 3): ("tspan < 1.5", 3.0),
        ("caltech", 2): ("tspan < 1.5", 2.0),
        ("caltech", 3): (None, None),
    }


def test_a_datapoint_without_program_is_shown_to_nobody(spark: SparkSession) -> None:
    unknown: Any = None
    df = alerts(spark, [packet(1, history=[(JD - 1, 90, 1), (JD - 2, 91, unknown)])])
    f = Conditions(conditions=("n_detections >= 3",))
    found = by_alert(judge(df, [ChannelFilter("A", f, PUBLIC), ChannelFilter("B", f)]))
    assert (found["A", 1].value, found["B", 1].accepted) == (2.0, True)


def test_several_channels_cost_one_scan(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alerts(spark, [packet(i, JD + i) for i in range(1, 9)]).write.parquet(str(tmp_path / "alerts"))
    df = spark.read.parquet(str(tmp_path / "alerts"))
    selections = [
        ChannelFilter("A", rapid()),
        ChannelFilter("B", rapid(min_ndet=1), PUBLIC, "bypass"),
        ChannelFilter("C", SimpleDecentFilter(), PUBLIC, "overrule"),
        ChannelFilter("D", Conditions(conditions=("rb > 0.5",)), frozenset({1, 2})),
    ]
    decisions = judge(df, selections)
    decisions.explain()
    assert capsys.readouterr().out.count("FileScan parquet") == 1
    assert decisions.count() == 8 * len(selections)


def test_decisions_have_the_columns_of_the_contract(spark: SparkSession) -> None:
    decisions = judge(alerts(spark, [packet(1)]), [ChannelFilter("A", rapid())], "run 7")
    # all but the decision set, which is the run's to say
    columns = {c.name: c.type for c in TABLES["decisions"].columns}
    assert dict(decisions.dtypes) == {n: columns[n] for n in columns if n not in ("set_id", "part")}
    row = decisions.collect()[0]
    assert (row.run_id, row.survey, row.name) == ("run 7", "ztf", "ZTF20aaaaaab")
    assert row.trace_id == ChannelFilter("A", rapid()).trace_id


def test_groups_number_the_accepted(spark: SparkSession) -> None:
    f = Conditions(
        conditions=("rb >= 0.3",), by_group=(("magpsf < 17",), ("magpsf < 18", "fid == 1"))
    )
    cases = {1: (16.0, 1), 2: (17.5, 2), 3: (19.0, None), 4: (16.0, None)}
    packets = [packet(i, magpsf=mag, rb=0.1 if i == 4 else 0.9) for i, (mag, _) in cases.items()]
    found = by_alert(judge(alerts(spark, packets), [ChannelFilter("A", f)]))
    assert {i: found["A", i].group for i in cases} == {i: g for i, (_, g) in cases.items()}
    assert [found["A", i].accepted for i in cases] == [True, True, True, False]


def test_large_integers_are_compared_digit_by_digit(spark: SparkSession) -> None:
    ids = (595147624915010001, 595147624915010002)
    f = Conditions(conditions=("candid == 595147624915010001",))
    found = by_alert(judge(alerts(spark, [packet(i) for i in ids]), [ChannelFilter("A", f)]))
    assert [found["A", i].accepted for i in ids] == [True, False]


def test_conditions_of_several_columns_are_judged_and_record_their_first_comparison(
    spark: SparkSession,
) -> None:
    f = Conditions(
        conditions=(
            "magpsf < 18 or rb > 0.8",
            "magpsf - magap < 0.5 or missing",
            "sgscore1 / nbad < 9 or nbad == 0",
        )
    )
    cases: list[tuple[dict[str, Any], str | None, float | None, float | None]] = [
        ({"magpsf": 17.0, "rb": 0.5, "nbad": 0}, None, None, None),
        ({"magpsf": None, "rb": 0.75}, f.conditions[0], None, None),
        ({"magpsf": 19.0, "rb": 0.75}, f.conditions[0], 19.0, None),
        ({"magpsf": None, "rb": 0.875, "nbad": 0}, None, None, None),
        ({"magpsf": 17.0, "magap": 16.0, "rb": 0.5}, f.conditions[1], 1.0, 0.5),
        ({"nbad": 1, "sgscore1": 9.5}, f.conditions[2], 9.5, None),
    ]
    packets = [packet(1000 + i, JD, **case[0]) for i, case in enumerate(cases)]
    found = by_alert(judge(alerts(spark, packets), [ChannelFilter("A", f)]))
    rows = [found["A", 1000 + i] for i in range(len(cases))]
    assert [(r.cut, r.value, r.threshold) for r in rows] == [case[1:] for case in cases]


def test_a_channel_has_one_filter(spark: SparkSession) -> None:
    with pytest.raises(ConfigError, match="channel A has more than one filter"):
        judge(
            alerts(spark, [packet(1)]), [ChannelFilter("A", rapid()), ChannelFilter("A", rapid())]
        )
    with pytest.raises(ConfigError, match="no channel"):
        judge(alerts(spark, [packet(1)]), [])


def test_a_survey_without_the_column_is_refused_before_anything_runs(spark: SparkSession) -> None:
    df = alerts(spark, [packet(1)]).drop("ssdistnr")
    with pytest.raises(ConfigError, match="needs the column 'ssdistnr'"):
        judge(df, [ChannelFilter("A", rapid())])
