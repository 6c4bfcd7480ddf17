"""Sightings are sorted out in numpy as they are in words, and hashes tell rows apart."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ampel_spark.archive.committing.lookup import CHANGES, look_up
from ampel_spark.archive.reading.columns import row_hashes

Row = dict[str, Any]
Change = tuple[str, int, int, int, str]
NAMES = ("survey", "stock", "datapoint_id", "first_alert_jd", "first_alert_id", "value_hash",
         "place")  # fmt: skip


def in_words(rows: list[Row]) -> tuple[list[int], list[Change]]:
    """Say what is new, and what changes, one datapoint at a time."""
    groups: dict[tuple[str, int, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["survey"], row["stock"], row["datapoint_id"]), []).append(row)
    new: list[int] = []
    changes: list[Change] = []
    for key, group in groups.items():
        seen = [row for row in group if row["place"] >= 0]
        known = [row for row in group if row["place"] < 0]
        if not seen:
            continue
        first = min(
            seen, key=lambda row: (row["first_alert_jd"], row["first_alert_id"], row["place"])
        )
        if len({row["value_hash"] for row in group}) > 1:
            changes.append((*key, first["place"], "varied"))
        elif not known:
            new.append(first["place"])
        elif (first["first_alert_jd"], first["first_alert_id"]) < min(
            (row["first_alert_jd"], row["first_alert_id"]) for row in known
        ):
            changes.append((*key, first["place"], "earlier"))
    return sorted(new), sorted(changes)


@pytest.mark.parametrize("seed", range(20))
def test_sightings_are_sorted_out_as_they_are_in_words(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    rows = []
    for place in range(draw.choice((1, 5, 300))):
        known = draw.random() < 0.3
        rows.append(
            {
                "survey": draw.choice(("ztf", "other")),
                "stock": draw.randrange(4),
                "datapoint_id": draw.choice((-3, 1, 2, 2**62)) + draw.randrange(4),
                "first_alert_jd": float(draw.randrange(3)),
                "first_alert_id": draw.randrange(3),
                "value_hash": 7 if draw.random() < 0.95 else 8,
                "place": -1 if known else place,
            }
        )
    draw.shuffle(rows)
    table = pa.table({name: [row[name] for row in rows] for name in NAMES})
    batches = [*table.to_batches(max_chunksize=50), table.slice(0, 0).to_batches()]
    told = [
        json.loads(row["report"])
        for batch in look_up(str(tmp_path), [b for b in batches if isinstance(b, pa.RecordBatch)])
        for row in batch.to_pylist()
    ]
    new, changes = in_words(rows)
    assert [each["new"] for each in told] == [len(new)]
    places = [parquet.read_table(t["places"])["place"].to_pylist() for t in told if "places" in t]
    assert [place for each in places for place in each] == new
    found = [parquet.read_table(t["changes"]).to_pylist() for t in told if "changes" in t]
    rows_of = [tuple(row[k] for k in CHANGES.names) for each in found for row in each]
    assert sorted(rows_of) == changes


def test_without_sightings_there_is_nothing_to_tell(tmp_path: Path) -> None:
    empty = pa.table({name: pa.array([], pa.int64()) for name in NAMES})
    assert list(look_up(str(tmp_path), empty.to_batches())) == []
    assert list(look_up(str(tmp_path), iter(()))) == []


POINT = pa.struct([("datapoint_id", pa.int64()), ("value_hash", pa.int64())])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0, 1, -1, 2**53, 2**53 + 1, 2**62, None]),
        pa.array([0.0, 1.0, -1.0, float("inf"), 1e-300, None]),
        pa.array(["", "a", "b", "ab", None]),
        pa.array([[], [1], [2], [1, 2], [2, 1], [1, 1], [1, 1, 1]]),
        pa.array([[], [(1, 2)], [(2, 1)], [(1, 2), (2, 1)], [(2, 1), (1, 2)]], pa.list_(POINT)),
    ],
)
def test_rows_that_differ_have_other_hashes(column: pa.Array) -> None:
    hashes = row_hashes([column])
    assert len(set(hashes.tolist())) == len(column)
    other = pa.array(range(len(column)))
    assert len(set(row_hashes([column, other]).tolist())) == len(column)
    # the same rows in another order, or cut out of others, have the same
    assert row_hashes([column.take(pa.array(range(len(column))[::-1]))]).tolist() == (
        hashes[::-1].tolist()
    )
    assert row_hashes([column.slice(2)]).tolist() == hashes[2:].tolist()


def test_zeros_are_one_and_so_are_nothing_and_no_number() -> None:
    zero, minus, nan, none = row_hashes([pa.array([0.0, -0.0, np.nan, None], from_pandas=False)])
    assert zero == minus
    assert nan == none
    assert zero != nan
