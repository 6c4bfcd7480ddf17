"""Assembly of light curves: from lists of datapoints to canonical arrays, links and state ids.

`assemble` runs in Spark's Python workers. It works on the list buffers of whole batches, and makes
no Python object for a point. `batch_of` gives the light curves to units.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.calibration.apply import apply
from ampel_spark.calibration.release import Release
from ampel_spark.lightcurve import (
    DETECTION,
    FORCED,
    POINT_FIELDS,
    UPPER_LIMIT,
    LightCurveBatch,
    Lookup,
)
from ampel_spark.t1.links import links, state_ids
from ampel_spark.t1.photometry import canonical, integers, newest, unsuperseded

__all__ = [
    "KIND_CODES",
    "LIGHT_CURVE_SCHEMA",
    "POINT_TYPES",
    "Collected",
    "assemble",
    "batch_of",
    "collect",
    "light_curve_schema",
    "own_kind",
    "under",
]

Array = npt.NDArray[Any]

#: Codes of the kinds of datapoints in light curves.
KIND_CODES = {"detection": DETECTION, "upper_limit": UPPER_LIMIT, "forced": FORCED}

_TYPES = {"i8": pa.int64(), "i4": pa.int32(), "i1": pa.int8(), "f8": pa.float64(), "O": pa.string()}

_NOTHING: Mapping[str, str] = MappingProxyType({})

#: Arrow types of the fields of a point.
POINT_TYPES = {name: _TYPES[kind] for name, (kind, _) in POINT_FIELDS.items()}

#: A state with its light curve, one list for each field of a point.
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
        ("rules", pa.list_(pa.int32())),
        *((f"lc_{name}", pa.list_(kind)) for name, kind in POINT_TYPES.items()),
    ]
)


# What columns that a survey declares are in light curves. Ids and flags keep all their bits.
_OWN_KINDS = {"bigint": "i8", "string": "O"}


def own_kind(type_name: str) -> str:
    """Return what a declared column is in a light curve: ``f8``, ``i8`` or ``O``.

    Parameters
    ----------
    type_name : str
        Its type, as Spark SQL has it.
    """
    return _OWN_KINDS.get(type_name, "f8")


def light_curve_schema(own: Mapping[str, str]) -> pa.Schema:
    """Return `LIGHT_CURVE_SCHEMA` with further fields of points, by name and kind."""
    fields = [pa.field(f"lc_{name}", pa.list_(_TYPES[kind])) for name, kind in own.items()]
    return pa.schema([*LIGHT_CURVE_SCHEMA, *fields])


@dataclass(frozen=True, eq=False)
class Collected:
    """The points of states as issued: those that count, before any release.

    Attributes
    ----------
    batch : RecordBatch
        As for `collect`.
    group : ndarray of int with shape (N,)
        The row of the batch that each point belongs to.
    points : dict of arrays with shape (N,)
        The fields of the points.
    kinds : mapping of str to str
        The kinds of these fields.
    own : mapping of str to str
        Those that the survey declares.
    """

    batch: pa.RecordBatch
    group: Array
    points: dict[str, Array]
    kinds: Mapping[str, str]
    own: Mapping[str, str]


def assemble(
    batch: pa.RecordBatch, release: Release | None = None, own: Mapping[str, str] = _NOTHING
) -> pa.RecordBatch:
    """Return states with their light curves, assembled from collected datapoints.

    Parameters
    ----------
    batch, own
        As for `collect`.
    release : Release, optional
        The calibration release to apply; by default none.

    Returns
    -------
    RecordBatch
        As `under` returns it.
    """
    return under(release, collect(batch, own))


def collect(batch: pa.RecordBatch, own: Mapping[str, str] = _NOTHING) -> Collected:
    """Return the points that count of collected datapoints: what no release changes.

    Parameters
    ----------
    batch : RecordBatch
        ``request, survey, stock, name, points``, where ``points`` is a list of structs with the
        fields of a point and ``revision``, sorted by (datapoint_id, revision).
    own : mapping of str to str, optional
        Further fields of points by name, with their kinds (`own_kind`): columns that the survey
        declares, which are no part of a state's id.
    """
    lists = batch.column("points")
    flat = lists.flatten()
    lengths = np.asarray(lists.value_lengths().fill_null(0))
    group = np.repeat(np.arange(len(lengths)), lengths)
    kinds = {name: kind for name, (kind, _) in POINT_FIELDS.items()} | dict(own)
    points = {name: _numpy(flat.field(name), kind) for name, kind in kinds.items()}

    group, points = _kept(newest(points, group), group, points)
    # A point without its value is no measurement, even if an earlier revision had one: forced
    # photometry without a flux, a detection or a limit that the survey withdrew.
    group, points = _kept(np.isfinite(_measured(points)), group, points)
    group, points = _kept(unsuperseded(points, group), group, points)
    return Collected(batch, group, points, kinds, own)


def under(release: Release | None, collected: Collected) -> pa.RecordBatch:
    """Return states with their light curves under a calibration release.

    Parameters
    ----------
    release : Release or None
        The release to apply.
    collected : Collected
        The points; they stay as they are.

    Returns
    -------
    RecordBatch
        States with `light_curve_schema`, their points in order of (jd, datapoint_id). A request
        without remaining points has no row. ``rules`` are the numbers of the release's rules that
        changed or masked a point of the state.
    """
    batch, group, points = collected.batch, collected.group, collected.points
    touched = None
    if release is not None and release.rules:
        group, points, touched = _calibrated(release, batch, group, points)
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
        "rules": _rules(touched, len(batch)),
        **_summary(points, group, len(batch)),
    }
    order = np.lexsort((ids, points["jd"], group))
    for name, kind in collected.kinds.items():
        made[f"lc_{name}"] = _list(_arrow(points[name][order], kind), offsets)
    schema = light_curve_schema(collected.own)
    arrays = [made[f.name] if f.name in made else batch.column(f.name) for f in schema]
    table = pa.RecordBatch.from_arrays(
        [a.cast(f.type) for a, f in zip(arrays, schema, strict=True)], schema=schema
    )
    return table.filter(pa.array(counts > 0))


def _measured(points: dict[str, Array]) -> Array:
    """Return what is measured of each point by its kind: flux, magnitude or limit."""
    kind = points["kind"]
    found = np.where(kind == FORCED, points["flux"], points["mag"])
    return np.where(kind == UPPER_LIMIT, points["limit_mag"], found)


def _calibrated(
    release: Release, batch: pa.RecordBatch, group: Array, points: dict[str, Array]
) -> tuple[Array, dict[str, Array], tuple[Array, Array]]:
    """Return groups and points after a release, and which rules acted on which group."""
    surveys = _numpy(batch.column("survey"), "O")
    stocks = np.asarray(batch.column("stock"))
    found = apply(release, points, group, surveys, stocks)
    return *_kept(found.kept, group, found.points), (found.group, found.rule)


def _kept(kept: Array, group: Array, points: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
    """Return the groups and points that a mask keeps."""
    if kept.all():
        return group, points
    return group[kept], {name: values[kept] for name, values in points.items()}


def _summary(points: dict[str, Array], group: Array, n: int) -> dict[str, pa.Array]:
    """Return the columns of a state that count its points and date its detections."""
    kinds = points["kind"]
    codes = {"n_detections": DETECTION, "n_upper_limits": UPPER_LIMIT, "n_forced": FORCED}
    made = {
        column: pa.array(np.bincount(group[kinds == code], minlength=n), pa.int32())
        for column, code in codes.items()
    }
    detected = kinds == DETECTION
    jd, group = points["jd"][detected], group[detected]
    first, last = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(first, group, jd)
    np.maximum.at(last, group, jd)
    for column, times in (("jd_first", first), ("jd_last", last)):
        made[column] = pa.array(np.where(np.isfinite(times), times, np.nan), from_pandas=True)
    return made


def _rules(touched: tuple[Array, Array] | None, n: int) -> pa.ListArray:
    group, rule = touched or (np.zeros(0, np.int64), np.zeros(0, np.int64))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=n))])
    return _list(pa.array(rule, pa.int32()), offsets)


def batch_of(batch: pa.RecordBatch) -> LightCurveBatch:
    """Return the light curves of a batch as arrays.

    Parameters
    ----------
    batch : RecordBatch
        ``state_id, stock, name`` and one or more of the ``lc_`` columns of `light_curve_schema`;
        the result has these fields of a point alone, each read on first use.
    """
    kinds = {name: kind for name, (kind, _) in POINT_FIELDS.items()} | {
        f.name[3:]: _kind_of(f.type)
        for f in batch.schema
        if f.name.startswith("lc_") and f.name[3:] not in POINT_FIELDS
    }
    there = [name for name in kinds if f"lc_{name}" in batch.schema.names]
    lengths = np.asarray(batch.column(f"lc_{there[0]}").value_lengths().fill_null(0))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    def flat(name: str) -> pa.Array:
        return batch.column(f"lc_{name}").flatten()

    def decoded(name: str, kind: str) -> Array:
        if kind != "O":
            return _numpy(flat(name), kind)
        codes, found = words[name]
        return np.asarray(found[codes])

    words = Lookup(
        {
            name: functools.partial(lambda name: _coded(flat(name)), name)
            for name in there
            if kinds[name] == "O"
        }
    )
    return LightCurveBatch(
        state_id=np.array(batch.column("state_id").to_pylist(), dtype=object),
        stock=batch.column("stock").to_numpy(zero_copy_only=False),
        name=np.array(batch.column("name").to_pylist(), dtype=object),
        offsets=offsets,
        points=Lookup({name: functools.partial(decoded, name, kinds[name]) for name in there}),
        words=words,
    )


def _kind_of(lists: pa.ListType) -> str:
    return next(kind for kind, type_ in _TYPES.items() if type_ == lists.value_type)


def _coded(column: pa.Array) -> tuple[Array, Array]:
    """Return a column of text as numbers and words; null is an empty word."""
    encoded = column.dictionary_encode()
    words = np.array([*encoded.dictionary.to_pylist(), ""], dtype=object)
    return np.asarray(encoded.indices.fill_null(len(words) - 1)), words


def _numpy(column: pa.Array, kind: str) -> Array:
    """Return a column of points as an array; nulls become NaN, -1 or an empty word."""
    if kind == "O":
        codes, words = _coded(column)
        return np.asarray(words[codes])
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
