"""Tier 2: compute on states. The base class of units and what they see."""

from ampel_spark.lightcurve import LightCurve, LightCurveBatch
from ampel_spark.t2.unit import Column, Refusal, Unit

__all__ = ["Column", "LightCurve", "LightCurveBatch", "Refusal", "Unit"]
