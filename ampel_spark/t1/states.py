"""The states that a run asks for, and their light curves as known at that time.

A datapoint is known from the (jd, id) of the first alert that showed it, to those who may see this
alert. So a state as of T holds what the alerts up to T had shown. A datapoint has the values of the
newest revision that was known by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.calibration.release import Release
from ampel_spark.lightcurve import POINT_FIELDS
from ampel_spark.t1.assemble import (
    KIND_CODES,
    POINT_TYPES,
    collect,
    light_curve_schema,
    own_kind,
    under,
)

__all__ = [
    "ALL",
    "LAST_ID",
    "POINT_COLUMNS",
    "REQUESTS",
    "Wanted",
    "hidden_stocks",
    "light_curves",
    "light_curves_under",
    "numbers",
    "requests",
    "visible_points",
    "with_own",
]

#: The time of a state without a limit in time: later than any alert.
ALL = 9e9
#: Id of no alert: larger than any.
LAST_ID = (1 << 63) - 1

#: The states that a job asks for; rows for the same state have the same number ``request``.
REQUESTS = pa.schema(
    [
        ("channel", pa.string()),
        ("survey", pa.string()),
        ("stock", pa.int64()),
        ("name", pa.string()),
        ("alert_id", pa.int64()),
        ("until_jd", pa.float64()),
        ("until_alert_id", pa.int64()),
        ("request", pa.int64()),
    ]
)

#: Columns of ``datapoints`` that states are made of.
POINT_COLUMNS = ("survey", "stock", "revision", "first_alert_jd", "first_alert_id", *POINT_FIELDS)

# Requests whose light curves are assembled at a time.
_CHUNK = 5_000

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Wanted:
    """The settings of a job for tier 1.

    Attributes
    ----------
    states : str
        "latest": one state for each accepted object; "alert": one for each accepted alert; "as_of":
        one for each accepted object and time.
    as_of : sequence of float
        The times for "as_of", JD.
    points : sequence of str
        The kinds of datapoints in states: detection, upper_limit, forced.
    """

    states: str = "latest"
    as_of: Sequence[float] = ()
    points: Sequence[str] = ("detection", "upper_limit")


def requests(accepted: pa.Table, wanted: Wanted, as_of: float | None) -> pa.Table:
    """Return the states that a job asks for.

    Parameters
    ----------
    accepted : Arrow table
        ``channel, survey, stock, name, alert_id, jd`` of the accepted alerts of channels with the
        same access.
    wanted : Wanted
        The settings of the job.
    as_of : float, optional
        The time that limits the whole run, JD.

    Returns
    -------
    Arrow table
        With the schema `REQUESTS`, in order of channel, object and time.
    """
    if wanted.states == "alert":
        rows = accepted.select(["channel", "survey", "stock", "name", "alert_id"])
        rows = rows.append_column("until_jd", accepted["jd"])
        rows = rows.append_column("until_alert_id", accepted["alert_id"])
    else:
        times = [ALL if as_of is None else float(as_of)]
        if wanted.states == "as_of":
            times = sorted({min(t, times[0]) for t in wanted.as_of})
        rows = _at(accepted, times, of_earlier=wanted.states == "as_of")
    order = [(name, "ascending") for name in ("channel", "survey", "stock", "until_jd",
                                              "until_alert_id")]  # fmt: skip
    rows = rows.sort_by(order)
    number = numbers(rows, ("survey", "stock", "until_jd", "until_alert_id"))
    return rows.append_column("request", pa.array(number)).select(REQUESTS.names).cast(REQUESTS)


def _at(accepted: pa.Table, times: Sequence[float], *, of_earlier: bool) -> pa.Table:
    """Return a row for each object and time; of times after its first accepted alert, or of all."""
    objects = ["channel", "survey", "stock", "name"]
    first = accepted.group_by(objects).aggregate([("jd", "min")])
    parts = []
    for time in times:
        mine = first.filter(pc.less_equal(first["jd_min"], time)) if of_earlier else first
        n = len(mine)
        parts.append(
            mine.select(objects)
            .append_column("alert_id", pa.nulls(n, pa.int64()))
            .append_column("until_jd", pa.array(np.full(n, time)))
            .append_column("until_alert_id", pa.array(np.full(n, LAST_ID)))
        )
    return pa.concat_tables(parts)


def _codes(column: pa.ChunkedArray) -> Array:
    """Return a column as numbers that are equal where its values are."""
    if pa.types.is_string(column.type):
        found: Array = column.combine_chunks().dictionary_encode().indices.to_numpy()
        return found
    values: Array = column.to_numpy()
    return values


def numbers(rows: pa.Table, names: Sequence[str]) -> Array:
    """Return a number for each row, the same for rows that are equal in some columns.

    Parameters
    ----------
    rows : Arrow table
        The rows, without nulls in these columns.
    names : sequence of str
        The columns: texts and numbers.
    """
    keys = [_codes(rows[name]) for name in names]
    order = np.lexsort(keys[::-1])
    differs = np.zeros(len(order), bool)
    for key in keys:
        differs[1:] |= key[order[1:]] != key[order[:-1]]
    found = np.zeros(len(order), np.int64)
    found[order] = np.cumsum(differs)
    return found


def hidden_stocks(alerts: pa.Table, access: frozenset[int]) -> Array:
    """Return the objects with an alert that `access` may not see, sorted.

    Parameters
    ----------
    alerts : Arrow table
        ``stock, programid``.
    access : frozenset of int
        The programmes (``programid``) whose data may be seen.
    """
    hidden = alerts.filter(pc.invert(_within(alerts["programid"], access)))
    return np.unique(hidden["stock"].to_numpy())


def _within(column: pa.ChunkedArray, values: Iterator[Any] | frozenset[Any]) -> pa.ChunkedArray:
    return pc.fill_null(pc.is_in(column, value_set=pa.array(sorted(values), column.type)), False)


def visible_points(alerts: pa.Table, datapoints: pa.Table, access: frozenset[int]) -> pa.Table:
    """Return the datapoints that `access` may see, with ``seen_jd, seen_alert_id``.

    These name the first *visible* alert that showed a datapoint; it is known from then on. Only
    objects with hidden alerts need the alerts' histories; for others, the first alert is visible.

    Parameters
    ----------
    alerts : Arrow table
        ``survey, stock, jd, alert_id, programid, datapoint_ids, forced_ids``, at least all alerts
        of objects that have a hidden one.
    datapoints : Arrow table
        Rows of the table ``datapoints``.
    access : frozenset of int
        The programmes (``programid``) whose data may be seen.
    """
    jd = datapoints["first_alert_jd"].to_numpy()
    alert = datapoints["first_alert_id"].to_numpy()
    mine = _within(datapoints["programid"], access).to_numpy()
    hidden = hidden_stocks(alerts, access)
    if len(hidden):
        mixed = np.isin(datapoints["stock"].to_numpy(), hidden)
        shown = alerts.filter(_within(alerts["programid"], access))
        shown = shown.filter(pa.array(np.isin(shown["stock"].to_numpy(), hidden)))
        seen_jd, seen_alert = _first_seen(datapoints.filter(pa.array(mixed)), _shown(shown))
        jd, alert = jd.copy(), alert.copy()
        jd[mixed], alert[mixed] = seen_jd, seen_alert
        mine &= np.isfinite(jd)
    rows = datapoints.append_column("seen_jd", pa.array(jd))
    rows = rows.append_column("seen_alert_id", pa.array(alert))
    return rows.filter(pa.array(mine))


_IDENTITY = ("survey", "stock", "datapoint_id")


def _shown(alerts: pa.Table) -> pa.Table:
    """Return which datapoints alerts show: a row for each alert and datapoint."""
    parts = []
    for name in ("datapoint_ids", "forced_ids"):
        lists = alerts[name].combine_chunks()
        of = np.repeat(np.arange(len(alerts)), np.asarray(lists.value_lengths().fill_null(0)))
        rows = alerts.select(["survey", "stock", "jd", "alert_id"]).take(pa.array(of))
        parts.append(rows.append_column("datapoint_id", lists.flatten()))
    return pa.concat_tables(parts)


def _first_seen(points: pa.Table, shown: pa.Table) -> tuple[Array, Array]:
    """Return (jd, alert id) of the first alert that showed each revision; infinity for none.

    The alert that brought a revision may be hidden. So any alert counts from that one on, up to the
    alert that brought the next revision.
    """
    n, m = len(points), len(shown)
    both = pa.concat_tables(
        [points.select(list(_IDENTITY)), shown.select(list(_IDENTITY))], promote_options="none"
    )
    key = numbers(both, _IDENTITY)
    jd = np.concatenate([points["first_alert_jd"].to_numpy(), shown["jd"].to_numpy()])
    alert = np.concatenate([points["first_alert_id"].to_numpy(), shown["alert_id"].to_numpy()])
    is_shown = np.arange(n + m) >= n
    order = np.lexsort((is_shown, alert, jd, key))
    # In this order a revision is followed by the alerts that showed it, and then by the next one.
    after = np.full(n + m + 1, n + m)
    places = np.where(is_shown[order], np.arange(n + m), n + m)
    after[:-1] = np.minimum.accumulate(places[::-1])[::-1]
    later = np.full(n + m + 1, n + m)
    brings = np.where(is_shown[order], n + m, np.arange(n + m))
    later[:-1] = np.minimum.accumulate(brings[::-1])[::-1]
    seen_jd, seen_alert = np.full(n, np.inf), np.zeros(n, np.int64)
    at = np.flatnonzero(~is_shown[order])
    first, following = after[at], later[at + 1]
    good = (first < n + m) & (first < following)
    good[good] = key[order[first[good]]] == key[order[at[good]]]
    found = order[first[good]]
    seen_jd[order[at[good]]], seen_alert[order[at[good]]] = jd[found], alert[found]
    return seen_jd, seen_alert


def with_own(datapoints: pa.Table, survey: str, own: Mapping[str, str]) -> pa.Table:
    """Return datapoints with columns that a survey declares in the place of the surveys' structs.

    Parameters
    ----------
    datapoints : Arrow table
        Rows of the table ``datapoints``.
    survey : str
        What the tables call the survey.
    own : mapping of str to str
        Their Spark SQL types by name. What the rows do not have is null.
    """
    structs = [f.name for f in datapoints.schema if pa.types.is_struct(f.type)]
    rows = datapoints.drop_columns(structs)
    given = datapoints[survey].combine_chunks() if survey in structs else None
    there = {} if given is None else {f.name: i for i, f in enumerate(given.type)}
    for name, kind in own.items():
        type_ = light_curve_schema({name: own_kind(kind)}).field(f"lc_{name}").type.value_type
        if given is None or name not in there:
            column = pa.nulls(len(rows), type_)
        else:
            # a null struct has null fields
            column = pc.struct_field(given, there[name]).cast(type_)
        rows = rows.append_column(name, column)
    return rows


def light_curves(
    wanted: pa.Table,
    points: pa.Table,
    kinds: Sequence[str],
    release: Release | None = None,
    own: Mapping[str, str] | None = None,
) -> pa.Table:
    """Return the requested states, each once, with their light curves (`light_curve_schema`).

    Parameters
    ----------
    wanted, points, kinds, own
        As for `light_curves_under`.
    release : Release, optional
        The calibration release to apply; by default none.
    """
    return next(light_curves_under([release], wanted, points, kinds, own))


def light_curves_under(
    releases: Sequence[Release | None],
    wanted: pa.Table,
    points: pa.Table,
    kinds: Sequence[str],
    own: Mapping[str, str] | None = None,
) -> Iterator[pa.Table]:
    """Yield the requested states, each once, with their light curves, under one release each.

    Parameters
    ----------
    releases : sequence of Release or None
        The calibration releases to apply, one after the other to the same points.
    wanted : Arrow table
        The requests that `requests` returned, or some of them. With a column ``shown``, a list of
        datapoint ids, a state holds no other points.
    points : Arrow table
        The datapoints that `visible_points` returned.
    kinds : sequence of str
        The kinds of datapoints in the states.
    own : mapping of str to str, optional
        Further fields of points, columns of `points`: their Spark SQL types by name.
    """
    more = {name: own_kind(kind) for name, kind in (own or {}).items()}
    points = points.filter(_within(points["kind"], frozenset(kinds)))
    points = points.sort_by([(n, "ascending") for n in (*_IDENTITY, "revision")])
    _, first = np.unique(wanted["request"].to_numpy(), return_index=True)
    each = wanted.take(pa.array(np.sort(first)))
    begin, end = _spans(points, each)
    collected = [
        collect(batch, more)
        for start in range(0, len(each), _CHUNK)
        for batch in _collected(each, points, begin, end, slice(start, start + _CHUNK), more)
    ]
    for release in releases:
        parts = [under(release, part) for part in collected]
        yield pa.Table.from_batches(parts, light_curve_schema(more))


def _spans(points: pa.Table, each: pa.Table) -> tuple[Array, Array]:
    """Return which rows of points, in order of survey and object, are of the objects asked for."""
    n = len(each)
    begin, end = np.zeros(n, np.int64), np.zeros(n, np.int64)
    surveys = points["survey"].to_numpy()
    stocks, asked = points["stock"].to_numpy(), each["stock"].to_numpy()
    mine = each["survey"].to_numpy()
    for survey in pc.unique(points["survey"]).to_pylist():
        rows = np.flatnonzero(surveys == survey)
        low, high = rows[0], rows[-1] + 1
        own = mine == survey
        begin[own] = low + np.searchsorted(stocks[low:high], asked[own], side="left")
        end[own] = low + np.searchsorted(stocks[low:high], asked[own], side="right")
    return begin, end


def _collected(
    each: pa.Table,
    points: pa.Table,
    begin: Array,
    end: Array,
    part: slice,
    own: Mapping[str, str],
) -> Iterator[pa.RecordBatch]:
    """Yield requests with the lists of their points, as `assemble` takes them."""
    begin, end = begin[part], end[part]
    counts = end - begin
    of = np.repeat(np.arange(len(begin)), counts)
    rows = np.repeat(begin - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    until = each["until_jd"].to_numpy()[part][of]
    last = each["until_alert_id"].to_numpy()[part][of]
    seen = points["seen_jd"].to_numpy()[rows]
    known = (seen < until) | ((seen == until) & (points["seen_alert_id"].to_numpy()[rows] <= last))
    if "shown" in each.column_names:
        shown = each["shown"].slice(part.start, len(begin)).combine_chunks()
        known &= _are_shown(shown, of, points["datapoint_id"].to_numpy()[rows])
    lengths = np.bincount(of[known], minlength=len(begin))
    mine = points.take(pa.array(rows[known])).combine_chunks()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    head = each.slice(part.start, len(begin)).select(["request", "survey", "stock", "name"])
    yield from _batches(head, pa.ListArray.from_arrays(pa.array(offsets), _struct(mine, own)))


def _are_shown(shown: pa.ListArray, of: Array, ids: Array) -> Array:
    """Return which points are listed: `of` is the place of a point's request, `ids` its id."""
    there = np.repeat(np.arange(len(shown)), np.asarray(shown.value_lengths().fill_null(0)))
    listed = shown.flatten().to_numpy()
    _, codes = np.unique(np.concatenate([listed, ids]), return_inverse=True)
    size = len(codes) + 1
    found: Array = np.isin(of * size + codes[len(listed) :], there * size + codes[: len(listed)])
    return found


def _batches(head: pa.Table, lists: pa.ListArray) -> Iterator[pa.RecordBatch]:
    yield from head.append_column("points", lists).combine_chunks().to_batches()


def _struct(points: pa.Table, own: Mapping[str, str]) -> pa.StructArray:
    """Return points as one column of structs."""
    schema = light_curve_schema(own)
    more = {name: schema.field(f"lc_{name}").type.value_type for name in own}
    types = {"revision": pa.int32(), **POINT_TYPES, **more}
    columns = []
    for name, kind in types.items():
        column = points[name] if len(points) else pa.chunked_array([], points[name].type)
        if name == "kind":
            codes = pc.index_in(column, value_set=pa.array([*KIND_CODES]))
            values = np.array([*KIND_CODES.values()], np.int8)
            column = pa.chunked_array([pa.array(values[codes.to_numpy()], pa.int8())])
        columns.append(column.cast(kind).combine_chunks())
    arrays = [c.chunk(0) if isinstance(c, pa.ChunkedArray) else c for c in columns]
    return pa.StructArray.from_arrays(arrays, names=[*types])
