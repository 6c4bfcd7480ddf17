"""Light curves assembled: from Arrow lists of datapoints to canonical arrays, links and state ids.

`assemble` runs in Spark's Python workers on whole batches: list buffers in, list buffers out, no
object per point.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.t1.links import links, state_ids
from ampel_spark.t1.photometry import canonical, integers, newest, unsuperseded
from ampel_spark.t2.lightcurve import DETECTION, FORCED, POINT_FIELDS, UPPER_LIMIT, LightCurveBatch

__all__ = ["KIND_CODES", "LIGHT_CURVE_SCHEMA", "assemble", "batch_of"]

Array = npt.NDArray[Any]

#: Codes of the kinds of datapoints, as light curves carry them.
KIND_CODES = {"detection": DETECTION, "upper_limit": UPPER_LIMIT, "forced": FORCED}

_TYPES = {"i8": pa.int64(), "i4": pa.int32(), "i1": pa.int8(), "f8": pa.float64(), "O": pa.string()}

#: A state with its light curve: one list per field of a point.
LIGHT_CURVE_SCHEMA = pa.schema(
    [
        ("request", pa.int64()),
        ("state_id", pa.string()),
        ("link", pa.int64()),
        ("survey", pa.string()),
        ("stock", pa.int64()),
        ("name", pa.string()),
        ("n_detections", pa.int32()),
        ("n_upper_limits", pa.int32()),
        ("n_forced", pa.int32()),
        ("jd_first", pa.float64()),
        ("jd_last", pa.float64()),
        ("datapoint_ids", pa.list_(pa.int64())),
        *((f"lc_{name}", pa.list_(_TYPES[kind])) for name, (kind, _) in POINT_FIELDS.items()),
    ]
)


def assemble(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Turn collected datapoints into states with their light curves.

    Parameters
    ----------
    batch : RecordBatch
        ``request, survey, stock, name, points``: `points` a list of structs with the fields of a
        point and ``revision``, sorted by (datapoint_id, revision).

    Returns
    -------
    RecordBatch
        With `LIGHT_CURVE_SCHEMA`; light curves are in order of (jd, datapoint_id). A request that
        no point is left for gives no row.
    """
    lists = batch.column("points")
    flat = lists.flatten()
    lengths = np.asarray(lists.value_lengths().fill_null(0))
    group = np.repeat(np.arange(len(lengths)), lengths)
    points = {name: _numpy(flat.field(name), kind) for name, (kind, _) in POINT_FIELDS.items()}

    kept = newest(points, group)
    group, points = group[kept], {k: v[kept] for k, v in points.items()}
    kept = unsuperseded(points, group)
    group, points = group[kept], {k: v[kept] for k, v in points.items()}
    points = canonical(points)

    counts = np.bincount(group, minlength=len(batch))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    headers = [
        survey.encode() + b"\0" + struct.pack("<q", stock)
        for survey, stock in zip(
            batch.column("survey").to_pylist(), batch.column("stock").to_pylist(), strict=True
        )
    ]
    ids = points["datapoint_id"]  # still in order of id within a state
    made: dict[str, pa.Array] = {
        "state_id": pa.array(state_ids(headers, integers(points), offsets)),
        "link": pa.array(links(ids, offsets)),
        "datapoint_ids": _list(pa.array(ids), offsets),
    }
    kinds = points["kind"]
    for column, code in (
        ("n_detections", DETECTION),
        ("n_upper_limits", UPPER_LIMIT),
        ("n_forced", FORCED),
    ):
        made[column] = pa.array(np.bincount(group[kinds == code], minlength=len(batch)), pa.int32())
    made["jd_first"], made["jd_last"] = _first_last(
        points["jd"], group, kinds == DETECTION, len(batch)
    )
    order = np.lexsort((ids, points["jd"], group))
    for name, (kind, _) in POINT_FIELDS.items():
        made[f"lc_{name}"] = _list(_arrow(points[name][order], kind), offsets)
    arrays = [made[f.name] if f.name in made else batch.column(f.name) for f in LIGHT_CURVE_SCHEMA]
    table = pa.RecordBatch.from_arrays(
        [a.cast(f.type) for a, f in zip(arrays, LIGHT_CURVE_SCHEMA, strict=True)],
        schema=LIGHT_CURVE_SCHEMA,
    )
    return table.filter(pa.array(counts > 0))


def batch_of(batch: pa.RecordBatch) -> LightCurveBatch:
    """Return the light curves of a batch with ``lc_`` columns of `LIGHT_CURVE_SCHEMA` as arrays."""
    first = batch.column("lc_jd")
    lengths = np.asarray(first.value_lengths().fill_null(0))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    points = {
        name: _numpy(batch.column(f"lc_{name}").flatten(), kind)
        for name, (kind, _) in POINT_FIELDS.items()
        if f"lc_{name}" in batch.schema.names
    }
    return LightCurveBatch(
        state_id=np.array(batch.column("state_id").to_pylist(), dtype=object),
        stock=batch.column("stock").to_numpy(zero_copy_only=False),
        name=np.array(batch.column("name").to_pylist(), dtype=object),
        offsets=offsets,
        points=points,
    )


def _numpy(column: pa.Array, kind: str) -> Array:
    if kind == "O":
        encoded = column.dictionary_encode()
        words = np.array([*encoded.dictionary.to_pylist(), ""], dtype=object)
        return words[np.asarray(encoded.indices.fill_null(len(words) - 1))]
    null: float = np.nan if kind == "f8" else -1
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(null, column.type))
    return np.asarray(column).astype(kind, copy=False)


def _arrow(values: Array, kind: str) -> pa.Array:
    if kind == "O":
        return pa.array(values, pa.string())
    return pa.array(values, _TYPES[kind], from_pandas=True)


def _list(values: pa.Array, offsets: Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _first_last(jd: Array, group: Array, detected: Array, n: int) -> tuple[pa.Array, pa.Array]:
    first, last = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(first, group[detected], jd[detected])
    np.maximum.at(last, group[detected], jd[detected])
    return tuple(
        pa.array(np.where(np.isfinite(x), x, np.nan), from_pandas=True) for x in (first, last)
    )
