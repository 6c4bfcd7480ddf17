"""What a release meets is told before a run: empty-handed rules, overlaps, contradictions."""

# ruff: noqa: E501  (lines are compared as they are printed)
from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ampel_spark.calibration.apply import apply
from ampel_spark.calibration.examine import COLUMNS, examine_batches
from ampel_spark.calibration.release import RAW, Release, Rule, RuleTable, Selects
from ampel_spark.calibration.tables import read_replacement
from ampel_spark.lightcurve import UPPER_LIMIT
from tests.calibration.test_apply import columns, point

_TYPES = {"survey": pa.string(), "kind": pa.string(), "band": pa.string(), "stock": pa.int64(),
          "datapoint_id": pa.int64(), "sign": pa.int32(), "field": pa.int32(), "rcid": pa.int32()}  # fmt: skip


def datapoints(n: int = 10) -> pa.RecordBatch:
    """A point a day from JD 2458300.5 on, g and r in turn; every fifth is an upper limit."""
    rows = []
    for i in range(n):
        limit = i % 5 == 4
        rows.append({
            "survey": "ztf", "stock": 100 + i // 2, "datapoint_id": -i - 1 if limit else i + 1,
            "kind": "upper_limit" if limit else "detection", "jd": 2458300.5 + i,
            "band": "ztfr" if i % 2 else "ztfg", "mag": None if limit else 17.0 + i / 10,
            "limit_mag": 20.0, "sign": 0 if limit else 1, "flux": None, "zp": None,
            "field": 600, "rcid": i,
        })  # fmt: skip
    schema = pa.schema([(name, _TYPES.get(name, pa.float64())) for name in COLUMNS])
    return pa.RecordBatch.from_pylist(rows, schema)


def examined(*rules: Rule) -> tuple[dict[int, int], list[str]]:
    batch = datapoints()
    found = examine_batches([batch.slice(0, 3), batch.slice(3)], Release("x", rules=rules))
    assert found.points == 10
    return dict(found.counts), [line.removeprefix("calibration x: ") for line in found.warnings]


def test_rules_that_select_nothing_say_why() -> None:
    counts, lines = examined(
        Rule(1, "late", Selects(jd=(2458788.5, np.inf)), zero_point=0.03),
        Rule(2, select=Selects(jd=(-np.inf, 2458300.5)), zero_point=0.03),
        Rule(3, select=Selects(band=("ztfi",)), zero_point=0.03),
        Rule(4, select=Selects(mag=(21, 22)), zero_point=0.03),
    )
    assert counts == {1: 0, 2: 0, 3: 0, 4: 0}
    assert lines == [
        "rule 1 (late) selects nothing: it begins at JD 2458788.50 (2019-11-01), and the last point "
        "is of JD 2458309.50 (2018-07-10)",
        "rule 2 selects nothing: it ends at JD 2458300.50 (2018-07-01), and the first point is of "
        "JD 2458300.50 (2018-07-01)",
        "rule 3 selects nothing: there is no point of band ztfi; bands: ztfg, ztfr",
        "rule 4 selects nothing",
    ]


def test_overlaps_are_told_unless_a_rule_says_that_it_adds() -> None:
    green, bright = Selects(band=("ztfg",)), Selects(mag=(-np.inf, 17.45))
    slope = {"ztfg": 0.01, "ztfr": -0.01}
    rules = (Rule(1, select=green, zero_point=0.01), Rule(2, select=bright, slope=slope))
    counts, lines = examined(*rules, Rule(3, error_scale=2.0))
    assert counts == {1: 5, 2: 4, 3: 10}
    # points 0 and 2 are green and brighter than 17.45; point 4 is a limit of 20 mag
    assert lines == [
        "rule 1 and rule 2 both change the zero point of 2 points: they add up; say 'adds: true' in "
        "one of them if that is meant"
    ]
    assert examined(rules[0], Rule(2, select=bright, zero_point=0.1, adds=True))[1] == []


def test_what_is_masked_and_changed_is_a_contradiction(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("datapoint_id,mag\n1,18\n2,18\n77,18\n")
    new = read_replacement(tmp_path / "new.csv")
    table = RuleTable("t", {"rcid": np.array([0, 40])}, {"zero_point": np.array([0.1, 0.1])})
    counts, lines = examined(
        Rule(1, table=table), Rule(2, replace=new), Rule(3, replace=new),
        Rule(4, select=Selects(rcid=(0,)), mask=True),
    )  # fmt: skip
    assert counts == {1: 1, 2: 2, 3: 2, 4: 1}
    assert lines == [
        "rule 2 replaces 2 points; its table has 3",
        "rule 3 replaces 2 points; its table has 3",
        "rule 2 and rule 3 both replace 2 points: the last one counts",
        "rule 4 masks 1 points that rule 1 changes: they are left out",
        "rule 4 masks 1 points that rule 2 changes: they are left out",
        "rule 4 masks 1 points that rule 3 changes: they are left out",
    ]


def test_bands_that_a_slope_has_no_wavelength_of_are_told() -> None:
    slope = {"ztfg": 0.01}
    _, lines = examined(Rule(1, select=Selects(kind=("detection",)), slope=slope))
    assert lines == [
        "the slope of rule 1 leaves 4 points of band ztfr alone: give its wavelength, as wavelength: {ztfr: 5000}"
    ]
    # a rule that names its bands has a wavelength of each
    assert examined(Rule(1, select=Selects(band=("ztfg",)), slope=slope))[1] == []


def test_raw_has_nothing_to_tell() -> None:
    assert examine_batches([datapoints()], RAW).warnings == ()


def test_rules_count_the_points_that_they_then_act_on() -> None:
    rules = tuple(Rule(n, select=Selects(rcid=(n, n + 1)), zero_point=0.1) for n in range(1, 6))
    points = [point(datapoint_id=i + 1, rcid=i) for i in range(10)]
    found = apply(Release("x", rules=rules), columns(points), np.arange(10),
                  np.full(10, "ztf", object), np.arange(10))  # fmt: skip
    counts, _ = examined(*rules)
    assert np.bincount(found.rule)[1:].tolist() == list(counts.values())
    assert UPPER_LIMIT not in columns(points)["kind"]
