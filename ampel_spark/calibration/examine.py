"""Counts of the points that a release would change, and warnings before a run."""

from __future__ import annotations

import datetime
import functools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from ampel_spark.calibration.apply import replaced_rows
from ampel_spark.calibration.cells import KINDS, Cells, sort_into_cells, values_in
from ampel_spark.calibration.release import Release, Rule
from ampel_spark.calibration.tables import load_replacement
from ampel_spark.lake.tasks import run_on_files, tell

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["COLUMNS", "Examined", "examine", "examine_batches", "touched"]

Array = npt.NDArray[Any]

#: Columns of datapoints that are read.
COLUMNS = ("survey", "stock", "datapoint_id", "kind", "jd", "band", "mag", "limit_mag", "sign",
           "flux", "zp", "field", "rcid")  # fmt: skip
_ROWS = 50_000
_INTEGERS = frozenset({"stock", "datapoint_id", "sign", "field", "rcid"})
_Counts = Counter[tuple[str, int, int, str]]
_SCHEMA = pa.schema([("what", pa.string()), ("a", pa.int32()), ("b", pa.int32()),
                     ("n", pa.int64()), ("x", pa.float64()), ("words", pa.string())])  # fmt: skip


@dataclass(frozen=True)
class Examined:
    """The effect of a release on the points of a lake.

    Attributes
    ----------
    points : int
        The number of points; each revision counts.
    counts : mapping of int to int
        The number of points that each rule acts on, by the rule's number.
    warnings : tuple of str
        Lines for the user.
    """

    points: int
    counts: Mapping[int, int]
    warnings: tuple[str, ...]


def examine(
    spark: SparkSession,
    files: Sequence[tuple[str, int]],
    releases: Sequence[Release],
    until: float | None = None,
) -> list[Examined]:
    """Count the datapoints that releases would change, by tasks that read each file once.

    Parameters
    ----------
    spark : SparkSession
        The session that runs the tasks.
    files : sequence of (str, int)
        The files of ``datapoints``, and their sizes.
    releases : sequence of Release
        The releases to examine.
    until : float, optional
        The time that limits the run, JD: later points do not count.
    """
    some = [release for release in releases if release.rules]
    found: list[list[Any]] = [[] for _ in some]
    if some:
        for number, *row in run_on_files(
            spark, functools.partial(_count_files, some, until), files
        ):
            found[number].append(dict(zip(_SCHEMA.names, row, strict=True)))
    rows = iter(found)
    return [_examined(r, next(rows)) if r.rules else Examined(0, {}, ()) for r in releases]


def _count_files(
    releases: Sequence[Release], until: float | None, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Report the counts of points, a row each, after the number of the release."""
    for path in (path for batch in batches for path in batch.column("path").to_pylist()):
        for points in _larger(_points(path, until)):
            for number, release in enumerate(releases):
                for counted in _count(release, [points]):
                    for row in counted.to_pylist():
                        yield tell([number, *row.values()])


def _points(path: str, until: float | None) -> Iterator[pa.RecordBatch]:
    with parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=[*COLUMNS, "first_alert_jd"])
            if until is not None:
                rows = rows.filter(pc.less_equal(rows["first_alert_jd"], until))
            yield from rows.select(list(COLUMNS)).combine_chunks().to_batches()


def examine_batches(batches: Iterable[pa.RecordBatch], release: Release) -> Examined:
    """Do the same as `examine` without Spark, on batches of datapoints with `COLUMNS`."""
    if not release.rules:
        return Examined(0, {}, ())
    rows = [row for batch in _count(release, batches) for row in batch.to_pylist()]
    return _examined(release, rows)


def _count(release: Release, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the counts of rules, of pairs of rules and of bands, and the span of time."""
    counts: _Counts = Counter()
    first, last = math.inf, -math.inf
    for batch in _larger(batches):
        points = {name: _numpy(batch, name) for name in COLUMNS}
        first, last = min(first, points["jd"].min()), max(last, points["jd"].max())
        counts["points", 0, 0, ""] += len(batch)
        _count_points(release, points, counts)
    rows: list[tuple[Any, ...]] = [(*key[:3], n, None, key[3]) for key, n in counts.items()]
    rows += [("first", 0, 0, 0, -first, ""), ("last", 0, 0, 0, last, "")]
    yield pa.RecordBatch.from_arrays(
        [
            pa.array(column, f.type)
            for column, f in zip(zip(*rows, strict=True), _SCHEMA, strict=True)
        ],
        schema=_SCHEMA,
    )


def _larger(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join small batches, and leave out empty ones."""
    kept: list[pa.RecordBatch] = []
    for batch in batches:
        kept.append(batch)
        if sum(map(len, kept)) >= _ROWS:
            yield pa.concat_batches(kept)
            kept = []
    if sum(map(len, kept)):
        yield pa.concat_batches(kept)


def touched(release: Release, batch: pa.RecordBatch) -> Array:
    """Return which points a rule of a release selects, shape (N,).

    Parameters
    ----------
    release : Release
        The release, with rules.
    batch : Arrow batch
        Datapoints with `COLUMNS`.
    """
    cells, acts, replaced = _acts(release, {name: _numpy(batch, name) for name in COLUMNS})
    found: Array = np.zeros(len(batch), bool)
    for rule, matches in zip(release.rules, acts, strict=True):
        found |= replaced.get(rule.number, matches[cells.of])
    return found


def _acts(release: Release, points: Mapping[str, Array]) -> tuple[Cells, Array, dict[int, Array]]:
    """Return the cells of points, in which of them each rule acts, and the points replaced."""
    survey, stock = points["survey"], points["stock"]
    cells = sort_into_cells(release, points, np.arange(len(stock)), survey, stock)
    acts = cells.matches.copy()
    replaced: dict[int, Array] = {}
    for rule, matches in zip(release.rules, acts, strict=True):
        if rule.table is not None:
            matches &= values_in(rule.table, points, cells.first) >= 0
        if rule.replace is not None:
            table = load_replacement(rule.replace.path, rule.replace.content_hash)
            rows = replaced_rows(table, points["datapoint_id"], stock)
            replaced[rule.number] = (rows >= 0) & matches[cells.of]
    return cells, acts, replaced


def _count_points(release: Release, points: Mapping[str, Array], counts: _Counts) -> None:
    """Add the counts of a batch of points to `counts`."""
    cells, acts, replaced = _acts(release, points)
    sizes = np.bincount(cells.of, minlength=len(cells.first))
    for rule, matches in zip(release.rules, acts, strict=True):
        if rule.replace is not None:
            counts["rule", rule.number, 0, ""] += int(replaced[rule.number].sum())
        else:
            counts["rule", rule.number, 0, ""] += int(sizes[matches].sum())
        if rule.slope and rule.select.band is None:
            _count_unknown_bands(rule, points["band"][matches[cells.of]].astype(str), counts)
    _count_meetings(release, acts, sizes, counts)
    _count_replaced(release, replaced, [row[cells.of] for row in acts], counts)
    for band in np.unique(points["band"].astype(str)).tolist():
        counts["band", 0, 0, band] += 1


def _count_meetings(release: Release, acts: Array, sizes: Array, counts: _Counts) -> None:
    """Count the points on which two rules make one kind of change, or one masks and one changes."""
    for kind in ("zero point", "non-linearity", "flux scale", "error"):
        mine = [r.number for r in release.rules if kind in r.changes and not r.adds]
        _count_pairs(kind, mine, mine, acts, sizes, counts)
    masks = [r.number for r in release.rules if r.mask]
    others = [r.number for r in release.rules if not r.mask and r.replace is None]
    _count_pairs("mask", masks, others, acts, sizes, counts)


def _count_replaced(
    release: Release, replaced: Mapping[int, Array], acts: Sequence[Array], counts: _Counts
) -> None:
    """Count the points that one rule replaces and another one masks or replaces too."""
    masks = [r.number for r in release.rules if r.mask]
    for number, found in replaced.items():
        for other in masks:
            counts["pair", other, number, "mask"] += int((found & acts[other - 1]).sum())
        for other, too in replaced.items():
            adds = release.rules[number - 1].adds or release.rules[other - 1].adds
            if number < other and not adds:
                counts["pair", number, other, "replace"] += int((found & too).sum())


def _count_unknown_bands(rule: Rule, bands: Array, counts: _Counts) -> None:
    """Count the points that a slope leaves alone because it has no wavelength for their band."""
    for band, n in zip(*np.unique(bands, return_counts=True), strict=True):
        if band and band not in rule.slope:
            counts["unknown band", rule.number, 0, str(band)] += int(n)


def _count_pairs(
    word: str,
    some: Sequence[int],
    others: Sequence[int],
    acts: Array,
    sizes: Array,
    counts: _Counts,
) -> None:
    """Count the points on which a rule of `some` and a rule of `others` act, by their numbers."""
    if not some or not others:
        return
    a, b = (acts[np.array(numbers) - 1].astype(float) for numbers in (some, others))
    met = (a * sizes) @ b.T
    for i, k in zip(*np.nonzero(met), strict=True):
        if some is not others or some[i] < others[k]:
            counts["pair", some[i], others[k], word] += int(met[i, k])


def _examined(release: Release, rows: list[dict[str, Any]]) -> Examined:
    """Return the counts and warnings that rows of `_SCHEMA` add up to."""
    total, first, last = _total(rows)
    bands = sorted(words for what, _, _, words in total if what == "band" and words)
    counts = {rule.number: total["rule", rule.number, 0, ""] for rule in release.rules}
    lines = []
    for rule in release.rules:
        n = counts[rule.number]
        if n == 0:
            lines.append(f"{rule} selects nothing{_why(rule, first, last, bands)}")
        elif rule.replace is not None and n < rule.replace.rows:
            lines.append(f"{rule} replaces {n} points; its table has {rule.replace.rows}")
    by_number = {rule.number: rule for rule in release.rules}
    for (what, a, b, word), n in sorted(total.items()):
        if what == "unknown band":
            lines.append(
                f"the slope of {by_number[a]} leaves {n} points of band {word} alone: give its "
                f"wavelength, as wavelength: {{{word}: 5000}}"
            )
        elif what == "pair":
            lines.append(_meeting(by_number[a], by_number[b], word, n))
    return Examined(
        total["points", 0, 0, ""], counts, tuple(f"calibration {release.name}: {x}" for x in lines)
    )


def _total(rows: list[dict[str, Any]]) -> tuple[_Counts, float, float]:
    """Return the sum of counts, and the first and last JD; inf and -inf without a point."""
    total: _Counts = Counter()
    bounds = {"first": -math.inf, "last": -math.inf}
    for row in rows:
        total[row["what"], row["a"], row["b"], row["words"]] += row["n"]
        if row["x"] is not None:
            bounds[row["what"]] = max(row["x"], bounds[row["what"]])
    return total, -bounds["first"], bounds["last"]


def _meeting(one: Rule, two: Rule, word: str, n: int) -> str:
    """Return the warning that two rules act on the same `n` points."""
    if word == "mask":
        masks, other = (one, two) if one.mask else (two, one)
        return f"{masks} masks {n} points that {other} changes: they are left out"
    if word == "replace":
        return f"{one} and {two} both replace {n} points: the last one counts"
    how = "add up" if word in ("zero point", "non-linearity") else "multiply"
    return (
        f"{one} and {two} both change the {word} of {n} points: they {how}; "
        "say 'adds: true' in one of them if that is meant"
    )


def _why(rule: Rule, first: float, last: float, bands: list[str]) -> str:
    """Return the reason why a rule selects nothing, with a colon before it, or ''."""
    low, high = rule.select.jd
    if first > last:
        return ": there is no point"
    if low > last:
        return f": it begins at {_date(low)}, and the last point is of {_date(last)}"
    if high <= first:
        return f": it ends at {_date(high)}, and the first point is of {_date(first)}"
    wanted = rule.select.band
    if wanted is not None and not set(wanted) & set(bands):
        return f": there is no point of band {', '.join(wanted)}; bands: {', '.join(bands)}"
    return ""


def _date(jd: float) -> str:
    day = datetime.date.fromordinal(math.floor(jd - 1721424.5))
    return f"JD {jd:.2f} ({day})"


def _numpy(batch: pa.RecordBatch, name: str) -> Array:
    """Return a column of datapoints as `sort_into_cells` takes it."""
    column = batch.column(name)
    if name == "kind":
        words = column.dictionary_encode()
        codes = np.array([KINDS[word] for word in words.dictionary.to_pylist()], np.int8)
        return codes[np.asarray(words.indices)]
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        encoded = column.dictionary_encode()
        words = np.array([*encoded.dictionary.to_pylist(), ""], dtype=object)
        return words[np.asarray(encoded.indices.fill_null(len(words) - 1))]
    if name in _INTEGERS:
        return np.asarray(column.cast(pa.int64()).fill_null(-1))
    return np.asarray(column.cast(pa.float64()).fill_null(np.nan))
