"""Features of light curves, for classifiers: rise and decline, statistics of bands, colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from ampel_spark.features import FeatureSet, Options, compute, compute_one, features_id, warm
from ampel_spark.lightcurve import FORCED, UPPER_LIMIT, LightCurve, LightCurveBatch
from ampel_spark.t2.unit import Column, Unit

__all__ = ["LightCurveFeatures"]

_NO_DETECTION = 1


class LightCurveFeatures(Unit):
    """Rise and decline, colours and statistics of each band: what classifiers take.

    Detections and forced fluxes are rows, and upper limits say when nothing was seen. A forced flux
    of the image of a detection is left out. What cannot be known is null. A state is all that is
    looked at: features of an object's first alerts do not change when later ones come.
    """

    bands: tuple[str, ...] = Field(default=("ztfg", "ztfr"), min_length=1)
    "Bands of any survey; points in others are left out."

    colours: tuple[tuple[str, str], ...] = ()
    "Pairs of these bands; by default each band and the next."

    significant_bands: tuple[str, ...] = ()
    "Bands whose detections count; by default all."

    forced: bool = True
    "Whether forced fluxes are looked at."

    statistics: bool = True
    "Whether the statistics of each band are computed, which take longer than all others."

    sigma_det: float = Field(default=5.0, gt=0)
    "A flux of more than so many errors is a detection."

    sigma_slope: float = Field(default=3.0, ge=0)
    "Slopes of more than so many errors, summed over bands, are a rise or a decline."

    t_cadence: float = Field(default=5.0, gt=0)
    "Time in which fluxes of two bands make a colour, d."

    max_gap: float = Field(default=30.0, gt=0)
    "A longer time without any point is a gap, d."

    libraries = ("numpy",)
    meanings: ClassVar[Mapping[int, str]] = {_NO_DETECTION: "no detection in a significant band"}

    def model_post_init(self, context: Any) -> None:
        """Refuse bands that are not among `bands`, and doubled ones."""
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"bands {', '.join(self.bands)}: one is there twice")
        named = {*self.significant_bands, *(band for pair in self.colours for band in pair)}
        if others := sorted(named - {*self.bands}):
            raise ValueError(f"{', '.join(others)}: not among the bands {', '.join(self.bands)}")

    def feature_set(self) -> FeatureSet:
        """Return the features that these parameters ask for."""
        return FeatureSet(self.bands, self.colours, self.significant_bands, self.statistics)

    def output_columns(self) -> Sequence[Column]:
        """Return a column for each feature, and the id of their meaning."""
        return [
            *(Column(f.name, f.type, f.unit, f.description) for f in self.feature_set().features()),
            Column("features_id", "bigint", "", "what models know these features by"),
        ]

    def point_fields(self) -> Sequence[str]:
        """Return what is looked at."""
        return ("kind", "jd", "band", "flux", "fluxerr", "zp")

    def states_per_task(self) -> int:
        """Return many: ten thousand light curves take a second."""
        return 2000

    def prepare(self) -> None:
        """Compile the kernel, once for all workers."""
        warm()

    def process(self, light_curve: LightCurve) -> Mapping[str, Any]:
        """Compute the features of one light curve; the plain twin of `process_batch`."""
        p = light_curve.points
        kept = np.full(len(light_curve), self.forced) | (p["kind"] != FORCED)
        points = {name: p[name][kept] for name in ("jd", "flux", "fluxerr", "zp", "band")}
        points["limit"] = p["kind"][kept] == UPPER_LIMIT
        points["forced"] = p["kind"][kept] == FORCED
        found = compute_one(self.feature_set(), points, self._options())
        found["features_id"] = features_id(self.feature_set(), self._options())
        if not found["ndet"]:
            found |= {"status": _NO_DETECTION, "message": self._none(found["alldet"])}
        return found

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        """Compute the features of many light curves at once."""
        p = batch.points
        codes, words = batch.coded("band")
        places = {band: i for i, band in enumerate(self.bands)}
        band = np.array([places.get(word, -1) for word in words], np.int64)[codes]
        forced = p["kind"] == FORCED
        if not self.forced:
            band = np.where(forced, -1, band)
        features = self.feature_set()
        values = compute(
            features, batch.offsets, p["jd"], p["flux"], p["fluxerr"], p["zp"], band,
            p["kind"] == UPPER_LIMIT, forced, self._options(),
        )  # fmt: skip
        out: dict[str, Any] = {f.name: values[:, i] for i, f in enumerate(features.features())}
        out["features_id"] = np.full(len(batch), features_id(features, self._options()))
        none = out["ndet"] == 0
        out["status"] = np.where(none, _NO_DETECTION, 0)
        out["message"] = [
            self._none(int(n)) if bad else "" for bad, n in zip(none, out["alldet"], strict=True)
        ]
        return out

    def _options(self) -> Options:
        return Options(self.sigma_det, self.sigma_slope, self.t_cadence, self.max_gap)

    def _none(self, others: int) -> str:
        bands = ", ".join(self.significant_bands or self.bands)
        return (
            f"no flux above {self.sigma_det:g} sigma in {bands}"
            f"{f'; {others} in other bands' if others else ''}"
        )
