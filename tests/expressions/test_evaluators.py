"""Spark, Arrow and numpy agree on random trees over odd values; the documents have the table."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from ampel_spark.expressions import FUNCTIONS, parse
from tests.conftest import PROJECT

#: Neighbours of the edges: of doubles, of their whole numbers, of 64 bits.
REALS = [0.0, -0.0, 0.5, -1.5, 2.0**53, 2.0**53 + 2, -(2.0**63), 1e300, -1e-300, 5e-324]
REALS += [float("inf"), float("-inf"), float("nan"), None]
WHOLE = [
    0,
    1,
    -1,
    7,
    2**31 - 1,
    2**53 - 1,
    2**53,
    2**53 + 1,
    -(2**53) - 1,
    2**63 - 1,
    -(2**63),
    None,
]
TEXTS = ["", "a", "b", "A", "é", "'", "\\", '"', "a\nb", "null", "\U0001f52d", " a", None]
TRUTHS = [True, False, None]
N = 60
TYPES = {"x": "double", "y": "float", "i": "bigint", "k": "int", "s": "string", "t": "string",
         "p": "boolean", "q": "boolean"}  # fmt: skip


def _table() -> pa.Table:
    rng = np.random.default_rng(20260101)

    def pick(values: list[Any], kind: pa.DataType) -> pa.Array:
        return pa.array([values[n] for n in rng.integers(len(values), size=N)], kind)

    small = [v for v in WHOLE if v is None or abs(v) < 2**31]
    singles = [
        v if v is None else float(np.float32(v))
        for v in REALS
        if v is None or abs(v) < 1e38 or v != v
    ]
    return pa.table({
        "x": pick(REALS, pa.float64()), "y": pick(singles, pa.float32()),
        "i": pick(WHOLE, pa.int64()), "k": pick(small, pa.int32()),
        "s": pick(TEXTS, pa.string()), "t": pick(TEXTS, pa.string()),
        "p": pick(TRUTHS, pa.bool_()), "q": pick(TRUTHS, pa.bool_()),
    })  # fmt: skip


TABLE = _table()

# Arithmetic whose last digit is the same in every engine.
_real_constants = st.sampled_from(["0", "0.5", "-1", "3", "1e300", "-0.0", "inf"])
_reals = st.recursive(
    st.one_of(st.sampled_from(["x", "y", "i", "k"]), _real_constants),
    lambda below: st.one_of(
        st.tuples(below, st.sampled_from("+-*/%"), below).map(
            lambda p: f"({p[0]}) {p[1]} ({p[2]})"
        ),
        st.tuples(st.sampled_from(["abs", "sqrt", "-"]), below).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(st.sampled_from(["min", "max", "ifnull"]), below, below).map(
            lambda p: f"{p[0]}({p[1]}, {p[2]})"
        ),
    ),
    max_leaves=6,
)
_orders = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
_texts = st.one_of(
    st.sampled_from(["s", "t"]), st.sampled_from([repr(t) for t in TEXTS if t is not None])
)
_ids = st.sampled_from(["i", "k", "0", str(2**53 + 1), str(-(2**63)), str(2**63 - 1)])
_simple = st.one_of(
    st.tuples(_reals, _orders, _reals).map(lambda p: f"({p[0]}) {p[1]} ({p[2]})"),
    st.tuples(_ids, _orders, st.sampled_from(["i", "k"])).map(" ".join),
    st.tuples(_texts, _orders, _texts).map(" ".join),
    st.lists(_texts.filter(lambda t: t not in "st"), min_size=1, max_size=12).map(
        lambda items: f"s in [{', '.join(items)}]"
    ),
    st.lists(st.sampled_from(["0", "1.5", "-7", "inf", "-0.0"]), min_size=1, max_size=14).map(
        lambda items: f"x not in [{', '.join(items)}]"
    ),
    st.lists(
        st.one_of(_ids.filter(lambda t: t not in "ik"), st.sampled_from(["0.5", "-inf", "-1.0"])),
        min_size=1,
        max_size=14,
    ).map(lambda items: f"i in [{', '.join(items)}]"),
    st.sampled_from(["p", "q", "s in [a, é, 1]", "-1 < x <= i", "ifnull(p, q)", "True"]),
    st.sampled_from(list("xiskp")).map("{} is null".format),
    st.sampled_from(list("ytkq")).map("{} is not null".format),
)
_conditions = st.recursive(
    _simple,
    lambda below: st.one_of(
        st.lists(below, min_size=2, max_size=3).map(lambda p: f"({') and ('.join(p)})"),
        st.lists(below, min_size=2, max_size=3).map(lambda p: f"({') or ('.join(p)})"),
        below.map(lambda p: f"not ({p})"),
        below.filter(lambda p: bool(parse(p).names)).map(lambda p: f"({p} or missing)"),
        st.tuples(below, st.sampled_from(["==", "!="]), below).map(
            lambda p: f"({p[0]}) {p[1]} ({p[2]})"
        ),
    ),
    max_leaves=4,
)


def same(a: Any, b: Any) -> bool:
    return a == b and (a is None) == (b is None)


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(_conditions, min_size=40, max_size=40), st.lists(_reals, min_size=15, max_size=15))
def test_spark_arrow_and_numpy_agree_on_random_trees_over_odd_values(
    spark: SparkSession, conditions: list[str], numbers: list[str]
) -> None:
    expressions = [parse(text) for text in conditions + numbers]
    rows = [tuple(row.values()) for row in TABLE.to_pylist()]
    schema = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
    frame = spark.createDataFrame(rows, schema).repartition(1)
    got = frame.select(
        *(e.column(TYPES).alias(f"e{n}") for n, e in enumerate(expressions))
    ).collect()
    arrow = {name: TABLE[name] for name in TYPES}
    objects = {name: np.array(TABLE[name].to_pylist(), object) for name in TYPES}
    for n, expression in enumerate(expressions):
        plain = np.ma.asarray(expression.evaluate(TYPES, arrow))
        other = np.ma.asarray(expression.evaluate(TYPES, objects))
        values = plain.tolist() if plain.ndim else [plain.tolist()] * N
        assert values == (other.tolist() if other.ndim else [other.tolist()] * N)
        for row, value in zip(got, values, strict=True):
            assert same(row[f"e{n}"], value), (expression.text, row[f"e{n}"], value)
        if n < len(conditions):
            assert expression.mask(TABLE).tolist() == [value is True for value in values]
            # what is not true is false or unknown, and never both
            opposite = parse(f"not ({expression.text})").mask(TABLE)
            unknown = parse(f"isnull({expression.text})").mask(TABLE)
            assert (expression.mask(TABLE).astype(int) + opposite + unknown == 1).all()


def test_an_empty_table_has_no_row_that_meets_a_condition() -> None:
    empty = TABLE.slice(0, 0)
    for text in ("x > 0", "s in [a]", "True", "x is null or i == 3", "i < x or missing"):
        assert parse(text).mask(empty).tolist() == []


def test_a_column_of_nulls_alone_is_unknown_whatever_its_type() -> None:
    types = {"i": "bigint", "x": "double", "s": "string", "p": "boolean"}
    for made in (pa.nulls(2), pa.nulls(2, pa.int64()), np.array([None, None], object)):
        for text in ("i == 1", "x < 1", "s == 'a'", "p"):
            found = parse(text).evaluate(types, dict.fromkeys(types, made))
            assert found.tolist() == [None, None], text


def test_the_documents_name_every_function_and_what_it_gives() -> None:
    text = (PROJECT / "docs" / "jobs.md").read_text()
    section = text[text.index("## Expressions") :]
    rows = re.findall(r"^\| `(\w+)\((.*?)\)` \| (.*?) \|$", section, re.M)
    assert {name: meaning for name, _, meaning in rows} == {
        name: operation.meaning for name, operation in FUNCTIONS.items()
    }
    for name, arguments, _ in rows:
        fewest = FUNCTIONS[name].arity[0]
        assert len(arguments.replace(", …", "").split(", ")) == fewest, name
