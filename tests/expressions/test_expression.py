"""Expressions: what they mean, that Spark and numpy agree, and what they refuse."""

from __future__ import annotations

import operator
import random
import sqlite3
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from ampel_spark.errors import ConfigError
from ampel_spark.expressions import parse
from ampel_spark.expressions.operations import FUNCTIONS, OPERATIONS

TYPES = {
    "name": "string",
    "n_detections": "bigint",
    "fit.x1": "double",
    "fit.c": "double",
    "fit.status": "int",
    "fit.good": "boolean",
    "fit.label": "string",
    "fit.covariance": "array<double>",
}
X1 = [0.0, 1.0, -1.5, 2.0, None, float("nan"), float("inf"), 3.5, -0.0, 1e300]
C = [2.0, 0.0, -1.5, None, 1.0, 0.5, 1.0, -3.0, 2.0, 1e300]
GOOD = [True, False, None, True, False, None, True, True, None, False]
LABEL = ["Ia", "II", None, "Ia", "", "Ibc", "zz", "Ia", "é", None]
ROWS: dict[str, Any] = {
    "name": np.array([f"ZTF20aa{i}" for i in range(10)], dtype=object),
    "n_detections": np.arange(10),
    "fit.x1": np.array(X1, dtype=float),
    "fit.c": np.array(C, dtype=float),
    "fit.status": np.array([0, 0, -4, 0, -2008, 0, 0, 1, 0, 0]),
    "fit.good": np.array(GOOD, dtype=object),
    "fit.label": np.array(LABEL, dtype=object),
    "fit.covariance": np.array([[1.0], None] * 5, dtype=object),
}


def values(text: str) -> list[Any]:
    return parse(text).evaluate(TYPES, ROWS).tolist()


def chosen(text: str) -> list[int]:
    return np.flatnonzero(parse(text).evaluate(TYPES, ROWS).filled(False)).tolist()


@pytest.fixture(scope="module")
def table(spark: SparkSession) -> Any:
    units = [
        {"x1": x, "c": c, "status": int(status), "good": good, "label": label, "covariance": v}
        for x, c, status, good, label, v in zip(
            X1, C, ROWS["fit.status"], GOOD, LABEL, ROWS["fit.covariance"], strict=True
        )
    ]
    names, counts = ROWS["name"].tolist(), ROWS["n_detections"].tolist()
    rows = list(zip(names, counts, units, strict=True))
    fields = ", ".join(f"{k[4:]}: {v}" for k, v in TYPES.items() if k.startswith("fit."))
    schema = f"name string, n_detections bigint, fit struct<{fields}>"
    return spark.createDataFrame(rows, schema).repartition(1).cache()


# --- meaning -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("fit.status == 0 and abs(fit.x1) < 3", [0, 1, 3, 8]),
        ("0 <= n_detections < 3", [0, 1, 2]),
        ("fit.label in ['Ia', 'zz']", [0, 3, 6, 7]),
        ("fit.status not in [0, -4]", [4, 7]),
        ("fit.x1 is None", [4, 5]),
        ("fit.x1 is not None and not fit.x1 > -100", []),
        ("isnull(fit.covariance)", [1, 3, 5, 7, 9]),
        ("fit.good", [0, 3, 6, 7]),
        ("fit.good == False", [1, 4, 9]),
        ("ifnull(fit.x1, -9) < -5", [4, 5]),
        ("fit.label > 'y'", [6, 8]),
        ("name == 'ZTF20aa3'", [3]),
        ("n_detections % 3 == 1", [1, 4, 7]),
        ("2 ** n_detections > 200", [8, 9]),
        ("fit.label in [Ia, zz]", [0, 3, 6, 7]),
        ("fit.label not in [Ia, 'zz', a-b] and fit.label is not null", [1, 4, 5, 8]),
        ("fit.x1 is null", [4, 5]),
        ("fit.x1 > 3 or missing", [4, 5, 6, 7, 9]),
        ("(fit.x1 > 3 and fit.c < 0 or missing) and n_detections < 5", [3, 4]),
        ("fit.x1 < inf", [0, 1, 2, 3, 7, 8, 9]),
        ("name == 'x is null or y in [a]' or n_detections == 9", [9]),
    ],
)
def test_an_expression_selects_the_rows_for_which_it_is_true(text: str, rows: list[int]) -> None:
    assert chosen(text) == rows


def test_a_constant_is_one_value() -> None:
    assert parse("2 > 1").evaluate(TYPES, ROWS).shape == ()


def test_unknown_is_selected_neither_by_a_condition_nor_by_its_opposite() -> None:
    positive, negative = chosen("fit.c > 0"), chosen("not fit.c > 0")
    assert 3 not in positive + negative
    assert sorted([*positive, *negative, 3]) == list(range(10))


@pytest.mark.parametrize(
    "text",
    [
        "1 / (fit.c * 0)",
        "fit.c % 0",
        "sqrt(-1 - fit.c * 0)",
        "log(0 * fit.c)",
        "log10(-1 + 0 * fit.c)",
        "mag(0 * fit.c)",
        "(0 * fit.c) ** -1",
        "exp(800 + 0 * fit.c) - exp(900 + 0 * fit.c)",
    ],
)
def test_what_has_no_number_for_an_answer_is_unknown(text: str, table: Any) -> None:
    assert values(text) == [None] * 10
    column = parse(text).column(TYPES)
    assert [row[0] for row in table.select(column).collect()] == [None] * 10


def test_a_remainder_lies_between_zero_and_the_divisor() -> None:
    rows = {"fit.x1": np.array([-7.0, 7.0, 6.0]), "fit.c": np.array([3.0, -3.0, 3.0])}
    assert parse("fit.x1 % fit.c").evaluate(TYPES, rows).tolist() == [2.0, 1.0, 0.0]


def test_min_and_max_are_unknown_where_an_argument_is() -> None:
    assert values("min(fit.x1, fit.c, 1)")[:5] == [0.0, 0.0, -1.5, None, None]
    assert values("max(fit.x1, fit.c)")[:5] == [2.0, 1.0, -1.5, None, None]


def test_a_magnitude_is_that_of_a_flux() -> None:
    rows = {"fit.x1": np.array([100.0])}
    assert parse("mag(fit.x1)").evaluate(TYPES, rows).tolist() == [-5.0]


def test_arithmetic_comparison_and_logic_follow_sql() -> None:
    """Held against sqlite, which knows nothing of Spark, numpy or Python's syntax."""
    grid = [(a, b) for a in (None, -2.0, 0.0, 1.5) for b in (None, -2.0, 0.0, 3.0)]
    rows = {
        "fit.x1": np.array([a for a, _ in grid], float),
        "fit.c": np.array([b for _, b in grid], float),
    }
    database = sqlite3.connect(":memory:")
    database.execute("create table fit (x1 real, c real)")
    database.executemany("insert into fit values (?, ?)", grid)
    texts = ["fit.x1 / fit.c", "fit.x1 + fit.c * 2 - 1", "-fit.x1"]
    conditions = [
        "fit.x1 < fit.c",
        "fit.x1 >= 0",
        "fit.c != -2",
        "fit.c in (0, -2)",
        "fit.x1 is None",
    ]
    for a in conditions:
        for b in conditions:
            texts += [f"{a} and not ({b})", f"{a} or ({b})", f"not ({a} and ({b}))"]
    for text in texts:
        sql = text.replace("is None", "is null").replace("==", "=")
        truth = [value for (value,) in database.execute(f"select {sql} from fit")]
        assert parse(text).evaluate(TYPES, rows).tolist() == truth, text
    database.close()


def test_operators_bind_as_in_python() -> None:
    rows = {"fit.x1": np.array([3.0]), "fit.c": np.array([2.0])}
    for text in ("-{x}**{c}", "1 - {x} - {c}", "2 + {x} * {c} / 4", "{x} % {c} * 5", "+{x} - -{c}"):
        truth = eval(text.format(x=3.0, c=2.0))
        found = parse(text.format(x="fit.x1", c="fit.c")).evaluate(TYPES, rows)
        assert found.tolist() == [truth], text


def test_masked_arrays_and_nullable_series_count_as_null() -> None:
    text = parse("fit.x1 > 0")
    masked = np.ma.MaskedArray([1.0, 1.0], mask=[False, True])
    series = pd.Series([1, None], dtype="Int64")
    assert text.evaluate(TYPES, {"fit.x1": masked}).tolist() == [True, None]
    assert text.evaluate(TYPES, {"fit.x1": series}).tolist() == [True, None]


def test_columns_name_and_cuts_are_known_without_data() -> None:
    expression = parse("fit.status == 0 and (fit.c < 1 or fit.good)\n and 0 < n_detections < 5")
    assert expression.columns == {"fit.status", "fit.c", "fit.good", "n_detections"}
    texts = [cut.text for cut in expression.cuts()]
    assert texts == ["fit.status == 0", "fit.c < 1 or fit.good", "0 < n_detections < 5"]
    assert parse("fit.x1").name == "fit.x1"
    assert parse("-fit.x1").name is None


# --- Spark and numpy ---------------------------------------------------------------------------

_NUMBERS = ["fit.x1", "fit.c", "n_detections", "fit.status", "0.5", "-2", "3"]


def _random_number(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(_NUMBERS)
    operation = rng.choice(
        [*"+-*/%", "**", *(f for f in FUNCTIONS if f not in ("isnull", "notnull"))]
    )
    a, b = (_random_number(rng, depth - 1) for _ in "ab")
    if operation in ("min", "max", "ifnull"):
        return f"{operation}({a}, {b})"
    if operation in FUNCTIONS:
        return f"{operation}({a})"
    return (
        f"({a}) ** {rng.choice([-1, 0, 2, 0.5])}"
        if operation == "**"
        else f"({a}) {operation} ({b})"
    )


def _random_condition(rng: random.Random, depth: int) -> str:
    if depth == 0:
        exact = [
            f"{rng.choice(_NUMBERS)} {o} {rng.choice(_NUMBERS)} / 2"
            for o in ("<", "<=", ">", ">=", "==")
        ]
        other = [
            "fit.good",
            "fit.label != 'Ia'",
            "fit.label in ['II', '']",
            "isnull(fit.x1)",
            "fit.c is not None",
            "fit.good == True",
            "fit.label < 'b'",
            "ifnull(fit.good, True)",
            "-1 < fit.x1 <= n_detections",
        ]
        return rng.choice(exact + other)
    a, b = (_random_condition(rng, depth - 1) for _ in "ab")
    return rng.choice([f"({a}) and ({b})", f"({a}) or ({b})", f"not ({a})", f"({a}) == ({b})"])


def test_spark_and_numpy_agree_on_random_expressions(table: Any) -> None:
    rng = random.Random(20180601)
    numbers = [_random_number(rng, 3) for _ in range(70)]
    conditions = [_random_condition(rng, 3) for _ in range(70)]
    expressions = [parse(text) for text in numbers + conditions]
    used = {op for text in numbers + conditions for op in OPERATIONS if op in text}
    assert used >= set(OPERATIONS) - {"negative", "notnull", "or missing"}
    columns = [e.column(TYPES).alias(f"e{i}") for i, e in enumerate(expressions)]
    got = table.select("n_detections", *columns).orderBy("n_detections").toPandas()
    for i, expression in enumerate(expressions):
        plain = expression.evaluate(TYPES, ROWS)
        mask = np.broadcast_to(np.ma.getmaskarray(plain), 10)
        spark_values = got[f"e{i}"]
        assert spark_values.isna().tolist() == mask.tolist(), expression.text
        a = np.broadcast_to(plain.filled(0), 10)[~mask].astype(float)
        b = spark_values[~mask].astype(float).to_numpy()
        np.testing.assert_allclose(b, a, rtol=1e-12 if i < 70 else 0, err_msg=expression.text)


@pytest.mark.parametrize("ansi", ["true", "false"])
def test_no_value_makes_spark_raise(spark: SparkSession, table: Any, ansi: str) -> None:
    before = spark.conf.get("spark.sql.ansi.enabled")
    spark.conf.set("spark.sql.ansi.enabled", ansi)
    try:
        text = "1 / fit.x1 + n_detections % fit.c + log(fit.x1) ** fit.c + exp(fit.x1 * 1e9)"
        rows = table.select(parse(text).column(TYPES)).collect()
    finally:
        spark.conf.set("spark.sql.ansi.enabled", before)
    assert len(rows) == 10


def test_a_deep_expression_stays_small_in_spark(table: Any) -> None:
    text = "fit.x1"
    for _ in range(14):
        text = f"min({text} % 7, 1) ** 2"
    assert len(table.select(parse(text).column(TYPES)).collect()) == 10


LARGE = [0, 1, -1, 2**53, 2**53 + 1, -(2**53) - 1, 2**62 + 1, -(2**63), 2**63 - 1, None]
ODD = [
    0.5,
    -0.0,
    2.0**53,
    -(2.0**53),
    2.0**62,
    -(2.0**63),
    2.0**63,
    -(2.0**64),
    float("inf"),
    1e300,
    None,
]


def test_integers_and_real_numbers_compare_as_numbers_do(spark: SparkSession) -> None:
    """Held against Python's own numbers, which compare exactly."""
    types = {"i": "bigint", "x": "double", "s": "int"}
    pairs = [(i, x, None if x is None else k) for k, i in enumerate(LARGE) for x in ODD]
    frame = spark.createDataFrame(pairs, "i bigint, x double, s int").repartition(1)
    rows = {
        name: np.array(v, object) for name, v in zip("ixs", zip(*pairs, strict=True), strict=True)
    }
    operators: dict[str, Any] = {
        "<": operator.lt, "<=": operator.le, "==": operator.eq,
        "!=": operator.ne, ">": operator.gt, ">=": operator.ge,
    }  # fmt: skip
    texts = {
        f"{a} {op} {b}": (a, f, b) for op, f in operators.items() for a, b in ("ix", "xi", "is")
    }
    columns = [parse(text).column(types).alias(f"c{n}") for n, text in enumerate(texts)]
    got = frame.select("*", *columns).collect()
    for n, (text, (a, function, b)) in enumerate(texts.items()):
        plain = parse(text).evaluate(types, rows).tolist()
        for row, mine in zip(pairs, plain, strict=True):
            left, right = (row["ixs".index(name)] for name in (a, b))
            truth = None if left is None or right is None else function(left, right)
            assert mine == truth, (text, row)
        truths = dict(zip(pairs, plain, strict=True))
        for row in got:
            assert row[f"c{n}"] == truths[row["i"], row["x"], row["s"]], (text, row)
    ids = parse(f"i in [{2**62 + 1}, 0.5, -inf] or i == {-(2**63)} or i > {2**63 - 2}")
    chosen_here = ids.evaluate(types, rows).filled(False)
    assert {rows["i"][k] for k in np.flatnonzero(chosen_here)} == {2**62 + 1, -(2**63), 2**63 - 1}
    assert frame.where(ids.column(types)).count() == chosen_here.sum()


def test_an_integer_of_more_than_53_bits_is_unknown_in_arithmetic(spark: SparkSession) -> None:
    rows = {"i": np.array(LARGE, object)}
    text = parse("i * 1 + 0")
    truth = [None if i is None or abs(i) > 2**53 else float(i) for i in LARGE]
    assert text.evaluate({"i": "bigint"}, rows).tolist() == truth
    frame = spark.createDataFrame([(i,) for i in LARGE], "i bigint").repartition(1)
    assert [r[0] for r in frame.select(text.column({"i": "bigint"})).collect()] == truth
    either = parse("ifnull(i, 0.5)")
    truth[-1] = 0.5
    assert either.evaluate({"i": "bigint"}, rows).tolist() == truth
    assert [r[0] for r in frame.select(either.column({"i": "bigint"})).collect()] == truth


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fit.x1.__class__", "further dots"),
        ("fit.__class__", "do not begin with '_'"),
        ("__import__('os')", "unknown function '__import__'"),
        ("__builtins__", "do not begin with '_'"),
        ("fit.x1.cast('string')", "only functions by their name"),
        ("abs.__call__(fit.x1)", "only functions by their name"),
        ("(lambda: 1)()", "only functions by their name"),
        ("lambda: fit.x1", "a lambda"),
        ("open('/etc/passwd')", "unknown function 'open'"),
        ("reflect('java.lang.System', 'exit')", "unknown function 'reflect'"),
        ("java_method('a', 'b')", "unknown function"),
        ("input_file_name()", "unknown function"),
        ("f'{fit.x1}'", "an f-string"),
        ("fit['x1']", "a subscript"),
        ("[x for x in fit.x1]", "a comprehension"),
        ("(x := 1)", "an assignment"),
        ("1 if fit.good else 2", "if … else"),
        ("{'a': 1}", "a dict"),
        ("[1, 2]", "a list outside"),
        ("abs(*fit.x1)", "a star"),
        ("min(fit.x1, fit.c, key=abs)", "without keywords"),
        ("abs(fit.x1, 2)", "takes 1 argument"),
        ("min(fit.x1)", "takes 2 to 9 arguments"),
        ("sqr(fit.x1)", "did you mean 'sqrt'"),
        ("fit.x1 // 2", "not part of the language"),
        ("fit.x1 @ fit.c", "not part of the language"),
        ("fit.status & 1", "not part of the language"),
        ("~fit.good", "not part of the language"),
        ("b'x' == fit.label", "b'x' is not part"),
        ("1j < fit.x1", "1j is not part"),
        ("... == 1", "Ellipsis is not part"),
        ("fit.x1 == None", "None can only stand in 'is None'"),
        ("fit.x1 is 3", "'is' compares with None only"),
        ("fit.label in 'Ia'", "takes a list"),
        ("fit.label in []", "takes a list"),
        ("fit.x1 in [fit.c]", "takes a list"),
        ("fit.x1 < nan", "NaN compares with nothing"),
        ("1 < 2 or missing", "names no column that can be missing"),
        ("9**9**9**9", "a power in an exponent"),
        ("fit.x1 ** 1000", "an exponent beyond 100"),
        ("fit.x1 < 1e999", "too large"),
        (f"n_detections == {2**63}", "too large"),
        ("1" * 3999, "too large"),
        ("fit.x1 < 3 # and more", "no comments"),
        ("fit.x1 <", "not an expression"),
        ("import os", "not an expression"),
        ("fit.x1 < 1; fit.c < 1", "not an expression"),
        ("fit.x1 = 1", "not an expression"),
        ("fit.label == 'a\0'", "not an expression"),
        ("1or fit.good", "not an expression"),
        ("", "empty"),
        ("  ", "empty"),
    ],
)
def test_what_is_not_in_the_language_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 80 + "fit.x1" + ")" * 80 + " + " + "-" * 100 + "1",
        "(" * 1500 + "1" + ")" * 1500,
        "not " * 900 + "fit.good",
        "-" * 3000 + "1",
        " + ".join(["1"] * 900),
        " and ".join(["fit.good"] * 1100)[:3990],
        "x" * 5000,
    ],
)
def test_what_is_too_deep_or_too_long_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


def test_chains_inside_chains_cannot_blow_up() -> None:
    text = "fit.good"
    for _ in range(20):
        text = f"(True == ({text}) == True)"
    with pytest.raises(ConfigError, match="more than 1000"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fit.status == 0 and fit.xx1 < 3", "unknown column 'fit.xx1' at character 21"),
        ("fit.chi2 < 3", "unknown column 'fit.chi2' at character 1"),
        ("fit.x1 < 3 and fit.cc < 1", "did you mean 'fit.c'?"),
        ("fit.label < 3", "'<' on a string and a number at character 13"),
        ("abs(fit.label) < 3", "'abs' takes number, not a string, at character 5"),
        ("fit.x1 and fit.good", "'and' takes boolean, not a number"),
        ("fit.good < True", "'<' takes number or string, not a boolean"),
        ("fit.covariance < 3", "not an array or the like"),
        ("fit.label in ['a', 1]", "'in' on a string and a number"),
        ("'é' == fit.label and fit.nope", "at character 22"),
        (f"fit.x1 == {2**53 + 1}", "too large to be exact among real ones at character 11"),
        (f"n_detections + {2**53 + 1} > 0", "too large to be exact among real ones"),
        (f"n_detections == {2**53}.0", "as a whole number: a real one has 53 bits"),
        (f"{2**53 + 1}", "too large to be exact"),
        ("fit.label in [Ia, 'II'] and fit.nope", "at character 29"),
        ("fit.x1 in [Ia, 1]", "'in' on a number and a string"),
    ],
)
def test_unknown_columns_and_wrong_types_are_named_with_their_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text).check(TYPES)
    assert words in str(caught.value)


def test_names_are_taken_as_they_are_written(table: Any) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'fit\.x1'"):
        parse("fit.X1 > 0").column(TYPES)  # Spark would not mind
