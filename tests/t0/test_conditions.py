"""Conditions as a job writes them: read in the one language, recorded under one name."""

from __future__ import annotations

import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.expressions.syntax import Call, Literal
from ampel_spark.t0.conditions import parse_condition, quantities
from ampel_spark.t0.cuts import Cut
from ampel_spark.t0.quantities import AlertRow


def condition_of(cut: Cut) -> Call:
    """Return the condition of a cut, which rejects where ``not ifnull(condition, False)``."""
    outer = cut.rejects.root
    assert isinstance(outer, Call)
    assert outer.operation == "not"
    inner = outer.arguments[0]
    assert isinstance(inner, Call)
    assert (inner.operation, inner.arguments[1]) == ("ifnull", Literal(False, 0))
    condition = inner.arguments[0]
    assert isinstance(condition, Call)
    return condition


def rejects(cut: Cut, **alert: object) -> bool:
    return AlertRow(alert).evaluate(cut.rejects) is True


@pytest.mark.parametrize(
    ("text", "name", "quantity", "op", "operand", "threshold"),
    [
        ("magpsf < 19", "magpsf < 19", "magpsf", "<", (19,), 19.0),
        ("rb>=0.3", "rb >= 0.3", "rb", ">=", (0.3,), 0.3),
        ("  abs( magdiff )  <= .4 ", "abs(magdiff) <= 0.4", "magdiff", "<=", (0.4,), 0.4),
        ("abs(gal_lat) > 14", "abs(gal_lat) > 14", "gal_lat", ">", (14,), 14.0),
        ("ssdistnr > -1e2", "ssdistnr > -100.0", "ssdistnr", ">", (-100.0,), -100.0),
        ("n_detections >= 2", "n_detections >= 2", "n_detections", ">=", (2,), 2.0),
        ("nbad == 0", "nbad == 0", "nbad", "==", (0,), 0.0),
        ("fid != 3", "fid != 3", "fid", "!=", (3,), 3.0),
        ("fid in [1, 2]", "fid in [1, 2]", "fid", "in", (1, 2), None),
        ("isdiffpos in [t, '1']", "isdiffpos in [t, 1]", "isdiffpos", "in", ("t", "1"), None),
        ("isdiffpos in ['t', 1]", "isdiffpos in [t, 1]", "isdiffpos", "in", ("t", "1"), None),
        ("isdiffpos == 1", "isdiffpos == 1", "isdiffpos", "==", ("1",), None),
        (
            "rbversion not  in [t8_f5_c3]", "rbversion not in [t8_f5_c3]",
            "rbversion", "not in", ("t8_f5_c3",), None,
        ),
        ("drbversion == d6_m7", "drbversion == d6_m7", "drbversion", "==", ("d6_m7",), None),
        ("tspan < inf", "tspan < inf", "tspan", "<", (float("inf"),), float("inf")),
    ],
)  # fmt: skip
def test_a_condition_becomes_the_cut_that_rejects_what_does_not_meet_it(
    text: str, name: str, quantity: str, op: str, operand: object, threshold: float | None
) -> None:
    cut = parse_condition(text)
    condition = condition_of(cut)
    if op == "not in":
        assert condition.operation == "not"
        condition, op = condition.arguments[0], "in"  # type: ignore[assignment]
    assert condition.operation == op
    assert tuple(item.value for item in condition.arguments[1:]) == operand  # type: ignore[union-attr]
    assert cut.name == name
    assert cut.value is not None
    assert cut.value.names == (quantity,)
    assert cut.threshold == threshold
    # a missing number does not meet it
    assert rejects(cut)


def test_a_missing_number_can_be_let_through() -> None:
    cut = parse_condition("drb >= 0.5 or missing")
    assert cut.name == "drb >= 0.5 or missing"
    found = [rejects(cut, drb=value) for value in (0.4, 0.5, None, float("nan"))]
    assert found == [True, False, False, False]
    assert cut.threshold == 0.5


@pytest.mark.parametrize(
    ("text", "name", "first", "threshold"),
    [
        ("magpsf  < 19 or rb > 0.9", "magpsf < 19 or rb > 0.9", ("magpsf",), None),
        ("magpsf - sgmag1 < -1.5", "magpsf - sgmag1 < -1.5", ("magpsf", "sgmag1"), -1.5),
        ("0 <= ssdistnr < 5 or missing", "0 <= ssdistnr < 5 or missing", ("ssdistnr",), None),
        ("19 > magpsf", "19 > magpsf", ("magpsf",), 19),
        ("rb is not null", "rb is not null", None, None),
    ],
)
def test_any_condition_of_the_language_is_one_and_records_its_first_comparison(
    text: str, name: str, first: tuple[str, ...] | None, threshold: float | None
) -> None:
    cut = parse_condition(text)
    assert cut.name == name
    assert (cut.value.names if cut.value else None) == first
    assert cut.threshold == threshold


def test_columns_can_be_compared_with_each_other() -> None:
    cut = parse_condition("magpsf < magap - 0.5 or rb > 0.9")
    assert not rejects(cut, magpsf=18.0, magap=19.0, rb=0.1)
    assert not rejects(cut, magpsf=None, magap=19.0, rb=0.95)
    assert rejects(cut, magpsf=18.0, magap=18.25, rb=0.1)
    assert rejects(cut, magpsf=18.0, magap=None, rb=None)


def test_large_integers_keep_all_their_digits() -> None:
    cut = parse_condition("candid == 595147624915010001")
    assert condition_of(cut).arguments[1].value == 595147624915010001  # type: ignore[union-attr]
    found = [rejects(cut, candid=595147624915010001 + i) for i in (-1, 0, 1)]
    assert found == [True, False, True]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("magpfs < 19", "no column 'magpfs'; did you mean 'magpsf'?"),
        ("zzzzzz < 19", "lists the columns"),
        ("magpsf", "cannot be read"),
        ("magpsf < ", "cannot be read"),
        ("< 19", "cannot be read"),
        ("magpsf << 19", "not part of the language"),
        ("magpsf + 19", "it is a number and no condition"),
        ("magpsf < nan", "NaN"),
        ("candid < 9223372036854775808", "more than 64 bits"),
        ("candid == 595147624915010001.0", "as a whole number: a real one has 53 bits"),
        ("candid in [1, -9223372036854775809]", "more than 64 bits"),
        ("__import__('os').system('x') < 1", "only functions by their name"),
        ("isdiffpos > t", "is a string"),
        ("abs(isdiffpos) == t", "'abs' takes number, not a string"),
        ("isdiffpos in t", "list in brackets"),
        ("isdiffpos in []", "list in brackets"),
        ("rb == 0.3", "ask for a range"),
        ("rb in [0.3]", "ask for a range"),
        ("abs(rb) != 0.3", "ask for a range"),
        ("magpsf < 19 or rb == 0.3", "ask for a range"),
        ("magpsf < 19 or gaia_distance > 1", "no column 'gaia_distance'"),
        ("n_upper_limits > 2", "not for filters"),
        ("file == x", "not for filters"),
        ("datapoint_ids > 2", "no column 'datapoint_ids'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_condition(text)
    assert says in str(error.value)
    assert repr(text) in str(error.value)


def test_all_scalars_of_the_candidate_can_be_named() -> None:
    known = quantities()
    assert {"magpsf", "drb", "jdstarthist", "sgscore3", "ndethist", "tspan"} <= known.keys()
    assert known["isdiffpos"] == "string"
