"""What a cut is: comparisons of quantities with numbers, apart from any engine.

A filter is a list of cuts in a fixed order; the first one that an alert fails is what `decisions`
records. `ampel_spark.t0.judge` turns the list into Spark columns.

A *quantity* is named by a string: a column of the alerts table (``fwhm``), one of `DERIVED`, or the
absolute value of either (``abs(magdiff)``). A number that is null or NaN is *missing*; a comparison
with a missing number does not hold, and only ``is missing`` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["DERIVED", "GAIA", "HISTORY", "MASKED", "Comparison", "Cut", "base_columns"]

Operand = float | int | str | tuple[float | int | str, ...] | None

#: Quantities of the history that a channel may see: what `history` and `access` decide.
HISTORY = ("n_detections", "jd_first", "jd_last")

#: Quantities made from columns: the columns they need, and their meaning with the unit in brackets.
DERIVED: dict[str, tuple[tuple[str, ...], str]] = {
    "tspan": (("jd_first", "jd_last"), "last minus first detection of the history [d]"),
    "archive_tspan": (("jdstarthist", "jdendhist"), "jdendhist - jdstarthist [d]"),
    "gal_lat": (("ra", "dec"), "galactic latitude [deg]"),
    "sign": (("isdiffpos",), "1, or -1 for a negative subtraction"),
    "ps1_distance_max": (
        ("distpsnr1", "distpsnr2", "distpsnr3"),
        "distance of the farthest of the three closest PS1 sources [arcsec]",
    ),
    "ps1_sg_offset_max": (
        ("sgscore1", "sgscore2", "sgscore3"),
        "largest abs(sgscore - 0.5) of the three closest PS1 sources",
    ),
    "gaia_distance": (("ra", "dec"), "distance of the nearest Gaia star that vetoes [arcsec]"),
    "gaia_allowed": (("ra", "dec"), "distance within which that star vetoes [arcsec]"),
}

#: Quantities that need a catalogue of stars, and that judge comes to last.
GAIA = frozenset({"gaia_distance", "gaia_allowed"})


@dataclass(frozen=True)
class Comparison:
    """A quantity compared with a number, a string or a list of them.

    Attributes
    ----------
    quantity : str
        Name of a column, one of `DERIVED`, or ``abs(..)`` of either.
    op : str
        ``<``, ``<=``, ``>``, ``>=``, ``==``, ``!=``, ``in``, ``not in``, ``is missing`` or
        ``is present``.
    operand : number, str, tuple or None
        What it is compared with; None for the last two.
    """

    quantity: str
    op: str
    operand: Operand = None

    def __str__(self) -> str:
        if self.operand is None:
            return f"{self.quantity} {self.op}"
        if isinstance(self.operand, tuple):
            return f"{self.quantity} {self.op} [{', '.join(map(str, self.operand))}]"
        return f"{self.quantity} {self.op} {self.operand}"


@dataclass(frozen=True)
class Cut:
    """A rule that rejects an alert.

    Attributes
    ----------
    name : str
        What `decisions` records in ``cut``.
    rejects : sequence of Comparison
        The alert is rejected where all of them hold (`how` "all") or one of them (`how` "any").
    value : str or None
        Quantity to record.
    threshold : float, str or None
        Number, or name of the quantity, that `value` was held against.
    """

    name: str
    rejects: Sequence[Comparison]
    how: Literal["all", "any"] = "all"
    value: str | None = None
    threshold: float | str | None = None

    def __str__(self) -> str:
        word = " and " if self.how == "all" else " or "
        return f"rejects where {word.join(map(str, self.rejects))}"

    def quantities(self) -> Iterator[str]:
        """Yield the names of all quantities that the cut reads."""
        yield from (c.quantity for c in self.rejects)
        yield from (q for q in (self.value, self.threshold) if isinstance(q, str))

    @property
    def needs_stars(self) -> bool:
        """Whether the cut reads a catalogue of stars."""
        return not GAIA.isdisjoint(self.quantities())


#: Rejects an alert that a calibration release masks.
MASKED = Cut("masked", [Comparison("masked", "==", 1)], "all")


def base_columns(quantity: str) -> tuple[str, ...]:
    """Return the columns of the alerts table from which `quantity` is made."""
    name = inner_column(quantity) or quantity
    return DERIVED[name][0] if name in DERIVED else (name,)


def inner_column(quantity: str) -> str | None:
    """Return ``x`` for ``abs(x)``, and None for anything else."""
    match = re.fullmatch(r"abs\((\w+)\)", quantity)
    return match[1] if match else None
