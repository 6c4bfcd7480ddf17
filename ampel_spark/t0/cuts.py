"""What a cut is: a condition on which an alert is rejected, apart from any engine.

A filter is a list of cuts in a fixed order; the first one that an alert fails is what `decisions`
records. Conditions are those of `ampel_spark.expressions`, on the quantities of
`ampel_spark.t0.quantities`. `ampel_spark.t0.judge` turns the list into one Spark column,
`ampel_spark.t0.explain` evaluates it for one alert.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ampel_spark.expressions import Expression, parse
from ampel_spark.expressions.syntax import Call, Literal
from ampel_spark.t0.quantities import GAIA

__all__ = ["MASKED", "Cut"]


@dataclass(frozen=True)
class Cut:
    """A rule that rejects an alert.

    Attributes
    ----------
    name : str
        What `decisions` records in ``cut``.
    rejects : Expression
        The alert is rejected where it is true.
    value : Expression or None
        What `decisions` records in ``value``, if it is a number.
    threshold : float, Expression or None
        What `value` was compared with, recorded in ``threshold``.
    """

    name: str
    rejects: Expression
    value: Expression | None = None
    threshold: Expression | float | None = None

    @classmethod
    def where(
        cls, name: str, text: str, value: str | None = None, threshold: str | float | None = None
    ) -> Cut:
        """Return the cut that rejects alerts for which a condition is true.

        Parameters
        ----------
        name : str
        text : str
            The condition.
        value, threshold : str or float, optional
            Expressions to record; default: both sides of the condition, if it is one comparison.

        Examples
        --------
        >>> cut = Cut.where("too bright", "magpsf < 15")
        >>> cut.value.names, cut.threshold
        (('magpsf',), 15.0)
        """
        rejects = parse(text)
        if value is None:
            return cls(name, rejects, *_compared(rejects))
        if isinstance(threshold, str):
            return cls(name, rejects, parse(value), parse(threshold))
        return cls(name, rejects, parse(value), threshold)

    @classmethod
    def unless(cls, name: str, condition: Expression) -> Cut:
        """Return the cut that rejects alerts for which a condition is not true."""
        known = Call("ifnull", (condition.root, Literal(False, 0)), 0, 0)
        rejects = Expression(f"{name} is not true", Call("not", (known,), 0, 0))
        return cls(name, rejects, *_compared(condition))

    def quantities(self) -> Iterator[str]:
        """Yield the names of all quantities that the cut reads."""
        for part in (self.rejects, self.value, self.threshold):
            yield from part.names if isinstance(part, Expression) else ()

    @property
    def needs_stars(self) -> bool:
        """Whether the cut reads a catalogue of stars."""
        return not GAIA.keys().isdisjoint(self.quantities())


def _compared(condition: Expression) -> tuple[Expression | None, Expression | float | None]:
    """Return what a condition compares, and with what; a constant as its value."""
    value, threshold = condition.compared()
    if threshold is None or not isinstance(threshold.root, Literal):
        return value, threshold
    constant = threshold.root.value
    return value, None if isinstance(constant, bool | str) else float(constant)


#: Rejects an alert that a calibration release masks.
MASKED = Cut("masked", parse("masked == 1"))
