"""The one language of conditions: T0's cuts, catalogues' filters, T3's selections."""

from ampel_spark.expressions.expression import Expression, parse
from ampel_spark.expressions.kinds import kind_of
from ampel_spark.expressions.operations import FUNCTIONS

__all__ = ["FUNCTIONS", "Expression", "kind_of", "parse"]
