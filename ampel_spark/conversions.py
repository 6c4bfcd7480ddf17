"""A light curve as tables of other packages: astropy, sncosmo, pandas.

`ampel_spark.lightcurve` hands on to this module by its name, so that it is in no unit's trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ampel_spark.lightcurve import DETECTION, FORCED, POINT_FIELDS, UPPER_LIMIT

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import Table as AstropyTable
    from astropy.timeseries import TimeSeries

    from ampel_spark.lightcurve import LightCurve

__all__ = ["KINDS", "to_pandas", "to_table", "to_timeseries"]

#: Words for the kinds of points.
KINDS = {DETECTION: "detection", UPPER_LIMIT: "upper_limit", FORCED: "forced"}


def to_pandas(curve: LightCurve) -> pd.DataFrame:
    """Return a light curve as a DataFrame (`LightCurve.to_pandas`)."""
    import pandas as pd

    frame = pd.DataFrame(_columns(curve))
    frame.attrs |= _about(curve)
    return frame


def to_table(curve: LightCurve) -> AstropyTable:
    """Return a light curve as an astropy table (`LightCurve.to_table`)."""
    from astropy.table import Table as AstropyTable

    table = AstropyTable(_columns(curve), meta=_about(curve))
    for name in table.colnames:
        unit = POINT_FIELDS[name][1] if name in POINT_FIELDS else ""
        if unit in ("d", "mag", "deg"):
            table[name].unit = unit
        elif unit:
            table[name].description = unit
    return table


def to_timeseries(curve: LightCurve, scale: str = "utc") -> TimeSeries:
    """Return a light curve as a time series (`LightCurve.to_timeseries`)."""
    from astropy.time import Time
    from astropy.timeseries import TimeSeries

    table = to_table(curve)
    time = Time(np.asarray(table["jd"]), format="jd", scale=scale)
    table.remove_column("jd")
    series = TimeSeries(table, time=time)
    series.meta |= _about(curve)
    return series


def _columns(curve: LightCurve) -> dict[str, Any]:
    columns: dict[str, Any] = {n: curve.points[n] for n in POINT_FIELDS if n in curve.points}
    for name in ("band", "zpsys"):
        if name in columns:
            columns[name] = columns[name].astype(str)
    columns |= {name: values for name, values in curve.points.items() if name not in POINT_FIELDS}
    columns["kind"] = np.array([KINDS[int(kind)] for kind in columns["kind"]], dtype=str)
    return columns


def _about(curve: LightCurve) -> dict[str, Any]:
    return {"name": curve.name, "stock": curve.stock, "state_id": curve.state_id}
