"""Tier 0: filters per channel turn alerts into decisions."""

from ampel_spark.t0.cuts import Cut
from ampel_spark.t0.filters import (
    FILTERS,
    All,
    Conditions,
    DecentFilter,
    Filter,
    SimpleDecentFilter,
    make_filter,
)
from ampel_spark.t0.gaia import StarCatalog
from ampel_spark.t0.selection import ChannelFilter, cuts_off, trace
from ampel_spark.t0.verdict import Alert, Verdict

__all__ = [
    "FILTERS",
    "Alert",
    "All",
    "ChannelFilter",
    "Conditions",
    "Cut",
    "DecentFilter",
    "Filter",
    "SimpleDecentFilter",
    "StarCatalog",
    "Verdict",
    "cuts_off",
    "make_filter",
    "trace",
]
