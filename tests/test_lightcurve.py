"""Light curves: where an object is."""

from __future__ import annotations

import numpy as np
import pytest

from ampel_spark.lightcurve import DETECTION, FORCED, LightCurve, LightCurveBatch


def test_positions_are_those_of_detections_and_else_of_forced_measurements() -> None:
    both = LightCurve.of(jd=[1, 2, 3], kind=[DETECTION, FORCED, FORCED], ra=[359.0, 5.0, 5.0],
                         dec=[10.0, 20.0, 20.0])  # fmt: skip
    forced = LightCurve.of(jd=[1, 2], kind=FORCED, ra=[359.5, 0.5], dec=[0.0, 0.0])
    nowhere = LightCurve.of(jd=[1, 2], kind=FORCED)
    assert both.position() == pytest.approx((359.0, 10.0))
    assert forced.position()[0] % 360.0 == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(nowhere.position()).all()
    ra, dec = LightCurveBatch.of([both, nowhere, forced]).positions()
    each = np.array([c.position() for c in (both, nowhere, forced)])
    np.testing.assert_allclose(np.c_[ra, dec], each, atol=1e-9)
