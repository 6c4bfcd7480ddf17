"""Calibration of the photometry in alerts, for channels whose filters judge calibrated values.

A release changes only the alert's own measurement (``magpsf, sigmapsf, diffmaglim``). The alert's
history, its aperture magnitudes and differences of magnitudes stay as issued.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ampel_spark.archive.reading.ztf import BANDS
from ampel_spark.calibration.apply import apply
from ampel_spark.calibration.release import Release
from ampel_spark.lightcurve import DETECTION

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["calibrated_alert", "calibrated_alerts"]

_KEY = ("survey", "alert_id")
_READ = (*_KEY, "stock", "jd", "fid", "field", "rcid", "magpsf", "sigmapsf", "diffmaglim")
_MADE = {"magpsf": "mag", "sigmapsf": "magerr", "diffmaglim": "limit_mag"}
_SCHEMA = pa.schema(
    [("survey", pa.string()), ("alert_id", pa.int64()), ("masked", pa.int32())]
    + [(name, pa.float64()) for name in _MADE]
)


def calibrated_alerts(alerts: DataFrame, release: Release) -> DataFrame:
    """Return rows of the table ``alerts`` with photometry calibrated by a release.

    They have a further column ``masked`` (0 or 1). Magnitudes that change are rounded to 1e-6 mag,
    as in states.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    task = functools.partial(_task, release)
    made = alerts.select(*_READ).mapInArrow(task, from_arrow_schema(_SCHEMA))
    return alerts.drop(*_MADE).join(made, list(_KEY))


def calibrated_alert(alert: Mapping[str, Any], release: Release) -> dict[str, Any]:
    """Return one row of the table ``alerts`` as `calibrated_alerts` returns it."""
    columns = {name: pa.array([alert[name]]) for name in _READ}
    (made,) = _calibrated(pa.RecordBatch.from_pydict(columns), release).to_pylist()
    return {**alert, **made}


def _task(release: Release, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield _calibrated(batch, release)


def _calibrated(batch: pa.RecordBatch, release: Release) -> pa.RecordBatch:
    n = len(batch)
    bands = np.array([BANDS.get(fid, "") for fid in batch.column("fid").to_pylist()], object)
    points = {
        "datapoint_id": np.asarray(batch.column("alert_id")),
        "kind": np.full(n, DETECTION, np.int8),
        "jd": np.asarray(batch.column("jd")),
        "band": bands,
        "sign": np.ones(n, np.int8),
        **{name: _integers(batch.column(name)) for name in ("field", "rcid")},
        **{name: np.full(n, np.nan) for name in ("flux", "fluxerr", "zp")},
        **{
            name: np.asarray(batch.column(source).cast(pa.float64()).fill_null(np.nan))
            for source, name in _MADE.items()
        },
    }
    surveys = np.array(batch.column("survey").to_pylist(), object)
    stocks = np.asarray(batch.column("stock"))
    found = apply(release, points, np.arange(n), surveys, stocks)
    made = {
        source: np.where(
            found.points[name] == points[name],
            points[name],
            np.rint(found.points[name] * 1e6) / 1e6,
        )
        for source, name in _MADE.items()
    }
    return pa.RecordBatch.from_arrays(
        [
            batch.column("survey").cast(pa.string()),
            batch.column("alert_id").cast(pa.int64()),
            pa.array((~found.kept).astype(np.int32)),
            *(pa.array(values, pa.float64(), from_pandas=True) for values in made.values()),
        ],
        schema=_SCHEMA,
    )


def _integers(column: pa.Array) -> np.ndarray[Any, Any]:
    return np.asarray(column.cast(pa.int64()).fill_null(-1))
