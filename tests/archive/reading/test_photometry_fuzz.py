"""Odd values and types in every column of a photometry table: each costs its own row, no other.

``make fuzz CHANGES=50000`` makes that many changes in place of some 2,000, in parts.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import random
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ampel_spark.archive.reading.photometry import objects_of
from ampel_spark.archive.reading.rows import Packet, batch_of
from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.archive.reading.tables import FileTable, read_table
from tests.archive.reading.test_photometry import survey

PARTS = max(1, int(os.environ.get("FUZZ_CHANGES", "2100")) // 2000)
CHANGES = 2100
ROWS, AT_ONCE = 100, 6

WORDS = ["", " ", "-", "--", "null", "nan", "NaN", "inf", "-inf", "abc", "1e400", "-1e400", "1e300",
         "-999", "99", "-99999", "1,5", "0x10", "t", "f", "é", "名", "1_0", "9" * 25, "1.5e18",
         "9007199254740993.0", "True", "-1", "9223372036854775808", "\t", "0", "1e-320", "a\nb",
         'a"b', "'", "\\", ";", "2147483648", "3.7", "-0.0", "58000", "2459000.5",
         "#", "x" * 5000]  # fmt: skip
THINGS: list[Any] = [
    None, True, False, b"x", b"\xff\xfe", float("nan"), float("inf"), -float("inf"), 2**53 + 1,
    2**63, 2**70, -(2**70), 1e308, [1, 2], {"a": 1}, (), Decimal("1.5"), Decimal("NaN"), 1 + 2j,
    object, datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), np.float32(1.5), np.int8(-3),
    np.datetime64("2020-01-01"), np.array([1.0, 2.0]), np.bool_(True), "x", "",
]  # fmt: skip

_PLACE = ["ra", "dec", "field", "rcid", "z", "flag", "grade", "programid"]
COLUMNS = {
    "flux": ["name", "mjd", "band", "flux", "err", "zp", *_PLACE],
    "mag": ["name", "mjd", "band", "mag", "err", "limit", "isdiffpos", *_PLACE],
}


def settings(kind: str, ids: str) -> Survey:
    own = {"flux": "flux", "fluxerr": "err", "zp": "zp"}
    if kind == "mag":
        own = {"mag": "mag", "magerr": "err", "limit": "limit"}
    rules = [{"column": "flag", "bits": 2}, {"column": "grade", "values": ["poor"]},
             {"column": "flag", "outside": [0, 8]}]  # fmt: skip
    return survey(
        {"object": "name", "ids": ids, "time": {"column": "mjd", "format": "mjd"},
         "band": {"column": "band", "names": {"g": "ztfg", "r": "ztfr"}}, "ra": "ra", "dec": "dec",
         "field": "field", "rcid": "rcid", "redshift": "z", "unusable": rules, **own}
    )  # fmt: skip


def row_of(kind: str, ids: str, i: int) -> dict[str, Any]:
    name = {"ztf": f"ZTF18aaaaaa{chr(97 + i % 20)}", "integer": 2**60 + i % 20}.get(
        ids, f"SN {i % 20}"
    )
    row: dict[str, Any] = {"name": name, "mjd": 58000.5 + i, "band": "gr"[i % 2], "err": 0.25,
                           "ra": 10.0 + i, "dec": -20.5, "field": 500, "rcid": i % 64, "z": 0.1,
                           "flag": 0, "grade": "good", "programid": 1}  # fmt: skip
    if kind == "flux":
        return row | {"flux": 100.5 - i, "zp": 25.0}
    limit = i % 5 == 0
    return row | {"mag": None if limit else 18.25, "err": None if limit else 0.25, "limit": 20.5,
                  "isdiffpos": None if limit else "tf"[i % 2]}  # fmt: skip


def points_by_time(packets: list[Packet]) -> dict[float, Any]:
    return {p[2]: (packet.stock, p) for packet in packets for p in (*packet.points, *packet.forced)}


def in_memory(rows: list[dict[str, Any]], columns: list[str]) -> FileTable:
    made = {}
    for name in columns:
        values = np.empty(len(rows), object)
        for i, row in enumerate(rows):
            values[i] = row[name]
        made[name] = values
    return FileTable(Path("t.parquet"), made, {})


def as_csv(rows: list[dict[str, Any]], columns: list[str], folder: Path) -> FileTable:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    path = folder / "t.csv"
    path.write_text(stream.getvalue())
    return read_table(path, text=("name", "band"))


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", ["flux", "mag"])
def test_an_odd_value_costs_its_row_and_leaves_the_others_as_they_are(
    kind: str, part: int, tmp_path: Path
) -> None:
    """No exception, no row lost without a word, no neighbour changed; what is left is stored."""
    rng = random.Random(f"photometry {kind}" + (f" {part}" if part else ""))
    columns = COLUMNS[kind]
    whole = {}
    for ids in ("name", "ztf", "integer"):
        rows = [row_of(kind, ids, i) for i in range(ROWS)]
        found, bad = objects_of(in_memory(rows, columns), settings(kind, ids))
        assert bad == []
        whole[ids] = (rows, points_by_time(found))
        assert (
            points_by_time(objects_of(as_csv(rows, columns, tmp_path), settings(kind, ids))[0])
            == (whole[ids][1])
        )
    made: Counter[str] = Counter()
    for turn in range(CHANGES // (2 * AT_ONCE)):
        ids = ("name", "ztf", "integer")[turn % 3]
        rows, before = whole[ids]
        rows = [dict(row) for row in rows]
        places = rng.sample(range(ROWS), AT_ONCE)
        for place, column in zip(places, rng.sample(columns, AT_ONCE), strict=True):
            rows[place][column] = rng.choice(WORDS if turn % 2 else [*WORDS, *THINGS])
        table = as_csv(rows, columns, tmp_path) if turn % 2 else in_memory(rows, columns)
        packets, bad = objects_of(table, settings(kind, ids))
        assert sum(json.loads(p.own or "")["rows"] for p in packets) + len(bad) == ROWS
        after = points_by_time(packets)
        changed = {2400000.5 + 58000.5 + place for place in places}
        for jd, point in before.items():
            if jd not in changed:
                assert after[jd] == point, [rows[place] for place in places]
        made["changes"] += AT_ONCE
        made["rows in quarantine"] += len(bad)
        made["rows that stay"] += AT_ONCE - len(bad)
        if turn % 4:
            continue
        batch = batch_of(packets, bad)
        assert (
            Counter(batch["row"].to_pylist()) == {"packet": len(packets), "bad": len(bad)}
            or not bad
        )
    print(kind, dict(made))
    assert made["rows in quarantine"] > 0.1 * made["changes"]
