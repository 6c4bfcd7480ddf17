"""The quantities of an alert that conditions name: columns, its history, and what is made of them.

A number that is null or NaN is *missing*: unknown, as `ampel_spark.expressions` has it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ampel_spark.archive.reading.ztf import SURVEY, alerts_table, candidate_columns
from ampel_spark.expressions import Expression, parse
from ampel_spark.expressions.kinds import NUMBER
from ampel_spark.expressions.sql import Term, column
from ampel_spark.lake.tables import TableColumn, struct_fields
from ampel_spark.t0.galactic import galactic_latitude, galactic_latitude_sql

__all__ = [
    "DERIVED",
    "GAIA",
    "HISTORY",
    "MEANINGS",
    "AlertRow",
    "OwnQuantities",
    "Quantities",
    "base_columns",
    "column_types",
    "flat_types",
]

#: Quantities of the history that a channel may see, and their types.
HISTORY = {"n_detections": "int", "jd_first": "double", "jd_last": "double"}

#: Quantities that need a catalogue of stars, and their meanings; judge comes to them last.
GAIA = {
    "gaia_distance": "distance of the nearest Gaia star that vetoes [arcsec]",
    "gaia_allowed": "distance within which that star vetoes [arcsec]",
}


@dataclass(frozen=True)
class _Made:
    """A quantity that no expression gives: made from columns, once for Spark and once in Python."""

    columns: tuple[str, ...]
    spark: Callable[..., str]
    plain: Callable[..., float]


def _sign_sql(flag: str) -> str:
    return f"CASE WHEN {flag} IN ('f', '0') THEN -1.0D WHEN {flag} IS NOT NULL THEN 1.0D END"


def _latitude_sql(ra: str, dec: str) -> str:
    # NaN is asked for once, not in each of the sines.
    there = f"{ra} IS NOT NULL AND {dec} IS NOT NULL"
    return f"CASE WHEN {there} THEN {galactic_latitude_sql('`ra`', '`dec`')} END"


#: Quantities made from columns, all of them real numbers, by an expression or by functions.
DERIVED: dict[str, str | _Made] = {
    "tspan": "jd_last - jd_first",
    "archive_tspan": "jdendhist - jdstarthist",
    "gal_lat": _Made(("ra", "dec"), _latitude_sql, galactic_latitude),
    "sign": _Made(("isdiffpos",), _sign_sql, lambda flag: -1.0 if flag in ("f", "0") else 1.0),
    "ps1_distance_max": "max(distpsnr1, distpsnr2, distpsnr3)",
    "ps1_sg_offset_max": "max(abs(sgscore1 - 0.5), abs(sgscore2 - 0.5), abs(sgscore3 - 0.5))",
}

#: What these are.
MEANINGS = {
    "tspan": "last minus first detection of the history [d]",
    "archive_tspan": "jdendhist minus jdstarthist [d]",
    "gal_lat": "galactic latitude [deg]",
    "sign": "1, or -1 for a negative subtraction",
    "ps1_distance_max": "distance of the farthest of the three closest PS1 sources [arcsec]",
    "ps1_sg_offset_max": "how far from 0.5 the star-galaxy scores of the three closest PS1 sources"
    " are at most",
    **GAIA,
}

_MORE = {**HISTORY, **dict.fromkeys((*DERIVED, *GAIA), "double"), "masked": "int"}


@functools.cache
def column_types() -> dict[str, str]:
    """Return the Spark SQL type of every quantity of an alert."""
    return {c.name: c.type for c in alerts_table().columns} | _MORE


@dataclass(frozen=True)
class OwnQuantities:
    """The columns that a survey declares for its alerts.

    They are named plainly (``reliability``) or with the survey (``lsst.reliability``); the one form
    of both is the second. ZTF's candidate columns are named with the survey as well (``ztf.rb``).

    Attributes
    ----------
    survey : str
        What the tables call the survey.
    types : mapping of str to str
        Their Spark SQL types.
    """

    survey: str
    types: Mapping[str, str]

    def names(self) -> dict[str, str]:
        """Return all names that the survey adds, with types."""
        found = {f"{self.survey}.{c.name}": c.type for c in self._candidate()} | dict(self.types)
        return found | {f"{self.survey}.{name}": kind for name, kind in self.types.items()}

    def canonical(self, name: str) -> str:
        """Return the one form of a name: what `Quantities` and `AlertRow` take."""
        if name in self.types and name not in _MORE:
            return f"{self.survey}.{name}"
        survey, _, rest = name.partition(".")
        if survey == self.survey and rest not in self.types:
            return rest or name
        return name

    def _candidate(self) -> tuple[TableColumn, ...]:
        return candidate_columns() if self.survey == SURVEY else ()


def flat_types(types: Mapping[str, str]) -> dict[str, str]:
    """Return types of columns, those of structs with the fields' names: ``lsst.reliability``."""
    fields = {
        f"{name}.{field}": kind
        for name, whole in types.items()
        if whole.startswith("struct<")
        for field, kind in struct_fields(whole)
    }
    return {**types, **fields}


def base_columns(quantity: str) -> tuple[str, ...]:
    """Return the columns of the alerts table from which `quantity` is made."""
    made = ("ra", "dec") if quantity in GAIA else DERIVED.get(quantity, (quantity,))
    if isinstance(made, str):
        return parse(made).names
    return made.columns if isinstance(made, _Made) else made


class Quantities:
    """Spark SQL of quantities, by name; null where the quantity is missing.

    Parameters
    ----------
    types : mapping of str to str
        Spark SQL types of the alerts' columns.
    made : mapping of str to str
        SQL of quantities that the caller has made itself: the history, the Gaia stars.
    """

    def __init__(self, types: Mapping[str, str], made: Mapping[str, str]) -> None:
        self.types = {**flat_types(types), **_MORE}
        self._made = made

    def __getitem__(self, quantity: str) -> Term:
        """Return the SQL of a quantity."""
        if quantity in self._made:
            whole = column(self._made[quantity], self.types[quantity])
            # it comes from columns without NaN
            return whole._replace(sql=self._made[quantity])
        derived = DERIVED.get(quantity)
        if derived is None:
            name = ".".join(f"`{part}`" for part in quantity.split("."))
            return column(name, self.types[quantity])
        if isinstance(derived, str):
            return parse(derived).term(self.types, self.__getitem__)
        return Term(derived.spark(*(self[name].sql for name in derived.columns)), NUMBER)


class AlertRow:
    """The quantities of one alert, on which expressions are evaluated.

    Parameters
    ----------
    values : mapping
        Row of the alerts table, with the history and the star in question.
    own : OwnQuantities, optional
        What the alert's survey declares.
    """

    def __init__(self, values: Mapping[str, Any], own: OwnQuantities | None = None) -> None:
        self._values = values
        self._types = column_types() | ({} if own is None else own.names())

    def value(self, quantity: str) -> Any:
        """Return a quantity, None where it is missing."""
        derived = DERIVED.get(quantity)
        if isinstance(derived, str):
            return self.evaluate(parse(derived))
        if derived is None:
            found: Any = self._values
            for name in quantity.split("."):
                found = None if found is None else found.get(name)
            return None if isinstance(found, float) and math.isnan(found) else found
        inputs = [self.value(name) for name in derived.columns]
        return None if None in inputs else derived.plain(*inputs)

    def evaluate(self, expression: Expression) -> Any:
        """Return the value of an expression, None where it is unknown."""
        return expression.evaluate(self._types, self).reshape(-1).tolist()[0]

    def recorded(self, what: Expression | float | None) -> Any:
        """Return what a cut records: a number, a text, or None."""
        value = self.evaluate(what) if isinstance(what, Expression) else what
        return value if value is None or isinstance(value, str) else float(value)

    def number(self, what: Expression | float | None) -> float | None:
        """Return what a cut records, if it is a number: as `decisions` has it."""
        value = self.recorded(what)
        return None if isinstance(value, str) else value

    def __getitem__(self, quantity: str) -> Any:
        """Return a quantity as an array."""
        return np.array([self.value(quantity)], object)
