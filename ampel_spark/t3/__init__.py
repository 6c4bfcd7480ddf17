"""Tier 3: selection by expressions, units on the candidates, exports, plots and the report."""

from ampel_spark.t3.sample import Sample
from ampel_spark.t3.unit import File, Message, Plot, Rows, T3Unit

__all__ = ["File", "Message", "Plot", "Rows", "Sample", "T3Unit"]
