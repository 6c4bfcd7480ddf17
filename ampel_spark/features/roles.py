"""The role of a feature by its name alone, for models, which know no set of bands."""

from __future__ import annotations

import re

from ampel_spark.features.definitions import COMMON, PER_BAND, PER_COLOUR, STATISTICS

__all__ = ["role_of"]


def role_of(name: str) -> str | None:
    """Return the role of a feature of any bands; None for what is no feature.

    Examples
    --------
    >>> role_of("jd_peak_ztfg"), role_of("ndet"), role_of("width_lsstu"), role_of("z")
    ('date', 'count', 'input', None)
    """
    for feature in (*COMMON, *PER_BAND, *PER_COLOUR, *STATISTICS):
        if re.fullmatch(re.escape(feature.name).replace(r"\{\}", r"\w*"), name):
            return feature.role
    return None
