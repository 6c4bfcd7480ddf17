"""Selections: which rows, in which order, with which columns, and what each cut lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.expressions import parse
from ampel_spark.t3.selection import Selection, losses, select

_STATE = {
    "channel": pa.string(), "stock": pa.int64(), "state_id": pa.string(), "name": pa.string(),
    "n_detections": pa.int32(), "n_upper_limits": pa.int32(), "jd_first": pa.float64(),
    "jd_last": pa.float64(),
}  # fmt: skip
_UNITS = {
    "fit": {"status": pa.int32(), "z": pa.float64(), "x1": pa.float64(), "chisq": pa.float64(),
            "ndof": pa.int32(), "bands": pa.list_(pa.string())},
    "host": {"status": pa.int32(), "kind": pa.string()},
}  # fmt: skip
CUT = "fit.status == 0 and abs(fit.x1) < 2 and (n_detections >= 5 or host.kind == 'galaxy')"


def _rows(seed: int = 3, n: int = 300) -> list[tuple[Any, ...]]:
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        stock = rng.randrange(150)
        fit = {
            "status": rng.choice([0, 0, 0, -2008]),
            "z": 0.05,
            "x1": rng.choice([None, float("nan"), rng.gauss(0, 2)]),
            "chisq": rng.choice([10.0, 20.0, None, rng.random()]),
            "ndof": rng.choice([0, 10]),
            "bands": ["ztfg"],
        }
        host = {"status": 0, "kind": rng.choice(["galaxy", "star", None])}
        rows.append(
            (rng.choice(["SN", "AGN"]), stock, f"{i:032x}", f"ZTF{stock:03d}", rng.randrange(10), 0,
             2458000.0, 2458000.0 + rng.randrange(5), rng.choice([fit, fit, fit, None]), host)
        )  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def rows() -> list[tuple[Any, ...]]:
    return _rows()


@pytest.fixture(scope="module")
def table() -> Callable[[list[tuple[Any, ...]]], pa.Table]:
    def make(rows: list[tuple[Any, ...]]) -> pa.Table:
        columns = {
            name: pa.array([row[i] for row in rows], kind)
            for i, (name, kind) in enumerate(_STATE.items())
        }
        for i, (unit, kinds) in enumerate(_UNITS.items(), len(_STATE)):
            for name, kind in kinds.items():
                values = [(row[i] or {}).get(name) for row in rows]
                columns[f"{unit}.{name}"] = pa.array(values, kind)
        return pa.table(columns)

    return make


def _types(rows: pa.Table) -> dict[str, str]:
    return {field.name: str(field.type) for field in rows.schema}


def _plain(rows: list[tuple[Any, ...]], types: dict[str, str]) -> dict[str, np.ndarray]:
    names = [
        "channel",
        "stock",
        "state_id",
        "name",
        "n_detections",
        "n_upper_limits",
        "jd_first",
        "jd_last",
    ]
    columns = {
        name: np.array([row[i] for row in rows], dtype=object) for i, name in enumerate(names)
    }
    for name in types:
        if "." in name:
            unit, column = name.split(".")
            values = [(row[8 if unit == "fit" else 9] or {}).get(column) for row in rows]
            columns[name] = np.array([*values, None], dtype=object)[:-1]
    return columns


def test_the_selection_and_its_order_are_those_of_a_plain_sort(rows: Any, table: Any) -> None:
    selection = Selection.parse(CUT, "-fit.chisq / fit.ndof", ["fit.x1", "fit.bands", "stock"])
    frame = table(rows)
    types = _types(frame)
    plain = _plain(rows, types)
    good = parse(CUT).evaluate(types, plain).filled(False)
    rank = parse("-fit.chisq / fit.ndof").evaluate(types, plain)
    order = sorted(
        np.flatnonzero(good),
        key=lambda i: (
            plain["channel"][i],
            bool(np.ma.getmaskarray(rank)[i]),
            float(rank.filled(0)[i]),
            plain["name"][i],
            -plain["jd_last"][i],
            plain["state_id"][i],
        ),
    )
    expected: dict[tuple[str, int], Any] = {}
    for i in order:
        expected.setdefault((plain["channel"][i], plain["stock"][i]), plain["state_id"][i])
    got = select(frame, selection).to_pandas()
    assert list(got) == ["channel", "rank", "stock", "name", "state_id", "fit_x1", "fit_bands"]
    assert got.state_id.tolist() == list(expected.values())
    assert list(zip(got.channel, got.stock, strict=True)) == list(expected)
    for _, part in got.groupby("channel"):
        assert part["rank"].tolist() == list(range(1, len(part) + 1))
    assert 10 < len(got) < good.sum()  # some objects have several selected states


def test_the_answer_does_not_depend_on_the_order_of_the_rows(rows: Any, table: Any) -> None:
    selection = Selection.parse(CUT, "fit.ndof", {"reduced": "fit.chisq / fit.ndof"}, limit=7)
    shuffled = random.Random(1).sample(rows, len(rows))
    first, second = (select(table(r), selection).to_pandas() for r in (rows, shuffled))
    pd.testing.assert_frame_equal(first, second)
    assert first.groupby("channel").size().tolist() == [7, 7]


def test_without_condition_and_rank_each_object_appears_once_by_name(rows: Any, table: Any) -> None:
    got = select(table(rows), Selection.parse()).to_pandas()
    sn = got[got.channel == "SN"]
    assert sn.name.is_monotonic_increasing
    latest = max((r for r in rows if r[0] == "SN" and r[3] == sn.name.iloc[0]), key=lambda r: r[7])
    assert sn.state_id.iloc[0] in {r[2] for r in rows if r[7] == latest[7]}


def test_a_column_of_an_integer_stays_one_and_null_stays_null(table: Any) -> None:
    rows = [r for r in _rows() if r[8] and r[8]["x1"] is None][:1]
    frame = select(table(rows), Selection.parse(columns=["fit.ndof", "fit.x1"]))
    assert frame.schema.field("fit_ndof").type == pa.int32()
    assert frame.to_pylist()[0]["fit_x1"] is None


def test_every_state_is_selected_rejected_or_unknown_and_cuts_add_up(rows: Any, table: Any) -> None:
    frame = table(rows)
    types = _types(frame)
    plain = _plain(rows, types)
    found = losses(frame, Selection.parse(CUT))
    assert [loss.channel for loss in found] == ["AGN", "SN"]
    for loss in found:
        here = plain["channel"] == loss.channel
        answer = parse(CUT).evaluate(types, plain)[here]
        assert loss.selected == int(answer.filled(False).sum())
        assert loss.unknown == int(np.ma.getmaskarray(answer).sum()) > 0
        assert loss.selected + loss.rejected + loss.unknown == int(here.sum())
        assert loss.objects == len(set(plain["stock"][here][answer.filled(False)]))
        assert [cut.cut for cut in loss.cuts] == [
            "fit.status == 0",
            "abs(fit.x1) < 2",
            "n_detections >= 5 or host.kind == 'galaxy'",
        ]
        left = here.copy()
        for cut in loss.cuts:
            part = parse(cut.cut).evaluate(types, plain)
            assert cut.n_in == left.sum()
            assert cut.n_unknown == (left & np.ma.getmaskarray(part)).sum()
            left &= part.filled(False)
            assert cut.n_out == left.sum()
        assert loss.cuts[-1].n_out == loss.selected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"select": "fit.z"}, "select: 'fit.z' is a number, not a condition"),
        ({"select": "fit.zz < 1"}, "select: unknown column 'fit.zz'"),
        ({"rank": "fit.bands"}, "rank: 'fit.bands' is no number or string"),
        ({"columns": ["fit.q"]}, "columns: fit_q: unknown column"),
        ({"columns": ["fit.z + 1"]}, "needs a label"),
        ({"columns": ["fit.z", "fit.z"]}, "stands there twice"),
        ({"columns": {"rank": "fit.z"}}, "stands there twice"),
        ({"columns": {"Name": "fit.z"}}, "stands there twice"),
        ({"columns": {"a b": "fit.z"}}, "is no name"),
        ({"columns": {"a": "fit.z +"}}, "columns: not an expression"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_a_selection_that_cannot_be_right_says_why(
    rows: Any, table: Any, given: Any, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        select(table(rows), Selection.parse(**given))
    assert words in str(caught.value)
