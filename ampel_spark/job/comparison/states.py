"""States of two runs, side by side: which belong together, and what made them differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.job.comparison.sides import Side, state_rows
from ampel_spark.lake.reading import read, table_names

__all__ = ["pairs_of", "reasons_of"]

Array = npt.NDArray[Any]

#: Changed states whose datapoints are compared at a time.
_PART = 100_000
_EXACT = ["stock", "as_of", "alert_id"]
_ABOUT = ["calibration", "rules", "access", "points", "version", "as_of"]


def pairs_of(a: Side, b: Side, channels: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return the states of both runs, each with that of the other run that it stands against.

    That is the state of the same object, time and alert; for an object whose states are of other
    times or alerts, its last states stand against each other.

    Parameters
    ----------
    a, b : Side
    channels : sequence of (str, str)
        Channels that stand against each other.

    Returns
    -------
    DataFrame
        ``channel_a, channel_b, stock, state_a, state_b``, with ``a_…`` and ``b_…`` of what the
        links say (``calibration, rules, access, points, version, as_of``); -1: none there.
    """
    parts = []
    for channel_a, channel_b in channels:
        left = a.links[a.links["channel"] == channel_a]
        right = b.links[b.links["channel"] == channel_b]
        # one state of an object at one time for one channel
        left, right = left.drop_duplicates(_EXACT), right.drop_duplicates(_EXACT)
        exact = left.merge(right, on=_EXACT, suffixes=("_a", "_b"))
        matched = [side["stock"].isin(exact["stock"]) for side in (left, right)]
        other_a, other_b = (
            side[~known].sort_values(_EXACT).drop_duplicates("stock", keep="last")
            for side, known in zip((left, right), matched, strict=True)
        )
        last = other_a.merge(other_b, on="stock", how="outer", suffixes=("_a", "_b"))
        for side in "ab":
            exact[f"as_of_{side}"] = exact["as_of"]
        # an object that has states in common may have more of them in one run
        more = [
            side[known & ~_rows_in(side, exact)]
            .add_suffix(f"_{letter}")
            .rename(columns={f"stock_{letter}": "stock"})
            for side, known, letter in zip((left, right), matched, "ab", strict=True)
        ]
        part = pd.concat([exact, last, *(m for m in more if len(m))], ignore_index=True)
        parts.append(part.assign(channel_a=channel_a, channel_b=channel_b))
    joined = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    names = {f"{name}_{side}": f"{side}_{name}" for name in _ABOUT for side in "ab"}
    joined = joined.rename(columns=names)
    columns = ["channel_a", "channel_b", "stock", "state_a", "state_b", *sorted(names.values())]
    joined = joined.reindex(columns=columns)
    for name in ("state_a", "state_b"):
        joined[name] = joined[name].fillna(-1).astype(np.int64)
    joined["stock"] = joined["stock"].astype(np.int64)
    return joined.sort_values(["channel_a", "stock", "state_a"], kind="stable", ignore_index=True)


def _rows_in(side: pd.DataFrame, other: pd.DataFrame) -> Array:
    """Return which rows have object, time and alert of a row of another table."""
    keys = pd.MultiIndex.from_frame(side[_EXACT])
    found: Array = keys.isin(pd.MultiIndex.from_frame(other[_EXACT]))
    return found


def reasons_of(a: Side, b: Side, pairs: pd.DataFrame) -> Array:
    """Return why each pair's states differ, as text; empty where they are equal.

    Parameters
    ----------
    a, b : Side
    pairs : DataFrame
        From `pairs_of`.
    """
    out = np.full(len(pairs), "", object)
    state_a, state_b = pairs["state_a"].to_numpy(), pairs["state_b"].to_numpy()
    differ = np.flatnonzero((state_a != state_b) & (state_a >= 0) & (state_b >= 0))
    lists = [
        state_rows(side, pairs[name].to_numpy()[differ], ["datapoint_ids"])["datapoint_ids"]
        for side, name in ((a, "state_a"), (b, "state_b"))
        if len(differ)
    ]
    for start in range(0, len(differ), _PART):
        rows = differ[start : start + _PART]
        points = [mine.slice(start, _PART) for mine in lists]
        out[rows] = _reasons(a, b, pairs.iloc[rows], points)
    out[(state_a < 0) & (state_b >= 0)] = "no state before"
    out[(state_b < 0) & (state_a >= 0)] = "no state any more"
    return out


def _reasons(a: Side, b: Side, pairs: pd.DataFrame, lists: Sequence[pa.Array]) -> Array:
    counts = _points(a, b, pairs, lists)
    about = [name for name in pairs if name[:2] in ("a_", "b_")]
    frame = counts.assign(**{name: pairs[name].astype(object).to_numpy() for name in about})
    # texts are made once for each kind of change, not for each object
    keys = ["added", "removed", "revised", *(f"{s}_{n}" for n in _ABOUT[:4] for s in "ab")]
    groups = frame.groupby(keys, dropna=False, sort=False)
    names = rule_names(a), rule_names(b)
    texts = groups.head(1).apply(_reason, axis=1, names=names).to_numpy(object)
    found: Array = texts[groups.ngroup().to_numpy()]
    return found


def rule_names(side: Side) -> dict[int, str]:
    """Return the names of the rules of a run's release, by their numbers."""
    content = side.run.inputs.calibrations.get(side.run.calibration)
    if content is None or "calibrations" not in table_names(side.lake):
        return {}
    of_release = pc.field("content_hash") == content
    rows = read(side.lake, "calibrations", ["rule", "name"], of_release).to_pylist()
    return {row["rule"]: row["name"] for row in rows if row["name"]}


def _reason(row: pd.Series, names: tuple[dict[int, str], dict[int, str]]) -> str:
    """Return in words why the states of a pair differ."""
    rule_a, rule_b = names
    releases = row["a_calibration"], row["b_calibration"]
    before, after = ("" if pd.isna(row[f"{s}_rules"]) else row[f"{s}_rules"] for s in "ab")
    parts = []
    if after and (before, releases[0]) != (after, releases[1]):
        parts.append(f"by {_rule(after, rule_b)} of release {releases[1]}")
    if before and (before, releases[0]) != (after, releases[1]):
        parts.append(f"without {_rule(before, rule_a)} of release {releases[0]}")
    differ = [key for key in ("access", "points") if row[f"a_{key}"] != row[f"b_{key}"]]
    parts += [f"{key} {row[f'a_{key}']} → {row[f'b_{key}']}" for key in differ]
    parts += _counts(row)
    if not parts and before and before == after:
        parts.append(f"by {_rule(before, rule_b)} of release {releases[0]}, whose content changed")
    if not parts:
        # neither a rule nor a point is recorded as another one
        parts = ["values of datapoints changed"]
        parts += [f"release {releases[0]} → {releases[1]}"] if len({*releases}) > 1 else []
    return "state changed: " + "; ".join(parts)


def _counts(row: pd.Series) -> list[str]:
    points = [f"{row[key]} {key}" for key in ("added", "removed", "revised") if row[key]]
    return [f"datapoints: {', '.join(points)}"] if points else []


def _rule(numbers: str, names: dict[int, str]) -> str:
    """Return ``rule 2 (faint end)``, or ``rules 1, 2``."""
    named = [f"{n} ({names[int(n)]})" if int(n) in names else n for n in numbers.split(", ")]
    return f"rule{'s' if len(named) > 1 else ''} {', '.join(named)}"


def _points(a: Side, b: Side, pairs: pd.DataFrame, lists: Sequence[pa.Array]) -> pd.DataFrame:
    """Count the datapoints of each pair that were added, removed, or are of another revision."""
    owners, points = [], []
    for mine in lists:
        lengths = pc.list_value_length(mine).fill_null(0).to_numpy(zero_copy_only=False)
        owners.append(np.repeat(np.arange(len(pairs)), lengths))
        points.append(pc.list_flatten(mine).to_numpy(zero_copy_only=False).astype(np.int64))
    # one number for each (pair, datapoint): ids alone have 64 bits
    codes = pd.factorize(np.concatenate(points))[0].astype(np.int64)
    keys = np.concatenate(owners) * (codes.max(initial=0) + 1) + codes
    split = len(points[0])
    known = [pd.Series(mine) for mine in (keys[:split], keys[split:])]
    kept, new = known[0].isin(known[1]).to_numpy(), ~known[1].isin(known[0]).to_numpy()
    n = len(pairs)
    return pd.DataFrame(
        {
            "added": np.bincount(owners[1][new], minlength=n),
            "removed": np.bincount(owners[0][~kept], minlength=n),
            "revised": _revised(a, b, pairs, owners[0][kept], points[0][kept]),
        }
    )


def _revised(a: Side, b: Side, pairs: pd.DataFrame, owners: Array, ids: Array) -> Array:
    """Count the common datapoints that one run has in a later revision than the other.

    Parameters
    ----------
    a, b : Side
    pairs : DataFrame
    owners, ids : ndarray with shape (N,)
        Datapoints that both states of a pair have: the pair, and the id.
    """
    stocks = pairs["stock"].to_numpy()
    newest = []
    for side, letter in ((a, "a"), (b, "b")):
        versions = pairs[f"{letter}_version"].to_numpy(float)
        version = int(versions[0]) if len(versions) and np.isfinite(versions[0]) else None
        # few datapoints have a revision at all
        rows = pc.field("revision") > 0
        columns = ["stock", "datapoint_id", "revision", "first_alert_jd"]
        table = read(side.lake, "datapoints", columns, rows, version=version).to_pandas()
        table = table.rename(columns={"datapoint_id": "id"})
        some = np.isin(stocks, table["stock"].unique())[owners]
        mine = pd.DataFrame({"row": owners[some], "id": ids[some]})
        mine["stock"] = stocks[owners[some]]
        mine["until"] = pairs[f"{letter}_as_of"].to_numpy(float)[owners[some]]
        seen = mine.merge(table, on=["stock", "id"])
        seen = seen[seen["first_alert_jd"] <= seen["until"]]
        newest.append(seen.groupby(["row", "id"])["revision"].max())
    both = pd.concat(newest, axis=1, keys=["a", "b"]).fillna(0)
    differ = both[both["a"] != both["b"]]
    rows_of = np.asarray(differ.index.get_level_values(0), np.int64)
    counts: Array = np.bincount(rows_of, minlength=len(pairs))
    return counts
