"""A unit that takes its time, so that a run can be killed in the middle of it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ampel_spark.t2 import Column, LightCurve, Unit


class Patient(Unit):
    """The faintest magnitude of a light curve, after a wait."""

    columns = (Column("faintest", "double", "mag", "faintest detection"),)

    wait: float = 0.02
    "Seconds."

    def process(self, light_curve: LightCurve) -> Mapping[str, float]:
        """Return the faintest magnitude."""
        time.sleep(self.wait)
        return {"faintest": float(light_curve.detections.mag.max())}
