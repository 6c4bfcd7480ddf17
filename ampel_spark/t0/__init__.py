"""Tier 0: filters per channel turn alerts into decisions."""

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

__all__ = [
    "FILTERS",
    "All",
    "ChannelFilter",
    "Conditions",
    "DecentFilter",
    "Filter",
    "SimpleDecentFilter",
    "StarCatalog",
    "cuts_off",
    "make_filter",
    "trace",
]
