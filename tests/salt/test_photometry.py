"""Arrays of light curves are checked when they are put together."""

from __future__ import annotations

import numpy as np
import pytest

from ampel_spark.salt import LightCurveError, LightCurves

GOOD = {
    "offsets": [0, 1, 2],
    "time": [0.0, 1.0],
    "flux": [1.0, 1.0],
    "fluxerr": [1.0, 1.0],
    "band": [0, 1],
}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"offsets": [0, 2, 1]}, "not decrease"),
        ({"offsets": [-1, 1, 2]}, "start at 0"),
        ({"offsets": [0, 1, 3]}, "offsets end at 3"),
        ({"flux": [1.0]}, "flux has shape"),
        ({"band": ["g", "r"]}, "integers"),
        ({"zp": [25.0] * 3}, "zp has shape"),
        ({"fluxcov": [np.eye(1)]}, "1 entries for 2"),
        ({"fluxcov": [np.eye(1), np.eye(2)]}, "light curve 1 has shape"),
    ],
)
def test_arrays_that_do_not_match_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(LightCurveError, match=message):
        LightCurves(**{**GOOD, **wrong})


def test_scalars_serve_all_points() -> None:
    curves = LightCurves(**GOOD, zp=27.0)
    np.testing.assert_array_equal(curves.zp, [27.0, 27.0])
    np.testing.assert_array_equal(curves.zpsys, [0, 0])
    assert len(curves) == 2


def test_tables_with_an_unknown_system_are_refused() -> None:
    table = {"time": [0.0], "flux": [1.0], "fluxerr": [1.0], "zp": [25.0], "band": ["ztfg"],
             "zpsys": ["vega"]}  # fmt: skip
    with pytest.raises(LightCurveError, match="vega"):
        LightCurves.from_tables([table], ["ztfg"])
    curves = LightCurves.from_tables([table], ["ztfr"], ["ab", "vega"])
    assert curves.band.tolist() == [-1]
    assert curves.zpsys.tolist() == [1]
