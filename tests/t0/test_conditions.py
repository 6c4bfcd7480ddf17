"""Conditions as a job writes them."""

from __future__ import annotations

import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.t0.conditions import parse_condition, quantities
from ampel_spark.t0.cuts import Comparison


@pytest.mark.parametrize(
    ("text", "quantity", "op", "operand", "threshold"),
    [
        ("magpsf < 19", "magpsf", ">=", 19, 19.0),
        ("rb>=0.3", "rb", "<", 0.3, 0.3),
        ("  abs( magdiff )  <= .4 ", "abs(magdiff)", ">", 0.4, 0.4),
        ("abs(gal_lat) > 14", "abs(gal_lat)", "<=", 14, 14.0),
        ("ssdistnr > -1e2", "ssdistnr", "<=", -100.0, -100.0),
        ("n_detections >= 2", "n_detections", "<", 2, 2.0),
        ("nbad == 0", "nbad", "!=", 0, 0.0),
        ("fid != 3", "fid", "==", 3, 3.0),
        ("fid in [1, 2]", "fid", "not in", (1, 2), None),
        ("isdiffpos in [t, '1']", "isdiffpos", "not in", ("t", "1"), None),
        ("rbversion not  in [t8_f5_c3]", "rbversion", "in", ("t8_f5_c3",), None),
        ("drbversion == d6_m7", "drbversion", "!=", "d6_m7", None),
    ],
)
def test_a_condition_becomes_the_cut_that_rejects_its_opposite(
    text: str, quantity: str, op: str, operand: object, threshold: float | None
) -> None:
    cut = parse_condition(text)
    assert cut.rejects == [
        Comparison(quantity, "is missing"),
        Comparison(quantity, op, operand),  # type: ignore[arg-type]
    ]
    assert (cut.how, cut.threshold) == ("any", threshold)


def test_a_missing_number_can_be_let_through() -> None:
    cut = parse_condition("drb >= 0.5 or missing")
    assert cut.rejects == [Comparison("drb", "<", 0.5)]
    assert cut.name == "drb >= 0.5 or missing"


def test_large_integers_keep_all_their_digits() -> None:
    assert parse_condition("candid == 595147624915010001").rejects[1].operand == 595147624915010001


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("magpfs < 19", "no column 'magpfs'; did you mean 'magpsf'?"),
        ("zzzzzz < 19", "lists the columns"),
        ("magpsf", "cannot be read"),
        ("magpsf < ", "cannot be read"),
        ("< 19", "cannot be read"),
        ("magpsf << 19", "'< 19' is no number"),
        ("magpsf < 19 and rb > 0.3", "is no number"),
        ("magpsf < rb", "'rb' is no number"),
        ("magpsf < nan", "NaN"),
        ("candid < 9223372036854775808", "more than 64 bits"),
        ("candid == 595147624915010001.0", "as a whole number: a real one has 53 bits"),
        ("candid in [1, -9223372036854775809]", "more than 64 bits"),
        ("__import__('os').system('x') < 1", "no column"),
        ("isdiffpos > t", "is a string"),
        ("abs(isdiffpos) == t", "no magnitude"),
        ("isdiffpos in t", "list in brackets"),
        ("isdiffpos in []", "list in brackets"),
        ("rb == 0.3", "ask for a range"),
        ("rb in [0.3]", "ask for a range"),
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
