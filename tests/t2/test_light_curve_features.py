"""The unit of features: what it takes of a state, and what it says where there is nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.lightcurve import DETECTION, FORCED, UPPER_LIMIT
from ampel_spark.t2 import LightCurve, LightCurveBatch
from ampel_spark.t2.registry import build
from ampel_spark.t2.units.light_curve_features import LightCurveFeatures


def curve() -> LightCurve:
    return LightCurve.of(
        jd=[100, 103, 104, 105, 106, 110],
        kind=[UPPER_LIMIT, FORCED, DETECTION, DETECTION, DETECTION, FORCED],
        flux=[np.nan, 2.0, 10.0, 20.0, 30.0, 12.0],
        fluxerr=[np.nan, 1.0, 1.0, 1.0, 1.0, 1.0],
        limit_mag=[20.5] + 5 * [np.nan],
        zp=[25.0, 25.0, 25.0, 25.0, 25.0, 27.5],
        band=["lsstg", "lsstr", "lsstg", "lsstg", "lsstg", "lsstg"],
    )


def test_one_light_curve_and_many_give_the_same_row() -> None:
    unit = LightCurveFeatures(bands=("lsstg", "lsstr"))
    empty, other = (
        LightCurve.of(jd=[]),
        LightCurve.of(jd=[1.0, 2.0], mag=18.0, magerr=0.1, band="x"),
    )
    columns = unit.process_batch(LightCurveBatch.of([curve(), empty, other]))
    for i, one in enumerate((curve(), empty, other)):
        row = unit.process(one)
        for name, values in columns.items():
            if name in ("status", "message"):
                assert values[i] == row.get(name, {"status": 0, "message": ""}[name])
            elif name == "features_id":
                assert values[i] == row[name]
            elif name in row:
                assert values[i] == pytest.approx(float(row[name]), rel=1e-9), name
            else:
                assert np.isnan(values[i]), name
    assert columns["status"].tolist() == [0, 1, 1]
    assert columns["message"][1] == "no flux above 5 sigma in lsstg, lsstr"
    # a flux of zero point 27.5 is a tenth of it at 25
    assert columns["last_ratio_lsstg"][0] == pytest.approx(0.04)
    assert columns["t_predetect"][0] == 1.0


def test_forced_fluxes_can_be_left_out() -> None:
    row = LightCurveFeatures(bands=("lsstg", "lsstr"), forced=False).process(curve())
    assert (row["n_lsstg"], row["n_lsstr"], row["t_predetect"]) == (3, 0, 4.0)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"bands": ["g", "g"]}, "one is there twice"),
        ({"bands": ["g"], "colours": [["g", "r"]]}, "r: not among the bands g"),
        ({"bands": ["g"], "significant_bands": ["i"]}, "i: not among the bands g"),
    ],
)
def test_bands_that_cannot_be_are_refused(config: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build("light_curve_features", config, Path())


def test_features_have_an_id_by_what_they_mean() -> None:
    def known_by(**config: object) -> int:
        made = LightCurveFeatures.model_validate({"bands": ("ztfg", "ztfr")} | config)
        return int(made.process(curve())["features_id"])

    assert known_by() == known_by(sigma_det=5)
    others = {known_by(sigma_det=4), known_by(statistics=False), known_by(bands=("ztfr", "ztfg")),
              known_by(bands=("lsstg", "lsstr")), known_by(t_cadence=4.0)}  # fmt: skip
    assert len(others | {known_by()}) == 6
