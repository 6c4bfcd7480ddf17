"""Conditions on catalogue columns."""

from __future__ import annotations

import pyarrow as pa
import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.sky.where import Condition

TABLE = pa.table({"z": [0.1, 0.5, None, -1.0], "type": ["G", "S", "G", None], "n": [1, 2, 3, 4]})


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("z > 0", [True, True, False, False]),
        ("not z > 0", [False, False, False, True]),
        ("z is null", [False, False, True, False]),
        ("z is not null and type == 'G'", [True, False, False, False]),
        ("type in ['G', 'S']", [True, True, True, False]),
        ("type not in ['S']", [True, False, True, False]),
        ("0 < z < 0.3 or n >= 4", [True, False, False, True]),
        ("abs(z) * 2 + 1 > n", [True, False, False, False]),
        ("n / 2 == 1", [False, True, False, False]),
        ("z > -0.5", [True, True, False, False]),
        ("n / 0 > 1", [False, False, False, False]),
        ("not n / (n - 1) < 2", [False, True, False, False]),
        ("type in [G, S] and z > 0 or missing", [True, True, True, True]),
        ("max(z, n) ** 2 > 8 and log10(n) < 0.6", [False, False, False, False]),
    ],
)
def test_a_condition_is_met_where_it_says(text: str, met: list[bool]) -> None:
    assert Condition.read(text).mask(TABLE).tolist() == met


def test_a_catalogue_s_nan_is_as_unknown_as_its_null() -> None:
    table = pa.table({"z": [float("nan"), None, 1.0]})
    assert Condition.read("z is null").mask(table).tolist() == [True, True, False]
    assert Condition.read("not z > 5 or z != 0").mask(table).tolist() == [False, False, True]


def test_ids_of_64_bits_are_compared_digit_by_digit() -> None:
    table = pa.table({"id": pa.array([2**60, 2**60 + 1, None], pa.int64())})
    assert Condition.read(f"id == {2**60 + 1}").mask(table).tolist() == [False, True, False]
    assert Condition.read(f"id not in [{2**60}, 3]").mask(table).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("z >", "cannot be read"),
        ("__import__('os')", "cannot be read: unknown function '__import__' at character 1"),
        ("type in z", "cannot be read: 'in' takes a list in brackets"),
        ("z + 1", "is a number and no condition"),
        ("'z'", "is a string and no condition"),
        ("z is 3", "cannot be read: 'is' compares with None only"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Condition.read(text)


def test_absent_columns_and_wrong_types_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no column 'z\.real'"):
        Condition.read("z.real > 1").mask(TABLE)
    with pytest.raises(ConfigError, match="no column 'zz'; did you mean 'z'"):
        Condition.read("zz > 1").mask(TABLE)
    with pytest.raises(ConfigError, match="condition 'type > 1'"):
        Condition.read("type > 1").mask(TABLE)
