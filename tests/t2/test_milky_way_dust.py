"""E(B-V) as a unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ampel_spark.errors import ConfigError, UnitError
from ampel_spark.sky.dust import DustMap
from ampel_spark.t2 import LightCurve, LightCurveBatch, Refusal
from ampel_spark.t2.registry import build
from ampel_spark.t2.trace import trace_of

CURVES = [
    LightCurve.of(jd=[1, 2], ra=[10.0, 10.001], dec=[41.0, 41.0]),
    LightCurve.of(jd=[1.0], ra=[266.4], dec=[-29.0]),
    LightCurve.of(jd=[1.0]),
]


def a_map(folder: Path, factor: float = 1.0) -> DustMap:
    """A map with values known at every pixel: 0.1 mag, times the pixel's number."""
    from ampel_spark.sky.dust import write_map

    made = DustMap(np.arange(48.0) * 0.1 * factor, "ring", "galactic", 1.0, "made")
    write_map(made, folder / "made.fits")
    (folder / "made.yml").write_text(
        "file: made.fits\nordering: ring\nframe: galactic\nscale: 1.0\n"
    )
    return made


def test_the_value_is_the_map_s_at_the_mean_position(tmp_path: Path) -> None:
    made = a_map(tmp_path)
    unit = build("milky_way_dust", {"map": "made.yml"}, tmp_path)
    row = unit.process(CURVES[0])
    assert row["ra"] == pytest.approx(10.0005)
    assert row["dec"] == pytest.approx(41.0, abs=1e-6)
    assert row["ebv"] == pytest.approx(float(made.ebv(row["ra"], row["dec"])), abs=1e-6)
    assert build("milky_way_dust", {"map": "made.fits"}, tmp_path).process(CURVES[0]) == row


def test_the_fast_form_says_what_the_plain_form_says() -> None:
    unit = build("milky_way_dust", {"map": "quickstart"}, Path())
    fast = unit.process_batch(LightCurveBatch.of(CURVES))
    assert fast is not None
    for i in range(2):
        row = unit.process(CURVES[i])
        assert fast["ebv"][i] == row["ebv"]
        assert fast["ra"][i] == pytest.approx(row["ra"], abs=1e-10)
        assert (fast["status"][i], fast["message"][i]) == (0, None)
    with pytest.raises(Refusal) as refused:
        unit.process(CURVES[2])
    assert np.isnan(fast["ebv"][2])
    assert (fast["status"][2], fast["message"][2]) == (refused.value.status, str(refused.value))


def test_the_map_s_values_are_part_of_the_trace(tmp_path: Path) -> None:
    a_map(tmp_path)
    traces = set()
    for name in ("made.yml", "made.fits"):
        traces.add(trace_of(build("milky_way_dust", {"map": name}, tmp_path), "dust").trace_id)
    unit = build("milky_way_dust", {"map": "made.yml"}, tmp_path)
    before = unit.process(CURVES[0])["ebv"]
    a_map(tmp_path, factor=2.0)
    assert unit.process(CURVES[0])["ebv"] == pytest.approx(2 * before, abs=2e-6)
    for name in ("made.yml", "made.fits"):
        traces.add(trace_of(build("milky_way_dust", {"map": name}, tmp_path), "dust").trace_id)
    assert len(traces) == 4


def test_a_map_that_is_not_there_is_an_error_that_tells_which_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.map = 'sfd': .*\(there: .*quickstart.*\)"):
        build("milky_way_dust", {"map": "sfd"}, tmp_path)
    with pytest.raises(UnitError, match=r"cannot read .*none\.fits"):
        trace_of(build("milky_way_dust", {"map": "./none.fits"}, tmp_path), "dust")
